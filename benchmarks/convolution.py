"""What this machine can do at best: GFLOP per second of a large convolution, the bulk of every paper-size network.

The benchmarks of the methods measure it in the same run, and say what share of it they reach. Here, too, are the
stopwatch and the counter that they use.

    python benchmarks/convolution.py [--threads N]
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from vos_tutorial.propagation import Segmenter

CHANNELS, HEIGHT, WIDTH = 256, 120, 216  # 3x3, at a quarter of 480x864: most of the work of both decoders


class Cost(NamedTuple):
    """Of one call."""

    wall: float
    """Seconds on the clock."""
    cpu: float
    """Seconds over all threads: a busy machine changes this less."""


def cost(work: Callable[[], object]) -> Cost:
    """One call."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return Cost(time.perf_counter() - wall, time.process_time() - cpu)


def in_turns(works: list[Callable[[], object]], repeats: int) -> list[Cost]:
    """The median cost of each; they take turns, to share a bad minute. Call each before: first calls are slow."""
    rounds = [[cost(work) for work in works] for _ in range(repeats)]
    columns = zip(*rounds, strict=True)
    return [Cost(statistics.median(c.wall for c in mine), statistics.median(c.cpu for c in mine)) for mine in columns]


def gflop(work: Callable[[], object]) -> float:
    """Of one call: multiplications and additions of its convolutions and matrix products, in 1e9."""
    with FlopCounterMode(display=False) as counter:
        work()
    return counter.get_total_flops() / 1e9


@torch.inference_mode()
def peak(repeats: int = 5) -> Cost:
    """GFLOP per second of the clock, and per CPU second, of the best of some large convolutions."""
    x, weight = torch.randn(1, CHANNELS, HEIGHT, WIDTH), torch.randn(CHANNELS, CHANNELS, 3, 3)
    work = 2 * 9 * CHANNELS**2 * HEIGHT * WIDTH / 1e9
    best = [0.0, 0.0]
    for memory_format in (torch.contiguous_format, torch.channels_last):
        a, b = x.contiguous(memory_format=memory_format), weight.contiguous(memory_format=memory_format)
        for _ in range(repeats):
            one = cost(lambda a=a, b=b: F.conv2d(a, b, padding=1))
            best = [max(best[0], work / one.wall), max(best[1], work / one.cpu)]
    return Cost(*best)


@torch.inference_mode()
def frame_ms(segmenter: Segmenter, size: tuple[int, int], frames: int = 12) -> float:
    """CPU milliseconds of a step with one object, the median over a clip of noise, on one thread."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    clip, mask = torch.rand(frames + 3, 3, *size), torch.zeros(size, dtype=torch.uint8)
    mask[size[0] // 4 : size[0] // 2, size[1] // 4 : size[1] // 2] = 1
    segmenter.begin(clip[0], mask)
    costs = [cost(lambda frame=frame: segmenter.step(frame)).cpu for frame in clip[1:]]
    torch.set_num_threads(before)
    return 1000 * statistics.median(costs[2:])


@torch.no_grad()
def graded(network: nn.Module) -> None:
    """Statistics for the batch norm of random weights that keep all maps, and so the answers, in a useful range."""
    for name, module in network.named_modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.running_var is not None
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
            module.weight.uniform_(*((0.1, 0.3) if name.endswith(("bn3", "norm3")) else (0.8, 1.2)))


def threads(parser: argparse.ArgumentParser) -> None:
    """Add the option ``--threads``."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    parser.add_argument("--threads", type=int, default=cores, help=f"default: all cores, {cores} here")


def main() -> None:
    """Print the peak."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    threads(parser)
    torch.set_num_threads(parser.parse_args().threads)
    best = peak()
    print(f"3x3, {CHANNELS} to {CHANNELS} channels, {HEIGHT}x{WIDTH}, float32, torch {torch.__version__}")
    print(f"{best.wall:.0f} GFLOP/s on {torch.get_num_threads()} threads; {best.cpu:.0f} GFLOP per CPU second")


if __name__ == "__main__":
    main()
