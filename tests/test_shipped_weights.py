"""The weights that ship: small, of the method they name, reading the mask they are given, and following an object."""

from __future__ import annotations

import numpy as np
import pytest

from vos_tutorial import evaluation, metrics, models
from vos_tutorial.baselines import CopyFirst
from vos_tutorial.data.synthetic import benchmark
from vos_tutorial.models.weights import read_weights
from vos_tutorial.segmenter import propagate

FILES = [("masktrack", ""), ("rgmp", ""), ("stm", ""), ("stm", "paper-form-cured")]


def j_mean(method: object, condition: str) -> float:
    scores = []
    for clip in benchmark(2, [condition]):
        ids = propagate(method, clip.frames, clip.first_mask)  # type: ignore[arg-type]
        scores.append(metrics.region_similarity(clip.masks > 0, ids > 0)[1:-1].mean())
    return float(np.mean(scores))


@pytest.mark.parametrize(("name", "variant"), FILES)
def test_shipped_weights_read_their_mask_and_beat_a_copy(name: str, variant: str) -> None:
    path = models.shipped_weights(name, variant)
    assert path.stat().st_size <= 2_000_000
    _, about = read_weights(path)
    assert about["method"] == name
    assert {"recipe", "seed", "steps", "device", "data"} <= about.keys()
    network = models.trained(name, path)
    assert evaluation.require_mask_read(lambda: models.segmenter(name, network=network)) < 0.2
    ours = j_mean(models.segmenter(name, network=network), "camera_shake")
    assert ours > j_mean(CopyFirst(), "camera_shake") + 0.1


def test_the_form_of_the_paper_alone_does_not_read_its_mask() -> None:
    network = models.trained("stm", models.shipped_weights("stm", "paper-form"))
    (clip,) = benchmark(1, ["multiple_objects"])
    assert evaluation.mask_swap_iou(lambda: models.segmenter("stm", network=network), clip) > 0.5
