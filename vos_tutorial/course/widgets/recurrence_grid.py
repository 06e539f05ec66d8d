"""Click on a cell of the grid of objects and frames, and see which cells reach it, by which of RVOS's arrows."""

from __future__ import annotations

import io
import zlib
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple, TypeAlias

import matplotlib
import numpy as np
import torch
import torch.nn.functional as F
import traitlets
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Polygon, Rectangle
from PIL import Image

from ...clip import Clip
from ...errors import TutorialError
from ...models import rvos
from .. import figures
from .widget import POSTER_BYTES, Widget, display_size, frame_list, heat_over, module, pack_frames, stylesheet

Cell: TypeAlias = tuple[int, int]  # (frame, object), both from 0
Space: TypeAlias = "bool | Literal['first frame']"
Mask: TypeAlias = "bool | Literal['from frame 2']"

SHOWN_CHANNELS = 4
MOST_CELLS = 24  # on the longer side of a hidden state, as sent
STEPS = 16  # of a probability, as sent: step 8 and more is 0.5 and more

# Colour, dashes and letter of every kind of arrow; recurrence_grid.css and .js hold the same.
KINDS: dict[str, tuple[str, str, Any, str]] = {
    "space": ("S", figures.BLUE, "-", "h and c"),
    "time": ("T", figures.VERMILLION, (0, (3.5, 1.6)), "h"),
    "mask": ("M", "#8a3d78", (0, (0.9, 1.3)), "own output"),
}


# --- Who reads whom --------------------------------------------------------------------------------------


class Rollout(NamedTuple):
    """What one roll-out of RVOS left behind, and which arrows of the grid it had.

    Attributes:
        probabilities: of every slot in every frame, float ``[T, N, H, W]`` in [0, 1].
        hidden: by level, coarse to fine, the hidden states h, float ``[T, N, C_k, h_k, w_k]``.
        space: whether a cell reads h and c of the slot above it in its frame; ``"first frame"``: only frame 0 does,
            as in the authors' setting without space.
        time: whether a cell reads h of its slot in the frame before.
        mask: whether a cell reads its slot's own output of the frame before (one-shot); ``"from frame 2"``: frame 1
            still reads the given mask, as in the authors' evaluation. Frame 0 always reads the given mask.
        cut: a frame that gets no h from the frame before it, though ``time`` is on; None: every frame does.
    """

    probabilities: figures.Pixels
    hidden: Sequence[figures.Pixels]
    space: Space = True
    time: bool = True
    mask: Mask = False
    cut: int | None = None

    @classmethod
    def of(
        cls,
        network: rvos.RVOS,
        frames: torch.Tensor,
        masks: torch.Tensor | None = None,
        slots: int = 2,
        recurrence: rvos.Recurrence = "ST",
        cut: int | None = None,
    ) -> Rollout:
        """What a network does with a clip, as it is tested: no mask is given after frame 0.

        Args:
            network: one-shot or zero-shot.
            frames: ``float [T, 3, H, W]`` in [0, 1].
            masks: the given masks of frame 0, ``float [N, H, W]``; None for a zero-shot network.
            slots: N, where no masks are given.
            recurrence: which arrows there are; see :data:`~vos_tutorial.models.rvos.Recurrence`.
            cut: see the class.

        Raises:
            TutorialError: if masks are missing, or given to a zero-shot network.
        """
        given = None if masks is None else masks[None]  # [1, N, H, W]
        count = slots if masks is None else len(masks)
        forget = () if cut is None else (cut,)
        with torch.no_grad():
            row = list(rvos.unroll(network, frames[None], given, count, recurrence, forget=forget))
        return cls(
            torch.stack([frame.probability[0] for frame in row]),  # [T, N, H, W]
            [torch.stack([h[0] for h in level]) for level in zip(*(frame.hidden for frame in row), strict=True)],
            space="first frame" if recurrence == "T released" else "S" in recurrence,
            time="T" in recurrence,
            mask="from frame 2" if network.one_shot else False,
            cut=cut,
        )


