"""Fresh cases of notebook 04 and its appendix."""

from __future__ import annotations

import torch

from ...rng import Rng
from .check_04 import _gates, _state, numbers
from .fresh import Cases, seed_of


def network(rng: Rng) -> Cases:
    """Another width and another hidden size."""
    width, hidden = 8 * (1 + rng.pick(2)), 16 * (1 + rng.pick(2))
    return {
        f"{width} and {hidden} channels": ((width, hidden), (1, 2 + rng.pick(2), 32, 64)),
        "24 and 48 channels": ((24, 48), (1, 3, 32, 32)),
    }


def reached(rng: Rng) -> Cases:
    """A cell in the middle of a larger grid, and one at its edge, for each recurrence."""
    frames, objects = 5 + rng.pick(2), 4
    t, i = 2 + rng.pick(2), 1 + rng.pick(2)
    cases = {f"{kind}, cell ({t}, {i})": (t, i, kind, frames, objects) for kind in ("ST", "S", "T")}
    return cases | {
        "ST, the last object of frame 0": (0, objects - 1, "ST", frames, objects),
        "T, the last object": (t, objects - 1, "T", frames, objects),
    }


def cell_step(rng: Rng) -> Cases:
    """With both states, with one, with none."""
    return _steps(rng, 4)


def two_memory_step(rng: Rng) -> Cases:
    """With both states, with one, with none; time brings a cell along."""
    return _steps(rng, 5)


def _steps(rng: Rng, gates: int) -> Cases:
    hidden, channels = 2 + rng.pick(2), 2 + rng.pick(3)
    cases = {}
    for name, space, time in (
        ("in the middle of the grid", True, True),
        ("the first object of a frame", False, True),
        ("frame 0", True, False),
    ):
        spatial = _state(2, hidden, rng.pick(2**30)) if space else None
        temporal = _state(2, hidden, rng.pick(2**30)) if time else None
        x = numbers(2, channels, 3, 4, seed=seed_of(rng))
        past = temporal[0] if temporal is not None and gates == 4 else temporal
        cases[name] = (_gates(channels, hidden, gates, rng.pick(2**30)), x, spatial, past)
    return cases


def slot_cost(rng: Rng) -> Cases:
    """Slots whose object is seen or hidden, sure and unsure."""
    target = torch.zeros(3, 4, 5)
    target[1, 1:3, 1 : 3 + rng.pick(2)] = 1.0
    return {
        "one seen, two hidden": (numbers(3, 4, 5, seed=seed_of(rng)), target, round(rng.uniform(0.2, 0.8), 2)),
        "very sure": (torch.full((3, 4, 5), 30.0 + rng.pick(30)), target.flip(0), 0.5),
        "all hidden": (numbers(2, 4, 5, seed=seed_of(rng)), torch.zeros(2, 4, 5), round(rng.uniform(1.2, 3), 2)),
    }


def matched(rng: Rng) -> Cases:
    """Costs of as many slots as objects, and of more."""
    square, wide = (torch.from_numpy(rng.array(12, 4, slots)).float() for slots in (4, 6))
    return {
        f"{name}, {'every frame' if every else 'frame 0'}": (cost, every)
        for name, cost in (("four slots", square), ("six slots", wide))
        for every in (False, True)
    }
