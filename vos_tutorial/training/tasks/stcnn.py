"""STCNN's training in four stages: prediction, the spatial branch, both joined, one video (Xu et al., CVPR 2019)."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...augment import Dreaming, lucid_dreams, rotate_zoom_flip
from ...clip import VOID
from ...data.batches import ClipSource, StillSource
from ...data.sources.cutouts import MixedClips, Photos, photo_sources
from ...data.sources.generated import GeneratedClips, lifelike
from ...data.worlds.camouflage import CamouflageClips, ForkClips
from ...data.worlds.sprites import SyntheticStills
from ...errors import TutorialError
from ...geometry import iou
from ...models.backbones import PRETRAINED_RATE, LiteFeatures
from ...models.frame_prediction import Discriminator, PredictedFrame, target_like
from ...models.stcnn import STCNN, Answer, segmentation_loss
from ...options import Range, read
from ...recipes import Stage
from ...rng import Rng, Stream
from . import require_source

#: Real video is not shaken, as it is for other methods: what comes next could not be foreseen.
VIDEO: dict[str, Any] = {"shaken": False}


@dataclass(frozen=True)
class Turn:
    """How far whole clips are turned and zoomed; they are mirrored as well."""

    angle: Annotated[float, Range(0)]
    """Degrees, at most."""
    zoom: Annotated[float, Range(0)]
    """Relative change of size, at most."""


@dataclass(frozen=True)
class STCNNOptions:
    """What a stage's ``options`` may hold."""

    objective: Literal["prediction", "spatial", "joint", "online"] = "joint"
    """``"prediction"`` trains generator and discriminator, on video without a look at its masks; ``"spatial"`` the
    spatial half alone, on single pictures; ``"joint"`` everything; ``"online"`` the spatial half of a joint network,
    by its final output, on dreams of one frame."""
    source: Literal["stills", "video", "lifelike", "camouflage", "fork", "dreams", Photos] = "video"
    """``"lifelike"``: clips of :func:`~vos_tutorial.data.sources.generated.lifelike`; photographs: clips of
    :func:`~vos_tutorial.data.sources.cutouts.photo_sources`, or single frames where the objective is spatial."""
    clips: Annotated[int, Range(1)] | None = None
    """How many different samples there are; None: endlessly many."""
    max_skip: Annotated[int, Range(0)] = 0
    """Frames left out between two, at most."""
    delta: Annotated[int, Range(1)] = 4
    """Frames before the current one."""
    reverse: Annotated[float, Range(0, 1)] = 0.0
    """The share of clips that run backwards."""
    turn: Turn | None = None
    detach: bool | None = None
    """Keep the gradient of the masks out of the generator; None leaves that to the network."""
    prediction: Annotated[float, Range(0)] = 1.0
    """Weight of the generator's objective in a joint stage."""
    adversarial: Annotated[float, Range(0)] = 0.0
    """Weight of the generator's loss against the discriminator; 0 leaves the pixels' error alone."""
    margin: Annotated[float, Range(0, 1)] = 0.3
    """Of :class:`~vos_tutorial.models.stcnn.Balance`."""
    sides: Annotated[float, Range(0)] = 1.0
    """Weight of each side output."""
    dice: Annotated[float, Range(0)] = 0.0
    """Weight of a Dice loss beside the cross-entropy; not the paper's."""
    generator_rate: Annotated[float, Range(0)] = 1.0
    """Times the stage's learning rate."""
    discriminator_rate: Annotated[float, Range(0)] = 1.0
    """The same for the discriminator."""
    bias_rate: Annotated[float, Range(0)] | None = None
    """The same for biases of the spatial half, which then do not decay."""
    generator_optimizer: Literal["adamw", "sgd"] | None = None
    """Of generator and discriminator, where it is not the stage's."""

    @classmethod
    def of(cls, stage: Stage) -> STCNNOptions:
        """Those of a stage; TutorialError on an option or a value that it cannot have."""
        options = read(cls, stage.options, f"stage {stage.name!r}", "stcnn")
        if options.source == "stills" and options.objective != "spatial":
            raise TutorialError(
                f"stage {stage.name!r}: stills have no motion to learn from; use them with objective spatial."
            )
        return options


