"""What generators of the captioned world learn: the flow (teacher), the flow map (student), and to fool a critic.

The loop is that of the methods. Noise, times and unsaid words are part of the batch, so that sample ``i`` depends on its
seed alone and the loss on its arguments alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
import torch
from scipy.special import expit, ndtri
from torch import Tensor, nn

from ...data.worlds import captioned
from ...models.dit import DiT
from ...options import Range, read
from ...recipes import Stage
from ...rng import Array, Rng, Stream

TINY = 1e-12


def normal(rng: Rng, *shape: int) -> Array:
    """Standard normal numbers out of uniform ones, by the inverse of their distribution."""
    numbers: Array = ndtri(rng.array(*shape).clip(TINY, 1 - TINY))
    return numbers


@dataclass(frozen=True)
class TeacherOptions:
    """What a stage of :class:`FlowMatching` may be told."""

    unsaid: Annotated[float, Range(0, 1)] = 0.1
    """How often a whole caption is left out, and how often each attribute of the others is."""
    time_mean: float = 0.0
    """Of the normal number whose logistic function is the time."""
    time_std: Annotated[float, Range(0)] = 1.2
    """Its deviation; beyond 1.6 the ends of [0, 1] are the most frequent."""


class FlowMatching:
    """The teacher: ``|v(x_t, t) - (x_1 - x_0)|²`` (Lipman et al., "Flow Matching for Generative Modeling", ICLR 2023)."""

    def batch(self, stage: Stage, seeds: Sequence[int], device: torch.device) -> dict[str, Tensor]:
        """``image`` and ``noise [B, 4, H, W]``, ``caption [B, 6]``, ``t [B]``; sample i depends on seed i only."""
        how = read(TeacherOptions, stage.options, f"stage {stage.name!r}", "the flow's teacher")
        rngs = [Rng(seed, Stream.FLOW) for seed in seeds]
        batch = pictures(rngs, seeds, stage.size, how.unsaid)
        t = expit(how.time_mean + how.time_std * np.stack([normal(rng) for rng in rngs]))
        return {name: value.to(device) for name, value in {**batch, "t": torch.from_numpy(t).float()}.items()}

    def loss(self, network: nn.Module, batch: Mapping[str, Tensor], stage: Stage) -> tuple[Tensor, dict[str, Tensor]]:
        """The mean squared error of the velocity; ``mask`` is the error of the fourth channel."""
        image, noise, t = batch["image"], batch["noise"], batch["t"]
        x = image + t[:, None, None, None] * (noise - image)  # [B, 4, H, W]
        error = (network(x, t, t, batch["caption"]) - (noise - image)).square()
        return error.mean(), {"mask": error[:, 3].mean().detach()}

    def parameters(self, network: nn.Module, stage: Stage) -> list[dict[str, Any]]:
        """All of them."""
        return [{"params": list(network.parameters())}]


def pictures(rngs: list[Rng], seeds: Sequence[int], size: int, unsaid: float) -> dict[str, Tensor]:
    """Pictures of the world with noise for each, and captions of which parts are left out.

    Args:
        rngs: one for each sample.
        seeds: of the pictures.
        size: pixels a side.
        unsaid: see :class:`TeacherOptions`.

    Returns:
        ``image`` and ``noise`` float32 ``[B, 4, size, size]``, ``caption`` int64 ``[B, 6]``.
    """
    drawn = captioned.draw(seeds, size)
    chance = np.stack([rng.array(1 + drawn.captions.shape[1]) for rng in rngs])  # [B, 1 + 6]
    left_out = torch.from_numpy((chance[:, :1] < unsaid) | (chance[:, 1:] < unsaid))
    noise = np.stack([normal(rng, *drawn.images.shape[1:]) for rng in rngs])
    return {
        "image": drawn.images,
        "noise": torch.from_numpy(noise).float(),
        "caption": drawn.captions.masked_fill(left_out, captioned.UNSAID),
    }


__all__ = ["DiT", "FlowMatching", "TeacherOptions", "normal", "pictures"]
