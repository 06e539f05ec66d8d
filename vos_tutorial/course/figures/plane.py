"""Pictures of flows: clouds of points in the plane, and what a flow map, EMD and LMD do, drawn over time."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from ...errors import TutorialError
from ...models.flow_map import Network, even_times
from .masks import casing
from .motion import MAX_LOOP_BYTES, QUALITIES, Loop, to_webp
from .palette import BLUE, DPI, FAINT, GREEN, INK, ORANGE, PAPER, VERMILLION, WIDTH, blank, styled

EXTENT = 2.7  # of the plane that is shown, from the centre
SHOWN = 2500  # points of a cloud
LOOP_SIDE = 2.2  # inches of a moving panel


def _plane(axes: Axes, title: str = "", board: bool = True) -> None:
    """An empty square of the plane; the dark squares of the board as a faint ground."""
    axes.set(xlim=(-EXTENT, EXTENT), ylim=(-EXTENT, EXTENT), aspect="equal", xticks=[], yticks=[])
    axes.set_title(title)
    axes.grid(False)
    for side in axes.spines.values():
        side.set(visible=True, color=FAINT, linewidth=0.8)
    if board:
        for row in range(4):
            for column in range(row % 2, 4, 2):
                axes.fill_between([column - 2, column - 1], row - 2, row - 1, color="#e9edf3", linewidth=0, zorder=0)


def _faint(axes: Axes, ground: Tensor | None) -> None:
    if ground is not None:
        axes.plot(*ground[:SHOWN].double().numpy().T, ".", color=FAINT, markersize=1.2, markeredgewidth=0)


@styled
def clouds(
    sets: Mapping[str, Tensor],
    *,
    board: bool = True,
    ground: Tensor | None = None,
    classes: Mapping[str, Tensor] | None = None,
    columns: int = 4,
) -> Figure:
    """Point clouds side by side, over the board that they should fill.

    Args:
        sets: title -> points ``[N, 2]``; at most 2,500 of each are drawn.
        board: draw the checkerboard's dark squares below.
        ground: points drawn faintly below, ``[N, 2]``.
        classes: title -> class of each point, int64 ``[N]``: the first two in two colours.
        columns: panels in a row.

    Raises:
        TutorialError: if there is nothing to draw.
    """
    if not sets:
        raise TutorialError("clouds() was given no points; pass {'title': points}.")
    columns = min(columns, len(sets))
    rows = -(-len(sets) // columns)
    side = WIDTH / max(columns, 3)
    figure, axes = blank(rows, columns, width=side * columns, height=rows * (side + 0.25))
    for plot in axes.flat[len(sets) :]:
        plot.set_axis_off()
    for plot, (title, points) in zip(axes.flat, sets.items(), strict=False):
        _plane(plot, title, board)
        _faint(plot, ground)
        label = (classes or {}).get(title)
        for kind, colour in enumerate((BLUE, ORANGE)):
            chosen = points if label is None else points[label == kind]
            x, y = chosen[:SHOWN].detach().cpu().double().numpy().T
            plot.plot(x, y, ".", color=colour, markersize=2.4, alpha=0.6, markeredgewidth=0)
            if label is None:
                break
    return figure


@styled
def journeys(
    panels: Mapping[str, Mapping[str, Sequence[Tensor]]],
    *,
    ground: Tensor | None = None,
    board: bool = True,
    ylim: tuple[float, float] = (-EXTENT, EXTENT),
) -> Figure:
    """How single points travel: in each panel lines by name, each from its first point to its last.

    Args:
        panels: title -> name -> points along the way, each ``[N, 2]``: N lines at once. A name that is also in
            another panel has the same colour there; the legend lists each once.
        ground: points drawn faintly below, ``[N, 2]``.
        board: draw the checkerboard's dark squares below.
        ylim: the stretch of the plane that is shown, from below to above.
    """
    names = list(dict.fromkeys(name for panel in panels.values() for name in panel))
    looks = dict(zip(names, ((INK, "-"), (VERMILLION, "--"), (BLUE, "-"), (GREEN, "-.")), strict=False))
    share = (ylim[1] - ylim[0]) / (2 * EXTENT)
    figure, axes = blank(1, len(panels), height=WIDTH / max(len(panels), 2 * share) * share + 0.5)
    handles = {}
    for plot, (title, panel) in zip(axes.flat, panels.items(), strict=True):
        _plane(plot, title, board)
        _faint(plot, ground)
        plot.set_ylim(*ylim)
        for name, way in panel.items():
            colour, dashes = looks[name]
            line = torch.stack([point.detach().double() for point in way]).numpy()  # [steps, N, 2]
            for i in range(line.shape[1]):
                marker = "o" if len(way) <= 20 else ""
                (handles[name],) = plot.plot(
                    *line[:, i].T, dashes, color=colour, marker=marker, markersize=3, linewidth=1.6, alpha=0.9
                )
                plot.annotate(  # the head alone: a whole arrow would hide the line's dashes
                    "", line[-1, i], line[-1, i] - 0.01 * (line[-1, i] - line[-2, i]),
                    arrowprops={"arrowstyle": "-|>", "color": colour, "linewidth": 1.2, "shrinkA": 0, "shrinkB": 0},
                )  # fmt: skip
            plot.plot(*line[0].T, "o", color=INK, markersize=5, markeredgecolor=PAPER, zorder=4)
    figure.legend(handles.values(), handles.keys(), loc="outside upper left", ncols=4)
    return figure


@styled
def cloud_loop(ways: Mapping[str, Sequence[Tensor]], *, board: bool = True, fps: float = 8.0) -> Loop:
    """Clouds that move, side by side, with the time above them.

    Args:
        ways: title -> places at evenly spaced moments from time 1 to time 0, ``[N, 2]`` each; see :func:`travel`.
        board: see :func:`clouds`.
        fps: moments a second.

    Raises:
        TutorialError: if the clouds have different numbers of moments, or even the coarsest picture is too large.
    """
    lengths = {len(way) for way in ways.values()}
    if len(lengths) != 1:
        raise TutorialError(f"the clouds have {sorted(lengths)} moments; give each as many.")
    frames = lengths.pop()
    pictures = []
    for i in range(frames):
        figure, axes = blank(1, len(ways), width=LOOP_SIDE * len(ways), height=LOOP_SIDE + 0.25)
        for plot, (title, way) in zip(axes.flat, ways.items(), strict=True):
            _plane(plot, title, board)
            plot.plot(*way[i].detach().double().numpy().T, ".", color=BLUE, markersize=3.4, markeredgewidth=0)
            plot.text(0.03, 0.03, f"t = {1 - i / (frames - 1):.2f}", transform=plot.transAxes, fontsize=9)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=DPI)
        pictures.append(Image.open(buffer).convert("RGB"))
    for quality in QUALITIES:
        data = to_webp(pictures, 1000 / fps, quality)
        if len(data) <= MAX_LOOP_BYTES:
            return Loop(data, pictures[0].size, list(range(frames)), _moments(ways, frames, board))
    raise TutorialError(f"these clouds do not fit into {MAX_LOOP_BYTES} bytes; pass fewer points or moments.")


def _moments(ways: Mapping[str, Sequence[Tensor]], frames: int, board: bool) -> Figure:
    """A row for each cloud, five of the moments in it."""
    shown = [round(i * (frames - 1) / 4) for i in range(5)]
    side = WIDTH / 5
    figure, axes = blank(len(ways), 5, height=len(ways) * side + 0.25)
    for number, (row, (title, way)) in enumerate(zip(axes, ways.items(), strict=True)):
        for plot, i in zip(row, shown, strict=True):
            _plane(plot, "" if number else f"t = {1 - i / (frames - 1):.2f}", board)
            plot.plot(*way[i].detach().double().numpy().T, ".", color=BLUE, markersize=2, markeredgewidth=0)
        row[0].set_ylabel(title)
    return figure


# ------------------------------------------------------------------------------------------- over time, one dimension

MEANS, NARROW = (-1.2, 1.2), 0.18  # data of the drawings: two narrow clouds on a line


def _velocity(x: np.ndarray, t: float) -> np.ndarray:
    """The flow's velocity to two normal clouds, in closed form: the mean of ``noise - data`` at ``x``."""
    variance = t**2 + ((1 - t) * NARROW) ** 2
    off = [x - (1 - t) * mean for mean in MEANS]
    weights = np.stack([np.exp(-((o**2) - np.minimum(*(o**2 for o in off))) / (2 * variance)) for o in off])
    weights /= weights.sum(0)
    lines = [t / variance * o - (m + (1 - t) * NARROW**2 / variance * o) for m, o in zip(MEANS, off, strict=True)]
    return (weights * np.stack(lines)).sum(0)


