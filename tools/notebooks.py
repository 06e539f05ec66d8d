"""Build the notebooks: ``notebooks/src/NN_name.py`` -> ``notebooks/NN_name.ipynb`` (+ ``solutions/``).

Sources in ``src/appendix/`` become ``notebooks/appendix/NN_name.ipynb``; their names are ``appendix/NN_name``.

    python tools/notebooks.py build [NAME ...]              sources only; outputs of unchanged cells stay
    python tools/notebooks.py build [NAME ...] --execute    run top to bottom and store the outputs
    python tools/notebooks.py build [NAME ...] --check      write nothing; exit 1 if anything is out of step

The source is a jupytext py:percent file and the only file an author edits. What a cell may carry:

* ``tags=[...]``: ``run`` (executed, output free), ``reference`` (prints committed results, compared), ``setup``,
  ``builds:MODULE.NAME``, ``variant-of:MODULE.NAME``, ``exercise-text``, ``exercise``,
  ``exercise-check``, ``solution-note``, ``quiz``, ``slide``, and ``nbval-skip``, which needs
  ``reason="..."`` and is never executed, not even here. A code cell without a tag is *checked*: nbval compares it.
* ``name="..."``: the cell's id, for a cell whose id should outlive its text. Otherwise the id comes from the text.

An ``exercise`` cell holds the solution between the lines ``# solution`` and ``# end solution``, inside a function.
The reader's notebook gets ``raise NotImplementedError("your turn")`` instead; ``solutions/NN_name.ipynb`` gets the
title, the ``setup`` cells, and all exercise cells with the solution in place.

Markdown may hold ``{{results/FILE.json:path.to.value|FORMAT}}`` (from ``data/results``; FORMAT as in ``format()``,
needed for floats), so that a number in the prose cannot drift from the run it came from; a minus comes out as a true
one. ``<!-- given -->`` says that a paragraph's numbers are settings; it stays in the source. ``{{course}}`` is the
map of the course, ``{{pages}}`` links to the page before, the page after and the sheets,
``{{term:guide masks|guide mask}}`` words that link to an entry of the glossary (``{{term:void}}`` if the words are
the entry's own name).

The sheets are Markdown files beside the pages: ``glossary.md`` and ``cheat_sheet.md``. Every build writes them.

A header ``# jupyter: / vos_tutorial: / smoke_seconds: 60`` in the source changes the notebook's budget in CI.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import re
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jupytext
import nbformat
import psutil  # type: ignore[import-untyped]
from jupyter_client.kernelspec import NATIVE_KERNEL_NAME
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from nbformat import NotebookNode

from vos_tutorial.course.cheat_sheet import cheat_sheet_page
from vos_tutorial.course.glossary import GLOSSARY, anchor, glossary_page
from vos_tutorial.course.lessons import course_table
from vos_tutorial.data.davis import NOWHERE
from vos_tutorial.data.davis import VARIABLE as DAVIS
from vos_tutorial.errors import TutorialError
from vos_tutorial.files import write_atomically
from vos_tutorial.profile import PROFILES, VARIABLE

ROOT = Path(__file__).resolve().parents[1]

KERNELSPEC = {"display_name": "Python 3", "language": "python", "name": "python3"}
LANGUAGE_INFO = {"name": "python"}
STUB = 'raise NotImplementedError("your turn")'
PLAIN_TAGS = {"run", "reference", "setup", "quiz", "slide", "nbval-skip"}
TAG_WITH_TARGET = re.compile(r"(builds|variant-of):vos_tutorial(\.\w+)+")
EXERCISE_TAGS = {"exercise", "exercise-text", "exercise-check", "solution-note"}
ADDED_TAG = "nbval-ignore-output"  # what nbval knows a ``run`` cell by; the builder adds it

_SOLUTION_START = re.compile(r"^(\s*)# solution\s*$")
_SOLUTION_END = re.compile(r"^\s*# end solution\s*$")
_RESULT = re.compile(
    r"\{\{\s*results/(?P<file>[\w./-]+\.json):(?P<path>[\w.&+, ()-]+)(?:\|(?P<format>[^}]+))?\s*\}\}"
)
_LEADING_MINUS = re.compile(r"^-(?=[\d.])")
_GIVEN = re.compile(r"[ \t]*<!-- given -->")
_COURSE = re.compile(r"\{\{\s*course\s*\}\}")
_PAGES = re.compile(r"\{\{\s*pages\s*\}\}")
_TERM = re.compile(r"\{\{\s*term:(?P<shown>[^{}|]+?)\s*(?:\|\s*(?P<name>[^{}|]+?)\s*)?\}\}")


class BuildError(Exception):
    """A source that cannot be built or run; the message names the source, the cell and the fix."""


@dataclass(frozen=True)
class Folders:
    """Where things are. ``notebooks`` holds ``src/`` and receives the result; ``results`` holds ``*.json``."""

    notebooks: Path
    results: Path

    @property
    def sources(self) -> Path:
        return self.notebooks / "src"

    @property
    def solutions(self) -> Path:
        return self.notebooks / "solutions"

    def pages(self) -> list[str]:
        """The names of the course's pages, in order."""
        return sorted(path.stem for path in self.sources.glob("[0-9][0-9]_*.py"))

    def names(self) -> list[str]:
        """The names of all sources: the pages in the order of the course, then ``appendix/NN_name``."""
        appendices = self.sources.glob("appendix/[0-9][0-9]_*.py")
        return self.pages() + sorted(f"appendix/{path.stem}" for path in appendices)

    def source(self, name: str) -> Path:
        """The file that an author edits."""
        return self.sources / f"{name}.py"

    def page(self, name: str) -> Path:
        """The reader's notebook."""
        return self.notebooks / f"{name}.ipynb"

    def solution(self, name: str) -> Path:
        """The notebook with the solutions, if there are exercises."""
        return self.solutions / f"{name}.ipynb"

    def built(self) -> list[Path]:
        """All notebooks that are there, pages first."""
        found = [*self.notebooks.glob("*.ipynb"), *self.notebooks.glob("appendix/*.ipynb")]
        return sorted(found) + sorted(self.solutions.rglob("[0-9]*.ipynb"))


