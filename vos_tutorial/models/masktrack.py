"""MaskTrack: refine the previous frame's mask on this frame, frame after frame.

Perazzi, Khoreva, Benenson, Schiele, Sorkine-Hornung: "Learning Video Object Segmentation from Static Images",
CVPR 2017. A segmentation network gets a fourth input channel, the *guide*: a rough mask of the object that is
meant. It learns from single pictures to return the exact mask; in a video, the (dilated) answer for frame t-1 is
the guide for frame t. In the order of the paper: network (section 3.1), loss and training (3.1, 4), propagation
(3.1), online fine-tuning (3.2), boxes and flow (3.3).
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..augment import Corruption, corrupt, rotate_zoom_flip
from ..errors import TutorialError
from ..geometry import dilate, fill_boxes
from ..objects import ObjectSegmenter, cleared, evaluating, replaced, without
from ..options import Range
from ..propagation import most_probable, soft_aggregate
from ..resize import resize_frame
from ..rng import Rng
from .backbones import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    MaskedLiteEncoder,
    Normalised,
    SmallEncoder,
    fetched,
    imagenet_weights,
)
from .layers import ResidualBlock, enlarge, pad_to_multiple
from .weights import start_with

# ----------------------------------------------------------------------------------------------- network


class SmallUNet(nn.Module):
    """Our small body: four scales down to 1/16, and up again to 1/2; ``[B, 4, H, W] -> [B, 2, H/2, W/2]``.

    Args:
        width: channels at 1/2 resolution; each scale below has more.
    """

    stride = 16

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.encoder = SmallEncoder(extra=1, width=width, depth=4)
        c = self.encoder.channels
        self.lateral = nn.ModuleList([nn.Conv2d(c[i + 1], c[i], 1) for i in range(3)])
        self.up = nn.ModuleList([ResidualBlock(c[i], c[i]) for i in range(3)])
        self.logits = nn.Conv2d(c[0], 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Background and object scores at half resolution."""
        *skips, y = self.encoder.maps(x)  # [B, c0, H/2, W/2], [B, c1, H/4, W/4], ...; [B, c3, H/16, W/16]
        for i in (2, 1, 0):
            y = enlarge(self.lateral[i](y), 2)  # [B, ci, ...], as large as the skip
            y = self.up[i](y + skips[i])
        return self.logits(y)  # [B, 2, H/2, W/2]


