"""Which arrows of its grid the shipped RVOS needs; writes ``04_rvos_arrows.json``, which notebook 04 quotes.

    python experiments/rvos_arrows.py

J of the one-shot network that ships, with both arrows, with space alone and with time alone, all from the same
weights; and with the ids of the objects in the opposite order, so that each gets another slot. Takes about a minute.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from experiments import runs
from experiments.runs import by_condition, j_of, keep
from vos_tutorial import models
from vos_tutorial.clip import Clip
from vos_tutorial.data.worlds.sprites import benchmark
from vos_tutorial.models.rvos import RVOS, Recurrence, RVOSSegmenter

OUT = runs.RESULTS / "04_rvos_arrows.json"
CLIPS = 8
CONDITIONS = ("clean", "multiple_objects", "fast_motion", "occlusion", "out_of_view")
WAYS: tuple[Recurrence, ...] = ("ST", "S", "T")


def exchanged(clip: Clip) -> Clip:
    """The same clip with the ids of its objects in the opposite order."""
    masks, objects = clip.masks.clone(), clip.objects
    for old, new in zip(objects, reversed(objects), strict=True):
        masks[clip.masks == old] = new
    return replace(clip, masks=masks)


def measure(network: RVOS) -> dict[str, Any]:
    """J in percent by recurrence and condition; and over the clips with several objects with the slots exchanged."""
    clips = list(benchmark(CLIPS, CONDITIONS))
    several = [exchanged(clip) for clip in clips if clip.attributes == ("multiple_objects",)]
    found: dict[str, Any] = {"J": {}, "exchanged": {}}
    for recurrence in WAYS:
        made = RVOSSegmenter(network, recurrence)
        found["J"][recurrence] = {c: scores["J"] for c, scores in by_condition(made, clips).items()}
        found["exchanged"][recurrence] = j_of(made, several)
    return found


def main() -> None:
    """See the module."""
    torch.set_num_threads(1)
    network = models.trained("rvos")
    assert isinstance(network, RVOS)
    keep(OUT, {"arrows": measure(network)}, "python experiments/rvos_arrows.py")


if __name__ == "__main__":
    main()
