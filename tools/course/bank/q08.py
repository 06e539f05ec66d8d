"""Computed questions on page 08: paired gains, missing clips, a confidence that tells failures."""

from __future__ import annotations

import numpy as np
from scipy.stats import mannwhitneyu

from . import Numeric, computed


@computed("08", "gain", "a paired mean gain")
def gain(rng: np.random.Generator) -> Numeric:
    b = rng.integers(30, 90, size=5)
    a = b + rng.integers(-6, 10, size=5)
    right, medians = float((a - b).mean()), float(np.median(a) - np.median(b))
    best = float(a.max() - b.max())
    if min(abs(right - medians), abs(right - best)) < 0.3:
        return gain(rng)
    rows = "\n".join(f"| {i} | {x} | {y} |" for i, (x, y) in enumerate(zip(a, b, strict=True)))
    return Numeric(
        f"J&F of two methods on five clips:\n\n| clip | A | B |\n|---|---|---|\n{rows}\n\nWhat is the mean "
        "paired gain of A over B, in "
        "points? (One decimal.)",
        right,
        0.06,
        "Subtract clip by clip, then take the mean.",
        {"the difference of the medians": medians, "the difference of the best clips": best},
    )


@computed("08", "missing", "an average over what everybody finished")
def missing(rng: np.random.Generator) -> Numeric:
    scores = np.round(rng.uniform(40, 90, size=5)).astype(int)
    scores[0] = int(rng.integers(15, 30))  # the hardest clip, on which the other method crashed
    own, shared = float(scores.mean()), float(scores[1:].mean())
    return Numeric(
        f"Method A has the J&F {scores.tolist()} on five clips. Method B crashed on the first clip and "
        "finished the other four. To compare the "
        "two, over which clips do you average? Give A's average in that comparison. (One decimal.)",
        shared,
        0.06,
        "Only clips that both have finished count; that is said beside the table.",
        {"over all of A's clips": own, "a zero for the clip that B lost": float(scores[1:].sum() / 5)},
    )


@computed("08", "auc", "does the confidence tell failures?")
def auc(rng: np.random.Generator) -> Numeric:
    good, failed = (np.round(rng.uniform(low, high, size=3), 2) for low, high in ((0.55, 0.95), (0.4, 0.85)))
    if len({*good, *failed}) < 6:
        return auc(rng)
    share = float(mannwhitneyu(good, failed).statistic) / 9
    best = (good.max() > failed).mean()
    if abs(share - best) < 0.02 or share == 0.5:
        return auc(rng)
    return Numeric(
        f"A method was {good.tolist()} sure in three good frames and {failed.tolist()} sure in three failed "
        "ones. Take every pair of a "
        "good frame and a failed one: in what share of the nine pairs is the good one the surer? (Two decimals.)",
        share,
        0.011,
        f"{round(9 * share)} of nine pairs. This is the area under the ROC curve; 0.5 would be a coin.",
        {"the surest good frame only": float(best), "the pairs counted the other way": 1 - share},
    )
