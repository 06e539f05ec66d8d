"""Exports: each opened by a reader that is not ours, and none half written or lost when something goes wrong."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from vos_tutorial.clip import davis_palette
from vos_tutorial.data import make_clip
from vos_tutorial.errors import TutorialError
from vos_tutorial.video import Project, Video, export, write_video
from vos_tutorial.video.exporting import FORMATS, overlay, run_lengths

av = pytest.importorskip("av")

STAMPS = [Fraction(ms, 1000) for ms in (0, 40, 90, 95, 200, 330)]
CLIP = make_clip(5, size=64, length=6, attributes=("multiple_objects",))
FRAMES = torch.stack([frame[:, :, :63] for frame in CLIP.frames])[:, :, :61]  # [T, 3, 61, 63], odd on both sides
MASKS = CLIP.masks[:, :61, :63]


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """All masks given, so that what is exported is known; the source's times are not regular."""
    write_video(tmp_path / "clip.webm", list(FRAMES), STAMPS)
    opened = Project.open(tmp_path / "project", tmp_path / "clip.webm")
    for o in CLIP.objects:
        assert opened.add_object(f"shape {o}", colour="#ff00ff" if o == 1 else None) == o
        for t, mask in enumerate(MASKS):
            opened.save_mask(t, o, mask == o)
    return opened


