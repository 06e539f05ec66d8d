"""The exercises of notebook 01: ids to channels, J with void, the boundary map, decay, and DAVIS's mean."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from ...clip import object_ids
from .exercise import Exercise, Mutant

Mask = NDArray[np.bool_]
Scores = Mapping[str, Mapping[int, Sequence[float]]]


def drawn(*rows: str) -> Mask:
    """A mask from rows of text, ``bool [H, W]``: ``#`` is foreground."""
    return np.array([[pixel == "#" for pixel in row] for row in rows])


def _ids(rows: list[list[int]]) -> Tensor:
    return torch.tensor(rows, dtype=torch.uint8)


# --- one_hot -----------------------------------------------------------------------------------------------------


def _channels(mask: Tensor, values: Iterable[int]) -> Tensor:
    return torch.stack([mask == value for value in values])


def _one_hot(mask: Tensor) -> Tensor:
    return _channels(mask, object_ids(mask))


def _channel_for_every_number(mask: Tensor) -> Tensor:
    return _channels(mask, range(1, max(object_ids(mask)) + 1))


def _channel_for_background(mask: Tensor) -> Tensor:
    return _channels(mask, [0, *object_ids(mask)])


def _channel_for_void(mask: Tensor) -> Tensor:
    return _channels(mask, [i for i in mask.unique().tolist() if i != 0])


def _channel_for_every_value(mask: Tensor) -> Tensor:
    return _channels(mask, mask.unique().tolist())


def _last_axis(mask: Tensor) -> Tensor:
    return _one_hot(mask).permute(1, 2, 0)


one_hot = Exercise(
    name="one_hot",
    reference=_one_hot,
    cases={
        "two objects": (_ids([[0, 1, 1], [0, 2, 2]]),),
        "a gap in the ids": (_ids([[0, 1, 1], [0, 4, 4]]),),
        "void pixels": (_ids([[0, 255, 3], [3, 3, 255]]),),
        "no background": (_ids([[2, 2, 5], [2, 5, 5]]),),
        "a single object with a high id": (_ids([[0, 0, 0], [0, 9, 0]]),),
    },
    hint="Compare the mask with one id at a time, mask == i, and stack the results along a new first axis.",
    mutants={
        "a channel for every number up to the largest": Mutant(
            _channel_for_every_number,
            "Ids may have gaps: the ids 1 and 4 need two channels, not four. object_ids(mask) lists those there are.",
        ),
        "a channel for the background": Mutant(
            _channel_for_background, "The background (0) is not an object, so it gets no channel here."
        ),
        "a channel for void": Mutant(
            _channel_for_void, "Void (255) is not an object: those pixels are False in every channel."
        ),
        "a channel for every value": Mutant(
            _channel_for_every_value,
            "mask.unique() also lists the background (0) and void (255); neither is an object.",
        ),
        "objects on the last axis": Mutant(
            _last_axis, "The objects are the first axis: the shape is [O, H, W]; stack along dim=0."
        ),
    },
)


# --- iou_with_void -----------------------------------------------------------------------------------------------


def _iou_with_void(truth: Mask, prediction: Mask, void: Mask) -> float:
    union = np.count_nonzero((truth | prediction) & ~void)
    return np.count_nonzero(truth & prediction & ~void) / union if union else 1.0


def _without_void(truth: Mask, prediction: Mask, void: Mask) -> float:
    return _iou_with_void(truth, prediction, np.zeros_like(void))


def _void_in_union(truth: Mask, prediction: Mask, void: Mask) -> float:
    union = np.count_nonzero(truth | prediction)
    return np.count_nonzero(truth & prediction & ~void) / union if union else 1.0


def _void_in_intersection(truth: Mask, prediction: Mask, void: Mask) -> float:
    union = np.count_nonzero((truth | prediction) & ~void)
    return np.count_nonzero(truth & prediction) / union if union else 1.0


def _void_is_right(truth: Mask, prediction: Mask, void: Mask) -> float:
    return _without_void(truth | void, prediction | void, void)


def _void_from_truth_only(truth: Mask, prediction: Mask, void: Mask) -> float:
    return _without_void(truth & ~void, prediction, void)


def _nothing_is_zero(truth: Mask, prediction: Mask, void: Mask) -> float:
    union = np.count_nonzero((truth | prediction) & ~void)
    return np.count_nonzero(truth & prediction & ~void) / union if union else 0.0


