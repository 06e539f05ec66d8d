"""Move through a clip whose object only motion shows, freeze the video, and watch STCNN's temporal half go blind."""

from __future__ import annotations

import io
import zlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
import traitlets
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from PIL import Image
from torch import Tensor

from ...clip import VOID, Clip
from ...errors import TutorialError
from ...metrics import region_similarity
from ...models.frame_prediction import PredictedFrame, from_tanh, target_like
from ...models.stcnn import STCNN
from ...objects import evaluating
from .. import figures
from .widget import (
    POSTER_BYTES,
    Widget,
    display_size,
    frame_list,
    heat_over,
    module,
    pack_frames,
    pack_ids,
    stylesheet,
)

STATES = ("running", "frozen")
SPACE, TIME = "space only", "with time"
BATCH = 8  # frames that the networks see at once
# Colour and dashes of the two lines; motion_lens.css has the same.
LINES: dict[str, tuple[str, Any]] = {SPACE: (figures.VERMILLION, (0, (4, 1.6))), TIME: (figures.BLUE, "-")}


# --- What both halves say --------------------------------------------------------------------------------


class Views(NamedTuple):
    """What was said of the frames 1..T-1 of a video, S = T-1 of them.

    Attributes:
        predicted: the frame that the generator expected, float ``[S, 3, h, w]`` in [0, 1].
        motion: how far it is from the last frame that the generator saw, mean over colours, ``[S, h, w]`` in [0, 1].
        masks: by name, ``bool [S, H, W]``: where the probability is 0.5 and more.
        errors: mean squared errors of the prediction, and of the last frame as one, ``[S, 2]``, in [-1, 1] colours.
        scores: how real the discriminator finds frame and prediction, ``[S, 2]`` in [0, 1]; None without one.
    """

    predicted: np.ndarray
    motion: np.ndarray
    masks: dict[str, np.ndarray]
    errors: np.ndarray
    scores: np.ndarray | None


def windows(video: Tensor, delta: int) -> Tensor:
    """The ``delta`` frames before each of the frames 1..T-1: ``[T, ...] -> [T-1, delta, ...]``, oldest first.

    Before there are enough of them, the first frame is repeated.
    """
    past = torch.arange(1, len(video))[:, None] - torch.arange(delta, 0, -1)
    return video[past.clamp_min(0)]


@torch.no_grad()
def look(video: Tensor, network: STCNN, space_only: STCNN | None) -> Views:
    """Ask both networks for every frame but the first; there is no gate, and nothing is tuned.

    Args:
        video: float ``[T, 3, H, W]`` in [0, 1].
        network: with a generator.
        space_only: asked without a window; None: ``network``, with zeros for the generator's features.
    """
    parts = [
        _look(frame, window, network, space_only)
        for frame, window in zip(video[1:].split(BATCH), windows(video, network.delta).split(BATCH), strict=True)
    ]
    joined = [np.concatenate([part[name].float().cpu().numpy() for part in parts]) for name in parts[0]]
    found = dict(zip(parts[0], joined, strict=True))
    return Views(
        found["predicted"],
        found["motion"],
        {SPACE: found["alone"] > 0, TIME: found["joint"] > 0},
        found["errors"],
        found.get("scores"),
    )


def _look(frame: Tensor, window: Tensor, network: STCNN, space_only: STCNN | None) -> dict[str, Tensor]:
    answer = network(frame, window, sides=False)
    painted = answer.prediction.frame
    if space_only is not None:
        alone = space_only(frame, None, sides=False).logits
    else:
        d1, d2, d3 = (torch.zeros_like(d) for d in answer.prediction.features)
        alone = network.segment(frame, PredictedFrame(painted, (d1, d2, d3)), sides=False)
    truth, last = target_like(frame, painted), target_like(window[:, -1], painted)
    found = {
        "predicted": from_tanh(painted),
        "motion": (from_tanh(painted) - from_tanh(last)).abs().mean(1),
        "alone": alone[:, -1],
        "joint": answer.logits[:, -1],
        "errors": torch.stack([((x - truth) ** 2).mean((1, 2, 3)) for x in (painted, last)], 1),
    }
    if network.discriminator is not None:
        found["scores"] = torch.stack([network.discriminator(x).sigmoid() for x in (truth, painted)], 1)
    return found


# --- The widget ------------------------------------------------------------------------------------------


