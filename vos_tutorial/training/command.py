"""``python -m vos_tutorial train METHOD``: train by a recipe, or go on where it stopped, and write the weights."""

from __future__ import annotations

import argparse
import importlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from .. import models, recipes
from ..data.sources.cutouts import photo_clips
from ..data.sources.stills import open_stills
from ..data.sources.video import VideoClips, open_video
from ..errors import TutorialError
from ..models.weights import read_about, read_metadata, save_weights
from ..profile import PROFILES, current, require_device
from ..recipes import Recipe
from .identity import Start, data_identity, weights_identity
from .interrupts import stop_signals
from .loop import TrainingRun, train
from .plan import differences, plan
from .tasks import task


def _named(text: str) -> str:
    """An argument that names something: an empty one (an unset variable of a shell) would be this folder."""
    if not text.strip() or "\0" in text:
        raise argparse.ArgumentTypeError(f"{text!r} names nothing; give a name, or leave it out")
    return text


def _path(text: str) -> Path:
    return Path(_named(text))


def _arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m vos_tutorial train",
        description="Train a method by its recipe. The same command again resumes where it stopped. "
        "For several GPUs: torchrun --nproc_per_node N -m vos_tutorial train METHOD --profile gpu",
    )
    parser.add_argument("method", help=", ".join(recipes.methods()))
    parser.add_argument("--profile", choices=PROFILES, help="size of the run (default: what fits this machine)")
    parser.add_argument("--variant", help="an experiment's recipe instead of the method's own (recipes/METHOD.py)")
    parser.add_argument(
        "--start", type=_named, metavar="WEIGHTS", help="start from these trained weights (shipped, or a file)"
    )
    parser.add_argument("--seed", type=int, default=0, help="decides initial weights, samples and dropout")
    parser.add_argument(
        "--out", type=_path, help="folder of the run (default: runs/METHOD-PROFILE-SEED, or with the variant's name)"
    )
    parser.add_argument("--weights-out", type=_path, help="the trained weights (default: OUT/weights.safetensors)")
    parser.add_argument("--half", action="store_true", help="store the weights as float16: half the size")
    parser.add_argument("--stills", type=_path, metavar="DIR", help="learn from pictures and masks, the pets, or VOC")
    parser.add_argument(
        "--cutouts",
        type=_path,
        metavar="DIR",
        help="pictures with alpha, beside --stills: for recipes on photographs",
    )
    parser.add_argument("--video", type=_path, metavar="DIR", help="learn from DAVIS or YouTube-VOS, split train")
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
    if not 0 <= arguments.seed < 2**63:
        parser.error(f"--seed is {arguments.seed}; use 0 or more, below 2**63")
    if arguments.checkpoint_every < 1:
        parser.error(f"--checkpoint-every is {arguments.checkpoint_every}; use 1 or more")
    return arguments


def main(argv: Sequence[str]) -> int:
    """``python -m vos_tutorial train METHOD``: train, or resume, and write the weights; returns the exit status."""
    arguments = _arguments(argv)
    recipe = _recipe(arguments)
    device = require_device(arguments.device) if arguments.device is not None else None
    out = arguments.out or _folder(arguments, recipe)
    weights = arguments.weights_out or out / "weights.safetensors"
    begun = _require_room(out, weights)

    torch.manual_seed(arguments.seed)
    network = models.build(recipe.method, size=recipe.network, **recipe.options)
    learned = task(recipe.method, **_sources(arguments, recipe))
    start = _start(arguments.start, recipe, network, begun)
    if weights.exists() and not (begun and weights.parent == out):  # there the checkpoint is asked first
        kind = device or ("cuda" if recipe.profile == "gpu" else "cpu")
        _require_own(weights, plan(recipe, arguments.seed, data_identity(learned), start, kind))
    with stop_signals():  # Ctrl-C after the last step waits until the weights are written
        run = train(
            network,
            learned,
            recipe,
            seed=arguments.seed,
            out=out,
            device=device,
            checkpoint_every=arguments.checkpoint_every,
            start=start,
        )
        if os.environ.get("RANK", "0") != "0":  # under torchrun one process reports
            return 0
        if weights.exists():
            _require_own(weights, run.plan)
        if run.new_steps == 0 and weights.exists() and _is_half(weights) == arguments.half:
            print(f"{out} is finished already ({recipe.steps} steps, {_loss(run)}); its weights are {weights}.")
            print("To train again, choose another --seed or --out.")
            return 0
        save_weights(weights, network, _metadata(run, arguments), torch.float16 if arguments.half else torch.float32)
    print(f"{recipe.steps} steps in {run.seconds:.0f} s ({run.steps_per_second:.2f} steps/s); {_loss(run)}")
    print(f"weights: {weights}")
    print(f"next:    python -m vos_tutorial evaluate {recipe.method} --weights {weights} --data DIR --out DIR")
    return 0


# ------------------------------------------------------------------------------------- what the options mean


def _recipe(arguments: argparse.Namespace) -> Recipe:
    if arguments.variant is not None:
        recipe = recipes.variant(arguments.method, arguments.variant)
    else:
        recipe = recipes.load(arguments.method, arguments.profile or current().name)
    return recipes.override(recipe, arguments.set)


