"""``python -m vos_tutorial track VIDEO --mask MASK.png --out DIR``: follow objects through a video, without a
notebook."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from .. import models
from ..baselines import BASELINES, by_name
from ..clip import object_ids
from ..errors import TutorialError
from ..files import require_folder_place
from ..models.weights import read_about
from ..pictures import VOID, read_mask
from ..profile import current, require_device
from ..propagation import Segmenter
from ..resize import resize_objects
from .exporting import FORMATS, export
from .project import LAST_ID, Project
from .reading import Video

PHOTOS = "photos"  # the variant of a method whose network knows real video


def main(argv: Sequence[str] | None = None) -> int:
    """``python -m vos_tutorial track``; returns the exit status.

    Raises:
        TutorialError: on a video, mask, project, method or format that cannot be; see :mod:`vos_tutorial.video`.
    """
    options = _arguments(argv)
    for name in options.export:
        if name not in FORMATS:
            raise TutorialError(f"there is no export {name!r}; choose from {', '.join(FORMATS)}.")
    segmenter = _segmenter(options)
    folder, out = _places(options)
    project = Project.open(folder, _video(options))
    try:
        for t, path in options.mask:
            give_mask(project, t, path)
        _require_something_to_follow(project, out)
        total = project.pending()
        if total and (steps := _tuning(options)):
            print(f"{options.method} is tuned to each object first, for {steps} steps; until then no frame is ready")
        with tqdm(total=total, desc="follow", unit=" frames", disable=None) as bar:
            project.propagate(segmenter, on_frame=lambda *_: bar.update())
        print(f"{total} of {len(project.video)} frames computed; the masks are in {folder}")
        if (doubt := project.most_uncertain()) is not None:
            t, o, confidence = doubt
            print(f"least sure: {project.objects[o].name} in frame {t}, {confidence:.2f}")
        for path in export(project, out, options.export):
            print(f"written: {path}")
        print(f"to correct frame N: python -m vos_tutorial track --project {folder} --mask N=MASK.png")
    finally:
        project.close()
    return 0


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m vos_tutorial track",
        description="Follow the objects of a mask through a video. What was computed is kept in a project folder; "
        "the same command again, or --project alone, goes on from there.",
    )
    parser.add_argument("video", nargs="?", help="a video file, or a folder of pictures")
    parser.add_argument(
        "--mask",
        action="append",
        default=[],
        type=_numbered,
        metavar="[N=]MASK.png",
        help="ids 1, 2, ... on 0 in frame N (default: 0), or white on black; again for later objects and corrections",
    )
    parser.add_argument("--out", type=_path, help="folder for the exports (default: PROJECT/exports)")
    parser.add_argument(
        "--project", type=_path, metavar="DIR", help="the project to go on with (default: OUT/project)"
    )
    known = ", ".join([*models.METHODS, *BASELINES])
    parser.add_argument("--method", default="stm", help=f"{known} (default: stm)")
    parser.add_argument(
        "--variant", help="another network that ships (default: photos, the network for real video, if there is one)"
    )
    parser.add_argument("--weights", type=_path, help="a file of trained weights instead")
    parser.add_argument("--device", help="cpu or cuda (default: by the profile)")
    parser.add_argument(
        "--export", nargs="+", default=["masks", "overlay"], metavar="FORMAT", help=f"{', '.join(FORMATS)}"
    )
    parser.add_argument("--max-side", type=int, help="shrink frames to so many pixels on the longer side")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="keep each Nth frame")
    parser.add_argument("--start", type=float, metavar="SECONDS", help="leave out what comes before")
    parser.add_argument("--end", type=float, metavar="SECONDS", help="leave out what comes from there on")
    return parser.parse_args(argv)


def _path(text: str) -> Path:
    if not text.strip():
        raise argparse.ArgumentTypeError("the path is empty")
    return Path(text)


def _numbered(text: str) -> tuple[int, Path]:
    """``120=fixed.png`` -> frame and path; without a number it is frame 0."""
    number, path = re.fullmatch(r"(?:([0-9]+)=)?(.*)", text, re.DOTALL).groups()  # type: ignore[union-attr]
    return int(number or 0), _path(path)


def _places(options: argparse.Namespace) -> tuple[Path, Path]:
    """Where the project lies, and where exports go."""
    if options.out is None and options.project is None:
        raise TutorialError("there is no place for the result; add --out DIR, or --project DIR to go on.")
    folder = options.project or options.out / "project"
    out = options.out or folder / "exports"
    return require_folder_place(folder, "--project"), require_folder_place(out, "--out")


def _video(options: argparse.Namespace) -> Video | str | None:
    """The video as the options say; without any of them a project opens it as it was."""
    reading = {name: getattr(options, name) for name in ("max_side", "every", "start", "end")}
    if options.video is not None:
        return Video(options.video, **reading)
    if reading != {"max_side": None, "every": 1, "start": None, "end": None}:
        raise TutorialError(
            "--max-side, --every, --start and --end were settled when the project began; leave them out."
        )
    return None


def _variant(options: argparse.Namespace) -> str | None:
    """The one that was named; else the network for real video, where a method has one."""
    if options.variant is None and options.weights is None:
        return PHOTOS if models.shipped_weights(options.method, PHOTOS).exists() else None
    variant: str | None = options.variant
    return variant


def _tuning(options: argparse.Namespace) -> int:
    """For how many steps the network is tuned to the objects, as its file says; a baseline has none."""
    if options.method in BASELINES:
        return 0
    file = models.weights_file(options.method, options.weights or "shipped", _variant(options) or "")
    return read_about(file).tuning


def _segmenter(options: argparse.Namespace) -> Segmenter:
    device = current().device if options.device is None else require_device(options.device)
    return by_name(options.method, options.weights, _variant(options), device)


# ------------------------------------------------------------------------------------------------------- masks


def give_mask(project: Project, t: int, path: Path) -> None:
    """Give the objects of a mask file in a frame; new ids are new objects.

    Raises:
        TutorialError: if it is no mask, holds no object or more than 254, or has another size than the frames.
    """
    ids = _ids(path)
    video = project.video
    if tuple(ids.shape) == video.full_size != video.size:  # painted on the video's own frame
        ids = resize_objects(ids, *video.size)
    if tuple(ids.shape) != video.size:
        (height, width), (lines, columns) = video.size, ids.shape
        raise TutorialError(
            f"mask {path} is {columns}x{lines} but the frames of {video.path} are {width}x{height}; paint it on "
            "a frame as a player shows it, or resize it with nearest-neighbour interpolation."
        )
    for o in object_ids(ids):
        if o not in project.objects:
            project.add_object(object_id=o)
        project.save_mask(t, o, ids == o)


def _ids(path: Path) -> Tensor:
    """A mask file as ids ``uint8 [H, W]``; white alone on black is object 1."""
    ids = read_mask(path)
    objects = object_ids(ids)
    if not objects and bool((ids == VOID).any()):
        return (ids == VOID).byte()
    if not objects:
        raise TutorialError(
            f"mask {path} holds no object: all of it is 0; paint objects with ids 1, 2, ..., or white."
        )
    if len(objects) == LAST_ID and bool((ids == VOID).any()):
        raise TutorialError(
            f"mask {path} holds 255 ids, but a mask has room for {LAST_ID} objects: 255 says that nobody knows; "
            "leave an object out."
        )
    return ids


def _require_something_to_follow(project: Project, out: Path) -> None:
    video = project.video
    if len(video) < 2:
        raise TutorialError(f"{video.path} has one frame, so there is nowhere to follow anything to; give a video.")
    if not project.has_masks():
        picture = out / "frame_00000.png"
        out.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.ascontiguousarray(video.frame(0).permute(1, 2, 0).numpy())).save(picture)
        raise TutorialError(
            f"nothing says what to follow; paint the objects over a copy of {picture}, white on black or one id "
            "each, and give it with --mask, or paint in notebook 09."
        )
