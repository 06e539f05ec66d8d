"""Short training clips with masks: from still pictures, from the sprite world, from real video.

RGMP (Oh et al., CVPR 2018, section 3.2) and STM (Oh et al., ICCV 2019, section 3.5) learn in two stages. First from
stills: a picture and its mask are warped several times, and the results pass for the frames of a video. Then from
video, with frames left out, so that the changes between the frames are large. The three sources below make both
kinds, in one form, so that a training does not see where its clips come from. Sample ``i`` of a batch depends on
``seeds[i]`` alone.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ...clip import VOID, Clip, object_ids
from ...errors import TutorialError
from ...geometry import boxes
from ...rng import Array, Rng
from ..davis import VideoFolder
from ..worlds.sprites import ATTRIBUTES, LENGTH, Split, SyntheticStills, Textures, describe, render
from .stills import Stills, StillSource

SMALLEST = 0.02  # share of frame 0 that every annotated object shows at the least
DRAWS = 50  # samples drawn for one seed until frame 0 shows an object
SIMULATED, GENERATED, VIDEO = 11, 12, 13  # streams of dice, so that the sources share no random numbers


class Clips(NamedTuple):
    """A batch of short clips; every object shows at least :data:`SMALLEST` of frame 0."""

    frames: Tensor
    """``float32 [B, T, 3, H, W]`` in [0, 1]."""
    masks: Tensor
    """``uint8 [B, T, H, W]``: 0 background, 1..K objects without gaps (K >= 1 differs by sample), 255 void."""


class ClipSource(Protocol):
    """Anything that gives clips for seeds."""

    def batch(self, seeds: Sequence[int], size: int, length: int, max_skip: int = 0) -> Clips:
        """Square clips; sample ``i`` depends on ``seeds[i]`` only.

        Args:
            seeds: B integers >= 0.
            size: H = W in pixels.
            length: T, frames a clip.
            max_skip: up to so many frames are left out between two that are given.
        """
        ...


# ------------------------------------------------------------------------------------------ what all sources do


def number_objects(ids: Tensor) -> tuple[Tensor, Tensor]:
    """Number the objects that frame 0 shows 1, 2, ... in the order of their ids; the others become background.

    Args:
        ids: ``uint8 [B, T, H, W]``; 0 background, 1..254 objects, 255 void.

    Returns:
        masks of the same shape and dtype, and ``bool [B]``: does frame 0 show an object (:data:`SMALLEST`)?
    """
    first = ids[:, 0].flatten(1).long()
    areas = torch.zeros(len(ids), 256, device=ids.device).scatter_add_(1, first, torch.ones_like(first).float())
    large = areas >= SMALLEST * first.shape[1]
    large[:, 0] = large[:, VOID] = False
    table = torch.where(large, large.cumsum(1), 0).to(torch.uint8)  # from old ids to new
    table[:, VOID] = VOID
    return table.gather(1, ids.flatten(1).long()).reshape(ids.shape), large.any(1)


def _draw_until_shown(
    source: str, seeds: Sequence[int], stream: int, draw: Callable[[list[Rng]], tuple[Tensor, Tensor]]
) -> Clips:
    """Call ``draw`` for all seeds, then again for those whose frame 0 shows no object, with the next dice.

    Raises:
        TutorialError: if a seed gives none in :data:`DRAWS` draws.
    """
    frames, ids = draw([Rng(seed, stream) for seed in seeds])
    masks, shown = number_objects(ids)
    for attempt in range(1, DRAWS):
        missing = (~shown).nonzero().flatten()
        if not len(missing):
            break
        frames[missing], ids = draw([Rng(seeds[i], stream, attempt) for i in missing.tolist()])
        masks[missing], shown[missing] = number_objects(ids)
    if not shown.all():
        raise TutorialError(
            f"{source}: in {DRAWS} draws no clip showed an object on {SMALLEST:.0%} or more of its first frame; "
            "take a source with larger objects, or other options."
        )
    return Clips(frames, masks)


def _check(seeds: Sequence[int], size: int, length: int, max_skip: int) -> None:
    if not len(seeds):
        raise TutorialError("a batch without seeds was asked for; give at least one.")
    if min(seeds) < 0:
        raise TutorialError(f"the seed is {min(seeds)}; it must be 0 or larger.")
    if size < 1 or length < 1:
        raise TutorialError(f"clips of size {size} and length {length} cannot be made; both must be at least 1.")
    if max_skip < 0:
        raise TutorialError(f"max_skip is {max_skip}; it must be 0 or larger.")


def draw_times(dice: Rng, available: int, length: int, max_skip: int) -> list[int]:
    """Moments of a video: steps of 1 to ``max_skip + 1`` frames, from a random start.

    Where the video is too short for such steps, the longest allowed step is shortened until all fit.

    Args:
        dice: where chance comes from.
        available: frames of the video, at least ``length``.
        length: moments wanted.
        max_skip: the most frames to leave out between two moments.

    Returns:
        ``length`` increasing numbers in 0..available-1.
    """
    longest = min(max_skip + 1, (available - 1) // max(length - 1, 1))
    steps = [1 + dice.pick(longest) for _ in range(length - 1)]
    start = dice.pick(available - sum(steps))
    return [start, *(start + np.cumsum(steps, dtype=int)).tolist()]


# --------------------------------------------------------------------------------------------- the sprite world

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
            _probability(name, getattr(self, name))
        for name, probability in dials.items():
            if name not in ATTRIBUTES:
                raise TutorialError(f"there is no attribute {name!r}; choose from {', '.join(ATTRIBUTES)}.")
            _probability(name, probability)
        self.textures, self.split, self.device = textures, split, device
        # in one order, so that the order of a dictionary changes nothing
        self.dials = {name: dials[name] for name in ATTRIBUTES if name in dials}

    def batch(self, seeds: Sequence[int], size: int, length: int, max_skip: int = 0) -> Clips:
        """As :meth:`ClipSource.batch`: moments of scenes of :data:`LENGTH` frames, or of ``length`` if that is more.

        Raises:
            TutorialError: if an argument is out of range.
        """
        _check(seeds, size, length, max_skip)

        def draw(dice: list[Rng]) -> tuple[Tensor, Tensor]:
            scenes = []
            for d in dice:
                dials = [name for name, probability in self.dials.items() if d.chance(probability)]
                scene = describe(d.pick(2**50), max(LENGTH, length), dials, self.textures, self.split)
                scene = scene.at(draw_times(d, max(LENGTH, length), length, max_skip))
                if d.chance(self.close_up):
                    star = next(s for s in scene.sprites if s.object_id)
                    scene = scene.closer(d.uniform(1, CLOSEST), float(star.x[0]) / 2, float(star.y[0]) / 2)
                # after all other chance, so that these options change nothing else about a clip
                if d.chance(self.patches):
                    scene = scene.patched(d, self.textures, self.split)
                if d.chance(self.pan):
                    scene = scene.panned(d.uniform(-PAN, PAN), d.uniform(-PAN, PAN))
                if d.chance(self.clutter):
                    scene = scene.cluttered(d, 1 + d.pick(THINGS), self.textures, self.split)
                scenes.append(scene)
            pixels, ids = render(scenes, size, self.split, self.device)
            frames = pixels.float() / 255
            for clip, d in zip(frames, dice, strict=True):
                if d.chance(self.blur):
                    clip.copy_(blurred(clip, d))
            return frames, ids

        return _draw_until_shown("GeneratedClips", seeds, GENERATED, draw)


def lifelike(textures: Textures = "mixed", split: Split = "train") -> GeneratedClips:
    """The sprite world as a camera would see it: patched objects, clutter, a panning camera, blur and grain."""
    return GeneratedClips(textures, split, patches=0.6, pan=0.5, clutter=0.6, blur=0.5)


def blurred(frames: Tensor, dice: Rng) -> Tensor:
    """Out of focus, smeared along one direction, and grainy: what a cheap camera and fast motion do.

    Args:
        frames: ``float32 [T, 3, H, W]`` in [0, 1].
        dice: where chance comes from; direction and amount are one for the clip, the smear differs by frame.
    """
    focus = dice.uniform(0, 1) ** 2 * FOCUS * frames.shape[-1]
    angle, smear = dice.uniform(0, np.pi), dice.uniform(0, SMEAR) * frames.shape[-1]
    lengths = smear * dice.array(len(frames))
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
    grain = torch.from_numpy(dice.array(*frames.shape) - 0.5).float().to(frames.device)
    return (smeared + grain * dice.uniform(0, GRAIN)).clamp(0, 1)


def _probability(name: str, value: float) -> None:
    if not 0 <= value <= 1:
        raise TutorialError(f"the probability of {name!r} is {value}; it must lie in 0..1.")


# ------------------------------------------------------------------------------------------ video out of stills

# The amounts are ours.
ANGLE, SHEAR, ZOOM, SHIFT = 30.0, 0.2, 0.25, 0.15  # degrees; tangent; relative; share of the frame: all +-
BEND = 0.2  # control points move by up to this, in frame half-extents
LIGHT = 0.15  # change of gain and of offset, +-
LATTICE = 4  # control points a side


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


def _bernstein(size: int) -> Tensor:
    """The four cubic Bernstein polynomials at ``size`` pixel centres: ``float32 [4, size]``."""
    u = (torch.arange(size, dtype=torch.float64) + 0.5) / size
    v = 1 - u
    return torch.stack([v**3, 3 * u * v**2, 3 * u**2 * v, u**3]).float()


def _control_points(motion: _Motion) -> Array:
    """Where the lattice of each frame looks in the picture: ``[T, 4, 4, 2]``."""
    axis = np.linspace(-1, 1, LATTICE)
    lattice = np.stack(np.meshgrid(axis, axis, indexing="xy"), axis=-1)
    offset = lattice - motion.place[:, None, None]
    cos, sin = (f(motion.angle)[:, None, None] for f in (np.cos, np.sin))
    x, y = offset[..., 0] + motion.shear[:, None, None] * offset[..., 1], offset[..., 1]
    turned = np.stack([cos * x + sin * y, cos * y - sin * x], axis=-1) / motion.zoom[:, None, None, None]
    return turned + motion.bend + motion.anchor


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
        _probability("paste", paste)
        _probability("occluder", occluder)
        if not 1 <= objects < VOID:
            raise TutorialError(f"a composition of {objects} objects cannot be made; ask for 1 to {VOID - 1}.")
        self.source: StillSource = SyntheticStills() if source is None else source
        self.paste, self.objects, self.occluder = paste, objects, occluder

    def batch(self, seeds: Sequence[int], size: int, length: int, max_skip: int = 0) -> Clips:
        """As :meth:`ClipSource.batch`.

        Raises:
            TutorialError: if an argument is out of range, or the stills show no object large enough.
        """
        _check(seeds, size, length, max_skip)
        return _draw_until_shown("SimulatedClips", seeds, SIMULATED, lambda dice: self._draw(dice, size, length))

    def _draw(self, dice: list[Rng], size: int, length: int) -> tuple[Tensor, Tensor]:
        layers: list[_Layer] = []
        seeds: list[int] = []  # of the stills
        for sample, d in enumerate(dice):
            cast = self._cast(d)
            layers += [_Layer(sample, len(seeds) + still, object_id) for object_id, still in cast]
            seeds += [d.pick(2**50) for _ in range(1 + max(still for _, still in cast))]
        stills = self.source.batch(seeds, size)
        centres, extents = _boxes(stills.masks)
        for sample, d in enumerate(dice):
            mine = [layer for layer in layers if layer.sample == sample]
            _move(d, mine, centres, extents, length)
        frames, ids = _compose(stills, layers, len(dice), length)
        light = np.stack([d.array(length, 2) for d in dice]) * 2 - 1
        gain, offset = torch.from_numpy(light * LIGHT).float().to(frames.device)[..., None, None, None].unbind(2)
        return (frames * (1 + gain) + offset).clamp_(0, 1), ids

    def _cast(self, dice: Rng) -> list[tuple[int, int]]:
        """Draw what a sample is made of, from back to front: the id of each layer's object, and which still it is."""
        if not dice.chance(self.paste):
            return [(1, 0)]
        objects = 1 + dice.pick(self.objects)
        cast = [(0, 0), *((k, k) for k in range(1, objects + 1))]
        if dice.chance(self.occluder):  # cut out of the background's still, as in the paper, or out of another
            cast.append((0, 0 if dice.chance(0.5) else objects + 1))
        return cast


