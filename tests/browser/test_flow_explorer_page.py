"""FlowExplorer in a page of its own: the networks in JavaScript against torch, pointer, keys, clouds, pictures."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from torch import Tensor

from vos_tutorial.course.widgets import FlowExplorer
from vos_tutorial.course.widgets.flow_explorer import heun
from vos_tutorial.models import flow_map, plane
from vos_tutorial.models.plane import Clock, PlaneFlowMap, PlaneVelocity
from vos_tutorial.samples import sliced_wasserstein

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.browser
PageOf = Callable[[FlowExplorer], "Page"]
SAMPLES = 120


def networks(clock: Clock = "time", half: bool = False) -> tuple[PlaneVelocity, PlaneFlowMap, PlaneFlowMap]:
    """Teacher, student and consistency model of the size that ships, different from one another."""
    torch.manual_seed(0)
    teacher = PlaneVelocity(clock=clock)
    with torch.no_grad():  # initial weights make a flow that is all but straight
        for layer in (teacher.point, teacher.body[1], teacher.body[3], teacher.body[5]):
            layer.weight.mul_(2.5)
    maps = []
    for _ in range(2):
        student = PlaneFlowMap(teacher)
        torch.nn.init.normal_(student.end.weight, std=0.5)
        maps.append(student)
    if half:
        for network in (teacher, *maps):
            for parameter in network.parameters():
                parameter.data = parameter.data.half().float()
    return teacher, *maps


def explorer(**options: Any) -> FlowExplorer:
    teacher, student, consistency = networks()
    return FlowExplorer(teacher, student, consistency, samples=SAMPLES, **options)


def strips() -> Tensor:
    """Three pictures of one grey each."""
    return torch.stack([torch.full((3, 8, 8), grey) for grey in (0.2, 0.5, 0.8)])


def in_page(page: Page, code: str, *arguments: Any) -> Any:
    """Run code in the page with the widget's own functions at hand."""
    return page.evaluate(
        """async ([code, args]) => {
             const { esm } = JSON.parse(document.getElementById("payload").textContent);
             const ours = await import(URL.createObjectURL(new Blob([esm], { type: "text/javascript" })));
             return new Function("ours", "model", "args", code)(ours, window.hosted.model, args); }""",
        [code, list(arguments)],
    )


def wait_for(page: Page, **data: Any) -> None:
    page.wait_for_selector(".vos" + "".join(f"[data-{name}='{value}']" for name, value in data.items()))


@pytest.mark.parametrize(("clock", "half"), [("time", True), ("fast", False), ("log sigma", False)])
def test_the_networks_give_what_torch_gives(page_of: PageOf, clock: Clock, half: bool) -> None:
    made = networks(clock, half)
    widget = FlowExplorer(*made, samples=SAMPLES)
    assert widget._half is half
    page = page_of(widget)
    x, t, s = widget._noise, 0.73, 0.21
    found = in_page(
        page,
        """const [points, t, s] = args;
           return ours.networksOf(model).map((network) => {
             const out = new Float32Array(points.length);
             network.evaluate(Float32Array.from(points), network.moment(t, s), out);
             return Array.from(out); });""",
        x.flatten().tolist(),
        t,
        s,
    )
    now, end = torch.full((len(x),), t), torch.full((len(x),), s)
    with torch.no_grad():
        expected = [made[0](x, now), made[1](x, now, end), made[2](x, now, end)]
    for ours, theirs in zip(found, expected, strict=True):
        assert np.abs(np.array(ours).reshape(-1, 2) - theirs.numpy()).max() < 1e-5  # of velocities up to 3


def test_the_networks_that_ship_make_the_same_samples_here_and_there(page_of: PageOf) -> None:
    student, consistency = (plane.trained_flow_map(plane.shipped(name)) for name in ("emd", "consistency"))
    widget = FlowExplorer(
        plane.trained_velocity(plane.shipped("teacher")), student, consistency, samples=300, steps=4
    )
    assert widget._half  # as they ship
    page = page_of(widget)
    wait_for(page, clouds=4)
    said = [float(text) for text in page.locator(".vos-distance").all_inner_texts()]
    expected = [sliced_wasserstein(points, widget._reference) for points in widget.samples(4).values()]
    assert np.allclose(said, expected, atol=6e-4)
    assert said[2] < 0.1 < said[0]  # flow map and Euler


