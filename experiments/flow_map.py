"""Train and measure what notebook 07 quotes of the plane: ``flow_map-plane-*.safetensors`` and ``07_flow_map.json``.

    python experiments/flow_map.py train [NAME ...]   three seeds of every training, or of those named
    python experiments/flow_map.py measure            samples of all of them, scored
    python experiments/flow_map.py exact              the closed forms: no training
    python experiments/flow_map.py ship               what the page loads; measure does it, too
    python experiments/flow_map.py list               the trainings, and which are done

Runs lie under ``runs/flow_map/``, one file each; ``train`` goes on where it was stopped. What the images of the page
are measured by is in ``experiments/flow_images.py``.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from experiments.runs import RESULTS, ROOT, SEEDS, file_name, keep
from vos_tutorial.data.worlds.plane import HALVES, MODES, SPREAD, checkerboard, mode_of, on_board, ring
from vos_tutorial.models import plane
from vos_tutorial.models.flow_map import (
    GaussianFlow,
    Network,
    Velocity,
    autoguidance,
    emd_direction,
    even_times,
    jump,
    lmd_direction,
    sample,
)
from vos_tutorial.models.plane import Clock, PlaneFlowMap, PlaneVelocity
from vos_tutorial.models.weights import read_metadata, save_weights
from vos_tutorial.samples import paired_distance, sliced_wasserstein
from vos_tutorial.training import flow_map as training
from vos_tutorial.training.flow_map import Direction, Jumps, Times

OUT = RESULTS / "07_flow_map.json"
FOLDER = ROOT / "runs" / "flow_map"
COMMAND = "; ".join(f"python experiments/flow_map.py {what}" for what in ("train", "measure", "exact"))
TEACHER, STUDENT = training.TEACHER["cpu"], training.STUDENT["cpu"]
WEAK = dataclasses.replace(TEACHER, steps=TEACHER.steps // 10)
STEPS = (1, 2, 4, 8, 16)
SAMPLES = 8000


def forgotten_one(teacher: Velocity) -> Direction:
    """The planted bug: the tangent of t is 0 instead of 1, so that the derivative misses what t itself changes."""

    def direction(student: Network, b: Jumps, r: float, step: int) -> Tensor:
        def still(x: Tensor, _: Tensor, s: Tensor) -> Tensor:
            return student(x, b.t, s)

        return emd_direction(still, b.x, b.t, b.s, teacher(b.x, b.t), r, step=step)

    return direction


@dataclasses.dataclass(frozen=True)
class Student:
    """One kind of distillation: which direction, on which clock, and what of the stabilisers."""

    direction: Callable[[Velocity], Direction] = training.eulerian
    clock: Clock = "time"
    times: Times = training.by_length
    cap: float = 0.99
    warm: bool = True
    c: float | None = 0.1


BARE: dict[str, Any] = {"cap": 1.0, "warm": False, "c": None}
STUDENTS = {
    "emd": Student(),
    "lmd": Student(training.lagrangian),
    "mean flow": Student(lambda teacher: training.mean_flow(), c=None),
    "consistency": Student(times=training.to_the_data),
    "forgotten 1": Student(forgotten_one),
    "time, bare": Student(**BARE),
    "log sigma": Student(clock="log sigma"),
    "log sigma, no warm-up": Student(clock="log sigma", cap=1.0, warm=False),
    "log sigma, no normalisation": Student(clock="log sigma", c=None),
    "log sigma, bare": Student(clock="log sigma", **BARE),
    "fast": Student(clock="fast"),
    "fast, bare": Student(clock="fast", **BARE),
    "sorted times": Student(times=training.sorted_pair),
    "cap 0": Student(cap=0.0),
    "cap nine tenths": Student(cap=0.9),
    "cap 1": Student(cap=1.0),
}
TEACHERS: dict[str, Clock] = {"teacher": "time", "teacher, log sigma": "log sigma", "teacher, fast": "fast"}
RINGS = {"ring": TEACHER, "ring, weak": WEAK}  # the weak one learned for a tenth of the steps


# ------------------------------------------------------------------------------------------------------------ train


def path_of(name: str, seed: int) -> Path:
    """Where a training leaves its network."""
    return FOLDER / f"{file_name(name)}-{seed}.safetensors"


def teacher_of(clock: Clock, seed: int) -> PlaneVelocity:
    """The trained teacher on a clock."""
    name = next(name for name, its in TEACHERS.items() if its == clock)
    return plane.trained_velocity(path_of(name, seed))


def train_one(name: str, seed: int) -> None:
    """One training, unless it is done; its teacher comes first."""
    path = path_of(name, seed)
    if path.exists():
        return
    torch.manual_seed(seed)
    began = time.process_time()
    if name in STUDENTS:
        how = STUDENTS[name]
        train_one(next(teacher for teacher, clock in TEACHERS.items() if clock == how.clock), seed)
        teacher, options = teacher_of(how.clock, seed), {"clock": how.clock}
        network: torch.nn.Module = PlaneFlowMap(teacher).requires_grad_(True)
        began = time.process_time()
        log = training.distil(
            network, checkerboard, how.direction(teacher), STUDENT, seed,
            times=how.times, warm_up_steps=None if how.warm else 0, cap=how.cap, c=how.c,
        )  # fmt: skip
    elif name in TEACHERS:
        options = {"clock": TEACHERS[name]}
        network = PlaneVelocity(clock=TEACHERS[name])
        log = training.learn_velocity(network, checkerboard, TEACHER, seed)
    else:
        options = {"classes": HALVES}
        network = PlaneVelocity(classes=HALVES)
        log = training.learn_velocity(network, ring, RINGS[name], seed)
    seconds = time.process_time() - began
    parts = [round(float(part.mean()), 4) for part in torch.tensor(log).tensor_split(30)]
    about = {"method": "flow_map", "size": "small", "options": json.dumps(options), "recipe": name, "seed": str(seed)}
    about |= {"steps": str(len(log)), "device": "cpu", "seconds": f"{seconds:.1f}", "log": json.dumps(parts)}
    save_weights(path, network, about | {"data": "ring" if name in RINGS else "checkerboard"})
    print(f"{name}, seed {seed}: {seconds:.0f} s of CPU time, last {parts[-1]}", flush=True)


SHIPPED = ("teacher", "emd", "consistency", "log sigma", "fast", "fast, bare", "forgotten 1", "ring", "ring, weak")


def ship() -> None:
    """Seed 0 of what the page loads, in half precision."""
    for name in SHIPPED:
        of = plane.trained_flow_map if name in STUDENTS else plane.trained_velocity
        about = {k: v for k, v in read_metadata(path_of(name, 0)).items() if k not in ("seconds", "log")}
        save_weights(plane.shipped(file_name(name)), of(path_of(name, 0)), about, dtype=torch.float16)


# ---------------------------------------------------------------------------------------------------------- measure


@torch.no_grad()
def heun(velocity: Velocity, noise: Tensor, steps: int = 64) -> Tensor:
    """The reference: Heun's method, second order, from noise to data."""
    x, times = noise, even_times(steps)
    for t, then in pairwise(times):
        here, there = noise.new_full((len(noise),), t), noise.new_full((len(noise),), then)
        slope = velocity(x, here)
        x = x + (then - t) / 2 * (slope + velocity(x + (then - t) * slope, there))
    return x


