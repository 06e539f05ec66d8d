"""Training clips: the contract of the three sources, and that masks lie on the objects they name."""

from __future__ import annotations

import copy
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from vos_tutorial.clip import Clip, write_mask
from vos_tutorial.data import davis
from vos_tutorial.data.batches import SMALLEST, Clips, ClipSource, Stills, draw_times, number_objects
from vos_tutorial.data.davis import DavisFolder, YouTubeVosFolder
from vos_tutorial.data.sources import simulated
from vos_tutorial.data.sources.generated import GeneratedClips, blurred, lifelike
from vos_tutorial.data.sources.simulated import SimulatedClips
from vos_tutorial.data.sources.video import VideoClips, open_video
from vos_tutorial.data.worlds.sprites import ATTRIBUTES, make_clip
from vos_tutorial.errors import TutorialError
from vos_tutorial.geometry import free_form_grid, identity_grid
from vos_tutorial.rng import Rng

SAMPLE = Path(__file__).resolve().parents[2] / "shared" / "davis_sample"
SIZE = 48


class WhiteSquares:
    """White squares on black, at a place and of a size that the seed draws."""

    def __init__(self, smallest: float = 0.25, largest: float = 0.5) -> None:
        self.smallest, self.largest = smallest, largest

    def batch(self, seeds: Sequence[int], size: int) -> Stills:
        masks = torch.zeros(len(seeds), size, size, dtype=torch.bool)
        for mask, seed in zip(masks, seeds, strict=True):
            rng = Rng(seed, 77)
            side = max(1, round(rng.uniform(self.smallest, self.largest) * size))
            y, x = (rng.pick(size - side + 1) for _ in range(2))
            mask[y : y + side, x : x + side] = True
        return Stills(masks[:, None].float().repeat(1, 3, 1, 1), masks)


def sliding_square(ids: Sequence[int] = (7,), length: int = 6, void: bool = False) -> Clip:
    """A video in which squares, white on black, slide to the right; their ids have gaps."""
    masks = torch.zeros(length, 60, 90, dtype=torch.uint8)
    for k, i in enumerate(ids):
        for t in range(length):
            masks[t, 4 + 18 * k : 18 + 18 * k, 8 + 6 * t : 30 + 6 * t] = i
    frames = (masks > 0).to(torch.uint8)[:, None].repeat(1, 3, 1, 1) * 255
    if void:
        masks[:, :, :6] = 255
    return Clip(frames, masks, "slide")


SOURCES: dict[str, ClipSource] = {
    "generated": GeneratedClips(),
    "lifelike": lifelike(),
    "simulated": SimulatedClips(),
    "compositions": SimulatedClips(paste=1, objects=3, occluder=1),
    "video": VideoClips([sliding_square((7, 3, 9)), make_clip(3, size=64), sliding_square(void=True)]),
}


def area(masks: Tensor) -> Tensor:
    """Share of each frame that objects cover: ``[B, T]``."""
    return ((masks > 0) & (masks < 255)).float().mean((2, 3))


@pytest.mark.parametrize("name", SOURCES)
def test_the_contract(name: str) -> None:
    frames, masks = SOURCES[name].batch(range(20), SIZE, 4, max_skip=1)
    assert (frames.shape, frames.dtype) == ((20, 4, 3, SIZE, SIZE), torch.float32)
    assert (masks.shape, masks.dtype) == ((20, 4, SIZE, SIZE), torch.uint8)
    assert 0 <= float(frames.min()) < float(frames.max()) <= 1
    for mask in masks:
        ids = [i for i in mask.unique().tolist() if i not in (0, 255)]
        assert ids == list(range(1, len(ids) + 1))
        assert ids
        for i in ids:
            assert (mask[0] == i).sum() >= SMALLEST * SIZE * SIZE


@pytest.mark.parametrize("name", SOURCES)
def test_a_sample_depends_on_its_seed_alone(name: str) -> None:
    together = SOURCES[name].batch([5, 123, 2**62, 8], SIZE, 3, max_skip=1)
    alone = SOURCES[name].batch([2**62], SIZE, 3, max_skip=1)
    assert torch.equal(together.frames[2:3], alone.frames)
    assert torch.equal(together.masks[2:3], alone.masks)
    assert not torch.equal(together.frames[0], together.frames[1])


