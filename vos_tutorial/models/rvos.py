"""RVOS: one recurrent cell on a grid, from object to object within a frame, and from frame to frame.

Ventura, Bellver, Girbau, Salvador, Marques, Giro-i-Nieto: "RVOS: End-to-End Recurrent Network for Video Object
Segmentation", CVPR 2019. An encoder sees each frame once. A decoder of convolutional LSTM cells then draws one mask
after the other: the hidden state of the object before it in the same frame says what is taken already (*space*), that
of the same object in the frame before says what it was following (*time*). The same network finds objects by itself
(*zero-shot*), or follows given ones, whose previous mask is one more input (*one-shot*).

In the order of the paper: the soft IoU (section 3.4); the cell with two incoming states (equations 1 to 4); the
encoder's heads and the decoder, coarse to fine (section 3.3); the grid, unrolled over time; inference. What it learns
from is in ``training/tasks/rvos.py``. Architecture, training and inference are those of the authors' code, which they
released in full. Axes: B samples, T frames, N slots, C channels, H and W pixels, h and w cells; M = N*B.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any, Literal, NamedTuple, get_args

import torch
import torch.nn.functional as F
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn

from ..door import FrameLike, as_float, as_frames
from ..errors import TutorialError
from ..objects import ObjectSegmenter, cleared, evaluating, replaced, with_room, without, without_graph
from ..propagation import Segmenter, soft_aggregate
from .backbones import LiteFeatures, ResNetEncoder, SmallEncoder, start_encoders
from .layers import group_norm
from .weights import start_with

Recurrence = Literal["ST", "S", "T", "T released"]
"""Which states are used: space and time, or one of them. Strict ``"T"`` has no state from the object before;
``"T released"`` is what the authors' code does instead: space as long as there is no memory, so in frame 0."""

# ---------------------------------------------------------------------------------------------------- soft IoU


def soft_iou_cost(probability: Tensor, target: Tensor) -> Tensor:
    """One minus the IoU, with probabilities in the place of decisions.

    Where the target is empty the numerator is 0 whatever the probabilities are: the cost is exactly 1, and its
    gradient exactly 0.

    Args:
        probability: ``float [..., H, W]`` in [0, 1].
        target: ``float [..., H, W]``, 0 or 1; the leading axes must broadcast.

    Returns:
        ``float [...]`` in [0, 1].
    """
    both = (probability * target).sum((-2, -1))  # [...]
    either = (probability + target - probability * target).sum((-2, -1))  # [...]
    return 1 - both / (either + 1e-6)


# ---------------------------------------------------------------------------------- one cell, two incoming states

State = tuple[Tensor, Tensor]
"""Hidden state h and cell state c of one level, both ``float [B, C, h, w]``."""


class ConvLSTMCell(nn.Module):
    """A convolutional LSTM cell with two incoming hidden states, but one cell state.

    From the object before it in the same frame come h and c (``spatial``), from the same object in the frame before
    only h (``temporal``): that one is an input like any other, no gate forgets it, and c never travels through time.

    Args:
        channels: of the input x.
        hidden: of h and c.
        mask: whether the object's previous mask is an input, as in one-shot networks.
        forget: what the forget gate's bias begins with; from 1 on a new cell keeps most of c (Gers et al., 2000).
    """

    def __init__(self, channels: int, hidden: int, mask: bool, forget: float | None = None) -> None:
        super().__init__()
        self.channels, self.hidden, self.mask = channels, hidden, mask
        self.gates = nn.Conv2d(channels + mask + 2 * hidden, 4 * hidden, 3, padding=1)
        if forget is not None:
            nn.init.constant_(self.gates.bias[hidden : 2 * hidden], forget)  # type: ignore[index]

    def forward(self, x: Tensor, mask: Tensor | None, spatial: State | None, temporal: Tensor | None) -> State:
        """One step.

        Args:
            x: ``float [B, channels, h, w]``.
            mask: ``float [B, 1, h, w]``, or None in a zero-shot network.
            spatial: state of the object before this one; None, for zeros, at the first object of a frame.
            temporal: ``float [B, hidden, h, w]``, h in the frame before; None, for zeros, in the first frame.

        Returns:
            h and c, each ``float [B, hidden, h, w]``.
        """
        zeros = x.new_zeros(len(x), self.hidden, *x.shape[-2:])  # [B, hidden, h, w]
        states = (spatial[0] if spatial is not None else zeros, temporal if temporal is not None else zeros)
        z = self.gates(torch.cat([x, *([mask] if mask is not None else []), *states], dim=1))  # [B, 4*hidden, h, w]
        return lstm(z, spatial[1] if spatial is not None else None)

    def kernels(self, above: int) -> Kernels:
        """The gate convolution's weights, split by input; the first ``above`` inputs are the coarser h."""
        sizes = [above, self.channels - above, int(self.mask), self.hidden, self.hidden]
        return Kernels(*self.gates.weight.split(sizes, dim=1))


