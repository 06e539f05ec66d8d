"""Damage a guide with three sliders, and see what networks make of it and where that is on the cobweb."""

from __future__ import annotations

import io
import zlib
from collections.abc import Callable, Mapping
from itertools import product
from typing import Any

import torch
import traitlets
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from ...augment import bending_grid
from ...errors import TutorialError
from ...geometry import dilate, extent, identity_grid, iou, warp_mask
from ...rng import Rng
from .. import figures
from .widget import POSTER_BYTES, Widget, display_size, module, pack_frames, stylesheet

LEVELS: dict[str, tuple[int, ...]] = {
    "shift": (-60, -40, -30, -20, -10, 0, 10, 20, 30, 40, 60),
    "bend": (0, 10, 20, 30),
    "hide": (0, 25, 50, 75),
}
BATCH = 20  # guides that a network sees at once
OBJECT = 2  # whose colour guides and answers have; the page code has the same

Refiner = Callable[[Tensor, Tensor], Tensor]
"""From pictures ``[B, 3, H, W]`` in [0, 1] and guides ``bool [B, H, W]`` to logits ``[B, 2, H, W]``."""


def bent(mask: Tensor, bend: int, seed: int) -> Tensor:
    """A mask ``bool [H, W]`` with five points of its contour moved by up to ``bend`` percent of its size."""
    grid = bending_grid(mask[None], [Rng(seed)], points=5, jitter=bend / 100, stiffness=0.1)  # [1, H, W, 2]
    return warp_mask(mask[None], grid)[0]


def good_bend(mask: Tensor) -> int:
    """The first seed whose largest bend keeps an IoU of 0.5: with five points nearly on a line, the mask folds."""
    largest = LEVELS["bend"][-1]
    return next((seed for seed in range(20) if float(iou(bent(mask, largest, seed), mask)) >= 0.5), 0)


def damaged(mask: Tensor, shift: int, bend: int, hide: int, seed: int = 0) -> Tensor:
    """A mask ``bool [H, W]`` bent, cut off on the right, and moved to the right, in that order.

    Args:
        mask: with one object.
        shift: percent of the object's width.
        bend: see :func:`bent`; its points always move in the same directions.
        hide: percent of its width, counted from the right, that is missing.
        seed: of the bend.
    """
    guide = bent(mask, bend, seed) if bend else mask
    centre, size = (v[0, 0] for v in extent(mask[None]))  # x alone, in [-1, 1] coordinates
    grid = identity_grid(*mask.shape)  # [H, W, 2]
    if hide:  # else what a bend pushes past the object's right edge would be cut off
        guide = guide & (grid[..., 0] < centre + size / 2 - size * hide / 100)
    return warp_mask(guide[None], grid[None] - torch.stack([size * shift / 100, torch.tensor(0.0)]))[0]


