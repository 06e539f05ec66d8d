"""MaskPainter in a live JupyterLab: painting while the kernel works, a restart, and the cell run again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

if TYPE_CHECKING:
    from playwright.sync_api import FloatRect, Locator

    from tools.live_lab import Notebook, Server

pytestmark = pytest.mark.browser
T, H, W = 10, 60, 96
TESTS = Path(__file__).resolve().parent.parent
CELLS = [
    f"""import sys, threading
sys.path.insert(0, {str(TESTS)!r})
from painter_kernel import Walks
from vos_tutorial.course.widgets import MaskPainter
from vos_tutorial.video import Project, Video
turns = threading.Semaphore(0)
project = Project.open("walk-project", Video("walk"))
painter = MaskPainter(project, Walks(gate=lambda: turns.acquire(timeout=20)))
painter""",
    "print('the last cell')",
]

STATE = """() => [...document.querySelectorAll(".vos-paint")].map((root) => ({
  ...root.dataset,
  status: root.querySelector(".vp-status").textContent,
  banner: root.querySelector(".vp-banner").textContent,
}))"""


@pytest.fixture(scope="module")
def notebook(lab: Callable[..., AbstractContextManager[Notebook]], lab_server: Server) -> Iterator[Notebook]:
    """The notebook above, run; at the end no cell may have failed."""
    folder = lab_server.root / "walk"
    folder.mkdir()
    for t in range(T):
        frame = np.full((H, W, 3), (40, 60, 50), np.uint8)
        frame[20:40, 10 + 3 * t : 30 + 3 * t] = (230, 210, 60)
        Image.fromarray(frame).save(folder / f"{t:05d}.png")
    with lab(CELLS) as opened:
        opened.run_all()
        assert opened.cell_errors() == []
        opened.page.wait_for_selector(".vos-paint[data-ready]")
        yield opened
        assert opened.cell_errors() == []


def shown(notebook: Notebook, **data: object) -> None:
    """Wait until the painter says all of this; what it says instead is told if it never does."""
    from playwright.sync_api import TimeoutError as Late

    selector = ".vos-paint" + "".join(f"[data-{name}='{value}']" for name, value in data.items())
    try:
        notebook.page.wait_for_selector(selector)
    except Late:
        found = notebook.page.evaluate(STATE)
        raise AssertionError(f"the painter never said {data}; it says {found}") from None


def canvas(notebook: Notebook) -> Locator:
    return notebook.page.locator(".vp-canvas")


def resting_box(notebook: Notebook) -> FloatRect:
    """Where the canvas lies once Jupyter has done scrolling and laying out."""
    canvas(notebook).scroll_into_view_if_needed()
    before, box = None, canvas(notebook).bounding_box()
    while box is None or box != before:
        notebook.page.wait_for_timeout(50)
        before, box = box, canvas(notebook).bounding_box()
    return box


def stroke(notebook: Notebook, *points: tuple[float, float]) -> None:
    """Drag through points of the picture."""
    box = resting_box(notebook)
    scale = min(box["width"] / W, box["height"] / H)
    left, top = box["x"] + (box["width"] - W * scale) / 2, box["y"] + (box["height"] - H * scale) / 2
    for index, (x, y) in enumerate(points):
        notebook.page.mouse.move(left + x * scale, top + y * scale, steps=5)
        if index == 0:
            notebook.page.mouse.down()
    notebook.page.mouse.up()


def test_a_stroke_reaches_the_disk(notebook: Notebook) -> None:
    stroke(notebook, (15, 25), (25, 25), (25, 35), (15, 35), (15, 25))
    shown(notebook, unsaved=0, undo=1)
    notebook.eventually("bool(project.masks(0)[1][25, 20])", True)
    assert notebook.py("project.given(1)") == {0: "first"}


def test_it_paints_while_the_kernel_is_busy_and_is_saved_afterwards(notebook: Notebook, lab_server: Server) -> None:
    flag = lab_server.root / "painter-go-on"
    notebook.start(f"import os, time\nwhile not os.path.exists({str(flag)!r}): time.sleep(0.02)")
    edits = int(notebook.page.locator(".vos-paint").get_attribute("data-edits") or 0)
    stroke(notebook, (40, 50), (60, 50))
    shown(notebook, edits=edits + 1, undo=2)
    flag.write_text("")
    shown(notebook, unsaved=0)
    notebook.eventually("bool(project.masks(0)[1][50, 50])", True)
    canvas(notebook).press("Control+z")
    shown(notebook, unsaved=0, undo=1)
    notebook.eventually("bool(project.masks(0)[1][50, 50])", False)


def test_a_method_runs_while_page_and_kernel_answer(notebook: Notebook) -> None:
    canvas(notebook).press("p")
    shown(notebook, running="true")
    notebook.py("turns.release(4)")
    shown(notebook, frame=4)  # the preview
    assert notebook.py("1 + 1") == 2
    canvas(notebook).press("p")  # stop
    notebook.py("turns.release(1)")
    shown(notebook, running="false")
    notebook.eventually("painter.running", False)
    computed = notebook.py("project.states()[:, 0].tolist()")
    assert computed == [3, 2, 2, 2, 2, 2, 0, 0, 0, 0]
    notebook.py("turns.release(50)")
    canvas(notebook).press("p")
    notebook.eventually("project.states()[:, 0].tolist()", [3] + [2] * (T - 1))
    shown(notebook, running="false")


def test_its_keys_are_no_shortcuts_of_the_notebook(notebook: Notebook) -> None:
    before = notebook.cell_count()
    canvas(notebook).press("a")
    canvas(notebook).press("b")
    canvas(notebook).press("z")
    shown(notebook, tool="brush", unsaved=0)
    assert notebook.cell_count() == before


def test_a_restart_of_the_kernel_loses_nothing(notebook: Notebook) -> None:
    canvas(notebook).press("Home")
    shown(notebook, frame=0)
    masks = notebook.py("project.result(0).numpy().tolist()")
    notebook.page.evaluate("window.jupyterapp.shell.currentWidget.sessionContext.session.kernel.restart()")
    notebook.page.wait_for_function(
        "window.jupyterapp.shell.currentWidget.sessionContext.session.kernel.status === 'idle'"
    )
    stroke(notebook, (70, 10), (80, 10))
    shown(notebook, link="lost", unsaved=1)
    assert "run the cell again" in notebook.page.locator(".vp-banner").inner_text()
    notebook.run_all()
    shown(notebook, ready="true", link="live", unsaved=0)
    notebook.eventually("bool(project.masks(0)[1][10, 75])", True)
    after = np.array(notebook.py("project.result(0).numpy().tolist()"))
    added = after != np.array(masks)
    assert added.any()
    assert not added[20:].any()  # the stroke, and nothing else
    assert notebook.py("project.states()[3:, 0].tolist()") == [2] * (T - 3)


def test_the_cell_can_be_run_again(notebook: Notebook) -> None:
    undo = notebook.page.locator(".vos-paint").get_attribute("data-undo")
    notebook.run_all()
    shown(notebook, ready="true", link="live", undo=undo)
    assert notebook.page.locator(".vos-paint").count() == 1
    stroke(notebook, (70, 50), (80, 50))
    shown(notebook, unsaved=0, undo=int(undo or 0) + 1)
    notebook.eventually("bool(project.masks(0)[1][50, 75])", True)
