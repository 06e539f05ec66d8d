"""How STM is trained: on clips made of stills, then on video whose frames lie further and further apart."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ..profile import ProfileName
from . import LAPTOP, SMOKE, Recipe, Stage, small_recipe

STILLS: dict[str, Any] = {"source": "simulated", "dice": 1.0, "detach": False}
VIDEO: dict[str, Any] = {"source": "video", "max_skip": {"from": 0, "to": 4}, "dice": 1.0, "detach": False}

RECIPES: dict[ProfileName, Recipe] = {
    "smoke": small_recipe(
        "stm",
        "smoke",
        Stage("stills", options=STILLS, **SMOKE),
        Stage("video", options=VIDEO, **SMOKE),
    ),
    "cpu": small_recipe(
        "stm",
        "cpu",
        Stage("stills", steps=300, schedule="constant", options=STILLS, **LAPTOP),
        Stage("video", steps=500, options=VIDEO, **LAPTOP),
    ),
    "gpu": Recipe(
        method="stm",
        profile="gpu",
        network="paper",
        stages=(
            Stage(
                "stills",
                steps=500_000,
                batch=4,
                size=384,
                lr=1e-5,
                schedule="constant",
                options={"source": "simulated", "detach": False},
            ),
            Stage(
                "video",
                steps=245_000,
                batch=4,
                size=384,
                lr=1e-5,
                schedule="poly",
                options={"source": "video", "max_skip": {"from": 0, "to": 25}, "detach": False},
            ),
        ),
        amp=True,
        source=(
            "Oh et al., ICCV 2019, section 3.5; iterations by the first author's correction; that the rate falls in "
            "the second stage is theirs too, its form (poly) is not"
        ),
    ),
}

# ------------------------------------------------------------------------------------------------- experiments

#: Steps of the short runs below, over all stages.
SHORT = 320
PHOTO_STEPS, CALM_STEPS, LONGER_STEPS, LARGER_STEPS = 3200, 600, 350, 1800
PAPER_FORM = {"affinity": "dot", "shared_keys": False}
#: Forms are compared with two encoders that are alike, as the paper's are.
ALIKE = {"light": False}


def _short(**stages: dict[str, Any]) -> Recipe:
    """The cpu recipe with other stages, by name: their steps, and the rate and options that differ."""
    cpu = RECIPES["cpu"]
    usual = {stage.name: stage for stage in cpu.stages}
    usual["place"] = replace(usual["video"], name="place", options={**VIDEO, "max_skip": 0, "read": "place"})
    usual["dot"] = replace(usual["video"], name="dot")
    made = []
    for name, changes in stages.items():
        fields = {k: v for k, v in changes.items() if k in ("steps", "lr")}
        options = {k: v for k, v in changes.items() if k not in fields}
        made.append(replace(usual[name], **fields, options={**usual[name].options, **options}))
    return replace(cpu, stages=tuple(made))


def _form(recipe: Recipe, **network: Any) -> Recipe:
    return replace(recipe, options={**recipe.options, **network})


def _long(again: int = 2000) -> Recipe:
    """The run whose weights ship: the cpu recipe, six times as long, with a second descent of the learning rate."""
    stills, video = RECIPES["cpu"].stages
    second = replace(video, name="video again", steps=again, lr=1e-3)
    return replace(RECIPES["cpu"], stages=(replace(stills, steps=600), replace(video, steps=2400), second))


def _lifelike() -> Recipe:
    """With --start, from the long run: clips that look more like a camera's, first small, then larger and longer."""
    video = RECIPES["cpu"].stages[1]
    options = {**VIDEO, "source": "lifelike", "max_skip": 4}
    small = replace(video, name="lifelike", steps=3500, lr=1.5e-3, options=options)
    large = replace(video, name="larger", steps=1200, batch=6, size=128, lr=1e-3, options={**options, "frames": 4})
    return replace(RECIPES["cpu"], stages=(small, large))


