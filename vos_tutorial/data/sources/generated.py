"""Endless video from the sprite world, with difficulties drawn for each clip: the second stage of RGMP and STM."""

from __future__ import annotations

import types
from collections.abc import Mapping, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ...errors import TutorialError
from ...rng import Rng, Stream
from ..batches import Clips, check_probability, check_request, draw_times, draw_until_shown
from ..worlds.sprites import ATTRIBUTES, LENGTH, Split, Textures, describe, render

CLIP_DIALS: Mapping[str, float] = types.MappingProxyType(
    {
        "deformation": 0.5,
        "scale_change": 0.4,
        "fast_motion": 0.25,
        "occlusion": 0.3,
        "distractors": 0.35,
        "appearance_change": 0.3,
        "illumination": 0.3,
        "out_of_view": 0.1,
        "camera_shake": 0.2,
        "multiple_objects": 0.45,
    }
)


CLOSEST = 2.5  # longest lens of a close-up
PAN = 0.25  # fastest slide of the background, in frame half-extents from one given frame to the next
FOCUS, SMEAR = 0.012, 0.06  # most blur (a deviation) and longest smear, as shares of the frame
THINGS = 5  # most things of clutter
GRAIN = 0.08  # widest spread of the noise


class GeneratedClips:
    """Endless video from the sprite world: each clip draws its own difficulties.

    Args:
        textures: ``"procedural"``, ``"photos"`` or ``"mixed"``.
        split: which half of textures and shapes; train and test share none.
        dials: how probable each of :data:`~vos_tutorial.data.worlds.sprites.ATTRIBUTES` is; one left out never
            occurs.
        device: where the clips are drawn and stay.
        close_up: share of clips seen through a longer lens, up to :data:`CLOSEST` times, so that objects become as
            large as those of real video often are.
        patches: share of clips whose sprites wear several cloths.
        pan: share of clips whose camera follows the objects, so that the background slides past.
        clutter: share of clips with up to :data:`THINGS` things standing in the background.
        blur: share of clips that are out of focus, smeared by motion, and grainy.

    Raises:
        TutorialError: on an unknown attribute or a probability outside 0..1.
    """

    def __init__(
        self,
        textures: Textures = "mixed",
        split: Split = "train",
        dials: Mapping[str, float] = CLIP_DIALS,
        device: torch.device | str = "cpu",
        close_up: float = 0.5,
        patches: float = 0.0,
        pan: float = 0.0,
        clutter: float = 0.0,
        blur: float = 0.0,
    ) -> None:
        self.close_up, self.patches, self.pan, self.clutter, self.blur = close_up, patches, pan, clutter, blur
        for name in ("close_up", "patches", "pan", "clutter", "blur"):
            check_probability(name, getattr(self, name))
        for name, probability in dials.items():
            if name not in ATTRIBUTES:
                raise TutorialError(f"there is no attribute {name!r}; choose from {', '.join(ATTRIBUTES)}.")
            check_probability(name, probability)
        self.textures, self.split, self.device = textures, split, device
        # in one order, so that the order of a dictionary changes nothing
        self.dials = {name: dials[name] for name in ATTRIBUTES if name in dials}

    def batch(self, seeds: Sequence[int], size: int, length: int, max_skip: int = 0) -> Clips:
        """As :meth:`ClipSource.batch`: moments of scenes of :data:`LENGTH` frames, or of ``length`` if that is more.

        Raises:
            TutorialError: if an argument is out of range.
        """
        check_request(seeds, size, length, max_skip)

        def draw(rngs: list[Rng]) -> tuple[Tensor, Tensor]:
            scenes = []
            for rng in rngs:
                dials = [name for name, probability in self.dials.items() if rng.chance(probability)]
                scene = describe(rng.pick(2**50), max(LENGTH, length), dials, self.textures, self.split)
                scene = scene.at(draw_times(rng, max(LENGTH, length), length, max_skip))
                if rng.chance(self.close_up):
                    star = next(s for s in scene.sprites if s.object_id)
                    scene = scene.closer(rng.uniform(1, CLOSEST), float(star.x[0]) / 2, float(star.y[0]) / 2)
                # after all other chance, so that these options change nothing else about a clip
                if rng.chance(self.patches):
                    scene = scene.patched(rng, self.textures, self.split)
                if rng.chance(self.pan):
                    scene = scene.panned(rng.uniform(-PAN, PAN), rng.uniform(-PAN, PAN))
                if rng.chance(self.clutter):
                    scene = scene.cluttered(rng, 1 + rng.pick(THINGS), self.textures, self.split)
                scenes.append(scene)
            pixels, ids = render(scenes, size, self.split, self.device)
            frames = pixels.float() / 255
            for clip, rng in zip(frames, rngs, strict=True):
                if rng.chance(self.blur):
                    clip.copy_(blurred(clip, rng))
            return frames, ids

        return draw_until_shown("GeneratedClips", seeds, Stream.GENERATED, draw)


def lifelike(textures: Textures = "mixed", split: Split = "train") -> GeneratedClips:
    """The sprite world as a camera would see it: patched objects, clutter, a panning camera, blur and grain."""
    return GeneratedClips(textures, split, patches=0.6, pan=0.5, clutter=0.6, blur=0.5)


def blurred(frames: Tensor, rng: Rng) -> Tensor:
    """Out of focus, smeared along one direction, and grainy: what a cheap camera and fast motion do.

    Args:
        frames: ``float32 [T, 3, H, W]`` in [0, 1].
        rng: where chance comes from; direction and amount are one for the clip, the smear differs by frame.
    """
    focus = rng.uniform(0, 1) ** 2 * FOCUS * frames.shape[-1]
    angle, smear = rng.uniform(0, np.pi), rng.uniform(0, SMEAR) * frames.shape[-1]
    lengths = smear * rng.array(len(frames))
    radius = int(np.ceil(max(2 * focus, smear / 2)))
    axis = np.arange(-radius, radius + 1)
    x, y = np.meshgrid(axis, axis, indexing="xy")
    along, across = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    wide = np.maximum(np.abs(along) - lengths[:, None, None] / 2, 0)  # how far a pixel lies from the smeared point
    kernels = np.exp(-(wide**2 + across**2) / (2 * max(focus, 0.3) ** 2))
    kernels /= kernels.sum((1, 2), keepdims=True)
    weight = torch.from_numpy(kernels).float().to(frames.device)[:, None]
    padded = F.pad(frames.transpose(0, 1), (radius,) * 4, mode="replicate")  # [3, T, H, W]: colours are the batch
    smeared = F.conv2d(padded, weight, groups=len(frames)).transpose(0, 1)
    grain = torch.from_numpy(rng.array(*frames.shape) - 0.5).float().to(frames.device)
    return (smeared + grain * rng.uniform(0, GRAIN)).clamp(0, 1)
