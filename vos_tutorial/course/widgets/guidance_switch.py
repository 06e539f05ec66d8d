"""Swap what a network is guided by, and watch its score map: every combination computed before."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
import traitlets
from PIL import Image, ImageDraw, ImageFont

from ...clip import VOID, Clip
from ...errors import TutorialError
from ...metrics import region_similarity
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


class GuidanceSwitch(Widget):
    """A network's answers under swapped guidance, one radio button away from each other; no kernel is asked.

    The left picture is the frame with the mask (probability >= 0.5), the right one the score map, with the outline
    of the truth where it is given; below, J of every frame, the present setting against all others.

    Args:
        frames: RGB ``[T, 3, H, W]`` or ``[T, H, W, 3]``, uint8 or float in [0, 1], or a Clip; numpy or torch.
        maps: by setting, probabilities of the object, float ``[T, H, W]`` in [0, 1]. A setting is a pair of texts:
            the kind of reference and the kind of previous mask; every pair of two that occur must be there.
        truth: ids ``uint8 [T, H, W]``; what is neither 0 nor void is the object.
        names: what the two texts of a setting are.
        max_side: pixels on the long side of what is sent to the page (J is computed at full size).
        alt: what a screen reader says this is.

    Attributes:
        frame, choice (the present setting, ``[first, second]``): live in both directions.

    Raises:
        TutorialError: if a combination is missing, sizes do not match, or a map holds no probabilities.
    """

    _esm = module("guidance_switch")
    _css = stylesheet("guidance_switch")

    frame = traitlets.Int(0).tag(sync=True)
    choice = traitlets.List(traitlets.Unicode()).tag(sync=True)

    _frames = traitlets.Bytes().tag(sync=True)  # JPEGs, one after the other
    _offsets = traitlets.List(traitlets.Int()).tag(sync=True)
    _shape = traitlets.List(traitlets.Int()).tag(sync=True)  # T, H, W as sent
    _maps = traitlets.Bytes().tag(sync=True)  # zlib of uint8 [first * second, T, H, W], 255 is probability 1
    _truth = traitlets.Bytes().tag(sync=True)  # zlib of uint8 [T, H, W], 0, 1, void; nothing without truth
    _names = traitlets.List(traitlets.Unicode()).tag(sync=True)
    _options = traitlets.List(traitlets.List(traitlets.Unicode())).tag(sync=True)  # of the first, of the second
    _scores: Any = traitlets.List().tag(sync=True)  # J in percent by setting and frame; nothing without truth
    _colours = traitlets.Bytes().tag(sync=True)  # uint8 [256, 3]

    def __init__(
        self,
        frames: Clip | figures.Pixels,
        maps: Mapping[tuple[str, str], figures.Pixels],
        truth: figures.Pixels | None = None,
        *,
        names: tuple[str, str] = ("reference", "previous mask"),
        max_side: int = 240,
        alt: str = "A network's answer under swapped guidance",
    ) -> None:
        self._pictures = frame_list(frames)
        self._shape_given = (len(self._pictures), *self._pictures[0].shape[:2])
        options = [list(dict.fromkeys(setting[i] for setting in maps)) for i in (0, 1)]
        self._settings = [(a, b) for a in options[0] for b in options[1]]
        if not self._settings:
            raise TutorialError("maps is empty; pass {(reference, previous mask): probabilities [T, H, W]}.")
        for setting in self._settings:
            if setting not in maps:
                raise TutorialError(f"maps has no {setting}; every pair of {options[0]} and {options[1]} is needed.")
        self._probabilities = [self._checked(setting, maps[setting]) for setting in self._settings]
        self._ids = None if truth is None else self._checked_truth(truth)
        size = display_size(self._shape_given[1], self._shape_given[2], max_side)
        jpegs, offsets = pack_frames(self._pictures, size)
        super().__init__(
            alt=alt,
            choice=list(self._settings[0]),
            _frames=jpegs,
            _offsets=offsets,
            _shape=[len(self._pictures), *size],
            _maps=zlib.compress(b"".join(_bytes(p, size) for p in self._probabilities), 6),
            _truth=b"" if self._ids is None else pack_ids([self._ids], size),
            _names=list(names),
            _options=options,
            _scores=[] if self._ids is None else [self._score(self._ids, p) for p in self._probabilities],
            _colours=figures.object_colours().tobytes(),
        )

    def _checked(self, setting: tuple[str, str], values: figures.Pixels) -> np.ndarray:
        a = values.detach().float().cpu().numpy() if isinstance(values, torch.Tensor) else np.asarray(values)
        if a.shape != self._shape_given:
            raise TutorialError(
                f"the map {setting} is {list(a.shape)} but the frames ask for {list(self._shape_given)} ([T, H, W])."
            )
        if not np.issubdtype(a.dtype, np.floating) or not (a.min() >= 0 and a.max() <= 1):
            raise TutorialError(
                f"the map {setting} must hold probabilities in [0, 1], got {a.dtype} up to {a.max()}."
            )
        return a

    def _checked_truth(self, truth: figures.Pixels) -> np.ndarray:
        ids = figures.as_ids(truth)
        if ids.shape != self._shape_given:
            raise TutorialError(
                f"truth is {list(ids.shape)} but the frames ask for {list(self._shape_given)} ([T, H, W])."
            )
        return np.where((ids > 0) & (ids != VOID), np.uint8(1), ids)

    @staticmethod
    def _score(ids: np.ndarray, probabilities: np.ndarray) -> list[float]:
        """J in percent of each frame."""
        return [round(100 * float(j), 2) for j in region_similarity(ids == 1, probabilities >= 0.5, ids == VOID)]

    @traitlets.validate("choice")
    def _known_choice(self, proposal: Any) -> list[str]:
        choice = list(proposal["value"])
        if tuple(choice) not in self._settings:
            raise TutorialError(f"choice {choice} does not exist; choose one of {[list(s) for s in self._settings]}.")
        return choice

    @traitlets.validate("frame")
    def _known_frame(self, proposal: Any) -> int:
        if not 0 <= proposal["value"] < len(self._pictures):
            last = len(self._pictures) - 1
            raise TutorialError(f"frame {proposal['value']} is not in this clip; choose 0..{last}.")
        return int(proposal["value"])

    def __repr__(self) -> str:
        t, h, w = self._shape_given
        return f"GuidanceSwitch(T={t}, {h}x{w}, settings={len(self._settings)})"

    def poster(self) -> bytes:
        """The score maps of all settings at the present frame (the middle one at the start), as a PNG of 40 kB."""
        t = self.frame or len(self._pictures) // 2
        columns = max(2, len(self._options[1]))
        width = min(160, 720 // columns - 4)
        tiles = [self._poster_tile(k, t, width) for k in range(len(self._settings))]
        height = tiles[0].height + 4
        per_row = len(self._options[1])
        below = len(self._options[0]) * height
        board = Image.new("RGB", (per_row * (width + 4) - 4, below + 16), "white")
        for k, tile in enumerate(tiles):
            board.paste(tile, (k % per_row * (width + 4), k // per_row * height))
        self._poster_scale(board, below)
        return figures.small_png(board, POSTER_BYTES)

    @staticmethod
    def _poster_scale(board: Image.Image, top: int) -> None:
        """What the colours of the maps mean, from 0 to 1, in the last 16 rows."""
        draw, font = ImageDraw.Draw(board), ImageFont.load_default(11)
        ramp = np.linspace(0, 1, 80, dtype=np.float32)[None].repeat(10, axis=0)
        grey = np.full((*ramp.shape, 3), 128, np.uint8)  # the map lies on a dark, grey frame
        start = round(draw.textlength("score map 0 ", font))
        draw.text((0, top + 1), "score map 0", figures.INK, font)
        board.paste(Image.fromarray(heat_over(grey, ramp)), (start, top + 3))
        draw.text((start + 84, top + 1), "1", figures.INK, font)

    def _poster_tile(self, k: int, t: int, width: int) -> Image.Image:
        _, h, w = self._shape_given
        size = (width, max(1, round(width * h / w)))
        ground = Image.fromarray(self._pictures[t]).resize(size, Image.Resampling.LANCZOS)
        heat = Image.fromarray(self._probabilities[k][t].astype(np.float32)).resize(size, Image.Resampling.BILINEAR)
        picture = heat_over(np.asarray(ground), np.asarray(heat))
        score = f", J {self._scores[k][t]:.0f} %" if self._scores else ""
        tile = Image.new("RGB", (width, size[1] + 28), "white")
        tile.paste(Image.fromarray(picture), (0, 28))
        draw, font = ImageDraw.Draw(tile), ImageFont.load_default(11)
        first, second = self._settings[k]
        draw.text((0, 1), first, figures.INK, font)
        draw.text((0, 13), f"{second}{score}", figures.INK, font)
        return tile


def _bytes(probabilities: np.ndarray, size: tuple[int, int]) -> bytes:
    """``[T, H, W]`` in [0, 1] as ``uint8 [T, h, w]``; 128 and more is 0.5 and more."""
    levels = np.floor(probabilities * 255 + 0.5).astype(np.uint8)
    if levels.shape[1:] == size:
        return levels.tobytes()
    small = (Image.fromarray(level).resize((size[1], size[0]), Image.Resampling.BILINEAR) for level in levels)
    return b"".join(np.asarray(level).tobytes() for level in small)