def parents(
    frame: int, object: int, space: Space = True, time: bool = True, mask: Mask = False, cut: int | None = None
) -> dict[str, Cell]:
    """The cells whose result a cell reads itself, by kind of arrow: at most one for each of space, time and mask.

    RVOS (Ventura et al., CVPR 2019), section 3: the state of the previous object in the frame, the hidden state of
    the same object in the previous frame, and, one-shot, its previous mask. The arguments are those of
    :class:`Rollout`.
    """
    found: dict[str, Cell] = {}
    if object > 0 and (space is True or (space == "first frame" and frame == 0)):
        found["space"] = (frame, object - 1)
    if time and frame > 0 and frame != cut:
        found["time"] = (frame - 1, object)
    if mask and frame > (1 if mask == "from frame 2" else 0):
        found["mask"] = (frame - 1, object)
    return found


def ancestors(
    frame: int,
    object: int,
    frames: int,
    objects: int,
    space: Space = True,
    time: bool = True,
    mask: Mask = False,
    cut: int | None = None,
) -> dict[str, set[Cell]]:
    """All cells that can influence a cell of the grid.

    Args:
        frame, object: the cell, both from 0.
        frames, objects: T and N, the size of the grid.
        space, time, mask, cut: which arrows exist, as in :class:`Rollout`.

    Returns:
        ``{"space": ..., "time": ..., "mask": ..., "indirect": ...}``, sets of ``(frame, object)``: the direct
        parents by kind (a cell may be parent by time and by mask), and the ancestors that are no parents.

    Raises:
        TutorialError: if the cell is not in the grid.
    """
    _check_cell((frame, object), frames, objects)
    direct = parents(frame, object, space, time, mask, cut)
    known = set(direct.values())
    ask = list(known)
    while ask:
        for cell in parents(*ask.pop(), space, time, mask, cut).values():
            if cell not in known:
                known.add(cell)
                ask.append(cell)
    by_kind: dict[str, set[Cell]] = {kind: {direct[kind]} if kind in direct else set() for kind in KINDS}
    return by_kind | {"indirect": known - set(direct.values())}


def _check_cell(cell: Sequence[int], frames: int, objects: int) -> None:
    if len(cell) != 2 or not (0 <= cell[0] < frames and 0 <= cell[1] < objects):
        raise TutorialError(
            f"cell {tuple(cell)} is not in the grid; choose (frame, object) in 0..{frames - 1}, 0..{objects - 1}."
        )


# --- The widget ------------------------------------------------------------------------------------------


