"""The trial of a class: what each student gets, and how a failure is told. No server starts here."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tools import classroom


def test_a_student_has_a_home_and_reads_the_one_course(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("JUPYTER_CONFIG_DIR", "/mine")
    monkeypatch.setenv("VOS_TUTORIAL_RUNS", "/mine/runs")
    found = classroom._environment(tmp_path / "ada", tmp_path / "srv", "smoke")
    assert (found["HOME"], found["PYTHONPATH"]) == (str(tmp_path / "ada"), str(tmp_path / "srv"))
    assert found["VOS_TUTORIAL_PROFILE"] == "smoke"
    assert not {"JUPYTER_CONFIG_DIR", "VOS_TUTORIAL_RUNS"} & set(found)


def test_a_student_whose_notebook_fails_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    line = '{"notebook": "00_start_here", "seconds": 3.0, "cpu_seconds": 2.0, "peak_mib": 700}'

    def student(names: list[str], home: Path, *_: object) -> subprocess.Popen[str]:
        code = f"print('{line}')" if home.name == "student1" else "import sys; sys.exit('no such cell')"
        return subprocess.Popen(
            [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    monkeypatch.setattr(classroom, "_student", student)
    found = classroom.try_class(["00_start_here"], classroom.ROOT, tmp_path, 2, "smoke", servers=False)
    assert found["runs"] == [
        {"student": "student1", "notebook": "00_start_here", "seconds": 3.0, "cpu_seconds": 2.0, "peak_mib": 700}
    ]
    assert found["failed"] == ["student2: no such cell"]
    assert (tmp_path / "student2" / "notebooks" / "00_start_here.ipynb").is_file()
    classroom.report(found)


@pytest.mark.parametrize(
    ("arguments", "complaint"), [(["77"], "there is no notebook 77"), (["00", "--course", "/"], "holds no copy")]
)
def test_impossible_classes_are_refused(
    arguments: list[str], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        classroom.main(arguments)
    assert complaint in capsys.readouterr().err
