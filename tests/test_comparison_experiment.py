"""What measures notebook 08, and that what is stored fits together: methods, weights, clips, quoted numbers."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from experiments import comparison as tool
from vos_tutorial import comparison
from vos_tutorial.clip import ids_to_onehot, object_ids
from vos_tutorial.comparison import Entry
from vos_tutorial.course.exercises import check_08
from vos_tutorial.data.worlds.sprites import CONDITIONS, benchmark

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "notebooks" / "src" / "08_comparison.py").read_text()


@pytest.fixture(scope="module")
def runs() -> comparison.Comparison:
    return comparison.read(tool.RUNS_FILE)


@pytest.fixture(scope="module")
def found() -> dict[str, Any]:
    return tool.stored()


def test_all_methods_ran_on_all_clips(runs: comparison.Comparison) -> None:
    assert runs.methods() == list(tool.names())
    assert not [run for run in runs.runs if run.error]
    for name in runs.methods():
        clips = {run.clip for run in runs.runs if run.method == name}
        wanted = range(tool.FEW if name in tool.EXPENSIVE else tool.SETS * tool.PER_SET)
        assert clips == {f"{condition}-{i}" for condition in CONDITIONS for i in wanted}, name


def test_the_runs_are_of_the_weights_that_ship(runs: comparison.Comparison) -> None:
    """If not: python experiments/comparison.py benchmark."""
    for name in runs.methods():
        assert runs.about[f"{name}, 0"] == tool.made(name).about, name


def test_the_clips_are_those_of_the_benchmark(runs: comparison.Comparison) -> None:
    (clip,) = benchmark(1, ["multiple_objects"])
    assert runs.digests[clip.name] == comparison.clip_digest(clip)


def test_every_part_is_measured_with_the_weights_that_ship(found: dict[str, Any]) -> None:
    """If not: python experiments/comparison.py measure."""
    late = [(part, name) for part in tool.PARTS for name in tool.names() if tool.missing(part, name, found)]
    assert not late


def test_what_is_quoted_is_what_the_runs_say(found: dict[str, Any]) -> None:
    again = json.loads(json.dumps({"benchmark": tool.overall(), "sets": tool.spread()}))
    assert {part: found[part] for part in again} == again
    assert found["long"] == tool.quoted(found["length"])
    assert found["trainings"] == tool.trainings()
    assert found["videos"] == tool.videos()


def test_other_pages_have_the_same_scores(runs: comparison.Comparison) -> None:
    """J of the first eight clips of a condition is what pages 03 to 05 say of the networks that ship."""
    for name, file in (("RGMP", "03_rgmp"), ("RVOS", "04_rvos"), ("STM", "05_stm")):
        rows = json.loads((tool.RESULTS / f"{file}.json").read_text())["benchmark"]
        for condition, row in rows.items():  # there over objects, here over clips
            seen = runs.only([f"{condition}-{i}" for i in range(8)], [name]).runs
            j = 100 * np.mean([one.mean("J") for run in seen for one in run.objects])
            assert j == pytest.approx(row["long"], abs=0.5), (name, condition)


def test_sets_share_no_clip() -> None:
    numbers = [tool.set_of(f"clean-{i}") for i in range(12)]
    assert numbers == [0] * 4 + [1] * 4 + [2] * 4


def test_confidence_and_exercise_agree() -> None:
    assert tool.separation([0.9, 0.4, 0.4], [False, True, False]) == 0.75
    assert tool.separation([0.9, 0.4], [False, False]) is None
    for sure, failed in list(check_08.separation.cases.values())[:4]:
        wanted = check_08.separation.reference(sure, failed)
        assert tool.separation(sure.tolist(), failed.tolist()) == pytest.approx(wanted, abs=0.001)
    p = torch.tensor([[0.9, 0.2], [0.7, 0.1]])
    assert tool.mean_inside(p, p > 0.5) == pytest.approx(0.8)
    assert tool.mean_inside(p / 2, p / 2 > 0.5) == pytest.approx(0.55)


def test_the_class_of_the_page_and_what_exercise_3_says_of_it() -> None:
    source = re.search(r"^class Chase:.*?(?=^# %%)", PAGE, re.S | re.M)
    assert source is not None
    assert len([line for line in source[0].splitlines() if line.strip()]) <= 12
    room: dict[str, Any] = {"torch": torch, "np": np, "ids_to_onehot": ids_to_onehot, "object_ids": object_ids}
    exec(source[0], room)

    class Follow(room["Chase"]):  # type: ignore[misc]
        def step(self, frame: torch.Tensor) -> torch.Tensor:
            p: torch.Tensor = super().step(frame)
            self.frame, self.masks, self.shifts = frame, p[1:], [(0, 0)] * (len(p) - 1)
            return p

    both = comparison.compare([Entry("frame 0", room["Chase"]), Entry("previous", Follow)], benchmark(3))
    gain = {c: row["previous"][0] - row["frame 0"][0] for c, row in both.by_attribute().items()}
    assert gain["illumination"] > 20
    assert 0 < gain["appearance_change"] < 10
    assert all(-20 < gain[c] < -5 for c in ("occlusion", "out_of_view", "camera_shake"))
    assert abs(gain["all"]) < 3
