"""What leaves a project: masks, overlays, cut-outs, in formats that other tools read."""

from __future__ import annotations

import io
import json
import os
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from tqdm.auto import tqdm  # in a notebook a bar of its own, instead of a red line

from ..clip import davis_palette
from ..errors import TutorialError
from ..resize import resize_frame, size_at
from ..results import Made, ResultsFolder
from .project import Project, box_of
from .writing import VideoWriter

FILL = 0.35  # of an object's colour in an overlay: texture stays visible
OUTLINE = 240  # an outline is as many pixels wide as this goes into the lines of a frame
PREVIEW = 480  # pixels of the longer side of a WebP


class Format(NamedTuple):
    """One way out of a project."""

    file: str  # its name below the folder of the exports, or a folder's
    write: Callable[[Project, ResultsFolder, str], None]
    says: str


def export(
    project: Project, folder: str | os.PathLike[str], formats: Sequence[str] = ("masks", "overlay")
) -> list[Path]:
    """Write what a project knows. Each format is there whole or not at all, whatever happens in between.

    Exports of the same project are replaced; anything else in the folder stops the work before it begins.

    Args:
        project: with at least one mask.
        folder: made if missing.
        formats: of :data:`FORMATS`.

    Returns:
        where they lie, in the order of ``formats``.

    Raises:
        TutorialError: on an unknown format, if nothing is given yet, something foreign is in the way, the disk is
            full (then the earlier export is intact), or the video cannot be read any more.
    """
    for name in formats:
        if name not in FORMATS:
            raise TutorialError(f"there is no export {name!r}; choose from {', '.join(FORMATS)}.")
    if not project.has_masks():
        raise TutorialError(
            f"the project {project.folder} has no mask yet, so there is nothing to export; paint one first."
        )
    results = ResultsFolder(folder, option="the folder")
    results.begin()
    try:
        for name in formats:
            FORMATS[name].write(project, results, FORMATS[name].file)
    finally:
        results.end()
    return [results.root / FORMATS[name].file for name in formats]


def overlay(frame: Tensor, ids: Tensor, colours: NDArray[np.uint8]) -> Tensor:
    """Objects over their frame: a light fill and an outline.

    Args:
        frame: ``uint8 [3, H, W]``.
        ids: ``uint8 [H, W]``.
        colours: ``uint8 [256, 3]``, one for each id.

    Returns:
        ``uint8 [3, H, W]``.
    """
    shown = frame.clone()
    if (box := box_of(ids.numpy() > 0)) is None:
        return shown
    inside = ids.numpy()[box]  # [h, w], and so on from here: nothing changes outside the box
    edge = _outline(inside, max(1, round(len(ids) / OUTLINE)))
    share = np.where(edge, 1, FILL).astype(np.float32) * (inside > 0)
    part = frame[:, box[0], box[1]].numpy()  # [3, h, w]
    blended = part + share * (colours.T[:, inside] - part.astype(np.float32))
    shown[:, box[0], box[1]] = torch.from_numpy(blended.round().astype(np.uint8))
    return shown


def _outline(ids: NDArray[np.uint8], width: int) -> NDArray[np.bool_]:
    """Where another id lies ``width`` pixels above, below, left or right: ``bool [H, W]``."""
    height, length = ids.shape
    padded = np.pad(ids, width)
    places = ((0, width), (2 * width, width), (width, 0), (width, 2 * width))
    return np.any([padded[y : y + height, x : x + length] != ids for y, x in places], axis=0)


def colours_of(project: Project) -> NDArray[np.uint8]:
    """``uint8 [256, 3]``: the objects' own colours, at their ids."""
    colours = davis_palette()
    for each in project.objects.values():
        colours[each.id] = np.frombuffer(bytes.fromhex(each.colour[1:]), np.uint8)
    return colours


def _progress(project: Project, file: str) -> Iterator[int]:
    """The numbers of all frames; on a terminal, with a bar if it takes longer than two seconds."""
    yield from tqdm(range(len(project.video)), desc=file, unit=" frames", leave=False, delay=2, disable=None)


def _frames(project: Project, file: str) -> Iterator[tuple[Tensor, Tensor]]:
    """Each frame ``uint8 [3, H, W]`` with its ids ``uint8 [H, W]``."""
    for t, frame in zip(_progress(project, file), project.video, strict=True):
        yield frame, project.result(t)


# ------------------------------------------------------------------------------------------------- the formats


def _masks(project: Project, results: ResultsFolder, file: str) -> None:
    names = [f"{file}/{t:05d}.png" for t in range(len(project.video))]
    results.write_masks(Made(names, lambda name: project.result(int(Path(name).stem))))


def _cutouts(project: Project, results: ResultsFolder, file: str) -> None:
    def make(name: str) -> bytes:
        t = int(Path(name).stem)
        rgba = _with_alpha(project.video.frame(t), project.result(t))
        png = io.BytesIO()
        Image.fromarray(rgba.permute(1, 2, 0).numpy()).save(png, format="PNG", compress_level=3)
        return png.getvalue()

    results.write_all(Made((f"{file}/{t:05d}.png" for t in range(len(project.video))), make))


