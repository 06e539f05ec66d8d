"""RecurrenceGrid on the Python side: who reads whom, what goes to the page and into a notebook, what is refused."""

from __future__ import annotations

import base64
import io
import itertools
import zlib
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from vos_tutorial.course.widgets import RecurrenceGrid, Rollout, ancestors
from vos_tutorial.course.widgets.recurrence_grid import _ramp, parents
from vos_tutorial.course.widgets.widget import POSTER_BYTES
from vos_tutorial.errors import TutorialError
from vos_tutorial.models import rvos

T, N, H, W = 5, 3, 40, 60
RULES = [
    {"space": space, "time": time, "mask": mask, "cut": cut}
    for space, time, mask, cut in itertools.product(
        (True, False, "first frame"), (True, False), (True, False, "from frame 2"), (None, 2)
    )
    if time or cut is None
]


# --- Who reads whom --------------------------------------------------------------------------------------


def test_ancestors_by_hand() -> None:
    assert ancestors(2, 1, 4, 3) == {
        "space": {(2, 0)},
        "time": {(1, 1)},
        "mask": set(),
        "indirect": {(1, 0), (0, 1), (0, 0)},
    }
    assert ancestors(2, 1, 4, 3, time=False)["indirect"] == set()
    assert ancestors(2, 1, 4, 3, space=False, mask=True) == {
        "space": set(),
        "time": {(1, 1)},
        "mask": {(1, 1)},  # one parent, two arrows
        "indirect": {(0, 1)},
    }
    assert ancestors(2, 1, 4, 3, space="first frame")["indirect"] == {(0, 1), (0, 0)}
    assert ancestors(1, 0, 4, 3, mask="from frame 2")["mask"] == set()
    assert ancestors(3, 0, 4, 3, cut=2)["indirect"] == set()
    assert not any(ancestors(0, 0, 4, 3, mask=True).values())


