"""Diagrams of networks, made from the networks: a real pass is watched, and what flowed is what is drawn.

A declaration (:func:`stm`, ...) says which modules' outputs to show and how they are joined. Numbers of channels and
cells are written down nowhere, so the same lines draw the small network, the paper's, and one that a reader changed.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ...errors import TutorialError
from ...models import dit as dit_model
from ...models import masktrack as masktrack_model
from ...models import rgmp as rgmp_model
from ...models import rvos as rvos_model
from ...models import stcnn as stcnn_model
from ...models import stm as stm_model
from ...models.backbones import SmallEncoder
from ...models.layers import Refine
from .diagrams import Arrow, Concat, Frame, Mask, Operation
from .masks import Pixels, as_ids, as_picture, objects_in
from .palette import Role
from .tracing import Code, NetworkDiagram, Parts, Seen, Trace, chain, mask_of, seen, solid

# --- STM -------------------------------------------------------------------------------------------------


def stm(network: stm_model.STM, frames: Pixels, masks: Pixels) -> NetworkDiagram:
    """STM while it answers one frame: two encoders, key and value heads, the read, the decoder with its skips.

    Args:
        network: of any size and form.
        frames: ``[T+1, 3, H, W]`` or ``[T+1, H, W, 3]``: T frames of the memory, and the one that asks.
        masks: ids ``[T, H, W]`` of the memory, or ``[H, W]`` if T is 1; their first object is followed.

    Raises:
        TutorialError: if frames and masks do not go together, or the first mask is empty.
    """
    given = seen(network, frames, masks)
    if len(given.pictures) != len(given.ids) + 1:
        raise TutorialError(
            f"stm() got {len(given.pictures)} frames and {len(given.ids)} masks; pass the memory's frames with a "
            "mask each, and one frame more, which asks."
        )
    written, read, logits = _stm_pass(network, given)
    answer = mask_of(logits, given.first)
    shared, light, t = network.shared_keys, network.light, len(given.ids)
    plural = "" if t == 1 else "s"

    p = Parts()
    p.picture("memory_frame", Frame, f"memory frame{plural}", given.pictures[-2], 3, "input")
    p.picture("memory_mask", Mask, "object, others", solid(given.ids[-1]), 2, "guide")
    p.picture("query_frame", Frame, "query frame", given.pictures[-1], 3, "input")
    p.picture("answer", Mask, "answer", solid(answer), 2, "output")
    p.operation("masked", Concat("cat"), Code(stm_model.STM.memorize, "extra"))
    m = p.encoder("m", network.memory_encoder, network.memory_encoder.strides, written.outs("memory_encoder"))
    q = p.encoder("q", network.query_encoder, network.query_encoder.strides, read.outs("query_encoder"))
    key = written.out("query_head", 0) if shared else written.out("memory_head", 0)
    value = written.out("memory_head.value")
    p.map("key", "memory key", key, "memory", Code(stm_model.KeyValue.forward, "self.key"), stack=t)
    p.map("value", "memory value", value, "value", Code(stm_model.KeyValue.forward, "self.value"), stack=t)
    p.map("query_key", "query key", read.out("query_head", 0), "memory", Code(stm_model.STM.encode, "query_head"))
    p.map("query_value", "query value", read.out("query_head", 1), "value", Code(stm_model.STM.encode, "query_head"))
    p.operation("read", Operation("read", "memory"), Code(stm_model.read, "softmax_of_best(s"))
    p.map("found", "found", read.into("decoder")[:, : value.shape[1]], "value", Code(stm_model.STM.segment, "read("))
    p.operation("joined", Concat("cat"), Code(stm_model.STM.decode, "torch.cat"))
    p.map("first", "first", read.out("decoder.first"), "output", Code(stm_model.Decoder.forward, "self.first"))
    d = ["first", *(f"refine[{i}]" for i in range(len(network.decoder.refine)))]
    for i, name in enumerate(d[1:]):
        p.map(name, name, read.out(f"decoder.refine.{i}"), "output", Code(Refine.forward, "enlarge"))

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


def _stm_pass(network: stm_model.STM, given: Seen) -> tuple[Trace, Trace, Tensor]:
    """What memorising the last memory frame, and asking, sent through the network; and the logits."""
    owner = torch.zeros(1, dtype=torch.long, device=given.frames.device)
    stored = []
    for frame, mine, others in zip(given.frames[:-1], given.masks, given.others, strict=True):
        with Trace(network) as written:
            stored.append(network.memorize(frame[None], mine[None], others[None], owner))
    keys, values = (torch.stack(maps, 2) for maps in zip(*stored, strict=True))  # [1, C, T, h, w]
    with Trace(network) as read:
        logits = network.segment(network.encode(given.frames[-1:]), keys, values, owner)
    return written, read, logits


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


# --- MaskTrack -------------------------------------------------------------------------------------------


def masktrack(network: masktrack_model.MaskTrack, frame: Pixels, guide: Pixels) -> NetworkDiagram:
    """MaskTrack while it refines one guide: the small U-Net with its skips, or the paper's DeepLabv2.

    Args:
        network: of any size.
        frame: ``[3, H, W]`` or ``[H, W, 3]``.
        guide: ids ``[H, W]``; the first object is refined.

    Raises:
        TutorialError: if the guide holds no object, or the network starts from ImageNet.
    """
    given = seen(network, frame[None], guide)
    with Trace(network) as trace:
        logits = network(given.frames, given.masks)
    p = Parts()
    p.picture("frame", Frame, "frame", given.pictures[0], 3, "input")
    p.picture("guide", Mask, "guide", solid((given.ids[0] == given.first) * np.uint8(given.first)), 1, "guide")
    p.operation("cat", Concat("cat"), Code(masktrack_model.MaskTrack.forward, "torch.cat"))
    p.picture("answer", Mask, "answer", solid(mask_of(logits, given.first)), 2, "output")
    arrows = [Arrow("frame", "cat"), Arrow("guide", "cat")]
    if isinstance(network.body, masktrack_model.SmallUNet):
        layout, more, groups = _u_net(p, network.body, trace)
    elif isinstance(network.body, masktrack_model.LiteUNet):
        raise TutorialError("there is no diagram of MaskTrack's body from ImageNet; draw that of masktrack.build().")
    else:
        layout, more, groups = _deeplab(p, network.body, trace)
    return NetworkDiagram(
        "MaskTrack refines its guide", p.parts, layout, [*arrows, *more], groups, p.tensors, p.code,
        mask_of(logits, given.first),
    )  # fmt: skip


Drawn = tuple[str, list[Arrow], dict[str, list[str]]]


def _u_net(p: Parts, body: masktrack_model.SmallUNet, trace: Trace) -> Drawn:
    """Down on the left, up on the right, skips between them."""
    forward, encode = masktrack_model.SmallUNet.forward, SmallEncoder.maps
    down = ["first", *(f"down[{i}]" for i in range(len(body.encoder.down)))]
    for name in down:
        code = Code(encode, name.split("[")[0] + "(")
        p.map(name, name, trace.out(_module("body.encoder", name)), "input", code)
    p.map("last", "last", trace.out("body.encoder.last"), "input", Code(encode, "self.last"))
    up = [f"up[{i}]" for i in reversed(range(len(body.up)))]
    for name in up:
        p.map(name, name, trace.out(_module("body", name)), "output", Code(forward, "self.up[i]"))
    p.map("logits", "logits", trace.out("body.logits"), "output", Code(forward, "self.logits"))
    arrows = chain("cat", *down, "last", *up, "logits", "answer")
    arrows += [Arrow(a, b, "skip") for a, b in zip(down[-2::-1], up, strict=True)]
    depth, width = len(down), 2 * len(down) + 4
    rows = [["."] * width for _ in range(depth)]
    rows[0][:2], rows[1][0], rows[0][-2:] = ["frame", "cat"], "guide", ["logits", "answer"]
    for i, name in enumerate(down):
        rows[i][2 + i] = name
    rows[-1][2 + depth] = "last"
    for i, name in enumerate(up):
        rows[depth - 2 - i][3 + depth + i] = name
    return "\n".join(" ".join(row) for row in rows), arrows, {}


def _deeplab(p: Parts, body: masktrack_model.DeepLabVGG16, trace: Trace) -> Drawn:
    """VGG-16's five blocks, then the branches of several rates side by side, summed."""
    forward = masktrack_model.DeepLabVGG16.forward
    ends = [i for i, layer in enumerate(body.features) if isinstance(layer, torch.nn.MaxPool2d)]
    blocks = [f"conv{k}" for k in range(1, len(ends) + 1)]
    for name, i in zip(blocks, ends, strict=True):
        p.map(name, name, trace.out(f"body.features.{i}"), "input", Code(forward, "self.features"))
    branches = [f"branches[{k}]" for k in range(len(body.branches))]
    for name in branches:
        p.map(name, name, trace.out(_module("body", name)), "output", Code(forward, "self.branches"))
    p.operation("sum", Concat("+"), Code(forward, ".sum(0)"))
    arrows = [*chain("cat", *blocks), *(Arrow(blocks[-1], b) for b in branches), *(Arrow(b, "sum") for b in branches)]
    arrows.append(Arrow("sum", "answer"))
    empty = ["."] * len(blocks)
    rows = [["." for _ in range(2)] + empty + [b, ".", "."] for b in branches]
    middle = (len(branches) - 1) // 2
    rows[middle] = ["frame", "cat", *blocks, branches[middle], "sum", "answer"]
    if middle + 1 == len(rows):
        rows.append([".", ".", *empty, ".", ".", "."])
    rows[middle + 1][0] = "guide"
    return "\n".join(" ".join(row) for row in rows), arrows, {"features": blocks}


