"""A small convolutional network that reads the captioned world: attributes and mask from a picture's three colours.

It is the judge of generated pictures. Its answers say whether a picture shows what its caption says; its features are
the space in which precision and recall are counted; its mask says whether the generator's fourth channel lies where
the shape is. It never sees the fourth channel.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

FEATURES = 128


class Reading(NamedTuple):
    """What the reader sees in pictures."""

    logits: tuple[Tensor, ...]
    """For each attribute ``[B, values]``; value ``i`` is id ``i + 1`` of a caption."""
    mask: Tensor
    """``[B, H, W]``, the logit of the shape."""
    features: Tensor
    """``[B, 128]``."""

    @property
    def captions(self) -> Tensor:
        """The most probable ids, int64 ``[B, A]``; never 0."""
        return torch.stack([each.argmax(1) + 1 for each in self.logits], dim=1)


class AttributeReader(nn.Module):
    """Four scales down to a grid of 4 x 4 cells, one vector for the attributes; and up again for the mask.

    Args:
        vocabulary: how many values each attribute has.
    """

    def __init__(self, vocabulary: Sequence[int] = (3, 6, 4, 6, 5, 4)) -> None:
        super().__init__()
        channels = (24, 48, 64, 96)
        self.down = nn.ModuleList(
            [_conv(a, b, 1 if i == 0 else 2) for i, (a, b) in enumerate(zip((3, *channels), channels, strict=False))]
        )
        self.features = nn.Linear(channels[-1] * 16, FEATURES)
        self.heads = nn.ModuleList([nn.Linear(FEATURES, n) for n in vocabulary])
        self.lateral = nn.ModuleList([nn.Conv2d(b, a, 1) for a, b in pairwise(channels)])
        self.mask = nn.Conv2d(channels[0], 1, 3, padding=1)

    def forward(self, images: Tensor) -> Reading:
        """Read pictures ``float [B, C, 32, 32]`` in [-1, 1], of whose channels the first three are colours."""
        maps = [images[:, :3]]
        for layer in self.down:
            maps.append(layer(maps[-1]))  # [B, 24, 32, 32], [B, 48, 16, 16], [B, 64, 8, 8], [B, 96, 4, 4]
        features = F.relu(self.features(maps[-1].flatten(1)))  # [B, 128]
        up = maps[-1]
        for lateral, fine in zip(reversed(self.lateral), maps[-2:0:-1], strict=True):
            up = fine + F.interpolate(lateral(up), scale_factor=2.0)  # as large as the finer map
        return Reading(tuple(head(features) for head in self.heads), self.mask(up)[:, 0], features)


def _conv(a: int, b: int, stride: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(a, b, 3, stride, padding=1), nn.GroupNorm(8, b), nn.SiLU())
