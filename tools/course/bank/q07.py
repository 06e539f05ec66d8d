"""Computed questions on page 07: velocities, Euler steps, the exact flow map of a Gaussian, LoRA."""

from __future__ import annotations

import math

import numpy as np
import torch

from vos_tutorial.course.exercises import check_07
from vos_tutorial.models.flow_map import GaussianFlow

from . import Numeric, Pick, computed


@computed("07", "euler", "one Euler step from noise")
def euler(rng: np.random.Generator) -> Numeric:
    points = torch.tensor(sorted(rng.choice(np.arange(-4, 6), size=2, replace=False).tolist()), dtype=torch.float64)
    start = float(np.round(rng.uniform(-2, 2), 1))
    noise = torch.full_like(points, start)  # at t = 1 the position is the noise, whatever the data point
    velocity = float((noise - points).mean())
    nearest = float(points[(points - start).abs().argmin()])
    landing = start - velocity
    if min(abs(landing - nearest), abs(landing - start)) < 0.1:
        return euler(rng)
    return Numeric(
        f"The data are two points, {points[0]:g} and {points[1]:g}, equally likely. Noise is standard "
        "normal, paths are straight lines. "
        f"You start at the noise {start} and take one Euler step of a perfect velocity field, from t = 1 to "
        "t = 0. Where do you land?",
        landing,
        0.01,
        "At t = 1 the velocity is the noise minus the mean of the data, so one step ends at that mean.",
        {"goes to the nearest point": nearest, "stays": start},
    )


@computed("07", "gaussian", "the exact flow map of a normal cloud")
def gaussian(rng: np.random.Generator) -> Numeric:
    c, x = float(np.round(rng.uniform(0.3, 0.9), 1)), float(np.round(rng.uniform(0.5, 2.0), 1))
    t, s = 1.0, float(rng.choice([0.0, 0.5]))
    flow = GaussianFlow(c)
    where = torch.tensor([[x, 0.0]], dtype=torch.float64)
    times = torch.tensor([t], dtype=torch.float64), torch.tensor([s], dtype=torch.float64)
    jumped = float((where + (times[1] - times[0]) * flow.average_velocity(where, *times))[0, 0])
    width = math.sqrt(s**2 + ((1 - s) * c) ** 2)
    assert abs(jumped - x * width) < 1e-9
    euler = float((where + (s - t) * flow.velocity(where, times[0]))[0, 0])
    traps = {"one Euler step": euler, "adds the widths": x * (s + (1 - s) * c)}
    return Numeric(
        f"The data are a normal cloud around 0 of width c = {c}. The flow scales it: at time t its width is "
        f"S(t) = √(t² + (1 - t)² c²). A point is at x = {x} at t = 1. Where is it at s = {s:g}? (Two decimals.)",
        jumped,
        0.011,
        "x S(s) / S(t).",
        {what: value for what, value in traps.items() if abs(value - jumped) > 0.03},
    )


@computed("07", "lora", "parameters of an adapter")
def lora(rng: np.random.Generator) -> Numeric:
    inside, out, rank = (int(rng.choice(sizes)) for sizes in ([64, 96, 128], [192, 256, 384], [4, 8, 16]))
    down, up = torch.zeros(rank, inside), torch.zeros(out, rank)
    return Numeric(
        f"A linear layer has {inside} inputs and {out} outputs. LoRA adds a correction of rank {rank} and "
        "leaves the layer as it is. "
        "How many parameters learn?",
        down.numel() + up.numel(),
        0,
        f"{rank} x {inside} on the way down, and {out} x {rank} on the way up.",
        {"the layer's own weights": inside * out, "one factor only": down.numel()},
    )


@computed("07", "semigroup", "two jumps in place of one")
def semigroup(rng: np.random.Generator) -> Pick:
    mean, c = float(np.round(rng.uniform(0.5, 2.0), 1)), float(np.round(rng.uniform(0.3, 0.8), 1))
    x = torch.tensor([float(np.round(rng.uniform(1.0, 2.0), 1))])
    one, zero = torch.ones(1), torch.zeros(1)
    right = float(check_07.gaussian_map.reference(x, one, zero, mean, c))
    options = {
        f"{float(check_07.gaussian_map.mutants[n].answer(x, one, zero, mean, c)):.2f}": 0.0
        for n in ("no mean", "upside down")
    }
    options |= {f"{mean:.2f}": 0.0, f"{float(x):.2f}": 0.0}
    options.pop(f"{right:.2f}", None)
    if len(options) < 3:
        return semigroup(rng)
    return Pick(
        f"Data are normal with mean {mean} and width {c}. A point is at {float(x):g} at t = 1. Where does "
        "the flow take it by s = 0?",
        {f"{right:.2f}": 1.0, **options},
        0.5,
        "Centred and divided by the width, a point keeps its number: at t = 1 the cloud has mean 0 and width 1.",
    )
