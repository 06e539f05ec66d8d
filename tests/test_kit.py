"""The teaching kit: what stops its build, that no solution reaches a student, that questions have one answer."""

from __future__ import annotations

import csv
import io
import json
import re
import types
from collections.abc import Callable
from pathlib import Path

import nbformat
import numpy as np
import pytest
import torch

from tools.course import archives, bank, instructor, kit, sealed, slides, syllabus, teaching
from tools.course.exercise_cells import (
    exercises,
    leak,
    quiz,
    secrets,
    student_notebook,
    without_answers,
    without_links_to_solutions,
)
from tools.course.pages import SiteError
from tools.course.teaching import KitError, Slide, find
from tools.notebooks import HERE, Folders
from vos_tutorial.course.exercises import check_05
from vos_tutorial.course.exercises.exercise import Exercise
from vos_tutorial.course.exercises.kept import Kept, pack, unpack
from vos_tutorial.course.lessons import COURSE

PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
STM = "05_stm_key_value_memory"


@pytest.fixture(scope="module")
def course() -> list[instructor.Lesson]:
    """The pages of the course with their teaching notes, held against each other."""
    return kit.lessons(kit.Plan(), lambda line: None)


def page(*cells: str | tuple[str, str]) -> nbformat.NotebookNode:
    """A notebook of Markdown cells, and of code cells as (source, what it prints)."""
    made = []
    for cell in cells:
        if isinstance(cell, str):
            made.append(nbformat.v4.new_markdown_cell(cell))
        else:
            printed = [nbformat.v4.new_output("stream", text=cell[1])] if cell[1] else []
            made.append(nbformat.v4.new_code_cell(cell[0], outputs=printed, execution_count=1))
    return nbformat.v4.new_notebook(cells=made)


# --- the notes fit the pages -------------------------------------------------------------------------------------


def test_every_page_has_notes_that_fit_it(course: list[instructor.Lesson]) -> None:
    assert {it.name for it in course} <= {lesson.name for lesson in COURSE}
    assert len(course) >= 6
    for it in course:
        text = instructor.document(it, []).text()
        for part in ("Plan for 50 minutes", "Plan for 90 minutes", "What to cut", "Answers"):
            assert part in text, (it.name, part)
        assert all(exercise.number in text for exercise in it.exercises)


def test_a_page_without_notes_stops_the_build(tmp_path: Path) -> None:
    with pytest.raises(KitError, match="05_stm_key_value_memory has no teaching notes"):
        teaching.load(STM, tmp_path)


def test_a_page_that_was_not_executed_stops_the_build(tmp_path: Path) -> None:
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "00_start_here.py").write_text("# %% [markdown]\n# # 00 Start\n", encoding="utf-8")
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("x = 1")])
    nbformat.write(notebook, tmp_path / "00_start_here.ipynb")
    with pytest.raises(SiteError, match=r"00_start_here\.ipynb was not executed"):
        kit.lessons(kit.Plan(folders=Folders(tmp_path, HERE.results)))


def test_a_page_in_the_size_for_ci_stops_the_build(tmp_path: Path) -> None:
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "00_start_here.py").write_text("# %% [markdown]\n# # 00 Start\n", encoding="utf-8")
    notebook = page(("x = 1", "1"))
    notebook.metadata["vos_tutorial"] = {"profile": "smoke"}
    nbformat.write(notebook, tmp_path / "00_start_here.ipynb")
    with pytest.raises(KitError, match="00_start_here was executed in the size smoke"):
        kit.lessons(kit.Plan(folders=Folders(tmp_path, HERE.results)))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda text: text.replace("goal:", "gaol:", 1), "unknown entry 'gaol'"),
        (lambda text: re.sub(r"^cut:\n(  .*\n)+", "", text, flags=re.M), "the entry 'cut' is missing"),
        (lambda text: text.replace("minutes: 5,", "minutes: 6,", 1), "the plan for 50 minutes has 51"),
        (lambda text: re.sub(r"^slides:\n(  .*\n)+", "slides: []\n", text, flags=re.M), "no cell is marked"),
        (lambda text: text.replace("goal:", "goal: [", 1), "is no YAML"),
    ],
)
def test_notes_that_cannot_be_right(change: Callable[[str], str], said: str, tmp_path: Path) -> None:
    text = (teaching.TEACHING / f"{STM}.yml").read_text(encoding="utf-8")
    (tmp_path / f"{STM}.yml").write_text(change(text), encoding="utf-8")
    with pytest.raises(KitError, match=re.escape(said)):
        teaching.load(STM, tmp_path)


