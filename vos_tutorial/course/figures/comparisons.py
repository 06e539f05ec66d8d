"""A :class:`~vos_tutorial.comparison.Comparison` in pictures (cost, attributes, gains, failures) and one table."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.text import Text
from matplotlib.ticker import FuncFormatter
from matplotlib.transforms import Bbox

from ...clip import VOID, Clip
from ...comparison import Comparison
from ...errors import TutorialError
from .answers import answer, line_legend
from .charts import curves
from .masks import Pixels, as_ids, bare, casing, objects_in
from .palette import (
    BLUE,
    FAINT,
    GREEN,
    INK,
    ORANGE,
    PAPER,
    PURPLE,
    SKY,
    VERMILLION,
    WIDTH,
    YELLOW,
    blank,
    styled,
)  # fmt: skip
from .tables import NONE, Table, number, table

GAINS = "PuOr"  # its ends differ for every kind of colour vision
PHOTOS = " photos"  # how the name of a photo-trained network ends
COLOURS = {  # a method has one colour in all pictures
    "copy first": FAINT,
    "colour memory": SKY,
    "label propagation": INK,
    "MaskTrack": VERMILLION,
    "RGMP": GREEN,
    "RVOS": PURPLE,
    "STM": BLUE,
    "STCNN": ORANGE,
}
FIRST_COLOUR = 6  # of an answer in the gallery, as an id: vermillion, which few of our textures have


def colours(methods: Sequence[str]) -> dict[str, str]:
    """The colour of each method; a photo-trained network has that of the small one, the reader's own are yellow."""
    return {method: COLOURS.get(method.removesuffix(PHOTOS), YELLOW) for method in methods}


@styled
def cost(comparison: Comparison, spread: Mapping[str, Sequence[float]] | None = None) -> Figure:
    """J&F against processor milliseconds a frame; the dot's area grows with what the method carries along.

    Args:
        comparison: with at least one clip that all methods finished.
        spread: by method, the values between which its upright line goes; those of its seeds without.

    Raises:
        TutorialError: if no clip was finished by all methods.
    """
    table, scores = comparison.cost(), comparison.by_attribute()["all"]
    figure, axes = blank(1, 1, height=4.6)
    plot = axes[0, 0]
    largest = max(max(row["state"] for row in table.values()), 1)
    texts: list[Text] = []
    radii: list[float] = []
    bars: list[Line2D] = []
    hues = colours(list(table))
    for method, row in table.items():
        x, y, seeds = max(row["cpu_ms"], 0.01), row["J&F"], (spread or scores).get(method, [])
        area = 30 + 270 * row["state"] / largest
        radii.append(np.sqrt(area) / 2)
        hollow = method.endswith(PHOTOS)
        plot.scatter(
            [x], [y], s=area, facecolor=PAPER if hollow else hues[method], edgecolor=hues[method] if hollow else INK,
            linewidth=2.2 if hollow else 0.6, zorder=2,
        )  # fmt: skip
        if len(seeds) > 1:
            bars += plot.plot([x, x], [min(seeds), max(seeds)], color=INK, linewidth=1.2, zorder=3)
        texts.append(
            plot.annotate(
                f"{method}  {_megabytes(row['state'])}", (x, y), (8, 0), textcoords="offset points", fontsize=8.5,
                va="center", path_effects=casing(2.5, PAPER), zorder=4,
            )
        )  # fmt: skip
    plot.set_xscale("log")
    plot.margins(x=0.06, y=0.1)
    plot.set_xlim(right=4.5 * max(max(row["cpu_ms"], 0.01) for row in table.values()))  # room for names
    plot.set_xlabel("processor milliseconds a frame (logarithmic)")
    plot.set_ylabel("J&F, percent")
    if plot.get_ylim()[0] > 50:
        plot.set_ylim(bottom=50)
    plot.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
    plot.xaxis.set_minor_formatter(FuncFormatter(lambda x, _: f"{x:g}" if f"{x:e}"[0] in "25" else ""))
    _apart(figure, texts, radii, bars)
    return figure


