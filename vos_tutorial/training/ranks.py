"""Several processes, one training run (``torchrun``): which one is this, and what do all agree on.

They may be on one machine or on several; those read one folder of the run, in which only the first writes.

Each process computes the gradient of its share of the batch; the gradients are averaged, and every process
takes the same optimiser step. With one process everything here is a no-op.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from ..errors import TutorialError

T = TypeVar("T")


@dataclass(frozen=True)
class Ranks:
    """This process among ``world``: ``rank`` of 0..world-1, computing on ``device``."""

    rank: int
    world: int
    device: torch.device

    @property
    def first(self) -> bool:
        """True in the one process that writes files and prints."""
        return self.rank == 0

    def share(self, samples: list[T]) -> list[T]:
        """This process's contiguous part of a batch; TutorialError if the batch does not divide evenly."""
        if len(samples) % self.world:
            raise TutorialError(
                f"a batch of {len(samples)} cannot be shared evenly by {self.world} processes; "
                "change the number of processes, or the batch with --set STAGE.batch=N."
            )
        each = len(samples) // self.world
        return samples[self.rank * each : (self.rank + 1) * each]

    def mean(self, values: Tensor) -> Tensor:
        """``float [N]`` -> its mean over the processes, the same in each."""
        if self.world > 1:
            values = values.clone()
            dist.all_reduce(values)
            values /= self.world
        return values

    def any(self, flag: bool) -> bool:
        """Whether the flag is set in any process."""
        return bool(self.mean(torch.tensor([float(flag)], device=self.device)) > 0)

    def same(self, number: int) -> bool:
        """Whether all processes hold the same number; the same answer in each."""
        if self.world == 1:
            return True
        ends = torch.tensor([number, -number], device=self.device)
        dist.all_reduce(ends, dist.ReduceOp.MAX)
        return int(ends[0]) == -int(ends[1])

    def distribute(self, module: nn.Module) -> nn.Module:
        """The module with its gradients averaged over the processes, starting from the weights of rank 0."""
        if self.world == 1:
            return module
        # 1x1 convolutions have one memory order under two names; torch warns, and nothing is lost.
        warnings.filterwarnings("ignore", "Grad strides do not match bucket view strides")
        ids = [self.device.index] if self.device.type == "cuda" else None
        # Not every stage of a recipe uses every parameter, hence find_unused_parameters.
        return DistributedDataParallel(module, device_ids=ids, find_unused_parameters=True)


@contextmanager
def join_ranks(device: torch.device) -> Iterator[Ranks]:
    """Meet the other processes that ``torchrun`` started (nccl on CUDA, gloo on CPU); alone without ``torchrun``.

    Raises:
        TutorialError: if there are more processes than GPUs.
    """
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world == 1:
        yield Ranks(0, 1, device)
        return
    if device.type == "cuda":
        local = int(os.environ.get("LOCAL_RANK", "0"))
        if local >= torch.cuda.device_count():
            raise TutorialError(
                f"process {local} has no GPU, there are {torch.cuda.device_count()}; start torchrun with as many "
                "processes as GPUs."
            )
        device = torch.device("cuda", local)
        torch.cuda.set_device(device)
    ours = not dist.is_initialized()
    if ours:
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield Ranks(dist.get_rank(), dist.get_world_size(), device)
    finally:
        if ours:
            dist.destroy_process_group()
