"""What every widget of the course has in common: its page code, its printed name, its still picture, its own page.

The printed name holds no address and the still picture is a PNG, so strict notebook tests pass, and readers
without a kernel (a repository's web page, an exported notebook) see something.
"""

from __future__ import annotations

import base64
import io
import json
import os
import zlib
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

import anywidget
import numpy as np
import traitlets
from PIL import Image

from ...clip import Clip
from ...errors import TutorialError
from ...files import write_atomically
from .. import figures

_HERE = Path(__file__).parent
POSTER_BYTES = 40_000


def source(name: str) -> str:
    """A file of this folder as text, for example ``"mask_player.js"``."""
    return (_HERE / name).read_text(encoding="utf-8")


def module(name: str) -> str:
    """The page code of a widget: the common part, then its own.

    One text, because anywidget loads it from a blob URL, from where ``import "./common.js"`` finds nothing.
    """
    return source("common.js") + "\n" + source(f"{name}.js")


def stylesheet(*names: str) -> str:
    """The style of a widget: the common part, then what it shares with some, then its own."""
    return "\n".join(source(f"{name}.css") for name in ("common", *names))


class Widget(anywidget.AnyWidget):
    """The base of all widgets. A subclass sets ``_esm`` and ``_css`` and writes ``__repr__`` and ``poster``."""

    alt = traitlets.Unicode("", help="what a screen reader says the picture is").tag(sync=True)
    fallback: bool = True  # put the still picture into the notebook beside the live view

    def poster(self) -> bytes:
        """A PNG that stands in for the widget where no page code runs."""
        raise NotImplementedError

    def _repr_mimebundle_(self, **kwargs: Any) -> Any:
        bundle = super()._repr_mimebundle_(**kwargs)
        if bundle is None or not self.fallback:
            return bundle
        data, metadata = bundle if isinstance(bundle, tuple) else (bundle, {})
        poster = base64.b64encode(self.poster()).decode()
        return {**data, "image/png": poster}, {**metadata, "image/png": {"alt": self.alt}}

    def to_html(self, path: str | os.PathLike[str]) -> Path:
        """Write the widget as one page that works without kernel and network; the file appears whole or not at all.

        Args:
            path: ends in ``.html``; its folder is made if missing.

        Returns:
            The path.

        Raises:
            TutorialError: if the file cannot be written.
        """
        path = Path(path)
        plain, binary = {}, {}
        for name, value in self._page_state().items():
            if isinstance(value, bytes | memoryview):
                binary[name] = base64.b64encode(value).decode()
            elif name in self._own_traits():
                plain[name] = value
        payload = {"esm": str(self._esm), "state": plain, "bytes": binary}
        page = (
            source("host.html")
            .replace("/*CSS*/", str(self._css))
            .replace("<!--TITLE-->", escape(self.alt or repr(self)))
            .replace("/*HOST*/", source("host.js"))
            .replace("/*PAYLOAD*/", json.dumps(payload).replace("</", "<\\/"))  # a script element ends at "</script"
        )
        write_atomically(path, page.encode())
        return path

    def _page_state(self) -> dict[str, Any]:
        """What the page of :meth:`to_html` begins with; a widget that asks its kernel for more puts it in here."""
        return dict(self.get_state())

    def _own_traits(self) -> set[str]:
        return {name for cls in type(self).__mro__ if issubclass(cls, Widget) for name in cls.class_own_traits()}


# --- From arrays to bytes --------------------------------------------------------------------------------


def frame_list(frames: Clip | figures.Pixels) -> list[np.ndarray]:
    """A clip, or frames ``[T, 3, H, W]`` or ``[T, H, W, 3]``, as T pictures ``uint8 [H, W, 3]``.

    Raises:
        TutorialError: if there is no frame, or the shape is another one.
    """
    values = frames.frames if isinstance(frames, Clip) else frames
    if values.ndim != 4 or len(values) == 0:
        raise TutorialError(f"frames must be [T, 3, H, W] or [T, H, W, 3] with T >= 1, got {list(values.shape)}.")
    return [figures.as_picture(frame) for frame in values]


def display_size(height: int, width: int, max_side: int) -> tuple[int, int]:
    """``(H, W)`` to send to the page: the long side at most ``max_side`` pixels, never enlarged."""
    scale = min(1.0, max_side / max(height, width))
    return max(1, round(height * scale)), max(1, round(width * scale))


def pack_frames(pictures: Sequence[np.ndarray], size: tuple[int, int]) -> tuple[bytes, list[int]]:
    """JPEGs one after the other, and T+1 offsets: frame t is ``bytes[offsets[t]:offsets[t + 1]]``."""
    parts, offsets = [], [0]
    for picture in pictures:
        image = Image.fromarray(picture)
        if picture.shape[:2] != size:
            image = image.resize((size[1], size[0]), Image.Resampling.LANCZOS)
        buffer = io.BytesIO()
        image.save(buffer, format="JPEG", quality=88, subsampling=0)
        parts.append(buffer.getvalue())
        offsets.append(offsets[-1] + len(parts[-1]))
    return b"".join(parts), offsets


def pack_ids(layers: Sequence[np.ndarray], size: tuple[int, int]) -> bytes:
    """Several ``uint8 [T, H, W]`` of ids as one zlib block ``[L, T, h, w]``, made smaller by nearest neighbour.

    Raw ids, not pictures: no decoder or colour profile can invent a label.
    """
    if not layers:
        return zlib.compress(b"")
    h, w = layers[0].shape[1:]
    rows = ((np.arange(size[0]) + 0.5) * h / size[0]).astype(int)
    columns = ((np.arange(size[1]) + 0.5) * w / size[1]).astype(int)
    return zlib.compress(b"".join(ids[:, rows[:, None], columns].tobytes() for ids in layers), 1)


# --- For posters -----------------------------------------------------------------------------------------


def heat_over(picture: np.ndarray, heat: np.ndarray) -> np.ndarray:
    """Heat ``[h, w]`` in 0..1 in square cells over a picture ``uint8 [H, W, 3]`` that has lost colour and light.

    Stronger is brighter, so that it reads without colour too; ``HEAT`` in common.js is the same scale.
    """
    h, w = picture.shape[:2]
    cells = Image.fromarray((255 * heat).round().clip(0, 255).astype(np.uint8))
    v = np.asarray(cells.resize((w, h), Image.Resampling.NEAREST))[..., None] / 255.0
    ground = 0.35 * picture.mean(axis=2, keepdims=True)
    colour = np.array([240, 110, 0]) + v * np.array([15, 135, 190])
    return (ground + v * (colour - ground)).round().astype(np.uint8)
