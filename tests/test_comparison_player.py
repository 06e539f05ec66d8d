"""What ComparisonPlayer computes and sends; the browser's side is in tests/browser."""

from __future__ import annotations

import io
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from vos_tutorial.clip import Clip
from vos_tutorial.course.widgets import ComparisonPlayer
from vos_tutorial.course.widgets.widget import POSTER_BYTES
from vos_tutorial.errors import TutorialError


def clip() -> Clip:
    """Eight frames; the object moves, and cannot be seen in frames 3 and 4."""
    masks = torch.zeros(8, 20, 30, dtype=torch.uint8)
    for t in (0, 1, 2, 5, 6, 7):
        masks[t, 4:12, 2 + 2 * t : 10 + 2 * t] = 1
    return Clip((masks[:, None] * 100).expand(-1, 3, -1, -1).contiguous(), masks, "walk")


def answers(c: Clip) -> dict[str, torch.Tensor]:
    return {"truth": c.masks.clone(), "copy": c.masks[:1].repeat(8, 1, 1), "nothing": torch.zeros_like(c.masks)}


def test_scores_and_where_methods_differ() -> None:
    c = clip()
    player = ComparisonPlayer(c, answers(c))
    assert [row[0] for row in player._scores] == [None] * 3  # the given frame is not scored
    assert player._scores[0][1:] == [100.0] * 7
    assert player._scores[1][1] == round(100 * (8 * 6) / (8 * 10), 2)
    assert player._scores[2][3] == 100.0  # nothing is right where nothing is
    assert player._spread[3] == 0.0  # and such a frame is no place to look first
    assert player.frame == 1  # the first of equals
    layers = np.frombuffer(zlib.decompress(player._ids), np.uint8).reshape(4, 8, 20, 30)
    assert (layers[0] == c.masks.numpy()).all()
    assert (layers[2] == c.masks[0].numpy()).all()


def test_the_still_picture_shows_every_method() -> None:
    c = clip()
    png = ComparisonPlayer(c, answers(c)).poster()
    assert len(png) < 1.5 * POSTER_BYTES
    picture = np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))
    third = picture.shape[1] // 3
    tiles = [picture[20:, i * third : (i + 1) * third] for i in range(3)]
    assert (tiles[0] != tiles[1]).any()
    assert (tiles[1] != tiles[2]).any()


def test_what_cannot_be_compared() -> None:
    c = clip()
    for wrong, says in (
        ({}, "there are 0 methods"),
        ({str(i): c.masks for i in range(13)}, "there are 13 methods"),
        ({"short": c.masks[:3]}, r"short is \[3, 20, 30\]"),
    ):
        with pytest.raises(TutorialError, match=says):
            ComparisonPlayer(c, wrong)
    player = ComparisonPlayer(c, answers(c))
    with pytest.raises(TutorialError, match="frame 8 is not in this clip"):
        player.frame = 8
