"""The doctor's page: each problem is found, and told with its fix; the layout does not change from run to run."""

from __future__ import annotations

import importlib
import importlib.metadata
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from safetensors.numpy import save_file

from vos_tutorial import __main__, doctor, profile


@pytest.fixture
def course(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout of the test's own, with one file of weights."""
    import numpy as np

    folder = tmp_path / "data" / "weights"
    folder.mkdir(parents=True)
    save_file({"a": np.zeros(3, dtype=np.float32)}, folder / "small.safetensors")
    monkeypatch.setattr(doctor, "CHECKOUT", tmp_path)
    return tmp_path


@pytest.fixture
def versions(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Pretend that packages are of other versions (None: not installed)."""
    real = importlib.metadata.version

    def pretend(**other: str | None) -> None:
        def version(name: str) -> str:
            found = other[name] if name in other else real(name)
            if found is None:
                raise importlib.metadata.PackageNotFoundError(name)
            return found

        monkeypatch.setattr(importlib.metadata, "version", version)

    return pretend


def only_problem(found: list[doctor.Finding]) -> doctor.Finding:
    problems = [f for f in found if f.level == "problem"]
    assert len(problems) == 1, problems
    assert problems[0].fix.count(". ") == 0, "a fix is one sentence"
    return problems[0]


def test_this_machine_passes(course: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert doctor.main([]) == 0
    page = capsys.readouterr().out
    assert page.count("\n") < 60
    for word in (
        "python ",
        "torch ",
        "jupyterlab",
        "anywidget",
        "CPU cores",
        "memory",
        "disk",
        "profile",
        "DAVIS-2016",
    ):
        assert word in page
    assert "Everything that the course needs is here." in page


def test_the_command_line_knows_it(course: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert __main__.main(["doctor"]) == 0
    assert "machine" in capsys.readouterr().out


def test_the_layout_repeats(course: Path) -> None:
    first, second = doctor.findings(), doctor.findings()
    assert [(f.section, f.name) for f in first] == [(f.section, f.name) for f in second]
    assert all((f.level == "ok") == (f.fix == "") for f in first)


def test_report_marks_problems_and_notes() -> None:
    found = [
        doctor.Finding("a", "good", "1"),
        doctor.Finding("a", "so-so", "2", "note", "could be better."),
        doctor.Finding("b", "bad", "3", "problem", "mend it."),
    ]
    assert doctor.report(found).splitlines()[1:] == [
        "",
        "a",
        "  good   1",
        "- so-so  2",
        "",
        "b",
        "! bad    3",
        "",
        "to mend",
        "! bad: mend it.",
        "",
        "notes",
        "- so-so: could be better.",
        "",
        "1 problem to mend before the course works here.",
    ]


def test_a_problem_sets_the_exit_status(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "findings", lambda: [doctor.Finding("a", "b", "c", "problem", "d.")])
    assert doctor.main([]) == 1
    monkeypatch.setattr(doctor, "findings", lambda: [doctor.Finding("a", "b", "c", "note", "d.")])
    assert doctor.main([]) == 0


def test_old_python(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor.platform, "python_version", lambda: "3.9.18")
    assert "Python must be >=3.10" in only_problem([doctor.python_version()]).fix


def test_a_version_is_compared_as_a_version_not_as_text(versions: Callable[..., None]) -> None:
    versions(torch="2.10.0", numpy="1.9.3")  # as text, 2.10 < 2.4 and 1.9 > 1.26
    problem = only_problem(list(doctor.package_versions()))
    assert problem.name == "numpy"
    assert ">=1.26" in problem.fix


def test_a_missing_package(versions: Callable[..., None]) -> None:
    versions(jupytext=None)
    assert only_problem(list(doctor.package_versions())).fix.startswith("jupytext is not installed")


def test_a_torch_of_another_torchvision_is_seen_without_importing_it(
    versions: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    versions(torch="2.3.1+cpu")
    monkeypatch.setattr(importlib, "import_module", lambda name: pytest.fail(f"imported {name}"))
    problem = only_problem([doctor.torch_pair()])
    assert "was built for torch==" in problem.fix
    assert "2.3.1+cpu" in problem.fix


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("operator torchvision::nms does not exist"),
        ImportError("libcudart.so"),
        OSError("undefined symbol"),
    ],
)
def test_a_torchvision_that_does_not_load(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(name: str) -> None:
        if name == "torchvision":
            raise error

    monkeypatch.setattr(importlib, "import_module", broken)
    problem = only_problem([doctor.torch_pair()])
    assert str(error) in problem.fix
    assert "constraints.txt" in problem.fix


def test_widgets_without_their_browser_half(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    assert "anywidget" in only_problem([doctor.widget_files()]).value


def test_little_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = SimpleNamespace(total=8 * doctor.GIB, available=doctor.GIB // 2)
    monkeypatch.setattr(doctor.psutil, "virtual_memory", lambda: machine)
    assert only_problem([doctor.memory()]).value.startswith("0.5 GiB available of")


def test_a_container_may_have_less_memory_than_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        doctor.psutil, "virtual_memory", lambda: SimpleNamespace(total=64 * doctor.GIB, available=60 * doctor.GIB)
    )
    monkeypatch.setattr(doctor, "_container_limit", lambda: 2 * doctor.GIB)
    assert doctor.memory().value == "2.0 GiB available of 2.0 GiB"


def test_a_full_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda path: SimpleNamespace(free=10))
    assert "is free on the disk" in only_problem([doctor.disk()]).fix


def test_a_wrong_profile(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(profile.VARIABLE, "huge")
    assert "'huge'" in only_problem([doctor.profile()]).fix


def test_the_profile_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(profile.VARIABLE, "smoke")
    assert doctor.profile().value == "smoke, because VOS_TUTORIAL_PROFILE says so"


def test_a_gpu_that_torch_does_not_see(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(doctor.shutil, "which", lambda name: "/usr/bin/nvidia-smi" if name == "nvidia-smi" else None)
    (finding,) = doctor.devices()
    assert finding.level == "note"
    assert "update the NVIDIA driver" in finding.fix


def test_a_folder_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "CHECKOUT", tmp_path / "gone")
    assert "cannot be written to" in only_problem([doctor.checkout()]).fix


def test_weights_missing_or_damaged(course: Path) -> None:
    assert doctor.weights().value == "1 file"
    (file,) = course.glob("data/weights/*")
    file.write_bytes(file.read_bytes()[:-4])
    assert "small.safetensors is damaged" in only_problem([doctor.weights()]).fix
    file.unlink()
    assert "holds no weights" in only_problem([doctor.weights()]).fix


def test_davis_folders(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("VOS_TUTORIAL_DAVIS", raising=False)
    davis = importlib.import_module("vos_tutorial.data.davis")
    monkeypatch.setattr(davis, "find_davis", lambda year: tmp_path if year == 2016 else None)
    first, second = doctor.davis()
    assert (first.level, first.value) == ("ok", str(tmp_path))
    assert second.level == "note"
    assert "download davis2017" in second.fix


def test_a_davis_variable_that_names_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("VOS_TUTORIAL_DAVIS", str(tmp_path))
    assert {f.level for f in doctor.davis()} == {"problem"}


def test_chromium_is_the_one_that_starts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(doctor, "BROWSER_FILES", ())
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("PLAYWRIGHT_BROWSERS_PATH", str(tmp_path / "none"))
    monkeypatch.delenv("VOS_TUTORIAL_CHROMIUM", raising=False)
    assert doctor.find_chromium() is None
    assert doctor.browser().level == "note"
    for name, status in (("chromium", 1), ("google-chrome", 0)):  # the first is a stub, as Ubuntu's without snap
        (tmp_path / name).write_text(f"#!/bin/sh\nexit {status}\n")
        (tmp_path / name).chmod(0o755)
    assert doctor.find_chromium() == tmp_path / "google-chrome"


def test_without_its_own_packages_it_says_so_in_one_sentence() -> None:
    code = (
        "import sys; sys.modules['psutil'] = None; from vos_tutorial.__main__ import main; sys.exit(main(['doctor']))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert done.stderr.startswith("error: psutil is not installed")
    assert "Traceback" not in done.stderr
