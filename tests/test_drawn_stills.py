"""Stills out of memory: what a generator drew, as a source of MaskTrack's training."""

from __future__ import annotations

import pytest
import torch

from vos_tutorial.data.sources.drawn import DrawnStills
from vos_tutorial.data.worlds import captioned
from vos_tutorial.errors import TutorialError
from vos_tutorial.recipes import load
from vos_tutorial.training.tasks import masktrack


def test_a_batch_is_crops_with_their_masks() -> None:
    source = DrawnStills(captioned.draw(range(20)).images)
    images, masks = source.batch([3, 4, 5], 48)
    assert images.shape == (3, 3, 48, 48)
    assert masks.shape == (3, 48, 48)
    assert masks.dtype == torch.bool
    assert 0 <= float(images.min()) <= float(images.max()) <= 1
    assert masks.any((1, 2)).all()
    assert torch.equal(source.batch([4], 48).images[0], images[1]), "a sample depends on its seed alone"


def test_the_mask_lies_on_the_object() -> None:
    said = torch.stack([captioned.caption(colour="white", texture="plain", size="large", ground="grass")] * 10)
    images, masks = DrawnStills(captioned.draw(range(10), captions=said).images).batch(range(10), 64)
    light = images.mean(1)
    assert float(light[masks].mean()) > float(light[~masks].mean()) + 0.3


def test_pictures_without_an_object_are_left_out() -> None:
    images = captioned.draw(range(6)).images
    images[2, 3], images[4, 3] = -1, 1
    source = DrawnStills(images)
    assert len(source) == 4
    assert source.left_out == 2


def test_masktrack_learns_from_them() -> None:
    task = masktrack.task(DrawnStills(captioned.draw(range(8)).images))
    stage = load("masktrack", "smoke").stages[0]
    batch = task.batch(stage, [1, 2], torch.device("cpu"))
    assert batch["image"].shape == (2, 3, stage.size, stage.size)
    assert batch["target"].any()


def test_what_cannot_be_is_told() -> None:
    with pytest.raises(TutorialError, match=r"mask last, they are \[3, 3, 32, 32\]"):
        DrawnStills(torch.zeros(3, 3, 32, 32))
    with pytest.raises(TutorialError, match="none of 3 masks"):
        DrawnStills(torch.full((3, 4, 32, 32), -1.0))
    with pytest.raises(TutorialError, match="none of 0 masks"):
        DrawnStills(torch.zeros(0, 4, 32, 32))
