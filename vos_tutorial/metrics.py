"""How good is a mask? Region similarity J, boundary accuracy F, and how DAVIS averages them.

The measures are those of Perazzi et al., "A Benchmark Dataset and Evaluation Methodology for Video Object
Segmentation" (CVPR 2016, section 5), in the exact form of the official toolkit of DAVIS-2017: the numbers agree
with it frame by frame. Temporal stability T, which only DAVIS-2016 has, is not here.

Three floors, from pixels to tables:

1. one frame: :func:`region_similarity`, :func:`boundary_map`, :func:`boundary_accuracy`, :func:`boundary_match`;
2. one object's video: :func:`statistics` turns its values into mean, recall and decay;
3. one data set: :func:`score_objects` follows a protocol, :func:`average` gives the row of a paper's table.

How F gets fast. Its cost is in asking, for every boundary pixel, whether the other boundary passes within a few
pixels; that is a dilation by a disk, dozens of shifted ORs over the whole picture. A bool array spends eight bits
on one answer. So eight frames are packed into one ``uint8`` picture, frame k in bit k, and every ``|``, ``&`` and
``^`` then works on eight frames at once. Nothing is approximated, and no float picture is ever made.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from .clip import VOID
from .errors import TutorialError

Masks: TypeAlias = NDArray[np.bool_] | Tensor
Values: TypeAlias = NDArray[np.float64]
ProtocolName = Literal["davis2016", "davis2017", "youtube-vos"]
PROTOCOLS: tuple[ProtocolName, ...] = get_args(ProtocolName)


# ---------------------------------------------------------------------------------------------- one frame


def region_similarity(truth: Masks, prediction: Masks, void: Masks | None = None) -> Values:
    """J, the intersection over union of two masks (Jaccard index; Perazzi et al., section 5).

    Args:
        truth: ``bool [T, H, W]``, numpy or torch (any device); integers count as foreground where not zero.
        prediction: the same shape.
        void: the same shape; pixels that count for nothing. DAVIS leaves it out in the semi-supervised task.

    Returns:
        ``float64 [T]`` in [0, 1]; a single ``[H, W]`` mask gives a single number. Two empty masks agree: 1.

    Raises:
        TutorialError: if the shapes differ or the masks are floats.
    """
    shape = tuple(truth.shape)
    t, p = _as_masks(truth, "truth", shape), _as_masks(prediction, "prediction", shape)
    v = None if void is None else _as_masks(void, "void", shape)
    values = np.ones(len(t))
    both = np.empty(t.shape[1:], dtype=bool)
    for k in range(len(t)):
        a, b = (t[k], p[k]) if v is None else (t[k] & ~v[k], p[k] & ~v[k])
        intersection = np.count_nonzero(np.logical_and(a, b, out=both))
        if union := np.count_nonzero(a) + np.count_nonzero(b) - intersection:
            values[k] = intersection / union
    return values if len(shape) == 3 else values[0]


def boundary_map(mask: NDArray) -> NDArray:
    """The pixels where a mask changes: those that differ from their right, lower or lower-right neighbour.

    The map lies half a pixel towards the top left: a lone pixel has a boundary of 2x2. In the last row only the
    right neighbour exists and in the last column only the lower one, so an object that is cut by the border of the
    picture has no boundary there, a mask that fills the picture has none at all, and a mask and its complement
    have the same.

    Args:
        mask: ``bool [..., H, W]``; with ``uint8``, each of the eight bits is a mask of its own.

    Returns:
        The same shape and dtype.
    """
    edges = np.zeros_like(mask)
    edges[..., :, :-1] |= mask[..., :, :-1] ^ mask[..., :, 1:]
    edges[..., :-1, :] |= mask[..., :-1, :] ^ mask[..., 1:, :]
    edges[..., :-1, :-1] |= mask[..., :-1, :-1] ^ mask[..., 1:, 1:]
    return edges


def boundary_tolerance(height: int, width: int, bound_th: float = 0.008) -> int:
    """How far apart two boundaries may be and still agree, in pixels; 8 for 480x854.

    It grows with the picture, not with the object: the same masks at half the size get another F, so masks must
    be brought back to the size of the annotation before they are scored.

    Args:
        height, width: of the picture.
        bound_th: below 1 a share of the diagonal (rounded up), from 1 on a whole number of pixels.

    Raises:
        TutorialError: if ``bound_th`` is negative, or neither below 1 nor whole.
    """
    if bound_th < 0 or (bound_th >= 1 and bound_th != int(bound_th)) or math.isnan(bound_th):
        raise TutorialError(f"bound_th is {bound_th}; give a share of the diagonal in [0, 1) or whole pixels.")
    return int(bound_th) if bound_th >= 1 else math.ceil(bound_th * math.sqrt(height**2 + width**2))


def boundary_accuracy(truth: Masks, prediction: Masks, bound_th: float = 0.008, void: Masks | None = None) -> Values:
    """F, the F-measure of two boundaries that may miss each other by a few pixels (Perazzi et al., section 5).

    Precision is the share of the predicted boundary within the tolerance of the true one, recall the share of the
    true boundary within the tolerance of the predicted one, and ``F = 2 P R / (P + R)``. "Within" is Euclidean:
    a disk, not a square. If both boundaries are empty F is 1, if one is empty F is 0. (These are the *boundaries*:
    an empty and a full mask have none, so F between them is 1, while J is 0.)

    Args:
        truth: ``bool [T, H, W]``, numpy or torch (any device); integers count as foreground where not zero.
        prediction: the same shape.
        bound_th: the tolerance, see :func:`boundary_tolerance`.
        void: the same shape; taken out of both masks before their boundaries are drawn.

    Returns:
        ``float64 [T]`` in [0, 1]; a single ``[H, W]`` mask gives a single number.

    Raises:
        TutorialError: if the shapes differ, the masks are floats, or ``bound_th`` makes no sense.
    """
    shape = tuple(truth.shape)
    t, p = _as_masks(truth, "truth", shape), _as_masks(prediction, "prediction", shape)
    v = None if void is None else _as_masks(void, "void", shape)
    radius = boundary_tolerance(t.shape[1], t.shape[2], bound_th)
    parts = [
        _boundary_accuracy_of_eight(t[k : k + 8], p[k : k + 8], radius, None if v is None else v[k : k + 8])
        for k in range(0, len(t), 8)
    ]
    values = np.concatenate(parts) if parts else np.zeros(0)
    return values if len(shape) == 3 else values[0]


class BoundaryMatch(NamedTuple):
    """What F counts in one frame, ``bool [H, W]`` each: see :func:`boundary_match`.

    Attributes:
        true, found: the boundaries of the truth and of the prediction.
        near_true, near_found: the pixels within the tolerance of each.
    """

    true: NDArray[np.bool_]
    found: NDArray[np.bool_]
    near_true: NDArray[np.bool_]
    near_found: NDArray[np.bool_]

    @property
    def precise(self) -> NDArray[np.bool_]:
        """The predicted boundary that is near the true one; its share is the precision."""
        return self.found & self.near_true

    @property
    def recalled(self) -> NDArray[np.bool_]:
        """The true boundary that is near the predicted one; its share is the recall."""
        return self.true & self.near_found


def boundary_match(truth: Masks, prediction: Masks, bound_th: float = 0.008) -> BoundaryMatch:
    """The boundaries behind F of one frame, and what of them is matched: for pictures, not for speed.

    Args:
        truth: ``bool [H, W]``, numpy or torch; integers count as foreground where not zero.
        prediction: the same shape.
        bound_th: the tolerance, see :func:`boundary_tolerance`.

    Raises:
        TutorialError: if the shapes differ, the masks are floats or not of one frame, or ``bound_th`` makes no sense.
    """
    shape = tuple(truth.shape)
    if len(shape) != 2:
        raise TutorialError(f"boundary_match() takes one frame, [H, W], but truth is {list(shape)}; pass truth[t].")
    t, p = _as_masks(truth, "truth", shape)[0], _as_masks(prediction, "prediction", shape)[0]
    radius = boundary_tolerance(t.shape[0], t.shape[1], bound_th)
    true, found = boundary_map(t), boundary_map(p)
    near_true, near_found = (_dilate(edges.view(np.uint8), radius).view(np.bool_) for edges in (true, found))
    return BoundaryMatch(true, found, near_true, near_found)


def _as_masks(given: Masks, name: str, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """One argument as a ``bool [T, H, W]`` array, checked; no copy is made if it is one already."""
    array = given.cpu().numpy() if isinstance(given, Tensor) else np.asarray(given)
    if array.dtype.kind not in "bui":
        raise TutorialError(f"{name} is {array.dtype}, but a mask is bool; compare probabilities with > 0.5.")
    if array.ndim not in (2, 3) or array.shape != shape:
        raise TutorialError(
            f"{name} is {list(array.shape)} where truth is {list(shape)}; all masks must be the same [T, H, W], "
            "so bring the prediction to the size of the truth (nearest neighbour)."
        )
    return array.astype(bool, copy=False).reshape(-1, *shape[-2:])


# ------------------------------------------------------------------- F, eight frames in one uint8 picture

# BITS[v] are the eight bits of the byte v, lowest first: a histogram of bytes @ BITS counts each frame's pixels.
BITS = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1, bitorder="little").astype(np.int64)


def _boundary_accuracy_of_eight(
    truth: NDArray[np.bool_], prediction: NDArray[np.bool_], radius: int, void: NDArray[np.bool_] | None
) -> Values:
    """F of up to eight frames, ``bool [n, H, W]`` each -> ``float64 [n]``."""
    packed_truth, packed_prediction = _pack(truth), _pack(prediction)
    if void is not None:
        packed_truth &= ~_pack(void)
        packed_prediction &= ~_pack(void)
    box = _joint_box(packed_truth | packed_prediction)
    true, found = boundary_map(packed_truth[box]), boundary_map(packed_prediction[box])
    n_true, n_recalled = _count(true, _dilate(found, radius))
    n_found, n_precise = _count(found, _dilate(true, radius))

    precision = n_precise / np.maximum(n_found, 1)
    recall = n_recalled / np.maximum(n_true, 1)
    f = 2 * precision * recall / np.where(precision + recall > 0, precision + recall, 1)
    f[(n_true == 0) & (n_found == 0)] = 1
    return f[: len(truth)]


def _pack(masks: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Up to eight masks ``bool [n, H, W]`` -> ``uint8 [H, W]`` with mask k in bit k."""
    packed = masks[-1].astype(np.uint8)
    for mask in masks[-2::-1]:
        packed += packed  # one bit to the left; numpy adds bytes faster than it shifts them
        packed |= mask.view(np.uint8)
    return packed


