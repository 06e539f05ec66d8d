"""Train and measure what notebook 04 quotes; writes ``rvos*.safetensors`` and ``04_rvos.json``.

    python experiments/rvos.py list                     the trainings, with about how long each takes
    python experiments/rvos.py train [--jobs 2]         the recipe, the runs that ship, and the experiments
    python experiments/rvos.py measure [--davis DIR]    the generated part, and the real part from a DAVIS folder

Runs live under ``runs/`` and resume where they stopped, so that ``train`` can be called again after an interruption.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
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
    held_out,
    j_of,
    keep,
    mean,
    per_frame,
    percent,
    recovery,
    seconds_of,
    smooth,
    swap,
)
from vos_tutorial import models
from vos_tutorial.baselines import CopyFirst
from vos_tutorial.clip import Clip, ids_to_onehot, object_ids
from vos_tutorial.data.worlds import sprites
from vos_tutorial.data.worlds.discs import Discs
from vos_tutorial.data.worlds.sprites import CONDITIONS, benchmark
from vos_tutorial.door import as_float
from vos_tutorial.evaluation import require_mask_read
from vos_tutorial.metrics import region_similarity
from vos_tutorial.models import rvos
from vos_tutorial.propagation import Resized, Segmenter, propagate
from vos_tutorial.recipes import SHORT_SIDE, Recipe
from vos_tutorial.recipes.rvos import RECIPES, VARIANTS
from vos_tutorial.training.tasks import rvos as rvos_task

OUT = runs.RESULTS / "04_rvos.json"
COMMAND = "python experiments/rvos.py train; python experiments/rvos.py measure --davis DIR"
#: The runs that ship; the first starts from the long one.
BEST, DISCOVERY = "lifelike", "zero-shot ST"
#: Of three zero-shot trainings the first ended with two slots that often draw the same disc; the second is shown.
ZERO_SHOT_SEED = 1
#: What is compared, by the name that the notebook gives it: a variant of the recipe.
ONE_SHOT = {"ST": "ST", "S": "S", "T": "T"}
ZERO_SHOT = {name: f"zero-shot {name}" for name in ("ST", "S", "T", "T released")}
CURRICULUM = {"truth only": "truth only", "own after truth": "ST", "own from the start": "own only"}
EMPTY = {"without": "ST", "with": "empty"}
MOST = 3  # objects in a clip of the benchmark; a zero-shot network draws as many, whatever it was trained with
#: CPU seconds of a step, measured on one thread; for :func:`show` only.
SECONDS = {"one-shot": 0.6, "zero-shot": 0.17}
TRAININGS = runs.Trainings("rvos", rvos.RVOS, VARIANTS, {BEST: "long"})
run_folder, network_of, trained = TRAININGS.folder, TRAININGS.network, TRAININGS.networks


# ---------------------------------------------------------------------------------------------------- train


def trainings() -> list[tuple[str, int]]:
    """All trainings: what ships, then everything once, and once more with each other seed."""
    short = dict.fromkeys([*ONE_SHOT.values(), *ZERO_SHOT.values(), *CURRICULUM.values(), *EMPTY.values()])
    return [("long", 0), (BEST, 0), *((name, s) for s in SEEDS for name in ("recipe", *short))]


def seconds(recipe: Recipe) -> float:
    """CPU seconds that a training takes."""
    return recipe.steps * SECONDS["one-shot" if recipe.options.get("one_shot", True) else "zero-shot"]


def train(jobs: int) -> None:
    """Run what is not finished, ``jobs`` at a time, and store what ships."""
    runs.run_all(TRAININGS.commands(trainings()), jobs)
    ship()


def ship() -> None:
    """Store the long run and the zero-shot network."""
    TRAININGS.ship("", BEST, 0, "generated clips, split train")
    TRAININGS.ship("zero-shot", DISCOVERY, ZERO_SHOT_SEED, "generated discs")


def option(name: str, key: str) -> Any:
    """What the last stage of a training says."""
    return TRAININGS.recipe(name).stages[-1].options[key]


# -------------------------------------------------------------------------------------------------- measure


def maker(network: rvos.RVOS, name: str) -> Callable[[], Segmenter]:
    """Makes a new segmenter at each call, with the recurrence that the network was trained with."""
    slots = {} if network.one_shot else {"slots": MOST}
    return lambda: rvos.segmenter(network, recurrence=option(name, "recurrence"), **slots)


def followers(name: str) -> list[Segmenter]:
    """A segmenter for each seed of a training."""
    return [maker(n, name)() for n in trained(name)]


def some(conditions: Sequence[str], clips: list[Clip]) -> dict[str, list[Clip]]:
    """The clips of some conditions."""
    return {c: [clip for clip in clips if clip.attributes == (c,)] for c in conditions}


def curve(method: Segmenter, clips: list[Clip]) -> list[float]:
    """J of each frame, the mean over the clips."""
    j = [per_frame(propagate(method, clip.frames, clip.first_mask), clip) for clip in clips]
    return [percent(v) for v in np.mean(j, axis=0)]


def long_clips(length: int, count: int = 8) -> list[Clip]:
    """Clips of objects that deform, every other one with several; frame 0 shows all of them."""
    found: list[Clip] = []
    seed = 6_000_000
    while len(found) < count:
        several = ("multiple_objects",) if len(found) % 2 else ()
        clip = sprites.make_clip(seed, length=length, attributes=("deformation", *several), split="test")
        seed += 1
        if clip.objects and object_ids(clip.first_mask) == clip.objects:
            found.append(clip)
    return found


def main_part(clips: list[Clip]) -> dict[str, Any]:
    """The recipe's seeds, and the runs that ship, on the whole benchmark."""
    of = some(list(CONDITIONS), clips)
    nets, long, discovery = trained("recipe"), network_of(BEST, 0), network_of(DISCOVERY, ZERO_SHOT_SEED)
    stages = RECIPES["cpu"].stages
    result: dict[str, Any] = {"seeds": list(SEEDS[: len(nets)]), "clips_per_condition": len(of["clean"])}
    result["training"] = {
        "steps": [stage.steps for stage in stages],
        "long_steps": [stage.steps for name in ("long", BEST) for stage in VARIANTS[name].stages],
        "zero_shot_steps": [stage.steps for stage in VARIANTS[DISCOVERY].stages],
        "batch": stages[0].batch,
        "size": stages[0].size,
        "frames": [stage.options["frames"] for stage in stages],
        "parameters": sum(p.numel() for p in long.parameters()),
        "parameters_zero_shot": sum(p.numel() for p in discovery.parameters()),
        "loss": [smooth(run_folder("recipe", s), "loss") for s in result["seeds"]],
        "iou": [smooth(run_folder("recipe", s), "iou") for s in result["seeds"]],
        "long_iou": smooth(run_folder("long", 0), "iou"),
        "lifelike_iou": smooth(run_folder(BEST, 0), "iou"),
        "zero_shot_iou": smooth(run_folder(DISCOVERY, ZERO_SHOT_SEED), "iou"),
        "seconds": [seconds_of(run_folder("recipe", s)) for s in result["seeds"]],
        "long_seconds": seconds_of(run_folder("long", 0)) + seconds_of(run_folder(BEST, 0)),
    }
    print("benchmark", flush=True)
    makers, best = [maker(n, "recipe") for n in nets], maker(long, BEST)
    for make in [*makers, best]:
        require_mask_read(make)
    scores = [by_condition(make(), clips) for make in makers]
    shipped, found, copied = (by_condition(m, clips) for m in (best(), maker(discovery, DISCOVERY)(), CopyFirst()))
    earlier = {name: json.loads((runs.RESULTS / f"{name}.json").read_text()) for name in ("02_masktrack", "05_stm")}
    result["benchmark"] = {
        c: {
            "RVOS": [s[c]["J"] for s in scores],
            "F": [s[c]["F"] for s in scores],
            "mean": mean([s[c]["J"] for s in scores]),
            "long": shipped[c]["J"],
            "long F": shipped[c]["F"],
            "zero-shot": found[c]["J"],
            "copy first": copied[c]["J"],
            "MaskTrack": earlier["02_masktrack"]["benchmark"][c]["mean"],
            "STM": earlier["05_stm"]["benchmark"][c]["mean"],
            "STM long": earlier["05_stm"]["benchmark"][c]["long"],
        }
        for c in CONDITIONS
    }
    several = of["multiple_objects"]
    result["mask_swap"] = {"recipe": [swap(make, several) for make in makers], "long": swap(best, several)}
    result["recovery"] = {
        c: {"recipe": [recovery(make(), of[c]) for make in makers], "long": recovery(best(), of[c])}
        for c in ("occlusion", "out_of_view")
    }
    chosen_by = held_out()
    result["held_out"] = {"recipe": [j_of(make(), chosen_by) for make in makers], "long": j_of(best(), chosen_by)}
    before = maker(network_of("long", 0), "long")
    result["before_lifelike"] = {"held_out": j_of(before(), chosen_by), "mask_swap": swap(before, several)}
    result["before_lifelike"]["J"] = {c: row["J"] for c, row in by_condition(before(), clips).items()}
    return result


