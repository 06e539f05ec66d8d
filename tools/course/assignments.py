"""A course folder for nbgrader: one assignment for each notebook that has exercises, from the notebooks' sources.

An assignment holds the exercises alone, with the imports of their page: reading and training stay on the page, and a
class is graded in seconds a student. For each function to write there are two points, one for the page's cases,
one for fresh cases.
"""

from __future__ import annotations

import re
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from tools.course.exercise_cells import Function, exercises, without_answers
from tools.notebooks import HERE, KERNELSPEC, STUB, Folders, read_notebook, tags
from vos_tutorial.course.exercises.fresh import drawing
from vos_tutorial.course.grading.handed_out import HandedOut, checked
from vos_tutorial.errors import TutorialError
from vos_tutorial.files import write_atomically

COURSE_ID = "vos"
_ASKS = re.compile(r'^# %% .*tags=\[[^\]]*"exercise"', re.M)
BEGIN, END = "### BEGIN SOLUTION", "### END SOLUTION"

_INTRODUCTION = """\
# {title}: exercises

Read the page `{page}` first; its links, pictures and hints are there. Here you write the functions that its exercises
ask for. Replace each line that raises, run the cell, then run the check below it.

A function gives two points: one if it is right on the cases of the check, one if it is right on cases that you do not
see. The grader takes the functions, classes, imports and constants of this notebook; it does not run anything else.
"""

# The hidden line is not in the students' version. With the settings of this folder it never runs; where nbgrader
# runs the notebook itself, the cell fails, and nobody gets this point for nothing.
_FRESH = """\
# One more point, after you have handed in: {name} on fresh cases.
### BEGIN HIDDEN TESTS
raise RuntimeError("fresh cases are graded with the nbgrader_config.py of this course folder")
### END HIDDEN TESTS"""

_CONFIG = '''\
"""nbgrader's settings for this course folder. Keep it from the students: the seed of the fresh cases is in it."""

from nbgrader.preprocessors import (
    AssignLatePenalties,
    CheckCellMetadata,
    IgnorePattern,
    LimitOutput,
    SaveAutoGrades,
)
from vos_tutorial.course.grading.gradebook import Graded

c = get_config()  # noqa: F821

c.CourseDirectory.course_id = "{course}"
c.OverwriteCells.add_missing_cells = True  # a graded cell that a student deleted comes back
c.ClearSolutions.code_stub = {{"python": '{stub}'}}

# Submissions run in a process of their own, with these limits; not in a kernel beside the grader.
c.Autograde.autograde_preprocessors = [
    Graded,
    IgnorePattern,
    LimitOutput,
    SaveAutoGrades,
    AssignLatePenalties,
    CheckCellMetadata,
]
c.Graded.seed = {seed}
c.Graded.seconds = 20
c.Graded.memory_mib = 2048

# The folder through which a class on one server fetches and submits; everybody on it must be able to write there.
# c.Exchange.root = "/srv/nbgrader/exchange"
'''


def assignment(name: str) -> str:
    """``NN_name`` or ``appendix/NN_name`` -> what nbgrader calls the assignment."""
    return name.replace("/", "_")


def with_exercises(folders: Folders = HERE) -> list[str]:
    """The sources that make an assignment, in the order of the course."""
    return [name for name in folders.names() if _ASKS.search(folders.source(name).read_text(encoding="utf-8"))]


def asked(name: str, folders: Folders = HERE) -> HandedOut:
    """The page and the functions that an assignment asks for."""
    functions = [f for e in exercises(name, folders) for f in e.functions]
    return checked(name, (f.check for f in functions))