class Kernels(NamedTuple):
    """A convolution of a concatenation is a sum of convolutions: the weights of each, ``[4*hidden, C, 3, 3]``."""

    above: Tensor
    """Of the same object's h one level coarser, enlarged."""
    skip: Tensor
    """Of the frame's map."""
    mask: Tensor
    """Of the object's previous mask; no channels in zero-shot networks."""
    space: Tensor
    """Of h of the object before."""
    time: Tensor
    """Of h in the frame before."""


def lstm(z: Tensor, c: Tensor | None) -> State:
    """Gates ``[B, 4*hidden, h, w]``, in the order input, forget, output, candidate, and the old c -> new h and c."""
    hidden = z.shape[1] // 4
    i, f, o = z[:, : 3 * hidden].sigmoid().chunk(3, dim=1)  # each [B, hidden, h, w]
    new = i * z[:, 3 * hidden :].tanh()  # [B, hidden, h, w]
    if c is not None:
        new = new + f * c
    return o * new.tanh(), new


# --------------------------------------------------------------------------- encoder heads, decoder, and the grid


class Head(nn.Module):
    """What the decoder gets of a map of the encoder: a 3x3 convolution and a normalisation, and no ReLU."""

    def __init__(self, channels: int, width: int, norm: Callable[[int], nn.Module]) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, width, 3, padding=1)
        self.norm = norm(width)

    def forward(self, x: Tensor) -> Tensor:
        """``[B, channels, h, w] -> [B, width, h, w]``."""
        y: Tensor = self.norm(self.conv(x))
        return y


class Skips(NamedTuple):
    """A frame, encoded once for all objects."""

    maps: list[Tensor]
    """``float [B, C, h, w]``, *coarse first*."""
    size: tuple[int, int]
    """H, W of the frame."""


HiddenStates = list[Tensor]
"""What a frame leaves to the next one: h of every slot, for each level ``float [B, N, C, h, w]``, coarse first."""


def enlarge(x: Tensor, size: tuple[int, ...] | torch.Size) -> Tensor:
    """Bilinear, the corners of both grids aligned: ``[B, C, h, w] -> [B, C, *size]``."""
    return F.interpolate(x, size, mode="bilinear", align_corners=True)


def mask_pyramid(masks: Tensor, strides: Sequence[int]) -> list[Tensor]:
    """The masks at each level, by max pooling, so that nothing small is lost.

    Pooling rounds sizes up, like the encoder's convolutions do. A size that no level has is left out (in the paper's
    network that is half the resolution).

    Args:
        masks: ``float [M, 1, H, W]``.
        strides: powers of two, in any order.

    Returns:
        ``float [M, 1, ceil(H/stride), ceil(W/stride)]`` for each stride, in their order.
    """
    found, stride, pooled = {}, 1, masks
    while stride < max(strides):
        pooled, stride = F.max_pool2d(pooled, 2, ceil_mode=True), 2 * stride  # [M, 1, ceil(h/2), ceil(w/2)]
        found[stride] = pooled
    return [found[stride] for stride in strides]


