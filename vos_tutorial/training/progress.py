"""What you see while a training runs: a bar, the loss, and at paper scale an estimate of time and memory."""

from __future__ import annotations

import sys
import time

import torch
from tqdm import tqdm

from ..recipes import Recipe
from .ranks import Ranks

MEASURED = (5, 20)  # the first steps also load kernels


class Progress:
    """A bar on stderr; recipes of size smoke, and all processes but the first, show none.

    Args:
        recipe: how long it is.
        done: steps done in earlier sittings.
        shown: False shows nothing.
        ranks: who of several processes we are.
    """

    def __init__(self, recipe: Recipe, done: int, shown: bool, ranks: Ranks) -> None:
        self.recipe, self.ranks, self.new_steps, self._began = recipe, ranks, 0, 0.0
        self.bar = tqdm(
            total=recipe.steps,
            initial=done,
            desc=f"train {recipe.method}",
            unit="step",
            file=sys.stderr,
            mininterval=0.5,
            disable=not (shown and ranks.first and recipe.profile != "smoke"),
        )

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *error: object) -> None:
        self.bar.close()

    def loss(self, stage: str, value: float) -> None:
        """Show the loss beside the bar."""
        self.bar.set_postfix_str(f"{stage}, loss {value:.4g}", refresh=False)

    def step(self, done: int) -> None:
        """A step more; after the first ones of a long run, what the rest will take."""
        self.new_steps += 1
        self.bar.update()
        first, last = MEASURED
        if self.new_steps == first:
            self._began = time.perf_counter()
        if self.new_steps == last and self.recipe.profile == "gpu" and not self.bar.disable:
            self._say_cost((last - first) / (time.perf_counter() - self._began), done)

    def _say_cost(self, rate: float, done: int) -> None:
        memory = ""
        if self.ranks.device.type == "cuda":
            torch.cuda.synchronize(self.ranks.device)
            memory = f"peak memory {torch.cuda.max_memory_allocated(self.ranks.device) / 2**30:.1f} GiB, "
        minutes = (self.recipe.steps - done) / rate / 60
        self.bar.write(f"{memory}{rate:.2f} steps/s, about {minutes:.0f} minutes to go", file=sys.stderr)
