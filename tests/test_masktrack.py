"""MaskTrack: the network, the corrupted guides it learns from, and the loop that feeds its answers back to it."""

from __future__ import annotations

import copy
import urllib.error
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from experiments import masktrack as experiment
from vos_tutorial import models, recipes, training
from vos_tutorial.__main__ import main as command_line
from vos_tutorial.clip import Clip, object_ids
from vos_tutorial.data.batches import Stills
from vos_tutorial.data.worlds import sprites
from vos_tutorial.errors import TutorialError
from vos_tutorial.geometry import boxes, dilate, fill_boxes, iou
from vos_tutorial.models import build, masktrack, segmenter
from vos_tutorial.models.backbones import IMAGENET_MEAN
from vos_tutorial.models.layers import dice_loss, pad_to_multiple
from vos_tutorial.models.masktrack import (
    DeepLabVGG16,
    MaskTrack,
    MaskTrackSegmenter,
    RaftFlow,
    dilation_for,
    fine_tune,
    flow_picture,
    inflate,
    make_guide,
)
from vos_tutorial.profile import PROFILES
from vos_tutorial.propagation import Segmenter, most_probable, propagate, propagate_nearest
from vos_tutorial.recipes import Stage
from vos_tutorial.recipes.masktrack import ABLATIONS
from vos_tutorial.training.command import _arguments
from vos_tutorial.training.optimisers import make_optimizer
from vos_tutorial.training.tasks.masktrack import MaskTrackTask


