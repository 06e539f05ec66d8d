"""What the generators of the captioned world learn: the flow (teacher), the flow map (student), to fool a critic.

And the reader that judges them. The loop is that of the methods. Noise, times and unsaid words are part of the batch,
so that sample ``i`` depends on its seed alone and the loss on its arguments alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
import torch
import torch.nn.functional as F
from scipy.special import expit, ndtri
from torch import Tensor, nn

from ...data.worlds import captioned
from ...errors import TutorialError
from ...models.attribute_reader import AttributeReader
from ...models.critic import Critic, paired_losses
from ...models.dit import Adapted, Block, DiT, as_teacher
from ...models.flow_map import (
    direction_loss,
    emd_direction,
    extrapolate,
    interpolate,
    normalise,
    require_use_of_s,
)
from ...options import Range, read
from ...recipes import Stage
from ...rng import Array, Rng, Stream

TINY = 1e-12
SOFTENED = 0.1  # AYF's c, for each number of a picture: a direction of that size or less is not made longer

# ------------------------------------------------------------------------------------------------- batches


def normal(rng: Rng, *shape: int) -> Array:
    """Standard normal numbers out of uniform ones, by the inverse of their distribution."""
    numbers: Array = ndtri(rng.array(*shape).clip(TINY, 1 - TINY))
    return numbers


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


# ------------------------------------------------------------------------------------------------- the teacher


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
    """The teacher: ``|v(x_t, t) - (x_1 - x_0)|²`` (Lipman et al., "Flow Matching", ICLR 2023)."""

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
        x = interpolate(image, noise, t)  # [B, 4, H, W]
        error = (network(x, t, t, batch["caption"]) - (noise - image)).square()
        return error.mean(), {"mask": error[:, 3].mean().detach()}

    def parameters(self, network: nn.Module, stage: Stage) -> list[dict[str, Any]]:
        """All of them."""
        return [{"params": list(network.parameters())}]


# ------------------------------------------------------------------------------------------------- the student


@dataclass(frozen=True)
class StudentOptions:
    """What a stage of :class:`Distillation` and :class:`AdversarialDistillation` may be told."""

    unsaid: Annotated[float, Range(0, 1)] = 0.1
    """As the teacher's."""
    r: Annotated[float, Range(0, 1)] = 0.99
    """The share of the derivative; grows over the warm-up's stage, ``{"from": 0.0, "to": 0.99}``."""
    guidance: Annotated[float, Range(1)] = 1.0
    """λ of autoguidance; 1 asks the teacher alone."""
    length_mean: float = -0.6
    """Of the normal number whose logistic function is a jump's length."""
    length_std: Annotated[float, Range(0)] = 1.6
    """Its deviation."""
    reads_s: bool = True
    """False allows a student that ignores ``s``: the failure that the page shows."""
    adversarial: Annotated[float, Range(0)] = 0.1
    """Weight of the critic beside the flow map, after both gradients have been made equally long."""
    penalty: Annotated[float, Range(0)] = 0.1
    """Weight of R1 + R2 at the critic."""

    @classmethod
    def of(cls, stage: Stage) -> StudentOptions:
        """Those of a stage; TutorialError on an option or a value that it cannot have."""
        return read(cls, stage.options, f"stage {stage.name!r}", "the flow map's student")


