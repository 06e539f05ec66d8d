"""Still-image sources: folders of pairs, pets and VOC in their true layout, tiny."""

from __future__ import annotations

import urllib.error
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from vos_tutorial.clip import write_mask
from vos_tutorial.data.batches import StillSource
from vos_tutorial.data.sources import stills
from vos_tutorial.data.sources.stills import FolderStills, PetStills, VocStills, crop, open_stills
from vos_tutorial.errors import TutorialError

H, W = 60, 80


def photo(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A picture whose object is red on blue, so that picture and mask can be compared."""
    rng = np.random.default_rng(seed)
    mask = np.zeros((H, W), bool)
    y, x = rng.integers(5, 25), rng.integers(5, 35)
    mask[y : y + 25, x : x + 30] = True
    image = np.where(mask[..., None], (220, 20, 20), (20, 20, 220)).astype(np.uint8)
    return image, mask


def save(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path, quality=95)


def save_ids(path: Path, ids: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_mask(path, torch.from_numpy(ids.astype(np.uint8)))


@pytest.fixture(params=["apart", "ecssd", "beside"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    images, masks = {
        "apart": ("images", "masks"),
        "ecssd": ("images", "ground_truth_mask"),
        "beside": (".", "."),
    }[request.param]
    for i in range(5):
        image, mask = photo(i)
        save(tmp_path / images / f"{i:04d}.jpg", image)
        save(tmp_path / masks / f"{i:04d}.png", (255 * mask).astype(np.uint8))
    return tmp_path


@pytest.fixture
def pets(tmp_path: Path) -> Path:
    base = tmp_path / "oxford-iiit-pet"
    lines = []
    for i in range(4):
        image, mask = photo(i)
        trimap = np.where(mask, 1, 2).astype(np.uint8)
        inside = np.zeros_like(mask)
        inside[1:-1, 1:-1] = mask[1:-1, 1:-1] & mask[:-2, 1:-1] & mask[2:, 1:-1] & mask[1:-1, :-2] & mask[1:-1, 2:]
        trimap[mask & ~inside] = 3
        save(base / f"images/Bengal_{i}.jpg", image)
        save(base / f"annotations/trimaps/Bengal_{i}.png", trimap)
        lines.append(f"Bengal_{i} 6 1 2")
    (base / "annotations/trainval.txt").write_text("\n".join(lines))
    return tmp_path


@pytest.fixture
def voc(tmp_path: Path) -> Path:
    base = tmp_path / "VOCdevkit/VOC2012"
    names = []
    for i in range(4):
        image, mask = photo(i)
        ids = mask * 1
        top = int(np.flatnonzero(mask.any(1))[0])
        ids[top : top + 8][mask[top : top + 8]] = 2
        ids[0:3, 0:3] = 3  # tiny: 0.2 %
        ids[H - 1] = 255  # void
        save(base / f"JPEGImages/2007_{i:06d}.jpg", image)
        save_ids(base / f"SegmentationObject/2007_{i:06d}.png", ids)
        save_ids(base / f"SegmentationClass/2007_{i:06d}.png", 8 * (ids > 0))
        names.append(f"2007_{i:06d}")
    split = base / "ImageSets/Segmentation/train.txt"
    split.parent.mkdir(parents=True)
    split.write_text("\n".join(names) + "\n")
    return tmp_path


def check_contract(source: StillSource, size: int = 32) -> None:
    images, masks = source.batch([3, 1, 4, 1], size)
    assert images.shape == (4, 3, size, size)
    assert images.dtype == torch.float32
    assert masks.shape == (4, size, size)
    assert masks.dtype == torch.bool
    assert float(images.min()) >= 0
    assert float(images.max()) <= 1
    shares = masks.float().mean((1, 2))
    assert bool(((shares >= 0.02) & (shares <= 0.9)).all())
    alone = source.batch([4], size)
    assert torch.equal(images[2], alone.images[0])  # sample i depends on seeds[i] only
    assert torch.equal(masks[2], alone.masks[0])
    assert torch.equal(images[1], images[3])
    assert len({image.numpy().tobytes() for image in source.batch(range(12), size).images}) > 8


def test_folder(folder: Path) -> None:
    source = FolderStills(folder)
    assert len(source) == 5
    check_contract(source)


def test_mask_and_picture_stay_together(folder: Path) -> None:
    images, masks = FolderStills(folder).batch(range(16), 48)
    red = images[:, 0] > images[:, 2]
    assert float((red == masks).float().mean()) > 0.98  # crops, scales and mirror images of both alike
    left = masks[:, :, :24].sum((1, 2)) > masks[:, :, 24:].sum((1, 2))
    assert 0 < int(left.sum()) < 16


def test_pets_count_the_border(pets: Path) -> None:
    source = PetStills(pets)
    assert len(source) == 4
    check_contract(source)
    pair = source.pair(2, np.random.default_rng(0))
    assert pair is not None
    assert torch.equal(pair[1], torch.from_numpy(photo(2)[1]))


def test_voc_takes_one_instance_and_no_tiny_one(voc: Path) -> None:
    source = VocStills(voc)
    assert len(source) == 4
    check_contract(source)
    whole = torch.from_numpy(photo(0)[1])
    areas = set()
    for seed in range(20):
        pair = source.pair(0, np.random.default_rng(seed))
        assert pair is not None
        assert bool((pair[1] <= whole).all())  # never the tiny one, never void
        assert int(pair[1].sum()) < int(whole.sum())  # one instance, not the class
        areas.add(int(pair[1].sum()))
    assert len(areas) == 2


def test_voc_without_a_large_instance(voc: Path) -> None:
    for path in (voc / "VOCdevkit/VOC2012/SegmentationObject").iterdir():
        ids = np.zeros((H, W))
        ids[:3, :3] = 1
        save_ids(path, ids)
    with pytest.raises(TutorialError, match="too small or fill the picture"):
        VocStills(voc).batch([0], 32)


def test_crop_holds_the_object_wherever_it_is() -> None:
    image = torch.zeros(3, 40, 50, dtype=torch.uint8)
    mask = torch.zeros(40, 50, dtype=torch.bool)
    mask[36:, 45:] = True  # in the corner
    for seed in range(30):
        _, cut = crop(image, mask, np.random.default_rng(seed), 64)
        assert bool(cut.any())


def test_mask_values_of_every_kind(tmp_path: Path) -> None:
    image, mask = photo(0)
    save(tmp_path / "a.jpg", image)
    soft = (90 * mask + 160 * (mask & (np.arange(W) > 30))).astype(np.uint8)
    for values, wanted in ((mask * 1, mask), (mask * 7, mask), (mask * 255, mask), (soft, soft > 127)):
        save(tmp_path / "a.png", values.astype(np.uint8))
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            FolderStills(tmp_path).pair(0, np.random.default_rng(0))
        assert len(warned) == (values is soft)
        assert np.array_equal(FolderStills(tmp_path).pair(0, np.random.default_rng(0))[1].numpy(), wanted)


def test_folder_errors(tmp_path: Path) -> None:
    image, mask = photo(0)
    with pytest.raises(TutorialError, match=r"no folder .*nowhere"):
        FolderStills(tmp_path / "nowhere")
    with pytest.raises(TutorialError, match=r"holds no picture; expected images/NAME.jpg"):
        FolderStills(tmp_path)
    save(tmp_path / "a.jpg", image)
    with pytest.raises(TutorialError, match=r"a.jpg has no mask"):
        FolderStills(tmp_path)
    save(tmp_path / "a.png", (255 * mask).astype(np.uint8))
    save(tmp_path / "b.png", (255 * mask).astype(np.uint8))
    with pytest.raises(TutorialError, match=r"b.png has no picture"):
        FolderStills(tmp_path)
    (tmp_path / "masks").mkdir()
    with pytest.raises(TutorialError, match="has masks/ but no images/"):
        FolderStills(tmp_path)


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (np.zeros((H, W), np.uint8), r"a.png is empty"),
        (np.full((H, W, 3), (255, 0, 0), np.uint8), r"a.png is a RGB picture"),
        (np.full((H, W - 5), 255, np.uint8), r"a.png is 60x75 but its picture is 60x80"),
        (np.full((H, W), 255, np.uint8), "too small or fill the picture"),
    ],
)
def test_bad_masks(tmp_path: Path, mask: np.ndarray, message: str) -> None:
    save(tmp_path / "a.jpg", photo(0)[0])
    save(tmp_path / "a.png", mask)
    with pytest.raises(TutorialError, match=message):
        FolderStills(tmp_path).batch([0], 32)


def test_truncated_files(folder: Path, pets: Path, voc: Path) -> None:
    broken = [*folder.rglob("*.jpg"), *folder.rglob("*.png")]
    for path in broken:
        path.write_bytes(path.read_bytes()[:80])
    for source in (FolderStills(folder), PetStills(pets), VocStills(voc)):
        with pytest.raises(TutorialError, match="cannot be read"):
            source.batch([0], 32)


def test_sets_that_are_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(TutorialError, match=r"OxfordIIITPet cannot be opened .*download=True"):
        PetStills(tmp_path)
    with pytest.raises(TutorialError, match=r"VOCSegmentation cannot be opened .*download=True"):
        VocStills(tmp_path)
    with pytest.raises(TutorialError, match="2031"):
        VocStills(tmp_path, year="2031")

    def offline(*_: object, **__: object) -> None:
        raise urllib.error.URLError("Name or service not known")

    monkeypatch.setattr(stills.datasets.oxford_iiit_pet, "download_and_extract_archive", offline)
    monkeypatch.setattr(stills.datasets.voc, "download_and_extract_archive", offline)
    for source in (PetStills, VocStills):
        with pytest.raises(TutorialError, match=r"cannot be fetched .*connect to the network"):
            source(tmp_path, download=True)


def test_the_layout_is_recognised(pets: Path, voc: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    both = pets  # the fixtures share a folder, and VOC comes first
    assert isinstance(open_stills(both), VocStills)
    for folder in (both / "VOCdevkit", both / "VOCdevkit/VOC2012"):
        assert isinstance(open_stills(folder), VocStills)
        assert len(open_stills(folder)) == 4
    (both / "VOCdevkit").rename(both / "elsewhere")
    for folder in (both, both / "oxford-iiit-pet"):
        assert isinstance(open_stills(folder), PetStills)
        assert len(open_stills(folder)) == 4
    plain = tmp_path_factory.mktemp("plain")
    save(plain / "a.JPG", photo(0)[0])
    save(plain / "a.PNG", (255 * photo(0)[1]).astype(np.uint8))
    assert isinstance(open_stills(plain), FolderStills)
    assert len(open_stills(plain)) == 1
    save(plain / "a.jpeg", photo(0)[0])
    with pytest.raises(TutorialError, match="pictures of one name"):
        open_stills(plain)
    with pytest.raises(TutorialError, match="no folder"):
        open_stills(plain / "nowhere")


@pytest.mark.parametrize(
    "lines", [b"\xef\xbb\xbf2007_000000\r\n\r\n  2007_000001 \r\n", b"2007_000000\n2007_000001\n2007_000000"]
)
def test_a_list_as_editors_leave_it(voc: Path, lines: bytes) -> None:
    (voc / "VOCdevkit/VOC2012/ImageSets/Segmentation/train.txt").write_bytes(lines)
    assert len(VocStills(voc)) == 2
    (voc / "VOCdevkit/VOC2012/ImageSets/Segmentation/train.txt").write_bytes(b"\n")
    with pytest.raises(TutorialError, match="is empty"):
        VocStills(voc)


def test_a_void_outline_is_not_the_object(tmp_path: Path) -> None:
    image, mask = photo(0)
    ids = np.where(mask, 15, 0).astype(np.uint8)
    edge = mask & ~(np.roll(mask, 2, 0) & np.roll(mask, -2, 0) & np.roll(mask, 2, 1) & np.roll(mask, -2, 1))
    ids[edge] = 255
    save(tmp_path / "a.jpg", image)
    save(tmp_path / "a.png", ids)
    found = FolderStills(tmp_path).pair(0, np.random.default_rng(0))[1]
    assert np.array_equal(found.numpy(), ids == 15)
