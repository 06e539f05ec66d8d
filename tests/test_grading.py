"""Grading: what is taken of a submission, what its process may do, and what comes out as points, reasons and CSV."""

from __future__ import annotations

import csv
import json
from collections import namedtuple
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from vos_tutorial.course.exercises import fresh
from vos_tutorial.course.grading import command, runner, values
from vos_tutorial.course.grading.handed_out import HandedOut, checked, handed_out
from vos_tutorial.course.grading.runner import Item, Limits, grade
from vos_tutorial.course.grading.submission import LARGEST, Submission, of_cells, read
from vos_tutorial.errors import TutorialError

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "notebooks" / "00_start_here.ipynb"
RIGHT = "def count_objects(mask):\n    return len(set(mask.unique().tolist()) - {0, 255})\n"
BRIEF = Limits(seconds=1, memory_mib=512)


def code(text: str) -> Submission:
    return of_cells([(text, {"exercise"})])


def by_name(items: list[Item]) -> dict[tuple[str, str], Item]:
    return {(item.name, item.kind): item for item in items}


# --- what is taken of a file -------------------------------------------------------------------------------------


def test_a_notebook_gives_its_definitions_and_nothing_that_runs_for_long() -> None:
    page = [
        ("import torch\nprint('hello')\nnet = build()", {"setup"}),
        ("run = training.train(net)\nfor step in range(10**9): ...\nEPSILON = 1e-7\nscale = torch.ones(3)", {"run"}),
        ("%matplotlib inline\n!pip install x\ndef twice(x):\n    return x", set()),
        ("count = lambda m: 3\nclass A: ...", set()),
    ]
    taken = [piece.code for piece in of_cells(page).pieces]
    assert taken[:3] == ["import torch", "print('hello')", "net = build()"], "setup is taken whole"
    assert taken[3:] == [
        "EPSILON = 1e-07",
        "def twice(x):\n    return x",
        "count = lambda m: 3",
        "class A:\n    ...",
    ]


def test_a_cell_that_is_no_python_is_said_and_left_out() -> None:
    found = of_cells([("def f(:\n  pass", set()), ("x = 1", set())])
    assert [piece.where for piece in found.pieces] == ["code cell 2, line 1"]
    assert found.broken[0].startswith("code cell 1, line 1, is not Python")


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"{}", "is no notebook; hand in the .ipynb file"),
        (b"[1, 2]", "is no notebook"),
        (b'{"cells": [{"cell_type": "code", "source": 3}]}', "is no notebook"),
        (b"\xff\xfe\x00", "is not UTF-8 text"),
        (b"[" * 100_000, "is no notebook"),
    ],
)
def test_what_is_no_notebook_is_refused(content: bytes, complaint: str, tmp_path: Path) -> None:
    path = tmp_path / "x.ipynb"
    path.write_bytes(content)
    with pytest.raises(TutorialError, match=complaint):
        read(path)


def test_a_file_that_is_too_large_or_missing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TutorialError, match="cannot be read"):
        read(tmp_path / "none.py")
    with (tmp_path / "large.ipynb").open("wb") as file:
        file.truncate(LARGEST + 1)
    with pytest.raises(TutorialError, match="a submission may have 64"):
        read(tmp_path / "large.ipynb")


def test_what_a_notebook_asks_for_is_read_from_its_checks() -> None:
    assert handed_out(PAGE) == HandedOut("00", ("count_objects",))
    formats = handed_out(ROOT / "notebooks/appendix/01_formats.ipynb")
    assert (formats.page, set(formats.names)) == ("01", {"iou_with_void", "decay", "one_hot"})
    with pytest.raises(TutorialError, match="no cell tagged exercise-check"):
        checked("bare.ipynb", [])
    with pytest.raises(TutorialError, match="checks of the pages 00, 01"):
        checked("mixed.ipynb", ["check_00.count_objects(x)", "check_01.decay(x)"])
    with pytest.raises(TutorialError, match="checks count_stars, which is no exercise of page 00"):
        checked("old.ipynb", ["check_00.count_stars(x)"])


