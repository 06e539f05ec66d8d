"""AttentionInspector and GuidanceSwitch on the Python side: what they compute, send, print and refuse."""

from __future__ import annotations

import base64
import io
import zlib
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from vos_tutorial.course.widgets import AttentionInspector, GuidanceSwitch
from vos_tutorial.course.widgets.widget import POSTER_BYTES
from vos_tutorial.errors import TutorialError
from vos_tutorial.metrics import region_similarity
from vos_tutorial.models import stm

C, M, GH, GW, H, W = 5, 3, 4, 6, 32, 48
T = 4


def inspector(**changes: Any) -> AttentionInspector:
    """Random keys over plain frames; the same at every call."""
    rng = torch.Generator().manual_seed(3)
    given: dict[str, Any] = {
        "query": torch.full((3, H, W), 90, dtype=torch.uint8),
        "memory": torch.arange(M, dtype=torch.uint8).reshape(M, 1, 1, 1).expand(M, 3, H, W) * 40 + 60,
        "query_key": torch.randn(C, GH, GW, generator=rng),
        "memory_key": torch.randn(C, M, GH, GW, generator=rng),
    }
    return AttentionInspector(**(given | changes))


def keys() -> tuple[torch.Tensor, torch.Tensor]:
    rng = torch.Generator().manual_seed(3)
    q, k = torch.randn(C, GH, GW, generator=rng), torch.randn(C, M, GH, GW, generator=rng)
    return q.reshape(C, -1).double(), k.reshape(C, -1).double()


def by_hand(index: int, affinity: str = "dot", temperature: float = 1.0) -> torch.Tensor:
    """The paper's softmax over all memory cells, ``[M*h*w]``."""
    q, k = keys()
    scores = q[:, index] @ k if affinity == "dot" else -(torch.cdist(q[:, index][None], k.T)[0] ** 2)
    return (scores / C**0.5 / temperature).softmax(0)


@pytest.mark.parametrize("affinity", ["dot", "l2"])
@pytest.mark.parametrize("temperature", [0.3, 1.0, 4.0])
def test_attention_is_the_softmax_of_the_paper(affinity: str, temperature: float) -> None:
    widget = inspector(affinity=affinity)
    widget.temperature = temperature
    widget.cell = (2, 5)
    expected = by_hand(2 * GW + 5, affinity, temperature)
    assert widget.attention().dtype == np.float32
    np.testing.assert_allclose(widget.attention().ravel(), expected, atol=1e-6)


@pytest.mark.parametrize("affinity", ["dot", "l2"])
def test_attention_is_that_of_the_library(affinity: str) -> None:
    q, k = (part.float() for part in keys())
    kept = k.reshape(1, C, M, GH, GW)[:, :, [0, 2]]
    expected = stm.attention(q.reshape(1, C, GH, GW), kept, float(affinity == "l2"), temperature=0.7, top_k=9)
    widget = inspector(affinity=affinity)
    widget.removed, widget.temperature, widget.topk = [1], 0.7, 9
    for cell in ((0, 0), (1, 4), (3, 5)):
        widget.cell = cell
        np.testing.assert_allclose(widget.attention()[[0, 2]].ravel(), expected[0, :, widget.query_index], atol=1e-5)


def test_removed_frames_get_nothing_and_the_rest_is_a_softmax_of_its_own() -> None:
    widget = inspector()
    widget.removed = [1]
    shown = widget.attention()
    expected = by_hand(widget.query_index).reshape(M, GH, GW)
    expected[1] = 0
    np.testing.assert_allclose(shown, expected / expected.sum(), atol=1e-6)
    assert widget.kept == [0, 2]


def test_topk_keeps_the_largest_and_tells_their_mass() -> None:
    widget = inspector()
    widget.topk = 4
    weights, mass = widget._weights()
    expected = by_hand(widget.query_index)
    top = expected.topk(4)
    assert mass == pytest.approx(float(top.values.sum()))
    assert np.flatnonzero(weights.ravel()).tolist() == sorted(top.indices.tolist())
    assert weights.sum() == pytest.approx(1)
    widget.topk = M * GH * GW + 7  # more than there are: all
    np.testing.assert_allclose(widget.attention().ravel(), expected, atol=1e-6)


def test_of_equal_cells_the_first_stay() -> None:
    _, k = keys()
    same = k.reshape(C, M, GH, GW)[:, :1].expand(C, M, GH, GW)  # three times the same frame
    widget = inspector(memory_key=same)
    widget.topk = 2  # the best cell is there three times
    np.testing.assert_array_equal(widget.attention().sum(axis=(1, 2)), [0.5, 0.5, 0])


