"""The exercises of notebook 04, a step, the network, an empty target, and of its appendix: ancestors, matching, c."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn
from torch.nn.utils import skip_init

from ...models.backbones import SmallEncoder
from ...models.layers import group_norm
from ...models.rvos import RVOS, ConvLSTMCell, Head, State, enlarge, lstm, mask_pyramid, soft_iou_cost
from .exercise import Exercise, Mutant


def numbers(*shape: int, seed: int = 0) -> Tensor:
    """Random numbers around 0, the same at every call."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


# --- reached -----------------------------------------------------------------------------------------------------

Reached = Callable[[int, int, str, int, int], Tensor]


def _where(reaches: Callable[[int, int, int, int, str], bool]) -> Reached:
    """A grid of ``reaches(s, j, t, i, recurrence)``: can cell (s, j) influence cell (t, i)?"""

    def grid(t: int, i: int, recurrence: str, frames: int, objects: int) -> Tensor:
        return torch.tensor([[reaches(s, j, t, i, recurrence) for j in range(objects)] for s in range(frames)])

    return grid


def _reaches(s: int, j: int, t: int, i: int, recurrence: str) -> bool:
    in_time = s <= t if "T" in recurrence else s == t
    in_space = j <= i if "S" in recurrence else j == i
    return in_time and in_space and (s, j) != (t, i)


def _parents(s: int, j: int, t: int, i: int, recurrence: str) -> bool:
    return _reaches(s, j, t, i, recurrence) and t - s + i - j == 1


def _one_row_one_column(s: int, j: int, t: int, i: int, recurrence: str) -> bool:
    return _reaches(s, j, t, i, recurrence) and (s == t or j == i)


def _reading_order(s: int, j: int, t: int, i: int, recurrence: str) -> bool:
    return (s, j) < (t, i) if recurrence == "ST" else _reaches(s, j, t, i, recurrence)


def _both_neighbours(s: int, j: int, t: int, i: int, recurrence: str) -> bool:
    in_time = s <= t if "T" in recurrence else s == t
    return in_time and ("S" in recurrence or j == i) and (s, j) != (t, i)


def _all_before(s: int, j: int, t: int, i: int, recurrence: str) -> bool:
    return _reaches(s, j, t, i, "ST")


def _as_released(s: int, j: int, t: int, i: int, recurrence: str) -> bool:
    if recurrence != "T":
        return _reaches(s, j, t, i, recurrence)
    return (s <= t and j == i and s < t) or (s == 0 and j < i)


reached = Exercise(
    name="reached",
    reference=_where(_reaches),
    cases={
        "ST": (2, 1, "ST", 4, 3),
        "S": (2, 1, "S", 4, 3),
        "T": (2, 1, "T", 4, 3),
        "ST, the last object of the last frame": (3, 2, "ST", 4, 3),
        "ST, a later object of frame 0": (0, 2, "ST", 3, 4),
        "ST, object 0 of a late frame": (3, 0, "ST", 4, 3),
        "S, object 0": (1, 0, "S", 3, 2),
        "T, frame 0": (0, 1, "T", 3, 2),
    },
    hint="Go back from (t, i) step by step: with S in the name to the object before, with T to the frame before, in "
    "any order and as often as possible. What shape do the cells form?",
    mutants={
        "the cell itself": Mutant(
            _where(lambda s, j, t, i, how: _reaches(s, j, t, i, how) or (s, j) == (t, i)),
            "The cell itself is in it; the question is who *else* can reach it. Take (t, i) out.",
        ),
        "parents only": Mutant(
            _where(_parents),
            "These are the cells with a direct arrow to it. They have inputs of their own, so go on until nothing "
            "is new.",
        ),
        "one row and one column": Mutant(
            _where(_one_row_one_column),
            "With ST you take one row and one column of the grid. A path may change direction: (t - 1, i - 1) "
            "reaches (t, i) by two arrows.",
        ),
        "reading order": Mutant(
            _where(_reading_order),
            "You take everything that was computed before. But no arrow leads back to an earlier object: a later "
            "one of an earlier frame never reaches it.",
        ),
        "later objects as well": Mutant(
            _where(_both_neighbours),
            "Within a frame the traversal has one direction: object i sees those before it, not those after it.",
        ),
        "S and T exchanged": Mutant(
            _where(lambda s, j, t, i, how: _reaches(s, j, t, i, {"S": "T", "T": "S"}.get(how, how))),
            "S is for space, from object to object within a frame; T is for time. You have swapped them.",
        ),
        "ST in all cases": Mutant(
            _where(_all_before),
            "You do not look at the name: S cuts all arrows between frames, T all arrows between objects.",
        ),
        "objects first": Mutant(
            lambda t, i, how, frames, objects: _where(_reaches)(t, i, how, frames, objects).T,
            "Yours is [objects, frames]; a row is a frame: [frames, objects].",
        ),
        "who it reaches": Mutant(
            _where(lambda s, j, t, i, how: _reaches(t, i, s, j, how)),
            "You follow the arrows forward, to the cells that (t, i) reaches; follow them backward.",
        ),
        "T as released": Mutant(
            _where(_as_released),
            "That is the authors' released T, which has arrows between the objects of frame 0. The strict one has "
            "no arrow between objects, in frame 0 either.",
        ),
    },
)


