"""The question bank: written questions from the teaching notes, and computed ones, answered by the library.

A computed question is a function of a seed, in ``bank/qNN.py``::

    @computed("01", "iou", "J of two small masks")
    def iou_of_two(rng: Rng) -> Numeric: ...

``rng`` decides the numbers; the answer comes from the library, never from the author. An answer that a known mistake
gives as well, or a choice with two right options, would grade a student by luck: such a seed stops the build.
"""

from __future__ import annotations

import csv
import importlib
import io
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from tools.course.exercise_cells import quiz
from tools.course.teaching import KitError, Teaching
from tools.notebooks import HERE, Folders

AT_LEAST = 6  # questions a page, half of them computed
PLACES = 4  # of a computed number, as it is written into the bank


@dataclass(frozen=True)
class Numeric:
    """A number is asked for.

    Attributes:
        text: the question; plain text, lines may break.
        answer: the right number.
        tolerance: what is still right.
        why: told afterwards.
        traps: numbers that known mistakes give, ``{what went wrong: number}``. None may count as right.
    """

    text: str
    answer: float
    tolerance: float
    why: str
    traps: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Pick:
    """One of several is asked for: the option whose number is the largest.

    Attributes:
        text: the question.
        options: ``{what the student reads: a number that the library computed}``.
        margin: by how much the best must be ahead of the second.
        why: told afterwards.
    """

    text: str
    options: dict[str, float]
    margin: float
    why: str


@dataclass(frozen=True)
class Computed:
    """A template: its page, name, title, and the function that makes a question of a random generator."""

    page: str
    id: str
    title: str
    make: Callable[[np.random.Generator], Numeric | Pick]


COMPUTED: dict[str, list[Computed]] = {}


def computed(
    page: str, id: str, title: str
) -> Callable[[Callable[[np.random.Generator], Numeric | Pick]], Callable[[np.random.Generator], Numeric | Pick]]:
    """Enters a function into the bank; see the module."""

    def enter(make: Callable[[np.random.Generator], Numeric | Pick]) -> Callable[..., Numeric | Pick]:
        COMPUTED.setdefault(page, []).append(Computed(page, id, title, make))
        return make

    return enter


@dataclass(frozen=True)
class Entry:
    """One question of the bank as it is handed out.

    ``kind`` is ``choice``, ``number`` or ``essay``; ``right`` an option, a number or a model answer; ``wrong`` the
    other options, or numbers that a known mistake gives; ``seed`` is empty for a written question.
    """

    id: str
    page: str
    title: str
    kind: str
    text: str
    right: str
    tolerance: str
    wrong: list[tuple[str, str]]
    why: str
    seed: str = ""


# --- from templates to entries -----------------------------------------------------------------------------------


def number(value: float) -> str:
    """A number as the bank writes it: at most four decimals, no trailing zeros."""
    return f"{value:.{PLACES}f}".rstrip("0").rstrip(".") if value % 1 else str(int(value))


def draw(template: Computed, seed: int) -> Entry:
    """The question that a template makes of a seed.

    Raises:
        KitError: if two answers would be right, naming the question, the seed and both answers.
    """
    rng = np.random.default_rng([seed, *template.id.encode(), *template.page.encode()])
    made = template.make(rng)
    who = f"question {template.page}-{template.id} with seed {seed}"
    common = {"page": template.page, "title": template.title, "text": made.text, "why": made.why, "seed": str(seed)}
    if isinstance(made, Numeric):
        if not np.isfinite(made.answer):
            raise KitError(
                f"{who} has no number for an answer ({made.answer}); correct its template in tools/course/bank."
            )
        right = float(number(made.answer))
        traps = {what: float(number(value)) for what, value in made.traps.items()}
        for what, value in traps.items():
            if abs(value - right) <= made.tolerance:
                raise KitError(
                    f"{who} has two right answers: {number(right)}, and {number(value)}, which a mistake gives "
                    f"({what}); choose another seed, make course ARGS='--seed N'."
                )
        wrong = [(number(value), what) for what, value in traps.items()]
        return Entry(
            f"{template.page}-{template.id}-{seed}", kind="number", right=number(right),
            tolerance=number(made.tolerance), wrong=wrong, **common,
        )  # fmt: skip
    ranked = sorted(made.options, key=lambda option: -made.options[option])
    best, second = ranked[0], ranked[1]
    if made.options[best] - made.options[second] <= made.margin:
        raise KitError(
            f"{who} has two right answers: {best!r} and {second!r} ({number(made.options[best])} and "
            f"{number(made.options[second])}); choose another seed, make course ARGS='--seed N'."
        )
    shuffled = [option for option in made.options if option != best]
    return Entry(
        f"{template.page}-{template.id}-{seed}", kind="choice", right=best, tolerance="",
        wrong=[(option, "") for option in shuffled], **common,
    )  # fmt: skip