def one_shot(clips: list[Clip], length: int = 24) -> dict[str, Any]:
    """Given masks: space, time, or both; runs of equal length."""
    of = some(("clean", "deformation+scale", "occlusion", "distractors", "multiple_objects"), clips)
    far = long_clips(length)
    result: dict[str, Any] = {
        "steps": VARIANTS["ST"].steps,
        "trained_frames": option("ST", "frames"),
        "frames": length,
        "clips": len(far),
    }
    result |= {key: {} for key in ("J", "mean", "swap", "after", "curve", "last")}
    for name, variant in ONE_SHOT.items():
        print("one-shot", name, flush=True)
        methods = followers(variant)
        result["J"][name] = {c: [j_of(m, mine) for m in methods] for c, mine in of.items()}
        result["mean"][name] = {c: mean(values) for c, values in result["J"][name].items()}
        result["swap"][name] = [swap(maker(n, variant), of["multiple_objects"]) for n in trained(variant)]
        result["after"][name] = [recovery(m, of["occlusion"])["after"] for m in methods]
        result["curve"][name] = [curve(m, far) for m in methods]
        result["last"][name] = [mean(values[-5:]) for values in result["curve"][name]]
    return result


def slots_on(network: rvos.RVOS, clips: list[Clip], slots: int, recurrence: rvos.Recurrence) -> dict[str, float]:
    """What a zero-shot network's slots do on clips whose objects all show in frame 0; see :func:`zero_shot`."""
    fixed, anew, overlaps, union, gap, changes, chances = [], [], [], [], 0.0, 0, 0
    for clip in clips:
        p = rvos.discover(network, as_float(clip.frames), slots, recurrence)  # [T, N, H, W]
        truth = ids_to_onehot(clip.masks, clip.objects)  # [T, K, H, W]
        j = j_of_slots(truth, p > 0.5)  # [T, K, N]
        mine, before = rvos.select(p[0], truth[0]).numpy(), j[0].argmax(1)
        for t in range(1, len(clip)):
            seen = np.flatnonzero(truth[t].flatten(1).any(1).numpy())
            fixed += [j[t, k, mine[k]] for k in seen]
            anew += [j[t, k, s] for k, s in zip(seen, rvos.select(p[t], truth[t, seen]).tolist(), strict=True)]
            now = before.copy()
            now[seen] = [before[k] if j[t, k].max() == j[t, k, before[k]] else j[t, k].argmax() for k in seen]
            changes, chances, before = changes + int((now != before).sum()), chances + len(seen), now
        for a, b in combinations(range(slots), 2):
            drawn = ((p[:, a] > 0.5) | (p[:, b] > 0.5)).flatten(1).any(1)
            overlaps += region_similarity(p[drawn, a] > 0.5, p[drawn, b] > 0.5).tolist()
            gap = max(gap, float((p[:, a] - p[:, b]).abs().max()))
        union += region_similarity(truth.any(1), (p > 0.5).any(1))[1:].tolist()
    return {
        "J": percent(np.mean(fixed)),
        "rematched": percent(np.mean(anew)),
        "overlap": percent(np.mean(overlaps)) if overlaps else 0.0,
        "gap": round(gap, 6),
        "switches": percent(changes / chances),
        "union": percent(np.mean(union)),
    }


