"""What is learned: AYF-EMD between FLUX without its adapters and FLUX with them, in one batch and one loss."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from ..errors import TutorialError
from ..models.flow_map import direction_loss, emd_direction, interpolate, interval_first, like, normalise, two_sorted
from ..options import Range, read
from ..recipes import Stage
from ..training import derived_seed
from .latents import shift, shifted
from .network import Condition, FluxFlowMap
from .pictures import Prepared


@dataclass(frozen=True)
class FluxOptions:
    """What a stage's ``options`` may hold."""

    done: Annotated[float, Range(0, 1)] = 1.0
    """The share of the stage that is done: ``{"from": 0, "to": 1}``."""
    warm_up: Annotated[float, Range(0, 1)] = 0.0
    """The share of the stage in which ``r`` grows from 0."""
    cap: Annotated[float, Range(0, 1)] = 0.99
    """The largest ``r``: what is missing from 1 keeps pulling to a straight line (section 3.4)."""
    times: Literal["interval first", "two sorted"] = "interval first"
    """How t and s are drawn, before the shift; sources differ."""
    derivative: Literal["difference", "jvp"] = "difference"
    """Flash and memory-efficient attention have no forward mode; ``"jvp"`` uses the slower math kernel. FLUX embeds
    time by sines of up to 1000 t, so the two differ: a difference over 0.01 smooths the fast ones, and on random
    weights the exact derivative is about three times as large (``benchmarks/flux.py``)."""

    @classmethod
    def of(cls, stage: Stage) -> FluxOptions:
        """Those of a stage; TutorialError on an option or a value that it cannot have."""
        return read(cls, stage.options, f"stage {stage.name!r}", "flux")

    @property
    def r(self) -> float:
        """The share of the derivative now."""
        return min(self.cap, self.done / self.warm_up) if self.warm_up else self.cap


class FluxTask:
    """AYF-EMD on prepared pictures.

    Args:
        source: the pictures.
        grid: height and width in tokens, of all of them.
    """

    def __init__(self, source: Prepared, grid: tuple[int, int]) -> None:
        self.source, self.grid = source, grid
        self.shift = shift(grid[0] * grid[1])

    def check(self, stage: Stage) -> None:
        """See :class:`~vos_tutorial.training.tasks.Task`."""
        FluxOptions.of(stage)
        if stage.size != self.source.size:
            raise TutorialError(
                f"stage {stage.name!r} learns from pictures of {stage.size} pixels, and {self.source.folder} holds "
                f"such of {self.source.size}; give --set {stage.name}.size={self.source.size}, or prepare others."
            )

    def batch(self, stage: Stage, seeds: Sequence[int], device: torch.device) -> dict[str, Tensor]:
        """Pictures, noise and times; sample i depends on seed i only.

        Returns:
            ``latents`` and ``noise float32 [B, N, C]``, ``prompt [B, L, D]``, ``pooled [B, P]``, ``t`` and ``s
            float32 [B]``, ``s <= t``.
        """
        batch = self.source.batch([derived_seed(seed) % len(self.source) for seed in seeds])
        draw = interval_first if FluxOptions.of(stage).times == "interval first" else two_sorted
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        noise = [torch.randn(batch["latents"].shape[1:], generator=generator) for generator in generators]
        times = torch.stack([torch.cat(draw(1, generator=generator)) for generator in generators])  # [B, 2]
        t, s = shifted(times, self.shift).unbind(1)
        batch |= {"noise": torch.stack(noise), "t": t.contiguous(), "s": s.contiguous()}
        return {name: value.to(device) for name, value in batch.items()}

    def loss(self, network: nn.Module, batch: Mapping[str, Tensor], stage: Stage) -> tuple[Tensor, dict[str, Tensor]]:
        """``|F - sg(F - g/(|g| + c))|²``, and what to watch, since the normalised loss does not fall.

        The teacher and the derivative compute in float32: at the beginning their difference is zero, and what
        bfloat16 would leave of it, normalised, would be a step in a random direction. The pass that has a gradient is
        FLUX's own bfloat16.

        Returns:
            the loss, and for the log ``direction``, the root mean square of g: how far the map is from one that keeps
            its promise.
        """
        assert isinstance(network, FluxFlowMap)
        options = FluxOptions.of(stage)
        condition = Condition(batch["prompt"], batch["pooled"], self.grid)
        t, s = batch["t"], batch["s"]
        x = interpolate(batch["latents"], batch["noise"], t)  # [B, N, C]
        velocity = network.velocity(x, t, condition)
        with sdpa_kernel(SDPBackend.MATH) if options.derivative == "jvp" else nullcontext():
            g = emd_direction(
                lambda x, t, s: network(x, t, s, condition),
                x,
                t,
                s,
                velocity,
                options.r,
                derivative=options.derivative,
                step=1 + round(options.done * (stage.steps - 1)),
            )
        F = network(x.to(network.transformer.dtype), t, s, condition)
        rms = g.square().flatten(1).mean(1).sqrt()  # [B]
        return direction_loss(F, normalise(g)), {"direction": rms.mean()}

    def parameters(self, network: nn.Module, stage: Stage) -> list[dict[str, Any]]:
        """Adapters and s-embedder."""
        assert isinstance(network, FluxFlowMap)
        return [{"params": list(network.learned().values())}]


@torch.no_grad()
def path_error(network: FluxFlowMap, batch: Mapping[str, Tensor], grid: tuple[int, int], steps: int = 32) -> Tensor:
    """How far one jump lands from where the teacher's own path ends: what falls while a student learns.

    Args:
        network: the student, and with its adapters off the teacher.
        batch: of :meth:`FluxTask.batch`.
        grid: height and width in tokens.
        steps: Euler steps of the teacher from t to s.

    Returns:
        ``float32 [B]``, the root mean square over each sample.
    """
    condition = Condition(batch["prompt"], batch["pooled"], grid)
    t, s = batch["t"], batch["s"]
    start = interpolate(batch["latents"], batch["noise"], t)  # [B, N, C]
    x, now, stride = start, t, (s - t) / steps
    for _ in range(steps):
        x, now = x + like(stride, x) * network.velocity(x, now, condition), now + stride
    jumped = start + like(s - t, x) * network(start, t, s, condition)
    return (jumped - x).square().flatten(1).mean(1).sqrt()