@pytest.mark.parametrize("name", SOURCES)
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (([], 32, 2), "has no seeds"),
        (([3, -1], 32, 2), "seed is -1"),
        (([3], 0, 2), "size 0"),
        (([3], 32, 0), "length 0"),
        (([3], 32, 2, -1), "max_skip is -1"),
    ],
)
def test_arguments_out_of_range(name: str, arguments: tuple[list[int], int, int], words: str) -> None:
    with pytest.raises(TutorialError, match=words):
        SOURCES[name].batch(*arguments)


def test_one_frame_is_a_clip() -> None:
    for source in SOURCES.values():
        assert source.batch([1, 2], SIZE, 1).frames.shape == (2, 1, 3, SIZE, SIZE)


# ------------------------------------------------------------------------------------------------ small parts


def test_small_objects_become_background_and_the_others_close_the_gaps() -> None:
    ids = torch.zeros(2, 2, 10, 10, dtype=torch.uint8)
    ids[0, 0, 0, :2] = 9  # exactly 2 %
    ids[0, 0, 1, :1] = 4  # too small
    ids[0, 0, 2] = 200
    ids[0, 0, 3] = 255
    ids[0, 1, 4], ids[0, 1, 5], ids[0, 1, 6], ids[0, 1, 7] = 9, 4, 200, 5  # 5 is not in frame 0
    ids[1, 0, :5], ids[1, 1] = 255, 1  # void is no object
    masks, shown = number_objects(ids)
    assert shown.tolist() == [True, False]
    assert [int(masks[0, 0, row, 0]) for row in range(4)] == [1, 0, 2, 255]
    assert masks[0, 1, 4:8, 0].tolist() == [1, 0, 2, 0]
    assert masks[1].unique().tolist() == [0, 255]