def parameters(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def small(seed: int = 0, width: int = 8) -> MaskTrack:
    """A small network, the same for the same seed."""
    torch.manual_seed(seed)
    return masktrack.build("small", width=width).eval()


# --------------------------------------------------------------------------------------------------------- network


@pytest.mark.parametrize(("head", "count"), [("aspp", 37_800_328), ("largefov", 20_486_530)])
def test_the_paper_size_has_the_papers_parameters(head: str, count: int) -> None:
    with torch.device("meta"):
        network = build("masktrack", "paper", head=head)
    assert parameters(network) == count
    image, guide = torch.empty(1, 3, 65, 97, device="meta"), torch.empty(1, 65, 97, dtype=torch.bool, device="meta")
    assert network(image, guide).shape == (1, 2, 65, 97)


def test_the_paper_size_keeps_an_eighth_of_the_resolution_and_dilates() -> None:
    with torch.device("meta"):
        body = DeepLabVGG16()
    assert body(torch.empty(1, 4, 64, 96, device="meta")).shape == (1, 2, 8, 12)
    convs = [m for m in body.features if isinstance(m, nn.Conv2d)]
    assert [c.dilation[0] for c in convs] == [1] * 10 + [2] * 3
    assert [b[0].dilation[0] for b in body.branches] == [6, 12, 18, 24]


def test_the_small_size_is_small() -> None:
    assert 300_000 < parameters(build("masktrack")) < 600_000
    assert parameters(build("masktrack", width=8)) < parameters(build("masktrack"))


@pytest.mark.parametrize("size", [(96, 96), (33, 50), (16, 16), (17, 100)])
def test_the_answer_is_as_large_as_the_picture(size: tuple[int, int]) -> None:
    logits = small()(torch.rand(2, 3, *size), torch.zeros(2, *size, dtype=torch.bool))
    assert logits.shape == (2, 2, *size)
    assert torch.isfinite(logits).all()


def test_padding_is_to_the_right_and_below() -> None:
    padded, size = pad_to_multiple(torch.ones(1, 1, 5, 8), 4)
    assert padded.shape == (1, 1, 8, 8)
    assert size == (5, 8)
    assert padded[0, 0, :5].min() == 1
    assert padded[0, 0, 5:].max() == 0


class Spy(nn.Module):
    """A body that keeps what it was given."""

    stride = 8

    def forward(self, x: Tensor) -> Tensor:
        self.seen = x
        return x[:, :2]


def test_colours_are_normalised_and_the_guide_becomes_plus_and_minus_one() -> None:
    spy = Spy()
    network = MaskTrack(spy)  # type: ignore[arg-type]
    image = torch.tensor(IMAGENET_MEAN).reshape(1, 3, 1, 1).expand(1, 3, 8, 8).clone()
    image[0, 0, 0, 0] += 0.229
    guide = torch.zeros(1, 8, 8, dtype=torch.bool)
    guide[0, 2, 3] = True
    network(image, guide)
    assert spy.seen.shape == (1, 4, 8, 8)
    assert spy.seen[0, 0, 0, 0].item() == pytest.approx(1, abs=1e-5)
    assert float(spy.seen[0, :3].abs().sum()) == pytest.approx(1, abs=1e-4)
    assert spy.seen[0, 3].unique().tolist() == [-1, 1]
    assert spy.seen[0, 3, 2, 3] == 1
    assert "mean" not in network.state_dict()  # a constant, no weight


def test_the_guide_decides_which_object_is_meant() -> None:
    network, image = small(), torch.rand(1, 3, 32, 32).expand(2, -1, -1, -1)
    guide = torch.zeros(2, 32, 32, dtype=torch.bool)
    guide[0, :10, :10] = guide[1, 20:, 20:] = True
    logits = network(image, guide)
    assert not torch.equal(logits[0], logits[1])
    assert torch.equal(network(image, guide.float()), logits)


# ------------------------------------------------------------------------------------------------- ImageNet weights


def test_inflation_adds_small_noise_and_keeps_the_colours() -> None:
    weight = torch.randn(64, 3, 3, 3)
    wide = inflate(weight)
    assert wide.shape == (64, 4, 3, 3)
    assert torch.equal(wide[:, :3], weight)
    assert 0 < float(wide[:, 3].abs().max()) < 1e-3


def vgg16_state(seed: int = 0) -> dict[str, Tensor]:
    """The state of torchvision's VGG-16, its unused classifier left out."""
    from torchvision.models import vgg16

    with torch.device("meta"):
        whole = vgg16().state_dict()
    generator = torch.Generator().manual_seed(seed)
    return {
        k: torch.randn(v.shape, generator=generator) * 0.03 for k, v in whole.items() if k.startswith("features.")
    }


def test_imagenet_weights_fill_the_body_and_the_guide_starts_unseen() -> None:
    """With the guide's filters at zero the four-channel network is VGG's three-channel one, layer by layer."""
    network, state = build("masktrack", "paper", head="largefov"), vgg16_state()
    network.load_imagenet(state)
    first = network.body.features[0]
    assert torch.equal(first.weight[:, :3], state["features.0.weight"])
    with torch.no_grad():
        first.weight[:, 3] = 0
    x = torch.randn(1, 4, 16, 16)
    y = x[:, :3]
    names = iter([k.removesuffix(".weight") for k in state if k.endswith(".weight")])
    for layer in network.body.features:
        if isinstance(layer, nn.Conv2d):
            name = next(names)
            y = torch.conv2d(
                y, state[f"{name}.weight"], state[f"{name}.bias"], padding=layer.dilation, dilation=layer.dilation
            )
        else:
            y = layer(y.clone())
    torch.testing.assert_close(network.body.features(x), y)


def test_other_weights_are_refused_and_nothing_is_copied() -> None:
    network, state = build("masktrack", "paper", head="largefov"), vgg16_state()
    before = copy.deepcopy(network.body.features.state_dict())
    fewer = {k: v for k, v in state.items() if not k.startswith("features.28")}
    narrow = {**state, "features.28.weight": torch.zeros(512, 256, 3, 3)}
    for wrong in (fewer, narrow, {}, {"features.0.weight": torch.zeros(3)}):
        with pytest.raises(
            TutorialError, match=r"these are not VGG-16's weights: the .* pass torchvision.models.vgg16"
        ):
            network.load_imagenet(wrong)
    after = network.body.features.state_dict()
    assert all(torch.equal(before[k], after[k]) for k in before)
    with pytest.raises(TutorialError, match=r"only the paper-size MaskTrack has a VGG-16 inside; .* size='paper'"):
        small().load_imagenet(state)


# ------------------------------------------------------------------------------------------------------- training


def stage(**options: Any) -> Stage:
    return Stage("stills", steps=1, batch=2, size=48, lr=1e-3, options=options)


CPU = torch.device("cpu")


def test_a_batch_is_a_picture_its_mask_and_a_spoiled_guide() -> None:
    batch = MaskTrackTask().batch(stage(spoiling={"dilation": 1}), range(8), CPU)
    assert {k: (v.dtype, tuple(v.shape)) for k, v in batch.items()} == {
        "image": (torch.float32, (8, 3, 48, 48)),
        "guide": (torch.bool, (8, 48, 48)),
        "target": (torch.bool, (8, 48, 48)),
    }
    overlap = iou(batch["guide"], batch["target"])
    assert 0.4 < float(overlap.mean()) < 0.9
    assert float(overlap.max()) < 1


def test_a_sample_depends_on_its_seed_only() -> None:
    task, options = MaskTrackTask(), stage(spoiling={"dilation": 1})
    whole = task.batch(options, [3, 1, 4, 15], CPU)
    one = task.batch(options, [4], CPU)
    for key, value in one.items():
        assert torch.equal(value[0], whole[key][2]), key


def test_ablations_are_what_they_are_called() -> None:
    base = recipes.load("masktrack", "cpu").stages[0].options
    found = {
        name: MaskTrackTask().batch(stage(**{**base, **change}), range(6), CPU) for name, change in ABLATIONS.items()
    }
    found["full"] = MaskTrackTask().batch(stage(**base), range(6), CPU)
    target = found["full"]["target"]
    assert all(torch.equal(batch["target"], target) for batch in found.values())
    assert torch.equal(found["no deformation"]["guide"], target)
    assert not found["no guide"]["guide"].any()
    assert torch.equal(dilate(found["no dilation"]["guide"], 1), found["full"]["guide"])
    assert torch.equal(fill_boxes(found["full"]["guide"]), found["boxes"]["guide"])
    quality = {name: float(iou(batch["guide"], target).mean()) for name, batch in found.items()}
    assert quality["three times"] < quality["full"] < quality["no bending"] < 1


def test_other_sources_of_stills() -> None:
    class Squares:
        def batch(self, seeds: Any, size: int) -> Stills:
            masks = torch.zeros(len(seeds), size, size, dtype=torch.bool)
            masks[:, 10:30, 10:30] = True
            return Stills(torch.ones(len(seeds), 3, size, size), masks)

    batch = training.task("masktrack", source=Squares()).batch(stage(), [0, 1], CPU)
    assert float(batch["image"].min()) == 1
    assert training.task("masktrack").sources["stills"].__class__ is sprites.SyntheticStills


def test_loss_and_iou_of_known_answers() -> None:
    target = torch.zeros(2, 8, 8, dtype=torch.bool)
    target[:, :4] = True
    answer = torch.zeros(2, 8, 8, dtype=torch.bool)
    answer[0, :4] = True  # right
    answer[1, 2:6] = True  # half right: 16 of 48 pixels

    class Fixed(nn.Module):
        def forward(self, image: Tensor, guide: Tensor) -> Tensor:
            return torch.stack([~answer * 20.0, answer * 20.0], dim=1)

    batch = {"image": torch.zeros(2, 3, 8, 8), "guide": target, "target": target}
    loss, logged = MaskTrackTask().loss(Fixed(), batch, stage())
    assert float(logged["iou"]) == pytest.approx((1 + 1 / 3) / 2)
    assert float(loss) == pytest.approx(20 * 32 / 128, rel=1e-4)

    answer[0] = target[0] = False  # nothing there, and nothing found: right, here as in every other score
    assert float(MaskTrackTask().loss(Fixed(), batch, stage())[1]["iou"]) == pytest.approx((1 + 1 / 3) / 2)


def test_dice_loss_by_hand() -> None:
    """Probabilities 1, 1/2 and 0 on two target pixels and one other: 1 - (2 * 1.5 + 1) / (1.5 + 2 + 1)."""
    p, target = torch.tensor([[[1.0, 0.5, 0.0]]]), torch.tensor([[[True, True, False]]])
    assert float(dice_loss(p, target)) == pytest.approx(1 - 4 / 4.5)
    assert float(dice_loss(target.float(), target)) == pytest.approx(0, abs=1e-6)
    both = dice_loss(torch.cat([p, target.float()]), torch.cat([target, target]))
    assert float(both) == pytest.approx((1 - 4 / 4.5) / 2)  # per picture, so that a small object counts as much


def test_a_stage_adds_its_share_of_dice() -> None:
    network, task = small(), MaskTrackTask()
    batch = task.batch(stage(), [0, 1], CPU)
    with torch.no_grad():
        plain, half, whole = (float(task.loss(network, batch, stage(dice=w))[0]) for w in (0.0, 0.5, 1.0))
        assert float(task.loss(network, batch, stage())[0]) == plain
    assert half - plain == pytest.approx((whole - plain) / 2, rel=1e-3)
    assert 0.2 < whole - plain < 1


def test_the_head_learns_faster_where_the_recipe_says_so() -> None:
    with torch.device("meta"):
        network = build("masktrack", "paper", head="largefov")
    gpu = recipes.load("masktrack", "gpu").stages[0]
    optimizer = make_optimizer(gpu, MaskTrackTask().parameters(network, gpu))
    body, head = optimizer.param_groups
    assert (body.get("lr_scale", 1.0), head["lr_scale"]) == (1.0, 10.0)
    assert sum(p.numel() for p in head["params"]) == 5_771_266
    assert sum(p.numel() for p in body["params"]) == 14_714_688 + 576
    (only,) = MaskTrackTask().parameters(small(), stage())
    assert len(only["params"]) == len(list(small().parameters()))


@pytest.mark.parametrize("profile", PROFILES)
def test_recipes_load_and_the_task_understands_their_options(profile: Any) -> None:
    recipe = recipes.load("masktrack", profile)
    assert (recipe.method, recipe.profile) == ("masktrack", profile)
    assert recipe.network == ("paper" if profile == "gpu" else "small")
    network = small()
    for each in recipe.stages:
        assert len(each.options) > 0
        tiny = Stage(each.name, steps=1, batch=2, size=32, lr=each.lr, options=each.options)
        loss, _ = MaskTrackTask().loss(network, MaskTrackTask().batch(tiny, [0, 1], CPU), tiny)
        loss.backward()
        assert all(p.grad is not None for p in network.parameters())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"guides": "box"}, r"stage 'stills': masktrack does not know the option 'guides'; choose from guide, spoil"),
        (
            {"spoiling": {"dilate": 1}},
            r"does not know the option 'dilate'; choose from scale, shift, points, .*floor",
        ),
        ({"guide": "boxes"}, r"there is no guide 'boxes'; choose from mask, box, none"),
    ],
)
def test_options_that_no_one_reads_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(TutorialError, match=message):
        MaskTrackTask().batch(stage(**options), [0], CPU)


