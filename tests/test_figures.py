"""Pictures: what they show, that colour is never alone, and that they come with a text and stay small."""

from __future__ import annotations

import io

import matplotlib.figure
import numpy as np
import pytest
import torch
from matplotlib.colors import to_rgb
from PIL import Image

from vos_tutorial.clip import VOID, Clip, davis_palette
from vos_tutorial.course import figures
from vos_tutorial.course.figures import charts
from vos_tutorial.errors import TutorialError


@pytest.fixture
def clip() -> Clip:
    """Ten frames of smooth colour with a square (1) that walks right, and a second one (2) that stays."""
    ramp = torch.linspace(0, 255, 60).expand(40, 60)
    frames = torch.stack([ramp, ramp.flip(1), torch.full((40, 60), 90.0)]).to(torch.uint8).repeat(10, 1, 1, 1)
    masks = torch.zeros(10, 40, 60, dtype=torch.uint8)
    for t in range(10):
        masks[t, 5:20, 2 + 3 * t : 17 + 3 * t] = 1
    masks[:, 25:38, 40:55] = 2
    return Clip(frames, masks, "walk")


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[tuple[dict, dict]]:
    """Every (data, metadata) that a notebook would have received."""
    outputs: list[tuple[dict, dict]] = []

    def display(data: dict, *, raw: bool, metadata: dict) -> None:
        assert raw
        outputs.append((data, metadata))

    monkeypatch.setattr("IPython.display.display", display)
    return outputs


def texts(figure: matplotlib.figure.Figure) -> list[str]:
    legends = [text.get_text() for legend in figure.legends for text in legend.get_texts()]
    titles = [a.get_title() for a in figure.axes]
    return [text.get_text() for a in figure.axes for text in a.texts] + titles + legends


# --- show ------------------------------------------------------------------------------------------------


def test_show_gives_one_picture_and_its_text(shown: list[tuple[dict, dict]]) -> None:
    figures.show(figures.curves({"loss": [3, 2, 1]}, "step", "loss"), "The loss falls.")
    ((data, metadata),) = shown
    assert data.keys() == {"image/png", "text/plain"}
    assert data["text/plain"] == "Figure: The loss falls."
    assert metadata == {"image/png": {"alt": "The loss falls."}}
    assert Image.open(io.BytesIO(data["image/png"])).format == "PNG"


def test_show_puts_a_caption_below_and_draws_diagrams_in_double_resolution(shown: list[tuple[dict, dict]]) -> None:
    parts = {"x": figures.Frame("frame", size=(8, 8)), "y": figures.Operation("net")}
    figures.show(figures.Diagram("a toy", parts, "x y", [figures.Arrow("x", "y")]), caption="See <this>.")
    (picture, about), (caption, _) = shown
    assert picture["text/plain"] == "Figure: Diagram: a toy. frame → net. net."
    assert Image.open(io.BytesIO(picture["image/png"])).width == pytest.approx(2 * about["image/png"]["width"], abs=2)
    assert caption["text/plain"] == "Caption: See <this>."
    assert "See &lt;this&gt;." in caption["text/html"]


@pytest.mark.parametrize("alt", ["", "  \n"])
def test_show_wants_a_text(shown: list[tuple[dict, dict]], alt: str) -> None:
    with pytest.raises(TutorialError, match="alt text"):
        figures.show(figures.blank()[0], alt)
    assert shown == []


def test_show_closes_a_figure_of_pyplot(shown: list[tuple[dict, dict]]) -> None:
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    figure = pyplot.figure()
    figures.show(figure, "Nothing.")
    assert not pyplot.fignum_exists(figure.number)
    assert len(shown) == 1


def test_style_does_not_leak() -> None:
    import matplotlib

    before = dict(matplotlib.rcParams)
    figures.to_png(figures.bars({"a": {"x": 1.0}}, "J"))
    assert dict(matplotlib.rcParams) == before


def test_png_is_small_and_repeats(clip: Clip) -> None:
    first = figures.to_png(figures.contact_sheet(clip, prediction=clip.masks.roll(2, 0)))
    assert first == figures.to_png(figures.contact_sheet(clip, prediction=clip.masks.roll(2, 0)))
    assert len(first) < figures.MAX_PNG_BYTES


def test_few_colours_keep_a_small_bright_region() -> None:
    rng = np.random.default_rng(0)
    photo = rng.integers(60, 140, (200, 300, 1), dtype=np.uint8).repeat(3, axis=2)
    photo[90:96, 100:130] = np.array(to_rgb(figures.BLUE)) * 255
    png = figures.small_png(Image.fromarray(photo), max_bytes=0)  # as few colours as it ever takes
    back = np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).astype(int)
    assert np.abs(back[90:96, 100:130] - photo[90:96, 100:130]).max() <= 12


