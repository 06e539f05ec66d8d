"""The authors' weights in our networks: equal to their code's numbers, and a sentence for any other file.

Two sets of numbers. ``../shared/parity`` holds outputs of the authors' own code; it is large, not ours to ship, and
its tests skip where it is missing. ``fixtures/rgmp.json`` holds outputs of *our* network, taken when it agreed with
the authors'; its weights are a function of their names. ``python tests/test_official.py`` writes it anew.
"""

from __future__ import annotations

import importlib.util
import json
import os
import pickle
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from vos_tutorial.errors import TutorialError
from vos_tutorial.models import build, official
from vos_tutorial.models.official import RGMP_NAMES, RVOS_NAMES, load_official, their_name
from vos_tutorial.models.rgmp import RGMP, RGMPSegmenter
from vos_tutorial.models.rvos import RVOS
from vos_tutorial.propagation import propagate

PARITY = Path(__file__).resolve().parents[1] / "../shared/parity"
FIXTURE = Path(__file__).parent / "fixtures/rgmp.json"
needs_parity = pytest.mark.skipif(
    not (PARITY / "rgmp.pt").exists(), reason="the authors' numbers (../shared/parity) are not on this machine"
)

# ------------------------------------------------------------------------------------- weights made of their names


def made_of(name: str, shape: torch.Size) -> Tensor:
    """A tensor that depends on its name and shape only, and keeps a deep network's numbers in a sane range."""
    if name.endswith("num_batches_tracked"):
        return torch.tensor(0)
    random = np.random.Generator(np.random.PCG64(zlib.crc32(name.encode()))).random(tuple(shape)) * 2 - 1
    if len(shape) == 4:
        random *= np.sqrt((6 if name.startswith("Encoder") else 3) / np.prod(shape[1:]))
    elif name.endswith("running_var"):
        random = 1 + 0.5 * random
    elif name.endswith("weight"):
        random = 0.2 + 0.1 * random if ".bn3." in name else 1 + 0.2 * random
    else:
        random *= 0.1
    return torch.from_numpy(random.astype(np.float32))


def rgmp_shapes() -> dict[str, torch.Size]:
    """Names and shapes of the authors' state dict, from our network and the map of the names."""
    with torch.device("meta"):
        ours = {name: value.shape for name, value in build("rgmp", "paper").state_dict().items()}
    shapes = {"Encoder.mean": torch.Size([1, 3, 1, 1]), "Encoder.std": torch.Size([1, 3, 1, 1])}
    for name, shape in ours.items():
        if name == "encoder.conv1.weight":
            shapes["Encoder.conv1.weight"] = torch.Size([64, 3, 7, 7])
            shapes["Encoder.conv1_p.weight"] = torch.Size([64, 1, 7, 7])
        elif name == "encoder.conv1.bias":
            shapes["Encoder.conv1_p.bias"] = shape
        elif "_reference." in name:
            assert their_name(name, RGMP_NAMES) in shapes
        elif name.endswith("_target.weight"):
            shapes[their_name(name, RGMP_NAMES)] = torch.Size([shape[0], 2 * shape[1], *shape[2:]])
        else:
            assert their_name(name, RGMP_NAMES) not in shapes
            shapes[their_name(name, RGMP_NAMES)] = shape
    return shapes


@pytest.fixture(scope="module")
def state() -> dict[str, Tensor]:
    """A state dict in the authors' form."""
    return {name: made_of(name, shape) for name, shape in rgmp_shapes().items()}


@pytest.fixture(scope="module")
def network(state: dict[str, Tensor]) -> RGMP:
    """Ours, filled with it."""
    made = load_official("rgmp", state)
    assert isinstance(made, RGMP)
    return made


# --------------------------------------------------------------------------------------------- our own numbers


@torch.no_grad()
def measured(network: RGMP) -> dict[str, Any]:
    """What the fixture holds: every level of one step, and a roll-out with two objects, on made-up pictures."""
    y, x = torch.meshgrid(torch.arange(64), torch.arange(64), indexing="ij")
    picture = torch.stack([(x * (c + 2) + y * (5 - c)) % 17 / 16 for c in range(3)])
    blob = (((x - 20) ** 2 + (y - 30) ** 2) < 150).float()
    found: dict[str, Any] = {}
    for align_corners in (False, True):
        network.align_corners = align_corners
        maps = network.encode(picture.flip(2)[None], (blob * 0.8)[None])
        scores = network.decode(maps, network.prepare(network.encode(picture[None], blob[None])[-1]))
        step = {f"1/{2 ** (i + 2)}": level.flatten().tolist()[::11] for i, level in enumerate(scores.levels)}
        step |= {"logits": scores.logits[0, :, ::9, ::9].flatten().tolist()}
        found[f"align_corners {align_corners}"] = {k: [round(v, 5) for v in values] for k, values in step.items()}
    ids = torch.zeros(40, 50, dtype=torch.uint8)
    ids[5:20, 8:30], ids[22:38, 25:45] = 3, 7
    frames = torch.stack([picture[:, i : 40 + i, i : 50 + i] for i in (0, 4, 8)])
    for scales in ((1.0,), (0.5, 1.0)):
        rolled = propagate(RGMPSegmenter(network, scales=scales), frames, ids, probabilities=True)
        found[f"scales {list(scales)}"] = [round(v, 6) for v in rolled[1:, :, ::7, ::7].flatten().tolist()]
    return found


