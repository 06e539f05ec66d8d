"""The command: a folder of submissions in, one row a student out, as CSV."""

from __future__ import annotations

import argparse
import csv
import io
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ...errors import TutorialError
from ...files import write_atomically
from ..exercises.fresh import drawing
from .handed_out import HandedOut, handed_out
from .runner import Item, Limits, grade
from .submission import read

KINDS = (".ipynb", ".py")


@dataclass(frozen=True)
class Grade:
    """What a student gets: the items, or none with the reason."""

    student: str
    file: str
    items: tuple[Item, ...]
    reason: str = ""

    @property
    def points(self) -> int:
        """How many items are right."""
        return sum(item.points for item in self.items)


def submissions(folder: Path, notebook: str) -> dict[str, Path]:
    """The file of each student in a folder, by the student's name, sorted.

    A student is a folder of its own with the file somewhere in it, as nbgrader and learning platforms make them, or a
    file beside others, named after the student. Where a student's folder holds several, the one that is called like
    the notebook counts.

    Args:
        folder: what was handed in.
        notebook: the name of the notebook that was handed out, without its ending.

    Raises:
        TutorialError: if there is no submission, or a student has several of which none is called so.
    """
    if not folder.is_dir():
        raise TutorialError(f"{folder} is no folder; name the folder that holds the submissions.")
    by_student: dict[str, list[Path]] = {}
    for path in sorted(folder.rglob("*")):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if path.suffix in KINDS and path.is_file() and not path.is_symlink() and not hidden:
            first = path.relative_to(folder).parts[0]
            by_student.setdefault(first if first != path.name else path.stem, []).append(path)
    if not by_student:
        raise TutorialError(f"there is no .ipynb or .py file in {folder}.")
    found = {}
    for student, paths in by_student.items():
        named = [path for path in paths if path.stem == notebook] or paths
        if len(named) > 1:
            names = ", ".join(path.relative_to(folder).as_posix() for path in named[:3])
            raise TutorialError(f"{student} handed in {names}; keep one of them, or call one {notebook}.ipynb.")
        found[student] = named[0]
    return found


def graded(student: str, path: Path, asked: HandedOut, seed: int | None, limits: Limits) -> Grade:
    """The grade of one file; a file that cannot be read gets no point, and the sentence that says why."""
    try:
        submission = read(path)
    except TutorialError as error:
        return Grade(student, path.name, (), str(error))
    return Grade(student, path.name, tuple(grade(submission, asked.page, asked.names, seed, limits)))


def table(grades: Iterable[Grade], columns: Sequence[str]) -> str:
    """CSV with a row a student: points, one column of 0 and 1 for each item, and what was said of those with 0."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["student", "file", "points", "out_of", *columns, "reason"])
    for found in grades:
        right = {f"{item.name} {item.kind}": item.points for item in found.items}
        said = dict.fromkeys(item.reason for item in found.items if not item.right)
        reason = found.reason or " ".join(said)
        row = [found.points, len(columns), *(right.get(column, 0) for column in columns)]
        writer.writerow([_harmless(found.student), _harmless(found.file), *row, _harmless(reason)])
    return text.getvalue()


def _harmless(text: str) -> str:
    """What a spreadsheet takes for text: a name like ``=1+1`` would be computed by it."""
    flat = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return f"'{flat}" if flat.startswith(("=", "+", "-", "@")) else flat


def feedback(found: Grade, out_of: int) -> str:
    """Markdown for a student: each item with what the check says."""
    lines = [f"# {found.points} of {out_of} points", ""]
    lines += [f"* {'+1' if item.right else ' 0'}  {item.reason}" for item in found.items] or [found.reason]
    return "\n".join(lines) + "\n"


def columns(asked: HandedOut, seeded: Mapping[str, bool]) -> list[str]:
    """The names of the items: each exercise on the page's cases, and on fresh ones where there are any."""
    return [f"{name} {kind}" for name in asked.names for kind in ("page", "fresh") if kind == "page" or seeded[name]]


def main(argv: list[str] | None = None) -> int:
    """Returns 0; 2 with a sentence on stderr for bad input; 130 after Ctrl-C, with what was graded until then."""
    parser = argparse.ArgumentParser(
        prog="python -m vos_tutorial.course.grading",
        description="Grade a folder of submissions: each in a process of its own, with limits on time and memory.",
    )
    parser.add_argument("notebook", type=Path, help="the notebook that was handed out, such as 00_start_here.ipynb")
    parser.add_argument("folder", type=Path, help="one folder or one file for each student, .ipynb or .py")
    parser.add_argument("--seed", type=int, help="also try fresh cases, drawn from this seed: a second point each")
    parser.add_argument("--out", type=Path, default=Path("grades.csv"), help="default: grades.csv")
    parser.add_argument("--feedback", type=Path, help="a folder for one text a student")
    parser.add_argument("--seconds", type=float, default=Limits.seconds, help="for each exercise (%(default)s)")
    parser.add_argument("--memory", type=int, default=Limits.memory_mib, help="MiB (%(default)s)")
    options = parser.parse_args(argv)
    try:
        return _run(options)
    except TutorialError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def _run(options: argparse.Namespace) -> int:
    asked = handed_out(options.notebook)
    limits = Limits(options.seconds, options.memory)
    seeded = {name: options.seed is not None and drawing(asked.page, name) is not None for name in asked.names}
    if options.seed is not None and options.seed < 0:
        raise TutorialError(f"the seed of fresh cases is {options.seed}; take 0 or more.")
    items = columns(asked, seeded)
    grades: list[Grade] = []
    status = 0
    try:
        for student, path in submissions(options.folder, options.notebook.stem).items():
            grades.append(graded(student, path, asked, options.seed, limits))
            print(f"{student}: {grades[-1].points} of {len(items)}", flush=True)
    except KeyboardInterrupt:
        print(f"stopped; the {len(grades)} graded so far are in {options.out}", file=sys.stderr)
        status = 130
    write_atomically(options.out, table(grades, items).encode())
    if options.feedback:
        options.feedback.mkdir(parents=True, exist_ok=True)
        for found in grades:
            write_atomically(options.feedback / f"{found.student}.md", feedback(found, len(items)).encode())
    return status
