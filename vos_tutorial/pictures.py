"""Frames and masks from files: the one reader of every loader.

A picture file can say more than its pixels: which way up it is (EXIF), what shows through (alpha), how bright white
is (8 or 16 bits). Each mode and depth has one right reading here, or is refused in a sentence; nothing is left to a
decoder's conversions.
"""

from __future__ import annotations

import os
import struct
import warnings
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from .errors import TutorialError
from .files import cannot_read

VOID = 255  # of no object: the annotator could not say

ORIENTATION = 0x0112  # the EXIF tag
SMALL_ID = 32  # from here on a grey level may be a shade, and it takes a look at its neighbours to know
NEARLY_WHITE = 224  # shades up here come from a lossy or smooth white, not from so many objects
SMALLEST_STEP = 16
READABLE = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr")
LOSSY = ("JPEG", "MPO", "WEBP", "JPEG2000")
Levels = NDArray[np.uint8]
Meaning = Literal["ids", "grey", "lossy"]  # ids for certain; ids or black and white; the same, through a lossy file


def read_frame(path: str | os.PathLike[str]) -> Tensor:
    """An RGB picture from a file, upright as its EXIF data say: ``uint8 [3, H, W]``.

    White of a 16-bit picture is 65535, as PNG has it. An alpha channel must be opaque everywhere.

    Raises:
        TutorialError: if the file is missing, may not be read, is truncated, no image or several; if it is
            transparent in places, or its mode has no agreed white (32-bit integers, floats, LAB).
    """
    path = Path(path)
    image, kind = _open(path, "frame")
    if _is_16_bit(image, kind):
        wide = np.asarray(image).astype(np.uint32)
        image = Image.fromarray(((wide * 255 + 32767) // 65535).astype(np.uint8))
    if image.mode not in READABLE:
        raise TutorialError(
            f"frame {path} is a {image.mode} picture, and nothing says which of its values is white; save it with 8 "
            "or 16 bits a channel."
        )
    if "A" in image.getbands() or "transparency" in image.info:
        image = image.convert("RGBA")
        if image.getchannel("A").getextrema()[0] != 255:
            raise TutorialError(
                f"frame {path} is transparent in places, and nothing says what shows through; save it on a "
                "background."
            )
    pixels = np.array(image if image.mode == "RGB" else image.convert("RGB"))  # [H, W, 3]
    return torch.from_numpy(pixels).permute(2, 0, 1).contiguous()  # [3, H, W]


def read_mask(path: str | os.PathLike[str], binary: bool = False) -> Tensor:
    """Object ids from a palette or grey picture, upright as its EXIF data say: ``uint8 [H, W]``.

    Grey saved in colour is grey (DAVIS-2016 holds such a mask, ``bear/00077.png``), 16 bits with values that 8 can
    hold are those, and a 1-bit picture holds ids 0 and 1.

    Args:
        path: the file.
        binary: read as DAVIS-2016 does, where every non-zero value (usually 255) is *the* object, id 1. Soft edges
            are cut at 127, with a warning. A mask in the alpha channel is taken where the colours do not contradict.

    Raises:
        TutorialError: if the file is missing, may not be read or is truncated; if it is a colour picture (whose
            colours are not ids), or one of shades (soft edges, JPEG) where ids are wanted, or shows neither black nor
            white.
    """
    path = Path(path)
    levels, meaning = _levels(path, alpha=binary)
    shaded = meaning == "lossy" or (meaning == "grey" and has_shades(levels))
    if shaded and not binary:
        raise TutorialError(
            f"mask {path} has soft edges or lossy compression ({len(np.unique(levels))} grey levels), and a mask "
            "holds one id per pixel; save it as PNG, unsmoothed."
        )
    if shaded:
        levels = _cut(levels, path)
    return torch.from_numpy((levels != 0).astype(np.uint8) if binary else levels)  # [H, W]


def read_object(path: str | os.PathLike[str]) -> Tensor:
    """The object of a still picture's mask: ``bool [H, W]``.

    Ids and black-and-white masks are told apart by the values of the file. Where there are ids, all of them together
    are the object, and 255 is its void outline; where 255 is the only value, it is the object. Soft edges are cut at
    127, with a warning.

    Raises:
        TutorialError: as :func:`read_mask`.
    """
    path = Path(path)
    levels, meaning = _levels(path, alpha=True)
    if meaning == "lossy" or (meaning == "grey" and has_shades(levels)):
        return torch.from_numpy(_cut(levels, path) != 0)  # [H, W]
    ids = (levels != 0) & (levels != VOID)
    return torch.from_numpy(ids if ids.any() else levels == VOID)  # [H, W]


def size_of(path: str | os.PathLike[str]) -> tuple[int, int]:
    """``(H, W)`` of a mask in pixels, upright.

    Raises:
        TutorialError: as :func:`read_mask`.
    """
    image, _ = _open(Path(path), "mask")
    return image.height, image.width


def has_shades(levels: Levels) -> bool:
    """Whether a grey picture is black and white with soft edges, and not ids.

    Ids border on each other as they please. A shade lies *between*: next to a pixel that is darker and one that is
    brighter. Nearly white levels beside others come from a white that was smoothed or compressed, unless all levels
    are steps of one size (36, 72, ..., 252), as some tools number objects.

    Args:
        levels: ``uint8 [H, W]``.
    """
    found = np.flatnonzero(np.bincount(levels.ravel(), minlength=256))
    shades = found[(found >= SMALL_ID) & (found < VOID)]
    if not len(shades):
        return False
    step = np.gcd.reduce(found[found < VOID])
    if shades[-1] >= NEARLY_WHITE and len(found[found > 0]) > 1 and step < SMALLEST_STEP:
        return True
    padded = np.pad(levels, 1, mode="edge")
    around = np.stack([padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:]])  # [4, H, W]
    between = (around.min(0) < levels) & (levels < around.max(0))  # [H, W]
    return bool(between[np.isin(levels, shades)].mean() > 0.5)


def _cut(levels: Levels, path: Path) -> Levels:
    """Shades as black and white, ``uint8 [H, W]`` of 0 and 255, with a warning that is given once a folder."""
    if (levels > 127).sum() == 0 or ((levels >= 64) & (levels < 192)).mean() > 0.5:
        raise TutorialError(
            f"mask {path} is a picture of grey shades with hardly any black and white, so it is not a mask; put the "
            "right file there, or save it with two values."
        )
    warnings.warn(f"masks in {path.parent} have soft edges or lossy compression; they are cut at 127", stacklevel=3)
    return np.where(levels > 127, np.uint8(255), np.uint8(0))


def _levels(path: Path, alpha: bool) -> tuple[Levels, Meaning]:
    """One value for each pixel of a mask file, ``uint8 [H, W]``, and what it may mean.

    Args:
        path: the file.
        alpha: whether a mask may be painted in the alpha channel.
    """
    image, kind = _open(path, "mask")
    refusal = TutorialError(
        f"mask {path} is a {image.mode} picture, but a mask holds one id per pixel; "
        "save it as a palette (mode P) or grey (mode L) PNG."
    )
    if image.mode == "1":
        return np.array(image, dtype=np.uint8), "ids"
    if image.mode == "P":
        return np.array(image), "ids"
    meaning: Meaning = "lossy" if kind in LOSSY else "grey"
    if image.mode == "L":
        return np.array(image), meaning
    if image.mode in ("I", "F") or image.mode.startswith("I;"):
        wide = np.asarray(image).astype(np.float64)
        if np.isin(wide, (0, 65535)).all():
            return np.where(wide > 0, 255, 0).astype(np.uint8), meaning
        if wide.min() >= 0 and wide.max() <= 255 and (wide == np.round(wide)).all():
            return wide.astype(np.uint8), meaning
        raise refusal
    if image.mode not in ("LA", "PA", "RGB", "RGBA"):
        raise refusal
    if image.mode == "PA":
        if image.getchannel("A").getextrema() != (255, 255):
            raise refusal
        return np.array(image.getchannel(0)), "ids"
    *colours, last = (np.array(channel) for channel in image.split())
    colours, opaque = ([*colours, last], None) if image.mode == "RGB" else (colours, last)
    if not all(np.array_equal(colours[0], other) for other in colours[1:]):
        raise refusal
    if opaque is None or opaque.min() == 255:
        return colours[0], meaning
    # A mask may be in the grey or in the alpha: clear where one of them says nothing, or both say the same.
    same_grey = colours[0].min() == colours[0].max()
    if alpha and opaque.max() > 127 and (same_grey or np.array_equal(colours[0] > 127, opaque > 127)):
        return opaque, meaning
    raise TutorialError(
        f"mask {path} is a {image.mode} picture that is transparent in places, and nothing says whether the mask is "
        "in its colours or in its alpha channel; save it as a palette (mode P) or grey (mode L) PNG."
    )


def _is_16_bit(image: Image.Image, kind: str) -> bool:
    """Grey of 16 bits; older versions of Pillow open such PNGs as 32-bit integers."""
    return image.mode.startswith("I;16") or (image.mode == "I" and kind == "PNG")


def _open(path: Path, what: str) -> tuple[Image.Image, str]:
    """A picture turned upright, and the format of its file ("PNG", "JPEG", ...).

    Args:
        path: the file.
        what: "frame" or "mask", for messages.
    """
    try:
        with Image.open(path) as image:
            kind = image.format or ""
            if getattr(image, "n_frames", 1) > 1 and kind != "MPO":  # MPO: a photo with previews of itself
                raise TutorialError(f"{what} {path} holds several pictures; save each in a file of its own.")
            image.load()
            turned = image.getexif().get(ORIENTATION, 1) in range(2, 9)
            return (ImageOps.exif_transpose(image) if turned else image), kind
    except UnidentifiedImageError:
        raise TutorialError(
            f"{what} {path} cannot be read: it is not an image, or truncated; copy it again."
        ) from None
    except (PermissionError, FileNotFoundError, IsADirectoryError) as error:
        raise cannot_read(what, path, error, "unpack the data set again") from None
    # Pillow's PNG reader lets SyntaxError, ValueError and struct.error out where a file is damaged.
    except (OSError, SyntaxError, ValueError, struct.error, Image.DecompressionBombError) as error:
        raise TutorialError(
            f"{what} {path} cannot be read ({error}): it is truncated or damaged; copy it again."
        ) from None
