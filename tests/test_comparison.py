"""Methods side by side: averages over what all have finished, paired differences, what may be taken up again."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.lines import Line2D
from torch import Tensor

from vos_tutorial import comparison, models
from vos_tutorial.baselines import CopyFirst
from vos_tutorial.clip import Clip
from vos_tutorial.comparison import Comparison, Entry, compare, entry, since_seen, state_bytes, steps
from vos_tutorial.course import compare as command
from vos_tutorial.course.figures import comparisons
from vos_tutorial.course.figures.palette import object_colours
from vos_tutorial.errors import TutorialError


def clip(name: str, shift: int = 1, attribute: str = "drift", length: int = 6, hidden: tuple[int, ...] = ()) -> Clip:
    """A square that moves ``shift`` pixels a frame, and is hidden in some frames."""
    masks = torch.zeros(length, 24, 24, dtype=torch.uint8)
    for t in range(length):
        if t not in hidden:
            masks[t, 4:12, 2 + shift * t : 10 + shift * t] = 1
    frames = (masks[:, None] * 200).expand(-1, 3, -1, -1).contiguous()
    return Clip(frames, masks, name, (attribute,))


class Oracle(CopyFirst):
    """Knows where the square is: thresholds the frame."""

    def _predict(self, frame: Tensor) -> Tensor:
        inside = (frame[0] > 0.5).float()
        return torch.stack([1 - inside, inside])


class Beside(CopyFirst):
    """Copies the masks two pixels too far to the right."""

    def _predict(self, frame: Tensor) -> Tensor:
        return super()._predict(frame).roll(2, dims=-1)


class Fails(CopyFirst):
    def _predict(self, frame: Tensor) -> Tensor:
        raise TutorialError("no memory left")


CLIPS = [clip("slow", 1), clip("fast", 2, "rush"), clip("wall", 1, "occlusion", 8, (3, 4, 5))]
PAIR = [Entry("copy", CopyFirst), Entry("oracle", Oracle)]


def test_averages_are_over_clips_and_by_attribute() -> None:
    found = compare(PAIR, CLIPS)
    groups = found.by_attribute("J")
    assert list(groups) == ["all", "drift", "occlusion", "rush"]
    assert groups["all"]["oracle"] == [100.0]
    one = [1 - 2 * t / (8 + t) for t in range(1, 5)]  # J of squares that are t pixels apart: (8 - t) / (8 + t)
    assert groups["drift"]["copy"] == [pytest.approx(100 * np.mean(one), abs=0.01)]
    assert groups["rush"]["copy"][0] < groups["drift"]["copy"][0]
    assert found.gaps() == []


def test_the_difference_of_two_averages_is_the_average_of_the_gains() -> None:
    """A clip counts once, however many objects it has."""
    scene = clip("two", 2, "rush")
    scene.masks[:, 14:20, 14:20] = 2  # a second object that stays where it is
    found = compare([Entry("copy", CopyFirst), Entry("beside", Beside)], [clip("slow"), scene])
    averages, cost = found.by_attribute()["all"], found.cost()
    gain = found.difference("copy", "beside").mean
    assert gain == pytest.approx(averages["copy"][0] - averages["beside"][0], abs=0.02)
    assert gain == pytest.approx(cost["copy"]["J&F"] - cost["beside"]["J&F"], abs=0.02)
    parts = [found.only([name]).by_attribute()["all"]["copy"][0] for name in ("slow", "two")]
    assert averages["copy"][0] == pytest.approx(np.mean(parts), abs=0.02)
    assert parts[0] != pytest.approx(parts[1], abs=1)


def test_a_failure_is_said_and_never_averaged_over() -> None:
    def sometimes() -> CopyFirst:
        return Fails() if next(turn) == 1 else CopyFirst()

    turn = iter(range(9))
    found = compare([PAIR[1], Entry("flaky", sometimes)], CLIPS)
    assert found.shared() == ["slow", "wall"]
    assert "flaky failed on fast: clip 'fast': no memory left" in found.gaps()
    assert found.gaps()[-1] == "Averages are over the 2 clips that all methods finished, not 3."
    assert "rush" not in found.by_attribute()
    with pytest.raises(TutorialError, match="no clip was finished by all methods; broken failed on slow"):
        compare([Entry("broken", Fails), *PAIR], CLIPS).by_attribute()


def test_seeds_that_are_missing_are_said() -> None:
    found = compare([*PAIR, Entry("copy", CopyFirst, seed=1)], CLIPS)
    assert found.by_attribute()["all"]["copy"] == [found.by_attribute()["all"]["copy"][0]] * 2
    assert found.gaps() == ["Seeds: copy 2, oracle 1."]


def test_the_paired_difference_has_its_interval() -> None:
    found = compare(PAIR, CLIPS)
    gain = found.difference("oracle", "copy", "J")
    per_clip = [100 - 100 * found._on("copy", each.name, "J") for each in CLIPS]
    assert gain.mean == pytest.approx(np.mean(per_clip), abs=0.01)
    assert min(per_clip) - 0.01 <= gain.low < gain.mean < gain.high <= max(per_clip) + 0.01
    assert (gain.clips, gain.wins) == (3, 3)
    back = found.difference("copy", "oracle", "J")
    assert (back.mean, back.low, back.high) == (-gain.mean, -gain.high, -gain.low)
    assert found.difference("copy", "copy").wins == 0
    with pytest.raises(TutorialError, match="there is no 'stm'"):
        found.difference("stm", "copy")


def test_one_clip_can_take_back_what_nine_have_won() -> None:
    gain = comparison.difference([5.0] * 9 + [-1.0, -1.0, -50.0])
    assert (gain.clips, gain.wins) == (12, 9)
    assert gain.mean == pytest.approx(-7 / 12, abs=0.01)
    assert gain.low < -8
    assert 3 < gain.high <= 5
    assert comparison.difference([2.0]) == comparison.Difference(2.0, 2.0, 2.0, 1, 1)


def test_frames_since_the_object_was_seen() -> None:
    truth = torch.tensor([1, 1, 0, 0, 1, 1], dtype=torch.bool)[:, None, None]
    assert since_seen(truth) == [0, 1, 0, 0, 3, 1]
    assert since_seen(~truth) == [0, 0, 0, 1, 0, 0]
    found = compare(PAIR, [CLIPS[2]])
    table = found.since_seen((1, 2, 5))
    assert table["oracle"] == [100.0, 100.0, pytest.approx(float("nan"), nan_ok=True)]
    assert table["copy"][1] == pytest.approx(100 * (8 - 6) / (8 + 6), abs=0.01)  # frame 6, four frames after frame 2


def test_before_hidden_and_after() -> None:
    found = compare(PAIR, CLIPS).hidden()  # only "wall" hides its square, in the frames 3 to 5
    assert found["oracle"] == {
        "before": 100.0,
        "last frame before": 100.0,
        "first frame back": 100.0,
        "later": pytest.approx(np.nan, nan_ok=True),
    }
    overlap = {t: 100 * (8 - t) / (8 + t) for t in (1, 2, 6)}
    assert found["copy"]["before"] == pytest.approx(overlap[1], abs=0.01)
    assert found["copy"]["last frame before"] == pytest.approx(overlap[2], abs=0.01)
    assert found["copy"]["first frame back"] == pytest.approx(overlap[6], abs=0.01)


def test_hidden_twice_and_hidden_at_once() -> None:
    twice = compare(PAIR, [clip("door", 1, "occlusion", 10, (2, 4, 5))]).hidden()["copy"]
    overlap = {t: 100 * (8 - t) / (8 + t) for t in (1, 3, 6, 7, 8)}
    assert np.isnan(twice["before"])  # frame 1 is the last before
    assert twice["last frame before"] == pytest.approx(overlap[1], abs=0.01)
    assert twice["first frame back"] == pytest.approx((overlap[3] + overlap[6]) / 2, abs=0.01)
    assert twice["later"] == pytest.approx((overlap[7] + 0.0) / 2, abs=0.01)  # frame 8: the copy is beside it
    at_once = compare(PAIR, [clip("wall", 1, "occlusion", 6, (1, 2))]).hidden()["copy"]
    assert np.isnan(at_once["last frame before"])
    assert at_once["first frame back"] == pytest.approx(overlap[3], abs=0.01)


def test_gains_are_differences_of_scores() -> None:
    found = compare(PAIR, CLIPS)
    assert found.scores("oracle") == [100.0] * 3
    gains = found.gains("oracle", "copy")
    assert gains == [100 - score for score in found.scores("copy")]
    with pytest.raises(TutorialError, match="there is no 'stm'"):
        found.scores("stm")


def test_a_part_of_a_comparison() -> None:
    found = compare([*PAIR, Entry("late", CopyFirst)], CLIPS[:1], before=compare(PAIR, CLIPS))
    assert found.shared() == ["slow"]
    assert found.finished(["copy", "oracle"]) == ["slow", "fast", "wall"]
    part = found.only(methods=["oracle", "copy"])
    assert part.methods() == ["oracle", "copy"]
    assert len(part.gains("oracle", "copy")) == 3
    assert part.difference("oracle", "copy").clips == 3
    assert found.only(["fast"]).methods() == ["copy", "oracle"]  # the other has no run there
    assert found.only(["fast"], ["copy"]).by_attribute().keys() == {"all", "rush"}


def test_where_one_fails_and_another_copes() -> None:
    found = compare(PAIR, CLIPS)
    worst = found.contrast("copy", "oracle")
    assert worst == ("fast", 1, 4, "copy", "oracle", (0.0, 1.0))
    hidden = found.contrast("copy", "oracle", "occlusion")
    assert hidden[:3] == ("wall", 1, 6)
    assert hidden.J[0] == pytest.approx(2 / 14)
    assert found.contrast("oracle", "copy").J[1] == pytest.approx(7 / 9)  # the other way round: the least bad frame
    early = found.contrast("copy", "oracle", shows=lambda place: place.J[0] > 0)  # not where nothing is hit
    assert early[:3] == ("fast", 1, 3)
    with pytest.raises(TutorialError, match="no frame of copy and oracle will do"):
        found.contrast("copy", "oracle", shows=lambda place: False)
    with pytest.raises(TutorialError, match="share no clip with rain"):
        found.contrast("copy", "oracle", "rain")
    with pytest.raises(TutorialError, match="there is no 'stm'"):
        found.contrast("stm", "oracle")


def test_where_methods_differ_most_and_frame_by_frame() -> None:
    found = compare(PAIR, CLIPS[:2])
    assert found.widest() == ("fast", 1, 4)
    frames = found.by_frame()["copy"]
    assert np.isnan(frames[0])
    assert np.isnan(frames[5])
    assert frames[1:5] == sorted(frames[1:5], reverse=True)


def test_cost_counts_the_state_once() -> None:
    held = CopyFirst()
    held.begin(torch.zeros(3, 24, 24), CLIPS[0].masks[0])
    base = state_bytes(held)
    assert base >= 24 * 24
    held.twin = held.masks  # type: ignore[attr-defined]
    held.view = held.masks[0]  # type: ignore[attr-defined]
    held.network = torch.nn.Linear(100, 100)  # type: ignore[attr-defined]
    assert state_bytes(held) == base
    row = compare(PAIR, CLIPS).cost()["oracle"]
    assert row["J&F"] == 100
    assert row["cpu_ms"] >= 0


# ------------------------------------------------------------------------------------------------ taken up again


def counted(calls: list[str], name: str, **about: str) -> Entry:
    def make() -> CopyFirst:
        calls.append(name)
        return CopyFirst()

    return Entry(name, make, about=about)


def test_what_is_finished_is_not_run_again_unless_something_changed() -> None:
    calls: list[str] = []
    first = compare([counted(calls, "a", weights="1")], CLIPS)
    assert len(calls) == 3
    again = compare([counted(calls, "a", weights="1")], CLIPS, before=first)
    assert len(calls) == 3
    assert again == first
    compare([counted(calls, "a", weights="2")], CLIPS, before=first)
    assert len(calls) == 6  # other weights
    moved = replace(CLIPS[0], masks=CLIPS[0].masks.roll(1, 2))
    both = compare([counted(calls, "a", weights="1")], CLIPS, before=compare(PAIR, CLIPS, before=first))
    later = compare([counted(calls, "a", weights="1")], [moved], before=both)
    assert len(calls) == 7  # another clip of that name
    assert {run.method for run in later.runs if run.clip == "slow"} == {"a"}  # what others did on the old one is gone


def test_files_come_back_as_they_were(tmp_path: Path) -> None:
    found = compare(PAIR, CLIPS)
    found.save(tmp_path / "c.json")
    back = comparison.read(tmp_path / "c.json")
    assert back.by_attribute() == found.by_attribute()
    assert back.digests == found.digests
    assert back.joined(found) == back


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda d: d.update(format=9), "has format 9"),
        (lambda d: d.update(protocol="davis2042"), "is no comparison"),
        (lambda d: d["runs"][0].pop("cpu_ms"), "is no comparison"),
        (lambda d: d["runs"][0]["objects"][0]["J"].pop(), "lists of different lengths"),
        (lambda d: d.pop("digests"), "is no comparison"),
        (lambda d: d.pop("version"), "is no comparison"),
    ],
)
def test_files_that_cannot_be(tmp_path: Path, change: Callable[[dict[str, object]], object], says: str) -> None:
    data = json.loads(compare(PAIR, CLIPS[:1]).to_json())
    change(data)
    (tmp_path / "c.json").write_text(json.dumps(data))
    with pytest.raises(TutorialError, match=says):
        comparison.read(tmp_path / "c.json")


def test_other_clips_weights_or_protocols_are_not_put_side_by_side() -> None:
    ours = compare(PAIR, CLIPS[:1])
    moved = replace(CLIPS[0], masks=CLIPS[0].masks.roll(1, 2))
    with pytest.raises(TutorialError, match="different clips under the name 'slow'"):
        ours.joined(compare([Entry("new", CopyFirst)], [moved]))
    with pytest.raises(TutorialError, match="different weights or options of copy, 0"):
        ours.joined(compare([Entry("copy", CopyFirst, about={"weights": "x"})], CLIPS[:1]))
    with pytest.raises(TutorialError, match="scored by davis2017"):
        ours.joined(Comparison("davis2016"))
    older = replace(ours, version="0.0.1")
    with pytest.raises(TutorialError, match=r"made by version .*, the other by 0.0.1"):
        ours.joined(older)
    assert older.gaps()[0].startswith("The runs were made by version 0.0.1, this is ")
    with pytest.raises(TutorialError, match="scored by davis2017, not davis2016"):
        list(steps(PAIR, CLIPS, "davis2016", ours))


def test_entries_by_name(tmp_path: Path) -> None:
    mine = tmp_path / "mine.py"
    mine.write_text("from vos_tutorial.baselines import CopyFirst\nclass Mine(CopyFirst):\n    pass\nnumber = 3\n")
    assert type(entry(f"{mine}:Mine").make()).__name__ == "Mine"
    assert entry(f"{mine}:Mine").about != entry("copy-first").about
    assert entry("stm:photos").about["weights"] != entry("stm").about["weights"]
    assert entry("masktrack@64").about["lines"] == 64
    own = tmp_path / "w.safetensors"
    own.write_bytes(models.shipped_weights("stm").read_bytes())
    assert entry(f"stm:{own}").about == entry("stm").about
    assert entry(f"stm:{own}@64").make() is not None
    for name, says in (
        ("stmm", "there is no method 'stmm'"),
        ("stm:nothing", "no variant 'nothing'"),
        ("stm@much", "give a number of lines"),
        (f"{mine}:Yours", "has no 'Yours'"),
        (f"{mine}:number", "cannot be called"),
        (f"{tmp_path}/none.py:Mine", "cannot be loaded"),
        (f"rgmp:{own}", "stm"),
        (f"stm:{tmp_path}/none.safetensors", "none.safetensors"),
    ):
        with pytest.raises(TutorialError, match=says):
            entry(name)
    with pytest.raises(TutorialError, match="copy, 0 is there twice"):
        compare([PAIR[0], PAIR[0]], CLIPS)
    with pytest.raises(TutorialError, match="name a method"):
        compare([], CLIPS)


# ------------------------------------------------------------------------------------------------ pictures, command


def test_pictures_say_what_the_numbers_say() -> None:
    found = compare([*PAIR, Entry("copy", CopyFirst, seed=1)], CLIPS)
    cost = comparisons.cost(found).axes[0]
    assert {text.get_text().split("  ")[0] for text in cost.texts} == {"copy", "oracle"}
    written = [text.get_text() for text in comparisons.attributes(found.by_attribute(), "copy").axes[0].texts]
    assert written.count("100") == 4
    assert len(comparisons.unseen(found).axes[0].get_xticks()) == 2  # groups that have frames
    with pytest.raises(TutorialError, match="there is no 'stm'"):
        comparisons.attributes(found.by_attribute(), "stm")


def test_the_line_of_the_cost_spans_what_it_is_given() -> None:
    found = compare(PAIR, CLIPS)
    spread = {"copy": [10.0, 40.0, 20.0]}  # of the other method nothing is known
    (line,) = comparisons.cost(found, spread).axes[0].lines
    assert list(line.get_ydata()) == [10.0, 40.0]


def test_gains_are_drawn_clip_by_clip() -> None:
    plot = comparisons.gains(compare(PAIR, CLIPS), "oracle").axes[0]
    dots = plot.lines[0].get_xdata()
    assert list(dots) == pytest.approx(compare(PAIR, CLIPS).gains("copy", "oracle"))
    assert [label.get_text() for label in plot.get_yticklabels()] == ["copy"]
    assert plot.texts[0].get_text().startswith("\u2212")


def test_failures_show_the_given_mask_and_both_answers() -> None:
    scene = CLIPS[0]
    answers = {"copy: J 60": scene.masks[:1].expand(6, -1, -1), "oracle: J 100": scene.masks}
    figure = comparisons.failures({"drift": (scene, 3, answers)})
    assert [axes.get_title() for axes in figure.axes] == [
        "frame 0, the given mask", "frame 3, copy: J 60", "frame 3, oracle: J 100"
    ]  # fmt: skip
    assert not [axes for axes in figure.axes if axes.texts]
    empty = comparisons.failures({"drift": (scene, 3, {"copy": scene.masks * 0, "oracle": scene.masks})})
    assert [[text.get_text() for text in axes.texts] for axes in empty.axes] == [[], ["nothing found"], []]
    with pytest.raises(TutorialError, match="was given no case"):
        comparisons.failures({})


def test_answers_in_the_gallery_are_red_and_objects_stay_apart() -> None:
    ids = torch.tensor([[0, 1], [2, 255]], dtype=torch.uint8)
    assert comparisons._recoloured(ids).tolist() == [[0, 6], [7, 255]]
    scene = CLIPS[0]
    aside = scene.masks.roll(6, dims=1)  # the truth's line would cover the answer's
    figure = comparisons.failures({"drift": (scene, 3, {"copy": aside, "oracle": aside})})
    vermillion = object_colours()[comparisons.FIRST_COLOUR]
    for axes in figure.axes:
        assert (np.asarray(axes.images[0].get_array()) == vermillion).all(-1).any()


def test_the_legend_of_the_gallery_has_the_colours_of_all_objects() -> None:
    scene = CLIPS[0]
    both = scene.masks.clone()
    both[:, 8:] *= 2
    cases = {"drift": (scene, 3, {"copy": scene.masks * 0, "both": both}), "one": (scene, 2, {"copy": scene.masks})}
    for shown, ids in ((cases, (6, 7)), ({"one": cases["one"]}, (6,))):
        lines = comparisons.failures(shown).legends[0].findobj(Line2D)
        *answers, truth = [line for line in lines if line.get_xdata().size]
        np.testing.assert_allclose([line.get_color() for line in answers], object_colours()[list(ids)] / 255)
        assert truth.get_color() == "white"


def test_the_table_of_choices_says_how_many_networks_were_averaged() -> None:
    price = {"oracle": 3, "copy": 1}
    one = comparisons.choices({"all": compare(PAIR, CLIPS)}, price)
    assert " ".join(one.notes) == "J&F, or the 95 % interval, in brackets; one network of each method"
    two = compare([*PAIR, Entry("copy", CopyFirst, seed=1)], CLIPS)
    several = comparisons.choices({"all": two, "oracle alone": two.only(methods=["oracle"])}, price)
    assert " ".join(several.notes).endswith("in brackets; seeds: copy 2, oracle 1")


def test_which_method_to_take() -> None:
    found = compare([Entry("oracle", Oracle), Entry("copy", CopyFirst), Entry("again", Oracle)], CLIPS)
    choice = found.choice({"oracle": 3, "copy": 1, "again": 2})
    assert choice == ("oracle", ("again",), "again", found.difference("oracle", "again"))
    alone = found.only(methods=["oracle", "copy"])
    assert alone.choice({"oracle": 3, "copy": 1}) == ("oracle", (), "oracle", None)
    with pytest.raises(TutorialError, match="copy has no price"):
        alone.choice({"oracle": 3})
    for nothing in (found.only(clips=[]), Comparison()):
        with pytest.raises(TutorialError, match="no clip was finished by all methods; run them first"):
            nothing.choice({"oracle": 3, "copy": 1, "again": 2})
        with pytest.raises(TutorialError, match="no clip was finished by all methods"):
            comparisons.choices({"x": nothing}, {})
    text = str(comparisons.choices({"a_part": found, "less": alone}, {"oracle": 3, "copy": 1, "again": 2}))
    assert "a part" in text
    assert [line.split()[-1] for line in text.splitlines()[2:4]] == ["0.0)", "–"]


def test_runs_with_an_attribute() -> None:
    found = compare(PAIR, CLIPS)
    for attribute in {name for run in found.runs for name in run.attributes}:
        part = found.having(attribute)
        assert 0 < len(part.runs) <= len(found.runs)
        assert {run.clip for run in part.runs} == {c.name for c in CLIPS if attribute in c.attributes}
        assert part.by_attribute()["all"] == found.by_attribute()[attribute]
    assert found.having("all") == found
    known = ", ".join(["all", *sorted({name for clip in CLIPS for name in clip.attributes})])
    with pytest.raises(TutorialError, match=f"no clip here has the attribute 'nothing'; choose from {known}."):
        found.having("nothing")


def test_a_method_has_one_colour_in_all_pictures() -> None:
    hues = comparisons.colours(["STM photos", "mine", "STM", "RGMP"])
    assert hues["STM"] == hues["STM photos"]
    assert len(set(hues.values())) == 3


def test_the_command_goes_on_where_it_stopped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    arguments = ["--clips", "1", "--sequences", "clean,occlusion", "--out", str(out), "--methods"]
    assert command.main([*arguments, "copy-first"]) == 0
    assert command.main([*arguments, "copy-first,colour-memory"]) == 0
    printed = capsys.readouterr().out
    assert printed.count("copy-first  ") >= 2
    assert len([line for line in printed.splitlines() if "clean-0  copy-first" in line]) == 1
    names = {path.name for path in out.iterdir() if not path.name.startswith(".")}
    assert names == {
        "comparison.json", "scores.csv", "tables.txt", "cost.png", "by_frame.png", "attributes.png", "since_seen.png"
    }  # fmt: skip
    assert "colour-memory minus copy-first" in (out / "tables.txt").read_text()
    with pytest.raises(TutorialError, match="there is no condition 'rain'"):
        command.main(["--sequences", "rain", "--out", str(out)])


def test_the_command_is_in_the_list() -> None:
    done = subprocess.run([sys.executable, "-m", "vos_tutorial", "compare", "--help"], capture_output=True, text=True)
    assert done.returncode == 0
    assert "stm:photos" in done.stdout