class DreamedClips:
    """Lucid dreams of one annotated picture, each repeated for as long as a clip is: nothing moves in it.

    Args:
        frame: ``float32 [3, H, W]`` in [0, 1].
        mask: ``bool [H, W]``, the object.
        dreams: how many different ones there are; the authors make 100.
        how: see :func:`~vos_tutorial.augment.lucid_dreams`.
    """

    def __init__(self, frame: Tensor, mask: Tensor, dreams: int = 100, how: Dreaming | None = None) -> None:
        if dreams < 1:
            raise TutorialError(f"cannot train on {dreams} dreams; use dreams=1 or more.")
        self.frame, self.mask, self.dreams, self.how = frame, mask, dreams, how

    def batch(self, seeds: Sequence[int], size: int | None, length: int, max_skip: int = 0) -> tuple[Tensor, Tensor]:
        """Frames ``[B, T, 3, H, W]`` and ids ``uint8 [B, T, H, W]``, as any source of clips.

        Args:
            seeds: B integers >= 0; they count modulo ``dreams``.
            size: without effect: the pictures keep their size.
            length: T.
            max_skip: without effect.
        """
        rngs = [Rng(seed % self.dreams, Stream.DREAMS) for seed in seeds]
        images, masks = lucid_dreams(self.frame, self.mask, rngs, self.how)  # [B, 3, H, W], [B, H, W]
        frames = images[:, None].expand(-1, length, -1, -1, -1)  # [B, T, 3, H, W]
        return frames, masks[:, None].expand(-1, length, -1, -1).to(torch.uint8)  # [B, T, H, W]


