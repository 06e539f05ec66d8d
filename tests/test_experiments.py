"""What measures the notebooks: the trainings they name, networks tuned once and kept, and their yardsticks."""

from __future__ import annotations

import importlib
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from experiments import masktrack, runs, rvos, rvos_arrows, rvos_ingredients
from experiments import stcnn as tool
from vos_tutorial import recipes
from vos_tutorial.clip import Clip
from vos_tutorial.data.worlds.sprites import benchmark
from vos_tutorial.geometry import dilate
from vos_tutorial.models import build, for_inference, trained
from vos_tutorial.models.rvos import RVOS, RVOSSegmenter
from vos_tutorial.models.stcnn import STCNN, fine_tune
from vos_tutorial.models.weights import read_about, save_weights
from vos_tutorial.propagation import propagate
from vos_tutorial.recipes.stcnn import VARIANTS
from vos_tutorial.training import task
from vos_tutorial.training.command import _arguments, _recipe
from vos_tutorial.training.tasks import check_options


def test_the_commands_train_every_variant_with_three_seeds_and_the_long_run_once() -> None:
    found: dict[str, set[int]] = {}
    for out, command in tool.TRAININGS.commands(tool.trainings()):
        options = _arguments(command[command.index("train") + 1 :])
        name = options.variant or "recipe"
        assert out == tool.run_folder(name, options.seed)
        assert "," not in out.name
        assert " " not in out.name
        found.setdefault(name, set()).add(options.seed)
    assert found.keys() == {"recipe", *VARIANTS} - {"photos", "photos, larger"}  # the reader's pictures
    assert found.pop("long") == {0}
    assert set(map(tuple, map(sorted, found.values()))) == {(0, 1, 2)}
    assert all(tool.TRAININGS.recipe(name).steps == recipes.load("stcnn", "cpu").steps for name in ("recipe",))
    assert not any("," in tool.key(name) or "." in tool.key(name) for name in VARIANTS)


@pytest.fixture
def a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> STCNN:
    """A finished training that never took place: seed 0 of the recipe."""
    monkeypatch.setattr(tool.TRAININGS, "root", tmp_path)
    monkeypatch.setattr(tool, "TUNED", tmp_path / "tuned")
    monkeypatch.setattr(tool, "LADDER", (0, 1, 3))
    tool.loaded.cache_clear()
    torch.manual_seed(0)
    network = build("stcnn", scaffold=True)
    assert isinstance(network, STCNN)
    about = {"method": "stcnn", "size": "small", "options": json.dumps({"scaffold": True})}
    save_weights(tool.run_folder("recipe", 0) / "weights.safetensors", network, about)
    return network


def test_a_network_is_tuned_once_and_read_from_then_on(a_run: STCNN, monkeypatch: pytest.MonkeyPatch) -> None:
    frame, mask = torch.rand(3, 32, 48), torch.zeros(32, 48, dtype=torch.uint8)
    mask[4:16, 4:16], mask[20:30, 20:40] = 1, 2
    method = tool.Tuned("recipe", 0, 3)
    with torch.no_grad():
        method.begin(frame, mask)
        answer = method.step(frame)
    assert len(method.seconds) == 2
    assert min(method.seconds) > 0
    assert len(list(tool.TUNED.iterdir())) == 4  # two objects, and the shorter tuning of each

    whole = for_inference(a_run)
    again = fine_tune(whole, frame, mask == 2, steps=1)
    monkeypatch.setattr(tool.stcnn, "fine_tuning", None)  # from here on nothing can be tuned
    read, seconds = tool.tuned("recipe", 0, frame, mask == 2, 1)
    assert 0 < seconds < method.seconds[1]
    with torch.no_grad():
        for a, b in zip(read.state_dict().values(), again.state_dict().values(), strict=True):
            torch.testing.assert_close(a, b)
        method.begin(frame, mask)
        assert torch.equal(method.step(frame), answer)
        assert not torch.equal(method.networks[0].decoder.last[1].weight, method.networks[1].decoder.last[1].weight)
        assert torch.equal(tool.loaded("recipe", 0)[0].decoder.last[1].weight, whole.decoder.last[1].weight)
    ours, theirs = (n.generator.encoder.conv1.weight for n in (method.networks[0], method.network) if n.generator)
    assert ours is theirs


