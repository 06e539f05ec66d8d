"""One page about this machine, and a sentence with the fix for each problem.

``python -m vos_tutorial doctor`` prints it; the exit status is 1 if something does not work that was installed: the
library always, the course where its packages are. What is optional is a note. The page is what to paste into
a question. It must print on a machine where things are broken, so nothing that can break (torch, JupyterLab, our own
modules that need them) is imported before its own check.
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

from . import __version__, places
from .errors import TutorialError

try:
    from packaging.requirements import Requirement
    from packaging.specifiers import SpecifierSet
    from packaging.version import Version

    CAN_COMPARE = True
except ModuleNotFoundError:  # scikit-image brings it; package_versions() says that it is missing
    CAN_COMPARE = False

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
        level: ``note``: something optional is missing; ``problem``: something that was installed does not work.
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
        wanted = importlib.metadata.metadata(places.NAME)["Requires-Python"] or ""
    except importlib.metadata.PackageNotFoundError:
        fix = f"vos_tutorial is not installed here; run: {places.install_command()}"
        return Finding("versions", "python", value, "problem", fix)
    if CAN_COMPARE and platform.python_version() not in SpecifierSet(wanted, prereleases=True):
        again = "remove .venv and run make lab again" if places.CHECKOUT else "install vos_tutorial there"
        return Finding("versions", "python", value, "problem", f"Python must be {wanted}; get a newer one, {again}.")
    return Finding("versions", "python", value)


def _installed(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _requirements(distribution: str, extra: str = "") -> list[Requirement]:
    """What a distribution needs on this machine, or what one extra adds to that; empty if it is not installed."""
    try:
        lines = importlib.metadata.requires(distribution) or []
    except importlib.metadata.PackageNotFoundError:
        return []

    def holds(requirement: Requirement, extra: str) -> bool:
        return requirement.marker is None or requirement.marker.evaluate({"extra": extra})

    requirements = [Requirement(line) for line in lines]
    if not extra:
        return [r for r in requirements if holds(r, "")]
    return [r for r in requirements if holds(r, extra) and not holds(r, "")]


def _compared(requirements: list[Requirement], extra: str = "") -> Iterator[Finding]:
    """Each package against its lower bound."""
    install = places.install_command(extra)
    for requirement in requirements:
        name, wanted = requirement.name, requirement.specifier
        found = _installed(name)
        if found is None:
            yield Finding("versions", name, "missing", "problem", f"{name} is not installed; run: {install}")
        elif not wanted.contains(Version(found), prereleases=True):
            yield Finding("versions", name, found, "problem", f"{name} must be {wanted}; run: {install}")
        else:
            yield Finding("versions", name, f"{found:<12} {wanted}")


def package_versions() -> Iterator[Finding]:
    """What the library needs, then what the course adds to it: one note where none of that is installed."""
    if not CAN_COMPARE:
        fix = f"packaging is not installed, so versions cannot be compared; run: {places.install_command()}"
        yield Finding("versions", "packaging", "missing", "problem", fix)
        return
    yield from _compared(_requirements(places.NAME))
    if has_course():
        yield from _compared(_requirements(places.NAME, "course"), "course")
    else:
        fix = f"optional, for the notebooks, their figures and widgets; run: {places.install_command('course')}"
        yield Finding("versions", "packages of the course", "not installed", "note", fix)


def has_course() -> bool:
    """Whether somebody meant to work through the course here.

    ``jupyterlab`` and ``matplotlib`` may be there for other reasons. In a checkout one of these three tells that the
    rest has gone missing; beside an installed library all of them must be there.
    """
    there = [_installed(name) is not None for name in ("anywidget", "jupytext", "nbval")]
    return any(there) if places.CHECKOUT else all(there)


def torch_pair() -> Finding:
    """Whether torch and torchvision were built for each other, and load.

    A torchvision names the one torch that it was compiled for. With another one the import ends in
    ``operator torchvision::nms does not exist``, or works until the first compiled operation.
    """
    name = "torch and torchvision"
    torch, torchvision = _installed("torch"), _installed("torchvision")
    pins = f'--no-deps -c "{places.CHECKOUT / "constraints.txt"}" ' if places.CHECKOUT else "--upgrade "
    fix = f"install a pair: {sys.executable} -m pip install --force-reinstall {pins}torch torchvision"
    partners = [r.specifier for r in _requirements("torchvision") if r.name == "torch"] if CAN_COMPARE else []
    if torch and torchvision and partners and not partners[0].contains(Version(torch), prereleases=True):
        reason = f"torchvision {torchvision} was built for torch{partners[0]} but torch is {torch}"
        return Finding("versions", name, "do not match", "problem", f"{reason}; {fix}")
    for module in ("torch", "torchvision"):
        try:
            importlib.import_module(module)
        except Exception as error:  # whatever a broken binary raises: ImportError, OSError, RuntimeError
            reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            return Finding("versions", name, "do not load", "problem", f"import {module} says {reason!r}; {fix}")
    return Finding("versions", name, "match and load")


def widget_files() -> Iterator[Finding]:
    """The browser's half of the widgets, which JupyterLab reads from the environment it was started in."""
    if not has_course():
        return
    folder = Path(sys.prefix) / "share" / "jupyter" / "labextensions"
    needed = ("anywidget", "@jupyter-widgets/jupyterlab-manager")
    missing = [name for name in needed if not (folder / name / "package.json").is_file()]
    if missing:
        fix = f"JupyterLab would show no widgets; run: {places.install_command('course')}, then reload the page."
        yield Finding("versions", "widgets in JupyterLab", f"missing {', '.join(missing)}", "problem", fix)
    else:
        yield Finding("versions", "widgets in JupyterLab", "present")


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


