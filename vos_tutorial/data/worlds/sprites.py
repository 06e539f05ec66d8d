"""The sprite world: textured, deforming objects with exact masks over a moving background.

A clip is drawn in two steps. :func:`describe` turns a seed into a :class:`Scene`: a few numbers per sprite and
frame (where, how large, how bent, which texture). :func:`render` turns scenes into pixels, batched, on any device.
Everything is a function of the seed and of time, so any subset of frames can be drawn, in any batch, with the
same bits: the pixel arithmetic is add, multiply, floor and bilinear look-up only, whose results do not depend on
how the work is split over threads (``sin`` over a tensor does, in its last bit).

Each attribute of DAVIS (Perazzi et al., CVPR 2016, table 1 and section 3.3) has a dial; see :data:`ATTRIBUTES`.
Coordinates: x right, y down, the frame spans [-1, 1] in both; sizes are half-extents in the same unit.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ...clip import Clip
from ...errors import TutorialError
from ...rng import Array, Rng, Stream
from ..batches import Stills

ATTRIBUTES = (
    "deformation",
    "scale_change",
    "fast_motion",
    "occlusion",
    "distractors",
    "appearance_change",
    "illumination",
    "out_of_view",
    "camera_shake",
    "multiple_objects",
)
Textures = Literal["procedural", "photos", "mixed"]
Split = Literal["train", "test"]

SPRITE = 128  # pixels a side of a stored texture or shape
LENGTH = 16  # frames of a standard clip
PHOTO_SHARE = 0.6  # of "mixed" textures


# ------------------------------------------------------------------------------------------------- banks


def _fractal_noise(rng: Rng, n: int, side: int, octaves: Sequence[int]) -> Tensor:
    """Sums of smooth random grids, coarse to fine: ``float32 [n, 3, side, side]`` around 0.5."""
    total = torch.zeros(n, 3, side, side)
    for i, cells in enumerate(octaves):
        grid = torch.from_numpy(rng.array(n, 3, cells + 1, cells + 1)).float() - 0.5
        total += F.interpolate(grid, (side, side), mode="bilinear", align_corners=True) * 0.75**i
    return total * 0.9 + 0.5


def _wave(x: Tensor) -> Tensor:
    """A sine drawn with parabolas, period 1, range [-1, 1]: the same bits on any number of threads."""
    p = 2 * (x - torch.floor(x))
    half = torch.floor(p)  # 0 in the first half of the period, 1 in the second
    q = p - half
    return 4 * q * (1 - q) * (1 - 2 * half)


def _patterns(rng: Rng, n: int, side: int) -> Tensor:
    """Two colours mixed by warped stripes, checks or spots: ``float32 [n, 3, side, side]`` in [0, 1]."""
    axis = torch.linspace(-1, 1, side)
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    warp = _fractal_noise(rng, n, side, (3, 6)) - 0.5
    out = torch.empty(n, 3, side, side)
    for i in range(n):
        angle, pitch = rng.uniform(0, np.pi), rng.uniform(1.2, 4.5)
        u = (x * float(np.cos(angle)) + y * float(np.sin(angle)) + rng.uniform(0.1, 0.8) * warp[i, 0]) * pitch
        v = (y * float(np.cos(angle)) - x * float(np.sin(angle)) + rng.uniform(0.1, 0.8) * warp[i, 1]) * pitch
        kind = i % 3
        field = _wave(u) if kind == 0 else _wave(u) * _wave(v) if kind == 1 else _wave(u) + _wave(v) - 0.4
        mix = (field * rng.uniform(1.5, 6) + 0.5).clamp(0, 1)
        a, b = (torch.from_numpy(rng.array(3, 1, 1)).float() for _ in range(2))
        out[i] = a * mix + b * (1 - mix) + 0.25 * (warp[i, 2] - 0.1)
    return out.clamp(0, 1)


PHOTOS = {
    "train": (
        "astronaut",
        "coffee",
        "rocket",
        "brick",
        "grass",
        "camera",
        "immunohistochemistry",
        "hubble_deep_field",
    ),
    "test": ("chelsea", "gravel", "coins", "retina", "page", "moon"),
}
CROPS = 8  # per photo


def _photo_crops(rng: Rng, split: Split, side: int) -> Tensor:
    """Random crops of the photos that ship inside scikit-image: ``float32 [n, 3, side, side]`` in [0, 1]."""
    from skimage import data

    out = []
    for name in PHOTOS[split]:
        photo = np.asarray(getattr(data, name)())
        photo = photo if photo.ndim == 3 else np.repeat(photo[..., None], 3, axis=2)
        whole = torch.from_numpy(np.array(photo[..., :3])).permute(2, 0, 1).float() / 255
        for _ in range(CROPS):
            cut = int(rng.uniform(0.3, 0.9) * min(whole.shape[1:]))
            top, left = rng.pick(whole.shape[1] - cut), rng.pick(whole.shape[2] - cut)
            crop = whole[None, :, top : top + cut, left : left + cut]
            crop = F.interpolate(crop, (side, side), mode="bilinear", antialias=True, align_corners=False)
            # Grey photos get a tint, colour photos another hue: channel order and gain are random too.
            gain = torch.from_numpy(0.65 + 0.5 * rng.array(3, 1, 1)).float()
            out.append((crop[0][np.argsort(rng.array(3))] * gain).clamp(0, 1))
    return torch.stack(out)


def _blob(rng: Rng, x: Array, y: Array) -> Array:
    """A star-shaped blob: how far inside its contour each point lies, about 1 at the centre, 0 on the contour."""
    angle, radius = np.arctan2(y, x), np.hypot(x, y)
    contour = np.full_like(angle, 0.72)
    for k in range(1, 7):
        contour += rng.uniform(0, 0.26 / k**0.9) * np.cos(k * angle + rng.uniform(0, 2 * np.pi))
    return np.clip(contour, 0.25, 0.95) - radius


def _figure(rng: Rng, x: Array, y: Array) -> Array:
    """A body with three to five limbs, all capsules: the field is positive inside their union."""
    field = 0.34 - np.hypot(x / rng.uniform(0.8, 1.6), y / rng.uniform(0.8, 1.6))
    start = rng.uniform(0, 2 * np.pi)
    for k in range(limbs := 3 + rng.pick(3)):
        a = start + 2 * np.pi * (k + rng.uniform(-0.3, 0.3)) / limbs
        length, width = rng.uniform(0.55, 0.82), rng.uniform(0.11, 0.2)
        along = np.clip(x * np.cos(a) + y * np.sin(a), 0, length)
        field = np.maximum(field, width - np.hypot(x - along * np.cos(a), y - along * np.sin(a)))
    return field


def _polygon(rng: Rng, x: Array, y: Array) -> Array:
    """A convex polygon with three to seven sides."""
    sides, start = 3 + rng.pick(5), rng.uniform(0, 2 * np.pi)
    field = np.full_like(x, 9.0)
    for k in range(sides):
        a = start + 2 * np.pi * (k + rng.uniform(-0.2, 0.2)) / sides
        field = np.minimum(field, rng.uniform(0.45, 0.75) - x * np.cos(a) - y * np.sin(a))
    return np.minimum(field, 0.95 - np.hypot(x, y))


@dataclass(frozen=True)
class Bank:
    """Everything sprites are made of.

    Attributes:
        textures: ``float32 [K, 3, S, S]`` in [0, 1]: procedural ones first, photos last.
        procedural: how many of the K are procedural.
        shapes: ``float32 [N, 1, S, S]``: height above the contour, positive inside, in half-extents.
    """

    textures: Tensor
    procedural: int
    shapes: Tensor

    def texture(self, rng: Rng, textures: Textures) -> int:
        """Draw a texture's row."""
        photos = textures == "photos" or (textures == "mixed" and rng.chance(PHOTO_SHARE))
        n = len(self.textures)
        return self.procedural + rng.pick(n - self.procedural) if photos else rng.pick(self.procedural)


