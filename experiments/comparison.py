"""What notebook 08 shows: all methods and baselines on the same clips, and what changes their scores.

    python experiments/comparison.py benchmark [METHOD ...]              every run, in 08_runs.json
    python experiments/comparison.py measure [PART ...] [--methods ...]  the rest, in 08_comparison.json
    python experiments/comparison.py list                                methods, and what is still to be measured

Both go on where they stopped, and measure a method again only if its weights have changed: a digest of them is stored
beside each result. ``--minutes`` ends a call after so much processor time. The weights are those that ship, one
training of each method; what another training changes stands in the results of the methods' own pages, from which
the part ``trainings`` is taken. The spread is over three sets of clips.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from experiments import own_video
from experiments.runs import RESULTS, SEEDS, percent, swap
from vos_tutorial import comparison, models
from vos_tutorial.clip import Clip
from vos_tutorial.comparison import Comparison, Entry, entry, state_bytes
from vos_tutorial.data.worlds.sprites import benchmark
from vos_tutorial.files import write_atomically
from vos_tutorial.metrics import region_similarity
from vos_tutorial.propagation import propagate

FILE, RUNS_FILE = RESULTS / "08_comparison.json", RESULTS / "08_runs.json"
SETS, PER_SET = 3, 4  # of clips, for each condition
FEW = 2  # clips for each condition that expensive methods see
TRAINED = ("clean", "occlusion", "distractors", "multiple_objects")  # what page 06 measured for each training
LONG, MOMENTS = 64, (1, 2, 5, 10, 20, 30, 40, 50, 63)
LINES, FULL = (48, 64, 96, 128, 192), 192
FIRST = ("exact", "2 pixels smaller", "2 pixels larger", "shifted by 4", "box")
FAILED = 0.5  # J of a frame that counts as a failure
VIDEOS = {  # rows of 15_photos.json, with the weights that ship: on the twelve videos, on the three others
    "copy first": ("copy first", "copy first, davis_sample"),
    "colour memory at 96": ("colour memory at 96", "colour memory at 96, davis_sample"),
    "label propagation": ("label propagation, 240", "label propagation, davis_sample"),
    "RVOS photos": ("RVOS, photos, own (350 more), 240", "RVOS, photos, davis_sample"),
    "MaskTrack photos": ("MaskTrack, photos, calm (400 more), 240", "MaskTrack, photos, davis_sample"),
    "RGMP photos": ("RGMP, photos, larger, hard feedback, 240", "RGMP, photos, davis_sample"),
    "STM photos": (
        "STM, photos, larger (1800 more, seed 3), enlarged to 288",
        "STM, photos, larger, davis_sample, fourth freeze",
    ),
    "STCNN photos": (
        "STCNN, photos, larger (700 more, seed 2), 120 steps of tuning, 240",
        "STCNN, photos, larger, davis_sample, third freeze",
    ),
}
ENLARGES = "STM photos"  # the one that enlarges the benchmark's 96 lines
TITLES = {"masktrack": "MaskTrack", "rgmp": "RGMP", "rvos": "RVOS", "stm": "STM", "stcnn": "STCNN"}
BASELINES = {"copy first": "copy-first", "colour memory": "colour-memory", "label propagation": "label-propagation"}
EXPENSIVE = ("STCNN",)  # tuned to each object, which takes seconds: fewer clips
CHOSEN = ("label propagation", "MaskTrack", "RGMP", "RVOS", "STM", "STM photos")
TRIED = "RGMP"  # its confidence is stored frame by frame, for exercise 8.2
AWAY = ("occlusion", "out_of_view")  # conditions in which the object disappears


def names() -> dict[str, str]:
    """What tables call the methods -> what ``comparison.entry`` calls them."""
    found = BASELINES | {title: method for method, title in TITLES.items()}
    methods = [method for method in TITLES if method != "stcnn"]  # whose photos network takes a minute for a clip
    photos = [method for method in methods if models.shipped_weights(method, "photos").exists()]
    return found | {f"{TITLES[method]} photos": f"{method}:photos" for method in photos}


def made(name: str, lines: int | None = None) -> Entry:
    """A method by its name in tables; ``lines`` is what it works at instead of what its file says."""
    return replace(entry(names()[name] + (f"@{lines}" if lines else ""), "cpu"), method=name)


# --------------------------------------------------------------------------------------------------- benchmark


def clips() -> list[Clip]:
    """Twelve of each condition, set by set: numbers 0 to 3 are the first, 4 to 7 the second, 8 to 11 the third."""
    return sorted(benchmark(SETS * PER_SET), key=lambda clip: set_of(clip.name))


def number_of(clip: str) -> int:
    """Of a clip in its condition."""
    return int(clip.rpartition("-")[2])


def set_of(clip: str) -> int:
    """Which of the sets a clip belongs to."""
    return number_of(clip) // PER_SET


def run_benchmark(chosen: Sequence[str], minutes: float) -> None:
    """All runs that are missing, one method after the other."""
    found = comparison.read(RUNS_FILE) if RUNS_FILE.exists() else Comparison()
    began, world = time.process_time(), clips()
    found = found.still_true_of([made(name) for name in chosen])
    for name in chosen:
        before = len(found.runs)
        seen = [clip for clip in world if name not in EXPENSIVE or number_of(clip.name) < FEW]
        for step, run in comparison.steps([made(name)], seen, before=found):
            found = step
            late = time.process_time() - began > 60 * minutes
            if late or run.error or len(found.runs) % 40 == 0:
                print(f"{name} on {run.clip} {run.error}", flush=True)
                found.save(RUNS_FILE)
            if late:
                print("time is up; the same command goes on", flush=True)
                return
        if len(found.runs) > before:
            found = in_order(found)
            found.save(RUNS_FILE)
            print(name, found.only(methods=[name]).by_attribute()["all"][name], flush=True)


def in_order(found: Comparison) -> Comparison:
    """With the methods in the order of :func:`names`, in which tables and pictures show them.

    The clips of each follow the order of the first method: an interval's draws name clips by their place, so another
    order would give the same difference another interval.
    """
    order, clips = list(names()), list(dict.fromkeys(run.clip for run in found.runs))
    return replace(found, runs=tuple(sorted(found.runs, key=lambda r: (order.index(r.method), clips.index(r.clip)))))


# ------------------------------------------------------------------------------------------------------- parts


def length(name: str) -> dict[str, Any]:
    """J some frames after the given one, a list for each set of four clips; bytes carried, early and late."""
    if name not in (*CHOSEN, "colour memory"):
        return {}
    method = made(name).make()
    curves: list[list[float]] = []
    state: dict[str, int] = {}
    for seed in SEEDS:
        js = []
        for clip in own_video.clips(seed, LONG):
            js.append(own_video.similarity(clip, propagate(method, clip.frames, (clip.first_mask == 1).byte())))
        curves.append((100 * np.stack(js)[:, list(MOMENTS)].mean(0)).round(2).tolist())
    clip = own_video.clips(0, LONG)[0]
    for frames in (16, LONG):
        propagate(method, clip.frames[:frames], (clip.first_mask == 1).byte())
        state[str(frames)] = state_bytes(method)
    return {"J": curves, "state": state}


def resolution(name: str) -> dict[str, Any]:
    """J at the full size of clips of 192 lines, a list for each number of lines that the method works at."""
    if name not in CHOSEN:
        return {}
    rows: dict[str, Any] = {"J": {}, "ms": {}}
    seen = {seed: own_video.clips(seed, 16, FULL)[:3] for seed in SEEDS}
    for lines in LINES:
        method, values = made(name, lines).make(), []
        began = time.process_time()
        answers = {s: [propagate(method, c.frames, (c.first_mask == 1).byte()) for c in seen[s]] for s in SEEDS}
        spent = time.process_time() - began
        for seed in SEEDS:
            pairs = zip(seen[seed], answers[seed], strict=True)
            values.append(percent(np.mean([own_video.similarity(c, ids)[1:].mean() for c, ids in pairs])))
        rows["J"][str(lines)], rows["ms"][str(lines)] = values, round(1000 * spent / (16 * 3 * len(SEEDS)), 1)
    return rows


def own_size(name: str) -> dict[str, Any]:
    """J&F over the benchmark's clips as they are, of the method that enlarges them otherwise."""
    if name != ENLARGES:
        return {}
    seen = clips()
    lines = min(seen[0].size)
    *_, (found, _) = comparison.steps([made(name, lines)], seen)
    return {"lines": lines, "J&F": found.by_attribute()["all"][name][0]}