def test_two_ghosts_are_neither_sharp_nor_on_one_side() -> None:
    windows, truth, true, other = tool.futures(12, 64)
    assert windows.shape == (12, 4, 3, 64, 64)
    assert not (true == other).flatten(1).all(1).any()
    right = tool.compared(truth, truth, true, other)
    assert (right["mse"], right["sharpness"], right["one_side"]) == (0, 100, 100)
    empty = torch.full_like(truth, -0.5)
    nothing = tool.compared(empty, truth, true, other)
    assert (nothing["sharpness"], nothing["one_side"]) == (0, 0)
    mirrored = torch.where((dilate(other, 1) | dilate(true, 1))[:, None], empty, truth)
    ghosts = torch.where((true | other)[:, None], torch.zeros(()), mirrored)  # half as bright, in both places
    both = tool.compared(ghosts, truth, true, other)
    assert both["one_side"] == 0
    assert both["mse"] > 0
    assert 30 < both["fainter"] <= both["brighter"] < 70


def test_a_probe_reads_what_a_sum_can_tell_and_no_more() -> None:
    dice = torch.Generator().manual_seed(0)
    masks = torch.zeros(12, 16, 16, dtype=torch.bool)
    for i in range(12):
        masks[i, i % 6 : i % 6 + 6, i : i + 4] = True
    noise = torch.randn(12, 3, 16, 16, generator=dice)
    told = torch.cat([noise, noise[:, :1] + masks[:, None]], 1)  # the difference of two channels says it all
    full = masks.repeat_interleave(2, 1).repeat_interleave(2, 2)
    assert tool.probe(told[:6], masks[:6], told[6:], full[6:]) > 85
    assert tool.probe(noise[:6], masks[:6], noise[6:], full[6:]) < 40


def test_the_worlds_differ_in_what_they_say() -> None:
    worlds = tool.worlds(3, 48)
    window, frame, _ = worlds["frozen"]
    assert torch.equal(window, frame[:, None].expand_as(window))
    window, frame, truth = worlds["moving"]
    assert torch.equal(frame, worlds["frozen"][1])
    assert not torch.equal(window[:, -1], frame)
    assert torch.equal(window, worlds["jump"][0])  # the window does not see it come
    assert not (truth & worlds["jump"][2]).flatten(1).all()
    assert torch.equal(worlds["static"][0][:, 0], worlds["static"][1])


def test_an_object_jumps_out_of_the_gate() -> None:
    clip = tool.jumping(7_000_000)
    here, there = (clip.masks[t] > 0 for t in (tool.JUMP - 1, tool.JUMP))
    assert here.any()
    assert there.any()
    assert not (dilate(here, 8) & there).any()


EXPERIMENTS = {
    "masktrack": [(name, seed) for name in ("recipe", *masktrack.ABLATIONS) for seed in (0, 2)],
    "rgmp": [("long", 0), ("recipe", 1), ("hard feedback", 2)],
    "rvos": rvos.trainings(),
    "stm": [("lifelike", 0), ("paper form, from shared keys", 0), ("recipe", 2)],
    "stcnn": tool.trainings(),
}


@pytest.mark.parametrize("method", EXPERIMENTS)
def test_a_trainings_command_trains_its_recipe(method: str) -> None:
    """What ``--variant``, ``--profile`` and ``--set`` say is the recipe that results are quoted with."""
    trainings = importlib.import_module(f"experiments.{method}").TRAININGS
    folders = set()
    for name, seed in EXPERIMENTS[method]:
        command = trainings.command(name, seed)
        options = _arguments(command[command.index("train") + 1 :])
        assert _recipe(options) == trainings.recipe(name)
        assert (options.method, options.seed, options.out) == (method, seed, trainings.folder(name, seed))
        assert (options.start is not None) == (name in trainings.start)
        folders.add(trainings.folder(name, seed))
    assert len(folders) == len(EXPERIMENTS[method])


