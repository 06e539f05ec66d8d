"""MaskPainter in a page of its own, with the real Python behind it: what is painted is what is on the disk."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from painter_kernel import SAVES, Line, Walks
from PIL import Image

from vos_tutorial.course.widgets import MaskPainter
from vos_tutorial.video import Project, Video

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.browser
T, H, W = 12, 60, 96


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A video as pictures: a bright square on dark ground that walks three pixels to the right in each frame."""
    place = tmp_path_factory.mktemp("video") / "walk"
    place.mkdir()
    for t in range(T):
        frame = np.full((H, W, 3), (40, 60, 50), np.uint8)
        frame[20:40, 10 + 3 * t : 30 + 3 * t] = (230, 210, 60)
        Image.fromarray(frame).save(place / f"{t:05d}.png")
    return place


def square(t: int) -> np.ndarray:
    """Where the square is in frame t, ``bool [H, W]``."""
    mask = np.zeros((H, W), bool)
    mask[20:40, 10 + 3 * t : 30 + 3 * t] = True
    return mask


@pytest.fixture
def project(folder: Path, tmp_path: Path) -> Iterator[Project]:
    opened = Project.open(tmp_path / "project", Video(folder))
    yield opened
    opened.close()


@pytest.fixture
def show(browser: Browser, tmp_path: Path) -> Iterator[Callable[..., Line]]:
    """``show(painter)``: a page with the painter, and the line to it. No error may stand in the console.

    ``patience`` is the page's with a silent kernel: on a busy machine this test is a slow kernel, and not a gone one.
    """
    from tools.live_lab import PATIENCE, stay_local

    context = browser.new_context(viewport={"width": 1000, "height": 1000})
    problems: list[str] = []

    def open_page(painter: MaskPainter, patience: float = PATIENCE) -> Line:
        painter._patience = patience
        line = Line(painter)
        page = line.attach(context.new_page())
        page.set_default_timeout(PATIENCE * 1000)
        stay_local(page)
        page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.goto(painter.to_html(tmp_path / "painter.html").as_uri())
        page.wait_for_selector(".vos-paint[data-ready]")
        page.evaluate(SAVES)
        return line

    yield open_page
    context.close()
    assert problems == []


def root(page: Page) -> Any:
    return page.locator(".vos-paint")


def wait_for(page: Page, **data: Any) -> None:
    page.wait_for_selector(".vos-paint" + "".join(f"[data-{name}='{value}']" for name, value in data.items()))


def at(page: Page, x: float, y: float) -> tuple[float, float]:
    """Where a point of the picture lies on the screen, while the whole picture is shown."""
    box = page.locator(".vp-canvas").bounding_box()
    assert box is not None
    scale = min(box["width"] / W, box["height"] / H)
    return (
        box["x"] + (box["width"] - W * scale) / 2 + x * scale,
        box["y"] + (box["height"] - H * scale) / 2 + y * scale,
    )


def drawn(page: Page) -> None:
    """Wait until the canvas shows what the page knows: it draws before the screen's next frame."""
    page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")


def drag(page: Page, *points: tuple[float, float]) -> None:
    """Press at the first point of the picture, move through the others, let go."""
    edits = int(root(page).get_attribute("data-edits") or 0)
    page.mouse.move(*at(page, *points[0]))
    page.mouse.down()
    for point in points[1:]:
        page.mouse.move(*at(page, *point), steps=4)
    page.mouse.up()
    page.wait_for_timeout(30)
    assert int(root(page).get_attribute("data-edits") or 0) - edits in (0, 1)


def key(page: Page, *keys: str) -> None:
    for each in keys:
        page.locator(".vp-canvas").press(each)


def brush(line: Line, diameter: int) -> None:
    line.painter.brush = diameter
    line.pump()