def first_mask(name: str) -> dict[str, Any]:
    """J of the frames behind the first, for first masks of several qualities; a list over the sets of clips."""
    if name not in (*CHOSEN, "colour memory"):
        return {}
    method = made(name).make()
    rows: dict[str, list[float]] = {}
    for kind in FIRST:
        rows[kind] = []
        for seed in SEEDS:
            values = [
                own_video.similarity(c, propagate(method, c.frames, own_video.FIRST[kind](c.first_mask == 1).byte()))[
                    1:
                ].mean()
                for c in own_video.clips(seed, 10)
            ]
            rows[kind].append(percent(np.mean(values)))
    return {"J": rows}


def mask_swap(name: str) -> dict[str, Any]:
    """The IoU of the answers for two different objects of a clip, on ten clips; of expensive methods on three."""
    return {"IoU": swap(made(name).make, list(benchmark(3 if name in EXPENSIVE else 10, ["multiple_objects"])))}


def objects(name: str) -> dict[str, Any]:
    """Processor milliseconds a frame for one, two and three objects of one clip; the least of several tries."""
    clip = next(c for c in benchmark(12, ["multiple_objects"]) if len(c.objects) >= 3)
    result = {}
    for count in (1, 2, 3):
        given = torch.where(clip.first_mask <= clip.objects[count - 1], clip.first_mask, 0)
        times = []
        for _ in range(1 if name in EXPENSIVE else 5):
            began = time.process_time()
            propagate(made(name).make(), clip.frames, given)
            times.append(time.process_time() - began)
        result[str(count)] = round(1000 * min(times) / len(clip), 2)
    return {"ms": result}


