"""The flow map: its exact form, the two directions, what they leave behind, sampling, and what is refused."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from vos_tutorial.errors import TutorialError
from vos_tutorial.models import flow_map
from vos_tutorial.models.flow_map import GaussianFlow, emd_direction, even_times, jump, lmd_direction, sample

SHAPES = [(5, 2), (1, 2), (3, 4, 5, 7), (4, 1, 3, 2, 2), (6,)]


class Student(nn.Module):
    """A small smooth network for points of any shape, with dropout."""

    def __init__(self, shape: tuple[int, ...], drop: float = 0.0) -> None:
        super().__init__()
        self.width = math.prod(shape[1:])
        self.net = nn.Sequential(
            nn.Linear(self.width + 2, 16), nn.SiLU(), nn.Dropout(drop), nn.Linear(16, self.width)
        )

    def forward(self, x: Tensor, t: Tensor, s: Tensor) -> Tensor:
        flat = torch.cat([x.reshape(len(x), -1), t[:, None], s[:, None]], 1)  # [B, width + 2]
        return self.net(flat).reshape(x.shape)


def problem(shape: tuple[int, ...], dtype: torch.dtype, seed: int = 0) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x, v = torch.randn(2, *shape, generator=generator, dtype=dtype)
    times = torch.rand(2, shape[0], generator=generator, dtype=dtype)
    return x, times.amax(0), times.amin(0), v


def student(shape: tuple[int, ...], dtype: torch.dtype, drop: float = 0.0) -> Student:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return Student(shape, drop).to(dtype)


# ----------------------------------------------------------------------------------------------- the exact flow map


@pytest.mark.parametrize(("dtype", "close"), [(torch.float32, 3e-6), (torch.float64, 1e-14)])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("c", [0.05, 0.5, 3.0])
def test_both_directions_are_zero_on_the_exact_map(
    shape: tuple[int, ...], c: float, dtype: torch.dtype, close: float
) -> None:
    flow = GaussianFlow(c)
    x, t, s, _ = problem(shape, dtype)
    x = x * flow_map.like(flow.spread(t), x)  # where the flow has its points
    t[0], s[0] = 1, 0  # the longest jump
    emd = emd_direction(flow.average_velocity, x, t, s, flow.velocity(x, t))
    lmd = lmd_direction(flow.average_velocity, x, t, s, flow.velocity)
    scale = max(1.0, 1 / c)  # F itself grows so near the data
    assert emd.abs().max() < close * scale**2
    assert lmd.abs().max() < close * scale**2
    assert emd.shape == lmd.shape == x.shape
    assert emd.dtype == lmd.dtype == dtype


def test_a_wrong_map_has_directions_that_are_not_zero() -> None:
    flow, wrong = GaussianFlow(0.5), GaussianFlow(0.6)
    x, t, s, _ = problem((8, 2), torch.float64)
    assert (emd_direction(wrong.average_velocity, x, t, s, flow.velocity(x, t)).abs().amax(1) > 1e-3).all()
    assert (lmd_direction(wrong.average_velocity, x, t, s, flow.velocity).abs().amax(1) > 1e-3).all()


def test_the_exact_map_scales_by_the_spreads_and_jumps_compose() -> None:
    flow = GaussianFlow(0.3)
    x, t, s, _ = problem((7, 2), torch.float64)
    between = (t + s) / 2
    once = jump(flow.average_velocity, x, t, s)
    assert torch.allclose(once, x * (flow.spread(s) / flow.spread(t))[:, None], atol=1e-14)
    assert torch.allclose(
        jump(flow.average_velocity, jump(flow.average_velocity, x, t, between), between, s), once, atol=1e-14
    )
    assert torch.allclose(flow.average_velocity(x, t, t), flow.velocity(x, t))
    h = 1e-5
    numeric = (flow.spread(t + h) - flow.spread(t - h)) / (2 * h) / flow.spread(t)
    assert torch.allclose(flow.velocity(x, t), x * numeric[:, None], atol=1e-8)


# ---------------------------------------------------------------------------------------------------- the directions


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", SHAPES)
def test_directions_are_their_formulas(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    """Against derivatives by reverse mode, one sample at a time."""
    network, r = student(shape, dtype), 0.7
    x, t, s, v = problem(shape, dtype)

    def teacher(x: Tensor, t: Tensor) -> Tensor:
        return torch.sin(x) + flow_map.like(t, x)

    for i in range(shape[0]):

        def moved(a: Tensor, i: int = i) -> Tensor:
            return network(x[i : i + 1] + a * v[i : i + 1], t[i : i + 1] + a, s[i : i + 1])

        def later(a: Tensor, i: int = i) -> Tensor:
            return network(x[i : i + 1], t[i : i + 1], s[i : i + 1] + a)

        zero = torch.zeros((), dtype=dtype)
        F, span = moved(zero), (t - s)[i]
        dt = torch.autograd.functional.jacobian(moved, zero)
        ds = torch.autograd.functional.jacobian(later, zero)
        end = x[i : i + 1] - span * F
        emd = emd_direction(network, x[i : i + 1], t[i : i + 1], s[i : i + 1], v[i : i + 1], r)
        lmd = lmd_direction(network, x[i : i + 1], t[i : i + 1], s[i : i + 1], teacher, r)
        close = {"atol": 1e-5} if dtype is torch.float32 else {"atol": 1e-13}
        assert torch.allclose(emd, F - v[i : i + 1] + r * span * dt, **close)
        assert torch.allclose(lmd, F - teacher(end, s[i : i + 1]) - r * span * ds, **close)
        whole = emd_direction(network, x, t, s, v, r)
        assert torch.allclose(whole[i : i + 1], emd, **close)  # no sample depends on another


@pytest.mark.parametrize("shape", SHAPES)
def test_on_t_equal_to_s_both_are_f_minus_v(shape: tuple[int, ...]) -> None:
    network = student(shape, torch.float64)
    x, t, _, v = problem(shape, torch.float64)
    expected = (network(x, t, t) - v).detach()
    assert torch.equal(emd_direction(network, x, t, t.clone(), v), expected)
    assert torch.equal(lmd_direction(network, x, t, t.clone(), lambda x, t: v), expected)


def test_r_zero_is_flow_matching_toward_a_straight_line() -> None:
    network = student((5, 2), torch.float64)
    x, t, s, v = problem((5, 2), torch.float64)
    assert torch.allclose(emd_direction(network, x, t, s, v, r=0), network(x, t, s) - v)


def discrete_gradient(network: nn.Module, loss: Tensor) -> Tensor:
    return torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(network.parameters()))])


@pytest.mark.parametrize("which", ["emd", "lmd"])
def test_the_discrete_loss_tends_to_the_direction_linearly(which: str) -> None:
    """The gradient of the paper's loss of neighbours, over 2 epsilon, against that of the direction."""
    shape = (16, 2)
    network = student(shape, torch.float64)
    x, t, s, v = problem(shape, torch.float64)

    def teacher(x: Tensor, t: Tensor) -> Tensor:
        return torch.sin(x) + t[:, None]

    v = teacher(x, t)
    g = emd_direction(network, x, t, s, v) if which == "emd" else lmd_direction(network, x, t, s, teacher)
    weight = (t - s)[:, None] ** 2  # the theorem's w = 1: f carries (s - t), the neighbours' distance another one
    limit = discrete_gradient(network, (weight * g * network(x, t, s)).sum())
    errors = []
    for epsilon in (1e-2, 1e-3, 1e-4):
        f = jump(network, x, t, s)
        if which == "emd":
            near = t + epsilon * (s - t)
            target = jump(network, x + (near - t)[:, None] * v, near, s)
        else:
            near = s + epsilon * (t - s)
            end = jump(network, x, t, near)
            target = end + (s - near)[:, None] * teacher(end, near)
        gradient = discrete_gradient(network, (f - target.detach()).square().sum() / (2 * epsilon))
        errors.append(((gradient - limit).norm() / limit.norm()).item())
    assert errors[0] < 0.2
    assert 5 < errors[0] / errors[1] < 20
    assert 5 < errors[1] / errors[2] < 20


