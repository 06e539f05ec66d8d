"""Train and measure the images of notebook 07; writes ``flow-images-*.safetensors`` and ``07_flow_images.json``.

    python experiments/flow_images.py train NAME [--seed 0]     one training, see NAMES; resumes where it stopped
    python experiments/flow_images.py ship                      what readers get, in half precision
    python experiments/flow_images.py measure                   everything the page quotes

Each training begins from the weights of another one (``FROM``); what is missing is named. Runs live under ``runs/``.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from experiments import runs
from experiments.runs import keep
from vos_tutorial.data.worlds import captioned
from vos_tutorial.generation import paired_distance, precision_recall
from vos_tutorial.models import generators
from vos_tutorial.models.attribute_reader import AttributeReader
from vos_tutorial.models.critic import Critic
from vos_tutorial.models.dit import DiT, student_of
from vos_tutorial.models.flow_map import Network
from vos_tutorial.models.generators import generate, guided, load_reader, load_student, load_teacher, save_network
from vos_tutorial.recipes import Recipe
from vos_tutorial.recipes import generators as recipes
from vos_tutorial.training import Start, train
from vos_tutorial.training.tasks import images as tasks

ROOT = runs.ROOT / "runs" / "images"
OUT = runs.RESULTS / "07_flow_images.json"
COMMAND = "python experiments/flow_images.py train NAME; python experiments/flow_images.py measure"
NAMES = ("reader", "early", "teacher", "student", "short", "without-s", "adversarial")
FROM = {
    "teacher": "early",
    "student": "teacher",
    "short": "teacher",
    "without-s": "teacher",
    "adversarial": "student",
}

# ---------------------------------------------------------------------------------------------------- train


def folder(name: str, seed: int) -> Path:
    """Where a training lives."""
    return ROOT / f"{name}-{seed}"


def weights(name: str, seed: int = 0) -> Path:
    """The weights that it leaves.

    Raises:
        SystemExit: if it has not come to its end.
    """
    path = folder(name, seed) / "weights.safetensors"
    if not path.exists():
        raise SystemExit(
            f"{path.relative_to(runs.ROOT)} is missing; run python experiments/flow_images.py train {name}."
        )
    return path


def prepared(name: str) -> tuple[nn.Module, Any, Recipe]:
    """The network that a training begins with, its task, its recipe."""
    if name == "reader":
        return AttributeReader(), tasks.AttributeReading(), recipes.READER["cpu"]
    if name == "early":
        return DiT(**recipes.SMALL), tasks.FlowMatching(), recipes.EARLY["cpu"]
    if name == "teacher":
        return load_teacher(path=weights("early")), tasks.FlowMatching(), recipes.TEACHER["cpu"]
    teacher, weak = load_teacher(path=weights("teacher")), load_teacher(path=weights("early"))
    if name == "adversarial":
        student = load_student(path=weights("student"), teacher=teacher)
        return tasks.Players(student, Critic()), tasks.AdversarialDistillation(weak), recipes.ADVERSARIAL["cpu"]
    recipe = {"student": recipes.STUDENT, "short": recipes.SHORT, "without-s": recipes.WITHOUT_S}[name]["cpu"]
    return student_of(teacher, reads_s=name != "without-s"), tasks.Distillation(weak), recipe


def run(name: str, seed: int) -> None:
    """Train, or go on, or do nothing if it is done."""
    out = folder(name, seed)
    if (out / "weights.safetensors").exists():
        print(out.name, "is done")
        return
    torch.manual_seed(seed)
    network, task, recipe = prepared(name)
    start = Start(FROM[name], str(weights(FROM[name]).relative_to(runs.ROOT))) if name in FROM else None
    done = train(network, task, recipe, seed=seed, out=out, start=start, progress=False)
    kept = network.student if isinstance(network, tasks.Players) else network
    about = {"recipe": f"cpu, {name}", "seed": str(seed), "steps": str(recipe.steps), "device": "cpu"}
    save_network(out / "weights.safetensors", kept, {**about, "seconds": f"{done.seconds:.0f}"})
    print(out.name, f"{recipe.steps} steps, {done.seconds:.0f} s", flush=True)


# ------------------------------------------------------------------------------------------------- measure

COUNT = 512  # captions, each drawn once by every sampler, from the same noise
REFERENCE = 64  # steps of the teacher that everything is compared with
FEW = (1, 2, 4, 8)


@torch.no_grad()
def drawn(
    network: Callable[[Tensor], Network], captions: Tensor, noise: Tensor, steps: int, batch: int = 64
) -> Tensor:
    """Samples ``[N, 4, H, W]``, some at a time."""
    pairs = zip(captions.split(batch), noise.split(batch), strict=True)
    return torch.cat([generate(network(some), start, steps) for some, start in pairs])


class Judge:
    """The measures of a set of samples."""

    def __init__(self) -> None:
        self.reader = load_reader(path=weights("reader"))
        self.real = captioned.draw(range(7_000_000, 7_000_000 + COUNT))
        self.features = self.read(self.real.images).features

    @torch.no_grad()
    def read(self, images: Tensor) -> Any:
        """What the reader sees."""
        return self.reader(images)

    def __call__(self, samples: Tensor, captions: Tensor, target: Tensor | None) -> dict[str, float]:
        """In percent, but for ``distance``, which is in the units of the pixels (-1 to 1)."""
        seen = self.read(samples)
        right = (seen.captions == captions).double()  # [N, 6]
        spread = precision_recall(self.features, seen.features)
        masks, found = samples[:, 3] > 0, seen.mask > 0
        overlap = (masks & found).flatten(1).sum(1) / (masks | found).flatten(1).sum(1).clamp_min(1)
        scores = {name: right[:, i].mean() for i, name in enumerate(captioned.ATTRIBUTES)}
        scores |= {"attributes": right.mean(), "whole caption": right.all(1).double().mean()}
        scores |= {"mask": overlap.mean(), "precision": spread.precision, "recall": spread.recall}
        told = {name: runs.percent(value) for name, value in scores.items()}
        return told | ({"distance": round(paired_distance(samples, target), 4)} if target is not None else {})


def inputs() -> tuple[Tensor, Tensor]:
    """Captions ``[N, 6]`` and noise ``[N, 4, 32, 32]``, the same for every sampler."""
    captions = captioned.random_captions(range(8_000_000, 8_000_000 + COUNT))
    noise = torch.randn(COUNT, 4, captioned.SIDE, captioned.SIDE, generator=torch.Generator().manual_seed(8))
    return captions, noise


def of_teacher(teacher: DiT, weak: DiT, guidance: float) -> Callable[[Tensor], Network]:
    """A guided teacher, waiting for captions."""
    return lambda captions: guided(teacher, captions, weak, guidance)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("train", "ship", "measure"))
    parser.add_argument("name", nargs="?", choices=NAMES)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    if given.what == "train":
        if given.name is None:
            parser.error("name the training")
        run(given.name, given.seed)


if __name__ == "__main__":
    main()
