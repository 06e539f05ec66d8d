"""NetworkTour on the Python side: what it sends, prints and refuses."""

from __future__ import annotations

import base64
import io
import json
import zlib
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from vos_tutorial.clip import Clip
from vos_tutorial.course.figures import networks
from vos_tutorial.course.figures.tracing import NetworkDiagram, surface
from vos_tutorial.course.widgets import NetworkTour
from vos_tutorial.course.widgets.network_tour import CHANNELS
from vos_tutorial.course.widgets.widget import POSTER_BYTES
from vos_tutorial.data.worlds.sprites import benchmark
from vos_tutorial.errors import TutorialError
from vos_tutorial.models import stm


@pytest.fixture(scope="module")
def clip() -> Clip:
    return next(iter(benchmark(1, ["multiple_objects"])))


@pytest.fixture(scope="module")
def diagrams(clip: Clip) -> list[NetworkDiagram]:
    torch.manual_seed(0)
    return networks.follow_stm(stm.build(), clip.frames[:4], clip.masks[0])


def sent(tour: NetworkTour) -> list[dict[str, tuple[np.ndarray, np.ndarray]]]:
    """What the page unpacks: for each step, by part, picture and channels."""
    block = np.frombuffer(zlib.decompress(tour._pictures), np.uint8)
    at, steps = 0, []
    for _ in tour._names:
        steps.append({})
        for part in tour._parts:
            (h, w), (small_h, small_w) = part["picture"], part["small"]
            depth = 3 if part["kind"] == "picture" else 1
            picture = block[at : (at := at + h * w * depth)].reshape(h, w, depth)
            count = len(part["channels"])
            channels = block[at : (at := at + count * small_h * small_w)].reshape(count, small_h, small_w)
            steps[-1][part["key"]] = picture, channels
    assert at == len(block)
    return steps


def test_the_network_follows_its_own_answers(clip: Clip, diagrams: list[NetworkDiagram]) -> None:
    assert len(diagrams) == 3
    again = networks.stm(stm_of(diagrams), clip.frames[[0, 2, 3]], np.stack([clip.masks[0], diagrams[1].answer]))
    np.testing.assert_array_equal(again.answer, diagrams[2].answer)


def stm_of(diagrams: list[NetworkDiagram]) -> stm.STM:
    torch.manual_seed(0)
    return stm.build()


def test_pictures_and_channels_arrive(diagrams: list[NetworkDiagram]) -> None:
    tour = NetworkTour(diagrams)
    parts = {part["key"]: part for part in tour._parts}
    for step, diagram in zip(sent(tour), diagrams, strict=True):
        value = diagram.tensors["value"]
        picture, channels = step["value"]
        assert channels.shape == (CHANNELS, *value.shape[1:])
        for channel, values in zip(parts["value"]["channels"], channels, strict=True):
            one = value[channel].numpy()
            expected = 255 * (one - one.min()) / (one.max() - one.min())
            np.testing.assert_allclose(values, expected, atol=0.51)
        np.testing.assert_allclose(picture[..., 0], 255 * surface(value), atol=0.51)
        assert step["query_frame"][0].shape == (96, 96, 3)
        assert step["read"][0].size == 0
    assert not np.array_equal(sent(tour)[0]["query_frame"][0], sent(tour)[2]["query_frame"][0])


def test_the_liveliest_channels_come_first(diagrams: list[NetworkDiagram]) -> None:
    part = next(part for part in NetworkTour(diagrams)._parts if part["key"] == "q2")
    spread = diagrams[-1].tensors["q2"].flatten(1).var(1)
    assert part["channels"] == spread.argsort(descending=True)[:CHANNELS].tolist()


@pytest.mark.parametrize("form", [{}, {"light": False}, {"affinity": "dot", "shared_keys": False}])
def test_every_part_shows_the_lines_that_make_it(clip: Clip, form: dict) -> None:
    tour = NetworkTour([networks.stm(stm.build(**form), clip.frames[[0, 3]], clip.masks[0])])
    for part in tour._parts:
        if part["key"] in ("memory_frame", "memory_mask", "query_frame", "answer"):
            assert part["code"] is None
            continue
        code = part["code"]
        assert code["lines"][0].startswith("def "), part["key"]
        assert code["marked"], f"{part['key']}: no line of {code['title']} is marked"
        assert '"""' not in "\n".join(code["lines"])
    codes = {part["key"]: part["code"] for part in tour._parts}
    assert codes["read"]["title"].startswith("read (stm.py, line ")
    marked = [codes["joined"]["lines"][i] for i in codes["joined"]["marked"]]
    assert all("torch.cat([found" in line for line in marked)


def test_the_way_of_the_data_has_no_step_back(diagrams: list[NetworkDiagram]) -> None:
    order = NetworkTour(diagrams)._order
    assert sorted(order) == sorted(diagrams[0].parts)
    assert all(order.index(a.source) < order.index(a.target) for a in diagrams[0].arrows)
    assert order[-1] == "answer"


def test_a_memory_that_grows_is_drawn_as_large_as_it_is(diagrams: list[NetworkDiagram]) -> None:
    tour = NetworkTour(diagrams)
    assert tour._looks == [0, 1, 1]  # one frame in memory, then two
    drawings = json.loads(zlib.decompress(tour._drawings))
    assert "2 of 32" not in drawings["light"][0]
    assert "2 of 32" in drawings["light"][1]
    assert drawings["light"] != drawings["dark"]
    assert "<image" not in drawings["light"][0]  # the page paints them, frame by frame
    value = next(part for part in tour._parts if part["key"] == "value")
    assert value["lines"] == [["32×12×12"], ["2 of 32×12×12"], ["2 of 32×12×12"]]
    for left, top, right, bottom in [*value["boxes"], *value["faces"]]:
        assert 0 <= left < right <= 1
        assert 0 <= top < bottom <= 1


def test_repr_and_poster_suit_a_strict_notebook_test(diagrams: list[NetworkDiagram]) -> None:
    tour = NetworkTour(diagrams)
    assert repr(tour) == "NetworkTour(parts=21, frames=3)"
    data, metadata = tour._repr_mimebundle_()
    assert data.keys() == {"text/plain", "application/vnd.jupyter.widget-view+json", "image/png"}
    assert metadata["image/png"]["alt"].startswith("Diagram: STM")
    png = base64.b64decode(data["image/png"])
    assert len(png) < POSTER_BYTES
    assert Image.open(io.BytesIO(png)).width > 600
    before = tour.poster()
    tour.selected = "read"
    assert tour.poster() != before


def test_what_does_not_go_together_is_refused(clip: Clip, diagrams: list[NetworkDiagram]) -> None:
    other = networks.stm(stm.build(affinity="dot", shared_keys=False), clip.frames[[0, 3]], clip.masks[0])
    with pytest.raises(TutorialError, match="no diagram"):
        NetworkTour([])
    with pytest.raises(TutorialError, match="diagram 0 has other parts"):
        NetworkTour([other, diagrams[0]])
    with pytest.raises(TutorialError, match="2 names for 3 diagrams"):
        NetworkTour(diagrams, ["a", "b"])
    with pytest.raises(TutorialError, match="no part 'keys'; choose from memory_frame"):
        NetworkTour(diagrams, selected="keys")
    tour = NetworkTour(diagrams)
    with pytest.raises(TutorialError, match=r"no step 3; choose 0\.\.2"):
        tour.step = 3
    large = replace(diagrams[0], tensors={k: torch.zeros(64, 48, 48) for k in diagrams[0].tensors})
    with pytest.raises(TutorialError, match="too much for a page"):
        NetworkTour([large] * 60)