def _move(dice: Rng, layers: Sequence[_Layer], centres: Array, extents: Array, length: int) -> None:
    """Draw how the layers of one sample move.

    Args:
        dice: where chance comes from.
        layers: from back to front; the first one covers everything, an occluder comes last.
        centres: ``[N, 2]``, of the objects of all stills.
        extents: ``[N]``, half of their longer sides.
        length: frames.
    """
    for k, layer in enumerate(layers):
        draw = dice.array(length, 5) * 2 - 1
        centre = centres[layer.still]
        layer.back = k == 0
        layer.motion = motion = _Motion(
            anchor=centre,
            place=centre + 2 * SHIFT * draw[:, :2],
            zoom=1 + ZOOM * draw[:, 2],
            angle=np.deg2rad(ANGLE) * draw[:, 3],
            shear=SHEAR * draw[:, 4],
            bend=BEND * (dice.array(length, LATTICE, LATTICE, 2) * 2 - 1),
        )
        if k > 0:  # a cut-out: brought to a fair size, at a place of its own
            half = dice.uniform(0.3, 0.6)
            enlarged = half / extents[layer.still]
            motion.zoom *= enlarged
            motion.bend /= enlarged
            motion.place += dice.array(2) * 1.3 - 0.65 - centre
            if layer.object_id == 0:
                _go_for(dice, motion, [other.motion for other in layers[1:k]], half)


