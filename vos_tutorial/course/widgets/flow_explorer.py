"""Drag a point of the plane along its flow, and jump: the networks run in the page, and no kernel is asked."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch
import traitlets
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor, nn

from ...data.worlds.plane import SQUARES, on_board
from ...errors import TutorialError
from ...models import flow_map
from ...models.plane import PlaneFlowMap, PlaneVelocity
from ...samples import sliced_wasserstein
from .. import figures
from .widget import POSTER_BYTES, Widget, frame_list, module, stylesheet

EXTENT = 2.6  # of the plane that is shown, from the centre
MOST_STEPS = 16
REFERENCE = 64  # steps of Heun's method
IN_POSTER = 3  # pictures of each sampler and number of steps that the still shows
FRESH = 61  # the noise that a consistency model takes in step k is the first one, moved up by FRESH * k samples


class FlowExplorer(Widget):
    """A flow map of the plane, to be touched: one point's path and jump, and whole clouds in 1 to 16 steps.

    On the left, the path of one point under the teacher; drag the point, move ``t`` and ``s``, and compare the
    learned jump with the path's true end and with Euler's straight step. Below, three clouds from the same noise:
    Euler's method with the teacher, the consistency model with fresh noise after each jump, and the flow map, with
    their sliced Wasserstein-2 distances to the teacher's samples. A second tab shows pictures by sampler and number
    of steps.

    Args:
        teacher: ``v(x, t)``, without labels.
        student: ``F(x, t, s)``.
        consistency: a map that was trained to jump to 0; the student does it if there is none.
        images: sampler -> number of steps -> pictures ``[K, 3, H, W]`` or ``[K, H, W, 3]``, uint8 or float in [0, 1];
            the k-th pictures of all begin at the same noise. Without them there is no second tab.
        samples: points of a cloud.
        point: where the point is at time 1.
        t, s: the jump that is shown first, ``0 <= s <= t <= 1``.
        steps: of the clouds, 1 to 16.
        board: draw the dark squares of the checkerboard below the points.
        seed: of the clouds' noise.
        alt: what a screen reader says this is.

    Attributes:
        point, t, s, steps, tab, picture: live in both directions. ``tab`` is ``"plane"`` or ``"pictures"``,
            ``picture`` the index of the one that is shown large.

    Raises:
        TutorialError: if a network has labels or is of another form, a number is out of range, or the pictures of a
            grid differ in number or size.
    """

    _esm = module("flow_explorer")
    _css = stylesheet("flow_explorer")

    point = traitlets.List(traitlets.Float()).tag(sync=True)
    t = traitlets.Float(1.0).tag(sync=True)
    s = traitlets.Float(0.0).tag(sync=True)
    steps = traitlets.Int(2).tag(sync=True)
    tab = traitlets.Enum(("plane", "pictures"), "plane").tag(sync=True)
    picture = traitlets.Int(0).tag(sync=True)

    _networks: Any = traitlets.List().tag(sync=True)  # name, width, body's widths, rates, log sigma, has an s
    _weights = traitlets.Bytes().tag(sync=True)  # of all of them, one after the other, in the order of their layers
    _half = traitlets.Bool(False).tag(sync=True)  # weights are float16, else float32
    _clouds = traitlets.Bytes().tag(sync=True)  # float32 [2, N, 2]: noise, the teacher's samples
    _floor = traitlets.Float(0.0).tag(sync=True)
    _extent = traitlets.Float(EXTENT).tag(sync=True)
    _squares: Any = traitlets.List().tag(sync=True)  # of the board: left, bottom, side
    _fresh = traitlets.Int(FRESH).tag(sync=True)
    _has_consistency = traitlets.Bool(True).tag(sync=True)
    _grid: Any = traitlets.Dict().tag(sync=True)  # samplers, steps, count, size; empty without pictures
    _strips = traitlets.Bytes().tag(sync=True)  # PNGs: for each sampler and number of steps its K pictures in a row
    _offsets = traitlets.List(traitlets.Int()).tag(sync=True)

    def __init__(
        self,
        teacher: PlaneVelocity,
        student: PlaneFlowMap,
        consistency: PlaneFlowMap | None = None,
        images: Mapping[str, Mapping[int, figures.Pixels]] | None = None,
        *,
        samples: int = 1000,
        point: Sequence[float] = (-0.5, -1.6),
        t: float = 1.0,
        s: float = 0.0,
        steps: int = 2,
        board: bool = True,
        seed: int = 0,
        alt: str = "A flow map of the plane: one point's path and jump, and clouds after few steps",
    ) -> None:
        if samples < 2:
            raise TutorialError(f"a cloud has {samples} samples; use 2 or more.")
        self._teacher, self._student = teacher, student
        self._consistency = consistency if consistency is not None else student
        about, arrays = zip(*(_read(n) for n in (teacher, student, self._consistency)), strict=True)
        numbers = torch.cat([array.flatten() for part in arrays for array in part])
        half = torch.equal(numbers.half().float(), numbers)  # shipped weights lose nothing
        generator = torch.Generator().manual_seed(seed)
        self._noise, other = torch.randn(2, samples, 2, generator=generator)
        self._reference = heun(teacher, self._noise)
        grid, strips, offsets = _pack_grid(images)
        super().__init__(
            alt=alt,
            point=[float(value) for value in point],
            t=t,
            s=s,
            steps=steps,
            _networks=list(about),
            _weights=numbers.numpy().astype("<f2" if half else "<f4").tobytes(),
            _half=half,
            _clouds=torch.stack([self._noise, self._reference]).numpy().astype("<f4").tobytes(),
            _floor=sliced_wasserstein(self._reference, heun(teacher, other)),
            _squares=[[left, bottom, 1.0] for left, bottom in squares()] if board else [],
            _has_consistency=consistency is not None,
            _grid=grid,
            _strips=strips,
            _offsets=offsets,
        )
        if not 0 <= s <= t <= 1:
            raise TutorialError(f"the jump goes from t = {t:g} to s = {s:g}; give 0 <= s <= t <= 1.")

    # ------------------------------------------------------------------------------------------ what may be set

    @traitlets.validate("point")
    def _known_point(self, proposal: Any) -> list[float]:
        point = list(proposal["value"])
        if len(point) != 2 or not all(math.isfinite(value) for value in point):
            raise TutorialError(f"the point is {point}; give two numbers.")
        return point

    @traitlets.validate("t", "s")
    def _known_time(self, proposal: Any) -> float:
        if not 0 <= proposal["value"] <= 1:  # NaN is outside, too
            raise TutorialError(f"{proposal['trait'].name} is {proposal['value']}; give a time from 0 to 1.")
        return float(proposal["value"])

    @traitlets.validate("steps")
    def _known_steps(self, proposal: Any) -> int:
        if not 1 <= proposal["value"] <= MOST_STEPS:
            raise TutorialError(f"steps is {proposal['value']}; use 1 to {MOST_STEPS}.")
        return int(proposal["value"])

    @traitlets.validate("picture")
    def _known_picture(self, proposal: Any) -> int:
        last = self._grid.get("count", 1) - 1
        if not 0 <= proposal["value"] <= last:
            raise TutorialError(f"there is no picture {proposal['value']}; choose 0..{last}.")
        return int(proposal["value"])

    def __repr__(self) -> str:
        pictures = f", pictures={self._grid['count']}" if self._grid else ""
        return f"FlowExplorer(samples={len(self._noise)}{pictures})"

    # ---------------------------------------------------------------------------------------------- the still

    @torch.no_grad()
    def samples(self, steps: int) -> dict[str, Tensor]:
        """What the page computes for its clouds, by sampler: ``float32 [N, 2]`` each."""
        times = flow_map.even_times(steps)
        euler = flow_map.sample(lambda x, t, s: self._teacher(x, t), self._noise, times)
        x = self._noise
        for k, (t, then) in enumerate(pairwise(times), 1):
            now, end = x.new_full((len(x),), t), x.new_zeros(len(x))
            x = x - t * self._consistency(x, now, end)
            x = (1 - then) * x + then * self._noise.roll(-FRESH * k, 0)
        return {"Euler": euler, "consistency": x, "flow map": flow_map.sample(self._student, self._noise, times)}

    @figures.style()
    def poster(self) -> bytes:
        """The tab that is open, as a PNG of 40 kB: the jump and the three clouds, or the first pictures."""
        figure = self._pictures_figure() if self.tab == "pictures" and self._grid else self._plane_figure()
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=figures.DPI)
        return figures.small_png(Image.open(buffer).convert("RGB"), POSTER_BYTES)

    @torch.no_grad()
    def _plane_figure(self) -> Figure:
        """The jump of the point, and the three clouds."""
        figure, axes = figures.blank(1, 4, height=2.3)
        plots: list[Axes] = list(axes.flat)
        for plot in plots:
            plot.set(xlim=(-EXTENT, EXTENT), ylim=(-EXTENT, EXTENT), aspect="equal", xticks=[], yticks=[])
            for spine in plot.spines.values():
                spine.set(visible=True, color=figures.FAINT, linewidth=0.8)
            for left, bottom, side in self._squares:
                plot.fill_between([left, left + side], bottom, bottom + side, color="#e9edf3", linewidth=0, zorder=0)
        plots[0].plot(*self._reference.numpy().T, ".", color="#b8b8b8", markersize=1.6, markeredgewidth=0)
        x = torch.tensor([self.point])
        before = here = heun(self._teacher, x, 1.0, self.t)
        path = [before]
        for t, then in pairwise(np.linspace(self.t, self.s, 33).tolist()):
            here = heun(self._teacher, here, t, then, steps=2)
            path.append(here)
        now, end = before.new_full((1,), self.t), before.new_full((1,), self.s)
        after = flow_map.jump(self._student, before, now, end)
        straight = before + (self.s - self.t) * self._teacher(before, now)
        plots[0].plot(*torch.cat(path).numpy().T, color=figures.INK, linewidth=1.6)
        plots[0].plot(
            *torch.cat([before, straight]).numpy().T, ":s", color=figures.VERMILLION, markevery=[1], markersize=4
        )
        plots[0].plot(*torch.cat([before, after]).numpy().T, "--o", color=figures.BLUE, markevery=[1], markersize=4)
        plots[0].plot(*here.numpy().T, "o", markersize=8, markerfacecolor="none", markeredgecolor=figures.INK)
        plots[0].plot(*before.numpy().T, "o", color=figures.INK, markersize=6, markeredgecolor="white")
        plots[0].set_title(f"one jump, t = {self.t:g} to {self.s:g}")
        colours = (figures.VERMILLION, figures.GREEN, figures.BLUE)
        for plot, (name, points), colour in zip(plots[1:], self.samples(self.steps).items(), colours, strict=True):
            plot.plot(*points.numpy().T, ".", color=colour, markersize=2.2, alpha=0.7, markeredgewidth=0)
            plot.set_title(f"{name}, {_steps(self.steps)}: {sliced_wasserstein(points, self._reference):.3f}")
        return figure

    def _pictures_figure(self) -> Figure:
        """A row for each number of steps, a column for each sampler: the chosen picture and those after it."""
        samplers, steps, count = self._grid["samplers"], self._grid["steps"], self._grid["count"]
        height, width = self._grid["size"]
        several = min(IN_POSTER, count)
        first = min(self.picture, count - several)
        side = 7.2 / len(samplers) / several * height / width  # inches: the columns share a page that is 8 wide
        figure, axes = figures.blank(len(steps), len(samplers), height=len(steps) * (side + 0.08) + 0.4)
        strips = [self._strips[a:b] for a, b in pairwise(self._offsets)]
        for n, row in zip(steps, axes, strict=True):
            row[0].set_ylabel(_steps(n))
            for k, plot in enumerate(row):
                plot.set(xticks=[], yticks=[])
                for spine in plot.spines.values():
                    spine.set_visible(False)
                if strip := strips[k * len(steps) + steps.index(n)]:
                    pictures = np.asarray(Image.open(io.BytesIO(strip)).convert("RGB"))
                    plot.imshow(pictures[:, first * width : (first + several) * width], interpolation="nearest")
        for plot, name in zip(axes[0], samplers, strict=True):
            plot.set_title(name)
        return figure


def _steps(number: int) -> str:
    return f"{number} step{'' if number == 1 else 's'}"


@torch.no_grad()
def heun(
    velocity: flow_map.Velocity, x: Tensor, start: float = 1.0, end: float = 0.0, steps: int = REFERENCE
) -> Tensor:
    """Heun's method, ``[N, 2] -> [N, 2]``: the reference."""
    for t, then in pairwise(np.linspace(start, end, steps + 1).tolist()):
        here, there = x.new_full((len(x),), t), x.new_full((len(x),), then)
        slope = velocity(x, here)
        x = x + (then - t) / 2 * (slope + velocity(x + (then - t) * slope, there))
    return x


