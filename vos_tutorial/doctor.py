"""One page about this machine, and a sentence with the fix for each problem.

``python -m vos_tutorial doctor`` prints it; the exit status is 0 if the course can be worked through here and 1 if
not. The page is what to paste into a question. It must print on a machine where things are broken, so
nothing that can break (torch, JupyterLab, our own modules that need them) is imported before its own check.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.metadata
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from . import __version__
from .errors import TutorialError

INSTALL = 'run "make lab" again, or: pip install -c constraints.txt -e ".[dev]"'
try:
    import psutil  # type: ignore[import-untyped]
    from packaging.requirements import Requirement
    from packaging.specifiers import SpecifierSet
    from packaging.version import Version
except ModuleNotFoundError as error:  # what the page itself cannot do without
    raise TutorialError(f"{error.name} is not installed in {sys.prefix}; {INSTALL}.") from None

DISTRIBUTION = "vos-tutorial"
CHECKOUT = Path(__file__).resolve().parent.parent
GIB = 1024**3
LEAST_MEMORY = 1 * GIB  # available; a kernel with torch loaded and a small network training in it
LEAST_DISK = 1 * GIB
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
BROWSER_FILES = (  # where no name on the path leads: macOS, and what `playwright install chromium` downloads
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
)
PLAYWRIGHT_FILES = (
    "chromium-*/chrome-linux*/chrome",
    "chromium-*/chrome-mac*/*.app/Contents/MacOS/*",
)

Level = Literal["ok", "note", "problem"]


@dataclass(frozen=True)
class Finding:
    """One line of the page.

    Attributes:
        section: the heading it stands under.
        name: what was looked at.
        value: what was found, in a few words.
        level: ``note``: something optional is missing; ``problem``: the course cannot be worked through.
        fix: one sentence; empty exactly when ``level`` is ``ok``.
    """

    section: str
    name: str
    value: str
    level: Level = "ok"
    fix: str = ""


# --- versions -------------------------------------------------------------------------------------------------


def python_version() -> Finding:
    """The running Python against the package's own ``requires-python``."""
    value = f"{platform.python_version()} in {sys.prefix}"
    try:
        wanted = importlib.metadata.metadata(DISTRIBUTION)["Requires-Python"] or ""
    except importlib.metadata.PackageNotFoundError:
        return Finding("versions", "python", value, "problem", f"vos_tutorial is not installed here; {INSTALL}.")
    if platform.python_version() not in SpecifierSet(wanted, prereleases=True):
        fix = f"Python must be {wanted}; install a newer one, remove .venv and run make lab again."
        return Finding("versions", "python", value, "problem", fix)
    return Finding("versions", "python", value)