def confidence(name: str) -> dict[str, Any]:
    """How well three measures tell failed frames from good ones: the area under the ROC curve, and how many fail.

    Of one method also the probability of each frame, and which frames failed.
    """
    if name == "copy first" or name in EXPENSIVE:
        return {}
    method = made(name).make()
    told: dict[str, list[float]] = {"probability": [], "margin": [], "steadiness": []}
    failed: list[bool] = []
    for seed in SEEDS:
        for clip in own_video.clips(seed, 32):
            p = propagate(method, clip.frames, (clip.first_mask == 1).byte(), probabilities=True)[:, 1]  # T H W
            inside = p > 0.5
            j = region_similarity(clip.masks == 1, inside)
            failed += (j[1:] < FAILED).tolist()
            told["probability"] += [mean_inside(p[t], inside[t]) for t in range(1, len(p))]
            told["margin"] += [float((2 * p[t] - 1).abs().mean()) for t in range(1, len(p))]
            told["steadiness"] += region_similarity(inside[:-1], inside[1:]).tolist()
    share = round(100 * float(np.mean(failed)), 1)
    row: dict[str, Any] = {"failed": share, "AUC": {kind: separation(v, failed) for kind, v in told.items()}}
    if name == TRIED:
        sure = [round(value, 4) for value in told["probability"]]
        row["frames"] = {"probability": sure, "failed": [int(bad) for bad in failed]}
    return row


def mean_inside(p: torch.Tensor, inside: torch.Tensor) -> float:
    """The confidence of notebook 09: the mean probability inside the mask, or that nothing is there."""
    return float(p[inside].mean() if inside.any() else 1 - p.max())


def separation(sure: Sequence[float], failed: Sequence[bool]) -> float | None:
    """How often a good frame has the higher value than a failed one, ties counting a half; None without both."""
    values, bad = np.array(sure), np.array(failed)
    if bad.all() or not bad.any():
        return None
    pairs = values[~bad][:, None] - values[bad][None]
    return round(float((pairs > 0).mean() + (pairs == 0).mean() / 2), 3)


