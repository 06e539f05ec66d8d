"""The yardsticks of the speed benchmarks, and networks prepared for inference, compute what the library computes."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from vos_tutorial.models import build
from vos_tutorial.models.backbones import ResNetEncoder, for_inference
from vos_tutorial.models.frame_prediction import Body, BottleneckEncoder, Generator
from vos_tutorial.models.rgmp import RGMP
from vos_tutorial.models.rvos import RVOS
from vos_tutorial.models.stcnn import STCNN, SegmentationDecoder
from vos_tutorial.models.stm import STM, STMSegmenter
from vos_tutorial.recipes import load
from vos_tutorial.training import task

BENCHMARKS = Path(__file__).resolve().parent.parent / "benchmarks"


@pytest.fixture
def benchmarks(monkeypatch: pytest.MonkeyPatch) -> None:
    """The scripts can be imported, by their own names, during one test."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    for name in ("comparison", "convolution", "gpu", "rgmp", "rvos", "stcnn", "stm", "training"):
        monkeypatch.delitem(sys.modules, name, raising=False)


@torch.inference_mode()
def test_the_yardstick_of_stm_gives_the_same_answer(benchmarks: None) -> None:
    import stm
    from convolution import graded

    torch.manual_seed(0)
    network = STM(ResNetEncoder(0), ResNetEncoder(2), key=32, value=64, width=32).eval()
    graded(network)
    sides = stm.Sides(network, for_inference(network), objects=2, frames=2, size=(37, 53))
    relative, apart = sides.difference()
    assert relative < 1e-5
    assert apart < 1e-5
    assert sides.our_segment().amax() - sides.our_segment().amin() > 0.05  # not a constant
    ours = sides.our_segment()
    sides.memory.store(9, *(2 * x for x in sides.our_memorize()))  # the yardstick still has two frames in memory
    assert (sides.plain_segment() - ours).abs().max() < 1e-5 < (sides.our_segment() - ours).abs().max()
    steps = stm.Steps(network, stored=3, size=(37, 53))
    assert steps.difference() < 1e-5
    assert steps.difference() < 1e-5  # a step that is taken again starts from the same state
    assert len(steps.segmenter.memory.frames) == len(steps.first.stored) + 1 == 3
    torch.testing.assert_close(steps.first_read().shape, steps.our_read().shape)
    steps.first.stored.pop()
    assert steps.difference() > 1e-5


@torch.inference_mode()
def test_the_yardstick_of_rgmp_gives_the_same_answer(benchmarks: None) -> None:
    import rgmp
    from convolution import graded

    torch.manual_seed(0)
    network = RGMP(ResNetEncoder(1, stages=4, bias=True), width=32, align_corners=True).eval()
    graded(network)
    fast = for_inference(network)
    assert rgmp.Sides(network, fast, objects=2, scales=(0.5, 1.0), size=(40, 60)).difference() < 1e-5
    sides = rgmp.Sides(network, fast, objects=1, scales=(1.0,), size=(40, 60))
    assert sides.difference() < 1e-5
    sides.plain.references = [[torch.zeros_like(r) for r in mine] for mine in sides.plain.references]
    assert sides.difference() > 1e-5


@torch.inference_mode()
def test_the_yardstick_of_rvos_gives_the_same_answer(benchmarks: None) -> None:
    import rvos
    from convolution import graded

    torch.manual_seed(0)
    network = RVOS(ResNetEncoder(stages=4), hidden=16).eval()
    graded(network)
    rvos.spread(network)
    fast = for_inference(network)
    for objects, slots in ((3, 3), (1, 1), (1, 3)):
        assert rvos.Sides(network, fast, objects, slots, size=(37, 53)).difference() < 1e-5
    sides = rvos.Sides(network, fast, objects=3, slots=3, size=(37, 53))
    answer = sides.plain_step()
    assert answer.amax() - answer.amin() > 0.05  # not a constant
    assert (answer[0] - answer[1]).abs().max() > 1e-3  # and not the same for all objects
    # Every input of a cell counts: a mask, what the last frame left, the object before.
    for change in (
        lambda plain: setattr(plain, "previous", plain.previous * 0),
        lambda plain: setattr(plain, "memory", None),
        lambda plain: setattr(plain, "memory", plain.memory[::-1]),
    ):
        sides = rvos.Sides(network, fast, objects=3, slots=3, size=(37, 53))
        change(sides.plain)
        assert sides.difference(steps=1) > 1e-4