HERE = Folders(ROOT / "notebooks", ROOT / "data" / "results")


def tags(cell: NotebookNode) -> set[str]:
    """The tags of a cell, possibly none."""
    return set(cell.metadata.get("tags", []))


# --- what the prose quotes ---------------------------------------------------------------------------------------


def _look_up(data: Any, path: str) -> Any:
    for key in path.split("."):
        data = data[int(key)] if isinstance(data, list) else data[key]
    return data


def title(name: str, folders: Folders) -> str:
    """What a link to a page is called: its heading up to the colon, such as ``05 STM``."""
    heading = re.search(r"^# # (.+)$", folders.source(name).read_text(encoding="utf-8"), re.M)
    return heading[1].split(":")[0].strip() if heading else name


def neighbours(name: str, folders: Folders) -> str:
    """Links from a page to the one before, the one after, and the sheets.

    Raises:
        BuildError: if this is no page of the course.
    """
    pages = folders.pages()
    if name not in pages:
        raise BuildError(
            f"{name} is no page of the course, so nothing comes before or after it; remove {{{{pages}}}}."
        )
    at = pages.index(name)
    links = [f"[← {title(n, folders)}]({n}.ipynb)" for n in pages[:at][-1:]]
    links += [f"[{title(n, folders)} →]({n}.ipynb)" for n in pages[at + 1 :][:1]]
    return " · ".join([*links, *(f"[{sheet.replace('_', ' ')}]({sheet}.md)" for sheet in SHEETS)])


