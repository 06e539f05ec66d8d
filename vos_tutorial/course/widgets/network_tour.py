"""A network's diagram, alive: choose a part and see the code that makes it, its shape, and its map of this frame."""

from __future__ import annotations

import inspect
import io
import json
import textwrap
import zlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import traitlets
from PIL import Image, ImageDraw

from ...errors import TutorialError
from .. import figures
from ..figures.diagrams import FeatureMap, Frame, Part
from ..figures.palette import ROLES, THEMES, mix
from ..figures.placement import Placement
from ..figures.routes import Box
from ..figures.tracing import Code, NetworkDiagram
from .widget import POSTER_BYTES, Widget, display_size, module, stylesheet

CHANNELS = 8  # of a map that are sent
LARGEST_MAP, LARGEST_PICTURE = 48, 144  # pixels on the long side as sent
MOST_BYTES = 8_000_000


class NetworkTour(Widget):
    """The diagram of a network, one real pass for each frame, and everything about the part that is chosen.

    Hover over a part to look, click to choose; with the focus on the diagram, the arrow keys go to the nearest part
    in their direction, Home and End to the first and the last. "Follow the data" goes from part to part as the data
    do. The slider steps through the frames: shapes, feature maps and the answer are those of that frame. No kernel
    is needed.

    Args:
        diagrams: one for each frame, for example :func:`~vos_tutorial.course.figures.networks.follow_stm`'s; all of
            the same network, so of the same parts.
        names: of the frames; "frame 1", "frame 2", ... without.
        selected: the part to begin with; the first without.
        alt: what a screen reader says this is.

    Attributes:
        selected (a key of the diagrams' parts) and step (0..): live in both directions.

    Raises:
        TutorialError: if there is no diagram, they have different parts, or the data are too large for a page (8 MB).
    """

    _esm = module("network_tour")
    _css = stylesheet("network_tour")

    selected = traitlets.Unicode().tag(sync=True)
    step = traitlets.Int(0).tag(sync=True)

    _names = traitlets.List(traitlets.Unicode()).tag(sync=True)
    _parts: Any = traitlets.List().tag(sync=True)  # see `_about`
    _order = traitlets.List(traitlets.Unicode()).tag(sync=True)  # the way of the data
    _drawings = traitlets.Bytes().tag(sync=True)  # zlib of JSON {light, dark}: SVGs without pictures
    _looks = traitlets.List(traitlets.Int()).tag(sync=True)  # which of the drawings each step has
    _sizes: Any = traitlets.List().tag(sync=True)  # width and height of each drawing, pixels
    _pictures = traitlets.Bytes().tag(sync=True)  # zlib of uint8: for each step and part its picture, then channels

    def __init__(
        self,
        diagrams: Sequence[NetworkDiagram],
        names: Sequence[str] = (),
        selected: str = "",
        *,
        alt: str = "",
    ) -> None:
        if not diagrams:
            raise TutorialError("NetworkTour() was given no diagram; pass one for each frame.")
        self._diagrams = list(diagrams)
        last = self._diagrams[-1]
        for t, diagram in enumerate(self._diagrams):
            if list(diagram.parts) != list(last.parts):
                raise TutorialError(f"diagram {t} has other parts than the last; draw the same network each time.")
        titles = [str(name) for name in names] or [f"frame {t + 1}" for t in range(len(self._diagrams))]
        if len(titles) != len(self._diagrams):
            raise TutorialError(f"there are {len(titles)} names for {len(self._diagrams)} diagrams; one each.")
        # Frames may differ in what is written (a memory that grows), and then in where things stand.
        written = [tuple(tuple(part.lines) for part in diagram.parts.values()) for diagram in self._diagrams]
        looks = list(dict.fromkeys(written))
        drawn = [self._diagrams[written.index(look)] for look in looks]
        places = [Placement(diagram) for diagram in drawn]
        channels = {key: _liveliest(last.tensors[key]) for key in last.tensors}
        bare = [_without_pictures(diagram) for diagram in drawn]
        drawings = {theme: [figures.to_svg(figures.draw(diagram, theme)) for diagram in bare] for theme in THEMES}
        pixels = b"".join(
            _sent(diagram, key, channels.get(key, [])) for diagram in self._diagrams for key in last.parts
        )
        if len(pixels) > MOST_BYTES:
            raise TutorialError(
                f"{len(pixels) / 1e6:.0f} MB of pictures are too much for a page ({MOST_BYTES // 10**6} MB); pass "
                "fewer diagrams."
            )
        super().__init__(
            alt=alt or last.alt,
            selected=selected or next(iter(last.parts)),
            _names=titles,
            _parts=[self._about(key, places, channels.get(key, [])) for key in last.parts],
            _order=_order(last),
            _drawings=zlib.compress(json.dumps(drawings).encode()),
            _pictures=zlib.compress(pixels),
            _looks=[looks.index(look) for look in written],
            _sizes=[[100 * place.width, 100 * place.height] for place in places],
        )

    def _about(self, key: str, places: Sequence[Placement], channels: list[int]) -> dict[str, Any]:
        """All that the page knows of a part."""
        last = self._diagrams[-1]
        part = last.parts[key]
        leads = [last.parts[a.target].label.replace("\n", " ") for a in last.arrows if a.source == key]
        height, width = _picture_size(part)
        small = _map_size(last.tensors[key]) if key in last.tensors else (0, 0)
        return {
            "key": key,
            "label": part.label.replace("\n", " "),
            "lines": [d.parts[key].lines[1:] for d in self._diagrams],  # shape or note, frame by frame
            "leads": leads,
            "boxes": [_rounded(place.share(place.boxes[key])) for place in places],  # of each drawing
            "faces": [_rounded(place.share(place.front(key))) for place in places] if height else [],
            "kind": "map" if key in last.tensors else "picture" if height else "operation",
            "picture": [height, width],
            "channels": channels,
            "small": list(small),
            "shades": {
                name: [mix(ROLES[part.role].colour(theme), theme.paper, 0.92), ROLES[part.role].colour(theme)]
                for name, theme in THEMES.items()
            },
            "code": _source(last.code[key]) if key in last.code else None,
        }

    # --- what is refused ---

    @traitlets.validate("selected")
    def _known_part(self, proposal: Any) -> str:
        keys = list(self._diagrams[-1].parts)
        if proposal["value"] not in keys:
            raise TutorialError(f"there is no part {proposal['value']!r}; choose from {', '.join(keys)}.")
        return str(proposal["value"])

    @traitlets.validate("step")
    def _known_step(self, proposal: Any) -> int:
        if not 0 <= proposal["value"] < len(self._diagrams):
            raise TutorialError(f"there is no step {proposal['value']}; choose 0..{len(self._diagrams) - 1}.")
        return int(proposal["value"])

    # --- without a page ---

    def __repr__(self) -> str:
        return f"NetworkTour(parts={len(self._parts)}, frames={len(self._diagrams)})"

    def poster(self) -> bytes:
        """The diagram at the present step, the chosen part framed, as a PNG of about 40 kB."""
        diagram = self._diagrams[self.step]
        image = Image.open(io.BytesIO(figures.to_png(figures.draw(diagram)))).convert("RGB")
        box = (place := Placement(diagram)).share(place.boxes[self.selected])
        w, h = image.size
        corners = (box.left * w - 3, box.top * h - 3, box.right * w + 3, box.bottom * h + 3)
        ImageDraw.Draw(image).rounded_rectangle(corners, 5, outline=figures.BLUE, width=2)
        return figures.small_png(image, POSTER_BYTES)


