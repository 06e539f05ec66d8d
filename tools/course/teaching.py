"""What a lecturer adds to a page: ``notebooks/teaching/NN_name.yml``, read and held against the page's cells.

A file says what the pages cannot know: plans, misconceptions, what to cut, which cells make slides, questions for the
bank. It never repeats what a page says; it points at cells. A cell is named by its id or by the first words of one of
its lines; ``these words || or these``: the first that is found counts.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

import yaml
from nbformat import NotebookNode

from tools.notebooks import HERE, ROOT, Folders, substitute
from vos_tutorial.errors import TutorialError

TEACHING = ROOT / "notebooks" / "teaching"
PLANS = (50, 90)
T = TypeVar("T")


class KitError(TutorialError):
    """The kit cannot be built; the sentence names the file, the entry and the fix."""


@dataclass(frozen=True)
class Step:
    """A part of a plan: how long, what is done, and the cell it is done with, if there is one."""

    minutes: int
    do: str
    cell: str = ""


@dataclass(frozen=True)
class Live:
    """Something to show live: the cell, and what to do or ask there."""

    cell: str
    say: str


@dataclass(frozen=True)
class Misconception:
    """What students believe, the cell that shows them otherwise, and what it shows.

    ``mutant`` names a wrong answer that a check of this page recognises, such as ``top_k: over the rows``.
    """

    belief: str
    cell: str
    shows: str
    mutant: str = ""


@dataclass(frozen=True)
class Slide:
    """One slide, made of cells.

    Attributes:
        title: of the slide.
        show: the cells whose outputs are shown, or those of the next cell where a cell has none; of a Markdown cell
            its formula, or else its table.
        code: the cells whose source is shown too; they are among ``show`` or stand alone.
        points: lines that appear one by one.
        notes: what the lecturer reads beside the page's own prose.
        wait: what is shown appears at the next key, after the class has guessed.
    """

    title: str
    show: list[str] = field(default_factory=list)
    code: list[str] = field(default_factory=list)
    points: list[str] = field(default_factory=list)
    notes: str = ""
    wait: bool = False


@dataclass(frozen=True)
class Choice:
    """A question of the bank with one right answer; ``why`` is told to whoever answers it."""

    id: str
    text: str
    right: str
    wrong: list[str]
    why: str


@dataclass(frozen=True)
class Teaching:
    """The teaching notes of one page.

    Attributes:
        goal: why this session, in a sentence or two.
        needs: numbers of pages without which this one cannot be followed.
        helps: numbers of pages that help.
        plans: ``{50: steps, 90: steps}``.
        live: what to show live.
        misconceptions: at least three.
        cut: what to leave out when time is short, in that order.
        slides: of this page's deck.
        questions: for the bank, beside the computed ones.
        since: words of a cell. Before the page has it, the notes wait and the kit goes without the page.
    """

    goal: str
    needs: list[str]
    helps: list[str]
    plans: dict[int, list[Step]]
    live: list[Live]
    misconceptions: list[Misconception]
    cut: list[str]
    slides: list[Slide]
    questions: list[Choice]
    since: str = ""


def load(name: str, folder: Path = TEACHING, folders: Folders = HERE) -> Teaching:
    """The teaching notes of a page.

    Args:
        name: ``NN_name``.
        folder: where they are.
        folders: where the results are that the notes quote.

    Raises:
        KitError: if there are none, if an entry is missing or unknown, or if the minutes of a plan do not add up.
    """
    path = folder / f"{name}.yml"
    if not path.exists():
        raise KitError(
            f"{name} has no teaching notes; write {path.name} into notebooks/teaching, or copy another one."
        )
    notes = read(Teaching, path, folders)
    for minutes in PLANS:
        total = sum(step.minutes for step in notes.plans.get(minutes, []))
        if total != minutes:
            raise KitError(f"{path.name}: the plan for {minutes} minutes has {total}; change its steps.")
    if len(notes.misconceptions) < 3:
        raise KitError(f"{path.name}: {len(notes.misconceptions)} misconceptions, at least three are wanted.")
    if not notes.slides:
        raise KitError(f"{path.name}: no cell is marked for the slides; list some under slides:.")
    return notes


def read(kind: type[T], path: Path, folders: Folders = HERE) -> T:
    """A YAML file as a dataclass, checked. It may quote results, as pages do: ``{{results/FILE.json:path|.1f}}``.

    Raises:
        KitError: naming the entry that is missing, unknown or of another kind.
        BuildError: if a result is not there.
    """
    try:
        data = yaml.safe_load(substitute(path.read_text(encoding="utf-8"), folders, path.name))
    except yaml.YAMLError as error:
        raise KitError(f"{path.name} is no YAML ({' '.join(str(error).split())}).") from None
    return _make(kind, data, path.name)


def _make(kind: Any, data: Any, where: str) -> Any:
    """``data`` of YAML as ``kind``: a dataclass, a list or dict of such, or a plain value."""
    origin, inside = get_origin(kind), get_args(kind)
    if hasattr(kind, "__dataclass_fields__"):
        if not isinstance(data, Mapping):
            raise KitError(f"{where}: write entries (name: value), not {data!r}.")
        known = {f.name: f for f in fields(kind)}
        for name in data:
            if name not in known:
                raise KitError(f"{where}: unknown entry {name!r}; the known ones are {', '.join(known)}.")
        for name, entry in known.items():
            if name not in data and entry.default is MISSING and entry.default_factory is MISSING:
                raise KitError(f"{where}: the entry {name!r} is missing.")
        hints = get_type_hints(kind)
        return kind(**{name: _make(hints[name], value, f"{where}, {name}") for name, value in data.items()})
    if origin is list:
        if not isinstance(data, Sequence) or isinstance(data, str):
            raise KitError(f"{where}: write a list, not {data!r}.")
        return [_make(inside[0], item, f"{where}[{i}]") for i, item in enumerate(data)]
    if origin is dict:
        if not isinstance(data, Mapping):
            raise KitError(f"{where}: write entries (name: value), not {data!r}.")
        return {key: _make(inside[1], value, f"{where}, {key}") for key, value in data.items()}
    if kind is str and isinstance(data, (int, float)) and not isinstance(data, bool):
        return str(data)
    if not isinstance(data, kind) or (kind is not bool and isinstance(data, bool)):
        raise KitError(f"{where}: {data!r} is not of the kind {kind.__name__}.")
    return data.strip() if isinstance(data, str) else data


# --- finding cells -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Found:
    """A cell of a page: the cell, its position, the heading it stands under, and its line that was named."""

    cell: NotebookNode
    position: int
    section: str
    line: str

    @property
    def begins(self) -> str:
        """The line that was named, short enough to be quoted."""
        return self.line if len(self.line) <= 72 else self.line[:69].rstrip() + "..."


def _words(line: str) -> str:
    words = " ".join(re.sub(r"[#>]|<[^>]+>|\]\([^)]*\)|\[", " ", re.sub(r"[*`]", "", line)).split()).lower()
    return re.sub(r"^\d+\. ", "", words)  # the number of a section


def find(notebook: NotebookNode, names: str, where: str) -> Found:
    """The one cell of a page that has an id, or a line that begins with some words.

    Args:
        notebook: the reader's.
        names: an id or first words; of several, parted by ``||``, the first that is found counts.
        where: what an error message calls the place that names the cell.

    Raises:
        KitError: if no cell has them, or more than one.
    """
    choices = [name.strip() for name in names.split("||")]
    for name in choices:
        wanted = _words(name)
        hits = [
            i
            for i, cell in enumerate(notebook.cells)
            if cell.get("id") == name
            or (wanted and any(_words(text).startswith(wanted) for text in (cell.source, *cell.source.splitlines())))
        ]
        exact = [i for i in hits if any(_words(line) == wanted for line in notebook.cells[i].source.splitlines())]
        first = [i for i in hits if _words(notebook.cells[i].source).startswith(wanted)]
        hits = next((chosen for chosen in (exact, first) if len(chosen) == 1), hits)
        if len(hits) > 1:
            raise KitError(
                f"{where}: {len(hits)} cells have a line that begins with {name!r}; write more of its words."
            )
        if hits:
            lines = [line.strip() for line in notebook.cells[hits[0]].source.splitlines() if line.strip()]
            named = next((line for line in lines if wanted and _words(line).startswith(wanted)), lines[0])
            return Found(notebook.cells[hits[0]], hits[0], _section(notebook, hits[0]), named)
    wanted = " or ".join(repr(name) for name in choices)
    raise KitError(
        f"{where}: no cell has the id, or a line that begins with, {wanted}; name another cell of the page."
    )


def _section(notebook: NotebookNode, position: int) -> str:
    for cell in reversed(notebook.cells[: position + 1]):
        if cell.cell_type == "markdown":
            heads = re.findall(r"^#{1,3} (.+)$", cell.source, re.M)
            if heads:
                return str(heads[-1]).strip()
    return ""


def check(name: str, notes: Teaching, notebook: NotebookNode) -> None:
    """Every cell that the notes name is on the page.

    Raises:
        KitError: naming the entry and the words.
    """
    file = f"{name}.yml"
    for minutes, steps in notes.plans.items():
        for i, step in enumerate(steps):
            if step.cell:
                find(notebook, step.cell, f"{file}, plan of {minutes} minutes, step {i + 1}")
    for i, live in enumerate(notes.live):
        find(notebook, live.cell, f"{file}, live[{i}]")
    for i, wrong in enumerate(notes.misconceptions):
        find(notebook, wrong.cell, f"{file}, misconceptions[{i}]")
    for slide in notes.slides:
        for cell in [*slide.show, *slide.code]:
            find(notebook, cell, f"{file}, slide {slide.title!r}")
