"""Short training clips out of real video, with frames left out, so that the changes between them are large.

The second stage of RGMP (Oh et al., CVPR 2018, section 3.2) and STM (Oh et al., ICCV 2019, section 3.5).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ...clip import VOID, Clip, object_ids
from ...errors import TutorialError
from ...files import is_folder
from ...rng import Rng, Stream
from ..batches import Clips, check_request, draw_times, draw_until_shown
from ..davis import DavisFolder, VideoFolder, YouTubeVosFolder, lists_split

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
        TutorialError: if there is no video, one is broken or not annotated completely, or ``objects`` is below 1.
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
        check_request(seeds, size, length, max_skip)
        long_enough = [i for i, times in enumerate(self.annotated) if len(times) >= length]
        if not long_enough:
            raise TutorialError(
                f"clips of {length} frames were requested, but the longest video has "
                f"{max(map(len, self.annotated))} annotated frames; ask for fewer."
            )

        def draw(rngs: list[Rng]) -> tuple[Tensor, Tensor]:
            samples = []
            for rng in rngs:
                chosen = long_enough[rng.pick(len(long_enough))]
                known = self.annotated[chosen]
                times = [known[t] for t in draw_times(rng, len(known), length, max_skip)]
                samples.append(_view(rng, *_read(self.clips, chosen, times), size, self.objects, self.shaken))
            return torch.stack([frames for frames, _ in samples]), torch.stack([ids for _, ids in samples])

        return draw_until_shown("VideoClips", seeds, Stream.VIDEO, draw)


def _annotated(clips: Sequence[Clip], index: int) -> tuple[int, ...]:
    """The frames of a video that have a mask; of a folder without opening a picture."""
    name = clips.names[index] if isinstance(clips, VideoFolder) else clips[index].name
    if not (clips.is_complete(name) if isinstance(clips, VideoFolder) else clips[index].complete):
        raise TutorialError(
            f"video {name!r} has masks of new objects only, where they first appear, so that nothing can be learned "
            "from it; take a split that is annotated completely, such as train."
        )
    if isinstance(clips, VideoFolder):
        return tuple(t for t, mask in enumerate(clips.files(name).masks) if mask is not None)
    return clips[index].annotated


def open_video(root: str | os.PathLike[str], split: str = "train") -> VideoFolder:
    """A folder of video with masks to train on, whatever its layout: DAVIS-2017, DAVIS-2016 or YouTube-VOS.

    DAVIS lists the videos of a split in ``ImageSets``; YouTube-VOS has a folder for each split.

    Raises:
        TutorialError: if it has neither layout, or as :class:`~vos_tutorial.data.davis.DavisFolder` and
            :class:`~vos_tutorial.data.davis.YouTubeVosFolder`.
    """
    base = Path(root)
    if is_folder(base / "ImageSets"):
        years = [year for year in (2017, 2016) if lists_split(base, year, split)]
        return DavisFolder(base, year=years[0] if years else 2017, split=split)
    if is_folder(base / split / "JPEGImages"):
        return YouTubeVosFolder(base, split)
    if is_folder(base / "JPEGImages") and is_folder(base / "Annotations") and base.absolute().name == split:
        return YouTubeVosFolder(base.absolute().parent, split)
    raise TutorialError(
        f"{base} has neither the layout of DAVIS (JPEGImages, Annotations, ImageSets) nor that of YouTube-VOS "
        f"({split}/JPEGImages, {split}/Annotations); name the folder that holds these."
    )


def _read(clips: Sequence[Clip], index: int, times: list[int]) -> tuple[Tensor, Tensor]:
    """Some frames of a video, ``uint8 [T, 3, H, W]``, and their masks ``uint8 [T, H, W]``."""
    if isinstance(clips, VideoFolder):
        part = clips.part(index, times)
        return part.frames, part.masks
    return clips[index].frames[times], clips[index].masks[times]


def _view(rng: Rng, frames: Tensor, masks: Tensor, size: int, objects: int, shaken: bool) -> tuple[Tensor, Tensor]:
    """A square of a video at ``size`` pixels, with at most ``objects`` of its objects.

    Pictures and masks go through the same filters, one channel for each object, so that outlines stay together.

    Returns:
        ``float32 [T, 3, size, size]`` in [0, 1] and ``uint8 [T, size, size]``: all zero if frame 0 has no
        object.
    """
    ids = object_ids(masks[0])
    if not ids:
        return torch.zeros(len(frames), 3, size, size), torch.zeros(len(frames), size, size, dtype=torch.uint8)
    order = [ids[i] for i in np.argsort(rng.array(len(ids)))]
    top, left, side = _square(rng, masks[0] == order[0], size)
    frames, masks = (x[..., top : top + side, left : left + side] for x in (frames, masks))
    seen = object_ids(masks[0])
    chosen = [i for i in order if i in seen][:objects]
    channels = [frames.float() / 255, *((masks == i)[:, None].float() for i in [*chosen, VOID])]
    both = F.interpolate(torch.cat(channels, 1), (size, size), mode="bilinear", antialias=True, align_corners=False)
    grid = _shaky_grid(rng, len(frames), size, shaken)
    both = F.grid_sample(both, grid, mode="bilinear", padding_mode="reflection", align_corners=False)
    pictures, shares = both.split([3, len(chosen) + 1], dim=1)
    background = 1 - shares.sum(1, keepdim=True)
    winner = torch.cat([background, shares], dim=1).argmax(1)
    return pictures.clamp(0, 1), torch.tensor([0, *chosen, VOID], dtype=torch.uint8)[winner]


def _square(rng: Rng, mask: Tensor, size: int) -> tuple[int, int, int]:
    """Top, left and side of a random square in ``mask [H, W]`` that holds a random true pixel."""
    shorter = min(mask.shape)
    side = round(rng.uniform(min(size, shorter), shorter))
    pixels = mask.nonzero()
    corner = []
    for at, full in zip(pixels[rng.pick(len(pixels))].tolist(), mask.shape, strict=True):
        low, high = max(0, at - side + 1), min(at, full - side)
        corner.append(low + rng.pick(high - low + 1))
    return corner[0], corner[1], side


def _shaky_grid(rng: Rng, length: int, size: int, shaken: bool) -> Tensor:
    """A hand-held camera, or one on a tripod: ``float32 [T, size, size, 2]``.

    One mirror for all frames, the rest drawn for each.
    """
    angle, zoom, shift = CAMERA
    draw = (rng.array(length, 4) * 2 - 1) * shaken
    flip, scale = rng.sign(), 1 + zoom * draw[:, 1]
    cos, sin = np.cos(np.deg2rad(angle) * draw[:, 0]) / scale, np.sin(np.deg2rad(angle) * draw[:, 0]) / scale
    x, y = 2 * shift * draw[:, 2], 2 * shift * draw[:, 3]
    theta = np.stack([np.stack([flip * cos, -flip * sin, x], 1), np.stack([sin, cos, y], 1)], 1)
    return F.affine_grid(torch.from_numpy(theta).float(), [length, 1, size, size], align_corners=False)
