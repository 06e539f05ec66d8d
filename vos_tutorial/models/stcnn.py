"""STCNN: what a network learned by predicting the next frame helps another one to segment this frame.

Xu, Wen, Li, Bo, Huang: "Spatiotemporal CNN for Video Object Segmentation", CVPR 2019. A generator
(``frame_prediction.py``) learns motion from video without labels. A segmenter looks at the current frame,
coarse to fine, and at each of three scales takes in the generator's map of that scale. No mask ever enters the
network: which object is meant is in its weights, which are tuned to frame 0 of each video, and in a gate around the
previous mask. In this order: the spatial half, the joint network, the segmentation loss, online tuning, inference.
Training in four stages is in ``training/tasks/stcnn.py``. Details follow the authors' code. Axes: B samples, N
outputs, O objects, C channels, H and W pixels, h and w cells.
"""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from itertools import count, islice
from typing import Any, Literal, NamedTuple, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..augment import lucid_dreams
from ..clip import VOID, object_ids
from ..door import FrameLike, MaskLike, as_frame, as_mask, require_same_size
from ..errors import TutorialError
from ..geometry import dilate
from ..objects import ObjectSegmenter, cleared, evaluating, replaced, with_room, without, without_graph
from ..propagation import soft_aggregate
from ..rng import Rng, Stream
from .backbones import LiteFeatures, Normalised, fetched
from .frame_prediction import (
    RESNET101,
    SMALL,
    Body,
    BottleneckEncoder,
    Discriminator,
    Generator,
    Norm,
    PredictedFrame,
    Upsample,
    crop_like,
    from_tanh,
    paper_discriminator,
    paper_generator,
    small_discriminator,
    small_generator,
    target_like,
)
from .layers import dice_loss
from .weights import start_with

TopDown = Literal["deconv_crop", "resize"]

# ---------------------------------------------------------------------------------------------- the spatial branch


