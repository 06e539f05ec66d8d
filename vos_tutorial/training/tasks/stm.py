"""STM's training: short clips, each answer memorised before the next is given (Oh et al., ICCV 2019, section 3.5)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...clip import VOID, object_ids
from ...data.batches import ClipSource, StillSource
from ...data.sources.cutouts import MixedClips
from ...data.sources.generated import GeneratedClips, lifelike
from ...data.sources.simulated import SimulatedClips
from ...errors import TutorialError
from ...geometry import iou
from ...models.backbones import LiteEncoder, slow_groups
from ...models.layers import dice_loss
from ...models.stm import (
    STM,
    Query,
    other_masks,
)
from ...options import Range, read
from ...propagation import most_probable, soft_aggregate_logits
from ...recipes import Stage

CALM = 0.3  # how wild the cut-outs of "calm photos" and "blended photos" are
ALIKE = 0.6  # share of things in "blended photos" whose colours come close to what is behind them


@dataclass(frozen=True)
class STMOptions:
    """What a stage's ``options`` may hold."""

    source: Literal["simulated", "video", "lifelike", "photos", "calm photos", "blended photos"] = "video"
    """``"simulated"``: clips made of stills; ``"lifelike"``: clips of
    :func:`~vos_tutorial.data.sources.generated.lifelike`; the last three: clips of
    :func:`~vos_tutorial.data.sources.cutouts.photo_clips`."""
    max_skip: Annotated[int, Range(0)] = 0
    """Frames left out between two frames, at the most."""
    frames: Annotated[int, Range(2)] = 3
    """Of a clip; 3 in the paper."""
    detach: bool = False
    """No gradient through memorised answers."""
    dice: Annotated[float, Range(0)] = 0.0
    """Weight of a Dice loss beside the paper's cross-entropy."""
    penalty: Annotated[float, Range(0)] | None = None
    """See :func:`~vos_tutorial.models.stm.scores`; None leaves the network's. It stays with the network when the
    stage has ended."""
    read: Literal["memory", "place"] = "memory"
    """``"place"`` is a warm-up on the task of MaskTrack: the memory encoder sees the current frame with the previous
    true mask, and each place reads the value at its own place."""
    align: Annotated[float, Range(0)] = 0.0
    """Weight of :func:`misalignment`."""

    @classmethod
    def of(cls, stage: Stage) -> STMOptions:
        """Those of a stage; TutorialError on an option or a value that it cannot have."""
        return read(cls, stage.options, f"stage {stage.name!r}", "stm")


