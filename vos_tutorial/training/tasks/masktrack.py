"""MaskTrack's training: stills in, corrupted guides made, cross-entropy out (CVPR 2017, section 4)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...augment import Corruption, corrupt
from ...data.batches import StillSource
from ...data.sources.cutouts import ClipStills, MixedClips, Photos, photo_sources
from ...data.worlds.sprites import SyntheticStills
from ...geometry import iou
from ...models.backbones import slow_groups
from ...models.layers import dice_loss
from ...models.masktrack import Guide, LiteUNet, MaskTrack, make_guide
from ...options import Range, read
from ...recipes import Stage
from ...rng import Rng, Stream
from . import require_source


@dataclass(frozen=True)
class MaskTrackOptions:
    """What a stage's ``options`` may hold."""

    guide: Guide = "mask"
    """What the network is shown of the previous mask."""
    spoiling: Corruption = field(default_factory=Corruption)
    """How the true mask becomes a plausible previous one."""
    head_lr: Annotated[float, Range(0)] = 1.0
    """Times the stage's learning rate, for DeepLabv2's new layers."""
    dice: Annotated[float, Range(0)] = 0.0
    """Weight of a Dice loss beside the paper's cross-entropy."""
    source: Literal["stills", Photos] = "stills"
    """Photographs are single frames of :func:`~vos_tutorial.data.sources.cutouts.photo_sources`."""

    @classmethod
    def of(cls, stage: Stage) -> MaskTrackOptions:
        """Those of a stage; TutorialError on an option or a value that it cannot have."""
        return read(cls, stage.options, f"stage {stage.name!r}", "masktrack")


class MaskTrackTask:
    """Section 4 as a task of the training loop: stills in, corrupted guides made, cross-entropy out.

    Args:
        source: where the stills come from; generated ones by default.
        photos: clips made of photographs, if there are any; stages that learn from them see single frames.
    """

    def __init__(self, source: StillSource | None = None, photos: MixedClips | None = None) -> None:
        self.sources: dict[str, StillSource] = {"stills": source if source is not None else SyntheticStills()}
        self.sources |= {name: ClipStills(clips) for name, clips in photo_sources(photos).items()}

    def batch(self, stage: Stage, seeds: Sequence[int], device: torch.device) -> dict[str, Tensor]:
        """``image [B, 3, H, W]``, ``guide`` and ``target`` ``bool [B, H, W]``; sample i depends on seed i only.

        Raises:
            TutorialError: as :meth:`MaskTrackOptions.of`.
        """
        options = MaskTrackOptions.of(stage)
        images, masks = self.sources[options.source].batch(seeds, stage.size)  # [B, 3, H, W], [B, H, W]
        rngs = [Rng(s, Stream.GUIDE) for s in seeds]
        guide = make_guide(corrupt(masks, rngs, options.spoiling), options.guide)  # [B, H, W]
        return {"image": images.to(device), "guide": guide.to(device), "target": masks.to(device)}

    def check(self, stage: Stage) -> None:
        """See :class:`~vos_tutorial.training.tasks.Task`."""
        require_source(stage, MaskTrackOptions.of(stage).source, self.sources)

    def loss(self, network: nn.Module, batch: Mapping[str, Tensor], stage: Stage) -> tuple[Tensor, dict[str, Tensor]]:
        """Cross-entropy at full resolution (and the stage's share of Dice), and the IoU of the answers."""
        logits = network(batch["image"], batch["guide"])  # [B, 2, H, W]
        target = batch["target"]  # [B, H, W]
        loss = F.cross_entropy(logits, target.long())
        if weight := MaskTrackOptions.of(stage).dice:
            loss = loss + weight * dice_loss(logits.softmax(1)[:, 1], target)  # of [B, H, W]
        answer = logits.detach().argmax(1).bool()  # [B, H, W]
        return loss, {"iou": iou(answer, target).mean()}

    def parameters(self, network: nn.Module, stage: Stage) -> list[dict[str, Any]]:
        """All of them; a stage's option ``head_lr`` multiplies the rate of DeepLabv2's new layers."""
        if isinstance(network, MaskTrack) and isinstance(network.body, LiteUNet):
            return slow_groups(network, network.body.encoder)
        head = [p for n, p in network.named_parameters() if "branches" in n]
        rest = [p for n, p in network.named_parameters() if "branches" not in n]
        groups: list[dict[str, Any]] = [{"params": rest}]
        if head:
            groups.append({"params": head, "lr_scale": MaskTrackOptions.of(stage).head_lr})
        return groups


def task(source: StillSource | None = None, photos: MixedClips | None = None) -> MaskTrackTask:
    """The training task; see :class:`MaskTrackTask`."""
    return MaskTrackTask(source, photos)