def test_what_ships_says_what_it_is(a_run: STCNN, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vos_tutorial.models.SHIPPED", tmp_path / "shipped")
    recipe = replace(recipes.load("stcnn", "cpu"), enlarge=1.5, segmenter={"online": {"batch": 1}})
    monkeypatch.setattr(tool.TRAININGS, "recipe", lambda name: recipe)
    tool.TRAININGS.ship("", "recipe", 0, "squares")
    tool.TRAININGS.ship("other", "recipe", 1, "squares")  # not finished: nothing is written
    assert [path.name for path in (tmp_path / "shipped").iterdir()] == ["stcnn.safetensors"]
    about = read_about(tmp_path / "shipped" / "stcnn.safetensors")
    assert (about.options, about.lines, about.tuning) == ({"scaffold": True}, 128, 60)
    assert (about.enlarge, about.segmenter) == (1.5, {"online": {"batch": 1}})
    assert about.metadata["steps"] == str(recipes.load("stcnn", "cpu").steps)
    shipped = trained("stcnn")
    assert all(torch.equal(v.half(), shipped.state_dict()[k].half()) for k, v in a_run.state_dict().items())


def test_what_is_taken_away_from_a_roll_out_changes_it_from_that_frame_on() -> None:
    clip = next(iter(benchmark(1, ["clean"])))
    clip = Clip(clip.frames[:5], clip.masks[:5], clip.name)
    network = trained("rvos")
    assert isinstance(network, RVOS)
    whole = propagate(RVOSSegmenter(network), clip.frames, clip.first_mask)
    found = {n: rvos_arrows.follow(network, clip, *how) for n, how in rvos_arrows.INTERRUPTED.items()}
    assert torch.equal(found["untouched"][1:], whole[1:])
    for name, start in (("h forgotten once", rvos_arrows.CUT), ("empty masks", 2)):
        assert torch.equal(found[name][1:start], whole[1:start])
        assert not torch.equal(found[name][start], whole[start])


def test_the_true_masks_that_are_fed_are_those_of_the_frame_before() -> None:
    clip = next(iter(benchmark(1, ["fast_motion"])))
    clip = Clip(clip.frames[:3], clip.masks[:3], clip.name)
    network = trained("rvos")
    assert isinstance(network, RVOS)
    found = rvos_arrows.fed_the_truth(network.eval(), clip, "S")
    for t in (0, 1, 2):  # without h, frame t alone with the mask that was fed gives the same
        alone = Clip(clip.frames[[t]], clip.masks[[max(0, t - 1)]], clip.name)
        assert torch.equal(rvos_arrows.fed_the_truth(network, alone, "S")[0], found[t])
    assert not torch.equal(rvos_arrows.fed_the_truth(network, clip, "ST")[1], found[1])


def test_an_answer_that_copies_what_it_was_fed_is_told_from_a_right_one(monkeypatch: pytest.MonkeyPatch) -> None:
    clip = next(iter(benchmark(1, ["fast_motion"])))
    fed = rvos_arrows.before(clip)
    assert all(torch.equal(fed.masks[t], clip.masks[t - 1]) for t in range(1, len(clip.masks)))
    network = build("rvos")  # neither answer asks it
    assert isinstance(network, RVOS)
    monkeypatch.setattr(rvos_arrows, "CLIPS", 2)
    answers = {"ST": lambda clip: torch.cat([clip.masks[:1], clip.masks[:-1]]), "S": lambda clip: clip.masks}
    monkeypatch.setattr(rvos_arrows, "fed_the_truth", lambda network, clip, way: answers[way](clip))
    for found in rvos_arrows.copied(network).values():
        assert found["ST"]["fed"] == found["S"]["right"] == 100
        assert found["ST"]["right"] == found["S"]["fed"] < 95


def test_exchanged_objects_get_another_slot_and_without_space_only_change_places() -> None:
    clip = next(c for c in benchmark(8, ["multiple_objects"]) if len(c.objects) == 2)
    other = rvos_arrows.exchanged(clip)
    assert other.objects == clip.objects
    assert torch.equal(other.masks == 1, clip.masks == 2)
    assert torch.equal(other.masks == 2, clip.masks == 1)
    network = trained("rvos")
    assert isinstance(network, RVOS)
    alone = [propagate(RVOSSegmenter(network, "T"), c.frames[:4], c.first_mask) for c in (clip, other)]
    assert torch.equal(alone[0] == 1, alone[1] == 2)
    assert torch.equal(alone[0] == 2, alone[1] == 1)


def test_each_ingredient_changes_one_thing() -> None:
    """All networks but the pretrained one begin with the same weights, and the open gates open nothing else."""
    first, of = {}, rvos_ingredients.INGREDIENTS
    for name in (name for name in of if name != "ImageNet encoder"):
        torch.manual_seed(0)
        first[name] = of[name].network().state_dict()
    plain = first["sprites"]
    for name, weights in first.items():
        extra = {k for k in weights if k not in plain}
        assert bool(extra) == ("sides" in of[name].options)
        assert all(k.startswith("sides.") for k in extra)
        changed = {k for k in plain if not torch.equal(plain[k], weights[k])}
        assert changed == ({f"cells.{i}.gates.bias" for i in range(4)} if "open" in name else set())
    for i in range(4):
        before, after = (
            first[n][f"cells.{i}.gates.bias"].unflatten(0, (4, -1)) for n in ("sprites", "open forget gates")
        )
        assert bool((after[1] == 1).all())
        assert torch.equal(before[[0, 2, 3]], after[[0, 2, 3]])
    base = rvos_ingredients.recipe(of["sprites"])
    for name, ingredient in of.items():
        made = rvos_ingredients.recipe(ingredient)
        check_options(task("rvos"), made.stages)
        assert len({**ingredient.options, **ingredient.stage}) <= 1
        assert (made == base) == (not ingredient.options and not ingredient.stage), name


def test_a_deaf_network_no_longer_hears_its_coarsest_level() -> None:
    clip = next(c for c in benchmark(8, ["multiple_objects"]) if len(c.objects) == 2)
    clip = Clip(clip.frames[:3], clip.masks[:3], clip.name)
    torch.manual_seed(0)
    row = rvos_ingredients.measured(rvos_ingredients.reference().eval(), [clip])
    assert len(row["apart"]) == 4
    assert all(each > 0 for each in row["apart"])
    network = rvos_ingredients.reference()
    silent = rvos_ingredients.deaf(network, 0)
    kernels = [n.cells[1].kernels(n.above[1]) for n in (network, silent)]  # type: ignore[operator,union-attr]
    assert not bool(kernels[1].above.any())
    assert torch.equal(kernels[0].skip, kernels[1].skip)
    assert bool(kernels[0].above.any())


def test_a_page_lends_its_functions() -> None:
    """Those that are asked for, as the page has them; none of its cells runs."""
    found = runs.from_page("06_stcnn_adversarial_training", tool.PLAYED, F=F, nn=nn, torch=torch)
    assert set(tool.PLAYED) <= set(found)
    assert "hidden" not in found
    past, came, other = found["forks"](3, torch.Generator().manual_seed(0))
    assert past.shape == (3, 3, 16, 16)
    assert came.shape == other.shape == (3, 1, 16, 16)
    assert not came.equal(other)
    painter = found["play"](0.05, 0, steps=1)
    assert painter(past, torch.zeros(3, 4)).shape == came.shape