def capsule(a: tuple[float, float], b: tuple[float, float], radius: float) -> np.ndarray:
    """Pixels whose middle is nearer than ``radius`` to the line from a to b (as ``(x, y)``), the slow way."""
    y, x = np.mgrid[:H, :W] + 0.5
    (ax, ay), (bx, by) = a, b
    length2 = max(1e-9, (bx - ax) ** 2 + (by - ay) ** 2)
    s = (((x - ax) * (bx - ax) + (y - ay) * (by - ay)) / length2).clip(0, 1)
    return np.hypot(x - ax - s * (bx - ax), y - ay - s * (by - ay)) < radius


def saved(line: Line) -> None:
    wait_for(line.page, unsaved=0)


def given(project: Project, t: int, o: int) -> np.ndarray:
    return project.masks(t)[o].numpy()


# --- painting ----------------------------------------------------------------------------------------------------


def test_a_stroke_is_painted_exactly_and_is_on_the_disk(project: Project, show: Callable[..., Line]) -> None:
    line = show(MaskPainter(project))
    brush(line, 9)
    drag(line.page, (20.5, 30.5), (50.5, 30.5))
    expected = capsule((20.5, 30.5), (50.5, 30.5), 4.5)
    seen = line.seen()
    assert set(np.unique(seen)) == {0, 1}  # no smoothed, invented ids
    assert (seen != expected).sum() <= 4  # a pointer lies between pixels
    saved(line)
    np.testing.assert_array_equal(given(project, 0, 1), seen == 1)
    assert [each.name for each in project.objects.values()] == ["object 1"]
    assert project.given(1) == {0: "first"}


def test_the_eraser_takes_from_the_chosen_object_only(project: Project, show: Callable[..., Line]) -> None:
    line = show(MaskPainter(project))
    page = line.page
    brush(line, 8)
    drag(page, (20, 20), (60, 20))
    key(page, "n")
    drag(page, (20, 40), (60, 40))
    wait_for(page, objects="1 2", object=2)
    key(page, "e")
    brush(line, 20)
    drag(page, (40, 10), (40, 50))
    seen = line.seen()
    assert (seen[20, 30:50] == 1).all()
    assert (seen[40, 32:49] == 0).all()
    assert (seen[40, 20:28] == 2).all()
    saved(line)
    np.testing.assert_array_equal(given(project, 0, 1), seen == 1)
    np.testing.assert_array_equal(given(project, 0, 2), seen == 2)


def test_painting_over_another_object_takes_its_pixels(project: Project, show: Callable[..., Line]) -> None:
    line = show(MaskPainter(project))
    brush(line, 10)
    drag(line.page, (20, 30), (60, 30))
    key(line.page, "n")
    drag(line.page, (40, 10), (40, 50))
    saved(line)
    seen = line.seen()
    assert seen[30, 40] == 2
    np.testing.assert_array_equal(given(project, 0, 1), seen == 1)
    key(line.page, "z")
    wait_for(line.page, undo=1, unsaved=0)
    assert given(project, 0, 1)[30, 40]  # and gets them back
    assert list(project.masks(0)) == [1]


def test_fill_fills_a_closed_outline(project: Project, show: Callable[..., Line]) -> None:
    line = show(MaskPainter(project))
    brush(line, 3)
    drag(line.page, (20, 15), (60, 15), (60, 45), (20, 45), (20, 15))
    key(line.page, "f")
    drag(line.page, (40, 30))
    seen = line.seen()
    assert (seen[16:44, 21:59] == 1).all()
    assert (seen[:12] == 0).all()
    assert (seen[:, 65:] == 0).all()
    drag(line.page, (90, 5))
    assert "undo takes it back" in line.page.locator(".vp-status").inner_text()
    assert (line.seen() == 1).all()
    key(line.page, "z")
    np.testing.assert_array_equal(line.seen(), seen)


