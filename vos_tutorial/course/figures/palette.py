"""The course's colours, line widths and empty figure: what every picture has in common.

Colour is never the only carrier. Eight colours that colour-blind readers tell apart come first (Okabe and Ito, 2008),
then DAVIS's.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, ParamSpec, TypeVar

import matplotlib
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from ...clip import VOID, davis_palette

P = ParamSpec("P")
R = TypeVar("R")

WIDTH = 8.0  # inches; at DPI this is a notebook's column
DPI = 100

INK, FAINT, PAPER = "#222222", "#8a8a8a", "#ffffff"
ORANGE, SKY, GREEN, YELLOW, BLUE, VERMILLION, PURPLE = (
    "#e69f00",
    "#56b4e9",
    "#009e73",
    "#f0e442",
    "#0072b2",
    "#d55e00",
    "#cc79a7",
)
_OBJECTS = (ORANGE, SKY, GREEN, PURPLE, YELLOW, VERMILLION, BLUE)
STYLE: dict[str, Any] = {
    "font.size": 9.5,
    "axes.titlesize": 9.5,
    "axes.labelsize": 9.5,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "legend.fontsize": 9,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": FAINT,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.8,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e6e6e6",
    "grid.linewidth": 0.7,
    "legend.frameon": False,
    "lines.linewidth": 1.8,
    "lines.markersize": 4.5,
    "hatch.linewidth": 0.6,
    "figure.facecolor": PAPER,
    "axes.facecolor": PAPER,
    "image.interpolation": "antialiased",
}


@contextmanager
def style() -> Iterator[None]:
    """The tutorial's matplotlib settings, for the length of a ``with`` block."""
    with matplotlib.rc_context(STYLE):  # type: ignore[arg-type]  # newer stubs list every key
        yield


def styled(function: Callable[P, R]) -> Callable[P, R]:
    """Let a function draw in the course's style."""

    @functools.wraps(function)
    def inner(*args: P.args, **kwargs: P.kwargs) -> R:
        with style():
            return function(*args, **kwargs)

    return inner


@styled
def blank(rows: int = 1, columns: int = 1, width: float = WIDTH, height: float = 3.0) -> tuple[Figure, np.ndarray]:
    """An empty figure in the tutorial's style: ``(figure, axes [rows, columns])``; sizes in inches.

    It belongs to no window and no global list, so nothing is shown twice and nothing has to be closed.
    """
    figure = Figure(figsize=(width, height), dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots(rows, columns, squeeze=False)


@functools.cache
def object_colours() -> np.ndarray:
    """One colour per id, ``uint8 [256, 3]``: 1..7 from Okabe and Ito, then DAVIS's; background black, void grey."""
    colours = davis_palette().copy()
    for object_id, colour in enumerate(_OBJECTS, start=1):
        colours[object_id] = np.round(np.array(to_rgb(colour)) * 255)
    colours[VOID] = 200
    colours.flags.writeable = False
    return colours
