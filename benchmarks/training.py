"""Where the time of a training step goes: making the batch, the step itself, and what the loop adds.

    python benchmarks/training.py [masktrack] [--profile cpu] [--steps 30] [--threads N]

Milliseconds per step, the median. On a CPU this is CPU time, so that a busy machine gives the same numbers (with N
threads a quiet one needs about 1/N of it); on a GPU it is the clock. "loop adds" is the median step of ``train`` with
log and checkpoints in a temporary folder, less the other two. The first steps, which load kernels, are left out.
"""

from __future__ import annotations

import argparse
import dataclasses
import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from vos_tutorial import models, recipes, training
from vos_tutorial.profile import PROFILES, current
from vos_tutorial.recipes import Stage
from vos_tutorial.training import Task, learning_rate, sample_seeds, train
from vos_tutorial.training.optimisers import make_optimizer
from vos_tutorial.training.step import Objective, channels_last, optimise

WARM_UP = 5


class Stopwatch:
    """A task that notes when each of its batches is asked for."""

    def __init__(self, task: Task) -> None:
        self.loss, self.parameters, self._batch = task.loss, task.parameters, task.batch
        self.asked: list[float] = []

    def batch(self, stage: Stage, seeds: Sequence[int], device: torch.device) -> Mapping[str, Tensor]:
        self.asked.append(now(device))
        return self._batch(stage, seeds, device)


def now(device: torch.device) -> float:
    """Seconds: CPU time of this process on a CPU; on a GPU the clock, after all work given to it is done."""
    if device.type != "cuda":
        return time.process_time()
    torch.cuda.synchronize(device)
    return time.perf_counter()


def main() -> None:
    """Measure and print one table row per stage."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("method", nargs="?", default="masktrack")
    parser.add_argument("--profile", choices=PROFILES, default=current().name)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--threads", type=int)
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    recipe = recipes.load(arguments.method, arguments.profile)
    device = torch.device("cuda" if arguments.profile == "gpu" else "cpu")
    print(
        f"{recipe.method}, {recipe.profile}, {device}, {torch.get_num_threads()} threads, torch {torch.__version__}"
    )
    print(f"{'stage':<16}{'batch ms':>10}{'step ms':>10}{'loop adds ms':>14}{'whole stage s':>15}")
    for stage in recipe.stages:
        short = dataclasses.replace(stage, steps=arguments.steps + WARM_UP, warmup=0)
        network = models.build(recipe.method, size=recipe.network).to(device)
        channels_last(network)
        task = training.task(recipe.method)
        optimizer = make_optimizer(short, task.parameters(network, short))

        objective, batches, steps = Objective(network, task, short).train(), [], []
        for step in range(short.steps):
            began = now(device)
            batch = task.batch(short, sample_seeds(0, 0, step, stage.batch), device)
            made = now(device)
            optimise(objective, optimizer, batch, learning_rate(short, step), stage.clip_norm, recipe.amp)
            batches.append(made - began)
            steps.append(now(device) - made)

        watch = Stopwatch(task)
        with tempfile.TemporaryDirectory() as out:
            whole = dataclasses.replace(recipe, stages=(short,))
            train(network, watch, whole, out=out, device=device, progress=False)
        turns = [after - before for before, after in zip(watch.asked, watch.asked[1:], strict=False)]
        batch_ms, step_ms, turn_ms = (1e3 * statistics.median(each[WARM_UP:]) for each in (batches, steps, turns))
        adds = turn_ms - batch_ms - step_ms
        total = stage.steps * turn_ms / 1e3
        print(f"{stage.name:<16}{batch_ms:>10.1f}{step_ms:>10.1f}{adds:>14.1f}{total:>15.0f}")


if __name__ == "__main__":
    main()
