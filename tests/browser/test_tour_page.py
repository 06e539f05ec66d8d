"""NetworkTour in a page of its own: pointer, keys, frames, themes, and what a screen reader is told."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

import pytest
import torch

from vos_tutorial.course.figures import networks
from vos_tutorial.course.widgets import NetworkTour
from vos_tutorial.course.widgets.widget import Widget
from vos_tutorial.data.worlds.sprites import benchmark
from vos_tutorial.models import stm

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

    from tools.live_lab import Notebook

pytestmark = pytest.mark.browser
PageOf = Callable[[Widget], "Page"]


@pytest.fixture(scope="module")
def tour() -> NetworkTour:
    torch.manual_seed(0)
    clip = next(iter(benchmark(1, ["multiple_objects"])))
    return NetworkTour(networks.follow_stm(stm.build(), clip.frames[:4], clip.masks[0]), selected="value")


def wait_for(page: Page, **data: Any) -> None:
    page.wait_for_selector(".vos" + "".join(f"[data-{name}='{value}']" for name, value in data.items()))


def saves(page: Page) -> list[dict[str, Any]]:
    return page.evaluate("window.hosted.model.saves")


def spot(page: Page, name: str) -> Locator:
    return page.get_by_role("button", name=name, exact=True)


def painted(page: Page, selector: str) -> int:
    """How many different colours a canvas shows."""
    return page.evaluate(
        "(s) => { const c = document.querySelector(s); const context = c.getContext('2d');"
        " return new Set(new Uint32Array(context.getImageData(0, 0, c.width, c.height).data.buffer)).size; }",
        selector,
    )


def test_hover_looks_and_click_chooses(page_of: PageOf, tour: NetworkTour) -> None:
    page = page_of(tour)
    wait_for(page, shown="value", selected="value", step="0")
    spot(page, "found, 32×12×12").hover()
    wait_for(page, shown="found", selected="value")
    page.mouse.move(1, 1)
    wait_for(page, shown="value")
    assert saves(page) == []
    spot(page, "read").click()
    wait_for(page, shown="read", selected="read")
    assert saves(page) == [{"selected": "read"}]
    assert page.locator(".vos-code mark").all_inner_texts()[0].strip().startswith("found.append(softmax_of_best(s")
    assert page.locator(".vos-large").is_hidden()  # a function has no map of its own
    assert page.get_by_text("goes to: found").is_visible()


def test_a_map_is_shown_with_its_channels(page_of: PageOf, tour: NetworkTour) -> None:
    page = page_of(tour)
    assert page.locator(".vos-channels canvas").count() == 8
    assert painted(page, ".vos-large") > 20
    assert painted(page, ".vos-channels canvas") > 20
    assert painted(page, ".vos-face") > 20
    channels = tour._parts[[p["key"] for p in tour._parts].index("value")]["channels"]
    assert page.locator(".vos-channels figcaption").all_inner_texts() == [f"channel {c}" for c in channels]


def test_the_slider_steps_through_the_frames(page_of: PageOf, tour: NetworkTour) -> None:
    page = page_of(tour)
    read = "(s) => document.querySelector(s).toDataURL()"
    before, face = page.evaluate(read, ".vos-large"), page.evaluate(read, ".vos-face")
    assert page.locator(".vos-shape").inner_text() == "32×12×12"
    page.get_by_role("slider", name="Frame").press("ArrowRight")
    wait_for(page, step="1", shown="value")
    assert page.locator(".vos-shape").inner_text() == "2 of 32×12×12"
    assert page.get_by_text("frame 2", exact=True).is_visible()
    assert page.evaluate(read, ".vos-large") != before
    page.get_by_role("slider", name="Frame").press("End")
    wait_for(page, step="2")
    assert page.evaluate(read, ".vos-face") != face
    assert saves(page) == [{"step": 1}, {"step": 2}]


def test_arrow_keys_go_to_the_neighbours_and_one_stop_is_in_the_tab_order(page_of: PageOf, tour: NetworkTour) -> None:
    page = page_of(tour)
    spot(page, "memory value, 32×12×12").focus()
    for key, part in [
        ("ArrowRight", "read"), ("ArrowRight", "found"), ("ArrowLeft", "read"), ("ArrowLeft", "value"),
        ("ArrowUp", "key"), ("ArrowDown", "value"), ("End", "answer"), ("ArrowRight", "answer"),
        ("Home", tour._order[0]),
    ]:  # fmt: skip
        page.keyboard.press(key)
        wait_for(page, selected=part)
        assert page.evaluate("document.activeElement.getAttribute('aria-pressed')") == "true"
    assert page.locator(".vos-spot[tabindex='0']").count() == 1
    focusable = page.locator(".vos button, .vos input, .vos [tabindex]")
    kept = [focusable.nth(i).get_attribute("data-lm-suppress-shortcuts") for i in range(focusable.count())]
    assert set(kept) == {"true"}


def test_the_data_can_be_followed_and_it_stops(page_of: PageOf, tour: NetworkTour) -> None:
    page = page_of(tour)
    page.clock.install()
    page.reload()
    page.wait_for_selector("[data-ready]")
    page.get_by_role("button", name="Follow the data").click()
    wait_for(page, following="true", selected="value")
    after = tour._order[tour._order.index("value") + 1 :]
    for part in after[:2]:
        page.clock.run_for(1100)
        wait_for(page, selected=part)
    page.get_by_role("button", name="Stop").click()
    page.clock.run_for(3000)
    wait_for(page, selected=after[1])
    page.evaluate("window.hosted.model.set('selected', 'answer')")
    page.get_by_role("button", name="Follow the data").click()  # from the end: the next frame, from the start
    wait_for(page, step="1", selected=tour._order[0])
    page.clock.run_for(1100 * (len(tour._order) + 1))
    wait_for(page, selected="answer")
    assert page.get_by_role("button", name="Follow the data").is_visible()


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_it_is_dressed_as_the_page_is(page_of: PageOf, tour: NetworkTour, theme: str) -> None:
    page = page_of(tour)
    page.emulate_media(color_scheme=theme)  # type: ignore[arg-type]
    wait_for(page, theme=theme)
    ink = {"light": "#222222", "dark": "#eceff3"}[theme]
    assert ink in page.locator(".vos-drawing").inner_html()


def test_python_moves_the_page_and_a_closed_page_listens_no_more(page_of: PageOf, tour: NetworkTour) -> None:
    page = page_of(tour)
    page.evaluate("window.hosted.model.set('selected', 'found'); window.hosted.model.set('step', 2)")
    wait_for(page, selected="found", step="2")
    tree = page.locator("main").aria_snapshot()
    assert 'group "Parts of the network; arrow keys move"' in tree
    assert 'button "found, 32×12×12" [pressed]' in tree
    assert 'img "found of frame 3: size of the feature vectors' in tree
    page.evaluate("window.hosted.close()")
    assert page.evaluate("window.hosted.model.listening()") == 0


LIVE = """from vos_tutorial.course.figures import networks
from vos_tutorial.course.widgets import NetworkTour
from vos_tutorial.data.worlds.sprites import benchmark
from vos_tutorial.models import stm
clip = next(iter(benchmark(1, ["multiple_objects"])))
tour = NetworkTour(networks.follow_stm(stm.build(), clip.frames[:3], clip.masks[0]))
tour"""


def test_a_choice_reaches_the_kernel_and_back(lab: Callable[..., AbstractContextManager[Notebook]]) -> None:
    with lab([LIVE], theme="dark") as notebook:
        notebook.run_all()
        page = notebook.page
        page.wait_for_selector(".vos[data-ready][data-theme='dark']")
        page.locator(".vos-spot[aria-pressed='true']").focus()
        page.keyboard.press("End")
        notebook.eventually("tour.selected", "answer")
        notebook.py("setattr(tour, 'step', 1)")
        wait_for(page, step="1", selected="answer")
        assert notebook.cell_errors() == []
        assert notebook.console_errors == []
