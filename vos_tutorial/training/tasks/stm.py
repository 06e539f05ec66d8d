"""STM's training: short clips, each answer memorised before the next is given (Oh et al., ICCV 2019, section 3.5)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...clip import VOID, object_ids
from ...data.batches import ClipSource, StillSource
from ...data.sources.generated import GeneratedClips, lifelike
from ...data.sources.simulated import SimulatedClips
from ...errors import TutorialError
from ...geometry import iou
from ...models.layers import dice_loss
from ...models.stm import (
    STM,
    Query,
    other_masks,
)
from ...propagation import most_probable, soft_aggregate_logits
from ...recipes import Stage

OPTIONS = ("source", "max_skip", "frames", "detach", "dice", "penalty", "read", "align")


class STMTask:
    """Section 3.5 as a task of the training loop: short clips, each answer memorised before the next is given.

    A stage's ``options``: ``source`` (``"simulated"``, clips made of stills, ``"video"``, or
    ``"lifelike"``, clips of :func:`~vos_tutorial.data.sources.generated.lifelike`), ``max_skip`` (frames
    left out between two frames, at the most), ``frames`` of a clip (3 in the paper), ``detach`` (no gradient through
    memorised answers), ``dice`` (weight of a Dice loss beside the paper's cross-entropy), ``penalty`` (see
    :func:`scores`) and ``read``: ``"memory"``, or ``"place"`` for a warm-up on the task of MaskTrack, in which the
    memory encoder sees the current frame with the last true mask, and each place reads the value at its own place.
    ``align`` is the weight of :func:`misalignment`.

    Args:
        simulated: clips made of stills; of generated ones by default.
        video: clips with real time; generated ones by default.
    """

    def __init__(self, simulated: ClipSource | None = None, video: ClipSource | None = None) -> None:
        self.sources = {
            "simulated": simulated if simulated is not None else SimulatedClips(),
            "video": video if video is not None else GeneratedClips(),
            "lifelike": lifelike(),
        }

    def batch(self, stage: Stage, seeds: Sequence[int], device: torch.device) -> dict[str, Tensor]:
        """``frames [B, T, 3, H, W]`` in [0, 1] and ids ``uint8 [B, T, H, W]``; sample i depends on seed i only.

        Raises:
            TutorialError: if the stage has an option that no one reads, names an unknown source or read, or has
                clips of one frame.
        """
        unknown = [key for key in stage.options if key not in OPTIONS]
        if unknown:
            raise TutorialError(
                f"stage {stage.name!r}: stm does not know the option {unknown[0]!r}; "
                f"choose from {', '.join(OPTIONS)}."
            )
        name = stage.options.get("source", "video")
        if name not in self.sources:
            raise TutorialError(
                f"stage {stage.name!r}: there is no source {name!r}; choose from {', '.join(self.sources)}."
            )
        if (reads := stage.options.get("read", "memory")) not in ("memory", "place"):
            raise TutorialError(f"stage {stage.name!r}: there is no read {reads!r}; choose memory or place.")
        length, skip = stage.options.get("frames", 3), stage.options.get("max_skip", 0)
        if length < 2:
            raise TutorialError(f"stage {stage.name!r}: a clip of {length} frames asks nothing; use 2 or more.")
        frames, masks = self.sources[name].batch(seeds, stage.size, length, skip)
        return {"frames": frames.to(device), "masks": masks.to(device)}

    def loss(self, network: nn.Module, batch: Mapping[str, Tensor], stage: Stage) -> tuple[Tensor, dict[str, Tensor]]:
        """Cross-entropy over background and all objects, averaged over the frames 1.., and the IoU of the answers.

        Pixels of id 255 (void) do not count.
        """
        assert isinstance(network, STM)
        network.penalty = stage.options.get("penalty", network.penalty)
        frames, ids = batch["frames"], batch["masks"]
        known, owner, which = one_mask_each(ids[:, 0])
        keys, values, losses, ious = [], [], [], []
        seen: Query | None = None
        in_place = stage.options.get("read", "memory") == "place"
        align, strangers = stage.options.get("align", 0.0), []
        for t in range(1, frames.shape[1]):
            others = other_masks(known, owner)
            if in_place:
                seen = network.encode(frames[:, t])
                _, value = network.memorize(frames[:, t], known, others, owner, seen)
                logits = network.decode(value, seen, owner)
            else:
                if align and seen is None:
                    seen = network.encode(frames[:, 0])
                key, value = network.memorize(frames[:, t - 1], known, others, owner, seen)
                if align and seen is not None:
                    strangers.append(misalignment(key, seen.key[owner]))
                keys.append(key)
                values.append(value)
                seen = network.encode(frames[:, t])
                logits = network.segment(seen, torch.stack(keys, 2), torch.stack(values, 2), owner)
            alone = logits.float().softmax(1)[:, 1]  # [N, H, W]
            table = torch.zeros(len(frames), int(which.max()), *alone.shape[1:], device=alone.device)
            together = soft_aggregate_logits(table.index_put((owner, which - 1), alone))  # [B, K+1, H, W]
            truth = ids[:, t].long()
            losses.append(F.cross_entropy(together, truth, ignore_index=VOID))
            known = together.softmax(1)[owner, which]  # soft: a decision would cut the gradient, and hide the doubt
            answer = most_probable(together.detach().transpose(0, 1))[owner] == which[:, None, None]
            target = truth[owner] == which[:, None, None]
            counts = truth[owner] != VOID
            if weight := stage.options.get("dice", 0.0):
                losses[-1] = losses[-1] + weight * dice_loss(known * counts, target)
            if in_place:
                known = target.float()
            elif stage.options.get("detach", False):
                known = known.detach()
            ious.append(iou(answer & counts, target).mean())
        loss = torch.stack(losses).mean()
        if strangers:
            loss = loss + align * torch.stack(strangers).mean()
        return loss, {"iou": torch.stack(ious).mean()}

    def parameters(self, network: nn.Module, stage: Stage) -> list[dict[str, Any]]:
        """All that can learn, in one group; frozen batch norm stays out."""
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


def task(source: StillSource | None = None, video: ClipSource | None = None) -> STMTask:
    """The training task: simulated clips are made of the stills of ``source``; see :class:`STMTask`."""
    return STMTask(SimulatedClips(source), video)
