"""Static pictures, each with a text that says what is to be seen in it.

Every notebook shows its pictures through :func:`show`, which asks for that text. The functions that make
pictures return a matplotlib ``Figure`` and show nothing, so that they can be tested and saved. Colour is
never the only carrier: objects have outlines and numbers, errors have hatches, curves have dashes and
markers. Eight colours that colour-blind readers tell apart come first (Okabe and Ito, 2008), then DAVIS's.
"""

from __future__ import annotations

import functools
import io
import itertools
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, ParamSpec, TypeAlias, TypeVar

import matplotlib
import numpy as np
from matplotlib import font_manager, patheffects
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle
from numpy.typing import ArrayLike
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage
from torch import Tensor

from ..clip import VOID, Clip, davis_palette
from ..errors import TutorialError

Pixels: TypeAlias = "np.ndarray | Tensor"
P = ParamSpec("P")
R = TypeVar("R")

WIDTH = 8.0  # inches; at DPI this is a notebook's column
DPI = 100
MAX_PNG_BYTES = 60_000

INK, FAINT, PAPER = "#222222", "#8a8a8a", "#ffffff"
ORANGE, SKY, GREEN, YELLOW, BLUE, VERMILLION, PURPLE = (
    "#e69f00",
    "#56b4e9",
    "#009e73",
    "#f0e442",
    "#0072b2",
    "#d55e00",
    "#cc79a7",
)
_OBJECTS = (ORANGE, SKY, GREEN, PURPLE, YELLOW, VERMILLION, BLUE)
_LINES = (BLUE, VERMILLION, GREEN, ORANGE, PURPLE, SKY, INK)
_DASHES: tuple[Any, ...] = ("-", (0, (5, 1.6)), (0, (1.2, 1.2)), (0, (6, 1.5, 1.2, 1.5)), "-", (0, (3, 1)), "-")
_MARKERS = ("o", "s", "^", "D", "v", "X", "P")
_FILLS = ("", "////", "....", "\\\\\\\\", "xxxx", "----", "++++")

OK, MISS, FALSE_ALARM, WRONG_OBJECT = 0, 1, 2, 3
_ERRORS = {
    MISS: ("miss", BLUE, "////"),
    FALSE_ALARM: ("false alarm", VERMILLION, "...."),
    WRONG_OBJECT: ("wrong object", YELLOW, "xxxx"),
}

STYLE: dict[str, Any] = {
    "font.size": 9.5,
    "axes.titlesize": 9.5,
    "axes.labelsize": 9.5,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "legend.fontsize": 9,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": FAINT,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.8,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e6e6e6",
    "grid.linewidth": 0.7,
    "legend.frameon": False,
    "lines.linewidth": 1.8,
    "lines.markersize": 4.5,
    "hatch.linewidth": 0.6,
    "figure.facecolor": PAPER,
    "axes.facecolor": PAPER,
    "image.interpolation": "antialiased",
}


@contextmanager
def style() -> Iterator[None]:
    """The tutorial's matplotlib settings, for the length of a ``with`` block."""
    with matplotlib.rc_context(STYLE):  # type: ignore[arg-type]  # newer stubs list every key
        yield


def _styled(function: Callable[P, R]) -> Callable[P, R]:
    @functools.wraps(function)
    def inner(*args: P.args, **kwargs: P.kwargs) -> R:
        with style():
            return function(*args, **kwargs)

    return inner


