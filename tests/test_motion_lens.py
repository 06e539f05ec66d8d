"""MotionLens on the Python side: what it asks of the networks, what goes to the page, what is refused."""

from __future__ import annotations

import base64
import io
import zlib
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from vos_tutorial.clip import VOID, Clip
from vos_tutorial.course.widgets import MotionLens
from vos_tutorial.course.widgets.motion_lens import SPACE, STATES, TIME, look, windows
from vos_tutorial.course.widgets.widget import POSTER_BYTES
from vos_tutorial.data.worlds.camouflage import CamouflageClips
from vos_tutorial.errors import TutorialError
from vos_tutorial.models import stcnn
from vos_tutorial.models.frame_prediction import PredictedFrame
from vos_tutorial.models.stcnn import STCNN, STCNNSegmenter

T, SIZE, DELTA, FREEZE = 11, 32, 4, 5


def network(seed: int = 0, **options: Any) -> STCNN:
    """A small network with random weights, whose masks cover about half of the frame."""
    torch.manual_seed(seed)
    made = stcnn.build(width=8, **options).eval()
    probe = CamouflageClips().clip(3, SIZE, DELTA + 1).frames.float()[None] / 255
    with torch.no_grad():
        window = probe[:, :-1] if made.generator is not None else None
        made.decoder.last[1].bias -= made(probe[:, -1], window, sides=False).logits.median()
    return made


@pytest.fixture(scope="module")
def joint() -> STCNN:
    return network(scaffold=True)


@pytest.fixture(scope="module")
def clip() -> Clip:
    return CamouflageClips().clip(1, SIZE, T)


@pytest.fixture(scope="module")
def lens(clip: Clip, joint: STCNN) -> MotionLens:
    """Shared, so nobody may change it."""
    return MotionLens(clip, joint, network(1, temporal=False))


def frames_of(clip: Clip) -> torch.Tensor:
    return clip.frames.float() / 255


# --- What the networks are asked -------------------------------------------------------------------------


def test_windows_by_hand() -> None:
    seen = windows(torch.arange(6), 3)
    assert seen.tolist() == [[0, 0, 0], [0, 0, 1], [0, 1, 2], [1, 2, 3], [2, 3, 4]]


def test_the_lens_sees_what_the_segmenter_sees_without_its_gate(clip: Clip, joint: STCNN) -> None:
    views = look(frames_of(clip), joint, joint)
    segmenter = STCNNSegmenter(joint, gate=None, start="past")
    with torch.no_grad():
        segmenter.begin(frames_of(clip)[0], (clip.first_mask != 0).to(torch.uint8))
        for s, frame in enumerate(frames_of(clip)[1:]):
            segmenter.step(frame)
            seen = segmenter.inspect()
            torch.testing.assert_close(windows(frames_of(clip), DELTA)[s], seen["window"])
            np.testing.assert_allclose(views.predicted[s], seen["predicted"], atol=1e-5)
            for name, key in ((TIME, "ungated"), (SPACE, "without_time")):
                assert (views.masks[name][s] != (seen[key][0].numpy() > 0.5)).mean() < 0.002
            assert views.scores is not None
            np.testing.assert_allclose(views.scores[s], list(seen["scores"].values()), atol=1e-5)


def test_motion_and_errors_compare_with_the_last_frame_of_the_window(clip: Clip, joint: STCNN) -> None:
    views = look(frames_of(clip), joint, None)
    h, w = views.predicted.shape[2:]
    small = torch.nn.functional.interpolate(frames_of(clip), (h, w), mode="bilinear", align_corners=True).numpy()
    for s in range(T - 1):
        np.testing.assert_allclose(views.motion[s], np.abs(views.predicted[s] - small[s]).mean(0), atol=1e-5)
        ours, copied = (4 * ((a - small[s + 1]) ** 2).mean() for a in (views.predicted[s], small[s]))
        np.testing.assert_allclose(views.errors[s], [ours, copied], rtol=1e-4)


def test_a_frozen_video_is_blind_after_delta_repeats(lens: MotionLens, clip: Clip, joint: STCNN) -> None:
    running, frozen = lens._views
    for name in (SPACE, TIME):
        np.testing.assert_array_equal(frozen.masks[name][:FREEZE], running.masks[name][:FREEZE])
        assert (frozen.masks[name][FREEZE + DELTA - 1 :] == frozen.masks[name][FREEZE + DELTA - 1]).all()
        still = running.masks[name][FREEZE - 1]
        assert (name == SPACE) == bool((frozen.masks[name][-1] == still).all())  # only time notices
    frame = frames_of(clip)[FREEZE][None]
    with torch.no_grad():
        blind = joint(frame, frame[None].expand(-1, DELTA, -1, -1, -1), sides=False).logits[0, -1] > 0
    assert (frozen.masks[TIME][-1] != blind.numpy()).mean() < 0.002
    assert (running.errors[:, 1] > 1e-3).all()
    assert (frozen.errors[FREEZE:, 1] == 0).all()  # nothing moves: a copy is perfect


