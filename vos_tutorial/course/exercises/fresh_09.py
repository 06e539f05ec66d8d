"""Fresh cases of notebook 09."""

from __future__ import annotations

from ...rng import Rng
from .fresh import Cases, speckled


def run_lengths(rng: Rng) -> Cases:
    """Masks that begin with the object, end with it, or do neither."""
    first, last, neither = speckled(rng, 5, 7, 0.4), speckled(rng, 7, 5, 0.4), speckled(rng, 4, 8, 0.3)
    first[0, 0], last[0, 0], last[-1, -1] = True, False, True
    neither[0, 0] = neither[-1, -1] = False
    neither[1, 2] = True
    return {"begins with the object": (first,), "ends with it": (last,), "neither": (neither,)}


def frames_to_compute(rng: Rng) -> Cases:
    """Corrections in any order, before and after the one that is new."""
    k = 5 + rng.pick(20)
    near, far = k + 3 + rng.pick(5), k + 9 + rng.pick(9)
    length = far + 3 + rng.pick(9)
    return {
        "two later ones, the farther first": ([0, far, near, 2], k, length),
        "two later ones, in order": ([0, 3, near, far], k, length),
        "none later": ([0, 2, 4], k, length),
        "given already": ([0, k, far], k, length),
    }
