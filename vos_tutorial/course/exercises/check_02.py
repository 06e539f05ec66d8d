"""The exercises of notebook 02, network and several objects, and of its appendices: dilation, boxes, annotations."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ... import geometry
from ...models.layers import ResidualBlock, enlarge
from ...models.masktrack import SmallUNet
from ...propagation import soft_aggregate
from .exercise import Exercise, Mutant
from .ledger import FromALedger


def drawn(*rows: str) -> Tensor:
    """A mask from rows of text, ``bool [H, W]``: ``#`` is foreground."""
    return torch.tensor([[pixel == "#" for pixel in row] for row in rows])


# --- dilate ------------------------------------------------------------------------------------------------------


def _grown(mask: Tensor, radius: int, belongs: Callable[[int, int], bool], wrap: bool = False) -> Tensor:
    """OR of the mask moved by every offset (y, x) of the square of ``radius`` that ``belongs``."""
    height, width = mask.shape
    padded = F.pad(mask, [radius] * 4)
    result = torch.zeros_like(mask)
    for y in range(-radius, radius + 1):
        for x in range(-radius, radius + 1):
            if belongs(y, x):
                cut = padded[radius - y : radius - y + height, radius - x : radius - x + width]
                result |= mask.roll((y, x), (0, 1)) if wrap else cut
    return result


def _square(mask: Tensor, radius: int) -> Tensor:
    return _grown(mask, radius, lambda y, x: True)


def _diamond(mask: Tensor, radius: int) -> Tensor:
    return _grown(mask, radius, lambda y, x: abs(y) + abs(x) <= radius)


def _wraps_around(mask: Tensor, radius: int) -> Tensor:
    return _grown(mask, radius, lambda y, x: y**2 + x**2 <= radius**2, wrap=True)


def _nearer_than_radius(mask: Tensor, radius: int) -> Tensor:
    return _grown(mask, radius, lambda y, x: y**2 + x**2 < radius**2)


def _radius_not_squared(mask: Tensor, radius: int) -> Tensor:
    return _grown(mask, radius, lambda y, x: y**2 + x**2 <= radius)


def _last_offset_missing(mask: Tensor, radius: int) -> Tensor:
    return _grown(mask, radius, lambda y, x: y**2 + x**2 <= radius**2 and radius not in (y, x))


def _without_centre(mask: Tensor, radius: int) -> Tensor:
    return _grown(mask, radius, lambda y, x: 0 < y**2 + x**2 <= radius**2)


def _diameter_for_radius(mask: Tensor, radius: int) -> Tensor:
    return _grown(mask, 2 * radius, lambda y, x: y**2 + x**2 <= (2 * radius) ** 2)


dilate = Exercise(
    name="dilate",
    reference=geometry.dilate,
    cases={
        "a lone pixel, radius 1": (drawn(".....", ".....", "..#..", ".....", "....."), 1),
        "a lone pixel, radius 2": (
            drawn(".......", ".......", ".......", "...#...", ".......", ".......", "......."),
            2,
        ),
        "an object, radius 3": (
            drawn(
                "...........",
                "...........",
                "...........",
                "....##.....",
                "....###....",
                "...........",
                "...........",
                "...........",
            ),
            3,
        ),
        "at the border": (drawn("#.....", "......", "......", "......", ".....#"), 2),
        "radius 0": (drawn("..#", "##."), 0),
        "nothing to grow": (drawn("....", "...."), 2),
    },
    hint="Take one offset (y, x) after the other: where y² + x² <= radius², OR the mask moved by it to the result.",
    mutants={
        "a square": Mutant(
            _square, "That is a square: leave out the offsets that lie farther off than radius, y² + x² > radius²."
        ),
        "a diamond": Mutant(
            _diamond,
            "That is a diamond: the Euclidean distance is the root of y² + x², not |y| + |x|, nor repeated "
            "growing by one pixel.",
        ),
        "wraps around": Mutant(
            _wraps_around,
            "torch.roll brings back on the left what leaves on the right: add a margin with F.pad and cut from it.",
        ),
        "nearer than radius": Mutant(
            _nearer_than_radius, "A pixel at the distance radius itself belongs to the disk: <= instead of <."
        ),
        "radius is not squared": Mutant(
            _radius_not_squared, "You compare a squared distance with radius; compare it with radius²."
        ),
        "the last offset is missing": Mutant(
            _last_offset_missing,
            "Your disk is cut off at one side: range leaves out its end, so go up to radius + 1.",
        ),
        "forgets the centre": Mutant(
            _without_centre, "What was true stays true: the offset (0, 0) belongs to the disk too."
        ),
        "a diameter for a radius": Mutant(
            _diameter_for_radius, "Your disk is twice as wide as it should be: radius is a radius, not a diameter."
        ),
    },
)


