"""Weights files: what goes in comes out, and every way they can be wrong."""

from __future__ import annotations

import importlib
import json
import math
import resource
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from vos_tutorial import models, recipes
from vos_tutorial.errors import TutorialError
from vos_tutorial.models.stm import STMSegmenter
from vos_tutorial.models.weights import About, load_weights, read_about, read_weights, save_weights
from vos_tutorial.recipes import Recipe

METADATA = {"method": "masktrack", "size": "small", "seed": "0"}


class Net(nn.Module):
    def __init__(self, width: int = 4) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, width, 3), nn.BatchNorm2d(width)


class Other(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.decoder = nn.Linear(2, 2), nn.Linear(2, 2)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    save_weights(tmp_path / "net.safetensors", Net(), METADATA)
    return tmp_path / "net.safetensors"


def test_round_trip_with_integer_buffers_and_channels_last(tmp_path: Path) -> None:
    net = Net().to(memory_format=torch.channels_last)
    net.norm.num_batches_tracked += 7
    save_weights(tmp_path / "new" / "net.safetensors", net, METADATA)
    back = Net()
    assert load_weights(tmp_path / "new" / "net.safetensors", back) == METADATA
    for name, value in net.state_dict().items():
        assert torch.equal(back.state_dict()[name], value), name
        assert back.state_dict()[name].dtype == value.dtype
    assert net.conv.weight.is_contiguous(memory_format=torch.channels_last)  # saving changes nothing


def test_half_precision_is_stored_and_float32_restored(tmp_path: Path) -> None:
    net = Net(64)
    save_weights(tmp_path / "full", net, METADATA)
    save_weights(tmp_path / "half", net, METADATA, dtype=torch.float16)
    assert (tmp_path / "half").stat().st_size < 0.65 * (tmp_path / "full").stat().st_size
    back = Net(64)
    load_weights(tmp_path / "half", back)
    assert back.conv.weight.dtype == torch.float32
    assert torch.equal(back.conv.weight, net.conv.weight.half().float())
    assert back.norm.num_batches_tracked.dtype == torch.int64


def test_tied_weights_are_saved_twice_and_load(tmp_path: Path) -> None:
    net = Other()
    net.decoder.weight = net.encoder.weight
    save_weights(tmp_path / "tied", net, METADATA)
    back = Other()
    load_weights(tmp_path / "tied", back)
    assert torch.equal(back.decoder.weight, net.encoder.weight)


@pytest.mark.parametrize("key", ["method", "size"])
def test_metadata_must_say_what_it_is(tmp_path: Path, key: str) -> None:
    with pytest.raises(TutorialError, match=f"no '{key}'"):
        save_weights(tmp_path / "net", Net(), {k: v for k, v in METADATA.items() if k != key})
    assert not (tmp_path / "net").exists()


@pytest.mark.parametrize(("value", "dtype"), [(float("nan"), torch.float32), (1e6, torch.float16)])
def test_values_that_cannot_be_stored(tmp_path: Path, value: float, dtype: torch.dtype) -> None:
    net = Net()
    net.conv.bias.data[1] = value
    with pytest.raises(TutorialError, match=r"conv\.bias is NaN or infinite as torch\.float"):
        save_weights(tmp_path / "net", net, METADATA, dtype=dtype)
    assert not list(tmp_path.iterdir())


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(TutorialError, match=r"there is no weights file .*nowhere\.safetensors"):
        load_weights(tmp_path / "nowhere.safetensors", Net())
    with pytest.raises(TutorialError, match="there is no weights file"):
        load_weights(tmp_path, Net())


@pytest.mark.parametrize("keep", [-1, 0.5])
def test_truncated_file(saved: Path, keep: float) -> None:
    data = saved.read_bytes()
    saved.write_bytes(data[:-1] if keep == -1 else data[: int(len(data) * keep)])
    net = Net()
    before = net.conv.weight.clone()
    with pytest.raises(TutorialError, match=r"net\.safetensors is cut short .*copy or train it again"):
        load_weights(saved, net)
    assert torch.equal(net.conv.weight, before)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 a zip file, say", b"\x08\x00\x00\x00\x00\x00\x00\x00not json"])
def test_not_a_safetensors_file(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "net").write_bytes(content)
    with pytest.raises(TutorialError, match="is not a safetensors file"):
        load_weights(tmp_path / "net", Net())


def test_another_method(tmp_path: Path) -> None:
    save_weights(tmp_path / "net", Other(), {**METADATA, "method": "rgmp"})
    with pytest.raises(TutorialError, match=r"\(rgmp, small\) is of another method: it shares 0 of 7 tensor names"):
        load_weights(tmp_path / "net", Net())


def test_another_size_names_the_first_tensor_with_both_shapes(saved: Path) -> None:
    net = Net(8)
    before = net.conv.weight.clone()
    with pytest.raises(TutorialError, match=r"conv\.weight has shape \[4, 3, 3, 3\] there and \[8, 3, 3, 3\] in Net"):
        load_weights(saved, net)
    assert torch.equal(net.conv.weight, before)


def test_another_depth_names_the_tensor_that_is_missing(saved: Path) -> None:
    deeper = Net()
    deeper.extra = nn.Conv2d(4, 4, 1)
    with pytest.raises(TutorialError, match=r"the file has no 'extra\.weight'"):
        load_weights(saved, deeper)
    save_weights(saved, deeper, METADATA)
    with pytest.raises(TutorialError, match=r"Net has no 'extra\.(weight|bias)'"):
        load_weights(saved, Net())


def test_full_disk_leaves_the_old_file_and_nothing_else(saved: Path) -> None:
    before = saved.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (300, hard))
    try:
        with pytest.raises(TutorialError, match=r"cannot write .*net\.safetensors .* intact; free some space"):
            save_weights(saved, Net(), METADATA)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert saved.read_bytes() == before
    assert [p.name for p in saved.parent.iterdir()] == [saved.name]


