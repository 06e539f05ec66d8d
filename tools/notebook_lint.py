"""What a finished notebook must and must not contain. Each rule returns one sentence a problem; none means well.

``tests/test_notebooks_static.py`` applies every rule of ``RULES`` to every notebook, without a kernel.
"""

from __future__ import annotations

import json
import re
import statistics
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from nbformat import NotebookNode

from tools.notebooks import ADDED_TAG, EXERCISE_TAGS, PLAIN_TAGS, TAG_WITH_TARGET, counts_problem, tags
from tools.page_report import report, too_long

MAX_BYTES = 1_000_000
MAX_LINES, MEDIAN_LINES = 25, 8

# The headings of a method notebook, in this order, by a word each must contain (DESIGN.md, "Skeleton").
METHOD = re.compile(r"0[2-7]_")
SECTIONS = (
    "why you would want it",
    "you will learn",
    "run card",
    "predict",
    "by hand",
    "built",  # the network
    "train",
    "your run beside",
    "look inside",
    "real video",
    "break it",
    "what the paper claims",
    "paper scale",  # the cell that trains on a GPU
    "exercises",
    "quiz",
    "recap",
    "references",
)

ALLOWED_MAGICS = {"%matplotlib inline"}
_MINUTES = re.compile(r"\|\s*to read and do\s*\|\s*about (\d+) minutes")
_ABSOLUTE = re.compile(r"(?<![\w.:/])/(?:home|Users|root|work|tmp|mnt|content|opt|var|usr)/|\b[A-Za-z]:\\\\?\w")
_ADDRESS = re.compile(r"\bat 0x[0-9A-Fa-f]{6,}|\b0x[0-9A-Fa-f]{8,}")
_INSTALL = re.compile(r"^\s*[!%]?\s*(?:python -m )?(?:pip|conda|mamba|apt(?:-get)?) install", re.M)


def _code(notebook: NotebookNode) -> list[tuple[int, NotebookNode]]:
    return [(i, cell) for i, cell in enumerate(notebook.cells) if cell.cell_type == "code"]


def _markdown(notebook: NotebookNode) -> list[tuple[int, NotebookNode]]:
    return [(i, cell) for i, cell in enumerate(notebook.cells) if cell.cell_type == "markdown"]


def is_checked(cell: NotebookNode) -> bool:
    """Whether nbval compares the cell's output."""
    return not tags(cell) & {ADDED_TAG, "nbval-skip"}


def texts(cell: NotebookNode) -> Iterator[str]:
    """Every text a code cell shows: streams, ``text/plain``, ``text/html``, tracebacks."""
    for output in cell.get("outputs", []):
        yield output.get("text", "")
        yield "\n".join(output.get("traceback", []))
        for kind, value in output.get("data", {}).items():
            if kind.startswith("text/"):
                yield value if isinstance(value, str) else "".join(value)


# --- that it ran -------------------------------------------------------------------------------------------------


def executed(name: str, notebook: NotebookNode) -> list[str]:
    problem = counts_problem(notebook)
    return [f"{problem}; build it with --execute"] if problem else []


def no_errors(name: str, notebook: NotebookNode) -> list[str]:
    return [
        f"cell {i} stores the error {output.ename}; fix it, or catch it and print what it says"
        for i, cell in _code(notebook)
        for output in cell.outputs
        if output.output_type == "error"
    ]


def exercises_answered(name: str, notebook: NotebookNode) -> list[str]:
    """The reader's notebook stores the blank's line, the solutions store that all cases are right."""
    wanted = ": right, " if name.startswith("solutions/") else ": not written yet. For a hint, "
    return [
        f"cell {i} is an exercise-check, but does not show '{wanted.strip(' :.')}'; build with --execute"
        for i, cell in _code(notebook)
        if "exercise-check" in tags(cell) and wanted not in "\n".join(texts(cell))
    ]


# --- what it stores ----------------------------------------------------------------------------------------------


def small(name: str, notebook: NotebookNode) -> list[str]:
    size = len(json.dumps(notebook))
    return [f"it has {size} bytes, more than {MAX_BYTES}; show fewer or smaller pictures"] if size > MAX_BYTES else []


