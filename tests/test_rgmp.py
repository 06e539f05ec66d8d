"""RGMP: the network, the roll-outs it learns from, and inference with scales, objects and switches."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vos_tutorial import recipes
from vos_tutorial.__main__ import main as command_line
from vos_tutorial.clip import VOID, object_ids
from vos_tutorial.data.batches import Clips
from vos_tutorial.errors import TutorialError
from vos_tutorial.geometry import iou
from vos_tutorial.models import build, rgmp, segmenter
from vos_tutorial.models.layers import crop_padding
from vos_tutorial.models.rgmp import (
    RGMP,
    GlobalConvolution,
    Guidance,
    RGMPSegmenter,
    Scores,
    next_larger_multiple,
    next_multiple,
)
from vos_tutorial.profile import PROFILES
from vos_tutorial.propagation import Segmenter, propagate, soft_aggregate
from vos_tutorial.recipes import Stage
from vos_tutorial.recipes.rgmp import SHORT, VARIANTS
from vos_tutorial.rng import Rng
from vos_tutorial.training import task, train
from vos_tutorial.training.tasks.rgmp import (
    FAULTS,
    RGMPOptions,
    RGMPTask,
    draw_faults,
    one_object,
    reference_first,
    spoiled,
)


def parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def small(seed: int = 0) -> RGMP:
    """A small network, the same for the same seed."""
    torch.manual_seed(seed)
    return rgmp.build("small", width=8).eval()


# --------------------------------------------------------------------------------------------------------- network


def test_the_paper_size_has_the_papers_parameters() -> None:
    with torch.device("meta"):
        network = build("rgmp", "paper")
        frame, mask = torch.empty(2, 3, 64, 96), torch.empty(2, 64, 96)
    assert isinstance(network, RGMP)
    assert parameters(network) == 51_518_920
    assert parameters(network.encoder) == 23_511_232
    assert parameters(network.decoder.compare) == 15_598_592
    maps = network.encode(frame, mask)
    assert [tuple(m.shape[1:]) for m in maps] == [(256, 16, 24), (512, 8, 12), (1024, 4, 6), (2048, 2, 3)]
    scores = network.decode(maps, network.prepare(maps[-1]))
    assert scores.logits.shape == (2, 2, 64, 96)
    assert [tuple(level.shape) for level in scores.levels] == [(2, 2, *m.shape[2:]) for m in maps]
    assert network.align_corners is True


def test_the_small_size_is_the_same_class_and_ships() -> None:
    network = build("rgmp")
    assert isinstance(network, RGMP)
    assert 300_000 < parameters(network) < 1_000_000  # 2 MB in half precision
    assert network.align_corners is False
    assert parameters(build("rgmp", width=8)) < parameters(network) / 3
    maps = network.encode(torch.rand(1, 3, 32, 48), torch.rand(1, 32, 48))
    assert [tuple(m.shape[2:]) for m in maps] == [(16, 24), (8, 12), (4, 6), (2, 3)]
    assert network.decode(maps, network.prepare(maps[-1])).logits.shape == (1, 2, 32, 48)


def test_the_halves_are_a_convolution_of_the_concatenation() -> None:
    torch.manual_seed(1)
    block = GlobalConvolution(6, 4, k=7)
    target, reference = torch.randn(2, 6, 5, 9), torch.randn(2, 6, 5, 9)
    both = torch.cat([target, reference], dim=1)
    left = torch.cat([block.left_target.weight, block.left_reference.weight], dim=1)
    right = torch.cat([block.right_target.weight, block.right_reference.weight], dim=1)
    assert left.shape == (4, 12, 7, 1)
    assert right.shape == (4, 12, 1, 7)
    expected = block.left(F.conv2d(both, left, block.left_target.bias, padding=(3, 0)))
    expected = expected + block.right(F.conv2d(both, right, block.right_target.bias, padding=(0, 3)))
    torch.testing.assert_close(block(target, block.prepare(reference)), expected)


def test_a_cell_sees_seven_by_seven_cells_of_the_reference() -> None:
    block = GlobalConvolution(2, 2, k=7)
    reference = torch.zeros(1, 2, 15, 15, requires_grad=True)
    block(torch.zeros(1, 2, 15, 15), block.prepare(reference))[0, :, 7, 7].sum().backward()
    assert reference.grad is not None
    seen = reference.grad.abs().sum((0, 1)) > 0
    assert seen[4:11, 4:11].all()
    assert int(seen.sum()) == 49


def test_a_dilated_comparison_reaches_further_with_as_many_weights() -> None:
    block = GlobalConvolution(2, 2, k=5, dilation=3)
    reference = torch.zeros(1, 2, 21, 21, requires_grad=True)
    answer = block(torch.zeros(1, 2, 21, 21), block.prepare(reference))
    assert answer.shape == (1, 2, 21, 21)
    answer[0, :, 10, 10].sum().backward()
    assert reference.grad is not None
    seen = (reference.grad.abs().sum((0, 1)) > 0).nonzero()
    assert seen.unique().tolist() == [4, 7, 10, 13, 16]
    assert len(seen) == 25


def test_every_upsampling_obeys_align_corners() -> None:
    network = small()
    maps = network.encode(torch.rand(1, 3, 48, 48), torch.rand(1, 48, 48))
    guidance = network.prepare(maps[-1])
    one = network.decode(maps, guidance)
    network.align_corners = True
    other = network.decode(maps, guidance)
    assert torch.equal(one.levels[-1], other.levels[-1])  # the coarsest level is not upsampled
    assert all(not torch.allclose(a, b) for a, b in zip(one.levels[:-1], other.levels[:-1], strict=True))
    expected = F.interpolate(other.levels[0], (48, 48), mode="bilinear", align_corners=True)
    torch.testing.assert_close(other.logits, expected)


def test_one_step_depends_on_both_masks_and_both_frames() -> None:
    network = small()
    frame, other = torch.rand(1, 3, 32, 32), torch.rand(1, 3, 32, 32)
    mask, blank = torch.zeros(1, 32, 32), torch.zeros(1, 32, 32)
    mask[:, 8:20, 8:20] = 1

    def answer(frame: Tensor, previous: Tensor, reference: Tensor, given: Tensor) -> Tensor:
        return network(frame, previous, network.prepare(network.encode(reference, given)[-1])).logits

    base = answer(frame, mask, other, mask)
    for changed in ((other, mask, other, mask), (frame, blank, other, mask), (frame, mask, frame, mask)):
        assert not torch.allclose(answer(*changed), base)
    assert not torch.allclose(answer(frame, mask, other, blank), base)


def test_sizes_that_do_not_fit_are_a_sentence() -> None:
    with pytest.raises(TutorialError, match=r"a frame of 40x48 pixels cannot be encoded.* multiples of 16; pad or"):
        small().encode(torch.rand(1, 3, 40, 48), torch.rand(1, 40, 48))
    with pytest.raises(TutorialError, match="there is no size 'large' of rgmp; choose small or paper"):
        build("rgmp", "large")  # type: ignore[arg-type]


def test_without_a_network_the_paper_size_starts_from_random_weights(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from torchvision.models import ResNet50_Weights

    def refused(*_: object, **__: object) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr(type(ResNet50_Weights.DEFAULT), "get_state_dict", refused)
    with torch.device("meta"):
        assert rgmp.start_from_imagenet(rgmp.build("paper")) is False
    assert "no route to host" in capsys.readouterr().out
    with pytest.raises(TutorialError, match="starts from random weights; build it with size='paper"):
        rgmp.start_from_imagenet(small())


# -------------------------------------------------------------------------------------------------------- training

CPU = torch.device("cpu")


class Walk:
    """Clips whose frame t is filled with t/10: two squares, of ids 1 and 2, walk right; the last column is void."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, int, int]] = []

    def batch(self, seeds: Sequence[int], size: int, length: int, max_skip: int = 0) -> Clips:
        self.asked.append((size, length, max_skip))
        frames = torch.arange(length).reshape(1, -1, 1, 1, 1).expand(len(seeds), -1, 3, size, size) / 10
        masks = torch.zeros(len(seeds), length, size, size, dtype=torch.uint8)
        for t in range(length):
            masks[:, t, 2:10, 3 * t : 3 * t + 8] = 1
            masks[:, t, 16:24, 3 * t : 3 * t + 8] = 2
        masks[..., -1] = VOID
        return Clips(frames.clone(), masks)


