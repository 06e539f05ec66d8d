"""Align Your Flow: a network that jumps from any time of a flow to any other, so that few steps are enough.

Sabour, Fidler, Kreis: "Align Your Flow: Scaling Continuous-Time Flow Map Distillation", NeurIPS 2025. Data at time 0,
noise at time 1, ``x_t = (1 - t) x_0 + t x_1``. A teacher ``v(x, t)`` says how fast a point moves; the student
``F(x, t, s)`` is the *average* velocity between two times, ``f(x, t, s) = x + (s - t) F(x, t, s)`` the flow map.
In this order: the map and its exact form for a Gaussian, the two directions of descent (Eulerian and Lagrangian), the
loss with its stabilisers, the times to train on, guidance of the teacher, sampling. Axes: B samples; whatever follows
(``...``) is a point of the plane, an image or a latent, and is never looked into.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from itertools import pairwise
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from ..errors import TutorialError

Network: TypeAlias = Callable[[Tensor, Tensor, Tensor], Tensor]
"""``F(x [B, ...], t [B], s [B]) -> [B, ...]``: the average velocity from t to s."""

Velocity: TypeAlias = Callable[[Tensor, Tensor], Tensor]
"""``v(x [B, ...], t [B]) -> [B, ...]``: the velocity at time t; a teacher."""

Derivative: TypeAlias = Literal["jvp", "difference"]

# ------------------------------------------------------------------------------------------------------- the flow map


def like(t: Tensor, x: Tensor) -> Tensor:
    """Numbers of samples, ``t [B]``, in the rank of ``x [B, ...]``: ``[B, 1, ..., 1]``."""
    return t.reshape(-1, *[1] * (x.ndim - 1))


def interpolate(data: Tensor, noise: Tensor, t: Tensor) -> Tensor:
    """``x_t = (1 - t) x_0 + t x_1``: ``data`` and ``noise [B, ...]``, ``t [B]`` -> ``[B, ...]``."""
    return data + like(t, data) * (noise - data)


def jump(network: Network, x: Tensor, t: Tensor, s: Tensor) -> Tensor:
    """The flow map ``f(x, t, s) = x + (s - t) F(x, t, s)``: from time t to time s in one call, ``[B, ...]``."""
    return x + like(s - t, x) * network(x, t, s)


class GaussianFlow:
    """The flow of normal data ``N(0, c²)`` in closed form: the one flow map that is known exactly.

    At time t the points have standard deviation ``S(t) = sqrt(t² + (1 - t)² c²)``, and the flow only scales them:
    ``f(x, t, s) = x S(s) / S(t)``.

    Args:
        c: the standard deviation of the data, above 0.
    """

    def __init__(self, c: float) -> None:
        if not 0 < c < math.inf:
            raise TutorialError(f"the standard deviation of the data is {c}; give a number above 0.")
        self.c = c

    def spread(self, t: Tensor) -> Tensor:
        """``S(t)``, ``[B]``."""
        return torch.sqrt(t**2 + ((1 - t) * self.c) ** 2)

    def velocity(self, x: Tensor, t: Tensor) -> Tensor:
        """``v(x, t) = x S'(t) / S(t)``, ``[B, ...]``."""
        return self.average_velocity(x, t, t)

    def average_velocity(self, x: Tensor, t: Tensor, s: Tensor) -> Tensor:
        """``F(x, t, s) = x (S(s) - S(t)) / (S(t) (s - t))``, ``[B, ...]``; at ``s = t`` the velocity.

        The difference of the roots is the difference of the squares over the sum of the roots, and ``s - t`` cancels:
        no division by zero is left.
        """
        slope = (s + t - self.c**2 * (2 - s - t)) / (self.spread(s) + self.spread(t))  # (S(s) - S(t)) / (s - t)
        return x * like(slope / self.spread(t), x)


# ---------------------------------------------------------------------------------------------- directions of descent


