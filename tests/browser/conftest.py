"""A headless Chromium, pages that hold one widget, and a live JupyterLab.

Without Chromium the tests skip and say so; ``VOS_TUTORIAL_REQUIRE_BROWSER=1`` makes them fail instead.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from vos_tutorial.doctor import find_chromium

if TYPE_CHECKING:  # without playwright these tests skip; they must still be collected
    from playwright.sync_api import Browser, BrowserContext, Page

    from tools.live_lab import Notebook, Server
    from vos_tutorial.course.widgets.widget import Widget

REQUIRED = os.environ.get("VOS_TUTORIAL_REQUIRE_BROWSER") == "1"


def missing(reason: str) -> None:
    """Skip, or fail where a browser is demanded."""
    if REQUIRED:
        pytest.fail(f"{reason}; VOS_TUTORIAL_REQUIRE_BROWSER=1 demands it", pytrace=False)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """One Chromium for all tests."""
    try:
        from tools.live_lab import chromium
    except ImportError as error:
        missing(f"playwright is not installed ({error})")
    executable = find_chromium()
    if executable is None:
        missing("no Chromium was found; python tools/chromium.py installs one")
    with chromium(executable) as opened:
        yield opened


@pytest.fixture
def offline(browser: Browser) -> Iterator[Callable[..., Page]]:
    """``offline(width, height)``: an empty page without a network.

    At the end of the test no error may stand in the console, and nothing may have been asked of the network.
    """
    from tools.live_lab import PATIENCE, stay_local

    contexts: list[BrowserContext] = []
    problems: list[str] = []

    def open_page(width: int, height: int) -> Page:
        contexts.append(browser.new_context(viewport={"width": width, "height": height}))
        page = contexts[-1].new_page()
        page.set_default_timeout(PATIENCE * 1000)
        stay_local(page)
        page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("request", lambda r: problems.append(r.url) if r.url.startswith(("http", "ws")) else None)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert problems == []


@pytest.fixture
def page_of(offline: Callable[..., Page], tmp_path: Path) -> Callable[[Widget], Page]:
    """``page_of(widget)``: an offline page that holds the widget alone, with its real state and no kernel."""

    def open_page(widget: Widget) -> Page:
        page = offline(900, 800)
        page.goto(widget.to_html(tmp_path / "widget.html").as_uri())
        page.wait_for_selector("[data-ready]")
        return page

    return open_page


@pytest.fixture
def barriers() -> Callable[..., list[str]]:
    """``barriers(page)``: what axe-core finds on the page against WCAG 2.1, levels A and AA."""
    axe = pytest.importorskip("axe_core_python", reason="axe-core is not installed")
    script = Path(axe.__file__).with_name("axe.min.js")

    def look(page: Page, **options: bool) -> list[str]:
        if not page.evaluate("'axe' in window"):
            page.add_script_tag(path=script)
        rules = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"], **options}
        found = page.evaluate("options => axe.run(options)", rules)
        assert len(found["passes"]) > 5, "axe-core hardly looked at anything"
        return [f"{v['id']}: {v['nodes'][0]['html'][:160]} ({len(v['nodes'])})" for v in found["violations"]]

    return look


@pytest.fixture(scope="session")
def lab_server(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One JupyterLab for all tests, on an empty folder (``.root``)."""
    from tools.live_lab import lab_server as serve

    with serve(tmp_path_factory.mktemp("lab")) as server:
        yield server


@pytest.fixture(scope="session")
def lab(browser: Browser, lab_server: Server) -> Callable[..., AbstractContextManager[Notebook]]:
    """``with lab(cells, theme="light") as notebook``: a new notebook of these code cells, open, its kernel idle."""
    from tools.live_lab import open_notebook, write_notebook

    count = 0

    @contextmanager
    def open_cells(cells: list[str], theme: str = "light") -> Iterator[Notebook]:
        nonlocal count
        count += 1
        path = write_notebook(lab_server.root / f"test-{count}.ipynb", cells)
        with open_notebook(browser, lab_server, path.name, theme) as notebook:
            yield notebook

    return open_cells