class RecurrenceGrid(Widget):
    """RVOS's grid of T frames and N slots, with precomputed roll-outs behind radio buttons; no kernel is asked.

    Every cell shows the mask its slot drew. Hover over a cell to look, click to choose; or, with the focus in the
    grid, move with the arrow keys (Home, End: first and last frame), choose with Enter, go back with Escape. The
    cells that can influence it stay lit, its parents carry the letter of their arrow, and below stand its mask, its
    probabilities and its hidden states. Another roll-out brings its own arrows, masks and states.

    Args:
        clip_frames: RGB ``[T, 3, H, W]`` or ``[T, H, W, 3]``, uint8 or float in [0, 1], or a Clip; numpy or torch.
        rollouts: by name ("ST", "S", "T", "ST, h cut at 4"), all over these frames, with the same number of slots
            and the same levels.
        start: the cell to begin with, ``(frame, object)``; the last slot of the middle frame without.
        mode: the roll-out to begin with; the first without.
        labels: names of the slots; "slot 0", "slot 1", ... without.
        times: the numbers of the frames in their clip, if some were left out; 0, 1, ... without.
        one_network: the roll-outs come from the same weights, so show the same channels and the same scale in all;
            False chooses them for each roll-out.
        max_side: pixels on the long side of frames and masks as sent.
        alt: what a screen reader says this is.

    Of every level the four channels are shown whose maps vary most over the picture (the standard deviation over
    places, averaged over the cells of the grid), in the order of their numbers. Maps of more than 24 x 24 are
    averaged down, and sent in steps of 1/31 of the level's largest shown value.

    Attributes:
        cell (``(frame, object)``), mode (the name of the roll-out): live in both directions.

    Raises:
        TutorialError: if there is no roll-out, shapes do not match, probabilities leave [0, 1], a hidden state is
            not finite, or an arrow has a value it cannot have.
    """

    _esm = module("recurrence_grid")
    _css = stylesheet("recurrence_grid")

    cell = traitlets.Tuple(traitlets.Int(), traitlets.Int()).tag(sync=True)
    mode = traitlets.Unicode().tag(sync=True)

    _frames = traitlets.Bytes().tag(sync=True)  # JPEGs, one after the other
    _offsets = traitlets.List(traitlets.Int()).tag(sync=True)
    _shape = traitlets.List(traitlets.Int()).tag(sync=True)  # T, N, H, W as sent
    _modes = traitlets.List(traitlets.Unicode()).tag(sync=True)
    _rules = traitlets.List(traitlets.Dict()).tag(sync=True)  # by mode: space, time, mask, cut
    _labels = traitlets.List(traitlets.Unicode()).tag(sync=True)
    _times = traitlets.List(traitlets.Int()).tag(sync=True)
    _steps = traitlets.Bytes().tag(sync=True)  # zlib of uint8 [modes, T, N, H, W], 0..15
    _levels = traitlets.List(traitlets.Dict()).tag(sync=True)  # size, shown; by mode: channels, scale
    _hidden = traitlets.Bytes().tag(sync=True)  # zlib of uint8 [modes][levels][T, N, channels, h, w], 128 is 0
    _ramp = traitlets.Bytes().tag(sync=True)  # colours of 0..255 in _hidden, uint8 [256, 3]
    _colours = traitlets.Bytes().tag(sync=True)  # uint8 [256, 3]

    def __init__(
        self,
        clip_frames: Clip | figures.Pixels,
        rollouts: Mapping[str, Rollout],
        start: Cell | None = None,
        *,
        mode: str | None = None,
        labels: Sequence[str] = (),
        times: Sequence[int] = (),
        one_network: bool = True,
        max_side: int = 128,
        alt: str = "RVOS's grid of recurrence",
    ) -> None:
        self._pictures = frame_list(clip_frames)
        if not rollouts:
            raise TutorialError("rollouts is empty; pass {'ST': Rollout(probabilities, hidden), ...}.")
        self._rollouts = dict(rollouts)
        height, width = self._pictures[0].shape[:2]
        probabilities = {name: _probabilities(name, r, len(self._pictures)) for name, r in rollouts.items()}
        self._count = next(iter(probabilities.values())).shape[1]
        for name, p in probabilities.items():
            expected = (len(self._pictures), self._count, height, width)
            if p.shape != expected:
                raise TutorialError(
                    f"the probabilities of {name!r} are {list(p.shape)}; frames and the first roll-out ask for "
                    f"{list(expected)} ([T, N, H, W])."
                )
            _check_arrows(name, rollouts[name], len(self._pictures))
        names = [str(label) for label in labels] or [f"slot {i}" for i in range(self._count)]
        if len(names) != self._count:
            raise TutorialError(f"there are {len(names)} labels for {self._count} slots; give one for each.")
        numbers = [int(t) for t in times] or list(range(len(self._pictures)))
        if len(numbers) != len(self._pictures):
            raise TutorialError(
                f"there are {len(numbers)} times for {len(self._pictures)} frames; give one for each."
            )
        self._size = display_size(height, width, max_side)
        self._maps = {name: _in_steps(p, self._size) for name, p in probabilities.items()}
        levels, self._states = _pack_hidden(rollouts, (len(self._pictures), self._count), one_network)
        frames, offsets = pack_frames(self._pictures, self._size)
        super().__init__(
            alt=alt,
            cell=(len(self._pictures) // 2, self._count - 1) if start is None else start,
            mode=next(iter(rollouts)) if mode is None else mode,
            _frames=frames,
            _offsets=offsets,
            _shape=[len(self._pictures), self._count, *self._size],
            _modes=list(rollouts),
            _rules=[{"space": r.space, "time": r.time, "mask": r.mask, "cut": r.cut} for r in rollouts.values()],
            _labels=names,
            _times=numbers,
            _steps=zlib.compress(b"".join(steps.tobytes() for steps in self._maps.values()), 9),
            _levels=levels,
            _hidden=zlib.compress(b"".join(h.tobytes() for states in self._states for h in states), 9),
            _ramp=_ramp().tobytes(),
            _colours=figures.object_colours().tobytes(),
        )

    def ancestors(self) -> dict[str, set[Cell]]:
        """What the page lights up for the chosen cell in the chosen roll-out; see :func:`ancestors`."""
        return self._ancestors(self.cell, self.mode)

    def _ancestors(self, cell: Cell, mode: str) -> dict[str, set[Cell]]:
        r = self._rollouts[mode]
        return ancestors(*cell, len(self._pictures), self._count, r.space, r.time, r.mask, r.cut)

    @traitlets.validate("cell")
    def _known_cell(self, proposal: traitlets.Bunch) -> Cell:
        _check_cell(proposal["value"], len(self._pictures), self._count)
        return proposal["value"]

    @traitlets.validate("mode")
    def _known_mode(self, proposal: traitlets.Bunch) -> str:
        return self._checked_mode(proposal["value"])

    def _checked_mode(self, mode: str) -> str:
        if mode not in self._rollouts:
            raise TutorialError(f"there is no roll-out {mode!r}; choose one of {list(self._rollouts)}.")
        return mode

    # --- without a page ---

    def __repr__(self) -> str:
        h, w = self._pictures[0].shape[:2]
        return f"RecurrenceGrid(T={len(self._pictures)}, N={self._count}, {h}x{w}, modes={self._modes})"

    def describe(self, cell: Cell | None = None, mode: str | None = None) -> str:
        """One or two sentences on a cell and its ancestors, an alt text for :meth:`static_grid`; the present without.

        Raises:
            TutorialError: if there is no such cell or roll-out.
        """
        cell, mode = self._chosen(cell, mode)
        found = self._ancestors(cell, mode)
        read = [
            f"{kind} ({KINDS[kind][3]}) from {self._labels[i]} of frame {self._times[t]}"
            for kind in KINDS
            for t, i in sorted(found[kind])
        ]
        total = len(set().union(*found.values()))
        reads = f"reads {', '.join(read)}" if read else "reads no other box"
        return (
            f"The grid of {len(self._pictures)} frames and {self._count} slots, roll-out {mode}: "
            f"{self._labels[cell[1]]} in frame {self._times[cell[0]]} {reads}; "
            f"{total} of the {len(self._pictures) * self._count - 1} other boxes can influence it."
        )

    def _chosen(self, cell: Cell | None, mode: str | None) -> tuple[Cell, str]:
        cell = self.cell if cell is None else (int(cell[0]), int(cell[1]))
        _check_cell(cell, len(self._pictures), self._count)
        return cell, self.mode if mode is None else self._checked_mode(mode)

    def static_grid(self, cell: Cell | None = None, modes: Sequence[str] = ()) -> Figure:
        """The grid as a still picture, one for each of ``modes``, one below the other, with a cell's ancestors lit.

        Args:
            cell: ``(frame, object)``; the chosen one without.
            modes: names of roll-outs; the chosen one without.

        Returns:
            A figure for :func:`vos_tutorial.course.figures.show`; :meth:`describe` gives its text.

        Raises:
            TutorialError: if there is no such cell or roll-out.
        """
        return self._draw(cell, list(modes) or [self.mode], figures.WIDTH)

    def _draw(self, cell: Cell | None, modes: Sequence[str], width: float) -> Figure:
        cells = [self._chosen(cell, mode) for mode in modes]
        board = _Board(len(self._pictures), self._count, *self._size)
        legend = 0.3
        rows = [board.rows * (width - 0.1) / board.columns + 0.3] * len(modes)  # 0.3: the title
        figure, axes = figures.blank(len(modes), 1, width, sum(rows) + legend)
        with figures.style():
            for axis, (chosen, mode) in zip(axes[:, 0], cells, strict=True):
                self._draw_board(axis, board, chosen, mode)
            some_mask = any(self._rollouts[mode].mask for mode in modes)
            handles = [
                Line2D([], [], color=colour, linestyle=dash, linewidth=2.2, label=f"{letter} {kind}: {carries}")
                for kind, (letter, colour, dash, carries) in KINDS.items()
                if kind != "mask" or some_mask
            ]
            if some_mask:
                square: dict[str, Any] = {
                    "marker": "s",
                    "markersize": 6,
                    "markerfacecolor": "none",
                    "linestyle": "none",
                }
                handles.append(Line2D([], [], color=KINDS["mask"][1], label="given mask", **square))
            figure.legend(handles=handles, loc="outside lower center", ncols=4, handlelength=2.4, columnspacing=2.4)
        return figure

    def _draw_board(self, axes: Axes, board: _Board, cell: Cell, mode: str) -> None:
        rule = self._rollouts[mode]
        found = self._ancestors(cell, mode)
        lit = set().union(*found.values()) | {cell}
        for t in range(board.frames):
            axes.text(board.x(t) + board.w / 2, -6, str(self._times[t]), ha="center", va="bottom", fontsize=9)
            if t > 0 and t == rule.cut:
                axes.text(board.x(t) - board.gap / 2, -6, "cut", ha="center", va="bottom", fontsize=8)
            for i in range(board.objects):
                self._draw_cell(axes, board, (t, i), mode, lit)
                arrows = parents(t, i, rule.space, rule.time, rule.mask, rule.cut)
                for kind in arrows:
                    board.arrow(axes, kind, (t, i), (t, i) in lit, bool(rule.mask))
                if rule.mask and "mask" not in arrows:
                    board.given(axes, (t, i), (t, i) in lit)
        board.frame(axes, cell, figures.PAPER, 5.0)
        board.frame(axes, cell, figures.INK, 2.4, air=3)
        for parent in {p for kind in KINDS for p in found[kind]}:
            letters = [kind for kind in KINDS if parent in found[kind]]
            board.badges(axes, parent, letters)
        for i, label in enumerate(self._labels):
            axes.text(-42, board.y(i) + board.h / 2, label, ha="right", va="center", fontsize=9)
        axes.text(-42, -6, "frame", ha="right", va="bottom", fontsize=9)
        axes.set_title(f"{mode}: what can influence {self._labels[cell[1]]} in frame {self._times[cell[0]]}", pad=16)
        axes.set_xlim(-board.label, board.columns - board.label)
        axes.set_ylim(board.rows - board.top, -board.top)
        axes.set_aspect("equal")
        axes.axis("off")

    def _draw_cell(self, axes: Axes, board: _Board, cell: Cell, mode: str, lit: set[Cell]) -> None:
        t, i = cell
        picture = Image.fromarray(self._pictures[t]).resize(self._size[::-1], Image.Resampling.LANCZOS)
        ids = np.where(self._maps[mode][t, i] >= STEPS // 2, i + 1, 0).astype(np.uint8)
        dark = np.asarray(picture) // 2
        drawn = figures.overlay(np.where(ids[..., None] > 0, np.asarray(picture), dark), ids, 0.55)
        box = (board.x(t), board.x(t) + board.w, board.y(i) + board.h, board.y(i))
        axes.imshow(drawn, extent=box, alpha=1.0 if cell in lit else 0.22)
        if cell in lit:
            board.frame(axes, cell, figures.FAINT, 0.8)

    def static_cell(self, cell: Cell | None = None, mode: str | None = None) -> Figure:
        """What the page shows below the grid, as a still picture: mask, probabilities, hidden states of one cell.

        Args:
            cell: ``(frame, object)``; the chosen one without.
            mode: the roll-out; the chosen one without.

        Raises:
            TutorialError: if there is no such cell or roll-out.
        """
        (t, i), mode = self._chosen(cell, mode)
        number = self._modes.index(mode)
        steps = self._maps[mode][t, i]
        picture = np.asarray(Image.fromarray(self._pictures[t]).resize(self._size[::-1], Image.Resampling.LANCZOS))
        ids = np.where(steps >= STEPS // 2, i + 1, 0).astype(np.uint8)
        panels = {
            f"{self._labels[i]}, frame {self._times[t]}": figures.overlay(picture, ids),
            "probability": heat_over(picture, steps / (STEPS - 1)),
        }
        for k, states in enumerate(self._states[number]):
            h, w = self._levels[k]["size"]
            panels[f"level {k}: {h}×{w}, ±{self._levels[k]['scale'][number]:.2f}"] = _mosaic(states[t, i], self._size)
        return figures.gallery(panels, columns=min(3, -(-len(panels) // 2)))

    def poster(self) -> bytes:
        """The grid with the ancestors of the chosen cell, a PNG of at most 40 kB."""
        buffer = io.BytesIO()
        with figures.style():
            self._draw(None, [self.mode], 7.2).savefig(buffer, format="png", dpi=figures.DPI)
        return figures.small_png(Image.open(buffer).convert("RGB"), POSTER_BYTES)


class _Board:
    """Where the cells of a still picture lie, in units of which a cell is 100 wide."""

    def __init__(self, frames: int, objects: int, height: int, width: int) -> None:
        self.frames, self.objects = frames, objects
        self.w, self.h, self.gap, self.label, self.top = 100.0, 100.0 * height / width, 46.0, 116.0, 30.0
        self.columns = self.label + frames * (self.w + self.gap) - self.gap + 6
        self.rows = self.top + objects * (self.h + self.gap) - self.gap + 6

    def x(self, frame: int) -> float:
        return frame * (self.w + self.gap)

    def y(self, object: int) -> float:
        return object * (self.h + self.gap)

    def arrow(self, axes: Axes, kind: str, cell: Cell, lit: bool, two: bool) -> None:
        """The arrow into a cell; with ``two`` kinds from the left, time runs above mask."""
        x, y = self.x(cell[0]), self.y(cell[1])
        if kind == "space":
            points = [(x + self.w / 2, y - self.gap + 5), (x + self.w / 2, y - 5)]
        else:
            across = y + self.h / 2 + {"time": -1, "mask": 1}[kind] * (self.h / 6 if two else 0)
            points = [(x - self.gap + 5, across), (x - 5, across)]
        self._line(axes, kind, points, lit)

    def given(self, axes: Axes, cell: Cell, lit: bool) -> None:
        """The given mask, an open square, with its arrow into a cell."""
        x, y = self.x(cell[0]), self.y(cell[1]) + self.h / 2 + self.h / 6
        colour = KINDS["mask"][1] if lit else "#c4c4c4"
        axes.add_patch(Rectangle((x - 34, y - 5), 10, 10, fill=False, edgecolor=colour, linewidth=1.2))
        self._line(axes, "mask", [(x - 22, y), (x - 5, y)], lit)

    @staticmethod
    def _line(axes: Axes, kind: str, points: list[tuple[float, float]], lit: bool) -> None:
        (x0, y0), (x1, y1) = points
        colour, dash = (KINDS[kind][1], KINDS[kind][2]) if lit else ("#c4c4c4", KINDS[kind][2])
        dx, dy = (0, 12) if x0 == x1 else (12, 0)
        axes.plot([x0, x1 - dx], [y0, y1 - dy], color=colour, linestyle=dash, linewidth=2.0 if lit else 1.1)
        head = [(x1, y1), (x1 - dx - dy * 0.6, y1 - dy - dx * 0.6), (x1 - dx + dy * 0.6, y1 - dy + dx * 0.6)]
        axes.add_patch(Polygon(head, facecolor=colour, edgecolor="none"))

    def frame(self, axes: Axes, cell: Cell, colour: str, thick: float, air: float = 0) -> None:
        corner = (self.x(cell[0]) - air, self.y(cell[1]) - air)
        size = (self.w + 2 * air, self.h + 2 * air)
        axes.add_patch(Rectangle(corner, *size, fill=False, edgecolor=colour, linewidth=thick, zorder=4))

    def badges(self, axes: Axes, cell: Cell, kinds: Sequence[str]) -> None:
        """The letters of a parent's arrows in its corner."""
        for place, kind in enumerate(kinds):
            letter, colour, *_ = KINDS[kind]
            axes.text(
                self.x(cell[0]) + 17 + 33 * place, self.y(cell[1]) + 17, letter, color="white", weight="bold",
                fontsize=8, ha="center", va="center", zorder=6,
                bbox={"boxstyle": "circle,pad=0.2", "facecolor": colour, "edgecolor": "white", "linewidth": 0.8},
            )  # fmt: skip


# --- From arrays to bytes --------------------------------------------------------------------------------


def _floats(values: figures.Pixels) -> np.ndarray:
    a = values.detach().float().cpu().numpy() if isinstance(values, torch.Tensor) else np.asarray(values)
    return a.astype(np.float32)


def _probabilities(name: str, rollout: Rollout, frames: int) -> np.ndarray:
    p = _floats(rollout.probabilities)
    if p.ndim != 4 or 0 in p.shape or len(p) != frames:
        raise TutorialError(
            f"the probabilities of {name!r} are {list(p.shape)}; {frames} frames ask for [{frames}, N, H, W]."
        )
    if not (p.min() >= 0 and p.max() <= 1):
        raise TutorialError(f"the probabilities of {name!r} must lie in [0, 1], got {p.min()} to {p.max()}.")
    return p


def _check_arrows(name: str, rollout: Rollout, frames: int) -> None:
    wrong = {
        "space": None if rollout.space in (True, False, "first frame") else rollout.space,
        "time": None if rollout.time in (True, False) else rollout.time,
        "mask": None if rollout.mask in (True, False, "from frame 2") else rollout.mask,
        "cut": None if rollout.cut is None or (rollout.time and 0 < rollout.cut < frames) else rollout.cut,
    }
    for arrow, value in wrong.items():
        if value is not None:
            raise TutorialError(
                f"roll-out {name!r} has {arrow}={value!r}; space is True, False or 'first frame', time True or "
                f"False, mask True, False or 'from frame 2', cut None or, with time, a frame 1..{frames - 1}."
            )


def _in_steps(probabilities: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """``[T, N, H, W]`` in [0, 1] as ``uint8 [T, N, h, w]`` in 0..15; from 8 on it is 0.5 and more."""
    if probabilities.shape[2:] != size:
        probabilities = F.interpolate(torch.from_numpy(probabilities), size, mode="area").numpy()
    return np.floor(probabilities * STEPS).clip(0, STEPS - 1).astype(np.uint8)


def _pack_hidden(
    rollouts: Mapping[str, Rollout], grid: tuple[int, int], one_network: bool
) -> tuple[list[dict], list[list[np.ndarray]]]:
    """For the page: a description of every level, and by roll-out and level ``uint8 [T, N, channels, h, w]``."""
    given = {name: [_floats(h) for h in r.hidden] for name, r in rollouts.items()}
    first = next(iter(given.values()))
    for name, levels in given.items():
        for k, h in enumerate(levels):
            if h.ndim != 5 or h.shape[:2] != grid or 0 in h.shape:
                raise TutorialError(
                    f"hidden level {k} of {name!r} is {list(h.shape)}; the grid asks for "
                    f"[{grid[0]}, {grid[1]}, C, h, w] ([T, N, C, h, w])."
                )
            if not np.isfinite(h).all():
                raise TutorialError(f"hidden level {k} of {name!r} holds values that are not finite.")
        if not levels or [h.shape for h in levels] != [h.shape for h in first]:
            raise TutorialError(f"roll-out {name!r} needs hidden levels of the shapes that the first roll-out has.")
    described: list[dict] = []
    states: list[list[np.ndarray]] = [[] for _ in given]
    for k in range(len(first)):
        maps = [levels[k] for levels in given.values()]
        height, width = maps[0].shape[3:]
        size = display_size(height, width, MOST_CELLS)
        variation = np.stack([h.std(axis=(3, 4)).mean(axis=(0, 1)) for h in maps])  # [modes, C]
        if one_network:
            variation[:] = variation.mean(axis=0)
        channels = [sorted(np.argsort(-v, kind="stable")[:SHOWN_CHANNELS].tolist()) for v in variation]
        shown = [_averaged(h[:, :, c], size) for h, c in zip(maps, channels, strict=True)]
        scale = [float(np.abs(h).max()) for h in shown]
        if one_network:
            scale = [max(scale)] * len(scale)
        for mine, h, largest in zip(states, shown, scale, strict=True):
            mine.append((128 + 4 * np.round(31 * h / (largest or 1.0))).astype(np.uint8))
        described.append({"size": [height, width], "shown": list(size), "channels": channels, "scale": scale})
    return described, states


def _averaged(h: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """``[T, N, C, H, W]`` to ``[T, N, C, h, w]`` by the mean over what falls into each cell."""
    if h.shape[3:] == size:
        return h
    return F.interpolate(torch.from_numpy(h).flatten(0, 1), size, mode="area").unflatten(0, h.shape[:2]).numpy()


def _ramp() -> np.ndarray:
    """Colours of -1..1 as ``uint8 [256, 3]``: from dark to light, so that the sign reads without colour too."""
    return (matplotlib.colormaps["cividis"](np.arange(256))[:, :3] * 255).round().astype(np.uint8)


def _mosaic(channels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Up to four maps ``uint8 [channels, h, w]`` two by two, ``uint8 [2H, 2W, 3]`` with H, W those of ``size``."""
    height, width = size
    board = np.full((2 * height, 2 * width, 3), 255, np.uint8)
    for place, states in enumerate(_ramp()[channels]):
        tile = np.asarray(Image.fromarray(states).resize((width - 2, height - 2), Image.Resampling.NEAREST))
        y, x = place // 2 * height + 1, place % 2 * width + 1
        board[y : y + height - 2, x : x + width - 2] = tile
    return board
