"""Computed questions on page 03: convolutions cut in two, soft aggregation, and a tracker fed in three ways."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from vos_tutorial.course.exercises import check_03
from vos_tutorial.models.rgmp import GlobalConvolution
from vos_tutorial.propagation import soft_aggregate

from . import Numeric, Pick, computed


@computed("03", "aggregate", "objects, and a union that says where the background is")
def aggregate(rng: np.random.Generator) -> Numeric:
    p = np.round(rng.uniform(0.3, 0.95, size=2), 2)
    union = float(np.round(rng.uniform(max(p), 0.98), 2))
    share = float(
        soft_aggregate(torch.tensor(p)[:, None, None], background=torch.tensor([[[1 - union]]]).double())[1]
    )
    plain = float(p[0] / (p.sum() + 1 - union))
    if abs(share - plain) < 0.03 or abs(share - p[0]) < 0.03:
        return aggregate(rng)
    return Numeric(
        f"At a pixel RGMP gives object 1 the probability {p[0]}, object 2 {p[1]}, and the union of both "
        f"{union}, so the "
        f"background has {1 - union:.2f}. What share does object 1 get after soft aggregation? (Two decimals.)",
        share,
        0.011,
        "Turn each probability into odds p / (1 - p), and divide by the sum of the three odds.",
        {"divides probabilities by their sum": plain, "leaves the probability as it is": float(p[0])},
    )


@computed("03", "reach", "weights of a global convolution")
def reach(rng: np.random.Generator) -> Numeric:
    channels, width, k = int(rng.choice([16, 24, 32])), int(rng.choice([4, 8])), int(rng.choice([5, 7, 9]))
    block = GlobalConvolution(channels, width, k)
    weights = sum(m.weight.numel() for m in block.modules() if isinstance(m, nn.Conv2d))
    square = 2 * channels * width * k * k
    return Numeric(
        f"A global convolution with k = {k} compares two maps of {channels} channels each, stacked, and has "
        f"{width} output "
        f"channels. It has two branches: column ({k} x 1) then row (1 x {k}), and row then column. How many "
        "weights has it, "
        "biases left out?",
        weights,
        0,
        f"In each branch 2 x {channels} x {width} x {k} for the first convolution and {width} x {width} x "
        f"{k} for the "
        "second.",
        {f"one {k} x {k} convolution": square, "one branch only": weights // 2},
    )


@computed("03", "feedback", "a tracker with two weights")
def feedback(rng: np.random.Generator) -> Numeric:
    a, c = float(np.round(rng.uniform(0.2, 0.5), 1)), float(np.round(rng.uniform(0.3, 0.7), 1))
    evidence = np.round(rng.uniform(0.2, 1.0, size=3), 1)
    frames = torch.tensor(evidence).reshape(3, 1, 1, 1)

    def step(frame: torch.Tensor, previous: torch.Tensor) -> torch.Tensor:
        return a * frame[0] + c * previous

    own = float(check_03.roll_out.reference(step, torch.ones(1, 1).double(), frames, "soft")[-1])
    forced = a * evidence[-1] + c
    if abs(own - forced) < 0.03:
        return feedback(rng)
    return Numeric(
        f"A tracker answers m = {a} x evidence + {c} x previous answer. The first previous mask is 1. The "
        "evidence in three "
        f"frames is {evidence.tolist()}. It is fed with its own answers. What does it answer in the third frame? "
        "(Two decimals.)",
        own,
        0.011,
        "Compute the first answer, use it for the second, and the second for the third.",
        {
            "fed with the true mask 1 in each frame": float(forced),
            "forgets the previous mask": float(a * evidence[-1]),
        },
    )


@computed("03", "passes", "which way of feeding back?")
def passes(rng: np.random.Generator) -> Pick:
    weight = torch.tensor(float(np.round(rng.uniform(0.3, 0.8), 1)), requires_grad=True)
    steps = int(rng.integers(2, 5))
    frames = torch.ones(steps, 1, 1, 1)

    def slope(way: str) -> float:
        first = torch.ones(1, 1)
        answers = check_03.roll_out.reference(lambda frame, previous: weight * previous, first, frames, way)
        return float(torch.autograd.grad(answers[-1].sum(), weight)[0])

    soft, detached = slope("soft"), slope("detached")
    traps = {float(weight.detach()) ** steps, 1.0, detached}
    right = f"{soft:.2f}"
    options = {f"{value:.2f}": 0.0 for value in traps if f"{value:.2f}" != right}
    if len(options) < 2:
        return passes(rng)
    return Pick(
        f"A tracker only copies: each answer is w times the previous one, and the first previous mask is 1. With "
        f"w = {float(weight.detach()):.1f}, what is the derivative of the answer of frame {steps} with "
        "respect to w, if the "
        "gradient runs back through all steps? (Frames are counted from 1.)",
        {right: 1.0, **options},
        0.5,
        f"The answer is w to the power of {steps}, so the derivative is {steps} w^{steps - 1}. With detach it is "
        f"{detached:.2f}.",
    )
