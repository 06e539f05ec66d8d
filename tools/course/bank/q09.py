"""Computed questions on page 09: run lengths, turned frames, what a correction changes, frame times."""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from vos_tutorial.course.exercises import check_09

from . import Numeric, Pick, computed


@computed("09", "runs", "run lengths of a small mask")
def runs(rng: np.random.Generator) -> Pick:
    mask = rng.random((3, 4)) < 0.45
    mask[0, 0] = rng.random() < 0.5
    right = check_09.run_lengths.reference(mask)
    wrong = {
        n: list(check_09.run_lengths.mutants[n].answer(mask))
        for n in ("along the rows", "begins with what comes first", "only the object")
    }
    options = {str(counts): 0.0 for counts in wrong.values() if list(counts) != list(right)}
    if len(options) < 2:
        return runs(rng)
    shown = "\n".join("    " + "".join("#" if pixel else "." for pixel in row) for row in mask)
    return Pick(
        "What are the run lengths of this mask in COCO's order: down the columns, beginning with pixels "
        f"outside?\n\n{shown}",
        {str(list(right)): 1.0, **options},
        0.5,
        "Read the columns from top to bottom, the left one first; if the first pixel is inside, the first "
        "count is 0.",
    )


@computed("09", "correction", "frames to compute after a correction")
def correction(rng: np.random.Generator) -> Numeric:
    length = int(rng.integers(30, 60))
    given = [0, *sorted(rng.choice(np.arange(5, length - 5), size=2, replace=False).tolist())]
    k = int(rng.integers(1, length - 8))
    if k in given:
        return correction(rng)
    frames = check_09.frames_to_compute.reference(given, k, length)
    wrong = check_09.frames_to_compute.mutants
    traps = {n: len(wrong[n].answer(given, k, length)) for n in ("to the end", "with k", "everything")}
    return Numeric(
        f"A clip has {length} frames. Masks of an object are given in the frames {given}, and you now "
        f"correct frame {k}. How many frames "
        "must be computed again, going forward?",
        len(frames),
        0,
        "Those after the corrected frame, up to the next one with a given mask.",
        {n: value for n, value in traps.items() if value != len(frames)},
    )


@computed("09", "turn", "a pixel of a turned frame")
def turn(rng: np.random.Generator) -> Numeric:
    width, height = int(rng.integers(4, 9)), int(rng.integers(3, 7))
    x, y = int(rng.integers(0, width)), int(rng.integers(0, height))
    stored = np.arange(width * height).reshape(height, width)
    shown = np.rot90(stored, -1)  # clockwise, as the matrix of a phone held upright says
    row, column = (int(i[0]) for i in np.nonzero(shown == stored[y, x]))
    if column in (x, y) or column == row:
        return turn(rng)
    return Numeric(
        f"A phone stores a frame of {width} columns and {height} rows, to be shown turned by a quarter "
        "clockwise. In which column "
        f"(counted from 0) of the shown frame is the pixel that is stored in column {x}, row {y}?",
        column,
        0,
        "The first stored row becomes the last shown column.",
        {"the column stays": x, "row and column exchanged": y},
    )


@computed("09", "times", "when is a frame shown?")
def times(rng: np.random.Generator) -> Numeric:
    fast, slow = int(rng.choice([24, 25, 30])), int(rng.choice([10, 12, 15]))
    n = fast + int(rng.integers(3, slow))
    shown = [Fraction(i, fast) for i in range(fast)] + [1 + Fraction(i, slow) for i in range(slow)]
    constant = n * Fraction(2, fast + slow)
    return Numeric(
        f"A phone records {fast} frames in the first second and {slow} in the next, evenly within each. At "
        f"how many seconds is frame {n} "
        "shown, counted from 0? (Two decimals.)",
        float(shown[n]),
        0.011,
        f"The first {fast} frames fill the first second; frame {n} is number {n - fast} of the second one.",
        {"the first rate throughout": n / fast, "the mean rate": float(constant)},
    )
