"""Every exercise: the reference passes, the blank fails politely, each named mutant fails with its own hint."""

from __future__ import annotations

import importlib
import itertools
import pkgutil
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
import torch

from vos_tutorial import check, exercises
from vos_tutorial.errors import TutorialError
from vos_tutorial.exercises import check_03, check_04, check_05
from vos_tutorial.exercises.exercise import Exercise, Mutant
from vos_tutorial.models import rvos
from vos_tutorial.widgets.recurrence_grid import ancestors

MODULES = [
    importlib.import_module(f"{exercises.__name__}.{info.name}")
    for info in pkgutil.iter_modules(exercises.__path__)
    if info.name.startswith("check_")
]


def of(module: ModuleType) -> dict[str, Exercise]:
    return {name: value for name, value in vars(module).items() if isinstance(value, Exercise)}


EXERCISES = [
    pytest.param(name, exercise, id=f"{module.__name__.rsplit('.', 1)[1]}.{name}")
    for module in MODULES
    for name, exercise in of(module).items()
]
MUTANTS = [
    pytest.param(e, mutant, id=f"{e.name}-{label}")
    for _, e in (p.values for p in EXERCISES)
    for label, mutant in e.mutants.items()
]


def test_there_are_exercises() -> None:
    assert MODULES
    assert EXERCISES


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__)
def test_a_module_declares_exercises_with_mutants(module: ModuleType) -> None:
    assert of(module), f"{module.__name__} declares no exercise"
    for name, exercise in of(module).items():
        assert exercise.name == name, f"{name} calls itself {exercise.name}"
        assert exercise.cases, f"{name} has no case"
        assert exercise.mutants, f"{name} names no wrong answer; give at least one mutant"
        hints = [mutant.hint for mutant in exercise.mutants.values()]
        assert len({*hints, exercise.hint}) == len(hints) + 1, f"{name} gives one hint for two mistakes"


@pytest.mark.parametrize(("name", "exercise"), EXERCISES)
def test_the_reference_passes(name: str, exercise: Exercise, capsys: pytest.CaptureFixture[str]) -> None:
    assert exercise(exercise.reference)
    assert capsys.readouterr().out == f"{name}: right, {len(exercise.cases)} of {len(exercise.cases)} cases.\n"


@pytest.mark.parametrize(("name", "exercise"), EXERCISES)
def test_the_blank_fails_politely(name: str, exercise: Exercise, capsys: pytest.CaptureFixture[str]) -> None:
    def blank(*_: Any) -> None:
        raise NotImplementedError("your turn")

    assert not exercise(blank)
    assert capsys.readouterr().out == f"{name}: not written yet. Hint: {exercise.hint}\n"


@pytest.mark.parametrize(("exercise", "mutant"), MUTANTS)
def test_a_mutant_fails_with_its_own_hint(
    exercise: Exercise, mutant: Mutant, capsys: pytest.CaptureFixture[str]
) -> None:
    assert not exercise(mutant.answer)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"{exercise.name}: wrong on the case ")
    assert lines[1] == f"Hint: {mutant.hint}"


def in_log_odds(q: torch.Tensor, q0: torch.Tensor) -> torch.Tensor:
    return torch.logit(torch.cat([q0[None], q]), eps=1e-7).softmax(0)


def by_cdist(q: torch.Tensor, k: torch.Tensor) -> torch.Tensor:
    return -torch.cdist(k.T, q.T).square()


