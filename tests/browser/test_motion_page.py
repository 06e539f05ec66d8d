"""MotionLens in a page of its own, and with a live kernel behind it."""

from __future__ import annotations

import base64
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from vos_tutorial.clip import Clip
from vos_tutorial.course.widgets import MotionLens
from vos_tutorial.course.widgets.widget import Widget
from vos_tutorial.data.worlds.camouflage import CamouflageClips
from vos_tutorial.models import stcnn

if TYPE_CHECKING:
    from playwright.sync_api import Page

    from tools.live_lab import Notebook

pytestmark = pytest.mark.browser
T, SIZE, FREEZE = 11, 32, 5
PageOf = Callable[[Widget], "Page"]


@pytest.fixture(scope="module")
def network() -> stcnn.STCNN:
    """Random weights, and masks of about half of the frame."""
    torch.manual_seed(0)
    made = stcnn.build(width=8, scaffold=True).eval()
    video = CamouflageClips().clip(0, SIZE, 5).frames.float()[None] / 255
    with torch.no_grad():
        made.decoder.last[1].bias -= made(video[:, -1], video[:, :-1], sides=False).logits.median()
    return made


def lens(network: stcnn.STCNN, height: int = SIZE, **changes: Any) -> MotionLens:
    clip = CamouflageClips().clip(1, SIZE, T)
    clip = Clip(clip.frames[:, :, :height], clip.masks[:, :height])
    return MotionLens(clip, network, **({"alt": "A grey ball"} | changes))


def wait_for(page: Page, **data: Any) -> None:
    page.wait_for_selector(".vos" + "".join(f"[data-{name}='{value}']" for name, value in data.items()))


def saves(page: Page) -> list[dict[str, Any]]:
    return page.evaluate("window.hosted.model.saves")


def slider(page: Page) -> Any:
    return page.get_by_role("slider", name="Time")


def test_numbers_and_windows_of_every_frame(page_of: PageOf, network: stcnn.STCNN) -> None:
    widget = lens(network)
    page = page_of(widget)
    for frozen in (False, True):
        page.evaluate("(frozen) => window.hosted.model.set('frozen', frozen)", frozen)
        for t in range(1, T):
            page.evaluate("(t) => window.hosted.model.set('time', t)", t)
            wait_for(page, time=t, frozen=str(frozen).lower())
            values = page.locator(".vos-value").all_inner_texts()
            assert values == [f"{v:.2f}" for v in widget.iou(t, frozen).values()]
            shown = [min(k, FREEZE) if frozen else k for k in range(T)]
            seen = ", ".join(str(shown[max(0, k)]) for k in range(t - 4, t))
            assert page.get_by_text(f"from frames {seen}", exact=True).count() == 1
            repeated = f"Frame {shown[t]}" + (", repeated" if t > shown[t] else "")
            assert page.locator(".vos-panel b").first.inner_text() == repeated
            blind = page.get_by_text("there is nothing to tell").count()
            assert blind == (frozen and t >= FREEZE + 4)
            numbers = widget._numbers["scores"][frozen][t - 1]
            assert page.locator(".vos-number").all_inner_texts() == [f"{v:.2f}" for v in numbers]


def drawn(page: Page, panel: int) -> np.ndarray:
    """The middle of every pixel of a panel, ``uint8 [H, W, 3]``."""
    values = page.evaluate(
        """([n, h, w]) => { const c = document.querySelectorAll(".vos-panel canvas")[n];
             const { data } = c.getContext("2d").getImageData(0, 0, c.width, c.height);
             return Array.from({ length: h * w * 3 }, (_, i) => {
               const [y, x] = [Math.floor(i / 3 / w), Math.floor(i / 3) % w];
               const at = Math.floor((y + 0.5) * c.height / h) * c.width + Math.floor((x + 0.5) * c.width / w);
               return data[4 * at + (i % 3)]; }); }""",
        [panel, SIZE, SIZE],
    )
    return np.array(values).reshape(SIZE, SIZE, 3)


