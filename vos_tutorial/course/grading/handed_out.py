"""Which exercises a notebook asks for, from the checks in it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ...errors import TutorialError
from ..exercises.fresh import exercises
from .submission import code_cells

_CHECK = re.compile(r"\bcheck_(\d\d)\.(\w+)\(")


@dataclass(frozen=True)
class HandedOut:
    """The page ``NN`` whose exercises a notebook has, and their names in order."""

    page: str
    names: tuple[str, ...]


def handed_out(path: Path) -> HandedOut:
    """The exercises of a notebook that was given to students.

    Raises:
        TutorialError: if it cannot be read, or has no cell that checks an exercise.
    """
    return checked(path.name, (source for source, tags in code_cells(path) if "exercise-check" in tags))


def checked(name: str, checks: Iterable[str]) -> HandedOut:
    """The exercises that some check cells call, such as ``check_00.count_objects(count_objects)``.

    Raises:
        TutorialError: naming the notebook, if there is none, they are of two pages, or one does not exist.
    """
    found = [match.groups() for source in checks for match in _CHECK.finditer(source)]
    pages = sorted({page for page, _ in found})
    if len(pages) != 1:
        what = f"checks of the pages {', '.join(pages)}" if pages else "no cell tagged exercise-check that calls one"
        raise TutorialError(f"{name} has {what}; take a notebook of the course that has exercises, as it was built.")
    names = tuple(dict.fromkeys(exercise for _, exercise in found))
    unknown = [exercise for exercise in names if exercise not in exercises(pages[0])]
    if unknown:
        raise TutorialError(f"{name} checks {unknown[0]}, which is no exercise of page {pages[0]}; build it anew.")
    return HandedOut(pages[0], names)
