"""From a box to a mask: objects that stand out are found, and where nothing does, it says so."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from vos_tutorial.boxes import mask_in_box
from vos_tutorial.data import make_clip
from vos_tutorial.errors import TutorialError
from vos_tutorial.metrics import region_similarity


def scene() -> tuple[torch.Tensor, torch.Tensor]:
    """A noisy picture with a red disc, ``uint8 [3, 90, 120]``, and where the disc is."""
    y, x = np.mgrid[:90, :120]
    disc = np.hypot(y - 45, x - 60) < 22
    noise = np.random.default_rng(0).normal(0, 12, (90, 120, 3))
    picture = np.where(disc[..., None], (200, 60, 50), (70, 110, 90)) + noise
    return torch.from_numpy(picture.clip(0, 255).astype(np.uint8)).permute(2, 0, 1), torch.from_numpy(disc)


def overlap(a: torch.Tensor, b: torch.Tensor) -> float:
    return float(region_similarity(a[None].numpy(), b[None].numpy())[0])


@pytest.mark.parametrize("slack", [0, 6, 14])
def test_a_disc_is_found_also_in_a_loose_box(slack: int) -> None:
    picture, disc = scene()
    mask = mask_in_box(picture, (38 - slack, 23 - slack, 83 + slack, 68 + slack))
    assert mask.dtype == torch.bool
    assert mask.shape == disc.shape
    assert overlap(disc, mask) > 0.9


def test_nothing_is_found_outside_the_box() -> None:
    picture, disc = scene()
    mask = mask_in_box(picture, (38, 23, 60, 68))  # half of the disc
    assert not mask[:, 60:].any()
    assert not mask[:23].any()
    assert overlap(disc & (torch.arange(120) < 60), mask) > 0.7


def test_it_beats_the_box_on_generated_clips() -> None:
    gains = []
    for seed in range(4):
        clip = make_clip(seed, size=96, length=2)
        truth = clip.masks[0] == 1
        y, x = torch.nonzero(truth, as_tuple=True)
        x0, y0, x1, y1 = int(x.min()), int(y.min()), int(x.max()) + 1, int(y.max()) + 1
        box = torch.zeros_like(truth)
        box[y0:y1, x0:x1] = True
        gains.append(overlap(truth, mask_in_box(clip.frames[0], (x0, y0, x1, y1))) - overlap(truth, box))
    assert np.mean(gains) > 0.1, gains


def test_even_ground_and_boxes_that_are_none_are_refused() -> None:
    picture = torch.full((3, 60, 80), 90, dtype=torch.uint8)
    with pytest.raises(TutorialError, match="nothing stands out"):
        mask_in_box(picture, (10, 10, 40, 40))
    for box in ((10, 10, 12, 40), (-1, 0, 20, 20), (60, 30, 90, 50), (40, 40, 10, 10)):
        with pytest.raises(TutorialError, match="is no box of at least 4x4 pixels"):
            mask_in_box(picture, box)
