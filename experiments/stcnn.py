"""Train and measure what notebook 06 quotes; writes ``stcnn*.safetensors`` and ``06_stcnn.json``.

    python experiments/stcnn.py list                               the trainings, with about how long each takes
    python experiments/stcnn.py train [--jobs 2]                   the recipe, the runs that ship, the experiments
    python experiments/stcnn.py measure [--davis DIR] [--video DIR]    all parts; on real video where there is some
    python experiments/stcnn.py ship                               store what ships

Runs live under ``runs/`` and resume where they stopped, so that ``train`` can be called again after an interruption.
Networks that were tuned to a frame 0 are kept there as well: several parts ask for the same.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
import multiprocessing
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from experiments import photos, runs
from experiments.runs import SEEDS, by_condition, keep, mean, over_seeds, per_frame, percent, seconds_of, swap
from vos_tutorial import models
from vos_tutorial.baselines import CopyFirst
from vos_tutorial.clip import Clip
from vos_tutorial.data.batches import ClipSource
from vos_tutorial.data.davis import DavisFolder
from vos_tutorial.data.sources.generated import GeneratedClips, lifelike
from vos_tutorial.data.worlds import sprites
from vos_tutorial.data.worlds.camouflage import CamouflageClips, ForkClips
from vos_tutorial.data.worlds.sprites import CONDITIONS, benchmark
from vos_tutorial.geometry import dilate, iou
from vos_tutorial.models import for_inference, stcnn
from vos_tutorial.models.frame_prediction import Generator, small_generator, target_like
from vos_tutorial.models.weights import load_weights, save_weights
from vos_tutorial.propagation import Resized, Segmenter, propagate
from vos_tutorial.recipes import SHORT_SIDE, Recipe
from vos_tutorial.recipes.stcnn import FEW, LABELLED, ONLINE_RECIPES, RECIPES, VARIANTS
from vos_tutorial.rng import Array, Rng

OUT = runs.RESULTS / "06_stcnn.json"
COMMAND = "python experiments/stcnn.py train; python experiments/stcnn.py measure --davis DIR --video DIR"
#: The run that ships as ``stcnn``; the others by what their file is called.
BEST = "long"
SHIPS = {"": BEST, "camouflage": "pretrained", "space-only": "space only"}
ADVERSARIAL = (
    "pretrained, adversarial"  # whose discriminator goes with the camouflage run, so that there is one to ask
)
#: What is compared on hidden objects.
HIDDEN = (
    *("space only", "random", "scratch", "pretrained", "pretrained, learning", "no attention"),
    *("pretrained, adversarial", "scratch, few", "pretrained, learning, few"),
)
FORKS = ("fork, mse", "fork, adversarial")
#: The same with a generator that resizes: no checkerboard can pass for sharpness.
RESIZED = ("fork, mse, resized", "fork, adversarial, resized")
#: The recipe's network whose temporal half is missing, or has learned nothing.
TIMELESS = ("video, space only", "video, random time")
#: The same pair for hidden objects, and beside it those that learned to predict; each is tuned as well.
HIDDEN_TUNED = ("space only", "random", "pretrained")
ONLINE = ONLINE_RECIPES["cpu"].steps  # of tuning, where nothing else is said
LADDER = (0, 20, 60, 200)
CLIPS = 4  # of each condition: each object of each clip is tuned to
FRESH = 9_200_000  # the first seed of clips that no training has seen
#: CPU seconds of a step, by objective, measured on one thread; for :func:`show` only.
SECONDS = {"prediction": 0.09, "spatial": 0.24, "joint": 0.31}
TRAININGS = runs.Trainings("stcnn", stcnn.STCNN, VARIANTS)
run_folder, network_of = TRAININGS.folder, TRAININGS.network
TUNED = TRAININGS.root / "tuned"


# ---------------------------------------------------------------------------------------------------- train


def key(name: str) -> str:
    """A variant's name as the results have it, where a comma would be hard to quote."""
    return name.replace(", ", " + ")


def trainings() -> list[tuple[str, int]]:
    """All trainings: what ships, then everything once, and once more with each other seed."""
    return [(BEST, 0), *((name, s) for s in SEEDS for name in ("recipe", *TIMELESS, *HIDDEN, *FORKS, *RESIZED))]


def seconds(recipe: Recipe) -> float:
    """CPU seconds that a training takes."""
    return sum(stage.steps * SECONDS[stage.options["objective"]] for stage in recipe.stages)


def train(jobs: int) -> None:
    """Run what is not finished, ``jobs`` at a time, and store what ships."""
    runs.run_all(TRAININGS.commands(trainings()), jobs)
    ship()


def ship() -> None:
    """Store those runs that ship; the camouflage run gets a discriminator of another one, so that there is one."""
    TRAININGS.ship("", BEST, 0, "generated clips, split train")
    TRAININGS.ship("space-only", SHIPS["space-only"], 0, "generated camouflage")
    name, adversarial = SHIPS["camouflage"], None
    if TRAININGS.finished(name, 0) and TRAININGS.finished(ADVERSARIAL, 0):
        adversarial = network_of(ADVERSARIAL, 0)
        stcnn.start_from(adversarial, network_of(name, 0))
    TRAININGS.ship(
        "camouflage", name, 0, "generated camouflage", adversarial, ADVERSARIAL if adversarial is not None else None
    )