def _module(prefix: str, name: str) -> str:
    """``up[2]`` inside ``body`` as PyTorch names it: ``body.up.2``."""
    return f"{prefix}.{name.replace('[', '.').replace(']', '')}"


# --- RGMP ------------------------------------------------------------------------------------------------


def rgmp(network: rgmp_model.RGMP, frames: Pixels, masks: Pixels) -> NetworkDiagram:
    """RGMP at one frame: reference and target through the same encoder, compared, and refined.

    Args:
        network: of any size.
        frames: ``[2, 3, H, W]`` or ``[2, H, W, 3]``: the reference and the target.
        masks: ids ``[2, H, W]``: the reference's, and the previous frame's, whose first object is followed.

    Raises:
        TutorialError: if there are not two frames and two masks, or the reference's mask is empty.
    """
    given = seen(network, frames, masks)
    if len(given.pictures) != 2 or len(given.ids) != 2:
        raise TutorialError(
            f"rgmp() got {len(given.pictures)} frames and {len(given.ids)} masks; pass reference and target, each "
            "with a mask."
        )
    with Trace(network) as trace:
        guidance = network.prepare(network.encode(given.frames[:1], given.masks[:1])[-1])
        answer = network(given.frames[1:], given.masks[1:], guidance)
    strides = network.encoder.strides
    p = Parts()
    for i, (name, mask) in enumerate((("reference", "its mask"), ("target", "previous mask"))):
        p.picture(name, Frame, name, given.pictures[i], 3, "input")
        own = solid((given.ids[i] == given.first) * np.uint8(given.first))
        role: Role = "guide" if i == 0 else "output"  # the previous mask is an answer
        p.picture(f"{name}_mask", Mask, mask, own, 1, role)
        p.operation(f"{name}_cat", Concat("cat"), Code(rgmp_model.RGMP.encode, "mask[:, None]"))
    t = p.encoder("t", network.encoder, strides, trace.outs("encoder", 1))
    r = p.encoder("r", network.encoder, strides[-1:], trace.outs("encoder", 0)[-1:])
    p.map("compare", "compare", trace.out("decoder.compare"), "output", Code(rgmp_model.Decoder.forward, "compare"))
    code = Code(rgmp_model.Decoder.forward, "residual")
    p.map("residual", "residual", trace.out("decoder.residual"), "output", code)
    d = [f"refine[{i}]" for i in range(len(network.decoder.refine))]
    for name in d:
        p.map(name, name, trace.out(_module("decoder", name)), "output", Code(Refine.forward, "merge"))
    p.picture("answer", Mask, "answer", solid(mask_of(answer.logits, given.first)), 2, "output")
    arrows = [Arrow(f"{n}{m}", f"{n}_cat") for n in ("reference", "target") for m in ("", "_mask")]
    arrows += [*chain("reference_cat", *r, "compare"), *chain("target_cat", *t, "compare", "residual", *d, "answer")]
    arrows += [Arrow(fine, coarse, "skip") for fine, coarse in zip(t[-2::-1], d, strict=True)]
    fine, rest = ["."] * (len(t) - 1), ["."] * (len(d) + 2)
    rows = (
        ["reference", ".", *fine, ".", ".", *rest],
        ["reference_mask", "reference_cat", *fine, *r, ".", *rest],
        ["target", "target_cat", *t, "compare", "residual", *d, "answer"],
        ["target_mask", ".", *fine, ".", ".", *rest],
    )
    return NetworkDiagram(
        "RGMP compares the target with the reference", p.parts, "\n".join(map(" ".join, rows)), arrows,
        {"same encoder": r, "encoder": t, "decoder": ["compare", "residual", *d]}, p.tensors, p.code,
        mask_of(answer.logits, given.first),
    )  # fmt: skip


