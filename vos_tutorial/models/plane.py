"""Networks for points of the plane: a velocity (the teacher) and a flow map (the student), in a minute on a CPU.

Three hidden layers of 128 units. The only delicate thing is how they see time, because a flow map is trained on its
*derivative* by time; see :class:`TimeFeatures`.
"""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Literal, TypeAlias, get_args

import torch
from torch import Tensor, nn

from ..errors import TutorialError
from ..places import WEIGHTS
from .weights import load_weights, read_about

Clock: TypeAlias = Literal["time", "log sigma", "fast"]


class TimeFeatures(nn.Module):
    """A time in [0, 1] as eight waves, ``[B] -> [B, 8]``.

    Args:
        clock: what the waves are of. ``"time"``: of t itself, four slow ones, as Align Your Flow asks;
            ``"log sigma"``: of ``log(t / (1 - t)) / 4``, as in EDM, whose slope is infinite at both ends; ``"fast"``:
            of t, up to 16 turns.
    """

    rates: Tensor

    def __init__(self, clock: Clock = "time") -> None:
        super().__init__()
        if clock not in get_args(Clock):
            raise TutorialError(f"the clock is {clock!r}; choose from {', '.join(get_args(Clock))}.")
        self.clock = clock
        turns = (0.5, 2.0, 6.0, 16.0) if clock == "fast" else (0.25, 0.5, 0.75, 1.0)
        self.register_buffer("rates", 2 * math.pi * torch.tensor(turns), persistent=False)

    def forward(self, t: Tensor) -> Tensor:
        """``[B] -> [B, 8]``."""
        if self.clock == "log sigma":
            t = torch.logit(t, eps=1e-4) / 4
        angle = t[:, None] * self.rates.to(t)  # [B, 4]
        return torch.cat([angle.cos(), angle.sin()], 1)  # [B, 8]


class PlaneVelocity(nn.Module):
    """``v(x, t)``: the velocity of the flow from noise to data.

    Args:
        width: units of each of three hidden layers.
        clock: see :class:`TimeFeatures`.
        classes: labels that a point may have; 0 for none. With labels there is one more, "any".
    """

    def __init__(self, width: int = 128, clock: Clock = "time", classes: int = 0) -> None:
        super().__init__()
        self.features = TimeFeatures(clock)
        self.point, self.time = nn.Linear(2, width), nn.Linear(8, width)
        self.label = nn.Embedding(classes + 1, width) if classes else None
        self.body = nn.Sequential(
            nn.SiLU(), nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU(), nn.Linear(width, 2)
        )

    def enter(self, x: Tensor, t: Tensor, label: Tensor | None = None) -> Tensor:
        """``x [B, 2]``, ``t [B]``, ``label`` int64 ``[B]`` (-1, or None, for "any") -> ``[B, width]``."""
        h = self.point(x) + self.time(self.features(t))  # [B, width]
        if self.label is None:
            return h
        if label is None:
            return h + self.label.weight[-1]
        return h + self.label(torch.where(label < 0, self.label.num_embeddings - 1, label))

    def forward(self, x: Tensor, t: Tensor, label: Tensor | None = None) -> Tensor:
        """``x [B, 2]``, ``t [B]``, ``label [B]`` -> ``[B, 2]``."""
        return self.body(self.enter(x, t, label))


class PlaneFlowMap(nn.Module):
    """``F(x, t, s)``: the average velocity from t to s. It begins as its teacher, with zero weights for s.

    Args:
        teacher: without labels; it is copied.
    """

    def __init__(self, teacher: PlaneVelocity) -> None:
        super().__init__()
        self.velocity = copy.deepcopy(teacher)
        self.end = nn.Linear(8, teacher.time.out_features)
        nn.init.zeros_(self.end.weight)
        nn.init.zeros_(self.end.bias)

    def forward(self, x: Tensor, t: Tensor, s: Tensor) -> Tensor:
        """``x [B, 2]``, ``t [B]``, ``s [B]`` -> ``[B, 2]``."""
        h = self.velocity.enter(x, t) + self.end(self.velocity.features(s))  # [B, width]
        return self.velocity.body(h)


def shipped(name: str) -> Path:
    """Where a trained network of the plane lies.

    Args:
        name: ``teacher``; its flow maps ``emd`` and ``consistency``, and those that failed: ``log-sigma``, ``fast``,
            ``fast-bare``, ``forgotten-1``; ``ring`` and ``ring-weak``.
    """
    return WEIGHTS / f"flow_map-plane-{name}.safetensors"


def trained_velocity(path: str | Path) -> PlaneVelocity:
    """A velocity with the weights of a file, in eval mode, without gradients.

    Raises:
        TutorialError: if the file is missing, damaged, or of another network.
    """
    about = read_about(path)
    about.require_method("flow_map")
    network = PlaneVelocity(**about.options)
    load_weights(path, network)
    return network.requires_grad_(False).eval()


def trained_flow_map(path: str | Path) -> PlaneFlowMap:
    """A flow map with the weights of a file; see :func:`trained_velocity`."""
    about = read_about(path)
    about.require_method("flow_map")
    network = PlaneFlowMap(PlaneVelocity(**about.options))
    load_weights(path, network)
    return network.requires_grad_(False).eval()