# --- arrays ----------------------------------------------------------------------------------------------


def test_object_colours_are_safe_first_then_davis() -> None:
    colours = figures.object_colours()
    assert colours[0].tolist() == [0, 0, 0]
    assert len({tuple(c) for c in colours[:8]}) == 8
    np.testing.assert_array_equal(colours[8:VOID], davis_palette()[8:VOID])


@pytest.mark.parametrize("layout", ["chw", "hwc"])
@pytest.mark.parametrize("kind", [np.uint8, np.float32])
def test_as_picture_takes_both_layouts_and_ranges(layout: str, kind: type) -> None:
    picture = np.arange(3 * 4 * 5).reshape(4, 5, 3).astype(np.uint8)
    given = picture if layout == "hwc" else picture.transpose(2, 0, 1)
    given = given if kind is np.uint8 else given.astype(np.float32) / 255
    np.testing.assert_array_equal(figures.as_picture(torch.from_numpy(given.copy())), picture)


def test_as_picture_refuses_what_is_not_rgb() -> None:
    with pytest.raises(TutorialError, match=r"\[4, 5\]"):
        figures.as_picture(np.zeros((4, 5)))


def test_as_ids_refuses_probabilities() -> None:
    assert figures.as_ids(np.array([[True, False]])).tolist() == [[1, 0]]
    assert figures.as_ids(torch.tensor([[0, 255]])).dtype == np.uint8
    with pytest.raises(TutorialError, match="threshold"):
        figures.as_ids(np.array([[0.2, 0.8]]))
    with pytest.raises(TutorialError, match=r"0\.\.255"):
        figures.as_ids(np.array([[-1, 3]]))


def test_error_kinds_by_hand() -> None:
    truth = np.array([[0, 0, 1, 1, 1, VOID, VOID]])
    guess = np.array([[0, 2, 1, 0, 2, 0, 1]])
    assert figures.error_kinds(truth, guess).tolist() == [[0, 2, 0, 1, 3, 0, 0]]
    with pytest.raises(TutorialError, match="resize"):
        figures.error_kinds(truth, guess[:, :3])


def test_overlay_tints_inside_outlines_the_edge_and_leaves_the_rest() -> None:
    frame = np.full((30, 30, 3), 100, np.uint8)
    ids = np.zeros((30, 30), np.uint8)
    ids[10:20, 10:20] = 1
    out = figures.overlay(frame, ids, opacity=0.5)
    colour = figures.object_colours()[1].astype(float)
    np.testing.assert_array_equal(out[14, 14], np.round((100 + colour) / 2))
    np.testing.assert_array_equal(out[10, 14], colour)
    assert (out[9, 14] < 50).all()
    np.testing.assert_array_equal(out[:8], frame[:8])
    plain = figures.overlay(frame, ids, opacity=0.5, outline=False)
    np.testing.assert_array_equal(plain[10, 14], out[14, 14])
    np.testing.assert_array_equal(plain[9, 14], [100, 100, 100])


def test_overlay_writes_numbers_only_where_there_are_several_objects() -> None:
    frame = np.full((80, 80, 3), 60, np.uint8)
    ids = np.zeros((80, 80), np.uint8)
    ids[10:50, 10:50] = 1
    heart = (slice(25, 36), slice(25, 36))
    assert len(np.unique(figures.overlay(frame, ids)[heart].reshape(-1, 3), axis=0)) == 1
    ids[60:78, 60:78] = 2
    assert len(np.unique(figures.overlay(frame, ids)[heart].reshape(-1, 3), axis=0)) > 1


def test_overlay_hatches_void_and_refuses_another_size() -> None:
    frame = np.zeros((8, 8, 3), np.uint8)
    out = figures.overlay(frame, np.full((8, 8), VOID))
    assert 0 < (out > 0).any(axis=2).mean() < 1
    with pytest.raises(TutorialError, match="resize the mask"):
        figures.overlay(frame, np.zeros((4, 4), np.uint8))


# --- figures ---------------------------------------------------------------------------------------------


def test_contact_sheet_has_a_row_for_truth_prediction_and_error(clip: Clip) -> None:
    figure = figures.contact_sheet(clip, prediction=clip.masks.roll(1, 0), columns=4)
    grid = np.array(figure.axes).reshape(3, 4)
    assert [row[0].get_ylabel() for row in grid] == ["truth", "prediction", "error"]
    assert [cell.get_title() for cell in grid[0]] == ["frame 0", "frame 3", "frame 6", "frame 9"]
    assert {"miss", "false alarm"} <= set(texts(figure))
    numbers = [text.get_text() for text in grid[0, 0].texts]
    assert sorted(numbers) == ["1", "2"]


