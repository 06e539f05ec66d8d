"""Geometry of masks and of sampling grids: dilation, boxes, warps, thin-plate splines, overlap.

Pixel coordinates run from -1 to 1 in x and y, as ``grid_sample`` wants them.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def disk(radius: int) -> Tensor:
    """The offsets within ``radius`` pixels as a ``float32 [2r+1, 2r+1]`` map of zeros and ones."""
    offset = torch.arange(-radius, radius + 1)
    return (offset[:, None] ** 2 + offset[None] ** 2 <= radius**2).float()


def dilate(mask: Tensor, radius: int) -> Tensor:
    """Grow masks by a Euclidean disk (section 3.1: the test-time step of MaskTrack).

    Args:
        mask: ``bool [..., H, W]``.
        radius: pixels; 0 changes nothing. The paper uses 5 on pictures of 300 to 500 pixels.

    Returns:
        ``bool [..., H, W]``: true within ``radius`` of a true pixel.
    """
    if radius == 0:
        return mask
    if radius > 8:  # a convolution costs the square of the radius
        return _dilate_by_rows(mask, radius)
    kernel = disk(radius).to(mask.device)[None, None]
    flat = mask.reshape(-1, 1, *mask.shape[-2:]).float()
    return (F.conv2d(flat, kernel, padding=radius) > 0.5).reshape(mask.shape)


def _dilate_by_rows(mask: Tensor, radius: int) -> Tensor:
    """The same, row by row of the disk: does a run of pixels hold a true one? Two running sums differ if it does."""
    height, width = mask.shape[-2:]
    sums = F.pad(mask.flatten(0, -3) if mask.ndim > 2 else mask[None], (1, 0)).cumsum(-1, dtype=torch.int32)
    x, grown = torch.arange(width, device=mask.device), torch.zeros_like(sums[..., 1:], dtype=torch.bool)
    for dy in range(-min(radius, height - 1), min(radius, height - 1) + 1):
        reach = math.isqrt(radius**2 - dy**2)
        run = sums[..., (x + reach + 1).clamp_max(width)] > sums[..., (x - reach).clamp_min(0)]
        grown[:, max(0, dy) : height + min(0, dy)] |= run[:, max(0, -dy) : height + min(0, -dy)]
    return grown.reshape(mask.shape)


def boxes(mask: Tensor) -> Tensor:
    """Tight boxes of masks ``bool [B, H, W]``: ``int64 [B, 4]`` as (top, left, bottom, right), inclusive.

    An empty mask has the box (0, 0, -1, -1), whose height and width are 0.
    """
    rows, columns = mask.any(2), mask.any(1)

    def ends(line: Tensor) -> tuple[Tensor, Tensor]:
        n = line.shape[1]
        first = line.to(torch.uint8).argmax(1)
        return first, n - 1 - line.flip(1).to(torch.uint8).argmax(1)

    top, bottom = ends(rows)
    left, right = ends(columns)
    box = torch.stack([top, left, bottom, right], dim=1)
    return torch.where(mask.flatten(1).any(1)[:, None], box, box.new_tensor([0, 0, -1, -1]))


def fill_boxes(mask: Tensor) -> Tensor:
    """Each mask ``bool [B, H, W]`` replaced by its filled tight box: the guide of MaskTrack_Box (section 3.3)."""
    top, left, bottom, right = boxes(mask).unbind(1)
    y = torch.arange(mask.shape[1], device=mask.device)[None, :, None]
    x = torch.arange(mask.shape[2], device=mask.device)[None, None, :]
    inside_y = (y >= top[:, None, None]) & (y <= bottom[:, None, None])
    return inside_y & (x >= left[:, None, None]) & (x <= right[:, None, None])


def identity_grid(height: int, width: int) -> Tensor:
    """Where ``grid_sample`` must look to change nothing: ``float32 [H, W, 2]``, last axis (x, y)."""
    y = (torch.arange(height, dtype=torch.float32) * 2 + 1) / height - 1
    x = (torch.arange(width, dtype=torch.float32) * 2 + 1) / width - 1
    return torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1)


def warp_mask(mask: Tensor, grid: Tensor) -> Tensor:
    """Look masks ``bool [B, H, W]`` up at ``grid [B, H, W, 2]``, nearest pixel; outside is background."""
    looked_up = F.grid_sample(mask[:, None].float(), grid, mode="nearest", padding_mode="zeros", align_corners=False)
    return looked_up[:, 0] > 0.5


def extent(mask: Tensor) -> tuple[Tensor, Tensor]:
    """Centres ``[B, 2]`` and sizes ``[B, 2]`` of the masks' boxes, both (x, y) in [-1, 1] coordinates."""
    box = boxes(mask).float()
    pixels = torch.tensor([mask.shape[2], mask.shape[1]], dtype=torch.float32, device=mask.device)
    low, high = box[:, [1, 0]], box[:, [3, 2]]
    return (low + high + 1) / pixels - 1, (high - low + 1) * 2 / pixels