class STCNNTask:
    """The four stages of the authors' training as a task of the training loop.

    Args:
        source: stills; generated ones by default.
        video: clips with real time; generated ones by default.
        dreams: clips for stage 4.
        photos: clips made of photographs, if there are any.
    """

    def __init__(
        self,
        source: StillSource | None = None,
        video: ClipSource | None = None,
        dreams: DreamedClips | None = None,
        photos: MixedClips | None = None,
    ) -> None:
        self.stills = source if source is not None else SyntheticStills()
        self.clips: dict[str, Any] = {
            "video": video if video is not None else GeneratedClips(),
            "lifelike": lifelike(),
            "camouflage": CamouflageClips(),
            "fork": ForkClips(),
            "dreams": dreams,
        }
        self.photos = photo_sources(photos)
        self.clips |= self.photos

    def batch(self, stage: Stage, seeds: Sequence[int], device: torch.device) -> dict[str, Tensor]:
        """``window [B, delta, 3, H, W]`` and ``frame [B, 3, H, W]`` in [0, 1], and ids ``mask uint8 [B, H, W]``.

        Stills have no window. Sample i depends on seed i only.

        Raises:
            TutorialError: as :meth:`check`.
        """
        self.check(stage)
        how = STCNNOptions.of(stage)
        if how.clips is not None:
            seeds = [seed % how.clips for seed in seeds]
        if how.source == "stills":
            images, found = self.stills.batch(seeds, stage.size)
            frames, masks = images[:, None], found[:, None].to(torch.uint8)  # [B, 1, 3, H, W], [B, 1, H, W]
        else:
            still = how.objective == "spatial" and how.source in self.photos  # then nobody looks at the past
            length = 1 if still else how.delta + 1
            frames, masks = self.clips[how.source].batch(seeds, stage.size, length, how.max_skip)
        rngs = [Rng(seed, Stream.MIRROR) for seed in seeds]
        if how.reverse:
            back = torch.tensor([rng.chance(how.reverse) for rng in rngs])  # [B]
            frames = torch.where(back[:, None, None, None, None], frames.flip(1), frames)
            masks = torch.where(back[:, None, None, None], masks.flip(1), masks)
        if how.turn is not None:
            frames, masks = turn_clips(frames, masks, rngs, how.turn.angle, how.turn.zoom)
        made = {"frame": frames[:, -1], "mask": masks[:, -1]}  # [B, 3, H, W], [B, H, W]
        if frames.shape[1] > 1:
            made["window"] = frames[:, :-1]  # [B, delta, 3, H, W]
        return {name: value.to(device) for name, value in made.items()}

    def check(self, stage: Stage) -> None:
        """See :class:`~vos_tutorial.training.tasks.Task`."""
        source = STCNNOptions.of(stage).source
        require_source(stage, source, {"stills", *self.clips})
        if source == "dreams" and self.clips["dreams"] is None:
            raise TutorialError(
                f"stage {stage.name!r}: the task has no picture to dream of; give it dreams=DreamedClips(...)."
            )

    def moved_options(self, stage: Stage) -> dict[str, Any]:
        """See :class:`~vos_tutorial.training.tasks.Task`."""
        detach = STCNNOptions.of(stage).detach
        return {} if detach is None else {"detach": detach}

    def loss(self, network: nn.Module, batch: Mapping[str, Tensor], stage: Stage) -> tuple[Tensor, dict[str, Tensor]]:
        """See the class. Logged: ``iou`` of the final masks, and what :func:`prediction_loss` says.

        Raises:
            TutorialError: if the network lacks a part that the stage trains.
        """
        assert isinstance(network, STCNN)
        how, frame = STCNNOptions.of(stage), batch["frame"]  # [B, 3, H, W]
        if how.objective != "spatial" and network.generator is None:
            raise TutorialError(f"stage {stage.name!r} trains a temporal branch; build the network with one.")
        if how.objective == "prediction":
            assert network.generator is not None
            prediction = network.generator(batch["window"])
            return prediction_loss(network, prediction, frame, how.adversarial, how.margin)
        answer = self._answer(network, batch, how)
        loss = segmentation_loss(answer.logits, batch["mask"], how.sides, how.dice)
        logs = {"iou": final_iou(answer.logits.detach(), batch["mask"])}
        if how.objective == "joint" and how.prediction:
            assert answer.prediction is not None
            ahead, more = prediction_loss(network, answer.prediction, frame, how.adversarial, how.margin)
            loss, logs = loss + how.prediction * ahead, logs | more
        return loss, logs

    @staticmethod
    def _answer(network: STCNN, batch: Mapping[str, Tensor], how: STCNNOptions) -> Answer:
        """Stages 2 to 4: masks, and what the generator expected where the stage has a past to look at."""
        window = None if how.objective == "spatial" else batch["window"]  # [B, delta, 3, H, W]
        online = how.objective == "online"  # only the final output learns, and nothing of the generator
        answer: Answer = network(batch["frame"], window, not online, True if online else how.detach)
        return answer

    def parameters(self, network: nn.Module, stage: Stage) -> list[dict[str, Any]]:
        """What the stage trains: both halves of the spatial branch, the generator, the discriminator."""
        assert isinstance(network, STCNN)
        first, last = STCNNOptions.of(stage.at(0)), STCNNOptions.of(stage.at(stage.steps - 1))
        groups = [] if first.objective == "prediction" else spatial_groups(network, first.bias_rate)
        # A weight that grows from 0 trains its part from the beginning.
        weight = max(first.prediction, last.prediction)
        predicts = first.objective == "prediction" or (first.objective == "joint" and weight > 0)
        detached = network.detach if first.detach is None else first.detach
        reached = first.objective == "joint" and not detached
        adversarial = predicts and max(first.adversarial, last.adversarial) > 0
        extra = {"optimizer": first.generator_optimizer} if first.generator_optimizer else {}
        for part, rate, wanted in (
            (network.generator, first.generator_rate, predicts or reached),
            (network.discriminator, first.discriminator_rate, adversarial),
        ):
            if part is not None and wanted:
                groups.append({"params": list(part.parameters()), "lr_scale": rate, **extra})
        return groups


def spatial_groups(network: STCNN, bias_rate: float | None) -> list[dict[str, Any]]:
    """The spatial half's parameters that learn, in one group.

    Biases may be apart, at their own rate and without decay, and what came from ImageNet is, at a slow one.
    """
    named = [*network.encoder.named_parameters(), *network.decoder.named_parameters()]
    biases = [p for name, p in named if name.endswith("bias") and p.requires_grad and bias_rate]
    apart = {id(p) for p in biases}
    slow = network.encoder.pretrained() if isinstance(network.encoder, LiteFeatures) else []
    apart |= {id(p) for p in slow}
    groups: list[dict[str, Any]] = [{"params": [p for _, p in named if p.requires_grad and id(p) not in apart]}]
    if slow:
        groups.append({"params": slow, "lr_scale": PRETRAINED_RATE})
    if biases:
        groups.append({"params": biases, "lr_scale": bias_rate, "weight_decay": 0.0})
    return groups