# --- fill_box ----------------------------------------------------------------------------------------------------


def _filled(mask: Tensor, top: int, bottom: int, left: int, right: int) -> Tensor:
    """A box with all four ends included."""
    result = torch.zeros_like(mask)
    result[top : bottom + 1, left : right + 1] = True
    return result


def _ends(mask: Tensor) -> tuple[int, int, int, int]:
    """Top, bottom, left, right of a mask that is not empty."""
    rows, columns = mask.nonzero(as_tuple=True)
    return int(rows.min()), int(rows.max()), int(columns.min()), int(columns.max())


def _fill_box(mask: Tensor) -> Tensor:
    return geometry.fill_boxes(mask[None])[0]


def _end_left_out(mask: Tensor) -> Tensor:
    if not mask.any():
        return mask
    top, bottom, left, right = _ends(mask)
    return _filled(mask, top, bottom - 1, left, right - 1)


def _whole_picture(mask: Tensor) -> Tensor:
    return torch.ones_like(mask) & mask.any()


def _empty_becomes_full(mask: Tensor) -> Tensor:
    return _fill_box(mask) | ~mask.any()


def _axes_swapped(mask: Tensor) -> Tensor:
    if not mask.any():
        return mask
    top, bottom, left, right = _ends(mask)
    return _filled(mask, left, right, top, bottom)


def _gaps_stay(mask: Tensor) -> Tensor:
    return mask.any(1)[:, None] & mask.any(0)[None]


def _cross(mask: Tensor) -> Tensor:
    return mask.any(1)[:, None] | mask.any(0)[None]


def _outline(mask: Tensor) -> Tensor:
    if not mask.any():
        return mask
    top, bottom, left, right = _ends(mask)
    inside = torch.zeros_like(mask)
    inside[top + 1 : bottom, left + 1 : right] = True
    return _fill_box(mask) & ~inside


def _margin(mask: Tensor) -> Tensor:
    if not mask.any():
        return mask
    top, bottom, left, right = _ends(mask)
    return _filled(mask, max(top - 1, 0), bottom + 1, max(left - 1, 0), right + 1)


fill_box = Exercise(
    name="fill_box",
    reference=_fill_box,
    cases={
        "a diagonal": (drawn(".......", ".#.....", "..#....", "...#...", "......."),),
        "wide, at the right": (drawn("........", "....#...", "......##", "........", "........"),),
        "two parts": (drawn("#......", "#......", ".......", "....##."),),
        "a lone pixel": (drawn("....", "..#.", "...."),),
        "a full picture": (drawn("###", "###"),),
        "an empty mask": (drawn("....", "...."),),
    },
    hint="mask.nonzero(as_tuple=True) gives the rows and columns of all true pixels; an empty mask has no smallest "
    "row, so treat it first.",
    mutants={
        "the end is left out": Mutant(
            _end_left_out, "A slice leaves out its end: the box goes up to the last row and column plus 1."
        ),
        "the whole picture": Mutant(
            _whole_picture,
            "That is the whole picture: the box begins and ends at the object's first and last pixels.",
        ),
        "empty becomes full": Mutant(
            _empty_becomes_full,
            "An empty mask has no box: return it empty, or a lost object comes back as everything.",
        ),
        "swapped axes": Mutant(
            _axes_swapped,
            "Rows and columns are swapped: the first axis is y (top, bottom), the second x (left, right).",
        ),
        "gaps stay": Mutant(
            _gaps_stay, "Rows and columns without a pixel of the object are inside the box too, if they lie between."
        ),
        "a cross": Mutant(
            _cross, "A pixel of the box has its row and its column in range: join the two with &, not |."
        ),
        "an outline": Mutant(_outline, "You draw the outline of the box; fill it."),
        "a margin": Mutant(
            _margin, "Your box is one pixel too large on each side; the tight box touches the object."
        ),
    },
)


