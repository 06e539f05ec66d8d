"""Nothing is lost: what evaluate replaces, removes, protects, and leaves behind when it is stopped."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from vos_tutorial import __main__ as command_line
from vos_tutorial import baselines, evaluation
from vos_tutorial.baselines import CopyFirst
from vos_tutorial.data.davis import YouTubeVosFolder
from vos_tutorial.errors import TutorialError
from vos_tutorial.evaluation import export
from vos_tutorial.files import write_atomically
from vos_tutorial.results import MARK, ResultsFolder

H, W = 48, 64


def mask(t: int, width: int = W) -> np.ndarray:
    ids = np.zeros((H, W), np.uint8)
    ids[10:24, 8 + t : 24 + t] = 1
    return ids[:, :width].copy()


def data_set(root: Path, names: str = "abc", length: int = 5, width: int = W) -> Path:
    """DAVIS-2017 with one object that moves; ``width`` of the masks."""
    for name in names:
        for kind, ending in (("JPEGImages", "jpg"), ("Annotations", "png")):
            (root / kind / "480p" / name).mkdir(parents=True)
            for t in range(length):
                pixels = mask(t, width if ending == "png" else W)
                Image.fromarray(pixels).save(root / kind / "480p" / name / f"{t:05d}.{ending}")
    (root / "ImageSets" / "2017").mkdir(parents=True)
    (root / "ImageSets" / "2017" / "val.txt").write_text("".join(f"{name}\n" for name in names))
    return root


def run(data: Path, out: Path, *more: str) -> int:
    arguments = ["copy-first", "--data", str(data), "--year", "2017", "--out", str(out), "--device", "cpu", *more]
    return command_line.main(["evaluate", *arguments])


def content(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def sequences(out: Path) -> set[str]:
    return {row["sequence"] for row in json.loads((out / "report.json").read_text("utf-8"))["objects"]}


# ---------------------------------------------------------------------------------------- what must not be touched


def the_link(t: Path) -> tuple[Path, Path]:
    data = data_set(t / "d")
    shutil.move(data / "Annotations/480p", t / "big")
    (data / "Annotations/480p").symlink_to(t / "big")
    return data, t / "big"


def one_linked_sequence(t: Path) -> tuple[Path, Path]:
    data = data_set(t / "d")
    shutil.move(data / "Annotations/480p/a", t / "far")
    (data / "Annotations/480p/a").symlink_to(t / "far")
    return data, t / "far"


def linked_out(t: Path) -> tuple[Path, Path]:
    (t / "album/a").mkdir(parents=True)
    shutil.copytree(t / "album/a", t / "real")
    Image.fromarray(mask(0)).save(t / "real/00000.png")
    shutil.rmtree(t / "album/a")
    (t / "album/a").symlink_to(t / "real")
    return data_set(t / "d"), t / "album"


def an_album(t: Path, name: str = "holiday0.png") -> tuple[Path, Path]:
    (t / "album/a").mkdir(parents=True)
    Image.fromarray(mask(0)).save(t / "album/a" / name)
    return data_set(t / "d"), t / "album"


def voc(t: Path) -> tuple[Path, Path]:
    (t / "VOC2012/JPEGImages").mkdir(parents=True)
    (t / "VOC2012/SegmentationObject/a").mkdir(parents=True)
    return data_set(t / "d"), t / "VOC2012/SegmentationObject"


def stills(t: Path) -> tuple[Path, Path]:
    (t / "s/images").mkdir(parents=True)
    (t / "s/masks/a").mkdir(parents=True)
    Image.fromarray(mask(0)).save(t / "s/masks/a/00000.png")
    return data_set(t / "d"), t / "s/masks"


@pytest.mark.parametrize(
    "place",
    [
        the_link,
        one_linked_sequence,
        linked_out,
        an_album,
        lambda t: an_album(t, "00000.png"),
        voc,
        stills,
        lambda t: (data_set(t / "d"), t / "d"),
        lambda t: (data_set(t / "d"), t / "d/new"),
        lambda t: (data_set(t / "d"), t / "d/Annotations_unsupervised/480p"),
        lambda t: (data_set(t / "d"), data_set(t / "other", length=9) / "Annotations/480p"),
        lambda t: (data_set(t / "d"), data_set(t / "other", length=9) / "mine"),
        lambda t: (data_set(t / "d"), t / "d" / ".." / "d" / "Annotations" / "480p"),
    ],
)
def test_what_was_not_written_here_stays(tmp_path: Path, capsys: pytest.CaptureFixture[str], place: Any) -> None:
    data, out = place(tmp_path)
    before = content(tmp_path)
    assert run(data, out) == 2
    assert content(tmp_path) == before
    assert capsys.readouterr().err.count("\n") == 1


def test_a_report_of_somebody_else_stays(tmp_path: Path) -> None:
    data = data_set(tmp_path / "d")
    (tmp_path / "out").mkdir()
    (tmp_path / "out/report.json").write_text("my own")
    assert run(data, tmp_path / "out") == 2
    assert (tmp_path / "out/report.json").read_text() == "my own"


def test_a_mask_that_was_corrected_by_hand_is_not_ours_any_more(tmp_path: Path) -> None:
    data, out = data_set(tmp_path / "d"), tmp_path / "out"
    assert run(data, out) == 0
    Image.fromarray(mask(3)).save(out / "b/00002.png")
    before = content(out)
    assert run(data, out) == 2
    assert content(out) == before


@pytest.mark.parametrize("damage", [b"", b"{", b'{"files": 3}', b"[]"])
def test_a_damaged_mark_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str], damage: bytes) -> None:
    data, out = data_set(tmp_path / "d"), tmp_path / "out"
    assert run(data, out) == 0
    (out / MARK).write_bytes(damage)
    before = content(out)
    capsys.readouterr()
    assert run(data, out) == 2
    assert "is damaged" in capsys.readouterr().err
    assert content(out) == before


def test_what_file_managers_leave_is_neither_in_the_way_nor_removed(tmp_path: Path) -> None:
    data, out = data_set(tmp_path / "d"), tmp_path / "out"
    assert run(data, out) == 0
    for name in (".DS_Store", "Thumbs.db", "desktop.ini", "._00000.png"):
        for folder in (
            out,
            out / "b",
            data / "JPEGImages/480p/a",
            data / "Annotations/480p/b",
            data / "JPEGImages/480p",
        ):
            (folder / name).write_bytes(b"x")
    (out / "report.json").unlink()
    assert run(data, out, "--sequences", "a") == 0
    assert sequences(out) == {"a"}
    assert sorted(p.name for p in (out / "b").iterdir()) == [".DS_Store", "._00000.png", "Thumbs.db", "desktop.ini"]


def test_a_run_of_fewer_sequences_leaves_no_masks_without_a_row(tmp_path: Path) -> None:
    data, out = data_set(tmp_path / "d"), tmp_path / "out"
    assert run(data, out) == 0
    (out / "notes.txt").write_text("mine")
    assert run(data, out, "--sequences", " b ,, b") == 0
    assert sorted(p.name for p in out.iterdir()) == [MARK, "b", "notes.txt", "report.json"]
    assert sequences(out) == {"b"}


def test_a_linked_folder_of_results_is_fine(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "out").symlink_to(tmp_path / "disk")
    assert [run(data_set(tmp_path / "d"), tmp_path / "out"), run(tmp_path / "d", tmp_path / "out")] == [0, 0]
    assert (tmp_path / "disk/a/00004.png").is_file()


# ----------------------------------------------------------------------------------------------- before the first


@pytest.mark.parametrize(
    "what", ["mask missing", "first mask empty", "frame missing", "another size", "file no picture"]
)
def test_the_last_sequence_is_looked_at_before_the_first_is_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    data = data_set(tmp_path / "d")
    last = data / "Annotations/480p/c"
    if what == "mask missing":
        (last / "00003.png").unlink()
    elif what == "first mask empty":
        Image.fromarray(np.zeros((H, W), np.uint8)).save(last / "00000.png")
    elif what == "frame missing":
        (data / "JPEGImages/480p/c/00003.jpg").unlink()
    elif what == "another size":
        Image.fromarray(mask(0)[:20]).save(last / "00000.png")
    else:
        (last / "00000.png").write_text("hello")
    monkeypatch.setattr(evaluation, "segment", lambda *_: pytest.fail("a clip was followed"))
    assert run(data, tmp_path / "out") == 2
    assert not (tmp_path / "out").exists()


def test_the_number_of_bad_sequences_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = data_set(tmp_path / "d")
    for name in "bc":
        (data / f"Annotations/480p/{name}/00003.png").unlink()
    assert run(data, tmp_path / "out") == 2
    assert "2 of 3 sequences cannot be followed" in capsys.readouterr().err


@pytest.mark.parametrize("said", ["", " , ", "a,../b", "a,b/c"])
def test_a_list_of_sequences_that_names_none_or_leads_elsewhere(tmp_path: Path, said: str) -> None:
    assert run(data_set(tmp_path / "d"), tmp_path / "out", "--sequences", said) == 2
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("out", ["file", "file/below", "", " "])
def test_out_must_be_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, out: str) -> None:
    monkeypatch.chdir(tmp_path)
    data_set(tmp_path / "d")
    Path("file").write_text("mine")
    assert command_line.main(["evaluate", "copy-first", "--data", "d", "--year", "2017", "--out", out]) == 2
    assert sorted(os.listdir()) == ["d", "file"]


@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="needs root, to become someone else")
def test_a_folder_that_may_not_be_written_is_told_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = data_set(tmp_path / "d")
    for folder in (tmp_path, *tmp_path.parents[:3]):
        os.chmod(folder, 0o755)
    monkeypatch.setattr(evaluation, "segment", lambda *_: pytest.fail("a clip was followed"))
    os.seteuid(65534)
    try:
        with pytest.raises(TutorialError, match="ask for the right to write there"):
            evaluation.main(["copy-first", "--data", str(data), "--year", "2017", "--out", str(tmp_path / "out")])
    finally:
        os.seteuid(0)


# -------------------------------------------------------------------------------------------------- while it runs


class Crash(CopyFirst):
    """Fails at the third clip."""

    begun = 0

    def begin(self, frame: torch.Tensor, mask: torch.Tensor) -> None:
        Crash.begun += 1
        if Crash.begun == 3:
            raise Crash.how
        super().begin(frame, mask)

    how: BaseException = TutorialError("the third clip is too much; stop here.")


@pytest.mark.parametrize("how", [TutorialError("too much; stop."), KeyboardInterrupt(), MemoryError()])
def test_a_run_that_breaks_off_keeps_the_rows_it_had(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: BaseException
) -> None:
    data, out = data_set(tmp_path / "d"), tmp_path / "out"
    Crash.begun, Crash.how = 0, how
    monkeypatch.setitem(baselines.BASELINES, "copy-first", Crash)
    with contextlib.suppress(MemoryError):
        assert run(data, out) in (2, 130)
    report = json.loads((out / "report.json").read_text("utf-8"))
    assert [row["sequence"] for row in report["objects"]] == ["a", "b"]
    assert report["pending"] == ["c"]
    assert sorted(p.name for p in out.iterdir()) == [MARK, "a", "b", "report.json"]
    monkeypatch.undo()
    assert run(data, out) == 0
    assert sequences(out) == {"a", "b", "c"}
    assert "pending" not in json.loads((out / "report.json").read_text("utf-8"))


def test_a_closed_pipe_ends_quietly(tmp_path: Path) -> None:
    data, out = data_set(tmp_path / "d"), tmp_path / "out"
    command = [sys.executable, "-m", "vos_tutorial", "evaluate", "copy-first", "--data", str(data), "--year", "2017"]
    with subprocess.Popen([*command, "--out", str(out)], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.close()
        assert child.stderr is not None
        assert child.stderr.read() == b""
    assert sequences(out) == {"a"}


def test_two_runs_do_not_write_into_one_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, out = data_set(tmp_path / "d"), tmp_path / "out"
    waits = (
        "import sys, time; from vos_tutorial import evaluation\n"
        "evaluation.segment = lambda *_: time.sleep(60)\nevaluation.main(sys.argv[1:])"
    )
    arguments = ["copy-first", "--data", str(data), "--year", "2017", "--out", str(out), "--device", "cpu"]
    with subprocess.Popen([sys.executable, "-c", waits, *arguments]) as child:
        while not (out / MARK).exists():
            assert child.poll() is None
            time.sleep(0.02)
        assert run(data, out) == 2
        assert f"another run (process {child.pid}) is writing" in capsys.readouterr().err
        child.kill()
    assert run(data, out) == 0
    assert sequences(out) == {"a", "b", "c"}


@pytest.mark.parametrize(("place", "status"), [(">&-", 0), ("> /dev/full", 2)])
@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="takes a disk that is always full")
def test_an_output_that_takes_nothing(tmp_path: Path, place: str, status: int) -> None:
    data = data_set(tmp_path / "d", "a")
    command = f"{sys.executable} -m vos_tutorial evaluate copy-first --data {data} --year 2017 --out {tmp_path / 'o'}"
    done = subprocess.run(["sh", "-c", f"{command} {place}"], capture_output=True, text=True)
    assert done.returncode == status
    assert done.stderr == ("error: the output: No space left on device\n" if status else "")
    assert len(list((tmp_path / "o/a").iterdir())) == 5


@pytest.mark.skipif(os.geteuid() != 0, reason="takes another user's eyes")
def test_a_result_that_may_not_be_read_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, out = data_set(tmp_path / "d", "a"), tmp_path / "o"
    for parent in tmp_path.parents:
        if parent != Path("/") and os.stat(parent).st_uid == 0:
            os.chmod(parent, parent.stat().st_mode | 0o011)
    assert run(data, out) == 0
    for path in (tmp_path, out, out / "a"):
        os.chmod(path, 0o777)
    os.chmod(out / "a/00001.png", 0)
    os.seteuid(65534)
    try:
        assert run(data, out) == 2
    finally:
        os.seteuid(0)
    assert "00001.png exists, but cannot be read (Permission denied)" in capsys.readouterr().err


def test_a_sequence_that_is_called_like_the_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = data_set(tmp_path / "d", ["report.json"])  # type: ignore[arg-type]
    assert run(data, tmp_path / "o") == 2
    assert "'report.json' would be a file and a folder" in capsys.readouterr().err
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize(
    ("more", "said"),
    [(["--data", ""], "--data is empty"), (["--weights", "x.safetensors"], "copy-first has no weights")],
)
def test_what_would_mean_nothing_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], more: list[str], said: str
) -> None:
    assert run(data_set(tmp_path / "d", "a"), tmp_path / "o", *more) == 2
    assert said in capsys.readouterr().err


def test_two_writers_at_once(tmp_path: Path) -> None:
    writes = (
        "import sys; from pathlib import Path; from vos_tutorial.files import write_atomically\n"
        "for i in range(60): write_atomically(Path(sys.argv[1]), sys.argv[2].encode() * 10000)"
    )
    children = [subprocess.Popen([sys.executable, "-c", writes, str(tmp_path / "f"), who]) for who in "xy"]
    assert [child.wait() for child in children] == [0, 0]
    assert (tmp_path / "f").read_bytes() in (b"x" * 10000, b"y" * 10000)
    assert os.listdir(tmp_path) == ["f"]


def test_what_a_killed_writer_left_goes_and_what_a_living_one_writes_stays(tmp_path: Path) -> None:
    slow = (
        "import os, sys, time; from pathlib import Path; from vos_tutorial import files\n"
        "os.fsync = lambda _: time.sleep(60)\nfiles.write_atomically(Path(sys.argv[1]), b'slow')"
    )
    dead, alive = (subprocess.Popen([sys.executable, "-c", slow, str(tmp_path / "f")]) for _ in range(2))
    while len(os.listdir(tmp_path)) < 2:
        time.sleep(0.01)
    dead.send_signal(signal.SIGKILL)
    dead.wait()
    write_atomically(tmp_path / "f", b"new")
    left = sorted(os.listdir(tmp_path))
    alive.kill()
    alive.wait()
    assert len(left) == 2
    assert f"-{alive.pid}-" in left[0]
    assert left[1] == "f"


# ------------------------------------------------------------------------------------------- as the toolkits want it


def test_results_have_the_size_of_the_annotation(tmp_path: Path) -> None:
    data, out = data_set(tmp_path / "d", width=W - 1), tmp_path / "out"
    assert run(data, out) == 0
    assert {Image.open(p).size for p in out.rglob("*.png")} == {(W - 1, H)}
    assert (np.array(Image.open(out / "a/00003.png")) == mask(0, W - 1)).all()


@pytest.fixture
def youtube(tmp_path: Path) -> Path:
    """``valid``: 11 frames, object 1 given in frame 0 and 2 in frame 5, scored every fifth frame; nothing moves."""
    root = tmp_path / "yt/valid"
    for kind in ("JPEGImages", "Annotations"):
        (root / kind / "v").mkdir(parents=True)
    one, two = np.zeros((2, H, W), np.uint8)
    one[5:20, 5:20], two[30:40, 30:50] = 1, 2
    for t in range(11):
        Image.fromarray(np.full((H, W, 3), 90, np.uint8)).save(root / f"JPEGImages/v/{t:05d}.jpg")
    Image.fromarray(one).save(root / "Annotations/v/00000.png")
    Image.fromarray(two).save(root / "Annotations/v/00005.png")
    frames = ["00000", "00005", "00010"]
    objects = {"1": {"category": "ape", "frames": frames}, "2": {"category": "cat", "frames": frames[1:]}}
    (root / "meta.json").write_text(json.dumps({"videos": {"v": {"objects": objects}}}))
    return root.parent


def test_masks_of_new_objects_only_are_no_truth(youtube: Path) -> None:
    folder = YouTubeVosFolder(youtube, "valid")
    assert not folder["v"].complete
    with pytest.raises(TutorialError, match="masks of new objects only"):
        evaluation.evaluate(CopyFirst(), folder, "youtube-vos")
    (youtube / "valid/meta.json").unlink()
    assert not YouTubeVosFolder(youtube, "valid")["v"].complete, "without meta.json there is no way to tell"


@pytest.mark.parametrize(
    "frames",
    [
        {"1": ["00000"], "2": ["00005"]},  # those that are given, and no others
        {"1": ["00000"]},
        {"1": ["00000"], "2": []},
        {"1": [], "2": []},
    ],
)
def test_a_list_that_leaves_something_out_makes_no_truth(youtube: Path, frames: dict[str, list[str]]) -> None:
    """Object 1 is not labelled in frame 5, whatever the list says; the scores would call its absence the truth."""
    objects = {i: {"frames": each} for i, each in frames.items()}
    (youtube / "valid/meta.json").write_text(json.dumps({"videos": {"v": {"objects": objects}}}))
    assert not YouTubeVosFolder(youtube, "valid")["v"].complete


def test_a_submission_to_youtube_vos(youtube: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    arguments = [
        "copy-first",
        "--data",
        str(youtube),
        "--layout",
        "youtube-vos",
        "--out",
        str(out),
        "--device",
        "cpu",
    ]
    for _ in range(2):
        assert command_line.main(["evaluate", *arguments]) == 0
    assert "no ground truth to score" in capsys.readouterr().out
    found = sorted(p.relative_to(out).as_posix() for p in out.rglob("*") if p.is_file())
    assert found == [MARK, *(f"Annotations/v/{t:05d}.png" for t in (0, 5, 10))]
    last = np.array(Image.open(out / "Annotations/v/00010.png"))
    assert np.unique(last[5:20, 5:20]).tolist() == [1]
    assert np.unique(last[30:40, 30:50]).tolist() == [2], "introduced where it first appears"


def test_a_complete_annotation_is_scored(youtube: Path, tmp_path: Path) -> None:
    both = np.zeros((H, W), np.uint8)
    both[5:20, 5:20], both[30:40, 30:50] = 1, 2
    (youtube / "valid").rename(youtube / "train")
    for t in (5, 10):
        Image.fromarray(both).save(youtube / f"train/Annotations/v/{t:05d}.png")
    out = tmp_path / "out"
    arguments = [
        "copy-first",
        "--data",
        str(youtube),
        "--layout",
        "youtube-vos",
        "--split",
        "train",
        "--out",
        str(out),
    ]
    assert command_line.main(["evaluate", *arguments, "--device", "cpu"]) == 0
    report = json.loads((out / "report.json").read_text("utf-8"))
    assert [(row["object"], row["J"]["mean"]) for row in report["objects"]] == [(1, 1.0), (2, 1.0)]
    (youtube / "train/Annotations/v/00010.png").unlink()
    assert not YouTubeVosFolder(youtube)["v"].complete


def test_a_frame_that_meta_lists_and_that_is_missing(youtube: Path) -> None:
    (youtube / "valid/JPEGImages/v/00010.jpg").unlink()
    with pytest.raises(TutorialError, match=r"00010.jpg is missing, and meta.json lists it"):
        YouTubeVosFolder(youtube, "valid").files("v")


def test_export_marks_the_folder_above(tmp_path: Path) -> None:
    export(torch.zeros(2, 4, 6, dtype=torch.uint8), tmp_path / "r/s")
    assert ResultsFolder(tmp_path / "r").is_ours("s/00001.png")
    assert not ResultsFolder(tmp_path / "r").is_ours("s/00002.png")
    with pytest.raises(TutorialError, match="leads elsewhere"):
        ResultsFolder(tmp_path / "r").check(["../x.png"])


@pytest.mark.parametrize(("lines", "status"), [("16", 0), ("0", 2), ("-3", 2)])
def test_a_baseline_works_at_the_lines_that_are_asked_for(tmp_path: Path, lines: str, status: int) -> None:
    assert run(data_set(tmp_path / "d"), tmp_path / "out", "--short-side", lines) == status
    assert {Image.open(p).size for p in (tmp_path / "out").rglob("*.png")} == ({(W, H)} if status == 0 else set())
