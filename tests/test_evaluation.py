"""Evaluation from clips to tables and folders of masks, and everything that can be wrong with what is asked."""

from __future__ import annotations

import argparse
import errno
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skimage.color
import skimage.io
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from vos_tutorial import __main__ as command_line
from vos_tutorial import models
from vos_tutorial.baselines import CopyFirst, by_name, copy_previous_truth
from vos_tutorial.clip import Clip, ids_to_onehot, object_ids, write_mask
from vos_tutorial.data.worlds.sprites import benchmark
from vos_tutorial.errors import TutorialError
from vos_tutorial.evaluation import (
    Report,
    Segmentation,
    evaluate,
    export,
    main,
    mask_swap_iou,
    require_mask_read,
    score,
    segment,
    settings_of,
)
from vos_tutorial.metrics import merge_objects, score_objects, statistics
from vos_tutorial.models.weights import save_weights
from vos_tutorial.propagation import Resized, Segmenter, propagate
from vos_tutorial.results import MARK

H, W = 24, 32


def moving_clip(name: str = "two", length: int = 6, attributes: tuple[str, ...] = (), objects: int = 2) -> Clip:
    """Squares that move right by one pixel a frame: object 1 above, object 4 below; the frame shows the ids."""
    masks = torch.zeros(length, H, W, dtype=torch.uint8)
    for t in range(length):
        masks[t, 2:9, 2 + t : 9 + t] = 1
        if objects == 2:
            masks[t, 12:21, 4 + t : 13 + t] = 4
    frames = (masks[:, None] * 50).expand(-1, 3, -1, -1).contiguous()
    return Clip(frames, masks, name, attributes)


class Oracle:
    """Reads the ids that :func:`moving_clip` paints into the frames; follows the objects that it was given."""

    def begin(self, frame: Tensor, mask: Tensor) -> None:
        self.objects = object_ids(mask)

    def introduce(self, frame: Tensor, mask: Tensor) -> None:
        self.objects += [i for i in object_ids(mask) if i not in self.objects]

    def step(self, frame: Tensor) -> Tensor:
        ids = (frame[0] * 255 / 50).round().to(torch.uint8)
        objects = ids_to_onehot(ids, self.objects)
        return torch.cat([~objects.any(0, keepdim=True), objects]).float()


class Salient(Oracle):
    """Ignores the given mask: whatever is not black is the object."""

    def step(self, frame: Tensor) -> Tensor:
        return torch.stack([frame[0] == 0, frame[0] != 0]).float()


class Blind(Oracle):
    """Answers background."""

    def step(self, frame: Tensor) -> Tensor:
        answer = torch.zeros(len(self.objects) + 1, *frame.shape[1:])
        answer[0] = 1
        return answer


# ------------------------------------------------------------------------------------------- baselines


def test_copy_first_is_a_segmenter_and_copies() -> None:
    clip = moving_clip()
    assert isinstance(CopyFirst(), Segmenter)
    ids = propagate(CopyFirst(), clip.frames, clip.first_mask)
    assert (ids == clip.first_mask).all()
    probabilities = propagate(CopyFirst(), clip.frames, clip.first_mask, probabilities=True)
    assert (probabilities.sum(1) == 1).all()


def test_copy_first_takes_later_objects() -> None:
    clip = moving_clip()
    first, new = clip.masks[0].clone(), clip.masks[2].clone()
    first[first == 4] = 0
    new[new == 1] = 0
    ids = propagate(CopyFirst(), clip.frames, first, later={2: new})
    assert (ids[1] == first).all()
    assert ((ids[5] == 4) == (new == 4)).all()
    assert ((ids[5] == 1) == ((first == 1) & (new != 4))).all()


def test_copy_previous_truth() -> None:
    masks = moving_clip().masks
    copied = copy_previous_truth(masks)
    assert (copied[0] == masks[0]).all()
    assert (copied[1:] == masks[:-1]).all()


# ------------------------------------------------------------------------------------------------ report


