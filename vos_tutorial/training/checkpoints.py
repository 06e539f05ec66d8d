"""What a training run leaves in its folder: ``checkpoint.pt`` and ``log.jsonl``.

The checkpoint is everything that the next step depends on. The log has one JSON line per step, and never two
for one step: on resuming it is cut back to where the checkpoint stands.
"""

from __future__ import annotations

import dataclasses
import io
import json
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import TutorialError
from ..files import write_atomically
from ..recipes import Recipe

Record = dict[str, Any]  # one step: stage, step, loss, lr, grad_norm, and what the task logs


@dataclass
class Checkpoint:
    """A run between two steps.

    Attributes:
        plan: the recipe and the seed as JSON (:func:`plan`): a run resumes only with the same.
        stage: index of the stage.
        step: steps done in that stage.
        seconds: training time so far.
        network: the network's state, name -> tensor.
        ema: the averaged state, or None.
        optimizer: the optimiser's state dict.
    """

    plan: str
    stage: int
    step: int
    seconds: float
    network: Mapping[str, Tensor]
    ema: Mapping[str, Tensor] | None
    optimizer: dict[str, Any]


def plan(recipe: Recipe, seed: int) -> str:
    """All that decides the run's numbers, as JSON; where the recipe comes from (``source``) does not."""
    numbers = dataclasses.asdict(recipe) | {"seed": seed}
    del numbers["source"]
    return json.dumps(numbers, sort_keys=True)


def _flat(value: Any, name: str = "") -> dict[str, Any]:
    """Nested dicts and lists -> ``{"stages[0].lr": 0.1}``."""
    if isinstance(value, dict) and value:
        items = [(f"{name}.{key}" if name else key, inner) for key, inner in value.items()]
    elif isinstance(value, list) and value:
        items = [(f"{name}[{i}]", inner) for i, inner in enumerate(value)]
    else:
        return {name: value}
    return {key: leaf for path, inner in items for key, leaf in _flat(inner, path).items()}


def require_same_plan(path: Path, old: str, new: str) -> None:
    """Raise TutorialError naming the first things that differ between the plan of ``path`` and the new one."""
    before, now = _flat(json.loads(old)), _flat(json.loads(new))
    missing = "absent"
    changes = [
        f"{key} was {before.get(key, missing)} and is {now.get(key, missing)}"
        for key in sorted({*before, *now})
        if before.get(key, missing) != now.get(key, missing)
    ]
    if changes:
        more = f", and {len(changes) - 3} more" if len(changes) > 3 else ""
        raise TutorialError(
            f"{path} belongs to another recipe ({'; '.join(changes[:3])}{more}); "
            "delete its folder to start anew, or choose another output folder."
        )


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint; TutorialError with the old one intact if it cannot be written (full disk)."""
    buffer = io.BytesIO()  # torch.save to a full disk fails in C++ with a message about zip files
    torch.save({field.name: getattr(checkpoint, field.name) for field in dataclasses.fields(checkpoint)}, buffer)
    write_atomically(path, buffer.getbuffer())


def load_checkpoint(path: Path, device: torch.device) -> Checkpoint | None:
    """Read a checkpoint (tensors and plain values only, no code), or None if there is none.

    Raises:
        TutorialError: if the file is truncated, or is not a checkpoint of ours.
    """
    if not path.exists():
        return None
    try:
        return Checkpoint(**torch.load(path, map_location=device, weights_only=True))
    except (OSError, RuntimeError, EOFError, TypeError, ValueError, pickle.UnpicklingError) as error:
        raise TutorialError(f"{path} is not a readable checkpoint; delete it to start anew.") from error


def cut_log(path: Path, recipe: Recipe, stage: int, step: int) -> list[Record]:
    """Cut ``log.jsonl`` back to a position in the recipe; returns the records that stay.

    Args:
        path: the log; a missing one counts as empty.
        recipe: gives the order of the stages.
        stage: index of the stage reached.
        step: steps done in it.

    Raises:
        TutorialError: if the shortened log cannot be written.
    """
    order = {each.name: i for i, each in enumerate(recipe.stages)}
    kept: list[Record] = []
    for line in path.read_text().splitlines() if path.exists() else []:
        try:
            record = json.loads(line)
            if (order[record["stage"]], record["step"]) <= (stage, step):
                kept.append(record)
        except (ValueError, KeyError, TypeError):  # the line that was being written when the process was killed
            break
    write_atomically(path, "".join(json.dumps(record) + "\n" for record in kept).encode())
    return kept


def append_log(path: Path, records: list[Record]) -> None:
    """Append records to ``log.jsonl`` and flush; TutorialError if that fails (full disk)."""
    try:
        with open(path, "a") as file:
            file.writelines(json.dumps(record) + "\n" for record in records)
    except OSError as error:
        raise TutorialError(
            f"cannot write {path} ({error.strerror or error}); free some space and run the same command again."
        ) from error
