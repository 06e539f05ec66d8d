"""RVOS's time per frame against the authors' layout, written down plainly; and the small network.

The yardstick computes the same from the same weights, laid out as the authors' program is: the decoder is called once
for each object, one after the other, and every call joins all inputs of a cell (the coarser state, the frame's map,
the mask, the state of the object before and that of the frame before) before one convolution of all of it; batch norm
stands by itself; maps are in NCHW order. Outputs must agree, or the script stops.

The authors always go through ten slots, whether they are used or not. So one object is compared twice: with one
slot, which is the goal, and with their ten.

comparison.py says how the times are taken.

    python benchmarks/rvos.py [--repeats 5] [--threads N]
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from comparison import Table, agree, run
from convolution import graded
from torch import Tensor

from vos_tutorial.models import build
from vos_tutorial.models.backbones import ResNetEncoder, for_inference
from vos_tutorial.models.rvos import RVOS, ConvLSTMCell, RVOSSegmenter

SLOTS = 10
SIZE = (256, 448)


class Case(NamedTuple):
    """A row of the table."""

    objects: int
    slots: int
    """That the authors' layout goes through."""
    goal: float | None
    """How many times faster ours is at the least, on the clock."""


CASES = (Case(10, SLOTS, 1.25), Case(1, 1, 0.97), Case(1, SLOTS, None))


# -------------------------------------------------------------------------------------------- the authors' layout

States = list[tuple[Tensor, Tensor]]
"""h and c of each level, coarse first."""


def resized(x: Tensor, height: int, width: int) -> Tensor:
    """``[1, C, H, W]``, bilinear, corners aligned."""
    return F.interpolate(x, (height, width), mode="bilinear", align_corners=True)


class Plain:
    """The authors' layout, on the weights of a paper-size one-shot network; one clip at a time."""

    def __init__(self, network: RVOS, slots: int) -> None:
        self.net, self.slots = network, slots

    def encode(self, frame: Tensor) -> list[Tensor]:
        """``[1, 3, H, W]`` -> four maps, coarse first."""
        encoder = self.net.encoder
        assert isinstance(encoder, ResNetEncoder)
        x = F.max_pool2d(F.relu(encoder.bn1(encoder.conv1(encoder.normalise(frame)))), 3, 2, 1)
        maps = []
        for stage in encoder.layers:
            x = stage(x)
            maps.append(x)
        return [head.norm(head.conv(x)) for head, x in zip(self.net.heads, maps[::-1], strict=True)]

    def decode(
        self, maps: list[Tensor], mask: Tensor, spatial: States | None, temporal: list[Tensor] | None
    ) -> tuple[Tensor, States]:
        """One object, its last mask ``[1, 1, H, W]`` -> logit at half the resolution, and the states."""
        pooled, masks = F.max_pool2d(mask, 2, ceil_mode=True), []
        for _ in maps:
            pooled = F.max_pool2d(pooled, 2, ceil_mode=True)
            masks.append(pooled)
        states: States = []
        x = maps[0]
        for k, cell in enumerate(self.net.cells):
            assert isinstance(cell, ConvLSTMCell)
            nothing = torch.zeros(1, cell.hidden, *x.shape[-2:])
            before, c = spatial[k] if spatial is not None else (nothing, nothing)
            last = temporal[k] if temporal is not None else nothing
            i, f, o, g = cell.gates(torch.cat([x, masks[-1 - k], before, last], dim=1)).chunk(4, dim=1)
            c = f.sigmoid() * c + i.sigmoid() * g.tanh()
            h = o.sigmoid() * c.tanh()
            states.append((h, c))
            if k + 1 < len(maps):
                x = torch.cat([resized(h, *maps[k + 1].shape[-2:]), maps[k + 1]], dim=1)
        h = states[-1][0]
        logit: Tensor = self.net.predict(resized(h, 2 * h.shape[-2], 2 * h.shape[-1]))
        return logit, states

    def look(self, frame: Tensor) -> Tensor:
        """``[3, H, W]`` -> probabilities ``[slots, H, W]``, each object on its own."""
        maps, spatial, memory, answers = self.encode(frame[None]), None, [], []
        for i in range(self.slots):
            temporal = self.memory[i] if self.memory is not None else None
            logit, spatial = self.decode(maps, self.previous[None, i : i + 1], spatial, temporal)
            memory.append([h for h, _ in spatial])
            answers.append(resized(logit, *frame.shape[-2:])[0, 0].sigmoid())
        self.memory = memory
        return torch.stack(answers)

    def begin(self, frame: Tensor, masks: Tensor) -> None:
        """``[3, H, W]`` and ``[O, H, W]``; further slots are empty. Frame 1 gets the given masks again."""
        self.memory: list[list[Tensor]] | None = None
        self.previous = torch.cat([masks, masks.new_zeros(self.slots - len(masks), *masks.shape[1:])])
        self.look(frame)

    def step(self, frame: Tensor) -> Tensor:
        """``[3, H, W]`` -> probabilities ``[slots, H, W]``."""
        self.previous = self.look(frame)
        return self.previous