class RVOS(nn.Module):
    """Encoder, one cell for each of its maps, and a convolution that draws the mask; small and paper size alike.

    With a hidden size D the levels, coarse to fine, have D, D/2, D/4, D/8 hidden channels, and see D, D, D/2, D/4
    channels of the frame.

    Args:
        encoder: of frames, without mask channels.
        hidden: D; a multiple of 8.
        one_shot: whether the previous masks are an input.
        norm: makes the normalisation of the heads.
        least: no level has fewer hidden channels, nor sees fewer of the frame.
        sides: have what a training needs that judges each level, a convolution that draws a mask of h. Not the
            paper's.
        forget: what the forget gates' biases begin with, see :class:`ConvLSTMCell`; the paper's begin at random.
    """

    def __init__(
        self,
        encoder: ResNetEncoder | SmallEncoder | LiteFeatures,
        hidden: int = 128,
        one_shot: bool = True,
        norm: Callable[[int], nn.Module] = nn.BatchNorm2d,
        least: int = 1,
        sides: bool = False,
        forget: float | None = None,
    ) -> None:
        super().__init__()
        self.encoder, self.one_shot = encoder, one_shot
        self.strides = encoder.strides[::-1]
        levels = range(len(self.strides))
        self.hidden = [max(hidden >> k, least) for k in levels]
        widths = [max(hidden >> max(0, k - 1), least) for k in levels]
        self.heads = nn.ModuleList(Head(c, w, norm) for c, w in zip(encoder.channels[::-1], widths, strict=True))
        self.above = [0, *self.hidden[:-1]]  # channels of the coarser h, a cell's first inputs
        self.cells = nn.ModuleList(
            ConvLSTMCell(a + w, h, one_shot, forget) for a, w, h in zip(self.above, widths, self.hidden, strict=True)
        )
        self.predict = nn.Conv2d(self.hidden[-1], 1, 3, padding=1)
        self.sides = nn.ModuleList(nn.Conv2d(h, 1, 3, padding=1) for h in self.hidden[:-1]) if sides else None

    def encode(self, frame: Tensor) -> Skips:
        """Frames ``float [B, 3, H, W]`` in [0, 1], of any size -> maps for the decoder, coarse first."""
        maps = self.encoder(frame)  # [B, channels, h, w], finest first
        coarse_first = [head(x) for head, x in zip(self.heads, reversed(maps), strict=True)]  # [B, width, h, w]
        return Skips(coarse_first, (frame.shape[-2], frame.shape[-1]))

    def decode(
        self,
        skips: Skips,
        masks: Sequence[Tensor] | None,
        spatial: Sequence[State] | None,
        temporal: Sequence[Tensor] | None,
    ) -> tuple[Tensor, list[State]]:
        """One object of one frame: the paper's decoder, written as it is drawn. :meth:`frame` does the same faster.

        Args:
            skips: of the frame.
            masks: the object's previous mask at each level (:func:`mask_pyramid` with ``self.strides``), coarse first
                as all that follows; None in a zero-shot network.
            spatial: states of the object before, for each level; None for the first object.
            temporal: this object's h in the frame before, for each level; None in the first frame.

        Returns:
            the logit ``float [B, 1, h, w]`` at twice the resolution of the finest map, and the states (h, c).
        """
        states: list[State] = []
        for k, (cell, skip) in enumerate(zip(self.cells, skips.maps, strict=True)):
            # [B, above + width, h, w]: the coarser h at the size of this level, and the frame's map
            x = skip if k == 0 else torch.cat([enlarge(states[-1][0], skip.shape[-2:]), skip], dim=1)
            states.append(
                cell(
                    x,
                    masks[k] if masks is not None else None,
                    spatial[k] if spatial is not None else None,
                    temporal[k] if temporal is not None else None,
                )
            )
        return self._draw(states[-1][0]), states

    def _draw(self, h: Tensor) -> Tensor:
        """The finest h ``[M, C, h, w]`` -> logits ``[M, 1, 2h, 2w]``."""
        logit: Tensor = self.predict(enlarge(h, (2 * h.shape[-2], 2 * h.shape[-1])))  # [M, 1, 2h, 2w]
        return logit

    def frame(
        self,
        skips: Skips,
        masks: Tensor | None,
        memory: HiddenStates | None,
        slots: int,
        recurrence: Recurrence = "ST",
    ) -> tuple[Tensor, HiddenStates]:
        """One row of the grid: all objects of a frame, one after the other.

        The paper finishes an object before it begins the next. Here each level is finished for all objects before
        the next level begins, which no cell can notice. Most of a gate's sum is then known for all objects at once:
        what frame, coarser level, mask and memory contribute. Only the object before is left for the traversal.

        Args:
            skips: of the frame.
            masks: ``float [B, N, H, W]`` in [0, 1], the objects' previous masks; None in a zero-shot network.
            memory: of the frame before, or None.
            slots: N.
            recurrence: see :data:`Recurrence`.

        Returns:
            logits ``float [B, N, H, W]``, each object on its own, and the memory for the next frame.

        Raises:
            TutorialError: if masks are missing, or given to a zero-shot network.
        """
        self._require_masks(masks)
        temporal = None if recurrence == "S" else memory
        space = recurrence in ("ST", "S") or (recurrence == "T released" and temporal is None)
        # Slots and batch are one axis, M = N*B, slots first.
        flat = _slots_first(masks[:, :, None]) if masks is not None else None  # [M, 1, H, W]
        pyramid = mask_pyramid(flat, self.strides) if flat is not None else []  # [M, 1, h, w]
        new: list[Tensor] = []  # for each level h, float [M, C, h, w]
        for k, (cell, skip) in enumerate(zip(self.cells, skips.maps, strict=True)):
            assert isinstance(cell, ConvLSTMCell)
            kernel = cell.kernels(self.above[k])
            gates = F.conv2d(skip, kernel.skip, cell.gates.bias, padding=1)[None]  # [1, B, 4*C, h, w]
            inputs, weights = [], []
            if k > 0:
                inputs.append(enlarge(new[-1], skip.shape[-2:]))  # [M, above, h, w]
                weights.append(kernel.above)
            if pyramid:
                inputs.append(pyramid[k].to(gates.dtype))  # [M, 1, h, w]
                weights.append(kernel.mask)
            if temporal is not None:
                inputs.append(_slots_first(temporal[k]).to(gates.dtype))  # [M, C, h, w]
                weights.append(kernel.time)
            if inputs:
                own = F.conv2d(_cat(inputs, 1), _cat(weights, 1), padding=1)  # [M, 4*C, h, w]
                gates = gates + own.unflatten(0, (slots, -1))  # [N, B, 4*C, h, w]
            new.append(_traverse(gates.expand(slots, -1, -1, -1, -1), kernel.space if space else None))
        logits = enlarge(self._draw(new[-1]), skips.size)  # [M, 1, H, W]
        return _batch_first(logits, slots)[:, :, 0], [_batch_first(h, slots) for h in new]

    def _require_masks(self, masks: Tensor | None) -> None:
        if self.one_shot and masks is None:
            raise TutorialError("this RVOS is one-shot: it needs the objects' previous masks; give them.")
        if not self.one_shot and masks is not None:
            raise TutorialError(
                "this RVOS is zero-shot: its cells have no input for masks; leave them out, or build it with "
                "one_shot=True."
            )