@pytest.mark.parametrize(("available", "length", "skip"), [(16, 3, 0), (16, 3, 4), (16, 3, 25), (5, 5, 9), (7, 1, 3)])
def test_moments_fit_and_use_all_that_is_allowed(available: int, length: int, skip: int) -> None:
    steps, starts, ends = set(), set(), set()
    for seed in range(600):
        times = draw_times(Rng(seed), available, length, skip)
        assert len(times) == length
        steps |= set(np.diff(times).tolist())
        starts.add(times[0])
        ends.add(times[-1])
    longest = min(skip + 1, (available - 1) // max(length - 1, 1))
    assert steps == (set(range(1, longest + 1)) if length > 1 else set())
    assert min(starts) == 0
    assert max(ends) == available - 1


def test_a_lattice_moved_by_an_affine_map_gives_that_map() -> None:
    axis = torch.linspace(-1, 1, 4)
    lattice = torch.stack(torch.meshgrid(axis, axis, indexing="xy"), -1)
    theta, shift = torch.tensor([[0.8, 0.3], [-0.2, 1.1]]), torch.tensor([0.1, -0.4])
    grid = free_form_grid(torch.stack([lattice, lattice @ theta.T + shift]), 20)
    torch.testing.assert_close(grid[0], identity_grid(20, 20), atol=1e-6, rtol=0)
    torch.testing.assert_close(grid[1], identity_grid(20, 20) @ theta.T + shift, atol=1e-6, rtol=0)


# -------------------------------------------------------------------------------------------------- simulated


def brightness(clips: Clips) -> Tensor:
    """Where a frame is brighter than the middle of its own range: ``bool [B, T, H, W]``."""
    grey = clips.frames.mean(2)
    low, high = grey.amin((2, 3), keepdim=True), grey.amax((2, 3), keepdim=True)
    return grey > (low + high) / 2


def test_one_image_the_mask_moves_with_the_picture() -> None:
    clips = SimulatedClips(WhiteSquares(), paste=0).batch(range(20), SIZE, 4)
    assert clips.masks.max() == 1
    mask = clips.masks > 0
    shown = area(clips.masks) > SMALLEST
    both, either = ((mask & brightness(clips)).sum((2, 3)), (mask | brightness(clips)).sum((2, 3)))
    assert float((both / either.clamp_min(1))[shown].min()) > 0.95
    # and the views differ, by more than nothing and less than everything
    overlap = (mask[:, 0] & mask[:, 1]).sum((1, 2)) / (mask[:, 0] | mask[:, 1]).sum((1, 2))
    assert 0.2 < float(overlap.mean()) < 0.8


def test_composition_objects_lie_on_their_pictures() -> None:
    clips = SimulatedClips(WhiteSquares(), paste=1, objects=3, occluder=0).batch(range(20), SIZE, 4)
    assert {int(m.max()) for m in clips.masks} == {1, 2, 3}
    inside = brightness(clips)[(clips.masks > 0)].float().mean()
    outside = brightness(clips)[(clips.masks == 0)].float().mean()
    assert inside > 0.95  # where the cut-out fades out, the black around it shines through
    assert outside < 0.3  # the background's own square is white too


def test_an_occluder_hides_objects_later_and_leaves_frame_0_alone() -> None:
    hidden = {}
    for chance in (0, 1):
        masks = SimulatedClips(WhiteSquares(), paste=1, objects=1, occluder=chance).batch(range(60), SIZE, 3).masks
        assert area(masks)[:, 0].min() >= SMALLEST
        hidden[chance] = int((area(masks)[:, 1:] == 0).sum())
    assert hidden[0] <= 2  # only by leaving the frame
    assert hidden[1] >= 15


def test_an_occluder_starts_far_away_and_comes_close_in_half_of_the_frames() -> None:
    still = simulated._Motion(*(np.zeros(s) for s in ((2,), (3, 2), (3,), (3,), (3,), (3, 4, 4, 2))))
    gaps = []
    for seed in range(200):
        occluder = copy.deepcopy(still)
        simulated._go_for(Rng(seed), occluder, [still], 0.5)
        gaps.append(np.linalg.norm(occluder.place, axis=1))
    start, *later = np.stack(gaps, axis=1)
    assert np.median(start) > 0.9
    assert 0.4 < np.mean(np.stack(later) < 0.15) < 0.7


def test_light_varies_from_frame_to_frame() -> None:
    frames = SimulatedClips(WhiteSquares(), paste=0).batch(range(8), SIZE, 4).frames
    darkest = frames.amin((2, 3, 4))
    assert float(darkest.std(1).min()) > 0
    assert float(darkest.max()) <= 0.15


def test_max_skip_does_not_change_simulated_clips() -> None:
    a, b = (SimulatedClips().batch([4, 5], SIZE, 2, skip) for skip in (0, 9))
    assert torch.equal(a.frames, b.frames)


def test_stills_without_a_fair_object_end_in_a_sentence() -> None:
    with pytest.raises(TutorialError, match=r"SimulatedClips: in 50 draws .* 2%"):
        SimulatedClips(WhiteSquares(0.02, 0.03), paste=0).batch([1], SIZE, 2)


def test_a_sample_that_shows_nothing_is_drawn_again() -> None:
    clips = SimulatedClips(WhiteSquares(0.12, 0.2), paste=0).batch(range(30), SIZE, 2)  # about half are too small
    assert area(clips.masks)[:, 0].min() >= SMALLEST


# -------------------------------------------------------------------------------------------------- generated


def change(source: ClipSource, skip: int) -> float:
    """Mean IoU of the union of the objects between the first and the last of three frames."""
    masks = source.batch(range(30), SIZE, 3, max_skip=skip).masks > 0
    both, either = (masks[:, 0] & masks[:, 2]).sum((1, 2)), (masks[:, 0] | masks[:, 2]).sum((1, 2))
    return float((both / either).mean())


def test_frames_left_out_make_changes_larger() -> None:
    source = GeneratedClips(dials={})
    assert change(source, 0) > change(source, 6) + 0.1


def test_dials_do_what_they_say() -> None:
    one = GeneratedClips(dials={"multiple_objects": 0.0}).batch(range(16), SIZE, 2)
    many = GeneratedClips(dials={"multiple_objects": 1.0}).batch(range(16), SIZE, 2)
    assert one.masks.max() == 1
    assert many.masks.max() == 3
    hidden = GeneratedClips(dials={"occlusion": 1.0}).batch(range(30), SIZE, 3, max_skip=6)
    assert (area(hidden.masks)[:, 1:] == 0).any()
    assert (area(hidden.masks)[:, 0] >= SMALLEST).all()


def plain_and(**options: float) -> tuple[Clips, Clips]:
    """The same clips without and with an option."""
    quiet = {"dials": {}, "close_up": 0.0}
    return (
        GeneratedClips(**quiet).batch(range(8), SIZE, 3),  # type: ignore[arg-type]
        GeneratedClips(**quiet, **options).batch(range(8), SIZE, 3),  # type: ignore[arg-type]
    )


def grown(region: Tensor) -> Tensor:
    """``bool [B, T, H, W]`` and two pixels around it: outlines are blended."""
    return F.max_pool2d(region.float().flatten(0, 1)[:, None], 5, 1, 2)[:, 0].reshape(region.shape) > 0


def test_patches_recolour_objects_and_leave_the_rest() -> None:
    before, after = plain_and(patches=1.0)
    assert torch.equal(before.masks, after.masks)
    changed = (before.frames != after.frames).any(2)
    assert changed[before.masks > 0].float().mean() > 0.25
    assert not changed[~grown(before.masks > 0)].any()


def test_a_panning_camera_moves_the_background_alone() -> None:
    before, after = plain_and(pan=1.0)
    assert torch.equal(before.masks, after.masks)
    inside = (
        F.max_pool2d((before.masks == 0).float().flatten(0, 1)[:, None], 5, 1, 2)[:, 0].reshape_as(after.masks) == 0
    )
    apart = (before.frames - after.frames).abs().mean(2)
    assert apart[inside].max() == 0
    assert apart[before.masks == 0].mean() > 0.02


def test_clutter_stands_behind_the_objects_and_is_not_annotated() -> None:
    before, after = plain_and(clutter=1.0)
    assert torch.equal(before.masks, after.masks)
    inside = (
        F.max_pool2d((before.masks == 0).float().flatten(0, 1)[:, None], 5, 1, 2)[:, 0].reshape_as(after.masks) == 0
    )
    changed = (before.frames != after.frames).any(2)
    assert not changed[inside].any()
    assert changed[before.masks == 0].float().mean() > 0.05


def test_blur_spares_the_masks_and_keeps_the_mean() -> None:
    before, after = plain_and(blur=1.0)
    assert torch.equal(before.masks, after.masks)
    assert torch.allclose(before.frames.mean((1, 2, 3, 4)), after.frames.mean((1, 2, 3, 4)), atol=0.02)
    dots = torch.zeros(4, 3, SIZE, SIZE)
    dots[..., SIZE // 2, SIZE // 2] = 1
    smear = blurred(dots, Rng(3))
    assert (smear[:, 0].flatten(1).amax(1) < 0.9).any()
    assert not torch.equal(smear[0], smear[1])  # by another length in each frame


def test_the_order_of_the_dials_does_not_matter() -> None:
    backwards = {name: 0.5 for name in reversed(ATTRIBUTES)}
    a = GeneratedClips(dials=backwards).batch([1, 2], SIZE, 2)
    b = GeneratedClips(dials={name: 0.5 for name in ATTRIBUTES}).batch([1, 2], SIZE, 2)
    assert torch.equal(a.frames, b.frames)


def test_clips_longer_than_a_scene() -> None:
    assert GeneratedClips().batch([1], 16, 40, max_skip=3).frames.shape[1] == 40


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: GeneratedClips(dials={"fog": 0.5}), "no attribute 'fog'"),
        (lambda: GeneratedClips(dials={"occlusion": 1.5}), "'occlusion' is 1.5"),
        (lambda: GeneratedClips(blur=-1), "'blur' is -1"),
        (lambda: SimulatedClips(paste=-0.1), "'paste' is -0.1"),
        (lambda: SimulatedClips(occluder=2), "'occluder' is 2"),
        (lambda: SimulatedClips(objects=0), "composition of 0 objects"),
        (lambda: VideoClips([]), "no video"),
        (lambda: VideoClips([sliding_square()], objects=0), "objects is 0"),
    ],
)
def test_wrong_options(make: object, words: str) -> None:
    assert callable(make)
    with pytest.raises(TutorialError, match=words):
        make()


