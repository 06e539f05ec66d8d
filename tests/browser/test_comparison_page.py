"""ComparisonPlayer in a page of its own: all methods in step, the frames where they differ, the keyboard."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest
import torch

from vos_tutorial.clip import Clip
from vos_tutorial.course.widgets import ComparisonPlayer

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.browser
PageOf = Callable[[ComparisonPlayer], "Page"]


@pytest.fixture
def player() -> ComparisonPlayer:
    """Twelve frames; "late" is worst in frame 6, "none" nearly as bad everywhere."""
    masks = torch.zeros(12, 20, 30, dtype=torch.uint8)
    masks[:, 4:12, 2:12] = 1
    late = masks.clone()
    late[6] = 0
    late[6, 15:18, 20:28] = 1
    late[2, 4:8] = 0
    frames = torch.full((12, 3, 20, 30), 90, dtype=torch.uint8)
    return ComparisonPlayer(Clip(frames, masks, "still"), {"right": masks.clone(), "late": late})


def at(page: Page, frame: int) -> None:
    page.wait_for_selector(f'.vos-comparison[data-frame="{frame}"]')


def scores(page: Page) -> list[str]:
    return [text.strip() for text in page.locator(".vos-score").all_inner_texts()]


def test_it_opens_where_methods_differ_and_moves_in_step(page_of: PageOf, player: ComparisonPlayer) -> None:
    page = page_of(player)
    at(page, 6)
    assert scores(page) == ["★ J 100 %", "J 0 %"]
    page.locator(".vos-panels").focus()
    page.keyboard.press("ArrowRight")
    at(page, 7)
    assert scores(page) == ["★ J 100 %", "★ J 100 %"]
    labels = [canvas.get_attribute("aria-label") for canvas in page.locator("canvas.vos-picture").all()]
    assert labels == ["right, frame 7, J 100 percent", "late, frame 7, J 100 percent"]
    page.keyboard.press("Home")
    at(page, 0)
    assert scores(page) == ["", ""]


def test_the_key_d_goes_from_the_widest_frame_to_the_next(page_of: PageOf, player: ComparisonPlayer) -> None:
    page = page_of(player)
    page.keyboard.press("Tab")
    page.keyboard.press("End")
    at(page, 11)
    page.keyboard.press("d")
    at(page, 6)
    assert "differ most: 100 points" in page.locator(".vos-said").inner_text()
    page.get_by_role("button", name="Where they differ").click()
    at(page, 2)
    assert "Another such frame: 50 points" in page.locator(".vos-said").inner_text()
    page.keyboard.press("d")
    at(page, 6)


def test_the_truth_is_a_white_line_over_every_answer(page_of: PageOf, player: ComparisonPlayer) -> None:
    page = page_of(player)
    white = """canvas => { const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
               let n = 0;
               for (let i = 0; i < data.length; i += 4) n += data[i] + data[i + 1] + data[i + 2] > 750;
               return n; }"""
    counts = [canvas.evaluate(white) for canvas in page.locator("canvas.vos-picture").all()]
    assert counts[0] == counts[1] > 100


def test_playing_and_closing(page_of: PageOf, player: ComparisonPlayer) -> None:
    page = page_of(player)
    page.get_by_role("button", name="Play").click()
    page.wait_for_selector('.vos-comparison[data-playing="true"]')
    page.wait_for_function("document.querySelector('.vos-comparison').dataset.frame !== '6'")
    page.get_by_role("button", name="Pause").click()
    page.evaluate("window.hosted.close()")
    assert page.evaluate("window.hosted.model.listening()") == 0
    assert page.locator(".vos-comparison").count() == 0
