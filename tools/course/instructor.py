"""The instructor page of a notebook: plans, what to show, misconceptions with their cell, what to cut, answers."""

from __future__ import annotations

import importlib
import re
from dataclasses import dataclass

from nbformat import NotebookNode

from tools.notebooks import HERE, Folders, tags
from vos_tutorial.course import exercises as exercise_package
from vos_tutorial.course.exercises.exercise import Exercise as Check
from vos_tutorial.course.lessons import COURSE

from . import pages
from .bank import Entry
from .documents import Document, plain
from .exercise_cells import DETAILS, EXERCISE_KINDS, Exercise, exercises, quiz
from .markdown import Renderer, code
from .teaching import Found, KitError, Teaching, find

_CARD = re.compile(
    r"\| to read and do \| about (?P<all>\d+) minutes(?:, of which (?P<exercises>\d+) for the exercises)?"
)


@dataclass(frozen=True)
class Lesson:
    """One page of the course with all that the kit knows about it."""

    name: str
    notebook: NotebookNode
    notes: Teaching
    exercises: list[Exercise]

    @property
    def number(self) -> str:
        """Such as ``05``."""
        return self.name[:2]

    @property
    def title(self) -> str:
        """The page's heading."""
        return str(self.notebook.cells[0].source.splitlines()[0]).lstrip("# ").strip()

    @property
    def short(self) -> str:
        """The heading without number, up to the colon."""
        return self.title.removeprefix(self.number).split(":")[0].strip()

    @property
    def promise(self) -> str:
        """What the course's map says about it."""
        return next((lesson.promise for lesson in COURSE if lesson.name == self.name), "")

    @property
    def minutes(self) -> int:
        """To read and do, as its run card says.

        Raises:
            KitError: if the page has no such line.
        """
        card = next((m for cell in self.notebook.cells if (m := _CARD.search(cell.source))), None)
        if card is None:
            raise KitError(f"{self.name} has no run card with '| to read and do | about N minutes'; add the line.")
        return int(card["all"])


def lesson(name: str, notebook: NotebookNode, notes: Teaching, folders: Folders = HERE) -> Lesson:
    """A page with its teaching notes and exercises."""
    return Lesson(name, notebook, notes, exercises(name, folders))


def document(it: Lesson, bank: list[Entry], folders: Folders = HERE) -> Document:
    """The instructor page.

    Raises:
        KitError: if the notes name a cell or a wrong answer that is not there.
    """
    out = Document(f"For instructors: {it.number} {it.short}", outside)
    todo = f", of which {sum(e.minutes for e in it.exercises)} for {len(it.exercises)} exercises"
    out.write(f"{it.notes.goal}\n\n*On the page:* {it.promise}")
    out.write(
        f"Students need about **{it.minutes} minutes** for the whole page{todo if it.exercises else ''}. "
        f"Slides: [{it.name}](../slides/{it.name}.html)."
    )
    out.html(_listed("Students should have done", it.notes.needs) + _listed("It helps to have done", it.notes.helps))
    _objectives(out, it)
    for minutes, steps in sorted(it.notes.plans.items()):
        out.write(f"## Plan for {minutes} minutes")
        rows = [[str(s.minutes), s.do, _where(it, s.cell) if s.cell else ""] for s in steps]
        out.table(["minutes", "what", "where on the page"], rows)
    out.write("## What to show live")
    for live in it.notes.live:
        found = find(it.notebook, live.cell, f"{it.name}.yml, live")
        out.write(f"**{_at(found)}**\n\n{live.say}")
    _misconceptions(out, it)
    out.write("## What to cut\n\n" + "\n".join(f"{i}. {line}" for i, line in enumerate(it.notes.cut, start=1)))
    _answers(out, it, folders)
    computed = len({e.id.rsplit("-", 1)[0] for e in bank if e.seed})
    by_hand = sum(not e.seed and e.kind == "choice" for e in bank)
    essays = sum(e.kind == "essay" for e in bank)
    out.write(
        f"## Question bank\n\n{by_hand} written questions, {computed} computed ones with fresh numbers for "
        "each seed, and "
        f"the page's {essays} quiz questions for answers in words: `questions/{it.number}.gift` and "
        f"`questions/{it.number}.csv`."
    )
    return out


def outside(address: str) -> str | None:
    """Links that lead somewhere from a page of the kit: the web, the kit itself; not those between notebooks."""
    return address if re.match(r"https?:|\.\./(slides|questions)/", address) else None


def _listed(lead: str, numbers: list[str]) -> str:
    names = [lesson.name for lesson in COURSE if lesson.name[:2] in numbers]
    return f"<p>{lead}: {', '.join(names)}.</p>" if names else ""