@pytest.mark.parametrize(("dtype", "close"), [(torch.float32, 2e-3), (torch.float64, 1e-5)])
@pytest.mark.parametrize("mode", ["train", "eval"])
def test_differences_give_the_same_answer(mode: str, dtype: torch.dtype, close: float) -> None:
    network = student((6, 3), dtype, drop=0.5).train(mode == "train")
    x, t, s, v = problem((6, 3), dtype)
    t[0], s[0], t[1], s[1] = 1, 0, 0, 0  # the ends, where only one side is left
    torch.manual_seed(3)
    exact = emd_direction(network, x, t, s, v)
    difference = emd_direction(network, x, t, s, v, derivative="difference")
    assert torch.allclose(difference, exact, atol=close)
    assert torch.allclose(difference[2:], exact[2:], atol=close / 10)  # inside it is central
    exact = lmd_direction(network, x, t, s, lambda x, t: x)
    assert torch.allclose(lmd_direction(network, x, t, s, lambda x, t: x, derivative="difference"), exact, atol=close)


def directions(network: nn.Module, x: Tensor, t: Tensor, s: Tensor, v: Tensor) -> list[Tensor]:
    return [
        emd_direction(network, x, t, s, v),
        lmd_direction(network, x, t, s, lambda x, t: network(x, t, t)),
        emd_direction(network, x, t, s, v, derivative="difference"),
        sample(network, x, even_times(3)),
        sample(network, x, even_times(3), gamma=0.5, generator=torch.Generator().manual_seed(0)),
    ]