def test_contact_sheet_compares_methods(clip: Clip) -> None:
    figure = figures.contact_sheet(clip, prediction={"copy": clip.masks, "late": clip.masks}, columns=2)
    labels = [a.get_ylabel() for a in figure.axes if a.get_ylabel()]
    assert labels == ["truth", "copy", "error", "late", "error"]


def test_contact_sheet_wraps_a_single_row(clip: Clip) -> None:
    figure = figures.contact_sheet(clip.frames, times=range(7), columns=3)
    drawn = [a for a in figure.axes if a.get_visible()]
    assert [a.get_title() for a in drawn] == [f"frame {t}" for t in range(7)]


def test_contact_sheet_of_one_frame_and_of_frames_alone(clip: Clip) -> None:
    one = Clip(clip.frames[:1], clip.masks[:1])
    assert len(figures.to_png(figures.contact_sheet(one, prediction=one.masks))) > 0
    assert len(figures.contact_sheet(clip.frames.permute(0, 2, 3, 1)).axes) == 6


def test_contact_sheet_names_what_does_not_fit(clip: Clip) -> None:
    with pytest.raises(TutorialError, match="frame 10 is not in this clip of 10 frames"):
        figures.contact_sheet(clip, times=[0, 10])
    with pytest.raises(TutorialError, match="late is"):
        figures.contact_sheet(clip, prediction={"late": clip.masks[:5]})


def test_error_map_counts_pixels() -> None:
    truth, guess = np.zeros((10, 10), np.uint8), np.zeros((10, 10), np.uint8)
    truth[2:6, 2:6] = 1
    guess[3:7, 2:6] = 1
    found = texts(figures.error_map(truth, guess))
    assert {"miss: 4 px", "false alarm: 4 px"} <= set(found)
    assert not any("wrong object" in text for text in found)


def test_error_kinds_differ_without_colour() -> None:
    hatches = [hatch for _, _, hatch in figures.ERRORS.values()]
    assert len(set(hatches)) == len(hatches) == 3
    assert all(hatches)


def test_gallery_draws_each_array_as_what_it_is(clip: Clip) -> None:
    figure = figures.gallery(
        {"frame": clip.frames[0], "mask": clip.masks[0], "map": np.linspace(0, 1, 2400).reshape(40, 60)}
    )
    titles = [a.get_title() for a in figure.axes]
    assert titles[:3] == ["frame", "mask", "map"]
    assert len(figure.axes) == 4  # the map brings its scale
    with pytest.raises(TutorialError, match="no pictures"):
        figures.gallery({})
    with pytest.raises(TutorialError, match="'x'"):
        figures.gallery({"x": np.zeros((2, 3, 4, 5))})


def test_pixels_prints_every_value() -> None:
    figure = figures.pixels(
        {"mask": np.array([[0, 1], [2, 0]]), "probability": np.array([[0.25, 1.0], [0.0, 0.5]])},
        marks={"mask": np.array([[0, 1], [1, 0]])},
    )
    first, second = figure.axes
    assert [t.get_text() for t in first.texts] == ["0", "1", "2", "0"]
    assert [t.get_text() for t in second.texts] == [".25", "1.00", "0", ".50"]
    assert len(first.patches) == 2
    with pytest.raises(TutorialError, match="crop"):
        figures.pixels({"big": np.zeros((100, 100))})


@pytest.mark.parametrize("brightness", [False, True])
def test_pixels_draw_large_numbers_dark_or_bright(brightness: bool) -> None:
    (plot,) = figures.pixels({"frame": np.array([[0.1, 0.9]])}, brightness=brightness).axes
    small, large = plot.images[0].get_array()[0, :, 0]
    assert (large > small) == brightness


def test_curves_differ_without_colour_and_band_the_seeds() -> None:
    rng = np.random.default_rng(0)
    figure = figures.curves({str(i): rng.random((3, 20)) for i in range(7)}, "frame", "J", spans={"gone": (3, 6)})
    (plot,) = figure.axes
    looks = {(line.get_linestyle(), line.get_marker(), str(line._dash_pattern)) for line in plot.lines}
    assert len(looks) == 7
    assert len(plot.collections) == 7
    assert "gone" in texts(figure)


def test_curves_keep_gaps_and_refuse_other_lengths() -> None:
    figure = figures.curves({"J": [1.0, np.nan, 0.5]}, "frame", "J")
    assert np.isnan(figure.axes[0].lines[0].get_ydata()[1])
    assert figure.legends == []
    with pytest.raises(TutorialError, match="'J' has 3 values but x has 2"):
        figures.curves({"J": [1, 2, 3]}, "frame", "J", x=[0, 1])
    with pytest.raises(TutorialError, match="no lines"):
        figures.curves({}, "x", "y")