def substitute(
    text: str, folders: Folders, where: str, unmeasured: bool = False, name: str = "", up: str = ""
) -> str:
    """Replace the marks of a source: results, the map of the course, links to pages and to the glossary.

    What only the checks read, ``<!-- given -->``, goes.

    Args:
        text: Markdown.
        folders: where results and notebooks are.
        where: what an error message calls this cell.
        unmeasured: write ``?`` for a missing value (before the first measured run) instead of raising.
        name: of the source.
        up: ``../`` for each folder between the notebook that is made and the pages.

    Raises:
        BuildError: if the file, the value or the glossary's entry is missing, or a float comes without a format.
    """

    def term(match: re.Match[str]) -> str:
        entry = match["name"] or match["shown"]
        if entry not in GLOSSARY:
            raise BuildError(
                f"{where}: {match[0]} is not in the glossary; write {{{{term:WORDS|ENTRY}}}}, or add it."
            )
        return f"[{match['shown']}]({up}glossary.md#{anchor(entry)})"

    def result(match: re.Match[str]) -> str:
        path = folders.results / match["file"]
        try:
            value = _look_up(json.loads(path.read_text(encoding="utf-8")), match["path"])
        except (OSError, ValueError, KeyError, IndexError, TypeError) as error:
            if unmeasured:
                return "?"
            raise BuildError(
                f"{where}: {match[0]} has no value ({type(error).__name__}: {error}); "
                f"correct the path or write {path.name} first (run_cards.json: build with --execute --measure)."
            ) from None
        if match["format"] is None and not isinstance(value, (str, int)):
            raise BuildError(f"{where}: {match[0]} is {value!r}; add a format, such as |.1f.")
        try:
            return _LEADING_MINUS.sub("−", format(value, match["format"] or ""))
        except (ValueError, TypeError) as error:
            raise BuildError(f"{where}: {match[0]} cannot be formatted ({error}).") from None

    text = _COURSE.sub(lambda _: course_table(folders.pages()), _RESULT.sub(result, _GIVEN.sub("", text)))
    text = _PAGES.sub(lambda _: neighbours(name, folders), _TERM.sub(term, text))
    if "{{" in text and re.search(r"\{\{\s*(results|course|pages|term)", text):
        raise BuildError(
            f"{where}: a mark is malformed; write {{{{results/FILE.json:path|.1f}}}}, {{{{course}}}}, {{{{pages}}}} "
            "or {{term:WORDS|ENTRY}}."
        )
    return text


# --- the sheets --------------------------------------------------------------------------------------------------

SHEETS = ("glossary", "cheat_sheet")


def first_uses(folders: Folders) -> dict[str, str]:
    """For each entry of the glossary the page that uses it first; empty if none does.

    That is the first that links to it or says it. A single word that is linked anywhere counts where it is linked:
    the keys of a keyboard are not those of a memory.
    """
    linked: dict[str, str] = {}
    said: dict[str, str] = {}
    for name in folders.pages():
        cells = jupytext.read(folders.source(name), fmt="py:percent").cells
        prose = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
        for match in _TERM.finditer(prose):
            linked.setdefault(match["name"] or match["shown"], name)
        words = _TERM.sub(lambda match: match["shown"], prose)
        for entry in GLOSSARY:
            if re.search(rf"\b{re.escape(entry)}s?\b", words, re.I):
                said.setdefault(entry, name)
    firsts = {}
    for entry in GLOSSARY:
        by_words = {} if entry in linked and entry.isalpha() else said
        firsts[entry] = min((pages[entry] for pages in (linked, by_words) if entry in pages), default="")
    return firsts


def sheet(which: str, folders: Folders) -> str:
    """The text of one of :data:`SHEETS`."""
    pages = {name: f"[{title(name, folders)}]({name}.ipynb)" for name in folders.pages()}
    if which == "glossary":
        return glossary_page({entry: pages.get(page, "") for entry, page in first_uses(folders).items()})
    ledgers = {name[:2]: table for name in pages if (table := ledger(name, folders))}
    return cheat_sheet_page({name[:2]: link for name, link in pages.items()}, ledgers)


def ledger(name: str, folders: Folders) -> str:
    """The table of shapes in a page's recap; empty if there is none."""
    cells = jupytext.read(folders.source(name), fmt="py:percent").cells
    recap = next((cell.source for cell in cells if re.search(r"^#+ Recap", cell.source, re.M)), "")
    return "\n".join(line for line in recap.splitlines() if line.startswith("|"))


