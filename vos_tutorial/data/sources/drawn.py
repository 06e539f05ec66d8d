"""Stills that somebody drew and handed over in memory: what a generator made, to train a segmenter on.

This room knows no networks. Whoever has a generator draws pictures with masks (``models.generators.generate``) and
hands them over; from then on they are stills like those of a folder.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ...errors import TutorialError
from .stills import LARGEST, SMALLEST, PhotoStills


class DrawnStills(PhotoStills):
    """Random crops of pictures in memory; those with hardly any object, or nothing else, are left out.

    Args:
        images: ``float [N, 4, H, W]`` in about [-1, 1]: colours, and a mask that is above 0 inside.
        name: where they come from, for messages.

    Raises:
        TutorialError: if the pictures have another shape, or none of them shows an object.
    """

    def __init__(self, images: Tensor, name: str = "the drawn pictures") -> None:
        if images.ndim != 4 or images.shape[1] != 4 or not images.is_floating_point():
            raise TutorialError(
                f"{name} must be float [N, 4, H, W] with the mask last, they are {list(images.shape)}."
            )
        masks = images[:, 3] > 0  # [N, H, W]
        share = masks.float().mean((1, 2)) if len(masks) else torch.zeros(0)
        fair = (share >= SMALLEST) & (share <= LARGEST)
        if not fair.any():
            raise TutorialError(
                f"{name}: none of {len(images)} masks covers {SMALLEST:.0%} to {LARGEST:.0%} of its picture; "
                "train the generator longer."
            )
        self.name, self.left_out = name, int((~fair).sum())
        self.images = ((images[fair, :3].clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)  # [M, 3, H, W]
        self.masks = masks[fair]  # [M, H, W]

    def __len__(self) -> int:
        return len(self.images)

    def pair(self, index: int, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """One picture and its mask; see :class:`PhotoStills`."""
        return self.images[index], self.masks[index]
