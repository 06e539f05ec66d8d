"""Yardsticks without training: what is given for free, what knowing the last frame would give, what features can do.

A method that does not beat :class:`CopyFirst` has not learned to follow anything. :func:`copy_previous_truth` looks
at the truth of every frame, so it is an oracle and no method; it says how much of the problem is motion.
:class:`ColourMemory` is STM's memory with keys that are not learned: where it is enough, colours tell objects apart.
:class:`LabelPropagation` is the same with the features of a network that learned to name pictures, and never saw a
mask: what features alone can do. :func:`by_name` makes one of them, or a trained method, for a command line.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from . import models
from .errors import TutorialError
from .models.backbones import LiteFeatures, shipped_features
from .objects import ObjectSegmenter, cleared, evaluating, replaced, without
from .propagation import Resized, Segmenter


class CopyFirst(ObjectSegmenter):
    """The given masks for every frame: a :class:`~vos_tutorial.propagation.Segmenter` that ignores the frames."""

    def __init__(self) -> None:
        super().__init__()
        self.masks = torch.zeros(0, 1, 1, dtype=torch.bool)  # [K, H, W]

    def _start(self, frame: Tensor) -> None:
        self.masks = torch.zeros(0, *frame.shape[1:], dtype=torch.bool, device=frame.device)

    def _add(self, frame: Tensor, masks: Tensor) -> None:
        self.masks = torch.cat([self.masks & ~masks.any(0), masks])  # [K+n, H, W]

    def _correct(self, frame: Tensor, channels: Sequence[int], masks: Tensor) -> None:
        self.masks = replaced(self.masks, channels, masks)

    def _clear(self, channels: Sequence[int]) -> None:
        self.masks = cleared(self.masks, channels)

    def _remove(self, channel: int) -> None:
        self.masks = without(self.masks, channel)

    def _predict(self, frame: Tensor) -> Tensor:
        return torch.cat([~self.masks.any(0, keepdim=True), self.masks]).float()  # [K+1, H, W]


def copy_previous_truth(masks: Tensor) -> Tensor:
    """The truth of the frame before: ``[T, H, W]`` -> the same, frame 0 unchanged."""
    return torch.cat([masks[:1], masks[:-1]])


class ColourMemory(ObjectSegmenter):
    """A key/value memory without learning (a :class:`~vos_tutorial.propagation.Segmenter`): how notebook 05 begins.

    A cell's key is its mean colour and its place, its value the share of each object in it. A cell of the current
    frame takes the mean of all stored values, weighted with the softmax of minus the squared distances of the keys.

    Args:
        cell: side of a cell in pixels.
        colour: factor of the colours, which are in [0, 1]: the larger, the sharper.
        place: factor of the place, whose x and y are in [-1, 1]; 0 looks everywhere.
        memory: read the ``"first"`` frame (all given masks), the ``"previous"`` one, or ``"both"``.

    Raises:
        TutorialError: if the memory is another one, or the cell has no pixel.
    """

    def __init__(
        self,
        cell: int = 4,
        colour: float = 30.0,
        place: float = 0.0,
        memory: Literal["first", "previous", "both"] = "first",
    ) -> None:
        if memory not in ("first", "previous", "both"):
            raise TutorialError(f"there is no memory {memory!r}; choose first, previous or both.")
        if cell < 1:
            raise TutorialError(f"the cell is {cell} pixels wide; use 1 or more.")
        super().__init__()
        self.cell, self.colour, self.place, self.memory = cell, colour, place, memory
        self.given: list[tuple[Tensor, Tensor]] = []  # key [places, 5] and value [places, n] of given frames
        self.last = torch.zeros(0, 5), torch.zeros(0, 0)  # n objects were known then

    def _cells(self, x: Tensor) -> Tensor:
        """Means over cells: ``[C, H, W] -> [C, h, w]``; the last row and column may be narrower."""
        return F.adaptive_avg_pool2d(x, (-(-x.shape[-2] // self.cell), -(-x.shape[-1] // self.cell)))

    def _key(self, frame: Tensor) -> Tensor:
        """``[3, H, W] -> [places, 5]``."""
        colours = self._cells(frame)
        h, w = colours.shape[-2:]
        y, x = ((torch.arange(n, device=frame.device) + 0.5) / n * 2 - 1 for n in (h, w))
        places = torch.stack(torch.meshgrid(y, x, indexing="ij"))
        return torch.cat([self.colour * colours, self.place * places]).flatten(1).T

    def _start(self, frame: Tensor) -> None:
        key = self._key(frame)
        self.given, self.last = [], (key, torch.zeros(len(key), 0, device=frame.device))

    def _shares(self, masks: Tensor) -> Tensor:
        """How much of each cell the masks cover: ``bool [n, H, W] -> float [places, n]``."""
        return self._cells(masks.float()).flatten(1).T

    def _add(self, frame: Tensor, masks: Tensor) -> None:
        shares = self._shares(masks)
        old = self.last[1] * (1 - shares.sum(1, keepdim=True))
        self._store(frame, torch.cat([old, shares], dim=1))  # [places, K+n]

    def _correct(self, frame: Tensor, channels: Sequence[int], masks: Tensor) -> None:
        shares = self._shares(masks)
        value = self.last[1] * (1 - shares.sum(1, keepdim=True))
        value[:, list(channels)] = shares
        if self.given and self.given[-1] is self.last:  # this frame was given already, with other masks
            self.given.pop()
        self._store(frame, value)

    def _clear(self, channels: Sequence[int]) -> None:
        self.last = self.last[0], cleared(self.last[1].T, channels).T

    def _store(self, frame: Tensor, value: Tensor) -> None:
        self.last = self._key(frame), value
        self.given.append(self.last)

    def _remove(self, channel: int) -> None:
        kept = [
            (key, torch.cat([v[:, :channel], v[:, channel + 1 :]], dim=1)) for key, v in [*self.given, self.last]
        ]  # values [places, n-1], or [places, n] where the object was not known yet
        fresh = bool(self.given) and self.given[-1] is self.last
        self.given, self.last = kept[:-1], kept[-2] if fresh else kept[-1]

    def _predict(self, frame: Tensor) -> Tensor:
        stored = [] if self.memory == "previous" else list(self.given)
        if self.memory != "first" and not any(m is self.last for m in stored):
            stored.append(self.last)
        query = self._key(frame)
        # A frame that came before an object would say that it is nowhere, so each object asks those that knew it.
        shares = [_read(query, [(k, v[:, o]) for k, v in stored if v.shape[1] > o]) for o in range(len(self.objects))]
        found = torch.stack(shares, dim=1)
        found = found / found.sum(1, keepdim=True).clamp_min(1)
        self.last = query, found
        maps = torch.cat([1 - found.sum(1, keepdim=True), found], dim=1).T  # [K+1, places]
        h, w = (-(-size // self.cell) for size in frame.shape[-2:])
        return F.interpolate(maps.reshape(1, -1, h, w), frame.shape[-2:], mode="bilinear", align_corners=False)[0]


def _read(query: Tensor, stored: list[tuple[Tensor, Tensor]]) -> Tensor:
    """``[places, 5]`` and keys ``[places, 5]`` with values ``[places]`` -> what is found, ``[places]``."""
    keys, values = (torch.cat(parts) for parts in zip(*stored, strict=True))
    return (-torch.cdist(query, keys).square()).softmax(dim=1) @ values


class LabelPropagation(ObjectSegmenter):
    """Each place takes the labels of those that look most like it; a :class:`~vos_tutorial.propagation.Segmenter`.

    The features are EfficientNet-Lite0's, frozen, from ImageNet: block 4 (outlines) beside block 10 (what a thing
    is), each of length one. A place of the current frame compares itself with those of frame 0 and of a few frames
    before, no further away than ``radius``, and takes the mean label of the best ``top_k``, weighted with the softmax
    of their cosines (Jabri, Owens, Efros: "Space-Time Correspondence as a Contrastive Random Walk", NeurIPS 2020).

    Args:
        features: the network; the shipped one by default.
        top_k: how many places are asked.
        previous: how many frames before the current one are kept, beside those that gave a mask.
        radius: how far away a place may be, as a share of the shorter side.
        temperature: cosines are divided by it.
        everywhere: search the frames that gave a mask without the radius: an object that moved far away, or was
            hidden for a while, is found again by its looks. On twelve real sequences this, with eight previous
            frames, does better (``data/results/15_photos.json``).

    Raises:
        TutorialError: if a number is out of range.
    """

    STRIDE = 8  # of the places

    def __init__(
        self,
        features: LiteFeatures | None = None,
        top_k: int = 8,
        previous: int = 4,
        radius: float = 0.25,
        temperature: float = 0.1,
        everywhere: bool = False,
    ) -> None:
        for name, value, least in (("top_k", top_k, 1), ("previous", previous, 0)):
            if value < least:
                raise TutorialError(f"{name} is {value}; use {least} or more.")
        for name, factor in (("radius", radius), ("temperature", temperature)):
            if not factor > 0:
                raise TutorialError(f"{name} is {factor}; it must be above 0.")
        network = features if features is not None else shipped_features()
        super().__init__(network)
        self.features = evaluating(network)
        self.top_k, self.previous, self.radius, self.temperature = top_k, previous, radius, temperature
        self.everywhere = everywhere
        self.given: list[tuple[Tensor, Tensor]] = []  # key [152, h*w] and labels [n, h*w] of given frames
        self.recent: list[tuple[Tensor, Tensor]] = []  # of the last frames, oldest first
        self.key, self.told = torch.zeros(0, 0), False  # of the last frame; whether its masks were given
        self.masks = torch.zeros(0, 1, 1)  # of the last frame, [K, H, W]

    def _key(self, frame: Tensor) -> Tensor:
        """``[3, H, W] -> [152, h*w]``."""
        *_, eighth, sixteenth = self.features.features(frame[None])
        enlarged = F.interpolate(sixteenth, eighth.shape[-2:], mode="bilinear", align_corners=False)
        return torch.cat([F.normalize(x, dim=1) for x in (eighth, enlarged)], dim=1)[0].flatten(1) / 2**0.5

    def _start(self, frame: Tensor) -> None:
        self.given, self.recent = [], []
        self.key, self.told = self._key(frame), False
        self.masks = frame.new_zeros(0, *frame.shape[1:])

    def _add(self, frame: Tensor, masks: Tensor) -> None:
        self._tell(torch.cat([self.masks * ~masks.any(0), masks.float()]))  # [K+n, H, W]

    def _correct(self, frame: Tensor, channels: Sequence[int], masks: Tensor) -> None:
        self._tell(replaced(self.masks, channels, masks))

    def _clear(self, channels: Sequence[int]) -> None:
        self._tell(cleared(self.masks, channels))

    def _tell(self, masks: Tensor) -> None:
        """The last frame's masks are now ``[K, H, W]``, and the frame counts as given."""
        if self.told:
            self.given.pop()
        elif self.recent:
            self.recent.pop()
        h, w = (-(-size // self.STRIDE) for size in masks.shape[1:])
        self.masks, self.told = masks, True
        self.given.append((self.key, F.adaptive_avg_pool2d(masks, (h, w)).flatten(1)))

    def _remove(self, channel: int) -> None:
        self.given, self.recent = (
            [(key, without(labels, channel)) for key, labels in frames] for frames in (self.given, self.recent)
        )
        self.masks = without(self.masks, channel)

    def _predict(self, frame: Tensor) -> Tensor:
        h, w = (-(-size // self.STRIDE) for size in frame.shape[-2:])
        query, near = self._key(frame), self._near(h, w, frame.device)
        told = torch.ones_like(near) if self.everywhere else near
        stored = [(*frame, told) for frame in self.given] + [(*frame, near) for frame in self.recent]
        # A frame that came before an object would say that it is nowhere, so each object asks those that knew it.
        known = [[(k, v[o], where) for k, v, where in stored if len(v) > o] for o in range(len(self.objects))]
        labels = torch.stack([self._read(query, frames) for frames in known])  # [K, h*w]
        labels = labels / labels.sum(0).clamp_min(1)
        self.recent = [*self.recent, (query, labels)][-self.previous :] if self.previous else []
        self.key, self.told = query, False
        maps = torch.cat([1 - labels.sum(0, keepdim=True), labels]).reshape(1, -1, h, w)  # [1, K+1, h, w]
        answer = F.interpolate(maps, frame.shape[-2:], mode="bilinear", align_corners=False)[0]  # [K+1, H, W]
        self.masks = answer[1:].clone()
        return answer

    def _near(self, h: int, w: int, device: torch.device) -> Tensor:
        """Which places lie within the radius of which: ``bool [h*w, h*w]``."""
        y, x = torch.meshgrid(torch.arange(h, device=device), torch.arange(w, device=device), indexing="ij")
        place = torch.stack([y, x], -1).flatten(0, 1).float() / min(h, w)  # [h*w, 2]
        return torch.cdist(place, place) <= self.radius

    def _read(self, query: Tensor, stored: list[tuple[Tensor, Tensor, Tensor]]) -> Tensor:
        """Keys ``[C, h*w]``, labels ``[h*w]``, where to look ``bool [h*w, h*w]`` -> labels of the query ``[h*w]``."""
        near = [(query.T @ key).masked_fill(~where, -1.0) for key, _, where in stored]
        cosines = torch.cat(near, dim=1)  # [h*w, T*h*w]
        best, places = cosines.topk(min(self.top_k, cosines.shape[1]), dim=1)  # [h*w, top_k]
        return ((best / self.temperature).softmax(1) * torch.cat([v for _, v, _ in stored])[places]).sum(1)


BASELINES: dict[str, Callable[..., Segmenter]] = {
    "copy-first": CopyFirst,
    "colour-memory": ColourMemory,
    "label-propagation": LabelPropagation,
}


def by_name(
    method: str,
    weights: str | Path | None = None,
    variant: str | None = None,
    device: str | torch.device | None = None,
    **settings: Any,
) -> Segmenter:
    """A trained method or a baseline, as a command line names it.

    Args:
        method: from :data:`vos_tutorial.models.METHODS` or :data:`BASELINES`.
        weights: the path of a file; None if none was named, for those that ship.
        variant: of those that ship; None if none was named.
        device: where a network works; a baseline works where its frames are.
        settings: of :func:`vos_tutorial.models.segmenter`; of a baseline ``short_side``.

    Raises:
        TutorialError: on an unknown method, on weights or a variant for a baseline, and as in ``models.segmenter``.
    """
    if method in BASELINES:
        if weights is not None or variant is not None:
            raise TutorialError(f"{method} has no weights; leave --weights and --variant out.")
        baseline = BASELINES[method]()
        return Resized(baseline, settings["short_side"]) if "short_side" in settings else baseline
    if method not in models.METHODS:
        known = ", ".join([*models.METHODS, *BASELINES])
        raise TutorialError(f"there is no method {method!r}; choose from {known}.")
    return models.segmenter(
        method, "shipped" if weights is None else weights, variant or "", device=device, **settings
    )
