"""RGMP: look at the previous mask and at the first frame, and learn to recover from your own errors.

Oh, Lee, Sunkavalli, Kim: "Fast Video Object Segmentation by Reference-Guided Mask Propagation", CVPR 2018. One
encoder sees two pictures with their masks: the *reference* (frame 0 and its true mask) and the *target* (the current
frame and the previous frame's mask, still soft). A block of long convolutions compares the two maps over a large
window, and a decoder draws the mask, with the target's finer maps at hand. In the order of the paper's figure 2:
global convolution, refinement, decoder, the network; then inference, with several scales and several objects. What
it learns from is in ``training/tasks/rgmp.py``.

Architecture and inference are those of the authors' code. Axes: B samples, C channels, H and W pixels, h and w cells,
O objects, P passes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import TutorialError
from ..objects import ObjectSegmenter, cleared, evaluating, replaced, with_room, without, without_graph
from ..propagation import most_probable, soft_aggregate
from .backbones import MaskedLiteEncoder, ResNetEncoder, SmallEncoder, start_encoders
from .layers import PreActivation, Refine, crop_padding, enlarge
from .weights import start_with

# ---------------------------------------------------------------------------------------------------- network


class Guidance(NamedTuple):
    """What the comparison needs of the reference: it stays the same for all frames of a clip."""

    left: Tensor
    """``float [B, width, h, w]``."""
    right: Tensor
    """``float [B, width, h, w]``."""


class GlobalConvolution(nn.Module):
    """Compares target and reference over a window of ``k x k`` cells, at the price of ``k x 1`` and ``1 x k`` ones.

    The paper's block convolves the concatenation of both maps. A convolution of a concatenation is the sum of two
    convolutions, and here they are two layers, so that the reference's half is computed once per clip. There is no
    non-linearity inside.

    Args:
        channels: of each of the two maps.
        width: channels that come out.
        k: places along a side of the window; the paper's is 7.
        dilation: cells from one of these places to the next.
    """

    def __init__(self, channels: int, width: int, k: int = 7, dilation: int = 1) -> None:
        super().__init__()
        self.width, reach = width, k // 2 * dilation
        tall: dict[str, Any] = {"kernel_size": (k, 1), "padding": (reach, 0), "dilation": (dilation, 1)}
        long: dict[str, Any] = {"kernel_size": (1, k), "padding": (0, reach), "dilation": (1, dilation)}
        self.left_target = nn.Conv2d(channels, width, **tall)
        self.left_reference = nn.Conv2d(channels, width, bias=False, **tall)
        self.left = nn.Conv2d(width, width, **long)
        self.right_target = nn.Conv2d(channels, width, **long)
        self.right_reference = nn.Conv2d(channels, width, bias=False, **long)
        self.right = nn.Conv2d(width, width, **tall)

    def prepare(self, reference: Tensor) -> Guidance:
        """The reference's half: ``[B, C, h, w]`` -> twice ``[B, width, h, w]``."""
        return Guidance(self.left_reference(reference), self.right_reference(reference))  # twice [B, width, h, w]

    def forward(self, target: Tensor, guidance: Guidance) -> Tensor:
        """``target [B, C, h, w] -> [B, width, h, w]``."""
        left = self.left(self.left_target(target) + guidance.left)  # [B, width, h, w]
        return left + self.right(self.right_target(target) + guidance.right)


class Scores(NamedTuple):
    """Background and object, before the softmax."""

    logits: Tensor
    """``float [B, 2, H, W]``."""
    levels: list[Tensor]
    """The same at the resolution of each of the encoder's maps, finest first: ``float [B, 2, H/s, W/s]``."""


class Decoder(nn.Module):
    """Target maps and guidance -> scores at each level, and at full resolution.

    Args:
        channels: of the encoder's maps, finest first.
        stride: of the finest map.
        width: of everything inside; the paper's is 256.
        compare: another comparison; one of more channels than ``width`` is narrowed down to it afterwards.
    """

    def __init__(
        self, channels: Sequence[int], stride: int, width: int, compare: GlobalConvolution | None = None
    ) -> None:
        super().__init__()
        self.stride = stride
        self.compare = compare if compare is not None else GlobalConvolution(channels[-1], width)
        wide = self.compare.width
        self.residual = PreActivation(wide)
        self.narrow: nn.Module = nn.Identity() if wide == width else nn.Conv2d(wide, width, 1)
        self.refine = nn.ModuleList(Refine(c, width) for c in reversed(channels[:-1]))  # in the order of work
        self.heads = nn.ModuleList(nn.Conv2d(width, 2, 3, padding=1) for _ in channels)  # finest first, as the maps

    def forward(self, maps: Sequence[Tensor], guidance: Guidance, align_corners: bool) -> Scores:
        """See :meth:`RGMP.decode`."""
        m = self.residual(self.compare(maps[-1], guidance))  # [B, wide, h, w] of the coarsest map
        m = self.narrow(m)  # [B, width, h, w]
        coarse_first = [m]
        for refine, fine in zip(self.refine, reversed(maps[:-1]), strict=True):
            assert isinstance(refine, Refine)
            m = refine(refine.prepare(fine), m, align_corners)  # [B, width, H/s, W/s]
            coarse_first.append(m)
        levels = [head(F.relu(m)) for head, m in zip(self.heads, reversed(coarse_first), strict=True)]  # [B, 2, h, w]
        return Scores(enlarge(levels[0], self.stride, align_corners), levels)  # [B, 2, H, W]