def test_rows_are_the_official_statistics_of_each_object() -> None:
    clip = moving_clip(attributes=("fast_motion",))
    report = evaluate(CopyFirst(), [clip])
    assert [(r.sequence, r.score.object, r.attributes) for r in report.rows] == [
        ("two", 1, ("fast_motion",)),
        ("two", 4, ("fast_motion",)),
    ]
    # a 7x7 square against itself t pixels to the left: 7 (7 - t) pixels in common, 7 (7 + t) in all
    expected = [(7 - t) / (7 + t) for t in range(6)]
    assert pytest.approx(expected) == report.rows[0].score.J
    assert pytest.approx(statistics(expected[1:5])) == report.rows[0].score.summary.J
    assert report.rows[0].seconds_per_frame > 0


def test_davis2016_gives_and_scores_one_object() -> None:
    clip = moving_clip()
    asked: list[list[int]] = []

    class Asked(Salient):
        def begin(self, frame: Tensor, mask: Tensor) -> None:
            asked.append(object_ids(mask))

    report = evaluate(Asked(), [clip], "davis2016")
    assert asked == [[1]]
    assert [row.score.object for row in report.rows] == [1]
    assert report.average().J_and_F == 1


def test_youtube_vos_introduces_later_objects() -> None:
    clip = moving_clip(length=11)
    masks = clip.masks.clone()
    masks[:5][masks[:5] == 4] = 0  # object 4 appears in frame 5
    masks[[t for t in range(11) if t % 5]] = 0
    clip = Clip(clip.frames, masks, "late", annotated=(0, 5, 10))
    report = evaluate(Oracle(), [clip], "youtube-vos")
    assert {r.score.object: r.score.frames.tolist() for r in report.rows} == {1: [5, 10], 4: [10]}
    assert report.average().J.mean == 1
    with pytest.raises(TutorialError, match=r"'late' has no mask for frame 1 .* youtube-vos"):
        evaluate(Oracle(), [clip], "davis2017")


def test_average_is_over_objects_and_by_attribute() -> None:
    one = moving_clip("one", attributes=("occlusion",), objects=1)
    two = moving_clip("two", attributes=("fast_motion", "occlusion"))
    report = evaluate(CopyFirst(), (clip for clip in (one, two)))
    j = [row.score.summary.J.mean for row in report.rows]
    assert report.average().J.mean == pytest.approx(sum(j) / 3)
    table = report.by_attribute()
    assert list(table) == ["fast_motion", "occlusion"]
    assert table["fast_motion"].J.mean == pytest.approx((j[1] + j[2]) / 2)
    assert table["occlusion"] == report.average()


def test_clips_stream() -> None:
    alive: list[str] = []

    def clips() -> Any:
        for name in ("a", "b", "c"):
            alive.append(name)
            yield moving_clip(name)

    class Watching(CopyFirst):
        def begin(self, frame: Tensor, mask: Tensor) -> None:
            seen.append(list(alive))
            super().begin(frame, mask)

    seen: list[list[str]] = []
    evaluate(Watching(), clips())
    assert seen == [["a"], ["a", "b"], ["a", "b", "c"]]


def test_table_is_aligned_and_repeats() -> None:
    clips = [moving_clip("a-long-name", attributes=("occlusion",)), moving_clip("b", objects=1)]
    report, again = (evaluate(CopyFirst(), clips, method="copy-first") for _ in range(2))
    text = report.table()
    assert text == again.table()
    lines = text.splitlines()
    assert lines[0] == "copy-first, davis2017: 3 object(s) in 2 clip(s), percent"
    head = lines[1]
    for line in (x for x in lines[3:] if len(x.split()) > 9):
        assert len(line) == len(head), "the last column ends where its head ends"
    assert lines[3].split()[:2] == ["a-long-name", "1"]
    (average,) = (x for x in lines if x.startswith("average"))
    assert average.split()[-1] == f"{100 * report.average().J_and_F:.1f}"
    assert lines[-1].split()[:2] == ["occlusion", "2"]
    timed = report.table(timing=True).splitlines()
    assert timed[1].endswith("ms/frame")
    assert len(timed[3]) == len(timed[1])


