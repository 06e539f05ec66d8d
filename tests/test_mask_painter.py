"""MaskPainter on the Python side: what goes to the page, what the page's messages do, what outlives the kernel."""

from __future__ import annotations

import base64
import io
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given as for_all
from hypothesis import settings
from hypothesis import strategies as st
from painter_kernel import Walks
from PIL import Image, ImageDraw

from vos_tutorial.course import figures
from vos_tutorial.course.widgets import MaskPainter, mask_painter
from vos_tutorial.course.widgets.mask_painter import JOURNAL, ids_of, runs_of
from vos_tutorial.course.widgets.widget import POSTER_BYTES
from vos_tutorial.errors import TutorialError
from vos_tutorial.video import Object, Project, Video

T, H, W = 8, 24, 40


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    folder = tmp_path / "clip"
    folder.mkdir()
    for t in range(T):
        Image.fromarray(np.full((H, W, 3), 40 + 10 * t, np.uint8)).save(folder / f"{t:03d}.png")
    opened = Project.open(tmp_path / "project", Video(folder))
    yield opened
    opened.close()


class Page:
    """What a page would hear and say."""

    def __init__(self, painter: MaskPainter, view: str = "one") -> None:
        self.painter, self.view = painter, view
        self.heard: list[tuple[dict[str, Any], list[bytes]]] = []
        painter.send = lambda content, buffers=None: self.heard.append((content, list(buffers or [])))  # type: ignore

    def say(self, kind: str, buffers: tuple[bytes, ...] = (), **content: Any) -> tuple[dict[str, Any], list[bytes]]:
        """A message; the last answer to it."""
        before = len(self.heard)
        self.painter._receive(None, {"kind": kind, "view": self.view, **content}, [memoryview(b) for b in buffers])
        return self.heard[-1] if len(self.heard) > before else ({}, [])

    def paint(self, t: int, ids: np.ndarray, objects: list[int] | None = None, move: int = 0) -> dict[str, Any]:
        objects = sorted(set(ids.flat) - {0}) if objects is None else objects
        names = {str(o): f"object {o}" for o in objects}
        said = {"t": t, "objects": [int(o) for o in objects], "number": len(self.heard), "move": move, "names": names}
        return self.say("given", (runs_of(ids),), **said)[0]


def block(x0: int, x1: int, o: int = 1) -> np.ndarray:
    ids = np.zeros((H, W), np.uint8)
    ids[4:12, x0:x1] = o
    return ids


def bits(painter: MaskPainter) -> np.ndarray:
    return np.frombuffer(painter._strip, np.uint8).reshape(-1, T, 2)[..., 0]


# --- run lengths -----------------------------------------------------------------------------------------------


@for_all(st.lists(st.tuples(st.integers(0, 255), st.integers(1, 9)), min_size=1, max_size=30))
@settings(max_examples=60, deadline=None)
def test_run_lengths_come_back(pieces: list[tuple[int, int]]) -> None:
    flat = np.repeat(*np.array(pieces, dtype=np.int64).T).astype(np.uint8)
    runs = runs_of(flat[None])
    np.testing.assert_array_equal(ids_of(runs, (1, len(flat))), flat[None])
    assert len(runs) == 4 * (1 + np.count_nonzero(np.diff(flat.astype(int))))


def test_run_lengths_of_a_frame_larger_than_a_run() -> None:
    ids = np.full((4100, 4100), 3, np.uint8)
    ids[-1, -1] = 0
    runs = runs_of(ids)
    assert len(runs) == 12
    np.testing.assert_array_equal(ids_of(runs, ids.shape), ids)


def test_run_lengths_of_another_size_are_refused() -> None:
    with pytest.raises(TutorialError, match="frames are 24x41"):
        ids_of(runs_of(block(1, 9)), (H, W + 1))


# --- messages --------------------------------------------------------------------------------------------------