def _traverse(gates: Tensor, kernel: Tensor | None) -> Tensor:
    """From object to object at one level: gates ``[N, B, 4*C, h, w]`` without space -> h, ``[N*B, C, h, w]``.

    ``kernel`` is for h of the object before; None cuts space. One object after the other then, too: the activations
    round differently in a larger batch, and slots with the same input should draw the same, to the last bit.
    """
    space = _cat([kernel], 1) if kernel is not None else None  # [4*C, C, 3, 3]
    state: State | None = None
    row = []
    for z in gates:  # [B, 4*C, h, w]
        if space is None or state is None:
            state = lstm(z, None)
        else:
            state = lstm(z + F.conv2d(state[0], space, padding=1), state[1])
        row.append(state[0])  # [B, C, h, w]
    return _cat(row, 0)


def _cat(parts: Sequence[Tensor], axis: int) -> Tensor:
    """``torch.cat`` of maps or kernels, with the channels last in memory: few channels are convolved faster so."""
    moved = torch.cat([part.movedim(1, -1) for part in parts], dim=-1 if axis == 1 else axis)  # [M, h, w, C]
    return moved.movedim(-1, 1)  # [M, C, h, w]


def _slots_first(x: Tensor) -> Tensor:
    """``[B, N, ...] -> [N*B, ...]``: the objects as a batch, so that those of one slot lie side by side."""
    return x.transpose(0, 1).flatten(0, 1)


def _batch_first(x: Tensor, slots: int) -> Tensor:
    """Undo :func:`_slots_first`."""
    return x.unflatten(0, (slots, -1)).transpose(0, 1)


# ------------------------------------------------------------------------------------------------------- roll-out


FED = ("truth", "own", "none")
"""Previous masks that a network in training can be fed: the true ones, its own probabilities, empty ones."""


class RolloutFrame(NamedTuple):
    """One frame of a roll-out."""

    logits: Tensor
    """``float [B, N, H, W]``."""
    probability: Tensor
    """``float [B, N, H, W]``, each object on its own."""
    hidden: HiddenStates
    """h of every cell; see :data:`HiddenStates`."""
    masks: Tensor | None
    """``float [B, N, H, W]``, the previous masks that were the input; None in zero-shot networks."""


