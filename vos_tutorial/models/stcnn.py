"""STCNN: what a network learned by predicting the next frame helps another one to segment this frame.

Xu, Wen, Li, Bo, Huang: "Spatiotemporal CNN for Video Object Segmentation", CVPR 2019. A generator
(``frame_prediction.py``) learns motion from video that no one labelled. A segmenter looks at the current frame, coarse
to fine, and at each of three scales takes in the generator's map of that scale. No mask ever enters the network: which
object is meant is in its weights, which are tuned to frame 0 of each video, and in a gate around the last mask.
In this order: the spatial half, the join, training in four stages, a segmenter. Details follow the authors' code.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import TutorialError
from .backbones import Normalised
from .frame_prediction import (
    RESNET101,
    SMALL,
    Body,
    Discriminator,
    Encoder,
    Generator,
    Norm,
    Prediction,
    SmallDiscriminator,
    crop_like,
    paper_generator,
    paper_judge,
    small_generator,
    target_like,
)
from .weights import require_fit

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
            pooled = F.adaptive_avg_pool2d(x, bins)
            if linear(branch[1]):  # then the enlargement may as well come after it, and there is little to convolve
                found.append(F.relu(resize(branch[1](branch[0](pooled)), x)))
            else:
                found.append(branch(resize(pooled, x)))
        return self.last(torch.cat(found, 1))


def linear(norm: nn.Module) -> bool:
    """Whether a normalisation only scales and shifts, by numbers that do not depend on what comes in."""
    return isinstance(norm, nn.Identity) or (isinstance(norm, nn.BatchNorm2d) and not norm.training)


class Gate(nn.Module):
    """Attention: refine where the coarser scale saw the object, leave the rest as it is.

    ``y = x + m * block(x)`` with two 3x3 convolutions, each after a normalisation and a ReLU. Nothing is compared with
    anything: the attention is the coarser scale's own probability.
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
        return crop_like(deconv(without_margin(x, lateral)), lateral)
    return resize(deconv(x)[..., 1:-1, 1:-1], lateral)  # [1:-1]: exactly twice the size


