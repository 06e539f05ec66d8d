"""GuidanceSwitch in a page of its own: what the radio buttons show."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import pytest

from vos_tutorial.course import figures
from vos_tutorial.course.widgets import GuidanceSwitch

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.browser
T, H, W = 5, 40, 60
FIRSTS, SECONDS = ("true mask", "blank"), ("own output", "blank", "shifted")


@pytest.fixture
def widget() -> GuidanceSwitch:
    """Every setting marks its own columns, every frame its own rows."""
    maps = {}
    for i, first in enumerate(FIRSTS):
        for j, second in enumerate(SECONDS):
            p = np.zeros((T, H, W), np.float32)
            for t in range(T):
                p[t, 5 * t : 5 * t + 15, 10 * (3 * i + j) : 10 * (3 * i + j) + 10] = 0.9
            maps[first, second] = p
    truth = (maps["true mask", "blank"] > 0).astype(np.uint8)
    return GuidanceSwitch(np.full((T, 3, H, W), 100, np.uint8), maps, truth, alt="A walk")


def marked(page: Page, which: int) -> np.ndarray:
    """Where a picture is as bright (score map) or as coloured (frame) as the object: ``bool [H, W]``."""
    cells = page.evaluate(
        """([n, h, w]) => { const c = document.querySelectorAll(".vos-switch canvas")[n];
             const { data } = c.getContext("2d").getImageData(0, 0, c.width, c.height);
             const [dy, dx] = [c.height / h, c.width / w];
             return Array.from({ length: h * w * 3 }, (_, i) => { // the middle of every cell
               const [y, x] = [Math.floor(i / 3 / w), Math.floor(i / 3) % w];
               const at = Math.floor((y + 0.5) * dy) * c.width + Math.floor((x + 0.5) * dx);
               return data[4 * at + (i % 3)]; }); }""",
        [which, H, W],
    )
    cells = np.array(cells).reshape(H, W, 3)
    return cells[..., 0] - cells[..., 2] > 40


def test_radios_slider_and_keys_choose_what_is_shown(
    page_of: Callable[[GuidanceSwitch], Page], widget: GuidanceSwitch
) -> None:
    page = page_of(widget)
    page.wait_for_selector(".vos[data-frame='0'][data-choice='true mask | own output']")
    page.get_by_role("group", name="reference").get_by_label("blank").check()
    page.get_by_role("group", name="previous mask").get_by_label("shifted").check()
    page.wait_for_selector(".vos[data-choice='blank | shifted']")
    page.locator(".vos-frame").press("End")
    page.wait_for_selector(".vos[data-frame='4']")
    for which in (0, 1):  # the mask and the score map
        seen = marked(page, which)
        assert seen[22:33, 52:58].all()
        assert not seen[:18].any()
        assert not seen[:, :48].any()
    saved = page.evaluate("window.hosted.model.saves")
    assert saved == [{"choice": ["blank", "own output"]}, {"choice": ["blank", "shifted"]}, {"frame": 4}]
    assert page.locator(".vos-values").inner_text().split("\n") == ["4 / 4", "J 0 %", "mean 0 %"]
    page.get_by_role("slider", name="Frame").press("ArrowLeft")
    page.wait_for_selector(".vos[data-frame='3']")
    page.evaluate("window.hosted.model.set('choice', ['true mask', 'blank'])")
    page.wait_for_selector(".vos[data-choice='true mask | blank']")
    assert page.get_by_text("J 100 %").is_visible()
    tree = page.locator("main").aria_snapshot()
    for line in (
        'group "Guidance switch"',
        'img "A walk. Frame 3 of 4, reference: true mask, previous mask: blank. The mask covers 6.3 percent',
        'img "Score map; the highest probability is 0.90."',
        'radio "true mask" [checked]',
        'slider "Frame"',
    ):
        assert line in tree, tree
    focusable = page.locator(".vos input, .vos [tabindex]")
    kept = [focusable.nth(i).get_attribute("data-lm-suppress-shortcuts") for i in range(focusable.count())]
    assert kept == ["true"] * (5 + 1 + 1)
    assert figures.object_colours()[1].tolist() == [230, 159, 0]  # what marked() looks for
    page.evaluate("window.hosted.close()")
    assert page.evaluate("window.hosted.model.listening()") == 0
