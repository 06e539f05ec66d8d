"""The exercises of notebook 03: the joint stem, the split convolution, padding, aggregation, the roll-out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ...models.rgmp import next_larger_multiple
from ...propagation import soft_aggregate
from .exercise import Exercise, Mutant


def numbers(*shape: int, seed: int = 0) -> Tensor:
    """Random numbers around 0, the same at every call."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def shares(*shape: int, seed: int = 0) -> Tensor:
    """Random numbers in [0, 1), the same at every call."""
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


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


# --- split_weight ------------------------------------------------------------------------------------------------

Halves = tuple[Tensor, Tensor]


def _split_weight(weight: Tensor) -> Halves:
    target, reference = weight.chunk(2, dim=1)
    return target, reference


def _reference_first(weight: Tensor) -> Halves:
    target, reference = _split_weight(weight)
    return reference, target


def _split_outputs(weight: Tensor) -> Halves:
    return weight[: len(weight) // 2], weight[len(weight) // 2 :]


def _every_other(weight: Tensor) -> Halves:
    return weight[:, ::2], weight[:, 1::2]


def _reshaped(weight: Tensor) -> Halves:
    out, both, *window = weight.shape
    halves = weight.reshape(2, out, both // 2, *window)
    return halves[0], halves[1]


def _halved(weight: Tensor) -> Halves:
    target, reference = _split_weight(weight)
    return target / 2, reference / 2


def _the_same_half(weight: Tensor) -> Halves:
    target, _ = _split_weight(weight)
    return target, target


def _blanked(weight: Tensor) -> Halves:
    target, reference = weight.clone(), weight.clone()
    half = weight.shape[1] // 2
    target[:, half:], reference[:, :half] = 0, 0
    return target, reference


def _split_window(weight: Tensor) -> Halves:
    half = weight.shape[2] // 2
    return weight[:, :, :half], weight[:, :, half:]


split_weight = Exercise(
    name="split_weight",
    reference=_split_weight,
    cases={
        "a tall convolution": (numbers(4, 6, 7, 1),),
        "a long convolution": (numbers(2, 8, 1, 7, seed=1),),
        "a square one": (numbers(6, 4, 3, 3, seed=2),),
        "one channel each": (numbers(2, 2, 3, 1, seed=3),),
    },
    hint="Input channels 0 to C - 1 are the target's and C to 2C - 1 the reference's: cut axis 1 in the middle.",
    mutants={
        "the reference first": Mutant(
            _reference_first,
            "Your halves are swapped. The concatenation is [target, reference], so the first C channels are the "
            "target's, and they are returned first.",
        ),
        "split along the outputs": Mutant(
            _split_outputs, "You cut axis 0, the channels that come *out*. What was concatenated comes in: axis 1."
        ),
        "every other channel": Mutant(
            _every_other,
            "You interleave the channels; torch.cat puts all of the target's channels before all of the reference's.",
        ),
        "reshaped": Mutant(
            _reshaped,
            "The shapes are right, but reshape deals out the numbers in the order of memory, output by output: slice "
            "axis 1, or reshape to [O, 2, C, ...].",
        ),
        "halved": Mutant(_halved, "Nothing is averaged: the two convolutions are added, so keep the weights' size."),
        "the same half twice": Mutant(
            _the_same_half, "You return one half twice; the network has learned other filters for the reference."
        ),
        "blanked, not cut": Mutant(
            _blanked,
            "You set the other half to zero. The sum is right, but both convolutions still take 2C channels, and "
            "nothing is saved: cut.",
        ),
        "split along the window": Mutant(
            _split_window, "You cut axis 2, the rows of the window; the channels that come in are axis 1."
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