def written(page: str, notes: Teaching) -> list[Entry]:
    """The questions of a page's teaching notes.

    Raises:
        KitError: if an option stands twice, or there are fewer than two wrong ones.
    """
    found = []
    for question in notes.questions:
        options = [_even(option) for option in (question.right, *question.wrong)]
        if len(set(options)) < len(options) or len(options) < 3:
            raise KitError(
                f"question {page}-{question.id} needs at least three options, and all of them different; it has "
                f"{', '.join(repr(option) for option in options)}."
            )
        wrong = [(option, "") for option in question.wrong]
        found.append(
            Entry(
                f"{page}-{question.id}",
                page,
                question.id,
                "choice",
                question.text,
                question.right,
                "",
                wrong,
                question.why,
            )
        )
    return found


def _even(text: str) -> str:
    return " ".join(text.lower().rstrip(".").split())


def essays(name: str, folders: Folders = HERE) -> list[Entry]:
    """The page's own quiz, as questions that are answered in words and marked by hand."""
    return [
        Entry(f"{name[:2]}-quiz-{q.number}", name[:2], f"quiz {q.number}", "essay", q.text, q.answer, "", [], "")
        for q in quiz(name, folders)
    ]


def templates(page: str) -> list[Computed]:
    """The computed questions of a page, such as ``05``."""
    try:
        importlib.import_module(f"tools.course.bank.q{page}")
    except ModuleNotFoundError as error:
        if error.name != f"tools.course.bank.q{page}":
            raise
    return COMPUTED.get(page, [])


def entries(name: str, notes: Teaching, seeds: Sequence[int], folders: Folders = HERE) -> list[Entry]:
    """All questions of a page: written, computed (one for each seed), and its own quiz.

    Raises:
        KitError: if there are too few, if an id stands twice, or if a question is ambiguous.
    """
    page = name[:2]
    by_hand, made = written(page, notes), [draw(t, seed) for t in templates(page) for seed in seeds]
    count = len(by_hand) + len(templates(page))
    if count < AT_LEAST or 2 * len(templates(page)) < AT_LEAST:
        raise KitError(
            f"the bank has {count} questions for {name}, {len(templates(page))} of them computed; at least "
            f"{AT_LEAST} "
            f"are wanted, half of them computed: notebooks/teaching/{name}.yml and tools/course/bank/q{page}.py."
        )
    found = [*by_hand, *made, *essays(name, folders)]
    ids = [entry.id for entry in found]
    twice = next((id for id in ids if ids.count(id) > 1), None)
    if twice:
        raise KitError(f"two questions of {name} are called {twice!r}; names must be unique.")
    return found


# --- GIFT and CSV ------------------------------------------------------------------------------------------------

_SPECIAL = re.compile(r"([~=#{}:\\])")


def escape(text: str) -> str:
    """Text that GIFT reads as it stands: its marks escaped, line breaks as ``\\n``."""
    return _SPECIAL.sub(r"\\\1", text.strip()).replace("\n", r"\n")


def gift(found: Sequence[Entry]) -> str:
    """The questions in Moodle's GIFT format, a category for each page and kind."""
    out: list[str] = []
    category = ""
    for entry in sorted(found, key=lambda e: (e.page, ["choice", "number", "essay"].index(e.kind))):
        wanted = f"$CATEGORY: Video object segmentation/{entry.page} {entry.kind}"
        if wanted != category:
            category = wanted
            out.append(category)
        out.append(
            f"// {entry.id}\n::{escape(f'{entry.id} {entry.title}')}::[markdown]{escape(entry.text)} "
            f"{{{_answers(entry)}}}"
        )
    return "\n\n".join(out) + "\n"


def _answers(entry: Entry) -> str:
    after = f"\n####{escape(entry.why)}" if entry.why else ""
    if entry.kind == "essay":
        return f"\n####{escape(entry.right)}\n"
    if entry.kind == "number":
        wrong = "".join(f"\n=%0%{value}:{entry.tolerance}#{escape(what)}" for value, what in entry.wrong)
        return f"#\n=%100%{entry.right}:{entry.tolerance}{wrong}{after}\n"
    options = "".join(f"\n~{escape(option)}" for option, _ in entry.wrong)
    return f"\n={escape(entry.right)}{options}{after}\n"


COLUMNS = ("id", "page", "title", "kind", "seed", "question", "right", "tolerance", "wrong", "why")


def table(found: Sequence[Entry]) -> str:
    """The questions as CSV with a header; several wrong answers of one question are parted by `` | ``."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    for e in sorted(found, key=lambda e: e.id):
        wrong = " | ".join(f"{option} ({what})" if what else option for option, what in e.wrong)
        writer.writerow([e.id, e.page, e.title, e.kind, e.seed, e.text, e.right, e.tolerance, wrong, e.why])
    return out.getvalue()
