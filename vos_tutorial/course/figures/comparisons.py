"""Pictures of a :class:`~vos_tutorial.comparison.Comparison`: cost, attributes, time unseen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from ...comparison import Comparison
from ...errors import TutorialError
from .charts import LINES, curves
from .masks import casing
from .palette import INK, PAPER, blank, styled

GAINS = "PuOr"  # its ends differ for every kind of colour vision


@styled
def cost(comparison: Comparison) -> Figure:
    """J&F against processor milliseconds a frame; the dot's area grows with what the method carries along.

    A vertical line goes from the worst seed to the best.

    Raises:
        TutorialError: if no clip was finished by all methods.
    """
    table, scores = comparison.cost(), comparison.by_attribute()["all"]
    figure, axes = blank(1, 1, height=3.9)
    plot = axes[0, 0]
    largest = max(max(row["state"] for row in table.values()), 1)
    placed: list[tuple[float, float]] = []
    for index, (method, row) in enumerate(table.items()):
        x, y, seeds = max(row["cpu_ms"], 0.01), row["J&F"], scores[method]
        area = 30 + 420 * row["state"] / largest
        plot.scatter(
            [x], [y], s=area, color=LINES[index % len(LINES)], alpha=0.75, edgecolor=INK, linewidth=0.6, zorder=2
        )
        if len(seeds) > 1:
            plot.plot([x, x], [min(seeds), max(seeds)], color=INK, linewidth=1.2, zorder=3)
        near = sum(abs(np.log10(x / u)) < 0.35 and abs(y - v) < 5 for u, v in placed)
        placed.append((x, y))
        plot.annotate(
            f"{method}  {_megabytes(row['state'])}", (x, y), (9, 7 - 13 * near), textcoords="offset points",
            fontsize=8.5, path_effects=casing(2.5, PAPER), zorder=4,
        )  # fmt: skip
    plot.set_xscale("log")
    plot.margins(x=0.16, y=0.12)
    plot.set_xlabel("processor milliseconds a frame (logarithmic)")
    plot.set_ylabel("J&F, percent")
    return figure


def _megabytes(state: float) -> str:
    return f"({state / 2**20:.1f} MB)" if state >= 2**20 / 10 else f"({state / 2**10:.0f} kB)"


@styled
def attributes(groups: Mapping[str, Mapping[str, Sequence[float]]], against: str) -> Figure:
    """A row for each attribute, a column for each method: J&F, and in colour the difference from one method.

    Args:
        groups: from :meth:`~vos_tutorial.comparison.Comparison.by_attribute`.
        against: the method that the others are compared with; its column has no colour.

    Raises:
        TutorialError: if there is no such method.
    """
    methods = list(next(iter(groups.values())))
    if against not in methods:
        raise TutorialError(f"there is no {against!r} in these results; they hold {', '.join(methods)}.")
    values = np.array([[np.mean(group[method]) for method in methods] for group in groups.values()])
    gains = values - values[:, [methods.index(against)]]
    figure, axes = blank(1, 1, height=1.1 + 0.27 * len(groups))
    plot = axes[0, 0]
    limit = max(5.0, float(np.abs(gains).max()))
    image = plot.imshow(gains, cmap=GAINS, vmin=-limit, vmax=limit, aspect="auto")
    for (i, j), value in np.ndenumerate(values):
        strong = abs(gains[i, j]) > 0.6 * limit
        plot.text(j, i, f"{value:.0f}", ha="center", va="center", fontsize=8.5, color=PAPER if strong else INK)
    plot.set_xticks(range(len(methods)), methods, rotation=25, ha="left", rotation_mode="anchor")
    plot.xaxis.tick_top()
    plot.set_yticks(range(len(groups)), [name.replace("_", " ") for name in groups])
    plot.tick_params(length=0)
    plot.grid(False)
    bar = figure.colorbar(image, ax=plot, fraction=0.035, pad=0.02)
    bar.set_label(f"points above {against}")
    return figure


def unseen(comparison: Comparison, edges: Sequence[int] = (1, 2, 3, 5, 9, 17)) -> Figure:
    """J of frames that show the object, by how many frames ago it was last seen; no point where there is none."""
    table = comparison.since_seen(edges)
    kept = [i for i in range(len(edges)) if any(np.isfinite(row[i]) for row in table.values())]
    lines = {method: np.array(row)[kept] for method, row in table.items()}
    figure = curves(
        lines, "frames since the object was last seen", "J, percent", x=np.arange(len(kept)), ylim=(0, 105)
    )
    names = [
        f"{a}"
        if i + 1 < len(edges) and edges[i + 1] == a + 1
        else f"{a}–{edges[i + 1] - 1}"
        if i + 1 < len(edges)
        else f"{a}+"
        for i, a in enumerate(edges)
    ]
    figure.axes[0].set_xticks(range(len(kept)), [names[i] for i in kept])
    return figure
