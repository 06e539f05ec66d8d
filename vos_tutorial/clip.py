"""A clip: frames, masks of object ids, and the two forms a mask takes.

A mask is stored the way DAVIS stores it, one ``uint8`` id per pixel: 0 is background, 1..254 are
objects, 255 is *void* (the annotator could not say). Networks want one channel per object instead.
This module holds both forms, the way from one to the other, and the palette that gives an id its colour;
:mod:`vos_tutorial.pictures` reads frames and masks from files.
"""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from .errors import TutorialError
from .files import write_atomically
from .pictures import VOID as VOID
from .pictures import read_frame as read_frame
from .pictures import read_mask as read_mask

ALL: tuple[int, ...] = (-1,)
"""For :attr:`Clip.annotated`: every frame. An empty tuple says that none is."""


def object_ids(mask: Tensor) -> list[int]:
    """The object ids in ``mask`` (uint8, any shape), sorted; background (0) and void (255) are none."""
    return [int(i) for i in torch.unique(mask) if int(i) not in (0, VOID)]


@dataclass(frozen=True, eq=False)
class Clip:
    """A short video with the masks of its objects.

    Attributes:
        frames: ``uint8 [T, 3, H, W]``, RGB.
        masks: ``uint8 [T, H, W]``, object ids; 0 background, 255 void.
        name: what tables and files call it.
        attributes: what makes it hard, in DAVIS's sense (``"occlusion"``, ...), sorted.
        annotated: frames that have a mask (YouTube-VOS annotates every fifth), ascending; all by default, none if
            empty.
        complete: whether the masks of these frames show every object. Those of YouTube-VOS's valid and test sets do
            not: they show the objects that are new there, and 0 means "not labelled". Such a clip cannot be scored.

    Raises:
        TutorialError: if shapes or dtypes are not as above, the clip has no frame, or ``annotated`` names one that
            is not there.
    """

    frames: Tensor
    masks: Tensor
    name: str = "clip"
    attributes: tuple[str, ...] = ()
    annotated: tuple[int, ...] = ALL
    complete: bool = True

    def __post_init__(self) -> None:
        if self.frames.ndim != 4 or self.frames.shape[1] != 3 or self.frames.dtype != torch.uint8:
            raise TutorialError(
                f"clip {self.name!r}: frames must be uint8 [T, 3, H, W], got "
                f"{self.frames.dtype} {list(self.frames.shape)}."
            )
        if self.masks.dtype != torch.uint8:
            raise TutorialError(f"clip {self.name!r}: masks must be uint8 object ids, got {self.masks.dtype}.")
        expected = (self.frames.shape[0], *self.frames.shape[2:])
        if tuple(self.masks.shape) != expected:
            raise TutorialError(
                f"clip {self.name!r}: masks are {list(self.masks.shape)} but the frames need {list(expected)}."
            )
        if self.frames.shape[0] == 0:
            raise TutorialError(f"clip {self.name!r} has no frame.")
        if self.annotated == ALL:
            object.__setattr__(self, "annotated", tuple(range(len(self))))
        if sorted(set(self.annotated)) != list(self.annotated) or not set(self.annotated) <= set(range(len(self))):
            raise TutorialError(
                f"clip {self.name!r}: the annotated frames are {list(self.annotated)}; give ascending numbers of "
                f"0..{len(self) - 1}, each once."
            )

    def __eq__(self, other: object) -> bool:
        """Whether two clips show the same: frames, masks, name, attributes and what is annotated."""
        if not isinstance(other, Clip):
            return NotImplemented
        told = (self.name, self.attributes, self.annotated, self.complete)
        return (
            told == (other.name, other.attributes, other.annotated, other.complete)
            and torch.equal(self.frames, other.frames)
            and torch.equal(self.masks, other.masks)
        )

    def __hash__(self) -> int:
        return hash((self.name, self.attributes, self.annotated, self.complete, self.frames.shape))

    def __len__(self) -> int:
        return self.frames.shape[0]

    @property
    def size(self) -> tuple[int, int]:
        """``(H, W)`` in pixels."""
        return self.frames.shape[2], self.frames.shape[3]

    @property
    def objects(self) -> list[int]:
        """The ids that occur anywhere in the clip, sorted."""
        return object_ids(self.masks)

    @property
    def first_mask(self) -> Tensor:
        """``uint8 [H, W]``: what a semi-supervised method is given."""
        return self.masks[0]

    def __repr__(self) -> str:
        h, w = self.size
        tags = f", {'+'.join(self.attributes)}" if self.attributes else ""
        return f"Clip({self.name!r}, T={len(self)}, {h}x{w}, objects={self.objects}{tags})"


