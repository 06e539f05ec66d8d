"""Discs: apart at first, exact masks, a function of the seed, and as hard as asked for."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from vos_tutorial.data.worlds.discs import WALL, Discs, _bounced
from vos_tutorial.errors import TutorialError


def test_a_clip_depends_on_its_seed_only() -> None:
    source = Discs((1, 4))
    whole, one = source.batch(range(8), 48, 5, 1), source.batch([6], 48, 5, 1)
    assert whole.frames.shape == (8, 5, 3, 48, 48)
    assert whole.masks.dtype == torch.uint8
    assert torch.equal(whole.frames[6], one.frames[0])
    assert torch.equal(whole.masks[6], one.masks[0])
    assert {int(m.max()) for m in whole.masks} <= {1, 2, 3, 4}
    assert 0 <= float(whole.frames.min()) <= float(whole.frames.max()) <= 1
    assert all(not torch.equal(m[0], m[4]) for m in whole.masks)


def test_all_discs_show_in_frame_0_and_stay_in_sight() -> None:
    masks = Discs((3, 3)).batch(range(20), 48, 30).masks
    shares = torch.stack([(masks == k).float().mean((2, 3)) for k in (1, 2, 3)])  # [K, B, T]
    assert float(shares[:, :, 0].min()) > 0.015
    assert float(shares[0].min()) > 0.005  # the first one is never covered


def test_colours() -> None:
    for alike in (True, False):
        clips = Discs((2, 2), alike=alike).batch(range(5), 64, 1)
        for frame, mask in zip(clips.frames[:, 0], clips.masks[:, 0], strict=True):
            one, other = (frame[:, mask == k].median(1).values for k in (1, 2))
            assert (float((one - other).abs().max()) < 0.01) == alike


def test_leaving() -> None:
    last = Discs((2, 2), leaving=1.0).batch(range(6), 32, 80).masks[:, -1]
    assert not last.any()
    assert Discs((2, 2)).batch(range(6), 32, 80).masks[:, -1].any(dim=(1, 2)).all()


def test_walls_reflect() -> None:
    path = np.array([0.0, WALL, WALL + 0.1, -WALL - 0.1, 3 * WALL, 4 * WALL + 0.2])
    np.testing.assert_allclose(_bounced(path), [0, WALL, WALL - 0.1, 0.1 - WALL, -WALL, 0.2], atol=1e-12)


def test_a_clip_to_evaluate_on() -> None:
    clip = Discs((2, 2)).clip(3, 40, 7)
    assert (len(clip), clip.size, clip.objects, clip.attributes) == (7, (40, 40), [1, 2], ("multiple_objects",))


@pytest.mark.parametrize(
    ("options", "message"), [({"objects": (0, 2)}, "0 to 2 discs"), ({"leaving": 1.5}, "leaving is 1.5")]
)
def test_impossible_discs(options: dict[str, Any], message: str) -> None:
    with pytest.raises(TutorialError, match=message):
        Discs(**options)
