"""STM's time per frame against the authors' layout, written down plainly; a stored frame's size; the small network.

The yardstick computes the same from the same weights, laid out as the authors' program is: colours, mask and others
through three convolutions that are summed; keys and values in eleven slots, whatever the number of objects; the read
as two matrix products with the attention between them; the whole decoder, skip path included, once for each object;
maps in NCHW order. Outputs must agree, or the script stops.

A frame costs two things: to memorize the last one, and to segment this one against T stored ones. The rows "read" and
"step" (the segmenter's whole step) have another yardstick: our own first form, in which the frames were stored one by
one, stacked at each step, and read by PyTorch's fused attention, which wants keys as long as values.
comparison.py says how the times are taken.

    python benchmarks/stm.py [--repeats 3] [--threads N]
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from comparison import Table, agree, run
from convolution import graded
from torch import Tensor, nn

from vos_tutorial.models import build
from vos_tutorial.models.backbones import ResNetEncoder, for_inference
from vos_tutorial.models.layers import PreActivation
from vos_tutorial.models.stm import STM, Memory, STMSegmenter, one_frame_owner, other_masks
from vos_tutorial.propagation import soft_aggregate

SLOTS = 11
SIZE = (480, 854)
CASES = ((1, 1), (1, 3), (1, 6), (3, 3))  # objects, frames in memory
GOALS = {1: 1.1, 3: 1.35}
STORE, STEP_GOAL = 6, 1.1  # stored frames, and how many times faster than our first form a step should be
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
        self.n, self.owner = objects, one_frame_owner(objects)
        self.plain, self.network = Plain(network), fast
        self.stored = [self.plain.memorize(p, self.masks[None], objects) for p in self.pictures[:-1]]
        self.memory = Memory()
        for time, picture in enumerate(self.pictures[:-1]):
            self.picture = picture
            self.memory.store(time, *self.our_memorize())

    def plain_memorize(self) -> tuple[Tensor, Tensor]:
        return self.plain.memorize(self.picture, self.masks[None], self.n)

    def our_memorize(self) -> tuple[Tensor, Tensor]:
        given = self.masks[1 : self.n + 1]
        return self.network.memorize(self.picture, given, other_masks(given, self.owner), self.owner)

    def plain_segment(self) -> Tensor:
        return self.plain.segment(self.pictures[-1], self.stored, self.n)[0, : self.n + 1]

    def our_segment(self) -> Tensor:
        query = self.network.encode(self.pictures[-1])
        logits = self.network.decode(self.memory.read(query.key), query, self.owner)
        return soft_aggregate(logits.softmax(1)[:, 1])

    def slots(self) -> int:
        """Bytes of a stored frame in the authors' layout."""
        return sum(part.numel() * part.element_size() for part in self.stored[0])

    def difference(self) -> tuple[float, float]:
        """Largest difference of keys and values, relative to the largest of them; and of probabilities."""
        _, keys, values = self.memory.complete()
        pairs = [
            (theirs[0, 1 : self.n + 1, :, 0], ours[:, :, t])
            for t, stored in enumerate(self.stored)
            for theirs, ours in zip(stored, (keys, values), strict=True)
        ]
        relative = max(float((a - b).abs().max() / a.abs().max()) for a, b in pairs)
        return relative, float((self.plain_segment() - self.our_segment()).abs().max())


# ------------------------------------------------------------------------------------------------ our own first form


