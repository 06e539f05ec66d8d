"""FLUX's pictures as the transformer sees them: latents packed into tokens, their places, and the shift of times."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..errors import TutorialError

#: FLUX.1's shift: mu grows linearly from 0.5 at 256 tokens (256 px) to 1.15 at 4,096 (1,024 px).
FEW, MANY = (256, 0.5), (4096, 1.15)


def pack(latents: Tensor) -> Tensor:
    """Latents as tokens: each 2 x 2 cell is one, ``[B, C, H, W] -> [B, H/2 * W/2, 4 C]``.

    Raises:
        TutorialError: if a side is odd.
    """
    batch, channels, height, width = latents.shape
    if height % 2 or width % 2:
        raise TutorialError(
            f"latents of {height} x {width} cannot be packed in cells of 2 x 2; use pictures whose sides divide "
            "by 16."
        )
    cells = latents.reshape(batch, channels, height // 2, 2, width // 2, 2)
    return cells.permute(0, 2, 4, 1, 3, 5).reshape(batch, height * width // 4, 4 * channels)


def unpack(tokens: Tensor, grid: tuple[int, int]) -> Tensor:
    """Back from :func:`pack`, ``[B, h w, 4 C] -> [B, C, 2 h, 2 w]``; ``grid`` is ``(h, w)`` in tokens."""
    height, width = grid
    channels = tokens.shape[2] // 4
    cells = tokens.reshape(len(tokens), height, width, channels, 2, 2)
    return cells.permute(0, 3, 1, 4, 2, 5).reshape(len(tokens), channels, 2 * height, 2 * width)


def places(grid: tuple[int, int], text: int, device: torch.device) -> Tensor:
    """Where each token stands, for the rotary embedding: ``float32 [L + h w, 3]``.

    The ``text`` tokens come first, all at the origin; an image token has (0, row, column).
    """
    rows, columns = torch.meshgrid(torch.arange(grid[0]), torch.arange(grid[1]), indexing="ij")
    image = torch.stack([torch.zeros_like(rows), rows, columns], 2).reshape(-1, 3)  # [h w, 3]
    return torch.cat([torch.zeros(text, 3), image.float()]).to(device)  # [L + h w, 3]


def shift(tokens: int) -> float:
    """How far the times of a picture of so many tokens are shifted towards noise: FLUX's ``exp(mu)``, > 1.

    More pixels repeat more of the same information, so it takes more noise to hide a picture (Esser et al., ICML
    2024, section 5.3.2).
    """
    (few, low), (many, high) = FEW, MANY
    return math.exp(low + (high - low) * (tokens - few) / (many - few))


def shifted(times: Tensor, by: float) -> Tensor:
    """Times in [0, 1] shifted towards 1 (noise): ``by * t / (1 + (by - 1) * t)``; 0 and 1 stay."""
    return by * times / (1 + (by - 1) * times)