def stage(**options: Any) -> Stage:
    return Stage("video", steps=4, batch=2, size=32, lr=1e-3, options=options)


def walking() -> RGMPTask:
    return RGMPTask(simulated=Walk(), video=Walk())


def test_a_video_batch_is_a_roll_out() -> None:
    made = walking()
    batch = made.batch(stage(recurrence=3, max_skip=2), range(12), CPU)
    assert made.sources["video"].asked == [(32, 5, 2)]  # type: ignore[attr-defined]
    assert {k: (v.dtype, tuple(v.shape)) for k, v in batch.items()} == {
        "frames": (torch.float32, (12, 3, 3, 32, 32)),
        "targets": (torch.uint8, (12, 3, 32, 32)),
        "previous": (torch.float32, (12, 32, 32)),
        "reference_frame": (torch.float32, (12, 3, 32, 32)),
        "reference_mask": (torch.float32, (12, 32, 32)),
    }
    whole = Walk().batch([0], 32, 5)
    chosen_references, chosen_objects = set(), set()
    for i in range(12):
        reference = round(10 * float(batch["reference_frame"][i, 0, 0, 0]))
        which = 1 if batch["reference_mask"][i, 5].any() else 2
        chosen_references.add(reference)
        chosen_objects.add(which)
        times = [t for t in range(5) if t != reference]
        assert torch.equal(batch["reference_mask"][i] == 1, whole.masks[0, reference] == which)
        assert torch.equal(batch["previous"][i] == 1, whole.masks[0, times[0]] == which)
        for n, t in enumerate(times[1:]):
            assert round(10 * float(batch["frames"][i, n, 0, 0, 0])) == t
            assert torch.equal(batch["targets"][i, n] == 1, whole.masks[0, t] == which)
            assert torch.equal(batch["targets"][i, n] == VOID, whole.masks[0, t] == VOID)
            assert batch["targets"][i, n].unique().tolist() == [0, 1, VOID]
    assert len(chosen_references) >= 4
    assert chosen_objects == {1, 2}


