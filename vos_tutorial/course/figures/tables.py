"""Results as tables, in one line: means, spread over seeds, paired differences; the same text on every machine.

A :class:`Table` prints as text and shows as HTML. Its numbers come in as ``{condition: {method: value or [seeds]}}``,
the form in which results are stored and which :func:`~vos_tutorial.course.figures.bars` takes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any, Literal, TypeAlias

import numpy as np
from torch import nn

from ...errors import TutorialError
from ...places import RESULTS
from .masks import Pixels, array
from .tracing import Trace

Values: TypeAlias = "float | Sequence[float] | Pixels"
Groups: TypeAlias = Mapping[str, Mapping[str, Values]]

MINUS, PLUS_MINUS, NONE = "−", "±", "–"


@dataclass(frozen=True)
class Cell:
    """What stands in one place, and whether it is the best of its row."""

    text: str
    best: bool = False


@dataclass(frozen=True)
class Table:
    """Rows of cells under a heading, with notes below.

    Args:
        columns: the heading; the first is that of the rows' names.
        rows: name and cells.
        notes: sentences below the table.
        apart: the last row is a summary, with a line above it.
    """

    columns: Sequence[str]
    rows: Sequence[tuple[str, Sequence[Cell]]]
    notes: Sequence[str] = field(default_factory=tuple)
    apart: bool = False

    def __str__(self) -> str:
        heading = [self.columns[0], *(f"{name} " for name in self.columns[1:])]  # room for the star
        lines = [heading, *([name, *map(_starred, cells)] for name, cells in self.rows)]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        text = [_aligned(line, widths) for line in lines]
        rule = "-" * max(map(len, text))
        text.insert(1, rule)
        if self.apart:
            text.insert(len(text) - 1, rule)
        return "\n".join([*text, *self.notes])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        head = "".join(f'<th scope="col"{_right(i)}>{escape(name)}</th>' for i, name in enumerate(self.columns))
        body = []
        for i, (name, cells) in enumerate(self.rows):
            line = ' style="border-top: 1px solid"' if self.apart and i == len(self.rows) - 1 else ""
            shown = "".join(f"<td{_right(1)}>{_bold(cell)}</td>" for cell in cells)
            body.append(f'<tr{line}><th scope="row"{_right(0)}>{escape(name)}</th>{shown}</tr>')
        notes = f"<p><small>{'<br>'.join(escape(note) for note in self.notes)}</small></p>" if self.notes else ""
        return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody></table>{notes}"


def _starred(cell: Cell) -> str:
    return cell.text + ("*" if cell.best else " ")


def _bold(cell: Cell) -> str:
    return f"<b>{escape(cell.text)}*</b>" if cell.best else escape(cell.text)


def _right(column: int) -> str:
    return f' style="text-align: {"right" if column else "left"}"'


def _aligned(line: Sequence[str], widths: Sequence[int]) -> str:
    first, *others = line
    right = [text.rjust(width) for text, width in zip(others, widths[1:], strict=True)]
    return "  ".join([first.ljust(widths[0]), *right]).rstrip()


# --- What stands in a cell -------------------------------------------------------------------------------


def number(value: float, decimals: int = 1, sign: bool = False) -> str:
    """A number as text, with a true minus; never ``-0.0``, and a dash for NaN."""
    if not np.isfinite(value):
        return NONE
    rounded = round(float(value), decimals) + 0.0
    text = f"{abs(rounded):,.{decimals}f}"
    return (MINUS if rounded < 0 else "+" if sign and rounded > 0 else "") + text


def spread(seeds: np.ndarray, decimals: int = 1, sign: bool = False) -> str:
    """``mean ± standard deviation`` of several seeds (divided by n - 1), the value alone of one."""
    mean = number(float(seeds.mean()), decimals, sign)
    return mean if len(seeds) < 2 else f"{mean} {PLUS_MINUS} {number(float(seeds.std(ddof=1)), decimals)}"


def _seeds(values: Values) -> np.ndarray:
    return np.atleast_1d(array(values).astype(np.float64)).ravel()


# --- The tables ------------------------------------------------------------------------------------------


def compare(
    groups: Groups,
    *,
    methods: Sequence[str] | Mapping[str, str] | None = None,
    against: str | None = None,
    better: Literal["higher", "lower"] = "higher",
    decimals: int = 1,
    rows: str = "",
    mean: bool = True,
) -> Table:
    """Methods side by side: a row for each condition, a column for each method, the best of a row marked.

    Args:
        groups: ``{condition: {method: value or [seeds]}}``; a method may be missing from a condition.
        methods: which, in this order; a mapping gives them other names: ``{"long": "STM, long run"}``.
        against: a method; for each of the others a column of differences follows, paired by seed: the mean, its
            spread, and in how many of the pairs the method is better.
        better: what is good.
        decimals: of each number.
        rows: heading of the conditions.
        mean: a last row over all conditions that every method has.

    Raises:
        TutorialError: if there is nothing to compare, a method is unknown, or numbers of seeds differ where they are
            to be paired.
    """
    known = list(dict.fromkeys(method for group in groups.values() for method in group))
    if not known:
        raise TutorialError("compare() was given no results; pass {'condition': {'method': value}}.")
    labels = dict(methods) if isinstance(methods, Mapping) else {m: m for m in methods or known}
    for method in [*labels, *([against] if against is not None else [])]:
        if method not in known:
            raise TutorialError(f"there are no results of {method!r}; choose from {', '.join(known)}.")
    sign = 1 if better == "higher" else -1
    others = [method for method in labels if method != against] if against is not None else []
    columns = [rows, *labels.values(), *(f"{labels[m]} {MINUS} {labels.get(against or '', against)}" for m in others)]
    table = []
    for condition, group in groups.items():
        values = {m: _seeds(group[m]) if m in group else np.array([np.nan]) for m in labels}
        table.append((condition.replace("_", " "), _cells(values, sign, decimals, against, others, group, condition)))
    needed = list(dict.fromkeys([*labels, *([] if against is None else [against])]))
    whole = [group for group in groups.values() if all(method in group for method in needed)]
    apart = mean and len(whole) > 1
    if apart:
        average = {m: _average([_seeds(group[m]) for group in whole]) for m in needed}
        values = {m: average[m] for m in labels}
        table.append(("mean", _cells(values, sign, decimals, against, others, average, "mean")))
    return Table(columns, table, _notes(groups, labels, against, others), apart)


def _average(parts: Sequence[np.ndarray]) -> np.ndarray:
    """Over conditions, seed by seed if all have as many."""
    if len({len(part) for part in parts}) == 1:
        return np.mean(parts, axis=0)
    return np.array([np.mean([part.mean() for part in parts])])


def _cells(
    values: Mapping[str, np.ndarray],
    sign: int,
    decimals: int,
    against: str | None,
    others: Sequence[str],
    group: Mapping[str, Values],
    condition: str,
) -> list[Cell]:
    means = {m: sign * round(float(v.mean()), decimals) for m, v in values.items() if np.isfinite(v).all()}
    top = max(means.values(), default=np.nan)
    cells = [Cell(spread(v, decimals), len(means) > 1 and means.get(m) == top) for m, v in values.items()]
    for method in others:
        if against is None or method not in group or against not in group:
            cells.append(Cell(NONE))
            continue
        a, b = _seeds(group[method]), _seeds(group[against])
        if len(a) != len(b):
            raise TutorialError(
                f"{condition}: {method} has {len(a)} seeds and {against} {len(b)}, which cannot be paired; "
                "leave against= out, or pass as many of each."
            )
        count = f" ({int((sign * (a - b) > 0).sum())} of {len(a)})" if len(a) > 1 else ""
        cells.append(Cell(spread(a - b, decimals, sign=True) + count))
    return cells


def _notes(groups: Groups, labels: Mapping[str, str], against: str | None, others: Sequence[str]) -> list[str]:
    counts = {len(_seeds(v)) for group in groups.values() for m, v in group.items() if m in labels}
    notes = ["* best of the row"] if len(labels) > 1 else []
    if max(counts) > 1:
        many = " or ".join(str(n) for n in sorted(counts - {1}))
        notes.append(f"mean {PLUS_MINUS} standard deviation over {many} seeds")
        if others:
            notes.append(f"differences are paired by seed; in brackets, how often it is better than {against}")
    return ["; ".join(notes)] if notes else []


def table(data: Mapping[str, Mapping[str, Any]], *, rows: str = "", decimals: int = 1, notes: str = "") -> Table:
    """Anything as a table: ``{row: {column: value}}``.

    Args:
        data: floats are rounded, whole numbers get commas, None and what is missing becomes a dash, lists of numbers
            become mean and spread.
        rows: heading of the rows.
        decimals: of floats.
        notes: a sentence below.

    Raises:
        TutorialError: if there is no row.
    """
    if not data:
        raise TutorialError("table() was given no rows; pass {'row': {'column': value}}.")
    columns = list(dict.fromkeys(column for row in data.values() for column in row))
    lines = [(name, [Cell(_text(row.get(column), decimals)) for column in columns]) for name, row in data.items()]
    return Table([rows, *columns], lines, [notes] if notes else [])


def ledger(network: nn.Module, parts: Mapping[str, nn.Module], *inputs: Any, more: str = "") -> Table:
    """What a network can be written from: the shape that each part hands on, and its number of parameters.

    Args:
        network: called once with ``inputs``; it stays as it is (see :class:`~.tracing.Trace`).
        parts: of the network, by the names that the page gives them; each returns a tensor ``[B, C, h, w]``.
        inputs: of the network.
        more: added to the note on the parameters of the whole network.

    Raises:
        TutorialError: if a part is not called, or returns no tensor.
    """
    names = {module: name for name, module in network.named_modules()}
    with Trace(network) as trace:
        network(*inputs)
    rows = {
        name: {
            "C h w": " ".join(map(str, trace.out(names.get(part, name)).shape[1:])),
            "parameters": sum(p.numel() for p in part.parameters()),
        }
        for name, part in parts.items()
    }
    return table(rows, notes=f"{sum(p.numel() for p in network.parameters()):,} parameters in all{more}")


def _text(value: Any, decimals: int) -> str:
    if value is None:
        return NONE
    if isinstance(value, bool | str):
        return str(value)
    if isinstance(value, int | np.integer):
        return number(int(value), 0)
    return spread(_seeds(value), decimals)


def stored(name: str, *path: str) -> Any:
    """A part of the stored results, e.g. ``stored("05_stm", "benchmark")``.

    Args:
        name: of a file among the results that ship, without ``.json``.
        path: keys, one inside the other.

    Raises:
        TutorialError: if there is no such file or key; the message says which there are.
    """
    file = RESULTS / f"{name}.json"
    if not file.is_file():
        names = ", ".join(sorted(p.stem for p in RESULTS.glob("*.json"))) or "none"
        raise TutorialError(f"there are no stored results {name!r} in {RESULTS}; there are: {names}.")
    part = json.loads(file.read_text(encoding="utf-8"))
    for depth, key in enumerate(path):
        if not isinstance(part, dict) or key not in part:
            keys = ", ".join(part) if isinstance(part, dict) else "no keys, but values"
            raise TutorialError(f"{'.'.join([name, *path[:depth]])} has no {key!r}; it has {keys}.")
        part = part[key]
    return part
