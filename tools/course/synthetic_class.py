"""Three students who do not exist, to try an assignment before a class does: right, blank, and wrong in a known way.

Their notebooks are made from the assignment's source version, and go through nbgrader as a class's would.
"""

from __future__ import annotations

import ast
import csv
import inspect
import os
import re
import shutil
import sys
import sysconfig
from pathlib import Path

import nbformat
from nbgrader.apps import NbGraderAPI
from nbgrader.coursedir import CourseDirectory
from nbgrader.exchange.default import ExchangeFetchAssignment, ExchangeSubmit
from nbgrader.plugins import CsvExportPlugin
from traitlets.config.loader import PyFileConfigLoader

from tools.course.assignments import BEGIN, COURSE_ID, END
from vos_tutorial.course.exercises import __name__ as package
from vos_tutorial.course.exercises.fresh import exercises
from vos_tutorial.course.grading.handed_out import HandedOut
from vos_tutorial.errors import TutorialError

DESKS = "desks"  # where the students work
STUDENTS = ("reference", "blank", "mutants")

_SOLUTION = re.compile(rf"^[ \t]*{BEGIN}\n(?P<body>.*?)^[ \t]*{END}[ \t]*$", re.S | re.M)


def course(folder: Path) -> NbGraderAPI:
    """nbgrader's door to a course folder, with its settings and with an exchange folder inside it.

    Raises:
        TutorialError: if this is no course folder.
    """
    if not (folder / "nbgrader_config.py").is_file():
        raise TutorialError(f"{folder} has no nbgrader_config.py; make it: python tools/grading.py build {folder}")
    if shutil.which("alembic") is None:  # nbgrader calls it by name, and this environment need not be activated
        os.environ["PATH"] = os.pathsep.join([sysconfig.get_path("scripts"), os.environ.get("PATH", "")])
    config = PyFileConfigLoader("nbgrader_config.py", path=str(folder)).load_config()
    config.CourseDirectory.root = str(folder.resolve())
    config.Exchange.root = str(folder.resolve() / "exchange")
    config.Exchange.cache = str(folder.resolve() / "cache")
    config.ExchangeCollect.check_owner = False  # one user plays all students
    (folder / "exchange").mkdir(exist_ok=True)
    (folder / "exchange").chmod(0o777)  # nbgrader wants it so: students write there
    return NbGraderAPI(config=config)


def release(api: NbGraderAPI, assignment: str) -> Path:
    """Make the students' version of an assignment and put it into the exchange folder; returns its notebook."""
    _done(api.generate_assignment(assignment, force=True), f"the students' version of {assignment}")
    _done(api.release_assignment(assignment), f"the release of {assignment}")
    return Path(api.coursedir.root) / "exchange" / COURSE_ID / "outbound" / assignment / f"{assignment}.ipynb"


def hand_in(api: NbGraderAPI, assignment: str, asked: HandedOut) -> None:
    """Each of :data:`STUDENTS` fetches the assignment, fills it in and submits it; then all are collected."""
    root = Path(api.coursedir.root)
    source = nbformat.read(root / "source" / assignment / f"{assignment}.ipynb", as_version=4)
    solutions = {_grade_id(c): _SOLUTION.sub(lambda m: m["body"].rstrip("\n"), c.source) for c in source.cells}
    for student in STUDENTS:
        desk = root / DESKS / student
        desk.mkdir(parents=True, exist_ok=True)
        coursedir = CourseDirectory(config=api.config)
        coursedir.student_id, coursedir.assignment_id = student, assignment
        own = {"coursedir": coursedir, "authenticator": api.authenticator, "config": api.config}
        ExchangeFetchAssignment(assignment_dir=str(desk), **own).start()
        path = desk / assignment / f"{assignment}.ipynb"
        notebook = nbformat.read(path, as_version=4)
        for cell in notebook.cells:
            name = _grade_id(cell)
            if name in asked.names and student != "blank":
                cell.source = solutions[name] if student == "reference" else misconception(asked.page, name)
        nbformat.write(notebook, path)
        ExchangeSubmit(assignment_dir=str(desk), **own).start()
    _done(api.collect(assignment), f"the collection of {assignment}")


def misconception(page: str, name: str, which: int = 0) -> str:
    """Code of a cell that answers an exercise as one of its named wrong answers does.

    A worker holds no wrong answers either, so the cell brings along the whole module in which they are written.
    """
    label = list(exercises(page)[name].mutants)[which]
    module = inspect.getsource(sys.modules[f"{package}.check_{page}"])
    tree = ast.parse(module)
    kept: list[ast.stmt] = []
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and node.level:
            above = package.split(".")[: len(package.split(".")) - node.level + 1]
            node = ast.ImportFrom(".".join([*above, node.module or ""]), node.names, 0)
        if not (isinstance(node, ast.ImportFrom) and node.module == "__future__"):
            kept.append(node)
    code = ast.unparse(ast.fix_missing_locations(ast.Module(kept, [])))
    return f"# {label}\n{code}\n{name} = {name}.mutants[{label!r}].answer"


def _grade_id(cell: nbformat.NotebookNode) -> str:
    return str(cell.metadata.get("nbgrader", {}).get("grade_id", ""))


def _done(result: dict, what: str) -> None:
    if not result["success"]:
        raise TutorialError(f"nbgrader could not make {what}:\n{result['log']}\n{result.get('error', '')}")


def graded(api: NbGraderAPI, assignment: str, student: str) -> Path:
    """Autograde a submission and write its feedback; returns the feedback page."""
    _done(api.autograde(assignment, student, force=True), f"the grade of {student}")
    _done(api.generate_feedback(assignment, student, force=True), f"the feedback for {student}")
    return Path(api.coursedir.root) / "feedback" / student / assignment / f"{assignment}.html"


def grades(api: NbGraderAPI) -> dict[tuple[str, str], tuple[float, float]]:
    """Write ``grades.csv`` into the course folder, and read it: ``{(assignment, student): (score, of)}``."""
    path = Path(api.coursedir.root) / "grades.csv"
    with api.gradebook as gradebook:
        CsvExportPlugin(to=str(path)).export(gradebook)
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return {(r["assignment"], r["student_id"]): (float(r["score"]), float(r["max_score"])) for r in rows}


def unexpected(scores: dict[tuple[str, str], tuple[float, float]]) -> list[str]:
    """What is wrong with the grades of :data:`STUDENTS`, one sentence each."""
    found = []
    for (assignment, student), (score, of) in scores.items():
        right = {"reference": score == of, "blank": score == 0, "mutants": score < of}.get(student, True)
        if not right or of == 0:
            found.append(f"{assignment}: the student '{student}' has {score:g} of {of:g}.")
    return found
