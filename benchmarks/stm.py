"""STM's time per frame against the authors' layout, written down plainly; a stored frame's size; the small network.

The yardstick computes the same from the same weights, laid out as the authors' program is: colours, mask and others
through three convolutions that are summed; keys and values in eleven slots, whatever the number of objects; the read
as two matrix products with the attention between them; the whole decoder, skip path included, once for each object;
maps in NCHW order. Outputs must agree, or the script stops.

A frame costs two things: to memorize the last one, and to segment this one against T stored ones.
comparison.py says how the times are taken.

    python benchmarks/stm.py [--repeats 3] [--threads N]
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from comparison import Table, agree, run
from convolution import graded
from torch import Tensor

from vos_tutorial.models import build
from vos_tutorial.models.backbones import ResNetEncoder, for_inference
from vos_tutorial.models.layers import PreActivation
from vos_tutorial.models.stm import STM, Memory, Moment, STMSegmenter, everyone, other_masks
from vos_tutorial.propagation import soft_aggregate

SLOTS = 11
SIZE = (480, 854)
CASES = ((1, 1), (1, 3), (1, 6), (3, 3))  # objects, frames in memory
GOALS = {1: 1.1, 3: 1.35}
STORED = 640 * 30 * 54 * 4  # bytes of a stored frame of 480x854 for each object: 640 channels in 30x54 places


# -------------------------------------------------------------------------------------------- the authors' layout


def padded(x: Tensor) -> tuple[Tensor, int, int]:
    """Zeros around, to multiples of 16, an odd one right or below; and how many above and left."""
    high, wide = -x.shape[-2] % 16, -x.shape[-1] % 16
    top, left = high // 2, wide // 2
    return F.pad(x, (left, wide - left, top, high - top)), top, left


def enlarged(x: Tensor, factor: int) -> Tensor:
    """A higher resolution."""
    return F.interpolate(x, scale_factor=factor, mode="bilinear", align_corners=False)


def residual(block: PreActivation, x: Tensor) -> Tensor:
    """A residual block of the decoder."""
    return x + block.conv2(F.relu(block.conv1(F.relu(x))))


def stages(encoder: ResNetEncoder, x: Tensor) -> list[Tensor]:
    """Everything behind the first convolution, finest map first."""
    x = F.max_pool2d(F.relu(encoder.bn1(x)), kernel_size=3, stride=2, padding=1)
    maps = []
    for stage in encoder.layers:
        x = stage(x)
        maps.append(x)
    return maps


def in_slots(x: Tensor) -> Tensor:
    """``[n, C, h, w] -> [1, 11, C, 1, h, w]``; the first slot, the background's, and those behind stay empty."""
    slots = torch.zeros(1, SLOTS, x.shape[1], 1, *x.shape[2:])
    slots[0, 1 : len(x) + 1, :, 0] = x
    return slots


class Plain:
    """The authors' layout, on the weights of a paper-size network in the paper's form."""

    def __init__(self, network: STM) -> None:
        self.net = network
        whole = self.net.memory_encoder.conv1.weight.detach()
        self.three = [part.contiguous() for part in whole.split([3, 1, 1], dim=1)]

    def memorize(self, frame: Tensor, masks: Tensor, n: int) -> tuple[Tensor, Tensor]:
        """``[1, 3, H, W]`` and ``[1, 11, H, W]``, background first -> key and value ``[1, 11, C, 1, h, w]``."""
        encoder, head = self.net.memory_encoder, self.net.memory_head
        colours = encoder.normalise(padded(frame)[0]).repeat(n, 1, 1, 1)
        mask = padded(masks)[0][0, 1 : n + 1, None]
        others = torch.stack([mask[[j for j in range(n) if j != i]].sum(0).clamp(0, 1) for i in range(n)])
        a, b, c = (
            F.conv2d(x, w, stride=2, padding=3) for x, w in zip((colours, mask, others), self.three, strict=True)
        )
        coarse = stages(encoder, a + b + c)[-1]
        return in_slots(head.key(coarse)), in_slots(head.value(coarse))

    def segment(self, frame: Tensor, stored: list[tuple[Tensor, Tensor]], n: int) -> Tensor:
        """``[1, 3, H, W]`` and what :meth:`memorize` gave -> probabilities ``[1, 11, H, W]``, background first."""
        encoder, head, decoder = self.net.query_encoder, self.net.query_head, self.net.decoder
        keys, values = (torch.cat(column, dim=3)[0, 1 : n + 1].flatten(2) for column in zip(*stored, strict=True))
        big, top, left = padded(frame)
        r2, r3, r4 = stages(encoder, encoder.conv1(encoder.normalise(big)))
        key, value = (m.expand(n, -1, -1, -1) for m in (head.key(r4), head.value(r4)))

        look = torch.bmm(keys.transpose(1, 2), key.flatten(2)) / math.sqrt(keys.shape[1])
        found = torch.bmm(values, F.softmax(look, dim=1)).view_as(value)

        x = residual(decoder.first, decoder.enter(torch.cat([found, value], dim=1)))
        for refine, skip in zip(decoder.refine, (r3, r2), strict=True):
            fine = residual(refine.skip, refine.enter(skip.expand(n, -1, -1, -1)))
            x = residual(refine.merge, fine + enlarged(x, 2))
        alone = F.softmax(enlarged(decoder.predict(F.relu(x)), 4), dim=1)[:, 1]

        p = torch.zeros(1, SLOTS, *alone.shape[1:])
        p[0, 0], p[0, 1 : n + 1] = torch.prod(1 - alone, dim=0), alone
        p = p.clamp(1e-7, 1 - 1e-7)
        odds = torch.log(p / (1 - p))[:, :, top : top + frame.shape[-2], left : left + frame.shape[-1]]
        return F.softmax(odds, dim=1)