def _require_ids(objects: Sequence[int]) -> None:
    wrong = [i for i in objects if not 1 <= i < VOID]
    if wrong:
        raise TutorialError(f"an object has the id {wrong[0]}, but ids go from 1 to 254; renumber the objects.")


def ids_to_onehot(ids: Tensor, objects: Sequence[int]) -> Tensor:
    """One channel per object: ``uint8 [..., H, W]`` ids -> ``bool [..., O, H, W]``.

    Void and ids that are not in ``objects`` belong to no channel.

    Raises:
        TutorialError: if an object's id is outside 1..254.
    """
    _require_ids(objects)
    wanted = torch.tensor(list(objects), dtype=ids.dtype, device=ids.device).reshape(-1, 1, 1)
    return ids.unsqueeze(-3) == wanted


def onehot_to_ids(onehot: Tensor, objects: Sequence[int]) -> Tensor:
    """Back from one channel per object: ``[..., O, H, W]`` (bool or 0/1) -> ``uint8 [..., H, W]`` ids.

    Channels must not overlap; where they do, the object that comes last in ``objects`` is on top.

    Raises:
        TutorialError: if an object's id is outside 1..254, or there is not one channel per object.
    """
    _require_ids(objects)
    if onehot.shape[-3] != len(objects):
        raise TutorialError(f"there are {onehot.shape[-3]} channels for {len(objects)} objects; give one for each.")
    ids = torch.zeros(*onehot.shape[:-3], *onehot.shape[-2:], dtype=torch.uint8, device=onehot.device)
    for channel, object_id in enumerate(objects):
        ids[onehot[..., channel, :, :].bool()] = object_id
    return ids


def davis_palette() -> np.ndarray:
    """The colours of DAVIS and PASCAL VOC: ``uint8 [256, 3]``, row = object id.

    Each id's bits are dealt out, lowest first, to the top bits of red, green and blue, so that
    neighbouring ids get far-apart colours: 1 is dark red, 2 dark green, 3 dark yellow.
    """
    palette = np.zeros((256, 3), dtype=np.uint8)
    for object_id in range(256):
        rest = object_id
        for bit in range(7, -1, -1):
            for channel in range(3):
                palette[object_id, channel] |= (rest & 1) << bit
                rest >>= 1
    return palette


def encode_mask(ids: Tensor, path: str | os.PathLike[str] = "mask") -> bytes:
    """Ids ``uint8 [H, W]`` as the bytes of a palette PNG with DAVIS's colours.

    Raises:
        TutorialError: naming ``path``, if ``ids`` is of another kind.
    """
    if ids.dtype != torch.uint8 or ids.ndim != 2:
        raise TutorialError(
            f"mask {path} was not written: it is {ids.dtype} {list(ids.shape)}, and must be uint8 ids [H, W]."
        )
    image = Image.fromarray(ids.cpu().numpy())
    image.putpalette(davis_palette().tobytes())
    png = io.BytesIO()
    image.save(png, format="PNG")
    return png.getvalue()


def write_mask(path: str | os.PathLike[str], ids: Tensor) -> None:
    """Write ids as a palette PNG with DAVIS's colours; the file appears whole or not at all.

    Args:
        path: ends in ``.png``; its folder is made if missing.
        ids: ``uint8 [H, W]``.

    Raises:
        TutorialError: if ``ids`` is of another kind, or the file cannot be written (full disk, no permission).
    """
    write_atomically(Path(path), encode_mask(ids, path))
