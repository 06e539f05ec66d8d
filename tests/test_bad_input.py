"""Every kind of bad input, through the front door: one sentence that names the thing and the fix, and nothing left.

Here each one is met as a reader meets it, on the command line or in a call of the library. What only another file
can provoke is tested there:

=========================  =============================================================================
missing, truncated files   here; every cut of a PNG: test_clip; weights: test_weights; checkpoints:
                           test_training; archives: test_download; photos: test_static_images
masks of another size      here; off by one pixel: test_davis
RGB masks                  here; every mode: test_clip
ids above 254              here; 16-bit files: test_clip
empty masks, one frame,    here; in the loop over time: test_segmenter; in the scores: test_metrics;
clips without objects      while spoiling: test_deform
wrong years                here; test_davis
NaN frames                 here; NaN in a loss: test_training; in weights: test_weights
another model's or size's  here; test_weights, test_training
checkpoint
a full disk                here, for masks; weights: test_weights; checkpoints and logs: test_training;
                           results: test_evaluation; downloads: test_download
no network                 here; test_download; torchvision's sets: test_static_images
=========================  =============================================================================
"""

from __future__ import annotations

import errno
import json
import os
import re
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from vos_tutorial import __main__ as command_line
from vos_tutorial import models
from vos_tutorial.clip import Clip, ids_to_onehot, write_mask
from vos_tutorial.data.worlds import sprites
from vos_tutorial.errors import TutorialError
from vos_tutorial.models.weights import save_weights
from vos_tutorial.propagation import propagate
from vos_tutorial.results import MARK


def require_one_sentence(text: str, *names: str) -> None:
    """One line, one sentence, with each of ``names`` in it; behind a semicolon stands what to do about it."""
    text = text.strip()
    assert "\n" not in text, text
    assert text.endswith("."), text
    assert not re.search(r"[a-z)]\. [A-Z]", text), f"two sentences: {text}"
    assert ";" in text, f"no fix: {text}"
    assert all(name in text for name in names), (names, text)


