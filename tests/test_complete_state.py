"""A run that is killed at any step ends as one that is not, whatever it began with and whatever it froze or moved.

The networks have the paper's parts (ResNets with frozen batch norm, ImageNet weights, two optimisers, a penalty that
moves), only fewer of them; "ImageNet" is a state dict of this file.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchvision.models import ResNet50_Weights, ResNet101_Weights
from torchvision.models.resnet import Bottleneck

from vos_tutorial import models
from vos_tutorial.__main__ import main as command_line
from vos_tutorial.data.batches import Clips, Stills
from vos_tutorial.models import backbones, masktrack, rgmp, rvos, stcnn, stm
from vos_tutorial.models.backbones import ResNetEncoder
from vos_tutorial.models.weights import read_about
from vos_tutorial.recipes import Recipe, Stage
from vos_tutorial.training import TrainingRun, checkpoints, train
from vos_tutorial.training.tasks.masktrack import MaskTrackTask
from vos_tutorial.training.tasks.rgmp import RGMPTask
from vos_tutorial.training.tasks.rvos import RVOSTask
from vos_tutorial.training.tasks.stcnn import STCNNTask
from vos_tutorial.training.tasks.stm import STMTask


class Squares:
    """Clips and stills in no time: a bright square that moves, on noise."""

    def batch(self, seeds: Any, size: int, length: int | None = None, max_skip: int = 0) -> Any:
        frames = torch.stack([torch.rand(length or 1, 3, size, size, generator=_generator(s)) / 2 for s in seeds])
        masks = torch.zeros(len(seeds), length or 1, size, size, dtype=torch.uint8)
        for t in range(length or 1):
            frames[:, t, 0, 6:20, 4 + t : 18 + t], masks[:, t, 6:20, 4 + t : 18 + t] = 1, 1
        return Stills(frames[:, 0], masks[:, 0] > 0) if length is None else Clips(frames, masks)


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def tiny_resnet(weights: None = None) -> nn.Module:
    """A ResNet of one thin block a stage, with torchvision's names: maps of 16, 32, 64 and 128 channels."""
    net, into = nn.Module(), 64
    net.conv1, net.bn1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64)
    for i, width in enumerate((4, 8, 16, 32)):
        stride = 1 if i == 0 else 2
        shortcut = nn.Sequential(nn.Conv2d(into, 4 * width, 1, stride, bias=False), nn.BatchNorm2d(4 * width))
        setattr(net, f"layer{i + 1}", nn.Sequential(Bottleneck(into, width, stride, shortcut)))
        into = 4 * width
    return net


@pytest.fixture
def imagenet(monkeypatch: pytest.MonkeyPatch) -> dict[str, Tensor]:
    """Weights and statistics that no random network has; what torchvision would fetch."""
    monkeypatch.setattr(backbones, "resnet50", tiny_resnet)
    monkeypatch.setattr(backbones, "resnet101", tiny_resnet)
    whole = ResNetEncoder.__init__

    def thin(self: ResNetEncoder, *arguments: Any, **options: Any) -> None:
        whole(self, *arguments, **options)
        self.channels = [16, 32, 64, 128][: len(self.channels)]

    monkeypatch.setattr(ResNetEncoder, "__init__", thin)
    torch.manual_seed(77)
    learned = tiny_resnet()
    for module in learned.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.uniform_(-0.1, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    state = learned.state_dict()
    for weights in (ResNet50_Weights, ResNet101_Weights):
        monkeypatch.setattr(weights, "get_state_dict", lambda self, **how: state)
    return state


@pytest.fixture(autouse=True)
def a_disk_that_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda file: None)


Made = tuple[Callable[[], nn.Module], Callable[[], Any], Recipe]


def recipe(method: str, *stages: Stage, **fields: Any) -> Recipe:
    return Recipe(method, "cpu", "paper", stages, source="test", **fields)


def stage(name: str, steps: int = 2, batch: int = 2, **more: Any) -> Stage:
    return Stage(name, steps, batch, 32, 1e-3, **more)


def a_masktrack() -> Made:
    stages = stage("stills", 4, optimizer="sgd", schedule="poly", options={"dice": 1.0})
    return lambda: masktrack.build(width=8), lambda: MaskTrackTask(Squares()), recipe("masktrack", stages, ema=0.9)