def _path(x: float, start: float, end: float, steps: int = 400) -> tuple[np.ndarray, np.ndarray]:
    """Times and places of one point from ``start`` to ``end``, by Heun's method."""
    times = np.linspace(start, end, steps + 1)
    places = [np.array([x])]
    for t, then in pairwise(times.tolist()):
        slope = _velocity(places[-1], t)
        ahead = _velocity(places[-1] + (then - t) * slope, then)
        places.append(places[-1] + (then - t) / 2 * (slope + ahead))
    return times, np.concatenate(places)


def _over_time(axes: Axes, title: str) -> None:
    """Time from noise (1, left) to data (0, right), and faint paths of the flow."""
    axes.set(xlim=(1.03, -0.03), ylim=(-2.3, 2.3), yticks=[], title=title)
    axes.set_xticks([1, 0], ["t = 1, noise", "t = 0, data"])
    axes.get_xticklabels()[0].set_horizontalalignment("left")
    axes.get_xticklabels()[1].set_horizontalalignment("right")
    axes.grid(False)
    for x in (-2.0, -1.3, -0.75, -0.3, -0.06, 0.06, 0.3, 0.75, 1.3, 2.0):
        axes.plot(*_path(x, 1.0, 0.0), color="#cfd5dd", linewidth=1)


