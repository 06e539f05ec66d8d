"""Every exercise: the reference passes, the blank fails politely, each named mutant fails with its own hint."""

from __future__ import annotations

import importlib
import itertools
import pkgutil
import re
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
import torch
from scipy.ndimage import distance_transform_edt

from vos_tutorial.course import check, exercises
from vos_tutorial.course.exercises import check_03, check_04, check_05, check_06
from vos_tutorial.course.exercises.exercise import Exercise, Mutant
from vos_tutorial.course.widgets.recurrence_grid import ancestors
from vos_tutorial.data.worlds.camouflage import CamouflageClips
from vos_tutorial.errors import TutorialError
from vos_tutorial.models import official, rvos, stcnn
from vos_tutorial.models.frame_prediction import bilinear_kernel, target_like
from vos_tutorial.training.tasks import rvos as rvos_task

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
    door = next(module for module in MODULES if of(module).get(name) is exercise).__name__.rsplit(".", 1)[1]
    said = f"{name}: not written yet. For a hint, print({door}.{name}.hint)\n"
    assert capsys.readouterr().out == said


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


def by_masking(scores: torch.Tensor, k: int) -> torch.Tensor:
    return scores.masked_fill(scores < scores.sort(0).values[-k], -torch.inf).softmax(0)


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


def by_the_variance(futures: torch.Tensor, chances: torch.Tensor) -> tuple[torch.Tensor, float, float]:
    mean, square = (torch.einsum("k,khw->hw", chances, x) for x in (futures, futures**2))
    least = float((square - mean**2).mean())
    return mean, least, least + float((futures[chances.argmax()] - mean).square().mean())


def by_backward(loss: torch.Tensor, parts: dict[str, torch.nn.Module]) -> dict[str, torch.Tensor]:
    before = {p: p.grad for part in parts.values() for p in part.parameters()}
    for p in before:
        p.grad = None
    loss.backward()
    lengths = {name: torch.nn.utils.get_total_norm(p.grad for p in part.parameters() if p.grad is not None)
               for name, part in parts.items()}  # fmt: skip
    for p, grad in before.items():
        p.grad = grad
    return lengths


def by_distance(masks: torch.Tensor, radius: int) -> torch.Tensor:
    kept = [masks[0]]
    for now in masks[1:]:
        away = torch.from_numpy(distance_transform_edt(~kept[-1].numpy()))
        kept.append(now & ((away <= radius) | ~kept[-1].any()))
    return torch.stack(kept)


