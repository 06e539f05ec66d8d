"""Pictures that a notebook shows, each with a text that says what you can see in it.

Every notebook shows its pictures through :func:`show`, which asks for that text. The functions that make
pictures return a matplotlib ``Figure`` and show nothing, so that they can be tested and saved.
"""

from __future__ import annotations

from .charts import bars, cobweb, curves
from .masks import (
    ERRORS,
    FALSE_ALARM,
    MISS,
    OK,
    WRONG_OBJECT,
    Pixels,
    as_ids,
    as_picture,
    contact_sheet,
    error_kinds,
    error_map,
    gallery,
    key_frames,
    overlay,
    pixels,
)
from .palette import (
    BLUE,
    DPI,
    FAINT,
    GREEN,
    INK,
    ORANGE,
    PAPER,
    PURPLE,
    SKY,
    STYLE,
    VERMILLION,
    WIDTH,
    YELLOW,
    blank,
    object_colours,
    style,
)
from .show import MAX_PNG_BYTES, show, small_png, to_png

__all__ = [
    "BLUE", "DPI", "ERRORS", "FAINT", "FALSE_ALARM", "GREEN", "INK", "MAX_PNG_BYTES", "MISS", "OK", "ORANGE", "PAPER",
    "PURPLE", "SKY", "STYLE", "VERMILLION", "WIDTH", "WRONG_OBJECT", "YELLOW", "Pixels", "as_ids", "as_picture",
    "bars", "blank", "cobweb", "contact_sheet", "curves", "error_kinds", "error_map", "gallery", "key_frames",
    "object_colours", "overlay", "pixels", "show", "small_png", "style", "to_png",
]  # fmt: skip
