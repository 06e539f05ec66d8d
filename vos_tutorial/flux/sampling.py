"""From a prompt to a picture in 1 to 8 calls, with diffusers' scheduler for flow maps."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..errors import TutorialError
from ..models import flow_map
from .latents import shift
from .network import Condition, FluxFlowMap
from .packages import package


def schedule(steps: int, tokens: int) -> list[float]:
    """The times of a picture of so many tokens, ``1 = t_0 > ... > t_N = 0``: even ones, shifted.

    Raises:
        TutorialError: if there is no step.
    """
    return [float(t) for t in _scheduler(steps, tokens).sigmas]


@torch.no_grad()
def sample(
    network: FluxFlowMap,
    condition: Condition,
    steps: int = 4,
    gamma: float = 0.0,
    generator: torch.Generator | None = None,
    teacher: bool = False,
) -> Tensor:
    """Tokens ``float32 [B, h w, C]`` for :meth:`~vos_tutorial.flux.encoders.Encoders.decode`.

    Without fresh noise (``gamma = 0``) diffusers' ``FlowMapEulerDiscreteScheduler`` takes the steps, with it
    :func:`vos_tutorial.models.flow_map.sample`; both on the same times.

    Args:
        network: student and teacher.
        condition: prompts and the size of the picture.
        steps: calls of the network.
        gamma: in [0, 1], see :func:`vos_tutorial.models.flow_map.sample`.
        generator: of the noise, on the CPU, so that a seed means one picture on all machines.
        teacher: Euler steps of FLUX itself instead, with its adapters off.

    Raises:
        TutorialError: if there is no step, ``gamma`` leaves [0, 1], or the teacher is asked for a ``gamma``.
    """
    if teacher and gamma:
        raise TutorialError(f"gamma is {gamma} and the teacher has no flow map to jump with; leave one of them out.")
    weight = network.transformer.x_embedder.weight
    tokens = condition.grid[0] * condition.grid[1]
    noise = torch.randn(len(condition.prompt), tokens, weight.shape[1], generator=generator).to(weight.device)

    def average(x: Tensor, t: Tensor, s: Tensor) -> Tensor:
        x = x.to(weight.dtype)
        return network.velocity(x, t, condition) if teacher else network(x, t, s, condition)

    if gamma:
        return flow_map.sample(average, noise, schedule(steps, tokens), gamma, generator)
    scheduler, x = _scheduler(steps, tokens), noise
    for i, timestep in enumerate(scheduler.timesteps):
        t, s = (x.new_full((len(x),), float(scheduler.sigmas[j])) for j in (i, i + 1))
        x = scheduler.step(average(x, t, s), timestep, x).prev_sample  # [B, h w, C]
    return x


def _scheduler(steps: int, tokens: int) -> Any:
    if steps < 1:
        raise TutorialError(f"the number of steps is {steps}; use 1 or more.")
    kind = getattr(package("diffusers"), "FlowMapEulerDiscreteScheduler", None)
    if kind is None:
        raise TutorialError(
            f"diffusers {package('diffusers').__version__} has no FlowMapEulerDiscreteScheduler; install a newer one."
        )
    scheduler = kind(shift=shift(tokens))
    scheduler.set_timesteps(steps)
    return scheduler
