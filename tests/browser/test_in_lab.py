"""MaskPlayer in a live JupyterLab: with a kernel behind it, and while that kernel is busy."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tools.live_lab import Notebook, Server

pytestmark = pytest.mark.browser
CELLS = [
    """import torch
from vos_tutorial.clip import Clip
from vos_tutorial.course.widgets import MaskPlayer
frames = torch.full((12, 3, 48, 64), 90, dtype=torch.uint8)
masks = torch.zeros(12, 48, 64, dtype=torch.uint8)
for t in range(12):
    masks[t, 10:30, 3 * t : 3 * t + 20] = 1
player = MaskPlayer(Clip(frames, masks, "walk"), pred=masks.roll(1, 0))
player""",
    "print('the last cell')",
]


@pytest.fixture(scope="module")
def notebook(lab: Callable[..., AbstractContextManager[Notebook]]) -> Iterator[Notebook]:
    """The notebook above, run; at the end no cell may have failed and the console must be clean."""
    with lab(CELLS) as opened:
        opened.run_all()
        opened.page.wait_for_selector(".vos[data-ready]")
        yield opened
        assert opened.cell_errors() == []
        assert opened.console_errors == []


def shown(notebook: Notebook, frame: int) -> None:
    notebook.page.wait_for_selector(f".vos[data-frame='{frame}']")


def test_scrubbing_reaches_python_and_python_reaches_the_page(notebook: Notebook) -> None:
    notebook.page.locator(".vos-picture").press("End")
    shown(notebook, 11)
    notebook.eventually("player.frame", 11)
    notebook.py("setattr(player, 'frame', 4)")
    shown(notebook, 4)
    notebook.py("setattr(player, 'view', 'error')")
    notebook.page.wait_for_selector(".vos[data-view='error']")
    notebook.page.get_by_role("combobox", name="View", exact=True).select_option("truth")
    notebook.eventually("player.view", "truth")


def test_a_new_prediction_appears(notebook: Notebook) -> None:
    notebook.py("setattr(player, 'pred', {'copy': masks[:1].expand_as(masks), 'net': masks})")
    notebook.page.wait_for_function("document.querySelectorAll('.vos option').length === 5")
    notebook.page.get_by_role("combobox", name="View", exact=True).select_option("net")
    notebook.page.wait_for_selector(".vos[data-view='net']")
    notebook.eventually("player.view", "net")


def test_it_moves_while_the_kernel_is_busy(notebook: Notebook, lab_server: Server) -> None:
    # The page's own notion of "busy" flickers with every message of a widget; files say what the kernel does.
    flag, done = lab_server.root / "go-on", lab_server.root / "done"
    notebook.page.locator(".vos-picture").press("Home")
    notebook.eventually("player.frame", 0)
    wait = f"while not os.path.exists({str(flag)!r}): time.sleep(0.02)"
    notebook.start(f"import os, time\n{wait}\nopen({str(done)!r}, 'w').close()")
    for frame in range(1, 6):
        notebook.page.locator(".vos-picture").press("ArrowRight")
        shown(notebook, frame)
    assert not done.exists()
    flag.write_text("")
    notebook.eventually("player.frame", 5)
    assert done.exists()


def test_its_keys_are_no_shortcuts_of_the_notebook(notebook: Notebook) -> None:
    before = notebook.cell_count()
    notebook.page.locator(".vos-picture").click()
    notebook.page.keyboard.press("b")
    notebook.page.keyboard.press("ArrowDown")
    notebook.page.locator(".vos-play").focus()
    notebook.page.keyboard.press("a")
    assert notebook.page.evaluate("document.activeElement.className") == "vos-play"
    assert notebook.cell_count() == before
    notebook.page.locator(".jp-InputPrompt").last.click()  # outside the widget the same key does insert one
    notebook.page.keyboard.press("b")
    notebook.page.wait_for_function(f"window.jupyterapp.shell.currentWidget.content.widgets.length === {before + 1}")


def test_the_screenshot_tool_sees_the_whole_notebook(notebook: Notebook, tmp_path: Path) -> None:
    pictures = notebook.screenshots(tmp_path / "lab.png")
    assert [p.name for p in pictures] == ["lab.png"]
    assert pictures[0].stat().st_size > 10_000