def influences(rule: dict[str, Any]) -> np.ndarray:
    """Which cells change which, ``bool [T, N, T, N]``, from the gradients of a roll-out with numbers for states.

    The recurrence as in RVOS's section 3, written forwards: h and c go down the objects of a frame, h alone goes to
    the next frame, and the output of the last frame is the mask.
    """
    x = torch.rand(T, N, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    zero = torch.zeros((), dtype=torch.float64)
    memory: list[torch.Tensor] = [zero] * N
    outputs: list[torch.Tensor] = [zero] * N
    result = np.zeros((T, N, T, N), bool)
    for t in range(T):
        h, c = zero, zero
        frame: list[torch.Tensor] = []
        for i in range(N):
            if not (rule["space"] is True or (rule["space"] == "first frame" and t == 0)):
                h, c = zero, zero
            temporal = memory[i] if rule["time"] and t != rule["cut"] else zero
            given = t == 0 or (t == 1 and rule["mask"] == "from frame 2")
            mask = outputs[i] if rule["mask"] and not given else zero
            c = 0.5 * c + torch.sin(x[t, i] + h + 0.7 * temporal + 0.3 * mask)
            h = torch.tanh(c)
            frame.append(h)
            (slopes,) = torch.autograd.grad(h, x, retain_graph=True)
            result[t, i] = slopes.numpy() != 0
        memory = frame
        outputs = [torch.sigmoid(h) for h in frame]
    return result


@pytest.mark.parametrize("rule", RULES, ids=str)
def test_ancestors_are_the_cells_with_a_gradient(rule: dict[str, Any]) -> None:
    measured = influences(rule)
    for t, i in itertools.product(range(T), range(N)):
        found = ancestors(t, i, T, N, **rule)
        expected = {(int(a), int(b)) for a, b in np.argwhere(measured[t, i])} - {(t, i)}
        assert set().union(*found.values()) == expected
        direct = {kind: cells for kind, cells in found.items() if kind != "indirect" and cells}
        assert direct == {kind: {cell} for kind, cell in parents(t, i, **rule).items()}
        assert not found["indirect"] & set().union(*direct.values())


def test_a_cell_outside_of_the_grid_is_refused() -> None:
    for cell in ((4, 0), (0, 3), (-1, 0)):
        with pytest.raises(TutorialError, match=r"choose \(frame, object\) in 0\.\.3, 0\.\.2"):
            ancestors(*cell, 4, 3)


# --- The widget ------------------------------------------------------------------------------------------


def rollout(seed: int = 0, **arrows: Any) -> Rollout:
    """Made up: two levels, the finer one larger than what is sent; channel 2 of level 0 is strong but flat."""
    rng = np.random.default_rng(seed)
    coarse = 0.1 * rng.standard_normal((T, N, 6, 4, 6))
    coarse[:, :, 2] = 0.9
    coarse[:, :, 1] *= 0.1
    fine = rng.standard_normal((T, N, 3, 40, 60)).clip(-1, 1)
    return Rollout(rng.random((T, N, H, W)), [coarse, fine], **arrows)


def given() -> dict[str, Rollout]:
    return {
        "ST": rollout(0, mask=True),
        "S": rollout(1, time=False, mask=True),
        "T": rollout(2, space="first frame", mask="from frame 2"),
        "cut": rollout(3, mask=True, cut=2),
    }


def grid(**changes: Any) -> RecurrenceGrid:
    frames = np.linspace(0, 255, T * 3 * H * W).reshape(T, 3, H, W).astype(np.uint8)
    return RecurrenceGrid(**({"clip_frames": frames, "rollouts": given(), "start": (3, 1)} | changes))


def sent_steps(widget: RecurrenceGrid) -> np.ndarray:
    return np.frombuffer(zlib.decompress(widget._steps), np.uint8).reshape(len(widget._modes), *widget._shape)


def sent_hidden(widget: RecurrenceGrid, mode: int, level: int) -> np.ndarray:
    """The maps of one roll-out and level as the page finds them, in -1..1."""
    data = zlib.decompress(widget._hidden)
    start = 0
    for m in range(len(widget._modes)):
        for k, known in enumerate(widget._levels):
            shape = (*widget._shape[:2], len(known["channels"][m]), *known["shown"])
            if (m, k) == (mode, level):
                values = np.frombuffer(data, np.uint8, int(np.prod(shape)), start).reshape(shape)
                return (values.astype(float) - 128) / 124
            start += int(np.prod(shape))
    raise AssertionError("no such level")


def test_masks_arrive_exactly_and_probabilities_closely() -> None:
    steps = sent_steps(grid())
    for m, r in enumerate(given().values()):
        p = np.asarray(r.probabilities, np.float32)
        np.testing.assert_array_equal(steps[m] >= 8, p >= 0.5)
        assert np.abs((steps[m] + 0.5) / 16 - p).max() <= 0.5 / 16 + 1e-6


def test_hidden_states_of_the_most_varied_channels_arrive() -> None:
    widget = grid()
    coarse, fine = widget._levels
    assert (coarse["size"], coarse["shown"], fine["size"], fine["shown"]) == ([4, 6], [4, 6], [40, 60], [16, 24])
    assert all(channels == coarse["channels"][0] for channels in coarse["channels"])
    assert len(coarse["channels"][0]) == 4
    assert not {1, 2} & set(coarse["channels"][0])  # the weak one, and the strong one that shows nothing
    assert fine["channels"][0] == [0, 1, 2]
    for m, r in enumerate(given().values()):
        expected = np.asarray(r.hidden[0])[:, :, coarse["channels"][m]]
        back = sent_hidden(widget, m, 0) * coarse["scale"][m]
        assert np.abs(back - expected).max() <= coarse["scale"][m] / 62 + 1e-6
        first = np.asarray(r.hidden[1])[2, 1, 0]
        mean = torch.nn.functional.adaptive_avg_pool2d(torch.from_numpy(first)[None], (16, 24))[0].numpy()
        assert (
            np.abs(sent_hidden(widget, m, 1)[2, 1, 0] * fine["scale"][m] - mean).max() <= fine["scale"][m] / 62 + 1e-6
        )


def test_other_networks_show_their_own_channels() -> None:
    rollouts = given()
    quiet = [h.copy() for h in rollouts["S"].hidden]
    quiet[0][:, :, 0] = 0
    rollouts["S"] = rollouts["S"]._replace(hidden=quiet)
    levels = grid(rollouts=rollouts, one_network=False)._levels
    assert 0 in levels[0]["channels"][0]
    assert 0 not in levels[0]["channels"][1]
    assert len(set(levels[0]["scale"])) > 1


def test_zero_is_the_middle_of_the_scale_also_in_an_empty_level() -> None:
    silent = {"ST": rollout()._replace(hidden=[np.zeros((T, N, 2, 4, 6))])}
    widget = grid(rollouts=silent)
    assert (sent_hidden(widget, 0, 0) == 0).all()
    light = _ramp().astype(int).sum(axis=1)
    assert (np.diff(light) >= -1).all()  # dark to light: the sign reads without colour


def test_a_page_of_usual_size_stays_small() -> None:
    """T = 8, N = 3, three roll-outs at 96 px, RVOS's four levels, hidden states as unlike as noise."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:96, :96]
    inside = 14 - np.hypot(y - 40, x - 30)
    p = np.broadcast_to(1 / (1 + np.exp(-inside)), (8, 3, 96, 96)) * rng.uniform(0.5, 1, (8, 3, 1, 1))
    hidden = [np.tanh(rng.standard_normal((8, 3, c, s, s))) for c, s in ((128, 3), (64, 6), (32, 12), (16, 24))]
    frames = rng.integers(0, 255, (8, 3, 96, 96), dtype=np.uint8)
    widget = RecurrenceGrid(frames, {name: Rollout(p, hidden) for name in ("ST", "S", "T")})
    total = sum(len(value) for value in widget.get_state().values() if isinstance(value, bytes | memoryview))
    assert total < 400_000
    assert len(base64.b64encode(zlib.compress(widget._hidden))) < 300_000


def test_cell_and_mode_are_read_back_and_checked() -> None:
    widget = grid()
    assert (widget.cell, widget.mode) == ((3, 1), "ST")
    assert grid(start=None).cell == (2, 2)
    assert grid(mode="T").mode == "T"
    widget.set_state({"cell": [4, 2], "mode": "cut"})  # what the page sends
    assert (widget.cell, widget.mode) == ((4, 2), "cut")
    assert widget.ancestors() == ancestors(4, 2, T, N, mask=True, cut=2)
    with pytest.raises(TutorialError, match=r"choose \(frame, object\) in 0\.\.4, 0\.\.2"):
        widget.cell = (5, 0)
    with pytest.raises(TutorialError, match="no roll-out 'X'"):
        widget.mode = "X"
    assert (widget.cell, widget.mode) == ((4, 2), "cut")


def test_repr_poster_and_text_suit_a_strict_notebook_test() -> None:
    widget = grid(labels=["dog", "ball", "cat"])
    assert repr(widget) == "RecurrenceGrid(T=5, N=3, 40x60, modes=['ST', 'S', 'T', 'cut'])"
    data, metadata = widget._repr_mimebundle_()
    assert data.keys() == {"text/plain", "application/vnd.jupyter.widget-view+json", "image/png"}
    assert metadata["image/png"]["alt"]
    png = base64.b64decode(data["image/png"])
    assert len(png) < POSTER_BYTES
    assert Image.open(io.BytesIO(png)).width == 720
    widget.mode = "S"
    assert widget.poster() != png
    assert widget.describe() == (
        "The grid of 5 frames and 3 slots, roll-out S: ball in frame 3 reads space (h and c) from dog of frame 3, "
        "mask (own output) from ball of frame 2; 7 of the 14 other boxes can influence it."
    )
    assert "reads no other box; 0 of the 14" in widget.describe((0, 0), "ST")


def test_still_pictures_show_the_cell_that_is_asked_for() -> None:
    widget = grid()
    one = widget.static_grid()
    both = widget.static_grid((4, 2), ["ST", "S"])
    titles = [axes.get_title() for axes in both.axes]
    assert titles == ["ST: what can influence slot 2 in frame 4", "S: what can influence slot 2 in frame 4"]
    assert [axes.get_title() for axes in one.axes] == ["ST: what can influence slot 1 in frame 3"]
    words = [text.get_text() for text in widget.static_grid(modes=["cut"]).axes[0].texts]
    assert {"cut", "S", "T", "M", "slot 0", "frame"} <= set(words)
    details = widget.static_cell((4, 2), "T")
    assert [axes.get_title()[:8] for axes in details.axes] == ["slot 2, ", "probabil", "level 0:", "level 1:"]
    with pytest.raises(TutorialError, match="not in the grid"):
        widget.static_cell((9, 0))
    with pytest.raises(TutorialError, match="no roll-out"):
        widget.static_grid(modes=["X"])


@pytest.mark.parametrize("one_shot", [True, False])
@pytest.mark.parametrize("recurrence", ["ST", "S", "T", "T released"])
def test_a_rollout_of_a_network_is_the_library_s(one_shot: bool, recurrence: rvos.Recurrence) -> None:
    torch.manual_seed(0)
    network = rvos.build(one_shot=one_shot, hidden=8, width=8).eval()
    frames, masks = torch.rand(3, 3, 32, 48), torch.rand(2, 32, 48).round() if one_shot else None
    found = Rollout.of(network, frames, masks, recurrence=recurrence, cut=2)
    given = None if masks is None else masks[None]
    with torch.no_grad():
        wanted = rvos.rollout(network, frames[None], given, 2, recurrence, forget=(2,))[0]
    torch.testing.assert_close(found.probabilities, wanted)
    assert [list(h.shape) for h in found.hidden] == [[3, 2, 8 >> k, 2 << k, 3 << k] for k in range(4)]
    space = {"ST": True, "S": True, "T": False, "T released": "first frame"}[recurrence]
    assert found[2:] == (space, recurrence != "S", "from frame 2" if one_shot else False, 2)
    assert not torch.as_tensor(found.probabilities).requires_grad


def test_numpy_and_torch_give_the_same_page() -> None:
    tensors = {
        name: r._replace(probabilities=torch.tensor(r.probabilities), hidden=[torch.tensor(h) for h in r.hidden])
        for name, r in given().items()
    }
    assert (grid(rollouts=tensors)._steps, grid(rollouts=tensors)._hidden) == (grid()._steps, grid()._hidden)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rollouts": {}}, "rollouts is empty"),
        ({"clip_frames": np.zeros((4, 3, H, W), np.uint8)}, r"'ST' are \[5, 3, 40, 60\]; 4 frames"),
        ({"clip_frames": np.zeros((T, 3, H, H), np.uint8)}, r"ask for \[5, 3, 40, 40\]"),
        ({"rollouts": {"ST": rollout()._replace(probabilities=np.full((T, N, H, W), 1.5))}}, r"lie in \[0, 1\]"),
        ({"rollouts": {"ST": rollout()._replace(probabilities=np.full((T, N, H, W), np.nan))}}, r"lie in \[0, 1\]"),
        ({"rollouts": {"ST": rollout()._replace(hidden=[])}}, "needs hidden levels"),
        ({"rollouts": {"ST": rollout(), "S": rollout()._replace(hidden=rollout().hidden[:1])}}, "'S' needs hidden"),
        ({"rollouts": {"ST": rollout()._replace(hidden=[np.zeros((T, 2, 1, 4, 6))])}}, r"asks for \[5, 3, C, h, w\]"),
        ({"rollouts": {"ST": rollout()._replace(hidden=[np.full((T, N, 1, 4, 6), np.inf)])}}, "not finite"),
        ({"rollouts": {"ST": rollout(space="last frame")}}, "space='last frame'"),
        ({"rollouts": {"ST": rollout(mask="own")}}, "mask='own'"),
        ({"rollouts": {"ST": rollout(cut=5)}}, r"cut=5.*a frame 1\.\.4"),
        ({"rollouts": {"S": rollout(time=False, cut=2)}}, "cut=2"),
        ({"labels": ["a"]}, "1 labels for 3 slots"),
        ({"times": [0, 2]}, "2 times for 5 frames"),
        ({"start": (0, 3)}, "not in the grid"),
        ({"mode": "X"}, "no roll-out 'X'"),
    ],
)
def test_bad_input_is_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(TutorialError, match=message):
        grid(**changes)


def test_frames_that_were_left_out_are_counted() -> None:
    said = grid(times=[0, 2, 4, 6, 8]).describe()
    assert "in frame 6" in said
    assert "of frame 4" in said
    assert "in frame 3" not in said
