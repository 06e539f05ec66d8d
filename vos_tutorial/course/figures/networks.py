"""Diagrams of networks, made from the networks: a real pass is watched, and what flowed is what is drawn.

:class:`Trace` hooks every module and remembers what went in and came out. A declaration (:func:`stm`, ...) says which
of that to show and how it is joined. Numbers of channels and cells are written down nowhere, so the same lines draw
the small network, the paper's, and one that a reader changed.
"""

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
from ...models import stm as stm_model
from .diagrams import Arrow, Concat, Diagram, FeatureMap, Frame, Mask, Operation, Part
from .masks import Pixels, as_ids, as_picture, overlay
from .palette import Role


class Trace:
    """What went through a network's modules while the ``with`` block ran.

    Args:
        network: any network; its hooks are gone after the block.
    """

    def __init__(self, network: nn.Module) -> None:
        self._network = network
        self._handles: list[Any] = []
        self._calls: dict[str, list[tuple[Any, Any]]] = {}

    def __enter__(self) -> Trace:
        for name, module in self._network.named_modules():
            self._handles.append(module.register_forward_hook(self._remember(name)))
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        for handle in self._handles:
            handle.remove()

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


class _Parts:
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

    def encoder(self, prefix: str, encoder: nn.Module, name: str, trace: Trace) -> list[str]:
        """The maps of an encoder, finest first, named by their share of the resolution; returns their keys."""
        strides: Sequence[int] = encoder.strides  # type: ignore[assignment]
        code = Code(type(encoder).forward, "maps" if len(strides) > 1 else "return")
        for i, stride in enumerate(strides):
            self.map(f"{prefix}{stride}", f"1/{stride}", trace.out(name, i), "input", code)
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


# --- STM -------------------------------------------------------------------------------------------------


@torch.no_grad()
def stm(network: stm_model.STM, frames: Pixels, masks: Pixels) -> NetworkDiagram:
    """STM while it answers one frame: two encoders, key and value heads, the read, the decoder with its skips.

    Args:
        network: of any size and form.
        frames: ``[T+1, 3, H, W]`` or ``[T+1, H, W, 3]``: T frames of the memory, and the one that asks.
        masks: ids ``[T, H, W]`` of the memory, or ``[H, W]`` if T is 1; their first object is followed.

    Raises:
        TutorialError: if frames and masks do not go together, or the first mask is empty.
    """
    ids = as_ids(masks)
    ids = ids[None] if ids.ndim == 2 else ids
    if len(frames) != len(ids) + 1:
        raise TutorialError(
            f"stm() got {len(frames)} frames and {len(ids)} masks; pass the memory's frames with a mask each, and "
            "one frame more, which asks."
        )
    pictures = [as_picture(frame) for frame in frames]
    written, read, answer = _stm_pass(network, pictures, ids)
    shared, light, t = network.shared_keys, network.light, len(ids)
    plural = "" if t == 1 else "s"

    p = _Parts()
    p.picture("memory_frame", Frame, f"memory frame{plural}", pictures[-2], 3, "input")
    p.picture("memory_mask", Mask, "object, others", solid(ids[-1]), 2, "guide")
    p.picture("query_frame", Frame, "query frame", pictures[-1], 3, "input")
    p.picture("answer", Mask, "answer", solid(answer), 2, "output")
    p.operation("masked", Concat("cat"), Code(stm_model.STM.memorize, "extra"))
    m = p.encoder("m", network.memory_encoder, "memory_encoder", written)
    q = p.encoder("q", network.query_encoder, "query_encoder", read)
    key = written.out("query_head", 0) if shared else written.out("memory_head", 0)
    value = written.out("memory_head.value")
    p.map("key", "memory key", key, "memory", Code(stm_model.KeyValue.forward, "self.key"), stack=t)
    p.map("value", "memory value", value, "value", Code(stm_model.KeyValue.forward, "self.value"), stack=t)
    p.map("query_key", "query key", read.out("query_head", 0), "memory", Code(stm_model.STM.encode, "query_head"))
    p.map("query_value", "query value", read.out("query_head", 1), "value", Code(stm_model.STM.encode, "query_head"))
    p.operation("read", Operation("read", "memory"), Code(stm_model.read, "scaled_dot_product_attention"))
    p.map("found", "found", read.into("decoder")[:, : value.shape[1]], "value", Code(stm_model.STM.segment, "read("))
    p.operation("joined", Concat("cat"), Code(stm_model.STM.decode, "torch.cat"))
    p.map("first", "first", read.out("decoder.first"), "output", Code(stm_model.Decoder.forward, "self.first"))
    d = ["first", *(f"refine[{i}]" for i in range(len(network.decoder.refine)))]
    for i, name in enumerate(d[1:]):
        p.map(name, name, read.out(f"decoder.refine.{i}"), "output", Code(stm_model.Refine.forward, "enlarged"))

    arrows = [Arrow("memory_frame", "masked"), Arrow("memory_mask", "masked"), *chain("masked", *m)]
    if shared:
        code = Code(stm_model.STM.memorize, "self.encode(frame)")
        p.map("seen", f"1/{network.stride}", written.out("query_encoder", -1), "input", code)
        arrows += chain("memory_frame", "seen", "key")
    else:
        arrows.append(Arrow(m[-1], "key"))
    if light:
        p.operation("beside", Concat("cat"), Code(stm_model.STM.memorize, "torch.cat"))
        arrows += [Arrow("seen", "beside"), *chain(m[-1], "beside", "value")]
    else:
        arrows.append(Arrow(m[-1], "value"))
    arrows += [
        Arrow("key", "read"),
        Arrow("value", "read"),
        Arrow(q[-1], "query_value"),
        Arrow("query_value", "joined"),
    ]
    arrows += chain("query_frame", *q, "query_key", "read", "found", "joined", *d, "answer")
    arrows += [Arrow(fine, coarse, "skip") for fine, coarse in zip(q[-2::-1], d[1:], strict=True)]
    groups = {"memory_encoder": m, "query_encoder": q, "decoder": d} | (
        {"same query_encoder": ["seen"]} if shared else {}
    )
    title = f"STM: the memory holds {t} frame{plural}, the query asks"
    layout = _stm_layout(m, q, d, shared, light)
    return NetworkDiagram(title, p.parts, layout, arrows, groups, p.tensors, p.code, answer)