def emd_direction(
    network: Network,
    x: Tensor,
    t: Tensor,
    s: Tensor,
    velocity: Tensor,
    r: float = 1.0,
    *,
    derivative: Derivative = "jvp",
    step: int | None = None,
) -> Tensor:
    """AYF-EMD: how ``F(x, t, s)`` should change, seen from the start of the jump (theorem 3.2).

    On a true flow map the end of a jump does not move when its start follows the flow. It moves by ``-g`` for
    ``r = 1``: ``g = F - v + r (t - s) dF/dt``, with ``dF/dt`` along the flow, the tangent ``(v, 1, 0)`` of
    ``(x, t, s)``. With the teacher's velocity this distils; with ``noise - data`` it is MeanFlow's loss; with
    ``s = 0`` it is the consistency model's.

    Nothing is left behind: no gradient, no state of a random generator. Where the network draws (dropout), it draws
    what the next call of it will draw.

    Args:
        network: the student, ``F(x, t, s)``.
        x: points at time t, ``[B, ...]``, a floating type; ``t`` and ``s`` become of it.
        t: where the jumps begin, ``[B]`` in [0, 1].
        s: where they end, ``[B]`` in [0, t].
        velocity: of the flow at ``(x, t)``, ``[B, ...]``: the teacher's, with its guidance.
        r: the share of the derivative, in [0, 1]; 0 pulls the map to a straight line. See :func:`warm_up`.
        derivative: ``"jvp"``, exact, in one pass; ``"difference"``, central differences of three passes, for networks
            without forward mode.
        step: the step of the training, for the sentence when a number is not finite.

    Returns:
        ``g [B, ...]``, without a graph, of the type of ``x``; float32 where ``x`` is of half precision.

    Raises:
        TutorialError: if the shapes differ, times leave [0, 1] or have ``s > t``, ``r`` leaves [0, 1], the network
            has no forward mode, or a number of ``g`` is not finite.
    """
    t, s = _require_times(x, t, s)
    _require_share(r)
    _require_like(velocity, x, "the velocity")
    with torch.no_grad(), _randomness_kept(x):
        x, velocity = x.detach(), velocity.detach().to(x)
        F, dF = _derivative(lambda x, t: network(x, t, s), (x, t), (velocity, torch.ones_like(t)), derivative)
        _require_like(F, x, "the network's output")
        g = F - velocity + r * like(t - s, x) * dF  # [B, ...]
    return _require_finite(g, "EMD", t, s, step)


def lmd_direction(
    network: Network,
    x: Tensor,
    t: Tensor,
    s: Tensor,
    teacher: Velocity,
    r: float = 1.0,
    *,
    derivative: Derivative = "jvp",
    step: int | None = None,
) -> Tensor:
    """AYF-LMD: how ``F(x, t, s)`` should change, seen from the end of the jump.

    On a true flow map the end of a jump moves with the flow when s does: ``g = F - v(f, s) - r (t - s) dF/ds``. The
    teacher is asked at the student's own output ``f``, so this distils only.

    Args:
        network: the student, ``F(x, t, s)``.
        x: points at time t, ``[B, ...]``.
        t: where the jumps begin, ``[B]`` in [0, 1].
        s: where they end, ``[B]`` in [0, t].
        teacher: ``v(x, t)``, with its guidance.
        r, derivative, step: see :func:`emd_direction`.

    Returns:
        ``g [B, ...]``, as :func:`emd_direction`.

    Raises:
        TutorialError: as :func:`emd_direction`.
    """
    t, s = _require_times(x, t, s)
    _require_share(r)
    with torch.no_grad(), _randomness_kept(x):
        x = x.detach()
        F, dF = _derivative(lambda s: network(x, t, s), (s,), (torch.ones_like(s),), derivative)
        _require_like(F, x, "the network's output")
        end = x + like(s - t, x) * F.to(x)  # f(x, t, s), [B, ...]
        velocity = teacher(end, s)
        _require_like(velocity, x, "the teacher's velocity")
        g = F - velocity.detach() - r * like(t - s, x) * dF  # [B, ...]
    return _require_finite(g, "LMD", t, s, step)


def _derivative(
    function: Callable[..., Tensor], at: tuple[Tensor, ...], tangent: tuple[Tensor, ...], how: Derivative
) -> tuple[Tensor, Tensor]:
    """A function of ``(x, t)`` or of a time alone, and its derivative along a tangent, at least in float32.

    The last of ``at`` is the time that moves, at speed 1.
    """
    if how == "jvp":
        try:
            value, slope = torch.func.jvp(function, at, tangent)[:2]
        except (RuntimeError, NotImplementedError) as error:
            raise _without_forward_mode(error) from error
    elif how == "difference":
        value, slope = _central_difference(function, at, tangent)
    else:
        raise TutorialError(f"the derivative is {how!r}; choose 'jvp' or 'difference'.")
    full = torch.promote_types(value.dtype, torch.float32)
    return value.detach().to(full), slope.detach().to(full)