def _apart(figure: Figure, texts: Sequence[Text], radii: Sequence[float], bars: Sequence[Line2D]) -> None:
    """Move each annotation to the first of some places at which it covers none that stands already, dot or bar.

    Args:
        figure: of them.
        texts: each at a dot.
        radii: of the dots, in points.
        bars: upright lines.
    """
    canvas = figure.canvas
    assert isinstance(canvas, FigureCanvasAgg)
    canvas.draw()
    points = [text.axes.transData.transform(text.xy) for text in texts]  # type: ignore[union-attr, attr-defined]
    scale = figure.dpi / 72
    dots = [Bbox([p - r * scale, p + r * scale]) for p, r in zip(points, radii, strict=True)]
    lines = [bar.get_window_extent(canvas.get_renderer()).padded(1) for bar in bars]
    placed: list[Bbox] = []
    for i, text in enumerate(texts):
        others = [*placed, *lines, *(dot for j, dot in enumerate(dots) if j != i)]
        for side, up in [(s, u) for u in (0, 11, -11, 22, -22, 33, -33, 44, -44, 55, -55) for s in (1, -1)]:
            text.set_position((side * (radii[i] + 3), up))
            text.set_horizontalalignment("left" if side > 0 else "right")
            box = text.get_window_extent(canvas.get_renderer())
            inside = box.x0 > text.axes.bbox.x0 and box.x1 < text.axes.bbox.x1  # type: ignore[union-attr]
            if inside and not any(box.overlaps(other) for other in others):
                break
        placed.append(box)


def _megabytes(state: float) -> str:
    return f"({state / 2**20:.1f} MB)" if state >= 2**20 / 10 else f"({state / 2**10:.0f} kB)"


