"""Computed questions on page 04: the grid, a cell by hand, the soft IoU, and the assignment."""

from __future__ import annotations

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment

from vos_tutorial.models import rvos

from . import Numeric, Pick, computed


@computed("04", "ancestors", "which cells can influence a cell?")
def ancestors(rng: np.random.Generator) -> Numeric:
    t, i = int(rng.integers(2, 6)), int(rng.integers(1, 5))
    reached = {(t, i)}
    while True:  # follow the arrows backwards until nothing is added
        more = {(a, b - 1) for a, b in reached if b} | {(a - 1, b) for a, b in reached if a}
        if more <= reached:
            break
        reached |= more
    return Numeric(
        "RVOS fills a grid of frames and slots, both counted from 0, with arrows over space and over time. "
        "How many other "
        f"cells can influence the cell of frame {t} and slot {i}, directly or through others?",
        len(reached) - 1,
        0,
        "All cells of the block above and to the left, without the cell itself.",
        {"counts the cell itself": len(reached), "counts one row and one column": t + i, "only the parents": 2},
    )


@computed("04", "cell", "one step of an LSTM cell")
def cell(rng: np.random.Generator) -> Numeric:
    i, f, o, g = (float(v) for v in rng.choice([-2.0, -1.0, 0.0, 1.0, 2.0], size=4))
    before = float(rng.choice([-1.0, 0.5, 1.0]))
    sums = torch.tensor([i, f, o, g]).double()
    gates = sums.sigmoid()
    after = float(gates[1] * before + gates[0] * sums[3].tanh())
    traps = {
        "the gates of input and forget exchanged": float(gates[0] * before + gates[1] * sums[3].tanh()),
        "nothing is forgotten": float(before + gates[0] * sums[3].tanh()),
    }
    if min(abs(after - value) for value in traps.values()) < 0.03:
        return cell(rng)
    return Numeric(
        f"A cell has the weighted sums i = {i:g}, f = {f:g}, o = {o:g} and g = {g:g}, and the cell state c "
        f"= {before:g}. What is "
        "the new cell state? (Two decimals.)",
        after,
        0.011,
        "sigmoid(f) c + sigmoid(i) tanh(g).",
        traps,
    )


@computed("04", "soft-iou", "the soft IoU cost of four pixels")
def soft_iou(rng: np.random.Generator) -> Numeric:
    q = np.round(rng.uniform(0.0, 1.0, size=4), 1)
    y = np.array([1, 1, 0, 0])[rng.permutation(4)]
    cost = float(rvos.soft_iou_cost(torch.tensor(q)[None], torch.tensor(y).double()[None]))
    dice = 1 - 2 * (q * y).sum() / (q.sum() + y.sum())
    hard = 1 - ((q > 0.5) & (y > 0)).sum() / ((q > 0.5) | (y > 0)).sum()
    if min(abs(cost - dice), abs(cost - hard)) < 0.03:
        return soft_iou(rng)
    return Numeric(
        f"Four pixels have the probabilities {q.tolist()}, the truth is {y.tolist()}. What is the soft IoU "
        "cost, one minus the sum "
        "of q y over the sum of q + y - q y? (Two decimals.)",
        cost,
        0.011,
        f"{(q * y).sum():.1f} over {(q + y - q * y).sum():.1f}.",
        {"Dice": float(dice), "decides at one half first": float(hard)},
    )


@computed("04", "assignment", "the cheapest assignment")
def assignment(rng: np.random.Generator) -> Pick:
    costs = np.round(rng.uniform(0.1, 0.9, size=(3, 3)), 1)
    totals = {}
    for slots in ((0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0)):
        totals[f"objects 0, 1, 2 in slots {slots}"] = -float(costs[range(3), slots].sum())
    best, second = sorted(totals.values(), reverse=True)[:2]
    if best - second < 0.15:
        return assignment(rng)
    found = tuple(int(s) for s in linear_sum_assignment(costs)[1])
    assert max(totals, key=lambda name: totals[name]).endswith(str(found))
    rows = "\n".join(f"| object {g} | " + " | ".join(f"{v:.1f}" for v in row) + " |" for g, row in enumerate(costs))
    return Pick(
        "The cost of each object in each slot:\n\n| | slot 0 | slot 1 | slot 2 "
        f"|\n|---|---|---|---|\n{rows}\n\nWhich assignment "
        "does the Hungarian method find?",
        totals,
        0.05,
        f"The one with the lowest total, {-best:.1f}.",
    )
