"""Fresh cases of notebook 07."""

from __future__ import annotations

import torch

from ...rng import Rng
from .check_07 import curved, numbers, straight, times
from .fresh import Cases, seed_of


def emd_from_theorem(rng: Rng) -> Cases:
    """Other points and times."""
    t, s = times(7, seed=rng.pick(2**30))
    data = torch.zeros_like(t)
    x, v = numbers(7, 2, seed=seed_of(rng)), numbers(7, 2, seed=seed_of(rng))
    return {
        "a student that bends": (curved, x, t, s, v),
        "to the data": (curved, v, t, data, x),
        "a student that never changes": (straight, x, t, s, v),
    }


def gaussian_map(rng: Rng) -> Cases:
    """Other means and widths."""
    cases = {}
    for name, low, high in (("narrow data", 0.1, 0.6), ("wide data", 2.0, 4.0)):
        x = numbers(6, seed=seed_of(rng))
        mean, spread = rng.sign() * rng.uniform(0.8, 2.5), rng.uniform(low, high)
        cases[name] = (x, *times(6, seed=rng.pick(2**30)), mean, spread)
    return cases


def derivative_by_differences(rng: Rng) -> Cases:
    """Other points, times and steps."""
    cases = {}
    for name, low, high in (("a large step", 0.05, 0.2), ("a small step", 0.005, 0.02)):
        x, v = numbers(5, 2, seed=seed_of(rng)), numbers(5, 2, seed=seed_of(rng))
        cases[name] = (curved, x, *times(5, seed=rng.pick(2**30)), v, rng.uniform(low, high))
    return cases
