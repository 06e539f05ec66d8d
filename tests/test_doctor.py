"""The doctor's page: each problem is found, and told with its fix; the layout does not change from run to run."""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
from safetensors.numpy import save_file

from vos_tutorial import __main__, doctor, places, profile


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user may enter, which pytest's own are not."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        yield Path(folder)


@pytest.fixture
def course(open_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout of the test's own, with one file of weights; no word of the environment leads to real video."""
    import numpy as np

    folder = open_folder / "data" / "weights"
    folder.mkdir(parents=True)
    save_file({"a": np.zeros(3, dtype=np.float32)}, folder / "small.safetensors")
    monkeypatch.setattr(places, "CHECKOUT", open_folder)
    monkeypatch.setattr(places, "WEIGHTS", folder)
    monkeypatch.delenv("VOS_TUTORIAL_DAVIS", raising=False)
    return open_folder


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
        doctor.Finding("b", "bad", "3", "problem", "fix it."),
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
        "to fix",
        "! bad: fix it.",
        "",
        "notes",
        "- so-so: could be better.",
        "",
        "1 problem to fix before everything works here.",
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


REQUIRES = ["torch>=2.4", 'jupyterlab>=4.2; extra == "course"', 'jupytext>=1.16; extra == "course"']


@pytest.fixture
def lists(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the package asks for, whatever the environment was made of."""
    real = importlib.metadata.requires
    monkeypatch.setattr(importlib.metadata, "requires", lambda name: REQUIRES if name == places.NAME else real(name))


@pytest.mark.parametrize("name", ["torch", "jupytext"])
def test_a_missing_package(name: str, versions: Callable[..., None], lists: None) -> None:
    versions(**{name: None})
    assert only_problem(list(doctor.package_versions())).fix.startswith(f"{name} is not installed")


@pytest.mark.parametrize("checkout", [True, False])
def test_a_library_without_the_course_is_fine(
    checkout: bool, versions: Callable[..., None], lists: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not checkout:
        monkeypatch.setattr(places, "CHECKOUT", None)
    versions(jupytext=None, anywidget=None, nbval=None)
    library, course = doctor.package_versions()
    assert library.level == "ok"
    assert course.level == "note"
    assert "[course]" in course.fix
    assert list(doctor.widget_files()) == []


def test_a_course_in_part_beside_an_installed_library_is_nothing_to_fix(
    versions: Callable[..., None], lists: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(places, "CHECKOUT", None)
    versions(nbval=None)  # jupytext is there, for something else
    assert [f.level for f in doctor.package_versions()] == ["ok", "note"]


def test_without_packaging_the_page_still_prints(
    course: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(doctor, "CAN_COMPARE", False)
    assert "packaging is not installed" in only_problem(doctor.findings()).fix


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
    assert "anywidget" in only_problem(list(doctor.widget_files())).value


def test_little_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_memory_of_machine", lambda: (8 * doctor.GIB, doctor.GIB // 2))
    assert only_problem([doctor.memory()]).value.startswith("0.5 GiB available of")


def test_a_container_may_have_less_memory_than_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_memory_of_machine", lambda: (64 * doctor.GIB, 60 * doctor.GIB))
    monkeypatch.setattr(doctor, "_container_limit", lambda: 2 * doctor.GIB)
    assert doctor.memory().value == "2.0 GiB available of 2.0 GiB"


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells its memory in a file")
def test_memory_without_psutil(monkeypatch: pytest.MonkeyPatch) -> None:
    with_psutil = doctor._memory_of_machine()
    monkeypatch.setitem(sys.modules, "psutil", None)
    without = doctor._memory_of_machine()
    assert with_psutil is not None
    assert without is not None
    assert without[0] == with_psutil[0]
    assert 0 < without[1] <= without[0]


def test_memory_that_nobody_tells(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_memory_of_machine", lambda: None)
    assert doctor.memory().level == "ok"


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
    monkeypatch.setattr(places, "CHECKOUT", tmp_path / "gone")
    monkeypatch.setenv(places.RUNS_VARIABLE, str(tmp_path / "gone" / "runs"))
    assert "cannot be written to" in only_problem(list(doctor.folders())).fix


def test_one_read_only_copy_for_many_is_no_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "CHECKOUT", tmp_path / "gone")
    monkeypatch.setenv(places.RUNS_VARIABLE, str(tmp_path / "mine"))
    (finding,) = doctor.folders()
    assert finding.level == "note"
    assert f"training runs go to {tmp_path / 'mine'}" in finding.fix
    assert not (tmp_path / "mine").exists(), "looking makes nothing"


def test_an_installed_package_tells_where_downloads_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "CHECKOUT", None)
    monkeypatch.setattr(places, "downloads", lambda: tmp_path / "not yet" / "there")
    package, downloads = doctor.folders()
    assert package.value == str(places.PACKAGE)
    assert downloads.value == f"{tmp_path / 'not yet' / 'there'}, writable"
    assert not (tmp_path / "not yet").exists(), "looking makes nothing"


def test_weights_missing_or_damaged(course: Path) -> None:
    assert doctor.weights().value == "1 file"
    (file,) = course.glob("data/weights/*")
    file.write_bytes(file.read_bytes()[:-4])
    assert "small.safetensors is damaged" in only_problem([doctor.weights()]).fix
    file.unlink()
    assert "holds no weights" in only_problem([doctor.weights()]).fix
    file.parent.rmdir()
    assert "holds no weights" in only_problem([doctor.weights()]).fix


def test_weights_are_restored_from_where_they_came(course: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (file,) = course.glob("data/weights/*")
    file.write_bytes(b"")
    assert "copy it again" in doctor.weights().fix
    (course / ".git").mkdir()
    assert doctor.weights().fix.endswith("checkout -- data/weights/small.safetensors."), "and nothing else"
    monkeypatch.setattr(places, "CHECKOUT", None)
    assert "git" not in doctor.weights().fix
    assert "install vos_tutorial again" in doctor.weights().fix


@contextmanager
def closed(path: Path) -> Iterator[None]:
    """For a while the path may not be read. Root, who may read all, is nobody for the time."""
    mode, is_root = path.stat().st_mode, os.geteuid() == 0
    path.chmod(0)
    if is_root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if is_root:
            os.seteuid(0)
        path.chmod(mode)


def test_weights_that_may_not_be_read(course: Path) -> None:
    (file,) = course.glob("data/weights/*")
    with closed(file):
        problem = only_problem([doctor.weights()])
    assert "permission denied" in problem.fix
    assert "damaged" not in problem.fix
    assert "checkout" not in problem.fix, "a good file must not be overwritten"


def test_a_folder_of_weights_that_may_not_be_read(course: Path) -> None:
    with closed(course / "data" / "weights"):
        found = doctor.weights()
    assert "cannot be read (permission denied)" in only_problem([found]).fix


def test_davis_folders(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("VOS_TUTORIAL_DAVIS", raising=False)
    davis = importlib.import_module("vos_tutorial.data.davis")
    monkeypatch.setattr(davis, "find_davis", lambda year: tmp_path if year == 2016 else None)
    first, second = doctor.davis()
    assert (first.level, first.value) == ("ok", str(tmp_path))
    assert second.level == "note"
    assert "download davis2017" in second.fix


def test_no_davis_by_choice_is_no_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VOS_TUTORIAL_DAVIS", "none")
    assert [finding.level for finding in doctor.davis()] == ["note", "note"]


def davis_folder(root: Path, *lists: str) -> Path:
    for part in ("JPEGImages/480p/bear", "Annotations/480p/bear"):
        (root / part).mkdir(parents=True)
    for name in lists:
        (root / "ImageSets" / name).parent.mkdir(parents=True)
        (root / "ImageSets" / name).write_text("bear\n")
    return root


@pytest.mark.parametrize(("name", "levels"), [("480p/val.txt", ["ok", "note"]), ("2017/val.txt", ["note", "ok"])])
def test_one_year_of_davis_is_enough(
    name: str, levels: list[str], course: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("VOS_TUTORIAL_DAVIS", str(davis_folder(tmp_path / "DAVIS", name)))
    found = list(doctor.davis())
    assert [f.level for f in found] == levels
    assert next(f for f in found if f.level == "note").fix.startswith("optional; VOS_TUTORIAL_DAVIS is ")
    assert doctor.main([]) == 0


def test_a_davis_variable_that_names_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("VOS_TUTORIAL_DAVIS", str(tmp_path))
    found = list(doctor.davis())
    assert {f.level for f in found} == {"problem"}
    assert all("VOS_TUTORIAL_DAVIS" in f.fix for f in found)


@pytest.mark.parametrize("inside", ["", "ImageSets", "JPEGImages"])
def test_a_davis_folder_that_may_not_be_read(inside: str, monkeypatch: pytest.MonkeyPatch, open_folder: Path) -> None:
    folder = davis_folder(open_folder / "DAVIS", "2017/val.txt")
    monkeypatch.setenv("VOS_TUTORIAL_DAVIS", str(folder))
    with closed(folder / inside):
        found = list(doctor.davis())
    for finding in found:
        assert finding.level == "problem"
        assert f"{folder / inside} cannot be read (permission denied)" in finding.fix


def test_an_unreadable_folder_that_nobody_named_is_a_note(course: Path) -> None:
    folder = davis_folder(course / "data" / "DAVIS", "2017/val.txt")
    with closed(folder):
        found = list(doctor.davis())
    assert {f.level for f in found} == {"note"}


def test_chromium_is_the_one_that_starts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(doctor, "BROWSER_FILES", ())
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("PLAYWRIGHT_BROWSERS_PATH", str(tmp_path / "none"))
    monkeypatch.delenv("VOS_TUTORIAL_CHROMIUM", raising=False)
    assert doctor.find_chromium() is None
    assert [f.level for f in doctor.browser()] == ["note"]
    for name, status in (("chromium", 1), ("google-chrome", 0)):  # the first is a stub, as Ubuntu's without snap
        (tmp_path / name).write_text(f"#!/bin/sh\nexit {status}\n")
        (tmp_path / name).chmod(0o755)
    assert doctor.find_chromium() == tmp_path / "google-chrome"


def without(package: str, *words: str) -> subprocess.CompletedProcess[str]:
    code = (
        f"import sys; sys.modules[{package!r}] = None; "
        "from vos_tutorial.__main__ import main; sys.exit(main(sys.argv[1:]))"
    )
    command = [sys.executable, "-c", code, *words]
    return subprocess.run(command, cwd=places.CHECKOUT, capture_output=True, text=True, timeout=120)


def test_the_page_prints_where_torch_is_missing() -> None:
    done = without("torch", "doctor")
    assert done.returncode == 1, done.stderr
    assert "! torch and torchvision" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr


@pytest.mark.parametrize("command", ["train", "evaluate"])
def test_a_command_without_its_packages_says_so_in_one_sentence(command: str) -> None:
    done = without("torch", command, "stm")
    assert done.returncode == 2
    assert done.stderr.startswith("error: torch is not installed in ")
    assert done.stderr.count("\n") == 1


def test_a_torch_that_does_not_load_stops_a_command_in_one_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(name: str) -> None:
        raise OSError("libcudart.so: cannot open shared object file\nand more")

    monkeypatch.setattr(importlib, "import_module", broken)
    assert __main__.main(["train", "stm"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: train cannot start (libcudart.so: cannot open shared object file); python -m")


def test_a_missing_module_of_ours_is_our_mistake(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__main__.COMMANDS, "doctor", ("vos_tutorial.docter", ""))
    with pytest.raises(ModuleNotFoundError):
        __main__.main(["doctor"])


def test_a_reader_that_leaves_early_is_no_traceback() -> None:
    command = f"{sys.executable} -m vos_tutorial doctor | head -1; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], cwd=places.CHECKOUT, capture_output=True, text=True, timeout=120)
    assert done.stdout.startswith("vos_tutorial ")
    assert done.returncode in (0, __main__.BROKEN_PIPE)  # 0: the page was written before the reader left
    assert done.stderr == ""


def test_output_into_a_closed_pipe() -> None:
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "vos_tutorial", "doctor"]
    done = subprocess.run(command, cwd=places.CHECKOUT, stdout=write, stderr=subprocess.PIPE, text=True, timeout=120)
    os.close(write)
    assert (done.returncode, done.stderr) == (__main__.BROKEN_PIPE, "")
