"""How STCNN is trained: prediction without labels, masks on stills, both jointly, and on each video's frame 0."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ..profile import ProfileName
from . import LAPTOP, SMOKE, Recipe, Stage, small_recipe

PREDICTION: dict[str, Any] = {
    "objective": "prediction",
    "source": "video",
    "max_skip": 0,
    "reverse": 0.4,
    "adversarial": 0.001,
    "margin": 0.3,
}
SPATIAL: dict[str, Any] = {"objective": "spatial", "source": "stills", "sides": 1.0, "dice": 0.0}
JOINT: dict[str, Any] = {
    "objective": "joint",
    "source": "video",
    "max_skip": 0,
    "reverse": 0.4,
    "prediction": 1.0,
    "adversarial": 0.001,
    "margin": 0.3,
    "sides": {"from": 1.0, "to": 0.0},
    "dice": 0.0,
    "detach": True,
}
ONLINE: dict[str, Any] = {"objective": "online", "source": "dreams", "sides": 0.0}
TOY: dict[str, Any] = {**LAPTOP, "size": 64, "warmup": 20}
SCAFFOLD = {"scaffold": True}
#: Steps of stage 4 for each object, on a laptop; the authors take 600.
TUNING = 60
#: The same for real video at 240 lines: more steps of one dream each, as the authors', at a higher rate. Only the
#: decoder learns then.
PHOTO_TUNING = 120
PHOTO_ONLINE: dict[str, Any] = {"batch": 1, "lr": 4e-3}

RECIPES: dict[ProfileName, Recipe] = {
    "smoke": small_recipe(
        "stcnn",
        "smoke",
        Stage("prediction", options=PREDICTION, **SMOKE),
        Stage("spatial", options={**SPATIAL, "dice": 1.0}, **SMOKE),
        Stage("joint", options={**JOINT, "dice": 1.0}, **SMOKE),
        options=SCAFFOLD,
        tuning=TUNING,
    ),
    # As published in everything but numbers, and with a Dice loss beside the cross-entropy.
    "cpu": small_recipe(
        "stcnn",
        "cpu",
        Stage("prediction", steps=500, schedule="constant", options=PREDICTION, **TOY),
        Stage("spatial", steps=300, options={**SPATIAL, "dice": 1.0}, **TOY),
        Stage("joint", steps=400, options={**JOINT, "dice": 1.0}, **TOY),
        options=SCAFFOLD,
        tuning=TUNING,
    ),
    # The authors' crops are wide (480x854, 400x710); ours are square, with as many pixels. The generator learns at
    # the stage's rate times generator_rate.
    "gpu": Recipe(
        method="stcnn",
        profile="gpu",
        network="paper",
        stages=(
            Stage(
                "prediction",
                steps=177_000,
                batch=3,
                size=640,
                lr=1e-4,
                weight_decay=2e-4,
                schedule="constant",
                options={**PREDICTION, "turn": {"angle": 0, "zoom": 0}, "generator_rate": 1e-3},
            ),
            Stage(
                "spatial",
                steps=12_000,
                batch=8,
                size=300,
                lr=1e-3,
                optimizer="sgd",
                weight_decay=5e-4,
                schedule="poly",
                options={**SPATIAL, "turn": {"angle": 10, "zoom": 0}, "bias_rate": 2.0},
            ),
            Stage(
                "joint",
                steps=40_000,
                batch=1,
                size=533,
                lr=1e-4,
                optimizer="sgd",
                weight_decay=5e-4,
                schedule="constant",
                options={
                    **JOINT,
                    "turn": {"angle": 30, "zoom": 0.25},
                    "generator_rate": 1e-4,
                    "generator_optimizer": "adamw",
                },
            ),
        ),
        amp=True,
        options={"scaffold": True, "stride_first": False},
        source=(
            "the code of Xu et al., CVPR 2019 (github.com/longyin880815/STCNN); square crops, decoupled weight decay "
            "and the stride of torchvision's weights are ours"
        ),
    ),
}

# ---------------------------------------------------------------------------------------------- one video's frame 0


def _online(profile: ProfileName, stage: Stage) -> Recipe:
    """The recipe of that size with this stage alone."""
    return replace(RECIPES[profile], stages=(stage,), ema=None)


#: Stage 4, for the loop: ``train(network, task(dreams=DreamedClips(frame, mask)), ONLINE_RECIPES["gpu"])``. The
#: segmenter's ``online_steps`` does the same, for each object, without checkpoints. Dreams keep their picture's size.
ONLINE_RECIPES: dict[ProfileName, Recipe] = {
    "smoke": _online("smoke", Stage("online", steps=3, batch=2, size=64, lr=1e-3, options=ONLINE)),
    "cpu": _online(
        "cpu", Stage("online", steps=TUNING, batch=4, size=64, lr=1e-3, schedule="constant", options=ONLINE)
    ),
    "gpu": _online(
        "gpu",
        Stage(
            "online",
            steps=600,
            batch=1,
            size=480,
            lr=1e-4,
            optimizer="sgd",
            weight_decay=5e-4,
            schedule="constant",
            options=ONLINE,
        ),
    ),
}

# ------------------------------------------------------------------------------------------------------ experiments

#: Labelled clips in the camouflage experiment. From 16 the spatial half memorises the textures, and finds nothing
#: in other clips, with or without time.
LABELLED = 128
HIDDEN: dict[str, Any] = {"source": "camouflage", "max_skip": 0}


def _camouflage(
    pretrained: bool = False, learns: bool = False, network: dict[str, Any] | None = None, labelled: int = LABELLED
) -> Recipe:
    """An object that only motion shows; no object is needed to learn to predict, few are labelled.

    Args:
        pretrained: let the generator learn to predict first.
        learns: let the masks' gradients reach the generator; else it stays as it is.
        network: options of the network.
        labelled: different clips with masks.
    """
    options = network or {}
    ahead = Stage(
        "prediction",
        steps=400,
        schedule="constant",
        options={"objective": "prediction", **HIDDEN, "adversarial": 0.0},
        **TOY,
    )
    masks = Stage(
        "joint",
        steps=200,
        options={
            "objective": "joint",
            **HIDDEN,
            "clips": labelled,
            "reverse": 0.4,
            "turn": {"angle": 30, "zoom": 0.25},
            "prediction": 0.0,
            "sides": {"from": 1.0, "to": 0.0},
            "detach": not learns,
        },
        **TOY,
    )
    if options.get("temporal") is False:
        kept = {k: v for k, v in masks.options.items() if k not in ("prediction", "detach")}
        masks = replace(masks, name="spatial", options={**kept, "objective": "spatial"})
    stages = (ahead, masks) if pretrained else (masks,)
    return Recipe("stcnn", "cpu", "small", stages, source="ours", ema=0.99, options=options)


def _fork(adversarial: float, **network: Any) -> Recipe:
    """A future that forks, with and without a discriminator; ``network``: its options beside the scaffold."""
    ahead = Stage(
        "prediction",
        steps=400,
        schedule="constant",
        options={"objective": "prediction", "source": "fork", "adversarial": adversarial, "margin": 0.3},
        **TOY,
    )
    return Recipe("stcnn", "cpu", "small", (ahead,), source="ours", options={**SCAFFOLD, **network})


def _hidden_adversarial(adversarial: float) -> Recipe:
    """The camouflage experiment with a generator that learned against a discriminator, too."""
    recipe = _camouflage(pretrained=True, network=dict(SCAFFOLD))
    ahead, masks = recipe.stages
    return replace(recipe, stages=(replace(ahead, options={**ahead.options, "adversarial": adversarial}), masks))


def _long() -> Recipe:
    """The published order with more steps, on clips that look like real ones in more ways; it ships."""
    ahead, still, both = RECIPES["cpu"].stages
    return replace(
        RECIPES["cpu"],
        stages=(
            replace(ahead, steps=2000, options={**ahead.options, "source": "lifelike"}),
            replace(still, steps=1500, options={**still.options, "source": "lifelike"}),
            replace(both, steps=2000, options={**both.options, "source": "lifelike"}),
        ),
    )


def _without_time(network: dict[str, Any]) -> Recipe:
    """The recipe for a network whose temporal half has learned nothing, or is not there; the masks are the same."""
    _, still, both = RECIPES["cpu"].stages
    both = replace(both, options={**both.options, "prediction": 0.0, "adversarial": 0.0})
    if network.get("temporal") is False:
        kept = {k: v for k, v in both.options.items() if k in ("source", "max_skip", "reverse", "sides", "dice")}
        both = replace(both, options={**kept, "objective": "spatial"})
    return replace(RECIPES["cpu"], options={**SCAFFOLD, **network}, stages=(still, both))


def _photos() -> Recipe:
    """For real video: a spatial half from ImageNet weights, on photographs (``--stills DIR --cutouts DIR``)."""
    ahead, still, both = RECIPES["cpu"].stages
    options = {"source": "calm photos"}
    return replace(
        RECIPES["cpu"],
        options={**SCAFFOLD, "encoder": "imagenet"},
        lines=240,
        tuning=PHOTO_TUNING,
        segmenter={"online": PHOTO_ONLINE},
        stages=(
            replace(ahead, steps=600, options={**ahead.options, **options, "adversarial": 0.0}),
            replace(still, steps=1500, size=128, options={**still.options, **options}),
            replace(both, steps=700, size=128, options={**both.options, **options, "adversarial": 0.0}),
        ),
    )


def _larger() -> Recipe:
    """With --start, from "photos": pictures in which a thing has about as many pixels as in a video of 240 lines."""
    *_, both = _photos().stages
    return replace(_photos(), stages=(replace(both, name="larger", size=208, lr=1e-3),))


#: Labelled clips where labels are scarce.
FEW = 32

#: What notebook 06 compares; ``python -m vos_tutorial train stcnn --variant NAME``.
VARIANTS: dict[str, Recipe] = {
    "space only": _camouflage(network={"temporal": False}),
    "random": _camouflage(),
    "pretrained": _camouflage(pretrained=True),
    "pretrained, learning": _camouflage(pretrained=True, learns=True),
    "scratch": _camouflage(learns=True),
    "no attention": _camouflage(pretrained=True, network={"attention": False}),
    "pretrained, adversarial": _hidden_adversarial(0.01),
    "pretrained, learning, few": _camouflage(pretrained=True, learns=True, labelled=FEW),
    "scratch, few": _camouflage(learns=True, labelled=FEW),
    "fork, mse": _fork(0.0),
    "fork, adversarial": _fork(0.02),
    "fork, mse, resized": _fork(0.0, upsample="resize"),
    "fork, adversarial, resized": _fork(0.02, upsample="resize"),
    "long": _long(),
    "video, space only": _without_time({"temporal": False}),
    "video, random time": _without_time({}),
    "photos": _photos(),
    "photos, larger": _larger(),
}
