"""Points of the plane: their data, networks, training, distance, and the experiment's closed forms."""

from __future__ import annotations

import importlib
import json
import math
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from experiments import flow_map as experiment
from experiments.runs import file_name
from vos_tutorial.data.worlds import plane as world
from vos_tutorial.errors import TutorialError
from vos_tutorial.models import plane
from vos_tutorial.models.flow_map import emd_direction, even_times, sample
from vos_tutorial.models.plane import PlaneFlowMap, PlaneVelocity, TimeFeatures
from vos_tutorial.models.weights import save_weights
from vos_tutorial.samples import paired_distance, sliced_wasserstein
from vos_tutorial.training import flow_map as training
from vos_tutorial.training.flow_map import Run


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def teacher(seed: int = 0, **options: object) -> PlaneVelocity:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return PlaneVelocity(width=16, **options)  # type: ignore[arg-type]


# -------------------------------------------------------------------------------------------------------------- data


def test_the_board_has_points_on_dark_squares_only_and_on_all_of_them() -> None:
    points = world.checkerboard(4000, generator())
    assert points.shape == (4000, 2)
    assert points.dtype == torch.float32
    assert world.on_board(points).all()
    squares = (points + 2).floor().long()
    counts = torch.bincount(squares[:, 0] * 4 + squares[:, 1], minlength=16)
    assert (counts > 0).sum() == 8
    assert counts[counts > 0].min() > 400
    assert not world.on_board(points + torch.tensor([1.0, 0.0])).any()
    assert not world.on_board(torch.tensor([[2.5, 0.5], [-9.0, 1.0]])).any()


