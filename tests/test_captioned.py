"""The captioned world: what a caption says is what the picture shows, and a picture depends on its seed alone."""

from __future__ import annotations

import pytest
import torch

from vos_tutorial.data.worlds import captioned
from vos_tutorial.data.worlds.captioned import ATTRIBUTES, caption, draw, random_captions, sentence
from vos_tutorial.errors import TutorialError


def test_shapes_ranges_and_kinds() -> None:
    images, captions = draw(range(40))
    assert images.shape == (40, 4, 32, 32)
    assert images.dtype == torch.float32
    assert captions.shape == (40, 6)
    assert captions.dtype == torch.int64
    assert float(images.min()) >= -1
    assert float(images.max()) <= 1
    share = (images[:, 3] > 0).float().mean((1, 2))
    assert float(share.min()) > 0.01
    assert float(share.max()) < 0.45


def test_a_picture_depends_on_its_seed_alone() -> None:
    images, captions = draw([5, 9, 700, 3])
    alone = draw([700])
    assert torch.equal(alone.images[0], images[2])
    assert torch.equal(alone.captions[0], captions[2])
    assert not torch.equal(images[0], images[1])
    assert torch.equal(random_captions([5, 9, 700, 3]), captions)


def test_every_value_of_every_attribute_occurs_evenly() -> None:
    captions = random_captions(range(3000))
    for column, values in enumerate(ATTRIBUTES.values()):
        counts = torch.bincount(captions[:, column], minlength=len(values) + 1)
        assert counts[0] == 0
        assert float(counts[1:].min()) > 0.8 * 3000 / len(values)


def test_what_is_said_is_drawn_and_the_rest_is_the_seeds() -> None:
    said = torch.stack([caption(colour="red", shape="ring", texture="plain", size="large")] * 8)
    images, shown = draw(range(8), captions=said)
    assert (shown[:, [0, 1, 2, 3]] == said[:, [0, 1, 2, 3]]).all()
    assert torch.equal(shown[:, 4:], random_captions(range(8))[:, 4:])
    for image in images:
        inside = image[3] > 0.9
        red, green, blue = image[:3, inside].mean(1).tolist()
        assert red > green + 0.5
        assert red > blue + 0.5


def test_the_place_is_where_the_mask_is_and_the_size_is_its_area() -> None:
    place = {}
    for name in ATTRIBUTES["place"]:
        masks = draw(range(20), captions=torch.stack([caption(place=name, shape="disc")] * 20)).images[:, 3] > 0
        y, x = (masks.any(d).float() for d in (2, 1))
        axis = (torch.arange(32) + 0.5) / 16 - 1
        place[name] = ((x * axis).sum(1) / x.sum(1)).mean(), ((y * axis).sum(1) / y.sum(1)).mean()
    assert all(abs(v) < 0.08 for v in place["in the middle"])
    assert place["at the top left"][0] < -0.2 > place["at the top left"][1]
    assert place["at the bottom right"][0] > 0.2 < place["at the bottom right"][1]
    areas = [
        (draw(range(20), captions=torch.stack([caption(size=s, shape="disc")] * 20)).images[:, 3] > 0).sum((1, 2))
        for s in ATTRIBUTES["size"]
    ]
    assert int(areas[0].max()) < int(areas[1].min()) <= int(areas[1].max()) < int(areas[2].min())


def test_a_ring_has_a_hole_and_the_mask_knows_it() -> None:
    said = caption(shape="ring", place="in the middle", size="large")[None]
    mask = draw([4], captions=said).images[0, 3] > 0
    rows, columns = mask.nonzero().float().mean(0).round().int().tolist()
    assert not mask[rows, columns]


def test_a_larger_picture_shows_the_same() -> None:
    small, large = (draw(range(6), size=size).images for size in (32, 64))
    shrunk = torch.nn.functional.avg_pool2d(large, 2)
    assert float((small - shrunk).abs().mean()) < 0.06
    agree = ((small[:, 3] > 0) == (shrunk[:, 3] > 0)).float().mean()
    assert float(agree) > 0.97


def test_sentences() -> None:
    whole = caption(
        size="small", colour="red", texture="striped", shape="star", place="at the top left", ground="sand"
    )
    assert sentence(whole) == "a small red striped star at the top left, on sand"
    assert sentence(caption()) == "a thing"
    assert sentence(caption(shape="cross", ground="rock")) == "a cross, on rock"
    assert sentence([0, 0, 0, 0, 1, 0]) == "a thing in the middle"


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: caption(hue="red"), "no attribute 'hue'"),
        (lambda: caption(colour="pink"), "no colour 'pink'"),
        (lambda: sentence([4, 0, 0, 0, 0, 0]), r"size 4; use 0 \(not said\) or 1..3"),
        (lambda: sentence([-1, 0, 0, 0, 0, 0]), "size -1"),
        (lambda: captioned.require_captions(torch.zeros(2, 5, dtype=torch.long)), r"int64 \[2, 5\]"),
        (lambda: captioned.require_captions(torch.zeros(2, 6)), r"float32 \[2, 6\]"),
        (lambda: draw([]), "at least one"),
        (lambda: draw([-1]), "none below 0"),
        (lambda: draw([1], size=4), "4 pixels"),
        (lambda: draw([1, 2], captions=caption()[None]), "1 captions for 2 seeds"),
    ],
)
def test_what_cannot_be_is_told(call: object, words: str) -> None:
    assert callable(call)
    with pytest.raises(TutorialError, match=words):
        call()
