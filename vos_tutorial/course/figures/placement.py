"""Where the parts of a diagram stand, and how large they are; inches, from the lower left corner."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from typing import NamedTuple

from matplotlib.font_manager import FontProperties
from matplotlib.textpath import TextToPath

from .diagrams import FLOWS, Block, Concat, Diagram, FeatureMap, Flow, Frame, Loss, Mask, Operation, Part, Sign
from .palette import ROLES, Role
from .routes import Box

LARGEST = 0.58  # side of the largest frame or map
SLOPE = (0.62, 0.5)  # how a slab's depth runs, right and up
BACK = 0.07  # between the slabs of a stack
SMALL, TINY = 8.0, 7.0  # points
LINE_HEIGHT = 0.125  # of a label
NARROWEST, WIDEST = 0.16, 0.42  # gap between columns
EDGE = 0.25  # left and right of everything
MARGIN = 0.17  # of a block, for the upright label of its rows
UNLABELLED = Operation | Concat | Sign | Loss  # their name stands inside


@functools.cache
def text_width(text: str, size: float = TINY) -> float:
    """Of a line of text, in inches."""
    width, _, _ = TextToPath().get_text_width_height_descent(text, FontProperties(size=size), False)
    return float(width) / 72


class Placement:
    """Where everything stands.

    ``bodies`` are what is drawn, ``boxes`` hold the labels as well, and arrows begin and end at ``ports``; each by
    the part's key. ``columns`` are the grid's, ``foot`` is the height of the legend.

    Args:
        diagram: to be placed.
        max_width: gaps between columns shrink until it fits, as far as they can.
    """

    def __init__(self, diagram: Diagram, max_width: float = 9.0) -> None:
        self.diagram = diagram
        sizes = [size for part in diagram.parts.values() if (size := _resolution(part)) is not None]
        self._tallest = max(map(max, sizes), default=1)
        widths = self._widths()
        gap = min(WIDEST, max(NARROWEST, (max_width - 0.3 - sum(widths)) / len(widths)))
        lefts = [EDGE + sum(widths[:c]) + gap * c for c in range(len(widths))]
        self.columns = [(left, left + width) for left, width in zip(lefts, widths, strict=True)]
        self.width = self.columns[-1][1] + EDGE
        self.legend, lines = _legend(diagram, self.width)
        self.foot = 0.06 + 0.2 * lines if lines else 0.0
        centres, self.height = self._heights()
        self.bodies: dict[str, Box] = {}
        self.ports: dict[str, Box] = {}
        self.boxes: dict[str, Box] = {}
        for r, c, key in self._cells():
            self._place(key, sum(self.columns[c]) / 2, centres[r])

    def _cells(self) -> Iterator[tuple[int, int, str]]:
        """Row, column and key of each part."""
        for r, row in enumerate(self.diagram.rows):
            yield from ((r, c, key) for c, key in enumerate(row) if key != ".")

    def _widths(self) -> list[float]:
        """Of the columns: that of the widest part. A group of one column needs room for most of its title."""
        widths = [0.0] * max(map(len, self.diagram.rows))
        for _, c, key in self._cells():
            part = self.diagram.parts[key]
            widths[c] = max(widths[c], self.body_size(part)[0], self._label_width(part))
        for label, keys in self.diagram.groups.items():
            columns = {c for _, c, key in self._cells() if key in keys}
            if len(columns) == 1:
                column = columns.pop()
                widths[column] = max(widths[column], text_width(label, SMALL) - 0.18)
        return widths

    def _heights(self) -> tuple[list[float], float]:
        """The middles of the rows, and the height of the whole."""
        count = len(self.diagram.rows)
        above, below, title = [0.0] * count, [0.0] * count, [0.0] * count
        grouped = {key for keys in self.diagram.groups.values() for key in keys}
        for r, _, key in self._cells():
            part = self.diagram.parts[key]
            half = self.body_size(part)[1] / 2
            above[r], below[r] = max(above[r], half), max(below[r], half + self._label_height(part))
            title[r] = max(title[r], 0.14 * (key in grouped))
        y, centres = self.foot + 0.12, [0.0] * count
        for r in reversed(range(count)):
            centres[r] = y + below[r]
            y = centres[r] + above[r] + title[r] + 0.3
        return centres, y - 0.14

    def _place(self, key: str, x: float, y: float) -> None:
        part = self.diagram.parts[key]
        w, h = self.body_size(part)
        body = Box(x - w / 2, y - h / 2, x + w / 2, y + h / 2)
        wide = max(w, self._label_width(part)) / 2
        margin = MARGIN if isinstance(part, Block) else 0.0
        self.bodies[key] = body
        self.ports[key] = body._replace(left=body.left - margin)
        self.boxes[key] = Box(x - wide, body.bottom - self._label_height(part), x + wide, body.top)

    def front(self, key: str) -> Box:
        """Where a picture is painted: a frame, or the front of a slab."""
        part, body = self.diagram.parts[key], self.bodies[key]
        if not isinstance(part, FeatureMap):
            return body
        w, h = self.face(part.shape[1:])
        return Box(body.left, body.bottom, body.left + w, body.bottom + h)

    def share(self, box: Box) -> Box:
        """A box as shares of width and height, from the *upper* left corner, as a page counts."""
        w, h = self.width, self.height
        return Box(box.left / w, 1 - box.bottom / h, box.right / w, 1 - box.top / h)

    def body_size(self, part: Part) -> tuple[float, float]:
        """Width and height of what is drawn, without the label."""
        if isinstance(part, FeatureMap):
            w, h = self.face(part.shape[1:])
            depth, back = self.depth(part), BACK * (part.stack - 1)
            return w + depth * SLOPE[0] + back, h + depth * SLOPE[1] + back
        if isinstance(part, Frame):
            return self.face(part.size or (self._tallest, self._tallest))
        if isinstance(part, Block):
            (_, rows), (_, columns) = part.sides
            return _length(columns), _length(rows)
        if isinstance(part, Concat):
            return 0.26, 0.26
        if isinstance(part, Sign):
            return 0.16, 0.2
        lines = part.lines
        return max(text_width(line, SMALL) for line in lines) + 0.16, 0.15 * len(lines) + 0.14

    def face(self, size: tuple[int, int]) -> tuple[float, float]:
        """The front of a map or frame of ``(h, w)`` cells: an eighth of the resolution is half as high."""
        h, w = size
        long = LARGEST * (max(h, w) / self._tallest) ** (1 / 3)
        return long * w / max(h, w), long * h / max(h, w)

    @staticmethod
    def depth(part: FeatureMap) -> float:
        """How far a slab reaches back: 0.05 inches for each doubling of its channels."""
        return 0.05 * math.log2(1 + part.shape[0])

    @staticmethod
    def _label_height(part: Part) -> float:
        if isinstance(part, UNLABELLED):
            return 0.0
        return 0.05 + LINE_HEIGHT * (2 if isinstance(part, Block) else len(part.lines))

    @staticmethod
    def _label_width(part: Part) -> float:
        if isinstance(part, UNLABELLED):
            return 0.0
        if isinstance(part, Block):
            _, (columns, m) = part.sides
            return max(text_width(f"{columns} = {m}"), text_width(part.note), _length(m) + 2 * MARGIN)
        return max(text_width(line) for line in part.lines)


def _resolution(part: Part) -> tuple[int, int] | None:
    if isinstance(part, FeatureMap):
        return part.shape[1], part.shape[2]
    return part.size if isinstance(part, Frame) else None


def _length(n: int) -> float:
    """The side of a block: longer for more entries, equal for equal numbers."""
    return 0.2 + 0.11 * math.log2(1 + n)


class Entry(NamedTuple):
    """An entry of the legend: the role or the kind of line that it explains, in which words, and where it begins."""

    role: Role | None
    flow: Flow | None
    words: str
    x: float
    y: float


def _legend(diagram: Diagram, width: float) -> tuple[list[Entry], int]:
    """The roles and the kinds of line that need to be explained, and in how many lines."""
    roles = {part.role for part in diagram.parts.values() if isinstance(part, FeatureMap | Mask)}
    flows = {arrow.flow for arrow in diagram.arrows} - {"data"}
    entries: list[tuple[Role | None, Flow | None, str]] = [
        *((role, None, diagram.roles.get(role, look.words)) for role, look in ROLES.items() if role in roles),
        *((None, flow, diagram.flows.get(flow, words)) for flow, words in FLOWS.items() if flow in flows),
    ]
    placed, x, line = [], width, -1
    for role, flow, words in entries:
        if x + 0.31 + text_width(words) > width - 0.1:
            x, line = 0.25, line + 1
        placed.append(Entry(role, flow, words, x, -0.2 * line))
        x += 0.47 + text_width(words)
    return [entry._replace(y=entry.y + 0.14 + 0.2 * line) for entry in placed], line + 1