def sheets_out_of_step(folders: Folders) -> list[str]:
    """Which sheets differ from what the sources make, one sentence each."""
    found = []
    for which in SHEETS:
        path = folders.notebooks / f"{which}.md"
        if not path.exists() or path.read_text(encoding="utf-8") != sheet(which, folders):
            found.append(f"{path.name} is out of step; build any page (python tools/notebooks.py build 00)")
    return found


# --- exercises ---------------------------------------------------------------------------------------------------


def student_stub(source: str, where: str) -> str:
    """The cell with each ``# solution`` ... ``# end solution`` replaced by one line that raises NotImplementedError.

    Raises:
        BuildError: if the marks are missing, unbalanced, or not inside a function.
    """
    kept: list[str] = []
    inside = False
    count = 0
    for line in source.splitlines():
        start = _SOLUTION_START.match(line)
        if start:
            if inside or not start[1]:
                raise BuildError(f"{where}: '# solution' must stand inside a function, and not inside another one.")
            inside, count = True, count + 1
            kept.append(start[1] + STUB)
        elif _SOLUTION_END.match(line):
            if not inside:
                raise BuildError(f"{where}: '# end solution' without '# solution' before it.")
            inside = False
        elif not inside:
            kept.append(line)
    if inside or not count:
        raise BuildError(f"{where}: an exercise needs '# solution' and '# end solution' around its solution.")
    return "\n".join(kept)


def solved(source: str) -> str:
    """The cell without the two marks."""
    lines = source.splitlines()
    return "\n".join(line for line in lines if not (_SOLUTION_START.match(line) or _SOLUTION_END.match(line)))


# --- from source to notebook -------------------------------------------------------------------------------------


def read_source(path: Path) -> NotebookNode:
    """Read a py:percent file and refuse cells that the course does not know.

    Raises:
        BuildError: naming the cell, for an unknown tag or metadata, an empty code cell, a skip without a reason.
    """
    notebook = jupytext.read(path, fmt="py:percent")
    names: Counter[str] = Counter()
    for number, cell in enumerate(notebook.cells):
        where = f"{path.name}, cell {number}"
        unknown = [
            t for t in sorted(tags(cell)) if t not in PLAIN_TAGS | EXERCISE_TAGS and not TAG_WITH_TARGET.fullmatch(t)
        ]
        if unknown:
            raise BuildError(f"{where}: unknown tag {unknown[0]!r}; the known ones are listed in tools/notebooks.py.")
        extra = set(cell.metadata) - {"tags", "name", "reason", "lines_to_next_cell"}  # jupytext adds the last
        if extra:
            raise BuildError(f"{where}: unknown metadata {sorted(extra)[0]!r}; only tags, name and reason are used.")
        if "nbval-skip" in tags(cell) and not cell.metadata.get("reason"):
            raise BuildError(f'{where}: a cell tagged nbval-skip needs reason="..." in its metadata.')
        if cell.cell_type == "code" and not cell.source.strip():
            raise BuildError(f"{where}: the code cell is empty; remove it.")
        if "exercise" not in tags(cell) and re.search(r"^\s*# (end )?solution\s*$", cell.source, re.M):
            raise BuildError(f"{where}: a solution mark outside a cell tagged exercise would show the answer.")
        if "name" in cell.metadata:
            names[cell.metadata["name"]] += 1
            if not re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", cell.metadata["name"]):
                raise BuildError(f"{where}: name={cell.metadata['name']!r} must be 1 to 64 letters, digits, - or _.")
    twice = [name for name, count in names.items() if count > 1]
    if twice:
        raise BuildError(f"{path.name}: two cells are named {twice[0]!r}; names must be unique.")
    return notebook


def _with_ids(cells: list[NotebookNode]) -> list[NotebookNode]:
    """Give each cell its name as id, or a hash of its text and of how often that text came before."""
    seen: Counter[str] = Counter()
    for cell in cells:
        name = cell.metadata.pop("name", None)
        digest = hashlib.sha256(f"{cell.cell_type}\n{cell.source}".encode()).hexdigest()[:12]
        cell.id = name or (digest if not seen[digest] else f"{digest}-{seen[digest]}")
        seen[digest] += 1
    return cells