def _memory_of_machine() -> tuple[int, int] | None:
    """Total and available bytes; None where neither psutil nor Linux tells them."""
    try:
        import psutil  # type: ignore[import-untyped]

        machine = psutil.virtual_memory()
        return machine.total, machine.available
    except ModuleNotFoundError:
        pass
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        kibibytes = {line.split(":")[0]: int(line.split()[1]) for line in lines}
        return 1024 * kibibytes["MemTotal"], 1024 * kibibytes["MemAvailable"]
    except (OSError, ValueError, LookupError):
        return None


def memory() -> Finding:
    """Main memory: total and available, in GiB."""
    machine = _memory_of_machine()
    if machine is None:
        return Finding("machine", "memory", "unknown, since psutil is not installed")
    total = min(machine[0], _container_limit() or machine[0])
    available = min(machine[1], total)
    value = f"{available / GIB:.1f} GiB available of {total / GIB:.1f} GiB"
    if available < LEAST_MEMORY:
        fix = f"less than {LEAST_MEMORY / GIB:.0f} GiB of memory is available; shut down other kernels and programs."
        return Finding("machine", "memory", value, "problem", fix)
    return Finding("machine", "memory", value)


def _existing(folder: Path) -> Path:
    """The folder itself, or the nearest one above it that exists."""
    return next(place for place in (folder, *folder.parents) if os.path.exists(place))


def disk() -> Finding:
    """Free space where downloads go."""
    try:
        folder = _existing(places.downloads().resolve())
        free = shutil.disk_usage(folder).free
    except (ModuleNotFoundError, OSError) as error:  # folders() says why
        return Finding("machine", "disk", f"unknown ({error})")
    value = f"{free / GIB:.1f} GiB free"
    if free < LEAST_DISK:
        fix = f"less than {LEAST_DISK / GIB:.0f} GiB is free on the disk of {folder}; delete old runs and downloads."
        return Finding("machine", "disk", value, "problem", fix)
    return Finding("machine", "disk", value)


def devices() -> Iterator[Finding]:
    """The GPUs that torch sees; a note where there is one that it does not see."""
    try:
        import torch

        names = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())]
    except Exception:  # torch_pair() says why
        yield Finding("machine", "devices", "unknown, since torch does not load", "note", "fix torch first.")
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
        return Finding("machine", "profile", "unknown, since torch does not load", "note", "fix torch first.")
    if os.environ.get(profiles.VARIABLE):
        why = f"{profiles.VARIABLE} says so"
    else:
        why = "torch sees a GPU" if current.name == "gpu" else "torch sees no GPU"
    return Finding("machine", "profile", f"{current.name}, because {why}")


# --- files ----------------------------------------------------------------------------------------------------


def _reason(error: OSError) -> str:
    return (error.strerror or str(error)).lower()


