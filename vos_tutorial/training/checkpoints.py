"""``checkpoint.pt``: everything that the next step depends on."""

from __future__ import annotations

import dataclasses
import io
import pickle
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import TutorialError
from ..files import write_atomically


@dataclass
class Checkpoint:
    """A run between two steps.

    Attributes:
        plan: see :func:`~vos_tutorial.training.plan.plan`: a run resumes only with the same.
        stage: index of the stage.
        step: steps done in that stage.
        seconds: training time so far.
        network: the network's state, name -> tensor.
        ema: the averaged state, or None.
        optimizer: the optimiser's state dict.
        frozen: what does not learn, the fields of :class:`~vos_tutorial.training.frozen.Frozen`; None in files of
            runs that began before it was kept.
        start: what the run began with, in words.
    """

    plan: str
    stage: int
    step: int
    seconds: float
    network: Mapping[str, Tensor]
    ema: Mapping[str, Tensor] | None
    optimizer: dict[str, Any]
    frozen: Mapping[str, list[str]] | None = None
    start: str = "random"


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint; TutorialError with the old one intact if it cannot be written (full disk)."""
    buffer = io.BytesIO()  # torch.save to a full disk fails in C++ with a message about zip files
    torch.save({field.name: getattr(checkpoint, field.name) for field in dataclasses.fields(checkpoint)}, buffer)
    write_atomically(path, buffer.getbuffer())


def load_checkpoint(path: Path, device: torch.device) -> Checkpoint | None:
    """Read a checkpoint (tensors and plain values only, no code), or None if there is none.

    Args:
        path: the file.
        device: where its tensors shall be.

    Raises:
        TutorialError: if the file may not be read, is broken, or is not a checkpoint of ours. Only a file that is
            proven broken may be deleted; others may be of use to someone.
    """
    try:
        if not path.exists():
            return None
        data = path.read_bytes()
    except OSError as error:
        raise TutorialError(
            f"cannot read {path} ({error.strerror or error}), and the run in it is kept; make it readable, or choose "
            "another output folder."
        ) from error
    if data and not data.startswith(b"PK"):
        raise TutorialError(
            f"{path} is not a readable checkpoint, but something else; it stays as it is: choose another output "
            "folder."
        )
    if not _whole_archive(data):
        raise TutorialError(
            f"{path} is not a readable checkpoint; delete it to start again, or choose another output folder."
        )
    try:
        found = Checkpoint(**torch.load(io.BytesIO(data), map_location=device, weights_only=True))
        _require_kinds(found)
        return found
    except (RuntimeError, EOFError, TypeError, ValueError, KeyError, pickle.UnpicklingError) as error:
        raise TutorialError(
            f"{path} is not a readable checkpoint of this version; it stays as it is: choose another output folder."
        ) from error


def _require_kinds(found: Checkpoint) -> None:
    """Raise ValueError unless each entry is of its kind."""

    def tensors(value: object) -> bool:
        return isinstance(value, Mapping) and all(isinstance(each, Tensor) for each in value.values())

    right = {
        "plan": isinstance(found.plan, str),
        "stage": type(found.stage) is int and found.stage >= 0,
        "step": type(found.step) is int and found.step >= 0,
        "seconds": isinstance(found.seconds, (int, float)) and found.seconds >= 0,
        "network": tensors(found.network),
        "ema": found.ema is None or tensors(found.ema),
        "optimizer": isinstance(found.optimizer, dict),
        "frozen": found.frozen is None or isinstance(found.frozen, Mapping),
        "start": isinstance(found.start, str),
    }
    if wrong := [name for name, fits in right.items() if not fits]:
        raise ValueError(f"{wrong[0]} is none")


def _whole_archive(data: bytes) -> bool:
    """Whether this is a zip file, as ``torch.save`` writes it, whose parts are all there and unchanged."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            return archive.testzip() is None
    except (zipfile.BadZipFile, EOFError, NotImplementedError, ValueError, OSError):
        return False