def test_a_simulated_batch_has_no_frame_before_and_a_spoiled_mask() -> None:
    made = walking()
    batch = made.batch(stage(source="simulated", spoiling={"dilation": 1}), range(6), CPU)
    assert made.sources["simulated"].asked == [(32, 2, 0)]  # type: ignore[attr-defined]
    assert batch["frames"].shape == (6, 1, 3, 32, 32)
    overlap = iou(batch["previous"] == 1, batch["targets"][:, 0] == 1)
    assert float(overlap.min()) > 0.2
    assert float(overlap.max()) < 1
    assert bool((batch["reference_frame"][:, 0, 0, 0] != batch["frames"][:, 0, 0, 0, 0]).all())
    exact = {"scale": 0, "shift": 0, "points": 0, "dilation": 0}
    batch = made.batch(stage(source="simulated", spoiling=exact), range(6), CPU)
    assert torch.equal(batch["previous"] == 1, batch["targets"][:, 0] == 1)


@pytest.mark.parametrize("source", ["simulated", "video"])
def test_a_sample_depends_on_its_seed_only(source: str) -> None:
    made, how = task("rgmp"), stage(source=source, recurrence=2, max_skip=1, drop_previous=0.5)
    whole = made.batch(how, [3, 1, 4, 15], CPU)
    one = made.batch(how, [4], CPU)
    for key, value in one.items():
        assert torch.equal(value[0], whole[key][2]), key
    assert float(whole["reference_mask"].mean((1, 2)).min()) >= 0.02


def test_the_reference_may_come_from_outside_the_window() -> None:
    batch = walking().batch(stage(recurrence=2, spare=3), range(40), CPU)
    reference = (10 * batch["reference_frame"][:, 0, 0, 0]).round().long()
    window = (10 * batch["frames"][:, :, 0, 0, 0]).round().long()  # [B, 2]
    assert batch["frames"].shape[1] == 2
    assert set(reference.tolist()) == set(range(7))
    assert int(window.min()) == 1  # the frame before is frame 0
    assert int(window.max()) == 6
    gap = torch.maximum(window[:, 0] - reference, reference - window[:, 1])
    assert int(gap.max()) >= 3
    assert not bool(((reference >= window[:, 0]) & (reference <= window[:, 1]) & (window.diff()[:, 0] == 1)).any())


def test_a_reference_seen_otherwise_keeps_its_object() -> None:
    plain, relit = (walking().batch(stage(relit=relit), range(8), CPU) for relit in (False, True))
    assert torch.equal(plain["targets"], relit["targets"])
    assert torch.equal(plain["previous"], relit["previous"])
    assert not torch.allclose(plain["reference_frame"], relit["reference_frame"])
    overlap = iou(plain["reference_mask"] == 1, relit["reference_mask"] == 1)
    assert 0.1 < float(overlap.mean()) < 0.98
    assert float(relit["reference_frame"].min()) >= 0
    assert float(relit["reference_frame"].max()) <= 1


def test_faults_are_drawn_as_often_as_asked() -> None:
    assert draw_faults(Rng(0), 5, 32, 0.0)[0].tolist() == [0] * 5
    drawn, shift = zip(*(draw_faults(Rng(s), 4, 100, 0.5) for s in range(200)), strict=True)
    kinds = torch.cat(drawn)
    assert 0.4 < float((kinds > 0).float().mean()) < 0.6
    assert kinds.unique().tolist() == list(range(len(FAULTS) + 1))
    assert int(torch.cat(shift).abs().max()) <= 25
    assert int(torch.cat(shift).abs().max()) > 20


def test_each_fault_does_what_its_name_says() -> None:
    previous = torch.zeros(5, 6, 6, requires_grad=True)
    mask = torch.zeros(6, 6)
    mask[1:3, 1:3] = 1
    stale, others = torch.full((5, 6, 6), 0.25), torch.full((5, 6, 6), 0.5)
    faulty = spoiled(previous + mask, stale, others, torch.arange(5), torch.tensor([[2, 1]]).expand(5, 2))
    moved = torch.zeros(6, 6)
    moved[2:4, 3:5] = 1
    expected = torch.stack([mask, torch.zeros(6, 6), moved, others[0], stale[0]])  # FAULTS, after none
    assert torch.equal(faulty, expected)
    faulty.sum().backward()
    assert previous.grad is not None
    assert (previous.grad.flatten(1).sum(1) > 0).tolist() == [True, False, True, False, False]


@pytest.mark.parametrize("source", ["simulated", "video"])
def test_a_step_with_faults_learns(source: str) -> None:
    made, how = walking(), stage(source=source, recurrence=2, faults=1.0)
    batch = made.batch(how, range(4), CPU)
    whole = Walk().batch([0], 32, 4).masks[0]
    for i in range(4):  # others: the second object where the first is followed, and the reverse, a frame earlier
        for k in range(2):
            target = batch["targets"][i, k if source == "simulated" and k == 0 else k - 1] == 1
            if source == "video" and k == 0:
                target = batch["previous"][i] == 1
            assert not bool((batch["others"][i, k].bool() & target).any())
            assert float(batch["others"][i, k].sum()) in {float((frame == 1).sum()) for frame in whole}
    network = small()
    loss, logs = made.loss(network, batch, how)
    loss.backward()
    assert 0 <= float(logs["iou"]) <= 1
    assert all(p.grad is not None for p in network.encoder.parameters())


