"""Curves over time, the cobweb of a method that feeds on its own output, and bars."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from ...errors import TutorialError
from .masks import Pixels, array, casing
from .palette import BLUE, FAINT, GREEN, INK, ORANGE, PAPER, PURPLE, SKY, VERMILLION, WIDTH, blank, styled

LINES = (BLUE, VERMILLION, GREEN, ORANGE, PURPLE, SKY, INK)
_DASHES: tuple[Any, ...] = ("-", (0, (5, 1.6)), (0, (1.2, 1.2)), (0, (6, 1.5, 1.2, 1.5)), "-", (0, (3, 1)), "-")
_MARKERS = ("o", "s", "^", "D", "v", "X", "P")
_FILLS = ("", "////", "....", "\\\\\\\\", "xxxx", "----", "++++")


def _seeds(values: Pixels | ArrayLike) -> np.ndarray:
    """``[T]`` or ``[seeds, T]`` -> ``float [seeds, T]``."""
    return np.atleast_2d(array(values).astype(np.float64))


def _draw_line(axes: Axes, index: int, label: str, x: np.ndarray, seeds: np.ndarray, colour: str = "") -> None:
    """The mean over seeds with its own dash and marker, in a band from the least to the greatest seed."""
    colour = colour or LINES[index % len(LINES)]
    with np.errstate(all="ignore"):
        mean = seeds.mean(axis=0)  # NaN where a seed has none: a gap, not a guess
    if len(seeds) > 1:
        axes.fill_between(x, seeds.min(axis=0), seeds.max(axis=0), color=colour, alpha=0.16, linewidth=0)
    every = max(1, -(-len(x) // 9))
    axes.plot(
        x, mean, color=colour, linestyle=_DASHES[index % len(_DASHES)], marker=_MARKERS[index % len(_MARKERS)],
        markevery=(index * every // 3 % every, every), markeredgecolor="white", markeredgewidth=0.6, label=label,
    )  # fmt: skip


@styled
def curves(
    lines: Mapping[str, Pixels | ArrayLike],
    xlabel: str,
    ylabel: str,
    *,
    x: Pixels | ArrayLike | None = None,
    ylim: tuple[float, float] | None = None,
    spans: Mapping[str, tuple[float, float]] | None = None,
    colours: Mapping[str, str] | None = None,
    height: float = 3.0,
) -> Figure:
    """Lines over time (or steps), with a band where there are several seeds.

    Args:
        lines: by label, ``[T]`` or ``[seeds, T]``; NaN leaves a gap; lengths may differ when ``x`` is None.
        xlabel, ylabel: with units.
        x: positions ``[T]`` of all lines; 0, 1, 2, ... without.
        ylim: the range of y.
        spans: by label, ``(from, to)`` in x: stretches to shade, an occlusion for example.
        colours: by label; in the order of the palette without.
        height: inches.

    Raises:
        TutorialError: if ``x`` and a line differ in length, or there is no line.
    """
    if not lines:
        raise TutorialError("curves() was given no lines; pass {'label': values}.")
    figure, axes = blank(1, 1, height=height)
    plot = axes[0, 0]
    for start, end in (spans or {}).values():
        plot.axvspan(start, end, color="#ececec", linewidth=0, zorder=0)
    for index, (label, values) in enumerate(lines.items()):
        seeds = _seeds(values)
        position = np.arange(seeds.shape[1]) if x is None else array(x)
        if len(position) != seeds.shape[1]:
            raise TutorialError(f"line {label!r} has {seeds.shape[1]} values but x has {len(position)}.")
        _draw_line(plot, index, label, position, seeds, (colours or {}).get(label, ""))
    plot.set_xlabel(xlabel)
    plot.set_ylabel(ylabel)
    plot.margins(x=0.015)
    if x is None or np.all(array(x) == np.round(array(x))):
        plot.xaxis.get_major_locator().set_params(integer=True)  # there is no frame 1.5
    if ylim is not None:
        plot.set_ylim(*ylim)
    for name, (start, end) in (spans or {}).items():
        plot.annotate(
            name, ((start + end) / 2, 1), xycoords=("data", "axes fraction"), xytext=(0, 2),
            textcoords="offset points", ha="center", va="bottom", fontsize=9, color="#5a5a5a",
        )  # fmt: skip
    if len(lines) > 1:
        _legend_above(figure, list(lines))
    return figure


def _legend_above(figure: Figure, labels: Sequence[str]) -> None:
    inches = max(len(label) for label in labels) * 0.075 + 0.75  # of one column: the text and its handle
    columns = max(1, min(len(labels), int(WIDTH / inches)))
    figure.legend(loc="outside upper left", ncols=columns, handlelength=3.0)


@styled
def cobweb(
    responses: Mapping[str, tuple[Pixels | ArrayLike, Pixels | ArrayLike]],
    *,
    motion: float | None = None,
    paths: Mapping[str, tuple[Pixels | ArrayLike, Pixels | ArrayLike]] | None = None,
    lowest: float = 0.0,
) -> Figure:
    """IoU in -> IoU out: what one step makes of a guide of a given quality, and where many steps lead.

    Above the diagonal a step repairs its guide, below it damages it. Between two steps the object moves on, which
    costs IoU; so the staircase of a method that feeds its answer back runs between its curve and the line of motion.

    Args:
        responses: by label, ``(x [N], y [N] or [seeds, N])``: IoU of guide and truth, IoU of answer and truth, 0..1.
        motion: IoU that one frame of motion leaves of a perfect mask. Given, its line is drawn, and the staircase
            that the first response predicts from a perfect mask.
        paths: by label, what was measured: ``(x [T], y [T])`` of frames 1..T; both ends are numbered.
        lowest: where both axes begin; the staircase alone is easier to follow from 0.5 on.

    Raises:
        TutorialError: if x and y differ in length.
    """
    paths = paths or {}
    labels = [*responses, *(["one frame of motion", "predicted staircase"] if motion is not None else []), *paths]
    legend = max(len(label) for label in labels) * 0.075 + 0.7 if len(labels) > 1 else 0.0
    figure, axes = blank(1, 1, width=4.4 + legend, height=4.1)
    plot = axes[0, 0]
    plot.fill_between([0, 1], [0, 1], [1, 1], color="#f4f7fb", linewidth=0, zorder=0)
    plot.plot([0, 1], [0, 1], color=FAINT, linewidth=1.2)
    inside: dict[str, Any] = {"color": "#5a5a5a", "fontsize": 9, "transform": plot.transAxes}
    plot.text(0.03, 0.965, "repairs its guide", va="top", **inside)
    plot.text(0.97, 0.03, "damages its guide", ha="right", **inside)
    for index, (label, pair) in enumerate(responses.items()):
        x, seeds = _sorted_pair(label, pair)
        _draw_line(plot, index, label, x, seeds)
        if index == 0 and motion is not None:
            plot.plot(
                [0, motion], [0, 1], color=FAINT, linewidth=1.2, linestyle=(0, (4, 2)), label=labels[-2 - len(paths)]
            )
            stairs = staircase(x, seeds.mean(axis=0), motion)
            plot.plot(stairs[:, 0], stairs[:, 1], color=INK, linewidth=0.9, label="predicted staircase", zorder=3)
    for index, (label, pair) in enumerate(paths.items(), start=len(responses)):
        _draw_path(plot, index, label, *(array(values).astype(np.float64) for values in pair))
    plot.set(
        xlim=(lowest, 1), ylim=(lowest, 1), aspect="equal",
        xlabel="IoU in (guide, truth)", ylabel="IoU out (answer, truth)",
    )  # fmt: skip
    if len(labels) > 1:
        figure.legend(loc="outside right upper", handlelength=3.0)
    return figure


def _sorted_pair(label: str, pair: tuple[Pixels | ArrayLike, Pixels | ArrayLike]) -> tuple[np.ndarray, np.ndarray]:
    """x in order, and y as ``[seeds, N]`` in the same order."""
    x, seeds = array(pair[0]).astype(np.float64), _seeds(pair[1])
    if len(x) != seeds.shape[1]:
        raise TutorialError(f"response {label!r} has {len(x)} guides but {seeds.shape[1]} outputs.")
    order = np.argsort(x, kind="stable")
    return x[order], seeds[:, order]


def _draw_path(axes: Axes, index: int, label: str, x: np.ndarray, y: np.ndarray) -> None:
    """A dot for each frame, joined; the first and the last have their numbers."""
    colour = LINES[index % len(LINES)]
    axes.plot(x, y, color=colour, linewidth=1.1, marker=_MARKERS[index % len(_MARKERS)], markersize=4, label=label)
    ends = [(0, "frame 1", (14, -12)), (len(x) - 1, f"frame {len(x)}", (-7, -6))]
    if np.hypot(x[-1] - x[0], y[-1] - y[0]) < 0.2:  # the numbers would lie on one another
        ends = [(int(x.argmin()), f"frames 1 to {len(x)}", (-7, -8))]
    for t, name, shift in ends:
        axes.annotate(
            name, (x[t], y[t]), shift, textcoords="offset points", fontsize=9, color=colour, va="center",
            ha="left" if shift[0] > 0 else "right", path_effects=casing(2.5, PAPER),
        )  # fmt: skip


def staircase(x: np.ndarray, y: np.ndarray, motion: float, steps: int = 12) -> np.ndarray:
    """Corners ``[2 * steps + 1, 2]``: from a perfect mask, motion to the left, the response up or down, again.

    Args:
        x, y: the response, between whose points lines are drawn.
        motion: what one frame of motion leaves of an IoU.
        steps: frames.
    """
    quality, corners = 1.0, [(motion, 1.0)]
    for _ in range(steps):
        guide = motion * quality
        quality = float(np.interp(guide, x, y))
        corners += [(guide, quality), (motion * quality, quality)]
    return np.array(corners)


@styled
def bars(
    groups: Mapping[str, Mapping[str, float | Pixels | ArrayLike]],
    xlabel: str,
    *,
    xlim: tuple[float, float] | None = None,
) -> Figure:
    """Horizontal bars, one block per group, one bar per method; seeds as dots, their mean written at the end.

    Args:
        groups: ``{group: {method: value or [seeds]}}``; a method may be missing from a group.
        xlabel: with units.
        xlim: the range of x.

    Raises:
        TutorialError: if there is no group.
    """
    if not groups:
        raise TutorialError("bars() was given no groups; pass {'group': {'method': value}}.")
    methods = list(dict.fromkeys(method for group in groups.values() for method in group))
    slots = len(methods) + (0.7 if len(methods) > 1 else 0.3)  # bars of one block, and the air below it
    figure, axes = blank(1, 1, height=0.6 + 0.2 * slots * len(groups) + 0.25 * (len(methods) > 1))
    plot = axes[0, 0]
    for index, method in enumerate(methods):
        present = [(i, _seeds(group[method])[0]) for i, group in enumerate(groups.values()) if method in group]
        place = [i * slots + index for i, _ in present]
        means = [float(seeds.mean()) for _, seeds in present]
        plot.barh(
            place, means, height=0.86, color=LINES[index % len(LINES)], alpha=0.82, label=method,
            hatch=_FILLS[index % len(_FILLS)] if len(methods) > 1 else None, edgecolor="white", linewidth=0,
        )  # fmt: skip
        for y, mean, (_, seeds) in zip(place, means, present, strict=True):
            if len(seeds) > 1:
                plot.plot(
                    seeds,
                    [y] * len(seeds),
                    "o",
                    color=INK,
                    markersize=3.8,
                    markeredgecolor="white",
                    markeredgewidth=0.5,
                )
            plot.annotate(
                f"{mean:.1f}" if abs(mean) >= 2 else f"{mean:.2f}", (max(mean, seeds.max()), y), (5, 0),
                textcoords="offset points", va="center", fontsize=8.5,
            )  # fmt: skip
    middle = (len(methods) - 1) / 2
    plot.set_yticks([i * slots + middle for i in range(len(groups))], [g.replace("_", " ") for g in groups])
    plot.tick_params(axis="y", length=0)
    plot.grid(False, axis="y")
    plot.spines["left"].set_visible(False)
    plot.axvline(0, color=FAINT, linewidth=0.8)
    plot.set_ylim((len(groups) - 1) * slots + len(methods) - 0.3, -0.7)
    plot.set_xlabel(xlabel)
    if xlim is not None:
        plot.set_xlim(*xlim)
    if len(methods) > 1:
        figure.legend(loc="outside upper left", ncols=min(4, len(methods)), handlelength=2.2, handleheight=1.1)
    return figure


@styled
def differences(
    groups: Mapping[str, Mapping[str, float | Pixels | ArrayLike]],
    against: str,
    xlabel: str,
    *,
    methods: Sequence[str] | None = None,
) -> Figure:
    """How much better or worse than one method the others are: paired by seed, condition by condition.

    Each seed is a small dot, their mean a large marker on a line from the worst seed to the best; the upright line is
    the method that all are compared with.

    Args:
        groups: ``{condition: {method: value or [seeds]}}``, as for :func:`bars`.
        against: the method to compare with.
        xlabel: with units.
        methods: which of the others, in this order.

    Raises:
        TutorialError: if there is nothing to compare, or numbers of seeds differ.
    """
    known = list(dict.fromkeys(method for group in groups.values() for method in group))
    chosen = [m for m in (methods or known) if m != against]
    if against not in known or not chosen or (unknown := [m for m in chosen if m not in known]):
        wrong = against if against not in known else "nothing" if not chosen else unknown[0]
        raise TutorialError(f"there is no {wrong!r} to compare in these results; they hold {', '.join(known)}.")
    slots = len(chosen) + 0.7
    figure, axes = blank(1, 1, height=0.75 + 0.19 * slots * len(groups) + 0.25 * (len(chosen) > 1))
    plot = axes[0, 0]
    for index, method in enumerate(chosen):
        colour, labelled = LINES[index % len(LINES)], False
        for i, (condition, group) in enumerate(groups.items()):
            if method not in group or against not in group:
                continue
            a, b = _seeds(group[method])[0], _seeds(group[against])[0]
            if len(a) != len(b):
                raise TutorialError(f"{condition}: {method} has {len(a)} seeds, {against} {len(b)}; pair them first.")
            gain, y = a - b, i * slots + index
            plot.plot([gain.min(), gain.max()], [y, y], color=colour, linewidth=1.2)
            if len(gain) > 1:
                plot.plot(gain, [y] * len(gain), "|", color=colour, markersize=7)
            plot.plot(
                gain.mean(), y, _MARKERS[index % len(_MARKERS)], color=colour, markersize=6, markeredgecolor="white",
                markeredgewidth=0.6, label=None if labelled else method, linestyle="none",
            )  # fmt: skip
            labelled = True
    middle = (len(chosen) - 1) / 2
    plot.set_yticks([i * slots + middle for i in range(len(groups))], [g.replace("_", " ") for g in groups])
    plot.tick_params(axis="y", length=0)
    plot.grid(False, axis="y")
    plot.spines["left"].set_visible(False)
    plot.axvline(0, color=INK, linewidth=1.0)
    plot.set_ylim((len(groups) - 1) * slots + len(chosen) - 0.3, -0.7)
    plot.set_xlabel(xlabel)
    figure.legend(loc="outside upper left", ncols=min(4, len(chosen)), handlelength=1.2)
    return figure