# -------------------------------------------------------------------------- what a file says of itself


def of(path: Path, method: str, size: str = "small", **told: str) -> Path:
    """A file as ``train`` writes it, with a network of that form."""
    options = json.loads(told.get("options", "{}"))
    save_weights(path, models.build(method, size, **options), {"method": method, "size": size, **told})
    return path


def used_as(said: About | Recipe) -> tuple[object, ...]:
    """How a network is used."""
    return said.lines, said.enlarge, said.tuning, dict(said.segmenter)


def every_recipe() -> Iterator[tuple[str, Recipe]]:
    """All sizes and variants of all methods, with a name for the test."""
    for method in recipes.methods():
        module = importlib.import_module(f"vos_tutorial.recipes.{method}")
        for name, recipe in {**module.RECIPES, **module.VARIANTS}.items():
            yield f"{method}, {name}", recipe


@pytest.mark.parametrize("recipe", [pytest.param(recipe, id=name) for name, recipe in every_recipe()])
def test_a_file_says_how_its_recipe_uses_the_network(recipe: Recipe, tmp_path: Path) -> None:
    about = {"method": recipe.method, "size": recipe.network, **recipe.use()}
    save_weights(tmp_path / "w", nn.Linear(1, 1), about)
    assert used_as(read_about(tmp_path / "w")) == used_as(recipe)


# The pretrained features of label propagation are no method's network.
SHIPPED = [p for p in sorted(models.SHIPPED.glob("*.safetensors")) if p.stem.split("-")[0] in models.METHODS]


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_every_shipped_file_is_a_method_and_a_variant(path: Path) -> None:
    assert len(SHIPPED) == 18
    method, _, variant = path.stem.partition("-")
    network = models.trained(method, variant=variant)
    about = read_about(path)
    recipe = recipes.variant(method, "photos") if variant == "photos" else recipes.load(method, "cpu")
    assert (about.method, about.size) == (method, "small")
    assert used_as(about) == used_as(recipe)
    by_path = models.trained(method, path)
    assert all(torch.equal(v, by_path.state_dict()[k]) for k, v in network.state_dict().items())