# --- cell_step ---------------------------------------------------------------------------------------------------

Combine = Callable[[Tensor, Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]
Inputs = Callable[[Tensor, Tensor, Tensor], list[Tensor]]
Step = Callable[[nn.Module, Tensor, State | None, Tensor | None], tuple[Tensor, Tensor]]


def _gates(channels: int, hidden: int, count: int, seed: int) -> nn.Conv2d:
    """A gate convolution with weights of its own, which leaves torch's random numbers alone."""
    conv = skip_init(nn.Conv2d, channels + 2 * hidden, count * hidden, 3, padding=1).requires_grad_(False)
    conv.weight.copy_(numbers(*conv.weight.shape, seed=seed) / 3)
    conv.bias.copy_(numbers(count * hidden, seed=seed + 1))
    return conv


def _state(batch: int, hidden: int, seed: int) -> State:
    """h and c on a grid of 3 x 4."""
    return numbers(batch, hidden, 3, 4, seed=seed).tanh(), numbers(batch, hidden, 3, 4, seed=seed + 1)


def _in_order(x: Tensor, h_space: Tensor, h_time: Tensor) -> list[Tensor]:
    return [x, h_space, h_time]


def _stepping(combine: Combine, inputs: Inputs = _in_order) -> Step:
    """A step whose gates read ``inputs(x, h_space, h_time)``; ``combine(z, c, h_space, h_time)`` makes the answer."""

    def step(gates: nn.Module, x: Tensor, spatial: State | None, temporal: Tensor | None) -> tuple[Tensor, Tensor]:
        assert isinstance(gates, nn.Conv2d)
        zeros = x.new_zeros(len(x), gates.out_channels // 4, *x.shape[-2:])
        h_space, c = spatial if spatial is not None else (zeros, zeros)
        h_time = temporal if temporal is not None else zeros
        return combine(gates(torch.cat(inputs(x, h_space, h_time), dim=1)), c, h_space, h_time)

    return step


def _lstm(z: Tensor, c: Tensor, h_space: Tensor, h_time: Tensor) -> tuple[Tensor, Tensor]:
    return lstm(z, c)


def _gated(order: str) -> Combine:
    """The four quarters of the gates' output taken in another order, such as ``"ifgo"``."""

    def combine(z: Tensor, c: Tensor, h_space: Tensor, h_time: Tensor) -> tuple[Tensor, Tensor]:
        quarter = dict(zip(order, z.chunk(4, dim=1), strict=True))
        return lstm(torch.cat([quarter[gate] for gate in "ifog"], dim=1), c)

    return combine


def _parts(z: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    i, f, o, g = z.chunk(4, dim=1)
    return i.sigmoid(), f.sigmoid(), o.sigmoid(), g.tanh()


def _nothing_forgotten(z: Tensor, c: Tensor, h_space: Tensor, h_time: Tensor) -> tuple[Tensor, Tensor]:
    i, _, o, g = _parts(z)
    new = c + i * g
    return o * new.tanh(), new


def _sigmoid_candidate(z: Tensor, c: Tensor, h_space: Tensor, h_time: Tensor) -> tuple[Tensor, Tensor]:
    i, f, o, _ = _parts(z)
    new = f * c + i * z.chunk(4, dim=1)[3].sigmoid()
    return o * new.tanh(), new


def _without_tanh(z: Tensor, c: Tensor, h_space: Tensor, h_time: Tensor) -> tuple[Tensor, Tensor]:
    new = lstm(z, c)[1]
    return _parts(z)[2] * new, new


def _without_output_gate(z: Tensor, c: Tensor, h_space: Tensor, h_time: Tensor) -> tuple[Tensor, Tensor]:
    new = lstm(z, c)[1]
    return new.tanh(), new


def _cell_first(z: Tensor, c: Tensor, h_space: Tensor, h_time: Tensor) -> tuple[Tensor, Tensor]:
    return lstm(z, c)[::-1]


def _forget_bias(z: Tensor, c: Tensor, h_space: Tensor, h_time: Tensor) -> tuple[Tensor, Tensor]:
    i, f, o, g = z.chunk(4, dim=1)
    return lstm(torch.cat([i, f + 1, o, g], dim=1), c)


_STEP_CASES = {
    "in the middle of the grid": (
        _gates(3, 2, 4, 1),
        numbers(2, 3, 3, 4, seed=3),
        _state(2, 2, 4),
        _state(2, 2, 6)[0],
    ),
    "the first object of a frame": (_gates(2, 3, 4, 8), numbers(1, 2, 3, 4, seed=10), None, _state(1, 3, 11)[0]),
    "frame 0": (_gates(4, 2, 4, 13), numbers(1, 4, 3, 4, seed=15), _state(1, 2, 16), None),
    "the first object of frame 0": (_gates(1, 2, 4, 18), numbers(3, 1, 3, 4, seed=20), None, None),
}

cell_step = Exercise(
    name="cell_step",
    reference=_stepping(_lstm),
    cases=_STEP_CASES,
    hint="Four lines: zeros for the states that are None; z = gates(torch.cat([x, h_space, h_time], dim=1)); "
    "i, f, o, g = z.chunk(4, dim=1); c = sigmoid(f) * c + sigmoid(i) * tanh(g).",
    atol=1e-5,
    mutants={
        "i, f, g, o": Mutant(
            _stepping(_gated("ifgo")),
            "You take the gates in the order i, f, g, o, that of torch.nn.LSTM; the authors' order is i, f, o, g.",
        ),
        "f, i, o, g": Mutant(
            _stepping(_gated("fiog")), "Your first quarter is the forget gate; the order is i, f, o, g."
        ),
        "time before space": Mutant(
            _stepping(_lstm, lambda x, h_space, h_time: [x, h_time, h_space]),
            "You concatenate time before space. The order is x, h_space, h_time; trained weights rely on it.",
        ),
        "states before x": Mutant(
            _stepping(_lstm, lambda x, h_space, h_time: [h_space, h_time, x]),
            "You concatenate the states first; x comes first, then h_space, then h_time.",
        ),
        "space twice": Mutant(
            _stepping(_lstm, lambda x, h_space, h_time: [x, h_space, h_space]),
            "Your gates see the previous object twice, and the previous frame not at all.",
        ),
        "c from time": Mutant(
            _stepping(lambda z, c, h_space, h_time: lstm(z, h_time)),
            "Your forget gate works on what came through time. That is a hidden state, an input of the gates and no "
            "more; the old c is that of the object before, spatial[1].",
        ),
        "time added to c": Mutant(
            _stepping(lambda z, c, h_space, h_time: lstm(z, c + h_time)),
            "You add the temporal state to the old c. No gate forgets it, and no c is made of it: it is an input of "
            "the gates and nothing else.",
        ),
        "h for c": Mutant(
            _stepping(lambda z, c, h_space, h_time: lstm(z, h_space)),
            "You multiply the forget gate with h of the object before; multiply it with its c, spatial[1].",
        ),
        "nothing forgotten": Mutant(
            _stepping(_nothing_forgotten), "The old c is kept as it is; multiply it with the forget gate."
        ),
        "the old c left out": Mutant(
            _stepping(lambda z, c, h_space, h_time: lstm(z, None)),
            "The old c is missing: what is new, i times g, is *added* to f times the old c.",
        ),
        "sigmoid for the candidate": Mutant(
            _stepping(_sigmoid_candidate), "The candidate g goes through tanh, so that it can also lower c."
        ),
        "without tanh": Mutant(_stepping(_without_tanh), "The new h is the output gate times *tanh* of the new c."),
        "without output gate": Mutant(
            _stepping(_without_output_gate), "The output gate o is missing: h is o times tanh of the new c."
        ),
        "c, h": Mutant(_stepping(_cell_first), "You return c, h; return h, c."),
        "a forget bias": Mutant(
            _stepping(_forget_bias),
            "You add 1 to the forget gate. That is a known trick, but not RVOS's: here the bias is learned alone.",
        ),
    },
)


# --- network -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class OneFrame(Exercise):
    """An exercise whose answer makes a network that draws all slots of a first frame, given a mask for each.

    A case is the arguments, and the sizes B, N, H and W. Compared are shapes, the number of parameters, and which
    masks each slot can see, of which autograd is asked.
    """

    def _run(self, function: Callable[..., Any], case: str) -> Any:
        arguments, (samples, slots, height, width) = self.cases[case]
        network = function(*arguments)
        if network is None:
            return None
        if not isinstance(network, nn.Module):
            raise TypeError(f"you returned {type(network).__name__}, return a torch.nn.Module")
        frame = numbers(samples, 3, height, width, seed=1).sigmoid()  # [B, 3, H, W]
        masks = numbers(samples, slots, height, width, seed=2).sigmoid().requires_grad_()  # [B, N, H, W]
        logits = network(frame, masks)
        if not isinstance(logits, Tensor):
            raise TypeError(f"the network returned {type(logits).__name__}, let it return logits [B, N, H, W]")
        seen = torch.zeros(slots, slots, dtype=torch.bool)
        if logits.shape == masks.shape:
            for i in range(slots):
                slopes = torch.autograd.grad(logits[:, i].sum(), masks, retain_graph=True, allow_unused=True)[0]
                seen[i] = slopes.abs().amax((0, 2, 3)) > 0 if slopes is not None else seen[i]
        logits.sum().backward()
        parameters = list(network.parameters())
        return {
            "the shape of the logits": list(logits.shape),
            "the number of parameters": sum(p.numel() for p in parameters),
            "parameters that take no part": sum(p.numel() for p in parameters if p.grad is None),
            "which masks [column] each slot [row] sees": seen,
        }


class _FirstFrame(nn.Module):
    """The network of the ledger, with one thing wrong if so wished.

    Args:
        width, hidden: as the exercise has them.
        halved: of the hidden channels, level by level.
        up: whether the coarser h is an input.
        mask: whether the previous mask is.
        time: whether the cells have an input for h of the frame before.
        space: ``"before"`` the object before; ``"none"``; or ``"last"``, the first object for all others.
        strided: logits at half the resolution.
    """

    def __init__(
        self,
        width: int,
        hidden: int,
        halved: bool = True,
        up: bool = True,
        mask: bool = True,
        time: bool = True,
        space: str = "before",
        strided: bool = False,
    ) -> None:
        super().__init__()
        self.encoder = SmallEncoder(width=width, depth=4)
        self.hidden = [hidden >> k if halved else hidden for k in range(4)]
        seen = [hidden >> max(0, k - 1) for k in range(4)]
        self.heads = nn.ModuleList(
            Head(c, n, group_norm) for c, n in zip(self.encoder.channels[::-1], seen, strict=True)
        )
        above = [0, *self.hidden[:-1]] if up else [0] * 4
        self.cells = nn.ModuleList(
            ConvLSTMCell(n + a, h, mask) for n, a, h in zip(seen, above, self.hidden, strict=True)
        )
        if not time:
            for cell, n, a, h in zip(self.cells, seen, above, self.hidden, strict=True):
                cell.gates = nn.Conv2d(n + a + mask + h, 4 * h, 3, padding=1)
        self.predict = nn.Conv2d(self.hidden[-1], 1, 3, padding=1)
        self.up, self.mask, self.time, self.space, self.strided = up, mask, time, space, strided

    def forward(self, frame: Tensor, masks: Tensor) -> Tensor:
        maps = self.encoder(frame)[::-1]  # coarse first
        skips = [head(x) for head, x in zip(self.heads, maps, strict=True)]
        before: list[State] | None = None
        drawn = []
        for mask in masks.unbind(1):
            pooled = mask_pyramid(mask[:, None], self.encoder.strides[::-1])
            states: list[State] = []
            for k, (cell, skip) in enumerate(zip(self.cells, skips, strict=True)):
                h = self.hidden[k]
                nothing = skip.new_zeros(len(skip), h, *skip.shape[-2:])
                h_space, c = before[k] if before is not None else (nothing, nothing)
                inputs = [enlarge(states[-1][0], skip.shape[-2:])] if k and self.up else []
                inputs += [skip, *([pooled[k]] if self.mask else []), h_space, *([nothing] if self.time else [])]
                states.append(lstm(cell.gates(torch.cat(inputs, 1)), c))  # type: ignore[operator]
            if self.space == "before" or (self.space == "last" and before is None):
                before = states
            fine = enlarge(states[-1][0], (2 * states[-1][0].shape[-2], 2 * states[-1][0].shape[-1]))
            drawn.append(self.predict(fine)[:, 0])
        logits = torch.stack(drawn, 1)
        return F.avg_pool2d(logits, 2) if self.strided else logits


class _Library(nn.Module):
    """The library's network at the first frame of a clip."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.network = RVOS(SmallEncoder(width=width, depth=4), hidden, norm=group_norm)

    def forward(self, frame: Tensor, masks: Tensor) -> Tensor:
        logits, _ = self.network.frame(self.network.encode(frame), masks, None, masks.shape[1])
        return logits


def _wrong(**change: Any) -> Callable[[int, int], nn.Module]:
    return lambda width, hidden: _FirstFrame(width, hidden, **change)


network = OneFrame(
    name="network",
    reference=_Library,
    cases={
        "the size of the page": ((16, 32), (1, 3, 48, 48)),
        "half as wide, not square": ((8, 16), (2, 2, 32, 48)),
    },
    hint="Print sum(p.numel() for p in part.parameters()) of each part and compare it with the ledger; then follow "
    "slot 1: what does it get from slot 0?",
    mutants={
        "no mask": Mutant(
            _wrong(mask=False), "Your cells have one input channel too few: each level gets the object's own mask."
        ),
        "no input for time": Mutant(
            _wrong(time=False),
            "Your gates have no input for h of the previous frame. In frame 0 it is zero, but it has its channels.",
        ),
        "no coarser h": Mutant(
            _wrong(up=False),
            "From the second level on, a cell also gets h of the coarser level, enlarged to its own size.",
        ),
        "the same hidden size on all levels": Mutant(
            _wrong(halved=False),
            "The hidden channels halve from level to level: hidden, hidden/2, hidden/4, hidden/8.",
        ),
        "no space": Mutant(
            _wrong(space="none"),
            "Each of your slots sees its own mask only: hand h and c of a slot on to the next one, at each level.",
        ),
        "the first slot for all": Mutant(
            _wrong(space="last"),
            "All your slots start from the states of slot 0: each gets those of the slot just before it.",
        ),
        "half the resolution": Mutant(
            _wrong(strided=True),
            "Your logits are smaller than the frame: enlarge the finest h to twice its size before the last "
            "convolution.",
        ),
    },
)


# --- slot_cost ---------------------------------------------------------------------------------------------------


class WithGradient(Exercise):
    """An exercise whose first argument are logits; the gradient of the answer's sum is compared beside the values."""

    def _run(self, function: Callable[..., Any], case: str) -> Any:
        logits, *rest = self.cases[case]
        logits = logits.clone().requires_grad_()
        cost = function(logits, *(x.clone() if isinstance(x, Tensor) else x for x in rest))
        if cost is None:
            return None
        if not isinstance(cost, Tensor):
            raise TypeError(f"you returned {type(cost).__name__}, return a tensor [N], the cost of each slot")
        slope = torch.zeros_like(logits)
        if cost.requires_grad:
            (slope,) = torch.autograd.grad(cost.sum(), logits)
        return {"cost": cost.detach(), "gradient": slope}


Cost = Callable[[Tensor, Tensor, float], Tensor]


def _costing(term: Callable[[Tensor, Tensor], Tensor]) -> Cost:
    """The soft IoU cost, and for each slot ``term(logits, target)`` on top of it."""
    return lambda logits, target, weight: soft_iou_cost(logits.sigmoid(), target) + weight * term(logits, target)


def _silent(target: Tensor) -> Tensor:
    """Which targets are empty, ``float [N]``."""
    return (target.sum((-2, -1)) == 0).float()


def _entropy(logits: Tensor, target: Tensor) -> Tensor:
    return F.softplus(logits).mean((-2, -1)) * _silent(target)


def _mean_of_q(logits: Tensor, target: Tensor) -> Tensor:
    return logits.sigmoid().mean((-2, -1)) * _silent(target)


def _log_overflows(logits: Tensor, target: Tensor) -> Tensor:
    return -(1 - logits.sigmoid()).log().mean((-2, -1)) * _silent(target)


def _everywhere(logits: Tensor, target: Tensor) -> Tensor:
    return F.binary_cross_entropy_with_logits(logits, target, reduction="none").mean((-2, -1))


def _background_pixels(logits: Tensor, target: Tensor) -> Tensor:
    return (F.softplus(logits) * (1 - target)).mean((-2, -1))


def _wrong_side(logits: Tensor, target: Tensor) -> Tensor:
    return F.softplus(-logits).mean((-2, -1)) * _silent(target)


def _instead(logits: Tensor, target: Tensor, weight: float) -> Tensor:
    silent = _silent(target)
    return (1 - silent) * soft_iou_cost(logits.sigmoid(), target) + weight * _entropy(logits, target)


def _smoothed(logits: Tensor, target: Tensor, weight: float) -> Tensor:
    q = logits.sigmoid()
    return 1 - ((q * target).sum((-2, -1)) + 1) / ((q + target - q * target).sum((-2, -1)) + 1)


def _union_too_large(logits: Tensor, target: Tensor, weight: float) -> Tensor:
    q = logits.sigmoid()
    iou = (q * target).sum((-2, -1)) / ((q + target).sum((-2, -1)) + 1e-6)
    return 1 - iou + weight * _entropy(logits, target)


def _dice(logits: Tensor, target: Tensor, weight: float) -> Tensor:
    q = logits.sigmoid()
    dice = 2 * (q * target).sum((-2, -1)) / ((q + target).sum((-2, -1)) + 1e-6)
    return 1 - dice + weight * _entropy(logits, target)


def _decided(logits: Tensor, target: Tensor, weight: float) -> Tensor:
    return soft_iou_cost((logits > 0).float(), target) + weight * _entropy(logits, target)


_slot_cost = _costing(_entropy)

_DISC = torch.tensor([[0.0, 1, 1, 0], [1, 1, 1, 1], [0, 1, 1, 0]])
_NONE = torch.zeros(3, 4)

slot_cost = WithGradient(
    name="slot_cost",
    reference=_slot_cost,
    cases={
        "an object that is seen": (numbers(1, 3, 4), _DISC[None], 1.0),
        "an object that has left": (2 + numbers(1, 3, 4, seed=1), _NONE[None], 1.0),
        "one seen, two hidden": (numbers(3, 3, 4, seed=2), torch.stack([_NONE, _DISC, _NONE]), 0.3),
        "a slot that is very sure": (torch.full((2, 3, 4), 40.0), torch.stack([_NONE, _DISC]), 0.5),
        "no weight": (numbers(2, 3, 4, seed=3), torch.stack([_DISC, _NONE]), 0.0),
    },
    hint="rvos.soft_iou_cost(logits.sigmoid(), target) is the first part. F.softplus(logits) is -log(1 - q) at every "
    "pixel; take its mean over the pixels, times weight, and only where the target has no pixel.",
    atol=1e-5,
    mutants={
        "the soft IoU alone": Mutant(
            _costing(lambda logits, target: torch.zeros(len(logits))),
            "An empty target still costs exactly 1 with a gradient of exactly 0: add the term where it is empty.",
        ),
        "everywhere": Mutant(
            _costing(_everywhere),
            "Your cross-entropy works where the object is seen, too; there the gradient of the soft IoU is enough. "
            "Add it only where the target is empty.",
        ),
        "all background pixels": Mutant(
            _costing(_background_pixels),
            "You penalise the background pixels of every slot; only slots whose *whole* target is empty get the "
            "term.",
        ),
        "instead of the cost": Mutant(
            _instead,
            "Where the target is empty you replace the cost by the term; add it. The gradient is the same, but the "
            "loss should be the paper's, plus a term.",
        ),
        "the sum over the pixels": Mutant(
            _costing(lambda logits, target: F.softplus(logits).sum((-2, -1)) * _silent(target)),
            "You sum over the pixels, so a larger frame would count more: take the mean.",
        ),
        "the mean of q": Mutant(
            _costing(_mean_of_q),
            "The mean of q also works, but its slope q (1 - q) fades when the slot is sure of its mistake. Minus "
            "log(1 - q) has the slope q; take that.",
        ),
        "the logarithm overflows": Mutant(
            _costing(_log_overflows),
            "Where a slot is very sure, 1 - q is 0 and its logarithm minus inf: F.softplus(logits) is the same, and "
            "safe.",
        ),
        "the wrong side": Mutant(
            _costing(_wrong_side), "Your term is small where the slot *draws*: yours is -log(q), take -log(1 - q)."
        ),
        "no gradient": Mutant(
            _costing(lambda logits, target: _entropy(logits, target).detach()),
            "The cost is right, but the term has no gradient: use no detach(), no .item(), no torch.no_grad().",
        ),
        "the weight left out": Mutant(
            lambda logits, target, weight: _slot_cost(logits, target, 1.0), "The argument weight is not used."
        ),
        "smoothing": Mutant(
            _smoothed,
            "You add 1 above and below. Then an empty target has a gradient, but it falls with the square of the "
            "wrong area: the larger the mistake, the less is learned. Add a term of its own.",
        ),
        "the union too large": Mutant(
            _union_too_large, "Your union counts the overlap twice: q + y - q y. (Or call soft_iou_cost.)"
        ),
        "Dice": Mutant(_dice, "That is the Dice coefficient, 2 I / (A + B); here you need the IoU, I / (A + B - I)."),
        "decided": Mutant(
            _decided, "You threshold at 0.5 before the IoU; a threshold has no gradient. Keep the probabilities."
        ),
        "the mean over the slots": Mutant(
            lambda logits, target, weight: _slot_cost(logits, target, weight).mean(),
            "You return one number for all; each slot has a cost of its own, [N].",
        ),
        "probabilities of probabilities": Mutant(
            lambda logits, target, weight: _slot_cost(logits.sigmoid(), target, weight),
            "You take the sigmoid twice: softplus wants the logits, soft_iou_cost the probabilities.",
        ),
    },
)


# --- matched -----------------------------------------------------------------------------------------------------

Matched = Callable[[Tensor, bool], tuple[Tensor, float, int]]


def _best(cost: Tensor) -> Tensor:
    return torch.from_numpy(linear_sum_assignment(cost.double().numpy())[1])


def _worst(cost: Tensor) -> Tensor:
    return torch.from_numpy(linear_sum_assignment(cost.double().numpy(), maximize=True)[1])


def _of_slots(cost: Tensor) -> Tensor:
    return torch.from_numpy(linear_sum_assignment(cost.T.double().numpy())[1])


def _greedy(cost: Tensor) -> Tensor:
    rest, found = cost.clone(), []
    for row in range(len(cost)):
        found.append(int(rest[row].argmin()))
        rest[:, found[-1]] = torch.inf
    return torch.tensor(found)


def _surest_first(cost: Tensor) -> Tensor:
    rest, found = cost.clone(), torch.zeros(len(cost), dtype=torch.long)
    for _ in range(len(cost)):
        row, column = np.unravel_index(int(rest.argmin()), rest.shape)
        found[row] = int(column)
        rest[row], rest[:, column] = torch.inf, torch.inf
    return found


def _price(cost: Tensor, slots: Tensor) -> float:
    return cost.gather(2, slots[:, :, None]).mean().item()


def _switches(slots: Tensor) -> int:
    return int((slots[1:] != slots[:-1]).sum())


def _frames(cost: Tensor, every_frame: bool) -> list[Tensor]:
    return list(cost) if every_frame else [cost[0]] * len(cost)


def _matching(
    best: Callable[[Tensor], Tensor] = _best,
    look: Callable[[Tensor, bool], list[Tensor]] = _frames,
    price: Callable[[Tensor, Tensor], float] = _price,
    switches: Callable[[Tensor], int] = _switches,
) -> Matched:
    """Match by ``best`` on the costs that ``look`` gives for each frame, and count."""

    def matched(cost: Tensor, every_frame: bool) -> tuple[Tensor, float, int]:
        slots = torch.stack([best(frame) for frame in look(cost, every_frame)])
        return slots, price(cost, slots), switches(slots)

    return matched


def _any_change(slots: Tensor) -> int:
    return int((slots[1:] != slots[:-1]).any(1).sum())


def _against_the_first(slots: Tensor) -> int:
    return int((slots[1:] != slots[0]).sum())


def _on_the_sum(cost: Tensor, every_frame: bool) -> list[Tensor]:
    return list(cost) if every_frame else [cost.sum(0)] * len(cost)


#: Two objects cross: for two frames the slots draw each other's object, then they find back.
CROSSING = torch.tensor(
    [
        [[0.2, 0.8], [0.9, 0.3]],
        [[0.3, 0.6], [0.7, 0.3]],
        [[0.5, 0.4], [0.3, 0.6]],
        [[0.6, 0.3], [0.2, 0.7]],
        [[0.3, 0.7], [0.8, 0.2]],
    ]
)
#: The slots change places in frame 1 and stay there.
_FOR_GOOD = CROSSING[[0, 2, 3, 3]]
#: Both objects like slot 0 best, and the second one has no good alternative.
_RIVALS = torch.tensor([[[0.1, 0.2], [0.15, 0.9]], [[0.3, 0.9], [0.2, 0.4]], [[0.1, 0.2], [0.15, 0.9]]])
_RING = torch.stack([torch.eye(3).roll(k, 1).mul(-0.7).add(0.8) for k in (1, 1, 2, 0)]) + 0.01 * numbers(
    4, 3, 3, seed=4
)
_FREE_SLOTS = torch.rand(5, 2, 4, generator=torch.Generator().manual_seed(5))

matched = Exercise(
    name="matched",
    reference=_matching(),
    cases={
        f"{what}, {'every frame' if every else 'frame 0'}": (cost, every)
        for (what, cost), every in itertools.product(
            {
                "the crossing": CROSSING,
                "exchanged for good": _FOR_GOOD,
                "two rivals": _RIVALS,
                "three objects in a ring": _RING,
                "two objects, four slots": _FREE_SLOTS,
                "one frame": CROSSING[:1],
            }.items(),
            (False, True),
        )
    },
    hint="linear_sum_assignment(cost[t])[1] is the slot of each object. Stack one row per frame, [T, G]; "
    "cost.gather(2, slots[:, :, None]) is what the match costs; a switch is slots[t] != slots[t - 1].",
    atol=1e-5,
    mutants={
        "exchanged": Mutant(
            lambda cost, every_frame: _matching()(cost, not every_frame),
            "Your two policies are swapped: every_frame=True matches each frame anew.",
        ),
        "frame 0 in both cases": Mutant(
            _matching(look=lambda cost, every: _frames(cost, False)), "With every_frame=True match each frame anew."
        ),
        "every frame in both cases": Mutant(
            _matching(look=lambda cost, every: _frames(cost, True)),
            "With every_frame=False frame 0 decides for the whole clip: repeat its slots.",
        ),
        "on the sum of the clip": Mutant(
            _matching(look=_on_the_sum),
            "You match once, but on the costs of the whole clip; RVOS looks at frame 0 alone.",
        ),
        "the best slot of each": Mutant(
            _matching(best=lambda cost: cost.argmin(1)),
            "Each object takes the slot it likes best, so two may share one. A slot belongs to one object at a time.",
        ),
        "one after the other": Mutant(
            _matching(best=_greedy),
            "The first object chooses first, and the last gets what is left. The Hungarian method makes the *sum* of "
            "the costs least.",
        ),
        "the surest pair first": Mutant(
            _matching(best=_surest_first),
            "You take the cheapest pair first, which can force a very bad pair later; make the *sum* least.",
        ),
        "the worst": Mutant(_matching(best=_worst), "You make the sum of the costs greatest: that is for scores."),
        "the object of each slot": Mutant(
            _matching(best=_of_slots),
            "Yours lists the object of each slot; return the slot of each object: a row of cost is an object.",
        ),
        "any change counts once": Mutant(
            _matching(switches=_any_change),
            "You count frames with a change; count objects: if two change places in a frame, that is two switches.",
        ),
        "against frame 0": Mutant(
            _matching(switches=_against_the_first),
            "You compare with frame 0, so an object that has changed once counts in each later frame: compare with "
            "the frame *before*.",
        ),
        "the sum of the costs": Mutant(
            _matching(price=lambda cost, slots: cost.gather(2, slots[:, :, None]).sum().item()),
            "You sum the costs; take the mean over frames and objects.",
        ),
        "the mean of all pairs": Mutant(
            _matching(price=lambda cost, slots: cost.mean().item()),
            "You take the mean over all pairs; only the matched pairs count.",
        ),
    },
)


# --- two_memory_step ---------------------------------------------------------------------------------------------

TwoStates = Callable[[nn.Module, Tensor, State | None, State | None], tuple[Tensor, Tensor]]
Fifths = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]


def _fifths(z: Tensor) -> Fifths:
    i, f_space, f_time, o, g = z.chunk(5, dim=1)
    return i.sigmoid(), f_space.sigmoid(), f_time.sigmoid(), o.sigmoid(), g.tanh()


def _two_stepping(
    new_cell: Callable[[Fifths, Tensor, Tensor], Tensor],
    inputs: Inputs = _in_order,
    cut: Callable[[Tensor], Fifths] = _fifths,
) -> TwoStates:
    """A step of five gates; ``new_cell(gates, c_space, c_time)`` is the new c."""

    def step(gates: nn.Module, x: Tensor, spatial: State | None, temporal: State | None) -> tuple[Tensor, Tensor]:
        assert isinstance(gates, nn.Conv2d)
        zeros = x.new_zeros(len(x), gates.out_channels // 5, *x.shape[-2:])
        h_space, c_space = spatial if spatial is not None else (zeros, zeros)
        h_time, c_time = temporal if temporal is not None else (zeros, zeros)
        parts = cut(gates(torch.cat(inputs(x, h_space, h_time), dim=1)))
        new = new_cell(parts, c_space, c_time)
        return parts[3] * new.tanh(), new

    return step


def _both_memories(gates: Fifths, c_space: Tensor, c_time: Tensor) -> Tensor:
    i, f_space, f_time, _, g = gates
    return f_space * c_space + f_time * c_time + i * g


def _time_last(z: Tensor) -> Fifths:
    i, f_space, o, g, f_time = z.chunk(5, dim=1)
    return _fifths(torch.cat([i, f_space, f_time, o, g], dim=1))


def _time_first(z: Tensor) -> Fifths:
    i, f_time, f_space, o, g = z.chunk(5, dim=1)
    return _fifths(torch.cat([i, f_space, f_time, o, g], dim=1))


def _only_with_space(
    gates: nn.Module, x: Tensor, spatial: State | None, temporal: State | None
) -> tuple[Tensor, Tensor]:
    return _two_steps(gates, x, spatial, temporal if spatial is not None else None)


_two_steps = _two_stepping(_both_memories)

two_memory_step = Exercise(
    name="two_memory_step",
    reference=_two_steps,
    cases={
        "in the middle of the grid": (
            _gates(3, 2, 5, 21),
            numbers(2, 3, 3, 4, seed=23),
            _state(2, 2, 24),
            _state(2, 2, 26),
        ),
        "the first object of a frame": (_gates(2, 3, 5, 28), numbers(1, 2, 3, 4, seed=30), None, _state(1, 3, 31)),
        "frame 0": (_gates(4, 2, 5, 33), numbers(1, 4, 3, 4, seed=35), _state(1, 2, 36), None),
        "the first object of frame 0": (_gates(1, 2, 5, 38), numbers(3, 1, 3, 4, seed=40), None, None),
    },
    hint="As in exercise 4.1, with z.chunk(5, dim=1) into i, f_space, f_time, o, g, and with one more product in c: "
    "sigmoid(f_time) times the c of the frame before.",
    atol=1e-5,
    mutants={
        "one gate for both": Mutant(
            _two_stepping(lambda p, c_space, c_time: p[1] * (c_space + c_time) + p[0] * p[4]),
            "One gate forgets both memories. For a moving object it should keep one and drop the other: use f_time.",
        ),
        "the gates exchanged": Mutant(
            _two_stepping(_both_memories, cut=_time_first),
            "Your two forget gates are swapped: f_space is the second fifth, f_time the third.",
        ),
        "the new gate last": Mutant(
            _two_stepping(_both_memories, cut=_time_last),
            "You take the new gate as the last fifth; the order is i, f_space, f_time, o, g.",
        ),
        "time not forgotten": Mutant(
            _two_stepping(lambda p, c_space, c_time: p[1] * c_space + c_time + p[0] * p[4]),
            "The memory of time is never forgotten, so c grows from frame to frame: multiply it with f_time.",
        ),
        "the memory of time left out": Mutant(
            _two_stepping(lambda p, c_space, c_time: p[1] * c_space + p[0] * p[4]),
            "c of the frame before is not used yet: that is the cell of exercise 4.1.",
        ),
        "the memory of space left out": Mutant(
            _two_stepping(lambda p, c_space, c_time: p[2] * c_time + p[0] * p[4]),
            "Now c of the object before is missing: time gets a memory *beside* space, not in its place.",
        ),
        "the mean of the memories": Mutant(
            _two_stepping(lambda p, c_space, c_time: (p[1] * c_space + p[2] * c_time) / 2 + p[0] * p[4]),
            "You halve the memories; each gate alone says how much is kept, so add the two products.",
        ),
        "h of time not heard": Mutant(
            _two_stepping(_both_memories, lambda x, h_space, h_time: [x, h_space, torch.zeros_like(h_time)]),
            "The gates no longer see h of the previous frame; it stays an input, only c comes on top.",
        ),
        "c for h": Mutant(
            lambda gates, x, spatial, temporal: _two_steps(
                gates, x, spatial, temporal[::-1] if temporal is not None else None
            ),
            "temporal is (h, c), as spatial is: you have swapped them.",
        ),
        "time before space": Mutant(
            _two_stepping(_both_memories, lambda x, h_space, h_time: [x, h_time, h_space]),
            "You concatenate h of time before h of space; the order is x, h_space, h_time.",
        ),
        "only with an object before": Mutant(
            _only_with_space,
            "For the first object of a frame you drop time as well. There only spatial is None; temporal has h and "
            "c.",
        ),
        "c, h": Mutant(lambda *given: _two_steps(*given)[::-1], "Yours is c, h; the order is h, c."),
    },
)