def drawn(seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Noise to start from, and two fresh sets of data for the sampling floor, of a seed that no training has."""
    generator = torch.Generator().manual_seed(1_000_000 + seed)
    noise = torch.randn(SAMPLES, 2, generator=generator)
    return noise, checkerboard(SAMPLES, generator), checkerboard(SAMPLES, generator)


def euler(velocity: Velocity) -> Network:
    """A velocity as a map that ignores where it goes."""
    return lambda x, t, s: velocity(x, t)


def scores(network: Network, seed: int, reference: Tensor, gamma: float = 0.0) -> dict[str, list[float]]:
    """How good samples are, a value for each number of steps.

    ``"to teacher"`` and ``"to data"`` are distances of the sets, ``"off the board"`` is the share of samples that lie
    where no data are, and ``"paired"`` the distance to the teacher's sample from the same noise. Fresh noise between
    the steps (``gamma`` above 0) keeps no pairs.
    """
    noise, data, _ = drawn(seed)
    fresh = torch.Generator().manual_seed(2_000_000 + seed)
    made = [sample(network, noise, even_times(steps), gamma, fresh) for steps in STEPS]
    found = {"to teacher": [sliced_wasserstein(x, reference) for x in made]}
    found["to data"] = [sliced_wasserstein(x, data) for x in made]
    found["off the board"] = [1 - on_board(x).float().mean().item() for x in made]
    found["paired"] = [paired_distance(x, reference) for x in made]
    return {key: [round(value, 4) for value in values] for key, values in found.items()}


def by_seed(each: Callable[[int], dict[str, Any]], *names: str) -> dict[str, Any]:
    """A measurement of the seeds for which all the named trainings are done, and the mean of its lists."""
    found = [each(seed) for seed in SEEDS if all(path_of(name, seed).exists() for name in names)]
    if not found:
        raise SystemExit(f"{' and '.join(names)}: not trained yet; run python experiments/flow_map.py train.")
    return {
        key: {
            "seeds": [f[key] for f in found],
            "mean": [round(sum(row) / len(row), 6) for row in zip(*(f[key] for f in found), strict=True)],
        }
        for key in found[0]
    }


def measure() -> None:
    """Everything that is trained."""
    references = {
        (clock, seed): heun(teacher_of(clock, seed), drawn(seed)[0])
        for name, clock in TEACHERS.items()
        for seed in SEEDS
        if path_of(name, seed).exists()
    }
    result: dict[str, Any] = {"seeds": list(SEEDS), "samples": SAMPLES, "step counts": list(STEPS)}
    floors = [sliced_wasserstein(*drawn(seed)[1:]) for seed in SEEDS]
    result["floor"] = {"seeds": [round(f, 4) for f in floors], "mean": round(sum(floors) / len(floors), 4)}
    result["teachers"] = {
        name: by_seed(lambda seed, clock=clock: of_teacher(references[clock, seed], seed), name)  # type: ignore[misc]
        for name, clock in TEACHERS.items()
    }
    result["euler"] = by_seed(
        lambda seed: scores(euler(teacher_of("time", seed)), seed, references["time", seed]), "teacher"
    )
    result["students"] = {}
    for name in STUDENTS:
        if not any(path_of(name, seed).exists() for seed in SEEDS):
            print(name, "is not trained, and left out", flush=True)
            continue
        result["students"][name] = by_seed(lambda seed, name=name: of_student(name, seed, references), name)  # type: ignore[misc]
        print(name, result["students"][name]["to teacher"]["mean"], flush=True)
    result["gamma"] = {
        str(gamma): by_seed(lambda seed, gamma=gamma: of_student("emd", seed, references, gamma), "emd")  # type: ignore[misc]
        for gamma in (0.5, 1.0)
    }
    result["training"] = training_record()
    result["last length"] = {
        name: round(sum(log[-1] for log in logs) / len(logs), 4)
        for name in STUDENTS
        if (logs := [log_of(name, seed) for seed in SEEDS if path_of(name, seed).exists()])
    }
    result["guidance"] = guidance()
    keep(OUT, result, COMMAND)
    ship()


def of_teacher(samples: Tensor, seed: int) -> dict[str, list[float]]:
    """How far a teacher's own samples are from the data."""
    return {
        "to data": [round(sliced_wasserstein(samples, drawn(seed)[1]), 4)],
        "off the board": [round(1 - on_board(samples).float().mean().item(), 4)],
    }


def of_student(
    name: str, seed: int, references: dict[tuple[Clock, int], Tensor], gamma: float | None = None
) -> dict[str, list[float]]:
    """A student's scores; a consistency model is sampled as it must be, with fresh noise."""
    network = plane.trained_flow_map(path_of(name, seed))
    fresh = (1.0 if name == "consistency" else 0.0) if gamma is None else gamma
    return scores(network, seed, references[STUDENTS[name].clock, seed], fresh)


def log_of(name: str, seed: int) -> list[float]:
    """What a training logged, in thirty parts: a teacher's loss, a student's length of the direction."""
    found: list[float] = json.loads(read_metadata(path_of(name, seed))["log"])
    return found


def training_record() -> dict[str, Any]:
    """Steps, seconds and the course of the logged quantity of what the page trains."""
    found: dict[str, Any] = {}
    for name, run, network in (
        ("teacher", TEACHER, PlaneVelocity()),
        ("emd", STUDENT, PlaneFlowMap(PlaneVelocity())),
    ):
        abouts = [read_metadata(path_of(name, seed)) for seed in SEEDS if path_of(name, seed).exists()]
        found[name] = dataclasses.asdict(run) | {
            "parameters": sum(p.numel() for p in network.parameters()),
            "cpu seconds": [float(about["seconds"]) for about in abouts],
            "log": [log_of(name, seed) for seed in SEEDS if path_of(name, seed).exists()],
        }
    return found


LAMBDAS = (1.0, 1.5, 2.0, 3.0, 5.0)


def guidance() -> dict[str, Any]:
    """Samples of class 0 of the ring under growing guidance: how many lie on a mode of theirs, and on how many modes.

    Precision is the share of samples within three standard deviations of one of the class's four centres. Coverage is
    the sum over these modes of min(share, 1/4): 1 where all four have as many. Spread is the
    standard deviation of the precise ones about their own mean, averaged over modes, over that of the data.
    """
    found: dict[str, Any] = {"lambda": list(LAMBDAS)}
    own = MODES // HALVES
    for name in ("autoguidance", "classifier-free"):

        def one(seed: int, name: str = name) -> dict[str, list[float]]:
            noise = drawn(seed)[0]
            good, weak = (plane.trained_velocity(path_of(n, seed)) for n in RINGS)
            label = torch.zeros(len(noise), dtype=torch.long)

            def labelled(x: Tensor, t: Tensor) -> Tensor:
                return good(x, t, label)

            def poor(x: Tensor, t: Tensor) -> Tensor:
                return weak(x, t, label) if name == "autoguidance" else good(x, t)

            rows: dict[str, list[float]] = {"precision": [], "coverage": [], "spread": []}
            for weight in LAMBDAS:
                x = heun(autoguidance(labelled, poor, weight), noise, 32)
                mode, distance = mode_of(x)
                near = (mode < own) & (distance < 3 * SPREAD)
                share = torch.bincount(mode[near], minlength=MODES)[:own] / len(x)
                rows["precision"].append(round(near.float().mean().item(), 4))
                rows["coverage"].append(round(share.clamp(max=1 / own).sum().item(), 4))
                widths = [x[near & (mode == k)].std(0).square().mean().sqrt() / SPREAD for k in range(own)]
                rows["spread"].append(round(torch.stack(widths).mean().item(), 4))
            return rows

        found[name] = by_seed(one, *RINGS)
        print(name, {k: v["mean"] for k, v in found[name].items()}, flush=True)
    return found


# ------------------------------------------------------------------------------------------------------------ exact


def gaussian_table(
    c: float = 0.5, error: float = 0.02, steps: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 64, 128, 256)
) -> dict[str, Any]:
    """W2 to the data after N steps of one map of a Gaussian, sampled in two ways. Samples stay normal: W2 is exact.

    The map's average velocity ``F`` is too large by ``error * x``, for every ``t`` and ``s``. So the two ways differ
    in nothing but where they jump: to the next time, as a flow map does, or to the data and back with fresh noise, as
    a consistency model must.
    """
    flow = GaussianFlow(c)

    def spread(t: float) -> float:
        return flow.spread(torch.tensor(t, dtype=torch.float64)).item()

    def jumped(std: float, t: float, s: float) -> float:
        return std * (spread(s) / spread(t) + (s - t) * error)

    def consistency(n: int) -> float:
        std, times = 1.0, even_times(n)
        for t, then in pairwise(times):
            std = jumped(std, t, 0.0)
            std = (((1 - then) * std) ** 2 + then**2) ** 0.5  # and back, with fresh noise
        return std

    def flow_map(n: int) -> float:
        std, times = 1.0, even_times(n)
        for t, then in pairwise(times):
            std = jumped(std, t, then)
        return std

    ways = {"consistency": consistency, "flow map": flow_map}
    rows = {name: [abs(of(n) - c) for n in steps] for name, of in ways.items()}
    return {"c": c, "error": error, "steps": list(steps)} | {k: [round(v, 5) for v in row] for k, row in rows.items()}


