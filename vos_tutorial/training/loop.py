"""One training loop for every method: recipe -> stages -> steps.

A *recipe* (``vos_tutorial.recipes``) says how long and with which numbers; a *task* (given by the method, see
:class:`Task`) says what a batch is and what is to be minimised; :func:`train` does the rest. Read this file from
top to bottom: what a method provides, where the randomness comes from, one step, the loop.

Nothing that happens in step ``n`` depends on how the run got there, other than through the weights and the
optimiser's state: samples and dropout are seeded by (seed, stage, step). A run that was killed and resumed
therefore ends with the same weights, bit for bit on a CPU, as one that was not.
"""

from __future__ import annotations

import math
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from ..errors import TutorialError
from ..models.weights import require_fit
from ..recipes import Recipe, Stage
from .checkpoints import (
    Checkpoint,
    Record,
    append_log,
    cut_log,
    load_checkpoint,
    plan,
    require_same_plan,
    save_checkpoint,
)
from .interrupts import stop_signals
from .optimisers import MovingAverage, Optimizer, learning_rate, make_optimizer
from .ranks import Ranks, join_ranks

# ---------------------------------------------------------------------------------------------- what a method gives


class Task(Protocol):
    """What is learned. The method's module provides it; the loop calls it."""

    def batch(self, stage: Stage, seeds: Sequence[int], device: torch.device) -> Mapping[str, Tensor]:
        """``len(seeds)`` samples on ``device``; sample ``i`` depends on ``stage`` and ``seeds[i]`` only.

        Args:
            stage: its ``size`` and ``options`` say what the samples look like; options that grow have the value
                of this step (``Stage.at``), here and in ``loss``.
            seeds: integers in ``[0, 2**63)``, one per sample, never the same twice in a run.
            device: where the tensors must be.
        """
        ...

    def loss(
        self, network: nn.Module, batch: Mapping[str, Tensor], stage: Stage
    ) -> tuple[Tensor, Mapping[str, Tensor]]:
        """The scalar to minimise, averaged over the samples, and scalars to log (the same names in each process)."""
        ...

    def parameters(self, network: nn.Module, stage: Stage) -> list[dict[str, Any]]:
        """Optimiser groups: ``params``; optionally ``lr_scale`` (times the stage's lr), ``weight_decay``, and
        ``optimizer`` where it is not the stage's."""
        ...


@dataclass
class TrainingRun:
    """What :func:`train` returns.

    Attributes:
        network: the trained network in eval mode, with averaged weights if the recipe has ``ema``.
        recipe: as given.
        history: one record per step: ``stage``, ``step`` (1 = first of its stage), ``loss``, ``lr``, ``grad_norm``
            (L2, before clipping), and what the task logs.
        seconds: training time, all sittings together.
        new_steps: steps taken by this call; 0 if the run was finished already.
    """

    network: nn.Module
    recipe: Recipe
    history: list[Record]
    seconds: float
    new_steps: int

    def column(self, name: str) -> np.ndarray:
        """``float64 [N]``, a logged quantity for every step; NaN where a stage does not log it."""
        return np.array([record.get(name, math.nan) for record in self.history], dtype=np.float64)

    @property
    def losses(self) -> np.ndarray:
        """``float64 [N]``, the loss at every step, ready to plot."""
        return self.column("loss")

    @property
    def steps_per_second(self) -> float:
        """Mean speed over all sittings."""
        return len(self.history) / self.seconds if self.seconds > 0 else math.nan


# ------------------------------------------------------------------------------------------------------- randomness


def derived_seed(*parts: int) -> int:
    """A seed in ``[0, 2**63)`` from a path of integers >= 0; different paths give unrelated seeds."""
    return int(np.random.SeedSequence(list(parts)).generate_state(1, np.uint64)[0] >> np.uint64(1))


def sample_seeds(seed: int, stage: int, step: int, batch: int) -> list[int]:
    """The seeds of the samples of one step: a pure function, so that data order needs no state.

    Args:
        seed: of the run, >= 0.
        stage: index of the stage.
        step: 0 = first of the stage.
        batch: number of samples, over all processes.
    """
    return [derived_seed(seed, stage, step, sample) for sample in range(batch)]


# --------------------------------------------------------------------------------------------------------- one step


