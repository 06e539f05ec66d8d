"""The one contract every method meets, and the one loop over time.

A method for semi-supervised video object segmentation is given the objects' masks in frame 0 and then sees
one frame after the other. :class:`Segmenter` says so in three calls; :func:`propagate` makes them.
Evaluation, widgets and the notebooks all go through :func:`propagate`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from torch import Tensor

from .clip import ids_to_onehot, object_ids
from .errors import TutorialError


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
            mask: ``uint8 [H, W]``; only ids not seen before count.
        """
        ...


def as_float(frames: Tensor, name: str = "the frames") -> Tensor:
    """Frames as ``float32`` in [0, 1]; uint8 is divided by 255, floats must be in range already.

    Args:
        frames: any shape.
        name: what errors call them.

    Raises:
        TutorialError: if a value is NaN, infinite or outside [0, 1].
    """
    if frames.dtype == torch.uint8:
        return frames.float() / 255
    frames = frames.float()
    if not torch.isfinite(frames).all():
        raise TutorialError(f"{name}: some values are NaN or infinite; look at how they were read or augmented.")
    low, high = float(frames.min()), float(frames.max())
    if low < 0 or high > 1:
        raise TutorialError(
            f"{name}: floats must lie in [0, 1], these span [{low:.3g}, {high:.3g}]; divide by 255, or pass uint8."
        )
    return frames


def soft_aggregate_logits(probabilities: Tensor, eps: float = 1e-7) -> Tensor:
    """The log-odds of each object, and of the background, whose probability is that no object is there.

    Their softmax over the channels is :func:`soft_aggregate`; a loss is better computed from these.

    Args:
        probabilities: ``float [..., O, H, W]`` in [0, 1], each object judged as if it were alone.
        eps: how far from 0 and 1 the odds are kept.

    Returns:
        ``float [..., O+1, H, W]``, background first; half precision becomes float32.
    """
    probabilities = probabilities.to(torch.promote_types(probabilities.dtype, torch.float32))
    background = torch.prod(1 - probabilities, dim=-3, keepdim=True)
    p = torch.cat([background, probabilities], dim=-3).clamp(eps, 1 - eps)
    return torch.log(p / (1 - p))


def soft_aggregate(probabilities: Tensor, eps: float = 1e-7) -> Tensor:
    """Merge one independent probability per object into one distribution over objects and background.

    With odds ``p / (1 - p)`` for each object and for the background ``p_0 = prod(1 - p_o)``, a pixel's
    share is its odds over the sum of all odds (RGMP, section 3.4; STM, equation 5).

    Args:
        probabilities: ``float [O, H, W]`` or ``[B, O, H, W]`` in [0, 1].
        eps: how far from 0 and 1 the odds are kept.

    Returns:
        ``float [O+1, H, W]`` (or with ``B`` in front), background first, summing to one; half precision becomes
        float32, in which odds next to 0 and 1 can be told apart.
    """
    probabilities = probabilities.to(torch.promote_types(probabilities.dtype, torch.float32))
    background = torch.prod(1 - probabilities, dim=-3, keepdim=True)
    p = torch.cat([background, probabilities], dim=-3).clamp(eps, 1 - eps)
    odds = p / (1 - p)
    return odds / odds.sum(dim=-3, keepdim=True)


def winners(probabilities: Tensor) -> Tensor:
    """The channel with the largest value at each pixel, the first one on ties: ``[C, H, W] -> uint8 [H, W]``.

    The same as ``argmax(0)``, which on a CPU takes longer than a small network does.
    """
    best, winner = probabilities[0], torch.zeros_like(probabilities[0], dtype=torch.uint8)
    for channel in range(1, len(probabilities)):
        winner.masked_fill_(probabilities[channel] > best, channel)
        best = torch.maximum(best, probabilities[channel])
    return winner


def resize_frame(frame: Tensor, height: int, width: int) -> Tensor:
    """A frame ``float [3, H, W]`` at another size, smoothed when it shrinks so that fine texture does not alias."""
    return F.interpolate(frame[None], (height, width), mode="bilinear", antialias=True, align_corners=False)[0]