@styled
def attributes(groups: Mapping[str, Mapping[str, Sequence[float]]], against: str) -> Figure:
    """A row for each attribute, a column for each method: J&F, and in colour the difference from one method.

    Args:
        groups: from :meth:`~vos_tutorial.comparison.Comparison.by_attribute`; or any rows, such as videos.
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
    plot.set_xticks(range(len(methods)), methods, rotation=32, ha="left", rotation_mode="anchor")
    plot.xaxis.tick_top()
    plot.set_yticks(range(len(groups)), [name.replace("_", " ") for name in groups])
    plot.tick_params(length=0)
    plot.grid(False)
    bar = figure.colorbar(image, ax=plot, fraction=0.035, pad=0.02)
    bar.set_label(f"J&F minus that of {against}, points")
    bar.ax.set_ylim(min(-5.0, float(gains.min())), max(5.0, float(gains.max())))  # only what the table uses
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


@styled
def gains(comparison: Comparison, against: str, methods: Sequence[str] | None = None) -> Figure:
    """How much better or worse than one method the others are, clip by clip, with the interval of the mean.

    Each clip that the two share is a small dot, their mean a line with its 95 % interval.

    Args:
        comparison: with runs of all of them.
        against: the method to compare with.
        methods: which of the others, from the top; all by default.

    Raises:
        TutorialError: if a method is not there, or shares no clip with the other.
    """
    others = [method for method in methods or comparison.methods() if method != against]
    hues = colours(others)
    figure, axes = blank(1, 1, height=0.8 + 0.33 * len(others))
    plot = axes[0, 0]
    for y, method in enumerate(others):
        pair = comparison.only(methods=[method, against])
        gain, each = pair.difference(method, against), pair.gains(method, against)
        plot.plot(
            each, y + np.linspace(-0.22, 0.22, len(each)), "o", color=hues[method], markersize=3, alpha=0.7,
            markerfacecolor=PAPER if method.endswith(PHOTOS) else hues[method],
        )  # fmt: skip
        plot.plot([gain.low, gain.high], [y, y], color=INK, linewidth=3.2, solid_capstyle="butt")
        plot.plot([gain.mean], [y], "|", color=PAPER, markersize=9, markeredgewidth=2.4)
        plot.plot([gain.mean], [y], "|", color=INK, markersize=9, markeredgewidth=1.2)
        plot.annotate(
            f"{gain.mean:+.1f}".replace("-", "\u2212"), (1.005, y), xycoords=("axes fraction", "data"), va="center",
            fontsize=8.5,
        )  # fmt: skip
    plot.axvline(0, color=INK, linewidth=1.0)
    plot.set_yticks(range(len(others)), others)
    plot.set_ylim(len(others) - 0.5, -0.5)
    plot.tick_params(axis="y", length=0)
    plot.grid(False, axis="y")
    plot.set_xlabel(f"J&F minus that of {against}, points; a dot is a clip, the bar the 95 % interval of the mean")
    return figure


@styled
def failures(cases: Mapping[str, tuple[Clip, int, Mapping[str, Pixels]]]) -> Figure:
    """A row for each failure: the given mask, the method that fails and the one that succeeds, in the same frame.

    The first object is vermillion, whatever its method; the next ones have the colours that follow in the palette.

    Args:
        cases: by what makes it hard, the clip, the number of the frame, and by method ids ``[T, H, W]``, first the
            one that fails.

    Raises:
        TutorialError: if there is no case, or an answer has another size than its clip.
    """
    if not cases:
        raise TutorialError("failures() was given no case; pass {'occlusion': (clip, frame, {method: ids})}.")
    columns = 1 + max(len(answers) for _, _, answers in cases.values())
    tile = (WIDTH - 0.4) / max(columns, 4)
    figure, axes = blank(len(cases), columns, tile * columns + 0.4, (tile + 0.2) * len(cases) + 0.3)
    for row, (what, (clip, t, answers)) in enumerate(cases.items()):
        shown = [("frame 0, the given mask", 0, clip.masks), *((f"frame {t}, {n}", t, a) for n, a in answers.items())]
        for cell, (title, at, ids) in zip(axes[row], shown, strict=False):
            truth = None if at == 0 else clip.masks[at]
            cell.imshow(answer(clip.frames[at], _recoloured(ids[at]), truth, round(200 * tile)))
            cell.set_title(title, fontsize=8.5, pad=3)
            if not np.any(as_ids(ids[at])):
                cell.text(
                    0.5, 0.03, "nothing found", transform=cell.transAxes, ha="center", va="bottom", fontsize=9,
                    color=PAPER, path_effects=casing(2.5),
                )  # fmt: skip
        for cell in axes[row]:
            bare(cell)
        axes[row, 0].set_ylabel(what.replace("_", " "), fontsize=9)
    judged = [_recoloured(ids[t]) for _, t, answers in cases.values() for ids in answers.values()]
    line_legend(figure, sorted({i for ids in judged for i in objects_in(ids)}) or [FIRST_COLOUR])
    return figure


def _recoloured(ids: Pixels) -> np.ndarray:
    """Ids ``[H, W]`` of which the first has the colour of :data:`FIRST_COLOUR`, the next the one after it."""
    values = as_ids(ids)
    objects = (values > 0) & (values <= VOID - FIRST_COLOUR)
    return np.where(objects, values + (FIRST_COLOUR - 1), values)


def choices(parts: Mapping[str, Comparison], price: Mapping[str, float], rows: str = "") -> Table:
    """Which method to take, a row for each part: the best, those level with it, and the cheapest of them.

    Args:
        parts: by the name of the row, a comparison.
        price: of each method; see :meth:`~vos_tutorial.comparison.Comparison.choice`.
        rows: heading of the parts.

    Raises:
        TutorialError: if there is no part, or a method has no price.
    """
    lines = {}
    for name, part in parts.items():
        found = part.choice(price)
        gain, low, high = NONE, "", ""
        if found.gain is not None:
            gain, low, high = (number(value) for value in (found.gain.mean, found.gain.low, found.gain.high))
        lines[name.replace("_", " ")] = {
            "best": f"{found.best} ({np.mean(part.scores(found.best)):.0f})",
            "level with it": ", ".join(found.level),
            "take": found.cheapest,
            "gain of the best over it": f"{gain} ({low} to {high})" if low else gain,
        }
    notes = f"J&F, or the 95 % interval, in brackets; {_how_many(parts.values())}"
    return table(lines, rows=rows, notes=notes)


def _how_many(parts: Iterable[Comparison]) -> str:
    """Over how many trainings of each method the scores are averaged, in words."""
    counts: dict[str, int] = {}
    for part in parts:
        for method in part.methods():
            counts[method] = max(counts.get(method, 0), len(part.seeds(method)))
    if set(counts.values()) <= {1}:
        return "one network of each method"
    return "seeds: " + ", ".join(f"{method} {count}" for method, count in counts.items())
