"""Train and measure what notebook 02 quotes; writes ``masktrack*.safetensors`` and ``02_masktrack.json``.

    python experiments/masktrack.py train [--jobs 2]         three seeds of the cpu recipe, and of its ablations
    python experiments/masktrack.py measure [--davis DIR]    all parts; those on real video need a DAVIS folder
    python experiments/masktrack.py measure --only ablation  one part

Runs live under ``runs/`` and resume where they stopped, so that ``train`` can be called again after an interruption.
A part measures the seeds that are finished. Of a network that ships and was not trained here, it measures that file.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import platform
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.ndimage import distance_transform_edt
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
from vos_tutorial import metrics, models, recipes
from vos_tutorial.augment import Corruption, corrupt
from vos_tutorial.baselines import CopyFirst, copy_previous_truth
from vos_tutorial.clip import Clip
from vos_tutorial.course import figures
from vos_tutorial.data.worlds import sprites
from vos_tutorial.data.worlds.sprites import CONDITIONS, SyntheticStills, benchmark
from vos_tutorial.files import write_atomically
from vos_tutorial.geometry import dilate, fill_boxes, iou
from vos_tutorial.models import masktrack
from vos_tutorial.models.weights import read_metadata
from vos_tutorial.propagation import Segmenter, propagate, propagate_nearest
from vos_tutorial.recipes import SHORT_SIDE
from vos_tutorial.recipes.masktrack import ABLATIONS
from vos_tutorial.rng import Rng

#: The ablations change options of the recipe's one stage.
SETTINGS = {
    name: [f"stills.options.{k}={json.dumps(v)}" for k, v in changes.items()] for name, changes in ABLATIONS.items()
}
#: Those whose effect is small were repeated with three seeds, at a third of the length.
SHORT = {f"{name}, short": name for name in ("recipe", "no dilation", "boxes")}
SETTINGS |= {name: ["stills.steps=800", *SETTINGS.get(like, ())] for name, like in SHORT.items()}
TRAININGS = runs.Trainings("masktrack", masktrack.MaskTrack, settings=SETTINGS)
run_folder = TRAININGS.folder
OUT = runs.RESULTS / "02_masktrack.json"
COMMAND = "python experiments/masktrack.py train; python experiments/masktrack.py measure --davis DIR"
SHIPPED = {"": ("recipe", 0), "no-deformation": ("no deformation", 0), "boxes": ("boxes", 0)}
FILES = {training: variant for variant, training in SHIPPED.items()}


def ships(name: str, seed: int) -> bool:
    """Whether a file that ships is this training, at its present length."""
    if (name, seed) not in FILES:
        return False
    about = read_metadata(models.shipped_weights("masktrack", FILES[name, seed]))
    return int(about["steps"]) == TRAININGS.recipe(name).steps


def seeds_of(name: str) -> list[int]:
    """Those of a training's seeds that can be measured here."""
    return [seed for seed in SEEDS if TRAININGS.finished(name, seed) or ships(name, seed)]


def networks_of(name: str) -> list[masktrack.MaskTrack]:
    """The networks of those seeds: what a training left, or the file that ships."""
    found = []
    for seed in seeds_of(name):
        if TRAININGS.finished(name, seed):
            network = TRAININGS.network(name, seed)
        else:
            network = models.trained("masktrack", variant=FILES[name, seed])
            assert isinstance(network, masktrack.MaskTrack)
        found.append(network.eval())
    return found


# ---------------------------------------------------------------------------------------------------- train


def train(jobs: int) -> None:
    """Run what is not finished, ``jobs`` at a time, and store what ships."""
    names = ("recipe", *ABLATIONS, *SHORT)
    run_all(TRAININGS.commands((name, seed) for name in names for seed in SEEDS), jobs)
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


def by_condition_of(clips: list[Clip]) -> dict[str, list[Clip]]:
    """The benchmark's clips under the names of its conditions."""
    return {c: [clip for clip in clips if clip.attributes == (c,)] for c in CONDITIONS}


def plain_clips() -> list[Clip]:
    """Sixteen clips of one object that moves, bends and grows, and is always in view."""
    return [*benchmark(8, ["clean"]), *benchmark(8, ["deformation+scale"])]


