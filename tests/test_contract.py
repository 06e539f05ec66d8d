"""What every method promises as a segmenter, asked of all of them in the same words (:class:`Segmenter`).

A method joins by one line in ``METHODS``: how it is made, with a tiny random network of its own.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vos_tutorial.baselines import ColourMemory, CopyFirst, LabelPropagation
from vos_tutorial.errors import TutorialError
from vos_tutorial.models import build, segmenter
from vos_tutorial.models.stm import STMSegmenter
from vos_tutorial.propagation import Resized, Segmenter, propagate, propagate_stream

SIZE = (36, 44)


class Method(NamedTuple):
    """One line of the list."""

    name: str
    make: Callable[[nn.Module | None], Segmenter]
    """From a network of :attr:`network`."""
    network: Callable[[], nn.Module] | None = None
    """A tiny network, the same at each call; None for methods that have none."""


def tiny(name: str, **options: Any) -> Callable[[], nn.Module]:
    """Random weights whose answers differ from place to place and from object to object."""

    def network() -> nn.Module:
        torch.manual_seed(3)
        made = build(name, **options)
        with torch.no_grad():
            for parameter in made.parameters():
                if parameter.ndim == 4:
                    parameter *= 1.5
        return made  # in training mode, as a caller may have it

    return network


def of(name: str, network: Callable[[], nn.Module], label: str = "", **options: Any) -> Method:
    """A method as :func:`vos_tutorial.models.segmenter` makes it."""
    return Method(label or name, lambda net: segmenter(name, network=net, **options), network)


METHODS = [
    Method("copy first", lambda net: CopyFirst()),
    Method("label propagation", lambda net: LabelPropagation()),
    Method("colours", lambda net: ColourMemory(memory="both")),
    Method("resized", lambda net: Resized(segmenter("masktrack", network=net), 24), tiny("masktrack", width=8)),
    of("masktrack", tiny("masktrack", width=8)),
    of("masktrack", tiny("masktrack", width=8), "masktrack, tuned", online_steps=1),
    of("rgmp", tiny("rgmp", width=8)),
    of("rgmp", tiny("rgmp", width=8), "rgmp, scales and hard masks", scales=(0.5, 1.0), feedback="hard"),
    of("rvos", tiny("rvos", width=8, hidden=8)),
    of("rvos", tiny("rvos", width=8, hidden=8), "rvos, time alone", recurrence="T"),
    of("stcnn", tiny("stcnn", width=8)),
    of("stcnn", tiny("stcnn", width=8), "stcnn, tuned", online_steps=1, online={"batch": 1, "lr": 1e-2}),
    of("stm", tiny("stm", width=8), every=2),
    of("stm", tiny("stm", width=8, affinity="dot", shared_keys=False), "stm, paper's form", policy="least used"),
]
LEARNED = [method for method in METHODS if method.network is not None]


def named(methods: list[Method]) -> Any:
    return pytest.mark.parametrize("method", methods, ids=lambda method: method.name)


def fresh(method: Method, network: nn.Module | None = None) -> Segmenter:
    return method.make(network if network is not None else method.network() if method.network else None)


def video(length: int = 6, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Smooth frames ``uint8 [T, 3, H, W]`` and a mask of the objects 7 and 200, with some void."""
    coarse = torch.rand(length, 3, 5, 6, generator=torch.Generator().manual_seed(seed))
    mask = torch.zeros(SIZE, dtype=torch.uint8)
    mask[4:18, 3:20], mask[20:33, 22:40], mask[0, 0] = 7, 200, 255
    return (F.interpolate(coarse, SIZE, mode="bilinear") * 255).to(torch.uint8), mask


def floats(frames: Tensor) -> Tensor:
    return frames.float() / 255


def only(mask: Tensor, *ids: int) -> Tensor:
    """The mask with these ids alone."""
    return torch.where(torch.isin(mask, torch.tensor(ids)), mask, 0).to(torch.uint8)


def follow(made: Segmenter, frames: Tensor, mask: Tensor | None = None) -> Tensor:
    """Probabilities of all frames; the first begins the clip if there is a mask."""
    steps = frames
    if mask is not None:
        made.begin(frames[0], mask)
        steps = frames[1:]
    return torch.stack([made.step(frame) for frame in steps])