def test_a_finished_attention_gives_the_same_as_its_keys() -> None:
    q, k = keys()
    attention = (k.T @ q / C**0.5).softmax(0)  # [M*h*w, h*w], as in the paper
    given = inspector(query_key=None, memory_key=None, attention=attention, grid=(GH, GW))
    exact = inspector()
    for widget in (given, exact):
        widget.temperature, widget.removed, widget.topk = 2.0, [0], 9
        widget.cell = (1, 3)
    np.testing.assert_allclose(given.attention(), exact.attention(), atol=1e-5)


def test_pixel_and_cell_agree() -> None:
    widget = inspector()
    assert (widget.pixel, widget.cell) == ([16, 24], (2, 3))
    for row in range(GH):
        for column in range(GW):
            widget.cell = (row, column)
            assert widget.cell == (row, column)
            assert widget.query_index == row * GW + column
    widget.pixel = [31, 47]
    assert widget.cell == (GH - 1, GW - 1)


def test_large_keys_travel_as_half_and_attention_uses_what_was_sent() -> None:
    big = torch.randn(64, 1, 100, 90, generator=torch.Generator().manual_seed(0))
    plain = torch.zeros(1, 3, H, W, dtype=torch.uint8)
    widget = AttentionInspector(plain[0], plain, query_key=big[:, 0], memory_key=big)
    assert widget._keys["dtype"] == "float16"
    sent = np.frombuffer(widget._memory_key, np.float16).reshape(64, -1).astype(np.float64)
    index = widget.query_index
    scores = np.frombuffer(widget._query_key, np.float16).reshape(64, -1)[:, index].astype(np.float64) @ sent / 8
    expected = np.exp(scores - scores.max())
    np.testing.assert_allclose(widget.attention().ravel(), expected / expected.sum(), atol=1e-7)


def test_decode_sees_the_settings_and_failures_are_one_sentence() -> None:
    calls: list[tuple[list[int], float, int | None]] = []

    def decode(keep: list[int], temperature: float, topk: int | None) -> torch.Tensor:
        assert not torch.is_grad_enabled()
        calls.append((keep, temperature, topk))
        if keep == [2]:
            raise ValueError("frame 2 alone\nand a second line")
        ids = torch.zeros(H, W, dtype=torch.uint8)
        ids[: 8 * len(keep)] = 1
        return ids

    widget = inspector(decode=decode)
    assert calls == [([0, 1, 2], 1.0, None)]
    assert widget._answer["state"] == "done"
    widget.removed, widget.temperature, widget.topk = [1], 2.0, 3
    assert len(calls) == 1  # nothing is decoded unasked
    widget._request = {"number": 1}  # what the page's button does
    assert calls[-1] == ([0, 2], 2.0, 3)
    assert widget._answer["number"] == 1
    assert widget._answer["agreement"] == pytest.approx(16 / 24)
    sent = np.frombuffer(zlib.decompress(widget._decoded), np.uint8).reshape(H, W)
    assert sent[:16].all()
    assert not sent[16:].any()
    widget.removed = [0, 1]
    widget._request = {"number": 2}
    assert widget._answer == {"number": 2, "state": "failed", "text": "ValueError: frame 2 alone"}
    with pytest.raises(ValueError, match="alone"):
        widget.decode_again()
    with pytest.raises(TutorialError, match=r"decode returned \[2, 2\]"):
        inspector(decode=lambda *_: np.zeros((2, 2), np.uint8))
    with pytest.raises(TutorialError, match="without decode"):
        inspector().decode_again()


def test_repr_and_poster_suit_a_strict_notebook_test() -> None:
    widget = inspector(masks=np.ones((M, H, W), np.uint8), labels=["a", "b", "c"])
    assert repr(widget) == "AttentionInspector(memory=3, 32x48, grid=4x6, dot)"
    data, metadata = widget._repr_mimebundle_()
    assert data.keys() == {"text/plain", "application/vnd.jupyter.widget-view+json", "image/png"}
    assert metadata["image/png"]["alt"]
    png = base64.b64decode(data["image/png"])
    assert len(png) < POSTER_BYTES
    assert Image.open(io.BytesIO(png)).width <= 720
    before = widget.poster()
    widget.cell = (0, 0)
    assert widget.poster() != before