def enlarged(rows: torch.Tensor) -> torch.Tensor:
    """One step of the library's own path, on a map ``[n]``; its deconvolution interpolates."""
    deconv = torch.nn.ConvTranspose2d(1, 1, 4, 2, bias=False).requires_grad_(False)
    deconv.weight[:] = bilinear_kernel(4)
    x = rows[None, None, :, None].expand(-1, -1, -1, len(rows))
    return stcnn.step_down(deconv, x, x, "deconv_crop")[0, 0, :, len(rows) // 2]


def by_the_network(n: int, steps: int) -> torch.Tensor:
    rows = torch.arange(float(n))
    for _ in range(steps):
        rows = enlarged(rows)
    return rows


def by_pattern(theirs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    def new(name: str) -> str:
        name = re.sub(r"^(de_layer\d\.)([34])\b", lambda found: f"{found[1]}{int(found[2]) - 1}", name)
        return re.sub("^", "pred_decoder." if re.match("convC|de_layer", name) else "pred_encoder.", name, count=1)

    return {new(name): tensor for name, tensor in theirs.items()}


def by_rolling(before: torch.Tensor, now: torch.Tensor) -> tuple[int, int]:
    height, width = now.shape
    ways = itertools.product(range(-height // 2, height // 2), range(-width // 2, width // 2))
    return max(ways, key=lambda way: float((before.roll(way, (0, 1)) * now).sum()))


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
        (check_05.top_k, by_masking),
        (check_06.best_picture, by_the_variance),
        (check_06.who_learns, by_backward),
        (check_06.through_gate, by_distance),
        (check_06.rows_read, by_the_network),
        (check_06.joint_names, by_pattern),
        (check_06.displacement, by_rolling),
    ],
    ids=[
        "arrows of the widget",
        "the library's cell",
        "cross-entropy where it is empty",
        "all permutations",
        "odds as logarithms",
        "and with a product",
        "distances from the library",
        "places masked before the softmax",
        "the variance",
        "backward, and all put back",
        "distances from scipy",
        "the library's own path",
        "patterns",
        "all shifts",
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
        (check_06.who_learns, lambda *_: [], "TypeError: you returned list, return a dict {name: number}"),
        (check_06.who_learns, lambda *_: None, "you returned None; end the function with a return."),
        (check_06.joint_names, lambda *_: [], "TypeError: you returned list, return a dict {name: tensor}"),
        (check_06.joint_names, lambda *_: {"conv1": 3}, "your dict has a int for 'conv1', not a tensor"),
        (check_06.joint_names, lambda *_: None, "you returned None; end the function with a return."),
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
    moment = rvos.RolloutFrame(logits[None], logits[None].sigmoid(), [], None)
    loss = rvos_task.frame_loss(moment, target[None], torch.ones(1, 3, dtype=torch.bool), empty=weight)
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


# --- that what the page says of STCNN is so ----------------------------------------------------------------------


def test_who_paints_a_random_future_errs_twice_as_much() -> None:
    futures, chances = check_06.best_picture.cases["four futures"]
    _, least, _ = check_06.best_picture.reference(futures, chances)
    each = torch.tensor([float((chances * (futures - one).square().mean((1, 2))).sum()) for one in futures])
    assert float(chances @ each) == pytest.approx(2 * least)


def test_a_pixel_that_is_black_or_white() -> None:
    futures, chances = check_06.best_picture.cases["two futures, equally likely"]
    picture, least, sharp = check_06.best_picture.reference(futures, chances)
    assert (picture.abs().max(), least, sharp) == (0, 1, 2)


@pytest.mark.parametrize(
    ("loss", "learners"),
    [
        ("pixels", "generator"),
        ("fooled", "generator discriminator"),
        ("judged", "discriminator"),
        ("mask, detached", "encoder decoder"),
        ("mask", "generator encoder decoder"),
        ("first side output", "encoder decoder"),
    ],
)
def test_who_learns_in_the_network_of_the_page(loss: str, learners: str) -> None:
    torch.manual_seed(0)
    network = stcnn.build(scaffold=True, width=8, detach="detached" in loss)
    frame, window = torch.rand(2, 3, 32, 32), torch.rand(2, 4, 3, 32, 32)
    logits, prediction = network(frame, window)
    assert prediction is not None
    assert network.generator is not None
    judge = network.discriminator
    assert judge is not None
    painted = prediction.frame

    def error(logit: torch.Tensor, says: float) -> torch.Tensor:
        return torch.nn.functional.binary_cross_entropy_with_logits(logit, torch.full_like(logit, says))

    value = {
        "pixels": lambda: (painted - target_like(frame, painted)).square().mean(),
        "fooled": lambda: error(judge(painted), 1),
        "judged": lambda: error(judge(painted.detach()), 0),
        "first side output": lambda: error(logits[:, 0], 1),
    }.get(loss, lambda: error(logits[:, -1], 1))()
    parts = {name: getattr(network, name) for name in ("generator", "discriminator", "encoder", "decoder")}
    found = check_06.who_learns.reference(value, parts)
    assert [name for name in found if found[name] > 0] == learners.split()
    if loss == "mask":
        paints = {"last": network.generator.decoder.paint, "rest": network.generator.decoder.enlarge}
        assert [x > 0 for x in check_06.who_learns.reference(value, paints).values()] == [False, True]


class Perfect(stcnn.STCNNSegmenter):
    """It sees exactly where the object is, at each time; then comes the gate."""

    truth = torch.zeros(0)

    def _alone(self, networks: Any, frame: torch.Tensor, prediction: Any) -> torch.Tensor:
        return self.truth[self.time][None].float()


@pytest.mark.parametrize("case", check_06.through_gate.cases)
def test_the_gate_of_the_exercise_is_the_library_s(case: str) -> None:
    masks, radius = check_06.through_gate.cases[case]
    method = Perfect(stcnn.build(temporal=False, width=8), radius=radius)
    method.truth = masks
    frame = torch.zeros(3, *masks.shape[1:])
    method.begin(frame, masks[0].to(torch.uint8))
    kept = [method.masks[0] > 0.5]
    for _ in masks[1:]:
        method.step(frame)
        kept.append(method.masks[0] > 0.5)
    assert torch.equal(torch.stack(kept), check_06.through_gate.reference(masks, radius))


def test_a_perfect_network_blinks() -> None:
    columns = [kept.any(2).any(1).tolist() for kept in (check_06.RUN, check_06.WALK)]
    assert all(map(all, columns))
    kept = check_06.through_gate.reference(check_06.RUN, 2)
    assert kept.any(1).sum(1).tolist() == [4, 3, 2, 1, 0, 4, 3, 2]
    assert torch.equal(check_06.through_gate.reference(check_06.WALK, 2), check_06.WALK)
    assert stcnn.gate_radius(64, 64) == 5


def test_the_rows_of_the_page() -> None:
    once, twice = (check_06.rows_read.reference(24, steps) for steps in (1, 2))
    assert once[[0, 12, 23]].tolist() == [5.75, 11.75, 17.25]
    assert twice[[0, 23]].tolist() == [8.625, 14.375]


def test_the_names_of_the_exercise_are_those_of_the_authors_files() -> None:
    """All tensors of a generator of paper size: from the name in its own file to that in the joint network's."""
    with torch.device("meta"):
        ours = [name for name in stcnn.build("paper").state_dict() if name.startswith("generator.")]

    def named(file: str) -> list[str]:
        table = official.stcnn_names(file)
        found = [official.their_name(name, table) for name in ours]
        return [name.replace("norm", "bn").replace("shortcut", "downsample") for name in found]

    theirs, joint = named("convC_1.weight"), named("pred_encoder.conv1.weight")
    tensors = {name: torch.tensor([float(i)]) for i, name in enumerate(theirs)}
    renamed = check_06.joint_names.reference(tensors)
    assert list(renamed) == joint
    assert {int(value) for value in renamed.values()} == set(range(len(ours)))
    prefixed = {check_06._half(name) + name for name in theirs}
    assert sorted(prefixed - set(joint)) == [
        "pred_decoder.de_layer1.3.weight",
        "pred_decoder.de_layer2.3.weight",
        "pred_decoder.de_layer3.4.bias",
        "pred_decoder.de_layer3.4.weight",
    ]


def test_a_steadied_camera_brings_the_error_of_copying_down() -> None:
    def error(shake: float, steadied: bool) -> float:
        frames, _ = CamouflageClips(shake=shake).batch(range(5000, 5032), 64, 5)
        found = 0.0
        for *_, past, now in frames:
            by = check_06.displacement.reference(past[0], now[0]) if steadied else (0, 0)
            found += float((past.roll(by, (1, 2)) - now).square().mean()) / len(frames)
        return found

    rest, shaken, cured = error(0, False), error(4, False), error(4, True)
    assert 9 < shaken / rest < 10
    assert 1.2 < cured / rest < 1.3
    assert error(0, True) == pytest.approx(rest)


def test_the_flat_index_of_the_page() -> None:
    before = check_06.numbers(16, 16)
    now = before.roll((-4, -1), (0, 1))
    assert int(check_06._correlation(before, now).argmax()) == 207
    assert check_06.displacement.reference(before, now) == (-4, -1)


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


def test_an_exercise_of_no_page_names_itself(capsys: pytest.CaptureFixture[str]) -> None:
    def blank(x: torch.Tensor) -> torch.Tensor:
        raise NotImplementedError

    assert not DOUBLE(blank)
    assert capsys.readouterr().out == "double: not written yet. For a hint, print(double.hint)\n"


def test_an_answer_that_changes_its_input_does_not_spoil_the_cases() -> None:
    def in_place(x: torch.Tensor) -> torch.Tensor:
        return x.mul_(2)

    assert DOUBLE(in_place)
    assert DOUBLE(in_place)
    assert DOUBLE.cases["ones"][0].tolist() == [1.0, 1.0]


# --- vos_tutorial.course.check -----------------------------------------------------------------------------------


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
