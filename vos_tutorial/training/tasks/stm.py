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
from ...data.sources.cutouts import MixedClips, Photos
from ...data.sources.simulated import SimulatedClips
from ...geometry import iou
from ...models.backbones import LiteEncoder, slow_groups
from ...models.layers import dice_loss
from ...models.stm import STM, Query, other_masks
from ...options import Range, read
from ...propagation import most_probable, soft_aggregate_logits
from ...recipes import Stage
from . import require_source
from .clips import ClipTask


@dataclass(frozen=True)
class STMOptions:
    """What a stage's ``options`` may hold."""

    source: Literal["simulated", "video", "lifelike", Photos] = "video"
    """``"simulated"``: clips made of stills; ``"lifelike"``: clips of
    :func:`~vos_tutorial.data.sources.generated.lifelike`; the others: clips of
    :func:`~vos_tutorial.data.sources.cutouts.photo_sources`."""
    max_skip: Annotated[int, Range(0)] = 0
    """Frames left out between two frames, at most."""
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


class STMTask(ClipTask):
    """Section 3.5 as a task of the training loop: short clips, each answer memorised before the next is given."""

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
        require_source(stage, STMOptions.of(stage).source, self.sources)

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
        reader = (PlaceReader if how.read == "place" else MemoryReader)(network, frames, owner, how)
        losses, overlaps = [], []
        for t in range(1, frames.shape[1]):
            logits = reader.logits(t, known)  # [N, 2, H, W]
            merged = merge_objects(logits, owner, which, len(frames))  # [B, K+1, H, W]
            # Soft: a decision would cut the gradient, and hide the doubt.
            probability = merged.softmax(1)[owner, which]  # [N, H, W]
            target = ids[:, t][owner] == which[:, None, None]  # [N, H, W]
            counts = ids[:, t][owner] != VOID  # [N, H, W]
            losses.append(frame_loss(merged, ids[:, t], probability * counts, target, how.dice))
            answer = most_probable(merged.detach().transpose(0, 1))[owner] == which[:, None, None]  # [N, H, W]
            overlaps.append(iou(answer & counts, target).mean())
            known = feedback(probability, target, how)  # [N, H, W]
        loss = torch.stack(losses).mean() + reader.alignment_loss()
        return loss, {"iou": torch.stack(overlaps).mean()}

    def parameters(self, network: nn.Module, stage: Stage) -> list[dict[str, Any]]:
        """All that can learn; frozen batch norm stays out, and what came from ImageNet is slow."""
        assert isinstance(network, STM)
        if isinstance(network.query_encoder, LiteEncoder):
            return slow_groups(network, network.query_encoder)
        return [{"params": [p for p in network.parameters() if p.requires_grad]}]


