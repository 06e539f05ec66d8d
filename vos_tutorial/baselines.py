"""Two yardsticks that learn nothing: what is given for free, and what knowing the last frame would give.

A method that does not beat :class:`CopyFirst` has not learned to follow anything. :func:`copy_previous_truth` looks
at the truth of every frame, so it is an oracle and no method; it says how much of the problem is motion.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .clip import ids_to_onehot, object_ids


class CopyFirst:
    """The first mask for every frame: a :class:`~vos_tutorial.segmenter.Segmenter` that ignores the frames."""

    def __init__(self) -> None:
        self.objects: list[int] = []
        self.probabilities = torch.zeros(0)

    def begin(self, frame: Tensor, mask: Tensor) -> None:
        """See :class:`~vos_tutorial.segmenter.Segmenter`."""
        self.objects = object_ids(mask)
        objects = ids_to_onehot(mask, self.objects)  # [K, H, W]
        background = ~objects.any(dim=0, keepdim=True)
        self.probabilities = torch.cat([background, objects]).float()  # [K+1, H, W]

    def step(self, frame: Tensor) -> Tensor:
        """See :class:`~vos_tutorial.segmenter.Segmenter`."""
        return self.probabilities

    def introduce(self, frame: Tensor, mask: Tensor) -> None:
        """See :class:`~vos_tutorial.segmenter.Segmenter`."""
        new = [i for i in object_ids(mask) if i not in self.objects]
        objects = ids_to_onehot(mask, new)
        self.objects += new
        self.probabilities = torch.cat([self.probabilities * ~objects.any(dim=0), objects.float()])


def copy_previous_truth(masks: Tensor) -> Tensor:
    """The truth of the frame before: ``[T, H, W]`` -> the same, frame 0 unchanged."""
    return torch.cat([masks[:1], masks[:-1]])
