"""Real video with masks: folders in the layout of DAVIS-2016, DAVIS-2017 and YouTube-VOS, read lazily.

A folder is a sequence of clips. Opening one reads the list of names and nothing else; ``folder["dog"]`` (or
``folder[3]``) reads one clip; ``folder.frames("dog")`` reads it frame by frame, for videos too long to hold.

DAVIS (Perazzi et al., CVPR 2016; Pont-Tuset et al., 2017)::

    JPEGImages/480p/<name>/00000.jpg      Annotations/480p/<name>/00000.png
    ImageSets/2017/val.txt                one name a line
    ImageSets/480p/val.txt                2016: "/JPEGImages/480p/<name>/00000.jpg /Annotations/..." for each frame

YouTube-VOS (Xu et al., ECCV 2018)::

    <split>/JPEGImages/<name>/00000.jpg   <split>/Annotations/<name>/00005.png   <split>/meta.json

Frames and masks are numbered; their order is that of the numbers, and letter case and leading zeros do not matter.
DAVIS's own list of what makes each sequence hard is not part of these folders, so the clips' ``attributes`` are ().
"""

from __future__ import annotations

import contextlib
import copy
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar, overload

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from .. import places
from ..clip import Clip, object_ids, write_mask
from ..errors import TutorialError
from ..files import is_folder, listing, numbered_pictures, plain_names, read_text, write_atomically
from ..pictures import read_frame, read_mask

VARIABLE = "VOS_TUTORIAL_DAVIS"
NOWHERE = "none"  # in that variable: look for no DAVIS at all
YEARS = (2016, 2017)
Folder = TypeVar("Folder", bound="VideoFolder")


class Files(NamedTuple):
    """The files of one video, in the order of time; ``masks[t]`` is None where frame ``t`` has no annotation."""

    frames: list[Path]
    masks: list[Path | None]


class VideoFolder(Sequence[Clip]):
    """A lazy sequence of clips; what the layouts have in common.

    Attributes:
        root: the folder.
        names: the clips' names, in the order of the list.
    """

    root: Path
    names: list[str]

    def files(self, name: str) -> Files:
        """The files of one video; looks at names only, opens no picture."""
        raise NotImplementedError

    def read_mask(self, path: Path) -> Tensor:
        """One mask as the layout means it: ``uint8 [H, W]`` ids."""
        return read_mask(path)

    def is_complete(self, name: str) -> bool:
        """Whether the masks show every object wherever there is one: see :attr:`Clip.complete`.

        Raises:
            TutorialError: if a file is missing or broken.
        """
        return True

    def asked_for(self, name: str) -> list[int]:
        """The frames whose masks a result must hold: all, unless the layout says otherwise."""
        return list(range(len(self.files(name).frames)))

    def results_of(self, name: str) -> list[Path]:
        """Where the masks of :meth:`asked_for` belong in a folder of results: ``<name>/00000.png``, ..."""
        frames, masks = self.files(name)
        return [Path(name, f"{(masks[t] or frames[t]).stem}.png") for t in self.asked_for(name)]

    def frames(self, name: str, times: Sequence[int] | None = None) -> Iterator[tuple[Tensor, Tensor | None]]:
        """Read a video frame by frame, all of it or the frames at ``times``; memory does not grow with its length.

        A mask that is one pixel larger or smaller than its frame is brought to the frame's size by nearest
        neighbour: public copies of DAVIS hold a few (an 853-pixel mask on an 854-pixel frame).

        Yields:
            The frame ``uint8 [3, H, W]`` and its mask ``uint8 [H, W]``, or None if it is not annotated.

        Raises:
            TutorialError: if a file is missing or broken, or the sizes do not fit.
        """
        first = None
        files = list(zip(*self.files(name), strict=True))
        for frame_path, mask_path in files if times is None else [files[t] for t in times]:
            frame = read_frame(frame_path)
            first = frame.shape if first is None else first
            if frame.shape != first:
                raise TutorialError(
                    f"frame {frame_path} is {_size(frame)} but the clip's first is {first[1]}x{first[2]}; "
                    "all frames of a clip must have one size, so resize or replace it."
                )
            yield frame, None if mask_path is None else _fit(self.read_mask(mask_path), frame, mask_path)

    def index_of(self, name: str) -> int:
        """Where a clip is in the list.

        Raises:
            TutorialError: if there is no such clip.
        """
        if name not in self.names:
            some = ", ".join(self.names[:5]) + (", ..." if len(self.names) > 5 else "")
            raise TutorialError(f"{self.root} has no clip {name!r} in this list; it has {some}.")
        return self.names.index(name)

    def __len__(self) -> int:
        return len(self.names)

    def __contains__(self, name: object) -> bool:
        return name in self.names

    @overload
    def __getitem__(self, key: int | str) -> Clip: ...
    @overload
    def __getitem__(self: Folder, key: slice) -> Folder: ...
    def __getitem__(self: Folder, key: int | str | slice) -> Clip | Folder:
        """Read a clip by its place or name; a slice is a folder of fewer names, still unread.

        Raises:
            TutorialError: if there is no such name, or as in :meth:`frames`.
            IndexError: if there is no such place.
        """
        if isinstance(key, slice):
            fewer = copy.copy(self)
            fewer.names = self.names[key]
            return fewer
        return self._read(self.names[self.index_of(key) if isinstance(key, str) else key])

    def part(self, key: int | str, times: Sequence[int]) -> Clip:
        """Some frames of a clip as a clip of its own; the files of the others are not opened.

        Args:
            key: the clip's place or name.
            times: numbers of frames, at least one, in the order wanted.

        Raises:
            TutorialError: if there is no such name, or as in :meth:`frames`.
            IndexError: if there is no such place or frame.
        """
        return self._read(self.names[self.index_of(key) if isinstance(key, str) else key], times)

    def _read(self, name: str, times: Sequence[int] | None = None) -> Clip:
        given = self.files(name).masks
        given = given if times is None else [given[t] for t in times]
        frames = masks = None
        for t, (frame, mask) in enumerate(self.frames(name, times)):
            if frames is None or masks is None:  # filled in place: a 300-frame video fits once, not twice
                frames = torch.empty(len(given), *frame.shape, dtype=torch.uint8)
                masks = torch.zeros(len(given), *frame.shape[1:], dtype=torch.uint8)
            frames[t] = frame
            if mask is not None:
                masks[t] = mask
        assert frames is not None  # files() never returns an empty list
        assert masks is not None
        annotated = tuple(t for t, mask in enumerate(given) if mask is not None)
        return Clip(frames, masks, name, annotated=annotated, complete=self.is_complete(name))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self.root)!r}, {len(self)} clips)"


