"""Clips, ids and their two forms, and masks on disk."""

from __future__ import annotations

import errno
import io
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from vos_tutorial.clip import (
    Clip,
    davis_palette,
    ids_to_onehot,
    object_ids,
    onehot_to_ids,
    read_frame,
    read_mask,
    write_mask,
)
from vos_tutorial.errors import TutorialError

FRAMES = torch.zeros(3, 3, 4, 6, dtype=torch.uint8)
MASKS = torch.zeros(3, 4, 6, dtype=torch.uint8)


def blank(**ids: int) -> torch.Tensor:
    """A 4x6 mask with single pixels set: ``blank(p00=3)`` has id 3 at row 0, column 0."""
    mask = torch.zeros(4, 6, dtype=torch.uint8)
    for place, object_id in ids.items():
        mask[int(place[1]), int(place[2])] = object_id
    return mask


# ------------------------------------------------------------------------------------------------------ Clip


def test_a_clip_knows_its_size_and_objects() -> None:
    masks = MASKS.clone()
    masks[0, 0, 0], masks[2, 1, 1], masks[1, 2, 2] = 7, 2, 255
    clip = Clip(FRAMES, masks, attributes=("occlusion",))
    assert (len(clip), clip.size, clip.objects) == (3, (4, 6), [2, 7])
    assert torch.equal(clip.first_mask, masks[0])
    assert clip.annotated == (0, 1, 2)
    assert repr(clip) == "Clip('clip', T=3, 4x6, objects=[2, 7], occlusion)"


def test_clips_can_be_compared() -> None:
    one, same = Clip(FRAMES, MASKS, "a"), Clip(FRAMES.clone(), MASKS.clone(), "a")
    assert one == same
    assert hash(one) == hash(same)
    assert one != Clip(FRAMES, MASKS, "b")
    assert one != Clip(FRAMES, torch.ones_like(MASKS), "a")
    assert one != Clip(FRAMES, MASKS, "a", complete=False)
    assert one != "a"
    assert one in [same]


def test_no_annotation_is_not_every_annotation() -> None:
    assert Clip(FRAMES, MASKS, annotated=()).annotated == ()
    assert Clip(FRAMES, MASKS).annotated == tuple(range(len(FRAMES)))
    for wrong in ((len(FRAMES),), (1, 0), (0, 0), (-2,)):
        with pytest.raises(TutorialError, match="annotated frames"):
            Clip(FRAMES, MASKS, annotated=wrong)


def test_annotated_frames_are_kept() -> None:
    assert Clip(FRAMES, MASKS, annotated=(0, 2)).annotated == (0, 2)


@pytest.mark.parametrize(
    ("frames", "masks", "message"),
    [
        (FRAMES.float(), MASKS, r"frames must be uint8 \[T, 3, H, W\], got torch.float32"),
        (FRAMES[:, :2], MASKS, r"frames must be uint8 .* got torch.uint8 \[3, 2, 4, 6\]"),
        (FRAMES[0], MASKS, r"frames must be uint8"),
        (FRAMES, MASKS.long(), r"masks must be uint8 object ids, got torch.int64"),
        (FRAMES, MASKS[:2], r"masks are \[2, 4, 6\] but the frames need \[3, 4, 6\]"),
        (FRAMES, MASKS.transpose(1, 2), r"masks are \[3, 6, 4\]"),
        (FRAMES[:0], MASKS[:0], r"has no frame"),
    ],
)
def test_a_clip_of_another_kind_is_refused(frames: torch.Tensor, masks: torch.Tensor, message: str) -> None:
    with pytest.raises(TutorialError, match=message) as error:
        Clip(frames, masks, name="bear")
    assert "'bear'" in str(error.value)


# --------------------------------------------------------------------------------------------- ids and one-hot


def test_object_ids_are_sorted_and_without_background_and_void() -> None:
    assert object_ids(blank(p00=9, p01=255, p02=1, p13=254)) == [1, 9, 254]


