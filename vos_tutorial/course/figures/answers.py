"""Answers upon their frames: a line and a light fill, so that what lies below stays visible, and the truth as a line.

:func:`answer` paints one frame, :func:`answer_sheet` some frames of a clip, :func:`heat_maps` a map upon each frame.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LinearSegmentedColormap, PowerNorm
from matplotlib.figure import Figure
from matplotlib.legend_handler import HandlerTuple
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from PIL import Image
from scipy import ndimage

from ...clip import Clip
from ...errors import TutorialError
from .masks import Pixels, array, as_ids, as_picture, bare, casing, key_frames, objects_in
from .palette import INK, WIDTH, blank, object_colours, styled

FILL = 0.3  # how much of its colour an answer's inside takes
TRUTH = np.array([255, 255, 255], np.uint8)


def answer(
    frame: Pixels, ids: Pixels | None, truth: Pixels | None = None, width: int | None = None, fill: float = FILL
) -> np.ndarray:
    """A frame with an answer: a light fill and a line in each object's colour; the truth is a white line.

    Args:
        frame: RGB, ``[3, H, W]`` or ``[H, W, 3]``.
        ids: the answer ``[H, W]``; None leaves the frame as it is.
        truth: ids ``[H, W]``, to judge the answer by.
        width: of the result in pixels; the frame's own without. Enlarged masks get smooth edges.
        fill: how much of its colour an answer's inside takes, in 0..1.

    Returns:
        ``uint8 [H', W', 3]``.

    Raises:
        TutorialError: if a mask has another size than the frame.
    """
    picture = as_picture(frame)
    h, w = picture.shape[:2]
    size = (h, w) if width is None else (max(1, round(h * width / w)), width)
    out = np.asarray(Image.fromarray(picture).resize(size[::-1], Image.Resampling.BICUBIC)).astype(np.float32)
    thick = max(1, round(max(size) / 180))
    for name, mask in (("answer", ids), ("truth", truth)):
        if mask is None:
            continue
        values = as_ids(mask)
        if values.shape != (h, w):
            raise TutorialError(
                f"the {name} is {list(values.shape)} but the frame is {[h, w]}; resize the {name} (nearest)."
            )
        for object_id in objects_in(values):
            region = _smooth(values == object_id, size)
            edge = region & ~ndimage.binary_erosion(region, iterations=thick, border_value=1)
            outside = ndimage.binary_dilation(region, iterations=1) & ~region
            if name == "answer":
                colour = object_colours()[object_id].astype(np.float32)
                out[region] += fill * (colour - out[region])
                out[outside] *= 0.4
                out[edge] = colour
            else:
                out[outside] *= 0.4
                out[edge] = TRUTH
    return out.round().clip(0, 255).astype(np.uint8)


def _smooth(region: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    if region.shape == size:
        return region
    soft = Image.fromarray(region.astype(np.uint8) * 255).resize(size[::-1], Image.Resampling.BICUBIC)
    return np.asarray(soft) > 127


@styled
def answer_sheet(
    clip: Clip | Pixels,
    answers: Mapping[str, Pixels | None],
    truth: Pixels | None = None,
    *,
    times: Sequence[int] | None = None,
    raw: bool = False,
) -> Figure:
    """Some frames of a clip, a row for each method: its answer filled lightly, and the truth as a white line.

    Args:
        clip: a Clip, or frames ``[T, 3, H, W]`` or ``[T, H, W, 3]``.
        answers: by method, ids ``[T, H, W]``, or None for bare frames.
        truth: ids ``[T, H, W]``; a Clip brings its own.
        times: the frames to show; five, evenly spread, without.
        raw: a row of bare frames above, for clips in which texture is the point.

    Raises:
        TutorialError: if there is no method, a time is not in the clip, or masks and frames differ in size.
    """
    frames = clip.frames if isinstance(clip, Clip) else clip
    judged = clip.masks if truth is None and isinstance(clip, Clip) else truth
    if not answers:
        raise TutorialError("answer_sheet() was given no answers; pass {'method': ids}.")
    length = len(frames)
    times = key_frames(length, 5) if times is None else list(times)
    if bad := [t for t in times if not 0 <= t < length]:
        raise TutorialError(f"frame {bad[0]} is not in this clip of {length} frames; choose 0..{length - 1}.")
    for name, ids in answers.items():
        if ids is not None and len(ids) != length:
            raise TutorialError(f"{name} has {len(ids)} masks for {length} frames; give one for each frame.")
    rows: list[tuple[str, Pixels | None]] = [*([("frame", None)] if raw else []), *answers.items()]
    h, w = as_picture(frames[times[0]]).shape[:2]
    tile = (WIDTH - 0.3) / max(3, len(times))
    high = tile * h / w
    figure, axes = blank(len(rows), len(times), tile * len(times) + 0.3, high * len(rows) + 0.22 + 0.3)
    figure.set_layout_engine("constrained", w_pad=0.02, h_pad=0.02, wspace=0.0, hspace=0.0)
    for row, (name, ids) in enumerate(rows):
        for column, t in enumerate(times):
            right = None if judged is None or ids is None else judged[t]
            picture = answer(frames[t], None if ids is None else ids[t], right, width=round(200 * tile))
            axes[row, column].imshow(picture)
            bare(axes[row, column])
            if row == 0:
                axes[row, column].set_title(f"frame {t}", pad=3, fontsize=9)
        axes[row, 0].set_ylabel(name, fontsize=9)
    if judged is not None and any(ids is not None for ids in answers.values()):
        shown = [as_ids(ids[t]) for ids in answers.values() if ids is not None for t in times]
        line_legend(figure, sorted({i for ids in shown for i in objects_in(ids)}) or [1])
    return figure


def line_legend(figure: Figure, objects: Sequence[int]) -> None:
    """What the lines are; the answer's has the colours of these objects, one after the other."""
    answers = tuple(Line2D([], [], color=object_colours()[i] / 255, linewidth=2.4) for i in objects)
    truth = Line2D([], [], color="white", linewidth=1.4, path_effects=casing(3.2))
    figure.legend(
        handles=[answers, truth],
        labels=["answer (filled)", "ground truth"],
        handler_map={tuple: HandlerTuple(ndivide=None, pad=0.3)},
        loc="outside lower center",
        ncols=2,
        handlelength=max(2.2, 1.1 * len(objects)),
    )