@pytest.fixture
def davis(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A DAVIS folder with the sequences ``good`` and ``bad``, five frames of two objects each, fine so far."""
    root = tmp_path / "DAVIS"
    for name, seed in (("good", 0), ("bad", 1)):
        clip = sprites.make_clip(seed, size=32, length=5, attributes=["multiple_objects"])
        for t in range(5):
            write_mask(root / "Annotations" / "480p" / name / f"{t:05d}.png", clip.masks[t])
            frame = root / "JPEGImages" / "480p" / name / f"{t:05d}.jpg"
            frame.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(clip.frames[t].permute(1, 2, 0).numpy()).save(frame)
    for year in ("2016", "2017"):
        (root / "ImageSets" / year).mkdir(parents=True)
        (root / "ImageSets" / year / "val.txt").write_text("good\nbad\n")
    monkeypatch.chdir(tmp_path)
    return root


def mask_of(davis: Path, t: int) -> Path:
    return davis / "Annotations" / "480p" / "bad" / f"{t:05d}.png"


def frame_of(davis: Path, t: int) -> Path:
    return davis / "JPEGImages" / "480p" / "bad" / f"{t:05d}.jpg"


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def all_masks(davis: Path, ids: int) -> None:
    for t in range(5):
        write_mask(mask_of(davis, t), torch.full((32, 32), ids, dtype=torch.uint8))


def only_frame_0(davis: Path) -> None:
    for t in range(1, 5):
        mask_of(davis, t).unlink()
        frame_of(davis, t).unlink()


def evaluate(*arguments: str) -> int:
    return command_line.main(["evaluate", *arguments, "--data", "DAVIS", "--out", "results", "--device", "cpu"])


def results() -> list[str]:
    """The files of results, without the mark that says what is ours."""
    found = sorted(p.relative_to("results").as_posix() for p in Path("results").rglob("*") if p.is_file())
    return [name for name in found if name != MARK]


BROKEN: dict[str, tuple[Callable[[Path], Any], tuple[str, ...]]] = {
    "missing frame": (lambda d: frame_of(d, 2).unlink(), ("bad",)),
    "missing frames": (lambda d: [p.unlink() for p in frame_of(d, 0).parent.iterdir()], ("bad",)),
    "missing list": (lambda d: (d / "ImageSets" / "2017" / "val.txt").unlink(), ("val",)),
    "truncated frame": (lambda d: cut(frame_of(d, 3)), ("00003.jpg",)),
    "truncated mask": (lambda d: cut(mask_of(d, 3)), ("00003.png",)),
    "empty file": (lambda d: mask_of(d, 0).write_bytes(b""), ("00000.png",)),
    "mask of another size": (
        lambda d: write_mask(mask_of(d, 2), torch.ones(20, 24, dtype=torch.uint8)),
        ("00002.png", "32"),
    ),
    "RGB mask": (lambda d: Image.new("RGB", (32, 32), (128, 0, 0)).save(mask_of(d, 1)), ("00001.png", "RGB")),
    "16-bit mask": (
        lambda d: Image.fromarray(np.full((32, 32), 300, dtype=np.uint16)).save(mask_of(d, 1)),
        ("00001.png", "I;16"),
    ),
    "empty masks": (lambda d: all_masks(d, 0), ("bad",)),
    "nothing but void": (lambda d: all_masks(d, 255), ("bad",)),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_data_set(davis: Path, capsys: pytest.CaptureFixture[str], kind: str) -> None:
    damage, names = BROKEN[kind]
    damage(davis)
    assert evaluate("copy-first", "--year", "2017") == 2
    require_one_sentence(capsys.readouterr().err.removeprefix("error: "), *names)
    # Nothing was begun, or the sequence before it is whole, with its row, and nothing of the broken one is there.
    good = [f"good/{t:05d}.png" for t in range(5)]
    assert results() in ([], [*good, "report.json"])
    if results():
        report = json.loads(Path("results/report.json").read_text("utf-8"))
        assert {row["sequence"] for row in report["objects"]} == {"good"}
        assert report["pending"] == ["bad"]


def test_a_one_frame_clip_is_answered_by_its_mask_and_cannot_be_scored(
    davis: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    only_frame_0(davis)
    assert evaluate("copy-first", "--year", "2017", "--sequences", "bad") == 0
    assert "no ground truth to score" in capsys.readouterr().out
    assert results() == ["bad/00000.png"]


@pytest.mark.parametrize("year", ["2015", "2018", "16"])
def test_a_wrong_year(davis: Path, capsys: pytest.CaptureFixture[str], year: str) -> None:
    assert evaluate("copy-first", "--year", year) == 2
    require_one_sentence(capsys.readouterr().err.removeprefix("error: "), year, "2016", "2017")
    assert not Path("results").exists()


@pytest.mark.parametrize("year", ["2016", "2017"])
def test_the_wrong_folder(davis: Path, capsys: pytest.CaptureFixture[str], year: str) -> None:
    os.rename(davis / "JPEGImages", davis / "Pictures")
    assert evaluate("copy-first", "--year", year) == 2
    require_one_sentence(capsys.readouterr().err.removeprefix("error: "), "JPEGImages")
    assert not Path("results").exists()


def weights_of(network: torch.nn.Module, method: str = "masktrack", size: str = "small") -> None:
    save_weights("w.safetensors", network, {"method": method, "size": size})


@pytest.mark.parametrize(
    ("make", "names"),
    [
        (lambda: None, ("w.safetensors",)),
        (lambda: (weights_of(models.build("masktrack")), cut(Path("w.safetensors"))), ("w.safetensors", "cut short")),
        (lambda: Path("w.safetensors").write_text("hello"), ("w.safetensors", "not a safetensors")),
        (lambda: weights_of(torch.nn.Linear(2, 2), "stm"), ("w.safetensors", "stm", "another method")),
        (lambda: weights_of(models.build("masktrack", width=8)), ("w.safetensors", "another size")),
    ],
    ids=["missing", "truncated", "no weights", "another model", "another size"],
)
def test_weights_that_do_not_fit(
    davis: Path, capsys: pytest.CaptureFixture[str], make: Callable[[], Any], names: tuple[str, ...]
) -> None:
    make()
    assert evaluate("masktrack", "--weights", "w.safetensors") == 2
    require_one_sentence(capsys.readouterr().err.removeprefix("error: "), *names)
    assert not Path("results").exists()


def test_a_run_of_another_recipe_and_a_broken_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    train = ["train", "masktrack", "--profile", "smoke", "--out", "run", "--set", "stills.warmup=0"]
    assert command_line.main([*train, "--set", "stills.steps=1"]) == 0
    capsys.readouterr()
    before = {p.name: p.read_bytes() for p in Path("run").iterdir()}
    assert command_line.main([*train, "--set", "stills.steps=2"]) == 2
    require_one_sentence(capsys.readouterr().err.removeprefix("error: "), "run/checkpoint.pt", "steps was 1 and is 2")
    assert {p.name: p.read_bytes() for p in Path("run").iterdir()} == before
    cut(Path("run/checkpoint.pt"))
    assert command_line.main([*train, "--set", "stills.steps=1"]) == 2
    require_one_sentence(capsys.readouterr().err.removeprefix("error: "), "run/checkpoint.pt")


@pytest.mark.parametrize(
    ("assignment", "names"),
    [
        ('stills.options.spoiling={"dilate": 1}', ("dilate", "dilation")),
        ("stills.options.guide=boxes", ("guide",)),
        ("stills.steps=0", ("steps",)),
    ],
)
def test_a_recipe_that_cannot_be(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    assignment: str,
    names: tuple[str, ...],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert command_line.main(["train", "masktrack", "--profile", "smoke", "--out", "run", "--set", assignment]) == 2
    error = capsys.readouterr().err
    require_one_sentence(error[error.index("error: ") :].removeprefix("error: "), *names)
    assert not list(tmp_path.rglob("*.pt*"))
    assert not list(tmp_path.rglob("*.safetensors"))


# ------------------------------------------------------------------------------------------------- in the library


def a_clip() -> Clip:
    return sprites.make_clip(0, size=32, length=3)


def masktrack() -> Any:
    return models.segmenter("masktrack", None)


@pytest.mark.parametrize("t", [0, 2])
def test_nan_frames(t: int) -> None:
    clip = a_clip()
    frames = clip.frames.float() / 255
    frames[t, 0, 5, 5] = float("nan")
    with pytest.raises(TutorialError) as error:
        propagate(masktrack(), frames, clip.first_mask)
    require_one_sentence(str(error.value), f"frame {t}", "NaN")


@pytest.mark.parametrize(
    ("call", "names"),
    [
        (lambda c: propagate(masktrack(), c.frames, torch.zeros_like(c.first_mask)), ("frame 0", "no object")),
        (lambda c: propagate(masktrack(), c.frames, c.first_mask[:20]), ("20x32", "32x32")),
        (lambda c: propagate(masktrack(), c.frames.float(), c.first_mask), ("[0, 1]", "frame 1")),
        (lambda c: ids_to_onehot(c.masks, [1, 255]), ("255", "254")),
        (lambda c: Clip(c.frames, c.masks[:, :20]), ("[3, 20, 32]", "[3, 32, 32]")),
        (lambda c: sprites.make_clip(0, attributes=["rain"]), ("'rain'", "occlusion")),
        (lambda c: models.segmenter("mask-track"), ("'mask-track'", "masktrack")),
    ],
)
def test_wrong_arguments(call: Callable[[Clip], Any], names: tuple[str, ...]) -> None:
    clip = a_clip()
    clip.frames[1, 0, 0, 0] = 200  # so that frame 1, taken as floats, is out of range
    clip.frames[0] = 0
    with pytest.raises(TutorialError) as error:
        call(clip)
    text = str(error.value)
    assert "\n" not in text
    assert text.endswith(".")
    assert all(name in text for name in names), text


def test_one_frame_is_enough() -> None:
    clip = sprites.make_clip(0, size=32, length=1)
    assert torch.equal(propagate(masktrack(), clip.frames, clip.first_mask), clip.masks)


def test_a_full_disk_while_masks_are_written(
    davis: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fsync(descriptor: int) -> None:
        if len(list(Path("results").rglob("bad/*"))) == 3:  # two masks of the second sequence still fit
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", fsync)
    assert evaluate("copy-first", "--year", "2017") == 2
    require_one_sentence(
        capsys.readouterr().err.removeprefix("error: "), "results", "No space left", "free some space"
    )
    assert results() == [*(f"good/{t:05d}.png" for t in range(5)), "report.json"]


def test_no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def offline(*_: Any, **__: Any) -> None:
        raise urllib.error.URLError("Temporary failure in name resolution")

    monkeypatch.setattr(urllib.request, "urlopen", offline)
    monkeypatch.chdir(tmp_path)
    assert command_line.main(["download", "davis2016", "--root", "data"]) == 2
    require_one_sentence(capsys.readouterr().err.strip().splitlines()[-1].removeprefix("error: "), "no network")
    assert not [p for p in tmp_path.rglob("*") if p.is_file()]
