"""What notebook 09 shows: where corrections help, how far methods carry, what resolution costs, what a first mask is
worth.

Everything is measured on generated clips whose masks are exact, so that a correction can be simulated: the mask of a
frame is replaced by the truth. A correction begins the method anew there and changes the frames up to the next one,
as ``vos_tutorial.video.Project`` does it. J is the mean over the frames 1..T-1, those with a given mask included: it
is what the user gets. The gain leaves the given frames out, for a mask that was painted is right in any case: it is
what the method made of the correction.

    python experiments/own_video.py measure [corrections drift resolution first_mask]
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from experiments.runs import RESULTS, SEEDS
from vos_tutorial import models
from vos_tutorial.baselines import CopyFirst
from vos_tutorial.clip import Clip
from vos_tutorial.data.worlds.sprites import make_clip
from vos_tutorial.files import write_atomically
from vos_tutorial.metrics import region_similarity
from vos_tutorial.propagation import Segmenter, propagate
from vos_tutorial.rng import Rng

FILE = RESULTS / "09_own_video.json"
KINDS = ("occlusion", "distractors", "appearance_change", "deformation")
LENGTH, SIZE = 32, 96
CORRECTIONS = 3
VISIBLE = 20  # pixels of an object that somebody would paint
LONG = 60
STEPS = (1, 5, 10, 20, 30, 40, 59)
LOST = 0.5  # an object is lost where J is below
MEASURES = ("J", "gain", "J photos")  # lists of sets of clips, whose means are stored beside them


def clips(seed: int, length: int = LENGTH, size: int = SIZE) -> list[Clip]:
    """One clip of each kind; those of different seeds have nothing in common."""
    return [
        make_clip(1000 + 10 * seed + i, size=size, length=length, attributes=[kind], split="test")
        for i, kind in enumerate(KINDS)
    ]


def similarity(clip: Clip, ids: Tensor) -> np.ndarray[Any, Any]:
    """J of object 1 in each frame, ``float64 [T]``."""
    return region_similarity(clip.masks == 1, ids == 1)


# ------------------------------------------------------------------------------------------------- corrections


class Session:
    """A clip that is being corrected: one object, its answer, and how sure the method is of each frame."""

    def __init__(self, method: Segmenter, clip: Clip) -> None:
        self.method, self.clip = method, clip
        self.truth = (clip.masks == 1).byte()
        self.ids = torch.zeros_like(self.truth)
        self.sure = np.ones(len(clip))
        self.given: list[int] = []
        self.visible = self.truth.flatten(1).sum(1).numpy() >= VISIBLE
        self.correct(0)
        self.at_first = similarity(clip, self.ids)

    def free(self) -> np.ndarray[Any, Any]:
        """The frames that somebody could correct: the object can be seen, and no mask is given yet."""
        return np.flatnonzero(self.visible & ~np.isin(np.arange(len(self.clip)), self.given))

    def correct(self, t: int) -> None:
        """Give the truth of frame ``t``, and carry it to the next given mask."""
        self.given = sorted({*self.given, t})
        end = next((other for other in self.given if other > t), len(self.clip))
        self._recall([other for other in self.given if other <= t])
        self.ids[t] = self.truth[t]
        for i in range(t + 1, end):
            background, p = self.method.step(self._frame(i))
            inside = p > background
            self.ids[i] = inside.byte()
            self.sure[i] = float(p[inside].mean() if inside.any() else 1 - p.max())
        self.sure[t] = 1.0

    def _frame(self, t: int) -> Tensor:
        return self.clip.frames[t].float() / 255

    def _recall(self, given: Sequence[int]) -> None:
        """Begin with the masks that are given, one step each."""
        self.method.begin(self._frame(given[0]), self.truth[given[0]])
        for t in given[1:]:
            self.method.step(self._frame(t))
            self.method.correct(self._frame(t), self.truth[t])

    def quality(self) -> float:
        """J of the whole clip in percent."""
        return 100 * float(similarity(self.clip, self.ids)[1:].mean())

    def gain(self) -> float:
        """Points of J that the corrections won in the frames in which no mask is given."""
        won = similarity(self.clip, self.ids) - self.at_first
        return 100 * float(np.delete(won, self.given).mean())


def least_sure(session: Session, rng: Rng) -> int:
    """The frame in which the method's mask is least probable."""
    return int(min(session.free(), key=lambda t: session.sure[t]))


def worst(session: Session, rng: Rng) -> int:
    """The frame whose mask is worst, which only the truth can tell."""
    j = similarity(session.clip, session.ids)
    return int(min(session.free(), key=lambda t: j[t]))