# --- RVOS ------------------------------------------------------------------------------------------------


def rvos(network: rvos_model.RVOS, frame: Pixels, previous: Pixels) -> NetworkDiagram:
    """RVOS at one frame: one encoder for all objects, and a column of cells for each; two objects are drawn.

    The recurrence over time is left out: each cell also gets its own state of the frame before.

    Args:
        network: one-shot, of any size.
        frame: ``[3, H, W]`` or ``[H, W, 3]``.
        previous: ids ``[H, W]`` of the frame before; its first two objects are followed.

    Raises:
        TutorialError: if the masks hold less than two objects, or the network takes no masks.
    """
    ids = as_ids(previous)
    objects = objects_in(ids)[:2]
    if len(objects) < 2 or not network.one_shot:
        what = "the network is zero-shot" if not network.one_shot else f"the mask holds {len(objects)} objects"
        raise TutorialError(f"rvos() draws two objects of a one-shot network, but {what}.")
    given = seen(network, frame[None], ids)
    masks = [torch.from_numpy(ids == i).float()[None, None].to(given.frames.device) for i in objects]  # [1, 1, H, W]
    states, drawn = None, []
    with Trace(network) as trace:
        skips = network.encode(given.frames)
        for mask in masks:
            logit, states = network.decode(skips, rvos_model.mask_pyramid(mask, network.strides), states, None)
            drawn.append(rvos_model.enlarge(logit, given.frames.shape[-2:])[0, 0] > 0)
    p = Parts()
    p.picture("frame", Frame, "frame", given.pictures[0], 3, "input")
    e = p.encoder("e", network.encoder, network.encoder.strides, trace.outs("encoder"))
    levels = range(len(network.cells))
    for k in levels:
        code = Code(rvos_model.RVOS.encode, "self.heads")
        p.map(f"head{k}", f"heads[{k}]", trace.out(f"heads.{k}"), "input", code)
    arrows = chain("frame", *e)
    arrows += [Arrow(encoded, f"head{k}", "skip" if k else "data") for k, encoded in enumerate(reversed(e))]
    rows = [["."] * (2 + len(e)), ["frame", ".", *e], ["."] * (2 + len(e))]
    for n, (row, object_id) in enumerate(zip((0, 2), objects, strict=True)):
        own = solid((ids == object_id) * np.uint8(object_id))
        p.picture(f"mask{n}", Mask, f"previous mask {object_id}\n(max pool)", own, 1, "guide")
        p.operation(f"predict{n}", Operation("predict"), Code(rvos_model.RVOS._draw, "self.predict"))
        answer = drawn[n].cpu().numpy().astype(np.uint8) * np.uint8(object_id)
        p.picture(f"answer{n}", Mask, f"answer {object_id}", solid(answer), 1, "output")
        cells = [f"cell{k}_{n}" for k in levels]
        for k, cell in zip(levels, cells, strict=True):
            tensor = trace.out(f"cells.{k}", 0, call=n)
            p.map(cell, f"cells[{k}]", tensor, "memory", Code(rvos_model.ConvLSTMCell.forward, "self.gates"))
        arrows += chain(*cells, f"predict{n}", f"answer{n}")
        arrows += [Arrow(f"head{k}", cell) for k, cell in zip(levels, cells, strict=True)]
        arrows += [Arrow(f"mask{n}", cell) for cell in cells]
        rows[row][1 + len(e)] = f"mask{n}"
        rows[row] += [*cells, f"predict{n}", f"answer{n}"]
    rows[1] += [*(f"head{k}" for k in levels), ".", "."]
    arrows += [Arrow(f"cell{k}_0", f"cell{k}_1", "carried") for k in levels]
    return NetworkDiagram(
        "RVOS: one object after the other, coarse to fine", p.parts, "\n".join(map(" ".join, rows)), arrows,
        {"encoder": e}, p.tensors, p.code, answer, roles={"memory": "hidden state"},
    )  # fmt: skip