# --------------------------------------------------------------------------------------------------- both sides


class Sides:
    """Both layouts with ``frames`` stored frames of ``objects`` objects, ready to be timed.

    Args:
        network: of paper size, in the paper's form.
        fast: the same, prepared for inference.
        objects: number of objects, each a square of its own.
        frames: number of frames in memory.
        size: height and width.
    """

    def __init__(self, network: STM, fast: STM, objects: int, frames: int, size: tuple[int, int]) -> None:
        rng = torch.Generator().manual_seed(0)
        coarse = torch.rand(frames + 1, 3, 12, 20, generator=rng)
        self.pictures = F.interpolate(coarse, size, mode="bilinear").unsqueeze(1)  # [T+1, 1, 3, H, W]
        self.masks = torch.zeros(SLOTS, *size)
        for i in range(objects):
            self.masks[i + 1, size[0] // 4 : size[0] // 2, i * size[1] // 4 : (i + 1) * size[1] // 4] = 1
        self.masks[0] = 1 - self.masks.sum(0)
        self.n, self.owner = objects, everyone(objects)
        self.plain, self.network = Plain(network), fast
        self.stored = [self.plain.memorize(p, self.masks[None], objects) for p in self.pictures[:-1]]
        self.moments = []
        for time, picture in enumerate(self.pictures[:-1]):
            self.picture = picture
            self.moments.append(Moment(time, *self.our_memorize(), given=False))

    def plain_memorize(self) -> tuple[Tensor, Tensor]:
        return self.plain.memorize(self.picture, self.masks[None], self.n)

    def our_memorize(self) -> tuple[Tensor, Tensor]:
        given = self.masks[1 : self.n + 1]
        return self.network.memorize(self.picture, given, other_masks(given, self.owner), self.owner)

    def plain_segment(self) -> Tensor:
        return self.plain.segment(self.pictures[-1], self.stored, self.n)[0, : self.n + 1]

    def our_segment(self) -> Tensor:
        query = self.network.encode(self.pictures[-1])
        keys, values = (torch.stack([getattr(m, kind) for m in self.moments], 2) for kind in ("key", "value"))
        logits = self.network.segment(query, keys, values, self.owner)
        return soft_aggregate(logits.softmax(1)[:, 1])

    def slots(self) -> int:
        """Bytes of a stored frame in the authors' layout."""
        return sum(part.numel() * part.element_size() for part in self.stored[0])

    def difference(self) -> tuple[float, float]:
        """Largest difference of keys and values, relative to the largest of them; and of probabilities."""
        pairs = [
            (theirs[0, 1 : self.n + 1, :, 0], ours)
            for stored, moment in zip(self.stored, self.moments, strict=True)
            for theirs, ours in zip(stored, (moment.key, moment.value), strict=True)
        ]
        relative = max(float((a - b).abs().max() / a.abs().max()) for a, b in pairs)
        return relative, float((self.plain_segment() - self.our_segment()).abs().max())


def paper_network(seed: int = 0) -> STM:
    """Random weights whose attention is graded: one of all or nothing would hide mistakes."""
    torch.manual_seed(seed)
    network = build("stm", "paper")
    assert isinstance(network, STM)
    graded(network)
    return network.eval()


def compare(repeats: int) -> None:
    """The table of both layouts."""
    table = Table(f"{SIZE[0]}x{SIZE[1]}", "         objects, in memory")
    network = paper_network()
    fast = for_inference(network)
    for objects, frames in CASES:
        sides = Sides(network, fast, objects, frames, SIZE)
        relative, apart = sides.difference()
        agree(max(relative, apart))
        label = f"{'segment':<9}{objects:>7}{frames:>11}"
        table.row(label, sides.plain_segment, sides.our_segment, repeats, GOALS[objects])
        if frames != 3:
            continue  # what is said below does not depend on what is stored
        table.row(f"{'memorize':<9}{objects:>7}{'-':>11}", sides.plain_memorize, sides.our_memorize, repeats)
        memory = Memory()
        memory.add(sides.moments[0])
        print(f"  probabilities differ by {apart:.1e}, keys and values by {relative:.1e} of the largest;", end="")
        print(f" a stored frame takes {memory.bytes / 2**20:.2f} MiB, in slots {sides.slots() / 2**20:.1f}")
        if memory.bytes != objects * STORED:
            raise SystemExit(f"a stored frame should take {objects * STORED} bytes, not {memory.bytes}.")


def small() -> STMSegmenter:
    """The method's small network, with random weights."""
    network = build("stm", "small")
    assert isinstance(network, STM)
    return STMSegmenter(for_inference(network))


if __name__ == "__main__":
    run(__doc__, compare, small)