def an_rgmp() -> Made:
    stages = (
        stage("pairs", options={"source": "simulated"}),
        stage("video", 3, options={"recurrence": {"from": 1, "to": 2}}),
    )

    def build() -> nn.Module:
        return rgmp.RGMP(ResNetEncoder(1, stages=4, bias=True), 16)

    return build, lambda: RGMPTask(Squares(), Squares()), recipe("rgmp", *stages)


def an_rvos() -> Made:
    stages = (stage("truth", options={"frames": 2}), stage("own", options={"frames": 2, "previous": "own"}))
    return (
        lambda: rvos.build("paper", hidden=16),
        lambda: RVOSTask(Squares(), Squares()),
        recipe("rvos", *stages, ema=0.9),
    )


def an_stm() -> Made:
    stages = (
        stage("stills", options={"source": "simulated", "penalty": 1.0}),
        stage("video", 3, options={"penalty": {"from": 1.0, "to": 0.5}}),
        stage("again", accumulate=2),  # leaves the penalty where it is
    )

    def build() -> nn.Module:
        return stm.STM(ResNetEncoder(0), ResNetEncoder(2), 8, 16, 16)

    return build, lambda: STMTask(Squares(), Squares()), recipe("stm", *stages, ema=0.9)


def an_stcnn() -> Made:
    gan = {"adversarial": 0.1, "margin": 0.45}
    stages = (
        stage("prediction", options={"objective": "prediction", **gan}),
        stage("spatial", options={"objective": "spatial", "source": "stills"}),
        stage("joint", options={**gan, "detach": False, "generator_optimizer": "adamw"}, optimizer="sgd"),
        stage("again", options={"prediction": 0.0}),  # the gradient still reaches the generator
    )

    def build() -> nn.Module:
        network = stcnn.build(width=8, scaffold=True)
        for half in (network.encoder, network.decoder):
            for module in list(half.modules()):
                for name, child in module.named_children():
                    if isinstance(child, nn.GroupNorm):
                        setattr(module, name, nn.BatchNorm2d(child.num_channels))
        return network

    return build, lambda: STCNNTask(Squares(), Squares()), recipe("stcnn", *stages, ema=0.9)


METHODS = {"masktrack": a_masktrack, "rgmp": an_rgmp, "rvos": an_rvos, "stm": an_stm, "stcnn": an_stcnn}


def begin(method: str, network: nn.Module) -> nn.Module:
    """What a run starts from: ImageNet and frozen norms where the paper has them."""
    if method == "stcnn":
        assert isinstance(network, stcnn.STCNN)
        network.freeze_norm()
    elif method != "masktrack":
        assert models.start_from_imagenet(method, network)
    return network


class Killed(Exception):
    """The power cut."""


def killed(task: Any, after: int) -> Any:
    """The task, until its ``after``-th loss."""
    whole, left = task.loss, [after]

    def loss(*arguments: Any) -> Any:
        left[0] -= 1
        if left[0] < 0:
            raise Killed
        return whole(*arguments)

    task.loss = loss
    return task


def modes(network: nn.Module) -> list[bool]:
    """Which modules are awake when the network is put into training mode, and which parameters learn."""
    awake = [module.training for module in network.train().modules()]
    network.eval()
    return awake + [p.requires_grad for p in network.parameters()]


@pytest.mark.usefixtures("imagenet")
@pytest.mark.parametrize("method", METHODS)
def test_killed_at_any_step_of_any_stage(method: str, tmp_path: Path) -> None:
    build, task, plan = METHODS[method]()
    torch.manual_seed(0)
    whole = train(begin(method, build()), task(), plan, progress=False)
    losses = sum(each.steps * each.accumulate for each in plan.stages)
    for cut in range(1, losses):
        out = tmp_path / str(cut)
        torch.manual_seed(0)
        with pytest.raises(Killed):
            train(begin(method, build()), killed(task(), cut), plan, out=out, progress=False, checkpoint_every=1)
        torch.manual_seed(5)  # another network, to which nothing was done
        again = train(build(), task(), plan, out=out, progress=False)
        assert again.new_steps < plan.steps or cut == 1
        for name, value in whole.network.state_dict().items():
            assert torch.equal(value, again.network.state_dict()[name]), (cut, name)
        assert modes(again.network) == modes(whole.network), cut
        assert again.moved == whole.moved
        for name, value in whole.moved.items():
            assert getattr(again.network, name) == getattr(whole.network, name) == value


