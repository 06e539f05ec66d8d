"""The captioned world: 32-pixel pictures of one textured shape, a caption that says what it is, and its exact mask.

Small enough that a generator learns it on a laptop, and hard enough that one with few steps fails in it: a caption
fixes six attributes (:data:`ATTRIBUTES`), but not where exactly the shape stands, how its pattern runs, or what the
ground looks like in detail. All of that has to be made up, and an average of the possibilities is a blur.

A picture has four channels, colour and mask, so that whoever learns to draw the picture learns to annotate it.
Coordinates: x right, y down, the picture spans [-1, 1] in both; sizes are half-extents in the same unit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...errors import TutorialError
from ...rng import Array, Rng, Stream

Pixels = NDArray[np.float32]

ATTRIBUTES: Mapping[str, tuple[str, ...]] = {
    "size": ("small", "medium", "large"),
    "colour": ("red", "yellow", "green", "blue", "violet", "white"),
    "texture": ("plain", "striped", "checked", "dotted"),
    "shape": ("disc", "square", "triangle", "star", "ring", "cross"),
    "place": ("in the middle", "at the top left", "at the top right", "at the bottom left", "at the bottom right"),
    "ground": ("sand", "water", "grass", "rock"),
}
"""What a caption says, in the order of its sentence. Of its ids, 0 is *not said*, and value ``i`` is ``i + 1``."""

UNSAID = 0
SIDE = 32  # pixels of a standard picture

COLOURS = np.array(
    [[0.88, 0.16, 0.13], [0.95, 0.82, 0.15], [0.16, 0.70, 0.22], [0.16, 0.33, 0.90], [0.66, 0.22, 0.80], [0.96] * 3],
    dtype=np.float32,
)
GROUNDS = np.array([[0.74, 0.63, 0.45], [0.33, 0.50, 0.58], [0.32, 0.43, 0.23], [0.36, 0.34, 0.36]], np.float32)
SIZES = np.array([0.38, 0.5, 0.65], np.float32)
PLACES = np.array([[0, 0], [-0.36, -0.36], [0.36, -0.36], [-0.36, 0.36], [0.36, 0.36]], np.float32)
DARK = 0.28  # of the shape's colour: the second colour of its pattern
TURN = 0.06  # of the whole circle: a shape leans by up to 11 degrees to either side
PERIOD = 0.36  # of the patterns: 5.8 pixels
NOISE = 5  # cells a side of the ground's random light and shade
DRAWN = 2  # pixels drawn for one of the picture, a side; their average has soft edges
_NUMBERS = 24  # random numbers of a picture, apart from those of the ground's light


class Captioned(NamedTuple):
    """A batch of pictures and what they show."""

    images: Tensor
    """``float32 [B, 4, H, W]`` in [-1, 1]: red, green, blue, and the mask (1 inside, -1 outside)."""
    captions: Tensor
    """``int64 [B, 6]``, one id for each of :data:`ATTRIBUTES`; 0 is not said."""


def sentence(caption: Tensor | Sequence[int]) -> str:
    """A caption's ids ``[6]`` in words, such as "a small red striped star at the top left, on sand".

    Raises:
        TutorialError: on ids that no attribute has.
    """
    ids = require_captions(torch.as_tensor(caption)[None])[0].tolist()
    words = {name: values[i - 1] if i else "" for i, (name, values) in zip(ids, ATTRIBUTES.items(), strict=True)}
    thing = [words[name] for name in ("size", "colour", "texture")] + [words["shape"] or "thing"]
    said = " ".join(["a", *filter(None, thing), words["place"]]).strip()
    return f"{said}, on {words['ground']}" if words["ground"] else said


def require_captions(captions: Tensor) -> Tensor:
    """The same captions, checked.

    Args:
        captions: int64 ``[B, 6]``.

    Raises:
        TutorialError: if the shape or kind is another one, or an id is one that no attribute has.
    """
    if captions.ndim != 2 or captions.shape[1] != len(ATTRIBUTES) or captions.dtype != torch.int64:
        raise TutorialError(
            f"captions are int64 [B, {len(ATTRIBUTES)}], one id for each of {', '.join(ATTRIBUTES)}, but these are "
            f"{str(captions.dtype).removeprefix('torch.')} {list(captions.shape)}."
        )
    for column, (name, values) in enumerate(ATTRIBUTES.items()):
        ids = captions[:, column]
        if len(ids) and not 0 <= int(ids.min()) <= int(ids.max()) <= len(values):
            wrong = next(i for i in ids.tolist() if not 0 <= i <= len(values))
            raise TutorialError(
                f"a caption has {name} {wrong}; use 0 (not said) or 1..{len(values)} ({', '.join(values)})."
            )
    return captions


def caption(**said: str) -> Tensor:
    """The ids ``int64 [6]`` of a caption: ``caption(colour="red", shape="star")``; what is left out is not said.

    Raises:
        TutorialError: on an attribute or a value that the world does not have.
    """
    for name, value in said.items():
        if name not in ATTRIBUTES:
            raise TutorialError(f"a caption has no attribute {name!r}; choose from {', '.join(ATTRIBUTES)}.")
        if value not in ATTRIBUTES[name]:
            raise TutorialError(f"there is no {name} {value!r}; choose from {', '.join(ATTRIBUTES[name])}.")
    return torch.tensor([ATTRIBUTES[k].index(said[k]) + 1 if k in said else UNSAID for k in ATTRIBUTES])


def random_captions(seeds: Sequence[int]) -> Tensor:
    """Whole captions ``int64 [B, 6]``, evenly distributed; caption ``i`` is that of :func:`draw`'s picture ``i``."""
    return _captions(np.stack([Rng(seed, Stream.CAPTIONED).array(len(ATTRIBUTES)) for seed in _checked(seeds)]))