@pytest.mark.parametrize("frozen", [False, True])
def test_the_panels_show_what_was_computed(page_of: PageOf, network: stcnn.STCNN, frozen: bool) -> None:
    widget = lens(network, frozen=frozen, truth=False)
    t, views = widget.time, widget._views[frozen]
    page = page_of(widget)
    frame = widget._pictures[FREEZE if frozen else t]
    assert np.abs(drawn(page, 0).astype(int) - frame).max() < 45  # but for the JPEG
    painted = (255 * views.predicted[t - 1]).repeat(2, 1).repeat(2, 2).transpose(1, 2, 0)
    assert np.abs(drawn(page, 1) - painted).mean() < 4
    heat = (views.motion[t - 1] / widget._scale).clip(0, 1).repeat(2, 0).repeat(2, 1)
    red = drawn(page, 2)[..., 0].astype(int)
    assert np.corrcoef(red.ravel(), heat.ravel())[0, 1] > 0.98
    for panel, mask in ((3, views.masks["space only"][t - 1]), (4, views.masks["with time"][t - 1])):
        colour = np.ptp(drawn(page, panel), axis=2)  # frames are grey
        assert (colour[mask] > 30).all()
        assert (colour[~mask] < 30).all()


def canvas(page: Page, panel: int) -> np.ndarray:
    """A whole panel, ``uint8 [height, width, 3]``."""
    height, width, text = page.evaluate(
        """(n) => { const c = document.querySelectorAll(".vos-panel canvas")[n];
             const { data } = c.getContext("2d").getImageData(0, 0, c.width, c.height);
             let text = "";
             for (let i = 0; i < data.length; i += 8192) text += String.fromCharCode(...data.subarray(i, i + 8192));
             return [c.height, c.width, btoa(text)]; }""",
        panel,
    )
    return np.frombuffer(base64.b64decode(text), np.uint8).reshape(height, width, 4)[..., :3]


def test_the_outline_of_the_truth_goes_around_it(page_of: PageOf, network: stcnn.STCNN) -> None:
    widget = lens(network)
    page = page_of(widget)
    frame, motion = canvas(page, 0), canvas(page, 2)
    page.get_by_role("checkbox", name="Outline of the truth").uncheck()
    wait_for(page, truth="false")
    assert saves(page) == [{"truth": False}]
    np.testing.assert_array_equal(canvas(page, 0), frame)  # never on the frame: nothing is to be seen there
    changed = (canvas(page, 2) != motion).any(axis=2)
    truth, scale = widget._truths[widget.time], len(motion) / SIZE
    line = np.zeros_like(changed)
    for y, x in np.argwhere(truth[:, 1:] != truth[:, :-1]):  # edges that stand upright
        line[round((y + 0.5) * scale), round((x + 1) * scale)] = True
    for y, x in np.argwhere(truth[1:] != truth[:-1]):
        line[round((y + 1) * scale), round((x + 0.5) * scale)] = True
    assert line.sum() > 30
    assert changed[line].all()
    y, x = np.argwhere(line).T
    far = np.ones_like(changed)
    for i, j in zip(y, x, strict=True):  # half of an edge, and half of the line's width
        far[max(0, i - 10) : i + 11, max(0, j - 10) : j + 11] = False
    assert not changed[far].any()


def test_freezing_by_mouse_and_key(page_of: PageOf, network: stcnn.STCNN) -> None:
    page = page_of(lens(network))
    lines = page.locator(".vos-iou-chart .vos-iou")
    assert lines.count() == 2
    assert not page.locator(".vos-cold").is_visible()
    page.get_by_role("checkbox", name=f"Freeze the video at frame {FREEZE}").check()
    wait_for(page, frozen="true", time=FREEZE + 4)
    assert lines.count() == 3  # with the running video's, for comparison
    assert page.locator(".vos-cold").is_visible()
    assert page.get_by_role("status").first.inner_text().startswith("The generator's 4 frames are all frame 5")
    slider(page).press("f")
    wait_for(page, frozen="false")
    assert lines.count() == 2
    assert saves(page) == [{"frozen": True}, {"frozen": False}]