@pytest.mark.parametrize("mode", ["train", "eval"])
def test_nothing_is_left_behind(mode: str) -> None:
    network = student((4, 2), torch.float32, drop=0.5).train(mode == "train")
    before = {name: value.clone() for name, value in network.state_dict().items()}
    x, t, s, v = problem((4, 2), torch.float32)
    inputs = [x.clone().requires_grad_(), t.clone().requires_grad_(), s.clone().requires_grad_(), v.requires_grad_()]
    state = torch.random.get_rng_state()
    for out in directions(network, *inputs):
        assert not out.requires_grad
        assert out.grad_fn is None
    assert torch.equal(torch.random.get_rng_state(), state)
    assert network.training == (mode == "train")
    assert all(p.grad is None and p.requires_grad for p in network.parameters())
    assert all(each.grad is None for each in inputs)
    assert torch.equal(inputs[0], x)
    assert torch.equal(inputs[1], t)
    assert all(torch.equal(network.state_dict()[name], value) for name, value in before.items())
    assert torch.is_grad_enabled()


def test_the_direction_drops_what_the_next_call_drops() -> None:
    network = student((64, 2), torch.float64, drop=0.5).train()
    x, t, _, v = problem((64, 2), torch.float64)
    torch.manual_seed(5)
    g = emd_direction(network, x, t, t, v)
    assert torch.equal(g, (network(x, t, t) - v).detach())


def test_half_precision_has_directions_in_float32() -> None:
    network = student((4, 2), torch.float32)
    x, t, s, v = problem((4, 2), torch.float32)
    g = emd_direction(network.bfloat16(), x.bfloat16(), t, s, v.bfloat16())
    assert g.dtype == torch.float32


# ---------------------------------------------------------------------------------------------------------- the loss


def test_the_loss_has_the_direction_as_its_gradient() -> None:
    network = student((5, 3), torch.float64)
    x, t, s, v = problem((5, 3), torch.float64)
    g = emd_direction(network, x, t, s, v)
    loss = flow_map.direction_loss(network(x, t, s), g)
    assert loss.item() == pytest.approx(g.square().sum(1).mean().item())
    gradient = discrete_gradient(network, loss)
    assert torch.allclose(gradient, discrete_gradient(network, 2 * (g * network(x, t, s)).sum() / 5))