def notebook(name: str, folders: Folders = HERE) -> NotebookNode:
    """The source version of an assignment, with solutions, for ``nbgrader generate_assignment``.

    Raises:
        TutorialError: if the page has no function to write, or its cells lost their tags.
    """
    todo = [e for e in exercises(name, folders) if e.functions]
    if not todo:
        raise TutorialError(f"{name} has no cells tagged exercise and exercise-check, so there is nothing to grade.")
    checked(name, (f.check for e in todo for f in e.functions))
    page = read_notebook(folders.page(name))
    title = page.cells[0].source.splitlines()[0].lstrip("# ")
    cells = [_text(_INTRODUCTION.format(title=title, page=name))]
    setup = [cell.source for cell in page.cells if "setup" in tags(cell)]
    if not setup:
        raise TutorialError(f"{name} has no cell tagged setup; its exercises would miss their imports.")
    cells += [_code(source, ["setup"]) for source in setup]
    for exercise in todo:
        cells.append(_text(_without_local_links(without_answers(exercise.text))))
        for function in exercise.functions:
            cells += _graded(function)
    out = nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": dict(KERNELSPEC)})
    for number, cell in enumerate(out.cells):
        cell.id = f"cell-{number}"
    return out


def _graded(function: Function) -> list[NotebookNode]:
    answer = _code(_marked(function), ["exercise"], grade_id=function.name, solution=True)
    check = re.sub(r"^_ = ", "assert ", function.check)
    page = _code(check, ["exercise-check"], grade_id=f"{function.name}-page", points=1)
    if drawing(*function.checker.removeprefix("check_").split(".")) is None:
        return [answer, page]
    fresh = _code(_FRESH.format(name=function.name), [], grade_id=f"{function.name}-fresh", points=1)
    return [answer, page, fresh]


def _marked(function: Function) -> str:
    """The cell with the solution, between the marks that nbgrader knows."""
    stub = re.search(rf"^([ \t]*){re.escape(STUB)}$", function.stub, re.M)
    if stub is None or function.stub.count(STUB) != 1:
        raise TutorialError(f"{function.name} has no single place for its solution; mark one in its cell.")
    body = function.body
    return function.stub.replace(stub[0], f"{stub[1]}{BEGIN}\n{body}\n{stub[1]}{END}")


def _without_local_links(text: str) -> str:
    """Words that link to another file of the course stay as words: an assignment lies in a folder of its own."""
    return re.sub(r"\[([^\]]+)\]\((?!https?:|#)[^)]*\)", r"\1", text)


def _text(source: str) -> NotebookNode:
    return nbformat.v4.new_markdown_cell(source.rstrip("\n"))


def _code(
    source: str, kinds: list[str], grade_id: str = "", solution: bool = False, points: int | None = None
) -> NotebookNode:
    cell = nbformat.v4.new_code_cell(source)
    if kinds:
        cell.metadata.tags = kinds
    if grade_id:
        cell.metadata.nbgrader = {
            "schema_version": 3,
            "grade_id": grade_id,
            "grade": points is not None,
            "locked": points is not None,
            "solution": solution,
            "task": False,
        }
        if points is not None:
            cell.metadata.nbgrader["points"] = points
    return cell


def build(out: Path, seed: int, names: list[str] | None = None, folders: Folders = HERE) -> list[str]:
    """Write a course folder: ``nbgrader_config.py`` and ``source/ASSIGNMENT/ASSIGNMENT.ipynb``.

    Args:
        out: the folder; what is in it already stays, but for these files.
        seed: of the fresh cases; another one for each class and term.
        names: sources; all that have exercises by default.
        folders: where the notebooks are.

    Returns:
        The names of the assignments.

    Raises:
        TutorialError: if a page cannot be made into an assignment, or the seed is negative.
    """
    if seed < 0:
        raise TutorialError(f"the seed of fresh cases is {seed}; take 0 or more.")
    made = {assignment(name): notebook(name, folders) for name in names or with_exercises(folders)}
    for called, source in made.items():
        path = out / "source" / called / f"{called}.ipynb"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, nbformat.writes(source).encode())
    config = _CONFIG.format(course=COURSE_ID, stub=STUB, seed=seed)
    write_atomically(out / "nbgrader_config.py", config.encode())
    return list(made)
