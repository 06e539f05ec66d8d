"""The students' archive, without a solution in it, and the instructors', with everything."""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import nbformat

from tools.notebooks import HERE, ROOT, SHEETS, Folders

from .exercise_cells import leak, secrets, student_notebook
from .sealed import seal
from .teaching import KitError

TOP = "vos_course"  # the folder in either archive
WHEN = (2026, 1, 1, 0, 0, 0)  # of every file, so that the same course makes the same archive
SKIPPED = {"__pycache__", ".ipynb_checkpoints", ".pytest_cache", ".mypy_cache", ".ruff_cache", ".hypothesis"}
TEXT = {".py", ".md", ".json", ".ipynb", ".txt", ".yml", ".toml", ".js", ".css", ".html", ".csv", ".gift", ".in", ""}

PACKED = {".safetensors", ".png", ".webp", ".jpg", ".mp4"}  # gain nothing from being compressed again

# What a student needs to install the course and open it.
STUDENT_FILES = (
    "LICENSE",
    "LICENSE-text",
    "CITATION.cff",
    "MANIFEST.in",
    "constraints.txt",
    "pyproject.toml",
    "setup.py",
)
STUDENT_TOOLS = ("tools/bootstrap.py", "tools/lab.py")
WITH_ANSWERS = ("vos_tutorial/course/grading/", "vos_tutorial/course/exercises/")  # never copied as they are
PLAIN_EXERCISES = ("__init__", "exercise", "kept")  # and what a sealed check imports from beside it

INSTRUCTOR_FILES = (
    *STUDENT_FILES,
    "README.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "Makefile",
    "environment.yml",
    "jupytext.toml",
)
INSTRUCTOR_FOLDERS = (
    "vos_tutorial",
    "notebooks",
    "tools",
    "tests",
    "experiments",
    "benchmarks",
    "docs",
    "data/weights",
    "data/results",
)

STUDENT_README = """# Video object segmentation, built

The notebooks of the course, with the library that they use. You need Python 3.10 to 3.14, make (or the commands
below), and some gigabytes of disk, most of them for PyTorch.

```
make lab       # JupyterLab at notebooks/00_start_here.ipynb
```

The first time, this makes a virtual environment in `.venv` and installs the versions pinned in `constraints.txt`.
Without make, and on Windows:

WITHOUT-MAKE
Windows is not tested.

Each exercise has a check that says what differs. This copy comes without the solutions: ask your lecturer.

Code: Apache-2.0 (`LICENSE`). Prose and figures: CC BY 4.0 (`LICENSE-text`).
"""
STUDENT_MAKEFILE = """PYTHON ?= python3

.DEFAULT_GOAL := lab
.PHONY: setup lab

setup:  ## make or repair .venv
\t@$(PYTHON) tools/bootstrap.py

lab: setup  ## open JupyterLab on notebooks/00_start_here.ipynb
\t@.venv/bin/python tools/lab.py $(ARGS)
"""


def files_below(folder: Path) -> Iterator[Path]:
    """All files of a folder, sorted, without caches and links."""
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not path.is_symlink() and not SKIPPED & set(path.parts) and path.suffix != ".pyc":
            yield path


def student_readme(root: Path = ROOT) -> str:
    """The README of the students' archive; the commands without make are those of the course's own README.

    Raises:
        KitError: if that has them no longer.
    """
    table = re.search(
        r"^\| \| Linux, macOS \| Windows \|\n.*?(?=^### )", (root / "README.md").read_text("utf-8"), re.M | re.S
    )
    if table is None:
        raise KitError(
            "README.md has no table of the commands without make, which students get as well; put it back."
        )
    return STUDENT_README.replace("WITHOUT-MAKE\n", table[0].rstrip() + "\n")


