"""Computed questions on page 01: J, F and DAVIS's averages, with fresh masks and scores."""

from __future__ import annotations

import numpy as np

from vos_tutorial import metrics
from vos_tutorial.course.exercises import check_01

from . import Numeric, Pick, computed


def drawn(mask: np.ndarray) -> str:
    """A mask as text, # where it is true."""
    return "\n".join("    " + "".join("#" if pixel else "." for pixel in row) for row in mask.tolist())


def block(height: int, width: int, top: int, left: int, high: int, wide: int) -> np.ndarray:
    """A rectangle in an empty picture, bool [H, W]."""
    mask = np.zeros((height, width), dtype=bool)
    mask[top : top + high, left : left + wide] = True
    return mask


@computed("01", "j", "J of two rectangles")
def j_of_rectangles(rng: np.random.Generator) -> Numeric:
    high, wide = (int(rng.integers(3, 6)) for _ in range(2))
    down, right = int(rng.integers(1, 3)), int(rng.integers(0, 3))
    truth, guess = block(9, 10, 1, 1, high, wide), block(9, 10, 1 + down, 1 + right, high, wide)
    both, either = int((truth & guess).sum()), int((truth | guess).sum())
    return Numeric(
        f"The true mask and a prediction. What is J? (Two decimals.)\n\n{drawn(truth)}\n\n{drawn(guess)}",
        float(metrics.region_similarity(truth[None], guess[None])[0]),
        0.006,
        f"{both} pixels are in both, {either} in either.",
        {"divides by the truth": both / truth.sum(), "Dice": 2 * both / (truth.sum() + guess.sum())},
    )


@computed("01", "davis-mean", "a mean by the rules of DAVIS-2017")
def davis_mean(rng: np.random.Generator) -> Numeric:
    def series(level: float) -> list[float]:
        return [1.0, *np.round(np.clip(level + 0.1 * rng.standard_normal(3), 0, 1), 1).tolist(), 0.2]

    scores = {"walk": {1: series(0.9)}, "dance": {1: series(0.5), 2: series(0.3), 3: series(0.4)}}
    shown = "\n".join(
        f"* {clip}, object {o}: {values}" for clip, objects in scores.items() for o, values in objects.items()
    )
    wrong = check_01.davis_mean.mutants
    return Numeric(
        f"J of every frame, the first and the last included:\n\n{shown}\n\nWhat is the mean J of this data "
        "set under the rules "
        "of DAVIS-2017? (Two decimals.)",
        check_01.davis_mean.reference(scores),
        0.006,
        "Leave out the first and the last frame, take a mean for each object, then one over the objects.",
        {name: wrong[name].answer(scores) for name in ("mean over clips", "all frames")},
    )


@computed("01", "tolerance", "the tolerance of F")
def tolerance(rng: np.random.Generator) -> Numeric:
    height = int(rng.integers(20, 110)) * 10
    width = int(height * rng.choice([1.0, 4 / 3, 16 / 9]))
    diagonal = 0.008 * np.hypot(height, width)
    if diagonal % 1 < 0.02 or diagonal % 1 > 0.98:  # too near to a whole number to be computed by hand
        return tolerance(rng)
    reach = int(np.ceil(diagonal))
    far, near = np.zeros((2, 1, height, width), dtype=bool), np.zeros((2, 1, height, width), dtype=bool)
    far[0, 0, 20, 20] = near[0, 0, 20, 20] = True
    far[1, 0, 20, 21 + reach] = near[1, 0, 20, 20 + reach] = True
    assert metrics.boundary_accuracy(near[0], near[1])[0] > metrics.boundary_accuracy(far[0], far[1])[0]
    return Numeric(
        "How many pixels may two outlines lie apart to count as matched by DAVIS's F, in a picture of "
        f"{height} x {width}?",
        reach,
        0,
        "Eight thousandths of the diagonal, rounded up.",
        {"rounded down": reach - 1, "of the height": _unlike(int(np.ceil(0.008 * height)), reach)},
    )


def _unlike(value: int, other: int) -> int:
    return value if value != other else value + 1


@computed("01", "better", "which mask has the higher F?")
def better(rng: np.random.Generator) -> Pick:
    size = int(rng.integers(8, 13))
    truth = block(40, 40, 10, 8, size, 2 * size)
    guesses = {
        "the same mask, one pixel further right": np.roll(truth, 1, axis=1),
        f"the same mask without its right third, {2 * size // 3} columns": truth
        & (np.arange(40) < 8 + 2 * size - 2 * size // 3),
        "the same mask, grown by three pixels on all sides": block(40, 40, 7, 5, size + 6, 2 * size + 6),
    }
    scores = {name: float(metrics.boundary_accuracy(truth[None], guess[None])[0]) for name, guess in guesses.items()}
    return Pick(
        f"The true mask is a rectangle of {size} x {2 * size} pixels in a picture of 40 x 40. Which "
        "prediction has the highest F?",
        scores,
        0.02,
        "In so small a picture the tolerance is one pixel: a shift by one is forgiven, a missing part and a "
        "wide border are not. "
        + "F: " + ", ".join(f"{value:.2f}" for value in scores.values()) + ".",
    )  # fmt: skip