def fused(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.scaled_dot_product_attention(q.T[None], k.T[None], v.T[None])[0].T


def by_the_widget(t: int, i: int, recurrence: str, frames: int, objects: int) -> torch.Tensor:
    grid = torch.zeros(frames, objects, dtype=torch.bool)
    for kind in ancestors(t, i, frames, objects, space="S" in recurrence, time="T" in recurrence).values():
        for cell in kind:
            grid[cell] = True
    return grid


def by_the_library(
    gates: torch.nn.Conv2d, x: torch.Tensor, spatial: rvos.State | None, temporal: torch.Tensor | None
) -> rvos.State:
    cell = rvos.ConvLSTMCell(x.shape[1], gates.out_channels // 4, mask=False)
    cell.gates = gates
    return cell(x, None, spatial, temporal)


def by_trying_all(cost: torch.Tensor, every_frame: bool) -> tuple[list[list[int]], float, int]:
    frames, objects, slots = cost.shape

    def best(of: torch.Tensor) -> list[int]:
        ways = itertools.permutations(range(slots), objects)
        return list(min(ways, key=lambda way: sum(float(of[g, s]) for g, s in enumerate(way))))

    found = [best(cost[t if every_frame else 0]) for t in range(frames)]
    paid = [float(cost[t, g, s]) for t, row in enumerate(found) for g, s in enumerate(row)]
    changes = [a != b for one, other in itertools.pairwise(found) for a, b in zip(one, other, strict=True)]
    return found, sum(paid) / len(paid), sum(changes)


def with_cross_entropy(logits: torch.Tensor, target: torch.Tensor, weight: float) -> torch.Tensor:
    bce = torch.nn.functional.binary_cross_entropy_with_logits(logits, target, reduction="none").mean((1, 2))
    cost = rvos.soft_iou_cost(logits.sigmoid(), target)
    return torch.where(target.flatten(1).any(1), cost, cost + weight * bce)


@pytest.mark.parametrize(
    ("exercise", "answer"),
    [
        (check_04.reached, by_the_widget),
        (check_04.cell_step, by_the_library),
        (check_04.slot_cost, with_cross_entropy),
        (check_04.matched, by_trying_all),
        (check_03.aggregate, in_log_odds),
        (check_05.aggregate, lambda alone: in_log_odds(alone, (1 - alone).prod(0))),
        (check_05.l2_scores, by_cdist),
        (check_05.read, fused),
    ],
    ids=[
        "arrows of the widget",
        "the library's cell",
        "cross-entropy where it is empty",
        "all permutations",
        "odds as logarithms",
        "and with a product",
        "distances from the library",
        "attention from the library",
    ],
)
def test_another_right_answer_passes(exercise: Exercise, answer: Callable[..., Any]) -> None:
    assert exercise(answer)


@pytest.mark.parametrize(
    ("exercise", "answer", "printed"),
    [
        (check_03.roll_out, lambda *_: [], "you returned a list; torch.stack makes a tensor [T, H, W] of a list"),
        (check_03.roll_out, lambda *_: None, "you returned None; end the function with a return."),
        (check_04.slot_cost, lambda *_: 3, "TypeError: you returned int, return a tensor [N], the cost of each slot"),
        (check_04.slot_cost, lambda *_: None, "you returned None; end the function with a return."),
        (check_05.l2_scores, lambda *_: 3, "TypeError: you returned int, return a tensor [M, Q]"),
        (check_05.l2_scores, lambda *_: None, "you returned None; end the function with a return."),
    ],
)  # fmt: skip
def test_no_tensor_is_told_so(
    exercise: Exercise, answer: Callable[..., Any], printed: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert not exercise(answer)
    assert capsys.readouterr().out.splitlines()[0].endswith(printed)


# --- that what the page says of RVOS is so -----------------------------------------------------------------------


@pytest.mark.parametrize("recurrence", ["ST", "S", "T"])
def test_a_cell_of_the_network_is_reached_by_the_cells_of_the_exercise(recurrence: rvos.Recurrence) -> None:
    """Cell (t, i) alone is given mask (t, i), so the gradient with respect to the masks says who is heard."""
    torch.manual_seed(0)
    network = rvos.build("small", one_shot=True, hidden=8, width=8).eval()
    frames, truth = torch.rand(1, 3, 3, 16, 16), torch.rand(1, 3, 3, 16, 16, requires_grad=True)
    moments = list(rvos.unroll(network, frames, truth[:, 0], 3, recurrence, given=1, truth=truth[:, 1:]))
    for t, i in itertools.product(range(3), range(3)):
        (slope,) = torch.autograd.grad(moments[t].logits[0, i].sum(), truth, retain_graph=True)
        heard = slope[0].abs().amax((-2, -1)) > 0
        heard[t, i] = False
        assert torch.equal(heard, check_04.reached.reference(t, i, recurrence, 3, 3)), (t, i)


def test_the_cost_of_an_empty_slot_is_the_library_s() -> None:
    logits, target, weight = check_04.slot_cost.cases["one seen, two hidden"]
    moment = rvos.Moment(logits[None], logits[None].sigmoid(), [], None)
    loss = rvos.frame_loss(moment, target[None], torch.ones(1, 3, dtype=torch.bool), empty=weight)
    torch.testing.assert_close(check_04.slot_cost.reference(logits, target, weight).mean(), loss)


def test_a_second_forget_gate_costs_a_quarter() -> None:
    network = rvos.build("small", one_shot=True, hidden=128)  # the cells depend on the hidden size alone
    gates = [cell.gates for cell in network.cells if isinstance(cell, rvos.ConvLSTMCell)]
    assert [(g.in_channels, g.out_channels) for g in gates] == [(385, 512), (385, 256), (193, 128), (97, 64)]
    wider = [torch.nn.Conv2d(g.in_channels, g.out_channels * 5 // 4, 3) for g in gates]
    four, five = (sum(p.numel() for g in each for p in g.parameters()) for each in (gates, wider))
    assert (four, five - four) == (2_940_288, 735_072)


def test_the_crossing_of_the_page() -> None:
    for every_frame, wanted, changes in ((False, 0.4, 0), (True, 0.28, 4)):
        _, paid, switches = check_04.matched.reference(check_04.CROSSING, every_frame)
        assert paid == pytest.approx(wanted)
        assert switches == changes


# --- the framework itself ----------------------------------------------------------------------------------------


def double(x: torch.Tensor) -> torch.Tensor:
    return 2 * x


DOUBLE = Exercise(
    name="double",
    reference=double,
    cases={"ones": (torch.ones(2),), "a ramp": (torch.arange(3.0),)},
    hint="Twice.",
    mutants={"squares": Mutant(lambda x: x**2, "Twice x is 2 * x, not x * x.")},
)


@pytest.mark.parametrize(
    ("answer", "printed"),
    [
        (lambda x: x + 1, "wrong on the case 'a ramp': first at [0]: yours 1, expected 0 (2 of 3 values differ)."),
        (lambda x: None, "wrong on the case 'ones': you returned None; end the function with a return."),
        (lambda x: 2 * x[None], "wrong on the case 'ones': your shape is [1, 2], expected [2]."),
        (lambda x: 1 / 0, "stopped on the case 'ones' with ZeroDivisionError: division by zero"),
        (lambda x: "2", "wrong on the case 'ones': yours is a str, expected a Tensor."),
    ],
)
def test_an_unknown_wrong_answer_gets_the_general_hint(
    answer: Callable[..., Any], printed: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert not DOUBLE(answer)
    assert capsys.readouterr().out == f"double: {printed}\nHint: Twice.\n"


def test_an_answer_that_changes_its_input_does_not_spoil_the_cases() -> None:
    def in_place(x: torch.Tensor) -> torch.Tensor:
        return x.mul_(2)

    assert DOUBLE(in_place)
    assert DOUBLE(in_place)
    assert DOUBLE.cases["ones"][0].tolist() == [1.0, 1.0]


# --- vos_tutorial.check ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "good", "printed"),
    [
        (lambda: check.close("iou", 0.5 + 1e-9, 0.5), True, "iou: agrees, no difference above 1e-06"),
        (lambda: check.close("iou", torch.tensor([0.5, 0.25]), [0.5, 0.5]), False,
         "iou: differs, first at [1]: yours 0.25, expected 0.5 (1 of 2 values differ)."),
        (lambda: check.close("iou", float("nan"), 0.5), False, "iou: differs, yours nan, expected 0.5."),
        (lambda: check.close("iou", float("nan"), float("nan")), True, "iou: agrees, no difference above 1e-06"),
        (lambda: check.close("iou", torch.ones(2, requires_grad=True), torch.ones(2)), True,
         "iou: agrees, no difference above 1e-06"),
        (lambda: check.equal("ids", [1, 2], [1, 2]), True, "ids: exact"),
        (lambda: check.equal("ids", [1, 2], [1, 3]), False, "ids: differs, part 1: yours 2, expected 3."),
        (lambda: check.equal("ids", [1], [1, 3]), False, "ids: differs, yours has 1 parts, expected 2."),
        (lambda: check.equal("d", {"a": 1}, {"b": 1}), False, "d: differs, your keys are ['a'], expected ['b']."),
        (lambda: check.equal("d", {"a": "x"}, {"a": "y"}), False, "d: differs, at 'a': yours 'x', expected 'y'."),
        (lambda: check.equal("n", "3", 3), False, "n: differs, yours is a str, expected a number."),
        (lambda: check.equal("mask", torch.ones(2), torch.ones(2, dtype=torch.bool)), False,
         "mask: differs, your dtype is float32, expected bool."),
        (lambda: check.equal("mask", None, 3), False,
         "mask: differs, you returned None; end the function with a return."),
        (lambda: check.between("the loss fell", torch.tensor(0.2), 0, 1), True, "the loss fell: ok"),
        (lambda: check.between("the loss fell", 1.5, 0, 1, "Train longer."), False,
         "the loss fell: not so, 1.5 is outside [0, 1]. Train longer."),
        (lambda: check.between("the loss fell", float("nan"), 0, 1), False,
         "the loss fell: not so, nan is outside [0, 1]."),
        (lambda: check.shapes(query=(torch.zeros(1, 64, 9), "B C w"), key=(torch.zeros(1, 64, 9), "B C w")), True,
         "query  B C w = 1 64 9\nkey    B C w = 1 64 9"),
        (lambda: check.shapes(a=(torch.zeros(2, 3), "B C"), b=(torch.zeros(4, 3), "B C")), False,
         "a  B C = 2 3\nb  B C = 4 3  <- B is 4 here, but 2 in a"),
        (lambda: check.shapes(a=(torch.zeros(2, 4), "B 3")), False, "a  B 3 = 2 4  <- this axis must be 3, it is 4"),
        (lambda: check.shapes(a=(torch.zeros(2), "B C")), False, "a  B C = 2  <- 1 axes, but 2 letters"),
        (lambda: check.shapes(a=torch.zeros(2, 4)), True, "a  [2, 4]"),
    ],
)  # fmt: skip
def test_a_check_says_what_differs(
    call: Callable[[], bool], good: bool, printed: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call() is good
    assert capsys.readouterr().out == printed + "\n"


def test_a_check_stops_only_when_asked() -> None:
    with pytest.raises(TutorialError, match="iou: differs, yours 1, expected 2"):
        check.equal("iou", 1, 2, stop=True)
    with pytest.raises(TutorialError, match="outside"):
        check.between("J", 2.0, 0, 1, stop=True)