def _cell(cell: NotebookNode, source: str) -> NotebookNode:
    new = nbformat.v4.new_code_cell if cell.cell_type == "code" else nbformat.v4.new_markdown_cell
    metadata = {key: cell.metadata[key] for key in ("name", "reason", "tags") if cell.metadata.get(key)}
    if "run" in tags(cell):
        metadata["tags"] = [*metadata["tags"], ADDED_TAG]
    return new(source, metadata=metadata)


def _notebook(cells: list[NotebookNode], options: dict[str, Any]) -> NotebookNode:
    metadata = {"kernelspec": dict(KERNELSPEC), "language_info": dict(LANGUAGE_INFO), "vos_tutorial": dict(options)}
    notebook = nbformat.v4.new_notebook(cells=_with_ids(cells), metadata=metadata)
    notebook.nbformat_minor = 5
    return notebook


def compose(name: str, folders: Folders, unmeasured: bool = False) -> dict[Path, NotebookNode]:
    """The notebooks that come from one source, without outputs: the reader's, and the solutions if it has exercises.

    Args:
        name: ``NN_name``.
        folders: where the source and the results are.
        unmeasured: see :func:`substitute`.

    Raises:
        BuildError: if the source is missing or breaks a rule.
    """
    path = folders.source(name)
    if not path.exists():
        raise BuildError(f"there is no source {path}; the sources are {', '.join(folders.names()) or 'none yet'}.")
    source = read_source(path)
    options = dict(source.metadata.get("vos_tutorial", {}))
    reader: list[NotebookNode] = []
    solutions: list[NotebookNode] = []
    for number, cell in enumerate(source.cells):
        where = f"{path.name}, cell {number}"
        text = solved_text = cell.source
        if cell.cell_type == "markdown":
            up = "../" * name.count("/")
            text = substitute(cell.source, folders, where, unmeasured, name, up)
            solved_text = substitute(cell.source, folders, where, unmeasured, name, "../" + up)
        if "solution-note" not in tags(cell):
            reader.append(_cell(cell, student_stub(text, where) if "exercise" in tags(cell) else text))
        if number == 0:
            heading = text.splitlines()[0].lstrip("# ")
            up = "../" * (1 + name.count("/"))
            link = f"The exercises of [{name}]({up}{name}.ipynb), solved. Try them yourself first."
            solutions.append(_cell(cell, f"# Solutions: {heading}\n\n{link}"))
        elif tags(cell) & (EXERCISE_TAGS | {"setup"}):
            solutions.append(_cell(cell, solved(text) if "exercise" in tags(cell) else solved_text))
    built = {folders.page(name): _notebook(reader, options)}
    if any("exercise" in tags(cell) for cell in source.cells):
        built[folders.solution(name)] = _notebook(solutions, options)
    return built


# --- outputs -----------------------------------------------------------------------------------------------------


def code_hash(notebook: NotebookNode) -> str:
    """Of all code in the notebook, in order: tells outputs of this source from outputs of another."""
    sources = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    return hashlib.sha256(json.dumps(sources).encode()).hexdigest()[:16]


def keep_outputs(new: NotebookNode, old: NotebookNode) -> None:
    """Carry the outputs of unchanged code cells from ``old`` into ``new``; changed cells stay without."""
    before = {cell.id: cell for cell in old.cells if cell.cell_type == "code"}
    for cell in new.cells:
        match = before.get(cell.get("id"))
        if cell.cell_type == "code" and match is not None and match.source == cell.source:
            cell.outputs, cell.execution_count = match.outputs, match.execution_count
    for key in ("profile", "code_sha256"):
        if key in old.metadata.get("vos_tutorial", {}):
            new.metadata.vos_tutorial[key] = old.metadata.vos_tutorial[key]