def _joint_box(packed: NDArray[np.uint8]) -> tuple[slice, slice]:
    """Rows and columns that hold all foreground and, where the picture goes on, one pixel more on each side.

    That pixel keeps the boundary map of the box equal to that of the picture. The dilation needs no margin: what it
    would add outside the box meets no boundary there.
    """
    rows, columns = np.flatnonzero(packed.any(axis=1)), np.flatnonzero(np.bitwise_or.reduce(packed, axis=0))
    if not len(rows):
        return slice(0), slice(0)
    return slice(max(rows[0] - 1, 0), rows[-1] + 2), slice(max(columns[0] - 1, 0), columns[-1] + 2)


def _dilate(picture: NDArray[np.uint8], radius: int) -> NDArray[np.uint8]:
    """Every bit spread over the disk ``dy^2 + dx^2 <= radius^2``; ``uint8 [h, w]`` -> the same.

    A disk is a stack of rows, ``2 dx + 1`` wide at height ``dy`` with ``dx = floor(sqrt(radius^2 - dy^2))``. From
    its tips to its middle the rows only get wider. So we keep one picture ``run``, in which each pixel is the OR of
    ``length`` pixels from itself to the right, lengthen it as we go, and OR it in at every height.

    The picture is laid out flat, with ``radius`` empty pixels before each row and an empty row at the end, so that
    looking ``dx`` to the left or right never meets another row, and every move is one slice of one long array.
    """
    h, w = picture.shape
    stride = radius + w
    padded = np.zeros((h + 1, stride), dtype=np.uint8)
    padded[:h, radius:] = picture
    run = padded.ravel()
    longer, spread = np.zeros_like(run), np.zeros_like(run)
    length = 1
    for dy in range(min(radius, h - 1), -1, -1):
        dx = math.isqrt(radius**2 - dy**2)
        while length < 2 * dx + 1:
            step = min(length, 2 * dx + 1 - length)  # two runs that touch or overlap make a longer one
            np.bitwise_or(run[:-step], run[step:], out=longer[:-step])
            run, longer = longer, run
            length += step
        for offset in {dy * stride - dx, -dy * stride - dx}:
            if offset >= 0:
                spread[: len(run) - offset] |= run[offset:]
            else:
                spread[-offset:] |= run[:offset]
    return spread.reshape(h + 1, stride)[:h, radius:]


