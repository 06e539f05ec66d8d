"""``python -m vos_tutorial train``: options are checked at the door, and a run goes on as itself or not at all."""

from __future__ import annotations

import json
import os
import shutil
import signal
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open

from vos_tutorial import models
from vos_tutorial.__main__ import main as command_line
from vos_tutorial.data.sources.stills import FolderStills
from vos_tutorial.data.sources.video import VideoClips, open_video
from vos_tutorial.errors import TutorialError
from vos_tutorial.models.weights import read_about, read_weights, save_weights
from vos_tutorial.training import checkpoints, task
from vos_tutorial.training.identity import data_identity
from vos_tutorial.training.plan import differences
from vos_tutorial.training.tasks.masktrack import MaskTrackTask

SMOKE = ["train", "masktrack", "--profile", "smoke", "--set", "stills.steps=3"]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def stills(folder: Path, grey: int = 40, count: int = 2) -> Path:
    for kind in ("images", "masks"):
        (folder / kind).mkdir(parents=True)
    for i in range(count):
        picture, mask = np.full((96, 128, 3), grey, np.uint8), np.zeros((96, 128), np.uint8)
        picture[20:70, 30:80], mask[20:70, 30:80] = (200, 30, 30), 1
        Image.fromarray(picture).save(folder / f"images/{i}.png")
        Image.fromarray(mask).save(folder / f"masks/{i}.png")
    return folder


def told(path: Path | str = "runs/masktrack-smoke-0/weights.safetensors") -> dict[str, str]:
    return read_about(path).metadata


# -------------------------------------------------------------------------------------------- every option


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--device", "gpu"], "no device 'gpu'; use cpu"),
        (["--device", "0"], "no device '0'"),
        (["--device", "mps"], "no device 'mps'"),
        (["--device", "meta"], "no device 'meta'"),
        (["--device", "cuda:99"], "no device 'cuda:99'"),
        (["--device", ""], "no device ''"),
        (
            ["--set", "network.foo=1"],
            "the network of masktrack does not know the option 'foo'; choose from width, head",
        ),
        (["--set", "network.width=wide"], "width cannot be 'wide'; give a whole number"),
        (["--set", "network.width=0"], "width is 0; use 1 or more"),
        (["--set", "network.width=-4"], "width is -4; use 1 or more"),
        (["--set", "network.width=25"], "there is no network with"),
        (["--set", "network.head=fcn"], "there is no head 'fcn'"),
        (["--set", "stills.weight_decay=-1"], "weight_decay = -1; use 0 or more"),
        (["--set", "stills.momentum=1.5"], "momentum = 1.5"),
        (["--set", "stills.clip_norm=-1"], "clip_norm = -1"),
        (["--set", "stills.lr=Infinity"], "lr = inf"),
        (["--set", "stills.lr=NaN"], "lr = nan"),
        (["--set", "stills.accumulate=3"], "cannot split a batch of 4 into 3 equal parts"),
        (["--set", "stills.options.dice=lots"], "stage 'stills': dice cannot be 'lots'; give a number"),
        (["--set", "stills.options.dice=-1"], "stage 'stills': dice is -1; use 0 or more"),
        (["--set", "stills.options.guide=3"], "there is no guide 3; choose from mask, box, none"),
        (["--set", 'stills.options.spoiling={"scale": "big"}'], "scale cannot be 'big'; give a number"),
        (["--set", "stills.options.spoiling=1"], "spoiling cannot be 1; give a dictionary"),
        (["--set", 'validate={"clips": 0, "every": 2}'], "clips is 0; use 1 or more"),
        (["--set", "validate=3"], "validate cannot be 3"),
        (["--set", "validate={}"], "validate has no 'clips'; it takes clips, every"),
        (["--set", ".=1"], "there is no stage ''"),
        (["--out", ""], "--out: '' names nothing"),
        (["--weights-out", " "], "--weights-out: ' ' names nothing"),
        (["--stills", ""], "--stills: '' names nothing"),
        (["--start", ""], "--start: '' names nothing"),
        (["--weights-out", os.devnull], f"--weights-out {os.devnull} is no plain file"),
        (["--set", "lines=0"], "lines = 0"),
        (["--set", "enlarge=0.5"], "enlarge = 0.5; use 1 or more"),
        (["--set", "enlarge=none"], "enlarge cannot be 'none'; it is 1.0 now"),
        (["--seed", str(2**63)], "--seed is"),
        (["--seed", "-1"], "--seed is -1"),
        (["--checkpoint-every", "0"], "--checkpoint-every is 0"),
        (["--start", "nowhere.safetensors"], "there is no weights file nowhere.safetensors"),
        (["--video", "somewhere"], "does not learn from video"),
        (["--stills", "nowhere"], "nowhere"),
    ],
)
def test_each_option_is_checked_where_it_enters(
    options: list[str], complaint: str, capsys: pytest.CaptureFixture
) -> None:
    try:
        status = command_line([*SMOKE, *options])
    except SystemExit as left:  # argparse
        status = left.code
    assert status == 2
    assert complaint in capsys.readouterr().err
    assert not Path("runs").exists()