def counts_problem(notebook: NotebookNode) -> str | None:
    """Why the stored outputs cannot be trusted: a cell that nbval would not compare. ``None`` if all is well.

    nbval runs a cell without an execution count but compares nothing, so counts must be 1..N, without a gap.
    """
    cells = [c for c in notebook.cells if c.cell_type == "code" and "nbval-skip" not in tags(c)]
    counts = [cell.execution_count for cell in cells]
    if not cells:
        return "it has no code cell that runs"
    if counts == list(range(1, len(counts) + 1)):
        return None
    at = next(i for i, count in enumerate(counts) if count != i + 1)
    first = cells[at].source.strip().splitlines()[0]
    return f"code cell {at} ({first!r}) has execution count {counts[at]}, not {at + 1}"


def _tidy(notebook: NotebookNode) -> None:
    """Drop what differs from run to run or cannot be shown without a kernel (widget models)."""
    notebook.metadata.pop("widgets", None)
    notebook.metadata.language_info = dict(LANGUAGE_INFO)  # nbclient writes the patch version of this Python
    for cell in notebook.cells:
        if cell.cell_type != "code":
            continue
        cell.metadata.pop("execution", None)
        for output in cell.outputs:
            output.get("data", {}).pop("application/vnd.jupyter.widget-view+json", None)
            output.get("metadata", {}).pop("application/vnd.jupyter.widget-view+json", None)
            output.pop("transient", None)


def private_paths() -> tuple[str, ...]:
    """Prefixes that would tell whose machine this is, and that no other machine repeats."""
    return str(ROOT), str(Path.home()) + os.sep, tempfile.gettempdir() + os.sep


def _refuse_private_paths(notebook: NotebookNode, where: str) -> None:
    for number, cell in enumerate(notebook.cells):
        text = json.dumps(cell.get("outputs", []))
        found = [prefix for prefix in private_paths() if json.dumps(prefix)[1:-1] in text]
        if found:
            raise BuildError(
                f"{where}, cell {number} prints a path of this machine ({found[0]}); print a name or a relative "
                f"path instead.\n\n{cell.source}"
            )


@dataclass(frozen=True)
class Measured:
    """What a run cost: wall-clock seconds, the kernel's CPU seconds and its peak memory in MiB.

    On a busy machine the wall clock says little; CPU seconds stay about the same. The peak is that of the kernel's
    memory as seen at the beginning and end of each cell, or the true one where the system tells it (Linux).
    """

    seconds: float
    cpu_seconds: float
    peak_mib: int


def _cost(pid: int) -> tuple[float, int]:
    """CPU seconds and peak memory in MiB of a kernel so far."""
    kernel = psutil.Process(pid)
    times = kernel.cpu_times()
    try:
        peak = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    except OSError:
        peak = None
    used = int(peak[1]) * 1024 if peak else kernel.memory_info().rss
    return times.user + times.system + times.children_user + times.children_system, used // 2**20


def execute(notebook: NotebookNode, folder: Path, profile: str, timeout: int, where: str) -> Measured:
    """Run all cells in a fresh kernel of this Python and store the outputs in ``notebook``.

    Args:
        notebook: changed in place; cells tagged ``nbval-skip`` are not run.
        folder: the kernel's working directory, the one nbval uses: where the notebook lies.
        profile: ``smoke``, ``cpu`` or ``gpu``.
        timeout: seconds a cell may take.
        where: what an error message calls this notebook.

    Raises:
        BuildError: with the cell's source and message, if a cell fails, takes too long or kills the kernel.
    """
    current: list[NotebookNode] = []
    cpu_seconds, peak = 0.0, 0

    def note(cell: NotebookNode, **_: Any) -> None:
        nonlocal cpu_seconds, peak
        current[:] = [cell]
        with contextlib.suppress(psutil.Error):  # the kernel died: nbclient is about to say so
            cpu_seconds, now = _cost(client.km.provisioner.pid)  # type: ignore[union-attr]
            peak = max(peak, now)

    client = NotebookClient(
        notebook,
        timeout=timeout,
        kernel_name=NATIVE_KERNEL_NAME,
        record_timing=False,
        coalesce_streams=True,
        skip_cells_with_tag="nbval-skip",
        resources={"metadata": {"path": str(folder)}},
        on_cell_execute=note,
        on_cell_executed=note,
    )
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    began = time.perf_counter()
    try:
        # Stored outputs hold no frame of DAVIS (its licence), wherever the page is built.
        client.execute(env={**os.environ, VARIABLE: profile, DAVIS: NOWHERE, "TQDM_DISABLE": "1"})
    except (CellExecutionError, CellTimeoutError, DeadKernelError) as error:
        source = current[0].source if current else ""
        reason = str(error)
        if isinstance(error, CellExecutionError):
            lines = [out for out in current[0].outputs if out.output_type == "error"]
            reason = "\n".join(lines[0].traceback) if lines else f"{error.ename}: {error.evalue}"
        raise BuildError(f"{where}: this cell failed\n\n{source}\n\n{reason}") from None
    measured = Measured(time.perf_counter() - began, cpu_seconds, peak)
    _tidy(notebook)
    _refuse_private_paths(notebook, where)
    notebook.metadata.vos_tutorial.update(profile=profile, code_sha256=code_hash(notebook))
    return measured


