"""Random warps that turn one labelled picture into many: corrupted guides, other views, lucid dreams.

MaskTrack never sees a video while it learns. It gets a picture, the true mask, and a *guide*: the true mask made
worse, as if it were the answer for the previous frame (Perazzi et al., CVPR 2017, section 4). STCNN is tuned to a
video by its first frame in the same way, on :func:`lucid_dreams` of it.

All functions work on batches, and sample ``i`` draws from ``rngs[i]`` only, so that a batch can be split in any way.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from .geometry import dilate, extent, identity_grid, iou, ring, spline_grid, thin_plate_spline, warp_mask
from .rng import Rng


def affine_grid(mask: Tensor, rngs: Sequence[Rng], scale: float, shift: float) -> Tensor:
    """Random size and place around each mask's own centre (section 4, step 1).

    Args:
        mask: ``bool [B, H, W]``.
        rngs: B of them.
        scale: relative change of size, uniform in [-scale, scale] per axis.
        shift: translation as a share of the object's width and height, uniform in [-shift, shift].

    Returns:
        a sampling grid ``float32 [B, H, W, 2]``.
    """
    centre, size = extent(mask)  # [B, 2] each
    draw = torch.tensor(np.stack([rng.array(4) for rng in rngs]), dtype=torch.float32, device=mask.device) * 2 - 1
    zoom, move = 1 + scale * draw[:, :2], shift * draw[:, 2:] * size  # [B, 4] -> [B, 2] each
    grid = identity_grid(mask.shape[1], mask.shape[2]).to(mask.device)
    at, to = centre[:, None, None], (centre + move)[:, None, None]  # [B, 1, 1, 2] each
    return at + (grid - to) / zoom[:, None, None]


def contour_points(mask: Tensor, rngs: Sequence[Rng], points: int) -> tuple[Tensor, Tensor]:
    """Draw ``points`` pixels of each mask's ring: ``[B, N, 2]``; and ``bool [B]``: were there so many."""
    b, height, width = mask.shape
    chosen, enough = torch.zeros(b, points, 2), torch.zeros(b, dtype=torch.bool)
    for i, edge in enumerate(ring(mask).cpu()):
        candidates = edge.nonzero()  # [M, 2] (row, column)
        order = np.argsort(rngs[i].array(len(candidates)))[:points]
        if len(order) == points:
            chosen[i], enough[i] = candidates[torch.from_numpy(order)].flip(1).float(), True
    pixels = torch.tensor([width, height], dtype=torch.float32)
    return ((chosen * 2 + 1) / pixels - 1).to(mask.device), enough.to(mask.device)


