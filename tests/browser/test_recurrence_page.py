"""RecurrenceGrid in a page of its own, and with a live kernel behind it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from vos_tutorial.course.widgets import RecurrenceGrid, Rollout, ancestors
from vos_tutorial.course.widgets.widget import Widget

if TYPE_CHECKING:
    from playwright.sync_api import Page

    from tools.live_lab import Notebook

pytestmark = pytest.mark.browser
T, N, H, W = 4, 3, 40, 60
PageOf = Callable[[Widget], "Page"]
RULES: dict[str, dict[str, Any]] = {
    "ST": {},
    "S": {"time": False},
    "T": {"space": "first frame"},
    "strict T": {"space": False},
    "one-shot": {"mask": True},
    "as evaluated": {"mask": "from frame 2"},
    "cut": {"mask": True, "cut": 2},
    "none": {"space": False, "time": False, "mask": False},
}


def widget(**changes: Any) -> RecurrenceGrid:
    """Every roll-out marks its own columns, every slot its own rows; the hidden state of a cell is flat."""
    rollouts = {}
    for m, (name, rule) in enumerate(RULES.items()):
        p = np.zeros((T, N, H, W), np.float32)
        for i in range(N):
            p[:, i, 10 * i : 10 * i + 12, 7 * m : 7 * m + 8] = 0.9
        level = (np.arange(T * N).reshape(T, N, 1, 1, 1) + m) / 20 * np.ones((T, N, 2, 3, 4))
        level[..., 0, 0] = -1
        rollouts[name] = Rollout(p, [level], **rule)
    frames = np.full((T, 3, H, W), 100, np.uint8)
    return RecurrenceGrid(frames, rollouts, (2, 1), **({"alt": "Two dogs"} | changes))


def wait_for(page: Page, **data: Any) -> None:
    page.wait_for_selector(".vos" + "".join(f"[data-{name}='{value}']" for name, value in data.items()))


def saves(page: Page) -> list[dict[str, Any]]:
    return page.evaluate("window.hosted.model.saves")


def cell(page: Page, t: int, i: int) -> Any:
    return page.locator(".vos-cell").nth(i * T + t)


def test_the_page_finds_the_ancestors_that_python_finds(page_of: PageOf) -> None:
    page = page_of(widget())
    every = page.evaluate(
        """async ([modes, T, N]) => {
          const root = document.querySelector(".vos");
          const { model } = window.hosted;
          const all = [];
          for (const mode of modes) for (let t = 0; t < T; t++) for (let i = 0; i < N; i++) {
            model.set("mode", mode);
            model.set("cell", [t, i]);
            const painted = () => root.dataset.mode === mode && root.dataset.chosen === `${t} ${i}`;
            while (!painted()) await new Promise(requestAnimationFrame);
            all.push([mode, t, i, root.ancestors]);
          }
          return all; }""",
        [list(RULES), T, N],
    )
    assert len(every) == len(RULES) * T * N
    for mode, t, i, found in every:
        seen = {kind: {tuple(c) for c in cells} for kind, cells in found.items()}
        assert sum(map(len, found.values())) == sum(map(len, seen.values()))  # no cell twice
        assert seen == ancestors(t, i, T, N, **RULES[mode]), (mode, t, i)


def counts(page: Page) -> dict[str, tuple[int, int]]:
    """By kind: how many arrows are drawn in the grid, and how many of them are lit."""
    stage = page.locator(".vos-stage")
    return {
        kind: (
            stage.locator(f".vos-arrow.vos-{kind}").count(),
            stage.locator(f".vos-arrow.vos-{kind}.vos-lit").count(),
        )
        for kind in ("space", "time", "mask")
    }


def test_modes_bring_their_own_arrows(page_of: PageOf) -> None:
    page = page_of(widget())
    assert counts(page) == {"space": (T * 2, 3), "time": ((T - 1) * N, 4), "mask": (0, 0)}
    for mode, arrows in {
        "S": {"space": (T * 2, 1), "time": (0, 0), "mask": (0, 0)},
        "T": {"space": (2, 1), "time": (9, 2), "mask": (0, 0)},
        "strict T": {"space": (0, 0), "time": (9, 2), "mask": (0, 0)},
        "one-shot": {"space": (8, 3), "time": (9, 4), "mask": (12, 6)},  # frame 0 reads the given masks
        "cut": {"space": (8, 3), "time": (6, 2), "mask": (12, 6)},  # the mask still leads back
        "none": {"space": (0, 0), "time": (0, 0), "mask": (0, 0)},
    }.items():
        page.get_by_role("radio", name=mode, exact=True).check()
        wait_for(page, mode=mode, cell="2 1")
        assert counts(page) == arrows, mode
    assert [save["mode"] for save in saves(page)] == ["S", "T", "strict T", "one-shot", "cut", "none"]
    assert page.get_by_text("reads no other box. 0 of the 11 other boxes").is_visible()
    assert page.get_by_text("(off)").count() == 3


def drawn(page: Page, which: int) -> np.ndarray:
    """The middle of every pixel of the mask (0) or the probabilities (1), ``uint8 [H, W, 3]``."""
    values = page.evaluate(
        """([n, h, w]) => { const c = document.querySelectorAll(".vos-details canvas")[n];
             const { data } = c.getContext("2d").getImageData(0, 0, c.width, c.height);
             return Array.from({ length: h * w * 3 }, (_, i) => {
               const [y, x] = [Math.floor(i / 3 / w), Math.floor(i / 3) % w];
               const at = Math.floor((y + 0.5) * c.height / h) * c.width + Math.floor((x + 0.5) * c.width / w);
               return data[4 * at + (i % 3)]; }); }""",
        [which, H, W],
    )
    return np.array(values).reshape(H, W, 3)


def test_mask_probability_and_hidden_state_are_those_of_the_cell(page_of: PageOf) -> None:
    made = widget()
    page = page_of(made)
    page.get_by_role("radio", name="cut").check()
    wait_for(page, mode="cut")
    cell(page, 3, 1).click()
    wait_for(page, chosen="3 1")
    inside = np.zeros((H, W), bool)
    inside[10:22, 42:50] = True
    apart = np.zeros_like(inside)  # lines are drawn on the edge
    apart[8:24, 40:52] = True
    mask, probability = drawn(page, 0).astype(int), drawn(page, 1).astype(int)
    tinted = np.abs(mask - 100).max(axis=2) > 15
    assert tinted[12:20, 44:48].all()
    assert not tinted[~apart].any()
    assert (probability[12:20, 44:48, 0] > 200).all()
    assert (probability[~apart].max(axis=1) < 60).all()
    sent = page.evaluate(
        """() => { const c = document.querySelector(".vos-row canvas");
             return Array.from(c.getContext("2d").getImageData(0, 0, c.width, c.height).data); }"""
    )
    pixels = np.array(sent).reshape(3, 4, 4)[..., :3]
    ramp = np.frombuffer(made._ramp, np.uint8).reshape(256, 3)
    value = (3 * N + 1 + list(RULES).index("cut")) / 20
    np.testing.assert_array_equal(pixels[0, 0], ramp[128 - 124])
    np.testing.assert_array_equal(pixels[2, 3], ramp[128 + 4 * round(31 * value)])
    assert page.get_by_text("mask: 4.0 % of the frame").is_visible()


def test_pointer_and_keys(page_of: PageOf) -> None:
    page = page_of(widget())
    cell(page, 0, 0).hover()  # looking is not choosing
    wait_for(page, cell="0 0", chosen="2 1")
    page.mouse.move(0, 0)
    wait_for(page, cell="2 1")
    assert cell(page, 2, 1).get_attribute("tabindex") == "0"
    cell(page, 2, 1).focus()
    for key, there in [
        ("ArrowRight", "3 1"),
        ("ArrowRight", "3 1"),
        ("ArrowDown", "3 2"),
        ("Home", "0 2"),
        ("End", "3 2"),
    ]:
        page.keyboard.press(key)
        wait_for(page, cell=there, chosen="2 1")
    page.keyboard.press("Escape")
    wait_for(page, cell="2 1")
    page.keyboard.press("ArrowUp")
    assert saves(page) == []
    page.keyboard.press("Enter")
    wait_for(page, cell="2 0", chosen="2 0")
    assert saves(page) == [{"cell": [2, 0]}]
    page.keyboard.press("ArrowLeft")
    wait_for(page, cell="1 0")
    page.keyboard.press("Tab")  # who leaves, goes back to the chosen cell
    wait_for(page, cell="2 0")
    cell(page, 3, 2).click()
    wait_for(page, chosen="3 2")
    assert saves(page)[-1] == {"cell": [3, 2]}


def test_what_a_screen_reader_is_told(page_of: PageOf) -> None:
    page = page_of(widget(labels=["dog", "ball", "cat"], mode="one-shot"))
    tree = page.locator("main").aria_snapshot()
    for line in (
        'group "Recurrence grid"',
        'radio "one-shot" [checked]',
        'grid "Two dogs. Rows are slots, columns are frames."',
        'gridcell "ball, frame 2: reads space, h and c of dog; time, h of frame 1; mask, its output of frame 1; '
        '5 of 11 other boxes can influence it" [selected]',
        'gridcell "dog, frame 2, parent by space"',
        'gridcell "ball, frame 1, parent by time and mask"',
        'gridcell "ball, frame 0, indirect ancestor"',
        'gridcell "cat, frame 0"',
        'img "Frame 2 with the mask of ball, which covers 4.0 % of it. Its overlap with dog is 0.',
        'img "Hidden state of ball in frame 2: level 0, channel 1."',
    ):
        assert line in tree, tree
    focusable = page.locator(".vos button, .vos input")
    kept = [focusable.nth(i).get_attribute("data-lm-suppress-shortcuts") for i in range(focusable.count())]
    assert kept == ["true"] * (T * N + len(RULES))
    page.evaluate("window.hosted.close()")
    assert page.evaluate("window.hosted.model.listening()") == 0


@pytest.mark.parametrize(("frames", "slots", "height"), [(8, 3, 96), (14, 4, 54), (3, 1, 96), (6, 10, 96)])
def test_nothing_overlaps_at_800_pixels(page_of: PageOf, frames: int, slots: int, height: int) -> None:
    rng = np.random.default_rng(0)
    hidden = [rng.standard_normal((frames, slots, 5, s, s)) for s in (3, 6, 12, 24)]
    one = Rollout(rng.random((frames, slots, height, 96)), hidden, mask=True, cut=1)
    page = page_of(
        RecurrenceGrid(np.zeros((frames, 3, height, 96), np.uint8), {"ST": one}, labels=["a long name"] * slots)
    )
    page.set_viewport_size({"width": 800, "height": 700})
    boxes = page.evaluate(
        """() => [...document.querySelectorAll(".vos-slot, .vos-tick, .vos-cell, .vos-kind, .vos-reads, .vos-title,"
             + ".vos-details canvas, .vos-under, .vos-level, legend, .vos-recurrence label")].map((e) => {
             const { left, top, right, bottom } = e.getBoundingClientRect();
             return [e.className.baseVal ?? e.className ?? e.tagName, left, top, right, bottom]; })"""
    )
    assert len(boxes) > 10
    for n, (name, left, top, right, bottom) in enumerate(boxes):
        assert left >= 0, name
        assert right <= 800, name
        for other, left2, top2, right2, bottom2 in boxes[:n]:
            apart = right <= left2 + 1 or right2 <= left + 1 or bottom <= top2 + 1 or bottom2 <= top + 1
            assert apart, (name, other)


LIVE = """import numpy as np
from vos_tutorial.course.widgets import RecurrenceGrid, Rollout
rng = np.random.default_rng(0)
one = Rollout(rng.random((4, 2, 24, 32)), [rng.standard_normal((4, 2, 3, 6, 8))])
recurrence = RecurrenceGrid(np.zeros((4, 3, 24, 32), np.uint8), {"ST": one, "S": one._replace(time=False)}, (1, 0))
recurrence"""


def test_the_kernel_reads_cell_and_mode_back(lab: Callable[..., AbstractContextManager[Notebook]]) -> None:
    with lab([LIVE], theme="dark") as notebook:
        notebook.run_all()
        page = notebook.page
        page.wait_for_selector(".vos[data-ready]")
        page.get_by_role("gridcell", name="slot 1, frame 3").click()
        notebook.eventually("recurrence.cell", (3, 1))
        page.keyboard.press("ArrowLeft")
        page.keyboard.press("Enter")
        notebook.eventually("recurrence.cell", (2, 1))
        page.get_by_role("radio", name="S", exact=True).check()
        notebook.eventually("recurrence.mode", "S")
        notebook.eventually("sorted(recurrence.ancestors()['space'])", [(2, 0)])
        notebook.py("setattr(recurrence, 'cell', (0, 0))")
        wait_for(page, chosen="0 0", mode="S")
        assert notebook.cell_count() == 1  # no key reached the notebook
        assert notebook.cell_errors() == []
        assert notebook.console_errors == []
