"""A method's loop over time, unrolled over a few frames, and which gradients flow back through it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

from ...errors import TutorialError
from .diagrams import Arrow, Diagram, FeatureMap, Flow, Frame, Loss, Mask, Operation, Part
from .masks import Pixels, as_ids, as_picture
from .palette import Role
from .tracing import solid

Carry = Literal["mask", "memory"]


def unrolled(
    step: str,
    frames: Pixels,
    masks: Pixels,
    *,
    carry: Carry = "mask",
    reference: bool = False,
    losses: Sequence[Tensor] = (),
    carried: Sequence[Tensor] = (),
    states: Sequence[Tensor] = (),
    given: Pixels | None = None,
) -> Diagram:
    """What goes from frame to frame: the previous mask, or a memory that grows; and a hidden state, if there is one.

    With ``losses`` and ``carried``, the gradients are drawn as well: from each loss back to what its step reads, and
    from there to what was carried on. About the latter autograd is asked: for each ``carried[t]`` the last loss is
    asked for its gradient. Where there is none, the way back ends in a cross.

    Args:
        step: the name of what turns a frame and what was carried into a mask, e.g. ``"STM"``.
        frames: T frames, ``[T, 3, H, W]`` or ``[T, H, W, 3]``; three are enough to see it.
        masks: ids ``[T, H, W]``: the given mask, then the answers; with ``given`` answers only.
        carry: ``"mask"`` or ``"memory"``.
        reference: whether each step also looks at frame 0 and its mask, as RGMP's does.
        losses: of the frames 1.., scalars with a graph.
        carried: what the frames 1.. hand on, tensors of that graph; one less than losses, since the last hands on
            nothing.
        states: what a recurrent step hands on beside the masks, from each of the frames 0.. to the next, ``[1, C, h,
            w]`` or ``[1, N, C, h, w]``; in frame 0 it runs for the sake of its state.
        given: the given mask, ids ``[H, W]``, of a recurrent step that answers in frame 0 as well: then losses and
            carried begin with frame 0, and the next step is fed the answer of frame 0.

    Raises:
        TutorialError: if there are less than two frames, numbers do not match, or ``carry`` is unknown.
    """
    if carry not in get_args(Carry):
        raise TutorialError(f"a loop cannot carry {carry!r}; choose mask or memory.")
    ids, length = as_ids(masks), len(frames)
    if length < 2 or len(ids) != length:
        raise TutorialError(f"a loop needs two frames or more and a mask for each, got {length} and {len(ids)}.")
    if given is not None and not states:
        raise TutorialError("only a step with hidden states answers in frame 0; give states, or no given mask.")
    first = 0 if given is not None else 1  # frame with an answer
    answers = length - first
    if losses and (len(losses) != answers or len(carried) != answers - 1):
        raise TutorialError(
            f"{length} frames have {answers} losses and {answers - 1} carried tensors between them, got "
            f"{len(losses)} and {len(carried)}."
        )
    if states and (len(states) != length - 1 or carry == "memory"):
        raise TutorialError(
            f"{length} frames that carry masks have {length - 1} hidden states between them, got {len(states)} with "
            f"carry={carry!r}."
        )
    parts: dict[str, Part] = {}
    arrows: list[Arrow] = []
    for t in range(length):
        answered = t >= first
        parts[f"frame{t}"] = Frame(f"frame {t}", picture=as_picture(frames[t]), size=(1, 1))
        parts[f"mask{t}"] = _mask(f"mask {t}", "output", ids[t]) if answered else _mask("given mask", "guide", ids[t])
        if answered:
            parts[f"step{t}"] = Operation(step)
            arrows += [Arrow(f"frame{t}", f"step{t}"), Arrow(f"step{t}", f"mask{t}")]
        if answered and losses:
            parts[f"loss{t}"] = Loss(f"loss {t}")
            arrows += [Arrow(f"mask{t}", f"loss{t}"), Arrow(f"loss{t}", f"mask{t}", "gradient")]
            arrows.append(Arrow(f"mask{t}", f"step{t}", "gradient"))
    if reference:
        parts["reference"] = FeatureMap("reference", "input", "once per clip", shape=(8, 1, 1))
        arrows += [Arrow("frame0", "reference"), Arrow("mask0", "reference")]
        arrows += [Arrow("reference", f"step{t}") for t in range(1, length)]
    for t in range(1, length):
        arrows += _carried_on(parts, t, carry)
        if losses and carry == "memory":
            arrows.append(Arrow(f"step{t}", f"memory{t}", "gradient"))
    if given is not None:
        parts["given"] = _mask("given mask", "guide", as_ids(given))
        arrows.append(Arrow("given", "step0"))
    elif states:
        parts["step0"] = Operation(step)
        arrows += [Arrow("frame0", "step0"), Arrow("mask0", "step0")]
    for t, h in enumerate(states, start=1):
        parts[f"state{t}"] = FeatureMap("h", "memory", shape=(h.shape[-3], h.shape[-2], h.shape[-1]))
        arrows += [Arrow(f"step{t - 1}", f"state{t}", "carried"), Arrow(f"state{t}", f"step{t}", "carried")]
        if losses:
            flow: Flow = "gradient" if reaches(losses[-1], h) else "stopped"
            arrows += [Arrow(f"step{t}", f"state{t}", "gradient"), Arrow(f"state{t}", f"step{t - 1}", flow)]
    for t, tensor in enumerate(carried, start=first):
        reached = reaches(losses[-1], tensor)
        source = f"memory{t + 1}" if carry == "memory" else f"step{t + 1}"
        arrows.append(Arrow(source, f"mask{t}", "gradient" if reached else "stopped"))
    what = {"mask": "each mask goes into the next step", "memory": "each frame and its mask go into the memory"}[
        carry
    ]
    what += ", and so does a hidden state" * bool(states) + ", and all look at the reference" * reference
    layout = _layout(parts, length, carry, bool(losses), bool(states), first)
    words: dict[Role, str] = {"memory": "hidden state"} if states else {}
    return Diagram(f"{step} over {length} frames; {what}", parts, layout, arrows, roles=words)


def _mask(label: str, role: Role, ids: np.ndarray) -> Mask:
    return Mask(label, role, picture=solid(ids), size=(1, 1))


def _carried_on(parts: dict[str, Part], t: int, carry: Carry) -> list[Arrow]:
    """The arrows from frame ``t - 1`` to the step of frame ``t``."""
    if carry == "mask":
        return [Arrow(f"mask{t - 1}", f"step{t}", "carried")]
    plural = "" if t == 1 else "s"
    parts[f"memory{t}"] = FeatureMap("memory", "memory", f"{t} frame{plural}", shape=(8, 1, 1), stack=t)
    arrows = [Arrow(f"{kind}{t - 1}", f"memory{t}", "carried") for kind in ("frame", "mask")]
    return [*arrows, Arrow(f"memory{t}", f"step{t}")]


def reaches(loss: Tensor, tensor: Tensor) -> bool:
    """Whether the gradient of a loss reaches a tensor: asked of autograd, and not zero everywhere."""
    if not tensor.requires_grad:
        return False
    (gradient,) = torch.autograd.grad(loss, tensor, retain_graph=True, allow_unused=True)
    return gradient is not None and bool(gradient.any())


def _layout(parts: Mapping[str, Part], length: int, carry: Carry, losses: bool, states: bool, first: int) -> str:
    rows: list[list[str]] = [[], [], [], []] if first else [["."], ["given"], ["."], ["."]]
    for t in range(length):
        if t and (carry == "memory" or states):
            for row, key in zip(rows, (".", f"{'state' if states else 'memory'}{t}", ".", "."), strict=True):
                row.append(key)
        middle = f"step{t}" if t or states else "reference" if "reference" in parts else "."
        column = (
            f"frame{t}",
            middle,
            f"mask{t}",
            f"loss{t}" if t >= first and losses else ".",
        )
        for row, key in zip(rows, column, strict=True):
            row.append(key)
    return "\n".join(" ".join(row) for row in (rows if losses else rows[:3]))
