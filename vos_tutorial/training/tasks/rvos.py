"""RVOS's training: which slot an object belongs to, and clips unrolled over time and objects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn

from ...clip import VOID
from ...data.batches import ClipSource, StillSource
from ...data.sources.generated import GeneratedClips, lifelike
from ...data.sources.simulated import SimulatedClips
from ...data.worlds.discs import Discs
from ...errors import TutorialError
from ...models.backbones import ResNetEncoder
from ...models.rvos import (
    RVOS,
    Recurrence,
    RolloutFrame,
    soft_iou_cost,
    unroll,
)
from ...options import Range, read
from ...recipes import Stage

#: Of real video up to 10 objects stay, the paper's number; a stage's ``slots`` may be fewer.
VIDEO: dict[str, Any] = {"objects": 10}
FORBIDDEN = 10.0  # the cost of a pair that must not be; all others are at most 1


def assign(cost: Tensor, valid: Tensor) -> Tensor:
    """Which slot each object gets so that the sum of the costs is least (the Hungarian method).

    A sample with n valid objects may only use its first n slots: later ones stay out of the training.

    Args:
        cost: ``float [B, G, S]`` of object g in slot s, in [0, 1], S >= G.
        valid: ``bool [B, G]``: is there such an object?

    Returns:
        ``long [B, G]``, for each object its slot; no slot twice. Those that are not valid get what is left.

    Raises:
        TutorialError: if there are fewer slots than objects.
    """
    objects, slots = cost.shape[1:]
    if slots < objects:
        raise TutorialError(f"{objects} objects do not fit into {slots} slots; use as many slots as objects.")
    allowed = valid[:, :, None] & (torch.arange(slots, device=cost.device) < valid.sum(1)[:, None, None])
    costs = torch.where(allowed, cost.detach(), FORBIDDEN).cpu().double().numpy()
    found = np.stack([linear_sum_assignment(one)[1] for one in costs])
    return torch.from_numpy(found).to(cost.device)


def in_slots(truth: Tensor, slot: Tensor, slots: int) -> Tensor:
    """What belongs to objects, put where their slots are: ``[B, G, ...]`` and ``slot [B, G] -> [B, slots, ...]``."""
    placed = torch.zeros(len(truth), slots, *truth.shape[2:], dtype=truth.dtype, device=truth.device)
    return placed.index_put((torch.arange(len(truth), device=truth.device)[:, None], slot), truth)


@dataclass(frozen=True)
class RVOSOptions:
    """What a stage's ``options`` may hold."""

    source: Literal["simulated", "video", "lifelike", "discs", "same discs"] = "video"
    """``"lifelike"``: clips of :func:`~vos_tutorial.data.sources.generated.lifelike`; ``"simulated"``: clips made of
    stills; two ``"discs"`` or three ``"same discs"`` can be found by a zero-shot network."""
    frames: Annotated[int, Range(1)] = 5
    """Of a clip; 5 in the paper."""
    max_skip: Annotated[int, Range(0)] = 0
    """Frames left out between two, at the most."""
    slots: Annotated[int, Range(1)] = 3
    """The largest number of objects (10 in the paper); further ones are background."""
    previous: Literal["truth", "own"] = "truth"
    """The previous masks of a one-shot network are the ``"truth"`` (the paper's first stage), or its ``"own"``
    probabilities, from frame 1 on (the second)."""
    recurrence: Recurrence = "ST"
    empty: Annotated[float, Range(0)] = 0.0
    """Weight of the cross-entropy on masks that should be empty, because the object is hidden, or because no object
    is left for the slot of a zero-shot network. The soft IoU has no gradient there. Not the paper's."""
    total: Literal["sum", "mean"] = "sum"
    """Over the frames: the ``"sum"``, the paper's, or the ``"mean"``."""

    @classmethod
    def of(cls, stage: Stage) -> RVOSOptions:
        """Those of a stage; TutorialError on an option or a value that it cannot have."""
        return read(cls, stage.options, f"stage {stage.name!r}", "rvos")