def unroll(
    network: RVOS,
    frames: Tensor,
    masks0: Tensor | None,
    slots: int,
    recurrence: Recurrence = "ST",
    given: int = 2,
    truth: Tensor | None = None,
    forget: Collection[int] = (),
    fed: Tensor | None = None,
) -> Iterator[RolloutFrame]:
    """The whole grid, frame by frame.

    Args:
        network: one-shot or zero-shot.
        frames: ``float [B, T, 3, H, W]`` in [0, 1].
        masks0: the masks of frame 0, ``float [B, N, H, W]``; None for a zero-shot network.
        slots: N.
        recurrence: see :data:`Recurrence`.
        given: so many frames get ``masks0`` as previous masks. Frame 0 has none but its own; the authors give
            them to frame 1 as well at test time (2), but not when they train on their own predictions (1).
        truth: ``float [B, T, N, H, W]``: true masks are then the previous masks; without it these are the network's
            own probabilities, through which no gradient flows.
        forget: frames before which the memory is dropped.
        fed: ``long [B, T]``, of which frame t of a sample gets as previous masks, an index of :data:`FED`; by default
            always the first that there is.

    Raises:
        TutorialError: as :meth:`RVOS.frame`.
    """
    memory: HiddenStates | None = None
    previous, probability = masks0, frames.new_zeros(0)
    for t in range(frames.shape[1]):
        if t in forget:
            memory = None
        if masks0 is not None and t >= given:
            previous = truth[:, t - 1] if truth is not None else probability.detach()  # [B, N, H, W]
            if fed is not None:
                kinds = torch.stack([previous, probability.detach(), torch.zeros_like(previous)])  # [3, B, N, H, W]
                previous = kinds[fed[:, t], torch.arange(len(fed), device=fed.device)]  # [B, N, H, W]
        logits, memory = network.frame(network.encode(frames[:, t]), previous, memory, slots, recurrence)
        probability = logits.float().sigmoid()
        yield RolloutFrame(logits, probability, memory, previous)


def rollout(
    network: RVOS,
    frames: Tensor,
    masks0: Tensor | None,
    slots: int,
    recurrence: Recurrence = "ST",
    given: int = 2,
    truth: Tensor | None = None,
    forget: Collection[int] = (),
) -> Tensor:
    """The probabilities of :func:`unroll`, which has the same arguments: ``float [B, T, N, H, W]``."""
    row = unroll(network, frames, masks0, slots, recurrence, given, truth, forget)
    return torch.stack([frame.probability for frame in row], dim=1)  # [B, T, N, H, W]


# ------------------------------------------------------------------------------------------------------- building


def build(
    size: Literal["small", "paper"] = "small",
    one_shot: bool = True,
    hidden: int | None = None,
    width: int = 16,
    encoder: Literal["scratch", "imagenet"] = "scratch",
) -> RVOS:
    """An RVOS with random weights.

    Args:
        size: ``"paper"`` has a ResNet-101 with four stages, and 49,349,233 parameters in its one-shot form.
        one_shot: whether the previous masks are an input.
        hidden: channels of the coarsest hidden state, 128 in the paper, 32 in the small network, 64 in the one with
            an encoder from ImageNet.
        width: of the small encoder's finest map.
        encoder: of a small network: ``"scratch"``, or ``"imagenet"``, which :func:`start_from_imagenet` fills; its
            levels have at least 12 channels, convolutions that draw a mask each, and forget gates that begin open
            (see :class:`RVOS`).

    Raises:
        TutorialError: on an unknown size or encoder, at paper size with another encoder, or a hidden size that cannot
            be halved three times.
    """
    if encoder not in ("scratch", "imagenet") or (encoder == "imagenet" and size != "small"):
        raise TutorialError(f"there is no {size} rvos with encoder {encoder!r}; a small one has scratch or imagenet.")
    if size not in ("small", "paper"):
        raise TutorialError(f"there is no size {size!r} of rvos; choose small or paper.")
    usual = 128 if size == "paper" else 64 if encoder == "imagenet" else 32
    hidden = hidden if hidden is not None else usual
    if hidden < 8 or hidden % 8:
        raise TutorialError(f"the hidden size is {hidden}; it is halved three times, so use a multiple of 8.")
    if size == "paper":
        return RVOS(ResNetEncoder(depth=101, stages=4), hidden, one_shot)
    if encoder == "imagenet":
        return RVOS(LiteFeatures(), hidden, one_shot, group_norm, least=12, sides=True, forget=1.0)
    return RVOS(SmallEncoder(width=width, depth=4), hidden, one_shot, group_norm)


