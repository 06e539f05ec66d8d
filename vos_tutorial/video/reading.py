"""A video as a sequence of frames: any file that FFmpeg decodes, or a folder of pictures."""

from __future__ import annotations

import hashlib
import itertools
import os
import threading
import warnings
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor
from tqdm.auto import tqdm  # in a notebook a bar of its own, instead of a red line

from ..errors import TutorialError
from ..files import is_folder, pictures_by_stem
from ..pictures import read_frame
from ..resize import resize_frame
from .decoding import LARGEST, Decoder, how_to_convert, picture

PICTURE_RATE = 24  # frames a second of a folder of pictures, as DAVIS has them
AHEAD = 16  # frames that are rather decoded than passed over by a search for a key frame
SAMPLE = 2**20  # bytes of either end of a file that tell it from others
BACKWARD = 2**28  # bytes of frames that are held to read backward


class Video:
    """The frames of a video, one at a time; the whole is never in memory.

    Args:
        path: of a video file, or of a folder of pictures, which follow each other in the natural order of their
            names.
        max_side: frames whose longer side has more pixels are shrunk to so many.
        every: keep each so-manieth frame.
        start: seconds from the first frame; frames before are left out.
        end: seconds; frames from there on are left out.

    Attributes:
        path: of the file or folder.
        size: ``(H, W)`` of the frames given out, upright and with square pixels.
        full_size: the same before ``max_side``.

    Raises:
        TutorialError: if there is no such file, if it is broken, empty or without pictures, if its frames are too
            large to be read at their own size, or an option cannot be; each says how to go on. What goes wrong in
            the middle of the file is raised by what reads it: ``len``, ``times``, ``frame``, iteration.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        max_side: int | None = None,
        every: int = 1,
        start: float | Fraction | None = None,
        end: float | Fraction | None = None,
    ) -> None:
        self.path = Path(path)
        _require_options(max_side, every, start, end)
        self.max_side, self.every = max_side, every
        self.start, self.end = (None if t is None else Fraction(t).limit_denominator(10**6) for t in (start, end))
        self._source: _Source = _Pictures(self.path) if is_folder(self.path) else _Film(self.path)
        self.full_size = self._source.size
        self.size = _within(max_side, self.full_size)
        if max_side is None and self.size[0] * self.size[1] > LARGEST:
            height, width = self.full_size
            raise TutorialError(f"frames of {path} are {width}x{height}; read them smaller, with max_side=1920.")
        self._lock = threading.RLock()
        self._index: tuple[list[int], list[Fraction]] | None = None
        self._reader: _Reader | None = None

    # ------------------------------------------------------------------------------------------------ its frames

    def _kept(self) -> tuple[list[int], list[Fraction]]:
        """The numbers in the source of the frames that are kept, and their times."""
        with self._lock:
            if self._index is None:
                times = self._source.times(self.end)
                low = self.start or 0
                kept = [n for n, t in enumerate(times) if t >= low and (self.end is None or t < self.end)]
                kept = kept[:: self.every]
                if not kept:
                    raise TutorialError(
                        f"video {self.path} lasts {float(times[-1]):.2f} s, and none of its {len(times)} frames lies "
                        f"between {float(low):g} s and "
                        f"{'its end' if self.end is None else f'{float(self.end):g} s'}; change start or end."
                    )
                self._index = kept, [times[n] for n in kept]
            return self._index

    def __len__(self) -> int:
        """How many frames there are: counted, because headers lie. The first call decodes a file once."""
        return len(self._kept()[0])

    @property
    def times(self) -> list[Fraction]:
        """When each frame is shown: exact seconds since the first frame of the file, ascending."""
        return list(self._kept()[1])

    @property
    def durations(self) -> list[Fraction]:
        """How long each frame is shown, exact seconds; the last one as long as the one before."""
        times = self.times
        gaps = [after - before for before, after in itertools.pairwise(times)]
        return [*gaps, gaps[-1] if gaps else Fraction(self.every, PICTURE_RATE)]

    def frame(self, i: int) -> Tensor:
        """Frame ``i`` as ``uint8 [3, H, W]``; negative numbers count from the end.

        Quick where frames are asked for in order; otherwise it is decoded from the key frame before.

        Raises:
            TutorialError: if there is no such frame, or it cannot be read any more.
        """
        number = self._kept()[0][self._require_frame(i)]
        with self._lock:
            if self._reader is None:
                self._reader = self._source.open()
            return self._reader.read(number, self.size)

    def frames(self, numbers: Iterable[int] | None = None) -> Iterator[Tensor]:
        """Frames ``uint8 [3, H, W]``, one after the other; a range may run backward.

        Each iterator has the file open for itself, so that several can go on at once.

        Args:
            numbers: which ones, in this order; all by default.
        """
        kept = self._kept()[0]
        room = max(1, min(64, BACKWARD // (3 * self.size[0] * self.size[1])))
        reader = self._source.open()
        try:
            for chunk in _backward_runs(range(len(kept)) if numbers is None else numbers, room):
                held = {i: reader.read(kept[self._require_frame(i)], self.size) for i in sorted(chunk)}
                for i in chunk:
                    yield held.pop(i)
        finally:
            reader.close()

    def __iter__(self) -> Iterator[Tensor]:
        return self.frames()

    def __getitem__(self, i: int) -> Tensor:
        return self.frame(i)

    def _require_frame(self, i: int) -> int:
        count = len(self)
        if not -count <= i < count:
            raise TutorialError(f"there is no frame {i} in {self.path}; its frames are 0..{count - 1}.")
        return i % count

    def options(self) -> dict[str, Any]:
        """How it was opened, as plain values."""
        start, end = (None if t is None else str(t) for t in (self.start, self.end))
        return {"max_side": self.max_side, "every": self.every, "start": start, "end": end}

    def fingerprint(self) -> str:
        """What tells this file or folder from another, wherever it lies: its sizes, and some of its content."""
        return self._source.fingerprint()

    def close(self) -> None:
        """Close the file; reading opens it again."""
        with self._lock:
            if self._reader is not None:
                self._reader.close()
            self._reader = None

    def __repr__(self) -> str:
        return f"Video({os.fspath(self.path)!r}, {self.size[1]}x{self.size[0]})"


def _backward_runs(numbers: Iterable[int], room: int) -> Iterator[list[int]]:
    """Numbers one by one, but those that run backward in lists of at most ``room``: each is read forward."""
    run: list[int] = []
    for number in numbers:
        if run and (number != run[-1] - 1 or len(run) == room):
            yield run
            run = []
        run.append(number)
    if run:
        yield run


def _require_options(max_side: int | None, every: int, start: object, end: object) -> None:
    if max_side is not None and (type(max_side) is not int or max_side < 1):
        raise TutorialError(f"max_side is {max_side!r}; give a number of pixels, such as 1280.")
    if type(every) is not int or every < 1:
        raise TutorialError(f"every is {every!r}; give 1 for all frames, 2 for each second one, and so on.")
    for name, value in (("start", start), ("end", end)):
        if value is not None and not (isinstance(value, (int, float, Fraction)) and 0 <= value < 10**9):
            raise TutorialError(f"{name} is {value!r}; give seconds from the beginning, such as 2.5.")
    if isinstance(end, (int, float, Fraction)) and isinstance(start, (int, float, Fraction)) and end <= start:
        raise TutorialError(f"start is {start} s and end {end} s; the end must come after the start.")


def _within(max_side: int | None, size: tuple[int, int]) -> tuple[int, int]:
    longer = max(size)
    if max_side is None or longer <= max_side:
        return size
    height, width = (max(1, round(side * max_side / longer)) for side in size)
    return height, width


# ------------------------------------------------------------------------------------------- where frames come from


class _Reader(Protocol):
    def read(self, number: int, size: tuple[int, int]) -> Tensor: ...

    def close(self) -> None: ...


class _Source(Protocol):
    size: tuple[int, int]

    def times(self, end: Fraction | None) -> list[Fraction]: ...

    def fingerprint(self) -> str: ...

    def open(self) -> _Reader: ...


class _Pictures:
    """A folder of pictures; a reader holds nothing, so it is one itself."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.paths = list(pictures_by_stem(folder).values())
        if not self.paths:
            raise TutorialError(
                f"folder {folder} holds no .jpg or .png picture; give the folder of a video's frames."
            )
        self.size = _size(read_frame(self.paths[0]))

    def times(self, end: Fraction | None) -> list[Fraction]:
        return [Fraction(n, PICTURE_RATE) for n in range(len(self.paths))]

    def fingerprint(self) -> str:
        return _digest(*(f"{path.name} {path.stat().st_size}".encode() for path in self.paths))

    def open(self) -> _Pictures:
        return self

    def read(self, number: int, size: tuple[int, int]) -> Tensor:
        frame = read_frame(self.paths[number])  # [3, H, W]
        if _size(frame) != self.size:
            (height, width), first = _size(frame), f"{self.size[1]}x{self.size[0]}"
            raise TutorialError(
                f"frame {self.paths[number]} is {width}x{height}, the first one {first}; a video's frames have one "
                "size, so resize it or take it out."
            )
        if _size(frame) == size:
            return frame
        return (resize_frame(frame.float() / 255, *size) * 255).round().byte()

    def close(self) -> None:
        """There is nothing to close."""