def _without_forward_mode(error: RuntimeError) -> Exception:
    """The error as a sentence with the way out, if it is about forward mode; else the error itself."""
    what = str(error).splitlines()[0]
    if "in-place operation" in what:
        return TutorialError(
            f"a layer of the network writes to its buffers while it runs ({what[:120]}...); put batch normalisation "
            "in eval mode, or use a normalisation without running statistics."
        )
    if any(words in what for words in ("forward AD", "forward-mode", "jvp", "functorch")):
        return TutorialError(
            f"a layer of the network has no forward mode ({what[:120]}...); if it is attention, run this inside "
            "torch.nn.attention.sdpa_kernel(SDPBackend.MATH), else ask for derivative='difference'."
        )
    return error


def _central_difference(
    function: Callable[..., Tensor], at: tuple[Tensor, ...], tangent: tuple[Tensor, ...]
) -> tuple[Tensor, Tensor]:
    """``(F(x + h v, t + h) - F(x - h v, t - h)) / 2h``; next to the times 0 and 1 on the side that is left.

    The step is the cube root of the type's precision, where rounding and curvature do the same harm: 0.005 in
    float32, 0.000006 in float64.
    """
    time = at[-1]
    h = torch.finfo(time.dtype).eps ** (1 / 3)
    forward, back = (time + h).clamp(max=1) - time, (time - h).clamp(min=0) - time  # [B] each
    value, ahead, behind = (
        _with_same_randomness(function, [x + like(shift, x) * v for x, v in zip(at, tangent, strict=True)])
        for shift in (torch.zeros_like(time), forward, back)
    )
    return value, (ahead - behind) / like(forward - back, value)


def _with_same_randomness(function: Callable[..., Tensor], at: Sequence[Tensor]) -> Tensor:
    with _randomness_kept(at[0]):  # the passes of a difference must drop the same units
        return function(*at)


@contextmanager
def _randomness_kept(x: Tensor) -> Iterator[None]:
    """Put the global generators of the CPU and of the device of ``x`` back as they were."""
    with torch.random.fork_rng([x.device] if x.device.type == "cuda" else []):
        yield


# ------------------------------------------------------------------------------------------- the loss that is trained


def warm_up(step: int, length: int, cap: float = 0.99) -> float:
    """The share ``r`` of the derivative: from 0, by ``1 / length`` a step, up to ``cap`` (tangent warm-up).

    The last hundredth of the straight line stays for good, as a regulariser.
    """
    return min(cap, step / length) if length > 0 else cap


def normalise(g: Tensor, c: float = 0.1) -> Tensor:
    """``g / (|g| + c)`` for each sample of ``g [B, ...]`` (tangent normalisation): no step is longer than one."""
    return g / (like(g.flatten(1).norm(dim=1), g) + c)


def direction_loss(F: Tensor, direction: Tensor) -> Tensor:
    """``|F - sg(F - g)|²``, a sum over each sample and a mean over samples: its gradient is ``2 g dF/dθ``.

    Its value is ``|g|²``. After :func:`normalise` it therefore hardly falls while the student learns; look at the
    norm of the direction before, and at samples.

    Args:
        F: the student's output *with* its graph, ``[B, ...]``.
        direction: ``g [B, ...]``, from :func:`emd_direction` or :func:`lmd_direction`.

    Returns:
        a scalar, at least in float32.
    """
    F = F.to(torch.promote_types(F.dtype, torch.float32))
    target = (F - direction).detach()
    return (F - target).square().flatten(1).sum(1).mean()


def require_use_of_s(network: Network, x: Tensor, t: Tensor) -> None:
    """Raise TutorialError if a student's output is not computed from ``s``: it could learn the velocity only.

    An input that still counts for nothing, because its weights begin at zero, is one that can be learned, and passes.

    Args:
        network: a student with a graph: not under ``no_grad`` inside.
        x: any points, ``[B, ...]``.
        t: any times, ``[B]``.
    """
    with torch.enable_grad(), _randomness_kept(x):
        s = (t / 2).detach().to(x.dtype).requires_grad_()
        out = network(x.detach(), t.detach().to(x.dtype), s)
        (slope,) = torch.autograd.grad(out.sum(), s, allow_unused=True) if out.requires_grad else (None,)
    if slope is None:
        raise TutorialError(
            "the student's output does not depend on s, so it could learn only the velocity; give it an embedding of "
            "s (from zero weights, if it should begin as the teacher)."
        )


