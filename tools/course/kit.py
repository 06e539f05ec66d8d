"""The teaching kit, ``build/kit``: syllabus, instructor pages, slides, questions, projects, machines, archives."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tools.notebooks import HERE, ROOT, Folders
from vos_tutorial.course.lessons import COURSE

from . import archives, bank, instructor, pages, slides, syllabus, teaching
from .documents import Document
from .instructor import Lesson
from .teaching import TEACHING, KitError

GUIDES = ("grading", "server")  # of docs/, where they are
SEEDS = 3  # computed questions come in so many versions


@dataclass(frozen=True)
class Plan:
    """What goes into a kit.

    Attributes:
        folders: the notebooks, executed, and the results.
        notes: the folder of the teaching notes.
        docs: the folder of the guides for graders and administrators.
        seed: of the first version of each computed question; the next ones count on.
        with_archives: also write the two archives.
    """

    folders: Folders = HERE
    notes: Path = TEACHING
    docs: Path = ROOT / "docs"
    seed: int = 1
    with_archives: bool = True


def lessons(plan: Plan, say: Callable[[str], None] = print) -> list[Lesson]:
    """All pages that are there, with their teaching notes, checked against each other.

    Raises:
        KitError: if a page has no notes, or notes name what is not on the page.
        SiteError: if a page was not executed.
    """
    found = []
    for name in plan.folders.pages():
        notes = teaching.load(name, plan.notes, plan.folders)
        notebook = pages.read(plan.folders.page(name))
        if notebook.metadata.get("vos_tutorial", {}).get("profile") == "smoke":
            raise KitError(
                f"{name} was executed in the size smoke, whose numbers mean nothing; run make notebooks first."
            )
        if notes.since and not any(notes.since in cell.source for cell in notebook.cells):
            say(f"{name}: left out, its teaching notes are for a form of the page that is still to come")
            continue
        teaching.check(name, notes, notebook)
        found.append(instructor.lesson(name, notebook, notes, plan.folders))
    for path in sorted(plan.notes.glob("[0-9][0-9]_*.yml")):
        if path.stem not in {lesson.name for lesson in COURSE}:
            raise KitError(f"{path.name} belongs to no page of the course; rename it, or add the page.")
        if path.stem not in plan.folders.pages():
            say(f"{path.stem}: left out, its page is still to come")
    return found


def build(plan: Plan, out: Path, say: Callable[[str], None] = print) -> Path:
    """Write the kit; what was there before is replaced only when the new one is whole.

    Returns:
        its first page.

    Raises:
        TutorialError: in a sentence, if anything that the kit is made of is missing, ambiguous, or would leak.
    """
    fresh = out.with_name(out.name + ".new")
    shutil.rmtree(fresh, ignore_errors=True)
    for folder in ("instructor", "slides", "questions", "projects"):
        (fresh / folder).mkdir(parents=True)
    course = lessons(plan, say)
    seeds = range(plan.seed, plan.seed + SEEDS)
    everything: list[bank.Entry] = []
    for it in course:
        asked = bank.entries(it.name, it.notes, seeds, plan.folders)
        everything += asked
        _write(fresh / "questions" / f"{it.number}.gift", bank.gift(asked))
        _write(fresh / "questions" / f"{it.number}.csv", bank.table(asked))
        page = instructor.document(it, asked, plan.folders)
        _write(fresh / "instructor" / f"{it.name}.html", page.text("../index.html"))
        _write(fresh / "slides" / f"{it.name}.html", slides.deck(it.notebook, it.name, it.notes))
        say(f"{it.name}: {len(it.notes.slides) + 1} slides, {len(asked)} questions")
    _write(fresh / "questions" / "all.gift", bank.gift(everything))
    _write(fresh / "questions" / "all.csv", bank.table(everything))
    schedule = syllabus.load(plan.notes)
    _write(fresh / "syllabus.html", syllabus.document(schedule, course).text())
    cards = plan.folders.results / "run_cards.json"
    _write(fresh / "machines.html", syllabus.machines(course, cards, Path(sys.prefix)).text())
    briefs = sorted(plan.notes.glob("project_*.md"))
    if len(briefs) < 2:
        raise KitError(f"{len(briefs)} project briefs in notebooks/teaching, two are wanted: project_NAME.md.")
    others = {f"projects/{path.stem}.html": syllabus.project(path) for path in briefs}
    others |= {
        f"{name}.html": _guide(plan.docs / f"{name}.md") for name in GUIDES if (plan.docs / f"{name}.md").exists()
    }
    for address, document in others.items():
        _write(fresh / address, document.text("../index.html" if "/" in address else "index.html"))
    _write(fresh / "index.html", _index(course, everything, others, plan).text(""))
    if plan.with_archives:
        archives.student_archive(fresh / "students.zip", plan.folders)
        archives.instructor_archive(fresh / "instructors.zip", fresh)
    shutil.rmtree(out, ignore_errors=True)
    fresh.rename(out)
    return out / "index.html"


def _guide(path: Path) -> Document:
    """A page of ``docs/``, without links that lead out of the kit into the repository."""
    head, _, body = path.read_text(encoding="utf-8").partition("\n")
    out = Document(head.lstrip("# ").strip(), lambda address: address if address.startswith(("http", "#")) else None)
    out.write(body)
    return out


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")


def _index(
    course: Sequence[Lesson], asked: Sequence[bank.Entry], others: dict[str, Document], plan: Plan
) -> Document:
    out = Document("The teaching kit")
    out.write(
        "Everything to hold this course. Begin with the [syllabus](syllabus.html), then read the instructor "
        "page of your "
        "first session. **This folder holds all solutions**; give students `students.zip` only."
    )
    rows = []
    for it in course:
        deck = f"[{len(it.notes.slides) + 1} slides](slides/{it.name}.html)"
        questions = f"[GIFT](questions/{it.number}.gift), [CSV](questions/{it.number}.csv)"
        rows.append([it.number, it.short, f"[page](instructor/{it.name}.html)", deck, questions])
    out.table(["", "notebook", "for instructors", "slides", "questions"], rows)
    computed, last = sum(bool(e.seed) for e in asked), plan.seed + SEEDS - 1
    lines = [
        "[Syllabus](syllabus.html) for six and for twelve weeks, with a map of what needs what",
        "[Machines](machines.html): minutes, memory and disk, measured",
        f"Question bank: {len(asked)} questions, {computed} of them computed (seeds {plan.seed} to {last}); "
        "[GIFT](questions/all.gift) for Moodle, [CSV](questions/all.csv) for anything else",
        *(f"[{document.title}]({address})" for address, document in others.items()),
    ]
    if plan.with_archives:
        lines.append(
            "`students.zip`: the notebooks without any solution; `instructors.zip`: the course, and this kit"
        )
    out.write("\n".join(f"* {line}" for line in lines))
    return out
