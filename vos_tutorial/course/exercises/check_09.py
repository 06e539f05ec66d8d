"""The exercises of notebook 09: run lengths, and what a correction changes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from .exercise import Exercise, Mutant

Mask = NDArray[np.bool_]


def mask(rows: Sequence[str]) -> Mask:
    """A mask drawn with ``#`` and ``.``."""
    return np.array([[pixel == "#" for pixel in row] for row in rows])


# --- run_lengths -------------------------------------------------------------------------------------------------


def _runs(flat: NDArray[np.bool_]) -> list[int]:
    counts, value = [0], False
    for pixel in flat:
        if bool(pixel) != value:
            counts.append(0)
            value = not value
        counts[-1] += 1
    return counts


def _run_lengths(mask: Mask) -> list[int]:
    return _runs(mask.ravel(order="F"))


def _along_rows(mask: Mask) -> list[int]:
    return _runs(mask.ravel())


def _begins_with_what_comes(mask: Mask) -> list[int]:
    counts = _runs(mask.ravel(order="F"))
    return counts[1:] if counts[0] == 0 else counts


def _places_of_changes(mask: Mask) -> list[int]:
    flat = mask.ravel(order="F")
    return [i for i in range(1, len(flat)) if flat[i] != flat[i - 1]]


def _last_run_missing(mask: Mask) -> list[int]:
    return _runs(mask.ravel(order="F"))[:-1]


def _only_the_object(mask: Mask) -> list[int]:
    return _runs(mask.ravel(order="F"))[1::2]


run_lengths = Exercise(
    name="run_lengths",
    reference=_run_lengths,
    cases={
        "a small object": (mask(["....", ".##.", ".#..", "...."]),),
        "the object begins at once": (mask(["##..", "#..."]),),
        "it reaches the end": (mask(["...", "..#", "..#"]),),
        "everything": (mask(["##", "##", "##"]),),
        "nothing": (mask(["..", ".."]),),
    },
    hint="Lay the columns one after the other with mask.ravel(order='F'), then count how long each value lasts.",
    mutants={
        "along the rows": Mutant(
            _along_rows, "You go along the rows; COCO goes down the columns: mask.ravel(order='F')."
        ),
        "begins with what comes first": Mutant(
            _begins_with_what_comes,
            "The first number always counts pixels that are *not* the object; if the object begins at once, it is 0.",
        ),
        "places": Mutant(
            _places_of_changes, "You give the places where the value changes; give how long each run lasts."
        ),
        "the last run": Mutant(_last_run_missing, "The last run is missing: the numbers must add up to all pixels."),
        "only the object": Mutant(
            _only_the_object, "You count the runs of the object alone; those of the background stand between them."
        ),
    },
)


# --- frames_to_compute -------------------------------------------------------------------------------------------


def _frames_to_compute(given: Sequence[int], k: int, length: int) -> list[int]:
    following = min((t for t in given if t > k), default=length)
    return list(range(k + 1, following))


def _to_the_end(given: Sequence[int], k: int, length: int) -> list[int]:
    return list(range(k + 1, length))


def _with_the_frame_itself(given: Sequence[int], k: int, length: int) -> list[int]:
    return [k, *_frames_to_compute(given, k, length)]


def _with_the_next_mask(given: Sequence[int], k: int, length: int) -> list[int]:
    following = min((t for t in given if t > k), default=length - 1)
    return list(range(k + 1, following + 1))


def _last_mask(given: Sequence[int], k: int, length: int) -> list[int]:
    following = max((t for t in given if t > k), default=length)
    return list(range(k + 1, following))


def _first_in_the_list(given: Sequence[int], k: int, length: int) -> list[int]:
    following = next((t for t in given if t > k), length)
    return list(range(k + 1, following))


def _from_the_start(given: Sequence[int], k: int, length: int) -> list[int]:
    return [t for t in range(length) if t not in given and t != k]


frames_to_compute = Exercise(
    name="frames_to_compute",
    reference=_frames_to_compute,
    cases={
        "the first correction": ([0], 5, 9),
        "one before a later one": ([0, 8, 12], 5, 15),
        "between two": ([0, 4, 6, 10], 7, 12),
        "corrections in the order in which they came": ([0, 11, 6], 3, 14),
        "just before the next": ([0, 6], 5, 9),
        "the last frame": ([0], 8, 9),
        "the same frame again": ([0, 4, 7], 4, 9),
    },
    hint="Look for the first given frame after k; everything between the two changes.",
    mutants={
        "to the end": Mutant(_to_the_end, "You go to the end, but a mask that is given later stays: stop before it."),
        "with k": Mutant(
            _with_the_frame_itself, "Frame k itself is given, so there is nothing to compute in it: begin at k + 1."
        ),
        "with the next mask": Mutant(_with_the_next_mask, "You compute a frame whose mask is given; stop before it."),
        "the last mask": Mutant(_last_mask, "You stop at the last given mask; the *next* one after k counts."),
        "unsorted": Mutant(
            _first_in_the_list, "Corrections come in any order: the next one is the smallest number above k."
        ),
        "everything": Mutant(
            _from_the_start, "What comes before k does not change, and neither does what follows the next mask."
        ),
    },
)
