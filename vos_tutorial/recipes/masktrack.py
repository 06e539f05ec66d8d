"""How MaskTrack is trained: on still pictures only, in one stage."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ..profile import ProfileName
from . import LAPTOP, SMOKE, Recipe, Stage, small_recipe

# At 96 pixels the paper's dilation of 5 pixels would swallow small objects; 1 is its share of the frame.
SMALL = {"dilation": 1}
OPTIONS = {"guide": "mask", "spoiling": SMALL, "dice": 1.0}

RECIPES: dict[ProfileName, Recipe] = {
    "smoke": small_recipe(
        "masktrack", "smoke", Stage("stills", options=OPTIONS, **{**SMOKE, "steps": 6, "batch": 4, "warmup": 2})
    ),
    "cpu": small_recipe("masktrack", "cpu", Stage("stills", steps=2400, options=OPTIONS, **{**LAPTOP, "warmup": 60})),
    "gpu": Recipe(
        method="masktrack",
        profile="gpu",
        network="paper",
        stages=(
            Stage(
                "stills",
                steps=20_000,
                batch=10,
                size=321,
                lr=1e-3,
                optimizer="sgd",
                momentum=0.9,
                weight_decay=5e-4,
                schedule="poly",
                options={"spoiling": {"dilation": 5}, "head_lr": 10.0},
            ),
        ),
        amp=True,
        source="Perazzi et al., CVPR 2017, section 4; crop, poly power and head rate are DeepLabv2's defaults",
    ),
}


def _photos() -> Recipe:
    """For real video: from ImageNet weights, on frames of clips that are made of photographs."""
    spoiling = {"dilation": 2, "shift": 0.15, "scale": 0.1}
    options = {**OPTIONS, "source": "photos", "spoiling": spoiling}
    stage = replace(
        RECIPES["cpu"].stages[0], name="photos", steps=1400, size=160, schedule="constant", options=options
    )
    return replace(RECIPES["cpu"], options={"encoder": "imagenet", "width": 24}, lines=240, stages=(stage,))


def _calm() -> Recipe:
    """With --start, from "photos": things that look as most things do, guides further away, and a rate that falls."""
    (stage,) = _photos().stages
    options = {**stage.options, "source": "calm photos", "spoiling": {"dilation": 2, "shift": 0.25, "scale": 0.15}}
    calm = replace(stage, name="calm", steps=400, schedule="cosine", options=options)
    return replace(_photos(), stages=(calm,))


#: ``python -m vos_tutorial train masktrack --variant NAME --stills DIR --cutouts DIR``.
VARIANTS: dict[str, Recipe] = {"photos": _photos(), "photos, calm": _calm()}

#: Rows of the paper's table 1 that concern training (section 5.2), as changes to the options of the stage; and guides
#: that are three times as wrong as the paper's.
ABLATIONS: dict[str, dict[str, Any]] = {
    "no dilation": {"spoiling": {"dilation": 0}},
    "no bending": {"spoiling": {**SMALL, "points": 0}},
    "no deformation": {"spoiling": {"scale": 0, "shift": 0, "points": 0, "dilation": 0}},
    "boxes": {"guide": "box"},
    "no guide": {"guide": "none"},
    "three times": {"spoiling": {**SMALL, "scale": 0.15, "shift": 0.3, "jitter": 0.3, "floor": 0.0}},
}
