"""The files that set up a machine: pins without hosts, one pair of torch and torchvision, targets that exist."""

from __future__ import annotations

import argparse
import ast
import importlib.util
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import yaml
from packaging.requirements import Requirement

from vos_tutorial import __version__
from vos_tutorial.course.lessons import COURSE
from vos_tutorial.places import NAME

ROOT = Path(__file__).resolve().parent.parent
PINS = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if line.strip()]
PYTHONS = ("3.10", "3.11", "3.12", "3.13", "3.14")


def load_tool(name: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A script of tools/, imported the way that running it would."""
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    spec = importlib.util.spec_from_file_location(f"tool_{name}", ROOT / "tools" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def pins_for(python: str, system: str = "linux") -> dict[str, str]:
    """Name -> version of the lines that hold on one kind of machine."""
    environment = {
        "python_version": python,
        "python_full_version": f"{python}.9",
        "sys_platform": system,
        "platform_machine": {"linux": "x86_64", "darwin": "arm64", "win32": "AMD64"}[system],
        "os_name": "nt" if system == "win32" else "posix",
        "platform_python_implementation": "CPython",
        "implementation_name": "cpython",
    }
    found: dict[str, str] = {}
    for requirement in map(Requirement, PINS):
        if requirement.marker is None or requirement.marker.evaluate(environment):
            assert requirement.name not in found, f"{requirement.name} is pinned twice for Python {python}"
            found[requirement.name] = str(requirement.specifier)
    return found


# --- pins ---------------------------------------------------------------------------------------------------------


def test_every_pin_is_exact_and_names_no_place() -> None:
    for line in PINS:
        requirement = Requirement(line)  # also refuses options such as --index-url
        assert re.fullmatch(r"==[\w.]+", str(requirement.specifier)), line  # no local version such as +cpu either
        assert requirement.url is None, line
        assert "://" not in line


@pytest.mark.parametrize("python", PYTHONS)
def test_the_pins_hold_all_that_pyproject_asks_for(python: str) -> None:
    text = (ROOT / "pyproject.toml").read_text()
    extras = ("dependencies", "course", "video", "flux", "site", "grading", "train", "dev")
    lists = re.findall(rf"^(?:{'|'.join(extras)}) = (\[.*?\])$", text, flags=re.DOTALL | re.MULTILINE)
    assert len(lists) == len(extras)
    assert text[text.index("[project.optional-dependencies]") :].split("\n[")[0].count(" = [") == len(extras) - 1
    pins = pins_for(python)
    wanted_by_us = [Requirement(item) for part in lists for item in ast.literal_eval(part)]
    own = [wanted for wanted in wanted_by_us if wanted.name == NAME]  # course and dev stand on other extras
    assert [wanted.extras for wanted in own] == [{"video"}, {"course", "train", "flux", "site"}]
    for wanted in (wanted for wanted in wanted_by_us if wanted.name != NAME):
        assert wanted.name in pins, f"{wanted.name} is in pyproject.toml but not in constraints.txt; run make pins"
        assert wanted.specifier.contains(pins[wanted.name].removeprefix("==")), wanted


def test_torch_and_torchvision_are_a_pair() -> None:
    pairs = {(pins_for(python)["torch"], pins_for(python)["torchvision"]) for python in PYTHONS}
    assert pairs == {("==2.14.0", "==0.29.0")}  # change both together: torchvision's metadata names its torch


def test_gpu_libraries_are_for_linux_only() -> None:
    assert any(name.startswith("nvidia-") for name in pins_for("3.12", "linux"))
    for system in ("darwin", "win32"):
        assert not [name for name in pins_for("3.12", system) if name.startswith(("nvidia-", "triton"))]


def test_no_other_lock_file() -> None:
    assert not (ROOT / "uv.lock").exists()


# --- the other files ----------------------------------------------------------------------------------------------


def test_environment_yml_leaves_the_packages_to_pip() -> None:
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    assert environment["channels"] == ["conda-forge", "nodefaults"]
    *conda, pip = environment["dependencies"]
    assert [re.split(r"[=<>]", name)[0] for name in conda] == ["python", "pip"]
    assert pip == {"pip": ["-c constraints.txt", "-e .[course]"]}


def test_workflows_run_what_ci_runs() -> None:
    workflow = yaml.safe_load((ROOT / ".github/workflows/test.yml").read_text())
    job = workflow["jobs"]["test"]
    assert job["strategy"]["matrix"]["python"] == ["3.10", "3.12"]
    assert {"run": "bash .ci/run"} in job["steps"]
    newest = yaml.safe_load((ROOT / ".github/workflows/newest.yml").read_text())
    commands = " ".join(step.get("run", "") for step in newest["jobs"]["newest"]["steps"])
    assert "constraints" not in commands
    assert "nbval-lax" in commands


def test_devcontainer_is_plain_json_and_uses_a_real_target() -> None:
    container = json.loads((ROOT / ".devcontainer/devcontainer.json").read_text())
    assert container["postCreateCommand"] == "make setup"
    assert 8888 in container["forwardPorts"]


def test_ci_script_is_strict_bash() -> None:
    text = (ROOT / ".ci/run").read_text()
    assert text.startswith("#!/usr/bin/env bash\n")
    assert "set -euo pipefail" in text
    assert "make test" in text
    assert subprocess.run(["bash", "-n", ROOT / ".ci/run"]).returncode == 0


def test_licences_and_citation() -> None:
    assert "Apache License" in (ROOT / "LICENSE").read_text()
    assert "END OF TERMS AND CONDITIONS" in (ROOT / "LICENSE").read_text()
    text = (ROOT / "LICENSE-text").read_text()
    assert all(f"Section {number} --" in text for number in range(1, 9))
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["license"] == ["Apache-2.0", "CC-BY-4.0"]
    assert citation["authors"] == [{"name": "The vos_tutorial authors"}]


def test_the_version_stands_in_one_place() -> None:
    for name in ("pyproject.toml", "CITATION.cff", "setup.py"):
        assert __version__ not in (ROOT / name).read_text(), name
    changes = re.findall(r"^## \[(.+?)\]", (ROOT / "CHANGELOG.md").read_text(), flags=re.MULTILINE)
    assert changes[0] == "Unreleased"
    assert __version__ in changes[1:] or changes == ["Unreleased"]


def test_make_targets_and_parts_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    makefile = (ROOT / "Makefile").read_text()
    parts = re.search(r"^PARTS := (.+)$", makefile, flags=re.MULTILINE)
    assert parts is not None
    suite = load_tool("suite", monkeypatch)
    assert set(parts[1].split()) <= set(suite.PARTS)
    for target in ("lab", "test", "notebooks", "site", "bench", "clean", "help", "setup"):
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE), target
    assert ".DEFAULT_GOAL := help" in makefile


def test_readme_names_what_exists() -> None:
    readme = (ROOT / "README.md").read_text()
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"\bmake ([a-z-]+)", readme):
        assert re.search(rf"^{target}:|^PARTS.* {target}\b", makefile, flags=re.MULTILINE), target
    for name in re.findall(r"`([\w.-]+\.(?:yml|txt|toml|cff|py))`", readme):
        assert (ROOT / name).exists() or list(ROOT.glob(f"*/{name}")), name
    rows = re.findall(r"^\| `(\d\d_\w+)` \| (.*) \|$", readme, flags=re.MULTILINE)
    assert rows == [(lesson.name, lesson.promise) for lesson in COURSE]
    for name, _ in rows:
        assert (ROOT / "notebooks" / f"{name}.ipynb").exists(), name
    colab, _ = re.findall(r"```python\n(.*?)```", readme, flags=re.DOTALL)  # test_installed.py runs the other one
    ast.parse("\n".join(line for line in colab.splitlines() if line[0] not in "!%"))
    assert '-e "..[course]"' in colab


def test_settings_lists_every_variable_and_every_extra() -> None:
    told = (ROOT / "docs/settings.md").read_text()
    files = [file for folder in ("vos_tutorial", "tools", "tests") for file in (ROOT / folder).rglob("*.py")]
    used = {name for file in files for name in re.findall(r"\bVOS_TUTORIAL_[A-Z_]+[A-Z]", file.read_text("utf-8"))}
    assert set(re.findall(r"^\| `(VOS_\w+)` \|", told, flags=re.MULTILINE)) == used
    extras = (ROOT / "pyproject.toml").read_text().split("[project.optional-dependencies]")[1].split("\n[")[0]
    rows = re.findall(r"^\| `([a-z]+)` \|", told, flags=re.MULTILINE)
    assert sorted(rows) == sorted(re.findall(r"^([a-z]+) = \[", extras, flags=re.MULTILINE))


def test_contributing_knows_the_workflows_and_what_grading_runs() -> None:
    told = (ROOT / "CONTRIBUTING.md").read_text()
    files = sorted((ROOT / ".github/workflows").glob("*.yml"))
    assert sorted(re.findall(r"^\| `\.github/workflows/(\w+\.yml)` \|", told, flags=re.MULTILINE)) == [
        file.name for file in files
    ]
    workflows = [yaml.safe_load(file.read_text()) for file in files]
    assert {job["timeout-minutes"] for workflow in workflows for job in workflow["jobs"].values()} == {40}
    assert "Each job is stopped after 40 minutes." in told
    grading = yaml.safe_load((ROOT / ".github/workflows/grading.yml").read_text())["jobs"]["grading"]["steps"]
    for command in (step["run"] for step in grading if "run" in step):
        assert command.split("&& ")[-1] in told


def commands_in(text: str) -> list[str]:
    """Whole commands of ours in a text, from code blocks and from backticks; a command's bare name is none.

    Each begins with its module or the script in tools/, as in ``"vos_tutorial train stm"``.
    """
    blocks = re.findall(r"^```\w*\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE)
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    spans = re.findall(r"`([^`]+)`", re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE))
    ours = r"(?:-m (vos_tutorial(?:\.\w+)* .+)|\b(tools/\w+\.py .+))"
    found = [re.search(ours, " ".join(code.split())) for code in (*lines, *spans)]
    commands = [match[1] or match[2] for match in found if match]
    return [c for c in commands if len(shlex.split(c, comments=True)) > (2 if c.startswith("vos_tutorial ") else 1)]


PAPERS = ["README.md", "CONTRIBUTING.md", "data/README.md", "docs/*.md", "notebooks/teaching/*.md"]


@pytest.mark.parametrize(
    "file",
    [
        "README.md",
        "data/README.md",
        "CONTRIBUTING.md",
        "docs/grading.md",
        "docs/scale.md",
        "docs/server.md",
        "notebooks/teaching/project_new_method.md",
    ],
)
def test_commands_are_found_in_our_texts(file: str) -> None:
    assert commands_in((ROOT / file).read_text("utf-8"))
    assert any((ROOT / file) in ROOT.glob(pattern) for pattern in PAPERS)


def test_what_is_a_command_in_a_text() -> None:
    text = """`python -m vos_tutorial train` has `-m vos_tutorial train stm
    --profile gpu`, `tools/notebooks.py` and `python tools/grading.py try`.

```
python -m vos_tutorial compare --methods stm \\
  --out DIR   # both
.venv/bin/python -m vos_tutorial.course.grading page.ipynb in --out grades.csv
```
"""
    assert commands_in(text) == [
        "vos_tutorial compare --methods stm --out DIR # both",
        "vos_tutorial.course.grading page.ipynb in --out grades.csv",
        "vos_tutorial train stm --profile gpu",
        "tools/grading.py try",
    ]


@pytest.mark.parametrize(
    "command", sorted({c for p in PAPERS for file in ROOT.glob(p) for c in commands_in(file.read_text("utf-8"))})
)
def test_the_commands_in_our_texts_can_be_typed(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """They go as far as the options are read: each is known, none is missing. And DAVIS's lists have their year."""

    class Understood(Exception):
        pass

    parse = argparse.ArgumentParser.parse_args

    def only_parse(self: argparse.ArgumentParser, words: list[str] | None = None) -> None:
        parse(self, words)
        raise Understood

    program, *words = shlex.split(command, comments=True)
    if program.startswith("tools/"):
        assert "parse_args" in (ROOT / program).read_text("utf-8"), "nothing would keep it from running"
        main = load_tool(Path(program).stem, monkeypatch).main
    else:
        main = importlib.import_module(f"{program}.__main__").main
    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", only_parse)
    with pytest.raises(Understood):
        main(words)
    assert "test-dev" not in words or words[words.index("--year") + 1] == "2017"  # there is none of 2016


# --- bootstrap ----------------------------------------------------------------------------------------------------


def test_bootstrap_can_be_read_by_an_old_python() -> None:
    ast.parse((ROOT / "tools/bootstrap.py").read_text(), feature_version=(3, 6))


def test_an_old_python_looks_for_a_newer_one(monkeypatch: pytest.MonkeyPatch) -> None:
    bootstrap = load_tool("bootstrap", monkeypatch)
    there = {"python3.11": "/usr/bin/python3.11", "python3.12": "/usr/bin/python3.12"}
    monkeypatch.setattr(bootstrap.shutil, "which", there.get)
    assert bootstrap.find_python((3, 8)) == "/usr/bin/python3.12"
    assert bootstrap.find_python((3, 10)) == sys.executable
    monkeypatch.setattr(bootstrap.shutil, "which", lambda name: None)
    for version in ((3, 9), (3, 15)):
        with pytest.raises(SystemExit, match=rf"Python 3\.{version[1]}, but this course needs Python 3\.10 to 3\.14"):
            bootstrap.find_python(version)


def test_bootstrap_covers_the_pythons_that_the_pins_are_tested_for(monkeypatch: pytest.MonkeyPatch) -> None:
    bootstrap = load_tool("bootstrap", monkeypatch)
    assert tuple(f"3.{minor}" for minor in range(bootstrap.OLDEST[1], bootstrap.NEWEST[1] + 1)) == PYTHONS
    assert f'requires-python = ">=3.{bootstrap.OLDEST[1]}"' in (ROOT / "pyproject.toml").read_text()


def test_the_fingerprint_follows_pins_python_and_place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    bootstrap = load_tool("bootstrap", monkeypatch)
    for name in ("pyproject.toml", "constraints.txt"):
        (tmp_path / name).write_text("a")
    marks = {bootstrap.fingerprint("3.11", str(tmp_path)), bootstrap.fingerprint("3.12", str(tmp_path))}
    (tmp_path / "constraints.txt").write_text("b")
    marks.add(bootstrap.fingerprint("3.11", str(tmp_path)))
    assert len(marks) == 3
    assert bootstrap.fingerprint("3.11", str(tmp_path)) in marks


def small_checkout(tmp_path: Path) -> Path:
    """A checkout whose package needs nothing, so that setting it up needs no network."""
    (tmp_path / "tools").mkdir()
    (tmp_path / "tools/bootstrap.py").write_text((ROOT / "tools/bootstrap.py").read_text())
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "nothing"\nversion = "0"\n')
    (tmp_path / "constraints.txt").write_text("")
    return tmp_path


def test_a_half_made_environment_is_made_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkout = small_checkout(tmp_path)
    (checkout / ".venv/bin").mkdir(parents=True)
    (checkout / ".venv/bin/python").write_text("not a Python")
    (checkout / ".venv/.ready").write_text("of another day")
    spec = importlib.util.spec_from_file_location("small_bootstrap", checkout / "tools/bootstrap.py")
    assert spec is not None
    assert spec.loader is not None
    bootstrap = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(bootstrap)

    made: list[str] = []
    calls: list[list[str]] = []

    def make(python: str) -> None:
        made.append(python)
        (checkout / ".venv/bin/python").unlink(missing_ok=True)
        (checkout / ".venv/bin/python").symlink_to(sys.executable)

    def call(command: list[str], **options: object) -> int:
        calls.append(command)
        return 1 if len(calls) == 1 else 0

    monkeypatch.setattr(bootstrap, "make_venv", make)
    monkeypatch.setattr(bootstrap.subprocess, "call", call)
    with pytest.raises(SystemExit, match="pip could not install"):
        bootstrap.main()
    assert len(made) == 1
    assert not (checkout / ".venv/.ready").exists(), "a failed set-up must not look finished"
    bootstrap.main()
    assert len(made) == 1, "what works is kept"
    assert calls[1][-4:] == ["-c", "constraints.txt", "-e", ".[dev]"]
    bootstrap.main()
    assert len(calls) == 2, "nothing to do the third time"
    (checkout / "constraints.txt").write_text("numpy==1.26.4\n")
    bootstrap.main()
    assert len(calls) == 3


def test_without_venv_module_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bootstrap = load_tool("bootstrap", monkeypatch)
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.setattr(bootstrap, "version_of", lambda python, needs="sys": "" if "venv" in needs else "3.11")
    monkeypatch.setattr(bootstrap, "VENV", str(tmp_path / "venv"))
    with pytest.raises(SystemExit, match="apt-get install python3-venv"):
        bootstrap.make_venv(sys.executable)
    assert not (tmp_path / "venv").exists()


# --- chromium -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("debian", "found", "tried"),
    [
        (True, [True], []),
        (True, [False, True, True], ["apt"]),
        (True, [False, False, True], ["apt", "playwright"]),
        (False, [False, False, False], ["playwright"]),
    ],
)
def test_chromium_is_installed_only_where_there_is_none_and_never_fails_the_run(
    debian: bool, found: list[bool], tried: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    chromium = load_tool("chromium", monkeypatch)
    answers, calls = iter(found), []
    monkeypatch.setattr(chromium, "find_chromium", lambda: Path("chromium") if next(answers) else None)
    monkeypatch.setattr(chromium, "is_debian", lambda: debian)
    monkeypatch.setattr(chromium, "apt_install", lambda *packages: calls.append("apt"))
    monkeypatch.setattr(chromium, "playwright_install", lambda: calls.append("playwright"))
    assert chromium.main() == 0
    assert calls == tried


def test_ubuntu_is_not_debian(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chromium = load_tool("chromium", monkeypatch)
    release = tmp_path / "os-release"
    assert not chromium.is_debian(release)
    release.write_text("ID=ubuntu\nID_LIKE=debian\n")
    assert not chromium.is_debian(release)
    release.write_text("NAME=Debian\nID=debian\n")
    assert chromium.is_debian(release)


# --- lab ----------------------------------------------------------------------------------------------------------


def test_lab_is_local_with_a_token(monkeypatch: pytest.MonkeyPatch) -> None:
    lab = load_tool("lab", monkeypatch)
    monkeypatch.setattr(lab, "is_root", lambda: False)
    monkeypatch.setattr(lab, "has_screen", lambda: True)
    options = lab.arguments("secret", ["--port", "9000"])
    assert "--ServerApp.ip=127.0.0.1" in options
    assert "--IdentityProvider.token=secret" in options
    assert options[-2:] == ["--port", "9000"]
    assert "--allow-root" not in options
    assert "--no-browser" not in options


def test_lab_as_root_and_headless(monkeypatch: pytest.MonkeyPatch) -> None:
    lab = load_tool("lab", monkeypatch)
    monkeypatch.setattr(lab, "is_root", lambda: True)
    monkeypatch.setattr(lab, "has_screen", lambda: False)
    assert lab.arguments("secret", [])[-2:] == ["--allow-root", "--no-browser"]


@pytest.mark.parametrize(
    ("environment", "platform", "seen"),
    [
        ({}, "linux", False),
        ({"DISPLAY": ":0"}, "linux", True),
        ({"WAYLAND_DISPLAY": "wayland-0"}, "linux", True),
        ({"DISPLAY": ":10", "SSH_CONNECTION": "1 2 3 4"}, "linux", False),
        ({}, "darwin", True),
    ],
)
def test_lab_opens_a_browser_only_where_it_is_seen(
    environment: dict[str, str], platform: str, seen: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert load_tool("lab", monkeypatch).has_screen(environment, platform) is seen


def test_lab_leaves_out_what_the_reader_sets(monkeypatch: pytest.MonkeyPatch) -> None:
    lab = load_tool("lab", monkeypatch)
    monkeypatch.setattr(lab, "is_root", lambda: True)
    monkeypatch.setattr(lab, "has_screen", lambda: False)
    given = [
        "--ip=::1",
        "--ServerApp.port_retries=0",
        "--IdentityProvider.token=mine",
        "--no-browser",
        "--allow-root",
    ]
    names = [option.split("=")[0] for option in lab.arguments("secret", given)]
    assert "--ServerApp.ip" not in names, "JupyterLab stops when a value is given twice"
    assert sorted(names) == sorted(set(names))
    assert names[-5:] == [option.split("=")[0] for option in given]


@pytest.mark.parametrize("question", ["--help", "--help-all", "--version"])
def test_lab_passes_questions_on(
    question: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lab = load_tool("lab", monkeypatch)
    asked: list[list[str]] = []
    monkeypatch.setattr(lab.subprocess, "call", lambda command: asked.append(command) or 0)
    assert lab.main(["--port", "9000", question]) == 0
    assert asked == [[sys.executable, "-m", "jupyterlab", "--port", "9000", question]]
    assert ("make lab ARGS=" in capsys.readouterr().out) == question.startswith("--help")


def test_lab_answers_help() -> None:
    command = [sys.executable, ROOT / "tools/lab.py", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "--no-browser" in done.stdout
    assert "Traceback" not in done.stderr


def test_lab_without_jupyterlab(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    lab = load_tool("lab", monkeypatch)
    monkeypatch.setattr(lab.importlib.util, "find_spec", lambda name: None)
    assert lab.main([]) == 1
    assert capsys.readouterr().err.endswith("run: make setup\n")


def test_lab_without_its_first_notebook(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lab = load_tool("lab", monkeypatch)
    monkeypatch.setattr(lab, "ROOT", tmp_path)
    assert lab.main([]) == 1
    assert "00_start_here.ipynb is missing" in capsys.readouterr().err


# --- suite --------------------------------------------------------------------------------------------------------


def test_a_failing_part_fails_the_run_and_stops_no_other(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    suite = load_tool("suite", monkeypatch)

    def good() -> int:
        """Passes."""
        return 0

    def bad() -> int:
        """Fails."""
        return 5

    monkeypatch.setattr(suite, "PARTS", {"good": good, "bad": bad, "other": good})
    assert suite.main(["bad", "other", "good"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == "Failed: bad."
    assert [line.split()[1] for line in lines[-4:-1]] == ["FAILED", "ok", "ok"]
    assert suite.main(["good", "other"]) == 0


BROWSER_TESTS = """
import pathlib
import pytest
pytestmark = pytest.mark.browser
seen = pathlib.Path("runs-of-late")
def test_prompt():
    pass
def test_late():
    seen.write_text(seen.read_text() + "." if seen.exists() else ".")
    assert len(seen.read_text()) >= {needed}
"""


def tiny_suite(folder: Path, monkeypatch: pytest.MonkeyPatch, **files: str) -> ModuleType:
    """The suite in a checkout that holds these files of tests and nothing else."""
    suite = load_tool("suite", monkeypatch)
    (folder / "tools").mkdir()
    (folder / "tools" / "chromium.py").touch()
    (folder / "pytest.ini").write_text("[pytest]\nmarkers = browser: a browser\n")
    (folder / "tests").mkdir()
    for name, text in files.items():
        (folder / "tests" / f"test_{name}.py").write_text(text)
    monkeypatch.setattr(suite, "ROOT", folder)
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")  # quicker
    return suite


@pytest.mark.parametrize(("needed", "status", "runs"), [(1, 0, 1), (2, 0, 2), (3, 1, 2)])
def test_a_browser_test_that_fails_runs_once_more_and_the_last_line_but_one_says_so(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    needed: int,
    status: int,
    runs: int,
) -> None:
    counted = "pathlib.Path(__file__).with_suffix('.runs').open('a').write('.')"
    suite = tiny_suite(
        tmp_path,
        monkeypatch,
        page=BROWSER_TESTS.format(needed=needed),
        other=f"import pathlib, pytest\npytestmark = pytest.mark.browser\ndef test_it():\n    {counted}\n",
    )
    assert suite.main(["browser"]) == status
    assert len((tmp_path / "runs-of-late").read_text()) == runs
    assert len((tmp_path / "tests" / "test_other.runs").read_text()) == 1  # what passed is not run again
    said = capfd.readouterr().out.splitlines()
    told = "*** passed only at the second run: tests/test_page.py::test_late; please look into it"
    assert (said[-2] == told) is (needed == 2)
    assert (told in said) is (needed == 2)
    assert said[-1] == ("All parts passed." if status == 0 else "Failed: browser.")


def test_browser_tests_that_were_skipped_are_told_at_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """A run without any Chromium is green, so its last lines say what it did not look at."""
    text = "import pytest\npytestmark = pytest.mark.browser\n"
    text += "@pytest.mark.parametrize('n', range(2))\ndef test_it(n):\n    pytest.skip('no Chromium was found')\n"
    suite = tiny_suite(tmp_path, monkeypatch, page=text, other=BROWSER_TESTS.format(needed=1))
    assert suite.main(["browser"]) == 0
    said = capfd.readouterr().out.splitlines()
    assert said[-2] == "*** 2 of 4 browser tests were SKIPPED: no Chromium was found"
    assert said[-1] == "All parts passed, but see what was skipped."


def test_many_browser_tests_that_fail_are_no_accident(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = BROWSER_TESTS.format(needed=1)
    text += "@pytest.mark.parametrize('n', range(6))\ndef test_broken(n):\n    assert False\n"
    suite = tiny_suite(tmp_path, monkeypatch, page=text)
    assert suite.main(["browser"]) == 1
    assert (tmp_path / "runs-of-late").read_text() == "."


def test_only_the_browser_gets_a_second_run(monkeypatch: pytest.MonkeyPatch) -> None:
    suite = load_tool("suite", monkeypatch)
    commands: list[list[str]] = []

    def run(command: list[str], **options: object) -> subprocess.CompletedProcess[str]:
        commands.append(list(command))
        return subprocess.CompletedProcess(command, suite.TESTS_FAILED)

    monkeypatch.setattr(suite.subprocess, "run", run)
    monkeypatch.setattr(suite, "forget_smoke_runs", lambda: None)
    assert suite.main(["unit", "nbval"]) == 1
    assert len(commands) == 2


def test_the_strict_run_of_the_notebooks(monkeypatch: pytest.MonkeyPatch) -> None:
    suite = load_tool("suite", monkeypatch)
    seen: list[tuple[list[str], dict[str, str]]] = []

    def run(command: list[str], env: dict[str, str], **options: object) -> subprocess.CompletedProcess[str]:
        seen.append((list(command), env))
        return subprocess.CompletedProcess(command, 5)

    monkeypatch.setattr(suite.subprocess, "run", run)
    assert suite.nbval() == 5
    ((command, environment),) = seen
    assert {"--nbval", "--nbval-current-env", "tests/nbval.cfg", "notebooks"} <= set(command)
    assert command[command.index("--dist") + 1] == "loadfile"
    assert environment["VOS_TUTORIAL_PROFILE"] == "smoke"
    assert environment["OMP_NUM_THREADS"] == "1"