# ------------------------------------------------------------------------------------------------- real video


def test_video_masks_lie_on_the_objects() -> None:
    clips = VideoClips([sliding_square((7,), length=9)]).batch(range(24), SIZE, 3, max_skip=2)
    bright, mask = clips.frames.mean(2) > 0.5, clips.masks == 1
    assert float((bright == mask).float().mean()) > 0.995
    # mirrored or not, squares slide to the left as well as to the right
    columns = torch.arange(SIZE).float()
    middle = (mask.sum(2) * columns).sum(2) / mask.sum((2, 3)).clamp_min(1)
    shown = (area(clips.masks) > 0.1).all(1)
    directions = (middle[:, 2] - middle[:, 0])[shown].sign()
    assert set(directions.tolist()) >= {-1.0, 1.0}


def test_at_most_so_many_objects_stay() -> None:
    video = [sliding_square((7, 3, 9))]
    assert VideoClips(video, objects=1).batch(range(12), 60, 2).masks.max() == 1
    assert VideoClips(video, objects=2).batch(range(12), 60, 2).masks.max() == 2
    assert VideoClips(video, objects=3).batch(range(12), 60, 2).masks.max() == 3


def test_void_stays_void() -> None:
    masks = VideoClips([sliding_square(void=True)]).batch(range(12), SIZE, 2).masks
    assert set(masks.unique().tolist()) == {0, 1, 255}