def test_the_numbers_are_those_that_agreed_with_the_authors(network: RGMP) -> None:
    expected, found = json.loads(FIXTURE.read_text()), measured(network)
    assert expected.keys() == found.keys()
    for key, value in expected.items():
        if isinstance(value, dict):
            assert value.keys() == found[key].keys()
            for name, numbers in value.items():
                np.testing.assert_allclose(found[key][name], numbers, atol=1e-4, rtol=0, err_msg=f"{key} {name}")
        else:
            np.testing.assert_allclose(found[key], value, atol=1e-4, rtol=0, err_msg=key)
            assert 0.1 < np.std(value) < 0.5  # a fixture of zeros and ones would prove little
    one, other = (np.array(expected[f"align_corners {a}"]["logits"]) for a in (False, True))
    assert np.abs(one - other).max() > 0.02


# ------------------------------------------------------------------------------------------- the authors' numbers


@pytest.fixture(scope="module")
def authors() -> tuple[RGMP, dict[str, Any]]:
    """Our network with the weights behind the authors' numbers, and the numbers."""
    spec = importlib.util.spec_from_file_location("rgmp_weights", PARITY / "rgmp_weights.py")
    assert spec is not None
    assert spec.loader is not None
    weights = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(weights)
    made = load_official("rgmp", {f"module.{name}": value for name, value in weights.state_dict().items()})
    assert isinstance(made, RGMP)
    return made, torch.load(PARITY / "rgmp.pt", weights_only=True)


@needs_parity
def test_the_names_are_the_authors_names() -> None:
    lines = (line.split("\t") for line in (PARITY / "rgmp_keys.txt").read_text().splitlines())
    assert {name: str(tuple(shape)) for name, shape in rgmp_shapes().items()} == dict(lines)


def worst(a: Tensor, b: Tensor) -> float:
    assert a.shape == b.shape
    return float((a - b).abs().max())


@needs_parity
@pytest.mark.parametrize("align_corners", [False, True])
@torch.no_grad()
def test_every_level_equals_the_authors(authors: tuple[RGMP, dict[str, Any]], align_corners: bool) -> None:
    network, kept = authors
    network.align_corners = align_corners
    given, expected = kept["inputs"], kept["outputs"][f"align_corners_{str(align_corners).lower()}"]
    reference = network.encode(given["ref_F"], given["ref_P"])[-1]
    maps = network.encode(given["tgt_F"], given["tgt_P"])
    scores = network.decode(maps, network.prepare(reference))
    assert worst(reference, expected["ref_r5"]) < 1e-4
    for i, level in enumerate(maps):
        assert worst(level, expected[f"r{i + 2}"]) < 1e-4
    for i, level in enumerate(scores.levels):
        assert worst(level, expected[f"p{i + 2}"]) < 1e-4
    assert worst(scores.logits, expected["p"]) < 1e-4
    assert worst(scores.logits.softmax(1)[:, 1], expected["prob_fg"]) < 1e-5


class Unpadded(RGMPSegmenter):
    """The authors' roll-outs were made without the padding of frames; other scales are rounded by their rule."""

    def _start(self, frame: Tensor) -> None:
        self.padding = "least"
        super()._start(frame)
        self.padding = "authors"


@needs_parity
@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("scales", [(1.0,), (0.5, 0.75, 1.0)])
def test_roll_outs_equal_the_authors(
    authors: tuple[RGMP, dict[str, Any]], align_corners: bool, scales: tuple[float, ...]
) -> None:
    network, kept = authors
    network.align_corners = align_corners
    given, expected = kept["inputs"], kept["outputs"][f"align_corners_{str(align_corners).lower()}"]
    kind = "single_scale" if len(scales) == 1 else "multi_scale"
    one = given["mask_obj1"].to(torch.uint8)
    both = torch.where(given["mask_obj2"] > 0, 2, one).to(torch.uint8)
    frames = given["clip"][: 4 if len(scales) == 1 else 3]  # three scales take their time
    alone = propagate(Unpadded(network, scales), frames, one, probabilities=True)
    assert worst(alone[:, 1], expected[f"so_{kind}"][: len(frames)]) < 1e-4
    together = propagate(Unpadded(network, scales), frames, both, probabilities=True)
    assert worst(together.transpose(0, 1), expected[f"mo_{kind}"][:, : len(frames)]) < 1e-4