def student_files(folders: Folders = HERE, root: Path = ROOT) -> dict[str, bytes]:
    """Everything in the students' archive, ``{path: content}``."""
    found = {name: (root / name).read_bytes() for name in (*STUDENT_FILES, *STUDENT_TOOLS)}
    found["README.md"], found["Makefile"] = student_readme(root).encode(), STUDENT_MAKEFILE.encode()
    found["data/README.md"] = (root / "data" / "README.md").read_bytes()
    for name in folders.names():
        notebook = student_notebook(name, folders)
        found[f"notebooks/{name}.ipynb"] = (nbformat.writes(notebook, version=nbformat.NO_CONVERT) + "\n").encode()
    for sheet in SHEETS:
        found[f"notebooks/{sheet}.md"] = (folders.notebooks / f"{sheet}.md").read_bytes()
    for part in ("vos_tutorial", "data/weights", "data/results"):
        for path in files_below(root / part):
            name = path.relative_to(root).as_posix()
            if not name.startswith(WITH_ANSWERS):
                found[name] = path.read_bytes()
    exercises = root / "vos_tutorial" / "course" / "exercises"
    needed = [*PLAIN_EXERCISES]
    for path in sorted(exercises.glob("check_*.py")):
        source, kept = seal(path.stem.removeprefix("check_"))
        found[f"vos_tutorial/course/exercises/{path.name}"] = source.encode()
        found[f"vos_tutorial/course/exercises/{path.stem}.json"] = kept.encode()
        needed += re.findall(r"^from \.(\w+) import", source, re.M)
    for name in needed:  # grows while it is walked through: what they import is needed as well
        content = (exercises / f"{name}.py").read_text(encoding="utf-8")
        needed += [n for n in re.findall(r"^from \.(\w+) import", content, re.M) if n not in needed]
        found[f"vos_tutorial/course/exercises/{name}.py"] = content.encode()
    return found


def refuse_leaks(found: Mapping[str, bytes], hidden: Mapping[str, str]) -> None:
    """Stop before a solution leaves the house.

    Raises:
        KitError: naming the file and what it gives away.
    """
    for name, content in found.items():
        if "/solutions/" in f"/{name}" or "/teaching/" in f"/{name}" or name.startswith("notebooks/src/"):
            raise KitError(f"{name} would be in the students' archive; it holds solutions.")
        if Path(name).suffix not in TEXT:
            continue
        text = content.decode("utf-8")
        for part in _texts(name, text):
            given_away = leak(part, hidden)
            if given_away:
                raise KitError(f"{name} in the students' archive would leak {given_away}; take it out of that file.")
            link = re.search(r"\]\((?:\.\./)*solutions/[^)]*\)", part)
            if link and name.endswith((".ipynb", ".md")):
                raise KitError(
                    f"{name} in the students' archive links to the solutions ({link[0]}); see exercise_cells.py."
                )


def _texts(name: str, text: str) -> Iterator[str]:
    """What a reader of a file sees: a notebook's cells and what they print, else the file."""
    if not name.endswith(".ipynb"):
        yield text
        return
    for cell in nbformat.reads(text, as_version=4).cells:
        yield cell.source
        for output in cell.get("outputs", []):
            yield output.get("text", "") or output.get("data", {}).get("text/plain", "")
            yield json.dumps(output.get("data", {}).get("text/markdown", ""))


def write(path: Path, found: Mapping[str, bytes]) -> Path:
    """A zip file with these files in one folder; equal files make an equal archive."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as archive:
        for name in sorted(found):
            info = zipfile.ZipInfo(f"{TOP}/{name}", WHEN)
            packed = Path(name).suffix in PACKED
            info.compress_type = zipfile.ZIP_STORED if packed else zipfile.ZIP_DEFLATED
            info.external_attr = 0o644 << 16
            archive.writestr(info, found[name])
    return path


def student_archive(path: Path, folders: Folders = HERE) -> Path:
    """Write the students' archive.

    Raises:
        KitError: if a file of it would give a solution away.
    """
    found = student_files(folders)
    refuse_leaks(found, secrets(folders.names(), folders))
    return write(path, found)


def instructor_archive(path: Path, kit: Path, root: Path = ROOT) -> Path:
    """Write the instructors' archive: the whole course with its sources, and the kit beside it in ``kit/``."""
    found = {name: (root / name).read_bytes() for name in INSTRUCTOR_FILES if (root / name).exists()}
    found["data/README.md"] = (root / "data" / "README.md").read_bytes()
    for folder in INSTRUCTOR_FOLDERS:
        for file in files_below(root / folder):
            found[file.relative_to(root).as_posix()] = file.read_bytes()
    for file in files_below(kit):
        if file.suffix != ".zip":
            found[f"kit/{file.relative_to(kit).as_posix()}"] = file.read_bytes()
    return write(path, found)
