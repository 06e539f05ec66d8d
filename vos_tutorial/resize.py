"""Frames, masks and probabilities at another size: each in the way that keeps what it means."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .clip import object_ids
from .errors import TutorialError


def size_at(short_side: int, height: int, width: int) -> tuple[int, int]:
    """Height and width, at least 1, when the shorter side has so many pixels and the aspect ratio is kept."""
    ratio = short_side / min(height, width)
    return max(1, round(height * ratio)), max(1, round(width * ratio))


def working_size(lines: int | None, enlarge: float, height: int, width: int) -> tuple[int, int]:
    """Height and width at which a network for so many lines sees a frame of ``height`` and ``width``.

    A larger frame is shrunk to ``lines``. A smaller one is enlarged towards them, but at most ``enlarge >= 1`` times:
    a thumbnail of 64 lines does not hold what a network for 288 looks for. Without lines a frame stays as it is.
    """
    if lines is None:
        return height, width
    return size_at(min(lines, round(enlarge * min(height, width))), height, width)


def resize_frame(frame: Tensor, height: int, width: int) -> Tensor:
    """A frame ``float [3, H, W]`` in [0, 1] at another size, smoothed when it shrinks against aliasing."""
    resized = F.interpolate(frame[None], (height, width), mode="bilinear", antialias=True, align_corners=False)[0]
    return resized.clamp(0, 1)  # rounding may leave the range of a picture


def resize_mask(mask: Tensor, height: int, width: int) -> Tensor:
    """Ids ``uint8 [H, W]`` at another size: the nearest pixel's id, never a blend of two."""
    return F.interpolate(mask[None, None].float(), (height, width), mode="nearest-exact")[0, 0].to(torch.uint8)


def resize_probabilities(probabilities: Tensor, height: int, width: int) -> Tensor:
    """``float [K+1, h, w]`` that sum to one over the channels -> the same at ``[K+1, H, W]``."""
    full = F.interpolate(probabilities[None], (height, width), mode="bilinear", align_corners=False)[0]
    return full / full.sum(0, keepdim=True)


def resize_objects(mask: Tensor, height: int, width: int) -> Tensor:
    """Like :func:`resize_mask`, but no object disappears: one that falls between the samples keeps one pixel.

    It takes the nearest pixel that is not another object's last.

    Raises:
        TutorialError: if there are more objects than pixels.
    """
    small, objects = resize_mask(mask, height, width), object_ids(mask)
    for object_id in sorted(set(objects) - set(object_ids(small))):
        y, x = (mask == object_id).nonzero()[0].tolist()
        taken = torch.zeros_like(small, dtype=torch.bool)
        for other in object_ids(small):
            taken |= (small == other) & ((small == other).sum() == 1)
        free = (~taken).nonzero()  # [N, 2], in reading order
        if len(free) == 0:
            raise TutorialError(
                f"{len(objects)} objects do not fit into {height}x{width} pixels; use a larger short side."
            )
        away = (free[:, 0] - y * height // mask.shape[0]) ** 2 + (free[:, 1] - x * width // mask.shape[1]) ** 2
        row, column = free[int(away.argmin())].tolist()
        small[row, column] = object_id
    return small
