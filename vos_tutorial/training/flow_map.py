"""Learning a velocity, and distilling it into a flow map: two short loops for one-minute runs.

They are not the loop of the methods (``loop.py``): nothing here is a video, a batch is drawn in one call, and a run
is too short to be resumed. Data come from functions ``draw(samples, generator) -> x_0 [B, ...]``.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor, nn
from tqdm import tqdm

from ..errors import TutorialError
from ..models.flow_map import (
    Network,
    Velocity,
    direction_loss,
    emd_direction,
    interpolate,
    interval_first,
    lmd_direction,
    normalise,
    require_use_of_s,
    two_sorted,
    warm_up,
)

Draw: TypeAlias = Callable[[int, torch.Generator], Tensor]
"""Data: ``(samples, generator) -> x_0 [B, ...]``."""

DrawLabelled: TypeAlias = Callable[[int, torch.Generator], tuple[Tensor, Tensor]]
"""Data with classes: ``(samples, generator) -> x_0 [B, ...], label int64 [B]``."""

Times: TypeAlias = Callable[[int, torch.Generator], tuple[Tensor, Tensor]]
"""Jumps to train on: ``(samples, generator) -> t [B], s [B]``, ``s <= t``."""


@dataclass(frozen=True)
class Run:
    """How long, and how fast.

    Attributes:
        steps: of Adam, >= 1.
        batch: samples in a step.
        lr: of the first step; it falls to 0 along a half cosine.
    """

    steps: int
    batch: int
    lr: float

    def __post_init__(self) -> None:
        """Raises TutorialError for numbers that cannot be trained with."""
        if self.steps < 1 or self.batch < 1:
            raise TutorialError(f"a run has {self.steps} steps of {self.batch} samples; use 1 or more of both.")
        if not 0 < self.lr < math.inf:
            raise TutorialError(f"the learning rate is {self.lr}; it must be above 0.")


#: What page 07 trains, by profile: the teacher and the student.
TEACHER = {"smoke": Run(20, 64, 3e-3), "cpu": Run(4000, 512, 3e-3), "gpu": Run(8000, 1024, 3e-3)}
STUDENT = {"smoke": Run(20, 64, 1e-3), "cpu": Run(3000, 512, 1e-3), "gpu": Run(8000, 1024, 1e-3)}


class Jumps(NamedTuple):
    """A batch: data and noise ``[B, ...]``, times ``t`` and ``s`` ``[B]``, and the points ``x`` at time t."""

    data: Tensor
    noise: Tensor
    t: Tensor
    s: Tensor
    x: Tensor


Direction: TypeAlias = Callable[[Network, Jumps, float, int], Tensor]
"""``(student, jumps, r, step) -> g [B, ...]``."""


def eulerian(teacher: Velocity) -> Direction:
    """AYF-EMD: :func:`~vos_tutorial.models.flow_map.emd_direction` with the teacher's velocity."""
    return lambda student, b, r, step: emd_direction(student, b.x, b.t, b.s, teacher(b.x, b.t), r, step=step)


def lagrangian(teacher: Velocity) -> Direction:
    """AYF-LMD: :func:`~vos_tutorial.models.flow_map.lmd_direction`."""
    return lambda student, b, r, step: lmd_direction(student, b.x, b.t, b.s, teacher, r, step=step)


def mean_flow() -> Direction:
    """MeanFlow (Geng et al., 2025): no teacher; the velocity is that of the sample's own line, ``noise - data``."""
    return lambda student, b, r, step: emd_direction(student, b.x, b.t, b.s, b.noise - b.data, r, step=step)