def j_of_slots(truth: Tensor, drawn: Tensor) -> np.ndarray:
    """Of every object in every slot: ``bool [T, K, H, W]``, ``bool [T, N, H, W]`` -> ``float64 [T, K, N]``."""
    columns = [
        [region_similarity(truth[:, k], drawn[:, s]) for s in range(drawn.shape[1])] for k in range(truth.shape[1])
    ]
    return np.moveaxis(np.array(columns), -1, 0)


def zero_shot(count: int = 24) -> dict[str, Any]:
    """Nothing given: space, time, or both. The slot of each object is fixed on frame 0 (J), or chosen in each frame.

    ``overlap`` is the IoU of two slots, ``gap`` the largest difference of their probabilities, ``switches`` how often
    the best slot of an object is another than in the frame before, ``union`` J of all slots against all objects.
    """
    stage = VARIANTS[DISCOVERY].stages[-1]
    clips = [Discs().clip(9_100_000 + seed, size=stage.size) for seed in range(count)]
    slots = option(DISCOVERY, "slots")
    result: dict[str, Any] = {"steps": VARIANTS[DISCOVERY].steps, "slots": slots, "size": stage.size}
    result |= {"clips": count, "frames": len(clips[0])}
    result |= {key: {} for key in ("J", "rematched", "overlap", "gap", "switches", "union")}
    for name, variant in ZERO_SHOT.items():
        print("zero-shot", name, flush=True)
        rows = [slots_on(n, clips, slots, option(variant, "recurrence")) for n in trained(variant)]
        for key in rows[0]:
            result[key][name] = [row[key] for row in rows]
    result["mean"] = {name: mean(values) for name, values in result["J"].items()}
    return result


