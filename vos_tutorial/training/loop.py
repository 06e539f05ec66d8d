"""One training loop for every method: recipe -> stages -> steps.

A *recipe* (``vos_tutorial.recipes``) says how long and with which numbers; a *task* (:class:`~.tasks.Task`) says what
a batch is and what is to be minimised; :func:`train` does the rest. Around it, a file each: ``batches`` (where the
randomness comes from), ``step``, ``optimisers``, ``journal``, ``validation``, ``checkpoints``.

Nothing that happens in step ``n`` depends on how the run got there, other than through what a checkpoint keeps: the
weights, what of them is frozen, and the optimiser's state. Samples and dropout are seeded by (seed, stage, step). A
run that was killed and resumed therefore ends with the same weights, bit for bit on a CPU, as one that was not.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from ..errors import TutorialError
from ..models.weights import require_fit
from ..profile import require_device
from ..recipes import Recipe, Stage
from .batches import Prefetch, derived_seed
from .checkpoints import Checkpoint, load_checkpoint, save_checkpoint
from .frozen import Frozen, frozen_parts
from .identity import Start, data_identity
from .interrupts import stop_signals
from .journal import Journal, Record
from .optimisers import MovingAverage, Optimizer, learning_rate, make_optimizer
from .plan import plan, require_same_plan
from .progress import Progress
from .ranks import Ranks, join_ranks
from .step import Objective, channels_last, in_channels_last, optimise
from .tasks import Task, check_options, moved_options
from .validation import Validation


@dataclass
class TrainingRun:
    """What :func:`train` returns.

    Attributes:
        network: the trained network in eval mode, with averaged weights if the recipe has ``ema``.
        recipe: as given.
        history: one record per step: ``stage``, ``step`` (1 = first of its stage), ``loss``, ``lr``, ``grad_norm``
            (L2, before clipping), what the task logs, and ``val_loss`` etc. where there was a validation.
        seconds: training time, over all calls that resumed it.
        new_steps: steps taken by this call; 0 if the run was finished already.
        plan: all that decided the run, as JSON (:func:`~vos_tutorial.training.plan.plan`).
        start: what it began with, in words.
        moved: options of the network's ``build`` that the training has moved.
    """

    network: nn.Module
    recipe: Recipe
    history: list[Record]
    seconds: float
    new_steps: int
    plan: str
    start: str
    moved: dict[str, Any]

    def column(self, name: str) -> np.ndarray:
        """``float64 [N]``, a logged quantity for every step; NaN where a stage does not log it."""
        return np.array([record.get(name, math.nan) for record in self.history], dtype=np.float64)

    @property
    def losses(self) -> np.ndarray:
        """``float64 [N]``, the loss at every step, ready to plot."""
        return self.column("loss")

    @property
    def validation(self) -> list[Record]:
        """The records of those steps after which there was a validation."""
        return [record for record in self.history if "val_loss" in record]

    @property
    def steps_per_second(self) -> float:
        """Mean speed over all calls."""
        return self.recipe.steps / self.seconds if self.seconds > 0 else math.nan


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
    start: Start | None = None,
) -> TrainingRun:
    """Train ``network`` in place by ``recipe``; resumes if ``out`` holds an unfinished run of the same plan.

    Ctrl-C and SIGTERM finish the step, save, and raise KeyboardInterrupt (unless it was the last step: then all is
    done); a second one stops at once. The global random state of torch is left as it was. Under ``torchrun`` all
    processes call this with the same arguments.

    Args:
        network: random weights, or weights to start from; moved to ``device``. What of it is frozen stays so. When
            a run is resumed, weights and frozen parts come from the checkpoint.
        task: what is learned.
        recipe: how.
        seed: >= 0; decides samples and dropout (not the initial weights, which are the caller's).
        out: folder for ``checkpoint.pt`` and ``log.jsonl``; None keeps everything in memory.
        device: default CUDA for recipes of size gpu, else the CPU.
        progress: show a progress bar on stderr; recipes of size smoke never do.
        checkpoint_every: steps between checkpoints; there is one at the end of each stage too.
        log_every: steps between looking at the losses: how soon NaN is noticed and the log is written.
        start: what the network's weights are; a run does not go on with others.

    Raises:
        TutorialError: if the loss or its gradient is NaN or infinite; if ``out`` holds another run (recipe, seed,
            data, start, or kind of device), or cannot be written; if a stage has options that the task does not
            know; if there is no GPU for a gpu recipe; if a batch cannot be shared by the processes, or these found
            ``out`` at different steps.
        KeyboardInterrupt: after Ctrl-C or SIGTERM.
    """
    check_options(task, recipe.stages)
    with join_ranks(_device(recipe, device)) as ranks, _own_random_state(ranks.device), stop_signals() as stop:
        here = plan(recipe, seed, data_identity(task), start, ranks.device)
        loop = _Loop(network, task, recipe, seed, ranks, here, start or Start())
        if out is not None:
            loop.resume(Path(out))
            _require_one_folder(ranks, loop.steps_done, Path(out))
        bar = Progress(recipe, loop.steps_done, progress, ranks)
        with bar, Prefetch(task, recipe, seed, ranks) as batches, _a_core_for_the_data(ranks.device):
            loop.run(batches, bar, stop, checkpoint_every, log_every)
    if loop.average is not None:
        network.load_state_dict(loop.average.state)
    network.eval()
    return TrainingRun(
        network, recipe, loop.journal.records, loop.seconds, bar.new_steps, here, loop.start, loop.moved
    )


class _Loop:
    """A run in progress: where it stands, and what it carries from step to step."""

    def __init__(
        self, network: nn.Module, task: Task, recipe: Recipe, seed: int, ranks: Ranks, plan: str, start: Start
    ) -> None:
        self.network, self.task, self.recipe, self.seed = network.to(ranks.device), task, recipe, seed
        channels_last(network)
        self.ranks, self.plan, self.start = ranks, plan, start.name
        self.stage, self.step, self.seconds = 0, 0, 0.0
        self.frozen = frozen_parts(network)
        self.moved: dict[str, Any] = {}
        self.average = MovingAverage(network, recipe.ema) if recipe.ema is not None else None
        self.optimizer_state: dict[str, Any] | None = None  # of the checkpoint's stage
        self.journal = Journal(None, recipe, ranks)
        self.validation: Validation | None = None
        self.path: Path | None = None  # of the checkpoint
        self.saved: str | None = None  # the last good checkpoint, in words

    @property
    def steps_done(self) -> int:
        """Steps done in all stages."""
        return sum(stage.steps for stage in self.recipe.stages[: self.stage]) + self.step

    # ------------------------------------------------------------------------------------------------ steps

    def run(
        self, batches: Prefetch, bar: Progress, stop: threading.Event, checkpoint_every: int, log_every: int
    ) -> None:
        """The stages that are left, one after the other."""
        began, before = time.perf_counter(), self.seconds
        for index in range(self.stage, len(self.recipe.stages)):
            if index > self.stage:
                self.stage, self.step, self.optimizer_state = index, 0, None
            stage = self.recipe.stages[index]
            objective = Objective(self.network, self.task, stage)
            optimizer = self._optimizer(stage)
            distributed = self.ranks.distribute(objective)
            distributed.train()
            self.frozen.train(self.network)
            while self.step < stage.steps:
                objective.stage = stage.at(self.step)
                self._one_step(stage, distributed, optimizer, batches.batch(self.stage, self.step))
                self.seconds = before + time.perf_counter() - began
                due = self.steps_done % log_every == 0
                # Processes must stop at the same step, and they only talk to each other when the log is due.
                stopping = self.ranks.any(stop.is_set()) if due or self.ranks.world == 1 else False
                save = self.steps_done % checkpoint_every == 0 or self.step == stage.steps or stopping
                if (due or save) and (last := self.journal.read(self.saved)):
                    bar.loss(stage.name, last["loss"])
                if save:
                    self._save(optimizer)
                bar.step(self.steps_done)
                if stopping and self.steps_done < self.recipe.steps:
                    raise KeyboardInterrupt
            self._end_stage(stage)

    def _one_step(self, stage: Stage, objective: nn.Module, optimizer: Optimizer, batch: dict[str, Any]) -> None:
        batch = {name: in_channels_last(value) for name, value in batch.items()}
        # Dropout and the like; the fifth part keeps it apart from the samples' seeds.
        torch.manual_seed(derived_seed(self.seed, self.stage, self.step, self.ranks.rank, 1))
        lr = learning_rate(stage, self.step)
        scalars = optimise(objective, optimizer, batch, lr, stage.clip_norm, self.recipe.amp, stage.accumulate)
        if self.average is not None:
            self.average.update(self.network, self.steps_done)
        self.step += 1
        self.journal.note({"stage": stage.name, "step": self.step, "lr": lr}, scalars | self._validate())

    def _validate(self) -> dict[str, torch.Tensor]:
        """A point on the validation curve, where the recipe has one after this step."""
        how, done = self.recipe.validate, self.steps_done
        if how is None or (done % how.every and done != self.recipe.steps):
            return {}
        if self.validation is None:
            self.validation = Validation(self.task, self.recipe, self.ranks.device)
        return self.validation.point(self.network, self.average.state if self.average is not None else None)

    def _optimizer(self, stage: Stage) -> Optimizer:
        optimizer = make_optimizer(stage, self.task.parameters(self.network, stage))
        if self.optimizer_state is not None:
            try:
                optimizer.load_state_dict(self.optimizer_state)
            except (ValueError, KeyError, TypeError) as error:
                raise TutorialError(
                    f"{self.path} was saved with other parameters learning ({error}); choose another output folder."
                ) from error
        return optimizer

    def _end_stage(self, stage: Stage) -> None:
        """What the stage has moved holds from now on."""
        moved = moved_options(self.task, stage)
        for name, value in moved.items():
            setattr(self.network, name, value)
        self.moved |= moved

    # ----------------------------------------------------------------------------------------- stop and resume

    def _save(self, optimizer: Optimizer) -> None:
        if self.path is None or not self.ranks.first:
            return
        checkpoint = Checkpoint(
            self.plan,
            self.stage,
            self.step,
            self.seconds,
            self.network.state_dict(),
            self.average.state if self.average is not None else None,
            optimizer.state_dict(),
            self.frozen._asdict(),
            self.start,
        )
        save_checkpoint(self.path, checkpoint)
        self._note_saved()

    def _require_fit(self, found: Checkpoint) -> None:
        """Raise TutorialError unless a checkpoint of this plan is one that the plan leads to."""
        stages = self.recipe.stages
        reached = found.stage < len(stages) and found.step <= stages[found.stage].steps
        if not reached or (found.ema is None) != (self.average is None):
            raise TutorialError(
                f"{self.path} stands where its own plan never leads (stage {found.stage}, step {found.step}); "
                "choose another output folder."
            )
        require_fit(found.network, self.network, str(self.path))
        if found.ema is not None:
            require_fit(found.ema, self.network, str(self.path))

    def _note_saved(self) -> None:
        self.saved = f"{self.path} (stage {self.recipe.stages[self.stage].name!r}, step {self.step})"

    def resume(self, out: Path) -> None:
        """Keep the run in a folder, and take up the one that is there, with its log cut back to the checkpoint.

        Raises:
            TutorialError: if the folder holds another run, or one that cannot be read.
        """
        self.path, self.journal.path = out / "checkpoint.pt", out / "log.jsonl"
        found = load_checkpoint(self.path, self.ranks.device)
        if found is not None:
            require_same_plan(self.path, found.plan, self.plan)
            self._require_fit(found)
            self.network.load_state_dict(found.network)
            if self.average is not None and found.ema is not None:
                self.average.state = dict(found.ema)
            if found.frozen is not None:
                self.frozen = Frozen(**found.frozen)
                self.frozen.restore(self.network)
            self.stage, self.step, self.seconds = found.stage, found.step, found.seconds
            self.optimizer_state, self.start = found.optimizer, found.start
            for stage in self.recipe.stages[: self.stage]:
                self._end_stage(stage)
            self._note_saved()
        self.journal.resume(self.stage, self.step)


# ------------------------------------------------------------------------------------------------ the machine


def _require_one_folder(ranks: Ranks, steps: int, out: Path) -> None:
    """Raise in every process if they took up the run at different steps: they would wait for each other for ever."""
    if not ranks.same(steps):
        raise TutorialError(
            f"the processes stand at different steps of {out}, this one at {steps}; put the folder on a disk that "
            "every machine sees, or copy the first machine's folder to each."
        )


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
    if device is not None:
        return require_device(device)
    if recipe.profile == "gpu" and not torch.cuda.is_available():
        raise TutorialError(
            f"this recipe of {recipe.method!r} runs on CUDA, and torch sees no CUDA device; use the cpu profile."
        )
    return torch.device("cuda" if recipe.profile == "gpu" else "cpu")


@contextmanager
def _own_random_state(device: torch.device) -> Iterator[None]:
    """Seed torch inside as often as we like; outside, its random state is as before."""
    devices = (
        [device.index if device.index is not None else torch.cuda.current_device()] if device.type == "cuda" else []
    )
    with torch.random.fork_rng(devices=devices):
        yield