def _count(edges: NDArray[np.uint8], near: NDArray[np.uint8]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """For each of the eight frames: how many pixels ``edges`` has, and how many of them ``near`` covers."""
    places = np.flatnonzero(edges != 0)
    bits = edges.ravel()[places]
    covered = bits & near.ravel()[places]
    return np.bincount(bits, minlength=256) @ BITS, np.bincount(covered, minlength=256) @ BITS


# ------------------------------------------------------------------------------------- one object's video


class Statistics(NamedTuple):
    """What DAVIS reports of one measure of one object: see :func:`statistics`."""

    mean: float
    recall: float
    decay: float


def statistics(values: Sequence[float] | Values) -> Statistics:
    """Mean, recall and decay of a series of J or F (Perazzi et al., section 5).

    Args:
        values: ``float [n]``, the *scored* frames only (see :func:`scored_frames`), in order. NaN marks a frame
            without a value: mean and decay pass over it, recall counts it as a failure.

    Returns:
        ``(mean, recall, decay)``: the mean; the share of frames strictly above 0.5; the mean of the first quarter
        minus that of the last (positive: it gets worse). The quarters share their border frames, as in the
        official toolkit, whose decay is right up to 255 frames; this one is right for any length.

    Raises:
        TutorialError: if there is no value.
    """
    x = np.asarray(values, dtype=np.float64)
    if x.ndim != 1 or not len(x):
        raise TutorialError(f"statistics need a list of at least one value, got shape {list(x.shape)}.")
    borders = np.round(np.linspace(1, len(x), 5) + 1e-10).astype(np.int64) - 1
    first, last = x[borders[0] : borders[1] + 1], x[borders[3] : borders[4] + 1]
    return Statistics(_mean(x), float(np.mean(x > 0.5)), _mean(first) - _mean(last))


def _mean(x: Values) -> float:
    """The mean of what is not NaN; NaN (and no warning) if nothing is left."""
    known = x[~np.isnan(x)]
    return float(known.mean()) if len(known) else math.nan


# --------------------------------------------------------------------------------------------- a data set


class Summary(NamedTuple):
    """J and F of an object, or averaged over objects."""

    J: Statistics
    F: Statistics

    @property
    def J_and_F(self) -> float:
        """J&F, the number that ranks methods: the mean of the two means."""
        return (self.J.mean + self.F.mean) / 2


@dataclass(frozen=True)
class ObjectScore:
    """One object in one clip.

    Attributes:
        object: its id.
        J, F: ``float64 [T]``, a value for every frame; NaN where there is no annotation.
        frames: ``int64 [n]``, the frames that count.
    """

    object: int
    J: Values
    F: Values
    frames: NDArray[np.int64]

    @property
    def summary(self) -> Summary:
        """The statistics over the frames that count."""
        return Summary(statistics(self.J[self.frames]), statistics(self.F[self.frames]))


def scored_frames(
    length: int, protocol: ProtocolName = "davis2017", annotated: Sequence[int] | None = None, first: int = 0
) -> NDArray[np.int64]:
    """Which frames count.

    DAVIS drops the first frame, whose mask is given, and the last, for which some early methods had no result.
    YouTube-VOS scores on a server whose code is not public: our ``"youtube-vos"`` (not official) counts every
    annotated frame after the one in which the object is given.

    Args:
        length: T, frames of the clip.
        protocol: one of :data:`PROTOCOLS`.
        annotated: frames with a mask; all by default. DAVIS annotates all.
        first: the frame in which the object is given; 0 in DAVIS.

    Returns:
        ``int64 [n]``, ascending; may be empty.

    Raises:
        TutorialError: if there is no such protocol.
    """
    if protocol not in PROTOCOLS:
        raise TutorialError(f"there is no protocol {protocol!r}; choose one of {', '.join(PROTOCOLS)}.")
    if protocol == "youtube-vos":
        known = range(length) if annotated is None else annotated
        return np.array([t for t in known if t > first], dtype=np.int64)
    return np.arange(1, length - 1, dtype=np.int64)


def merge_objects(ids: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """All objects as one, id 1, as in DAVIS-2016; void becomes background. ``uint8``, any shape."""
    return ((ids != 0) & (ids != VOID)).astype(np.uint8)


def score_objects(
    truth: NDArray[np.uint8] | Tensor,
    prediction: NDArray[np.uint8] | Tensor,
    protocol: ProtocolName = "davis2017",
    annotated: Sequence[int] | None = None,
) -> list[ObjectScore]:
    """J and F of every object of one clip.

    ``"davis2016"`` merges all objects of the truth, and all of the prediction, into one. ``"davis2017"`` scores
    the objects of the first mask, each for itself; one that is absent from a frame scores 1 there if the prediction
    leaves it out too, else 0; objects that appear later are not scored. (The official toolkit also counts the gaps
    in the ids of the first mask as objects; DAVIS has no such gap, and we do not.) ``"youtube-vos"`` scores all
    objects, see :func:`scored_frames`. Void is background, as in the official semi-supervised task.

    Args:
        truth: ``uint8 [T, H, W]`` object ids, 255 void.
        prediction: ``uint8 [T, H, W]``.
        protocol: one of :data:`PROTOCOLS`.
        annotated: frames of ``truth`` that hold an annotation; all by default, none if empty.

    Returns:
        One :class:`ObjectScore` per object, by ascending id.

    Raises:
        TutorialError: if the shapes differ, no frame would count, the truth has no object to score, or the
            prediction holds ids that were not given (the official toolkit stops there too).
    """
    t, p = (x.cpu().numpy() if isinstance(x, Tensor) else np.asarray(x) for x in (truth, prediction))
    if t.ndim != 3 or t.shape != p.shape:
        raise TutorialError(
            f"truth is {list(t.shape)} and prediction is {list(p.shape)}; both must be the same [T, H, W]."
        )
    if protocol == "davis2016":
        t, p = merge_objects(t), (p != 0).astype(np.uint8)
    known = list(range(len(t)) if annotated is None else annotated)
    given = _first_frames(t, known if protocol == "youtube-vos" else [0])
    if strangers := sorted(set(np.unique(p).tolist()) - {0, *given}):
        raise TutorialError(f"the prediction holds the ids {strangers}, but the given objects are {sorted(given)}.")

    scores = []
    for object_id, first in sorted(given.items()):
        frames = scored_frames(len(t), protocol, known, first)
        if not len(frames):
            continue  # YouTube-VOS: given in the last annotated frame, nothing left to score
        if missing := sorted(set(frames.tolist()) - set(known)):
            raise TutorialError(f"{protocol} counts frame {missing[0]}, which is not annotated; annotate all frames.")
        a, b = t[known] == object_id, p[known] == object_id
        values = np.full((2, len(t)), np.nan)
        values[:, known] = region_similarity(a, b), boundary_accuracy(a, b)
        scores.append(ObjectScore(object_id, values[0], values[1], frames))
    if not scores:
        raise TutorialError(
            f"nothing to score in a clip of {len(t)} frames with objects {sorted(given)}: {protocol} needs an object "
            "in the first mask (0/255 masks must be read as binary) and at least three frames."
        )
    return scores


def _first_frames(ids: NDArray[np.uint8], frames: Sequence[int]) -> dict[int, int]:
    """Each object in ``ids`` ``[T, H, W]`` and the first of ``frames`` that shows it."""
    first: dict[int, int] = {}
    for t in frames:
        for object_id in np.unique(ids[t]).tolist():
            if object_id not in (0, VOID):
                first.setdefault(object_id, t)
    return first


def average(summaries: Sequence[Summary]) -> Summary:
    """The row of a paper's table: every mean, recall and decay averaged over *objects*.

    A clip with five objects weighs five times as much as a clip with one (in DAVIS-2016 all have one), and a long
    clip as much as a short one: never pool frames.

    Raises:
        TutorialError: if there is nothing to average.
    """
    if not summaries:
        raise TutorialError("there is no score to average; at least one clip with one object is needed.")
    table = np.array(summaries, dtype=np.float64).mean(axis=0)  # [objects, measure, statistic] -> [2, 3]
    return Summary(*(Statistics(*map(float, row)) for row in table))