def _with_alpha(frame: Tensor, ids: Tensor) -> Tensor:
    """A frame that is opaque where objects are: ``uint8 [4, H, W]``."""
    return torch.cat([frame, (ids > 0).mul(255).byte()[None]])


def _video(make: Callable[[Tensor, Tensor, NDArray[np.uint8]], Tensor], transparent: bool = False) -> Any:
    """A format that is a video file of what ``make`` makes of each frame, its ids and the colours."""

    def write(project: Project, results: ResultsFolder, file: str) -> None:
        suffix, colours = Path(file).suffix, colours_of(project)
        height, width = project.video.size
        small = suffix == ".webp" and max(height, width) > PREVIEW
        size = (
            size_at(max(1, PREVIEW * min(height, width) // max(height, width)), height, width)
            if small
            else (height, width)
        )
        with results.writing(file) as place:
            writer = VideoWriter(place, suffix, size, project.video.times, transparent)
            for frame, ids in _frames(project, file):
                shown = make(frame, ids, colours)
                writer.write((resize_frame(shown.float() / 255, *size) * 255).round().byte() if small else shown)
            writer.close()

    return write


def _coco(project: Project, results: ResultsFolder, file: str) -> None:
    height, width = project.video.size
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for t, time in zip(_progress(project, file), project.video.times, strict=True):
        images.append({"id": t, "file_name": f"{t:05d}.png", "width": width, "height": height, "time": float(time)})
        ids = project.result(t).numpy()
        for o in project.objects:
            if (box := box_of(mask := ids == o)) is not None:
                rows, columns = box
                annotations.append(
                    {
                        "id": len(annotations) + 1,  # pycocotools takes 0 for no annotation
                        "image_id": t,
                        "category_id": o,
                        "segmentation": {"size": [height, width], "counts": run_lengths(mask)},
                        "area": int(mask.sum()),
                        "bbox": [
                            int(edge)
                            for edge in (
                                columns.start,
                                rows.start,
                                columns.stop - columns.start,
                                rows.stop - rows.start,
                            )
                        ],
                        "iscrowd": 0,
                    }
                )
    content = {
        "info": {"description": f"masks of {project.video.path.name}, one category an object"},
        "images": images,
        "annotations": annotations,
        "categories": [{"id": each.id, "name": each.name} for each in project.objects.values()],
    }
    results.write(file, json.dumps(content).encode())


def run_lengths(mask: NDArray[np.bool_]) -> str:
    """A mask ``[H, W]`` as COCO's compressed run lengths.

    Runs of 0 and 1 by turns, down the columns, beginning with 0. From the fourth on the difference to the run of the
    same kind before is written, in groups of five bits, lowest first, each as a character from ``"0"`` on; a sixth
    bit says that a group follows.
    """
    flat = np.concatenate([[False], mask.ravel(order="F"), [not mask[-1, -1]]])
    changes = np.flatnonzero(flat[1:] != flat[:-1])
    runs = np.diff(changes, prepend=0).tolist()
    text = []
    for i, run in enumerate(runs):
        value = run - runs[i - 2] if i > 2 else run
        while True:
            group, value = value & 31, value >> 5
            more = value != (-1 if group & 16 else 0)
            text.append(chr(48 + group + 32 * more))
            if not more:
                break
    return "".join(text)


def _numpy(project: Project, results: ResultsFolder, file: str) -> None:
    count, objects = len(project.video), list(project.objects.values())
    with (
        results.writing(file) as place,
        zipfile.ZipFile(place, "w", zipfile.ZIP_DEFLATED, compresslevel=3) as archive,
    ):
        with archive.open("ids.npy", "w", force_zip64=True) as entry:  # frame by frame, where np.savez wants all
            shape = (count, *project.video.size)
            header = {"descr": "|u1", "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(entry, header)
            for t in _progress(project, file):
                entry.write(project.result(t).numpy().tobytes())
        small = {
            "times": np.array([float(time) for time in project.video.times]),  # [T]
            "confidence": project.confidence(),  # [T, O]
            "objects": np.array([each.id for each in objects], dtype=np.uint8),  # [O]
            "names": np.array([each.name for each in objects]),  # [O]
        }
        for name, array in small.items():
            with archive.open(f"{name}.npy", "w") as entry:
                np.lib.format.write_array(entry, array, allow_pickle=False)


_overlaid = _video(overlay)
_cut_out = _video(lambda frame, ids, colours: _with_alpha(frame, ids), transparent=True)

FORMATS: dict[str, Format] = {
    "masks": Format("masks", _masks, "palette PNGs as DAVIS has them, masks/00000.png"),
    "overlay": Format("overlay.mp4", _overlaid, "the objects over the video, H.264"),
    "webm": Format("overlay.webm", _overlaid, "the same for browsers, VP9"),
    "webp": Format("overlay.webp", _overlaid, f"the same as a small animation of at most {PREVIEW} pixels"),
    "cutouts": Format("cutouts", _cutouts, "PNGs that are transparent around the objects, cutouts/00000.png"),
    "transparent": Format("cutout.webm", _cut_out, "the same as a video with alpha, VP9"),
    "coco": Format("coco.json", _coco, "run lengths as COCO has them"),
    "numpy": Format("masks.npz", _numpy, "ids [T, H, W], times, confidence"),
}
"""The exports, by name."""
