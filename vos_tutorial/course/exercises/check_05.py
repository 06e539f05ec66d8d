"""The exercises of notebook 05, top-k and what stays in memory, and of its appendix: distances, soft aggregation."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from ...propagation import soft_aggregate, soft_aggregate_logits
from .exercise import Exercise, Mutant


def numbers(*shape: int, seed: int = 0) -> Tensor:
    """Random numbers around 0, the same at every call."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def shares(*shape: int, seed: int = 0) -> Tensor:
    """Random numbers in [0, 1), the same at every call."""
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


# --- top_k -------------------------------------------------------------------------------------------------------


def _top_k(scores: Tensor, k: int) -> Tensor:
    best, places = scores.topk(k, dim=0)
    return torch.zeros_like(scores).scatter(0, places, best.softmax(0))


def _row_wise(scores: Tensor, k: int) -> Tensor:
    best, places = scores.topk(min(k, scores.shape[1]), dim=1)
    return torch.zeros_like(scores).scatter(1, places, best.softmax(1))


def _softmax_before(scores: Tensor, k: int) -> Tensor:
    best, places = scores.softmax(0).topk(k, dim=0)
    return torch.zeros_like(scores).scatter(0, places, best)


def _zeros_in_the_softmax(scores: Tensor, k: int) -> Tensor:
    best, places = scores.topk(k, dim=0)
    return torch.zeros_like(scores).scatter(0, places, best).softmax(0)


def _over_all(scores: Tensor, k: int) -> Tensor:
    best, places = scores.flatten().topk(k)
    kept = torch.full_like(scores.flatten(), -torch.inf).scatter(0, places, best).view_as(scores)
    return kept.softmax(0).nan_to_num(0)


def _smallest(scores: Tensor, k: int) -> Tensor:
    best, places = scores.topk(k, dim=0, largest=False)
    return torch.zeros_like(scores).scatter(0, places, best.softmax(0))


def _hard(scores: Tensor, k: int) -> Tensor:
    places = scores.topk(k, dim=0).indices
    return torch.zeros_like(scores).scatter(0, places, 1 / k)


top_k = Exercise(
    name="top_k",
    reference=_top_k,
    cases={
        "three cells, k = 2": (torch.tensor([[1.0, 0.0], [2.0, -1.0], [0.0, 3.0]]), 2),
        "k = 1": (numbers(5, 3, seed=1), 1),
        "all of them": (numbers(4, 2, seed=2), 4),
        "many cells": (3 * numbers(40, 12, seed=3), 5),
    },
    hint="Begin with scores.topk(k, dim=0): it gives the k largest scores of each column, and their places.",
    mutants={
        "over the rows": Mutant(
            _row_wise, "You choose in each row; a *column* is one asking cell, so look for the k best along axis 0."
        ),
        "softmax first": Mutant(
            _softmax_before,
            "Your columns sum to less than one: softmax only the k scores that you keep, not all of them.",
        ),
        "zeros in the softmax": Mutant(
            _zeros_in_the_softmax,
            "A score of zero is still a vote, exp(0) = 1: put a weight of zero, or a score of -inf, in its place.",
        ),
        "over the whole matrix": Mutant(
            _over_all, "You keep the k best of the whole matrix, so most columns get no answer: choose per column."
        ),
        "the smallest": Mutant(_smallest, "You keep the k smallest scores; the largest ones are the most similar."),
        "even shares": Mutant(_hard, "The k best get even shares; they should still vote by their scores (softmax)."),
        "no selection": Mutant(
            lambda scores, k: scores.softmax(0),
            "You softmax over all cells; only the k best may have a weight.",
        ),
    },
)


# --- l2_scores ---------------------------------------------------------------------------------------------------


class _LargestTensor(TorchDispatchMode):
    """Notes how many numbers the largest tensor has that is made inside (views cost nothing and count nothing)."""

    size = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if isinstance(out, Tensor) and out.untyped_storage().nbytes() >= out.nbytes:
            self.size = max(self.size, out.numel())
        return out


@dataclass(frozen=True)
class WithoutDifferences(Exercise):
    """An exercise with arguments ``[C, Q]`` and ``[C, M]`` that looks for a tensor of all C x M x Q differences."""

    def _run(self, function: Callable[..., Any], case: str) -> Any:
        q, k = (x.clone() for x in self.cases[case])
        with _LargestTensor() as largest:
            scores = function(q, k)
        if scores is None:
            return None
        if not isinstance(scores, Tensor):
            raise TypeError(f"you returned {type(scores).__name__}, return a tensor [M, Q]")
        too_large = largest.size >= len(q) * q.shape[1] * k.shape[1]
        return {"scores": scores, "the largest tensor you made": "[C, M, Q]" if too_large else "at most [M, Q]"}