def _digest(*parts: bytes) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        digest.update(part)
    return digest.hexdigest()


def _size(frame: Tensor) -> tuple[int, int]:
    return frame.shape[-2], frame.shape[-1]


@dataclass(frozen=True)
class _Index:
    """What one pass over a file found out."""

    stamps: list[int]  # of the frames, ascending; empty if the file has none that can be used
    keys: list[int]  # numbers of the key frames
    times: list[Fraction]


class _Film:
    """A video file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._index: _Index | None = None
        with Decoder(path) as decoder:
            first = next(decoder, None)
            if first is None:
                raise TutorialError(
                    f"video {path} holds no frame that can be decoded; copy it again, or {how_to_convert(path)}."
                )
            self.size = decoder.shown_size(first)

    def _look_through(self, end: Fraction | None) -> _Index:
        """Decode the file once, as far as its frames are wanted."""
        stamps: list[Any] = []
        keys: list[int] = []
        with (
            Decoder(self.path) as decoder,
            tqdm(desc=f"looking through {self.path.name}", unit=" frames", delay=2, leave=False, disable=None) as bar,
        ):
            for number, frame in enumerate(decoder):
                self._require_size(number, decoder.shown_size(frame))
                stamps.append(frame.pts)
                if frame.key_frame:
                    keys.append(number)
                bar.update()
                if None not in (end, frame.pts, stamps[0]) and (frame.pts - stamps[0]) * decoder.time_base >= end:
                    break
            base, rate, damaged = decoder.time_base, decoder.rate, decoder.damaged
        if damaged:
            warnings.warn(
                f"video {self.path} is damaged: {damaged} packets could not be decoded, and {len(stamps)} frames "
                "could",
                stacklevel=2,
            )
        ordered = None not in stamps and all(a < b for a, b in itertools.pairwise(stamps))
        if not ordered or not base:
            return _Index([], [], [n / Fraction(rate or PICTURE_RATE) for n in range(len(stamps))])
        return _Index(stamps, keys, [(stamp - stamps[0]) * Fraction(base) for stamp in stamps])

    def _require_size(self, number: int, found: tuple[int, int]) -> None:
        if found != self.size:
            height, width = self.size
            raise TutorialError(
                f"video {self.path} changes its size: frame {number} is {found[1]}x{found[0]}, those before are "
                f"{width}x{height}, and a mask fits one size only; "
                f"{how_to_convert(self.path, f' -vf scale={width}:{height}')}."
            )

    def times(self, end: Fraction | None) -> list[Fraction]:
        self._index = self._look_through(end)
        return self._index.times

    def fingerprint(self) -> str:
        with open(self.path, "rb") as file:
            size = file.seek(0, os.SEEK_END)
            ends = []
            for place in (0, max(0, size - SAMPLE)):
                file.seek(place)
                ends.append(file.read(SAMPLE))
        return _digest(str(size).encode(), *ends)

    def open(self) -> _FilmReader:
        assert self._index is not None  # times come first
        return _FilmReader(self.path, self._index, self.size)


class _FilmReader:
    """Any frame of a file, by its number: on from the last one, or from the key frame before it."""

    def __init__(self, path: Path, index: _Index, size: tuple[int, int]) -> None:
        self._decoder, self._index, self._size = Decoder(path), index, size
        self._next = 0  # the number of the frame that the decoder gives next
        self._numbers = {stamp: number for number, stamp in enumerate(index.stamps)}
        self._last: tuple[int, Any] | None = None

    def read(self, number: int, size: tuple[int, int]) -> Tensor:
        if self._last is None or self._last[0] != number:
            frame = self._find(number)
            if frame is None:  # a search may end behind it: once more from the beginning
                self._rewind()
                frame = self._forward_to(number)
            if frame is None:
                path = self._decoder.path
                raise TutorialError(
                    f"frame {number} of {path} cannot be read any more; was the file changed? If not, "
                    f"{how_to_convert(path)}."
                )
            self._last = number, frame
        return picture(self._last[1], size, self._decoder.turn)

    def _find(self, number: int) -> Any:
        before = bisect_right(self._index.keys, number)
        key = self._index.keys[before - 1] if before else 0
        if not self._next <= number or key > self._next + AHEAD:
            if self._index.stamps:
                self._decoder.seek(self._index.stamps[key])
                self._next = key
            else:
                self._rewind()
        return self._forward_to(number)

    def _rewind(self) -> None:
        self._decoder.seek(None)
        self._next = 0

    def _forward_to(self, number: int) -> Any:
        """Decode up to a frame; None if it does not come."""
        for frame in self._decoder:
            found = self._numbers.get(frame.pts, -1) if self._index.stamps else self._next
            self._next = found + 1 if found >= 0 else self._next
            if found == number:
                return frame
            if found > number:
                return None
        return None

    def close(self) -> None:
        self._decoder.close()
