"""F as a picture: the points that it draws are the points that F counts."""

from __future__ import annotations

import matplotlib.figure
import numpy as np
import pytest

from vos_tutorial import metrics
from vos_tutorial.course import figures
from vos_tutorial.errors import TutorialError


@pytest.fixture
def masks() -> tuple[np.ndarray, np.ndarray]:
    """A square of 30 pixels, and the same without its right third."""
    truth = np.zeros((60, 80), bool)
    truth[10:40, 10:40] = True
    prediction = truth.copy()
    prediction[:, 30:] = False
    return truth, prediction


def texts(figure: matplotlib.figure.Figure) -> list[str]:
    return [a.get_title() for a in figure.axes] + [t.get_text() for legend in figure.legends for t in legend.texts]


def test_what_is_matched_makes_f() -> None:
    rng = np.random.default_rng(3)
    for _ in range(30):
        truth, prediction = rng.random((2, 9, 300)) > rng.uniform(0.5, 0.97)  # the tolerance is 3
        match = metrics.boundary_match(truth, prediction)
        precision, recall = match.precise.sum() / match.found.sum(), match.recalled.sum() / match.true.sum()
        f = 2 * precision * recall / (precision + recall)
        assert f == pytest.approx(metrics.boundary_accuracy(truth, prediction), abs=1e-12)


def test_the_band_is_a_disk() -> None:
    dot = np.zeros((5, 5), bool)
    dot[2, 2] = True
    match = metrics.boundary_match(dot, dot)
    assert match.true.sum() == 4
    assert match.near_true.sum() == 12, "two by two, and what is above, below, left and right of it: no corners"


def test_a_match_is_of_one_frame(masks: tuple[np.ndarray, np.ndarray]) -> None:
    with pytest.raises(TutorialError, match=r"takes one frame, \[H, W\], but truth is \[1, 60, 80\]"):
        metrics.boundary_match(masks[0][None], masks[1][None])


def test_the_picture_counts_what_f_counts(masks: tuple[np.ndarray, np.ndarray]) -> None:
    match = metrics.boundary_match(*masks)
    figure = figures.outlines(*masks)
    left, right, *legend = texts(figure)
    precision = f"{match.precise.sum() / match.found.sum():.2f}"
    assert left == f"precision: {match.precise.sum()} of {match.found.sum()} predicted points = {precision}"
    assert right.startswith(f"recall: {match.recalled.sum()} of {match.true.sum()} true points = 0.")
    assert legend == ["the other outline", "its tolerance", "point inside", "point outside"]
    inside, outside = (len(line.get_xdata()) for line in figure.axes[1].lines)
    assert (inside, inside + outside) == (match.recalled.sum(), match.true.sum())
    assert outside > 0


def test_the_line_runs_through_the_points_of_the_other_outline() -> None:
    rng = np.random.default_rng(5)
    for _ in range(20):
        truth, prediction = rng.random((2, 7, 9)) > rng.uniform(0.1, 0.9)
        for cell, mask in zip(figures.outlines(truth, prediction).axes, (truth, prediction), strict=True):
            lines = np.concatenate(cell.collections[0].get_segments())
            points = {(int(x), int(y)) for x, y in lines if min(x, y) >= 0}
            assert points == {(x, y) for y, x in np.argwhere(metrics.boundary_map(mask)).tolist()}


def test_inside_and_outside_differ_without_colour(masks: tuple[np.ndarray, np.ndarray]) -> None:
    inside, outside = figures.outlines(*masks).axes[0].lines
    assert inside.get_marker() != outside.get_marker()


def test_it_shows_the_outlines_and_not_the_whole_picture(masks: tuple[np.ndarray, np.ndarray]) -> None:
    assert figures.outlines(*masks).axes[0].get_xlim()[1] < 50
    nothing = np.zeros((6, 8), bool)
    figure = figures.outlines(nothing, nothing)
    assert figure.axes[0].get_xlim() == (-0.5, 7.5)
    assert texts(figure)[0] == "precision: 0 of 0 predicted points"