@pytest.mark.parametrize("steps", [1, 5])
def test_the_clouds_are_those_of_the_library(page_of: PageOf, steps: int) -> None:
    widget = explorer(steps=steps)
    page = page_of(widget)
    wait_for(page, clouds=steps)
    expected = widget.samples(steps)
    for kind, name in (("euler", "Euler"), ("consistency", "consistency"), ("map", "flow map")):
        points = in_page(
            page,
            """const [kind, steps] = args;
               const clouds = new Float32Array(model.get("_clouds").buffer.slice(0));
               const noise = clouds.subarray(0, clouds.length / 2);
               return ours.samplesOf(kind, ours.networksOf(model), noise, steps, model.get("_fresh"))
                 .then((found) => Array.from(found));""",
            kind,
            steps,
        )
        assert np.abs(np.array(points).reshape(-1, 2) - expected[name].numpy()).max() < 2e-5
        said = float(page.locator(f".vos-panel:has(.vos-cloud.vos-{kind}) .vos-distance").inner_text())
        assert abs(said - sliced_wasserstein(expected[name], widget._reference)) < 6e-4
        drawn = page.locator(f".vos-cloud.vos-{kind}").get_attribute("d")
        assert drawn is not None
        assert drawn.count("M") == SAMPLES


def test_the_jump_is_shown_beside_the_true_end_and_eulers(page_of: PageOf) -> None:
    widget = explorer(point=(0.5, -0.4), t=0.8, s=0.1)
    page = page_of(widget)
    wait_for(page, jump="0.80 0.10")
    teacher, student, _ = networks()
    here = heun(teacher, torch.tensor([[0.5, -0.4]]), 1.0, 0.8)
    end = heun(teacher, here, 0.8, 0.1)
    t, s = torch.tensor([0.8]), torch.tensor([0.1])
    with torch.no_grad():
        jumped = flow_map.jump(student, here, t, s)
        euler = here + (0.1 - 0.8) * teacher(here, t)
    expected = [float((jumped - end).norm()), float((euler - end).norm())]
    found = [float(value) for value in (page.locator(".vos").get_attribute("data-off") or "").split()]
    assert np.allclose(found, expected, atol=2e-3)
    x, y = here[0].tolist()
    assert page.locator(".vos").get_attribute("data-point") == f"{x:.2f}, {y:.2f}"


def test_the_point_follows_pointer_and_keys_and_the_times_keep_their_order(page_of: PageOf) -> None:
    page = page_of(explorer(point=(0.0, 0.0)))
    wait_for(page, jump="1.00 0.00", point="0.00, 0.00")
    board = page.locator(".vos-plane")
    box = board.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.mouse.move(box["x"] + 0.75 * box["width"], box["y"] + 0.25 * box["height"], steps=3)
    page.mouse.up()
    wait_for(page, point="1.30, 1.30")
    board.press("ArrowLeft")
    wait_for(page, point="1.25, 1.30")
    board.press("Shift+ArrowDown")
    wait_for(page, point="1.25, 1.05")
    assert page.evaluate("window.hosted.model.get('point')")[0] == pytest.approx(1.25, abs=0.01)  # at t = 1

    page.get_by_label("t, where the jump begins").fill("0.5")
    wait_for(page, jump="0.50 0.00")
    page.get_by_label("s, where the jump ends").fill("0.9")
    wait_for(page, jump="0.50 0.50")
    assert "no length" in page.get_by_role("status").inner_text()
    page.get_by_label("t, where the jump begins").fill("0.2")
    wait_for(page, jump="0.20 0.20")
    before = page.locator(".vos").get_attribute("data-point") or ""
    board.press("ArrowUp")  # at another time, too, it is the point at time t that moves
    x, y = (float(value) for value in before.split(", "))
    page.wait_for_function(
        "([x, y]) => { const [a, b] = document.querySelector('.vos').dataset.point.split(', ').map(Number);"
        " return Math.abs(a - x) < 0.015 && Math.abs(b - y - 0.05) < 0.015; }",
        arg=[x, y],
    )
    page.wait_for_function("Object.assign({}, ...window.hosted.model.saves).t === 0.2")
    page.evaluate("window.hosted.model.set('point', [0.3, 0.2])")  # from the kernel
    page.evaluate("window.hosted.model.set('t', 1)")
    wait_for(page, point="0.30, 0.20")