def without_margin(x: Tensor, like: Tensor) -> Tensor:
    """``x`` without the cells that a 4x4 transposed convolution of stride 2, and then a cut, would only compute to drop.

    The cut takes ``spare`` rows, half of them above. With ``k`` cells fewer on each side the doubled map is ``4k`` rows
    smaller, and two more on each side are wrong, since the kernel reaches so far: they must lie in what is cut.
    """
    for axis in (-2, -1):
        size = x.shape[axis]
        spare = 2 * size + 2 - like.shape[axis]
        k = max(0, (spare // 2 - 2) // 2)
        x = x.narrow(axis, k, size - 2 * k)
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
        f = top = self.pyramid(maps[3])
        scores, refined = [self.heads[3](f)], {}
        for i in (2, 1, 0):
            lateral = self.laterals[i](maps[i])
            deconv = self.ups[i]
            assert isinstance(deconv, nn.ConvTranspose2d)
            f = step_down(deconv, f, lateral, self.top_down) + lateral
            attention = resize(scores[-1], lateral).sigmoid() if self.attention else None
            refined[i] = self.gates[i](self._join(i, f, features), attention)
            if i > 0 or sides:
                scores.append(self.heads[i](refined[i]))
        parts = [refined[0], refined[1], refined[2], top]
        final = self.last(torch.cat([resize(part, refined[0]) for part in parts], 1))
        return [*scores, final] if sides else [final]

    def _join(self, i: int, f: Tensor, features: Sequence[Tensor] | None) -> Tensor:
        """The top-down path's map and the temporal one of the same level; the path itself goes on without time."""
        if features is None and self.alone is not None:
            return self.alone[i](f)
        if self.joins is None:
            raise TutorialError("this network has no temporal branch; build it with temporal=True.")
        if features is None:
            time = f.new_zeros(f.shape[0], self.temporal[2 - i], *f.shape[-2:])
        else:
            # The coarsest temporal map is half as large as the spatial one, the others differ by a row at the most.
            time = features[2 - i]
            time = resize(time, f) if i == 2 else crop_like(time, f)
        return self.joins[i](torch.cat([f, time], 1))


# ---------------------------------------------------------------------------------------------------------- network


class Balance(nn.Module):
    """Which of the two players learns: the margin rule, as two switches that checkpoints keep.

    A discriminator that errs little stops, so that the generator can catch up; a generator that fools it stops as
    well; when both stand still, both go on.
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
            margin: the discriminator stops if either error is below it, the generator if either is above one minus it.
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
    prediction: Prediction | None
    """What the generator expected, from the frames before."""


class STCNN(nn.Module):
    """Both halves; of the parts that are None, the network is without.

    Args:
        generator: the temporal branch.
        encoder: the spatial branch's, dilated.
        decoder: see :class:`SegmentationDecoder`.
        discriminator: only training has a use for it.
        detach: keep the gradient of the masks out of the generator, as the released code does.
    """

    def __init__(
        self,
        generator: Generator | None,
        encoder: Encoder,
        decoder: SegmentationDecoder,
        discriminator: Discriminator | None = None,
        detach: bool = True,
    ) -> None:
        super().__init__()
        self.generator, self.discriminator, self.detach = generator, discriminator, detach
        self.normalise = Normalised()
        self.encoder, self.decoder = encoder, decoder
        self.balance = Balance() if discriminator is not None else None
        self._frozen = False

    @property
    def delta(self) -> int:
        """How many past frames it sees."""
        return self.generator.delta if self.generator is not None else 0

    def forward(self, frame: Tensor, window: Tensor | None, sides: bool = True) -> Answer:
        """Segment a frame.

        Args:
            frame: ``float [B, 3, H, W]`` in [0, 1]: the current one. The generator does not see it.
            window: ``float [B, delta, 3, H, W]`` in [0, 1], the frames before, oldest first; None: ask the spatial
                half alone.
            sides: see :class:`SegmentationDecoder`.
        """
        prediction = features = None
        if window is not None and self.generator is not None:
            prediction = self.generator(window)
            features = [d.detach() if self.detach else d for d in prediction.features]
        scores = self.decoder(self.encoder(self.normalise(frame)), features, sides)
        return Answer(torch.cat([resize(s, frame) for s in scores], 1), prediction)

    def freeze_norm(self) -> None:
        """From now on the spatial half's batch norm keeps its statistics; its scales and shifts learn on."""
        self._frozen = True
        self.train(self.training)

    def train(self, mode: bool = True) -> STCNN:
        """As always, but frozen batch norm stays frozen."""
        super().train(mode)
        if self._frozen:
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

    Raises:
        TutorialError: on an unknown size or top-down path, or a delta below 1.
    """
    if size not in ("small", "paper"):
        raise TutorialError(f"there is no size {size!r} of stcnn; choose small or paper.")
    body: Body = SMALL if size == "small" else RESNET101
    generator = None
    if temporal and size == "small":
        generator = small_generator(delta, relu if relu is not None else True)
    elif temporal:
        generator = paper_generator(delta, relu if relu is not None else False, stride_first)
    decoder = SegmentationDecoder(
        body.channels,
        generator.widths if generator is not None else None,
        width if size == "small" else 256,
        body.norm,
        alone=scaffold,
        top_down=top_down if top_down is not None else "resize" if size == "small" else "deconv_crop",
        attention=attention,
    )
    encoder = Encoder(body, 3, dilated=True, stride_first=stride_first)
    discriminator = None
    if scaffold and temporal:
        discriminator = Discriminator(SmallDiscriminator() if size == "small" else paper_judge())
    return STCNN(generator, encoder, decoder, discriminator, detach)
