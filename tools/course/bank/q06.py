"""Computed questions on page 06: copying, the best grey, the two slopes, transposed convolutions."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F

from . import Numeric, Pick, computed


@computed("06", "copy", "copying the last frame")
def copy(rng: np.random.Generator) -> Numeric:
    cells, step = int(rng.choice([8, 10, 16, 20])), int(rng.integers(1, 4))
    row = torch.zeros(cells)
    row[2] = 1
    error = float((row.roll(step) - row).square().mean())
    return Numeric(
        f"A row of {cells} cells is 0 except for a single 1, which moves by {step} cell{'s' * (step > 1)} "
        "per frame. What is the mean squared "
        "error of copying the last frame? (Four decimals.)",
        error,
        0.0006,
        "Two cells are wrong by 1: where it was, and where it is.",
        {"counts one wrong cell": error / 2, "forgets the mean": error * cells},
    )


@computed("06", "grey", "the best answer to a fork")
def grey(rng: np.random.Generator) -> Numeric:
    chance = float(np.round(rng.choice([0.2, 0.3, 0.4, 0.6, 0.7, 0.8]), 1))
    white, black = float(rng.choice([1.0, 0.9])), float(rng.choice([0.0, 0.1]))
    candidates = torch.linspace(0, 1, 1001, dtype=torch.float64)
    errors = chance * (candidates - white).square() + (1 - chance) * (candidates - black).square()
    best = float(candidates[errors.argmin()])
    return Numeric(
        f"A pixel will be {white:g} with probability {chance} and {black:g} otherwise. Which value has the "
        "least expected squared "
        "error? (Two decimals.)",
        best,
        0.006,
        "The mean of what may come.",
        {"the likelier one": white if chance > 0.5 else black, "the middle": (white + black) / 2},
    )


@computed("06", "slope", "which generator loss pushes?")
def slope(rng: np.random.Generator) -> Pick:
    d = float(rng.choice([0.02, 0.05, 0.1, 0.9, 0.95]))
    z = torch.logit(torch.tensor(d, dtype=torch.float64)).requires_grad_()
    (saturating,) = torch.autograd.grad((1 - z.sigmoid()).log(), z)
    (other,) = torch.autograd.grad(F.softplus(-z), z)
    return Pick(
        f"The discriminator gives a painted frame the probability {d:g} of being real. Which of the "
        "generator's losses has the "
        "steeper slope with respect to the discriminator's logit?",
        {"log(1 - D)": abs(float(saturating)), "-log D": abs(float(other)), "both, equally": 0.0},
        0.05,
        f"The slopes are {float(saturating):.2f} and {float(other):.2f}.",
    )


@computed("06", "stamp", "a transposed convolution by hand")
def stamp(rng: np.random.Generator) -> Numeric:
    cells = rng.integers(1, 6, size=3) * 2
    kernel = torch.tensor([[[1.0, 3.0, 3.0, 1.0]]]) / 4
    row = F.conv_transpose1d(torch.tensor(cells).float()[None, None], kernel, stride=2).flatten()
    place = int(rng.choice([2, 3, 4, 5]))
    left, right = place // 2 - 1, place // 2
    alone = float(cells[right] * kernel.flatten()[place - 2 * right])
    if abs(float(row[place]) - alone) < 0.01:
        return stamp(rng)
    return Numeric(
        "A transposed convolution with stride 2 and the stamp 1/4 3/4 3/4 1/4 (no padding) is applied to "
        f"the cells {cells.tolist()}. "
        f"Which number stands at place {place} of the result, counted from 0?",
        float(row[place]),
        0.001,
        f"The stamps of the cells {cells[left]} and {cells[right]} overlap there.",
        {"one stamp only": alone},
    )