def test_a_frame_comes_as_picture_answer_and_given_masks(project: Project) -> None:
    painter = MaskPainter(project)
    page = Page(painter)
    page.paint(2, block(3, 9))
    content, (jpeg, result, given) = page.say("frame", t=2)
    assert content == {"kind": "frame", "view": "one", "t": 2, "objects": [1]}
    assert abs(int(np.asarray(Image.open(io.BytesIO(jpeg)))[20, 30, 0]) - 60) <= 2
    np.testing.assert_array_equal(ids_of(given, (H, W)), block(3, 9))
    np.testing.assert_array_equal(ids_of(result, (H, W)), block(3, 9))
    assert page.say("frame", t=T)[0]["sentence"] == f"there is no frame {T} in this video; choose 0..{T - 1}."


def test_what_is_painted_is_on_the_disk_before_it_is_called_saved(project: Project) -> None:
    painter = MaskPainter(project)
    page = Page(painter)
    ids = block(3, 9) + block(20, 30, 2)
    said = page.paint(0, ids)
    assert (said["kind"], said["t"]) == ("saved", 0)
    again = Project.open(project.folder)
    for o in (1, 2):
        np.testing.assert_array_equal(again.masks(0)[o].numpy(), ids == o)
    assert [each["colour"] for each in painter._objects] == [
        "#" + bytes(figures.object_colours()[o]).hex() for o in (1, 2)
    ]


def test_only_what_changed_is_written(project: Project) -> None:
    page = Page(MaskPainter(project))
    page.paint(0, block(3, 9) + block(20, 30, 2))
    files = {p: p.stat().st_mtime_ns for p in project.folder.glob("given/*/*.png")}
    page.paint(0, block(3, 12) + block(20, 30, 2))
    assert [p.parent.name for p, written in files.items() if p.stat().st_mtime_ns != written] == ["001"]


def test_not_in_this_frame_and_taken_back(project: Project) -> None:
    painter = MaskPainter(project)
    page = Page(painter)
    page.paint(0, block(3, 9))
    page.paint(4, np.zeros((H, W), np.uint8), objects=[1])
    assert bits(painter)[0].tolist() == [
        3,
        0,
        0,
        0,
        6,
        0,
        0,
        0,
    ]  # "there, given"; "given, corrected"
    fresh = MaskPainter(project)
    assert bits(fresh)[0].tolist() == bits(painter)[0].tolist()
    Page(fresh).paint(4, np.zeros((H, W), np.uint8), objects=[])
    assert project.given(1) == {0: "first"}
    assert bits(fresh)[0].tolist() == [3] + [0] * 7


def test_the_strip_tells_computed_from_out_of_date(project: Project) -> None:
    painter = MaskPainter(project, Walks(step=1))
    page = Page(painter)
    page.paint(0, block(3, 9))
    painter.propagate()
    assert painter.wait(20)
    assert bits(painter)[0].tolist() == [3] + [9] * 7
    sure = np.frombuffer(painter._strip, np.uint8).reshape(-1, T, 2)[0, :, 1]
    assert (np.diff(sure.astype(int)) < 0).all()
    page.paint(5, block(9, 15))
    assert bits(painter)[0].tolist() == [3, 9, 9, 9, 9, 7, 25, 25]
    page.paint(5, np.zeros((H, W), np.uint8), objects=[], move=-1)
    assert bits(painter)[0].tolist() == [3] + [9] * 7  # what was computed before the correction is right again


def test_what_is_painted_while_a_method_runs_is_computed_too(project: Project) -> None:
    turns = threading.Semaphore(2)
    painter = MaskPainter(project, Walks(step=1, gate=lambda: turns.acquire(timeout=20)))
    page = Page(painter)
    page.paint(0, block(3, 9))
    painter.propagate()
    page.paint(5, block(20, 30))
    for _ in range(40):
        turns.release()
    assert painter.wait(20)
    assert not project.stale().any()
    np.testing.assert_array_equal(project.result(7).numpy(), block(22, 32))
    assert painter.status.startswith("Done.")


