"""The project folder: nothing is lost, only what a correction touches is computed again, one writer at a time."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from vos_tutorial.clip import ids_to_onehot
from vos_tutorial.course.figures.palette import object_colours
from vos_tutorial.errors import TutorialError
from vos_tutorial.objects import ObjectSegmenter, replaced, without
from vos_tutorial.propagation import propagate
from vos_tutorial.video import Project, Video
from vos_tutorial.video.project import ABSENT, CORRECTION, FIRST, PRESENT, UNKNOWN

T, H, W = 12, 32, 40


class Sliding(ObjectSegmenter):
    """Each object goes one pixel to the right a frame, and the method is a little less sure each time."""

    def __init__(self) -> None:
        super().__init__()
        self.masks = torch.zeros(0, H, W)
        self.ages: list[int] = []
        self.cleared: list[int] = []
        self.log: list[tuple[int, ...]] = []  # the objects of each step

    def _start(self, frame: Tensor) -> None:
        self.masks, self.ages = frame.new_zeros(0, *frame.shape[1:]), []

    def _add(self, frame: Tensor, masks: Tensor) -> None:
        self.masks = torch.cat([self.masks * ~masks.any(0), masks.float()])
        self.ages = [*self.ages, *(0 for _ in masks)]

    def _correct(self, frame: Tensor, channels: Sequence[int], masks: Tensor) -> None:
        self.masks = replaced(self.masks, channels, masks)
        self.ages = [0 if c in channels else age for c, age in enumerate(self.ages)]

    def _clear(self, channels: Sequence[int]) -> None:
        """It still knows where its objects would be, and shows them again in the next frame."""
        self.cleared = list(channels)

    def _remove(self, channel: int) -> None:
        self.masks = without(self.masks, channel)
        self.ages = [*self.ages[:channel], *self.ages[channel + 1 :]]

    def _predict(self, frame: Tensor) -> Tensor:
        self.log.append(tuple(self.objects))
        self.ages = [age + 1 for age in self.ages]
        self.masks = self.masks.roll(1, dims=2)
        sure = 0.95 - 0.02 * torch.tensor(self.ages)[:, None, None]
        p = self.masks * sure
        return torch.cat([1 - p.sum(0, keepdim=True), p])


def square(y: int, x: int) -> Tensor:
    mask = torch.zeros(H, W, dtype=torch.bool)
    mask[y : y + 6, x : x + 6] = True
    return mask


@pytest.fixture
def video(tmp_path: Path) -> Video:
    folder = tmp_path / "clip"
    folder.mkdir()
    for t in range(T):
        Image.fromarray(np.full((H, W, 3), 9 * t, np.uint8)).save(folder / f"{t:05d}.png")
    return Video(folder)


@pytest.fixture
def project(video: Video, tmp_path: Path) -> Iterator[Project]:
    """Two objects, given in frame 0."""
    opened = Project.open(tmp_path / "project", video)
    for o, y in ((1, 2), (2, 20)):
        opened.add_object()
        opened.save_mask(0, o, square(y, 3))
    yield opened
    opened.close()


def files(project: Project, o: int) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (project.folder / "results" / f"{o:03d}").glob("*.png")}


def all_ids(project: Project) -> Tensor:
    return torch.stack([project.result(t) for t in range(T)])


# ------------------------------------------------------------------------------------------------- propagation


def test_the_first_run_is_what_propagate_gives(project: Project, video: Video) -> None:
    seen: list[int] = []
    assert project.pending() == T
    assert project.propagate(Sliding(), on_frame=lambda t, ids, sure: seen.append(t))
    expected = propagate(Sliding(), torch.stack(list(video)), project.result(0))
    assert torch.equal(all_ids(project), expected)
    assert seen == list(range(T))
    assert project.confidence()[:, 0].tolist() == pytest.approx([1, *(0.95 - 0.02 * t for t in range(1, T))])
    assert project.states().tolist() == [[FIRST, FIRST], *([[PRESENT, PRESENT]] * (T - 1))]
    assert project.most_uncertain() == (T - 1, 1, pytest.approx(0.95 - 0.02 * (T - 1)))
    assert project.pending() == 0
    assert project.propagate(idle := Sliding())
    assert idle.log == []


def test_a_correction_touches_its_object_up_to_its_next_correction(project: Project) -> None:
    project.propagate(Sliding())
    project.save_mask(9, 1, square(10, 30))
    project.propagate(Sliding())
    before = {o: files(project, o) for o in (1, 2)}
    project.save_mask(5, 1, square(10, 8))
    assert project.given(1) == {0: "first", 5: "correction", 9: "correction"}
    assert np.argwhere(project.stale()).tolist() == [[6, 0], [7, 0], [8, 0]]
    segmenter, told = Sliding(), []
    project.propagate(segmenter, on_frame=lambda t, ids, sure: told.append((t, list(sure))))
    assert told == [(5, []), (6, [1]), (7, [1]), (8, [1])]
    assert segmenter.log == [(1,)] * 4  # frame 5, to which the method came from frame 0, and the three
    assert files(project, 2) == before[2]  # to the bit
    after = files(project, 1)
    assert {name for name in after if after[name] != before[1].get(name)} == {"00006.png", "00007.png", "00008.png"}
    assert torch.equal(project.result(7) == 1, square(10, 10))
    assert project.states()[5, 0] == project.states()[9, 0] == CORRECTION
    assert project.confidence()[5, 0] == 1


def test_backward_on_demand(project: Project) -> None:
    project.save_mask(0, 1, None)
    project.save_mask(6, 1, square(10, 20))
    project.propagate(Sliding())
    assert project.states()[:, 0].tolist() == [UNKNOWN] * 6 + [FIRST] + [PRESENT] * 5
    assert not project.stale().any()  # nothing that goes forward could fill the frames before
    before = files(project, 2)
    project.propagate(Sliding(), frames=range(6, -1, -1), objects=[1])
    assert project.states()[:6, 0].tolist() == [PRESENT] * 6
    assert torch.equal(project.result(2) == 1, square(10, 24))  # four steps away from frame 6
    assert files(project, 2) == before
    assert not project.stale().any()
    assert project.pending() == 0  # and going forward does not take it back


def test_backward_again_over_what_went_forward(project: Project) -> None:
    project.propagate(Sliding())
    project.save_mask(8, 1, square(2, 20))
    project.propagate(Sliding(), frames=range(8, 4, -1), objects=[1])
    assert torch.equal(project.result(5) == 1, square(2, 23))  # three frames back from the correction
    assert torch.equal(project.result(4) == 1, square(2, 7))  # as it came forward
    assert np.argwhere(project.stale())[:, 0].tolist() == [9, 10, 11]


def test_new_objects(project: Project) -> None:
    third = project.add_object("late")
    assert not project.stale()[:, 2].any()  # there is nothing yet that could be carried
    project.save_mask(4, third, square(12, 10))
    segmenter = Sliding()
    project.propagate(segmenter)
    assert segmenter.log == [(1, 2)] * 4 + [(1, 2, 3)] * 7
    assert project.states()[:, 2].tolist() == [UNKNOWN] * 4 + [FIRST] + [PRESENT] * 7
    assert torch.equal(project.result(9) == third, square(12, 15))


def test_an_object_that_cannot_be_seen_is_followed_on(project: Project) -> None:
    """Behind a wall in frame 7: an empty mask is a fact about this frame, not the end of the object."""

    project.propagate(Sliding())
    before = {o: files(project, o) for o in (1, 2)}
    project.save_mask(7, 1, torch.zeros(H, W, dtype=torch.bool))
    assert np.argwhere(project.stale()).tolist() == [[t, 0] for t in range(8, T)]
    assert not (project.result(7) == 1).any()
    segmenter, told = Sliding(), []
    project.propagate(segmenter, on_frame=lambda t, ids, sure: told.append((t, list(sure))))
    assert segmenter.cleared == [0]
    assert told == [(t, [1] if t > 7 else []) for t in range(7, T)]
    assert not project.stale().any()
    assert project.states()[:, 0].tolist() == [FIRST] + [PRESENT] * 6 + [CORRECTION] + [PRESENT] * 4
    assert torch.equal(project.result(9) == 1, square(2, 6))  # three steps: to frame 7, and two behind it
    assert files(project, 2) == before[2]
    assert all(files(project, 1)[f"{t:05d}.png"] == before[1][f"{t:05d}.png"] for t in range(1, 7))
    again = Project.open(project.folder)
    assert not again.stale().any()
    again.save_mask(7, 1, None)
    assert np.argwhere(again.stale()).tolist() == [[t, 0] for t in range(8, T)]  # frame 7 is as it was before


def test_only_absent_is_nothing_to_follow(project: Project) -> None:
    for o in (1, 2):
        project.save_mask(0, o, torch.zeros(H, W, dtype=torch.bool))
    with pytest.raises(TutorialError, match="no mask is given yet"):
        project.propagate(Sliding())


def test_a_mask_takes_its_pixels_from_the_others(project: Project) -> None:
    project.save_mask(0, 2, square(4, 3))  # over object 1
    assert not (project.masks(0)[1] & project.masks(0)[2]).any()
    assert torch.equal(project.result(0) == 2, square(4, 3))


def test_two_results_that_claim_a_pixel(project: Project) -> None:
    """Object 1, corrected onto the way of object 2, has the pixels of which it is more sure."""
    project.propagate(Sliding())
    before = files(project, 2)
    project.save_mask(6, 1, square(20, 9))
    assert torch.equal(project.result(6) == 1, square(20, 9))  # what is given wins
    project.propagate(Sliding())
    assert torch.equal(project.result(8) == 1, square(20, 11))
    assert files(project, 2) == before


def test_stop_and_go_on(project: Project, video: Video) -> None:
    stop, segmenter, seen = threading.Event(), Sliding(), []

    def until_four(t: int, ids: Tensor, sure: object) -> None:
        seen.append(t)
        if t == 4:
            stop.set()

    assert not project.propagate(segmenter, on_frame=until_four, stop=stop)
    assert project.states()[:6, 0].tolist() == [FIRST] + [PRESENT] * 4 + [UNKNOWN]
    stop.clear()
    assert project.propagate(segmenter, on_frame=until_four, stop=threading.Event())
    assert seen == list(range(T))  # none twice
    assert torch.equal(all_ids(project), propagate(Sliding(), torch.stack(list(video)), project.result(0)))


def test_a_mask_given_after_a_stop_begins_the_span_again(project: Project) -> None:
    stop, segmenter = threading.Event(), Sliding()
    stop.set()
    project.propagate(segmenter, stop=stop)
    project.propagate(segmenter, stop=stop)
    project.save_mask(0, 1, square(2, 10))
    assert project.propagate(segmenter)
    assert torch.equal(project.result(3) == 1, square(2, 13))


def test_what_was_computed_before_an_error_is_kept(project: Project) -> None:
    class Failing(Sliding):
        def _predict(self, frame: Tensor) -> Tensor:
            if len(self.log) == 3:
                raise MemoryError
            return super()._predict(frame)

    with pytest.raises(MemoryError):
        project.propagate(Failing())
    assert project.states()[:, 0].tolist() == [FIRST] + [PRESENT] * 3 + [UNKNOWN] * 8
    assert project.propagate(Sliding())
    assert not project.stale().any()


def test_what_cannot_be_propagated(project: Project, video: Video, tmp_path: Path) -> None:
    for frames in (range(0), range(5, 20), range(0, 6, 2), range(3, -3, -1)):
        with pytest.raises(TutorialError, match="cannot be computed"):
            project.propagate(Sliding(), frames=frames)
    with pytest.raises(TutorialError, match=r"no object 7; its objects are 1 \(object 1\), 2"):
        project.propagate(Sliding(), objects=[7])
    empty = Project.open(tmp_path / "other", video)
    empty.add_object()
    with pytest.raises(TutorialError, match="no mask is given yet"):
        empty.propagate(Sliding())


def test_an_empty_answer_is_absent_and_its_confidence_is_the_absence_s(project: Project) -> None:
    class Losing(Sliding):
        def _predict(self, frame: Tensor) -> Tensor:
            p = super()._predict(frame)
            p[1:] *= 0.3
            p[0] = 1 - p[1:].sum(0)
            return p

    project.propagate(Losing(), objects=[1])
    assert project.states()[1, 0] == ABSENT
    assert project.confidence()[1, 0] == pytest.approx(1 - 0.3 * 0.93)
    assert np.isnan(project.confidence()[1, 1])


# ----------------------------------------------------------------------------------- opening again, other writers


def test_reopening_finds_everything(project: Project, video: Video, tmp_path: Path) -> None:
    project.change_object(1, name="cup", colour="#102030")
    project.propagate(Sliding())
    project.save_mask(5, 1, square(10, 8))
    ids, sure, states, stale = all_ids(project), project.confidence(), project.states(), project.stale()
    again = Project.open(tmp_path / "project")  # without naming the video
    assert again.objects == project.objects
    assert again.objects[1].name == "cup"
    assert torch.equal(all_ids(again), ids)
    assert np.array_equal(again.confidence(), sure)
    assert np.array_equal(again.states(), states)
    assert np.array_equal(again.stale(), stale)
    assert again.given(1) == {0: "first", 5: "correction"}
    again.propagate(segmenter := Sliding())
    assert segmenter.log == [(1,)] * 7
    with pytest.raises(TutorialError, match="was closed, or opened again"):
        project.save_mask(0, 1, square(0, 0))  # the cell's older object
    project.close()  # which does not take the folder away from the newer one
    again.save_mask(0, 1, square(0, 0))


OPEN = """
import sys, time
from vos_tutorial.video import Project
project = Project.open(sys.argv[1])
print("open", flush=True)
sys.stdin.readline()
"""


def test_one_process_at_a_time_and_a_killed_one_leaves_the_project_free(project: Project, tmp_path: Path) -> None:
    project.close()
    command = [sys.executable, "-c", OPEN, str(tmp_path / "project")]
    other = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert other.stdout is not None
        assert other.stdout.readline() == "open\n"
        with pytest.raises(TutorialError, match=rf"is open elsewhere \(process {other.pid}\)"):
            Project.open(tmp_path / "project")
    finally:
        other.kill()
        other.communicate()
    again = Project.open(tmp_path / "project")
    assert sorted(again.objects) == [1, 2]
    assert again.masks(0)[1].sum() == 36


def test_a_project_of_another_video(project: Project, tmp_path: Path) -> None:
    other = tmp_path / "other_clip"
    other.mkdir()
    Image.fromarray(np.zeros((H, W, 3), np.uint8)).save(other / "0.png")
    with pytest.raises(TutorialError, match="is about another video"):
        Project.open(tmp_path / "project", other)
    with pytest.raises(TutorialError, match="numbers the frames of"):
        Project.open(tmp_path / "project", Video(tmp_path / "clip", every=2))
    moved = (tmp_path / "clip").rename(tmp_path / "moved")
    with pytest.raises(TutorialError, match="is not there any more; give its new place"):
        Project.open(tmp_path / "project")
    assert Project.open(tmp_path / "project", moved).video.path == moved
    assert Project.open(tmp_path / "project").video.path == moved  # it has learned the new place


def test_both_moved_together(project: Project, tmp_path: Path) -> None:
    project.close()
    (tmp_path / "new").mkdir()
    for name in ("clip", "project"):
        (tmp_path / name).rename(tmp_path / "new" / name)
    assert len(Project.open(tmp_path / "new" / "project").video) == T


def test_folders_that_are_no_project(video: Video, tmp_path: Path) -> None:
    with pytest.raises(TutorialError, match="is no project yet"):
        Project.open(tmp_path / "nothing")
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "dear.txt").write_text("...")
    with pytest.raises(TutorialError, match=r"holds files, but no project\.json"):
        Project.open(tmp_path / "letters", video)
    with pytest.raises(TutorialError, match="is a file"):
        Project.open(tmp_path / "letters" / "dear.txt", video)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"version": 1}', '{"version": 1, "objects": 3}'])
def test_a_damaged_project_file(content: str, project: Project) -> None:
    (project.folder / "project.json").write_text(content)
    with pytest.raises(TutorialError, match=r"is damaged; the masks in .*given are still there"):
        Project.open(project.folder)


def test_a_project_of_a_later_version(project: Project) -> None:
    path = project.folder / "project.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "version": 2}))
    with pytest.raises(TutorialError, match="is of version 2; update"):
        Project.open(project.folder)


def test_a_damaged_result_is_computed_again_and_a_damaged_mask_is_told(project: Project) -> None:
    project.propagate(Sliding())
    wanted = all_ids(project)
    (project.folder / "results" / "002" / "00004.png").write_bytes(b"")
    (project.folder / "results" / "001" / "00005.png").write_bytes(files(project, 1)["00005.png"][:-20])
    again = Project.open(project.folder)
    assert np.argwhere(again.stale()).tolist() == [[4, 1], [5, 0]]
    again.propagate(Sliding())
    assert torch.equal(all_ids(again), wanted)
    (project.folder / "given" / "002" / "00000.png").write_bytes(b"half")
    with pytest.warns(UserWarning, match=r"given.002.00000\.png is damaged and left out; paint it again"):
        again = Project.open(project.folder)
    assert again.given(2) == {}


def test_a_full_disk_leaves_the_mask_from_before(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    before = project.masks(0)[1]

    def full(file: int) -> None:
        raise OSError(28, os.strerror(28))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(TutorialError, match="free some space"):
            project.save_mask(0, 1, square(9, 9))
    assert torch.equal(project.masks(0)[1], before)
    assert torch.equal(Project.open(project.folder).masks(0)[1], before)


# ------------------------------------------------------------------------------------------------ objects, masks


def test_objects_have_the_course_s_colours_and_254_is_all(project: Project) -> None:
    while len(project.objects) < 254:
        project.objects[len(project.objects) + 1] = project.objects[1]
    with pytest.raises(TutorialError, match="has 254 objects, and a mask of 8 bits holds no more"):
        project.add_object()


def test_default_colours_are_those_of_the_course(project: Project) -> None:
    for _ in range(7):
        project.add_object()
    wanted = {o: "#" + bytes(object_colours()[o]).hex() for o in range(1, 10)}
    assert {o: each.colour for o, each in project.objects.items()} == wanted


def test_removing_an_object_keeps_its_masks_out_of_the_way(project: Project, tmp_path: Path) -> None:
    project.propagate(Sliding())
    project.remove_object(1)
    assert list(project.objects) == [2]
    assert not (project.result(3) == 1).any()
    assert [path.name[:9] for path in (tmp_path / "project" / "removed").iterdir() if "given" in path.name] == [
        "given-001"
    ]
    assert project.add_object("another") == 1  # and begins without them
    assert project.given(1) == {}
    assert Project.open(tmp_path / "project").given(1) == {}


def test_masks_that_cannot_be_saved(project: Project) -> None:
    with pytest.raises(TutorialError, match="the mask is 4x4 but the frames of the video are 32x40"):
        project.save_mask(0, 1, torch.zeros(4, 4, dtype=torch.bool))
    with pytest.raises(TutorialError, match=r"no frame 12; the video has frames 0\.\.11"):
        project.save_mask(12, 1, square(0, 0))
    with pytest.raises(TutorialError, match="no object 9"):
        project.save_mask(0, 9, square(0, 0))
    with pytest.raises(TutorialError, match="is taken, or none of"):
        project.add_object(object_id=1)
    with pytest.raises(TutorialError, match="write it as #rrggbb"):
        project.add_object(colour="red")


def test_undo_of_the_first_mask(project: Project) -> None:
    project.save_mask(5, 1, square(1, 1))
    project.save_mask(0, 1, None)
    assert project.given(1) == {5: "first"}
    project.save_mask(5, 1, None)
    assert project.given(1) == {}
    assert list(project.masks(0)) == [2]
    assert np.isnan(project.confidence()[:, 0]).all()


def test_ids_count_as_a_mask(project: Project) -> None:
    ids = square(3, 3).byte() * 7
    ids[0, 0] = 255  # void
    project.save_mask(1, 1, ids)
    assert torch.equal(project.masks(1)[1], square(3, 3))
    assert torch.equal(ids_to_onehot(project.result(1), [1])[0], square(3, 3))
