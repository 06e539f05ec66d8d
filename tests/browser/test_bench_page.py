"""GuideBench in a page of its own: sliders, radio buttons, pictures, the point on the cobweb."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from torch import Tensor

from vos_tutorial.course.widgets import GuideBench
from vos_tutorial.course.widgets.guide_bench import damaged
from vos_tutorial.geometry import iou

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.browser
H, W = 32, 40
TRUTH = torch.zeros(H, W, dtype=torch.bool)
TRUTH[8:20, 10:30] = True


def copies(image: Tensor, guide: Tensor) -> Tensor:
    return torch.stack([~guide, guide], 1).float()


def knows(image: Tensor, guide: Tensor) -> Tensor:
    return copies(image, TRUTH.expand(len(guide), -1, -1))


@pytest.fixture
def widget() -> GuideBench:
    picture = torch.full((3, H, W), 100, dtype=torch.uint8)
    return GuideBench(picture, TRUTH, {"copies": (copies, 0), "knows": (knows, 0)}, alt="A grey field")


def tinted(page: Page, which: int) -> np.ndarray:
    """Where a picture has the object's colour in the middle of a cell: ``bool [H, W]``."""
    cells = page.evaluate(
        """([n, h, w]) => { const c = document.querySelectorAll(".vos-bench canvas")[n];
             const { data } = c.getContext("2d").getImageData(0, 0, c.width, c.height);
             const [dy, dx] = [c.height / h, c.width / w];
             return Array.from({ length: h * w * 3 }, (_, i) => {
               const [y, x] = [Math.floor(i / 3 / w), Math.floor(i / 3) % w];
               const at = Math.floor((y + 0.5) * dy) * c.width + Math.floor((x + 0.5) * dx);
               return data[4 * at + (i % 3)]; }); }""",
        [which, H, W],
    )
    cells = np.array(cells).reshape(H, W, 3)
    return cells[..., 2] - cells[..., 0] > 25


def test_sliders_and_radios_choose_what_is_shown(page_of: Callable[[GuideBench], Page], widget: GuideBench) -> None:
    page = page_of(widget)
    page.wait_for_selector(".vos[data-setting='0 0 0'][data-network='copies']")
    np.testing.assert_array_equal(tinted(page, 0), TRUTH.numpy())
    shift = page.get_by_role("slider", name="shift")
    shift.press("ArrowRight")
    shift.press("ArrowRight")
    page.get_by_role("slider", name="hide").press("ArrowRight")
    page.wait_for_selector(".vos[data-setting='20 0 25']")
    guide = damaged(TRUTH, 20, 0, 25)
    quality = f"{float(iou(guide, TRUTH)):.2f}"
    for which in (0, 1):
        np.testing.assert_array_equal(tinted(page, which), guide.numpy())
    assert page.get_by_text(f"as it is: IoU {quality} in, {quality} out").is_visible()
    page.get_by_label("knows").check()
    page.wait_for_selector(".vos[data-network='knows']")
    np.testing.assert_array_equal(tinted(page, 0), guide.numpy())
    np.testing.assert_array_equal(tinted(page, 1), TRUTH.numpy())
    assert page.get_by_text(f"repairs this guide: IoU {quality} in, 1.00 out").is_visible()
    point = page.locator(".vos-bench svg .point")
    assert float(point.get_attribute("cy") or "nan") == pytest.approx(0)
    assert float(point.get_attribute("cx") or "nan") == pytest.approx(100 * float(iou(guide, TRUTH)), abs=0.01)
    assert page.locator(".vos-bench svg .cloud:visible circle").count() == 176
    saved = page.evaluate("window.hosted.model.saves")
    assert saved == [{"shift": 10}, {"shift": 20}, {"hide": 25}, {"network": "knows"}]


def test_it_can_be_used_and_read_without_a_mouse(page_of: Callable[[GuideBench], Page], widget: GuideBench) -> None:
    page = page_of(widget)
    page.get_by_role("slider", name="bend").press("End")
    page.wait_for_selector(".vos[data-setting='0 30 0']")
    page.evaluate("window.hosted.model.set('network', 'knows')")
    page.wait_for_selector(".vos[data-network='knows']")
    tree = page.locator("main").aria_snapshot()
    for line in (
        'group "Guide bench"',
        'img "A grey field. The guide, IoU',
        'img "The answer, IoU 1.00',
        'slider "shift"',
        'radio "knows" [checked]',
    ):
        assert line in tree, tree
    assert page.get_by_role("slider", name="bend").get_attribute("aria-valuetext") == "bend 30 percent"
    focusable = page.locator(".vos input")
    assert [focusable.nth(i).get_attribute("data-lm-suppress-shortcuts") for i in range(5)] == ["true"] * 5
    page.evaluate("window.hosted.close()")
    assert page.evaluate("window.hosted.model.listening()") == 0
