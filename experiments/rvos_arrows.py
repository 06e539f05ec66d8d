"""Which arrows of its grid the shipped RVOS needs; writes ``04_rvos_arrows.json``, which notebook 04 quotes.

    python experiments/rvos_arrows.py

J of the one-shot network that ships, with both arrows, with space alone and with time alone, all from the same
weights; and with the ids of the objects in the opposite order, so that each gets another slot. Then what one object
loses if h is forgotten once, or if every previous mask from frame 2 on is empty. Last, whether the network moves the
mask that it is fed: it gets the *true* previous one, and its answer is compared with that mask and with the right
one. Takes a few minutes on one core.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from experiments import runs
from experiments.runs import by_condition, j_of, keep
from vos_tutorial import models
from vos_tutorial.clip import Clip, ids_to_onehot
from vos_tutorial.data.worlds.sprites import benchmark
from vos_tutorial.models.rvos import FED, RVOS, Recurrence, RVOSSegmenter, unroll
from vos_tutorial.propagation import most_probable, soft_aggregate

OUT = runs.RESULTS / "04_rvos_arrows.json"
CLIPS = 8
CONDITIONS = ("clean", "multiple_objects", "fast_motion", "occlusion", "out_of_view")
WAYS: tuple[Recurrence, ...] = ("ST", "S", "T")
CUT = 3
INTERRUPTED: dict[str, tuple[tuple[int, ...], bool]] = {  # frames before which h is forgotten; are masks empty?
    "untouched": ((), False),
    "h forgotten once": ((CUT,), False),
    "empty masks": ((), True),
}


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


def follow(network: RVOS, clip: Clip, forget: tuple[int, ...], empty: bool) -> torch.Tensor:
    """Ids ``uint8 [T, H, W]``; with ``empty``, all previous masks from frame 2 on are zero."""
    frames = clip.frames[None].float() / 255  # [1, T, 3, H, W]
    masks = ids_to_onehot(clip.first_mask, clip.objects).float()[None]  # [1, N, H, W]
    fed = torch.full(frames.shape[:2], FED.index("none")) if empty else None  # [1, T]
    with torch.no_grad():
        row = unroll(network, frames, masks, masks.shape[1], forget=forget, fed=fed)
        return torch.stack([most_probable(soft_aggregate(frame.probability[0])) for frame in row])  # [T, H, W]


def fed_the_truth(network: RVOS, clip: Clip, recurrence: Recurrence) -> torch.Tensor:
    """Ids ``uint8 [T, H, W]``; in frame t the previous masks are the true ones of frame t - 1."""
    frames = clip.frames[None].float() / 255  # [1, T, 3, H, W]
    truth = torch.stack([ids_to_onehot(ids, clip.objects) for ids in clip.masks]).float()[None]  # [1, T, N, H, W]
    with torch.no_grad():
        row = unroll(network, frames, truth[:, 0], truth.shape[2], recurrence, given=1, truth=truth)
        return torch.stack([most_probable(soft_aggregate(frame.probability[0])) for frame in row])  # [T, H, W]


def before(clip: Clip) -> Clip:
    """The same clip with the masks that :func:`fed_the_truth` feeds: in frame t >= 1 those of frame t - 1."""
    return replace(clip, masks=clip.masks.roll(1, 0))


def copied(network: RVOS) -> dict[str, dict[str, dict[str, float]]]:
    """IoU in percent of the answer with the fed mask, and with the right one, by condition and recurrence."""
    found: dict[str, dict[str, dict[str, float]]] = {}
    for condition in ("clean", "fast_motion"):
        clips = list(benchmark(CLIPS, [condition]))
        fed = [before(clip) for clip in clips]
        found[condition] = {}
        for way in ("ST", "S"):
            answers = [fed_the_truth(network, clip, way) for clip in clips]
            found[condition][way] = {
                name: runs.percent(np.mean([runs.per_frame(a, c)[1:] for a, c in zip(answers, judged, strict=True)]))
                for name, judged in (("fed", fed), ("right", clips))
            }
    return found


def interrupted(network: RVOS) -> dict[str, dict[str, float]]:
    """J in percent, averaged over the frames from :data:`CUT` on, by condition and by what was taken away."""
    found: dict[str, dict[str, float]] = {}
    for condition in ("clean", "fast_motion"):
        clips = list(benchmark(CLIPS, [condition]))
        found[condition] = {}
        for name, (forget, empty) in INTERRUPTED.items():
            curves = [runs.per_frame(follow(network, clip, forget, empty), clip)[CUT:] for clip in clips]
            found[condition][name] = runs.percent(np.mean(curves))
    return found


def main() -> None:
    """See the module."""
    torch.set_num_threads(1)
    network = models.trained("rvos")
    assert isinstance(network, RVOS)
    found = {"arrows": measure(network), "interrupted": interrupted(network.eval()), "copied": copied(network)}
    keep(OUT, found, "python experiments/rvos_arrows.py")


if __name__ == "__main__":
    main()