def follow_stm(network: stm_model.STM, frames: Pixels, mask: Pixels) -> list[NetworkDiagram]:
    """STM on its way through a clip: a diagram for each of the frames 1.., with the first and the previous in memory.

    Args:
        network: see :func:`stm`.
        frames: ``[T, 3, H, W]`` or ``[T, H, W, 3]``.
        mask: ids ``[H, W]`` of frame 0; its first object is followed by the network's own answers.
    """
    pictures = np.stack([as_picture(frame) for frame in frames])  # [T, H, W, 3]
    masks, diagrams = [as_ids(mask)], []
    for t in range(1, len(pictures)):
        kept = [0] if t == 1 else [0, t - 1]
        diagrams.append(stm(network, pictures[[*kept, t]], np.stack([masks[k] for k in kept])))
        masks.append(diagrams[-1].answer)
    return diagrams


def _stm_pass(
    network: stm_model.STM, pictures: Sequence[np.ndarray], ids: np.ndarray
) -> tuple[Trace, Trace, np.ndarray]:
    """What memorising the last memory frame, and asking, sent through the network; and the answer ``[H, W]``."""
    present = [int(i) for i in np.unique(ids[0]) if int(i) not in (0, VOID)]
    if not present:
        raise TutorialError("the first mask holds no object; pass one in which the object is marked.")
    device = next(network.parameters()).device
    x = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).to(device) / 255.0  # [T+1, 3, H, W]
    mine = torch.from_numpy(ids == present[0]).float().to(device)  # [T, H, W]
    others = torch.from_numpy(np.isin(ids, present[1:])).float().to(device)
    owner = torch.zeros(1, dtype=torch.long, device=device)
    was_training = network.training
    network.eval()
    stored = []
    for t in range(len(ids)):
        with Trace(network) as written:
            stored.append(network.memorize(x[t : t + 1], mine[t : t + 1], others[t : t + 1], owner))
    keys, values = (torch.stack(maps, 2) for maps in zip(*stored, strict=True))  # [1, C, T, h, w]
    with Trace(network) as read:
        logits = network.segment(network.encode(x[-1:]), keys, values, owner)
    network.train(was_training)
    answer = (logits.softmax(1)[0, 1] > 0.5).cpu().numpy()
    return written, read, answer.astype(np.uint8) * present[0]


def _stm_layout(m: list[str], q: list[str], d: list[str], shared: bool, light: bool) -> str:
    """Memory above, query below, and the decoder to the right of the read."""
    inner = max(len(m), len(q)) + light
    above = ["."] * (inner - 1 - light) + ["seen"] + ["."] * light if shared else ["."] * inner
    rows = (
        ["memory_frame", ".", *above, "key", *"...", *"." * len(d), "."],
        ["memory_mask", "masked", *"." * (inner - len(m) - light), *m, *["beside"] * light, "value", "read", "found",
         "joined", *d, "answer"],
        [*"..", *"." * inner, "query_key", *"...", *"." * len(d), "."],
        ["query_frame", ".", *"." * (inner - len(q) - light), *q, *"." * light, "query_value", *"...", *"." * len(d),
         "."],
    )  # fmt: skip
    return "\n".join(" ".join(row) for row in rows)