# --- network -----------------------------------------------------------------------------------------------------


class _Fit(nn.Module):
    """A shortcut without weights: zeros for the channels that are missing."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels

    def forward(self, x: Tensor) -> Tensor:
        return F.pad(x, (0, 0, 0, 0, 0, self.channels - x.shape[1]))


def _block(
    a: int, b: int, stride: int, bias: bool = False, norm: bool = True, shortcut: bool = True, strided: bool = True
) -> nn.Module:
    """A block with one thing wrong."""
    made = ResidualBlock(a, b, stride)
    if not strided:
        made.conv1.stride, made.stride = (1, 1), 1
    if bias:
        made.conv1.bias, made.conv2.bias = nn.Parameter(torch.zeros(b)), nn.Parameter(torch.zeros(b))
    if not norm:
        made.norm1, made.norm2 = nn.Identity(), nn.Identity()  # type: ignore[assignment]
    if not shortcut and not isinstance(made.shortcut, nn.Identity):
        made.shortcut = _Fit(b)
    return made


block = FromALedger(
    name="block",
    reference=ResidualBlock,
    cases={
        "16 channels, stride 1": ((16, 16, 1), (2, 16, 12, 12)),
        "16 to 32 channels, stride 2": ((16, 32, 2), (2, 16, 12, 12)),
    },
    hint="Two 3x3 convolutions without bias, a group norm after each, and a shortcut that is a 1x1 convolution where "
    "channels or resolution change.",
    mutants={
        "a bias": Mutant(
            partial(_block, bias=True),
            "The 3x3 convolutions of a block have no bias, because the norm behind them has one.",
        ),
        "no norm": Mutant(
            partial(_block, norm=False),
            "Each 3x3 convolution of a block has a group norm behind it, which has 2 parameters a channel.",
        ),
        "no convolution in the shortcut": Mutant(
            partial(_block, shortcut=False),
            "Where a block changes resolution or channels, its shortcut is a 1x1 convolution without bias.",
        ),
        "no stride": Mutant(
            partial(_block, strided=False),
            "With stride 2 the answer has half as many rows and columns, in both branches.",
        ),
    },
)


class _Net(nn.Module):
    """The network of the ledger, with one thing wrong if so wished."""

    def __init__(
        self,
        width: int,
        channels_in: int = 4,
        multiples: Sequence[int] = (1, 2, 4, 6),
        last: bool = True,
        join: str = "add",
        logits: int = 2,
        enlarged: int = 1,
    ) -> None:
        super().__init__()
        c = [width * m for m in multiples]

        self.stem, self.first = nn.Conv2d(channels_in, c[0], 5, 2, 2), ResidualBlock(c[0], c[0])
        self.down = nn.ModuleList([ResidualBlock(c[i], c[i + 1], 2) for i in range(3)])
        self.last = ResidualBlock(c[3], c[3]) if last else nn.Identity()
        self.lateral = nn.ModuleList([nn.Conv2d(c[i + 1], c[i], 1) for i in range(3)])
        self.up = nn.ModuleList([ResidualBlock(c[i] * (2 if join == "cat" else 1), c[i]) for i in range(3)])
        self.logits, self.join, self.enlarged, self.channels_in = (
            nn.Conv2d(c[0], logits, 1),
            join,
            enlarged,
            channels_in,
        )

    def forward(self, x: Tensor) -> Tensor:
        maps = [self.first(F.relu(self.stem(x[:, : self.channels_in])))]
        for down in self.down:
            maps.append(down(maps[-1]))
        y = self.last(maps.pop())
        for i in (2, 1, 0):
            y = enlarge(self.lateral[i](y), 2)
            y = self.up[i](torch.cat([y, maps[i]], 1) if self.join == "cat" else y + maps[i])
        y = self.logits(y)
        return enlarge(y, self.enlarged) if self.enlarged > 1 else y


network = FromALedger(
    name="network",
    reference=SmallUNet,
    cases={
        "the size of the page": ((16,), (2, 4, 96, 96)),
        "half as wide, not square": ((8,), (2, 4, 32, 48)),
    },
    hint="Print sum(p.numel() for p in part.parameters()) of each part, from the stem on, and compare it with the "
    "ledger.",
    mutants={
        "eight times the width": Mutant(
            lambda width: _Net(width, multiples=(1, 2, 4, 8)),
            "The coarsest map has 6 times the width, not 8; the ledger has 96 channels there.",
        ),
        "no last block": Mutant(
            lambda width: _Net(width, last=False), "At 1/16 there are two blocks: the one that halves, and `last`."
        ),
        "skips are concatenated": Mutant(
            lambda width: _Net(width, join="cat"),
            "Your blocks on the way up have too many parameters: the skip is added to the map, not concatenated.",
        ),
        "three input channels": Mutant(
            lambda width: _Net(width, channels_in=3), "The stem has four input channels: colours and guide."
        ),
        "one logit": Mutant(
            lambda width: _Net(width, logits=1), "There are two logits for each pixel: background and object."
        ),
        "enlarged already": Mutant(
            lambda width: _Net(width, enlarged=2),
            "The network of the ledger stops at half the resolution; MaskTrack around it enlarges the logits.",
        ),
    },
)


# --- merge -------------------------------------------------------------------------------------------------------


def _merge(alone: Tensor) -> Tensor:
    return soft_aggregate(alone).argmax(0).to(torch.uint8)


def _beats(alone: Tensor, background: Tensor | float) -> Tensor:
    """The likeliest object where it beats ``background``, else 0."""
    best, which = alone.max(0)
    return ((which + 1) * (best > background)).to(torch.uint8)


def _without_background(alone: Tensor) -> Tensor:
    return (alone.argmax(0) + 1).to(torch.uint8)


def _threshold(alone: Tensor) -> Tensor:
    return _beats(alone, 0.5)


def _rest_of_the_sum(alone: Tensor) -> Tensor:
    return _beats(alone, 1 - alone.sum(0))


def _object_on_ties(alone: Tensor) -> Tensor:
    background = (1 - alone).prod(0)
    return torch.where(alone.amax(0) >= background, _without_background(alone), 0)


def _later_on_ties_of_objects(alone: Tensor) -> Tensor:
    return torch.where(_merge(alone) > 0, len(alone) - alone.flip(0).argmax(0), 0)


def _ids_from_zero(alone: Tensor) -> Tensor:
    best, which = alone.max(0)
    return (which * (best > (1 - alone).prod(0))).to(torch.uint8)


def _background_last(alone: Tensor) -> Tensor:
    return torch.cat([alone, (1 - alone).prod(0, keepdim=True)]).argmax(0).to(torch.uint8)


def _last_object_wins(alone: Tensor) -> Tensor:
    ids = torch.zeros(alone.shape[1:], dtype=torch.uint8)
    for number, probability in enumerate(alone, start=1):
        ids[probability > 0.5] = number
    return ids


def _product_of_objects(alone: Tensor) -> Tensor:
    return _beats(alone, 1 - alone.prod(0))


merge = Exercise(
    name="merge",
    reference=_merge,
    cases={
        "one object": (torch.tensor([[[0.9, 0.6, 0.4, 0.1]]]),),
        "two objects": (torch.tensor([[[0.9, 0.2, 0.1], [0.7, 0.3, 0.6]], [[0.1, 0.8, 0.2], [0.9, 0.1, 0.1]]]),),
        "two objects, both unsure": (torch.tensor([[[0.40, 0.45, 0.35]], [[0.42, 0.10, 0.36]]]),),
        "three objects, all sure": (torch.tensor([[[0.99, 0.8]], [[0.95, 0.9]], [[0.97, 0.7]]]),),
        "exact ties": (torch.tensor([[[0.75, 0.5]], [[0.75, 0.0]]]),),
        "no object anywhere": (torch.zeros(2, 2, 3),),
    },
    hint="Put the background's probability, (1 - alone).prod(0), in front of the objects with torch.cat; argmax "
    "over the channels gives the ids.",
    mutants={
        "without background": Mutant(
            _without_background, "Some object always wins, so nothing is background; the background must compete too."
        ),
        "a threshold of one half": Mutant(
            _threshold,
            "0.5 is right for one object only: with 0.40 and 0.42, background has 0.60 x 0.58 = 0.348, and loses.",
        ),
        "the rest of the sum": Mutant(
            _rest_of_the_sum,
            "Each object is segmented on its own, so their sum may exceed 1: multiply the 1 - p, do not add up the "
            "p.",
        ),
        "objects win ties": Mutant(
            _object_on_ties, "On an exact tie the background stays: an object must be greater than it, not equal."
        ),
        "the later object wins ties": Mutant(
            _later_on_ties_of_objects,
            "When two objects are exactly as likely, the first takes the pixel: use argmax.",
        ),
        "ids from zero": Mutant(
            _ids_from_zero,
            "argmax counts the objects from 0, but id 0 is the background: add 1 to an object's index.",
        ),
        "background last": Mutant(
            _background_last, "The background is the first channel, so that the index of a channel is its id."
        ),
        "the last object wins": Mutant(
            _last_object_wins, "Where objects overlap, yours gives the pixel to the last; give it to the likeliest."
        ),
        "one minus the product": Mutant(
            _product_of_objects,
            "Background means none of the objects: the product of all 1 - p, not 1 - the product.",
        ),
    },
)


# --- nearest -----------------------------------------------------------------------------------------------------


def _nearest(times: Sequence[int], length: int) -> list[int]:
    return [min(times, key=lambda a: (abs(a - t), a)) for t in range(length)]


def _later_on_ties(times: Sequence[int], length: int) -> list[int]:
    return [min(times, key=lambda a: (abs(a - t), -a)) for t in range(length)]


def _order_of_the_list(times: Sequence[int], length: int) -> list[int]:
    return [min(times, key=lambda a: abs(a - t)) for t in range(length)]


def _previous_only(times: Sequence[int], length: int) -> list[int]:
    return [max((a for a in times if a <= t), default=min(times)) for t in range(length)]


def _next_only(times: Sequence[int], length: int) -> list[int]:
    return [min((a for a in times if a >= t), default=max(times)) for t in range(length)]


def _index(times: Sequence[int], length: int) -> list[int]:
    return [sorted(times).index(a) for a in _nearest(times, length)]


def _distance(times: Sequence[int], length: int) -> list[int]:
    return [abs(a - t) for t, a in enumerate(_nearest(times, length))]


def _counted_from_one(times: Sequence[int], length: int) -> list[int]:
    return [min(times, key=lambda a: (abs(a - t), a)) for t in range(1, length + 1)]


def _last_frame_missing(times: Sequence[int], length: int) -> list[int]:
    return _nearest(times, length)[:-1]


nearest = Exercise(
    name="nearest",
    reference=_nearest,
    cases={
        "the first frame only": ([0], 4),
        "both ends, no frame halfway": ([0, 5], 6),
        "both ends, one frame halfway": ([0, 4], 5),
        "one in the middle": ([2], 5),
        "three, unevenly spaced": ([1, 3, 9], 12),
        "not in order": ([6, 2], 9),
    },
    hint="min(times, key=...) finds the smallest by a key; a key may be a pair, whose second part decides ties.",
    mutants={
        "later on ties": Mutant(_later_on_ties, "Halfway between two annotations the earlier one answers."),
        "the order of the list decides": Mutant(
            _order_of_the_list,
            "On a tie you take the first of the list, which is the earlier one only if times is sorted; sort it, "
            "or use the key (distance, time).",
        ),
        "the previous one only": Mutant(
            _previous_only, "You look back only; the next annotation may be nearer, and then the clip runs backward."
        ),
        "the next one only": Mutant(_next_only, "You look ahead only; the previous annotation may be nearer."),
        "an index": Mutant(
            _index, "You return places in the list; return the frame numbers that stand there: times[index]."
        ),
        "a distance": Mutant(_distance, "You return how far the annotation is; return which frame it is."),
        "counted from one": Mutant(
            _counted_from_one, "Frames are counted from 0: range(length), not range(1, length + 1)."
        ),
        "one frame short": Mutant(
            _last_frame_missing, "One frame is missing: range leaves out its end already, so range(length) is right."
        ),
    },
)