def test_without_normalisation_it_is_the_meanflow_loss() -> None:
    network = student((5, 3), torch.float64)
    x, t, s, v = problem((5, 3), torch.float64)
    _, dF = torch.func.jvp(network, (x, t, s), (v, torch.ones_like(t), torch.zeros_like(s)))
    target = (v - (t - s)[:, None] * dF).detach()
    own = discrete_gradient(network, (network(x, t, s) - target).square().sum(1).mean())
    ours = discrete_gradient(network, flow_map.direction_loss(network(x, t, s), emd_direction(network, x, t, s, v)))
    assert torch.allclose(own, ours, atol=1e-14)


def test_normalised_directions_are_shorter_than_one_and_keep_their_way() -> None:
    g = torch.tensor([[3.0, 4.0], [0.03, 0.04], [0.0, 0.0]])
    assert torch.allclose(
        flow_map.normalise(g), torch.tensor([[3 / 5.1, 4 / 5.1], [0.03 / 0.15, 0.04 / 0.15], [0, 0]])
    )
    image = torch.ones(2, 3, 4, 5)
    assert torch.allclose(flow_map.normalise(image, c=0)[0].norm(), torch.tensor(1.0))


def test_warm_up_rises_to_its_cap() -> None:
    assert [flow_map.warm_up(step, 100) for step in (0, 50, 99, 100, 1000)] == [0, 0.5, 0.99, 0.99, 0.99]
    assert flow_map.warm_up(0, 0) == 0.99
    assert flow_map.warm_up(500, 100, cap=1.0) == 1.0


# --------------------------------------------------------------------------------------------------- times, guidance


@pytest.mark.parametrize("draw", [flow_map.interval_first, flow_map.two_sorted])
def test_times_are_in_order_and_repeat(draw: Callable[..., tuple[Tensor, Tensor]]) -> None:
    state = torch.random.get_rng_state()
    t, s = draw(5000, generator=torch.Generator().manual_seed(0))
    again = draw(5000, generator=torch.Generator().manual_seed(0))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert torch.equal(t, again[0])
    assert torch.equal(s, again[1])
    assert ((s >= 0) & (s <= t) & (t <= 1)).all()


def test_interval_first_draws_the_length_that_it_says() -> None:
    t, s = flow_map.interval_first(20000, mean=-0.6, std=1.6, generator=torch.Generator().manual_seed(0))
    middle = torch.logit((t - s).median()).item()
    assert middle == pytest.approx(-0.6, abs=0.05)
    t, s = flow_map.two_sorted(20000, generator=torch.Generator().manual_seed(0))
    assert torch.logit(torch.cat([t, s]).median()).item() == pytest.approx(-0.8, abs=0.03)


def test_guidance_extrapolates() -> None:
    good, poor = torch.tensor([[1.0, 2.0], [3.0, 4.0]]), torch.tensor([[0.0, 1.0], [1.0, 1.0]])
    assert torch.equal(flow_map.extrapolate(good, poor, 1.0), good)
    assert torch.equal(flow_map.extrapolate(good, poor, 3.0), 3 * good - 2 * poor)
    weights = torch.tensor([1.0, 2.0])
    assert torch.equal(flow_map.extrapolate(good, poor, weights)[0], good[0])
    guided = flow_map.autoguidance(lambda x, t: 2 * x, lambda x, t: x, 2.0)
    assert torch.equal(guided(good, weights), 3 * good)


# ---------------------------------------------------------------------------------------------------------- sampling


@pytest.mark.parametrize("times", [[1, 0], [1.0, 0.7, 0.1, 0.0], torch.linspace(1, 0, 9)])
@pytest.mark.parametrize("shape", SHAPES)
def test_the_exact_map_needs_one_step(shape: tuple[int, ...], times: list[float] | Tensor) -> None:
    flow = GaussianFlow(0.4)
    noise = problem(shape, torch.float64)[0]
    kept = noise.clone()
    out = sample(flow.average_velocity, noise, times)
    assert torch.allclose(out, 0.4 * noise, atol=1e-12)
    assert out.dtype == torch.float64
    assert torch.equal(noise, kept)


def test_a_velocity_is_sampled_by_euler() -> None:
    noise = problem((5, 2), torch.float64)[0]
    x = noise
    for t, then in ((1.0, 0.6), (0.6, 0.25), (0.25, 0.0)):
        x = x + (then - t) * (x * t)
    assert torch.allclose(sample(lambda x, t, s: x * t[:, None], noise, [1, 0.6, 0.25, 0]), x)