class DavisFolder(VideoFolder):
    """A folder in DAVIS layout.

    ``year=2016`` reads the foreground as one object: every non-zero pixel is id 1. This holds for DAVIS-2016's own
    0/255 masks and, by merging the objects, for the palette masks of 2017 (whose merged masks equal those of 2016).
    ``year=2017`` reads ids: 1..254 are objects, gaps allowed, 255 is void.

    Args:
        root: the folder that holds JPEGImages, Annotations and ImageSets.
        year: 2016 or 2017.
        split: a list in ImageSets: train, val, ... In lists that start with "test" only the first frame has a mask.
        resolution: the folder under JPEGImages: "480p", "1080p" (2016) or "Full-Resolution" (2017).
        annotations: where the masks are; "Annotations_unsupervised" for that task of DAVIS-2017.

    Raises:
        TutorialError: if the folder, the list or the resolution is not there, or the year is another.
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        year: int = 2016,
        split: str = "val",
        resolution: str = "480p",
        annotations: str = "Annotations",
    ) -> None:
        if year not in YEARS:
            raise TutorialError(f"there is no DAVIS-{year}; year is 2016 (one object) or 2017 (several).")
        self.root = Path(root)
        self.year = year
        self.split = _plain_split(split)
        if not is_folder(self.root):
            raise TutorialError(
                f"there is no DAVIS folder {self.root}; run 'python -m vos_tutorial download davis{year}', "
                "or see data/README.md to fetch it by hand."
            )
        self._images = _existing(self.root / "JPEGImages" / resolution)
        self._masks = _existing(self.root / annotations / resolution)
        self.names = _split_names(self.root, year, split)

    def files(self, name: str) -> Files:
        """The files of one sequence, complete: numbered without gaps, one mask for each frame.

        Raises:
            TutorialError: naming the first frame or mask that is missing.
        """
        frames = numbered_pictures(_existing(self._images / name), "frame")
        masks = numbered_pictures(_existing(self._masks / name), "mask")
        counted = f"({len(frames)} frames, {len(masks)} masks)"
        for t, number in enumerate(frames):
            if number != t:
                raise TutorialError(
                    f"frame {self._images / name / f'{t:05d}.jpg'} is missing {counted}; unpack the data set again."
                )
        _require_frames(name, frames, masks, counted)
        given = [0] if self.split.startswith("test") else list(frames)
        for number in given:
            if number not in masks:
                raise TutorialError(
                    f"{name}: frame {frames[number]} has no mask {self._masks / name / frames[number].stem}.png "
                    f"{counted}; unpack the data set again."
                )
        return Files(list(frames.values()), [masks.get(number) for number in frames])

    def read_mask(self, path: Path) -> Tensor:
        """One mask as the year means it: ``uint8 [H, W]``."""
        return read_mask(path, binary=self.year == 2016)

    def frames(self, name: str, times: Sequence[int] | None = None) -> Iterator[tuple[Tensor, Tensor | None]]:
        """As :meth:`VideoFolder.frames`.

        Raises:
            TutorialError: also if 2017 is asked of masks in the style of 2016. Their objects are 255, which means
                void to 2017, and the clip would silently have no object.
        """
        known = self.year == 2016
        for frame, mask in super().frames(name, times):
            if not known and mask is not None and bool(mask.any()):
                if not object_ids(mask):
                    raise TutorialError(
                        f"{name}: the masks in {self._masks} hold only 0 and 255, the style of DAVIS-2016, and 255 "
                        "means void to DAVIS-2017; open the folder with year=2016, or get the masks of 2017."
                    )
                known = True
            yield frame, mask


class YouTubeVosFolder(VideoFolder):
    """A folder in YouTube-VOS layout.

    Every fifth frame or fewer has a mask; ``clip.annotated`` says which, the other masks are zero. Objects may
    appear late and ids have gaps: see :func:`appearances`.

    ``meta.json`` gives the list of videos, and the frames in which each object counts. In ``train`` there is a mask
    for all of these. In ``valid`` and ``test`` an object has one mask, where it first appears; a zero elsewhere says
    "not labelled". Their clips are not :attr:`~vos_tutorial.clip.Clip.complete`: they can be followed, and scored by
    the data set's server only, which wants the masks of the frames that ``meta.json`` lists.

    Args:
        root: the folder that holds ``train/``, ``valid/``, ...
        split: the name of the folder inside.

    Raises:
        TutorialError: if a folder is missing, or ``meta.json`` cannot be read.
    """

    def __init__(self, root: str | os.PathLike[str], split: str = "train") -> None:
        self.root = Path(root)
        self.split = _plain_split(split)
        self._images = _existing(self.root / split / "JPEGImages")
        self._masks = _existing(self.root / split / "Annotations")
        meta = self.root / split / "meta.json"
        self._objects = _meta(meta) if os.path.lexists(meta) else None
        videos = [p.name for p in listing(self._images) if is_folder(p)]
        self.names = plain_names(self._objects or videos, str(meta if self._objects else self._images))
        if not self.names:
            raise TutorialError(f"{self._images} holds no video; unpack the data set again.")

    def files(self, name: str) -> Files:
        """The files of one video.

        Raises:
            TutorialError: if a mask, or a frame that ``meta.json`` lists, has no frame; or there is no mask at all.
        """
        frames = numbered_pictures(_existing(self._images / name), "frame")
        masks = numbered_pictures(_existing(self._masks / name), "mask")
        _require_frames(name, frames, masks, f"({len(frames)} frames, {len(masks)} masks)")
        missing = sorted(set().union(*self._counted(name).values()) - set(frames))
        if missing:
            raise TutorialError(
                f"{name}: frame {self._images / name / f'{missing[0]:05d}.jpg'} is missing, and meta.json lists it; "
                "unpack the data set again."
            )
        return Files(list(frames.values()), [masks.get(number) for number in frames])

    def _counted(self, name: str) -> dict[int, set[int]]:
        """The numbers of the frames in which each object counts; empty without ``meta.json``."""
        return (self._objects or {}).get(name, {})

    def asked_for(self, name: str) -> list[int]:
        """The frames that ``meta.json`` lists; all without it."""
        counted = set().union(*self._counted(name).values())
        numbers = [int(path.stem) for path in self.files(name).frames]
        return [t for t, number in enumerate(numbers) if number in counted or not counted]

    def is_complete(self, name: str) -> bool:
        """Whether each object has pixels in each frame that ``meta.json`` lists for it.

        Without ``meta.json`` there is no way to tell, and only ``train`` is taken to be. Of ``train`` files are
        counted, of other splits pixels: there, a mask may show the new object only, so that each must show all.
        """
        counted = self._counted(name)
        if not counted:
            return self.split.startswith("train")
        frames, masks = self.files(name)
        masked = {int(frame.stem): mask for frame, mask in zip(frames, masks, strict=True) if mask is not None}
        if self.split.startswith("train"):
            return all(number in masked for numbers in counted.values() for number in numbers)
        shown = {number: set(object_ids(read_mask(mask))) for number, mask in masked.items()}
        # An object that a later mask does not show may have left, or may not be labelled: only if all are there ...
        first = {i: min(n for n, ids in shown.items() if i in ids) for i in set().union(*shown.values())}
        labelled = all(i in shown[number] for i, begin in first.items() for number in shown if number >= begin)
        # ... and all are listed does a mask say where everything is.
        listed = {i for i, numbers in counted.items() if numbers}
        return (
            labelled
            and first.keys() <= listed
            and all(i in shown.get(number, ()) for i in listed for number in counted[i])
        )


def appearances(clip: Clip) -> dict[int, Tensor]:
    """The objects that are first annotated after frame 0, in the form that ``propagate(later=...)`` takes.

    Returns:
        ``{t: uint8 [H, W]}`` with ``t >= 1``: a mask of only those objects that are new at ``t``.
    """
    seen = set(object_ids(clip.masks[0]))
    later = {}
    for t in clip.annotated:
        new = [i for i in object_ids(clip.masks[t]) if i not in seen]
        if new:
            mask = clip.masks[t]
            later[t] = torch.where(torch.isin(mask, torch.tensor(new, dtype=torch.uint8)), mask, 0)
            seen.update(new)
    return later


def write_davis(root: str | os.PathLike[str], clips: Iterable[Clip], split: str = "val") -> None:
    """Clips as a folder in the layout of DAVIS-2017, which :class:`DavisFolder` reads.

    Frames are JPEGs and therefore lose a little; masks are exact.

    Args:
        root: of the data set; made if missing.
        clips: each under its name.
        split: the list that names them.

    Raises:
        TutorialError: if a mask cannot be written.
    """
    names = []
    for clip in clips:
        pictures = Path(root) / "JPEGImages" / "480p" / clip.name
        pictures.mkdir(parents=True, exist_ok=True)
        for t, (frame, mask) in enumerate(zip(clip.frames, clip.masks, strict=True)):
            Image.fromarray(frame.permute(1, 2, 0).numpy()).save(pictures / f"{t:05d}.jpg")
            write_mask(Path(root) / "Annotations" / "480p" / clip.name / f"{t:05d}.png", mask)
        names.append(clip.name)
    write_atomically(Path(root) / "ImageSets" / "2017" / f"{split}.txt", "\n".join([*names, ""]).encode())


def find_davis(year: int = 2016) -> Path | None:
    """A DAVIS folder on this machine that has a ``val`` list for ``year``, or None.

    Looks at the environment variable ``VOS_TUTORIAL_DAVIS``, then where the download command puts it (``data/`` in a
    checkout), then for a DAVIS folder beside the checkout. With ``none`` in the variable it looks nowhere: so pages
    are built that must not store a frame of DAVIS (its licence).

    Raises:
        TutorialError: if the variable is set to anything else that is no such folder.
    """
    chosen = os.environ.get(VARIABLE)
    if chosen == NOWHERE:
        return None
    if chosen:
        if not _has_val(Path(chosen), year):
            raise TutorialError(
                f"{VARIABLE} is {chosen!r}, which is not a DAVIS folder with a val list for {year}; "
                "correct it, or unset it."
            )
        return Path(chosen)
    folders = [places.downloads() / name for name in ("DAVIS", "DAVIS-2016", "DAVIS-2017")]
    if places.CHECKOUT:
        folders += [places.CHECKOUT.parent / name for name in ("DAVIS", "shared/davis_sample")]
    for path in folders:
        with contextlib.suppress(TutorialError):  # a folder that was not chosen, and that may not be read
            if _has_val(path, year):
                return path.resolve()
    return None


def _has_val(root: Path, year: int) -> bool:
    pictures = all(is_folder(root / part / "480p") for part in ("JPEGImages", "Annotations"))
    return pictures and lists_split(root, year, "val")


def lists_split(root: Path, year: int, split: str) -> bool:
    """Whether a DAVIS folder has the list of a split for ``year``, and names a video in it.

    A list that cannot be read counts: whoever opens it is told why.
    """
    for path in _lists(root, year, split):
        if os.path.lexists(path):
            return not path.is_file() or path.stat().st_size > 0
    return False


def _lists(root: Path, year: int, split: str) -> list[Path]:
    """Where a split's list may be, best first; only 2016 ever used the lists of path pairs."""
    sets = root / "ImageSets"
    return [sets / str(year) / f"{split}.txt", *([sets / "480p" / f"{split}.txt"] if year == 2016 else [])]