# --------------------------------------------------------------------------------------------------- both sides


class Sides:
    """Both layouts, begun on the same clip of two frames, ready to be timed.

    Args:
        network: one-shot, of paper size.
        fast: the same, prepared for inference.
        objects: number of objects, each a rectangle of its own.
        slots: that the authors' layout goes through.
        size: height and width.
    """

    def __init__(self, network: RVOS, fast: RVOS, objects: int, slots: int, size: tuple[int, int]) -> None:
        rng = torch.Generator().manual_seed(0)
        self.frames = F.interpolate(torch.rand(2, 3, 12, 20, generator=rng), size, mode="bilinear")
        self.ids = torch.zeros(size, dtype=torch.uint8)
        for i in range(objects):
            self.ids[size[0] // 4 : size[0] // 2, i * size[1] // objects : (i + 1) * size[1] // objects] = i + 1
        self.plain, self.ours = Plain(network, slots), RVOSSegmenter(fast)
        self.plain.begin(self.frames[0], torch.stack([self.ids == i + 1 for i in range(objects)]).float())
        self.ours.begin(self.frames[0], self.ids)

    def plain_step(self) -> Tensor:
        return self.plain.step(self.frames[1])

    def our_step(self) -> Tensor:
        return self.ours.step(self.frames[1])

    def difference(self, steps: int = 3) -> float:
        """The largest of the probabilities of single objects, after steps in which each side feeds itself."""
        worst = 0.0
        for _ in range(steps):
            theirs, _ = self.plain_step(), self.our_step()
            worst = max(worst, float((theirs[: len(self.ours.alone)] - self.ours.alone).abs().max()))
        return worst


def spread(network: RVOS) -> None:
    """Gates that neither sleep nor jam: with weights as they come, all hidden states would be nearly zero."""
    with torch.no_grad():
        for cell in network.cells:
            assert isinstance(cell, ConvLSTMCell)
            cell.gates.weight.mul_(3)
        network.predict.weight.mul_(10)


def paper_network(seed: int = 0) -> RVOS:
    """Random weights whose answers are neither 0 nor 1."""
    torch.manual_seed(seed)
    network = build("rvos", "paper")
    assert isinstance(network, RVOS)
    graded(network)
    spread(network)
    return network.eval()


def compare(repeats: int) -> None:
    """The table of both layouts."""
    table = Table(f"{SIZE[0]}x{SIZE[1]}", "objects, slots")
    network = paper_network()
    fast = for_inference(network)
    for objects, slots, goal in CASES:
        sides = Sides(network, fast, objects, slots, SIZE)
        apart = sides.difference()
        agree(apart)
        table.row(f"{objects:<7}{slots:>7}", sides.plain_step, sides.our_step, repeats, goal)
        print(f"  probabilities differ by {apart:.1e}")


def small() -> RVOSSegmenter:
    """The method's small network, with random weights."""
    network = build("rvos", "small")
    assert isinstance(network, RVOS)
    return RVOSSegmenter(for_inference(network))


if __name__ == "__main__":
    run(__doc__, compare, small, repeats=5)
