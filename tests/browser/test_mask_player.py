"""MaskPlayer in a page of its own (real state, no kernel), pixel by pixel and key by key."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from vos_tutorial.clip import VOID, Clip
from vos_tutorial.course import figures
from vos_tutorial.course.widgets import MaskPlayer

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.browser
T, H, W = 12, 40, 60
PageOf = Callable[[MaskPlayer], "Page"]


@pytest.fixture(scope="module")
def clip() -> Clip:
    """Twelve plain frames; object 1 walks, object 2 stays, a strip of void."""
    frames = torch.full((T, 3, H, W), 128, dtype=torch.uint8)
    frames += (torch.arange(T, dtype=torch.uint8) * 8).reshape(T, 1, 1, 1)
    masks = torch.zeros(T, H, W, dtype=torch.uint8)
    for t in range(T):
        masks[t, 4:18, 2 + 3 * t : 18 + 3 * t] = 1
    masks[:, 22:36, 40:55] = 2
    masks[:, 38:, :10] = VOID
    return Clip(frames, masks, "walk")


@pytest.fixture(scope="module")
def guess(clip: Clip) -> torch.Tensor:
    """Late by one frame; object 2 moved, so that misses, false alarms and wrong objects occur."""
    ids = clip.masks.roll(1, 0)
    ids[:, 22:36, 30:55] = 0
    ids[:, 26:38, 36:50] = 2
    ids[:, 8:11][ids[:, 8:11] == 1] = 2
    ids[ids == VOID] = 0
    return ids


def picture(page: Page) -> np.ndarray:
    """The canvas as RGB, ``int [H, scale, W, scale, 3]``: every pixel of every cell of the mask."""
    height, width, text = page.evaluate(
        """() => { const c = document.querySelector(".vos-picture");
                   const { data } = c.getContext("2d").getImageData(0, 0, c.width, c.height);
                   let text = "";
                   for (let i = 0; i < data.length; i += 8192)
                     text += String.fromCharCode(...data.subarray(i, i + 8192));
                   return [c.height, c.width, btoa(text)]; }"""
    )
    scale = height // H
    assert (height, width) == (H * scale, W * scale)
    data = np.frombuffer(base64.b64decode(text), np.uint8)
    return data.reshape(H, scale, W, scale, 4)[..., :3].astype(int)


def cells(page: Page) -> np.ndarray:
    """The canvas at the middle of every cell of the mask, ``int [H, W, 3]``."""
    seen = picture(page)
    middle = seen.shape[1] // 2
    return seen[:, middle, :, middle]


def interior(ids: np.ndarray) -> np.ndarray:
    """Cells whose eight neighbours carry the same id: no outline passes through them."""
    padded = np.pad(ids, 1, mode="edge")
    shifts = [padded[1 + dy : 1 + dy + H, 1 + dx : 1 + dx + W] for dy in (-1, 0, 1) for dx in (-1, 0, 1)]
    return np.all([shift == ids for shift in shifts], axis=0)


def frame(page: Page) -> int:
    return int(page.locator(".vos").get_attribute("data-frame") or -1)


def wait_for(page: Page, **data: Any) -> None:
    page.wait_for_selector(".vos" + "".join(f"[data-{name}='{value}']" for name, value in data.items()))


def saves(page: Page) -> list[dict[str, Any]]:
    return page.evaluate("window.hosted.model.saves")


@pytest.mark.parametrize("object_id", [1, 2])
def test_the_mask_is_drawn_exactly(page_of: PageOf, clip: Clip, object_id: int) -> None:
    ids = torch.where(clip.masks == object_id, object_id, 0).to(torch.uint8)
    page = page_of(MaskPlayer(clip.frames, pred=ids, opacity=1.0))
    page.locator(".vos-picture").press("End")
    wait_for(page, frame=T - 1)
    last = ids[T - 1].numpy()
    seen = cells(page)
    assert (seen[last > 0] == figures.object_colours()[object_id]).all()
    background = seen[interior(last) & (last == 0)]
    assert np.abs(background - clip.frames[T - 1, 0, 0, 0].item()).max() <= 3  # a JPEG of plain grey


def test_several_objects_carry_their_numbers(page_of: PageOf, clip: Clip) -> None:
    page = page_of(MaskPlayer(clip, opacity=1.0))
    seen = picture(page).transpose(0, 2, 1, 3, 4)
    for object_id in (1, 2):
        inside = seen[interior(clip.masks[0].numpy()) & (clip.masks[0].numpy() == object_id)]
        assert (inside == 255).all(axis=-1).sum() > 10


def test_objects_have_an_outline_also_without_tint(page_of: PageOf, clip: Clip) -> None:
    page = page_of(MaskPlayer(clip, opacity=0.0))
    ids = clip.masks[0].numpy()
    differs = np.abs(cells(page) - 128).max(axis=2) > 40
    assert not differs[interior(ids) & (ids == 0)].any()
    seen = picture(page)
    assert seen[4, 0, 10, 0].tolist() == figures.object_colours()[1].tolist()  # the first pixel inside the upper edge
    assert (seen[3, -1, 10, 0] < 80).all()  # and the one outside


def test_errors_are_drawn_hatched_and_counted(page_of: PageOf, clip: Clip, guess: torch.Tensor) -> None:
    page = page_of(MaskPlayer(clip, pred=guess, view="error"))
    page.locator(".vos-picture").press("PageDown")
    wait_for(page, frame=1)
    kinds = figures.error_kinds(clip.masks[1], guess[1])
    seen = picture(page).transpose(0, 2, 1, 3, 4)  # [H, W, scale, scale, 3]
    colours = {figures.MISS: (0, 114, 178), figures.FALSE_ALARM: (213, 94, 0), figures.WRONG_OBJECT: (240, 228, 66)}
    ink = (seen == 34).all(axis=-1)
    for kind, colour in colours.items():
        where = kinds == kind
        plain = (seen == colour).all(axis=-1)
        assert (plain | ink)[where].all()
        assert 0.3 < plain[where].mean() < 0.97  # the rest is hatching
        assert not plain[~where].any()
        text = page.locator(f".vos-legend [data-kind='{kind}']").inner_text()
        assert f"{100 * where.mean():.1f} %" in text
    assert (np.ptp(seen[kinds == 0], axis=-1) <= 2).all()  # the frame has lost its colour
    assert page.get_by_label("Opacity").is_disabled()


def test_keys_move_and_tell_the_kernel_once(page_of: PageOf, clip: Clip) -> None:
    page = page_of(MaskPlayer(clip))
    picture = page.locator(".vos-picture")
    steps = [("ArrowRight", 1), ("ArrowRight", 2), ("ArrowLeft", 1), ("End", 11), ("ArrowRight", 11)]
    steps += [("PageUp", 10), ("Home", 0), ("PageDown", 1), ("ArrowLeft", 0), ("ArrowLeft", 0)]
    for key, expected in steps:
        picture.press(key)
        wait_for(page, frame=expected)
    frames = [save["frame"] for save in saves(page)]
    assert frames == [1, 2, 1, 11, 10, 0, 1, 0]
    assert page.locator(".vos-time").inner_text() == "0 / 11"
    picture.press("Control+ArrowRight")  # the browser's and Jupyter's own combinations stay theirs
    assert frame(page) == 0


def test_the_slider_has_the_same_keys(page_of: PageOf, clip: Clip) -> None:
    page = page_of(MaskPlayer(clip))
    slider = page.get_by_role("slider", name="Frame")
    slider.press("ArrowRight")
    wait_for(page, frame=1)
    slider.press("End")
    wait_for(page, frame=11)
    assert slider.get_attribute("aria-valuetext") == "frame 11 of 11"
    slider.fill("5")
    wait_for(page, frame=5)


def test_playing_runs_in_the_page_alone(page_of: PageOf, clip: Clip) -> None:
    page = page_of(MaskPlayer(clip, fps=30))
    page.locator(".vos-picture").press(" ")
    wait_for(page, playing="true")
    page.wait_for_function("Number(document.querySelector('.vos').dataset.frame) >= 2")
    assert saves(page) == []  # not a word to the kernel while playing
    page.get_by_role("button", name="Pause").click()
    wait_for(page, playing="false")
    stopped = page.evaluate("window.hosted.model.get('frame')")
    wait_for(page, frame=stopped)
    assert saves(page) in ([{"frame": stopped}], [])  # [] if it stopped where it began
    assert page.get_by_role("button", name="Play").is_visible()


def test_a_key_stops_playing(page_of: PageOf, clip: Clip) -> None:
    page = page_of(MaskPlayer(clip, fps=20))
    page.locator(".vos-picture").press(" ")
    page.locator(".vos-picture").press("End")
    wait_for(page, playing="false", frame=T - 1)


def test_objects_switch_off_and_on(page_of: PageOf, clip: Clip) -> None:
    page = page_of(MaskPlayer(clip, opacity=1.0, labels=["dog", "ball"]))
    inside = interior(clip.masks[0].numpy()) & (clip.masks[0].numpy() == 1)
    assert (cells(page)[inside] == figures.object_colours()[1]).all(axis=1).any()
    page.get_by_role("checkbox", name="dog").uncheck()
    wait_for(page, hidden="1")
    assert saves(page) == [{"hidden": [1]}]
    assert np.abs(cells(page)[inside] - 128).max() <= 3
    page.get_by_role("checkbox", name="dog").check()
    assert page.evaluate("window.hosted.model.get('hidden')") == []


def test_methods_are_compared_in_one_player(page_of: PageOf, clip: Clip, guess: torch.Tensor) -> None:
    player = MaskPlayer(clip, pred={"late": guess, "perfect": clip.masks})
    page = page_of(player)
    choice = page.get_by_role("combobox", name="View")
    assert choice.locator("option").all_inner_texts() == player.views
    page.locator(".vos-picture").press("End")
    wait_for(page, frame=T - 1)
    assert page.locator(".vos-score").inner_text() == f"J {player._scores['1'][-1]:.0f} %"
    choice.select_option("perfect")
    wait_for(page, view="perfect")
    assert page.locator(".vos-score").inner_text() == "J 100 %"
    choice.select_option("truth")
    wait_for(page, view="truth")
    assert page.locator(".vos-score").count() == 0
    assert not page.locator(".vos-chart").is_visible()
    assert [save["view"] for save in saves(page) if "view" in save] == ["perfect", "truth"]


def test_the_strip_of_scores_can_be_dragged(page_of: PageOf, clip: Clip, guess: torch.Tensor) -> None:
    page = page_of(MaskPlayer(clip, pred=guess))
    chart = page.locator(".vos-chart")
    box = chart.bounding_box()
    assert box is not None
    y = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + 1, y)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] / 2, y, steps=3)
    page.mouse.move(box["x"] + box["width"] - 1, y, steps=3)
    page.mouse.up()
    wait_for(page, frame=T - 1)
    page.mouse.move(box["x"] + 1, y)  # not held: nothing moves
    assert frame(page) == T - 1


def test_everything_has_a_name_and_keeps_its_keys(page_of: PageOf, clip: Clip, guess: torch.Tensor) -> None:
    page = page_of(MaskPlayer(clip, pred=guess, labels=["dog", "ball"], alt="A dog and a ball"))
    tree = page.locator("main").aria_snapshot()
    for line in (
        'group "Mask player"',
        'img "A dog and a ball. Frame 0 of 11, prediction. J',
        'button "Play"',
        'slider "Frame"',
        'combobox "View"',
        'slider "Opacity"',
        'checkbox "dog"',
        'checkbox "ball"',
    ):
        assert line in tree, tree
    focusable = page.locator(".vos button, .vos input, .vos select, .vos [tabindex]")
    kept = [focusable.nth(i).get_attribute("data-lm-suppress-shortcuts") for i in range(focusable.count())]
    assert kept == ["true"] * 7


def test_new_predictions_replace_the_old_ones(page_of: PageOf, clip: Clip, guess: torch.Tensor) -> None:
    page = page_of(MaskPlayer(clip, opacity=1.0))
    after = MaskPlayer(clip, pred=torch.full_like(guess, 2), opacity=1.0)
    page.evaluate(
        """([views, scores, text]) => { const { model } = window.hosted;
             model.set("_views", views); model.set("_scores", scores); model.set("view", "prediction");
             model.set("_ids", new DataView(Uint8Array.from(text, (c) => c.charCodeAt(0)).buffer)); }""",
        [after._views, after._scores, after._ids.decode("latin-1")],
    )
    wait_for(page, view="prediction", ready="true")
    assert page.get_by_role("combobox", name="View").locator("option").count() == 3
    seen = cells(page)
    assert (seen[:5] == figures.object_colours()[2]).all()


def test_the_smallest_clip(page_of: PageOf) -> None:
    page = page_of(MaskPlayer(np.full((1, 16, 16, 3), 90, np.uint8)))
    for key in ("ArrowRight", "End", " ", " "):
        page.locator(".vos-picture").press(key)
    wait_for(page, frame=0, playing="false")
    assert not page.get_by_label("View").is_visible()
    assert page.get_by_role("checkbox").count() == 0


def test_a_closed_view_leaves_nothing_behind(page_of: PageOf, clip: Clip) -> None:
    page = page_of(MaskPlayer(clip))
    page.locator(".vos-picture").press(" ")
    assert page.evaluate("window.hosted.model.listening()") > 0
    page.evaluate("window.hosted.close()")
    assert page.evaluate("window.hosted.model.listening()") == 0
    assert page.locator(".vos").count() == 0