# --- values ------------------------------------------------------------------------------------------------------

Pair = namedtuple("Pair", "a b")


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        3,
        0.1,
        float("inf"),
        "text",
        [1, (2, [])],
        {"a": [1.5], 2: None},
        torch.tensor([[1.5, float("nan")]]),
        torch.zeros(2, 0, dtype=torch.int64),
        torch.tensor(True),
        np.arange(6, dtype=np.uint8).reshape(2, 3)[:, ::2],
        np.float32(0.5),
    ],
    ids=repr,
)
def test_a_value_comes_back_as_it_was(value: Any) -> None:
    from vos_tutorial.course.check import difference

    back = values.decode(json.loads(json.dumps(values.encode(value))))
    assert difference(back, value) is None
    assert isinstance(back, np.ndarray if isinstance(value, np.generic) else type(value))


def test_a_gradient_stays_behind_and_other_types_keep_their_name() -> None:
    back = values.decode(values.encode(torch.ones(2, requires_grad=True)))
    assert not back.requires_grad
    assert values.decode(values.encode(Pair(1, 2))) == (1, 2)
    assert type(values.decode(values.encode(object()))).__name__ == "object"
    endless: list[Any] = []
    endless.append(endless)
    assert "other" in json.dumps(values.encode(endless))
    assert type(values.decode(values.encode(np.array([object()])))).__name__ == "array_of_object"


@pytest.mark.parametrize("bad", [[1], {"tensor": ["|O8", [1], ""]}, {"tensor": ["<f4", [9], ""]}, {"what": 1}, {}])
def test_what_is_no_value_of_ours_is_refused(bad: Any) -> None:
    with pytest.raises(ValueError, match=r"not an encoded|an array of"):
        values.decode(bad)


# --- what a submission may do ------------------------------------------------------------------------------------

HOSTILE = {
    "one_hot": "    while True:\n        try:\n            while True: pass\n        except BaseException: pass\n",
    "iou_with_void": "    import os; os._exit(0)\n",
    "fast_boundary_map": "    return bytearray(2 << 30)\n",
    "decay": "    return check_01.decay.reference(*given)\n",
    "davis_mean": "    return 0.5\n",
}


def test_one_function_that_misbehaves_costs_its_own_points() -> None:
    text = "from vos_tutorial.course.exercises import check_01\nimport sys\n"
    text += "".join(f"def {name}(*given):\n{body}" for name, body in HOSTILE.items())
    text += "del davis_mean\nsys.exit(3)\n"
    found = by_name(grade(code(text), "01", list(HOSTILE), seed=3, limits=BRIEF))
    assert not any(item.right for item in found.values())
    reasons = {name: found[name, "page"].reason for name in HOSTILE}
    assert reasons["one_hot"] == "one_hot did not end within 1 s; it was stopped."
    assert "ended the process that graded it (exit status 0)" in reasons["iou_with_void"]
    assert "stopped on the case" in reasons["fast_boundary_map"]
    assert "MemoryError" in reasons["fast_boundary_map"]
    assert "has no attribute 'reference'" in reasons["decay"], "the right answer is not within reach"
    assert reasons["davis_mean"].startswith("davis_mean is not defined (code cell 1, line")
    assert "SystemExit: 3" in reasons["davis_mean"]
    assert found["decay", "fresh"].reason.startswith("Fresh cases. decay: stopped")


def test_definitions_that_never_end_cost_everything() -> None:
    found = grade(code(RIGHT + "while True: pass"), "00", ["count_objects"], limits=BRIEF)
    assert [(item.points, item.reason) for item in found] == [
        (0, "The part with the definitions did not end within 1 s; it was stopped.")
    ]


