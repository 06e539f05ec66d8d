"""Video out of photographs: cut-outs that move smoothly over panned pictures, and are drawn as a camera would.

The papers learn from real stills first. Warped at random (see :mod:`~vos_tutorial.data.sources.simulated`) a still
jumps from frame to frame; here it *moves*: each thing follows a line plus a slow sine in place, size and angle, it
bends, turns out of the picture's plane, passes behind others, throws a shadow, and is smeared when it is fast.

Sample ``i`` of a batch depends on ``seeds[i]`` alone.
"""

from __future__ import annotations

import copy
import io
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from ...clip import VOID, object_ids, read_frame, read_mask
from ...errors import TutorialError
from ...geometry import boxes, identity_grid
from ...rng import Array, Rng, Stream
from ..batches import Clips, ClipSource, Stills, check_probability, check_request, draw_times, draw_until_shown
from .generated import blurred, lifelike
from .simulated import SimulatedClips
from .stills import FolderStills

CANVAS = 192  # a cut-out is kept as a square picture of so many pixels ...
FILLS = 0.9  # ... of which it fills so much
PHOTO = 240  # shorter side of a photograph that is kept
SMALLEST = 0.008  # share of frame 0 that an annotated object shows at the least
LARGE = 0.1  # share of the picture from which on an object may be cut by the picture's border
WINDOW = 24  # moments of the motion from which a clip's frames are taken
CALM = 0.3  # how wild the cut-outs of "calm photos" and "blended photos" are
ALIKE = 0.6  # share of things in "blended photos" whose colours come close to what is behind them

Photos = Literal["photos", "calm photos", "blended photos"]
"""What the stages of a recipe call the mixtures of :func:`photo_sources`."""

# ------------------------------------------------------------------------------------------- pictures with alpha


def alpha_cutouts(folder: str | os.PathLike[str]) -> list[Tensor]:
    """All pictures with alpha (``.png``) of a folder, as canvases ``uint8 [4, CANVAS, CANVAS]``.

    Raises:
        TutorialError: if the folder is missing or holds no ``.png``, or one is broken, without alpha or empty.
    """
    base = Path(folder)
    paths = sorted(base.glob("*.png")) if base.is_dir() else []
    if not paths:
        raise TutorialError(f"{base} holds no cut-out; give a folder with pictures that have alpha (NAME.png).")
    found = []
    for path in paths:
        try:
            with Image.open(path) as picture:
                transparent = "A" in picture.getbands() or "transparency" in picture.info
                pixels = torch.from_numpy(np.array(picture.convert("RGBA"))).permute(2, 0, 1)  # [4, h, w]
        except (OSError, SyntaxError, ValueError) as error:
            raise TutorialError(f"{path} cannot be read ({error}); replace or remove it.") from None
        if not transparent or bool((pixels[3] == 255).all()):
            raise TutorialError(
                f"{path} has no alpha, so nothing says where its object is; cut it out, or remove it."
            )
        if not bool((pixels[3] > 127).any()):
            raise TutorialError(f"{path} is transparent everywhere; remove it.")
        found.append(canvas(pixels))
    return found


def masked_cutouts(stills: FolderStills) -> tuple[list[Tensor], list[Tensor]]:
    """The objects of pictures with masks, as canvases, and the pictures themselves ``uint8 [3, h, w]``.

    An object that the picture's border cuts is left out, unless it is large.

    Raises:
        TutorialError: if a file is broken, or a mask shows no object.
    """
    objects, photos = [], []
    for picture, mask_path in stills.files:
        image, mask = read_frame(picture), read_mask(mask_path)
        ids = object_ids(mask)
        if not ids:
            raise TutorialError(f"mask {mask_path} shows no object; remove it and its picture.")
        for i in ids:
            one = mask == i
            top, left, bottom, right = boxes(one[None])[0].tolist()
            whole = top > 0 and left > 0 and bottom < one.shape[0] - 1 and right < one.shape[1] - 1
            if whole or float(one.float().mean()) >= LARGE:
                soft = F.avg_pool2d(one[None, None].float(), 3, 1, 1)[0]  # [1, H, W]: no outline is a staircase
                objects.append(canvas(torch.cat([image, (soft * 255).to(torch.uint8)])))
        ratio = PHOTO / min(image.shape[1:])
        photos.append((_resize(image.float(), ratio)).round().clamp(0, 255).to(torch.uint8))
    return objects, photos


