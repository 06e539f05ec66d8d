"""Where things lie: around the package in a checkout of the course; inside it, and in the user's folder, elsewhere.

In a checkout, trained weights and results are read from ``data/``, where a reader looks for them, and downloads
go there too. The build puts copies of both into the wheel (``setup.py``); an installed package reads those, and puts
downloads where the operating system keeps the data of programs.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from shlex import quote

NAME = "vos-tutorial"
"""What pip calls this package."""

PACKAGE = Path(__file__).resolve().parent


def find_checkout(package: Path = PACKAGE) -> Path | None:
    """The folder of the course around a package folder; None if the package is installed by itself."""
    try:
        project = (package.parent / "pyproject.toml").read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return None
    return package.parent if f'name = "{NAME}"' in project else None


CHECKOUT = find_checkout()
"""The folder that holds ``notebooks/`` and ``vos_tutorial/``; None when the package is installed by itself."""

WEIGHTS = CHECKOUT / "data" / "weights" if CHECKOUT else PACKAGE / "weights"
"""The trained weights that ship, ``*.safetensors``."""

RESULTS = CHECKOUT / "data" / "results" if CHECKOUT else PACKAGE / "results"
"""The numbers of the reference runs, ``*.json``."""

RUNS_VARIABLE = "VOS_TUTORIAL_RUNS"


def find_runs(checkout: Path | None = CHECKOUT) -> Path:
    """The folder that ``VOS_TUTORIAL_RUNS`` names; else ``runs`` in the checkout, or below the working folder.

    The latter where there is no checkout, and where it cannot be written: on a server, many read one copy of the
    course, and each keeps runs of their own.
    """
    named = os.environ.get(RUNS_VARIABLE)
    if named:
        return Path(named).expanduser()
    return checkout / "runs" if checkout and os.access(checkout, os.W_OK) else Path("runs")


RUNS = find_runs()
"""Where notebooks keep their training runs."""


def downloads() -> Path:
    """Where data sets are put: ``data/`` in a checkout, else the user's folder for this program (platformdirs)."""
    if CHECKOUT:
        return CHECKOUT / "data"
    from platformdirs import (
        user_data_path,
    )  # only here: a checkout does without, and doctor can say that it is missing

    return user_data_path(NAME, appauthor=False)


def install_command(extra: str = "") -> str:
    """The command that installs for this Python what the package needs, and what an extra of ``pyproject.toml`` adds.

    Installed by itself, the package stays as it is: pip finds it in place and adds what is missing.
    """
    extras = f"[{extra}]" if extra else ""
    if CHECKOUT:
        return (
            f'cd {quote(str(CHECKOUT))} && {quote(sys.executable)} -m pip install -c constraints.txt -e ".{extras}"'
        )
    return f'{quote(sys.executable)} -m pip install "{NAME}{extras}"'