def test_what_the_stages_moved_is_told() -> None:
    _, task, plan = an_stm()
    small = Recipe("stm", "cpu", "small", plan.stages, source="test")
    run = train(stm.build(width=8, affinity="dot", shared_keys=False), task(), small, progress=False)
    assert run.moved == {"penalty": 0.5}
    assert isinstance(run.network, stm.STM)
    assert run.network.penalty == 0.5


def finished(out: Path) -> dict[str, Tensor]:
    from safetensors.torch import load_file

    return load_file(out / "weights.safetensors")


@pytest.mark.usefixtures("imagenet")
@pytest.mark.parametrize("cut", [1, 3])
def test_the_command_goes_on_from_imagenet(
    cut: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """The recipe of size gpu in little, as a user runs it: ImageNet, frozen norms, bfloat16."""
    monkeypatch.chdir(tmp_path)
    command = ["train", "stm", "--profile", "gpu", "--device", "cpu", "--checkpoint-every", "1"]
    for name in ("stills", "video"):
        command += ["--set", f"{name}.steps=2", "--set", f"{name}.size=32", "--set", f"{name}.batch=1"]
    made = lambda name, **sources: STMTask(Squares(), Squares())  # noqa: E731
    monkeypatch.setattr("vos_tutorial.training.command.task", made)
    assert command_line([*command, "--out", "whole"]) == 0
    with monkeypatch.context() as patch:
        patch.setattr("vos_tutorial.training.command.task", lambda name, **sources: killed(made(name), cut))
        with pytest.raises(Killed):
            command_line([*command, "--out", "cut"])
    # by the second call the network is cached no more: nothing is fetched to go on
    monkeypatch.setattr(ResNet50_Weights, "get_state_dict", None)
    assert command_line([*command, "--out", "cut"]) == 0
    whole, again = finished(Path("whole")), finished(Path("cut"))
    assert all(torch.equal(whole[name], again[name]) for name in whole)
    about = read_about("cut/weights.safetensors")
    assert about.metadata["start"] == "ImageNet"
    assert json.loads(about.metadata["recipe"])["start"] == "ImageNet"
    assert (about.size, about.lines, about.enlarge, about.tuning) == ("paper", None, 1, 0)
    network = models.trained("stm", "cut/weights.safetensors")  # of paper size, as the file says
    assert isinstance(network, stm.STM)
    assert network.query_encoder.strides[-1] == 16


def test_a_penalty_that_moved_comes_back_with_the_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("vos_tutorial.recipes.load", lambda method, profile: _moving())
    monkeypatch.setattr("vos_tutorial.training.command.task", lambda name, **sources: STMTask(Squares(), Squares()))
    seen: list[TrainingRun] = []
    monkeypatch.setattr(
        "vos_tutorial.training.command.train", lambda *a, **k: seen.append(train(*a, progress=False, **k)) or seen[-1]
    )
    assert command_line(["train", "stm", "--profile", "cpu", "--out", "run"]) == 0
    network = models.trained("stm", "run/weights.safetensors")
    assert isinstance(network, stm.STM)
    assert network.penalty == 0.5
    frames = torch.rand(1, 3, 32, 32)
    mask = torch.zeros(32, 32, dtype=torch.uint8)
    mask[4:20, 4:20] = 1
    answers = []
    for each in (network, seen[0].network):
        method = stm.segmenter(each)  # type: ignore[arg-type]
        with torch.no_grad():
            method.begin(frames[0], mask)
            answers.append(method.step(frames[0]))
    torch.testing.assert_close(*answers, atol=1e-5, rtol=0)  # one lies in channels-last order
    network.penalty = 0.0
    method = stm.segmenter(network)
    with torch.no_grad():
        method.begin(frames[0], mask)
        assert not torch.allclose(method.step(frames[0]), answers[1], atol=1e-4)  # it would have been seen


def _moving() -> Recipe:
    _, _, plan = an_stm()
    form = {"width": 8, "affinity": "dot", "shared_keys": False}
    return Recipe("stm", "cpu", "small", plan.stages, source="test", options=form)


def test_checkpoints_hold_plain_values_and_tensors(tmp_path: Path) -> None:
    build, task, plan = a_masktrack()
    train(build(), task(), plan, out=tmp_path, progress=False)
    found = checkpoints.load_checkpoint(tmp_path / "checkpoint.pt", torch.device("cpu"))
    assert found is not None
    assert found.frozen == {"parameters": [], "norms": [], "modules": []}
    assert found.start == "random"