def _kernel(squared_distance: Tensor) -> Tensor:
    """The thin-plate kernel ``U(r) = r^2 log r``, written with ``r^2`` and 0 at ``r = 0``."""
    return 0.5 * squared_distance * torch.log(squared_distance.clamp_min(1e-9))


def thin_plate_spline(source: Tensor, target: Tensor, stiffness: float) -> tuple[Tensor, Tensor]:
    """Fit the smooth map of the plane that takes ``source`` close to ``target`` with the least bending.

    Solves ``[[K + stiffness I, P], [P^T, 0]] [w; a] = [target; 0]`` with ``P = [1, x, y]`` (Bookstein, 1989).

    Args:
        source: ``float [B, N, 2]``.
        target: ``float [B, N, 2]``.
        stiffness: 0 meets every point; larger values give way (the authors' script smooths as well).

    Returns:
        weights ``[B, N, 2]`` and the affine part ``[B, 3, 2]``.
    """
    b, n, _ = source.shape
    squared = (source[:, :, None] - source[:, None]).pow(2).sum(-1)
    p = torch.cat([torch.ones_like(source[..., :1]), source], dim=-1)
    top = torch.cat([_kernel(squared) + stiffness * torch.eye(n, device=source.device), p], dim=2)
    system = torch.cat([top, torch.cat([p.transpose(1, 2), source.new_zeros(b, 3, 3)], dim=2)], dim=1)
    right = torch.cat([target, target.new_zeros(b, 3, 2)], dim=1)
    # Points on a line make the system singular; a hair of regularisation keeps it solvable.
    system = system.double() + 1e-7 * torch.eye(n + 3, device=source.device, dtype=torch.float64)
    solution = torch.linalg.solve(system, right.double()).to(source.dtype)
    return solution[:, :n], solution[:, n:]


def spline_grid(grid: Tensor, points: Tensor, weights: Tensor, affine: Tensor) -> Tensor:
    """Evaluate splines fitted at ``points [B, N, 2]`` at every place of ``grid [B, H, W, 2]``; same shape."""
    squared = (grid[:, :, :, None] - points[:, None, None]).pow(2).sum(-1)  # [B, H, W, N]
    bent = torch.einsum("bhwn,bnc->bhwc", _kernel(squared), weights)
    return bent + affine[:, None, None, 0] + torch.einsum("bhwk,bkc->bhwc", grid, affine[:, 1:])


LATTICE = 4  # control points a side of a free-form warp


def _bernstein(size: int) -> Tensor:
    """The four cubic Bernstein polynomials at ``size`` pixel centres: ``float32 [4, size]``."""
    u = (torch.arange(size, dtype=torch.float64) + 0.5) / size
    v = 1 - u
    return torch.stack([v**3, 3 * u * v**2, 3 * u**2 * v, u**3]).float()


def free_form_grid(points: Tensor, size: int) -> Tensor:
    """A smooth warp from a lattice of control points (Sederberg and Parry, 1986, in two dimensions).

    The polynomials reproduce straight lines: a lattice that was moved by an affine map gives exactly that map.

    Args:
        points: ``float32 [N, 4, 4, 2]``: for each control point (row, column) the place (x, y) where to look.
        size: H = W in pixels.

    Returns:
        a sampling grid ``float32 [N, H, W, 2]``.
    """
    b = _bernstein(size).to(points.device)
    # sums written out: unlike a matrix product, their bits do not depend on how many samples a batch has
    rows = sum(points[:, :, j, None] * b[j][:, None] for j in range(LATTICE))  # [N, 4, W, 2]
    assert isinstance(rows, Tensor)
    grid = rows[:, 0, None] * b[0][:, None, None]
    for i in range(1, LATTICE):
        grid.addcmul_(rows[:, i, None], b[i][:, None, None])
    return grid


def ring(mask: Tensor) -> Tensor:
    """The pixels just outside each mask, ``bool [B, H, W]``: where the authors' script puts control points."""
    return dilate(mask, 1) & ~mask


def iou(a: Tensor, b: Tensor) -> Tensor:
    """Intersection over union of masks ``bool [..., H, W]``: ``float32 [...]``; 1 where both are empty."""
    inter, union = (a & b).flatten(-2).sum(-1), (a | b).flatten(-2).sum(-1)
    return torch.where(union > 0, inter / union.clamp_min(1), torch.ones_like(union, dtype=torch.float32))
