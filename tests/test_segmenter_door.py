"""``models.segmenter``: which network, where, how large, with which options; and sentences for what cannot be."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from vos_tutorial import models
from vos_tutorial.errors import TutorialError
from vos_tutorial.models.masktrack import MaskTrackSegmenter
from vos_tutorial.models.stm import STM, STMSegmenter
from vos_tutorial.models.weights import read_weights, save_weights
from vos_tutorial.propagation import Resized, propagate
from vos_tutorial.resize import working_size


def test_a_variant_takes_its_own_weights() -> None:
    made = models.segmenter("stm", variant="paper-form-cured")
    assert isinstance(made, STMSegmenter)
    assert not made.network.shared_keys
    plain = models.segmenter("stm")
    assert isinstance(plain, STMSegmenter)
    assert plain.network.shared_keys


NETWORKS = [p for p in sorted(models.SHIPPED.glob("*.safetensors")) if p.stem.split("-")[0] in models.METHODS]


@pytest.mark.parametrize("file", NETWORKS, ids=lambda path: path.stem)
def test_every_shipped_file_is_reached(file: Path) -> None:
    name = file.stem.split("-")[0]
    models.segmenter(name, variant=file.stem.removeprefix(name).removeprefix("-"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "stn"}, "there is no method 'stn'; choose from masktrack"),
        ({"variant": "small"}, "stm ships no variant 'small'; it has paper-form"),
        (
            {"weights": None, "variant": "small"},
            "the variant 'small' is one of the shipped weights; leave it out with None",
        ),
        ({"device": "cuda:99"}, "this machine has no device 'cuda:99'; use"),
        ({"device": "gpu"}, "this machine has no device 'gpu'"),
        ({"device": "meta"}, "this machine has no device 'meta'"),
        ({"device": 1.5}, "this machine has no device '1.5'"),
        (
            {"limits": 3},
            "stm's segmenter does not know the option 'limits'; "
            "choose from memory, every, limit, policy, min_confidence",
        ),
        ({"online_steps": 3}, "stm's segmenter does not know the option 'online_steps'"),
        ({"short_side": "large"}, "the short side is 'large'; give a number of pixels, or native"),
        ({"network": nn.Identity()}, "stm works with a network of class STM, not Identity"),
        ({"network": models.build("masktrack", width=4)}, "stm works with a network of class STM, not MaskTrack"),
    ],
)
def test_what_cannot_be_is_a_sentence(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(TutorialError, match=message):
        models.segmenter(**{"name": "stm", **arguments})


@pytest.mark.parametrize("name", models.METHODS)
def test_every_method_names_the_options_that_it_knows(name: str) -> None:
    with pytest.raises(TutorialError, match=rf"{name}'s segmenter does not know the option 'speed'; choose from \w+"):
        models.segmenter(name, None, speed=3)


def test_a_bad_device_is_said_before_anything_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "trained", lambda *_: pytest.fail("the weights were read"))
    with pytest.raises(TutorialError, match="no device"):
        models.segmenter("stm", device="cuda:99")


def test_the_network_of_the_caller_is_taken_as_it_is() -> None:
    network = models.build("stm", width=4)
    assert isinstance(network, STM)
    made = models.segmenter("stm", network=network)
    assert isinstance(made, STMSegmenter)
    with torch.no_grad():
        network.decoder.predict.bias += 1
    assert torch.equal(made.network.decoder.predict.bias, network.decoder.predict.bias)  # the same tensors
    assert network.training
    moved = models.segmenter("stm", network=network, device="cpu")
    assert isinstance(moved, STMSegmenter)


def written(path: Path, **about: str) -> Path:
    network = models.build("masktrack")
    save_weights(path, network, {"method": "masktrack", "size": "small", **about})
    return path


def test_the_file_says_how_many_lines_and_steps(tmp_path: Path) -> None:
    path = written(tmp_path / "told.safetensors", lines="64", enlarge="1.5", tuning="3")
    made = models.segmenter("masktrack", path)
    assert isinstance(made, MaskTrackSegmenter)
    assert (made.lines, made.enlarge) == (64, 1.5)
    assert made.online is not None
    otherwise = models.segmenter("masktrack", path, short_side=32, online_steps=0)
    assert isinstance(otherwise, Resized)
    assert otherwise.short_side == 32
    assert isinstance(otherwise.inner, MaskTrackSegmenter)
    assert otherwise.inner.lines is None
    assert otherwise.inner.online is None
    native = models.segmenter("masktrack", path, short_side="native")
    assert isinstance(native, MaskTrackSegmenter)
    assert (native.lines, native.enlarge) == (None, 1)
    plain = models.segmenter("masktrack", written(tmp_path / "plain.safetensors"))
    assert isinstance(plain, MaskTrackSegmenter)
    assert (plain.lines, plain.enlarge) == (128, 1)  # what goes without saying for small networks
    assert plain.online is None


@pytest.mark.parametrize(
    ("enlarge", "height", "width", "seen"),
    [
        (1, 96, 96, 64),
        (1, 200, 90, 64),
        (1, 65, 130, 64),
        (1, 64, 40, 40),
        (1.5, 65, 130, 64),
        (1.5, 64, 64, 64),
        (1.5, 60, 50, 64),
        (1.5, 60, 30, 45),  # as far as it may
        (1.5, 33, 57, 50),  # 49.5, rounded
    ],
)
def test_frames_are_shrunk_to_the_lines_and_enlarged_as_far_as_the_file_says(
    enlarge: float, height: int, width: int, seen: int
) -> None:
    frames = torch.rand(3, 3, height, width, generator=torch.Generator().manual_seed(0))
    mask = torch.zeros(height, width, dtype=torch.uint8)
    mask[10:30, 5:25] = 1
    network = models.build("masktrack", width=4)
    assert min(working_size(64, enlarge, height, width)) == seen
    followed, resized, plain = (models.segmenter("masktrack", network=network) for _ in range(3))
    followed.lines, followed.enlarge = 64, enlarge  # type: ignore[attr-defined]
    expected = plain if seen == min(height, width) else Resized(resized, seen)
    assert torch.equal(*(propagate(each, frames, mask, probabilities=True) for each in (followed, expected)))


def test_a_corrected_object_and_a_new_one_are_enlarged_with_the_frame() -> None:
    frames = torch.rand(4, 3, 40, 56, generator=torch.Generator().manual_seed(0))
    mask, other = torch.zeros(2, 40, 56, dtype=torch.uint8)
    mask[5:20, 5:20], other[25:35, 30:50] = 1, 2
    answers = []
    network = models.build("stm", width=8)
    for enlarged in (True, False):
        method = models.segmenter("stm", network=network)
        if enlarged:
            method.lines, method.enlarge = 64, 1.5  # type: ignore[attr-defined]
        else:
            method = Resized(method, 60)
        method.begin(frames[0], mask)
        method.step(frames[1])
        method.introduce(frames[1], other)
        method.step(frames[2])
        method.correct(frames[2], mask, absent=[2])
        answers.append(method.step(frames[3]))
    assert answers[0].shape == (3, 40, 56)
    assert torch.equal(*answers)


def test_lines_that_are_no_number_are_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(TutorialError, match="lines is 'many' in its metadata, and must be a whole number"):
        models.segmenter("masktrack", written(tmp_path / "x.safetensors", lines="many"))


def test_a_file_with_the_names_of_old_still_loads(tmp_path: Path) -> None:
    path = written(tmp_path / "new.safetensors")
    tensors, about = read_weights(path)
    olden = {"body.encoder.last.": "body.bottom.", "body.encoder.": "body."}

    def old(name: str) -> str:
        return next((name.replace(new, was) for new, was in olden.items() if name.startswith(new)), name)

    save_file({old(name): value for name, value in tensors.items()}, tmp_path / "old.safetensors", about)
    assert "body.bottom.conv1.weight" in (tmp_path / "old.safetensors").read_bytes().decode("latin-1")
    loaded = models.trained("masktrack", tmp_path / "old.safetensors").state_dict()
    assert loaded.keys() == tensors.keys()
    assert all(torch.equal(loaded[name], value) for name, value in tensors.items())


def test_models_load_no_data_and_no_training() -> None:
    modules = ", ".join(f"vos_tutorial.models.{name}" for name in models.METHODS)
    code = f"import sys, {modules}; print(*[m for m in sys.modules if m.startswith('vos_tutorial.')])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    rooms = {module.split(".")[1] for module in out}
    assert "models" in rooms
    assert not rooms & {"data", "training", "course", "recipes", "evaluation"}


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("masktrack", {"online_steps": 1.5}, "masktrack: online_steps cannot be 1.5; give a whole number"),
        ("masktrack", {"online_steps": "two"}, "masktrack: online_steps cannot be 'two'"),
        ("masktrack", {"online_steps": -1}, "masktrack: online_steps is -1; use 0 or more"),
        ("stcnn", {"online_steps": 1.5}, "stcnn: online_steps cannot be 1.5"),
        ("stcnn", {"gate": "wide"}, "stcnn: gate cannot be 'wide'; give a number"),
        ("stcnn", {"online": 3}, "stcnn: online cannot be 3; give a dictionary"),
        ("stm", {"every": "often"}, "stm: every cannot be 'often'"),
        ("stm", {"limit": 2.5}, "stm: limit cannot be 2.5"),
        ("stm", {"memory": 5}, "stm: there is no memory 5; choose from first, previous"),
        ("rgmp", {"scales": 1.0}, "rgmp: scales cannot be 1.0; give a list"),
        ("rgmp", {"scales": ["one"]}, "rgmp: scales cannot be 'one'; give a number"),
        ("rvos", {"recurrence": None}, "rvos: there is no recurrence None"),
        ("stm", {"short_side": True}, "the short side is True"),
        ("stm", {"weights": 5}, "weights are 5; give the path of a file, or shipped"),
        ("stm", {"weights": ""}, "weights are ''; give the path of a file, or shipped"),
    ],
)
def test_values_that_no_option_can_have(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(TutorialError, match=message):
        models.segmenter(name, **options)
