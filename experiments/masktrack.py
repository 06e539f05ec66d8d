"""Train and measure what notebook 02 quotes; writes ``masktrack*.safetensors`` and ``02_masktrack.json``.

    python experiments/masktrack.py train [--jobs 2]         three seeds of the cpu recipe, and of its ablations
    python experiments/masktrack.py measure [--davis DIR]    the generated part, and the real part from a DAVIS folder

Runs live under ``runs/`` and resume where they stopped, so that ``train`` can be called again after an interruption.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import platform
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from experiments import runs
from experiments.runs import (
    SEEDS,
    by_condition,
    j_of,
    keep,
    per_frame,
    percent,
    recovery,
    run_all,
    seconds_of,
    smooth,
    swap,
)
from vos_tutorial import models, recipes
from vos_tutorial.augment import Corruption, corrupt
from vos_tutorial.baselines import CopyFirst, copy_previous_truth
from vos_tutorial.clip import Clip
from vos_tutorial.course import figures
from vos_tutorial.data.worlds import sprites
from vos_tutorial.data.worlds.sprites import CONDITIONS, SyntheticStills, benchmark
from vos_tutorial.files import write_atomically
from vos_tutorial.geometry import dilate, fill_boxes, iou
from vos_tutorial.models import masktrack
from vos_tutorial.propagation import Segmenter, propagate, propagate_nearest
from vos_tutorial.recipes import SHORT_SIDE
from vos_tutorial.recipes.masktrack import ABLATION_STEPS, ABLATIONS
from vos_tutorial.rng import Rng

#: The ablations are shorter than the recipe, and change options of its one stage.
SETTINGS = {
    name: [f"stills.steps={ABLATION_STEPS}"] + [f"stills.options.{k}={json.dumps(v)}" for k, v in changes.items()]
    for name, changes in ABLATIONS.items()
}
TRAININGS = runs.Trainings("masktrack", masktrack.MaskTrack, settings=SETTINGS)
run_folder, network_of = TRAININGS.folder, TRAININGS.network
OUT = runs.RESULTS / "02_masktrack.json"
COMMAND = "python experiments/masktrack.py train; python experiments/masktrack.py measure --davis DIR"
SHIPPED = {"": ("recipe", 0), "no-deformation": ("no deformation", 0), "boxes": ("boxes", 0)}


# ---------------------------------------------------------------------------------------------------- train


def train(jobs: int) -> None:
    """Run what is not finished, ``jobs`` at a time, and store what ships."""
    run_all(TRAININGS.commands((name, seed) for name in ("recipe", *ABLATIONS) for seed in SEEDS), jobs)
    for variant, (name, seed) in SHIPPED.items():
        TRAININGS.ship(variant, name, seed, "generated stills, split train")


# -------------------------------------------------------------------------------------------------- measure


@torch.no_grad()
def response(network: masktrack.MaskTrack, guides_of: str) -> dict[str, list[float]]:
    """IoU of guide and truth against IoU of output and truth on held-out stills, in bins of the former."""
    source, n = SyntheticStills(split="test"), 256
    x, y = [], []
    for k, amount in enumerate((0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0)):
        stills = source.batch(range(900_000, 900_000 + n // 4), 96)
        how = Corruption(scale=0.05 * amount, shift=0.1 * amount, jitter=0.1 * amount, dilation=0, floor=0.0)
        guide = corrupt(stills.masks, [Rng(k, i) for i in range(n // 4)], how)
        shown = dilate(guide, 1) if guides_of == "mask" else guide
        x.append(iou(guide, stills.masks))
        y.append(iou(network(stills.images, shown).argmax(1).bool(), stills.masks))
    into, out = torch.cat(x).numpy(), torch.cat(y).numpy()
    edges = np.array([0.15, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.001])
    place = np.digitize(into, edges) - 1
    used = [b for b in range(len(edges) - 1) if (place == b).sum() >= 8]
    return {
        "x": [round(float(into[place == b].mean()), 4) for b in used],
        "y": [round(float(out[place == b].mean()), 4) for b in used],
    }


@torch.no_grad()
def open_and_closed(network: masktrack.MaskTrack, clips: list[Clip]) -> dict[str, list[float]]:
    """J per frame with the true previous mask as guide (open loop) and with the network's own (closed loop)."""
    loops: dict[str, list[np.ndarray]] = {"open": [], "closed": []}
    for clip in clips:
        closed = propagate(masktrack.MaskTrackSegmenter(network), clip.frames, clip.first_mask)
        guide = dilate(clip.masks[:-1] > 0, masktrack.dilation_for(*clip.size))
        answer = network(clip.frames[1:].float() / 255, guide).argmax(1).to(torch.uint8)
        loops["closed"].append(per_frame(closed, clip))
        loops["open"].append(per_frame(torch.cat([clip.masks[:1], answer]), clip))
    return {name: [percent(v) for v in np.mean(values, axis=0)] for name, values in loops.items()}