class STMTask:
    """Section 3.5 as a task of the training loop: short clips, each answer memorised before the next is given.

    Args:
        simulated: clips made of stills; of generated ones by default.
        video: clips with real time; generated ones by default.
        photos: clips made of photographs, if there are any.
    """

    def __init__(
        self,
        simulated: ClipSource | None = None,
        video: ClipSource | None = None,
        photos: MixedClips | None = None,
    ) -> None:
        self.sources = {
            "simulated": simulated if simulated is not None else SimulatedClips(),
            "video": video if video is not None else GeneratedClips(),
            "lifelike": lifelike(),
        }
        if photos is not None:
            calm, blended = photos.calmer(CALM), photos.calmer(CALM, alike=ALIKE)
            self.sources |= {"photos": photos, "calm photos": calm, "blended photos": blended}

    def batch(self, stage: Stage, seeds: Sequence[int], device: torch.device) -> dict[str, Tensor]:
        """``frames [B, T, 3, H, W]`` in [0, 1] and ids ``uint8 [B, T, H, W]``; sample i depends on seed i only.

        Raises:
            TutorialError: as :meth:`STMOptions.of`.
        """
        how = STMOptions.of(stage)
        frames, masks = self.sources[how.source].batch(seeds, stage.size, how.frames, how.max_skip)
        return {"frames": frames.to(device), "masks": masks.to(device)}

    def check(self, stage: Stage) -> None:
        """See :class:`~vos_tutorial.training.tasks.Task`."""
        if STMOptions.of(stage).source not in self.sources:
            raise TutorialError(
                f"stage {stage.name!r} learns from photographs; give pictures with masks (--stills DIR), and "
                "cut-outs with alpha if you have some (--cutouts DIR)."
            )

    def moved_options(self, stage: Stage) -> dict[str, Any]:
        """See :class:`~vos_tutorial.training.tasks.Task`."""
        penalty = STMOptions.of(stage).penalty
        return {} if penalty is None else {"penalty": float(penalty)}

    def loss(self, network: nn.Module, batch: Mapping[str, Tensor], stage: Stage) -> tuple[Tensor, dict[str, Tensor]]:
        """Cross-entropy over background and all objects, averaged over the frames 1.., and the IoU of the answers.

        Pixels of id 255 (void) do not count.
        """
        assert isinstance(network, STM)
        how = STMOptions.of(stage)
        frames, ids = batch["frames"], batch["masks"]  # [B, T, 3, H, W], [B, T, H, W]
        known, owner, which = one_mask_each(ids[:, 0])  # [N, H, W], [N], [N]
        keys, values, losses, ious = [], [], [], []
        seen: Query | None = None
        in_place, align, strangers = how.read == "place", how.align, []
        for t in range(1, frames.shape[1]):
            others = other_masks(known, owner)  # [N, H, W]
            if in_place:
                seen = network.encode(frames[:, t])
                _, value = network.memorize(frames[:, t], known, others, owner, seen)
                logits = network.decode(value, seen, owner)  # [N, 2, H, W]
            else:
                if align and seen is None:
                    seen = network.encode(frames[:, 0])
                key, value = network.memorize(frames[:, t - 1], known, others, owner, seen)
                if align and seen is not None:
                    strangers.append(misalignment(key, seen.key[owner]))
                keys.append(key)
                values.append(value)
                seen = network.encode(frames[:, t])
                memory = torch.stack(keys, 2), torch.stack(values, 2)  # [N, Ck, t, h, w], [N, Cv, t, h, w]
                logits = network.segment(seen, *memory, owner, how.penalty)  # [N, 2, H, W]
            alone = logits.float().softmax(1)[:, 1]  # [N, H, W]
            table = torch.zeros(len(frames), int(which.max()), *alone.shape[1:], device=alone.device)  # [B, K, H, W]
            merged = soft_aggregate_logits(table.index_put((owner, which - 1), alone))  # [B, K+1, H, W]
            truth = ids[:, t].long()  # [B, H, W]
            losses.append(F.cross_entropy(merged, truth, ignore_index=VOID))
            # [N, H, W]; soft: a decision would cut the gradient, and hide the doubt
            known = merged.softmax(1)[owner, which]
            answer = most_probable(merged.detach().transpose(0, 1))[owner] == which[:, None, None]
            target = truth[owner] == which[:, None, None]
            counts = truth[owner] != VOID
            if how.dice:
                losses[-1] = losses[-1] + how.dice * dice_loss(known * counts, target)
            if in_place:
                known = target.float()
            elif how.detach:
                known = known.detach()
            ious.append(iou(answer & counts, target).mean())
        loss = torch.stack(losses).mean()
        if strangers:
            loss = loss + align * torch.stack(strangers).mean()
        return loss, {"iou": torch.stack(ious).mean()}

    def parameters(self, network: nn.Module, stage: Stage) -> list[dict[str, Any]]:
        """All that can learn; frozen batch norm stays out, and what came from ImageNet is slow."""
        assert isinstance(network, STM)
        if isinstance(network.query_encoder, LiteEncoder):
            return slow_groups(network, network.query_encoder)
        return [{"params": [p for p in network.parameters() if p.requires_grad]}]


def misalignment(memory_key: Tensor, query_key: Tensor) -> Tensor:
    """How far the two sides' keys of the *same* frames are apart, ``float []``: 0 is equal, about 2 unrelated.

    Squared distance over the spread of the query's keys, which are the model to follow and get no gradient. Not the
    paper's.
    """
    target = query_key.detach().float()
    return (memory_key.float() - target).pow(2).mean() / target.var(dim=(0, 2, 3)).mean().clamp_min(1e-6)


def one_mask_each(ids: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Frames ``uint8 [B, H, W]`` of 1..K objects -> masks ``float [N, H, W]``, owners and ids ``long [N]``."""
    pairs = [(b, i) for b, frame in enumerate(ids) for i in object_ids(frame)]
    owner, which = (torch.tensor(column, device=ids.device) for column in zip(*pairs, strict=True))
    return (ids[owner] == which[:, None, None]).float(), owner, which


def task(
    source: StillSource | None = None, video: ClipSource | None = None, photos: MixedClips | None = None
) -> STMTask:
    """The training task: simulated clips are made of the stills of ``source``; see :class:`STMTask`."""
    return STMTask(SimulatedClips(source), video, photos)