def _resize(x: Tensor, ratio: float) -> Tensor:
    size = [max(1, round(s * ratio)) for s in x.shape[1:]]
    return F.interpolate(x[None], size, mode="bilinear", antialias=True, align_corners=False)[0]


def canvas(rgba: Tensor) -> Tensor:
    """A cut-out ``uint8 [4, h, w]``, cropped and centred on a transparent square, its colours times its alpha."""
    top, left, bottom, right = boxes((rgba[3] > 127)[None])[0].tolist()
    crop = rgba[:, top : bottom + 1, left : right + 1].float()
    crop[:3] *= crop[3:] / 255
    small = _resize(crop, FILLS * CANVAS / max(crop.shape[1:])).round().clamp(0, 255).to(torch.uint8)
    above, before = (CANVAS - small.shape[1]) // 2, (CANVAS - small.shape[2]) // 2
    return F.pad(
        small, (before, CANVAS - small.shape[2] - before, above, CANVAS - small.shape[1] - above)
    )  # [4, CANVAS, CANVAS]


# --------------------------------------------------------------------------------------------------------- motion


def smooth(rng: Rng, t: Array, speed: float, swing: float) -> Array:
    """A line plus a slow sine, 0 at the first moment: ``[T]``.

    Args:
        rng: where chance comes from.
        t: ``[T]`` moments, in frames.
        speed: largest slope of the line, a frame.
        swing: largest amplitude of the sine.
    """
    phase, rate = rng.uniform(0, 2 * np.pi), 2 * np.pi / rng.uniform(16, 60)
    t = t - t[0]
    line = speed * rng.uniform(-1, 1) * t
    return line + swing * rng.uniform(-1, 1) * (np.sin(rate * t + phase) - np.sin(phase))


def bounce(x: Array) -> Array:
    """Fold the line onto [-1, 1], as a ball between two walls."""
    return np.abs((x - 1) % 4 - 2) - 1


@dataclass
class Motion:
    """Where a cut-out is in T frames; all in units in which frame and canvas span [-1, 1]."""

    place: Array
    """``[T, 2]`` (x, y) of its centre."""
    zoom: Array
    """``[T, 2]`` along its own axes: out-of-plane turns squeeze one of them."""
    angle: Array
    """``[T]`` radians."""
    bend: Array
    """``[T, 4, 4, 2]``: a lattice over the canvas, how far off each point looks."""


@dataclass
class Layer:
    """One cut-out of a clip, ready to be drawn."""

    picture: Tensor
    """``float32 [4, S, S]`` in [0, 1], colours times alpha."""
    object_id: int
    """0: not annotated."""
    motion: Motion
    shadow: float = 0.0
    """How dark its shadow is, 0..1."""
    shutter: float = 0.0
    """Share of the time between two frames during which the shutter is open."""
    blend: float = 0.0
    """How far its mean colour goes to that of what it covers in the first frame, 0..1."""
    shadow_shift: Array = field(default_factory=lambda: np.zeros(2))
    """(x, y), as a share of the frame."""


def move(rng: Rng, t: Array, area: float, fills: float, fast: bool, wild: float = 1.0) -> Motion:
    """Draw how a thing moves.

    Args:
        rng: where chance comes from.
        t: ``[T]`` moments, in frames.
        area: the share of the first frame that it shows.
        fills: the share of its canvas that it fills.
        fast: whether it is.
        wild: scales how probable unusual things are, and how strongly it is bent and stretched.
    """
    lying, turning = rng.chance(0.1 * wild), rng.chance(0.35 * wild)
    spinning, soft = rng.chance(0.2 * wild), rng.chance(0.3 * wild)
    speed = rng.uniform(0.06, 0.2) if fast else 0.06 * rng.uniform(0, 1)
    start = rng.array(2) * 1.5 - 0.75
    path = np.stack([start[i] + smooth(rng, t, speed, 0.25) for i in range(2)], 1)  # [T, 2]
    if not rng.chance(0.15):  # else it may leave the picture
        path = bounce(path)
    size = np.log(np.sqrt(area / fills)) + np.clip(smooth(rng, t, 0.02, 0.25), -1.0, 0.8)
    tilt = rng.uniform(0, 1.2) + smooth(rng, t, 0.08, 0.8) if turning else np.zeros(len(t))
    squeeze = np.log(np.maximum(np.abs(np.cos(tilt)), 0.35)) - np.log(max(abs(np.cos(tilt[0])), 0.35))
    aspect = 0.3 * wild * rng.uniform(-1, 1)
    zoom = np.exp(np.stack([size + aspect + squeeze, size - aspect], 1))  # [T, 2]
    angle = rng.uniform(-np.pi, np.pi) if lying else rng.uniform(-0.3, 0.3)
    angles = angle + smooth(rng, t, 0.12 if spinning else 0.02, 0.2)
    still, drifting = rng.array(2, 4, 4, 2) * 2 - 1
    strength = 0.5 + smooth(rng, t, 0.03, 1.0)
    bend = (0.1 * wild * still + (0.2 if soft else 0.08) * strength[:, None, None, None] * drifting).clip(-0.4, 0.4)
    return Motion(path, zoom, angles, bend)


