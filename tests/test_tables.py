"""Tables of results: what they compute, that the text is the same everywhere, and what they refuse."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from vos_tutorial.course import figures
from vos_tutorial.course.figures import tables
from vos_tutorial.errors import TutorialError

GROUPS = {
    "clean": {"STM": [90.0, 91.0, 92.5], "copy": [80.0, 85.0, 88.0]},
    "fast_motion": {"STM": [70.0, 71.0, 69.0], "copy": [71.0, 71.2, 72.0]},
}


def test_means_spread_and_paired_differences_by_hand() -> None:
    text = str(tables.compare(GROUPS, against="copy", rows="condition"))
    assert text.splitlines() == [
        "condition           STM         copy            STM − copy",
        "----------------------------------------------------------",
        "clean        91.2 ± 1.3*  84.3 ± 4.0   +6.8 ± 2.8 (3 of 3)",
        "fast motion  70.0 ± 1.0   71.4 ± 0.5*  −1.4 ± 1.4 (0 of 3)",
        "----------------------------------------------------------",
        "mean         80.6 ± 0.5*  77.9 ± 2.3   +2.7 ± 1.9 (3 of 3)",
        "* best of the row; mean ± standard deviation over 3 seeds; differences are paired by seed; "
        "in brackets, how often it is better than copy",
    ]
    gain = np.array(GROUPS["clean"]["STM"]) - np.array(GROUPS["clean"]["copy"])
    assert f"+{gain.mean():.1f} ± {gain.std(ddof=1):.1f} (3 of 3)" in text
    # The spread of the difference is that of the pairs, not that of the two methods.
    assert f"{np.hypot(1.3, 4.0):.1f}" not in text


def test_the_mean_row_averages_seed_by_seed() -> None:
    seeds = (np.array(GROUPS["clean"]["STM"]) + np.array(GROUPS["fast_motion"]["STM"])) / 2
    assert f"{seeds.mean():.1f} ± {seeds.std(ddof=1):.1f}*" in str(tables.compare(GROUPS)).splitlines()[-2]
    assert "mean  " not in str(tables.compare(GROUPS, mean=False))
    partly = GROUPS | {"shake": {"STM": [1.0, 2.0, 3.0]}}  # not every method has it, so it is not in the mean
    assert str(tables.compare(partly)).splitlines()[-2] == str(tables.compare(GROUPS)).splitlines()[-2]


def test_lower_can_be_better() -> None:
    times = {"a frame": {"STM": 9.0, "copy": 1.0}}
    assert "1.0*" in str(tables.compare(times, better="lower"))
    assert "9.0*" in str(tables.compare(times))
    against = str(tables.compare({"x": {"a": [1.0, 2.0], "b": [3.0, 1.0]}}, against="b", better="lower"))
    assert "(1 of 2)" in against


def test_methods_are_chosen_ordered_and_renamed() -> None:
    table = tables.compare(GROUPS, methods={"copy": "copy first", "STM": "STM, long"})
    assert list(table.columns) == ["", "copy first", "STM, long"]
    assert list(tables.compare(GROUPS, methods=["STM"]).columns) == ["", "STM"]
    assert "*" not in str(tables.compare(GROUPS, methods=["STM"]))  # the best of one is no news


def test_ties_are_both_best_and_missing_values_are_a_dash() -> None:
    text = str(tables.compare({"x": {"a": 1.04, "b": 1.0}, "y": {"a": 2.0}}))
    assert text.splitlines()[2] == "x  1.0*  1.0*"
    assert text.splitlines()[3] == "y  2.0     –"


@pytest.mark.parametrize(
    ("value", "said"), [(-0.04, "0.0"), (-1.25, "−1.2"), (1234.5, "1,234.5"), (float("nan"), "–"), (2, "2.0")]
)
def test_numbers_are_written_one_way(value: float, said: str) -> None:
    assert tables.number(value) == said


def test_a_number_may_show_its_sign() -> None:
    assert [tables.number(v, sign=True) for v in (1.0, -1.0, 0.0)] == ["+1.0", "−1.0", "0.0"]


def test_any_rows_make_a_table() -> None:
    small, paper = {"parameters": 330898, "ms": 8.94, "device": "CPU"}, {"parameters": 38_925_570, "ms": None}
    data = {"small": small, "paper": paper}
    text = str(tables.table(data, rows="size", notes="One thread."))
    assert "330,898" in text
    assert "38,925,570" in text
    assert "8.9" in text
    assert text.splitlines()[-1] == "One thread."
    assert tables.table({"a": {"x": [1.0, 3.0]}}).rows[0][1][0].text == "2.0 ± 1.4"
    assert tables.table({"a": {"x": torch.tensor([1.0, 3.0])}}).rows[0][1][0].text == "2.0 ± 1.4"


def test_html_says_the_same_and_escapes() -> None:
    page = tables.compare({"a < b": {"x": 1.0, "y": 2.0}})._repr_html_()
    assert '<th scope="row" style="text-align: left">a &lt; b</th>' in page
    assert "<b>2.0*</b>" in page
    assert "1.0" in page


def test_what_cannot_be_compared_is_named() -> None:
    with pytest.raises(TutorialError, match="no results of 'stm'; choose from STM, copy"):
        tables.compare(GROUPS, against="stm")
    with pytest.raises(TutorialError, match="clean: STM has 3 seeds and one 1"):
        tables.compare({"clean": {"STM": [1.0, 2.0, 3.0], "one": 1.0}}, against="one")
    with pytest.raises(TutorialError, match="no results"):
        tables.compare({})
    with pytest.raises(TutorialError, match="no rows"):
        tables.table({})


def test_stored_results_are_found_or_the_names_are_said() -> None:
    assert set(tables.stored("05_stm", "benchmark")) >= {"clean", "occlusion"}
    assert isinstance(tables.stored("05_stm", "benchmark", "clean", "long"), float)
    with pytest.raises(TutorialError, match=r"no stored results '99'.*05_stm"):
        tables.stored("99")
    with pytest.raises(TutorialError, match=r"05_stm\.benchmark has no 'dull'; it has clean"):
        tables.stored("05_stm", "benchmark", "dull")
    with pytest.raises(TutorialError, match="no keys, but values"):
        tables.stored("05_stm", "seeds", "0")


def test_the_chart_of_differences_shows_every_seed_and_its_mean() -> None:
    figure = figures.differences(GROUPS, "copy", "points of J")
    (plot,) = figure.axes
    means = [float(line.get_xdata()[0]) for line in plot.lines if line.get_marker() == "o"]
    assert means == pytest.approx([6.833, -1.4], abs=1e-3)
    seeds = [line.get_xdata().tolist() for line in plot.lines if line.get_marker() == "|"]
    assert seeds[0] == pytest.approx([10, 6, 4.5])
    assert [t.get_text() for t in plot.get_yticklabels()] == ["clean", "fast motion"]
    with pytest.raises(TutorialError, match="no 'x' to compare"):
        figures.differences(GROUPS, "x", "J")
    with pytest.raises(TutorialError, match="pair them first"):
        figures.differences({"a": {"x": [1.0, 2.0], "y": 1.0}}, "y", "J")


def test_a_ledger_names_shapes_and_parameters_and_leaves_no_hooks() -> None:
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3, stride=2, padding=1), torch.nn.Conv2d(4, 2, 1, bias=False))
    text = str(
        tables.ledger(network, {"down": network[0], "head": network[1]}, torch.zeros(1, 3, 8, 6), more=", two")
    )
    assert [line.split() for line in text.splitlines() if line.startswith(("down", "head"))] == [
        ["down", "4", "4", "3", "112"],
        ["head", "2", "4", "3", "8"],
    ]
    assert "120 parameters in all, two" in text
    assert not any(part._forward_hooks for part in network)
    with pytest.raises(TutorialError, match="'elsewhere' was not called"):
        tables.ledger(network, {"elsewhere": torch.nn.ReLU()}, torch.zeros(1, 3, 8, 6))


def test_a_ledger_changes_nothing_of_a_network() -> None:
    norm, frozen = torch.nn.BatchNorm2d(4), torch.nn.BatchNorm2d(4).eval()
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), norm, frozen)
    text = str(tables.ledger(network, {"norm": norm}, torch.ones(2, 3, 8, 8)))
    assert "4 6 6" in text
    assert norm.num_batches_tracked == 0
    assert not norm.running_mean.any()  # type: ignore[union-attr]
    assert (norm.training, frozen.training) == (True, False)
