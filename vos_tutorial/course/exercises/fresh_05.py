"""Fresh cases of notebook 05 and its appendix."""

from __future__ import annotations

from ...rng import Rng
from .check_05 import numbers, shares
from .fresh import Cases, seed_of


def top_k(rng: Rng) -> Cases:
    """Other sizes, other k."""
    k = 2 + rng.pick(3)
    return {
        f"nine cells, k = {k}": (numbers(9, 6, seed=seed_of(rng)), k),
        "many cells": (3 * numbers(30 + rng.pick(10), 8, seed=seed_of(rng)), 4 + rng.pick(3)),
        "k = 1": (numbers(6, 4, seed=seed_of(rng)), 1),
    }


def l2_scores(rng: Rng) -> Cases:
    """Other sizes, and keys that are equal."""
    c, q, m = 6 + rng.pick(4), 5 + rng.pick(3), 9 + rng.pick(3)
    same = numbers(c, q, seed=seed_of(rng))
    return {
        f"{q} ask, {m} are asked": (numbers(c, q, seed=seed_of(rng)), numbers(c, m, seed=seed_of(rng))),
        f"{m} ask, {q} are asked": (numbers(c, m, seed=seed_of(rng)), numbers(c, q, seed=seed_of(rng))),
        "equal keys": (same, same.clone()),
    }


def aggregate(rng: Rng) -> Cases:
    """Shares of two to four objects, and exactly 0 and 1."""
    many = 3 + rng.pick(2)
    sure = 0.9 * shares(2, 2, 3, seed=seed_of(rng))
    sure[rng.pick(2), 0] = 1.0
    return {
        "two objects": (0.95 * shares(2, 3, 4, seed=seed_of(rng)),),
        f"{many} objects": (0.9 * shares(many, 2, 5, seed=seed_of(rng)),),
        "exactly 1": (sure,),
    }


def evict(rng: Rng) -> Cases:
    """Frame 0 used least, the newest used least, ties, and several that must leave."""

    def memory(count: int) -> tuple[list[int], list[float]]:
        return [5 * i + rng.pick(5) * (i > 0) for i in range(count)], [1 + round(4 * u, 2) for u in rng.array(count)]

    times, usage = memory(6)
    return {
        "frame 0 is used least": (times, [0.1, *usage[1:]], 4),
        "the newest is used least": (times, [*usage[:-1], 0.2], 4),
        "a tie": ([0, 5, 11, 16, 20], [9.0, 2.5, 1.5, 1.5, 7.0], 4),
        "many must leave": (*memory(9), 3 + rng.pick(2)),
        "many must leave, side by side": (*memory(8), 4),
        "room for all": (*memory(4), 4 + rng.pick(2)),
    }
