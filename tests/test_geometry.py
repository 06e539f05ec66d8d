"""Corruption masks: each step against what it says, and each sample independent of its batch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from scipy.interpolate import RBFInterpolator
from torch import Tensor

from vos_tutorial import augment
from vos_tutorial.augment import (
    Corruption,
    Dreaming,
    affine_grid,
    bending_grid,
    contour_points,
    corrupt,
    fill_hole,
    lucid_dreams,
    relight,
    rotate_zoom_flip,
)
from vos_tutorial.geometry import (
    boxes,
    dilate,
    disk,
    fill_boxes,
    identity_grid,
    iou,
    ring,
    spline_grid,
    thin_plate_spline,
    warp_mask,
)
from vos_tutorial.rng import Rng


def ellipse(height: int, width: int, cy: float, cx: float, ry: float, rx: float) -> Tensor:
    """``bool [H, W]``, in pixels."""
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return ((y - cy) / ry) ** 2 + ((x - cx) / rx) ** 2 <= 1


def some_masks() -> Tensor:
    """Eight masks ``bool [8, 48, 64]`` of all sizes and places, a thin, a tiny and an empty one among them."""
    return torch.stack(
        [
            ellipse(48, 64, 24, 32, 10, 14),
            ellipse(48, 64, 10, 50, 7, 7),
            ellipse(48, 64, 40, 5, 12, 9),
            ellipse(48, 64, 24, 32, 20, 3),
            ellipse(48, 64, 24, 20, 15, 15) & ~ellipse(48, 64, 24, 20, 8, 8),
            ellipse(48, 64, 5, 5, 1, 1),
            torch.zeros(48, 64, dtype=torch.bool),
            torch.ones(48, 64, dtype=torch.bool),
        ]
    )


def rngs(n: int, seed: int = 0) -> list[Rng]:
    return [Rng(seed, i) for i in range(n)]


class Loaded(Rng):
    """Dice that always give the same uniform number."""

    def __init__(self, value: float) -> None:
        self.value = value

    def array(self, *shape: int) -> np.ndarray:
        return np.full(shape, self.value)

    def uniform(self, low: float, high: float) -> float:
        return low + (high - low) * self.value

    def sign(self) -> float:
        return 1.0 if self.value < 0.5 else -1.0


# ------------------------------------------------------------------------------------------------------------ Dice


def test_dice_repeat_for_good() -> None:
    """Published pictures and trained weights hang on these numbers: another NumPy must give the same."""
    expected = [0.7701409510034741, 0.1119272443176843, 0.18909773329712753]
    assert Rng(7, 1).array(3).tolist() == expected
    assert Rng(7, 1).array(3).tolist() == Rng(7, 1).array(3).tolist()
    assert Rng(7, 1).array(3).tolist() != Rng(7, 2).array(3).tolist()
    one, other = Rng(3), Rng(3)
    assert [one.uniform(0, 1) for _ in range(4)] == other.array(4).tolist()


def test_dice_stay_in_their_ranges() -> None:
    d = Rng(0)
    assert {d.pick(3) for _ in range(100)} == {0, 1, 2}
    assert {d.sign() for _ in range(50)} == {-1.0, 1.0}
    values = [d.uniform(2, 5) for _ in range(500)]
    assert 2 <= min(values) < 2.1
    assert 4.9 < max(values) < 5
    assert 150 < sum(d.chance(0.4) for _ in range(500)) < 250
    assert not any(d.chance(0) for _ in range(50))
    assert all(d.chance(1) for _ in range(50))


# ------------------------------------------------------------------------------------------------- dilation and boxes


@pytest.mark.parametrize("radius", [1, 2, 5, 9, 12, 40])
def test_dilation_is_the_set_within_the_radius(radius: int) -> None:
    mask = torch.rand(2, 3, 17, 23, generator=torch.Generator().manual_seed(radius)) < 0.01
    expected = torch.zeros_like(mask)
    for *lead, y, x in mask.nonzero().tolist():
        rows, columns = torch.meshgrid(torch.arange(17), torch.arange(23), indexing="ij")
        expected[lead[0], lead[1]] |= (rows - y) ** 2 + (columns - x) ** 2 <= radius**2
    assert torch.equal(dilate(mask, radius), expected)


def test_a_disk_of_radius_2() -> None:
    assert disk(2).tolist() == [[0, 0, 1, 0, 0], [0, 1, 1, 1, 0], [1, 1, 1, 1, 1], [0, 1, 1, 1, 0], [0, 0, 1, 0, 0]]
    mask = ellipse(9, 9, 4, 4, 2, 2)
    assert torch.equal(dilate(mask, 0), mask)


def test_boxes_are_tight_and_inclusive() -> None:
    mask = torch.zeros(3, 8, 10, dtype=torch.bool)
    mask[0, 2, 3] = mask[0, 6, 1] = True
    mask[2, :, 9] = True
    assert boxes(mask).tolist() == [[2, 1, 6, 3], [0, 0, -1, -1], [0, 9, 7, 9]]
    filled = fill_boxes(mask)
    assert filled[0].sum() == 5 * 3
    assert filled[0, 2:7, 1:4].all()
    assert not filled[1].any()
    assert filled[2].nonzero()[:, 1].unique().tolist() == [9]


def test_iou() -> None:
    a = torch.tensor([[True, True, False], [False, False, False]]).reshape(2, 1, 3)
    b = torch.tensor([[False, True, True], [False, False, False]]).reshape(2, 1, 3)
    assert iou(a, b).tolist() == pytest.approx([1 / 3, 1])
    assert iou(a[:1], b[1:]).tolist() == [0]


# ------------------------------------------------------------------------------------------------------------ affine


def test_the_identity_grid_changes_nothing() -> None:
    masks = some_masks()
    assert torch.equal(warp_mask(masks, identity_grid(48, 64).expand(8, -1, -1, -1)), masks)
    assert torch.equal(warp_mask(masks, affine_grid(masks, rngs(8), 0, 0)), masks)


def test_the_affine_step_moves_by_a_share_of_the_object() -> None:
    """An object of 20 x 10 pixels, draws at their upper end: 10 % of the width right, 10 % of the height down."""
    mask = torch.zeros(1, 60, 80, dtype=torch.bool)
    mask[:, 20:30, 30:50] = True
    moved = warp_mask(mask, affine_grid(mask, [Loaded(1.0)], scale=0, shift=0.1))
    assert boxes(moved).tolist() == [[21, 32, 30, 51]]
    moved = warp_mask(mask, affine_grid(mask, [Loaded(0.0)], scale=0, shift=0.1))
    assert boxes(moved).tolist() == [[19, 28, 28, 47]]
    grown = warp_mask(mask, affine_grid(mask, [Loaded(1.0)], scale=0.2, shift=0))
    assert boxes(grown).tolist() == [[19, 28, 30, 51]]  # 24 x 12 around the same centre
    shrunk = warp_mask(mask, affine_grid(mask, [Loaded(0.0)], scale=0.2, shift=0))
    assert boxes(shrunk).tolist() == [[21, 32, 28, 47]]


# ------------------------------------------------------------------------------------------------- thin-plate spline


def points(b: int, n: int, seed: int = 0) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).uniform(-1, 1, (b, n, 2))).float()


def evaluate(at: Tensor, source: Tensor, target: Tensor, stiffness: float) -> Tensor:
    """The spline at ``at [B, N, 2]``."""
    return spline_grid(at[:, None], source, *thin_plate_spline(source, target, stiffness))[:, 0]


def test_a_spline_without_stiffness_meets_its_points() -> None:
    source = points(4, 6)
    target = source + 0.2 * points(4, 6, seed=1)
    torch.testing.assert_close(evaluate(source, source, target, 0.0), target, atol=1e-4, rtol=0)


def test_a_stiff_spline_gives_way() -> None:
    source = points(4, 6)
    target = source + 0.2 * points(4, 6, seed=1)
    misses = [float((evaluate(source, source, target, s) - target).abs().max()) for s in (0.0, 0.1, 1.0, 100.0)]
    assert misses == sorted(misses)
    assert misses[1] > 0.005


@pytest.mark.parametrize("stiffness", [0.0, 0.1])
def test_source_equal_to_target_is_the_identity(stiffness: float) -> None:
    source, elsewhere = points(4, 5), points(4, 50, seed=2) * 3
    torch.testing.assert_close(evaluate(elsewhere, source, source, stiffness), elsewhere, atol=1e-4, rtol=0)


@pytest.mark.parametrize("stiffness", [0.0, 0.1])
def test_an_affine_map_is_recovered_everywhere(stiffness: float) -> None:
    matrix, offset = torch.tensor([[1.2, -0.3], [0.4, 0.8]]), torch.tensor([0.1, -0.2])
    source, elsewhere = points(3, 7), points(3, 50, seed=2) * 3
    found = evaluate(elsewhere, source, source @ matrix.T + offset, stiffness)
    torch.testing.assert_close(found, elsewhere @ matrix.T + offset, atol=2e-4, rtol=0)


@pytest.mark.parametrize("stiffness", [0.0, 0.1])
def test_a_bent_map_is_the_thin_plate_spline_of_scipy(stiffness: float) -> None:
    source, elsewhere = points(1, 8), points(1, 50, seed=2)
    target = source + 0.3 * points(1, 8, seed=1)
    reference = RBFInterpolator(source[0].numpy(), target[0].numpy(), kernel="thin_plate_spline", smoothing=stiffness)
    found = evaluate(elsewhere, source, target, stiffness)[0]
    np.testing.assert_allclose(found.numpy(), reference(elsewhere[0].numpy()), atol=2e-4)


@pytest.mark.parametrize("stiffness", [0.0, 0.1])
def test_points_on_a_line_or_in_one_place_do_not_blow_up(stiffness: float) -> None:
    line = torch.linspace(-0.5, 0.5, 5)
    source = torch.stack([torch.stack([line, line * 0.5], -1), torch.stack([line, 0 * line], -1), torch.zeros(5, 2)])
    target = source + 0.05 * points(3, 5)
    weights, affine = thin_plate_spline(source, target, stiffness)
    assert torch.isfinite(weights).all()
    assert torch.isfinite(affine).all()
    if stiffness:
        found = spline_grid(source[:2, None], source[:2], weights[:2], affine[:2])[:, 0]
        assert float((found - source[:2]).abs().max()) < 0.2


# --------------------------------------------------------------------------------------------------------- bending


def test_control_points_lie_on_the_ring_and_differ() -> None:
    masks = some_masks()
    contour, enough = contour_points(masks, rngs(8), 5)
    assert enough.tolist() == [True, True, True, True, True, True, False, False]  # empty, and full: no ring
    pixels = ((contour + 1) * torch.tensor([64, 48]) - 1) / 2
    torch.testing.assert_close(pixels, pixels.round(), atol=1e-3, rtol=0)
    for i in range(6):
        x, y = pixels[i].round().long().unbind(1)
        assert ring(masks[i : i + 1])[0, y, x].all()
        assert len({*zip(x.tolist(), y.tolist(), strict=True)}) == 5


def test_no_jitter_bends_nothing_and_what_has_no_ring_stays() -> None:
    masks = some_masks()
    assert torch.equal(warp_mask(masks, bending_grid(masks, rngs(8), 5, 0.0, 0.1)), masks)
    bent = warp_mask(masks, bending_grid(masks, rngs(8), 5, 0.1, 0.1))
    assert torch.equal(bent[6:], masks[6:])
    assert all((bent[i] != masks[i]).any() for i in range(5))


def test_the_contour_moves_with_its_control_points() -> None:
    """All five move by 10 % of the box to the right and down: an affine shift, by that much."""
    mask = torch.zeros(1, 60, 80, dtype=torch.bool)
    mask[:, 20:30, 30:50] = True

    class Spread(Loaded):
        def array(self, *shape: int) -> np.ndarray:
            return Rng(5).array(*shape) if len(shape) == 1 else np.full(shape, self.value)

    moved = warp_mask(mask, bending_grid(mask, [Spread(1.0)], 5, 0.1, 0.0))
    assert boxes(moved).tolist() == [[21, 32, 30, 51]]


# -------------------------------------------------------------------------------------------------------- corruption


def fields(b: int = 40) -> Tensor:
    """Masks as they come: ``bool [B, 96, 96]``."""
    rng = np.random.default_rng(3)
    return torch.stack(
        [ellipse(96, 96, *rng.uniform(25, 70, 2).tolist(), *rng.uniform(9, 24, 2).tolist()) for _ in range(b)]
    )


@pytest.mark.parametrize("how", [Corruption(dilation=1), Corruption(jitter=0.25, shift=0.2, stiffness=0.0)])
def test_a_guide_depends_on_its_own_mask_and_generator_only(how: Corruption) -> None:
    """However the batch is split, and although wild guides are drawn again and tame ones are not."""
    masks = torch.cat([some_masks().flip(0), some_masks()])
    together = corrupt(masks, rngs(16), how)
    apart = torch.cat([corrupt(masks[i : i + 1], [Rng(0, i)], how) for i in range(16)])
    assert torch.equal(together, apart)
    halves = torch.cat([corrupt(masks[a : a + 8], rngs(16)[a : a + 8], how) for a in (0, 8)])
    assert torch.equal(together, halves)
    assert not torch.equal(together, corrupt(masks, rngs(16, seed=1), how))


def test_no_deformation_is_the_mask_itself() -> None:
    masks = some_masks()
    nothing = Corruption(scale=0, shift=0, points=0, dilation=0)
    assert torch.equal(corrupt(masks, rngs(8), nothing), masks)
    assert corrupt(masks, rngs(8), nothing) is not masks


def test_only_the_dilation_is_left_when_the_rest_is_off() -> None:
    masks = some_masks()
    assert torch.equal(corrupt(masks, rngs(8), Corruption(scale=0, shift=0, points=0, dilation=3)), dilate(masks, 3))


def test_a_corrupted_mask_looks_like_a_mask_of_the_frame_before() -> None:
    """Affine alone and with the spline: means as in the table of the paper's corruption, measured on our masks."""
    masks = fields(200)
    affine = iou(corrupt(masks, rngs(200), Corruption(points=0, dilation=0)), masks)
    both = iou(corrupt(masks, rngs(200), Corruption(dilation=0)), masks)
    assert 0.75 < float(affine.mean()) < 0.92
    assert 0.6 < float(both.mean()) < float(affine.mean())
    assert float(affine.min()) > 0.6


