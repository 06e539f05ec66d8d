"""The exercises of notebook 03, network and roll-out, and of its appendix: joint stem, padding, aggregation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...models.backbones import SmallEncoder
from ...models.layers import PreActivation, Refine
from ...models.rgmp import next_larger_multiple
from ...propagation import soft_aggregate
from .exercise import Exercise, Mutant
from .ledger import FromALedger


def numbers(*shape: int, seed: int = 0) -> Tensor:
    """Random numbers around 0, the same at every call."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def shares(*shape: int, seed: int = 0) -> Tensor:
    """Random numbers in [0, 1), the same at every call."""
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


# --- network -----------------------------------------------------------------------------------------------------


class _Net(nn.Module):
    """The network of the ledger, with one thing wrong if so wished."""

    def __init__(
        self,
        width: int,
        *,
        siamese: bool = True,
        k: int = 7,
        square: bool = False,
        branches: int = 2,
        compared: int = 2,
        residual: bool = True,
        skips: int = 3,
        outputs: int = 2,
        heads: int = 1,
        enlarged: int = 1,
        channels_in: int = 4,
    ) -> None:
        super().__init__()
        extra = channels_in - 3
        self.target = SmallEncoder(extra, width, depth=4)
        self.reference = self.target if siamese else SmallEncoder(extra, width, depth=4)
        fine, coarse = self.target.channels[:-1], self.target.channels[-1]
        windows = [[(k, k), (1, 1)]] if square else [[(k, 1), (1, k)], [(1, k), (k, 1)]][:branches]
        self.compare = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(compared * coarse, width, first, padding="same"),
                nn.Conv2d(width, width, second, padding="same"),
            )
            for first, second in windows
        )
        self.residual = PreActivation(width) if residual else nn.Identity()
        self.refine = nn.ModuleList(Refine(c, width) for c in fine[::-1][:skips])
        self.heads = nn.ModuleList(nn.Conv2d(width, outputs, 3, padding=1) for _ in range(heads))
        self.compared, self.enlarged, self.channels_in = compared, enlarged, channels_in

    def forward(self, reference: Tensor, target: Tensor) -> Tensor:
        maps = self.target.maps(target[:, : self.channels_in])
        looked_back = self.reference.maps(reference[:, : self.channels_in])[-1]
        x = torch.cat([maps[-1], looked_back], 1) if self.compared == 2 else maps[-1] + looked_back
        m = self.residual(torch.stack([branch(x) for branch in self.compare]).sum(0))
        for refine, fine in zip(self.refine, maps[-2::-1], strict=False):
            assert isinstance(refine, Refine)
            m = refine(refine.prepare(fine), m)
        out = torch.stack([head(F.relu(m)) for head in self.heads]).sum(0)
        return F.interpolate(out, scale_factor=self.enlarged, mode="bilinear") if self.enlarged > 1 else out


network = FromALedger(
    name="network",
    reference=_Net,
    cases={
        "the size of the page": ((16,), (2, 4, 96, 96), (2, 4, 96, 96)),
        "half as wide, not square": ((8,), (2, 4, 32, 48), (2, 4, 32, 48)),
    },
    hint="Print sum(p.numel() for p in part.parameters()) of each part, from the stem on, and compare it with the "
    "ledger.",
    mutants={
        "two encoders": Mutant(
            lambda width: _Net(width, siamese=False),
            "You have two encoders, so reference and target live in different spaces: call one encoder twice.",
        ),
        "a square window": Mutant(
            lambda width: _Net(width, square=True),
            "Your comparison has 7 x 7 windows; a column of 7 and a row of 7 reach as far with far fewer weights.",
        ),
        "one branch": Mutant(
            lambda width: _Net(width, branches=1),
            "The comparison has two branches, column first and row first, and their sum comes out.",
        ),
        "windows of 3": Mutant(lambda width: _Net(width, k=3), "The window of the comparison has k = 7, not 3."),
        "added, not concatenated": Mutant(
            lambda width: _Net(width, compared=1),
            "You add the two maps before the comparison, so that it cannot tell them apart: concatenate them.",
        ),
        "no residual": Mutant(
            lambda width: _Net(width, residual=False),
            "The residual behind the comparison is missing; without its ReLU nothing compares.",
        ),
        "a refinement is missing": Mutant(
            lambda width: _Net(width, skips=2), "There are three refinements, from 1/16 up to 1/2."
        ),
        "four heads": Mutant(
            lambda width: _Net(width, heads=4), "Leave out the three coarser heads: one head, at the finest level."
        ),
        "one logit": Mutant(
            lambda width: _Net(width, outputs=1), "There are two logits for each pixel: background and object."
        ),
        "enlarged already": Mutant(
            lambda width: _Net(width, enlarged=2), "The network of this exercise stops at half the resolution."
        ),
        "no mask": Mutant(
            lambda width: _Net(width, channels_in=3), "The stem has four input channels: colours and mask."
        ),
    },
)


