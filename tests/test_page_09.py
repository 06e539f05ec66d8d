"""What page 09 says without a number from a file: of its own clip, and of the stored results."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from vos_tutorial import models, propagate
from vos_tutorial.clip import Clip
from vos_tutorial.course.figures import tables
from vos_tutorial.data.worlds.sprites import make_clip
from vos_tutorial.metrics import region_similarity
from vos_tutorial.video import Project, Video, write_video

HIDDEN = 8  # the least sure frame


@pytest.fixture(scope="module")
def clip() -> Clip:
    return make_clip(
        38, size=128, length=24, attributes=["occlusion", "distractors"], textures="photos", split="test"
    )


@pytest.fixture(scope="module")
def video(clip: Clip, tmp_path_factory: pytest.TempPathFactory) -> Video:
    file = tmp_path_factory.mktemp("page") / "clip.mp4"
    write_video(file, list(clip.frames), [Fraction(t, 12) for t in range(24)])
    return Video(file, max_side=1280)


@pytest.fixture
def project(video: Video, clip: Clip, tmp_path: Path) -> Iterator[Project]:
    opened = Project.open(tmp_path / "project", video)
    opened.save_mask(0, opened.add_object("flower"), clip.masks[0] == 1)
    yield opened
    opened.close()


def frames(video: Video) -> Tensor:
    return torch.stack([video.frame(t) for t in range(len(video))])


def similarity(clip: Clip, ids: Tensor) -> NDArray[np.float64]:
    return 100 * region_similarity(clip.masks[-len(ids) :] == 1, ids == 1)


def quality(clip: Clip, project: Project) -> NDArray[np.float64]:
    return similarity(clip, torch.stack([project.result(t) for t in range(len(clip))]))


def test_a_correction_and_what_it_owes_to_the_masks_that_go(clip: Clip, video: Video, project: Project) -> None:
    method = models.segmenter("stm")
    project.propagate(method)
    assert project.most_uncertain()[0] == HIDDEN
    before = quality(clip, project)
    assert before[1:].mean() == pytest.approx(74.6, abs=0.3)
    project.save_mask(HIDDEN, 1, clip.masks[HIDDEN] == 1)
    assert not (clip.masks[HIDDEN] == 1).any()
    project.propagate(method)
    after = quality(clip, project)
    assert after[1:].mean() == pytest.approx(94.4, abs=0.3)
    behind = frames(video)[[0, *range(HIDDEN + 1, len(clip))]]
    alone = similarity(clip, propagate(method, behind, (clip.masks[0] == 1).byte())[1:]).mean()
    worse, better = before[HIDDEN + 1 :].mean(), after[HIDDEN + 1 :].mean()
    assert worse + 15 < alone < better - 2  # "most of the gain", "a few points"
    assert better - alone < 6

    project.save_mask(HIDDEN, 1, None)  # exercise 9.3
    project.save_mask(12, 1, clip.masks[12] == 1)
    project.propagate(method)
    later = quality(clip, project)
    assert later[1:].mean() == pytest.approx(85.0, abs=0.3)
    assert later[8:12].mean() == pytest.approx(before[8:12].mean())
    assert later[13:].mean() == pytest.approx(after[13:].mean(), abs=3)


def test_fewer_lines_come_close_to_a_correction(clip: Clip, video: Video) -> None:
    method = models.segmenter("stm", short_side=96)
    found = propagate(method, frames(video), (clip.masks[0] == 1).byte())
    assert similarity(clip, found)[1:].mean() == pytest.approx(92.9, abs=0.3)


def test_the_wrong_mask_lies_off_the_object_and_inside_the_picture(clip: Clip, video: Video) -> None:
    mask = clip.masks[0] == 1
    down, across = (3 * side // 10 for side in video.size)
    wrong = mask.roll((down, across), dims=(0, 1))
    assert not (wrong & mask).any()
    assert int(mask[:-down, :-across].sum()) == int(mask.sum()), "nothing comes in again on the other side"


@pytest.fixture(scope="module")
def stored() -> dict[str, Any]:
    found: dict[str, Any] = tables.stored("09_own_video")
    return found


def test_which_first_masks_cost(stored: dict[str, Any]) -> None:
    small, large = (stored["first_mask"][name] for name in ("J", "J photos"))
    assert all(a > b for a, b in zip(small["2 pixels smaller"], small["2 pixels larger"], strict=True))
    gap = np.subtract(large["2 pixels smaller"], large["2 pixels larger"])
    assert abs(gap.mean()) < gap.std(ddof=1) / 2  # "no difference"
    means = {name: np.mean(row) for name, row in large.items()}
    assert max(means, key=lambda name: means[name]) == "exact"
    for rows in (small, large):
        order = sorted(rows, key=lambda name: float(np.mean(rows[name])))
        assert set(order[:2]) == {"box", "left half"}


def test_from_frame_20_on_methods_hold(stored: dict[str, Any]) -> None:
    moments = stored["drift"]["frames"]
    assert (moments[3], moments[6]) == (20, 59)
    for name, row in stored["drift"]["J mean"].items():
        assert abs(row[3] - row[6]) < 6, name


def test_confidence_beside_a_regular_grid(stored: dict[str, Any]) -> None:
    sure, even = (np.array(stored["corrections"]["gain"][name]) for name in ("least sure", "even"))
    assert (sure > even).sum(0)[[1, 3]].tolist() == [2, 1]
