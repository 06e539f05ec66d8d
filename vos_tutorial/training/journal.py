"""``log.jsonl``: one JSON line per step, and never two for one step; and the watch over NaN.

Scalars stay on the device for some steps and are fetched in one go: asking for each would stop a GPU every time.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import TutorialError
from ..files import write_atomically
from ..recipes import Recipe
from .ranks import Ranks

Record = dict[str, Any]  # one step: stage, step, lr, loss, grad_norm, and what the task logs


class Journal:
    """The records of a run, in memory and, if there is a folder, on disk.

    Args:
        path: of the log; None keeps the records in memory.
        recipe: for the order of the stages, and for sentences.
        ranks: scalars are averaged over the processes; the first one writes.
    """

    def __init__(self, path: Path | None, recipe: Recipe, ranks: Ranks) -> None:
        self.path, self.recipe, self.ranks = path, recipe, ranks
        self.records: list[Record] = []
        self._pending: list[tuple[Record, dict[str, Tensor]]] = []  # steps whose numbers are still on the device

    def resume(self, stage: int, step: int) -> None:
        """Take up what was logged up to a position; lines after it are cut off."""
        if self.path is not None and self.ranks.first:
            self.records = cut_log(self.path, self.recipe, stage, step)

    def note(self, record: Record, scalars: dict[str, Tensor]) -> None:
        """Remember a step; nothing is fetched yet."""
        self._pending.append((record, scalars))

    def read(self, saved: str | None) -> Record | None:
        """Fetch, check and write what was noted; returns the last record.

        Args:
            saved: the last good checkpoint, in words.

        Raises:
            TutorialError: if a loss or gradient is NaN or infinite, or the log cannot be written.
        """
        values = [
            value.float().reshape(()).to(self.ranks.device)
            for _, scalars in self._pending
            for value in scalars.values()
        ]
        numbers = iter(self.ranks.mean(torch.stack(values)).tolist()) if values else iter(())
        records = [record | {name: next(numbers) for name in scalars} for record, scalars in self._pending]
        self._pending = []
        for record in records:
            self._require_finite(record, saved)
        self.records += records
        if self.path is not None and self.ranks.first:
            append_log(self.path, records)
        return records[-1] if records else None

    def _require_finite(self, record: Record, saved: str | None) -> None:
        for name in ("loss", "grad_norm"):
            if math.isfinite(record[name]):
                continue
            what = "loss" if name == "loss" else "gradient"
            # what a task logs tells where it came from: which loss, which of two players
            parts = [k for k, v in record.items() if isinstance(v, float) and not math.isfinite(v)]
            parts = [k for k in parts if k not in ("loss", "grad_norm")]
            where = f" (as did {', '.join(parts)})" if parts else ""
            last = f"the last good checkpoint is {saved}" if saved else "there is no checkpoint yet"
            steps = next(stage.steps for stage in self.recipe.stages if stage.name == record["stage"])
            raise TutorialError(
                f"the {what} became {record[name]}{where} at step {record['step']} of {steps} of stage "
                f"{record['stage']!r} (learning rate {record['lr']:.3g}), and {last}; lower the learning rate, "
                "set clip_norm, or look for bad values in the data."
            )


def cut_log(path: Path, recipe: Recipe, stage: int, step: int) -> list[Record]:
    """Cut ``log.jsonl`` back to a position in the recipe; returns the records that stay.

    Args:
        path: the log; a missing one counts as empty. Lines that are no record (a process was killed while it wrote)
            are left out.
        recipe: gives the order of the stages.
        stage: index of the stage reached.
        step: steps done in it.

    Raises:
        TutorialError: if the log cannot be read, or the shortened one cannot be written.
    """
    order = {each.name: i for i, each in enumerate(recipe.stages)}
    kept: dict[tuple[int, int], Record] = {}
    try:
        lines = path.read_text(errors="replace").splitlines() if path.exists() else []
    except OSError as error:
        raise TutorialError(
            f"cannot read {path} ({error.strerror or error}); make it readable, or choose another output folder."
        ) from error
    for line in lines:
        try:
            record = json.loads(line)
            place = order[record["stage"]], record["step"]
            if place <= (stage, step):
                kept[place] = record
        except (ValueError, KeyError, TypeError):
            continue
    records = [kept[place] for place in sorted(kept)]
    write_atomically(path, "".join(json.dumps(record) + "\n" for record in records).encode())
    return records


def append_log(path: Path, records: list[Record]) -> None:
    """Append records to ``log.jsonl`` and flush; TutorialError if that fails (full disk)."""
    try:
        with open(path, "a") as file:
            file.writelines(json.dumps(record) + "\n" for record in records)
    except OSError as error:
        raise TutorialError(
            f"cannot write {path} ({error.strerror or error}); free some space and run the same command again."
        ) from error