def trained(name: str) -> list[stcnn.STCNN]:
    """The networks of a training's finished seeds, prepared for inference."""
    return [for_inference(network) for network in TRAININGS.networks(name)]


def smooth(run: Path, name: str, points: int = 50) -> list[float]:
    """A logged quantity averaged over equal stretches of those steps that have it: not every stage does."""
    records = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    values = np.array([record[name] for record in records if name in record])
    return [round(float(part.mean()), 4) for part in np.array_split(values, points)]


# ------------------------------------------------------------------------------------------- tuned to a frame 0


@lru_cache(maxsize=8)
def loaded(name: str, seed: int) -> tuple[stcnn.STCNN, str]:
    """A trained network prepared for inference, and a fingerprint of its weights."""
    weights = (run_folder(name, seed) / "weights.safetensors").read_bytes()
    return for_inference(network_of(name, seed)), hashlib.sha256(weights).hexdigest()


def spatial_half(network: stcnn.STCNN) -> nn.ModuleDict:
    """What tuning changes."""
    return nn.ModuleDict({"encoder": network.encoder, "decoder": network.decoder})


def tuned(name: str, seed: int, frame: Tensor, mask: Tensor, steps: int) -> tuple[stcnn.STCNN, float]:
    """A trained network tuned to an object of a frame 0, and the CPU seconds that this takes.

    What was tuned before is read from a file. The shorter tunings of :data:`LADDER` are kept on the way: a longer one
    begins with the same steps.

    Args:
        name: of the training.
        seed: of the training.
        frame: ``float32 [3, H, W]`` in [0, 1].
        mask: ``bool [H, W]``.
        steps: one of :data:`LADDER`.
    """
    network, print_ = loaded(name, seed)
    if not steps:
        return network, 0.0
    digest = hashlib.sha256(print_.encode())
    for part in (frame, mask):
        digest.update(part.contiguous().numpy().tobytes())
    path = {n: TUNED / f"{digest.hexdigest()[:24]}-{n}.safetensors" for n in LADDER}
    if not path[steps].exists():
        TUNED.mkdir(parents=True, exist_ok=True)
        began, states = time.process_time(), stcnn.fine_tuning(network, frame, mask)
        for n, state in enumerate(islice(states, steps + 1)):
            if n and n in LADDER:
                about = {"method": "stcnn", "size": "small", "seconds": f"{time.process_time() - began:.2f}"}
                save_weights(path[n], spatial_half(state), about)
    found = for_inference(network)
    found.generator = network.generator
    told = load_weights(path[steps], spatial_half(found))
    return found, float(told["seconds"])


class Tuned(stcnn.STCNNSegmenter):
    """A segmenter of a finished training whose networks are tuned to each object once, and then kept on disk.

    Args:
        name: of the training.
        seed: of the training.
        steps: of tuning, one of :data:`LADDER`.
        options: of :class:`~vos_tutorial.models.stcnn.STCNNSegmenter`.
    """

    def __init__(self, name: str, seed: int, steps: int, **options: Any) -> None:
        super().__init__(loaded(name, seed)[0], **options)
        self.run, self.steps = (name, seed), steps
        self.seconds: list[float] = []  # CPU, of each tuning that was asked for
        self.here = 0.0  # CPU seconds spent on them in this process, which may only have read files

    def _tuned(self, network: stcnn.STCNN, frame: Tensor, mask: Tensor) -> stcnn.STCNN:
        began = time.process_time()
        found, seconds = tuned(*self.run, frame, mask, self.steps)
        self.here += time.process_time() - began
        self.seconds.append(seconds)
        return found


def swapped(name: str, seed: int, steps: int, clips: list[Clip]) -> float | None:
    """:func:`experiments.runs.swap` of a tuned network; None if it answers nothing at all."""
    value = swap(lambda: Tuned(name, seed, steps), clips)
    return None if np.isnan(value) else value


def of_condition(conditions: Sequence[str], count: int) -> dict[str, list[Clip]]:
    """The first clips of some conditions of the benchmark."""
    clips = list(benchmark(count, conditions))
    return {c: [clip for clip in clips if clip.attributes == (c,)] for c in conditions}


# --------------------------------------------------------------------------------------------------- benchmark