def test_a_box_becomes_a_mask(project: Project, show: Callable[..., Line]) -> None:
    line = show(MaskPainter(project))
    key(line.page, "x")
    drag(line.page, (6, 15), (36, 45))
    wait_for(line.page, edits=1)
    seen = line.seen() == 1
    assert (seen & square(0)).sum() / (seen | square(0)).sum() > 0.9
    saved(line)
    np.testing.assert_array_equal(given(project, 0, 1), seen)
    key(line.page, "z")
    assert not line.seen().any()
    drag(line.page, (60, 5), (90, 15))  # nothing but ground
    line.page.wait_for_function("document.querySelector('.vp-status').textContent.includes('nothing stands out')")
    assert not line.seen().any()


def test_undo_and_redo_cross_objects_and_frames_and_outlive_the_page(
    project: Project, show: Callable[..., Line]
) -> None:
    line = show(MaskPainter(project))
    page = line.page
    states = [line.seen()]
    for t, o in ((0, 1), (0, 2), (5, 1), (5, 2), (0, 1)):
        line.painter.frame = t
        line.pump()
        wait_for(page, frame=t)
        if len(project.objects) < o:
            key(page, "n")
            line.until(lambda o=o: len(project.objects) == o)
        key(page, str(o))
        drag(page, (10 * o + t, 20), (10 * o + 40, 25 + 3 * len(states)))
        states.append(line.seen())
    saved(line)
    frames = [None, 0, 0, 5, 5, 0]
    for n in (5, 4, 3):
        key(page, "Control+z")
        wait_for(page, undo=n - 1, redo=6 - n, frame=frames[n], unsaved=0)
    before = project.result(5).numpy().copy()
    assert not before.any()

    line.painter.close()
    again = show(MaskPainter(project))  # the kernel was restarted, say
    wait_for(again.page, undo=2, redo=3)
    np.testing.assert_array_equal(again.seen(), states[2])
    for n in (3, 4, 5):
        key(again.page, "Control+y")
        wait_for(again.page, undo=n, frame=frames[n], unsaved=0)
        np.testing.assert_array_equal(again.seen(), states[n])
        np.testing.assert_array_equal(project.result(frames[n]).numpy(), states[n])
    for _ in range(5):
        key(again.page, "z")
    wait_for(again.page, undo=0, redo=5, unsaved=0)
    assert all(project.given(o) == {} for o in (1, 2))
    key(again.page, "z")
    assert again.page.locator(".vp-status").inner_text() == "There is nothing to undo."


def test_a_click_that_changes_nothing_gives_nothing(project: Project, show: Callable[..., Line]) -> None:
    line = show(MaskPainter(project))
    drag(line.page, (30, 30), (40, 30))
    saved(line)
    key(line.page, "e")
    drag(line.page, (80, 50))  # nothing to erase there
    wait_for(line.page, undo=1)


# --- looking -----------------------------------------------------------------------------------------------------


def test_the_wheel_zooms_about_the_pointer_once_the_picture_has_the_focus(
    project: Project, show: Callable[..., Line]
) -> None:
    line = show(MaskPainter(project))
    page = line.page
    brush(line, 1)
    page.evaluate("window.turns = 0; addEventListener('wheel', () => { window.turns += 1; })")
    page.mouse.move(*at(page, 70.5, 10.5))
    page.mouse.wheel(0, -300)
    page.wait_for_function("window.turns > 0")
    wait_for(page, zoom="1.00")  # a page that is scrolled past stays as it is
    page.locator(".vp-canvas").focus()
    place = at(page, 70.5, 10.5)
    page.mouse.wheel(0, -600)
    page.wait_for_function("Number(document.querySelector('.vos-paint').dataset.zoom) > 3")
    page.mouse.click(*place)
    assert np.argwhere(line.seen()).tolist() == [[10, 70]]
    key(page, "0")
    wait_for(page, zoom="1.00")
    page.mouse.click(*at(page, 20.5, 40.5))
    assert np.argwhere(line.seen()).tolist() == [[10, 70], [40, 20]]


