"""Draws a diagram, in the colours of a light or a dark page."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, get_args

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyBboxPatch, PathPatch, Polygon
from matplotlib.path import Path
from PIL import Image

from ...errors import TutorialError
from .diagrams import Arrow, Block, Concat, Diagram, FeatureMap, Flow, Frame, Loss, Mask, Part, Sign
from .masks import casing
from .palette import ROLES, THEMES, Role, Theme, ThemeName, mix, styled
from .placement import BACK, LINE_HEIGHT, SLOPE, SMALL, TINY, UNLABELLED, Entry, Placement, text_width
from .routes import Box, Point, Router, rounded

# Dash and role of each kind of line; without a role it has the colour of the text.
LINES: dict[Flow, tuple[Any, Role | None]] = {
    "data": ("-", None),
    "skip": ((0, (4, 1.6)), None),
    "carried": ((0, (1.2, 1.0)), "guide"),
    "gradient": ((0, (5, 1.4)), "loss"),
    "stopped": ((0, (5, 1.4)), "loss"),
}
BACKWARDS: tuple[Flow, ...] = ("gradient", "stopped")


@styled
def draw(diagram: Diagram, theme: ThemeName = "light", max_width: float = 9.0) -> Figure:
    """A diagram as a figure.

    Args:
        diagram: what to draw.
        theme: ``"light"`` or ``"dark"``.
        max_width: inches; gaps between columns shrink until it fits, as far as they can.

    Raises:
        TutorialError: if there is no such theme.
    """
    if theme not in get_args(ThemeName):
        raise TutorialError(f"there is no theme {theme!r}; choose light or dark.")
    place = Placement(diagram, max_width)
    figure = Figure(figsize=(place.width, place.height), dpi=100, facecolor=THEMES[theme].paper)
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, place.width), ylim=(0, place.height), aspect="equal")
    axes.axis("off")
    pen = _Pen(axes, THEMES[theme], place)
    titles = [pen.group(label, [place.boxes[key] for key in keys]) for label, keys in diagram.groups.items()]
    for key, part in diagram.parts.items():
        pen.part(part, place.bodies[key])
    router = Router(place.ports, place.boxes, titles, place.columns, place.width, place.height, place.foot)
    # Short ones first; gradients last, because they run beside what they follow back.
    for arrow in sorted(diagram.arrows, key=lambda a: (a.flow in BACKWARDS, router.distance(a.source, a.target))):
        pen.arrow(arrow, router.route(arrow.source, arrow.target))
    pen.legend(place.legend)
    return figure


def to_svg(figure: Figure, title: str = "") -> str:
    """A figure as SVG whose text stays text; the same figure gives the same text again.

    Args:
        figure: any.
        title: what a screen reader says it is; a diagram's ``alt``.
    """
    buffer = io.StringIO()
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "vos_tutorial"}):
        about = {"Date": None, "Creator": None, **({"Title": title} if title else {})}
        figure.savefig(buffer, format="svg", metadata=about)
    return buffer.getvalue()


class _Pen:
    """Draws parts and arrows onto axes whose units are inches."""

    def __init__(self, axes: Axes, theme: Theme, place: Placement) -> None:
        self.axes, self.theme, self.place = axes, theme, place

    def colour(self, role: Role) -> str:
        return ROLES[role].colour(self.theme)

    def pale(self, role: Role, share: float) -> str:
        return mix(self.colour(role), self.theme.paper, share)

    def edge(self, role: Role) -> str:
        return mix(self.colour(role), self.theme.ink, 0.35)

    # --- marks ---

    def shape(self, corners: Any, **look: Any) -> None:
        self.axes.add_patch(Polygon(corners, closed=True, **{"linewidth": 0, "zorder": 2, **look}))

    def outline(self, corners: Any, colour: str, width: float) -> None:
        self.shape(corners, fill=False, edgecolor=colour, linewidth=width, zorder=3)

    def rounded_box(self, box: Box, radius: float, **look: Any) -> None:
        style = f"round,pad=0,rounding_size={radius}"
        corner, size = (box.left, box.bottom), (box.right - box.left, box.top - box.bottom)
        self.axes.add_patch(FancyBboxPatch(corner, *size, boxstyle=style, **look))

    def text(self, x: float, y: float, words: str, size: float = TINY, **look: Any) -> None:
        look = {"color": self.theme.ink, "ha": "center", "va": "center", "zorder": 4, **look}
        self.axes.text(x, y, words, fontsize=size, **look)

    def picture(self, picture: np.ndarray, box: Box) -> None:
        limits = self.axes.get_xlim(), self.axes.get_ylim()
        extent = (box.left, box.right, box.bottom, box.top)
        # "none" keeps the pixels as they are: an SVG holds them once, and the browser enlarges them.
        self.axes.imshow(picture, extent=extent, zorder=2.5, aspect="auto", interpolation="none")
        self.axes.set(xlim=limits[0], ylim=limits[1])  # imshow moves them

    def surface(self, values: np.ndarray, box: Box, role: Role) -> None:
        """Values ``[h, w]`` in 0..1 in shades of a role's colour."""
        shades = LinearSegmentedColormap.from_list("role", [self.pale(role, 0.92), self.colour(role)])
        self.picture((shades(values)[..., :3] * 255).round().astype(np.uint8), box)

    # --- parts ---

    def group(self, label: str, boxes: Sequence[Box]) -> Box:
        """A frame around parts; returns the box of its title."""
        left, right = min(b.left for b in boxes) - 0.07, max(b.right for b in boxes) + 0.07
        short = max(0.0, text_width(label, SMALL) + 0.14 - (right - left)) / 2  # of the title
        left, right = left - short, right + short
        bottom, top = min(b.bottom for b in boxes) - 0.03, max(b.top for b in boxes) + 0.21
        box = Box(left, bottom, right, top)
        self.rounded_box(box, 0.08, facecolor=self.theme.ground, edgecolor=self.theme.line, linewidth=0.7, zorder=0)
        self.text(left + 0.07, top - 0.055, label, SMALL, color=self.theme.soft, ha="left", va="top")
        return Box(left + 0.07, top - 0.2, left + 0.07 + text_width(label, SMALL), top)

    def part(self, part: Part, body: Box) -> None:
        """A part in its place, with its label."""
        if isinstance(part, FeatureMap):
            self.slab(part, body)
        elif isinstance(part, Frame):
            self.frame(part, body)
        elif isinstance(part, Block):
            self.block(part, body)
        elif isinstance(part, Concat):
            look = {"facecolor": self.theme.paper, "edgecolor": self.theme.ink, "linewidth": 0.9, "zorder": 3}
            self.axes.add_patch(Circle(body.centre, 0.13, **look))
            size = SMALL + 3 if len(part.label) == 1 else TINY - 0.5
            self.text(*body.centre, part.label, size, va="center_baseline")
        elif isinstance(part, Sign):
            self.text(*body.centre, part.label, 15)
        else:
            self.operation(part, body)
        if not isinstance(part, UNLABELLED | Block):
            self.label(part.lines, body)

    def label(self, lines: Sequence[str], body: Box) -> None:
        """Lines below a part, the last one, if there are several, in softer ink."""
        for i, line in enumerate(lines):
            is_name = i < len(lines) - 1 or len(lines) == 1
            ink = self.theme.ink if is_name else self.theme.soft
            self.text(body.centre[0], body.bottom - 0.04 - LINE_HEIGHT * i, line, color=ink, va="top")

    def slab(self, part: FeatureMap, body: Box) -> None:
        w, h = self.place.face(part.shape[1:])
        depth = self.place.depth(part)
        shift = np.array([depth * SLOPE[0], depth * SLOPE[1]])
        edge = {"edgecolor": self.edge(part.role), "linewidth": 0.7, "joinstyle": "round"}
        for back in reversed(range(part.stack)):
            a = np.array([body.left, body.bottom]) + BACK * back
            b, c, d = a + np.array([w, 0]), a + np.array([w, h]), a + np.array([0, h])
            self.shape((d, c, c + shift, d + shift), facecolor=self.pale(part.role, 0.62), **edge)
            pattern = ROLES[part.role].hatch
            self.shape((b, c, c + shift, b + shift), facecolor=self.pale(part.role, 0.42), hatch=pattern, **edge)
            self.shape((a, b, c, d), facecolor=self.pale(part.role, 0.8), **edge)
        if part.surface is not None:
            front = Box(body.left, body.bottom, body.left + w, body.bottom + h)
            self.surface(part.surface, front, part.role)
            self.outline(front.corners, self.edge(part.role), 0.7)

    def frame(self, part: Frame, body: Box) -> None:
        if part.picture is not None:
            size = round(200 * (body.right - body.left)), round(200 * (body.top - body.bottom))
            self.picture(np.asarray(Image.fromarray(part.picture).resize(size, Image.Resampling.BICUBIC)), body)
        elif isinstance(part, Mask):
            self.mask_sign(part.role, body)
        else:
            self.frame_sign(part.role, body)
        self.outline(body.corners, self.colour(part.role), 1.5)

    def frame_sign(self, role: Role, body: Box) -> None:
        """Hills and a sun: stands for any picture."""
        w, h = body.right - body.left, body.top - body.bottom
        self.shape(body.corners, facecolor=self.pale(role, 0.88))
        hills = [(0, 0), (0, 0.3), (0.3, 0.6), (0.52, 0.36), (0.7, 0.5), (1, 0.22), (1, 0)]
        self.shape([(body.left + x * w, body.bottom + y * h) for x, y in hills], facecolor=self.pale(role, 0.5))
        sun = (body.left + 0.74 * w, body.bottom + 0.76 * h)
        self.axes.add_patch(Circle(sun, 0.1 * min(w, h), facecolor=self.pale(role, 0.3), linewidth=0, zorder=2))

    def mask_sign(self, role: Role, body: Box) -> None:
        """A shape on dark ground: stands for any mask."""
        (x, y), w, h = body.centre, body.right - body.left, body.top - body.bottom
        self.shape(body.corners, facecolor="#26282b")
        angle = np.linspace(0, 2 * np.pi, 60)
        radius = 0.27 + 0.05 * np.sin(3 * angle + 0.6)
        points = np.stack([x + w * radius * np.cos(angle), y + h * radius * np.sin(angle)], axis=1)
        self.shape(points, facecolor=self.colour(role))

    def operation(self, part: Part, body: Box) -> None:
        """A function: rounded; a loss: square and heavy."""
        radius, width = (0.02, 1.8) if isinstance(part, Loss) else (0.09, 1.0)
        face = self.pale(part.role, 0.82)
        self.rounded_box(body, radius, facecolor=face, edgecolor=self.edge(part.role), linewidth=width, zorder=2)
        x, y = body.centre
        for i, line in enumerate(part.lines):
            self.text(x, y + 0.15 * ((len(part.lines) - 1) / 2 - i), line, SMALL, va="center_baseline")

    def block(self, part: Block, body: Box) -> None:
        (rows, n), (columns, m) = part.sides
        x, y = body.centre
        face = self.pale(part.role, 0.75)
        self.shape(body.corners, facecolor=face)
        if part.surface is not None:
            self.surface(part.surface, body, part.role)
        self.outline(body.corners, self.edge(part.role), 1.0)
        self.text(x, y, part.label, SMALL + 2, path_effects=casing(2.5, face))
        for i, (words, ink) in enumerate([(f"{columns} = {m}", self.theme.soft), (part.note, self.theme.ink)]):
            self.text(x, body.bottom - 0.04 - LINE_HEIGHT * i, words, color=ink, va="top")
        self.text(body.left - 0.04, y, f"{rows} = {n}", color=self.theme.soft, ha="right", rotation=90)

    # --- arrows ---

    def line_colour(self, flow: Flow) -> str:
        role = LINES[flow][1]
        if role is not None:
            return self.colour(role)
        return self.theme.soft if flow == "skip" else self.theme.ink

    def arrow(self, arrow: Arrow, points: Sequence[Point]) -> None:
        dash, role = LINES[arrow.flow]
        colour, width = self.line_colour(arrow.flow), 0.95 if role is None else 1.3
        look = {"edgecolor": colour, "linewidth": width, "linestyle": dash, "capstyle": "butt"}
        self.axes.add_patch(PathPatch(Path(*rounded(points, 0.07)), fill=False, zorder=5, **look))
        end, before = np.array(points[-1]), np.array(points[-2])
        along = (end - before) / max(1e-9, float(np.hypot(*(end - before))))
        across = np.array([-along[1], along[0]])
        if arrow.flow == "stopped":
            for slant in (along + across, along - across):
                ends = np.stack([end - 0.05 * slant, end + 0.05 * slant]) - 0.05 * along
                self.axes.plot(ends[:, 0], ends[:, 1], color=colour, linewidth=1.6, zorder=6)
        else:
            head = [end, end - 0.085 * along + 0.038 * across, end - 0.085 * along - 0.038 * across]
            self.shape(head, facecolor=colour, zorder=5)
        if arrow.label:
            self.arrow_label(arrow.label, points, colour)

    def arrow_label(self, words: str, points: Sequence[Point], colour: str) -> None:
        """Beside the longest piece of a route."""
        (x0, y0), (x1, y1) = max(pairwise(points), key=lambda ends: math.dist(*ends))
        if abs(y1 - y0) < 1e-6:
            self.text((x0 + x1) / 2, y0 + 0.04, words, color=colour, va="bottom")
        else:
            self.text(x0 + 0.05, (y0 + y1) / 2, words, color=colour, ha="left")

    def legend(self, entries: Sequence[Entry]) -> None:
        """What colours, patterns and dashes stand for."""
        for role, flow, words, x, y in entries:
            if role is not None:
                look = {"facecolor": self.pale(role, 0.6), "edgecolor": self.edge(role), "hatch": ROLES[role].hatch}
                self.shape(Box(x, y - 0.055, x + 0.22, y + 0.055).corners, linewidth=0.7, **look)
            if flow is not None:
                colour = self.line_colour(flow)
                self.axes.plot([x, x + 0.24], [y, y], color=colour, linewidth=1.2, linestyle=LINES[flow][0])
                if flow == "stopped":
                    self.axes.plot([x + 0.22], [y], "x", color=colour, markersize=5)
            self.text(x + 0.28, y, words, color=self.theme.soft, ha="left", va="center_baseline")