def discrete() -> dict[str, Any]:
    """Relative distance of the gradient of the paper's loss of neighbours to that of the direction, by epsilon."""
    torch.manual_seed(0)
    student = PlaneFlowMap(PlaneVelocity(width=32)).double()
    torch.nn.init.normal_(student.end.weight, std=0.3)
    teacher = PlaneVelocity(width=32).double()
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(256, 2, generator=generator, dtype=torch.float64)
    times = torch.rand(2, 256, generator=generator, dtype=torch.float64)
    t, s = times.amax(0), times.amin(0)
    v = teacher(x, t).detach()

    def gradient(loss: Tensor) -> Tensor:
        parts = torch.autograd.grad(loss, list(student.parameters()))
        return torch.cat([part.flatten() for part in parts])

    epsilons, found = (1e-1, 1e-2, 1e-3, 1e-4), {}
    for name, g in (("emd", emd_direction(student, x, t, s, v)), ("lmd", lmd_direction(student, x, t, s, teacher))):
        limit = gradient(((t - s)[:, None] ** 2 * g * student(x, t, s)).sum())
        errors = []
        for epsilon in epsilons:
            with torch.no_grad():
                if name == "emd":
                    near = t + epsilon * (s - t)
                    target = jump(student, x + (near - t)[:, None] * v, near, s)
                else:
                    near = s + epsilon * (t - s)
                    end = jump(student, x, t, near)
                    target = end + (s - near)[:, None] * teacher(end, near)
            loss = (jump(student, x, t, s) - target).square().sum() / (2 * epsilon)
            errors.append(((gradient(loss) - limit).norm() / limit.norm()).item())
        found[name] = [float(f"{e:.3g}") for e in errors]
    return {"epsilon": list(epsilons)} | found


def exact() -> None:
    """What needs no training."""
    keep(OUT, {"gaussian": gaussian_table(), "discrete": discrete()}, COMMAND)


def main() -> None:
    """See the head of this file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["train", "measure", "exact", "ship", "list"])
    every = [*TEACHERS, *STUDENTS, *RINGS]
    parser.add_argument("names", nargs="*", help="of the trainings; all without one")
    parser.add_argument("--seeds", type=int, nargs="*", default=list(SEEDS))
    given = parser.parse_args()
    torch.set_num_threads(1)
    if unknown := [name for name in given.names if name not in every]:
        parser.error(f"there is no training {unknown[0]!r}; choose from {', '.join(every)}")
    for name in given.names or every:
        for seed in given.seeds:
            if given.what == "list":
                print(f"{name}, seed {seed}:", "done" if path_of(name, seed).exists() else "to do")
            elif given.what == "train":
                train_one(name, seed)
    if given.what in ("measure", "exact", "ship"):
        {"measure": measure, "exact": exact, "ship": ship}[given.what]()


if __name__ == "__main__":
    main()
