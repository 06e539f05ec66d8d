"""``python -m vos_tutorial track``: from a video and a mask to exports, and on from there."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from vos_tutorial import baselines, models
from vos_tutorial.__main__ import main as vos_tutorial
from vos_tutorial.baselines import CopyFirst
from vos_tutorial.clip import read_mask, write_mask
from vos_tutorial.data import make_clip
from vos_tutorial.errors import TutorialError
from vos_tutorial.models import segmenter
from vos_tutorial.propagation import propagate
from vos_tutorial.video import Project, Video, write_video
from vos_tutorial.video.command import main

pytest.importorskip("av")

CLIP = make_clip(3, size=64, length=5, attributes=("multiple_objects",))


@pytest.fixture
def video(tmp_path: Path) -> Path:
    write_video(tmp_path / "clip.mp4", list(CLIP.frames), [Fraction(t, 8) for t in range(5)])
    write_mask(tmp_path / "mask.png", CLIP.first_mask)
    return tmp_path / "clip.mp4"


def masks_in(folder: Path) -> torch.Tensor:
    return torch.stack([read_mask(path) for path in sorted(folder.glob("*.png"))])


def test_from_a_video_and_a_mask_to_exports(video: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    command = ["track", str(video), "--mask", str(tmp_path / "mask.png"), "--out", str(out)]
    assert vos_tutorial(command) == 0
    said = capsys.readouterr().out
    assert "5 of 5 frames computed" in said
    assert f"written: {out / 'overlay.mp4'}" in said
    frames = torch.stack(list(Video(video)))
    expected = propagate(segmenter("stm", variant="photos"), frames, CLIP.first_mask)  # by default: for real video
    assert torch.equal(masks_in(out / "masks"), expected)
    assert Video(out / "overlay.mp4").times == Video(video).times
    assert vos_tutorial(command) == 0  # again: nothing is left to compute
    assert "0 of 5 frames computed" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("method", "options", "variant", "tuned"),
    [
        *((method, [], "photos", "for 120 steps" if method == "stcnn" else "") for method in models.METHODS),
        ("stcnn", ["--variant", ""], "", "for 60 steps"),
        ("masktrack", ["--variant", ""], "", ""),  # the small network that knows generated clips
        ("stm", ["--weights", str(models.shipped_weights("stm"))], "", ""),
    ],
)
def test_a_method_follows_with_its_network_for_real_video(
    video: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    method: str,
    options: list[str],
    variant: str,
    tuned: str,
) -> None:
    made = []

    def instead(name: str, weights: str | Path, variant: str, device: torch.device) -> CopyFirst:
        made.append((name, str(weights), variant))
        return CopyFirst()

    monkeypatch.setattr(models, "segmenter", instead)
    mask, out = str(tmp_path / "mask.png"), str(tmp_path / "out")
    command = [str(video), "--mask", mask, "--out", out, "--export", "masks", "--method", method, *options]
    main(command)
    assert made == [(method, options[1] if "--weights" in options else "shipped", variant)]
    said = capsys.readouterr().out
    assert (f"{method} is tuned to each object first" in said) is bool(tuned)
    assert tuned in said
    main(command)
    assert "is tuned" not in capsys.readouterr().out, "nothing is left to compute"


def test_a_project_goes_on_with_a_correction(video: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    project = tmp_path / "project"
    main([str(video), "--mask", str(tmp_path / "mask.png"), "--project", str(project), "--method", "copy-first"])
    only_first = torch.where(CLIP.masks[2] == 1, 1, 0).byte()
    write_mask(tmp_path / "late.png", only_first)
    main(["--project", str(project), "--mask", f"2={tmp_path / 'late.png'}", "--method", "copy-first"])
    assert "3 of 5 frames computed" in capsys.readouterr().out
    exported = masks_in(project / "exports" / "masks")
    assert torch.equal(exported[4] == 1, CLIP.masks[2] == 1)
    assert torch.equal(exported[1], CLIP.first_mask)
    kept = Project.open(project)
    assert kept.given(1) == {0: "first", 2: "correction"}
    assert kept.given(2) == {0: "first"}


def test_white_on_black_is_one_object_and_masks_fit_the_full_size(video: Path, tmp_path: Path) -> None:
    Image.fromarray(np.where(CLIP.first_mask > 0, np.uint8(255), np.uint8(0))).save(tmp_path / "white.png")
    options = ["--max-side", "32", "--every", "2", "--method", "label-propagation", "--export", "numpy"]
    main([str(video), "--mask", str(tmp_path / "white.png"), "--out", str(tmp_path / "out"), *options])
    with np.load(tmp_path / "out" / "masks.npz") as arrays:
        assert arrays["ids"].shape == (3, 32, 32)
        assert set(np.unique(arrays["ids"])) == {0, 1}


def test_masks_that_cannot_be(video: Path, tmp_path: Path) -> None:
    def refused(mask: np.ndarray, words: str) -> None:
        Image.fromarray(mask).save(tmp_path / "wrong.png")
        with pytest.raises(TutorialError, match=words):
            main([str(video), "--mask", str(tmp_path / "wrong.png"), "--out", str(tmp_path / "out")])

    refused(np.ones((48, 64), np.uint8), "is 64x48 but the frames of .* are 64x64; paint it on a frame")
    refused(np.zeros((64, 64), np.uint8), "holds no object: all of it is 0")
    refused(np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8), "is a RGB picture")
    with pytest.raises(TutorialError, match=r"no\.png"):
        main([str(video), "--mask", str(tmp_path / "no.png"), "--out", str(tmp_path / "out")])
    write_mask(tmp_path / "wrong.png", torch.arange(64 * 64).reshape(64, 64).byte())
    with pytest.raises(TutorialError, match="holds 255 ids, but a mask has room for 254 objects"):
        main([str(video), "--mask", str(tmp_path / "wrong.png"), "--out", str(tmp_path / "out")])
    write_mask(tmp_path / "late.png", CLIP.first_mask)
    with pytest.raises(TutorialError, match=r"no frame 40; the video has frames 0\.\.4"):
        main([str(video), "--mask", f"40={tmp_path / 'late.png'}", "--out", str(tmp_path / "out")])


def test_without_a_mask_there_is_a_picture_to_paint_on(video: Path, tmp_path: Path) -> None:
    with pytest.raises(TutorialError, match=r"nothing says what to follow; paint the objects over a copy of"):
        main([str(video), "--out", str(tmp_path / "out")])
    with Image.open(tmp_path / "out" / "frame_00000.png") as image:
        assert np.array_equal(np.array(image), Video(video).frame(0).permute(1, 2, 0).numpy())


def test_other_things_that_cannot_be(video: Path, tmp_path: Path) -> None:
    mask, out = str(tmp_path / "mask.png"), str(tmp_path / "out")
    with pytest.raises(TutorialError, match="there is no place for the result; add --out"):
        main([str(video), "--mask", mask])
    with pytest.raises(TutorialError, match="there is no method 'sam'; choose from masktrack"):
        main([str(video), "--mask", mask, "--out", out, "--method", "sam"])
    with pytest.raises(TutorialError, match="there is no export 'avi'"):
        main([str(video), "--mask", mask, "--out", out, "--export", "avi"])
    with pytest.raises(TutorialError, match="copy-first has no weights"):
        main([str(video), "--mask", mask, "--out", out, "--method", "copy-first", "--variant", "photos"])
    with pytest.raises(TutorialError, match="were settled when the project began"):
        main(["--project", out, "--every", "2"])
    with pytest.raises(TutorialError, match="is no project yet"):
        main(["--project", out])
    write_video(tmp_path / "one.mp4", CLIP.frames[:1], [0])
    with pytest.raises(TutorialError, match="has one frame, so there is nowhere to follow anything to"):
        main([str(tmp_path / "one.mp4"), "--mask", mask, "--out", out])


def test_stopped_by_ctrl_c_and_taken_up_again(
    video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Interrupted(CopyFirst):
        steps = 0

        def _predict(self, frame: torch.Tensor) -> torch.Tensor:
            self.steps += 1
            if self.steps == 3:
                raise KeyboardInterrupt
            return super()._predict(frame)

    mask, out = str(tmp_path / "mask.png"), tmp_path / "out"
    again = ["track", str(video), "--mask", mask, "--out", str(out), "--method", "copy-first"]
    with monkeypatch.context() as patch:
        patch.setitem(baselines.BASELINES, "copy-first", Interrupted)
        assert vos_tutorial(again) == 130
    assert "run the same command again to go on" in capsys.readouterr().err
    assert len(list((out / "project" / "results" / "001").iterdir())) == 2  # what was computed is kept
    assert vos_tutorial(again) == 0
    assert torch.equal(masks_in(out / "masks"), CLIP.first_mask.expand(5, -1, -1))