def test_steps_are_chosen_by_slider_and_kernel(page_of: PageOf) -> None:
    page = page_of(explorer())
    wait_for(page, clouds=2)
    steps = page.get_by_role("slider", name="Steps")
    steps.press("ArrowRight")
    wait_for(page, clouds=3)
    steps.press("End")
    wait_for(page, clouds=16)
    assert page.get_by_text("16 steps").is_visible()
    page.evaluate("window.hosted.model.set('steps', 1)")
    wait_for(page, clouds=1)
    one = page.locator(".vos-distance").all_inner_texts()
    page.evaluate("window.hosted.model.set('steps', 9)")
    page.evaluate("window.hosted.model.set('steps', 1)")  # what was begun is dropped
    wait_for(page, clouds=1)
    assert page.locator(".vos-distance").all_inner_texts() == one
    assert page.get_by_role("tab").count() == 0


def test_pictures_are_a_tab_of_their_own(page_of: PageOf) -> None:
    images = {"teacher": {1: 1 - strips(), 2: strips(), 4: strips()}, "student": {1: strips(), 2: strips()}}
    page = page_of(explorer(images=images))
    wait_for(page, tab="plane")
    first, shown = page.get_by_role("tab", name="The plane"), page.get_by_role("tab", name="Pictures")
    assert not page.get_by_role("tabpanel", name="Pictures").is_visible()
    first.press("ArrowRight")
    wait_for(page, tab="pictures")
    assert shown.get_attribute("aria-selected") == "true"
    assert (
        page.get_by_role("img", name="student, 2 steps: 3 samples").evaluate(
            "i => i.decode().then(() => i.naturalWidth)"
        )
        == 24
    )
    assert page.get_by_role("img", name="student, 4 steps: 3 samples").count() == 0
    strip = page.locator(".vos-strip").nth(0)
    box = strip.bounding_box()
    assert box is not None
    strip.click(position={"x": 0.9 * box["width"], "y": box["height"] / 2})
    wait_for(page, picture=2)
    page.get_by_role("group", name="Samples from the same noise").press("ArrowLeft")
    wait_for(page, picture=1)
    assert page.get_by_text("Sample 2 of 3, enlarged").is_visible()
    tiles = page.locator(".vos-tile")
    assert tiles.nth(0).evaluate("t => getComputedStyle(t).backgroundPosition") == "50% 0px"
    page.wait_for_function("Object.assign({}, ...window.hosted.model.saves).picture === 1")
    assert page.evaluate("window.hosted.model.saves")[0] == {"tab": "pictures"}


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_lines_stand_out_from_the_ground_in_both_themes(page_of: PageOf, scheme: str) -> None:
    page = page_of(explorer())
    page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
    wait_for(page, clouds=2)
    light = page.evaluate(
        """() => { const c = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
             const shade = (colour) => { c.fillStyle = colour; c.clearRect(0, 0, 1, 1); c.fillRect(0, 0, 1, 1);
               const [r, g, b] = c.getImageData(0, 0, 1, 1).data; return (0.3 * r + 0.6 * g + 0.1 * b) / 255; };
             return ["path", "map", "euler"].map((kind) =>
               shade(getComputedStyle(document.querySelector(`.vos-way.vos-${kind}`)).stroke)); }"""
    )
    assert all(value < 0.5 for value in light) if scheme == "light" else all(value > 0.35 for value in light)


def test_a_screen_reader_is_told_what_the_eye_sees(page_of: PageOf) -> None:
    page = page_of(explorer(point=(0.25, 0.5), alt="A flow"))
    wait_for(page, clouds=2)
    tree = page.locator("main").aria_snapshot()
    for line in (
        'group "Flow explorer"',
        'application "A flow. The point is at 0.25, 0.50 at time 1.00; arrow keys move it.',
        'slider "t, where the jump begins"',
        'slider "s, where the jump ends"',
        'slider "Steps"',
        f'img "Flow map, 2 steps: {SAMPLES} samples, ',
        "status: The learned jump lands",
    ):
        assert line in tree, tree
    focusable = page.locator(".vos input, .vos [tabindex]")
    kept = [focusable.nth(i).get_attribute("data-lm-suppress-shortcuts") for i in range(focusable.count())]
    assert kept == ["true"] * 4
    page.evaluate("window.hosted.close()")
    assert page.evaluate("window.hosted.model.listening()") == 0
    assert page.locator(".vos").count() == 0
