"""Computed questions on page 02: growing a mask, cross-entropy and Dice by hand, merging objects, parameters."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F

from vos_tutorial import geometry
from vos_tutorial.course.exercises import check_02

from . import Numeric, Pick, computed


@computed("02", "grow", "a mask grown by a disk")
def grow(rng: np.random.Generator) -> Numeric:
    radius, places = int(rng.integers(1, 4)), rng.integers(5, 10, size=(2, 2))
    mask = torch.zeros(16, 16, dtype=torch.bool)
    for y, x in places:
        mask[int(y), int(x)] = True
    grown = geometry.dilate(mask, radius)
    square = F.max_pool2d(mask[None, None].float(), 2 * radius + 1, 1, radius)
    shown = " and ".join(f"({y}, {x})" for y, x in sorted({(int(y), int(x)) for y, x in places}))
    return Numeric(
        f"A mask of 16 x 16 pixels is true at {shown} (row, column). How many pixels are true after it is "
        "grown by a radius of "
        f"{radius}: all pixels at a distance of at most {radius}, as the crow flies?",
        int(grown.sum()),
        0,
        "Pixels with (distance down)² + (distance right)² of at most the radius squared.",
        {"a square in place of a disk": int(square.sum())},
    )


@computed("02", "entropy", "cross-entropy of three pixels")
def entropy(rng: np.random.Generator) -> Numeric:
    p = np.round(rng.uniform(0.15, 0.95, size=3), 2)
    target = rng.permutation([0, 1, int(rng.integers(0, 2))])
    right = np.where(target == 1, p, 1 - p)
    log_odds = torch.tensor(np.log(p / (1 - p)))
    expected = F.binary_cross_entropy_with_logits(log_odds, torch.tensor(target).double())
    if abs(-np.log(p).mean() - float(expected)) < 0.03:
        return entropy(rng)
    return Numeric(
        f"A network gives three pixels the probabilities {p.tolist()} of being the object. The truth is "
        f"{target.tolist()} (1: object). "
        "What is the cross-entropy, with natural logarithms, averaged over the pixels? (Two decimals.)",
        float(expected),
        0.011,
        f"The probabilities of the right answers are {right.round(2).tolist()}; take the mean of their "
        "negative logarithms.",
        {"takes the object's probability throughout": float(-np.log(p).mean())},
    )


@computed("02", "merge", "which object gets the pixel?")
def merge(rng: np.random.Generator) -> Pick:
    p = np.round(rng.uniform(0.2, 0.75, size=2), 2)
    alone = torch.tensor(p, dtype=torch.float32).reshape(2, 1, 1)
    background = float((1 - alone).prod())
    shares = {"background": background, "object 1": float(p[0]), "object 2": float(p[1])}
    if (
        min(abs(a - b) for a in shares.values() for b in shares.values() if a != b) < 0.03
        or len(set(shares.values())) < 3
    ):
        return merge(rng)
    winner = int(check_02.merge.reference(alone))
    assert max(shares, key=lambda name: shares[name]) == ("background", "object 1", "object 2")[winner]
    return Pick(
        f"Segmented on their own, object 1 has the probability {p[0]} at a pixel and object 2 has {p[1]}. "
        "The background is there if "
        "no object is, and the most probable wins. Who gets the pixel?",
        shares,
        0.02,
        f"The background has (1 - {p[0]}) (1 - {p[1]}) = {background:.2f}.",
    )


@computed("02", "parameters", "parameters of a convolution with a guide")
def parameters(rng: np.random.Generator) -> Numeric:
    out, side = int(rng.choice([16, 24, 32, 48])), int(rng.choice([3, 5, 7]))
    stem = torch.nn.Conv2d(3 + 1, out, side, stride=2, padding=side // 2)
    count = sum(p.numel() for p in stem.parameters())
    return Numeric(
        f"MaskTrack's first convolution takes a colour picture and a guide mask. It has {out} output "
        "channels, a window of "
        f"{side} x {side} and a bias. How many parameters has it?",
        count,
        0,
        f"(3 + 1) x {out} x {side} x {side} weights, and {out} biases.",
        {"forgets the guide": count - out * side * side, "forgets the bias": count - out},
    )
