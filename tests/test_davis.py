"""Folders in DAVIS and YouTube-VOS layout: every trap of the real data, in tiny."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from vos_tutorial import places
from vos_tutorial.clip import davis_palette, write_mask
from vos_tutorial.data import davis as module
from vos_tutorial.data.davis import DavisFolder, YouTubeVosFolder, appearances, find_davis, lists_split, write_davis
from vos_tutorial.data.worlds.sprites import benchmark
from vos_tutorial.errors import TutorialError
from vos_tutorial.propagation import propagate

H, W = 12, 20
SAMPLE = Path(__file__).resolve().parents[2] / "shared" / "davis_sample"


def frame(path: Path, t: int, size: tuple[int, int] = (H, W)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((*size, 3), 40 + 10 * t, np.uint8)).save(path, quality=95)


def palette_mask(path: Path, ids: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_mask(path, torch.from_numpy(ids.astype(np.uint8)))


def grey_mask(path: Path, values: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values.astype(np.uint8)).save(path)


def two_objects(first: int = 1, second: int = 3) -> np.ndarray:
    ids = np.zeros((H, W), np.uint8)
    ids[2:6, 2:8] = first
    ids[7:11, 10:18] = second
    return ids


def listed(root: Path, lines: str, year: str = "2017", split: str = "val") -> None:
    path = root / "ImageSets" / year / f"{split}.txt"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(lines)


@pytest.fixture
def davis2017(tmp_path: Path) -> Path:
    """Two sequences, 4 and 3 frames; ids 1 and 3 (a gap), and a void pixel."""
    root = tmp_path / "DAVIS"
    for name, length in (("cows", 4), ("dog", 3)):
        for t in range(length):
            frame(root / f"JPEGImages/480p/{name}/{t:05d}.jpg", t)
            ids = two_objects()
            ids[0, 0] = 255
            palette_mask(root / f"Annotations/480p/{name}/{t:05d}.png", ids)
    for year in ("2016", "2017"):
        listed(root, "cows\ndog\n\n", year)
    return root


@pytest.fixture
def davis2016(tmp_path: Path) -> Path:
    """One sequence with 0/255 masks, and the list of path pairs of 2016."""
    root = tmp_path / "DAVIS16"
    for t in range(3):
        frame(root / f"JPEGImages/480p/libby/{t:05d}.jpg", t)
        grey_mask(root / f"Annotations/480p/libby/{t:05d}.png", 255 * (two_objects() > 0))
    pair = "/JPEGImages/480p/libby/{0:05d}.jpg /Annotations/480p/libby/{0:05d}.png\n"
    listed(root, "".join(pair.format(t) for t in range(3)), "480p")
    return root


def test_ids_gaps_and_void(davis2017: Path) -> None:
    folder = DavisFolder(davis2017, 2017)
    assert folder.names == ["cows", "dog"]
    assert len(folder) == 2
    clip = folder["cows"]
    assert clip.frames.shape == (4, 3, H, W)
    assert clip.objects == [1, 3]
    assert int(clip.masks[0, 0, 0]) == 255
    assert clip.name == "cows"
    assert clip.attributes == ()
    assert clip.annotated == (0, 1, 2, 3)
    assert abs(int(clip.frames[2].float().mean()) - 60) <= 1  # frames in the order of time


def test_a_sequence_of_clips(davis2017: Path) -> None:
    folder = DavisFolder(davis2017, 2017)
    assert [clip.name for clip in folder] == ["cows", "dog"]
    assert folder[-1].name == "dog"
    assert "dog" in folder
    assert "cat" not in folder
    rest = folder[1:]
    assert isinstance(rest, DavisFolder)
    assert rest.names == ["dog"]
    assert folder.names == ["cows", "dog"]
    with pytest.raises(IndexError):
        folder[2]
    with pytest.raises(TutorialError, match=r"no clip 'cat'.*cows, dog"):
        folder["cat"]


def test_nothing_is_read_before_it_is_asked_for(davis2017: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    real = module.read_frame

    def spy(path: Path) -> torch.Tensor:
        opened.append(path.name)
        return real(path)

    monkeypatch.setattr(module, "read_frame", spy)
    folder = DavisFolder(davis2017, 2017)
    stream = folder.frames("cows")
    assert opened == []
    next(stream)
    assert opened == ["00000.jpg"]  # one frame at a time
    folder["dog"]
    assert len(opened) == 1 + 3


def test_a_300_frame_video_streams(tmp_path: Path) -> None:
    root = tmp_path / "long"
    (root / "JPEGImages/480p/long").mkdir(parents=True)
    (root / "Annotations/480p/long").mkdir(parents=True)
    frame(root / "JPEGImages/480p/long/00000.jpg", 0)
    palette_mask(root / "Annotations/480p/long/00000.png", two_objects())
    for t in range(1, 300):
        os.link(root / "JPEGImages/480p/long/00000.jpg", root / f"JPEGImages/480p/long/{t:05d}.jpg")
        os.link(root / "Annotations/480p/long/00000.png", root / f"Annotations/480p/long/{t:05d}.png")
    listed(root, "long\n")
    folder = DavisFolder(root, 2017)
    assert sum(1 for _ in folder.frames("long")) == 300
    assert len(folder["long"]) == 300


def test_2016_reads_0_255_as_one_object(davis2016: Path) -> None:
    folder = DavisFolder(davis2016, 2016)
    assert folder.names == ["libby"]  # from path pairs
    clip = folder[0]
    assert clip.objects == [1]
    assert torch.equal(clip.masks[1], torch.from_numpy((two_objects() > 0).astype(np.uint8)))


def test_2016_merges_palette_masks(davis2017: Path) -> None:
    clip = DavisFolder(davis2017, 2016)["cows"]
    assert clip.objects == [1]
    assert bool((clip.masks[0][torch.from_numpy(two_objects() > 0)] == 1).all())


def test_2016_takes_the_grey_mask_saved_in_colour(davis2016: Path) -> None:
    grey = (255 * (two_objects() > 0)).astype(np.uint8)
    rgba = np.dstack([grey, grey, grey, np.full_like(grey, 255)])
    path = davis2016 / "Annotations/480p/libby/00001.png"
    Image.fromarray(rgba).save(path)
    clip = DavisFolder(davis2016, 2016)[0]
    assert torch.equal(clip.masks[0], clip.masks[1])
    rgba[0, 0, 0] = 200  # now really coloured
    Image.fromarray(rgba).save(path)
    with pytest.raises(TutorialError, match=r"00001.png is a RGBA picture"):
        DavisFolder(davis2016, 2016)[0]


def test_2017_refuses_0_255_masks(davis2016: Path) -> None:
    listed(davis2016, "libby\n", "2017")
    with pytest.raises(TutorialError, match="void to DAVIS-2017; open the folder with year=2016"):
        DavisFolder(davis2016, 2017)["libby"]


def test_one_pixel_off_is_resized_more_is_refused(davis2017: Path) -> None:
    path = davis2017 / "Annotations/480p/cows/00002.png"
    palette_mask(path, two_objects()[:, :-1])
    clip = DavisFolder(davis2017, 2017)["cows"]
    assert clip.masks[2].shape == (H, W)
    assert clip.objects == [1, 3]
    assert (clip.masks[2] != clip.masks[1]).float().mean() < 0.05
    palette_mask(path, two_objects()[:, :-2])
    with pytest.raises(TutorialError, match=r"00002.png is 12x18 but its frame is 12x20"):
        DavisFolder(davis2017, 2017)["cows"]


def test_frames_of_two_sizes(davis2017: Path) -> None:
    frame(davis2017 / "JPEGImages/480p/cows/00003.jpg", 3, (H, W + 2))
    with pytest.raises(TutorialError, match=r"00003.jpg is 12x22 but the clip's first is 12x20"):
        DavisFolder(davis2017, 2017)["cows"]


@pytest.mark.parametrize(
    ("gone", "message"),
    [
        (["JPEGImages/480p/cows/00001.jpg"], r"frame .*00001.jpg is missing"),
        (["Annotations/480p/cows/00001.png"], r"00001.jpg has no mask .*00001.png \(4 frames, 3 masks\)"),
        (["JPEGImages/480p/cows/00003.jpg"], r"mask .*00003.png has no frame \(3 frames, 4 masks\)"),
        (["JPEGImages/480p/cows/00001.jpg", "Annotations/480p/cows/00001.png"], r"frame .*00001.jpg is missing"),
        (["JPEGImages/480p/cows"], r"there is no folder .*cows; .* has dog"),
        ([f"Annotations/480p/cows/{t:05d}.png" for t in range(4)], r"holds no .png file"),
    ],
)
def test_missing_files_are_named(davis2017: Path, gone: list[str], message: str) -> None:
    for path in gone:
        shutil.rmtree(davis2017 / path) if (davis2017 / path).is_dir() else (davis2017 / path).unlink()
    folder = DavisFolder(davis2017, 2017)
    with pytest.raises(TutorialError, match=message):
        folder["cows"]
    assert len(folder["dog"]) == 3  # the others are as good as before


@pytest.mark.parametrize("part", ["JPEGImages/480p/dog/00001.jpg", "Annotations/480p/dog/00001.png"])
def test_truncated_files_are_named(davis2017: Path, part: str) -> None:
    path = davis2017 / part
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(TutorialError, match=rf"{path.name} cannot be read .*truncated"):
        DavisFolder(davis2017, 2017)["dog"]


def test_rgb_mask(davis2017: Path) -> None:
    colours = davis_palette()[two_objects()]
    Image.fromarray(colours).save(davis2017 / "Annotations/480p/dog/00001.png")
    for year in (2016, 2017):
        with pytest.raises(TutorialError, match=r"00001.png is a RGB picture"):
            DavisFolder(davis2017, year)["dog"]


def test_wrong_year_split_root_resolution(davis2017: Path, tmp_path: Path) -> None:
    with pytest.raises(TutorialError, match="no DAVIS-2018; year is 2016"):
        DavisFolder(davis2017, 2018)
    with pytest.raises(TutorialError, match=r"split 'train'; under ImageSets it has 2016/val.txt, 2017/val.txt"):
        DavisFolder(davis2017, 2017, "train")
    with pytest.raises(
        TutorialError, match=r"no DAVIS folder .*nowhere; run 'python -m vos_tutorial download davis2016'"
    ):
        DavisFolder(tmp_path / "nowhere")
    with pytest.raises(TutorialError, match=r"no folder .*1080p; .* has 480p"):
        DavisFolder(davis2017, 2017, resolution="1080p")
    shutil.rmtree(davis2017 / "ImageSets/2017")
    with pytest.raises(TutorialError, match=r"no list for year 2017.* it has 2016/val.txt"):
        DavisFolder(davis2017, 2017)


def test_full_resolution_and_other_annotations(davis2017: Path) -> None:
    for part in ("JPEGImages", "Annotations"):
        (davis2017 / part / "480p").rename(davis2017 / part / "Full-Resolution")
    (davis2017 / "Annotations").rename(davis2017 / "Annotations_unsupervised")
    folder = DavisFolder(davis2017, 2017, resolution="Full-Resolution", annotations="Annotations_unsupervised")
    assert len(folder["dog"]) == 3


@pytest.mark.parametrize("line", ["..", "a/../b", "JPEGImages/480p/../00000.jpg"])
def test_a_list_cannot_lead_elsewhere(davis2017: Path, line: str) -> None:
    listed(davis2017, f"{line}\n")
    with pytest.raises(TutorialError, match="not a plain folder name"):
        DavisFolder(davis2017, 2017)


@pytest.mark.parametrize(
    "lines",
    [
        b"cows\r\ndog\r\n",
        b"\xef\xbb\xbfcows\ndog",
        b"  cows  \n\n\tdog\n\n",
        b"cows\ndog\ncows\ndog\n",
    ],
)
def test_a_list_as_editors_leave_it(davis2017: Path, lines: bytes) -> None:
    (davis2017 / "ImageSets/2017/val.txt").write_bytes(lines)
    assert DavisFolder(davis2017, 2017).names == ["cows", "dog"]


def test_a_name_with_a_blank_inside(davis2017: Path) -> None:
    for part in ("JPEGImages", "Annotations"):
        (davis2017 / part / "480p/dog").rename(davis2017 / part / "480p/hot dog")
    listed(davis2017, "hot dog\n")
    assert len(DavisFolder(davis2017, 2017)["hot dog"]) == 3
    listed(davis2017, "/JPEGImages/480p/hot dog/00000.jpg /Annotations/480p/hot dog/00000.png\n", "480p")
    (davis2017 / "ImageSets/2016/val.txt").unlink()
    assert DavisFolder(davis2017, 2016).names == ["hot dog"]


@pytest.mark.parametrize("line", ["a/b", "/etc", "C:cows", "..\\cows", ".hidden", "co\x00ws"])
def test_a_line_that_is_no_name_is_told(davis2017: Path, line: str) -> None:
    listed(davis2017, f"{line}\n")
    with pytest.raises(TutorialError, match="not a plain folder name"):
        DavisFolder(davis2017, 2017)


@pytest.mark.parametrize("split", ["", " ", "../2016/val", "a/b", "val "])
def test_a_split_that_is_no_name(davis2017: Path, youtube: Path, split: str) -> None:
    for make in (lambda: DavisFolder(davis2017, 2017, split), lambda: YouTubeVosFolder(youtube, split)):
        with pytest.raises(TutorialError, match=r"split"):
            make()


def renamed(folder: Path, name: str) -> None:
    for path in sorted(folder.iterdir()):
        path.rename(path.with_name(name.format(int(path.stem)) + path.suffix))


@pytest.mark.parametrize("name", ["{}", "{:05d}", "{:02d}"])
def test_the_order_is_that_of_the_numbers(tmp_path: Path, name: str) -> None:
    root = tmp_path / "D"
    for t in range(12):
        frame(root / f"JPEGImages/480p/v/{t:05d}.jpg", t)
        palette_mask(root / f"Annotations/480p/v/{t:05d}.png", two_objects(1, 1 + t))
    listed(root, "v\n")
    youtube = tmp_path / "Y/train"
    for part in ("JPEGImages", "Annotations"):
        renamed(root / part / "480p/v", name)
        shutil.copytree(root / part / "480p", youtube / part)
    for folder in (DavisFolder(root, 2017), YouTubeVosFolder(tmp_path / "Y")):
        assert [int(mask.max()) for mask in folder["v"].masks] == list(range(1, 13)), folder
        assert [int(path.stem) for path in folder.files("v").frames] == list(range(12))


@pytest.mark.parametrize("endings", [(".JPG", ".PNG"), (".jpeg", ".Png"), (".png", ".png")])
def test_letter_case_and_kinds_of_endings(davis2017: Path, tmp_path: Path, endings: tuple[str, str]) -> None:
    youtube = tmp_path / "Y/train"
    for part, ending in zip(("JPEGImages", "Annotations"), endings, strict=True):
        for t in (1, 2):
            path = davis2017 / part / f"480p/dog/{t:05d}{'.jpg' if part == 'JPEGImages' else '.png'}"
            Image.open(path).save(path.with_suffix(ending))
            if path.with_suffix(ending) != path:
                path.unlink()
        shutil.copytree(davis2017 / part / "480p", youtube / part)
    for folder in (DavisFolder(davis2017, 2017), YouTubeVosFolder(tmp_path / "Y")):
        assert folder["dog"].annotated == (0, 1, 2)
        assert folder["dog"].objects == [1, 3]


@pytest.mark.parametrize(
    ("stray", "said"),
    [
        ("00000 (1).jpg", "has no number"),
        ("Copy of 00001.jpg", "has no number"),
        ("0.jpg", "the same number as 0"),
        ("00000.png", "the same number as 00000"),
        ("00003.tif", "is a .tif picture"),
    ],
)
def test_stray_pictures_are_named(davis2017: Path, tmp_path: Path, stray: str, said: str) -> None:
    frame(davis2017 / "JPEGImages/480p/dog" / stray, 0)
    for part in ("JPEGImages", "Annotations"):
        shutil.copytree(davis2017 / part / "480p", tmp_path / "Y/train" / part)
    for folder in (DavisFolder(davis2017, 2017), YouTubeVosFolder(tmp_path / "Y")):
        with pytest.raises(TutorialError, match=said):
            folder["dog"]
    (davis2017 / "JPEGImages/480p/dog" / stray).rename(davis2017 / "JPEGImages/480p/dog/notes.txt")
    assert len(DavisFolder(davis2017, 2017)["dog"]) == 3


@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="needs root, to become someone else")
@pytest.mark.parametrize(
    "closed",
    [
        "JPEGImages/480p/dog",
        "Annotations/480p",
        "ImageSets/2017",
        "ImageSets/2017/val.txt",
        "Annotations/480p/dog/00001.png",
        "",
    ],
)
def test_what_may_not_be_read_is_told(davis2017: Path, tmp_path: Path, closed: str) -> None:
    for folder in (tmp_path, *tmp_path.parents[:3]):
        os.chmod(folder, 0o755)
    os.chmod(davis2017 / closed, 0)
    os.seteuid(65534)
    try:
        with pytest.raises(TutorialError, match="exists, but cannot be read") as error:
            DavisFolder(davis2017, 2017)["dog"]
        assert "again" not in str(error.value)
    finally:
        os.seteuid(0)
        os.chmod(davis2017 / closed, 0o755)


def test_a_list_that_names_nothing_is_no_split(davis2017: Path) -> None:
    assert lists_split(davis2017, 2017, "val")
    listed(davis2017, "")
    assert not lists_split(davis2017, 2017, "val")
    assert not lists_split(davis2017, 2017, "train")


def test_empty_and_binary_lists(davis2017: Path) -> None:
    listed(davis2017, "\n \n")
    with pytest.raises(TutorialError, match=r"val.txt is empty"):
        DavisFolder(davis2017, 2017)
    (davis2017 / "ImageSets/2017/val.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(TutorialError, match=r"val.txt cannot be read"):
        DavisFolder(davis2017, 2017)


def test_hidden_files_are_no_frames(davis2017: Path) -> None:
    (davis2017 / "JPEGImages/480p/dog/._00000.jpg").write_bytes(b"resource fork")
    (davis2017 / "Annotations/480p/dog/Thumbs.db").write_bytes(b"thumbs")
    assert len(DavisFolder(davis2017, 2017)["dog"]) == 3
    frame(davis2017 / "JPEGImages/480p/dog/cover.jpg", 0)
    with pytest.raises(TutorialError, match=r"cover.jpg has no number"):
        DavisFolder(davis2017, 2017)["dog"]


def test_test_dev_has_the_first_mask_only(davis2017: Path) -> None:
    for t in (1, 2):
        (davis2017 / f"Annotations/480p/dog/{t:05d}.png").unlink()
    listed(davis2017, "dog\n", split="test-dev")
    clip = DavisFolder(davis2017, 2017, "test-dev")["dog"]
    assert clip.annotated == (0,)
    assert not clip.masks[1:].any()


def test_one_frame_clip_and_clip_without_objects(davis2017: Path) -> None:
    frame(davis2017 / "JPEGImages/480p/one/00000.jpg", 0)
    palette_mask(davis2017 / "Annotations/480p/one/00000.png", np.zeros((H, W)))
    listed(davis2017, "one\n")
    clip = DavisFolder(davis2017, 2017)["one"]
    assert len(clip) == 1
    assert clip.objects == []


@pytest.fixture
def youtube(tmp_path: Path) -> Path:
    """One video of 11 frames, annotated every fifth; object 2 from frame 0, object 5 from frame 5."""
    root = tmp_path / "YouTubeVOS"
    for t in range(11):
        frame(root / f"train/JPEGImages/0a1b/{t:05d}.jpg", t)
    for t in (0, 5, 10):
        ids = two_objects(2, 5 if t else 0)
        palette_mask(root / f"train/Annotations/0a1b/{t:05d}.png", ids)
    return root


def test_youtube_late_objects_and_gaps(youtube: Path) -> None:
    folder = YouTubeVosFolder(youtube)
    assert folder.names == ["0a1b"]  # without meta.json: the folders
    clip = folder[0]
    assert clip.annotated == (0, 5, 10)
    assert clip.objects == [2, 5]
    assert not clip.masks[1].any()
    later = appearances(clip)
    assert list(later) == [5]
    assert torch.unique(later[5]).tolist() == [0, 5]
    stream = [mask is None for _, mask in folder.frames("0a1b")]
    assert stream == [t % 5 != 0 for t in range(11)]


def test_youtube_clip_propagates(youtube: Path) -> None:
    class Still:
        """Repeats what it was given."""

        def begin(self, frame: torch.Tensor, mask: torch.Tensor) -> None:
            self.given = [(mask == i).float() for i in torch.unique(mask).tolist()]

        def step(self, frame: torch.Tensor) -> torch.Tensor:
            return torch.stack(self.given)

        def introduce(self, frame: torch.Tensor, mask: torch.Tensor) -> None:
            new = (mask == 5).float()
            self.given = [self.given[0] * (1 - new), *self.given[1:], new]

    clip = YouTubeVosFolder(youtube)[0]
    ids = propagate(Still(), clip.frames, clip.first_mask, later=appearances(clip))
    assert torch.equal(ids[4], clip.masks[0])
    assert torch.equal(ids[10], clip.masks[10])


def test_youtube_meta(youtube: Path) -> None:
    meta = youtube / "train/meta.json"
    meta.write_text(json.dumps({"videos": {"0a1b": {"objects": {"2": {"category": "ape", "frames": ["00000"]}}}}}))
    assert YouTubeVosFolder(youtube).names == ["0a1b"]
    meta.write_text(json.dumps({"videos": {"gone": {}}}))
    with pytest.raises(TutorialError, match=r"no folder .*gone"):
        YouTubeVosFolder(youtube)[0]
    meta.write_text(json.dumps({"videos": {"../../x": {}}}))
    with pytest.raises(TutorialError, match="not a plain folder name"):
        YouTubeVosFolder(youtube)
    for broken in ('{"videos": ', "[]", '{"movies": {}}', '{"videos": 3}'):
        meta.write_text(broken)
        with pytest.raises(TutorialError, match=r"meta.json cannot be read as a list of videos"):
            YouTubeVosFolder(youtube)


def test_youtube_errors(youtube: Path) -> None:
    with pytest.raises(TutorialError, match=r"no folder .*valid"):
        YouTubeVosFolder(youtube, "valid")
    (youtube / "train/JPEGImages/0a1b/00005.jpg").unlink()
    with pytest.raises(TutorialError, match=r"00005.png has no frame"):
        YouTubeVosFolder(youtube)[0]


def test_find_davis(davis2016: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkout = tmp_path / "checkout"
    monkeypatch.setattr(places, "CHECKOUT", checkout)
    monkeypatch.delenv(module.VARIABLE, raising=False)
    assert find_davis() is None
    shutil.copytree(davis2016, checkout / "data" / "DAVIS-2016")
    found = find_davis()
    assert found == (checkout / "data" / "DAVIS-2016").resolve()
    assert found is not None
    assert len(DavisFolder(found)) == 1
    assert find_davis(2017) is None  # its 0/255 masks would not do
    monkeypatch.setenv(module.VARIABLE, str(davis2016))
    assert find_davis() == davis2016
    monkeypatch.setenv(module.VARIABLE, str(tmp_path))
    with pytest.raises(TutorialError, match=module.VARIABLE):
        find_davis()
    monkeypatch.setenv(module.VARIABLE, module.NOWHERE)
    assert find_davis() is None


@pytest.mark.skipif(not SAMPLE.is_dir(), reason="no DAVIS sample beside the checkout")
def test_real_davis() -> None:
    merged, ids, grey = (
        DavisFolder(SAMPLE, year, annotations=annotations)
        for year, annotations in ((2016, "Annotations"), (2017, "Annotations"), (2016, "Annotations_2016"))
    )
    assert merged.names == ["car-roundabout", "libby", "motocross-jump"]
    assert [len(merged.files(name).frames) for name in merged.names] == [75, 49, 40]
    a, b, c = (folder["motocross-jump"] for folder in (merged, ids, grey))
    assert a.size == (240, 427)
    assert torch.equal(a.masks, c.masks)  # palette masks, merged, are the masks of 2016
    assert torch.equal(a.masks, b.masks)
    with pytest.raises(TutorialError, match="year=2016"):
        DavisFolder(SAMPLE, 2017, annotations="Annotations_2016")["libby"]


def test_written_clips_are_read_back(tmp_path: Path) -> None:
    (clip,) = benchmark(1, ["multiple_objects"])
    write_davis(tmp_path / "DAVIS", [clip])
    folder = DavisFolder(tmp_path / "DAVIS", 2017)
    assert list(folder.names) == [clip.name]
    again = folder[0]
    assert torch.equal(again.masks, clip.masks)
    assert again.frames.shape == clip.frames.shape
    assert (again.frames.float() - clip.frames.float()).abs().mean() < 8  # JPEG
