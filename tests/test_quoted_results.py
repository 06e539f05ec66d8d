"""Numbers that stand in more places agree: the table of docs/results.md, and what notebooks say of other methods."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from experiments.comparison import VIDEOS
from vos_tutorial import models

ROOT = Path(__file__).resolve().parent.parent
SHOWN = ("clean", "deformation+scale", "distractors")


def results(name: str) -> dict[str, Any]:
    """One file of ``data/results``."""
    loaded: dict[str, Any] = json.loads((ROOT / "data" / "results" / f"{name}.json").read_text())
    return loaded


def words(file: str) -> str:
    """A text in one line."""
    return " ".join((ROOT / file).read_text(encoding="utf-8").split())


def row(name: str, key: str, after: str | int | None, real: str) -> list[float | None]:
    """What docs/results.md shows of a method: J on three conditions, after occlusion, and on real video."""
    found = results(name)
    numbers: list[float | None] = [found["benchmark"][c][key] for c in SHOWN]
    hidden = None
    if after is not None:
        rows = found["recovery"]["occlusion"][after]
        hidden = float(np.mean([r["after"] for r in rows])) if isinstance(rows, list) else rows["after"]
    return [*numbers, hidden, float(np.mean(found["real"]["J"][real]["mean"]))]


ROWS = {
    "first mask, copied": row("05_stm", "copy first", None, "copy first"),
    "MaskTrack (mean of 3 seeds)": row("02_masktrack", "mean", -1, "MaskTrack"),
    "RGMP (mean of 3 seeds)": row("03_rgmp", "mean", "RGMP", "RGMP"),
    "RGMP, the long run that ships": row("03_rgmp", "long", "long", "RGMP long run"),
    "RVOS (mean of 3 seeds)": row("04_rvos", "mean", "recipe", "RVOS recipe"),
    "RVOS, the long run that ships": row("04_rvos", "long", "long", "RVOS long run"),
    "STM (mean of 3 seeds)": row("05_stm", "mean", "recipe", "STM recipe"),
    "STM, the long run that ships": row("05_stm", "long", "long", "STM long run"),
    "STCNN, the long run that ships, tuned for 60 steps to each object": row(
        "06_stcnn", "STCNN long", None, "STCNN 60 steps"
    ),
}


@pytest.mark.parametrize("method", ROWS)
def test_the_table_of_small_networks(method: str) -> None:
    line = re.search(rf"^\| {re.escape(method)} \|(.*)\|$", (ROOT / "docs" / "results.md").read_text(), re.MULTILINE)
    assert line is not None, f"the table of docs/results.md has no row {method!r}."
    _, *cells = (cell.strip() for cell in line[1].split("|"))
    for cell, number in zip(cells, ROWS[method], strict=True):
        if number is None:
            assert not cell
        else:
            assert float(cell) == pytest.approx(number, abs=0.051)


PHOTOS = {  # rows of 15_photos.json: on the twelve sequences, and on the three others
    "first mask, copied": VIDEOS["copy first"],
    "label propagation, which learns nothing": VIDEOS["label propagation"],
    "label propagation, frame 0 searched everywhere": (
        "label propagation, frame 0 searched everywhere, 8 frames before, 240",
        "label propagation, frame 0 searched everywhere, davis_sample, second freeze",
    ),
    "MaskTrack": VIDEOS["MaskTrack photos"],
    "RGMP": VIDEOS["RGMP photos"],
    "RVOS": VIDEOS["RVOS photos"],
    "STM, enlarged to 288 lines": VIDEOS["STM photos"],
    "STM, at 240 lines": (
        "STM, photos, larger (1800 more, seed 3), 240",
        "STM, photos, larger, davis_sample, fourth freeze, 240",
    ),
    "STCNN, tuned for 120 steps to each object": VIDEOS["STCNN photos"],
}


TRIED = {  # rows of docs/results.md: of 15_photos.json
    "STM before its last stage, at 240, 288, 320, 360 lines": (
        "STM, photos, at most 4 frames evenly, 240",
        *(f"STM, photos, enlarged to {lines}" for lines in (288, 320, 360)),
    ),
    "STM, its last stage, 1,800 steps on larger pictures: 240, 288, 360 lines": (
        "STM, photos, larger (1800 more, seed 2), 240",
        *(f"STM, photos, larger (1800 more, seed 2), enlarged to {lines}" for lines in (288, 360)),
    ),
    "the same stage with another seed: 240, 288, 360 lines": (
        "STM, photos, larger (1800 more, seed 3), 240",
        *(f"STM, photos, larger (1800 more, seed 3), enlarged to {lines}" for lines in (288, 360)),
    ),
    "the weights of these two averaged, at 288": (
        "STM, photos, larger (seeds 2 and 3, weights averaged), enlarged to 288",
    ),
    "before the last stage, with at most two stored frames, at 360": (
        "STM, photos, at most 2 frames evenly, enlarged to 360",
    ),
    "STM, another seed and other clips, after 3,200 steps: 240, 360 lines": (
        "STM, photos, calm from the start (3200 steps, seed 1), 240",
        "STM, photos, calm from the start (3200 steps, seed 1), enlarged to 360",
    ),
    "its next stage, 350 steps: 240, 360 lines": (
        "STM, photos, calm from the start, longer (3550 steps, seed 1), 240",
        "STM, photos, calm from the start, longer (3550 steps, seed 1), enlarged to 360",
    ),
    "STCNN before and after its last stage, 700 steps on larger pictures": (
        "STCNN, photos (2800 steps), 120 steps of tuning, 240",
        VIDEOS["STCNN photos"][0],
    ),
    "MaskTrack at 240, 320 lines": (
        "MaskTrack, photos, calm (400 more), 240",
        "MaskTrack, photos, enlarged to 320",
    ),
    "RGMP at 240, 320 lines": ("RGMP, photos, larger, hard feedback, 240", "RGMP, photos, enlarged to 320"),
    "label propagation": ("label propagation, 240",),
    "the same, frame 0 searched everywhere, eight previous frames": (
        "label propagation, frame 0 searched everywhere, 8 frames before, 240",
    ),
}


def test_what_was_tried_on_real_video() -> None:
    text = (ROOT / "docs" / "results.md").read_text()
    table = text[text.index("| what was tried |") :].split("\n\n")[0].splitlines()[2:]
    rows = results("15_photos")["rows"]
    found = {
        name: [float(n) for n in cell.split(", ")] for name, cell, _ in (line[2:].split(" | ") for line in table)
    }
    assert found == {name: [round(rows[key]["J&F"], 1) for key in keys] for name, keys in TRIED.items()}


def test_the_readmes_table_of_real_video() -> None:
    text = (ROOT / "README.md").read_text()
    table = text[text.index("| | J&F, 12 sequences | J&F, three others | ms a frame |") :].split("\n\n")[0]
    rows = results("15_photos")["rows"]
    found = {}
    for line in table.splitlines()[2:]:
        name, twelve, three, ms = line.strip("| ").split(" | ")
        found[name] = (float(twelve), float(three), int(ms.removesuffix(", with the tuning")))
    assert found == {
        name: (round(rows[a]["J&F"], 1), round(rows[b]["J&F"], 1), round(rows[a]["cpu_ms"]))
        for name, (a, b) in PHOTOS.items()
    }


def test_the_sequences_of_real_video_are_named() -> None:
    told = words("docs/results.md")
    twelve, three = (PHOTO_ROWS[row]["videos"] for row in PHOTOS["first mask, copied"])
    assert (len(twelve), len(three)) == (12, 3)
    for kind, names in (("training", twelve), ("validation", three)):
        (line,) = re.findall(rf"of its {kind} set decided \w+: (.*?)\.", told)
        assert line.split(", ") == [f"*{name}*" for name in sorted(names)]
    assert {len(row["videos"]) for row in PHOTO_ROWS.values()} == {12, 3}


def test_the_largest_and_smallest_of_the_small_networks() -> None:
    found = re.search(r"Networks of (\S+) to (\S+) million parameters", words("docs/results.md"))
    assert found is not None
    sizes = [sum(p.numel() for p in models.trained(name).parameters()) for name in models.METHODS]
    assert found.groups() == (f"{min(sizes) / 1e6:.1f}", f"{max(sizes) / 1e6:.1f}")


def of(shown: str, others: bool = False, video: str | None = None) -> float:
    """J&F of a row of 15_photos.json by its name in the README: on average, or on one of its videos."""
    found = results("15_photos")["rows"][PHOTOS[shown][others]]
    return float(found["J&F"] if video is None else found["videos"][video])


LARGE, SMALL = "STM, enlarged to 288 lines", "STM, at 240 lines"
TUNED = "STCNN, tuned for 120 steps to each object"
EARLY, LATE = "STM, photos, calm (600 more), 240", "STM, photos, calm, longer (350 more), 240"
TIMELESS = "STCNN, photos, larger (700 more, seed 2), 120 steps of tuning, without the time half, 240"
PHOTO_ROWS = results("15_photos")["rows"]
SPRITE_ROWS = results("08_comparison")
SPRITES = [SPRITE_ROWS["own_size"]["STM photos"]["J&F"], SPRITE_ROWS["benchmark"]["J&F"]["STM photos"]["all"]]
SENTENCES = (  # file, sentence, its numbers
    (
        "docs/results.md",
        "(*soccerball*: {}, MaskTrack {})",
        [of(m, video="soccerball") for m in ("RGMP", "MaskTrack")],
    ),
    ("docs/results.md", "(*bear*: {}, RGMP {})", [of(m, video="bear") for m in ("MaskTrack", "RGMP")]),
    (
        "docs/results.md",
        "best where that lasts (*hike*: {}, STM {})",
        [max(of(m, video="hike") for m in PHOTOS), of(LARGE, video="hike")],
    ),
    ("docs/results.md", "best where that lasts (*hike*: {},", [of(TUNED, video="hike")]),
    (
        "docs/results.md",
        "*soccerball* ({} instead of {})",
        [PHOTO_ROWS[TIMELESS]["videos"]["soccerball"], of(TUNED, video="soccerball")],
    ),
    ("docs/results.md", "(*car-turn*: {}, STM {})", [of(m, video="car-turn") for m in (TUNED, LARGE)]),
    (
        "docs/results.md",
        "Without its temporal branch STCNN has {} instead of {},",
        [PHOTO_ROWS[TIMELESS]["J&F"], of(TUNED)],
    ),
    ("README.md", "J&F is {} without and {} with them", [of(m, True) for m in (SMALL, LARGE)]),
    ("docs/results.md", "which ships, has {} at 240 and {} at 288", [of(m, True) for m in (SMALL, LARGE)]),
    (
        "docs/results.md",
        "The first seed has a J&F of {} there at 240 lines and {} at 360.",
        [PHOTO_ROWS[f"STM, photos, larger, davis_sample, third freeze{lines}"]["J&F"] for lines in (", 240", "")],
    ),
    ("docs/results.md", "on *car-roundabout* from {} to {}", [of(m, True, "car-roundabout") for m in (SMALL, LARGE)]),
    ("docs/results.md", "on *motocross-jump* from {} to {}", [of(m, True, "motocross-jump") for m in (SMALL, LARGE)]),
    (
        "docs/results.md",
        "STCNN's last stage raises J&F there from {} to {}",
        [PHOTO_ROWS["STCNN, photos, davis_sample"]["J&F"], of(TUNED, True)],
    ),
    ("docs/results.md", "*libby* from {} to {}", [of(m, True, "libby") for m in (SMALL, LARGE)]),
    (
        "docs/results.md",
        "STM had {} at 240 lines and {} at 360.",
        [PHOTO_ROWS[f"STM, photos, davis_sample{when}"]["J&F"] for when in ("", ", second freeze")],
    ),
    ("docs/results.md", "the shipped network {} |", [PHOTO_ROWS[LATE]["J&F"] - PHOTO_ROWS[EARLY]["J&F"]]),
    ("docs/results.md", "J&F rises from {} to {}", SPRITES),
    ("CHANGELOG.md", "J&F {} instead of {} on the twelve sequences", [of(LARGE), of(SMALL)]),
    ("CHANGELOG.md", "{} instead of {} on three others", [of(LARGE, True), of(SMALL, True)]),
    ("CHANGELOG.md", "{} instead of {} on the benchmark of sprites", SPRITES[::-1]),
)


@pytest.mark.parametrize(("file", "sentence", "numbers"), SENTENCES)
def test_numbers_in_sentences(file: str, sentence: str, numbers: Sequence[float]) -> None:
    assert sentence.format(*(f"{number:.1f}" for number in numbers)) in words(file)


def test_what_enlarged_frames_cost() -> None:
    """Pages 08 and 09 quote the same two rows."""
    rows = results("15_photos")["rows"]
    small, large = (rows[PHOTOS[how][0]]["cpu_ms"] for how in (SMALL, LARGE))
    largest = rows[TRIED["the same stage with another seed: 240, 288, 360 lines"][2]]["cpu_ms"]
    told = {
        "README.md": f"They also take {large / small:.1f} times as long.",  # the table above it has the times
        "docs/results.md": f"{small:.0f} ms a frame at 240 lines, {large:.0f} at 288, {largest:.0f} at 360",
        "CHANGELOG.md": f"in {large / small:.1f} times the time;",
    }
    for file, sentence in told.items():
        assert sentence in words(file), file


@pytest.mark.parametrize(("name", "real"), [("04_rvos", "STM long run"), ("06_stcnn", "STM long run")])
def test_stm_has_the_same_scores_in_other_notebooks(name: str, real: str) -> None:
    """If not: experiments/refresh_stm.py."""
    own, quoted = results("05_stm"), results(name)
    for measure in "JF":
        for sequence, (score,) in own["real"][measure]["STM long run"].items():
            assert quoted["real"][measure][real][sequence] == [pytest.approx(score, abs=0.2)], sequence


def test_notebook_04_compares_with_notebook_05() -> None:
    own, quoted = results("05_stm")["benchmark"], results("04_rvos")["benchmark"]
    for condition, scores in own.items():
        assert quoted[condition]["STM"] == scores["mean"]
        assert quoted[condition]["STM long"] == scores["long"]


def test_what_a_class_needs() -> None:
    """Rounded so that a new measurement changes no sentence; the README says the same of one reader."""
    told = words("docs/server.md")
    cards = results("run_cards")
    pages = {file.stem: cards[file.stem]["cpu"] for file in (ROOT / "notebooks" / "src").glob("*.py")}
    assert len(pages) == 10
    assert "CPU seconds and peaks for the ten pages" in told
    seconds, peak = (max(card[key] for card in pages.values()) for key in ("cpu_seconds", "peak_mib"))
    assert 120 < seconds < 180
    assert 1.2e9 < peak * 2**20 < 1.5e9
    assert "Each page takes less than 3 CPU minutes and less than 1.5 GB." in told
    assert "each needs about 1.5 GB of memory, and no GPU." in words("README.md")
    assert abs(30 * seconds / 8 / 60 - 10) < 2
    assert (
        "Thirty students who all run one of the longest pages at once keep 8 cores busy for about 10 minutes" in told
    )
    weights = sum(file.stat().st_size for file in (ROOT / "data" / "weights").glob("*.safetensors"))
    notebooks = sum(
        file.stat().st_size for part in ("", "appendix") for file in (ROOT / "notebooks" / part).glob("*.ipynb")
    )
    assert round(weights, -7) == 30e6
    assert 5e6 < notebooks < 10e6
    assert "about 30 MB of weights, and for each student less than 10 MB of notebooks" in told
