"""A bfloat16 network computing in float32, without a float32 copy of its weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

LAYERS = {F.linear, F.rms_norm, F.layer_norm}


class Widened(TorchFunctionMode):
    """Inside, linear and normalisation layers widen their weights to float32 on the way in, one layer at a time.

    A direction of descent is made of differences of nearly equal numbers, of which bfloat16's 8 bits leave noise: on
    random networks of FLUX's classes a fifth of the derivative was rounding error, and under a hundredth in
    TensorFloat-32 (``benchmarks/flux.py``). A float32 copy of FLUX's weights would take 48 GB; the largest layer's
    takes 190 MB.
    """

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func in LAYERS:
            args = tuple(_wide(value) for value in args)
            kwargs = {name: _wide(value) for name, value in kwargs.items()}
        return func(*args, **kwargs)


def _wide(value: Any) -> Any:
    low = isinstance(value, Tensor) and value.dtype in (torch.bfloat16, torch.float16)
    return value.float() if low else value