def test_video_too_short_or_empty() -> None:
    with pytest.raises(TutorialError, match=r"clips of 7 frames .* longest video has 6"):
        VideoClips([sliding_square()]).batch([1], SIZE, 7)
    empty = Clip(torch.zeros(4, 3, 50, 50, dtype=torch.uint8), torch.zeros(4, 50, 50, dtype=torch.uint8))
    with pytest.raises(TutorialError, match="VideoClips: in 50 draws no clip showed an object"):
        VideoClips([empty]).batch([1], SIZE, 2)
    assert VideoClips([empty, sliding_square()]).batch([1, 2, 3], SIZE, 2).masks.any()


def save(clip: Clip, images: Path, masks: Path, every: int = 1) -> None:
    for folder in (images, masks):
        folder.mkdir(parents=True)
    for t in range(len(clip)):
        Image.fromarray(clip.frames[t].permute(1, 2, 0).numpy()).save(images / f"{t:05d}.jpg", quality=95)
        if t % every == 0:
            write_mask(masks / f"{t:05d}.png", clip.masks[t])


@pytest.fixture
def folder(tmp_path: Path) -> DavisFolder:
    for name in ("a", "b"):
        save(sliding_square((7, 3), 9), tmp_path / "JPEGImages/480p" / name, tmp_path / "Annotations/480p" / name)
    (tmp_path / "ImageSets/2017").mkdir(parents=True)
    (tmp_path / "ImageSets/2017/train.txt").write_text("a\nb\n")
    return DavisFolder(tmp_path, year=2017, split="train")


