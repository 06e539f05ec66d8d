"""``python -m vos_tutorial train METHOD``: train by a recipe, or go on where it stopped, and write the weights."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from .. import models, recipes
from ..data.davis import DavisFolder
from ..data.sources.stills import FolderStills
from ..data.sources.video import VideoClips
from ..errors import TutorialError
from ..models.weights import save_weights
from ..profile import PROFILES, current
from .checkpoints import plan
from .loop import train
from .tasks import task


def _arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m vos_tutorial train",
        description="Train a method by its recipe. The same command again resumes where it stopped. "
        "For several GPUs: torchrun --nproc_per_node N -m vos_tutorial train METHOD --profile gpu",
    )
    parser.add_argument("method", help=", ".join(recipes.methods()))
    parser.add_argument("--profile", choices=PROFILES, help="size of the run (default: what fits this machine)")
    parser.add_argument("--variant", help="an experiment's recipe instead of the method's own (recipes/METHOD.py)")
    parser.add_argument("--start", metavar="WEIGHTS", help="start from these trained weights (shipped, or a file)")
    parser.add_argument("--seed", type=int, default=0, help="decides initial weights, samples and dropout")
    parser.add_argument(
        "--out", type=Path, help="folder of the run (default: runs/METHOD-PROFILE-SEED, or with the variant's name)"
    )
    parser.add_argument("--weights-out", type=Path, help="the trained weights (default: OUT/weights.safetensors)")
    parser.add_argument("--half", action="store_true", help="store the weights as float16: half the size")
    parser.add_argument("--stills", type=Path, metavar="DIR", help="learn from pictures and masks of yours instead")
    parser.add_argument("--video", type=Path, metavar="DIR", help="learn from the train list of a DAVIS-2017 folder")
    parser.add_argument("--checkpoint-every", type=int, default=100, metavar="STEPS", help="default: %(default)s")
    parser.add_argument("--device", help="cpu, cuda or cuda:N (default: cuda for profile gpu, else cpu)")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="STAGE.KEY=VALUE",
        help="change a number of the recipe (repeatable)",
    )
    arguments = parser.parse_args(argv)
    if arguments.seed < 0:
        parser.error(f"--seed is {arguments.seed}; use 0 or more")
    if arguments.checkpoint_every < 1:
        parser.error(f"--checkpoint-every is {arguments.checkpoint_every}; use 1 or more")
    return arguments


def main(argv: Sequence[str]) -> int:
    """``python -m vos_tutorial train METHOD``: train, or resume, and write the weights; returns the exit status."""

    arguments = _arguments(argv)
    if arguments.variant is not None:
        recipe = recipes.variant(arguments.method, arguments.variant)
    else:
        recipe = recipes.load(arguments.method, arguments.profile or current().name)
    recipe = recipes.override(recipe, arguments.set)
    name = arguments.variant.replace(" ", "-") if arguments.variant else recipe.profile
    out = arguments.out or Path("runs") / f"{recipe.method}-{name}-{arguments.seed}"
    weights = arguments.weights_out or out / "weights.safetensors"

    torch.manual_seed(arguments.seed)
    network = models.build(recipe.method, size=recipe.network, **recipe.options)
    if not (out / "checkpoint.pt").exists():
        if arguments.start is not None:
            models.start_from(recipe.method, network, arguments.start)
        elif recipe.network == "paper":
            models.start_from_imagenet(recipe.method, network)
    sources: dict[str, Any] = {"source": FolderStills(arguments.stills)} if arguments.stills else {}
    if arguments.video:
        if not any(stage.options.get("source") == "video" for stage in recipe.stages):
            raise TutorialError(
                f"{recipe.method!r} does not learn from video, so leave --video {arguments.video} out."
            )
        sources["video"] = VideoClips(DavisFolder(arguments.video, year=2017, split="train"))
    learned = task(recipe.method, **sources)
    run = train(
        network,
        learned,
        recipe,
        seed=arguments.seed,
        out=out,
        device=arguments.device,
        checkpoint_every=arguments.checkpoint_every,
    )
    if os.environ.get("RANK", "0") != "0":  # under torchrun one process reports
        return 0

    loss = float(run.losses[-max(1, len(run.losses) // 20) :].mean())
    if run.new_steps == 0 and weights.exists():
        print(f"{out} is finished already ({recipe.steps} steps, loss {loss:.4g}); its weights are {weights}.")
        print("To train again, choose another --seed or --out.")
        return 0
    metadata = {
        "method": recipe.method,
        "size": recipe.network,
        "profile": recipe.profile,
        "options": json.dumps(dict(recipe.options)),
        "recipe": plan(recipe, arguments.seed),
        "source": recipe.source,
        "start": arguments.start or "random",
        "seed": arguments.seed,
        "steps": recipe.steps,
        "device": str(arguments.device or ("cuda" if recipe.profile == "gpu" else "cpu")),
        "loss": f"{loss:.6g}",
        "seconds": f"{run.seconds:.1f}",
        "torch": torch.__version__,
    }
    save_weights(
        weights, network, {k: str(v) for k, v in metadata.items()}, torch.float16 if arguments.half else torch.float32
    )
    print(
        f"{recipe.steps} steps in {run.seconds:.0f} s ({run.steps_per_second:.2f} steps/s); "
        f"loss {loss:.4g} (mean of the last 5 %)"
    )
    print(f"weights: {weights}")
    size = "" if recipe.network == "small" else f" --size {recipe.network}"
    print(f"next:    python -m vos_tutorial evaluate {recipe.method} --weights {weights}{size} --data DIR --out DIR")
    return 0
