"""The syllabus for 6 and for 12 weeks, with a map of which page needs which; the machine table; the projects."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Any

from tools.notebooks import ROOT
from vos_tutorial import recipes
from vos_tutorial.course.lessons import COURSE

from .documents import Document
from .instructor import Lesson
from .teaching import PLANS, TEACHING, KitError, read


@dataclass(frozen=True)
class Session:
    """One meeting: a page taught by one of its plans, or something else."""

    page: str = ""
    plan: int = 0
    what: str = ""
    minutes: int = 0


@dataclass(frozen=True)
class Week:
    """One week: its theme, its meetings, what is handed in at its end."""

    theme: str
    sessions: list[Session]
    hand_in: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Syllabus:
    """``notebooks/teaching/syllabus.yml``: two schedules, and what holds for both."""

    about: str
    assessment: str
    six: list[Week]
    twelve: list[Week]


def load(folder: Path = TEACHING) -> Syllabus:
    """The syllabus, checked for its shape alone."""
    return read(Syllabus, folder / "syllabus.yml")


def check(syllabus: Syllabus, lessons: Sequence[Lesson]) -> None:
    """Each schedule has its weeks, and no page before one that it needs.

    Raises:
        KitError: naming the schedule, the week and the page.
    """
    known = {it.number: it for it in lessons}
    planned = {lesson.name[:2] for lesson in COURSE}
    for label, weeks, wanted in (("six", syllabus.six, 6), ("twelve", syllabus.twelve, 12)):
        if len(weeks) != wanted:
            raise KitError(f"syllabus.yml, {label}: {len(weeks)} weeks, not {wanted}.")
        taught: list[str] = []
        for i, week in enumerate(weeks, start=1):
            where = f"syllabus.yml, {label}, week {i}"
            for session in week.sessions:
                if session.page and session.page not in planned:
                    raise KitError(f"{where}: there is no page {session.page!r}.")
                if session.page and session.plan not in PLANS:
                    raise KitError(
                        f"{where}: page {session.page} has plans for 50 and 90 minutes, not {session.plan}."
                    )
                if not session.page and not (session.what and session.minutes):
                    raise KitError(f"{where}: a session has a page and a plan, or says what: and minutes:.")
                if session.page in known:
                    missing = [n for n in known[session.page].notes.needs if n in known and n not in taught]
                    if missing:
                        raise KitError(
                            f"{where}: page {session.page} needs {missing[0]}, which comes later or never."
                        )
                    taught.append(session.page)
            numbers = {e.number for it in lessons for e in it.exercises}
            for number in week.hand_in:
                if number not in numbers and number.split(".")[0].zfill(2) in known:
                    raise KitError(f"{where}: there is no exercise {number}.")


def document(syllabus: Syllabus, lessons: Sequence[Lesson]) -> Document:
    """The syllabus as a page."""
    check(syllabus, lessons)
    out = Document("Syllabus: video object segmentation, built", lambda address: address)
    out.write(syllabus.about)
    out.write("## The pages")
    rows = []
    for lesson in COURSE:
        it = next((each for each in lessons if each.name == lesson.name), None)
        if it is None:
            rows.append([lesson.name[:2], f"{lesson.name} *(to come)*", lesson.promise, "", ""])
            continue
        link = f"[{it.short}](instructor/{it.name}.html)"
        todo = f"{len(it.exercises)}, {sum(e.minutes for e in it.exercises)} minutes"
        rows.append([it.number, link, lesson.promise, f"{it.minutes} minutes", todo])
    out.table(["", "page", "what students do there", "to read and do", "exercises"], rows)
    out.write("## What needs what\n\nSolid: without it, the page cannot be followed. Dashed: it helps.")
    out.html(dependency_map(lessons))
    for title, weeks in (("Six weeks", syllabus.six), ("Twelve weeks", syllabus.twelve)):
        out.write(f"## {title}")
        out.table(
            ["week", "theme", "in class", "handed in", "at home"],
            [_row(i, w, lessons) for i, w in enumerate(weeks, 1)],
        )
    out.write(f"## Assessment\n\n{syllabus.assessment}")
    return out


def _row(i: int, week: Week, lessons: Sequence[Lesson]) -> list[str]:
    known = {it.number: it for it in lessons}
    names = {lesson.name[:2]: lesson.name for lesson in COURSE}
    held, home = [], 0
    for session in week.sessions:
        if not session.page:
            held.append(f"{session.what} ({session.minutes} minutes)")
        elif session.page in known:
            it = known[session.page]
            held.append(f"[{it.number} {it.short}](instructor/{it.name}.html), {session.plan} minutes")
            home += it.minutes
        else:
            held.append(f"{names[session.page]} *(to come)*, {session.plan} minutes")
    solving = sum(e.minutes for it in lessons for e in it.exercises if e.number in week.hand_in)
    at_home = f"{solving} minutes of exercises" if solving else "the project"
    if home:
        at_home = f"about {home / 60:.1f} h with the page{'s' if len(held) > 1 else ''}"
    return [str(i), week.theme, "<br>".join(held), ", ".join(week.hand_in) or "–", at_home]


# --- the map -----------------------------------------------------------------------------------------------------


def depths(needs: Mapping[str, Sequence[str]]) -> dict[str, int]:
    """How many pages lie before each one at least, along what it needs.

    Raises:
        KitError: if pages need each other in a circle.
    """
    found: dict[str, int] = {}

    def depth(page: str, path: tuple[str, ...]) -> int:
        if page in path:
            raise KitError(
                f"the pages {' -> '.join((*path, page))} need each other in a circle; change needs: in one."
            )
        if page not in found:
            before = [depth(n, (*path, page)) for n in needs.get(page, ()) if n in needs]
            found[page] = 1 + max(before, default=-1)
        return found[page]

    for page in needs:
        depth(page, ())
    return found


def dependency_map(lessons: Sequence[Lesson]) -> str:
    """The map as an SVG: a box for each page, as far right as it has pages before it."""
    needs = {it.number: [n for n in it.notes.needs if any(o.number == n for o in lessons)] for it in lessons}
    helps = {it.number: [n for n in it.notes.helps if any(o.number == n for o in lessons)] for it in lessons}
    depth = depths(needs)
    wide, high, gap_x, gap_y = 132, 46, 58, 26
    columns: dict[int, list[str]] = {}
    for it in lessons:
        columns.setdefault(depth[it.number], []).append(it.number)
    tallest = max(len(column) for column in columns.values())
    place: dict[str, tuple[float, float]] = {}
    for x, column in sorted(columns.items()):
        top = (tallest - len(column)) * (high + gap_y) / 2
        for y, number in enumerate(column):
            place[number] = 8 + x * (wide + gap_x), 8 + top + y * (high + gap_y)
    width = 16 + len(columns) * (wide + gap_x) - gap_x
    height = 16 + tallest * (high + gap_y) - gap_y + 24
    direct = _without_shortcuts(needs)
    lines = [_arrow(place[a], place[b], wide, high, "") for b, before in direct.items() for a in before]
    lines += [
        _arrow(place[a], place[b], wide, high, ' stroke-dasharray="5 4" opacity="0.65"')
        for b, before in helps.items() for a in before
    ]  # fmt: skip
    boxes = []
    for it in lessons:
        x, y = place[it.number]
        label = it.short if len(it.short) <= 17 else it.short[:16].rstrip() + "…"
        boxes.append(
            f'<a href="instructor/{it.name}.html"><rect x="{x}" y="{y}" width="{wide}" height="{high}" '
            'rx="7" fill="#f5f7f9" '
            f'stroke="#0072b2"/><text x="{x + 10}" y="{y + 19}" font-weight="600">{it.number}</text>'
            f'<text x="{x + 10}" y="{y + 36}">{escape(label)}</text></a>'
        )
    said = "; ".join(f"{b} needs {', '.join(before)}" for b, before in needs.items() if before)
    return (
        f'<figure class="wide" tabindex="0"><svg viewBox="0 0 {width} {height}" width="{width}" role="img" '
        f'aria-label="Map of the pages: {escape(said)}." font-family="system-ui, sans-serif" font-size="13">'
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        '<path d="M0 0 L8 4 L0 8 z" fill="#55606b"/></marker></defs>'
        f"{''.join(lines)}{''.join(boxes)}</svg></figure>"
    )


def _without_shortcuts(needs: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """``needs`` without what another needed page needs anyway."""

    def before(page: str) -> set[str]:
        return {n for direct in needs.get(page, ()) for n in (direct, *before(direct))}

    return {
        p: [n for n in wanted if not any(n in before(o) for o in wanted if o != n)] for p, wanted in needs.items()
    }


def _arrow(a: tuple[float, float], b: tuple[float, float], wide: float, high: float, style: str) -> str:
    if a[0] == b[0]:  # the same column: from box to box, up or down
        down = b[1] > a[1]
        x, y1, y2 = a[0] + wide / 2, a[1] + (high if down else 0), b[1] + (0 if down else high)
        return f'<path d="M{x} {y1} L{x} {y2}" fill="none" stroke="#55606b" marker-end="url(#tip)"{style}/>'
    x1, y1, x2, y2 = a[0] + wide, a[1] + high / 2, b[0], b[1] + high / 2
    bend = (x2 - x1) / 2
    return (
        f'<path d="M{x1} {y1} C{x1 + bend} {y1} {x2 - bend} {y2} {x2} {y2}" fill="none" stroke="#55606b" '
        f'marker-end="url(#tip)"{style}/>'
    )


# --- machines ----------------------------------------------------------------------------------------------------


def folder_size(path: Path) -> int:
    """Bytes of all files below a folder; links are not followed."""
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file() and not file.is_symlink())


def machines(lessons: Sequence[Lesson], cards: Path, environment: Path | None = None) -> Document:
    """What each page costs on a student's machine.

    Args:
        lessons: the pages.
        cards: ``run_cards.json``, written by ``tools/notebooks.py build --execute --measure``.
        environment: the virtual environment whose size is measured; left out if it is not there.

    Raises:
        KitError: if a page was never measured.
    """
    out = Document("What the course needs of a machine")
    known = json.loads(cards.read_text(encoding="utf-8"))
    rows = []
    for it in lessons:
        cpu = known.get(it.name, {}).get("cpu")
        if cpu is None:
            raise KitError(
                f"{it.name} has no measured run; build it with: python tools/notebooks.py build {it.number} "
                "--execute --measure."
            )
        row = [it.title, f"{cpu['cpu_seconds'] / 60:.1f}", f"{cpu['peak_mib']:,}", str(cpu["cores"])]
        rows.append(row)
    out.write(
        "Measured while the stored outputs were made, in the profile `cpu`. CPU minutes are what you wait "
        "on one quiet core; "
        "several cores shorten the trainings. Memory is the peak of one kernel; the browser and the operating system "
        "come on top."
    )
    out.table(["page", "CPU minutes", "peak memory, MiB", "cores of that machine"], rows)
    out.write("## Disk")
    parts = {
        "the course: notebooks with outputs, library, tools": ("notebooks", "vos_tutorial", "tools"),
        "trained weights and results that ship": ("data/weights", "data/results"),
    }
    disk = [[what, _mb(sum(folder_size(ROOT / part) for part in inside))] for what, inside in parts.items()]
    if environment is not None and environment.exists():
        disk.append(
            [
                "the environment of the machine that built this kit, with all that the tests need",
                _mb(folder_size(environment)),
            ]
        )
    out.table(["what", "size"], disk)
    out.write(
        "Nothing is downloaded after the installation, unless students fetch DAVIS. A training run keeps "
        "its state in "
        "`runs/`.\n\n## GPU\n\nNo page needs one. The last section of each method's page trains the paper's "
        "network on a "
        "GPU if there is one; it prints memory and time before it starts. **The profile `gpu` was not "
        "measured.** This is "
        "what it asks for:"
    )
    out.table(["method", "stage", "steps", "batch", "picture, pixels"], _paper_scale())
    return out


def _mb(size: int) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"


def _paper_scale() -> list[list[str]]:
    from vos_tutorial.models import METHODS

    rows: list[list[str]] = []
    for method in METHODS:
        recipe: Any = recipes.load(method, "gpu")
        rows += [
            [method, stage.name, f"{stage.steps:,}", str(stage.batch), str(stage.size)] for stage in recipe.stages
        ]
    return rows


# --- projects ----------------------------------------------------------------------------------------------------

_POINTS = re.compile(r"^\|[^|]+\|\s*(\d+)\s*\|", re.M)


def project(path: Path) -> Document:
    """A project brief, written in Markdown with one rubric table whose second column holds points that sum to 100.

    Raises:
        KitError: if the points do not.
    """
    text = path.read_text(encoding="utf-8")
    head, _, body = text.partition("\n")
    rubric = body.partition("## Rubric")[2]
    total = sum(int(points) for points in _POINTS.findall(rubric))
    if total != 100:
        raise KitError(f"{path.name}: the rubric's points sum to {total}, not 100.")
    out = Document(head.lstrip("# ").strip())
    out.write(body)
    return out
