"""What a training sees of its data: batches of clips or stills for seeds, whatever draws them.

The worlds draw their own pictures, the sources take them from somewhere; both give :class:`Clips` or
:class:`Stills`, so that a training does not see where they come from. Sample ``i`` of a batch depends on
``seeds[i]`` alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from ..clip import VOID
from ..errors import TutorialError
from ..rng import Rng

SMALLEST = 0.02  # share of frame 0 that every annotated object shows at the least
DRAWS = 50  # samples drawn for one seed until frame 0 shows an object


class Clips(NamedTuple):
    """A batch of short clips; every object shows at least :data:`SMALLEST` of frame 0."""

    frames: Tensor
    """``float32 [B, T, 3, H, W]`` in [0, 1]."""
    masks: Tensor
    """``uint8 [B, T, H, W]``: 0 background, 1..K objects without gaps (K >= 1 differs by sample), 255 void."""


class ClipSource(Protocol):
    """Anything that gives clips for seeds."""

    def batch(self, seeds: Sequence[int], size: int, length: int, max_skip: int = 0) -> Clips:
        """Square clips; sample ``i`` depends on ``seeds[i]`` only.

        Args:
            seeds: B integers >= 0.
            size: H = W in pixels.
            length: T, frames a clip.
            max_skip: up to so many frames are left out between two that are given.
        """
        ...


class Stills(NamedTuple):
    """Pictures and the mask of one object in each."""

    images: Tensor
    """``float32 [B, 3, H, W]`` in [0, 1]."""
    masks: Tensor
    """``bool [B, H, W]``."""


class StillSource(Protocol):
    """Anything that gives stills for seeds."""

    def batch(self, seeds: Sequence[int], size: int) -> Stills:
        """Square stills of ``size`` pixels a side; sample ``i`` depends on ``seeds[i]`` only."""
        ...


def number_objects(ids: Tensor, smallest: float = SMALLEST) -> tuple[Tensor, Tensor]:
    """Number the objects that frame 0 shows 1, 2, ... in the order of their ids; the others become background.

    Args:
        ids: ``uint8 [B, T, H, W]``; 0 background, 1..254 objects, 255 void.
        smallest: the share of frame 0 that counts as shown.

    Returns:
        masks of the same shape and dtype, and ``bool [B]``: does frame 0 show an object?
    """
    first = ids[:, 0].flatten(1).long()
    areas = torch.zeros(len(ids), 256, device=ids.device).scatter_add_(1, first, torch.ones_like(first).float())
    large = areas >= smallest * first.shape[1]
    large[:, 0] = large[:, VOID] = False
    table = torch.where(large, large.cumsum(1), 0).to(torch.uint8)  # from old ids to new
    table[:, VOID] = VOID
    return table.gather(1, ids.flatten(1).long()).reshape(ids.shape), large.any(1)


def draw_until_shown(
    source: str,
    seeds: Sequence[int],
    stream: int,
    draw: Callable[[list[Rng]], tuple[Tensor, Tensor]],
    smallest: float = SMALLEST,
) -> Clips:
    """Call ``draw`` for all seeds, then again for those whose frame 0 shows no object, with fresh generators.

    Raises:
        TutorialError: if a seed gives none in :data:`DRAWS` draws.
    """
    frames, ids = draw([Rng(seed, stream) for seed in seeds])
    masks, shown = number_objects(ids, smallest)
    for attempt in range(1, DRAWS):
        missing = (~shown).nonzero().flatten()
        if not len(missing):
            break
        frames[missing], ids = draw([Rng(seeds[i], stream, attempt) for i in missing.tolist()])
        masks[missing], shown[missing] = number_objects(ids, smallest)
    if not shown.all():
        raise TutorialError(
            f"{source}: in {DRAWS} draws no clip showed an object on {100 * smallest:g}% or more of its first frame; "
            "take a source with larger objects, or other options."
        )
    return Clips(frames, masks)


def check_request(seeds: Sequence[int], size: int, length: int, max_skip: int) -> None:
    if not len(seeds):
        raise TutorialError("the batch has no seeds; give at least one.")
    if min(seeds) < 0:
        raise TutorialError(f"the seed is {min(seeds)}; it must be 0 or larger.")
    if size < 1 or length < 1:
        raise TutorialError(f"clips of size {size} and length {length} cannot be made; both must be at least 1.")
    if max_skip < 0:
        raise TutorialError(f"max_skip is {max_skip}; it must be 0 or larger.")


def check_probability(name: str, value: float) -> None:
    if not 0 <= value <= 1:
        raise TutorialError(f"the probability of {name!r} is {value}; it must lie in 0..1.")


def draw_times(rng: Rng, available: int, length: int, max_skip: int) -> list[int]:
    """Moments of a video: steps of 1 to ``max_skip + 1`` frames, from a random start.

    Where the video is too short for such steps, the longest allowed step is shortened until all fit.

    Args:
        rng: where chance comes from.
        available: frames of the video, at least ``length``.
        length: moments wanted.
        max_skip: the most frames to leave out between two moments.

    Returns:
        ``length`` increasing numbers in 0..available-1.
    """
    longest = min(max_skip + 1, (available - 1) // max(length - 1, 1))
    steps = [1 + rng.pick(longest) for _ in range(length - 1)]
    start = rng.pick(available - sum(steps))
    return [start, *(start + np.cumsum(steps, dtype=int)).tolist()]