def _without_pictures(diagram: NetworkDiagram) -> NetworkDiagram:
    """The page paints the pictures itself, those of the present frame."""
    parts: dict[str, Part] = {}
    for key, part in diagram.parts.items():
        if isinstance(part, FeatureMap):
            parts[key] = replace(part, surface=None)
        else:
            parts[key] = replace(part, picture=None) if isinstance(part, Frame) else part
    return replace(diagram, parts=parts)


def _rounded(box: Box) -> list[float]:
    """Left, top, right, bottom."""
    return [round(v, 5) for v in (box.left, box.top, box.right, box.bottom)]


def _order(diagram: NetworkDiagram) -> list[str]:
    """Parts in an order in which each comes after all that it is made of."""
    waiting = {key: {a.source for a in diagram.arrows if a.target == key} for key in diagram.parts}
    order: list[str] = []
    while waiting:
        ready = [key for key, sources in waiting.items() if not sources & set(waiting)] or list(waiting)[:1]
        # Go on where the last part leads, if that can be: the way of the data is then a way for the eye, too.
        followers = {a.target for a in diagram.arrows if order and a.source == order[-1]}
        key = next((k for k in ready if k in followers), ready[0])
        order.append(key)
        del waiting[key]
    return order


def _source(code: Code) -> dict[str, Any]:
    """The lines of a function without its docstring, those that matter marked, and where they stand."""
    lines, first = inspect.getsourcelines(code.function)
    text = textwrap.dedent("".join(lines))
    if doc := code.function.__doc__:
        start = text.find('"""')
        end = text.index('"""', start + 3) + 3
        text = text[:start].rstrip() + text[end:] if doc.strip() and start >= 0 else text
    shown = text.rstrip().split("\n")
    file = Path(inspect.getsourcefile(code.function) or "").name
    return {
        "title": f"{code.function.__qualname__} ({file}, line {first})",
        "lines": shown,
        "marked": [i for i, line in enumerate(shown) if code.lines in line],
    }


