"""How RGMP is trained: on pairs made of stills, then on video, where its own masks come back to it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from ..profile import ProfileName
from . import LAPTOP, SMOKE, Recipe, Stage, small_recipe

# The share of samples without a previous mask, and the Dice loss, are ours.
OURS: dict[str, Any] = {"drop_previous": 0.2, "dice": 1.0}
PAIRS: dict[str, Any] = {"source": "simulated", "drop_previous": 0.0, "reference": True, "previous": True}
VIDEO: dict[str, Any] = {
    "source": "video",
    "recurrence": {"from": 1, "to": 4},
    "max_skip": {"from": 0, "to": 4},
    "feedback": "soft",
    "detach": False,
    "teacher_forcing": False,
    "drop_previous": 0.0,
    "reference": True,
    "previous": True,
}
# At 96 pixels the dilation of 5 pixels would swallow small objects; 1 is its share of the frame.
SMALL_PAIRS: dict[str, Any] = {**PAIRS, **OURS, "spoiling": {"dilation": 1}}
SMALL_VIDEO: dict[str, Any] = {**VIDEO, **OURS}

RECIPES: dict[ProfileName, Recipe] = {
    "smoke": small_recipe(
        "rgmp",
        "smoke",
        Stage("pairs", options=SMALL_PAIRS, **SMOKE),
        Stage("video", options={**SMALL_VIDEO, "recurrence": {"from": 1, "to": 2}}, **SMOKE),
    ),
    "cpu": small_recipe(
        "rgmp",
        "cpu",
        Stage("pairs", steps=300, schedule="constant", options=SMALL_PAIRS, **LAPTOP),
        Stage("video", steps=500, options=SMALL_VIDEO, **LAPTOP),
    ),
    # Adam at 1e-5 is what the authors state in two later papers; sides, batches, steps, the growth of the recurrence
    # and of the time window (5 to 25 frames: 6 frames, up to 4 left out between two) are not verified.
    "gpu": Recipe(
        method="rgmp",
        profile="gpu",
        network="paper",
        stages=(
            Stage(
                "pairs",
                steps=200_000,
                batch=8,
                size=256,
                lr=1e-5,
                schedule="constant",
                options={**PAIRS, "spoiling": {"dilation": 5}},
            ),
            Stage(
                "video",
                steps=100_000,
                batch=4,
                size=256,
                lr=1e-5,
                schedule="constant",
                options={**VIDEO, "recurrence": {"from": 1, "to": 5}},
            ),
        ),
        amp=True,
        source=(
            "Oh et al., CVPR 2018, section 3; optimiser and rate as in the authors' later papers; sides, batches, "
            "steps and the growth of recurrence and time window are not verified"
        ),
    ),
}

# ------------------------------------------------------------------------------------------------- experiments


#: Steps of the short runs below: pairs, then video.
SHORT = (140, 220)


def _changed(
    pairs: Mapping[str, Any] = MappingProxyType({}), video: Mapping[str, Any] = MappingProxyType({})
) -> Recipe:
    """The cpu recipe, shortened, with other options in its two stages."""
    cpu, changes = RECIPES["cpu"], {"pairs": pairs, "video": video}
    stages = [
        replace(stage, steps=steps, options={**stage.options, **changes[stage.name]})
        for stage, steps in zip(cpu.stages, SHORT, strict=True)
    ]
    return replace(cpu, stages=tuple(stages))


def _long() -> Recipe:
    """The run whose weights ship: longer stages, and a third one with clips that look more like a camera's."""
    pairs, video = RECIPES["cpu"].stages
    options = {**SMALL_VIDEO, "source": "lifelike", "recurrence": 4, "max_skip": 4}
    lifelike = replace(video, name="lifelike", steps=2000, lr=1.5e-3, options=options)
    return replace(RECIPES["cpu"], stages=(replace(pairs, steps=600), replace(video, steps=1800), lifelike))


def _without_reference() -> Recipe:
    """The cpu recipe at its full length, with the reference blank in both stages."""
    cpu = RECIPES["cpu"]
    return replace(cpu, stages=tuple(replace(s, options={**s.options, "reference": False}) for s in cpu.stages))


def _photos() -> Recipe:
    """For real video: from ImageNet weights, on photographs that move (``--stills DIR --cutouts DIR``).

    First the object must be found by the reference alone. Then the previous mask comes in, but cannot be relied upon.
    Trained with soft masks, it follows better with hard ones (as Guo et al. report, DAVIS challenge 2019, table 2).
    """
    video = RECIPES["cpu"].stages[1]
    options = {**SMALL_VIDEO, "source": "calm photos", "max_skip": 4, "spare": 2, "relit": True}
    alone = {**options, "recurrence": 1, "drop_previous": 1.0}
    both = {**options, "recurrence": {"from": 1, "to": 3}, "faults": 0.3}
    return replace(
        RECIPES["cpu"],
        options={"encoder": "imagenet", "width": 24},
        lines=240,
        segmenter={"feedback": "hard"},
        stages=(
            replace(video, name="reference", steps=400, size=128, schedule="constant", options=alone),
            replace(video, name="photos", steps=1000, size=128, options=both),
        ),
    )


def _trusting() -> Recipe:
    """With --start, from "photos": previous masks that are mostly right, as they are in a video that goes well."""
    *_, stage = _photos().stages
    options = {**stage.options, "recurrence": 2, "drop_previous": 0.1, "faults": 0.1}
    return replace(_photos(), stages=(replace(stage, name="trusting", steps=350, lr=1.5e-3, options=options),))


def _larger() -> Recipe:
    """With --start, from "photos, trusting": larger pictures, of which a thing fills as much as in a video."""
    (stage,) = _trusting().stages
    return replace(_photos(), stages=(replace(stage, name="larger", steps=300, batch=6, size=176),))


#: What notebook 03 compares; ``python -m vos_tutorial train rgmp --variant NAME``. From "full" on, all but the last
#: four take equally many steps.
VARIANTS: dict[str, Recipe] = {
    "long": _long(),
    "full": _changed(),
    "detach": _changed(video={"detach": True}),
    "teacher forcing": _changed(video={"teacher_forcing": True}),
    "hard feedback": _changed(video={"feedback": "hard"}),
    "no reference": _changed({"reference": False}, {"reference": False}),
    "no previous": _changed({"previous": False}, {"previous": False}),
    "no pre-training": replace(RECIPES["cpu"], stages=(replace(RECIPES["cpu"].stages[1], steps=sum(SHORT)),)),
    "recipe without reference": _without_reference(),
    "photos": _photos(),
    "photos, trusting": _trusting(),
    "photos, larger": _larger(),
}