def test_cells_are_found_by_their_words() -> None:
    notebook = page(
        "# Page", "## 1. The idea\n\n**Now** look at *this*.", ("x = 1\nprint(x)", "1"), "More.\nprint(x)"
    )
    assert find(notebook, "now look at", "here").section == "1. The idea"
    assert find(notebook, "x = 1", "here").position == 2
    assert find(notebook, "not there || The idea", "here").position == 1
    with pytest.raises(KitError, match="2 cells have a line that begins with 'print"):
        find(notebook, "print(x)", "here")
    with pytest.raises(KitError, match=r"05\.yml, live: no cell has the id, or a line that begins with, 'y = 2'"):
        find(notebook, "y = 2", "05.yml, live")


def test_a_wrong_answer_that_no_check_knows_is_named(course: list[instructor.Lesson]) -> None:
    it = next(it for it in course if it.number == "05")
    with pytest.raises(KitError, match="no check knows the wrong answer 'top_k: over the moon'"):
        instructor._mutant("top_k: over the moon", it, "05.yml")


# --- slides ------------------------------------------------------------------------------------------------------


def test_decks_need_nothing_from_elsewhere(course: list[instructor.Lesson]) -> None:
    for it in course:
        html = slides.deck(it.notebook, it.name, it.notes)
        assert html.count('<section class="slide') == len(it.notes.slides) + 1
        assert not re.search(r'(src|href)="(?!data:|#)', html), it.name
        assert html.count('<aside class="notes"') == len(it.notes.slides) + 1
        assert all(re.search(r'alt="[^"]', image) for image in re.findall(r"<img [^>]*>", html))


def test_speaker_notes_hold_what_the_page_says() -> None:
    notebook = page(
        "# P", "## Guess\n\nWhat comes?", ("show()", "7"), "<details><summary>Answer</summary>Seven.</details>"
    )
    made = slides._slide(notebook, Slide("What comes?", show=["show()"], notes="Wait."), "here")
    assert "7" in made["body"]
    assert "Seven" not in made["body"]
    for said in ("Wait.", "What comes?", "Seven."):
        assert said in made["notes"]


@pytest.mark.parametrize(
    ("slide", "said"),
    [
        (Slide("A"), "nothing is shown"),
        (Slide("A", show=["x = 1"]), "has no output to show"),
        (Slide("A", show=["words"]), "has neither formula nor table"),
        (Slide("A", points=["word " * 80]), "80 words in points"),
    ],
)
def test_slides_that_show_nothing(slide: Slide, said: str) -> None:
    with pytest.raises(KitError, match=re.escape(said)):
        slides._slide(page("# P", "words", ("x = 1", "")), slide, "here")


# --- the question bank -------------------------------------------------------------------------------------------


def test_each_page_has_questions_with_one_answer(course: list[instructor.Lesson]) -> None:
    for it in course:
        asked = bank.entries(it.name, it.notes, (1, 2))
        made = bank.templates(it.number)
        assert len(made) >= 3
        assert len(it.notes.questions) + len(made) >= 6
        text = bank.gift(asked)
        assert text.count("::[markdown]") == len(asked)
        bare = re.sub(r"\\.", "", text)
        assert bare.count("{") == bare.count("}") == len(asked)
        rows = list(csv.DictReader(io.StringIO(bank.table(asked))))
        assert len(rows) == len(asked)
        assert all(row["right"] for row in rows)


def test_pages_that_are_to_come_have_questions_too() -> None:
    for lesson in COURSE:
        for template in bank.templates(lesson.name[:2]):
            assert bank.draw(template, 5).right


def test_another_seed_asks_for_another_number() -> None:
    template = next(t for t in bank.templates("01") if t.id == "j")
    assert bank.draw(template, 1) == bank.draw(template, 1)
    assert len({bank.draw(template, seed).right for seed in range(6)}) > 2


def test_a_seed_with_two_right_answers_stops_the_build() -> None:
    near = bank.Computed("05", "near", "", lambda rng: bank.Numeric("?", 0.5, 0.01, "", {"a mistake": 0.505}))
    with pytest.raises(KitError, match=r"question 05-near with seed 7 has two right answers: 0.5, and 0.505"):
        bank.draw(near, 7)
    tie = bank.Computed(
        "05", "tie", "", lambda rng: bank.Pick("?", {"frame 3": 2.0, "frame 4": 2.0, "no": 1.0}, 0.1, "")
    )
    with pytest.raises(KitError, match="has two right answers: 'frame 3' and 'frame 4'"):
        bank.draw(tie, 7)
    none = bank.Computed("05", "nan", "", lambda rng: bank.Numeric("?", float("nan"), 0.01, ""))
    with pytest.raises(KitError, match="has no number for an answer"):
        bank.draw(none, 7)


