"""GradeBench in a page of its own: the page's grades are the library's, and the sliders obey the keyboard."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from vos_tutorial.course.widgets import GradeBench
from vos_tutorial.data.worlds.sprites import make_clip

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.browser


@pytest.fixture
def widget() -> GradeBench:
    clip = make_clip(6, size=120, length=1, split="test")
    return GradeBench(clip.frames[0], clip.masks[0] == 1, alt="A sprite")


def shown(page: Page) -> list[str]:
    """J, F, precision and recall as the page writes them."""
    return page.locator(".vos-grades b").all_inner_texts()


SETTINGS = [
    (0, 0, 0, 0),
    (3, 0, 0, 0),
    (-24, 24, 10, 0),
    (1, -2, -3, 30),
    (0, 0, -10, 0),
    (5, 5, 2, 55),
    (0, 0, 0, 100),
]


def test_the_page_grades_as_the_library_does(page_of: Callable[[GradeBench], Page], widget: GradeBench) -> None:
    page = page_of(widget)
    for setting in SETTINGS:
        for name, value in zip(("right", "down", "grow", "hide"), setting, strict=True):
            setattr(widget, name, value)
            page.evaluate("([n, v]) => window.hosted.model.set(n, v)", [name, value])
        page.wait_for_selector(f".vos[data-dials='{' '.join(map(str, setting))}']")
        page_grades = [float(text) for text in shown(page)]
        assert page_grades == pytest.approx(list(widget.grades), abs=0.00501), setting


def test_keys_move_the_sliders_and_reset_puts_them_back(
    page_of: Callable[[GradeBench], Page], widget: GradeBench
) -> None:
    page = page_of(widget)
    page.get_by_role("slider", name="grow").press("ArrowRight")
    page.get_by_role("slider", name="shift right").press("ArrowLeft")
    page.wait_for_selector(".vos[data-dials='-1 0 1 0']")
    assert page.evaluate("window.hosted.model.saves") == [{"grow": 1}, {"right": -1}]
    tree = page.locator("main").aria_snapshot()
    for line in (
        'group "Grade bench"',
        'slider "shift down"',
        'img "A sprite. The prediction filled, the truth as a line; J 0.',
    ):
        assert line in tree, tree
    page.get_by_role("button", name="Reset").click()
    page.wait_for_selector(".vos[data-dials='0 0 0 0']")
    assert shown(page) == ["1.00"] * 4
    focusable = page.locator(".vos input, .vos button")
    kept = [focusable.nth(i).get_attribute("data-lm-suppress-shortcuts") for i in range(focusable.count())]
    assert kept == ["true"] * 5
    page.evaluate("window.hosted.close()")
    assert page.evaluate("window.hosted.model.listening()") == 0