def conv_norm_relu(into: int, out: int, kernel: int, norm: Norm) -> nn.Sequential:
    """A convolution that keeps the size, a normalisation, a ReLU."""
    return nn.Sequential(nn.Conv2d(into, out, kernel, padding=kernel // 2, bias=False), norm(out), nn.ReLU())


def resize(x: Tensor, like: Tensor) -> Tensor:
    """``x [B, C, h, w]`` at the height and width of ``like``, bilinear, pixels as areas."""
    same = x.shape[-2:] == like.shape[-2:]
    return x if same else F.interpolate(x, like.shape[-2:], mode="bilinear", align_corners=False)


class PyramidPooling(nn.Module):
    """Means over the whole map, over its quarters, ninths and 36ths, beside the map itself: ``C -> width``.

    Args:
        into: channels that come in.
        width: channels that go out; each of the four branches has twice as many.
        norm: see :class:`~vos_tutorial.models.frame_prediction.Bottleneck`.
    """

    bins = (1, 2, 3, 6)

    def __init__(self, into: int, width: int, norm: Norm) -> None:
        super().__init__()
        self.branches = nn.ModuleList(conv_norm_relu(into, 2 * width, 1, norm) for _ in self.bins)
        self.last = conv_norm_relu(into + len(self.bins) * 2 * width, width, 3, norm)

    def forward(self, x: Tensor) -> Tensor:
        """``[B, into, h, w] -> [B, width, h, w]``."""
        found = [x]
        for bins, branch in zip(self.bins, self.branches, strict=True):
            assert isinstance(branch, nn.Sequential)
            pooled = F.adaptive_avg_pool2d(x, bins)  # [B, into, bins, bins]
            if linear(branch[1]):  # then the enlargement may as well come after it, and there is little to convolve
                found.append(F.relu(resize(branch[1](branch[0](pooled)), x)))  # [B, 2*width, h, w]
            else:
                found.append(branch(resize(pooled, x)))
        return self.last(torch.cat(found, 1))  # [B, into + 8*width, h, w] -> [B, width, h, w]


def linear(norm: nn.Module) -> bool:
    """Whether a normalisation only scales and shifts, by numbers that do not depend on what comes in."""
    return isinstance(norm, nn.Identity) or (isinstance(norm, nn.BatchNorm2d) and not norm.training)


class Gate(nn.Module):
    """Attention: refine where the coarser scale saw the object, leave the rest as it is.

    ``y = x + m * block(x)`` with two 3x3 convolutions, each after a normalisation and a ReLU. Nothing is compared
    with anything: the attention is the coarser scale's own probability.
    """

    def __init__(self, width: int, norm: Norm) -> None:
        super().__init__()
        self.norm1 = norm(width)
        self.conv1 = nn.Conv2d(width, width, 3, padding=1)
        self.norm2 = norm(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """``x [B, width, h, w]``, ``mask [B, 1, h, w]`` in [0, 1]; without a mask everything is refined."""
        y = self.conv1(F.relu(self.norm1(x)))
        y = self.conv2(F.relu(self.norm2(y)))
        return x + y if mask is None else x + mask * y


def step_down(deconv: nn.ConvTranspose2d, x: Tensor, lateral: Tensor, how: TopDown) -> Tensor:
    """The top-down path's step: ``x [B, C, h, w]`` enlarged by a transposed convolution, at the size of ``lateral``.

    The encoder is dilated, so that two of the three laterals are as large as ``x`` itself. The released code
    (``"deconv_crop"``) doubles the size all the same and cuts the middle out: it zooms in, and puts the context where
    it does not belong. ``"resize"`` repairs that with the same weights: the doubled map is resized to the lateral.

    Args:
        deconv: 4x4 with stride 2.
        x: the coarser map.
        lateral: the encoder's map, with the size that is wanted.
        how: see above.
    """
    if how == "deconv_crop":
        return crop_like(deconv(without_margin(x, lateral)), lateral)  # [B, C, 2h+2, 2w+2], cut to lateral
    return resize(deconv(x)[..., 1:-1, 1:-1], lateral)  # [1:-1]: exactly twice the size, 2h, 2w; then as lateral


def without_margin(x: Tensor, like: Tensor) -> Tensor:
    """``x`` without the cells that a 4x4 transposed convolution of stride 2, and then a cut, would use in vain.

    The cut takes ``spare`` rows, half of them above. With ``k`` cells fewer on each side the doubled map is ``4k``
    rows smaller, and two more on each side are wrong, since the kernel reaches so far: they must lie in what is cut.
    """
    for axis in (-2, -1):
        size = x.shape[axis]
        spare = 2 * size + 2 - like.shape[axis]
        k = max(0, (spare // 2 - 2) // 2)
        x = x.narrow(axis, k, size - 2 * k)  # [B, C, h-2k, w], then [B, C, h-2k, w-2k]
    return x


class SegmentationDecoder(nn.Module):
    """From the maps of both halves to masks, coarse to fine.

    Levels count from the finest of the encoder's maps, 0, to the coarsest.

    Args:
        channels: of the encoder's four maps, finest first.
        temporal: channels of the generator's three maps, coarse to fine; None without a temporal branch.
        width: of everything inside; the paper's is 256.
        norm: see :class:`~vos_tutorial.models.frame_prediction.Bottleneck`.
        alone: have the joins of stage 2, in which no temporal map takes part.
        top_down: see :func:`step_down`.
        attention: whether the gates look at the coarser mask; else they refine everything.
    """

    def __init__(
        self,
        channels: Sequence[int],
        temporal: Sequence[int] | None,
        width: int,
        norm: Norm,
        alone: bool,
        top_down: TopDown,
        attention: bool,
    ) -> None:
        super().__init__()
        if top_down not in get_args(TopDown):
            raise TutorialError(
                f"there is no top-down path {top_down!r}; choose from {', '.join(get_args(TopDown))}."
            )
        self.top_down, self.attention = top_down, attention
        self.pyramid = PyramidPooling(channels[3], width, norm)
        self.laterals = nn.ModuleList(conv_norm_relu(c, width, 1, norm) for c in channels[:3])
        self.ups = nn.ModuleList(nn.ConvTranspose2d(width, width, 4, 2, bias=False) for _ in range(3))
        self.joins = self.alone = None
        if temporal is not None:
            self.joins = nn.ModuleList(conv_norm_relu(width + c, width, 3, norm) for c in reversed(temporal))
        if alone or temporal is None:
            self.alone = nn.ModuleList(conv_norm_relu(width, width, 3, norm) for _ in range(3))
        self.gates = nn.ModuleList(Gate(width, norm) for _ in range(3))
        self.heads = nn.ModuleList(
            nn.Sequential(conv_norm_relu(width, width, 3, norm), nn.Conv2d(width, 1, 1)) for _ in range(4)
        )
        self.last = nn.Sequential(conv_norm_relu(4 * width, width, 3, norm), nn.Conv2d(width, 1, 1))
        self.temporal = tuple(temporal) if temporal is not None else ()

    def forward(self, maps: Sequence[Tensor], features: Sequence[Tensor] | None, sides: bool = True) -> list[Tensor]:
        """Scores at the scales where they are made.

        Args:
            maps: ``[B, C, h, w]``, the encoder's, finest first.
            features: ``[B, C, h, w]``, the generator's, coarse to fine. None asks the spatial half alone: through the
                joins of stage 2 where there are some, else with zeros in place of the features.
            sides: False leaves the side outputs out that nothing depends on.

        Returns:
            ``[B, 1, h, w]``: from the pyramid, from levels 2, 1 and 0, and the final one; or the final one alone.
        """
        f = top = self.pyramid(maps[3])  # [B, width, h, w] of level 3
        scores, refined = [self.heads[3](f)], {}  # [B, 1, h, w]
        for i in (2, 1, 0):
            lateral = self.laterals[i](maps[i])  # [B, width, h, w] of level i, as all that follows
            deconv = self.ups[i]
            assert isinstance(deconv, nn.ConvTranspose2d)
            f = step_down(deconv, f, lateral, self.top_down) + lateral
            attention = resize(scores[-1], lateral).sigmoid() if self.attention else None  # [B, 1, h, w]
            refined[i] = self.gates[i](self._join(i, f, features), attention)
            if i > 0 or sides:
                scores.append(self.heads[i](refined[i]))  # [B, 1, h, w]
        parts = [resize(part, refined[0]) for part in (refined[0], refined[1], refined[2], top)]
        final = self.last(torch.cat(parts, 1))  # [B, 4*width, h, w] of level 0 -> [B, 1, h, w]
        return [*scores, final] if sides else [final]

    def _join(self, i: int, f: Tensor, features: Sequence[Tensor] | None) -> Tensor:
        """The top-down path's map and the temporal one of the same level; the path itself goes on without time."""
        if features is None and self.alone is not None:
            return self.alone[i](f)
        if self.joins is None:
            raise TutorialError("this network has no temporal branch; build it with temporal=True.")
        if features is None:
            time = f.new_zeros(f.shape[0], self.temporal[2 - i], *f.shape[-2:])  # [B, C, h, w]
        else:
            # The coarsest temporal map is half as large as the spatial one, the others differ by a row at the most.
            time = features[2 - i]
            time = resize(time, f) if i == 2 else crop_like(time, f)  # [B, C, h, w], as f
        return self.joins[i](torch.cat([f, time], 1))  # [B, width + C, h, w] -> [B, width, h, w]


# ---------------------------------------------------------------------------------------------------------- network


class Balance(nn.Module):
    """Which of the two players learns: the margin rule, as two switches that checkpoints keep.

    A discriminator that is rarely wrong stops, so that the generator can catch up; a generator that fools it stops as
    well; when both have stopped, both start again.
    """

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("generator", torch.tensor(True))
        self.register_buffer("discriminator", torch.tensor(True))

    def update(self, real: Tensor, fake: Tensor, margin: float) -> None:
        """After a step.

        Args:
            real: the discriminator's cross-entropy on real frames, ``float []``.
            fake: on painted ones.
            margin: the discriminator stops if either error is below it, the generator if either is above 1 minus it.
        """
        g, d = self.generator, self.discriminator
        assert isinstance(g, Tensor)
        assert isinstance(d, Tensor)
        errors = torch.stack([real, fake]).detach()
        d &= ~(errors < margin).any()
        g &= ~(errors > 1 - margin).any()
        stuck = ~(g | d)
        g |= stuck
        d |= stuck


class Answer(NamedTuple):
    """What the network says about a frame."""

    logits: Tensor
    """``float [B, N, H, W]``: four side outputs, coarse to fine, and the final one, last; or the final one alone."""
    prediction: PredictedFrame | None
    """What the generator expected, from the frames before."""


class STCNN(nn.Module):
    """Both halves; of the parts that are None, the network is without.

    Args:
        generator: the temporal branch.
        encoder: the spatial branch's: dilated, or one that is pretrained, normalises colours itself, and keeps what
            it knows while the rest is tuned to a video.
        decoder: see :class:`SegmentationDecoder`.
        discriminator: only training has a use for it.
        detach: keep the gradient of the masks out of the generator, as the released code does.
    """

    def __init__(
        self,
        generator: Generator | None,
        encoder: BottleneckEncoder | LiteFeatures,
        decoder: SegmentationDecoder,
        discriminator: Discriminator | None = None,
        detach: bool = True,
    ) -> None:
        super().__init__()
        self.generator, self.discriminator, self.detach = generator, discriminator, detach
        self.normalise = nn.Identity() if isinstance(encoder, LiteFeatures) else Normalised()
        self.encoder, self.decoder = encoder, decoder
        self.balance = Balance() if discriminator is not None else None
        self.frozen = False

    @property
    def delta(self) -> int:
        """How many past frames it sees."""
        return self.generator.delta if self.generator is not None else 0

    def forward(self, frame: Tensor, window: Tensor | None, sides: bool = True, detach: bool | None = None) -> Answer:
        """Segment a frame.

        Args:
            frame: ``float [B, 3, H, W]`` in [0, 1]: the current one. The generator does not see it.
            window: ``float [B, delta, 3, H, W]`` in [0, 1], the frames before, oldest first; None: ask the spatial
                half alone.
            sides: see :class:`SegmentationDecoder`.
            detach: see the class; the network's own by default.
        """
        prediction = self.generator(window) if window is not None and self.generator is not None else None
        return Answer(self.segment(frame, prediction, sides, detach), prediction)

    def segment(
        self, frame: Tensor, prediction: PredictedFrame | None, sides: bool = True, detach: bool | None = None
    ) -> Tensor:
        """The spatial half, and the join with what the generator knew; see :meth:`forward` and :class:`Answer`."""
        features = None
        if prediction is not None:
            detached = self.detach if detach is None else detach
            features = [d.detach() if detached else d for d in prediction.features]
        scores = self.decoder(self.encoder(self.normalise(frame)), features, sides)
        return torch.cat([resize(s, frame) for s in scores], 1)  # N of [B, 1, h, w] -> [B, N, H, W]

    def freeze_norm(self) -> None:
        """From now on the spatial half's batch norm keeps its statistics; its scales and shifts learn on."""
        self.frozen = True
        self.train(self.training)

    def train(self, mode: bool = True) -> STCNN:
        """As always, but frozen batch norm stays frozen."""
        super().train(mode)
        if self.frozen:
            for half in (self.encoder, self.decoder):
                for module in half.modules():
                    if isinstance(module, nn.BatchNorm2d):
                        module.eval()
        return self


def build(
    size: Literal["small", "paper"] = "small",
    temporal: bool = True,
    scaffold: bool = False,
    delta: int = 4,
    detach: bool = True,
    attention: bool = True,
    top_down: TopDown | None = None,
    relu: bool | None = None,
    stride_first: bool = True,
    width: int = 32,
    encoder: Literal["scratch", "imagenet"] = "scratch",
    upsample: Upsample = "deconv",
) -> STCNN:
    """An STCNN with random weights.

    Args:
        size: ``"paper"`` has two ResNet-101 and 129,662,792 parameters, without the scaffold.
        temporal: False leaves the temporal branch out: the network of the authors' second stage.
        scaffold: have what only training needs: the discriminator, and the joins of stage 2.
        delta: how many past frames the temporal branch sees.
        detach: see :class:`STCNN`.
        attention: see :class:`SegmentationDecoder`.
        top_down: see :func:`step_down`; by default as released at paper size, and repaired when small.
        relu: see :class:`~vos_tutorial.models.frame_prediction.Generator`; by default not at paper size.
        stride_first: see :class:`~vos_tutorial.models.frame_prediction.Bottleneck`; for the paper size.
        width: of the small decoder.
        encoder: of a small network's spatial branch: ``"scratch"``, or ``"imagenet"``, which
            :func:`start_from_imagenet` fills.
        upsample: how the generator doubles its maps, see :data:`~vos_tutorial.models.frame_prediction.Upsample`.

    Raises:
        TutorialError: on an unknown size, top-down path, encoder or way to double maps, at paper size with another
            encoder, or a delta below 1.
    """
    if encoder not in ("scratch", "imagenet") or (encoder == "imagenet" and size != "small"):
        raise TutorialError(
            f"there is no {size} stcnn with encoder {encoder!r}; a small one has scratch or imagenet."
        )
    if size not in ("small", "paper"):
        raise TutorialError(f"there is no size {size!r} of stcnn; choose small or paper.")
    if upsample not in get_args(Upsample):
        raise TutorialError(f"upsample cannot be {upsample!r}; choose {' or '.join(get_args(Upsample))}.")
    body: Body = SMALL if size == "small" else RESNET101
    generator = None
    if temporal and size == "small":
        generator = small_generator(delta, relu if relu is not None else True, upsample)
    elif temporal:
        generator = paper_generator(delta, relu if relu is not None else False, stride_first, upsample)
    lite = LiteFeatures() if encoder == "imagenet" else None
    decoder = SegmentationDecoder(
        lite.channels if lite is not None else body.channels,
        generator.widths if generator is not None else None,
        width if size == "small" else 256,
        body.norm,
        alone=scaffold,
        top_down=top_down if top_down is not None else "resize" if size == "small" else "deconv_crop",
        attention=attention,
    )
    spatial = lite if lite is not None else BottleneckEncoder(body, 3, dilated=True, stride_first=stride_first)
    discriminator = None
    if scaffold and temporal:
        discriminator = small_discriminator() if size == "small" else paper_discriminator()
    return STCNN(generator, spatial, decoder, discriminator, detach)


#: What one form of the network has and another may lack.
OPTIONAL = ("generator.", "discriminator.", "balance.", "decoder.joins.", "decoder.alone.")


def start_from(network: STCNN, trained: STCNN) -> None:
    """Start where another network of the same size stands: a joint network also from one of stage 2, or the reverse.

    Parts that only one of the two has are left alone.

    Raises:
        TutorialError: if the sizes differ.
    """
    theirs, mine = trained.state_dict(), network.state_dict()
    for part in OPTIONAL:
        here, there = ({k for k in state if k.startswith(part)} for state in (mine, theirs))
        if not (here and there):
            theirs = {k: v for k, v in theirs.items() if k not in there} | {k: mine[k] for k in here}
    start_with(theirs, network)


def start_from_imagenet(network: STCNN) -> bool:
    """ImageNet weights for what is made for them; at paper size False, and a sentence, if none can be had.

    At paper size these are all ResNets, whose batch norm is frozen then, and the discriminator. Build the network
    with ``stride_first=False``, for these weights were learned so.

    Raises:
        TutorialError: if the network has no such encoder, or the package with a small one's weights is missing.
    """
    if isinstance(network.encoder, LiteFeatures):
        network.encoder.load_imagenet()
        return True
    if network.encoder.body is not RESNET101:
        raise TutorialError(
            "this STCNN starts from random weights; build it with size='paper' or with encoder='imagenet'."
        )
    parts: list[BottleneckEncoder | Discriminator] = [network.encoder]
    if network.generator is not None:
        parts.append(network.generator.encoder)
    if network.discriminator is not None:
        parts.append(network.discriminator)
    if not fetched(*(part.load_imagenet for part in parts)):
        return False
    network.freeze_norm()
    return True


# ------------------------------------------------------------------------------------- the loss, and online tuning


def segmentation_loss(logits: Tensor, ids: Tensor, sides: float, dice: float = 0.0) -> Tensor:
    """Cross-entropy of the final output, and ``sides`` times that of each side output.

    Args:
        logits: ``float [B, N, H, W]``, the final ones last.
        ids: ``uint8 [B, H, W]``; all objects are foreground, 255 (void) does not count.
        sides: weight of each side output.
        dice: weight of a Dice loss of the final output.
    """
    counts = ids != VOID  # [B, H, W]
    target = (ids != 0) & counts  # [B, H, W]
    truth = target[:, None].expand_as(logits).float()  # [B, N, H, W]
    each = (
        F.binary_cross_entropy_with_logits(logits.float(), truth, reduction="none") * counts[:, None]
    )  # [B, N, H, W]
    mean = each.sum((0, 2, 3)) / counts.sum().clamp_min(1)  # [N]
    loss = mean[-1] + sides * mean[:-1].sum()
    if dice:
        loss = loss + dice * dice_loss(logits[:, -1].float().sigmoid() * counts, target)
    return loss


@without_graph
def fine_tune(
    network: STCNN,
    frame: FrameLike,
    mask: MaskLike,
    *,
    steps: int = 60,
    batch: int = 4,
    lr: float = 1e-3,
    dreams: int = 100,
    seed: int = 0,
) -> STCNN:
    """Teach a copy of the network which object is meant: stage 4, on lucid dreams of one annotated frame.

    Only the spatial branch learns, from the final output's cross-entropy; of one with an encoder from ImageNet only
    the decoder. The generator, whose tensors the copy
    shares, is shown each dream as a video in which nothing moves: its prediction there carries no motion.

    Args:
        network: stays as it is.
        frame: see :func:`~vos_tutorial.door.as_frame`.
        mask: ``[H, W]``, True or any id where the object is; see :func:`~vos_tutorial.door.as_mask`.
        steps: optimiser steps; 0 returns an unchanged copy. The authors take 600.
        batch: dreams a step; the authors take 1.
        lr: of AdamW; the authors use SGD with 1e-4 (see the recipe ``online``).
        dreams: how many different ones there are.
        seed: of the dreams.

    Returns:
        the copy, in eval mode and the network's precision; it learned in float32.

    Raises:
        TutorialError: if a number is out of range, or the mask is empty or of another size.
    """
    if steps < 0:
        raise TutorialError(f"fine-tuning takes {steps} steps; use 0 or more.")
    states = fine_tuning(network, frame, mask, batch=batch, lr=lr, dreams=dreams, seed=seed)
    tuned = next(islice(states, steps, None))
    dtype = next(network.decoder.parameters()).dtype
    for part in (tuned.normalise, tuned.encoder, tuned.decoder):
        part.to(dtype).requires_grad_(False)
    return tuned


def fine_tuning(
    network: STCNN,
    frame: FrameLike,
    mask: MaskLike,
    *,
    batch: int = 4,
    lr: float = 1e-3,
    dreams: int = 100,
    seed: int = 0,
) -> Iterator[STCNN]:
    """:func:`fine_tune` without an end: gives the one copy that learns, first as it began, then after each step.

    Arguments as there. The spatial half of the copy is float32, whatever the network's precision is, and learns
    outside of autocast and inference mode, whatever the caller uses.
    """
    if batch < 1 or dreams < 1 or lr <= 0:
        raise TutorialError(f"fine-tuning with batch={batch}, dreams={dreams}, lr={lr}; all of them must be above 0.")
    ids = as_mask(mask)
    require_same_size(ids, (picture := as_frame(frame)).shape[1:], frames="the frame is")
    if not object_ids(ids):
        raise TutorialError("the mask holds no object to tune the network to; give at least one pixel.")
    with torch.inference_mode(False):
        tuned = evaluating(network)
        tuned.normalise = copy.deepcopy(tuned.normalise).float()
        tuned.encoder, tuned.decoder = copy.deepcopy(tuned.encoder).float(), copy.deepcopy(tuned.decoder).float()
        pretrained = isinstance(tuned.encoder, LiteFeatures)
        learning = [*([] if pretrained else tuned.encoder.parameters()), *tuned.decoder.parameters()]
        for p in learning:
            p.requires_grad_(True)
        optimizer = torch.optim.AdamW(learning, lr=lr, weight_decay=0.0)
        device = next(network.decoder.parameters()).device
        picture = picture.detach().to(device, copy=True)
        shown = ((ids != 0) & (ids != VOID)).to(device, copy=True)
    for step in count():
        yield tuned
        rngs = [Rng(seed, Stream.DREAMS, (step * batch + i) % dreams) for i in range(batch)]
        with torch.inference_mode(False), torch.autocast(device.type, enabled=False):
            _tune_once(tuned, optimizer, *lucid_dreams(picture, shown, rngs))


def _tune_once(network: STCNN, optimizer: torch.optim.Optimizer, images: Tensor, masks: Tensor) -> None:
    """One step of the spatial half, on images ``float32 [B, 3, H, W]`` and masks ``bool [B, H, W]``."""
    prediction = None
    if network.generator is not None:
        window = images[:, None].expand(-1, network.delta, -1, -1, -1)  # [B, delta, 3, H, W]
        with torch.no_grad():
            prediction = network.generator(window.to(network.generator.encoder.conv1.weight.dtype))
        d1, d2, d3 = (d.float() for d in prediction.features)
        prediction = PredictedFrame(prediction.frame, (d1, d2, d3))
    with torch.enable_grad():
        logits = network.segment(images, prediction, sides=False)  # [B, 1, H, W]
        loss = segmentation_loss(logits, masks.to(torch.uint8), sides=0.0)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


# --------------------------------------------------------------------------------------------------------- inference


def gate_radius(height: int, width: int) -> int:
    """The reach of the motion gate: the authors' 40 pixels at 480p, in proportion at other sizes, at least 1."""
    return max(1, round(40 * min(height, width) / 480))


Start = Literal["released", "past"]
ONLINE = ("batch", "lr", "dreams", "seed")  # options of fine_tune that a segmenter passes on


class STCNNSegmenter(ObjectSegmenter):
    """One run per object: a network tuned to it, and a gate around its previous mask; the runs are merged afterwards.

    A correction replaces the mask, and with it the gate, and tunes the object's network again, on the corrected
    frame: it goes on from the network that the object had before this frame. Runs know nothing of each other, so
    after :meth:`remove` the other objects' own answers are those of a clip without it.

    Args:
        network: a trained :class:`STCNN`; it stays as it is.
        online_steps: steps of :func:`fine_tune` for each object; with 0 nothing tells objects apart but their gates.
        gate: pixels whose previous probability is above it pass on their neighbourhood; 0.4 in the authors' code.
            None switches the gate off.
        radius: of that neighbourhood, in pixels; by default :func:`gate_radius`.
        start: before there are enough past frames, the first one is repeated. The released code then lets the window
            end with the current frame (``"released"``), although training never did (``"past"``).
        online: more options of :func:`fine_tune`: ``batch``, ``lr``, ``dreams``, ``seed``.

    Raises:
        TutorialError: if an option is unknown or out of range.
    """

    def __init__(
        self,
        network: STCNN,
        online_steps: int = 0,
        gate: float | None = 0.4,
        radius: int | None = None,
        start: Start = "released",
        online: Mapping[str, Any] | None = None,
    ) -> None:
        if start not in get_args(Start):
            raise TutorialError(f"there is no start {start!r}; choose from {', '.join(get_args(Start))}.")
        if gate is not None and not 0 <= gate < 1:
            raise TutorialError(f"the gate is {gate}; use a probability in [0, 1), or None for no gate.")
        if online_steps < 0 or (radius is not None and radius < 0):
            raise TutorialError(f"online_steps is {online_steps}, radius is {radius}; neither can be negative.")
        unknown = [key for key in online or {} if key not in ONLINE]
        if unknown:
            raise TutorialError(f"online tuning has no option {unknown[0]!r}; choose from {', '.join(ONLINE)}.")
        super().__init__(network)
        self.network, self.online_steps, self.online = evaluating(network), online_steps, dict(online or {})
        self.gate, self.radius, self.start = gate, radius, start
        self.seen: dict[str, Any] = {}

    def _start(self, frame: Tensor) -> None:
        length = max(1, self.network.delta)
        self.past: deque[Tensor] = deque([frame.detach().clone()] * length, maxlen=length)  # the caller's may change
        self.time = 0
        self.networks: list[STCNN] = []  # one per object; all the same without online tuning
        self.before: list[STCNN] = []  # the same, before this frame's tuning
        self.masks = torch.zeros(0, *frame.shape[1:], device=frame.device)  # float32 [O, H, W], gated probabilities
        self.given: list[bool] = []  # whether an object's mask was given in the last frame
        self.seen = {}

    def _add(self, frame: Tensor, masks: Tensor) -> None:
        known, new = len(self.given), len(masks)
        self.given += [False] * new
        self.networks += [self.network] * new
        self.before += [self.network] * new
        self.masks = with_room(self.masks, new)  # [O+n, H, W]
        self._correct(frame, range(known, known + new), masks)

    def _correct(self, frame: Tensor, channels: Sequence[int], masks: Tensor) -> None:
        known, self.masks = self.masks, replaced(self.masks, channels, masks)
        for o, (old, new) in enumerate(zip(known, self.masks, strict=True)):
            robbed = self.given[o] and not torch.equal(old, new)  # it was tuned to pixels that are given away now
            if o in channels or (robbed and new.any()):
                self.networks[o] = self._tuned(self.before[o], frame, new > 0)
        for channel in channels:
            self.given[channel] = True

    def _clear(self, channels: Sequence[int]) -> None:
        self.masks = cleared(self.masks, channels)

    def _tuned(self, network: STCNN, frame: Tensor, mask: Tensor) -> STCNN:
        """The network tuned to an object, ``mask bool [H, W]``; the network itself without online steps."""
        steps = self.online_steps
        return fine_tune(network, frame, mask, steps=steps, **self.online) if steps else network

    def _remove(self, channel: int) -> None:
        for each in (self.given, self.networks, self.before):
            del each[channel]
        self.masks = without(self.masks, channel)  # [O-1, H, W]
        if self.seen and channel < len(self.seen["networks"]):
            networks = [*self.seen["networks"]]
            del networks[channel]
            alone, gates = (without(self.seen[name], channel) for name in ("alone", "gates"))
            self.seen |= {"networks": networks, "alone": alone, "gates": gates}

    def _predict(self, frame: Tensor) -> Tensor:
        self.time += 1
        frame = frame.detach().clone()  # it stays, and the caller's may change
        window = self._window(frame)
        generator = self.network.generator
        prediction = generator(window[None]) if generator is not None else None
        self.before, self.given = list(self.networks), [False] * len(self.given)
        alone = self._alone(self.networks, frame, prediction)
        gates = self._gates(frame)
        self.seen = {"frame": frame, "window": window, "prediction": prediction, "networks": list(self.networks)}
        self.seen |= {"alone": alone, "gates": gates}
        self.masks = alone * gates
        self.past.append(frame)
        return soft_aggregate(self.masks)  # [O+1, H, W]

    def _window(self, frame: Tensor) -> Tensor:
        """``float [delta, 3, H, W]``: what the generator is shown, oldest first."""
        past = list(self.past)
        if self.start == "released" and self.time < len(past):
            past = [*past[1:], frame]
        return torch.stack(past)

    def _alone(self, networks: Sequence[STCNN], frame: Tensor, prediction: PredictedFrame | None) -> Tensor:
        """What each object's own network sees: ``float32 [O, H, W]``; a network is asked once."""
        answers: dict[int, Tensor] = {}
        for network in networks:
            if id(network) not in answers:
                logits = network.segment(frame[None], prediction, sides=False)  # [1, 1, H, W]
                answers[id(network)] = logits[0, -1].float().sigmoid()  # [H, W]
        return torch.stack([answers[id(network)] for network in networks])  # [O, H, W]

    def _gates(self, frame: Tensor) -> Tensor:
        """Around each previous mask, ``bool [O, H, W]``; everywhere for an object whose previous mask is empty."""
        if self.gate is None:
            return torch.ones_like(self.masks, dtype=torch.bool)
        sure = self.masks > self.gate
        radius = self.radius if self.radius is not None else gate_radius(*frame.shape[-2:])
        return dilate(sure, radius) | ~sure.flatten(1).any(1)[:, None, None]

    @without_graph
    def inspect(self) -> dict[str, Any]:
        """What the last step saw, for a widget; the masks without time are computed for it.

        ``frame [3, H, W]`` and ``window [delta, 3, H, W]`` in [0, 1]; ``predicted [3, h, w]`` in [0, 1], the frame
        that the generator expected, or None; for each object ``masks``, ``ungated`` (what the network said before the
        gate) and ``without_time`` (what it says of the frame alone), ``float32 [O, H, W]``, and ``gates``,
        ``bool [O, H, W]``; ``scores``: how real the discriminator finds the frame and the predicted one, or None.

        Raises:
            TutorialError: before the first step, and if no object is left.
        """
        if not self.seen or not self.objects:
            raise TutorialError("nothing has been seen yet; call step() first.")
        frame, prediction = self.seen["frame"], self.seen["prediction"]
        scores = None
        discriminator = self.network.discriminator
        if discriminator is not None and prediction is not None:
            pair = torch.cat([target_like(frame[None], prediction.frame), prediction.frame])  # [2, 3, h, w]
            real, predicted = discriminator(pair).sigmoid().tolist()
            scores = {"real": real, "predicted": predicted}
        return {
            "frame": frame,
            "window": self.seen["window"],
            "predicted": from_tanh(prediction.frame[0]) if prediction is not None else None,
            "masks": self.seen["alone"] * self.seen["gates"],
            "ungated": self.seen["alone"],
            "without_time": self._alone(self.seen["networks"], frame, None),
            "gates": self.seen["gates"],
            "scores": scores,
        }


def segmenter(network: STCNN, **options: Any) -> STCNNSegmenter:
    """A segmenter; the options are :class:`STCNNSegmenter`'s."""
    return STCNNSegmenter(network, **options)
