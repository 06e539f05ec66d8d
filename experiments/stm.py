"""Train and measure what notebook 05 quotes; writes ``stm*.safetensors`` and ``05_stm.json``.

    python experiments/stm.py train [--jobs 2]         the recipe, the long run that ships, and the experiments
    python experiments/stm.py measure [--davis DIR]    the generated part, and the real part from a DAVIS folder

Runs live under ``runs/`` and resume where they stopped, so that ``train`` can be called again after an interruption.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

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
    smooth,
    swap,
)
from vos_tutorial import models, recipes
from vos_tutorial.baselines import ColourMemory, CopyFirst
from vos_tutorial.clip import Clip
from vos_tutorial.course import figures
from vos_tutorial.data.worlds import sprites
from vos_tutorial.data.worlds.sprites import CONDITIONS, benchmark
from vos_tutorial.evaluation import require_mask_read
from vos_tutorial.files import write_atomically
from vos_tutorial.models import stm
from vos_tutorial.propagation import Resized, Segmenter, propagate
from vos_tutorial.recipes import SHORT_SIDE
from vos_tutorial.recipes.stm import SHORT, VARIANTS
from vos_tutorial.resize import resize_mask

OUT = runs.RESULTS / "05_stm.json"
COMMAND = "python experiments/stm.py train; python experiments/stm.py measure --davis DIR"
#: How the memory is filled, by name: options of the segmenter.
RULES: dict[str, dict[str, Any]] = {
    "first": {"memory": "first"},
    "previous": {"memory": "previous"},
    "first + previous": {"memory": "both"},
    "every 5": {"every": 5},
    "every 2": {"every": 2},
    "every 2, if certain": {"every": 2, "min_confidence": 0.9},
}
#: The memory with nothing learned, by what its keys are and what it reads.
BY_HAND: dict[str, dict[str, Any]] = {
    "colour": {},
    "colour + place": {"place": 3.0},
    "with the previous frame": {"place": 3.0, "memory": "both"},
}
#: Short runs that are compared with "both", and how many seeds of each.
TRAP = {
    "paper form": 3,
    "distance only": 3,
    "shared keys only": 3,
    "paper form, warmed up": 3,
    "paper form, twins": 3,
    "paper form, from shared keys": 1,  # longer
    "paper form, long": 1,  # as long as that one, with the steps of its start
}
#: The run that ships; it starts from the long one.
BEST = "lifelike"
START = {BEST: "long", "paper form, from shared keys": "long, encoders alike"}
DATA = ("stills only", "video only")
TRAININGS = runs.Trainings("stm", stm.STM, VARIANTS, START)
run_folder, network_of, trained = TRAININGS.folder, TRAININGS.network, TRAININGS.networks


# ---------------------------------------------------------------------------------------------------- train


def commands() -> Iterator[tuple[Path, list[str]]]:
    """All trainings, the most important first."""
    wanted = [("long", 0), (BEST, 0), *(("recipe", s) for s in SEEDS), ("long, encoders alike", 0)]
    wanted += [
        (name, s) for name, seeds in {"both": 3, **TRAP, **dict.fromkeys(DATA, 3)}.items() for s in range(seeds)
    ]
    return TRAININGS.commands(wanted)


def train(jobs: int) -> None:
    """Run what is not finished, ``jobs`` at a time, and store what ships."""
    runs.run_all(commands(), jobs)
    ship()


def ship() -> None:
    """Store the long run, and two short ones that show the trap: the paper's form, and shared keys."""
    data = "generated stills and clips, split train"
    TRAININGS.ship("", BEST, 0, data)
    TRAININGS.ship("paper-form", "paper form", 0, data)
    TRAININGS.ship("shared-keys", "both", 0, data)
    TRAININGS.ship("paper-form-cured", "paper form, from shared keys", 0, data)


def all_steps(name: str) -> int:
    """Steps of a training, and of those that its start has behind it."""
    before = all_steps(START[name]) if name in START else 0
    return before + (VARIANTS[name].steps if name in VARIANTS else recipes.load("stm", "cpu").steps)


# -------------------------------------------------------------------------------------------------- measure


def maker(network: stm.STM, **options: Any) -> Callable[[], Segmenter]:
    """Makes a new segmenter at each call."""
    return lambda: stm.segmenter(network, **options)