def test_guides() -> None:
    mask = torch.zeros(1, 9, 9, dtype=torch.bool)
    mask[0, 2, 3] = mask[0, 5, 7] = True
    assert torch.equal(make_guide(mask, "mask"), mask)
    assert int(make_guide(mask, "box").sum()) == 4 * 5
    assert not make_guide(mask, "none").any()


# ---------------------------------------------------------------------------------------------------- propagation


class Puppet(MaskTrack):
    """A MaskTrack whose answer is a function of picture and guide; it writes down what it is shown."""

    def __init__(self, answer: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__(Spy())  # type: ignore[arg-type]
        self.answer = answer
        self.shown: list[tuple[Tensor, Tensor]] = []

    def __deepcopy__(self, memo: object) -> Puppet:
        return self  # so that a test sees what a segmenter's own modules are shown

    def forward(self, image: Tensor, guide: Tensor) -> Tensor:
        self.shown.append((image.clone(), guide.clone()))
        yes = self.answer(image, guide).float()
        return torch.stack([4 - 8 * yes, 8 * yes - 4], dim=1)


def copier() -> Puppet:
    """Returns its guide."""
    return Puppet(lambda image, guide: guide)


def clip(length: int = 4, size: int = 40) -> tuple[Tensor, Tensor]:
    """Grey frames ``uint8 [T, 3, H, W]`` of which frame t has the value 10 t, and a mask with objects 3 and 9."""
    frames = (torch.arange(length, dtype=torch.uint8) * 10).reshape(-1, 1, 1, 1).expand(-1, 3, size, size).clone()
    mask = torch.zeros(size, size, dtype=torch.uint8)
    mask[4:10, 4:10], mask[25:30, 20:35] = 3, 9
    return frames, mask


def test_it_meets_the_contract() -> None:
    made = segmenter("masktrack", network=small())
    assert isinstance(made, Segmenter)
    frames, mask = clip()
    probabilities = propagate(made, frames, mask, probabilities=True)
    assert probabilities.shape == (4, 3, 40, 40)
    torch.testing.assert_close(probabilities.sum(1), torch.ones(4, 40, 40))
    assert object_ids(propagate(segmenter("masktrack", network=copier()), frames, mask)) == [3, 9]


def test_the_last_mask_grows_by_a_disk_before_it_guides() -> None:
    frames, mask = clip(3)
    network = copier()
    ids = propagate(MaskTrackSegmenter(network, dilation=2), frames, mask)
    first = torch.stack([mask == 3, mask == 9])
    assert torch.equal(network.shown[0][1], dilate(first, 2))
    assert torch.equal(network.shown[1][1], dilate(dilate(first, 2), 2))
    assert torch.equal(ids[2] == 3, dilate(dilate(first, 2), 2)[0])
    still = copier()
    ids = propagate(MaskTrackSegmenter(still, dilation=0), frames, mask)
    assert torch.equal(ids[2], mask)


def test_the_dilation_follows_the_size_of_the_picture() -> None:
    """5 pixels at 480p, as in the paper."""
    assert [dilation_for(*s) for s in ((480, 854), (854, 480), (96, 96), (240, 432), (16, 16), (1080, 1920))] == [
        5, 5, 1, 2, 1, 11,
    ]  # fmt: skip
    network = copier()
    frames, mask = clip(2, size=192)
    propagate(MaskTrackSegmenter(network), frames, mask)
    assert torch.equal(network.shown[0][1][0], dilate((mask == 3)[None], 2)[0])


def test_the_guide_is_the_decision_and_not_the_doubt() -> None:
    """The last frame's answer goes in as 0 and 1, each pixel to one object, and nothing older is remembered."""
    frames, mask = clip(4)
    both_want_all = Puppet(lambda image, guide: torch.ones_like(guide) * (0.9 if float(image.mean()) < 0.05 else 0.2))
    made = MaskTrackSegmenter(both_want_all, dilation=0)
    propagate(made, frames, mask)
    guides = [guide for _, guide in both_want_all.shown]
    assert all(guide.dtype == torch.bool for guide in guides)
    assert int((guides[1].sum(0) > 1).sum()) == 0  # both objects wanted every pixel of frame 1
    assert guides[1].any()
    assert not guides[2].any()  # frame 2 answered nothing: what came before is forgotten
    assert torch.equal(made.inspect()["guide"], made.previous)


def test_a_second_clip_knows_nothing_of_the_first() -> None:
    frames, mask = clip()
    used, network = MaskTrackSegmenter(small()), small()
    propagate(used, frames, mask)
    other = torch.where(mask == 9, 1, 0).to(torch.uint8)
    again = propagate(used, frames, other, probabilities=True)
    assert torch.equal(again, propagate(MaskTrackSegmenter(network), frames, other, probabilities=True))


def test_objects_at_once_are_objects_one_by_one() -> None:
    """One forward pass per object: its own guide, the same picture, and the merging comes after."""
    frames, mask = clip(2)
    network = copier()
    propagate(MaskTrackSegmenter(network, dilation=0), frames, mask)
    ((image, guide),) = network.shown
    assert image.shape == (2, 3, 40, 40)
    assert torch.equal(image[0], image[1])
    assert [boxes(g[None])[0].tolist() for g in guide] == [[4, 4, 9, 9], [25, 20, 29, 34]]


@pytest.mark.parametrize("kind", ["mask", "box", "none"])
def test_the_guide_is_made_as_in_training(kind: Any) -> None:
    frames, mask = clip(2)
    mask[4, 4] = 0  # a corner is missing: a box fills it
    network = copier()
    propagate(MaskTrackSegmenter(network, guide=kind, dilation=1), frames, mask)
    expected = make_guide(dilate(torch.stack([mask == 3, mask == 9]), 1), kind)
    assert torch.equal(network.shown[0][1], expected)


def test_later_objects_join_and_take_their_pixels() -> None:
    frames, mask = clip(4)
    later = torch.zeros_like(mask)
    later[8:14, 8:14], later[25:30, 20:35] = 5, 9  # 9 is known already
    network = copier()
    made = MaskTrackSegmenter(network, dilation=0)
    ids = propagate(made, frames, mask, later={2: later})
    assert object_ids(ids[2]) == [3, 5, 9]
    assert torch.equal(ids[3], ids[2])
    assert network.shown[-1][1].shape[0] == 3
    assert (ids[2][8:10, 8:10] == 5).all()


def test_ids_seen_before_are_not_introduced_again() -> None:
    frames, mask = clip(2)
    made = MaskTrackSegmenter(copier())
    made.begin(frames[0].float() / 255, mask)
    mask[35:38, 2:5] = 12
    made.introduce(frames[0].float() / 255, mask)
    assert made.objects == [3, 9, 12]
    assert made.step(frames[1].float() / 255).shape == (4, 40, 40)


def test_several_annotations() -> None:
    frames, mask = clip(5)
    moved = mask.roll(5, dims=1)
    ids = propagate_nearest(MaskTrackSegmenter(copier(), dilation=0), frames, {0: mask, 4: moved})
    assert all(torch.equal(ids[t], mask if t <= 2 else moved) for t in range(5))


# ------------------------------------------------------------------------------------------------------------ boxes


def test_a_box_network_turns_the_first_boxes_into_masks() -> None:
    frames, mask = clip(3)
    mask[5, 5] = 0

    def left_half(image: Tensor, guide: Tensor) -> Tensor:
        half = guide.clone()
        half[..., 22:] = False
        return half

    box_network, network = Puppet(left_half), copier()
    ids = propagate(MaskTrackSegmenter(network, box_network=box_network, dilation=0), frames, mask)
    ((image, guide),) = box_network.shown  # frame 0 only
    assert torch.equal(guide, fill_boxes(torch.stack([mask == 3, mask == 9])))
    assert float(image.max()) == 0
    assert torch.equal(network.shown[0][1], left_half(image, guide))
    assert (ids[1] == 3)[5, 5]
    assert not (ids[1] == 9)[:, 22:].any()


# -------------------------------------------------------------------------------------------------------- fine-tuning


def a_frame() -> tuple[Tensor, Tensor]:
    made = sprites.make_clip(1, size=32, length=1)
    return made.frames[0].float() / 255, made.masks[0] == 1


def test_fine_tuning_changes_a_copy_and_learns_frame_0() -> None:
    network = small()
    before = copy.deepcopy(network.state_dict())
    frame, mask = a_frame()

    def loss(net: MaskTrack) -> float:
        with torch.no_grad():
            return float(nn.functional.cross_entropy(net(frame[None], dilate(mask[None], 1)), mask[None].long()))

    with torch.no_grad():  # propagate calls it so
        tuned = fine_tune(network, frame, mask, steps=12, batch=4, lr=3e-3)
    assert loss(tuned) < 0.7 * loss(network)
    assert all(torch.equal(before[k], v) for k, v in network.state_dict().items())
    assert not tuned.training
    again = fine_tune(network, frame, mask, steps=2, batch=2, seed=1)
    same = fine_tune(network, frame, mask, steps=2, batch=2, seed=1)
    other = fine_tune(network, frame, mask, steps=2, batch=2, seed=2)
    assert torch.equal(again.body.logits.weight, same.body.logits.weight)
    assert not torch.equal(again.body.logits.weight, other.body.logits.weight)


def test_fine_tuning_never_sees_the_same_view_twice() -> None:
    seen: list[Tensor] = []

    class Watched(MaskTrack):
        def forward(self, image: Tensor, guide: Tensor) -> Tensor:
            seen.extend(image)
            return super().forward(image, guide)

    network = Watched(small().body)
    frame, mask = a_frame()
    fine_tune(network, frame, mask, steps=3, batch=4)
    views = torch.stack([frame, *seen]).flatten(1)
    assert len(views) == 13
    assert float((torch.cdist(views, views, p=1) + 1e6 * torch.eye(13)).min()) > 10


def test_no_steps_are_no_change() -> None:
    network = small()
    tuned = fine_tune(network, *a_frame(), steps=0)
    assert tuned is not network
    assert all(torch.equal(tuned.state_dict()[k], v) for k, v in network.state_dict().items())


def test_each_object_has_a_network_of_its_own() -> None:
    frames, mask = clip(3)
    asked: list[list[int]] = []

    def online(network: MaskTrack, frame: Tensor, one: Tensor) -> MaskTrack:
        asked.append(boxes(one[None])[0].tolist())
        tuned = copier()
        tuned.number = len(asked)
        return tuned

    made = MaskTrackSegmenter(copier(), online=online, dilation=0)
    ids = propagate(made, frames, mask)
    assert asked == [[4, 4, 9, 9], [25, 20, 29, 34]]
    assert [n.number for n in made.networks] == [1, 2]
    assert torch.equal(ids[2], mask)
    assert [len(n.shown) for n in made.networks] == [2, 2]
    assert torch.equal(made.networks[1].shown[0][1][0], mask == 9)


def test_online_steps_is_the_door_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    monkeypatch.setattr(masktrack, "fine_tune", lambda net, frame, mask, steps: calls.append(steps) or net)
    frames, mask = clip(2)
    propagate(segmenter("masktrack", network=copier(), online_steps=7), frames, mask)
    assert calls == [7, 7]
    propagate(segmenter("masktrack", network=copier()), frames, mask)
    assert calls == [7, 7]


@pytest.mark.parametrize("inference", [False, True])
def test_the_shipped_network_can_be_tuned(inference: bool) -> None:
    """Networks prepared for inference are frozen, and their copies must learn all the same, wherever it is asked."""
    made = sprites.make_clip(1, size=32, length=3)
    with torch.inference_mode(inference):
        tuned = propagate(segmenter("masktrack", online_steps=2), made.frames, made.first_mask, probabilities=True)
        plain = propagate(segmenter("masktrack"), made.frames, made.first_mask, probabilities=True)
    assert tuned.shape == plain.shape
    assert float((tuned[1] - plain[1]).abs().max()) > 1e-4


def test_tuning_in_half_precision_and_under_autocast_learns_in_float32() -> None:
    frame, mask = a_frame()
    expected = fine_tune(small(), frame, mask, steps=2, batch=2).body.logits.weight
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(fine_tune(small(), frame, mask, steps=2, batch=2).body.logits.weight, expected)
    half = fine_tune(small().half(), frame.half(), mask, steps=2, batch=2).body.logits.weight
    assert half.dtype == torch.float16
    torch.testing.assert_close(half.float(), expected, atol=1e-3, rtol=1e-2)


def test_a_mask_corrected_at_once_is_learned_and_a_later_one_is_a_guide() -> None:
    frames, mask = clip(4)
    learned: list[list[int]] = []

    def online(network: MaskTrack, frame: Tensor, one: Tensor) -> MaskTrack:
        learned.append(boxes(one[None])[0].tolist())
        return copier()

    made = MaskTrackSegmenter(copier(), online=online, dilation=0)
    floats = frames.float() / 255
    made.begin(floats[0], mask)
    moved = torch.where(mask == 3, mask, 0).roll(10, 1)
    made.correct(floats[0], moved)
    made.step(floats[1])
    assert learned == [[4, 14, 9, 19], [25, 20, 29, 34]]
    made.correct(floats[1], torch.where(mask == 3, mask, 0))
    p = made.step(floats[2])
    assert len(learned) == 2  # the networks stay
    assert (p[1] > 0.5).nonzero().amin(0).tolist() == [4, 4]  # and the mask is the new one


def test_an_interrupted_tuning_is_made_up_for() -> None:
    frames, mask = clip(2)
    made_of: list[int] = []

    def online(network: MaskTrack, frame: Tensor, one: Tensor) -> MaskTrack:
        made_of.append(int(one.sum()))
        if len(made_of) == 2:
            raise KeyboardInterrupt
        return copier()

    made = MaskTrackSegmenter(copier(), online=online, dilation=0)
    floats = frames.float() / 255
    made.begin(floats[0], mask)
    with pytest.raises(KeyboardInterrupt):
        made.step(floats[1])
    p = made.step(floats[1])
    assert made_of == [36, 75, 36, 75]  # the step has not been made, so it is made whole
    assert torch.equal(most_probable(p).bool(), mask > 0)


# --------------------------------------------------------------------------------------------------------------- flow


def test_flow_picture_is_the_magnitude_in_0_1() -> None:
    flow = torch.zeros(2, 4, 6)
    flow[:, 1, 2], flow[:, 3, 3] = torch.tensor([3.0, 4.0]), torch.tensor([0.0, -2.5])
    picture = flow_picture(flow)
    assert picture.shape == (3, 4, 6)
    assert picture[:, 1, 2].tolist() == [1, 1, 1]
    assert picture[:, 3, 3].tolist() == pytest.approx([0.5] * 3)
    assert int((picture > 0).sum()) == 6
    assert not flow_picture(torch.zeros(2, 4, 6)).any()


def test_the_flow_stream_is_averaged_with_the_picture() -> None:
    """The network says 0.9 to the picture and 0.1 to the flow: 0.5 is an even draw with the background."""
    frames, mask = clip(3)
    pairs = []

    def flow(before: Tensor, after: Tensor) -> Tensor:
        pairs.append((round(float(before[0, 0, 0]) * 255), round(float(after[0, 0, 0]) * 255)))
        return torch.ones(2, 40, 40)

    def logits_of(image: Tensor, guide: Tensor) -> Tensor:
        white = bool((image == 1).all())
        return torch.full_like(guide, 0.1 if white else 0.9, dtype=torch.float32)

    network = Puppet(logits_of)
    one = torch.where(mask == 3, mask, 0)
    probabilities = propagate(MaskTrackSegmenter(network, flow=flow, dilation=1), frames, one, probabilities=True)
    assert pairs == [(0, 10), (10, 20)]
    assert len(network.shown) == 4
    assert torch.equal(network.shown[0][1], network.shown[1][1])  # the same guide for both
    torch.testing.assert_close(probabilities[1, 1], torch.full((40, 40), 0.5))


def test_raft_shapes_and_units() -> None:
    """Small pictures are enlarged for RAFT; its answer comes back at their size, in their pixels."""
    raft = RaftFlow(pretrained=False)
    sizes = []

    class Right(nn.Module):
        def forward(self, before: Tensor, after: Tensor) -> list[Tensor]:
            sizes.append(tuple(before.shape))
            assert float(before.min()) >= -1
            assert float(before.max()) <= 1
            flow = torch.zeros(1, 2, *before.shape[2:])
            flow[:, 0], flow[:, 1] = 8, 4
            return [flow * 0, flow]

    with torch.no_grad():
        assert raft(torch.rand(3, 40, 56), torch.rand(3, 40, 56)).shape == (2, 40, 56)
    raft.network = Right()
    flow = raft(torch.rand(3, 64, 96), torch.rand(3, 64, 96))
    assert sizes == [(1, 3, 128, 192)]
    assert flow[:, 0, 0].tolist() == [4, 2]
    assert raft(torch.rand(3, 130, 200), torch.rand(3, 130, 200)).shape == (2, 130, 200)
    assert sizes[1] == (1, 3, 136, 200)


def test_raft_without_a_network_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    from torchvision.models import optical_flow

    def offline(weights: Any) -> nn.Module:
        raise urllib.error.URLError("no route to host")

    monkeypatch.setattr(optical_flow, "raft_small", offline)
    with pytest.raises(
        TutorialError, match=r"RAFT's weights could not be fetched .*no route.*; connect to a network"
    ):
        RaftFlow()


# ------------------------------------------------------------------------------------------------------------- doors


def test_unknown_names() -> None:
    with pytest.raises(TutorialError, match="there is no method 'masktrak'; choose from masktrack"):
        build("masktrak")
    with pytest.raises(TutorialError, match="there is no method 'stm9'"):
        segmenter("stm9")
    with pytest.raises(TutorialError, match="there is no method 'stm9'"):
        training.task("stm9")
    with pytest.raises(TutorialError, match="there is no size 'large' of masktrack; choose small or paper"):
        build("masktrack", "large")  # type: ignore[arg-type]
    with pytest.raises(TutorialError, match="there is no head 'fcn'; choose from aspp, largefov"):
        build("masktrack", "paper", head="fcn")


def test_weights_that_do_not_ship_are_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "SHIPPED", tmp_path)
    with pytest.raises(
        TutorialError, match=r"there is no weights file .*masktrack\.safetensors; train it \(python -m"
    ):
        segmenter("masktrack")
    assert models.shipped_weights("masktrack", "no-guide").name == "masktrack-no-guide.safetensors"