@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("masktrack", {"width": 8}),
        ("rgmp", {"width": 8, "align_corners": True}),
        ("rvos", {"width": 8, "hidden": 16, "one_shot": False}),
        ("stm", {"width": 8, "affinity": "dot", "shared_keys": False, "penalty": 0.5}),
        ("stcnn", {"width": 8, "scaffold": True, "delta": 2}),
    ],
)
def test_options_come_back(tmp_path: Path, method: str, options: dict) -> None:
    path = of(tmp_path / "w", method, options=json.dumps(options), lines="96", enlarge="1.25", tuning="7")
    network = models.trained(method, path)
    again = models.build(method)
    with pytest.raises(TutorialError, match="another"):
        load_weights(path, again)
    assert not network.training
    assert getattr(network, "penalty", 0.5) == 0.5
    assert getattr(network, "delta", 2) == 2
    about = read_about(path)
    assert (about.lines, about.enlarge, about.tuning, about.options) == (96, 1.25, 7, options)


def test_paper_size_comes_back(tmp_path: Path) -> None:
    path = of(tmp_path / "w", "masktrack", "paper", options='{"head": "largefov"}')
    network = models.trained("masktrack", path)
    assert sum(p.numel() for p in network.parameters()) == 20_486_530
    assert read_about(path).lines is None
    start = models.build("masktrack", "paper", head="largefov")
    models.start_from("masktrack", start, path)
    assert all(torch.equal(v, network.state_dict()[k]) for k, v in start.state_dict().items())


@pytest.mark.parametrize(
    ("told", "complaint"),
    [
        ({"options": "{width: 8}"}, r"w: the network's options in its metadata cannot be read"),
        ({"options": "[1]"}, r"cannot be read \(\[1\] is no dictionary\)"),
        ({"options": '{"wdith": 8}'}, r"says what cannot be built: stm: the network of stm does not know .*'wdith'"),
        ({"options": '{"width": "wide"}'}, r"width cannot be 'wide'; give a whole number"),
        ({"options": '{"width": 4}'}, r"of another size: .* build the network with the size"),
        ({"size": "large"}, r"says what cannot be built: there is no size 'large' of stm"),
        ({"method": "rgmp"}, r"w is of another method: it holds weights of rgmp, not of stm; ask for rgmp"),
        ({"lines": "many"}, r"lines is 'many' in its metadata"),
        ({"enlarge": "much"}, r"enlarge is 'much' in its metadata, and must be 1 or more"),
        ({"enlarge": "0.5"}, r"enlarge is '0.5' in its metadata"),
        ({"enlarge": "inf"}, r"enlarge is 'inf' in its metadata"),
        ({"tuning": "-1"}, r"tuning is '-1' in its metadata"),
        ({"segmenter": "[1]"}, r"w: the segmenter's options in its metadata cannot be read \(\[1\] is no"),
    ],
)
def test_what_a_file_says_is_checked(tmp_path: Path, told: dict[str, str], complaint: str) -> None:
    network = models.build("stm", width=8)
    about = {"method": "stm", "size": "small", "options": '{"width": 8}', **told}
    save_weights(tmp_path / "w", network, about)
    with pytest.raises(TutorialError, match=complaint):
        models.trained("stm", tmp_path / "w")