def main_part(clips: list[Clip]) -> dict[str, Any]:
    """The recipe's seeds and the long run on the whole benchmark."""
    of = {c: [clip for clip in clips if clip.attributes == (c,)] for c in CONDITIONS}
    nets, long = trained("recipe"), network_of(BEST, 0)
    stages = recipes.load("stm", "cpu").stages
    result: dict[str, Any] = {"seeds": list(SEEDS[: len(nets)]), "clips_per_condition": len(of["clean"])}
    result["training"] = {
        "steps": [stage.steps for stage in stages],
        "long_steps": [stage.steps for name in ("long", BEST) for stage in VARIANTS[name].stages],
        "batch": stages[0].batch,
        "size": stages[0].size,
        "parameters": sum(p.numel() for p in long.parameters()),
        "loss": [smooth(run_folder("recipe", s), "loss") for s in result["seeds"]],
        "iou": [smooth(run_folder("recipe", s), "iou") for s in result["seeds"]],
        "long_iou": [v for name in ("long", BEST) for v in smooth(run_folder(name, 0), "iou")],
    }
    print("benchmark", flush=True)
    for n in nets:
        require_mask_read(maker(n))
    scores = [by_condition(stm.segmenter(n), clips) for n in nets]
    best, copied = by_condition(stm.segmenter(long), clips), by_condition(CopyFirst(), clips)
    before = by_condition(stm.segmenter(network_of("long", 0)), clips)
    refined = json.loads((runs.RESULTS / "02_masktrack.json").read_text())["benchmark"]
    result["benchmark"] = {
        c: {
            "STM": [s[c]["J"] for s in scores],
            "F": [s[c]["F"] for s in scores],
            "mean": mean([s[c]["J"] for s in scores]),
            "long": best[c]["J"],
            "long before": before[c]["J"],
            "copy first": copied[c]["J"],
            "MaskTrack": refined[c]["mean"],
        }
        for c in CONDITIONS
    }
    several = of["multiple_objects"]
    result["mask_swap"] = {"recipe": [swap(maker(n), several) for n in nets], "long": swap(maker(long), several)}
    result["recovery"] = {
        c: {"recipe": [recovery(stm.segmenter(n), of[c]) for n in nets], "long": recovery(stm.segmenter(long), of[c])}
        for c in ("occlusion", "out_of_view")
    }
    chosen_by = held_out()
    result["held_out"] = {
        "recipe": [j_of(stm.segmenter(n), chosen_by) for n in nets],
        "long before": j_of(stm.segmenter(network_of("long", 0)), chosen_by),
        "long": j_of(stm.segmenter(long), chosen_by),
    }
    return result


def trap(clips: list[Clip]) -> dict[str, Any]:
    """What looks fine on clean clips and does not read the mask, and what cures it.

    Compare runs with as many ``all steps``, which count those of the start too. What was measured of runs that are
    not on this machine stays.
    """
    shown = ("clean", "distractors", "multiple_objects")
    of = {c: [clip for clip in clips if clip.attributes == (c,)] for c in shown}
    copied = {c: j_of(CopyFirst(), some) for c, some in of.items()}
    result: dict[str, Any] = {"steps": SHORT, "copy first": copied, "runs": {}}
    stored = json.loads(OUT.read_text())["trap"]["runs"] if OUT.exists() else {}
    for name, seeds in {"both": 3, **TRAP}.items():
        finished = len(TRAININGS.seeds(name))
        print("trap", name, finished, flush=True)
        if finished < seeds and name in stored:
            result["runs"][name] = {"all steps": all_steps(name), **stored[name]}
        elif finished:
            nets = trained(name)
            result["runs"][name] = {
                "steps": VARIANTS[name].steps,
                "all steps": all_steps(name),
                "J": {c: [j_of(stm.segmenter(n), some) for n in nets] for c, some in of.items()},
                "swap": [swap(maker(n), of["multiple_objects"]) for n in nets],
                "loss": [smooth(run_folder(name, s), "loss", 20) for s in SEEDS[: len(nets)]],
            }
            if "earlier" in stored.get(name, {}):  # the same run, when it had fewer steps
                result["runs"][name]["earlier"] = stored[name]["earlier"]
    return {"trap": result}


def data(clips: list[Clip]) -> dict[str, Any]:
    """Stills only, video only, both: runs of equal length."""
    shown = ("clean", "deformation+scale", "occlusion", "appearance_change", "multiple_objects")
    of = {c: [clip for clip in clips if clip.attributes == (c,)] for c in shown}
    rows = {
        name: {c: [j_of(stm.segmenter(n), some) for n in trained(name)] for c, some in of.items()}
        for name in (*DATA, "both")
    }
    return {"data": {"steps": SHORT, "J": rows}}


