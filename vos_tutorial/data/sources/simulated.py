"""Clips out of stills: a picture and its mask are warped several times, and the results pass for a video's frames.

RGMP (Oh et al., CVPR 2018, section 3.2) and STM (Oh et al., ICCV 2019, section 3.5) learn from these first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ...clip import VOID
from ...errors import TutorialError
from ...geometry import LATTICE, boxes, free_form_grid
from ...rng import Array, Rng, Stream
from ..batches import Clips, Stills, StillSource, check_probability, check_request, draw_until_shown
from ..worlds.sprites import SyntheticStills

# The amounts are ours.
ANGLE, SHEAR, ZOOM, SHIFT = 30.0, 0.2, 0.25, 0.15  # degrees; tangent; relative; share of the frame: all +-
BEND = 0.2  # control points move by up to this, in frame half-extents
LIGHT = 0.15  # change of gain and of offset, +-


@dataclass
class _Motion:
    """How one picture is laid into T frames: a point of it, where that goes, and how it is turned and bent."""

    anchor: Array  # [2] (x, y) in the picture
    place: Array  # [T, 2] (x, y) in the frame
    zoom: Array  # [T]
    angle: Array  # [T] radians
    shear: Array  # [T]
    bend: Array  # [T, 4, 4, 2]


@dataclass
class _Layer:
    """One picture of one sample; the first layer of a sample is at the back and covers everything."""

    sample: int
    still: int
    object_id: int  # 0: not annotated
    back: bool = False
    motion: _Motion = field(init=False)


def _control_points(motion: _Motion) -> Array:
    """Where the lattice of each frame looks in the picture: ``[T, 4, 4, 2]``."""
    axis = np.linspace(-1, 1, LATTICE)
    lattice = np.stack(np.meshgrid(axis, axis, indexing="xy"), axis=-1)
    offset = lattice - motion.place[:, None, None]
    cos, sin = (f(motion.angle)[:, None, None] for f in (np.cos, np.sin))
    x, y = offset[..., 0] + motion.shear[:, None, None] * offset[..., 1], offset[..., 1]
    turned = np.stack([cos * x + sin * y, cos * y - sin * x], axis=-1) / motion.zoom[:, None, None, None]
    return turned + motion.bend + motion.anchor


def _boxes(masks: Tensor) -> tuple[Array, Array]:
    """Centres ``[N, 2]`` (x, y) of masks ``bool [N, S, S]`` and half of their longer sides ``[N]``, in [-1, 1]."""
    box = boxes(masks).cpu().numpy()
    low, high = box[:, [1, 0]], box[:, [3, 2]] + 1
    size = masks.shape[-1]
    return (low + high) / size - 1, (high - low).max(1) / size


class SimulatedClips:
    """Clips out of stills, by the two strategies of RGMP (section 3.2); STM's first stage does the same.

    One image: T random views of a picture (turned, sheared, zoomed, shifted, bent, in other light). Composition:
    objects cut out of some pictures on the background of another, where objects and background move on their own,
    sometimes with a cut-out in front that is not annotated. There is no time in these clips, so ``max_skip`` is
    accepted and has no effect. What comes from outside a picture is its mirror image.

    Args:
        source: the stills; the sprite world's by default.
        paste: how probable composition is; else one image.
        objects: a composition has 1 to so many.
        occluder: how probable a cut-out in front is, in a composition.

    Raises:
        TutorialError: if a probability lies outside 0..1, or ``objects`` outside 1..254.
    """

    def __init__(
        self, source: StillSource | None = None, paste: float = 0.5, objects: int = 2, occluder: float = 0.3
    ) -> None:
        check_probability("paste", paste)
        check_probability("occluder", occluder)
        if not 1 <= objects < VOID:
            raise TutorialError(f"a composition of {objects} objects cannot be made; use 1 to {VOID - 1}.")
        self.source: StillSource = SyntheticStills() if source is None else source
        self.paste, self.objects, self.occluder = paste, objects, occluder

    def batch(self, seeds: Sequence[int], size: int, length: int, max_skip: int = 0) -> Clips:
        """As :meth:`ClipSource.batch`.

        Raises:
            TutorialError: if an argument is out of range, or the stills show no object large enough.
        """
        check_request(seeds, size, length, max_skip)
        return draw_until_shown(
            "SimulatedClips", seeds, Stream.SIMULATED, lambda rngs: self._draw(rngs, size, length)
        )

    def _draw(self, rngs: list[Rng], size: int, length: int) -> tuple[Tensor, Tensor]:
        layers: list[_Layer] = []
        seeds: list[int] = []  # of the stills
        for sample, rng in enumerate(rngs):
            cast = self._cast(rng)
            layers += [_Layer(sample, len(seeds) + still, object_id) for object_id, still in cast]
            seeds += [rng.pick(2**50) for _ in range(1 + max(still for _, still in cast))]
        stills = self.source.batch(seeds, size)
        centres, extents = _boxes(stills.masks)
        for sample, rng in enumerate(rngs):
            mine = [layer for layer in layers if layer.sample == sample]
            _move(rng, mine, centres, extents, length)
        frames, ids = _compose(stills, layers, len(rngs), length)
        light = np.stack([rng.array(length, 2) for rng in rngs]) * 2 - 1
        gain, offset = torch.from_numpy(light * LIGHT).float().to(frames.device)[..., None, None, None].unbind(2)
        return (frames * (1 + gain) + offset).clamp_(0, 1), ids

    def _cast(self, rng: Rng) -> list[tuple[int, int]]:
        """Draw what a sample is made of, from back to front: the id of each layer's object, and which still it is."""
        if not rng.chance(self.paste):
            return [(1, 0)]
        objects = 1 + rng.pick(self.objects)
        cast = [(0, 0), *((k, k) for k in range(1, objects + 1))]
        if rng.chance(self.occluder):  # cut out of the background's still, as in the paper, or out of another
            cast.append((0, 0 if rng.chance(0.5) else objects + 1))
        return cast


