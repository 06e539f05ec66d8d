"""The exercises of a page, from its source, and the page as students get it: without any answer.

An exercise is its text, the functions to write, a check for each, and the note that goes with the solution. All of it
comes from ``notebooks/src``, where exercise and solution are one cell.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from nbformat import NotebookNode

from tools.notebooks import (
    HERE,
    Folders,
    compose,
    read_notebook,
    read_source,
    solved,
    student_stub,
    substitute,
    tags,
)
from vos_tutorial.errors import TutorialError

HEAD = re.compile(
    r"\*\*Exercise (?P<number>\w+\.\d+)\*\*\s+\((?P<minutes>\d+) minutes, (?P<level>easy|medium|hard)"
    r"(?:, (?P<kind>[^)]+))?\)"
)
DETAILS = re.compile(r"[ \t]*<details>\s*<summary>(?P<summary>.*?)</summary>(?P<text>.*?)</details>\n?", re.S)
EXERCISE_KINDS = {"build": "a function", "experiment": "an experiment", "words": "in words"}
_TO_SOLUTIONS = re.compile(r"\[(?P<words>[^\]]+)\]\((?:\.\./)*solutions/[^)]*\)")
_SOLUTION = re.compile(r"^[ \t]*# solution[ \t]*\n(?P<body>.*?)^[ \t]*# end solution[ \t]*$", re.S | re.M)
_TITLE = re.compile(r"\)\s+\*(?P<title>[^*]+?)\.?\*")


@dataclass(frozen=True)
class Function:
    """One function that an exercise asks for.

    Attributes:
        name: such as ``top_k``.
        cell_id: of its cell in the reader's notebook.
        stub: what the reader gets.
        solution: the cell with the solution in place.
        body: the solution alone.
        check: the source of the cell that checks it.
        check_id: of that cell.
        checker: what the check calls, such as ``check_05.top_k``.
    """

    name: str
    cell_id: str
    stub: str
    solution: str
    body: str
    check: str
    check_id: str
    checker: str


@dataclass
class Exercise:
    """One exercise of a page: ``number`` such as ``5.1``; ``kind`` is ``build``, ``experiment`` or ``words``.

    ``text`` is Markdown with hints and folded answers; ``note`` goes with the solution.
    """

    page: str
    number: str
    title: str
    minutes: int
    level: str
    kind: str
    text: str
    functions: list[Function] = field(default_factory=list)
    note: str = ""

    @property
    def task(self) -> str:
        """The text without hints and answers."""
        return DETAILS.sub("", self.text).strip()

    @property
    def answers(self) -> list[str]:
        """What is folded under it and is no hint."""
        return [m["text"].strip() for m in DETAILS.finditer(self.text) if not is_hint(m["summary"])]


@dataclass(frozen=True)
class Question:
    """One question of a page's quiz, with its folded answer."""

    number: int
    text: str
    answer: str


class ExerciseError(TutorialError):
    """A page whose exercises cannot be told apart; the sentence names the page and the fix."""


def is_hint(summary: str) -> bool:
    """Whether a folded text helps (``Hint``, ``Hint 2``) instead of answering."""
    return summary.strip().startswith("Hint")


def exercises(name: str, folders: Folders = HERE) -> list[Exercise]:
    """The exercises of one source, in order; empty if it has none.

    Args:
        name: ``NN_name`` or ``appendix/NN_name``.
        folders: where the sources are.

    Raises:
        ExerciseError: if a text has no head such as ``**Exercise 5.1** (10 minutes, easy)``, a function no check, a
            check no function.
    """
    source = read_source(folders.source(name))
    reader = compose(name, folders)[folders.page(name)]
    ids = [cell.id for cell in reader.cells if tags(cell) & {"exercise", "exercise-check"}]
    found: list[Exercise] = []
    waiting: tuple[NotebookNode, str] | None = None
    for number, cell in enumerate(source.cells):
        where = f"{name}, cell {number}"
        kinds = tags(cell)
        if "exercise-text" in kinds:
            text = substitute(cell.source, folders, where, name=name, up="../" * name.count("/"))
            _add_text(found, name, text, where)
        elif "solution-note" in kinds and found:
            text = substitute(cell.source, folders, where, name=name, up="../" * name.count("/"))
            found[-1].note = f"{found[-1].note}\n\n{text}".strip()
        elif "exercise" in kinds:
            if waiting or not found:
                raise ExerciseError(f"{where}: a function to write needs a text before it and a check after it.")
            waiting = cell, ids.pop(0)
        elif "exercise-check" in kinds:
            if waiting is None:
                raise ExerciseError(f"{where}: this check has no function to write before it.")
            found[-1].functions.append(_function(*waiting, cell.source, ids.pop(0), where))
            waiting = None
    if waiting:
        raise ExerciseError(f"{name}: the last function to write has no check; add a cell tagged exercise-check.")
    for exercise in found:
        exercise.kind = exercise.kind or ("build" if exercise.functions else "words")
    return found


