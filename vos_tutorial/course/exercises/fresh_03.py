"""Fresh cases of notebook 03 and its appendix."""

from __future__ import annotations

from ...rng import Rng
from .check_03 import ToyStep, numbers, shares
from .fresh import Cases, seed_of


def network(rng: Rng) -> Cases:
    """Another width, another size."""
    width = 8 * (1 + rng.pick(3))
    wide = 16 * (3 + rng.pick(2))
    return {
        f"{width} channels": ((width,), (1, 4, 32, wide), (1, 4, 32, wide)),
        "32 channels": ((32,), (1, 4, 16, 32), (1, 4, 16, 32)),
    }


def join_stem(rng: Rng) -> Cases:
    """Other numbers of filters, other windows."""
    few, many = 5 + rng.pick(3), 9 + rng.pick(8)
    return {
        f"{n} filters of {k} x {k}": (numbers(n, 3, k, k, seed=seed_of(rng)), numbers(n, 1, k, k, seed=seed_of(rng)))
        for n, k in ((few, 3), (many, 5))
    }


def padded_size(rng: Rng) -> Cases:
    """Multiples of 32, and between them."""
    a, b = 32 * (3 + rng.pick(5)), 32 * (9 + rng.pick(5))
    return {
        "multiples of 32": (a, b),
        "no multiples": (a + 1 + rng.pick(14), b + 17 + rng.pick(14)),
        "one of each": (b + 18 + rng.pick(13), a),
    }


def aggregate(rng: Rng) -> Cases:
    """Shares of two to four objects, and claims of exactly 0 and 1."""
    few, many = 2, 3 + rng.pick(2)
    sure = shares(few, 2, 3, seed=seed_of(rng))
    sure[rng.pick(few), 0] = 1.0
    return {
        "two objects": (shares(few, 3, 4, seed=seed_of(rng)), shares(3, 4, seed=seed_of(rng))),
        f"{many} objects": (shares(many, 2, 5, seed=seed_of(rng)), shares(2, 5, seed=seed_of(rng))),
        "claims of exactly 1": (sure, shares(2, 3, seed=seed_of(rng))),
    }


def roll_out(rng: Rng) -> Cases:
    """A network that trusts its last mask, and one that does the opposite; each way of feeding back."""
    cases = {}
    for name, low, high in (("trusting", 4.0, 7.0), ("contrary", -3.0, -1.0)):
        step = ToyStep(round(rng.uniform(low, high), 2))
        first = (shares(3, 5, seed=seed_of(rng)) > 0.5).float()
        frames = shares(4, 3, 3, 5, seed=seed_of(rng))
        for feedback in ("soft", "detached", "hard"):
            cases[f"{feedback}, {name}"] = (step, first, frames, feedback)
    return cases


def split_weight(rng: Rng) -> Cases:
    """Windows that lie, stand, and are square."""
    sizes = [(4, 2 * (2 + rng.pick(3)), 5, 1), (6, 2 * (3 + rng.pick(2)), 1, 5), (4, 8, 3, 3)]
    return {" x ".join(map(str, size)): (numbers(*size, seed=seed_of(rng)),) for size in sizes}
