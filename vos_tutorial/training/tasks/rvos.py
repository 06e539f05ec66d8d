"""RVOS's training: which slot an object belongs to, and clips unrolled over time and objects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import torch
import torch.nn.functional as F
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn

from ...clip import VOID
from ...data.batches import ClipSource, StillSource
from ...data.sources.cutouts import MixedClips, Photos
from ...data.sources.simulated import SimulatedClips
from ...data.worlds.discs import Discs
from ...errors import TutorialError
from ...geometry import iou
from ...models.backbones import LiteFeatures, ResNetEncoder, slow_groups
from ...models.rvos import FED, RVOS, Recurrence, RolloutFrame, soft_iou_cost, unroll
from ...options import Range, read
from ...recipes import Stage
from ...rng import Rng, Stream
from . import require_source
from .clips import ClipTask

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
    first = torch.arange(slots, device=cost.device) < valid.sum(1)[:, None, None]  # [B, 1, S]
    allowed = valid[:, :, None] & first  # [B, G, S]
    costs = torch.where(allowed, cost.detach(), FORBIDDEN).cpu().double().numpy()  # [B, G, S]
    found = np.stack([linear_sum_assignment(one)[1] for one in costs])  # [B, G]
    return torch.from_numpy(found).to(cost.device)


def in_slots(truth: Tensor, slot: Tensor, slots: int) -> Tensor:
    """What belongs to objects, put where their slots are: ``[B, G, ...]`` and ``slot [B, G] -> [B, slots, ...]``."""
    placed = torch.zeros(len(truth), slots, *truth.shape[2:], dtype=truth.dtype, device=truth.device)
    sample = torch.arange(len(truth), device=truth.device)[:, None]  # [B, 1]
    return placed.index_put((sample, slot), truth)  # [B, slots, ...]


def true_masks(ids: Tensor, slots: int, only_shown: bool) -> tuple[Tensor, Tensor]:
    """The true mask of each slot, in the order of the ids.

    Args:
        ids: ``uint8 [B, T, H, W]``; frame 0 shows the objects 1..K of a sample without gaps, 255 is void.
        slots: the largest number of slots N; further objects are background.
        only_shown: no more slots than the sample with the most objects needs.

    Returns:
        ``bool [B, T, N, H, W]``, and ``bool [B, N]``: which slots hold an object.
    """
    shown = ids[:, 0].masked_fill(ids[:, 0] == VOID, 0).amax((1, 2))  # [B]
    numbers = torch.arange(1, 1 + (min(int(shown.max()), slots) if only_shown else slots), device=ids.device)  # [N]
    return ids[:, :, None] == numbers[:, None, None], numbers <= shown[:, None]


def matched(probability: Tensor, truth: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
    """Zero-shot: put each object where the slot is that drew it best in frame 0.

    Args:
        probability: ``float [B, N, H, W]`` of frame 0.
        truth: ``float [B, T, N, H, W]``, in the order of the ids.
        valid: ``bool [B, N]``.

    Returns:
        ``truth`` and ``valid`` in the order of the slots.
    """
    slots = probability.shape[1]
    cost = soft_iou_cost(probability[:, None], truth[:, 0][:, :, None])  # [B, N, N]: object, slot
    slot = assign(cost, valid)  # [B, N]
    placed = in_slots(truth.transpose(1, 2), slot, slots).transpose(1, 2)  # [B, T, N, H, W]
    return placed, in_slots(valid, slot, slots)


@dataclass(frozen=True)
class RVOSOptions:
    """What a stage's ``options`` may hold."""

    source: Literal["simulated", "video", "lifelike", "discs", "same discs", Photos] = "video"
    """``"lifelike"``: clips of :func:`~vos_tutorial.data.sources.generated.lifelike`; ``"simulated"``: clips made of
    stills; two ``"discs"`` or three ``"same discs"`` can be found by a zero-shot network; photographs: clips of
    :func:`~vos_tutorial.data.sources.cutouts.photo_sources`."""
    frames: Annotated[int, Range(1)] = 5
    """Of a clip; 5 in the paper."""
    max_skip: Annotated[int, Range(0)] = 0
    """Frames left out between two, at most."""
    slots: Annotated[int, Range(1)] = 3
    """The largest number of objects (10 in the paper); further ones are background."""
    previous: Literal["truth", "own"] = "truth"
    """The previous masks of a one-shot network are the ``"truth"`` (the paper's first stage), or its ``"own"``
    probabilities, from frame 1 on (the second)."""
    true_share: Annotated[float, Range(0, 1)] | None = None
    """Scheduled sampling (Bengio et al., NIPS 2015): in this share of the frames the previous masks are true, in the
    others the network's own, whatever ``previous`` says; let it fall over the stage. Not the paper's."""
    blank: Annotated[float, Range(0, 1)] = 0.0
    """With ``true_share``: in this share of the frames there are no previous masks, and only the hidden state knows
    what was followed."""
    recurrence: Recurrence = "ST"
    entropy: Annotated[float, Range(0)] = 0.0
    """Weight of a cross-entropy (its mean over the pixels) beside the soft IoU. Not the paper's."""
    sides: Annotated[float, Range(0)] = 0.0
    """Weight of each coarser level's own cross-entropy, in networks whose levels draw masks. Not the paper's."""
    empty: Annotated[float, Range(0)] = 0.0
    """Weight of the cross-entropy on masks that should be empty, because the object is hidden, or because no object
    is left for the slot of a zero-shot network. The soft IoU has no gradient there. Not the paper's."""
    total: Literal["sum", "mean"] = "sum"
    """Over the frames: the ``"sum"``, the paper's, or the ``"mean"``."""

    @classmethod
    def of(cls, stage: Stage) -> RVOSOptions:
        """Those of a stage; TutorialError on an option or a value that it cannot have."""
        return read(cls, stage.options, f"stage {stage.name!r}", "rvos")