def test_wild_warps_are_drawn_again(monkeypatch: pytest.MonkeyPatch) -> None:
    masks, wild = fields(60), Corruption(jitter=0.25, shift=0.2, stiffness=0.0, dilation=0, floor=0.4)
    kept = iou(corrupt(masks, rngs(60), wild), masks)
    assert float(kept.min()) >= wild.floor
    monkeypatch.setattr(augment, "REDRAWS", 1)
    once = iou(corrupt(masks, rngs(60), wild), masks)
    assert int((once < wild.floor).sum()) >= 6
    assert torch.equal(once[once >= wild.floor], kept[once >= wild.floor])  # good draws stay as they were


def test_the_floor_is_kept_in_nearly_all_cases() -> None:
    for masks in (fields(100), some_masks()[:6].repeat(20, 1, 1)):
        kept = iou(corrupt(masks, rngs(len(masks)), Corruption(dilation=0)), masks)
        assert int((kept < 0.4).sum()) <= 1


def test_empty_and_tiny_masks_survive() -> None:
    masks = torch.zeros(2, 32, 32, dtype=torch.bool)
    masks[1, 0, 31] = True
    guide = corrupt(masks, rngs(2), Corruption())
    assert not guide[0].any()
    assert guide.shape == masks.shape


# ------------------------------------------------------------------------------------------------------------ turning