class MotionLens(Widget):
    """A clip, what STCNN's generator expects of its next frame, and masks without and with the generator's features.

    Computed once, for the video as it is and for the same video frozen at a frame; no kernel is asked afterwards.
    Keys on the time slider: Left and Right one frame, PageUp and PageDown a tenth of the clip, Home and End, Space to
    play, F to freeze. STCNN (Xu et al., CVPR 2019): the generator sees the last ``delta`` frames, the spatial half
    the current one. A frozen video repeats frame ``freeze_at``; ``delta`` frames later the generator sees nothing
    else. Network and frames alone decide here: no gate, no online tuning.

    Args:
        clip: of T >= 2 delta + 1 frames; all its objects together are the truth.
        network: with a generator; with a discriminator, its scores are shown.
        space_only: a network that is asked without a window; None: ``network`` itself, with zeros in place of the
            generator's features.
        freeze_at: the frame that a frozen video repeats, in delta..T-1-delta; T // 2 without.
        time: the frame to begin with, 1..T-1; without, the first one whose frozen window is all one frame, or later.
        frozen: begin with the frozen video.
        truth: begin with the outline of the truth.
        max_side: pixels on the long side of frames and masks as sent.
        alt: what a screen reader says this is.

    Attributes:
        time, frozen, truth: live in both directions.

    Raises:
        TutorialError: if the network has no generator, the clip is too short, or there is no such ``freeze_at`` or
            ``time``.
    """

    _esm = module("motion_lens")
    _css = stylesheet("motion_lens")

    time = traitlets.Int(1).tag(sync=True)
    frozen = traitlets.Bool(False).tag(sync=True)
    truth = traitlets.Bool(True).tag(sync=True)

    _frames = traitlets.Bytes().tag(sync=True)  # JPEGs of frames 0..T-1
    _offsets = traitlets.List(traitlets.Int()).tag(sync=True)
    _predicted = traitlets.Bytes().tag(sync=True)  # JPEGs [states, S], S = T-1
    _predicted_offsets = traitlets.List(traitlets.Int()).tag(sync=True)
    _shape = traitlets.Dict().tag(sync=True)  # T, delta, freeze, size [H, W] of masks, small [h, w] of motion
    _names = traitlets.List(traitlets.Unicode()).tag(sync=True)  # of the masks
    _truth = traitlets.Bytes().tag(sync=True)  # zlib of uint8 [T, H, W]: 0 or 1
    _masks = traitlets.Bytes().tag(sync=True)  # zlib of uint8 [states, masks, S, H, W]: 0 or 1
    _motion = traitlets.Bytes().tag(sync=True)  # zlib of uint8 [states, S, h, w]: 255 is `scale` and more
    # Lists [states][S]: motion in and around the object, iou [states][masks][S], errors, scores (or null); scale
    _numbers = traitlets.Dict().tag(sync=True)
    _colours = traitlets.Bytes().tag(sync=True)  # uint8 [256, 3]

    def __init__(
        self,
        clip: Clip,
        network: STCNN,
        space_only: STCNN | None = None,
        freeze_at: int | None = None,
        *,
        time: int | None = None,
        frozen: bool = False,
        truth: bool = True,
        max_side: int = 128,
        alt: str = "A camouflaged object through the two halves of STCNN",
    ) -> None:
        self._clip, self._delta = clip, _checked_delta(clip, network)
        self._freeze = len(clip) // 2 if freeze_at is None else freeze_at
        last = len(clip) - 1 - self._delta
        if not self._delta <= self._freeze <= last:
            raise TutorialError(
                f"freeze_at is {self._freeze}; choose a frame in {self._delta}..{last}: the generator needs "
                f"{self._delta} frames before it to see motion, and {self._delta} after it to lose it."
            )
        device = next(network.parameters()).device
        video = clip.frames.to(device).float() / 255
        self._views = [
            look(
                video[self._order(state)], evaluating(network), None if space_only is None else evaluating(space_only)
            )
            for state in STATES
        ]
        self._labels = {SPACE: SPACE if space_only is not None else "time zeroed", TIME: TIME}
        self._truths = ((clip.masks != 0) & (clip.masks != VOID)).numpy()
        self._voids = (clip.masks == VOID).numpy()
        self._curves = {state: self._scored(state) for state in STATES}
        # The largest, but for two pixels in a thousand: all frames of both states are drawn on one scale.
        self._scale = float(max(np.quantile(views.motion, 0.998) for views in self._views)) or 1.0
        self._pictures = frame_list(clip)

        size = display_size(*clip.size, max_side)
        height, width = self._views[0].predicted.shape[2:]
        small = display_size(height, width, max_side)
        frames, offsets = pack_frames(self._pictures, size)
        painted = [figures.as_picture(p) for views in self._views for p in views.predicted]
        predicted, predicted_offsets = pack_frames(painted, small)
        masks = [views.masks[name].astype(np.uint8) for views in self._views for name in LINES]
        super().__init__(
            alt=alt,
            time=self._freeze + self._delta if time is None else time,
            frozen=frozen,
            truth=truth,
            _frames=frames,
            _offsets=offsets,
            _predicted=predicted,
            _predicted_offsets=predicted_offsets,
            _shape={
                "T": len(clip), "delta": self._delta, "freeze": self._freeze,
                "size": list(size), "small": list(small),
            },
            _names=list(self._labels.values()),
            _truth=pack_ids([self._truths.astype(np.uint8)], size),
            _masks=pack_ids(masks, size),
            _motion=zlib.compress(b"".join(self._heat(views.motion, small).tobytes() for views in self._views), 9),
            _numbers={
                "scale": self._scale,
                "iou": [[_plain(self._curves[state][name][1:]) for name in LINES] for state in STATES],
                "motion": [self._parted(state) for state in STATES],
                "errors": [_plain(1000 * views.errors) for views in self._views],
                "scores": [_plain(v.scores) for v in self._views if v.scores is not None] or None,
            },
            _colours=figures.object_colours().tobytes(),
        )  # fmt: skip

    # --- what is computed ---

    def _order(self, state: str) -> np.ndarray:
        """Which frame of the clip the video shows at each time, ``[T]``."""
        times = np.arange(len(self._clip))
        return times if state == "running" else times.clip(max=self._freeze)

    def _scored(self, state: str) -> dict[str, np.ndarray]:
        shown = self._order(state)[1:]
        masks = self._views[STATES.index(state)].masks
        voids = self._voids[shown]
        score = {n: region_similarity(self._truths[shown], masks[n], voids if voids.any() else None) for n in LINES}
        return {name: np.concatenate([[np.nan], values]) for name, values in score.items()}

    def _parted(self, state: str) -> list[list[float | None]]:
        """By frame, the mean of the motion map in the object, and around it; None where there is no such place."""
        views = self._views[STATES.index(state)]
        truth = torch.from_numpy(self._truths[self._order(state)[1:]]).float()[:, None]
        inside = F.interpolate(truth, views.motion.shape[1:], mode="area")[:, 0].numpy() >= 0.5
        return [
            [float(motion[where].mean()) if where.any() else None for where in (one, ~one)]
            for motion, one in zip(views.motion, inside, strict=True)
        ]

    def _heat(self, motion: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        """Motion ``[S, h, w]`` as ``uint8`` of the page's scale."""
        if motion.shape[1:] != size:
            motion = F.interpolate(torch.from_numpy(motion)[:, None], size, mode="area")[:, 0].numpy()
        return (255 * motion / self._scale).round().clip(0, 255).astype(np.uint8)

    # --- what is read back ---

    def curve(self, frozen: bool | None = None) -> dict[str, np.ndarray]:
        """IoU of both masks with the truth over time: ``{"space only": float64 [T], "with time": ...}`` in [0, 1].

        Frame 0 has no past and is NaN. ``frozen`` as on the page without; the truth of a frozen video is that of the
        frame it repeats.
        """
        return {name: values.copy() for name, values in self._curves[self._state(frozen)].items()}

    def iou(self, time: int | None = None, frozen: bool | None = None) -> dict[str, float]:
        """IoU of both masks with the truth, in [0, 1]: ``{"space only": ..., "with time": ...}``.

        Args:
            time, frozen: as on the page without.

        Raises:
            TutorialError: if there is no such frame.
        """
        t = self.time if time is None else self._checked_time(time)
        return {name: float(values[t]) for name, values in self._curves[self._state(frozen)].items()}

    def _state(self, frozen: bool | None) -> str:
        return STATES[self.frozen if frozen is None else frozen]

    # --- what is refused ---

    def _checked_time(self, time: int) -> int:
        if not 1 <= time < len(self._clip):
            raise TutorialError(f"time is {time}; choose a frame in 1..{len(self._clip) - 1}: frame 0 has no past.")
        return time

    @traitlets.validate("time")
    def _known_time(self, proposal: Any) -> int:
        return self._checked_time(proposal["value"])

    # --- without a page ---

    def __repr__(self) -> str:
        height, width = self._clip.size
        return f"MotionLens({self._clip.name!r}, T={len(self._clip)}, {height}x{width}, freeze_at={self._freeze})"

    def describe(self, time: int | None = None, modes: Sequence[str] = STATES) -> str:
        """What a still picture shows, as one text, in words instead of numbers that another machine may round apart.

        Args:
            time: the frame; that of the page without.
            modes: as in :meth:`picture`.

        Raises:
            TutorialError: if there is no such frame or mode.
        """
        t = self.time if time is None else self._checked_time(time)
        parts = []
        for state in _checked_modes(modes):
            shown = int(self._order(state)[t])
            video = "the video runs" if state == "running" else f"the video stands still since frame {self._freeze}"
            said = [f"{label}, {_words(self._curves[state][name][t])}" for name, label in self._labels.items()]
            parts.append(
                f"At time {t}, while {video}: frame {shown}, the predicted frame, its distance from the last frame, "
                f"and the masks. What they find of the object: {'; '.join(said)}."
            )
        return " ".join(parts) + " Below, the IoU of both masks over time."

    def picture(self, time: int | None = None, modes: Sequence[str] = STATES) -> Figure:
        """The lens as a still picture: a row for the running video, one for the frozen one, and both IoUs over time.

        Args:
            time: the frame; that of the page without.
            modes: which rows, "running" or "frozen" or both.

        Returns:
            A figure for :func:`vos_tutorial.course.figures.show`; :meth:`describe` gives its text.

        Raises:
            TutorialError: if there is no such frame or mode.
        """
        t = self.time if time is None else self._checked_time(time)
        return self._draw(t, _checked_modes(modes), figures.WIDTH)

    def _draw(self, t: int, modes: Sequence[str], width: float) -> Figure:
        height, across = self._clip.size
        row = (width - 0.4) / 5 * height / across + 0.45
        figure, axes = figures.blank(len(modes) + 1, 5, width, row * len(modes) + 1.9)
        with figures.style():
            for cells, state in zip(axes, modes, strict=False):
                self._draw_row(cells, t, state)
            grid = axes[0, 0].get_gridspec()
            grid.set_height_ratios([*[row] * len(modes), 1.6])
            for axis in axes[-1]:
                axis.remove()
            self._draw_curves(figure.add_subplot(grid[-1, :]), t, modes)
        return figure

    def _draw_row(self, cells: Sequence[Axes], t: int, state: str) -> None:
        views, shown = self._views[STATES.index(state)], int(self._order(state)[t])
        frame, iou = self._pictures[shown], self.iou(t, state == "frozen")
        heat = self._heat(views.motion[t - 1 : t], views.motion.shape[1:])[0] / 255
        panels = {
            f"frame {shown}" + (", repeated" if shown != t else ""): frame,
            "predicted frame": figures.as_picture(views.predicted[t - 1]),
            "|predicted − last|": heat_over(np.zeros((*heat.shape, 3), np.uint8) + 108, heat),
        }
        for name, label in self._labels.items():
            mask = views.masks[name][t - 1].astype(np.uint8)
            panels[f"{label}: IoU {iou[name]:.2f}"] = figures.overlay(frame, mask)
        for number, (cell, (title, picture)) in enumerate(zip(cells, panels.items(), strict=True)):
            height, width = self._clip.size
            cell.imshow(picture, extent=(0, width, height, 0), interpolation="nearest")
            if number >= 2 and self.truth:
                _outline(cell, self._truths[shown])
            if number == 2:
                _scale(cell, self._scale)
            cell.set_title(title, fontsize=9)
            cell.set(xticks=[], yticks=[])
            cell.grid(False)
            for spine in cell.spines.values():
                spine.set_visible(False)
        cells[0].set_ylabel(state)

    def _draw_curves(self, axes: Axes, t: int, modes: Sequence[str]) -> None:
        times = np.arange(len(self._clip))
        if "frozen" in modes:
            axes.axvspan(self._freeze, times[-1], color="#ececec", linewidth=0, zorder=0)
            axes.text(
                self._freeze + 0.1, 1.02, f"frozen: frame {self._freeze} again and again", va="bottom", fontsize=9
            )
        handles = []
        for name, label in self._labels.items():
            colour, dash = LINES[name]
            for state in modes:
                thin = state == "running" and len(modes) > 1
                line = 1.0 if thin else 2.0
                marker: dict[str, Any] = {"marker": "o", "markersize": 3.0} if thin else {}
                above = 3 if name == SPACE else 2  # the dashed one: where both are equal, both can be seen
                values = self._curves[state][name]
                axes.plot(times, values, color=colour, linestyle=dash, linewidth=line, zorder=above, **marker)
                text = label if len(modes) == 1 else f"{label}, {state}"
                handles.append(Line2D([], [], color=colour, linestyle=dash, linewidth=line, label=text, **marker))
        axes.axvline(t, color=figures.INK, linewidth=1.0)
        if self.truth:
            cased = [patheffects.withStroke(linewidth=2.6, foreground=figures.INK)]
            handles.append(Line2D([], [], color="white", linestyle=(0, (2, 1)), label="truth", path_effects=cased))
        axes.set(xlim=(1, times[-1]), ylim=(-0.02, 1.02), xlabel="time (frames)", ylabel="IoU", yticks=[0, 0.5, 1])
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.figure.legend(handles=handles, loc="outside lower center", ncols=5, handlelength=2.6, columnspacing=1.4)

    def poster(self) -> bytes:
        """The frame and the state of the page, a PNG of at most 40 kB."""
        buffer = io.BytesIO()
        with figures.style():
            self._draw(self.time, [self._state(None)], 7.2).savefig(buffer, format="png", dpi=figures.DPI)
        return figures.small_png(Image.open(buffer).convert("RGB"), POSTER_BYTES)


def _checked_delta(clip: Clip, network: STCNN) -> int:
    """How many past frames the network sees, if there is a generator and the clip is long enough."""
    if network.generator is None:
        raise TutorialError(
            "the network has no generator, so there is nothing to predict with; build it with temporal=True, and "
            "pass one without as space_only."
        )
    least = 2 * network.delta + 1
    if len(clip) < least:
        raise TutorialError(
            f"clip {clip.name!r} has {len(clip)} frame(s); the lens needs at least {least}: "
            f"{network.delta} to see motion, one to freeze, {network.delta} to lose it."
        )
    return network.delta


def _checked_modes(modes: Sequence[str]) -> list[str]:
    wrong = [mode for mode in modes if mode not in STATES]
    if wrong or not modes or isinstance(modes, str):
        raise TutorialError(f"modes is {modes!r}; give a list of {' and '.join(repr(s) for s in STATES)}.")
    return list(modes)


def _plain(values: np.ndarray) -> list[Any]:
    """Numbers for the page: rounded, as JSON has them."""
    rounded: list[Any] = np.round(values.astype(np.float64), 4).tolist()
    return rounded


def _words(iou: float) -> str:
    return "next to nothing" if iou < 0.2 else "a part" if iou < 0.5 else "most"


def _scale(axes: Axes, top: float) -> None:
    """What the colours of a heat map stand for: a bar from 0 to ``top``, in its lower left corner."""
    bar = axes.inset_axes((0.14, 0.05, 0.4, 0.05))
    bar.imshow(heat_over(np.full((1, 256, 3), 108, np.uint8), np.linspace(0, 1, 256)[None]), aspect="auto")
    bar.axis("off")
    for x, side, text in ((0.12, "right", "0"), (0.56, "left", f"{top:.2f}")):
        axes.text(x, 0.075, text, color="white", fontsize=8, ha=side, va="center", transform=axes.transAxes)


def _outline(axes: Axes, mask: np.ndarray) -> None:
    """A dashed white line with a dark casing around a mask ``bool [H, W]``."""
    if not mask.any() or mask.all():
        return
    height, width = mask.shape
    y, x = np.arange(height) + 0.5, np.arange(width) + 0.5
    for colour, thick, dash in ((figures.INK, 2.6, "-"), ("white", 1.3, (0, (2.4, 1.6)))):
        axes.contour(x, y, mask, [0.5], colors=colour, linewidths=thick, linestyles=[dash])
