"""Change a mask with four sliders, and watch what J and F make of it."""

from __future__ import annotations

import zlib
from typing import Any, NamedTuple

import numpy as np
import traitlets
from scipy import ndimage

from ... import metrics
from ...errors import TutorialError
from .. import figures
from .widget import Widget, module, pack_frames, stylesheet

STEPS = 4  # of growing, in the still picture
MARGIN = 4  # pixels around the masks there
TILE = 200  # pixels across one of its pictures


class Grades(NamedTuple):
    """J and F of a mask, and the two shares that F is made of."""

    J: float
    F: float
    precision: float
    recall: float


class GradeBench(Widget):
    """A true mask, a prediction made of it by four sliders, and its scores; all is computed on the page.

    The left picture is the frame with the prediction filled and the truth as a white line. On the right, larger, are
    both outlines, with the tolerance around the true one: points that match, points that were drawn and should not
    be, and points that were missed.

    Args:
        frame: RGB ``[3, H, W]`` or ``[H, W, 3]``, uint8 or float in [0, 1]; numpy or torch.
        truth: ``bool [H, W]``, or ids of which all but 0 are the object.
        alt: what a screen reader says the picture is.

    Attributes:
        right, down: pixels by which the prediction is shifted, at most :data:`SHIFT` either way.
        grow: pixels by which it is wider than the truth, at most :data:`GROW` either way; below 0 narrower.
        hide: percent of the object's width that is cut off on its right, 0..100.
        All are live in both directions.

    Raises:
        TutorialError: if frame and mask differ in size, the mask is empty, or a slider is set beyond its end.
    """

    _esm = module("grade_bench")
    _css = stylesheet("grade_bench")

    SHIFT, GROW = 24, 10

    right = traitlets.Int(0).tag(sync=True)
    down = traitlets.Int(0).tag(sync=True)
    grow = traitlets.Int(0).tag(sync=True)
    hide = traitlets.Int(0).tag(sync=True)

    _frame = traitlets.Bytes().tag(sync=True)  # a JPEG
    _truth = traitlets.Bytes().tag(sync=True)  # zlib of uint8 [H, W], 0 or 1
    _size = traitlets.List(traitlets.Int()).tag(sync=True)  # H, W
    _tolerance = traitlets.Int().tag(sync=True)
    _ranges = traitlets.Dict().tag(sync=True)  # slider -> [least, largest]

    def __init__(self, frame: figures.Pixels, truth: figures.Pixels, *, alt: str = "A mask and its scores") -> None:
        picture = figures.as_picture(frame)
        self._mask = np.asarray(figures.as_ids(truth)) != 0
        if self._mask.shape != picture.shape[:2]:
            raise TutorialError(
                f"the mask is {list(self._mask.shape)} but the frame is {list(picture.shape[:2])}; "
                "resize the mask (nearest)."
            )
        if not self._mask.any():
            raise TutorialError("the mask is empty, so there is nothing to score; pass one that shows the object.")
        h, w = self._mask.shape
        self._picture = picture
        shift, grow = [-self.SHIFT, self.SHIFT], [-self.GROW, self.GROW]
        self._ends = {"right": shift, "down": shift, "grow": grow, "hide": [0, 100]}
        super().__init__(
            alt=alt,
            _frame=pack_frames([picture], (h, w))[0],
            _truth=zlib.compress(self._mask.astype(np.uint8).tobytes()),
            _size=[h, w],
            _tolerance=metrics.boundary_tolerance(h, w),
            _ranges=self._ends,
        )

    @traitlets.validate("right", "down", "grow", "hide")
    def _within(self, proposal: Any) -> int:
        least, largest = self._ends[proposal["trait"].name]
        if not least <= proposal["value"] <= largest:
            raise TutorialError(f"{proposal['trait'].name} is {proposal['value']}; choose {least}..{largest}.")
        return int(proposal["value"])

    @property
    def prediction(self) -> np.ndarray:
        """The mask that the sliders make, ``bool [H, W]``: cut, then grown, then shifted."""
        return self._made(self.grow)

    def _made(self, grow: int) -> np.ndarray:
        """The sliders' mask, with another ``grow``."""
        columns = np.flatnonzero(self._mask.any(0))
        kept = round_half_up((columns[-1] + 1 - columns[0]) * (100 - self.hide) / 100)
        mask = self._mask.copy()
        mask[:, columns[0] + kept :] = False
        if grow > 0 and mask.any():
            mask = ndimage.distance_transform_edt(~mask) <= grow
        elif grow < 0 and not mask.all():
            mask = ndimage.distance_transform_edt(mask) > -grow
        return ndimage.shift(mask.astype(np.uint8), (self.down, self.right), order=0).astype(bool)

    @property
    def grades(self) -> Grades:
        """J and F of :attr:`prediction`, and F's precision and recall."""
        guess = self.prediction
        match = metrics.boundary_match(self._mask, guess)
        found, true = match.found.sum(), match.true.sum()
        return Grades(
            float(metrics.region_similarity(self._mask, guess)),
            float(metrics.boundary_accuracy(self._mask, guess)),
            float(match.precise.sum() / found) if found else 1.0,
            float(match.recalled.sum() / true) if true else 1.0,
        )

    def __repr__(self) -> str:
        h, w = self._mask.shape
        return f"GradeBench({h}x{w}, right={self.right}, down={self.down}, grow={self.grow}, hide={self.hide})"

    def poster(self) -> bytes:
        """The prediction as it grows by :data:`STEPS` pixels more, with the true outline, J and F; a PNG of 40 kB."""
        made = {grow: self._made(grow) for grow in range(self.grow, min(self.grow + STEPS, self.GROW) + 1)}
        rows, columns = _around(np.logical_or.reduce([self._mask, *made.values()]))
        tiles = {}
        for grow, guess in made.items():
            j, f = metrics.region_similarity(self._mask, guess), metrics.boundary_accuracy(self._mask, guess)
            frame, answer, truth = (array[rows, columns] for array in (self._picture, guess, self._mask))
            tiles[f"grow {grow}\nJ {j:.2f}  F {f:.2f}"] = figures.answer(frame, answer, truth, width=TILE)
        return figures.to_png(figures.gallery(tiles, columns=len(tiles)))


def _around(mask: np.ndarray) -> tuple[slice, slice]:
    """The rows and columns of a mask, with a margin."""
    h, w = mask.shape
    y, x = np.nonzero(mask)
    return (
        slice(max(int(y.min()) - MARGIN, 0), min(int(y.max()) + MARGIN + 1, h)),
        slice(max(int(x.min()) - MARGIN, 0), min(int(x.max()) + MARGIN + 1, w)),
    )


def round_half_up(value: float) -> int:
    """As the page's ``Math.round`` does."""
    return int(np.floor(value + 0.5))