def main_part() -> dict[str, Any]:
    """The recipe's seeds and the run that ships on the benchmark, tuned and not, beside what the others ship."""
    seeds, stages = TRAININGS.seeds("recipe"), RECIPES["cpu"].stages
    long, long_stages = network_of(BEST, 0), VARIANTS[BEST].stages
    assert long.generator is not None
    assert long.discriminator is not None
    result: dict[str, Any] = {"seeds": seeds, "clips_per_condition": CLIPS, "online_steps": ONLINE}
    result["training"] = {
        "steps": [stage.steps for stage in stages],
        "long_steps": [stage.steps for stage in long_stages],
        "batch": stages[0].batch,
        "size": stages[0].size,
        "parameters": sum(p.numel() for p in long.parameters()),
        "parameters_generator": sum(p.numel() for p in long.generator.parameters()),
        "parameters_discriminator": sum(p.numel() for p in long.discriminator.parameters()),
        "pixel": [smooth(run_folder("recipe", s), "pixel") for s in seeds],
        "iou": [smooth(run_folder("recipe", s), "iou") for s in seeds],
        "long_pixel": smooth(run_folder(BEST, 0), "pixel"),
        "long_iou": smooth(run_folder(BEST, 0), "iou"),
        "seconds": [seconds_of(run_folder("recipe", s)) for s in seeds],
        "long_seconds": seconds_of(run_folder(BEST, 0)),
    }
    clips = list(benchmark(CLIPS))
    some = [c for c in clips if c.attributes[0] in ("clean", "occlusion", "distractors", "multiple_objects")]
    others: dict[str, dict[str, dict[str, float]]] = {"copy first": by_condition(CopyFirst(), clips)}
    for title, name in (("MaskTrack", "masktrack"), ("STM long", "stm"), ("RVOS long", "rvos")):
        if models.shipped_weights(name).exists():
            print("benchmark", title, flush=True)
            others[title] = by_condition(models.segmenter(name), clips)
    print("benchmark untuned", flush=True)
    others["untuned"] = by_condition(Tuned(BEST, 0, 0), clips)
    print("benchmark recipe, tuned", flush=True)
    recipes = [by_condition(Tuned("recipe", s, ONLINE), some) for s in seeds]
    print("benchmark long, tuned", flush=True)
    best = by_condition(Tuned(BEST, 0, ONLINE), clips)
    result["benchmark"] = {}
    for c in CONDITIONS:
        mine = [r[c]["J"] for r in recipes] if c in recipes[0] else None
        result["benchmark"][c] = {
            "STCNN long": best[c]["J"],
            "F": best[c]["F"],
            "untuned": others["untuned"][c]["J"],
            "recipe": mine,
            "recipe mean": mean(mine) if mine else None,
            **{t: others[t][c]["J"] if t in others else None for t in ("copy first", "MaskTrack", "STM long")},
            "RVOS long": others["RVOS long"][c]["J"] if "RVOS long" in others else None,
        }
    rows = result["benchmark"].values()
    result["averages"] = {name: mean([row[name] for row in rows]) for name in ("untuned", "STCNN long", "STM long")}
    several = [clip for clip in clips if clip.attributes == ("multiple_objects",)]
    result["mask_swap"] = {
        "untuned": swapped(BEST, 0, 0, several),
        "tuned": swapped(BEST, 0, ONLINE, several),
    }
    return result


def online(count: int = 3) -> dict[str, Any]:
    """How much tuning is enough, and what it does to a network that needs time."""
    of = of_condition(("clean", "distractors", "multiple_objects"), count)
    result: dict[str, Any] = {"steps": list(LADDER), "clips": count, "J": {}, "seconds": [], "swap": []}
    of_steps: dict[int, list[float]] = {steps: [] for steps in LADDER}
    for c, clips in of.items():
        result["J"][c] = []
        for steps in sorted(LADDER, reverse=True):  # the longest tuning leaves the shorter ones behind
            print("online", c, steps, flush=True)
            method = Tuned(BEST, 0, steps)
            result["J"][c].insert(0, runs.j_of(method, clips))
            of_steps[steps] += method.seconds
    result["seconds"] = [round(float(np.mean(of_steps[steps])), 1) for steps in LADDER]
    result["swap"] = [swapped(BEST, 0, steps, of["multiple_objects"]) for steps in LADDER]
    result["time"] = blinded()
    return {"online": result}


@torch.no_grad()
def blinded(count: int = 8, name: str = "pretrained, learning") -> dict[str, Any] | None:
    """Does tuning on stills make a network ignore time? IoU on hidden objects that move, after so many steps."""
    if not TRAININGS.finished(name, 0):
        return None
    size, delta = TRAININGS.recipe(name).stages[0].size, loaded(name, 0)[0].delta
    frames, masks = CamouflageClips().batch(range(FRESH, FRESH + count), size, delta + 1)
    found: dict[int, list[float]] = {steps: [] for steps in LADDER}
    for frame, mask in zip(frames, masks, strict=True):
        for steps in sorted(LADDER, reverse=True):
            network, _ = tuned(name, 0, frame[0], mask[0] > 0, steps)
            logits = network(frame[-1:], frame[None, :-1], sides=False).logits
            found[steps].append(float(iou(logits[:, -1] > 0, mask[-1:] > 0)))
    return {"steps": list(LADDER), "moving": [percent(np.mean(found[s])) for s in LADDER], "clips": count}


JUMP = 8  # the frame, of 16, in which the object is suddenly elsewhere


def jumping(seed: int) -> Clip:
    """An object that drifts, and in one frame is on the other side: far out of the gate."""
    scene = sprites.describe(seed, split="test")
    t = np.arange(sprites.LENGTH)
    side = np.where(t < JUMP, -0.5, 0.5)
    moved = [
        dataclasses.replace(s, x=side + 0.01 * t, y=0 * t + 0.2 * np.sin(seed), size=np.full(len(t), 0.3))
        for s in scene.sprites
    ]
    frames, masks = sprites.render([dataclasses.replace(scene, sprites=moved)], 96, split="test")
    return Clip(frames[0], masks[0], f"jump-{seed}", ("jump",))


