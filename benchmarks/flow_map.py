"""The flow map: what its derivative costs, and how many times faster it samples at equal quality than its teacher.

Derivative: the EMD direction by one forward-mode pass (JVP) against central differences (three passes), on the
plane's network and on convolutions; CPU time of a call, calls in turns.

Samples: the shipped networks of the plane. "Equal quality" is the sliced Wasserstein distance to the teacher's 64
steps of Heun: the teacher takes the fewest steps, of Euler and of Heun, whose samples from the same noise come at
least as near as the flow map's.

Pictures: the shipped networks of the captioned world, with two jumps, beside the fewest Euler steps of their teachers
that are at least as good in attributes, mask, distance, or all of them; how many is in
``data/results/07_flow_images.json``. What a call of each network costs is measured as notebook 07 has it
(``experiments/flow_images.py``).

    python benchmarks/flow_map.py [--repeats 5] [--threads N]
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import torch
from convolution import in_turns, threads
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from experiments.flow_images import speed
from vos_tutorial.models import generators, plane
from vos_tutorial.models.flow_map import Derivative, Velocity, emd_direction, even_times, sample
from vos_tutorial.places import RESULTS
from vos_tutorial.samples import sliced_wasserstein

SAMPLES = 8000
TOLERANCE = 2e-2  # between the two derivatives in float32, relative to the direction
JUMPS = 2
GOAL = 5.0  # times as many samples a second of CPU time, at equal quality, as the better of Euler and Heun


class Convolutions(nn.Module):
    """A student for pictures ``[B, 3, H, W]``: times as two more channels."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv2d(5, width, 3, padding=1), nn.GroupNorm(4, width), nn.SiLU(),
            nn.Conv2d(width, width, 3, padding=1), nn.GroupNorm(4, width), nn.SiLU(),
            nn.Conv2d(width, 3, 3, padding=1),
        )  # fmt: skip

    def forward(self, x: Tensor, t: Tensor, s: Tensor) -> Tensor:
        """``[B, 3, H, W]``, ``[B]``, ``[B]`` -> ``[B, 3, H, W]``."""
        clock = torch.stack([t, s], 1)[..., None, None].expand(-1, -1, *x.shape[2:])  # [B, 2, H, W]
        return self.net(torch.cat([x, clock], 1))


def cases() -> dict[str, tuple[nn.Module, Tensor]]:
    """Name -> student and points."""
    torch.manual_seed(0)
    return {
        "plane, 512 points": (plane.trained_flow_map(plane.shipped("emd")), torch.randn(512, 2)),
        "pictures, 32 of 32x32": (Convolutions(), torch.randn(32, 3, 32, 32)),
    }


def derivatives(repeats: int) -> None:
    """A row for each network: both ways, their ratio, and what they cost over a plain call."""
    print(f"{'the direction of EMD':<24}{'one call':>10}{'JVP':>10}{'difference':>12}{'JVP is':>10}")
    for name, (network, x) in cases().items():
        times = torch.rand(2, len(x))
        t, s, v = times.amax(0), times.amin(0), torch.randn_like(x)

        def by(
            how: Derivative, network: nn.Module = network, x: Tensor = x, t: Tensor = t, s: Tensor = s, v: Tensor = v
        ) -> Tensor:
            return emd_direction(network, x, t, s, v, derivative=how)

        apart = ((by("jvp") - by("difference")).norm() / by("jvp").norm()).item()
        if apart > TOLERANCE:
            raise SystemExit(f"{name}: the two derivatives differ by {apart:.1e}; fix it before timing.")

        def once(network: nn.Module = network, x: Tensor = x, t: Tensor = t, s: Tensor = s) -> Tensor:
            with torch.no_grad():
                return network(x, t, s)

        plain, jvp, difference = in_turns([once, lambda: by("jvp"), lambda: by("difference")], repeats)
        print(
            f"{name:<24}{1e3 * plain.cpu:>8.1f}ms{1e3 * jvp.cpu:>8.1f}ms{1e3 * difference.cpu:>10.1f}ms"
            f"{difference.cpu / jvp.cpu:>8.2f}x as fast",
            flush=True,
        )


