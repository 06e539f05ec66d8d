"""What else notebook 04 quotes: which arrows the shipped RVOS needs, and what side losses do to its levels.

    python experiments/rvos_arrows.py arrows            the shipped network with arrows cut, and its slots exchanged
    python experiments/rvos_arrows.py sides SEED        two trainings by the cpu recipe, with side losses and without

Each call adds its part to ``04_rvos_arrows.json``; a training takes about four minutes of one core.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from experiments import runs
from experiments.runs import by_condition, j_of, keep, recovery
from experiments.rvos_levels import measure
from vos_tutorial import models, recipes, training
from vos_tutorial.clip import Clip
from vos_tutorial.data.worlds.sprites import benchmark
from vos_tutorial.models.backbones import SmallEncoder
from vos_tutorial.models.layers import group_norm
from vos_tutorial.models.rvos import RVOS, Recurrence, RVOSSegmenter

OUT = runs.RESULTS / "04_rvos_arrows.json"
CLIPS = 8
CONDITIONS = ("clean", "multiple_objects", "fast_motion", "occlusion", "out_of_view")
SIDES = 0.3  # weight of the side losses, as in the variant for photographs


def exchanged(clip: Clip) -> Clip:
    """The same clip with the ids of its objects in the opposite order, so that each gets another slot."""
    masks, objects = clip.masks.clone(), clip.objects
    for old, new in zip(objects, reversed(objects), strict=True):
        masks[clip.masks == old] = new
    return replace(clip, masks=masks)


def arrows() -> dict[str, Any]:
    """J of the shipped network, by recurrence and condition; and with the slots exchanged."""
    network = models.trained("rvos")
    assert isinstance(network, RVOS)
    clips = list(benchmark(CLIPS, CONDITIONS))
    found: dict[str, Any] = {"J": {}, "after": {}, "exchanged": {}}
    several = [clip for clip in clips if clip.attributes == ("multiple_objects",)]
    for recurrence in get_args(Recurrence)[:3]:  # without "T released"
        made = RVOSSegmenter(network, recurrence)
        found["J"][recurrence] = {c: scores["J"] for c, scores in by_condition(made, clips).items()}
        found["after"][recurrence] = {
            c: recovery(made, [clip for clip in clips if clip.attributes == (c,)])["after"]
            for c in ("occlusion", "out_of_view")
        }
        found["exchanged"][recurrence] = j_of(made, [exchanged(clip) for clip in several])
    return found


def trained_with(sides: bool, seed: int) -> RVOS:
    """The small network of the page after the cpu recipe; with ``sides`` its levels draw masks, too."""
    recipe = recipes.load("rvos", "cpu")
    torch.manual_seed(seed)
    network = RVOS(SmallEncoder(depth=4), 32, norm=group_norm, sides=sides)
    more = {"sides": SIDES} if sides else {}
    recipe = replace(recipe, stages=tuple(replace(s, options={**s.options, **more}) for s in recipe.stages))
    out = runs.ROOT / "runs" / "rvos" / f"{'with' if sides else 'without'}-sides-{seed}"
    training.train(network, training.task("rvos"), recipe, seed=seed, out=out, progress=False)
    return network.eval()


def store(part: str, row: Any) -> None:
    """Add a part to the file."""
    stored = json.loads(OUT.read_text()) if OUT.exists() else {}
    keep(OUT, {**stored, part: row}, "python experiments/rvos_arrows.py arrows; and sides SEED for the seeds 0 and 1")


def main(given: Sequence[str]) -> None:
    """See the module."""
    torch.set_num_threads(1)
    if given == ["arrows"]:
        store("arrows", arrows())
        return
    if len(given) != 2 or given[0] != "sides" or not given[1].isdigit():
        sys.exit(__doc__)
    seed = int(given[1])
    rows = {name: measure(trained_with(sides, seed)) for name, sides in (("without", False), ("with", True))}
    stored = json.loads(OUT.read_text()).get("sides", {}) if OUT.exists() else {}
    store("sides", {**stored, f"seed {seed}": rows})


if __name__ == "__main__":
    main(sys.argv[1:])