@pytest.mark.parametrize("gamma", [0.0, 0.3, 0.7, 1.0])
def test_fresh_noise_keeps_the_marginal(gamma: float) -> None:
    flow = GaussianFlow(0.5)
    noise = torch.randn(40000, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    out = sample(flow.average_velocity, noise, even_times(4), gamma, torch.Generator().manual_seed(1))
    assert out.std().item() == pytest.approx(0.5, abs=0.006)  # its standard error is 0.5 / sqrt(80000) = 0.0018
    correlation = torch.corrcoef(torch.stack([noise[:, 0], out[:, 0]]))[0, 1].item()
    assert (correlation > 0.9999) == (gamma == 0)


def test_gamma_one_is_a_jump_to_zero_and_new_noise() -> None:
    flow = GaussianFlow(0.5)
    noise = problem((6, 2), torch.float64)[0]
    generator = torch.Generator().manual_seed(4)
    x = jump(flow.average_velocity, noise, torch.ones(6).double(), torch.zeros(6).double())
    x = 0.7 * x + 0.3 * torch.randn(6, 2, generator=generator, dtype=torch.float64)
    x = jump(flow.average_velocity, x, torch.full((6,), 0.3).double(), torch.zeros(6).double())
    again = sample(flow.average_velocity, noise, [1, 0.3, 0], 1.0, torch.Generator().manual_seed(4))
    assert torch.allclose(again, x)


def test_a_generator_makes_it_repeat() -> None:
    flow, noise = GaussianFlow(0.5), problem((6, 2), torch.float32)[0]
    one, two, other = (
        sample(flow.average_velocity, noise, even_times(3), 0.8, torch.Generator().manual_seed(seed))
        for seed in (0, 0, 1)
    )
    assert torch.equal(one, two)
    assert not torch.equal(one, other)


# --------------------------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("times", "words"),
    [
        ([1, 0.3, 0.6, 0], "rises above 0.3"),
        ([1, 0.5, 0.5, 0], "repeats"),
        ([1.2, 0.5, 0], "outside"),
        ([1, 0.5, -0.1], "outside"),
        ([1, float("nan"), 0], "outside"),
        ([0.9, 0], "begin at 1"),
        ([1, 0.5], "end at 0"),
        ([1], "begin at 1"),
        ([], "begin at 1"),
        (4, "sequence"),
    ],
)
def test_times_that_do_not_fall(times: list[float], words: str) -> None:
    with pytest.raises(TutorialError, match=words):
        sample(GaussianFlow(1).average_velocity, torch.zeros(2, 2), times)


@pytest.mark.parametrize("gamma", [-0.1, 1.1, float("nan")])
def test_gamma_outside(gamma: float) -> None:
    with pytest.raises(TutorialError, match="gamma"):
        sample(GaussianFlow(1).average_velocity, torch.zeros(2, 2), [1, 0], gamma)


def wrong(name: str) -> tuple[Tensor, Tensor, Tensor, Tensor, float]:
    x, t, s, v = problem((3, 2), torch.float32)
    r = 1.0
    if name == "s above t":
        t, s = s, t
    elif name == "t above 1":
        t = t + 1
    elif name == "s below 0":
        s = s - 1
    elif name == "nan time":
        t = t * float("nan")
    elif name == "t of another length":
        t = t[:2]
    elif name == "t with an axis":
        t = t[:, None]
    elif name == "velocity of another shape":
        v = v[:, :1]
    elif name == "r above 1":
        r = 1.5
    elif name == "integers":
        x = x.long()
    return x, t, s, v, r


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("s above t", "s <= t"),
        ("t above 1", r"t has .* outside \[0, 1\]"),
        ("s below 0", r"s has .* outside \[0, 1\]"),
        ("nan time", "outside"),
        ("t of another length", r"t is \[2\]"),
        ("t with an axis", r"t is \[3, 1\]"),
        ("velocity of another shape", "velocity"),
        ("r above 1", "r, the share"),
        ("integers", "floating-point"),
    ],
)
def test_directions_refuse(name: str, words: str) -> None:
    x, t, s, v, r = wrong(name)
    flow = GaussianFlow(0.5)
    with pytest.raises(TutorialError, match=words):
        emd_direction(flow.average_velocity, x, t, s, v, r)
    with pytest.raises(TutorialError, match=words):
        lmd_direction(flow.average_velocity, x, t, s, lambda x, t: v, r)


