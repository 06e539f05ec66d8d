"""A method small enough to train in a test: is a pixel brighter than a half? Also a script, for tests that kill it.

As a script: ``python toy_method.py OUT SECONDS_PER_STEP`` trains ``RECIPE`` into the folder OUT and saves the final
weights as ``OUT/final.pt``.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vos_tutorial.recipes import Recipe, Stage
from vos_tutorial.training import train

RECIPE = Recipe(
    method="toy",
    profile="cpu",
    network="small",
    source="ours",
    ema=0.99,
    stages=(
        Stage("first", steps=24, batch=4, size=8, lr=1e-2, warmup=4, clip_norm=1.0, options={"flip": False}),
        Stage("second", steps=16, batch=2, size=10, lr=1e-2, optimizer="sgd", schedule="poly"),
    ),
)


class ToyNet(nn.Module):
    """Image ``[B, 3, H, W]`` -> logits ``[B, 1, H, W]``, with batch statistics and dropout unless ``plain``."""

    def __init__(self, plain: bool = False, width: int = 8) -> None:
        super().__init__()
        self.enter = nn.Conv2d(3, width, 3, padding=1)
        self.norm = nn.Identity() if plain else nn.BatchNorm2d(width)
        self.drop = nn.Dropout(0.0 if plain else 0.2)
        self.leave = nn.Conv2d(width, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.leave(self.drop(self.norm(self.enter(x)).relu()))


class ToyTask:
    """Random images; ``before(step)`` is called in each step, where tests make things go wrong."""

    def __init__(self, before: Callable[[int], None] = lambda step: None, poison: int | None = None) -> None:
        self.before, self.poison, self.batches, self.step = before, poison, 0, 0
        self.seen: list[int] = []
        self.dtype: torch.dtype | None = None

    def batch(self, stage: Stage, seeds: Sequence[int], device: torch.device) -> Mapping[str, Tensor]:
        self.batches += 1  # a thread of the loop's makes batches, one ahead of the steps
        self.seen += seeds
        shape = (3, stage.size, stage.size)
        x = torch.stack([torch.rand(shape, generator=torch.Generator().manual_seed(seed)) for seed in seeds])
        if self.batches == self.poison:
            x = x * float("nan")
        return {"x": x.to(device), "y": (x.mean(1, keepdim=True) > 0.5).float().to(device)}

    def loss(self, network: nn.Module, batch: Mapping[str, Tensor], stage: Stage) -> tuple[Tensor, dict[str, Tensor]]:
        self.before(self.step)
        self.step += 1
        logits = network(batch["x"])
        self.dtype = logits.dtype
        right = ((logits > 0) == (batch["y"] > 0.5)).float().mean()
        return nn.functional.binary_cross_entropy_with_logits(logits.float(), batch["y"]), {"accuracy": right}

    def parameters(self, network: nn.Module, stage: Stage) -> list[dict[str, Any]]:
        assert isinstance(network, ToyNet)
        fast = list(network.leave.parameters())
        slow = [p for p in network.parameters() if all(p is not f for f in fast)]
        return [{"params": slow}, {"params": fast, "lr_scale": 10.0}]


def toy_net(seed: int = 0, plain: bool = False) -> ToyNet:
    """The toy network with the initial weights of a seed."""
    torch.manual_seed(seed)
    return ToyNet(plain)


if __name__ == "__main__":
    torch.set_num_threads(1)
    out, pause = Path(sys.argv[1]), float(sys.argv[2])
    plain = len(sys.argv) > 3 and sys.argv[3] == "plain"
    task = ToyTask(before=lambda step: time.sleep(pause))
    run = train(toy_net(plain=plain), task, RECIPE, out=out, progress=False, checkpoint_every=5, log_every=1)
    if not (out / "final.pt").exists():
        torch.save(run.network.state_dict(), out / "final.pt")
