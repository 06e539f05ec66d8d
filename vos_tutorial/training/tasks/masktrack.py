"""MaskTrack's training: stills in, corrupted guides made, cross-entropy out (CVPR 2017, section 4)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...augment import Corruption, corrupt
from ...data.batches import StillSource
from ...data.worlds.sprites import SyntheticStills
from ...errors import TutorialError
from ...models.layers import dice_loss
from ...models.masktrack import (
    make_guide,
)
from ...recipes import Stage
from ...rng import Rng, Stream


class MaskTrackTask:
    """Section 4 as a task of the training loop: stills in, spoiled guides made, cross-entropy out.

    A stage's ``options`` may hold ``guide`` (``"mask"``, ``"box"``, ``"none"``), ``spoiling`` (a dictionary of
    :class:`~vos_tutorial.augment.Corruption`'s fields), ``dice`` (the weight of a Dice loss beside the paper's
    cross-entropy; 0 by default) and ``head_lr`` (see :meth:`parameters`).

    Args:
        source: where the stills come from; generated ones by default.
    """

    def __init__(self, source: StillSource | None = None) -> None:
        self.source = source if source is not None else SyntheticStills()

    def batch(self, stage: Stage, seeds: Sequence[int], device: torch.device) -> dict[str, Tensor]:
        """``image [B, 3, H, W]``, ``guide`` and ``target`` ``bool [B, H, W]``; sample i depends on seed i only.

        Raises:
            TutorialError: if the stage has an option that no one reads.
        """
        how = self._spoiling(stage)
        images, masks = self.source.batch(seeds, stage.size)
        guide = make_guide(
            corrupt(masks, [Rng(s, Stream.GUIDE) for s in seeds], how), stage.options.get("guide", "mask")
        )
        return {"image": images.to(device), "guide": guide.to(device), "target": masks.to(device)}

    @staticmethod
    def _spoiling(stage: Stage) -> Corruption:
        amounts = stage.options.get("spoiling", {})
        for given, known in (
            (stage.options, ("guide", "spoiling", "head_lr", "dice")),
            (amounts, vars(Corruption())),
        ):
            unknown = [key for key in given if key not in known]
            if unknown:
                raise TutorialError(
                    f"stage {stage.name!r}: masktrack does not know the option {unknown[0]!r}; "
                    f"choose from {', '.join(known)}."
                )
        return Corruption(**amounts)

    def loss(self, network: nn.Module, batch: Mapping[str, Tensor], stage: Stage) -> tuple[Tensor, dict[str, Tensor]]:
        """Cross-entropy at full resolution (and the stage's share of Dice), and the IoU of the answers."""
        logits = network(batch["image"], batch["guide"])
        answer = logits.detach().argmax(1).bool()
        hit = (answer & batch["target"]).flatten(1).sum(1) / (answer | batch["target"]).flatten(1).sum(1).clamp_min(1)
        loss = F.cross_entropy(logits, batch["target"].long())
        if weight := stage.options.get("dice", 0.0):
            loss = loss + weight * dice_loss(logits.softmax(1)[:, 1], batch["target"])
        return loss, {"iou": hit.mean()}

    def parameters(self, network: nn.Module, stage: Stage) -> list[dict[str, Any]]:
        """All of them; a stage's option ``head_lr`` multiplies the rate of DeepLabv2's new layers."""
        head = [p for n, p in network.named_parameters() if "branches" in n]
        rest = [p for n, p in network.named_parameters() if "branches" not in n]
        groups: list[dict[str, Any]] = [{"params": rest}]
        if head:
            groups.append({"params": head, "lr_scale": stage.options.get("head_lr", 1.0)})
        return groups


def task(source: StillSource | None = None) -> MaskTrackTask:
    """The training task; see :class:`MaskTrackTask`."""
    return MaskTrackTask(source)
