"""One step down the gradient."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import nullcontext

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from ..errors import TutorialError
from ..recipes import Stage
from .optimisers import Optimizer
from .tasks import Task


class Objective(nn.Module):
    """Network and task as one module whose ``forward`` is the loss: what DistributedDataParallel wraps."""

    def __init__(self, network: nn.Module, task: Task, stage: Stage) -> None:
        super().__init__()
        self.network = network
        self._task, self.stage = task, stage

    def forward(self, batch: Mapping[str, Tensor]) -> tuple[Tensor, Mapping[str, Tensor]]:
        """The batch's scalar loss, and the scalars to log."""
        return self._task.loss(self.network, batch, self.stage)


def optimise(
    objective: nn.Module,
    optimizer: Optimizer,
    batch: Mapping[str, Tensor],
    lr: float,
    clip_norm: float | None,
    amp: bool,
    accumulate: int = 1,
) -> dict[str, Tensor]:
    """One optimiser step.

    Args:
        objective: gives the loss of a batch, and scalars to log.
        optimizer: of the parameters that learn.
        batch: tensors ``[B, ...]``.
        lr: the learning rate; groups may scale it.
        clip_norm: the largest L2 norm of the gradient, or None.
        amp: forward under bfloat16 autocast.
        accumulate: the batch goes through in so many equal parts, whose gradients are averaged.

    Returns:
        detached scalars: ``loss``, ``grad_norm`` (before clipping) and what the task logs.
    """
    for group in optimizer.param_groups:
        group["lr"] = lr * group.get("lr_scale", 1.0)
    optimizer.zero_grad(set_to_none=True)
    found = [_gradient(objective, part, amp, accumulate, last) for part, last in _parts(batch, accumulate)]
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    norm = torch.nn.utils.clip_grad_norm_(parameters, math.inf if clip_norm is None else clip_norm)
    optimizer.step()
    scalars = found[0] if accumulate == 1 else {k: torch.stack([f[k] for f in found]).mean() for k in found[0]}
    return {"loss": scalars["loss"], "grad_norm": norm.detach(), **scalars}


def _gradient(
    objective: nn.Module, batch: Mapping[str, Tensor], amp: bool, accumulate: int, last: bool
) -> dict[str, Tensor]:
    """Add a part's share to the gradient; processes average theirs when the last part is through."""
    device = next(objective.parameters()).device
    wait = objective.no_sync() if isinstance(objective, DistributedDataParallel) and not last else nullcontext()
    # bfloat16 has float32's range, so unlike float16 it needs no loss scaling.
    with wait:
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=amp):
            loss, logs = objective(batch)
        (loss if accumulate == 1 else loss / accumulate).backward()
    return {name: value.detach() for name, value in {"loss": loss, **logs}.items()}


def _parts(batch: Mapping[str, Tensor], count: int) -> Iterator[tuple[Mapping[str, Tensor], bool]]:
    """The batch in ``count`` equal parts, ``[B, ...] -> [B/count, ...]``, and whether it is the last one."""
    if count == 1:
        yield batch, True
        return
    size = len(next(iter(batch.values())))
    if size % count:
        raise TutorialError(
            f"a process's {size} samples cannot be split into {count} equal parts; change --set STAGE.accumulate=N."
        )
    pieces = {name: value.chunk(count) for name, value in batch.items()}
    for i in range(count):
        yield {name: each[i] for name, each in pieces.items()}, i == count - 1


# ------------------------------------------------------------------------------------------------- memory order


def in_channels_last(value: Tensor) -> Tensor:
    """Pictures ``float [B, C, H, W]`` in channels-last order. Ids are no pictures, and clips stay as they are."""
    if value.ndim == 4 and value.is_floating_point():
        return value.contiguous(memory_format=torch.channels_last)
    return value


def channels_last(network: nn.Module) -> None:
    """4-d weights in channels-last order; ``Module.to`` would refuse networks with 5-d weights (3-d convolutions)."""
    for parameter in network.parameters():
        parameter.data = in_channels_last(parameter.data)
