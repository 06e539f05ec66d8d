"""Optimisers: the learning rate of each step, AdamW and SGD over a task's parameter groups, averaged weights."""

from __future__ import annotations

import math
from typing import Any, TypeAlias

import torch
from torch import nn

from ..recipes import Stage


def learning_rate(stage: Stage, step: int) -> float:
    """The learning rate of a step (0 = first): linear warm-up to ``stage.lr``, then the schedule towards the end."""
    if step < stage.warmup:
        return stage.lr * (step + 1) / stage.warmup
    done = (step - stage.warmup) / (stage.steps - stage.warmup)
    if stage.schedule == "cosine":
        return stage.lr * 0.5 * (1 + math.cos(math.pi * done))
    if stage.schedule == "poly":
        return stage.lr * (1 - done) ** 0.9
    return stage.lr


def make_optimizer(stage: Stage, groups: list[dict[str, Any]]) -> Optimizer:
    """AdamW or SGD with momentum over the task's parameter groups; both, where groups ask for different ones."""
    kinds: dict[str, list[dict[str, Any]]] = {}
    for group in groups:
        kept = {key: value for key, value in group.items() if key != "optimizer"}
        kinds.setdefault(group.get("optimizer", stage.optimizer), []).append(kept)
    made: list[torch.optim.Optimizer] = []
    for kind, some in kinds.items():
        if kind == "sgd":
            made.append(torch.optim.SGD(some, lr=stage.lr, momentum=stage.momentum, weight_decay=stage.weight_decay))
        else:
            made.append(torch.optim.AdamW(some, lr=stage.lr, weight_decay=stage.weight_decay))
    return made[0] if len(made) == 1 else SeveralOptimizers(made)


class SeveralOptimizers:
    """Optimisers of disjoint parameters that step together, with the methods of an optimiser that the loop calls."""

    def __init__(self, each: list[torch.optim.Optimizer]) -> None:
        self.each = each

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """Those of all."""
        return [group for optimizer in self.each for group in optimizer.param_groups]

    def zero_grad(self, set_to_none: bool = True) -> None:
        """As an optimiser's."""
        for optimizer in self.each:
            optimizer.zero_grad(set_to_none)

    def step(self) -> None:
        """As an optimiser's."""
        for optimizer in self.each:
            optimizer.step()

    def state_dict(self) -> dict[str, Any]:
        """Theirs, in order, under ``each``."""
        return {"each": [optimizer.state_dict() for optimizer in self.each]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Back from :meth:`state_dict`."""
        for optimizer, own in zip(self.each, state["each"], strict=True):
            optimizer.load_state_dict(own)


Optimizer: TypeAlias = torch.optim.Optimizer | SeveralOptimizers


class MovingAverage:
    """The exponential moving average of a network's state: ``average += (1 - d) * (weights - average)``.

    After ``n`` updates the decay is ``d = min(decay, (1 + n) / (10 + n))``, so that a short run does not average
    over its random start (the warm-up of TensorFlow's ``ExponentialMovingAverage``). Integer buffers are copied.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.decay = decay
        self.state = {name: value.detach().clone() for name, value in network.state_dict().items()}

    @torch.no_grad()
    def update(self, network: nn.Module, updates: int) -> None:
        """Move towards the network's weights, after ``updates`` earlier calls."""
        decay = min(self.decay, (1 + updates) / (10 + updates))
        for name, value in network.state_dict().items():
            if value.is_floating_point():
                self.state[name].lerp_(value, 1 - decay)
            else:
                self.state[name].copy_(value)