# --- files -------------------------------------------------------------------------------------------------------


def read_notebook(path: Path) -> NotebookNode:
    """Read an ``.ipynb`` as it is.

    Raises:
        BuildError: if it is no notebook.
    """
    try:
        return nbformat.read(path, as_version=nbformat.NO_CONVERT)
    except (ValueError, KeyError, AttributeError) as error:
        raise BuildError(f"{path} is no notebook ({error}); delete it and build again.") from None


def _text(notebook: NotebookNode) -> str:
    nbformat.validate(notebook)
    return nbformat.writes(notebook, version=nbformat.NO_CONVERT) + "\n"


def _with_stored_outputs(built: dict[Path, NotebookNode]) -> dict[Path, NotebookNode]:
    for path, notebook in built.items():
        if path.exists():
            keep_outputs(notebook, read_notebook(path))
    return built


def build(name: str, folders: Folders = HERE) -> list[Path]:
    """Write the notebooks of one source, keeping the outputs of unchanged cells. Returns the paths."""
    built = _with_stored_outputs(compose(name, folders))
    for path, notebook in built.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, _text(notebook).encode())
    return list(built)


def build_and_execute(
    name: str, folders: Folders = HERE, profile: str = "cpu", timeout: int = 1200, measure: bool = False
) -> dict[Path, Measured]:
    """Run the notebooks of one source and store the outputs. Files change only if every cell of all of them ran.

    Args:
        name: ``NN_name``.
        folders: where things are.
        profile: ``smoke``, ``cpu`` or ``gpu``.
        timeout: seconds a cell may take.
        measure: also write seconds and peak memory of the reader's notebook to ``results/run_cards.json``,
            which run cards quote.

    Raises:
        BuildError: as :func:`compose` and :func:`execute`.
    """
    built = compose(name, folders, unmeasured=measure)
    for path in built:
        path.parent.mkdir(parents=True, exist_ok=True)
    costs = {path: execute(nb, path.parent, profile, timeout, path.name) for path, nb in built.items()}
    if measure:
        cost = costs[folders.page(name)]
        cards = folders.results / "run_cards.json"
        known = json.loads(cards.read_text(encoding="utf-8")) if cards.exists() else {}
        known.setdefault(name, {})[profile] = {
            "seconds": round(cost.seconds, 1),
            "cpu_seconds": round(cost.cpu_seconds, 1),
            "peak_mib": cost.peak_mib,
            "cores": os.cpu_count(),
        }
        write_atomically(cards, (json.dumps(known, indent=1, sort_keys=True) + "\n").encode())
        for path, notebook in compose(name, folders).items():
            keep_outputs(notebook, built[path])
            built[path] = notebook
    for path, notebook in built.items():
        write_atomically(path, _text(notebook).encode())
    return costs