def _at(found: Found) -> str:
    kind = "code" if found.cell.cell_type == "code" else "text"
    return f"Section *{plain(found.section)}*, {kind} cell {found.position}: `{plain(found.begins)}`"


def _where(it: Lesson, words: str) -> str:
    found = find(it.notebook, words, f"{it.name}.yml")
    return f"*{plain(found.section)}*, cell {found.position}"


def _objectives(out: Document, it: Lesson) -> None:
    for cell in it.notebook.cells:
        part = re.search(r"^## You will learn\n(.*?)(?=^## |\Z)", cell.source, re.M | re.S)
        if cell.cell_type == "markdown" and part:
            out.write(f"## What students learn\n\n{part[1].strip()}")
            return


def _outputs(found: Found, where: str) -> str:
    shown = []
    for output in found.cell.get("outputs", []):
        shown.append(pages.widget(output, None, where) if pages.is_widget(output) else pages.as_html(output, where))
    return f'<div class="shown">{"".join(shown)}</div>' if shown else ""


def _misconceptions(out: Document, it: Lesson) -> None:
    out.write("## Misconceptions, and the cell that exposes each")
    for wrong in it.notes.misconceptions:
        where = f"{it.name}.yml, misconception {wrong.belief!r}"
        found = find(it.notebook, wrong.cell, where)
        out.write(f"### “{wrong.belief}”\n\n{wrong.shows}\n\n{_at(found)}")
        if found.cell.cell_type == "code":
            out.fold("The cell and what it shows", html=code(found.cell.source) + _outputs(found, where))
        if wrong.mutant:
            out.write(f"The check recognises it in an answer: {_mutant(wrong.mutant, it, where)}")


def checks(page: str) -> dict[str, Check]:
    """The graded exercises of a page by name, such as ``{"top_k": ...}``; empty if there are none."""
    try:
        module = importlib.import_module(f"{exercise_package.__name__}.check_{page}")
    except ModuleNotFoundError:
        return {}
    return {name: found for name, found in vars(module).items() if isinstance(found, Check)}


def _mutant(name: str, it: Lesson, where: str) -> str:
    function, _, label = (part.strip() for part in name.partition(":"))
    known = checks(it.number)
    if function not in known or label not in known[function].mutants:
        there = ", ".join(f"{f}: {m}" for f, c in known.items() for m in c.mutants)
        raise KitError(f"{where}: no check knows the wrong answer {name!r}; the known ones are {there}.")
    return f"`{function}`, *{label}*. Its hint: “{known[function].mutants[label].hint}”"


def _answers(out: Document, it: Lesson, folders: Folders) -> None:
    out.write("## Answers")
    _predictions(out, it)
    known = checks(it.number)
    for exercise in it.exercises:
        name = f"{exercise.number}{f', {exercise.title}' if exercise.title else ''}"
        out.write(
            f"### Exercise {name} ({exercise.minutes} minutes, {exercise.level}, {EXERCISE_KINDS[exercise.kind]})"
        )
        out.fold("The task", exercise.text)
        for function in exercise.functions:
            out.html(code(function.solution))
            check = known.get(function.checker.partition(".")[2])
            if check and check.mutants:
                rows = [[label, mutant.hint] for label, mutant in check.mutants.items()]
                inside = Renderer(lambda a: None)
                lines = "\n".join(f"* *{label}*: {hint}" for label, hint in rows)
                out.fold(f"What the check of {function.name} recognises ({len(rows)})", html=inside.render(lines))
        for answer in [*exercise.answers, *filter(None, [exercise.note])]:
            out.write(answer)
    asked = quiz(it.name, folders)
    if asked:
        out.write("### Quiz")
        for question in asked:
            out.write(f"**{question.number}.** {question.text}\n\n{question.answer}")


def _predictions(out: Document, it: Lesson) -> None:
    """The page's own questions before the exercises: predictions, and what it asks on the way."""
    asked = next(
        (
            m[1]
            for c in it.notebook.cells
            if (m := re.search(r"^## Predict\n(.*?)(?=^## |\Z)", c.source, re.M | re.S))
        ),
        "",
    )
    if asked:
        out.write(f"### Predictions\n\n{asked.strip()}")
    for position, cell in enumerate(it.notebook.cells):
        if cell.cell_type != "markdown" or tags(cell) & {"exercise-text", "quiz"}:
            continue
        for match in DETAILS.finditer(cell.source):
            if not match["summary"].startswith("Hint"):
                out.write(f"*{match['summary']}* (cell {position}): {match['text'].strip()}")