def test_weights_by_path_none_and_shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from vos_tutorial.models.weights import save_weights

    torch.manual_seed(3)
    network = build("masktrack")
    save_weights(tmp_path / "masktrack.safetensors", network, {"method": "masktrack", "size": "small"})
    monkeypatch.setattr(models, "SHIPPED", tmp_path)
    weight = network.body.logits.weight
    for given in ("shipped", tmp_path / "masktrack.safetensors", str(tmp_path / "masktrack.safetensors")):
        assert torch.equal(segmenter("masktrack", given).network.body.logits.weight, weight)  # type: ignore[attr-defined]
    assert not torch.equal(segmenter("masktrack", None).network.body.logits.weight, weight)  # type: ignore[attr-defined]


def test_short_side_wraps_it() -> None:
    network = copier()
    frames, mask = clip(2, size=80)
    ids = propagate(segmenter("masktrack", network=network, short_side=40, dilation=0), frames, mask)
    assert network.shown[0][0].shape == (2, 3, 40, 40)
    assert ids.shape == (2, 80, 80)
    assert object_ids(ids[1]) == [3, 9]


def test_without_a_network_the_paper_size_starts_from_random_weights(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from torchvision.models import VGG16_Weights

    def refused(*_: object, **__: object) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr(type(VGG16_Weights.DEFAULT), "get_state_dict", refused)
    network = masktrack.build("paper", head="largefov")
    before = network.body.features[0].weight.clone()
    assert masktrack.start_from_imagenet(network) is False
    assert "no route to host" in capsys.readouterr().out
    assert torch.equal(network.body.features[0].weight, before)


def test_the_train_command_learns_from_a_folder_of_stills(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for kind in ("images", "masks"):
        (tmp_path / "mine" / kind).mkdir(parents=True)
    picture = np.zeros((90, 120, 3), dtype=np.uint8)
    picture[20:70, 30:90] = 200
    Image.fromarray(picture).save(tmp_path / "mine" / "images" / "a.png")
    Image.fromarray(picture[..., 0] // 200 * 255).save(tmp_path / "mine" / "masks" / "a.png")
    command = ["train", "masktrack", "--profile", "smoke", "--out", str(tmp_path / "run"), "--set", "stills.steps=3"]
    assert command_line([*command, "--stills", str(tmp_path / "mine")]) == 0
    assert (tmp_path / "run" / "weights.safetensors").exists()
    assert command_line([*command, "--stills", str(tmp_path / "nowhere")]) == 2
    assert "there is no folder" in capsys.readouterr().err


def test_the_ablation_commands_train_what_the_table_says() -> None:
    found = {}
    for out, command in experiment.TRAININGS.commands((name, s) for name in ("recipe", *ABLATIONS) for s in range(3)):
        options = _arguments(command[command.index("train") + 1 :])
        (stage,) = recipes.override(recipes.load("masktrack", options.profile), options.set).stages
        found[out.name] = (options.seed, stage.steps, stage.options)
    assert len(found) == 3 * (1 + len(ABLATIONS))
    (stage,) = recipes.load("masktrack", "cpu").stages
    assert found["recipe-1"] == (1, stage.steps, stage.options)
    assert {steps for _, steps, _ in found.values()} == {stage.steps}, "an ablation is as long as the recipe"
    assert found["boxes-2"][2]["guide"] == "box"
    assert found["no-deformation-0"][2]["spoiling"] == ABLATIONS["no deformation"]["spoiling"]


# --- what the page says of the loop --------------------------------------------------------------------------------


def moving_square(step: int, length: int = 6) -> Clip:
    """A square of 10 pixels that moves to the right, over grey."""
    masks = torch.zeros(length, 32, 64, dtype=torch.uint8)
    for t in range(length):
        masks[t, 10:20, 5 + t * step : 15 + t * step] = 1
    return Clip(torch.full((length, 3, 32, 64), 90, dtype=torch.uint8), masks)


@pytest.mark.parametrize("wanted", [0.9, 0.7, 0.5])
def test_a_random_guide_is_as_good_as_wanted(wanted: float) -> None:
    mask = moving_square(1).masks[0] > 0
    guide = experiment.matched(mask, wanted, seed=3)
    assert abs(float(iou(guide, mask)) - wanted) < 0.08
    assert torch.equal(guide, experiment.matched(mask, wanted, seed=3))


def test_the_closed_loop_of_a_network_that_never_moves() -> None:
    clips = [moving_square(0), moving_square(1), moving_square(3)]
    network = masktrack.build(width=8)
    first = clips[0].masks[0] > 0
    network.forward = lambda image, guide: torch.stack([~first, first]).float().expand(len(guide), -1, -1, -1)
    found = experiment.closed_loop(network, clips, {"x": [0.0, 1.0], "y": [0.5, 1.0]})
    assert found["in"] == found["out"] == found["random out"]  # it answers with the first mask, whatever the guide
    assert found["map"] == pytest.approx([50 + v / 2 for v in found["in"]], abs=0.01)
    assert found["out"][0] == pytest.approx(100 * (1 + 90 / 110 + 70 / 130) / 3, abs=0.01)
    assert found["found"]["own"] == 0
    assert found["lost"] == 2
    assert found["clips"]["best"]["clip"] == 0
    assert found["clips"]["worst"] == {
        "clip": 2,
        "in": found["clips"]["worst"]["out"],
        "out": [53.85, 25.0, 5.26, 0, 0],
    }


def test_the_previous_truth_counts_objects_not_clips() -> None:
    still, fast = moving_square(0), moving_square(20, length=3)
    both = Clip(still.frames, torch.where(still.masks > 0, 1, 0).to(torch.uint8))
    both.masks[:, 22:30, 40:50] = 2  # a second object that stays: the clip has two
    assert experiment.previous_truth([both, fast]) == pytest.approx(100 * 2 / 3, abs=0.01)


def test_a_network_that_ships_needs_no_training_to_be_measured() -> None:
    assert 0 in experiment.seeds_of("recipe")
    (shipped, *_) = experiment.networks_of("recipe")
    assert not shipped.training