def test_report_round_trips_through_json(tmp_path: Path) -> None:
    clip = moving_clip(length=11)
    masks = clip.masks.clone()
    masks[1] = 0
    clip = Clip(clip.frames, masks, "gap", annotated=tuple(t for t in range(11) if t != 1))
    report = evaluate(CopyFirst(), [clip], "youtube-vos", method="copy-first")
    report.save(tmp_path / "deep" / "report.json")
    content = json.loads((tmp_path / "deep" / "report.json").read_text("utf-8"), parse_constant=pytest.fail)
    assert content["method"] == "copy-first"
    assert content["average"]["J&F"] == pytest.approx(report.average().J_and_F, abs=1e-6)
    first = content["objects"][0]
    assert first["J_per_frame"][1] is None, "no truth, no number"
    assert first["J_per_frame"][2] == pytest.approx(report.rows[0].score.J[2], abs=1e-6)
    assert first["J"]["decay"] == pytest.approx(report.rows[0].score.summary.J.decay, abs=1e-6)


def test_what_cannot_be_evaluated_is_named() -> None:
    clip = moving_clip("shorty")
    short = Clip(clip.frames[:2], clip.masks[:2], "shorty")
    with pytest.raises(TutorialError, match=r"'shorty' has 2 frames.*at least three"):
        evaluate(CopyFirst(), [short])
    nothing = Clip(clip.frames, torch.zeros_like(clip.masks), "bare")
    with pytest.raises(TutorialError, match=r"'bare'.*holds no object"):
        evaluate(CopyFirst(), [nothing])
    with pytest.raises(TutorialError, match="no clip to evaluate"):
        evaluate(CopyFirst(), [])
    with pytest.raises(TutorialError, match="no protocol 'davis2018'"):
        evaluate(CopyFirst(), [clip], "davis2018")  # type: ignore[arg-type]
    with pytest.raises(TutorialError, match=r"'shorty'.*same"):
        score(clip, Segmentation(clip.masks[:, :-1], 0.1))
    with pytest.raises(TutorialError, match="no score"):
        Report("none", "davis2017", ()).average()


def test_the_method_is_not_run_on_a_clip_that_cannot_be_scored() -> None:
    class Never(CopyFirst):
        def begin(self, frame: Tensor, mask: Tensor) -> None:
            pytest.fail("it ran")

    clip = moving_clip()
    with pytest.raises(TutorialError, match="three frames"):
        evaluate(Never(), [Clip(clip.frames[:2], clip.masks[:2], "short")])


def test_mask_swap_tells_listening_from_ignoring() -> None:
    clip = moving_clip()
    assert mask_swap_iou(Oracle, clip) == 0
    assert mask_swap_iou(Salient, clip) == 1
    assert np.isnan(mask_swap_iou(Blind, clip)), "two empty answers are no proof of anything"
    with pytest.raises(TutorialError, match="two objects"):
        mask_swap_iou(Oracle, moving_clip(objects=1))


# ------------------------------------------------------------------------------------------------- export


def shown(folder: Path) -> list[str]:
    """The names in a folder of results, without the mark that says what is ours."""
    return sorted(path.name for path in folder.iterdir() if path.name != MARK)


def load_like_davis2017(folder: Path, names: list[str], objects: int) -> NDArray[np.bool_]:
    """As the toolkit of DAVIS-2017 reads results: indices of a palette PNG, one channel per id; 255 is an error."""
    ids = np.stack([np.array(Image.open(folder / f"{name}.png")) for name in names])
    assert ids.ndim == 3
    assert ids.max() <= objects, "index higher than the number of objects"
    return np.stack([ids == i for i in range(1, objects + 1)])