def test_the_reference_shows_the_object() -> None:
    masks = torch.zeros(4, 10, 10, dtype=torch.bool)
    masks[1, :1, :1] = True  # one per cent
    masks[2, :2, :2] = masks[3, :3] = True
    seen = {tuple(reference_first(masks, Rng(s))) for s in range(30)}
    assert seen == {(2, 0, 1, 3), (3, 0, 1, 2)}
    assert reference_first(masks[:2], Rng(0)) == [1, 0]  # small everywhere: where there is most of it


def test_only_objects_of_the_first_frame_are_followed() -> None:
    ids = torch.zeros(2, 4, 4, dtype=torch.uint8)
    ids[0, 0], ids[1, 1], ids[1, 2], ids[1, 3] = 3, 3, 7, VOID
    followed = one_object(ids, Rng(0))
    assert followed[0].sum(1).tolist() == [4, 0, 0, 0]
    assert followed[1, :, 0].tolist() == [0, 1, 0, VOID]


def test_dropping_and_blanking() -> None:
    made = walking()
    dropped = made.batch(stage(drop_previous=0.5), range(40), CPU)["previous"].flatten(1).any(1)
    assert 8 < int(dropped.sum()) < 32
    assert not made.batch(stage(drop_previous=1.0), range(5), CPU)["previous"].any()
    without = made.batch(stage(reference=False), range(3), CPU)
    assert not without["reference_frame"].any()
    assert not without["reference_mask"].any()
    assert without["previous"].any()


class Recorder(RGMP):
    """Keeps the previous masks of the steps."""

    def __init__(self, inner: RGMP) -> None:
        nn.Module.__init__(self)
        self.encoder, self.decoder, self.align_corners = inner.encoder, inner.decoder, inner.align_corners
        self.shown: list[Tensor] = []
        self.said: list[Tensor] = []

    def forward(self, frame: Tensor, previous: Tensor, guidance: Guidance) -> Scores:
        scores = super().forward(frame, previous, guidance)
        self.shown.append(previous)
        self.said.append(scores.logits.softmax(1)[:, 1])
        return scores


def rolled(**options: Any) -> tuple[Recorder, dict[str, Tensor], Tensor]:
    """A recorded roll-out of three steps, its batch and its loss."""
    how, made, network = stage(recurrence=3, **options), walking(), Recorder(small())
    batch = made.batch(how, range(3), CPU)
    loss, logs = made.loss(network, batch, how)
    assert 0 <= float(logs["iou"]) <= 1
    return network, batch, loss


def test_soft_answers_come_back_with_their_gradient() -> None:
    network, batch, _ = rolled()
    assert torch.equal(network.shown[0], batch["previous"])
    assert torch.equal(network.shown[1], network.said[0])
    assert torch.equal(network.shown[2], network.said[1])
    assert network.shown[2].requires_grad


def test_switches_change_what_comes_back() -> None:
    network, batch, _ = rolled(detach=True)
    assert torch.equal(network.shown[1], network.said[0])
    assert not network.shown[1].requires_grad
    network, batch, _ = rolled(feedback="hard")
    assert torch.equal(network.shown[1], (network.said[0] > 0.5).float())
    network, batch, _ = rolled(teacher_forcing=True)
    assert torch.equal(network.shown[2], (batch["targets"][:, 1] == 1).float())
    network, batch, _ = rolled(previous=False)
    assert not any(shown.any() for shown in network.shown)


def test_the_gradient_goes_back_through_time() -> None:
    """The last step's loss alone, differentiated: the first mask matters with BPTT, and not when detached."""

    def reaches(**options: Any) -> bool:
        how, made, network = stage(recurrence=2, **options), walking(), small()
        batch = made.batch(how, range(2), CPU)
        batch["previous"].requires_grad_()
        first = dict(batch, frames=batch["frames"][:, :1], targets=batch["targets"][:, :1])
        whole = made.loss(network, batch, how)[0] * 2 - made.loss(network, first, how)[0]  # the second step
        (gradient,) = torch.autograd.grad(whole, batch["previous"])
        return bool(gradient.abs().max() > 1e-12)

    assert reaches()
    assert not reaches(detach=True)
    assert not reaches(feedback="hard")


def test_the_loss_is_the_mean_over_the_steps_and_void_does_not_count() -> None:
    network, batch, loss = rolled(dice=0.5)
    expected = []
    for said, target in zip(network.said, batch["targets"].unbind(1), strict=True):
        known = target != VOID
        entropy = F.binary_cross_entropy(said[known], (target[known] == 1).float())
        p, y = said * known, (target == 1).float()
        dice = 1 - (2 * (p * y).sum((1, 2)) + 1) / (p.sum((1, 2)) + y.sum((1, 2)) + 1)
        expected.append(entropy + 0.5 * dice.mean())
    torch.testing.assert_close(loss, torch.stack(expected).mean())


