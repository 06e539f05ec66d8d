"""The validation curve: the last stage's loss on clips that are always the same."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from ..recipes import Recipe
from .batches import derived_seed
from .step import Objective
from .tasks import Task

STREAM = 2**32 - 1  # no run has so large a seed and stage; whatever the run's seed, the clips are the same


class Validation:
    """Fixed clips, made once. A point on the curve changes nothing: resumed runs end with the same weights.

    Args:
        task: makes the clips, and knows the loss.
        recipe: the clips are the last stage's, with its options at its end, so that stages can be compared.
        device: of the network.
    """

    def __init__(self, task: Task, recipe: Recipe, device: torch.device) -> None:
        assert recipe.validate is not None
        last = recipe.stages[-1]
        self.task, self.stage, self.device, self.amp = task, last.at(last.steps - 1), device, recipe.amp
        seeds = [derived_seed(STREAM, STREAM, i) for i in range(recipe.validate.clips)]
        cpu = torch.device("cpu")
        self.batches = [
            (len(some), task.batch(self.stage, some, cpu))
            for some in (seeds[i : i + last.batch] for i in range(0, len(seeds), last.batch))
        ]

    @torch.no_grad()
    def point(self, network: nn.Module, average: Mapping[str, Tensor] | None) -> dict[str, Tensor]:
        """``val_loss``, and ``val_`` with each scalar that the task logs: means over the clips, ``float []``.

        Args:
            network: in any mode, which it keeps.
            average: the weights to look at, where they are not the network's own.
        """
        buffers = dict(network.named_buffers())
        state = {**buffers, **(average or {})}
        state |= {name: state[name].clone() for name in buffers}  # a loss may move them (the switches of a GAN)
        modes = [(module, module.training) for module in network.modules()]
        network.eval()
        objective = Objective(network, self.task, self.stage)
        weights = {f"network.{name}": value for name, value in state.items()}
        total: dict[str, Tensor] = {}
        for count, batch in self.batches:
            here = {name: value.to(self.device) for name, value in batch.items()}
            with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.amp):
                loss, logs = torch.func.functional_call(objective, weights, (here,))
            for name, value in {"loss": loss, **logs}.items():
                total[name] = total.get(name, torch.zeros((), device=self.device)) + count * value.detach().float()
        for module, mode in modes:
            module.training = mode
        clips = sum(count for count, _ in self.batches)
        return {f"val_{name}": value / clips for name, value in total.items()}
