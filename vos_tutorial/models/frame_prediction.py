"""The temporal half of STCNN: a generator that predicts the next frame, and the discriminator that it plays against.

Xu, Wen, Li, Bo, Huang: "Spatiotemporal CNN for Video Object Segmentation", CVPR 2019. To paint the next frame from
the last few, a network must know what is there and how it moves, and it needs no labels to learn that. The maps of
its decoder are what the segmenter (``stcnn.py``) takes over. In this order: a bottleneck and the encoder made of it
(which the spatial half shares), the decoder, the generator, the discriminator. Details follow the authors' code.
Axes: B samples, C channels, H and W pixels, h and w cells.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models import Inception3, Inception_V3_Weights, ResNet101_Weights, inception_v3

from ..errors import TutorialError
from .backbones import imagenet_weights
from .layers import group_norm

Norm = Callable[[int], nn.Module]

Upsample = Literal["deconv", "resize"]
"""How a decoder doubles a map: by a transposed convolution, as published, or by resizing it and convolving it then,
which treats all cells alike (Odena, Dumoulin, Olah: "Deconvolution and Checkerboard Artifacts", Distill 2016). Both
begin as the same bilinear interpolation; only the first can learn a pattern that repeats every two cells."""

# ------------------------------------------------------------------------------------------------------- encoder


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions and a shortcut: ``[B, C_in, H, W] -> [B, C_out, H/stride, W/stride]``.

    Args:
        into: channels that come in.
        width: channels inside.
        out: channels that go out.
        stride: of the block.
        dilation: of the 3x3 convolution.
        norm: makes a normalisation for so many channels.
        stride_first: the stride sits on the first convolution, as in the authors' code; torchvision's networks, and
            with them its weights, have it on the 3x3 one.
    """

    def __init__(
        self,
        into: int,
        width: int,
        out: int,
        stride: int = 1,
        dilation: int = 1,
        norm: Norm = nn.BatchNorm2d,
        stride_first: bool = True,
    ) -> None:
        super().__init__()
        self.stride, self.stride_first = stride, stride_first
        self.conv1 = nn.Conv2d(into, width, 1, bias=False)
        self.norm1 = norm(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1 if stride_first else stride, dilation, dilation, bias=False)
        self.norm2 = norm(width)
        self.conv3 = nn.Conv2d(width, out, 1, bias=False)
        self.norm3 = norm(out)
        same = stride == 1 and into == out
        self.shortcut = nn.Identity() if same else nn.Sequential(nn.Conv2d(into, out, 1, bias=False), norm(out))

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        # Strided here, not in the 1x1 convolutions: with less than 8 channels their gradient writes past the end of a
        # buffer on CPUs that have AVX2 only (oneDNN's issue 6035; see layers.ResidualBlock).
        kept = x[:, :, :: self.stride, :: self.stride]  # [B, into, H/stride, W/stride]
        y = F.relu(self.norm1(self.conv1(kept if self.stride_first else x)))
        y = F.relu(self.norm2(self.conv2(y)))  # [B, width, H/stride, W/stride]
        return F.relu(self.norm3(self.conv3(y)) + self.shortcut(kept))  # [B, out, H/stride, W/stride]


@dataclass(frozen=True)
class Body:
    """The numbers of an encoder.

    Attributes:
        stem: channels of the first convolution.
        pool: whether a max-pool follows it; with it the maps lie at 1/4, 1/8, 1/16 and 1/32, else at twice that.
        widths: channels inside the bottlenecks of the four stages.
        channels: of the maps.
        blocks: bottlenecks a stage.
        norm: see :class:`Bottleneck`.
    """

    stem: int
    pool: bool
    widths: tuple[int, int, int, int]
    channels: tuple[int, int, int, int]
    blocks: tuple[int, int, int, int]
    norm: Norm


RESNET101 = Body(64, True, (64, 128, 256, 512), (256, 512, 1024, 2048), (3, 4, 23, 3), nn.BatchNorm2d)
SMALL = Body(24, False, (24, 24, 32, 32), (24, 48, 64, 64), (1, 1, 1, 1), group_norm)

MULTI_GRID = (1, 2, 1)  # how the dilations within the last stage differ


