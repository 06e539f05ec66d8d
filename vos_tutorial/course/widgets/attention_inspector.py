"""Click on a place of the query frame and see where the memory answers, and what is left without part of it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
import traitlets
from PIL import Image, ImageDraw, ImageFont

from ...clip import VOID
from ...errors import TutorialError
from ...metrics import region_similarity
from .. import figures
from .widget import POSTER_BYTES, Widget, display_size, module, pack_frames, pack_ids, stylesheet

Decode = Callable[[list[int], float, "int | None"], figures.Pixels]
AFFINITIES = ("dot", "l2")
EXACT_BYTES = 4_000_000  # keys up to this size travel as float32, larger ones as float16
MOST_BYTES = 32_000_000
LEAST_WEIGHT = 1e-30  # a given attention of zero; its logarithm must stay a number


class AttentionInspector(Widget):
    """The read of a key-value memory, one query cell at a time, computed in the browser.

    Hover over the query frame to look, click to choose; or, with the focus on the frame, move with the arrow keys
    (Home, End: first and last column), choose with Enter, go back with Escape. Every memory frame shows the
    attention as heat, its mass as a bar. Temperature, top-k and the removal of memory frames are exact and need no
    kernel. Only the mask does: "Decode again" asks ``decode``, and so does the removal of a frame.

    The attention of query cell q is ``softmax(s / temperature)`` over the cells i of all memory frames that are
    kept, where ``s_i`` is ``q.k_i / sqrt(C)`` ("dot": Oh et al., STM, equation 2, with the factor the authors' code
    has) or ``-|q - k_i|^2 / sqrt(C)`` ("l2": Cheng et al., STCN). With top-k, only the k
    largest stay and are divided by their sum.

    Args:
        query: the frame that asks, RGB ``[3, H, W]`` or ``[H, W, 3]``, uint8 or float in [0, 1]; numpy or torch.
        memory: M frames of any size, ``[M, 3, H, W]`` or ``[M, H, W, 3]``, likewise.
        attention: instead of keys, a finished attention ``[M*h*w, h*w]`` as in the paper: every column sums to 1.
        query_key: float ``[C, h, w]``.
        memory_key: float ``[C, M, h, w]``.
        affinity: ``"dot"`` or ``"l2"``.
        grid: ``(h, w)``, cells of a frame; needed with ``attention``, else read from the keys. The cells cover the
            whole frame: crop what was padded.
        masks: ids ``uint8 [M, H, W]`` of the memory frames, drawn as outlines.
        decode: ``decode(keep, temperature, topk) -> ids [H, W]`` of the query frame, from the memory frames in
            ``keep``; topk None means all. Called once here, to have the mask from the whole memory, and then on
            request, perhaps in another thread; gradients are off.
        labels: names of the memory frames; "memory 0", "memory 1", ... without.
        pixel: ``(y, x)`` of the query frame to begin with; the middle without.
        max_side: pixels on the long side of each frame as sent.
        alt: what a screen reader says this is.

    Attributes:
        pixel (``[y, x]`` of the query frame), temperature (0.1..10), topk (None: all), removed (memory frames left
        out): live in both directions.

    Raises:
        TutorialError: if shapes do not match, keys and attention are both given or both missing, or the data are
            too large for a page (32 MB).
    """

    _esm = module("attention_inspector")
    _css = stylesheet("attention_inspector")

    pixel = traitlets.List(traitlets.Int()).tag(sync=True)
    temperature = traitlets.Float(1.0, min=0.1, max=10.0).tag(sync=True)
    topk = traitlets.Int(None, allow_none=True, min=1).tag(sync=True)
    removed = traitlets.List(traitlets.Int()).tag(sync=True)

    _query = traitlets.Bytes().tag(sync=True)  # one JPEG
    _memory = traitlets.Bytes().tag(sync=True)  # JPEGs, one after the other
    _offsets = traitlets.List(traitlets.Int()).tag(sync=True)
    _sizes = traitlets.Dict().tag(sync=True)  # picture: the query's [H, W]; query, memory: [H, W] as sent
    _labels = traitlets.List(traitlets.Unicode()).tag(sync=True)
    _masks = traitlets.Bytes().tag(sync=True)  # zlib of uint8 [M, H, W]; nothing without masks
    _keys = traitlets.Dict().tag(sync=True)  # affinity ("given": no keys but scores), dtype, C, M, h, w
    _query_key = traitlets.Bytes().tag(sync=True)  # [C, h*w]; with "given", scores [h*w, M*h*w]
    _memory_key = traitlets.Bytes().tag(sync=True)  # [C, M*h*w]
    _colours = traitlets.Bytes().tag(sync=True)  # uint8 [256, 3]
    _request = traitlets.Dict().tag(sync=True)  # from the page: {number}
    _answer = traitlets.Dict().tag(sync=True)  # {number, state, text} and what the mask was decoded from
    _decoded = traitlets.Bytes().tag(sync=True)  # zlib of uint8 [H, W]; nothing without ``decode``

    def __init__(
        self,
        query: figures.Pixels,
        memory: figures.Pixels,
        attention: figures.Pixels | None = None,
        *,
        query_key: figures.Pixels | None = None,
        memory_key: figures.Pixels | None = None,
        affinity: str = "dot",
        grid: tuple[int, int] | None = None,
        masks: figures.Pixels | None = None,
        decode: Decode | None = None,
        labels: Sequence[str] = (),
        pixel: tuple[int, int] | None = None,
        max_side: int = 360,
        alt: str = "Attention of a query frame over the memory",
    ) -> None:
        self._frame = figures.as_picture(query)
        if memory.ndim != 4 or len(memory) == 0:
            raise TutorialError(f"memory must be [M, 3, H, W] or [M, H, W, 3] with M >= 1, got {list(memory.shape)}.")
        self._frames = [figures.as_picture(frame) for frame in memory]
        count = len(self._frames)
        self._names = [str(name) for name in labels] or [f"memory {m}" for m in range(count)]
        if len(self._names) != count:
            raise TutorialError(f"there are {len(self._names)} labels for {count} memory frames; give one for each.")
        self._ids = self._checked_masks(masks)
        self._decode, self._lock = decode, threading.Lock()
        if attention is not None:
            if query_key is not None or memory_key is not None:
                raise TutorialError("give either attention, or query_key and memory_key, not both.")
            self._affinity, (self._grid, q, k) = "given", _scores_of(attention, grid, count)
        else:
            self._affinity = affinity
            self._grid, q, k = _checked_keys(query_key, memory_key, affinity, grid, count)

        height, width = self._frame.shape[:2]
        size = display_size(height, width, max_side)
        small = display_size(self._frames[0].shape[0], self._frames[0].shape[1], max_side)
        jpegs, offsets = pack_frames(self._frames, small)
        dtype = "float32" if q.nbytes + k.nbytes <= EXACT_BYTES else "float16"
        self._q, self._k = q.astype(dtype), k.astype(dtype)
        if self._q.nbytes + self._k.nbytes > MOST_BYTES:
            megabytes = (self._q.nbytes + self._k.nbytes) / 1e6
            raise TutorialError(
                f"{megabytes:.0f} MB are too much for a page ({MOST_BYTES // 10**6} MB); "
                "pass keys instead of attention, fewer memory frames or a smaller grid."
            )
        super().__init__(
            alt=alt,
            pixel=list(pixel) if pixel is not None else [height // 2, width // 2],
            _query=pack_frames([self._frame], size)[0],
            _memory=jpegs,
            _offsets=offsets,
            _sizes={"picture": [height, width], "query": list(size), "memory": list(small)},
            _labels=self._names,
            _masks=b"" if self._ids is None else pack_ids([self._ids], small),
            _keys={
                "affinity": self._affinity, "dtype": dtype, "C": len(self._k), "M": count,
                "h": self._grid[0], "w": self._grid[1],
            },
            _query_key=self._q.tobytes(),
            _memory_key=self._k.tobytes(),
            _colours=figures.object_colours().tobytes(),
        )  # fmt: skip
        self._whole: np.ndarray | None = None  # the mask decoded from the whole memory
        if decode is not None:
            self._whole = self.decode_again()

    # --- what is given ---

    def _checked_masks(self, masks: figures.Pixels | None) -> np.ndarray | None:
        if masks is None:
            return None
        ids = figures.as_ids(masks)
        expected = (len(self._frames), *self._frames[0].shape[:2])
        if ids.shape != expected:
            raise TutorialError(f"masks are {list(ids.shape)} but the memory asks for {list(expected)} ([M, H, W]).")
        return ids

    # --- the chosen cell ---

    @property
    def cell(self) -> tuple[int, int]:
        """``(row, column)`` of the chosen cell; set it, and :attr:`pixel` becomes its middle."""
        (y, x), (height, width), (h, w) = self.pixel, self._frame.shape[:2], self._grid
        return y * h // height, x * w // width

    @cell.setter
    def cell(self, cell: tuple[int, int]) -> None:
        (row, column), (height, width), (h, w) = cell, self._frame.shape[:2], self._grid
        if not (0 <= row < h and 0 <= column < w):
            raise TutorialError(f"cell {tuple(cell)} is not in the grid; choose rows 0..{h - 1}, columns 0..{w - 1}.")
        self.pixel = [(2 * row + 1) * height // (2 * h), (2 * column + 1) * width // (2 * w)]

    @property
    def query_index(self) -> int:
        """``row * w + column`` of the chosen cell: its column in an attention ``[M*h*w, h*w]``."""
        row, column = self.cell
        return row * self._grid[1] + column

    @property
    def kept(self) -> list[int]:
        """The memory frames that are not removed."""
        return [m for m in range(len(self._frames)) if m not in self.removed]

    def attention(self) -> np.ndarray:
        """What the page shows for the chosen cell: ``float32 [M, h, w]``, zero in removed frames, of sum 1."""
        return self._weights()[0]

    def _weights(self) -> tuple[np.ndarray, float]:
        """The attention, and the mass that top-k kept before it was divided by it."""
        q = self._q.astype(np.float64)
        if self._affinity == "given":
            scores = q[self.query_index]
        else:
            k, one = self._k.astype(np.float64), q[:, self.query_index, None]
            # Summed over C one after the other, as the page does it: equal cells get equal scores, to the last bit.
            terms = one * k if self._affinity == "dot" else -((one - k) ** 2)
            scores = terms.sum(axis=0) / np.sqrt(len(k))
        h, w = self._grid
        scores = np.where(np.isin(np.arange(len(self._frames)), self.kept).repeat(h * w), scores, -np.inf)
        weights = np.exp((scores - scores.max()) / self.temperature)
        weights /= weights.sum()
        mass = 1.0
        if self.topk is not None and self.topk < len(self.kept) * h * w:
            weights[np.argsort(-scores, kind="stable")[self.topk :]] = 0
            mass = float(weights.sum())
            weights /= mass
        return weights.reshape(-1, h, w).astype(np.float32), mass

    # --- the mask ---

    def decode_again(self) -> np.ndarray:
        """Decode the mask with the present settings and show it on the page: ids ``uint8 [H, W]``.

        Raises:
            TutorialError: if there is no ``decode``, or it does not return ids of the query frame's size.
        """
        if self._decode is None:
            raise TutorialError("this inspector was made without decode=, so it has no mask to decode.")
        keep, temperature, topk = self.kept, self.temperature, self.topk
        with self._lock, torch.inference_mode():  # grad mode belongs to a thread; pages may ask from another
            ids = figures.as_ids(self._decode(keep, temperature, topk))
        if ids.shape != self._frame.shape[:2]:
            raise TutorialError(
                f"decode returned {list(ids.shape)}; the query frame asks for {list(self._frame.shape[:2])} ([H, W])."
            )
        with self.hold_sync():  # one message: the page never sees a new answer with an old mask
            self._mask = ids
            self._decoded = pack_ids([ids[None]], tuple(self._sizes["query"]))
            self._answer = {
                "number": self._request.get("number", 0), "state": "done",
                "keep": keep, "temperature": temperature, "topk": topk, "agreement": self._agreement(ids),
            }  # fmt: skip
        return ids

    def _agreement(self, ids: np.ndarray) -> float | None:
        """J with the mask from the whole memory, the mean over its objects; None where there is none."""
        if self._whole is None:
            return None
        objects = [int(i) for i in np.unique(self._whole) if int(i) not in (0, VOID)]
        return float(np.mean([region_similarity(self._whole == i, ids == i) for i in objects])) if objects else None

    @traitlets.observe("_request")
    def _asked(self, change: Any) -> None:
        if not change["new"]:
            return
        number = change["new"]["number"]
        self._answer = {"number": number, "state": "working"}
        try:
            self.decode_again()
        except Exception as error:  # whatever the caller's function raises is told on the page; nobody sees it here
            first = (str(error).strip() or "no message").splitlines()[0]
            text = first if isinstance(error, TutorialError) else f"{type(error).__name__}: {first}"
            self._answer = {"number": number, "state": "failed", "text": text}

    # --- what is refused ---

    @traitlets.validate("pixel")
    def _known_pixel(self, proposal: Any) -> list[int]:
        height, width = self._frame.shape[:2]
        pixel = [int(v) for v in proposal["value"]]
        if len(pixel) != 2 or not (0 <= pixel[0] < height and 0 <= pixel[1] < width):
            raise TutorialError(
                f"pixel {pixel} is not in the query frame; choose [y, x] in 0..{height - 1}, 0..{width - 1}."
            )
        return pixel

    @traitlets.validate("removed")
    def _known_removed(self, proposal: Any) -> list[int]:
        removed, count = sorted(set(proposal["value"])), len(self._frames)
        if any(not 0 <= m < count for m in removed) or len(removed) == count:
            raise TutorialError(f"removed {removed} must be some of 0..{count - 1}, and leave at least one of them.")
        return removed

    # --- without a page ---

    def __repr__(self) -> str:
        (height, width), (h, w) = self._frame.shape[:2], self._grid
        return f"AttentionInspector(memory={len(self._frames)}, {height}x{width}, grid={h}x{w}, {self._affinity})"

    def poster(self) -> bytes:
        """The query frame with the chosen cell, and the memory with its heat and mass, as a PNG of about 40 kB."""
        weights, _ = self._weights()
        top = max(float(weights.max()), 1e-12)
        columns = 1 if len(self._frames) == 1 else 2 if len(self._frames) <= 4 else 3
        rows = -(-len(self._frames) // columns)
        width = min(240, 480 // columns)
        first = self._query_tile(240)
        tiles = [self._memory_tile(m, weights[m], top, width - 6) for m in range(len(self._frames))]
        height = tiles[0].height + 6
        strip = Image.new("RGB", (240 + columns * width, max(first.height, rows * height - 6)), "white")
        strip.paste(first, (0, 0))
        for m, tile in enumerate(tiles):
            strip.paste(tile, (246 + m % columns * width, m // columns * height))
        return figures.small_png(strip, POSTER_BYTES)

    def _query_tile(self, width: int) -> Image.Image:
        picture = self._tile(self._frame, width)
        _mark(picture, self.cell, self._grid)
        tile = Image.new("RGB", (width, picture.height + 18), "white")
        tile.paste(picture, (0, 0))
        row, column = self.cell
        text = f"query frame: row {row}, column {column}"
        ImageDraw.Draw(tile).text((0, picture.height + 3), text, figures.INK, ImageFont.load_default(11))
        return tile

    @staticmethod
    def _tile(picture: np.ndarray, width: int) -> Image.Image:
        height = max(1, round(width * picture.shape[0] / picture.shape[1]))
        return Image.fromarray(picture).resize((width, height), Image.Resampling.LANCZOS)

    def _memory_tile(self, m: int, weights: np.ndarray, top: float, width: int) -> Image.Image:
        ground = self._tile(self._frames[m], width)
        picture = figures.heated(np.asarray(ground), np.sqrt(weights / top))
        if self._ids is not None:
            ids = Image.fromarray(self._ids[m]).resize(ground.size, Image.Resampling.NEAREST)
            picture = figures.overlay(picture, np.asarray(ids), opacity=0.0)
        tile = Image.new("RGB", (width, ground.height + 22), "white")
        tile.paste(Image.fromarray(picture), (0, 0))
        mass, y = float(weights.sum()), ground.height + 2
        draw = ImageDraw.Draw(tile)
        draw.rectangle((0, y, width - 1, y + 5), fill="#e2e2e2")
        if mass > 0.004:
            draw.rectangle((0, y, max(1, round(mass * (width - 1))), y + 5), fill=figures.BLUE)
        text = "removed" if m in self.removed else f"{100 * mass:.1f} %"
        draw.text((0, y + 7), f"{self._names[m]}: {text}", figures.INK, ImageFont.load_default(11))
        return tile


def _floats(values: figures.Pixels) -> np.ndarray:
    a = values.detach().float().cpu().numpy() if isinstance(values, torch.Tensor) else np.asarray(values)
    if not np.isfinite(a).all():
        raise TutorialError(f"keys or attention {list(a.shape)} hold values that are not finite.")
    return a.astype(np.float32)


def _mark(picture: Image.Image, cell: tuple[int, int], grid: tuple[int, int]) -> None:
    """A white frame with a dark casing around a cell."""
    (row, column), (h, w) = cell, grid
    box = (column * picture.width / w, row * picture.height / h)
    end = ((column + 1) * picture.width / w, (row + 1) * picture.height / h)
    draw = ImageDraw.Draw(picture)
    for grow, colour, thick in ((3, figures.INK, 4), (2, "white", 2)):
        draw.rectangle((box[0] - grow, box[1] - grow, end[0] + grow, end[1] + grow), outline=colour, width=thick)


def _checked_keys(
    query_key: figures.Pixels | None,
    memory_key: figures.Pixels | None,
    affinity: str,
    grid: tuple[int, int] | None,
    count: int,
) -> tuple[tuple[int, int], np.ndarray, np.ndarray]:
    """The grid, the query's keys ``[C, h*w]`` and the memory's ``[C, M*h*w]``."""
    if affinity not in AFFINITIES:
        raise TutorialError(f"affinity {affinity!r} does not exist; choose one of {', '.join(AFFINITIES)}.")
    if query_key is None or memory_key is None:
        raise TutorialError("give query_key and memory_key, or a finished attention.")
    q, k = _floats(query_key), _floats(memory_key)
    if q.ndim != 3 or k.shape != (q.shape[0], count, *q.shape[1:]):
        raise TutorialError(
            f"query_key {list(q.shape)} must be [C, h, w] and memory_key {list(k.shape)} "
            f"[C, M, h, w] with the same C, h, w and M = {count} memory frames."
        )
    if grid is not None and tuple(grid) != q.shape[1:]:
        raise TutorialError(f"grid is {tuple(grid)} but the keys have {q.shape[1:]}; leave grid out.")
    return (q.shape[1], q.shape[2]), q.reshape(len(q), -1), k.reshape(len(k), -1)


def _scores_of(
    attention: figures.Pixels, grid: tuple[int, int] | None, count: int
) -> tuple[tuple[int, int], np.ndarray, np.ndarray]:
    """The grid, scores ``[h*w, M*h*w]`` whose softmax is the attention again, and keys of no channel."""
    if grid is None:
        raise TutorialError("attention needs grid=(h, w), the cells of a frame.")
    a = _floats(attention)
    cells = grid[0] * grid[1]
    if a.shape != (count * cells, cells):
        raise TutorialError(
            f"attention is {list(a.shape)}; {count} frames of {tuple(grid)} cells ask for "
            f"[{count * cells}, {cells}] ([M*h*w, h*w])."
        )
    if np.abs(a.sum(axis=0) - 1).max() > 1e-2:
        raise TutorialError("the columns of attention do not sum to 1; take the softmax over the memory (axis 0).")
    scores = np.ascontiguousarray(np.log(a.clip(LEAST_WEIGHT)).T)
    return (int(grid[0]), int(grid[1])), scores, np.zeros((0, count * cells), np.float32)
