"""What may come in: frames and masks as tensors or NumPy arrays, in the form that the library works with.

Inside, a frame is ``float32 [3, H, W]`` in [0, 1] and a mask ``uint8 [H, W]`` of ids. A picture from Pillow,
OpenCV or a video reader is ``uint8 [H, W, 3]``; these functions take it as it is, and say in a sentence what cannot
be a frame or a mask.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from .errors import TutorialError

FrameLike: TypeAlias = "Tensor | np.ndarray[Any, Any]"
"""``[3, H, W]``, or for NumPy arrays also ``[H, W, 3]``; uint8, or float in [0, 1]."""
MaskLike: TypeAlias = "Tensor | np.ndarray[Any, Any]"
"""``[H, W]`` of ids 0..255 in any integer type, or bool for one object."""


def as_float(frames: Tensor, name: str = "the frames") -> Tensor:
    """Frames as ``float32`` in [0, 1]; uint8 is divided by 255, floats must be in range already.

    Args:
        frames: any shape.
        name: what errors call them.

    Raises:
        TutorialError: if a value is NaN, infinite or outside [0, 1], or the type is no picture's.
    """
    if frames.dtype == torch.uint8:
        return frames.float() / 255
    if not frames.is_floating_point():
        raise TutorialError(f"{name} are {frames.dtype}; pass uint8, or floats in [0, 1].")
    frames = frames.float()
    if not torch.isfinite(frames).all():
        raise TutorialError(f"{name}: some values are NaN or infinite; look at how they were read or augmented.")
    low, high = (float(frames.min()), float(frames.max())) if frames.numel() else (0.0, 0.0)
    if low < 0 or high > 1:
        raise TutorialError(
            f"{name}: floats must lie in [0, 1], these span [{low:.3g}, {high:.3g}]; divide by 255, or pass uint8."
        )
    return frames


def _colours_first(value: FrameLike, axes: int, name: str) -> Tensor:
    """A tensor whose third axis from the end has three entries; NumPy arrays may have them last."""
    if isinstance(value, np.ndarray):
        if value.ndim == axes and value.shape[-1] == 3 and value.shape[-3] != 3:
            value = np.moveaxis(value, -1, -3)
        elif value.ndim == axes and value.shape[-1] == 3 == value.shape[-3]:
            raise TutorialError(
                f"{name} have the shape {list(value.shape)}, in which colours could come first or last; "
                "pass a tensor with the colours first, torch.from_numpy(...)."
            )
        try:  # some video readers and scientific formats give the other byte order
            value = torch.from_numpy(np.ascontiguousarray(value, dtype=value.dtype.newbyteorder("=")))
        except TypeError:
            raise TutorialError(f"{name} are an array of {value.dtype}; pass uint8, or floats in [0, 1].") from None
    if not isinstance(value, Tensor):
        raise TutorialError(f"{name} must be a tensor or a NumPy array, got {type(value).__name__}.")
    if value.ndim != axes or value.shape[-3] != 3 or 0 in value.shape:
        leading = "T, " if axes == 4 else ""
        raise TutorialError(
            f"{name} must be [{leading}3, H, W] (NumPy arrays also [{leading}H, W, 3]) and not empty, "
            f"got {list(value.shape)}."
        )
    return value


def as_frames(frames: FrameLike, name: str = "the frames") -> Tensor:
    """A clip's frames ``[T, 3, H, W]`` as a tensor, colours first; the values stay as they are.

    Args:
        frames: a tensor ``[T, 3, H, W]``, or a NumPy array of this shape or ``[T, H, W, 3]``.
        name: what errors call them.

    Raises:
        TutorialError: if it has another shape.
    """
    return _colours_first(frames, 4, name)


def as_frame(frame: FrameLike, name: str = "the frame") -> Tensor:
    """One frame as ``float32 [3, H, W]`` in [0, 1]; see :func:`as_frames` and :func:`as_float`."""
    return as_float(_colours_first(frame, 3, name), name)


def as_mask(mask: MaskLike, name: str = "the mask") -> Tensor:
    """A mask as ``uint8 [H, W]`` of ids: 0 background, 1..254 objects, 255 void; True becomes id 1.

    Args:
        mask: a tensor or NumPy array ``[H, W]`` of integers in 0..255, or bool.
        name: what errors call it.

    Raises:
        TutorialError: if the shape, the type or a value is another.
    """
    given = mask
    if isinstance(mask, np.ndarray) and mask.dtype.kind in "biu":
        mask = torch.from_numpy(mask.astype(np.int64) if mask.dtype.itemsize > 1 else np.ascontiguousarray(mask))
    if not isinstance(mask, Tensor) or mask.ndim != 2 or mask.is_floating_point() or mask.is_complex():
        shape = list(given.shape) if isinstance(given, (Tensor, np.ndarray)) else ""
        kind = given.dtype if isinstance(given, (Tensor, np.ndarray)) else type(given).__name__
        raise TutorialError(f"{name} must be uint8 ids [H, W], got {kind} {shape}.")
    if mask.numel() and mask.dtype not in (torch.uint8, torch.bool):
        low, high = int(mask.min()), int(mask.max())
        if low < 0 or high > 255:
            raise TutorialError(f"{name} holds ids from {low} to {high}; ids lie in 0..255.")
    return mask.to(torch.uint8)


def require_same_size(
    mask: Tensor, size: tuple[int, ...], name: str = "the mask", frames: str = "the frames are"
) -> None:
    """Raise TutorialError unless ``mask [H, W]`` has the size ``(H, W)``.

    Args:
        mask: of any type.
        size: of the frames.
        name: what the error calls the mask.
        frames: what it calls the frames, with a verb.
    """
    if tuple(mask.shape) != tuple(size):
        raise TutorialError(
            f"{name} is {mask.shape[0]}x{mask.shape[1]} but {frames} {size[0]}x{size[1]}; "
            "resize the mask with nearest-neighbour interpolation."
        )
