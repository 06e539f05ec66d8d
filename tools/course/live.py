"""The widgets of a page, alive: the notebook runs at the smoke size, and each widget writes a page of its own."""

from __future__ import annotations

import os
from pathlib import Path

import nbformat
from jupyter_client.kernelspec import NATIVE_KERNEL_NAME
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError

from vos_tutorial.data.davis import NOWHERE
from vos_tutorial.data.davis import VARIABLE as DAVIS
from vos_tutorial.profile import VARIABLE

from .pages import SiteError, is_widget

RECORD = """
import itertools, pathlib
from vos_tutorial.course.widgets import widget as _widget
_numbers, _show = itertools.count(), _widget.Widget._repr_mimebundle_
def _recorded(self, **kwargs):
    self.to_html(pathlib.Path({folder!r}) / f"{stem}-{{next(_numbers)}}.html")
    return _show(self, **kwargs)
_widget.Widget._repr_mimebundle_ = _recorded
"""
# The page around a widget's frame gives it the height that it says it needs.
HEIGHT = """<script>
const tell = () => parent.postMessage({ vosHeight: document.documentElement.scrollHeight }, "*");
new ResizeObserver(tell).observe(document.body);
addEventListener("message", (event) => {
  if (event.data && event.data.vosTheme) document.documentElement.style.colorScheme = event.data.vosTheme;
});
</script>
</body>"""


def record(path: Path, folder: Path, timeout: int = 600) -> dict[int, str]:
    """Run a notebook and write the page of its n-th widget to ``folder/STEM-n.html``.

    Returns:
        ``{n: file name}``; empty, without a run, for a notebook that shows no widget.

    Raises:
        SiteError: if a cell fails.
    """
    notebook = nbformat.read(path, as_version=4)
    shown = sum(is_widget(output) for cell in notebook.cells for output in cell.get("outputs", []))
    if not shown:
        return {}
    folder.mkdir(parents=True, exist_ok=True)
    recorder = nbformat.v4.new_code_cell(RECORD.format(folder=str(folder), stem=path.stem))
    notebook.cells.insert(0, recorder)
    client = NotebookClient(
        notebook, timeout=timeout, kernel_name=NATIVE_KERNEL_NAME, resources={"metadata": {"path": str(path.parent)}}
    )
    try:
        client.execute(env={**os.environ, VARIABLE: "smoke", DAVIS: NOWHERE, "TQDM_DISABLE": "1"})
    except (CellExecutionError, CellTimeoutError, DeadKernelError) as error:
        raise SiteError(f"{path.name} did not run for its widgets: {error}") from None
    written = {n: f"{path.stem}-{n}.html" for n in range(shown) if (folder / f"{path.stem}-{n}.html").exists()}
    for name in written.values():
        text = (folder / name).read_text(encoding="utf-8")
        (folder / name).write_text(text.replace("</body>", HEIGHT, 1), encoding="utf-8")
    return written
