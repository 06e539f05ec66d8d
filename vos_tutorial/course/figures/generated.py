"""Generated pictures: what few steps give beside what many give, and pictures with their captions and masks."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ...errors import TutorialError
from .masks import FINE, Pixels, array, bare, casing
from .palette import WIDTH, blank, styled


def _colours(images: Pixels, name: str) -> np.ndarray:
    """Generated pictures ``[N, C >= 3, H, W]`` in [-1, 1] as ``uint8 [N, H, W, 3]``."""
    values = array(images)
    if values.ndim != 4 or values.shape[1] < 3 or not len(values):
        raise TutorialError(f"{name} must be pictures [N, 3 or 4, H, W] in [-1, 1], got {list(values.shape)}.")
    return ((values[:, :3].transpose(0, 2, 3, 1).clip(-1, 1) + 1) * 127.5).round().astype(np.uint8)


def _strip(pictures: np.ndarray, gap: int = 2) -> np.ndarray:
    """Pictures ``[N, H, W, 3]`` in a row, with white between them: ``[H, N (W + gap) - gap, 3]``."""
    padded = np.pad(pictures, ((0, 0), (0, 0), (0, gap), (0, 0)), constant_values=255)
    return np.concatenate(list(padded), axis=1)[:, :-gap]


def _wrapped(sentence: str, width: int) -> str:
    return "\n".join(textwrap.wrap(sentence, width))


@styled
def step_grid(
    student: Mapping[int, Pixels],
    teacher: Mapping[int, Pixels],
    sentences: Sequence[str],
    reference: tuple[str, Pixels] | None = None,
    names: tuple[str, str] = ("flow map", "Euler"),
) -> Figure:
    """One column a caption, one row a sampler: for each number of steps the student above its teacher.

    Args:
        student: steps -> pictures ``[N, 3 or 4, H, W]`` in [-1, 1].
        teacher: the same numbers of steps, from the same noise.
        sentences: N captions, written below.
        reference: a last row, with its name: what all of them should have been.
        names: of the two samplers.

    Raises:
        TutorialError: if the numbers of steps or of pictures differ.
    """
    if list(student) != list(teacher) or not student:
        raise TutorialError(
            f"step_grid() compares the same numbers of steps, got {list(student)} and {list(teacher)}."
        )
    rows: list[tuple[str, Pixels]] = []
    for steps in student:
        count = f"{steps} step{'s' * (steps > 1)}"
        rows += [(f"{names[0]}\n{count}", student[steps]), (f"{names[1]}\n{count}", teacher[steps])]
    rows += [reference] if reference is not None else []
    strips = [_colours(pictures, label.replace("\n", ", ")) for label, pictures in rows]
    if any(strip.shape != strips[0].shape for strip in strips) or len(strips[0]) != len(sentences):
        raise TutorialError(
            f"step_grid() needs {len(sentences)} pictures of one size in each row, one for each caption; rows have "
            f"{[len(strip) for strip in strips]}."
        )
    size = strips[0].shape[1]
    tile = (WIDTH - 1.2) / len(sentences)
    figure, axes = blank(len(rows), 1, WIDTH, tile * len(rows) * 1.05 + 0.6)
    for cell, (label, _), strip in zip(axes[:, 0], rows, strips, strict=True):
        _show(cell, _strip(strip))
        cell.set_ylabel(label, rotation=0, ha="right", va="center", fontsize=8)
    _write_below(axes[-1, 0], sentences, size + 2, size)
    return figure


def _show(cell: Axes, picture: np.ndarray) -> None:
    cell.imshow(picture, interpolation="nearest")
    bare(cell)
    for spine in cell.spines.values():
        spine.set_visible(False)


def _write_below(cell: Axes, sentences: Sequence[str], step: int, size: int) -> None:
    letters = max(10, round(100 / len(sentences)))
    cell.set_xticks([i * step + size / 2 for i in range(len(sentences))])
    cell.set_xticklabels([_wrapped(s, letters) for s in sentences], fontsize=6.5, linespacing=1.15)
    cell.tick_params(length=0, labelbottom=True)


@styled
def captioned_sheet(images: Pixels, sentences: Sequence[str], columns: int = 6) -> Figure:
    """Generated pictures as they are, each below its caption; under it, with the outline of their fourth channel.

    Args:
        images: ``[N, 4, H, W]`` in [-1, 1]; above 0 in the fourth channel is the object.
        sentences: N captions.
        columns: pictures in a row.

    Raises:
        TutorialError: if there are no masks, or captions and pictures differ in number.
    """
    values = array(images)
    if values.ndim != 4 or values.shape[1] != 4 or len(values) != len(sentences):
        raise TutorialError(
            f"captioned_sheet() needs pictures [N, 4, H, W] and N captions, got {list(values.shape)} and "
            f"{len(sentences)}."
        )
    rows = -(-len(values) // columns)
    tile = WIDTH / columns
    figure, axes = blank(rows, columns, WIDTH, (2 * tile + 0.5) * rows)
    for cell in axes.ravel()[len(values) :]:
        cell.set_visible(False)
    height = values.shape[2]
    for cell, picture, mask, sentence in zip(
        axes.ravel(), _colours(values, "the pictures"), values[:, 3] > 0, sentences, strict=False
    ):
        _show(cell, np.concatenate([picture, picture], axis=0))
        _outline(cell, mask, height)
        cell.set_title(_wrapped(sentence, round(126 / columns)), fontsize=7)
    return figure


def _outline(cell: Axes, mask: np.ndarray, down: int) -> None:
    """A line around a mask ``[H, W]``, along its pixels' sides, so many rows further down; no tint hides colours."""
    rows, columns = ((np.arange(-FINE, FINE * (n + 1)) + 0.5) / FINE - 0.5 for n in mask.shape)
    padded = np.pad(mask, 1).repeat(FINE, 0).repeat(FINE, 1).astype(float)
    if padded.any():
        line = cell.contour(columns, rows + down, padded, [0.5], colors="white", linewidths=1.1)
        line.set_path_effects(casing(2.4))
    cell.set_ylim(down + mask.shape[0] - 0.5, -0.5)
    cell.set_xlim(-0.5, mask.shape[1] - 0.5)
