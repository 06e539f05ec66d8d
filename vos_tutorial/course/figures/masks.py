"""Frames and masks: overlays, contact sheets, error maps, galleries, and small masks printed cell by cell."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import TypeAlias

import numpy as np
from matplotlib import font_manager, patheffects
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle
from numpy.typing import ArrayLike
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage
from torch import Tensor

from ...clip import VOID, Clip
from ...errors import TutorialError
from .palette import BLUE, FAINT, INK, VERMILLION, WIDTH, YELLOW, blank, object_colours, styled

Pixels: TypeAlias = "np.ndarray | Tensor"

OK, MISS, FALSE_ALARM, WRONG_OBJECT = 0, 1, 2, 3
ERRORS = {
    MISS: ("miss", BLUE, "////"),
    FALSE_ALARM: ("false alarm", VERMILLION, "...."),
    WRONG_OBJECT: ("wrong object", YELLOW, "xxxx"),
}

SMALL, FINE = 32, 8  # masks up to so many pixels are outlined along their pixels' sides, to an eighth of a pixel

# --- Arrays ----------------------------------------------------------------------------------------------


def array(values: Pixels | ArrayLike) -> np.ndarray:
    """Whatever it is, as a NumPy array."""
    return values.detach().cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)


def as_picture(frame: Pixels) -> np.ndarray:
    """One frame as matplotlib and Pillow like it: ``uint8 [H, W, 3]``.

    Args:
        frame: RGB, ``[3, H, W]`` or ``[H, W, 3]``, uint8 or float in [0, 1] (clipped).

    Raises:
        TutorialError: if the shape is another one.
    """
    picture = array(frame)
    if picture.ndim == 3 and picture.shape[0] == 3 and picture.shape[2] != 3:
        picture = picture.transpose(1, 2, 0)
    if picture.ndim != 3 or picture.shape[2] != 3:
        raise TutorialError(f"a picture must be RGB, [3, H, W] or [H, W, 3], got {list(picture.shape)}.")
    if picture.dtype != np.uint8:
        picture = (np.nan_to_num(picture).clip(0, 1) * 255).round().astype(np.uint8)
    return picture


def as_ids(mask: Pixels) -> np.ndarray:
    """A mask (or a clip's masks) as ``uint8`` ids; booleans become 0 and 1.

    Raises:
        TutorialError: if a value is no whole number in 0..255.
    """
    ids = array(mask)
    if ids.dtype == np.uint8:
        return ids
    if ids.size and (not np.all(ids == np.floor(ids)) or ids.min() < 0 or ids.max() > 255):
        raise TutorialError(
            f"a mask holds ids 0..255, got {ids.dtype} values from {ids.min()} to {ids.max()}; "
            "threshold or argmax the probabilities first."
        )
    return ids.astype(np.uint8)


def _colour(object_id: int) -> str:
    return "#{:02x}{:02x}{:02x}".format(*object_colours()[object_id])


def objects_in(ids: np.ndarray) -> list[int]:
    """The ids of a mask, without background and void."""
    return [int(i) for i in np.unique(ids) if int(i) not in (0, VOID)]


def _heart(region: np.ndarray) -> tuple[int, int, float]:
    """The pixel of ``bool [H, W]`` farthest from its edge, and that distance: the best place for a number."""
    depth = ndimage.distance_transform_edt(np.pad(region, 1))[1:-1, 1:-1]
    y, x = np.unravel_index(int(depth.argmax()), depth.shape)
    return int(y), int(x), float(depth[y, x])


def error_kinds(truth: Pixels, prediction: Pixels) -> np.ndarray:
    """What is wrong where: ``uint8``, 0 right, 1 miss, 2 false alarm, 3 wrong object; void counts as right.

    Args:
        truth, prediction: ids of one shape, ``[H, W]`` or ``[T, H, W]``.

    Raises:
        TutorialError: if the shapes differ.
    """
    truth, prediction = as_ids(truth), as_ids(prediction)
    if truth.shape != prediction.shape:
        raise TutorialError(
            f"truth is {list(truth.shape)} but the prediction is {list(prediction.shape)}; resize the prediction."
        )
    kinds = np.zeros(truth.shape, np.uint8)
    kinds[(truth > 0) & (prediction == 0)] = MISS
    kinds[(truth == 0) & (prediction > 0)] = FALSE_ALARM
    kinds[(truth > 0) & (prediction > 0) & (truth != prediction)] = WRONG_OBJECT
    kinds[(truth == VOID) | (prediction == VOID)] = OK
    return kinds


def overlay(frame: Pixels, ids: Pixels, opacity: float = 0.5, outline: bool = True) -> np.ndarray:
    """A frame with its objects tinted, outlined and, where there are several, numbered: ``uint8 [H, W, 3]``.

    Args:
        frame: RGB, ``[3, H, W]`` or ``[H, W, 3]``.
        ids: ``[H, W]``; void is hatched in grey.
        opacity: of the tint, 0..1.
        outline: draw a line of the object's colour inside its edge and a dark one outside.

    Raises:
        TutorialError: if frame and ids differ in size.
    """
    picture, ids = as_picture(frame), as_ids(ids)
    if ids.shape != picture.shape[:2]:
        raise TutorialError(
            f"the mask is {list(ids.shape)} but the frame is {list(picture.shape[:2])}; resize the mask (nearest)."
        )
    colours, out = object_colours(), picture.astype(np.float32)
    tinted = ids > 0
    if (void := ids == VOID).any():
        y, x = np.indices(ids.shape)
        tinted &= ~(void & ((x + y) // 2 % 2 == 0))
    out[tinted] += opacity * (colours[ids[tinted]] - out[tinted])
    objects = objects_in(ids)
    if outline:
        thick = max(1, round(max(ids.shape) / 240))
        for object_id in objects:
            region = ids == object_id
            out[ndimage.binary_dilation(region, iterations=thick) & ~region & (ids == 0)] *= 0.35
            out[region & ~ndimage.binary_erosion(region, iterations=thick, border_value=1)] = colours[object_id]
    image = Image.fromarray(out.round().clip(0, 255).astype(np.uint8))
    if len(objects) > 1:
        _write_numbers(image, ids, objects)
    return np.array(image)


def _write_numbers(image: Image.Image, ids: np.ndarray, objects: Sequence[int]) -> None:
    draw = ImageDraw.Draw(image)
    size = max(9, round(max(ids.shape) / 16))
    font = ImageFont.truetype(font_manager.findfont("DejaVu Sans:bold"), size)
    for object_id in objects:
        y, x, depth = _heart(ids == object_id)
        if depth >= size / 3:  # else the number would hide the object
            draw.text(
                (x, y), str(object_id), "white", font, anchor="mm", stroke_width=max(1, size // 8), stroke_fill=INK
            )


# --- Clips -----------------------------------------------------------------------------------------------


def bare(axes: Axes) -> None:
    """Take ticks, grid and frame away."""
    axes.set_xticks([])
    axes.set_yticks([])
    axes.grid(False)
    for spine in axes.spines.values():
        spine.set_visible(False)


def casing(width: float = 2.2, colour: str = INK) -> list[patheffects.AbstractPathEffect]:
    """A line of another colour around a line or a text, so that it reads on any ground."""
    return [patheffects.withStroke(linewidth=width, foreground=colour)]


def _draw_objects(
    axes: Axes, picture: np.ndarray, ids: np.ndarray | None, numbers: bool, opacity: float = 0.45
) -> None:
    """The vector twin of :func:`overlay`: lines and numbers stay sharp however small the tile is."""
    axes.imshow(picture)
    if ids is not None:
        tint = np.zeros((*ids.shape, 4), np.float32)
        tint[..., :3] = object_colours()[ids] / 255
        tint[..., 3] = np.where(ids > 0, opacity, 0)
        axes.imshow(tint, interpolation="nearest")
        for object_id in objects_in(ids):
            _draw_object_edge(axes, ids == object_id, object_id, numbers)
    bare(axes)


def _draw_object_edge(axes: Axes, region: np.ndarray, object_id: int, numbers: bool) -> None:
    h, w = region.shape
    fine = FINE if max(h, w) <= SMALL else 1  # or the line would cut the corners of pixels that can be seen
    y, x = ((np.arange(-fine, fine * (n + 1)) + 0.5) / fine - 0.5 for n in (h, w))
    padded = np.pad(region, 1).repeat(fine, 0).repeat(fine, 1).astype(float)
    line = axes.contour(x, y, padded, [0.5], colors=[_colour(object_id)], linewidths=1.1)
    line.set_path_effects(casing(1.9))
    axes.set_xlim(-0.5, w - 0.5)
    axes.set_ylim(h - 0.5, -0.5)
    if numbers:
        cy, cx, depth = _heart(region)
        if depth >= max(h, w) / 40:
            axes.text(
                cx, cy, str(object_id), color="white", weight="bold", fontsize=8.5, ha="center", va="center",
                path_effects=casing(),
            )  # fmt: skip


def _draw_errors(axes: Axes, picture: np.ndarray | None, kinds: np.ndarray, void: np.ndarray) -> None:
    h, w = kinds.shape
    if picture is None:
        axes.imshow(np.full((h, w, 3), 245, np.uint8))
    else:
        grey = picture.mean(axis=2, keepdims=True).repeat(3, axis=2)
        axes.imshow((150 + grey // 16 * 6).astype(np.uint8))  # pale, in few steps: errors stand out, files stay small
    tint = np.zeros((h, w, 4), np.float32)
    tint[void] = (0.6, 0.6, 0.6, 0.6)
    for kind, (_, colour, _) in ERRORS.items():
        tint[kinds == kind] = (*to_rgb(colour), 1)
    axes.imshow(tint, interpolation="nearest")
    y, x = np.arange(-1, h + 1), np.arange(-1, w + 1)
    for kind, (_, _, hatch) in ERRORS.items():
        if (region := kinds == kind).any():
            axes.contourf(x, y, np.pad(region, 1).astype(float), [0.5, 2], colors="none", hatches=[hatch])
    axes.set_xlim(-0.5, w - 0.5)
    axes.set_ylim(h - 0.5, -0.5)
    axes.set_aspect("equal")
    bare(axes)


def _error_legend(figure: Figure, kinds: np.ndarray, with_counts: bool) -> None:
    handles = []
    for kind, (name, colour, hatch) in ERRORS.items():
        count = int((kinds == kind).sum())
        if kind != WRONG_OBJECT or count:
            label = f"{name}: {count} px" if with_counts else name
            handles.append(Patch(facecolor=colour, edgecolor=INK, linewidth=0.4, hatch=hatch, label=label))
    figure.legend(handles=handles, loc="outside lower center", ncols=3, handlelength=2.2, handleheight=1.1)


@styled
def error_map(truth: Pixels, prediction: Pixels, frame: Pixels | None = None) -> Figure:
    """Truth, prediction and what differs, side by side, with the number of pixels of each kind of error.

    Args:
        truth, prediction: ids ``[H, W]``.
        frame: RGB picture to draw upon; plain paper without.

    Raises:
        TutorialError: if the shapes differ.
    """
    truth, prediction = as_ids(truth), as_ids(prediction)
    kinds = error_kinds(truth, prediction)
    h, w = kinds.shape
    picture = np.full((h, w, 3), 245, np.uint8) if frame is None else as_picture(frame)
    figure, axes = blank(1, 3, height=WIDTH / 3 * h / w + 0.6)
    numbers = len(set(objects_in(truth)) | set(objects_in(prediction))) > 1
    for cell, title, ids in zip(axes[0], ("truth", "prediction"), (truth, prediction), strict=False):
        _draw_objects(cell, picture, ids, numbers)
        cell.set_title(title)
    _draw_errors(axes[0, 2], None if frame is None else picture, kinds, truth == VOID)
    axes[0, 2].set_title("error")
    _error_legend(figure, kinds, with_counts=True)
    return figure


def key_frames(length: int, count: int) -> list[int]:
    """At most ``count`` frame numbers, evenly spread, the first and the last among them."""
    return sorted({round(t) for t in np.linspace(0, length - 1, min(count, length))})


@styled
def contact_sheet(
    clip: Clip | Pixels,
    masks: Pixels | None = None,
    prediction: Pixels | Mapping[str, Pixels] | None = None,
    *,
    times: Sequence[int] | None = None,
    columns: int = 6,
    errors: bool = True,
) -> Figure:
    """Key frames of a clip as a table of small pictures: truth, each prediction, and what is wrong with it.

    Args:
        clip: a Clip, or frames ``[T, 3, H, W]`` or ``[T, H, W, 3]``.
        masks: the truth, ids ``[T, H, W]``; a Clip brings its own.
        prediction: ids ``[T, H, W]``, or one such per method, by name.
        times: the frames to show; without, ``columns`` of them, evenly spread.
        columns: pictures in a row; more ``times`` than that continue below if there is one row to show.
        errors: a row of errors below each prediction (needs the truth).

    Raises:
        TutorialError: if a time is not in the clip, or the masks have another size than the frames.
    """
    frames = clip.frames if isinstance(clip, Clip) else clip
    masks = clip.masks if masks is None and isinstance(clip, Clip) else masks
    truth = None if masks is None else as_ids(masks)
    length = len(frames)
    times = key_frames(length, columns) if times is None else list(times)
    if bad := [t for t in times if not -length <= t < length]:
        raise TutorialError(f"frame {bad[0]} is not in this clip of {length} frames; choose 0..{length - 1}.")
    pictures = {t: as_picture(frames[t]) for t in times}
    named = prediction if isinstance(prediction, Mapping) else {"prediction": prediction}
    guesses = {name: as_ids(ids) for name, ids in named.items() if ids is not None}
    _check_sizes(truth, guesses, (length, *pictures[times[0]].shape[:2]))

    rows: list[tuple[str, np.ndarray | None, bool]] = []
    if truth is not None or not guesses:
        rows.append(("truth" if truth is not None else "", truth, False))
    for name, ids in guesses.items():
        rows.append((name, ids, False))
        if errors and truth is not None:
            rows.append(("error", error_kinds(truth, ids), True))

    if len(rows) == 1 and len(times) > columns:
        rows = rows * -(-len(times) // columns)
        grid = [times[i : i + columns] for i in range(0, len(times), columns)]
    else:
        grid = [list(times)] * len(rows)
    numbers = len(set().union(*(objects_in(ids) for ids in [truth, *guesses.values()] if ids is not None))) > 1
    h, w = pictures[times[0]].shape[:2]
    across = max(len(line) for line in grid)
    tile = (WIDTH - 0.3) / max(across, 3)  # inches; three or fewer pictures are no larger than a third of the width
    some_errors = any(is_error for *_, is_error in rows)
    headings = len(grid) if grid[0] is not grid[-1] else 1
    figure, axes = blank(
        len(rows), across, tile * across + 0.3, tile * h / w * len(rows) + 0.22 * headings + 0.3 * some_errors
    )
    figure.set_layout_engine("constrained", w_pad=0.02, h_pad=0.02, wspace=0.0, hspace=0.0)
    for row, ((name, values, is_error), line) in enumerate(zip(rows, grid, strict=True)):
        for column, cell in enumerate(axes[row]):
            if column >= len(line):
                cell.set_visible(False)
                continue
            t = line[column]
            if is_error and values is not None and truth is not None:
                _draw_errors(cell, pictures[t], values[t], truth[t] == VOID)
            else:
                _draw_objects(cell, pictures[t], None if values is None else values[t], numbers)
            if row == 0 or headings > 1:
                cell.set_title(f"frame {t % length}", pad=3, fontsize=9)
        if headings == 1:
            axes[row, 0].set_ylabel(textwrap.fill(name, max(8, int(tile * h / w / 0.075))), fontsize=9)
    if some_errors:
        every = np.concatenate(
            [kinds[times].ravel() for _, kinds, is_error in rows if is_error and kinds is not None]
        )
        _error_legend(figure, every, with_counts=False)
    return figure


def _check_sizes(truth: np.ndarray | None, guesses: Mapping[str, np.ndarray], expected: tuple[int, ...]) -> None:
    for name, ids in {"truth": truth, **guesses}.items():
        if ids is not None and ids.shape != expected:
            raise TutorialError(f"{name} is {list(ids.shape)} but the frames ask for {list(expected)} ([T, H, W]).")


@styled
def gallery(pictures: Mapping[str, Pixels], columns: int = 4, height: float | None = None) -> Figure:
    """Pictures side by side under their names, each drawn as what it is.

    Args:
        pictures: ``[3, H, W]`` or ``[H, W, 3]`` is a picture; bool or uint8 ``[H, W]`` a mask of ids;
            float ``[H, W]`` a map, drawn from its least to its greatest value with a scale beside it.
        columns: pictures in a row.
        height: of one picture in inches; as wide as the columns allow without.

    Raises:
        TutorialError: if an array is none of these, or there is none.
    """
    if not pictures:
        raise TutorialError("gallery() was given no pictures; pass {'name': array}.")
    arrays = {name: array(values) for name, values in pictures.items()}
    across = min(columns, len(arrays))
    down = -(-len(arrays) // columns)
    width = (WIDTH - 0.1) / max(across, 3)
    shapes = [as_picture(a).shape[:2] if a.ndim == 3 else a.shape for a in arrays.values()]
    tall = height or max(width * h / w for h, w, *_ in shapes)
    figure, axes = blank(down, across, width * across + 0.1, (tall + 0.26) * down)
    for cell in axes.ravel()[len(arrays) :]:
        cell.set_visible(False)
    for cell, (name, values) in zip(axes.ravel(), arrays.items(), strict=False):
        if values.ndim == 3:
            _draw_objects(cell, as_picture(values), None, False)
        elif values.ndim == 2 and values.dtype in (np.dtype(bool), np.dtype(np.uint8)):
            ids = as_ids(values)
            _draw_objects(cell, np.full((*ids.shape, 3), 235, np.uint8), ids, len(objects_in(ids)) > 1, opacity=1.0)
        elif values.ndim == 2:
            drawn = cell.imshow(values, cmap="viridis")
            figure.colorbar(drawn, ax=cell, shrink=0.85, pad=0.03, aspect=14).outline.set_visible(False)
            bare(cell)
        else:
            raise TutorialError(
                f"picture {name!r} is {list(values.shape)}; it must be [3, H, W], [H, W, 3] or [H, W]."
            )
        cell.set_title(name)
    return figure


@styled
def pins(
    pictures: Mapping[str, Pixels],
    source: Pixels | ArrayLike,
    target: Pixels | ArrayLike,
    *,
    on: Sequence[str] | None = None,
) -> Figure:
    """Pictures side by side, with the pins of a warp: a ring where a pin was, an arrow to where it went.

    Args:
        pictures: by title, RGB ``[3, H, W]`` or ``[H, W, 3]``.
        source, target: ``[N, 2]``, (x, y) in [-1, 1], as ``grid_sample`` counts.
        on: titles of the pictures that get the pins; all of them without.

    Raises:
        TutorialError: if there is no picture, numbers of pins differ, or ``on`` names no picture.
    """
    before, after = array(source), array(target)
    if not pictures or before.shape != after.shape or before.ndim != 2 or before.shape[1] != 2:
        raise TutorialError(
            f"pins() needs pictures, and [N, 2] places before and after; got {len(pictures)} pictures, "
            f"{list(before.shape)} and {list(after.shape)}."
        )
    images = {title: as_picture(picture) for title, picture in pictures.items()}
    for title in on or ():
        if title not in images:
            raise TutorialError(f"on names {title!r}, but the pictures are {', '.join(images)}.")
    h, w = next(iter(images.values())).shape[:2]
    width = (WIDTH - 0.1) / max(3, len(images))
    figure, axes = blank(1, len(images), width * len(images) + 0.1, width * h / w + 0.26)
    for cell, (title, picture) in zip(axes[0], images.items(), strict=True):
        size = np.array([picture.shape[1], picture.shape[0]])
        start, end = ((place + 1) / 2 * size - 0.5 for place in (before, after))
        cell.imshow(picture)
        if on is None or title in on:
            cell.plot(*start.T, "o", color="white", markeredgecolor=INK, markersize=4.5, zorder=4)
            for (x, y), (u, v) in zip(start, end, strict=True):
                arrow = {"arrowstyle": "->", "color": "white", "linewidth": 1.5, "shrinkA": 0, "shrinkB": 0}
                cell.annotate(
                    "", (u, v), (x, y), arrowprops=arrow | {"mutation_scale": 9, "path_effects": casing(3.5)}
                )
        bare(cell)
        cell.set_xlim(-0.5, size[0] - 0.5)
        cell.set_ylim(size[1] - 0.5, -0.5)
        cell.set_title(title)
    return figure


# --- Small masks by hand ---------------------------------------------------------------------------------


@styled
def pixels(
    arrays: Mapping[str, Pixels | ArrayLike],
    marks: Mapping[str, Pixels | ArrayLike] | None = None,
    cell: float = 0.32,
    *,
    brightness: bool = False,
) -> Figure:
    """Tiny arrays with the value of every pixel printed in its cell.

    Args:
        arrays: by title, ``[h, w]``: bool or whole numbers are ids and coloured as such, other numbers grey
            from 0 (white) to the greatest.
        marks: by the same titles, ``bool [h, w]``: cells to frame in a thick line, a boundary for example.
        cell: side of a cell in inches.
        brightness: numbers are those of a picture, so that the greatest is white and 0 is grey.

    Raises:
        TutorialError: if an array is not 2-D or has more than 600 cells, which nobody can read.
    """
    marks = marks or {}
    values = {title: array(a) for title, a in arrays.items()}
    for title, a in values.items():
        if a.ndim != 2 or a.size > 600:
            raise TutorialError(f"pixels() prints small 2-D arrays, but {title!r} is {list(a.shape)}; crop it first.")
    gap = 0.35
    width = sum(max(a.shape[1] * cell, 0.085 * len(title)) + gap for title, a in values.items())
    height = max(a.shape[0] for a in values.values()) * cell + 0.4
    figure, axes = blank(1, len(values), width, height)
    for axis, (title, a) in zip(axes[0], values.items(), strict=True):
        _draw_pixels(axis, a, array(marks[title]).astype(bool) if title in marks else None, brightness)
        axis.set_title(title)
    return figure


def _draw_pixels(axes: Axes, values: np.ndarray, mark: np.ndarray | None, brightness: bool) -> None:
    h, w = values.shape
    whole = values.dtype == bool or bool(
        np.all(values == np.floor(values)) and values.min() >= 0 and values.max() < 256
    )
    if whole:
        ids = values.astype(np.uint8)
        paint = np.where((ids > 0)[..., None], 0.45 * object_colours()[ids] / 255 + 0.55, 1.0)
    else:
        share = (values / max(float(np.nanmax(values)), 1e-9)).clip(0, 1)[..., None]
        paint = np.repeat(0.55 + 0.45 * share if brightness else 1 - 0.45 * share, 3, axis=2)
    axes.imshow(paint, interpolation="nearest")
    for y in range(h):
        for x in range(w):
            number = values[y, x]
            text = str(int(number)) if whole or number == 0 else f"{number:.2f}".replace("0.", ".")
            axes.text(
                x, y, text, ha="center", va="center", fontsize=9 if whole else 8,
                color=FAINT if number == 0 else INK, weight="bold" if whole and number else "normal",
            )  # fmt: skip
    bare(axes)
    axes.set_xticks(np.arange(-0.5, w), minor=True)
    axes.set_yticks(np.arange(-0.5, h), minor=True)
    axes.tick_params(which="minor", length=0)
    axes.grid(True, which="minor", color="#bdbdbd", linewidth=0.7)
    for side in ("right", "bottom"):  # where the last line of the grid falls outside the axes
        axes.spines[side].set(visible=True, color="#bdbdbd", linewidth=0.7)
    for y, x in np.argwhere(mark) if mark is not None else ():
        axes.add_patch(Rectangle((x - 0.5, y - 0.5), 1, 1, fill=False, edgecolor=INK, linewidth=2.2, clip_on=False))