def as_picture(mask: Tensor) -> Tensor:
    return mask[:, None].float().expand(-1, 3, -1, -1)


@pytest.mark.parametrize("seeds", [range(0, 4), range(4, 8)])
def test_turning_keeps_picture_and_mask_aligned(seeds: Sequence[int]) -> None:
    masks = ellipse(60, 90, 28, 40, 16, 22).expand(4, -1, -1)
    images, turned = rotate_zoom_flip(as_picture(masks), masks, [Rng(s) for s in seeds], angle=20, zoom=0.2)
    assert ((images[:, 0] > 0.5) != turned).float().mean() < 0.002
    assert all(0.3 < float(v) < 0.95 for v in iou(turned, masks))
    assert images.dtype == torch.float32


def test_turning_is_a_rotation_a_zoom_and_a_mirror() -> None:
    """On a wide picture: a disk stays a disk, its size grows by the zoom, and its place goes round the centre."""
    disk_right = ellipse(61, 101, 30, 80, 8, 8)[None]
    _, same = rotate_zoom_flip(as_picture(disk_right), disk_right, [Loaded(0.5 - 1e-9)], angle=20, zoom=0.2)
    assert torch.equal(same, disk_right)
    _, mirrored = rotate_zoom_flip(as_picture(disk_right), disk_right, [Loaded(0.5)], angle=20, zoom=0.2)
    assert torch.equal(mirrored, disk_right.flip(2))
    _, turned = rotate_zoom_flip(as_picture(disk_right), disk_right, [Loaded(0.0)], angle=20, zoom=0.0)
    top, left, bottom, right = boxes(turned)[0].tolist()
    assert bottom - top == pytest.approx(16, abs=1)
    assert right - left == pytest.approx(16, abs=1)
    assert (left + right) / 2 - 50 == pytest.approx(30 * np.cos(np.deg2rad(20)), abs=0.8)
    assert abs((top + bottom) / 2 - 30) == pytest.approx(30 * np.sin(np.deg2rad(20)), abs=0.8)
    centred = ellipse(61, 101, 30, 50, 10, 10)[None]
    _, shrunk = rotate_zoom_flip(as_picture(centred), centred, [Loaded(0.0)], angle=0, zoom=0.2)
    top, _, bottom, _ = boxes(shrunk)[0].tolist()
    assert bottom - top == pytest.approx(16, abs=1)  # zoom 0.8 of 20