# --- Pictures as bytes -----------------------------------------------------------------------------------


def _liveliest(tensor: torch.Tensor) -> list[int]:
    """The channels that differ most from place to place, the liveliest first."""
    return tensor.flatten(1).float().var(1).argsort(descending=True)[:CHANNELS].tolist()


def _map_size(tensor: torch.Tensor) -> tuple[int, int]:
    return display_size(tensor.shape[1], tensor.shape[2], LARGEST_MAP)


def _picture_size(part: Part) -> tuple[int, int]:
    """Height and width of a part's picture as sent; zeros if it has none."""
    if isinstance(part, FeatureMap) and part.surface is not None:
        return display_size(part.shape[1], part.shape[2], LARGEST_PICTURE)
    if isinstance(part, Frame) and part.picture is not None:
        return display_size(part.picture.shape[0], part.picture.shape[1], LARGEST_PICTURE)
    return 0, 0


def _sent(diagram: NetworkDiagram, key: str, channels: Sequence[int]) -> bytes:
    """A part's picture (RGB, or shades of its surface), then its channels, each over its own range."""
    part, size = diagram.parts[key], _picture_size(diagram.parts[key])
    data = b""
    if isinstance(part, FeatureMap) and part.surface is not None:
        data += _shades(part.surface, size)
    elif isinstance(part, Frame) and part.picture is not None:
        data += np.asarray(Image.fromarray(part.picture).resize(size[::-1], Image.Resampling.BICUBIC)).tobytes()
    if key in diagram.tensors:
        maps = diagram.tensors[key]
        for values in maps[list(channels)].float().cpu().numpy():
            data += _shades((values - values.min()) / max(float(np.ptp(values)), 1e-9), _map_size(maps))
    return data


def _shades(values: np.ndarray, size: tuple[int, int]) -> bytes:
    """Values in 0..1 as ``uint8 [h, w]`` of another size."""
    image = Image.fromarray((255 * values).round().clip(0, 255).astype(np.uint8))
    return np.asarray(image if values.shape == size else image.resize(size[::-1], Image.Resampling.BOX)).tobytes()