def resize_mask(mask: Tensor, height: int, width: int) -> Tensor:
    """Ids ``uint8 [H, W]`` at another size: the nearest pixel's id, never a blend of two."""
    return F.interpolate(mask[None, None].float(), (height, width), mode="nearest-exact")[0, 0].to(torch.uint8)


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

    def _size(self, frame: Tensor) -> tuple[int, int]:
        height, width = frame.shape[-2:]
        ratio = self.short_side / min(height, width)
        return round(height * ratio), round(width * ratio)

    def begin(self, frame: Tensor, mask: Tensor) -> None:
        """See :meth:`Segmenter.begin`. An object that vanishes at the smaller size still has its channel."""
        self.inner.begin(resize_frame(frame, *self._size(frame)), self._keep_small(mask, *self._size(frame)))

    def step(self, frame: Tensor) -> Tensor:
        """See :meth:`Segmenter.step`."""
        probabilities = self.inner.step(resize_frame(frame, *self._size(frame)))
        full = F.interpolate(probabilities[None], frame.shape[-2:], mode="bilinear", align_corners=False)[0]
        return full / full.sum(0, keepdim=True)

    def introduce(self, frame: Tensor, mask: Tensor) -> None:
        """See :meth:`Segmenter.introduce`."""
        self.inner.introduce(resize_frame(frame, *self._size(frame)), self._keep_small(mask, *self._size(frame)))

    @staticmethod
    def _keep_small(mask: Tensor, height: int, width: int) -> Tensor:
        """Like :func:`resize_mask`, but no object disappears: one that falls between the samples keeps one pixel.

        It takes the nearest pixel that is not another object's last.
        """
        small, objects = resize_mask(mask, height, width), object_ids(mask)
        for object_id in sorted(set(objects) - set(object_ids(small))):
            y, x = (mask == object_id).nonzero()[0].tolist()
            taken = torch.zeros_like(small, dtype=torch.bool)
            for other in object_ids(small):
                taken |= (small == other) & ((small == other).sum() == 1)
            free = (~taken).nonzero()  # [N, 2], in reading order
            if len(free) == 0:
                raise TutorialError(
                    f"{len(objects)} objects do not fit into {height}x{width} pixels; use a larger short side."
                )
            away = (free[:, 0] - y * height // mask.shape[0]) ** 2 + (free[:, 1] - x * width // mask.shape[1]) ** 2
            row, column = free[int(away.argmin())].tolist()
            small[row, column] = object_id
        return small


def _check(frames: Tensor, mask: Tensor) -> None:
    if frames.ndim != 4 or frames.shape[1] != 3 or frames.shape[0] == 0:
        raise TutorialError(f"frames must be [T, 3, H, W] with T >= 1, got {list(frames.shape)}.")
    if mask.dtype != torch.uint8 or mask.ndim != 2:
        raise TutorialError(f"the mask must be uint8 ids [H, W], got {mask.dtype} {list(mask.shape)}.")
    if mask.shape != frames.shape[2:]:
        raise TutorialError(
            f"the mask is {mask.shape[0]}x{mask.shape[1]} but the frames are {frames.shape[2]}x{frames.shape[3]}; "
            "resize the mask with nearest-neighbour interpolation."
        )


@torch.no_grad()
def propagate(
    segmenter: Segmenter,
    frames: Tensor,
    mask: Tensor,
    probabilities: bool = False,
    later: Mapping[int, Tensor] | None = None,
) -> Tensor:
    """Carry the masks of frame 0 through a clip.

    Args:
        segmenter: any method.
        frames: ``uint8 [T, 3, H, W]``, or float in [0, 1].
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
    _check(frames, mask)
    mask = mask.to(frames.device)
    later = dict(later or {})
    objects = object_ids(mask)
    newcomers = {}
    seen = set(objects)
    for t in sorted(later):
        _check(frames, later[t])
        if not 1 <= t < len(frames):
            raise TutorialError(f"objects appear at frame {t}, but the clip has frames 0..{len(frames) - 1}.")
        newcomers[t] = [i for i in object_ids(later[t]) if i not in seen]
        seen.update(newcomers[t])
    if not seen:
        raise TutorialError("the mask of frame 0 holds no object (only 0 and 255); give at least one id in 1..254.")
    total = len(seen)

    device = frames.device
    ids = torch.zeros(len(frames), *mask.shape, dtype=torch.uint8, device=device)
    probs = torch.zeros(len(frames), total + 1, *mask.shape, device=device) if probabilities else None

    first = torch.where(torch.isin(mask, torch.tensor(objects, dtype=torch.uint8, device=mask.device)), mask, 0)
    ids[0] = first
    if probs is not None:
        probs[0, 1 : len(objects) + 1] = ids_to_onehot(first, objects).float()
        probs[0, 0] = (first == 0).float()
    started = bool(objects)
    if started:
        segmenter.begin(as_float(frames[0], "frame 0"), first)

    for t in range(1, len(frames)):
        frame = as_float(frames[t], f"frame {t}")
        p = torch.ones(1, *mask.shape, device=device)  # nothing to follow yet: all background
        if started:
            p = segmenter.step(frame)
            if p.shape != (len(objects) + 1, *mask.shape):
                raise TutorialError(
                    f"step() of {type(segmenter).__name__} returned {list(p.shape)} at frame {t}, but "
                    f"{len(objects)} objects ask for {[len(objects) + 1, *mask.shape]}, background first."
                )
        lookup = torch.tensor([0, *objects], dtype=torch.uint8, device=device)
        ids[t] = lookup[winners(p).long()]
        if newcomers.get(t):
            new = ids_to_onehot(later[t].to(device), newcomers[t])
            given = torch.where(new.any(0), later[t].to(device), torch.zeros_like(ids[t]))
            if started:
                segmenter.introduce(frame, given)
            else:
                segmenter.begin(frame, given)
                started = True
            p = torch.cat([p * ~new.any(0), new.float()])
            objects = [*objects, *newcomers[t]]
            ids[t] = torch.where(new.any(0), given, ids[t])
        if probs is not None:
            probs[t, : len(p)] = p
    return ids if probs is None else probs


def propagate_nearest(segmenter: Segmenter, frames: Tensor, annotations: Mapping[int, Tensor]) -> Tensor:
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
    times = sorted(annotations)
    if not times or times[0] < 0 or times[-1] >= len(frames):
        raise TutorialError(f"annotated frames are {times}, the clip has frames 0..{len(frames) - 1}.")
    nearest = [min(times, key=lambda a: (abs(a - t), a)) for t in range(len(frames))]
    ids = torch.zeros(len(frames), *frames.shape[2:], dtype=torch.uint8, device=frames.device)
    for a in times:
        _check(frames, annotations[a])
        if not object_ids(annotations[a]) and any(object_ids(mask) for mask in annotations.values()):
            continue
        mine = [t for t in range(len(frames)) if nearest[t] == a]
        ids[a : mine[-1] + 1] = propagate(segmenter, frames[a : mine[-1] + 1], annotations[a])
        if mine[0] < a:  # no second begin, which may train, where nothing lies before
            ids[mine[0] : a + 1] = propagate(segmenter, frames[mine[0] : a + 1].flip(0), annotations[a]).flip(0)
    return ids
