"""Folders of masks as the scoring of DAVIS and YouTube-VOS reads them: written by any method, and checked.

    folder = DavisFolder(root, 2017, "test-dev")
    write(segmenter, folder, ResultsFolder("out/stm"), "davis2017")
    check(folder, "out/stm")

DAVIS wants ``<sequence>/00000.png`` for every frame, YouTube-VOS ``Annotations/<video>/00005.png`` for the frames
that its ``meta.json`` lists; both want palette PNGs of the annotation's size that hold the ids that were given. A
folder that passes can be read. What its masks would score, only the data set's own program can say.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from PIL import Image

from .clip import object_ids
from .data.davis import VideoFolder, YouTubeVosFolder
from .errors import TutorialError
from .evaluation import masks_to_submit, segment
from .files import is_folder, listing
from .metrics import ProtocolName
from .pictures import read_mask, size_of
from .propagation import Segmenter
from .results import ResultsFolder


def above(folder: VideoFolder) -> str:
    """What stands before a sequence's name in a folder of results: YouTube-VOS's server wants ``Annotations/``."""
    return "Annotations/" if isinstance(folder, YouTubeVosFolder) else ""


def write(
    segmenter: Segmenter,
    folder: VideoFolder,
    results: ResultsFolder,
    protocol: ProtocolName,
    names: Sequence[str] | None = None,
    device: torch.device | str = "cpu",
) -> Iterator[str]:
    """Follow the sequences, and write their masks; a sequence is written when all of it is followed.

    Args:
        segmenter: any method.
        folder: the data set; it need not have more than the masks that are given.
        results: where to.
        protocol: what is given to the method, see :func:`vos_tutorial.evaluation.segment`.
        names: of the sequences; all of the folder's list by default.
        device: where the method works.

    Yields:
        the name of each sequence, once its masks are on the disk.

    Raises:
        TutorialError: if a sequence cannot be read or followed, or something is in the way.
    """
    for name in folder.names if names is None else names:
        masks = masks_to_submit(folder, name, segment(segmenter, folder[name], protocol, device).ids)
        results.write_masks({above(folder) + path: mask for path, mask in masks.items()})
        yield name


def problems(folder: VideoFolder, root: str | os.PathLike[str], names: Sequence[str] | None = None) -> list[str]:
    """What would keep the data set's program from reading a folder of results; a sentence each, none if all is well.

    Args:
        folder: the data set that the results belong to.
        root: of the results.
        names: of the sequences that must be there; all of the data set's list by default.
    """
    place, wanted = Path(root) / above(folder), list(folder.names if names is None else names)
    if not is_folder(place):
        return [f"there is no folder {place}; write the masks there first."]
    found = [
        f"{place} holds {entry.name}, which is no sequence of the list; take it out."
        for entry in listing(place)
        if entry.name not in folder.names and (is_folder(entry) or above(folder))
    ]
    for name in wanted:
        found += _of_sequence(folder, name, place)
    return found


def _of_sequence(folder: VideoFolder, name: str, place: Path) -> list[str]:
    if not is_folder(place / name):
        return [f"{name}: there is no folder {place / name}; write its masks."]
    masks, planned = folder.files(name).masks, folder.results_of(name)
    given = [mask for mask in masks if mask is not None]
    known = {i for mask in given for i in object_ids(folder.read_mask(mask))}
    missing = [path.name for path in planned if not (place / path).is_file()]
    extra = sorted({path.name for path in listing(place / name)} - {path.name for path in planned})
    found = []
    if missing:
        found.append(f"{name}: {len(missing)} of {len(planned)} masks are missing, the first is {missing[0]}.")
    if extra:
        found.append(f"{name}: {extra[0]} is not asked for ({len(extra)} such files); take it out.")
    size = size_of(given[0])
    for path in planned:
        if path.name not in missing and (wrong := _of_mask(place / path, size, known)):
            return [*found, f"{name}: {wrong}"]  # the others are likely to have the same fault
    return found


def _of_mask(path: Path, size: tuple[int, int], known: set[int]) -> str:
    """What is wrong with one mask, or ""."""
    try:
        with Image.open(path) as image:
            mode = image.mode
        mask = read_mask(path)
    except (TutorialError, OSError) as error:
        return f"{path.name} cannot be read ({error}); write it again."
    if mode != "P":
        return f"{path.name} is a picture of mode {mode}; the scoring reads ids from a palette PNG (mode P)."
    if tuple(mask.shape) != size:
        own = "x".join(map(str, mask.shape))
        return f"{path.name} is {own}, its annotation {size[0]}x{size[1]}; resize it (nearest)."
    if strange := sorted(set(mask.unique().tolist()) - known - {0}):
        ids = ", ".join(map(str, sorted(known)))
        return f"{path.name} holds the id {strange[0]}; the given masks hold {ids}, and 0 is the background."
    return ""


def check(folder: VideoFolder, root: str | os.PathLike[str], names: Sequence[str] | None = None) -> None:
    """See that a folder of results can be read by the data set's program.

    Raises:
        TutorialError: with the first of :func:`problems`, and how many there are.
    """
    if found := problems(folder, root, names):
        more = f" ({len(found) - 1} more)" if len(found) > 1 else ""
        raise TutorialError(f"{root} is not ready to be submitted: {found[0]}{more}")
