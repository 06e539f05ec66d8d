"""What a frame of real video costs: the networks that start from ImageNet beside those of the pages.

    python benchmarks/photos.py [METHOD ...]

CPU milliseconds of a step with one object, the median over a clip of noise, on one thread, with random weights, and
with the options of the segmenter that the shipped weights name. The last size is what a network sees of a frame of
240 lines where its weights enlarge it. STM's memory is full. STCNN is not tuned; tuning has its price once for each
video.
"""

from __future__ import annotations

import argparse

import torch
from convolution import frame_ms
from torch import Tensor

from vos_tutorial import models
from vos_tutorial.models.backbones import for_inference
from vos_tutorial.models.stm import STMSegmenter
from vos_tutorial.models.weights import read_about
from vos_tutorial.propagation import Segmenter
from vos_tutorial.resize import working_size

SIZES = ((128, 224), (240, 427))
#: How the networks of the variant "photos" are built.
PHOTOS = {"masktrack": {"width": 24}, "rgmp": {"width": 24}, "rvos": {}, "stcnn": {}, "stm": {"width": 24}}
GOALS = {("stm", 128): 20.0, ("stm", 240): 120.0}


class FullMemory:
    """An STM whose memory is full from its first step on."""

    def __init__(self, segmenter: STMSegmenter) -> None:
        self.segmenter = segmenter

    def begin(self, frame: Tensor, mask: Tensor) -> None:
        """Begin, and store as many copies of the first frame as there is room for."""
        self.segmenter.begin(frame, mask)
        self.segmenter.step(frame)
        _, keys, values = self.segmenter.memory.complete()  # [O, Ck, T, h, w], [O, Cv, T, h, w]
        with torch.inference_mode(False):  # as the segmenter itself works
            assert self.segmenter.memory.limit is not None
            for i in range(self.segmenter.memory.limit):
                self.segmenter.memory.store(-1 - i, keys[:, :, 0].clone(), values[:, :, 0].clone())

    def step(self, frame: Tensor) -> Tensor:
        """As the segmenter."""
        return self.segmenter.step(frame)


def timed(method: str, size: tuple[int, int], variant: str, **options: object) -> float:
    """Milliseconds of a frame of a method, built with these options, and used as that shipped variant is."""
    torch.manual_seed(0)
    network = for_inference(models.build(method, "small", **options))
    told = read_about(models.weights_file(method, variant=variant)).segmenter
    made = models.segmenter(method, network=network, **told)
    segmenter: Segmenter = FullMemory(made) if isinstance(made, STMSegmenter) else made  # type: ignore[assignment]
    return frame_ms(segmenter, size)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("methods", nargs="*", choices=[[], *PHOTOS], help="default: all")
    methods = parser.parse_args().methods or list(PHOTOS)
    print(f"CPU-ms a frame, one object, one thread, torch {torch.__version__}")
    print(f"{'':<12}{'frame':>9}{'sprites':>10}{'ImageNet':>10}{'ratio':>8}")
    for method in methods:
        about = read_about(models.weights_file(method, variant="photos"))
        enlarged = working_size(about.lines, about.enlarge, *SIZES[-1])
        for size in dict.fromkeys([*SIZES, enlarged]):
            small = timed(method, size, "")
            photos = timed(method, size, "photos", encoder="imagenet", **PHOTOS[method])
            goal = GOALS.get((method, size[0]))
            told = "" if goal is None else f"  goal {goal:g}: {'met' if photos <= goal else 'missed'}"
            print(
                f"{method:<12}{size[0]:>5}x{size[1]}{small:>10.1f}{photos:>10.1f}{photos / small:>7.1f}x{told}",
                flush=True,
            )


if __name__ == "__main__":
    main()
