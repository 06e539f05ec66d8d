"""Watching a real pass through a network, and collecting what a diagram of it is made of."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from types import TracebackType
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from ...clip import VOID
from ...errors import TutorialError
from .diagrams import Arrow, Diagram, FeatureMap, Frame, Part
from .masks import Pixels, as_ids, as_picture, overlay
from .palette import Role


class Trace:
    """What went through a network's modules while the ``with`` block ran, in eval mode and without gradients.

    Args:
        network: any network; after the block its hooks are gone, and each module's mode is what it was.
    """

    def __init__(self, network: nn.Module) -> None:
        self._network = network
        self._handles: list[Any] = []
        self._calls: dict[str, list[tuple[Any, Any]]] = {}
        self._no_grad = torch.no_grad()

    def __enter__(self) -> Trace:
        self._modes = {module: module.training for module in self._network.modules()}
        self._network.eval()
        self._no_grad.__enter__()
        for name, module in self._network.named_modules():
            self._handles.append(module.register_forward_hook(self._remember(name)))
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        for handle in self._handles:
            handle.remove()
        self._no_grad.__exit__(kind, error, traceback)
        for module, training in self._modes.items():
            module.training = training

    def _remember(self, name: str) -> Any:
        def hook(_: nn.Module, inputs: Any, output: Any) -> None:
            self._calls.setdefault(name, []).append((_kept(inputs), _kept(output)))

        return hook

    def out(self, name: str, part: int | None = None, call: int = -1) -> Tensor:
        """What a module gave: of its last call, the ``part``-th of several tensors.

        Raises:
            TutorialError: if the module was not called, or gave no such tensor.
        """
        return self._tensor(name, self._call(name, call)[1], part)

    def outs(self, name: str, call: int = -1) -> list[Tensor]:
        """All the tensors that a module gave, in its last call; see :meth:`out`."""
        return [self._tensor(name, part, None) for part in self._call(name, call)[1]]

    def into(self, name: str, part: int = 0, call: int = -1) -> Tensor:
        """What a module was given; see :meth:`out`."""
        return self._tensor(name, self._call(name, call)[0], part)

    def _call(self, name: str, call: int) -> tuple[Any, Any]:
        if name not in self._calls:
            called = ", ".join(sorted(filter(None, self._calls))) or "none"
            raise TutorialError(f"{name!r} was not called in this pass; called were: {called}.")
        return self._calls[name][call]

    @staticmethod
    def _tensor(name: str, value: Any, part: int | None) -> Tensor:
        found = value if part is None else value[part]
        if not isinstance(found, Tensor):
            raise TutorialError(f"{name!r} gave {type(found).__name__}, no tensor; say which part of it.")
        return found


def _kept(value: Any) -> Any:
    """Detached tensors; tuples and lists become lists of such."""
    if isinstance(value, Tensor):
        return value.detach()
    return [_kept(v) for v in value] if isinstance(value, tuple | list) else value


class Code(NamedTuple):
    """The function that makes a part, and a piece of text that stands in the lines of it that do."""

    function: Callable[..., Any]
    lines: str


@dataclass(frozen=True)
class NetworkDiagram(Diagram):
    """A diagram whose parts know the tensors that they were drawn from, and the code that made them.

    Args:
        tensors: by part, ``float [C, h, w]``.
        code: by part, what makes it.
        answer: the mask that came out, ids ``uint8 [H, W]``.
    """

    tensors: dict[str, Tensor] = field(default_factory=dict, repr=False)
    code: dict[str, Code] = field(default_factory=dict, repr=False)
    answer: np.ndarray = field(default_factory=lambda: np.zeros((0, 0), np.uint8), repr=False, compare=False)


def surface(maps: Tensor) -> np.ndarray:
    """What a feature map ``[C, h, w]`` looks like: the size of its vectors, ``float [h, w]`` over its whole range."""
    size = maps.float().pow(2).mean(0).sqrt().cpu()
    low, high = torch.quantile(size, 0.02), torch.quantile(size, 0.98)
    return ((size - low) / (high - low).clamp_min(1e-9)).clamp(0, 1).numpy()


class Parts:
    """Collects a network's parts, with their tensors and code."""

    def __init__(self) -> None:
        self.parts: dict[str, Part] = {}
        self.tensors: dict[str, Tensor] = {}
        self.code: dict[str, Code] = {}

    def map(self, key: str, label: str, tensor: Tensor, role: Role, code: Code, stack: int = 1) -> None:
        """A feature map, from ``[1, C, h, w]``."""
        maps = tensor[0]
        shape = (maps.shape[0], maps.shape[1], maps.shape[2])
        self.parts[key] = FeatureMap(label, role, shape=shape, stack=stack, surface=surface(maps))
        self.tensors[key] = maps
        self.code[key] = code

    def encoder(self, prefix: str, encoder: nn.Module, strides: Sequence[int], maps: Sequence[Tensor]) -> list[str]:
        """The maps of an encoder, finest first, named by their share of the resolution; returns their keys."""
        code = Code(type(encoder).forward, "maps" if len(strides) > 1 else "return")
        for stride, tensor in zip(strides, maps, strict=True):
            self.map(f"{prefix}{stride}", f"1/{stride}", tensor, "input", code)
        return [f"{prefix}{stride}" for stride in strides]

    def picture(
        self, key: str, kind: type[Frame], label: str, picture: np.ndarray, channels: int, role: Role
    ) -> None:
        """A frame or a mask."""
        h, w = picture.shape[:2]
        self.parts[key] = kind(label, role, f"{channels}×{h}×{w}", picture=picture, size=(h, w))

    def operation(self, key: str, part: Part, code: Code) -> None:
        """A part without a tensor of its own."""
        self.parts[key] = part
        self.code[key] = code


