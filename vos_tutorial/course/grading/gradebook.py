"""The grader inside nbgrader: a preprocessor in the place of the one that runs a notebook in a kernel.

nbgrader keeps its gradebook, exchange folder, feedback and forms. Only ``nbgrader autograde`` changes: a submission
goes through :func:`.runner.grade`, and each graded cell gets the output from which nbgrader reads its points. A
folder made by ``tools/grading.py`` says so in its ``nbgrader_config.py``::

    c.Autograde.autograde_preprocessors = [Graded, ...]
    c.Graded.seed = 71
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import nbformat
from nbformat import NotebookNode
from nbgrader.preprocessors import NbGraderPreprocessor
from traitlets import Float, Integer

from .handed_out import checked
from .runner import Item, Limits, grade
from .submission import of_cells

SEPARATOR = "-"  # of the parts of a graded cell's name: count_objects-page, count_objects-fresh


def graded_cell(name: str, kind: str) -> str:
    """The ``grade_id`` of the cell that holds the points of an item."""
    return f"{name}{SEPARATOR}{kind}"


class Graded(NbGraderPreprocessor):
    """Grade the exercises of a notebook in a worker, and write the result into its graded cells."""

    seed = Integer(0, help="The seed of the fresh cases; keep it to yourself.").tag(config=True)
    seconds = Float(Limits.seconds, help="CPU seconds an exercise may take.").tag(config=True)
    memory_mib = Integer(Limits.memory_mib, help="MiB of memory a submission may take.").tag(config=True)

    def preprocess(self, nb: NotebookNode, resources: Any) -> tuple[NotebookNode, Any]:
        """Grade; nbgrader has put the locked cells back before, so that the checks in them are the course's."""
        cells = [cell for cell in nb.cells if cell.cell_type == "code"]
        locked = [cell for cell in cells if cell.metadata.get("nbgrader", {}).get("grade")]
        out = checked(resources["nbgrader"]["notebook"], (cell.source for cell in locked))
        ours = [(cell.source, _tags(cell)) for cell in cells if cell not in locked]
        items = grade(of_cells(ours), out.page, out.names, self.seed, Limits(self.seconds, self.memory_mib))
        write(items, locked)
        return nb, resources


def _tags(cell: NotebookNode) -> set[str]:
    return {str(tag) for tag in cell.metadata.get("tags", [])}


def write(items: Iterable[Item], cells: Iterable[NotebookNode]) -> None:
    """Give each graded cell the output of its item: a line for a right one, an error for a wrong one.

    A graded cell without an item keeps no output but an error, so that nbgrader never reads full points into it.
    """
    by_id = {graded_cell(item.name, item.kind): item for item in items}
    for cell in cells:
        item = by_id.get(cell.metadata.nbgrader.grade_id)
        cell.outputs, cell.execution_count = [_output(item)], None


def _output(item: Item | None) -> NotebookNode:
    if item is not None and item.right:
        return nbformat.v4.new_output("stream", name="stdout", text=f"{item.reason}\n")
    reason = item.reason if item is not None else "This cell was not graded."
    return nbformat.v4.new_output("error", ename="Wrong", evalue=reason, traceback=[reason])