# ---------------------------------------------------------------------------------------------- the times to train on


def interval_first(
    samples: int, mean: float = -0.6, std: float = 1.6, generator: torch.Generator | None = None
) -> tuple[Tensor, Tensor]:
    """Times ``(t, s)``, ``[B]`` float32 each, ``s <= t``: how long the jump is, then where it lies.

    The length is the logistic function of a normal number; the place is uniform. Sources differ about how AYF draws
    its times; the other reading is :func:`two_sorted`.
    """
    length = torch.sigmoid(mean + std * torch.randn(samples, generator=generator))  # [B]
    s = (1 - length) * torch.rand(samples, generator=generator)
    return (s + length).clamp(max=1), s  # a rounding error may carry the sum past 1


def two_sorted(
    samples: int, mean: float = -0.8, std: float = 1.0, generator: torch.Generator | None = None
) -> tuple[Tensor, Tensor]:
    """Times ``(t, s)``, ``[B]`` float32 each, ``s <= t``: two logistic-normal draws, the larger one first."""
    pair = torch.sigmoid(mean + std * torch.randn(samples, 2, generator=generator))  # [B, 2]
    return pair.amax(1), pair.amin(1)


# -------------------------------------------------------------------------------------------- guidance of the teacher


def extrapolate(good: Tensor, poor: Tensor, weight: float | Tensor) -> Tensor:
    """``λ good + (1 - λ) poor``: away from the poorer of two velocities ``[B, ...]`` for ``λ > 1`` (equation 3).

    Args:
        good: the teacher's, with its label.
        poor: of a smaller or less trained teacher (autoguidance), or of the teacher without its label
            (classifier-free guidance).
        weight: λ, one number or ``[B]``; 1 changes nothing.
    """
    if isinstance(weight, Tensor):
        weight = like(weight, good)
    return poor + weight * (good - poor)


def autoguidance(teacher: Velocity, weak: Velocity, weight: float | Tensor) -> Velocity:
    """The teacher, pushed away from a weak version of itself: ``v(x, t)``."""
    return lambda x, t: extrapolate(teacher(x, t), weak(x, t), weight)


# ----------------------------------------------------------------------------------------------------------- sampling


@torch.no_grad()
def sample(
    network: Network,
    noise: Tensor,
    times: Sequence[float] | Tensor,
    gamma: float = 0.0,
    generator: torch.Generator | None = None,
) -> Tensor:
    """From noise to data in ``len(times) - 1`` jumps.

    With ``gamma > 0`` each jump goes further than to the next time, and fresh noise leads back to it; the points'
    distribution stays the same. ``gamma = 1`` jumps to time 0 and starts again from there: a consistency model's
    sampling. A network that ignores ``s`` and gives the velocity is sampled by Euler's method.

    Args:
        network: ``F(x, t, s)``, in the mode (train, eval) that it is in.
        noise: standard normal numbers, ``[B, ...]``; left as they are.
        times: ``1 = t_0 > ... > t_N = 0``.
        gamma: in [0, 1]; 0 adds no noise.
        generator: of the fresh noise; without one it comes from the global generator, which else stays as it was.

    Returns:
        ``[B, ...]`` at time 0, of the type of ``noise``, without a graph.

    Raises:
        TutorialError: if the times do not fall from 1 to 0, ``gamma`` leaves [0, 1], or the network gives another
            shape or numbers that are not finite.
    """
    grid = require_falling(times)
    if not 0 <= gamma <= 1:
        raise TutorialError(f"gamma is {gamma}; give a number from 0 (no fresh noise) to 1 (all of it).")
    _require_points(noise)
    x, keep = noise.detach().clone(), math.sqrt(1 - gamma**2)
    with nullcontext() if gamma > 0 and generator is None else _randomness_kept(noise):
        for step, (t, then) in enumerate(pairwise(grid), 1):
            scale = 1 - then + keep * then if gamma > 0 else 1.0  # (1 - t') / (1 - s): back from s to t'
            s = keep * then / scale if gamma > 0 else then
            average = network(x, x.new_full(x.shape[:1], t), x.new_full(x.shape[:1], s))
            _require_like(average, x, "the network's output")
            x = scale * (x + (s - t) * average.to(x))
            if gamma > 0 and then > 0:
                x = x + gamma * then * _normal(x, generator)
            if not torch.isfinite(x).all():
                raise TutorialError(
                    f"the network gives NaN or infinite numbers at step {step} of {len(grid) - 1} (from t = {t:g} to "
                    f"{s:g}); check its weights."
                )
    return x


