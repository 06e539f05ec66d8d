"""The web site in a browser: search, a widget alive, a phone's width, the keyboard, and no barriers (axe-core)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.browser
NOTEBOOKS = Path(__file__).resolve().parents[2] / "notebooks"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The whole site, with the widgets of the first notebook alive."""
    from tools.course import live, site

    chosen = [*sorted(NOTEBOOKS.glob("[0-9]*.ipynb")), *sorted((NOTEBOOKS / "appendix").glob("*.ipynb"))]
    record = live.record
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(live, "record", lambda path, folder: record(path, folder) if "00_" in path.name else {})
        return site.build(site.Plan(chosen), tmp_path_factory.mktemp("built") / "site").parent


@pytest.fixture
def visit(offline: Callable[..., Page], built: Path) -> Page:
    """A page of the site, opened from disk."""
    page = offline(1300, 900)
    page.goto((built / "00_start_here.html").as_uri())
    return page


def test_search_with_the_keyboard_alone(visit: Page) -> None:
    visit.keyboard.press("/")
    visit.keyboard.type("boundary toler")
    visit.wait_for_selector("#hits li")
    assert "01 " in visit.locator("#hits li").first.inner_text() or "metrics" in visit.locator("#hits").inner_text()
    visit.keyboard.press("ArrowDown")
    chosen = visit.locator('#hits li[aria-selected="true"]').get_attribute("data-address")
    visit.keyboard.press("Enter")
    visit.wait_for_url(f"**/{str(chosen).split('/')[-1]}")
    visit.go_back()
    visit.fill("#query", "xylophonequartet")
    assert visit.locator("#hits").inner_text() == "Nothing found."


def test_a_widget_lives_on_its_page(visit: Page) -> None:
    frame = visit.locator(".live iframe").first
    frame.scroll_into_view_if_needed()
    inside = frame.content_frame
    inside.locator("[data-ready]").wait_for()
    height = "(element) => element.offsetHeight > 150 && element.offsetHeight < 900"  # as the widget asks for
    visit.wait_for_function(height, arg=frame.element_handle())
    inside.get_by_role("button").first.click()


def test_a_phone(visit: Page) -> None:
    visit.set_viewport_size({"width": 360, "height": 740})
    for name in ("00_start_here", "01_task_and_metrics", "05_stm_key_value_memory", "reference/metrics"):
        visit.goto(visit.url.split("/site/")[0] + f"/site/{name}.html")
        assert visit.evaluate("document.documentElement.scrollWidth") <= 360, name
    assert not visit.locator("#pages").is_visible()
    visit.get_by_role("button", name="Pages").click()
    visit.get_by_role("link", name="clip", exact=True).wait_for()


def test_dark_is_remembered(visit: Page) -> None:
    visit.get_by_role("button", name="Light or dark").click()
    theme = visit.evaluate("document.documentElement.dataset.theme")
    visit.reload()
    assert visit.evaluate("document.documentElement.dataset.theme") == theme


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("name", ["00_start_here", "05_stm_key_value_memory", "reference/metrics"])
def test_no_barriers(visit: Page, barriers: Callable[..., list[str]], theme: str, name: str) -> None:
    visit.evaluate(f"localStorage.setItem('theme', '{theme}')")
    visit.goto(visit.url.split("/site/")[0] + f"/site/{name}.html")
    assert barriers(visit, iframes=False) == []