def gate() -> dict[str, Any]:
    """With and without the motion gate, where it must hurt, where it must help, and where it should not matter."""
    of = of_condition(("distractors", "clean"), CLIPS) | {"jump": [jumping(7_000_000 + s) for s in range(CLIPS)]}
    result: dict[str, Any] = {"clips": CLIPS, "jump_frame": JUMP, "on": {}, "off": {}, "recovered": {}, "curve": {}}
    for switch, threshold in (("on", 0.4), ("off", None)):
        method = Tuned(BEST, 0, ONLINE, gate=threshold)
        for c, clips in of.items():
            print("gate", switch, c, flush=True)
            result[switch][c] = runs.j_of(method, clips)
        curves = [per_frame(propagate(method, clip.frames, clip.first_mask), clip) for clip in of["jump"]]
        result["curve"][switch] = [percent(v) for v in np.mean(curves, axis=0)]
        result["recovered"][switch] = percent(np.mean([c[-3:].mean() > 0.5 for c in curves]))
    return {"gate": result}


def gate_where_it_is_blamed(steps: int, count: int = CLIPS) -> dict[str, dict[str, float]]:
    """With and without the motion gate: behind walls, under fast motion, and beside look-alikes."""
    of = of_condition(("occlusion", "fast_motion", "distractors"), count)
    result: dict[str, dict[str, float]] = {}
    for switch, threshold in (("on", 0.4), ("off", None)):
        print("gate", switch, steps, flush=True)
        method = Tuned(BEST, 0, steps, gate=threshold)
        result[switch] = {c: runs.j_of(method, clips) for c, clips in of.items()}
    return result


# ------------------------------------------------------------------------------------- what is time worth, tuned?


def timeless() -> dict[str, Any]:
    """Networks with a temporal half that learned, that did not, and without one, each tuned: on the benchmark.

    The full method's scores are those of the recipe's runs in :func:`main_part`, on the same clips.
    """
    of = of_condition(("clean", "occlusion", "distractors"), CLIPS)
    full = json.loads(OUT.read_text())["benchmark"]
    result: dict[str, Any] = {"clips": CLIPS, "steps": ONLINE, "J": {c: {"full": full[c]["recipe"]} for c in of}}
    for name in TIMELESS:
        seeds = TRAININGS.seeds(name)
        for c, clips in of.items() if seeds else ():
            print("timeless", name, c, flush=True)
            result["J"][c][short(name)] = [runs.j_of(Tuned(name, s, ONLINE), clips) for s in seeds]
    result["over_seeds"] = {
        c: {name: over_seeds(values) for name, values in row.items()} for c, row in result["J"].items()
    }
    return {"timeless": result}


def short(name: str) -> str:
    """What tells a training of :data:`TIMELESS` from the other."""
    return name.split(", ")[1]


@torch.no_grad()
def timeless_hidden(count: int = 8) -> dict[str, Any]:
    """The same on hidden objects, before and after tuning to frame 0: IoU in frame 4, when the object has moved."""
    result: dict[str, Any] = {"clips": count, "steps": ONLINE, "IoU": {}, "over_seeds": {}}
    for name in (name for name in HIDDEN_TUNED if TRAININGS.seeds(name)):
        rows: dict[str, list[float]] = {"untuned": [], "tuned": []}
        for seed in TRAININGS.seeds(name):
            network, _ = loaded(name, seed)
            size = TRAININGS.recipe(name).stages[0].size
            frames, masks = CamouflageClips().batch(range(FRESH, FRESH + count), size, 5)
            for title, steps in (("untuned", 0), ("tuned", ONLINE)):
                print("timeless hidden", name, seed, title, flush=True)
                found = []
                for frame, mask in zip(frames, masks, strict=True):
                    asked, _ = tuned(name, seed, frame[0], mask[0] > 0, steps)
                    window = frame[None, :-1] if network.generator is not None else None
                    logits = asked(frame[-1:], window, sides=False).logits
                    found.append(float(iou(logits[:, -1] > 0, mask[-1:] > 0)))
                rows[title].append(percent(np.mean(found)))
        result["IoU"][key(name)] = rows
        result["over_seeds"][key(name)] = {title: over_seeds(values) for title, values in rows.items()}
    return {"timeless_hidden": result}


def timeless_real(folder: Path) -> dict[str, Any]:
    """The same on the real video by which networks are chosen: J&F by video, and the mean of each seed."""
    result: dict[str, Any] = {"steps": ONLINE, "short_side": SHORT_SIDE, "J&F": {}, "videos": {}}
    for title, name in (("full", "recipe"), *((short(name), name) for name in TIMELESS)):
        print("timeless real", title, flush=True)
        rows = [
            photos.measure(Resized(Tuned(name, seed, ONLINE), SHORT_SIDE), DavisFolder(folder, 2016, "val"))
            for seed in TRAININGS.seeds(name)
        ]
        result["J&F"][title] = [row["J&F"] for row in rows]
        result["videos"][title] = {video: [row["videos"][video] for row in rows] for video in rows[0]["videos"]}
    result["over_seeds"] = {title: over_seeds(values) for title, values in result["J&F"].items()}
    return {"timeless_real": result}


# -------------------------------------------------------------------------------------------------- prediction


@torch.inference_mode()
def guesses(source: ClipSource, count: int, size: int, delta: int = 4) -> tuple[Tensor, Tensor]:
    """Unseen windows ``[N, delta, 3, H, W]`` and the frames after them ``[N, 3, H, W]``."""
    clips = source.batch(range(FRESH, FRESH + count), size, delta + 1)
    return clips.frames[:, :-1], clips.frames[:, -1]