def folders() -> Iterator[Finding]:
    """Where the package lies, and whether downloads and runs can be written."""
    if places.CHECKOUT is None:
        yield Finding("files", "installed in", str(places.PACKAGE))
        yield downloads()
        return
    folder = places.CHECKOUT
    refusal = _refusal(folder)
    runs = places.find_runs(folder).expanduser().resolve()
    if refusal is None:
        yield Finding("files", "checkout", f"{folder}, writable")
    elif folder not in runs.parents and _refusal(_existing(runs)) is None:  # one copy for many, as on a server
        fix = f"{folder} is read-only, so training runs go to {runs}; downloads are for those who may write there."
        yield Finding("files", "checkout", f"{folder}, read-only", "note", fix)
    else:
        fix = f"{folder} cannot be written to ({_reason(refusal)}); copy the course to a folder of your own."
        yield Finding("files", "checkout", f"{folder}, read-only", "problem", fix)


def downloads() -> Finding:
    """The user's folder for data sets; it is made by the first download."""
    try:
        folder = places.downloads()
    except ModuleNotFoundError as error:
        fix = f"{error.name} is not installed; run: {places.install_command()}"
        return Finding("files", "downloads", "unknown", "problem", fix)
    refusal = _refusal(_existing(folder))
    if refusal is None:
        return Finding("files", "downloads", f"{folder}, writable")
    fix = f"{folder} cannot be written to ({_reason(refusal)}); give the download command a folder with --root."
    return Finding("files", "downloads", f"{folder}, read-only", "note", fix)


def _refusal(folder: Path) -> OSError | None:
    """What the system says when a file is made there and removed again; None if it allows that."""
    try:
        with tempfile.TemporaryFile(dir=folder):
            return None
    except OSError as error:
        return error


def _restore(path: Path) -> str:
    """How to get back what ships: one file, or all of them. Nothing else is touched."""
    if places.CHECKOUT is None:
        return "install vos_tutorial again, with pip's --force-reinstall --no-deps"
    if (places.CHECKOUT / ".git").exists():
        return f'restore it with: git -C "{places.CHECKOUT}" checkout -- {path.relative_to(places.CHECKOUT)}'
    return f"copy it again from where {places.CHECKOUT} came from"


def weights() -> Finding:
    """The trained weights that ship: present, readable and whole."""
    name, folder = "trained weights", places.WEIGHTS
    try:
        files = sorted(path for path in folder.iterdir() if path.suffix == ".safetensors")
    except FileNotFoundError:
        files = []
    except OSError as error:
        fix = f"{folder} cannot be read ({_reason(error)}); correct its permissions."
        return Finding("files", name, "cannot be read", "problem", fix)
    if not files:
        return Finding("files", name, "none", "problem", f"{folder} holds no weights; {_restore(folder)}.")
    try:
        from safetensors import SafetensorError, safe_open
    except Exception:  # package_versions() says why
        return Finding(
            "files", name, "not looked at, since safetensors does not load", "note", "fix safetensors first."
        )

    for file in files:
        try:
            with open(file, "rb"):  # safetensors calls a file that may not be read damaged
                pass
            with safe_open(file, framework="np"):
                pass
        except PermissionError as error:
            fix = f"{file} cannot be read ({_reason(error)}); correct its permissions."
            return Finding("files", name, f"{file.name} cannot be read", "problem", fix)
        except (SafetensorError, OSError):
            fix = f"{file} is damaged or incomplete; {_restore(file)}."
            return Finding("files", name, f"{file.name} is damaged", "problem", fix)
    return Finding("files", name, f"{len(files)} file{'s' if len(files) > 1 else ''}")


def _closed(folder: Path) -> str:
    """Why a DAVIS folder cannot be looked into, as a clause; empty if it can, or is not there."""
    for path in (folder, folder / "ImageSets", folder / "JPEGImages", folder / "Annotations"):
        try:
            next(path.iterdir(), None)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            return f"{path} cannot be read ({_reason(error)})"
    return ""


