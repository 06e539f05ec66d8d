"""What is computed again, and how: spans from one given mask of an object to its next, and one sweep over them.

An object's mask is given in some frames. Each carries it on to the next one, so a correction at frame k changes the
frames from k to the next correction, of this object alone. A frame that is given as empty, because the object is
hidden there, ends no span: what the object looks like is known from the mask before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..door import as_float
from ..propagation import Segmenter, most_probable
from .reading import Video


@dataclass(frozen=True)
class Span:
    """An object's frames that one given mask is carried to: from ``source`` to ``last``, both included."""

    object: int
    source: int
    last: int  # before source where masks are carried back


def spans_of(object_id: int, given: Sequence[int], frames: range) -> list[Span]:
    """The spans of one object that reach into a range of frames, in the range's direction.

    Args:
        object_id: of the object.
        given: the frames in which its mask is given and not empty.
        frames: with step 1 or -1.
    """
    step = frames.step
    along = sorted(given, reverse=step < 0)
    ends = [*(following - step for following in along[1:]), frames[-1]]
    spans = [
        Span(object_id, source, min(end * step, frames[-1] * step) * step)
        for source, end in zip(along, ends, strict=True)
    ]
    return [s for s in spans if s.last * step >= max(s.source * step, frames[0] * step)]


def sweep(
    segmenter: Segmenter,
    video: Video,
    spans: Sequence[Span],
    step: int,
    masks: Callable[[int], Mapping[int, Tensor]],
) -> Iterator[tuple[int, Mapping[int, Tensor]]]:
    """Follow several objects at once through their spans; no frame is read that no span holds.

    Args:
        segmenter: begun here; objects are introduced, corrected and removed as their spans say.
        video: read in the direction of ``step``.
        spans: of all objects; those of one object do not overlap.
        step: 1 forward, -1 backward.
        masks: the given masks of a frame: object id -> ``bool [H, W]``; an empty one says that the object cannot be
            seen there, and it is followed on.

    Yields:
        the frame's number, and for each object that was predicted in it its probability ``float32 [H, W]`` where it
        is the most probable one, else less than or equal to 0: minus the probability.
    """
    covered = {t for span in spans for t in range(span.source, span.last + step, step)}
    times = sorted(covered, reverse=step < 0)
    active: list[int] = []  # the segmenter's channels
    for t, picture in zip(times, video.frames(times), strict=True):
        frame = as_float(picture)
        going_on = {s.object for s in spans if s.source * step <= t * step <= s.last * step}
        for gone in [o for o in active if o not in going_on]:
            segmenter.remove(gone)
            active.remove(gone)
        found = _separate(segmenter.step(frame), active) if active else {}
        given = {o: mask for o, mask in masks(t).items() if o in going_on}
        for o, mask in given.items():
            found = {other: torch.where(mask, -p.abs(), p) for other, p in found.items() if other != o}
        _tell(segmenter, frame, given, active)
        yield t, found


def _separate(probabilities: Tensor, active: Sequence[int]) -> dict[int, Tensor]:
    """``[K+1, H, W]`` -> for each object ``[H, W]``: its probability where it wins, minus it elsewhere."""
    winner = most_probable(probabilities)
    return {
        o: torch.where(winner == channel, probabilities[channel], -probabilities[channel])
        for channel, o in enumerate(active, start=1)
    }


def _tell(segmenter: Segmenter, frame: Tensor, given: Mapping[int, Tensor], active: list[int]) -> None:
    """Give masks ``bool [H, W]`` to a segmenter; new objects join ``active``."""
    seen = {o: mask for o, mask in sorted(given.items()) if mask.any()}
    known, new = ({o: mask for o, mask in seen.items() if (o in active) is old} for old in (True, False))
    absent = [o for o in given if o in active and o not in seen]
    if known or absent:
        segmenter.correct(frame, _ids(known, frame), absent=absent)
    if new:
        (segmenter.introduce if active else segmenter.begin)(frame, _ids(new, frame))
        active += new


def _ids(masks: Mapping[int, Tensor], frame: Tensor) -> Tensor:
    ids = torch.zeros(frame.shape[1:], dtype=torch.uint8)
    for o, mask in masks.items():
        ids[mask] = o
    return ids