def start_from(network: RVOS, trained: RVOS) -> None:
    """Start where another network of the same size stands.

    A one-shot network can start from a zero-shot one: the weights of its masks are then zero.

    Raises:
        TutorialError: if the sizes differ, or a zero-shot network were to start from a one-shot one.
    """
    theirs = dict(trained.state_dict())
    if network.one_shot and not trained.one_shot:
        for k, cell in enumerate(trained.cells):
            assert isinstance(cell, ConvLSTMCell)
            weight, sizes = cell.gates.weight.detach(), [cell.channels, 2 * cell.hidden]
            before, after = weight.split(sizes, dim=1)  # [4*C, channels, 3, 3], [4*C, 2*C, 3, 3]
            theirs[f"cells.{k}.gates.weight"] = torch.cat([before, torch.zeros_like(before[:, :1]), after], dim=1)
    start_with(theirs, network)


def start_from_imagenet(network: RVOS) -> bool:
    """ImageNet weights for the encoder made for them; at paper size False, and a sentence, if none can be had.

    At paper size batch norm goes on learning, as in the authors' training.

    Raises:
        TutorialError: if the network has no such encoder, or the package with a small one's weights is missing.
    """
    if isinstance(network.encoder, LiteFeatures):
        network.encoder.load_imagenet()
        return True
    if not isinstance(network.encoder, ResNetEncoder):
        raise TutorialError(
            "this RVOS starts from random weights; build it with size='paper' or with encoder='imagenet'."
        )
    return start_encoders([network.encoder], freeze=False)


# ------------------------------------------------------------------------------------------------------ inference


def _require_recurrence(recurrence: str) -> None:
    if recurrence not in get_args(Recurrence):
        raise TutorialError(f"there is no recurrence {recurrence!r}; choose from {', '.join(get_args(Recurrence))}.")