def test_what_gift_would_misread_is_escaped() -> None:
    entry = bank.Entry(
        "05-x", "05", "x = {1}", "choice", "is a ~ b?\nyes", "a: #1", "", [("50 % = half", "")], "because"
    )
    text = bank.gift([entry])
    assert r"is a \~ b?\nyes" in text
    assert r"=a\: \#1" in text
    assert "50 % \\= half" in text


# --- no solution reaches a student -------------------------------------------------------------------------------


def test_exercises_come_from_the_page() -> None:
    found = {exercise.number: exercise for exercise in exercises(STM)}
    assert list(found) == ["5.1", "5.2", "5.3", "5.4"]
    (top_k,) = found["5.1"].functions
    assert (top_k.name, top_k.checker) == ("top_k", "check_05.top_k")
    assert "NotImplementedError" in top_k.stub
    assert "topk" in top_k.body
    assert found["5.4"].kind == "words"
    assert found["5.4"].answers
    assert len(quiz(STM)) == 4


def test_a_student_sees_hints_and_no_answers() -> None:
    text = "**Exercise 1.1** (5 minutes, easy)\n\n<details><summary>Hint 1</summary>Try.</details>\n"
    text += "<details><summary>Where the answer lies</summary>Between 3 and 4.</details>"
    assert "Try." in without_answers(text)
    assert "Between" not in without_answers(text)
    recap = "* One.\n* Two; a solution is in a\n  [notebook of its own](solutions/00_start_here.ipynb).\n* Three."
    assert without_links_to_solutions(recap).split() == ["*", "One.", "*", "Three."]
    hidden = secrets([STM])
    cells = student_notebook(STM).cells
    assert not [leak(cell.source, hidden) for cell in cells if leak(cell.source, hidden)]
    assert any("Hint" in cell.source for cell in cells)


