"""STCNN's training in four stages: prediction, the spatial branch, both joined, one video (Xu et al., CVPR 2019)."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...augment import Dreaming, lucid_dreams, rotate_zoom_flip
from ...clip import VOID
from ...data.batches import ClipSource, StillSource
from ...data.sources.generated import GeneratedClips, lifelike
from ...data.sources.video import VideoClips
from ...data.worlds.camouflage import CamouflageClips, ForkClips
from ...data.worlds.sprites import SyntheticStills
from ...errors import TutorialError
from ...geometry import iou
from ...models.frame_prediction import (
    PredictedFrame,
    target_like,
)
from ...models.stcnn import (
    STCNN,
    Answer,
    segmentation_loss,
)
from ...recipes import Stage
from ...rng import Rng, Stream

Objective = Literal["prediction", "spatial", "joint", "online"]


OPTIONS = (
    *("objective", "source", "clips", "max_skip", "delta", "reverse", "turn", "detach"),
    *("prediction", "adversarial", "margin", "sides", "dice"),
    *("generator_rate", "discriminator_rate", "bias_rate", "generator_optimizer"),
)


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
            raise TutorialError(f"{dreams} dreams teach nothing; ask for 1 or more.")
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
        images, masks = lucid_dreams(self.frame, self.mask, rngs, self.how)
        frames = images[:, None].expand(-1, length, -1, -1, -1)
        return frames, masks[:, None].expand(-1, length, -1, -1).to(torch.uint8)


class STCNNTask:
    """The four stages of the authors' training as a task of the training loop.

    A stage's ``options``:

    * ``objective``: ``"prediction"`` trains generator and discriminator, on video without a look at its masks;
      ``"spatial"`` the spatial half alone, on single pictures; ``"joint"`` everything; ``"online"`` the spatial half
      of a joint network, by its final output, on dreams of one frame.
    * ``source``: ``"stills"``, ``"video"``, ``"lifelike"`` (:func:`~vos_tutorial.data.sources.generated.lifelike`),
      ``"camouflage"``, ``"fork"`` or ``"dreams"``; ``max_skip``: frames left out between two; ``clips``: how many
      different samples there are (without it, endlessly many); ``reverse``: the share of clips that run backwards;
      ``turn``: ``{"angle": degrees, "zoom": share}``, and mirroring; ``delta``: frames before the current one (4).
    * ``adversarial``: weight of the generator's wish to fool the discriminator; 0 leaves the pixels' error alone;
      ``margin`` of :class:`Balance` (0.3); ``prediction``: weight of the generator's objective in a joint stage (1).
    * ``sides``: weight of each side output; ``dice``: of a Dice loss beside the cross-entropy; not the paper's.
    * ``detach``: changes the network's.
    * ``generator_rate``, ``discriminator_rate``: times the stage's learning rate, and ``generator_optimizer`` of
      both, where it is not the stage's; ``bias_rate``: the same for biases of the spatial half, which then do not
      decay.

    Args:
        source: stills; generated ones by default.
        video: clips with real time; generated ones by default.
        dreams: clips for stage 4.
    """

    def __init__(
        self,
        source: StillSource | None = None,
        video: ClipSource | None = None,
        dreams: DreamedClips | None = None,
    ) -> None:
        self.stills = source if source is not None else SyntheticStills()
        self.clips: dict[str, Any] = {
            "video": video if video is not None else GeneratedClips(),
            "lifelike": lifelike(),
            "camouflage": CamouflageClips(),
            "fork": ForkClips(),
            "dreams": dreams,
        }

    def batch(self, stage: Stage, seeds: Sequence[int], device: torch.device) -> dict[str, Tensor]:
        """``window [B, delta, 3, H, W]`` and ``frame [B, 3, H, W]`` in [0, 1], and ids ``mask uint8 [B, H, W]``.

        Stills have no window. Sample i depends on seed i only.

        Raises:
            TutorialError: if the stage has an option that no one reads, or names an unknown objective or source, or
                dreams that the task was not given, or clips below 1.
        """
        options = self._checked(stage)
        if pool := options.get("clips"):
            seeds = [seed % pool for seed in seeds]
        if options.get("source", "video") == "stills":
            images, found = self.stills.batch(seeds, stage.size)
            frames, masks = images[:, None], found[:, None].to(torch.uint8)
        else:
            length = options.get("delta", 4) + 1
            clips = self.clips[options.get("source", "video")]
            frames, masks = clips.batch(seeds, stage.size, length, options.get("max_skip", 0))
        rngs = [Rng(seed, Stream.MIRROR) for seed in seeds]
        if share := options.get("reverse", 0.0):
            back = torch.tensor([rng.chance(share) for rng in rngs])
            frames = torch.where(back[:, None, None, None, None], frames.flip(1), frames)
            masks = torch.where(back[:, None, None, None], masks.flip(1), masks)
        if "turn" in options:
            frames, masks = turn_clips(frames, masks, rngs, options["turn"]["angle"], options["turn"]["zoom"])
        made = {"frame": frames[:, -1], "mask": masks[:, -1]}
        if frames.shape[1] > 1:
            made["window"] = frames[:, :-1]
        return {name: value.to(device) for name, value in made.items()}

    def _checked(self, stage: Stage) -> Mapping[str, Any]:
        options: Mapping[str, Any] = stage.options
        unknown = [key for key in options if key not in OPTIONS]
        if unknown:
            raise TutorialError(
                f"stage {stage.name!r}: stcnn does not know the option {unknown[0]!r}; "
                f"choose from {', '.join(OPTIONS)}."
            )
        known: dict[str, tuple[str, ...]] = {"objective": get_args(Objective), "source": ("stills", *self.clips)}
        for key, default in (("objective", "joint"), ("source", "video")):
            if (value := options.get(key, default)) not in known[key]:
                raise TutorialError(
                    f"stage {stage.name!r}: there is no {key} {value!r}; choose from {', '.join(known[key])}."
                )
        objective, source = options.get("objective", "joint"), options.get("source", "video")
        if source == "stills" and objective != "spatial":
            raise TutorialError(f"stage {stage.name!r}: stills have no time to learn from; use them for spatial.")
        if source == "dreams" and self.clips["dreams"] is None:
            raise TutorialError(
                f"stage {stage.name!r}: the task was given nothing to dream of; give it dreams=DreamedClips(...)."
            )
        if options.get("clips", 1) < 1:
            raise TutorialError(f"stage {stage.name!r}: clips is {options['clips']}; it must be at least 1.")
        return options

    def loss(self, network: nn.Module, batch: Mapping[str, Tensor], stage: Stage) -> tuple[Tensor, dict[str, Tensor]]:
        """See the class. Logged: ``iou`` of the final masks, and what :func:`prediction_loss` says.

        Raises:
            TutorialError: if the network lacks a part that the stage trains.
        """
        assert isinstance(network, STCNN)
        options, frame = stage.options, batch["frame"]
        objective = options.get("objective", "joint")
        network.detach = options.get("detach", network.detach) or objective == "online"
        if objective != "spatial" and network.generator is None:
            raise TutorialError(f"stage {stage.name!r} trains a temporal branch; build the network with one.")
        adversarial, margin = options.get("adversarial", 0.0), options.get("margin", 0.3)
        if objective == "prediction":
            assert network.generator is not None
            return prediction_loss(network, network.generator(batch["window"]), frame, adversarial, margin)

        answer: Answer = network(frame, None if objective == "spatial" else batch["window"], objective != "online")
        loss = segmentation_loss(answer.logits, batch["mask"], options.get("sides", 1.0), options.get("dice", 0.0))
        counts = batch["mask"] != VOID
        target = (batch["mask"] != 0) & counts
        logs = {"iou": iou((answer.logits[:, -1] > 0) & counts, target).mean()}
        if objective == "joint" and (weight := options.get("prediction", 1.0)):
            assert answer.prediction is not None
            ahead, more = prediction_loss(network, answer.prediction, frame, adversarial, margin)
            loss, logs = loss + weight * ahead, logs | more
        return loss, logs

    def parameters(self, network: nn.Module, stage: Stage) -> list[dict[str, Any]]:
        """What the stage trains: both halves of the spatial branch, the generator, the discriminator."""
        assert isinstance(network, STCNN)
        options = stage.options
        objective = options.get("objective", "joint")
        groups: list[dict[str, Any]] = []
        if objective != "prediction":
            named = [*network.encoder.named_parameters(), *network.decoder.named_parameters()]
            rate = options.get("bias_rate")
            biases = [p for name, p in named if name.endswith("bias") and p.requires_grad and rate]
            apart = {id(p) for p in biases}
            groups.append({"params": [p for _, p in named if p.requires_grad and id(p) not in apart]})
            if biases:
                groups.append({"params": biases, "lr_scale": rate, "weight_decay": 0.0})
        predicts = objective == "prediction" or (objective == "joint" and options.get("prediction", 1.0))
        reached = objective == "joint" and not options.get("detach", network.detach)
        extra = {"optimizer": options["generator_optimizer"]} if "generator_optimizer" in options else {}
        for part, key, wanted in (
            (network.generator, "generator_rate", predicts or reached),
            (network.discriminator, "discriminator_rate", predicts and options.get("adversarial", 0.0)),
        ):
            if part is not None and wanted:
                groups.append({"params": list(part.parameters()), "lr_scale": options.get(key, 1.0), **extra})
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
    object_ = (masks != 0) & (masks != VOID)
    copies = [copy.deepcopy(rngs) for _ in range(length)]  # the same draws for each frame
    turned = [rotate_zoom_flip(frames[:, t], object_[:, t], copies[t], angle, zoom) for t in range(length)]
    images, found = zip(*turned, strict=True)
    return torch.stack(images, 1), torch.stack(found, 1).to(torch.uint8)


def prediction_loss(
    network: STCNN, prediction: PredictedFrame, frame: Tensor, adversarial: float, margin: float
) -> tuple[Tensor, dict[str, Tensor]]:
    """The generator's and the discriminator's objectives, as one number whose gradients never mix.

    The generator is judged by a discriminator whose weights are constants here, and the discriminator sees a painted
    frame that is a constant. Whoever :class:`Balance` tells to stand still adds its value and no gradient, so that
    the optimiser, which passes over parameters without a gradient, leaves it alone.

    Args:
        network: for its discriminator.
        prediction: the generator's.
        frame: the true one, ``float [B, 3, H, W]`` in [0, 1].
        adversarial: weight of the wish to be taken for real beside the squared error; at 0 no one judges.
        margin: see :class:`Balance`.

    Returns:
        the loss, and scalars to log: ``pixel`` (mean squared error in [-1, 1] colours), and with a judge the
        cross-entropies ``fooled``, ``real`` and ``fake``.

    Raises:
        TutorialError: if there should be a judge and the network has none.
    """
    painted, truth = prediction.frame, target_like(frame, prediction.frame)
    pixel = F.mse_loss(painted.float(), truth.float())
    if not adversarial:
        return pixel, {"pixel": pixel}
    judge, balance = network.discriminator, network.balance
    if judge is None or balance is None:
        raise TutorialError("adversarial training needs a discriminator; build the network with scaffold=True.")

    def error(logit: Tensor, real: bool) -> Tensor:
        return F.binary_cross_entropy_with_logits(logit.float(), torch.full_like(logit, float(real)).float())

    constants = {name: p.detach() for name, p in judge.named_parameters()}
    fooled = error(torch.func.functional_call(judge, constants, (painted,)), True)
    real, fake = error(judge(truth), True), error(judge(painted.detach()), False)
    ours, its = pixel + adversarial * fooled, real + fake
    loss = (ours if balance.generator else ours.detach()) + (its if balance.discriminator else its.detach())
    balance.update(real, fake, margin)
    return loss, {"pixel": pixel, "fooled": fooled, "real": real, "fake": fake}


def task(
    source: StillSource | None = None, video: ClipSource | None = None, dreams: DreamedClips | None = None
) -> STCNNTask:
    """The training task; see :class:`STCNNTask`. Real video is not shaken, as it is for other methods."""
    if isinstance(video, VideoClips):
        video = VideoClips(video.clips, video.objects, shaken=False)
    return STCNNTask(source, video, dreams)
