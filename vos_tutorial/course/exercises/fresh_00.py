"""Fresh cases of notebook 00."""

from __future__ import annotations

import torch
from torch import Tensor

from ...rng import Rng
from .fresh import Cases


def scattered(rng: Rng, height: int, width: int, values: list[int]) -> Tensor:
    """A mask ``uint8 [H, W]`` in which each of the values stands at least once, at random places."""
    flat = [values[rng.pick(len(values))] for _ in range(height * width)]
    places = sorted(range(height * width), key=lambda _: rng.uniform(0, 1))
    for place, value in zip(places, values, strict=False):
        flat[place] = value
    return torch.tensor(flat, dtype=torch.uint8).view(height, width)


def some_ids(rng: Rng, count: int) -> list[int]:
    """Different ids of objects, with gaps: the largest is above the count."""
    first = 2 + rng.pick(4)
    return [first + 3 * i + rng.pick(3) for i in range(count)]


def count_objects(rng: Rng) -> Cases:
    """Masks with gaps in the ids, with and without background and void."""
    few, many = 2 + rng.pick(2), 5 + rng.pick(4)
    return {
        "objects on a background": (scattered(rng, 4, 5, [0, *some_ids(rng, few)]),),
        "objects and void": (scattered(rng, 4, 6, [0, 255, *some_ids(rng, few)]),),
        "many objects, no background": (scattered(rng, 6, 7, some_ids(rng, many)),),
        "many objects, void, no background": (scattered(rng, 6, 7, [255, *some_ids(rng, many)]),),
        "background and void": (scattered(rng, 3, 4, [0, 255]),),
    }