iou_with_void = Exercise(
    name="iou_with_void",
    reference=_iou_with_void,
    cases={
        "no void": (drawn("##.", "##.", "..."), drawn(".##", ".##", "..."), drawn("...", "...", "...")),
        "the prediction spills into void": (
            drawn("##.", "##.", "..."),
            drawn("###", "###", "..."),
            drawn("..#", "...", "..."),
        ),
        "void where both are foreground": (
            drawn("##.", "##.", "..."),
            drawn("###", "##.", "..."),
            drawn("##.", "...", "..."),
        ),
        "void where the truth alone is foreground": (
            drawn("###", "...", "..."),
            drawn("#..", "...", "..."),
            drawn("..#", "...", "..."),
        ),
        "both empty": (drawn("..", ".."), drawn("..", ".."), drawn("..", ".#")),
        "all foreground is void": (drawn("#.", ".."), drawn("##", ".."), drawn("##", "..")),
        "one empty": (drawn("..", ".."), drawn("#.", ".."), drawn("..", ".#")),
    },
    hint="Take the void pixels out of both masks first (mask & ~void), then count as before.",
    mutants={
        "ignores void": Mutant(_without_void, "You never use void: its pixels must count for nothing."),
        "void stays in the union": Mutant(
            _void_in_union, "You took void out of the intersection; take it out of the union as well."
        ),
        "void stays in the intersection": Mutant(
            _void_in_intersection, "You took void out of the union; take it out of the intersection as well."
        ),
        "void counts as right": Mutant(
            _void_is_right, "Void is not foreground: remove its pixels with & ~void, do not add them with | void."
        ),
        "void leaves the truth only": Mutant(
            _void_from_truth_only, "Take void out of the prediction too, or a prediction there is a false alarm."
        ),
        "nothing to count gives 0": Mutant(
            _nothing_is_zero, "When the union is empty the two masks agree on everything that counts: J is 1."
        ),
    },
)


# --- fast_boundary_map -------------------------------------------------------------------------------------------


def _boundary_map(mask: Mask) -> Mask:
    edges = np.zeros_like(mask)
    edges[:, :-1] |= mask[:, :-1] != mask[:, 1:]
    edges[:-1, :] |= mask[:-1, :] != mask[1:, :]
    edges[:-1, :-1] |= mask[:-1, :-1] != mask[1:, 1:]
    return edges


def _without_diagonal(mask: Mask) -> Mask:
    edges = np.zeros_like(mask)
    edges[:, :-1] |= mask[:, :-1] != mask[:, 1:]
    edges[:-1, :] |= mask[:-1, :] != mask[1:, :]
    return edges


def _rolled(mask: Mask) -> Mask:
    shifts = ((0, -1), (-1, 0), (-1, -1))
    return np.any([mask != np.roll(mask, shift, axis=(0, 1)) for shift in shifts], axis=0)


def _bordered(mask: Mask) -> Mask:
    return _boundary_map(np.pad(mask, 1))[1:, 1:]


def _towards_the_end(mask: Mask) -> Mask:
    return _boundary_map(mask[::-1, ::-1])[::-1, ::-1]


def _inner(mask: Mask) -> Mask:
    return mask & ~ndimage.binary_erosion(mask, border_value=1)


def _on_the_object(mask: Mask) -> Mask:
    return _boundary_map(mask) & mask


fast_boundary_map = Exercise(
    name="fast_boundary_map",
    reference=_boundary_map,
    cases={
        "a lone pixel": (drawn(".....", ".....", "..#..", ".....", "....."),),
        "a block": (drawn("......", ".###..", ".###..", ".###..", "......"),),
        "cut by the border": (drawn("..##", "..##", "....", "...."),),
        "cut at the lower right": (drawn("....", "....", "..##", "..##"),),
        "a full picture": (drawn("###", "###"),),
        "an empty picture": (drawn("...", "..."),),
    },
    hint="Three comparisons: mask[:, :-1] with mask[:, 1:] (right), then lower, then lower right; join them with |=.",
    mutants={
        "no diagonal": Mutant(
            _without_diagonal, "One neighbour is missing: the lower right one, mask[:-1, :-1] against mask[1:, 1:]."
        ),
        "wraps around": Mutant(
            _rolled,
            "np.roll joins the last column to the first: outside the picture there is no neighbour. Use slices.",
        ),
        "the border is a contour": Mutant(
            _bordered, "Outside the picture is not background: a full picture has no boundary at all."
        ),
        "looks left and up": Mutant(
            _towards_the_end,
            "Your map is shifted: compare with the right and lower neighbours, not the left and upper.",
        ),
        "the object's own rim": Mutant(
            _inner, "The boundary is not a part of the object: a lone pixel has a boundary of 2 x 2 pixels."
        ),
        "only pixels of the object": Mutant(
            _on_the_object,
            "A background pixel whose neighbour is foreground is boundary too; do not combine with mask.",
        ),
    },
)


# --- decay -------------------------------------------------------------------------------------------------------


def _borders(values: Sequence[float]) -> NDArray[np.int64]:
    return np.round(np.linspace(1, len(values), 5) + 1e-10).astype(np.int64) - 1


