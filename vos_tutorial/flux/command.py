"""``python -m vos_tutorial flux estimate | prepare | train | sample``."""

from __future__ import annotations

import argparse
import io
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image

from .. import recipes
from ..errors import TutorialError
from ..files import require_file_place, require_folder_place, write_atomically
from ..models.weights import load_weights, read_metadata, save_weights
from ..options import require_known
from ..profile import ProfileName, current, require_device
from ..recipes import Recipe
from ..training import Start, TrainingRun, train
from ..training.interrupts import stop_signals
from .encoders import Encoders, load_encoders, tiny_encoders
from .estimate import LESS_MEMORY, describe, estimate, measured_speed, missing, too_small
from .network import FLUX, Condition, FluxFlowMap, load_transformer, tiny_transformer
from .pictures import Prepared, prepare
from .recipe import RECIPES
from .sampling import sample
from .task import FluxTask

TINY = "tiny"


def _arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m vos_tutorial flux",
        description="Distil FLUX.1-dev into a flow map that makes pictures in 1 to 8 steps (Align Your Flow). "
        "--profile smoke rehearses everything on a tiny random network.",
    )
    commands = parser.add_subparsers(dest="command", required=True)
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("--profile", choices=tuple(RECIPES), help="default: gpu with CUDA, else smoke")
    shared.add_argument("--model", help=f"a folder in diffusers' format, or a repository (default: {FLUX})")
    shared.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="change a number of the recipe"
    )
    shared.add_argument("--device", help="cpu, cuda or cuda:N (default: cuda for profile gpu, else cpu)")

    one = commands.add_parser("estimate", help="memory and time, and what this machine lacks")
    one.add_argument("--gpus", type=int, default=8, help="default: %(default)s")
    one.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="change a number of the recipe")

    one = commands.add_parser("prepare", parents=[shared], help="encode pictures (.jpg, .png) with captions (.txt)")
    one.add_argument("pictures", type=Path, help="folder of pictures; fox.jpg stands beside fox.txt")
    one.add_argument("--out", required=True, help="folder for the encoded pictures, 4.3 MB each at 512 pixels")

    one = commands.add_parser("train", parents=[shared], help="learn; the same command again resumes")
    one.add_argument("cache", type=Path, help="folder that prepare has filled")
    one.add_argument("--seed", type=int, default=0, help="decides adapters, samples, noise and times")
    one.add_argument("--out", help="folder of the run (default: runs/flux-PROFILE-SEED)")
    one.add_argument("--checkpoint-every", type=int, default=100, metavar="STEPS", help="default: %(default)s")

    one = commands.add_parser("sample", parents=[shared], help="a picture from a prompt")
    one.add_argument("prompt")
    one.add_argument("--weights", type=Path, help="of a training; without them the teacher takes the steps")
    one.add_argument("--steps", type=int, default=4, help="calls of the network (default: %(default)s)")
    one.add_argument("--gamma", type=float, default=0.0, help="share of fresh noise, 0 to 1 (default: %(default)s)")
    one.add_argument("--seed", type=int, default=0, help="of the noise")
    one.add_argument("--out", default="flux.png", help="default: %(default)s")
    arguments = parser.parse_args(argv)
    if not 0 <= getattr(arguments, "seed", 0) < 2**63:
        parser.error(f"--seed is {arguments.seed}; use 0 or more, below 2**63")
    if getattr(arguments, "checkpoint_every", 1) < 1:
        parser.error(f"--checkpoint-every is {arguments.checkpoint_every}; use 1 or more")
    return arguments


def main(argv: Sequence[str]) -> int:
    """One of the four commands; returns the exit status."""
    arguments = _arguments(argv)
    if arguments.command == "estimate":
        return _estimate(arguments)
    name: ProfileName = arguments.profile or ("gpu" if current().name == "gpu" else "smoke")
    recipe = recipes.override(RECIPES[name], arguments.set)
    device = require_device(arguments.device or ("cuda" if _needs_gpu(recipe) else "cpu"))
    if device.type == "cuda":  # TensorFloat-32 in what computes in float32: three bits more than bfloat16, and fast
        torch.set_float32_matmul_precision("high")
    require_known(recipe.options, ["rank", "guidance", "checkpointing"], "--set network", "flux")
    command = {"prepare": _prepare, "train": _train, "sample": _sample}[arguments.command]
    try:
        return command(arguments, recipe, device)
    except torch.cuda.OutOfMemoryError as error:
        raise TutorialError(
            f"the GPU's memory is full; {LESS_MEMORY}. What was trained up to the last checkpoint is kept."
        ) from error


def _needs_gpu(recipe: Recipe) -> bool:
    if recipe.profile == "gpu" and not torch.cuda.is_available():
        raise TutorialError(
            "FLUX.1-dev needs a CUDA device, and torch sees none; use a machine with one, or rehearse with --profile "
            "smoke."
        )
    return recipe.profile == "gpu"


def _model(arguments: argparse.Namespace, recipe: Recipe) -> str:
    return arguments.model or (FLUX if recipe.profile == "gpu" else TINY)


def _encoders(model: str, device: torch.device) -> Encoders:
    return tiny_encoders() if model == TINY else load_encoders(model, device)