def ride(rng: Rng, t: Array, host: Motion, ratio: float) -> Motion:
    """The motion of a second part of the same object: fixed to the first, wobbling a little; ``ratio`` as large."""
    offset = rng.array(2) * 1.2 - 0.6
    sway = np.stack([smooth(rng, t, 0.005, 0.12) for _ in range(2)], 1)
    x, y = ((offset + sway) * host.zoom).T
    cos, sin = np.cos(host.angle), np.sin(host.angle)
    place = host.place + np.stack([cos * x - sin * y, sin * x + cos * y], 1)
    bend = 0.12 * (rng.array(4, 4, 2) * 2 - 1)
    return Motion(place, host.zoom * ratio, host.angle + smooth(rng, t, 0.03, 0.4), np.tile(bend, (len(t), 1, 1, 1)))


def cross(rng: Rng, t: Array, target: Motion, area: float, fills: float) -> Motion:
    """The motion of an occluder: it passes the target somewhere in the middle of the clip."""
    motion = move(rng, t, area, fills, fast=False)
    when = t[0] + rng.uniform(0.2, 1.0) * max(t[-1] - t[0], 1.0)
    direction = rng.uniform(0, 2 * np.pi)
    velocity = rng.uniform(0.03, 0.15) * np.array([np.cos(direction), 0.4 * np.sin(direction)])
    at = np.array([np.interp(when, t, target.place[:, i]) for i in range(2)])
    motion.place = at + velocity * (t[:, None] - when)
    return motion


