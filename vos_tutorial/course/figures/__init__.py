"""Pictures that a notebook shows, each with a text that says what you can see in it.

Every notebook shows its pictures through :func:`show`, which asks for that text. The functions that make
pictures return a matplotlib ``Figure`` or a :class:`Diagram` and show nothing, so that they can be tested and saved.

``masks``, ``charts``, ``tables``, ``outlines``, ``motion`` and ``plane`` draw data. ``diagrams`` is the vocabulary of
diagrams; ``networks``, ``rollout``, ``players`` and ``products`` speak it; ``placement``, ``routes`` and ``drawing``
put it on paper.
"""

from __future__ import annotations

from . import networks, plane, products, tables
from .answers import answer, answer_sheet, heat_maps, heated, muted
from .charts import bars, cobweb, curves, differences
from .diagrams import Arrow, Block, Concat, Diagram, FeatureMap, Frame, Loss, Mask, Operation, Part, Sign
from .drawing import draw, to_svg
from .generated import captioned_sheet, step_grid
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
    pins,
    pixels,
)
from .motion import MAX_LOOP_BYTES, Loop, loop, loops
from .outlines import outlines
from .output import MAX_PNG_BYTES, show, small_png, to_png
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
from .players import two_players
from .rollout import unrolled

__all__ = [
    "BLUE", "DPI", "ERRORS", "FAINT", "FALSE_ALARM", "GREEN", "INK", "MAX_LOOP_BYTES", "MAX_PNG_BYTES", "MISS", "OK",
    "ORANGE", "PAPER", "PURPLE", "SKY", "STYLE", "VERMILLION", "WIDTH", "WRONG_OBJECT", "YELLOW", "Arrow", "Block",
    "Concat", "Diagram", "FeatureMap", "Frame", "Loop", "Loss", "Mask", "Operation", "Part", "Pixels", "Sign",
    "answer", "answer_sheet", "as_ids", "as_picture", "bars", "blank", "captioned_sheet", "cobweb", "contact_sheet",
    "curves", "differences", "draw", "error_kinds", "error_map", "gallery", "heat_maps", "heated", "key_frames",
    "loop", "loops", "muted", "networks", "object_colours", "outlines", "overlay", "pins", "pixels", "plane",
    "products", "show", "small_png", "step_grid", "style", "tables", "to_png", "to_svg", "two_players",
    "unrolled",
]  # fmt: skip