def turn_clips(
    frames: Tensor, masks: Tensor, rngs: Sequence[Rng], angle: float, zoom: float
) -> tuple[Tensor, Tensor]:
    """Rotate, zoom and mirror clips by :func:`~vos_tutorial.augment.rotate_zoom_flip`, all frames of one alike.

    Args:
        frames: ``float32 [B, T, 3, H, W]``.
        masks: ``uint8 [B, T, H, W]``; all ids become 1, and void becomes background.
        rngs: B of them.
        angle: largest rotation in degrees.
        zoom: largest relative change of size.
    """
    length = frames.shape[1]
    object_ = (masks != 0) & (masks != VOID)  # [B, T, H, W]
    copies = [copy.deepcopy(rngs) for _ in range(length)]  # the same draws for each frame
    turned = [rotate_zoom_flip(frames[:, t], object_[:, t], copies[t], angle, zoom) for t in range(length)]
    images, found = zip(*turned, strict=True)
    return torch.stack(images, 1), torch.stack(found, 1).to(torch.uint8)  # [B, T, 3, H, W], [B, T, H, W]


def final_iou(logits: Tensor, ids: Tensor) -> Tensor:
    """The mean IoU of the final masks, ``float []``; void does not count.

    Args:
        logits: ``float [B, N, H, W]``, the final ones last.
        ids: ``uint8 [B, H, W]``; all objects are foreground.
    """
    counts = ids != VOID  # [B, H, W]
    return iou((logits[:, -1] > 0) & counts, (ids != 0) & counts).mean()


def prediction_loss(
    network: STCNN, prediction: PredictedFrame, frame: Tensor, adversarial: float, margin: float
) -> tuple[Tensor, dict[str, Tensor]]:
    """The generator's and the discriminator's objectives, as one number whose gradients never mix.

    The generator plays against a discriminator whose weights are constants here, and the discriminator sees a painted
    frame that is a constant. A player that :class:`~vos_tutorial.models.stcnn.Balance` stops adds its value and no
    gradient, so that the optimiser, which passes over parameters without a gradient, leaves it alone.

    Args:
        network: for its discriminator.
        prediction: the generator's.
        frame: the true one, ``float [B, 3, H, W]`` in [0, 1].
        adversarial: weight of the adversarial loss beside the squared error; at 0 there is no discriminator.
        margin: see :class:`~vos_tutorial.models.stcnn.Balance`.

    Returns:
        the loss, and scalars to log: ``pixel`` (mean squared error in [-1, 1] colours), and with a discriminator the
        cross-entropies ``fooled``, ``real`` and ``fake``.

    Raises:
        TutorialError: if there should be a discriminator and the network has none.
    """
    painted, truth = prediction.frame, target_like(frame, prediction.frame)  # [B, 3, h, w]
    pixel = F.mse_loss(painted.float(), truth.float())
    if not adversarial:
        return pixel, {"pixel": pixel}
    discriminator, balance = network.discriminator, network.balance
    if discriminator is None or balance is None:
        raise TutorialError("adversarial training needs a discriminator; build the network with scaffold=True.")
    fooled, real, fake = adversarial_losses(discriminator, painted, truth)
    generator_loss, discriminator_loss = pixel + adversarial * fooled, real + fake
    loss = (generator_loss if balance.generator else generator_loss.detach()) + (
        discriminator_loss if balance.discriminator else discriminator_loss.detach()
    )
    balance.update(real, fake, margin)
    return loss, {"pixel": pixel, "fooled": fooled, "real": real, "fake": fake}


def adversarial_losses(discriminator: Discriminator, painted: Tensor, truth: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Three cross-entropies ``float []``: the generator's, and the discriminator's on true and on painted frames.

    Args:
        discriminator: its weights are constants in the first.
        painted: ``float [B, 3, h, w]`` in [-1, 1]; a constant in the last.
        truth: the same of the true frames.
    """

    def error(logit: Tensor, real: bool) -> Tensor:
        return F.binary_cross_entropy_with_logits(logit.float(), torch.full_like(logit, float(real)).float())

    constants = {name: p.detach() for name, p in discriminator.named_parameters()}
    fooled = error(torch.func.functional_call(discriminator, constants, (painted,)), True)
    return fooled, error(discriminator(truth), True), error(discriminator(painted.detach()), False)


def task(
    source: StillSource | None = None,
    video: ClipSource | None = None,
    dreams: DreamedClips | None = None,
    photos: MixedClips | None = None,
) -> STCNNTask:
    """The training task; see :class:`STCNNTask`."""
    return STCNNTask(source, video, dreams, photos)