def conv_lstm(
    cell: rvos_model.ConvLSTMCell,
    x: Tensor,
    mask: Tensor | None,
    spatial: rvos_model.State,
    temporal: Tensor,
) -> NetworkDiagram:
    """One cell of RVOS: what is concatenated, the four gates, and which of the states passes the forget gate.

    Args:
        cell: any; its inputs have one sample, as its ``forward`` takes them.
        x, mask, spatial, temporal: see :meth:`~vos_tutorial.models.rvos.ConvLSTMCell.forward`.
    """
    with Trace(cell) as trace:
        h, c = cell(x, mask, spatial, temporal)
    forward, gated = rvos_model.ConvLSTMCell.forward, rvos_model.lstm
    p = Parts()
    p.map("x", "x", x, "input", Code(forward, "torch.cat"))
    if mask is not None:
        p.map("mask", "mask", mask, "guide", Code(forward, "torch.cat"))
    p.map("space", "h, space", spatial[0], "memory", Code(forward, "spatial[0]"))
    p.map("time", "h, time", temporal, "memory", Code(forward, "temporal"))
    p.map("c_before", "c, space", spatial[1], "value", Code(forward, "spatial[1]"))
    p.operation("cat", Concat("cat"), Code(forward, "torch.cat"))
    p.operation("gates", Operation("gates"), Code(forward, "self.gates"))
    names = ("i", "f", "o", "g")
    for name, part in zip(names, trace.out("gates").chunk(4, dim=1), strict=True):
        squashed, label = (part.tanh(), "tanh(g)") if name == "g" else (part.sigmoid(), f"σ({name})")
        p.map(name, label, squashed, "input", Code(gated, "tanh" if name == "g" else "chunk"))
    p.operation("keep", Operation("σ(f) c + σ(i) tanh(g)"), Code(gated, "f * c"))
    p.operation("show", Operation("σ(o) tanh(new c)"), Code(gated, "return"))
    p.map("c", "new c", c, "value", Code(gated, "new ="))
    p.map("h", "new h", h, "memory", Code(gated, "return"))
    inputs = [key for key in ("x", "mask", "space", "time") if key in p.parts]
    arrows = [*(Arrow(key, "cat") for key in inputs), *chain("cat", "gates"), *(Arrow("gates", n) for n in names)]
    arrows += [*(Arrow(key, "keep") for key in ("c_before", "f", "i", "g")), *chain("keep", "c", "show", "h")]
    arrows.append(Arrow("o", "show"))
    left = [*inputs, "."]
    rows = (
        [left[0], ".", ".", "f", "c_before", "."],
        [left[1], "cat", "gates", "i", "keep", "c"],
        [left[2], ".", ".", "g", ".", "."],
        [left[3], ".", ".", "o", "show", "h"],
    )
    return NetworkDiagram(
        "A convolutional LSTM cell of RVOS", p.parts, "\n".join(map(" ".join, rows)), arrows, {}, p.tensors, p.code,
        np.zeros((0, 0), np.uint8), roles={"memory": "hidden state", "value": "cell state"},
    )  # fmt: skip