def _folder(arguments: argparse.Namespace, recipe: Recipe) -> Path:
    name = arguments.variant.replace(" ", "-") if arguments.variant else recipe.profile
    return Path("runs") / f"{recipe.method}-{name}-{arguments.seed}"


def _sources(arguments: argparse.Namespace, recipe: Recipe) -> dict[str, Any]:
    """The reader's own data, for those of the recipe's stages that learn from such."""
    asked = {
        stage.options.get("source", "stills" if recipe.method == "masktrack" else "video") for stage in recipe.stages
    }
    sources: dict[str, Any] = {}
    photos = any("photos" in source for source in asked)
    if photos and arguments.stills is None:
        raise TutorialError(
            f"this recipe of {recipe.method!r} learns from photographs; give pictures with masks (--stills DIR), and "
            "cut-outs with alpha if you have some (--cutouts DIR)."
        )
    if arguments.cutouts is not None and not photos:
        raise TutorialError(f"this recipe of {recipe.method!r} learns from no photographs, so leave --cutouts out.")
    if photos:
        sources["photos"] = photo_clips(arguments.stills, arguments.cutouts)
    elif arguments.stills is not None:
        if not asked & {"stills", "simulated"}:
            raise TutorialError(
                f"this recipe of {recipe.method!r} does not learn from stills, so leave --stills out."
            )
        sources["source"] = open_stills(arguments.stills)
    if arguments.video is not None:
        if "video" not in asked:
            raise TutorialError(
                f"{recipe.method!r} does not learn from video, so leave --video {arguments.video} out."
            )
        cut = getattr(importlib.import_module(f"{__package__}.tasks.{recipe.method}"), "VIDEO", {})
        sources["video"] = VideoClips(open_video(arguments.video), **cut)
    return sources


def _start(weights: str | None, recipe: Recipe, network: nn.Module, begun: bool) -> Start:
    """Give a new run's network what it starts from; a run that has begun has its weights in the checkpoint."""
    if weights is not None:
        path = models.weights_file(recipe.method, weights)
        about = read_about(path)
        about.require_method(recipe.method)
        if about.size != recipe.network:
            raise TutorialError(
                f"{path} holds a network of size {about.size}, and this recipe trains one of size {recipe.network}; "
                "choose another --profile, or start from other weights."
            )
        digest = weights_identity(path)
        if not begun:
            models.start_from(recipe.method, network, weights)
        return Start(f"{weights}, {digest}", digest)
    if recipe.network != "paper" and recipe.options.get("encoder") != "imagenet":
        return Start()
    if begun or models.start_from_imagenet(recipe.method, network):
        return Start("ImageNet", "ImageNet")
    return Start("random, since ImageNet's weights could not be fetched", "ImageNet")


# ------------------------------------------------------------------------------------------- what is written


def _require_room(out: Path, weights: Path) -> bool:
    """Whether a run has begun in ``out``.

    Raises:
        TutorialError: if the run or its weights cannot be written there.
    """
    try:
        if out.exists() and not out.is_dir():
            raise TutorialError(f"--out {out} is a file; choose a folder.")
        if weights.is_dir():
            raise TutorialError(f"--weights-out {weights} is a folder; name a file in it.")
        if weights.exists() and not weights.is_file():  # /dev/null
            raise TutorialError(f"--weights-out {weights} is no plain file; choose another name.")
        for folder in (out, weights.parent):
            there = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
            if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
                raise TutorialError(
                    f"cannot write to {folder}, since {there} is not writable; choose another folder."
                )
        return (out / "checkpoint.pt").exists()
    except OSError as error:
        raise TutorialError(f"cannot look into {out} ({error.strerror or error}); choose another folder.") from error


def _require_own(weights: Path, planned: str) -> None:
    """Raise TutorialError unless a weights file that is there already is this run's."""
    way_out = "move it away and run the same command again, or choose another --weights-out or --out"
    try:
        changes = differences(read_metadata(weights).get("recipe", ""), planned)
    except TutorialError as error:
        raise TutorialError(f"the weights would replace a file that is not theirs: {error} Or {way_out}.") from error
    except ValueError:
        changes = ["it does not say which run it is of"]
    if changes:
        raise TutorialError(f"{weights} exists and is of another run ({'; '.join(changes[:3])}); {way_out}.")


def _is_half(weights: Path) -> bool:
    return read_metadata(weights).get("precision") == "float16"


def _loss(run: TrainingRun) -> str:
    last = run.losses[-max(1, len(run.losses) // 20) :]
    return f"loss {last.mean():.4g} (mean of the last 5 %)" if len(last) else "the log of its losses is lost"


def _metadata(run: TrainingRun, arguments: argparse.Namespace) -> dict[str, str]:
    """What the weights file tells: of the run, not of the command that happened to finish it."""
    recipe, planned = run.recipe, json.loads(run.plan)
    return {
        "method": recipe.method,
        "size": recipe.network,
        "profile": recipe.profile,
        "options": json.dumps({**recipe.options, **run.moved}),
        "recipe": run.plan,
        "source": recipe.source,
        "data": json.dumps(planned["data"]) if planned["data"] else "generated",
        "start": run.start,
        "seed": str(planned["seed"]),
        "steps": str(recipe.steps),
        **recipe.use(),
        "device": planned["device"],
        "loss": _loss(run),
        "precision": "float16" if arguments.half else "float32",
        "seconds": f"{run.seconds:.1f}",
        "torch": torch.__version__,
    }