def look_up(motion: Motion, size: int) -> Tensor:
    """Where each pixel of the frames looks in the canvas: ``float32 [T, size, size, 2]``.

    All is smooth, so every fourth pixel is computed and straight lines do between.
    """
    coarse = np.linspace(-1 + 1 / size, 1 - 1 / size, size // 4 + 1)
    pixel = np.stack(np.meshgrid(coarse, coarse, indexing="xy"), -1)  # [c, c, 2]
    x, y = np.moveaxis(pixel - motion.place[:, None, None], -1, 0)  # [T, c, c] each
    cos, sin = (f(motion.angle)[:, None, None] for f in (np.cos, np.sin))
    turned = np.stack([cos * x + sin * y, cos * y - sin * x], -1) / motion.zoom[:, None, None]
    grid = torch.from_numpy(turned).float()  # [T, c, c, 2]
    lattice = torch.from_numpy(motion.bend).float().movedim(-1, 1)  # [T, 2, 4, 4]
    off = F.grid_sample(lattice, grid, mode="bicubic", padding_mode="border", align_corners=True)  # [T, 2, c, c]
    bent = grid.movedim(-1, 1) + off
    return F.interpolate(bent, (size, size), mode="bilinear", align_corners=True).movedim(1, -1)


# -------------------------------------------------------------------------------------------------------- drawing


def recoloured(rng: Rng, picture: Tensor, amount: float) -> Tensor:
    """Other colours for ``[3 or 4, H, W]``: channels mixed, brighter or darker; colours are times alpha throughout.

    Args:
        rng: where chance comes from.
        picture: in [0, 1].
        amount: 0 changes nothing, 1 mixes the channels freely.
    """
    mix = np.eye(3) + amount * (rng.array(3, 3) * 1.2 - 0.6)
    mix = mix / mix.sum(1, keepdims=True).clip(0.3) * (1 + 0.5 * (rng.array(3, 1) * 2 - 1) * max(amount, 0.4))
    alpha = picture[3:] if len(picture) == 4 else torch.ones_like(picture[:1])
    offset = rng.uniform(-0.12, 0.12)
    colours = torch.einsum("cd,dhw->chw", torch.from_numpy(mix).float(), picture[:3]) + offset * alpha
    return torch.cat([torch.minimum(colours.clamp_min(0), alpha), picture[3:]])


def shifted(x: Tensor, dx: int, dy: int) -> Tensor:
    """``[..., H, W]`` moved right and down, zeros coming in."""
    return F.pad(x, (dx, -dx, dy, -dy))


def smeared(drawn: Tensor, place: Array, t: Array, shutter: float) -> Tensor:
    """Each frame of ``[T, 4, S, S]`` averaged along the way that the thing goes while the shutter is open."""
    if len(t) < 2:
        return drawn
    size = drawn.shape[-1]
    way = np.gradient(place, t, axis=0) * shutter * size / 2  # [T, 2] pixels
    way = way.clip(-size / 8, size / 8)
    taps = int(min(7, np.ceil(np.abs(way).max()) + 1))
    if taps < 3:
        return drawn
    steps = np.linspace(-0.5, 0.5, taps)
    frames = [
        torch.stack([shifted(one, round(s * w[0]), round(s * w[1])) for s in steps]).mean(0)
        for one, w in zip(drawn, way, strict=True)
    ]
    return torch.stack(frames)


def draw_layer(layer: Layer, t: Array, size: int) -> Tensor:
    """``float32 [T, 4, size, size]``, colours times alpha."""
    length = len(t)
    step = CANVAS / size / float(np.exp(np.log(layer.motion.zoom).mean()))  # pixels of the canvas to one of the frame
    picture = F.avg_pool2d(layer.picture[None], max(1, round(step)), ceil_mode=True, count_include_pad=False)
    grid = look_up(layer.motion, size).reshape(1, length * size, size, 2)
    drawn = F.grid_sample(picture, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    drawn = drawn.reshape(4, length, size, size).transpose(0, 1)
    return smeared(drawn, layer.motion.place, t, layer.shutter) if layer.shutter else drawn


def draw_photo(rng: Rng, photo: Tensor, t: Array, size: int, shake: Array) -> Tensor:
    """A photograph ``float32 [3, h, w]`` under a panning and zooming camera: ``[T, 3, size, size]``."""
    height, width = photo.shape[1:]
    view = rng.uniform(0.35, 0.95) * np.exp(
        np.clip(smooth(rng, t, 0.01, 0.15), -0.7, 0.5)
    )  # [T], of the shorter side
    ratio = min(height, width) / np.array([width, height])
    centre = (rng.array(2) * 2 - 1) * (1 - 0.7 * ratio)
    pan = 0.05 * rng.uniform(0, 1) ** 2
    path = np.stack([centre[i] + smooth(rng, t, pan, 0.1) for i in range(2)], 1) - shake * view[:, None]  # [T, 2]
    angle = rng.uniform(-0.1, 0.1) + smooth(rng, t, 0.005, 0.05)
    flip = rng.sign()
    cos, sin = np.cos(angle) * view, np.sin(angle) * view
    rows = [np.stack([flip * cos, -sin], 1) * ratio[0], np.stack([flip * sin, cos], 1) * ratio[1]]
    theta = np.concatenate([np.stack(rows, 1), path[:, :, None]], 2)  # [T, 2, 3]
    step = min(height, width) * float(view.mean()) / size
    if step >= 1.5:
        photo = F.avg_pool2d(photo[None], round(step))[0]
    grid = (
        torch.from_numpy(theta).float()
        @ torch.cat([identity_grid(size, size), torch.ones(size, size, 1)], -1).reshape(-1, 3).T
    )  # [T, 2, size*size]
    grid = grid.transpose(1, 2).reshape(1, len(t) * size, size, 2)
    drawn = F.grid_sample(photo[None], grid, mode="bilinear", padding_mode="reflection", align_corners=False)
    return drawn.reshape(3, len(t), size, size).transpose(0, 1)


def compose(ground: Tensor, layers: Sequence[Layer], t: Array) -> tuple[Tensor, Tensor]:
    """Lay the things over the ground, from back to front.

    Args:
        ground: ``float32 [T, 3, S, S]``.
        layers: the things.
        t: ``[T]`` moments.

    Returns:
        frames ``float32 [T, 3, S, S]`` and ids ``uint8 [T, S, S]``.
    """
    frames, size = ground, ground.shape[-1]
    ids = torch.zeros(len(t), size, size, dtype=torch.uint8)
    for layer in layers:
        drawn = draw_layer(layer, t, size)  # [T, 4, S, S]
        alpha = drawn[:, 3:]
        if layer.blend and float(alpha[0].sum()) > 0:
            away = (frames[0] * alpha[0] - drawn[0, :3]).sum((1, 2)) / alpha[0].sum()  # [3]
            colours = drawn[:, :3] + layer.blend * away[:, None, None] * alpha
            drawn = torch.cat([torch.minimum(colours.clamp_min(0), alpha), alpha], dim=1)
        if layer.shadow:
            reach = max(1, size // 24)
            soft = F.avg_pool2d(alpha, 2 * reach + 1, 1, reach)
            dx, dy = (round(s * size) for s in layer.shadow_shift)
            frames = frames * (1 - layer.shadow * shifted(soft, dx, dy))
        frames = frames * (1 - alpha) + drawn[:, :3]
        ids.masked_fill_(alpha[:, 0] > 0.5, layer.object_id)
    return frames, ids


def through_jpeg(frames: Tensor, quality: int) -> Tensor:
    """What a JPEG file leaves of frames ``float32 [T, 3, H, W]`` in [0, 1]."""
    read = []
    for frame in (frames * 255).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous().numpy():
        file = io.BytesIO()
        Image.fromarray(frame).save(file, "JPEG", quality=quality)
        read.append(np.asarray(Image.open(file)))
    return torch.from_numpy(np.stack(read)).permute(0, 3, 1, 2).float() / 255


# --------------------------------------------------------------------------------------------------------- sources


class CutoutClips:
    """Clips of one to three cut-outs that move smoothly over photographs.

    Some objects consist of two parts; some wear another picture's colours; a fifth of the clips has a look-alike, a
    quarter an occluder, and some have things that are not annotated, moving or not.

    Args:
        stills: pictures with masks, ``images/NAME.jpg`` and ``masks/NAME.png`` (ids of objects): the photographs, and
            objects cut out of them.
        cutouts: a folder of pictures with alpha, too.
        objects: at most so many annotated objects.
        wild: scales how probable and how strong all that is that video seldom shows: 1 has much of it, 0 none.
        alike: share of things whose colours come close to what is behind them: two photographs seldom match, and a
            network would learn to find the seam.

    Raises:
        TutorialError: if a folder is missing, empty or broken, ``objects`` lies outside 1..254, or ``wild`` or
            ``alike`` outside 0..1.
    """

    def __init__(
        self,
        stills: str | os.PathLike[str],
        cutouts: str | os.PathLike[str] | None = None,
        objects: int = 3,
        wild: float = 1.0,
        alike: float = 0.0,
    ) -> None:
        if not 1 <= objects < VOID:
            raise TutorialError(f"clips of {objects} objects cannot be made; ask for 1 to {VOID - 1}.")
        check_probability("wild", wild)
        check_probability("alike", alike)
        self.folders = [Path(folder) for folder in (stills, cutouts) if folder is not None]
        self.things, self.photos = masked_cutouts(FolderStills(stills))
        if cutouts is not None:
            self.things += alpha_cutouts(cutouts)
        if not self.things:
            raise TutorialError(
                f"{stills}: every object is cut by its picture's border; add whole ones, or a folder of cut-outs."
            )
        self.objects, self.wild, self.alike = objects, wild, alike

    def calmer(self, wild: float, alike: float = 0.0) -> CutoutClips:
        """The same pictures with other numbers."""
        check_probability("wild", wild)
        check_probability("alike", alike)
        other = copy.copy(self)
        other.wild, other.alike = wild, alike
        return other

    def batch(self, seeds: Sequence[int], size: int, length: int, max_skip: int = 0) -> Clips:
        """As :meth:`~vos_tutorial.data.batches.ClipSource.batch`.

        Raises:
            TutorialError: if an argument is out of range.
        """
        check_request(seeds, size, length, max_skip)

        def draw(rng: list[Rng]) -> tuple[Tensor, Tensor]:
            made = [self._clip(d, size, length, max_skip) for d in rng]
            return torch.stack([frames for frames, _ in made]), torch.stack([ids for _, ids in made])

        return draw_until_shown("CutoutClips", seeds, Stream.CUTOUTS, draw, SMALLEST)

    def _clip(self, rng: Rng, size: int, length: int, max_skip: int) -> tuple[Tensor, Tensor]:
        """``float32 [T, 3, S, S]`` and ``uint8 [T, S, S]``."""
        available = max(WINDOW, length)
        t = np.array(draw_times(rng, available, length, max_skip), dtype=np.float64)
        shake = (rng.array(length, 2) * 2 - 1) * (0.03 * rng.uniform(0, 1) if rng.chance(0.5) else 0.0)
        photo = recoloured(rng, self._photo(rng), 0.5 if rng.chance(0.3 * self.wild) else 0.0)
        ground = draw_photo(rng, photo, t, size, shake)
        layers = self._cast(rng, t)
        for layer in layers:
            layer.motion.place = layer.motion.place + shake
            if self.alike and rng.chance(self.alike):
                layer.blend = rng.uniform(0.2, 1.0)
        frames, ids = compose(ground, layers, t)
        light = np.exp(smooth(rng, t, 0.01, 0.2) + 0.04 * (rng.array(length) * 2 - 1))
        frames = (frames * torch.from_numpy(light).float()[:, None, None, None]).clamp(0, 1)
        if rng.chance(0.2 + 0.2 * self.wild):
            frames = blurred(frames, rng)
        if rng.chance(0.4):
            frames = through_jpeg(frames, 25 + rng.pick(65))
        return frames, ids

    def _photo(self, rng: Rng) -> Tensor:
        return self.photos[rng.pick(len(self.photos))].float() / 255

    def _picture(self, rng: Rng) -> Tensor:
        """A cut-out in colours of its own, or in those of a photograph: ``float32 [4, CANVAS, CANVAS]``."""
        picture = self.things[rng.pick(len(self.things))].float() / 255
        if rng.chance(0.5):
            picture = picture.flip(-1)
        if rng.chance(0.12 * self.wild):
            cloth = _resize(self._photo(rng)[:, :PHOTO, :PHOTO], CANVAS / PHOTO)
            picture = torch.cat([cloth * picture[3:], picture[3:]])
        return recoloured(rng, picture, 0.6 if rng.chance(0.3 * self.wild) else 0.0)

    def _cast(self, rng: Rng, t: Array) -> list[Layer]:
        """Who is in the clip, from back to front."""
        layers = []
        for _ in range(
            rng.pick(3) if rng.chance(0.4 * self.wild) else 0
        ):  # things that stand or move about, not annotated
            layers.append(self._layer(rng, t, 0, rng.uniform(0.01, 0.08), fast=False))
        wanted = 1 + (rng.pick(self.objects) if rng.chance(0.5) else 0)
        fast = rng.chance(0.3 * self.wild)
        smallest = np.exp(self.wild * np.log(0.012) + (1 - self.wild) * np.log(0.06))
        objects: list[Layer] = []
        for k in range(1, wanted + 1):
            area = float(np.exp(rng.uniform(np.log(smallest), np.log(0.4)))) / np.sqrt(wanted)
            first = self._layer(rng, t, k, area, fast)
            objects.append(first)
            if rng.chance(0.3 * self.wild):  # a rider, a handle, a hat: a second part
                part = self._layer(rng, t, k, area, fast)
                part.motion, part.shadow = ride(rng, t, first.motion, rng.uniform(0.4, 1.0)), 0.0
                objects.insert(len(objects) - rng.pick(2), part)
        if rng.chance(0.25):
            model = objects[rng.pick(len(objects))]
            twin = self._layer(rng, t, 0 if rng.chance(0.6) else wanted + 1, rng.uniform(0.02, 0.2), fast)
            twin.picture = recoloured(rng, model.picture, 0.0) if rng.chance(0.5) else model.picture
            objects.insert(rng.pick(len(objects) + 1), twin)
        layers += objects
        if rng.chance(0.25):
            front = self._layer(rng, t, 0, 0.1, fast=False)
            fills = float(front.picture[3].mean())
            front.motion = cross(rng, t, objects[rng.pick(len(objects))].motion, rng.uniform(0.02, 0.2), fills)
            layers.append(front)
        return layers

    def _layer(self, rng: Rng, t: Array, object_id: int, area: float, fast: bool) -> Layer:
        picture = self._picture(rng)
        motion = move(rng, t, area, float(picture[3].mean()), fast, self.wild)
        shadow = rng.uniform(0.2, 0.6) if rng.chance(0.4) else 0.0
        shutter = rng.uniform(0.2, 0.8) if rng.chance(0.6) else 0.0
        shift = rng.array(2) * 0.12 - np.array([0.06, 0.0])
        return Layer(picture, object_id, motion, shadow, shutter, shadow_shift=shift)


class MixedClips:
    """Clips of several sources; which one gives a sample depends on the sample's seed.

    Args:
        parts: (share, source) pairs; shares are above 0 and need not sum to one.

    Raises:
        TutorialError: without parts, or with a share that is not above 0.
    """

    def __init__(self, parts: Sequence[tuple[float, ClipSource]]) -> None:
        if not parts or min(share for share, _ in parts) <= 0:
            raise TutorialError(
                f"the shares {[s for s, _ in parts]} of mixed clips must be above 0, one at the least."
            )
        self.sources = [source for _, source in parts]
        total = sum(share for share, _ in parts)
        self.upto = np.cumsum([share / total for share, _ in parts])

    def calmer(self, wild: float, alike: float = 0.0) -> MixedClips:
        """The same mixture with other cut-outs; see :class:`CutoutClips`."""
        other = copy.copy(self)
        other.sources = [s.calmer(wild, alike) if isinstance(s, CutoutClips) else s for s in self.sources]
        return other

    def batch(self, seeds: Sequence[int], size: int, length: int, max_skip: int = 0) -> Clips:
        """As :meth:`~vos_tutorial.data.batches.ClipSource.batch`."""
        check_request(seeds, size, length, max_skip)
        last = len(self.sources) - 1
        chosen = [min(last, int((Rng(seed, Stream.MIXED).uniform(0, 1) >= self.upto).sum())) for seed in seeds]
        frames = torch.empty(len(seeds), length, 3, size, size)
        masks = torch.empty(len(seeds), length, size, size, dtype=torch.uint8)
        for k, source in enumerate(self.sources):
            mine = [i for i, which in enumerate(chosen) if which == k]
            if mine:
                frames[mine], masks[mine] = source.batch([seeds[i] for i in mine], size, length, max_skip)
        return Clips(frames, masks)


class ClipStills:
    """Single frames of clips with one of their objects: stills for methods that learn from pictures.

    Args:
        clips: any source.
    """

    def __init__(self, clips: ClipSource) -> None:
        self.clips = clips

    def batch(self, seeds: Sequence[int], size: int) -> Stills:
        """As :meth:`~vos_tutorial.data.batches.StillSource.batch`."""
        frames, ids = self.clips.batch(seeds, size, 1)
        chosen = []
        for seed, frame in zip(seeds, ids[:, 0], strict=True):
            there = object_ids(frame)
            chosen.append(frame == there[Rng(seed, Stream.ONE_OF_A_CLIP).pick(len(there))])
        return Stills(frames[:, 0], torch.stack(chosen))


def photo_clips(
    stills: str | os.PathLike[str], cutouts: str | os.PathLike[str] | None = None, wild: float = 1.0
) -> MixedClips:
    """What the networks for real video learn from: mostly moving cut-outs, some warped stills, some sprites."""
    simulated = SimulatedClips(FolderStills(stills))
    return MixedClips([(0.7, CutoutClips(stills, cutouts, wild=wild)), (0.15, simulated), (0.15, lifelike())])


def photo_sources(photos: MixedClips | None) -> dict[str, ClipSource]:
    """The same mixture, calmer, and calmer with things that are hard to tell from what is behind them, by name.

    Args:
        photos: of :func:`photo_clips`; without any there is nothing.
    """
    if photos is None:
        return {}
    return {
        "photos": photos,
        "calm photos": photos.calmer(CALM),
        "blended photos": photos.calmer(CALM, alike=ALIKE),
    }