class RVOSTask(ClipTask):
    """A clip as one grid, and one backward pass over all of it; gradients cross frames through h alone."""

    worlds: ClassVar = {"discs": Discs(), "same discs": Discs((3, 3), alike=True)}

    def batch(self, stage: Stage, seeds: Sequence[int], device: torch.device) -> dict[str, Tensor]:
        """``frames [B, T, 3, H, W]`` in [0, 1] and ids ``uint8 [B, T, H, W]``; sample i depends on seed i only.

        With scheduled sampling also ``fed long [B, T]``, see :func:`~vos_tutorial.models.rvos.unroll`.

        Raises:
            TutorialError: as :meth:`RVOSOptions.of`.
        """
        how = RVOSOptions.of(stage)
        frames, masks = self.sources[how.source].batch(seeds, stage.size, how.frames, how.max_skip)
        batch = {"frames": frames.to(device), "masks": masks.to(device)}
        if how.true_share is not None:
            drawn = [draw_fed(Rng(seed, Stream.FED), how.frames, how.true_share, how.blank) for seed in seeds]
            batch["fed"] = torch.stack(drawn).to(device)  # [B, T]
        return batch

    def check(self, stage: Stage) -> None:
        """See :class:`~vos_tutorial.training.tasks.Task`."""
        require_source(stage, RVOSOptions.of(stage).source, self.sources)

    def loss(self, network: nn.Module, batch: Mapping[str, Tensor], stage: Stage) -> tuple[Tensor, dict[str, Tensor]]:
        """The soft IoU of every object in every frame, with what the stage adds to it, and the IoU of the answers.

        An object counts in all frames, seen or not, if frame 0 shows it. Pixels of id 255 (void) do not count.
        """
        assert isinstance(network, RVOS)
        how, one_shot = RVOSOptions.of(stage), network.one_shot
        mixed = batch.get("fed") if one_shot else None  # [B, T]
        frames, ids = batch["frames"], batch["masks"]  # [B, T, 3, H, W], [B, T, H, W]
        truth, valid = true_masks(ids, how.slots, only_shown=one_shot)  # [B, T, N, H, W], [B, N]
        truth = truth.to(frames.dtype)
        counts = (ids != VOID)[:, :, None]  # [B, T, 1, H, W]
        grid = unroll(
            network,
            frames,
            truth[:, 0] if one_shot else None,
            truth.shape[2],
            how.recurrence,
            given=1,
            truth=truth if how.previous == "truth" or mixed is not None else None,
            fed=mixed,
        )
        losses, overlaps = [], []
        for t, frame in enumerate(grid):
            if t == 0 and not one_shot:  # once for the whole clip: a slot must stay with its object
                truth, valid = matched(frame.probability * counts[:, 0], truth, valid)
            loss = frame_loss(frame, truth[:, t], valid, counts[:, t], how.empty, unused=not one_shot)
            if how.entropy:
                loss = loss + how.entropy * slot_entropy(frame.logits, truth[:, t], valid, counts[:, t])
            if how.sides:
                loss = loss + how.sides * sides_entropy(network, frame, truth[:, t], valid)
            losses.append(loss)
            answer = (frame.probability.detach() > 0.5) & counts[:, t]  # [B, N, H, W]
            overlaps.append(mean_iou(answer, truth[:, t] > 0, valid))
        each = torch.stack(losses)  # [T]
        return (each.sum() if how.total == "sum" else each.mean()), {"iou": torch.stack(overlaps).mean()}

    def parameters(self, network: nn.Module, stage: Stage) -> list[dict[str, Any]]:
        """Heads and decoder at the stage's rate; an encoder that knows pictures already at a share of it."""
        assert isinstance(network, RVOS)
        if isinstance(network.encoder, LiteFeatures):
            return slow_groups(network, network.encoder)
        paper = isinstance(network.encoder, ResNetEncoder)
        backbone = [p for p in network.encoder.parameters() if p.requires_grad]
        rest = [p for name, p in network.named_parameters() if not name.startswith("encoder.")]
        return [{"params": rest}, {"params": backbone, "lr_scale": 1e-3 if paper else 1.0}]