def _installed(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _requirements(distribution: str) -> list[Requirement]:
    """What a distribution needs on this machine, its extras left out; empty if it is not installed."""
    try:
        lines = importlib.metadata.requires(distribution) or []
    except importlib.metadata.PackageNotFoundError:
        return []
    requirements = [Requirement(line) for line in lines]
    return [r for r in requirements if r.marker is None or r.marker.evaluate({"extra": ""})]


def package_versions() -> Iterator[Finding]:
    """Each package that pyproject.toml asks for, against its lower bound there."""
    for requirement in _requirements(DISTRIBUTION):
        name, wanted = requirement.name, requirement.specifier
        found = _installed(name)
        if found is None:
            yield Finding("versions", name, "missing", "problem", f"{name} is not installed; {INSTALL}.")
        elif not wanted.contains(Version(found), prereleases=True):
            yield Finding("versions", name, found, "problem", f"{name} must be {wanted}; {INSTALL}.")
        else:
            yield Finding("versions", name, f"{found:<12} {wanted}")


def torch_pair() -> Finding:
    """Whether torch and torchvision were built for each other, and load.

    A torchvision names the one torch that it was compiled for. With another one the import ends in
    ``operator torchvision::nms does not exist``, or works until the first compiled operation.
    """
    name = "torch and torchvision"
    torch, torchvision = _installed("torch"), _installed("torchvision")
    partner = next((r.specifier for r in _requirements("torchvision") if r.name == "torch"), SpecifierSet())
    fix = (
        "install the pair that constraints.txt names: "
        "pip install --force-reinstall --no-deps -c constraints.txt torch torchvision."
    )
    if torch and torchvision and not partner.contains(Version(torch), prereleases=True):
        return Finding(
            "versions",
            name,
            "do not match",
            "problem",
            f"torchvision {torchvision} was built for torch{partner} but torch is {torch}; {fix}",
        )
    for module in ("torch", "torchvision"):
        try:
            importlib.import_module(module)
        except Exception as error:  # whatever a broken binary raises: ImportError, OSError, RuntimeError
            reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            return Finding("versions", name, "do not load", "problem", f"import {module} says {reason!r}; {fix}")
    return Finding("versions", name, "match and load")


def widget_files() -> Finding:
    """The browser's half of the widgets, which JupyterLab reads from the environment it was started in."""
    folder = Path(sys.prefix) / "share" / "jupyter" / "labextensions"
    needed = ("anywidget", "@jupyter-widgets/jupyterlab-manager")
    missing = [name for name in needed if not (folder / name / "package.json").is_file()]
    if missing:
        fix = f"JupyterLab would show no widgets; {INSTALL}, then reload the page."
        return Finding("versions", "widgets in JupyterLab", f"missing {', '.join(missing)}", "problem", fix)
    return Finding("versions", "widgets in JupyterLab", "present")


# --- machine --------------------------------------------------------------------------------------------------


def system() -> Finding:
    """Operating system and processor family."""
    return Finding("machine", "system", f"{platform.system()} {platform.release()}, {platform.machine()}")


def processors() -> Finding:
    """Cores that this process may use."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    threads = os.environ.get("OMP_NUM_THREADS")
    return Finding("machine", "CPU cores", f"{usable}" + (f" (OMP_NUM_THREADS={threads})" if threads else ""))


def _container_limit() -> int | None:
    """Bytes that a container may use, where it is told (cgroup v2)."""
    try:
        return int(Path("/sys/fs/cgroup/memory.max").read_text())
    except (OSError, ValueError):  # no such file, or "max"
        return None


def memory() -> Finding:
    """Main memory: total and available, in GiB."""
    machine = psutil.virtual_memory()
    total = min(machine.total, _container_limit() or machine.total)
    available = min(machine.available, total)
    value = f"{available / GIB:.1f} GiB available of {total / GIB:.1f} GiB"
    if available < LEAST_MEMORY:
        fix = f"less than {LEAST_MEMORY / GIB:.0f} GiB of memory is available; shut down other kernels and programs."
        return Finding("machine", "memory", value, "problem", fix)
    return Finding("machine", "memory", value)


def disk() -> Finding:
    """Free space where the checkout lies: downloads and runs go there."""
    free = shutil.disk_usage(CHECKOUT).free
    value = f"{free / GIB:.1f} GiB free"
    if free < LEAST_DISK:
        fix = f"less than {LEAST_DISK / GIB:.0f} GiB is free on the disk of {CHECKOUT}; delete old folders of runs/."
        return Finding("machine", "disk", value, "problem", fix)
    return Finding("machine", "disk", value)


def devices() -> Iterator[Finding]:
    """The GPUs that torch sees; a note where there is one that it does not see."""
    try:
        import torch

        names = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())]
    except Exception:  # torch_pair() says why
        yield Finding("machine", "devices", "unknown, since torch does not load", "note", "mend torch first.")
        return
    for index, gpu in enumerate(names):
        value = f"{gpu.name}, {gpu.total_memory / GIB:.0f} GiB, CUDA {torch.version.cuda}"
        yield Finding("machine", f"cuda:{index}", value)
    if not names and shutil.which("nvidia-smi"):
        fix = (
            "there is nvidia-smi but torch sees no GPU; update the NVIDIA driver to one for "
            f"CUDA {torch.version.cuda or '(this torch was built without CUDA)'}, or work on the CPU."
        )
        yield Finding("machine", "devices", "cpu", "note", fix)
    elif not names:
        yield Finding("machine", "devices", "cpu")


def profile() -> Finding:
    """The size of every recipe here, and what decided it."""
    try:
        from . import profile as profiles

        current = profiles.current()
    except TutorialError as error:
        return Finding("machine", "profile", "none", "problem", str(error))
    except Exception:  # torch_pair() says why
        return Finding("machine", "profile", "unknown, since torch does not load", "note", "mend torch first.")
    if os.environ.get(profiles.VARIABLE):
        why = f"{profiles.VARIABLE} says so"
    else:
        why = "torch sees a GPU" if current.name == "gpu" else "torch sees no GPU"
    return Finding("machine", "profile", f"{current.name}, because {why}")


# --- course ---------------------------------------------------------------------------------------------------


def checkout() -> Finding:
    """The folder of the course, and whether runs and downloads can be written there."""
    try:
        with tempfile.TemporaryFile(dir=CHECKOUT):
            pass
    except OSError as error:
        fix = f"{CHECKOUT} cannot be written to ({error.strerror}); copy the course to a folder of your own."
        return Finding("course", "folder", f"{CHECKOUT}, read-only", "problem", fix)
    return Finding("course", "folder", f"{CHECKOUT}, writable")


def weights() -> Finding:
    """The trained weights that ship with the course: present and whole."""
    folder = CHECKOUT / "data" / "weights"
    files = sorted(folder.glob("*.safetensors"))
    restore = "restore it with: git checkout -- data/weights"
    if not files:
        return Finding("course", "trained weights", "none", "problem", f"{folder} holds no weights; {restore}")
    from safetensors import SafetensorError, safe_open

    for file in files:
        try:
            with safe_open(file, framework="np"):
                pass
        except (SafetensorError, OSError):
            fix = f"{file} is damaged or incomplete; {restore}"
            return Finding("course", "trained weights", f"{file.name} cannot be read", "problem", fix)
    return Finding("course", "trained weights", f"{len(files)} file{'s' if len(files) > 1 else ''}")


def davis() -> Iterator[Finding]:
    """Real video: optional, since the course's own clips are generated."""
    for year in (2016, 2017):
        name = f"DAVIS-{year}"
        try:
            from .data.davis import find_davis

            folder = find_davis(year)
        except TutorialError as error:
            yield Finding("course", name, "not found", "problem", str(error))
            continue
        except Exception:  # torch_pair() says why
            yield Finding("course", name, "unknown, since torch does not load", "note", "mend torch first.")
            continue
        if folder is None:
            fix = f"optional; python -m vos_tutorial download davis{year} fetches it."
            yield Finding("course", name, "not found", "note", fix)
        else:
            yield Finding("course", name, str(folder))


def find_chromium() -> Path | None:
    """A Chromium or Chrome that the browser tests can drive, or None.

    Looks at the environment variable ``VOS_TUTORIAL_CHROMIUM``, at the names on the path, at the usual folders
    of macOS, and at Playwright's own downloads; one that does not even tell its version is passed over.
    """
    places = [os.environ.get("VOS_TUTORIAL_CHROMIUM"), *map(shutil.which, BROWSERS), *BROWSER_FILES]
    cache = os.environ.get("PLAYWRIGHT_BROWSERS_PATH")
    folders = (
        [Path(cache)]
        if cache
        else [Path.home() / ".cache/ms-playwright", Path.home() / "Library/Caches/ms-playwright"]
    )
    downloads = [path for folder in folders for pattern in PLAYWRIGHT_FILES for path in sorted(folder.glob(pattern))]
    for path in [*(Path(place) for place in places if place), *downloads]:
        if path.is_file() and _starts(path):
            return path
    return None


def _starts(browser: Path) -> bool:
    try:
        done = subprocess.run([browser, "--version"], capture_output=True, timeout=30, stdin=subprocess.DEVNULL)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def browser() -> Finding:
    """Chromium, which only the tests of the widgets need."""
    found = find_chromium()
    if found is None:
        fix = "only the tests of the widgets need it; make browser installs one where it can."
        return Finding("course", "Chromium", "not found", "note", fix)
    return Finding("course", "Chromium", str(found))


# --- page -----------------------------------------------------------------------------------------------------


def findings() -> list[Finding]:
    """Every check, always in the same order."""
    return [
        python_version(),
        *package_versions(),
        torch_pair(),
        widget_files(),
        system(),
        processors(),
        memory(),
        disk(),
        *devices(),
        profile(),
        checkout(),
        weights(),
        *davis(),
        browser(),
    ]


def report(found: list[Finding]) -> str:
    """The page: a line for each finding under its section, then problems and notes, then the verdict."""
    width = max(len(f.name) for f in found) + 2
    mark = {"ok": " ", "note": "-", "problem": "!"}
    lines = [f"vos_tutorial {__version__}"]
    section = ""
    for f in found:
        if f.section != section:
            section = f.section
            lines += ["", section]
        lines.append(f"{mark[f.level]} {f.name:<{width}}{f.value}")
    for level, title in (("problem", "to mend"), ("note", "notes")):
        chosen = [f for f in found if f.level == level]
        lines += ["", title] * bool(chosen)
        lines += [f"{mark[level]} {f.name}: {f.fix}" for f in chosen]
    problems = sum(f.level == "problem" for f in found)
    verdict = "Everything that the course needs is here."
    if problems:
        verdict = f"{problems} problem{'s' if problems > 1 else ''} to mend before the course works here."
    return "\n".join([*lines, "", verdict])


def main(argv: list[str] | None = None) -> int:
    """Print the page; 0 if the course can be worked through here, 1 if not."""
    argparse.ArgumentParser(
        prog="python -m vos_tutorial doctor", description="One page about this machine."
    ).parse_args(argv)
    found = findings()
    print(report(found))
    return int(any(f.level == "problem" for f in found))