class GuideBench(Widget):
    """A picture, a guide that three sliders damage, a network's answer, and the point that this is on the cobweb.

    Every combination is computed before, for every network, and no kernel is asked afterwards. Small grey points are
    all combinations: guides of the same IoU may get very different answers.

    Args:
        picture: RGB ``[3, H, W]`` or ``[H, W, 3]``, uint8 or float in [0, 1].
        mask: the truth, ``bool [H, W]``, one object.
        networks: by name, what refines a guide, and by how many pixels the guide grows before it is shown to it.
        shift, bend, hide: what to begin with, in percent; see :func:`damaged`.
        alt: what a screen reader says this is.

    Attributes:
        shift, bend, hide, network: live in both directions.

    Raises:
        TutorialError: if there is no network or no object, sizes differ, or there is no such value or network.
    """

    _esm = module("guide_bench")
    _css = stylesheet("guide_bench")

    shift = traitlets.Int(0).tag(sync=True)
    bend = traitlets.Int(0).tag(sync=True)
    hide = traitlets.Int(0).tag(sync=True)
    network = traitlets.Unicode().tag(sync=True)

    _picture = traitlets.Bytes().tag(sync=True)  # one JPEG
    _shape = traitlets.List(traitlets.Int()).tag(sync=True)  # H, W
    _levels = traitlets.Dict().tag(sync=True)  # by slider, its values
    _names = traitlets.List(traitlets.Unicode()).tag(sync=True)  # of the networks
    _truth = traitlets.Bytes().tag(sync=True)  # zlib of uint8 [H, W]: 0 or 1
    _guides = traitlets.Bytes().tag(sync=True)  # zlib of uint8 [shift * bend * hide, H, W]: 0 or 1
    _answers = traitlets.Bytes().tag(sync=True)  # zlib of uint8 [networks, shift * bend * hide, H, W]: 0 or 1
    _into: Any = traitlets.List().tag(sync=True)  # IoU of each guide with the truth
    _out: Any = traitlets.List().tag(sync=True)  # of each answer, by network
    _colours = traitlets.Bytes().tag(sync=True)  # uint8 [256, 3]

    def __init__(
        self,
        picture: figures.Pixels,
        mask: Tensor,
        networks: Mapping[str, tuple[Refiner, int]],
        *,
        shift: int = 0,
        bend: int = 0,
        hide: int = 0,
        alt: str = "A guide that sliders damage, and a network's answer to it",
    ) -> None:
        self._image = figures.as_picture(picture)
        height, width = self._image.shape[:2]
        if tuple(mask.shape) != (height, width) or mask.dtype != torch.bool or not mask.any():
            raise TutorialError(
                f"mask is {mask.dtype} {list(mask.shape)}; pass torch.bool [{height}, {width}] with an object in it."
            )
        if not networks:
            raise TutorialError("networks is empty; pass {name: (network, pixels by which its guide grows)}.")
        self._mask = mask
        self._settings = list(product(LEVELS["shift"], LEVELS["bend"], LEVELS["hide"]))
        seed = good_bend(mask)
        guides = torch.stack([damaged(mask, *setting, seed) for setting in self._settings])  # [N, H, W]
        frame = torch.from_numpy(self._image).permute(2, 0, 1).float() / 255
        answers = [_refined(refine, frame, dilate(guides, radius)) for refine, radius in networks.values()]
        self._found = dict(zip(networks, answers, strict=True))
        self._made = guides
        jpeg, _ = pack_frames([self._image], display_size(height, width, 480))
        super().__init__(
            alt=alt,
            shift=shift,
            bend=bend,
            hide=hide,
            network=next(iter(networks)),
            _picture=jpeg,
            _shape=[height, width],
            _levels={name: list(values) for name, values in LEVELS.items()},
            _names=list(networks),
            _truth=_packed(mask),
            _guides=_packed(guides),
            _answers=_packed(torch.stack(answers)),
            _into=_rounded(iou(guides, mask)),
            _out=[_rounded(iou(found, mask)) for found in answers],
            _colours=figures.object_colours().tobytes(),
        )

    # --- what is read back ---

    def _index(self) -> int:
        return self._settings.index((self.shift, self.bend, self.hide))

    def guide(self) -> Tensor:
        """The guide that the sliders make, before it grows: ``bool [H, W]``."""
        return self._made[self._index()].clone()

    def answer(self) -> Tensor:
        """The answer of the chosen network: ``bool [H, W]``."""
        return self._found[self.network][self._index()].clone()

    def point(self) -> tuple[float, float]:
        """IoU in and IoU out of the present setting."""
        return float(iou(self.guide(), self._mask)), float(iou(self.answer(), self._mask))

    # --- what is refused ---

    @traitlets.validate("shift", "bend", "hide")
    def _known_level(self, proposal: Any) -> int:
        name, value = proposal["trait"].name, int(proposal["value"])
        if value not in LEVELS[name]:
            raise TutorialError(f"{name} is {value}; choose from {', '.join(map(str, LEVELS[name]))}.")
        return value

    @traitlets.validate("network")
    def _known_network(self, proposal: Any) -> str:
        if proposal["value"] not in self._found:
            raise TutorialError(f"there is no network {proposal['value']!r}; choose from {', '.join(self._found)}.")
        return str(proposal["value"])

    # --- without a page ---

    def __repr__(self) -> str:
        height, width = self._image.shape[:2]
        return f"GuideBench({height}x{width}, networks={list(self._found)}, settings={len(self._settings)})"

    def picture(self) -> Figure:
        """The present setting as a still picture: guide, answer, and the point on the cobweb."""
        return self._draw(figures.WIDTH)

    def _draw(self, width: float) -> Figure:
        into, out = self.point()
        figure, axes = figures.blank(1, 3, width, width / 3 + 0.1)
        panels = {f"guide: IoU {into:.2f}": self.guide(), f"{self.network}: IoU {out:.2f}": self.answer()}
        with figures.style():
            for cell, (title, mask) in zip(axes[0], panels.items(), strict=False):
                cell.imshow(figures.answer(self._image, OBJECT * mask, self._mask, width=240))
                cell.set_title(title, fontsize=9)
                cell.axis("off")
            self._draw_points(axes[0, 2], into, out)
        return figure

    def _draw_points(self, axes: Axes, into: float, out: float) -> None:
        number = list(self._found).index(self.network)
        axes.plot([0, 1], [0, 1], color=figures.FAINT, linewidth=1)
        axes.plot(self._into, self._out[number], "o", color="#b0b0b0", markersize=2.2, linestyle="none")
        axes.plot([into], [out], "o", color=figures.VERMILLION, markersize=8, markeredgecolor="white")
        axes.set(xlim=(0, 1), ylim=(0, 1.02), aspect="equal", xlabel="IoU in", ylabel="IoU out")
        axes.set(xticks=[0, 0.5, 1], yticks=[0, 0.5, 1])

    def poster(self) -> bytes:
        """:meth:`picture` as a PNG of at most 40 kB."""
        buffer = io.BytesIO()
        with figures.style():
            self._draw(7.2).savefig(buffer, format="png", dpi=figures.DPI)
        return figures.small_png(Image.open(buffer).convert("RGB"), POSTER_BYTES)


@torch.no_grad()
def _refined(refine: Refiner, frame: Tensor, guides: Tensor) -> Tensor:
    """The answers to guides ``bool [N, H, W]``: the same shape."""
    parts = [refine(frame.expand(len(some), -1, -1, -1), some) for some in guides.split(BATCH)]
    return torch.cat(parts).argmax(1).bool()


def _packed(masks: Tensor) -> bytes:
    return zlib.compress(masks.to(torch.uint8).numpy().tobytes(), 9)


def _rounded(values: Tensor) -> list[float]:
    return [round(float(v), 4) for v in values]