class RVOSSegmenter(ObjectSegmenter):
    """Follow given objects: each has a slot, in the order of the ids, and its previous mask is fed back.

    Frame 0 is segmented, too, with the given masks as previous masks, for the sake of the hidden states; its answer
    is not used. Frame 1 gets the given masks again, and from frame 2 on the network's own probabilities come back (as
    in the authors' code). A later object gets the next slot: its frame is its frame 0. A correction works like that,
    too: the frame is segmented once more from the states before it, so that the corrected masks enter them.

    An object's state depends on the slots before it, not on those behind it. After :meth:`remove` the last frame is
    segmented once more without the object: those of earlier slots answer as if it had never been there, those of
    later ones had it in their states until the frame before (unless there is no space, with ``"T"``).

    The network segments every object on its own, so that two may claim a pixel, and what is fed back is left so. What
    :meth:`step` returns is made of it by soft aggregation (:func:`~vos_tutorial.propagation.soft_aggregate`); the
    authors decide at 0.5 instead, and let the object that fitted best on frame 0 win.

    Args:
        network: a trained one-shot :class:`RVOS`; it stays as it is.
        recurrence: should be the one it was trained with.

    Raises:
        TutorialError: if the network is zero-shot, or there is no such recurrence.
    """

    def __init__(self, network: RVOS, recurrence: Recurrence = "ST") -> None:
        if not network.one_shot:
            raise TutorialError("this RVOS is zero-shot and cannot be given masks; use ZeroShotSegmenter.")
        _require_recurrence(recurrence)
        super().__init__(network)
        self.network, self.recurrence = evaluating(network), recurrence

    def _start(self, frame: Tensor) -> None:
        self.before: HiddenStates | None = None  # of the frame before the last one
        self.memory: HiddenStates | None = None  # of the last one
        nothing = torch.zeros(0, *frame.shape[1:], device=frame.device)
        self.fed = nothing  # float32 [N, H, W], the previous masks that the last frame was given
        self.previous = nothing  # the next frame's
        self.alone = nothing  # the last frame's answers, each object by itself
        self.given: list[bool] = []  # whether an object's mask was given in the last frame

    def _add(self, frame: Tensor, masks: Tensor) -> None:
        """The frame is segmented once more, with the new slots at the end; the slots before them do not notice."""
        known, new = len(self.given), len(masks)
        self.given += [False] * new
        self.fed, self.previous = with_room(self.fed, new), with_room(self.previous, new)  # [N+n, H, W]
        if self.before is not None:  # a new object remembers nothing
            self.before = [with_room(h[0], new)[None] for h in self.before]  # [1, N+n, C, h, w]
        self._correct(frame, range(known, known + new), masks)

    def _correct(self, frame: Tensor, channels: Sequence[int], masks: Tensor) -> None:
        for channel in channels:
            self.given[channel] = True
        here = torch.tensor(self.given, device=frame.device)  # [N]; they lose what is given away of this frame
        self.fed = torch.where(here[:, None, None], replaced(self.fed, channels, masks), self.fed)
        self.previous = replaced(self.previous, channels, masks)
        self._look(self.network.encode(frame[None]))

    def _clear(self, channels: Sequence[int]) -> None:
        self.previous = cleared(self.previous, channels)

    def _remove(self, channel: int) -> None:
        del self.given[channel]
        self.fed, self.previous = without(self.fed, channel), without(self.previous, channel)  # [N-1, H, W]
        if self.before is not None:  # the slots behind it move up
            self.before = [without(h[0], channel)[None] for h in self.before]  # [1, N-1, C, h, w]
        self._look(self.skips)

    def _predict(self, frame: Tensor) -> Tensor:
        self.before, self.fed = self.memory, self.previous
        self.given = [False] * len(self.given)
        self._look(self.network.encode(frame[None]))
        self.previous = self.alone
        return soft_aggregate(self.alone)  # [N+1, H, W]

    def _look(self, skips: Skips) -> None:
        """Segment an encoded frame with the fed masks, from the states before it."""
        self.skips, masks = skips, self.fed  # of the last frame
        logits, self.memory = self.network.frame(skips, masks[None], self.before, len(masks), self.recurrence)
        self.alone = logits[0].float().sigmoid()  # [N, H, W]

    def inspect(self) -> dict[str, Any]:
        """What the last frame left behind.

        ``objects`` (ids in the order of the slots), ``hidden`` (h, for each level ``float [N, C, h, w]``, coarse
        first), ``masks`` (the previous masks that were the input) and ``alone`` (each object's probability by
        itself), both ``float32 [N, H, W]``.

        Raises:
            TutorialError: before ``begin``, and if no object is left.
        """
        if not self.objects or self.memory is None:
            raise TutorialError("no object is followed yet; call begin() first.")
        hidden = [h[0] for h in self.memory]  # [N, C, h, w]
        return {"objects": list(self.objects), "hidden": hidden, "masks": self.fed, "alone": self.alone}


def select(probability: Tensor, masks: Tensor) -> Tensor:
    """Which slots drew these masks: the choice with the best sum of IoUs, as in the authors' zero-shot evaluation.

    Args:
        probability: ``float [N, H, W]``, of all slots.
        masks: ``bool [K, H, W]``, K <= N.

    Returns:
        ``long [K]``, a slot for each mask.

    Raises:
        TutorialError: if there are more masks than slots.
    """
    decided = (probability > 0.5).to(probability.dtype)  # [N, H, W]
    cost = soft_iou_cost(decided[None], masks[:, None].to(probability.dtype))  # [K, N]
    if len(masks) > len(probability):
        raise TutorialError(f"{len(masks)} objects cannot be matched to {len(probability)} slots; use more slots.")
    return torch.from_numpy(linear_sum_assignment(cost.cpu().double().numpy())[1]).to(probability.device)


@without_graph
def discover(network: RVOS, frames: FrameLike, slots: int = 10, recurrence: Recurrence = "ST") -> Tensor:
    """What a zero-shot network finds by itself.

    Args:
        network: a trained zero-shot :class:`RVOS`; it stays as it is.
        frames: a clip ``[T, 3, H, W]``, see :func:`~vos_tutorial.door.as_frames`.
        slots: N, how many objects it draws.
        recurrence: should be the one it was trained with.

    Returns:
        ``float32 [T, N, H, W]``, the probability of each slot by itself; for ids take the argmax of their soft
        aggregation, and for a comparison with given masks :func:`select`.

    Raises:
        TutorialError: if the network is one-shot, there are no slots, or there is no such recurrence.
    """
    _require_recurrence(recurrence)
    if slots < 1:
        raise TutorialError(f"there are {slots} slots; use 1 or more.")
    if network.one_shot:
        raise TutorialError("this RVOS is one-shot and needs masks; only a zero-shot one can discover objects.")
    clip = as_float(as_frames(frames)).to(network.predict.weight)
    return rollout(evaluating(network), clip[None], None, slots, recurrence)[0]  # [T, N, H, W]


