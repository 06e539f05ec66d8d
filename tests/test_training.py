"""The training loop, on a toy: what it computes, that it resumes exactly, and how it fails."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import random
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).parent))
from toy_method import RECIPE, ToyTask, toy_net

from vos_tutorial import models, recipes
from vos_tutorial.__main__ import main as command_line
from vos_tutorial.errors import TutorialError
from vos_tutorial.models.weights import load_weights
from vos_tutorial.recipes import Recipe, Stage, Validate
from vos_tutorial.training import (
    TrainingRun,
    checkpoints,
    derived_seed,
    learning_rate,
    sample_seeds,
    step,
    train,
    validation,
)
from vos_tutorial.training.checkpoints import Checkpoint
from vos_tutorial.training.optimisers import MovingAverage
from vos_tutorial.training.ranks import Ranks

SCRIPT = Path(__file__).with_name("toy_method.py")
ONE_STAGE = dataclasses.replace(RECIPE, ema=None, stages=RECIPE.stages[:1])


def run_toy(
    out: Path | None = None, recipe: Recipe = RECIPE, task: ToyTask | None = None, **options: int
) -> TrainingRun:
    return train(toy_net(), task or ToyTask(), recipe, out=out, progress=False, **{"checkpoint_every": 5, **options})


def state(run: TrainingRun) -> dict[str, Tensor]:
    return run.network.state_dict()


def equal(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def steps_logged(out: Path) -> list[tuple[str, int]]:
    return [(r["stage"], r["step"]) for r in map(json.loads, (out / "log.jsonl").read_text().splitlines())]


ALL_STEPS = [(stage.name, step + 1) for stage in RECIPE.stages for step in range(stage.steps)]


# ------------------------------------------------------------------------------------------------ what it computes


def test_it_learns_and_keeps_a_record_of_every_step() -> None:
    run = run_toy()
    assert run.losses[-5:].mean() < 0.6 * run.losses[:5].mean()
    assert [(r["stage"], r["step"]) for r in run.history] == ALL_STEPS
    assert run.new_steps == RECIPE.steps == len(run.losses)
    assert run.column("accuracy").shape == run.losses.shape
    assert np.isnan(run.column("nothing")).all()
    assert run.steps_per_second > 0
    assert not run.network.training


def test_the_same_seed_gives_the_same_weights_and_another_seed_others() -> None:
    short = recipes.override(ONE_STAGE, ["first.steps=5"])
    assert equal(state(run_toy(recipe=short)), state(run_toy(recipe=short)))
    assert not equal(state(run_toy(recipe=short)), state(train(toy_net(), ToyTask(), short, seed=1, progress=False)))


def test_torchs_random_state_is_left_alone() -> None:
    net, before = toy_net(), torch.get_rng_state()
    train(net, ToyTask(), recipes.override(ONE_STAGE, ["first.steps=5"]), progress=False)
    assert torch.equal(torch.get_rng_state(), before)


def test_sample_seeds_are_unique_in_range_and_pure() -> None:
    seen = [s for stage in range(2) for step in range(50) for s in sample_seeds(3, stage, step, 8)]
    assert len(set(seen)) == len(seen)
    assert all(0 <= s < 2**63 for s in seen)
    assert sample_seeds(3, 1, 7, 4) == sample_seeds(3, 1, 7, 8)[:4]
    assert sample_seeds(3, 1, 7, 4) == [derived_seed(3, 1, 7, i) for i in range(4)]


def test_a_task_gets_each_seed_once() -> None:
    task = ToyTask()
    run_toy(task=task)
    assert len(set(task.seen)) == len(task.seen) == sum(s.steps * s.batch for s in RECIPE.stages)


def test_learning_rate_schedules() -> None:
    base = Stage("s", steps=100, batch=1, size=8, lr=2.0, warmup=10)
    assert learning_rate(base, 0) == pytest.approx(0.2)
    assert learning_rate(base, 9) == learning_rate(base, 10) == 2.0
    assert learning_rate(base, 55) == pytest.approx(1.0)  # half-way down the cosine
    assert 0 < learning_rate(base, 99) < 0.002
    poly = dataclasses.replace(base, schedule="poly")
    assert learning_rate(poly, 55) == pytest.approx(2 * 0.5**0.9)
    assert learning_rate(dataclasses.replace(base, schedule="constant"), 99) == 2.0


def test_options_that_grow_reach_both_ends_and_the_task() -> None:
    grows = {"skip": {"from": 0, "to": 2}, "back": {"from": 1, "to": 0}, "penalty": {"from": 1.0, "to": 0.0}}
    stage = Stage("s", steps=6, batch=1, size=8, lr=1.0, options={**grows, "flip": True, "spoiling": {"scale": 1}})
    seen = [stage.at(step).options for step in range(6)]
    assert [o["skip"] for o in seen] == [0, 0, 1, 1, 2, 2]
    assert [o["back"] for o in seen] == [1, 1, 1, 0, 0, 0]
    assert [o["penalty"] for o in seen] == pytest.approx([1, 0.8, 0.6, 0.4, 0.2, 0])
    assert all(o["flip"] is True and o["spoiling"] == {"scale": 1} for o in seen)
    assert dataclasses.replace(stage, steps=1).at(0).options["penalty"] == 1
    assert Stage("s", steps=6, batch=1, size=8, lr=1.0).at(3).options == {}

    class Watch(ToyTask):
        def __init__(self) -> None:
            super().__init__()
            self.made: list[float] = []
            self.lost: list[float] = []

        def batch(self, stage: Stage, seeds: Sequence[int], device: torch.device) -> Mapping[str, Tensor]:
            self.made.append(stage.options["x"])
            return super().batch(stage, seeds, device)

        def loss(
            self, network: nn.Module, batch: Mapping[str, Tensor], stage: Stage
        ) -> tuple[Tensor, dict[str, Tensor]]:
            self.lost.append(stage.options["x"])
            return super().loss(network, batch, stage)

    task, first = Watch(), ONE_STAGE.stages[0]
    growing = dataclasses.replace(first, steps=5, warmup=0, options={"x": {"from": 0.0, "to": 1.0}})
    run_toy(recipe=dataclasses.replace(ONE_STAGE, stages=(growing,)), task=task)
    assert task.made == task.lost == [0, 0.25, 0.5, 0.75, 1]


def test_groups_scale_the_learning_rate_and_clipping_bounds_the_step() -> None:
    recipe = recipes.override(ONE_STAGE, ["first.steps=1", "first.warmup=0", "first.clip_norm=0.01"])
    stage = dataclasses.replace(recipe.stages[0], optimizer="sgd", schedule="constant")
    net = toy_net()
    before = {name: p.detach().clone() for name, p in net.named_parameters()}
    run = train(net, ToyTask(), dataclasses.replace(recipe, stages=(stage,)), progress=False)
    moved = {
        n: (p - before[n]).norm().item() / stage.lr / (10 if "leave" in n else 1) for n, p in net.named_parameters()
    }
    assert run.history[0]["grad_norm"] > 0.01  # before clipping
    assert math.hypot(*moved.values()) == pytest.approx(0.01, rel=1e-3)


def test_moving_average_follows_its_formula() -> None:
    net = nn.BatchNorm1d(1)
    average = MovingAverage(net, decay=0.5)
    expected = 1.0
    for n in range(30):
        net.weight.data += 1
        net.num_batches_tracked += 1
        average.update(net, n)
        d = min(0.5, (1 + n) / (10 + n))
        expected = d * expected + (1 - d) * net.weight.item()
    assert float(average.state["weight"]) == pytest.approx(expected, rel=1e-5)
    assert int(average.state["num_batches_tracked"]) == 30


def test_the_average_ends_in_the_network() -> None:
    last = run_toy(recipe=dataclasses.replace(RECIPE, ema=None))
    averaged = run_toy()
    assert np.array_equal(last.losses, averaged.losses)  # averaging watches, it does not steer
    assert not equal(state(last), state(averaged))


def test_amp_runs_the_network_in_bfloat16_and_keeps_float32_weights() -> None:
    task = ToyTask()
    run = run_toy(recipe=dataclasses.replace(RECIPE, amp=True), task=task)
    assert task.dtype == torch.bfloat16
    assert all(p.dtype == torch.float32 for p in run.network.parameters())
    assert run.losses[-5:].mean() < 0.7 * run.losses[:5].mean()


def test_channels_last_reaches_weights_and_pictures_and_never_ids_or_clips() -> None:
    short = recipes.override(ONE_STAGE, ["first.steps=5"])
    run = train(toy_net(plain=True), ToyTask(), short, progress=False)
    assert run.network.enter.weight.is_contiguous(memory_format=torch.channels_last)
    pictures, ids, clips = (
        torch.rand(2, 3, 8, 8),
        torch.zeros(2, 4, 8, 8, dtype=torch.uint8),
        torch.rand(2, 4, 3, 8, 8),
    )
    assert step.in_channels_last(pictures).is_contiguous(memory_format=torch.channels_last)
    assert step.in_channels_last(ids).is_contiguous()
    assert step.in_channels_last(clips).is_contiguous()


def test_networks_with_3d_convolutions_train_too() -> None:
    class Volume(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.enter, self.leave = nn.Conv3d(3, 2, 1), nn.Conv2d(2, 1, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.leave(self.enter(x[:, :, None])[:, :, 0])

    class Task(ToyTask):
        def parameters(self, network: nn.Module, stage: Stage) -> list[dict]:
            return [{"params": list(network.parameters())}]

    run = train(Volume(), Task(), recipes.override(ONE_STAGE, ["first.steps=5"]), progress=False)
    assert np.isfinite(run.losses).all()


@pytest.mark.parametrize(("profile", "shown"), [("cpu", True), ("smoke", False)])
def test_progress_goes_to_stderr_except_in_smoke(profile: str, shown: bool, capsys: pytest.CaptureFixture) -> None:
    recipe = dataclasses.replace(recipes.override(ONE_STAGE, ["first.steps=5"]), profile=profile)
    train(toy_net(), ToyTask(), recipe)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert ("train toy" in captured.err) == shown


def test_paper_scale_says_what_it_will_take(capsys: pytest.CaptureFixture) -> None:
    train(toy_net(), ToyTask(), dataclasses.replace(RECIPE, profile="gpu"), device="cpu")
    assert re.search(r"[\d.]+ steps/s, about 0 minutes to go", capsys.readouterr().err)


# -------------------------------------------------------------------------------------------------------- resuming


def test_kill_9_at_a_random_step_and_resume_gives_the_same_weights(tmp_path: Path) -> None:
    target = random.randrange(1, RECIPE.steps - 3)
    out = tmp_path / "killed"
    child = subprocess.Popen(
        [sys.executable, str(SCRIPT), str(out), "0.03"], env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    log = out / "log.jsonl"
    while not log.exists() or log.read_text().count("\n") < target:
        assert child.poll() is None, "the child ended before it could be killed"
        time.sleep(0.005)
    child.send_signal(signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL
    assert not (out / "final.pt").exists()

    resumed = run_toy(out)
    unbroken = run_toy(tmp_path / "unbroken")
    where = f"killed after step {target}, resumed with {resumed.new_steps} steps to go"
    assert resumed.new_steps >= RECIPE.steps - target - 2, where
    assert equal(state(resumed), state(unbroken)), where
    assert steps_logged(out) == ALL_STEPS, where
    assert np.array_equal(resumed.losses, unbroken.losses), where
    assert not list(out.glob("*.tmp")), where


def interrupt(kind: signal.Signals) -> None:
    """Send a signal to this process and wait until it is handled: another thread may be the one to receive it."""
    handler = signal.getsignal(kind)
    os.kill(os.getpid(), kind)
    deadline = time.monotonic() + 30
    while signal.getsignal(kind) is handler and time.monotonic() < deadline:
        time.sleep(0.001)


@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_in_the_last_step_of_all_is_too_late(tmp_path: Path, kind: signal.Signals) -> None:
    handler = signal.getsignal(kind)
    task = ToyTask(before=lambda step: interrupt(kind) if step == RECIPE.steps - 1 else None)
    run = run_toy(tmp_path, task=task)
    assert signal.getsignal(kind) is handler
    assert run.new_steps == RECIPE.steps
    assert equal(state(run), state(run_toy()))
    assert steps_logged(tmp_path) == ALL_STEPS
    assert run_toy(tmp_path).new_steps == 0


@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("at", [2, 23, 30])  # within a stage, in its last step, in the second stage
def test_a_signal_finishes_the_step_saves_and_resumes_exactly(tmp_path: Path, kind: signal.Signals, at: int) -> None:
    handler = signal.getsignal(kind)
    task = ToyTask(before=lambda step: interrupt(kind) if step == at else None)
    with pytest.raises(KeyboardInterrupt):
        run_toy(tmp_path, task=task)
    assert signal.getsignal(kind) is handler
    assert steps_logged(tmp_path) == ALL_STEPS[: at + 1]
    resumed = run_toy(tmp_path)
    assert resumed.new_steps == RECIPE.steps - at - 1
    assert equal(state(resumed), state(run_toy()))
    assert steps_logged(tmp_path) == ALL_STEPS


@pytest.fixture
def usual_ctrl_c() -> Iterator[None]:
    """Ctrl-C raises KeyboardInterrupt, also for tests in the background, where it is ignored from the start."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("usual_ctrl_c")