def _normal(x: Tensor, generator: torch.Generator | None) -> Tensor:
    place = x.device if generator is None else generator.device
    return torch.randn(x.shape, dtype=x.dtype, device=place, generator=generator).to(x.device)


def even_times(steps: int) -> list[float]:
    """``steps + 1`` times, evenly from 1 to 0."""
    if steps < 1:
        raise TutorialError(f"the number of steps is {steps}; use 1 or more.")
    return [1 - i / steps for i in range(steps + 1)]


def require_falling(times: Sequence[float] | Tensor) -> list[float]:
    """Times as floats; TutorialError unless they fall from 1 to 0, each below the previous one."""
    try:
        grid = [float(t) for t in times]
    except TypeError as error:
        raise TutorialError(f"the times are {times!r}; give a sequence of numbers that falls from 1 to 0.") from error
    for i, t in enumerate(grid):
        if not 0 <= t <= 1:
            raise TutorialError(f"time {i} is {t:g}, outside [0, 1]; give times that fall from 1 to 0.")
        if i and t >= grid[i - 1]:
            what = "repeats" if t == grid[i - 1] else "rises above"
            raise TutorialError(f"time {i} is {t:g} and {what} {grid[i - 1]:g}; give times that fall from 1 to 0.")
    if len(grid) < 2 or grid[0] != 1 or grid[-1] != 0:
        raise TutorialError(
            f"the times are {grid if len(grid) < 8 else f'{grid[0]:g} ... {grid[-1]:g}'}; begin at 1 (noise) and end "
            "at 0 (data)."
        )
    return grid


# ------------------------------------------------------------------------------------------------------ what comes in


def _require_points(x: Tensor) -> None:
    if not isinstance(x, Tensor) or x.ndim < 1 or not x.is_floating_point():
        kind = f"{x.dtype} {list(x.shape)}" if isinstance(x, Tensor) else type(x).__name__
        raise TutorialError(f"the points are {kind}; give a floating-point tensor [B, ...].")


def _require_like(value: Tensor, x: Tensor, name: str) -> None:
    if not isinstance(value, Tensor) or value.shape != x.shape:
        shape = list(value.shape) if isinstance(value, Tensor) else type(value).__name__
        raise TutorialError(f"{name} is {shape} and the points are {list(x.shape)}; give one number for each.")


def _require_times(x: Tensor, t: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
    """``t`` and ``s`` in the type and place of ``x``; TutorialError unless ``0 <= s <= t <= 1``, one a sample."""
    _require_points(x)
    for name, time in (("t", t), ("s", s)):
        if not isinstance(time, Tensor) or time.shape != x.shape[:1]:
            shape = list(time.shape) if isinstance(time, Tensor) else type(time).__name__
            raise TutorialError(f"{name} is {shape}; give a tensor [{x.shape[0]}], one time for each sample.")
        if not ((time >= 0) & (time <= 1)).all():  # NaN is outside too
            worst = time[~((time >= 0) & (time <= 1))][0].item()
            raise TutorialError(f"{name} has {worst:g}, outside [0, 1]; time 0 is the data and time 1 the noise.")
    if (s > t).any():
        i = int((s > t).nonzero()[0])
        raise TutorialError(
            f"sample {i} jumps from t = {t[i].item():g} up to s = {s[i].item():g}; training goes from "
            "noise to data, so give s <= t."
        )
    return t.detach().to(x), s.detach().to(x)


def _require_share(r: float) -> None:
    if not 0 <= r <= 1:
        raise TutorialError(f"r, the share of the derivative, is {r}; give a number from 0 to 1.")


def _require_finite(g: Tensor, name: str, t: Tensor, s: Tensor, step: int | None) -> Tensor:
    fine = torch.isfinite(g).flatten(1).all(1) if g.ndim > 1 else torch.isfinite(g)  # [B]
    if not fine.all():
        i = int((~fine).nonzero()[0])
        when = "" if step is None else f" at step {step}"
        raise TutorialError(
            f"the {name} direction is NaN or infinite{when}, first for sample {i} (t = {t[i].item():g}, "
            f"s = {s[i].item():g}); lower the learning rate, lengthen the warm-up, or use an embedding of time that "
            "is smooth at 0 and 1."
        )
    return g
