"""The one contract every method meets, and the one loop over time.

A method for semi-supervised video object segmentation is given the objects' masks in frame 0 and then sees one
frame after the other. :class:`Segmenter` says so in three calls, and in two more that annotation needs;
:func:`propagate` makes them for a clip, :func:`propagate_stream` for frames that come in one by one.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from .clip import VOID, ids_to_onehot, object_ids
from .door import FrameLike, MaskLike, as_frame, as_frames, as_mask, require_same_size
from .errors import TutorialError
from .resize import resize_frame, resize_objects, resize_probabilities, size_at


@runtime_checkable
class Segmenter(Protocol):
    """Frame in, probabilities out; the ids are decided in :func:`propagate` and nowhere else."""

    def begin(self, frame: Tensor, mask: Tensor) -> None:
        """Start a clip and forget the last one.

        Args:
            frame: ``float32 [3, H, W]`` in [0, 1].
            mask: ``uint8 [H, W]`` ids of the given objects; 0 and 255 (void) are no objects.
        """
        ...

    def step(self, frame: Tensor) -> Tensor:
        """The next frame ``float32 [3, H, W]`` -> ``float32 [K+1, H, W]``, background first, summing to one.

        Channels 1..K are the objects in ascending order of id as given to ``begin``, then those of each
        ``introduce`` in the order of the calls.
        """
        ...

    def introduce(self, frame: Tensor, mask: Tensor) -> None:
        """Objects that first appear in ``frame``, the last one given to ``step`` (YouTube-VOS has such).

        Args:
            frame: ``float32 [3, H, W]`` in [0, 1].
            mask: ``uint8 [H, W]``; only ids not seen before count. They take their pixels from the other objects.
        """
        ...

    def correct(self, frame: Tensor, mask: Tensor, absent: Sequence[int] = ()) -> None:
        """Masks of known objects, given anew in ``frame``, the last one given to ``begin`` or ``step`` (annotation).

        Args:
            frame: ``float32 [3, H, W]`` in [0, 1].
            mask: ``uint8 [H, W]``. Each object whose id it holds has these pixels from now on, and no others; the
                other objects keep what they had, less the pixels that were given away.
            absent: ids of known objects of which nothing can be seen in ``frame``. What earlier frames
                said of their looks stays known.

        Raises:
            TutorialError: if mask and ``absent`` name no object, one that is not known, or the same one.
        """
        ...

    def remove(self, object_id: int) -> None:
        """Follow an object no longer: its channel goes, the order of the others stays.

        Raises:
            TutorialError: if there is no such object.
        """
        ...


def soft_aggregate_logits(probabilities: Tensor, eps: float = 1e-7, background: Tensor | None = None) -> Tensor:
    """The log-odds of each object, and of the background, whose probability is that no object is there.

    Their softmax over the channels is :func:`soft_aggregate`; a loss is better computed from these.

    Args:
        probabilities: ``float [..., O, H, W]`` in [0, 1], each object as if it were alone.
        eps: how far from 0 and 1 the odds are kept.
        background: ``float [..., 1, H, W]``, the probability of the background, if the method has one of its own.

    Returns:
        ``float [..., O+1, H, W]``, background first; half precision becomes float32.
    """
    probabilities = probabilities.to(torch.promote_types(probabilities.dtype, torch.float32))
    if background is None:
        background = torch.prod(1 - probabilities, dim=-3, keepdim=True)  # [..., 1, H, W]
    p = torch.cat([background, probabilities], dim=-3).clamp(eps, 1 - eps)  # [..., O+1, H, W]
    return torch.log(p / (1 - p))


def soft_aggregate(probabilities: Tensor, eps: float = 1e-7, background: Tensor | None = None) -> Tensor:
    """Merge one independent probability per object into one distribution over objects and background.

    With odds ``p / (1 - p)`` for each object and for the background ``p_0 = prod(1 - p_o)``, a pixel's
    share is its odds over the sum of all odds (RGMP, section 3.4; STM, equation 5).

    Args:
        probabilities: ``float [O, H, W]`` or ``[B, O, H, W]`` in [0, 1].
        eps: how far from 0 and 1 the odds are kept.
        background: see :func:`soft_aggregate_logits`.

    Returns:
        ``float [O+1, H, W]`` (or with ``B`` in front), background first, summing to one; half precision becomes
        float32, in which odds next to 0 and 1 can be told apart.
    """
    return soft_aggregate_logits(probabilities, eps, background).softmax(dim=-3)


def most_probable(probabilities: Tensor) -> Tensor:
    """The channel with the largest value at each pixel, the first one on ties: ``[C, H, W] -> uint8 [H, W]``.

    The same as ``argmax(0)``, which on a CPU takes longer than a small network does.
    """
    best, winner = probabilities[0], torch.zeros_like(probabilities[0], dtype=torch.uint8)
    for channel in range(1, len(probabilities)):
        winner.masked_fill_(probabilities[channel] > best, channel)
        best = torch.maximum(best, probabilities[channel])
    return winner


class Resized:
    """A segmenter at another resolution: frames are resized on the way in, probabilities on the way out.

    Args:
        inner: any segmenter.
        short_side: pixels of the shorter side that ``inner`` sees; the aspect ratio is kept.
    """

    def __init__(self, inner: Segmenter, short_side: int) -> None:
        if short_side < 1:
            raise TutorialError(f"the short side is {short_side} pixels; it must be at least 1.")
        self.inner, self.short_side = inner, short_side
        self._size = (0, 0)  # H, W of the last frame

    @torch.no_grad()
    def _frame(self, frame: FrameLike) -> Tensor:
        picture = as_frame(frame)
        self._size = picture.shape[1], picture.shape[2]
        return resize_frame(picture, *size_at(self.short_side, *picture.shape[-2:]))  # [3, h, w]

    def _mask(self, frame: Tensor, mask: MaskLike) -> Tensor:
        return resize_objects(as_mask(mask), *frame.shape[-2:])  # [h, w]

    def begin(self, frame: FrameLike, mask: MaskLike) -> None:
        """See :meth:`Segmenter.begin`. An object that vanishes at the smaller size still has its channel."""
        small = self._frame(frame)
        self.inner.begin(small, self._mask(small, mask))

    def step(self, frame: FrameLike) -> Tensor:
        """See :meth:`Segmenter.step`."""
        probabilities = self.inner.step(self._frame(frame))  # [K+1, h, w]
        return resize_probabilities(probabilities, *self._size)  # [K+1, H, W]

    def introduce(self, frame: FrameLike, mask: MaskLike) -> None:
        """See :meth:`Segmenter.introduce`."""
        small = self._frame(frame)
        self.inner.introduce(small, self._mask(small, mask))

    def correct(self, frame: FrameLike, mask: MaskLike, absent: Sequence[int] = ()) -> None:
        """See :meth:`Segmenter.correct`."""
        small = self._frame(frame)
        self.inner.correct(small, self._mask(small, mask), absent)

    def remove(self, object_id: int) -> None:
        """See :meth:`Segmenter.remove`."""
        self.inner.remove(object_id)

    def inspect(self) -> Any:
        """What ``inner`` shows of itself, at its own resolution; AttributeError if it shows nothing."""
        return self.inner.inspect()  # type: ignore[attr-defined]


def propagate_stream(
    segmenter: Segmenter,
    frames: Iterable[FrameLike],
    mask: MaskLike,
    later: Mapping[int, MaskLike] | None = None,
) -> Iterator[Tensor]:
    """Carry the masks of frame 0 along while the frames come in; no more than one frame is held here.

    Args:
        segmenter: any method.
        frames: anything that gives one frame after the other, each as for :func:`vos_tutorial.door.as_frame`.
        mask: as for :func:`propagate`.
        later: as for :func:`propagate`.

    Returns:
        an iterator of ids ``uint8 [H, W]``, one for each frame, as soon as the frame is there; the first is ``mask``,
        void as background.

    Raises:
        TutorialError: if the mask holds no object, or ``frames`` gives none; while iterating, if a frame is no frame
            or of another size, there is none at all, or the stream ends before an object of ``later`` appears.
    """
    plan = _Plan.of(mask, later)
    try:
        frames = iter(frames)
    except TypeError:
        raise TutorialError(
            f"frames are to come one after the other, and {type(frames).__name__} gives none; pass a list, an array "
            "or a generator of frames."
        ) from None

    def stream() -> Iterator[Tensor]:
        seen = 0
        for ids, _ in _follow(segmenter, frames, plan):
            seen += 1
            yield ids
        if seen <= plan.last:
            raise TutorialError(
                f"objects appear at frame {plan.last}, but the stream ended after {seen} frames; "
                "give masks for frames of the stream only."
            )

    return stream()


def propagate(
    segmenter: Segmenter,
    frames: FrameLike,
    mask: MaskLike,
    probabilities: bool = False,
    later: Mapping[int, MaskLike] | None = None,
) -> Tensor:
    """Carry the masks of frame 0 through a clip.

    Args:
        segmenter: any method.
        frames: ``uint8 [T, 3, H, W]``, or float in [0, 1]; a NumPy array may be ``[T, H, W, 3]``.
        mask: ``uint8 [H, W]``, the object ids of frame 0. Frame 0 of the result is this mask, void as background.
        probabilities: return the probabilities instead of the ids.
        later: masks of objects that appear later, ``{t: uint8 [H, W]}`` with ``t >= 1``; pixels of a new object
            are taken as given at ``t``, all others stay as predicted.

    Returns:
        ids ``uint8 [T, H, W]``, or ``float32 [T, K+1, H, W]`` over all K objects, those that appear later last.

    Raises:
        TutorialError: if the sizes or dtypes do not fit, a frame holds NaN, no object is given at all, or the
            segmenter's answer has another shape than the contract says.
    """
    clip, plan = as_frames(frames), _Plan.of(mask, later)
    if plan.last >= len(clip):
        raise TutorialError(f"objects appear at frame {plan.last}, but the clip has frames 0..{len(clip) - 1}.")
    require_same_size(plan.first, clip.shape[2:])
    ids = torch.zeros(len(clip), *clip.shape[2:], dtype=torch.uint8, device=clip.device)
    shape = (len(clip), plan.objects + 1, *clip.shape[2:])
    probs = torch.zeros(shape if probabilities else 0, device=clip.device)
    for t, (found, p) in enumerate(_follow(segmenter, clip, plan)):
        ids[t] = found
        if probabilities:
            probs[t, : len(p)] = p
    return probs if probabilities else ids


@dataclass(frozen=True)
class _Plan:
    """What is given when: the first mask, and for each later frame the mask with its new ids."""

    first: Tensor  # uint8 [H, W], void as background
    newcomers: Mapping[int, tuple[Tensor, list[int]]]
    objects: int  # K, all of them

    @property
    def last(self) -> int:
        """The last frame at which something is given."""
        return max(self.newcomers, default=0)

    @staticmethod
    def of(mask: MaskLike, later: Mapping[int, MaskLike] | None) -> _Plan:
        """Check all masks before anything runs."""
        first = as_mask(mask)
        seen = set(object_ids(first))
        newcomers = {}
        masks = _by_number(later or {})
        for t in sorted(masks):
            if t < 1:
                raise TutorialError(
                    f"objects appear at frame {t}, but later masks are for frames from 1 on; "
                    "put those of frame 0 into the first mask."
                )
            ids = masks[t]
            require_same_size(ids, first.shape, f"the mask of frame {t}")
            newcomers[t] = ids, [i for i in object_ids(ids) if i not in seen]
            seen.update(newcomers[t][1])
        if not seen:
            raise TutorialError(
                "the mask of frame 0 holds no object (only 0 and 255); give at least one id in 1..254."
            )
        return _Plan(torch.where(first == VOID, 0, first), newcomers, len(seen))


def _by_number(masks: Mapping[int, MaskLike]) -> dict[int, Tensor]:
    """Masks ``uint8 [H, W]`` by the numbers of their frames."""
    found = {}
    for t, mask in masks.items():
        try:
            found[operator.index(t)] = as_mask(mask, f"the mask of frame {t}").clone()  # the caller's may change
        except TypeError:
            raise TutorialError(
                f"a mask is given for frame {t!r}; give the number of the frame, from 0 on."
            ) from None
    return found


@torch.no_grad()
def _follow(segmenter: Segmenter, frames: Iterable[FrameLike], plan: _Plan) -> Iterator[tuple[Tensor, Tensor]]:
    """The loop over time: ids ``uint8 [H, W]`` and probabilities ``float32 [K+1, H, W]`` of each frame."""
    objects = object_ids(plan.first)
    t = -1
    for t, given in enumerate(frames):
        frame = as_frame(given, f"frame {t}")
        if t > 0 and frame.shape[1:] != plan.first.shape:
            first = "x".join(map(str, plan.first.shape))
            raise TutorialError(
                f"frame {t} is {frame.shape[1]}x{frame.shape[2]}, the clip began with {first}; resize the frame."
            )
        if t == 0:
            require_same_size(plan.first, frame.shape[1:])
            ids = plan.first.to(frame.device)
            p = _given_probabilities(ids, objects)
            if objects:
                segmenter.begin(frame, ids)
        else:
            p = segmenter.step(frame) if objects else torch.ones_like(frame[:1])  # nothing to follow: background
            if p.shape != (len(objects) + 1, *frame.shape[1:]):
                raise TutorialError(
                    f"step() of {type(segmenter).__name__} returned {list(p.shape)} at frame {t}, but "
                    f"{len(objects)} objects need {[len(objects) + 1, *frame.shape[1:]]}, background first."
                )
            lookup = torch.tensor([0, *objects], dtype=torch.uint8, device=p.device)
            ids = lookup[most_probable(p).long()]
        mask, new = plan.newcomers.get(t, (plan.first, []))
        if new:
            own = ids_to_onehot(mask.to(frame.device), new)  # [n, H, W]
            only_new = torch.where(own.any(0), mask.to(frame.device), 0)
            (segmenter.introduce if objects else segmenter.begin)(frame, only_new)
            p = torch.cat([p * ~own.any(0), own.float()])
            objects = [*objects, *new]
            ids = torch.where(own.any(0), only_new, ids)
        yield ids, p
    if t < 0:
        raise TutorialError("there is no frame to follow; give at least one.")


def _given_probabilities(ids: Tensor, objects: list[int]) -> Tensor:
    """The probabilities ``float32 [K+1, H, W]`` of a mask that is given."""
    return torch.cat([(ids == 0)[None], ids_to_onehot(ids, objects)]).float()


def propagate_nearest(segmenter: Segmenter, frames: FrameLike, annotations: Mapping[int, MaskLike]) -> Tensor:
    """Carry several annotated frames through a clip, forward and backward; the nearest annotation answers.

    Args:
        segmenter: any method; it is begun anew for each annotation and direction.
        frames: as for :func:`propagate`.
        annotations: ``{t: ids uint8 [H, W]}``, at least one; objects keep their id from one to the next. One without
            objects says that none is to be seen, there and around it.

    Returns:
        ids ``uint8 [T, H, W]``; halfway between two annotations the earlier one answers
        (MaskTrack, Perazzi et al., CVPR 2017, section 3.3).

    Raises:
        TutorialError: as :func:`propagate`, and for frames outside the clip.
    """
    clip, masks = as_frames(frames), _by_number(annotations)
    times = sorted(masks)
    if not times or times[0] < 0 or times[-1] >= len(clip):
        raise TutorialError(f"annotated frames are {times}, the clip has frames 0..{len(clip) - 1}.")
    nearest = [min(times, key=lambda a: (abs(a - t), a)) for t in range(len(clip))]
    ids = torch.zeros(len(clip), *clip.shape[2:], dtype=torch.uint8, device=clip.device)
    for a in times:
        require_same_size(masks[a], clip.shape[2:], f"the mask of frame {a}")
        if not object_ids(masks[a]) and any(object_ids(mask) for mask in masks.values()):
            continue
        mine = [t for t in range(len(clip)) if nearest[t] == a]
        ids[a : mine[-1] + 1] = propagate(segmenter, clip[a : mine[-1] + 1], masks[a])
        if mine[0] < a:  # no second begin, which may train, where nothing lies before
            ids[mine[0] : a + 1] = propagate(segmenter, clip[mine[0] : a + 1].flip(0), masks[a]).flip(0)
    return ids
