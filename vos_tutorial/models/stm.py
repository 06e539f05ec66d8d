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
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..clip import ids_to_onehot, object_ids
from ..errors import TutorialError
from ..propagation import soft_aggregate
from .backbones import Normalised, ResNetEncoder, SmallEncoder, start_encoders
from .layers import PreActivation, ResidualBlock, crop_padding, pad_centred
from .weights import require_fit

Affinity = Literal["dot", "l2"]

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
        x = torch.cat([self.normalise(image), extra], dim=1)
        return [self.down(F.relu(self.stem(x)))]


# --------------------------------------------------------------------------- space-time memory read (section 3.2)


def scores(query_key: Tensor, memory_key: Tensor, penalty: float = 0.0) -> Tensor:
    """How well each place of the query fits each place of the memory, before the softmax.

    Args:
        query_key: ``float [N, Ck, h, w]``.
        memory_key: ``float [N, Ck, T, h, w]``.
        penalty: 0 is the dot product (equation 2); 1 is the negative squared distance, up to a term that is the same
            for all places of the memory and falls out of the softmax. Between them lies a mixture.

    Returns:
        ``float [N, T*h*w, h*w]``, divided by the root of Ck. (The paper does not divide; the authors' code does.)
    """
    q, k = query_key.flatten(2), memory_key.flatten(2)  # [N, Ck, h*w], [N, Ck, T*h*w]
    similar = torch.einsum("nck,ncq->nkq", k, q)
    if penalty:  # -|q - k|^2 = 2 q.k - |k|^2 - |q|^2
        similar = (1 + penalty) * similar - penalty * k.pow(2).sum(1)[:, :, None]
    return similar / math.sqrt(q.shape[1])


def attention(
    query_key: Tensor, memory_key: Tensor, penalty: float = 0.0, temperature: float = 1.0, top_k: int | None = None
) -> Tensor:
    """Where each place of the query looks: weights that sum to one over the *memory*, ``float [N, T*h*w, h*w]``.

    Args:
        query_key: see :func:`scores`, as the next two.
        memory_key: see there.
        penalty: see there.
        temperature: scores are divided by it; below 1 the look becomes sharper.
        top_k: only so many places of the memory count, for each place of the query.

    Raises:
        TutorialError: if the temperature is not above 0, or ``top_k`` is below 1.
    """
    if not temperature > 0:
        raise TutorialError(f"the temperature is {temperature}; it must be above 0.")
    if top_k is not None and top_k < 1:
        raise TutorialError(f"top_k is {top_k}; keep at least 1 place.")
    s = scores(query_key, memory_key, penalty) / temperature
    if top_k is None or top_k >= s.shape[1]:
        return s.softmax(dim=1)
    best, places = s.topk(top_k, dim=1)  # not by a threshold: frames that are stored twice tie
    return torch.zeros_like(s).scatter(1, places, best.softmax(dim=1))


def read(query_key: Tensor, memory_key: Tensor, memory_value: Tensor, penalty: float = 0.0) -> Tensor:
    """Equation 1 in one fused call: ``softmax(scores)`` times the values, without ever storing the attention.

    The distance needs no other kernel than the dot product: with ``[q, 1]`` and ``[2k, -|k|^2]`` it *is* one. The
    fused kernel of a CPU wants keys and values of one length, without gaps; zeros change no dot product.

    Args:
        query_key: ``float [N, Ck, h, w]``.
        memory_key: ``float [N, Ck, T, h, w]``.
        memory_value: ``float [N, Cv, T, h, w]``.
        penalty: see :func:`scores`.

    Returns:
        ``float [N, Cv, h, w]``.
    """
    n, channels, h, w = query_key.shape
    q, k, v = (x.flatten(2).transpose(1, 2) for x in (query_key, memory_key, memory_value))  # [N, places, C]
    if penalty:
        k = torch.cat([(1 + penalty) * k, -penalty * k.pow(2).sum(-1, keepdim=True)], dim=-1)
        q = torch.cat([q, torch.ones_like(q[..., :1])], dim=-1)
    width = max(q.shape[-1], v.shape[-1])
    one_head = [F.pad(x, (0, width - x.shape[-1])).contiguous()[:, None] for x in (q, k, v)]
    out = F.scaled_dot_product_attention(one_head[0], one_head[1], one_head[2], scale=1 / math.sqrt(channels))
    return out[:, 0, :, : v.shape[-1]].transpose(1, 2).reshape(n, -1, h, w)


# -------------------------------------------------------------------------------------------- decoder (section 3.3)