def test_the_hand_moves_a_picture_that_is_zoomed(project: Project, show: Callable[..., Line]) -> None:
    line = show(MaskPainter(project))
    page = line.page
    brush(line, 1)
    key(page, "+", "+", "+", "h")
    start = at(page, 48, 30)
    page.mouse.move(*start)
    page.mouse.down()
    page.mouse.move(start[0] + 60, start[1] + 45, steps=3)
    page.mouse.up()
    assert not line.seen().any()
    key(page, "b")
    page.mouse.click(start[0] + 60, start[1] + 45)
    (spot,) = np.argwhere(line.seen()).tolist()
    assert abs(spot[0] - 30) <= 1
    assert abs(spot[1] - 48) <= 1


def test_objects_are_named_hidden_and_chosen(project: Project, show: Callable[..., Line]) -> None:
    line = show(MaskPainter(project))
    page = line.page
    brush(line, 16)
    drag(page, (30, 30), (40, 30))
    key(page, "n")
    drag(page, (70, 30), (75, 30))
    name = page.get_by_role("textbox", name="Name of object 2")
    name.fill("the cat")
    name.press("Enter")
    wait_for(page, objects="1 2")
    page.wait_for_selector("[aria-label='Show the cat']")
    assert project.objects[2].name == "the cat"

    def colour(x: float, y: float) -> list[int]:
        return page.evaluate(
            """([x, y]) => { const c = document.querySelector(".vp-canvas");
                 const s = Math.min(c.width / 96, c.height / 60);
                 const [left, top] = [(c.width - 96 * s) / 2, (c.height - 60 * s) / 2];
                 return [...c.getContext("2d").getImageData(left + x * s, top + y * s, 1, 1).data].slice(0, 3); }""",
            [x, y],
        )

    drawn(page)
    shown = colour(74.5, 34.5)
    key(page, "2", "v")
    wait_for(page, hidden=2, object=2)
    drawn(page)
    assert (
        np.abs(np.array(colour(74.5, 34.5)) - (40, 60, 50)).max() <= 6 < np.abs(np.array(shown) - (40, 60, 50)).max()
    )
    line.until(lambda: line.painter.hidden == [2])
    page.get_by_role("radio", name="Paint object 1").click()
    wait_for(page, object=1)
    line.until(lambda: line.painter.object == 1)
    page.get_by_role("button", name="Remove object").click()
    assert "press again" in page.locator(".vp-status").inner_text()
    page.get_by_role("button", name="Really remove?").click()
    wait_for(page, objects="2")
    assert list(project.objects) == [2]
    page.wait_for_function("!document.querySelector('.vp-canvas').painted().some((run) => run >>> 24 === 1)")


def test_all_can_be_done_with_keys(project: Project, show: Callable[..., Line]) -> None:
    line = show(MaskPainter(project))
    page = line.page
    brush(line, 8)
    key(page, "ArrowLeft", "Space", "ArrowRight", "Shift+ArrowRight", "ArrowDown", "Space")
    wait_for(page, pen="false", undo=1)
    seen = line.seen() == 1
    expected = capsule((46, 30), (48, 30), 4) | capsule((48, 30), (58, 30), 4) | capsule((58, 30), (58, 32), 4)
    np.testing.assert_array_equal(seen, expected)
    key(page, "Space", "Shift+ArrowUp", "Escape")
    np.testing.assert_array_equal(line.seen() == 1, expected)  # left, not painted
    key(page, "x", "Shift+ArrowLeft", "Enter", "Shift+ArrowUp", "Shift+ArrowLeft", "Shift+ArrowLeft", "Escape")
    key(page, "b", "[", "]", "]", "o", "Shift+O", ".", ".", "PageDown", "Home", "End", ",")
    wait_for(page, frame=T - 2, tool="brush")
    line.until(lambda: line.painter.frame == T - 2)
    key(page, "<")
    wait_for(page, frame=0)
    key(page, ">")
    assert "No mask was given" in page.locator(".vp-status").inner_text()
    key(page, "a")
    wait_for(page, undo=2, unsaved=0)
    assert not given(project, 0, 1).any()


