"""The simplest video with several objects: plain discs that bounce over a smooth background.

Easy enough for a small network to find the objects by itself in a few hundred steps, which the sprite world is not.
"""

from __future__ import annotations

import colorsys
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ...clip import Clip
from ...errors import TutorialError
from ...rng import Array, Rng, Stream
from ..batches import Clips, draw_times

RADIUS = (0.2, 0.32)  # in frame half-extents, as all lengths here
SPEED = (0.03, 0.12)  # a frame
WALL = 0.85  # where centres turn round
COARSE = 6  # cells a side of the background


class Discs:
    """Endless clips of discs, apart from each other in frame 0; a lower number lies in front.

    Args:
        objects: the least and the largest number of discs.
        alike: all discs of a clip have one colour; otherwise their hues lie far apart.
        leaving: probability that a disc does not turn round at the wall, but leaves for good.

    Raises:
        TutorialError: if the numbers are no range within 1..4, or the probability is none.
    """

    def __init__(self, objects: tuple[int, int] = (2, 2), alike: bool = False, leaving: float = 0.0) -> None:
        if not 1 <= objects[0] <= objects[1] <= 4:
            raise TutorialError(f"there cannot be {objects[0]} to {objects[1]} discs; use a range within 1..4.")
        if not 0 <= leaving <= 1:
            raise TutorialError(f"the probability of leaving is {leaving}; it must lie in 0..1.")
        self.objects, self.alike, self.leaving = objects, alike, leaving

    def batch(self, seeds: Sequence[int], size: int, length: int, max_skip: int = 0) -> Clips:
        """As :meth:`~vos_tutorial.data.batches.ClipSource.batch`."""
        clips = [self._draw(Rng(seed, Stream.DISCS), size, length, max_skip) for seed in seeds]
        frames, masks = zip(*clips, strict=True)
        return Clips(torch.stack(frames), torch.stack(masks))

    def clip(self, seed: int, size: int = 96, length: int = 16) -> Clip:
        """One clip to evaluate on, every frame of it."""
        frames, masks = self.batch([seed], size, length)
        pixels = (frames[0] * 255).round().to(torch.uint8)
        return Clip(pixels, masks[0], f"discs {seed}", ("multiple_objects",) if masks.max() > 1 else ())

    def _draw(self, rng: Rng, size: int, length: int, max_skip: int) -> tuple[Tensor, Tensor]:
        """``float32 [T, 3, S, S]`` and ``uint8 [T, S, S]``."""
        low, high = self.objects
        count = low + rng.pick(high - low + 1)
        radii, start = _apart(rng, count)
        angle, speed = 2 * np.pi * rng.array(count), SPEED[0] + (SPEED[1] - SPEED[0]) * rng.array(count)
        velocity = np.stack([np.cos(angle), np.sin(angle)], 1) * speed[:, None]
        times = np.array(draw_times(rng, 1 + (length - 1) * (max_skip + 1), length, max_skip))
        path = start + (times - times[0])[:, None, None] * velocity  # [T, K, 2]
        stays = ~(rng.array(count) < self.leaving)
        path = np.where(stays[:, None], _bounced(path), path)
        hue = rng.uniform(0, 1)
        colours = [colorsys.hsv_to_rgb((hue if self.alike else hue + k / count) % 1, 0.85, 0.9) for k in range(count)]
        coarse = torch.from_numpy(rng.array(1, 3, COARSE, COARSE)).float()
        ground = F.interpolate(0.35 + 0.3 * coarse, (size, size), mode="bilinear", align_corners=True)
        frames, masks = ground.repeat(length, 1, 1, 1), torch.zeros(length, size, size, dtype=torch.uint8)
        axis = (torch.arange(size) + 0.5) * 2 / size - 1
        for k in reversed(range(count)):
            x, y = torch.from_numpy(path[:, k]).float().T[:, :, None]  # [T, 1]
            away = ((axis - x)[:, None] ** 2 + (axis - y)[:, :, None] ** 2).sqrt()  # [T, S, S]
            cover = ((radii[k] - away) * size / 2 + 0.5).clamp(0, 1)
            frames = frames.lerp(torch.tensor(colours[k]).reshape(1, 3, 1, 1), cover[:, None])
            masks.masked_fill_(cover > 0.5, k + 1)
        return frames, masks


def _apart(rng: Rng, count: int) -> tuple[Array, Array]:
    """Radii ``[K]`` and centres ``[K, 2]`` of discs that do not touch; each new try is a little smaller."""
    shrink = 1.0
    while True:
        radii = shrink * (RADIUS[0] + (RADIUS[1] - RADIUS[0]) * rng.array(count))
        centres = (2 * rng.array(count, 2) - 1) * (1 - RADIUS[1])
        gaps = np.linalg.norm(centres[:, None] - centres, axis=-1) - radii[:, None] - radii + 9 * np.eye(count)
        if (gaps > 0).all():
            return radii, centres
        shrink = max(0.85, 0.99 * shrink)


def _bounced(path: Array) -> Array:
    """Coordinates reflected at the walls, as often as needed."""
    return WALL - np.abs((path + WALL) % (4 * WALL) - 2 * WALL)
