"""Small parts that more than one paper uses."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


def pad_to_multiple(x: Tensor, multiple: int, value: float = 0.0) -> tuple[Tensor, tuple[int, int]]:
    """Pad ``[B, C, H, W]`` with ``value`` right and below until H and W are multiples; returns the old (H, W) too."""
    height, width = x.shape[-2:]
    return F.pad(x, (0, -width % multiple, 0, -height % multiple), value=value), (height, width)


def pad_centred(x: Tensor, multiple: int) -> tuple[Tensor, tuple[int, int, int, int]]:
    """Zeros around ``[B, C, H, W]`` until H and W are multiples, an odd one right or below (as STM's authors do).

    Returns the padded tensor, and (left, right, top, bottom) for :func:`crop_padding`.
    """
    height, width = -x.shape[-2] % multiple, -x.shape[-1] % multiple
    padding = (width // 2, width - width // 2, height // 2, height - height // 2)
    return (F.pad(x, padding) if any(padding) else x), padding


def crop_padding(x: Tensor, padding: tuple[int, int, int, int]) -> Tensor:
    """Undo :func:`pad_centred`."""
    left, right, top, bottom = padding
    return x[..., top : x.shape[-2] - bottom, left : x.shape[-1] - right]


def group_norm(channels: int) -> nn.GroupNorm:
    """Group normalisation with 8 channels a group: unlike batch norm it is the same in training and at test time."""
    return nn.GroupNorm(max(1, channels // 8), channels)


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut: ``[B, C_in, H, W] -> [B, C_out, H/stride, W/stride]``."""

    def __init__(self, channels_in: int, channels: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels, 3, stride, 1, bias=False)
        self.norm1 = group_norm(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.norm2 = group_norm(channels)
        same = stride == 1 and channels_in == channels
        self.shortcut: nn.Module = nn.Identity() if same else nn.Conv2d(channels_in, channels, 1, bias=False)
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        y = F.relu(self.norm1(self.conv1(x)), inplace=True)  # [B, C_out, H/stride, W/stride]
        # Strided here, not in the 1x1 convolution: with less than 8 channels its gradient writes past the end of a
        # buffer on CPUs that have AVX2 only (oneDNN's issue 6035; seen with torch 2.14.0).
        kept = x[:, :, :: self.stride, :: self.stride]  # [B, C_in, H/stride, W/stride]
        return F.relu(self.norm2(self.conv2(y)) + self.shortcut(kept), inplace=True)


class PreActivation(nn.Module):
    """``x + conv2(relu(conv1(relu(x))))``, 3x3, with bias and without norm: ``[B, width, H, W] -> the same``."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        return x + self.conv2(F.relu(self.conv1(F.relu(x)), inplace=True))


def enlarge(x: Tensor, factor: int, align_corners: bool = False) -> Tensor:
    """Bilinear upsampling: ``[B, C, H, W] -> [B, C, factor*H, factor*W]``."""
    return F.interpolate(x, scale_factor=factor, mode="bilinear", align_corners=align_corners)


class Refine(nn.Module):
    """Doubles the resolution: the coarse answer, enlarged, and a finer map of the frame (Pinheiro et al., ECCV 2016).

    Args:
        channels: of the finer map.
        width: of the coarse map, and of what comes out.
    """

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.enter = nn.Conv2d(channels, width, 3, padding=1)
        self.skip = PreActivation(width)
        self.merge = PreActivation(width)

    def prepare(self, fine: Tensor) -> Tensor:
        """The path of the finer map ``[B, C, H, W] -> [B, width, H, W]``: the same for all objects of a frame."""
        return self.skip(self.enter(fine))

    def forward(self, prepared: Tensor, coarse: Tensor, align_corners: bool = False) -> Tensor:
        """``prepared [N, width, H, W]`` and ``coarse [N, width, H/2, W/2] -> [N, width, H, W]``."""
        return self.merge(prepared + enlarge(coarse, 2, align_corners))


def dice_loss(probability: Tensor, target: Tensor) -> Tensor:
    """One minus the soft Dice overlap, averaged over the batch: a small object weighs as much as a large one.

    Args:
        probability: ``float [B, H, W]`` in [0, 1].
        target: ``bool [B, H, W]``.
    """
    p, y = probability.flatten(1), target.flatten(1).to(probability.dtype)  # [B, H*W]
    return (1 - (2 * (p * y).sum(1) + 1) / (p.sum(1) + y.sum(1) + 1)).mean()
