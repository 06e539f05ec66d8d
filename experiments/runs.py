"""What the reference runs of all methods share: running trainings, scoring, and storing the numbers."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from vos_tutorial import evaluation, metrics, models, recipes
from vos_tutorial.clip import Clip
from vos_tutorial.data.davis import DavisFolder
from vos_tutorial.data.sources.generated import lifelike
from vos_tutorial.files import write_atomically
from vos_tutorial.models.weights import read_about, save_weights
from vos_tutorial.propagation import Segmenter, propagate
from vos_tutorial.recipes import Recipe

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "data" / "results"
SEEDS = (0, 1, 2)
SEQUENCES = ("car-roundabout", "libby", "motocross-jump")


def file_name(name: str) -> str:
    """A training's name as part of a file's: ``"teacher, log sigma"`` is ``teacher-log-sigma``."""
    return name.replace(",", "").replace(" ", "-")


def run_all(commands: Iterable[tuple[Path, list[str]]], jobs: int) -> None:
    """Run the trainings that have no ``weights.safetensors`` in their folder yet, ``jobs`` at a time, a core each."""
    waiting = [(out, command) for out, command in commands if not (out / "weights.safetensors").exists()]
    running: list[tuple[Path, subprocess.Popen[bytes]]] = []
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    while waiting or running:
        while waiting and len(running) < jobs:
            out, command = waiting.pop(0)
            out.mkdir(parents=True, exist_ok=True)
            with open(out / "output.txt", "wb") as output:
                running.append((out, subprocess.Popen(command, stdout=output, stderr=output, env=environment)))
        time.sleep(2)
        for out, process in list(running):
            if process.poll() is not None:
                running.remove((out, process))
                state = "finished" if process.returncode == 0 else f"failed, see {out / 'output.txt'}"
                print(out.name, state, flush=True)


Network = TypeVar("Network", bound=nn.Module)


class Trainings(Generic[Network]):
    """The trainings of one method, by name and seed: the commands that run them, and the networks that they leave.

    A training is called ``recipe``, like the cpu recipe, or like one of its variants.

    Args:
        method: from ``models.METHODS``.
        kind: class of its networks.
        variants: of the method's recipes.
        start: training -> the one (seed 0) whose weights it starts from.
        settings: training -> what ``--set`` changes in the cpu recipe, for those that are no variant.
    """

    def __init__(
        self,
        method: str,
        kind: type[Network],
        variants: Mapping[str, Recipe] | None = None,
        start: Mapping[str, str] | None = None,
        settings: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        self.method, self.kind = method, kind
        self.variants, self.start, self.settings = variants or {}, start or {}, settings or {}
        self.root = ROOT / "runs" / method

    def folder(self, name: str, seed: int) -> Path:
        """Where a training lives."""
        return self.root / f"{file_name(name)}-{seed}"

    def weights(self, name: str, seed: int) -> Path:
        """The weights that it leaves."""
        return self.folder(name, seed) / "weights.safetensors"

    def finished(self, name: str, seed: int) -> bool:
        """Whether it has come to its end."""
        return self.weights(name, seed).exists()

    def recipe(self, name: str) -> Recipe:
        """What it trains by."""
        if name in self.variants:
            return self.variants[name]
        return recipes.override(recipes.load(self.method, "cpu"), self.settings.get(name, ()))

    def command(self, name: str, seed: int) -> list[str]:
        """What runs it, or goes on with it."""
        command = [sys.executable, "-m", "vos_tutorial", "train", self.method, "--seed", str(seed)]
        command += ["--out", str(self.folder(name, seed))]
        command += ["--variant", name] if name in self.variants else ["--profile", "cpu"]
        for setting in self.settings.get(name, ()):
            command += ["--set", setting]
        if name in self.start:
            command += ["--start", str(self.weights(self.start[name], 0))]
        return command

    def commands(self, wanted: Iterable[tuple[str, int]]) -> Iterator[tuple[Path, list[str]]]:
        """Folder and command of each."""
        return ((self.folder(name, seed), self.command(name, seed)) for name, seed in wanted)

    def show(self, wanted: Iterable[tuple[str, int]], seconds: Callable[[Recipe], float]) -> None:
        """Print names, steps, and an estimate of the CPU minutes; ``seconds`` are those of a whole recipe."""
        total = 0.0
        for name, seed in wanted:
            made = self.recipe(name)
            minutes = seconds(made) / 60
            total += minutes
            done = " (done)" if self.finished(name, seed) else ""
            print(f"{minutes:6.1f} min  {made.steps:5} steps  {self.method}, {name!r}, seed {seed}{done}")
        print(f"{total:6.1f} CPU minutes in all")

    def network(self, name: str, seed: int) -> Network:
        """The network that a training left."""
        network = models.trained(self.method, self.weights(name, seed))
        assert isinstance(network, self.kind)
        return network

    def seeds(self, name: str) -> list[int]:
        """Those of a training's seeds that are finished."""
        return [seed for seed in SEEDS if self.finished(name, seed)]

    def networks(self, name: str) -> list[Network]:
        """The networks of those seeds.

        Raises:
            SystemExit: if there is none.
        """
        found = [self.network(name, seed) for seed in self.seeds(name)]
        if not found:
            raise SystemExit(
                f"no training {name!r} is finished; run python experiments/{self.method}.py train first."
            )
        return found

    def ship(
        self, variant: str, name: str, seed: int, data: str, network: nn.Module | None = None, like: str | None = None
    ) -> None:
        """Store a training's network in half precision, where readers look for it; nothing if it is not finished.

        Args:
            variant: what the file is called beside the method.
            name: of the training.
            seed: of the training.
            data: what it learned from, in words.
            network: made of several trainings, and ...
            like: ... the training whose form it has.
        """
        if not self.finished(name, seed):
            there = models.shipped_weights(self.method, variant).name
            print(f"{self.folder(name, seed).name} is not finished; {there} stays as it is.")
            return
        told = read_about(self.weights(like or name, seed))
        before = self.recipe(self.start[name]).steps if name in self.start else 0
        about = {
            "method": self.method,
            "size": told.size,
            "options": json.dumps(told.options),
            "recipe": f"cpu, {name}",
            "seed": str(seed),
            "steps": str(self.recipe(name).steps + before),
            "device": "cpu",
            "data": data,
            **self.recipe(like or name).use(),
        }
        shipped = network if network is not None else self.network(name, seed)
        save_weights(models.shipped_weights(self.method, variant), shipped, about, dtype=torch.float16)