def test_one_finger_paints_two_fingers_zoom(project: Project, show: Callable[..., Line]) -> None:
    line = show(MaskPainter(project))
    page = line.page
    brush(line, 6)

    def touch(kind: str, finger: int, x: float, y: float) -> None:
        px, py = at(page, x, y)
        page.evaluate(
            """([kind, id, x, y]) => document.querySelector(".vp-canvas").dispatchEvent(new PointerEvent(kind, {
                 pointerId: id, pointerType: "touch", clientX: x, clientY: y, bubbles: true, cancelable: true,
                 buttons: kind === "pointerup" ? 0 : 1, button: kind === "pointermove" ? -1 : 0 }))""",
            [kind, finger, px, py],
        )

    for kind, x in (("pointerdown", 20), ("pointermove", 50), ("pointerup", 50)):
        touch(kind, 11, x, 20)
    painted = line.seen()
    assert (painted[20, 20:50] == 1).all()
    touch("pointerdown", 11, 40, 40)
    touch("pointermove", 11, 44, 40)
    touch("pointerdown", 12, 56, 40)  # a second finger: the stroke was none
    np.testing.assert_array_equal(line.seen(), painted)
    touch("pointermove", 12, 68, 40)
    wait_for(page, zoom="2.00")
    touch("pointerup", 12, 68, 40)
    touch("pointermove", 11, 30, 30)
    touch("pointerup", 11, 30, 30)
    np.testing.assert_array_equal(line.seen(), painted)


# --- following ---------------------------------------------------------------------------------------------------


def start_with_the_square(project: Project) -> None:
    o = project.add_object("square")
    project.save_mask(0, o, torch.from_numpy(square(0)))


def test_propagation_is_seen_while_it_runs_stops_and_goes_on(project: Project, show: Callable[..., Line]) -> None:
    start_with_the_square(project)
    turns = threading.Semaphore(0)
    method = Walks(gate=lambda: turns.acquire(timeout=20))
    line = show(MaskPainter(project, method))
    page = line.page
    page.get_by_role("button", name="Propagate", exact=True).click()
    wait_for(page, running="true")
    for _ in range(4):
        turns.release()
    line.until(page.locator(".vos-paint[data-frame='4']").is_visible)  # the preview went along
    np.testing.assert_array_equal(line.seen() == 1, square(4))
    line.until(page.locator(".vp-status:has-text('Frame 4,')").is_visible)
    key(page, "b")  # the page is alive
    page.get_by_role("button", name="Stop").click()
    line.hears("stop")
    turns.release()
    line.wait()
    wait_for(page, running="false")
    assert page.locator(".vp-status").inner_text() == "Stopped; Propagate goes on from here."
    assert project.states()[:, 0].tolist() == [3, 2, 2, 2, 2, 2, 0, 0, 0, 0, 0, 0]
    steps = method.steps
    for _ in range(T):
        turns.release()
    key(page, "p")
    line.wait()
    wait_for(page, running="false")
    assert method.steps == steps + T - 6  # and not again from the beginning
    np.testing.assert_array_equal(project.result(T - 1).numpy() == 1, square(T - 1))
    assert "least sure of square in frame 11" in page.locator(".vp-status").inner_text()
    key(page, "Home", "u")
    wait_for(page, frame=11)


def test_a_late_correction_changes_only_its_object_and_only_later_frames(
    project: Project, show: Callable[..., Line]
) -> None:
    start_with_the_square(project)
    second = project.add_object("other")
    other = np.zeros((H, W), bool)
    other[45:55, 5:20] = True
    project.save_mask(0, second, torch.from_numpy(other))
    project.propagate(Walks())
    files = {p: p.read_bytes() for p in sorted(project.folder.glob("results/*/*.png"))}
    assert len(files) == 2 * (T - 1)
    line = show(MaskPainter(project, Walks(), frame=6))
    page = line.page
    brush(line, 6)
    drag(page, (40, 15), (40, 10))
    saved(line)
    strip = np.frombuffer(line.painter._strip, np.uint8).reshape(2, T, 2)[..., 0]
    assert ((strip & 16) > 0).astype(int).tolist() == [[0] * 7 + [1] * 5, [0] * T]
    key(page, "p")
    line.wait()
    wait_for(page, running="false")
    changed = [p for p, data in files.items() if p.exists() and p.read_bytes() != data]
    assert [(p.parent.name, int(p.stem)) for p in changed] == [("001", t) for t in range(7, T)]
    assert project.result(8).numpy()[12, 46] == 1
    assert project.given(1) == {0: "first", 6: "correction"}