@functools.lru_cache(maxsize=8)
def bank(split: Split = "train", side: int = SPRITE, device: str = "cpu") -> Bank:
    """The textures and shapes of a split; train and test share none.

    Args:
        split: ``"train"`` or ``"test"``.
        side: pixels a side, a divisor of 128; smaller banks are the large one, averaged, so that small sprites do
            not flicker.
        device: where the tensors live.
    """
    full, shrink = _full_bank(split), SPRITE // side
    return Bank(
        F.avg_pool2d(full.textures, shrink).to(device),
        full.procedural,
        F.avg_pool2d(full.shapes, shrink).to(device),
    )


@functools.lru_cache(maxsize=2)
def _full_bank(split: Split) -> Bank:
    """The bank at its full resolution, on the CPU."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # F.interpolate rounds differently when it is split over threads
    try:
        return _make_bank(split, SPRITE)
    finally:
        torch.set_num_threads(threads)


def _make_bank(split: Split, side: int) -> Bank:
    rng = Rng(20261123, ("train", "test").index(split))
    count = 96 if split == "train" else 48
    noise = _fractal_noise(rng, count // 2, side, (2, 5, 11, 23, 47))
    noise = (noise - noise.amin((2, 3), keepdim=True)) / (
        noise.amax((2, 3), keepdim=True) - noise.amin((2, 3), keepdim=True)
    )
    low, high = (torch.from_numpy(rng.array(count // 2, 3, 1, 1)).float() for _ in range(2))
    noise = noise * (high - low) + low
    photos = _photo_crops(rng, split, side)
    y, x = np.meshgrid(np.linspace(-1, 1, side), np.linspace(-1, 1, side), indexing="ij")
    makers = (_blob, _figure, _polygon, _blob)
    fields = [makers[i % 4](rng, x, y) for i in range(count)]
    return Bank(
        torch.cat([noise, _patterns(rng, count // 2, side), photos]),
        count // 2 * 2,
        torch.from_numpy(np.stack(fields)).float()[:, None],
    )


# ------------------------------------------------------------------------------------------------ scenes


@dataclass(frozen=True)
class Patch:
    """A second cloth on one side of a line through a sprite: most real objects are made of several parts."""

    texture: int  # row of Bank.textures
    cut: Array  # as a sprite's, as the next
    mix: Array
    line: tuple[float, float, float]  # worn where a*u + b*v > c, in the sprite's own half-extents


@dataclass
class Sprite:
    """One object, look-alike or occluder over time; arrays are ``[T]`` unless they say otherwise."""

    shape: int  # row of Bank.shapes; -1 is a bar that covers the whole height
    texture: int  # row of Bank.textures at the start ...
    texture_end: int  # ... and at the end of the cross-fade
    fade: Array  # 0 = texture, 1 = texture_end
    x: Array
    y: Array
    size: Array  # half-extent
    angle: Array  # radians
    aspect: float  # width over height
    bend: Array  # amplitude of the two waves that bend the sprite, in half-extents
    bend_pitch: float  # waves per half-extent
    bend_phase: Array
    object_id: int  # 0: not annotated (look-alikes, occluders)
    cut: Array  # [4]: turn (radians), zoom and place of the piece of the texture that it wears
    mix: Array  # [3, 4]: how its colours are made of the texture's, and an offset
    patches: tuple[Patch, ...] = ()

    MOVING: ClassVar[tuple[str, ...]] = ("fade", "x", "y", "size", "angle", "bend", "bend_phase")


@dataclass
class Scene:
    """One clip before it is drawn: sprites from back to front, and the world they stand in."""

    sprites: list[Sprite]
    background: int
    mix: Array  # [3, 4], as a sprite's
    view_x: Array  # [T], where the camera looks in the background
    view_y: Array
    view_zoom: float
    gain: Array  # [T], brightness
    slope: Array  # [T], brightness gradient from left to right

    def at(self, times: Sequence[int]) -> Scene:
        """The same scene at some of its frames.

        Raises:
            TutorialError: if there are none, or one lies outside the clip.
        """
        rows = np.asarray(times, dtype=np.int64)
        if not len(rows) or rows.min() < 0 or rows.max() >= len(self.gain):
            raise TutorialError(f"frames {list(times)} were requested; give at least one of 0..{len(self.gain) - 1}.")
        sprites = [replace(s, **{k: getattr(s, k)[rows] for k in Sprite.MOVING}) for s in self.sprites]
        mine = {k: getattr(self, k)[rows] for k in ("view_x", "view_y", "gain", "slope")}
        return replace(self, sprites=sprites, **mine)

    def closer(self, zoom: float, x: float, y: float) -> Scene:
        """The same scene through a longer lens: the point (x, y) moves to the middle, all else away from it.

        Args:
            zoom: factor by which everything grows; below 1 it shrinks.
            x: in frame half-extents, as the next.
            y: see there.
        """
        sprites = [replace(s, x=(s.x - x) * zoom, y=(s.y - y) * zoom, size=s.size * zoom) for s in self.sprites]
        return replace(
            self,
            sprites=sprites,
            view_x=self.view_x + x * self.view_zoom,
            view_y=self.view_y + y * self.view_zoom,
            view_zoom=self.view_zoom / zoom,
        )

    def patched(self, rng: Rng, textures: Textures = "mixed", split: Split = "train") -> Scene:
        """The same scene with one or two more cloths on each sprite; look-alikes of a patched sprite differ from it.

        Args:
            rng: where chance comes from.
            textures: as :func:`describe`'s, as the next.
            split: see there.
        """
        stock, sprites = _full_bank(split), []
        for sprite in self.sprites:
            patches = []
            for _ in range(1 + rng.pick(2)):
                angle = rng.uniform(0, 2 * np.pi)
                line = (float(np.cos(angle)), float(np.sin(angle)), rng.uniform(-0.1, 0.45))
                patches.append(Patch(stock.texture(rng, textures), _cut(rng), _mix(rng), line))
            sprites.append(replace(sprite, patches=tuple(patches)))
        return replace(self, sprites=sprites)

    def panned(self, speed_x: float, speed_y: float) -> Scene:
        """The same scene from a camera that follows its objects: the background slides past.

        Args:
            speed_x: of the background, in frame half-extents from one frame of this scene to the next.
            speed_y: see there.
        """
        t = np.arange(len(self.gain)) - (len(self.gain) - 1) / 2
        x, y = self.view_x + speed_x * self.view_zoom * t, self.view_y + speed_y * self.view_zoom * t
        return replace(self, view_x=x, view_y=y)

    def cluttered(self, rng: Rng, count: int, textures: Textures = "mixed", split: Split = "train") -> Scene:
        """The same scene with things standing around: sprites at the back that move as the background does.

        Args:
            rng: where chance comes from.
            count: how many.
            textures: as :func:`describe`'s, as the next.
            split: see there.
        """
        stock, t = _full_bank(split), np.arange(len(self.gain), dtype=np.float64)
        things = []
        for _ in range(count):
            thing = _sprite(rng, stock, t, frozenset(), textures, many=True)
            x, y = rng.uniform(-1.2, 1.2), rng.uniform(-1.2, 1.2)
            things.append(
                replace(
                    thing,
                    object_id=0,
                    x=x - (self.view_x - self.view_x.mean()) / self.view_zoom,
                    y=y - (self.view_y - self.view_y.mean()) / self.view_zoom,
                    size=np.full_like(t, rng.uniform(0.2, 0.7)),
                    angle=np.full_like(t, thing.angle[0]),
                    bend_phase=np.full_like(t, thing.bend_phase[0]),
                )
            )
        return replace(self, sprites=[*things, *self.sprites])


def _cut(rng: Rng) -> Array:
    """A random piece of a texture: any turn, between half and all of it."""
    zoom = rng.uniform(0.5, 1.0)
    x, y = ((2 * rng.array(2) - 1) * (1 - zoom)).tolist()
    return np.array([rng.uniform(0, 2 * np.pi), zoom, x, y])


def _mix(rng: Rng) -> Array:
    """A random recolouring: channels change places, gains vary, one in four is a negative."""
    gains = 0.7 + 0.5 * rng.array(3)
    matrix = np.diag(gains)[np.argsort(rng.array(3))]
    matrix = 0.85 * matrix + 0.15 * matrix.mean(axis=0)
    offset = 0.2 * rng.array(3) - 0.1
    if rng.chance(0.25):
        matrix, offset = -matrix, 1 + offset
    return np.concatenate([matrix, offset[:, None]], axis=1)


def _path(rng: Rng, times: Array, speed: float, room: float) -> tuple[Array, Array]:
    """A smooth path inside [-room, room]: ``speed`` is its largest step per frame in frame half-extents."""
    out = []
    for _ in range(2):
        reach = rng.uniform(0.35, 1.0) * room
        rate = speed / max(reach, 1e-3)
        centre = rng.uniform(-1, 1) * (room - reach)
        out.append(centre + reach * np.sin(rng.uniform(0, 2 * np.pi) + rate * times * rng.uniform(0.5, 1.0)))
    return out[0], out[1]


def _sprite(rng: Rng, stock: Bank, times: Array, dials: frozenset[str], textures: Textures, many: bool) -> Sprite:
    """An object with every dial that concerns a single sprite."""
    span = max(float(times.max()), 1.0)
    size = rng.uniform(0.38, 0.54) if many else rng.uniform(0.46, 0.74)
    sizes = size * (1 + 0.06 * np.sin(0.35 * times + rng.uniform(0, 6.28)))
    if "scale_change" in dials:
        ratio = rng.uniform(1.9, 2.5) ** rng.sign()  # from first to last frame, growing or shrinking
        size = size * (0.62 if ratio > 1 else 1.0)
        sizes = size * ratio ** (times / span)
    speed = size * (rng.uniform(0.5, 0.9) if "fast_motion" in dials else rng.uniform(0.12, 0.24))
    x, y = _path(rng, times, speed, max(0.1, 0.95 - 0.8 * size))
    if "out_of_view" in dials:  # leaves to one side in the middle of the clip and comes back
        x = x + rng.sign() * 3.0 * np.clip(np.sin(np.pi * times / span) * 2.6 - 1.6, 0, 1)
    bend = rng.uniform(0.10, 0.18) if "deformation" in dials else rng.uniform(0.0, 0.05)
    rate = rng.uniform(0.03, 0.06) if "deformation" in dials else rng.uniform(0.0, 0.02)
    texture = stock.texture(rng, textures)
    change = "appearance_change" in dials
    texture_end = stock.texture(rng, textures) if change else texture
    return Sprite(
        shape=rng.pick(len(stock.shapes)),
        texture=texture,
        texture_end=texture_end,
        fade=np.clip((times / span - 0.15) / 0.7, 0, 1) * change,
        x=x,
        y=y,
        size=sizes,
        angle=rng.uniform(0, 6.28) + times * rng.sign() * (rng.uniform(0.05, 0.10) if bend > 0.09 else 0.02),
        aspect=rng.uniform(0.7, 1.4),
        bend=bend * np.ones_like(times),
        bend_pitch=rng.uniform(0.4, 0.9),
        bend_phase=rng.uniform(0, 1) + rate * times,
        object_id=1,
        cut=_cut(rng),
        mix=_mix(rng),
    )


def _look_alike(rng: Rng, stock: Bank, times: Array, model: Sprite, textures: Textures) -> Sprite:
    """The same texture, slightly recoloured, on another contour, crossing close to its model."""
    other = _sprite(rng, stock, times, frozenset(), textures, many=True)
    other.texture, other.texture_end, other.fade = model.texture, model.texture_end, model.fade
    other.cut = model.cut
    other.mix = model.mix * (1 + 0.24 * (rng.array(3, 1) - 0.5))
    other.size = model.size * rng.uniform(0.8, 1.1)
    meet, across = rng.uniform(4, 11), rng.uniform(0, 2 * np.pi)
    gap = (times - meet) * rng.uniform(0.07, 0.13)
    side = 1.25 * model.size
    other.x = np.clip(model.x + np.cos(across) * gap - np.sin(across) * side, -0.95, 0.95)
    other.y = np.clip(model.y + np.sin(across) * gap + np.cos(across) * side, -0.95, 0.95)
    other.object_id = 0
    return other


HIDDEN = 3  # frames for which an occluder covers its victim completely, at the least


def _occluder(rng: Rng, stock: Bank, times: Array, victim: Sprite, textures: Textures) -> Sprite:
    """A wall that sweeps over ``victim``: wide enough to hide all of it for :data:`HIDDEN` frames or more."""
    meet = rng.uniform(5.0, 8.0)
    extent = float(victim.size.max()) * max(victim.aspect, 1 / victim.aspect) ** 0.5 * 1.15
    speed = extent * rng.uniform(0.45, 0.6)
    wall = extent + speed * HIDDEN / 2
    drift = np.clip(times - meet, -HIDDEN, HIDDEN)  # while it hides its victim the wall keeps up with it
    sprite = _sprite(rng, stock, times, frozenset(), textures, many=False)
    sprite.shape, sprite.object_id = -1, 0
    sprite.x = np.interp(meet + drift, times, victim.x) + rng.sign() * speed * (times - meet)
    sprite.y, sprite.size = np.zeros_like(times), wall * np.ones_like(times)
    sprite.angle, sprite.aspect, sprite.bend = np.zeros_like(times), 1.0, np.zeros_like(times)
    return sprite


def describe(
    seed: int,
    length: int = LENGTH,
    attributes: Sequence[str] = (),
    textures: Textures = "mixed",
    split: Split = "train",
) -> Scene:
    """Turn a seed into the description of a clip; :meth:`Scene.at` picks frames out of it.

    Args:
        seed: 0 <= seed < 2**63.
        length: frames in the clip. What happens once in a clip (growing, fading, leaving and coming back) is spread
            over it, so that a longer clip is another clip and not the same one continued.
        attributes: names from :data:`ATTRIBUTES`.
        textures: ``"procedural"``, ``"photos"`` (crops of scikit-image's pictures) or ``"mixed"``.
        split: which half of the bank; train and test share neither textures nor shapes.

    Raises:
        TutorialError: on an unknown attribute, a negative seed, or a length below 1.
    """
    unknown = sorted(set(attributes) - set(ATTRIBUTES))
    if unknown:
        raise TutorialError(f"there is no attribute {unknown[0]!r}; choose from {', '.join(ATTRIBUTES)}.")
    if seed < 0:
        raise TutorialError(f"the seed is {seed}; it must be 0 or larger.")
    if length < 1:
        raise TutorialError(f"a clip of {length} frames cannot be drawn; ask for at least 1.")
    dials, t = frozenset(attributes), np.arange(length, dtype=np.float64)
    rng, stock = Rng(seed, Stream.SCENE), _full_bank(split)
    many = "multiple_objects" in dials
    objects = [_sprite(rng, stock, t, dials, textures, many) for _ in range(2 + rng.pick(2) if many else 1)]
    if many:  # start apart: each object keeps its own corner of a ring, so that all are visible in frame 0
        turn = rng.uniform(0, 2 * np.pi)
        for k, sprite in enumerate(objects):
            a = turn + 2 * np.pi * k / len(objects)
            sprite.x = np.clip(sprite.x + 0.5 * np.cos(a) - sprite.x[0] * 0.6, -0.9, 0.9)
            sprite.y = np.clip(sprite.y + 0.5 * np.sin(a) - sprite.y[0] * 0.6, -0.9, 0.9)
            sprite.object_id = k + 1
    sprites = list(objects)
    if "distractors" in dials:
        sprites = [_look_alike(rng, stock, t, objects[0], textures), *sprites]
    if "occlusion" in dials:
        sprites.append(_occluder(rng, stock, t, objects[0], textures))
    view_x, view_y = _path(rng, t, 0.02, 0.3)
    if "camera_shake" in dials:  # the whole picture jumps, background and sprites alike
        jolt = Rng(seed, Stream.SHAKE).array(length, 2).T * 0.34 - 0.17
        view_x, view_y = view_x - jolt[0], view_y - jolt[1]
        for sprite in sprites:
            sprite.x, sprite.y = sprite.x + jolt[0], sprite.y + jolt[1]
    lit = "illumination" in dials
    period, phase = rng.uniform(9, 15), rng.uniform(0, 1)
    swing, late = (np.sin(2 * np.pi * (now / period + phase)) for now in (t, t - 1))
    return Scene(
        sprites=sprites,
        background=stock.texture(rng, textures),
        mix=_mix(rng),
        view_x=view_x,
        view_y=view_y,
        view_zoom=rng.uniform(0.55, 0.8),
        gain=1 + (0.45 if lit else 0.03) * swing,
        slope=0.35 * late if lit else 0.05 * swing,
    )


# --------------------------------------------------------------------------------------------- rendering


def _stack(values: Sequence[Array], device: torch.device) -> Tensor:
    """Python numbers of many sprites to ``float32 [N, T, 1, 1]``."""
    return torch.from_numpy(np.stack(values)).float().to(device)[..., None, None]


def _grid(x: Tensor, y: Tensor) -> Tensor:
    """``[..., 2]`` for ``grid_sample``; two copies take a fifth of the time of ``torch.stack`` on the last axis."""
    grid = torch.empty(*x.shape, 2, device=x.device)
    grid[..., 0], grid[..., 1] = x, y
    return grid


def _recolour(textures: Tensor, mixes: Sequence[Array]) -> Tensor:
    """Apply each sprite's colour mix to its texture ``[N, 3, S, S]``, written out so that the bits never vary."""
    m = torch.from_numpy(np.stack(mixes)).float().to(textures.device)[..., None, None]  # [N, 3, 4, 1, 1]
    r, g, b = textures[:, None].unbind(2)
    return (m[:, :, 0] * r + m[:, :, 1] * g + m[:, :, 2] * b + m[:, :, 3]).clamp(0, 1)


def _cloth(stock: Bank, rows: Sequence[int], sprites: Sequence[Sprite | Patch]) -> Tensor:
    """The pieces of texture that N sprites or patches wear, turned, zoomed and recoloured: ``[N, 3, S, S]``."""
    device, side = stock.textures.device, stock.textures.shape[-1]
    turn, zoom, x, y = np.stack([s.cut for s in sprites]).T
    cos, sin = zoom * np.cos(turn), zoom * np.sin(turn)
    axis = (torch.arange(side, device=device, dtype=torch.float32) * 2 + 1) / side - 1
    across, down = axis.reshape(1, 1, -1), axis.reshape(1, -1, 1)
    a, b, c, d = (torch.from_numpy(k).float().to(device)[:, None, None] for k in (cos, sin, x, y))
    grid = _grid(a * across + b * down + c, a * down - b * across + d)
    whole = stock.textures[torch.tensor(rows, device=device)]
    piece = F.grid_sample(whole, grid, mode="bilinear", padding_mode="reflection", align_corners=False)
    return _recolour(piece, [s.mix for s in sprites])


def _draw(stock: Bank, sprites: Sequence[Sprite], x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Look up N sprites at every pixel.

    Args:
        stock: textures and shapes.
        sprites: N of them.
        x: ``float [1, 1, 1, W]`` pixel centres; ``y``: ``float [1, 1, H, 1]``.

    Returns:
        colour ``float [N, T, 3, H, W]`` and height above the contour ``float [N, T, H, W]`` in pixels.
    """
    device = x.device
    angle = np.stack([s.angle for s in sprites])
    size, aspect = np.stack([s.size for s in sprites]), np.array([s.aspect for s in sprites])[:, None] ** 0.5
    dx, dy = x - _stack([s.x for s in sprites], device), y - _stack([s.y for s in sprites], device)
    cos, sin = np.cos(angle), np.sin(angle)
    a, b, c, d = (
        _stack(list(m), device)
        for m in (cos / size / aspect, sin / size / aspect, -sin / size * aspect, cos / size * aspect)
    )
    u, v = a * dx + b * dy, c * dx + d * dy  # [N, T, H, W], sprite coordinates: its square is [-1, 1]
    bend, phase = _stack([s.bend for s in sprites], device), _stack([s.bend_phase for s in sprites], device)
    pitch = torch.tensor([s.bend_pitch for s in sprites], device=device).reshape(-1, 1, 1, 1)
    u, v = u + bend * _wave(pitch * v + phase), v + bend * _wave(pitch * u + phase + 0.3)

    n, t, h, w = u.shape
    grid = _grid(u, v).reshape(n, t * h, w, 2)
    shape = torch.tensor([max(s.shape, 0) for s in sprites], device=device)
    atlas = torch.cat([_cloth(stock, [s.texture for s in sprites], sprites), stock.shapes[shape]], dim=1)
    drawn = F.grid_sample(atlas, grid, mode="bilinear", padding_mode="border", align_corners=False)
    drawn = drawn.reshape(n, 4, t, h, w).transpose(1, 2)
    colour, height = drawn[:, :, :3], drawn[:, :, 3]
    for i, sprite in enumerate(sprites):
        if sprite.texture_end != sprite.texture:
            end = _cloth(stock, [sprite.texture_end], [sprite])
            end = F.grid_sample(end, grid[i : i + 1], mode="bilinear", padding_mode="border", align_corners=False)
            fade = torch.from_numpy(sprite.fade).float().to(device).reshape(t, 1, 1, 1)
            colour[i] = colour[i] * (1 - fade) + end.reshape(3, t, h, w).transpose(0, 1) * fade
        for patch in sprite.patches:
            piece = F.grid_sample(
                _cloth(stock, [patch.texture], [patch]),
                grid[i : i + 1],
                mode="bilinear",
                padding_mode="border",
                align_corners=False,
            )
            across, down, edge = patch.line
            beyond = (across * u[i] + down * v[i] > edge)[:, None]
            colour[i] = torch.where(beyond, piece.reshape(3, t, h, w).transpose(0, 1), colour[i])
        if sprite.shape < 0:  # a wall: as high as the frame, two half-extents wide
            height[i] = 1 - u[i].abs()
    # Outside its square a sprite is not there, whatever the border texel says.
    has_square = torch.tensor([s.shape >= 0 for s in sprites], device=device).reshape(-1, 1, 1, 1)
    height.masked_fill_((torch.maximum(u.abs(), v.abs()) >= 1) & has_square, -1.0)
    pixels = _stack([s.size for s in sprites], device) * (w / 2)
    return colour, height * pixels


def render(
    scenes: Sequence[Scene], size: int, split: Split = "train", device: torch.device | str = "cpu"
) -> tuple[Tensor, Tensor]:
    """Draw scenes with the same number of frames.

    Args:
        scenes: B descriptions from :func:`describe` with the same ``split``.
        size: H = W in pixels.
        split: which bank.
        device: where to draw.

    Returns:
        frames ``uint8 [B, T, 3, H, W]`` and ids ``uint8 [B, T, H, W]``. Same seed, same bits, whatever B or the
        number of threads (a GPU may differ from the CPU in the last bit).
    """
    device = torch.device(device)
    stock = bank(split, SPRITE if size > 128 else SPRITE // 2, str(device))
    axis = (torch.arange(size, device=device, dtype=torch.float32) * 2 + 1) / size - 1
    x, y = axis.reshape(1, 1, 1, -1), axis.reshape(1, 1, -1, 1)
    zoom = torch.tensor([s.view_zoom for s in scenes], device=device, dtype=torch.float32).reshape(-1, 1, 1, 1)
    u = x * zoom + _stack([s.view_x for s in scenes], device)
    v = y * zoom + _stack([s.view_y for s in scenes], device)
    b, t = u.shape[:2]
    grid = _grid(*torch.broadcast_tensors(u, v)).reshape(b, t * size, size, 2)
    floor = stock.textures[torch.tensor([s.background for s in scenes], device=device)]
    floor = _recolour(floor, [s.mix for s in scenes])
    frames = F.grid_sample(floor, grid, mode="bilinear", padding_mode="reflection", align_corners=False)
    frames = frames.reshape(b, 3, t, size, size).transpose(1, 2).contiguous()
    ids = torch.zeros(b, t, size, size, dtype=torch.uint8, device=device)

    for depth in range(max(len(s.sprites) for s in scenes)):
        rows = [i for i, s in enumerate(scenes) if depth < len(s.sprites)]
        sprites = [scenes[i].sprites[depth] for i in rows]
        colour, height = _draw(stock, sprites, x, y)
        alpha = (height * 0.7 + 0.5).clamp(0, 1)[:, :, None]  # an edge about a pixel and a half wide
        inside = height > 0
        for k, row in enumerate(rows):  # in place: indexing with a list would copy all frames twice
            frames[row].lerp_(colour[k], alpha[k])
            ids[row].masked_fill_(inside[k], sprites[k].object_id)

    light = _stack([s.gain for s in scenes], device) + _stack([s.slope for s in scenes], device) * x
    frames = (frames * light[:, :, None]).clamp(0, 1)
    return (frames * 255 + 0.5).to(torch.uint8), ids


# -------------------------------------------------------------------------------------- clips and stills


def make_batch(
    seeds: Sequence[int],
    times: Sequence[int],
    *,
    length: int = LENGTH,
    size: int = 96,
    attributes: Sequence[Sequence[str]] | None = None,
    textures: Textures = "mixed",
    split: Split = "train",
    device: torch.device | str = "cpu",
) -> tuple[Tensor, Tensor]:
    """B clips at chosen times: frames ``uint8 [B, T, 3, H, W]`` and ids ``uint8 [B, T, H, W]``.

    ``attributes`` holds one sequence of names per seed; none at all means plain clips.
    Sample i depends on ``seeds[i]`` (and its attributes) only.
    """
    dials = attributes if attributes is not None else [()] * len(seeds)
    scenes = [describe(s, length, d, textures, split).at(times) for s, d in zip(seeds, dials, strict=True)]
    return render(scenes, size, split, device)


def make_clip(
    seed: int,
    *,
    size: int = 96,
    length: int = 16,
    attributes: Sequence[str] = (),
    textures: Textures = "mixed",
    split: Split = "train",
) -> Clip:
    """One clip of ``length`` frames, ``size`` pixels a side, with the given attributes.

    Raises:
        TutorialError: on an unknown attribute, or a size or length below 1.
    """
    if size < 1 or length < 1:
        raise TutorialError(f"a clip of size {size} and length {length} cannot be drawn; both must be at least 1.")
    frames, ids = render([describe(seed, length, attributes, textures, split)], size, split)
    tags = tuple(sorted(attributes))
    return Clip(frames[0], ids[0], name=f"{'+'.join(tags) or 'clean'}-{seed}", attributes=tags)


class SyntheticStills:
    """Endless labelled pictures: a random moment of a random scene, one object of it as the target.

    Other objects and look-alikes stay in the picture, so that only a guide can tell which one is meant.
    """

    SMALLEST = 0.03  # share of the frame that the target shows at the least

    def __init__(
        self, textures: Textures = "mixed", split: Split = "train", device: torch.device | str = "cpu"
    ) -> None:
        self.textures, self.split, self.device = textures, split, device

    def _moment(self, rng: Rng) -> Scene:
        dials = [a for a, p in STILL_DIALS.items() if rng.chance(p)]
        scene = describe(rng.pick(2**50), LENGTH, dials, self.textures, self.split)
        return scene.at([rng.pick(LENGTH)])

    def batch(self, seeds: Sequence[int], size: int) -> Stills:
        """Pictures ``float32 [B, 3, H, W]`` in [0, 1], masks ``bool [B, H, W]``; picture i depends on seed i only."""
        rngs = [Rng(seed, Stream.STILL) for seed in seeds]
        frames, ids = render([self._moment(rng) for rng in rngs], size, self.split, self.device)
        images, masks = frames[:, 0], torch.zeros_like(ids[:, 0], dtype=torch.bool)
        for i, rng in enumerate(rngs):
            while True:  # draw again while nothing is large enough to be pointed at
                areas = torch.bincount(ids[i, 0].flatten(), minlength=8)[1:8]
                large = [k + 1 for k in range(7) if areas[k] >= self.SMALLEST * size * size]
                if large:
                    break
                again, again_ids = render([self._moment(rng)], size, self.split, self.device)
                images[i], ids[i] = again[0, 0], again_ids[0]
            masks[i] = ids[i, 0] == large[rng.pick(len(large))]
        return Stills(images.float() / 255, masks)


STILL_DIALS = {
    "multiple_objects": 0.45,
    "distractors": 0.35,
    "deformation": 0.5,
    "illumination": 0.3,
    "occlusion": 0.08,
    "scale_change": 0.3,
}


# ---------------------------------------------------------------------------------------------- benchmark

BENCHMARK_VERSION = 1
CONDITIONS: dict[str, tuple[str, ...]] = {
    "clean": (),
    "deformation+scale": ("deformation", "scale_change"),
    **{a: (a,) for a in ATTRIBUTES if a not in ("deformation", "scale_change")},
}


def benchmark(per_condition: int = 8, conditions: Sequence[str] | None = None, size: int = 96) -> Iterator[Clip]:
    """The fixed test clips, one condition after the other: held-out seeds, textures and shapes; 16 frames each.

    Args:
        per_condition: how many clips of each; the full benchmark has 8.
        conditions: names from :data:`CONDITIONS`; all of them by default.
        size: pixels a side. Scores are comparable at one size only.

    Yields:
        Clips named ``<condition>-<number>`` with the condition as attribute; frame 0 shows every object.

    Raises:
        TutorialError: on an unknown condition.
    """
    for condition in conditions if conditions is not None else CONDITIONS:
        if condition not in CONDITIONS:
            raise TutorialError(f"there is no condition {condition!r}; choose from {', '.join(CONDITIONS)}.")
        number = seed = 0
        while number < per_condition:
            clip = make_clip(
                BENCHMARK_VERSION * 1_000_003 + seed, size=size, attributes=CONDITIONS[condition], split="test"
            )
            seed += 1
            areas = torch.bincount(clip.masks[0].flatten(), minlength=256)[list(clip.objects)]
            if not len(areas) or float(areas.min()) < 0.02 * size * size:
                continue  # an object that frame 0 hides cannot be given
            yield Clip(clip.frames, clip.masks, f"{condition}-{number}", (condition,))
            number += 1