def no_widget_state(name: str, notebook: NotebookNode) -> list[str]:
    found = ["its metadata hold widget state; build it, do not save it"] if "widgets" in notebook.metadata else []
    for i, cell in _code(notebook):
        if any("application/vnd.jupyter.widget-view+json" in out.get("data", {}) for out in cell.outputs):
            found.append(f"cell {i} stores a widget view, which shows nothing without a kernel; build with --execute")
    return found


def unique_ids(name: str, notebook: NotebookNode) -> list[str]:
    counts = Counter(cell.get("id", "") for cell in notebook.cells)
    return [f"the cell id {cell_id!r} occurs {count} times" for cell_id, count in counts.items() if count > 1]


def known_tags(name: str, notebook: NotebookNode) -> list[str]:
    found = []
    for i, cell in enumerate(notebook.cells):
        others = tags(cell) - PLAIN_TAGS - EXERCISE_TAGS - {ADDED_TAG}
        found += [f"cell {i} has the unknown tag {tag!r}" for tag in others if not TAG_WITH_TARGET.fullmatch(tag)]
        if ("run" in tags(cell)) != (ADDED_TAG in tags(cell)):
            found.append(f"cell {i}: the tags run and {ADDED_TAG} go together")
        if "nbval-skip" in tags(cell) and not cell.metadata.get("reason"):
            found.append(f"cell {i} is skipped without a reason")
    return found


def private_matters(name: str, notebook: NotebookNode) -> list[str]:
    """No absolute path anywhere; no stderr and no memory address where the output is compared."""
    found = []
    for i, cell in enumerate(notebook.cells):
        shown = [cell.source, *texts(cell)]
        hit = next(filter(None, map(_ABSOLUTE.search, shown)), None)
        if hit:
            found.append(f"cell {i} holds the absolute path {hit[0]!r}...; use a relative path or a name")
        if cell.cell_type != "code" or not is_checked(cell):
            continue
        if any(output.get("name") == "stderr" for output in cell.outputs):
            found.append(f"cell {i} is checked but prints to stderr (a warning, a progress bar); avoid it or tag run")
        if any(_ADDRESS.search(text) for text in shown[1:]):
            found.append(f"cell {i} is checked but shows a memory address; give the object a repr")
    return found


# --- how it is written -------------------------------------------------------------------------------------------


def plain_python(name: str, notebook: NotebookNode) -> list[str]:
    found = []
    for i, cell in _code(notebook):
        if _INSTALL.search(cell.source):
            found.append(f"cell {i} installs packages; name them in pyproject.toml")
        for line in cell.source.splitlines():
            if line.lstrip().startswith(("!", "%")) and line.strip() not in ALLOWED_MAGICS:
                found.append(f"cell {i} uses {line.strip()!r}; write Python")
        if is_checked(cell) and cell.source.rstrip().endswith(";"):
            found.append(f"cell {i} ends with ';', which hides nothing under nbval; write '_ = ...'")
    return found


def short_cells(name: str, notebook: NotebookNode) -> list[str]:
    lengths = {i: len([line for line in cell.source.splitlines() if line.strip()]) for i, cell in _code(notebook)}
    found = [f"cell {i} has {n} lines, more than {MAX_LINES}; split it" for i, n in lengths.items() if n > MAX_LINES]
    if lengths and statistics.median(lengths.values()) > MEDIAN_LINES:
        found.append(f"its code cells have {statistics.median(lengths.values()):g} lines in the median, not <= 8")
    return found


def alt_texts(name: str, notebook: NotebookNode) -> list[str]:
    """A picture in an output has ``Figure: ...`` as its text, or ``alt`` in its metadata; one in Markdown an alt."""
    found = []
    for i, cell in _code(notebook):
        for output in cell.outputs:
            data: dict[str, Any] = output.get("data", {})
            kinds = [kind for kind in data if kind.startswith("image/")]
            text = data.get("text/plain", "")
            for kind in kinds:
                if not (text.startswith("Figure: ") or output.metadata.get(kind, {}).get("alt")):
                    found.append(f"cell {i} shows a picture without alt text; use figures.show(figure, alt)")
            if "image/svg+xml" in kinds and is_checked(cell):
                found.append(f"cell {i} shows an SVG, which differs on every run; use figures.show")
    for i, cell in _markdown(notebook):
        for tag in re.findall(r"<img\b[^>]*>", cell.source):
            if not re.search(r"\balt=[\"'][^\"']+[\"']", tag):
                found.append(f"cell {i} has an <img> without alt text")
        if re.search(r"!\[\s*\]\(", cell.source):
            found.append(f"cell {i} has a picture without alt text")
    return found