def test_what_was_stopped_on_its_way_back_goes_on_from_any_frame(project: Project) -> None:
    turns = threading.Semaphore(2)
    method = Walks(step=-1, gate=lambda: turns.acquire(timeout=20))
    painter = MaskPainter(project, method, frame=6)
    Page(painter).paint(6, block(20, 30))
    painter.propagate("backward")
    while project.states()[4, 0] != 2:
        assert not painter.wait(0.01)
    painter.stop()
    turns.release()
    assert painter.wait(20)
    assert painter.status == "Stopped; Backward goes on from here."
    assert project.states()[:3, 0].tolist() == [0, 0, 0]
    painter.frame = 3  # where the preview stands
    for _ in range(9):
        turns.release()
    painter.propagate("backward")
    assert painter.wait(20)
    assert project.states()[:, 0].tolist() == [2] * 6 + [3, 0]
    assert method.steps == 6
    with pytest.raises(TutorialError, match="could be carried back"):
        painter.propagate("backward")


def test_a_run_cannot_begin_twice_or_with_nothing(project: Project) -> None:
    turns = threading.Semaphore(0)
    painter = MaskPainter(project, Walks(gate=lambda: turns.acquire(timeout=20)))
    page = Page(painter)
    assert "no mask is given yet" in page.say("propagate", direction="forward")[0]["sentence"]
    assert "could be carried back" in page.say("propagate", direction="backward")[0]["sentence"]
    page.paint(0, block(3, 9))
    painter.propagate()
    with pytest.raises(TutorialError, match="already"):
        painter.propagate()
    painter.stop()
    turns.release()
    assert painter.wait(20)


def test_a_method_that_fails_says_so(project: Project) -> None:
    def broken() -> None:
        raise MemoryError("out of memory")

    painter = MaskPainter(project, Walks(gate=broken))
    Page(painter).paint(0, block(3, 9))
    painter.propagate()
    assert painter.wait(20)
    assert painter.status == "MemoryError: out of memory"
    assert painter._run["running"] is False


def test_objects_get_names_and_go(project: Project) -> None:
    painter = MaskPainter(project)
    page = Page(painter)
    page.say("object", id=1, name="cat")
    page.say("object", id=1, name="dog")
    assert [each.name for each in project.objects.values()] == ["dog"]
    page.paint(0, block(3, 9))
    page.say("remove", id=1)
    assert project.objects == {}
    assert painter._objects == []
    page.say("object", id=255, name="void")
    assert page.heard[-1][0]["sentence"].startswith("an object cannot have the id 255")


def test_a_stroke_does_not_bring_back_an_object_that_was_removed_meanwhile(project: Project) -> None:
    page = Page(MaskPainter(project))
    page.paint(0, block(3, 9) + block(20, 24, 2))
    project.remove_object(2)
    said = {"t": 0, "objects": [1, 2], "number": 9, "names": {"1": "object 1"}}  # the page knows that it is gone
    assert page.say("given", (runs_of(block(3, 12) + block(20, 24, 2)),), **said)[0]["kind"] == "saved"
    assert list(project.objects) == [1]
    np.testing.assert_array_equal(project.masks(0)[1].numpy(), block(3, 12) == 1)


def test_what_a_cell_changes_in_the_project_is_shown_after_it(project: Project) -> None:
    painter = MaskPainter(project)
    page = Page(painter)
    painter._after_cell()
    assert page.heard == []
    project.save_mask(2, project.add_object("one"), torch.from_numpy(block(3, 9) > 0))
    painter._after_cell()
    assert page.heard[-1][0] == {"kind": "reload"}
    assert bits(painter)[0].tolist() == [0, 0, 3, 0, 0, 0, 0, 0]
    project.save_mask(2, 1, torch.from_numpy(block(3, 12) > 0))  # the strip stays as it was
    painter._after_cell()
    assert len(page.heard) == 2
    project.change_object(1, name="two")
    painter._after_cell()
    assert painter._objects[0]["name"] == "two"


def test_objects_bring_their_colours(project: Project) -> None:
    project.add_object("one")
    project.add_object("two", "#123456")
    painter = MaskPainter(project)
    assert [each["colour"] for each in painter._objects] == ["#e69f00", "#123456"]
    project.save_mask(0, 2, torch.from_numpy(block(3, 30) > 0))
    picture = np.asarray(Image.open(io.BytesIO(painter.poster())).convert("RGB")).astype(int)
    assert (np.abs(picture[:, 120:] - (0x12, 0x34, 0x56)).max(axis=2) < 12).any()


