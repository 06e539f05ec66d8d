"""How the generators of the captioned world are trained (notebook 07), at three sizes; none of them is a method."""

from __future__ import annotations

from typing import Any

from ..profile import ProfileName
from . import Recipe, Stage

#: The network: a quarter of a DiT-S in width, half of it in depth, on patches of 4 pixels.
SMALL: dict[str, Any] = {"patch": 4, "width": 96, "depth": 6, "heads": 4}
#: DiT-S/2 of the paper.
LARGE: dict[str, Any] = {"patch": 2, "width": 384, "depth": 12, "heads": 6}

LAPTOP: dict[str, Any] = {"batch": 32, "size": 32, "lr": 1e-3, "warmup": 100, "clip_norm": 1.0}
SMOKE: dict[str, Any] = {"steps": 3, "batch": 2, "size": 32, "lr": 1e-3}
GPU: dict[str, Any] = {"batch": 256, "size": 32, "lr": 3e-4, "warmup": 2000, "clip_norm": 1.0}


def _recipe(profile: ProfileName, *stages: Stage, ema: float = 0.999) -> Recipe:
    options = LARGE if profile == "gpu" else SMALL
    return Recipe("dit", profile, "small", stages, source="ours", ema=ema, options=options)


#: The teacher's first steps, from random weights: the weak teacher of autoguidance.
EARLY: dict[ProfileName, Recipe] = {
    "smoke": _recipe("smoke", Stage("early", **SMOKE)),
    "cpu": _recipe("cpu", Stage("early", steps=800, schedule="constant", **LAPTOP), ema=0.99),
    "gpu": _recipe("gpu", Stage("early", steps=10_000, schedule="constant", **GPU)),
}

#: The rest, from there.
TEACHER: dict[ProfileName, Recipe] = {
    "smoke": _recipe("smoke", Stage("late", **SMOKE)),
    "cpu": _recipe("cpu", Stage("late", steps=6200, **LAPTOP)),
    "gpu": _recipe("gpu", Stage("late", steps=190_000, **GPU)),
}