def test_backward_goes_to_the_mask_before(project: Project, show: Callable[..., Line]) -> None:
    o = project.add_object("square")
    project.save_mask(5, o, torch.from_numpy(square(5)))
    line = show(MaskPainter(project, Walks(step=-3), frame=5))
    line.page.get_by_role("button", name="Propagate backward").click()
    line.wait()
    wait_for(line.page, running="false")
    assert project.states()[:, 0].tolist() == [2, 2, 2, 2, 2, 3, 0, 0, 0, 0, 0, 0]
    np.testing.assert_array_equal(project.result(0).numpy() == 1, square(0))
    line.painter.frame = 3
    line.pump()
    wait_for(line.page, frame=3)
    line.page.get_by_role("button", name="Propagate backward").click()
    line.page.wait_for_function("document.querySelector('.vp-status').textContent.includes('could be carried back')")


def test_the_strip_jumps_and_says_what_there_is(project: Project, show: Callable[..., Line]) -> None:
    start_with_the_square(project)
    project.propagate(Walks())
    line = show(MaskPainter(project))
    lane = line.page.locator(".vp-track")
    box = lane.bounding_box()
    assert box is not None
    line.page.mouse.click(box["x"] + box["width"] * 7.5 / T, box["y"] + 10)
    wait_for(line.page, frame=7)
    line.until(lambda: line.painter.frame == 7)
    assert lane.get_attribute("title") == "frame 7: 81 % sure"  # 0.97 ** 7
    label = line.page.locator(".vp-canvas").get_attribute("aria-label")
    assert label == f"Video walk. Frame 7 of {T - 1}. square: 81 % sure"


# --- what goes wrong ---------------------------------------------------------------------------------------------


def test_a_lost_kernel_loses_no_stroke(project: Project, show: Callable[..., Line]) -> None:
    line = show(MaskPainter(project), patience=1)
    page = line.page
    drag(page, (20, 20), (30, 20))
    saved(line)
    page.evaluate("window.kernel.gone = true")
    key(page, "PageDown")  # a frame that does not come
    drag(page, (50, 30), (70, 30))
    assert "has not come" in page.locator(".vp-status").inner_text()
    key(page, "Home")
    drag(page, (50, 30), (70, 30))
    key(page, "n")
    drag(page, (20, 50), (40, 50))
    wait_for(page, link="lost", unsaved=1)
    assert "kept in this page and is sent when the kernel is back" in page.locator(".vp-banner").inner_text()
    seen = line.seen()
    assert len(np.unique(seen)) == 3
    assert not given(project, 0, 1)[30, 60]
    page.evaluate("window.kernel.gone = false")
    wait_for(page, link="live", unsaved=0)
    np.testing.assert_array_equal(project.result(0).numpy(), seen)
    assert page.locator(".vp-banner").is_hidden()


def changed_in_python_and_then_gone(line: Line) -> None:
    """The page hears that masks have changed, and asks for them in vain."""
    line.page.evaluate("window.kernel.gone = true")
    line.painter.refresh()
    line.pump()
    line.page.wait_for_selector(".vos-paint[data-loading]")


