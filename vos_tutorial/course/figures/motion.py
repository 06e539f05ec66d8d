"""Moving pictures for pages, small enough to be stored in a notebook, with the contact sheet beside them."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib import font_manager
from matplotlib.figure import Figure
from PIL import Image, ImageDraw, ImageFont

from ...clip import Clip
from ...errors import TutorialError
from ...files import write_atomically
from .answers import answer, answer_sheet
from .masks import Pixels

MAX_LOOP_BYTES = 120_000
QUALITIES = (82, 70, 55, 40, 28)  # of WebP, tried in this order before the picture itself gets smaller
SMALLEST = 96  # pixels across a panel
REST = 1000  # ms for which the last frame stays
STRIP = 18  # pixels for the words above a panel


@dataclass(frozen=True)
class Loop:
    """An animated WebP and the sheet of stills that goes with it.

    Args:
        data: the file.
        size: ``(width, height)`` of the picture.
        times: the frames of the clip that it shows.
        sheet: some of them, side by side, for print and for those who want no motion.
    """

    data: bytes
    size: tuple[int, int]
    times: list[int]
    sheet: Figure

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the animation to a file, which appears whole or not at all.

        Raises:
            TutorialError: if the name does not end in ``.webp``, or the file cannot be written.
        """
        if Path(path).suffix.lower() != ".webp":
            raise TutorialError(f"{path} must end in .webp, because that is what is written.")
        write_atomically(Path(path), self.data)
        return Path(path)


def loop(
    clip: Clip | Pixels,
    masks: Pixels | Mapping[str, Pixels] | None = None,
    truth: Pixels | None = None,
    *,
    fps: float = 8.0,
    width: int = 300,
    max_bytes: int = MAX_LOOP_BYTES,
) -> Loop:
    """A clip that moves, with masks upon it: a panel for each method, the truth as a white line in each.

    It never has more than ``max_bytes``: first the quality falls, then the size, then every second frame goes.

    Args:
        clip: a Clip, or frames ``[T, 3, H, W]`` or ``[T, H, W, 3]``.
        masks: ids ``[T, H, W]``, or one such per method, by name; a Clip's own without (then nothing is judged).
        truth: ids ``[T, H, W]``; where a Clip is given with other masks, its own.
        fps: frames a second.
        width: pixels across a panel, at most.
        max_bytes: see above.

    Raises:
        TutorialError: if sizes do not match, or even the smallest picture is too large.
    """
    frames = clip.frames if isinstance(clip, Clip) else clip
    if isinstance(clip, Clip) and masks is None:
        masks = clip.masks
    elif isinstance(clip, Clip) and truth is None:
        truth = clip.masks
    panels: dict[str, Pixels | None] = dict(masks) if isinstance(masks, Mapping) else {"": masks}
    for name, ids in {**panels, "truth": truth}.items():
        if ids is not None and len(ids) != len(frames):
            raise TutorialError(f"{name or 'masks'}: {len(ids)} masks for {len(frames)} frames; pass one for each.")
    times = list(range(len(frames)))
    while True:
        for across in _widths(width):
            pictures = [_panels(frames, panels, truth, t, across) for t in times]
            for quality in QUALITIES if across == width else QUALITIES[-2:]:
                data = to_webp(pictures, 1000 / fps * (len(frames) / len(times)), quality)
                if len(data) <= max_bytes:
                    return Loop(data, pictures[0].size, times, _sheet(frames, panels, truth, times))
        if len(times) <= 2:
            raise TutorialError(
                f"no animation of this clip fits into {max_bytes} bytes; allow more, or pass fewer or smaller panels."
            )
        times = times[::2]


def _widths(width: int) -> list[int]:
    """From the wanted one to the smallest, by fifths."""
    widths = [width]
    while widths[-1] * 4 // 5 >= SMALLEST:
        widths.append(widths[-1] * 4 // 5)
    return widths


def _panels(
    frames: Pixels, masks: Mapping[str, Pixels | None], truth: Pixels | None, t: int, width: int
) -> Image.Image:
    """The panels of frame ``t`` side by side, each under its name and the number of the frame."""
    right = None if truth is None else truth[t]
    painted = [answer(frames[t], None if ids is None else ids[t], right, width=width) for ids in masks.values()]
    height = painted[0].shape[0]
    whole = Image.new("RGB", (len(painted) * (width + 6) - 6, height + STRIP), "white")
    draw = ImageDraw.Draw(whole)
    font = ImageFont.truetype(font_manager.findfont("DejaVu Sans"), 11)
    for i, (name, picture) in enumerate(zip(masks, painted, strict=True)):
        whole.paste(Image.fromarray(picture), (i * (width + 6), STRIP))
        words = f"{name}, frame {t}" if name else f"frame {t}"
        draw.text((i * (width + 6) + 2, 2), words, "#222222", font)
    return whole


def to_webp(pictures: list[Image.Image], milliseconds: float, quality: int) -> bytes:
    """Pictures of one size as an animated WebP that rests on the last one."""
    buffer = io.BytesIO()
    duration = [round(milliseconds)] * (len(pictures) - 1) + [REST]
    pictures[0].save(
        buffer, format="WEBP", save_all=True, append_images=pictures[1:], duration=duration, loop=0, quality=quality,
        method=4,
    )  # fmt: skip
    return buffer.getvalue()


def _sheet(frames: Pixels, panels: Mapping[str, Pixels | None], truth: Pixels | None, times: list[int]) -> Figure:
    """Five of the frames that move."""
    shown = [times[i] for i in sorted({round(i) for i in np.linspace(0, len(times) - 1, 5)})]
    return answer_sheet(frames, panels, truth, times=shown)