def test_the_logged_iou_does_not_see_void() -> None:
    """A network that says "object" everywhere is right about the squares and wrong elsewhere, void apart."""

    class Yes(Recorder):
        def decode(self, maps: Sequence[Tensor], guidance: Guidance) -> Scores:
            scores = super().decode(maps, guidance)
            return Scores(scores.logits * 0 + torch.tensor([-9.0, 9.0]).reshape(1, 2, 1, 1), scores.levels)

    how, made = stage(), walking()
    batch = made.batch(how, [0], CPU)
    target = batch["targets"][:, 0]
    _, logs = made.loss(Yes(small()), batch, how)
    assert float(logs["iou"]) == pytest.approx(float((target == 1).sum() / (target != VOID).sum()), abs=1e-6)


def test_options_that_no_one_reads_are_refused() -> None:
    made = walking()
    for options, match in (
        (
            {"recurence": 2},
            "stage 'video': rgmp does not know the option 'recurence'; choose from source, recurrence",
        ),
        ({"spoiling": {"blur": 1}}, "rgmp does not know the option 'blur'; choose from scale"),
        ({"source": "film"}, "there is no source 'film'; choose from simulated, video, lifelike"),
        ({"feedback": "loud"}, "there is no feedback 'loud'; choose from soft, hard"),
        ({"recurrence": 0}, "recurrence is 0; use 1 or more"),
        ({"recurrence": 2.5}, "recurrence cannot be 2.5; give a whole number"),
        ({"dice": "lots"}, "dice cannot be 'lots'; give a number"),
        ({"detach": 1}, "detach cannot be 1; give true or false"),
        ({"drop_previous": 1.5}, "drop_previous is 1.5; use 0 to 1"),
        ({"spoiling": 3}, "spoiling cannot be 3; give a dictionary"),
    ):
        with pytest.raises(TutorialError, match=match):
            made.batch(stage(**options), [0], CPU)


def test_recipes_and_variants_hold_options_that_are_read() -> None:
    for profile in PROFILES:
        recipe = recipes.load("rgmp", profile)
        for made in recipe.stages:
            for step in (0, made.steps - 1):
                RGMPOptions.of(made.at(step))
    cpu = recipes.load("rgmp", "cpu")
    video = cpu.stages[1]
    assert video.at(0).options["recurrence"] == 1
    assert video.at(video.steps - 1).options["recurrence"] == 4
    assert tuple(s.steps for s in VARIANTS["full"].stages) == SHORT
    assert [s.options for s in VARIANTS["full"].stages] == [s.options for s in cpu.stages]
    for name, recipe in VARIANTS.items():
        others = {"long": recipe.steps, "recipe without reference": cpu.steps}
        equal = recipe.steps if name.startswith("photos") else others.get(name, sum(SHORT))
        assert recipe.steps == equal, "only runs of equal length can be compared"
        assert (recipe == VARIANTS["full"]) == (name == "full")
        for made in recipe.stages:
            RGMPOptions.of(made.at(0))
    assert [s.name for s in VARIANTS["no pre-training"].stages] == ["video"]
    assert [s.options["reference"] for s in VARIANTS["no reference"].stages] == [False, False]
    assert [s.options["previous"] for s in VARIANTS["no previous"].stages] == [False, False]
    assert VARIANTS["detach"].stages[1].options == {**video.options, "detach": True}


def test_it_learns() -> None:
    """Both kinds of stages, on the squares: the loss falls, and the decoder's prepared half learns as well."""
    recipe = recipes.load("rgmp", "smoke")
    stages = tuple(
        dataclasses.replace(s, steps=n, batch=4, size=32, options={**s.options, **how})
        for s, n, how in zip(recipe.stages, (100, 15), ({}, {"recurrence": 2, "max_skip": 0}), strict=True)
    )
    network = small().train()
    before = copy.deepcopy(network.decoder.compare.left_reference.weight)
    run = train(network, walking(), dataclasses.replace(recipe, stages=stages, ema=None))
    assert run.losses[-8:].mean() < 0.6 * run.losses[:4].mean()
    assert not torch.equal(before, network.decoder.compare.left_reference.weight)


def test_the_command_trains_and_the_weights_are_used(tmp_path: Path) -> None:
    out = tmp_path / "run"
    command = ["train", "rgmp", "--profile", "smoke", "--out", str(out)]
    command += ["--set", "pairs.steps=2", "--set", "video.steps=2"]
    assert command_line(command) == 0
    made = segmenter("rgmp", out / "weights.safetensors")
    frames, ids = squares(), torch.zeros(40, 50, dtype=torch.uint8)
    ids[5:20, 8:30] = 1
    assert object_ids(propagate(made, frames, ids)[0]) == [1]


# ------------------------------------------------------------------------------------------------------- inference


def squares(length: int = 3) -> Tensor:
    """Random frames of 40 x 50 pixels, ``float [T, 3, 40, 50]``."""
    return torch.rand(length, 3, 40, 50, generator=torch.Generator().manual_seed(5))


def two_objects() -> Tensor:
    ids = torch.zeros(40, 50, dtype=torch.uint8)
    ids[5:20, 8:30], ids[22:38, 25:45] = 3, 9
    return ids


