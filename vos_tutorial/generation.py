"""How good generated samples are: near their targets, near the data, and as varied as the data.

Precision and recall: Kynkäänniemi et al., "Improved Precision and Recall Metric for Assessing Generative Models",
NeurIPS 2019.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from .errors import TutorialError


class PrecisionRecall(NamedTuple):
    """Shares in [0, 1]."""

    precision: float
    """Of the generated samples that lie where data lie."""
    recall: float
    """Of the data that lie where generated samples lie."""


def precision_recall(data: Tensor, generated: Tensor, k: int = 3) -> PrecisionRecall:
    """Count in a feature space: a point lies *where data lie* if it is within reach of one of them.

    The reach of a point is its distance to its ``k``-th nearest neighbour among its own kind.

    Args:
        data: features ``float [N, D]``.
        generated: features ``float [M, D]``.
        k: the neighbour that decides the reach.

    Raises:
        TutorialError: if there are not more than ``k`` of either, or their features differ in number.
    """
    if data.ndim != 2 or generated.ndim != 2 or data.shape[1] != generated.shape[1]:
        raise TutorialError(
            f"features are [N, D] and [M, D] with one D; these are {list(data.shape)} and {list(generated.shape)}."
        )
    if not 1 <= k < min(len(data), len(generated)):
        raise TutorialError(
            f"k is {k} for {len(data)} and {len(generated)} samples; use 1 or more, and less than both."
        )
    return PrecisionRecall(_within(generated, data, k), _within(data, generated, k))


def _within(points: Tensor, others: Tensor, k: int) -> float:
    """The share of ``points [N, D]`` that lie within the reach of one of ``others [M, D]``."""
    reach = (
        torch.cdist(others, others).kthvalue(k + 1, dim=1).values
    )  # [M]; the nearest neighbour is the point itself
    inside = torch.cdist(points, others) <= reach  # [N, M]
    return float(inside.any(1).double().mean())


def paired_distance(samples: Tensor, targets: Tensor) -> float:
    """The root mean squared difference of samples ``[B, ...]`` and the targets that their noise should lead to."""
    if samples.shape != targets.shape:
        raise TutorialError(f"samples {list(samples.shape)} and targets {list(targets.shape)} are not pairs.")
    return float((samples - targets).square().mean().sqrt())
