"""Exercises in which a network is written from its ledger: shapes and numbers of parameters are compared."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from .exercise import Exercise


@dataclass(frozen=True)
class FromALedger(Exercise):
    """An exercise whose answer makes a network.

    A case is the answer's arguments, and the shape of each tensor that goes through the network.
    """

    def _run(self, function: Callable[..., Any], case: str) -> Any:
        arguments, *shapes = self.cases[case]
        network = function(*arguments)
        if network is None:
            return None
        if not isinstance(network, nn.Module):
            raise TypeError(f"you returned {type(network).__name__}, return a torch.nn.Module")
        out = network(*(torch.zeros(shape) for shape in shapes))
        if not isinstance(out, Tensor):
            raise TypeError(f"the network returned {type(out).__name__}, let it return a tensor")
        out.sum().backward()
        parameters = list(network.parameters())
        return {
            "the shape of the answer": list(out.shape),
            "the number of parameters": sum(p.numel() for p in parameters),
            "parameters that take no part": sum(p.numel() for p in parameters if p.grad is None),
        }