class Objective(nn.Module):
    """Network and task as one module whose ``forward`` is the loss: what DistributedDataParallel wraps."""

    def __init__(self, network: nn.Module, task: Task, stage: Stage) -> None:
        super().__init__()
        self.network = network
        self._task, self.stage = task, stage

    def forward(self, batch: Mapping[str, Tensor]) -> tuple[Tensor, Mapping[str, Tensor]]:
        """The batch's scalar loss, and the scalars to log."""
        return self._task.loss(self.network, batch, self.stage)


def optimise(
    objective: nn.Module,
    optimizer: Optimizer,
    batch: Mapping[str, Tensor],
    lr: float,
    clip_norm: float | None,
    amp: bool,
) -> dict[str, Tensor]:
    """One step down the gradient; returns detached scalars: ``loss``, ``grad_norm`` and what the task logs."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group.get("lr_scale", 1.0)
    optimizer.zero_grad(set_to_none=True)
    device = next(objective.parameters()).device
    # bfloat16 has float32's range, so unlike float16 it needs no loss scaling.
    with torch.autocast(device.type, dtype=torch.bfloat16, enabled=amp):
        loss, logs = objective(batch)
    loss.backward()
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    norm = torch.nn.utils.clip_grad_norm_(parameters, math.inf if clip_norm is None else clip_norm)
    optimizer.step()
    return {name: value.detach() for name, value in {"loss": loss, "grad_norm": norm, **logs}.items()}


# --------------------------------------------------------------------------------------------------------- the loop


def train(
    network: nn.Module,
    task: Task,
    recipe: Recipe,
    *,
    seed: int = 0,
    out: str | Path | None = None,
    device: torch.device | str | None = None,
    progress: bool = True,
    checkpoint_every: int = 100,
    log_every: int = 10,
) -> TrainingRun:
    """Train ``network`` in place by ``recipe``; resumes if ``out`` holds an unfinished run of the same recipe.

    Ctrl-C and SIGTERM finish the step, save, and raise KeyboardInterrupt; a second one stops at once. The global
    random state of torch is left as it was. Under ``torchrun`` all processes call this with the same arguments.

    Args:
        network: random weights, or weights to start from; moved to ``device``.
        task: what is learned.
        recipe: how.
        seed: >= 0; decides samples and dropout (not the initial weights, which are the caller's).
        out: folder for ``checkpoint.pt`` and ``log.jsonl``; None keeps everything in memory.
        device: default CUDA for recipes of size gpu, else the CPU.
        progress: show a progress bar on stderr; recipes of size smoke never do.
        checkpoint_every: steps between checkpoints; there is one at the end of each stage too.
        log_every: steps between looking at the losses: how soon NaN is noticed and the log is written.

    Raises:
        TutorialError: if the loss or its gradient is NaN or infinite; if ``out`` holds another recipe's run, or
            cannot be written; if there is no GPU for a gpu recipe; if a batch cannot be shared by the processes.
        KeyboardInterrupt: after Ctrl-C or SIGTERM.
    """
    with join_ranks(_device(recipe, device)) as ranks, _own_random_state(ranks.device), stop_signals() as stop:
        loop = _Loop(network, task, recipe, seed, Path(out) if out is not None else None, ranks, progress)
        with loop.bar, loop.workshop, _a_core_for_the_data(ranks.device):
            loop.run(stop, checkpoint_every, log_every)
    if loop.average is not None:
        network.load_state_dict(loop.average.state)
    network.eval()
    return TrainingRun(network, recipe, loop.history, loop.seconds, loop.new_steps)


class _Loop:
    """A run in progress: where it stands (stage, step), and what it carries from step to step."""

    def __init__(
        self,
        network: nn.Module,
        task: Task,
        recipe: Recipe,
        seed: int,
        out: Path | None,
        ranks: Ranks,
        progress: bool,
    ) -> None:
        self.network, self.task, self.recipe, self.seed = network.to(ranks.device), task, recipe, seed
        if recipe.channels_last:
            channels_last(network)
        self.average = MovingAverage(network, recipe.ema) if recipe.ema is not None else None
        self.out, self.ranks, self.plan = out, ranks, plan(recipe, seed)
        self.history: list[Record] = []
        self.pending: list[tuple[Record, dict[str, Tensor]]] = []  # steps whose numbers are still on the device
        self.stage, self.step, self.seconds, self.new_steps = 0, 0, 0.0, 0
        self.mark = 0.0  # when the speed was first measured
        self.optimizer_state: dict[str, Any] | None = None  # of the checkpoint's stage
        self.saved: str | None = None  # the last good checkpoint, in words
        # The next batch is made while the network works on this one. One thread, with one core, is enough, and
        # since a batch is a function of its seeds alone it is the same batch whenever it is made.
        self.workshop = ThreadPoolExecutor(1, initializer=torch.set_num_threads, initargs=(1,))
        self.next_batch: Future[Mapping[str, Tensor]] | None = None
        if out is not None:
            self._resume(out)
        self.bar = tqdm(
            total=recipe.steps,
            initial=self.steps_done,
            desc=f"train {recipe.method}",
            unit="step",
            file=sys.stderr,
            mininterval=0.5,
            disable=not (progress and ranks.first and recipe.profile != "smoke"),
        )

    @property
    def steps_done(self) -> int:
        """Steps done in all stages."""
        return sum(stage.steps for stage in self.recipe.stages[: self.stage]) + self.step

    def run(self, stop: threading.Event, checkpoint_every: int, log_every: int) -> None:
        """The stages that are left, one after the other."""
        began, before = time.perf_counter(), self.seconds
        for index in range(self.stage, len(self.recipe.stages)):
            stage = self.recipe.stages[index]
            if index > self.stage:
                self.stage, self.step, self.optimizer_state, self.next_batch = index, 0, None, None
            optimizer = make_optimizer(stage, self.task.parameters(self.network, stage))
            if self.optimizer_state is not None:
                optimizer.load_state_dict(self.optimizer_state)
            aim = Objective(self.network, self.task, stage)
            objective = self.ranks.together(aim)
            objective.train()
            while self.step < stage.steps:
                aim.stage = stage.at(self.step)
                self._one_step(stage, objective, optimizer)
                self.seconds = before + time.perf_counter() - began
                due = self.steps_done % log_every == 0
                # Processes must stop at the same step, and they only talk to each other when the log is due.
                stopping = self.ranks.any(stop.is_set()) if due or self.ranks.world == 1 else False
                save = self.steps_done % checkpoint_every == 0 or self.step == stage.steps or stopping
                if due or save:
                    self._read_losses(stage)
                if save:
                    self._save(optimizer)
                if stopping:
                    raise KeyboardInterrupt
                self._say_cost()

    def _one_step(self, stage: Stage, objective: nn.Module, optimizer: Optimizer) -> None:
        batch = dict((self.next_batch or self._make_batch(stage, self.step)).result())
        if self.step + 1 < stage.steps:
            self.next_batch = self._make_batch(stage, self.step + 1)
        if self.recipe.channels_last:
            batch = {name: in_channels_last(value) for name, value in batch.items()}
        # Dropout and the like; the fifth part keeps it apart from the samples' seeds.
        torch.manual_seed(derived_seed(self.seed, self.stage, self.step, self.ranks.rank, 1))
        lr = learning_rate(stage, self.step)
        scalars = optimise(objective, optimizer, batch, lr, stage.clip_norm, self.recipe.amp)
        if self.average is not None:
            self.average.update(self.network, self.steps_done)
        self.step += 1
        self.new_steps += 1
        self.pending.append(({"stage": stage.name, "step": self.step, "lr": lr}, scalars))
        self.bar.update()

    def _make_batch(self, stage: Stage, step: int) -> Future[Mapping[str, Tensor]]:
        seeds = self.ranks.share(sample_seeds(self.seed, self.stage, step, stage.batch))
        return self.workshop.submit(self.task.batch, stage.at(step), seeds, self.ranks.device)

    def _read_losses(self, stage: Stage) -> None:
        """Fetch the scalars of the last steps from the device in one go, check them, and log them."""
        values = [
            value.float().reshape(()).to(self.ranks.device)
            for _, scalars in self.pending
            for value in scalars.values()
        ]
        numbers = iter(self.ranks.mean(torch.stack(values)).tolist()) if values else iter(())
        records = [record | {name: next(numbers) for name in scalars} for record, scalars in self.pending]
        self.pending = []
        for record in records:
            for name in ("loss", "grad_norm"):
                if not math.isfinite(record[name]):
                    what = "loss" if name == "loss" else "gradient"
                    # what a task logs tells where it came from: which loss, which of two players
                    parts = [k for k, v in record.items() if isinstance(v, float) and not math.isfinite(v)]
                    parts = [k for k in parts if k not in ("loss", "grad_norm")]
                    where = f" (as did {', '.join(parts)})" if parts else ""
                    last = f"the last good checkpoint is {self.saved}" if self.saved else "there is no checkpoint yet"
                    raise TutorialError(
                        f"the {what} became {record[name]}{where} at step {record['step']} of {stage.steps} of stage "
                        f"{stage.name!r} (learning rate {record['lr']:.3g}), and {last}; lower the learning rate, "
                        "set clip_norm, or look for bad values in the data."
                    )
        self.history += records
        if records:
            self.bar.set_postfix_str(f"{stage.name}, loss {records[-1]['loss']:.4g}", refresh=False)
        if self.out is not None and self.ranks.first:
            append_log(self.out / "log.jsonl", records)

    def _save(self, optimizer: Optimizer) -> None:
        if self.out is None or not self.ranks.first:
            return
        path = self.out / "checkpoint.pt"
        average = self.average.state if self.average is not None else None
        state = self.network.state_dict()
        save_checkpoint(
            path, Checkpoint(self.plan, self.stage, self.step, self.seconds, state, average, optimizer.state_dict())
        )
        self.saved = f"{path} (stage {self.recipe.stages[self.stage].name!r}, step {self.step})"

    def _resume(self, out: Path) -> None:
        """Take up the run in ``out`` if there is one, and cut its log back to the checkpoint."""
        path = out / "checkpoint.pt"
        found = load_checkpoint(path, self.ranks.device)
        if found is not None:
            require_same_plan(path, found.plan, self.plan)
            require_fit(found.network, self.network, str(path))
            self.network.load_state_dict(found.network)
            if self.average is not None and found.ema is not None:
                self.average.state = dict(found.ema)
            self.stage, self.step, self.seconds = found.stage, found.step, found.seconds
            self.optimizer_state = found.optimizer
            self.saved = f"{path} (stage {self.recipe.stages[self.stage].name!r}, step {self.step})"
        if self.ranks.first:
            self.history = cut_log(out / "log.jsonl", self.recipe, self.stage, self.step)

    def _say_cost(self) -> None:
        """At paper scale: after the first steps, what the rest will take."""
        if self.new_steps == 5:  # the first steps also load kernels
            self.mark = time.perf_counter()
        if self.new_steps != 20 or self.recipe.profile != "gpu" or self.bar.disable:
            return
        memory = ""
        if self.ranks.device.type == "cuda":
            torch.cuda.synchronize(self.ranks.device)
            memory = f"peak memory {torch.cuda.max_memory_allocated(self.ranks.device) / 2**30:.1f} GiB, "
        rate = 15 / (time.perf_counter() - self.mark)
        minutes = (self.recipe.steps - self.steps_done) / rate / 60
        self.bar.write(f"{memory}{rate:.2f} steps/s, about {minutes:.0f} minutes to go", file=sys.stderr)


@contextmanager
def _a_core_for_the_data(device: torch.device) -> Iterator[None]:
    """On a CPU, leave one core to the thread that makes the next batch: threads that wait for a core spin."""
    threads = torch.get_num_threads()
    if device.type == "cpu":
        torch.set_num_threads(max(1, threads - 1))
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _device(recipe: Recipe, device: torch.device | str | None) -> torch.device:
    """The device asked for, or the recipe's: cuda for size gpu, else cpu, so that numbers repeat."""
    chosen = torch.device(device if device is not None else "cuda" if recipe.profile == "gpu" else "cpu")
    if chosen.type == "cuda" and not torch.cuda.is_available():
        raise TutorialError(
            f"this recipe of {recipe.method!r} runs on CUDA, and torch sees no CUDA device; use the cpu profile."
        )
    return chosen


def in_channels_last(value: Tensor) -> Tensor:
    """``[B, C, H, W]`` in channels-last order; anything else as it is."""
    return value.contiguous(memory_format=torch.channels_last) if value.ndim == 4 else value


def channels_last(network: nn.Module) -> None:
    """4-d weights in channels-last order; ``Module.to`` would refuse networks with 5-d weights (3-d convolutions)."""
    for parameter in network.parameters():
        parameter.data = in_channels_last(parameter.data)


@contextmanager
def _own_random_state(device: torch.device) -> Iterator[None]:
    """Seed torch inside as often as we like; outside, its random state is as before."""
    devices = (
        [device.index if device.index is not None else torch.cuda.current_device()] if device.type == "cuda" else []
    )
    with torch.random.fork_rng(devices=devices):
        yield