PARTS: dict[str, Callable[[str], dict[str, Any]]] = {
    "swap": mask_swap,
    "objects": objects,
    "first_mask": first_mask,
    "length": length,
    "confidence": confidence,
    "resolution": resolution,
    "own_size": own_size,
}


def trainings() -> dict[str, Any]:
    """J of three trainings of each small recipe, from their pages' results, over the conditions that all have; beside
    them the network that ships, on the same clips. Page 06 has fewer clips.
    """
    keys = {"MaskTrack": "02_masktrack", "RGMP": "03_rgmp", "RVOS": "04_rvos", "STM": "05_stm", "STCNN": "06_stcnn"}
    runs, found = comparison.read(RUNS_FILE), {}
    for name, file in keys.items():
        data = json.loads((RESULTS / f"{file}.json").read_text("utf-8"))
        rows, count = data["benchmark"], 8
        seeds = np.mean([rows[c]["recipe" if name == "STCNN" else name] for c in TRAINED], axis=0)
        if name == "STCNN":
            count = data["clips_per_condition"]
            ships = [rows[c]["STCNN long"] for c in TRAINED]
        else:
            parts = [runs.only([f"{c}-{i}" for i in range(count)], [name]).runs for c in TRAINED]
            ships = [100 * float(np.mean([one.mean("J") for run in part for one in run.objects])) for part in parts]
        found[name] = {"J": seeds.round(2).tolist(), "shipped": round(float(np.mean(ships)), 2), "clips": count}
    return found


def spread() -> dict[str, Any]:
    """J&F on each of the three sets of clips, from the runs; without the methods that ran on one set only."""
    runs = affordable()
    parts = [runs.only([clip for clip in runs.shared() if set_of(clip) == number]) for number in range(SETS)]
    tables = [part.by_attribute() for part in parts]
    return {name: {c: [t[c][name][0] for t in tables] for c in tables[0]} for name in runs.methods()}


def videos() -> dict[str, Any]:
    """J&F on the twelve videos by which the networks for real video were chosen, and on three others, from
    ``15_photos.json``.
    """
    rows = json.loads((RESULTS / "15_photos.json").read_text("utf-8"))["rows"]
    wanted = ("J&F", "videos", "cpu_ms", "lines")
    found = {name: {key: rows[twelve][key] for key in wanted} for name, (twelve, _) in VIDEOS.items()}
    for name, row in found.items():
        other = rows[VIDEOS[name][1]]
        row["three others"] = {key: other[key] for key in ("J&F", "videos")}
        pairs = [(row["videos"][video], score) for video, score in found["STM photos"]["videos"].items()]
        row["minus STM photos"] = asdict(comparison.difference([a - b for a, b in pairs]))
    return found


def quoted(length: dict[str, Any]) -> dict[str, Any]:
    """What the page says of long clips: J over all sets by the number of the frame, and kilobytes carried."""
    return {
        name: {
            "J": {str(t): round(float(np.mean([s[i] for s in row["J"]])), 2) for i, t in enumerate(MOMENTS)},
            "kB": {frames: round(state / 1024, 1) for frames, state in row["state"].items()},
        }
        for name, row in length.items()
        if row
    }


def affordable() -> Comparison:
    """The runs of the methods that were run on all clips."""
    runs = comparison.read(RUNS_FILE)
    return runs.only(methods=[name for name in runs.methods() if name not in EXPENSIVE])


def away(runs: Comparison) -> dict[str, Any]:
    """Where the object disappears: the share of scored frames that do not show it; J of these, and of the others."""
    found: dict[str, Any] = {}
    for name in runs.methods():
        seen = [run for run in runs.only(methods=[name]).runs if set(run.attributes) & set(AWAY)]
        objects = [one for run in seen for one in run.objects]
        pairs = [pair for one in objects for pair in zip(one.since_seen, one.J, strict=True)]
        empty, shown = ([j for ago, j in pairs if bool(ago) is there] for there in (False, True))
        found["share"] = percent(len(empty) / len(pairs))
        found[name] = {"empty": percent(np.mean(empty)), "shown": percent(np.mean(shown))}
    return found