def chain(*keys: str) -> list[Arrow]:
    """Arrows from each part to the next."""
    return [Arrow(a, b) for a, b in pairwise(keys)]


def solid(ids: np.ndarray) -> np.ndarray:
    """A mask as a picture, objects in their colours on black."""
    return overlay(np.zeros((*ids.shape, 3), np.uint8), ids, opacity=1.0)


class Seen(NamedTuple):
    """Frames and masks as a network takes them, and as a diagram shows them."""

    pictures: list[np.ndarray]
    """``uint8 [H, W, 3]`` each."""
    ids: np.ndarray
    """``uint8 [T, H, W]``."""
    frames: Tensor
    """``float [F, 3, H, W]`` in [0, 1], on the network's device."""
    masks: Tensor
    """``float [T, H, W]``: the first object of the first mask."""
    others: Tensor
    """``float [T, H, W]``: all the others."""
    first: int
    """The id of the first object."""


def seen(network: nn.Module, frames: Pixels, masks: Pixels) -> Seen:
    """Frames and masks for a pass.

    Args:
        network: for its device.
        frames: ``[F, 3, H, W]`` or ``[F, H, W, 3]``.
        masks: ids ``[T, H, W]``, or ``[H, W]`` for one.

    Raises:
        TutorialError: if the first mask holds no object, or masks and frames differ in size.
    """
    ids = as_ids(masks)
    ids = ids[None] if ids.ndim == 2 else ids
    pictures = [as_picture(frame) for frame in frames]
    for picture in pictures:
        if picture.shape[:2] != ids.shape[1:]:
            raise TutorialError(
                f"the masks are {list(ids.shape[1:])} but a frame is {list(picture.shape[:2])}; resize the masks "
                "(nearest)."
            )
    present = [int(i) for i in np.unique(ids[0]) if int(i) not in (0, VOID)]
    if not present:
        raise TutorialError("the first mask holds no object; pass one in which the object is marked.")
    device = next(network.parameters()).device
    x = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).to(device) / 255.0  # [F, 3, H, W]
    mine = torch.from_numpy(ids == present[0]).float().to(device)
    others = torch.from_numpy(np.isin(ids, present[1:])).float().to(device)
    return Seen(pictures, ids, x, mine, others, present[0])


def mask_of(logits: Tensor, object_id: int) -> np.ndarray:
    """The answer to two logits ``[1, 2, H, W]``, background and object, as ids ``uint8 [H, W]``."""
    return (logits.softmax(1)[0, 1] > 0.5).cpu().numpy().astype(np.uint8) * object_id