class ZeroShotSegmenter(ObjectSegmenter):
    """Score a zero-shot network like the others: the given masks say which of its slots count, and no more.

    The network draws all its slots by itself; the given masks of frame 0 choose those that fit best (:func:`select`),
    as in the authors' evaluation. Objects whose masks are given later, new or corrected ones, get the best of the
    slots that no other object has; a removed object's slot is free again, and the others keep theirs. No mask enters
    the network, so nothing else changes. Probabilities are merged by soft aggregation.

    Args:
        network: a trained zero-shot :class:`RVOS`; it stays as it is.
        slots: how many objects it draws; 10, as in the paper, by default at paper size, and 2 in small networks.
        recurrence: should be the one it was trained with.

    Raises:
        TutorialError: if the network is one-shot, there are no slots, or there is no such recurrence; from ``begin``
            and ``introduce``, if there are more objects than slots.
    """

    def __init__(self, network: RVOS, slots: int | None = None, recurrence: Recurrence = "ST") -> None:
        if network.one_shot:
            raise TutorialError("this RVOS is one-shot; use RVOSSegmenter.")
        _require_recurrence(recurrence)
        self.slots = slots if slots is not None else 10 if isinstance(network.encoder, ResNetEncoder) else 2
        if self.slots < 1:
            raise TutorialError(f"there are {self.slots} slots; use 1 or more.")
        super().__init__(network)
        self.network, self.recurrence = evaluating(network), recurrence

    def _start(self, frame: Tensor) -> None:
        self.memory: HiddenStates | None = None
        self.chosen: list[int] = []  # the slot of each object
        self.given: dict[
            int, Tensor
        ] = {}  # bool [H, W], by channel, of objects whose mask was given in the last frame
        self._look(frame)

    def _add(self, frame: Tensor, masks: Tensor) -> None:
        known, new = len(self.chosen), len(masks)
        if known + new > self.slots:
            raise TutorialError(f"{known + new} objects cannot be matched to {self.slots} slots; use more slots.")
        self.chosen += [-1] * new  # to be chosen
        self._correct(frame, range(known, known + new), masks)

    def _correct(self, frame: Tensor, channels: Sequence[int], masks: Tensor) -> None:
        kept = {o: mask & ~masks.any(0) for o, mask in self.given.items()}
        self.given = kept | dict(zip(channels, masks, strict=True))
        self._choose()

    def _clear(self, channels: Sequence[int]) -> None:
        """No mask enters the network, so an empty one changes nothing: the object keeps its slot."""

    def _choose(self) -> None:
        """All objects that were given in this frame are matched at once, out of the slots that the others leave."""
        taken = [slot for o, slot in enumerate(self.chosen) if o not in self.given]
        free = [slot for slot in range(self.slots) if slot not in taken]
        found = select(self.alone[free], torch.stack(list(self.given.values())))  # [K], of the masks [K, H, W]
        for o, slot in zip(self.given, found.tolist(), strict=True):
            self.chosen[o] = free[slot]

    def _remove(self, channel: int) -> None:
        del self.chosen[channel]
        self.given = {o - (o > channel): mask for o, mask in self.given.items() if o != channel}
        if self.given:
            self._choose()

    def _predict(self, frame: Tensor) -> Tensor:
        self.given = {}
        self._look(frame)
        return soft_aggregate(self.alone[self.chosen])  # [K+1, H, W]

    def _look(self, frame: Tensor) -> None:
        skips = self.network.encode(frame[None])
        logits, self.memory = self.network.frame(skips, None, self.memory, self.slots, self.recurrence)
        self.alone = logits[0].float().sigmoid()  # [N, H, W], all slots


def segmenter(network: RVOS, **options: Any) -> Segmenter:
    """A segmenter; the options are :class:`RVOSSegmenter`'s, or for zero-shot :class:`ZeroShotSegmenter`'s."""
    return RVOSSegmenter(network, **options) if network.one_shot else ZeroShotSegmenter(network, **options)