@torch.inference_mode()
def test_the_yardstick_of_stcnn_gives_the_same_answer(benchmarks: None) -> None:
    import stcnn

    torch.manual_seed(0)
    body = Body(8, True, (8, 8, 8, 8), (16, 24, 32, 32), (1, 1, 2, 3), nn.BatchNorm2d)
    generator = Generator(body, (24, 16, 8))
    decoder = SegmentationDecoder(
        body.channels, generator.widths, 16, body.norm, alone=False, top_down="deconv_crop", attention=True
    )
    network = STCNN(generator, BottleneckEncoder(body, 3, dilated=True), decoder).eval()
    stcnn.spread(network)
    fast = for_inference(network)
    for size in ((61, 85), (96, 64)):
        sides = stcnn.Sides(network, fast, size)
        assert sides.difference(steps=6) < 1e-5  # the window holds past frames alone from the fourth step on
    answer = sides.plain_step()
    assert answer.amax() - answer.amin() > 0.05  # not a constant
    # Time counts, and so does the order of the frames.
    sides = stcnn.Sides(network, fast, size=(61, 85))
    sides.difference(steps=3)
    sides.plain.past.reverse()
    assert sides.difference(steps=1) > 1e-4


@torch.inference_mode()
def test_a_network_prepared_for_inference_is_a_copy_without_batch_norm(benchmarks: None) -> None:
    from convolution import graded

    torch.manual_seed(0)
    encoder = ResNetEncoder(1, stages=3, bias=True)
    graded(encoder)
    fast = for_inference(encoder.eval())
    assert not any(isinstance(m, nn.BatchNorm2d) for m in fast.modules())
    assert any(isinstance(m, nn.BatchNorm2d) for m in encoder.modules())
    x, mask = torch.rand(1, 3, 64, 96), torch.rand(1, 1, 64, 96)
    for ours, theirs in zip(fast(x, mask), encoder(x, mask), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


def test_a_frame_of_a_small_network_can_be_timed(benchmarks: None) -> None:
    from convolution import frame_ms

    network = build("stm", "small")
    assert isinstance(network, STM)
    assert frame_ms(STMSegmenter(network), (32, 48), frames=3) > 0


def test_the_gpu_script_measures_stops_and_takes_up_again(benchmarks: None, monkeypatch: pytest.MonkeyPatch) -> None:
    import gpu

    monkeypatch.setattr(gpu, "FORMS", {"one": (False, False), "other": (False, True)})  # CPUs are slow in bfloat16
    monkeypatch.setattr(gpu, "WARM_UP", 1)
    for method in ("stm", "rgmp"):
        recipe = load(method, "smoke")
        found = gpu.measure(method, recipe, steps=12, device=torch.device("cpu"), repeats=1)
        assert set(found["step"]) == {stage.name for stage in recipe.stages}
        assert all(step[form]["ms"] > 0 for step in found["step"].values() for form in gpu.FORMS)
        assert found["run"]["steps"] == 12
        assert 4 <= found["run"]["stopped_at"] <= 8
        assert set(found["run"]["first_and_last_fifth"]) == set(found["step"])


def test_a_run_that_does_not_go_on_is_noticed(benchmarks: None, monkeypatch: pytest.MonkeyPatch) -> None:
    import gpu

    recipe = gpu.shortened(load("stm", "smoke"), 8)
    assert [stage.steps for stage in recipe.stages] == [4, 4]
    monkeypatch.setattr(gpu, "Interrupted", lambda task, at: task)  # nobody presses Ctrl-C
    network = build("stm", width=4)
    with pytest.raises(SystemExit, match="stopped after 8 of 8"):
        gpu.interrupted_run(network, network, task("stm"), recipe, torch.device("cpu"))