def training() -> dict[str, Any]:
    """How the recipe's trainings went; also makes the README's picture."""
    seeds, stage = TRAININGS.seeds("recipe"), recipes.load("masktrack", "cpu").stages[0]
    network = networks_of("recipe")[0]
    picture(network)
    return {
        "steps": stage.steps,
        "batch": stage.batch,
        "size": stage.size,
        "parameters": sum(p.numel() for p in network.parameters()),
        "seconds": [seconds_of(run_folder("recipe", seed)) for seed in seeds],
        "loss": [smooth(run_folder("recipe", seed), "loss") for seed in seeds],
        "iou": [smooth(run_folder("recipe", seed), "iou") for seed in seeds],
        "machine": f"{os.cpu_count()} busy cores ({platform.machine()}), two trainings at a time",
    }


def scores() -> dict[str, Any]:
    """J and F on the benchmark, the two copies, and the mean over seeds."""
    clips = list(benchmark())
    of, copied = by_condition_of(clips), by_condition(CopyFirst(), clips)
    found = [by_condition(masktrack.MaskTrackSegmenter(n), clips) for n in networks_of("recipe")]
    return {
        c: {
            "MaskTrack": [one[c]["J"] for one in found],
            "F": [one[c]["F"] for one in found],
            "copy first": copied[c]["J"],
            "mean": round(float(np.mean([one[c]["J"] for one in found])), 2),
            "copy previous truth": previous_truth(of[c]),
        }
        for c in CONDITIONS
    }


def previous_truth(clips: list[Clip]) -> float:
    """J in percent of the previous frame's true mask, over all objects as the protocol of DAVIS-2017 has it."""
    each = [
        metrics.region_similarity(clip.masks == o, copy_previous_truth(clip.masks) == o)[1:-1].mean()
        for clip in clips
        for o in clip.objects
    ]
    return percent(np.mean(each))


def recovered() -> dict[str, Any]:
    """What becomes of an object that was hidden, or out of view."""
    found: dict[str, Any] = {}
    for c in ("occlusion", "out_of_view"):
        clips = list(benchmark(8, [c]))
        found[c] = [recovery(masktrack.MaskTrackSegmenter(n), clips) for n in networks_of("recipe")]
        keys = ("before", "after", "false_alarms")
        found[c].append({k: round(float(np.mean([r[k] for r in found[c]])), 2) for k in keys})
    return found


def changed_one_thing(name: str) -> list[Segmenter]:
    """The networks of a training of the ablation, fed in a video as they were in training."""
    options = ABLATIONS.get(SHORT.get(name, name), {})
    guide = options.get("guide", "mask")
    radius = None if options.get("spoiling", {}).get("dilation", 1) else 0
    return [masktrack.MaskTrackSegmenter(n, guide=guide, dilation=radius) for n in networks_of(name)]


def ablation() -> dict[str, Any]:
    """J and F of the recipe with one thing changed, at its full length, for the seeds that there are."""
    found: dict[str, Any] = {kind: {} for kind in ("seeds", "J", "F", "loss")}
    found["steps"] = recipes.load("masktrack", "cpu").steps
    clips = [clip for c in ABLATION_CONDITIONS for clip in benchmark(8, [c])]
    for name in ("recipe", *ABLATIONS):
        if not (methods := changed_one_thing(name)):
            continue
        found["seeds"][name] = seeds_of(name)
        rows = [by_condition(method, clips) for method in methods]
        for measure in "JF":
            found[measure][name] = {c: [row[c][measure] for row in rows] for c in ABLATION_CONDITIONS}
        found["loss"][name] = [last_loss(name, seed) for seed in TRAININGS.seeds(name)]
        print(name, found["J"][name], flush=True)
    return found


def short_ablation() -> dict[str, Any]:
    """J of the shorter runs."""
    clips = {c: list(benchmark(8, [c])) for c in ("clean", "deformation+scale", "multiple_objects")}
    found = {like: {c: [j_of(m, some) for m in changed_one_thing(name)] for c, some in clips.items()}
             for name, like in SHORT.items()}  # fmt: skip
    return {"steps": TRAININGS.recipe("recipe, short").steps, "J": found}


ABLATION_CONDITIONS = ("clean", "deformation+scale", "fast_motion", "distractors", "multiple_objects")