def test_a_second_ctrl_c_stops_at_once(tmp_path: Path) -> None:
    def twice(step: int) -> None:
        if step == 2:
            interrupt(signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(60)  # cut short by the second signal, in the middle of the step

    with pytest.raises(KeyboardInterrupt):
        run_toy(tmp_path, task=ToyTask(before=twice))
    assert not (tmp_path / "checkpoint.pt").exists()


def test_a_finished_run_is_not_run_again(tmp_path: Path) -> None:
    first, task = run_toy(tmp_path), ToyTask()
    again = run_toy(tmp_path, task=task)
    assert again.new_steps == 0
    assert task.seen == []
    assert equal(state(again), state(first))
    assert np.array_equal(again.losses, first.losses)
    assert again.seconds == pytest.approx(first.seconds)


def test_a_log_without_a_checkpoint_starts_anew(tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").write_text('{"stage": "first", "step": 1, "loss": 9.0}\n{"stage": "fir')
    run_toy(tmp_path)
    assert steps_logged(tmp_path) == ALL_STEPS


def test_a_changed_recipe_is_refused_by_name(tmp_path: Path) -> None:
    run_toy(tmp_path, recipe=ONE_STAGE)
    before = (tmp_path / "log.jsonl").read_bytes()
    with pytest.raises(TutorialError, match=r"stages\[0\]\.lr was 0\.01 and is 0\.02"):
        run_toy(tmp_path, recipe=recipes.override(ONE_STAGE, ["first.lr=0.02"]))
    with pytest.raises(TutorialError, match=r"options\.flip was False and is True"):
        run_toy(tmp_path, recipe=recipes.override(ONE_STAGE, ["first.options.flip=true"]))
    with pytest.raises(TutorialError, match="seed was 0 and is 4"):
        train(toy_net(), ToyTask(), ONE_STAGE, seed=4, out=tmp_path, progress=False)
    assert (tmp_path / "log.jsonl").read_bytes() == before
    run_toy(tmp_path, recipe=dataclasses.replace(ONE_STAGE, source="the same numbers, found elsewhere"))


def test_a_checkpoint_of_another_network_is_refused(tmp_path: Path) -> None:
    run_toy(tmp_path, recipe=ONE_STAGE)
    with pytest.raises(TutorialError, match=r"'norm\.weight'"):
        train(toy_net(plain=True), ToyTask(), ONE_STAGE, out=tmp_path, progress=False)


@pytest.mark.parametrize(
    ("damage", "advice"),
    [
        (lambda b: b[: len(b) // 2], "; delete it"),
        (lambda b: b"", "; delete it"),
        (lambda b: b"my own notes", ", but something else; it stays as it is"),
    ],
)
def test_a_damaged_checkpoint_is_one_sentence(tmp_path: Path, damage: Callable[[bytes], bytes], advice: str) -> None:
    run_toy(tmp_path, recipe=ONE_STAGE)
    path = tmp_path / "checkpoint.pt"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(TutorialError, match=r"checkpoint\.pt is not a readable checkpoint" + advice):
        run_toy(tmp_path, recipe=ONE_STAGE)


def test_a_checkpoint_with_code_in_it_is_not_run(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple:
            return Path.touch, (tmp_path / "ran",)

    torch.save({"plan": Evil()}, tmp_path / "checkpoint.pt")
    with pytest.raises(TutorialError, match="not a readable checkpoint"):
        run_toy(tmp_path)
    assert not (tmp_path / "ran").exists()


# ------------------------------------------------------------------------------ validation and accumulation

VALIDATED = dataclasses.replace(RECIPE, validate=Validate(clips=6, every=7))


def test_the_validation_curve_is_logged_returned_and_changes_nothing(tmp_path: Path) -> None:
    run = run_toy(tmp_path, recipe=VALIDATED)
    assert equal(state(run), state(run_toy()))
    points = [(r["stage"], r["step"]) for r in run.validation]
    assert points == [ALL_STEPS[i - 1] for i in (7, 14, 21, 28, 35, 40)]
    assert np.isfinite([r["val_loss"] for r in run.validation]).all()
    assert np.isnan(run.column("val_accuracy")).sum() == RECIPE.steps - 6
    logged = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [r.get("val_loss") for r in logged] == [r.get("val_loss") for r in run.history]
    assert run.validation[-1]["val_loss"] < 0.8 * run.validation[0]["val_loss"]


def test_a_point_of_the_curve_is_the_loss_of_the_network_that_is_returned() -> None:
    """In eval mode, with the averaged weights, on clips that are the same for all seeds."""
    task = ToyTask()
    run = run_toy(recipe=VALIDATED, task=task)
    last = RECIPE.stages[-1]
    seeds = [derived_seed(validation.STREAM, validation.STREAM, i) for i in range(6)]
    losses = []
    for some in (seeds[:2], seeds[2:4], seeds[4:]):
        with torch.no_grad():
            losses.append(ToyTask().loss(run.network, task.batch(last, some, torch.device("cpu")), last)[0].item())
    assert run.validation[-1]["val_loss"] == pytest.approx(np.mean(losses), rel=1e-5)

    seen: list[list[int]] = []
    for seed in (0, 1):
        task = ToyTask()
        train(toy_net(), task, VALIDATED, seed=seed, progress=False)
        seen.append([s for s in task.seen if s in seeds])
    assert seen[0] == seen[1] == seeds


def test_validation_resumes_with_the_run_and_may_be_added_later(tmp_path: Path) -> None:
    task = ToyTask(before=lambda step: interrupt(signal.SIGINT) if step == 10 else None)
    with pytest.raises(KeyboardInterrupt):
        run_toy(tmp_path, recipe=VALIDATED, task=task)
    resumed, whole = run_toy(tmp_path, recipe=VALIDATED), run_toy(recipe=VALIDATED)
    assert resumed.history == whole.history
    assert equal(state(resumed), state(whole))
    assert run_toy(tmp_path).new_steps == 0  # a curve decides no weights


def test_what_a_loss_moves_during_validation_is_put_back() -> None:
    class Counting(ToyTask):
        def loss(self, network: nn.Module, batch: Mapping[str, Tensor], stage: Stage) -> tuple[Tensor, dict]:
            network.norm.num_batches_tracked += 1000  # a buffer, as the switches of a GAN are
            return super().loss(network, batch, stage)

    one, two = (run_toy(recipe=r, task=Counting()) for r in (VALIDATED, RECIPE))
    assert equal(state(one), state(two))


def test_a_batch_in_parts_takes_the_same_step() -> None:
    whole = recipes.override(ONE_STAGE, ["first.steps=6", "first.warmup=0"])
    parts = recipes.override(whole, ["first.accumulate=4"])
    one, four = (train(toy_net(plain=True), ToyTask(), r, progress=False) for r in (whole, parts))
    assert np.allclose(one.losses, four.losses, rtol=1e-5)
    assert np.allclose(one.column("accuracy"), four.column("accuracy"))
    assert np.allclose(one.column("grad_norm"), four.column("grad_norm"), rtol=1e-4)
    for name, value in state(one).items():
        assert torch.allclose(value, state(four)[name], atol=1e-4), name


def test_the_parts_of_a_batch_go_through_one_by_one() -> None:
    class Sizes(ToyTask):
        sizes: list[int]

        def loss(self, network: nn.Module, batch: Mapping[str, Tensor], stage: Stage) -> tuple[Tensor, dict]:
            self.sizes.append(len(batch["x"]))
            return super().loss(network, batch, stage)

    task = Sizes()
    task.sizes = []
    run_toy(recipe=recipes.override(ONE_STAGE, ["first.steps=5", "first.accumulate=2"]), task=task)
    assert task.sizes == [2] * 10


def test_accumulation_resumes_exactly(tmp_path: Path) -> None:
    recipe = recipes.override(RECIPE, ["first.accumulate=2"])
    task = ToyTask(before=lambda step: interrupt(signal.SIGINT) if step == 13 else None)  # in the middle of a step
    with pytest.raises(KeyboardInterrupt):
        run_toy(tmp_path, recipe=recipe, task=task)
    assert equal(state(run_toy(tmp_path, recipe=recipe)), state(run_toy(recipe=recipe)))
    with pytest.raises(TutorialError, match=r"stages\[0\]\.accumulate was 2 and is 1"):
        run_toy(tmp_path)


# ---------------------------------------------------------------------------------------------------- going wrong


@pytest.mark.parametrize(("poison", "saved"), [(3, "there is no checkpoint yet"), (13, "step 10")])
def test_nan_stops_and_names_the_step_and_the_last_good_checkpoint(tmp_path: Path, poison: int, saved: str) -> None:
    with pytest.raises(TutorialError, match=f"loss became nan at step {poison} of 24 of stage 'first'.*{saved}"):
        run_toy(tmp_path, task=ToyTask(poison=poison), log_every=100)
    assert all(math.isfinite(json.loads(line)["loss"]) for line in (tmp_path / "log.jsonl").read_text().splitlines())
    if poison == 13:
        assert equal(
            state(run_toy(tmp_path)), state(run_toy())
        )  # the checkpoint is good: without the poison it goes on


def test_a_full_disk_keeps_the_old_checkpoint(
    tmp_path: Path, full_disk: Callable[[int], AbstractContextManager[None]]
) -> None:
    path = tmp_path / "checkpoint.pt"
    checkpoint = Checkpoint("{}", 0, 1, 0.0, {"w": torch.zeros(10_000)}, None, {})
    checkpoints.save_checkpoint(path, checkpoint)
    before = path.read_bytes()
    with (
        full_disk(5_000),
        pytest.raises(TutorialError, match=r"cannot write .*checkpoint\.pt .* intact; free some space"),
    ):
        checkpoints.save_checkpoint(path, dataclasses.replace(checkpoint, step=2))
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["checkpoint.pt"]


def test_a_disk_that_fills_up_during_a_run_can_be_freed_and_the_run_resumed(
    tmp_path: Path, full_disk: Callable[[int], AbstractContextManager[None]]
) -> None:
    with full_disk(2_000), pytest.raises(TutorialError, match="cannot write"):
        run_toy(tmp_path, log_every=1)
    assert not list(tmp_path.glob("*.tmp"))
    assert equal(state(run_toy(tmp_path)), state(run_toy()))
    assert steps_logged(tmp_path) == ALL_STEPS


def test_an_output_folder_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("in the way")
    with pytest.raises(TutorialError, match="cannot write"):
        run_toy(tmp_path / "run")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_a_gpu_recipe_without_a_gpu() -> None:
    with pytest.raises(TutorialError, match="torch sees no CUDA device; use the cpu profile"):
        run_toy(recipe=dataclasses.replace(RECIPE, profile="gpu"))


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"steps": 0}, "steps = 0"),
        ({"lr": 0.0}, "lr = 0.0"),
        ({"warmup": 24}, "warms up for 24 of 24"),
        ({"optimizer": "lion"}, "'lion'"),
        ({"schedule": "step"}, "'step'"),
    ],
)
def test_impossible_stages_are_refused(change: dict, complaint: str) -> None:
    with pytest.raises(TutorialError, match=complaint):
        dataclasses.replace(RECIPE.stages[0], **change)


def test_impossible_recipes_are_refused() -> None:
    with pytest.raises(TutorialError, match="unique names"):
        dataclasses.replace(RECIPE, stages=RECIPE.stages[:1] * 2)
    with pytest.raises(TutorialError, match="ema = 1"):
        dataclasses.replace(RECIPE, ema=1.0)
    with pytest.raises(TutorialError, match="no recipe for 'osvos'"):
        recipes.load("osvos", "cpu")


# ------------------------------------------------------------------------------------------------ several processes


def test_two_processes_train_the_same_weights_as_one(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }
    command = [sys.executable, str(SCRIPT), str(tmp_path / "two"), "0", "plain"]
    children = [
        subprocess.Popen(command, env={**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)}, stderr=subprocess.PIPE)
        for rank in range(2)
    ]
    alone = train(toy_net(plain=True), ToyTask(), RECIPE, progress=False)  # meanwhile
    for child in children:
        _, errors = child.communicate(timeout=120)
        assert child.returncode == 0, errors.decode()
    assert steps_logged(tmp_path / "two") == ALL_STEPS
    # The averaged weights of rank 0, as any later run of one process reads them from the checkpoint.
    together = train(toy_net(plain=True), ToyTask(), RECIPE, out=tmp_path / "two", progress=False)
    assert together.new_steps == 0
    assert np.allclose(together.losses, alone.losses, atol=1e-5)
    for name, value in state(together).items():
        assert torch.allclose(value, state(alone)[name], atol=1e-4), name


