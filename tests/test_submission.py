"""Submission folders: written for DAVIS and YouTube-VOS as their programs read them, and what is wrong is said."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from vos_tutorial.baselines import CopyFirst
from vos_tutorial.clip import write_mask
from vos_tutorial.course import compare as command
from vos_tutorial.data.davis import DavisFolder, VideoFolder, YouTubeVosFolder
from vos_tutorial.errors import TutorialError
from vos_tutorial.results import ResultsFolder
from vos_tutorial.submission import check, problems, write

H, W = 20, 28


def ids(t: int, *objects: int) -> torch.Tensor:
    mask = torch.zeros(H, W, dtype=torch.uint8)
    for row, object_id in enumerate(objects):
        mask[2 + 9 * row : 9 + 9 * row, 2 + t : 10 + t] = object_id
    return mask


def picture(path: Path, mask: torch.Tensor) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray((mask.numpy()[..., None] * np.array([60, 40, 20])).astype(np.uint8)).save(path)


@pytest.fixture
def davis(tmp_path: Path) -> Path:
    """Two sequences of four frames; the test list gives the first mask only."""
    root = tmp_path / "DAVIS"
    for name, objects in (("alpha", (1, 3)), ("beta", (1,))):
        for t in range(4):
            picture(root / f"JPEGImages/480p/{name}/{t:05d}.jpg", ids(t, *objects))
        (root / f"Annotations/480p/{name}").mkdir(parents=True)
        write_mask(root / f"Annotations/480p/{name}/00000.png", ids(0, *objects))
    for year in ("2016", "2017"):
        (root / f"ImageSets/{year}").mkdir(parents=True)
        (root / f"ImageSets/{year}/test-dev.txt").write_text("alpha\nbeta\n")
    return root


@pytest.fixture
def youtube(tmp_path: Path) -> Path:
    """One video of eleven frames; object 2 is given in frame 0, object 5 in frame 5; every fifth is asked for."""
    root = tmp_path / "YouTubeVOS"
    for t in range(11):
        picture(root / f"valid/JPEGImages/0a1b/{t:05d}.jpg", ids(t, 2, 5))
    (root / "valid/Annotations/0a1b").mkdir(parents=True)
    write_mask(root / "valid/Annotations/0a1b/00000.png", ids(0, 2))
    write_mask(root / "valid/Annotations/0a1b/00005.png", ids(5, 0, 5))
    frames = {"2": ["00000", "00005", "00010"], "5": ["00005", "00010"]}
    objects = {i: {"category": "ape", "frames": numbers} for i, numbers in frames.items()}
    (root / "valid/meta.json").write_text(json.dumps({"videos": {"0a1b": {"objects": objects}}}))
    return root


def written(folder: VideoFolder, root: Path) -> Path:
    protocol = "youtube-vos" if isinstance(folder, YouTubeVosFolder) else "davis2017"
    results = ResultsFolder(root)
    results.begin()
    assert list(write(CopyFirst(), folder, results, protocol)) == folder.names  # type: ignore[arg-type]
    results.end()
    return root


def test_davis_wants_every_frame(davis: Path, tmp_path: Path) -> None:
    folder = DavisFolder(davis, 2017, "test-dev")
    out = written(folder, tmp_path / "out")
    assert problems(folder, out) == []
    check(folder, out)
    files = sorted(path.relative_to(out).as_posix() for path in out.rglob("*.png"))
    assert files == [f"{name}/{t:05d}.png" for name in ("alpha", "beta") for t in range(4)]
    with Image.open(out / "alpha/00003.png") as image:
        assert (image.mode, sorted(set(np.array(image).ravel().tolist()))) == ("P", [0, 1, 3])


def test_youtube_wants_the_listed_frames_and_late_objects(youtube: Path, tmp_path: Path) -> None:
    folder = YouTubeVosFolder(youtube, "valid")
    out = written(folder, tmp_path / "out")
    check(folder, out)
    files = sorted(path.relative_to(out).as_posix() for path in out.rglob("*.png"))
    assert files == [f"Annotations/0a1b/{t:05d}.png" for t in (0, 5, 10)]
    found = [set(np.array(Image.open(out / file)).ravel().tolist()) for file in files]
    assert found == [{0, 2}, {0, 2, 5}, {0, 2, 5}]


def grey(out: Path) -> None:
    with Image.open(out / "beta/00001.png") as image:
        levels = np.array(image)
    Image.fromarray(levels).save(out / "beta/00001.png")


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda out: shutil.rmtree(out / "beta"), "beta: there is no folder"),
        (lambda out: (out / "alpha/00002.png").unlink(), "alpha: 1 of 4 masks are missing, the first is 00002.png."),
        (lambda out: shutil.copy(out / "alpha/00003.png", out / "alpha/00004.png"), "00004.png is not asked for"),
        (lambda out: write_mask(out / "beta/00001.png", torch.zeros(H, W - 1, dtype=torch.uint8)),
         "beta: 00001.png is 20x27, its annotation 20x28; resize it"),
        (lambda out: write_mask(out / "alpha/00001.png", ids(0, 1, 2)), "holds the id 2; the given masks hold 1, 3"),
        (lambda out: write_mask(out / "alpha/00001.png", ids(0, 255)), "holds the id 255"),
        (grey, "beta: 00001.png is a picture of mode L"),
        (lambda out: (out / "beta/00003.png").write_bytes(b"no"), "beta: 00003.png cannot be read"),
        (lambda out: shutil.copytree(out / "beta", out / "gamma"), "holds gamma, which is no sequence of the list"),
        (lambda out: shutil.rmtree(out), "there is no folder"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said(davis: Path, tmp_path: Path, spoil: Callable[[Path], object], says: str) -> None:
    folder = DavisFolder(davis, 2017, "test-dev")
    out = written(folder, tmp_path / "out")
    spoil(out)
    assert says in " ".join(problems(folder, out))
    with pytest.raises(TutorialError, match="is not ready to be submitted: "):
        check(folder, out)


def test_several_problems_are_counted(davis: Path, tmp_path: Path) -> None:
    folder = DavisFolder(davis, 2017, "test-dev")
    out = written(folder, tmp_path / "out")
    (out / "alpha/00002.png").unlink()
    grey(out)
    with pytest.raises(TutorialError, match=r"alpha: 1 of 4 masks .*\(1 more\)"):
        check(folder, out)
    assert problems(folder, out, ["beta"]) == [
        "beta: 00001.png is a picture of mode L; the scoring reads ids from a palette PNG (mode P)."
    ]


@pytest.mark.parametrize("year", [2016, 2017])
def test_the_command_writes_a_folder_for_each_method(
    davis: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], year: int
) -> None:
    out = tmp_path / "out"
    arguments = ["--data", str(davis), "--year", str(year), "--split", "test-dev", "--out", str(out), "--submit"]
    assert command.main([*arguments, "--methods", "copy-first,colour-memory@10"]) == 0
    assert "2 sequences, checked" in capsys.readouterr().out
    for place in ("copy-first", "colour-memory@10"):
        check(DavisFolder(davis, year, "test-dev"), out / place)
    assert (
        command.main([*arguments, "--methods", "copy-first", "--sequences", "beta"]) == 0
    )  # once more, and less of it
    assert "note: 1 of the list's 2 sequences were left out" in capsys.readouterr().out


def test_the_command_for_youtube(youtube: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    arguments = ["--data", str(youtube), "--layout", "youtube-vos", "--out", str(out), "--methods", "copy-first"]
    assert command.main([*arguments, "--submit"]) == 0
    check(YouTubeVosFolder(youtube, "valid"), out / "copy-first")
    with pytest.raises(TutorialError, match="masks of new objects only"):
        command.main(arguments)


def test_the_command_says_what_it_cannot_do(davis: Path, tmp_path: Path) -> None:
    with pytest.raises(TutorialError, match="name the data set with --data"):
        command.main(["--submit", "--out", str(tmp_path / "out"), "--methods", "copy-first"])
    with pytest.raises(TutorialError, match="has no clip 'delta'"):
        command.main(["--submit", "--out", str(tmp_path / "out"), "--data", str(davis), "--split", "test-dev",
                      "--methods", "copy-first", "--sequences", "delta"])  # fmt: skip
    (davis / "Annotations/480p/beta/00000.png").unlink()
    with pytest.raises(TutorialError, match=r"beta holds no \.png file"):
        command.main(["--submit", "--out", str(tmp_path / "out"), "--data", str(davis), "--split", "test-dev",
                      "--methods", "copy-first"])  # fmt: skip
