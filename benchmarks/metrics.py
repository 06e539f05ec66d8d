"""How much faster our J and F are than the definition, written down plainly.

The yardstick does what the official toolkit does, the way it does it: one frame at a time, full-size boundary maps
in three shifted copies, both dilated over the whole picture with a disk, four sums. With OpenCV installed (it is no
dependency of ours) the disk dilation is ``cv2.dilate``, as in the toolkit of DAVIS-2017; without, it is scipy's
``binary_dilation``, which is what the toolkit of DAVIS-2016 runs on, and much slower. The output says which one ran.

Masks: generated, ``bool [T, 480, 854]`` in memory, three object sizes. Time: CPU time of this thread, best of the
repeats, both sides taking turns in one run. The values must be equal, or the script stops.

    python benchmarks/metrics.py [--frames 50] [--repeats 3]
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.morphology import disk

from vos_tutorial.metrics import boundary_accuracy, region_similarity

try:
    import cv2

    cv2.setNumThreads(1)
    DILATION = f"cv2.dilate (OpenCV {cv2.__version__}), as the DAVIS-2017 toolkit"
except ImportError:
    cv2 = None
    DILATION = "scipy.ndimage.binary_dilation, as the DAVIS-2016 toolkit; install OpenCV to compare with DAVIS-2017's"

HEIGHT, WIDTH = 480, 854
Measure = Callable[[NDArray[np.bool_], NDArray[np.bool_]], NDArray[np.float64]]


def plain_region_similarity(truth: NDArray[np.bool_], prediction: NDArray[np.bool_]) -> NDArray[np.float64]:
    """J of a whole sequence at once, sums over bool pictures."""
    void = np.zeros_like(truth)
    both = np.sum(prediction & truth & ~void, axis=(-2, -1))
    either = np.sum((prediction | truth) & ~void, axis=(-2, -1))
    return np.where(either == 0, 1.0, both / np.maximum(either, 1))


def plain_boundary(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The boundary map of one frame, from three shifted copies of it."""
    right, below, diagonal = np.zeros_like(mask), np.zeros_like(mask), np.zeros_like(mask)
    right[:, :-1] = mask[:, 1:]
    below[:-1, :] = mask[1:, :]
    diagonal[:-1, :-1] = mask[1:, 1:]
    edges = (mask ^ right) | (mask ^ below) | (mask ^ diagonal)
    edges[-1, :] = mask[-1, :] ^ right[-1, :]
    edges[:, -1] = mask[:, -1] ^ below[:, -1]
    edges[-1, -1] = False
    return edges


def plain_dilation(edges: NDArray[np.bool_], radius: int) -> NDArray[np.bool_]:
    """Dilation of the whole picture by a disk."""
    if cv2 is None:
        return ndimage.binary_dilation(edges, disk(radius).astype(bool))
    return cv2.dilate(edges.astype(np.uint8), disk(radius).astype(np.uint8)).astype(bool)


def plain_boundary_accuracy(truth: NDArray[np.bool_], prediction: NDArray[np.bool_]) -> NDArray[np.float64]:
    """F, frame by frame."""
    radius = math.ceil(0.008 * math.sqrt(truth.shape[1] ** 2 + truth.shape[2] ** 2))
    values = np.zeros(len(truth))
    for t in range(len(truth)):
        void = np.zeros_like(truth[t])
        true, found = plain_boundary(truth[t] & ~void), plain_boundary(prediction[t] & ~void)
        true_hit = true * plain_dilation(found, radius)
        found_hit = found * plain_dilation(true, radius)
        n_true, n_found = np.sum(true), np.sum(found)
        precision = np.sum(found_hit) / float(n_found) if n_found else float(n_true == 0 or n_found == 0)
        recall = np.sum(true_hit) / float(n_true) if n_true else float(n_found == 0 or n_true == 0)
        if n_found == 0 and n_true > 0:
            recall = 0.0
        if n_true == 0 and n_found > 0:
            precision = 0.0
        values[t] = 0 if precision + recall == 0 else 2 * precision * recall / (precision + recall)
    return values


def blob(frames: int, share: float, wobble: float) -> NDArray[np.bool_]:
    """A moving, breathing shape that covers about ``share`` of the picture: ``bool [T, 480, 854]``."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    radius = math.sqrt(share * HEIGHT * WIDTH / math.pi)
    masks = np.zeros((frames, HEIGHT, WIDTH), dtype=bool)
    for t in range(frames):
        cy, cx = 240 + 30 * math.sin(t / 9), 300 + 5 * t
        angle = np.arctan2(y - cy, x - cx)
        edge = radius * (1 + 0.2 * np.sin(5 * angle + t / 5) + wobble * np.sin(17 * angle - t / 3))
        masks[t] = np.hypot(y - cy, x - cx) < edge
    return masks


def seconds(measure: Measure, truth: NDArray[np.bool_], prediction: NDArray[np.bool_]) -> float:
    """CPU seconds of one call."""
    start = time.thread_time()
    measure(truth, prediction)
    return time.thread_time() - start


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="Our J and F against the plain definition.")
    parser.add_argument("--frames", type=int, default=50)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    print(f"J and F of one object, {options.frames} frames of {HEIGHT}x{WIDTH} in memory; CPU ms per frame")
    print(f"yardstick: the definition in numpy, full pictures, dilated by {DILATION}")
    print(f"{'object':>8} {'yardstick J':>12} {'F':>8} {'ours J':>8} {'F':>8} {'ratio J+F':>10}")
    pairs: list[tuple[Measure, Measure]] = [
        (plain_region_similarity, region_similarity),
        (plain_boundary_accuracy, boundary_accuracy),
    ]
    for share in (0.02, 0.08, 0.30):
        truth, prediction = blob(options.frames, share, 0.02), blob(options.frames, share, 0.05)
        best = np.full((2, 2), np.inf)  # [measure, side]
        for i, (plain, ours) in enumerate(pairs):
            if not np.array_equal(plain(truth, prediction), ours(truth, prediction)):
                raise SystemExit(f"{ours.__name__} differs from the yardstick: fix it before timing it.")
            for _ in range(options.repeats):
                best[i] = np.minimum(best[i], [seconds(f, truth, prediction) for f in (plain, ours)])
        ms = 1000 * best / options.frames
        ratio = ms[:, 0].sum() / ms[:, 1].sum()
        print(
            f"{share:>8.0%} {ms[0, 0]:>12.2f} {ms[1, 0]:>8.2f} {ms[0, 1]:>8.3f} {ms[1, 1]:>8.3f} {ratio:>9.1f}x",
            flush=True,
        )
    print("the values of both sides are equal, bit for bit")


if __name__ == "__main__":
    main()