# --------------------------------------------------------------------------------------------------- the door


def test_the_network_is_ready_to_use(network: RGMP, state: dict[str, Tensor]) -> None:
    assert not network.training
    assert load_official("rgmp", state).align_corners is True
    assert torch.equal(network.encoder.conv1.weight[:, 3:], state["Encoder.conv1_p.weight"])
    assert torch.equal(network.decoder.compare.left_reference.weight, state["Decoder.GC.conv_l1.weight"][:, 2048:])
    assert torch.equal(network.encoder.layers[2][5].bn2.running_var, state["Encoder.res4.5.bn2.running_var"])
    norm = network.encoder.bn1
    network.train()
    assert not norm.training  # frozen, as in the authors' training
    assert not norm.weight.requires_grad
    assert network.decoder.heads[0].weight.requires_grad
    network.eval()


@pytest.mark.parametrize("zipped", [True, False])
def test_a_file_of_data_parallel_and_of_old_pytorch(
    tmp_path: Path, network: RGMP, state: dict[str, Tensor], zipped: bool
) -> None:
    """``module.`` before the names, no counts of batches, and the file format of 2018."""
    old = {f"module.{k}": v for k, v in state.items() if not k.endswith("num_batches_tracked")}
    assert len(old) == 372 - 53
    torch.save(old, tmp_path / "weights.pth", _use_new_zipfile_serialization=zipped)
    made = load_official("rgmp", str(tmp_path / "weights.pth"))
    assert all(torch.equal(value, made.state_dict()[name]) for name, value in network.state_dict().items())


def refused(checkpoint: Any, match: str, name: str = "rgmp") -> None:
    with pytest.raises(TutorialError, match=match) as caught:
        load_official(name, checkpoint)
    assert "\n" not in str(caught.value)


def test_other_networks_are_refused(state: dict[str, Tensor]) -> None:
    refused(build("masktrack").state_dict(), "the state dict is not the official rgmp: it has no tensor 'Encoder")
    lost = {k: v for k, v in state.items() if k != "Decoder.RF3.convMM2.bias"}
    refused(lost, "it has no tensor 'Decoder.RF3.convMM2.bias'; take the weights that the authors of rgmp released")
    refused(
        state | {"Decoder.pred2.weight": torch.zeros(3, 256, 3, 3)}, r"decoder.heads.0.weight .* \[3, 256, 3, 3\]"
    )
    refused(state | {"Decoder.GC.conv_l1.weight": torch.zeros(3)}, "the state dict is not the official rgmp: ")
    refused(state | {"Encoder.conv1.weight": torch.zeros(2, 3, 7, 7)}, "the state dict is not the official rgmp: ")
    refused(state, "there are no official weights for 'masktrack'.*; choose from .*rgmp", name="masktrack")


def test_other_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    refused(path, r"there is no file .*weights\.pth; download the authors' weights")
    refused(tmp_path, "there is no file")
    for content in (b"", b"<html>404</html>", bytes(5000)):
        path.write_bytes(content)
        refused(path, r"weights\.pth is not a PyTorch checkpoint.*; download it again")
    for thing in ({"epoch": 3, "state_dict": {}}, [torch.zeros(2)], {}):
        torch.save(thing, path)
        refused(path, r"weights\.pth is not a state dict")


@pytest.mark.parametrize("zipped", [True, False])
def test_a_truncated_file_is_a_sentence(tmp_path: Path, zipped: bool) -> None:
    path = tmp_path / "weights.pth"
    torch.save({"module.a": torch.randn(100, 100)}, path, _use_new_zipfile_serialization=zipped)
    whole = path.read_bytes()
    for share in (0.05, 0.5, 0.99):
        path.write_bytes(whole[: int(len(whole) * share)])
        refused(path, r"weights\.pth is not a PyTorch checkpoint, or is cut short; download it again")


class Trap:
    """Makes a folder when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("form", ["zip", "legacy", "pickle 2", "pickle 4"])
def test_code_in_a_file_is_not_run(tmp_path: Path, form: str) -> None:
    path, proof = tmp_path / "weights.pth", tmp_path / "sprung"
    trap = {"module.Encoder.mean": Trap(proof)}
    if form.startswith("pickle"):
        path.write_bytes(pickle.dumps(trap, protocol=int(form[-1])))
    else:
        torch.save(trap, path, _use_new_zipfile_serialization=form == "zip")
    refused(
        path, "is not a PyTorch checkpoint" if form == "pickle 4" else "holds more than tensors, which could run code"
    )
    assert not proof.exists()


# ------------------------------------------------------------------------------------------------------- RVOS


def rvos_shapes(one_shot: bool) -> dict[str, torch.Size]:
    """Names and shapes of the authors' two state dicts, joined, from our network and the map of the names."""
    with torch.device("meta"):
        ours = build("rvos", "paper", one_shot=one_shot).state_dict()
    shapes = {their_name(name, RVOS_NAMES): value.shape for name, value in ours.items()}
    assert len(shapes) == len(ours)
    return shapes


