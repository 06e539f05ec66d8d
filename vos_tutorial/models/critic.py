"""The critic of adversarial fine-tuning: a small residual network that says how real a captioned picture looks.

Huang et al., "The GAN is dead; long live the GAN! A Modern Baseline GAN" (R3GAN), NeurIPS 2024: no normalisation, a
loss that pairs real with generated pictures, and penalties on the gradient at both. "Align Your Flow" (section on
adversarial fine-tuning) takes the loss from there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Judge = Callable[[Tensor], Tensor]
"""Pictures ``[B, ...]`` to how real they look, ``[B]``."""


class Critic(nn.Module):
    """Pictures and captions to a number: the higher, the more real. Three scales, 32 to 4 pixels a side.

    Args:
        vocabulary: how many values each attribute has; id 0 comes on top.
        channels: of a picture.
        width: at the first scale.
    """

    def __init__(self, vocabulary: Sequence[int] = (3, 6, 4, 6, 5, 4), channels: int = 4, width: int = 32) -> None:
        super().__init__()
        widths = [width, 2 * width, 3 * width]
        self.first = nn.Conv2d(channels, width, 3, padding=1)
        self.down = nn.ModuleList(
            [nn.Conv2d(a, b, 4, 2, padding=1) for a, b in zip((width, *widths), widths, strict=False)]
        )
        self.same = nn.ModuleList([nn.Conv2d(c, c, 3, padding=1) for c in widths])
        self.vector = nn.Linear(widths[-1] * 16, 128)
        self.words = nn.ModuleList([nn.Embedding(n + 1, 128) for n in vocabulary])
        self.real = nn.Linear(128, 1)

    def forward(self, images: Tensor, captions: Tensor) -> Tensor:
        """``[B, C, 32, 32]`` and ids ``[B, A]`` to ``[B]``."""
        x = F.leaky_relu(self.first(images), 0.2)  # [B, w, 32, 32]
        for down, same in zip(self.down, self.same, strict=True):
            x = F.leaky_relu(down(x), 0.2)  # half as high and wide
            x = x + 0.3 * F.leaky_relu(same(x), 0.2)
        vector = F.leaky_relu(self.vector(x.flatten(1)), 0.2)  # [B, 128]
        said = torch.stack([table(captions[:, i]) for i, table in enumerate(self.words)]).mean(0)  # [B, 128]
        out: Tensor = self.real(vector)[:, 0] + (vector * said).sum(1) / 128**0.5
        return out


class PairedLosses(NamedTuple):
    """What both players minimise, scalars."""

    generator: Tensor
    """No gradient of it reaches the critic's weights if ``judge_fixed`` keeps them constant."""
    critic: Tensor
    """Without penalty."""
    penalty: Tensor
    """R1 + R2: the squared gradients at real and at generated pictures, halved."""


def paired_losses(judge: Judge, judge_fixed: Judge, real: Tensor, fake: Tensor) -> PairedLosses:
    """The relativistic pairing losses: each generated picture against one real picture, and the other way round.

    ``L_G = softplus(D(real) - D(fake))``, ``L_D = softplus(D(fake) - D(real))``, and
    ``R1 + R2 = (|dD/dreal|² + |dD/dfake|²) / 2``. Only differences count: no picture is real or fake by itself.

    Args:
        judge: with the critic's weights.
        judge_fixed: the same, its weights constants.
        real: ``[B, ...]``.
        fake: ``[B, ...]``, with the generator's graph.
    """
    generator = F.softplus(judge_fixed(real) - judge_fixed(fake)).mean()
    real, fake = real.detach().requires_grad_(), fake.detach().requires_grad_()
    of_real, of_fake = judge(real), judge(fake)  # [B] each
    critic = F.softplus(of_fake - of_real).mean()
    slopes = torch.autograd.grad(of_real.sum() + of_fake.sum(), (real, fake), create_graph=True)
    penalty = torch.stack([slope.square().flatten(1).sum(1).mean() for slope in slopes]).sum() / 2
    return PairedLosses(generator, critic, penalty)