class FirstForm:
    """The segmenter as it was before the memory grew by appending.

    Args:
        network: prepared for inference as it was then.
    """

    def __init__(self, network: STM) -> None:
        self.network, self.owner = network, one_frame_owner(1)
        self.stored: list[tuple[Tensor, Tensor]] = []

    def memorize(self, frame: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
        """``[3, H, W]`` and ``[1, H, W]`` -> key and value ``[1, C, h, w]``."""
        return self.network.memorize(frame[None], masks, other_masks(masks, self.owner), self.owner)

    @staticmethod
    def read(query_key: Tensor, stored: list[tuple[Tensor, Tensor]]) -> Tensor:
        """``[1, Ck, h, w]`` -> ``[1, Cv, h, w]``."""
        keys, values = (torch.stack(column, 2) for column in zip(*stored, strict=True))  # [1, C, T, h, w]
        q, k, v = (x.flatten(2).transpose(1, 2) for x in (query_key, keys, values))  # [1, places, C]
        wide = [F.pad(x, (0, v.shape[-1] - x.shape[-1])).contiguous()[:, None] for x in (q, k, v)]
        found = F.scaled_dot_product_attention(wide[0], wide[1], wide[2], scale=1 / math.sqrt(q.shape[-1]))
        return found[:, 0].transpose(1, 2).reshape(1, -1, *query_key.shape[2:])

    def step(self, frame: Tensor, last: Tensor, masks: Tensor) -> Tensor:
        """Memorize the last frame, and segment this one against it and all that is stored."""
        stored = [*self.stored, self.memorize(last, masks)]
        query = self.network.encode(frame[None])
        logits = self.network.decode(self.read(query.key, stored), query, self.owner)
        return soft_aggregate(logits.float().softmax(1)[:, 1])


def undilated(network: STM) -> STM:
    """Prepared for inference as it was before 1x1 convolutions were told to be dilated."""
    network = for_inference(network)
    for module in network.modules():
        if isinstance(module, nn.Conv2d) and module.kernel_size == (1, 1):
            module.dilation = (1, 1)
    return network


class Steps:
    """A whole step in both forms, with ``stored`` frames of one object in memory, the last one counted.

    Args:
        network: of paper size, in the paper's form.
        stored: number of frames.
        size: height and width.
    """

    def __init__(self, network: STM, stored: int, size: tuple[int, int]) -> None:
        dice = torch.Generator().manual_seed(0)
        self.frames = F.interpolate(torch.rand(stored + 1, 3, 12, 20, generator=dice), size, mode="bilinear")
        ids = torch.zeros(size, dtype=torch.uint8)
        ids[size[0] // 4 : size[0] // 2, : size[1] // 4] = 1
        self.segmenter, self.first = STMSegmenter(for_inference(network), every=1), FirstForm(undilated(network))
        self.segmenter.begin(self.frames[0], ids)
        self.last, self.masks = self.frames[0], (ids == 1).float()[None]
        for frame in self.frames[1:-1]:
            self.first.stored.append(self.first.memorize(self.last, self.masks))
            self.last, self.masks = frame, self.segmenter.step(frame)[1:]
        self.segmenter.every = 10**9  # from now on the last frame passes
        self.query_key = self.first.network.encode(self.frames[-1:]).key

    def first_step(self) -> Tensor:
        return self.first.step(self.frames[-1], self.last, self.masks)

    def our_step(self) -> Tensor:
        """Taken from the same state each time."""
        made = self.segmenter
        made.time, made.frame, made.masks = len(self.frames) - 2, self.last, self.masks
        return made.step(self.frames[-1])

    def first_read(self) -> Tensor:
        return self.first.read(self.query_key, [*self.first.stored, self.first.stored[-1]])

    def our_read(self) -> Tensor:
        return self.segmenter.memory.read(self.query_key)

    def difference(self) -> float:
        """Largest difference of probabilities."""
        return float((self.first_step() - self.our_step()).abs().max())


def compare_steps(network: STM, repeats: int) -> None:
    """The table of our two forms."""
    table = Table("a step of the segmenter, our first form and ours", "         objects, in memory")
    steps = Steps(network, STORE, SIZE)
    agree(steps.difference())
    table.row(f"{'read':<9}{1:>7}{STORE:>11}", steps.first_read, steps.our_read, repeats)
    table.row(f"{'step':<9}{1:>7}{STORE:>11}", steps.first_step, steps.our_step, repeats, STEP_GOAL)


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
        memory.store(0, *sides.our_memorize())
        print(f"  probabilities differ by {apart:.1e}, keys and values by {relative:.1e} of the largest;", end="")
        print(f" a stored frame takes {memory.bytes / 2**20:.2f} MiB, in slots {sides.slots() / 2**20:.1f}")
        if memory.bytes != objects * STORED:
            raise SystemExit(f"a stored frame should take {objects * STORED} bytes, not {memory.bytes}.")
    compare_steps(network, repeats)


def small() -> STMSegmenter:
    """The method's small network, with random weights."""
    network = build("stm", "small")
    assert isinstance(network, STM)
    return STMSegmenter(for_inference(network))


if __name__ == "__main__":
    run(__doc__, compare, small)
