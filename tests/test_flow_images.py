"""What the image generators learn, how they are stored, and what they draw."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import get_args

import pytest
import torch
from torch import nn

from vos_tutorial.data.worlds import captioned
from vos_tutorial.errors import TutorialError
from vos_tutorial.generation import paired_distance
from vos_tutorial.models import generators
from vos_tutorial.models.attribute_reader import AttributeReader
from vos_tutorial.models.critic import Critic, paired_losses
from vos_tutorial.models.dit import Adapted, DiT, adapter_state, as_teacher, student_of
from vos_tutorial.models.flow_map import interpolate
from vos_tutorial.models.generators import (
    generate,
    guided,
    load_reader,
    load_student,
    load_teacher,
    noise_for,
    save_network,
)
from vos_tutorial.models.weights import read_metadata
from vos_tutorial.profile import PROFILES
from vos_tutorial.recipes import Recipe, Stage, methods
from vos_tutorial.recipes import generators as recipes
from vos_tutorial.training import train
from vos_tutorial.training.tasks import images as tasks

TINY = {"width": 16, "depth": 1, "heads": 2}
CPU = torch.device("cpu")
STAGE = Stage("any", steps=4, batch=4, size=32, lr=1e-3)


def recipe(steps: int = 4, **options: object) -> Recipe:
    stage = dataclasses.replace(STAGE, steps=steps, options=options)
    return Recipe("dit", "smoke", "small", (stage,), source="ours", ema=0.9)


def trained_teacher() -> DiT:
    torch.manual_seed(0)
    teacher = DiT(**TINY)
    train(teacher, tasks.FlowMatching(), recipe())
    return teacher


# ------------------------------------------------------------------------------------------------- batches


@pytest.mark.parametrize("task", [tasks.FlowMatching(), tasks.Distillation(), tasks.AttributeReading()])
def test_a_sample_depends_on_its_seed_alone(task: tasks.FlowMatching) -> None:
    together, alone = task.batch(STAGE, [11, 12, 13], CPU), task.batch(STAGE, [12], CPU)
    assert set(together) >= {"image", "caption"}
    for name, value in together.items():
        assert value.shape[0] == 3
        assert torch.equal(value[1], alone[name][0]), name


def test_noise_is_normal_and_times_lie_where_they_should() -> None:
    batch = tasks.Distillation().batch(STAGE, range(300), CPU)
    assert abs(float(batch["noise"].mean())) < 0.01
    assert abs(float(batch["noise"].std()) - 1) < 0.01
    t, s = batch["t"], batch["s"]
    assert bool(((s >= 0) & (s <= t) & (t <= 1)).all())
    assert 0.3 < float((t - s).median()) < 0.4, "the logistic function of -0.6 is 0.354"


def test_words_are_left_out_as_often_as_told() -> None:
    def share(unsaid: float) -> torch.Tensor:
        stage = dataclasses.replace(STAGE, options={"unsaid": unsaid})
        return (tasks.FlowMatching().batch(stage, range(800), CPU)["caption"] == captioned.UNSAID).float()

    assert float(share(0.0).sum()) == 0
    left_out = share(0.2)
    assert abs(float(left_out.mean()) - (0.2 + 0.8 * 0.2)) < 0.03
    assert abs(float(left_out.all(1).float().mean()) - 0.2) < 0.05


# ------------------------------------------------------------------------------------------------- losses


def test_the_teachers_loss_is_the_error_of_the_velocity() -> None:
    class Right(nn.Module):
        def forward(self, x: torch.Tensor, t: torch.Tensor, s: torch.Tensor, captions: torch.Tensor) -> torch.Tensor:
            assert torch.allclose(x, interpolate(batch["image"], batch["noise"], t))
            return batch["noise"] - batch["image"] + 0.5

    batch = tasks.FlowMatching().batch(STAGE, [1, 2], CPU)
    loss, logs = tasks.FlowMatching().loss(Right(), batch, STAGE)
    assert float(loss) == pytest.approx(0.25, abs=1e-6)
    assert float(logs["mask"]) == pytest.approx(0.25, abs=1e-6)


def test_guidance_of_the_student_is_inside_the_velocity() -> None:
    teacher, weak = trained_teacher(), DiT(**TINY)
    student, task = student_of(teacher), tasks.Distillation(weak)
    batch = task.batch(STAGE, [1, 2], CPU)
    x, t, captions = batch["noise"], batch["t"], batch["caption"]
    plain = task.velocity(student, x, t, captions, 1.0)
    assert torch.equal(plain, teacher(x, t, t, captions))
    strong = task.velocity(student, x, t, captions, 3.0)
    assert torch.allclose(strong, plain + 2 * (plain - weak(x, t, t, captions)), atol=1e-5)


def test_a_student_that_ignores_s_is_trained_only_where_that_is_said() -> None:
    student = student_of(trained_teacher(), reads_s=False)
    with pytest.raises(TutorialError, match="does not depend on s"):
        train(student, tasks.Distillation(), recipe(1))
    train(student, tasks.Distillation(), recipe(1, reads_s=False))


def test_guidance_needs_a_weak_teacher() -> None:
    with pytest.raises(TutorialError, match="needs a weak teacher"):
        train(student_of(DiT(**TINY)), tasks.Distillation(), recipe(1, guidance=2.0))
    with pytest.raises(TutorialError, match="needs a weak teacher"):
        guided(DiT(**TINY), captioned.random_captions([1]), None, 2.0)


def test_distillation_changes_the_student_and_not_its_teacher() -> None:
    teacher = trained_teacher()
    student = student_of(teacher, rank=2)
    before = {name: value.clone() for name, value in student.state_dict().items()}
    done = train(student, tasks.Distillation(), recipe())
    moved = {name for name, value in student.state_dict().items() if not torch.equal(value, before[name])}
    assert moved <= set(adapter_state(student))
    assert any(name.endswith(".up") for name in moved)
    assert "s_embedder.last.weight" in moved
    assert all(record["direction"] > 0 for record in done.history)


def test_both_players_learn_and_their_gradients_do_not_mix() -> None:
    torch.manual_seed(0)
    players = tasks.Players(student_of(trained_teacher(), rank=2), Critic(width=8))
    for module in players.student.modules():
        if isinstance(module, Adapted):
            nn.init.normal_(module.up, std=0.02)  # at zero the flow map's gradient is the only one that counts
    task, stage = tasks.AdversarialDistillation(), STAGE
    batch = task.batch(stage, [1, 2, 3], CPU)
    captions, real = batch["caption"], batch["image"]
    fake = batch["noise"] - players.student(batch["noise"], torch.ones(3), torch.zeros(3), captions)
    fixed = {name: p.detach() for name, p in players.critic.named_parameters()}
    losses = paired_losses(
        lambda x: players.critic(x, captions),
        lambda x: torch.func.functional_call(players.critic, fixed, (x, captions)),
        real,
        fake,
    )
    critic, student = list(players.critic.parameters()), [p for p in players.student.parameters() if p.requires_grad]
    reach = torch.autograd.grad(losses.generator, [*student, *critic], retain_graph=True, allow_unused=True)
    assert any(g is not None and bool(g.any()) for g in reach[: len(student)])
    assert all(g is None for g in reach[len(student) :])
    reach = torch.autograd.grad(losses.critic + losses.penalty, [*student, *critic], allow_unused=True)
    assert all(g is None for g in reach[: len(student)])
    assert any(g is not None and bool(g.any()) for g in reach[len(student) :])
    before = {name: value.clone() for name, value in players.state_dict().items()}
    done = train(players, task, recipe(2))
    moved = {name for name, value in players.state_dict().items() if not torch.equal(value, before[name])}
    assert any(name.startswith("critic.") for name in moved)
    assert any(name.endswith(".up") for name in moved)
    assert not {name for name in moved if name.startswith("student.") and name.endswith("weight")} - {
        "student.s_embedder.first.weight",
        "student.s_embedder.last.weight",
    }
    assert {"generator", "critic", "penalty", "balance"} <= set(done.history[0])


def test_the_penalty_is_the_squared_slope() -> None:
    weight = torch.tensor([3.0, 4.0])
    real, fake = torch.randn(5, 2), torch.randn(5, 2)
    losses = paired_losses(lambda x: x @ weight, lambda x: x @ weight, real, fake)
    assert losses.penalty.item() == pytest.approx(25.0)
    gap = (real - fake) @ weight
    assert float(losses.generator) == pytest.approx(float(nn.functional.softplus(gap).mean()))
    assert losses.critic.item() == pytest.approx(float(nn.functional.softplus(-gap).mean()), rel=1e-4)


def test_the_balance_makes_both_gradients_equally_long() -> None:
    weight = torch.tensor([1.0, 2.0], requires_grad=True)
    one, other = (3 * weight).sum(), (weight**2).sum()
    ratio = tasks.gradient_ratio(one, other, weight)
    assert float(ratio) == pytest.approx(18**0.5 / 20**0.5, rel=1e-4)
    assert float(tasks.gradient_ratio(one, 1e-9 * other, weight)) == 1e4


def test_the_reader_learns_and_never_sees_the_fourth_channel() -> None:
    torch.manual_seed(0)
    reader = AttributeReader()
    done = train(reader, tasks.AttributeReading(), recipe(12))
    assert done.losses[-3:].mean() < done.losses[:3].mean()
    images = captioned.draw(range(3)).images
    seen = reader(images)
    assert seen.mask.shape == (3, 32, 32)
    assert seen.features.shape == (3, 128)
    assert seen.captions.min() >= 1
    images[:, 3] = 0
    assert torch.equal(reader(images).mask, seen.mask)


# ------------------------------------------------------------------------------------------- stop and go on


def test_a_student_that_was_stopped_ends_as_one_that_was_not(tmp_path: Path) -> None:
    teacher = trained_teacher()

    class Stopped(tasks.Distillation):
        calls = 0

        def loss(self, *given: object) -> object:  # type: ignore[override]
            Stopped.calls += 1
            if Stopped.calls == 3:
                raise KeyboardInterrupt
            return super().loss(*given)  # type: ignore[arg-type]

    torch.manual_seed(3)
    whole = student_of(teacher, rank=2)
    torch.manual_seed(3)
    parts = student_of(teacher, rank=2)
    train(whole, tasks.Distillation(), recipe())
    with pytest.raises(KeyboardInterrupt):
        train(parts, Stopped(), recipe(), out=tmp_path, checkpoint_every=1)
    train(parts, tasks.Distillation(), recipe(), out=tmp_path, checkpoint_every=1)
    for name, value in whole.state_dict().items():
        assert torch.equal(value, parts.state_dict()[name]), name


# ------------------------------------------------------------------------------------------------- files


def test_students_teachers_and_readers_come_back_from_their_files(tmp_path: Path) -> None:
    teacher = trained_teacher()
    student = student_of(teacher, rank=3)
    train(student, tasks.Distillation(), recipe(2))
    save_network(tmp_path / "teacher.safetensors", teacher, {"recipe": "a test"})
    save_network(tmp_path / "student.safetensors", student, {"recipe": "a test"})
    save_network(tmp_path / "reader.safetensors", reader := AttributeReader(), {})
    again = load_teacher(path=tmp_path / "teacher.safetensors")
    captions, noise = captioned.random_captions([1, 2]), noise_for(0, 2, teacher)

    def same(a: DiT, b: DiT) -> bool:  # up to the order of memory, in which training leaves convolutions
        drawn = [generate(network.given(captions), noise, 2) for network in (a, b)]
        return torch.allclose(*drawn, atol=1e-5)

    assert same(again, teacher)
    other = load_student(path=tmp_path / "student.safetensors", teacher=again)
    assert same(other, student)
    with as_teacher(other):
        assert same(other, teacher)
    images = captioned.draw([1]).images
    assert torch.allclose(load_reader(tmp_path / "reader.safetensors")(images).features, reader(images).features)
    assert (tmp_path / "student.safetensors").stat().st_size < (tmp_path / "teacher.safetensors").stat().st_size
    with pytest.raises(TutorialError, match="holds weights of dit-adapters, not of dit"):
        load_teacher(path=tmp_path / "student.safetensors")
    with pytest.raises(TutorialError, match="holds weights of dit, not of attribute-reader"):
        load_reader(tmp_path / "teacher.safetensors")


def test_missing_and_unknown_weights_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(TutorialError, match="no trained 'best'; choose from"):
        load_student("best")  # type: ignore[arg-type]
    monkeypatch.setattr(generators, "WEIGHTS", tmp_path)
    for load in (load_teacher, load_student, load_reader):
        with pytest.raises(TutorialError, match=r"no weights file .*flow-images-"):
            load()


# ------------------------------------------------------------------------------------------------- recipes


def test_recipes_have_three_sizes_and_are_no_methods() -> None:
    students = ("STUDENT", "GUIDED", "SHORT", "TOO_FAST", "WITHOUT_S", "PAGE", "ADVERSARIAL")
    for kind in ("EARLY", "TEACHER", *students, "READER"):
        assert set(getattr(recipes, kind)) == set(PROFILES)
    assert "generators" not in methods()
    assert all(not stage.options["reads_s"] for stage in recipes.WITHOUT_S["cpu"].stages)


# ------------------------------------------------------------------------------------------------- what ships


def test_what_ships_is_small_and_says_what_it_is() -> None:
    for name in (*get_args(generators.Teacher), *get_args(generators.Student), "reader"):
        file = generators.weights_file(name)
        assert file.stat().st_size < 2_000_000
        about = read_metadata(file)
        assert {"method", "recipe", "seed", "steps", "device", "data"} <= set(about), name
    assert load_student().reads_s
    assert not load_student("student-without-s").reads_s


def test_the_reader_that_ships_reads_the_world() -> None:
    images, captions = captioned.draw(range(5_000_000, 5_000_064))
    seen = load_reader()(images)
    right = (seen.captions == captions).float().mean(0)
    assert float(right.mean()) > 0.93
    assert float(right.min()) > 0.75
    agree = ((seen.mask > 0) == (images[:, 3] > 0)).float().mean()
    assert float(agree) > 0.97


@pytest.mark.parametrize(("name", "guidance"), [("student", 1.0), ("student-guided", 2.0)])
def test_the_students_that_ship_need_fewer_steps_than_euler(name: generators.Student, guidance: float) -> None:
    teacher = load_teacher()
    student, captions = load_student(name, teacher=teacher), captioned.random_captions(range(6_000_000, 6_000_024))
    captions[:, [1, 4]] = captioned.UNSAID  # colour and place are the noise's to decide
    noise = noise_for(0, 24, teacher)
    velocity = guided(teacher, captions, load_teacher("weak"), guidance)
    target = generate(velocity, noise, 24)
    by_map, by_euler = (
        [generate(network, noise, steps) for steps in (1, 2)] for network in (student.given(captions), velocity)
    )
    assert paired_distance(by_map[1], target) < 0.9 * paired_distance(by_euler[1], target)
    shown, by_one_step = (
        ((one[0][:, 3] > 0).float().mean((1, 2)) > 0.01).float().mean() for one in (by_map, by_euler)
    )
    assert float(shown) > 0.8, "one step of the map draws an object"
    if name == "student":  # guidance makes something of the average, too, though hardly what the caption says
        assert float(by_one_step) < float(shown) - 0.2, "one step of Euler's method draws the average of all objects"
    with torch.no_grad(), as_teacher(student):
        t = torch.full((24,), 0.5)
        assert torch.equal(student(noise, t, 0 * t, captions), teacher(noise, t, t, captions))