def _l2_scores(q: Tensor, k: Tensor) -> Tensor:
    return 2 * k.T @ q - k.square().sum(0)[:, None] - q.square().sum(0)


def _differences(q: Tensor, k: Tensor) -> Tensor:
    return -(q[:, None] - k[:, :, None]).square().sum(0)


def _query_term_missing(q: Tensor, k: Tensor) -> Tensor:
    return 2 * k.T @ q - k.square().sum(0)[:, None]


def _memory_term_missing(q: Tensor, k: Tensor) -> Tensor:
    return 2 * k.T @ q - q.square().sum(0)


def _not_doubled(q: Tensor, k: Tensor) -> Tensor:
    return k.T @ q - k.square().sum(0)[:, None] - q.square().sum(0)


def _bonus_for_length(q: Tensor, k: Tensor) -> Tensor:
    return 2 * k.T @ q + k.square().sum(0)[:, None] + q.square().sum(0)


def _not_squared(q: Tensor, k: Tensor) -> Tensor:
    return -(-_l2_scores(q, k)).clamp_min(0).sqrt()


def _length_for_square(q: Tensor, k: Tensor) -> Tensor:
    return 2 * k.T @ q - k.norm(dim=0)[:, None] - q.norm(dim=0)


l2_scores = WithoutDifferences(
    name="l2_scores",
    reference=_l2_scores,
    cases={
        "5 ask, 6 are asked": (numbers(4, 5), numbers(4, 6, seed=1)),
        "more queries than places": (numbers(3, 9, seed=2), numbers(3, 4, seed=3)),
        "equal keys": (numbers(4, 3, seed=4), numbers(4, 3, seed=4)),
        "many channels": (numbers(32, 4, seed=5), numbers(32, 7, seed=6)),
    },
    hint="Multiply out (q - k)², channel by channel: the sums of q², of k² and of q k are three small tensors; "
    "[:, None] lays |k|² down the rows.",
    atol=1e-4,
    mutants={
        "all differences": Mutant(
            _differences,
            "The numbers are right, but you build all C x M x Q differences, 128 times the scores at paper size. "
            "Multiply out the square; the mixed term is a matrix product.",
        ),
        "without the query's term": Mutant(
            _query_term_missing,
            "|q|² is missing. A softmax over the memory forgives that, as it is the same for the whole column; but "
            "these are not the distances yet.",
        ),
        "without the memory's term": Mutant(
            _memory_term_missing,
            "|k|² is missing, the fine for long keys. Without it this is the dot product again, to a softmax.",
        ),
        "not doubled": Mutant(_not_doubled, "The mixed term comes twice: (q - k)² = q² - 2 q k + k²."),
        "wrong signs of the squares": Mutant(
            _bonus_for_length, "Your squares have the wrong sign: -(q - k)² = 2 q k - k² - q²."
        ),
        "positive": Mutant(
            lambda q, k: -_l2_scores(q, k), "These are distances; a score is greatest where the distance is least."
        ),
        "not squared": Mutant(_not_squared, "You took the root; the squared distance is wanted."),
        "lengths for squares": Mutant(
            _length_for_square, "You subtract lengths, |q| and |k|; subtract their squares."
        ),
        "transposed": Mutant(lambda q, k: _l2_scores(q, k).T, "Yours is [Q, M]; a row is a place in memory: [M, Q]."),
        "a mean over the channels": Mutant(
            lambda q, k: _l2_scores(q, k) / len(q),
            "You take the mean over the channels; a squared distance is their sum.",
        ),
        "divided by the root": Mutant(
            lambda q, k: _l2_scores(q, k) / math.sqrt(len(q)),
            "You have divided by the root of C already. That comes later, in the read; here the plain distance is "
            "wanted.",
        ),
    },
)


# --- aggregate ---------------------------------------------------------------------------------------------------


def _with_background(alone: Tensor, background: Tensor) -> Tensor:
    """Soft aggregation with another background."""
    p = torch.cat([background[None], alone]).clamp(1e-7, 1 - 1e-7)
    return (p / (1 - p)).div((p / (1 - p)).sum(0))


