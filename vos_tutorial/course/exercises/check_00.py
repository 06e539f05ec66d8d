"""The exercise of notebook 00: count the objects of a mask."""

from __future__ import annotations

import torch
from torch import Tensor

from .exercise import Exercise, Mutant


def _mask(rows: list[list[int]]) -> Tensor:
    return torch.tensor(rows, dtype=torch.uint8)


def _count_objects(mask: Tensor) -> int:
    return len(set(mask.flatten().tolist()) - {0, 255})


def _background_too(mask: Tensor) -> int:
    return len(set(mask.flatten().tolist()) - {255})


def _void_too(mask: Tensor) -> int:
    return len(set(mask.flatten().tolist()) - {0})


def _every_value(mask: Tensor) -> int:
    return len(set(mask.flatten().tolist()))


def _largest_id(mask: Tensor) -> int:
    return max((i for i in mask.flatten().tolist() if i != 255), default=0)


def _pixels(mask: Tensor) -> int:
    return int(((mask != 0) & (mask != 255)).sum())


count_objects = Exercise(
    name="count_objects",
    reference=_count_objects,
    cases={
        "two objects": (_mask([[0, 1, 1], [0, 2, 2]]),),
        "a gap in the ids": (_mask([[0, 1, 1], [0, 4, 0]]),),
        "void pixels": (_mask([[0, 255, 3], [0, 3, 3]]),),
        "no background": (_mask([[1, 1, 2], [1, 2, 2]]),),
        "an empty mask": (_mask([[0, 0, 0], [0, 0, 0]]),),
    },
    hint="mask.unique() lists the values that occur; two of them are not objects.",
    mutants={
        "counts the background": Mutant(_background_too, "The value 0 is the background, not an object."),
        "counts void": Mutant(_void_too, "The value 255 is void (the annotator could not say), not an object."),
        "counts every value": Mutant(_every_value, "Two values are not objects: 0 (background) and 255 (void)."),
        "takes the largest id": Mutant(_largest_id, "Ids may have gaps: the ids 1 and 4 are two objects."),
        "counts pixels": Mutant(_pixels, "You count the pixels of objects; count the different ids instead."),
    },
)