def draw(seeds: Sequence[int], size: int = SIDE, captions: Tensor | None = None) -> Captioned:
    """Pictures for seeds; picture ``i`` depends on ``seeds[i]`` (and its caption) alone.

    Args:
        seeds: B integers >= 0.
        size: pixels a side. Pictures of any size show the same.
        captions: int64 ``[B, 6]``: what to draw; by default, and where it is not said, what the seed says.

    Raises:
        TutorialError: without seeds, on a negative one, a size below 8, or wrong captions.
    """
    if size < 8:
        raise TutorialError(f"pictures of {size} pixels a side cannot be drawn; use 8 or more.")
    rngs = [Rng(seed, Stream.CAPTIONED) for seed in _checked(seeds)]
    shown = _captions(np.stack([rng.array(len(ATTRIBUTES)) for rng in rngs]))
    if captions is not None:
        if len(require_captions(captions)) != len(rngs):
            raise TutorialError(f"there are {len(captions)} captions for {len(rngs)} seeds; give one for each.")
        shown = torch.where(captions == UNSAID, shown, captions)
    chance = np.stack([rng.array(_NUMBERS) for rng in rngs]).T.astype(np.float32)  # [24, B]
    light = np.stack([rng.array(3, NOISE, NOISE) for rng in rngs]).astype(np.float32)  # [B, 3, 5, 5]
    pixels = _paint((shown.numpy() - 1).T, chance, light, size * DRAWN)  # [B, 4, 2H, 2W]
    corners = [pixels[:, :, i::DRAWN, j::DRAWN] for i in range(DRAWN) for j in range(DRAWN)]  # [B, 4, H, W] each
    return Captioned(torch.from_numpy(np.sum(corners, axis=0) * (2 / DRAWN**2) - 1), shown)


def _checked(seeds: Sequence[int]) -> Sequence[int]:
    if not len(seeds) or min(seeds) < 0:
        raise TutorialError(f"the seeds are {list(seeds)}; give at least one, and none below 0.")
    return seeds


def _captions(numbers: Array) -> Tensor:
    """Random numbers ``[B, 6]`` in [0, 1) to values of the attributes."""
    counts = np.array([len(values) for values in ATTRIBUTES.values()])
    return torch.from_numpy((numbers * counts).astype(np.int64) + 1)


# ------------------------------------------------------------------------------------------------ pixels


def _paint(values: np.ndarray, chance: Pixels, light: Pixels, size: int) -> Pixels:
    """Pictures ``float32 [B, 4, size, size]`` in [0, 1] of values ``[6, B]`` and random numbers ``[24, B]``."""
    extent, colour, texture, shape, place, ground = values
    chance = chance[:, :, None, None]  # [24, B, 1, 1]
    axis = (np.arange(size, dtype=np.float32) * 2 + 1) / size - 1
    x, y = axis[None, None], axis[None, :, None]  # [1, 1, size], [1, size, 1]

    radius = SIZES[extent][:, None, None] * (0.95 + 0.1 * chance[0])
    middle = PLACES[place].T[:, :, None, None] + 0.16 * (chance[1:3] - 0.5)  # [2, B, 1, 1]
    u, v = _turned(x - middle[0], y - middle[1], TURN * (chance[3] - 0.5))  # [B, size, size] each
    inside = _choose(shape, _SHAPES, u / radius, v / radius)
    cover = (inside * radius * size / DRAWN / 2 + 0.5).clip(0, 1)  # an edge one pixel of the picture wide

    p, q = _turned(x - middle[0], y - middle[1], np.floor(4 * chance[4]) / 8)
    pattern = _choose(texture, _PATTERNS, p / PERIOD + chance[5], q / PERIOD + chance[6])
    pure = COLOURS[colour][:, :, None, None] + 0.12 * (chance[7:10].swapaxes(0, 1) - 0.5)  # [B, 3, 1, 1]
    cloth = pure * (DARK + (1 - DARK) * pattern)[:, None]  # [B, 3, size, size]

    steps = np.clip((axis + 1) / 2 * (NOISE - 1), 0, NOISE - 1 - 1e-5)
    low, part = np.floor(steps).astype(int), steps % 1
    up = np.zeros((size, NOISE), np.float32)
    up[np.arange(size), low], up[np.arange(size), low + 1] = 1 - part, part
    shade = up @ (light - 0.5) @ up.T  # [B, 3, size, size]: bilinear
    relief = _choose(ground, _RELIEFS, x + (0 * y + chance[10]), y + (0 * x + chance[11]), chance[12:16])
    world = GROUNDS[ground][:, :, None, None] + 0.08 * shade + 0.16 * shade.mean(1, keepdims=True) + relief[:, None]
    lit = 1 + 0.25 * (chance[16] - 0.5) * x + 0.25 * (chance[17] - 0.5) * y  # [B, size, size]
    picture = (world + (cloth - world) * cover[:, None]) * lit[:, None]
    return np.concatenate([picture.clip(0, 1), cover[:, None]], axis=1)