def squares() -> list[tuple[float, float]]:
    """The lower left corners of the board's dark squares, of side 1."""
    middle = np.arange(SQUARES) - SQUARES / 2 + 0.5
    centres = torch.tensor([[x, y] for y in middle for x in middle], dtype=torch.float32)
    return [(x - 0.5, y - 0.5) for x, y in centres[on_board(centres)].tolist()]


def _read(network: nn.Module) -> tuple[dict[str, Any], list[Tensor]]:
    """A network's form, and its weights in the order in which the page reads them."""
    inner = network.velocity if isinstance(network, PlaneFlowMap) else network
    if not isinstance(inner, PlaneVelocity):
        raise TutorialError(
            f"{type(network).__name__} is no network of the plane; give PlaneVelocity and PlaneFlowMap."
        )
    if inner.label is not None:
        raise TutorialError("the network has labels, which the page cannot choose; give one without.")
    end = [network.end] if isinstance(network, PlaneFlowMap) else []
    body = [layer for layer in inner.body if isinstance(layer, nn.Linear)]
    layers: list[Any] = [inner.point, inner.time, *end, *body]
    arrays = [array.detach().float().cpu() for layer in layers for array in (layer.weight, layer.bias)]
    about = {
        "width": inner.point.out_features,
        "body": [layer.out_features for layer in body],
        "rates": inner.features.rates.tolist(),
        "logSigma": inner.features.clock == "log sigma",
        "hasEnd": bool(end),
    }
    return about, arrays


def _pack_grid(
    images: Mapping[str, Mapping[int, figures.Pixels]] | None,
) -> tuple[dict[str, Any], bytes, list[int]]:
    """Strips of pictures as PNGs, one after the other, with what they are; an empty place has no bytes."""
    if images is None:
        return {}, b"", []
    steps = sorted({count for by_steps in images.values() for count in by_steps})
    rows = {name: {n: frame_list(pictures) for n, pictures in of.items()} for name, of in images.items()}
    kinds = {(len(row), *row[0].shape[:2]) for of in rows.values() for row in of.values()}
    if len(kinds) != 1:
        raise TutorialError(
            f"images holds grids of (number, height, width) {sorted(kinds)}; give as many of one size everywhere."
        )
    ((count, height, width),) = kinds
    parts, offsets = [], [0]
    for of in rows.values():
        for n in steps:
            buffer = io.BytesIO()
            if n in of:
                Image.fromarray(np.concatenate(of[n], axis=1)).save(buffer, format="PNG", optimize=True)
            parts.append(buffer.getvalue())
            offsets.append(offsets[-1] + len(parts[-1]))
    about = {"samplers": list(rows), "steps": steps, "count": count, "size": [height, width]}
    return about, b"".join(parts), offsets