def held(made: object) -> list[Tensor]:
    """All tensors that a segmenter holds, those of its networks apart; found in its attributes, at any depth."""
    found: dict[int, Tensor] = {}
    seen: set[int] = set()

    def walk(x: Any) -> None:
        if id(x) in seen or isinstance(x, (nn.Module, nn.Parameter, str, int, float, type(None))):
            return
        seen.add(id(x))
        if isinstance(x, Tensor):
            found[id(x)] = x
        elif isinstance(x, dict):
            for value in x.values():
                walk(value)
        elif isinstance(x, (list, tuple, set)) or type(x).__name__ == "deque":
            for value in x:
                walk(value)
        elif hasattr(x, "__dict__"):
            walk(vars(x))

    walk(made)
    return list(found.values())


def held_bytes(made: object) -> int:
    """What those tensors keep alive: the storage, which may be larger than a view of it."""
    storages = {x.untyped_storage().data_ptr(): x.untyped_storage().nbytes() for x in held(made)}
    return sum(storages.values())


# ----------------------------------------------------------------------------------------------------- the five calls


@named(METHODS)
def test_probabilities_of_all_objects_background_first(method: Method) -> None:
    made = fresh(method)
    assert isinstance(made, Segmenter)
    frames, mask = video()
    p = follow(made, floats(frames), mask)
    assert p.shape == (5, 3, *SIZE)
    assert p.dtype == torch.float32
    assert float(p.min()) >= 0
    torch.testing.assert_close(p.sum(1), torch.ones(5, *SIZE))
    assert float((p[:, 1] - p[:, 2]).abs().max()) > 1e-3  # the objects are not the same