def test_the_ring_has_eight_modes_in_two_classes() -> None:
    points, label = world.ring(4000, generator())
    mode, distance = world.mode_of(points)
    assert torch.bincount(mode).min() > 400
    assert torch.equal(label, mode // 4)
    assert distance.square().mean().sqrt().item() == pytest.approx(world.SPREAD * math.sqrt(2), rel=0.03)
    assert torch.equal(points, world.ring(4000, generator())[0])


def test_no_points_are_refused() -> None:
    for draw in (world.checkerboard, world.ring):
        with pytest.raises(TutorialError, match="1 or more"):
            draw(0, generator())


def test_the_distance_of_point_sets() -> None:
    a, b = torch.randn(3000, 2, generator=generator()), torch.randn(3000, 2, generator=generator(1))
    assert sliced_wasserstein(a, a[torch.randperm(3000, generator=generator())]) < 1e-6  # it is a set
    shift = torch.tensor([3.0, 4.0])
    assert sliced_wasserstein(a, a + shift) == pytest.approx(5 / math.sqrt(2), rel=1e-3)  # the mean over directions
    assert sliced_wasserstein(a, b) < 0.06
    assert sliced_wasserstein(a, 2 * a) == pytest.approx(1, rel=0.03)
    assert paired_distance(a, a + shift) == pytest.approx(5)
    assert paired_distance(torch.zeros(2, 3, 4), torch.ones(2, 3, 4)) == pytest.approx(math.sqrt(12))
    with pytest.raises(TutorialError, match=r"\[3000, 2\] and \[10, 2\]"):
        sliced_wasserstein(a, b[:10])
    with pytest.raises(TutorialError, match="one shape"):
        paired_distance(a, b[:10])


# ---------------------------------------------------------------------------------------------------------- networks


@pytest.mark.parametrize("clock", ["time", "log sigma", "fast"])
def test_features_of_time(clock: plane.Clock) -> None:
    t = torch.linspace(0, 1, 11, dtype=torch.float64)
    found = TimeFeatures(clock)(t)
    assert found.shape == (11, 8)
    assert found.dtype == torch.float64
    assert torch.isfinite(found).all()
    assert torch.pdist(found).min() > 1e-3  # every time looks different


def slope(clock: plane.Clock, t: float) -> float:
    at = torch.tensor([t], dtype=torch.float64)
    _, moved = torch.func.jvp(TimeFeatures(clock), (at,), (torch.ones_like(at),))
    return moved.norm().item()


def test_the_clocks_differ_in_how_fast_they_run() -> None:
    assert slope("time", 0.01) == pytest.approx(slope("time", 0.5))
    assert slope("time", 0.5) < 10
    assert slope("fast", 0.5) > 10 * slope("time", 0.5)
    assert slope("log sigma", 0.001) > 50 * slope("log sigma", 0.5)


def test_an_unknown_clock() -> None:
    with pytest.raises(TutorialError, match="choose from time, log sigma, fast"):
        TimeFeatures("sundial")  # type: ignore[arg-type]


def test_a_student_begins_as_its_teacher_and_leaves_it_alone() -> None:
    velocity = teacher()
    student = PlaneFlowMap(velocity)
    x, (t, s) = torch.randn(9, 2), torch.rand(2, 9)
    assert torch.equal(student(x, t, s), velocity(x, t))
    with torch.no_grad():
        student.velocity.point.weight.zero_()
        student.end.weight.fill_(1.0)
    assert velocity.point.weight.abs().sum() > 0
    assert not torch.equal(student(x, t, s), student(x, t, 1 - s))


def test_labels_of_the_ring() -> None:
    velocity = teacher(classes=2)
    x, t = torch.randn(4, 2), torch.rand(4)
    own = velocity(x, t, torch.tensor([0, 1, -1, -1]))
    assert torch.equal(own[2:], velocity(x, t)[2:])
    assert not torch.equal(own[0], velocity(x, t)[0])
    with pytest.raises(IndexError):  # no label becomes "any" by accident
        velocity(x, t, torch.tensor([0, 1, 2, 3]))


def test_networks_are_stored_and_read(tmp_path: Path) -> None:
    student, path = PlaneFlowMap(PlaneVelocity(clock="fast")), tmp_path / "x.safetensors"
    save_weights(path, student, {"method": "flow_map", "size": "small", "options": '{"clock": "fast"}'})
    again = plane.trained_flow_map(path)
    x, (t, s) = torch.randn(5, 2), torch.rand(2, 5)
    assert torch.equal(again(x, t, s), student(x, t, s))
    assert not again.training
    assert not any(p.requires_grad for p in again.parameters())
    with pytest.raises(TutorialError, match=r"x\.safetensors"):
        plane.trained_velocity(path)


# ---------------------------------------------------------------------------------------------------------- training


def cloud(samples: int, chance: torch.Generator) -> Tensor:
    return 0.3 * torch.randn(samples, 2, generator=chance) + 1


def test_a_velocity_and_its_flow_map_are_learned() -> None:
    """A cloud off the centre: its flow map in one step, against the teacher's own many steps, and its start."""
    velocity = teacher()
    losses = training.learn_velocity(velocity, cloud, Run(200, 64, 1e-2))
    assert sum(losses[-20:]) < 0.7 * sum(losses[:20])
    student = PlaneFlowMap(velocity)
    lengths = training.distil(
        student,
        lambda n, g: 0.3 * torch.randn(n, 2, generator=g) + 1,
        training.eulerian(velocity),
        Run(150, 64, 5e-3),
    )
    assert len(lengths) == 150
    noise = torch.randn(2000, 2, generator=generator(5))
    many = sample(lambda x, t, s: velocity(x, t), noise, even_times(64))
    begun = sample(PlaneFlowMap(velocity), noise, [1, 0])
    assert paired_distance(sample(student, noise, [1, 0]), many) < 0.5 * paired_distance(begun, many)
    assert not student.training


@pytest.mark.parametrize(
    "name", ["emd", "lmd", "mean flow", "consistency", "forgotten 1", "sorted times", "fast, bare"]
)
def test_every_kind_of_student_trains_and_repeats(name: str) -> None:
    how, velocity = experiment.STUDENTS[name], teacher(clock=experiment.STUDENTS[name].clock)

    def run() -> tuple[PlaneFlowMap, list[float]]:
        student = PlaneFlowMap(velocity)
        state = torch.random.get_rng_state()
        log = training.distil(
            student, world.checkerboard, how.direction(velocity), Run(4, 32, 1e-3), 3,
            times=how.times, warm_up_steps=None if how.warm else 0, cap=how.cap, c=how.c,
        )  # fmt: skip
        assert torch.equal(torch.random.get_rng_state(), state)
        return student, log

    one, first = run()
    two, second = run()
    assert first == second
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))
    assert any(not torch.equal(a, b) for a, b in zip(one.velocity.parameters(), velocity.parameters(), strict=True))
    assert all(p.grad is None for p in velocity.parameters())


def test_the_forgotten_one_is_another_direction() -> None:
    velocity = teacher()
    student = PlaneFlowMap(velocity)
    t, s = torch.rand(2, 8).sort(0, descending=True).values
    x = torch.randn(8, 2)
    jumps = training.Jumps(x, x, t, s, x)
    right, wrong = (make(velocity)(student, jumps, 1.0, 0) for make in (training.eulerian, experiment.forgotten_one))
    assert not torch.allclose(right, wrong, atol=1e-3)
    assert torch.allclose(
        *(make(velocity)(student, jumps, 0.0, 0) for make in (training.eulerian, experiment.forgotten_one))
    )