def _arrow(axes: Axes, tail: tuple[float, float], head: tuple[float, float], colour: str, style: str = "-") -> None:
    axes.annotate(
        "", head, tail,
        arrowprops={"arrowstyle": "-|>", "color": colour, "linewidth": 1.6, "linestyle": style, "shrinkA": 0,
                    "shrinkB": 0, "mutation_scale": 11},
    )  # fmt: skip


def _dot(
    axes: Axes, at: tuple[float, float], words: str = "", colour: str = INK, shift: tuple[int, int] = (0, 7)
) -> None:
    axes.plot(*at, "o", color=colour, markersize=5.5, markeredgecolor=PAPER, zorder=5)
    if words:
        axes.annotate(
            words,
            at,
            shift,
            textcoords="offset points",
            ha="center",
            fontsize=9,
            color=colour,
            path_effects=casing(2.5, PAPER),
            zorder=6,
        )


@styled
def three_models() -> Figure:
    """What three models know of one path: the velocity at a point, the way to the data, and the way to anywhere."""
    figure, axes = blank(1, 3, height=2.5)
    times, places = _path(0.35, 1.0, 0.0)

    def at(t: float) -> tuple[float, float]:
        return t, float(np.interp(t, times[::-1], places[::-1]))

    for plot, title in zip(
        axes.flat,
        ("velocity: which way now?", "consistency: to the data", "flow map: from any t to any s"),
        strict=True,
    ):
        _over_time(plot, title)
        plot.plot(times, places, color=INK, linewidth=1.6)
    velocity, consistency, flow = axes.flat
    for t in (0.95, 0.6, 0.3):
        start = at(t)
        slope = float(_velocity(np.array([start[1]]), t)[0])
        _arrow(velocity, start, (t - 0.2, start[1] - 0.2 * slope), VERMILLION)
        _dot(velocity, start)
        _arrow(consistency, start, at(0.0), ORANGE)
        _dot(consistency, start)
    for t, s in ((0.95, 0.6), (0.95, 0.3), (0.6, 0.0), (0.3, 0.0)):
        _arrow(flow, at(t), at(s), BLUE)
        _dot(flow, at(t))
    return figure