@torch.no_grad()
def displacement(network: masktrack.MaskTrack) -> dict[str, list[float]]:
    """One step's IoU when the guide is the true mask, moved by a share of the object's width."""
    stills, shares = SyntheticStills(split="test").batch(range(800_000, 800_064), 96), [0, 5, 10, 15, 20, 30, 40, 60]
    result = []
    for share in shares:
        guide = torch.zeros_like(stills.masks)
        for i, mask in enumerate(stills.masks):
            columns = mask.any(0).nonzero()
            step = round(float(columns.max() - columns.min() + 1) * share / 100) * (1 if i % 2 else -1)
            guide[i] = torch.roll(mask, step, dims=1)
        answer = network(stills.images, dilate(guide, 1)).argmax(1).bool()
        result.append(percent(iou(answer, stills.masks).mean()))
    return {"share": shares, "iou": result}


def several_annotations(network: masktrack.MaskTrack, clips: list[Clip]) -> dict[str, list[float]]:
    """Mean J over all frames with 1, 2, 3 and 5 annotated frames, against copying the nearest annotation."""
    counts = [1, 2, 3, 5]
    scores: dict[str, list[float]] = {"MaskTrack": [], "copy nearest": []}
    for count in counts:
        each: dict[str, list[float]] = {"MaskTrack": [], "copy nearest": []}
        for clip in clips:
            times = sorted({round(float(t)) for t in np.linspace(0, len(clip) - 1, count)}) if count > 1 else [0]
            given = {t: clip.masks[t] for t in times}
            for name, method in (("MaskTrack", masktrack.MaskTrackSegmenter(network)), ("copy nearest", CopyFirst())):
                each[name].append(per_frame(propagate_nearest(method, clip.frames, given), clip).mean())
        for name, values in each.items():
            scores[name].append(percent(np.mean(values)))
    return {"annotated": [float(c) for c in counts], **scores}


class BoxFirst:
    """MaskTrack_Box: only a box is given in frame 0. Scores count frames 1.. as for the others."""

    def __init__(self, network: masktrack.MaskTrack, box_network: masktrack.MaskTrack) -> None:
        self.inner = masktrack.MaskTrackSegmenter(network, box_network=box_network)

    def begin(self, frame: Tensor, mask: Tensor) -> None:
        """See ``Segmenter``; the mask is replaced by its box before the method sees it."""
        ids = torch.zeros_like(mask)
        for o in mask.unique().tolist():
            if o:
                ids[fill_boxes((mask == o)[None])[0]] = o
        self.inner.begin(frame, ids)

    def step(self, frame: Tensor) -> Tensor:
        """See ``Segmenter``."""
        return self.inner.step(frame)

    def introduce(self, frame: Tensor, mask: Tensor) -> None:
        """See ``Segmenter``."""
        self.inner.introduce(frame, mask)