def headings(notebook: NotebookNode) -> list[str]:
    """The Markdown headings of levels 1 to 3, in order, without their marks."""
    found = []
    for _, cell in _markdown(notebook):
        prose = re.sub(r"```.*?```", "", cell.source, flags=re.S)
        found += re.findall(r"^#{1,3}\s+(.+)$", prose, re.M)
    return found


def sections(name: str, notebook: NotebookNode) -> list[str]:
    """One title, a run card, and for a method notebook the skeleton's headings, in order."""
    first = notebook.cells[0] if notebook.cells else None
    if first is None or first.cell_type != "markdown" or not first.source.startswith("# "):
        return ["it does not begin with a title"]
    if "/" in name:  # solutions, appendix
        return []
    wanted = SECTIONS if METHOD.match(name) else ("run card",)
    titles = [title.lower() for title in headings(notebook)]
    at = 0
    for word in wanted:
        place = next((k for k in range(at, len(titles)) if word in titles[k]), None)
        if place is None:
            where = "the order of the headings is another" if any(word in t for t in titles) else "no heading has it"
            return [f"the section {word!r} is missing ({where}); the order is {', '.join(wanted)}"]
        at = place + 1
    return []


def quizzes(name: str, notebook: NotebookNode) -> list[str]:
    """A quiz hides its answers in ``<details>``, which GitHub and JupyterLab both unfold."""
    return [
        f"cell {i} is a quiz without <details>; put each answer into one"
        for i, cell in _markdown(notebook)
        if "quiz" in tags(cell) and "<details>" not in cell.source
    ]


_FOLDED = re.compile(r"<details>(?:(?!\n[ \t]*\n).)*?</details>", re.S)
_MARKDOWN = re.compile(r"`|\*\*|(?<!\w)\*\w|\]\(")


def shown_as_written(name: str, notebook: NotebookNode) -> list[str]:
    """Text that a viewer takes for HTML, so that its Markdown shows as stars and backticks."""
    found = []
    for i, cell in _markdown(notebook):
        if re.search(r"^[ ]{0,3}<!--", cell.source, re.M):
            found.append(f"cell {i} has a line that begins with a comment; put the comment at the end of a line")
        if any(_MARKDOWN.search(folded) for folded in _FOLDED.findall(cell.source)):
            found.append(f"cell {i} folds Markdown; write <code>, <em> and <a> inside <details>")
    return found


def page_size(name: str, notebook: NotebookNode) -> list[str]:
    """A page is no longer than a reader has patience for (``tools/page_report.py``)."""
    if "/" in name:
        return []
    return too_long(report(notebook, notebook))


def honest_time(name: str, notebook: NotebookNode) -> list[str]:
    """The minutes of the run card are those of the formula, within a tenth."""
    if "/" in name:
        return []
    said = next((found for _, c in _markdown(notebook) if (found := _MINUTES.search(c.source))), None)
    minutes = report(notebook, notebook).minutes
    if said is None:
        return [f"its run card has no line '| to read and do | about {minutes:.0f} minutes'"]
    if abs(int(said[1]) - minutes) > max(3, minutes / 10):
        return [f"its run card says {said[1]} minutes, the formula of tools/page_report.py {minutes:.0f}"]
    return []


_TASK = re.compile(r"^\*\*Exercise ([A-Z\d]+\.\d+)\*\*([^*\n]*)", re.M)
_MARK = re.compile(r"^ \(\d+ minutes, (easy|medium|hard)\b")


def difficulty(name: str, notebook: NotebookNode) -> list[str]:
    """An exercise says how long it takes and how hard it is."""
    return [
        f"exercise {number} must say '(10 minutes, medium)' after its number; the marks are easy, medium and hard"
        for _, cell in _markdown(notebook)
        for number, rest in _TASK.findall(cell.source)
        if not _MARK.match(rest)
    ]