def _go_for(dice: Rng, occluder: _Motion, objects: Sequence[_Motion], half: float) -> None:
    """Move an occluder: in frame 0 to the emptiest of a few places, later half of the time onto an object."""
    length = len(occluder.place)
    places = dice.array(length, 6, 2) * 1.8 - 0.9
    for t in range(length):
        taken = np.stack([o.place[t] for o in objects])
        if t > 0 and dice.chance(0.5):
            occluder.place[t] = taken[dice.pick(len(objects))] + 0.1 * places[t, 0]
            occluder.zoom[t] *= dice.uniform(1.2, 2.0) * 0.5 / half
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


# ---------------------------------------------------------------------------------------------------- real video

CAMERA = (10.0, 0.05, 0.03)  # degrees, relative zoom, shift as a share of the frame: all +-, drawn for each frame


class VideoClips:
    """Short clips out of real video; a :class:`~vos_tutorial.data.davis.DavisFolder` opens only the files it needs.

    A clip shows a random square of the video, between ``size`` pixels and the shorter side wide, that holds a random
    pixel of a random object of the first frame. Each frame is turned, zoomed and shifted a little on its own, half
    of the clips are mirrored. Frames without annotation are passed over: a step of YouTube-VOS is five frames.

    Args:
        clips: the videos.
        objects: at most so many objects stay, drawn at random; the others are background.
        shaken: whether each frame is turned, zoomed and shifted on its own; what comes next cannot be foreseen then.

    Raises:
        TutorialError: if there is no video, one is broken, or ``objects`` is below 1.
    """

    def __init__(self, clips: Sequence[Clip], objects: int = 3, shaken: bool = True) -> None:
        if not len(clips):
            raise TutorialError(f"there is no video in {clips!r}; give at least one.")
        if objects < 1:
            raise TutorialError(f"objects is {objects}; a clip needs at least 1.")
        self.clips, self.objects, self.shaken = clips, objects, shaken
        self.annotated = [_annotated(clips, i) for i in range(len(clips))]

    def batch(self, seeds: Sequence[int], size: int, length: int, max_skip: int = 0) -> Clips:
        """As :meth:`ClipSource.batch`; what comes from outside the square is its mirror image.

        Raises:
            TutorialError: if an argument is out of range, a file is broken, no video has ``length`` annotated frames,
                or no object large enough is found.
        """
        _check(seeds, size, length, max_skip)
        long_enough = [i for i, times in enumerate(self.annotated) if len(times) >= length]
        if not long_enough:
            raise TutorialError(
                f"clips of {length} frames were asked for, but the longest video has "
                f"{max(map(len, self.annotated))} annotated frames; ask for fewer."
            )

        def draw(dice: list[Rng]) -> tuple[Tensor, Tensor]:
            samples = []
            for d in dice:
                chosen = long_enough[d.pick(len(long_enough))]
                known = self.annotated[chosen]
                times = [known[t] for t in draw_times(d, len(known), length, max_skip)]
                samples.append(_view(d, *_read(self.clips, chosen, times), size, self.objects, self.shaken))
            return torch.stack([frames for frames, _ in samples]), torch.stack([ids for _, ids in samples])

        return _draw_until_shown("VideoClips", seeds, VIDEO, draw)