def bending_grid(mask: Tensor, rngs: Sequence[Rng], points: int, jitter: float, stiffness: float) -> Tensor:
    """A random thin-plate warp per mask (section 4, step 2): ``points`` of the contour move by up to ``jitter``.

    The spline is fitted from the moved points back to the contour, so that looking pixels up leaves no holes.

    Args:
        mask: ``bool [B, H, W]``; one whose ring has fewer than ``points`` pixels is not bent.
        rngs: B of them.
        points: control points; the paper uses 5.
        jitter: largest move as a share of the object's width and height; the paper uses 0.10.
        stiffness: see :func:`thin_plate_spline`.

    Returns:
        a sampling grid ``float32 [B, H, W, 2]``.
    """
    size = extent(mask)[1]  # [B, 2]
    contour, enough = contour_points(mask, rngs, points)
    draw = torch.tensor(np.stack([rng.array(points, 2) for rng in rngs]), dtype=torch.float32, device=mask.device)
    moved = contour + (draw * 2 - 1) * jitter * size[:, None]  # [B, N, 2]
    # Coordinates in units of the object keep the stiffness meaningful whatever the object's size.
    unit = size.amax(1).clamp_min(1e-3)[:, None, None]  # [B, 1, 1]
    weights, affine = thin_plate_spline(moved / unit, contour / unit, stiffness)
    grid = identity_grid(mask.shape[1], mask.shape[2]).to(mask.device)[None]  # [1, H, W, 2]
    # The map is smooth: every fourth pixel is computed, straight lines do between (and the logarithms are expensive).
    coarse = F.interpolate(
        grid.movedim(3, 1), [-(-s // 4) + 1 for s in mask.shape[1:]], mode="bilinear", align_corners=True
    )
    bent = spline_grid(coarse.movedim(1, 3) / unit[..., None], moved / unit, weights, affine) * unit[..., None]
    bent = F.interpolate(bent.movedim(3, 1), mask.shape[1:], mode="bilinear", align_corners=True).movedim(1, 3)
    return torch.where(enough[:, None, None, None], bent, grid)


@dataclass(frozen=True)
class Corruption:
    """How a true mask becomes a plausible mask of the previous frame; the defaults are the paper's (section 4).

    Attributes:
        scale: affine step, relative change of size.
        shift: affine step, translation as a share of the object's width and height.
        points: thin-plate step, number of control points; 0 leaves the step out.
        jitter: thin-plate step, largest move of a point as a share of the object's width and height.
        stiffness: thin-plate step; the authors' script smooths by an amount it does not state.
        dilation: coarsening step, pixels; the paper's 5 are meant for pictures of 300 to 500 pixels.
        floor: a guide whose IoU with the truth, before the dilation, falls below this is drawn again.
    """

    scale: float = 0.05
    shift: float = 0.10
    points: int = 5
    jitter: float = 0.10
    stiffness: float = 0.1
    dilation: int = 5
    floor: float = 0.4


REDRAWS = 10  # then the last draw stands: an object of three pixels cannot keep its IoU


def corrupt(mask: Tensor, rngs: Sequence[Rng], how: Corruption) -> Tensor:
    """Make guides from true masks: affine, then thin-plate, then dilation (section 4 of the paper).

    Args:
        mask: ``bool [B, H, W]``.
        rngs: B of them; guide ``i`` depends on ``mask[i]`` and ``rngs[i]`` only.
        how: the amounts.

    Returns:
        guides ``bool [B, H, W]``.
    """
    guide = mask.clone()
    todo = torch.arange(len(mask), device=mask.device)
    for _ in range(REDRAWS):
        subset, some = mask[todo], [rngs[int(i)] for i in todo]
        moved = subset
        if how.scale or how.shift:
            moved = warp_mask(moved, affine_grid(moved, some, how.scale, how.shift))
        if how.points:
            moved = warp_mask(moved, bending_grid(moved, some, how.points, how.jitter, how.stiffness))
        guide[todo] = moved
        todo = todo[iou(moved, subset) < how.floor]
        if len(todo) == 0:
            break
    return dilate(guide, how.dilation)


def rotate_zoom_flip(
    images: Tensor, masks: Tensor, rngs: Sequence[Rng], angle: float, zoom: float, flip: bool = True
) -> tuple[Tensor, Tensor]:
    """Rotate, zoom and mirror pictures with their masks: the views online training learns from (section 3.2).

    Args:
        images: ``float32 [B, 3, H, W]``.
        masks: ``bool [B, H, W]``.
        rngs: B of them.
        angle: largest rotation in degrees; the authors' script uses 20.
        zoom: largest relative change of size.
        flip: mirror half of them.

    Returns:
        images and masks of the same shapes; what comes from outside the picture is its mirror image.
    """
    b, _, height, width = images.shape
    grids = []
    for rng in rngs:
        a, s = np.deg2rad(rng.uniform(-angle, angle)), 1 + rng.uniform(-zoom, zoom)
        side = rng.sign() if flip else 1
        c, n, ratio = np.cos(a) / s, np.sin(a) / s, height / width
        grids.append([[side * c, -n * ratio, 0.0], [side * n / ratio, c, 0.0]])
    theta = torch.tensor(np.array(grids), dtype=torch.float32, device=images.device)  # [B, 2, 3]
    grid = F.affine_grid(theta, [b, 3, height, width], align_corners=False)  # [B, H, W, 2]
    turned = F.grid_sample(images, grid, mode="bilinear", padding_mode="reflection", align_corners=False)
    return turned, F.grid_sample(
        masks[:, None].float(), grid, mode="nearest", padding_mode="reflection", align_corners=False
    )[:, 0] > 0.5


# ------------------------------------------------------------------------------------------------------ lucid dreams


@dataclass(frozen=True)
class Dreaming:
    """How one annotated picture becomes many (Khoreva et al.: "Lucid Data Dreaming for Video Object Segmentation").

    The defaults are those of the script that STCNN's authors ship.

    Attributes:
        stay: how probable it is that the object stays where it is, and only light and camera change.
        jitter: thin-plate step, largest move of its 5 control points as a share of the object's width and height.
        shrink: the object is rescaled to between this ...
        grow: ... and that.
        gain: saturation and value become ``gain * x ** power + offset``; largest relative change of the gain.
        power: largest relative change of the power.
        offset: largest offset.
        angle: largest turn of the whole picture, in degrees.
    """

    stay: float = 0.3
    jitter: float = 0.05
    shrink: float = 0.85
    grow: float = 1.15
    gain: float = 0.03
    power: float = 0.2
    offset: float = 0.05
    angle: float = 30.0


def fill_hole(image: Tensor, hole: Tensor) -> Tensor:
    """The picture without what was in the hole: colours from around it, smooth, where the authors copy patches.

    Halved again and again, a picture soon has no hole left, since a pixel is known as soon as one of its four is; on
    the way back each unknown pixel takes its colour from the coarser picture.

    Args:
        image: ``float32 [3, H, W]``.
        hole: ``bool [H, W]``; where it covers the whole picture, grey is what is left.

    Returns:
        ``float32 [3, H, W]``, unchanged outside the hole.
    """
    known = (~hole).to(image.dtype)[None, None]
    if bool(known.all()) or min(image.shape[-2:]) == 1:
        return image
    if not bool(known.any()):
        return torch.full_like(image, 0.5)
    share = F.avg_pool2d(known, 2, ceil_mode=True)
    half = F.avg_pool2d(image[None] * known, 2, ceil_mode=True) / share.clamp_min(1e-6)
    coarse = fill_hole(half[0], share[0, 0] == 0)
    smooth = F.interpolate(coarse[None], image.shape[-2:], mode="bilinear", align_corners=False)[0]
    return torch.where(hole, smooth, image)


def relight(images: Tensor, rngs: Sequence[Rng], how: Dreaming) -> Tensor:
    """Other saturation and value (of HSV), the same hue: ``float32 [B, 3, H, W]`` in [0, 1] -> the same."""
    draw = (
        torch.tensor(np.stack([rng.array(2, 3) for rng in rngs]), dtype=torch.float32, device=images.device) * 2 - 1
    )
    draw = draw * torch.tensor([how.gain, how.power, how.offset], device=images.device)
    gain, power, offset = draw[..., None, None, None].unbind(2)  # [B, 2, 1, 1, 1] each: of value, of saturation
    high, low = images.amax(1, keepdim=True), images.amin(1, keepdim=True)
    spread = (high - low).clamp_min(1e-6)
    value, saturation = (
        ((1 + gain[:, i]) * x.clamp_min(1e-6) ** (1 + power[:, i]) + offset[:, i]).clamp(0, 1)
        for i, x in enumerate((high, (high - low) / high.clamp_min(1e-6)))
    )
    saturation = saturation * (high - low > 1e-3)  # grey has no hue that could be seen
    return value * (1 - saturation * (high - images) / spread)


def lucid_dreams(
    image: Tensor, mask: Tensor, rngs: Sequence[Rng], how: Dreaming | None = None
) -> tuple[Tensor, Tensor]:
    """What else the video of a picture might show: its object bent, rescaled, elsewhere, in other light.

    The object is cut out, and the hole it leaves is filled. Both get light of their own; the object is bent, rescaled
    and put down at a random place, or stays where it was; then the whole is turned, and perhaps mirrored.

    Args:
        image: ``float32 [3, H, W]`` in [0, 1].
        mask: ``bool [H, W]``, the object; without one only light and camera change.
        rngs: B of them; dream ``i`` depends on ``rngs[i]`` only.
        how: the amounts; the authors' by default.

    Returns:
        pictures ``float32 [B, 3, H, W]`` in [0, 1] and masks ``bool [B, H, W]``.
    """
    how = how if how is not None else Dreaming()
    b, (height, width) = len(rngs), mask.shape
    masks = mask.expand(b, -1, -1)
    ground = fill_hole(image, dilate(mask, 2)).expand(b, -1, -1, -1)
    cut = F.avg_pool2d(mask[None].float(), 3, 1, 1)  # a soft outline, so that no cut can be learned
    pictures = torch.cat([image, cut]).expand(b, -1, -1, -1)

    bend = bending_grid(masks, rngs, 5, how.jitter, 0.1)
    zoom, to = [], []
    centre = extent(mask[None])[0][0]
    for rng in rngs:
        stays, scale = rng.chance(how.stay), rng.uniform(how.shrink, how.grow)
        x, y = rng.uniform(-0.8, 0.8), rng.uniform(-0.8, 0.8)
        zoom.append(1.0 if stays else scale)
        to.append(centre if stays else torch.tensor([x, y], device=mask.device))
    offset = identity_grid(height, width).to(mask.device) - torch.stack(to)[:, None, None]
    look = centre + offset / torch.tensor(zoom, device=mask.device)[:, None, None, None]
    look = F.grid_sample(bend.movedim(3, 1), look, mode="bilinear", padding_mode="border", align_corners=False)
    # Where `look` leaves the picture the border of `bend` repeats, and with it the picture's own border: no object.
    moved = F.grid_sample(pictures, look.movedim(1, 3), mode="bilinear", padding_mode="zeros", align_corners=False)
    colours, cover = moved.split([3, 1], dim=1)
    dreams = torch.lerp(relight(ground, rngs, how), relight(colours.clamp(0, 1), rngs, how), cover)
    return rotate_zoom_flip(dreams, cover[:, 0] > 0.5, rngs, how.angle, 0.0)
