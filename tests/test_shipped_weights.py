"""The weights that ship: small, of the method they name, reading the mask they are given, and following an object."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch

from vos_tutorial import evaluation, metrics, models
from vos_tutorial.baselines import CopyFirst
from vos_tutorial.data.worlds.camouflage import CamouflageClips
from vos_tutorial.data.worlds.sprites import benchmark
from vos_tutorial.geometry import iou
from vos_tutorial.models.stcnn import STCNN
from vos_tutorial.models.weights import read_about, read_metadata, read_weights
from vos_tutorial.places import WEIGHTS
from vos_tutorial.propagation import propagate

PHOTOS = ["masktrack", "rgmp", "rvos", "stm"]
FILES = [("masktrack", ""), ("rgmp", ""), ("stm", ""), ("stm", "shared-keys"), ("stm", "paper-form-cured")]


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


@pytest.mark.parametrize("name", PHOTOS)
def test_networks_for_real_video_say_what_they_saw_and_follow_a_thing(name: str) -> None:
    path = models.shipped_weights(name, "photos")
    assert path.stat().st_size <= 4_000_000
    _, about = read_weights(path)
    assert about["method"] == name
    assert about["start"] == "ImageNet, EfficientNet-Lite0"
    assert "cut-outs" in about["data"]
    assert {"recipe", "seed", "steps", "device"} <= about.keys()
    network = models.trained(name, variant="photos")
    assert evaluation.require_mask_read(lambda: models.segmenter(name, network=network)) < 0.2
    ours = j_mean(models.segmenter(name, network=network), "camera_shake")
    assert ours > j_mean(CopyFirst(), "camera_shake") + 0.1


def test_stcnn_for_real_video_is_tuned_to_the_thing_it_should_follow() -> None:
    path = models.shipped_weights("stcnn", "photos")
    assert path.stat().st_size <= 4_000_000
    about = read_about(path)
    assert (about.metadata["start"], about.lines, about.tuning) == ("ImageNet, EfficientNet-Lite0", 240, 120)
    assert "cut-outs" in about.metadata["data"]
    network = models.trained("stcnn", path)
    (clip,) = benchmark(1, ["multiple_objects"])
    untuned, tuned = (
        evaluation.mask_swap_iou(
            lambda steps=steps: models.segmenter("stcnn", network=network, online_steps=steps, **about.segmenter),
            clip,
        )
        for steps in (0, 20)
    )
    assert tuned < untuned, "without tuning only the gates tell which object is meant"


def test_the_form_of_the_paper_alone_does_not_read_its_mask() -> None:
    network = models.trained("stm", models.shipped_weights("stm", "paper-form"))
    (clip,) = benchmark(1, ["multiple_objects"])
    assert evaluation.mask_swap_iou(lambda: models.segmenter("stm", network=network), clip) > 0.5


def stcnn(variant: str) -> STCNN:
    path = models.shipped_weights("stcnn", variant)
    assert path.stat().st_size <= 2_000_000
    _, about = read_weights(path)
    assert about["method"] == "stcnn"
    assert {"recipe", "seed", "steps", "device", "data"} <= about.keys()
    network = models.trained("stcnn", path)
    assert isinstance(network, STCNN)
    return network


@torch.no_grad()
def test_the_camouflage_networks_of_stcnn_see_what_moves_or_nothing() -> None:
    """No mask is given to them, so the test of the others says nothing here."""
    found, blind = stcnn("camouflage"), stcnn("space-only")
    assert found.discriminator is not None
    assert blind.generator is None
    frames, masks = CamouflageClips().batch(range(9_300_000, 9_300_012), 64, 5)
    frame, truth = frames[:, -1], masks[:, -1] > 0

    def score(network: STCNN, window: torch.Tensor | None) -> float:
        return float(iou(network(frame, window, sides=False).logits[:, -1] > 0, truth).mean())

    assert score(found, frames[:, :-1]) > 0.35
    assert score(found, frame[:, None].expand(-1, 4, -1, -1, -1)) < 0.1  # a frozen video
    assert score(blind, None) < 0.1


def test_the_long_run_of_stcnn_has_all_that_the_lesson_shows() -> None:
    network = stcnn("")
    assert network.generator is not None
    assert network.discriminator is not None
    assert network.balance is not None


@pytest.mark.parametrize("path", sorted(WEIGHTS.glob("*.safetensors")), ids=lambda path: path.stem)
def test_what_ships_names_no_folder_of_a_machine(path: Path) -> None:
    said = " ".join(read_metadata(path).values())
    assert not re.search(r"(?<![\w.])/(?:work|home|tmp|root|mnt|Users)/", said)
