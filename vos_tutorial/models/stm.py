"""STM: every past frame is kept as keys and values, and the current frame asks them where the object is.

Oh, Lee, Xu, Kim: "Video Object Segmentation using Space-Time Memory Networks", ICCV 2019. A memory encoder turns a
frame and an object's mask into a map of *keys* (what does this place look like?) and *values* (is it the object?). A
query encoder does the same for the current frame, without a mask. Each place of the query compares its key with all
keys of all stored frames, and takes the weighted mean of their values; a decoder draws the mask from what was read.
In the order of the paper: key and value embedding (section 3.1), space-time memory read (3.2), decoder (3.3),
several objects (3.4), training (3.5), inference (3.6).

``affinity="l2", shared_keys=True`` is a later cure for a trap of the paper's form, which from random weights and in
short training learns to ignore the memory: one encoder makes the keys of both sides, from the colours alone, and they
are compared by distance (STCN: Cheng, Tai, Tang, NeurIPS 2021, sections 3.2 and 4).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import TutorialError
from ..objects import ObjectSegmenter, cleared, evaluating, replaced, without
from ..propagation import soft_aggregate
from .backbones import LiteEncoder, Normalised, ResNetEncoder, SmallEncoder, start_encoders
from .layers import PreActivation, Refine, ResidualBlock, crop_padding, enlarge, pad_centred
from .weights import start_with

Affinity = Literal["dot", "l2"]
Start = Literal["scratch", "imagenet"]

# ------------------------------------------------------------------------------- keys and values (section 3.1)


class KeyValue(nn.Module):
    """Two parallel 3x3 convolutions: ``[B, C, h, w] -> key [B, Ck, h, w], value [B, Cv, h, w]``."""

    def __init__(self, channels: int, key: int, value: int) -> None:
        super().__init__()
        self.key = nn.Conv2d(channels, key, 3, padding=1)
        self.value = nn.Conv2d(channels, value, 3, padding=1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """No normalisation and no non-linearity: a dot product must be able to take any value."""
        return self.key(x), self.value(x)


class LightMemoryEncoder(nn.Module):
    """A memory encoder for shared keys: it only writes down where the object is, since what is there is known.

    With shared keys the query encoder has seen a stored frame before. Its coarsest map, laid beside this encoder's,
    says what is there, so this one can begin at a quarter of the resolution. (For the same reason STCN pairs a
    ResNet-18 for the values with a ResNet-50 for the keys: Cheng, Tai, Tang, NeurIPS 2021.)

    Args:
        width: as the small query encoder's; the one map has 4 times as many channels, at 1/8 of the resolution.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.channels, self.strides = [4 * width], [8]
        self.normalise = Normalised()
        self.stem = nn.Conv2d(3 + 2, 2 * width, 7, 4, 3)
        self.down = ResidualBlock(2 * width, 4 * width, stride=2)

    def forward(self, image: Tensor, extra: Tensor) -> list[Tensor]:
        """Frames ``[N, 3, H, W]`` in [0, 1] with two masks ``[N, 2, H, W]`` -> one map ``[N, 4*width, H/8, W/8]``."""
        x = torch.cat([self.normalise(image), extra], dim=1)  # [N, 5, H, W]
        x = F.relu(self.stem(x))  # [N, 2*width, H/4, W/4]
        return [self.down(x)]  # [N, 4*width, H/8, W/8]


# --------------------------------------------------------------------------- space-time memory read (section 3.2)


BLOCK = 2**22
"""Attention weights that exist at once in :func:`read`; a larger block would not stay in a CPU's cache."""


def _at_least_float32(x: Tensor) -> Tensor:
    """A softmax over thousands of places needs scores finer than half precision has."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _without_autocast(x: Tensor) -> AbstractContextManager[Any]:
    """No half precision inside; devices that have no autocast (``meta``, where shapes are counted) need nothing."""
    kind = x.device.type
    return torch.autocast(kind, enabled=False) if torch.amp.is_autocast_available(kind) else nullcontext()


class Near(NamedTuple):
    """A prior for one frame of the memory, the previous one: things do not jump. Not the paper's."""

    frame: int
    """Its position on the memory's axis T."""
    strength: float
    """Of the penalty: so much times the squared distance, in cells, of the two places."""


def distances(h: int, w: int, device: torch.device) -> Tensor:
    """Squared distances between all places of a map, in cells: ``float [h*w, h*w]``."""
    rows = torch.arange(h, device=device).repeat_interleave(w).float()  # [h*w]
    columns = torch.arange(w, device=device).repeat(h).float()  # [h*w]
    return (rows[:, None] - rows).pow(2) + (columns[:, None] - columns).pow(2)


