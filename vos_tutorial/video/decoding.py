"""A video file's frames, one after the other, as a player shows them: upright, with square pixels, without alpha.

What a file says of itself is not trusted: the number of frames in its header may be 0 or too large, a packet may hold
no picture, a cut with ``-c copy`` leaves packets that are not to be shown. Frames are what the decoder gives out.
"""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..errors import TutorialError
from ..files import cannot_read
from ..places import install_command

LARGEST = 2**26  # pixels of a frame that is read at its own size: 8192 x 8192
HD = 720  # lines from which a file that names no colour matrix means BT.709, as players take it
UNSPECIFIED, ITU709 = 2, 1  # AVCOL_SPC_*


def pyav() -> ModuleType:
    """The package ``av``, quiet.

    Raises:
        TutorialError: if it is not installed.
    """
    try:
        import av
    except ImportError as error:
        raise TutorialError(
            f"video files need the package av ({error}); run: {install_command('video')}, or give a folder of "
            "pictures."
        ) from None
    return av


def how_to_convert(path: Path, how: str = "") -> str:
    """The end of a sentence: a command that makes a file that everything can read, with ``how`` among its options."""
    old, new = shlex.quote(path.name), shlex.quote(f"{path.stem}-converted.mp4")
    return f"convert it with: ffmpeg -i {old}{how} -c:v libx264 -pix_fmt yuv420p {new}"


class Decoder:
    """One open video file.

    Args:
        path: of the file.

    Attributes:
        damaged: how many packets could not be decoded so far.

    Raises:
        TutorialError: if the file is missing, may not be read, is no video or is damaged, holds no picture (sound
            only, a cover), or is encoded in a way that this FFmpeg cannot decode.
    """

    def __init__(self, path: Path) -> None:
        pyav()
        self.path, self.damaged = path, 0
        self._turn: NDArray[np.int64] | None = None  # of the first frame, and so of all
        try:
            with open(path, "rb") as file:
                if not file.read(1):
                    raise TutorialError(f"video {path} is empty (0 bytes); copy it again.")
        except OSError as error:
            raise cannot_read("video", path, error, "give the path of a video file") from None
        self._open()

    def _open(self) -> None:
        av = self._av = pyav()
        try:  # a playlist may fetch nothing from elsewhere
            self._container: Any = av.open(
                str(self.path), metadata_errors="ignore", options={"protocol_whitelist": "file"}
            )
        except (av.error.FFmpegError, ValueError) as error:
            reason = str(getattr(error, "strerror", "") or error).strip().rstrip(".")
            raise TutorialError(
                f"video {self.path} cannot be read ({reason}): it is no video, or its end or beginning is missing; "
                f"copy it again, or {how_to_convert(self.path)}."
            ) from None
        streams = [s for s in self._container.streams.video if not s.disposition & type(s.disposition).attached_pic]
        if not streams:
            kinds = " and ".join(sorted({s.type for s in self._container.streams} - {"video"})) or "no"
            self.close()
            raise TutorialError(f"video {self.path} holds {kinds} data but no moving picture; choose a video.")
        self._stream = streams[0]
        if self._stream.codec_context is None:
            self.close()
            raise TutorialError(f"video {self.path} has a codec that PyAV lacks; {how_to_convert(self.path)}.")
        self._stream.thread_type = "AUTO"
        self._packets = self._container.demux(self._stream)
        self._waiting: list[Any] = []

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        """The next frame (``av.VideoFrame``) to be shown."""
        while not self._waiting:
            try:
                packet = next(self._packets)
            except self._av.error.FFmpegError:  # the file ends in the middle of a packet
                self.damaged += 1
                raise StopIteration from None
            try:
                self._waiting = list(packet.decode())
            except self._av.error.EOFError:
                continue
            except self._av.error.FFmpegError:
                self.damaged += 1
        frame = self._waiting.pop(0)
        if self._turn is None:  # asked once: a frame that was asked for its side data lives until the next collection
            self._turn = turn_of(frame)
        return frame

    def seek(self, pts: int | None) -> None:
        """Go to the last key frame at or before a time stamp; None goes to the beginning."""
        self._waiting = []
        if pts is not None:
            with contextlib.suppress(self._av.error.FFmpegError):
                self._container.seek(pts, stream=self._stream, backward=True)
                self._packets = self._container.demux(self._stream)
                return
        self.close()
        self._open()  # not every format can be wound back, but every file can be opened again

    def shown_size(self, frame: Any) -> tuple[int, int]:
        """``(H, W)`` of a frame as it is shown: upright and with square pixels."""
        aspect = self._stream.sample_aspect_ratio or 1
        width = max(1, round(frame.width * aspect))
        return (width, frame.height) if self.turn[0, 0] == 0 else (frame.height, width)

    @property
    def turn(self) -> NDArray[np.int64]:
        """How the frames are to be turned, see :func:`turn_of`; known from the first frame on."""
        assert self._turn is not None
        return self._turn

    @property
    def time_base(self) -> Any:
        """Seconds of one unit of a time stamp, a Fraction."""
        return self._stream.time_base

    @property
    def rate(self) -> Any:
        """Frames a second, as the file says it; None if it does not."""
        return self._stream.average_rate or self._stream.guessed_rate

    def close(self) -> None:
        """Close the file."""
        self._container.close()

    def __enter__(self) -> Decoder:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def turn_of(frame: Any) -> NDArray[np.int64]:
    """How a frame is to be turned: a matrix ``[2, 2]`` of -1, 0, 1, by which source axes become the shown ones.

    ISO 14496-12, 6.2.2: the shown point is ``(x, y) [[a, b], [c, d]]``, in fixed-point numbers. Where the matrix is
    not a turn by quarters, perhaps mirrored, the frame stays as it is.
    """
    identity = np.eye(2, dtype=np.int64)
    for data in frame.side_data:
        if data.type.name == "DISPLAYMATRIX":
            matrix = np.frombuffer(bytes(data), dtype="<i4" if np.little_endian else ">i4").reshape(3, 3)[:2, :2]
            scale = np.abs(matrix).max()
            turn = np.rint(matrix / scale).astype(np.int64) if scale else identity
            if np.array_equal(np.abs(turn).sum(0), [1, 1]) and np.array_equal(np.abs(turn).sum(1), [1, 1]):
                return turn
    return identity


def turned(pixels: NDArray[np.uint8], turn: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Pixels ``[H, W, 3]``, turned as :func:`turn_of` says."""
    if turn[0, 0] == 0:  # x is shown along y
        pixels = pixels.swapaxes(0, 1)
    shown = turn.sum(0)  # the direction of the shown x axis, and of the shown y axis
    return pixels[:: int(shown[1]), :: int(shown[0])]


def picture(frame: Any, size: tuple[int, int], turn: NDArray[np.int64]) -> Tensor:
    """A frame as ``uint8 [3, H, W]`` at a size ``(H, W)``, turned upright as :func:`turn_of` says."""
    height, width = size if turn[0, 0] else size[::-1]  # before it is turned
    shrinks = height < frame.height or width < frame.width
    hd = int(frame.colorspace) == UNSPECIFIED and frame.height >= HD
    pixels = frame.to_ndarray(
        format="rgb24",
        width=width,
        height=height,
        interpolation="AREA" if shrinks else "BILINEAR",
        src_colorspace="ITU709" if hd else None,
    )
    return torch.from_numpy(np.ascontiguousarray(turned(pixels, turn).transpose(2, 0, 1)))  # [3, H, W]
