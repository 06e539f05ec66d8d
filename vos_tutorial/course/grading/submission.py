"""What a student handed in, as pieces of code; nothing is run here.

Of a notebook or a script the grader takes what defines something: imports, functions, classes, and names that are set
to a literal (``EPSILON = 1e-7``). Cells tagged ``setup`` or ``exercise`` are taken whole. So a page is graded without
its training, and a notebook whose tags were lost is graded like any other.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...errors import TutorialError

WHOLE = {"setup", "exercise"}  # the tags of cells that are taken whole
LARGEST = 64 * 2**20  # bytes of a file: a page with all its pictures has 5 MB


@dataclass(frozen=True)
class Piece:
    """One statement, and where it stands: ``code cell 7, line 2``."""

    where: str
    code: str


@dataclass(frozen=True)
class Submission:
    """The code of one file, in order; ``broken`` says of each cell that cannot be read as Python why, in words."""

    pieces: tuple[Piece, ...]
    broken: tuple[str, ...]


def read(path: Path) -> Submission:
    """The code of an ``.ipynb`` or ``.py`` file.

    Raises:
        TutorialError: if the file cannot be read, is too large, or is no notebook.
    """
    if path.suffix == ".py":
        return _read(_statements(_text(path), "the file", whole=False))
    return of_cells(code_cells(path))


def code_cells(path: Path) -> list[tuple[str, set[str]]]:
    """The code cells of a notebook, each with its tags.

    Raises:
        TutorialError: as :func:`read`.
    """
    try:
        notebook = json.loads(_text(path))
        return [(_source(cell), _tags(cell)) for cell in notebook["cells"] if cell["cell_type"] == "code"]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise TutorialError(f"{path.name} is no notebook; hand in the .ipynb file as Jupyter saved it.") from None


def _text(path: Path) -> str:
    try:
        size = path.stat().st_size
        if size > LARGEST:
            raise TutorialError(f"{path.name} has {size >> 20} MiB; a submission may have {LARGEST >> 20}.")
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise TutorialError(f"{path.name} cannot be read: it is not UTF-8 text.") from None
    except OSError as error:
        raise TutorialError(f"{path.name} cannot be read: {error.strerror}.") from None


def of_cells(cells: list[tuple[str, set[str]]]) -> Submission:
    """The code of a notebook's code cells, each with its tags."""
    return _read(found for n, (source, tags) in enumerate(cells, 1) for found in _cell(source, tags, n))


def _source(cell: dict[str, Any]) -> str:
    source = cell["source"]
    return source if isinstance(source, str) else "".join(source)


def _tags(cell: dict[str, Any]) -> set[str]:
    return {str(tag) for tag in cell.get("metadata", {}).get("tags", [])}


def _read(found: Iterator[Piece | str]) -> Submission:
    pieces = list(found)
    return Submission(
        tuple(p for p in pieces if isinstance(p, Piece)), tuple(p for p in pieces if isinstance(p, str))
    )


def _cell(source: str, tags: set[str], number: int) -> Iterator[Piece | str]:
    plain = "\n".join("" if line.lstrip().startswith(("%", "!")) else line for line in source.splitlines())
    return _statements(plain, f"code cell {number}", whole=bool(tags & WHOLE))


def _statements(source: str, where: str, whole: bool) -> Iterator[Piece | str]:
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        line = f", line {error.lineno}," if isinstance(error, SyntaxError) else ""
        said = error.msg if isinstance(error, SyntaxError) else type(error).__name__
        yield f"{where}{line} is not Python: {said}"
        return
    for node in tree.body:
        if whole or _defines(node):
            yield Piece(f"{where}, line {node.lineno}", ast.unparse(node))


def _defines(node: ast.stmt) -> bool:
    if isinstance(node, (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        return True
    if not isinstance(node, (ast.Assign, ast.AnnAssign)) or node.value is None:
        return False
    if isinstance(node.value, (ast.Lambda, ast.Name, ast.Attribute)):  # count_objects = lambda mask: ...
        return True
    try:
        ast.literal_eval(node.value)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return False
    return True