# --- undo that outlives the kernel -------------------------------------------------------------------------------


def test_edits_are_kept_and_can_be_undone_by_the_next_kernel(project: Project) -> None:
    page = Page(MaskPainter(project))
    page.paint(0, block(3, 9))
    page.paint(0, block(3, 12))
    page.paint(3, block(5, 9))
    page.paint(3, np.zeros((H, W), np.uint8), objects=[], move=-1)
    welcome, buffers = Page(MaskPainter(project)).say("hello")
    assert welcome["edits"] == [[0, [], [1]], [0, [1], [1]], [3, [], [1]]]
    assert welcome["position"] == 2
    states = [ids_of(b, (H, W)) for b in buffers]
    np.testing.assert_array_equal(states[1], block(3, 9))
    np.testing.assert_array_equal(states[2], block(3, 9))
    np.testing.assert_array_equal(states[3], block(3, 12))


def test_a_new_edit_after_undo_forgets_what_was_undone(project: Project) -> None:
    page = Page(MaskPainter(project))
    page.paint(0, block(3, 9))
    page.paint(0, block(3, 12))
    page.paint(0, block(3, 9), move=-1)
    page.paint(0, block(20, 30))
    welcome, _ = Page(MaskPainter(project)).say("hello")
    assert (len(welcome["edits"]), welcome["position"]) == (2, 2)


def test_a_journal_that_a_crash_cut_off_is_read_as_far_as_it_goes(project: Project) -> None:
    page = Page(MaskPainter(project))
    page.paint(0, block(3, 9))
    page.paint(0, block(3, 12))
    path = project.folder / JOURNAL
    lines = path.read_text().splitlines()
    assert json.loads(lines[0])[0] == 0
    path.write_text("\n".join(lines)[:-20])
    welcome, _ = Page(MaskPainter(project)).say("hello")
    assert (len(welcome["edits"]), welcome["position"]) == (1, 1)
    np.testing.assert_array_equal(project.masks(0)[1].numpy(), block(3, 12) == 1)  # masks do not depend on it


# --- who paints --------------------------------------------------------------------------------------------------


def test_a_newer_painter_ends_the_older_one(project: Project) -> None:
    older = MaskPainter(project)
    page = Page(older)
    newer = MaskPainter(project)
    assert page.heard[-1][0]["kind"] == "closed"
    assert mask_painter._OPEN[str(project.folder.resolve())] is newer


def test_what_is_refused(project: Project, tmp_path: Path) -> None:
    with pytest.raises(TutorialError, match="needs a project, not PosixPath"):
        MaskPainter(tmp_path)  # type: ignore[arg-type]
    with pytest.raises(TutorialError, match=r"choose 0\.\.7"):
        MaskPainter(project, frame=8)
    page = Page(MaskPainter(project))
    assert "pixels came from the page" in page.say("given", (b"\0" * 8,), t=0, objects=[1], number=1)[0]["sentence"]
    assert project.objects == {}
    assert page.say("nonsense")[0]["sentence"] == "KeyError: 'nonsense'"