def davis() -> Iterator[Finding]:
    """Real video, which is optional: the course's own clips are generated.

    The variable ``VOS_TUTORIAL_DAVIS`` is a problem only if it leads nowhere: then the notebooks stop, too.
    """
    try:
        from .data.davis import NOWHERE, VARIABLE, YEARS, find_davis
    except Exception:  # torch_pair() says why
        yield Finding("files", "DAVIS", "unknown, since torch does not load", "note", "fix torch first.")
        return
    chosen = os.environ.get(VARIABLE, "")
    chosen = "" if chosen == NOWHERE else chosen
    closed = _closed(Path(chosen)) if chosen else ""
    found: dict[int, Path | None] = dict.fromkeys(YEARS)
    said = dict.fromkeys(YEARS, f"{VARIABLE} is {chosen!r}, which holds no DAVIS; correct it, or unset it.")
    for year in YEARS:
        try:
            found[year] = find_davis(year)
        except TutorialError as error:
            said[year] = str(error)
        except OSError as error:
            closed = closed or f"{error.filename} cannot be read ({_reason(error)})"
    for year, folder in found.items():
        name = f"DAVIS-{year}"
        if folder:
            yield Finding("files", name, str(folder))
        elif chosen and not any(found.values()):
            fix = f"{closed}; correct its permissions, or unset {VARIABLE}." if closed else said[year]
            yield Finding("files", name, "not found", "problem", fix)
        elif chosen:
            fix = f"optional; {VARIABLE} is {chosen}, which has no val list for {year}."
            yield Finding("files", name, "not found", "note", fix)
        else:
            fix = f"{closed}." if closed else f"python -m vos_tutorial download davis{year} fetches it."
            yield Finding("files", name, "not found", "note", f"optional; {fix}")


def find_chromium() -> Path | None:
    """A Chromium or Chrome that the browser tests can drive, or None.

    Looks at the environment variable ``VOS_TUTORIAL_CHROMIUM``, at the names on the path, at the usual folders
    of macOS, and at Playwright's own downloads; one that does not even tell its version is passed over.
    """
    named = [os.environ.get("VOS_TUTORIAL_CHROMIUM"), *map(shutil.which, BROWSERS), *BROWSER_FILES]
    cache = os.environ.get("PLAYWRIGHT_BROWSERS_PATH")
    folders = (
        [Path(cache)]
        if cache
        else [Path.home() / ".cache/ms-playwright", Path.home() / "Library/Caches/ms-playwright"]
    )
    fetched = [path for folder in folders for pattern in PLAYWRIGHT_FILES for path in sorted(folder.glob(pattern))]
    for path in [*(Path(name) for name in named if name), *fetched]:
        if os.path.isfile(path) and _starts(path):  # Path.is_file raises where a folder above may not be read
            return path
    return None


def _starts(browser: Path) -> bool:
    try:
        done = subprocess.run([browser, "--version"], capture_output=True, timeout=30, stdin=subprocess.DEVNULL)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def browser() -> Iterator[Finding]:
    """Chromium, which only the tests of the widgets need; they are in a checkout."""
    if places.CHECKOUT is None:
        return
    found = find_chromium()
    if found is None:
        fix = "only the tests of the widgets need it; make browser installs one where it can."
        yield Finding("files", "Chromium", "not found", "note", fix)
    else:
        yield Finding("files", "Chromium", str(found))


# --- page -----------------------------------------------------------------------------------------------------


def findings() -> list[Finding]:
    """Every check, always in the same order."""
    return [
        python_version(),
        *package_versions(),
        torch_pair(),
        *widget_files(),
        system(),
        processors(),
        memory(),
        disk(),
        *devices(),
        profile(),
        *folders(),
        weights(),
        *davis(),
        *browser(),
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
    for level, title in (("problem", "to fix"), ("note", "notes")):
        chosen = [f for f in found if f.level == level]
        lines += ["", title] * bool(chosen)
        lines += [f"{mark[level]} {f.name}: {f.fix}" for f in chosen]
    problems = sum(f.level == "problem" for f in found)
    verdict = f"Everything that the {'course' if has_course() else 'library'} needs is here."
    if problems:
        verdict = f"{problems} problem{'s' if problems > 1 else ''} to fix before everything works here."
    return "\n".join([*lines, "", verdict])


def main(argv: list[str] | None = None) -> int:
    """Print the page; 0 if all that is installed works, 1 if not."""
    argparse.ArgumentParser(
        prog="python -m vos_tutorial doctor", description="One page about this machine."
    ).parse_args(argv)
    found = findings()
    print(report(found))
    return int(any(f.level == "problem" for f in found))
