"""Where the samples of a step come from: seeds that the position alone decides, and a thread that works ahead."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor

from ..recipes import Recipe
from .ranks import Ranks
from .tasks import Task


def derived_seed(*parts: int) -> int:
    """A seed in ``[0, 2**63)`` from a path of integers >= 0; different paths give unrelated seeds."""
    return int(np.random.SeedSequence(list(parts)).generate_state(1, np.uint64)[0] >> np.uint64(1))


def sample_seeds(seed: int, stage: int, step: int, batch: int) -> list[int]:
    """The seeds of the samples of one step: a pure function, so that data order needs no state.

    Args:
        seed: of the run, >= 0.
        stage: index of the stage.
        step: 0 = first of the stage.
        batch: number of samples, over all processes.
    """
    return [derived_seed(seed, stage, step, sample) for sample in range(batch)]


class Prefetch:
    """Makes the next batch of a stage while the network works on this one.

    One thread, with one core, is enough; and since a batch is a function of its seeds alone, it is the same batch
    whenever it is made.
    """

    def __init__(self, task: Task, recipe: Recipe, seed: int, ranks: Ranks) -> None:
        self.task, self.recipe, self.seed, self.ranks = task, recipe, seed, ranks
        self._thread = ThreadPoolExecutor(1, initializer=torch.set_num_threads, initargs=(1,))
        self._ahead: tuple[tuple[int, int], Future[Mapping[str, Tensor]]] | None = None

    def __enter__(self) -> Prefetch:
        return self

    def __exit__(self, *error: object) -> None:
        self._thread.shutdown()

    def batch(self, stage: int, step: int) -> dict[str, Tensor]:
        """This process's share of a step's batch; the next step's is begun."""
        if self._ahead is not None and self._ahead[0] == (stage, step):
            made = self._ahead[1]
        else:
            made = self._begin(stage, step)
        batch = dict(made.result())
        if step + 1 < self.recipe.stages[stage].steps:
            self._ahead = (stage, step + 1), self._begin(stage, step + 1)
        return batch

    def _begin(self, stage: int, step: int) -> Future[Mapping[str, Tensor]]:
        each = self.recipe.stages[stage]
        seeds: Sequence[int] = self.ranks.share(sample_seeds(self.seed, stage, step, each.batch))
        return self._thread.submit(self.task.batch, each.at(step), seeds, self.ranks.device)
