"""How STM is trained: on clips made of stills, then on video whose frames lie further and further apart."""

from __future__ import annotations

from typing import Any

from ..profile import ProfileName
from . import Recipe, Stage

STILLS: dict[str, Any] = {"source": "simulated", "dice": 1.0, "detach": False}
VIDEO: dict[str, Any] = {"source": "video", "max_skip": {"from": 0, "to": 4}, "dice": 1.0, "detach": False}

RECIPES: dict[ProfileName, Recipe] = {
    "smoke": Recipe(
        method="stm",
        profile="smoke",
        network="small",
        stages=(
            Stage("stills", steps=3, batch=2, size=64, lr=2e-3, warmup=1, options=STILLS),
            Stage("video", steps=3, batch=2, size=64, lr=2e-3, warmup=1, options=VIDEO),
        ),
        ema=0.99,
        source="ours",
    ),
    "cpu": Recipe(
        method="stm",
        profile="cpu",
        network="small",
        stages=(
            Stage(
                "stills",
                steps=500,
                batch=8,
                size=96,
                lr=2e-3,
                weight_decay=1e-4,
                schedule="constant",
                warmup=30,
                clip_norm=1.0,
                options=STILLS,
            ),
            Stage(
                "video",
                steps=700,
                batch=8,
                size=96,
                lr=2e-3,
                weight_decay=1e-4,
                warmup=30,
                clip_norm=1.0,
                options=VIDEO,
            ),
        ),
        ema=0.99,
        source="ours",
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