@pytest.mark.parametrize("method", models.METHODS)
def test_options_of_every_method_are_checked(method: str, capsys: pytest.CaptureFixture) -> None:
    command = ["train", method, "--profile", "smoke", "--set", "network.colour=red"]
    assert command_line(command) == 2
    assert f"the network of {method} does not know the option 'colour'" in capsys.readouterr().err


def test_stills_that_nothing_would_learn_from(here: Path, capsys: pytest.CaptureFixture) -> None:
    assert command_line(["train", "rvos", "--profile", "smoke", "--stills", str(stills(here / "s"))]) == 2
    assert "does not learn from stills, so leave --stills out" in capsys.readouterr().err


def test_weights_of_another_size_are_told_as_such(here: Path, capsys: pytest.CaptureFixture) -> None:
    network = models.build("masktrack", "paper")
    save_weights(here / "p.safetensors", network, {"method": "masktrack", "size": "paper"}, torch.float16)
    assert command_line([*SMOKE, "--start", "p.safetensors"]) == 2
    said = "p.safetensors holds a network of size paper, and this recipe trains one of size small; choose another"
    assert said in capsys.readouterr().err
    assert not Path("runs").exists()


def test_where_nothing_can_be_written_is_told_first(here: Path, capsys: pytest.CaptureFixture) -> None:
    (here / "file").write_text("mine")
    (here / "folder").mkdir()
    for options, complaint in (
        (["--out", "file"], "--out file is a file; choose a folder"),
        (["--weights-out", "folder"], "--weights-out folder is a folder; name a file in it"),
        (["--weights-out", "file/w.safetensors"], "cannot"),
        (["--weights-out", "file"], "file is not a safetensors file"),
    ):
        assert command_line([*SMOKE, *options]) == 2
        assert complaint in capsys.readouterr().err
    assert (here / "file").read_text() == "mine"
    assert not (here / "runs").exists()


def test_weights_of_another_run_are_not_overwritten(capsys: pytest.CaptureFixture) -> None:
    assert command_line([*SMOKE, "--weights-out", "w.safetensors"]) == 0
    before = Path("w.safetensors").read_bytes()
    assert command_line([*SMOKE, "--seed", "1", "--weights-out", "w.safetensors"]) == 2
    assert "w.safetensors exists and is of another run (seed was 0 and is 1)" in capsys.readouterr().err
    shutil.copy(models.shipped_weights("masktrack"), "theirs.safetensors")
    assert command_line([*SMOKE, "--seed", "1", "--weights-out", "theirs.safetensors"]) == 2
    assert "does not say which run" in capsys.readouterr().err
    assert Path("w.safetensors").read_bytes() == before
    assert not Path("runs/masktrack-smoke-1").exists()


