"""The paper-scale cells of the notebooks on a GPU: how fast a step is, whether the loss falls, whether they resume.

    python benchmarks/gpu.py [stm rgmp ...] [--steps 300] [--out data/results/gpu.json]

For each method, with the recipe of size gpu:

* a training step in float32 as it comes, and then in bfloat16 with channels last, on the same batch: the median on
  the clock, clips per second, and the peak of memory (training.py says where the time of a step goes);
* so many steps, shared out among the stages, stopped half way as by Ctrl-C and taken up again by a new network.

Without a GPU it says so and measures nothing. What was measured is kept in ``--out`` after each method.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import dataclasses
import json
import os
import signal
import statistics
import tempfile
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from training import WARM_UP, now

from vos_tutorial import models, recipes, training
from vos_tutorial.files import write_atomically
from vos_tutorial.models import start_from_imagenet
from vos_tutorial.recipes import Recipe, Stage
from vos_tutorial.training import Task, train
from vos_tutorial.training.optimisers import make_optimizer
from vos_tutorial.training.step import Objective, channels_last, in_channels_last, optimise

FORMS = {"float32": (False, False), "bfloat16, channels last": (True, True)}  # amp, channels last


def step_times(network: nn.Module, task: Task, stage: Stage, device: torch.device, repeats: int) -> dict[str, Any]:
    """Seconds of a step in each form, clips per second, and the peak of memory in GiB (None on a CPU)."""
    batch = task.batch(stage, range(stage.batch), device)
    found: dict[str, Any] = {}
    for form, (amp, last) in FORMS.items():
        mine, laid = copy.deepcopy(network).to(device), batch
        if last:
            channels_last(mine)
            laid = {name: in_channels_last(value) for name, value in batch.items()}
        optimizer, objective = make_optimizer(stage, task.parameters(mine, stage)), Objective(mine, task, stage)
        objective.train()
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        marks = [now(device)]
        for _ in range(WARM_UP + repeats):
            optimise(objective, optimizer, laid, stage.lr, stage.clip_norm, amp)
            marks.append(now(device))
        seconds = statistics.median(np.diff(marks)[WARM_UP:].tolist())
        peak = torch.cuda.max_memory_allocated(device) / 2**30 if device.type == "cuda" else None
        found[form] = {
            "ms": round(1000 * seconds, 1),
            "clips_per_second": round(stage.batch / seconds, 2),
            "peak_gib": round(peak, 2) if peak is not None else None,
        }
        del mine, optimizer, objective
    plain, fast = (found[form]["ms"] for form in FORMS)
    return found | {"ratio": round(plain / fast, 2)}


class Interrupted:
    """A task that presses Ctrl-C when a batch is asked for the ``at``-th time."""

    def __init__(self, task: Task, at: int) -> None:
        self.loss, self.parameters, self._batch, self.left = task.loss, task.parameters, task.batch, at

    def batch(self, stage: Stage, seeds: Sequence[int], device: torch.device) -> Mapping[str, Tensor]:
        """The task's own."""
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGINT)
        return self._batch(stage, seeds, device)


def shortened(recipe: Recipe, steps: int) -> Recipe:
    """So many steps, shared out evenly among the stages."""
    share, rest = divmod(steps, len(recipe.stages))
    stages = [
        dataclasses.replace(s, steps=share + (i < rest), warmup=min(s.warmup, share // 4))
        for i, s in enumerate(recipe.stages)
    ]
    return dataclasses.replace(recipe, stages=tuple(stages))


def interrupted_run(
    network: nn.Module, again: nn.Module, task: Task, recipe: Recipe, device: torch.device
) -> dict[str, Any]:
    """Train ``network``, stop half way, go on with ``again``, which knows nothing yet; what the log says.

    Raises:
        SystemExit: if the run did not stop, or did not go on where it stopped.
    """
    with tempfile.TemporaryDirectory() as folder:
        stopped = False
        try:
            train(network, Interrupted(task, recipe.steps // 2), recipe, out=folder, device=device)
        except KeyboardInterrupt:
            stopped = True
        before = len((Path(folder) / "log.jsonl").read_text().splitlines())
        if not stopped or not 0 < before < recipe.steps:
            raise SystemExit(f"the run was to stop half way, and stopped after {before} of {recipe.steps} steps.")
        run = train(again, task, recipe, out=folder, device=device)
    if run.new_steps != recipe.steps - before or len(run.history) != recipe.steps:
        raise SystemExit(f"stopped at step {before}, but went on for {run.new_steps} of {recipe.steps} steps.")
    losses, ends = run.losses, np.cumsum([0, *(stage.steps for stage in recipe.stages)])
    parts = [np.array_split(losses[a:b], 5) for a, b in pairwise(ends)]
    return {
        "steps": recipe.steps,
        "stopped_at": before,
        "steps_per_second": round(run.steps_per_second, 2),
        "loss": [round(float(part.mean()), 4) for part in np.array_split(losses, min(20, len(losses)))],
        "first_and_last_fifth": {
            stage.name: [round(float(p[0].mean()), 4), round(float(p[-1].mean()), 4)]
            for stage, p in zip(recipe.stages, parts, strict=True)
        },
    }


def measure(method: str, recipe: Recipe, steps: int, device: torch.device, repeats: int = 20) -> dict[str, Any]:
    """Both parts, for one method."""
    torch.manual_seed(0)
    network, task = models.build(method, size=recipe.network, **recipe.options), training.task(method)
    imagenet = start_from_imagenet(method, network) if recipe.network == "paper" else False
    found: dict[str, Any] = {"imagenet": imagenet, "step": {}}
    for stage in recipe.stages:
        found["step"][stage.name] = step_times(network, task, stage.at(0), device, repeats)
        print(method, stage.name, found["step"][stage.name], flush=True)
    again = models.build(method, size=recipe.network, **recipe.options)
    found["run"] = interrupted_run(network, again, task, shortened(recipe, steps), device)
    print(method, found["run"], flush=True)
    return found


def main() -> None:
    """Measure, print and keep."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("methods", nargs="*", default=["stm", "rgmp"], metavar="METHOD", help="default: stm rgmp")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--out", type=Path, help="a JSON file; what it says of other methods stays")
    options = parser.parse_args()
    if not torch.cuda.is_available():
        print("torch sees no CUDA device, so nothing was measured.")
        return
    device = torch.device("cuda")
    name = torch.cuda.get_device_name(device)
    for method in options.methods:
        recipe = recipes.load(method, "gpu")
        found = measure(method, recipe, options.steps, device) | {"device": name, "torch": torch.__version__}
        if options.out is not None:
            stored: dict[str, Any] = {}
            with contextlib.suppress(FileNotFoundError):
                stored = json.loads(options.out.read_text())
            write_atomically(options.out, (json.dumps(stored | {method: found}, indent=1) + "\n").encode())


if __name__ == "__main__":
    main()
