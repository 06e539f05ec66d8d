"""What each method learns, one file per paper; the contract between task and loop; and the door, :func:`task`."""

from __future__ import annotations

import importlib
from collections.abc import Container, Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from ...errors import TutorialError
from ...models import require_method
from ...recipes import Stage


class Task(Protocol):
    """What is learned. ``tasks/<method>.py`` provides it; the loop calls it.

    A task may also have ``check(stage)``, which raises TutorialError for options that it cannot train with; and
    ``moved_options(stage)``: options of the network's ``build`` that the stage has moved when it ends (STM's
    ``penalty``). The loop sets them on the network between two stages, and the weights file keeps them.
    """

    def batch(self, stage: Stage, seeds: Sequence[int], device: torch.device) -> Mapping[str, Tensor]:
        """``len(seeds)`` samples on ``device``; sample ``i`` depends on ``stage`` and ``seeds[i]`` only.

        Args:
            stage: its ``size`` and ``options`` say what the samples look like; options that grow have the value
                of this step (``Stage.at``), here and in ``loss``.
            seeds: integers in ``[0, 2**63)``, one per sample, never the same twice in a run.
            device: where the tensors must be.

        Returns:
            tensors whose first axis is the sample: ``[B, ...]``.
        """
        ...

    def loss(
        self, network: nn.Module, batch: Mapping[str, Tensor], stage: Stage
    ) -> tuple[Tensor, Mapping[str, Tensor]]:
        """The scalar to minimise, averaged over the samples, and scalars to log (the same names in each process).

        It sets nothing on the network: what it needs comes with ``stage``. (A network's own buffers, such as the
        statistics of batch norm, may move; checkpoints keep them.)
        """
        ...

    def parameters(self, network: nn.Module, stage: Stage) -> list[dict[str, Any]]:
        """Optimiser groups: ``params``; optionally ``lr_scale`` (times the stage's lr), ``weight_decay``, and
        ``optimizer`` where it is not the stage's."""
        ...


def check_options(task: Task, stages: Sequence[Stage]) -> None:
    """Let the task look at every stage, at its first and its last step, before anything begins.

    Raises:
        TutorialError: on an option that the task does not know, or a value that it cannot use.
    """
    check = getattr(task, "check", lambda stage: None)
    for stage in stages:
        for step in (0, stage.steps - 1):
            check(stage.at(step))


def require_source(stage: Stage, source: str, sources: Container[str]) -> None:
    """Raise TutorialError unless there is a source of this name: those of photographs need the reader's pictures."""
    if source not in sources:
        raise TutorialError(
            f"stage {stage.name!r} learns from photographs; give pictures with masks (--stills DIR), and "
            "cut-outs with alpha if you have some (--cutouts DIR)."
        )


def moved_options(task: Task, stage: Stage) -> Mapping[str, Any]:
    """What :class:`Task` says of a stage that has ended; nothing by default."""
    moved = getattr(task, "moved_options", None)
    return dict(moved(stage.at(stage.steps - 1))) if moved is not None else {}


def task(name: str, **sources: Any) -> Any:
    """A method's training task; ``sources`` are where its data come from, see the method's own ``task``.

    Raises:
        TutorialError: on an unknown method.
    """
    return importlib.import_module(f"{__name__}.{require_method(name)}").task(**sources)