class RGMP(nn.Module):
    """The Siamese encoder and the decoder; small and paper size differ in the encoder and in numbers only.

    The mask enters together with the colours. The target's maps therefore belong to one object, and to one previous
    mask: they cannot be shared between objects. (STM changes that: its query is encoded without a mask.)

    Args:
        encoder: with one mask channel.
        width: channels of the decoder.
        align_corners: of all upsamplings in the decoder. The released weights were trained with True (it was all that
            PyTorch 0.3.1 had).
        compare: see :class:`Decoder`.
    """

    def __init__(
        self,
        encoder: ResNetEncoder | SmallEncoder | MaskedLiteEncoder,
        width: int,
        align_corners: bool = False,
        compare: GlobalConvolution | None = None,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = Decoder(encoder.channels, encoder.strides[0], width, compare)
        self.align_corners = align_corners

    @property
    def stride(self) -> int:
        """H and W of what is encoded must be multiples of this."""
        return self.encoder.strides[-1]

    def encode(self, frame: Tensor, mask: Tensor) -> list[Tensor]:
        """A frame and a mask, of the reference or of the target alike.

        Args:
            frame: ``float [B, 3, H, W]`` in [0, 1]; the network normalises it.
            mask: ``float [B, H, W]`` in [0, 1], as it is; zeros everywhere say nothing.

        Returns:
            Maps ``[B, channels, H/stride, W/stride]``, finest first.

        Raises:
            TutorialError: if H or W is no multiple of the stride.
        """
        if frame.shape[-2] % self.stride or frame.shape[-1] % self.stride:
            raise TutorialError(
                f"a frame of {frame.shape[-2]}x{frame.shape[-1]} pixels cannot be encoded: both sides must be "
                f"multiples of {self.stride}; pad or resize it."
            )
        return self.encoder(frame, mask[:, None].to(frame.dtype))  # mask [B, 1, H, W]

    def prepare(self, reference: Tensor) -> Guidance:
        """The coarsest map of the reference, ready for :meth:`decode`; it serves for the whole clip."""
        return self.decoder.compare.prepare(reference)

    def decode(self, maps: Sequence[Tensor], guidance: Guidance) -> Scores:
        """Compare the target's coarsest map with the reference, and draw the mask."""
        return self.decoder(maps, guidance, self.align_corners)

    def forward(self, frame: Tensor, previous: Tensor, guidance: Guidance) -> Scores:
        """One step in time; see :meth:`encode` and :meth:`decode`."""
        return self.decode(self.encode(frame, previous), guidance)


COMPARED = 64  # channels of the comparison behind the pretrained encoder
PLACES, APART = 9, 2  # its window at 1/8: 17 cells or 136 pixels, over half of 240 lines, as the paper's 224 of 480


def build(
    size: Literal["small", "paper"] = "small",
    align_corners: bool | None = None,
    width: int = 16,
    encoder: Literal["scratch", "imagenet"] = "scratch",
) -> RGMP:
    """An RGMP with random weights.

    Args:
        size: ``"paper"`` has a ResNet-50 with four stages and 51,518,920 parameters.
        align_corners: see :class:`RGMP`; by default False when small, True at paper size.
        width: of the small encoder's finest map, and of the small decoder.
        encoder: of a small network: ``"scratch"``, or ``"imagenet"``, which :func:`start_from_imagenet` fills. Its
            coarsest map is at 1/8, where the other's is at 1/16, and is compared in more channels.

    Raises:
        TutorialError: on an unknown size or encoder, or at paper size with another encoder.
    """
    if encoder not in ("scratch", "imagenet") or (encoder == "imagenet" and size != "small"):
        raise TutorialError(f"there is no {size} rgmp with encoder {encoder!r}; a small one has scratch or imagenet.")
    align = align_corners if align_corners is not None else size == "paper"
    if size == "small" and encoder == "imagenet":
        lite = MaskedLiteEncoder(width)
        return RGMP(lite, width, align, GlobalConvolution(lite.channels[-1], COMPARED, PLACES, APART))
    if size == "small":
        return RGMP(SmallEncoder(1, width, depth=4), width, align)
    if size == "paper":
        return RGMP(ResNetEncoder(1, stages=4, bias=True), 256, align)
    raise TutorialError(f"there is no size {size!r} of rgmp; choose small or paper.")


def start_from(network: RGMP, trained: RGMP) -> None:
    """Start where another network of the same size stands.

    Raises:
        TutorialError: if the sizes differ.
    """
    start_with(trained.state_dict(), network)


def start_from_imagenet(network: RGMP) -> bool:
    """ImageNet weights for the encoder made for them; at paper size False, and a sentence, if none can be had.

    Raises:
        TutorialError: if the network has no such encoder, or the package with a small one's weights is missing.
    """
    if isinstance(network.encoder, MaskedLiteEncoder):
        network.encoder.load_imagenet()
        return True
    if not isinstance(network.encoder, ResNetEncoder):
        raise TutorialError(
            "this RGMP starts from random weights; build it with size='paper' or with encoder='imagenet'."
        )
    return start_encoders([network.encoder])


# -------------------------------------------------------------------------------------------------- inference

Feedback = Literal["soft", "hard"]
Padding = Literal["least", "authors"]


def next_multiple(length: int, multiple: int) -> int:
    """The next multiple of ``multiple``, or ``length`` itself if it is one."""
    return -(-length // multiple) * multiple


def next_larger_multiple(length: int, multiple: int) -> int:
    """The next *larger* multiple: the authors' code adds a whole ``multiple`` to a length that is one already."""
    return length + multiple - length % multiple


ROUNDING: dict[str, Callable[[int, int], int]] = {"least": next_multiple, "authors": next_larger_multiple}


def resize(x: Tensor, size: tuple[int, int]) -> Tensor:
    """``[P, C, H, W]`` at another size, bilinear and without smoothing, as OpenCV does it for the authors."""
    return F.interpolate(x, size, mode="bilinear", align_corners=False)


CACHED = 2**17
"""Pixels that go through the network at once on a CPU, as one batch; at paper size that is one pass (1.11x)."""


class RGMPSegmenter(ObjectSegmenter):
    """The reference is encoded once, for each object and scale; only the previous soft masks are carried along.

    With several objects each frame takes one pass for each of them and one for their *union*, which says where the
    background is. All passes go through the network as one batch, but on a CPU only if the frame is small: the maps
    of many large frames do not fit its cache. One object alone is not aggregated.

    A mask that is given later, of a new object or as a correction, makes its frame the object's reference. So it is
    the union's from then on, with the other objects as they were last predicted, because the union's old reference
    shows something else. (The authors' code knows frame 0 only.) Objects meet in the union and in the soft
    aggregation: after :meth:`remove` in mid-clip the others continue from masks that competed with the removed
    object, but from references that never knew it.

    Frames are padded with black on all sides, and the masks that are carried along keep the padding (the authors'
    code does so, too).

    Args:
        network: a trained :class:`RGMP`; it stays as it is.
        scales: of the frame; the probabilities of all are averaged. By default 1 for small networks, and the
            authors' 0.5, 0.75 and 1 at paper size.
        feedback: carry along ``"soft"`` masks, the paper's, or ``"hard"`` decisions.
        padding: how frames, and frames at other scales, come to multiples of the stride: ``"least"`` adds what is
            missing, ``"authors"`` adds up to one stride more (480x854 becomes 512x864). By default ``"least"``
            for small networks, ``"authors"`` at paper size.
        use_reference: False blanks the reference, as a network trained without it expects.
        use_previous: False blanks the previous masks, as a network trained without them expects.

    Raises:
        TutorialError: if there is no such feedback or padding, or a scale is not above 0.
    """

    def __init__(
        self,
        network: RGMP,
        scales: Sequence[float] | None = None,
        feedback: Feedback = "soft",
        padding: Padding | None = None,
        use_reference: bool = True,
        use_previous: bool = True,
    ) -> None:
        paper = isinstance(network.encoder, ResNetEncoder)
        self.scales = tuple(scales) if scales is not None else (0.5, 0.75, 1.0) if paper else (1.0,)
        self.padding = padding if padding is not None else "authors" if paper else "least"
        for what, value, known in (("feedback", feedback, Feedback), ("padding", self.padding, Padding)):
            if value not in get_args(known):
                raise TutorialError(f"there is no {what} {value!r}; choose {' or '.join(get_args(known))}.")
        if not self.scales or min(self.scales) <= 0:
            raise TutorialError(f"the scales are {list(self.scales)}; give at least one, all of them above 0.")
        super().__init__(network)
        self.network, self.feedback = evaluating(network), feedback
        self.use_reference, self.use_previous = use_reference, use_previous

    def _start(self, frame: Tensor) -> None:
        height, width = frame.shape[-2:]
        to_height, to_width = self._rounded(height), self._rounded(width)  # H', W'
        left, top = (to_width - width) // 2, (to_height - height) // 2
        self.margins = (left, to_width - width - left, top, to_height - height - top)
        # Everything below is padded. P passes: one for each object and, if there are several, one for the union.
        nothing = torch.zeros(0, to_height, to_width, device=frame.device)
        self.previous = nothing  # float32 [O, H', W']
        self.reference_frames = frame.new_zeros(0, 3, to_height, to_width)  # [O, 3, H', W']
        self.reference_masks = nothing  # float32 [O, H', W']
        self.union_frame = F.pad(frame, self.margins)  # [3, H', W']
        self.union_masks = nothing  # float32 [O, H', W']; their sum is the union's reference mask
        self.given: list[bool] = []  # whether an object's reference is the last frame
        self.guidance: list[Guidance] = []  # one for each scale, P passes as a batch
        self.alone = nothing  # float32 [P, H', W'], the answers of the last step, before they were merged

    def _rounded(self, length: float) -> int:
        return ROUNDING[self.padding](round(length), self.network.stride)

    def _add(self, frame: Tensor, masks: Tensor) -> None:
        known, new = len(self.given), len(masks)
        self.given += [False] * new
        self.previous = with_room(self.previous, new)  # [O+n, H', W']
        self.reference_masks = with_room(self.reference_masks, new)
        self.reference_frames = with_room(self.reference_frames, new)  # [O+n, 3, H', W']
        self._correct(frame, range(known, known + new), masks)

    def _correct(self, frame: Tensor, channels: Sequence[int], masks: Tensor) -> None:
        masks = F.pad(masks, self.margins)  # [n, H', W']
        for channel in channels:
            self.given[channel] = True
        here = torch.tensor(self.given, device=frame.device)  # [O]; they lose what is given away of this frame
        kept = replaced(self.reference_masks, channels, masks)
        self.reference_masks = torch.where(here[:, None, None], kept, self.reference_masks)
        self.union_frame = F.pad(frame, self.margins)  # [3, H', W']
        self.reference_frames = torch.where(here[:, None, None, None], self.union_frame, self.reference_frames)
        self.previous = replaced(self.previous, channels, masks)
        self.union_masks = self.alone = self.previous
        self._refer()

    def _clear(self, channels: Sequence[int]) -> None:
        self.previous = cleared(self.previous, channels)

    def _remove(self, channel: int) -> None:
        del self.given[channel]
        self.previous, self.alone = without(self.previous, channel), without(self.alone, channel)  # [O-1, H', W']
        self.reference_masks = without(self.reference_masks, channel)
        self.reference_frames = without(self.reference_frames, channel)  # [O-1, 3, H', W']
        self.union_masks = without(self.union_masks, channel)
        self._refer()

    def _refer(self) -> None:
        """Encode the references of all passes, once for each scale."""
        frames, masks = self.reference_frames, self.reference_masks
        if len(masks) > 1:
            frames = torch.cat([frames, self.union_frame[None]])  # [P, 3, H', W']
            masks = torch.cat([masks, self.union_masks.sum(0, keepdim=True).clamp(max=1)])  # [P, H', W']
        if not self.use_reference:
            frames, masks = torch.zeros_like(frames), torch.zeros_like(masks)
        self.guidance = [
            self.network.prepare(self._encode(frames, masks, self._at_scale(scale, frames))[-1])
            for scale in self.scales
        ]

    def _at_scale(self, scale: float, padded: Tensor) -> tuple[int, int]:
        """Pixels of a padded frame at a scale; scale 1 leaves it as it is."""
        height, width = padded.shape[-2:]
        return (height, width) if scale == 1 else (self._rounded(height * scale), self._rounded(width * scale))

    def _encode(self, frames: Tensor, masks: Tensor, size: tuple[int, int]) -> list[Tensor]:
        """``[P, 3, H', W']`` and ``[P, H', W']`` -> maps of both, resized to ``size``."""
        if frames.shape[-2:] == size:
            return self.network.encode(frames, masks)
        return self.network.encode(resize(frames, size), resize(masks[:, None], size)[:, 0])

    def _predict(self, frame: Tensor) -> Tensor:
        previous = self.previous if self.use_previous else torch.zeros_like(self.previous)
        several = len(previous) > 1
        if several:
            previous = torch.cat([previous, previous.sum(0, keepdim=True)])  # [P, H', W']
        self.alone = p = self._probability(F.pad(frame, self.margins), previous)
        merged = soft_aggregate(p[:-1], background=1 - p[-1:]) if several else torch.cat([1 - p, p])  # [O+1, H', W']
        self.previous = merged[1:]
        if self.feedback == "hard":
            numbers = torch.arange(1, len(merged), device=frame.device)[:, None, None]
            self.previous = (most_probable(merged)[None] == numbers).float()  # [O, H', W']
        self.given = [False] * len(self.given)
        return crop_padding(merged, self.margins).clone()  # [O+1, H, W], the caller's own

    def _probability(self, frame: Tensor, previous: Tensor) -> Tensor:
        """Each pass by itself, averaged over the scales: ``[3, H', W']``, ``[P, H', W'] -> float32 [P, H', W']``."""
        on_cpu = frame.device.type == "cpu"
        at_once = max(1, CACHED // (frame.shape[-2] * frame.shape[-1])) if on_cpu else len(previous)
        answers = []
        for scale, guidance in zip(self.scales, self.guidance, strict=True):
            size, parts = self._at_scale(scale, frame), []
            halves = zip(*(half.split(at_once) for half in guidance), strict=True)
            for masks, half in zip(previous.split(at_once), halves, strict=True):
                maps = self._encode(frame.expand(len(masks), -1, -1, -1), masks, size)
                parts.append(self.network.decode(maps, Guidance(*half)).logits)  # [at_once, 2, *size]
            probability = torch.cat(parts).float().softmax(1)[:, 1:]  # [P, 1, *size]
            answers.append(resize(probability, (frame.shape[-2], frame.shape[-1]))[:, 0])  # [P, H', W']
        return torch.stack(answers).mean(0)

    # -------------------------------------------------------------------------------------------- looking inside

    @without_graph
    def guide(self, frame: Tensor | None = None, masks: Tensor | None = None, previous: Tensor | None = None) -> None:
        """Change what the next steps are guided by; call it between ``begin`` and ``step``. What is left out stays.

        Args:
            frame: another reference frame for all objects, ``float [3, H, W]``; zeros blank it.
            masks: other reference masks, ``float [O, H, W]``; zeros blank them.
            previous: other previous masks, ``float [O, H, W]``, for the next step alone.

        Raises:
            TutorialError: before ``begin``, and if there are not as many masks as objects.
        """
        self._require_objects()
        for what, given in (("masks", masks), ("previous", previous)):
            if given is not None and len(given) != len(self.objects):
                raise TutorialError(f"{what} holds {len(given)} masks, but there are {len(self.objects)} objects.")
        if previous is not None:
            self.previous = F.pad(previous.to(self.previous), self.margins)
        if frame is not None:
            self.union_frame = F.pad(self._inside(self._frame(frame)), self.margins)
            self.reference_frames = self.union_frame.expand_as(self.reference_frames)
        if masks is not None:
            self.reference_masks = self.union_masks = F.pad(masks.to(self.reference_masks), self.margins)
        if frame is not None or masks is not None:
            self._refer()

    def inspect(self) -> dict[str, Tensor]:
        """What guides the next step, and what the last one said.

        ``previous``, ``reference_mask`` and ``alone`` (each object's probability before the merging; the mask as
        given if none was predicted since) are ``float32 [O, H, W]``, ``reference_frame`` is ``[O, 3, H, W]`` in the
        network's precision.

        Raises:
            TutorialError: before ``begin``, and if no object is left.
        """
        self._require_objects()
        inside = {
            "previous": self.previous,
            "reference_frame": self.reference_frames,
            "reference_mask": self.reference_masks,
            "alone": self.alone[: len(self.objects)],
        }
        return {name: crop_padding(value, self.margins) for name, value in inside.items()}

    def _require_objects(self) -> None:
        if not self.objects:
            raise TutorialError("no object is followed yet; call begin() first.")


def segmenter(network: RGMP, **options: Any) -> RGMPSegmenter:
    """A segmenter; the options are :class:`RGMPSegmenter`'s."""
    return RGMPSegmenter(network, **options)
