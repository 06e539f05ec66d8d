"""nbgrader's assignments: made from the page's source, tried by three made-up students."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import SimpleNamespace

import nbformat
import pytest

from tools import grading as command
from tools.course import assignments
from tools.course.exercise_cells import exercises
from tools.notebooks import HERE, STUB, Folders
from vos_tutorial.course.exercises import fresh
from vos_tutorial.errors import TutorialError

needs_nbgrader = pytest.mark.skipif(
    importlib.util.find_spec("nbgrader") is None, reason="nbgrader is not installed; pip install -e .[grading]"
)

NAMES = assignments.with_exercises()


def grade_ids(notebook: nbformat.NotebookNode) -> dict[str, nbformat.NotebookNode]:
    return {cell.metadata.nbgrader.grade_id: cell for cell in notebook.cells if "nbgrader" in cell.metadata}


@pytest.mark.parametrize("name", NAMES)
def test_an_assignment_has_each_function_and_two_points_for_it(name: str) -> None:
    notebook = assignments.notebook(name)
    nbformat.validate(notebook)
    cells = grade_ids(notebook)
    functions = [f for e in exercises(name) for f in e.functions]
    assert functions
    for function in functions:
        page = function.checker.split(".")[0].removeprefix("check_")
        answer = cells.pop(function.name)
        assert answer.metadata.nbgrader.solution
        assert not answer.metadata.nbgrader.locked
        assert answer.source.count(assignments.BEGIN) == answer.source.count(assignments.END) == 1
        given = re.sub(rf" *{assignments.BEGIN}.*?{assignments.END}", "", answer.source, flags=re.S)
        assert given.split() == function.stub.replace(STUB, "").split(), "with nothing of the solution outside"
        kinds = ["page", "fresh"] if fresh.drawing(page, function.name) else ["page"]
        for kind in kinds:
            graded = cells.pop(f"{function.name}-{kind}")
            assert (graded.metadata.nbgrader.points, graded.metadata.nbgrader.locked) == (1, True)
    assert not cells
    assert notebook.cells[1].metadata.tags == ["setup"]
    assert not re.search(r"\]\((?!https?:|#)", "".join(c.source for c in notebook.cells if c.cell_type == "markdown"))


def test_a_course_folder_is_built_and_keeps_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "gradebook.db").write_text("grades")
    assert assignments.build(tmp_path, 7, ["00_start_here", "appendix/02_splines"]) == [
        "00_start_here",
        "appendix_02_splines",
    ]
    assert (tmp_path / "gradebook.db").read_text() == "grades"
    assert "c.Graded.seed = 7\n" in (tmp_path / "nbgrader_config.py").read_text()
    assert sorted(p.name for p in (tmp_path / "source").rglob("*.ipynb")) == [
        "00_start_here.ipynb",
        "appendix_02_splines.ipynb",
    ]


def changed(tmp_path: Path, *replacements: tuple[str, str]) -> Folders:
    """The sources of a course with one page, 00, in which some text was replaced."""
    folders = Folders(tmp_path / "notebooks", HERE.results)
    text = HERE.source("00_start_here").read_text(encoding="utf-8")
    for old, new in replacements:
        assert old in text
        text = text.replace(old, new)
    folders.sources.mkdir(parents=True)
    folders.source("00_start_here").write_text(text, encoding="utf-8")
    folders.page("00_start_here").write_bytes(HERE.page("00_start_here").read_bytes())
    return folders


@pytest.mark.parametrize(
    ("replacements", "complaint"),
    [
        ([('# %% tags=["exercise-check"]', "# %%")], "the last function to write has no check"),
        (
            [
                ('# %% tags=["exercise-check"]', "# %%"),
                ('# %% tags=["exercise"]', "# %%"),
                ("# solution", "# here"),
                ("# end solution", "# there"),
            ],
            "has no cells tagged exercise and exercise-check, so there is nothing to grade",
        ),
        ([("_ = check_00.count_objects(count_objects)", "count_objects(mask)")], "a check reads _ = check_NN.name"),
        ([("_ = check_00.count_objects(", "_ = check_00.count_stars(")], "checks count_stars, which is no exercise"),
    ],
)  # fmt: skip
def test_a_page_that_lost_its_tags_stops_the_build(
    replacements: list[tuple[str, str]], complaint: str, tmp_path: Path
) -> None:
    with pytest.raises(TutorialError, match=complaint):
        assignments.build(tmp_path / "out", 1, ["00_start_here"], changed(tmp_path, *replacements))
    assert not (tmp_path / "out").exists(), "all or nothing"


def test_the_command_says_what_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["build", str(tmp_path), "77"]) == 1
    assert "77 is no notebook with exercises; there are 00_start_here" in capsys.readouterr().err
    assert command.main(["build", str(tmp_path), "00", "--seed", "-2"]) == 1
    assert "seed of fresh cases is -2" in capsys.readouterr().err
    assert command.main(["build", str(tmp_path), "00"]) == 0
    seed = re.search(r"Graded.seed = (\d+)", (tmp_path / "nbgrader_config.py").read_text())
    assert seed is not None
    assert command.main(["build", str(tmp_path), "00"]) == 0
    assert seed[0] not in (tmp_path / "nbgrader_config.py").read_text(), "a secret one for each course folder"


# --- with nbgrader -----------------------------------------------------------------------------------------------


@needs_nbgrader
def test_three_made_up_students_get_what_is_right(tmp_path: Path) -> None:
    from tools.course import synthetic_class as trial

    name = "00_start_here"
    assignments.build(tmp_path, 71, [name])
    api = trial.course(tmp_path)
    released = trial.release(api, name)
    text = released.read_text(encoding="utf-8")
    assert STUB.split("(")[0] in text
    assert "unique().tolist())" not in text, "no solution in what students get"
    assert "71" not in re.sub(r'"(checksum|id)": "\w+"', "", text), "and no seed"

    trial.hand_in(api, name, assignments.asked(name))
    for student in trial.STUDENTS:
        page = trial.graded(api, name, student).read_text(encoding="utf-8")
        if student == "mutants":
            assert "The value 0 is the background, not an object." in page
    assert trial.grades(api) == {
        (name, "reference"): (2.0, 2.0),
        (name, "blank"): (0.0, 2.0),
        (name, "mutants"): (0.0, 2.0),
    }
    assert trial.unexpected(trial.grades(api)) == []
    assert (tmp_path / "grades.csv").read_text().startswith("assignment,duedate,timestamp,student_id")


@needs_nbgrader
def test_a_graded_cell_without_an_item_gives_no_point() -> None:
    from vos_tutorial.course.grading import gradebook
    from vos_tutorial.course.grading.runner import Item

    cells = [
        SimpleNamespace(metadata=SimpleNamespace(nbgrader=SimpleNamespace(grade_id=f"f-{kind}")), outputs=[])
        for kind in ("page", "fresh", "other")
    ]
    gradebook.write([Item("f", "page", True, "right"), Item("f", "fresh", False, "wrong")], cells)
    assert [cell.outputs[0].output_type for cell in cells] == ["stream", "error", "error"]
    assert cells[2].outputs[0].evalue == "This cell was not graded."


@needs_nbgrader
def test_wrong_grades_of_made_up_students_are_found() -> None:
    from tools.course import synthetic_class as trial

    scores = {("a", "reference"): (1.0, 2.0), ("a", "blank"): (0.0, 2.0), ("b", "mutants"): (2.0, 2.0)}
    assert trial.unexpected(scores) == [
        "a: the student 'reference' has 1 of 2.",
        "b: the student 'mutants' has 2 of 2.",
    ]
    with pytest.raises(TutorialError, match=r"has no nbgrader_config\.py"):
        trial.course(Path("nowhere"))