def test_numbers_that_are_not_finite_name_the_step() -> None:
    x, t, s, v = problem((3, 2), torch.float32)
    v[1, 0] = float("nan")
    with pytest.raises(TutorialError, match="at step 17, first for sample 1"):
        emd_direction(GaussianFlow(0.5).average_velocity, x, t, s, v, step=17)
    with pytest.raises(TutorialError, match="LMD direction is NaN or infinite at step 3"):
        lmd_direction(GaussianFlow(0.5).average_velocity, x, t, s, lambda x, t: v, step=3)
    with pytest.raises(TutorialError, match="step 2 of 4"):
        sample(lambda x, t, s: torch.where(t[:, None] < 1, torch.inf, x), x, even_times(4))


def test_a_network_of_another_shape() -> None:
    x, t, s, v = problem((3, 2), torch.float32)
    with pytest.raises(TutorialError, match="network"):
        sample(lambda x, t, s: x[:, :1], x, [1, 0])
    with pytest.raises(TutorialError, match="network"):
        emd_direction(lambda x, t, s: x[:, :1], x, t, s, v)


class Attention(nn.Module):
    def forward(self, x: Tensor, t: Tensor, s: Tensor) -> Tensor:
        tokens = (x + (t + s)[:, None, None])[:, None]  # [B, 1, N, C]
        return nn.functional.scaled_dot_product_attention(tokens, tokens, tokens)[:, 0]


def test_attention_without_forward_mode_is_a_sentence_and_both_ways_out_work() -> None:
    x, t, s, v = problem((3, 8, 16), torch.float32)
    network = Attention()
    with pytest.raises(TutorialError, match=r"sdpa_kernel.*difference"):
        emd_direction(network, x, t, s, v)
    with sdpa_kernel(SDPBackend.MATH):
        exact = emd_direction(network, x, t, s, v)
    assert torch.allclose(emd_direction(network, x, t, s, v, derivative="difference"), exact, atol=1e-3)


def test_running_statistics_are_a_sentence() -> None:
    x, t, s, v = problem((3, 2), torch.float32)
    norm = nn.BatchNorm1d(2)
    with pytest.raises(TutorialError, match="batch normalisation in eval mode"):
        emd_direction(lambda x, t, s: norm(x), x, t, s, v)
    norm.eval()
    assert emd_direction(lambda x, t, s: norm(x), x, t, s, v).shape == x.shape


class Embedded(nn.Module):
    """A student whose input s begins at zero weights, or is left out."""

    def __init__(self, uses: bool) -> None:
        super().__init__()
        self.uses, self.body, self.span = uses, nn.Linear(3, 2), nn.Linear(1, 2)
        nn.init.zeros_(self.span.weight)
        nn.init.zeros_(self.span.bias)

    def forward(self, x: Tensor, t: Tensor, s: Tensor) -> Tensor:
        out = self.body(torch.cat([x, t[:, None]], 1))
        return out + self.span(s[:, None]) if self.uses else out


def test_a_student_that_ignores_s_is_told_from_one_whose_input_begins_at_zero() -> None:
    x, t, _, _ = problem((3, 2), torch.float32)
    flow_map.require_use_of_s(Embedded(uses=True), x, t)
    with pytest.raises(TutorialError, match="does not depend on s"):
        flow_map.require_use_of_s(Embedded(uses=False), x, t)
    flow_map.require_use_of_s(GaussianFlow(0.5).average_velocity, x, t)
    with pytest.raises(TutorialError, match="does not depend on s"):
        flow_map.require_use_of_s(lambda x, t, s: x, x, t)