def _photos() -> Recipe:
    """For real video: from ImageNet weights, on photographs that move (``--stills DIR --cutouts DIR``)."""
    options = {**VIDEO, "source": "photos"}
    video = replace(RECIPES["cpu"].stages[1], name="photos", steps=PHOTO_STEPS, batch=8, size=128, options=options)
    used = {"limit": 4, "policy": "even"}  # a full memory takes longer and gains nothing (15_photos.json)
    # Why 288 lines: docs/results.md, "Real video", has J&F and time at several numbers of lines.
    whole = replace(RECIPES["cpu"], stages=(video,), lines=288, enlarge=1.5, segmenter=used)
    return _form(whole, encoder="imagenet", width=24)


def _calm() -> Recipe:
    """With --start, from "photos": things that look and move as most things do."""
    (video,) = _photos().stages
    options = {**video.options, "source": "calm photos", "max_skip": {"from": 1, "to": 4}}
    return replace(_photos(), stages=(replace(video, name="calm", steps=CALM_STEPS, lr=1e-3, options=options),))


def _calm_from_the_start() -> Recipe:
    """As "photos", in as many steps, with the things of "photos, calm"; a second seed was trained like this."""
    (video,) = _photos().stages
    options = {**video.options, "source": "calm photos"}
    return replace(_photos(), stages=(replace(video, options=options),))


def _longer() -> Recipe:
    """With --start, from "photos, calm": larger pictures, and clips long enough to live with one's own masks."""
    (video,) = _calm().stages
    options = {**video.options, "frames": 5}
    stage = replace(video, name="longer", steps=LONGER_STEPS, batch=4, size=160, lr=1e-3, options=options)
    return replace(_photos(), stages=(stage,))


def _larger() -> Recipe:
    """With --start, from "photos, longer": pictures in which a thing fills as many places as in an enlarged video."""
    (video,) = _calm().stages
    options = {**video.options, "frames": 4}
    stage = replace(video, name="larger", steps=LARGER_STEPS, batch=6, size=224, lr=1e-3, options=options)
    return replace(_photos(), stages=(stage,))


def _blended() -> Recipe:
    """With --start, from "photos, longer": things in the colours of what is behind them; no gain, one seed."""
    (video,) = _calm().stages
    options = {**video.options, "source": "blended photos"}
    return replace(_photos(), stages=(replace(video, name="blended", options=options),))


BOTH = _form(_short(stills={"steps": 120}, video={"steps": 200}), **ALIKE)

#: What notebook 05 compares; ``python -m vos_tutorial train stm --variant NAME``.
VARIANTS: dict[str, Recipe] = {
    "long": _long(),
    "lifelike": _lifelike(),
    "long, encoders alike": _form(_long(), **ALIKE),
    "photos": _photos(),
    "photos, calm": _calm(),
    "photos, calm from the start": _calm_from_the_start(),
    "photos, longer": _longer(),
    "photos, larger": _larger(),
    "photos, blended": _blended(),
    "both": BOTH,
    "stills only": _form(_short(stills={"steps": SHORT}), **ALIKE),
    "video only": _form(_short(video={"steps": SHORT}), **ALIKE),
    "paper form": _form(BOTH, **PAPER_FORM),
    # As many steps as "paper form, from shared keys" has behind it: 5,000 of its start, 1,000 of its own.
    "paper form, long": _form(_long(again=3000), **ALIKE, **PAPER_FORM),
    "distance only": _form(BOTH, affinity="l2", shared_keys=False),
    "shared keys only": _form(BOTH, affinity="dot", shared_keys=True),
    "paper form, warmed up": _form(
        _short(place={"steps": 80}, stills={"steps": 80}, video={"steps": 160}), **PAPER_FORM
    ),
    "paper form, twins": _form(
        _short(stills={"steps": 120, "penalty": 1.0}, video={"steps": 200, "penalty": {"from": 1.0, "to": 0.0}}),
        **PAPER_FORM,
        twins=True,
    ),
    # With --start: from "long, encoders alike". Longer than the others.
    "paper form, from shared keys": _form(
        _short(
            stills={"steps": 300, "penalty": 1.0, "align": 1.0, "lr": 1e-3},
            video={"steps": 400, "penalty": {"from": 1.0, "to": 0.0}, "align": {"from": 1.0, "to": 0.0}, "lr": 1e-3},
            dot={"steps": 300, "penalty": 0.0, "lr": 1e-3},
        ),
        **PAPER_FORM,
    ),
}