RULES: tuple[Callable[[str, NotebookNode], list[str]], ...] = (
    executed,
    no_errors,
    exercises_answered,
    small,
    no_widget_state,
    unique_ids,
    known_tags,
    private_matters,
    plain_python,
    short_cells,
    alt_texts,
    sections,
    quizzes,
    shown_as_written,
    page_size,
    honest_time,
    difficulty,
)


# --- links, and numbers in the prose: these look at the source, or at the folder -----------------------------------


def broken_links(path: Path, notebook: NotebookNode) -> list[str]:
    """Relative links of the prose that lead nowhere."""
    found = []
    for i, cell in _markdown(notebook):
        for target in re.findall(r"\]\(([^)\s]+)\)", cell.source):
            if re.match(r"[a-z]+:|#", target):
                continue
            if not (path.parent / target.split("#")[0]).exists():
                found.append(f"cell {i} links to {target}, which does not exist")
    return found


def missing_links(notebook: NotebookNode, neighbours: str) -> list[str]:
    """Which pages of ``neighbours`` (a line of Markdown links) the first cell of a page does not link to."""
    targets = re.findall(r"\]\(([^)]+\.ipynb)\)", neighbours)
    shown = notebook.cells[0].source
    return [f"its first cell has no link to {t}; write {{{{pages}}}} there" for t in targets if f"({t})" not in shown]


_NUMBER = re.compile(r"(?<![\w.,/=-])(\d{2}\.\d{1,2})(?!\w|\.\d)|(?<![\w.,/=-])(\d+(?:\.\d+)?)\s?%")
_NOT_PROSE = re.compile(r"```.*?```|`[^`]*`|\$\$.*?\$\$|\$[^$\n]*\$|\{\{.*?\}\}|\]\([^)]*\)|<[^>]*>", re.S)
_QUOTED = re.compile(r"\[[^\]]*paper[^\]]*\]|et al\.|\((?:[A-Z][^()]*,? )?(?:19|20)\d\d[a-z]?\)|<!-- given -->", re.I)
NEARBY = 3  # code cells


def _blocks(source: str) -> Iterator[tuple[str, str]]:
    """Paragraphs, lists and tables of a Markdown cell, each with what may name its origin.

    A table's origin may also stand in the paragraph before it.
    """
    before = ""
    for block in re.split(r"\n\s*\n", source):
        yield block, (before + "\n" + block if block.lstrip().startswith("|") else block)
        before = block


def loose_numbers(source: NotebookNode, built: NotebookNode) -> list[str]:
    """Numbers in the prose that look like results (``83.4``, ``12 %``) and are tied to nothing.

    A number is tied if it is written ``{{results/...}}``, if a code cell nearby (three before or after) shows or
    contains it, if its paragraph or table names a paper (a link with "paper" in its text, "et al.", a year in
    brackets), or if the paragraph carries ``<!-- given -->``: a setting or a definition, not a result.

    Args:
        source: the py:percent source, before substitution.
        built: the notebook with outputs, whose code cells are in the same order.
    """
    shown = {cell.source: "\n".join([cell.source, *texts(cell)]) for _, cell in _code(built)}
    code = [(i, shown.get(cell.source, cell.source)) for i, cell in _code(source)]
    found = []
    for i, cell in _markdown(source):
        before = [text for k, text in code if k < i][-NEARBY:]
        after = [text for k, text in code if k > i][:NEARBY]
        near = "\n".join(before + after)
        for block, origin in _blocks(cell.source):
            if _QUOTED.search(origin):
                continue
            for match in _NUMBER.finditer(_NOT_PROSE.sub(" ", block)):
                number = match[1] or match[2]
                if number in ("0", "100") or re.search(rf"(?<![\d.]){re.escape(number)}(?!\d)", near):
                    continue
                found.append(
                    f"cell {i} says {match[0]!r}: write {{{{results/FILE.json:path|.1f}}}}, name the paper in the "
                    "same paragraph, or mark a setting with <!-- given -->"
                )
    return found