# --- STCNN -----------------------------------------------------------------------------------------------


def stcnn(network: stcnn_model.STCNN, frames: Pixels) -> NetworkDiagram:
    """STCNN at one frame: the generator that paints it from its past, and the segmenter that is told what it knew.

    Args:
        network: with a temporal branch.
        frames: ``[delta + 1, 3, H, W]`` or ``[delta + 1, H, W, 3]``; the last one is segmented.

    Raises:
        TutorialError: if the network has no temporal branch, or the number of frames is another.
    """
    if network.generator is None:
        raise TutorialError("this STCNN has no temporal branch; build it with temporal=True to draw both.")
    if len(frames) != network.delta + 1:
        raise TutorialError(
            f"this STCNN sees {network.delta} frames before the one it segments, but got {len(frames)} in all."
        )
    device = next(network.parameters()).device
    pictures = [as_picture(frame) for frame in frames]
    x = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).to(device) / 255.0  # [delta + 1, 3, H, W]
    with Trace(network) as trace:
        told = network(x[-1:], x[None, :-1])
    assert told.prediction is not None
    forward = stcnn_model.SegmentationDecoder.forward
    p = Parts()
    p.picture("past", Frame, f"{network.delta} frames before", pictures[-2], 3 * network.delta, "input")
    p.picture("frame", Frame, "frame", pictures[-1], 3, "input")
    code = Code(type(network.generator.encoder).forward, "maps")
    g = [f"e{i}" for i in range(1, 1 + len(trace.outs("generator.encoder")))]
    for name, tensor in zip(g, trace.outs("generator.encoder"), strict=True):
        p.map(name, name, tensor, "input", code)
    features = ["d1", "d2", "d3"]
    for name, tensor in zip(features, told.prediction.features, strict=True):
        p.map(name, name, tensor, "input", Code(type(network.generator.decoder).forward, "return"))
    painted = ((told.prediction.frame[0] + 1) / 2).clamp(0, 1).permute(1, 2, 0).cpu().numpy()
    p.picture("painted", Frame, "painted frame", (255 * painted).astype(np.uint8), 3, "output")
    names = [f"maps[{i}]" for i in range(len(trace.outs("encoder")))]
    for name, tensor in zip(names, trace.outs("encoder"), strict=True):
        p.map(name, name, tensor, "input", Code(type(network.encoder).forward, "maps"))
    p.map("pyramid", "pyramid", trace.out("decoder.pyramid"), "input", Code(forward, "self.pyramid"))
    paths, gates = ([f"{part}[{i}]" for i in (2, 1, 0)] for part in ("f", "gates"))
    heads = [f"heads[{i}]" for i in (3, 2, 1, 0)]
    width = trace.out("decoder.pyramid").shape[1]
    for i, name in zip((2, 1, 0), paths, strict=True):  # what the join takes in first: f, before d1, d2 or d3
        joins = network.decoder.joins
        assert joins is not None
        p.map(name, f"f, i = {i}", trace.into(f"decoder.joins.{i}.0")[:, :width], "input", Code(forward, "step_down"))
    for name in gates:
        p.map(name, name, trace.out(_module("decoder", name)), "output", Code(forward, "self.gates"))
    for name in heads:
        coarse = trace.out(_module("decoder", name))[0, 0].sigmoid().cpu().numpy()
        p.picture(name, Mask, name, np.repeat((255 * coarse[..., None]).astype(np.uint8), 3, axis=2), 1, "output")
    p.map("last", "last", trace.out("decoder.last"), "output", Code(forward, "self.last"))
    answer = (told.logits[0, -1] > 0).cpu().numpy().astype(np.uint8)
    p.picture("answer", Mask, "answer", solid(answer), 1, "output")
    arrows = [*chain("past", *g, *features, "painted"), *chain("frame", *names, "pyramid", *paths)]
    arrows += [Arrow(a, b, "skip") for a, b in zip(names[2::-1], paths, strict=True)]
    arrows += [Arrow(a, b, "skip") for a, b in zip(g[2:0:-1], features[1:], strict=True)]  # the finest joins nowhere
    for path, d, gate in zip(paths, features, gates, strict=True):
        arrows += [Arrow(path, gate), Arrow(d, gate), *([Arrow(gate, d, "stopped")] if network.detach else [])]
    for source, mask in zip(("pyramid", *gates), heads, strict=True):
        arrows += [Arrow(source, mask), Arrow(source, "last")]
    arrows += [*(Arrow(mask, gate) for mask, gate in zip(heads, gates, strict=False)), Arrow("last", "answer")]

    # To the right where it gets coarser, and back to the left: each level is a column.
    def spread(first: list[str], parts: list[str], end: list[str]) -> list[str]:
        return [*first, *(x for part in parts for x in (part, "."))][:-1] + end

    rows = (
        spread([".", "frame"], names, []),
        spread([".", heads[3]], [*paths[::-1], "pyramid"], []),
        ["answer", "last", *(x for pair in zip(gates[::-1], heads[2::-1], strict=True) for x in pair), "."],
        spread([".", "painted"], features[::-1], [".", "."]),
        ["past", g[0], g[1], ".", g[2], ".", g[3], ".", "."],
    )
    return NetworkDiagram(
        "STCNN: a generator that knows the past tells the segmenter", p.parts, "\n".join(map(" ".join, rows)), arrows,
        {
            "generator": [*g, *features, "painted"],
            "encoder": names,
            "decoder": ["pyramid", *paths, *gates, *heads, "last"],
        },
        p.tensors, p.code, answer,
    )  # fmt: skip


