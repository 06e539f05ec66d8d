"""Fresh cases of notebook 02 and its appendices."""

from __future__ import annotations

import torch
from torch import Tensor

from ...rng import Rng
from .fresh import Cases, seed_of


def shares(rng: Rng, *shape: int) -> Tensor:
    """Random numbers in [0, 1), float32."""
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed_of(rng)))


def _pixels(height: int, width: int, *places: tuple[int, int]) -> Tensor:
    mask = torch.zeros(height, width, dtype=torch.bool)
    for y, x in places:
        mask[y, x] = True
    return mask


def dilate(rng: Rng) -> Cases:
    """A pixel or two, so that the disk shows; radius 3 is the first at which a disk is no diamond."""
    y, x = 4 + rng.pick(3), 4 + rng.pick(5)
    return {
        "a lone pixel, radius 3": (_pixels(11, 13, (y, x)), 3),
        "a pixel at the border, radius 2": (_pixels(7, 9, (rng.pick(7), 8)), 2),
        "two pixels, radius 4": (_pixels(13, 17, (y, x), (y + 1, x + 3)), 4),
        "a lone pixel, radius 1": (_pixels(6, 7, (2 + rng.pick(2), 2 + rng.pick(3))), 1),
    }


def fill_box(rng: Rng) -> Cases:
    """Corners of a box away from the picture's border, and an empty mask."""
    top, left = 1 + rng.pick(2), 5 + rng.pick(2)
    bottom, right = top + 3 + rng.pick(2), left + 3 + rng.pick(3)
    return {
        "two corners": (_pixels(9, 14, (top, right), (bottom, left)),),
        "the other corners, and one between": (_pixels(9, 14, (top, left), (bottom, right), (top + 1, left + 2)),),
        "one side of it is the picture's": (_pixels(6, 12, (5, 7 + rng.pick(2)), (2, 11)),),
        "an empty mask": (_pixels(5, 6),),
    }


def block(rng: Rng) -> Cases:
    """Other channels and other sizes."""
    a, b = 8 + 8 * rng.pick(3), 40 + 8 * rng.pick(3)
    return {
        f"{a} channels, stride 1": ((a, a, 1), (1, a, 6, 8)),
        f"{a} to {b} channels, stride 2": ((a, b, 2), (2, a, 12, 8)),
        f"{b} to {a} channels, stride 2": ((b, a, 2), (1, b, 8, 12)),
    }


def network(rng: Rng) -> Cases:
    """Another width, another size."""
    width = 8 * (1 + rng.pick(3))
    return {
        f"{width} channels": ((width,), (1, 4, 32, 16 * (3 + rng.pick(2)))),
        "32 channels": ((32,), (1, 4, 16, 32)),
    }


def merge(rng: Rng) -> Cases:
    """Sure, unsure, and exact ties."""
    p = (40 + rng.pick(20)) / 64  # exact in binary, above one half
    ties = torch.tensor([[[p, 0.5, 0.5, p]], [[p, 0.0, 0.25, 0.0]]])
    return {
        "two objects": (shares(rng, 2, 3, 4),),
        "two objects, both unsure": (0.34 + 0.12 * shares(rng, 2, 5, 6),),
        "three objects, all sure": (0.7 + 0.3 * shares(rng, 3, 2, 4),),
        "exact ties": (ties,),
    }


def nearest(rng: Rng) -> Cases:
    """An even number of frames between annotations, so that one lies halfway, and any order."""
    first = 1 + rng.pick(6)
    second = first + 4 + 2 * rng.pick(4)
    third = second + 6 + 2 * rng.pick(4)
    length = third + 2 + rng.pick(3)
    return {
        "sorted": ([first, second, third], length),
        "backwards": ([third, second, first], length),
        "a single one": ([second], second + 3),
    }