def load_like_davis2016(folder: Path) -> NDArray[np.bool_]:
    """As the toolkit of DAVIS-2016 reads results: every PNG of the folder, as grey, anything but black is object."""
    files = sorted(folder.glob("*.png"))
    assert [int(f.stem) for f in files] == list(range(len(files)))
    pictures = [skimage.io.imread(f) for f in files]
    return np.stack([(skimage.color.rgb2gray(p[..., :3]) if p.ndim == 3 else p).astype(bool) for p in pictures])


def test_export_is_read_back_by_both_official_loaders(tmp_path: Path) -> None:
    clip = moving_clip()
    export(clip.masks, tmp_path / "two")
    names = [f"{t:05d}" for t in range(6)]
    loaded = load_like_davis2017(tmp_path / "two", names, 4)
    assert (loaded[0] == (clip.masks == 1).numpy()).all()
    assert (loaded[3] == (clip.masks == 4).numpy()).all()
    assert Image.open(tmp_path / "two" / "00000.png").mode == "P"

    merged = torch.from_numpy(merge_objects(clip.masks.numpy()))
    export(merged, tmp_path / "one")
    truth = (clip.masks != 0).numpy()
    assert (load_like_davis2016(tmp_path / "one") == truth).all()
    assert (load_like_davis2017(tmp_path / "one", names, 1)[0] == truth).all()


def test_export_replaces_an_earlier_run_and_nothing_else(tmp_path: Path) -> None:
    masks = moving_clip().masks
    export(masks, tmp_path / "s")
    export(masks[:3], tmp_path / "s", ["00000", "00005", "00010"])
    assert sorted(p.name for p in (tmp_path / "s").iterdir()) == ["00000.png", "00005.png", "00010.png"]
    assert shown(tmp_path) == ["s"]
    (tmp_path / "s" / "notes.txt").write_text("mine")
    with pytest.raises(TutorialError, match=r"notes\.txt"):
        export(masks, tmp_path / "s")
    assert len(list((tmp_path / "s").iterdir())) == 4
    with pytest.raises(TutorialError, match="6 masks but 1 names"):
        export(masks, tmp_path / "t", ["00000"])
    (tmp_path / "file").write_text("mine")
    with pytest.raises(TutorialError, match="no mask"):
        export(masks, tmp_path / "file")


def test_a_full_disk_leaves_the_earlier_masks_and_no_half(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    masks = moving_clip().masks
    export(masks, tmp_path / "s")
    before = (tmp_path / "s" / "00003.png").read_bytes()
    save, written = Image.Image.save, []

    def full(self: Image.Image, path: Any, *args: Any, **options: Any) -> None:
        written.append(path)
        if len(written) == 4:
            raise OSError(errno.ENOSPC, "No space left on device")
        save(self, path, *args, **options)

    monkeypatch.setattr(Image.Image, "save", full)
    for folder in ("s", "new"):
        written.clear()
        with pytest.raises(TutorialError, match="No space left"):
            export(masks * 0, tmp_path / folder)
    assert shown(tmp_path) == ["s"]
    assert (tmp_path / "s" / "00003.png").read_bytes() == before


def test_export_where_no_folder_can_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(TutorialError, match="another folder"):
        export(moving_clip().masks, tmp_path / "file" / "s")


# ------------------------------------------------------------------------------------------- command line


@pytest.fixture
def davis(tmp_path: Path) -> Path:
    """Two sequences in DAVIS-2017 layout, also listed for 2016, and a test list."""
    root = tmp_path / "DAVIS"
    for name in ("alpha", "beta"):
        clip = moving_clip(name, objects=2 if name == "alpha" else 1)
        for kind in ("JPEGImages", "Annotations"):
            (root / kind / "480p" / name).mkdir(parents=True)
        for t in range(len(clip)):
            picture = Image.fromarray(clip.frames[t].permute(1, 2, 0).numpy())
            picture.save(root / "JPEGImages" / "480p" / name / f"{t:05d}.jpg")
            write_mask(root / "Annotations" / "480p" / name / f"{t:05d}.png", clip.masks[t])
    for year in ("2016", "2017"):
        (root / "ImageSets" / year).mkdir(parents=True)
        for split in ("val", "test-dev"):
            (root / "ImageSets" / year / f"{split}.txt").write_text("alpha\nbeta\n")
    return root


@pytest.mark.parametrize(("year", "objects"), [(2016, 2), (2017, 3)])
def test_command_line(
    davis: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], year: int, objects: int
) -> None:
    out = tmp_path / "results"
    arguments = ["copy-first", "--data", str(davis), "--year", str(year), "--out", str(out), "--device", "cpu"]
    for _ in range(2):  # a second run replaces the first
        assert command_line.main(["evaluate", *arguments]) == 0
    said = capsys.readouterr().out
    assert f"{objects} object(s) in 2 clip(s)" in said
    report = json.loads((out / "report.json").read_text("utf-8"))
    assert len(report["objects"]) == objects
    assert report["protocol"] == f"davis{year}"
    truth = moving_clip().masks.numpy()
    masks = np.stack([np.array(Image.open(out / "alpha" / f"{t:05d}.png")) for t in range(6)])
    given = truth[0] if year == 2017 else merge_objects(truth[0])
    assert (masks == given).all()
    protocol = report["protocol"]
    rescored = score_objects(truth, masks, protocol)
    assert rescored[0].summary.J.mean == pytest.approx(report["objects"][0]["J"]["mean"], abs=1e-6)