@torch.inference_mode()
def painted(generator: Generator, windows: Tensor) -> Tensor:
    """What a generator expects, ``[N, 3, h, w]`` in [-1, 1]."""
    return torch.cat([generator(part).frame for part in windows.split(32)])


def error(guess: Tensor, truth: Tensor) -> float:
    """Mean squared, in [-1, 1] colours, times 1000."""
    return round(1000 * float(F.mse_loss(guess, truth)), 2)


def generators(name: str) -> list[Generator]:
    """Of each seed of a training that is finished."""
    found = [network.generator for network in trained(name)]
    return [g for g in found if g is not None]


def prediction(count: int = 256) -> dict[str, Any]:
    """The next frame, of clips of the same kind that were not trained with, beside the last frame once more."""
    size = RECIPES["cpu"].stages[0].size
    result: dict[str, Any] = {"clips": count}
    torch.manual_seed(0)
    untrained = for_inference(small_generator())

    windows, frames = guesses(GeneratedClips(split="test"), count, size)
    some = painted(untrained, windows[:1])
    truth = target_like(frames, some)
    result["copy_last"] = error(target_like(windows[:, -1], some), truth)
    result["recipe"] = [error(painted(g, windows), truth) for g in generators("recipe")]
    result["long"] = error(painted(generators(BEST)[0], windows), truth)
    result["random"] = error(painted(untrained, windows), truth)

    windows, frames = guesses(CamouflageClips(), count, size)
    truth = target_like(frames, some)
    result["copy_last_camouflage"] = error(target_like(windows[:, -1], some), truth)
    result["camouflage"] = [error(painted(g, windows), truth) for g in generators("pretrained")]
    result["camouflage_adversarial"] = [error(painted(g, windows), truth) for g in generators(ADVERSARIAL)]

    windows, frames = guesses(lifelike(split="test"), count, size)  # what the long run learned from
    truth = target_like(frames, some)
    result["lifelike"] = {
        "copy_last": error(target_like(windows[:, -1], some), truth),
        "long": error(painted(generators(BEST)[0], windows), truth),
        "recipe": [error(painted(g, windows), truth) for g in generators("recipe")],
    }
    return {"prediction": result}


# -------------------------------------------------------------------------------------------------- camouflage

SHAKE = 3.0  # hundredths of the frame, as fast as the object is


def worlds(count: int, size: int, delta: int = 4) -> dict[str, tuple[Tensor, Tensor, Tensor]]:
    """Unseen windows, the frames asked, ``[N, 3, H, W]``, and the masks in them, ``bool [N, H, W]``.

    ``frozen``: a clip whose last frame is repeated until the window holds nothing else; ``jump``: the frame asked is
    the first in which the object is elsewhere; ``after jump``: it is the second.
    """
    seeds = range(FRESH, FRESH + count)
    sources = {
        "moving": CamouflageClips(),
        "static": CamouflageClips(static=True),
        "frozen": CamouflageClips(),
        "shake": CamouflageClips(shake=SHAKE),
        "jump": CamouflageClips(jump=delta),
        "after jump": CamouflageClips(jump=delta - 1),
    }
    found = {}
    for name, source in sources.items():
        frames, masks = source.batch(seeds, size, delta + 1)
        window = frames[:, -1:].expand(-1, delta, -1, -1, -1) if name == "frozen" else frames[:, :-1]
        found[name] = (window, frames[:, -1], masks[:, -1] > 0)
    return found


@torch.inference_mode()
def found_by(network: stcnn.STCNN, world: tuple[Tensor, Tensor, Tensor]) -> float:
    """Mean IoU of the final masks, in percent."""
    window, frame, truth = world
    scores = []
    for part in torch.arange(len(frame)).split(16):
        logits = network(frame[part], window[part] if network.generator is not None else None, sides=False).logits
        scores.append(iou(logits[:, -1] > 0, truth[part]))
    return percent(torch.cat(scores).mean().item())


def camouflage(count: int = 64) -> dict[str, Any]:
    """Space and time: an object that a single frame cannot show."""
    asked = worlds(count, VARIANTS["pretrained"].stages[0].size)
    result: dict[str, Any] = {"clips": count, "labelled": LABELLED, "few": FEW, "frames": 5, "shake": SHAKE}
    result |= {"IoU": {}, "mean": {}}
    for name in HIDDEN:
        print("camouflage", name, flush=True)
        networks = trained(name)
        rows = {world: [found_by(network, made) for network in networks] for world, made in asked.items()}
        result["IoU"][key(name)] = rows
        result["mean"][key(name)] = {world: mean(values) for world, values in rows.items()}
    return {"camouflage": result}


BLURS = tuple(range(1, 17, 2))  # pixels across
THRESHOLDS = tuple(np.geomspace(0.005, 0.2, 40).tolist())