@pytest.mark.parametrize(
    "event",
    [
        {"results": {}},
        {"results": {"two objects": 2}},
        {"results": 7},
        {"results": {"two objects": {"tensor": 1}}},
        {"stopped": 1},
        {},
    ],
)
def test_a_forged_result_is_worth_nothing(event: dict[str, Any]) -> None:
    right, reason = runner._verdict(fresh.exercises("00")["count_objects"], event, [])
    assert not right
    assert "no result" in reason


def test_impossible_orders_are_refused() -> None:
    with pytest.raises(TutorialError, match="page 00 has no exercise 'stars'"):
        grade(code(""), "00", ["stars"])
    with pytest.raises(TutorialError, match="limits must be positive"):
        Limits(seconds=0)


# --- the command -------------------------------------------------------------------------------------------------


def test_a_folder_of_submissions_becomes_a_csv(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Ada knows the page's cases by heart, which is one point of two; the other file is none."""
    exercise = fresh.exercises("00")["count_objects"]
    known = {tuple(m.unique().tolist()): exercise.reference(m) for (m,) in exercise.cases.values()}
    by_heart = f"KNOWN = {known}\ndef count_objects(mask):\n    return KNOWN.get(tuple(mask.unique().tolist()), 0)\n"
    folder = tmp_path / "in"
    (folder / "ada" / "deeper").mkdir(parents=True)
    cells = [{"cell_type": "code", "source": [by_heart], "metadata": {}}]
    (folder / "ada" / "deeper" / "answer.ipynb").write_text(json.dumps({"cells": cells}))
    (folder / "=cmd.ipynb").write_text("broken")
    out, said = tmp_path / "out.csv", tmp_path / "said"
    assert command.main([str(PAGE), str(folder), "--seed", "5", "--out", str(out), "--feedback", str(said)]) == 0
    assert "ada: 1 of 2" in capsys.readouterr().out
    first, second = csv.DictReader(out.read_text().splitlines())
    assert (first["student"], first["points"]) == ("'=cmd", "0"), "a spreadsheet would compute =cmd"
    assert first["reason"] == "'=cmd.ipynb is no notebook; hand in the .ipynb file as Jupyter saved it."
    assert (second["student"], second["points"], second["out_of"]) == ("ada", "1", "2")
    assert (second["count_objects page"], second["count_objects fresh"]) == ("1", "0")
    assert second["reason"].startswith("Fresh cases. count_objects: wrong on the case")
    assert "1 of 2 points" in (said / "ada.md").read_text()


def test_ctrl_c_keeps_what_was_graded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("a", "b"):
        (tmp_path / f"{name}.py").write_text(RIGHT)

    def graded(student: str, *_: Any) -> command.Grade:
        if student == "b":
            raise KeyboardInterrupt
        return command.Grade(student, "a.py", (Item("count_objects", "page", True, "right"),))

    monkeypatch.setattr(command, "graded", graded)
    assert command.main([str(PAGE), str(tmp_path), "--out", str(tmp_path / "g.csv")]) == 130
    assert [row["points"] for row in csv.DictReader((tmp_path / "g.csv").read_text().splitlines())] == ["1"]
    assert "the 1 graded so far" in capsys.readouterr().err


def test_folders_that_cannot_be_graded_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main([str(PAGE), str(tmp_path)]) == 2
    assert "there is no .ipynb or .py file" in capsys.readouterr().err
    assert command.main([str(PAGE), str(tmp_path / "none")]) == 2
    assert "is no folder" in capsys.readouterr().err
    (tmp_path / "ada").mkdir()
    for name in ("one.py", "two.py"):
        (tmp_path / "ada" / name).write_text(RIGHT)
    assert command.main([str(PAGE), str(tmp_path)]) == 2
    assert "ada handed in ada/one.py, ada/two.py; keep one" in capsys.readouterr().err
    (tmp_path / "ada" / "00_start_here.py").write_text(RIGHT)
    assert command.submissions(tmp_path, "00_start_here")["ada"].name == "00_start_here.py"
    assert command.main([str(PAGE), str(tmp_path), "--seed", "-4"]) == 2
    assert "seed of fresh cases is -4" in capsys.readouterr().err
