"""The tables and three sizes of ``01_baselines.json`` are what the code measures; what page 01 says of them holds."""

from __future__ import annotations

import json
from typing import Any

import pytest

from experiments import baselines


@pytest.fixture(scope="module")
def stored() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(baselines.OUT.read_text(encoding="utf-8"))
    return found


def test_the_tables_hold_what_the_benchmark_gives(stored: dict[str, Any]) -> None:
    table, curves = baselines.on_the_benchmark()
    assert set(table) == set(stored["synthetic"])
    for condition, row in table.items():
        for method in baselines.METHODS:
            assert row[method] == pytest.approx(stored["synthetic"][condition][method], abs=0.011), condition
    for condition, lines in curves.items():
        for method, line in lines.items():
            assert line == pytest.approx(stored["curves"][condition][method], abs=0.011), condition


def test_other_sizes(stored: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(baselines, "SIZES", baselines.SIZES[:3])  # the largest takes longer than the rest together
    for size, row in baselines.at_other_sizes().items():
        assert row == pytest.approx(stored["sizes"][size], abs=0.011), size


def test_a_copied_mask_falls_to_a_quarter_within_seven_frames_and_stays_there(stored: dict[str, Any]) -> None:
    curve = stored["curves"]["clean"]["copy_first"]
    assert curve[6] > 28
    assert all(22 < j < 28 for j in curve[7:])


def test_averages_over_clips_can_go_either_way(stored: dict[str, Any]) -> None:
    """Exercise 1.4 (c): several objects are harder for one baseline, and easier for the other."""
    crowd, every = (stored["synthetic"][key] for key in ("multiple_objects", "all"))
    assert crowd["copy_first"]["J"] < every["copy_first"]["J"]
    assert crowd["copy_previous"]["J"] > every["copy_previous"]["J"]


def test_what_the_page_says_of_three_real_sequences(stored: dict[str, Any]) -> None:
    rows = stored["real"]["sequences"]
    assert rows["libby"]["copy_previous"]["F"] > rows["libby"]["copy_previous"]["J"] + 20
    assert rows["car-roundabout"]["copy_first"]["J"] > rows["car-roundabout"]["copy_first"]["F"] + 20
    assert rows["motocross-jump"]["copy_first"]["J"] < 20
