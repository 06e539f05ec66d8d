"""Two small worlds, each made for one question of notebook 06.

*Camouflage*: an object wears the same kind of texture as its background. No single frame shows it; the frames before
do, as soon as it moves. *Fork*: an object that anyone can see goes straight on, and turns left or right, with equal
chance, in the last frame: the future is sharp, but nothing tells which of two it is.

Both are sources of clips like those of ``data.sources``; a clip of 64 pixels and one of 96 show the same, larger.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch

from ...clip import Clip
from ...errors import TutorialError
from ...rng import Array, Rng, Stream
from ..batches import Clips

# Shares of the frame's side: at 64 pixels the grain is 1.3 of them, and the object moves by 1.5 to 3.5 a frame.
GRAIN = 0.02
FEATHER = 0.12  # wide, for the slope of the blend is a little texture of its own
RADIUS = (0.13, 0.21)
SPEED = (0.0235, 0.055)
CONTRAST = 0.16  # deviation of the texture, in [0, 1] colours

# ---------------------------------------------------------------------------------------------------------- texture


def grain(rng: Rng, size: int) -> Array:
    """The spectrum ``complex [size, size]`` of a random texture with mean 0 and, on average, variance 1.

    Smoothed noise that goes on over the edges without a seam. Its statistics are the same at every place, and stay so
    when it is moved (:func:`moved`): a texture that is enlarged, or moved by interpolation, gives itself away.
    """
    frequency = np.fft.fftfreq(size)
    tent = np.exp(-2 * (np.pi * GRAIN * size * frequency) ** 2)
    smooth = tent[:, None] * tent
    smooth[0, 0] = 0  # no texture is brighter than another
    noise = (rng.array(size, size) - 0.5) * np.sqrt(12)
    spectrum: Array = np.fft.fft2(noise) * smooth / np.sqrt((smooth**2).mean())
    return spectrum


def moved(spectrum: Array, shift: Array) -> Array:
    """A spectrum's texture, ``float [size, size]``, shifted by (x, y) pixels, exactly: not by interpolation."""
    frequency = np.fft.fftfreq(len(spectrum))
    right, down = (np.exp(-2j * np.pi * frequency * by) for by in shift)
    texture: Array = np.fft.ifft2(spectrum * right * down[:, None]).real
    return texture


def blob(rng: Rng, size: int, feather: float) -> Callable[[Array], Array]:
    """A random round shape: a function from its centre (x, y), in pixels, to how much of it covers each pixel.

    Covers are 0 to 1 ``[size, size]``, and fall across the outline within ``feather``, a share of the side.
    """
    radius = rng.uniform(*RADIUS) * size
    phases = rng.array(2) * 2 * np.pi

    def cover(centre: Array) -> Array:
        y, x = np.mgrid[:size, :size] + 0.5
        dx, dy = x - centre[0], y - centre[1]
        angle = np.arctan2(dy, dx)
        outline = radius * (1 + 0.15 * np.cos(2 * angle + phases[0]) + 0.1 * np.cos(3 * angle + phases[1]))
        covered: Array = np.clip((outline - np.hypot(dx, dy)) / (feather * size) + 0.5, 0, 1)
        return covered

    return cover


def fold(x: Array, low: float, high: float) -> Array:
    """Numbers reflected at both ends of an interval, as a ball is by walls."""
    period = 2 * (high - low)
    distance = np.abs((x - low + period / 2) % period - period / 2)
    folded: Array = low + distance
    return folded


# ----------------------------------------------------------------------------------------------------------- worlds