def differences(window: Tensor, frame: Tensor, blur: int) -> Tensor:
    """How much each pixel's surroundings have changed since the last frame, ``float [N, H, W]``."""
    change = (frame - window[:, -1]).abs().mean(1, keepdim=True)  # [N, 1, H, W]
    return F.avg_pool2d(change, blur, 1, blur // 2, count_include_pad=False)[:, 0]


def frame_difference(count: int = 64) -> dict[str, Any]:
    """What no network is needed for: whatever has changed since the last frame.

    The width of the blur and the threshold are those that do best on as many labelled clips as the networks had.
    """
    size = VARIANTS["pretrained"].stages[0].size
    frames, masks = CamouflageClips().batch(range(LABELLED), size, 5)
    truth, scores = masks[:, -1] > 0, {}
    for blur in BLURS:
        change = differences(frames[:, :-1], frames[:, -1], blur)
        scores |= {(blur, t): iou(change > t, truth).mean().item() for t in THRESHOLDS}
    blur, threshold = max(scores, key=lambda choice: scores[choice])
    found = {
        world: percent(iou(differences(window, frame, blur) > threshold, there).mean().item())
        for world, (window, frame, there) in worlds(count, size).items()
    }
    return {"frame_difference": {"clips": count, "blur": blur, "threshold": round(threshold, 4), "IoU": found}}


# ------------------------------------------------------------------------------------------------------- probe

PROBED = {"random": "random", "pretrained": "pretrained", "pretrained + adversarial": "pretrained, adversarial"}


@torch.inference_mode()
def maps(generator: Generator, windows: Tensor) -> dict[str, Tensor]:
    """The generator's maps, and all of them together, at the painted frame's resolution: ``[N, C, h, w]``."""
    parts = [generator(part) for part in windows.split(32)]
    size = parts[0].frame.shape[-2:]
    found = {}
    for i, name in enumerate(("d1", "d2", "d3")):
        d = torch.cat([part.features[i] for part in parts])
        found[name] = F.interpolate(d, size, mode="bilinear", align_corners=False)
    return found | {"all": torch.cat(list(found.values()), 1)}


def probe(train: Tensor, labels: Tensor, test: Tensor, truth: Tensor) -> float:
    """A logistic regression on every pixel's channels, with the threshold that is best where it learned; IoU.

    Args:
        train: ``float [N, C, h, w]``.
        labels: ``bool [N, h, w]``.
        test: ``float [M, C, h, w]``.
        truth: ``bool [M, H, W]``, at full resolution.
    """
    centre, spread = train.mean((0, 2, 3)), train.std((0, 2, 3)).clamp_min(1e-6)
    flat = lambda x: ((x.movedim(1, -1) - centre) / spread).flatten(0, 2)  # noqa: E731 - [N*h*w, C]
    x, y = flat(train), labels.flatten().float()
    w, b = torch.zeros(x.shape[1], requires_grad=True), torch.zeros(1, requires_grad=True)
    optimizer = torch.optim.LBFGS([w, b], max_iter=60, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = F.binary_cross_entropy_with_logits(x @ w + b, y) + 1e-4 * (w**2).sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    with torch.no_grad():
        mine = (x @ w + b).sigmoid().reshape(labels.shape)
        p = (flat(test) @ w + b).sigmoid().reshape(len(test), 1, *test.shape[-2:])
        best = max((float(iou(mine > t, labels).mean()), t) for t in np.linspace(0.05, 0.6, 12).tolist())[1]
        answer = F.interpolate(p, truth.shape[-2:], mode="bilinear", align_corners=False)[:, 0] > best
    return percent(iou(answer, truth).mean().item())


def halved(windows: Tensor) -> Tensor:
    """The four frames' pixels, ``[N, delta, 3, H, W] -> [N, delta, h, w]``; the grain is grey."""
    return F.avg_pool2d(windows[:, :, 0], 2)


def last_change(windows: Tensor, blur: int = 9) -> Tensor:
    """The blurred difference of the last two frames that a generator sees, ``[N, 1, h, w]``; an honest rival."""
    return F.avg_pool2d(differences(windows[:, :-1], windows[:, -1], blur)[:, None], 2)


def probes(learn: int = LABELLED, ask: int = 64) -> dict[str, Any]:
    """What the generator's maps say about where the hidden object is now, to a reader that only adds them up."""
    size = VARIANTS["pretrained"].stages[0].size
    result: dict[str, Any] = {"clips_train": learn, "clips_test": ask, "IoU": {}}

    def clips(first: int, count: int) -> tuple[Tensor, Tensor]:
        frames, masks = CamouflageClips().batch(range(first, first + count), size, 5)
        return frames[:, :-1], masks[:, -1] > 0

    def half(masks: Tensor) -> Tensor:
        return F.avg_pool2d(masks.float(), 2) >= 0.5

    test, truth = clips(FRESH, ask)
    for title, name in PROBED.items():
        print("probe", title, flush=True)
        rows: dict[str, list[float]] = {d: [] for d in ("d1", "d2", "d3", "all")}
        for seed, generator in zip(TRAININGS.seeds(name), generators(name), strict=True):
            windows, labels = clips(1000 * seed, learn)
            here, there = maps(generator, windows), maps(generator, test)
            for d, row in rows.items():
                row.append(probe(here[d], half(labels), there[d], truth))
        result["IoU"][title] = rows
    print("probe pixels", flush=True)
    plain = [clips(1000 * seed, learn) for seed in SEEDS]
    for title, look in (("pixels", halved), ("difference", last_change)):
        result["IoU"][title] = {"all": [probe(look(w), half(m), look(test), truth) for w, m in plain]}
    return {"probe": result}


# -------------------------------------------------------------------------------------------------------- fork


class Turned(Rng):
    """The same generator, but signs come out the other way round."""

    def sign(self) -> float:
        """-1 or +1."""
        return -super().sign()


class OtherFuture(ForkClips):
    """The clip of the same seed, whose object turns the other way in the end."""

    def _draw(self, rng: Rng, size: int, length: int) -> tuple[Array, Array]:
        other = Turned(0)
        other._rng = rng._rng
        return super()._draw(other, size, length)


def two_sides(frame: Tensor, true: Tensor, other: Tensor) -> Tensor:
    """How much of the object a painted frame shows in both places: ``[N, 2]``, true place first, of its contrast.

    Args:
        frame: ``float [N, 3, h, w]`` in [-1, 1].
        true: ``bool [N, h, w]``.
        other: the same, of the future that did not come.
    """
    grey = frame.mean(1)
    shows = []
    ground = mean_in(grey, ~dilate(true | other, 2))
    for one, against in ((true, other), (other, true)):
        shows.append((mean_in(grey, one & ~against) - ground).clamp_min(0))
    return torch.stack(shows, 1)


def mean_in(x: Tensor, place: Tensor) -> Tensor:
    """``float [N, h, w]`` averaged where ``bool [N, h, w]`` is true: ``float [N]``."""
    return (x * place).flatten(1).sum(1) / place.flatten(1).sum(1).clamp_min(1)


def steepness(frame: Tensor, place: Tensor) -> Tensor:
    """The mean length of the gradient of ``[N, 3, h, w]`` within ``bool [N, h, w]``: ``float [N]``."""
    grey = F.pad(frame.mean(1, keepdim=True), (0, 1, 0, 1), mode="replicate")[:, 0]
    right, down = grey[:, :-1, 1:] - grey[:, :-1, :-1], grey[:, 1:, :-1] - grey[:, :-1, :-1]
    return mean_in((right**2 + down**2).sqrt(), place)


FAINT = 0.1  # of the object's true contrast: what is below it is nothing


def compared(guess: Tensor, truth: Tensor, true: Tensor, other: Tensor) -> dict[str, float]:
    """A painted future against the one that came.

    ``mse`` as everywhere; ``sharpness``: the gradients' mean length around both places, of the truth's, in percent;
    ``one_side``: in how many clips one place shows at least three times as much of the object as the other;
    ``brighter`` and ``fainter``: how much the two places show, of the true contrast, in percent.

    Args:
        guess: ``float [N, 3, h, w]`` in [-1, 1].
        truth: the same.
        true: ``bool [N, h, w]``: where the object went.
        other: where it would have gone.
    """
    around = dilate(true | other, 2)
    shown = two_sides(guess, true, other) / two_sides(truth, true, other)[:, :1]
    bright, faint = shown.max(1).values, shown.min(1).values
    return {
        "mse": error(guess, truth),
        "sharpness": percent((steepness(guess, around) / steepness(truth, around)).mean().item()),
        "one_side": percent(((bright > FAINT) & (bright >= 3 * faint)).float().mean().item()),
        "brighter": percent(bright.mean().item()),
        "fainter": percent(faint.mean().item()),
    }


def futures(count: int, size: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Windows ``[N, 4, 3, H, W]``; the true frame ``[N, 3, h, w]`` in [-1, 1]; both places, ``bool [N, h, w]``."""
    seeds = range(FRESH, FRESH + count)
    frames, masks = ForkClips().batch(seeds, size, 5)
    _, others = OtherFuture().batch(seeds, size, 5)
    true, other = (F.avg_pool2d((m[:, -1] > 0).float(), 2) >= 0.5 for m in (masks, others))
    return frames[:, :-1], target_like(frames[:, -1], true), true, other


MEASURES = ("mse", "sharpness", "one_side", "brighter", "fainter")


def fork(count: int = 128) -> dict[str, Any]:
    """Two futures, equally probable: what is painted by the pixels' error alone, and with a discriminator."""
    windows, truth, true, other = futures(count, VARIANTS[FORKS[0]].stages[0].size)
    last = target_like(windows[:, -1], truth)
    rows: dict[str, Any] = {
        "truth": compared(truth, truth, true, other),
        "copy last": compared(last, truth, true, other),
    }
    rows |= by_generator(FORKS, windows, truth, true, other)
    table = {m: {name: row[m] for name, row in rows.items()} for m in MEASURES}
    return {"fork": {"clips": count, **table, "pictures": pictures(windows[SHOWN], truth[SHOWN])}}


def fork_resized(count: int = 128) -> dict[str, Any]:
    """:func:`fork` on the same clips with generators that resize; all measures are those of there."""
    rows = by_generator(RESIZED, *futures(count, VARIANTS[RESIZED[0]].stages[0].size))
    table = {m: {name: row[m] for name, row in rows.items()} for m in MEASURES}
    return {"fork_resized": {"clips": count, "steps": VARIANTS[RESIZED[0]].steps, **table}}


def by_generator(
    names: Sequence[str], windows: Tensor, truth: Tensor, true: Tensor, other: Tensor
) -> dict[str, dict[str, list[float]]]:
    """:func:`compared` for each seed of some trainings."""
    rows = {}
    for name in names:
        print("fork", name, flush=True)
        seen = [compared(painted(g, windows), truth, true, other) for g in generators(name)]
        rows[key(name)] = {measure: [s[measure] for s in seen] for measure in MEASURES}
    return rows


SHOWN = slice(3, 6)  # clips that the notebook shows, to both sides: its reader has no weights of these runs


def pictures(windows: Tensor, truth: Tensor) -> list[dict[str, list[str]]]:
    """For each clip the last frame, the next one, and what the first seeds painted: greys, a string of hex a row."""
    frames = {"last": target_like(windows[:, -1], truth), "truth": truth}
    frames |= {key(name): painted(generators(name)[0], windows) for name in FORKS}
    greys = {name: ((f[:, 0] + 1) * 127.5).round().clamp(0, 255).byte().numpy() for name, f in frames.items()}
    return [{name: [row.tobytes().hex() for row in of[i]] for name, of in greys.items()} for i in range(len(windows))]


# -------------------------------------------------------------------------------------------------------- game

GAME = {"tenth": 0.005, "tenfold": 0.5}  # weights of the adversarial loss; the page itself plays with 0.05
PLAYED = ("disc", "forks", "Painter", "Critic", "critic_loss", "play", "scored")


def game() -> dict[str, Any]:
    """The page's own game with a weaker and a stronger critic, for its exercise; three seeds each."""
    page = runs.from_page("06_stcnn_adversarial_training", PLAYED, F=F, nn=nn, torch=torch)
    page["test_past"], page["test_future"], page["test_other"] = page["forks"](64, torch.Generator().manual_seed(999))
    result: dict[str, Any] = {"weights": GAME}
    for name, weight in GAME.items():
        print("game", name, flush=True)
        played = [page["scored"](page["play"](weight, seed)) for seed in SEEDS]
        result[name] = {key.split(",")[0]: [round(p[key], 2) for p in played] for key in played[0]}
    return {"game": result}


# -------------------------------------------------------------------------------------------------------- real


def real(folder: Path) -> dict[str, Any]:
    """J and F on three DAVIS-2016 sequences, and CPU seconds per video, tuning included."""
    methods: dict[str, Segmenter] = {"copy first": CopyFirst()}
    for title, name in (("MaskTrack", "masktrack"), ("STM long run", "stm"), ("RVOS long run", "rvos")):
        if models.shipped_weights(name).exists():
            methods[title] = models.segmenter(name, short_side=SHORT_SIDE)
    ours = {steps: Tuned(BEST, 0, steps) for steps in (200, 60, 0)}  # the longest tuning first
    titles = {0: "STCNN untuned", 60: "STCNN 60 steps", 200: "STCNN 200 steps"}
    methods |= {titles[steps]: Resized(method, SHORT_SIDE) for steps, method in ours.items()}
    result: dict[str, Any] = {"short_side": SHORT_SIDE, "seconds": {}}
    for title, method in methods.items():
        began = time.process_time()
        found = runs.real({title: [method]}, folder)
        spent = time.process_time() - began
        if isinstance(method, Resized) and isinstance(method.inner, Tuned):
            spent += sum(method.inner.seconds) - method.inner.here
        result["seconds"][title] = round(spent / len(runs.SEQUENCES), 1)
        for part, rows in found.items():
            result[part] = result.get(part, {}) | rows if isinstance(rows, dict) else rows
    return {"real": result}


# -------------------------------------------------------------------------------------------------------- main

PARTS: dict[str, Callable[[], dict[str, Any]]] = {
    "main": main_part,
    "online": online,
    "prediction": prediction,
    "camouflage": camouflage,
    "frame difference": frame_difference,
    "probe": probes,
    "fork": fork,
    "fork resized": fork_resized,
    "game": game,
    "gate": gate,
    "gate untuned": lambda: {"gate_untuned": gate_where_it_is_blamed(0)},
    "gate tuned": lambda: {"gate_tuned": gate_where_it_is_blamed(ONLINE)},
    "timeless": timeless,
    "timeless hidden": timeless_hidden,
}
#: Parts that need real video, and which: the option that names its folder.
REAL: dict[str, tuple[str, Callable[[Path], dict[str, Any]]]] = {
    "real": ("davis", real),
    "timeless real": ("video", timeless_real),
}


def measured(part: str, folder: Path | None) -> dict[str, Any]:
    """One part, on one thread, in a process of its own or not."""
    torch.set_num_threads(1)
    if part in REAL:
        assert folder is not None
        return REAL[part][1](folder)
    return PARTS[part]()


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("list", "train", "measure", "ship"))
    parser.add_argument("--jobs", type=int, default=2, help="trainings, or parts that are measured, at a time")
    parser.add_argument("--davis", type=Path, help="a DAVIS-2016 folder that holds the three sequences")
    parser.add_argument("--video", type=Path, help="a folder in DAVIS-2016's layout with a list val, to choose by")
    parts = (*PARTS, *REAL)
    parser.add_argument("--only", choices=parts, nargs="+", default=parts, help="measure these parts alone")
    options = parser.parse_args()
    if options.what == "list":
        TRAININGS.show(trainings(), seconds)
    elif options.what == "train":
        train(options.jobs)
    elif options.what == "ship":
        ship()
    if options.what != "measure":
        return
    folders = {part: getattr(options, REAL[part][0]) if part in REAL else None for part in options.only}
    wanted = {part: folder for part, folder in folders.items() if folder or part not in REAL}
    with ProcessPoolExecutor(options.jobs, mp_context=multiprocessing.get_context("spawn")) as pool:
        for job in as_completed([pool.submit(measured, part, folder) for part, folder in wanted.items()]):
            keep(OUT, job.result(), COMMAND)


if __name__ == "__main__":
    main()
