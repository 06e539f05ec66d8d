"""Train and measure what notebook 03 quotes; writes ``rgmp.safetensors`` and ``03_rgmp.json``.

    python experiments/rgmp.py train [--jobs 2]         three seeds of the cpu recipe, and of the experiments
    python experiments/rgmp.py measure [--davis DIR]    the generated part, and the real part from a DAVIS folder

Runs live under ``runs/`` and resume where they stopped, so that ``train`` can be called again after an interruption.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from experiments import runs
from experiments.runs import (
    SEEDS,
    by_condition,
    held_out,
    j_of,
    keep,
    mean,
    per_frame,
    percent,
    recovery,
    smooth,
    swap,
)
from vos_tutorial import models, recipes
from vos_tutorial.baselines import CopyFirst
from vos_tutorial.clip import Clip
from vos_tutorial.data.worlds import sprites
from vos_tutorial.data.worlds.sprites import CONDITIONS, benchmark
from vos_tutorial.evaluation import require_mask_read
from vos_tutorial.metrics import region_similarity
from vos_tutorial.models import rgmp
from vos_tutorial.propagation import Segmenter, propagate
from vos_tutorial.recipes import SHORT_SIDE
from vos_tutorial.recipes.rgmp import SHORT, VARIANTS

TRAININGS = runs.Trainings("rgmp", rgmp.RGMP, VARIANTS)
run_folder, network_of, trained = TRAININGS.folder, TRAININGS.network, TRAININGS.networks
OUT = runs.RESULTS / "03_rgmp.json"
COMMAND = "python experiments/rgmp.py train; python experiments/rgmp.py measure --davis DIR"
#: Experiments, and how many seeds of each.
COMPARED = {
    "full": 3,
    "teacher forcing": 3,
    "detach": 3,
    "no reference": 3,
    "no pre-training": 3,
    "hard feedback": 3,
    "no previous": 3,
}


# ---------------------------------------------------------------------------------------------------- train


def commands() -> Iterator[tuple[Path, list[str]]]:
    """All trainings, the most important first."""
    wanted = [("long", 0), *(("recipe", s) for s in SEEDS), *(("recipe without reference", s) for s in SEEDS)]
    wanted += [(name, s) for name, seeds in COMPARED.items() for s in range(seeds)]
    return TRAININGS.commands(wanted)


def train(jobs: int) -> None:
    """Run what is not finished, ``jobs`` at a time, and store what ships."""
    runs.run_all(commands(), jobs)
    ship()


def ship() -> None:
    """Store the long run."""
    TRAININGS.ship("", "long", 0, "generated stills and clips, split train")


def made_for(name: str) -> dict[str, Any]:
    """Options of the segmenter that fit a variant's training."""
    options: dict[str, dict[str, Any]] = {
        "no reference": {"use_reference": False},
        "no previous": {"use_previous": False},
        "hard feedback": {"feedback": "hard"},
    }
    return options.get(name, {})


# -------------------------------------------------------------------------------------------------- measure


def maker(network: rgmp.RGMP, **options: Any) -> Callable[[], Segmenter]:
    """Makes a new segmenter at each call."""
    return lambda: rgmp.segmenter(network, **options)


def main_part(clips: list[Clip]) -> dict[str, Any]:
    """The recipe's seeds, the same without a reference, and the long run on the whole benchmark."""
    of = {c: [clip for clip in clips if clip.attributes == (c,)] for c in CONDITIONS}
    nets, blind, long = trained("recipe"), trained("recipe without reference"), network_of("long", 0)
    stages = recipes.load("rgmp", "cpu").stages
    result: dict[str, Any] = {"seeds": list(SEEDS[: len(nets)]), "clips_per_condition": len(of["clean"])}
    result["training"] = {
        "steps": [stage.steps for stage in stages],
        "long_steps": [stage.steps for stage in VARIANTS["long"].stages],
        "batch": stages[0].batch,
        "size": stages[0].size,
        "parameters": sum(p.numel() for p in nets[0].parameters()),
        "loss": [smooth(run_folder("recipe", s), "loss") for s in result["seeds"]],
        "iou": [smooth(run_folder("recipe", s), "iou") for s in result["seeds"]],
    }
    print("benchmark", flush=True)
    for n in [*nets, long]:
        require_mask_read(maker(n))
    best = by_condition(rgmp.segmenter(long), clips)
    without = [by_condition(rgmp.segmenter(n, use_reference=False), clips) for n in blind]
    scores, copied = [by_condition(rgmp.segmenter(n), clips) for n in nets], by_condition(CopyFirst(), clips)
    earlier = json.loads((runs.RESULTS / "02_masktrack.json").read_text())
    result["benchmark"] = {
        c: {
            "RGMP": [s[c]["J"] for s in scores],
            "F": [s[c]["F"] for s in scores],
            "mean": mean([s[c]["J"] for s in scores]),
            "long": best[c]["J"],
            "without reference": [s[c]["J"] for s in without],
            "copy first": copied[c]["J"],
            "MaskTrack": earlier["benchmark"][c]["mean"],
        }
        for c in CONDITIONS
    }
    result["mask_swap"] = [swap(maker(n), of["multiple_objects"]) for n in nets]
    result["mask_swap_long"] = swap(maker(long), of["multiple_objects"])
    result["recovery"] = {
        c: {
            "RGMP": [recovery(rgmp.segmenter(n), of[c]) for n in nets],
            "without reference": [recovery(rgmp.segmenter(n, use_reference=False), of[c])["after"] for n in blind],
            "long": recovery(rgmp.segmenter(long), of[c]),
            "MaskTrack": earlier["recovery"][c][-1],
        }
        for c in ("occlusion", "out_of_view")
    }
    chosen_by = held_out()
    result["held_out"] = {
        "recipe": [j_of(rgmp.segmenter(n), chosen_by) for n in nets],
        "long": j_of(rgmp.segmenter(long), chosen_by),
    }
    return result


