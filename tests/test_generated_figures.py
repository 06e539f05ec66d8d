"""Pictures of generated pictures: rows, labels, captions and outlines are where they should be."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from vos_tutorial.course import figures
from vos_tutorial.course.figures.generated import _strip, captioned_sheet, step_grid
from vos_tutorial.data.worlds import captioned
from vos_tutorial.errors import TutorialError
from vos_tutorial.models.dit import DiT, student_of


def test_rows_of_the_grid() -> None:
    images, captions = captioned.draw(range(4))
    sentences = [captioned.sentence(each) for each in captions]
    rows = {1: images, 2: images}
    figure = step_grid(rows, {1: -images, 2: images}, sentences, ("Euler\n64 steps", images))
    labels = [axes.get_ylabel() for axes in figure.axes]
    assert labels == [
        "flow map\n1 step", "Euler\n1 step", "flow map\n2 steps", "Euler\n2 steps", "Euler\n64 steps",
    ]  # fmt: skip
    written = [" ".join(label.get_text().split()) for label in figure.axes[-1].get_xticklabels()]
    assert written == sentences
    drawn = np.asarray(figure.axes[0].images[0].get_array())
    assert drawn.shape == (32, 4 * 34 - 2, 3)
    assert np.array_equal(drawn[:, 34:66], np.round((images[1, :3].permute(1, 2, 0).numpy() + 1) * 127.5))


def test_a_strip_has_white_between_its_pictures() -> None:
    strip = _strip(np.zeros((3, 5, 4, 3), np.uint8))
    assert strip.shape == (5, 16, 3)
    assert (strip[:, 4:6] == 255).all()
    assert (strip[:, :4] == 0).all()


def test_a_sheet_outlines_the_fourth_channel() -> None:
    images, captions = captioned.draw(range(3))
    figure = captioned_sheet(images, [captioned.sentence(each) for each in captions], columns=2)
    cells = [axes for axes in figure.axes if axes.get_visible()]
    assert len(cells) == 3
    above, below = np.split(np.asarray(cells[0].images[0].get_array()), 2, axis=0)
    assert np.array_equal(above, below), "no tint: the colours are those that the caption names"
    (line,) = cells[0].collections
    corners = np.concatenate([path.vertices for path in line.get_paths()])
    rows, columns = np.nonzero(images[0, 3].numpy() > 0)
    np.testing.assert_allclose(corners.min(0), [columns.min() - 0.5, rows.min() + 32 - 0.5], atol=0.1)
    np.testing.assert_allclose(corners.max(0), [columns.max() + 0.5, rows.max() + 32 + 0.5], atol=0.1)


def test_a_picture_without_an_object_has_no_outline() -> None:
    figure = captioned_sheet(-torch.ones(1, 4, 32, 32), ["nothing"], columns=1)
    assert not figure.axes[0].collections


def test_what_cannot_be_drawn_is_told() -> None:
    images = torch.zeros(2, 4, 32, 32)
    with pytest.raises(TutorialError, match=r"got \[1, 2\] and \[1\]"):
        step_grid({1: images, 2: images}, {1: images}, ["a", "b"])
    with pytest.raises(TutorialError, match="needs 3 pictures"):
        step_grid({1: images}, {1: images}, ["a", "b", "c"])
    with pytest.raises(TutorialError, match=r"N captions, got \[2, 3, 32, 32\]"):
        captioned_sheet(images[:, :3], ["a", "b"])


@pytest.mark.parametrize("depth", [2, 8])
def test_the_diagram_of_the_transformer(depth: int) -> None:
    torch.manual_seed(0)
    teacher = DiT(width=16, depth=depth, heads=2)
    x, caption = torch.randn(4, 32, 32), captioned.random_captions([1])[0]
    drawn = figures.networks.dit(student_of(teacher), x, 0.5, 0.2, caption)
    assert drawn.tensors["patches"].shape == (16, 8, 8)
    assert drawn.tensors["last"].shape == (192, 8, 8)
    assert drawn.tensors["refiner"].shape == (24, 32, 32)
    assert drawn.tensors["words"].shape == (16, 6, 1)
    assert "s_embedder 16×1×1" in drawn.alt
    assert "frozen, with adapters" in drawn.groups
    learned = [part.label for part in drawn.parts.values() if part.role == "value"]
    assert learned == ["s_embedder"]
    assert "modulates: blocks[0]" in drawn.alt
    blocks = [name for name in drawn.parts if name.startswith("blocks")]
    assert blocks == [f"blocks[{i}]" for i in ([0, 1] if depth == 2 else [0, 1, 2, 7])]
    assert "s_embedder" not in figures.networks.dit(teacher, x, 0.5, 0.2, caption).alt
    figures.draw(drawn)