def decoded(path: Path, codec: str = "") -> tuple[list[Any], list[Fraction]]:
    """All frames and times of a video file, by PyAV itself, or by one of its decoders."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        decoder = av.CodecContext.create(codec, "r") if codec else stream.codec_context
        if codec:
            decoder.extradata = stream.codec_context.extradata
        frames = [frame for packet in container.demux(stream) for frame in decoder.decode(packet)]
        return frames, [frame.pts * stream.time_base for frame in frames]


def test_masks_are_palette_pngs(project: Project, tmp_path: Path) -> None:
    (folder,) = export(project, tmp_path / "out", ["masks"])
    assert sorted(path.name for path in folder.iterdir()) == [f"{t:05d}.png" for t in range(6)]
    for t in range(6):
        with Image.open(folder / f"{t:05d}.png") as image:
            assert image.mode == "P"
            assert np.array_equal(np.array(image.getpalette()).reshape(-1, 3)[:6], davis_palette()[:6])
            assert np.array_equal(np.array(image), MASKS[t].numpy())


@pytest.mark.parametrize(("name", "size"), [("overlay", (62, 64)), ("webm", (61, 63))])
def test_overlays_have_the_times_of_the_source(
    name: str, size: tuple[int, int], project: Project, tmp_path: Path
) -> None:
    (path,) = export(project, tmp_path / "out", [name])
    frames, times = decoded(path)
    assert [time - times[0] for time in times] == STAMPS
    assert {(frame.height, frame.width) for frame in frames} == {size}  # H.264 holds even sides only
    if name == "overlay":
        assert frames[0].format.name == "yuv420p"  # what every player can show
    for t, frame in enumerate(frames):
        shown = frame.to_ndarray(format="rgb24")[:61, :63].astype(int)  # by the matrix that the file names
        wanted = overlay(FRAMES[t], MASKS[t], colours()).permute(1, 2, 0).numpy()
        assert np.abs(shown - wanted).mean() < 16  # both the clip and its overlay were compressed
        inside = np.zeros((61, 63), bool)
        inside[2:-2, 2:-2] = (MASKS[t] == 1).numpy()[2:-2, 2:-2]
        if inside.sum() > 40:  # the first object's own colour, magenta, and not DAVIS's dark red
            assert (shown - FRAMES[t].permute(1, 2, 0).numpy())[inside].mean(0)[2] > 10


def colours() -> Any:
    table = davis_palette()
    table[1] = (255, 0, 255)
    return table


def test_webp_plays_in_time(project: Project, tmp_path: Path) -> None:
    (path,) = export(project, tmp_path / "out", ["webp"])
    with Image.open(path) as image:
        assert (image.format, image.n_frames, image.size) == ("WEBP", 6, (63, 61))
        assert image.info["loop"] == 0
        for t, until in enumerate((40, 50, 5, 105, 130)):
            image.seek(t)
            image.load()
            assert image.info["duration"] == until


def test_cutouts_are_transparent_around_the_objects(project: Project, tmp_path: Path) -> None:
    folder, film = export(project, tmp_path / "out", ["cutouts", "transparent"])
    frames, times = decoded(film, "libvpx-vp9")  # the decoder of FFmpeg's own drops alpha
    assert [time - times[0] for time in times] == STAMPS
    for t in range(6):
        inside = (MASKS[t] > 0).numpy()
        with Image.open(folder / f"{t:05d}.png") as image:
            assert image.mode == "RGBA"
            pixels = np.array(image)
        assert np.array_equal(pixels[..., 3], inside * 255)
        difference = np.abs(pixels[..., :3].astype(int) - FRAMES[t].permute(1, 2, 0).numpy())
        assert difference.mean() < 12  # the clip went through VP9
        assert frames[t].format.name == "yuva420p"
        alpha = frames[t].to_ndarray(format="rgba")[..., 3]
        assert np.mean((alpha > 127) == inside) > 0.97


def test_coco_is_read_back_by_pycocotools(project: Project, tmp_path: Path) -> None:
    coco_tools = pytest.importorskip("pycocotools.coco")
    (path,) = export(project, tmp_path / "out", ["coco"])
    coco = coco_tools.COCO(str(path))
    assert {each["name"] for each in coco.loadCats(coco.getCatIds())} == {f"shape {o}" for o in CLIP.objects}
    assert [coco.imgs[t]["time"] for t in range(6)] == [float(time) for time in STAMPS]
    for t in range(6):
        read = np.zeros((61, 63), np.uint8)
        for annotation in coco.loadAnns(coco.getAnnIds(imgIds=[t])):
            mask = coco.annToMask(annotation)
            read[mask > 0] = annotation["category_id"]
            assert annotation["area"] == mask.sum()
            x, y, width, height = annotation["bbox"]
            assert mask[y : y + height, x : x + width].sum() == mask.sum()
            assert all(mask[y : y + height, x : x + width].any(axis)[end] for axis in (0, 1) for end in (0, -1))
        assert np.array_equal(read, MASKS[t].numpy())


def test_run_lengths_are_those_of_pycocotools() -> None:
    tools = pytest.importorskip("pycocotools.mask")
    masks = [np.random.default_rng(i).random((7, 9)) > i / 40 for i in range(41)]
    large = np.zeros((900, 1100), bool)
    large[3:880, 5:700] = True
    for mask in [*masks, large, ~large]:
        theirs = tools.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"]
        assert run_lengths(mask) == theirs.decode()


def test_numpy_needs_no_pickle(project: Project, tmp_path: Path) -> None:
    (path,) = export(project, tmp_path / "out", ["numpy"])
    with np.load(path, allow_pickle=False) as arrays:
        assert np.array_equal(arrays["ids"], MASKS.numpy())
        assert arrays["times"].tolist() == [float(time) for time in STAMPS]
        assert arrays["objects"].tolist() == CLIP.objects
        assert arrays["names"].tolist() == [f"shape {o}" for o in CLIP.objects]
        assert (arrays["confidence"] == 1).all()


# ------------------------------------------------------------------------------------------ when it goes wrong


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("name", FORMATS)
def test_a_full_disk_in_the_middle_of_an_export(
    name: str, project: Project, tmp_path: Path, full_disk: Callable[[int], AbstractContextManager[None]]
) -> None:
    out = tmp_path / "out"
    export(project, out, [name])
    for t in range(6):
        project.save_mask(t, 1, MASKS[5 - t] == 1)
    files = {file: content for file, content in contents(out).items() if not file.startswith(".")}
    sizes = {len(content) for content in files.values()}
    before, given = contents(out), contents(tmp_path / "project")
    with full_disk(max(sizes) // 2), pytest.raises(TutorialError, match=r"cannot write .* free some space"):
        export(project, out, [name])
    after = contents(out)
    assert {file: after[file] for file in files} == files  # the earlier export is intact
    assert set(after) == set(before)  # and no half file lies beside it
    assert contents(tmp_path / "project") == given
    export(project, out, [name])  # and it goes on when there is room
    assert contents(out) != before


def test_a_video_that_ends_early_leaves_no_half_export(project: Project, tmp_path: Path) -> None:
    write_video(tmp_path / "clip.webm", list(FRAMES[:3]), STAMPS[:3])
    for name in ("overlay", "cutouts"):
        with pytest.raises(TutorialError, match="was the file changed"):
            export(project, tmp_path / "out", [name])
    assert {file for file in contents(tmp_path / "out") if not file.startswith(".")} == set()


def test_files_of_others_are_neither_replaced_nor_removed(project: Project, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "overlay.mp4").write_bytes(b"holidays")
    with pytest.raises(TutorialError, match=r"holds overlay\.mp4, which is not"):
        export(project, out, ["overlay"])
    (out / "masks").mkdir()
    (out / "masks" / "00000.png").write_bytes(b"by hand")
    with pytest.raises(TutorialError, match=r"holds 00000\.png"):
        export(project, out, ["masks"])
    assert (out / "overlay.mp4").read_bytes() == b"holidays"
    assert (out / "masks" / "00000.png").read_bytes() == b"by hand"
    export(project, out, ["coco"])  # beside them there is room


def test_what_cannot_be_exported(project: Project, tmp_path: Path) -> None:
    with pytest.raises(TutorialError, match="there is no export 'avi'; choose from masks, overlay"):
        export(project, tmp_path / "out", ["masks", "avi"])
    empty = Project.open(tmp_path / "empty", tmp_path / "clip.webm")
    with pytest.raises(TutorialError, match="has no mask yet"):
        export(empty, tmp_path / "out")
    assert not (tmp_path / "out").exists()


# --------------------------------------------------------------------------------------------- writing a video


def test_mp4_keeps_times_that_no_millisecond_holds(tmp_path: Path) -> None:
    times = [Fraction(1001 * n, 30000) for n in (0, 1, 2, 4, 5, 9)]
    write_video(tmp_path / "clip.mp4", list(FRAMES), times)
    assert Video(tmp_path / "clip.mp4").times == times
    assert decoded(tmp_path / "clip.mp4")[1] == times


def test_one_frame_and_wrong_numbers_of_times(tmp_path: Path) -> None:
    write_video(tmp_path / "one.mp4", FRAMES[:1], [0])
    assert len(decoded(tmp_path / "one.mp4")[0]) == 1
    for frames, times in ((FRAMES[:2], [0]), (FRAMES[:1], [0, 1])):
        with pytest.raises(TutorialError, match="give one for each"):
            write_video(tmp_path / "two.mp4", frames, times)
    for frames, times in ((FRAMES[:0], [0]), (FRAMES[:1], [])):
        with pytest.raises(TutorialError, match="would hold no frame"):
            write_video(tmp_path / "two.mp4", frames, times)
    with pytest.raises(TutorialError, match=r"a \.avi cannot be written; choose \.mp4 or"):
        write_video(tmp_path / "two.avi", FRAMES[:1], [0])
    with pytest.raises(TutorialError, match=r"a \.mp4 cannot hold transparent video; choose \.webm or \.webp"):
        write_video(tmp_path / "two.mp4", torch.zeros(1, 4, 8, 8, dtype=torch.uint8), [0])
    assert [path.name for path in tmp_path.iterdir()] == ["one.mp4"]


def test_overlay_by_hand() -> None:
    frame = torch.full((3, 5, 5), 100, dtype=torch.uint8)
    ids = torch.zeros(5, 5, dtype=torch.uint8)
    ids[1:4, 1:5] = 1
    colours = np.zeros((256, 3), np.uint8)
    colours[1] = (200, 100, 0)
    red, _, blue = overlay(frame, ids, colours)
    assert red.tolist() == [
        [100, 100, 100, 100, 100],
        [100, 200, 200, 200, 200],
        [100, 200, 135, 135, 200],  # 100 + 0.35 * 100 inside, the colour itself on the outline
        [100, 200, 200, 200, 200],
        [100, 100, 100, 100, 100],
    ]
    assert blue[2].tolist() == [100, 0, 65, 65, 0]
    assert torch.equal(overlay(frame, torch.zeros_like(ids), colours), frame)
    assert frame.unique().tolist() == [100]  # the frame itself is untouched
