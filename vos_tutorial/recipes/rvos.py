"""How RVOS is trained: with true previous masks, then with its own; each clip is one grid with one backward pass."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ..profile import ProfileName
from . import LAPTOP, SMOKE, Recipe, Stage, small_recipe

# The loss is the authors', but averaged over the frames, so that the step is the same for clips of any length.
TRUTH: dict[str, Any] = {
    "source": "video",
    "frames": 4,
    "max_skip": 1,
    "slots": 3,
    "previous": "truth",
    "recurrence": "ST",
    "empty": 0.0,
    "total": "mean",
}
OWN: dict[str, Any] = {**TRUTH, "previous": "own"}
# The soft IoU moves slowly as long as the masks are grey, hence the rate.
RATE = 5e-3
SMALL: dict[str, Any] = {**LAPTOP, "lr": RATE}
# The published stages, for YouTube-VOS: 20 epochs each. The number of clips in an epoch, and so of the steps, is our
# estimate; so are square crops in the place of 256x448, and decoupled weight decay in that of Adam's.
LARGE: dict[str, Any] = {"steps": 72_000, "batch": 4, "size": 256, "lr": 1e-3, "weight_decay": 1e-6}
PUBLISHED: dict[str, Any] = {
    "source": "video",
    "frames": 5,
    "max_skip": 0,
    "slots": 10,
    "previous": "truth",
    "recurrence": "ST",
    "empty": 0.0,
    "total": "sum",
}

RECIPES: dict[ProfileName, Recipe] = {
    "smoke": small_recipe(
        "rvos",
        "smoke",
        Stage("truth", options={**TRUTH, "frames": 2}, **{**SMOKE, "lr": RATE}),
        Stage("own", options={**OWN, "frames": 3}, **{**SMOKE, "lr": RATE}),
    ),
    "cpu": small_recipe(
        "rvos",
        "cpu",
        Stage("truth", steps=150, schedule="constant", options=TRUTH, **SMALL),
        Stage("own", steps=250, options=OWN, **SMALL),
    ),
    "gpu": Recipe(
        method="rvos",
        profile="gpu",
        network="paper",
        stages=(
            Stage("truth", schedule="constant", options=PUBLISHED, **LARGE),
            Stage("own", schedule="constant", options={**PUBLISHED, "previous": "own"}, **LARGE),
        ),
        amp=True,
        source=(
            "Ventura et al., CVPR 2019, and the authors' code: loss, clips, slots, batch, rates and both stages; the "
            "number of steps is estimated, crops are square, Adam's weight decay is decoupled"
        ),
    ),
}

# ------------------------------------------------------------------------------------------------- experiments

#: Steps of the short runs below: true previous masks, then own ones.
SHORT = (120, 200)


def _short(steps: tuple[int, int] = SHORT, **options: Any) -> Recipe:
    """The cpu recipe with fewer steps (a stage without steps is left out), and other options in both stages."""
    stages = [
        replace(stage, steps=n, options={**stage.options, **options})
        for stage, n in zip(RECIPES["cpu"].stages, steps, strict=True)
        if n
    ]
    return replace(RECIPES["cpu"], stages=tuple(stages))


def _zero_shot(**options: Any) -> Recipe:
    """Finding objects without any mask: two discs, since the sprite world takes longer than an exercise may."""
    found = {**TRUTH, "source": "discs", "slots": 2, "frames": 3, **options}
    stage = Stage("find", steps=600, options=found, **{**SMALL, "size": 64})
    return replace(RECIPES["cpu"], stages=(stage,), options={"one_shot": False})


def _long() -> Recipe:
    """The cpu recipe, several times as long, with masks that may be empty."""
    truth, own = RECIPES["cpu"].stages
    stages = (replace(truth, steps=600), replace(own, steps=2400, options={**OWN, "max_skip": 2, "empty": 1.0}))
    return replace(RECIPES["cpu"], stages=stages)


def _lifelike() -> Recipe:
    """With --start, from the long run: clips that look more like a camera's. Its weights ship."""
    _, own = _long().stages
    options = {**own.options, "source": "lifelike"}
    return replace(RECIPES["cpu"], stages=(replace(own, name="lifelike", steps=2500, lr=3e-3, options=options),))


def _photos() -> Recipe:
    """For real video: from ImageNet weights, on photographs that move (``--stills DIR --cutouts DIR``).

    The previous masks are true ones at first, and in half of the frames the network's own at last; each level of the
    decoder is judged by itself.
    """
    options = {
        **OWN,
        "source": "calm photos",
        "frames": 3,
        "max_skip": 3,
        "slots": 2,
        "true_share": {"from": 1.0, "to": 0.5},
        "entropy": 1.0,
        "sides": 0.3,
    }
    stage = Stage("photos", steps=900, schedule="constant", options=options, **{**SMALL, "size": 128, "lr": 2e-3})
    return replace(RECIPES["cpu"], options={"encoder": "imagenet"}, lines=240, stages=(stage,))


def _own() -> Recipe:
    """With --start, from "photos": longer clips, in which it lives with its own masks, as it does in a video."""
    (stage,) = _photos().stages
    options = {**stage.options, "frames": 8, "max_skip": 2, "true_share": {"from": 0.3, "to": 0.0}}
    own = replace(stage, name="own", steps=350, batch=4, lr=1.5e-3, schedule="cosine", options=options)
    return replace(_photos(), stages=(own,))


#: What notebook 04 compares; ``python -m vos_tutorial train rvos --variant NAME``.
VARIANTS: dict[str, Recipe] = {
    "long": _long(),
    "lifelike": _lifelike(),
    "ST": _short(),
    "S": _short(recurrence="S"),
    "T": _short(recurrence="T"),
    "truth only": _short((sum(SHORT), 0)),
    "own only": _short((0, sum(SHORT))),
    "empty": _short(empty=1.0),
    "zero-shot ST": _zero_shot(),
    "zero-shot S": _zero_shot(recurrence="S"),
    "zero-shot T": _zero_shot(recurrence="T"),
    "zero-shot T released": _zero_shot(recurrence="T released"),
    "photos": _photos(),
    "photos, own": _own(),
}