class Distillation:
    """The student by AYF-EMD: tangents of the teacher, which is the same network with its adapters switched off.

    Args:
        weak: a less trained teacher for autoguidance; needed if a stage has ``guidance`` above 1.
    """

    def __init__(self, weak: DiT | None = None) -> None:
        self.weak = None if weak is None else weak.eval().requires_grad_(False)

    def check(self, stage: Stage) -> None:
        """See :class:`~vos_tutorial.training.tasks.Task`."""
        if StudentOptions.of(stage).guidance > 1 and self.weak is None:
            raise TutorialError(
                f"stage {stage.name!r} has guidance {stage.options['guidance']}, and needs a weak teacher; give one."
            )

    def batch(self, stage: Stage, seeds: Sequence[int], device: torch.device) -> dict[str, Tensor]:
        """As :meth:`FlowMatching.batch`, with ``t`` and ``s [B]``, ``s <= t``: a jump's length is drawn first."""
        how = StudentOptions.of(stage)
        rngs = [Rng(seed, Stream.FLOW) for seed in seeds]
        batch = pictures(rngs, seeds, stage.size, how.unsaid)
        length = expit(how.length_mean + how.length_std * np.stack([normal(rng) for rng in rngs]))
        s = (1 - length) * np.stack([rng.array() for rng in rngs])
        times = {"t": torch.from_numpy((s + length).clip(max=1)).float(), "s": torch.from_numpy(s).float()}
        return {name: value.to(device) for name, value in {**batch, **times}.items()}

    def loss(self, network: nn.Module, batch: Mapping[str, Tensor], stage: Stage) -> tuple[Tensor, dict[str, Tensor]]:
        """``|F - sg(F - g)|²`` with the normalised direction; ``direction`` is its length before.

        Raises:
            TutorialError: if the network ignores ``s`` and the stage does not allow it.
        """
        assert isinstance(network, DiT)
        loss, direction = self.flow_map_loss(network, batch, StudentOptions.of(stage))
        return loss, {"direction": direction}

    def flow_map_loss(self, student: DiT, batch: Mapping[str, Tensor], how: StudentOptions) -> tuple[Tensor, Tensor]:
        """The loss, and the mean length of the direction before it was normalised, scalars."""
        t, s, captions = batch["t"], batch["s"], batch["caption"]
        x = interpolate(batch["image"], batch["noise"], t)  # [B, 4, H, W]
        network = student.given(captions)
        if how.reads_s and not student.reads_s:
            require_use_of_s(network, x, t)
        velocity = self.velocity(student, x, t, captions, how.guidance)
        g = emd_direction(network, x, t, s, velocity, how.r)  # [B, 4, H, W]
        shorter = normalise(g, c=SOFTENED * g[0].numel() ** 0.5)
        return direction_loss(network(x, t, s), shorter), g.flatten(1).norm(dim=1).mean()

    @torch.no_grad()
    def velocity(self, student: DiT, x: Tensor, t: Tensor, captions: Tensor, guidance: float) -> Tensor:
        """The teacher's velocity ``[B, 4, H, W]``, guided."""
        with as_teacher(student):
            velocity: Tensor = student(x, t, t, captions)
        if guidance == 1 or self.weak is None:
            return velocity
        return extrapolate(velocity, self.weak(x, t, t, captions), guidance)

    def parameters(self, network: nn.Module, stage: Stage) -> list[dict[str, Any]]:
        """The adapters, and the embedder of ``s``, which begins with nothing and learns faster."""
        assert isinstance(network, DiT)
        return student_groups(network)


def student_groups(student: DiT) -> list[dict[str, Any]]:
    """Optimiser groups of what a student learns."""
    learns = {name: p for name, p in student.named_parameters() if p.requires_grad}
    embedder = [p for name, p in learns.items() if name.startswith("s_embedder.")]
    groups = [{"params": [p for name, p in learns.items() if not name.startswith("s_embedder.")]}]
    return groups + ([{"params": embedder, "lr_scale": 2.5}] if embedder else [])


# ------------------------------------------------------------------------------------------------- the last stage


class Players(nn.Module):
    """A student and its critic, trained together."""

    def __init__(self, student: DiT, critic: Critic) -> None:
        super().__init__()
        self.student, self.critic = student, critic