def _annotated(clips: Sequence[Clip], index: int) -> tuple[int, ...]:
    """The frames of a video that have a mask; of a folder without opening a picture."""
    if isinstance(clips, VideoFolder):
        return tuple(t for t, mask in enumerate(clips.files(clips.names[index]).masks) if mask is not None)
    return clips[index].annotated


def _read(clips: Sequence[Clip], index: int, times: list[int]) -> tuple[Tensor, Tensor]:
    """Some frames of a video, ``uint8 [T, 3, H, W]``, and their masks ``uint8 [T, H, W]``."""
    if isinstance(clips, VideoFolder):
        part = clips.part(index, times)
        return part.frames, part.masks
    return clips[index].frames[times], clips[index].masks[times]


def _view(dice: Rng, frames: Tensor, masks: Tensor, size: int, objects: int, shaken: bool) -> tuple[Tensor, Tensor]:
    """A square of a video at ``size`` pixels, with at most ``objects`` of its objects.

    Pictures and masks go through the same filters, one channel for each object, so that outlines stay together.

    Returns:
        ``float32 [T, 3, size, size]`` in [0, 1] and ``uint8 [T, size, size]``: all zero if frame 0 has no
        object.
    """
    ids = object_ids(masks[0])
    if not ids:
        return torch.zeros(len(frames), 3, size, size), torch.zeros(len(frames), size, size, dtype=torch.uint8)
    order = [ids[i] for i in np.argsort(dice.array(len(ids)))]
    top, left, side = _square(dice, masks[0] == order[0], size)
    frames, masks = (x[..., top : top + side, left : left + side] for x in (frames, masks))
    seen = object_ids(masks[0])
    chosen = [i for i in order if i in seen][:objects]
    channels = [frames.float() / 255, *((masks == i)[:, None].float() for i in [*chosen, VOID])]
    both = F.interpolate(torch.cat(channels, 1), (size, size), mode="bilinear", antialias=True, align_corners=False)
    grid = _shaky_grid(dice, len(frames), size, shaken)
    both = F.grid_sample(both, grid, mode="bilinear", padding_mode="reflection", align_corners=False)
    pictures, shares = both.split([3, len(chosen) + 1], dim=1)
    background = 1 - shares.sum(1, keepdim=True)
    winner = torch.cat([background, shares], dim=1).argmax(1)
    return pictures.clamp(0, 1), torch.tensor([0, *chosen, VOID], dtype=torch.uint8)[winner]


