"""RGMP's time per frame against the authors' layout, written down plainly; and the small network.

The yardstick computes the same from the same weights, laid out as the authors' program is: colours and mask through
two convolutions that are summed; the first long convolutions over target and reference joined to 4096 channels, for
each frame anew; scores at all four levels; one object after the other, and then their union; maps in NCHW order.
Outputs must agree, or the script stops.

comparison.py says how the times are taken.

    python benchmarks/rgmp.py [--repeats 3] [--threads N]
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from comparison import Table, agree, run
from convolution import graded
from torch import Tensor

from vos_tutorial.models import build
from vos_tutorial.models.backbones import ResNetEncoder, for_inference
from vos_tutorial.models.rgmp import RGMP, RGMPSegmenter

SIZE = (480, 854)  # the authors' padding makes it 512x864
CASES = ((1, (1.0,)), (2, (1.0,)))  # objects, scales
GOAL = 1.1


# -------------------------------------------------------------------------------------------- the authors' layout


def next_larger_multiple(length: float) -> int:
    """The next larger multiple of 32."""
    return round(length) + 32 - round(length) % 32


def resized(x: Tensor, height: int, width: int) -> Tensor:
    """``[1, C, H, W]``, bilinear."""
    return F.interpolate(x, (height, width), mode="bilinear", align_corners=False)


class Plain:
    """The authors' layout, on the weights of a paper-size network; one clip at a time."""

    def __init__(self, network: RGMP, scales: tuple[float, ...]) -> None:
        self.net, self.scales = network, scales
        encoder, compare = self.net.encoder, self.net.decoder.compare
        assert isinstance(encoder, ResNetEncoder)
        self.encoder = encoder
        self.colours, self.mask = (w.contiguous() for w in encoder.conv1.weight.detach().split([3, 1], dim=1))
        self.left = torch.cat([compare.left_target.weight, compare.left_reference.weight], dim=1).detach()
        self.right = torch.cat([compare.right_target.weight, compare.right_reference.weight], dim=1).detach()

    def encode(self, frame: Tensor, mask: Tensor) -> list[Tensor]:
        """``[1, 3, H, W]`` and ``[1, 1, H, W]`` -> four maps, finest first."""
        x = F.conv2d(self.encoder.normalise(frame), self.colours, stride=2, padding=3)
        x = x + F.conv2d(mask, self.mask, self.encoder.conv1.bias, stride=2, padding=3)
        x = F.max_pool2d(F.relu(self.encoder.bn1(x)), kernel_size=3, stride=2, padding=1)
        maps = []
        for stage in self.encoder.layers:
            x = stage(x)
            maps.append(x)
        return maps

    def decode(self, maps: list[Tensor], reference: Tensor) -> Tensor:
        """Target maps and the reference's coarsest -> logits ``[1, 2, H, W]``."""
        decoder, compare, corners = self.net.decoder, self.net.decoder.compare, self.net.align_corners
        both = torch.cat([maps[-1], reference], dim=1)
        left = compare.left(F.conv2d(both, self.left, compare.left_target.bias, padding=(3, 0)))
        right = compare.right(F.conv2d(both, self.right, compare.right_target.bias, padding=(0, 3)))
        m = decoder.residual(left + right)
        steps = [m]
        for refine, fine in zip(decoder.refine, maps[-2::-1], strict=True):
            m = F.interpolate(m, scale_factor=2, mode="bilinear", align_corners=corners)
            m = refine.merge(refine.skip(refine.enter(fine)) + m)
            steps.append(m)
        scores = [head(F.relu(m)) for head, m in zip(decoder.heads, steps[::-1], strict=True)]
        return F.interpolate(scores[0], scale_factor=4, mode="bilinear", align_corners=corners)

    def begin(self, frame: Tensor, masks: Tensor) -> None:
        """``[3, H, W]`` and ``[O, H, W]``: the references of each object, of the union, at each scale."""
        height, width = frame.shape[-2:]
        self.height, self.width = next_larger_multiple(height), next_larger_multiple(width)
        self.left_margin, self.top_margin = (self.width - width) // 2, (self.height - height) // 2
        right, below = self.width - width - self.left_margin, self.height - height - self.top_margin
        self.margins = (self.left_margin, right, self.top_margin, below)
        self.previous = F.pad(masks, self.margins)
        passes = [*self.previous, self.previous.amax(0)] if len(masks) > 1 else [*self.previous]
        self.references = [[maps[-1] for maps in self.at_scales(frame, mask)] for mask in passes]

    def at_scales(self, frame: Tensor, mask: Tensor) -> list[list[Tensor]]:
        """The maps of a frame and a padded mask at each scale."""
        answers, image = [], F.pad(frame, self.margins)[None]
        for scale in self.scales:
            if scale == 1:
                answers.append(self.encode(image, mask[None, None]))
            else:
                size = next_larger_multiple(self.height * scale), next_larger_multiple(self.width * scale)
                answers.append(self.encode(resized(image, *size), resized(mask[None, None], *size)))
        return answers

    def alone(self, frame: Tensor, mask: Tensor, references: list[Tensor]) -> Tensor:
        """One pass: the probability of one object, or of the union, ``[H', W']``."""
        answers = []
        for maps, reference in zip(self.at_scales(frame, mask), references, strict=True):
            p = F.softmax(self.decode(maps, reference), dim=1)[:, 1:]
            answers.append(resized(p, self.height, self.width)[0, 0])
        return torch.stack(answers).mean(0)

    def step(self, frame: Tensor) -> Tensor:
        """``[3, H, W]`` -> probabilities ``[O+1, H, W]``."""
        n = len(self.previous)
        q = torch.stack([self.alone(frame, self.previous[i], self.references[i]) for i in range(n)])
        if n == 1:
            merged = torch.cat([1 - q, q])
        else:
            union = self.alone(frame, self.previous.sum(0), self.references[n])
            q = torch.cat([1 - union[None], q]).clamp(1e-7, 1 - 1e-7)
            merged = F.softmax(torch.log(q / (1 - q)), dim=0)
        self.previous = merged[1:]
        top, left = self.top_margin, self.left_margin
        return merged[:, top : top + frame.shape[-2], left : left + frame.shape[-1]]