class AdversarialDistillation(Distillation):
    """The flow map's loss, and a critic that compares one-step samples with real pictures (AYF, adversarial stage).

    Both players learn in one step from one loss, whose parts do not mix: the generator plays against a critic whose
    weights are constants, the critic sees pictures that are constants.
    """

    def loss(self, network: nn.Module, batch: Mapping[str, Tensor], stage: Stage) -> tuple[Tensor, dict[str, Tensor]]:
        """The sum of both players' losses. Logged: each part, and the ``balance`` between map and critic."""
        assert isinstance(network, Players)
        how, captions = StudentOptions.of(stage), batch["caption"]
        student, critic = network.student, network.critic
        flow_map, direction = self.flow_map_loss(student, batch, how)
        t = torch.ones_like(batch["t"])
        fake = batch["noise"] - student(batch["noise"], t, torch.zeros_like(t), captions)  # f(x_1, 1, 0)
        fixed = {name: p.detach() for name, p in critic.named_parameters()}
        players = paired_losses(
            lambda images: critic(images, captions),
            lambda images: torch.func.functional_call(critic, fixed, (images, captions)),
            batch["image"],
            fake,
        )
        balance = gradient_ratio(flow_map, players.generator, _last_adapter(student))
        loss = flow_map + how.adversarial * balance * players.generator
        loss = loss + players.critic + how.penalty * players.penalty
        logs = {"direction": direction, "balance": balance}
        return loss, logs | {name: value.detach() for name, value in players._asdict().items()}

    def parameters(self, network: nn.Module, stage: Stage) -> list[dict[str, Any]]:
        """The student's adapters, and the critic."""
        assert isinstance(network, Players)
        return [*student_groups(network.student), {"params": list(network.critic.parameters())}]


def gradient_ratio(one: Tensor, other: Tensor, weight: Tensor, largest: float = 1e4) -> Tensor:
    """How many times longer the gradient of ``one`` at a weight is than that of ``other``: a scalar.

    The adaptive weight of VQGAN (Esser et al., CVPR 2021, equation 7).
    """
    lengths = [torch.autograd.grad(loss, weight, retain_graph=True)[0].norm() for loss in (one, other)]
    return (lengths[0] / (lengths[1] + 1e-6)).clamp(max=largest).detach()


def _last_adapter(student: DiT) -> Tensor:
    block = student.blocks[-1]
    assert isinstance(block, Block)
    assert isinstance(block.mlp.last, Adapted)
    return block.mlp.last.up


# ------------------------------------------------------------------------------------------------- the judge


@dataclass(frozen=True)
class ReaderOptions:
    """What a stage of :class:`AttributeReading` may be told."""

    grain: Annotated[float, Range(0)] = 0.1
    """The largest deviation of the noise on a picture: generated pictures are never quite clean."""


class AttributeReading:
    """The reader: cross-entropy of each attribute, and of the mask."""

    def batch(self, stage: Stage, seeds: Sequence[int], device: torch.device) -> dict[str, Tensor]:
        """``image [B, 4, H, W]`` with noise on its colours, ``caption [B, 6]``."""
        how = read(ReaderOptions, stage.options, f"stage {stage.name!r}", "the reader")
        image, caption = captioned.draw(seeds, stage.size)
        for picture, rng in zip(image, (Rng(seed, Stream.FLOW) for seed in seeds), strict=True):
            noise = rng.uniform(0, how.grain) * normal(rng, 3, *image.shape[2:])
            picture[:3] += torch.from_numpy(noise).float()
        return {"image": image.to(device), "caption": caption.to(device)}

    def loss(self, network: nn.Module, batch: Mapping[str, Tensor], stage: Stage) -> tuple[Tensor, dict[str, Tensor]]:
        """Logged: ``right``, the share of captions of which all is read."""
        assert isinstance(network, AttributeReader)
        seen, captions = network(batch["image"]), batch["caption"]
        loss = torch.stack([F.cross_entropy(each, captions[:, i] - 1) for i, each in enumerate(seen.logits)]).mean()
        loss = loss + F.binary_cross_entropy_with_logits(seen.mask, (batch["image"][:, 3] + 1) / 2)
        return loss, {"right": (seen.captions == captions).all(1).float().mean()}

    def parameters(self, network: nn.Module, stage: Stage) -> list[dict[str, Any]]:
        """All of them."""
        return [{"params": list(network.parameters())}]