def memory(clips: list[Clip]) -> dict[str, Any]:
    """What to keep: J, J of the last five frames, and J after the object was hidden, by rule and condition."""
    shown = ("clean", "deformation+scale", "appearance_change", "occlusion", "distractors")
    of = {c: [clip for clip in clips if clip.attributes == (c,)] for c in shown}
    network = models.trained("stm")  # the long run, as it ships: short runs write too many wrong masks into memory
    assert isinstance(network, stm.STM)
    result: dict[str, Any] = {}
    for rule, options in RULES.items():
        print("memory", rule, flush=True)
        result[rule] = {}
        for c, some in of.items():
            method = stm.segmenter(network, **options)
            j = [per_frame(propagate(method, clip.frames, clip.first_mask), clip) for clip in some]
            row = {"J": np.mean([v[1:-1].mean() for v in j]), "late": np.mean([v[-5:].mean() for v in j])}
            result[rule][c] = {name: percent(value) for name, value in row.items()}
            if c == "occlusion":
                result[rule][c]["after"] = recovery(method, some)["after"]
    return {"memory": result}


def top_k(clips: list[Clip]) -> dict[str, Any]:
    """J if only the best k cells of the memory answer, with the network that ships: exercise 5.3."""
    network = models.trained("stm")
    assert isinstance(network, stm.STM)
    result: dict[str, Any] = {}
    for k in (1, 5, 20, 100, None):

        def read(query_key: Tensor, memory_key: Tensor, memory_value: Tensor, penalty: float = 0.0) -> Tensor:
            weights = stm.attention(query_key, memory_key, penalty, top_k=k)  # noqa: B023 (used in this round only)
            return (memory_value.flatten(2) @ weights).unflatten(2, query_key.shape[2:])

        with mock.patch.object(stm, "read", read):
            result[str(k or "all")] = {
                c: j_of(stm.segmenter(network), [clip for clip in clips if clip.attributes == (c,)])
                for c in ("clean", "distractors")
            }
    return {"top_k": result}


@torch.no_grad()
def attention_split(network: stm.STM, count: int = 24) -> dict[str, Any]:
    """Where the cells of the object in frame 8 look in frame 0, beside a look-alike: shares of the attention."""
    shares: dict[str, list[float]] = {"itself": [], "look-alike": [], "background": []}
    with_j, without_j = [], []
    for seed in range(count):
        scene = sprites.describe(seed, attributes=["distractors"], split="test")
        marked = dataclasses.replace(
            scene, sprites=[dataclasses.replace(s, object_id=s.object_id or 2) for s in scene.sprites]
        )
        plain = dataclasses.replace(scene, sprites=[s for s in scene.sprites if s.object_id])
        frames, ids = sprites.render([scene, plain], 96, split="test")
        _, both = sprites.render([marked], 96, split="test")
        for scores, f, m in ((with_j, frames[0], ids[0]), (without_j, frames[1], ids[1])):
            clip = Clip(f, m)
            answer = propagate(stm.segmenter(network), clip.frames, clip.first_mask)
            scores.append(percent(per_frame(answer, clip)[1:-1].mean()))
        float_frames = frames[0].float() / 255
        first, owner = (both[0, 0] == 1).float()[None], stm.one_frame_owner(1)
        key, _ = network.memorize(float_frames[:1], first, stm.other_masks(first, owner), owner)
        weights = stm.attention(network.encode(float_frames[8:9]).key, key[:, :, None], network.penalty)[0]
        cells = [resize_mask(both[0, t], 12, 12).flatten() for t in (0, 8)]
        if not (cells[1] == 1).any() or not (cells[0] == 2).any():
            continue  # hidden, or smaller than a cell
        mass = weights[:, cells[1] == 1].mean(1)
        for name, value in (("itself", 1), ("look-alike", 2), ("background", 0)):
            shares[name].append(float(mass[cells[0] == value].sum()))
    return {
        "scenes": len(shares["itself"]),
        "shares": {name: percent(np.mean(values)) for name, values in shares.items()},
        "J with": mean(with_j),
        "J without": mean(without_j),
        "worst": int(np.argmax(np.array(without_j) - np.array(with_j))),
    }


def bounded(network: stm.STM, count: int = 6, length: int = 96) -> dict[str, Any]:
    """Long clips with a bound on the memory: J, frames and bytes at the end, milliseconds a frame."""
    dials = ("deformation", "scale_change", "appearance_change")
    clips = [sprites.make_clip(5_000_000 + s, length=length, attributes=dials, split="test") for s in range(count)]
    clips = [c for c in clips if len(c.objects) and (c.first_mask > 0).float().mean() > 0.02]
    rules: dict[str, dict[str, Any]] = {
        "no bound": {"limit": None},
        "4, oldest leaves": {"limit": 4, "policy": "oldest"},
        "4, least used leaves": {"limit": 4, "policy": "least used"},
        "first + previous": {"memory": "both"},
    }
    result: dict[str, Any] = {"length": length, "clips": len(clips), "rules": {}}
    for rule, options in rules.items():
        j, method = [], stm.segmenter(network, **options)
        began = time.process_time()
        for clip in clips:
            j.append(percent(per_frame(propagate(method, clip.frames, clip.first_mask), clip)[1:-1].mean()))
        cost = 1000 * (time.process_time() - began) / (len(clips) * (length - 1))
        held, keys, values = method.memory.complete()
        result["rules"][rule] = {
            "J": mean(j),
            "frames": len(held),
            "KiB": round(sum(t.numel() * t.element_size() for t in (keys, values)) / 1024, 1),
            "cpu_ms": round(cost, 1),
        }
    return {"bounded": result}