@pytest.mark.parametrize(
    ("damage", "complaint"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:200]), "is cut short"),
        (lambda path: path.write_text("mine"), "is not a safetensors file"),
        (lambda path: shutil.copy(models.shipped_weights("stm"), path), "does not say which run"),
    ],
)
def test_a_finished_run_beside_a_file_that_is_not_its_weights(
    damage: Callable[[Path], object], complaint: str, capsys: pytest.CaptureFixture
) -> None:
    """It does not call them its own, writes over nothing, and says how they come back out of the checkpoint."""
    assert command_line(SMOKE) == 0
    path = Path("runs/masktrack-smoke-0/weights.safetensors")
    whole = {name: tensor.clone() for name, tensor in read_weights(path)[0].items()}  # no longer in the file
    damage(path)
    there = path.read_bytes()
    capsys.readouterr()
    for more in ([], ["--half"]):
        assert command_line([*SMOKE, *more]) == 2
        assert complaint in (said := capsys.readouterr().err)
        assert "move it away and run the same command again" in said
    assert path.read_bytes() == there
    path.rename("away")
    assert command_line(SMOKE) == 0
    assert all(torch.equal(tensor, whole[name]) for name, tensor in read_weights(path)[0].items())


# ------------------------------------------------------------------------------------- it goes on as itself


def test_other_data_or_another_start_are_refused_also_when_it_is_finished(
    here: Path, capsys: pytest.CaptureFixture
) -> None:
    one, two = stills(here / "one"), stills(here / "two", 80)
    assert command_line([*SMOKE, "--stills", str(one)]) == 0
    assert "one" in told()["data"]
    for options, what in (
        (["--stills", str(two)], "two"),
        ([], "data was"),
        (["--stills", str(one), "--start", "shipped"], "start was random"),
    ):
        assert command_line([*SMOKE, *options]) == 2
        said = capsys.readouterr().err
        assert what in said
        assert "belongs to another run" in said or "of another run" in said
    assert command_line([*SMOKE, "--stills", str(one)]) == 0
    assert "finished already" in capsys.readouterr().out
    Image.new("RGB", (128, 96)).save(one / "images/0.png")  # the same names, other pictures
    assert command_line([*SMOKE, "--stills", str(one)]) == 2
    assert "digest" in capsys.readouterr().err


def test_the_start_is_the_runs_and_not_the_latest_commands(capsys: pytest.CaptureFixture) -> None:
    assert command_line([*SMOKE, "--start", "shipped"]) == 0
    assert told()["start"].startswith("shipped, sha256 ")
    Path("runs/masktrack-smoke-0/weights.safetensors").unlink()
    assert command_line(SMOKE) == 2
    assert "start was sha256" in capsys.readouterr().err
    copied = shutil.copy(models.shipped_weights("masktrack"), "copy.safetensors")
    assert command_line([*SMOKE, "--start", str(copied)]) == 0  # the same weights
    assert told()["start"].startswith("shipped, sha256 ")


def test_data_are_named_by_folder_names_and_sizes(here: Path) -> None:
    folder = stills(here / "one")
    identity = lambda: data_identity(MaskTrackTask(FolderStills(folder)))  # noqa: E731
    (name, first), *_ = identity().items()
    assert name == str(folder)
    assert first["files"] == 4
    assert data_identity(MaskTrackTask()) == {}
    os.rename(folder / "images/0.png", folder / "images/7.png")
    os.rename(folder / "masks/0.png", folder / "masks/7.png")
    assert identity()[name]["digest"] != first["digest"]


def test_a_run_from_before_resumes_and_says_when_it_cannot_know(here: Path, capsys: pytest.CaptureFixture) -> None:
    """Plans had no data, start and device then, and two options that are none today."""
    assert command_line([*SMOKE, "--checkpoint-every", "1"]) == 0
    whole = Path("runs/masktrack-smoke-0/weights.safetensors").read_bytes()
    path = Path("runs/masktrack-smoke-0/checkpoint.pt")
    held: dict[str, Any] = torch.load(path, weights_only=True)
    old = json.loads(held["plan"])
    for key in ("data", "start", "device"):
        del old[key]
    old["channels_last"] = True
    for each in old["stages"]:
        del each["accumulate"]
        each["poly_power"] = 0.9
    for key in ("frozen", "start"):
        del held[key]
    torch.save(held | {"plan": json.dumps(old)}, path)
    Path("runs/masktrack-smoke-0/weights.safetensors").unlink()
    assert command_line(SMOKE) == 0
    assert len(Path("runs/masktrack-smoke-0/weights.safetensors").read_bytes()) == len(whole)
    for options in (["--stills", str(stills(here / "s"))], ["--start", "shipped"]):
        assert command_line([*SMOKE, *options, "--weights-out", "other.safetensors"]) == 2
        assert "belongs to another run" in capsys.readouterr().err
    changed = json.dumps(old | {"channels_last": False})
    assert differences(changed, held["plan"]) == ["channels_last was False and is absent"]