def _add_text(found: list[Exercise], name: str, text: str, where: str) -> None:
    heads = list(HEAD.finditer(text))
    if not heads:
        if not found:
            raise ExerciseError(f"{where}: an exercise begins with **Exercise N.M** (10 minutes, easy).")
        found[-1].text += f"\n\n{text}"
    for i, head in enumerate(heads):
        until = heads[i + 1].start() if i + 1 < len(heads) else len(text)
        piece = text[head.start() : until].strip()
        title = _TITLE.search(piece[: head.end() - head.start() + 80])
        kind = next((k for k in ("experiment", "words") if k in (head["kind"] or "")), "")
        named = re.sub(r"\[([^\]]+)\]\([^)]*\)", r"\1", title["title"]) if title else ""
        found.append(Exercise(name, head["number"], named, int(head["minutes"]), head["level"], kind, piece))


def _function(cell: NotebookNode, cell_id: str, check: str, check_id: str, where: str) -> Function:
    called = re.search(r"(check_\d\d\.\w+)\((\w+)\)", check)
    if called is None:
        raise ExerciseError(f"{where}: a check reads _ = check_NN.name(name); write it so.")
    body = "\n".join(match["body"].rstrip() for match in _SOLUTION.finditer(cell.source))
    return Function(
        called[2], cell_id, student_stub(cell.source, where), solved(cell.source), body, check, check_id, called[1]
    )


def quiz(name: str, folders: Folders = HERE) -> list[Question]:
    """The quiz of a page, from its cells tagged ``quiz``: ``**1.** question`` and a folded answer, in order."""
    source = read_source(folders.source(name))
    found: list[Question] = []
    for number, cell in enumerate(source.cells):
        if "quiz" not in tags(cell):
            continue
        text = substitute(cell.source, folders, f"{name}, cell {number}", name=name, up="../" * name.count("/"))
        for piece in re.split(r"^(?=\*\*\d+\.\*\*)", text, flags=re.M)[1:]:
            head = re.match(r"\*\*(\d+)\.\*\*\s*", piece)
            answer = DETAILS.search(piece)
            if head and answer:
                asked = piece[head.end() : answer.start()].strip()
                found.append(Question(int(head[1]), asked, answer["text"].strip()))
    return found


# --- the page as students get it ---------------------------------------------------------------------------------


def without_answers(text: str) -> str:
    """The text of an exercise or a quiz with its hints, and without the answers that are folded under it."""
    return DETAILS.sub(lambda m: m[0] if is_hint(m["summary"]) else "", text).rstrip()


def without_links_to_solutions(text: str) -> str:
    """Sentences that lead to the solutions' notebook go; a list item that has nothing else goes with them."""
    lines = []
    for paragraph in re.split(r"(\n{2,}|\n(?=\* ))", text):
        if _TO_SOLUTIONS.search(paragraph):
            sentences = re.split(r"(?<=[.!?])\s+", paragraph)
            paragraph = " ".join(s for s in sentences if not _TO_SOLUTIONS.search(s))
            if paragraph.strip() in {"", "*"}:
                continue
        lines.append(paragraph)
    return "".join(lines).rstrip()


def student_notebook(name: str, folders: Folders = HERE) -> NotebookNode:
    """The reader's notebook with its stored outputs, and with no answer to an exercise or a quiz in it.

    Raises:
        BuildError: if the notebook was not built.
    """
    notebook = read_notebook(folders.page(name))
    for cell in notebook.cells:
        if cell.cell_type != "markdown":
            continue
        if tags(cell) & {"exercise-text", "quiz"}:
            cell.source = without_answers(cell.source)
        cell.source = without_links_to_solutions(cell.source)
    return notebook


# --- does a text give an answer away? ----------------------------------------------------------------------------

SHORTEST = 30  # characters of a line that can be somebody's own by chance no longer


def _flat(text: str) -> str:
    return re.sub(r"\s+", " ", text).strip()


def secrets(names: Iterable[str], folders: Folders = HERE) -> dict[str, str]:
    """What no student may be handed: ``{what it is: text}``, white space made even.

    These are the body of each solution, each note beside a solution, and each folded answer to an exercise or a quiz.
    """
    found: dict[str, str] = {}
    for name in names:
        for exercise in exercises(name, folders):
            for function in exercise.functions:
                found[f"the solution of {exercise.number}, {function.name}"] = _flat(function.body)
            for i, paragraph in enumerate(exercise.note.split("\n\n")):
                found[f"the note on {exercise.number} of {name}, paragraph {i + 1}"] = _flat(paragraph)
            for i, answer in enumerate(exercise.answers):
                found[f"the answer to {exercise.number} of {name}, {i + 1}"] = _flat(answer)
        for question in quiz(name, folders):
            found[f"the answer to quiz question {question.number} of {name}"] = _flat(question.answer)
    return {what: text for what, text in found.items() if len(text) >= SHORTEST}


def leak(text: str, hidden: Mapping[str, str]) -> str | None:
    """What a text gives away, in words; None if it keeps all secrets."""
    if re.search(r"^\s*# (end )?solution\s*$", text, re.M):
        return "a solution between its marks"
    flat = _flat(text)
    return next((what for what, secret in hidden.items() if secret in flat), None)
