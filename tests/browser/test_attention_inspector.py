"""AttentionInspector and GuidanceSwitch in a page of their own, and the inspector with a live kernel behind it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from vos_tutorial.course import figures
from vos_tutorial.course.widgets import AttentionInspector
from vos_tutorial.course.widgets.widget import Widget

if TYPE_CHECKING:
    from playwright.sync_api import Page

    from tools.live_lab import Notebook

pytestmark = pytest.mark.browser
C, M, GH, GW, H, W = 6, 4, 5, 8, 60, 96
PageOf = Callable[[Widget], "Page"]
GIVEN = {"topk": None, "removed": [], "temperature": 1.0}


def inspector(kind: str = "dot", **changes: Any) -> AttentionInspector:
    """Random keys over plain frames, the same at every call."""
    rng = torch.Generator().manual_seed(5)
    q, k = torch.randn(C, GH, GW, generator=rng), torch.randn(C, M, GH, GW, generator=rng)
    given: dict[str, Any] = {"query_key": q, "memory_key": k, "affinity": kind}
    if kind == "given":
        scores = k.reshape(C, -1).T @ q.reshape(C, -1) / C**0.5
        given = {"attention": scores.softmax(0), "grid": (GH, GW)}
    frames = torch.full((M, 3, H, W), 120, dtype=torch.uint8)
    masks = torch.zeros(M, H, W, dtype=torch.uint8)
    masks[:, 10:40, 20:60] = 1
    return AttentionInspector(frames[0], frames, masks=masks, **(given | changes))


def shown(page: Page) -> np.ndarray:
    """The attention that is drawn, ``[M, h, w]``."""
    weights = page.evaluate("Array.from(document.querySelector('.vos').weights)")
    return np.array(weights).reshape(M, GH, GW)


def wait_for(page: Page, **data: Any) -> None:
    page.wait_for_selector(".vos" + "".join(f"[data-{name}='{value}']" for name, value in data.items()))


def saves(page: Page) -> list[dict[str, Any]]:
    return page.evaluate("window.hosted.model.saves")


def click(page: Page, row: int, column: int) -> None:
    """The middle of a cell of the query frame."""
    query = page.locator(".vos-query")
    box = query.bounding_box()
    assert box is not None
    query.click(position={"x": (column + 0.5) * box["width"] / GW, "y": (row + 0.5) * box["height"] / GH})
    wait_for(page, chosen=f"{row} {column}")


@pytest.mark.parametrize("kind", ["dot", "l2", "given"])
def test_the_page_computes_what_numpy_computes(page_of: PageOf, kind: str) -> None:
    widget = inspector(kind)
    page = page_of(widget)
    click(page, 1, 6)
    widget.pixel = saves(page)[-1]["pixel"]
    assert widget.cell == (1, 6)
    np.testing.assert_allclose(shown(page), widget.attention(), atol=1e-6)
    for setting in ({"temperature": 0.4}, {"topk": 7}, {"removed": [2]}, {"topk": 500, "removed": [0, 3]}):
        page.evaluate("(s) => { for (const [k, v] of Object.entries(s)) window.hosted.model.set(k, v); }", setting)
        page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
        for name, value in setting.items():
            setattr(widget, name, value)
        expected, mass = widget._weights()
        np.testing.assert_allclose(shown(page), expected, atol=1e-6)
        numbers = page.locator(".vos-number").all_inner_texts()
        masses = [float(text.removesuffix(" %")) for text in numbers if text != "removed"]
        np.testing.assert_allclose(masses, 100 * expected[widget.kept].sum(axis=(1, 2)), atol=0.051)
        kept = page.locator(".vos-controls output").nth(2).inner_text()
        assert float(kept.removesuffix(" %")) == pytest.approx(100 * mass, abs=0.051)


MIDDLES = """(canvas) => {
  const { data, width, height } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
  return Array.from({ length: 5 * 8 }, (_, i) => {
    const y = Math.floor(((Math.floor(i / 8) + 0.5) * height) / 5);
    const x = Math.floor((((i % 8) + 0.5) * width) / 8);
    return Array.from(data.slice(4 * (y * width + x), 4 * (y * width + x) + 3));
  });
}"""


def test_memory_frames_are_large_and_keep_some_of_their_colour(page_of: PageOf) -> None:
    colour = torch.tensor([200, 120, 60], dtype=torch.uint8).reshape(1, 3, 1, 1).expand(M, 3, H, W)
    rng = torch.Generator().manual_seed(5)
    keys = torch.randn(C, M, GH, GW, generator=rng)
    widget = AttentionInspector(colour[0], colour, query_key=keys[:, 0], memory_key=keys)
    tile = page_of(widget).locator(".vos-tile canvas").nth(1)
    box = tile.bounding_box()
    assert box is not None
    assert box["width"] > 340  # two beside each other
    seen = np.array(tile.evaluate(MIDDLES)).reshape(GH, GW, 3)
    weights = widget.attention()
    assert weights.argmax() < GH * GW  # the ring around the strongest cell is in another tile
    expected = figures.heated(figures.as_picture(colour[1]), np.sqrt(weights[1] / weights.max()))
    middles = expected[H // GH // 2 :: H // GH, W // GW // 2 :: W // GW].astype(int)
    assert np.ptp(middles, axis=2).min() > 40  # there is colour everywhere
    np.testing.assert_allclose(seen, middles, atol=6)  # frames travel as JPEG


def test_half_precision_keys_are_read_exactly(page_of: PageOf, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vos_tutorial.course.widgets.attention_inspector.EXACT_BYTES", 0)
    widget = inspector("l2")
    assert widget._keys["dtype"] == "float16"
    np.testing.assert_allclose(shown(page_of(widget)), widget.attention(), atol=1e-6)


def test_pointer_keys_and_controls(page_of: PageOf) -> None:
    widget = inspector(alt="Where the dog is found")
    page = page_of(widget)
    query = page.locator(".vos-query")
    box = query.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 2, box["y"] + 2)  # looking is not choosing
    wait_for(page, cell="0 0", chosen="2 4")
    page.mouse.move(0, 0)
    wait_for(page, cell="2 4")
    for key, cell in [
        ("ArrowRight", "2 5"),
        ("ArrowUp", "1 5"),
        ("End", "1 7"),
        ("ArrowRight", "1 7"),
        ("Home", "1 0"),
    ]:
        query.press(key)
        wait_for(page, cell=cell, chosen="2 4")
    query.press("Escape")
    wait_for(page, cell="2 4")
    query.press("ArrowDown")
    assert saves(page) == []
    query.press("Enter")
    wait_for(page, cell="3 4", chosen="3 4")
    assert [save["pixel"] for save in saves(page)] == [[42, 54]]

    page.get_by_role("slider", name="Temperature").press("End")
    page.get_by_role("slider", name="Top-k cells").press("Home")
    assert page.evaluate("[window.hosted.model.get('temperature'), window.hosted.model.get('topk')]") == [10, 1]
    wait_for(page, ready="true")
    for m in range(M - 1):
        page.get_by_role("checkbox", name=f"use memory {m}").uncheck()
    wait_for(page, removed="0 1 2")
    assert page.get_by_role("checkbox", name="use memory 3").is_disabled()  # something has to answer
    assert saves(page)[-1] == {"removed": [0, 1, 2]}
    tree = page.locator("main").aria_snapshot()
    for line in (
        'group "Attention inspector"',
        'img "Where the dog is found. Query frame, row 3 of 5, column 4 of 8, chosen. Attention: memory 3 100.0 %',
        'img "memory 0: removed."',
        'img "memory 3: 100.0 % of the attention, with the strongest cell."',
    ):
        assert line in tree, tree
    focusable = page.locator(".vos button, .vos input, .vos [tabindex]")
    kept = [focusable.nth(i).get_attribute("data-lm-suppress-shortcuts") for i in range(focusable.count())]
    assert kept == ["true"] * (3 + M)
    page.evaluate("window.hosted.close()")
    assert page.evaluate("window.hosted.model.listening()") == 0


def test_without_a_kernel_it_says_so_and_goes_on(page_of: PageOf) -> None:
    page = page_of(inspector(decode=lambda keep, temperature, topk: np.ones((H, W), np.uint8)))
    status = page.get_by_role("status").first
    assert page.get_by_text("From all 4 memory frames.").is_visible()
    page.get_by_role("checkbox", name="use memory 1").uncheck()
    wait_for(page, decoded="asked", removed="1")
    assert saves(page) == [{"removed": [1]}, {"_request": {"number": 1}}]
    wait_for(page, decoded="silent")
    assert page.get_by_text("this needs the kernel").is_visible()
    click(page, 0, 0)  # the rest still works
    answer = {"number": 1, "state": "done", "keep": [0, 2, 3], "temperature": 1, "topk": None, "agreement": 0.5}
    page.evaluate("(a) => window.hosted.model.set('_answer', a)", answer)  # late, but there
    assert page.get_by_text("From 3 of 4 memory frames. IoU with the mask from everything: 0.50.").is_visible()
    page.get_by_role("slider", name="Temperature").press("ArrowRight")
    page.get_by_text("The settings have changed since.").wait_for()
    assert status.count() == 1


LIVE = """import torch
from vos_tutorial.course.widgets import AttentionInspector
frames = torch.full((3, 3, 48, 64), 90, dtype=torch.uint8)
keys = torch.randn(4, 3, 6, 8)
def decode(keep, temperature, topk):
    if len(keep) == 1:
        raise RuntimeError("too little memory")
    ids = torch.zeros(48, 64, dtype=torch.uint8)
    ids[:10 * len(keep)] = 1
    return ids