def picture(network: stm.STM) -> None:
    """The README's picture: an object goes behind a wall and is found again."""
    clip = next(benchmark(1, ["occlusion"]))
    ids = propagate(stm.segmenter(network), clip.frames, clip.first_mask)
    sheet = figures.contact_sheet(clip, prediction={"STM": ids}, columns=6)
    write_atomically(OUT.with_suffix(".png"), figures.to_png(sheet))
    refiner = propagate(models.segmenter("masktrack"), clip.frames, clip.first_mask)
    figures.loop(clip, {"MaskTrack": refiner, "STM": ids}).save(OUT.with_suffix(".webp"))


def real(folder: Path) -> dict[str, Any]:
    """J and F on three DAVIS-2016 sequences."""

    def at(network: torch.nn.Module, method: str = "stm", **options: Any) -> Segmenter:
        return models.segmenter(method, network=network, short_side=SHORT_SIDE, **options)

    long = network_of(BEST, 0)
    methods: dict[str, list[Segmenter]] = {
        "copy first": [CopyFirst()],
        "MaskTrack": [at(models.trained("masktrack"), "masktrack")],
        "STM recipe": [at(n) for n in trained("recipe")],
        "STM long run before": [at(network_of("long", 0))],
        "STM long run": [at(long)],
        **{f"STM long run {rule}": [at(long, **options)] for rule, options in list(RULES.items())[:3]},
        "STM paper's form": [at(n) for n in trained("paper form")],
        "STM paper's form cured": [at(n) for n in trained("paper form, from shared keys")],
    }
    here = {name: runs for name, runs in methods.items() if runs}
    found = runs.real(here, folder)
    stored = json.loads(OUT.read_text()).get("real", {}) if OUT.exists() else {}
    for part in ("J", "F", "per_frame"):  # what was measured of runs that are not on this machine stays
        found[part] = {n: found[part].get(n) or stored[part][n] for n in methods if n in here or n in stored[part]}
    return {"real": found | {"short_side": SHORT_SIDE}}


def by_hand(clips: list[Clip], folder: Path | None) -> dict[str, Any]:
    """The memory with nothing learned, on the benchmark and on real video."""
    rows = {name: by_condition(ColourMemory(**options), clips) for name, options in BY_HAND.items()}
    result: dict[str, Any] = {"benchmark": {c: {name: row[c]["J"] for name, row in rows.items()} for c in CONDITIONS}}
    if folder is not None:
        methods = {name: [Resized(ColourMemory(**options), SHORT_SIDE)] for name, options in BY_HAND.items()}
        result["real"] = runs.real(methods, folder)["J"]
    return {"by_hand": result}


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("train", "measure", "ship"))
    parser.add_argument("--jobs", type=int, default=2, help="trainings at a time")
    parser.add_argument("--davis", type=Path, help="a DAVIS-2016 folder that holds the three sequences")
    parts = ("hand", "main", "trap", "data", "memory", "top-k", "look", "real")
    parser.add_argument("--only", choices=parts, nargs="+", default=parts, help="measure these parts alone")
    options = parser.parse_args()
    if options.what == "train":
        train(options.jobs)
        return
    if options.what == "ship":
        ship()
        return
    clips = list(benchmark())
    if "hand" in options.only:
        keep(OUT, by_hand(clips, options.davis), COMMAND)
    if "main" in options.only:
        keep(OUT, main_part(clips), COMMAND)
    if "trap" in options.only:
        keep(OUT, trap(clips), COMMAND)
    if "data" in options.only:
        keep(OUT, data(clips), COMMAND)
    if "memory" in options.only:
        keep(OUT, memory(clips), COMMAND)
    if "top-k" in options.only:
        keep(OUT, top_k(clips), COMMAND)
    if "look" in options.only:
        long = network_of(BEST, 0)
        picture(long)
        keep(OUT, {"look_alikes": attention_split(long)} | bounded(long), COMMAND)
    if options.davis and "real" in options.only:
        keep(OUT, real(options.davis), COMMAND)


if __name__ == "__main__":
    main()
