"""Still images with one object each: what MaskTrack learns to follow objects from.

MaskTrack never sees two frames of a video in training (Perazzi, Khoreva et al., CVPR 2017, section 3.1): a picture
and the mask of its object are enough, because the "mask of the previous frame" is the same mask, corrupted. The paper
uses saliency sets (ECSSD, MSRA10K, SOD, PASCAL-S); any folder of pictures and masks serves, and so do the Oxford-IIIT
pets and PASCAL VOC, which torchvision can fetch: see :func:`open_stills`. Sample ``i`` of a batch depends on
``seeds[i]`` alone.
"""

from __future__ import annotations

import os
import urllib.error
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision import datasets

from ...clip import object_ids
from ...errors import TutorialError
from ...files import PICTURES, is_folder, pictures_by_stem, plain_names, read_text
from ...pictures import read_frame, read_mask, read_object
from ..batches import Stills

DRAWS = 50  # pictures tried for one sample
SMALLEST, LARGEST = 0.02, 0.9  # the object's share of a crop; outside, the crop is drawn again
NARROWEST = 0.5  # a crop's side, as a share of the picture's shorter side; the widest is 1
TINY = 0.01  # instances of VOC below this share of the picture are left out
PHOTOS, MASKS = (".jpg", ".jpeg"), (".png", ".bmp", ".tif", ".tiff")


class PhotoStills(ABC):
    """Random crops of photos: scale, place and mirror image are drawn from the seed.

    A subclass says how many photos there are and how to read one.
    """

    name: str  # of the folder, for messages

    @abstractmethod
    def __len__(self) -> int:
        """The number of photos."""

    @abstractmethod
    def pair(self, index: int, rng: np.random.Generator) -> tuple[Tensor, Tensor] | None:
        """One photo ``uint8 [3, H, W]`` and the mask of one of its objects ``bool [H, W]``.

        Returns None if the photo has no object worth learning from.
        """

    def batch(self, seeds: Sequence[int], size: int) -> Stills:
        """Square crops in which the object covers 2 % to 90 %.

        Args:
            seeds: one integer >= 0 for each sample.
            size: pixels a side.

        Raises:
            TutorialError: if a picture or mask is broken, or no crop with a fair share of object is found.
        """
        samples = [self._sample(np.random.default_rng(seed), size) for seed in seeds]
        return Stills(torch.stack([image for image, _ in samples]), torch.stack([mask for _, mask in samples]))

    def _sample(self, rng: np.random.Generator, size: int) -> tuple[Tensor, Tensor]:
        for _ in range(DRAWS):
            pair = self.pair(int(rng.integers(len(self))), rng)
            if pair is None:
                continue
            image, mask = crop(*pair, rng, size)
            if SMALLEST <= float(mask.float().mean()) <= LARGEST:
                return (image.flip(-1), mask.flip(-1)) if rng.random() < 0.5 else (image, mask)
        raise TutorialError(
            f"{self.name}: in {DRAWS} draws no crop held an object of {SMALLEST:.0%} to {LARGEST:.0%} of it; "
            "its objects are too small or fill the picture, so take another set."
        )


def crop(image: Tensor, mask: Tensor, rng: np.random.Generator, size: int) -> tuple[Tensor, Tensor]:
    """A random square that holds a random pixel of the object, brought to ``size``.

    Both are resized by the same antialiased bilinear filter, so that the mask's outline stays on the picture's.

    Args:
        image: ``uint8 [3, H, W]``.
        mask: ``bool [H, W]``, not empty.
        rng: where chance comes from.
        size: pixels a side.

    Returns:
        ``float32 [3, size, size]`` in [0, 1] and ``bool [size, size]``.
    """
    height, width = mask.shape
    side = max(1, round(min(height, width) * rng.uniform(NARROWEST, 1)))
    ys, xs = torch.nonzero(mask, as_tuple=True)
    pixel = int(rng.integers(len(ys)))
    y = _start(int(ys[pixel]), side, height, rng)
    x = _start(int(xs[pixel]), side, width, rng)
    both = torch.cat(
        [image[:, y : y + side, x : x + side].float() / 255, mask[None, y : y + side, x : x + side].float()]
    )
    both = F.interpolate(both[None], size=(size, size), mode="bilinear", antialias=True)[0]
    return both[:3].clamp(0, 1), both[3] > 0.5