def _square(dice: Rng, mask: Tensor, size: int) -> tuple[int, int, int]:
    """Top, left and side of a random square in ``mask [H, W]`` that holds a random true pixel."""
    shorter = min(mask.shape)
    side = round(dice.uniform(min(size, shorter), shorter))
    pixels = mask.nonzero()
    corner = []
    for at, full in zip(pixels[dice.pick(len(pixels))].tolist(), mask.shape, strict=True):
        low, high = max(0, at - side + 1), min(at, full - side)
        corner.append(low + dice.pick(high - low + 1))
    return corner[0], corner[1], side


def _shaky_grid(dice: Rng, length: int, size: int, shaken: bool) -> Tensor:
    """A hand-held camera, or one on a tripod: ``float32 [T, size, size, 2]``.

    One mirror for all frames, the rest drawn for each.
    """
    angle, zoom, shift = CAMERA
    draw = (dice.array(length, 4) * 2 - 1) * shaken
    flip, scale = dice.sign(), 1 + zoom * draw[:, 1]
    cos, sin = np.cos(np.deg2rad(angle) * draw[:, 0]) / scale, np.sin(np.deg2rad(angle) * draw[:, 0]) / scale
    x, y = 2 * shift * draw[:, 2], 2 * shift * draw[:, 3]
    theta = np.stack([np.stack([flip * cos, -flip * sin, x], 1), np.stack([sin, cos, y], 1)], 1)
    return F.affine_grid(torch.from_numpy(theta).float(), [length, 1, size, size], align_corners=False)