def _plain_split(split: str) -> str:
    if plain_names([split], "the choice of a split") != [split]:
        raise TutorialError(f"the split is {split!r}, which is not a name; choose train, val, valid, test, ...")
    return split


def _split_names(root: Path, year: int, split: str) -> list[str]:
    sets = _existing(root / "ImageSets")
    path = next((p for p in _lists(root, year, split) if is_folder(p.parent) and p in listing(p.parent)), None)
    if path is None:
        found = [p.relative_to(sets) for folder in listing(sets) if is_folder(folder) for p in listing(folder)]
        raise TutorialError(
            f"{root} has no list for year {year}, split {split!r}; under ImageSets it has "
            f"{', '.join(p.as_posix() for p in found if p.suffix == '.txt') or 'nothing'}."
        )
    lines = read_text(path, "the list", "unpack the data set again").splitlines()
    names = plain_names((_listed(line) for line in lines), f"the list {path}")
    if not names:
        raise TutorialError(f"the list {path} is empty; choose another split than {split!r}.")
    return names


def _listed(line: str) -> str:
    """The name in a line: all of it, or that in 2016's ``/JPEGImages/480p/<name>/00000.jpg /Annotations/...``."""
    frame = re.split(r"\s+(?=/)", line.strip())[0].lstrip("/").split("/")
    return frame[2] if len(frame) == 4 and frame[0] == "JPEGImages" else line