def _decay(values: Sequence[float]) -> float:
    x, b = np.asarray(values), _borders(values)
    return float(x[b[0] : b[1] + 1].mean() - x[b[3] : b[4] + 1].mean())


def _last_minus_first(values: Sequence[float]) -> float:
    return -_decay(values)


def _quarters(values: Sequence[float]) -> float:
    parts = np.array_split(np.asarray(values), 4)
    return float(parts[0].mean() - parts[-1].mean())


def _ends_left_out(values: Sequence[float]) -> float:
    x, b = np.asarray(values), _borders(values)
    return float(x[b[0] : b[1]].mean() - x[b[3] : b[4]].mean())


def _two_frames(values: Sequence[float]) -> float:
    return float(values[0] - values[-1])


def _halves(values: Sequence[float]) -> float:
    x, b = np.asarray(values), _borders(values)
    return float(x[b[0] : b[2] + 1].mean() - x[b[2] : b[4] + 1].mean())


decay = Exercise(
    name="decay",
    reference=_decay,
    cases={
        "eight frames that fall": ([0.9, 0.85, 0.8, 0.7, 0.5, 0.45, 0.3, 0.2],),
        "nine frames": ([0.9, 0.7, 0.8, 0.6, 0.5, 0.3, 0.4, 0.2, 0.0],),
        "a method that gets better": ([0.2, 0.4, 0.3, 0.5, 0.6, 0.9],),
        "a dip in the middle": ([0.8, 0.9, 0.1, 0.0, 0.1, 0.7, 0.6],),
        "fourteen frames": ([1.0, 0.7, 0.9, 0.4, 0.8, 0.3, 0.6, 0.2, 0.7, 0.5, 0.1, 0.4, 0.0, 0.3],),
    },
    hint="The first quarter is values[b[0] : b[1] + 1], the last is values[b[3] : b[4] + 1]; b are the five borders.",
    mutants={
        "last minus first": Mutant(
            _last_minus_first, "The sign is the other way round: decay is positive when the values fall."
        ),
        "np.array_split": Mutant(
            _quarters,
            "DAVIS's quarters overlap: each includes both of its border frames; np.array_split shares none.",
        ),
        "the end is left out": Mutant(
            _ends_left_out, "A Python slice leaves out its end, DAVIS's quarter includes it: add 1 to the end."
        ),
        "two frames only": Mutant(
            _two_frames, "You compare two frames; compare the means of the first and the last quarter."
        ),
        "halves": Mutant(_halves, "You compare halves: the first quarter ends at b[1], the last begins at b[3]."),
    },
)


# --- davis_mean --------------------------------------------------------------------------------------------------


def _davis_mean(scores: Scores) -> float:
    return float(np.mean([np.mean(values[1:-1]) for clip in scores.values() for values in clip.values()]))


def _by_clip(scores: Scores) -> float:
    return float(np.mean([np.mean([np.mean(values[1:-1]) for values in clip.values()]) for clip in scores.values()]))


def _pooled(scores: Scores) -> float:
    return float(np.mean([value for clip in scores.values() for values in clip.values() for value in values[1:-1]]))


def _all_frames(scores: Scores) -> float:
    return float(np.mean([np.mean(values) for clip in scores.values() for values in clip.values()]))


def _first_dropped(scores: Scores) -> float:
    return float(np.mean([np.mean(values[1:]) for clip in scores.values() for values in clip.values()]))


davis_mean = Exercise(
    name="davis_mean",
    reference=_davis_mean,
    cases={
        "one object": ({"dog": {1: [1.0, 0.8, 0.6, 0.1]}},),
        "clips with different numbers of objects": (
            {"dog": {1: [1.0, 0.9, 0.9, 0.9]}, "horses": {1: [1.0, 0.3, 0.3, 0.3], 2: [1.0, 0.2, 0.4, 0.0]}},
        ),
        "clips of different lengths": (
            {"short": {1: [1.0, 0.9, 0.2]}, "long": {1: [1.0, 0.4, 0.3, 0.2, 0.1, 0.0, 0.9]}},
        ),
    },
    hint="One mean for every object (values[1:-1]), then one mean over all of these, whichever clip they are from.",
    mutants={
        "mean over clips": Mutant(
            _by_clip, "You average clips; DAVIS-2017 averages objects, so a clip with two objects weighs twice."
        ),
        "frames pooled": Mutant(
            _pooled, "You pool the frames of all objects, so long clips weigh more; take each object's mean first."
        ),
        "all frames": Mutant(
            _all_frames, "The first frame was given and the last is not scored: use values[1:-1] of each object."
        ),
        "only the first frame dropped": Mutant(
            _first_dropped, "DAVIS leaves out the last frame as well: values[1:-1]."
        ),
    },
)