def test_the_students_archive_keeps_every_secret(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(archives, "seal", lambda number: ("", "{}"))  # sealing has tests of its own
    found, hidden = archives.student_files(), secrets(HERE.names())
    archives.refuse_leaks(found, hidden)
    assert not [name for name in found if "solutions" in name or name.startswith(("tests/", "notebooks/src/"))]
    assert "vos_tutorial/models/stm.py" in found
    given = {**found, "notebooks/tip.md": f"Try this:\n\n{exercises(STM)[0].functions[0].body}".encode()}
    with pytest.raises(
        KitError, match=r"notebooks/tip.md in the students' archive would leak the solution of 5.1, top_k"
    ):
        archives.refuse_leaks(given, hidden)
    with pytest.raises(KitError, match="it holds solutions"):
        archives.refuse_leaks({"notebooks/solutions/05.ipynb": b"{}"}, hidden)
    small = {"README.md": b"x", "a/b.png": b"y"}
    first, second = (archives.write(tmp_path / f"{i}.zip", small).read_bytes() for i in (0, 1))
    assert first == second


def test_students_without_make_get_the_commands_of_the_readme(tmp_path: Path) -> None:
    told = archives.student_readme()
    readme = (archives.ROOT / "README.md").read_text(encoding="utf-8")
    commands = [line for line in told.splitlines() if line.startswith("| ") and "\\" in line]
    assert len(commands) == 2
    assert all(line in readme.splitlines() for line in commands)
    assert "vos_tutorial doctor" in told
    (tmp_path / "README.md").write_text("# nothing\n\n### conda\n")
    with pytest.raises(KitError, match="no table of the commands without make"):
        archives.student_readme(tmp_path)


def sealed_check(number: str, folder: Path) -> dict[str, Exercise]:
    """The exercises of a page as a student's copy has them."""
    source, kept = sealed.seal(number)
    (folder / f"check_{number}.json").write_text(kept, encoding="utf-8")
    module = types.ModuleType(f"vos_tutorial.course.exercises.sealed_{number}")
    module.__package__ = "vos_tutorial.course.exercises"
    exec(source, vars(module))
    found = {name: e for name, e in vars(module).items() if isinstance(e, Exercise)}
    for exercise in found.values():
        for answer in (exercise.reference, *(mutant.answer for mutant in exercise.mutants.values())):
            assert isinstance(answer, Kept)
            answer._file = folder / answer._file.name
    return found


def test_a_sealed_check_says_what_the_open_one_says(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = sealed_check("05", tmp_path)
    for name in ("top_k", "evict", "l2_scores"):
        known: Exercise = getattr(check_05, name)
        assert found[name](known.reference)
        capsys.readouterr()
        for mutant in known.mutants.values():
            known(mutant.answer)
            expected = capsys.readouterr().out
            assert not found[name](mutant.answer)
            assert capsys.readouterr().out == expected
        with pytest.raises(NotImplementedError, match="without solutions"):
            found[name].reference()


def test_a_function_that_would_solve_an_exercise_does_not_stay() -> None:
    source = "def helper(scores, k):\n    best, places = scores.topk(k, dim=0)\n"
    source += "    return scores.new_zeros(scores.shape).scatter(0, places, best.softmax(0))\n"
    with pytest.raises(KitError, match=r"check_05\.py would leak a solution: helper solves top_k"):
        sealed._try_to_solve(source, "check_05", {"top_k": check_05.top_k})


def test_results_are_kept_as_they_are() -> None:
    value = {"a": (torch.arange(4).reshape(2, 2) > 1, [1, 2.5, None, "x"]), "b": np.arange(3, dtype=np.float32)}
    again = unpack(json.loads(json.dumps(pack(value))))
    assert torch.equal(again["a"][0], value["a"][0])
    assert again["a"][1] == value["a"][1]
    assert again["b"].dtype == np.float32
    assert type(unpack(pack(np.float64(0.5)))) is np.float64
    with pytest.raises(TypeError, match="a result of the kind set cannot be kept"):
        pack({1, 2})


# --- syllabus, machines, projects --------------------------------------------------------------------------------


def test_the_syllabus_teaches_nothing_before_what_it_needs(course: list[instructor.Lesson]) -> None:
    plan = syllabus.load()
    text = syllabus.document(plan, course).text()
    assert "<svg" in text
    assert text.count("<h2") == 5
    turned = syllabus.Syllabus(plan.about, plan.assessment, [plan.six[1], plan.six[0], *plan.six[2:]], plan.twelve)
    with pytest.raises(KitError, match=r"syllabus\.yml, six, week 1: page 02 needs 01, which comes later or never"):
        syllabus.check(turned, course)
    short = syllabus.Syllabus(plan.about, plan.assessment, plan.six[1:], plan.twelve)
    with pytest.raises(KitError, match="5 weeks, not 6"):
        syllabus.check(short, course)


def test_pages_in_a_circle_are_refused() -> None:
    assert syllabus.depths({"00": [], "01": ["00"], "02": ["00", "01"]}) == {"00": 0, "01": 1, "02": 2}
    with pytest.raises(KitError, match="01 -> 02 -> 01 need each other in a circle"):
        syllabus.depths({"01": ["02"], "02": ["01"]})


def test_machines_are_measured_or_the_build_stops(course: list[instructor.Lesson], tmp_path: Path) -> None:
    text = syllabus.machines(course, HERE.results / "run_cards.json").text()
    assert "was not measured" in text  # the gpu profile, said plainly
    (tmp_path / "cards.json").write_text("{}", encoding="utf-8")
    with pytest.raises(KitError, match="00_start_here has no measured run"):
        syllabus.machines(course, tmp_path / "cards.json")


def test_a_rubric_has_a_hundred_points(tmp_path: Path) -> None:
    briefs = sorted(teaching.TEACHING.glob("project_*.md"))
    assert len(briefs) >= 2
    assert all("Rubric" in syllabus.project(path).text() for path in briefs)
    wrong = tmp_path / "project_x.md"
    wrong.write_text("# X\n\n## Rubric\n\n| what | points |\n|---|---|\n| a | 40 |\n| b | 50 |\n", encoding="utf-8")
    with pytest.raises(KitError, match=r"project_x.md: the rubric's points sum to 90, not 100"):
        syllabus.project(wrong)


def test_every_page_is_graded_and_the_project_has_its_four_weeks(course: list[instructor.Lesson]) -> None:
    plan = syllabus.load()
    with_functions = {it.number for it in course if any(e.functions for e in it.exercises)}
    functions = {e.number for it in course for e in it.exercises if e.functions}
    for weeks, chosen in ((plan.six, 2), (plan.twelve, 8)):
        graded = {n.split(".")[0].zfill(2) for week in weeks for n in week.hand_in if n in functions}
        assert graded == with_functions
        assert len(weeks) - chosen == 4
        assert any("presentations" in s.what.lower() for s in weeks[-1].sessions)
        assert any("project" in s.what.lower() for week in weeks[:chosen] for s in week.sessions)
    assert "last four weeks of either" in plan.about
    briefs = [path.read_text(encoding="utf-8") for path in sorted(teaching.TEACHING.glob("project_*.md"))]
    assert len(briefs) == 2
    assert all("about 25 hours each, four weeks" in brief and "\n| 4 | " in brief for brief in briefs)