# --- join_stem ---------------------------------------------------------------------------------------------------


def _join_stem(colour: Tensor, mask: Tensor) -> Tensor:
    return torch.cat([colour, mask], dim=1)


def _mask_first(colour: Tensor, mask: Tensor) -> Tensor:
    return torch.cat([mask, colour], dim=1)


def _sum_of_filters(colour: Tensor, mask: Tensor) -> Tensor:
    return colour + mask


def _mask_three_times(colour: Tensor, mask: Tensor) -> Tensor:
    return torch.cat([colour, mask.expand_as(colour)], dim=1)


def _mask_without_weight(colour: Tensor, mask: Tensor) -> Tensor:
    return torch.cat([colour, torch.zeros_like(mask)], dim=1)


def _mask_of_mean_colour(colour: Tensor, mask: Tensor) -> Tensor:
    return torch.cat([colour, colour.mean(1, keepdim=True)], dim=1)


def _averaged(colour: Tensor, mask: Tensor) -> Tensor:
    return _join_stem(colour, mask) / 2


def _inputs_first(colour: Tensor, mask: Tensor) -> Tensor:
    return _join_stem(colour, mask).transpose(0, 1)


def _flipped(colour: Tensor, mask: Tensor) -> Tensor:
    return _join_stem(colour, mask).flip(2, 3)


join_stem = Exercise(
    name="join_stem",
    reference=_join_stem,
    cases={
        "the paper's size": (numbers(64, 3, 7, 7), numbers(64, 1, 7, 7, seed=1)),
        "two filters of 3 x 3": (numbers(2, 3, 3, 3, seed=2), numbers(2, 1, 3, 3, seed=3)),
        "mask filters of zeros": (numbers(4, 3, 5, 5, seed=4), torch.zeros(4, 1, 5, 5)),
    },
    hint="A weight is [channels out, channels in, rows, columns], and the mask is one more channel that comes in.",
    mutants={
        "the mask first": Mutant(
            _mask_first, "Your mask is channel 0. The order is that of the input: red, green, blue, mask."
        ),
        "a sum of the filters": Mutant(
            _sum_of_filters,
            "You add the filters, so the mask's filter acts on each colour. The *outputs* are added; the filters "
            "stay apart and lie side by side.",
        ),
        "the mask three times": Mutant(
            _mask_three_times, "The mask is one channel, not three: do not repeat its filter for each colour."
        ),
        "zeros for the mask": Mutant(
            _mask_without_weight, "Your mask has filters of zeros, so the network never sees it: use mask_weight."
        ),
        "the mean of the colours": Mutant(
            _mask_of_mean_colour,
            "Your mask gets the mean of the colour filters, a common way to start a new channel. Here its filters "
            "are known: mask_weight.",
        ),
        "halved": Mutant(
            _averaged, "Yours is half as large as it should be: two convolutions are added here, not averaged."
        ),
        "inputs before outputs": Mutant(
            _inputs_first, "Your axes are [in, out, ...]; a Conv2d has the channels that come out first."
        ),
        "flipped": Mutant(
            _flipped, "Your filters are flipped. Conv2d does not flip its filters, so there is nothing to undo."
        ),
    },
)


# --- padded_size -------------------------------------------------------------------------------------------------

Size = tuple[int, int]


def _with_rule(rule: Callable[[int], int]) -> Callable[[int, int], Size]:
    return lambda height, width: (rule(height), rule(width))


def _padded_size(height: int, width: int) -> Size:
    return next_larger_multiple(height, 32), next_larger_multiple(width, 32)