def test_shares_are_contiguous_and_must_be_even() -> None:
    cpu = torch.device("cpu")
    assert [Ranks(rank, 2, cpu).share([1, 2, 3, 4]) for rank in range(2)] == [[1, 2], [3, 4]]
    with pytest.raises(TutorialError, match="batch of 4 cannot be shared evenly by 3 processes"):
        Ranks(0, 3, cpu).share([1, 2, 3, 4])


# ---------------------------------------------------------------------------------------------------- command line


@pytest.fixture
def toy_on_the_command_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setattr(recipes, "load", lambda method, profile: RECIPE)
    monkeypatch.setattr(models, "build", lambda name, size: toy_net(int(torch.initial_seed())), raising=False)
    monkeypatch.setattr("vos_tutorial.training.command.task", lambda name: ToyTask(), raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_train_command_writes_weights_and_says_when_it_is_finished(
    toy_on_the_command_line: Path, capsys: pytest.CaptureFixture
) -> None:
    command = ["train", "toy", "--profile", "cpu", "--seed", "3", "--set", "first.steps=6"]
    assert command_line(command) == 0
    said = capsys.readouterr().out
    path = Path("runs/toy-cpu-3/weights.safetensors")
    assert str(path) in said
    assert "22 steps" in said
    net = toy_net()
    metadata = load_weights(path, net)
    assert (metadata["method"], metadata["size"], metadata["seed"], metadata["steps"]) == ("toy", "small", "3", "22")
    expected = train(toy_net(3), ToyTask(), recipes.override(RECIPE, ["first.steps=6"]), seed=3, progress=False)
    assert equal(net.state_dict(), state(expected))

    written = path.stat().st_mtime_ns
    assert command_line(command) == 0
    assert "finished already" in capsys.readouterr().out
    assert path.stat().st_mtime_ns == written
    path.unlink()  # killed between the last checkpoint and the weights: they are written now
    assert command_line(command) == 0
    assert path.exists()


def test_train_command_stops_on_ctrl_c_and_goes_on(
    toy_on_the_command_line: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    stopping = ToyTask(before=lambda step: interrupt(signal.SIGINT) if step == 7 else None)
    with monkeypatch.context() as patch:
        patch.setattr("vos_tutorial.training.command.task", lambda name: stopping, raising=False)
        assert command_line(["train", "toy", "--profile", "cpu", "--out", "here"]) == 130
    assert "run the same command again" in capsys.readouterr().err
    assert len(steps_logged(Path("here"))) == 8
    assert command_line(["train", "toy", "--profile", "cpu", "--out", "here", "--weights-out", "w.safetensors"]) == 0
    assert steps_logged(Path("here")) == ALL_STEPS
    assert Path("w.safetensors").exists()


@pytest.mark.parametrize(
    ("assignment", "complaint"),
    [
        ("third.steps=5", "no stage 'third'; the stages are first, second"),
        ("first.stepz=5", "no 'stepz'"),
        ("first.steps=five", "steps cannot be 'five'"),
        ("first.steps=1.5", "steps cannot be 1.5"),
        ("first.lr=true", "lr cannot be True"),
        ("first.options.flop=1", "no option 'flop'; it has flip"),
        ("first.steps", "has no value"),
        ("method=x", "no 'method'"),
    ],
)
def test_set_says_what_is_wrong(
    toy_on_the_command_line: Path, assignment: str, complaint: str, capsys: pytest.CaptureFixture
) -> None:
    assert command_line(["train", "toy", "--profile", "cpu", "--set", assignment]) == 2
    assert complaint in capsys.readouterr().err
    assert not Path("runs").exists()


def test_override_reads_numbers_flags_and_none() -> None:
    changed = recipes.override(
        RECIPE, ["ema=null", "amp=true", "first.lr=1", "second.clip_norm=2", "first.schedule=poly"]
    )
    assert (changed.ema, changed.amp, changed.stages[0].lr, changed.stages[1].clip_norm) == (None, True, 1, 2)
    assert changed.stages[0].schedule == "poly"
    assert RECIPE.ema == 0.99
