"""RGMP's training: a reference and a window of a clip, followed with the network's own masks (section 3.2)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...augment import Corruption, Dreaming, corrupt, relight, rotate_zoom_flip
from ...clip import VOID, object_ids
from ...data.batches import SMALLEST, ClipSource, StillSource
from ...data.sources.cutouts import MixedClips, Photos
from ...data.sources.simulated import SimulatedClips
from ...geometry import iou
from ...models.backbones import MaskedLiteEncoder, slow_groups
from ...models.layers import dice_loss
from ...models.rgmp import RGMP, Feedback, Scores
from ...options import Range, read
from ...recipes import Stage
from ...rng import Rng, Stream
from . import require_source
from .clips import ClipTask

FAULTS = ("blank", "shifted", "another's", "stale")
"""What can be wrong with a previous mask: nothing was found; a fast object is elsewhere; a look-alike took it; it is
one frame older."""
SHIFT = 0.25  # how far a shifted mask lies off at the most, as a share of the frame
RELIT = Dreaming(gain=0.2, power=0.3, offset=0.08)  # another light for a reference that is seen otherwise
TURN, ZOOM = 15.0, 0.25  # ... and how far it is turned, in degrees, and zoomed


@dataclass(frozen=True)
class RGMPOptions:
    """What a stage's ``options`` may hold."""

    source: Literal["simulated", "video", "lifelike", Photos] = "video"
    """``"video"``: the first previous mask is the true one of the frame before; ``"lifelike"``: the same with clips
    of :func:`~vos_tutorial.data.sources.generated.lifelike`, and photographs with those of
    :func:`~vos_tutorial.data.sources.cutouts.photo_sources`; ``"simulated"``: clips made of stills, where there is no
    frame before, and the true mask of the target itself is corrupted."""
    recurrence: Annotated[int, Range(1)] = 1
    """Number of steps N; the paper's grows from 1 to 5 (unverified)."""
    max_skip: Annotated[int, Range(0)] = 0
    """Frames left out between two frames of a video, at most."""
    feedback: Feedback = "soft"
    """``"soft"`` feeds the probability back; ``"hard"`` the decision, which stops the gradient as well."""
    detach: bool = False
    """No gradient through what is fed back. By default it goes through the whole roll-out."""
    teacher_forcing: bool = False
    """True masks are fed back instead."""
    reference: bool = True
    """False blanks the reference's picture and mask."""
    previous: bool = True
    """False blanks every previous mask."""
    drop_previous: Annotated[float, Range(0, 1)] = 0.0
    """For this share of the samples the *first* previous mask is blank: the object must be found by the reference
    alone, as after an occlusion, and is then followed."""
    spare: Annotated[int, Range(0)] = 0
    """So many more frames of the clip, before and after the window, for the reference to come from."""
    relit: bool = False
    """The reference is seen in another light, turned and zoomed. Not the paper's."""
    faults: Annotated[float, Range(0, 1)] = 0.0
    """For this share of all steps the previous mask has one of :data:`FAULTS`. Not the paper's."""
    spoiling: Corruption = field(default_factory=Corruption)
    """How the true mask is corrupted."""
    dice: Annotated[float, Range(0)] = 0.0
    """Weight of a Dice loss beside the cross-entropy (which the authors' later papers use)."""

    @classmethod
    def of(cls, stage: Stage) -> RGMPOptions:
        """Those of a stage; TutorialError on an option or a value that it cannot have."""
        return read(cls, stage.options, f"stage {stage.name!r}", "rgmp")


