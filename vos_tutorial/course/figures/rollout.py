"""A method's loop over time, unrolled over a few frames, and which gradients flow back through it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, get_args

import torch
from torch import Tensor

from ...errors import TutorialError
from .diagrams import Arrow, Diagram, FeatureMap, Frame, Loss, Mask, Operation, Part
from .masks import Pixels, as_ids, as_picture
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
) -> Diagram:
    """What goes from frame to frame: the previous mask, or a memory that grows.

    With ``losses`` and ``carried``, the gradients are drawn as well, and autograd says which: for each ``carried[t]``
    the last loss is asked for its gradient. Where there is none, the way back ends in a cross.

    Args:
        step: the name of what turns a frame and what was carried into a mask, e.g. ``"STM"``.
        frames: T frames, ``[T, 3, H, W]`` or ``[T, H, W, 3]``; three are enough to see it.
        masks: ids ``[T, H, W]``: the given mask, then the answers.
        carry: ``"mask"`` or ``"memory"``.
        reference: whether each step also looks at frame 0 and its mask, as RGMP's does.
        losses: of the frames 1.., scalars with a graph.
        carried: what the frames 1.. hand on, tensors of that graph; one less than losses, since the last hands on
            nothing.

    Raises:
        TutorialError: if there are less than two frames, numbers do not match, or ``carry`` is unknown.
    """
    if carry not in get_args(Carry):
        raise TutorialError(f"a loop cannot carry {carry!r}; choose mask or memory.")
    ids, length = as_ids(masks), len(frames)
    if length < 2 or len(ids) != length:
        raise TutorialError(f"a loop needs two frames or more and a mask for each, got {length} and {len(ids)}.")
    if losses and (len(losses) != length - 1 or len(carried) != length - 2):
        raise TutorialError(
            f"{length} frames have {length - 1} losses and {length - 2} carried tensors between them, got "
            f"{len(losses)} and {len(carried)}."
        )
    parts: dict[str, Part] = {}
    arrows: list[Arrow] = []
    for t in range(length):
        given = t == 0
        parts[f"frame{t}"] = Frame(f"frame {t}", picture=as_picture(frames[t]), size=(1, 1))
        name, role = ("given mask", "guide") if given else (f"mask {t}", "output")
        parts[f"mask{t}"] = Mask(name, role, picture=solid(ids[t]), size=(1, 1))  # type: ignore[arg-type]
        if not given:
            parts[f"step{t}"] = Operation(step)
            arrows += [Arrow(f"frame{t}", f"step{t}"), Arrow(f"step{t}", f"mask{t}")]
        if not given and losses:
            parts[f"loss{t}"] = Loss(f"loss {t}")
            arrows += [Arrow(f"mask{t}", f"loss{t}"), Arrow(f"loss{t}", f"mask{t}", "gradient")]
            arrows.append(Arrow(f"mask{t}", f"step{t}", "gradient"))
    if reference:
        parts["reference"] = FeatureMap("reference", "input", "once a clip", shape=(8, 1, 1))
        arrows += [Arrow("frame0", "reference"), Arrow("mask0", "reference")]
        arrows += [Arrow("reference", f"step{t}") for t in range(1, length)]
    for t in range(1, length):
        arrows += _carried_on(parts, t, carry)
    for t, tensor in enumerate(carried, start=1):
        reached = reaches(losses[-1], tensor)
        first = f"memory{t + 1}" if carry == "memory" else f"mask{t}"
        if carry == "memory":
            arrows.append(Arrow(f"step{t + 1}", first, "gradient"))
            arrows.append(Arrow(first, f"mask{t}", "gradient" if reached else "stopped"))
        else:
            arrows.append(Arrow(f"step{t + 1}", first, "gradient" if reached else "stopped"))
    what = {"mask": "each mask goes into the next step", "memory": "each frame and its mask go into the memory"}
    title = f"{step} over {length} frames; {what[carry]}{', and all look at the reference' * reference}"
    return Diagram(title, parts, _layout(parts, length, carry, bool(losses)), arrows)


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


def _layout(parts: Mapping[str, Part], length: int, carry: Carry, losses: bool) -> str:
    rows: list[list[str]] = [[], [], [], []]
    for t in range(length):
        if t and carry == "memory":
            for row, key in zip(rows, (".", f"memory{t}", ".", "."), strict=True):
                row.append(key)
        middle = f"step{t}" if t else "reference" if "reference" in parts else "."
        column = (f"frame{t}", middle, f"mask{t}", f"loss{t}" if t and losses else ".")
        for row, key in zip(rows, column, strict=True):
            row.append(key)
    return "\n".join(" ".join(row) for row in (rows if losses else rows[:3]))
