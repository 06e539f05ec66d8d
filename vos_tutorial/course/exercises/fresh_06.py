"""Fresh cases of notebook 06 and its appendix."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from ...rng import Rng
from .check_06 import (
    _DECODER,
    _ENCODER,
    Parts,
    Scene,
    _drawing,
    _fooling,
    _judging,
    _layer,
    _moving,
    _pixels,
    _rolled,
    numbers,
)
from .fresh import Cases, seed_of

Objective = Callable[[nn.Sequential, nn.Module, nn.Module], Tensor]


def painter(rng: Rng) -> Cases:
    """Other numbers of frames, other sizes."""
    frames = 3 + 2 * rng.pick(2)
    return {
        f"{frames} frames": ((frames,), (1, 3 * frames, 32, 32 * (2 + rng.pick(2)))),
        "one frame": ((1,), (2, 3, 32, 32)),
    }


def best_picture(rng: Rng) -> Cases:
    """Futures that are not equally likely."""

    def futures(count: int) -> tuple[Tensor, Tensor]:
        chances = torch.from_numpy(0.1 + rng.array(count)).float()
        return numbers(count, 3, 4, seed=seed_of(rng)).tanh(), chances / chances.sum()

    many = 4 + rng.pick(3)
    return {"three futures": futures(3), f"{many} futures": futures(many)}


def who_learns(rng: Rng) -> Cases:
    """The losses of the page, on networks with other weights."""

    def scene(objective: Objective, grad: bool = False) -> Scene:
        seeds = [rng.pick(2**30) for _ in range(5)]

        def made() -> tuple[Tensor, Parts]:
            a, b, c, d, e = seeds
            generator = nn.Sequential(_layer(3, 4, a), nn.Tanh(), _layer(4, 3, b))
            parts: Parts = {
                "generator": generator,
                "discriminator": nn.Sequential(_layer(3, 2, c), nn.Tanh(), _layer(2, 1, d)),
                "masks": _layer(4, 1, e),
            }
            for p in (p for part in parts.values() for p in part.parameters() if grad):
                p.grad = torch.ones_like(p)
            return objective(generator, parts["discriminator"], parts["masks"]), parts

        return made

    return {
        "the pixels' error": (scene(_pixels),),
        "fooling the discriminator": (scene(_fooling),),
        "teaching the discriminator": (scene(_judging),),
        "masks from detached features": (scene(_drawing(True)),),
        "masks from features, after an earlier step": (scene(_drawing(False), grad=True),),
    }


def through_gate(rng: Rng) -> Cases:
    """Slow, fast, along the diagonal, and hidden."""
    speed, row, start = 2 + rng.pick(2), 1 + rng.pick(3), rng.pick(9)
    return {
        "slow": (_moving(8, 40, [row] * 6, [start + speed * t for t in range(6)]), speed),
        "a pixel a frame too fast": (_moving(8, 40, [row] * 8, [(speed + 1) * t for t in range(8)]), speed),
        "along the diagonal": (_moving(40, 40, [5 * t for t in range(6)], [5 * t for t in range(6)]), 5),
        "hidden, and back far away": (_moving(12, 40, [row, row, None, 3, 3], [0, 1, 2, 22 + speed, 23 + speed]), 3),
        "a jump": (_moving(12, 40, [row, row, row, 4, 4], [0, 1, 20 + speed, 21 + speed, 22 + speed]), 3),
    }


def rows_read(rng: Rng) -> Cases:
    """Even and odd numbers of rows, one to three steps."""
    even, odd = 10 + 2 * rng.pick(10), 31 + 2 * rng.pick(10)
    return {
        f"{even} rows, one step": (even, 1),
        f"{even} rows, two steps": (even, 2),
        f"{odd} rows, three steps": (odd, 3),
    }


def joint_names(rng: Rng) -> Cases:
    """All names, in another order."""

    def shuffled(names: tuple[str, ...]) -> tuple[tuple[str, ...]]:
        return (tuple(sorted(names, key=lambda _: rng.uniform(0, 1))),)

    block = 5 + rng.pick(15)
    more = (*_ENCODER, f"layer3.{block}.bn3.weight", f"layer3.{block}.conv2.weight", "layer2.3.bn1.bias")
    return {"all": shuffled((*more, *_DECODER)), "all, in another order": shuffled((*_DECODER, *more))}


def displacement(rng: Rng) -> Cases:
    """Shifts in all four directions, on frames that are not square."""

    def by(height: int, width: int, down: int, right: int, noise: float = 0.0) -> tuple[Tensor, Tensor]:
        return _rolled(rng.pick(2**30), height, width, down, right, noise)

    a, b, c = 2 + rng.pick(3), 1 + rng.pick(4), 5 + rng.pick(3)
    return {
        "down and right": by(16, 24, a, c),
        "up and left": by(26, 18, -c, -b),
        "up and right": by(20, 30, -a, c, noise=0.3),
        "down and left": by(32, 20, c, -a, noise=0.3),
    }
