"""The exercises of notebook 06, network and who learns, and of its appendix: blur, gate, path, names, camera."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import skip_init

from ...geometry import dilate
from ...models.frame_prediction import Generator, small_generator
from .check_02 import FromALedger
from .exercise import Exercise, Mutant


def numbers(*shape: int, seed: int = 0) -> Tensor:
    """Random numbers around 0, the same at every call."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


# --- painter -----------------------------------------------------------------------------------------------------


class _Painter(nn.Module):
    """The page's generator, which takes frames that are stacked already, with one thing wrong if so wished."""

    def __init__(self, frames: int, change: Callable[[Generator], None] | None = None, finest: bool = False) -> None:
        super().__init__()
        self.inner = small_generator(frames)
        if change is not None:
            change(self.inner)
        if finest:
            self.finest = nn.Conv2d(24, 24, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.inner(x.unflatten(1, (-1, 3))).frame
        if hasattr(self, "finest"):
            y = y + self.finest(self.inner.encoder(2 * x - 1)[0])[:, :3]
        return y


class _Fixed(nn.Module):
    """It always looks at four frames; fewer are repeated."""

    def __init__(self, frames: int) -> None:
        super().__init__()
        self.inner = _Painter(4)

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(torch.cat([x, x], 1)[:, :12])


def _squeezed_by_three(generator: Generator) -> None:
    squeezes = generator.decoder.squeeze
    for i, old in enumerate(list(squeezes)):
        assert isinstance(old, nn.Conv2d)
        squeezes[i] = nn.Conv2d(old.in_channels, old.out_channels, 3, padding=1)


def _biased_stamps(generator: Generator) -> None:
    for step in generator.decoder.enlarge:
        deconv = step.deconv
        assert isinstance(deconv, nn.ConvTranspose2d)
        deconv.bias = nn.Parameter(torch.zeros(deconv.out_channels))


def _without_norms(generator: Generator) -> None:
    for step in generator.decoder.enlarge:
        step.norm = nn.Identity()


def _biased_first(generator: Generator) -> None:
    generator.encoder.conv1.bias = nn.Parameter(torch.zeros(24))


painter = FromALedger(
    name="painter",
    reference=_Painter,
    cases={
        "four frames": ((4,), (2, 12, 64, 64)),
        "two frames, not square": ((2,), (2, 6, 32, 48)),
    },
    hint="Print sum(p.numel() for p in part.parameters()) of each part, from conv1 on, and compare it with the "
    "ledger.",
    mutants={
        "always four frames": Mutant(
            lambda frames: _Fixed(frames), "The first convolution has 3 input channels for each of `frames` frames."
        ),
        "the finest map joins too": Mutant(
            lambda frames: _Painter(frames, finest=True),
            "Your network has a squeeze too many: the finest of the encoder's maps does not join.",
        ),
        "squeezes of 3x3": Mutant(
            lambda frames: _Painter(frames, _squeezed_by_three), "The three squeezes are 1x1 convolutions."
        ),
        "a bias in the stamps": Mutant(
            lambda frames: _Painter(frames, _biased_stamps), "The transposed convolutions have no bias."
        ),
        "no norms on the way up": Mutant(
            lambda frames: _Painter(frames, _without_norms),
            "On the way up, a group norm follows each 3x3 convolution; it has 2 parameters a channel.",
        ),
        "a bias at the beginning": Mutant(
            lambda frames: _Painter(frames, _biased_first),
            "conv1 has no bias, because the norm behind it has one.",
        ),
        "full size": Mutant(
            lambda frames: nn.Sequential(_Painter(frames), nn.Upsample(scale_factor=2)),
            "The painted frame has half of the frame's height and width; leave it so.",
        ),
    },
)


# --- best_picture ------------------------------------------------------------------------------------------------

Best = Callable[[Tensor, Tensor], tuple[Tensor, float, float]]


def _mean(futures: Tensor, chances: Tensor) -> Tensor:
    return (chances[:, None, None] * futures).sum(0)


def _likeliest(futures: Tensor, chances: Tensor) -> Tensor:
    return futures[chances.argmax()]


def _expected(picture: Tensor, futures: Tensor, chances: Tensor) -> float:
    return float((chances * (futures - picture).square().mean((1, 2))).sum())


Choice = Callable[[Tensor, Tensor], Tensor]
Cost = Callable[[Tensor, Tensor, Tensor], float]


def _painting(best: Choice = _mean, cost: Cost = _expected, sharp: Choice = _likeliest) -> Best:
    """An answer that paints ``best`` or ``sharp``, and counts the error of both as ``cost``."""

    def best_picture(futures: Tensor, chances: Tensor) -> tuple[Tensor, float, float]:
        picture = best(futures, chances)
        return picture, cost(picture, futures, chances), cost(sharp(futures, chances), futures, chances)

    return best_picture


def _of_a_random_future(futures: Tensor, chances: Tensor) -> tuple[Tensor, float, float]:
    picture = _mean(futures, chances)
    each = torch.tensor([_expected(future, futures, chances) for future in futures])
    return picture, _expected(picture, futures, chances), float((chances * each).sum())


def _against_the_likeliest(picture: Tensor, futures: Tensor, chances: Tensor) -> float:
    return float((_likeliest(futures, chances) - picture).square().mean())


def _against_the_mean(picture: Tensor, futures: Tensor, chances: Tensor) -> float:
    return float((_mean(futures, chances) - picture).square().mean())


def _if_it_errs(futures: Tensor, chances: Tensor) -> tuple[Tensor, float, float]:
    picture, blurred, sharp = _painting()(futures, chances)
    return picture, blurred, sharp / max(1e-9, 1 - float(chances.max()))


best_picture = Exercise(
    name="best_picture",
    reference=_painting(),
    cases={
        "two futures, equally likely": (torch.tensor([[[1.0, -1.0]], [[-1.0, 1.0]]]), torch.tensor([0.5, 0.5])),
        "two futures, 3 to 1": (torch.tensor([[[1.0, -1.0, 0.0]], [[-1.0, 1.0, 0.0]]]), torch.tensor([0.25, 0.75])),
        "one future": (numbers(1, 2, 3).tanh(), torch.tensor([1.0])),
        "three futures": (numbers(3, 4, 5, seed=1).tanh(), torch.tensor([0.2, 0.5, 0.3])),
        "four futures": (numbers(4, 3, 3, seed=2).tanh(), torch.tensor([0.1, 0.2, 0.3, 0.4])),
    },
    hint="The picture is the sum of chance times future. A picture's expected error is the sum, over the futures, of "
    "its chance times the mean of (future - picture)².",
    mutants={
        "all alike": Mutant(
            _painting(lambda futures, chances: futures.mean(0)),
            "You average the futures as if all were equally likely; weight each with its chance.",
        ),
        "the likeliest": Mutant(
            _painting(_likeliest),
            "You paint the likeliest future. It looks better, and its squared error is larger: the mean is the best.",
        ),
        "the middle one": Mutant(
            _painting(lambda futures, chances: futures.median(0).values),
            "You take the median, which would be best for the *absolute* error, and leave the chances out; take the "
            "mean.",
        ),
        "all errors alike": Mutant(
            _painting(cost=lambda p, futures, chances: float((futures - p).square().mean())),
            "The picture is right, but the errors count all futures alike; weight each error with its chance.",
        ),
        "against the likeliest": Mutant(
            _painting(cost=_against_the_likeliest),
            "You compare with the likeliest future only. The others may come as well: compare with each, and weight.",
        ),
        "against the mean": Mutant(
            _painting(cost=_against_the_mean),
            "You compare with the mean, which never comes true: compare with each future, weight, then sum.",
        ),
        "a sum over the pixels": Mutant(
            _painting(cost=lambda p, futures, chances: _expected(p, futures, chances) * p.numel()),
            "You sum over the pixels; take their mean, as F.mse_loss does.",
        ),
        "the root": Mutant(
            _painting(cost=lambda p, futures, chances: math.sqrt(_expected(p, futures, chances))),
            "You take the root at the end; the squared error is what is asked for.",
        ),
        "absolute": Mutant(
            _painting(cost=lambda p, f, chances: float((chances * (f - p).abs().mean((1, 2))).sum())),
            "You take absolute differences; square them.",
        ),
        "a random future": Mutant(
            _of_a_random_future,
            "Your last number is the error of one who paints a *random* future, by its chance. That is always twice "
            "the least; here you need the error of the likeliest one.",
        ),
        "only when it errs": Mutant(
            _if_it_errs,
            "Your last number leaves out the times when the likeliest future does come: its error is 0 then, and "
            "that counts.",
        ),
        "in the wrong order": Mutant(
            lambda futures, chances: (_painting()(futures, chances)[0], *_painting()(futures, chances)[:0:-1]),
            "The two errors are swapped: first that of your picture, then that of the likeliest future.",
        ),
    },
)


# --- who_learns --------------------------------------------------------------------------------------------------

Parts = dict[str, nn.Module]
Scene = Callable[[], tuple[Tensor, Parts]]
Who = Callable[[Tensor, Parts], dict[str, float]]


class WhoLearns(Exercise):
    """An exercise on a graph, which cannot be copied: each case builds it anew; what is left in .grad counts, too."""

    def _run(self, function: Callable[..., Any], case: str) -> Any:
        loss, parts = self.cases[case][0]()
        found = function(loss, parts)
        if found is None:
            return None
        if not isinstance(found, Mapping):
            raise TypeError(f"you returned {type(found).__name__}, return a dict {{name: number}}")
        return {"found": dict(found), "left in .grad": {name: _left(part) for name, part in parts.items()}}


def _left(part: nn.Module) -> float:
    return sum(float(p.grad.double().sum()) for p in part.parameters() if p.grad is not None)


def _layer(into: int, out: int, seed: int) -> nn.Linear:
    """A linear layer with weights of its own, which leaves torch's random numbers alone."""
    layer = skip_init(nn.Linear, into, out)
    with torch.no_grad():
        layer.weight.copy_(numbers(out, into, seed=seed))
        layer.bias.copy_(numbers(out, seed=seed + 1))
    return layer


def _scene(objective: Callable[[nn.Sequential, nn.Module, nn.Module], Tensor], grad: bool = False) -> Scene:
    """A generator of two layers, the first of which makes features; a discriminator; something that draws masks."""

    def scene() -> tuple[Tensor, Parts]:
        generator = nn.Sequential(_layer(3, 4, 1), nn.Tanh(), _layer(4, 3, 3))
        discriminator, masks = nn.Sequential(_layer(3, 2, 5), nn.Tanh(), _layer(2, 1, 7)), _layer(4, 1, 9)
        parts: Parts = {"generator": generator, "discriminator": discriminator, "masks": masks}
        for p in (p for part in parts.values() for p in part.parameters() if grad):
            p.grad = torch.ones_like(p)
        return objective(generator, discriminator, masks), parts

    return scene


_PAST, _NOW, _OBJECT = (
    numbers(5, 3, seed=11),
    numbers(5, 3, seed=12).tanh(),
    torch.tensor([[1.0], [0], [0], [1], [1]]),
)


def _pixels(generator: nn.Sequential, discriminator: nn.Module, masks: nn.Module) -> Tensor:
    return F.mse_loss(generator(_PAST).tanh(), _NOW)


def _fooling(generator: nn.Sequential, discriminator: nn.Module, masks: nn.Module) -> Tensor:
    return F.softplus(-discriminator(generator(_PAST))).mean()


def _judging(generator: nn.Sequential, discriminator: nn.Module, masks: nn.Module) -> Tensor:
    return (F.softplus(-discriminator(_NOW)) + F.softplus(discriminator(generator(_PAST).detach()))).mean()


def _drawing(detach: bool) -> Callable[[nn.Sequential, nn.Module, nn.Module], Tensor]:
    def objective(generator: nn.Sequential, discriminator: nn.Module, masks: nn.Module) -> Tensor:
        features = generator[:2](_PAST)
        return F.binary_cross_entropy_with_logits(masks(features.detach() if detach else features), _OBJECT)

    return objective


def _slopes(loss: Tensor, part: nn.Module) -> list[Tensor]:
    found = torch.autograd.grad(loss, list(part.parameters()), retain_graph=True, allow_unused=True)
    return [slope for slope in found if slope is not None]


def _measuring(measure: Callable[[Sequence[Tensor]], float]) -> Who:
    """An answer that gives ``measure(gradients)`` of each part."""
    return lambda loss, parts: {name: measure(_slopes(loss, part)) for name, part in parts.items()}


def _length(slopes: Sequence[Tensor]) -> float:
    return sum(float(slope.square().sum()) for slope in slopes) ** 0.5


def _by_backward(before: Callable[[nn.Module], None], after: Callable[[nn.Module], None]) -> Who:
    """An answer that calls ``loss.backward()``, and does something to each part before and after."""

    def who(loss: Tensor, parts: Parts) -> dict[str, float]:
        for part in parts.values():
            before(part)
        loss.backward()
        found = {
            name: _length([p.grad for p in part.parameters() if p.grad is not None]) for name, part in parts.items()
        }
        for part in parts.values():
            after(part)
        return found

    return who


def _nothing(part: nn.Module) -> None: ...


def _wiped(part: nn.Module) -> None:
    part.zero_grad()


def _of_the_weights(loss: Tensor, parts: Parts) -> dict[str, float]:
    return {name: _length([p.detach() for p in part.parameters()]) for name, part in parts.items()}


def _first_tensor(loss: Tensor, parts: Parts) -> dict[str, float]:
    return {name: _length(_slopes(loss, part)[:1]) for name, part in parts.items()}


def _learners_only(loss: Tensor, parts: Parts) -> dict[str, float]:
    return {name: _length(_slopes(loss, part)) for name, part in parts.items() if _slopes(loss, part)}


who_learns = WhoLearns(
    name="who_learns",
    reference=_measuring(_length),
    cases={
        "the pixels' error": (_scene(_pixels),),
        "fooling the discriminator": (_scene(_fooling),),
        "teaching the discriminator": (_scene(_judging),),
        "masks from detached features": (_scene(_drawing(True)),),
        "masks from features": (_scene(_drawing(False)),),
        "gradients of an earlier step in .grad": (_scene(_fooling, grad=True),),
    },
    hint="torch.autograd.grad(loss, list(part.parameters()), retain_graph=True, allow_unused=True) gives the part's "
    "gradients, None for a tensor that was not reached, and touches no .grad. Sum their squares, then take the root.",
    atol=1e-5,
    mutants={
        "backward": Mutant(
            _by_backward(_nothing, _nothing),
            "loss.backward() *adds* to .grad: what an earlier step left there is counted in, and yours stays for the "
            "next optimiser step. torch.autograd.grad only looks.",
        ),
        "backward on a clean slate": Mutant(
            _by_backward(_wiped, _nothing),
            "The numbers are right, but loss.backward() leaves gradients in .grad, and what was there is wiped: "
            "measuring must not change the training. torch.autograd.grad only looks.",
        ),
        "backward and away": Mutant(
            _by_backward(_wiped, _wiped),
            "The numbers are right and you clean up, but an earlier step's gradients are wiped, too: leave .grad as "
            "you found it. torch.autograd.grad only looks.",
        ),
        "without the root": Mutant(
            _measuring(lambda slopes: _length(slopes) ** 2), "That is the squared length; take the root at the end."
        ),
        "a root each": Mutant(
            _measuring(lambda slopes: sum(float(slope.norm()) for slope in slopes)),
            "You add the lengths of the part's tensors; add their squares over *all* tensors, then take one root.",
        ),
        "with signs": Mutant(
            _measuring(lambda slopes: sum(float(slope.sum()) for slope in slopes)),
            "You add gradients with their signs, so that large ones can cancel; square them first.",
        ),
        "the greatest": Mutant(
            _measuring(lambda slopes: max((float(slope.abs().max()) for slope in slopes), default=0.0)),
            "You take the greatest number; take the length, the root of the sum of the squares.",
        ),
        "the mean": Mutant(
            _measuring(lambda slopes: _length(slopes) / max(1, sum(slope.numel() for slope in slopes)) ** 0.5),
            "You take the root of the *mean* square; take the sum.",
        ),
        "yes or no": Mutant(
            _measuring(lambda slopes: float(bool(slopes))),
            "You say who is reached, as 0 or 1; how long is the gradient?",
        ),
        "the weights": Mutant(
            _of_the_weights, "That is the length of the weights, which all parts have; use the gradients' instead."
        ),
        "the first tensor": Mutant(
            _first_tensor, "You look at the first tensor of each part only; go through all of its parameters."
        ),
        "learners only": Mutant(
            _learners_only, "Parts that nothing reaches are missing in your dict; they are in it with 0."
        ),
    },
)


# --- through_gate ------------------------------------------------------------------------------------------------

Gated = Callable[[Tensor, int], Tensor]


def _walking(gate: Callable[[Tensor, list[Tensor], int, int], Tensor]) -> Gated:
    """What is kept if frame t is cut by ``gate(masks, kept so far, t, radius)``."""

    def through_gate(masks: Tensor, radius: int) -> Tensor:
        kept = [masks[0]]
        for t in range(1, len(masks)):
            kept.append(masks[t] & gate(masks, kept, t, radius))
        return torch.stack(kept)

    return through_gate


def _around(last: Tensor, radius: int) -> Tensor:
    return dilate(last, radius) if last.any() else torch.ones_like(last)


def _last_seen(masks: Tensor, kept: list[Tensor], t: int, radius: int) -> Tensor:
    return dilate(next(mask for mask in kept[::-1] if mask.any()), radius)


def _box(masks: Tensor, kept: list[Tensor], t: int, radius: int) -> Tensor:
    wide = F.max_pool2d(kept[-1][None].float(), 2 * radius + 1, 1, radius)[0] > 0
    return wide if wide.any() else torch.ones_like(wide)


def _gates_themselves(masks: Tensor, radius: int) -> Tensor:
    kept = _walking(lambda m, k, t, r: _around(k[-1], r))(masks, radius)
    return torch.stack([masks[0], *(_around(last, radius) for last in kept[:-1])])


def _all_or_nothing(masks: Tensor, radius: int) -> Tensor:
    kept = [masks[0]]
    for now in masks[1:]:
        kept.append(now if (now & _around(kept[-1], radius)).any() else torch.zeros_like(now))
    return torch.stack(kept)


def _moving(height: int, width: int, tops: Sequence[int | None], lefts: Sequence[int]) -> Tensor:
    """A bar of 3 x 4 pixels with these corners; None: it is hidden. ``bool [T, H, W]``."""
    masks = torch.zeros(len(tops), height, width, dtype=torch.bool)
    for mask, top, left in zip(masks, tops, lefts, strict=True):
        if top is not None:
            mask[top : top + 3, left : left + 4] = True
    return masks


#: Slow enough, and a pixel a frame too fast for a gate of radius 2.
WALK, RUN = (_moving(5, 40, [1] * 8, [speed * t for t in range(8)]) for speed in (2, 3))

through_gate = Exercise(
    name="through_gate",
    reference=_walking(lambda masks, kept, t, radius: _around(kept[-1], radius)),
    cases={
        "2 pixels a frame, radius 2": (WALK, 2),
        "3 pixels a frame, radius 2": (RUN, 2),
        "across": (_moving(30, 30, [0, 4, 8, 12, 16], [0, 3, 6, 9, 12]), 4),
        "5 pixels a frame, radius 2": (_moving(5, 20, [1] * 3, [0, 5, 10]), 2),
        "a jump": (_moving(12, 30, [2, 2, 2, 3, 3], [0, 1, 20, 21, 22]), 3),
        "hidden for a frame": (_moving(12, 30, [2, 2, None, 3, 3], [0, 1, 2, 20, 21]), 3),
        "hidden, and back near by": (_moving(12, 30, [2, 2, None, 3, 3], [0, 1, 2, 6, 7]), 3),
        "one frame": (_moving(4, 6, [0], [1]), 2),
    },
    hint="Keep a list, first masks[0]. For each later frame: last = kept[-1]; the gate is dilate(last, radius) if "
    "last.any(), else all True; append now & gate. torch.stack at the end.",
    mutants={
        "true masks": Mutant(
            _walking(lambda masks, kept, t, radius: _around(masks[t - 1], radius)),
            "Your gate lies around the true last mask. The method knows only what it kept itself: a part that was "
            "cut off does not widen the next gate.",
        ),
        "a gate that never opens": Mutant(
            _walking(lambda masks, kept, t, radius: dilate(kept[-1], radius)),
            "Once a mask is empty yours stay empty for ever; around an empty mask the gate is open everywhere.",
        ),
        "frame 0": Mutant(
            _walking(lambda masks, kept, t, radius: _around(kept[0], radius)),
            "Your gate stays around frame 0; it goes with the object, around the last mask that was kept.",
        ),
        "last seen": Mutant(
            _walking(_last_seen),
            "After an empty mask you go back to the last one that was not. A sensible rule, but not the authors': "
            "their gate then opens everywhere.",
        ),
        "the diameter": Mutant(
            _walking(lambda masks, kept, t, radius: _around(kept[-1], 2 * radius)),
            "Your gate reaches twice as far: radius is half of the ellipse's width.",
        ),
        "a square": Mutant(
            _walking(_box), "You dilate by a square, which reaches farther along the diagonal; dilate takes a disk."
        ),
        "the gates": Mutant(
            _gates_themselves, "You return the gates; return the masks that they let through, now & gate."
        ),
        "all or nothing": Mutant(
            _all_or_nothing,
            "You keep the whole object as soon as the gate touches it. The gate works at each pixel: what lies "
            "outside is gone.",
        ),
        "without frame 0": Mutant(
            lambda masks, radius: _walking(lambda m, k, t, r: _around(k[-1], r))(masks, radius)[1:],
            "Frame 0 is missing in your answer: its mask is given, and kept as it is.",
        ),
        "around this frame": Mutant(
            _walking(lambda masks, kept, t, radius: _around(masks[t], radius)),
            "You gate a frame with its own mask, so that everything passes; take the last one that was kept.",
        ),
    },
)


# --- rows_read ---------------------------------------------------------------------------------------------------

Rows = Callable[[int, int], Tensor]


def _reading(once: Callable[[Tensor, int], Tensor]) -> Rows:
    """``once(rows, n)`` gives the rows that one step reads where these are wanted."""

    def rows_read(n: int, steps: int) -> Tensor:
        rows = torch.arange(n, dtype=torch.float32)
        for _ in range(steps):
            rows = once(rows, n)
        return rows

    return rows_read


def _zoom(rows: Tensor, n: int) -> Tensor:
    return (rows + (n + 2) // 2 - 1.5) / 2


rows_read = Exercise(
    name="rows_read",
    reference=_reading(_zoom),
    cases={
        "24 rows, one step": (24, 1),
        "24 rows, two steps": (24, 2),
        "an odd number of rows": (7, 1),
        "odd, two steps": (61, 2),
        "no step": (5, 0),
    },
    hint="Row j of the cut map is row o = j + (n + 2) // 2 of the doubled one. Input row i lies at 2i + 1.5 there: "
    "solve o = 2i + 1.5 for i. Do that once for each step.",
    atol=1e-4,
    mutants={
        "where it should": Mutant(
            _reading(lambda rows, n: rows),
            "So it would be if nothing were misplaced, and so it is with top_down='resize'. Follow a row through the "
            "doubling and the cut.",
        ),
        "no cut": Mutant(
            _reading(lambda rows, n: (rows - 1.5) / 2),
            "That is the doubling alone. The cut takes the middle: row j of the result is row j + (n + 2) // 2 of "
            "the doubled map.",
        ),
        "a cut of 2n": Mutant(
            _reading(lambda rows, n: (rows + n // 2 - 1.5) / 2),
            "The doubled map has 2n + 2 rows, not 2n; so n + 2 must go, (n + 2) // 2 of them above.",
        ),
        "not centred": Mutant(
            _reading(lambda rows, n: (rows + (n + 2) // 2) / 2),
            "Input row i is spread over the rows 2i to 2i + 3. Their middle is 2i + 1.5, not 2i.",
        ),
        "the second row of four": Mutant(
            _reading(lambda rows, n: (rows + (n + 2) // 2 - 1) / 2),
            "The middle of the four rows 2i, 2i + 1, 2i + 2, 2i + 3 is 2i + 1.5; yours is 2i + 1.",
        ),
        "the other way": Mutant(
            _reading(lambda rows, n: 2 * rows + 1.5 - (n + 2) // 2),
            "You say where row i of the input goes; the question is which row row j of the *result* shows.",
        ),
        "one step": Mutant(
            lambda n, steps: _reading(_zoom)(n, min(1, steps)),
            "One step is right; the second one reads the rows of the first, which read others in turn.",
        ),
        "from above": Mutant(
            _reading(lambda rows, n: (rows + n + 2 - 1.5) / 2),
            "You cut all n + 2 rows off above; half of them go above, half below.",
        ),
        "whole rows": Mutant(
            lambda n, steps: _reading(_zoom)(n, steps).round(),
            "You round. A row between two others shows both; keep the fraction.",
        ),
        "added up": Mutant(
            lambda n, steps: torch.arange(n) + steps * (_zoom(torch.arange(n), n) - torch.arange(n)),
            "You add the same shift for each step; but the second step begins where the first one ended.",
        ),
    },
)


# --- joint_names -------------------------------------------------------------------------------------------------

Names = Callable[[dict[str, Tensor]], dict[str, Tensor]]


class Renaming(Exercise):
    """An exercise on a state dict; what is compared is where each tensor went, so that one name is said at a time."""

    def _run(self, function: Callable[..., Any], case: str) -> Any:
        (names,) = self.cases[case]
        found = function({name: torch.full((2,), float(i)) for i, name in enumerate(names)})
        if found is None:
            return None
        if not isinstance(found, Mapping):
            raise TypeError(f"you returned {type(found).__name__}, return a dict {{name: tensor}}")
        went: dict[int, list[str]] = {}
        for name, tensor in found.items():
            if not isinstance(tensor, Tensor):
                raise TypeError(f"your dict has a {type(tensor).__name__} for {name!r}, not a tensor")
            went.setdefault(int(tensor[0]), []).append(str(name))
        return {name: " and ".join(went.get(i, ["nowhere"])) for i, name in enumerate(names)}


def _half(name: str) -> str:
    return "pred_decoder." if name.startswith(("convC_", "de_layer")) else "pred_encoder."


def _shifted(name: str) -> str:
    layer, place, *rest = name.split(".")
    if not layer.startswith("de_layer") or int(place) < 3:
        return name
    return ".".join([layer, str(int(place) - 1), *rest])


def _naming(new: Callable[[str], str | None]) -> Names:
    """A dict with each tensor under ``new(name)``; None leaves it out."""

    def joint_names(theirs: dict[str, Tensor]) -> dict[str, Tensor]:
        return {found: tensor for name, tensor in theirs.items() if (found := new(name)) is not None}

    return joint_names


def _all_places(name: str) -> str:
    layer, place, *rest = name.split(".")
    if not layer.startswith("de_layer") or int(place) < 1:
        return name
    return ".".join([layer, str(int(place) - 1), *rest])


def _up(name: str) -> str:
    layer, place, *rest = name.split(".")
    return ".".join([layer, str(int(place) + 1), *rest]) if layer.startswith("de_layer") and int(place) > 1 else name


_ENCODER = (
    *("conv1.weight", "bn1.weight", "bn1.running_mean", "bn1.num_batches_tracked"),
    *("layer1.0.conv1.weight", "layer1.0.downsample.0.weight", "layer1.2.bn3.bias", "layer2.3.conv2.weight"),
    *("layer3.3.conv1.weight", "layer3.4.conv1.weight", "layer3.4.bn2.running_var", "layer3.22.conv3.weight"),
    *("layer4.0.downsample.1.weight", "layer4.2.conv3.weight"),
)
_DECODER = (
    *("convC_1.weight", "convC_1.bias", "convC_2.weight", "convC_3.bias"),
    *(f"de_layer{i}.{name}" for i in (1, 2, 3) for name in ("0.weight", "0.bias", "1.weight", "1.running_var")),
    *("de_layer1.3.weight", "de_layer2.3.weight", "de_layer3.3.weight", "de_layer3.4.weight", "de_layer3.4.bias"),
)

joint_names = Renaming(
    name="joint_names",
    reference=_naming(lambda name: _half(name) + _shifted(name)),
    cases={
        "the decoder": (_DECODER,),
        "the encoder": (_ENCODER,),
        "the whole generator": ((*_ENCODER, *_DECODER),),
        "the whole generator, backwards": ((*_DECODER[::-1], *_ENCODER[::-1]),),
    },
    hint="parts = name.split('.'). If parts[0] begins with de_layer and int(parts[1]) > 2, lower parts[1] by 1. The "
    "prefix is pred_decoder. for names that begin with convC or de_layer, else pred_encoder.",
    mutants={
        "prefixes only": Mutant(
            _naming(lambda name: _half(name) + name),
            "The prefixes are right, the places are not: without the ReLU at place 2, what came after it moves up.",
        ),
        "places only": Mutant(
            _naming(_shifted), "The places are right; the prefixes pred_encoder. and pred_decoder. are missing."
        ),
        "replaced everywhere": Mutant(
            _naming(lambda name: _half(name) + name.replace(".3.", ".2.").replace(".4.", ".3.")),
            "You replace .3. wherever it stands, and block 3 of an encoder's layer becomes block 2. Change only the "
            "names that begin with de_layer.",
        ),
        "replaced in the wrong order": Mutant(
            _naming(
                lambda name: (
                    _half(name)
                    + (name.replace(".4.", ".3.").replace(".3.", ".2.") if name.startswith("de_layer") else name)
                )
            ),
            "You make 4 to 3 and then every 3 to 2, so two tensors of de_layer3 get one name and the first is lost. "
            "Take 3 first, or each name once.",
        ),
        "layer3.4 inside": Mutant(
            _naming(
                lambda name: (
                    _half(name) + name.replace("layer3.4", "layer3.3")
                    if "layer3.4" in name
                    else _half(name) + _shifted(name)
                )
            ),
            "'layer3.4' also stands in the encoder, whose layer3 has 23 blocks: its block 4 is overwriting block 3. "
            "Look at how the name *begins*.",
        ),
        "squeezes in the encoder": Mutant(
            _naming(
                lambda name: ("pred_decoder." if name.startswith("de_layer") else "pred_encoder.") + _shifted(name)
            ),
            "convC_1 to convC_3 belong to the decoder: they make the encoder's maps narrower for it.",
        ),
        "all in the decoder": Mutant(
            _naming(lambda name: "pred_decoder." + _shifted(name)),
            "The encoder's tensors, conv1, bn1 and layer1 to layer4, get the prefix pred_encoder.",
        ),
        "every place": Mutant(
            _naming(lambda name: _half(name) + _all_places(name)),
            "You move the batch norm as well, onto the convolution. Places 0 and 1 come before the ReLU: they stay.",
        ),
        "the other way": Mutant(
            _naming(lambda name: _half(name) + _up(name)),
            "You raise the places: that is the way from the joint network to the generator. A layer is *missing* "
            "there, so they fall.",
        ),
        "without the last convolution": Mutant(
            _naming(lambda name: None if name.startswith("de_layer3.4") else _half(name) + _shifted(name)),
            "You drop de_layer3.4, which paints the frame. Masks do not need it, but stage 3 goes on predicting.",
        ),
        "de_layer3 forgotten": Mutant(
            _naming(lambda name: _half(name) + (name if name.startswith("de_layer3") else _shifted(name))),
            "de_layer3 has a ReLU, too: its deconvolution moves from 3 to 2, and its last convolution from 4 to 3.",
        ),
        "de_layer3 only": Mutant(
            _naming(lambda name: _half(name) + (_shifted(name) if name.startswith("de_layer3") else name)),
            "You repair what raises an error, de_layer3. The deconvolutions of de_layer1 and de_layer2 have moved "
            "as well; nothing raises an error for those.",
        ),
    },
)


# --- displacement ------------------------------------------------------------------------------------------------

Displaced = Callable[[Tensor, Tensor], tuple[int, int]]


def _correlation(before: Tensor, now: Tensor) -> Tensor:
    return torch.fft.ifft2(torch.fft.fft2(now) * torch.fft.fft2(before).conj()).real


def _signed(shift: int, size: int) -> int:
    return (shift + size // 2) % size - size // 2


def _at(flat: int, height: int, width: int) -> tuple[int, int]:
    down, right = divmod(flat, width)
    return _signed(down, height), _signed(right, width)


def _finding(
    peak: Callable[[Tensor, Tensor], Tensor], where: Callable[[int, int, int], tuple[int, int]]
) -> Displaced:
    """The place ``where(flat index, height, width)`` of the greatest value of ``peak(before, now)``."""
    return lambda before, now: where(int(peak(before, now).argmax()), *now.shape)


def _rolled(seed: int, height: int, width: int, down: int, right: int, noise: float = 0.0) -> tuple[Tensor, Tensor]:
    before = numbers(height, width, seed=seed)
    return before, before.roll((down, right), (0, 1)) + noise * numbers(height, width, seed=seed + 1)


def _with_object(seed: int, down: int, right: int, object_by: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """A background that moves by (down, right), and a square on it that moves differently."""
    before, now = _rolled(seed, 32, 40, down, right)
    before, square, (dy, dx) = before.clone(), numbers(9, 9, seed=seed + 2), object_by
    before[10:19, 12:21] = square
    now[10 + dy : 19 + dy, 12 + dx : 21 + dx] = square
    return before, now


displacement = Exercise(
    name="displacement",
    reference=_finding(_correlation, _at),
    cases={
        "down and right": _rolled(1, 16, 16, 3, 2),
        "up and left": _rolled(3, 16, 16, -4, -1),
        "a wide frame": _rolled(5, 12, 20, 2, -5),
        "a high frame": _rolled(7, 24, 10, -7, 3),
        "nothing moves": _rolled(9, 8, 8, 0, 0),
        "noise": _rolled(11, 32, 32, -2, 6, noise=0.5),
        "an object of its own will": _with_object(13, 2, -3, (-4, 6)),
        "brighter on the whole": (_rolled(15, 16, 16, 1, -3)[0], 3 + 2 * _rolled(15, 16, 16, 1, -3)[1]),
    },
    hint="torch.fft.ifft2(torch.fft.fft2(now) * torch.fft.fft2(before).conj()).real is the product for every shift; "
    "divmod(its argmax, width) is (down, right), and a shift beyond half of the size is one backwards.",
    mutants={
        "never backwards": Mutant(
            _finding(_correlation, lambda flat, height, width: divmod(flat, width)),
            "A shift by -1 is the last row of the table, not the second: beyond half of the size take the size off.",
        ),
        "backwards in time": Mutant(
            _finding(lambda before, now: _correlation(now, before), _at),
            "Your signs are reversed: that is the way from now to before. Put conj() on the other one.",
        ),
        "without conj": Mutant(
            _finding(lambda before, now: torch.fft.ifft2(torch.fft.fft2(now) * torch.fft.fft2(before)).real, _at),
            "Without conj() the product is a convolution, which compares one frame with the other turned round.",
        ),
        "right, down": Mutant(
            _finding(_correlation, lambda flat, height, width: _at(flat, height, width)[::-1]),
            "You return (right, down); rows come first: (down, right).",
        ),
        "divided by the height": Mutant(
            _finding(_correlation, lambda flat, height, width: _at(flat, width, height)),
            "A flat index counts along rows: divide it by the *width*. On square frames that does not show.",
        ),
        "the least": Mutant(
            _finding(lambda before, now: -_correlation(before, now), _at),
            "You take the least product; where the frames lie on each other it is greatest.",
        ),
        "the difference": Mutant(
            _finding(lambda before, now: (now - before).abs(), _at),
            "You take the pixel that has changed most; it does not say where the picture went. Try all shifts.",
        ),
    },
)