def boxes() -> dict[str, Any]:
    """A box in frame 0, and a box in every frame, against masks."""
    clips, full, box = plain_clips(), networks_of("recipe"), networks_of("boxes")
    return {
        "mask given": [j_of(masktrack.MaskTrackSegmenter(n), clips) for n in full],
        "box given": [j_of(BoxFirst(n, b), clips) for n, b in zip(full, box, strict=False)],
        "box in every frame": [j_of(masktrack.MaskTrackSegmenter(b, guide="box"), clips) for b in box],
    }


# ------------------------------------------------------------------------------------ the map, and the loop beside it

SHARES = (0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0)


def matched(mask: Tensor, wanted: float, seed: int) -> Tensor:
    """A random corruption of a mask ``bool [H, W]`` whose IoU with it is as near as possible to the wanted one."""
    tried = []
    for i, share in enumerate(SHARES):
        how = Corruption(scale=0.05 * share, shift=0.1 * share, jitter=0.1 * share, dilation=0, floor=0.0)
        rngs = [Rng(seed, i, k) for k in range(2)]
        tried += list(corrupt(mask.expand(len(rngs), -1, -1), rngs, how))
    quality = torch.stack([iou(guide, mask) for guide in tried])
    return tried[int((quality - wanted).abs().argmin())]


@torch.no_grad()
def closed_loop(network: masktrack.MaskTrack, clips: list[Clip], map_: dict[str, list[float]]) -> dict[str, Any]:
    """The steps that a network takes through clips, and what it makes of random guides that are as good as its own.

    Args:
        network: of MaskTrack.
        clips: with one object each.
        map_: what :func:`response` found.

    Returns:
        by frame 1.., averaged over clips: IoU ``in`` of the previous answer with this frame's truth, IoU ``out`` of
        the answer and its ``median``; what the ``map`` says of each clip's guide; ``random in`` and ``random out`` of
        random guides with the same IoU. Over all frames, of the object's pixels outside the guide, the share that was
        ``found`` and their mean ``distance`` in pixels, for its own guides and for random ones. Of the clips, how
        many are ``lost`` in the last frame (IoU below 0.5), and the paths of the worst and of the best.
    """
    rows: dict[str, list[list[float]]] = {k: [] for k in ("in", "out", "random in", "random out")}
    found: dict[str, list[float]] = {"own": [], "random": []}
    away: dict[str, list[float]] = {"own": [], "random": []}
    for c, clip in enumerate(clips):
        answers = propagate(masktrack.MaskTrackSegmenter(network), clip.frames, clip.first_mask) > 0
        for row in rows.values():
            row.append([])
        for t in range(1, len(clip)):
            truth, frame = clip.masks[t] > 0, clip.frames[t].float() / 255
            own = answers[t - 1]
            other = matched(truth, float(iou(own, truth)), seed=100 * c + t)
            guides = dilate(torch.stack([own, other]), masktrack.dilation_for(*clip.size))
            replies = network(frame.expand(2, -1, -1, -1), guides).argmax(1).bool()
            for row, mask in zip(rows.values(), (own, replies[0], other, replies[1]), strict=True):
                row[-1].append(float(iou(mask, truth)))
            for name, guide, reply in zip(found, guides, replies, strict=True):
                missing = truth & ~guide
                if missing.any():
                    found[name].append(float((missing & reply).sum() / missing.sum()))
                    away[name].append(float(distance_transform_edt(~guide.numpy())[missing.numpy()].mean()))
    each = {name: np.array(values) for name, values in rows.items()}  # [clips, T-1] each
    each["map"] = np.interp(each["in"], map_["x"], map_["y"])
    last = each["out"][:, -1]
    ends = {"worst": int(last.argmin()), "best": int(last.argmax())}
    return {
        **{name: [percent(v) for v in values.mean(0)] for name, values in each.items()},
        "median": [percent(v) for v in np.median(each["out"], 0)],
        "found": {name: percent(np.mean(values)) for name, values in found.items()},
        "distance": {name: round(float(np.mean(values)), 2) for name, values in away.items()},
        "lost": int((last < 0.5).sum()),
        "clips": {
            n: {"clip": i, **{k: [percent(v) for v in each[k][i]] for k in ("in", "out")}} for n, i in ends.items()
        },
    }


