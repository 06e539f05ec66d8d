"""GuideBench on the Python side: what its sliders do to a guide, what it computes, sends and refuses."""

from __future__ import annotations

import io
import zlib
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from vos_tutorial.course.widgets import GuideBench
from vos_tutorial.course.widgets.guide_bench import LEVELS, bent, damaged, good_bend
from vos_tutorial.course.widgets.widget import POSTER_BYTES
from vos_tutorial.errors import TutorialError
from vos_tutorial.geometry import dilate, iou

H, W = 32, 40
TRUTH = torch.zeros(H, W, dtype=torch.bool)
TRUTH[8:20, 10:30] = True


def copies(image: Tensor, guide: Tensor) -> Tensor:
    """Answers with its guide."""
    return torch.stack([~guide, guide], 1).float()


def knows(image: Tensor, guide: Tensor) -> Tensor:
    """Answers with the truth, whatever the guide."""
    return copies(image, TRUTH.expand(len(guide), -1, -1))


def bench(**changes: Any) -> GuideBench:
    given: dict[str, Any] = {
        "picture": torch.full((3, H, W), 80, dtype=torch.uint8),
        "mask": TRUTH,
        "networks": {"copies": (copies, 0), "knows": (knows, 1)},
    }
    return GuideBench(**(given | changes))


@pytest.fixture(scope="module")
def widget() -> GuideBench:
    return bench(shift=20, hide=50)


def test_what_the_sliders_do() -> None:
    assert torch.equal(damaged(TRUTH, 0, 0, 0), TRUTH)
    assert torch.equal(damaged(TRUTH, 20, 0, 0), TRUTH.roll(4, 1))  # a fifth of 20 pixels, to the right
    assert torch.equal(damaged(TRUTH, -10, 0, 0), TRUTH.roll(-2, 1))
    half = TRUTH.clone()
    half[:, 20:] = False
    assert torch.equal(damaged(TRUTH, 0, 0, 50), half)
    assert torch.equal(damaged(TRUTH, 20, 0, 50), half.roll(4, 1))
    assert float(iou(damaged(TRUTH, 0, 30, 0, seed=0), TRUTH)) == 0  # its five points lie nearly on a line
    bends = [float(iou(damaged(TRUTH, 0, bend, 0, good_bend(TRUTH)), TRUTH)) for bend in LEVELS["bend"]]
    seeds = range(6)  # nothing is hidden, so nothing is cut off, wherever the bend goes
    assert all(torch.equal(damaged(TRUTH, 0, 30, 0, seed), bent(TRUTH, 30, seed)) for seed in seeds)
    assert bends[0] == 1 > bends[1] > bends[-1] >= 0.5


def test_it_computes_every_combination(widget: GuideBench) -> None:
    count = int(np.prod([len(values) for values in LEVELS.values()]))
    guides = np.frombuffer(zlib.decompress(widget._guides), np.uint8).reshape(count, H, W)
    answers = np.frombuffer(zlib.decompress(widget._answers), np.uint8).reshape(2, count, H, W)
    np.testing.assert_array_equal(answers[0], guides)
    assert (answers[1] == TRUTH.numpy()).all()
    assert widget._into == widget._out[0]
    assert widget._out[1] == [1.0] * count
    at = np.ravel_multi_index(
        [LEVELS[name].index(getattr(widget, name)) for name in LEVELS], [len(v) for v in LEVELS.values()]
    )  # the order that the page counts in
    np.testing.assert_array_equal(guides[at], damaged(TRUTH, 20, 0, 50).numpy())
    assert torch.equal(widget.guide(), damaged(TRUTH, 20, 0, 50))


def test_a_guide_grows_before_the_network_sees_it() -> None:
    grown = bench(networks={"copies": (copies, 1)})
    assert torch.equal(grown.answer(), dilate(TRUTH, 1))
    assert torch.equal(grown.guide(), TRUTH)


def test_what_is_read_back(widget: GuideBench) -> None:
    into, out = widget.point()
    assert into == out == pytest.approx(float(iou(damaged(TRUTH, 20, 0, 50), TRUTH)))
    widget.network = "knows"
    assert widget.point() == (into, 1.0)
    assert torch.equal(widget.answer(), TRUTH)
    assert repr(widget) == "GuideBench(32x40, networks=['copies', 'knows'], settings=176)"
    poster = widget.poster()
    assert len(poster) < POSTER_BYTES
    assert Image.open(io.BytesIO(poster)).width == 720
    widget.network = "copies"


def test_what_is_refused(widget: GuideBench) -> None:
    with pytest.raises(TutorialError, match=r"shift is 5; choose from -60, -40"):
        widget.shift = 5
    with pytest.raises(TutorialError, match="no network 'x'; choose from copies, knows"):
        widget.network = "x"
    with pytest.raises(TutorialError, match="networks is empty"):
        bench(networks={})
    for mask in (TRUTH[:5], TRUTH.float(), torch.zeros_like(TRUTH)):
        with pytest.raises(TutorialError, match=r"pass torch\.bool \[32, 40\]"):
            bench(mask=mask)
