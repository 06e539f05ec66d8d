"""Rules for ``pytest --nbval notebooks/`` that nbval itself does not have.

* A strict run of a notebook whose execution counts are not 1..N is refused: nbval would run the cells without
  a count and compare nothing.
* After the first cell that fails, the rest of the notebook is skipped: its failures would only be echoes.
* A notebook over its budget fails the run. The budget (45 s unless the notebook's metadata say otherwise:
  ``vos_tutorial.smoke_seconds``) counts the kernel's *CPU* seconds, so that a busy machine does not matter, and
  the run fails only beyond ``TOLERANCE`` times the budget, so that a slower processor does not either.
  The table at the end shows who is above the budget itself.

The sums are made from the test reports, which pytest-xdist hands to the controlling process, so ``-n 2
--dist loadfile`` works too.

Kernels start one at a time. A kernel's ports are picked first and opened later, so two workers that start kernels
together may pick the same one, and one of the kernels dies.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Generator
from pathlib import Path
from typing import Any

import nbformat
import nbval.kernel
import psutil
import pytest
from filelock import FileLock

BUDGET_SECONDS = 45.0
TOLERANCE = 2.0

_LOCK = Path(__file__).parent / ".kernel-start.lock"
_start_new_kernel = nbval.kernel.start_new_kernel


def _start_alone(*args: Any, **kwargs: Any) -> Any:
    with FileLock(_LOCK):
        return _start_new_kernel(*args, **kwargs)


nbval.kernel.start_new_kernel = _start_alone

_seconds: dict[Path, float] = defaultdict(float)


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    return True if collection_path.name == ".ipynb_checkpoints" else None


def _counts(notebook: nbformat.NotebookNode) -> list[int | None]:
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    return [cell.execution_count for cell in cells if "nbval-skip" not in cell.metadata.get("tags", [])]


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Refuse the notebook (before a kernel starts), or skip what comes after its first failure."""
    notebook: Any = item.parent
    if not hasattr(notebook, "nb"):
        return
    failed = getattr(notebook, "first_failure", None)
    if failed is not None:
        pytest.skip(f"{failed} of {notebook.name} failed first")
    counts = _counts(notebook.nb)
    if notebook.compare_outputs and counts != list(range(1, len(counts) + 1)):
        notebook.first_failure = item.name
        pytest.fail(
            f"{notebook.name} is refused: its execution counts are {counts}, not 1..{len(counts)}, so a strict run "
            "would not compare every cell; build it with --execute.",
            pytrace=False,
        )


def _cpu_seconds(notebook: Any) -> float:
    """CPU seconds the notebook's kernel (and its children) have used since it started."""
    try:
        kernel = psutil.Process(notebook.kernel.km.provisioner.pid)
        times = kernel.cpu_times()
    except (AttributeError, TypeError, psutil.Error):  # no kernel: it did not start, or it died
        return 0.0
    return times.user + times.system + times.children_user + times.children_system


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Generator[None, Any, Any]:
    report = yield
    notebook: Any = item.parent
    if hasattr(notebook, "nb") and call.when == "call":
        if report.failed and getattr(notebook, "first_failure", None) is None:
            notebook.first_failure = item.name
        report.user_properties.append(("notebook", (str(notebook.path), _cpu_seconds(notebook))))
    return report


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    for name, value in report.user_properties:
        if name == "notebook":
            path, seconds = Path(value[0]), value[1]
            _seconds[path] = max(_seconds[path], seconds)


def _budget(path: Path) -> float:
    metadata = nbformat.read(path, as_version=4).metadata
    return float(metadata.get("vos_tutorial", {}).get("smoke_seconds", BUDGET_SECONDS))


def _table() -> tuple[list[str], list[Path]]:
    """One line a notebook, and the notebooks that fail the run."""
    lines, over = [], []
    for path, seconds in sorted(_seconds.items()):
        budget = _budget(path)
        mark = "  over its budget" if seconds > budget else ""
        if seconds > TOLERANCE * budget:
            over.append(path)
            mark = f"  FAILED: over {TOLERANCE:g} x its budget; make the smoke profile of this notebook smaller"
        lines.append(f"{seconds:6.1f} of {budget:g} s  {path.parent.name}/{path.name}{mark}")
    return lines, over


def pytest_sessionfinish(session: pytest.Session) -> None:
    is_worker = hasattr(session.config, "workerinput")
    if not is_worker and _table()[1] and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    lines, _ = _table()
    if lines:
        terminalreporter.section("CPU seconds of each notebook's kernel")
        for line in lines:
            terminalreporter.write_line(line)
