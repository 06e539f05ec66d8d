"""Camouflage: a single frame tells nothing, two tell everything; a fork: two futures, equally often."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from vos_tutorial.data.batches import ClipSource
from vos_tutorial.data.worlds.camouflage import CamouflageClips, ForkClips, fold, grain, moved
from vos_tutorial.errors import TutorialError
from vos_tutorial.geometry import dilate
from vos_tutorial.rng import Rng


def grey(source: ClipSource, length: int = 2, clips: int = 32) -> tuple[Tensor, Tensor]:
    """Frames ``[B, T, 64, 64]`` and ``bool`` masks."""
    frames, masks = source.batch(range(clips), 64, length)
    return frames[:, :, 0], masks == 1


def edge(masks: Tensor) -> Tensor:
    """The pixels within 4 of an outline."""
    return dilate(masks, 4) & dilate(~masks, 4)


@pytest.mark.parametrize("source", [CamouflageClips(), CamouflageClips(static=True), CamouflageClips(shake=3)])
def test_one_frame_tells_nothing(source: CamouflageClips) -> None:
    """Mean, spread, and the energy of gradients at two scales are the same inside, outside and on the outline."""
    frames, masks = grey(source, length=1, clips=96)
    gradients = [F.pad(frames[..., k:] - frames[..., :-k], (0, k)) for k in (1, 3)]
    for picture, name in ((frames, "colour"), (gradients[0], "gradient"), (gradients[1], "wide gradient")):
        inside, outside, outline = (picture[place] for place in (masks, ~masks, edge(masks)))
        for place in (inside, outline):
            assert float(place.mean()) == pytest.approx(float(outside.mean()), abs=0.01), name
            assert float(place.std()) == pytest.approx(float(outside.std()), rel=0.05), name
    assert float(frames.mean()) == pytest.approx(0.5, abs=0.01)
    assert float(((frames == 0) | (frames == 1)).float().mean()) < 0.005


def test_the_test_would_see_a_hard_edge_and_an_interpolated_texture() -> None:
    frames, masks = grey(CamouflageClips())
    pasted = torch.where(masks, frames.flip(0), frames)  # another frame's texture, cut out
    slope = (pasted[..., 1:] - pasted[..., :-1]).abs()
    ring = edge(masks)[..., 1:]
    assert float(slope[ring].std()) > 1.05 * float(slope[~ring].std())
    half = (frames + frames.roll(1, -1)) / 2  # moved by half a pixel, by interpolation
    assert float((half - half.roll(1, -1)).std()) < 0.95 * float((frames - frames.roll(1, -1)).std())


def test_two_frames_tell_where_it_is_unless_it_is_static() -> None:
    frames, masks = grey(CamouflageClips())
    change = (frames[:, 1] - frames[:, 0]).abs()
    assert float(change[masks.all(1)].mean()) > 20 * float(change[~dilate(masks.any(1), 5)].mean())
    frames, masks = grey(CamouflageClips(static=True))
    assert torch.equal(frames[:, 0], frames[:, 1])
    assert torch.equal(masks[:, 0], masks[:, 1])


def test_a_shaken_camera_moves_everything() -> None:
    frames, masks = grey(CamouflageClips(static=True, shake=3))
    change = (frames[:, 1] - frames[:, 0]).abs()
    assert float(change[~masks.any(1)].mean()) > 0.3 * float(change[masks.all(1)].mean()) > 0.01
    with pytest.raises(TutorialError, match="shake is -1"):
        CamouflageClips(shake=-1)


def centres(masks: Tensor) -> Tensor:
    """``[B, T, 2]``, in pixels."""
    y, x = torch.meshgrid(torch.arange(masks.shape[-2]), torch.arange(masks.shape[-1]), indexing="ij")
    area = masks.flatten(2).sum(-1)
    return torch.stack([(masks * axis).flatten(2).sum(-1) / area for axis in (x, y)], -1)


def test_it_moves_evenly_stays_inside_and_jumps_when_told() -> None:
    _, masks = grey(CamouflageClips(), 12)
    assert 0.04 < float(masks.float().mean()) < 0.2
    assert not masks[..., [0, -1]].any()
    assert not masks[..., [0, -1], :].any()
    steps = (centres(masks)[:, 1:] - centres(masks)[:, :-1]).norm(dim=-1)
    assert float(steps.median()) > 1.4
    assert float(steps.max()) < 3.8
    _, jumped = grey(CamouflageClips(jump=4), 12)
    assert torch.equal(jumped[:, :4], masks[:, :4])
    leap = (centres(jumped)[:, 4] - centres(jumped)[:, 3]).norm(dim=-1)
    assert float(leap.median()) > 10


def test_a_texture_is_moved_exactly() -> None:
    spectrum = grain(Rng(1), 32)
    still = moved(spectrum, np.zeros(2))
    np.testing.assert_allclose(moved(spectrum, np.array([3.0, -2.0])), np.roll(still, (-2, 3), (0, 1)), atol=1e-9)
    half = moved(spectrum, np.array([0.5, 0.0]))
    assert half.std() == pytest.approx(still.std(), rel=1e-3)
    assert half.mean() == pytest.approx(0, abs=1e-9)


def test_walls_throw_back() -> None:
    assert fold(np.array([2.0, 5.0, 7.0, -1.0, 12.0]), 2, 5).tolist() == [2, 5, 3, 5, 4]


@pytest.mark.parametrize("source", [CamouflageClips(), CamouflageClips(shake=2), ForkClips()])
def test_a_clip_depends_on_its_seed_only(source: ClipSource) -> None:
    frames, masks = source.batch([5, 2, 9], 32, 5)
    assert (frames.shape, frames.dtype, masks.shape, masks.dtype) == (
        (3, 5, 3, 32, 32), torch.float32, (3, 5, 32, 32), torch.uint8,
    )  # fmt: skip
    one = source.batch([9], 32, 5, max_skip=3)
    assert torch.equal(one.frames[0], frames[2])
    assert torch.equal(one.masks[0], masks[2])
    assert not torch.equal(frames[0], frames[1])
    assert torch.equal(source.batch([9], 32, 9).masks[:, :3], masks[2:, :3]) == isinstance(source, CamouflageClips)


def test_the_future_forks() -> None:
    """Everything but the last frame is the same for both futures, left and right are equally frequent."""
    _, masks = grey(ForkClips(), 5)
    path = centres(masks)
    ahead = path[:, 3] - path[:, 2]
    torch.testing.assert_close(path[:, 2] - path[:, 1], ahead, atol=0.5, rtol=0)
    turn = path[:, 4] - path[:, 3]
    assert float((turn.norm(dim=-1) - 0.14 * 64).abs().max()) < 0.5
    side = torch.sign(ahead[:, 0] * turn[:, 1] - ahead[:, 1] * turn[:, 0])
    assert 9 <= int((side > 0).sum()) <= 23
    assert float((F.normalize(ahead, dim=-1) * F.normalize(turn, dim=-1)).sum(-1).abs().max()) < 0.3


def test_a_clip_for_a_segmenter() -> None:
    clip = CamouflageClips().clip(3, 48, 6)
    assert clip.frames.shape == (6, 3, 48, 48)
    assert clip.objects == [1]
    assert clip.name == "CamouflageClips 3"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(([], 64, 5), "at least one"), (([-1], 64, 5), "none below 0"), (([0], 8, 5), "16 pixels"), (([0], 64, 0), "1")],
)
def test_what_cannot_be_drawn(arguments: Any, message: str) -> None:
    with pytest.raises(TutorialError, match=message):
        CamouflageClips().batch(*arguments)