def test_staircase_runs_between_the_motion_and_the_response() -> None:
    stairs = charts.staircase(np.array([0.0, 1.0]), np.array([0.5, 1.0]), motion=0.8, steps=2)
    assert stairs.tolist() == pytest.approx(
        np.array([[0.8, 1], [0.8, 0.9], [0.72, 0.9], [0.72, 0.86], [0.688, 0.86]])
    )
    level = charts.staircase(np.array([0.0, 1.0]), np.array([0.5, 1.0]), motion=0.8, steps=60)[-1, 1]
    assert level == pytest.approx(0.5 + 0.5 * 0.8 * level)  # it ends where the two lines cross


def test_cobweb_sorts_its_points_and_draws_the_paths() -> None:
    net = {"net": ([0.9, 0.1, 0.5], [0.8, 0.3, 0.6])}
    figure = figures.cobweb(net, motion=0.8, paths={"a clip": ([0.8, 0.7], [0.7, 0.4]), "b": ([1, 1], [1, 1])})
    (plot,) = figure.axes
    line = next(line for line in plot.lines if line.get_label() == "net")
    assert line.get_xdata().tolist() == [0.1, 0.5, 0.9]
    assert line.get_ydata().tolist() == [0.3, 0.6, 0.8]
    assert {
        "frame 1",
        "frame 2",
        "frames 1 to 2",
        "a clip",
        "net",
        "one frame of motion",
        "predicted staircase",
    } <= set(texts(figure))
    assert "predicted staircase" not in texts(figures.cobweb(net))
    assert figures.cobweb(net, lowest=0.5).axes[0].get_xlim() == (0.5, 1)
    with pytest.raises(TutorialError, match="'net' has 2 guides but 3 outputs"):
        figures.cobweb({"net": ([0, 1], [0, 1, 1])})


def test_pins_stand_where_the_grid_says() -> None:
    figure = figures.pins({"a": np.zeros((10, 20, 3), np.uint8)}, [[0.0, 0.0]], [[0.5, -0.2]])
    (plot,) = figure.axes
    assert plot.lines[0].get_xydata().tolist() == [[9.5, 4.5]]  # the middle of 20 x 10 pixels
    (arrow,) = plot.texts
    assert arrow.xy == pytest.approx((14.5, 3.5))
    pair = {"a": np.zeros((10, 20, 3), np.uint8), "b": np.zeros((10, 20, 3), np.uint8)}
    without, pinned = figures.pins(pair, [[0.0, 0.0]], [[0.5, -0.2]], on=["b"]).axes
    assert (len(without.lines), len(pinned.lines)) == (0, 1)
    with pytest.raises(TutorialError, match="'c'"):
        figures.pins(pair, [[0.0, 0.0]], [[0.5, -0.2]], on=["c"])
    with pytest.raises(TutorialError, match=r"\[1, 2\] and \[2, 2\]"):
        figures.pins({"a": np.zeros((10, 20, 3), np.uint8)}, [[0.0, 0.0]], [[0.5, -0.2], [0, 0]])


def test_bars_write_means_and_show_seeds() -> None:
    figure = figures.bars({"occlusion": {"a": [10.0, 20.0, 30.0], "b": 5.0}, "shake": {"b": 7.0}}, "J (%)")
    (plot,) = figure.axes
    assert [t.get_text() for t in plot.texts] == ["20.0", "5.0", "7.0"]
    assert [t.get_text() for t in plot.get_yticklabels()] == ["occlusion", "shake"]
    dots = [line for line in plot.lines if line.get_marker() == "o"]
    assert [line.get_xdata().tolist() for line in dots] == [[10, 20, 30]]
    assert len({patch.get_hatch() for patch in plot.patches}) == 2
    with pytest.raises(TutorialError, match="no groups"):
        figures.bars({}, "J")


def test_key_frames() -> None:
    assert figures.key_frames(1, 6) == [0]
    assert figures.key_frames(4, 6) == [0, 1, 2, 3]
    assert figures.key_frames(40, 3) == [0, 20, 39]


@pytest.mark.parametrize(("x", "whole"), [([1.0, 2, 3, 5], True), ([0.0, 0.5, 1], False)])
def test_whole_positions_get_whole_ticks(x: list[float], whole: bool) -> None:
    figure = figures.curves({"a": x}, "annotated frames", "J", x=x)
    ticks = figure.axes[0].xaxis.get_majorticklocs()
    assert all(tick == round(tick) for tick in ticks) is whole