# --- Heat -------------------------------------------------------------------------------------------------

HEAT = LinearSegmentedColormap.from_list("heat", ["#2a2320", "#a5530e", "#f08a24", "#ffe9ad"])


def muted(picture: np.ndarray) -> np.ndarray:
    """A picture ``uint8 [H, W, 3]`` that has lost half of its colour and a quarter of its light, for heat."""
    grey = picture @ np.array([[0.3], [0.59], [0.11]])  # the browser's weights, see `mute` in common.js
    return (0.75 * (grey + 0.5 * (picture - grey))).round().astype(np.uint8)


def heated(picture: np.ndarray, heat: np.ndarray) -> np.ndarray:
    """Heat ``[h, w]`` in 0..1 upon a muted picture ``uint8 [H, W, 3]``: none lets it through, all of it covers it."""
    h, w = picture.shape[:2]
    cells = Image.fromarray((255 * heat).round().clip(0, 255).astype(np.uint8))
    v = np.asarray(cells.resize((w, h), Image.Resampling.NEAREST))[..., None] / 255.0
    ground = muted(picture).astype(np.float32)
    colour = 255 * HEAT(v[..., 0])[..., :3]
    return (ground + np.minimum(1, 1.5 * v) * (colour - ground)).round().astype(np.uint8)


@styled
def heat_maps(
    frames: Pixels,
    heat: Pixels,
    titles: Sequence[str],
    *,
    unit: str = "share of the attention",
    mark: Sequence[tuple[int, int] | None] = (),
) -> Figure:
    """A map upon each frame, all on one scale that ends at the largest value; titles say what each frame holds.

    The scale goes by the root, so that a cell with a quarter of the greatest value is half as bright and not lost in
    the dark. The sum of each map is printed, because areas deceive.

    Args:
        frames: ``[M, 3, H, W]`` or ``[M, H, W, 3]``.
        heat: ``float [M, h, w]``, 0 or more.
        titles: one for each frame.
        unit: what the numbers are.
        mark: for each frame, ``(row, column)`` of a cell to frame, or None.

    Raises:
        TutorialError: if numbers do not match, or a value is negative or not finite.
    """
    values = array(heat).astype(np.float64)
    if not len(frames) == len(values) == len(titles) or values.ndim != 3:
        raise TutorialError(
            f"heat_maps() needs a map [h, w] and a title for each frame, got {len(frames)} frames, maps "
            f"{list(values.shape)} and {len(titles)} titles."
        )
    if not np.isfinite(values).all() or values.min() < 0:
        raise TutorialError("heat must be finite and 0 or more; take a softmax, or an absolute value.")
    top, whole = max(float(values.max()), 1e-12), max(float(values.sum()), 1e-12)
    pictures = [as_picture(frame) for frame in frames]
    h, w = pictures[0].shape[:2]
    columns = min(4, len(pictures))
    lines = -(-len(pictures) // columns)
    tile = (WIDTH - 0.9) / max(columns, 3)
    figure, axes = blank(lines, columns, tile * columns + 0.9, (tile * h / w + 0.26) * lines)
    for cell in axes.ravel()[len(pictures) :]:
        cell.set_visible(False)
    for i, (picture, own) in enumerate(zip(pictures, values, strict=True)):
        cell = axes.ravel()[i]
        large = np.asarray(Image.fromarray(picture).resize((round(200 * tile), round(200 * tile * h / w))))
        cell.imshow(heated(large, np.sqrt(own / top)))
        bare(cell)
        cell.set_title(f"{titles[i]}: {100 * own.sum() / whole:.0f} %", fontsize=9)
        if i < len(mark) and (place := mark[i]) is not None:
            _frame_cell(cell, place, own.shape, large.shape[:2])
    scale = ScalarMappable(PowerNorm(0.5, 0, top), HEAT)
    bar = figure.colorbar(scale, ax=axes, shrink=0.9, pad=0.02, aspect=22, ticks=[0, top / 16, top / 4, top])
    bar.ax.set_yticklabels([f"{v:.2g}" for v in (0, top / 16, top / 4, top)])
    bar.outline.set_visible(False)
    bar.set_label(f"{unit}, of one cell")
    return figure


def _frame_cell(axes: Axes, place: tuple[int, int], grid: tuple[int, ...], size: tuple[int, ...]) -> None:
    (row, column), (h, w), (height, width) = place, grid, size
    corner = (column * width / w - 0.5, row * height / h - 0.5)
    for colour, line in ((INK, 3.2), ("white", 1.4)):
        look = {"fill": False, "edgecolor": colour, "linewidth": line}
        axes.add_patch(Rectangle(corner, width / w, height / h, **look))  # type: ignore[arg-type]
