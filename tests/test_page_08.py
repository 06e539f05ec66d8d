"""Cells of notebook 08 that no build runs whole: Cutie needs a GPU, the strips of real video need DAVIS.

The cells' own code runs here, with stand-ins for what is missing.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tools import notebooks
from vos_tutorial import comparison
from vos_tutorial.baselines import CopyFirst
from vos_tutorial.clip import ids_to_onehot
from vos_tutorial.comparison import Entry
from vos_tutorial.data.davis import VARIABLE, write_davis
from vos_tutorial.data.worlds.sprites import benchmark

NAME = "08_comparison"

CUTIE = {  # what rf-cutie 1.0 offers: the network's cfg, and a core that is stepped through one video
    "__init__.py": "",
    "inference/__init__.py": "",
    "inference/inference_core.py": """
import torch

steps = []

class InferenceCore:
    def __init__(self, network, cfg):
        assert cfg is network.cfg
        self.masks = None

    def step(self, image, mask=None, objects=None):
        steps.append((image, mask, objects))
        if mask is not None:
            self.masks = torch.stack([mask == each for each in objects]).float()
        return torch.cat([1 - self.masks.amax(0, keepdim=True), self.masks])
""",
    "utils/__init__.py": "",
    "utils/get_default_model.py": """
class Network:
    cfg = {"mem_every": 5}

def get_default_model():
    return Network()
""",
}


def cells() -> list[Any]:
    found: list[Any] = notebooks.read_source(notebooks.HERE.source(NAME)).cells
    return found


def source(begins: str) -> str:
    """Of the one code cell with a line that begins with these words."""
    found = [c.source for c in cells() if c.cell_type == "code" and f"\n{begins}" in f"\n{c.source}"]
    assert len(found) == 1, begins
    return str(found[0])


@pytest.fixture
def room() -> dict[str, Any]:
    """The names that the page's setup cell defines."""
    names: dict[str, Any] = {}
    setup = next(c.source for c in cells() if "setup" in notebooks.tags(c))
    exec(setup, names)
    return names


def put(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def test_the_cell_for_cutie(
    room: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    put(tmp_path / "cutie", CUTIE)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(Tensor, "cuda", lambda self: self)
    for begins in ("everybody = ", "runs = ", "twenty = "):
        exec(source(begins), room)
    first = [clip for clip in room["twenty"] if clip.name in ("clean-0", "multiple_objects-0")]
    room["twenty"], names = first, [clip.name for clip in first]
    room["few"] = room["few"].only(names)
    capsys.readouterr()
    cell = source("if find_spec(")
    exec(cell, room)
    copied = comparison.compare([Entry("Cutie", CopyFirst)], first).scores("Cutie")
    assert room["newer"].scores("Cutie") == copied
    assert room["newer"].methods() == [*room["few"].methods(), "Cutie"]
    assert "Cutie" in capsys.readouterr().out

    import cutie.inference.inference_core as stand_in  # type: ignore[import-not-found]

    image, mask, objects = stand_in.steps[0]
    assert image.shape == (3, 96, 96)
    assert image.dtype == torch.float32
    assert 0 <= image.min() < image.max() <= 1
    assert mask.shape == (96, 96)
    assert objects == list(range(1, 1 + len(ids_to_onehot(mask, objects))))
    assert stand_in.steps[1][1:] == (None, None)
    assert len(stand_in.steps) == sum(len(clip) for clip in first)


def test_without_cutie_or_a_gpu_its_cell_says_what_it_needs(
    room: dict[str, Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    exec(source("if find_spec("), room)
    assert "pip install 'rf-cutie[inference]'" in capsys.readouterr().out


def strips(room: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, list[str]]]:
    """The captions that the cell shows, each with the methods that it ran."""
    shown: list[tuple[str, list[str]]] = []
    made: list[str] = []

    def entry(name: str) -> Entry:
        comparison.entry(name)  # there are such weights
        made.append(name)
        return Entry(name, CopyFirst)

    def show(figure: object, alt: str, caption: str) -> None:
        shown.append((caption, list(made)))
        made.clear()

    room["entry"] = entry
    monkeypatch.setattr(room["figures"], "show", show)
    exec(source("root, short = find_davis()"), room)
    return shown


def davis(root: Path, names: list[str]) -> None:
    """A folder with the list of DAVIS-2016, and one that names nothing, as a part of the set may have."""
    clips = list(benchmark(1, ["clean", "occlusion"]))
    write_davis(root, [replace(clip, name=name) for clip, name in zip(clips, names, strict=False)])
    lines = [f"/JPEGImages/480p/{name}/00000.jpg /Annotations/480p/{name}/00000.png\n" for name in names]
    put(root / "ImageSets" / "480p", {"val.txt": "".join(lines), "train.txt": ""})


@pytest.mark.parametrize(
    ("names", "wanted"),
    [
        (["soccerball", "car-turn"], {"car-turn": "stm stcnn", "soccerball": "masktrack rgmp"}),
        (["dog"], {"dog": "stm stcnn"}),
    ],
)
def test_strips_of_real_video(
    names: list[str], wanted: dict[str, str], room: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    davis(tmp_path / "DAVIS", names)
    monkeypatch.setenv(VARIABLE, str(tmp_path / "DAVIS"))
    monkeypatch.setenv("VOS_TUTORIAL_PROFILE", "cpu")
    shown = strips(room, monkeypatch)
    assert {
        caption.split(":")[0]: " ".join(m.removesuffix(":photos") for m in made) for caption, made in shown
    } == wanted


def test_no_strips_without_davis(
    room: dict[str, Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(VARIABLE, "none")
    assert strips(room, monkeypatch) == []
    assert "No DAVIS here" in capsys.readouterr().out