class _World:
    """What both have in common: clips from seeds, one by one."""

    stream: Stream

    def batch(self, seeds: Sequence[int], size: int, length: int, max_skip: int = 0) -> Clips:
        """As :meth:`~vos_tutorial.data.batches.ClipSource.batch`; ``max_skip`` changes nothing.

        Raises:
            TutorialError: without seeds, or if one is negative, or there is nothing to draw.
        """
        if not len(seeds) or min(seeds) < 0:
            raise TutorialError(f"the seeds are {list(seeds)}; give at least one, and none below 0.")
        if size < 16 or length < 1:
            raise TutorialError(
                f"clips of size {size} and length {length} cannot be made; give 16 pixels and 1 frame at least."
            )
        made = [self._draw(Rng(seed, self.stream), size, length) for seed in seeds]
        frames = torch.from_numpy(np.stack([f for f, _ in made])).float().clamp_(0, 1)
        masks = torch.from_numpy(np.stack([m for _, m in made])).to(torch.uint8)
        return Clips(frames[:, :, None].expand(-1, -1, 3, -1, -1).contiguous(), masks)

    def clip(self, seed: int, size: int, length: int) -> Clip:
        """One clip, for a segmenter."""
        frames, masks = self.batch([seed], size, length)
        return Clip((frames[0] * 255).round().to(torch.uint8), masks[0], f"{type(self).__name__} {seed}")

    def _draw(self, rng: Rng, size: int, length: int) -> tuple[Array, Array]:
        """Grey frames ``float [T, size, size]`` in [0, 1], and where the object is."""
        raise NotImplementedError


class CamouflageClips(_World):
    """An object with its background's texture, which only its motion betrays.

    Both textures are drawn alike. Across the outline they are blended by the sine and the cosine of one angle, whose
    squares sum to one, so that the variance is the same there, too.

    Args:
        static: the object does not move: nothing betrays it.
        shake: the camera jumps by up to so many hundredths of the frame between two frames, so that all moves.
        jump: in this frame the object is suddenly elsewhere.

    Raises:
        TutorialError: if ``shake`` is negative.
    """

    stream = Stream.CAMOUFLAGE

    def __init__(self, static: bool = False, shake: float = 0.0, jump: int | None = None) -> None:
        if shake < 0:
            raise TutorialError(f"shake is {shake}; it must be 0 or more.")
        self.static, self.shake, self.jump = static, shake, jump

    def _draw(self, rng: Rng, size: int, length: int) -> tuple[Array, Array]:
        back, front, cover = grain(rng, size), grain(rng, size), blob(rng, size, FEATHER)
        low, high = 1.25 * RADIUS[1] * size, (1 - 1.25 * RADIUS[1]) * size  # its widest outline stays in the frame
        start, angle = low + rng.array(2) * (high - low), rng.uniform(0, 2 * np.pi)
        speed = 0.0 if self.static else rng.uniform(*SPEED) * size
        tremor = (rng.array(length, 2) * 2 - 1) * self.shake / 100 * size
        frames, masks = [], []
        for t in range(length):
            away = t * speed * np.array([np.cos(angle), np.sin(angle)])
            if self.jump is not None and t >= self.jump:
                away = away + (high - low)
            centre = fold(start + away, low, high) + tremor[t]
            covered = cover(centre)
            a = covered * np.pi / 2
            texture = np.sin(a) * moved(front, centre) + np.cos(a) * moved(back, tremor[t])
            frames.append(0.5 + CONTRAST * texture)
            masks.append(covered > 0.5)
        return np.stack(frames), np.stack(masks)


class ForkClips(_World):
    """A bright object on a dark texture: straight on, and in the last frame a wide step to the left or the right."""

    stream = Stream.FORK

    STEP = 0.14  # of the last frame, as a share of its side; wide enough for the two futures to lie apart

    def _draw(self, rng: Rng, size: int, length: int) -> tuple[Array, Array]:
        back, front, cover = grain(rng, size), grain(rng, size), blob(rng, size, 0.03)
        angle, speed = rng.uniform(0, 2 * np.pi), rng.uniform(*SPEED) * size
        ahead = np.array([np.cos(angle), np.sin(angle)])
        aside = np.array([-ahead[1], ahead[0]]) * rng.sign()
        middle = size / 2 + (rng.array(2) - 0.5) * 0.2 * size
        frames, masks = [], []
        for t in range(length):
            centre = middle + (t - length + 2) * speed * ahead
            if t == length - 1:
                centre = middle + self.STEP * size * aside
            covered = cover(centre)
            object_, ground = 0.75 + 0.08 * moved(front, centre), 0.25 + 0.04 * moved(back, np.zeros(2))
            frames.append(covered * object_ + (1 - covered) * ground)
            masks.append(covered > 0.5)
        return np.stack(frames), np.stack(masks)