# --- DiT -------------------------------------------------------------------------------------------------


def dit(network: dit_model.DiT, x: Tensor, t: float, s: float, caption: Tensor) -> NetworkDiagram:
    """The diffusion transformer while it says where one noisy picture flows: teacher, or student with ``s``.

    Args:
        network: of any size; of more than six blocks the first three and the last are drawn.
        x: ``[4, H, W]`` at time t.
        t: the time, in [0, 1].
        s: the time to go to; a teacher ignores it.
        caption: ids ``[A]``.
    """
    place = network.patches.weight.device
    time, then = (torch.tensor([value], device=place) for value in (t, s))
    with Trace(network) as trace:
        out = network(x[None].to(place), time, then, caption[None].to(place))[0]  # [4, H, W]
    side = network.size // network.patch
    forward = dit_model.DiT.forward

    def tokens(name: str, count: int = side**2) -> Tensor:
        """``[1, N, C] -> [1, C, side, side]`` of the patches, or ``[1, C, A, 1]`` of the rest."""
        found = trace.out(name)[:, :count].transpose(1, 2)
        return found.reshape(1, found.shape[1], side, side)

    def colours(picture: Tensor) -> np.ndarray:
        return as_picture((picture[:3] + 1) / 2)

    p = Parts()
    p.picture("x", Frame, "x", colours(x), network.channels, "input")
    p.map("patches", "patches", tokens("patches"), "input", Code(dit_model.DiT._cut, "reshape"))
    words = torch.stack([trace.out(f"words.{i}")[0] for i in range(len(network.words))], dim=1)  # [C, A]
    p.map("words", "words", words[None, :, :, None], "input", Code(forward, "table(captions"))
    p.operation("cat", Concat("cat"), Code(forward, "torch.cat"))
    p.map("t", "t_embedder", trace.out("t_embedder")[:, :, None, None], "input", Code(forward, "self.t_embedder"))
    p.operation("condition", Concat("+"), Code(forward, "condition ="))
    depth = len(network.blocks)
    drawn = list(range(depth)) if depth <= 6 else [0, 1, 2, depth - 1]
    blocks = [f"blocks[{i}]" for i in drawn]
    for i, name in zip(drawn, blocks, strict=True):
        p.map(name, name, tokens(f"blocks.{i}"), "input", Code(forward, "block(tokens"))
    p.map("last", "last", tokens("last"), "output", Code(forward, "self.last"))
    p.map("refiner", "refiner", trace.out("refiner.first"), "output", Code(dit_model.Refiner.forward, "self.first"))
    p.operation("sum", Concat("+"), Code(forward, "gaussian_velocity"))
    p.picture("F", Frame, "F(x, t, s)" if network.reads_s else "v(x, t)", colours(out), network.channels, "output")
    arrows = [*chain("x", "patches", "cat", *blocks, "last", "refiner", "sum", "F"), Arrow("words", "cat")]
    arrows += [Arrow("words", "condition"), Arrow("t", "condition")]
    arrows += [Arrow("condition", name, "carried") for name in (*blocks, "last")]
    arrows += [Arrow("x", "refiner", "skip"), Arrow("x", "sum", "skip")]
    below = ["."] * (len(blocks) + 4)
    rows = [["x", "patches", "cat", *blocks, "last", "refiner", "sum", "F"], [".", "words", ".", *below]]
    rows += [[".", "t", "condition", *below]]
    groups = {"transformer": blocks}
    if network.reads_s:
        p.map("s", "s_embedder", trace.out("s_embedder")[:, :, None, None], "value", Code(forward, "self.s_embedder"))
        arrows.append(Arrow("s", "condition"))
        rows.append([".", "s", ".", *below])
        groups = {"frozen, with adapters": blocks}
    return NetworkDiagram(
        "A diffusion transformer with the time to go to" if network.reads_s else "A diffusion transformer",
        p.parts, "\n".join(map(" ".join, rows)), arrows, groups, p.tensors, p.code,
        (out[3] > 0).cpu().numpy().astype(np.uint8), roles={"value": "learned by the student"},
        flows={"carried": "modulates"},
    )  # fmt: skip