def generated() -> dict[str, Any]:
    """Everything that needs no real video."""
    clips = list(benchmark())
    of = {c: [clip for clip in clips if clip.attributes == (c,)] for c in CONDITIONS}
    plain = [*of["clean"], *of["deformation+scale"]]
    full = [network_of("recipe", seed) for seed in SEEDS]
    result: dict[str, Any] = {"seeds": list(SEEDS), "clips_per_condition": len(of["clean"])}
    stage = recipes.load("masktrack", "cpu").stages[0]
    result["training"] = {
        "steps": stage.steps,
        "batch": stage.batch,
        "size": stage.size,
        "parameters": sum(p.numel() for p in full[0].parameters()),
        "seconds": [seconds_of(run_folder("recipe", seed)) for seed in SEEDS],
        "loss": [smooth(run_folder("recipe", seed), "loss") for seed in SEEDS],
        "iou": [smooth(run_folder("recipe", seed), "iou") for seed in SEEDS],
        "machine": f"{os.cpu_count()} busy cores ({platform.machine()}), two trainings at a time",
    }
    picture(full[0])
    print("benchmark", flush=True)
    scores = [by_condition(masktrack.MaskTrackSegmenter(n), clips) for n in full]
    copied = by_condition(CopyFirst(), clips)
    result["benchmark"] = {
        c: {"MaskTrack": [s[c]["J"] for s in scores], "F": [s[c]["F"] for s in scores], "copy first": copied[c]["J"]}
        for c in CONDITIONS
    }
    for c in CONDITIONS:
        result["benchmark"][c]["mean"] = round(float(np.mean(result["benchmark"][c]["MaskTrack"])), 2)
        oracle = [per_frame(copy_previous_truth(clip.masks), clip)[1:-1].mean() for clip in of[c]]
        result["benchmark"][c]["copy previous truth"] = percent(np.mean(oracle))
    result["mask_swap"] = [swap(lambda n=n: masktrack.MaskTrackSegmenter(n), of["multiple_objects"]) for n in full]
    print("recovery", flush=True)
    result["recovery"] = {
        c: [recovery(masktrack.MaskTrackSegmenter(n), of[c]) for n in full] for c in ("occlusion", "out_of_view")
    }
    for seeds in result["recovery"].values():
        seeds.append(
            {k: round(float(np.mean([r[k] for r in seeds])), 2) for k in ("before", "after", "false_alarms")}
        )
    result["response"] = {"full": [response(n, "mask") for n in full]}
    result["open_closed"] = [open_and_closed(n, plain) for n in full]
    result["displacement"] = [displacement(n) for n in full]
    result["dilation"] = {
        str(r): [j_of(masktrack.MaskTrackSegmenter(n, dilation=r), plain) for n in full] for r in (0, 1, 2, 4)
    }
    print("ablations", flush=True)
    result["ablation"] = {"steps": ABLATION_STEPS, "J": {}, "loss": {v: last_losses(v) for v in ABLATIONS}}
    shown = {**{c: of[c] for c in ("clean", "deformation+scale", "multiple_objects")}}
    for variant, options in ABLATIONS.items():
        guide = options.get("guide", "mask")
        radius = None if options.get("spoiling", {}).get("dilation", 1) else 0
        networks = [network_of(variant, seed) for seed in SEEDS]
        result["ablation"]["J"][variant] = {
            name: [j_of(masktrack.MaskTrackSegmenter(n, guide=guide, dilation=radius), some) for n in networks]
            for name, some in shown.items()
        }
        if variant == "no deformation":
            result["response"][variant] = [response(n, "as is") for n in networks]
    boxes = [network_of("boxes", seed) for seed in SEEDS]
    result["box_first"] = {
        "mask given": [j_of(masktrack.MaskTrackSegmenter(n), plain) for n in full],
        "box given": [j_of(BoxFirst(n, b), plain) for n, b in zip(full, boxes, strict=True)],
        "box in every frame": [j_of(masktrack.MaskTrackSegmenter(b, guide="box"), plain) for b in boxes],
    }
    result["look_alikes"] = look_alikes(full)
    result["annotations"] = [several_annotations(n, plain[::2]) for n in full]
    return result


def look_alikes(networks: list[masktrack.MaskTrack], count: int = 24) -> dict[str, Any]:
    """J on the same scenes with their look-alike and without it; and the scene where it costs the first seed most."""
    scores: dict[str, list[list[float]]] = {"with": [], "without": []}
    for network in networks:
        for name in scores:
            scores[name].append([])
        for seed in range(count):
            scene = sprites.describe(seed, attributes=["distractors"], split="test")
            plain = dataclasses.replace(scene, sprites=[s for s in scene.sprites if s.object_id])
            frames, ids = sprites.render([scene, plain], 96, split="test")
            for name, f, m in zip(scores, frames, ids, strict=True):
                clip = Clip(f, m)
                answer = propagate(masktrack.MaskTrackSegmenter(network), clip.frames, clip.first_mask)
                scores[name][-1].append(percent(per_frame(answer, clip)[1:-1].mean()))
    cost = np.array(scores["without"][0]) - np.array(scores["with"][0])
    means = {name: [round(float(np.mean(run)), 2) for run in runs] for name, runs in scores.items()}
    everything = {f"{name}_mean": round(float(np.mean(runs)), 2) for name, runs in means.items()}
    return {"scenes": count, "worst": int(cost.argmax()), **means, **everything}