def _move(rng: Rng, layers: Sequence[_Layer], centres: Array, extents: Array, length: int) -> None:
    """Draw how the layers of one sample move.

    Args:
        rng: where chance comes from.
        layers: from back to front; the first one covers everything, an occluder comes last.
        centres: ``[N, 2]``, of the objects of all stills.
        extents: ``[N]``, half of their longer sides.
        length: frames.
    """
    for k, layer in enumerate(layers):
        draw = rng.array(length, 5) * 2 - 1
        centre = centres[layer.still]
        layer.back = k == 0
        layer.motion = motion = _Motion(
            anchor=centre,
            place=centre + 2 * SHIFT * draw[:, :2],
            zoom=1 + ZOOM * draw[:, 2],
            angle=np.deg2rad(ANGLE) * draw[:, 3],
            shear=SHEAR * draw[:, 4],
            bend=BEND * (rng.array(length, LATTICE, LATTICE, 2) * 2 - 1),
        )
        if k > 0:  # a cut-out: brought to a fair size, at a place of its own
            half = rng.uniform(0.3, 0.6)
            enlarged = half / extents[layer.still]
            motion.zoom *= enlarged
            motion.bend /= enlarged
            motion.place += rng.array(2) * 1.3 - 0.65 - centre
            if layer.object_id == 0:
                _go_for(rng, motion, [other.motion for other in layers[1:k]], half)


def _go_for(rng: Rng, occluder: _Motion, objects: Sequence[_Motion], half: float) -> None:
    """Move an occluder: in frame 0 to the emptiest of a few places, later half of the time onto an object."""
    length = len(occluder.place)
    places = rng.array(length, 6, 2) * 1.8 - 0.9
    for t in range(length):
        taken = np.stack([o.place[t] for o in objects])
        if t > 0 and rng.chance(0.5):
            occluder.place[t] = taken[rng.pick(len(objects))] + 0.1 * places[t, 0]
            occluder.zoom[t] *= rng.uniform(1.2, 2.0) * 0.5 / half
        else:
            gaps = np.linalg.norm(places[t, :, None] - taken, axis=-1).min(1)
            occluder.place[t] = places[t, gaps.argmax() if t == 0 else 0]


def _compose(stills: Stills, layers: Sequence[_Layer], samples: int, length: int) -> tuple[Tensor, Tensor]:
    """Warp all layers in one look-up and lay them over each other.

    Returns:
        frames ``float32 [B, T, 3, S, S]`` and ids ``uint8 [B, T, S, S]``.
    """
    device, size = stills.images.device, stills.images.shape[-1]
    points = torch.from_numpy(np.stack([_control_points(layer.motion) for layer in layers])).float().to(device)
    grid = free_form_grid(points.flatten(0, 1), size)
    pictures = torch.cat([stills.images, stills.masks[:, None].float()], dim=1)[[layer.still for layer in layers]]
    drawn = F.grid_sample(
        pictures,
        grid.reshape(len(layers), length * size, size, 2),
        mode="bilinear",
        padding_mode="reflection",
        align_corners=False,
    )
    colour, alpha = drawn.reshape(-1, 4, length, size, size).transpose(1, 2).split([3, 1], dim=2)
    outside = (grid.abs().amax(-1) > 1).reshape(len(layers), length, 1, size, size)  # cut-outs have no mirror image
    frames = torch.empty(samples, length, 3, size, size, device=device)
    ids = torch.zeros(samples, length, size, size, dtype=torch.uint8, device=device)
    for k, layer in enumerate(layers):
        if layer.back:
            frames[layer.sample] = colour[k]
            solid = alpha[k]
        else:
            solid = alpha[k].masked_fill(outside[k], 0)
            frames[layer.sample].lerp_(colour[k], solid)
        ids[layer.sample].masked_fill_(solid[:, 0] > 0.5, layer.object_id)
    return frames, ids
