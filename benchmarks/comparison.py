"""What the benchmarks of the methods share: the authors' layout and ours in turns, as a table, and the small network.

A method's script writes the authors' layout down plainly, on the same weights, and gives both sides as calls. Outputs
must agree, or the script stops. Times are medians of calls in turns, on the clock and in CPU time. "of peak" is our
share of the machine's best convolution, measured in the same run (convolution.py), counting the work that our side
really does.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import torch
from convolution import frame_ms, gflop, in_turns, peak, threads
from torch import Tensor

from vos_tutorial.propagation import Segmenter

TOLERANCE = 1e-4  # of probabilities
SMALL, SMALL_GOAL = (128, 224), 15.0  # a small network's frame, and CPU milliseconds for it


def agree(apart: float) -> None:
    """Stop the script with exit code 1 if answers that should be equal are ``apart`` by more than rounding."""
    if apart > TOLERANCE:
        raise SystemExit(f"the sides differ by {apart:.1e}: fix it before timing.")


class Table:
    """Rows of both sides' times, their ratio, their work, and our share of the machine's peak.

    Args:
        title: what is timed.
        label: the head of the first column; as wide as the widest label at least.
    """

    def __init__(self, title: str, label: str = "") -> None:
        self.best, self.width = peak(), len(label)
        print(f"{title}, float32, {torch.get_num_threads()} threads, torch {torch.__version__}")
        print(f"peak of this machine now: {self.best.wall:.0f} GFLOP/s, {self.best.cpu:.0f} GFLOP per CPU second")
        print(f"{'':<{self.width}}{'seconds':>18}{'ratio':>14}{'GFLOP':>16}{'of peak':>14}")
        print(f"{label:<{self.width}}{'authors':>9}{'ours':>9}{'clock':>7}{'CPU':>7}", end="")
        print(f"{'authors':>9}{'ours':>7}{'clock':>7}{'CPU':>7}")

    def row(
        self,
        label: str,
        plain: Callable[[], Tensor | tuple[Tensor, ...]],
        ours: Callable[[], Tensor | tuple[Tensor, ...]],
        repeats: int,
        goal: float | None = None,
    ) -> None:
        """Time both sides ``repeats`` times, in turns; ``goal`` is how many times faster ours should be."""
        work = gflop(plain), gflop(ours)
        theirs, mine = in_turns([plain, ours], repeats)
        ratio = theirs.wall / mine.wall
        print(
            f"{label:<{self.width}}{theirs.wall:>9.2f}{mine.wall:>9.2f}{ratio:>6.2f}x{theirs.cpu / mine.cpu:>6.2f}x"
            f"{work[0]:>9.0f}{work[1]:>7.0f}"
            f"{work[1] / mine.wall / self.best.wall:>7.0%}{work[1] / mine.cpu / self.best.cpu:>7.0%}"
            + ("" if goal is None else f"  goal {goal}: {'met' if ratio >= goal else 'missed'}"),
            flush=True,
        )


def run(
    description: str | None,
    compare: Callable[[int], None],
    small: Callable[[], Segmenter],
    repeats: int = 3,
    goal: float | None = SMALL_GOAL,
) -> None:
    """A script: the table that ``compare(repeats)`` prints, then the small network's time against its goal."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    threads(parser)
    parser.add_argument("--repeats", type=int, default=repeats)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    with torch.inference_mode():
        compare(options.repeats)
        ms = frame_ms(small(), SMALL)
    print(f"small network, {SMALL[0]}x{SMALL[1]}, one object: {ms:.1f} CPU-ms a frame", end="")
    print("" if goal is None else f"; goal {goal:g}: {'met' if ms <= goal else 'missed'}")