def _plain(alone: Tensor) -> Tensor:
    p = torch.cat([(1 - alone).prod(0)[None], alone])
    return p / p.sum(0)


def _not_clamped(alone: Tensor) -> Tensor:
    p = torch.cat([(1 - alone).prod(0)[None], alone])
    return (p / (1 - p)).log().softmax(0)


def _without_background(alone: Tensor) -> Tensor:
    return soft_aggregate_logits(alone)[1:].softmax(0)


def _softmax_of_probabilities(alone: Tensor) -> Tensor:
    return torch.cat([(1 - alone).prod(0)[None], alone]).softmax(0)


def _sigmoid(alone: Tensor) -> Tensor:
    return soft_aggregate_logits(alone).sigmoid()


def _wrong_axis(alone: Tensor) -> Tensor:
    return soft_aggregate_logits(alone).softmax(-1)


aggregate = Exercise(
    name="aggregate",
    reference=soft_aggregate,
    cases={
        "p = 0.9 and 0.8": (torch.tensor([[[0.9]], [[0.8]]]),),
        "one object": (torch.tensor([[[0.9, 0.5, 0.2]]]),),
        "sure and unsure": (torch.tensor([[[0.99, 0.5, 0.1]], [[0.5, 0.5, 0.2]]]),),
        "three objects": (0.9 * shares(3, 2, 4),),
        "exactly 0 and 1": (torch.tensor([[[1.0, 0.0]], [[0.3, 0.0]]]),),
    },
    hint="Five steps: background = (1 - alone).prod(0), in front with torch.cat, clamp, z = log(p / (1 - p)), "
    "softmax "
    "over axis 0.",
    atol=1e-5,
    mutants={
        "plain normalisation": Mutant(
            _plain, "You divide p by its sum (for 0.9 and 0.8: 0.523 and 0.465); odds give 0.691 and 0.307."
        ),
        "background: the rest of the sum": Mutant(
            lambda alone: _with_background(alone, 1 - alone.sum(0)),
            "1 - the sum is negative as soon as two objects are sure: the background is the product of all 1 - p.",
        ),
        "background: one minus the greatest": Mutant(
            lambda alone: _with_background(alone, 1 - alone.amax(0)),
            "1 - the greatest p forgets the other objects, which make the background less likely still: multiply.",
        ),
        "background: one minus the product": Mutant(
            lambda alone: _with_background(alone, 1 - alone.prod(0)),
            "1 - the product of all p means *not all of them*; background is *none of them*: the product of all "
            "1 - p.",
        ),
        "background last": Mutant(
            lambda alone: soft_aggregate(alone).roll(-1, 0),
            "The background is channel 0, so that the index of a channel is the object's id.",
        ),
        "without background": Mutant(
            _without_background,
            "The background is missing: O objects in, O + 1 maps out, or every pixel is an object.",
        ),
        "without a clamp": Mutant(
            _not_clamped,
            "A probability of 1 has log-odds of inf, and inf - inf is nan: clamp p to [1e-7, 1 - 1e-7] before.",
        ),
        "log-odds": Mutant(
            soft_aggregate_logits, "These are the log-odds, fine for a loss; one softmax over axis 0 is missing."
        ),
        "softmax of the probabilities": Mutant(
            _softmax_of_probabilities, "You put p into the softmax; put log(p / (1 - p)) into it."
        ),
        "sigmoid": Mutant(
            _sigmoid, "sigmoid undoes the log-odds one by one; softmax lets background and objects compete."
        ),
        "softmax over the pixels": Mutant(
            _wrong_axis, "Your softmax runs over the pixels of a row; at one pixel the *maps* compete, axis 0."
        ),
        "decided": Mutant(
            lambda alone: torch.nn.functional.one_hot(soft_aggregate(alone).argmax(0)).movedim(-1, 0).float(),
            "You decide already; what goes into the memory stays soft.",
        ),
    },
)


# --- evict -------------------------------------------------------------------------------------------------------

Usage = Sequence[float]


def _evicting(leaves: Callable[[list[int], list[float]], int]) -> Callable[[Sequence[int], Usage, int], list[int]]:
    """Drop the position that ``leaves(times, usage)`` names until there are few enough."""

    def evicted(times: Sequence[int], usage: Usage, limit: int) -> list[int]:
        kept, used = list(times), list(usage)
        while len(kept) > limit:
            i = leaves(kept, used)
            del kept[i], used[i]
        return kept

    return evicted