def one_mask_each(ids: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Frames ``uint8 [B, H, W]`` of 1..K objects -> masks ``float [N, H, W]``, owners and ids ``long [N]``."""
    pairs = [(b, i) for b, frame in enumerate(ids) for i in object_ids(frame)]
    owner, which = (torch.tensor(column, device=ids.device) for column in zip(*pairs, strict=True))  # [N], [N]
    return (ids[owner] == which[:, None, None]).float(), owner, which


class MemoryReader:
    """Frame t, read from the memory of the frames before it: the paper's training.

    Args:
        network: which learns.
        frames: ``float [B, T, 3, H, W]``.
        owner: ``long [N]``, the sample of each object.
        how: the stage's options.
    """

    def __init__(self, network: STM, frames: Tensor, owner: Tensor, how: STMOptions) -> None:
        self.network, self.frames, self.owner, self.how = network, frames, owner, how
        self.keys: list[Tensor] = []  # [N, Ck, h, w] for each memorised frame
        self.values: list[Tensor] = []  # [N, Cv, h, w]
        self.misalignments: list[Tensor] = []
        self.query: Query | None = network.encode(frames[:, 0]) if how.align else None  # of the last frame

    def logits(self, t: int, known: Tensor) -> Tensor:
        """Memorise frame t - 1 with its masks ``float [N, H, W]``, then segment frame t: ``[N, 2, H, W]``."""
        self._memorize(self.frames[:, t - 1], known)
        self.query = self.network.encode(self.frames[:, t])
        keys, values = torch.stack(self.keys, 2), torch.stack(self.values, 2)  # [N, Ck, t, h, w], [N, Cv, t, h, w]
        return self.network.segment(self.query, keys, values, self.owner, self.how.penalty)  # [N, 2, H, W]

    def _memorize(self, frame: Tensor, known: Tensor) -> None:
        others = other_masks(known, self.owner)  # [N, H, W]
        key, value = self.network.memorize(
            frame, known, others, self.owner, self.query
        )  # [N, Ck, h, w], [N, Cv, h, w]
        if self.how.align and self.query is not None:
            self.misalignments.append(misalignment(key, self.query.key[self.owner]))
        self.keys.append(key)
        self.values.append(value)

    def alignment_loss(self) -> Tensor | float:
        """What the stage's ``align`` adds to the loss, ``float []``."""
        return self.how.align * torch.stack(self.misalignments).mean() if self.misalignments else 0.0


class PlaceReader:
    """Frame t, with the previous true masks as its own memory, which each place reads at its own place: a warm-up.

    The arguments are those of :class:`MemoryReader`. Not the paper's.
    """

    def __init__(self, network: STM, frames: Tensor, owner: Tensor, how: STMOptions) -> None:
        self.network, self.frames, self.owner = network, frames, owner

    def logits(self, t: int, known: Tensor) -> Tensor:
        """Segment frame t by the masks ``float [N, H, W]`` of frame t - 1: ``[N, 2, H, W]``."""
        frame = self.frames[:, t]  # [B, 3, H, W]
        others = other_masks(known, self.owner)  # [N, H, W]
        query = self.network.encode(frame)
        _, value = self.network.memorize(frame, known, others, self.owner, query)  # [N, Cv, h, w]
        return self.network.decode(value, query, self.owner)  # [N, 2, H, W]

    def alignment_loss(self) -> float:
        """Nothing: there are no memory keys to align."""
        return 0.0


def misalignment(memory_key: Tensor, query_key: Tensor) -> Tensor:
    """How far the two sides' keys of the *same* frames are apart, ``float []``: 0 is equal, about 2 unrelated.

    Squared distance over the spread of the query's keys, which are the model to follow and get no gradient. Not the
    paper's.

    Args:
        memory_key: ``float [N, Ck, h, w]``.
        query_key: ``float [N, Ck, h, w]``.
    """
    target = query_key.detach().float()
    spread = target.var(dim=(0, 2, 3)).mean()  # [Ck] -> []
    return (memory_key.float() - target).pow(2).mean() / spread.clamp_min(1e-6)


def merge_objects(logits: Tensor, owner: Tensor, which: Tensor, samples: int) -> Tensor:
    """Soft aggregation (equation 3): the objects of a frame compete for its pixels, also while the network learns.

    Args:
        logits: ``float [N, 2, H, W]``, background and object, each object as if it were alone.
        owner: ``long [N]``, the sample of each object.
        which: ``long [N]``, its id there, 1..K.
        samples: B.

    Returns:
        logits ``float [B, K+1, H, W]``, background first; ids that a sample lacks have probability 0.
    """
    alone = logits.float().softmax(1)[:, 1]  # [N, H, W]
    table = torch.zeros(samples, int(which.max()), *alone.shape[1:], device=alone.device)  # [B, K, H, W]
    return soft_aggregate_logits(table.index_put((owner, which - 1), alone))  # [B, K+1, H, W]


def frame_loss(merged: Tensor, ids: Tensor, probability: Tensor, target: Tensor, dice: float) -> Tensor:
    """The loss of one frame, ``float []``: cross-entropy, and the stage's share of Dice.

    Args:
        merged: logits ``float [B, K+1, H, W]``.
        ids: the truth, ``uint8 [B, H, W]``; 255 (void) does not count.
        probability: of each object, ``float [N, H, W]``, 0 where void.
        target: ``bool [N, H, W]``, where each object is.
        dice: weight of the Dice loss.
    """
    loss = F.cross_entropy(merged, ids.long(), ignore_index=VOID)
    return loss + dice * dice_loss(probability, target) if dice else loss


def feedback(probability: Tensor, target: Tensor, how: STMOptions) -> Tensor:
    """The masks ``float [N, H, W]`` that the next frame starts from: the network's own, or true ones in a warm-up."""
    if how.read == "place":
        return target.float()
    return probability.detach() if how.detach else probability


def task(
    source: StillSource | None = None, video: ClipSource | None = None, photos: MixedClips | None = None
) -> STMTask:
    """The training task: simulated clips are made of the stills of ``source``; see :class:`STMTask`."""
    return STMTask(SimulatedClips(source), video, photos)