def test_what_stands_on_the_canvas_can_be_painted_on_while_its_new_masks_are_awaited(
    project: Project, show: Callable[..., Line]
) -> None:
    start_with_the_square(project)
    line = show(MaskPainter(project), patience=1)
    page = line.page
    changed_in_python_and_then_gone(line)
    drag(page, (60, 50), (80, 50))
    wait_for(page, link="lost", unsaved=1)
    seen = line.seen() == 1
    assert seen[50, 70]
    assert seen[square(0)].all()
    page.evaluate("window.kernel.gone = false")
    wait_for(page, link="live", unsaved=0)
    page.wait_for_selector(".vos-paint:not([data-loading])")
    np.testing.assert_array_equal(line.seen() == 1, seen)
    np.testing.assert_array_equal(given(project, 0, 1), seen)


@pytest.mark.parametrize("kept", [True, False])
def test_new_masks_that_come_during_a_stroke_wait_for_its_end(
    project: Project, show: Callable[..., Line], kept: bool
) -> None:
    start_with_the_square(project)
    line = show(MaskPainter(project), patience=1)
    page = line.page
    project.save_mask(0, 1, torch.from_numpy(square(5)))
    changed_in_python_and_then_gone(line)
    page.mouse.move(*at(page, 50, 50))
    page.mouse.down()
    page.mouse.move(*at(page, 60, 50), steps=4)
    page.evaluate("window.kernel.gone = false")
    page.wait_for_selector(".vos-paint:not([data-loading])")  # they are there
    page.mouse.move(*at(page, 70, 50), steps=4)
    painted = line.seen() == 1
    assert painted[50, 50:70].all()
    assert painted[square(0)].all()
    if not kept:
        key(page, "Escape")
    page.mouse.up()
    wait_for(page, unsaved=0, undo=int(kept))
    page.wait_for_selector(".vos-paint:not([data-loading])")
    expected = painted if kept else square(5)
    np.testing.assert_array_equal(line.seen() == 1, expected)
    np.testing.assert_array_equal(given(project, 0, 1), expected)


def test_undo_in_a_frame_that_does_not_come_is_kept(project: Project, show: Callable[..., Line]) -> None:
    line = show(MaskPainter(project), patience=1)
    page = line.page
    drag(page, (20, 20), (30, 20))
    saved(line)
    key(page, ".")
    wait_for(page, frame=1)
    changed_in_python_and_then_gone(line)
    key(page, "z", ".")
    wait_for(page, undo=0, redo=1, unsaved=1)
    page.evaluate("window.kernel.gone = false")
    wait_for(page, link="live", unsaved=0, frame=1)
    assert project.masks(0) == {}
    key(page, ",")
    wait_for(page, frame=0)
    assert not line.seen().any()


def test_the_picture_stays_where_it_is_when_the_kernel_falls_silent(
    project: Project, show: Callable[..., Line]
) -> None:
    line = show(MaskPainter(project), patience=1)
    before = at(line.page, 48, 30)
    changed_in_python_and_then_gone(line)
    wait_for(line.page, link="lost")
    assert line.page.locator(".vp-banner").is_visible()
    assert at(line.page, 48, 30) == before  # under a pen, perhaps


def test_what_a_dead_kernel_never_got_is_sent_to_the_next_one(project: Project, show: Callable[..., Line]) -> None:
    line = show(MaskPainter(project))
    page = line.page
    page.evaluate("window.kernel.gone = true")
    drag(page, (20, 20), (60, 20))
    seen = line.seen()
    page.wait_for_function("Object.keys(localStorage).some((key) => key.startsWith('vos-painter:'))")
    page.close()
    assert not project.objects
    again = show(MaskPainter(project))
    wait_for(again.page, unsaved=0)
    assert "sent now" in again.page.locator(".vp-status").inner_text()
    wait_for(again.page, undo=1)
    np.testing.assert_array_equal(project.result(0).numpy(), seen)
    np.testing.assert_array_equal(again.seen(), seen)