def _choose(kind: np.ndarray, makers: Sequence[object], *arguments: Pixels) -> Pixels:
    """Apply ``makers[kind[i]]`` to picture ``i`` of the arguments ``[..., B, H, W]``."""
    side = arguments[0].shape[-1]
    out = np.empty((len(kind), side, side), np.float32)
    for k, make in enumerate(makers):
        rows = np.flatnonzero(kind == k)
        if len(rows) and callable(make):
            out[rows] = make(*(a[..., rows, :, :] for a in arguments))
    return out


def _turned(x: Pixels, y: Pixels, turn: Pixels) -> tuple[Pixels, Pixels]:
    """Coordinates turned by a share of the whole circle."""
    cos, sin = np.cos(2 * np.pi * turn), np.sin(2 * np.pi * turn)
    return x * cos + y * sin, y * cos - x * sin


def _disc(u: Pixels, v: Pixels) -> Pixels:
    return np.asarray(0.88 - np.hypot(u, v))


def _square(u: Pixels, v: Pixels) -> Pixels:
    return np.asarray(0.78 - np.maximum(np.abs(u), np.abs(v)))


def _triangle(u: Pixels, v: Pixels) -> Pixels:
    third = np.sqrt(0.75)
    return np.asarray(0.52 - np.maximum(v, np.maximum(third * u - v / 2, -third * u - v / 2)))


def _star(u: Pixels, v: Pixels) -> Pixels:
    """Five points: the radius of the outline swings between 0.45 and 1.1."""
    turn = np.arctan2(v, u) * 5 / (2 * np.pi)
    away = np.abs(turn % 1 - 0.5) * 2  # 1 at a point, 0 between two
    return np.asarray((0.45 + 0.65 * away**1.5 - np.hypot(u, v)) * 0.7)


def _ring(u: Pixels, v: Pixels) -> Pixels:
    return np.asarray(0.24 - np.abs(np.hypot(u, v) - 0.72))


def _cross(u: Pixels, v: Pixels) -> Pixels:
    a, b = np.abs(u), np.abs(v)
    return np.maximum(np.minimum(0.27 - a, 0.98 - b), np.minimum(0.98 - a, 0.27 - b))


def _soft(field: Pixels) -> Pixels:
    """The sign of a field, with a soft edge: 1 above 0, 0 below."""
    return np.asarray((field * 1.6 + 0.5).clip(0, 1))


def _plain(p: Pixels, q: Pixels) -> Pixels:
    return np.ones_like(p)


def _stripes(p: Pixels, q: Pixels) -> Pixels:
    return _soft(np.sin(2 * np.pi * p))


def _checks(p: Pixels, q: Pixels) -> Pixels:
    return _soft(np.sin(np.pi * 1.1 * p) * np.sin(np.pi * 1.1 * q) * 1.6)


def _dots(p: Pixels, q: Pixels) -> Pixels:
    """Dark dots on a square lattice."""
    return _soft((np.hypot(p * 0.9 % 1 - 0.5, q * 0.9 % 1 - 0.5) - 0.3) * 4)


def _sand(x: Pixels, y: Pixels, chance: Pixels) -> Pixels:
    """Dunes: bent bands."""
    return np.asarray(0.05 * np.sin(9 * y + 2.5 * np.sin(2 * x + 6 * chance[0])))


def _water(x: Pixels, y: Pixels, chance: Pixels) -> Pixels:
    """Ripples: two waves that cross."""
    a, b = 11 * y + 4 * (chance[0] - 0.5) * x, 6 * x + 5 * y + 6 * chance[1]
    return np.asarray(0.06 * np.sin(a) + 0.06 * np.sin(b))


def _grass(x: Pixels, y: Pixels, chance: Pixels) -> Pixels:
    """Blades: upright waves."""
    return np.asarray(0.07 * np.sin(14 * x + 2 * np.sin(3 * y + 6 * chance[0])) * np.sin(4 * y + 6 * chance[1]))


def _rock(x: Pixels, y: Pixels, chance: Pixels) -> Pixels:
    """Facets: two steps of brightness."""
    a, b = _turned(x, y, chance[0])[0], _turned(x, y, chance[1])[0]
    return np.asarray(0.06 * np.sign(np.sin(5 * a)) + 0.05 * np.sign(np.sin(4 * b + 2)), np.float32)


_SHAPES = (_disc, _square, _triangle, _star, _ring, _cross)
_PATTERNS = (_plain, _stripes, _checks, _dots)
_RELIEFS = (_sand, _water, _grass, _rock)
