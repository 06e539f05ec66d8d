"""The exercises of notebook 05: the read, distances, others, soft aggregation, and what stays in memory."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from ...models import stm
from ...propagation import soft_aggregate, soft_aggregate_logits
from .exercise import Exercise, Mutant


def numbers(*shape: int, seed: int = 0) -> Tensor:
    """Random numbers around 0, the same at every call."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def shares(*shape: int, seed: int = 0) -> Tensor:
    """Random numbers in [0, 1), the same at every call."""
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


# --- read --------------------------------------------------------------------------------------------------------


def _read(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return v @ (k.T @ q / math.sqrt(len(q))).softmax(0)


def _over_the_query(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return v @ (k.T @ q / math.sqrt(len(q))).softmax(1)


def _scaled(scale: Callable[[Tensor, Tensor, Tensor], float]) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """A read whose products are multiplied by ``scale(q, k, v)``."""
    return lambda q, k, v: v @ (k.T @ q * scale(q, k, v)).softmax(0)


def _transposed(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return _read(q, k, v).T


def _without_softmax(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return v @ (k.T @ q / math.sqrt(len(q)))


def _nearest(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return v[:, (k.T @ q).argmax(0)]


def _keys_for_values(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return _read(q, k, k)


def _exp_overflows(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    weights = (k.T @ q / math.sqrt(len(q))).exp()
    return v @ (weights / weights.sum(0))


def _farthest(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return _read(-q, k, v)


def _plain_mean(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return v.mean(1, keepdim=True).expand(-1, q.shape[1])


read = Exercise(
    name="read",
    reference=_read,
    cases={
        "5 ask, 7 are asked": (numbers(4, 5), numbers(4, 7, seed=1), numbers(3, 7, seed=2)),
        "wide keys, narrow values": (numbers(16, 2, seed=3), numbers(16, 6, seed=4), numbers(1, 6, seed=5)),
        "one place in memory": (numbers(4, 3, seed=6), numbers(4, 1, seed=7), numbers(2, 1, seed=8)),
        "one query": (numbers(9, 1, seed=9), numbers(9, 4, seed=10), numbers(5, 4, seed=11)),
        "very long keys": (40 * numbers(4, 3, seed=12), 40 * numbers(4, 5, seed=13), numbers(2, 5, seed=14)),
    },
    hint="k.T @ q is [M, Q]; divide it by the root of C, let softmax make each *column* sum to one, multiply from "
    "the left by v.",
    atol=1e-4,
    mutants={
        "softmax over the query": Mutant(
            _over_the_query,
            "Your softmax runs over the queries, so each memory place spends a total of one; each *query* has a "
            "total of one to give, over the memory.",
        ),
        "no scale": Mutant(
            _scaled(lambda q, k, v: 1.0),
            "The scores are not divided by the root of C, so with many channels one place takes all.",
        ),
        "the root of the value's channels": Mutant(
            _scaled(lambda q, k, v: len(v) ** -0.5),
            "You divide by the root of D, the channels of a *value*; the products are sums over C, those of a key.",
        ),
        "the root of the memory's size": Mutant(
            _scaled(lambda q, k, v: k.shape[1] ** -0.5),
            "You divide by the root of M: then the attention would soften with each stored frame. Take C, the "
            "number of terms in a product.",
        ),
        "divided by C": Mutant(
            _scaled(lambda q, k, v: 1 / len(q)), "You divide by C; random products spread like its *root*."
        ),
        "multiplied by the root": Mutant(
            _scaled(lambda q, k, v: len(q) ** 0.5),
            "You multiply by the root of C; divide the scores by it instead.",
        ),
        "transposed": Mutant(_transposed, "Your answer is [Q, D], the wrong way round: values come first, [D, Q]."),
        "no softmax": Mutant(
            _without_softmax, "The scores are not weights yet: softmax makes them positive, with a sum of one."
        ),
        "the nearest only": Mutant(
            _nearest,
            "You take the best place alone. That has no gradient: let every place contribute, weighted by softmax.",
        ),
        "keys for values": Mutant(
            _keys_for_values, "You average keys. Keys say where to look; what is read there is v."
        ),
        "exp overflows": Mutant(
            _exp_overflows,
            "exp of a large score is inf, and inf / inf is nan: softmax subtracts the largest score first. Use it.",
        ),
        "the farthest": Mutant(_farthest, "Your sign is flipped: the *largest* product deserves the largest weight."),
        "the mean of all": Mutant(
            _plain_mean, "That is the plain mean of the values; the weights must depend on the keys."
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
            "|k|² is missing, the penalty on long keys. Without it this is the dot product again, to a softmax.",
        ),
        "not doubled": Mutant(_not_doubled, "The mixed term comes twice: (q - k)² = q² - 2 q k + k²."),
        "wrong signs of the squares": Mutant(
            _bonus_for_length, "Your squares have the wrong sign: -(q - k)² = 2 q k - k² - q²."
        ),
        "positive": Mutant(
            lambda q, k: -_l2_scores(q, k), "These are distances; a score is greatest where the distance is least."
        ),
        "not squared": Mutant(_not_squared, "You took the root; return the squared distance."),
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
            "You have divided by the root of C already. That comes later, in the read; here, return the plain "
            "distance.",
        ),
    },
)


# --- others ------------------------------------------------------------------------------------------------------


def _others(masks: Tensor) -> Tensor:
    return stm.other_masks(masks, stm.one_frame_owner(len(masks)))


def _all_of_them(masks: Tensor) -> Tensor:
    return masks.sum(0, keepdim=True).clamp(0, 1).expand_as(masks).clone()


def _without_clamp(masks: Tensor) -> Tensor:
    return masks.sum(0) - masks


def _background_channel(masks: Tensor) -> Tensor:
    return 1 - masks


def _clamped_too_early(masks: Tensor) -> Tensor:
    return (masks.sum(0).clamp(0, 1) - masks).clamp(0, 1)


def _greatest_other(masks: Tensor) -> Tensor:
    rest = [torch.cat([masks[:i], masks[i + 1 :], torch.zeros_like(masks[:1])]) for i in range(len(masks))]
    return torch.stack([r.amax(0) for r in rest])


def _mean_of_others(masks: Tensor) -> Tensor:
    return _without_clamp(masks) / max(1, len(masks) - 1)


def _next_object(masks: Tensor) -> Tensor:
    return masks.roll(-1, 0) if len(masks) > 1 else torch.zeros_like(masks)


def _decided(masks: Tensor) -> Tensor:
    return (_others(masks) > 0.5).float()


def _one_for_all(masks: Tensor) -> Tensor:
    return _others(masks)[0]


others = Exercise(
    name="others",
    reference=_others,
    cases={
        "two objects": (torch.tensor([[[1.0, 0.0, 0.0]], [[0.0, 0.7, 0.0]]]),),
        "three objects": (torch.eye(3)[:, None],),
        "one object": (torch.tensor([[[0.2, 0.9]]]),),
        "soft masks that overlap": (torch.tensor([[[0.6, 0.3]], [[0.8, 0.4]], [[0.5, 0.1]], [[0.7, 0.0]]]),),
        "a random frame": (shares(3, 4, 5),),
    },
    hint="The sum over all objects minus the object itself is the sum of the others; then clamp(0, 1).",
    mutants={
        "all objects": Mutant(_all_of_them, "Yours has the object itself in it: take it out of the sum."),
        "without a clamp": Mutant(
            _without_clamp, "Where several of the others claim a pixel your sum exceeds 1: clamp it to [0, 1]."
        ),
        "the background channel": Mutant(
            _background_channel,
            "1 - mask is everything else, background included; the others are objects. Their difference is what "
            "this channel is for.",
        ),
        "clamped too early": Mutant(
            _clamped_too_early,
            "Take the object out first and clamp afterwards; the order matters where masks overlap.",
        ),
        "the greatest of the others": Mutant(_greatest_other, "You take the greatest of the others; take their sum."),
        "the mean of the others": Mutant(
            _mean_of_others, "You divide by their number, so an object gets weaker the more there are: take the sum."
        ),
        "the next object only": Mutant(
            _next_object, "You take one other object; with three or more, sum all others."
        ),
        "decided": Mutant(_decided, "You threshold at 0.5. Masks in memory are soft, and so is this channel."),
        "one map for all": Mutant(
            _one_for_all, "That is the map of the first object; each object has its own set of others."
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
    "softmax over axis 0.",
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
            "You threshold too early; what goes into the memory stays soft.",
        ),
    },
)


# --- memory_frames -----------------------------------------------------------------------------------------------


def _memory_frames(t: int, every: int) -> list[int]:
    return [*range(0, t - 1, every), t - 1]


memory_frames = Exercise(
    name="memory_frames",
    reference=_memory_frames,
    cases={
        "t = 1": (1, 5),
        "t = 2": (2, 5),
        "t = 6, the last frame is a fifth": (6, 5),
        "t = 7": (7, 5),
        "t = 12": (12, 5),
        "every frame": (4, 1),
        "every third": (9, 3),
    },
    hint="range(0, t - 1, every) is frame 0 and every so many after it, up to t - 2; frame t - 1 comes last.",
    mutants={
        "the last one twice": Mutant(
            lambda t, every: [*range(0, t, every), t - 1],
            "When t - 1 is one of the regular frames you list it twice, so it would get twice the attention: stop "
            "the regular ones at t - 2.",
        ),
        "without the last": Mutant(
            lambda t, every: list(range(0, t, every)),
            "Frame t - 1 is missing: it is always there, and leaves again if it is not a regular one.",
        ),
        "without the first": Mutant(
            lambda t, every: [*range(every, t - 1, every), t - 1],
            "Frame 0 is missing, the only one whose mask is true: the regular frames start at 0.",
        ),
        "the frame that asks": Mutant(
            lambda t, every: [*range(0, t, every), t], "Frame t is the query; its mask is not known yet."
        ),
        "counted from the last": Mutant(
            lambda t, every: sorted({0, *range(t - 1, -1, -every)}),
            "You count backward from t - 1, so other frames would be needed for each t; what was not stored is gone. "
            "Count from 0.",
        ),
        "all frames": Mutant(
            lambda t, every: list(range(t)), "You keep all frames; between the first and the last only every so many."
        ),
        "first and last only": Mutant(
            lambda t, every: sorted({0, t - 1}), "The regular frames between the first and the last are missing."
        ),
        "newest first": Mutant(
            lambda t, every: _memory_frames(t, every)[::-1], "The right frames, but the oldest comes first."
        ),
        "counted from one": Mutant(
            lambda t, every: sorted({0, *range(every - 1, t - 1, every), t - 1}),
            "Your regular frames are 4, 9, ... for every = 5; frames are counted from 0, so that they are 0, 5, "
            "10, ...",
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
    hint="While there are too many: min(range(1, len(times) - 1), key=lambda i: usage[i]) is the place of the frame "
    "that leaves; delete it from both lists.",
    mutants={
        "frame 0 may leave": Mutant(
            _evicting(lambda times, usage: min(range(len(times) - 1), key=lambda i: usage[i])),
            "You let frame 0 go, the only one whose mask is true: it stays even if no query attends to it.",
        ),
        "the newest may leave": Mutant(
            _evicting(lambda times, usage: min(range(1, len(times)), key=lambda i: usage[i])),
            "You drop the newest frame. No query has had the chance to attend to it yet, so its usage says nothing.",
        ),
        "anyone may leave": Mutant(
            _evicting(lambda times, usage: min(range(len(times)), key=lambda i: usage[i])),
            "You choose among all frames; frame 0 and the newest must stay.",
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