padded_size = Exercise(
    name="padded_size",
    reference=_padded_size,
    cases={
        "DAVIS": (480, 854),
        "what comes out of that": (512, 864),
        "half of it": (256, 432),
        "one pixel too many": (33, 65),
        "one pixel short": (31, 63),
        "tall": (427, 240),
    },
    hint="length % 32 pixels stick out over the last multiple of 32; from there it is a whole 32 to the next "
    "larger one.",
    mutants={
        "the least multiple": Mutant(
            _with_rule(lambda n: -(-n // 32) * 32),
            "That is the least padding, and the sensible one. The authors' rule gives a length that is a multiple of "
            "32 already 32 more: 480 becomes 512.",
        ),
        "rounded down": Mutant(
            _with_rule(lambda n: n // 32 * 32), "You cut pixels off; padding never makes a frame smaller."
        ),
        "rounded to the nearest": Mutant(
            _with_rule(lambda n: (n + 16) // 32 * 32),
            "You round to the nearest multiple, which may be smaller than the frame: go up, always.",
        ),
        "32 more": Mutant(
            _with_rule(lambda n: n + 32),
            "You add 32 to every length, so that 854 is still not a multiple: subtract n % 32.",
        ),
        "the remainder is added": Mutant(
            _with_rule(lambda n: n + n % 32),
            "You add what sticks out, n % 32; add what is missing to the next multiple, 32 - n % 32.",
        ),
        "multiples of 16": Mutant(
            _with_rule(lambda n: n + 16 - n % 16),
            "You pad to multiples of 16, as STM does. This encoder has five halvings, so 2 to the power of 5.",
        ),
        "the margins": Mutant(
            _with_rule(lambda n: 32 - n % 32), "You return how much is added; return the sizes with it."
        ),
        "swapped": Mutant(
            lambda height, width: (next_larger_multiple(width, 32), next_larger_multiple(height, 32)),
            "Height and width are swapped: height first, as in a tensor's shape.",
        ),
        "one side only": Mutant(
            lambda height, width: (height, next_larger_multiple(width, 32)),
            "The height needs the same rule as the width.",
        ),
    },
)


# --- aggregate ---------------------------------------------------------------------------------------------------


def _clamped(q: Tensor, q0: Tensor) -> Tensor:
    """Background and objects, away from 0 and 1."""
    return torch.cat([q0[None], q]).clamp(1e-7, 1 - 1e-7)


def _plain(q: Tensor, q0: Tensor) -> Tensor:
    p = _clamped(q, q0)
    return p / p.sum(0)


def _aggregate(q: Tensor, q0: Tensor) -> Tensor:
    return soft_aggregate(q, background=q0[None])


def _own_background(q: Tensor, q0: Tensor) -> Tensor:
    return soft_aggregate(q)


def _union_as_background(q: Tensor, q0: Tensor) -> Tensor:
    return _aggregate(q, 1 - q0)


def _background_left_out(q: Tensor, q0: Tensor) -> Tensor:
    odds = _clamped(q, q0)[1:] / (1 - _clamped(q, q0)[1:])
    return odds / odds.sum(0)


def _background_last(q: Tensor, q0: Tensor) -> Tensor:
    return _aggregate(q, q0).roll(-1, 0)


def _without_clamp(q: Tensor, q0: Tensor) -> Tensor:
    p = torch.cat([q0[None], q])
    odds = p / (1 - p)
    return odds / odds.sum(0)


def _odds_only(q: Tensor, q0: Tensor) -> Tensor:
    p = _clamped(q, q0)
    return p / (1 - p)


def _softmax_of_probabilities(q: Tensor, q0: Tensor) -> Tensor:
    return _clamped(q, q0).softmax(0)


def _softmax_of_odds(q: Tensor, q0: Tensor) -> Tensor:
    return _odds_only(q, q0).softmax(0)


def _odds_upside_down(q: Tensor, q0: Tensor) -> Tensor:
    against = 1 / _odds_only(q, q0)
    return against / against.sum(0)


def _winner_takes_all(q: Tensor, q0: Tensor) -> Tensor:
    merged = _aggregate(q, q0)
    return torch.zeros_like(merged).scatter(0, merged.argmax(0, keepdim=True), 1.0)


aggregate = Exercise(
    name="aggregate",
    reference=_aggregate,
    cases={
        "two sure objects": (torch.tensor([[[0.9]], [[0.8]]]), torch.tensor([[0.1]])),
        "one object": (torch.tensor([[[0.9, 0.6, 0.3]]]), torch.tensor([[0.1, 0.4, 0.8]])),
        "three objects": (shares(3, 2, 4), shares(2, 4, seed=1)),
        "exactly 0 and 1": (torch.tensor([[[1.0, 0.0]], [[0.3, 0.0]]]), torch.tensor([[0.0, 1.0]])),
        "two claims of exactly 1": (torch.ones(2, 1, 2), torch.zeros(1, 2)),
    },
    hint="Put q0 in front with torch.cat, clamp, take p / (1 - p) of everything, and divide by the sum over axis 0.",
    atol=1e-5,
    mutants={
        "plain normalisation": Mutant(
            _plain, "You divide the probabilities by their sum; turn each into odds p / (1 - p) first."
        ),
        "a background of its own": Mutant(
            _own_background,
            "You multiply the 1 - q. That is STM's background; RGMP's comes from a pass of its own and is given "
            "as q0.",
        ),
        "the union as background": Mutant(
            _union_as_background, "q0 is the background already: the pass of the union was subtracted from 1."
        ),
        "without the background": Mutant(
            _background_left_out,
            "K + 1 maps come out, and the background's odds count in the sum: without it every pixel is an object.",
        ),
        "background last": Mutant(
            _background_last, "The background is channel 0, so that the index of a channel is the object's id."
        ),
        "without a clamp": Mutant(
            _without_clamp,
            "A probability of 1 has odds of 1 / 0, which ends as nan: clamp to [1e-7, 1 - 1e-7] first.",
        ),
        "odds only": Mutant(_odds_only, "These are odds, up to ten million; divide them by their sum over the maps."),
        "a softmax of the probabilities": Mutant(
            _softmax_of_probabilities, "softmax expects log-odds, log(p / (1 - p)), not probabilities."
        ),
        "a softmax of the odds": Mutant(
            _softmax_of_odds,
            "softmax takes exp of what it gets: give it the logarithm of the odds, or do not use it.",
        ),
        "odds upside down": Mutant(
            _odds_upside_down, "Your odds are upside down: p / (1 - p) grows with p, (1 - p) / p shrinks."
        ),
        "the winner takes all": Mutant(
            _winner_takes_all, "You threshold too early. These maps are fed back to the next frame and stay soft."
        ),
    },
)


# --- roll_out ----------------------------------------------------------------------------------------------------

Step = Callable[[Tensor, Tensor], Tensor]


class ToyStep(nn.Module):
    """Stands for the network: a frame and the last mask -> a mask, with one weight that can learn.

    ``frame float [3, H, W]``, ``previous float [H, W]`` -> ``float [H, W]`` in (0, 1).
    """

    def __init__(self, trust: float) -> None:
        super().__init__()
        self.trust = nn.Parameter(torch.tensor(trust))

    def forward(self, frame: Tensor, previous: Tensor) -> Tensor:
        """Bright is the object, and so is what was the object before."""
        return torch.sigmoid(self.trust * (previous - 0.5) + 4 * frame.mean(0) - 2)


@dataclass(frozen=True)
class RollOut(Exercise):
    """An exercise whose first argument is a :class:`ToyStep`; the gradient is compared beside the values."""

    def _run(self, function: Callable[..., Any], case: str) -> Any:
        step, *rest = self._copy(case)
        masks = function(step, *rest)
        if masks is None:
            return None
        if not isinstance(masks, Tensor):
            raise TypeError(f"you returned a {type(masks).__name__}; torch.stack makes a tensor [T, H, W] of a list")
        slopes = []
        for mask in masks:
            slope = torch.zeros(())
            if mask.requires_grad:
                (found,) = torch.autograd.grad(mask.sum(), step.trust, retain_graph=True, allow_unused=True)
                slope = slope if found is None else found
            slopes.append(slope)
        return {"masks": masks, "gradient of each step": torch.stack(slopes)}

    def _copy(self, case: str) -> tuple[Any, ...]:
        step, first_mask, frames, feedback = self.cases[case]
        return ToyStep(step.trust.item()), first_mask.clone(), frames.clone(), feedback


def _rolled(fed_back: Callable[[Tensor, str], Tensor]) -> Callable[[Step, Tensor, Tensor, str], Tensor]:
    """A roll-out in which ``fed_back(mask, feedback)`` becomes the last mask."""

    def roll(step: Step, first_mask: Tensor, frames: Tensor, feedback: str) -> Tensor:
        previous, masks = first_mask, []
        for frame in frames:
            masks.append(step(frame, previous))
            previous = fed_back(masks[-1], feedback)
        return torch.stack(masks)

    return roll


def _chosen(mask: Tensor, feedback: str) -> Tensor:
    if feedback == "hard":
        return (mask > 0.5).float()
    return mask.detach() if feedback == "detached" else mask


def _straight_through(mask: Tensor, feedback: str) -> Tensor:
    chosen = _chosen(mask, feedback)
    return mask + (chosen - mask).detach() if feedback == "hard" else chosen


def _detached_answers(step: Step, first_mask: Tensor, frames: Tensor, feedback: str) -> Tensor:
    return _roll_out(step, first_mask, frames, feedback).detach()


def _hard_answers(step: Step, first_mask: Tensor, frames: Tensor, feedback: str) -> Tensor:
    masks = _roll_out(step, first_mask, frames, feedback)
    return (masks > 0.5).float() if feedback == "hard" else masks


def _first_mask_always(step: Step, first_mask: Tensor, frames: Tensor, feedback: str) -> Tensor:
    return torch.stack([step(frame, first_mask) for frame in frames])


def _first_mask_included(step: Step, first_mask: Tensor, frames: Tensor, feedback: str) -> Tensor:
    return torch.cat([first_mask[None], _roll_out(step, first_mask, frames, feedback)])


def _last_answer_only(step: Step, first_mask: Tensor, frames: Tensor, feedback: str) -> Tensor:
    return _roll_out(step, first_mask, frames, feedback)[-1]


def _no_grad(step: Step, first_mask: Tensor, frames: Tensor, feedback: str) -> Tensor:
    with torch.set_grad_enabled(feedback == "soft"):
        return _roll_out(step, first_mask, frames, feedback)


def _fed_back_answers(step: Step, first_mask: Tensor, frames: Tensor, feedback: str) -> Tensor:
    previous, masks = first_mask, []
    for frame in frames:
        previous = _chosen(step(frame, previous), feedback)
        masks.append(previous)
    return torch.stack(masks)


_roll_out = _rolled(_chosen)
_CLIP = (ToyStep(6.0), (shares(3, 4) > 0.5).float(), shares(4, 3, 3, 4, seed=1))
_OTHER = (ToyStep(-2.0), (shares(2, 2, seed=2) > 0.5).float(), shares(3, 3, 2, 2, seed=3))

roll_out = RollOut(
    name="roll_out",
    reference=_roll_out,
    cases={
        "soft": (*_CLIP, "soft"),
        "detached": (*_CLIP, "detached"),
        "hard": (*_CLIP, "hard"),
        "soft, another network": (*_OTHER, "soft"),
        "detached, another network": (*_OTHER, "detached"),
        "hard, another network": (*_OTHER, "hard"),
        "one frame": (ToyStep(3.0), torch.ones(2, 3), shares(1, 3, 2, 3, seed=4), "soft"),
    },
    hint="Keep two things apart: mask, the answer of a step, goes into the list as it is; previous, what the next "
    "step gets, is mask, mask.detach() or (mask > 0.5).float().",
    mutants={
        "detached is soft": Mutant(
            _rolled(lambda m, how: _chosen(m, "hard" if how == "hard" else "soft")),
            "With 'detached' the gradient still runs through the last mask: feed back mask.detach(). The values are "
            "the same; only the gradient differs.",
        ),
        "soft is detached": Mutant(
            _rolled(lambda m, how: _chosen(m, "hard" if how == "hard" else "detached")),
            "With 'soft' the gradient must run back through all steps: feed back the mask itself, without detach().",
        ),
        "never hard": Mutant(
            _rolled(lambda m, how: _chosen(m, "soft" if how == "soft" else "detached")),
            "With 'hard' a decision is fed back, 0 or 1: (mask > 0.5).float().",
        ),
        "hard in all cases": Mutant(
            _rolled(lambda m, how: _chosen(m, "hard")),
            "You always feed back the decision; 'soft' and 'detached' feed back the probability.",
        ),
        "upside down": Mutant(
            _rolled(lambda m, how: (m < 0.5).float() if how == "hard" else _chosen(m, how)),
            "Your decision is upside down: 1 where the mask is *above* 0.5.",
        ),
        "straight through": Mutant(
            _rolled(_straight_through),
            "Your decision lets the gradient through as if it were the identity. That is a known trick, but not "
            "asked for: a threshold has no gradient.",
        ),
        "detached answers": Mutant(
            _detached_answers,
            "What you return has no gradient at all, so nothing could be trained: detach what is fed back, not what "
            "is returned.",
        ),
        "hard answers": Mutant(
            _hard_answers, "With 'hard' only what is fed back is a decision; the answers that are returned stay soft."
        ),
        "what is fed back is returned": Mutant(
            _fed_back_answers,
            "You return what is fed back; append the step's answer first, and detach or decide afterwards.",
        ),
        "without gradient": Mutant(
            _no_grad,
            "torch.no_grad switches off the step's own gradient, too: then the network learns nothing. Detach only "
            "what goes from one step to the next.",
        ),
        "the first mask again and again": Mutant(
            _first_mask_always, "Each step of yours gets the first mask; it must get the answer of the step before."
        ),
        "the first mask included": Mutant(
            _first_mask_included,
            "The first mask is given; it is not an answer: return one mask for each of the frames.",
        ),
        "the last answer only": Mutant(
            _last_answer_only, "Return all answers, not just the last one: torch.stack makes [T, H, W] of a list."
        ),
    },
)