# -------------------------------------------------------------------------------------------------- Ctrl-C


def interrupt_at(step: int) -> Callable[..., MaskTrackTask]:
    """A task that presses Ctrl-C in a step (0 = first)."""

    class Pressed(MaskTrackTask):
        seen = -1

        def loss(self, *arguments: Any) -> Any:
            self.seen += 1
            if self.seen == step:
                handler = signal.getsignal(signal.SIGINT)
                os.kill(os.getpid(), signal.SIGINT)
                while signal.getsignal(signal.SIGINT) is handler:
                    pass
            return super().loss(*arguments)

    return lambda name, **sources: Pressed(**sources)


def test_ctrl_c_in_the_last_step_loses_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("vos_tutorial.training.command.task", interrupt_at(2))
        assert command_line(SMOKE) == 0
    assert "weights: runs/masktrack-smoke-0/weights.safetensors" in capsys.readouterr().out
    assert isinstance(models.trained("masktrack", "runs/masktrack-smoke-0/weights.safetensors"), torch.nn.Module)


def test_ctrl_c_while_the_weights_are_written_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    handler = signal.getsignal(signal.SIGINT)

    def slow(*arguments: Any) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        save_weights(*arguments)

    monkeypatch.setattr("vos_tutorial.training.command.save_weights", slow)
    assert command_line(SMOKE) == 0
    assert Path("runs/masktrack-smoke-0/weights.safetensors").exists()
    assert signal.getsignal(signal.SIGINT) is handler


