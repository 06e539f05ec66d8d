"""The experiment on images runs from trainings to results, here with networks that are tiny and know nothing."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import torch

from experiments import flow_images as experiment
from experiments import flow_regression as regression
from experiments.flow_regression import walked as walk
from vos_tutorial.models import generators
from vos_tutorial.models.dit import DiT
from vos_tutorial.recipes import generators as recipes

NETWORK = {"patch": 8, "width": 16, "depth": 1, "heads": 2}


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(experiment.runs, "ROOT", tmp_path)
    monkeypatch.setattr(experiment, "ROOT", tmp_path / "runs")
    monkeypatch.setattr(experiment, "OUT", tmp_path / "results.json")
    monkeypatch.setattr(generators, "WEIGHTS", tmp_path / "weights")
    monkeypatch.setattr(recipes, "SMALL", NETWORK)
    monkeypatch.setattr(recipes, "WIDE", {**NETWORK, "width": 32})
    for name in ("COUNT", "REFERENCE", "FEWER"):
        monkeypatch.setattr(experiment, name, 8)
    monkeypatch.setattr(experiment, "FEW", (1, 2))
    for kind in ("EARLY", "TEACHER", "STUDENT", "GUIDED", "SHORT", "TOO_FAST", "WITHOUT_S", "ADVERSARIAL", "READER"):
        smoke = getattr(recipes, kind)["smoke"]
        network = {} if kind == "READER" else NETWORK
        monkeypatch.setitem(getattr(recipes, kind), "cpu", dataclasses.replace(smoke, options=network))
    return tmp_path


def test_trainings_wait_for_each_other(small: Path) -> None:
    with pytest.raises(SystemExit, match=r"early-0/weights.safetensors is missing; run .* train early"):
        experiment.run("teacher", 0)


def test_a_wide_teacher_and_its_student_of_paths(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("reader", *experiment.WIDE):
        experiment.run(name, 0)
    experiment.keep(experiment.OUT, {"regression": {"adapters": "as before"}}, experiment.COMMAND)
    tiny = dataclasses.replace(regression.WIDE, steps=2)
    monkeypatch.setattr(regression, "walked", lambda teacher: walk(teacher, 3))
    monkeypatch.setattr(regression, "WIDE", tiny)
    monkeypatch.setattr("sys.argv", ["flow_regression.py", "wide"])
    regression.main()
    found = json.loads(experiment.OUT.read_text())["regression"]
    assert found["adapters"] == "as before"
    wide = found["wide, all weights"]
    assert wide["weights"] == sum(p.numel() for p in DiT(**recipes.WIDE).parameters())
    assert (wide["steps"], wide["seeds"]) == (2, [0])
    for captions in ("whole", "open"):
        assert wide[captions]["mean"]["2"]["distance"] > 0
        assert wide["Euler, 8"][captions]["distance"] == 0  # REFERENCE is 8 here


def test_from_trainings_to_results_and_what_ships(small: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in experiment.NAMES:
        experiment.run(name, 0)
    experiment.run("teacher", 0)
    assert "teacher-0 is done" in capsys.readouterr().out
    experiment.keep(experiment.OUT, experiment.images(), experiment.COMMAND)
    found = json.loads(experiment.OUT.read_text())
    measures = {"attributes", "whole caption", "distance", "precision", "recall", "mask", "shape"}
    for captions in ("whole", "open"):
        assert found[captions]["teacher"]["8"]["distance"] == 0
        assert found[captions]["teacher"]["1"]["distance"] > 0
        assert found[captions]["short"]["seeds"] == [0]
        for name in ("student", "short", "without-s", "adversarial"):
            assert set(found[captions][name]["2"][0]) >= measures
    assert "colour" in found["whole"]["teacher"]["1"]
    assert "colour" not in found["open"]["teacher"]["1"]
    assert "distance" not in found["real"]
    assert found["training"]["adversarial"]["steps"] == 3
    for captions in ("whole", "open"):
        found = experiment.of_guidance(captions)
        assert found["weight"] == recipes.GUIDED["gpu"].stages[0].options["guidance"], "measured as it was trained"
        assert found["teacher"]["8"]["distance"] == 0
        assert found["student"]["seeds"] == [0]
        assert found["student"]["mean"]["1"] == found["student"]["1"][0]
        assert found["student"]["mean"]["1"]["distance"] > 0
        experiment.keep(experiment.OUT, {f"guided, {captions}": found}, experiment.COMMAND)
        assert ("choice" in found) == ("as good" in found) == (captions == "open")
    assert set(found["choice"]) == {"1", "2", "3", "captions"}
    speed = experiment.speed(json.loads(experiment.OUT.read_text()), *experiment.networks())
    assert set(speed) == {"milliseconds", "slower", "slower, unmerged", "whole", "open", "guided, open"}
    assert set(speed["milliseconds"]) == {"teacher", "guided", "student", "student, unmerged"}
    assert set(speed["guided, open"]) == {"1", "2"}
    experiment.ship()
    shipped = sorted(path.name for path in (small / "weights").iterdir())
    assert shipped == sorted(f"flow-images-{name}.safetensors" for name in experiment.SHIPPED)
    assert generators.load_student("student-without-s").reads_s is False
    assert generators.load_student("student-adversarial").reads_s


def test_a_guided_student_goes_on_from_the_student_of_its_seed(small: Path) -> None:
    for name in ("early", "teacher"):
        experiment.run(name, 0)
    with pytest.raises(SystemExit, match=r"student-1/weights.safetensors is missing; run .* train student --seed 1"):
        experiment.run("guided", 1)
    experiment.run("student", 1)
    experiment.run("guided", 1)


def row(attributes: float, mask: float, distance: float) -> dict[str, float]:
    return {"attributes": attributes, "mask": mask, "distance": distance}


def test_as_good_is_the_fewest_steps_for_each_measure_and_for_all() -> None:
    euler = {n: row(50 + n, 40 + 2 * n, 1 / n) for n in experiment.MORE}
    found = experiment.as_good(row(53, 50, 0.5), euler.__getitem__)
    assert found == {"attributes": 3, "mask": 5, "distance": 2, "all": 5}
    found = experiment.as_good(row(99, 50, 0.5), euler.__getitem__)
    assert found == {"attributes": None, "mask": 5, "distance": 2, "all": None}
    dip = {**euler, 5: row(20, 50, 0.2)}
    assert experiment.as_good(row(53, 50, 0.5), dip.__getitem__)["all"] == 6


def test_time_at_equal_quality_counts_steps_and_what_a_step_costs(small: Path) -> None:
    for name in ("early", "teacher", "student"):
        experiment.run(name, 0)
    measured = {
        name: {"as good": {"1": {"all": 3}, "2": {"all": None}}} for name in ("open", "whole", "guided, open")
    }
    found = experiment.speed(measured, *experiment.networks())
    ms = found["milliseconds"]
    assert found["open"]["1"]["all"] == pytest.approx(3 * ms["teacher"] / ms["student"], rel=0.05)
    assert found["guided, open"]["1"]["all"] == pytest.approx(3 * ms["guided"] / ms["student"], rel=0.05)
    assert found["whole"]["2"] == {"all": None}


def test_stills_for_masktrack(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(experiment, "STILLS", 16)
    world = experiment.stills("world").batch([1, 2], 48)
    assert world.masks.any((1, 2)).all()
    assert experiment.stills("sprites").batch([1, 2], 48).images.shape == world.images.shape
    for name in ("early", "teacher", "student"):
        experiment.run(name, 0)
    drawn = experiment.stills("flow map, 1")  # half of it noise, half of which is above zero
    assert drawn.batch([1], 48).images.shape == (1, 3, 48, 48)


@pytest.mark.parametrize("first", [False, True])
def test_masks_are_stored_as_lengths_of_background_and_object_in_turn(first: bool) -> None:
    mask = torch.rand(2, 5, 7, generator=torch.Generator().manual_seed(0)) > 0.5
    mask[0, 0, 0] = first
    lengths = [int(n) for n in experiment.run_lengths(mask).split()]
    assert (lengths[0] == 0) == first
    assert all(lengths[1:]), "stretches of length 0 are nowhere else"
    back = (torch.arange(len(lengths)) % 2).repeat_interleave(torch.tensor(lengths)).reshape(2, 5, 7)
    assert torch.equal(back, mask.long())
