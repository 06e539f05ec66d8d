"""Answers upon frames, heat with its scale, and moving pictures that never get too large."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.lines import Line2D
from PIL import Image

from vos_tutorial.clip import Clip
from vos_tutorial.course import figures
from vos_tutorial.course.figures.answers import FILL
from vos_tutorial.errors import TutorialError


@pytest.fixture
def clip() -> Clip:
    """Ten frames of smooth colour with a square that goes right."""
    ramp = torch.linspace(0, 255, 60).expand(40, 60)
    frames = torch.stack([ramp, ramp.flip(1), torch.full((40, 60), 90.0)]).to(torch.uint8).repeat(10, 1, 1, 1)
    masks = torch.zeros(10, 40, 60, dtype=torch.uint8)
    for t in range(10):
        masks[t, 5:25, 2 + 3 * t : 22 + 3 * t] = 1
    return Clip(frames, masks, "right")


def noise(length: int = 12) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (length, 3, 60, 90), dtype=np.uint8)


# --- answers ---------------------------------------------------------------------------------------------


def test_an_answer_is_filled_lightly_and_outlined_and_the_truth_is_a_white_line() -> None:
    frame = np.full((40, 40, 3), 100, np.uint8)
    ids, truth = np.zeros((40, 40), np.uint8), np.zeros((40, 40), np.uint8)
    ids[5:20, 5:20] = 1
    truth[10:35, 10:35] = 1
    out = figures.answer(frame, ids, truth).astype(int)
    colour = figures.object_colours()[1].astype(int)
    assert FILL <= 0.35
    np.testing.assert_array_equal(out[7, 7], np.round(100 + FILL * (colour - 100)))
    np.testing.assert_array_equal(out[5, 8], colour)
    np.testing.assert_array_equal(out[34, 20], [255, 255, 255])
    np.testing.assert_array_equal(out[30, 30], [100, 100, 100])  # inside the truth nothing is painted
    np.testing.assert_array_equal(figures.answer(frame, None), frame)


def test_enlarged_answers_keep_their_place_and_get_smooth_edges() -> None:
    frame, ids = np.full((20, 30, 3), 100, np.uint8), np.zeros((20, 30), np.uint8)
    ids[5:15, 10:20] = 1
    out = figures.answer(frame, ids, width=120)
    assert out.shape == (80, 120, 3)
    painted = np.abs(out.astype(int) - 100).sum(axis=2) > 0
    rows, columns = np.flatnonzero(painted.any(axis=1)), np.flatnonzero(painted.any(axis=0))
    assert (rows[0], rows[-1], columns[0], columns[-1]) == (19, 60, 39, 80)  # 20..59 and 40..79, and a dark rim


def test_an_answer_of_another_size_is_refused() -> None:
    with pytest.raises(TutorialError, match="the truth is"):
        figures.answer(np.zeros((8, 8, 3), np.uint8), None, np.zeros((4, 4), np.uint8))


def test_a_sheet_has_a_row_for_each_method_and_says_what_the_lines_are(clip: Clip) -> None:
    figure = figures.answer_sheet(clip, {"late": clip.masks.roll(1, 0), "none": clip.masks * 0}, raw=True)
    labels = [a.get_ylabel() for a in figure.axes if a.get_ylabel()]
    assert labels == ["frame", "late", "none"]
    assert [a.get_title() for a in figure.axes[:5]] == [f"frame {t}" for t in (0, 2, 4, 7, 9)]
    assert [t.get_text() for t in figure.legends[0].get_texts()] == ["answer (filled)", "ground truth"]
    assert figures.answer_sheet(clip.frames, {"": None}).legends == []


def test_the_legend_of_a_sheet_has_the_colour_of_the_answers(clip: Clip) -> None:
    for object_id in (1, 2):
        figure = figures.answer_sheet(clip.frames, {"STM": (clip.masks == 1) * object_id}, clip.masks)
        line = figure.legends[0].get_lines()[0]
        np.testing.assert_allclose(line.get_color(), figures.object_colours()[object_id] / 255)


def test_the_legend_of_a_sheet_of_several_objects_has_all_their_colours(clip: Clip) -> None:
    both = clip.masks.clone()
    both[:, 15:] *= 2
    legend = figures.answer_sheet(clip.frames, {"STM": both}, clip.masks).legends[0]
    *answers, truth = [line for line in legend.findobj(Line2D) if line.get_xdata().size]
    colours = [figures.object_colours()[i] / 255 for i in (1, 2)]
    np.testing.assert_allclose([line.get_color() for line in answers], colours)
    assert truth.get_color() == "white"


def test_a_sheet_refuses_what_does_not_fit(clip: Clip) -> None:
    with pytest.raises(TutorialError, match="no answers"):
        figures.answer_sheet(clip, {})
    with pytest.raises(TutorialError, match="frame 10 is not"):
        figures.answer_sheet(clip, {"a": clip.masks}, times=[10])
    with pytest.raises(TutorialError, match="a has 3 masks for 10 frames"):
        figures.answer_sheet(clip, {"a": clip.masks[:3]})


# --- heat ------------------------------------------------------------------------------------------------


def test_heat_uses_the_whole_scale_and_prints_the_sums(clip: Clip) -> None:
    heat = np.zeros((3, 4, 6))
    heat[0, 1, 2], heat[1, 0, 0] = 0.06, 0.02
    figure = figures.heat_maps(clip.frames[:3], heat, ["a", "b", "c"], mark=[(1, 2)])
    titles = [a.get_title() for a in figure.axes if a.get_title()]
    assert titles == ["a: 75 %", "b: 25 %", "c: 0 %"]
    bar = figure.axes[-1]
    assert bar.get_ylabel() == "share of the attention, of one cell"
    assert [t.get_text() for t in bar.get_yticklabels()] == ["0", "0.0037", "0.015", "0.06"]
    brightest = np.asarray(figure.axes[0].images[0].get_array()).sum(axis=2).max()
    assert brightest == pytest.approx(255 * sum(figures.answers.HEAT(1.0)[:3]), abs=2)  # the end of the scale is used


def test_without_heat_the_frame_is_seen_in_muted_colour() -> None:
    picture = np.full((8, 8, 3), (200, 100, 60), np.uint8)
    seen = figures.heated(picture, np.zeros((2, 2)))
    np.testing.assert_array_equal(seen, figures.muted(picture))
    assert len(np.unique(seen[0, 0])) == 3  # still a colour
    assert seen.sum() < picture.sum()


def test_heat_that_cannot_be_is_refused(clip: Clip) -> None:
    with pytest.raises(TutorialError, match="2 titles"):
        figures.heat_maps(clip.frames[:1], np.zeros((1, 2, 2)), ["a", "b"])
    with pytest.raises(TutorialError, match="0 or more"):
        figures.heat_maps(clip.frames[:1], np.full((1, 2, 2), -1.0), ["a"])


# --- loops -----------------------------------------------------------------------------------------------


def test_a_loop_moves_and_has_a_panel_for_each_method(clip: Clip) -> None:
    loop = figures.loop(clip, {"late": clip.masks.roll(1, 0), "right": clip.masks}, width=120)
    moving = Image.open(io.BytesIO(loop.data))
    assert (moving.format, moving.n_frames, moving.size) == ("WEBP", 10, loop.size)
    assert loop.size == (2 * 120 + 6, 80 + 18)
    assert len(loop.data) <= figures.MAX_LOOP_BYTES
    first = np.asarray(moving.convert("RGB")).astype(int)
    moving.seek(9)
    assert np.abs(np.asarray(moving.convert("RGB")) - first).mean() > 1
    assert [a.get_ylabel() for a in loop.sheet.axes if a.get_ylabel()] == ["late", "right"]
    assert loop.sheet.legends  # the truth is there, because something is judged


def test_a_clip_alone_is_not_judged(clip: Clip) -> None:
    assert figures.loop(clip).data != figures.loop(clip, {"": clip.masks}).data  # this one has a white line


def test_a_bare_panel_shows_no_outline(clip: Clip) -> None:
    bare = {"the video": None, "right": clip.masks}
    judged, unjudged = (figures.loop(clip.frames, bare, truth) for truth in (clip.masks, None))
    panels = [np.asarray(Image.open(io.BytesIO(found.data)).convert("RGB"), np.int16) for found in (judged, unjudged)]
    change = np.abs(panels[0] - panels[1]).max(2) > 60  # [H, W]
    assert not change[:, : change.shape[1] // 2 - 8].any()
    assert change[:, change.shape[1] // 2 + 8 :].any()


@pytest.mark.parametrize("limit", [60_000, 12_000])
def test_a_loop_never_gets_too_large(limit: int) -> None:
    loop = figures.loop(noise(), np.zeros((12, 60, 90), np.uint8), max_bytes=limit, width=180)
    assert len(loop.data) <= limit
    assert loop.times[0] == 0
    with pytest.raises(TutorialError, match="fits into 900 bytes"):
        figures.loop(noise(4), np.zeros((4, 60, 90), np.uint8), max_bytes=900, width=100)


def test_frames_go_last_and_the_clip_keeps_its_length() -> None:
    loop = figures.loop(noise(), np.zeros((12, 60, 90), np.uint8), max_bytes=12_000, width=180)
    assert len(loop.times) < 12
    assert loop.times == list(range(0, 12, 12 // len(loop.times)))
    moving = Image.open(io.BytesIO(loop.data))
    durations = []
    for t in range(moving.n_frames):
        moving.seek(t)
        moving.load()
        durations.append(moving.info["duration"])
    assert sum(durations[:-1]) == pytest.approx(125 * 12 / len(loop.times) * (len(loop.times) - 1), abs=20)


def test_clips_move_side_by_side_under_their_names(clip: Clip) -> None:
    loop = figures.loops({"one": clip, "two": clip, "three": clip}, columns=2, width=100)
    moving = Image.open(io.BytesIO(loop.data))
    assert (moving.n_frames, moving.size) == (10, loop.size)
    assert loop.size == (2 * 100 + 6, 2 * (67 + 18))
    assert [a.get_title(loc="left") for a in loop.sheet.axes if a.get_title(loc="left")] == ["one", "two", "three"]
    assert sum(bool(a.images) for a in loop.sheet.axes) == 3 * 4
    assert [a.get_title(loc="right") for a in loop.sheet.axes[1:4]] == ["frame 3", "frame 6", "frame 9"]


def test_clips_of_different_lengths_do_not_move_together(clip: Clip) -> None:
    short = Clip(clip.frames[:4], clip.masks[:4], "short")
    for clips, found in (({"long": clip, "short": short}, "'long': 10, 'short': 4"), ({}, "none")):
        with pytest.raises(TutorialError, match=f"clips of one length, got .*{found}"):
            figures.loops(clips)


def test_a_loop_is_saved_as_what_it_is(clip: Clip, tmp_path: Path) -> None:
    loop = figures.loop(clip, width=100)
    assert loop.save(tmp_path / "a.webp").read_bytes() == loop.data
    with pytest.raises(TutorialError, match=r"must end in \.webp"):
        loop.save(tmp_path / "a.gif")
    with pytest.raises(TutorialError, match="late: 3 masks for 10 frames"):
        figures.loop(clip, {"late": clip.masks[:3]})


def test_the_stills_of_a_loop_can_be_chosen(clip: Clip) -> None:
    sheet = figures.loop(clip, stills=[0, 7]).sheet
    assert [axes.get_title() for axes in sheet.axes if axes.get_title()] == ["frame 0", "frame 7"]
    with pytest.raises(TutorialError, match="frame 10 is not in this clip"):
        figures.loop(clip, stills=[10])


def test_a_loop_is_shown_with_its_caption_and_its_sheet(clip: Clip, monkeypatch: pytest.MonkeyPatch) -> None:
    outputs: list[dict] = []
    monkeypatch.setattr("IPython.display.display", lambda data, raw, metadata: outputs.append(data))
    figures.show(figures.loop(clip, width=100), 'A "square" goes right.', caption="It goes right.")
    moving, sheet = outputs
    assert moving["text/html"].startswith("<details open><summary>")  # a moving picture can be put away
    assert 'alt="A &quot;square&quot; goes right."' in moving["text/html"]
    assert "<figcaption>It goes right.</figcaption>" in moving["text/html"]
    assert moving["text/plain"] == 'Moving figure: A "square" goes right.'
    assert sheet["text/plain"].startswith("Figure: Frames of the moving figure")
    with pytest.raises(TutorialError, match="alt text"):
        figures.show(figures.loop(clip, width=100))