class RGMPTask(ClipTask):
    """Two kinds of stages: pairs made of stills (one step long), and video, in which errors are fed back.

    A roll-out starts from a previous mask and takes ``recurrence`` steps, each of which feeds its answer to the next.
    The reference is any other frame of the clip in which the object shows. One object per sample is followed.

    Its sources are those of :class:`~vos_tutorial.training.tasks.clips.ClipTask`.
    """

    def batch(self, stage: Stage, seeds: Sequence[int], device: torch.device) -> dict[str, Tensor]:
        """Roll-outs of N steps; sample i depends on seed i only.

        Returns:
            ``frames float [B, N, 3, H, W]``, ``targets uint8 [B, N, H, W]`` (1 the object, 255 void), ``previous
            float [B, H, W]``, ``reference_frame float [B, 3, H, W]`` and ``reference_mask float [B, H, W]``; where
            the stage has faults, also what :func:`spoiled` needs: ``fault long [B, N]``, ``shift long [B, N, 2]`` and
            ``others float [B, N, H, W]``.

        Raises:
            TutorialError: as :meth:`RGMPOptions.of`.
        """
        how = RGMPOptions.of(stage)
        before = how.source != "simulated"  # whether there is a frame before the first target
        window = before + how.recurrence
        length = 1 + window + how.spare
        # [B, T, 3, H, W], [B, T, H, W]
        frames, ids = self.sources[how.source].batch(seeds, stage.size, length, how.max_skip)
        rngs = [Rng(s, Stream.TARGET) for s in seeds]
        masks = torch.stack([one_object(i, rng) for i, rng in zip(ids, rngs, strict=True)])  # [B, T, H, W]
        order = torch.tensor([reference_first(m == 1, rng) for m, rng in zip(masks, rngs, strict=True)])  # [B, T]
        dropped = torch.tensor([rng.chance(how.drop_previous) for rng in rngs], device=frames.device)  # [B]
        starts = torch.tensor([1 + (rng.pick(how.spare + 1) if how.spare else 0) for rng in rngs])  # [B]
        kept = torch.cat([torch.zeros(len(seeds), 1, dtype=torch.long), starts[:, None] + torch.arange(window)], 1)
        order = order.gather(1, kept)  # [B, 1 + window]; the reference first
        rows = torch.arange(len(seeds))[:, None]  # [B, 1]
        frames, ids, masks = frames[rows, order], ids[rows, order], masks[rows, order]  # [B, 1 + window, ...]
        previous = masks[:, 1] == 1  # [B, H, W]
        if not before:
            previous = corrupt(previous, rngs, how.spoiling)
        reference_frame, reference_mask = frames[:, 0], masks[:, 0] == 1  # [B, 3, H, W], [B, H, W]
        if how.relit:
            seen = relight(reference_frame, rngs, RELIT)
            reference_frame, reference_mask = rotate_zoom_flip(seen, reference_mask, rngs, TURN, ZOOM, flip=False)
        batch = {
            "frames": frames[:, 1 + before :],  # [B, N, 3, H, W]
            "targets": masks[:, 1 + before :],  # [B, N, H, W]
            "previous": (previous & ~dropped[:, None, None]).float(),  # [B, H, W]
            "reference_frame": reference_frame * how.reference,  # [B, 3, H, W]
            "reference_mask": reference_mask.float() * how.reference,  # [B, H, W]
        }
        if how.faults:
            drawn = [draw_faults(rng, how.recurrence, stage.size, how.faults) for rng in rngs]
            batch["fault"], batch["shift"] = (torch.stack(each) for each in zip(*drawn, strict=True))
            # The frames that the previous masks are of; without one before the first target, that one itself.
            earlier = torch.arange(how.recurrence) + 1 if before else torch.arange(how.recurrence).clamp(min=1)
            there = (ids[:, earlier] != 0) & (ids[:, earlier] != VOID) & (masks[:, earlier] == 0)
            batch["others"] = there.float()  # [B, N, H, W]
        return {name: value.to(device) for name, value in batch.items()}

    def check(self, stage: Stage) -> None:
        """See :class:`~vos_tutorial.training.tasks.Task`."""
        require_source(stage, RGMPOptions.of(stage).source, self.sources)

    def loss(self, network: nn.Module, batch: Mapping[str, Tensor], stage: Stage) -> tuple[Tensor, dict[str, Tensor]]:
        """The mean over the steps of a roll-out, and the mean IoU of its answers; void pixels do not count."""
        assert isinstance(network, RGMP)
        how = RGMPOptions.of(stage)
        reference = network.encode(batch["reference_frame"], batch["reference_mask"])  # [B, C, h, w] at each stride
        guidance = network.prepare(reference[-1])
        previous = stale = batch["previous"]  # [B, H, W]
        losses, overlaps = [], []
        for k, (frame, target) in enumerate(
            zip(batch["frames"].unbind(1), batch["targets"].unbind(1), strict=True)
        ):  # frame [B, 3, H, W], target [B, H, W]
            if how.faults:
                given = previous
                previous = spoiled(previous, stale, batch["others"][:, k], batch["fault"][:, k], batch["shift"][:, k])
                stale = given
            scores = network(frame, previous if how.previous else torch.zeros_like(previous), guidance)
            losses.append(step_loss(scores, target, how.dice))
            probability = scores.logits.float().softmax(1)[:, 1]  # [B, H, W]
            answer = (probability.detach() > 0.5) & (target != VOID)  # [B, H, W]
            overlaps.append(iou(answer, target == 1).mean())
            previous = feedback(probability, target, how)  # [B, H, W]
        return torch.stack(losses).mean(), {"iou": torch.stack(overlaps).mean()}

    def parameters(self, network: nn.Module, stage: Stage) -> list[dict[str, Any]]:
        """All that can learn; frozen batch norm stays out, and what came from ImageNet is slow."""
        if isinstance(network, RGMP) and isinstance(network.encoder, MaskedLiteEncoder):
            return slow_groups(network, network.encoder)
        return [{"params": [p for p in network.parameters() if p.requires_grad]}]