def test_onehot_follows_the_order_given_and_leaves_void_out() -> None:
    ids = blank(p00=9, p01=2, p02=255, p03=5)
    onehot = ids_to_onehot(ids, [9, 2])
    assert onehot.dtype == torch.bool
    assert onehot.shape == (2, 4, 6)
    assert onehot.nonzero().tolist() == [[0, 0, 0], [1, 0, 1]]  # channel, row, column; 5 and void in neither


def test_onehot_and_back_with_leading_axes() -> None:
    ids = torch.from_numpy(np.random.default_rng(0).choice([0, 3, 7, 254], (2, 5, 4, 6)).astype(np.uint8))
    objects = [254, 3, 7]
    onehot = ids_to_onehot(ids, objects)
    assert onehot.shape == (2, 5, 3, 4, 6)
    back = onehot_to_ids(onehot, objects)
    assert back.dtype == torch.uint8
    assert torch.equal(back, ids)


def test_the_last_of_two_overlapping_objects_is_on_top() -> None:
    onehot = torch.zeros(2, 1, 3)
    onehot[0, 0, :2], onehot[1, 0, 1:] = 1, 1
    assert onehot_to_ids(onehot, [4, 2]).tolist() == [[4, 2, 2]]


def test_no_objects_are_no_channels() -> None:
    assert ids_to_onehot(MASKS, []).shape == (3, 0, 4, 6)
    assert not onehot_to_ids(torch.zeros(0, 4, 6), []).any()


@pytest.mark.parametrize("wrong", [0, 255, 300, -1])
def test_ids_outside_1_to_254_are_refused(wrong: int) -> None:
    message = f"id {wrong}, but ids go from 1 to 254"
    with pytest.raises(TutorialError, match=message):
        ids_to_onehot(MASKS, [1, wrong])
    with pytest.raises(TutorialError, match=message):
        onehot_to_ids(torch.zeros(2, 4, 6), [1, wrong])


def test_one_channel_per_object() -> None:
    with pytest.raises(TutorialError, match="3 channels for 2 objects"):
        onehot_to_ids(torch.zeros(3, 4, 6), [1, 2])


# ------------------------------------------------------------------------------------------------------ palette


def test_palette_as_published() -> None:
    """The first rows that PASCAL VOC's development kit lists, and two that use the lower bits."""
    palette = davis_palette()
    assert palette.shape == (256, 3)
    assert palette.dtype == np.uint8
    assert palette[:9].tolist() == [
        [0, 0, 0], [128, 0, 0], [0, 128, 0], [128, 128, 0], [0, 0, 128],
        [128, 0, 128], [0, 128, 128], [128, 128, 128], [64, 0, 0],
    ]  # fmt: skip
    assert palette[20].tolist() == [0, 64, 128]
    assert palette[255].tolist() == [224, 224, 192]
    assert len(np.unique(palette, axis=0)) == 256


# ------------------------------------------------------------------------------------------------ masks on disk


def test_write_and_read_back(tmp_path: Path) -> None:
    ids = blank(p00=1, p12=7, p35=255, p22=254)
    write_mask(tmp_path / "00000.png", ids)
    assert torch.equal(read_mask(tmp_path / "00000.png"), ids)
    assert read_mask(tmp_path / "00000.png", binary=True).tolist() == (ids != 0).int().tolist()
    with Image.open(tmp_path / "00000.png") as image:
        assert image.mode == "P"
        assert image.getpalette()[:12] == [0, 0, 0, 128, 0, 0, 0, 128, 0, 128, 128, 0]
    assert [p.name for p in tmp_path.iterdir()] == ["00000.png"]


def test_write_replaces_what_was_there(tmp_path: Path) -> None:
    write_mask(tmp_path / "a.png", blank(p00=1))
    write_mask(tmp_path / "a.png", blank(p00=2))
    assert object_ids(read_mask(tmp_path / "a.png")) == [2]


@pytest.mark.parametrize(("mode", "values"), [("L", (0, 3)), ("1", (0, 1))])
def test_grey_and_one_bit_masks_are_read(tmp_path: Path, mode: str, values: tuple[int, int]) -> None:
    Image.fromarray((blank(p00=values[1])).numpy() * (255 if mode == "1" else 1)).convert(mode).save(
        tmp_path / "m.png"
    )
    ids = read_mask(tmp_path / "m.png", binary=mode == "1")
    assert torch.equal(ids, blank(p00=values[1]))