def test_a_segmenter_follows_what_its_file_says(tmp_path: Path) -> None:
    about = {
        "method": "stm",
        "size": "small",
        "options": '{"width": 8}',
        "segmenter": '{"limit": 4, "policy": "even"}',
    }
    save_weights(tmp_path / "w", models.build("stm", width=8), about)
    told = models.segmenter("stm", tmp_path / "w")
    asked = models.segmenter("stm", tmp_path / "w", limit=7)
    for made, limit in ((told, 4), (asked, 7)):
        assert isinstance(made, STMSegmenter)
        assert (made.memory.limit, made.memory.policy) == (limit, "even")
    save_weights(tmp_path / "w", models.build("stm", width=8), {**about, "segmenter": '{"limt": 4}'})
    with pytest.raises(TutorialError, match="limt"):
        models.segmenter("stm", tmp_path / "w")


def test_variants_that_do_not_ship(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(TutorialError, match="stm ships no variant 'cured'; it has paper-form, paper-form-cured"):
        models.trained("stm", variant="cured")
    with pytest.raises(TutorialError, match="leave it out with mine"):
        models.trained("stm", "mine", variant="paper-form")
    monkeypatch.setattr(models, "SHIPPED", tmp_path)
    with pytest.raises(TutorialError, match="rgmp ships no variant 'x'; it has none"):
        models.trained("rgmp", variant="x")


@pytest.mark.parametrize("length", range(32))
def test_a_cut_file_is_no_pickle_whatever_its_length_says(tmp_path: Path, length: int) -> None:
    """One header in 32 is so long that the file's first byte is that of a pickle."""
    save_weights(tmp_path / "w", nn.Linear(1, 1), {"method": "stm", "size": "small", "note": "x" * (8 * length)})
    whole = (tmp_path / "w").read_bytes()
    (tmp_path / "w").write_bytes(whole[:100])
    with pytest.raises(TutorialError, match="is cut short"):
        read_about(tmp_path / "w")


def test_files_of_torch_save_name_the_way_on(tmp_path: Path) -> None:
    state, path = Other().state_dict(), tmp_path / "net.pth"
    way = r"if a paper's authors released it, load it with vos_tutorial\.models\.official\.load_official"
    for held, said in (
        (state, "one of PyTorch; " + way),
        ({"state_dict": state, "epoch": 3}, "with the weights under 'state_dict'; " + way),
        ({"plan": "{}", "stage": 0, "network": state}, r"the checkpoint of a training; .*weights\.safetensors"),
    ):
        torch.save(held, path)
        for door in (lambda: models.trained("stm", path), lambda: read_about(path)):
            with pytest.raises(TutorialError, match=said):
                door()
    path.write_bytes(b"\x80\x02}q\x00.")  # a pickle of Python 2's time
    with pytest.raises(TutorialError, match=way):
        read_about(path)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda x: x * math.nan, "stem.weight holds NaN or infinite numbers; copy or train it again"),
        (lambda x: x / 0, "stem.weight holds NaN or infinite numbers"),
        (lambda x: x.to(torch.int32), "stem.weight is torch.int32 there and torch.float32 in the network"),
    ],
)
def test_numbers_that_no_training_gave(
    tmp_path: Path, spoil: Callable[[torch.Tensor], torch.Tensor], message: str
) -> None:
    """A network with NaN in it answers "all background", and one of whole numbers anything."""
    tensors, metadata = read_weights(models.shipped_weights("masktrack"))
    name = next(name for name in tensors if name.endswith("stem.weight"))
    save_file({**tensors, name: spoil(tensors[name].float())}, tmp_path / "w.safetensors", metadata=metadata)
    with pytest.raises(TutorialError, match=message):
        models.segmenter("masktrack", tmp_path / "w.safetensors")


@pytest.mark.parametrize("method", ["", None])
def test_a_file_that_names_no_method(tmp_path: Path, method: str | None) -> None:
    tensors, metadata = read_weights(models.shipped_weights("masktrack"))
    said = {k: v for k, v in {**metadata, "method": method}.items() if v is not None}
    save_file(tensors, tmp_path / "w.safetensors", metadata=said)
    with pytest.raises(TutorialError, match="does not say which method it is of"):
        models.segmenter("masktrack", tmp_path / "w.safetensors")