def one_object(ids: Tensor, rng: Rng) -> Tensor:
    """A random object of frame 0 alone: ids ``uint8 [T, H, W]`` -> 1 where it is, 255 where void, else 0."""
    objects = object_ids(ids[0])
    chosen = objects[rng.pick(len(objects))]
    return torch.where(ids == VOID, ids, (ids == chosen).to(torch.uint8))  # [T, H, W]


def reference_first(masks: Tensor, rng: Rng) -> list[int]:
    """The frames of a clip with a random one moved to the front, in which the object covers 2 % at least.

    Args:
        masks: ``bool [T, H, W]``; if the object is smaller everywhere, the frame that shows most of it is taken.
        rng: where chance comes from.
    """
    share = masks.float().mean((1, 2))  # [T]
    good = [t for t, s in enumerate(share.tolist()) if s >= SMALLEST] or [int(share.argmax())]
    chosen = good[rng.pick(len(good))]
    return [chosen, *(t for t in range(len(masks)) if t != chosen)]


def draw_faults(rng: Rng, steps: int, size: int, share: float) -> tuple[Tensor, Tensor]:
    """What is wrong with the previous masks of a roll-out, and where shifted ones lie.

    Args:
        rng: where chance comes from.
        steps: N.
        size: side of the frames.
        share: of the steps whose previous mask has a fault.

    Returns:
        ``long [N]``: 0 nothing, k the k-th of :data:`FAULTS`; and ``long [N, 2]`` pixels (right, down).
    """
    fault = [1 + rng.pick(len(FAULTS)) if rng.chance(share) else 0 for _ in range(steps)]
    shift = (rng.array(steps, 2) * 2 - 1) * SHIFT * size
    return torch.tensor(fault), torch.from_numpy(shift).round().long()


def spoiled(previous: Tensor, stale: Tensor, others: Tensor, fault: Tensor, shift: Tensor) -> Tensor:
    """The previous masks of one step, with their faults: ``float [B, H, W]``. Gradients pass through what is kept.

    Args:
        previous: ``float [B, H, W]``.
        stale: ``float [B, H, W]``, the previous mask of the step before.
        others: ``float [B, H, W]``, where the frame's other objects are.
        fault: ``long [B]``, see :func:`draw_faults`.
        shift: ``long [B, 2]``.
    """
    faulty = []
    for mask, old, rest, which, (dx, dy) in zip(previous, stale, others, fault.tolist(), shift.tolist(), strict=True):
        moved = F.pad(mask, (dx, -dx, dy, -dy)) if which == 2 else mask  # [H, W]
        faulty.append([mask, torch.zeros_like(mask), moved, rest, old][which])
    return torch.stack(faulty)


def feedback(probability: Tensor, target: Tensor, how: RGMPOptions) -> Tensor:
    """The previous mask ``float [B, H, W]`` of the next step: the probability, the decision, or the true mask.

    Args:
        probability: ``float [B, H, W]``, what this step found.
        target: ``uint8 [B, H, W]``, 1 where the object is.
        how: the stage's options.
    """
    if how.teacher_forcing:
        return (target == 1).float()
    if how.feedback == "hard":
        return (probability.detach() > 0.5).float()
    return probability.detach() if how.detach else probability


def step_loss(scores: Scores, target: Tensor, dice: float = 0.0) -> Tensor:
    """Cross-entropy of one step, with ``dice`` times the Dice loss; ``target uint8 [B, H, W]``."""
    logits = scores.logits.float()  # [B, 2, H, W]
    loss = F.cross_entropy(logits, target.long(), ignore_index=VOID)
    if not dice:
        return loss
    probability = logits.softmax(1)[:, 1] * (target != VOID)  # [B, H, W]
    return loss + dice * dice_loss(probability, target == 1)


def task(
    source: StillSource | None = None, video: ClipSource | None = None, photos: MixedClips | None = None
) -> RGMPTask:
    """The training task: pairs are made of the stills of ``source``; see :class:`RGMPTask`."""
    return RGMPTask(SimulatedClips(source), video, photos)