def test_numpy_and_torch_give_the_same_page() -> None:
    q, k = keys()
    arrays = inspector(
        query=np.full((H, W, 3), 90, np.uint8),
        query_key=q.reshape(C, GH, GW).numpy(),
        memory_key=k.reshape(C, M, GH, GW).numpy(),
    )
    assert (arrays._query, arrays._memory_key) == (inspector()._query, inspector()._memory_key)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"memory_key": None}, "give query_key and memory_key"),
        ({"memory_key": torch.zeros(C, M + 1, GH, GW)}, r"memory_key \[5, 4, 4, 6\]"),
        ({"query_key": torch.full((C, GH, GW), float("nan"))}, "not finite"),
        ({"affinity": "cosine"}, "choose one of dot, l2"),
        ({"grid": (3, 3)}, "leave grid out"),
        ({"masks": np.zeros((M, 5, 5), np.uint8)}, r"masks are \[3, 5, 5\]"),
        ({"labels": ["a"]}, "1 labels for 3"),
        ({"memory": torch.zeros(3, H, W)}, "memory must be"),
        ({"pixel": (32, 0)}, r"pixel \[32, 0\]"),
        ({"attention": torch.zeros(1, 1)}, "not both"),
        ({"attention": torch.zeros(1, 1), "query_key": None, "memory_key": None}, "needs grid"),
        (
            {"attention": torch.full((72, 24), 1 / 24), "query_key": None, "memory_key": None, "grid": (GH, GW)},
            "softmax over the memory",
        ),
    ],
)
def test_bad_input_is_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(TutorialError, match=message):
        inspector(**changes)


def test_settings_that_cannot_be_are_refused() -> None:
    widget = inspector()
    with pytest.raises(TutorialError, match="at least one"):
        widget.removed = [0, 1, 2]
    with pytest.raises(TutorialError, match="at least one"):
        widget.removed = [3]
    with pytest.raises(TutorialError, match=r"rows 0\.\.3"):
        widget.cell = (4, 0)
    widget.removed = [2, 0, 2]
    assert widget.removed == [0, 2]


# --- GuidanceSwitch ---------------------------------------------------------------------------------------


def maps() -> dict[tuple[str, str], np.ndarray]:
    rng = np.random.default_rng(1)
    return {(a, b): rng.random((T, H, W)) for a in ("true mask", "blank") for b in ("own output", "blank", "shifted")}


def switch(**changes: Any) -> GuidanceSwitch:
    truth = np.zeros((T, H, W), np.uint8)
    truth[:, 8:20, 10:30] = 3
    truth[:, :2] = 255
    given: dict[str, Any] = {"frames": np.full((T, 3, H, W), 80, np.uint8), "maps": maps(), "truth": truth}
    return GuidanceSwitch(**(given | changes))


def test_the_switch_sends_probabilities_and_scores() -> None:
    widget = switch()
    sent = np.frombuffer(zlib.decompress(widget._maps), np.uint8).reshape(6, T, H, W)
    for k, probabilities in enumerate(maps().values()):
        assert np.abs(sent[k] / 255 - probabilities).max() <= 0.5 / 255 + 1e-9
        assert ((sent[k] >= 128) == (probabilities >= 0.5)).mean() > 0.995
    truth = np.zeros((T, H, W), bool)
    truth[:, 8:20, 10:30] = True
    void = np.zeros_like(truth)
    void[:, :2] = True
    expected = 100 * region_similarity(truth, maps()["blank", "own output"] >= 0.5, void)
    np.testing.assert_allclose(widget._scores[3], expected, atol=0.006)
    assert switch(truth=None)._scores == []
    assert switch(maps={s: torch.from_numpy(p) for s, p in maps().items()})._maps != b""


def test_the_switch_prints_and_refuses() -> None:
    widget = switch()
    assert repr(widget) == "GuidanceSwitch(T=4, 32x48, settings=6)"
    assert widget.choice == ["true mask", "own output"]
    smooth = {setting: np.full((T, H, W), k / 6) for k, setting in enumerate(maps())}
    poster = switch(maps=smooth).poster()
    assert len(poster) < POSTER_BYTES
    row = np.asarray(Image.open(io.BytesIO(poster)).convert("L"))[-8].astype(int)  # through the scale below the maps
    ramps = [part for k in range(len(row) - 80) if (np.diff(part := row[k : k + 80]) >= 0).all()]
    assert any(part[0] < 60 and part[-1] > 220 for part in ramps)
    widget.choice = ["blank", "shifted"]
    with pytest.raises(TutorialError, match="does not exist"):
        widget.choice = ["blank", "true mask"]
    with pytest.raises(TutorialError, match=r"choose 0\.\.3"):
        widget.frame = T
    short = maps()
    del short["blank", "shifted"]
    with pytest.raises(TutorialError, match=r"has no \('blank', 'shifted'\)"):
        switch(maps=short)
    with pytest.raises(TutorialError, match="probabilities"):
        switch(maps={s: p * 2 for s, p in maps().items()})
    with pytest.raises(TutorialError, match="maps is empty"):
        switch(maps={})
    with pytest.raises(TutorialError, match=r"is \[4, 5, 5\]"):
        switch(maps={("a", "b"): np.zeros((4, 5, 5))})