def _least_used(times: list[int], usage: list[float]) -> int:
    return min(range(1, len(times) - 1), key=lambda i: usage[i])


_evict = _evicting(_least_used)


def _only_one(times: Sequence[int], usage: Usage, limit: int) -> list[int]:
    return _evict(times, usage, max(limit, len(times) - 1))


def _even_within_the_limit(times: Sequence[int], usage: Usage, limit: int) -> list[int]:
    return _evict(times, usage, max(2, min(limit, len(times) - 1)))


def _those_that_leave(times: Sequence[int], usage: Usage, limit: int) -> list[int]:
    kept = _evict(times, usage, limit)
    return [t for t in times if t not in kept]


def _by_usage(times: Sequence[int], usage: Usage, limit: int) -> list[int]:
    used = dict(zip(times, usage, strict=True))
    return sorted(_evict(times, usage, limit), key=lambda t: -used[t])


def _positions(times: Sequence[int], usage: Usage, limit: int) -> list[int]:
    return [list(times).index(t) for t in _evict(times, usage, limit)]


def _stale_usage(times: Sequence[int], usage: Usage, limit: int) -> list[int]:
    kept = list(times)
    while len(kept) > limit:
        del kept[min(range(1, len(kept) - 1), key=lambda i: usage[i])]
    return kept


evict = Exercise(
    name="evict",
    reference=_evict,
    cases={
        "one too many": ([0, 5, 10, 15], [3.0, 2.0, 0.5, 1.0], 3),
        "two too many": ([0, 5, 10, 15, 18], [3.0, 2.0, 0.5, 1.0, 4.0], 3),
        "two too many, side by side": ([0, 5, 10, 15, 20], [3.0, 0.5, 5.0, 1.0, 0.0], 3),
        "frame 0 is used least": ([0, 5, 10, 11], [0.1, 2.0, 1.0, 3.0], 3),
        "the newest was not asked yet": ([0, 5, 10, 15], [3.0, 2.0, 1.0, 0.0], 3),
        "room for all": ([0, 5, 10], [1.0, 2.0, 3.0], 3),
        "room for two": ([0, 4, 8, 12], [1.0, 9.0, 8.0, 0.0], 2),
        "a tie": ([0, 5, 10, 15, 20], [3.0, 2.0, 1.0, 1.0, 0.0], 4),
    },
    hint="While there are too many, one leaves: of those between the first and the last, the least used one.",
    mutants={
        "frame 0 may leave": Mutant(
            _evicting(lambda times, usage: min(range(len(times) - 1), key=lambda i: usage[i])),
            "You let frame 0 go, the only one whose mask is true: it stays even if nobody looks at it.",
        ),
        "the newest may leave": Mutant(
            _evicting(lambda times, usage: min(range(1, len(times)), key=lambda i: usage[i])),
            "You drop the newest frame. Nobody had the time to look at it yet, so its usage says nothing.",
        ),
        "anyone may leave": Mutant(
            _evicting(lambda times, usage: min(range(len(times)), key=lambda i: usage[i])),
            "You choose among all frames; frame 0 and the newest are not for choice.",
        ),
        "the most used leaves": Mutant(
            _evicting(lambda times, usage: max(range(1, len(times) - 1), key=lambda i: usage[i])),
            "You drop the frame that is used most; drop the one used least.",
        ),
        "the oldest leaves": Mutant(
            _evicting(lambda times, usage: 1),
            "You drop the oldest after frame 0, whatever its usage. That is the other policy.",
        ),
        "later on ties": Mutant(
            _evicting(lambda times, usage: min(range(1, len(times) - 1), key=lambda i: (usage[i], -i))),
            "Of two that are used alike the *older* one leaves.",
        ),
        "only one leaves": Mutant(
            _only_one,
            "One has left, but there are still too many: go on until limit is reached, while instead of if.",
        ),
        "one leaves even if there is room": Mutant(
            _even_within_the_limit, "limit frames may stay: nothing leaves as long as there are no more than that."
        ),
        "those that leave": Mutant(_those_that_leave, "You return the frames that leave; return those that stay."),
        "in order of usage": Mutant(
            _by_usage, "The right frames, but sorted by usage; leave them in their order in time."
        ),
        "positions": Mutant(_positions, "You return places in the list; return the frame numbers: times[i]."),
        "usage is not deleted": Mutant(
            _stale_usage,
            "After the first deletion times and usage no longer match: delete the same place from both lists.",
        ),
    },
)