def experiments(clips: list[Clip]) -> dict[str, Any]:
    """Short runs of equal length: J by condition, after occlusion, and per frame of clips of 24 frames."""
    shown = ("clean", "deformation+scale", "occlusion", "distractors", "multiple_objects")
    of = {c: [clip for clip in clips if clip.attributes == (c,)] for c in shown}
    long = [sprites.make_clip(6_000_000 + s, length=24, attributes=("deformation",), split="test") for s in range(8)]
    long = [clip for clip in long if len(clip.objects)]
    result: dict[str, Any] = {
        "steps": list(SHORT),
        "frames": 24,
        "clips": len(long),
        "J": {},
        "after": {},
        "curve": {},
    }
    for name in COMPARED:
        if not TRAININGS.seeds(name):
            continue
        nets, options = trained(name), made_for(name)
        print("experiment", name, len(nets), flush=True)
        result["J"][name] = {c: [j_of(rgmp.segmenter(n, **options), some) for n in nets] for c, some in of.items()}
        result["after"][name] = [recovery(rgmp.segmenter(n, **options), of["occlusion"])["after"] for n in nets]
        curves = []
        for n in nets:
            j = [per_frame(propagate(rgmp.segmenter(n, **options), c.frames, c.first_mask), c) for c in long]
            curves.append([percent(v) for v in np.mean(j, axis=0)])
        result["curve"][name] = curves
    return {"experiments": result}


def switches(clips: list[Clip]) -> dict[str, Any]:
    """The recipe's networks with an input taken away or swapped at test time, without training anew."""
    of = {c: [clip for clip in clips if clip.attributes == (c,)] for c in ("clean", "occlusion", "distractors")}
    rows: dict[str, dict[str, Any]] = {
        "both": {},
        "no reference": {"use_reference": False},
        "no previous mask": {"use_previous": False},
        "hard feedback": {"feedback": "hard"},
        "three scales": {"scales": (0.5, 0.75, 1.0)},
    }
    nets = trained("recipe")
    return {
        "switches": {
            name: {c: [j_of(rgmp.segmenter(n, **options), some) for n in nets] for c, some in of.items()}
            for name, options in rows.items()
        }
    }


def sizes(count: int = 40) -> dict[str, Any]:
    """J of the networks that ship against the size of the object: clean scenes through shorter and longer lenses.

    Of eight scenes, two that MaskTrack loses decided which method was ahead.
    """
    zooms = (0.3, 0.45, 0.7, 1.0, 1.5)
    nets = {name: models.segmenter(name.lower()) for name in ("RGMP", "MaskTrack")}
    result: dict[str, Any] = {"scenes": count, "pixels": [], "J": {name: [] for name in nets}}
    scenes = [sprites.describe(7_000_000 + s, split="test") for s in range(count)]
    for zoom in zooms:
        frames, ids = sprites.render([s.closer(zoom, 0.0, 0.0) for s in scenes], 96, split="test")
        clips = [Clip(f, m) for f, m in zip(frames, ids, strict=True) if (m[0] > 0).sum() >= 4]
        result["pixels"].append(round(float(np.mean([(c.first_mask > 0).sum().item() ** 0.5 for c in clips])), 1))
        for name, method in nets.items():
            j = [per_frame(propagate(method, c.frames, c.first_mask), c)[1:-1].mean() for c in clips]
            result["J"][name].append(percent(np.mean(j)))
    return {"sizes": result}