def by_length(samples: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """:func:`~vos_tutorial.models.flow_map.interval_first` with its usual numbers."""
    return interval_first(samples, generator=generator)


def sorted_pair(samples: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """:func:`~vos_tutorial.models.flow_map.two_sorted` with its usual numbers."""
    return two_sorted(samples, generator=generator)


def to_the_data(samples: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Jumps that all end at 0, from anywhere: a consistency model's training."""
    return torch.rand(samples, generator=generator), torch.zeros(samples)


def learn_velocity(
    network: nn.Module,
    draw: Draw | DrawLabelled,
    run: Run,
    seed: int = 0,
    *,
    drop: float = 0.1,
    progress: bool = False,
) -> list[float]:
    """Flow matching: teach a network the velocity of the flow from noise to data, in place.

    Args:
        network: ``(x, t)``, or ``(x, t, label)`` where the data have labels.
        draw: the data.
        run: how long.
        seed: of data, noise and times.
        drop: the share of labels that are replaced by "any", the last one, for classifier-free guidance.
        progress: show a bar on stderr.

    Returns:
        the loss of every step. It does not fall to zero: many lines cross at a point, and the velocity is their mean.

    Raises:
        TutorialError: if the loss is not finite.
    """
    generator = torch.Generator().manual_seed(seed)

    def loss(step: int) -> tuple[Tensor, float]:
        drawn = draw(run.batch, generator)
        data, *labels = drawn if isinstance(drawn, tuple) else (drawn,)
        labels = [torch.where(torch.rand(len(y), generator=generator) < drop, -1, y) for y in labels]
        noise = torch.randn(data.shape, generator=generator)
        t = torch.rand(len(data), generator=generator)
        error = network(interpolate(data, noise, t), t, *labels) - (noise - data)  # [B, ...]
        value = error.square().flatten(1).sum(1).mean()
        return value, value.detach().item()

    return _descend(network, loss, run, "velocity", progress)


def distil(
    student: nn.Module,
    draw: Draw,
    direction: Direction,
    run: Run,
    seed: int = 0,
    *,
    times: Times = by_length,
    warm_up_steps: int | None = None,
    cap: float = 0.99,
    c: float | None = 0.1,
    progress: bool = False,
) -> list[float]:
    """Teach ``student(x, t, s)`` a flow map, in place.

    Args:
        student: begins, as a rule, as its teacher with an input ``s`` of zero weights.
        draw: the data.
        direction: :func:`eulerian`, :func:`lagrangian` or :func:`mean_flow`.
        run: how long.
        seed: of data, noise and times.
        times: the jumps to train on.
        warm_up_steps: steps until ``r`` has reached its cap; by default a quarter of the run.
        cap: of ``r``.
        c: of the normalisation of the direction; None leaves the direction as it is.
        progress: show a bar on stderr.

    Returns:
        the mean length ``|g|`` of the direction at every step, before normalisation: zero on a true flow map.
        (Without a teacher it does not fall to zero, as in :func:`learn_velocity`.)

    Raises:
        TutorialError: if the student ignores ``s``, or a direction is not finite; the step is named.
    """
    generator = torch.Generator().manual_seed(seed)
    length = run.steps // 4 if warm_up_steps is None else warm_up_steps

    def jumps() -> Jumps:
        data = draw(run.batch, generator)
        noise = torch.randn(data.shape, generator=generator)
        t, s = times(run.batch, generator)
        return Jumps(data, noise, t, s, interpolate(data, noise, t))

    def loss(step: int) -> tuple[Tensor, float]:
        b = jumps()
        with torch.no_grad():
            g = direction(student, b, warm_up(step, length, cap), step)
        F = student(b.x, b.t, b.s)
        norm = g.flatten(1).norm(dim=1).mean().item()
        return direction_loss(F, g if c is None else normalise(g, c)), norm

    first = torch.Generator().manual_seed(seed)
    require_use_of_s(student, draw(2, first), torch.tensor([0.5, 0.9]))
    return _descend(student, loss, run, "flow map", progress)


def _descend(
    network: nn.Module, loss: Callable[[int], tuple[Tensor, float]], run: Run, what: str, progress: bool
) -> list[float]:
    """Adam with a falling learning rate; what each step logs."""
    optimizer = torch.optim.Adam([p for p in network.parameters() if p.requires_grad], run.lr, fused=True)
    logged = []
    network.train()
    for step in tqdm(
        range(run.steps), desc=what, unit="step", file=sys.stderr, mininterval=0.5, disable=not progress
    ):
        value, log = loss(step)
        if not math.isfinite(log):
            raise TutorialError(
                f"the loss of the {what} is {log} at step {step}; lower the learning rate ({run.lr})."
            )
        optimizer.param_groups[0]["lr"] = run.lr * (1 + math.cos(math.pi * step / run.steps)) / 2
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        logged.append(log)
    network.eval()
    return logged
