"""Moving pictures for pages, small enough to be stored in a notebook, with the contact sheet beside them."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Mapping, Sequence
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
from .masks import Pixels, bare, key_frames
from .palette import WIDTH, blank, styled

MAX_LOOP_BYTES = 120_000
QUALITIES = (82, 70, 55, 40, 28)  # of WebP, tried in this order before the picture itself gets smaller
SMALLEST = 96  # pixels across a panel
REST = 1000  # ms for which the last frame stays
STRIP = 18  # pixels for the words above a panel
GAP = 6  # pixels between panels


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
    stills: Sequence[int] | None = None,
    fps: float = 8.0,
    width: int = 300,
    max_bytes: int = MAX_LOOP_BYTES,
) -> Loop:
    """A clip that moves, with masks upon it: a panel for each method, the truth as a white line in each that answers.

    It never has more than ``max_bytes``: first the quality falls, then the size, then every second frame goes.

    Args:
        clip: a Clip, or frames ``[T, 3, H, W]`` or ``[T, H, W, 3]``.
        masks: ids ``[T, H, W]``, or one such per method, by name, with None for bare frames; a Clip's own without
            (then nothing is judged).
        truth: ids ``[T, H, W]``; where a Clip is given with other masks, its own.
        stills: frames of the contact sheet; five of those that move, evenly spread, without.
        fps: frames a second.
        width: pixels across a panel, at most.
        max_bytes: see above.

    Raises:
        TutorialError: if sizes do not match, a still is not in the clip, or even the smallest picture is too large.
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
    return _fitted(
        lambda t, across: _panels(frames, panels, truth, t, across),
        lambda times: answer_sheet(frames, panels, truth, times=_spread(times) if stills is None else stills),
        len(frames),
        fps,
        width,
        max_bytes,
    )


def loops(
    clips: Mapping[str, Clip],
    *,
    columns: int = 5,
    fps: float = 8.0,
    width: int = 120,
    max_bytes: int = MAX_LOOP_BYTES,
) -> Loop:
    """Several clips that move side by side, each under its name, with the outlines of its objects.

    Args:
        clips: by name, all of one length and one shape of picture.
        columns: clips in a row.
        fps: frames a second.
        width: pixels across a clip, at most.
        max_bytes: as for :func:`loop`.

    Raises:
        TutorialError: if there is no clip, they differ in length, or even the smallest picture is too large.
    """
    lengths = {name: len(clip) for name, clip in clips.items()}
    if len(set(lengths.values())) != 1:
        raise TutorialError(f"loops() needs clips of one length, got {lengths or 'none'}.")

    def panels(t: int, across: int) -> Image.Image:
        painted = {name: answer(clip.frames[t], None, clip.masks[t], width=across) for name, clip in clips.items()}
        return _grid(painted, columns)

    return _fitted(
        panels,
        lambda times: _sheet_of_clips(clips, times),
        next(iter(lengths.values())),
        fps,
        width,
        max_bytes,
    )


def _fitted(
    paint: Callable[[int, int], Image.Image],
    sheet: Callable[[list[int]], Figure],
    length: int,
    fps: float,
    width: int,
    max_bytes: int,
) -> Loop:
    """``paint(frame, width)`` for every frame, as large and as well as ``max_bytes`` allow."""
    times = list(range(length))
    while True:
        for across in _widths(width):
            pictures = [paint(t, across) for t in times]
            for quality in QUALITIES if across == width else QUALITIES[-2:]:
                data = to_webp(pictures, 1000 / fps * (length / len(times)), quality)
                if len(data) <= max_bytes:
                    return Loop(data, pictures[0].size, times, sheet(times))
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
    painted = {}
    for name, ids in masks.items():
        right = None if truth is None or (name and ids is None) else truth[t]  # a bare video stays bare
        words = f"{name}, frame {t}" if name else f"frame {t}"
        painted[words] = answer(frames[t], None if ids is None else ids[t], right, width=width)
    return _grid(painted, len(painted))


def _grid(painted: Mapping[str, np.ndarray], columns: int) -> Image.Image:
    """Pictures of one size, ``uint8 [H, W, 3]``, side by side under their names."""
    height, width = next(iter(painted.values())).shape[:2]
    across, down = min(columns, len(painted)), -(-len(painted) // columns)
    whole = Image.new("RGB", (across * (width + GAP) - GAP, down * (height + STRIP)), "white")
    draw = ImageDraw.Draw(whole)
    font = ImageFont.truetype(font_manager.findfont("DejaVu Sans"), 11)
    for i, (words, picture) in enumerate(painted.items()):
        x, y = i % columns * (width + GAP), i // columns * (height + STRIP)
        whole.paste(Image.fromarray(picture), (x, y + STRIP))
        draw.text((x + 2, y + 2), words, "#222222", font)
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


def _spread(times: list[int]) -> list[int]:
    """Five of the frames that move, from the first to the last."""
    return [times[i] for i in sorted({round(i) for i in np.linspace(0, len(times) - 1, 5)})]


@styled
def _sheet_of_clips(clips: Mapping[str, Clip], times: list[int]) -> Figure:
    """Four of the frames that move, evenly spread, two clips in a row; the first is under the clip's name."""
    shown = key_frames(len(times), 4)
    lines, across = -(-len(clips) // 2), len(shown)
    h, w = next(iter(clips.values())).size
    tile = (WIDTH - 0.3) / (2 * across)
    figure, axes = blank(lines, 2 * across + 1, WIDTH, (tile * h / w + 0.24) * lines)
    figure.set_layout_engine("constrained", w_pad=0.01, h_pad=0.01, wspace=0.0, hspace=0.0)
    axes[0, 0].get_gridspec().set_width_ratios([1] * across + [0.18] + [1] * across)
    for cell in axes.ravel():
        bare(cell)
    for i, (name, clip) in enumerate(clips.items()):
        for k, index in enumerate(shown):
            t, cell = times[index], axes[i // 2, i % 2 * (across + 1) + k]
            cell.imshow(answer(clip.frames[t], None, clip.masks[t], width=round(200 * tile)))
            cell.set_title(name if k == 0 else f"frame {t}", pad=2, fontsize=8.5, loc="right" if k else "left")
    return figure
