"""What is computed again, and how: from one given mask of an object to its next, with the earlier ones in mind.

An object's mask is given in some frames. Each carries it on to the next one, so a correction at frame k changes the
frames from k to the next correction, of this object alone. The method is begun with the object's earlier masks, one
step each, so that what they showed is not forgotten; a frame that is given as empty, because the object is hidden
there, would otherwise be its end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..door import as_float
from ..propagation import Segmenter, most_probable
from .reading import Video


@dataclass(frozen=True)
class Span:
    """Frames of an object without a break: from the one given at ``source`` to ``last``, both included.

    Others may be given between them. Where masks are carried back, ``last`` is before ``source``.
    """

    object: int
    source: int
    last: int
    earlier: tuple[int, ...]  # frames with masks on the other side of source, the nearest last


def spans_of(object_id: int, given: Sequence[int], frames: range) -> list[Span]:
    """From each given mask of one object to its next: those that reach into a range of frames, in its direction.

    Args:
        object_id: of the object.
        given: the frames in which its mask is given.
        frames: with step 1 or -1.
    """
    step = frames.step
    along = sorted(given, reverse=step < 0)
    ends = [*(following - step for following in along[1:]), frames[-1]][: len(along)]
    spans = [
        Span(object_id, source, min(end * step, frames[-1] * step) * step, tuple(along[:i]))
        for i, (source, end) in enumerate(zip(along, ends, strict=True))
    ]
    return [s for s in spans if s.last * step >= max(s.source * step, frames[0] * step)]


def together(spans: Sequence[Span], step: int) -> list[list[Span]]:
    """Which spans are followed in one sweep, so that their objects compete for the pixels.

    Spans of one object that touch become one. Those that begin with an object's first mask go together, whenever it
    comes; those with a past only with others that begin at the same frame, because recalling a past is a jump back.

    Args:
        spans: of any objects, as :func:`spans_of` gives them.
        step: 1 forward, -1 backward.
    """
    joined: list[Span] = []
    for span in spans:
        last = joined[-1] if joined else None
        if last is not None and last.object == span.object and last.last + step == span.source:
            joined[-1] = replace(last, last=span.last)
        else:
            joined.append(span)
    groups: dict[int | None, list[Span]] = {}
    for span in joined:
        groups.setdefault(span.source if span.earlier else None, []).append(span)
    return list(groups.values())


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
        spans: of :func:`together`, one for each object.
        step: 1 forward, -1 backward.
        masks: the given masks of a frame: object id -> ``bool [H, W]``; an empty one says that the object cannot be
            seen there, and it is followed on.

    Yields:
        the frame's number, and for each object that was predicted in it its probability ``float32 [H, W]`` where it
        is the most probable one, else less than or equal to 0: minus the probability.
    """
    covered = {t for span in spans for t in range(span.source, span.last + step, step)}
    recalled = {t for span in spans for t in span.earlier}
    times = [*sorted(recalled, reverse=step < 0), *sorted(covered, reverse=step < 0)]
    active: list[int] = []  # the segmenter's channels
    for number, (t, picture) in enumerate(zip(times, video.frames(times), strict=True)):
        frame = as_float(picture)
        past = number < len(recalled)
        here = {s.object for s in spans if (t in s.earlier if past else s.source * step <= t * step <= s.last * step)}
        if not past:
            for gone in [o for o in active if o not in here]:
                segmenter.remove(gone)
                active.remove(gone)
        found = _separate(segmenter.step(frame), active) if active else {}
        given = {o: mask for o, mask in masks(t).items() if o in here}
        for o, mask in given.items():
            found = {other: torch.where(mask, -p.abs(), p) for other, p in found.items() if other != o}
        _tell(segmenter, frame, given, active)
        if not past:
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