def test_large_frames_are_told_to_be_slow(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    assert MaskPainter(project).status == ""
    monkeypatch.setattr(mask_painter, "LARGE", H * W - 1)
    assert "Frames are 40x24" in MaskPainter(project).status


# --- pictures ----------------------------------------------------------------------------------------------------


def test_repr_and_bundle_suit_a_strict_notebook_test(project: Project) -> None:
    painter = MaskPainter(project)
    Page(painter).paint(0, block(3, 9))
    assert repr(painter) == "MaskPainter(T=8, 24x40, objects=1)"
    data, metadata = painter._repr_mimebundle_()
    assert data["text/plain"] == repr(painter)
    assert metadata["image/png"] == {"alt": "Video clip"}
    assert len(base64.b64decode(data["image/png"])) < POSTER_BYTES


def test_the_poster_shows_masks_and_strip(project: Project) -> None:
    painter = MaskPainter(project)
    before = np.asarray(Image.open(io.BytesIO(painter.poster())).convert("RGB"))
    Page(painter).paint(0, block(3, 9))
    after = np.asarray(Image.open(io.BytesIO(painter.poster())).convert("RGB"))
    assert after.shape[0] == before.shape[0] + mask_painter.STRIP_ROW
    orange = np.abs(after.astype(int) - (230, 159, 0)).max(axis=2) < 40
    row = before.shape[0] - 4 - 2 * mask_painter.BUTTON_ROW  # the strip is above two rows of buttons
    assert orange[:row].any()
    assert orange[row : row + mask_painter.STRIP_ROW, 120:].any()
    assert not orange[row + mask_painter.STRIP_ROW :].any()


def test_the_still_strip_tells_what_the_live_one_tells() -> None:
    present, given, corrected, computed = (
        mask_painter.PRESENT, mask_painter.GIVEN, mask_painter.CORRECTED, mask_painter.COMPUTED
    )  # fmt: skip
    found = present | computed
    frames = [(given | present, 255), (found, 200), (found, 120), (computed, 255), (given | corrected, 255), (0, 0)]
    frames.append((found | mask_painter.STALE, 200))
    board = Image.new("RGB", (120 + 60 * len(frames), mask_painter.STRIP_ROW), "white")
    colour = np.array([230, 159, 0], np.uint8)
    strip = np.array(frames, np.uint8)
    mask_painter._draw_row(ImageDraw.Draw(board), strip, 0, board.width, Object(1, "one", "#e69f00"), colour)
    cells = np.asarray(board).astype(int)[:, 120:].reshape(mask_painter.STRIP_ROW, len(frames), 60, 3)
    orange = np.abs(cells - colour).max(-1) < 5  # rows, frames, across
    ink = cells.max(-1) < 60
    tall = orange[9:, :, 2].sum(0)  # below the marks, beside the middle
    assert tall[0] > tall[1] > tall[2] > 0
    assert not tall[3:].any()
    np.testing.assert_allclose(cells[-6, 6, 30], 0.45 * colour + 0.55 * 255, atol=1)  # out of date: pale
    assert ink[15:, 3].any()  # "not there" is a line along the ground
    assert ink[15:, 4].any()
    assert not ink[:, 5].any()
    marked = ink[:9].any((0, 2))
    assert marked.tolist() == [True, False, True, False, True, False, False]  # given, least sure, corrected
    disc, triangle, diamond = ([int(np.ptp(np.flatnonzero(row))) for row in ink[:9, t]] for t in (0, 2, 4))
    assert disc == disc[::-1]
    assert disc.count(max(disc)) >= 3  # round: its sides are upright in the middle
    assert triangle == sorted(triangle, reverse=True)  # on its head
    assert triangle[0] > triangle[-1] == 0
    assert diamond == diamond[::-1]
    assert diamond[:5] == [diamond[0] + 2 * row for row in range(5)]  # straight edges, to a corner
    assert orange[:9, 0].any()
    assert not orange[:9, 4].any()  # hollow: "not in this frame"


PAGE = [
    line
    for name in ("mask_painter", "painter_parts")
    for line in (Path(mask_painter.__file__).parent / f"{name}.js").read_text(encoding="utf-8").splitlines()
]


@pytest.mark.parametrize(("name", "key"), [button for row in mask_painter.BUTTONS for button in row])
def test_the_still_has_the_page_s_buttons(name: str, key: str) -> None:
    """A title says the key as ``(N)``, the list of tools as ``"b"`` behind the name."""
    made = [line for line in PAGE if f'"{name}"' in line and ("button" in line.lower() or f'"{name}", "' in line)]
    assert made, "the page has no such button"
    if key:
        assert any(f"({key})" in line or f'"{name}", "{key.lower()}"' in line for line in made)


def test_the_page_without_a_kernel_holds_a_few_frames(project: Project, tmp_path: Path) -> None:
    painter = MaskPainter(project)
    Page(painter).paint(5, block(3, 9))
    text = painter.to_html(tmp_path / "painter.html").read_text()
    assert "http" not in text.replace("http://www.w3.org/2000/svg", "")
    still = painter._page_state()["_still"]
    assert 5 in still["times"]
    assert len(still["times"]) <= mask_painter.STILL_FRAMES
    assert painter._still == {}
