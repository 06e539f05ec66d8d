"""Computed questions on page 00: masks of ids, shapes, shares of a picture."""

from __future__ import annotations

import numpy as np
import torch

from vos_tutorial.clip import VOID, ids_to_onehot
from vos_tutorial.course.exercises import check_00
from vos_tutorial.data.worlds.sprites import make_clip

from . import Numeric, computed


def rows(mask: np.ndarray) -> str:
    """A small mask as a block of text."""
    return "\n".join("    " + " ".join(f"{value:3}" for value in row) for row in mask.tolist())


@computed("00", "count", "objects in a mask")
def count(rng: np.random.Generator) -> Numeric:
    ids = sorted(rng.choice(np.arange(2, 20), size=int(rng.integers(2, 5)), replace=False).tolist())
    mask = np.zeros((4, 8), dtype=np.uint8)
    for column, value in enumerate(ids):
        mask[int(rng.integers(0, 3)) :, 2 * column] = value
    mask[0, 7], mask[3, 7] = VOID, VOID
    values = len(np.unique(mask))
    return Numeric(
        f"How many objects does this mask hold?\n\n{rows(mask)}",
        check_00.count_objects.reference(torch.from_numpy(mask)),
        0,
        "0 is background and 255 is void; every other number is an object, and ids may have gaps.",
        {"counts background and void as well": values, "counts void": values - 1, "takes the largest id": max(ids)},
    )


@computed("00", "shape", "numbers in a clip")
def shape(rng: np.random.Generator) -> Numeric:
    length, size = int(rng.integers(5, 13)), 8 * int(rng.integers(4, 9))
    clip = make_clip(int(rng.integers(1000)), size=size, length=length)
    return Numeric(
        f"A clip has {length} frames of {size} x {size} pixels. How many numbers do its frames hold in all "
        "(not its masks)?",
        clip.frames.numel(),
        0,
        "T 3 H W: frames, colours, height, width.",
        {
            "forgets the colours": clip.masks.numel(),
            "counts the masks as well": clip.frames.numel() + clip.masks.numel(),
        },
    )


@computed("00", "one-hot", "channels of a one-hot mask")
def one_hot(rng: np.random.Generator) -> Numeric:
    ids = sorted(rng.choice(np.arange(1, 9), size=3, replace=False).tolist())
    mask = torch.zeros(1, 6, dtype=torch.uint8)
    mask[0, 1:4] = torch.tensor(ids, dtype=torch.uint8)
    mask[0, 5] = VOID
    return Numeric(
        f"A row of a mask reads {mask[0].tolist()}. In the one-hot form `O H W` each object has one "
        "channel. How large is `O`?",
        len(ids_to_onehot(mask, ids)),
        0,
        "One channel for each object: neither background nor void has one, and gaps between ids make none.",
        {
            "a channel for every value": len(mask.unique()),
            "a channel for every number up to the largest": _unlike(max(ids), 3),
        },
    )


def _unlike(value: int, other: int) -> int:
    """A trap that coincides with the answer is no trap: one more."""
    return value if value != other else value + 1