class BottleneckEncoder(nn.Module):
    """A residual network in four stages: ``[B, C, H, W]`` -> four maps, finest first.

    Args:
        body: its numbers.
        into: channels that come in.
        dilated: the last two stages keep the resolution and dilate instead, and the max-pool rounds up; so the
            spatial branch has it.
        stride_first: see :class:`Bottleneck`.
    """

    def __init__(self, body: Body, into: int, dilated: bool = False, stride_first: bool = True) -> None:
        super().__init__()
        self.body, self.dilated = body, dilated
        self.conv1 = nn.Conv2d(into, body.stem, 7, 2, 3, bias=False)
        self.norm1 = body.norm(body.stem)
        stages, channels = [], body.stem
        for i, (width, out, blocks) in enumerate(zip(body.widths, body.channels, body.blocks, strict=True)):
            stride = 1 if i == 0 or (dilated and i >= 2) else 2
            stage = []
            for n in range(blocks):
                dilation = 1
                if dilated and i >= 2:
                    dilation = 2 * (MULTI_GRID[n % 3] if i == 3 else 1)
                stage.append(
                    Bottleneck(channels, width, out, stride if n == 0 else 1, dilation, body.norm, stride_first)
                )
                channels = out
            stages.append(nn.Sequential(*stage))
        self.layers = nn.ModuleList(stages)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> list[Tensor]:
        """See the class."""
        x = F.relu(self.norm1(self.conv1(x)))  # [B, stem, H/2, W/2]
        if self.body.pool:
            x = F.max_pool2d(x, 3, 2, 1, ceil_mode=self.dilated)  # [B, stem, H/4, W/4]
        maps = []
        for layer in self.layers:
            x = layer(x)  # [B, channels, h, w]; half the size after the first, and the dilated ones keep it
            maps.append(x)
        return maps

    def load_imagenet(self) -> None:
        """Fetch torchvision's ResNet-101 (about 170 MB, once); several frames repeat the filters of the colours.

        Raises:
            NotFetched: if the weights are neither cached nor to be had.
            RuntimeError: if this is not a ResNet-101.
        """
        theirs = imagenet_weights(ResNet101_Weights.DEFAULT)
        filters = theirs["conv1.weight"]
        state = {"conv1.weight": filters.repeat(1, self.conv1.in_channels // filters.shape[1], 1, 1)}
        for name, value in theirs.items():
            if name.startswith("layer"):
                state[f"layers.{int(name[5]) - 1}.{ours(name[7:])}"] = value
            elif name.startswith("bn1."):
                state[ours(name)] = value
        self.load_state_dict(state)


def ours(name: str) -> str:
    """Our name of a tensor inside torchvision's, and the authors', bottlenecks."""
    return name.replace("bn", "norm").replace("downsample", "shortcut")


# ------------------------------------------------------------------------------------------------------- decoder


def crop_like(x: Tensor, like: Tensor) -> Tensor:
    """Cut, or fill with zeros, around the centre until ``x [B, C, H, W]`` is as high and wide as ``like``.

    An odd row or column is added above and left, and cut off below and right.
    """
    down, right = (b - a for a, b in zip(x.shape[-2:], like.shape[-2:], strict=True))
    if not (down or right):
        return x
    return F.pad(x, (-(-right // 2), right // 2, -(-down // 2), down // 2))


def bilinear_kernel(size: int) -> Tensor:
    """The tent ``float [size, size]`` that a transposed convolution of stride ``size / 2`` interpolates with."""
    line = 1 - (torch.arange(size) - (size - 1) / 2).abs() / (size / 2)
    return line[:, None] * line


class Enlarge(nn.Module):
    """A 3x3 convolution, and twice the resolution: ``[B, C_in, h, w] -> [B, C_out, 2h, 2w]``, cut or filled to fit.

    Args:
        into: channels that come in.
        out: channels that go out.
        norm: see :class:`Bottleneck`.
        upsample: see :data:`Upsample`.
    """

    def __init__(self, into: int, out: int, norm: Norm, upsample: Upsample = "deconv") -> None:
        super().__init__()
        self.upsample = upsample
        self.conv = nn.Conv2d(into, out, 3, padding=1)
        self.norm = norm(out)
        if upsample == "resize":
            self.after = nn.Conv2d(out, out, 3, padding=1, bias=False)
            nn.init.dirac_(self.after.weight)  # each channel is only resized, until it learns better
            return
        self.deconv = nn.ConvTranspose2d(out, out, 4, 2, bias=False)
        with torch.no_grad():  # each channel interpolates itself, until it learns better
            self.deconv.weight.zero_()
            self.deconv.weight[range(out), range(out)] = bilinear_kernel(4)

    def forward(self, x: Tensor, like: Tensor, relu: bool) -> Tensor:
        """``x [B, C_in, h, w]`` at the size of ``like``, with or without a ReLU before the enlargement."""
        x = self.norm(self.conv(x))  # [B, C_out, h, w]
        x = F.relu(x) if relu else x
        if self.upsample == "resize":
            return crop_like(self.after(F.interpolate(x, scale_factor=2, mode="bilinear")), like)  # 2h, 2w, as like
        return crop_like(self.deconv(x), like)  # 2h+2, 2w+2, then as like


class PredictedFrame(NamedTuple):
    """The next frame, and what the generator knew when it painted it."""

    frame: Tensor
    """``float [B, 3, h, w]`` in [-1, 1], at the resolution of the encoder's finest map."""
    features: tuple[Tensor, Tensor, Tensor]
    """Maps of the decoder, coarse to fine: at the resolutions of the encoder's third, second and first map."""


class Decoder(nn.Module):
    """Three enlargements, each joined by the encoder's map of its size, which two 1x1 convolutions make narrower.

    Args:
        channels: of the encoder's maps, finest first.
        widths: of the decoder's maps, coarse to fine.
        norm: see :class:`Bottleneck`.
        upsample: see :data:`Upsample`.
    """

    def __init__(
        self,
        channels: tuple[int, int, int, int],
        widths: tuple[int, int, int],
        norm: Norm,
        upsample: Upsample = "deconv",
    ) -> None:
        super().__init__()
        c1, c2, c3, c4 = channels
        self.squeeze = nn.ModuleList([nn.Conv2d(c4, c3, 1), nn.Conv2d(c3, c2, 1), nn.Conv2d(c2, c1, 1)])
        self.enlarge = nn.ModuleList(
            [
                Enlarge(c3, widths[0], norm, upsample),
                Enlarge(widths[0] + c2, widths[1], norm, upsample),
                Enlarge(widths[1] + c1, widths[2], norm, upsample),
            ]
        )
        self.paint = nn.Conv2d(widths[2], 3, 1)

    def forward(self, maps: list[Tensor], relu: bool) -> PredictedFrame:
        """From the encoder's maps, finest first; ``relu`` as in :class:`Enlarge`."""
        e1, e2, e3, e4 = maps
        d1 = self.enlarge[0](self.squeeze[0](e4), e3, relu)  # [B, widths[0], *e3]
        d2 = self.enlarge[1](torch.cat([d1, self.squeeze[1](e3)], 1), e2, relu)  # [B, widths[1], *e2]
        d3 = self.enlarge[2](torch.cat([d2, self.squeeze[2](e2)], 1), e1, relu)  # [B, widths[2], *e1]
        return PredictedFrame(torch.tanh(self.paint(d3)), (d1, d2, d3))  # [B, 3, *e1]


class Generator(nn.Module):
    """Past frames in, the next one out.

    Args:
        body: of the encoder.
        widths: of the decoder's maps, coarse to fine.
        delta: how many frames it sees; 4 in the paper.
        relu: whether the decoder has ReLUs. The authors' generator has them while it learns alone, and lost them in
            their joint network; the tensors are the same.
        stride_first: see :class:`Bottleneck`.
        upsample: see :data:`Upsample`.
    """

    def __init__(
        self,
        body: Body,
        widths: tuple[int, int, int],
        delta: int = 4,
        relu: bool = False,
        stride_first: bool = True,
        upsample: Upsample = "deconv",
    ) -> None:
        super().__init__()
        if delta < 1:
            raise TutorialError(f"delta is {delta}; a prediction needs at least 1 past frame.")
        self.delta, self.relu, self.widths = delta, relu, widths
        self.encoder = BottleneckEncoder(body, 3 * delta, stride_first=stride_first)
        self.decoder = Decoder(body.channels, widths, body.norm, upsample)

    def forward(self, window: Tensor) -> PredictedFrame:
        """Frames ``float [B, delta, 3, H, W]`` in [0, 1], oldest first."""
        if window.shape[1] != self.delta:
            raise TutorialError(f"the window holds {window.shape[1]} frames, but delta is {self.delta}.")
        stacked = to_tanh(window).flatten(1, 2)  # [B, 3*delta, H, W]
        prediction: PredictedFrame = self.decoder(self.encoder(stacked), self.relu)
        return prediction


def to_tanh(frame: Tensor) -> Tensor:
    """Colours in [0, 1] as tanh paints them, in [-1, 1]."""
    return frame * 2 - 1


def from_tanh(frame: Tensor) -> Tensor:
    """Back from :func:`to_tanh`."""
    return (frame + 1) / 2


def target_like(frame: Tensor, prediction: Tensor) -> Tensor:
    """The true frame ``float [B, 3, H, W]`` in [0, 1] at the size and in the range of a predicted one."""
    return to_tanh(F.interpolate(frame, prediction.shape[-2:], mode="bilinear", align_corners=True))


# -------------------------------------------------------------------------------------------------- discriminator


class SmallDiscriminator(nn.Module):
    """Three strided convolutions, the mean over all places, and a number: ``[B, 3, h, w] -> [B, 1]``."""

    def __init__(self, width: int = 24) -> None:
        super().__init__()
        widths = (3, width, 2 * width, 2 * width)
        self.convs = nn.ModuleList(nn.Conv2d(a, b, 4, 2, 1) for a, b in pairwise(widths))
        self.norms = nn.ModuleList(group_norm(b) for b in widths[2:])  # the first sees the colours as they are
        self.score = nn.Linear(widths[-1], 1)

    def forward(self, x: Tensor) -> Tensor:
        """See the class; the answer is a logit."""
        x = F.leaky_relu(self.convs[0](x), 0.2)  # [B, width, h/2, w/2]
        for conv, norm in zip(list(self.convs)[1:], self.norms, strict=True):
            x = F.leaky_relu(norm(conv(x)), 0.2)  # [B, 2*width, h/4, w/4], then h/8, w/8
        return self.score(x.mean((2, 3)))  # [B, 1]


class Discriminator(nn.Module):
    """Is a frame real, or painted? It sees one frame at the generator's resolution, and nothing of its past.

    Args:
        classifier: maps ``[B, 3, h, w]`` in [-1, 1] to logits ``[B, 1]``: Inception-v3 in the paper.
    """

    def __init__(self, classifier: SmallDiscriminator | Inception3) -> None:
        super().__init__()
        self.judge = classifier  # the name that its tensors have in every weights file

    def forward(self, frame: Tensor) -> Tensor:
        """The logit of "real" for each frame ``float [B, 3, h, w]`` in [-1, 1]: ``float [B]``.

        Raises:
            TutorialError: if the frame is too small for an Inception-v3, whose last maps are 32 times smaller.
        """
        if isinstance(self.judge, Inception3):
            alone = self.training and len(frame) == 1  # batch norm needs more than one value
            smallest = 107 if alone else 75
            if min(frame.shape[-2:]) < 75 or max(frame.shape[-2:]) < smallest:
                raise TutorialError(
                    f"the discriminator sees {len(frame)} frame(s) of {frame.shape[-2]}x{frame.shape[-1]} pixels, "
                    f"and needs {smallest}; use a stage size of {4 * smallest} or more, or a larger batch."
                )
        logit: Tensor = self.judge(frame)
        return logit[:, 0]  # [B]

    def load_imagenet(self) -> None:
        """Fetch torchvision's Inception-v3 (about 100 MB, once), its last layer apart.

        Raises:
            NotFetched: if the weights are neither cached nor to be had.
            RuntimeError: if this is not an Inception-v3.
        """
        theirs = imagenet_weights(Inception_V3_Weights.DEFAULT)
        state = {k: v for k, v in theirs.items() if not k.startswith(("AuxLogits.", "fc."))}
        state |= {k: v for k, v in self.judge.state_dict().items() if k.startswith("fc.")}
        self.judge.load_state_dict(state)


def small_generator(delta: int = 4, relu: bool = True, upsample: Upsample = "deconv") -> Generator:
    """A generator that learns on a laptop; the predicted frame has half of the resolution."""
    return Generator(SMALL, (64, 48, 24), delta, relu, upsample=upsample)


def paper_generator(
    delta: int = 4, relu: bool = False, stride_first: bool = True, upsample: Upsample = "deconv"
) -> Generator:
    """The authors' generator, 57,966,595 parameters; the predicted frame has a quarter of the resolution."""
    return Generator(RESNET101, (512, 256, 64), delta, relu, stride_first, upsample)


def small_discriminator() -> Discriminator:
    """A discriminator that learns on a laptop."""
    return Discriminator(SmallDiscriminator())


def paper_discriminator() -> Discriminator:
    """The authors' discriminator, 21,787,617 parameters. The smallest side that it takes is 75."""
    options = {"aux_logits": False, "transform_input": True, "init_weights": False, "num_classes": 1}
    return Discriminator(inception_v3(weights=None, **options))