def test_without_a_second_network_the_features_are_zeros(clip: Clip, joint: STCNN) -> None:
    widget = MotionLens(clip, joint)
    frame = frames_of(clip)[7][None]
    with torch.no_grad():
        prediction = joint(frame, frames_of(clip)[None, 3:7]).prediction
        d1, d2, d3 = (torch.zeros_like(d) for d in prediction.features)
        zeros = PredictedFrame(prediction.frame, (d1, d2, d3))
        expected = joint.segment(frame, zeros, sides=False)[0, -1] > 0
    assert (widget._views[0].masks[SPACE][6] != expected.numpy()).mean() < 0.002
    assert widget._names == ["time zeroed", "with time"]
    assert "time zeroed" in widget.describe()


def test_without_a_discriminator_there_are_no_scores(clip: Clip) -> None:
    assert MotionLens(clip, network())._numbers["scores"] is None


# --- Numbers ---------------------------------------------------------------------------------------------


def by_hand(truth: torch.Tensor, mask: np.ndarray) -> float:
    both, either = (truth.numpy() & mask).sum(), (truth.numpy() | mask).sum()
    return float(both / either)


def test_iou_is_that_of_the_frame_and_state_on_the_page(clip: Clip, joint: STCNN) -> None:
    widget = MotionLens(clip, joint, time=9)
    truth = clip.masks == 1
    for frozen, shown in ((False, 9), (True, FREEZE)):
        widget.frozen = frozen
        masks = widget._views[frozen].masks
        assert widget.iou() == pytest.approx({n: by_hand(truth[shown], masks[n][8]) for n in (SPACE, TIME)})
        assert widget.iou() == {name: values[9] for name, values in widget.curve().items()}
    assert widget.iou(2) == widget.iou(2, frozen=False)  # before the freeze
    assert np.isnan(widget.curve()[TIME][0])
    assert len(widget.curve()[TIME]) == T


def test_void_counts_for_nothing_and_all_objects_are_the_truth(clip: Clip, joint: STCNN) -> None:
    masks = clip.masks.clone()
    masks[:, :, :16] *= 3  # another object's id
    masks[:, :8] = VOID
    widget = MotionLens(Clip(clip.frames, masks), joint, time=8)
    expected = by_hand((clip.masks == 1)[8, 8:], widget._views[0].masks[TIME][7, 8:])
    assert widget.iou()[TIME] == pytest.approx(expected)


def test_motion_inside_and_outside_of_the_object(lens: MotionLens) -> None:
    motion = lens._views[0].motion[6]
    inside = lens._truths[7].reshape(16, 2, 16, 2).mean((1, 3)) >= 0.5
    np.testing.assert_allclose(lens._numbers["motion"][0][6], [motion[inside].mean(), motion[~inside].mean()])


def test_a_frame_without_an_object_has_no_inside(clip: Clip, joint: STCNN) -> None:
    masks = clip.masks.clone()
    masks[3] = 0
    numbers = MotionLens(Clip(clip.frames, masks), joint)._numbers
    assert numbers["motion"][0][2][0] is None
    assert numbers["iou"][0][1][2] == 0


# --- What goes to the page -------------------------------------------------------------------------------


def sent(data: bytes, *shape: int) -> np.ndarray:
    return np.frombuffer(zlib.decompress(data), np.uint8).reshape(shape)


def test_masks_and_motion_arrive(lens: MotionLens, clip: Clip) -> None:
    masks = sent(lens._masks, 2, 2, T - 1, SIZE, SIZE)
    heat = sent(lens._motion, 2, T - 1, 16, 16)
    np.testing.assert_array_equal(sent(lens._truth, T, SIZE, SIZE), clip.masks)
    for s, views in enumerate(lens._views):
        for k, name in enumerate((SPACE, TIME)):
            np.testing.assert_array_equal(masks[s, k] == 1, views.masks[name])
        expected = (views.motion / lens._scale).clip(0, 1)
        assert np.abs(heat[s] / 255 - expected).max() <= 0.5 / 255 + 1e-6
    assert (heat.max(), lens._shape["small"]) == (255, [16, 16])
    assert len(lens._predicted_offsets) == 2 * (T - 1) + 1


