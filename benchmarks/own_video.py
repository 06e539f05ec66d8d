"""What reading a video and writing its overlay add to the method itself, and whether memory grows with the video.

A generated clip is written as 720p H.264. "in memory" is STM (variant photos, at its own lines) on decoded frames;
"read, follow, write" looks through the file, decodes, segments, draws, and encodes H.264; "with a project" is all
that ``vos_tutorial track`` does: it also keeps each result as a PNG, and decodes once more for the export. They take
turns in one run. Memory is the peak of a process of its own that takes a copy of the mask through 100 and through
1,000 frames by way of a project: a method that keeps frames, as STM does, adds to that.

    python benchmarks/own_video.py [--frames 80] [--repeats 1] [--threads N] [--no-memory]
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import torch
import torch.nn.functional as F
from convolution import in_turns, threads
from torch import Tensor

from vos_tutorial import segmenter
from vos_tutorial.baselines import CopyFirst
from vos_tutorial.clip import davis_palette
from vos_tutorial.data import make_clip
from vos_tutorial.propagation import Segmenter, propagate, propagate_stream
from vos_tutorial.video import Project, Video, export, write_video
from vos_tutorial.video.exporting import overlay

SIZE = (720, 1280)
GOAL = 1.3
GROWTH_GOAL = 1.05  # of the peak, from 100 to 1,000 frames


def clip_at_720p(count: int) -> tuple[Iterator[Tensor], Tensor]:
    """Frames ``uint8 [3, 720, 1280]``, one at a time, and the first mask ``uint8 [720, 1280]``."""
    clip = make_clip(0, size=96, length=16)
    coarse = torch.rand(1, 3, SIZE[0] // 4, SIZE[1] // 4, generator=torch.Generator().manual_seed(0)) * 4
    grain = (
        F.interpolate(coarse, SIZE, mode="bicubic")[0].clamp(0, 12).byte()
    )  # real clips of this size: 5-25 kB a frame

    def frames() -> Iterator[Tensor]:
        for t in range(count):
            there = min(t % 30, 30 - t % 30)  # to and fro
            large = F.interpolate(clip.frames[there][None].float(), SIZE, mode="bicubic")[0].clamp(0, 243).byte()
            yield large + grain.roll(7 * t, dims=2)

    return frames(), F.interpolate(clip.first_mask[None, None].float(), SIZE)[0, 0].byte()


def make_video(path: Path, count: int) -> Tensor:
    """Write the clip as a file; returns its first mask."""
    frames, mask = clip_at_720p(count)
    write_video(path, frames, [Fraction(t, 30) for t in range(count)])
    return mask


def stream(source: Path, target: Path, mask: Tensor, method: Segmenter) -> None:
    """From a file to its overlay, frame by frame."""
    video, colours = Video(source), davis_palette()
    shown = (
        overlay(frame, ids, colours) for frame, ids in zip(video, propagate_stream(method, video, mask), strict=True)
    )
    write_video(target, shown, video.times)


def own_video(folder: Path, path: Path, mask: Tensor, method: Segmenter) -> Path:
    """From a file to its overlay, by way of a project."""
    project = Project.open(folder / "project", path)
    try:
        project.save_mask(0, project.add_object(), mask > 0)
        project.propagate(method)
        return export(project, folder / "out", ["overlay"])[0]
    finally:
        project.close()


def compare(count: int, repeats: int) -> None:
    """Print both times and their ratio."""
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "clip.mp4"
        mask = make_video(path, count)
        method = segmenter("stm", variant="photos")
        frames = torch.stack(list(Video(path)))
        runs = iter(range(repeats + 1))
        memory, streamed, own = in_turns(
            [
                lambda: propagate(method, frames, mask),
                lambda: stream(path, Path(name) / "overlay.mp4", mask, method),
                lambda: own_video(Path(name) / f"run{next(runs)}", path, mask, method),
            ],
            repeats,
        )
    print(f"{count} frames of {SIZE[1]}x{SIZE[0]}, STM photos, {torch.get_num_threads()} threads")
    print(f"{'seconds a frame':<22}{'clock':>8}{'CPU':>8}{'CPU ratio':>11}")
    rows = {"STM in memory": memory, "read, follow, write": streamed, "with a project": own}
    for label, cost in rows.items():
        said = f"{label:<22}{cost.wall / count:>8.3f}{cost.cpu / count:>8.3f}{cost.cpu / memory.cpu:>8.2f}x"
        print(
            said
            + (f"  goal {GOAL}: {'met' if cost.cpu <= GOAL * memory.cpu else 'missed'}" if cost is streamed else "")
        )


def peak(count: int) -> float:
    """MiB at the peak of this process, after a video of ``count`` frames went through it."""
    with tempfile.TemporaryDirectory() as name:
        mask = make_video(Path(name) / "clip.mp4", count)
        own_video(Path(name), Path(name) / "clip.mp4", mask, CopyFirst())
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # kB on Linux


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    threads(parser)
    parser.add_argument("--frames", type=int, default=80)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--no-memory", action="store_true", help="leave the two long runs out")
    parser.add_argument("--peak", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.peak is not None:
        print(peak(options.peak))
        return
    compare(options.frames, options.repeats)
    if options.no_memory:
        return
    peaks = []
    for count in (100, 1000):
        command = [sys.executable, __file__, "--peak", str(count), "--threads", str(options.threads)]
        peaks.append(float(subprocess.run(command, capture_output=True, text=True, check=True).stdout))
        print(f"peak memory, {count} frames: {peaks[-1]:.0f} MiB", flush=True)
    met = peaks[1] <= GROWTH_GOAL * peaks[0]
    print(f"growth {peaks[1] / peaks[0]:.2f}x  goal {GROWTH_GOAL}: {'met' if met else 'missed'}")


if __name__ == "__main__":
    main()