@_styled
def blank(rows: int = 1, columns: int = 1, width: float = WIDTH, height: float = 3.0) -> tuple[Figure, np.ndarray]:
    """An empty figure in the tutorial's style: ``(figure, axes [rows, columns])``; sizes in inches.

    It belongs to no window and no global list, so nothing is shown twice and nothing has to be closed.
    """
    figure = Figure(figsize=(width, height), dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots(rows, columns, squeeze=False)


# --- Showing ---------------------------------------------------------------------------------------------


@_styled
def to_png(figure: Figure) -> bytes:
    """The figure as a palette PNG, with as many colours (128, 64, 48) as ``MAX_PNG_BYTES`` allows."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI, metadata={"Software": None})
    return small_png(Image.open(buffer).convert("RGB"), MAX_PNG_BYTES)


def small_png(image: Image.Image, max_bytes: int) -> bytes:
    """An RGB picture as a palette PNG of at most ``max_bytes``, where 48 colours can do it (else: 48 colours).

    Maximum coverage keeps small saturated regions (a thin line, an error's hatch), which median cut greys;
    k-means, until fewer than a twentieth of the pixels change sides, then halves its error on photographs.
    """
    settled = image.width * image.height // 20
    png = b""
    for colours in (128, 64, 48):
        few = image.quantize(colours, method=Image.Quantize.MAXCOVERAGE, kmeans=settled, dither=Image.Dither.NONE)
        buffer = io.BytesIO()
        few.save(buffer, format="PNG", optimize=True)
        png = buffer.getvalue()
        if len(png) <= max_bytes:
            break
    return png


def show(figure: Figure, alt: str) -> None:
    """Show a figure as a cell's output, with a text for those who cannot see it; the figure is closed.

    The output holds ``image/png`` (small, see :func:`to_png`) and ``text/plain``: ``Figure: <alt>``. Strict
    notebook tests compare that text, so ``alt`` must not hold numbers that change from run to run.

    Args:
        figure: from a function of this module or from matplotlib.
        alt: one or two sentences on what is to be seen.

    Raises:
        TutorialError: if ``alt`` is empty.
    """
    if not isinstance(alt, str) or not alt.strip():
        raise TutorialError("this figure has no alt text; call show(figure, 'one sentence on what is to be seen').")
    from IPython.display import display

    png = to_png(figure)
    display(
        {"image/png": png, "text/plain": f"Figure: {alt}"},
        raw=True,
        metadata={"image/png": {"alt": alt}},
    )
    if hasattr(figure, "number"):  # made by pyplot, which keeps a list and would show it a second time
        from matplotlib import pyplot

        pyplot.close(figure)


# --- Arrays ----------------------------------------------------------------------------------------------


def _array(values: Pixels | ArrayLike) -> np.ndarray:
    return values.detach().cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)


def as_picture(frame: Pixels) -> np.ndarray:
    """One frame as matplotlib and Pillow like it: ``uint8 [H, W, 3]``.

    Args:
        frame: RGB, ``[3, H, W]`` or ``[H, W, 3]``, uint8 or float in [0, 1] (clipped).

    Raises:
        TutorialError: if the shape is another one.
    """
    picture = _array(frame)
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
    ids = _array(mask)
    if ids.dtype == np.uint8:
        return ids
    if ids.size and (not np.all(ids == np.floor(ids)) or ids.min() < 0 or ids.max() > 255):
        raise TutorialError(
            f"a mask holds ids 0..255, got {ids.dtype} values from {ids.min()} to {ids.max()}; "
            "threshold or argmax the probabilities first."
        )
    return ids.astype(np.uint8)


@functools.cache
def object_colours() -> np.ndarray:
    """One colour per id, ``uint8 [256, 3]``: 1..7 from Okabe and Ito, then DAVIS's; background black, void grey."""
    colours = davis_palette().copy()
    for object_id, colour in enumerate(_OBJECTS, start=1):
        colours[object_id] = np.round(np.array(to_rgb(colour)) * 255)
    colours[VOID] = 200
    colours.flags.writeable = False
    return colours


def _colour(object_id: int) -> str:
    return "#{:02x}{:02x}{:02x}".format(*object_colours()[object_id])


def _objects(ids: np.ndarray) -> list[int]:
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
    objects = _objects(ids)
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


def _bare(axes: Axes) -> None:
    axes.set_xticks([])
    axes.set_yticks([])
    axes.grid(False)
    for spine in axes.spines.values():
        spine.set_visible(False)


def _casing(width: float = 2.2, colour: str = INK) -> list[patheffects.AbstractPathEffect]:
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
        for object_id in _objects(ids):
            _draw_object_edge(axes, ids == object_id, object_id, numbers)
    _bare(axes)


def _draw_object_edge(axes: Axes, region: np.ndarray, object_id: int, numbers: bool) -> None:
    h, w = region.shape
    y, x = np.arange(-1, h + 1), np.arange(-1, w + 1)
    line = axes.contour(x, y, np.pad(region, 1).astype(float), [0.5], colors=[_colour(object_id)], linewidths=1.1)
    line.set_path_effects(_casing(1.9))
    axes.set_xlim(-0.5, w - 0.5)
    axes.set_ylim(h - 0.5, -0.5)
    if numbers:
        cy, cx, depth = _heart(region)
        if depth >= max(h, w) / 40:
            axes.text(
                cx, cy, str(object_id), color="white", weight="bold", fontsize=8.5, ha="center", va="center",
                path_effects=_casing(),
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
    for kind, (_, colour, _) in _ERRORS.items():
        tint[kinds == kind] = (*to_rgb(colour), 1)
    axes.imshow(tint, interpolation="nearest")
    y, x = np.arange(-1, h + 1), np.arange(-1, w + 1)
    for kind, (_, _, hatch) in _ERRORS.items():
        if (region := kinds == kind).any():
            axes.contourf(x, y, np.pad(region, 1).astype(float), [0.5, 2], colors="none", hatches=[hatch])
    axes.set_xlim(-0.5, w - 0.5)
    axes.set_ylim(h - 0.5, -0.5)
    axes.set_aspect("equal")
    _bare(axes)


def _error_legend(figure: Figure, kinds: np.ndarray, with_counts: bool) -> None:
    handles = []
    for kind, (name, colour, hatch) in _ERRORS.items():
        count = int((kinds == kind).sum())
        if kind != WRONG_OBJECT or count:
            label = f"{name}: {count} px" if with_counts else name
            handles.append(Patch(facecolor=colour, edgecolor=INK, linewidth=0.4, hatch=hatch, label=label))
    figure.legend(handles=handles, loc="outside lower center", ncols=3, handlelength=2.2, handleheight=1.1)


@_styled
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
    numbers = len(set(_objects(truth)) | set(_objects(prediction))) > 1
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


@_styled
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
    numbers = len(set().union(*(_objects(ids) for ids in [truth, *guesses.values()] if ids is not None))) > 1
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


@_styled
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
    arrays = {name: _array(values) for name, values in pictures.items()}
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
            _draw_objects(cell, np.full((*ids.shape, 3), 235, np.uint8), ids, len(_objects(ids)) > 1, opacity=1.0)
        elif values.ndim == 2:
            drawn = cell.imshow(values, cmap="viridis")
            figure.colorbar(drawn, ax=cell, shrink=0.85, pad=0.03, aspect=14).outline.set_visible(False)
            _bare(cell)
        else:
            raise TutorialError(
                f"picture {name!r} is {list(values.shape)}; it must be [3, H, W], [H, W, 3] or [H, W]."
            )
        cell.set_title(name)
    return figure


# --- Small masks by hand ---------------------------------------------------------------------------------


@_styled
def pixels(
    arrays: Mapping[str, Pixels | ArrayLike],
    marks: Mapping[str, Pixels | ArrayLike] | None = None,
    cell: float = 0.32,
) -> Figure:
    """Tiny arrays with the value of every pixel printed in its cell.

    Args:
        arrays: by title, ``[h, w]``: bool or whole numbers are ids and coloured as such, other numbers grey
            from 0 (white) to the greatest.
        marks: by the same titles, ``bool [h, w]``: cells to frame in a thick line, a boundary for example.
        cell: side of a cell in inches.

    Raises:
        TutorialError: if an array is not 2-D or has more than 600 cells, which nobody can read.
    """
    marks = marks or {}
    values = {title: _array(a) for title, a in arrays.items()}
    for title, a in values.items():
        if a.ndim != 2 or a.size > 600:
            raise TutorialError(f"pixels() prints small 2-D arrays, but {title!r} is {list(a.shape)}; crop it first.")
    gap = 0.35
    width = sum(max(a.shape[1] * cell, 0.085 * len(title)) + gap for title, a in values.items())
    height = max(a.shape[0] for a in values.values()) * cell + 0.4
    figure, axes = blank(1, len(values), width, height)
    for axis, (title, a) in zip(axes[0], values.items(), strict=True):
        _draw_pixels(axis, a, _array(marks[title]).astype(bool) if title in marks else None)
        axis.set_title(title)
    return figure


def _draw_pixels(axes: Axes, values: np.ndarray, mark: np.ndarray | None) -> None:
    h, w = values.shape
    whole = values.dtype == bool or bool(
        np.all(values == np.floor(values)) and values.min() >= 0 and values.max() < 256
    )
    if whole:
        ids = values.astype(np.uint8)
        paint = np.where((ids > 0)[..., None], 0.45 * object_colours()[ids] / 255 + 0.55, 1.0)
    else:
        paint = np.repeat(1 - 0.45 * (values / max(float(np.nanmax(values)), 1e-9)).clip(0, 1)[..., None], 3, axis=2)
    axes.imshow(paint, interpolation="nearest")
    for y in range(h):
        for x in range(w):
            number = values[y, x]
            text = str(int(number)) if whole or number == 0 else f"{number:.2f}".replace("0.", ".")
            axes.text(
                x, y, text, ha="center", va="center", fontsize=9 if whole else 8,
                color=FAINT if number == 0 else INK, weight="bold" if whole and number else "normal",
            )  # fmt: skip
    _bare(axes)
    axes.set_xticks(np.arange(-0.5, w), minor=True)
    axes.set_yticks(np.arange(-0.5, h), minor=True)
    axes.tick_params(which="minor", length=0)
    axes.grid(True, which="minor", color="#bdbdbd", linewidth=0.7)
    for side in ("right", "bottom"):  # where the last line of the grid falls outside the axes
        axes.spines[side].set(visible=True, color="#bdbdbd", linewidth=0.7)
    for y, x in np.argwhere(mark) if mark is not None else ():
        axes.add_patch(Rectangle((x - 0.5, y - 0.5), 1, 1, fill=False, edgecolor=INK, linewidth=2.2, clip_on=False))


# --- Curves, cobweb, bars --------------------------------------------------------------------------------


def _seeds(values: Pixels | ArrayLike) -> np.ndarray:
    """``[T]`` or ``[seeds, T]`` -> ``float [seeds, T]``."""
    return np.atleast_2d(_array(values).astype(np.float64))


def _draw_line(axes: Axes, index: int, label: str, x: np.ndarray, seeds: np.ndarray) -> None:
    """The mean over seeds with its own dash and marker, in a band from the least to the greatest seed."""
    colour = _LINES[index % len(_LINES)]
    with np.errstate(all="ignore"):
        mean = seeds.mean(axis=0)  # NaN where a seed has none: a gap, not a guess
    if len(seeds) > 1:
        axes.fill_between(x, seeds.min(axis=0), seeds.max(axis=0), color=colour, alpha=0.16, linewidth=0)
    every = max(1, -(-len(x) // 9))
    axes.plot(
        x, mean, color=colour, linestyle=_DASHES[index % len(_DASHES)], marker=_MARKERS[index % len(_MARKERS)],
        markevery=(index * every // 3 % every, every), markeredgecolor="white", markeredgewidth=0.6, label=label,
    )  # fmt: skip


@_styled
def curves(
    lines: Mapping[str, Pixels | ArrayLike],
    xlabel: str,
    ylabel: str,
    *,
    x: Pixels | ArrayLike | None = None,
    ylim: tuple[float, float] | None = None,
    spans: Mapping[str, tuple[float, float]] | None = None,
    height: float = 3.0,
) -> Figure:
    """Lines over time (or steps), with a band where there are several seeds.

    Args:
        lines: by label, ``[T]`` or ``[seeds, T]``; NaN leaves a gap; lengths may differ when ``x`` is None.
        xlabel, ylabel: with units.
        x: positions ``[T]`` of all lines; 0, 1, 2, ... without.
        ylim: the range of y.
        spans: by label, ``(from, to)`` in x: stretches to shade, an occlusion for example.
        height: inches.

    Raises:
        TutorialError: if ``x`` and a line differ in length, or there is no line.
    """
    if not lines:
        raise TutorialError("curves() was given no lines; pass {'label': values}.")
    figure, axes = blank(1, 1, height=height)
    plot = axes[0, 0]
    for start, end in (spans or {}).values():
        plot.axvspan(start, end, color="#ececec", linewidth=0, zorder=0)
    for index, (label, values) in enumerate(lines.items()):
        seeds = _seeds(values)
        position = np.arange(seeds.shape[1]) if x is None else _array(x)
        if len(position) != seeds.shape[1]:
            raise TutorialError(f"line {label!r} has {seeds.shape[1]} values but x has {len(position)}.")
        _draw_line(plot, index, label, position, seeds)
    plot.set_xlabel(xlabel)
    plot.set_ylabel(ylabel)
    plot.margins(x=0.015)
    if x is None or np.all(_array(x) == np.round(_array(x))):
        plot.xaxis.get_major_locator().set_params(integer=True)  # there is no frame 1.5
    if ylim is not None:
        plot.set_ylim(*ylim)
    for name, (start, end) in (spans or {}).items():
        plot.annotate(
            name, ((start + end) / 2, 1), xycoords=("data", "axes fraction"), xytext=(0, 2),
            textcoords="offset points", ha="center", va="bottom", fontsize=9, color="#5a5a5a",
        )  # fmt: skip
    if len(lines) > 1:
        _legend_above(figure, list(lines))
    return figure


def _legend_above(figure: Figure, labels: Sequence[str]) -> None:
    inches = max(len(label) for label in labels) * 0.075 + 0.75  # of one column: the text and its handle
    columns = max(1, min(len(labels), int(WIDTH / inches)))
    figure.legend(loc="outside upper left", ncols=columns, handlelength=3.0)


@_styled
def cobweb(
    responses: Mapping[str, tuple[Pixels | ArrayLike, Pixels | ArrayLike]], path: Pixels | ArrayLike | None = None
) -> Figure:
    """IoU in -> IoU out: what one step makes of a guide of a given quality.

    Above the diagonal a step mends its guide, below it spoils it. A method that feeds its output back walks a
    staircase between its curve and the diagonal, towards the point where they meet.

    Args:
        responses: by label, ``(x [N], y [N] or [seeds, N])``: IoU of guide and truth, IoU of output and truth, 0..1.
        path: ``[T]``, IoU of a real clip's masks, the given one first; drawn as the staircase it walks.

    Raises:
        TutorialError: if x and y differ in length.
    """
    labels = [*responses, *(["a clip, frame by frame"] if path is not None else [])]
    legend = max(len(label) for label in labels) * 0.075 + 0.7 if len(labels) > 1 else 0.0
    figure, axes = blank(1, 1, width=4.4 + legend, height=4.1)
    plot = axes[0, 0]
    plot.fill_between([0, 1], [0, 1], [1, 1], color="#f4f7fb", linewidth=0, zorder=0)
    plot.plot([0, 1], [0, 1], color=FAINT, linewidth=1.2)
    plot.text(0.03, 0.965, "mends its guide", color="#5a5a5a", va="top", fontsize=9)
    plot.text(0.97, 0.03, "spoils its guide", color="#5a5a5a", ha="right", fontsize=9)
    for index, (label, (x_values, y_values)) in enumerate(responses.items()):
        x, seeds = _array(x_values).astype(np.float64), _seeds(y_values)
        if len(x) != seeds.shape[1]:
            raise TutorialError(f"response {label!r} has {len(x)} guides but {seeds.shape[1]} outputs.")
        order = np.argsort(x, kind="stable")
        _draw_line(plot, index, label, x[order], seeds[:, order])
    if path is not None:
        stairs = _staircase(_array(path).astype(np.float64))
        plot.plot(stairs[:, 0], stairs[:, 1], color=INK, linewidth=1.0, label=labels[-1], zorder=3, clip_on=False)
        for name, corner, marker, shift in (("start", stairs[0], "o", -9), ("end", stairs[-1], "s", 9)):
            plot.plot(*corner, marker=marker, color=INK, markersize=5.5, zorder=4, clip_on=False)
            plot.annotate(
                name, corner, (shift, 0), textcoords="offset points", fontsize=9, va="center",
                ha="right" if shift < 0 else "left", path_effects=_casing(2.5, PAPER),
            )  # fmt: skip
    plot.set(
        xlim=(0, 1), ylim=(0, 1), aspect="equal", xlabel="IoU in (guide, truth)", ylabel="IoU out (output, truth)"
    )
    if len(labels) > 1:
        figure.legend(loc="outside right upper", handlelength=3.0)
    return figure


def _staircase(path: np.ndarray) -> np.ndarray:
    """``[T]`` -> ``[2T-1, 2]``: from the diagonal up or down to the output, then across to the diagonal again."""
    corners = [(path[0], path[0])]
    for before, after in itertools.pairwise(path):
        corners += [(before, after), (after, after)]
    return np.array(corners)


@_styled
def bars(
    groups: Mapping[str, Mapping[str, float | Pixels | ArrayLike]],
    xlabel: str,
    *,
    xlim: tuple[float, float] | None = None,
) -> Figure:
    """Horizontal bars, one block per group, one bar per method; seeds as dots, their mean written at the end.

    Args:
        groups: ``{group: {method: value or [seeds]}}``; a method may be missing from a group.
        xlabel: with units.
        xlim: the range of x.

    Raises:
        TutorialError: if there is no group.
    """
    if not groups:
        raise TutorialError("bars() was given no groups; pass {'group': {'method': value}}.")
    methods = list(dict.fromkeys(method for group in groups.values() for method in group))
    slots = len(methods) + (0.7 if len(methods) > 1 else 0.3)  # bars of one block, and the air below it
    figure, axes = blank(1, 1, height=0.6 + 0.2 * slots * len(groups) + 0.25 * (len(methods) > 1))
    plot = axes[0, 0]
    for index, method in enumerate(methods):
        present = [(i, _seeds(group[method])[0]) for i, group in enumerate(groups.values()) if method in group]
        place = [i * slots + index for i, _ in present]
        means = [float(seeds.mean()) for _, seeds in present]
        plot.barh(
            place, means, height=0.86, color=_LINES[index % len(_LINES)], alpha=0.82, label=method,
            hatch=_FILLS[index % len(_FILLS)] if len(methods) > 1 else None, edgecolor="white", linewidth=0,
        )  # fmt: skip
        for y, mean, (_, seeds) in zip(place, means, present, strict=True):
            if len(seeds) > 1:
                plot.plot(
                    seeds,
                    [y] * len(seeds),
                    "o",
                    color=INK,
                    markersize=3.8,
                    markeredgecolor="white",
                    markeredgewidth=0.5,
                )
            plot.annotate(
                f"{mean:.1f}" if abs(mean) >= 2 else f"{mean:.2f}", (max(mean, seeds.max()), y), (5, 0),
                textcoords="offset points", va="center", fontsize=8.5,
            )  # fmt: skip
    middle = (len(methods) - 1) / 2
    plot.set_yticks([i * slots + middle for i in range(len(groups))], [g.replace("_", " ") for g in groups])
    plot.tick_params(axis="y", length=0)
    plot.grid(False, axis="y")
    plot.spines["left"].set_visible(False)
    plot.axvline(0, color=FAINT, linewidth=0.8)
    plot.set_ylim((len(groups) - 1) * slots + len(methods) - 0.3, -0.7)
    plot.set_xlabel(xlabel)
    if xlim is not None:
        plot.set_xlim(*xlim)
    if len(methods) > 1:
        figure.legend(loc="outside upper left", ncols=min(4, len(methods)), handlelength=2.2, handleheight=1.1)
    return figure