def out_of_step(name: str, folders: Folders = HERE) -> list[str]:
    """What differs between one source and its notebooks, one sentence each; empty if nothing does."""
    found: list[str] = []
    for path, new in compose(name, folders).items():
        shown = path.relative_to(folders.notebooks).as_posix()
        if not path.exists():
            found.append(f"{shown} is missing")
            continue
        old = read_notebook(path)
        keep_outputs(new, old)
        if new != old:
            found.append(f"{shown} is out of step with src/{name}.py: {_first_difference(new, old)}")
        stale = old.metadata.get("vos_tutorial", {}).get("code_sha256") != code_hash(new)
        problem = "they were made by other code" if stale else counts_problem(new)
        if problem:
            found.append(f"{shown}: its outputs are stale ({problem}); build it with --execute")
    extra = folders.solution(name)
    if extra.exists() and extra not in compose(name, folders):
        found.append(f"solutions/{name}.ipynb has no exercise in its source; delete it")
    return found


def _first_difference(new: NotebookNode, old: NotebookNode) -> str:
    for number, (ours, theirs) in enumerate(zip(new.cells, old.cells, strict=False)):
        if ours != theirs:
            first = (ours.source.strip().splitlines() or [""])[0]
            return f"cell {number} ({first!r})"
    if len(new.cells) != len(old.cells):
        return f"it has {len(old.cells)} cells, the source makes {len(new.cells)}"
    return "its metadata"


def without_source(folders: Folders = HERE) -> list[str]:
    """Notebooks that no source makes."""
    wanted = {path for name in folders.names() for path in (folders.page(name), folders.solution(name))}
    return [
        f"{path.relative_to(folders.notebooks).as_posix()} has no source"
        for path in folders.built()
        if path not in wanted
    ]


# --- command line ------------------------------------------------------------------------------------------------


def main(argv: list[str] | None = None) -> int:
    """Returns 0, or 1 with the reason on stderr."""
    parser = argparse.ArgumentParser(prog="tools/notebooks.py", description="Build the notebooks from their sources.")
    commands = parser.add_subparsers(dest="command", required=True)
    build_ = commands.add_parser("build", help="write notebooks from notebooks/src/*.py")
    build_.add_argument("names", nargs="*", help="NN_name, NN or appendix/NN; all if none is given")
    build_.add_argument("--execute", action="store_true", help="run the notebooks and store their outputs")
    build_.add_argument("--check", action="store_true", help="write nothing; exit 1 if anything is out of step")
    build_.add_argument("--profile", choices=PROFILES, default="cpu", help="with --execute (default: cpu)")
    build_.add_argument("--timeout", type=int, default=1200, help="seconds a cell may take (default: 1200)")
    build_.add_argument("--measure", action="store_true", help="with --execute: write results/run_cards.json")
    options = parser.parse_args(argv)
    if options.check and options.execute:
        parser.error("--check writes nothing, so it does not go with --execute")
    if options.measure and not options.execute:
        parser.error("--measure needs --execute")
    try:
        return _run(options)
    except (BuildError, TutorialError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


def _run(options: argparse.Namespace) -> int:
    known = HERE.names()
    names = [next((k for k in known if k == n or k.startswith(f"{n}_")), n) for n in options.names] or known
    if not names:
        raise BuildError(f"there is no source in {HERE.sources}.")
    if options.check:
        found = [line for name in names for line in out_of_step(name)]
        found += [] if options.names else without_source() + sheets_out_of_step(HERE)
        for line in found:
            print(line, file=sys.stderr)
        return 1 if found else 0
    for name in names:
        if options.execute:
            costs = build_and_execute(name, HERE, options.profile, options.timeout, options.measure)
            for path, cost in costs.items():
                shown = path.relative_to(ROOT)
                spent = f"{cost.seconds:.1f} s, {cost.cpu_seconds:.1f} CPU-s, peak {cost.peak_mib} MiB"
                print(f"{shown}  {spent}, {options.profile}", flush=True)
        else:
            for path in build(name):
                print(path.relative_to(ROOT), flush=True)
    for which in SHEETS:
        write_atomically(HERE.notebooks / f"{which}.md", sheet(which, HERE).encode())
    return 0


if __name__ == "__main__":
    sys.exit(main())
