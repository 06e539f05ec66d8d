"""How FLUX.1-dev becomes a flow map: AYF-EMD for about four hours on eight GPUs, and a rehearsal on a CPU.

From the paper: the loss, its normalisation (c = 0.1), the cap 0.99, LoRA, eight GPUs and about four hours. Not found
in it, and therefore our own proposal, never run at this size: rank, learning rate, batch, steps, picture size,
warm-up.
"""

from __future__ import annotations

from typing import Any

from ..profile import ProfileName
from ..recipes import Recipe, Stage

EMD: dict[str, Any] = {
    "done": {"from": 0.0, "to": 1.0},
    "warm_up": 0.25,
    "cap": 0.99,
    "times": "interval first",
    "derivative": "difference",
}

RECIPES: dict[ProfileName, Recipe] = {
    "smoke": Recipe(
        method="flux",
        profile="smoke",
        network="small",
        stages=(Stage("distil", steps=4, batch=2, size=64, lr=1e-3, warmup=1, clip_norm=1.0, options=EMD),),
        source="ours",
        options={"rank": 4},
    ),
    "gpu": Recipe(
        method="flux",
        profile="gpu",
        network="paper",
        stages=(
            Stage(
                "distil",
                steps=2000,
                batch=32,
                size=512,
                lr=1e-4,
                warmup=100,
                schedule="constant",
                clip_norm=1.0,
                accumulate=4,
                options=EMD,
            ),
        ),
        source="loss, cap, LoRA and compute: Sabour et al., 2025; all other numbers are our own proposal",
        ema=0.99,
        options={"rank": 64},
    ),
}