insp = AttentionInspector(frames[0], frames, query_key=keys[:, 0], memory_key=keys, decode=decode)
insp"""


def test_the_kernel_decodes_and_reads_the_cell_back(
    lab: Callable[..., AbstractContextManager[Notebook]],
) -> None:
    with lab([LIVE], theme="dark") as notebook:
        notebook.run_all()
        page = notebook.page
        page.wait_for_selector(".vos[data-ready]")
        page.locator(".vos-query").press("ArrowRight")
        page.locator(".vos-query").press("Enter")
        notebook.eventually("insp.cell", (3, 5))
        page.get_by_role("checkbox", name="use memory 0").uncheck()
        page.get_by_text("From 2 of 3 memory frames. IoU with the mask from everything: 0.67.").wait_for()
        notebook.eventually("insp.removed", [0])
        page.get_by_role("checkbox", name="use memory 2").uncheck()
        page.get_by_text("Could not decode: RuntimeError: too little memory").wait_for()
        notebook.py("setattr(insp, 'removed', [])")
        wait_for(page, removed="")
        page.get_by_role("button", name="Decode again").click()
        page.get_by_text("From all 3 memory frames.").wait_for()
        notebook.py("setattr(insp, 'cell', (0, 0))")
        wait_for(page, chosen="0 0")
        assert notebook.cell_errors() == []
        assert notebook.console_errors == []
