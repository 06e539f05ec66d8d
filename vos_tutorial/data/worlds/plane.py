"""Points of the plane: the smallest world that a generator can learn, where a picture shows every sample.

Unlike the other worlds these are no clips: :func:`checkerboard` and :func:`ring` draw points, float32 ``[N, 2]``, by
a :class:`torch.Generator`.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ...errors import TutorialError

SQUARES = 4  # a side of the board, which covers [-2, 2] x [-2, 2]
MODES = 8  # of the ring
RADIUS = 1.5
SPREAD = 0.12  # standard deviation of a mode
HALVES = 2  # classes of the ring: modes 0..3 and 4..7, an arc each


def checkerboard(samples: int, generator: torch.Generator) -> Tensor:
    """Points on the eight dark squares of a 4 x 4 board over [-2, 2] x [-2, 2], evenly: float32 ``[N, 2]``."""
    _require_some(samples)
    row = torch.randint(SQUARES, (samples,), generator=generator)  # [N]
    pair = torch.randint(SQUARES // 2, (samples,), generator=generator)
    corner = torch.stack([2 * pair + row % 2, row], 1)  # [N, 2]: every second square of the row
    return corner + torch.rand(samples, 2, generator=generator) - SQUARES / 2


def on_board(points: Tensor) -> Tensor:
    """Which of ``points [N, 2]`` lie on the dark squares: bool ``[N]``."""
    column, row = (points + SQUARES / 2).floor().unbind(1)
    inside = (points.abs() < SQUARES / 2).all(1)
    return inside & ((column + row) % 2 == 0)


def centres() -> Tensor:
    """The centres of the ring's modes, counter-clockwise from the right: float32 ``[8, 2]``."""
    angle = torch.arange(MODES) * (2 * math.pi / MODES)
    return RADIUS * torch.stack([angle.cos(), angle.sin()], 1)


def ring(samples: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Eight round clouds on a circle, equally likely, and the class of each point.

    Returns:
        points, float32 ``[N, 2]``; and classes, int64 ``[N]``: 0 for the first four modes, 1 for the others.
    """
    _require_some(samples)
    mode = torch.randint(MODES, (samples,), generator=generator)  # [N]
    points = centres()[mode] + SPREAD * torch.randn(samples, 2, generator=generator)
    return points, mode // (MODES // HALVES)


def mode_of(points: Tensor) -> tuple[Tensor, Tensor]:
    """The nearest mode of each point ``[N, 2]``, int64 ``[N]``, and how far its centre is, ``[N]``."""
    distance, mode = torch.cdist(points, centres().to(points)).min(1)
    return mode, distance


def _require_some(samples: int) -> None:
    if samples < 1:
        raise TutorialError(f"the number of points is {samples}; ask for 1 or more.")