def test_ctrl_c_in_an_earlier_step_stops_there(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("vos_tutorial.training.command.task", interrupt_at(1))
        assert command_line(SMOKE) == 130
    assert "run the same command again" in capsys.readouterr().err
    assert not Path("runs/masktrack-smoke-0/weights.safetensors").exists()
    assert command_line(SMOKE) == 0


# ------------------------------------------------------------------------------------- advice costs no data


def test_only_what_is_proven_broken_may_be_deleted(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = here / "checkpoint.pt"
    torch.save({"my": "own file"}, path)
    with pytest.raises(TutorialError, match="not a readable checkpoint of this version; it stays as it is") as told:
        checkpoints.load_checkpoint(path, torch.device("cpu"))
    assert "delete" not in str(told.value)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(TutorialError, match="delete it to start again, or choose another"):
        checkpoints.load_checkpoint(path, torch.device("cpu"))

    def denied(self: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", denied)
    with pytest.raises(
        TutorialError, match=r"cannot read .* \(Permission denied\), and the run in it is kept"
    ) as told:
        checkpoints.load_checkpoint(path, torch.device("cpu"))
    assert "delete" not in str(told.value)


@pytest.mark.parametrize(
    "wrong",
    [
        *({"stage": value} for value in ("x", None, -1, 99)),
        *({"step": value} for value in ("x", None, -1, 99)),
        *({"seconds": value} for value in ("x", None)),
        *({"network": value} for value in ("x", None, {}, {"a": 1})),
        *({"ema": value} for value in ("x", None, {}, 5)),
        *({"optimizer": value} for value in ("x", None, {}, {"state": [], "param_groups": 3})),
        *({"frozen": value} for value in ("x", 5)),
        *({"plan": value} for value in ("x", None, "[]", "5", '{"stages": "x"}', '{"data": 5}', '{"stages": null}')),
    ],
    ids=str,
)
def test_a_checkpoint_that_says_what_cannot_be(wrong: dict[str, Any], capsys: pytest.CaptureFixture) -> None:
    """Whatever it says, the answer is a sentence, and the file stays."""
    assert command_line(SMOKE) == 0
    path = Path("runs/masktrack-smoke-0/checkpoint.pt")
    held = torch.load(path, weights_only=True)
    torch.save({**held, "step": 1, **wrong}, path)
    there = path.read_bytes()
    assert command_line(SMOKE) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "checkpoint.pt" in said
    assert "delete" not in said
    assert path.read_bytes() == there


@pytest.mark.skipif(os.geteuid() != 0, reason="takes another user's eyes")
def test_files_that_may_not_be_read(here: Path) -> None:
    secret = here / "secret"
    secret.mkdir()
    save_weights(secret / "w.safetensors", torch.nn.Linear(1, 1), {"method": "masktrack", "size": "small"})
    torch.save({}, secret / "checkpoint.pt")
    for parent in secret.parents:
        if parent != Path("/") and os.stat(parent).st_uid == 0 and not parent.stat().st_mode & stat.S_IXOTH:
            os.chmod(parent, parent.stat().st_mode | stat.S_IXOTH)
    os.chmod(secret, 0)
    os.seteuid(65534)
    try:
        with pytest.raises(TutorialError, match=r"cannot read .*Permission denied"):
            checkpoints.load_checkpoint(secret / "checkpoint.pt", torch.device("cpu"))
        with pytest.raises(TutorialError, match=r"cannot read .*Permission denied"):
            read_about(secret / "w.safetensors")
    finally:
        os.seteuid(0)
        os.chmod(secret, 0o755)


def test_a_lost_log_is_said_and_costs_nothing(capsys: pytest.CaptureFixture) -> None:
    assert command_line(SMOKE) == 0
    Path("runs/masktrack-smoke-0/log.jsonl").unlink()
    assert command_line(SMOKE) == 0
    assert "the log of its losses is lost" in capsys.readouterr().out


def test_bytes_in_the_log_that_are_none_of_ours(capsys: pytest.CaptureFixture) -> None:
    assert command_line(SMOKE) == 0
    log = Path("runs/masktrack-smoke-0/log.jsonl")
    lines = log.read_bytes().splitlines(keepends=True)
    log.write_bytes(lines[0] + b"\xff\xfe\n[]\n" + b"".join(lines[1:]) + lines[0])
    assert command_line(SMOKE) == 0
    assert log.read_bytes() == b"".join(lines)


def test_half_precision_is_told_and_can_be_asked_for_later(capsys: pytest.CaptureFixture) -> None:
    assert command_line(SMOKE) == 0
    assert command_line([*SMOKE, "--half"]) == 0
    assert told()["precision"] == "float16"
    with safe_open("runs/masktrack-smoke-0/weights.safetensors", "pt") as file:
        assert all(file.get_tensor(name).dtype != torch.float32 for name in file.keys())  # noqa: SIM118
    assert command_line([*SMOKE, "--half"]) == 0
    assert "finished already" in capsys.readouterr().out


def test_video_is_named_by_its_list_too(here: Path) -> None:
    for name in ("ants", "bees"):
        for kind, ending in (("JPEGImages", "jpg"), ("Annotations", "png")):
            (here / "davis" / kind / "480p" / name).mkdir(parents=True)
            for t in range(3):
                Image.fromarray(np.ones((8, 8), np.uint8)).save(
                    here / "davis" / kind / "480p" / name / f"{t:05d}.{ending}"
                )
    lists = here / "davis" / "ImageSets" / "2017"
    lists.mkdir(parents=True)
    (here / "davis" / "notes.txt").write_text("not what is read")
    found = []
    for names in ("ants\nbees\n", "ants\n"):
        (lists / "train.txt").write_text(names)
        found.append(data_identity(task("stm", video=VideoClips(open_video(here / "davis")))))
    both, one = (each[str(here / "davis")] for each in found)
    assert both["files"] == one["files"] == 12
    assert (both["names"][:2], one["names"][:2]) == ("2:", "1:")
    with open(here / "davis" / "JPEGImages" / "480p" / "ants" / "00001.jpg", "ab") as picture:
        picture.write(b"more")
    again = data_identity(task("stm", video=VideoClips(open_video(here / "davis"))))
    assert again[str(here / "davis")]["digest"] != one["digest"]
