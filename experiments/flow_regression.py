"""How near could the image student of notebook 07 come? Adds ``regression`` to ``07_flow_images.json``.

    python experiments/flow_regression.py         the course's network
    python experiments/flow_regression.py wide    one with four times the weights; first, with flow_images.py:
                                                  train early-wide; train teacher-wide

A flow map is learned without walking the teacher's paths. Here they are walked, and the student learns from them by
plain regression: the average velocity between any two of their times. It is a trial for comparison, not a bound: how
much of the distance is left when nothing of AYF's loss is in the way.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from experiments import flow_images, runs
from experiments.runs import keep
from vos_tutorial.data.worlds import captioned
from vos_tutorial.models.dit import DiT, student_of
from vos_tutorial.models.flow_map import jump, like
from vos_tutorial.models.generators import load_teacher
from vos_tutorial.recipes.generators import OPEN

COUNT = 4096  # paths
STEPS = 32  # of Euler, in a path
STORED = 16  # jumps between the times that are kept
BATCH, WARM_UP, CLIP = 16, 20, 1.0


@dataclass(frozen=True)
class Regression:
    """A training: whether all weights learn or the adapters alone, for how many steps, how fast, with which seeds."""

    everything: bool
    steps: int
    lr: float
    seeds: tuple[int, ...] = runs.SEEDS


TRAININGS = {
    "adapters": Regression(False, 1800, 1e-3),
    "all weights": Regression(True, 1800, 1e-3),
    "all weights, longer": Regression(True, 6000, 2e-3, (0,)),
}
WIDE = Regression(True, 1800, 1e-3, (0,))


@torch.no_grad()
def walked(teacher: DiT, count: int = COUNT) -> tuple[Tensor, Tensor]:
    """Paths ``float16 [STORED + 1, N, 4, H, W]`` from noise to picture, and captions ``[N, 6]`` as trainings have."""
    generator = torch.Generator().manual_seed(5)
    captions = captioned.random_captions(range(5_000_000, 5_000_000 + count))
    whole, each = torch.rand(count, 1, generator=generator), torch.rand(captions.shape, generator=generator)
    captions = captions.masked_fill((whole < OPEN["unsaid"]) | (each < OPEN["unsaid"]), captioned.UNSAID)
    x = torch.randn(count, 4, captioned.SIDE, captioned.SIDE, generator=generator)
    kept = [x.half()]
    for i in range(STEPS):
        t = torch.full((count,), 1 - i / STEPS)
        parts = zip(x.split(128), t.split(128), captions.split(128), strict=True)
        x = torch.cat([jump(teacher.given(said), some, at, at - 1 / STEPS) for some, at, said in parts])
        if (i + 1) % (STEPS // STORED) == 0:
            kept.append(x.half())
    return torch.stack(kept), captions


def regressed(teacher: DiT, paths: Tensor, captions: Tensor, how: Regression, seed: int) -> DiT:
    """A student that has learned average velocities of the paths between two of their times, drawn at random.

    The loop is its own: batches come from paths that are there already, and a run takes two minutes.
    """
    torch.manual_seed(seed)
    student = student_of(teacher)
    if how.everything:
        student.requires_grad_(True)
    weights = [p for p in student.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(weights, how.lr, weight_decay=0.0)
    warm = torch.optim.lr_scheduler.LinearLR(optimiser, 1 / WARM_UP, total_iters=WARM_UP)
    fall = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, how.steps)
    generator = torch.Generator().manual_seed(seed)
    for _ in range(how.steps):
        who = torch.randint(captions.shape[0], (BATCH,), generator=generator)
        first = torch.randint(STORED, (BATCH,), generator=generator)
        last = first + 1 + (torch.rand(BATCH, generator=generator) * (STORED - first)).long()
        x, end, t, s = paths[first, who].float(), paths[last, who].float(), 1 - first / STORED, 1 - last / STORED
        velocity = (x - end) / like(t - s, x)  # [B, 4, H, W]
        loss = (student(x, t, s, captions[who]) - velocity).square().mean()
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, CLIP)
        optimiser.step()
        warm.step()
        fall.step()
    return student.eval()


def measured(teacher: DiT, trainings: dict[str, Regression]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Walk, learn, compare with the teacher's 64 steps as every sampler of the page is; one training after another.

    Beside each stands what Euler reaches with this teacher in eight steps.
    """
    judge, (paths, captions) = flow_images.Judge(), walked(teacher)
    asked = {name: flow_images.inputs(words) for name, words in flow_images.CAPTIONS.items()}
    aims = {name: flow_images.drawn(teacher.given, *pair, flow_images.REFERENCE) for name, pair in asked.items()}
    euler = {
        name: judge(flow_images.drawn(teacher.given, *pair, 8), pair[0], aims[name]) for name, pair in asked.items()
    }
    weights = sum(p.numel() for p in teacher.parameters())
    for title, how in trainings.items():
        students = [regressed(teacher, paths, captions, how, seed) for seed in how.seeds]
        row: dict[str, Any] = {"steps": how.steps, "lr": how.lr, "seeds": list(how.seeds), "weights": weights}
        row |= {name: flow_images.judged(students, judge, *pair, aims[name]) for name, pair in asked.items()}
        yield title, row | {"Euler, 8": euler}


def main() -> None:
    """See the module."""
    torch.set_num_threads(1)
    wide = sys.argv[1:] == ["wide"]
    teacher = load_teacher(path=flow_images.weights("teacher-wide" if wide else "teacher"))
    found = json.loads(flow_images.OUT.read_text())["regression"] if wide else {}
    found |= {"paths": COUNT, "path_steps": STEPS, "batch": BATCH}
    for title, row in measured(teacher, {"wide, all weights": WIDE} if wide else TRAININGS):
        found[title] = row
        keep(flow_images.OUT, {"regression": found}, flow_images.COMMAND)


if __name__ == "__main__":
    main()
