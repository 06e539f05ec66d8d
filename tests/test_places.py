"""The package's front door, and where things lie."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import vos_tutorial
from vos_tutorial import places


def test_the_public_names_are_those_of_their_modules() -> None:
    from vos_tutorial import Clip, TutorialError, propagate, segmenter
    from vos_tutorial.clip import Clip as ClipItself
    from vos_tutorial.errors import TutorialError as ErrorItself
    from vos_tutorial.models import segmenter as segmenter_itself
    from vos_tutorial.propagation import propagate as propagate_itself

    assert Clip is ClipItself
    assert TutorialError is ErrorItself
    assert propagate is propagate_itself
    assert segmenter is segmenter_itself


def test_every_public_name_is_there_and_listed() -> None:
    for name in vos_tutorial.__all__:
        assert getattr(vos_tutorial, name) is not None
        assert name in dir(vos_tutorial)
    with pytest.raises(ImportError, match="nothing_of_ours"):
        from vos_tutorial import nothing_of_ours  # noqa: F401


def test_the_package_itself_loads_nothing_heavy() -> None:
    command = [sys.executable, "-c", "import sys, vos_tutorial; print(*sys.modules)"]
    done = subprocess.run(command, cwd=places.CHECKOUT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert not {"torch", "numpy", "platformdirs"} & set(done.stdout.split())


def test_how_to_install_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    assert places.install_command("course").endswith('-c constraints.txt -e ".[course]"')
    assert str(places.CHECKOUT) in places.install_command()
    monkeypatch.setattr(places, "CHECKOUT", None)
    assert places.install_command() == f'{sys.executable} -m pip install "vos-tutorial"'
    assert places.install_command("course") == f'{sys.executable} -m pip install "vos-tutorial[course]"'


def test_downloads_of_an_installed_package_go_to_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "CHECKOUT", None)
    monkeypatch.setenv("XDG_DATA_HOME", "/somewhere")
    folder = places.downloads()
    assert folder.name == places.NAME
    assert folder.is_absolute()
    assert places.PACKAGE not in folder.parents


def test_runs_are_kept_where_they_can_be_written(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv(places.RUNS_VARIABLE, raising=False)
    assert places.find_runs(tmp_path) == tmp_path / "runs"
    assert places.find_runs(None) == Path("runs")
    monkeypatch.setattr(os, "access", lambda path, mode: not (path == tmp_path and mode == os.W_OK))
    assert places.find_runs(tmp_path) == Path("runs"), "one read-only copy for many: each has runs of their own"
    monkeypatch.setenv(places.RUNS_VARIABLE, str(tmp_path / "mine"))
    assert places.find_runs(tmp_path) == tmp_path / "mine"