def test_keys_and_chart_move_time(page_of: PageOf, network: stcnn.STCNN) -> None:
    page = page_of(lens(network, time=2))
    for key, t in [
        ("ArrowRight", 3),
        ("Home", 1),
        ("ArrowLeft", 1),
        ("End", 10),
        ("ArrowRight", 10),
        ("PageDown", 9),
    ]:
        slider(page).press(key)
        wait_for(page, time=t)
    assert [save["time"] for save in saves(page)] == [3, 1, 10, 9]
    box = page.locator(".vos-iou-chart").bounding_box()
    assert box is not None
    page.mouse.click(box["x"] + box["width"] * 4 / 9, box["y"] + 30)
    wait_for(page, time=5)
    slider(page).press(" ")
    wait_for(page, playing="true")
    # Asked with every frame of the screen: a selector is looked up twice a second, in step with the loop.
    for moved_on in ("> 5", "< 5"):  # to the end, and again from the start
        page.wait_for_function(f"Number(document.querySelector('.vos').dataset.time) {moved_on}")
    page.get_by_role("button", name="Pause").click()
    wait_for(page, playing="false")
    assert saves(page)[-1] == {"time": int(page.locator(".vos").get_attribute("data-time") or 0)}


def test_what_a_screen_reader_is_told(page_of: PageOf, network: stcnn.STCNN) -> None:
    widget = lens(network, frozen=True)
    page = page_of(widget)
    ious = list(widget.iou().values())
    tree = page.locator("main").aria_snapshot()
    for line in (
        'group "Motion lens"',
        'img "A grey ball. Frame 5, without any mask."',
        'img "The frame that the generator predicts from frames 5, 5, 5, 5."',
        f'img "Frame 5 with the mask with time, IoU {ious[1]:.2f}."',
        f'checkbox "Freeze the video at frame {FREEZE}" [checked]',
        'checkbox "Outline of the truth" [checked]',
        'button "Play"',
    ):
        assert line in tree, tree
    text = slider(page).get_attribute("aria-valuetext")
    assert text == f"time 9 of 10, frame 5, video frozen; IoU time zeroed {ious[0]:.2f}, with time {ious[1]:.2f}"
    focusable = page.locator(".vos button, .vos input")
    kept = [focusable.nth(i).get_attribute("data-lm-suppress-shortcuts") for i in range(focusable.count())]
    assert kept == ["true"] * 4
    slider(page).press(" ")
    page.evaluate("window.hosted.close()")
    assert page.evaluate("window.hosted.model.listening()") == 0
    assert page.locator(".vos").count() == 0


@pytest.mark.parametrize("height", [32, 18])
def test_nothing_overlaps_at_800_pixels(page_of: PageOf, network: stcnn.STCNN, height: int) -> None:
    page = page_of(lens(network, height, frozen=True))
    page.set_viewport_size({"width": 800, "height": 700})
    boxes = page.evaluate(
        """() => [...document.querySelectorAll(".vos-panel > b, .vos-panel canvas, .vos-under > span, .vos-judged,"
             + ".vos-key-line, .vos-lens label, .vos-said, .vos-lens button, .vos-track > *, .vos-readout,"
             + ".vos-line-key")].map((e) => {
             const range = document.createRange(); range.selectNodeContents(e);
             const { left, top, right, bottom } = e.tagName === "SPAN" ? range.getBoundingClientRect()
               : e.getBoundingClientRect();
             return [e.className + e.textContent, left, top, right, bottom]; })"""
    )
    assert len(boxes) > 20
    for n, (name, left, top, right, bottom) in enumerate(boxes):
        assert left >= 0, name
        assert right <= 800, name
        for other, left2, top2, right2, bottom2 in boxes[:n]:
            apart = right <= left2 + 1 or right2 <= left + 1 or bottom <= top2 + 1 or bottom2 <= top + 1
            assert apart, (name, other)


LIVE = """import torch
from vos_tutorial.data.worlds.camouflage import CamouflageClips
from vos_tutorial.models import stcnn
from vos_tutorial.course.widgets import MotionLens
torch.manual_seed(0)
lens = MotionLens(CamouflageClips().clip(0, 32, 9), stcnn.build(width=8))
lens"""


def test_the_kernel_reads_time_and_freeze_back(lab: Callable[..., AbstractContextManager[Notebook]]) -> None:
    with lab([LIVE], theme="dark") as notebook:
        notebook.run_all()
        page = notebook.page
        page.wait_for_selector(".vos[data-ready]")
        slider(page).press("Home")
        notebook.eventually("lens.time", 1)
        slider(page).press("f")
        notebook.eventually("lens.frozen", True)
        slider(page).press("ArrowRight")
        notebook.eventually("lens.time", 2)
        notebook.py("setattr(lens, 'time', 8)")
        wait_for(page, time=8, frozen="true")
        assert notebook.cell_count() == 1  # no key reached the notebook
        assert notebook.cell_errors() == []
        assert notebook.console_errors == []
