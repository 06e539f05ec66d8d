"""What makes RVOS's coarsest level live; writes ``04_rvos_ingredients.json``, which notebook 04's appendix quotes.

    python experiments/rvos_ingredients.py [--only NAME ...] [--seeds 0 1 2]

The network for photographs differs from the reference in many ways at once. Here a short run on sprites is changed in
one way at a time. About half a minute of CPU time each; what is finished is kept under ``runs/``, and the results
hold the rows that have all seeds. For each network: how far the states of two objects are apart at each level, in
percent of their spread (:func:`experiments.rvos_levels.states`), J, and J when the next level does not hear the
coarsest one.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from experiments import runs
from experiments.runs import SEEDS, j_of, keep, over_seeds
from experiments.rvos_levels import deaf, states
from vos_tutorial import training
from vos_tutorial.clip import Clip
from vos_tutorial.data.worlds.sprites import benchmark
from vos_tutorial.files import write_atomically
from vos_tutorial.models.backbones import LiteFeatures, SmallEncoder
from vos_tutorial.models.layers import group_norm
from vos_tutorial.models.rvos import RVOS, RVOSSegmenter
from vos_tutorial.recipes import Recipe
from vos_tutorial.recipes.rvos import RECIPES

OUT = runs.RESULTS / "04_rvos_ingredients.json"
RUNS = runs.ROOT / "runs" / "rvos" / "ingredients"
CLIPS = 4
HIDDEN = 32
STEPS = (60, 90)  # with true previous masks, then with own ones
SMALL: dict[str, Any] = {"size": 64, "batch": 8}
FRAMES = 3


def reference(sides: bool = False, forget: float | None = None) -> RVOS:
    """The network of the sprites recipe; with ``sides`` or ``forget`` it differs in that alone."""
    return RVOS(SmallEncoder(width=16, depth=4), HIDDEN, norm=group_norm, sides=sides, forget=forget)


def from_imagenet() -> RVOS:
    """The same decoder on an encoder that knows photographs."""
    network = RVOS(LiteFeatures(), HIDDEN, norm=group_norm)
    assert isinstance(network.encoder, LiteFeatures)
    network.encoder.load_imagenet()
    return network


@dataclass(frozen=True)
class Ingredient:
    """What a run does in another way than the first one.

    Attributes:
        network: makes it, with random weights.
        options: of both stages.
        stage: other numbers of both stages.
    """

    network: Callable[[], RVOS] = reference
    options: dict[str, Any] = field(default_factory=dict)
    stage: dict[str, Any] = field(default_factory=dict)


SIDES = {"sides": 0.3}
MIXED = {"true_share": 0.5}
UNTRAINED = "not trained"
INGREDIENTS: dict[str, Ingredient] = {
    "sprites": Ingredient(),
    "a mask from each level": Ingredient(lambda: reference(sides=True), SIDES),
    "open forget gates": Ingredient(lambda: reference(forget=1.0)),
    "masks and open gates": Ingredient(lambda: reference(sides=True, forget=1.0), SIDES),
    "cross-entropy": Ingredient(options={"entropy": 1.0}),
    "true and own masks mixed": Ingredient(options=MIXED),
    "twice as long clips": Ingredient(options={"frames": 2 * FRAMES}),
    "larger pictures": Ingredient(stage={"size": 96}),
    "ImageNet encoder": Ingredient(from_imagenet),
}


def recipe(ingredient: Ingredient) -> Recipe:
    """The cpu recipe, shorter and smaller, with this ingredient."""
    stages = []
    for stage, steps in zip(RECIPES["cpu"].stages, STEPS, strict=True):
        options = {**stage.options, "frames": FRAMES, **ingredient.options}
        stages.append(replace(stage, steps=steps, options=options, **{**SMALL, **ingredient.stage}))
    return replace(RECIPES["cpu"], stages=tuple(stages))


def measured(network: RVOS, clips: list[Clip]) -> dict[str, Any]:
    """See the module."""
    apart = [round(100 * level["difference"] / level["spread"], 2) for level in states(network, clips)]
    with_it, without = (j_of(RVOSSegmenter(n), clips) for n in (network, deaf(network, 0)))
    return {"apart": apart, "J": with_it, "without": without}


def row_of(name: str, seed: int, clips: list[Clip]) -> dict[str, Any]:
    """A run's row, which is trained and measured if there is none."""
    file = RUNS / f"{runs.file_name(name)}-{seed}.json"
    if not file.exists():
        torch.manual_seed(seed)
        network = reference() if name == UNTRAINED else INGREDIENTS[name].network()
        if name != UNTRAINED:
            plan = recipe(INGREDIENTS[name])
            training.train(network, training.task("rvos"), plan, seed=seed, progress=False)
        write_atomically(file, json.dumps(measured(network.eval(), clips)).encode())
    found: dict[str, Any] = json.loads(file.read_text())
    print(name, seed, found, flush=True)
    return found


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = (UNTRAINED, *INGREDIENTS)
    parser.add_argument("--only", nargs="+", choices=names, default=names)
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS))
    given = parser.parse_args()
    torch.set_num_threads(1)
    RUNS.mkdir(parents=True, exist_ok=True)
    several = benchmark(2 * CLIPS, ["multiple_objects"])
    clips = list(islice((clip for clip in several if len(clip.objects) > 1), CLIPS))
    for seed in given.seeds:
        for name in given.only:
            row_of(name, seed, clips)
    finished = [n for n in names if all((RUNS / f"{runs.file_name(n)}-{s}.json").exists() for s in SEEDS)]
    rows = {}
    for name in finished:
        of_seeds = [row_of(name, seed, clips) for seed in SEEDS]
        row: dict[str, Any] = {key: [one[key] for one in of_seeds] for key in of_seeds[0]}
        levels = {f"level {k}": over_seeds(values) for k, values in enumerate(zip(*row["apart"], strict=True))}
        rows[name] = row | {"over_seeds": levels | {key: over_seeds(row[key]) for key in ("J", "without")}}
    setting = {"clips": len(clips), "seeds": list(SEEDS), "steps": sum(STEPS), "frames": FRAMES, **SMALL}
    keep(OUT, setting | {"rows": rows}, "python experiments/rvos_ingredients.py")


if __name__ == "__main__":
    main()