# --------------------------------------------------------------------------------------------------- both sides


class Sides:
    """Both layouts, begun on the same clip of two frames, ready to be timed.

    Args:
        network: of paper size.
        fast: the same, prepared for inference.
        objects: number of objects, each a rectangle of its own.
        scales: of the frames.
        size: height and width.
    """

    def __init__(
        self, network: RGMP, fast: RGMP, objects: int, scales: tuple[float, ...], size: tuple[int, int]
    ) -> None:
        rng = torch.Generator().manual_seed(0)
        self.frames = F.interpolate(torch.rand(2, 3, 12, 20, generator=rng), size, mode="bilinear")
        self.ids = torch.zeros(size, dtype=torch.uint8)
        for i in range(objects):
            self.ids[size[0] // 4 : size[0] // 2, i * size[1] // 4 : (i + 1) * size[1] // 4] = i + 1
        self.plain, self.ours = Plain(network, scales), RGMPSegmenter(fast, scales=scales, padding="authors")
        masks = torch.stack([self.ids == i + 1 for i in range(objects)]).float()
        self.plain.begin(self.frames[0], masks)
        self.ours.begin(self.frames[0], self.ids)

    def plain_step(self) -> Tensor:
        return self.plain.step(self.frames[1])

    def our_step(self) -> Tensor:
        return self.ours.step(self.frames[1])

    def difference(self, steps: int = 2) -> float:
        """The largest of the probabilities, after so many steps in which each side feeds itself."""
        return max(float((self.plain_step() - self.our_step()).abs().max()) for _ in range(steps))


def paper_network(seed: int = 0) -> RGMP:
    """Random weights whose answers are neither 0 nor 1."""
    torch.manual_seed(seed)
    network = build("rgmp", "paper")
    assert isinstance(network, RGMP)
    graded(network)
    return network.eval()


def compare(repeats: int) -> None:
    """The table of both layouts."""
    table = Table(
        f"{SIZE[0]}x{SIZE[1]}, padded to {next_larger_multiple(SIZE[0])}x{next_larger_multiple(SIZE[1])}, one scale",
        "objects",
    )
    network = paper_network()
    fast = for_inference(network)
    for objects, scales in CASES:
        sides = Sides(network, fast, objects, scales, SIZE)
        apart = sides.difference()
        agree(apart)
        table.row(str(objects), sides.plain_step, sides.our_step, repeats, GOAL)
        print(f"  probabilities differ by {apart:.1e}")


def small() -> RGMPSegmenter:
    """The method's small network, with random weights."""
    network = build("rgmp", "small")
    assert isinstance(network, RGMP)
    return RGMPSegmenter(network)


if __name__ == "__main__":
    run(__doc__, compare, small)