@styled
def two_directions() -> Figure:
    """EMD and LMD: neighbouring starts whose jumps should meet, neighbouring ends that should follow the flow."""
    figure, axes = blank(1, 2, height=3.0)
    times, places = _path(0.5, 1.0, 0.0)

    def at(t: float) -> tuple[float, float]:
        return t, float(np.interp(t, times[::-1], places[::-1]))

    for plot, title in zip(axes.flat, ("EMD: move the start", "LMD: move the end"), strict=True):
        _over_time(plot, title)
        plot.plot(times, places, color=INK, linewidth=1.6)
    emd, lmd = axes.flat
    t, near, s = 0.9, 0.72, 0.15
    _arrow(emd, at(t), (s, at(s)[1] + 0.75), BLUE)
    _arrow(emd, at(near), (s, at(s)[1] + 0.28), BLUE, "--")
    _arrow(emd, (s, at(s)[1] + 0.75), (s, at(s)[1] + 0.3), GREEN)
    _dot(emd, at(t), "t", shift=(-4, 8))
    _dot(emd, at(near), "t′, one teacher step on", shift=(30, -15))
    _dot(emd, (s, at(s)[1] + 0.75), "f(x, t, s)", BLUE)
    _dot(emd, (s, at(s)[1] + 0.28), "f(x′, t′, s)", BLUE, (0, -27))  # below the path
    t, later, s = 0.9, 0.38, 0.15
    end, target = (later, at(later)[1] + 0.55), None
    slope = float(_velocity(np.array([end[1]]), later)[0])
    target = (s, end[1] + (s - later) * slope)
    _arrow(lmd, at(t), end, BLUE, "--")
    _arrow(lmd, at(t), (s, target[1] - 0.62), BLUE)
    _arrow(lmd, end, target, VERMILLION)
    _arrow(lmd, (s, target[1] - 0.62), (s, target[1] - 0.04), GREEN)
    _dot(lmd, at(t), "t", shift=(-4, 8))
    _dot(lmd, end, "f(x, t, s′)", BLUE, (-22, 10))
    _dot(lmd, target, "one teacher step on", VERMILLION, (0, 9))
    _dot(lmd, (s, target[1] - 0.62), "f(x, t, s)", BLUE, (0, -14))
    return figure


# --------------------------------------------------------------------------------------------------- samples, moving


@torch.no_grad()
def travel(network: Network, noise: Tensor, steps: int, frames: int = 21) -> list[Tensor]:
    """Where points are at evenly spaced moments of a sampling: jumps are drawn as straight lines.

    Args:
        network: ``F(x, t, s)``; a velocity that ignores ``s`` goes by Euler's method.
        noise: ``[N, 2]``.
        steps: jumps.
        frames: moments, the first at time 1 and the last at time 0.
    """
    stops, x = [noise], noise
    for t, s in pairwise(even_times(steps)):
        x = x + (s - t) * network(x, x.new_full((len(x),), t), x.new_full((len(x),), s))
        stops.append(x)
    places = []
    for i in range(frames):
        step = min(steps - 1, i * steps // (frames - 1))
        share = i * steps / (frames - 1) - step
        places.append((1 - share) * stops[step] + share * stops[step + 1])
    return places
