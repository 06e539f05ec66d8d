"""From a box around an object to its mask, without a network.

Outside the box is background. What is inside is told apart by colour, and by the edges between colours: a random
walker (Grady, PAMI 2006) starts at every undecided pixel, crosses edges unwillingly, and asks whether it meets an
object's seed or a background's seed first. The seeds are found in turns, as in GrabCut (Rother et al., SIGGRAPH
2004): colours of inside against those of outside, seeds where they differ most, walk, and again with what was found.
"""

from __future__ import annotations

import warnings

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage
from skimage.color import rgb2lab
from skimage.segmentation import random_walker
from torch import Tensor

from .door import FrameLike, as_frame
from .errors import TutorialError

SIDE = 128  # pixels of the longer side of what is walked on
MARGIN = 0.6  # of the box's sides, how much of the surroundings is looked at
BINS = 12  # of the colour histograms, in each axis
TURNS = 3
UNWILLING = 1000.0  # to cross an edge; beta of the walk
SEEDS = (0.25, 0.7)  # quantiles of the evidence in the box: below is background's seed, above the object's
LEAST_CONTRAST = 0.3  # of log-odds; two parts of one even ground have 0
SMALLEST = 0.03  # of the box's area, which an object must have


def mask_in_box(frame: FrameLike, box: tuple[int, int, int, int]) -> Tensor:
    """The object in a box.

    Args:
        frame: as for :func:`vos_tutorial.door.as_frame`, ``[3, H, W]``.
        box: ``(x0, y0, x1, y1)`` in pixels, ``x1`` and ``y1`` outside.

    Returns:
        ``bool [H, W]``, False outside the box.

    Raises:
        TutorialError: if the box is smaller than 4 x 4 pixels or not in the frame, or nothing stands out in it.
    """
    picture = as_frame(frame)
    height, width = picture.shape[1:]
    x0, y0, x1, y1 = box
    if not (0 <= x0 <= x1 - 4 and x1 <= width and 0 <= y0 <= y1 - 4 and y1 <= height):
        raise TutorialError(
            f"the box {box} is no box of at least 4x4 pixels in a frame of {width}x{height}; give x0, y0, x1, y1."
        )
    left, top = max(0, x0 - _margin(x1 - x0)), max(0, y0 - _margin(y1 - y0))
    right, bottom = min(width, x1 + _margin(x1 - x0)), min(height, y1 + _margin(y1 - y0))
    crop = picture[:, top:bottom, left:right].permute(1, 2, 0).mul(255).byte().cpu().numpy()  # [h, w, 3]
    scale = min(1.0, SIDE / max(crop.shape[:2]))
    size = (max(4, round(crop.shape[1] * scale)), max(4, round(crop.shape[0] * scale)))
    small = np.asarray(Image.fromarray(crop).resize(size, Image.Resampling.BOX))
    inside = np.zeros(crop.shape[:2], np.uint8)
    inside[y0 - top : y1 - top, x0 - left : x1 - left] = 1
    coarse = np.asarray(Image.fromarray(inside).resize(size, Image.Resampling.NEAREST)) > 0
    lab = rgb2lab(small).astype(np.float32)
    probability = _object_probability(lab, coarse)
    fine = Image.fromarray(probability.astype(np.float32)).resize(
        (crop.shape[1], crop.shape[0]), Image.Resampling.BICUBIC
    )
    found = _tidy((np.asarray(fine) > 0.5) & (inside > 0))
    if found.sum() < SMALLEST * inside.sum() or _contrast(lab, probability) < LEAST_CONTRAST:
        raise TutorialError(
            "nothing stands out from its surroundings in the box; draw it closer around the object, or paint it with "
            "the brush."
        )
    mask = torch.zeros(height, width, dtype=torch.bool)
    mask[top:bottom, left:right] = torch.from_numpy(found)
    return mask


def _margin(side: int) -> int:
    return max(6, round(MARGIN * side))


def _object_probability(lab: NDArray[np.float32], inside: NDArray[np.bool_]) -> NDArray[np.float32]:
    """How probable each pixel is the object's, ``[h, w]``; ``lab`` are the colours ``[h, w, 3]``."""
    deep = ndimage.distance_transform_edt(np.pad(inside, 1))[1:-1, 1:-1]
    belief = np.where(inside, 0.35 + 0.45 * deep / deep.max(), 0).astype(np.float32)  # the middle rather than the rim
    outside = ~inside
    for _ in range(TURNS):
        evidence = _log_odds(lab, belief) + 0.5 * np.log(
            np.clip(belief, 0.02, 0.98) / np.clip(1 - belief, 0.02, 0.98)
        )
        seeds = np.zeros(inside.shape, np.int32)
        seeds[outside] = 2
        within = evidence[inside]
        low, high = np.quantile(within, SEEDS)
        seeds[inside & (evidence >= max(high, 0.2))] = 1
        seeds[inside & (evidence <= min(low, -0.2))] = 2
        if not (seeds == 1).any():
            break
        belief = _walk(lab, seeds)
    return belief


def _contrast(lab: NDArray[np.float32], belief: NDArray[np.float32]) -> float:
    """How much the colours of object and background differ: mean log-odds of one less those of the other."""
    odds, found = _log_odds(lab, belief), belief > 0.5
    return float(odds[found].mean() - odds[~found].mean()) if found.any() and not found.all() else 0.0


def _log_odds(lab: NDArray[np.float32], belief: NDArray[np.float32]) -> NDArray[np.float32]:
    """How much more a pixel's colour is the object's than the background's, by two smoothed histograms."""
    low, high = lab.min(axis=(0, 1)), lab.max(axis=(0, 1))
    cells = ((lab - low) / np.maximum(high - low, 1e-3) * (BINS - 1e-3)).astype(int)  # [h, w, 3]
    flat = np.ravel_multi_index(tuple(cells.reshape(-1, 3).T), (BINS,) * 3)
    logs = []
    for weight in (belief, 1 - belief):
        counts = np.bincount(flat, weight.reshape(-1), BINS**3).reshape((BINS,) * 3)
        smooth = ndimage.gaussian_filter(counts, 0.8, mode="constant")
        logs.append(np.log((smooth / max(smooth.sum(), 1e-9)).reshape(-1)[flat] + 1e-5))
    return (logs[0] - logs[1]).reshape(belief.shape).clip(-4, 4).astype(np.float32)


def _walk(lab: NDArray[np.float32], seeds: NDArray[np.int32]) -> NDArray[np.float32]:
    """The probability that a random walker meets seeds of kind 1 first, ``[h, w]``."""
    if (seeds > 0).all():
        return (seeds == 1).astype(np.float32)
    with warnings.catch_warnings():  # an island without a way to a seed of one kind is certain, and that is fine
        warnings.simplefilter("ignore")
        both = random_walker(
            lab / 100, seeds, beta=UNWILLING, mode="cg_j", tol=1e-2, channel_axis=-1, return_full_prob=True
        )
    return np.asarray(both[0], dtype=np.float32).clip(0, 1)  # the solver stops a little early


def _tidy(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Without holes, and without crumbs: parts smaller than a tenth of the largest."""
    mask = ndimage.binary_fill_holes(ndimage.binary_opening(mask, iterations=1) if mask.sum() > 200 else mask)
    parts, count = ndimage.label(mask)
    if count < 2:
        return np.asarray(mask, dtype=bool)
    sizes = np.bincount(parts.reshape(-1))
    sizes[0] = 0
    return np.asarray((sizes >= sizes.max() / 10)[parts], dtype=bool)