def repainted(count: int = 16) -> dict[str, Any]:
    """J after a wall of the networks that ship: scenes whose object changes its texture, and with the change undone.

    An attribute changes all that is drawn after it: without it, a scene of the same seed would be another scene.
    """
    attributes = ("occlusion", "appearance_change")
    changing = [sprites.describe(1_000_003 + s, attributes=attributes, split="test") for s in range(count)]
    kept = deepcopy(changing)
    for scene in kept:
        scene.sprites[0].fade[:] = 0  # the object
    methods = {"MaskTrack": models.segmenter("masktrack"), "RGMP long run": models.segmenter("rgmp")}
    after: dict[str, dict[str, list[float]]] = {name: {} for name in methods}
    for how, scenes in {"as it was": kept, "repainted": changing}.items():
        clips = [Clip(f, m) for f, m in zip(*sprites.render(scenes, 96, split="test"), strict=True)]
        for name, method in methods.items():
            after[name][how] = [recovery(method, [clip])["after"] for clip in clips]
    rgmp_pairs = zip(after["RGMP long run"]["as it was"], after["RGMP long run"]["repainted"], strict=True)
    return {
        "repainted": {
            "scenes": count,
            "J after": {name: {how: [mean(js)] for how, js in row.items()} for name, row in after.items()},
            "by scene": after,
            "lost ten points": sum(was - now > 10 for was, now in rgmp_pairs),
        }
    }


@torch.no_grad()
def renewed(clips: list[Clip]) -> dict[str, Any]:
    """The network that ships, with a reference that is made anew every few frames from its own answer."""
    network = models.trained("rgmp")
    assert isinstance(network, rgmp.RGMP)
    result: dict[str, dict[str, float]] = {}
    for condition in ("clean", "occlusion", "appearance_change"):
        some = [clip for clip in clips if clip.attributes == (condition,)]
        result[condition] = {
            "never" if every is None else str(every): percent(np.mean([_renewing(network, c, every) for c in some]))
            for every in (None, 4, 1)
        }
    return {"renewed": result}


def _renewing(network: rgmp.RGMP, clip: Clip, every: int | None) -> float:
    """J of object 1, first and last frame left out."""
    frames, answers = clip.frames.float() / 255, [(clip.first_mask == 1).float()]
    guidance = network.prepare(network.encode(frames[:1], answers[0][None])[-1])
    for t, frame in enumerate(frames[1:], start=1):
        answers.append(network(frame[None], answers[-1][None], guidance).logits.softmax(1)[0, 1])
        if every is not None and t % every == 0:
            guidance = network.prepare(network.encode(frame[None], answers[-1][None])[-1])
    j = region_similarity(clip.masks == 1, torch.stack(answers) > 0.5)
    return float(j[1:-1].mean())


def real(folder: Path) -> dict[str, Any]:
    """J and F on three DAVIS-2016 sequences."""
    methods: dict[str, list[Segmenter]] = {
        "copy first": [CopyFirst()],
        "MaskTrack": [models.segmenter("masktrack", short_side=SHORT_SIDE)],
        "RGMP": [models.segmenter("rgmp", network=n, short_side=SHORT_SIDE) for n in trained("recipe")],
        "RGMP long run": [models.segmenter("rgmp", network=network_of("long", 0), short_side=SHORT_SIDE)],
    }
    return {"real": runs.real(methods, folder) | {"short_side": SHORT_SIDE}}


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("train", "measure", "ship"))
    parser.add_argument("--jobs", type=int, default=2, help="trainings at a time")
    parser.add_argument("--davis", type=Path, help="a DAVIS-2016 folder that holds the three sequences")
    parts = ("main", "experiments", "switches", "sizes", "repainted", "renewed", "real")
    parser.add_argument("--only", choices=parts, nargs="+", default=parts, help="measure these parts alone")
    options = parser.parse_args()
    if options.what == "train":
        train(options.jobs)
        return
    if options.what == "ship":
        ship()
        return
    clips = list(benchmark())
    if "main" in options.only:
        keep(OUT, main_part(clips), COMMAND)
    if "experiments" in options.only:
        keep(OUT, experiments(clips), COMMAND)
    if "switches" in options.only:
        keep(OUT, switches(clips), COMMAND)
    if "sizes" in options.only:
        keep(OUT, sizes(), COMMAND)
    if "repainted" in options.only:
        keep(OUT, repainted(), COMMAND)
    if "renewed" in options.only:
        keep(OUT, renewed(clips), COMMAND)
    if options.davis and "real" in options.only:
        keep(OUT, real(options.davis), COMMAND)


if __name__ == "__main__":
    main()