def test_a_view_depends_on_its_own_dice_only() -> None:
    masks = fields(4)
    images, turned = rotate_zoom_flip(as_picture(masks), masks, rngs(4), angle=20, zoom=0.1)
    one, alone = rotate_zoom_flip(as_picture(masks[2:3]), masks[2:3], [Rng(0, 2)], angle=20, zoom=0.1)
    assert torch.equal(images[2:3], one)
    assert torch.equal(turned[2:3], alone)


# ------------------------------------------------------------------------------------------------------ lucid dreams


def red_on_green(height: int = 60, width: int = 80) -> tuple[Tensor, Tensor]:
    """A red ellipse on green, with a slow change of light: a picture whose mask can be seen in its colours."""
    mask = ellipse(height, width, height // 2, width // 2, height // 6, width // 7)
    light = torch.linspace(0.6, 0.9, width).expand(height, -1)
    return torch.stack([light * mask, light * ~mask, torch.full_like(light, 0.1)]), mask


def seen(images: Tensor) -> Tensor:
    """Where pictures are more red than green."""
    return images[:, 0] > images[:, 1]


def test_dreams_move_picture_and_mask_together() -> None:
    image, mask = red_on_green()
    images, masks = lucid_dreams(image, mask, rngs(24))
    assert images.shape == (24, 3, 60, 80)
    assert masks.shape == (24, 60, 80)
    assert float(images.min()) >= 0
    assert float(images.max()) <= 1
    assert float((seen(images) != masks).float().mean()) < 0.008
    for found, told in zip(seen(images), masks, strict=True):
        assert int((found != told).sum()) < 60
    overlap = iou(masks, mask.expand_as(masks))
    assert float(overlap.min()) < 0.1  # some went elsewhere
    assert float(overlap.max()) > 0.6  # some stayed
    areas = masks.flatten(1).sum(1) / mask.sum()
    assert float(areas.median()) == pytest.approx(1, abs=0.2)
    assert float(areas.max()) < 1.5


def test_a_dream_depends_on_its_own_dice_only() -> None:
    image, mask = red_on_green()
    images, masks = lucid_dreams(image, mask, rngs(4))
    one, alone = lucid_dreams(image, mask, [Rng(0, 2)])
    assert torch.equal(images[2:3], one)
    assert torch.equal(masks[2:3], alone)
    again, _ = lucid_dreams(image, mask, rngs(4))
    assert torch.equal(images, again)
    other, _ = lucid_dreams(image, mask, rngs(4, seed=1))
    assert not torch.equal(images, other)


def test_what_stays_stays() -> None:
    """Without any amount a dream is the picture, or its mirror image."""
    image, mask = red_on_green()
    still = Dreaming(stay=1, jitter=0, gain=0, power=0, offset=0, angle=0)
    images, masks = lucid_dreams(image, mask, rngs(6), still)
    mirrored = 0
    for picture, told in zip(images, masks, strict=True):
        flip = float((picture.flip(-1) - image).abs().mean()) < float((picture - image).abs().mean())
        mirrored += flip
        found = picture.flip(-1) if flip else picture
        assert float(iou(told.flip(-1) if flip else told, mask)) > 0.97  # the soft outline rounds a tip
        inner = ~dilate(ring(mask[None])[0], 2)  # the outline is soft now
        torch.testing.assert_close(found[:, inner], image[:, inner], atol=2e-3, rtol=0)
    assert 0 < mirrored < 6


def test_an_object_that_left_is_not_left_behind() -> None:
    image, mask = red_on_green()
    away = Dreaming(stay=0, angle=0)
    images, masks = lucid_dreams(image, mask, rngs(24), away)
    old = [not (told & mask).any() and not (told.flip(-1) & mask).any() for told in masks]
    assert sum(old) >= 3
    for picture in images[torch.tensor(old)]:
        assert float(picture[0, mask].max()) < 0.35


def test_holes_are_filled_from_around() -> None:
    y, x = torch.meshgrid(torch.linspace(0, 1, 40), torch.linspace(0, 1, 50), indexing="ij")
    smooth = torch.stack([x, y, (x + y) / 2])
    hole = ellipse(40, 50, 20, 25, 6, 9)
    broken = torch.where(hole, 9.0, smooth)
    filled = fill_hole(broken, hole)
    assert torch.equal(filled[:, ~hole], smooth[:, ~hole])
    assert float((filled - smooth).abs().max()) < 0.2
    assert torch.equal(fill_hole(smooth, torch.zeros_like(hole)), smooth)
    assert fill_hole(smooth, torch.ones_like(hole)).unique().tolist() == [0.5]


def test_other_light_keeps_the_hue() -> None:
    images = torch.rand(5, 3, 6, 7, generator=torch.Generator().manual_seed(0))
    changed = relight(images, rngs(5), Dreaming())

    def hue(picture: Tensor) -> Tensor:
        low, high = picture.amin(1, keepdim=True), picture.amax(1, keepdim=True)
        return (picture - low) / (high - low)

    clear = (images.amax(1) - images.amin(1) > 0.1) & (changed.amax(1) - changed.amin(1) > 0.05)
    difference = (hue(changed) - hue(images)).abs().amax(1)
    assert float(difference[clear].max()) < 1e-3
    assert 0.01 < float((changed - images).abs().mean()) < 0.2
    same = relight(images, rngs(5), Dreaming(gain=0, power=0, offset=0))
    torch.testing.assert_close(same, images, atol=1e-5, rtol=0)
    grey = torch.full((1, 3, 4, 4), 0.5)
    assert float(relight(grey, rngs(1), Dreaming()).std(1).max()) < 1e-6


def test_a_picture_without_an_object_is_dreamed_of_too() -> None:
    image, mask = red_on_green()
    images, masks = lucid_dreams(image, torch.zeros_like(mask), rngs(3))
    assert not masks.any()
    assert torch.isfinite(images).all()
    everything, all_ = lucid_dreams(image, torch.ones_like(mask), rngs(3))
    assert torch.isfinite(everything).all()
    assert all_.any()
