"""STCNN's time per frame against the authors' layout, written down plainly; and the small network.

The yardstick computes the same from the same weights, laid out as the authors' program is: what the pyramid pooled
is enlarged before it is convolved; the top-down path enlarges whole maps and then cuts their middle out; all five
outputs are made, and enlarged to the frame; batch norm stands by itself; maps are in NCHW order. Outputs must agree,
or the script stops.

One difference stays out: the authors never switch to test mode, so that their temporal half normalises by the
statistics of the frame at hand. Both sides use stored ones here.

comparison.py says how the times are taken.

    python benchmarks/stcnn.py [--repeats 3] [--threads N]
"""

from __future__ import annotations

from collections import deque

import torch
import torch.nn.functional as F
from comparison import Table, agree, run
from convolution import graded
from torch import Tensor, nn

from vos_tutorial.geometry import dilate
from vos_tutorial.models import build
from vos_tutorial.models.backbones import for_inference
from vos_tutorial.models.frame_prediction import crop_like
from vos_tutorial.models.stcnn import STCNN, STCNNSegmenter, gate_radius

SIZE = (480, 854)
GOAL = 1.1  # times faster than the authors' layout, on the clock


# -------------------------------------------------------------------------------------------- the authors' layout


def resized(x: Tensor, like: Tensor) -> Tensor:
    """``[1, C, h, w]`` at the height and width of ``like``, bilinear."""
    return F.interpolate(x, like.shape[-2:], mode="bilinear", align_corners=False)


class Plain:
    """The authors' layout, on the weights of a network with ``top_down="deconv_crop"``; one object."""

    def __init__(self, network: STCNN) -> None:
        self.net = network

    def decode(self, maps: list[Tensor], features: tuple[Tensor, ...], frame: Tensor) -> list[Tensor]:
        """All five outputs, ``[1, 1, H, W]`` each."""
        decoder = self.net.decoder
        assert decoder.joins is not None
        pyramid, joined = decoder.pyramid, [maps[3]]
        for bins, branch in zip(pyramid.bins, pyramid.branches, strict=True):
            joined.append(branch(resized(F.adaptive_avg_pool2d(maps[3], bins), maps[3])))
        f = top = pyramid.last(torch.cat(joined, 1))
        times = [resized(features[0], f), *features[1:]]
        scores, refined = [decoder.heads[3](f)], []
        for i, time in zip((2, 1, 0), times, strict=True):
            lateral = decoder.laterals[i](maps[i])
            f = crop_like(decoder.ups[i](f), lateral) + lateral
            j = decoder.joins[i](torch.cat([f, crop_like(time, f)], 1))
            refined.append(decoder.gates[i](j, resized(scores[-1], lateral).sigmoid()))
            scores.append(decoder.heads[i](refined[-1]))
        parts = [*reversed(refined), top]
        scores.append(decoder.last(torch.cat([resized(part, refined[-1]) for part in parts], 1)))
        return [resized(score, frame) for score in scores]

    def begin(self, frame: Tensor, mask: Tensor) -> None:
        """``[3, H, W]`` and ``bool [H, W]``."""
        self.past = deque([frame] * self.net.delta, maxlen=self.net.delta)
        self.mask, self.time = mask.float(), 0

    def step(self, frame: Tensor) -> Tensor:
        """``[3, H, W]`` -> the probability before the gate, ``[H, W]``."""
        self.time += 1
        assert self.net.generator is not None
        window = [*[*self.past][1:], frame] if self.time < self.net.delta else [*self.past]
        prediction = self.net.generator(torch.stack(window)[None])
        maps = self.net.encoder(self.net.normalise(frame[None]))
        alone = self.decode(maps, prediction.features, frame[None])[-1][0, 0].sigmoid()
        last = self.mask > 0.4
        self.mask = alone * dilate(last, gate_radius(*frame.shape[-2:])) if last.any() else alone
        self.past.append(frame)
        return alone


# --------------------------------------------------------------------------------------------------- both sides


class Sides:
    """Both layouts, begun on the same clip of noise, ready to be timed.

    Args:
        network: with batch norm.
        fast: the same, prepared for inference.
        size: height and width.
    """

    def __init__(self, network: STCNN, fast: STCNN, size: tuple[int, int]) -> None:
        rng = torch.Generator().manual_seed(0)
        self.frames = F.interpolate(torch.rand(4, 3, 12, 20, generator=rng), size, mode="bilinear")
        mask = torch.zeros(size, dtype=torch.uint8)
        mask[size[0] // 4 : size[0] // 2, size[1] // 4 : size[1] // 2] = 1
        self.plain, self.ours, self.shown = Plain(network), STCNNSegmenter(fast), 0
        self.plain.begin(self.frames[0], mask > 0)
        self.ours.begin(self.frames[0], mask)

    def frame(self) -> Tensor:
        """The next one, for both sides in turn; they repeat."""
        self.shown += 1
        return self.frames[(self.shown - 1) // 2 % len(self.frames)]

    def plain_step(self) -> Tensor:
        return self.plain.step(self.frame())

    def our_step(self) -> Tensor:
        self.ours.step(self.frame())
        alone: Tensor = self.ours.seen["alone"]
        return alone[0]

    def difference(self, steps: int = 2) -> float:
        """The largest of the probabilities before the gate, over some frames."""
        return max(float((self.plain_step() - self.our_step()).abs().max()) for _ in range(steps))


def spread(network: STCNN) -> None:
    """Random weights whose maps keep their size through the decoders, and whose answers are neither 0 nor 1."""
    graded(network)
    assert network.generator is not None
    for part in (network.decoder, network.generator.decoder):
        for module in part.modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                nn.init.kaiming_normal_(module.weight)


def paper_network(seed: int = 0) -> STCNN:
    """The authors' network with such weights."""
    torch.manual_seed(seed)
    network = build("stcnn", "paper")
    assert isinstance(network, STCNN)
    spread(network)
    return network.eval()


def compare(repeats: int) -> None:
    """The table of both layouts."""
    table = Table(f"{SIZE[0]}x{SIZE[1]}, one object")
    network = paper_network()
    sides = Sides(network, for_inference(network), SIZE)
    apart = sides.difference()
    agree(apart)
    table.row("", sides.plain_step, sides.our_step, repeats, GOAL)
    print(f"  probabilities differ by {apart:.1e}")


def small() -> STCNNSegmenter:
    """The method's small network, with random weights."""
    network = build("stcnn", "small")
    assert isinstance(network, STCNN)
    return STCNNSegmenter(for_inference(network))


if __name__ == "__main__":
    run(__doc__, compare, small, goal=None)