def seconds_of(run: Path) -> float:
    """Training time, as the run itself printed it."""
    words = (run / "output.txt").read_text().split()
    return float(words[words.index("steps") + 2])


def smooth(run: Path, name: str, points: int = 50) -> list[float]:
    """A logged quantity, averaged over equal stretches of the training."""
    values = [json.loads(line)[name] for line in (run / "log.jsonl").read_text().splitlines()]
    return [round(float(part.mean()), 4) for part in np.array_split(np.array(values), points)]


def percent(value: float | np.floating[Any]) -> float:
    """Rounded to what is worth quoting."""
    return round(100 * float(value), 2)


def mean(values: Sequence[float]) -> float:
    """Of numbers that are rounded already."""
    return round(float(np.mean(values)), 4)  # two more: else 86.147 is quoted as 86.2 here, as 86.1 elsewhere


def over_seeds(values: Sequence[float]) -> dict[str, float]:
    """``mean``, and of several values ``sd`` (divided by n - 1)."""
    spread = {"sd": round(float(np.std(values, ddof=1)), 4)} if len(values) > 1 else {}
    return {"mean": mean(values)} | spread


def by_condition(segmenter: Segmenter, clips: list[Clip]) -> dict[str, dict[str, float]]:
    """J and F in percent per condition, DAVIS-2017 protocol."""
    report = evaluation.evaluate(segmenter, clips)
    return {
        name: {"J": percent(summary.J.mean), "F": percent(summary.F.mean)}
        for name, summary in report.by_attribute().items()
    }


def j_of(segmenter: Segmenter, clips: list[Clip]) -> float:
    """Mean J in percent, DAVIS-2017 protocol."""
    return percent(evaluation.evaluate(segmenter, clips).average().J.mean)