@named(METHODS)
def test_a_stream_is_the_clip(method: Method) -> None:
    frames, mask = video()
    later = {3: (only(mask, 200) // 200 * 9).roll(-18, 0).to(torch.uint8)}
    whole = propagate(fresh(method), frames, mask, later=later)
    assert torch.equal(torch.stack(list(propagate_stream(fresh(method), iter(frames), mask, later))), whole)


@named(METHODS)
def test_a_second_clip_knows_nothing_of_the_first(method: Method) -> None:
    (frames, mask), (others, _) = video(), video(seed=5)
    used = fresh(method)
    follow(used, floats(others), mask.flip(1))
    used.correct(floats(others)[-1], only(mask, 7))
    again, expected = (follow(made, floats(frames), mask) for made in (used, fresh(method)))
    torch.testing.assert_close(again, expected)


@named(METHODS)
@pytest.mark.parametrize("layout", ["HWC", "CHW"])
def test_arrays_give_the_same_answers_as_tensors(method: Method, layout: str) -> None:
    frames, mask = video(4)
    later = only(mask, 7).roll(18, 1) // 7 * 3
    runs = []
    for array in (False, True):
        made = fresh(method)

        def form(frame: Tensor, array: bool = array) -> Any:
            if not array:
                return frame.float() / 255
            return np.ascontiguousarray(frame.permute(1, 2, 0).numpy()) if layout == "HWC" else frame.numpy()

        def ids(x: Tensor, array: bool = array) -> Any:
            return x.numpy().astype(np.int64) if array else x

        made.begin(form(frames[0]), ids(mask))
        answers = [made.step(form(frames[1]))]
        made.introduce(form(frames[1]), ids(later))
        answers.append(made.step(form(frames[2])))
        made.correct(form(frames[2]), ids(only(mask, 7)))
        runs.append([*answers, made.step(form(frames[3]))])
    for array, tensor in zip(*runs, strict=True):
        assert torch.equal(array, tensor)


@named(METHODS)
def test_the_callers_tensors_may_be_used_again(method: Method) -> None:
    """One buffer for all frames, as a camera's driver has it, and answers that the caller scribbles on."""
    frames, mask = video()
    expected, made = follow(fresh(method), floats(frames), mask), fresh(method)
    buffer, ids = floats(frames)[0].clone(), mask.clone()
    made.begin(buffer, ids)
    ids.fill_(9)
    for frame, p in zip(floats(frames)[1:], expected, strict=True):
        buffer.copy_(frame)
        answer = made.step(buffer)
        torch.testing.assert_close(answer, p)
        answer.fill_(7)
        buffer.fill_(0.5)


# -------------------------------------------------------------------------------------------------- graph and network


@named(METHODS)
@pytest.mark.parametrize("mode", ["gradients", "inference", "mixed"])
def test_no_graph_is_kept_whoever_calls(method: Method, mode: str) -> None:
    frames, mask = video()
    network = method.network() if method.network else None
    expected, made = follow(fresh(method, copy.deepcopy(network)), floats(frames), mask), fresh(method, network)
    answers = []
    for t, frame in enumerate(floats(frames)):
        inside = mode == "inference" or (mode == "mixed" and t % 2 == 0)
        with torch.inference_mode(inside), torch.set_grad_enabled(not inside):
            given = frame.clone().requires_grad_(not inside)
            answers.append(made.begin(given, mask.clone()) if t == 0 else made.step(given))
    assert not any(p.requires_grad for p in answers[1:])
    assert held(made)
    assert not any(x.requires_grad or x.grad_fn is not None or x.is_inference() for x in held(made))
    torch.testing.assert_close(torch.stack(answers[1:]), expected)


@named(LEARNED)
@pytest.mark.parametrize("training", [True, False])
def test_the_callers_network_stays_as_it_was(method: Method, training: bool) -> None:
    assert method.network is not None
    network, (frames, mask) = method.network().train(training), video(4)
    first, *rest = network.parameters()
    first.requires_grad_(False)
    rest[0].grad = torch.ones_like(rest[0])
    seen: list[str] = []
    hook = network.register_forward_hook(lambda *_: seen.append("hook"))
    before = copy.deepcopy(network.state_dict())
    flags = [(m.training, len(m._forward_hooks)) for m in network.modules()]
    made = fresh(method, network)
    follow(made, floats(frames), mask)
    made.correct(floats(frames)[-1], only(mask, 7))
    made.step(floats(frames)[-1])
    assert [(m.training, len(m._forward_hooks)) for m in network.modules()] == flags
    assert [p.requires_grad for p in network.parameters()] == [False, *([True] * len(rest))]
    assert torch.equal(rest[0].grad, torch.ones_like(rest[0]))
    assert all(p.grad is None for p in (first, *rest[1:]))
    assert all(torch.equal(before[k], v) for k, v in network.state_dict().items())
    hook.remove()


@named(LEARNED)
def test_training_or_not_makes_no_difference(method: Method) -> None:
    assert method.network is not None
    frames, mask = video(4)
    p = [follow(fresh(method, method.network().train(mode)), floats(frames), mask) for mode in (True, False)]
    assert torch.equal(p[0], p[1])


@named(METHODS)
def test_memory_does_not_grow_with_the_frames(method: Method) -> None:
    """Once what is stored by rule is full, nothing is added."""
    frames, mask = video(8)
    made = fresh(method)
    if isinstance(made, STMSegmenter):
        made.memory.limit = 3
    made.begin(frames[0], mask)
    sizes = []
    for t in range(1, 60):
        made.step(frames[t % 8])
        sizes.append(held_bytes(made))
    assert sizes[-1] == sizes[29] == max(sizes[29:])


# ---------------------------------------------------------------------------------------------------------- precision


@named(LEARNED)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision(method: Method, dtype: torch.dtype) -> None:
    assert method.network is not None
    frames, mask = video(4)
    expected = follow(fresh(method), floats(frames), mask)
    p = follow(fresh(method, method.network().to(dtype)), floats(frames), mask)
    assert p.dtype == torch.float32
    assert torch.isfinite(p).all()
    torch.testing.assert_close(p.sum(1), torch.ones_like(p[:, 0]), atol=1e-5, rtol=0)
    assert float((p[0] - expected[0]).abs().mean()) < 0.1


@named(LEARNED)
def test_autocast(method: Method) -> None:
    frames, mask = video(4)
    expected, made = follow(fresh(method), floats(frames), mask), fresh(method)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        p = follow(made, floats(frames), mask)
    assert p.dtype == torch.float32
    assert torch.isfinite(p).all()
    torch.testing.assert_close(p.sum(1), torch.ones_like(p[:, 0]), atol=1e-5, rtol=0)
    assert float((p[0] - expected[0]).abs().mean()) < 0.1


# ---------------------------------------------------------------------------------------------------- correct, remove


@named(METHODS)
def test_a_correction_right_after_begin_is_another_beginning(method: Method) -> None:
    frames, mask = video()
    moved = only(mask, 7).roll(3, 1)
    both = torch.where(moved > 0, moved, only(mask, 200))
    expected, made = follow(fresh(method), floats(frames), both), fresh(method)
    made.begin(floats(frames)[0], mask)
    made.correct(floats(frames)[0], moved)
    torch.testing.assert_close(follow(made, floats(frames)[1:]), expected)
    wrong = follow(fresh(method), floats(frames), mask)
    assert float((wrong - expected).abs().max()) > 1e-3  # the mask matters, so the correction was taken in


@named(METHODS)
def test_a_correction_takes_its_pixels_from_the_others(method: Method) -> None:
    frames, mask = video()
    grown = only(mask, 7)
    grown[20:32, 24:32] = 7  # some of 200's, in whole cells of the colour memory
    less = torch.where(grown > 0, 0, only(mask, 200))
    expected, made = follow(fresh(method), floats(frames), grown + less), fresh(method)
    made.begin(floats(frames)[0], mask)
    made.correct(floats(frames)[0], grown)
    torch.testing.assert_close(follow(made, floats(frames)[1:]), expected)


@named(METHODS)
def test_correcting_what_was_given_changes_nothing(method: Method) -> None:
    frames, mask = video()
    expected, made = follow(fresh(method), floats(frames), mask), fresh(method)
    made.begin(floats(frames)[0], mask)
    for ids in (only(mask, 7), only(mask, 200), only(mask, 7, 200)):
        made.correct(floats(frames)[0], ids)
    torch.testing.assert_close(follow(made, floats(frames)[1:]), expected)


@named(METHODS)
def test_a_later_correction_is_followed(method: Method) -> None:
    """The next answer depends on the corrected mask, and not on what was predicted for the object before."""
    frames, mask = video()
    answers = []
    for shift in (0, 12):
        made = fresh(method)
        follow(made, floats(frames)[:4], mask)
        made.correct(floats(frames)[3], only(mask, 7).roll(shift, 0))
        answers.append(made.step(floats(frames)[4]))
    assert float((answers[0] - answers[1]).abs().max()) > 1e-3


@named(METHODS)
def test_an_object_can_be_absent(method: Method) -> None:
    """An empty mask is taken in, the given one beside it is, and earlier frames still know the object."""
    frames, mask = video()
    made = fresh(method)
    follow(made, floats(frames)[:4], mask)
    moved, still = copy.deepcopy(made), copy.deepcopy(made)
    made.correct(floats(frames)[3], torch.zeros_like(mask), absent=[7])
    gone, kept = (one.step(floats(frames)[4]) for one in (made, still))
    assert gone.shape == kept.shape
    assert float((gone - kept).abs().max()) > 1e-3
    both = copy.deepcopy(moved)
    both.correct(floats(frames)[3], only(mask, 200).roll(5, 0), absent=[7])
    moved.correct(floats(frames)[3], torch.zeros_like(mask), absent=[7])
    moved.correct(floats(frames)[3], only(mask, 200).roll(5, 0))
    torch.testing.assert_close(both.step(floats(frames)[4]), moved.step(floats(frames)[4]))


@named(METHODS)
def test_absence_that_cannot_be(method: Method) -> None:
    frames, mask = video()
    made = fresh(method)
    made.begin(floats(frames)[0], mask)
    for ids, absent, says in (
        (only(mask, 7), [7], "object 7 is absent and has a mask"),
        (torch.zeros_like(mask), [9], "object 9 is not followed yet"),
        (torch.zeros_like(mask), [], "the mask holds no object"),
    ):
        with pytest.raises(TutorialError, match=says):
            made.correct(floats(frames)[0], ids, absent=absent)
    expected = follow(fresh(method), floats(frames), mask)
    torch.testing.assert_close(follow(made, floats(frames)[1:]), expected)


@named(METHODS)
def test_removing_right_after_begin_is_never_having_been_there(method: Method) -> None:
    frames, mask = video()
    expected, made = follow(fresh(method), floats(frames), only(mask, 200)), fresh(method)
    made.begin(floats(frames)[0], mask)
    made.remove(7)
    torch.testing.assert_close(follow(made, floats(frames)[1:]), expected)


@named(METHODS)
def test_a_channel_goes_and_the_others_keep_their_order(method: Method) -> None:
    """Exactly, where the object goes before a step. Later it has left its trace: in the shares of the merged

    probabilities, and so in the masks of the others; what remains is that the channels are those of the others.
    """
    frames, mask = video()
    third = (only(mask, 7) // 7 * 3).roll(20, 1).to(torch.uint8)
    made, never = fresh(method), fresh(method)
    made.begin(floats(frames)[0], mask)
    never.begin(floats(frames)[0], only(mask, 7))
    for each in (made, never):
        each.introduce(floats(frames)[0], third)
    made.remove(200)
    expected = follow(never, floats(frames)[1:])
    torch.testing.assert_close(follow(made, floats(frames)[1:]), expected)
    assert float((expected[:, 1] - expected[:, 2]).abs().max()) > 1e-3  # a wrong order would be seen
    made.introduce(floats(frames)[-1], only(mask, 200).roll(9, 1))
    made.step(floats(frames)[0])
    made.remove(7)
    assert made.step(floats(frames)[1]).shape == (3, *SIZE)
    for known, left in ((3, 200), (200, None)):
        made.remove(known)
        with pytest.raises(TutorialError, match=f"the objects are {left or 'none'}"):
            made.remove(known)


@named(METHODS)
@pytest.mark.parametrize("gone", [7, 200, 3])
def test_in_mid_clip_the_others_keep_their_order(method: Method, gone: int) -> None:
    """How two objects share a pixel hardly depends on whether a third is there, and would turn round with them."""
    frames, mask = video()
    third = (only(mask, 7) // 7 * 3).roll(20, 1).to(torch.uint8)
    made = fresh(method)
    made.begin(floats(frames)[0], mask)
    follow(made, floats(frames)[1:3])
    made.introduce(floats(frames)[2], third)
    follow(made, floats(frames)[3:5])
    still = copy.deepcopy(made)
    made.remove(gone)
    first, second = (channel for channel, object_id in enumerate((7, 200, 3), 1) if object_id != gone)
    with_it, without_it = (one.step(floats(frames)[5]).clamp_min(1e-6).log() for one in (still, made))
    expected, found = with_it[first] - with_it[second], without_it[1] - without_it[2]  # [H, W]
    assert (found - expected).abs().mean() < 0.5 * (found + expected).abs().mean()


@named(METHODS)
def test_without_objects_all_is_background_and_a_new_one_starts_anew(method: Method) -> None:
    frames, mask = video()
    made = fresh(method)
    follow(made, floats(frames)[:3], mask)
    made.remove(7)
    made.remove(200)
    p = made.step(floats(frames)[0])
    assert torch.equal(p, torch.ones(1, *SIZE))
    made.introduce(floats(frames)[0], only(mask, 200))
    expected = follow(fresh(method), floats(frames), only(mask, 200))
    torch.testing.assert_close(follow(made, floats(frames)[1:]), expected)


@named(METHODS)
@pytest.mark.parametrize("seed", range(4))
def test_any_order_of_calls(method: Method, seed: int) -> None:
    """All five calls at random, with ids that have gaps; at each step the channels are those that are followed."""
    rng = np.random.default_rng(seed)
    frames = floats(video(8, seed)[0])
    made, objects = fresh(method), []

    def square(object_id: int) -> Tensor:
        ids = torch.zeros(SIZE, dtype=torch.uint8)
        y, x = rng.integers(0, SIZE[0] - 9), rng.integers(0, SIZE[1] - 9)
        ids[y : y + 9, x : x + 9] = object_id
        return ids

    made.begin(frames[0], square(254))
    objects.append(254)
    frame = frames[0]
    for _ in range(30):
        what = rng.choice(["step", "introduce", "correct", "remove", "begin"], p=[0.5, 0.2, 0.15, 0.1, 0.05])
        if what == "step":
            frame = frames[rng.integers(8)]
            p = made.step(frame)
            assert p.shape == (len(objects) + 1, *SIZE)
            torch.testing.assert_close(p.sum(0), torch.ones(SIZE), atol=1e-5, rtol=0)
        elif what == "introduce" and len(objects) < 4:
            new = int(rng.choice([i for i in (1, 3, 17, 90, 254) if i not in objects]))
            made.introduce(frame, square(new))
            objects.append(new)
        elif what == "correct" and objects:
            one = int(rng.choice(objects))
            nothing = torch.zeros(SIZE, dtype=torch.uint8)
            made.correct(frame, nothing, [one]) if rng.random() < 0.3 else made.correct(frame, square(one))
        elif what == "remove" and objects:
            gone = int(rng.choice(objects))
            made.remove(gone)
            objects.remove(gone)
        elif what == "begin":
            made.begin(frame, square(5))
            objects = [5]


# ------------------------------------------------------------------------------------------------------- interruption


class Interrupted(BaseException):
    """As Ctrl-C, which no method may swallow."""


def interrupted(call: Callable[[], object], at: int) -> bool:
    """Whether a call was stopped when its ``at``-th layer was asked; False if it has fewer."""
    asked = 0

    def stop(*_: object) -> None:
        nonlocal asked
        asked += 1
        if asked == at:
            raise Interrupted

    hook = nn.modules.module.register_module_forward_pre_hook(stop)
    try:
        call()
    except Interrupted:
        return True
    finally:
        hook.remove()
    return False


@named(LEARNED)
@pytest.mark.parametrize("what", ["begin", "step", "introduce", "correct", "remove"])
def test_a_call_that_was_interrupted_has_not_been_made(method: Method, what: str) -> None:
    """The clip goes on as if it had not been, and the call can be made again."""
    frames, mask = video(7)
    third = (only(mask, 7) // 7 * 3).roll(20, 1).to(torch.uint8)

    def begun() -> Segmenter:
        made = fresh(method)
        made.begin(floats(frames)[0], mask)
        follow(made, floats(frames)[1:4])
        return made

    def call(made: Segmenter) -> None:
        frame = floats(frames)[3]
        if what == "begin":
            made.begin(floats(frames)[5], mask.flip(0))
        elif what == "step":
            made.step(floats(frames)[4])
        elif what == "remove":
            made.remove(7)
        else:
            getattr(made, what)(frame, third if what == "introduce" else only(mask, 7).roll(5, 0))

    alone, again = begun(), begun()
    call(again)
    expected = {False: follow(alone, floats(frames)[4:]), True: follow(again, floats(frames)[5:])}
    at = 1
    while True:
        made = begun()
        if not interrupted(lambda made=made: call(made), at):  # type: ignore[misc]
            break
        left = copy.deepcopy(made)
        torch.testing.assert_close(follow(left, floats(frames)[4:]), expected[False])
        call(made)
        torch.testing.assert_close(follow(made, floats(frames)[5:]), expected[True])
        at = at * 3 + 1  # 1, 4, 13, 40, ...


# ---------------------------------------------------------------------------------------------------------- sentences


@named(METHODS)
def test_what_cannot_be_done_is_a_sentence(method: Method) -> None:
    frames, mask = video()
    frame, made = floats(frames)[0], fresh(method)
    ready = not isinstance(made, Resized)  # it resizes whatever comes
    with pytest.raises(TutorialError, match=r"ids \[H, W\]"):
        made.begin(frame, mask.float())
    with pytest.raises(TutorialError, match=r"call begin\(frame, mask\) first"):
        made.step(frame)
    made.begin(frame, mask)
    before = made.step(frame)
    for ids, message in (
        (torch.where(mask == 7, 9, 0).to(torch.uint8), "object 9 is not followed yet; correct one of 7, 200"),
        (torch.zeros_like(mask), "the mask holds no object; correct one of 7, 200"),
    ):
        with pytest.raises(TutorialError, match=message):
            made.correct(frame, ids)
    with pytest.raises(TutorialError, match="object 9 is not followed; the objects are 7, 200"):
        made.remove(9)
    if ready:
        with pytest.raises(TutorialError, match="this frame is 36x20, the clip began with 36x44"):
            made.step(frame[:, :, :20])
        with pytest.raises(TutorialError, match="the mask is 36x20 but the frames are 36x44"):
            made.introduce(frame, mask[:, :20])
    with pytest.raises(TutorialError, match=r"ids \[H, W\]"):
        made.correct(frame, mask.float())
    with pytest.raises(TutorialError, match="divide by 255"):
        made.step(frame * 255)
    with pytest.raises(TutorialError, match="divide by 255"):
        made.begin(frame * 255, mask)
    with pytest.raises(TutorialError, match=r"ids \[H, W\]"):
        made.begin(frame, mask.float())
    assert made.step(frame).shape == before.shape  # and nothing of it did harm
