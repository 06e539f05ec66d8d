"""Scrub and play a clip with its masks: truth, one or several predictions, and what is wrong with each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import traitlets
from PIL import Image, ImageColor, ImageDraw, ImageFont

from ...clip import VOID, Clip
from ...errors import TutorialError
from ...metrics import region_similarity
from .. import figures
from .widget import POSTER_BYTES, Widget, display_size, frame_list, module, pack_frames, pack_ids, stylesheet

ERROR = "error"
SCORES = 56  # pixels of the still's bars


class MaskPlayer(Widget):
    """A clip one can scrub, play and look into; it moves in the browser, also while the kernel is busy.

    Keys, on the picture or the slider: Left and Right one frame, PageUp and PageDown a tenth of the clip, Home and
    End, Space to play. A strip under the slider shows J of every frame, so that failures are found at a glance.

    Args:
        frames: a Clip, or ``[T, 3, H, W]`` or ``[T, H, W, 3]``, uint8 or float in [0, 1]; numpy or torch.
        gt: the truth, ids ``[T, H, W]``; a Clip brings its own.
        pred: ids ``[T, H, W]``, or one such per method by name, to compare them.
        labels: names of objects 1, 2, ..., or ``{id: name}``.
        view: what to show first, one of :attr:`views`; without, the (first) prediction, else the truth.
        fps: of playing, frames per second.
        max_side: pixels on the long side of what is sent to the page; larger clips are made smaller (J stays exact).
        stills: frames of the still picture; five, evenly spread, without.
        alt: what a screen reader says the clip is.

    Attributes:
        frame, view, opacity, hidden (ids switched off), fps: live in both directions.

    Raises:
        TutorialError: if sizes do not match, a mask holds no ids, ``view`` does not exist, or a still is not in the
            clip.
    """

    _esm = module("mask_player")
    _css = stylesheet("transport", "mask_player")

    frame = traitlets.Int(0).tag(sync=True)
    view = traitlets.Unicode("").tag(sync=True)
    opacity = traitlets.Float(0.45, min=0, max=1).tag(sync=True)
    hidden = traitlets.List(traitlets.Int()).tag(sync=True)
    fps = traitlets.Float(8, min=0.5, max=60).tag(sync=True)

    _frames = traitlets.Bytes().tag(sync=True)  # JPEGs, one after the other
    _offsets = traitlets.List(traitlets.Int()).tag(sync=True)
    _shape = traitlets.List(traitlets.Int()).tag(sync=True)  # T, H, W as sent
    _ids = traitlets.Bytes().tag(sync=True)  # zlib of uint8 [layers, T, H, W]; the truth, if any, is layer 0
    _views = traitlets.List(traitlets.Dict()).tag(sync=True)  # {name, layer (-1: none), error}
    _scores = traitlets.Dict().tag(sync=True)  # layer -> J in percent by frame, null where there is no truth
    _objects = traitlets.List(traitlets.Dict()).tag(sync=True)  # {id, label}
    _colours = traitlets.Bytes().tag(sync=True)  # uint8 [256, 3]

    def __init__(
        self,
        frames: Clip | figures.Pixels,
        gt: figures.Pixels | None = None,
        pred: figures.Pixels | Mapping[str, figures.Pixels] | None = None,
        labels: Sequence[str] | Mapping[int, str] = (),
        *,
        view: str | None = None,
        opacity: float = 0.45,
        fps: float = 8,
        max_side: int = 480,
        stills: Sequence[int] | None = None,
        alt: str = "",
    ) -> None:
        self._pictures = frame_list(frames)
        gt = frames.masks if gt is None and isinstance(frames, Clip) else gt
        self._gt = None if gt is None else self._checked("gt", gt)
        self._annotated = frames.annotated if isinstance(frames, Clip) else range(len(self._pictures))
        self._labels = dict(labels) if isinstance(labels, Mapping) else dict(enumerate(labels, start=1))
        self._stills = figures.key_frames(len(self._pictures), 5) if stills is None else list(stills)
        if bad := [t for t in self._stills if not 0 <= t < len(self._pictures)]:
            raise TutorialError(f"still {bad[0]} is not in this clip; choose 0..{len(self._pictures) - 1}.")
        h, w = self._pictures[0].shape[:2]
        self._sent_size = display_size(h, w, max_side)
        jpegs, offsets = pack_frames(self._pictures, self._sent_size)
        super().__init__(
            fps=fps,
            opacity=opacity,
            alt=alt or (f"Clip {frames.name}" if isinstance(frames, Clip) else "Clip"),
            _frames=jpegs,
            _offsets=offsets,
            _shape=[len(self._pictures), *self._sent_size],
            _colours=figures.object_colours().tobytes(),
        )
        self.pred = pred
        if view is not None:
            self.view = view

    @property
    def views(self) -> list[str]:
        """What :attr:`view` can be."""
        return [view["name"] for view in self._views]

    @property
    def pred(self) -> dict[str, np.ndarray]:
        """The predictions by name, ``uint8 [T, H, W]``; set it to an array, a mapping or None: the page follows."""
        return self._predictions

    @pred.setter
    def pred(self, pred: figures.Pixels | Mapping[str, figures.Pixels] | None) -> None:
        named = pred if isinstance(pred, Mapping) else {} if pred is None else {"prediction": pred}
        checked = {name: self._checked(f"pred {name!r}", ids) for name, ids in named.items()}
        truth = [] if self._gt is None else [self._gt]
        layers = [*truth, *checked.values()]

        views: list[dict[str, Any]] = [{"name": "truth", "layer": 0, ERROR: False}] if truth else []
        for layer, name in enumerate(checked, start=len(views)):
            views.append({"name": name, "layer": layer, ERROR: False})
            if truth:
                wrong = f"{name}: {ERROR}" if isinstance(pred, Mapping) else ERROR
                views.append({"name": wrong, "layer": layer, ERROR: True})
        views = views or [{"name": "frames", "layer": -1, ERROR: False}]
        ids = {int(i) for layer in layers for i in np.unique(layer)} - {0, VOID} | self._labels.keys()

        self._predictions = checked
        with self.hold_sync():  # one message: the page never sees new views with old masks
            self._objects = [{"id": i, "label": self._labels.get(i, f"object {i}")} for i in sorted(ids)]
            self._scores = {str(i + 1): self._score(ids) for i, ids in enumerate(checked.values())} if truth else {}
            self._ids = pack_ids(layers, self._sent_size)
            self._views = views
            if self.view not in self.views:
                self.view = next(iter(checked), views[0]["name"])

    def _checked(self, name: str, masks: figures.Pixels) -> np.ndarray:
        ids = figures.as_ids(masks)
        expected = (len(self._pictures), *self._pictures[0].shape[:2])
        if ids.shape != expected:
            raise TutorialError(f"{name} is {list(ids.shape)} but the frames ask for {list(expected)} ([T, H, W]).")
        return ids

    def _score(self, ids: np.ndarray) -> list[float | None]:
        """J in percent, the mean over the objects of the truth, of each annotated frame."""
        assert self._gt is not None
        void = self._gt == VOID
        objects = [int(i) for i in np.unique(self._gt) if int(i) not in (0, VOID)]
        if not objects:
            return [None] * len(ids)
        each = [region_similarity(self._gt == i, ids == i, void if void.any() else None) for i in objects]
        mean = 100 * np.mean(each, axis=0)
        return [round(float(mean[t]), 2) if t in set(self._annotated) else None for t in range(len(ids))]

    @traitlets.validate("view")
    def _known_view(self, proposal: Any) -> str:
        if self._views and proposal["value"] not in self.views:
            raise TutorialError(f"view {proposal['value']!r} does not exist; choose one of {', '.join(self.views)}.")
        return str(proposal["value"])

    @traitlets.validate("frame")
    def _known_frame(self, proposal: Any) -> int:
        if not 0 <= proposal["value"] < len(self._pictures):
            last = len(self._pictures) - 1
            raise TutorialError(f"frame {proposal['value']} is not in this clip; choose 0..{last}.")
        return int(proposal["value"])

    def __repr__(self) -> str:
        h, w = self._pictures[0].shape[:2]
        return f"MaskPlayer(T={len(self._pictures)}, {h}x{w}, objects={len(self._objects)}, views={self.views})"

    def poster(self) -> bytes:
        """The still frames of the present view, five in a row, and J of every frame: a PNG of about 40 kB at most."""
        times, columns = self._stills, min(5, len(self._stills))
        width = min(240, 720 // columns)
        tiles = [self._still(t, width) for t in times]
        high = tiles[0].height + 4
        rows = -(-len(tiles) // columns)
        scores = self._scores.get(str(self._shown["layer"]))
        board = Image.new("RGB", ((width + 4) * columns - 4, rows * high - 4 + (SCORES if scores else 0)), "white")
        for i, tile in enumerate(tiles):
            board.paste(tile, (i % columns * (width + 4), i // columns * high))
        if scores:
            _draw_scores(ImageDraw.Draw(board), scores, rows * high, board.width)
        return figures.small_png(board, POSTER_BYTES)

    @property
    def _shown(self) -> dict[str, Any]:
        """The present view."""
        return next(view for view in self._views if view["name"] == self.view)

    def _still(self, t: int, width: int) -> Image.Image:
        """Frame ``t`` in the present view: an answer with the truth as a white line, or what is wrong with it."""
        layer, picture = self._shown["layer"], self._pictures[t]
        masks = [*([] if self._gt is None else [self._gt]), *self._predictions.values()]
        if layer < 0:
            drawn = figures.answer(picture, None, width=width)
        elif self._shown[ERROR]:
            drawn = _errors(picture, figures.error_kinds(masks[0][t], masks[layer][t]), width)
        else:
            judged = masks[0][t] if self._gt is not None and layer > 0 else None
            drawn = figures.answer(picture, masks[layer][t], judged, width, fill=self.opacity)
        still = Image.fromarray(drawn)
        font = ImageFont.load_default(12)
        ImageDraw.Draw(still).text((4, 2), f"{t}", "white", font, stroke_width=2, stroke_fill="#222222")
        return still


def _errors(picture: np.ndarray, kinds: np.ndarray, width: int) -> np.ndarray:
    """A frame gone pale ``uint8 [H, W, 3]``, and upon it the colour of each kind of error ``[H, W]``."""
    size = (width, max(1, round(width * picture.shape[0] / picture.shape[1])))
    out = 160 + np.array(Image.fromarray(picture).convert("L").resize(size))[..., None].repeat(3, 2) // 4
    large = np.array(Image.fromarray(kinds).resize(size, Image.Resampling.NEAREST))
    for kind, (_, colour, _) in figures.ERRORS.items():
        out[large == kind] = ImageColor.getrgb(colour)
    return out.astype(np.uint8)


def _draw_scores(draw: ImageDraw.ImageDraw, scores: Sequence[float | None], top: int, width: int) -> None:
    """A bar for each frame, as tall as J; numbers below every fifth one."""
    font, left = ImageFont.load_default(11), 48
    draw.text((0, top), "J, 0 to\n100 %", figures.INK, font)
    step, floor = (width - left) / len(scores), top + SCORES - 16
    for t, score in enumerate(scores):
        x = left + step * t
        draw.line((x, floor, x + step - 2, floor), fill=figures.FAINT)
        if score:
            draw.rectangle((x, floor - (SCORES - 20) * score / 100, x + step - 2, floor), fill=figures.INK)
        if t % 5 == 0:
            draw.text((x + step / 2 - 1, floor + 2), f"{t}", figures.INK, font, anchor="ma")