class RVOSTask:
    """A clip as one grid, and one backward pass over all of it; gradients cross frames through h alone.

    Args:
        simulated: clips made of stills; of generated ones by default.
        video: clips with real time; generated ones by default.
    """

    def __init__(self, simulated: ClipSource | None = None, video: ClipSource | None = None) -> None:
        self.sources: dict[str, ClipSource] = {
            "simulated": simulated if simulated is not None else SimulatedClips(),
            "video": video if video is not None else GeneratedClips(),
            "lifelike": lifelike(),
            "discs": Discs(),
            "same discs": Discs((3, 3), alike=True),
        }

    def batch(self, stage: Stage, seeds: Sequence[int], device: torch.device) -> dict[str, Tensor]:
        """``frames [B, T, 3, H, W]`` in [0, 1] and ids ``uint8 [B, T, H, W]``; sample i depends on seed i only.

        Raises:
            TutorialError: as :meth:`RVOSOptions.of`.
        """
        how = RVOSOptions.of(stage)
        frames, masks = self.sources[how.source].batch(seeds, stage.size, how.frames, how.max_skip)
        return {"frames": frames.to(device), "masks": masks.to(device)}

    def check(self, stage: Stage) -> None:
        """See :class:`~vos_tutorial.training.tasks.Task`."""
        RVOSOptions.of(stage)

    def loss(self, network: nn.Module, batch: Mapping[str, Tensor], stage: Stage) -> tuple[Tensor, dict[str, Tensor]]:
        """The soft IoU of every object in every frame, with what the stage adds to it, and the IoU of the answers.

        An object counts in all frames, seen or not, if frame 0 shows it. Pixels of id 255 (void) do not count.
        """
        assert isinstance(network, RVOS)
        how = RVOSOptions.of(stage)
        frames, ids = batch["frames"], batch["masks"]
        shown = ids[:, 0].masked_fill(ids[:, 0] == VOID, 0).amax((1, 2))  # objects are numbered without gaps
        slots = min(int(shown.max()), how.slots) if network.one_shot else how.slots
        numbers = torch.arange(1, slots + 1, device=ids.device)
        truth = (ids[:, :, None] == numbers[:, None, None]).to(frames.dtype)  # [B, T, N, H, W]
        valid = numbers <= shown[:, None]  # [B, N]
        counts = (ids != VOID)[:, :, None]
        own = how.previous == "own"
        moments = unroll(
            network,
            frames,
            truth[:, 0] if network.one_shot else None,
            slots,
            how.recurrence,
            given=1,
            truth=None if own else truth,
        )
        losses, overlaps = [], []
        for t, moment in enumerate(moments):
            if t == 0 and not network.one_shot:  # once for the whole clip: a slot must stay with its object
                cost = soft_iou_cost((moment.probability * counts[:, 0])[:, None], truth[:, 0][:, :, None])
                slot = assign(cost, valid)
                truth = in_slots(truth.transpose(1, 2), slot, slots).transpose(1, 2)
                valid = in_slots(valid, slot, slots)
            y = truth[:, t]
            losses.append(frame_loss(moment, y, valid, counts[:, t], how.empty, not network.one_shot))
            answer, target = (moment.probability.detach() > 0.5) & counts[:, t], y > 0
            seen = valid & target.any(-1).any(-1)
            union = (answer | target).sum((-2, -1)).clamp_min(1)
            overlap = (answer & target).sum((-2, -1)) / union
            overlaps.append((overlap * seen).sum() / seen.sum().clamp_min(1))
        loss = torch.stack(losses)
        return (loss.sum() if how.total == "sum" else loss.mean()), {"iou": torch.stack(overlaps).mean()}

    def parameters(self, network: nn.Module, stage: Stage) -> list[dict[str, Any]]:
        """Heads and decoder at the stage's rate, a ResNet (which knows pictures already) at a thousandth of it."""
        assert isinstance(network, RVOS)
        paper = isinstance(network.encoder, ResNetEncoder)
        backbone = [p for p in network.encoder.parameters() if p.requires_grad]
        rest = [p for name, p in network.named_parameters() if not name.startswith("encoder.")]
        return [{"params": rest}, {"params": backbone, "lr_scale": 1e-3 if paper else 1.0}]


def frame_loss(
    moment: RolloutFrame,
    target: Tensor,
    valid: Tensor,
    counts: Tensor | None = None,
    empty: float = 0.0,
    unused: bool = False,
) -> Tensor:
    """The loss of one frame, ``float []``: the mean soft IoU cost over the valid slots of all samples, and more.

    Args:
        moment: N slots.
        target: ``float [B, N, H, W]``, 0 or 1.
        valid: ``bool [B, N]``: which slots hold an object of the clip, seen in this frame or not.
        counts: ``bool [B, 1, H, W]``, pixels that count; all by default.
        empty: weight of the cross-entropy (its mean over the pixels) where an object is not to be seen.
        unused: whether ``empty`` also holds for slots without an object.
    """
    q = moment.probability if counts is None else moment.probability * counts
    objects = valid.sum().clamp_min(1)
    loss = (soft_iou_cost(q, target) * valid).sum() / objects
    if empty:
        entropy = F.softplus(moment.logits.float())  # -log(1 - q): nothing else is left where the target is 0
        entropy = (entropy if counts is None else entropy * counts).mean((-2, -1))  # [B, N]
        silent = ~target.flatten(2).any(-1)
        loss = loss + empty * (entropy * (silent if unused else silent & valid)).sum() / objects
    return loss


def task(source: StillSource | None = None, video: ClipSource | None = None) -> RVOSTask:
    """The training task: simulated clips are made of the stills of ``source``; see :class:`RVOSTask`."""
    return RVOSTask(SimulatedClips(source), video)