def loops() -> dict[str, Any]:
    """The map on random corruptions, and the closed loop beside it."""
    clips = plain_clips()
    return {
        "motion": percent(np.mean([one_frame(clip) for clip in clips])),
        "clips": len(clips),
        "seeds": [closed_loop(n, clips, response(n, "mask")) for n in networks_of("recipe")],
    }


def one_frame(clip: Clip) -> float:
    """The mean IoU of one frame's mask with the next one's: what one frame of motion leaves of a perfect mask."""
    return float(iou(clip.masks[:-1] > 0, clip.masks[1:] > 0).mean())


def responses() -> dict[str, Any]:
    """IoU in, IoU out."""
    return {
        "full": [response(n, "mask") for n in networks_of("recipe")],
        "no deformation": [response(n, "as is") for n in networks_of("no deformation")],
    }


def swaps() -> list[float]:
    """The mask-swap IoU of each seed."""
    clips = list(benchmark(8, ["multiple_objects"]))
    return [swap(lambda n=n: masktrack.MaskTrackSegmenter(n), clips) for n in networks_of("recipe")]


def radii() -> dict[str, list[float]]:
    """J with other dilations at test time."""
    clips, full = plain_clips(), networks_of("recipe")
    return {str(r): [j_of(masktrack.MaskTrackSegmenter(n, dilation=r), clips) for n in full] for r in (0, 1, 2, 4)}


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
    return online(networks_of("recipe"), clips) | {"clips": 4}


def picture(network: masktrack.MaskTrack) -> None:
    """The README's picture: a clip of the benchmark and what the shipped network makes of it."""
    clip = list(benchmark(5, ["deformation+scale"]))[4]
    ids = propagate(masktrack.MaskTrackSegmenter(network), clip.frames, clip.first_mask)
    sheet = figures.contact_sheet(clip, prediction={"MaskTrack": ids}, columns=5)
    write_atomically(OUT.with_suffix(".png"), figures.to_png(sheet))


def last_loss(name: str, seed: int, steps: int = 40) -> float:
    """The training loss, averaged over the last steps."""
    log = (run_folder(name, seed) / "log.jsonl").read_text().splitlines()[-steps:]
    return round(float(np.mean([json.loads(line)["loss"] for line in log])), 4)


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
    networks = networks_of("recipe")
    methods: dict[str, list[Segmenter]] = {
        "copy first": [CopyFirst()],
        "MaskTrack": [models.segmenter("masktrack", network=n, short_side=SHORT_SIDE) for n in networks],
        "MaskTrack, 200 online steps": [
            models.segmenter("masktrack", network=n, short_side=SHORT_SIDE, online_steps=200) for n in networks
        ],
    }
    return runs.real(methods, folder) | {"short_side": SHORT_SIDE}


#: What is measured on generated clips, by the name under which it is stored.
PARTS: dict[str, Callable[[], Any]] = {
    "training": training,
    "benchmark": scores,
    "mask_swap": swaps,
    "recovery": recovered,
    "response": responses,
    "open_closed": lambda: [open_and_closed(n, plain_clips()) for n in networks_of("recipe")],
    "loop": loops,
    "displacement": lambda: [displacement(n) for n in networks_of("recipe")],
    "dilation": radii,
    "ablation": ablation,
    "short_ablation": short_ablation,
    "box_first": boxes,
    "look_alikes": lambda: look_alikes(networks_of("recipe")),
    "annotations": lambda: [several_annotations(n, plain_clips()[::2]) for n in networks_of("recipe")],
    "online": tuned,
}


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("train", "measure"))
    parser.add_argument("--jobs", type=int, default=2, help="trainings at a time")
    parser.add_argument("--davis", type=Path, help="a DAVIS-2016 folder that holds the three sequences")
    parser.add_argument("--only", nargs="*", choices=(*PARTS, "real"), help="measure these parts alone")
    options = parser.parse_args()
    if options.what == "train":
        train(options.jobs)
        return
    for name, part in PARTS.items():
        if options.only is None or name in options.only:
            keep(OUT, {name: part()}, COMMAND)
    if options.davis and (options.only is None or "real" in options.only):
        keep(OUT, {"real": real(options.davis)}, COMMAND)


if __name__ == "__main__":
    main()
