"""The one contract every method meets, and the one loop over time.

A method for semi-supervised video object segmentation is given the objects' masks in frame 0 and then sees
one frame after the other. :class:`Segmenter` says so in three calls; :func:`propagate` makes them.
Evaluation, widgets and the notebooks all go through :func:`propagate`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

import torch
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


def as_float(frames: Tensor) -> Tensor:
    """Frames as ``float32`` in [0, 1]; uint8 is divided by 255, floats must be in range already.

    Raises:
        TutorialError: if a value is NaN, infinite or outside [0, 1].
    """
    if frames.dtype == torch.uint8:
        return frames.float() / 255
    frames = frames.float()
    if not torch.isfinite(frames).all():
        raise TutorialError("the frames hold NaN or infinite values; look at how they were read or augmented.")
    low, high = float(frames.min()), float(frames.max())
    if low < 0 or high > 1:
        raise TutorialError(
            f"float frames must lie in [0, 1], these span [{low:.3g}, {high:.3g}]; divide by 255, or pass uint8."
        )
    return frames


def soft_aggregate(probabilities: Tensor, eps: float = 1e-7) -> Tensor:
    """Merge one independent probability per object into one distribution over objects and background.

    With odds ``p / (1 - p)`` for each object and for the background ``p_0 = prod(1 - p_o)``, a pixel's
    share is its odds over the sum of all odds (RGMP, section 3.4; STM, equation 5).

    Args:
        probabilities: ``float [O, H, W]`` or ``[B, O, H, W]`` in [0, 1].
        eps: how far from 0 and 1 the odds are kept.

    Returns:
        ``float [O+1, H, W]`` (or with ``B`` in front), background first, summing to one.
    """
    background = torch.prod(1 - probabilities, dim=-3, keepdim=True)
    p = torch.cat([background, probabilities], dim=-3).clamp(eps, 1 - eps)
    odds = p / (1 - p)
    return odds / odds.sum(dim=-3, keepdim=True)


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


@torch.inference_mode()
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
        TutorialError: if the sizes or dtypes do not fit, the frames hold NaN, or no object is given at all.
    """
    _check(frames, mask)
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
        segmenter.begin(as_float(frames[0]), first)

    for t in range(1, len(frames)):
        frame = as_float(frames[t])
        p = torch.ones(1, *mask.shape, device=device)  # nothing to follow yet: all background
        if started:
            p = segmenter.step(frame)
        lookup = torch.tensor([0, *objects], dtype=torch.uint8, device=device)
        ids[t] = lookup[p.argmax(0)]
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
