"""A deck of slides in a browser: keys, lines one by one, notes in their own window, the overview, no barriers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.browser
NAME = "00_start_here"


@pytest.fixture
def deck(offline: Callable[..., Page], tmp_path: Path) -> Page:
    """The slides of page 00, opened from disk."""
    from tools.course import pages, slides, teaching
    from tools.notebooks import HERE

    path = tmp_path / "deck.html"
    path.write_text(slides.deck(pages.read(HERE.page(NAME)), NAME, teaching.load(NAME)), encoding="utf-8")
    page = offline(1280, 720)
    page.goto(path.as_uri())
    return page


def title(page: Page) -> str:
    return page.locator(".slide.now").locator("h1, h2").inner_text()


def test_keys_turn_the_slides(deck: Page) -> None:
    count = deck.locator(".slide").count()
    assert deck.locator("#where").inner_text() == f"1 / {count}"
    deck.keyboard.press("ArrowRight")
    assert deck.locator("#where").inner_text() == f"2 / {count}"
    assert deck.locator(".slide.now img").evaluate("image => image.decode().then(() => image.naturalWidth)") > 100
    deck.keyboard.press("End")
    assert deck.locator("#where").inner_text() == f"{count} / {count}"
    deck.keyboard.press("Home")
    deck.get_by_role("button", name="Next slide").click()
    deck.wait_for_function("location.hash === '#2'")


def test_points_come_one_by_one(deck: Page) -> None:
    number = deck.evaluate("slides.findIndex((slide) => slide.querySelector('li.later'))")
    deck.evaluate("number => show(number)", number)
    points = deck.locator(".slide.now li.later")
    assert [points.nth(i).is_visible() for i in range(2)] == [False, False]
    deck.keyboard.press("ArrowRight")
    assert [points.nth(i).is_visible() for i in range(2)] == [True, False]
    deck.keyboard.press("ArrowLeft")
    assert not points.nth(0).is_visible()
    here = title(deck)
    for _ in range(points.count() + 1):
        deck.keyboard.press(" ")
    assert title(deck) != here


def test_notes_follow_in_a_window_of_their_own(deck: Page) -> None:
    with deck.expect_popup() as opened:
        deck.keyboard.press("n")
    notes = opened.value
    deck.keyboard.press("ArrowRight")
    assert title(deck) in notes.locator("#said").inner_text()
    assert len(notes.locator("#said").inner_text()) > 150
    assert notes.locator("#clock").inner_text().startswith("Slide 2 of")
    notes.keyboard.press("ArrowRight")  # the keys work there, too
    deck.wait_for_function("location.hash === '#3'")


def test_the_overview_leads_to_a_slide(deck: Page) -> None:
    deck.keyboard.press("o")
    assert deck.locator(".slide").nth(4).is_visible()
    deck.locator(".slide").nth(4).click()
    deck.wait_for_function("location.hash === '#5'")
    assert not deck.locator(".slide").nth(0).is_visible()


def test_no_barriers(deck: Page, barriers: Callable[..., list[str]]) -> None:
    for number in range(deck.locator(".slide").count()):
        deck.evaluate("number => show(number, true)", number)
        assert barriers(deck) == []