def scores(query_key: Tensor, memory_key: Tensor, penalty: float = 0.0, near: Near | None = None) -> Tensor:
    """How well each place of the query fits each place of the memory, before the softmax (the affinity).

    Args:
        query_key: ``float [N, Ck, h, w]``.
        memory_key: ``float [N, Ck, T, h, w]``.
        penalty: 0 is the dot product (equation 2); 1 is the negative squared distance, up to a term that is the same
            for all places of the memory and falls out of the softmax. Between them lies a mixture.
        near: a prior for the places of one frame.

    Returns:
        ``float [N, T*h*w, h*w]``, divided by the root of Ck. (The paper does not divide; the authors' code does.)
        It is float32 under autocast and for keys of half precision, too.
    """
    with _without_autocast(query_key):
        q, k = (_at_least_float32(x).flatten(2) for x in (query_key, memory_key))  # [N, Ck, h*w], [N, Ck, T*h*w]
        similar = torch.einsum("nck,ncq->nkq", k, q)  # [N, T*h*w, h*w]
        if penalty:  # -|q - k|^2 = 2 q.k - |k|^2 - |q|^2
            similar = (1 + penalty) * similar - penalty * k.pow(2).sum(1)[:, :, None]
        similar = similar / math.sqrt(q.shape[1])
        if near is not None:
            h, w = query_key.shape[-2:]
            of_frame = similar.unflatten(1, (memory_key.shape[2], -1))[:, near.frame]  # [N, h*w, h*w], a view
            of_frame -= near.strength * distances(h, w, q.device)
        return similar


def attention(
    query_key: Tensor,
    memory_key: Tensor,
    penalty: float = 0.0,
    temperature: float = 1.0,
    top_k: int | None = None,
    near: Near | None = None,
) -> Tensor:
    """Where each place of the query looks: weights that sum to one over the *memory*, ``float [N, T*h*w, h*w]``.

    Args:
        query_key: see :func:`scores`, as the next two.
        memory_key: see there.
        penalty: see there.
        temperature: scores are divided by it; below 1 the look becomes sharper.
        top_k: only so many places of the memory count, for each place of the query.
        near: see :func:`scores`.

    Raises:
        TutorialError: if the temperature is not above 0, or ``top_k`` is below 1.
    """
    if not temperature > 0:
        raise TutorialError(f"the temperature is {temperature}; it must be above 0.")
    if top_k is not None and top_k < 1:
        raise TutorialError(f"top_k is {top_k}; keep at least 1 place.")
    return softmax_of_best(scores(query_key, memory_key, penalty, near) / temperature, top_k, 1)


def softmax_of_best(s: Tensor, top_k: int | None, axis: int) -> Tensor:
    """The softmax over an axis, of its ``top_k`` largest scores alone: the others get weight 0; None for all."""
    if top_k is None or top_k >= s.shape[axis]:
        return s.softmax(dim=axis)
    best, places = s.topk(top_k, dim=axis, sorted=False)  # not by a threshold: frames that are stored twice tie
    return torch.zeros_like(s).scatter_(axis, places, best.softmax(dim=axis))