def at_random(session: Session, rng: Rng) -> int:
    """Any frame."""
    free = session.free()
    return int(free[rng.pick(len(free))])


def evenly(count: int) -> Callable[[Session, Rng], int]:
    """The next of ``count`` frames that divide the clip into equal parts."""

    def choose(session: Session, rng: Rng) -> int:
        there = round(len(session.given) * len(session.clip) / (count + 1))
        return int(min(session.free(), key=lambda t: abs(t - there)))

    return choose


def corrected(method: Segmenter, clip: Clip, choose: Callable[[Session, Rng], int], count: int, rng: Rng) -> Session:
    """A clip with so many corrections."""
    session = Session(method, clip)
    for _ in range(count):
        session.correct(choose(session, rng))
    return session


def corrections() -> dict[str, Any]:
    """J after 0..3 corrections, and what they won elsewhere, for each way to choose where; a list for each seed."""
    method = models.segmenter("stm")
    ways: dict[str, Callable[[int], Callable[[Session, Rng], int]]] = {
        "even": evenly,
        "least sure": lambda _: least_sure,
        "random": lambda _: at_random,
        "worst": lambda _: worst,
    }
    found: dict[str, dict[str, list[list[float]]]] = {
        measure: {name: [] for name in ways} for measure in ("J", "gain")
    }
    for seed in SEEDS:
        seen = clips(seed)
        for name, way in ways.items():
            table = [
                [
                    corrected(method, clip, way(count), count, Rng(100 * seed + number))
                    for count in range(CORRECTIONS + 1)
                ]
                for number, clip in enumerate(seen)
            ]
            for measure, of in (("J", Session.quality), ("gain", Session.gain)):
                rows = np.mean([[of(session) for session in row] for row in table], axis=0)
                found[measure][name].append(rows.round(2).tolist())
            print(f"seed {seed}, {name}:", found["J"][name][-1], "elsewhere", found["gain"][name][-1], flush=True)
    return {"frames": LENGTH, "clips of a seed": len(KINDS), **found}


def calibration() -> dict[str, Any]:
    """Does confidence tell where the mask is wrong? Its rank correlation with J over frames, clip by clip."""
    method, rows = models.segmenter("stm"), []
    for seed in SEEDS:
        values = []
        for clip in clips(seed):
            session = Session(method, clip)
            j = similarity(clip, session.ids)[1:]
            ranks = [np.argsort(np.argsort(x)) for x in (j, session.sure[1:])]
            if j.std() > 0:
                values.append(float(np.corrcoef(ranks)[0, 1]))
        rows.append(round(float(np.mean(values)), 3))
    return {"rank correlation": rows}


# ------------------------------------------------------------------------------------------------------- drift


def drift() -> dict[str, Any]:
    """J of each method some frames after the first, and after how many frames half of the clips are lost."""
    methods: dict[str, Segmenter] = {
        "copy of the mask": CopyFirst(),
        "MaskTrack": models.segmenter("masktrack", online_steps=0),
        "RGMP": models.segmenter("rgmp"),
        "RVOS": models.segmenter("rvos"),
        "STM": models.segmenter("stm"),
        "STCNN": models.segmenter("stcnn", online_steps=0),
        "STM photos": models.segmenter("stm", variant="photos"),
    }
    result: dict[str, Any] = {"frames": list(STEPS), "J": {}, "lost after": {}, "J at the end": {}}
    for name, method in methods.items():
        curves, lost, ends = [], [], []
        for seed in SEEDS:
            js = np.stack(
                [similarity(c, propagate(method, c.frames, (c.masks[0] == 1).byte())) for c in clips(seed, LONG)]
            )
            curves.append((100 * js[:, list(STEPS)].mean(0)).round(2).tolist())
            lost += [int(np.argmax(row < LOST)) if (row < LOST).any() else LONG for row in js]
            ends.append(100 * js[:, STEPS[-1]])
        result["J"][name] = curves
        result["lost after"][name] = float(np.median(lost))
        result["J at the end"][name] = dict(zip(KINDS, np.mean(ends, axis=0).round(2).tolist(), strict=True))
        print(name, np.mean(curves, axis=0).round(1).tolist(), "lost after", result["lost after"][name], flush=True)
    return result


# -------------------------------------------------------------------------------------------------- resolution