def curriculum(clips: list[Clip], length: int = 48) -> dict[str, Any]:
    """True last masks, own ones, or one after the other: J far beyond the frames of a training clip."""
    of = some(("clean", "multiple_objects", "occlusion"), clips)
    far = long_clips(length)
    result: dict[str, Any] = {
        "steps": VARIANTS["ST"].steps,
        "trained_frames": option("ST", "frames"),
        "frames": length,
        "clips": len(far),
    }
    result |= {key: {} for key in ("curve", "mean_curve", "J", "mean", "last", "mean_last", "benchmark")}
    result["copied"] = curve(CopyFirst(), far)
    for name, variant in CURRICULUM.items():
        print("curriculum", name, flush=True)
        methods = followers(variant)
        curves = [curve(m, far) for m in methods]
        result["curve"][name] = curves
        result["mean_curve"][name] = [round(float(v), 2) for v in np.mean(curves, axis=0)]
        for key, part in (("J", slice(1, None)), ("last", slice(-5, None))):
            result[key][name] = [mean(c[part]) for c in curves]
            result["mean" if key == "J" else "mean_last"][name] = mean(result[key][name])
        result["benchmark"][name] = {c: [j_of(m, mine) for m in methods] for c, mine in of.items()}
    return result


def drawn_on_nothing(method: Segmenter, clips: list[Clip]) -> tuple[float, float]:
    """The area of the answers in frames without the object: percent of the frame, and of the object in frame 0."""
    frame, own = [], []
    for clip in clips:
        ids = propagate(method, clip.frames, clip.first_mask)
        hidden = ~(clip.masks > 0).flatten(1).any(1)
        area = (ids[hidden] > 0).flatten(1).float().mean(1).numpy()
        frame += area.tolist()
        own += (area / (clip.first_mask > 0).float().mean().item()).tolist()
    return percent(np.mean(frame)), percent(np.mean(own))


def gradient(weight: float) -> float:
    """The largest, of the loss with respect to the logits of an empty target."""
    logits = torch.randn(1, 2, 24, 24, generator=torch.Generator().manual_seed(0)).requires_grad_()
    moment = rvos.RolloutFrame(logits, logits.sigmoid(), [], None)
    rvos_task.frame_loss(
        moment, torch.zeros(1, 2, 24, 24), torch.ones(1, 2, dtype=torch.bool), empty=weight
    ).backward()
    assert logits.grad is not None
    return float(logits.grad.abs().max())