def _start(pixel: int, side: int, length: int, rng: np.random.Generator) -> int:
    """Where a stretch of ``side`` out of ``length`` may start so that it holds ``pixel``."""
    low, high = max(0, pixel - side + 1), min(pixel, length - side)
    return int(rng.integers(low, high + 1))


class FolderStills(PhotoStills):
    """Any folder of pictures and masks with the same names.

    Either ``images/a.jpg`` beside ``masks/a.png`` (ECSSD calls the second folder ``ground_truth_mask``), or ``a.jpg``
    and ``a.png`` side by side (MSRA10K). How masks are read: :func:`~vos_tutorial.pictures.read_object`.

    Args:
        root: the folder.

    Raises:
        TutorialError: if there is no picture, a picture without mask, or a mask without picture.
    """

    def __init__(self, root: str | os.PathLike[str]) -> None:
        base = Path(root)
        self.name = str(base)
        if not is_folder(base):
            raise TutorialError(f"there is no folder {base} of pictures and masks; check the path.")
        apart = next((base / m for m in ("masks", "ground_truth_mask") if is_folder(base / m)), None)
        masks = pictures_by_stem(apart, (*MASKS, *PHOTOS)) if apart else pictures_by_stem(base, MASKS)
        if apart is not None and not is_folder(base / "images"):
            raise TutorialError(f"{base} has {apart.name}/ but no images/; put the pictures there.")
        images = pictures_by_stem(base / "images", PICTURES) if apart else pictures_by_stem(base, PHOTOS)
        if not images:
            raise TutorialError(
                f"{base} holds no picture; expected images/NAME.jpg with masks/NAME.png, or NAME.jpg beside NAME.png."
            )
        for stem in sorted(images.keys() ^ masks.keys()):
            have, lack = (images[stem], "mask") if stem in images else (masks[stem], "picture")
            raise TutorialError(f"{have} has no {lack} of the same name; add it, or remove the file.")
        self.files = [(images[stem], masks[stem]) for stem in sorted(images)]

    def __len__(self) -> int:
        return len(self.files)

    def pair(self, index: int, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """One photo and its mask; see :class:`PhotoStills`.

        Raises:
            TutorialError: if a file is broken, the mask is in colour or empty, or the sizes differ.
        """
        image_path, mask_path = self.files[index]
        image, mask = read_frame(image_path), read_object(mask_path)
        _same_size(image, mask, mask_path)
        if not mask.any():
            raise TutorialError(f"mask {mask_path} is empty; remove it and its picture.")
        return image, mask


class PetStills(PhotoStills):
    """Oxford-IIIT Pet: a cat or dog in each picture.

    The set's masks have three values: pet, background, and a border a few pixels wide that is neither; the border,
    fur for the most part, counts as pet.

    Args:
        root: the folder ``oxford-iiit-pet``, or the one that holds it.
        split: "trainval" or "test".
        download: let torchvision fetch it (about 0.8 GB) if it is not there.

    Raises:
        TutorialError: if the set is not there, or cannot be fetched.
    """

    def __init__(self, root: str | os.PathLike[str], split: str = "trainval", download: bool = False) -> None:
        if download:
            _fetch(datasets.OxfordIIITPet, root, split=split)
        base = _inside(root, ("oxford-iiit-pet",))
        self.name = str(base)
        names = _listed("OxfordIIITPet", base, "oxford-iiit-pet", f"annotations/{split}.txt")
        self._pairs = [(base / f"images/{n}.jpg", base / f"annotations/trimaps/{n}.png") for n in names]

    def __len__(self) -> int:
        return len(self._pairs)

    def pair(self, index: int, rng: np.random.Generator) -> tuple[Tensor, Tensor] | None:
        """One pet; see :class:`PhotoStills`.

        Raises:
            TutorialError: if a file is missing or broken, or the sizes differ.
        """
        image_path, trimap_path = self._pairs[index]
        image, mask = read_frame(image_path), read_mask(trimap_path) != 2  # 1 pet, 2 background, 3 border
        _same_size(image, mask, trimap_path)
        return (image, mask) if mask.any() else None


class VocStills(PhotoStills):
    """PASCAL VOC: one random instance of a picture; tiny ones (under 1 %) are left out.

    Pixels on the outline of objects are void (255) and count as background.

    Args:
        root: the folder ``VOCdevkit`` or ``VOC<year>``, or the one that holds it.
        year: "2007" to "2012".
        image_set: "train", "trainval" or "val".
        download: let torchvision fetch it (about 2 GB for 2012) if it is not there.

    Raises:
        TutorialError: if the set is not there, or cannot be fetched.
    """

    def __init__(
        self, root: str | os.PathLike[str], year: str = "2012", image_set: str = "train", download: bool = False
    ) -> None:
        if download:
            _fetch(datasets.VOCSegmentation, root, year=year, image_set=image_set)
        base = _inside(root, (f"VOCdevkit/VOC{year}", f"VOC{year}", f"TrainVal/VOCdevkit/VOC{year}"))
        self.name = f"{base} (VOC {year})"
        names = _listed("VOCSegmentation", base, f"VOCdevkit/VOC{year}", f"ImageSets/Segmentation/{image_set}.txt")
        self._pairs = [(base / f"JPEGImages/{n}.jpg", base / f"SegmentationObject/{n}.png") for n in names]

    def __len__(self) -> int:
        return len(self._pairs)

    def pair(self, index: int, rng: np.random.Generator) -> tuple[Tensor, Tensor] | None:
        """One instance; see :class:`PhotoStills`.

        Raises:
            TutorialError: if a file is missing or broken, or the sizes differ.
        """
        image_path, mask_path = self._pairs[index]
        image, ids = read_frame(image_path), read_mask(mask_path)
        _same_size(image, ids, mask_path)
        large = [mask for i in object_ids(ids) if float((mask := ids == i).float().mean()) >= TINY]
        return (image, large[int(rng.integers(len(large)))]) if large else None


def open_stills(root: str | os.PathLike[str]) -> PhotoStills:
    """A folder of stills to train on, whatever its layout: PASCAL VOC, Oxford-IIIT Pet, or pictures with masks.

    Of several years of VOC the newest is taken.

    Raises:
        TutorialError: as the classes.
    """
    base = Path(root)
    for year in range(2012, 2006, -1):
        if is_folder(_inside(base, (f"VOCdevkit/VOC{year}", f"VOC{year}")) / "SegmentationObject"):
            return VocStills(base, str(year))
    if is_folder(_inside(base, ("oxford-iiit-pet",)) / "annotations" / "trimaps"):
        return PetStills(base)
    return FolderStills(base)


def _inside(root: str | os.PathLike[str], places: Sequence[str]) -> Path:
    """The first of some folders in ``root`` that is there, or ``root`` itself."""
    base = Path(root)
    return next((base / place for place in places if is_folder(base / place)), base)


def _listed(what: str, base: Path, usual: str, path: str) -> list[str]:
    """The names of a list of one of the sets; of each line the first word."""
    if not os.path.lexists(base / path):
        raise TutorialError(
            f"{what} cannot be opened in {base} (there is no list {usual}/{path}); "
            "give download=True, or the folder in which it was unpacked."
        )
    lines = read_text(base / path, "the list", "unpack the set again").splitlines()
    names = plain_names((line.split()[0] for line in lines if line.strip()), f"the list {base / path}")
    if not names:
        raise TutorialError(f"the list {base / path} is empty; unpack the set again.")
    return names


def _fetch(dataset: Any, root: str | os.PathLike[str], **options: Any) -> None:
    """Let torchvision fetch a set, its complaints turned into one sentence."""
    try:
        dataset(root, download=True, **options)
    except urllib.error.URLError as error:
        raise TutorialError(
            f"{dataset.__name__} cannot be fetched ({error.reason}); connect to the network, or unpack it in {root}."
        ) from None
    except (RuntimeError, OSError, ValueError) as error:
        raise TutorialError(
            f"{dataset.__name__} cannot be fetched into {root} ({error}); choose another folder, or unpack it there."
        ) from None


def _same_size(image: Tensor, mask: Tensor, what: Path | str) -> None:
    if image.shape[1:] != mask.shape:
        raise TutorialError(
            f"mask {what} is {mask.shape[0]}x{mask.shape[1]} but its picture is {image.shape[1]}x{image.shape[2]} "
            "(height x width); remove the pair, or resize the mask with nearest neighbour."
        )
