"""The exercises of notebook 08: the paired difference with its interval, and what a confidence measure is worth."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .exercise import Exercise, Mutant

Array = NDArray[np.float64]
Result = tuple[float, float, float]


def draws(clips: int, times: int = 400, seed: int = 8) -> NDArray[np.int64]:
    """Numbers of clips, drawn with replacement: ``[times, clips]``."""
    return np.random.default_rng(seed).integers(0, clips, (times, clips))


def scores(clips: int, gain: float, spread: float, seed: int) -> tuple[Array, Array]:
    """Scores of two methods on the same clips: clips differ much, the methods by ``gain`` on average."""
    dice = np.random.default_rng(seed)
    hard = dice.uniform(30, 90, clips)
    return hard + gain + dice.normal(0, spread, clips), hard + dice.normal(0, spread, clips)


# --- paired -------------------------------------------------------------------------------------------------------


def _between(a: Array, b: Array, means: Array, share: float = 0.95) -> Result:
    """The mean gain, and the ends of the middle ``share`` of ``means``."""
    low, high = np.quantile(means, [(1 - share) / 2, (1 + share) / 2])
    return float((a - b).mean()), float(low), float(high)


def _paired(a: Array, b: Array, draws: NDArray[np.int64]) -> Result:
    return _between(a, b, (a - b)[draws].mean(axis=1))


def _not_paired(a: Array, b: Array, draws: NDArray[np.int64]) -> Result:
    return _between(a, b, a[draws].mean(axis=1) - b[draws[::-1]].mean(axis=1))


def _other_sign(a: Array, b: Array, draws: NDArray[np.int64]) -> Result:
    return _paired(b, a, draws)


def _of_single_clips(a: Array, b: Array, draws: NDArray[np.int64]) -> Result:
    return _between(a, b, (a - b)[draws])


def _ninety(a: Array, b: Array, draws: NDArray[np.int64]) -> Result:
    return _between(a, b, (a - b)[draws].mean(axis=1), 0.9)


def _along_the_draws(a: Array, b: Array, draws: NDArray[np.int64]) -> Result:
    return _between(a, b, (a - b)[draws].mean(axis=0))


def _one_fixed(a: Array, b: Array, draws: NDArray[np.int64]) -> Result:
    return _between(a, b, a[draws].mean(axis=1) - b.mean())


def _worst_and_best(a: Array, b: Array, draws: NDArray[np.int64]) -> Result:
    means = (a - b)[draws].mean(axis=1)
    return float((a - b).mean()), float(means.min()), float(means.max())


paired = Exercise(
    name="paired",
    reference=_paired,
    cases={
        "a clear gain": (*scores(12, 6.0, 2.0, 1), draws(12)),
        "no gain": (*scores(10, 0.0, 3.0, 2), draws(10)),
        "a loss on few clips": (*scores(4, -2.0, 4.0, 3), draws(4)),
        "the same scores": (np.arange(5.0), np.arange(5.0), draws(5)),
    },
    hint="Subtract clip by clip, gains = a - b; gains[draws] has a row for each resampled set of clips.",
    mutants={
        "not paired": Mutant(
            _not_paired, "You resample the two methods apart; draw the same clips for both: resample a - b."
        ),
        "other sign": Mutant(_other_sign, "The sign is turned round: the gain of the first method is a - b."),
        "of single clips": Mutant(
            _of_single_clips, "Those are quantiles of single clips; take the mean of each resampled set first."
        ),
        "90 percent": Mutant(_ninety, "You cut 5 % off at each end; for a 95 % interval it is 2.5 %."),
        "along the draws": Mutant(_along_the_draws, "The mean goes along a row of gains[draws], so axis=1."),
        "one is fixed": Mutant(
            _one_fixed, "The second method's mean stays fixed; both are measured on the drawn clips."
        ),
        "worst and best": Mutant(
            _worst_and_best,
            "The worst and the best draw depend on how many you draw; take the quantiles 0.025 and 0.975.",
        ),
    },
)


# --- separation ---------------------------------------------------------------------------------------------------


def _pairs(sure: Array, failed: NDArray[np.bool_]) -> Array:
    return sure[~failed][:, None] - sure[failed][None]


def _separation(sure: Array, failed: NDArray[np.bool_]) -> float:
    if failed.all() or not failed.any():
        return float("nan")
    gaps = _pairs(sure, failed)
    return float(((gaps > 0) + 0.5 * (gaps == 0)).mean())


def _ties_lost(sure: Array, failed: NDArray[np.bool_]) -> float:
    return float((_pairs(sure, failed) > 0).mean()) if failed.any() and not failed.all() else float("nan")


def _ties_won(sure: Array, failed: NDArray[np.bool_]) -> float:
    return float((_pairs(sure, failed) >= 0).mean()) if failed.any() and not failed.all() else float("nan")


def _turned(sure: Array, failed: NDArray[np.bool_]) -> float:
    return 1 - _separation(sure, failed)


def _accuracy(sure: Array, failed: NDArray[np.bool_]) -> float:
    return float(((sure < 0.5) == failed).mean())


def _difference_of_means(sure: Array, failed: NDArray[np.bool_]) -> float:
    return float(_pairs(sure, failed).mean()) if failed.any() and not failed.all() else float("nan")


def _one_without(sure: Array, failed: NDArray[np.bool_]) -> float:
    found = _separation(sure, failed)
    return 1.0 if np.isnan(found) else found


separation = Exercise(
    name="separation",
    reference=_separation,
    cases={
        "three and two": (np.array([0.9, 0.8, 0.4, 0.6, 0.3]), np.array([False, False, False, True, True])),
        "told apart": (np.array([0.9, 0.8, 0.2]), np.array([False, False, True])),
        "the wrong way round": (np.array([0.2, 0.9]), np.array([False, True])),
        "ties": (np.array([0.5, 0.5, 0.5, 0.7]), np.array([False, True, True, False])),
        "never failed": (np.array([0.9, 0.8]), np.array([False, False])),
    },
    hint="Compare each good frame with each failed one: sure[~failed][:, None] - sure[failed][None].",
    mutants={
        "ties lost": Mutant(_ties_lost, "A tie counts one half, not zero: the measure cannot tell the two apart."),
        "ties won": Mutant(_ties_won, "A tie counts one half, not one: the measure cannot tell the two apart."),
        "turned": Mutant(_turned, "It is the other way round: a pair counts if the good frame has the higher value."),
        "accuracy": Mutant(
            _accuracy, "That is the accuracy at one threshold; here no threshold is chosen, pairs are."
        ),
        "difference of means": Mutant(
            _difference_of_means,
            "Count the pairs in which the good frame is higher; how much higher does not matter.",
        ),
        "perfect without failures": Mutant(
            _one_without, "Where nothing failed, or everything, there is no pair to compare: return nan."
        ),
    },
)
