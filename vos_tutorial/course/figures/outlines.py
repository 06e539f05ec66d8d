"""Boundary accuracy F as a picture: two outlines, the tolerance of one, and which points of the other lie in it."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from PIL import ImageColor

from ... import metrics
from .masks import Pixels, array, bare
from .palette import BLUE, INK, VERMILLION, WIDTH, blank, styled

BAND = "#cfe3f3"
MARGIN = 2  # pixels around what is drawn


@styled
def outlines(truth: Pixels, prediction: Pixels, bound_th: float = 0.008) -> Figure:
    """Precision on the left, recall on the right, from the arrays that F itself counts.

    On each side one outline lies in its band of tolerance, and the points of the other are asked whether they are in
    it: a dot if so, a cross if not. Points stand where :func:`~vos_tutorial.metrics.boundary_map` puts them, and the
    line of the outline in the band runs through its points, so that it shows between dots that lie on it.

    Args:
        truth: ``bool [H, W]``, or integers that are foreground where not zero.
        prediction: the same shape.
        bound_th: the tolerance, as in :func:`~vos_tutorial.metrics.boundary_tolerance`.

    Raises:
        TutorialError: if the masks do not fit each other or are not of one frame.
    """
    match = metrics.boundary_match(array(truth), array(prediction), bound_th)
    true, found = array(truth).astype(bool), array(prediction).astype(bool)
    drawn = match.near_true | match.near_found | true | found
    left, right, top, bottom = _extent(drawn)
    tile = WIDTH / 2
    high = tile * (bottom - top) / (right - left)
    figure, axes = blank(1, 2, WIDTH, high + 0.95)
    dot = 72 * tile / (right - left)  # of one pixel, in points
    sides = (
        ("precision", "predicted", match.found, match.precise, true, match.near_true),
        ("recall", "true", match.true, match.recalled, found, match.near_found),
    )
    for cell, (name, whose, asked, matched, other, near) in zip(axes[0], sides, strict=True):
        _draw_side(cell, asked, matched, other, near, dot)
        cell.set(xlim=(left, right), ylim=(bottom, top))
        share = f" = {matched.sum() / asked.sum():.2f}" if asked.any() else ""
        cell.set_title(f"{name}: {matched.sum()} of {asked.sum()} {whose} points{share}")
    _legend(figure)
    return figure


def _extent(drawn: np.ndarray) -> tuple[float, float, float, float]:
    """Left, right, top and bottom of what is drawn, with a margin; of the whole picture if that is nothing."""
    h, w = drawn.shape
    rows, columns = np.flatnonzero(drawn.any(1)), np.flatnonzero(drawn.any(0))
    if not len(rows):
        return -0.5, w - 0.5, -0.5, h - 0.5
    return (
        max(columns[0] - MARGIN, 0) - 0.5,
        min(columns[-1] + MARGIN, w - 1) + 0.5,
        max(rows[0] - MARGIN, 0) - 0.5,
        min(rows[-1] + MARGIN, h - 1) + 0.5,
    )


def _draw_side(
    axes: Axes, asked: np.ndarray, matched: np.ndarray, other: np.ndarray, near: np.ndarray, dot: float
) -> None:
    h, w = near.shape
    ground = np.full((h, w, 3), 255, np.uint8)
    ground[near] = ImageColor.getrgb(BAND)
    axes.imshow(ground, interpolation="nearest")
    axes.add_collection(
        LineCollection(_contour(other), colors=INK, linewidths=min(0.12 * dot, 2.0), capstyle="round")
    )
    for points, look in (
        (matched, {"marker": "o", "color": BLUE, "markersize": 0.62 * dot}),
        (
            asked & ~matched,
            {"marker": "X", "color": VERMILLION, "markersize": max(0.85 * dot, 4.0), "markeredgewidth": 0},
        ),
    ):
        y, x = np.nonzero(points)
        axes.plot(x, y, linestyle="none", **look)  # type: ignore[arg-type]
    bare(axes)


def _contour(mask: np.ndarray) -> list[list[tuple[int, int]]]:
    """The edges of ``bool [H, W]`` as lines from (x, y) to (x, y), half a pixel up and left of where they are.

    That is where :func:`~vos_tutorial.metrics.boundary_map` puts its points: the lines run through all of them.
    """
    beside = np.argwhere(mask[:, 1:] != mask[:, :-1]).tolist()
    below = np.argwhere(mask[1:] != mask[:-1]).tolist()
    return [[(x, y - 1), (x, y)] for y, x in beside] + [[(x - 1, y), (x, y)] for y, x in below]


def _legend(figure: Figure) -> None:
    point = {"linestyle": "none"}
    handles = [
        Line2D([], [], color=INK, linewidth=2, label="the other outline"),
        Patch(facecolor=BAND, label="its tolerance"),
        Line2D([], [], marker="o", color=BLUE, markersize=6, label="point inside", **point),  # type: ignore[arg-type]
        Line2D([], [], marker="X", color=VERMILLION, markersize=7, label="point outside", **point),  # type: ignore[arg-type]
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=4, handlelength=1.4)
