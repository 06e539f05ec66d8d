"""Fresh cases of notebook 01 and its appendix."""

from __future__ import annotations

import numpy as np

from ...rng import Rng
from .fresh import Cases, speckled
from .fresh_00 import scattered, some_ids


def one_hot(rng: Rng) -> Cases:
    """Masks with gaps in the ids, with and without background and void."""
    return {
        "objects on a background": (scattered(rng, 5, 7, [0, *some_ids(rng, 3)]),),
        "objects and void": (scattered(rng, 5, 6, [255, *some_ids(rng, 2)]),),
        "objects, background and void": (scattered(rng, 6, 5, [0, 255, *some_ids(rng, 4)]),),
        "one object with a high id": (scattered(rng, 3, 4, [0, 100 + rng.pick(100)]),),
    }


def iou_with_void(rng: Rng) -> Cases:
    """Three masks that overlap anyhow, and those in which nothing counts."""
    truth, prediction = speckled(rng, 6, 7, 0.4), speckled(rng, 6, 7, 0.4)
    return {
        "anyhow": (truth, prediction, speckled(rng, 6, 7, 0.3)),
        "much void": (speckled(rng, 5, 8, 0.5), speckled(rng, 5, 8, 0.3), speckled(rng, 5, 8, 0.6)),
        "all foreground is void": (truth, prediction, truth | prediction),
        "nothing anywhere": (np.zeros_like(truth), np.zeros_like(truth), speckled(rng, 6, 7, 0.2)),
    }


def fast_boundary_map(rng: Rng) -> Cases:
    """Anyhow, at the border, and full."""
    cut = np.zeros((6, 7), bool)
    cut[2 + rng.pick(2) :, 3 + rng.pick(2) :] = True
    return {
        "anyhow": (speckled(rng, 7, 9, 0.3),),
        "few pixels": (speckled(rng, 8, 8, 0.1),),
        "cut at the lower right": (cut,),
        "cut at the upper left": (cut[::-1, ::-1].copy(),),
        "a full picture": (np.ones((3, 3 + rng.pick(3)), bool),),
    }


def decay(rng: Rng) -> Cases:
    """Scores of 9 to 20 frames."""
    lengths = 9 + rng.pick(4), 13 + rng.pick(4), 17 + rng.pick(4)
    return {f"{length} frames": (rng.array(length).tolist(),) for length in lengths}


def davis_mean(rng: Rng) -> Cases:
    """Clips with different numbers of objects, and of different lengths."""

    def clip(objects: int, frames: int) -> dict[int, list[float]]:
        return {i: [1.0, *rng.array(frames - 1).tolist()] for i in range(1, objects + 1)}

    return {
        "one, two and three objects": ({name: clip(n, 6) for name, n in {"cow": 1, "cars": 2, "kids": 3}.items()},),
        "short and long": ({"short": clip(1, 4), "long": clip(1, 9 + rng.pick(4))},),
    }