@torch.no_grad()
def heun(velocity: Velocity, noise: Tensor, steps: int) -> Tensor:
    """Heun's method from noise to data: two calls a step."""
    x = noise
    for t, then in pairwise(even_times(steps)):
        here, there = noise.new_full((len(noise),), t), noise.new_full((len(noise),), then)
        slope = velocity(x, here)
        x = x + (then - t) / 2 * (slope + velocity(x + (then - t) * slope, there))
    return x


def fewest(draw: Callable[[int], Tensor], reference: Tensor, distance: float) -> int:
    """The smallest number of steps, up to a few per cent, whose samples are at most so far from the reference."""
    some = (*range(1, 17), *range(18, 65, 2), *range(72, 257, 8))
    return next(n for n in some if sliced_wasserstein(draw(n), reference) <= distance)


def sampling(repeats: int) -> None:
    """Samples a second at the quality of one step, and of two, of the flow map."""
    teacher, student = plane.trained_velocity(plane.shipped("teacher")), plane.trained_flow_map(plane.shipped("emd"))
    noise = torch.randn(SAMPLES, 2, generator=torch.Generator().manual_seed(0))
    reference = heun(teacher, noise, 64)

    def by_euler(n: int) -> Tensor:
        return sample(lambda x, t, s: teacher(x, t), noise, even_times(n))

    print(f"\n{'the flow map':<16}{'distance':>10}{'samples/s':>12}   the teacher, at most as far")
    for steps in (1, 2):
        made = sliced_wasserstein(sample(student, noise, even_times(steps)), reference)
        euler, second = fewest(by_euler, reference, made), fewest(lambda n: heun(teacher, noise, n), reference, made)
        ours, first, other = in_turns(
            [
                lambda steps=steps: sample(student, noise, even_times(steps)),  # type: ignore[misc]
                lambda euler=euler: by_euler(euler),  # type: ignore[misc]
                lambda second=second: heun(teacher, noise, second),  # type: ignore[misc]
            ],
            repeats,
        )
        ratio = min(first.cpu, other.cpu) / ours.cpu
        print(
            f"{steps:>2} step{'s' if steps > 1 else ' ':<9}{made:>10.4f}{SAMPLES / ours.cpu:>12,.0f}   "
            f"Euler {euler} steps: {first.cpu / ours.cpu:.1f}x slower; Heun {second} steps: "
            f"{other.cpu / ours.cpu:.1f}x slower"
            + (f"; goal {GOAL:g}x: {'met' if ratio >= GOAL else 'missed'}" if steps == 1 else ""),
            flush=True,
        )


def pictures(repeats: int) -> None:
    """Pictures a second with two jumps of a flow map, and how much longer its teacher takes to be as good."""
    stored = json.loads((RESULTS / "07_flow_images.json").read_text())
    teacher, weak = generators.load_teacher(), generators.load_teacher("weak")
    student = generators.load_student("student", teacher=teacher)
    found = speed(stored, teacher, weak, student, repeats)
    rate = 1000 / (JUMPS * found["milliseconds"]["student"])
    print(f"\n{'two jumps':<16}{'pictures/s':>12}   the teacher, as good by each measure")
    for kind in ("open", "whole", "guided, open"):
        steps, slower = stored[kind]["as good"][str(JUMPS)], found[kind][str(JUMPS)]
        told = [f"{of}: Euler {steps[of]} steps, {times:.1f}x slower" for of, times in slower.items() if times]
        print(f"{kind:<16}{rate:>12,.0f}   {'; '.join(told)}", flush=True)


def main() -> None:
    """The three tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    threads(parser)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(f"float32, {torch.get_num_threads()} threads, torch {torch.__version__}")
    derivatives(options.repeats)
    sampling(options.repeats)
    pictures(options.repeats)


if __name__ == "__main__":
    main()
