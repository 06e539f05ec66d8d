"""Fresh cases of notebook 08."""

from __future__ import annotations

import numpy as np

from ...rng import Array, Rng
from .fresh import Cases, speckled


def paired(rng: Rng) -> Cases:
    """Scores of two methods on the same clips, and sets of clips drawn with replacement."""
    cases = {}
    for name, clips, gain in (("a gain", 9 + rng.pick(5), 4.0), ("a loss", 6 + rng.pick(3), -3.0)):
        hard: Array = 30 + 60 * rng.array(clips)
        a, b = hard + gain + 6 * rng.array(clips), hard + 6 * rng.array(clips)
        cases[name] = (a, b, (clips * rng.array(300, clips)).astype(np.int64))
    return cases


def separation(rng: Rng) -> Cases:
    """Confidences with and without ties, and a clip in which nothing failed."""
    sure, failed = rng.array(12), speckled(rng, 1, 12, 0.4)[0]
    failed[:2] = [True, False]
    return {
        "twelve frames": (sure, failed),
        "with ties": (np.round(4 * sure) / 4, failed),
        "never failed": (rng.array(5), np.zeros(5, bool)),
    }