def test_labels_are_dropped() -> None:
    seen: list[Tensor] = []

    class Spy(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(()))

        def forward(self, x: Tensor, t: Tensor, label: Tensor) -> Tensor:
            seen.append(label)
            return self.weight * x

    training.learn_velocity(Spy(), world.ring, Run(20, 500, 1e-3), drop=0.25)
    labels = torch.cat(seen)
    assert (labels == -1).float().mean().item() == pytest.approx(0.25, abs=0.02)
    assert set(labels.unique().tolist()) == {-1, 0, 1}


def test_a_student_that_ignores_s_is_not_trained() -> None:
    class Deaf(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.velocity = teacher()

        def forward(self, x: Tensor, t: Tensor, s: Tensor) -> Tensor:
            return self.velocity(x, t)

    with pytest.raises(TutorialError, match="does not depend on s"):
        training.distil(Deaf(), world.checkerboard, training.mean_flow(), Run(2, 8, 1e-3))


def test_a_run_that_diverges_names_the_step() -> None:
    velocity = teacher()
    with torch.no_grad():
        velocity.point.weight.fill_(math.inf)
    with pytest.raises(TutorialError, match="at step 0"):
        training.learn_velocity(velocity, world.checkerboard, Run(2, 8, 1e-3))
    with pytest.raises(TutorialError, match="at step 0"):
        training.distil(PlaneFlowMap(velocity), world.checkerboard, training.eulerian(teacher()), Run(2, 8, 1e-3))


@pytest.mark.parametrize("numbers", [(0, 8, 1e-3), (8, 0, 1e-3), (8, 8, 0.0), (8, 8, math.nan)])
def test_runs_that_cannot_be(numbers: tuple[int, int, float]) -> None:
    with pytest.raises(TutorialError):
        Run(*numbers)


# ---------------------------------------------------------------------------------------------------- the experiment


def test_with_the_same_error_a_flow_map_never_gets_worse_with_more_steps_and_a_consistency_model_does() -> None:
    table = experiment.gaussian_table()
    steps, model, flow = table["steps"], table["consistency"], table["flow map"]
    assert model[0] == flow[0] == pytest.approx(0.02)  # one jump is one jump
    assert flow == sorted(flow, reverse=True)
    assert steps[model.index(min(model))] == 8  # what the page says
    assert model[:4] == sorted(model[:4], reverse=True)
    assert model[3:] == sorted(model[3:])
    assert experiment.gaussian_table(steps=(4096,))["consistency"][0] > 2 * model[0], "no end in sight"


def test_the_gaussian_table_is_what_samples_do() -> None:
    """The recursion of standard deviations against samples of a map with its planted error, sampled in both ways."""
    from vos_tutorial.models.flow_map import GaussianFlow

    flow, table = GaussianFlow(0.5), experiment.gaussian_table()
    noise = torch.randn(200_000, 1, generator=generator(), dtype=torch.float64)

    def wrong(x: Tensor, t: Tensor, s: Tensor) -> Tensor:
        return flow.average_velocity(x, t, s) + table["error"] * x

    for i, steps in enumerate(table["steps"][:3]):
        out = sample(wrong, noise, even_times(steps), 1.0, generator(steps))
        tolerance = 4 * 0.5 / math.sqrt(2 * len(noise))
        assert out.std().item() == pytest.approx(0.5 - table["consistency"][i], abs=tolerance)
        out = sample(wrong, noise, even_times(steps))
        assert out.std().item() / noise.std().item() == pytest.approx(0.5 - table["flow map"][i], abs=1e-5)


def test_the_discrete_gradient_tends_to_the_direction() -> None:
    found = experiment.discrete()
    for name in ("emd", "lmd"):
        for coarse, fine in zip(found[name][:-1], found[name][1:], strict=True):
            assert coarse / fine == pytest.approx(10, rel=0.15)


def test_heun_is_of_second_order() -> None:
    from vos_tutorial.models.flow_map import GaussianFlow

    flow, noise = GaussianFlow(0.5), torch.ones(1, 1, dtype=torch.float64)
    errors = [abs(experiment.heun(flow.velocity, noise, n).item() - 0.5) for n in (8, 16, 32)]
    assert errors[0] / errors[1] == pytest.approx(4, rel=0.3)
    assert errors[1] / errors[2] == pytest.approx(4, rel=0.15)


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The experiment with two steps, few samples and four students, away from the stored results."""
    chosen = ("emd", "consistency", "forgotten 1", "fast, bare")
    monkeypatch.setattr(experiment, "FOLDER", tmp_path / "runs")
    monkeypatch.setattr(experiment, "ROOT", tmp_path)
    monkeypatch.setattr(experiment, "OUT", tmp_path / "results.json")
    monkeypatch.setattr("experiments.runs.ROOT", tmp_path)
    monkeypatch.setattr(experiment, "TEACHER", Run(2, 16, 1e-3))
    monkeypatch.setattr(experiment, "STUDENT", Run(2, 16, 1e-3))
    monkeypatch.setattr(experiment, "RINGS", {"ring": Run(2, 16, 1e-3), "ring, weak": Run(1, 16, 1e-3)})
    monkeypatch.setattr(experiment, "STUDENTS", {name: experiment.STUDENTS[name] for name in chosen})
    monkeypatch.setattr(experiment, "TEACHERS", {"teacher": "time", "teacher, fast": "fast"})
    monkeypatch.setattr(experiment, "SHIPPED", ("teacher", *chosen, "ring", "ring, weak"))
    monkeypatch.setattr(experiment, "SAMPLES", 40)
    monkeypatch.setattr(experiment, "LAMBDAS", (1.0, 2.0))
    monkeypatch.setattr(plane, "WEIGHTS", tmp_path / "weights")
    return tmp_path


def test_the_experiment_trains_measures_and_ships(tiny: Path) -> None:
    names = [*experiment.STUDENTS, *experiment.RINGS]
    with pytest.raises(SystemExit, match="teacher"):
        experiment.measure()
    for name in names:
        for seed in (0, 1):
            experiment.train_one(name, seed)
    before = {path: path.stat().st_mtime_ns for path in (tiny / "runs").iterdir()}
    experiment.train_one("emd", 0)  # done: nothing happens
    assert before == {path: path.stat().st_mtime_ns for path in (tiny / "runs").iterdir()}
    experiment.measure()
    experiment.exact()
    found = json.loads((tiny / "results.json").read_text())
    assert set(found["students"]) == set(experiment.STUDENTS)
    for scores in (found["euler"], *found["students"].values()):
        assert len(scores["to teacher"]["seeds"]) == 2
        assert len(scores["to teacher"]["mean"]) == len(experiment.STEPS)
        assert "off the board" in scores
    pairs = [found["students"][name]["paired"]["mean"] for name in ("emd", "consistency")]
    assert pairs[1][1] > pairs[0][1] + 0.5  # fresh noise keeps no pairs, from the second step on
    # No guidance is no guidance, whichever the poor network; and what begins as its teacher is close to Euler.
    first = [found["guidance"][kind]["precision"]["mean"][0] for kind in ("autoguidance", "classifier-free")]
    assert first[0] == first[1]
    assert found["students"]["emd"]["to teacher"]["mean"][0] == pytest.approx(
        found["euler"]["to teacher"]["mean"][0], abs=0.02
    )
    assert found["command"] == experiment.COMMAND
    assert sorted(path.stem for path in (tiny / "weights").iterdir()) == [
        f"flow_map-plane-{file_name(name)}" for name in sorted(experiment.SHIPPED)
    ]
    shipped = plane.trained_flow_map(plane.shipped("emd"))
    own = plane.trained_flow_map(experiment.path_of("emd", 0))
    x, (t, s) = torch.randn(5, 2), torch.rand(2, 5)
    assert torch.allclose(shipped(x, t, s), own(x, t, s), atol=0.01)  # half precision


def test_the_shipped_networks_of_the_plane() -> None:
    """The flow map's one step is near its teacher's 64, where the teacher's own one step is far."""
    velocity, student = (
        plane.trained_velocity(plane.shipped("teacher")),
        plane.trained_flow_map(plane.shipped("emd")),
    )
    noise = torch.randn(2000, 2, generator=generator(9))
    reference = experiment.heun(velocity, noise)
    assert world.on_board(reference).float().mean() > 0.75
    assert sliced_wasserstein(sample(student, noise, [1, 0]), reference) < 0.05
    assert sliced_wasserstein(sample(experiment.euler(velocity), noise, [1, 0]), reference) > 0.9
    model = plane.trained_flow_map(plane.shipped("consistency"))
    assert sliced_wasserstein(sample(model, noise, [1, 0]), reference) < 0.15


def test_the_benchmark_compares_like_with_like(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its convolutions have one derivative, by either way; and it finds the fewest steps that are near enough."""
    monkeypatch.syspath_prepend(str(Path(__file__).resolve().parents[1] / "benchmarks"))
    for name in ("flow_map", "convolution"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    benchmark = importlib.import_module("flow_map")
    student = benchmark.Convolutions(width=8)
    x, v = torch.randn(2, 3, 3, 8, 8, generator=generator())
    t, s = torch.rand(2, 3, generator=generator()).sort(0, descending=True).values
    exact = emd_direction(student, x, t, s, v)
    assert torch.allclose(emd_direction(student, x, t, s, v, derivative="difference"), exact, atol=1e-2)
    goal = torch.randn(50, 2, generator=generator())
    assert benchmark.fewest(lambda n: goal * (1 + 1 / n), goal, sliced_wasserstein(goal * 1.2, goal) + 1e-6) == 5
    monkeypatch.delitem(sys.modules, "flow_map", raising=False)