def read(
    query_key: Tensor,
    memory_key: Tensor,
    memory_value: Tensor,
    penalty: float = 0.0,
    top_k: int | None = None,
    near: Near | None = None,
) -> Tensor:
    """Equation 1: ``softmax(scores)`` times the values, without ever storing the whole attention.

    It takes some places of the query at a time, all against the whole memory. Keys and values may have any strides;
    with the channels laid out last, as :class:`Memory` does it, nothing is copied.

    Args:
        query_key: ``float [N, Ck, h, w]``.
        memory_key: ``float [N, Ck, T, h, w]``.
        memory_value: ``float [N, Cv, T, h, w]``.
        penalty: see :func:`scores`.
        top_k: see :func:`attention`.
        near: see :func:`scores`.

    Returns:
        ``float [N, Cv, h, w]`` of the values' type.
    """
    n, channels, h, w = query_key.shape
    with _without_autocast(query_key):
        k = _at_least_float32(memory_key).flatten(2)  # [N, Ck, T*h*w]
        v = memory_value.flatten(2).transpose(1, 2)  # [N, T*h*w, Cv]
        q = _at_least_float32(query_key).flatten(2).transpose(1, 2)  # [N, h*w, Ck]
        q = q * ((1 + penalty) / math.sqrt(channels))
        length = -penalty / math.sqrt(channels) * k.pow(2).sum(1, keepdim=True) if penalty else None  # [N, 1, T*h*w]
        found = []
        size = max(1, BLOCK // (n * k.shape[2]))
        far = distances(h, w, q.device).split(size) if near is not None else ()  # [rows, h*w]
        for i, some in enumerate(q.split(size, dim=1)):  # [N, rows, Ck]
            s = torch.bmm(some, k) if length is None else torch.baddbmm(length, some, k)  # [N, rows, T*h*w]
            if near is not None:
                s.unflatten(2, (-1, h * w))[:, :, near.frame] -= near.strength * far[i]
            found.append(softmax_of_best(s, top_k, 2).to(v.dtype) @ v)  # [N, rows, Cv]
        return torch.cat(found, dim=1).transpose(1, 2).unflatten(2, (h, w))  # [N, Cv, h, w]


# -------------------------------------------------------------------------------------------- decoder (section 3.3)


class Decoder(nn.Module):
    """What was read and the query's own value -> scores at full resolution.

    Args:
        value: channels of a value; twice as many come in.
        channels: of the encoder's maps, finest first.
        strides: of the encoder's maps.
        width: of everything inside; the paper's is 256.
    """

    def __init__(self, value: int, channels: Sequence[int], strides: Sequence[int], width: int) -> None:
        super().__init__()
        self.stride = strides[0]
        self.enter = nn.Conv2d(2 * value, width, 3, padding=1)
        self.first = PreActivation(width)
        self.refine = nn.ModuleList(Refine(c, width) for c in reversed(channels[:-1]))
        self.predict = nn.Conv2d(width, 2, 3, padding=1)

    def forward(self, found: Tensor, fine: Sequence[Tensor], owner: Tensor) -> Tensor:
        """``found [N, 2*value, h, w]``, ``fine`` maps ``[B, C, H, W]`` finest first -> logits ``[N, 2, H, W]``."""
        x = self.first(self.enter(found))  # [N, width, h, w]
        for refine, skip in zip(self.refine, reversed(fine), strict=True):
            assert isinstance(refine, Refine)
            prepared = refine.prepare(skip)  # [B, width, H/s, W/s], once per frame, however many objects there are
            x = refine(prepared if len(prepared) == 1 else prepared[owner], x)  # [N, width, H/s, W/s]
        # Two channels that are laid out last are slow to enlarge.
        logits = self.predict(F.relu(x)).contiguous()  # [N, 2, H/stride, W/stride]
        return enlarge(logits, self.stride)  # [N, 2, H, W]


# ------------------------------------------------------------------------------------------------------ network


class Query(NamedTuple):
    """The current frame, encoded once for all objects."""

    key: Tensor
    """``float [B, Ck, h, w]``."""
    value: Tensor
    """``float [B, Cv, h, w]``."""
    coarse: Tensor
    """The encoder's coarsest map ``float [B, C, h, w]``, of which key and value are made."""
    fine: list[Tensor]
    """The encoder's finer maps, finest first, for the decoder."""
    padding: tuple[int, int, int, int]
    """Left, right, top, bottom: what was added to the frame and must be cut off again."""


def one_frame_owner(n: int, device: torch.device | str = "cpu") -> Tensor:
    """The owner of each of ``n`` objects when there is one frame: ``long [n]`` of zeros."""
    return torch.zeros(n, dtype=torch.long, device=device)


class STM(nn.Module):
    """Objects are the batch: ``N`` objects in ``B`` frames, and ``owner [N]`` says whose frame each object is in.

    Args:
        query_encoder: of frames.
        memory_encoder: of frames with two more channels, the object's mask and the mask of all others. A light one
            gets the query encoder's map of the frame beside its own, and goes with shared keys only.
        key: channels of a key; the paper's is 128.
        value: channels of a value; the paper's is 512.
        width: of the decoder; the paper's is 256.
        affinity: ``"dot"``, the paper's, or ``"l2"``.
        shared_keys: take the keys of the memory from the query encoder, too; not the paper's.
        penalty: see :func:`scores`; by default the affinity's, 0 or 1. Training may move it.

    Raises:
        TutorialError: on an unknown affinity, and on a light memory encoder without shared keys.
    """

    def __init__(
        self,
        query_encoder: ResNetEncoder | SmallEncoder | LiteEncoder,
        memory_encoder: ResNetEncoder | SmallEncoder | LightMemoryEncoder,
        key: int,
        value: int,
        width: int,
        affinity: Affinity = "dot",
        shared_keys: bool = False,
        penalty: float | None = None,
    ) -> None:
        super().__init__()
        if affinity not in get_args(Affinity):
            raise TutorialError(f"there is no affinity {affinity!r}; choose dot or l2.")
        self.light = isinstance(memory_encoder, LightMemoryEncoder)
        if self.light and not shared_keys:
            raise TutorialError("a light memory encoder makes no keys; share the query encoder's (shared_keys=True).")
        self.query_encoder, self.memory_encoder = query_encoder, memory_encoder
        channels, strides = query_encoder.channels, query_encoder.strides
        self.stride = strides[-1]
        self.query_head = KeyValue(channels[-1], key, value)
        beside = channels[-1] if self.light else 0
        self.memory_head = KeyValue(memory_encoder.channels[-1] + beside, key, value)
        if shared_keys:
            del self.memory_head.key
        self.decoder = Decoder(value, channels, strides, width)
        self.affinity, self.shared_keys = affinity, shared_keys
        self.penalty = penalty if penalty is not None else 1.0 if affinity == "l2" else 0.0

    def encode(self, frame: Tensor) -> Query:
        """Encode frames ``float [B, 3, H, W]`` in [0, 1] as queries."""
        x, padding = pad_centred(frame, self.stride)  # [B, 3, H', W'], multiples of the stride
        *fine, coarse = self.query_encoder(x)  # ..., [B, C, h, w]
        key, value = self.query_head(coarse)  # [B, Ck, h, w], [B, Cv, h, w]
        return Query(key, value, coarse, fine, padding)

    def memorize(
        self, frame: Tensor, masks: Tensor, others: Tensor, owner: Tensor, seen: Query | None = None
    ) -> tuple[Tensor, Tensor]:
        """Keys and values of frames whose masks are known.

        Args:
            frame: ``float [B, 3, H, W]`` in [0, 1].
            masks: ``float [N, H, W]``, each object's probability; given masks are 0 and 1.
            others: ``float [N, H, W]``, the sum of all other objects' (:func:`other_masks`).
            owner: ``long [N]``.
            seen: the same frames as queries, if they were encoded already; only shared keys make use of it.

        Returns:
            key ``float [N, Ck, h, w]`` and value ``float [N, Cv, h, w]``.
        """
        x, _ = pad_centred(frame, self.stride)  # [B, 3, H', W']
        extra = torch.stack([masks, others], dim=1).to(frame.dtype)  # [N, 2, H, W]
        extra, _ = pad_centred(extra, self.stride)  # [N, 2, H', W']
        coarse = self.memory_encoder(x[owner], extra)[-1]  # [N, C, h, w]
        if not self.shared_keys:
            return self.memory_head(coarse)
        query = seen if seen is not None else self.encode(frame)
        if self.light:
            coarse = torch.cat([coarse, query.coarse[owner]], dim=1)  # [N, C + C of the query, h, w]
        return query.key[owner], self.memory_head.value(coarse)

    def segment(
        self, query: Query, memory_key: Tensor, memory_value: Tensor, owner: Tensor, penalty: float | None = None
    ) -> Tensor:
        """Read and decode.

        Args:
            query: B frames.
            memory_key: ``float [N, Ck, T, h, w]``.
            memory_value: ``float [N, Cv, T, h, w]``.
            owner: ``long [N]``.
            penalty: see :func:`scores`; the network's own by default.

        Returns:
            Logits ``float [N, 2, H, W]``: background and object, each object as if it were alone.
        """
        strength = self.penalty if penalty is None else penalty
        found = read(query.key[owner], memory_key, memory_value, strength)  # [N, Cv, h, w]
        return self.decode(found, query, owner)

    def decode(self, found: Tensor, query: Query, owner: Tensor) -> Tensor:
        """The mask of what was read, ``[N, Cv, h, w]``; see :meth:`segment`."""
        pair = torch.cat([found, query.value[owner]], dim=1)  # [N, 2*Cv, h, w]
        logits = self.decoder(pair, query.fine, owner)  # [N, 2, H', W']
        return crop_padding(logits, query.padding)


def other_masks(masks: Tensor, owner: Tensor) -> Tensor:
    """For each object the sum of the *other* objects' masks in its frame, at most 1: ``[N, H, W] -> [N, H, W]``."""
    frames = int(owner.max()) + 1 if len(owner) else 0
    total = torch.zeros(frames, *masks.shape[1:], dtype=masks.dtype, device=masks.device)  # [B, H, W]
    total = total.index_add(0, owner, masks)
    return (total[owner] - masks).clamp(0, 1)


def build(
    size: Literal["small", "paper"] = "small",
    affinity: Affinity | None = None,
    shared_keys: bool | None = None,
    light: bool | None = None,
    width: int = 16,
    twins: bool = False,
    penalty: float | None = None,
    encoder: Start = "scratch",
) -> STM:
    """An STM with random weights.

    Args:
        size: ``"paper"`` has two ResNet-50 and 38,925,570 parameters in the paper's form.
        affinity: by default the paper's ``"dot"`` at paper size and ``"l2"`` when small.
        shared_keys: by default False at paper size and True when small.
        light: give a small network a :class:`LightMemoryEncoder`, and values half as long; by default if it shares
            its keys. False makes both encoders alike, as the paper's are.
        width: of the small encoders' finest map, and of the small decoder.
        twins: both encoders, and both key heads, start from the same random weights, and the filters of the masks
            from zero, so that a place has the same key on both sides before training begins.
        penalty: see :class:`STM`.
        encoder: of queries, when small: ``"scratch"``, which learns from random weights, or ``"imagenet"``, a
            :class:`~vos_tutorial.models.backbones.LiteEncoder` that :func:`start_from_imagenet` fills; it goes with a
            light memory encoder.

    Raises:
        TutorialError: on an unknown size, affinity or encoder, on ``light`` without shared keys or at paper size, and
            on ``twins`` with it.
    """
    if size not in ("small", "paper"):
        raise TutorialError(f"there is no size {size!r} of stm; choose small or paper.")
    if encoder not in get_args(Start):
        raise TutorialError(f"there is no encoder {encoder!r} of stm; choose from {', '.join(get_args(Start))}.")
    small = size == "small"
    affinity = affinity if affinity is not None else "l2" if small else "dot"
    shared = shared_keys if shared_keys is not None else small
    light = light if light is not None else small and shared and not twins
    if light and (twins or not small):
        raise TutorialError(
            "a light memory encoder has neither paper size nor the query encoder's initial weights; use light=False."
        )
    if encoder == "imagenet" and not light:
        raise TutorialError("encoder='imagenet' goes with a small network's light memory encoder; leave one out.")
    if small:
        writer = LightMemoryEncoder(width) if light else SmallEncoder(2, width)
        value = 2 * width if light else 4 * width
        reader = LiteEncoder(width) if encoder == "imagenet" else SmallEncoder(0, width)
        network = STM(reader, writer, 2 * width, value, width, affinity, shared, penalty)
    else:
        network = STM(ResNetEncoder(0), ResNetEncoder(2), 128, 512, 256, affinity, shared, penalty)
    if twins:
        _copy_encoder(network)
        if not shared:
            network.memory_head.key.load_state_dict(network.query_head.key.state_dict())
    return network


@torch.no_grad()
def _copy_encoder(network: STM) -> None:
    """Make the memory encoder a copy of the query encoder that does not see its masks yet."""
    theirs = dict(network.query_encoder.state_dict())
    for name, mine in network.memory_encoder.state_dict().items():
        if mine.shape == theirs[name].shape:
            mine.copy_(theirs[name])
        else:  # the first convolution
            mine.zero_()[:, :3] = theirs[name]


def start_from(network: STM, trained: STM) -> None:
    """Start where another network of the same size stands.

    If that one shares its keys and this one does not, the head of the memory's keys keeps its random weights: it has
    no model in the other network, and a stage with the option ``align`` can teach it the query's keys.

    Raises:
        TutorialError: if the sizes differ.
    """
    theirs = dict(trained.state_dict())
    if trained.shared_keys and not network.shared_keys:
        theirs |= {k: v for k, v in network.state_dict().items() if k.startswith("memory_head.key.")}
    start_with(theirs, network)


def start_from_imagenet(network: STM) -> bool:
    """ImageNet weights for the encoders made for them; at paper size False, and a sentence, if none can be had.

    Raises:
        TutorialError: if the network has no such encoder, or the package with a small one's weights is missing.
    """
    if isinstance(network.query_encoder, LiteEncoder):
        network.query_encoder.load_imagenet()
        return True
    encoders = [e for e in (network.query_encoder, network.memory_encoder) if isinstance(e, ResNetEncoder)]
    if len(encoders) < 2:
        raise TutorialError(
            "this STM starts from random weights; build it with size='paper' or with encoder='imagenet'."
        )
    return start_encoders(encoders)


# -------------------------------------------------------------------------------------- inference (section 3.6)

Keep = Literal["first", "previous", "both", "every"]
Policy = Literal["oldest", "least used", "even"]

LIMIT = 32
"""Predicted frames that a segmenter stores by default. With every fifth frame, no sequence of DAVIS has so many."""
ROOM = 8
"""Frames by which a full memory grows."""


@dataclass(eq=False)
class StoredFrame:
    """What the memory knows of a frame beside its keys and values."""

    time: int
    given: bool
    """Whether its mask was given; such frames are never dropped."""
    objects: int
    """How many objects it holds keys and values of; those that came later are not among them."""
    used: float = 0.0
    """Attention that it got, summed over frames, objects and places of the query."""
    asked: int = 0
    """How often: each object of a frame asks once."""


class _Bank:
    """Keys and values of objects that came in the same frame, and so are stored in the same frames.

    There is room for more frames than there are, so that a new one is written and nothing else is moved. Channels are
    laid out last, because both products of a read then find what they need without a copy. Keys are float32, in which
    they are compared.

    Args:
        key: ``float [n, Ck, h, w]`` of any frame: its shape, type and device count.
        value: ``float [n, Cv, h, w]``, the same.
    """

    def __init__(self, key: Tensor, value: Tensor) -> None:
        self.frames: list[StoredFrame] = []  # in the order in which they lie here, which is not that of time
        self._keys = self._with_room(_at_least_float32(key)[:, :, None, :, :][:, :, :0])  # [n, Ck, room, h, w]
        self._values = self._with_room(value[:, :, None, :, :][:, :, :0])  # [n, Cv, room, h, w]

    @staticmethod
    def _with_room(old: Tensor) -> Tensor:
        """``[n, C, T, h, w] -> [n, C, T + ROOM, h, w]``."""
        n, channels, frames, h, w = old.shape
        new = old.new_empty(n, frames + ROOM, h, w, channels).permute(0, 4, 1, 2, 3)  # [n, C, T + ROOM, h, w]
        new[:, :, :frames] = old
        return new

    @property
    def objects(self) -> int:
        """n."""
        return len(self._keys)

    @property
    def keys(self) -> Tensor:
        """``float [n, Ck, T, h, w]``."""
        return self._keys[:, :, : len(self.frames)]

    @property
    def values(self) -> Tensor:
        """``float [n, Cv, T, h, w]``."""
        return self._values[:, :, : len(self.frames)]

    def append(self, frame: StoredFrame, key: Tensor, value: Tensor) -> None:
        end = len(self.frames)
        if end == self._keys.shape[2]:
            self._keys, self._values = self._with_room(self._keys), self._with_room(self._values)
        self._keys[:, :, end], self._values[:, :, end] = key, value
        self.frames.append(frame)

    def drop(self, frame: StoredFrame) -> None:
        """The last one moves to its place: the order of places means nothing to a softmax."""
        at, last = self.frames.index(frame), len(self.frames) - 1
        if at < last:
            for stored in (self._keys, self._values):
                stored[:, :, at] = stored[:, :, last]
            self.frames[at] = self.frames[last]
        self.frames.pop()

    def remove(self, channel: int) -> None:
        self._keys, self._values = without(self._keys, channel), without(self._values, channel)

    def picked(self, frames: Sequence[StoredFrame]) -> tuple[Tensor, Tensor]:
        """A copy of some frames' keys ``[n, Ck, t, h, w]`` and values ``[n, Cv, t, h, w]``."""
        at = [self.frames.index(frame) for frame in frames]
        return self._keys[:, :, at], self._values[:, :, at]


def near_frame(frames: Sequence[StoredFrame], time: int, locality: float) -> Near | None:
    """The prior for the frame of that number, if it is stored and the prior should be of any strength."""
    at = [i for i, frame in enumerate(frames) if frame.time == time]
    return Near(at[0], locality) if at and locality else None


class Memory:
    """The stored frames: which stay, which leave, what each object may read, and how much attention each frame got.

    A frame knows the objects of its time only. So objects that came in the same frame share a bank of keys and
    values, and each bank is read apart: to older frames a newer object is not absent, it was never asked for.

    Args:
        limit: largest number of stored frames that were not given, or None.
        policy: which of those leaves when there are too many: the oldest; the one that got the least attention for
            each time it was asked; or the one without which the others lie the most evenly over the clip.

    Attributes:
        frames: what the next read sees, oldest first.

    Raises:
        TutorialError: on a limit below 0 and an unknown policy.
    """

    def __init__(self, limit: int | None = None, policy: Policy = "oldest") -> None:
        if limit is not None and limit < 0:
            raise TutorialError(f"the memory's limit is {limit} frames; use 0 or more, or None.")
        if policy not in get_args(Policy):
            raise TutorialError(f"there is no policy {policy!r}; choose from {', '.join(get_args(Policy))}.")
        self.limit, self.policy = limit, policy
        self.frames: list[StoredFrame] = []
        self._banks: list[_Bank] = []  # in the order of the objects' channels
        self._passing: StoredFrame | None = None  # stays until the next one is stored

    def store(self, time: int, key: Tensor, value: Tensor, given: bool = False, keep: bool = True) -> None:
        """Store a frame, and drop another one if that is one too many.

        Args:
            time: number of the frame; one that is stored already is replaced.
            key: ``float [O, Ck, h, w]``, one for each object; those that the memory does not know yet come last.
            value: ``float [O, Cv, h, w]``.
            given: whether its mask was given.
            keep: False stores it until the next call only.
        """
        for frame in [f for f in self.frames if f is self._passing or f.time == time]:
            self._drop(frame)
        free = [f for f in self.frames if not f.given]
        if keep and not given and self.limit is not None and len(free) >= self.limit:
            keep = bool(free)  # a limit of 0 keeps nothing
            if free:
                self._drop(self._dispensable(free, time))
        new = StoredFrame(time, given, len(key))
        self.frames.append(new)
        self._passing = None if keep else new
        begin = 0
        for bank in self._banks:
            end = begin + bank.objects
            bank.append(new, key[begin:end], value[begin:end])
            begin = end
        if begin < len(key):
            self._banks.append(_Bank(key[begin:], value[begin:]))
            self._banks[-1].append(new, key[begin:], value[begin:])

    def _dispensable(self, free: Sequence[StoredFrame], new: int) -> StoredFrame:
        """Which of these leaves when the frame of number ``new`` comes."""
        if self.policy == "oldest":
            return free[0]
        if self.policy == "least used":
            return min(free, key=lambda f: f.used / max(1, f.asked))
        times = sorted([*(frame.time for frame in self.frames), new])
        before, after = [times[0] - 1, *times], [*times[1:], times[-1] + 1]
        gap = {time: b - a for a, time, b in zip(before, times, after, strict=False)}  # left by each
        return min(free, key=lambda f: gap[f.time])

    def _drop(self, frame: StoredFrame) -> None:
        self.frames.remove(frame)
        for bank in self._banks:
            if frame in bank.frames:
                bank.drop(frame)

    def read(
        self,
        query_key: Tensor,
        penalty: float = 0.0,
        top_k: int | None = None,
        locality: float = 0.0,
        previous: int = -1,
    ) -> Tensor:
        """What each object finds: ``[1, Ck, h, w] -> float [O, Cv, h, w]``.

        Args:
            query_key: of the current frame.
            penalty: see :func:`scores`.
            top_k: see :class:`STMSegmenter`.
            locality: see there.
            previous: number of the frame before the current one.
        """
        found = []
        for bank in self._banks:
            q = query_key.expand(bank.objects, -1, -1, -1)  # [n, Ck, h, w]
            near = near_frame(bank.frames, previous, locality)
            if self.policy == "least used" and self.limit is not None:
                self._count(attention(q, bank.keys, penalty, top_k=top_k, near=near), bank.frames)
            found.append(read(q, bank.keys, bank.values, penalty, top_k, near))
        return torch.cat(found)  # [O, Cv, h, w]

    @staticmethod
    def _count(weights: Tensor, frames: list[StoredFrame]) -> None:
        """Write down how much of the attention ``[n, T*h*w, h*w]`` each frame got."""
        mass = weights.unflatten(1, (len(frames), -1)).sum((0, 2, 3))  # [T]
        for frame, share in zip(frames, mass.tolist(), strict=True):
            frame.used += share
            frame.asked += len(weights)

    @property
    def objects(self) -> int:
        """How many objects the stored frames know."""
        return sum(bank.objects for bank in self._banks)

    def remove(self, channel: int) -> None:
        """Forget one object, and the frames that know no other."""
        for bank in self._banks:
            if channel < bank.objects:
                break
            channel -= bank.objects
        bank.remove(channel)
        for frame in bank.frames:
            frame.objects -= 1
        self._banks = [bank for bank in self._banks if bank.objects]
        self.frames = [frame for frame in self.frames if frame.objects]
        if self._passing not in self.frames:
            self._passing = None

    def complete(self) -> tuple[list[StoredFrame], Tensor, Tensor]:
        """Frames that know all objects, oldest first; keys ``[O, Ck, T, h, w]`` and values ``[O, Cv, T, h, w]``."""
        frames = sorted(self._banks[-1].frames, key=lambda frame: frame.time)
        keys, values = zip(*(bank.picked(frames) for bank in self._banks), strict=True)
        return frames, torch.cat(keys), torch.cat(values)

    @property
    def bytes(self) -> int:
        """What the keys and values of the kept frames take."""
        return sum(
            part[:, :, 0].numel() * part.element_size() * sum(frame is not self._passing for frame in bank.frames)
            for bank in self._banks
            for part in (bank.keys, bank.values)
            if bank.frames
        )


class STMSegmenter(ObjectSegmenter):
    """Memorise, read, decode, go on.

    A corrected frame counts as a given one: it is memorised with its new masks, and never leaves. What a removed
    object was to the others stays in the frames memorised until then, as a part of "all others".

    Args:
        network: a trained :class:`STM`.
        memory: which frames the memory holds: the ``"first"`` (the given one), the ``"previous"`` one, ``"both"``, or
            ``"every"``: both, and each ``every``-th (the paper's choice, with 5).
        every: see there.
        limit: bound on the frames of ``"every"``; None for none, as in the paper. See :class:`Memory`.
        policy: see :class:`Memory`.
        min_confidence: do not keep a frame for good if the mean probability inside one of its predicted masks is
            lower, or a mask is empty: a wrong mask in the memory would be believed for ever. 0 keeps all (as the
            paper does).
        top_k: each place reads the best so many places of the memory and no others, which keeps the many that hardly
            fit from drowning them as the memory grows (Cheng et al., "Modular Interactive Video Object Segmentation",
            CVPR 2021); None for all, as in the paper.
        locality: prefer the near places of the previous frame: a score of it loses so much times the squared distance
            in cells. 0, the paper's choice, looks everywhere alike.

    Raises:
        TutorialError: on an unknown memory or policy, ``every`` or ``top_k`` below 1, a limit or a locality below 0.
    """

    def __init__(
        self,
        network: STM,
        memory: Keep = "every",
        every: int = 5,
        limit: int | None = LIMIT,
        policy: Policy = "oldest",
        min_confidence: float = 0.0,
        top_k: int | None = None,
        locality: float = 0.0,
    ) -> None:
        if top_k is not None and top_k < 1:
            raise TutorialError(f"top_k is {top_k}; keep at least 1 place.")
        if not 0 <= locality < math.inf:
            raise TutorialError(f"the locality is {locality}; use 0 or more.")
        if memory not in get_args(Keep):
            raise TutorialError(f"there is no memory {memory!r}; choose from {', '.join(get_args(Keep))}.")
        if every < 1:
            raise TutorialError(f"the memory takes every {every}th frame; use 1 or more.")
        super().__init__(network)
        self.network, self.keep, self.every, self.min_confidence = evaluating(network), memory, every, min_confidence
        self.top_k, self.locality = top_k, locality
        self.memory = Memory(limit, policy)
        self._start(torch.zeros(3, 1, 1))

    def _start(self, frame: Tensor) -> None:
        self.memory = Memory(self.memory.limit, self.memory.policy)
        self.time = 0
        self.frame = frame.clone()  # the last one; the caller may use its tensor for the next
        self.masks = torch.zeros(0, *frame.shape[1:], device=frame.device)  # float [O, H, W], of the last frame
        self.given = False  # whether masks of the last frame were given
        self.query: Query | None = None  # the last frame, encoded

    def _add(self, frame: Tensor, masks: Tensor) -> None:
        self.masks = torch.cat([self.masks * ~masks.any(0), masks.float()])  # [O+n, H, W]
        self.given = True

    def _correct(self, frame: Tensor, channels: Sequence[int], masks: Tensor) -> None:
        self.masks, self.given = replaced(self.masks, channels, masks), True

    def _clear(self, channels: Sequence[int]) -> None:
        self.masks, self.given = cleared(self.masks, channels), True

    def _remove(self, channel: int) -> None:
        self.masks = without(self.masks, channel)
        if channel < self.memory.objects:  # not if it was introduced since the last step
            self.memory.remove(channel)

    def _predict(self, frame: Tensor) -> Tensor:
        self._memorize_last()
        query = self.network.encode(frame[None])
        how = (self.network.penalty, self.top_k, self.locality, self.time)
        found = self.memory.read(query.key, *how)  # [O, Cv, h, w]
        probabilities = self._decode(found, query)
        self.time, self.frame, self.query = self.time + 1, frame.clone(), query
        self.masks, self.given = probabilities[1:].clone(), False
        return probabilities

    def _decode(self, found: Tensor, query: Query) -> Tensor:
        """``[O, Cv, h, w] -> float [O+1, H, W]``."""
        logits = self.network.decode(found, query, one_frame_owner(len(found), found.device))  # [O, 2, H, W]
        return soft_aggregate(logits.float().softmax(1)[:, 1])

    def _memorize_last(self) -> None:
        """Put the last frame, with the masks it got, where the memory's rule wants it."""
        if self.keep == "first" and not self.given:
            return
        owner = one_frame_owner(len(self.masks), self.frame.device)
        others = other_masks(self.masks, owner)  # [O, H, W]
        key, value = self.network.memorize(self.frame[None], self.masks, others, owner, self.query)
        regular = self.keep == "every" and self.time % self.every == 0 and self._confident()
        self.memory.store(self.time, key, value, self.given, keep=(self.given and self.keep != "previous") or regular)

    def _confident(self) -> bool:
        """Whether each object was found in the last frame, and with confidence."""
        if self.given or not self.min_confidence:
            return True
        inside = self.masks > 0.5  # [O, H, W]
        mean = (self.masks * inside).flatten(1).sum(1) / inside.flatten(1).sum(1).clamp_min(1)  # [O]
        return bool((mean >= self.min_confidence).all())

    # ------------------------------------------------------------------------------------------ looking inside

    def inspect(self) -> dict[str, Any]:
        """What the last step compared: for a widget, or for :func:`attention`.

        ``times`` (frame numbers in memory), ``query_key [Ck, h, w]``, ``memory_key [O, Ck, T, h, w]``, ``penalty``,
        ``top_k`` and ``near``; only frames in which all objects were known.

        Raises:
            TutorialError: before the first step.
        """
        query = self._asked()
        frames, keys, _ = self.memory.complete()
        return {
            "times": [frame.time for frame in frames],
            "query_key": query.key[0],
            "memory_key": keys,
            "penalty": self.network.penalty,
            "top_k": self.top_k,
            "near": near_frame(frames, self.time - 1, self.locality),
        }

    @torch.no_grad()
    def again(self, keep: Sequence[int] | None = None, temperature: float = 1.0, top_k: int | None = None) -> Tensor:
        """Decode the last frame once more, from a part of the memory: probabilities ``float [O+1, H, W]``.

        Args:
            keep: which of ``inspect()["times"]``'s entries to read, by position; all by default.
            temperature: see :func:`attention`.
            top_k: see :func:`attention`; the segmenter's own by default.

        Raises:
            TutorialError: before the first step, if nothing is kept, or as :func:`attention`.
        """
        query = self._asked()
        frames, keys, values = self.memory.complete()
        if keep is not None:
            frames = [frames[i] for i in keep]
            keys, values = keys[:, :, list(keep)], values[:, :, list(keep)]
        if keys.shape[2] == 0:
            raise TutorialError("nothing is left in the memory; keep at least one frame.")
        q = query.key.expand(len(keys), -1, -1, -1)  # [O, Ck, h, w]
        best = top_k if top_k is not None else self.top_k
        near = near_frame(frames, self.time - 1, self.locality)
        weights = attention(q, keys, self.network.penalty, temperature, best, near)  # [O, T*h*w, h*w]
        found = (values.flatten(2) @ weights.to(values.dtype)).unflatten(2, query.key.shape[-2:])  # [O, Cv, h, w]
        return self._decode(found, query)

    def _asked(self) -> Query:
        if self.query is None or not self.memory.frames:
            raise TutorialError("nothing has been read yet; call step() first.")
        return self.query


def segmenter(network: STM, **options: Any) -> STMSegmenter:
    """A segmenter; the options are :class:`STMSegmenter`'s."""
    return STMSegmenter(network, **options)
