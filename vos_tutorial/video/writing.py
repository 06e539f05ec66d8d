"""Writing video files: MP4 for everything that plays video, WebM for browsers and for alpha, WebP for pages."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from torch import Tensor

from ..errors import TutorialError
from ..files import whole_file
from .decoding import ITU709, pyav

FINEST = 10**6  # units of time a second, where those of the source have no smaller common measure
LIMITED = 1  # AVCOL_RANGE_MPEG: black is 16

FORMATS: dict[str, tuple[str, str, dict[str, str]]] = {  # ending -> codec, pixels, options
    ".mp4": ("libx264", "yuv420p", {"preset": "superfast", "crf": "18"}),
    ".webm": ("libvpx-vp9", "yuv420p", {"deadline": "realtime", "cpu-used": "6", "crf": "24", "b": "0"}),
    ".webp": ("libwebp_anim", "yuva420p", {"quality": "80"}),
}


FOREVER = {"loop": "0"}  # a WebP begins again at its end


class VideoWriter:
    """Frames with their times -> a video file.

    H.264 holds pairs of lines and columns, so an odd one is repeated at the edge of an MP4. WebM and WebP count
    milliseconds: there times are rounded to these. An MP4 keeps them exactly.

    Args:
        file: open for writing; see :func:`vos_tutorial.files.whole_file`.
        suffix: the format, ``".mp4"``, ``".webm"`` or ``".webp"``.
        size: ``(H, W)`` of the frames.
        times: of all frames that will come, in seconds, ascending.
        transparent: frames have an alpha channel (WebM and WebP).

    Raises:
        TutorialError: if the format is unknown or cannot be transparent.
    """

    def __init__(
        self, file: BinaryIO, suffix: str, size: tuple[int, int], times: Iterable[Fraction], transparent: bool = False
    ) -> None:
        if suffix not in FORMATS or (transparent and suffix == ".mp4"):
            what = "hold transparent video" if transparent else "be written"
            able = [ending for ending in FORMATS if not (transparent and ending == ".mp4")]
            raise TutorialError(f"a {suffix or 'file without ending'} cannot {what}; choose {' or '.join(able)}.")
        self._av = pyav()
        codec, pixels, options = FORMATS[suffix]
        if transparent:
            pixels, options = "yuva420p", {**options, "auto-alt-ref": "0"} if suffix == ".webm" else options
        given = list(times)
        self._times = [time - given[0] for time in given]
        self._written = 0
        self._base = Fraction(1, 1000) if suffix != ".mp4" else _common_measure(self._times)
        self._pixels = pixels
        self._container: Any = self._av.open(
            file, "w", format=suffix[1:], options=FOREVER if suffix == ".webp" else {}
        )
        rate = Fraction((len(given) - 1) / float(self._times[-1] or 1)).limit_denominator(1001) or Fraction(1)
        stream = self._stream = self._container.add_stream(codec, rate=rate, options=options)
        self._size = tuple(side + side % 2 for side in size) if suffix == ".mp4" else size
        stream.height, stream.width = self._size
        stream.pix_fmt = pixels
        stream.time_base = stream.codec_context.time_base = self._base
        stream.codec_context.colorspace, stream.codec_context.color_range = ITU709, LIMITED

    def write(self, frame: Tensor) -> None:
        """The next frame.

        Args:
            frame: ``uint8 [3, H, W]``, or ``[4, H, W]`` with alpha.
        """
        if self._written == len(self._times):
            raise TutorialError(f"there are {len(self._times)} times, and more frames; give one for each.")
        pixels = frame.permute(1, 2, 0).numpy()  # [H, W, 3 or 4]
        odd = [(0, wanted - found) for wanted, found in zip(self._size, pixels.shape[:2], strict=True)]
        pixels = np.pad(pixels, (*odd, (0, 0)), "edge") if any(map(any, odd)) else np.ascontiguousarray(pixels)
        rgb = self._av.VideoFrame.from_ndarray(pixels, format="rgb24" if len(frame) == 3 else "rgba")
        picture = rgb.reformat(format=self._pixels, dst_colorspace="ITU709")
        picture.pts, picture.time_base = round(self._times[self._written] / self._base), self._base
        self._written += 1
        for packet in self._stream.encode(picture):
            self._container.mux(packet)

    def close(self) -> None:
        """Write what the encoder still holds, and the file's end.

        Raises:
            TutorialError: if there were fewer frames than times.
        """
        if self._written < len(self._times):
            raise TutorialError(f"there are {len(self._times)} times for {self._written} frames; give one for each.")
        for packet in self._stream.encode():
            self._container.mux(packet)
        self._container.close()


def _common_measure(times: list[Fraction]) -> Fraction:
    """The largest unit of which all times are multiples; at least :data:`FINEST`'s."""
    measure = math.lcm(*(time.denominator for time in times))
    return Fraction(1, measure if measure <= FINEST else FINEST)


def write_video(path: str | Path, frames: Iterable[Tensor], times: Iterable[Fraction | float]) -> None:
    """Write a video file, whole or not at all.

    Args:
        path: ends in ``.mp4``, ``.webm`` or ``.webp``.
        frames: ``uint8 [3, H, W]`` each, or ``[4, H, W]`` with alpha; taken one at a time.
        times: when each is shown, in seconds, ascending.

    Raises:
        TutorialError: if there is no frame, not one time for each, or the file cannot be written.
    """
    place, stamps = Path(path), [Fraction(t).limit_denominator(FINEST) for t in times]
    frames = iter(frames)
    first = next(frames, None)
    if first is None or not stamps:
        raise TutorialError(f"{path} would hold no frame; give at least one, and its time.")
    with whole_file(place) as file:
        size = (first.shape[1], first.shape[2])
        writer = VideoWriter(file, place.suffix.lower(), size, stamps, transparent=len(first) == 4)
        for frame in itertools.chain([first], frames):
            writer.write(frame)
        writer.close()
