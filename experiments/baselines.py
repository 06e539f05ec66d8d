"""Measure what notebook 01 quotes and write ``data/results/01_baselines.json``.

    python experiments/baselines.py                  the generated part; the real part stays as it is
    python experiments/baselines.py --davis DIR      also the real part, from a DAVIS folder

Four questions: how good are the two baselines on the generated benchmark, condition by condition and frame by frame;
what does the size of the picture change; how good are they on real video; and what do wrong versions of the measures
cost. Everything here is deterministic.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from vos_tutorial import metrics
from vos_tutorial.baselines import CopyFirst, copy_previous_truth
from vos_tutorial.clip import Clip
from vos_tutorial.data.davis import DavisFolder
from vos_tutorial.data.worlds.sprites import BENCHMARK_VERSION, CONDITIONS, benchmark
from vos_tutorial.errors import TutorialError
from vos_tutorial.files import write_atomically
from vos_tutorial.metrics import ObjectScore, average, score_objects
from vos_tutorial.propagation import propagate

OUT = Path(__file__).resolve().parents[1] / "data" / "results" / "01_baselines.json"
PER_CONDITION, SIZE = 8, 96
SIZES = (48, 96, 192, 384)
# The wrong versions of F are measured where the tolerance is about as wide as in DAVIS.
LARGE, PER_CONDITION_LARGE, CONDITIONS_LARGE, CELL = 480, 3, ("deformation+scale", "multiple_objects"), 32
SEQUENCES = ("car-roundabout", "libby", "motocross-jump")

Mask = NDArray[np.bool_]
Measure = Callable[[Mask, Mask], float]


def copy_first(clip: Clip) -> Tensor:
    """The mask of frame 0 for every frame: ``uint8 [T, H, W]``."""
    return propagate(CopyFirst(), clip.frames, clip.first_mask)


def copy_previous(clip: Clip) -> Tensor:
    """The true mask of the frame before: ``uint8 [T, H, W]``; an oracle."""
    return copy_previous_truth(clip.masks)


METHODS: dict[str, Callable[[Clip], Tensor]] = {"copy_first": copy_first, "copy_previous": copy_previous}


def row(scores: Sequence[ObjectScore]) -> dict[str, float]:
    """One row of a table, in percent, averaged over objects as DAVIS does."""
    total = average([score.summary for score in scores])
    named = {
        "J": total.J.mean, "J_recall": total.J.recall, "J_decay": total.J.decay,
        "F": total.F.mean, "F_recall": total.F.recall, "F_decay": total.F.decay, "J&F": total.J_and_F,
    }  # fmt: skip
    return {name: round(100 * value, 2) for name, value in named.items()}


def on_the_benchmark() -> tuple[dict[str, Any], dict[str, Any]]:
    """Both baselines, ``{condition: {method: row}}`` and ``{condition: {method: J of each frame}}``."""
    table: dict[str, Any] = {}
    curves: dict[str, Any] = {}
    every: dict[str, list[ObjectScore]] = {method: [] for method in METHODS}
    for condition in CONDITIONS:
        clips = list(benchmark(PER_CONDITION, [condition], SIZE))
        table[condition], curves[condition] = {"clips": len(clips)}, {}
        for method, predict in METHODS.items():
            scores = [score for clip in clips for score in score_objects(clip.masks, predict(clip))]
            table[condition]["objects"] = len(scores)
            table[condition][method] = row(scores)
            series = np.mean([score.J for score in scores], axis=0)
            curves[condition][method] = [round(100 * float(value), 2) for value in series]
            every[method] += scores
    table["all"] = {"clips": PER_CONDITION * len(CONDITIONS), "objects": len(every["copy_first"])}
    table["all"].update({method: row(scores) for method, scores in every.items()})
    return table, curves


def at_other_sizes() -> dict[str, Any]:
    """The oracle on the clean clips, drawn at several sizes: ``{size: row}``. The scenes are the same.

    ``F_same_share`` is F with a tolerance that is the same share of the picture at all sizes.
    """
    rows: dict[str, Any] = {}
    for size in SIZES:
        clips = list(benchmark(PER_CONDITION, ["clean"], size))
        scores = [score for clip in clips for score in score_objects(clip.masks, copy_previous(clip))]
        pairs = [(clip.masks[1:-1] == 1, copy_previous(clip)[1:-1] == 1) for clip in clips]
        same = [metrics.boundary_accuracy(truth, late, size // SIZES[0]).mean() for truth, late in pairs]
        rows[str(size)] = {
            "tolerance": metrics.boundary_tolerance(size, size),
            **row(scores),
            "F_same_share": round(100 * float(np.mean(same)), 2),
        }
    return rows


def on_real_video(root: Path) -> dict[str, Any]:
    """Both baselines on each of :data:`SEQUENCES` of a DAVIS folder, by the rules of DAVIS-2016."""
    folder = DavisFolder(root, year=2016)
    rows: dict[str, Any] = {}
    sizes = set()
    for name in SEQUENCES:
        clip = folder[name]
        sizes.add(f"{clip.size[1]}x{clip.size[0]}")
        rows[name] = {"frames": len(clip)}
        for method, predict in METHODS.items():
            rows[name][method] = row(score_objects(clip.masks, predict(clip), "davis2016"))
    if len(sizes) > 1:
        raise TutorialError(f"the sequences of {root} have the sizes {sorted(sizes)}; they must share one.")
    return {"size": sizes.pop(), "protocol": "davis2016", "sequences": rows}


# --- wrong versions of the measures, each with one choice changed --------------------------------------------------


def within_disk(edges: Mask, radius: int) -> Mask:
    """The pixels at most ``radius`` away from an edge pixel, as the crow flies."""
    return np.asarray(ndimage.distance_transform_edt(~edges) <= radius)


def within_square(edges: Mask, radius: int) -> Mask:
    """The pixels at most ``radius`` rows and ``radius`` columns away from an edge pixel."""
    return np.asarray(ndimage.distance_transform_cdt(~edges, "chessboard") <= radius)


def inner_contour(mask: Mask) -> Mask:
    """The pixels of the mask that touch the background."""
    return mask & ~ndimage.binary_erosion(mask, border_value=1)


def border_as_contour(mask: Mask) -> Mask:
    """The official map, but where the picture ends so does the object."""
    return metrics.boundary_map(np.pad(mask, 1))[1:, 1:]


def f_measure(
    edges: Callable[[Mask], Mask] = metrics.boundary_map,
    within: Callable[[Mask, int], Mask] = within_disk,
    rounding: Callable[[float], int] = math.ceil,
) -> Measure:
    """An F of one frame whose three choices can be made wrongly; as it stands it is the official one."""

    def measure(truth: Mask, prediction: Mask) -> float:
        radius = rounding(0.008 * math.hypot(*truth.shape))
        true, found = edges(truth), edges(prediction)
        if not true.any() or not found.any():
            return float(true.any() == found.any())
        precision = within(true, radius)[found].mean()
        recall = within(found, radius)[true].mean()
        return float(2 * precision * recall / (precision + recall)) if precision + recall else 0.0

    return measure


def at_half_size(measure: Measure) -> Measure:
    """The same measure on every second row and column."""
    return lambda truth, prediction: measure(truth[1::2, 1::2], prediction[1::2, 1::2])


WRONG: dict[str, tuple[str, Measure]] = {
    "square": ("a square instead of a disk", f_measure(within=within_square)),
    "floor": ("tolerance rounded down", f_measure(rounding=math.floor)),
    "no_tolerance": ("no tolerance at all", f_measure(rounding=lambda _: 0)),
    "inner": ("inner contour instead of the boundary map", f_measure(edges=inner_contour)),
    "border": ("the border of the picture counts as contour", f_measure(edges=border_as_contour)),
    "half_size": ("masks scored at half size", at_half_size(f_measure())),
}


def coarse(masks: Mask) -> Mask:
    """A decent prediction: the truth averaged over cells of 32 x 32 pixels and enlarged again."""
    shares = F.avg_pool2d(torch.from_numpy(masks).float()[:, None], CELL)
    enlarged = F.interpolate(shares, scale_factor=CELL, mode="bilinear", align_corners=False)
    return np.asarray(enlarged[:, 0] > 0.5)


def price_of_wrong_f() -> dict[str, Any]:
    """What each wrong F says of a decent prediction, against the right one, over the same frames."""
    official = f_measure()
    right: list[float] = []
    overlap: list[float] = []
    wrong: dict[str, list[float]] = {name: [] for name in WRONG}
    for clip in benchmark(PER_CONDITION_LARGE, CONDITIONS_LARGE, LARGE):
        for object_id in clip.objects:
            truth = (clip.masks[1:-1] == object_id).numpy()
            prediction = coarse(truth)
            overlap += metrics.region_similarity(truth, prediction).tolist()
            right += metrics.boundary_accuracy(truth, prediction).tolist()
            for a, b, expected in zip(truth, prediction, right[-len(truth) :], strict=True):
                if not math.isclose(expected, official(a, b), abs_tol=1e-12):
                    raise TutorialError("the plain F of this script differs from the library's; fix one of the two.")
                for name, (_, measure) in WRONG.items():
                    wrong[name].append(measure(a, b))
    rows = {}
    for name, (text, _) in WRONG.items():
        change = 100 * (np.array(wrong[name]) - np.array(right))
        rows[name] = {
            "what": text,
            "change": round(float(change.mean()), 2),
            "largest": round(float(np.abs(change).max()), 1),
            "frames_changed": round(100 * float((np.abs(change) > 1e-9).mean()), 1),
        }
    return {
        "size": LARGE,
        "cell": CELL,
        "tolerance": metrics.boundary_tolerance(LARGE, LARGE),
        "frames": len(right),
        "J": round(100 * float(np.mean(overlap)), 2),
        "F": round(100 * float(np.mean(right)), 2),
        "wrong": rows,
    }


def price_of_wrong_protocol() -> dict[str, Any]:
    """What copy-first seems to reach on the benchmark under wrong rules for frames and averages."""
    clips = list(benchmark(PER_CONDITION, size=SIZE))
    scores = [score_objects(clip.masks, copy_first(clip)) for clip in clips]
    every = [score for clip in scores for score in clip]
    quarters = [np.array_split(score.J[score.frames], 4) for score in every]
    measured = {
        "J": [score.summary.J.mean for score in every],
        "J_all_frames": [score.J.mean() for score in every],
        "J_per_clip": [np.mean([score.summary.J.mean for score in clip]) for clip in scores],
        "decay": [score.summary.J.decay for score in every],
        "decay_split": [parts[0].mean() - parts[-1].mean() for parts in quarters],
    }
    return {name: round(100 * float(np.mean(values)), 2) for name, values in measured.items()}


def main(argv: list[str] | None = None) -> int:
    """Returns 0, or 1 with the reason on stderr."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--davis", type=Path, help="a DAVIS folder with the three sequences")
    options = parser.parse_args(argv)
    torch.set_num_threads(1)
    try:
        known = json.loads(OUT.read_text(encoding="utf-8")) if OUT.exists() else {}
        real = on_real_video(options.davis) if options.davis else known.get("real")
        if real is None:
            raise TutorialError(f"{OUT.name} has no real part yet; give a DAVIS folder with --davis DIR.")
        table, curves = on_the_benchmark()
        result = {
            "command": "python experiments/baselines.py --davis DIR",
            "benchmark": {"version": BENCHMARK_VERSION, "per_condition": PER_CONDITION, "size": SIZE},
            "synthetic": table,
            "curves": curves,
            "sizes": at_other_sizes(),
            "real": real,
            "wrong_f": price_of_wrong_f(),
            "wrong_protocol": price_of_wrong_protocol(),
        }
    except TutorialError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    write_atomically(OUT, (json.dumps(result, indent=1) + "\n").encode())
    print(f"wrote {OUT.name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