def overall() -> dict[str, Any]:
    """What the page says of the benchmark: of all clips, and of those that the expensive methods saw, too."""
    everybody, runs = comparison.read(RUNS_FILE), affordable()
    clean = [clip for clip in runs.shared() if clip.startswith("clean-")]
    pairs = {name: everybody.only(methods=[name, "STM"]) for name in everybody.methods() if name != "STM"}
    return {
        "clips": len(runs.shared()),
        "J&F": {name: {c: t[name][0] for c, t in runs.by_attribute().items()} for name in runs.methods()},
        "hidden": runs.hidden(),
        "away": away(runs),
        "clean, frame 1": {name: round(js[1], 2) for name, js in runs.only(clean).by_frame().items()},
        "minus STM": {name: asdict(pair.difference(name, "STM")) for name, pair in pairs.items()},
        "with STCNN": {"clips": len(everybody.shared()), "cost": everybody.cost()},
    }


# ----------------------------------------------------------------------------------------------------- storing


def stored() -> dict[str, Any]:
    """What is there."""
    found: dict[str, Any] = json.loads(FILE.read_text("utf-8")) if FILE.exists() else {}
    return found


def missing(part: str, name: str, found: dict[str, Any]) -> bool:
    """Whether a part is still to be measured, with the weights that are there now."""
    return bool(found.get("about", {}).get(part, {}).get(name) != made(name).about)


def measure(parts: Sequence[str], chosen: Sequence[str], minutes: float) -> None:
    """What is missing, stored after each method."""
    began = time.process_time()
    for part in parts:
        for name in chosen:
            if not missing(part, name, stored()):
                continue
            row = PARTS[part](name)
            found = stored()
            found.setdefault(part, {})[name] = row
            found.setdefault("about", {}).setdefault(part, {})[name] = made(name).about
            keep(found)
            print(f"{part}, {name}: {json.dumps(row)[:300]}", flush=True)
            if time.process_time() - began > 60 * minutes:
                print("time is up; the same command goes on", flush=True)
                return
    found = stored() | {"trainings": trainings(), "benchmark": overall(), "sets": spread(), "videos": videos()}
    keep(found | {"long": quoted(found.get("length", {}))})


def keep(found: dict[str, Any]) -> None:
    """Write it, parts and methods in their order."""
    order, ours = list(names()), ("about", "benchmark", "sets", "long", "videos", "trainings", *PARTS)
    parts = {part: found[part] for part in ours if part in found}
    for part in ("sets", *PARTS):
        if part in parts:
            parts[part] = {name: parts[part][name] for name in order if name in parts[part]}
    head = {
        "command": "python experiments/comparison.py benchmark; python experiments/comparison.py measure",
        "moments": list(MOMENTS), "frames": LONG, "lines": list(LINES), "failed": FAILED,
    }  # fmt: skip
    write_atomically(FILE, (json.dumps(head | parts, indent=1) + "\n").encode())


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=["benchmark", "measure", "list"])
    parser.add_argument("what", nargs="*", help=f"methods, or parts: {', '.join(PARTS)}; all by default")
    parser.add_argument("--methods", nargs="*", help="of the parts; all by default")
    parser.add_argument("--minutes", type=float, default=5.0, help="of processor time (default: 5)")
    given = parser.parse_args()
    known = names()
    parts, chosen = (given.what, given.methods) if given.command != "benchmark" else ([], given.what)
    for word, words in [*((w, PARTS) for w in parts), *((w, known) for w in chosen or [])]:
        if word not in words:
            parser.error(f"there is no {word!r}; choose from {', '.join(words)}")
    torch.set_num_threads(1)
    if given.command == "list":
        for name in known:
            print(name, "needs", ", ".join(part for part in PARTS if missing(part, name, stored())) or "nothing")
    elif given.command == "benchmark":
        run_benchmark(chosen or list(known), given.minutes)
    else:
        measure(parts or list(PARTS), chosen or list(known), given.minutes)


if __name__ == "__main__":
    main()