def test_a_frame_is_rgb_uint8(tmp_path: Path) -> None:
    picture = np.zeros((4, 6, 3), dtype=np.uint8)
    picture[1, 2] = [10, 20, 30]
    Image.fromarray(picture).save(tmp_path / "f.png")
    frame = read_frame(tmp_path / "f.png")
    assert frame.shape == (3, 4, 6)
    assert frame.is_contiguous()
    assert frame[:, 1, 2].tolist() == [10, 20, 30]
    Image.fromarray(picture[..., 0]).save(tmp_path / "grey.png")
    assert read_frame(tmp_path / "grey.png").shape == (3, 4, 6)


def test_a_damaged_png_is_a_sentence(tmp_path: Path) -> None:
    """Cut the file at every length, and overwrite every byte: no other exception, and no half mask, comes out."""
    mask, buffer, path = blank(p00=1, p12=7), io.BytesIO(), tmp_path / "m.png"
    Image.fromarray(mask.numpy()).save(buffer, format="PNG")
    whole = buffer.getvalue()

    def outcome(content: bytes) -> str:
        path.write_bytes(content)
        try:
            return "same" if torch.equal(read_mask(path), mask) else "changed"
        except TutorialError as error:
            return "refused" if f"mask {path} cannot be read" in str(error) else str(error)

    # What follows the last pixel are checksums and the chunk IEND: Pillow does without.
    assert {outcome(whole[:keep]) for keep in range(len(whole) - 24)} == {"refused"}
    assert {outcome(whole[:keep]) for keep in range(len(whole) - 24, len(whole))} <= {"refused", "same"}
    damaged = [whole[:i] + bytes([v]) + whole[i + 1 :] for i in range(len(whole)) for v in (0, 255, whole[i] ^ 1)]
    outcomes = [outcome(content) for content in damaged]
    assert set(outcomes) <= {"refused", "same", "changed"}
    assert outcomes.count("refused") > len(whole)


def test_a_missing_file_and_a_text_file(tmp_path: Path) -> None:
    with pytest.raises(TutorialError, match=r"frame .*f\.jpg does not exist; check the folder"):
        read_frame(tmp_path / "f.jpg")
    (tmp_path / "m.png").write_text("not a picture")
    with pytest.raises(TutorialError, match=r"mask .*m\.png cannot be read: it is not an image"):
        read_mask(tmp_path / "m.png")
    with pytest.raises(TutorialError, match="cannot be read"):
        read_mask(tmp_path)  # a folder


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "I;16"])
def test_a_mask_that_holds_no_8_bit_ids(tmp_path: Path, mode: str) -> None:
    """Colours are no ids, and 16 bits hold ids above 254."""
    picture = np.zeros((4, 6, 4), dtype=np.uint8)
    picture[..., 0] = 90
    pixels = np.full((4, 6), 300, dtype=np.uint16) if mode == "I;16" else picture[..., : len(mode)]
    Image.fromarray(pixels).save(tmp_path / "m.png")
    with pytest.raises(TutorialError, match=rf"m\.png is a {mode} picture.*save it as a palette .* PNG"):
        read_mask(tmp_path / "m.png")
    with pytest.raises(TutorialError, match=mode):
        read_mask(tmp_path / "m.png", binary=True)


def test_what_cannot_be_written_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "m.png"
    write_mask(path, blank(p00=1))

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(TutorialError, match=r"cannot write .*m\.png \(No space left on device\).*free some space"):
        write_mask(path, blank(p00=2))
    assert object_ids(read_mask(path)) == [1]
    assert [p.name for p in tmp_path.iterdir()] == ["m.png"]


@pytest.mark.parametrize("ids", [MASKS[0].long(), MASKS, MASKS[0].float()])
def test_only_uint8_ids_are_written(tmp_path: Path, ids: torch.Tensor) -> None:
    with pytest.raises(TutorialError, match=r"m\.png was not written: it is torch\.\w+ \[[\d, ]+\]"):
        write_mask(tmp_path / "m.png", ids)
    assert not list(tmp_path.iterdir())