def _meta(path: Path) -> dict[str, dict[int, set[int]]]:
    """``{video: {object: numbers of the frames in which it counts}}`` from YouTube-VOS's ``meta.json``."""
    text = read_text(path, "the list of videos", "unpack it again, or rename it to use the folders' names")
    try:
        videos = json.loads(text)["videos"]
        return {
            name: {int(i): {int(f) for f in about.get("frames", ())} for i, about in video.get("objects", {}).items()}
            for name, video in sorted(videos.items())
        }
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise TutorialError(
            f"{path} cannot be read as a list of videos ({type(error).__name__}: {error}); "
            "unpack it again, or rename it to use the folders' names."
        ) from None


def _existing(folder: Path) -> Path:
    if not is_folder(folder):
        beside = [p.name for p in listing(folder.parent) if is_folder(p)] if is_folder(folder.parent) else []
        raise TutorialError(
            f"there is no folder {folder}; {folder.parent} has {', '.join(beside) or 'no folders'}, "
            "so check the root, the split and the resolution."
        )
    return folder


def _require_frames(name: str, frames: Mapping[int, Path], masks: Mapping[int, Path], counted: str) -> None:
    for number in masks.keys() - frames.keys():
        raise TutorialError(f"{name}: mask {masks[number]} has no frame {counted}; unpack the data set again.")


def _size(picture: Tensor) -> str:
    return f"{picture.shape[-2]}x{picture.shape[-1]}"


def _fit(mask: Tensor, frame: Tensor, path: Path) -> Tensor:
    if mask.shape == frame.shape[1:]:
        return mask
    if max(abs(m - f) for m, f in zip(mask.shape, frame.shape[1:], strict=True)) > 1:
        raise TutorialError(
            f"mask {path} is {_size(mask)} but its frame is {_size(frame)} (height x width); resize the mask with "
            "nearest neighbour, or take frames and masks of one resolution."
        )
    return F.interpolate(mask[None, None], size=frame.shape[1:], mode="nearest-exact")[0, 0]