def _network(model: str, recipe: Recipe, seed: int) -> FluxFlowMap:
    """The network before training; seed 0 makes the tiny teacher, so that runs share it."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        transformer = tiny_transformer() if model == TINY else load_transformer(model)
        torch.manual_seed(seed)
        return FluxFlowMap(transformer, **recipe.options)


# ------------------------------------------------------------------------------------------------ the four commands


def _estimate(arguments: argparse.Namespace) -> int:
    recipe = recipes.override(RECIPES["gpu"], arguments.set)
    found = estimate(recipe, arguments.gpus)
    print(describe(recipe, arguments.gpus, found))
    for sentence in missing(found):
        print(f"missing - {sentence}")
    return 0


def _prepare(arguments: argparse.Namespace, recipe: Recipe, device: torch.device) -> int:
    encoders = _encoders(_model(arguments, recipe), device)
    size = recipe.stages[0].size
    made = prepare(arguments.pictures, arguments.out, encoders, size, lambda line: print(line, file=sys.stderr))
    held = Prepared(arguments.out)
    print(f"{made} pictures encoded at {size} pixels, {len(held)} in {held.folder}")
    print(f"next:    python -m vos_tutorial flux train {held.folder}")
    return 0


def _train(arguments: argparse.Namespace, recipe: Recipe, device: torch.device) -> int:
    model, source = _model(arguments, recipe), Prepared(arguments.cache)
    if source.model != model:
        raise TutorialError(
            f"{source.folder} was prepared for {source.model}, and this trains {model}; prepare the pictures again, "
            f"or give --model {source.model}."
        )
    out = require_folder_place(arguments.out or f"runs/flux-{recipe.profile}-{arguments.seed}", "--out")
    world, first = int(os.environ.get("WORLD_SIZE", "1")), os.environ.get("RANK", "0") == "0"
    if model != TINY:
        _say_cost(recipe, world, device, first)
    network = _network(model, recipe, arguments.seed)
    task = FluxTask(source, _grid(network, source))
    with stop_signals():  # Ctrl-C after the last step waits until the weights are written
        run = train(
            network,
            task,
            recipe,
            seed=arguments.seed,
            out=out,
            device=device,
            checkpoint_every=arguments.checkpoint_every,
            start=Start(model, model),
        )
        weights = out / "weights.safetensors"
        if first and (run.new_steps or not weights.exists()):
            save_weights(weights, network, _metadata(run, arguments.seed, model))
    if first:
        told = f"{recipe.steps} steps in {run.seconds:.0f} s" if run.new_steps else f"{out} is finished already"
        print(f"{told}; direction {run.column('direction')[-1]:.3g}")
        print(f"weights: {weights}")
        print(f'next:    python -m vos_tutorial flux sample "a red fox in snow" --weights {weights}')
    return 0


def _say_cost(recipe: Recipe, world: int, device: torch.device, first: bool) -> None:
    """Print the estimate, at this GPU's speed; TutorialError if its memory is too small."""
    found = estimate(recipe, world, measured_speed(device)) if device.type == "cuda" else estimate(recipe, world)
    if first:
        print(describe(recipe, world, found), flush=True)
    if device.type == "cuda" and (sentence := too_small(found, device)):
        raise TutorialError(sentence)


def _grid(network: FluxFlowMap, source: Prepared) -> tuple[int, int]:
    """Prepared pictures are squares; their tokens tell the side."""
    tokens, channels = source.batch([0])["latents"].shape[1:]
    side = round(tokens**0.5)
    if side * side != tokens or channels != network.transformer.x_embedder.in_features:
        raise TutorialError(
            f"{source.folder} holds latents of {tokens} tokens with {channels} channels, which {source.model} cannot "
            "read; prepare the pictures again."
        )
    return side, side


def _metadata(run: TrainingRun, seed: int, model: str) -> dict[str, str]:
    return {
        "method": "flux",
        "size": run.recipe.network,
        "options": json.dumps(dict(run.recipe.options)),
        "model": model,
        "seed": str(seed),
        "steps": str(run.recipe.steps),
        "plan": run.plan,
        "licence": "adapters only; FLUX.1-dev's non-commercial licence covers what is derived from it",
    }


def _sample(arguments: argparse.Namespace, recipe: Recipe, device: torch.device) -> int:
    place, model = require_file_place(arguments.out, "--out"), _model(arguments, recipe)
    if arguments.weights is not None:
        about = read_metadata(arguments.weights)
        if about.get("method") != "flux" or about.get("model") != model:
            raise TutorialError(
                f"{arguments.weights} holds weights for {about.get('model', about.get('method', 'something else'))}, "
                f"and this samples {model}; give --model, or other weights."
            )
        recipe = recipes.override(recipe, [f"network.{k}={v}" for k, v in json.loads(about["options"]).items()])
    size = recipe.stages[0].size
    encoders = _encoders(model, device)
    network = _network(model, recipe, 0)
    if arguments.weights is not None:
        load_weights(arguments.weights, network)
    network = network.to(device).eval()
    prompt, pooled, grid = encoders.condition([arguments.prompt], size)
    tokens = sample(
        network,
        Condition(prompt.to(device), pooled.to(device), grid),
        arguments.steps,
        arguments.gamma,
        torch.Generator().manual_seed(arguments.seed),
        teacher=arguments.weights is None,
    )
    (image,) = encoders.decode(tokens, grid).cpu()  # [3, H, W]
    buffer = io.BytesIO()
    Image.fromarray(image.permute(1, 2, 0).numpy()).save(buffer, format="PNG")
    write_atomically(place, buffer.getvalue())
    print(f"{place}: {arguments.steps} steps of {'the teacher' if arguments.weights is None else 'the flow map'}")
    return 0
