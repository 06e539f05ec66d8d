"""Arrows that go around things: of all routes with right angles, the one with least length, bends and crossings."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise, product
from typing import NamedTuple, TypeAlias

from matplotlib.path import Path

Point: TypeAlias = tuple[float, float]
Route: TypeAlias = list[Point]

# How many inches of a way around each of them is worth.
BEND, CROSSING, COLLISION, OVERLAP, TWO_HEADS = 0.25, 0.12, 50.0, 6.0, 1.2
AIR = 0.03  # between a line and what it passes


class Box(NamedTuple):
    """A rectangle."""

    left: float
    bottom: float
    right: float
    top: float

    @property
    def centre(self) -> Point:
        """Its middle."""
        return (self.left + self.right) / 2, (self.bottom + self.top) / 2

    @property
    def corners(self) -> list[Point]:
        """From the lower left one, anticlockwise."""
        return [(self.left, self.bottom), (self.right, self.bottom), (self.right, self.top), (self.left, self.top)]


class Router:
    """Finds routes one after the other; later ones keep off the earlier ones.

    Args:
        bodies: of each part; routes begin and end at their edges.
        boxes: the parts with their labels, which no other route may cross.
        titles: more that must not be crossed.
        columns: left and right of each column of the grid.
        width, height, foot: of the drawing; nothing runs below ``foot``.
    """

    def __init__(
        self,
        bodies: Mapping[str, Box],
        boxes: Mapping[str, Box],
        titles: Sequence[Box],
        columns: Sequence[tuple[float, float]],
        width: float,
        height: float,
        foot: float,
    ) -> None:
        self.bodies, self.boxes, self.titles = bodies, boxes, titles
        edges = [0.0, *(x for column in columns for x in column), width]
        self.xs = [x for a, b in zip(edges[::2], edges[1::2], strict=True) for x in _lanes(a, b)]
        self.ys = [y for a, b in pairwise(_bands(boxes, foot, height)) for y in _lanes(a[1], b[0])]
        self.taken: list[tuple[str, str, Route]] = []

    def distance(self, source: str, target: str) -> float:
        """As the crow flies: short arrows are routed first."""
        return math.dist(self.bodies[source].centre, self.bodies[target].centre)

    def route(self, source: str, target: str) -> Route:
        """The best way from one part to another, remembered for those that follow.

        Where the way back is taken, it runs beside it.
        """
        for s, t, taken in self.taken:
            if (s, t) == (target, source):
                return beside(taken[::-1], 0.075)
        best: Route = []
        least = math.inf
        for route in sorted(self._candidates(source, target), key=_effort):
            if _effort(route) >= least:
                break  # what it meets can only add to it
            if (cost := self._cost(source, target, route)) < least:
                best, least = route, cost
        self.taken.append((source, target, best))
        return best

    def _candidates(self, source: str, target: str) -> Iterator[Route]:
        for (a, out), (b, into) in product(self._ports(source), self._ports(target)):
            if out == into == "h":
                if abs(a[1] - b[1]) < 1e-6:
                    yield [a, b]
                for x in self.xs:
                    yield [a, (x, a[1]), (x, b[1]), b]
                for x1, y, x2 in product(self.xs, self.ys, self.xs):
                    if abs(x1 - a[0]) < 0.5 and abs(x2 - b[0]) < 0.5:
                        yield [a, (x1, a[1]), (x1, y), (x2, y), (x2, b[1]), b]
            elif out == into == "v":
                if abs(a[0] - b[0]) < 1e-6:
                    yield [a, b]
                for y in self.ys:
                    yield [a, (a[0], y), (b[0], y), b]
            else:
                yield [a, (b[0], a[1]) if out == "h" else (a[0], b[1]), b]

    def _ports(self, key: str) -> list[tuple[Point, str]]:
        body, box = self.bodies[key], self.boxes[key]
        x, y = body.centre
        return [
            ((body.right + AIR, y), "h"), ((body.left - AIR, y), "h"),
            ((x, body.top + AIR), "v"), ((x, box.bottom - AIR / 2), "v"),
        ]  # fmt: skip

    def _cost(self, source: str, target: str, route: Route) -> float:
        segments = list(pairwise(route))
        cost = _effort(route)
        for (a, b), (_, c) in pairwise(segments):  # a line that turns back on itself
            cost += COLLISION * ((b[0] - a[0]) * (c[0] - b[0]) + (b[1] - a[1]) * (c[1] - b[1]) < -1e-9)
        obstacles = [box for key, box in self.boxes.items() if key not in (source, target)]
        own = [self.bodies[source], self.bodies[target]]
        for a, b in segments:
            cost += COLLISION * sum(_crosses(a, b, box) for box in [*obstacles, *own])
            cost += COLLISION / 5 * sum(_crosses(a, b, box) for box in self.titles)
        for s, t, taken in self.taken:
            # An arrow that leaves where another one arrives looks like one with two heads.
            cost += TWO_HEADS * ((route[0] == taken[-1]) + (route[-1] == taken[0]))
            shares = s == source or t == target
            for (a, b), (c, d) in product(segments, pairwise(taken)):
                cost += _meeting(a, b, c, d) * CROSSING + (0 if shares else _overlap(a, b, c, d) * OVERLAP)
        # Into the left, out of the right: the direction of reading.
        cost += 0.2 * (route[0][0] < self.bodies[source].left) + 0.2 * (route[-1][0] > self.bodies[target].right)
        return cost


def _effort(route: Route) -> float:
    """Length and bends."""
    return sum(math.dist(a, b) for a, b in pairwise(route)) + BEND * (len(route) - 2)


def _lanes(a: float, b: float) -> list[float]:
    """Places for lines between ``a`` and ``b``: the middle first, then beside it."""
    middle, step = (a + b) / 2, 0.08
    return [middle + k * step for k in (0, 1, -1, 2, -2) if abs(k) * step < (b - a) / 2 - AIR or k == 0]


def _bands(boxes: Mapping[str, Box], foot: float, height: float) -> list[tuple[float, float]]:
    """The heights that are taken, joined, from ``foot`` to ``height``."""
    bands = [(foot, foot)]
    for low, high in sorted((box.bottom, box.top) for box in boxes.values()):
        if low <= bands[-1][1]:
            bands[-1] = (bands[-1][0], max(high, bands[-1][1]))
        else:
            bands.append((low, high))
    return [*bands, (height, height)]


def _crosses(a: Point, b: Point, box: Box) -> bool:
    """Whether an upright or level segment runs through a box."""
    left, right = sorted((a[0], b[0]))
    low, high = sorted((a[1], b[1]))
    gap = AIR * 0.7
    level = low < box.top + gap / 4 and high > box.bottom - gap / 4
    return level and left < box.right + gap and right > box.left - gap


def _meeting(a: Point, b: Point, c: Point, d: Point) -> bool:
    """Whether an upright segment crosses a level one."""
    if (abs(a[0] - b[0]) < 1e-9) == (abs(c[0] - d[0]) < 1e-9):
        return False
    (x, y0, y1), (y, x0, x1) = ((a[0], a[1], b[1]), (c[1], c[0], d[0]))
    if abs(a[0] - b[0]) > 1e-9:
        (x, y0, y1), (y, x0, x1) = ((c[0], c[1], d[1]), (a[1], a[0], b[0]))
    return min(x0, x1) + 1e-6 < x < max(x0, x1) - 1e-6 and min(y0, y1) + 1e-6 < y < max(y0, y1) - 1e-6


def _overlap(a: Point, b: Point, c: Point, d: Point) -> float:
    """For how long two parallel segments lie upon (nearly) the same line."""
    for along in (0, 1):
        across = 1 - along
        level = abs(a[across] - b[across]) < 1e-9 and abs(c[across] - d[across]) < 1e-9
        if level and abs(a[across] - c[across]) < 0.05:
            low = max(min(a[along], b[along]), min(c[along], d[along]))
            return max(0.0, min(max(a[along], b[along]), max(c[along], d[along])) - low)
    return 0.0


def beside(route: Route, distance: float) -> Route:
    """The same route, ``distance`` to the left of its direction; level lines stay level, upright ones upright."""
    shifts = []
    for (x0, y0), (x1, y1) in pairwise(route):
        long = max(math.dist((x0, y0), (x1, y1)), 1e-9)
        shifts.append((-(y1 - y0) / long * distance, (x1 - x0) / long * distance))
    moved = []
    for i, (x, y) in enumerate(route):
        near = shifts[max(0, i - 1) : i + 1]
        moved.append((x + max((s[0] for s in near), key=abs), y + max((s[1] for s in near), key=abs)))
    return moved


def rounded(points: Sequence[Point], radius: float) -> tuple[list[Point], list[int]]:
    """Vertices and codes of a matplotlib path with rounded corners."""
    vertices: list[Point] = [points[0]]
    codes: list[int] = [int(Path.MOVETO)]
    for before, corner, after in zip(points[:-2], points[1:-1], points[2:], strict=True):
        r = min(radius, math.dist(before, corner) / 2, math.dist(corner, after) / 2)
        vertices += [_towards(corner, before, r), corner, _towards(corner, after, r)]
        codes += [int(Path.LINETO), int(Path.CURVE3), int(Path.CURVE3)]
    return [*vertices, points[-1]], [*codes, int(Path.LINETO)]


def _towards(start: Point, end: Point, length: float) -> Point:
    whole = math.dist(start, end)
    share = length / whole if whole else 0.0
    return start[0] + share * (end[0] - start[0]), start[1] + share * (end[1] - start[1])
