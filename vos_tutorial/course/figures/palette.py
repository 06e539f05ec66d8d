"""The course's colours, line widths and empty figure: what every picture has in common.

Colour is never the only carrier. Eight colours that colour-blind readers tell apart come first (Okabe and Ito, 2008),
then DAVIS's.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, ParamSpec, TypeVar

import matplotlib
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex, to_rgb
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


# --- What a colour stands for ----------------------------------------------------------------------------

ThemeName = Literal["light", "dark"]
Role = Literal["input", "memory", "value", "guide", "output", "loss"]


@dataclass(frozen=True)
class Theme:
    """The colours of a page: what is written, softer text, lines, the ground of a group, and the paper."""

    name: ThemeName
    ink: str
    soft: str
    line: str
    ground: str
    paper: str


THEMES: dict[ThemeName, Theme] = {
    "light": Theme("light", INK, "#5a5f66", "#c9ced6", "#f5f7fa", PAPER),
    "dark": Theme("dark", "#eceff3", "#aab2bd", "#454c56", "#1c2128", "#111418"),
}


@dataclass(frozen=True)
class Look:
    """Colour and pattern of a role, and what a legend calls it."""

    light: str
    dark: str
    hatch: str
    words: str

    def colour(self, theme: Theme) -> str:
        """The colour for a page of this theme."""
        return self.light if theme.name == "light" else self.dark


ROLES: dict[Role, Look] = {
    "input": Look("#5f7d95", "#9db8cc", "", "features"),
    "memory": Look(BLUE, SKY, "////", "key, memory or state"),
    "value": Look(ORANGE, "#f2b739", "||||", "value"),
    "guide": Look("#a8568a", PURPLE, "\\\\\\\\", "given mask"),
    "output": Look(GREEN, "#3cc79f", "----", "answer"),
    "loss": Look(VERMILLION, "#ff8a3d", "xxxx", "loss"),
}


def mix(colour: str, other: str, share: float) -> str:
    """``share`` of the other colour in the first, as ``#rrggbb``."""
    a, b = np.array(to_rgb(colour)), np.array(to_rgb(other))
    return to_hex(a + share * (b - a))
