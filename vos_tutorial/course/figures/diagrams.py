"""Diagrams by declaration: which parts there are, which row and column they stand in, and what flows where.

The vocabulary is small: :class:`Frame`, :class:`Mask`, :class:`FeatureMap` (a slab whose height is its resolution and
whose depth its channels), :class:`Operation`, :class:`Concat`, :class:`Block` (a matrix), :class:`Sign`,
:class:`Loss` and :class:`Arrow`. A :class:`Diagram` puts them into a grid, written as matplotlib's
``subplot_mosaic`` is: rows of names, a dot for an empty place. Sizes, positions, the routes of the arrows, the legend
and the alt text follow from that (``placement``, ``routes``, ``drawing``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from ...errors import TutorialError
from .palette import Role

Flow = Literal["data", "skip", "carried", "gradient", "stopped"]

FLOWS: dict[Flow, str] = {  # in the legend and the alt text
    "data": "data",
    "skip": "skip connection",
    "carried": "carried on",
    "gradient": "gradient",
    "stopped": "no gradient passes",
}

# --- Parts -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Part:
    """One thing of a diagram.

    Args:
        label: its name, which should be the code's.
        role: what it stands for; gives colour and pattern.
        note: a second line, instead of the shape.
    """

    label: str
    role: Role = "input"
    note: str = ""

    @property
    def lines(self) -> list[str]:
        """What is written below it."""
        return [line for line in (*self.label.split("\n"), self.note) if line]

    @property
    def words(self) -> str:
        """What the alt text calls it."""
        return " ".join(self.lines)


@dataclass(frozen=True)
class Frame(Part):
    """A picture ``uint8 [H, W, 3]``; without one, a sign for it."""

    picture: np.ndarray | None = field(default=None, repr=False, compare=False)
    size: tuple[int, int] | None = None


@dataclass(frozen=True)
class Mask(Frame):
    """A mask, drawn as a picture ``uint8 [H, W, 3]``."""


@dataclass(frozen=True)
class FeatureMap(Part):
    """Feature maps ``[C, h, w]``; ``surface [h, w]`` in 0..1 is painted upon its front."""

    shape: tuple[int, int, int] = (1, 1, 1)
    stack: int = 1
    surface: np.ndarray | None = field(default=None, repr=False, compare=False)

    @property
    def lines(self) -> list[str]:
        """Name and shape."""
        times = f"{self.stack} of " if self.stack > 1 else ""
        return [*self.label.split("\n"), self.note or times + "×".join(map(str, self.shape))]


@dataclass(frozen=True)
class Operation(Part):
    """A function: its name stands inside a box."""


@dataclass(frozen=True)
class Concat(Part):
    """Maps laid behind each other (``label="cat"``), or added (``label="+"``): a small circle."""


@dataclass(frozen=True)
class Sign(Part):
    """A sign of arithmetic between blocks."""


@dataclass(frozen=True)
class Loss(Part):
    """A number to be made small."""

    role: Role = "loss"


@dataclass(frozen=True)
class Block(Part):
    """A matrix: a rectangle with the length of each side written beside it.

    Args:
        sides: ``(name, length)`` of the rows and of the columns.
        surface: its values, ``[h, w]`` in 0..1.
    """

    sides: tuple[tuple[str, int], tuple[str, int]] = (("", 1), ("", 1))
    surface: np.ndarray | None = field(default=None, repr=False, compare=False)

    @property
    def words(self) -> str:
        """Name and size."""
        (rows, n), (columns, m) = self.sides
        return f"{self.label} [{rows} = {n}, {columns} = {m}]{', ' * bool(self.note)}{self.note}"


@dataclass(frozen=True)
class Arrow:
    """What flows from one part to another.

    Args:
        source, target: keys of the diagram's parts. A gradient runs from ``source`` to ``target`` as well, so name
            the later part first.
        flow: the kind of line.
        label: written beside it.
    """

    source: str
    target: str
    flow: Flow = "data"
    label: str = ""


# --- The diagram -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Diagram:
    """Parts in a grid, with arrows.

    Args:
        title: what is drawn; begins the alt text.
        parts: by key.
        layout: rows of keys, one line a row, ``.`` for an empty place. A part stands in one place.
        arrows: between parts.
        groups: by label, the keys of the parts that a frame is drawn around.
        roles: what the legend calls a role here, if not as everywhere.
        flows: what legend and alt text call a kind of line here, if not as everywhere.

    Raises:
        TutorialError: if layout, arrows or groups name a part that is not there, or a part has no place, or two.
    """

    title: str
    parts: Mapping[str, Part]
    layout: str
    arrows: Sequence[Arrow] = ()
    groups: Mapping[str, Sequence[str]] = field(default_factory=dict)
    roles: Mapping[Role, str] = field(default_factory=dict, kw_only=True)
    flows: Mapping[Flow, str] = field(default_factory=dict, kw_only=True)

    def __post_init__(self) -> None:
        placed = [key for row in self.rows for key in row if key != "."]
        if twice := sorted({key for key in placed if placed.count(key) > 1}):
            raise TutorialError(f"the diagram {self.title!r} places {twice[0]!r} twice; give each part one place.")
        if lost := [key for key in self.parts if key not in placed]:
            raise TutorialError(f"the diagram {self.title!r} has no place for {lost[0]!r}; add it to the layout.")
        named = [*placed, *(end for a in self.arrows for end in (a.source, a.target))]
        named += [key for keys in self.groups.values() for key in keys]
        if unknown := [key for key in named if key not in self.parts]:
            raise TutorialError(
                f"the diagram {self.title!r} has no part {unknown[0]!r}; its parts are {', '.join(self.parts)}."
            )

    @property
    def rows(self) -> list[list[str]]:
        """The layout, row by row."""
        return [line.split() for line in self.layout.strip().splitlines() if line.strip()]

    @property
    def alt(self) -> str:
        """What the diagram shows, in words: each part, and where its arrows lead."""
        sentences = [f"Diagram: {self.title}."]
        for key in dict.fromkeys(key for row in self.rows for key in row if key != "."):
            leads: dict[Flow, list[str]] = {}
            for arrow in self.arrows:
                if arrow.source == key:
                    leads.setdefault(arrow.flow, []).append(self.parts[arrow.target].label.replace("\n", " "))
            kinds = ["" if flow == "data" else f"{self.flows.get(flow, FLOWS[flow])}: " for flow in leads]
            ends = "; ".join(kind + ", ".join(targets) for kind, targets in zip(kinds, leads.values(), strict=True))
            words = self.parts[key].words
            sentences.append(f"{words} → {ends}." if ends else f"{words}.")
        return " ".join(sentences)