def padded(x: Tensor) -> Tensor:
    """40 x 50 -> 48 x 64, centred."""
    return F.pad(x, (7, 7, 4, 4))


@torch.no_grad()
def test_one_object_is_the_plain_loop() -> None:
    network, frames, ids = small(), squares(), two_objects()
    ids[ids == 9] = 0
    guidance = network.prepare(network.encode(padded(frames[:1]), padded((ids == 3).float())[None])[-1])
    previous = padded((ids == 3).float())[None]
    found = propagate(RGMPSegmenter(network), frames, ids, probabilities=True)
    for t in (1, 2):
        previous = network(padded(frames[t : t + 1]), previous, guidance).logits.softmax(1)[:, 1]
        torch.testing.assert_close(found[t, 1], previous[0, 4:44, 7:57])
    torch.testing.assert_close(found.sum(1), torch.ones(3, 40, 50))


@torch.no_grad()
def test_several_objects_have_a_union_pass() -> None:
    network, frames, ids = small(), squares(), two_objects()
    masks = padded(torch.stack([ids == 3, ids == 9, ids > 0]).float())
    previous = masks[:2]
    guidance = [network.prepare(network.encode(padded(frames[:1]), m[None])[-1]) for m in masks]
    found = propagate(RGMPSegmenter(network), frames, ids, probabilities=True)
    for t in (1, 2):
        asked = [previous[0], previous[1], previous[0] + previous[1]]
        q = [
            network(padded(frames[t : t + 1]), m[None], g).logits.softmax(1)[0, 1]
            for m, g in zip(asked, guidance, strict=True)
        ]
        odds = torch.stack([(1 - q[2]) / q[2], q[0] / (1 - q[0]), q[1] / (1 - q[1])])
        previous = (odds / odds.sum(0))[1:]
        torch.testing.assert_close(found[t, 1:], previous[:, 4:44, 7:57], atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_passes_at_once_or_one_after_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    network, frames, ids = small(), squares(), two_objects()
    seen: list[int] = []
    network.encoder.register_forward_hook(lambda _, inputs, __: seen.append(len(inputs[0])))
    found = []
    for cached, batches in ((10**6, [3, 3]), (1, [1] * 6), (2 * 64 * 64, [2, 1] * 2)):
        monkeypatch.setattr(rgmp, "CACHED", cached)
        found.append(propagate(RGMPSegmenter(network), frames, ids, probabilities=True))
        assert seen[-len(batches) :] == batches
    torch.testing.assert_close(found[1], found[0], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(found[2], found[0], atol=1e-5, rtol=1e-4)


def test_merging_by_hand() -> None:
    merged = soft_aggregate(torch.tensor([0.9, 0.8]).reshape(2, 1, 1), background=torch.full((1, 1, 1), 0.1))
    assert merged.flatten().tolist() == pytest.approx([1 / 118, 81 / 118, 36 / 118], abs=1e-5)  # odds 1/9, 9, 4
    sure = soft_aggregate(torch.tensor([1.0, 1.0]).reshape(2, 1, 1), background=torch.zeros(1, 1, 1))
    assert sure.flatten().tolist() == pytest.approx([0, 0.5, 0.5], abs=1e-5)
    assert torch.isfinite(soft_aggregate(torch.zeros(2, 1, 1), background=torch.zeros(1, 1, 1))).all()


def test_the_papers_sizes() -> None:
    assert [next_larger_multiple(n, 32) for n in (480, 854, 512, 96)] == [512, 864, 544, 128]
    assert [next_multiple(n, 32) for n in (480, 854, 512, 97)] == [480, 864, 512, 128]
    assert [next_larger_multiple(round(s * n), 32) for s in (0.5, 0.75) for n in (512, 864)] == [288, 448, 416, 672]


class Sizes(nn.Module):
    """Answers 0.5 everywhere, and keeps the sizes that it saw."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder, self.stride, self.seen = encoder, 32, []

    def encode(self, frame: Tensor, mask: Tensor) -> list[Tensor]:
        assert frame.shape[0] == mask.shape[0]
        assert frame.shape[2:] == mask.shape[1:]
        self.seen.append(tuple(frame.shape[2:]))
        return [frame]

    def prepare(self, reference: Tensor) -> Guidance:
        return Guidance(reference, reference)

    def decode(self, maps: list[Tensor], guidance: Guidance) -> Scores:
        return Scores(torch.zeros(len(maps[0]), 2, *maps[0].shape[2:]), [])


def test_paper_size_uses_the_authors_scales_and_padding() -> None:
    network = Sizes(rgmp.build("paper").encoder)
    ids = torch.zeros(480, 854, dtype=torch.uint8)
    ids[100:200, 100:300] = 1
    made = RGMPSegmenter(network)  # type: ignore[arg-type]
    assert made.scales == (0.5, 0.75, 1.0)
    found = propagate(made, torch.zeros(2, 3, 480, 854), ids, probabilities=True)
    assert made.network.seen == [(288, 448), (416, 672), (512, 864)] * 2  # the reference once, then one frame
    assert made.margins == (5, 5, 16, 16)
    assert found.shape == (2, 2, 480, 854)
    made = RGMPSegmenter(network, (1.0,), padding="least")  # type: ignore[arg-type]
    propagate(made, torch.zeros(2, 3, 480, 854), ids)
    assert made.network.seen == [(480, 864)] * 2


@torch.no_grad()
def test_scales_are_averaged_as_probabilities() -> None:
    network, frames, ids = small(), squares(2), two_objects()
    ids[ids == 9] = 0
    found = propagate(RGMPSegmenter(network, (0.5, 1.0)), frames, ids, probabilities=True)
    mask, answers = padded((ids == 3).float())[None], []
    for size in ((32, 32), (48, 64)):
        before, now, m = (
            F.interpolate(x, size, mode="bilinear", align_corners=False)
            for x in (padded(frames[:1]), padded(frames[1:]), mask[None])
        )
        guidance = network.prepare(network.encode(before, m[0])[-1])
        p = network(now, m[0], guidance).logits.softmax(1)[:, 1:]
        answers.append(F.interpolate(p, (48, 64), mode="bilinear", align_corners=False)[0, 0, 4:44, 7:57])
    torch.testing.assert_close(found[1, 1], (answers[0] + answers[1]) / 2)


@torch.no_grad()
def test_hard_feedback_carries_decisions() -> None:
    made, frames = RGMPSegmenter(small(), feedback="hard"), squares()
    made.begin(frames[0], two_objects())
    for frame in frames[1:]:
        winner = made.step(frame).argmax(0)
        assert torch.equal(made.inspect()["previous"], torch.stack([winner == 1, winner == 2]).float())


@torch.no_grad()
def test_blanked_inputs_are_not_seen() -> None:
    frames, ids, other = squares(2), two_objects(), two_objects().roll(5, 1)
    network = small()

    def answer(mask: Tensor, first: Tensor, **options: Any) -> Tensor:
        made = RGMPSegmenter(network, **options)
        made.begin(first, mask)
        return made.step(frames[1])

    assert not torch.allclose(answer(ids, frames[0]), answer(other, frames[0]))
    blank = {"use_reference": False, "use_previous": False}
    assert torch.equal(answer(ids, frames[0], **blank), answer(other, frames[1], **blank))
    assert not torch.allclose(
        answer(ids, frames[0], use_reference=False), answer(other, frames[0], use_reference=False)
    )
    assert torch.equal(answer(ids, frames[0], use_reference=False), answer(ids, frames[1], use_reference=False))
    assert not torch.allclose(
        answer(ids, frames[0], use_previous=False), answer(other, frames[0], use_previous=False)
    )


@torch.no_grad()
def test_guidance_can_be_swapped() -> None:
    frames, ids, network = squares(), two_objects(), small()
    masks = torch.stack([ids == 3, ids == 9]).float()
    made = RGMPSegmenter(network)
    made.begin(frames[0], ids)
    plain = made.step(frames[1])
    made.begin(frames[0], ids)
    made.guide(previous=masks.flip(0))
    assert torch.equal(made.inspect()["previous"], masks.flip(0))
    assert torch.equal(made.inspect()["reference_mask"], masks)
    assert not torch.allclose(made.step(frames[1]), plain)
    made.guide(masks=masks.flip(0), previous=masks.flip(0))  # both swapped: the channels change places
    torch.testing.assert_close(made.step(frames[1]), plain[[0, 2, 1]])
    made.guide(frame=torch.zeros(3, 40, 50), masks=torch.zeros(2, 40, 50), previous=masks)
    blank = RGMPSegmenter(network, use_reference=False)
    blank.begin(frames[0], ids)
    torch.testing.assert_close(made.step(frames[1]), blank.step(frames[1]))
    made.guide(frame=frames[0], masks=masks, previous=masks)  # and back
    torch.testing.assert_close(made.step(frames[1]), plain)
    with pytest.raises(TutorialError, match="previous holds 1 masks, but there are 2 objects"):
        made.guide(previous=masks[:1])


def test_what_inspect_shows() -> None:
    made, frames, ids = RGMPSegmenter(small()), squares(2), two_objects()
    made.begin(frames[0], ids)
    shown = made.inspect()
    assert {k: tuple(v.shape) for k, v in shown.items()} == {
        "previous": (2, 40, 50),
        "reference_frame": (2, 3, 40, 50),
        "reference_mask": (2, 40, 50),
        "alone": (2, 40, 50),
    }
    assert torch.equal(shown["reference_frame"][1], frames[0])
    assert torch.equal(shown["reference_mask"][1] == 1, ids == 9)
    with torch.no_grad():
        probabilities = made.step(frames[1])
    assert torch.equal(made.inspect()["previous"], probabilities[1:])
    torch.testing.assert_close(
        soft_aggregate(made.alone[:2], background=1 - made.alone[2:])[:, 4:44, 7:57], probabilities
    )  # `alone` is before the merging


@torch.no_grad()
def test_objects_may_come_later() -> None:
    frames, ids, network = squares(4), two_objects(), small()
    first, later = torch.where(ids == 9, ids, 0), torch.where(ids == 3, ids, 0)
    found = propagate(RGMPSegmenter(network), frames, first, probabilities=True, later={2: later})
    assert found.shape == (4, 3, 40, 50)
    alone = propagate(RGMPSegmenter(network), frames[:3], first, probabilities=True)
    assert torch.equal(found[1, 1], alone[1, 1])
    made = RGMPSegmenter(network)
    made.begin(frames[0], first)
    made.step(frames[1])
    made.step(frames[2])
    made.introduce(frames[2], later)
    assert made.objects == [9, 3]
    assert torch.equal(made.inspect()["reference_frame"], frames[[0, 2]])
    assert torch.equal(made.inspect()["previous"], torch.stack([alone[2, 1] * (ids != 3), (ids == 3).float()]))
    union = crop_padding(made.union_masks.sum(0), made.margins)
    torch.testing.assert_close(union, (alone[2, 1] * (ids != 3) + (ids == 3)))
    torch.testing.assert_close(made.step(frames[3]), found[3])
    before = made.guidance
    made.introduce(frames[3], first)  # nothing new in it
    assert made.guidance is before


def third() -> Tensor:
    """Object 3 somewhere else: a part of it where object 9 was."""
    ids = torch.zeros(40, 50, dtype=torch.uint8)
    ids[12:30, 20:40] = 3
    return ids


@torch.no_grad()
def test_a_corrected_object_refers_to_the_corrected_frame() -> None:
    network, frames, ids = small(), squares(4), two_objects()
    made = RGMPSegmenter(network)
    made.begin(frames[0], ids)
    for frame in frames[1:3]:
        made.step(frame)
    before = made.inspect()["previous"]
    made.correct(frames[2], third())
    shown, new = made.inspect(), third() == 3
    previous = torch.stack([new.float(), before[1] * ~new])
    assert torch.equal(shown["previous"], previous)
    assert torch.equal(shown["reference_frame"], frames[[2, 0]])
    assert torch.equal(shown["reference_mask"], torch.stack([new, ids == 9]).float())
    q, whole = [], made.previous  # with the margins, in which something may have been predicted
    for at, reference, last in (
        (2, padded(new.float()), whole[0]),
        (0, padded((ids == 9).float()), whole[1]),
        (2, whole.sum(0), whole.sum(0)),
    ):
        guidance = network.prepare(network.encode(padded(frames[at])[None], reference[None])[-1])
        q.append(network(padded(frames[3])[None], last[None], guidance).logits.softmax(1)[0, 1])
    expected = soft_aggregate(torch.stack(q[:2]), background=1 - q[2][None])[:, 4:44, 7:57]
    torch.testing.assert_close(made.step(frames[3]), expected, atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_a_removed_object_leaves_the_references_of_the_others() -> None:
    network, frames, ids = small(), squares(4), two_objects()
    ids[30:36, 2:12] = 7
    made, other = RGMPSegmenter(network), RGMPSegmenter(network)
    made.begin(frames[0], ids)
    other.begin(frames[0], torch.where(ids == 7, 0, ids))
    made.step(frames[1])
    before = made.inspect()
    made.remove(7)
    shown = made.inspect()
    assert made.objects == [3, 9]
    for name in ("previous", "reference_frame", "reference_mask", "alone"):
        assert torch.equal(shown[name], before[name][[0, 2]]), name
    other.guide(previous=shown["previous"])
    other.previous = made.previous  # with its margins
    torch.testing.assert_close(made.step(frames[2]), other.step(frames[2]))
    made.remove(9)  # one is left, and has no union to be compared with
    assert made.step(frames[3]).shape == (2, 40, 50)
    assert len(made.alone) == 1


@torch.no_grad()
def test_swapped_guidance_is_checked() -> None:
    made = RGMPSegmenter(small())
    with pytest.raises(TutorialError, match="no object is followed yet; call begin"):
        made.guide(frame=torch.zeros(3, 40, 50))
    made.begin(squares()[0], two_objects())
    with pytest.raises(TutorialError, match="this frame is 40x49"):
        made.guide(frame=torch.zeros(3, 40, 49))


def test_a_segmenter_forgets_the_last_clip() -> None:
    made, frames, ids = RGMPSegmenter(small()), squares(), two_objects()
    once = propagate(made, frames, ids, probabilities=True)
    propagate(made, torch.rand(3, 3, 64, 33), torch.ones(64, 33, dtype=torch.uint8))
    assert torch.equal(propagate(made, frames, ids, probabilities=True), once)
    assert isinstance(made, Segmenter)


def test_options_of_the_segmenter_are_checked() -> None:
    network = small()
    for options, match in (
        ({"feedback": "loud"}, "there is no feedback 'loud'; choose from soft, hard"),
        ({"padding": "much"}, "there is no padding 'much'; choose from least, authors"),
        ({"scales": ()}, r"the scales are \[\]; give at least one"),
        ({"scales": (1, 0)}, r"the scales are \[1, 0\]; give at least one, all of them above 0"),
    ):
        with pytest.raises(TutorialError, match=match):
            segmenter("rgmp", network=network, **options)


def test_a_small_network_pads_as_little_as_it_can() -> None:
    made = RGMPSegmenter(small())
    made.begin(torch.rand(3, 48, 65), torch.ones(48, 65, dtype=torch.uint8))
    assert made.margins == (7, 8, 0, 0)
    assert made.inspect()["previous"].shape == (1, 48, 65)
