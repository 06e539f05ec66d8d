"""How the generators of the captioned world are trained (notebook 07), at three sizes; none of them is a method."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ..profile import ProfileName
from . import Recipe, Stage

#: The network: a sixth of a DiT-S in width, a third of it in depth, on patches of 4 pixels.
SMALL: dict[str, Any] = {"patch": 4, "width": 64, "depth": 4, "heads": 4}
#: Twice as wide, with four times the weights: is it the size that keeps a student from its teacher?
WIDE: dict[str, Any] = {**SMALL, "width": 128}
#: DiT-S/2 of the paper.
LARGE: dict[str, Any] = {"patch": 2, "width": 384, "depth": 12, "heads": 6}

LAPTOP: dict[str, Any] = {"batch": 16, "size": 32, "lr": 3e-3, "warmup": 100, "clip_norm": 1.0}
SMOKE: dict[str, Any] = {"steps": 3, "batch": 2, "size": 32, "lr": 1e-3}
GPU: dict[str, Any] = {"batch": 256, "size": 32, "lr": 3e-4, "warmup": 2000, "clip_norm": 1.0}


#: More of a caption is left out, so that the noise has more to decide.
OPEN = {"unsaid": 0.3}


def _recipe(profile: ProfileName, *stages: Stage, ema: float = 0.999) -> Recipe:
    options = LARGE if profile == "gpu" else SMALL
    return Recipe("dit", profile, "small", stages, source="ours", ema=ema, options=options)


#: The teacher's first steps, from random weights: the weak teacher of autoguidance.
EARLY: dict[ProfileName, Recipe] = {
    "smoke": _recipe("smoke", Stage("early", **SMOKE)),
    "cpu": _recipe("cpu", Stage("early", steps=600, schedule="constant", **LAPTOP), ema=0.99),
    "gpu": _recipe("gpu", Stage("early", steps=10_000, schedule="constant", **GPU)),
}

#: The rest, from there.
TEACHER: dict[ProfileName, Recipe] = {
    "smoke": _recipe("smoke", Stage("late", **SMOKE)),
    "cpu": _recipe(
        "cpu",
        Stage("late", steps=12_000, schedule="constant", **LAPTOP),
        Stage("anneal", steps=2000, options=OPEN, **{**LAPTOP, "lr": 2e-3}),
        ema=0.998,
    ),
    "gpu": _recipe(
        "gpu",
        Stage("late", steps=160_000, schedule="constant", **GPU),
        Stage("anneal", steps=30_000, options=OPEN, **GPU),
    ),
}

_WARM_UP = {"r": {"from": 0.0, "to": 0.99}, **OPEN}


def _student(warm: int, distil: int, lr: float = 2e-4) -> dict[ProfileName, Recipe]:
    laptop = {**LAPTOP, "lr": lr, "warmup": 20}
    return {
        "smoke": _recipe(
            "smoke", Stage("warm-up", options=_WARM_UP, **SMOKE), Stage("distil", options=OPEN, **SMOKE)
        ),
        "cpu": _recipe(
            "cpu",
            Stage("warm-up", steps=warm, schedule="constant", options=_WARM_UP, **laptop),
            Stage("distil", steps=distil, options=OPEN, **laptop),
            ema=0.99,
        ),
        "gpu": _recipe(
            "gpu",
            Stage("warm-up", steps=10_000, schedule="constant", options=_WARM_UP, **GPU),
            Stage("distil", steps=40_000, options=OPEN, **GPU),
        ),
    }


#: The student: the share of the derivative grows, then stays.
STUDENT = _student(200, 1600)

#: The same in a sixth of the steps: further seeds, and the measure of the student that ignores s.
SHORT = _student(60, 240)

#: As short, with a learning rate ten times as high: the direction grows without end.
TOO_FAST = _student(60, 240, lr=2e-3)

#: As short, and the network gets no s.
WITHOUT_S: dict[ProfileName, Recipe] = {
    profile: replace(
        recipe,
        stages=tuple(replace(each, options={**each.options, "reads_s": False}) for each in recipe.stages),
    )
    for profile, recipe in SHORT.items()
}

#: Further, from the student: now the teacher is guided (its weight was chosen by its own pictures, with 64 steps).
GUIDED: dict[ProfileName, Recipe] = {
    "smoke": _recipe("smoke", Stage("guided", options={"guidance": 2.0, **OPEN}, **SMOKE)),
    "cpu": _recipe(
        "cpu",
        Stage("guided", steps=360, options={"guidance": 2.0, **OPEN}, **{**LAPTOP, "lr": 4e-4, "warmup": 20}),
        ema=0.99,
    ),
    "gpu": _recipe("gpu", Stage("guided", steps=40_000, options={"guidance": 2.0, **OPEN}, **GPU)),
}

#: What the page trains beside the reference.
PAGE = _student(50, 350)

#: The last stage, from a student, with a critic; 3,000 steps in the paper.
ADVERSARIAL: dict[ProfileName, Recipe] = {
    "smoke": _recipe("smoke", Stage("adversarial", options=OPEN, **SMOKE)),
    "cpu": _recipe(
        "cpu", Stage("adversarial", steps=200, options=OPEN, **{**LAPTOP, "lr": 1e-4, "warmup": 20}), ema=0.99
    ),
    "gpu": _recipe("gpu", Stage("adversarial", steps=3000, options=OPEN, **{**GPU, "lr": 2e-5, "warmup": 100})),
}

#: The reader, which judges.
READER: dict[ProfileName, Recipe] = {
    "smoke": Recipe("attribute-reader", "smoke", "small", (Stage("read", **SMOKE),), source="ours", ema=0.99),
    "cpu": Recipe(
        "attribute-reader",
        "cpu",
        "small",
        (Stage("read", steps=1200, **{**LAPTOP, "batch": 32, "warmup": 50}),),
        source="ours",
        ema=0.99,
    ),
}
READER["gpu"] = READER["cpu"]