def resolution() -> dict[str, Any]:
    """One video of 256 lines, followed at fewer: J at full size, and CPU seconds a frame."""
    result: dict[str, Any] = {"lines of the video": 256, "J": {}, "ms": {}}
    seen = {seed: clips(seed, length=16, size=256)[:3] for seed in SEEDS}
    for lines in (256, 192, 128, 96, 64, 32):
        method = models.segmenter("stm", short_side=lines)
        rows, seconds = [], 0.0
        for seed in SEEDS:
            began = time.process_time()
            answers = [propagate(method, c.frames, (c.masks[0] == 1).byte()) for c in seen[seed]]
            seconds += time.process_time() - began
            pairs = zip(seen[seed], answers, strict=True)
            rows.append(round(100 * float(np.mean([similarity(c, ids)[1:].mean() for c, ids in pairs])), 2))
        result["J"][str(lines)] = rows
        result["ms"][str(lines)] = round(1000 * seconds / sum(len(c) for each in seen.values() for c in each), 1)
        print(lines, rows, result["ms"][str(lines)], flush=True)
    return result


# -------------------------------------------------------------------------------------------------- first mask


def grown(mask: Tensor, by: int) -> Tensor:
    """A mask ``bool [H, W]``, larger by so many pixels on every side, or smaller if that is negative."""
    kind = mask if by > 0 else ~mask
    reached = F.max_pool2d(kind[None].float(), 2 * abs(by) + 1, stride=1, padding=abs(by))[0] > 0
    return reached if by > 0 else ~reached


def box(mask: Tensor) -> Tensor:
    """The rectangle around a mask ``bool [H, W]``."""
    full = torch.zeros_like(mask)
    rows, columns = mask.any(1).nonzero()[:, 0], mask.any(0).nonzero()[:, 0]
    full[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] = True
    return full


def left_half(mask: Tensor) -> Tensor:
    """The left half of a mask: what is painted in a hurry."""
    half = mask.clone()
    half[:, int(mask.nonzero()[:, 1].float().mean()) :] = False
    return half


FIRST: dict[str, Callable[[Tensor], Tensor]] = {
    "exact": lambda m: m,
    "2 pixels smaller": lambda m: grown(m, -2),
    "2 pixels larger": lambda m: grown(m, 2),
    "shifted by 4": lambda m: m.roll(4, dims=1),
    "box": box,
    "left half": left_half,
}


def first_mask() -> dict[str, Any]:
    """J of the frames behind the first, for masks of several qualities, and their own J; for two networks of STM."""
    networks = {"J": models.segmenter("stm"), "J photos": models.segmenter("stm", variant="photos")}
    result: dict[str, Any] = {**{name: {} for name in networks}, "J of the mask": {}}
    seen = {seed: clips(seed, length=20) for seed in SEEDS}
    for name, change in FIRST.items():
        given = {seed: [change(clip.masks[0] == 1) for clip in seen[seed]] for seed in SEEDS}
        pairs = {seed: list(zip(seen[seed], given[seed], strict=True)) for seed in SEEDS}
        for measure, method in networks.items():
            result[measure][name] = [
                round(
                    100 * float(np.mean([similarity(c, propagate(method, c.frames, m.byte()))[1:] for c, m in of])), 2
                )
                for of in pairs.values()
            ]
        own = [region_similarity(c.masks[:1] == 1, m[None])[0] for of in pairs.values() for c, m in of]
        result["J of the mask"][name] = round(100 * float(np.mean(own)), 1)
        print(
            name, {measure: result[measure][name] for measure in networks}, result["J of the mask"][name], flush=True
        )
    return result


PARTS: dict[str, Callable[[], dict[str, Any]]] = {
    "corrections": corrections,
    "calibration": calibration,
    "drift": drift,
    "resolution": resolution,
    "first_mask": first_mask,
}


def measure(parts: Sequence[str]) -> None:
    """Measure some parts, and store them beside those that were measured before; with means over the seeds."""
    for name in parts:
        found = PARTS[name]()
        stored = json.loads(FILE.read_text("utf-8")) if FILE.exists() else {}
        content = {**stored, name: found}
        for part in content.values():
            for which in (name for name in MEASURES if name in part):
                means = {way: np.mean(rows, axis=0).round(2).tolist() for way, rows in part[which].items()}
                part[f"{which} mean"] = means
        content = {key: content[key] for key in PARTS if key in content}
        write_atomically(FILE, (json.dumps(content, indent=1) + "\n").encode())


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=["measure"])
    parser.add_argument("parts", nargs="*", help=f"of {', '.join(PARTS)}; all by default")
    options = parser.parse_args()
    if unknown := set(options.parts) - set(PARTS):
        parser.error(f"there is no part {unknown.pop()}; choose from {', '.join(PARTS)}")
    torch.set_num_threads(1)
    measure(options.parts or list(PARTS))


if __name__ == "__main__":
    main()