def test_command_line_runs_a_network_from_a_file(davis: Path, tmp_path: Path) -> None:
    weights = tmp_path / "w.safetensors"
    save_weights(weights, models.build("masktrack"), {"method": "masktrack", "size": "small"})
    out = tmp_path / "results"
    arguments = ["masktrack", "--data", str(davis), "--out", str(out), "--weights", str(weights), "--device", "cpu"]
    arguments += ["--sequences", "beta", "--short-side", "16"]
    with pytest.raises(TutorialError, match=r"does not read its mask|empty masks only"):
        main(arguments)  # random weights
    assert not out.exists()
    assert main([*arguments, "--anyway"]) == 0
    assert shown(out) == ["beta", "report.json"]
    assert Image.open(out / "beta" / "00005.png").size == (W, H), "full size, whatever the method worked at"


@pytest.mark.parametrize(("variant", "name"), [("photos", "stm:photos"), (None, "stm")])
def test_the_command_line_runs_the_variant_that_it_is_told(
    davis: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    variant: str | None,
    name: str,
) -> None:
    """And says so in the report, in the word that ``compare`` has for it."""
    asked: list[tuple[str, ...]] = []

    def segmenter(*what: str, device: torch.device) -> CopyFirst:
        asked.append(what)
        return CopyFirst()

    monkeypatch.setattr(models, "segmenter", segmenter)
    out = tmp_path / "results"
    told = ["--variant", variant] if variant else []
    assert main(["stm", *told, "--data", str(davis), "--out", str(out), "--device", "cpu"]) == 0
    assert asked == [("stm", "shipped", variant or "")]
    assert json.loads((out / "report.json").read_text("utf-8"))["method"] == name
    assert f"\n{name}, davis2016: " in capsys.readouterr().out


