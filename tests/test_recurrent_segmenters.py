"""RGMP, RVOS and STCNN as segmenters: what test_contract.py does not ask, and all of it of zero-shot networks.

A zero-shot network takes in no mask, so that its random weights must draw something to choose from.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vos_tutorial.errors import TutorialError
from vos_tutorial.models import rgmp, rvos, segmenter, stcnn
from vos_tutorial.propagation import Segmenter, propagate, propagate_stream

H, W = 37, 50


def _rgmp() -> nn.Module:
    return rgmp.build(width=8)


def _one_shot() -> nn.Module:
    return rvos.build(hidden=8, width=8)


def _zero_shot() -> nn.Module:
    """Its slots draw about half of the frame each, so that given masks choose among them."""
    network = rvos.build(one_shot=False, hidden=8, width=8)
    assert network.predict.bias is not None
    with torch.no_grad():
        network.predict.weight.mul_(8)
        network.predict.bias.zero_()
    return network


def _stcnn() -> nn.Module:
    return stcnn.build(width=8)


Made = tuple[str, Callable[[], nn.Module], dict[str, Any]]
METHODS: dict[str, Made] = {
    "rgmp": ("rgmp", _rgmp, {}),
    "rgmp, scales and hard feedback": ("rgmp", _rgmp, {"scales": (0.5, 1.0), "feedback": "hard"}),
    "rvos": ("rvos", _one_shot, {}),
    "rvos, time only": ("rvos", _one_shot, {"recurrence": "T"}),
    "zero-shot": ("rvos", _zero_shot, {"slots": 5}),
    "stcnn": ("stcnn", _stcnn, {}),
    "stcnn, tuned": ("stcnn", _stcnn, {"online_steps": 1, "online": {"batch": 1, "lr": 1e-2}}),
}


ZERO_SHOT = pytest.mark.parametrize("method", ["zero-shot"])  # all others are asked the same in test_contract.py


@pytest.fixture(params=METHODS)
def method(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def network_of(method: str) -> nn.Module:
    torch.manual_seed(3)
    return METHODS[method][1]()


def made(method: str, network: nn.Module | None = None) -> Segmenter:
    name, _, options = METHODS[method]
    return segmenter(name, network=network if network is not None else network_of(method), **options)


def video(length: int = 5) -> Tensor:
    """Smooth frames in steps of 1/255, so that uint8 holds them exactly: ``float32 [T, 3, H, W]``."""
    coarse = torch.rand(length, 3, 5, 6, generator=torch.Generator().manual_seed(0))
    return (F.interpolate(coarse, (H, W), mode="bilinear") * 255).to(torch.uint8).float() / 255


def ids(*objects: int) -> Tensor:
    """Three boxes, of the objects 2, 5 and 9."""
    mask = torch.zeros(H, W, dtype=torch.uint8)
    mask[3:18, 4:20], mask[20:34, 26:46], mask[2:16, 28:46] = 2, 5, 9
    return torch.where(torch.isin(mask, torch.tensor(objects, dtype=torch.uint8)), mask, 0)


def moved() -> Tensor:
    """Object 2 elsewhere: it takes a part of 5."""
    mask = torch.zeros(H, W, dtype=torch.uint8)
    mask[12:28, 12:34] = 2
    return mask


def follow(made: Segmenter, frames: Tensor) -> list[Tensor]:
    return [made.step(frame) for frame in frames]


def close(found: list[Tensor], expected: list[Tensor], **tolerance: float) -> None:
    assert len(found) == len(expected)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, **(tolerance or {"atol": 1e-5, "rtol": 1e-4}))


def differ(found: list[Tensor], other: list[Tensor]) -> bool:
    return any(float((a - b).abs().max()) > 1e-4 for a, b in zip(found, other, strict=True))


# ------------------------------------------------------------------------------------------------ who calls, and how


def tensors(x: Any, seen: set[int]) -> Iterator[Tensor]:
    """All tensors that an object holds, at any depth, without those of modules."""
    if id(x) in seen or isinstance(x, nn.Module):
        return
    seen.add(id(x))
    if isinstance(x, Tensor):
        yield x
    elif isinstance(x, dict):
        for value in x.values():
            yield from tensors(value, seen)
    elif isinstance(x, (list, tuple, set)) or type(x).__name__ == "deque":
        for value in x:
            yield from tensors(value, seen)
    elif hasattr(x, "__dict__"):
        yield from tensors(vars(x), seen)


@ZERO_SHOT
def test_no_graph_is_kept_and_the_network_stays_as_it_was(method: str) -> None:
    network = network_of(method).train()
    frozen = next(network.parameters()).requires_grad_(False)
    flags = {name: module.training for name, module in network.named_modules()}
    before = {name: value.clone() for name, value in network.state_dict().items()}
    learning = [p.requires_grad for p in network.parameters()]
    with torch.enable_grad():
        one = made(method, network)
        one.begin(video()[0], ids(2, 5))
        answers = follow(one, video()[1:3])
        one.correct(video()[2], moved())
        one.introduce(video()[2], ids(9))
        one.remove(5)
        answers += follow(one, video()[3:])
        if hasattr(one, "inspect"):
            answers += list(tensors(one.inspect(), set()))
    for x in (*answers, *tensors(one, set())):
        assert not x.requires_grad
        assert x.grad_fn is None
    assert {name: module.training for name, module in network.named_modules()} == flags
    assert [p.requires_grad for p in network.parameters()] == learning
    assert all(p.grad is None for p in network.parameters())
    assert not any(module._forward_hooks for module in network.modules())
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert not frozen.requires_grad


def test_what_the_network_learns_later_the_segmenter_knows(method: str) -> None:
    network = network_of(method)
    one = made(method, network)
    one.begin(video()[0], ids(2))
    before = one.step(video()[1])
    with torch.no_grad():
        for p in network.parameters():
            p.add_(0.05 * torch.randn(p.shape, generator=torch.Generator().manual_seed(p.numel())))
    one.begin(video()[0], ids(2))
    assert differ([one.step(video()[1])], [before])


def test_under_inference_mode_the_answers_are_the_same(method: str) -> None:
    def run(one: Segmenter, frames: Tensor, mask: Tensor) -> list[Tensor]:
        one.begin(frames[0], mask)
        first = one.step(frames[1])
        one.correct(frames[1], moved())
        return [first, *follow(one, frames[2:4])]

    plain = run(made(method), video(), ids(2, 5))
    one = made(method)
    with torch.inference_mode():
        inside = run(one, video(), ids(2, 5))
    assert all(torch.equal(a, b) for a, b in zip(plain, inside, strict=True))
    assert not any(x.is_inference() for x in tensors(one, set()))
    one.introduce(video()[3], ids(9))  # goes on outside
    assert one.step(video()[4]).shape == (4, H, W)


def test_a_network_made_under_inference_mode_works(method: str) -> None:
    with torch.inference_mode():
        network = network_of(method)
    one, other = made(method, network), made(method)
    for each in (one, other):
        each.begin(video()[0], ids(2, 5))
    assert torch.equal(one.step(video()[1]), other.step(video()[1]))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision(method: str, dtype: torch.dtype) -> None:
    full, half = made(method), made(method, network_of(method).to(dtype))
    for each in (full, half):
        each.begin(video()[0], ids(2, 5))
    whole, found = full.step(video()[1]), half.step(video()[1])
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.sum(0), torch.ones(H, W))
    assert float((found - whole).abs().mean()) < 0.1
    half.correct(video()[1], moved())
    half.introduce(video()[1], ids(9))
    half.remove(5)
    for p in follow(half, video()[2:]):
        assert torch.isfinite(p).all()
        torch.testing.assert_close(p.sum(0), torch.ones(H, W))
    if hasattr(half, "inspect"):
        half.inspect()


def test_autocast(method: str) -> None:
    plain, one = made(method), made(method)
    plain.begin(video()[0], ids(2, 5))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        one.begin(video()[0], ids(2, 5))
        found = follow(one, video()[1:4])
        one.correct(video()[3], moved())
    found += follow(one, video()[4:])  # what was stored in half precision is of use outside
    for p in found:
        assert p.dtype == torch.float32
        torch.testing.assert_close(p.sum(0), torch.ones(H, W))
    assert float((found[0] - plain.step(video()[1])).abs().mean()) < 0.1


@ZERO_SHOT
def test_numpy_is_the_same(method: str) -> None:
    frames = video()
    one, other = made(method), made(method)
    pictures = (frames * 255).round().to(torch.uint8).movedim(1, -1).numpy()  # [T, H, W, 3]
    one.begin(frames[0], ids(2, 5))
    other.begin(pictures[0], ids(2, 5).numpy())  # type: ignore[arg-type]
    assert torch.equal(one.step(frames[1]), other.step(np.moveaxis(pictures[1], -1, 0)))  # type: ignore[arg-type]
    one.correct(frames[1], moved())
    other.correct(pictures[1], moved().numpy().astype(np.int64))  # type: ignore[arg-type]
    one.introduce(frames[1], ids(9))
    other.introduce(pictures[1], ids(9).numpy())  # type: ignore[arg-type]
    assert torch.equal(one.step(frames[2]), other.step(pictures[2]))  # type: ignore[arg-type]


@ZERO_SHOT
def test_a_stream_is_the_clip(method: str) -> None:
    later = {2: ids(9)}
    whole = propagate(made(method), video(), ids(2, 5), later=later)
    stream = propagate_stream(made(method), iter(video()), ids(2, 5), later=later)
    assert torch.equal(torch.stack(list(stream)), whole)


@ZERO_SHOT
def test_memory_does_not_grow_with_the_frames(method: str) -> None:
    one = made(method)
    one.begin(video()[0], ids(2, 5))
    follow(one, video()[1:])
    held = sum(x.nbytes for x in tensors(one, set()))
    for _ in range(3):
        follow(one, video())
    gc.collect()
    assert sum(x.nbytes for x in tensors(one, set())) == held


@ZERO_SHOT
def test_a_clip_is_forgotten(method: str) -> None:
    used, fresh = made(method), made(method)
    used.begin(video()[4], ids(9, 2))
    follow(used, video().flip(0))
    used.correct(video()[0], moved())
    for each in (used, fresh):
        each.begin(video()[0], ids(5))
    assert all(torch.equal(a, b) for a, b in zip(follow(used, video()[1:]), follow(fresh, video()[1:]), strict=True))


# --------------------------------------------------------------------------------------------------------- correct


@ZERO_SHOT
def test_correcting_right_after_begin_is_beginning_with_that_mask(method: str) -> None:
    one, other, wrong = made(method), made(method), made(method)
    one.begin(video()[0], ids(2, 5, 9))
    one.correct(video()[0], moved())  # takes pixels from 5
    other.begin(video()[0], torch.where(moved() == 2, 2, ids(5, 9)).to(torch.uint8))
    wrong.begin(video()[0], ids(2, 5, 9))
    expected = follow(other, video()[1:])
    close(follow(one, video()[1:]), expected)
    assert differ(follow(wrong, video()[1:]), expected)


@ZERO_SHOT
def test_correcting_with_what_was_given_changes_nothing(method: str) -> None:
    one, other = made(method), made(method)
    for each in (one, other):
        each.begin(video()[0], ids(2, 5))
    one.correct(video()[0], ids(2, 5))
    one.correct(video()[0], ids(5))
    close(follow(one, video()[1:]), follow(other, video()[1:]))


def test_the_last_correction_of_a_frame_counts(method: str) -> None:
    one, other = made(method), made(method)
    for each in (one, other):
        each.begin(video()[0], ids(2, 9))
        follow(each, video()[1:3])
    part = moved()
    part[20:] = 0
    one.correct(video()[2], part)
    one.correct(video()[2], moved())
    other.correct(video()[2], moved())
    close(follow(one, video()[3:]), follow(other, video()[3:]))


@ZERO_SHOT
def test_a_correction_changes_what_follows(method: str) -> None:
    one, other = made(method), made(method)
    for each in (one, other):
        each.begin(video()[0], ids(2, 5))
        follow(each, video()[1:3])
    one.correct(video()[2], _drawn_by_others(one))
    found, plain = follow(one, video()[3:]), follow(other, video()[3:])
    assert differ([p[1:2] for p in found], [p[1:2] for p in plain])


def _drawn_by_others(one: Segmenter) -> Tensor:
    """What a slot drew that neither object has."""
    assert isinstance(one, rvos.ZeroShotSegmenter)
    slot = next(s for s in range(one.slots) if s not in one.chosen)
    return torch.where(one.alone[slot] > 0.5, 2, 0).to(torch.uint8)


def test_introducing_one_after_the_other_is_beginning_together(method: str) -> None:
    one, other = made(method), made(method)
    one.begin(video()[0], ids(2))
    one.introduce(video()[0], ids(5, 9))
    other.begin(video()[0], ids(2, 5, 9))
    close(follow(one, video()[1:]), follow(other, video()[1:]))


# ---------------------------------------------------------------------------------------------------------- remove


@ZERO_SHOT
@pytest.mark.parametrize("gone", [2, 5, 9])
def test_removed_right_after_begin_it_was_never_there(method: str, gone: int) -> None:
    one, other = made(method), made(method)
    rest = [i for i in (2, 5, 9) if i != gone]
    one.begin(video()[0], ids(2, 5, 9))
    one.remove(gone)
    other.begin(video()[0], ids(*rest))
    for frame in video()[1:]:
        found, expected = one.step(frame), other.step(frame)
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("gone", [2, 5, 9])
def test_the_order_of_the_others_stays(method: str, gone: int) -> None:
    one = made(method)
    one.begin(video()[0], ids(2, 5, 9))
    follow(one, video()[1:3])
    state = getattr(one, "previous", getattr(one, "masks", None))
    one.remove(gone)
    rest = [i for i in (2, 5, 9) if i != gone]
    assert one.objects == rest  # type: ignore[attr-defined]
    if state is not None:
        kept = [(2, 5, 9).index(i) for i in rest]
        assert torch.equal(getattr(one, "previous", getattr(one, "masks", None)), state[kept])
    assert one.step(video()[3]).shape == (3, H, W)


@ZERO_SHOT
def test_without_objects_all_is_background_and_the_next_one_starts_anew(method: str) -> None:
    one, fresh = made(method), made(method)
    one.begin(video()[0], ids(2, 5))
    follow(one, video()[1:3])
    one.remove(5)
    one.remove(2)
    assert torch.equal(one.step(video()[3]), torch.ones(1, H, W))
    one.introduce(video()[3], ids(9))
    fresh.begin(video()[3], ids(9))
    assert all(torch.equal(a, b) for a, b in zip(follow(one, video()[4:]), follow(fresh, video()[4:]), strict=True))


# --------------------------------------------------------------------------------------------- any order, bad input


@ZERO_SHOT
@pytest.mark.parametrize("seed", range(3))
def test_any_order(method: str, seed: int) -> None:
    """Random calls; the channels are always those of the objects that are there."""
    dice = np.random.default_rng(seed)
    one, known = made(method), [2]
    one.begin(video()[0], ids(2))
    for frame in (*video()[1:], *video()[:2]):
        for _ in range(3):
            what = dice.integers(4)
            if what == 0 and len(known) < 3:
                new = next(i for i in (9, 5, 2) if i not in known)
                one.introduce(frame, ids(new))
                known.append(new)
            elif what == 1 and known:
                one.correct(frame, ids(*dice.permutation(known)[: dice.integers(1, len(known) + 1)].tolist()))
            elif what == 2 and known:
                one.remove(known.pop(int(dice.integers(len(known)))))
        assert one.objects == known  # type: ignore[attr-defined]
        p = one.step(frame)
        assert p.shape == (len(known) + 1, H, W)
        torch.testing.assert_close(p.sum(0), torch.ones(H, W))
        if known and hasattr(one, "inspect"):
            one.inspect()


@ZERO_SHOT
def test_bad_calls_are_a_sentence_and_change_nothing(method: str) -> None:
    one, other = made(method), made(method)
    with pytest.raises(TutorialError, match="no clip yet; call begin"):
        one.step(video()[0])
    if hasattr(one, "inspect"):
        with pytest.raises(TutorialError, match="call"):
            one.inspect()
    for each in (one, other):
        each.begin(video()[0], ids(2, 5))
        each.step(video()[1])
    nothing = torch.zeros(H, W, dtype=torch.uint8)
    for call, match in (
        (lambda: one.correct(video()[1], ids(9)), "object 9 is not followed yet; correct one of 2, 5"),
        (lambda: one.correct(video()[1], nothing), "the mask holds no object"),
        (lambda: one.remove(9), "object 9 is not followed; the objects are 2, 5"),
        (lambda: one.step(torch.rand(3, H, W + 1)), "this frame is 37x51, the clip began with 37x50"),
        (lambda: one.correct(torch.rand(3, H - 1, W), ids(2)), "this frame is 36x50"),
        (lambda: one.introduce(video()[1], torch.ones(H, W - 1, dtype=torch.uint8)), "the mask is 37x49"),
    ):
        with pytest.raises(TutorialError, match=match):
            call()
    assert torch.equal(one.step(video()[2]), other.step(video()[2]))