def test_of_two_views_one_paints(project: Project, show: Callable[..., Line]) -> None:
    line = show(MaskPainter(project))
    page = line.page
    line.painter._receive(None, {"kind": "hello", "view": "another"}, [])
    line.pump()
    wait_for(page, link="other")
    assert "opened in another view" in page.locator(".vp-banner").inner_text()
    drag(page, (20, 20), (60, 20))
    assert not line.seen().any()
    page.get_by_role("button", name="Paint here instead").click()
    wait_for(page, link="live")
    drag(page, (20, 20), (60, 20))
    assert line.seen().any()


def test_a_newer_painter_on_the_same_project_takes_over(project: Project, show: Callable[..., Line]) -> None:
    line = show(MaskPainter(project))
    newer = MaskPainter(project)
    line.pump()
    wait_for(line.page, link="other")
    assert "opened again in this notebook" in line.page.locator(".vp-banner").inner_text()
    assert line.page.get_by_role("button", name="Paint here instead").count() == 0
    newer.close()


def test_a_disk_that_is_full_keeps_the_stroke_on_the_page(
    project: Project, show: Callable[..., Line], monkeypatch: pytest.MonkeyPatch
) -> None:
    line = show(MaskPainter(project))
    drag(line.page, (20, 20), (30, 20))
    saved(line)
    from vos_tutorial.errors import TutorialError

    def full(*_: Any) -> None:
        raise TutorialError("cannot write mask.png (No space left on device); free some space.")

    with monkeypatch.context() as patch:
        patch.setattr(project, "save_mask", full)
        drag(line.page, (50, 40), (60, 40))
        line.page.wait_for_function("document.querySelector('.vp-status').textContent.includes('No space left')")
        wait_for(line.page, unsaved=1)
    key(line.page, ".")
    wait_for(line.page, frame=1)
    drag(line.page, (50, 40), (60, 40))
    saved(line)  # both of them
    assert given(project, 0, 1)[40, 55]
    assert given(project, 1, 1)[40, 55]


# --- a page of its own, and the manners of a widget ----------------------------------------------------------------


def test_a_still_copy_can_be_looked_at_and_tried(page_of: Callable[..., Page], project: Project) -> None:
    start_with_the_square(project)
    project.propagate(Walks())
    page = page_of(MaskPainter(project))
    wait_for(page, link="none", frame=0)
    assert "still copy" in page.locator(".vp-banner").inner_text()
    assert page.get_by_role("button", name="Propagate", exact=True).is_disabled()
    key(page, "End")
    wait_for(page, frame=T - 1)
    drag(page, (20, 10), (60, 10))
    wait_for(page, undo=1)
    key(page, "z")
    wait_for(page, undo=0)


def test_everything_has_a_name_and_keeps_its_keys(project: Project, show: Callable[..., Line]) -> None:
    start_with_the_square(project)
    page = show(MaskPainter(project, alt="A walk")).page
    tree = page.locator("main").aria_snapshot()
    for text in (
        'group "Mask painter"', 'toolbar "Painting tools"', 'radio "Brush" [checked]', 'radio "Box"', 'button "Undo"',
        'slider "Size"', 'slider "Opacity"', 'button "Zoom in"', 'application "A walk. Frame 0 of 11.',
        'slider "Frame"', 'radio "Paint square" [checked]',
        'textbox "Name of object 1"', 'button "Show square" [pressed]',
        'button "Propagate"', 'checkbox "Watch"',
    ):  # fmt: skip
        assert text in tree, tree
    focusable = page.locator(".vos button, .vos input, .vos summary, .vos [tabindex]")
    for index in range(focusable.count()):
        assert focusable.nth(index).get_attribute("data-lm-suppress-shortcuts") == "true"


def test_a_closed_view_leaves_nothing_behind(project: Project, show: Callable[..., Line]) -> None:
    page = show(MaskPainter(project)).page
    assert page.evaluate("window.hosted.model.listening()") > 0
    page.evaluate("window.hosted.close()")
    assert page.evaluate("window.hosted.model.listening()") == 0
    assert page.locator(".vos").count() == 0
