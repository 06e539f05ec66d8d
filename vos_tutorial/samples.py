"""How far apart two sets of samples are, and how well one covers another."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .errors import TutorialError


def sliced_wasserstein(a: Tensor, b: Tensor, directions: int = 128) -> float:
    """The sliced Wasserstein-2 distance of two sets of points of the plane, ``[N, 2]`` each.

    Both sets are projected on a line, sorted, and compared point by point; the root of the mean square over all
    points and over lines of evenly spaced directions. Two draws of ``N`` points from one distribution are not at
    distance zero: print that *sampling floor* beside it.

    Raises:
        TutorialError: unless both are ``[N, 2]`` with the same N >= 1.
    """
    if a.ndim != 2 or a.shape[1] != 2 or a.shape != b.shape or len(a) == 0:
        raise TutorialError(f"the point sets are {list(a.shape)} and {list(b.shape)}; give two tensors [N, 2].")
    angle = torch.arange(directions, dtype=a.dtype, device=a.device) * (math.pi / directions)
    lines = torch.stack([angle.cos(), angle.sin()])  # [2, directions]
    gaps = (a @ lines).sort(0).values - (b @ lines).sort(0).values  # [N, directions]
    return gaps.square().mean().sqrt().item()


def paired_distance(a: Tensor, b: Tensor) -> float:
    """Root of the mean squared distance of samples that began at the same noise: ``a`` and ``b [B, ...]``."""
    if a.shape != b.shape:
        raise TutorialError(f"the sample sets are {list(a.shape)} and {list(b.shape)}; give two of one shape.")
    return (a - b).flatten(1).square().sum(1).mean().sqrt().item()