def tuned() -> dict[str, Any]:
    """Online fine-tuning on generated clips; slow, so on a part of the benchmark."""
    shown = ("clean", "distractors", "appearance_change")
    clips = {c: list(benchmark(4, [c])) for c in shown}
    return {"online": online([network_of("recipe", seed) for seed in SEEDS], clips) | {"clips": 4}}


def picture(network: masktrack.MaskTrack) -> None:
    """The README's picture: a clip of the benchmark and what the shipped network makes of it."""
    clip = list(benchmark(5, ["deformation+scale"]))[4]
    ids = propagate(masktrack.MaskTrackSegmenter(network), clip.frames, clip.first_mask)
    sheet = figures.contact_sheet(clip, prediction={"MaskTrack": ids}, columns=5)
    write_atomically(OUT.with_suffix(".png"), figures.to_png(sheet))


def last_losses(variant: str, steps: int = 40) -> list[float]:
    """The training loss of each seed, averaged over the last steps."""
    logs = [(run_folder(variant, seed) / "log.jsonl").read_text().splitlines()[-steps:] for seed in SEEDS]
    return [round(float(np.mean([json.loads(line)["loss"] for line in log])), 4) for log in logs]


def online(networks: list[masktrack.MaskTrack], clips: dict[str, list[Clip]]) -> dict[str, Any]:
    """J with 0, 50 and 200 steps of fine-tuning on frame 0, early and late in the clip, and what a clip costs."""
    result: dict[str, Any] = {"steps": [0, 50, 200], "J": {}, "late": {}, "seconds": []}
    for steps in result["steps"]:
        began = time.perf_counter()
        for name, some in clips.items():
            early, late = [], []
            for network in networks:
                values = []
                for clip in some:
                    method = masktrack.segmenter(network, online_steps=steps)
                    values.append(per_frame(propagate(method, clip.frames, clip.first_mask), clip))
                early.append(percent(np.mean(values, axis=0)[1:-1].mean()))
                late.append(percent(np.mean(values, axis=0)[-5:].mean()))
            result["J"].setdefault(name, []).append(early)
            result["late"].setdefault(name, []).append(late)
        count = sum(map(len, clips.values())) * len(networks)
        result["seconds"].append(round((time.perf_counter() - began) / count, 2))
    return result


def real(folder: Path) -> dict[str, Any]:
    """J and F on three DAVIS-2016 sequences, as the protocol of 2016 has it, at the folder's own size."""
    networks = [network_of("recipe", seed) for seed in SEEDS]
    methods: dict[str, list[Segmenter]] = {
        "copy first": [CopyFirst()],
        "MaskTrack": [models.segmenter("masktrack", network=n, short_side=SHORT_SIDE) for n in networks],
        "MaskTrack, 200 online steps": [
            models.segmenter("masktrack", network=n, short_side=SHORT_SIDE, online_steps=200) for n in networks
        ],
    }
    return runs.real(methods, folder) | {"short_side": SHORT_SIDE}


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("train", "measure"))
    parser.add_argument("--jobs", type=int, default=2, help="trainings at a time")
    parser.add_argument("--davis", type=Path, help="a DAVIS-2016 folder that holds the three sequences")
    parser.add_argument("--only", choices=("generated", "tuned", "real"), help="measure this part alone")
    options = parser.parse_args()
    if options.what == "train":
        train(options.jobs)
        return
    if options.only in (None, "generated"):
        keep(OUT, generated(), COMMAND)
    if options.only in (None, "tuned"):
        keep(OUT, tuned(), COMMAND)
    if options.davis and options.only in (None, "real"):
        keep(OUT, {"real": real(options.davis)}, COMMAND)


if __name__ == "__main__":
    main()
