"""How RVOS is trained: with true last masks, then with its own; each clip is one grid with one backward pass."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ..profile import ProfileName
from . import Recipe, Stage

#: With every frame counted alike, the step is the same for clips of any length; the authors sum.
TRUTH: dict[str, Any] = {
    "source": "video",
    "frames": 4,
    "max_skip": 1,
    "slots": 3,
    "previous": "truth",
    "recurrence": "ST",
    "empty": 0.0,
    "bce": 1.0,
    "total": "mean",
}
OWN: dict[str, Any] = {**TRUTH, "previous": "own"}
TOY: dict[str, Any] = {"batch": 8, "size": 96, "lr": 2e-3, "weight_decay": 1e-4, "warmup": 30, "clip_norm": 1.0}

RECIPES: dict[ProfileName, Recipe] = {
    "smoke": Recipe(
        method="rvos",
        profile="smoke",
        network="small",
        stages=(
            Stage("truth", steps=3, batch=2, size=64, lr=2e-3, warmup=1, options={**TRUTH, "frames": 2}),
            Stage("own", steps=3, batch=2, size=64, lr=2e-3, warmup=1, options={**OWN, "frames": 3}),
        ),
        ema=0.99,
        source="ours",
    ),
    "cpu": Recipe(
        method="rvos",
        profile="cpu",
        network="small",
        stages=(
            Stage("truth", steps=200, schedule="constant", options=TRUTH, **TOY),
            Stage("own", steps=300, options=OWN, **TOY),
        ),
        ema=0.99,
        source="ours",
    ),
}
VARIANTS: dict[str, Recipe] = {}
