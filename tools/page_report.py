"""How long the pages are, and how much of them is tied to results.

    python tools/page_report.py [NAME ...]      one line a page; all pages if none is given

A page is what ``notebooks/NN_name.ipynb`` shows: its prose, folded answers included, and all that its cells print.
Minutes: 180 words a minute, 10 seconds for a line of code, and the minutes that the exercises name.
"""

from __future__ import annotations

import argparse
import re
import statistics
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from nbformat import NotebookNode

from tools import notebooks

MAX_WORDS, MAX_CELLS, MEDIAN_LINES = 4500, 70, 6
TOLERANCE = 1.15
WORDS_A_MINUTE, SECONDS_A_LINE = 180, 10

COLUMNS = ("words", "printed", "cells", "median", "figures", "captions", "minutes", "bound")

_HIDDEN = re.compile(r"<!--.*?-->|\]\([^)]*\)|<[^>]*>|\{\{.*?\}\}|^\|[-|: ]+\|$", re.S | re.M)
_WORD = re.compile(r"[^\W\d_][\w'’-]*")
_NUMBER = re.compile(r"(?<![\w.,/=-])\d+\.\d+(?![\w.])|(?<![\w.,/=-])\d+(?:\.\d+)?\s?%")
_NO_RESULT = re.compile(r"`[^`]*`|\b(?:sections?|exercise)\s+\d+\.\d+", re.I)
_BOUND = re.compile(r"\{\{\s*results/")
_EXERCISE = re.compile(r"\((\d+) minutes\b")


@dataclass(frozen=True)
class Report:
    """The size of one page.

    Attributes:
        words: of the prose, folded text included.
        printed: words that cells print: text, tables, captions.
        cells: with code.
        lines: of code that are not blank.
        median: lines of the median code cell.
        figures: pictures, moving ones included.
        captions: sentences under them.
        exercises: minutes that the exercises name.
        bound: numbers of the prose that come from a file of results.
        loose: other numbers of the prose that look like results: a setting, or what a paper reports.
    """

    words: int
    printed: int
    cells: int
    lines: int
    median: float
    figures: int
    captions: int
    exercises: int
    bound: int
    loose: int

    @property
    def minutes(self) -> float:
        """To read and do the page."""
        reading = (self.words + self.printed) / WORDS_A_MINUTE
        return reading + self.lines * SECONDS_A_LINE / 60 + self.exercises

    @property
    def share_bound(self) -> float:
        """Of the prose's numbers, those that come from a file of results; 1 if there is no number."""
        return self.bound / (self.bound + self.loose) if self.bound + self.loose else 1.0


def words_in(text: str) -> int:
    """Words of a text as it is shown: no comments, links or tags; a number alone is none."""
    return len(_WORD.findall(_HIDDEN.sub(" ", text)))


def _outputs(notebook: NotebookNode) -> Iterator[dict[str, Any]]:
    for cell in notebook.cells:
        if cell.cell_type == "code":
            yield from cell.outputs


def _shown_text(output: dict[str, Any]) -> str:
    """What a reader reads of an output: streams, reprs and captions, but not the text that stands for a picture."""
    data: dict[str, Any] = output.get("data", {})
    plain = data.get("text/plain", "")
    if any(kind.startswith("image/") for kind in data) or plain.startswith("Moving figure: "):
        return ""
    return str(output.get("text", "")) + plain.removeprefix("Caption: ")


def report(notebook: NotebookNode, source: NotebookNode) -> Report:
    """Measure a page.

    Args:
        notebook: as built, with outputs.
        source: as written, with its ``{{results/...}}`` marks.
    """
    code = [[line for line in c.source.splitlines() if line.strip()] for c in notebook.cells if c.cell_type == "code"]
    prose = [c for c in notebook.cells if c.cell_type == "markdown"]
    shown = list(_outputs(notebook))
    plain = [str(output.get("data", {}).get("text/plain", "")) for output in shown]
    asked = [c.source for c in prose if "exercise-text" in notebooks.tags(c)]
    written = "\n".join(c.source for c in source.cells if c.cell_type == "markdown")
    return Report(
        words=sum(words_in(c.source) for c in prose),
        printed=sum(words_in(_shown_text(output)) for output in shown),
        cells=len(code),
        lines=sum(map(len, code)),
        median=statistics.median(map(len, code)) if code else 0,
        figures=sum(
            text.startswith("Moving figure: ") or any(kind.startswith("image/") for kind in output.get("data", {}))
            for output, text in zip(shown, plain, strict=True)
        ),
        captions=sum(text.startswith("Caption: ") for text in plain),
        exercises=sum(int(n) for text in asked for n in _EXERCISE.findall(text)),
        bound=len(_BOUND.findall(written)),
        loose=len(_NUMBER.findall(_NO_RESULT.sub(" ", _HIDDEN.sub(" ", written)))),
    )


def too_long(size: Report) -> list[str]:
    """In what a page exceeds its limits by more than the tolerance, one sentence each."""
    found = []
    for what, value, limit in (
        ("words, printed ones included", size.words + size.printed, MAX_WORDS),
        ("code cells", size.cells, MAX_CELLS),
        ("lines in the median code cell", size.median, MEDIAN_LINES),
    ):
        if value > TOLERANCE * limit:
            found.append(f"it has {value:g} {what}; {limit} is the limit, and {TOLERANCE * limit:.0f} the most")
    return found


def main(argv: list[str] | None = None) -> int:
    """Print the reports."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="NN_name or NN; all if none is given")
    wanted = parser.parse_args(argv).names
    known = notebooks.HERE.names()
    names = [name for name in known if not wanted or any(name.startswith(w) for w in wanted)]
    print(f"{'page':<34}" + "".join(f"{column:>9}" for column in COLUMNS))
    for name in names:
        source = notebooks.read_source(notebooks.HERE.source(name))
        size = report(notebooks.read_notebook(notebooks.HERE.page(name)), source)
        values = (size.words, size.printed, size.cells, size.median, size.figures, size.captions)
        row = "".join(f"{value:>9g}" for value in (*values, round(size.minutes)))
        print(f"{name:<34}{row}{size.share_bound:>9.0%}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