def frame_loss(
    frame: RolloutFrame,
    target: Tensor,
    valid: Tensor,
    counts: Tensor | None = None,
    empty: float = 0.0,
    unused: bool = False,
) -> Tensor:
    """The loss of one frame, ``float []``: the mean soft IoU cost over the valid slots of all samples, and more.

    Args:
        frame: N slots.
        target: ``float [B, N, H, W]``, 0 or 1.
        valid: ``bool [B, N]``: which slots hold an object of the clip, seen in this frame or not.
        counts: ``bool [B, 1, H, W]``, pixels that count; all by default.
        empty: weight of the cross-entropy (its mean over the pixels) where an object is not to be seen.
        unused: whether ``empty`` also holds for slots without an object.
    """
    probability = frame.probability if counts is None else frame.probability * counts  # [B, N, H, W]
    objects = valid.sum().clamp_min(1)
    loss = (soft_iou_cost(probability, target) * valid).sum() / objects
    if not empty:
        return loss
    hidden = ~target.flatten(2).any(-1)  # [B, N]
    entropy = empty_entropy(frame.logits.float(), counts)  # [B, N]
    return loss + empty * (entropy * (hidden if unused else hidden & valid)).sum() / objects


def slot_entropy(logits: Tensor, target: Tensor, valid: Tensor, counts: Tensor) -> Tensor:
    """The cross-entropy of the valid slots, seen or not, averaged over pixels and slots: ``float []``.

    Args:
        logits: ``float [B, N, H, W]``.
        target: ``float [B, N, H, W]`` in [0, 1].
        valid: ``bool [B, N]``.
        counts: ``bool [B, 1, H, W]``, pixels that count.
    """
    entropy = F.binary_cross_entropy_with_logits(logits.float(), target, reduction="none") * counts  # [B, N, H, W]
    return (entropy.mean((-2, -1)) * valid).sum() / valid.sum().clamp_min(1)


def sides_entropy(network: RVOS, frame: RolloutFrame, target: Tensor, valid: Tensor) -> Tensor:
    """What the coarser levels draw by themselves, against the masks at their resolution: ``float []``, summed.

    Without it the coarsest level has no reason to live: the finest one sees the previous mask, too, and copies it.

    Args:
        network: with sides.
        frame: of its roll-out.
        target: ``float [B, N, H, W]``.
        valid: ``bool [B, N]``.

    Raises:
        TutorialError: if the network has none.
    """
    if network.sides is None:
        raise TutorialError("this RVOS has no sides to train; build it with encoder='imagenet', or leave sides out.")
    loss = target.new_zeros(())
    for side, h in zip(network.sides, frame.hidden[:-1], strict=True):
        logits = side(h.flatten(0, 1)).unflatten(0, h.shape[:2])[:, :, 0]  # [B, N, h, w]
        small = F.interpolate(target, logits.shape[-2:], mode="area")  # [B, N, h, w]
        loss = loss + slot_entropy(logits, small, valid, torch.ones_like(small[:, :1], dtype=torch.bool))
    return loss


def draw_fed(rng: Rng, frames: int, true_share: float, blank: float) -> Tensor:
    """Which previous masks each frame of a clip gets: ``long [T]``, see :data:`~vos_tutorial.models.rvos.FED`."""
    kinds = []
    for _ in range(frames):
        kind = "none" if rng.chance(blank) else "truth" if rng.chance(true_share) else "own"
        kinds.append(FED.index(kind))
    return torch.tensor(kinds)


def empty_entropy(logits: Tensor, counts: Tensor | None = None) -> Tensor:
    """The cross-entropy of masks that should be empty, averaged over the pixels: ``[B, N, H, W] -> [B, N]``."""
    entropy = F.softplus(logits)  # [B, N, H, W]; -log(1 - p): nothing else is left where the target is 0
    return (entropy if counts is None else entropy * counts).mean((-2, -1))


def mean_iou(answer: Tensor, target: Tensor, valid: Tensor) -> Tensor:
    """The mean IoU of the objects that the frame shows, ``float []``; 0 if it shows none.

    Args:
        answer: ``bool [B, N, H, W]``.
        target: ``bool [B, N, H, W]``.
        valid: ``bool [B, N]``: which slots hold an object.
    """
    seen = valid & target.any(-1).any(-1)  # [B, N]
    return (iou(answer, target) * seen).sum() / seen.sum().clamp_min(1)


def task(
    source: StillSource | None = None, video: ClipSource | None = None, photos: MixedClips | None = None
) -> RVOSTask:
    """The training task: simulated clips are made of the stills of ``source``; see :class:`RVOSTask`."""
    return RVOSTask(SimulatedClips(source), video, photos)
