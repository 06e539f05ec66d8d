"""Clips for tests of trainings: squares on noise that move to the right by a pixel a frame.

STCNN's tests have a square of their own, which is brighter and faster: its generator must see it move.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from vos_tutorial.data.batches import Clips


class Squares:
    """A source of clips: sample 0 has two objects, the others one."""

    def batch(self, seeds: Sequence[int], size: int, length: int, max_skip: int = 0) -> Clips:
        """Frames ``float32 [B, T, 3, H, W]`` and masks ``uint8 [B, T, H, W]``; each sample has its own noise."""
        noise = torch.stack([torch.rand(3, size, size, generator=torch.Generator().manual_seed(s)) for s in seeds])
        frames, masks = noise[:, None].repeat(1, length, 1, 1, 1) / 2, torch.zeros(len(noise), length, size, size)
        for t in range(length):
            frames[:, t, 0, 6:18, 6 + t : 18 + t], masks[:, t, 6:18, 6 + t : 18 + t] = 1, 1
            frames[0, t, 2, 20:30, 4 + t : 20 + t], masks[0, t, 20:30, 4 + t : 20 + t] = 1, 2
        return Clips(frames, masks.to(torch.uint8))