class Refine(nn.Module):
    """Doubles the resolution: the coarse answer, enlarged, and a finer map of the query frame."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.enter = nn.Conv2d(channels, width, 3, padding=1)
        self.skip = PreActivation(width)
        self.merge = PreActivation(width)

    def prepare(self, fine: Tensor) -> Tensor:
        """The path of the finer map ``[B, C, H, W] -> [B, width, H, W]``: the same for all objects of a frame."""
        return self.skip(self.enter(fine))

    def forward(self, prepared: Tensor, coarse: Tensor) -> Tensor:
        """Add the enlarged coarse map ``[N, width, H/2, W/2]`` and mix."""
        enlarged = F.interpolate(coarse, scale_factor=2, mode="bilinear", align_corners=False)
        return self.merge(prepared + enlarged)


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
        x = self.first(self.enter(found))
        for refine, skip in zip(self.refine, reversed(fine), strict=True):
            assert isinstance(refine, Refine)
            prepared = refine.prepare(skip)  # once per frame, however many objects there are
            x = refine(prepared if len(prepared) == 1 else prepared[owner], x)
        logits = self.predict(F.relu(x)).contiguous()  # two channels, laid out last, are slow to enlarge
        return F.interpolate(logits, scale_factor=self.stride, mode="bilinear", align_corners=False)


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


def everyone(n: int, device: torch.device | str = "cpu") -> Tensor:
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
        query_encoder: ResNetEncoder | SmallEncoder,
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
        x, padding = pad_centred(frame, self.stride)
        *fine, coarse = self.query_encoder(x)
        key, value = self.query_head(coarse)
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
        x, _ = pad_centred(frame, self.stride)
        extra, _ = pad_centred(torch.stack([masks, others], dim=1).to(frame.dtype), self.stride)
        coarse = self.memory_encoder(x[owner], extra)[-1]
        if not self.shared_keys:
            return self.memory_head(coarse)
        query = seen if seen is not None else self.encode(frame)
        if self.light:
            coarse = torch.cat([coarse, query.coarse[owner]], dim=1)
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
            Logits ``float [N, 2, H, W]``: background and object, each object judged as if it were alone.
        """
        found = read(query.key[owner], memory_key, memory_value, self.penalty if penalty is None else penalty)
        return self.decode(found, query, owner)

    def decode(self, found: Tensor, query: Query, owner: Tensor) -> Tensor:
        """The mask of what was read, ``[N, Cv, h, w]``; see :meth:`segment`."""
        logits = self.decoder(torch.cat([found, query.value[owner]], dim=1), query.fine, owner)
        return crop_padding(logits, query.padding)


def other_masks(masks: Tensor, owner: Tensor) -> Tensor:
    """For each object the sum of the *other* objects' masks in its frame, at most 1: ``[N, H, W] -> [N, H, W]``."""
    frames = int(owner.max()) + 1 if len(owner) else 0
    total = torch.zeros(frames, *masks.shape[1:], dtype=masks.dtype, device=masks.device).index_add(0, owner, masks)
    return (total[owner] - masks).clamp(0, 1)


