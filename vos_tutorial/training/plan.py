"""All that decides a run's numbers, as JSON: what a checkpoint keeps, a weights file tells, and resuming compares."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from ..errors import TutorialError
from ..recipes import Recipe
from .identity import Start

#: Fields of a recipe that decide no weights.
TELLS = ("source", "validate", "lines", "enlarge", "tuning", "segmenter")


def plan(
    recipe: Recipe,
    seed: int,
    data: Mapping[str, Any] | None = None,
    start: Start | None = None,
    device: torch.device | str = "cpu",
) -> str:
    """Recipe and seed, data (:func:`~vos_tutorial.training.identity.data_identity`), start, and kind of device."""
    numbers = {key: value for key, value in dataclasses.asdict(recipe).items() if key not in TELLS}
    numbers |= {"seed": seed, "data": dict(data or {}), "start": (start or Start()).identity}
    return json.dumps(numbers | {"device": torch.device(device).type}, sort_keys=True)


def differences(old: str, new: str) -> list[str]:
    """What differs between two plans, ``stages[0].lr was 0.1 and is 0.2``; ValueError if the old one is no plan."""
    now = json.loads(new)
    try:
        then = _of_today(json.loads(old), now)
        before, after = (_flat({**each, "data": _data_in_words(each["data"])}) for each in (then, now))
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError(f"no plan of a run: {old:.40}") from error
    return [
        f"{key} was {before.get(key, 'absent')} and is {after.get(key, 'absent')}"
        for key in sorted({*before, *after})
        if before.get(key, "absent") != after.get(key, "absent")
    ]


def _data_in_words(data: Mapping[str, Mapping[str, Any]]) -> str:
    """``/folder (digest 1f..., files 6)`` for each folder."""
    parts = [
        f"{folder} ({', '.join(f'{key} {value}' for key, value in sorted(about.items()))})"
        for folder, about in sorted(data.items())
    ]
    return " and ".join(parts) or "generated"


def require_same_plan(path: Path, old: str, new: str) -> None:
    """Raise TutorialError naming the first things that differ between the plan of ``path`` and the new one."""
    try:
        changes = differences(old, new)
    except ValueError as error:
        raise TutorialError(
            f"{path} does not say which run it is of ({error}); choose another output folder."
        ) from error
    if changes:
        more = f", and {len(changes) - 3} more" if len(changes) > 3 else ""
        raise TutorialError(
            f"{path} belongs to another run ({'; '.join(changes[:3])}{more}); "
            "go on with what it began with, or choose another output folder."
        )


def _of_today(old: dict[str, Any], now: Mapping[str, Any]) -> dict[str, Any]:
    """The plan of a run that may have begun before plans had all of today's fields.

    Such a run has generated data and random weights, unless its plan says otherwise: with data or weights of your own
    it is refused, since nothing shows whether they are the same.
    """
    old = {"data": {}, "start": "random", "device": now["device"], **old}
    if old.get("channels_last") is True:  # what was a choice then is the rule now
        del old["channels_last"]
    for stage in old.get("stages", []):
        stage.setdefault("accumulate", 1)
        if stage.get("poly_power") == 0.9:
            del stage["poly_power"]
        if not stage["options"].get("aux", True):
            del stage["options"]["aux"]
    return {key: value for key, value in old.items() if key not in TELLS}


def _flat(value: Any, name: str = "") -> dict[str, Any]:
    """Nested dicts and lists -> ``{"stages[0].lr": 0.1}``."""
    if isinstance(value, dict) and value:
        items = [(f"{name}.{key}" if name else key, inner) for key, inner in value.items()]
    elif isinstance(value, list) and value:
        items = [(f"{name}[{i}]", inner) for i, inner in enumerate(value)]
    else:
        return {name: value}
    return {key: leaf for path, inner in items for key, leaf in _flat(inner, path).items()}
