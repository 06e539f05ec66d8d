"""Computed questions on page 05: attention by hand, soft aggregation, shapes, what stays in memory."""

from __future__ import annotations

import numpy as np
import torch

from vos_tutorial.course.exercises import check_05
from vos_tutorial.models import stm
from vos_tutorial.propagation import soft_aggregate

from . import Numeric, Pick, computed


def table(keys: np.ndarray, values: np.ndarray) -> str:
    """A memory as a Markdown table."""
    rows = [f"| {key.tolist()} | {value:g} |" for key, value in zip(keys, values, strict=True)]
    return "\n".join(["| key | value |", "|---|---|", *rows])


@computed("05", "read", "reading a memory of three cells")
def read(rng: np.random.Generator) -> Numeric:
    keys = rng.integers(-2, 3, size=(3, 2)).astype(float)
    query, values = rng.integers(-2, 3, size=2).astype(float), np.array([1.0, 0.0, 0.0])
    k, q, v = (
        torch.tensor(x)
        for x in (keys.T[None, :, None, :, None], query[None, :, None, None], values[None, None, None, :, None])
    )
    found = {name: float(stm.read(q, k, v, penalty=p)) for name, p in (("distance", 1.0), ("dot product", 0.0))}
    plain = float(torch.softmax(torch.tensor(keys @ query), 0) @ torch.tensor(values))
    answer = found["dot product"]
    if min(abs(answer - found["distance"]), abs(answer - plain), abs(answer - values.mean())) < 0.03:
        return read(rng)
    return Numeric(
        f"A memory of three cells:\n\n{table(keys, values)}\n\nThe query is {query.tolist()}. What is read, "
        "with dot products "
        "divided by the root of the number of channels, and a softmax? (Two decimals.)",
        answer,
        0.011,
        "Scores are key times query over √2; softmax over the three cells; the weighted mean of the values.",
        {"minus the squared distance in place of the dot product": found["distance"], "without the division": plain,
         "all cells count the same": float(values.mean())},
    )  # fmt: skip


@computed("05", "aggregate", "soft aggregation of two objects")
def aggregate(rng: np.random.Generator) -> Numeric:
    p = np.round(rng.uniform(0.3, 0.95, size=2), 2)
    alone = torch.tensor(p).reshape(2, 1, 1)
    share = float(soft_aggregate(alone)[1])
    background = float((1 - alone).prod())
    plain = p[0] / (p.sum() + background)
    if abs(share - plain) < 0.03 or abs(share - p[0]) < 0.03:
        return aggregate(rng)
    return Numeric(
        f"Two objects have the probabilities {p[0]} and {p[1]} at a pixel, each segmented on its own. What "
        "share does object 1 get "
        "after soft aggregation? (Two decimals.)",
        share,
        0.011,
        f"The background has {background:.3f}. Divide the odds p / (1 - p) of the object by the sum of all "
        "three odds.",
        {"divides probabilities by their sum": float(plain), "leaves the probability as it is": float(p[0])},
    )


@computed("05", "affinity", "size of the affinity")
def affinity(rng: np.random.Generator) -> Numeric:
    stored, side, channels = int(rng.integers(2, 9)), int(rng.choice([4, 6, 8, 12])), int(rng.choice([16, 32]))
    key = torch.zeros(1, channels, stored, side, side)
    weights = stm.attention(torch.zeros(1, channels, side, side), key, 1.0)
    return Numeric(
        f"STM's memory holds {stored} frames, each as a grid of {side} x {side} cells with keys of "
        f"{channels} channels. How many "
        "numbers has the affinity of one object, before it is reshaped or multiplied?",
        weights.numel(),
        0,
        "One row for each of the T h w cells in memory, one column for each of the h w query cells; the "
        "channels are summed over.",
        {"forgets that every cell asks": stored * side * side, "of one stored frame": side**4},
    )


@computed("05", "evict", "which frame leaves the memory?")
def evict(rng: np.random.Generator) -> Pick:
    times = [0, *sorted(rng.choice(np.arange(4, 30), size=3, replace=False).tolist()), 31]
    usage = np.round(rng.permutation([0.4, 1.1, 1.9, 2.8, 0.0])[:5] + rng.uniform(0, 0.3, 5), 1)
    usage[-1] = 0.0
    left = check_05.evict.reference(times, usage.tolist(), 4)
    gone = next(t for t in times if t not in left)
    if np.sort(usage[1:-1])[0] + 0.15 > np.sort(usage[1:-1])[1]:
        return evict(rng)
    shown = "\n".join(f"* frame {t}: {u}" for t, u in zip(times, usage.tolist(), strict=True))
    return Pick(
        "A memory holds five frames, and four may stay. Frame 0 stays, because its mask was given, and so "
        "does the newest. The attention "
        f"each has got:\n\n{shown}\n\nWhich one leaves, if the least used one goes?",
        {f"frame {t}": float(t == gone) for t in times},
        0.5,
        "The least used one of those that may leave.",
    )  # fmt: skip
