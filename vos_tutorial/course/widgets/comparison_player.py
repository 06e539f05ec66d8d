"""One clip under several methods, in step, and the frames in which they differ most."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import traitlets
from PIL import Image, ImageDraw, ImageFont

from ...clip import VOID, Clip
from ...errors import TutorialError
from ...metrics import region_similarity
from .. import figures
from .widget import POSTER_BYTES, Widget, display_size, frame_list, module, pack_frames, pack_ids, stylesheet

MOST = 12  # methods that a page can show side by side


class ComparisonPlayer(Widget):
    """The answers of several methods to one clip, side by side and in step; the truth is a white line in all of them.

    Under each picture is J of that method in every frame; a star marks the best of the present frame. The button
    *Where they differ*, or the key D, jumps to the frame with the largest spread of J, then to the next such frame.
    Frames that show no object do not count there: in them, an empty mask is right and any other is all wrong.
    Keys, on the pictures or the slider: Left and Right one frame, PageUp and PageDown a tenth of the clip, Home and
    End, Space to play. It works without a kernel.

    Args:
        clip: with the truth.
        answers: ids ``[T, H, W]`` of each method by name.
        fps: of playing, frames per second.
        max_side: pixels on the long side of what is sent to the page; larger clips are made smaller (J stays exact).
        alt: what a screen reader says the clip is.

    Attributes:
        frame, opacity, fps: live in both directions.

    Raises:
        TutorialError: if there is no method, or more than twelve, or sizes do not match.
    """

    _esm = module("comparison_player")
    _css = stylesheet("transport", "comparison_player")

    frame = traitlets.Int(0).tag(sync=True)
    opacity = traitlets.Float(0.35, min=0, max=1).tag(sync=True)
    fps = traitlets.Float(8, min=0.5, max=60).tag(sync=True)

    _frames = traitlets.Bytes().tag(sync=True)  # JPEGs, one after the other
    _offsets = traitlets.List(traitlets.Int()).tag(sync=True)
    _shape = traitlets.List(traitlets.Int()).tag(sync=True)  # T, H, W as sent
    _ids = traitlets.Bytes().tag(sync=True)  # zlib of uint8 [1 + methods, T, H, W], the truth first
    _names = traitlets.List(traitlets.Unicode()).tag(sync=True)
    _scores: Any = traitlets.List().tag(
        sync=True
    )  # of each method, J in percent by frame, null where nothing is scored
    _spread: Any = traitlets.List().tag(
        sync=True
    )  # by frame, how far J of the methods lie apart; 0 where no object is seen
    _colours = traitlets.Bytes().tag(sync=True)  # uint8 [256, 3]

    def __init__(
        self, clip: Clip, answers: Mapping[str, figures.Pixels], *, fps: float = 8, max_side: int = 320, alt: str = ""
    ) -> None:
        if not 1 <= len(answers) <= MOST:
            raise TutorialError(f"there are {len(answers)} methods; compare 1 to {MOST}.")
        self._pictures = frame_list(clip)
        self._truth = figures.as_ids(clip.masks)
        self._answers = {name: figures.as_ids(ids) for name, ids in answers.items()}
        for name, ids in self._answers.items():
            if ids.shape != self._truth.shape:
                raise TutorialError(f"{name} is {list(ids.shape)}, but the clip asks for {list(self._truth.shape)}.")
        height, width = self._truth.shape[1:]
        size = display_size(height, width, max_side)
        jpegs, offsets = pack_frames(self._pictures, size)
        self._j = [self._score(ids, clip) for ids in self._answers.values()]
        super().__init__(
            frame=int(np.argmax(spread := self._spreads())),
            fps=fps,
            alt=alt or f"Clip {clip.name} under {len(answers)} methods",
            _frames=jpegs,
            _offsets=offsets,
            _shape=[len(self._pictures), *size],
            _ids=pack_ids([self._truth, *self._answers.values()], size),
            _names=list(self._answers),
            _scores=self._j,
            _spread=spread,
            _colours=figures.object_colours().tobytes(),
        )

    def _score(self, ids: np.ndarray, clip: Clip) -> list[float | None]:
        """J in percent, the mean over the objects, of each annotated frame after the given one."""
        objects, void = clip.objects, self._truth == VOID
        each = [region_similarity(self._truth == i, ids == i, void if void.any() else None) for i in objects]
        scored = set(clip.annotated) - {0} if objects else set()
        return [
            round(100 * float(np.mean([j[t] for j in each])), 2) if t in scored else None for t in range(len(ids))
        ]

    def _spreads(self) -> list[float]:
        seen = [bool(np.isin(ids, [0, VOID], invert=True).any()) for ids in self._truth]
        columns = [[j for j in column if j is not None] for column in zip(*self._j, strict=True)]
        return [max(js) - min(js) if js and visible else 0.0 for js, visible in zip(columns, seen, strict=True)]

    @traitlets.validate("frame")
    def _known_frame(self, proposal: Any) -> int:
        if not 0 <= proposal["value"] < len(self._pictures):
            raise TutorialError(
                f"frame {proposal['value']} is not in this clip; choose 0..{len(self._pictures) - 1}."
            )
        return int(proposal["value"])

    def __repr__(self) -> str:
        h, w = self._truth.shape[1:]
        return f"ComparisonPlayer(T={len(self._truth)}, {h}x{w}, methods={self._names})"

    def poster(self) -> bytes:
        """The present frame under all methods, as a PNG of at most about 40 kB."""
        columns = min(4, len(self._answers))
        width = 720 // columns - 4
        font = ImageFont.load_default(12)
        tiles = []
        for name, ids, row in zip(self._answers, self._answers.values(), self._j, strict=True):
            drawn = figures.answer(self._pictures[self.frame], ids[self.frame], self._truth[self.frame], width=width)
            tile = Image.new("RGB", (drawn.shape[1] + 4, drawn.shape[0] + 20), "white")
            tile.paste(Image.fromarray(drawn), (0, 18))
            j = row[self.frame]
            ImageDraw.Draw(tile).text((0, 1), f"{name}{'' if j is None else f'  J {j:.0f} %'}", "#222222", font)
            tiles.append(tile)
        rows = -(-len(tiles) // columns)
        sheet = Image.new("RGB", (columns * tiles[0].width, rows * tiles[0].height), "white")
        for i, tile in enumerate(tiles):
            sheet.paste(tile, (i % columns * tile.width, i // columns * tile.height))
        return figures.small_png(sheet, POSTER_BYTES)
