"""The one reader of frames and masks: each mode and depth of a picture file has one right reading, or a sentence."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter

from vos_tutorial.clip import object_ids
from vos_tutorial.errors import TutorialError
from vos_tutorial.pictures import has_shades, read_frame, read_mask, read_object, size_of

H, W = 48, 64


def square(value: int = 1, kind: type = np.uint8) -> np.ndarray:
    mask = np.zeros((H, W), kind)
    mask[10:24, 8:24] = value
    return mask


INSIDE = torch.from_numpy(square() > 0)


def saved(path: Path, pixels: np.ndarray, mode: str | None = None, **options: Any) -> Path:
    image = Image.fromarray(pixels)
    (image.convert(mode) if mode else image).save(path, **options)
    return path


# ------------------------------------------------------------------------------------------------------- frames

COLOUR = np.broadcast_to(np.array([200, 30, 90], np.uint8), (H, W, 3)).copy()
OPAQUE = np.full((H, W, 1), 255, np.uint8)


@pytest.mark.parametrize("ending", ["png", "tiff"])
@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
def test_a_frame_shows_what_a_viewer_shows(tmp_path: Path, mode: str, ending: str) -> None:
    path, grey = tmp_path / f"f.{ending}", np.linspace(20, 120, H * W).reshape(H, W).astype(np.uint8)
    expected = torch.from_numpy(COLOUR).permute(2, 0, 1)
    if mode in ("RGB", "P"):
        saved(path, COLOUR, mode)
        # a palette of 216 colours comes close
        assert (read_frame(path).int() - expected.int()).abs().max() <= (0 if mode == "RGB" else 51)
        return
    if mode == "RGBA":
        saved(path, np.concatenate([COLOUR, OPAQUE], 2))
        assert torch.equal(read_frame(path), expected)
        return
    if mode == "I;16":
        saved(path, grey.astype(np.uint16) * 257)
    elif mode == "1":
        grey = square(255)
        saved(path, grey, "1")
    else:
        saved(path, grey, mode)
    assert torch.equal(read_frame(path), torch.from_numpy(grey).expand(3, -1, -1))


def test_cmyk_and_black_of_16_bits(tmp_path: Path) -> None:
    red = Image.new("CMYK", (W, H), (0, 255, 255, 0))
    red.save(tmp_path / "f.jpg", quality=100)
    assert (read_frame(tmp_path / "f.jpg")[:, 5, 5].int() - torch.tensor([255, 0, 0])).abs().max() < 6
    saved(tmp_path / "g.png", np.array([[0, 128, 65535, 257]], np.uint16))
    assert read_frame(tmp_path / "g.png")[0].tolist() == [[0, 0, 255, 1]]


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda p: Image.fromarray(np.ones((H, W), np.float32)).save(p.with_suffix(".tif")), "F picture"),
        (lambda p: Image.fromarray(np.ones((H, W), np.int32)).save(p.with_suffix(".tif")), "I picture"),
        (lambda p: Image.new("LAB", (W, H)).save(p.with_suffix(".tif")), "LAB picture"),
        (lambda p: Image.new("RGBA", (W, H), (9, 9, 9, 200)).save(p), "transparent in places"),
        (lambda p: Image.new("LA", (W, H), (9, 0)).save(p), "transparent in places"),
        (lambda p: Image.new("L", (W, H), 3).convert("P").save(p, transparency=3), "transparent in places"),
        (lambda p: Image.new("L", (W, H), 3).save(p, transparency=3), "transparent in places"),
        (
            lambda p: Image.new("L", (W, H), 3).save(
                p.with_suffix(".tif"), save_all=True, append_images=[Image.new("L", (W, H))]
            ),
            "several pictures",
        ),
    ],
)
def test_a_frame_without_one_right_reading_is_refused(tmp_path: Path, make: Any, said: str) -> None:
    make(tmp_path / "f.png")
    with pytest.raises(TutorialError, match=said):
        read_frame(next(tmp_path.iterdir()))


@pytest.mark.parametrize("turn", range(1, 9))
@pytest.mark.parametrize("ending", ["png", "jpg", "tif"])
def test_a_turned_photo_and_its_turned_mask_are_upright(tmp_path: Path, turn: int, ending: str) -> None:
    """What the camera stored is the upright picture turned back; EXIF says how."""
    exif = Image.Exif()
    exif[0x0112] = turn
    upright = np.zeros((H, W, 3), np.uint8)
    upright[10:24, 8:24] = 220
    stored, mask = Image.fromarray(upright), Image.fromarray(square(255))
    back = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # 6: a viewer turns right, so the file was turned left
    if turn > 1:
        stored, mask = (x.transpose(Image.Transpose(back[turn])) for x in (stored, mask))
    stored.save(tmp_path / f"f.{ending}", exif=exif, **({"quality": 100} if ending == "jpg" else {}))
    mask.save(tmp_path / "m.png", exif=exif)
    frame, object_ = read_frame(tmp_path / f"f.{ending}"), read_mask(tmp_path / "m.png", binary=True)
    assert frame.shape == (3, H, W)
    assert size_of(tmp_path / "m.png") == (H, W)
    assert torch.equal(object_ == 1, INSIDE)
    assert float(((frame[0] > 110) == INSIDE).float().mean()) > 0.99


# -------------------------------------------------------------------------------------------------------- masks


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16", "I", "F"])
def test_every_mode_that_can_hold_ids_gives_the_same_mask(tmp_path: Path, mode: str) -> None:
    path = tmp_path / ("m.tif" if mode in ("I", "F") else "m.png")
    if mode == "1":
        saved(path, square(255), "1")
    elif mode == "P":
        image = Image.fromarray(square())
        image.putpalette([0, 0, 0, 128, 0, 0])
        image.save(path)
    elif mode in ("I;16", "I", "F"):
        saved(path, square(1, {"I;16": np.uint16, "I": np.int32, "F": np.float32}[mode]))
    else:
        saved(path, square(), mode)
    for mask in (read_mask(path), read_mask(path, binary=True), read_object(path).to(torch.uint8)):
        assert mask.dtype == torch.uint8
        assert torch.equal(mask == 1, INSIDE)


def test_black_and_white_in_16_bits(tmp_path: Path) -> None:
    path = saved(tmp_path / "m.png", square(65535, np.uint16))
    assert torch.equal(read_mask(path, binary=True) == 1, INSIDE)
    assert torch.equal(read_object(path), INSIDE)


@pytest.mark.parametrize(
    "pixels",
    [
        np.full((H, W, 3), (128, 0, 0), np.uint8),
        square(300, np.uint16),
        square(-1, np.int32),
        square(1, np.float32) / 2,
        np.full((H, W, 4), (0, 128, 0, 255), np.uint8),
    ],
)
def test_what_holds_no_ids_is_refused(tmp_path: Path, pixels: np.ndarray) -> None:
    path = saved(tmp_path / "m.tif", pixels)
    for read in (read_mask, lambda p: read_mask(p, binary=True), read_object):
        with pytest.raises(TutorialError, match=r"m\.tif is a .* picture.*save it as a palette"):
            read(path)


@pytest.mark.parametrize("colour", [255, 0, 90])
def test_a_mask_painted_as_transparency(tmp_path: Path, colour: int) -> None:
    path = saved(tmp_path / "m.png", np.dstack([np.full((H, W, 3), colour, np.uint8), square(255)]))
    assert torch.equal(read_mask(path, binary=True) == 1, INSIDE)
    assert torch.equal(read_object(path), INSIDE)
    with pytest.raises(TutorialError, match="transparent in places"):
        read_mask(path)  # ids cannot be painted so


def test_colour_and_alpha_that_contradict_each_other(tmp_path: Path) -> None:
    same = np.dstack([square(255)] * 4)
    assert torch.equal(read_mask(saved(tmp_path / "s.png", same), binary=True) == 1, INSIDE)
    other = np.dstack([np.roll(square(255), 9, axis=1)] * 3 + [square(255)])
    nothing = np.dstack([square(255)] * 3 + [np.zeros((H, W), np.uint8)])
    for pixels in (other, nothing):
        with pytest.raises(TutorialError, match="whether the mask is in its colours or in its alpha"):
            read_mask(saved(tmp_path / "m.png", pixels), binary=True)


def blurred(radius: float) -> np.ndarray:
    return np.asarray(Image.fromarray(square(255)).filter(ImageFilter.GaussianBlur(radius)))


def softened(kind: str, path: Path) -> None:
    if kind == "jpeg":
        Image.fromarray(square(255)).save(path, format="JPEG", quality=75)
    elif kind == "jpeg again":
        Image.fromarray(square(255)).save(path, format="JPEG", quality=60)
        with Image.open(path) as image:
            image.load()
        image.save(path, format="PNG")
    elif kind == "small":
        Image.fromarray(square(255)).resize((W // 3, H // 3), Image.Resampling.BILINEAR).save(path)
    else:
        Image.fromarray(blurred(1.5)).save(path)


@pytest.mark.parametrize("kind", ["blurred", "jpeg", "jpeg again", "small"])
def test_soft_masks_are_cut_with_a_word_or_refused(tmp_path: Path, kind: str) -> None:
    softened(kind, tmp_path / "m.png")
    with pytest.raises(TutorialError, match="soft edges or lossy compression"):
        read_mask(tmp_path / "m.png")
    with pytest.warns(UserWarning, match="cut at 127"):
        mask = read_mask(tmp_path / "m.png", binary=True)
    true = INSIDE if kind != "small" else torch.from_numpy(square()[1::3, 1::3] > 0)[: H // 3, : W // 3]
    assert abs(int(mask.sum()) - int(true.sum())) <= 0.08 * int(true.sum()), "the object neither grows nor shrinks"
    with pytest.warns(UserWarning, match="cut at 127"):
        assert torch.equal(read_object(tmp_path / "m.png"), mask == 1)


def test_a_photo_is_no_mask(tmp_path: Path) -> None:
    ramp = np.linspace(70, 180, H * W).reshape(H, W).astype(np.uint8)
    faint = np.asarray(blurred(2) // 3)
    for pixels in (ramp, faint):
        saved(tmp_path / "m.jpg", pixels, quality=95)
        with pytest.raises(TutorialError, match="so it is not a mask"):
            read_mask(tmp_path / "m.jpg", binary=True)


def outlined(value: int) -> np.ndarray:
    mask = np.zeros((H, W), np.uint8)
    mask[8:26, 6:26], mask[10:24, 8:24] = 255, value
    return mask


@pytest.mark.parametrize("value", [1, 15, 38, 90, 200])
def test_an_object_within_its_void_outline(tmp_path: Path, value: int) -> None:
    path = saved(tmp_path / "m.png", outlined(value))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert torch.equal(read_object(path), INSIDE)
        assert object_ids(read_mask(path)) == [value]


@pytest.mark.parametrize("values", [(0, 255), (0, 1), (0, 254), (0, 128)])
def test_two_values_are_an_object_whatever_they_are(tmp_path: Path, values: tuple[int, int]) -> None:
    path = saved(tmp_path / "m.png", square(values[1]))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert torch.equal(read_object(path), INSIDE)
        assert torch.equal(read_mask(path, binary=True) == 1, INSIDE)


def test_ids_that_look_like_greys_are_ids() -> None:
    """A palette written as grey: 38, 75 and 113 are the brightnesses of DAVIS's first colours; void is 255."""
    mask = outlined(38)
    mask[30:40, 30:50], mask[30:40, 50:60], mask[2, 2] = 75, 113, 38
    assert not has_shades(mask)
    assert has_shades(np.asarray(blurred(0.7)))
    steps = np.zeros((H, W), np.uint8)
    for k in range(7):
        steps[5:30, 9 * k : 9 * k + 9] = 36 * (k + 1)  # side by side
    assert not has_shades(steps)


# ------------------------------------------------------------------------------------- what is told as what it is


@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="needs root, to become someone else")
def test_a_file_that_may_not_be_read(tmp_path: Path) -> None:
    path = saved(tmp_path / "m.png", square())
    for folder in (tmp_path, *tmp_path.parents[:3]):
        os.chmod(folder, 0o755)
    os.chmod(path, 0)
    os.seteuid(65534)
    try:
        for read in (read_mask, read_frame, read_object):
            with pytest.raises(TutorialError, match=r"exists, but cannot be read \(Permission denied\)") as error:
                read(path)
            assert "truncated" not in str(error.value)
            assert "copy it again" not in str(error.value)
    finally:
        os.seteuid(0)