def test_large_clips_are_made_smaller_for_the_page(joint: STCNN) -> None:
    widget = MotionLens(CamouflageClips().clip(0, 64, 9), joint, max_side=24)
    assert (widget._shape["size"], widget._shape["small"]) == ([24, 24], [24, 24])
    assert sent(widget._motion, 2, 8, 24, 24).any()


def test_a_page_of_usual_size_stays_small(joint: STCNN) -> None:
    widget = MotionLens(CamouflageClips().clip(0, 64, 20), joint)
    total = sum(len(value) for value in widget.get_state().values() if isinstance(value, bytes | memoryview))
    assert total < 250_000


def test_time_and_frozen_are_read_back_and_checked(clip: Clip, joint: STCNN) -> None:
    widget = MotionLens(clip, joint)
    assert (widget.time, widget.frozen, widget.truth) == (FREEZE + DELTA, False, True)
    widget.set_state({"time": 3, "frozen": True})  # what the page sends
    assert (widget.time, widget.frozen) == (3, True)
    for wrong in (0, T):
        with pytest.raises(TutorialError, match=rf"time is {wrong}; choose a frame in 1\.\.10"):
            widget.time = wrong
    assert widget.time == 3
    with pytest.raises(TutorialError, match="time is 11"):
        widget.iou(11)


# --- Into a notebook -------------------------------------------------------------------------------------


def test_repr_poster_and_text_suit_a_strict_notebook_test(clip: Clip, joint: STCNN) -> None:
    widget = MotionLens(clip, joint)
    assert repr(widget) == "MotionLens('CamouflageClips 1', T=11, 32x32, freeze_at=5)"
    data, metadata = widget._repr_mimebundle_()
    assert data.keys() == {"text/plain", "application/vnd.jupyter.widget-view+json", "image/png"}
    assert metadata["image/png"]["alt"]
    png = base64.b64decode(data["image/png"])
    assert len(png) < POSTER_BYTES
    assert Image.open(io.BytesIO(png)).width == 720
    widget.frozen = True
    assert widget.poster() != png
    text = widget.describe()
    assert text.startswith("At time 9, while the video runs: frame 9, the predicted frame")
    assert "while the video stands still since frame 5: frame 5," in text
    assert "stands still" not in widget.describe(3, ["running"])


def test_the_still_picture_shows_both_videos(lens: MotionLens) -> None:
    titles = [axes.get_title() for axes in lens.picture(8).axes]
    iou = lens.iou(8, frozen=True)
    assert titles[:3] == ["frame 8", "predicted frame", "|predicted − last|"]
    assert titles[5] == "frame 5, repeated"
    assert titles[8:10] == [f"space only: IoU {iou[SPACE]:.2f}", f"with time: IoU {iou[TIME]:.2f}"]
    assert len(titles) == 2 * 5 + 1
    largest = max(np.quantile(views.motion, 0.998) for views in lens._views)
    for heat in (lens.picture(8).axes[2], lens.picture(8).axes[7]):  # both maps say what their brightest colour is
        assert [text.get_text() for text in heat.texts] == ["0", f"{largest:.2f}"]
    chart = lens.picture(8, ["frozen"]).axes[-1]
    np.testing.assert_allclose(np.asarray(chart.lines[1].get_ydata()), lens.curve(frozen=True)[TIME])
    assert [text.get_text() for text in chart.texts] == ["frozen: frame 5 again and again"]
    assert len(lens.picture(8, ["running"]).axes[-1].texts) == 0


# --- What is refused -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"network": "alone"}, r"no generator.*temporal=True.*space_only"),
        ({"clip": 8}, r"'CamouflageClips 0' has 8 frame\(s\); the lens needs at least 9"),
        ({"freeze_at": 3}, r"freeze_at is 3; choose a frame in 4\.\.6"),
        ({"freeze_at": 7}, r"freeze_at is 7; choose a frame in 4\.\.6"),
        ({"time": 0}, r"time is 0; choose a frame in 1\.\.10"),
    ],
)
def test_bad_input_is_named(changes: dict[str, Any], message: str, clip: Clip, joint: STCNN) -> None:
    given: dict[str, Any] = {"clip": clip, "network": joint} | changes
    if "network" in changes:
        given["network"] = network(temporal=False)
    if "clip" in changes:
        given["clip"] = CamouflageClips().clip(0, SIZE, changes["clip"])
    with pytest.raises(TutorialError, match=message):
        MotionLens(**given)


@pytest.mark.parametrize("modes", [[], ["moving"], "frozen"])
def test_unknown_modes_are_named(lens: MotionLens, modes: Any) -> None:
    with pytest.raises(TutorialError, match="give a list of 'running' and 'frozen'"):
        lens.picture(modes=modes)


def test_the_names_of_the_states_are_in_order() -> None:
    assert STATES == ("running", "frozen")  # False and True are their places