def test_a_folder_opens_only_the_frames_it_needs(folder: DavisFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[Path] = []
    real = davis.read_frame
    monkeypatch.setattr(davis, "read_frame", lambda path: (opened.append(Path(path)), real(path))[1])
    clips = VideoClips(folder)
    assert not opened
    clips.batch([3], SIZE, 3, max_skip=2)
    assert len(opened) % 3 == 0  # three for each draw
    assert len(opened) < 9
    assert len({path.parent for path in opened[:3]}) == 1


def test_a_part_of_a_clip_is_that_part(folder: DavisFolder) -> None:
    whole, part = folder["b"], folder.part("b", [2, 5, 6])
    assert torch.equal(part.frames, whole.frames[[2, 5, 6]])
    assert torch.equal(part.masks, whole.masks[[2, 5, 6]])
    assert part.annotated == (0, 1, 2)
    assert torch.equal(folder.part(-1, [4]).frames, whole.frames[[4]])
    with pytest.raises(TutorialError, match="no clip 'c'"):
        folder.part("c", [0])
    with pytest.raises(IndexError):
        folder.part("b", [9])


def test_a_folder_and_its_clips_in_memory_give_the_same(folder: DavisFolder) -> None:
    lazy, held = VideoClips(folder), VideoClips([folder["a"], folder["b"]])
    assert torch.equal(lazy.batch([1, 2], SIZE, 3, 1).frames, held.batch([1, 2], SIZE, 3, 1).frames)


def test_frames_without_annotation_are_passed_over(tmp_path: Path) -> None:
    clip = sliding_square((7,), length=9)
    save(clip, tmp_path / "train/JPEGImages/x", tmp_path / "train/Annotations/x", every=4)
    clips = VideoClips(YouTubeVosFolder(tmp_path))
    assert clips.annotated == [(0, 4, 8)]
    bright, masks = (c := clips.batch(range(12), SIZE, 3)).frames.mean(2) > 0.5, c.masks
    assert float((bright == (masks == 1)).float().mean()) > 0.98  # JPEG blurs the outlines
    with pytest.raises(TutorialError, match="longest video has 3 annotated"):
        clips.batch([1], SIZE, 4)


def test_a_broken_frame_is_named(folder: DavisFolder) -> None:
    for name in ("a", "b"):
        for path in (folder.root / "JPEGImages/480p" / name).iterdir():
            path.write_bytes(b"no picture")
    with pytest.raises(TutorialError, match=r"JPEGImages.*\.jpg"):
        VideoClips(folder).batch([1], SIZE, 2)


@pytest.mark.skipif(not SAMPLE.is_dir(), reason="the three DAVIS sequences of shared/davis_sample are not here")
def test_real_sequences() -> None:
    frames, masks = VideoClips(DavisFolder(SAMPLE, year=2017)).batch(range(4), 64, 2, max_skip=5)
    assert frames.shape == (4, 2, 3, 64, 64)
    assert float(area(masks)[:, 0].min()) >= SMALLEST
    assert float(frames.std()) > 0.1


def test_the_worlds_know_no_source_and_what_both_share_knows_neither() -> None:
    """In a fresh process each: what a module loads is what it leans on."""
    for module, strangers in (("worlds.sprites", "sources"), ("worlds.discs", "sources"), ("batches", "worlds")):
        loads = (
            f"import sys, vos_tutorial.data.{module}; print(*(m for m in sys.modules if '.data.{strangers}' in m))"
        )
        found = subprocess.run([sys.executable, "-c", loads], capture_output=True, text=True, check=True)
        assert found.stdout.strip() == "", module


def test_a_folder_of_video_is_recognised(tmp_path: Path) -> None:
    clip = make_clip(3, size=48, length=4)
    for root, kinds in (
        ("D", ("JPEGImages/480p/v", "Annotations/480p/v")),
        ("Y", ("train/JPEGImages/v", "train/Annotations/v")),
    ):
        for kind in kinds:
            (tmp_path / root / kind).mkdir(parents=True)
        for t in range(4):
            Image.fromarray(clip.frames[t].permute(1, 2, 0).numpy()).save(tmp_path / root / kinds[0] / f"{t:05d}.jpg")
            write_mask(tmp_path / root / kinds[1] / f"{t:05d}.png", clip.masks[t])
    for year in ("2016", "2017"):
        (tmp_path / "D/ImageSets" / year).mkdir(parents=True)
        (tmp_path / "D/ImageSets" / year / "train.txt").write_text("v\n")
    found = open_video(tmp_path / "D")
    assert isinstance(found, davis.DavisFolder)
    assert found.year == 2017
    shutil.rmtree(tmp_path / "D/ImageSets/2017")
    found = open_video(tmp_path / "D")
    assert isinstance(found, davis.DavisFolder)
    assert found.year == 2016
    for root in (tmp_path / "Y", tmp_path / "Y/train"):
        found = open_video(root)
        assert isinstance(found, davis.YouTubeVosFolder)
        assert VideoClips(found).batch([0, 1], 32, 3).frames.shape == (2, 3, 3, 32, 32)
    with pytest.raises(TutorialError, match=r"neither the layout of DAVIS .* nor that of YouTube-VOS"):
        open_video(tmp_path)
    (tmp_path / "Y/train").rename(tmp_path / "Y/valid")
    with pytest.raises(TutorialError, match="masks of new objects only"):
        VideoClips(open_video(tmp_path / "Y", "valid"))
