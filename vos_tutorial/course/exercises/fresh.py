"""New inputs for the exercises, drawn from a seed: a grader tries an answer on cases that no page shows.

The module ``fresh_NN`` holds one function for each exercise of ``check_NN``, by its name; it draws cases like the
page's. ``tests/test_fresh_cases.py`` proves that they tell every named wrong answer from the right one.
"""

from __future__ import annotations

import dataclasses
import importlib
import pkgutil
import zlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import TutorialError
from ...rng import Rng, Stream
from . import __name__ as package
from . import __path__ as folder
from .exercise import Exercise

Cases = Mapping[str, tuple[Any, ...]]
Drawn = Callable[[Rng], Cases]


def seed_of(rng: Rng) -> int:
    """A seed for functions that draw a tensor from one, such as ``check_05.numbers``."""
    return rng.pick(2**31)


def speckled(rng: Rng, height: int, width: int, share: float) -> NDArray[np.bool_]:
    """A mask ``bool [H, W]`` whose pixels are foreground with a chance of ``share`` each."""
    return rng.array(height, width) < share


def pages() -> list[str]:
    """The numbers of the pages that have exercises: ``00``, ``01``, ..."""
    found = [info.name for info in pkgutil.iter_modules(folder)]
    return sorted(name.removeprefix("check_") for name in found if name.startswith("check_"))


def exercises(page: str) -> dict[str, Exercise]:
    """The exercises of ``check_NN`` by name, in the order in which they stand there.

    Raises:
        TutorialError: if there is no such page.
    """
    if page not in pages():
        raise TutorialError(f"there are no exercises of page {page!r}; pages with exercises: {', '.join(pages())}.")
    module = importlib.import_module(f"{package}.check_{page}")
    return {name: value for name, value in vars(module).items() if isinstance(value, Exercise)}


def drawing(page: str, name: str) -> Drawn | None:
    """The function that draws cases for an exercise, if there is one."""
    if f"fresh_{page}" not in {info.name for info in pkgutil.iter_modules(folder)}:
        return None
    found: Drawn | None = getattr(importlib.import_module(f"{package}.fresh_{page}"), name, None)
    return found


def fresh(page: str, name: str, seed: int) -> Exercise:
    """The exercise with new cases, the same for the same seed.

    Raises:
        TutorialError: if nothing draws cases for it, or the seed is negative.
    """
    draw = drawing(page, name)
    if draw is None:
        raise TutorialError(f"nothing draws new cases for {name}; write fresh_{page}.{name}, or take no seed.")
    if seed < 0:
        raise TutorialError(f"the seed of fresh cases is {seed}; take 0 or more.")
    cases = draw(Rng(seed, Stream.GRADED, zlib.crc32(name.encode())))
    return dataclasses.replace(exercises(page)[name], cases=cases)