class LiteUNet(nn.Module):
    """A small body that starts from ImageNet: ``[B, 4, H, W] -> [B, 2, H/2, W/2]``.

    Down with :class:`~vos_tutorial.models.backbones.MaskedLiteEncoder`, to 1/8, and up again with its finer maps, in
    each of which the guide is one more channel.

    Args:
        width: channels at 1/2 resolution.
    """

    stride = 8

    def __init__(self, width: int = 24) -> None:
        super().__init__()
        self.encoder = MaskedLiteEncoder(width)
        self.lateral = nn.ModuleList([nn.Conv2d(2 * width, width, 1), nn.Conv2d(4 * width, 2 * width, 1)])
        fine = zip(self.encoder.channels, (width, 2 * width), strict=False)
        self.skip = nn.ModuleList([nn.Conv2d(theirs, ours, 1) for theirs, ours in fine])
        self.up = nn.ModuleList([ResidualBlock(width, width), ResidualBlock(2 * width, 2 * width)])
        self.logits = nn.Conv2d(width, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Background and object scores at half resolution."""
        mean, std = (
            torch.tensor(v, dtype=x.dtype, device=x.device)[:, None, None] for v in (IMAGENET_MEAN, IMAGENET_STD)
        )
        # The encoder has a normalisation of its own.
        *fine, y = self.encoder(x[:, :3] * std + mean, x[:, 3:])  # [B, 4*width, H/8, W/8]
        for i in (1, 0):
            y = F.interpolate(self.lateral[i](y), fine[i].shape[-2:], mode="bilinear", align_corners=False)
            y = self.up[i](y + self.skip[i](fine[i]))  # [B, 2*width, H/4, W/4], then [B, width, H/2, W/2]
        return self.logits(y)


def _vgg_block(channels_in: int, channels: int, convs: int, dilation: int = 1) -> list[nn.Module]:
    layers: list[nn.Module] = []
    for i in range(convs):
        layers += [
            nn.Conv2d(channels_in if i == 0 else channels, channels, 3, padding=dilation, dilation=dilation),
            nn.ReLU(inplace=True),
        ]
    return layers


class DeepLabVGG16(nn.Module):
    """The paper's body, DeepLabv2 on VGG-16: ``[B, 4, H, W] -> [B, 2, H/8, W/8]``.

    The last two poolings keep the resolution and conv5 is dilated by 2 instead. The paper does not say which of
    DeepLabv2's heads it uses, so there are both: ``"aspp"`` sums four branches of rates 6, 12, 18 and 24
    (37,800,328 parameters in all), ``"largefov"`` has the one of rate 12 (20,486,530).
    """

    stride = 8

    def __init__(self, head: Literal["aspp", "largefov"] = "aspp") -> None:
        super().__init__()

        def pool(stride: int) -> nn.Module:
            return nn.MaxPool2d(3, stride, 1)

        self.features = nn.Sequential(
            *_vgg_block(4, 64, 2), pool(2),
            *_vgg_block(64, 128, 2), pool(2),
            *_vgg_block(128, 256, 3), pool(2),
            *_vgg_block(256, 512, 3), pool(1),
            *_vgg_block(512, 512, 3, dilation=2), pool(1),
        )  # fmt: skip
        rates = {"aspp": (6, 12, 18, 24), "largefov": (12,)}
        if head not in rates:
            raise TutorialError(f"there is no head {head!r} for DeepLabv2; choose aspp or largefov.")
        self.branches = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(512, 1024, 3, padding=rate, dilation=rate), nn.ReLU(inplace=True), nn.Dropout(0.5),
                nn.Conv2d(1024, 1024, 1), nn.ReLU(inplace=True), nn.Dropout(0.5),
                nn.Conv2d(1024, 2, 1),
            )
            for rate in rates[head]
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        """Background and object scores at 1/8 resolution."""
        features = self.features(x)  # [B, 512, H/8, W/8]
        return torch.stack([branch(features) for branch in self.branches]).sum(0)  # [B, 2, H/8, W/8]


def inflate(weight: Tensor, extra: int = 1, std: float = 1e-4) -> Tensor:
    """Widen a first convolution's weight ``[O, 3, k, k]`` by ``extra`` input channels of Gaussian noise.

    Zeros work as well (the paper saw no difference): the gradient of the new filters does not depend on their
    value, so they leave zero at the first step.
    """
    noise = torch.randn(weight.shape[0], extra, *weight.shape[2:], dtype=weight.dtype, device=weight.device) * std
    return torch.cat([weight, noise], dim=1)


class MaskTrack(nn.Module):
    """Picture and guide in, scores out; small and paper size differ in the body only.

    Args:
        body: maps ``[B, 4, H, W]`` to ``[B, 2, h, w]`` and names the multiple it needs of H and W as ``stride``.
    """

    def __init__(self, body: SmallUNet | LiteUNet | DeepLabVGG16) -> None:
        super().__init__()
        self.body = body
        self.normalise = Normalised()

    def forward(self, image: Tensor, guide: Tensor) -> Tensor:
        """Score every pixel.

        Args:
            image: ``float [B, 3, H, W]`` in [0, 1]; the network normalises it.
            guide: ``bool`` or 0/1 ``float`` ``[B, H, W]``. It becomes -1/+1, the scale of the normalised colours:
                next to them a channel of small numbers would go unnoticed for long.

        Returns:
            logits ``float [B, 2, H, W]``, background and object.
        """
        colours, (height, width) = pad_to_multiple(self.normalise(image), self.body.stride)  # [B, 3, H', W']
        channel = guide[:, None].to(image.dtype) * 2 - 1  # [B, 1, H, W]
        channel, _ = pad_to_multiple(channel, self.body.stride, value=-1.0)  # [B, 1, H', W']
        x = torch.cat([colours, channel], dim=1)  # [B, 4, H', W']
        logits = self.body(x)  # [B, 2, h, w]
        logits = F.interpolate(logits, x.shape[-2:], mode="bilinear", align_corners=False)  # [B, 2, H', W']
        return logits[..., :height, :width]  # [B, 2, H, W]

    def load_imagenet(self, vgg16_state: Mapping[str, Tensor]) -> None:
        """Start the paper-size body from torchvision's ``vgg16`` weights; the guide's filters start as noise.

        Raises:
            TutorialError: if the body is not :class:`DeepLabVGG16`, or the weights are not VGG-16's.
        """
        if not isinstance(self.body, DeepLabVGG16):
            raise TutorialError("only the paper-size MaskTrack has a VGG-16 inside; build it with size='paper'.")
        theirs = [v for k, v in vgg16_state.items() if k.startswith("features.")]
        ours = list(self.body.features.parameters())
        if theirs and theirs[0].ndim == 4:
            theirs[0] = inflate(theirs[0])
        if [t.shape for t in theirs] != [p.shape for p in ours]:
            raise TutorialError(
                f"these are not VGG-16's weights: the {len(theirs)} tensors under 'features.' do not fit the "
                f"{len(ours)} expected; pass torchvision.models.vgg16(weights='DEFAULT').state_dict()."
            )
        with torch.no_grad():
            for mine, other in zip(ours, theirs, strict=True):
                mine.copy_(other)


def start_from(network: MaskTrack, trained: MaskTrack) -> None:
    """Start where another network of the same size stands.

    Raises:
        TutorialError: if the sizes differ.
    """
    start_with(trained.state_dict(), network)


def start_from_imagenet(network: MaskTrack) -> bool:
    """ImageNet weights for the encoder made for them; at paper size False, and a sentence, if none can be had.

    Raises:
        TutorialError: if the network has no such encoder, or the package with a small one's weights is missing.
    """
    if isinstance(network.body, LiteUNet):
        network.body.encoder.load_imagenet()
        return True
    from torchvision.models import VGG16_Weights

    return fetched(lambda: network.load_imagenet(imagenet_weights(VGG16_Weights.DEFAULT)))


def build(
    size: Literal["small", "paper"] = "small",
    width: int = 16,
    head: Literal["aspp", "largefov"] = "aspp",
    encoder: Literal["scratch", "imagenet"] = "scratch",
) -> MaskTrack:
    """A MaskTrack with random weights.

    Args:
        size: ``"paper"`` is DeepLabv2 on VGG-16.
        width: of the small body.
        head: of the paper's body.
        encoder: of a small network: ``"scratch"``, or ``"imagenet"``, which :func:`start_from_imagenet` fills.

    Raises:
        TutorialError: on an unknown size or encoder, or at paper size with another encoder.
    """
    if encoder not in ("scratch", "imagenet") or (encoder == "imagenet" and size != "small"):
        raise TutorialError(
            f"there is no {size} masktrack with encoder {encoder!r}; a small one has scratch or imagenet."
        )
    if size == "small":
        return MaskTrack(LiteUNet(width) if encoder == "imagenet" else SmallUNet(width))
    if size == "paper":
        return MaskTrack(DeepLabVGG16(head))
    raise TutorialError(f"there is no size {size!r} of masktrack; choose small or paper.")


# ---------------------------------------------------------------------------------------------- training

Guide = Literal["mask", "box", "none"]


def make_guide(mask: Tensor, kind: Guide) -> Tensor:
    """What the network is shown of a mask ``bool [B, H, W]``: itself, its filled box, or nothing (table 1).

    Raises:
        TutorialError: on an unknown kind.
    """
    if kind not in get_args(Guide):
        raise TutorialError(f"there is no guide {kind!r}; choose from {', '.join(get_args(Guide))}.")
    if kind == "box":
        return fill_boxes(mask)
    return torch.zeros_like(mask) if kind == "none" else mask


# ------------------------------------------------------------------------------------------- propagation


def dilation_for(height: int, width: int) -> int:
    """The paper's 5 pixels at 480p, in proportion at other sizes and never below 1."""
    return max(1, round(5 * min(height, width) / 480))


Tuner = Callable[["MaskTrack", Tensor, Tensor], "MaskTrack"]
"""From the network, a frame ``[3, H, W]`` and one object's mask ``bool [H, W]`` makes that object's own network."""


class MaskTrackSegmenter(ObjectSegmenter):
    """One forward pass per frame and object; nothing is carried over but the last masks.

    An object's own network is made right before the first step that needs it, from all that was given until then: so
    a mask that is corrected before that step costs no second training, and an interrupted training (Ctrl-C) is made
    up for at the next step. A mask that is corrected later becomes the guide, and the object keeps its network: it
    has learned what the object looks like, and an annotator does not want to wait for minutes after each stroke.

    Args:
        network: a trained :class:`MaskTrack`.
        guide: what the network was trained with.
        dilation: radius in pixels by which the previous mask grows before it becomes the guide; by default in
            proportion to the picture. 0 switches the step off.
        box_network: a MaskTrack trained with boxes. If given, the masks of ``begin`` and ``introduce`` are boxes,
            which it turns into masks (MaskTrack_Box, section 3.3); those of ``correct`` are masks as always.
        online: fine-tune a copy of the network per object on the frame in which it is given (section 3.2).
        flow: maps (last frame, this frame), both ``[3, H, W]`` in [0, 1], to optical flow ``[2, H, W]`` in pixels.
            Its magnitude, as a grey picture, goes through the same network and both answers are averaged (3.3).
    """

    def __init__(
        self,
        network: MaskTrack,
        guide: Guide = "mask",
        dilation: int | None = None,
        box_network: MaskTrack | None = None,
        online: Tuner | None = None,
        flow: Callable[[Tensor, Tensor], Tensor] | None = None,
    ) -> None:
        super().__init__(network)
        self.network, self.guide, self.dilation = evaluating(network), guide, dilation
        self.box_network = evaluating(box_network) if box_network is not None else None
        self.online, self.flow = online, flow
        self._start(torch.zeros(3, 1, 1))

    def _start(self, frame: Tensor) -> None:
        self.previous = torch.zeros(0, *frame.shape[1:], dtype=torch.bool, device=frame.device)  # [O, H, W]
        self.last_frame = frame.clone()  # the caller may use its tensor for the next
        self.networks: list[MaskTrack | None] = []  # one per object; None where it has yet to be tuned

    def _add(self, frame: Tensor, masks: Tensor) -> None:
        if self.box_network is not None:
            pictures = frame.expand(len(masks), -1, -1, -1)  # [n, 3, H, W]
            masks = self.box_network(pictures, fill_boxes(masks)).argmax(1).bool()  # [n, H, W]
        self.previous = torch.cat([self.previous & ~masks.any(0), masks])  # [O+n, H, W]
        self.networks = [*self.networks, *([None if self.online else self.network] * len(masks))]

    def _correct(self, frame: Tensor, channels: Sequence[int], masks: Tensor) -> None:
        self.previous = replaced(self.previous, channels, masks)

    def _clear(self, channels: Sequence[int]) -> None:
        self.previous = cleared(self.previous, channels)
        for channel in channels:  # there is no mask to tune to
            self.networks[channel] = self.networks[channel] or self.network

    def _remove(self, channel: int) -> None:
        self.previous = without(self.previous, channel)
        self.networks = [*self.networks[:channel], *self.networks[channel + 1 :]]

    def _predict(self, frame: Tensor) -> Tensor:
        networks = self._tuned()
        radius = self.dilation if self.dilation is not None else dilation_for(*frame.shape[-2:])
        guide = make_guide(dilate(self.previous, radius), self.guide)  # [O, H, W]
        alone = self._object_probability(networks, frame, guide)
        if self.flow is not None:
            magnitude = flow_picture(self.flow(self.last_frame.float(), frame.float())).to(frame.dtype)
            alone = (alone + self._object_probability(networks, magnitude, guide)) / 2
        probabilities = soft_aggregate(alone)  # [O+1, H, W]
        winner = most_probable(probabilities)  # [H, W]
        # The guide is binary because the guides of training were: what is fed back is the decision, not the doubt.
        self.previous = winner[None] == torch.arange(1, len(guide) + 1, device=frame.device)[:, None, None]
        self.last_frame = frame.clone()
        return probabilities

    def _tuned(self) -> list[MaskTrack]:
        """Each object's network; one that is missing is made of the last frame, in which its mask was given."""
        for channel, mask in enumerate(self.previous):
            if self.networks[channel] is None and self.online is not None:
                self.networks[channel] = self.online(self.network, self.last_frame, mask)
        return [network for network in self.networks if network is not None]

    def _object_probability(self, networks: Sequence[MaskTrack], frame: Tensor, guide: Tensor) -> Tensor:
        """Each object by itself: ``float [O, H, W]``."""
        if all(network is self.network for network in networks):
            logits = self.network(frame.expand(len(guide), -1, -1, -1), guide)  # [O, 2, H, W]
        else:
            logits = torch.cat([n(frame[None], g[None]) for n, g in zip(networks, guide, strict=True)])
        return logits.float().softmax(1)[:, 1]

    def inspect(self) -> dict[str, Tensor]:
        """``guide``: ``bool [O, H, W]``, the masks that the next step starts from, before they grow."""
        return {"guide": self.previous}


# ------------------------------------------------------------------------------------ online fine-tuning


def fine_tune(
    network: MaskTrack,
    frame: Tensor,
    mask: Tensor,
    *,
    steps: int = 200,
    batch: int = 4,
    lr: float = 1e-4,
    spoiling: Corruption | None = None,
    seed: int = 0,
) -> MaskTrack:
    """Teach a copy of the network this object, from frame 0 alone (section 3.2; the paper takes 200 steps).

    Each step sees ``batch`` views of the frame (rotated, zoomed, mirrored) with freshly corrupted guides. It learns
    in float32 whatever the network's precision, and wherever it is called: without gradients, in inference mode,
    under autocast.

    Args:
        network: stays as it is.
        frame: ``float [3, H, W]`` in [0, 1].
        mask: ``bool [H, W]``.
        steps: optimiser steps; 0 returns an unchanged copy.
        batch: views a step.
        lr: of AdamW (the paper uses SGD with 1e-3 on its VGG).
        spoiling: how guides are made; by default the paper's, with the dilation scaled to the frame.
        seed: of the views.

    Returns:
        the copy, in eval mode and in the network's precision; all of it may learn, even if the network was frozen.
    """
    with torch.inference_mode(False), torch.enable_grad(), torch.autocast(frame.device.type, enabled=False):
        precision = next(network.parameters()).dtype
        tuned = copy.deepcopy(network).float().train().requires_grad_(True)
        frame, mask = frame.float().clone(), mask.clone()  # a tensor of inference mode could not be learned from
        how = spoiling if spoiling is not None else Corruption(dilation=dilation_for(*mask.shape))
        optimizer = torch.optim.AdamW(tuned.parameters(), lr=lr, weight_decay=0.0)
        for step in range(steps):
            rngs = [Rng(seed, step, i) for i in range(batch)]
            images, masks = rotate_zoom_flip(
                frame.expand(batch, -1, -1, -1), mask.expand(batch, -1, -1), rngs, angle=20, zoom=0.15
            )  # [batch, 3, H, W], [batch, H, W]
            guide = corrupt(masks, rngs, how)  # [batch, H, W]
            loss = F.cross_entropy(tuned(images, guide), masks.long())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        return tuned.to(precision).eval()


# ------------------------------------------------------------------------------------------------- flow


def flow_picture(flow: Tensor) -> Tensor:
    """Optical flow ``[2, H, W]`` in pixels -> its magnitude as a grey picture ``[3, H, W]`` in [0, 1] (section 3.3).

    The largest motion of the frame becomes white; a frame without motion stays black.
    """
    magnitude = flow.float().pow(2).sum(0).sqrt()
    return (magnitude / magnitude.max().clamp_min(1e-6)).expand(3, -1, -1)


class RaftFlow:
    """Optical flow by torchvision's RAFT-small, for :class:`MaskTrackSegmenter`'s ``flow``.

    Args:
        pretrained: fetch torchvision's weights (4 MB, once); without them the flow is noise, good for tests only.

    Raises:
        TutorialError: if the weights are neither cached nor to be had.
    """

    MULTIPLE = 8  # RAFT needs sides that are multiples of 8 ...
    SMALLEST = 128  # ... and at least 128 pixels

    def __init__(self, pretrained: bool = True) -> None:
        from torchvision.models.optical_flow import Raft_Small_Weights, raft_small

        try:
            self.network = raft_small(weights=Raft_Small_Weights.DEFAULT if pretrained else None).eval()
        except OSError as error:
            raise TutorialError(
                f"RAFT's weights could not be fetched ({error}); connect to a network once, or go on without flow."
            ) from None

    @torch.no_grad()
    def __call__(self, before: Tensor, after: Tensor) -> Tensor:
        """Flow from ``before`` to ``after``, both ``float [3, H, W]`` in [0, 1]: ``float [2, H, W]`` in pixels."""
        height, width = before.shape[-2:]
        grow = max(1.0, self.SMALLEST / min(height, width))
        size = [-(-round(s * grow) // self.MULTIPLE) * self.MULTIPLE for s in (height, width)]
        pair = [resize_frame(f, *size)[None] * 2 - 1 for f in (before, after)]
        flow = self.network.to(before.device)(*pair)[-1]
        flow = F.interpolate(flow, (height, width), mode="bilinear", align_corners=False)[0]
        return flow * torch.tensor([width / size[1], height / size[0]], device=flow.device)[:, None, None]


def segmenter(network: MaskTrack, online_steps: Annotated[int, Range(0)] = 0, **options: Any) -> MaskTrackSegmenter:
    """A segmenter; ``online_steps`` > 0 adds :func:`fine_tune`, other options are :class:`MaskTrackSegmenter`'s."""
    if online_steps:
        options["online"] = lambda net, frame, mask: fine_tune(net, frame, mask, steps=online_steps)
    return MaskTrackSegmenter(network, **options)