def test_command_line_without_truth_only_exports(
    davis: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for later in (davis / "Annotations").glob("480p/*/0000[1-9].png"):
        later.unlink()
    out = tmp_path / "results"
    arguments = ["copy-first", "--data", str(davis), "--year", "2017", "--split", "test-dev", "--out", str(out)]
    assert main([*arguments, "--device", "cpu"]) == 0
    assert "no ground truth to score" in capsys.readouterr().out
    assert shown(out) == ["alpha", "beta"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"method": "osvos"}, "no method 'osvos'; choose from masktrack, rgmp, rvos, stm, stcnn"),
        ({"--data": "nowhere"}, "no DAVIS folder nowhere"),
        ({"--year": "2018"}, "no DAVIS-2018"),
        ({"--split": "trian"}, "split 'trian'"),
        ({"--sequences": "alpha,gamma"}, "no clip 'gamma'"),
        ({"method": "masktrack", "--weights": "none.safetensors"}, "no weights file none.safetensors"),
        ({"method": "stm", "--variant": "photo"}, "stm ships no variant 'photo'; it has paper-form, "),
        ({"method": "stm", "--variant": "photos", "--weights": "mine.safetensors"}, "leave it out with mine."),
        ({"--variant": "photos"}, "copy-first has no weights; leave --weights and --variant out"),
        ({"--device": "abacus"}, "no device 'abacus'"),
        ({"--out": "DAVIS/Annotations/480p"}, "the data set's Annotations"),
        ({"--out": "DAVIS/ImageSets/2016/val.txt"}, "the data set's ImageSets"),
        ({"--out": "file"}, "is a file"),
    ],
)
def test_command_line_says_what_is_wrong_in_one_sentence(
    davis: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    change: dict[str, str],
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("mine")
    before = sorted(tmp_path.rglob("*"))
    given = {"method": "copy-first", "--data": "DAVIS", "--out": "results", "--device": "cpu", **change}
    method = given.pop("method")
    assert command_line.main(["evaluate", method, *(word for pair in given.items() for word in pair)]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert sorted(tmp_path.rglob("*")) == before


def test_segment_sees_no_more_truth_than_the_first_mask() -> None:
    clip = moving_clip()
    hidden = clip.masks.clone()
    hidden[1:] = 0
    a = segment(CopyFirst(), clip).ids
    b = segment(CopyFirst(), Clip(clip.frames, hidden, "hidden")).ids
    assert (a == b).all()


def test_a_score_is_believed_only_if_the_mask_is_read() -> None:
    clips = list(benchmark(2, ["multiple_objects"]))
    assert require_mask_read(CopyFirst, clips) == 0

    class Salient(CopyFirst):
        """Answers with the same square, whatever it is given."""

        def begin(self, frame: Tensor, mask: Tensor) -> None:
            square = torch.zeros_like(mask)
            square[20:60, 20:60] = mask.max()
            super().begin(frame, square)

    with pytest.raises(TutorialError, match=r"IoU 1\.00, allowed 0\.2"):
        require_mask_read(Salient, clips)


@pytest.mark.parametrize(
    ("method", "short_side", "tuning", "settings"),
    [
        ("copy-first", None, None, {}),
        ("copy-first", 64, None, {"short_side": 64}),
        ("masktrack", None, None, {}),  # as the weights' file says: tests/test_segmenter_door.py
        ("masktrack", 64, 7, {"short_side": 64, "online_steps": 7}),
        ("masktrack", None, 0, {"online_steps": 0}),
        ("stm", None, 0, {}),
    ],
)
def test_what_the_command_line_says_goes_to_the_segmenter(
    method: str, short_side: int | None, tuning: int | None, settings: dict[str, int]
) -> None:
    options = argparse.Namespace(method=method, short_side=short_side, tuning=tuning)
    assert settings_of(options) == settings


def test_a_segmenter_by_name() -> None:
    assert isinstance(by_name("copy-first"), CopyFirst)
    smaller = by_name("colour-memory", short_side=48)
    assert isinstance(smaller, Resized)
    for given in ({"weights": "shipped"}, {"variant": "photos"}):
        with pytest.raises(TutorialError, match="colour-memory has no weights; leave --weights and --variant out"):
            by_name("colour-memory", **given)
    with pytest.raises(
        TutorialError, match=r"there is no method 'sam'; choose from masktrack, .*label-propagation\."
    ):
        by_name("sam")
    with pytest.raises(TutorialError, match="weights are ''"):
        by_name("stm", weights="")
    with pytest.raises(TutorialError, match="stm ships no variant 'none'"):
        by_name("stm", variant="none")


def test_only_some_methods_can_be_tuned() -> None:
    with pytest.raises(TutorialError, match="stm has no tuning to frame 0; leave --tuning out"):
        settings_of(argparse.Namespace(method="stm", short_side=None, tuning=5))
