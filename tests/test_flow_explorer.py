"""FlowExplorer on the Python side: what goes to the page, what a notebook stores, what is refused."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from vos_tutorial.course.widgets import FlowExplorer
from vos_tutorial.course.widgets.flow_explorer import heun, squares
from vos_tutorial.course.widgets.widget import POSTER_BYTES
from vos_tutorial.data.worlds.plane import on_board
from vos_tutorial.errors import TutorialError
from vos_tutorial.models import flow_map
from vos_tutorial.models.plane import PlaneFlowMap, PlaneVelocity
from vos_tutorial.samples import sliced_wasserstein


@pytest.fixture
def networks() -> tuple[PlaneVelocity, PlaneFlowMap]:
    """A teacher, and a student whose answer depends on s."""
    torch.manual_seed(0)
    teacher = PlaneVelocity(width=16)
    student = PlaneFlowMap(teacher)
    torch.nn.init.normal_(student.end.weight, std=0.3)
    return teacher, student


def pictures(count: int = 3, size: int = 8) -> Tensor:
    return torch.arange(count * 3 * size * size, dtype=torch.float32).reshape(count, 3, size, size) / (
        count * 3 * size * size
    )


def test_the_weights_arrive_in_the_order_of_the_layers(networks: tuple[PlaneVelocity, PlaneFlowMap]) -> None:
    teacher, student = networks
    explorer = FlowExplorer(teacher, student, samples=50)
    sent = np.frombuffer(explorer._weights, "<f4")
    of_teacher = sum(p.numel() for p in teacher.parameters())
    of_student = sum(p.numel() for p in student.parameters())
    assert len(sent) == of_teacher + 2 * of_student
    assert not explorer._half
    np.testing.assert_array_equal(sent[:32], teacher.point.weight.detach().flatten().numpy())
    at = of_teacher + 32 + 16 + 16 * 8 + 16
    np.testing.assert_array_equal(sent[at : at + 128], student.end.weight.detach().flatten().numpy())
    assert [about["hasEnd"] for about in explorer._networks] == [False, True, True]
    assert explorer._networks[0]["body"] == [16, 16, 2]
    assert explorer._has_consistency is False


def test_weights_of_half_precision_are_sent_as_such(networks: tuple[PlaneVelocity, PlaneFlowMap]) -> None:
    for network in networks:
        for parameter in network.parameters():
            parameter.data = parameter.data.half().float()
    explorer = FlowExplorer(*networks, samples=50)
    assert explorer._half
    assert len(explorer._weights) * 2 == len(
        FlowExplorer(PlaneVelocity(16), PlaneFlowMap(PlaneVelocity(16)))._weights
    )


def test_the_clouds_are_noise_and_what_the_teacher_makes_of_it(networks: tuple[PlaneVelocity, PlaneFlowMap]) -> None:
    explorer = FlowExplorer(*networks, samples=60, seed=3)
    noise, reference = torch.from_numpy(np.frombuffer(explorer._clouds, "<f4").reshape(2, 60, 2).copy())
    torch.testing.assert_close(reference, heun(networks[0], noise))
    euler = flow_map.sample(lambda x, t, s: networks[0](x, t), noise, flow_map.even_times(512))
    torch.testing.assert_close(reference, euler, atol=5e-3, rtol=5e-3)
    assert explorer._floor > 0.01
    made = explorer.samples(4)
    torch.testing.assert_close(made["flow map"], flow_map.sample(networks[1], noise, flow_map.even_times(4)))
    one = explorer.samples(1)
    torch.testing.assert_close(one["consistency"], one["flow map"])  # one jump to 0 needs no fresh noise
    assert sliced_wasserstein(made["consistency"], made["flow map"]) > 1e-3


def test_the_board_is_where_the_data_are(networks: tuple[PlaneVelocity, PlaneFlowMap]) -> None:
    corners = torch.tensor(squares())
    assert len(corners) == 8
    assert on_board(corners + 0.5).all()
    assert len(FlowExplorer(*networks, samples=9)._squares) == 8
    assert FlowExplorer(*networks, samples=9, board=False)._squares == []


def test_pictures_arrive_as_strips_and_a_missing_place_is_empty(
    networks: tuple[PlaneVelocity, PlaneFlowMap],
) -> None:
    images = {"teacher": {1: pictures(), 8: 1 - pictures()}, "student": {1: pictures()}}
    explorer = FlowExplorer(*networks, images=images, samples=9)
    assert explorer._grid == {"samplers": ["teacher", "student"], "steps": [1, 8], "count": 3, "size": [8, 8]}
    offsets = explorer._offsets
    assert offsets[3] == offsets[4]  # the student has no 8 steps
    strip = np.asarray(Image.open(io.BytesIO(explorer._strips[offsets[1] : offsets[2]])))
    expected = (255 * (1 - pictures())).round().byte().permute(0, 2, 3, 1).numpy()
    assert np.abs(strip.reshape(8, 3, 8, 3).transpose(1, 0, 2, 3).astype(int) - expected).max() <= 1
    explorer.picture = 2
    with pytest.raises(TutorialError, match=r"no picture 3; choose 0\.\.2"):
        explorer.picture = 3


def test_the_still_and_the_name(networks: tuple[PlaneVelocity, PlaneFlowMap]) -> None:
    explorer = FlowExplorer(*networks, images={"student": {1: pictures()}}, samples=80)
    assert repr(explorer) == "FlowExplorer(samples=80, pictures=3)"
    assert repr(FlowExplorer(*networks, samples=80)) == "FlowExplorer(samples=80)"
    poster = explorer.poster()
    assert len(poster) <= POSTER_BYTES
    assert Image.open(io.BytesIO(poster)).size == (800, 230)
    explorer.steps = 16
    assert explorer.poster() != poster


def test_the_still_shows_the_tab_that_is_open(networks: tuple[PlaneVelocity, PlaneFlowMap]) -> None:
    flat = torch.zeros(5, 3, 8, 8)
    flat[3, 0], flat[4, 2] = 1, 1  # three black pictures, a red one, a blue one
    explorer = FlowExplorer(*networks, images={"teacher": {1: flat, 8: flat}, "student": {1: flat}}, samples=9)

    def far_from_grey(channel: int) -> int:
        """Pixels in which a colour stands out."""
        seen = np.asarray(Image.open(io.BytesIO(explorer.poster())).convert("RGB")).astype(int)
        return int((seen[..., channel] - seen[..., [c for c in range(3) if c != channel]].max(-1) > 200).sum())

    explorer.tab = "pictures"
    assert len(explorer.poster()) <= POSTER_BYTES
    assert far_from_grey(0) == far_from_grey(2) == 0, "the first three are black"
    explorer.picture = 3
    assert far_from_grey(0) > 1000, "the chosen one and those next to it: black, red, blue"
    assert far_from_grey(0) == pytest.approx(far_from_grey(2), rel=0.05)
    explorer.tab = "plane"
    assert Image.open(io.BytesIO(explorer.poster())).size == (800, 230)
    alone = FlowExplorer(*networks, samples=9)
    alone.tab = "pictures"
    assert Image.open(io.BytesIO(alone.poster())).size == (800, 230), "without pictures there is no second tab"


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"t": 0.2, "s": 0.5}, r"from t = 0\.2 to s = 0\.5; give 0 <= s <= t <= 1"),
        ({"t": 1.2}, r"t is 1\.2; give a time from 0 to 1"),
        ({"s": float("nan")}, "s is nan; give a time"),
        ({"steps": 17}, "steps is 17; use 1 to 16"),
        ({"samples": 1}, "cloud has 1 samples"),
        ({"point": (0.0,)}, "give two numbers"),
        ({"point": (0.0, float("inf"))}, "give two numbers"),
        ({"images": {"a": {1: pictures(2)}, "b": {1: pictures(3)}}}, "as many of one size everywhere"),
        ({"images": {}}, "as many of one size everywhere"),
    ],
)
def test_what_cannot_be_shown_is_refused(
    networks: tuple[PlaneVelocity, PlaneFlowMap], options: dict, complaint: str
) -> None:
    with pytest.raises(TutorialError, match=complaint):
        FlowExplorer(*networks, **{"samples": 9, **options})


def test_networks_that_the_page_cannot_run_are_refused(networks: tuple[PlaneVelocity, PlaneFlowMap]) -> None:
    with pytest.raises(TutorialError, match="has labels"):
        FlowExplorer(PlaneVelocity(classes=2), networks[1])
    with pytest.raises(TutorialError, match="Linear is no network of the plane"):
        FlowExplorer(torch.nn.Linear(2, 2), networks[1])  # type: ignore[arg-type]