def per_frame(ids: Tensor, clip: Clip) -> np.ndarray:
    """J of every frame, averaged over the objects: ``float64 [T]``."""
    return np.mean([metrics.region_similarity(clip.masks == o, ids == o) for o in clip.objects], axis=0)


def held_out(count: int = 32) -> list[Clip]:
    """Clips by which the networks that ship are chosen: close to what a camera sees, with held-out textures."""
    made = lifelike(split="test").batch(range(9_000_000, 9_000_000 + count), 128, 16)
    return [
        Clip((frames * 255).round().to(torch.uint8), masks, f"lifelike-{i}", ("lifelike",))
        for i, (frames, masks) in enumerate(zip(*made, strict=True))
    ]


def swap(make: Callable[[], Segmenter], clips: list[Clip]) -> float:
    """The mean of :func:`vos_tutorial.evaluation.mask_swap_iou` over the clips in which it says something."""
    return round(float(np.nanmean([evaluation.mask_swap_iou(make, clip) for clip in clips])), 4)


def recovery(segmenter: Segmenter, clips: list[Clip]) -> dict[str, Any]:
    """J while the object is in view before and after it was hidden completely, and how often it is hallucinated."""
    before, after, false_alarms, curves = [], [], [], []
    for clip in clips:
        ids = propagate(segmenter, clip.frames, clip.first_mask)
        j, seen = per_frame(ids, clip), (clip.masks > 0).flatten(1).any(1).numpy()
        hidden = np.flatnonzero(~seen)
        before.append(j[1 : hidden[0]].mean())
        after.append(j[hidden[-1] + 2 :].mean())
        false_alarms.append((ids[torch.from_numpy(hidden)] > 0).flatten(1).any(1).float().mean().item())
        curves.append(np.where(seen, j, np.nan))
    return {
        "before": percent(np.mean(before)),
        "after": percent(np.mean(after)),
        "false_alarms": percent(np.mean(false_alarms)),
        "curve": [None if np.isnan(v) else percent(v) for v in curves[0]],
    }


def real(methods: Mapping[str, Sequence[Segmenter]], folder: Path) -> dict[str, Any]:
    """J and F on three DAVIS-2016 sequences, as the protocol of 2016 has it, at the folder's own size.

    Args:
        methods: for each name one segmenter, or one for each seed.
        folder: in DAVIS-2016 layout.
    """
    videos = DavisFolder(folder)
    clips = [videos[name] for name in SEQUENCES]
    result: dict[str, Any] = {"size": list(clips[0].size), "J": {}, "F": {}, "per_frame": {}}
    for name, runs in methods.items():
        print("real", name, flush=True)
        reports = [evaluation.evaluate(run, clips, protocol="davis2016") for run in runs]
        for measure in "JF":
            scores = [[percent(getattr(row.score.summary, measure).mean) for row in r.rows] for r in reports]
            result[measure][name] = {clip.name: [run[i] for run in scores] for i, clip in enumerate(clips)} | {
                "mean": [mean(run) for run in scores]
            }
        result["per_frame"][name] = {
            clip.name: [round(float(v), 4) for v in reports[0].rows[i].score.J] for i, clip in enumerate(clips)
        }
    return result


def from_page(page: str, names: Sequence[str], **given: Any) -> dict[str, Any]:
    """Functions and classes of a page, so that what is measured is what its reader runs.

    Args:
        page: of ``notebooks/src``, without the ending.
        names: of definitions at the top level of its cells; nothing else of the page runs.
        given: the globals that they read.
    """
    path = ROOT / "notebooks" / "src" / f"{page}.py"
    tree = ast.parse(path.read_text())
    kinds = (ast.FunctionDef, ast.ClassDef)
    tree.body = [node for node in tree.body if isinstance(node, kinds) and node.name in names]
    exec(compile(tree, str(path), "exec"), given)
    return given


def keep(path: Path, found: dict[str, Any], command: str) -> None:
    """Put what was found, and the command that finds it, beside what is stored already."""
    stored = json.loads(path.read_text()) if path.exists() else {}
    stored |= found
    stored["command"] = command
    write_atomically(path, (json.dumps(stored, indent=1) + "\n").encode())
    print("wrote", ", ".join(found), "to", path.relative_to(ROOT), flush=True)