def rvos_theirs(one_shot: bool) -> dict[str, Tensor]:
    """Tensors of those shapes, each with a number of its own in all places, which take no memory."""
    return {
        name: torch.tensor(i if name.endswith("_tracked") else float(i)).expand(shape)
        for i, (name, shape) in enumerate(rvos_shapes(one_shot).items())
    }


def test_names_of_rvos() -> None:
    ours = official.rvos_state({name: torch.tensor(float(i)) for i, name in enumerate(rvos_shapes(one_shot=True))})
    assert sorted(ours.values()) == [float(i) for i in range(len(ours))]
    places = {name: float(i) for i, name in enumerate(rvos_shapes(one_shot=True))}
    for mine, name in {
        "encoder.conv1.weight": "encoder.base.conv1.weight",
        "encoder.layers.2.22.bn2.running_var": "encoder.base.layer3.22.bn2.running_var",
        "encoder.layers.0.0.downsample.1.bias": "encoder.base.layer1.0.downsample.1.bias",
        "heads.0.conv.weight": "encoder.sk5.weight",
        "heads.3.norm.running_mean": "encoder.bn2.running_mean",
        "cells.2.gates.bias": "decoder.clstm_list.2.Gates.bias",
        "predict.weight": "decoder.conv_out.weight",
    }.items():
        assert float(ours[mine]) == places[name], mine


@pytest.mark.skipif(not (PARITY / "rvos.pt").exists(), reason="the authors' numbers are not on this machine")
def test_the_names_of_rvos_are_the_authors_names() -> None:
    saved = torch.load(PARITY / "rvos.pt", weights_only=True)["state_dict"]
    found = {name: value.shape for name, value in saved.items() if not name.startswith("decoder_mask.")}
    assert found == rvos_shapes(one_shot=False)


@pytest.mark.parametrize("one_shot", [True, False])
def test_the_folder_of_rvos(tmp_path: Path, one_shot: bool) -> None:
    """Two files, ``module.`` before the names, and tensors that no network uses."""
    theirs = rvos_theirs(one_shot)
    extra = {"encoder": {"base.fc.weight": torch.zeros(3)}, "decoder": {"fc_stop.weight": torch.zeros(3)}}
    for part, more in extra.items():
        inside = {k.removeprefix(f"{part}."): v for k, v in theirs.items() if k.startswith(f"{part}.")}
        torch.save({f"module.{k}": v for k, v in (inside | more).items()}, tmp_path / f"{part}.pt")
    made = load_official("rvos", tmp_path)
    assert isinstance(made, RVOS)
    assert (made.one_shot, made.training) == (one_shot, False)
    assert torch.equal(made.cells[0].gates.weight, theirs["decoder.clstm_list.0.Gates.weight"])
    assert made.train().encoder.bn1.training  # the authors' batch norm goes on learning
    (tmp_path / "decoder.pt").unlink()
    refused(tmp_path, r"there is no file .*decoder\.pt; download the authors' weights", name="rvos")


def test_other_networks_are_no_rvos(tmp_path: Path) -> None:
    theirs = rvos_theirs(one_shot=True)
    refused(build("stm", width=4).state_dict(), "not the official rvos: it has no tensor 'encoder.base.conv1", "rvos")
    for name in ("decoder.clstm_list.0.Gates.weight", "encoder.sk4.bias"):
        lost = {k: v for k, v in theirs.items() if k != name}
        refused(lost, f"it has no tensor '{name}'; take the weights that the authors of rvos released", "rvos")
    for channels in (384, 386):  # one gate of a zero-shot network among those of a one-shot one; of neither
        wrong = theirs | {"decoder.clstm_list.0.Gates.weight": torch.zeros(()).expand(512, channels, 3, 3)}
        refused(wrong, r"cells\.\d\.gates\.weight would have the shape", "rvos")
    refused(tmp_path / "encoder.pt", "there is no file", "rvos")


def test_every_method_with_official_weights_can_be_built() -> None:
    for name, (options, _) in official.OFFICIAL.items():
        with torch.device("meta"):
            build(name, "paper", **options)


if __name__ == "__main__":
    made = load_official("rgmp", {name: made_of(name, shape) for name, shape in rgmp_shapes().items()})
    assert isinstance(made, RGMP)
    FIXTURE.write_text(json.dumps(measured(made)) + "\n")