def empty(clips: list[Clip]) -> dict[str, Any]:
    """Objects that are hidden: with the published loss, which has no gradient then, and with one more term."""
    of = some(("clean", "multiple_objects", "occlusion", "out_of_view"), clips)
    hiding = {c: of[c] for c in ("occlusion", "out_of_view")}
    weight = option(EMPTY["with"], "empty")
    result: dict[str, Any] = {"steps": VARIANTS["ST"].steps, "weight": weight}
    result["clips"] = {c: len(mine) for c, mine in hiding.items()}
    result["gradient"] = {"soft IoU": gradient(0.0), "with the term": round(gradient(weight), 8)}
    measured = ("area", "relative", "false_alarms", "after")
    result |= {key: {} for key in (*measured, "mean_area", "J", "mean_J")}
    for name, variant in EMPTY.items():
        print("empty", name, flush=True)
        methods = followers(variant)
        for key in measured:
            result[key][name] = {}
        for c, mine in hiding.items():
            areas, recoveries = [drawn_on_nothing(m, mine) for m in methods], [recovery(m, mine) for m in methods]
            result["area"][name][c], result["relative"][name][c] = ([a[i] for a in areas] for i in (0, 1))
            for key in ("false_alarms", "after"):
                result[key][name][c] = [r[key] for r in recoveries]
        result["mean_area"][name] = {c: mean(values) for c, values in result["area"][name].items()}
        result["J"][name] = {c: [j_of(m, mine) for m in methods] for c, mine in of.items()}
        result["mean_J"][name] = {c: mean(values) for c, values in result["J"][name].items()}
    return result


#: Two objects that pass each other: do they look alike, and how far apart are their paths (in frame half-extents)?
PASSING = {"different": (False, 0.12), "identical": (True, 0.12), "identical but apart": (True, 0.8)}
MEET = 8  # of 16 frames
SURE = 0.3  # a J above it says that this is the object


def passing(seed: int, identical: bool, distance: float) -> Clip:
    """One goes right, the other left; nothing else changes."""
    scene = sprites.describe(seed, split="test")
    one, t = scene.sprites[0], np.linspace(-1, 1, sprites.LENGTH)
    other = one if identical else sprites.describe(seed + 1, split="test").sprites[0]
    steady: dict[str, Any] = {"size": np.full_like(t, 0.3), "angle": 0 * t, "bend": 0 * t}
    pair = [
        dataclasses.replace(sprite, **steady, x=side * 0.62 * t, y=side * distance / 2 + 0 * t, object_id=number)
        for sprite, side, number in ((one, 1, 1), (other, -1, 2))
    ]
    frames, masks = sprites.render([dataclasses.replace(scene, sprites=pair)], 96, split="test")
    return Clip(frames[0], masks[0], name=f"passing-{seed}")


def meetings(count: int) -> dict[str, list[Clip]]:
    """For each kind of :data:`PASSING` so many clips."""
    return {row: [passing(8_000_000 + 2 * s, *how) for s in range(count)] for row, how in PASSING.items()}


def shares(fates: list[list[tuple[str, float, int]]]) -> dict[str, list[float]]:
    """Kept, switched and lost in percent of the clips, and J: a number for each run, of its :func:`fate` by clip."""
    found = {"J": [percent(np.mean([j for _, j, _ in one])) for one in fates]}
    for end in ("kept", "switched", "lost"):
        found[end] = [percent(np.mean([what == end for what, _, _ in one])) for one in fates]
    return found


def crossing(count: int = 16) -> dict[str, Any]:
    """Who is who after two objects have passed each other: kept, switched, or lost, in percent of the clips."""
    methods: dict[str, list[Segmenter]] = {name: followers(variant) for name, variant in ONE_SHOT.items()}
    methods |= {
        "RVOS long": [maker(network_of(BEST, 0), BEST)()],
        "MaskTrack": [models.segmenter("masktrack")],
        "STM long": [models.segmenter("stm")],
    }
    clips = meetings(count)
    result: dict[str, Any] = {"clips": count, "frames": sprites.LENGTH, "example": None}
    result |= {key: {name: {} for name in methods} for key in ("kept", "switched", "lost", "J")}
    for name, seeds in methods.items():
        print("crossing", name, flush=True)
        for row, mine in clips.items():
            fates = [[fate(method, clip) for clip in mine] for method in seeds]
            for key, values in shares(fates).items():
                result[key][name][row] = values
            switched = [i for i, (what, _, _) in enumerate(fates[0]) if what == "switched"]
            if name == "RVOS long" and row == "identical" and switched:
                result["example"] = {"seed": 8_000_000 + 2 * switched[0], "frame": fates[0][switched[0]][2]}
    return result


