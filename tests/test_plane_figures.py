"""Pictures of flows: what is drawn where, that moving ones stay small, and that the drawn paths are true ones."""

from __future__ import annotations

import io
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from vos_tutorial.course.figures import MAX_LOOP_BYTES, plane, to_png
from vos_tutorial.errors import TutorialError


def points(number: int = 50, seed: int = 0) -> Tensor:
    return torch.randn(number, 2, generator=torch.Generator().manual_seed(seed))


def titles(figure: Figure) -> list[str]:
    return [axes.get_title() for axes in figure.axes if axes.axison]


def drawn(figure: Figure, panel: int = 0) -> Iterator[np.ndarray]:
    for line in figure.axes[panel].lines:
        yield np.stack([np.asarray(line.get_xdata()), np.asarray(line.get_ydata())], 1)


def test_clouds_have_a_panel_each_and_at_most_so_many_points() -> None:
    sets = {name: points(3000, i) for i, name in enumerate("abcde")}
    figure = plane.clouds(sets)
    assert titles(figure) == list("abcde")
    (shown,) = drawn(figure, 1)
    np.testing.assert_allclose(shown, sets["b"][: plane.SHOWN].numpy(), rtol=1e-6)
    assert len(to_png(figure)) < 60_000
    assert figure.axes[0].get_xlim()[1] == plane.EXTENT
    with pytest.raises(TutorialError, match="no points"):
        plane.clouds({})


def test_classes_have_colours_of_their_own() -> None:
    x, label = points(40), torch.arange(40) % 2
    figure = plane.clouds({"ring": x}, board=False, classes={"ring": label})
    one, other = drawn(figure)
    np.testing.assert_allclose(one, x[::2].numpy(), rtol=1e-6)
    np.testing.assert_allclose(other, x[1::2].numpy(), rtol=1e-6)
    assert len({line.get_color() for line in figure.axes[0].lines}) == 2


def test_what_the_other_class_does_lies_faintly_below() -> None:
    x, others = points(40), points(30, 1)
    below, above = drawn(plane.clouds({"ring": x}, board=False, ground=others))
    np.testing.assert_allclose(below, others.numpy(), rtol=1e-6)
    np.testing.assert_allclose(above, x.numpy(), rtol=1e-6)


def test_travel_passes_all_stops_and_walks_straight_between_them() -> None:
    def network(x: Tensor, t: Tensor, s: Tensor) -> Tensor:
        return torch.ones_like(x) * t[:, None]

    x = points(4)
    way = plane.travel(network, x, steps=2, frames=5)
    ends = x - 0.5 * 1.0, x - 0.5 * 1.0 - 0.5 * 0.5
    for place, expected in zip(way, [x, (x + ends[0]) / 2, ends[0], (ends[0] + ends[1]) / 2, ends[1]], strict=True):
        torch.testing.assert_close(place, expected)


def test_a_loop_moves_is_small_and_has_its_sheet() -> None:
    ways = {"a": [points(60) * k for k in (3.0, 2.0, 1.0)], "b": [points(60)] * 3}
    loop = plane.cloud_loop(ways)
    with Image.open(io.BytesIO(loop.data)) as picture:
        assert picture.format == "WEBP"
        assert picture.n_frames == 3  # type: ignore[attr-defined]
        assert picture.size == loop.size
    assert len(loop.data) <= MAX_LOOP_BYTES
    assert titles(loop.sheet)[:5] == ["t = 1.00", "t = 1.00", "t = 0.50", "t = 0.00", "t = 0.00"]
    assert [axes.get_ylabel() for axes in loop.sheet.axes if axes.get_ylabel()] == ["a", "b"]
    with pytest.raises(TutorialError, match=r"\[1, 3\] moments"):
        plane.cloud_loop({"a": [points()], "b": [points()] * 3})
    with pytest.raises(TutorialError, match="fewer points"):
        plane.cloud_loop({"a": [points(9000, seed) for seed in range(30)]})


def test_journeys_end_where_the_points_end() -> None:
    way = [points(2), points(2, 1), points(2, 2)]
    figure = plane.journeys({"one": {"path": way, "jump": [way[0], way[2]]}, "two": {"jump": [way[0], way[1]]}})
    assert titles(figure) == ["one", "two"]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["path", "jump"]
    lines = list(drawn(figure))
    np.testing.assert_allclose(lines[0], torch.stack(way)[:, 0].numpy(), rtol=1e-6)
    np.testing.assert_allclose(lines[1], torch.stack(way)[:, 1].numpy(), rtol=1e-6)


def test_journeys_may_show_a_stretch_of_the_plane_and_dashed_lines_stay_dashed() -> None:
    way = [points(1), points(1, 1)]
    half = plane.journeys({"one": {"path": way, "jump": way}}, ylim=(0.0, plane.EXTENT))
    assert half.axes[0].get_ylim() == (0.0, plane.EXTENT)
    for arrow in half.axes[0].texts:  # annotations: the head alone
        tail, head = np.asarray(arrow.xyann), np.asarray(arrow.xy)  # type: ignore[attr-defined]
        assert np.linalg.norm(head - tail) < 0.02 * float((way[1] - way[0]).norm())


@pytest.mark.parametrize("picture", [plane.three_models, plane.two_directions])
def test_pictures_of_the_idea_are_small(picture: object) -> None:
    figure = picture()  # type: ignore[operator]
    assert all(titles(figure))
    assert len(to_png(figure)) < 60_000


def test_the_drawn_paths_are_those_of_the_flow() -> None:
    """Noise that flows along the drawn velocity becomes the two clouds of data."""
    noise = np.random.default_rng(0).standard_normal(400)
    ends = np.array([plane._path(float(x), 1.0, 0.0, 200)[1][-1] for x in noise])
    off = np.minimum(abs(ends - plane.MEANS[0]), abs(ends - plane.MEANS[1]))
    assert np.sqrt((off**2).mean()) == pytest.approx(plane.NARROW, rel=0.15)
    assert abs((ends > 0).mean() - 0.5) < 0.06
