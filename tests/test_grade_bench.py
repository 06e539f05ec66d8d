"""GradeBench on the Python side: the sliders' mask, its grades, and what cannot be."""

from __future__ import annotations

import io
import zlib

import numpy as np
import pytest
import torch
from PIL import Image
from traitlets import TraitError

from vos_tutorial import metrics
from vos_tutorial.course.widgets import GradeBench
from vos_tutorial.data.worlds.sprites import benchmark
from vos_tutorial.errors import TutorialError


def bench() -> GradeBench:
    """A square of 20 pixels in a picture of 80 by 100, whose tolerance is 2."""
    mask = np.zeros((80, 100), bool)
    mask[30:50, 40:60] = True
    return GradeBench(np.full((3, 80, 100), 120, np.uint8), mask, alt="A square")


def box(mask: np.ndarray) -> tuple[int, int, int, int]:
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1


def test_the_sliders_make_the_mask() -> None:
    widget = bench()
    assert widget.grades == (1, 1, 1, 1)
    widget.hide = 25
    assert box(widget.prediction) == (30, 50, 40, 55)
    widget.grow = 2
    assert box(widget.prediction) == (28, 52, 38, 57)
    widget.right, widget.down = -3, 5
    assert box(widget.prediction) == (33, 57, 35, 54)
    widget.hide, widget.right, widget.down, widget.grow = 0, 0, 0, -2
    assert box(widget.prediction) == (32, 48, 42, 58)
    widget.hide = 100
    assert not widget.prediction.any()
    assert widget.grades == (0, 0, 1, 0), "what claims nothing is precise"


def test_the_grades_are_those_of_the_library() -> None:
    widget = bench()
    widget.right, widget.grow, widget.hide = 2, 1, 40
    truth, guess = widget._mask, widget.prediction
    j, f, precision, recall = widget.grades
    assert j == metrics.region_similarity(truth, guess)
    assert (
        f == metrics.boundary_accuracy(truth, guess) == pytest.approx(2 * precision * recall / (precision + recall))
    )


def test_what_leaves_the_picture_does_not_come_back_on_the_other_side() -> None:
    widget = GradeBench(torch.zeros(3, 40, 40), torch.ones(40, 40, dtype=torch.uint8))
    widget.right = 10
    assert box(widget.prediction) == (0, 40, 10, 40)
    widget.grow = -5
    assert box(widget.prediction) == (0, 40, 10, 40), "the border of the picture is no edge of the object"


def test_what_notebook_01_says_of_it() -> None:
    clip = next(benchmark(1, ["out_of_view"]))
    widget = GradeBench(clip.frames[0], clip.first_mask)
    seen = {}
    for widget.grow in range(5):
        seen[widget.grow] = (round(widget.grades.J, 2), round(widget.grades.F, 2))
    assert seen == {0: (1, 1), 1: (0.93, 1), 2: (0.86, 1), 3: (0.79, 0.2), 4: (0.74, 0)}


def test_it_prints_no_address_and_has_a_still_picture() -> None:
    widget = bench()
    widget.grow = 3
    assert repr(widget) == "GradeBench(80x100, right=0, down=0, grow=3, hide=0)"
    still, grown = widget.poster(), bench()
    assert Image.open(io.BytesIO(still)).width > Image.open(io.BytesIO(still)).height, "five pictures in a row"
    assert len(still) < 40_000
    assert still != grown.poster(), "it shows what the sliders made"
    assert zlib.decompress(widget._truth) == widget._mask.astype(np.uint8).tobytes()
    assert widget._tolerance == 2


def test_what_cannot_be_is_refused() -> None:
    grey = np.zeros((3, 40, 50), np.uint8)
    with pytest.raises(TutorialError, match=r"the mask is \[50, 40\] but the frame is \[40, 50\]"):
        GradeBench(grey, np.ones((50, 40), bool))
    with pytest.raises(TutorialError, match="the mask is empty"):
        GradeBench(grey, np.zeros((40, 50), bool))
    widget = GradeBench(grey, np.ones((40, 50), bool))
    for slider, value in (("right", 25), ("down", -25), ("grow", 11), ("hide", 101)):
        with pytest.raises((TutorialError, TraitError), match=f"{slider} is {value}; choose"):
            setattr(widget, slider, value)