def fate(method: Segmenter, clip: Clip) -> tuple[str, float, int]:
    """Kept, switched or lost in the last frames; J after the meeting; the first frame that looks switched (or 0)."""
    ids = propagate(method, clip.frames, clip.first_mask)
    j = j_of_slots(ids_to_onehot(clip.masks, [1, 2]), ids_to_onehot(ids, [1, 2]))  # [T, object, answer]
    own, other = (np.stack([j[:, 0, a], j[:, 1, 1 - a]], 1) for a in (0, 1))
    late = slice(-3, None)
    what = "lost"
    if own[late].mean(0).min() > SURE:
        what = "kept"
    elif other[late].mean(0).min() > SURE:
        what = "switched"
    turned = np.flatnonzero(other.mean(1) > own.mean(1))
    return what, float(own[MEET + 1 :].mean()), int(turned[0]) if len(turned) else 0


def zero_vs_one(clips: list[Clip], count: int = 24) -> dict[str, Any]:
    """What the first mask is worth: on the sprites that one kind was trained with, on the discs of the other."""
    of = some(("clean", "distractors", "multiple_objects"), clips)
    size = VARIANTS[DISCOVERY].stages[-1].size
    of["discs"] = [Discs().clip(9_100_000 + seed, size=size) for seed in range(count)]
    methods = {"one-shot": followers("ST"), "zero-shot": followers(DISCOVERY)}
    methods["one-shot long"] = [maker(network_of(BEST, 0), BEST)()]
    found = {name: {c: [j_of(m, mine) for m in runs] for c, mine in of.items()} for name, runs in methods.items()}
    return {
        "J": found,
        "mean": {name: {c: mean(values) for c, values in row.items()} for name, row in found.items()},
        "copy first": {c: j_of(CopyFirst(), mine) for c, mine in of.items()},
    }


def real(folder: Path) -> dict[str, Any]:
    """J and F on three DAVIS-2016 sequences."""

    def at(network: rvos.RVOS, name: str) -> Segmenter:
        return Resized(maker(network, name)(), SHORT_SIDE)

    methods: Mapping[str, Sequence[Segmenter]] = {
        "copy first": [CopyFirst()],
        "MaskTrack": [models.segmenter("masktrack", short_side=SHORT_SIDE)],
        "STM long run": [models.segmenter("stm", short_side=SHORT_SIDE)],
        "RVOS recipe": [at(n, "recipe") for n in trained("recipe")],
        "RVOS before lifelike": [at(network_of("long", 0), "long")],
        "RVOS long run": [at(network_of(BEST, 0), BEST)],
        "RVOS zero-shot": [at(network_of(DISCOVERY, ZERO_SHOT_SEED), DISCOVERY)],
    }
    return runs.real(methods, folder) | {"short_side": SHORT_SIDE}


def keep_claim(name: str, found: dict[str, Any]) -> None:
    """Put a claim beside those that are stored already."""
    stored = json.loads(OUT.read_text()).get("claims", {}) if OUT.exists() else {}
    keep(OUT, {"claims": stored | {name: found}}, COMMAND)


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("list", "train", "measure", "ship"))
    parser.add_argument("--jobs", type=int, default=2, help="trainings at a time")
    parser.add_argument("--davis", type=Path, help="a DAVIS-2016 folder that holds the three sequences")
    parts = ("main", "one_shot", "zero_shot", "curriculum", "empty", "crossing", "zero_vs_one", "real")
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
    clips = list(benchmark())
    claims: dict[str, Callable[[], dict[str, Any]]] = {
        "one_shot": lambda: one_shot(clips),
        "zero_shot": zero_shot,
        "curriculum": lambda: curriculum(clips),
        "empty": lambda: empty(clips),
    }
    for part in options.only:
        if part in claims:
            keep_claim(part, claims[part]())
        elif part == "main":
            keep(OUT, main_part(clips), COMMAND)
        elif part == "crossing":
            keep(OUT, {"crossing": crossing()}, COMMAND)
        elif part == "zero_vs_one":
            keep(OUT, {"zero_vs_one": zero_vs_one(clips)}, COMMAND)
        elif options.davis:
            keep(OUT, {"real": real(options.davis)}, COMMAND)


if __name__ == "__main__":
    main()