def build(
    size: Literal["small", "paper"] = "small",
    affinity: Affinity | None = None,
    shared_keys: bool | None = None,
    light: bool | None = None,
    width: int = 16,
    twins: bool = False,
    penalty: float | None = None,
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

    Raises:
        TutorialError: on an unknown size or affinity, on ``light`` without shared keys or at paper size, and on
            ``twins`` with it.
    """
    if size not in ("small", "paper"):
        raise TutorialError(f"there is no size {size!r} of stm; choose small or paper.")
    small = size == "small"
    affinity = affinity if affinity is not None else "l2" if small else "dot"
    shared = shared_keys if shared_keys is not None else small
    light = light if light is not None else small and shared and not twins
    if light and (twins or not small):
        raise TutorialError("a light memory encoder is neither of paper size nor a twin; use light=False.")
    if small:
        writer = LightMemoryEncoder(width) if light else SmallEncoder(2, width)
        value = 2 * width if light else 4 * width
        network = STM(SmallEncoder(0, width), writer, 2 * width, value, width, affinity, shared, penalty)
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
    require_fit(theirs, network, "the network to start from")
    network.load_state_dict(theirs)


def start_from_imagenet(network: STM) -> bool:
    """ImageNet weights for both encoders of a paper-size network; says so and returns False if none can be had.

    Raises:
        TutorialError: if the network is not of paper size.
    """
    encoders = [e for e in (network.query_encoder, network.memory_encoder) if isinstance(e, ResNetEncoder)]
    if len(encoders) < 2:
        raise TutorialError("only the paper-size STM has ResNets inside; build it with size='paper'.")
    return start_encoders(encoders)


# --------------------------------------------------------------------------------------- training (section 3.5)


# -------------------------------------------------------------------------------------- inference (section 3.6)

Keep = Literal["first", "previous", "both", "every"]
Policy = Literal["oldest", "least used"]


@dataclass(eq=False)
class Moment:
    """One stored frame: keys and values of the ``n`` objects that were known then."""

    time: int
    key: Tensor
    """``float [n, Ck, h, w]``."""
    value: Tensor
    """``float [n, Cv, h, w]``."""
    given: bool
    """Whether its mask was given; such frames are never dropped."""
    used: float = 0.0
    """Attention that it got, summed over frames, objects and places of the query."""
    asked: int = 0
    """How often: each object of a frame asks once."""


class Memory:
    """The stored frames, oldest first, with a bound on how many there may be.

    Args:
        limit: largest number of stored frames that were not given, or None.
        policy: which of those leaves when there are too many: the oldest, or the one that got the least attention for
            each time it was asked.
    """

    def __init__(self, limit: int | None = None, policy: Policy = "oldest") -> None:
        if limit is not None and limit < 0:
            raise TutorialError(f"the memory's limit is {limit} frames; use 0 or more, or None.")
        if policy not in get_args(Policy):
            raise TutorialError(f"there is no policy {policy!r}; choose from {', '.join(get_args(Policy))}.")
        self.limit, self.policy = limit, policy
        self.moments: list[Moment] = []

    def add(self, moment: Moment) -> None:
        """Store a frame, and drop another one if that is one too many."""
        self.moments.append(moment)
        free = [m for m in self.moments if not m.given]
        if self.limit is not None and len(free) > self.limit:
            old = free[:-1] or free  # the newest one was not asked yet
            leaves = old[0] if self.policy == "oldest" else min(old, key=lambda m: m.used / max(1, m.asked))
            self.moments = [m for m in self.moments if m is not leaves]

    @property
    def bytes(self) -> int:
        """What the stored keys and values take."""
        return sum(t.numel() * t.element_size() for m in self.moments for t in (m.key, m.value))


class STMSegmenter:
    """Memorise, read, decode, go on.

    Args:
        network: a trained :class:`STM`.
        memory: which frames the memory holds: the ``"first"`` (the given one), the ``"previous"`` one, ``"both"``, or
            ``"every"``: both, and each ``every``-th (the paper's choice, with 5).
        every: see there.
        limit: bound on the frames of ``"every"``; see :class:`Memory`.
        policy: see :class:`Memory`.
        certain: do not keep a frame for good if the mean probability inside one of its predicted masks is lower, or a
            mask is empty: a wrong mask in the memory would be believed for ever. 0 keeps all (as the paper does).
    """

    def __init__(
        self,
        network: STM,
        memory: Keep = "every",
        every: int = 5,
        limit: int | None = None,
        policy: Policy = "oldest",
        certain: float = 0.0,
    ) -> None:
        if memory not in get_args(Keep):
            raise TutorialError(f"there is no memory {memory!r}; choose from {', '.join(get_args(Keep))}.")
        if every < 1:
            raise TutorialError(f"the memory takes every {every}th frame; use 1 or more.")
        self.network, self.keep, self.every, self.certain = network.eval(), memory, every, certain
        self.limit, self.policy = limit, policy
        self._clear()

    def _clear(self) -> None:
        self.memory = Memory(self.limit, self.policy)
        self.objects: list[int] = []
        self.time = 0
        self.frame = torch.zeros(3, 1, 1)  # of the last step, and what was seen in it
        self.masks = torch.zeros(0, 1, 1)  # float [O, H, W]
        self.given = False  # whether the last frame's masks were given
        self.query: Query | None = None
        self.last: Moment | None = None

    def begin(self, frame: Tensor, mask: Tensor) -> None:
        """See :class:`~vos_tutorial.propagation.Segmenter`."""
        self._clear()
        self.masks = torch.zeros(0, *mask.shape, device=frame.device)
        self.introduce(frame, mask)

    def introduce(self, frame: Tensor, mask: Tensor) -> None:
        """See :class:`~vos_tutorial.propagation.Segmenter`. New objects take their pixels from the old ones."""
        new = [i for i in object_ids(mask) if i not in self.objects]
        if not new:
            return
        masks = ids_to_onehot(mask, new).to(frame.dtype)
        self.objects += new
        self.masks = torch.cat([self.masks * ~masks.any(0), masks])
        self.frame, self.given = frame, True

    def step(self, frame: Tensor) -> Tensor:
        """See :class:`~vos_tutorial.propagation.Segmenter`."""
        self._memorize_last()
        self.time += 1
        self.query = self.network.encode(frame[None])
        owner = everyone(len(self.objects), frame.device)
        logits = self.network.decode(self._read(self.query), self.query, owner)
        probabilities = soft_aggregate(logits.float().softmax(1)[:, 1])
        self.frame, self.masks, self.given = frame, probabilities[1:], False
        return probabilities

    def _memorize_last(self) -> None:
        """Put the last frame, with the masks it got, where the memory's rule wants it."""
        if self.keep == "first" and not self.given:
            self.last = None
            return
        owner = everyone(len(self.masks), self.frame.device)
        others = other_masks(self.masks, owner)
        key, value = self.network.memorize(self.frame[None], self.masks, others, owner, self.query)
        self.last = Moment(self.time, key, value, self.given)
        regular = self.keep == "every" and self.time % self.every == 0 and self._certain()
        if (self.given and self.keep != "previous") or regular:
            self.memory.add(self.last)

    def _certain(self) -> bool:
        """Whether each object was found in the last frame, and with confidence."""
        if self.given or not self.certain:
            return True
        inside = self.masks > 0.5
        mean = (self.masks * inside).flatten(1).sum(1) / inside.flatten(1).sum(1).clamp_min(1)
        return bool((mean >= self.certain).all())

    def moments(self) -> list[Moment]:
        """What the next read sees, oldest first: the stored frames, and the last one unless only the first counts."""
        stored = self.memory.moments
        if self.last is None or self.last in stored:
            return list(stored)
        return [*stored, self.last]

    def _read(self, query: Query) -> Tensor:
        """``float [O, Cv, h, w]``. Objects that came later have fewer frames to look at, so they are read apart."""
        moments, parts, begin = self.moments(), [], 0
        while begin < len(self.objects):
            mine = [m for m in moments if len(m.key) > begin]
            end = min(len(m.key) for m in mine)  # objects begin..end-1 are in all of `mine`
            keys = torch.stack([m.key[begin:end] for m in mine], 2)
            values = torch.stack([m.value[begin:end] for m in mine], 2)
            q = query.key.expand(end - begin, -1, -1, -1)
            if self.policy == "least used" and self.limit is not None:
                self._count(attention(q, keys, self.network.penalty), mine)
            parts.append(read(q, keys, values, self.network.penalty))
            begin = end
        return torch.cat(parts)

    @staticmethod
    def _count(weights: Tensor, moments: list[Moment]) -> None:
        """Write down how much of the attention ``[n, T*h*w, h*w]`` each frame got."""
        mass = weights.unflatten(1, (len(moments), -1)).sum((0, 2, 3))
        for moment, share in zip(moments, mass.tolist(), strict=True):
            moment.used += share
            moment.asked += len(weights)

    # ------------------------------------------------------------------------------------------ looking inside

    def inspect(self) -> dict[str, Any]:
        """What the last step compared: for a widget, or for :func:`attention`.

        ``times`` (frame numbers in memory), ``query_key [Ck, h, w]``, ``memory_key [O, Ck, T, h, w]`` and
        ``penalty``; only frames in which all objects were known.

        Raises:
            TutorialError: before the first step.
        """
        query, moments = self._asked()
        keys = torch.stack([m.key for m in moments], 2)
        return {
            "times": [m.time for m in moments],
            "query_key": query.key[0],
            "memory_key": keys,
            "penalty": self.network.penalty,
        }

    @torch.no_grad()
    def again(self, keep: Sequence[int] | None = None, temperature: float = 1.0, top_k: int | None = None) -> Tensor:
        """Decode the last frame once more, from a part of the memory: probabilities ``float [O+1, H, W]``.

        Args:
            keep: which of ``inspect()["times"]``'s entries to read, by position; all by default.
            temperature: see :func:`attention`.
            top_k: see :func:`attention`.

        Raises:
            TutorialError: before the first step, if nothing is kept, or as :func:`attention`.
        """
        query, moments = self._asked()
        chosen = [moments[i] for i in keep] if keep is not None else moments
        if not chosen:
            raise TutorialError("nothing is left in the memory; keep at least one frame.")
        keys, values = (torch.stack([getattr(m, kind) for m in chosen], 2) for kind in ("key", "value"))
        n = keys.shape[0]
        weights = attention(query.key.expand(n, -1, -1, -1), keys, self.network.penalty, temperature, top_k)
        found = (values.flatten(2) @ weights).unflatten(2, query.key.shape[-2:])
        logits = self.network.decode(found, query, everyone(n, found.device))
        return soft_aggregate(logits.float().softmax(1)[:, 1])

    def _asked(self) -> tuple[Query, list[Moment]]:
        if self.query is None:
            raise TutorialError("nothing was read yet; call step() first.")
        moments = self.moments()
        known = max(len(m.key) for m in moments)  # not the objects introduced since
        return self.query, [m for m in moments if len(m.key) == known]


def segmenter(network: STM, **options: Any) -> STMSegmenter:
    """A segmenter; the options are :class:`STMSegmenter`'s."""
    return STMSegmenter(network, **options)
