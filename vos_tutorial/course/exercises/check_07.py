"""The exercises of notebook 07: EMD from its theorem, the flow map of a Gaussian, a derivative by differences."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ...models.flow_map import Network
from .exercise import Exercise, Mutant


def numbers(*shape: int, seed: int = 0) -> Tensor:
    """Random numbers around 0, float64, the same at every call."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def times(samples: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """``t`` and ``s``, float64 ``[B]``, ``s <= t``."""
    pair = torch.rand(2, samples, generator=torch.Generator().manual_seed(100 + seed), dtype=torch.float64)
    return pair.amax(0), pair.amin(0)


def curved(x: Tensor, t: Tensor, s: Tensor) -> Tensor:
    """A student that bends in all that it is given: ``x [B, 2]``."""
    t, s = t[:, None], s[:, None]
    return torch.sin(x + t) + x.flip(1) * (t - s) + torch.cos(3 * t * s)


def straight(x: Tensor, t: Tensor, s: Tensor) -> Tensor:
    """A student whose answer never changes."""
    return torch.ones_like(x)


# --- emd_from_theorem --------------------------------------------------------------------------------------------

Emd = Callable[[Network, Tensor, Tensor, Tensor, Tensor], Tensor]


def _end_moves(
    network: Network, x: Tensor, t: Tensor, s: Tensor, tangents: tuple[Tensor, Tensor, Tensor]
) -> tuple[Tensor, Tensor]:
    """Where the jump ends, and how fast that end moves."""

    def end(x: Tensor, t: Tensor, s: Tensor) -> Tensor:
        return x + (s - t)[:, None] * network(x, t, s)

    where, moves = torch.func.jvp(end, (x, t, s), tangents)[:2]
    return where, moves


def _emd(network: Network, x: Tensor, t: Tensor, s: Tensor, v: Tensor) -> Tensor:
    return -_end_moves(network, x, t, s, (v, torch.ones_like(t), torch.zeros_like(s)))[1]


def _emd_sign(network: Network, x: Tensor, t: Tensor, s: Tensor, v: Tensor) -> Tensor:
    return -_emd(network, x, t, s, v)


def _emd_weighted(network: Network, x: Tensor, t: Tensor, s: Tensor, v: Tensor) -> Tensor:
    return (t - s)[:, None] * _emd(network, x, t, s, v)


def _emd_forgotten(network: Network, x: Tensor, t: Tensor, s: Tensor, v: Tensor) -> Tensor:
    return -_end_moves(network, x, t, s, (v, torch.zeros_like(t), torch.zeros_like(s)))[1]


def _emd_still(network: Network, x: Tensor, t: Tensor, s: Tensor, v: Tensor) -> Tensor:
    return -_end_moves(network, x, t, s, (torch.zeros_like(x), torch.ones_like(t), torch.zeros_like(s)))[1]


def _emd_both(network: Network, x: Tensor, t: Tensor, s: Tensor, v: Tensor) -> Tensor:
    return -_end_moves(network, x, t, s, (v, torch.ones_like(t), torch.ones_like(s)))[1]


def _emd_of_f(network: Network, x: Tensor, t: Tensor, s: Tensor, v: Tensor) -> Tensor:
    tangents = (v, torch.ones_like(t), torch.zeros_like(s))
    found: Tensor = torch.func.jvp(network, (x, t, s), tangents)[1]
    return -found


def _emd_end(network: Network, x: Tensor, t: Tensor, s: Tensor, v: Tensor) -> Tensor:
    return _end_moves(network, x, t, s, (v, torch.ones_like(t), torch.zeros_like(s)))[0]


emd_from_theorem = Exercise(
    name="emd_from_theorem",
    reference=_emd,
    cases={
        "a student that bends": (curved, numbers(6, 2), *times(6), numbers(6, 2, seed=1)),
        "a student that never changes": (straight, numbers(3, 2, seed=2), *times(3, seed=1), numbers(3, 2, seed=3)),
        "s = t": (curved, numbers(4, 2, seed=4), times(4, seed=2)[0], times(4, seed=2)[0], numbers(4, 2, seed=5)),
        "to the data": (curved, numbers(4, 2, seed=6), times(4, seed=3)[0], torch.zeros(4).double(), numbers(4, 2)),
    },
    hint="Write a function end(x, t, s) for the map f, take torch.func.jvp of it with the tangents (v, 1, 0), and "
    "ask what multiplies the gradient of F.",
    atol=1e-9,
    mutants={
        "the sign": Mutant(
            _emd_sign,
            "The sign: sign(t - s) is +1, but f holds F with the factor s - t, which is negative.",
        ),
        "weighted": Mutant(
            _emd_weighted,
            "You kept a factor t - s; the weight w' = 1 / (t - s) is there to cancel it.",
        ),
        "the forgotten 1": Mutant(
            _emd_forgotten,
            "The tangent of t is 0 in yours: when the start moves along the flow, its time moves too, at speed 1.",
        ),
        "x stands still": Mutant(
            _emd_still,
            "The tangent of x is 0 in yours, but x moves with the velocity v while t moves.",
        ),
        "s moves too": Mutant(_emd_both, "The tangent of s is 1 in yours; only the start of the jump moves: 0."),
        "the derivative of F": Mutant(
            _emd_of_f, "You differentiated F alone; the theorem has the derivative of the map f = x + (s - t) F."
        ),
        "the end itself": Mutant(
            _emd_end, "You returned where the jump ends; jvp gives two things, and the second is how that moves."
        ),
    },
)


# --- gaussian_map ------------------------------------------------------------------------------------------------


def _spread(t: Tensor, c: float) -> Tensor:
    return torch.sqrt(t**2 + ((1 - t) * c) ** 2)


def _gaussian(x: Tensor, t: Tensor, s: Tensor, mean: float, c: float) -> Tensor:
    return (1 - s) * mean + (x - (1 - t) * mean) * _spread(s, c) / _spread(t, c)


def _without_mean(x: Tensor, t: Tensor, s: Tensor, mean: float, c: float) -> Tensor:
    return x * _spread(s, c) / _spread(t, c)


def _mean_stays(x: Tensor, t: Tensor, s: Tensor, mean: float, c: float) -> Tensor:
    return mean + (x - mean) * _spread(s, c) / _spread(t, c)


def _upside_down(x: Tensor, t: Tensor, s: Tensor, mean: float, c: float) -> Tensor:
    return (1 - s) * mean + (x - (1 - t) * mean) * _spread(t, c) / _spread(s, c)


def _spreads_added(x: Tensor, t: Tensor, s: Tensor, mean: float, c: float) -> Tensor:
    return (1 - s) * mean + (x - (1 - t) * mean) * (s + (1 - s) * c) / (t + (1 - t) * c)


def _no_root(x: Tensor, t: Tensor, s: Tensor, mean: float, c: float) -> Tensor:
    return (1 - s) * mean + (x - (1 - t) * mean) * _spread(s, c) ** 2 / _spread(t, c) ** 2


def _not_centred(x: Tensor, t: Tensor, s: Tensor, mean: float, c: float) -> Tensor:
    return (1 - s) * mean + x * _spread(s, c) / _spread(t, c)


gaussian_map = Exercise(
    name="gaussian_map",
    reference=_gaussian,
    cases={
        "mean 0": (numbers(5), *times(5), 0.0, 0.5),
        "mean 2": (numbers(5, seed=1), *times(5, seed=1), 2.0, 0.5),
        "wide data": (numbers(5, seed=2), *times(5, seed=2), -1.0, 3.0),
        "nowhere to go": (numbers(4, seed=3), times(4, seed=3)[0], times(4, seed=3)[0], 1.5, 0.2),
        "from noise to data": (numbers(4, seed=4), torch.ones(4).double(), torch.zeros(4).double(), 1.0, 0.3),
    },
    hint="Where is the mean at time t, and how wide is the cloud? Take x relative to the one, in units of the other, "
    "and put it back at time s.",
    atol=1e-9,
    mutants={
        "no mean": Mutant(
            _without_mean, "That is the map for mean 0. The centre moves too: it is (1 - t) m at time t."
        ),
        "the mean stands still": Mutant(
            _mean_stays, "Your centre is m at every time; noise has its centre at 0, so at time t it is (1 - t) m."
        ),
        "upside down": Mutant(_upside_down, "Your ratio is upside down: the cloud is S(t) wide now and S(s) then."),
        "spreads added": Mutant(
            _spreads_added, "You added standard deviations; data and noise are independent, so variances add."
        ),
        "variances": Mutant(
            _no_root, "Your ratio is one of variances; points move by the standard deviation: a root."
        ),
        "not centred": Mutant(
            _not_centred, "You scale x itself; take off the centre at time t first, then add that of time s."
        ),
    },
)


# --- derivative_by_differences -----------------------------------------------------------------------------------


def _central(network: Network, x: Tensor, t: Tensor, s: Tensor, v: Tensor, h: float) -> Tensor:
    return (network(x + h * v, t + h, s) - network(x - h * v, t - h, s)) / (2 * h)


def _one_sided(network: Network, x: Tensor, t: Tensor, s: Tensor, v: Tensor, h: float) -> Tensor:
    return (network(x + h * v, t + h, s) - network(x, t, s)) / h


def _not_halved(network: Network, x: Tensor, t: Tensor, s: Tensor, v: Tensor, h: float) -> Tensor:
    return 2 * _central(network, x, t, s, v, h)


def _not_divided(network: Network, x: Tensor, t: Tensor, s: Tensor, v: Tensor, h: float) -> Tensor:
    return 2 * h * _central(network, x, t, s, v, h)


def _time_stands(network: Network, x: Tensor, t: Tensor, s: Tensor, v: Tensor, h: float) -> Tensor:
    return (network(x + h * v, t, s) - network(x - h * v, t, s)) / (2 * h)


def _point_stands(network: Network, x: Tensor, t: Tensor, s: Tensor, v: Tensor, h: float) -> Tensor:
    return (network(x, t + h, s) - network(x, t - h, s)) / (2 * h)


def _end_goes_along(network: Network, x: Tensor, t: Tensor, s: Tensor, v: Tensor, h: float) -> Tensor:
    return (network(x + h * v, t + h, s + h) - network(x - h * v, t - h, s - h)) / (2 * h)


def _backwards(network: Network, x: Tensor, t: Tensor, s: Tensor, v: Tensor, h: float) -> Tensor:
    return -_central(network, x, t, s, v, h)


def _not_scaled(network: Network, x: Tensor, t: Tensor, s: Tensor, v: Tensor, h: float) -> Tensor:
    return (network(x + v, t + h, s) - network(x - v, t - h, s)) / (2 * h)


derivative_by_differences = Exercise(
    name="derivative_by_differences",
    reference=_central,
    cases={
        "a large step": (curved, numbers(5, 2), *times(5), numbers(5, 2, seed=1), 0.1),
        "a small step": (curved, numbers(5, 2, seed=2), *times(5, seed=1), numbers(5, 2, seed=3), 0.01),
        "a student that never changes": (straight, numbers(3, 2), *times(3, seed=2), numbers(3, 2, seed=4), 0.01),
    },
    hint="Go h forward along the flow and h back: x moves by h v, t by h, s stays; divide the difference of the two "
    "answers by 2 h.",
    atol=1e-9,
    mutants={
        "one side": Mutant(
            _one_sided, "You go forward only. The error of that is of the order h; forward and back, it is h²."
        ),
        "divided by h": Mutant(_not_halved, "The two points lie 2 h apart; you divided by h."),
        "not divided": Mutant(_not_divided, "That is the difference; a derivative divides it by 2 h."),
        "t stands still": Mutant(_time_stands, "x moves in yours, but t does not: t + h and t - h."),
        "x stands still": Mutant(_point_stands, "t moves in yours, but x does not: x + h v and x - h v."),
        "s goes along": Mutant(_end_goes_along, "s moves in yours; the end of the jump is held fixed."),
        "backwards": Mutant(_backwards, "Your sign is wrong: forward minus back."),
        "by v instead of h v": Mutant(_not_scaled, "You moved x by v; in the time h it moves by h v."),
    },
)
