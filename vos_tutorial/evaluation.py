"""Run a method over a data set: scores, tables, and masks on disk as the official toolkit wants them.

Clips stream through: one is read, followed and scored before the next is read, so a data set need not fit in memory.

    report = evaluate(segmenter, clips, "davis2017")
    print(report.table())

    python -m vos_tutorial evaluate masktrack --data DIR --year 2016 --out DIR
    python -m vos_tutorial evaluate stm --variant photos --data DIR --layout youtube-vos --split valid --out DIR
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from .baselines import BASELINES, by_name
from .clip import Clip, object_ids
from .data.davis import DavisFolder, VideoFolder, YouTubeVosFolder, appearances
from .data.worlds import sprites
from .errors import TutorialError
from .files import plain_names, write_atomically
from .metrics import (
    ObjectScore,
    ProtocolName,
    Statistics,
    Summary,
    average,
    merge_objects,
    region_similarity,
    score_objects,
    scored_frames,
)
from .pictures import size_of
from .profile import current, require_device
from .propagation import Segmenter, propagate
from .resize import resize_mask
from .results import ResultsFolder

# ------------------------------------------------------------------------------------------------ scores


class Segmentation(NamedTuple):
    """What a method made of a clip."""

    ids: Tensor
    """``uint8 [T, H, W]`` on the CPU; frame 0 is the given mask."""
    seconds_per_frame: float
    """Wall time of :func:`propagate` over T, so with whatever the method does in ``begin``."""


@dataclass(frozen=True)
class Row:
    """One object of one clip in a report."""

    sequence: str
    attributes: tuple[str, ...]
    score: ObjectScore
    seconds_per_frame: float


@dataclass(frozen=True)
class Report:
    """The scores of one method on a set of clips.

    Attributes:
        method: what tables call it.
        protocol: see :func:`vos_tutorial.metrics.score_objects`.
        rows: one per object, in the order of the clips.
        pending: clips that are still to be followed, in a report that is written while the work goes on.
    """

    method: str
    protocol: ProtocolName
    rows: tuple[Row, ...]
    pending: tuple[str, ...] = ()

    def average(self) -> Summary:
        """Over all objects of all clips, as the official toolkit averages.

        Raises:
            TutorialError: if no object was scored.
        """
        return average([row.score.summary for row in self.rows])

    def by_attribute(self) -> dict[str, Summary]:
        """The average over the objects of the clips that have the attribute, attributes sorted."""
        names = sorted({name for row in self.rows for name in row.attributes})
        return {name: average([r.score.summary for r in self._with(name)]) for name in names}

    def _with(self, attribute: str) -> list[Row]:
        return [row for row in self.rows if attribute in row.attributes]

    def table(self, timing: bool = False) -> str:
        """The rows, the average, and the averages by attribute as aligned text; scores in percent.

        Args:
            timing: add milliseconds per frame. Without it, the same scores give the same text on every machine.
        """
        head = ["sequence", "object", "J mean", "recall", "decay", "F mean", "recall", "decay", "J&F"]
        objects = [[r.sequence, str(r.score.object), *_percent(r.score.summary)] for r in self.rows]
        everything = [["average", "", *_percent(self.average())]]
        if timing:
            times = [1000 * row.seconds_per_frame for row in self.rows]
            head.append("ms/frame")
            for line, time_ in zip([*objects, *everything], [*times, float(np.mean(times))], strict=True):
                line.append(f"{time_:.1f}")
        blocks = [[head], objects, everything]
        if attributes := self.by_attribute():
            blocks.append(
                [["attribute", "objects"]]
                + [[name, str(len(self._with(name))), *_percent(summary)] for name, summary in attributes.items()]
            )
        clips = len({row.sequence for row in self.rows})
        title = f"{self.method}, {self.protocol}: {len(self.rows)} object(s) in {clips} clip(s), percent"
        return "\n".join([title, *_aligned(blocks)])

    def to_json(self) -> str:
        """Everything, as JSON: averages, statistics, and J and F of every frame (null where there is no truth)."""
        content = {
            "method": self.method,
            "protocol": self.protocol,
            **({"pending": list(self.pending)} if self.pending else {}),
            "average": _summary(self.average()),
            "by_attribute": {name: _summary(summary) for name, summary in self.by_attribute().items()},
            "objects": [
                {
                    "sequence": row.sequence,
                    "object": row.score.object,
                    "attributes": list(row.attributes),
                    "seconds_per_frame": round(row.seconds_per_frame, 6),
                    "scored_frames": row.score.frames.tolist(),
                    **_summary(row.score.summary),
                    "J_per_frame": [_number(v) for v in row.score.J],
                    "F_per_frame": [_number(v) for v in row.score.F],
                }
                for row in self.rows
            ],
        }
        return json.dumps(content, indent=1, allow_nan=False) + "\n"

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write :meth:`to_json` to a file, whole or not at all.

        Raises:
            TutorialError: if it cannot be written.
        """
        write_atomically(Path(path), self.to_json().encode())


def _aligned(blocks: list[list[list[str]]]) -> list[str]:
    """Blocks of lines of cells -> lines of text, columns aligned over all blocks, a rule between blocks."""
    columns = zip_longest(*(line for block in blocks for line in block), fillvalue="")
    widths = [max(map(len, column)) for column in columns]
    rule = "-" * (sum(widths) + 2 * (len(widths) - 1))
    text = []
    for block in blocks:
        text.append(rule)
        for first, *rest in block:
            cells = [first.ljust(widths[0]), *(c.rjust(w) for c, w in zip(rest, widths[1:], strict=False))]
            text.append("  ".join(cells).rstrip())
    return text[1:]


def _percent(summary: Summary) -> list[str]:
    return [f"{100 * v:.1f}" for v in (*summary.J, *summary.F, summary.J_and_F)]


def _number(value: float) -> float | None:
    return None if math.isnan(value) else round(float(value), 6)


def _summary(summary: Summary) -> dict[str, Any]:
    def named(statistics: Statistics) -> dict[str, float | None]:
        return {key: _number(value) for key, value in statistics._asdict().items()}

    return {"J&F": _number(summary.J_and_F), "J": named(summary.J), "F": named(summary.F)}


def segment(
    segmenter: Segmenter, clip: Clip, protocol: ProtocolName = "davis2017", device: torch.device | str = "cpu"
) -> Segmentation:
    """Give a method what the protocol allows, and let it follow the objects through the clip.

    ``"davis2016"``: the mask of frame 0, all objects merged to one. ``"davis2017"``: the mask of frame 0.
    ``"youtube-vos"``: that, and each later object's mask in the frame that first shows it.

    Args:
        segmenter: any method; it forgets the clip before.
        clip: with the truth, of which the method sees no more than said above.
        protocol: one of :data:`vos_tutorial.metrics.PROTOCOLS`.
        device: where the frames are put, and so where the method works.

    Raises:
        TutorialError: naming the clip, if no object is given.
    """
    mask = clip.first_mask
    if protocol == "davis2016":
        mask = torch.from_numpy(merge_objects(mask.numpy()))
    later = appearances(clip) if protocol == "youtube-vos" else {}
    frames, mask = clip.frames.to(device), mask.to(device)
    start = time.perf_counter()
    try:
        ids = propagate(segmenter, frames, mask, later={t: m.to(device) for t, m in later.items()}).cpu()
    except TutorialError as error:
        raise TutorialError(f"clip {clip.name!r}: {error}") from None
    return Segmentation(ids, (time.perf_counter() - start) / len(clip))


def score(clip: Clip, prediction: Segmentation, protocol: ProtocolName = "davis2017") -> list[Row]:
    """The rows of one clip.

    Raises:
        TutorialError: naming the clip, if it cannot be scored by this protocol.
    """
    check_scorable(clip, protocol)
    try:
        scores = score_objects(clip.masks, prediction.ids, protocol, clip.annotated)
    except TutorialError as error:
        raise TutorialError(f"clip {clip.name!r}: {error}") from None
    return [Row(clip.name, clip.attributes, one, prediction.seconds_per_frame) for one in scores]


def check_scorable(clip: Clip, protocol: ProtocolName) -> None:
    """See that the clip has truth for the frames that the protocol counts; cheap, so done before the method runs.

    Raises:
        TutorialError: naming the clip, if it is too short or not annotated where it should be.
    """
    if not clip.complete:
        raise TutorialError(
            f"clip {clip.name!r} has masks of new objects only, where they first appear, which are not ground truth "
            "to score against; export the masks and have them scored by the data set's server."
        )
    _require_truth(clip.name, len(clip), clip.annotated, protocol)


def _require_truth(name: str, length: int, annotated: Sequence[int], protocol: ProtocolName) -> None:
    frames = scored_frames(length, protocol, annotated)
    if not len(frames):
        raise TutorialError(
            f"clip {name!r} has {length} frames, {len(annotated)} of them annotated, and {protocol} "
            "counts none of these; score clips of at least three frames."
        )
    if missing := sorted(set(frames.tolist()) - set(annotated)):
        raise TutorialError(
            f"clip {name!r} has no mask for frame {missing[0]} ({len(missing)} missing); {protocol} needs "
            "all; use the protocol youtube-vos, or export the masks and have them scored by the data set's server."
        )


def evaluate(
    segmenter: Segmenter,
    clips: Iterable[Clip],
    protocol: ProtocolName = "davis2017",
    method: str = "",
    device: torch.device | str = "cpu",
) -> Report:
    """Run a method over clips and score it.

    Args:
        segmenter: any method.
        clips: read one at a time.
        protocol: ``"davis2016"``, ``"davis2017"`` or ``"youtube-vos"`` (not official), see
            :func:`vos_tutorial.metrics.score_objects`.
        method: its name in tables; the class's name when empty.
        device: where the method works; its network must be there.

    Raises:
        TutorialError: naming the clip that cannot be followed or scored, or if there is no clip.
    """
    rows: list[Row] = []
    for clip in clips:
        check_scorable(clip, protocol)
        rows += score(clip, segment(segmenter, clip, protocol, device), protocol)
    if not rows:
        raise TutorialError("there is no clip to evaluate; check the list of names.")
    return Report(method or type(segmenter).__name__, protocol, tuple(rows))


def mask_swap_iou(make_segmenter: Callable[[], Segmenter], clip: Clip) -> float:
    """Does the method listen to the mask it is given? Ask for one object, then for another, and compare.

    A network can learn to ignore the given mask and segment whatever is salient; on clips with one moving object
    that even scores well. Two objects in one clip unmask it: the answers should then be different objects. About 0
    is right (distinct objects hardly overlap), about 1 means that the mask was not read.

    Args:
        make_segmenter: called twice, so that nothing is carried over.
        clip: its first mask holds at least two objects; the first two are used.

    Returns:
        The mean IoU of the two answers over frames 1..T-1; frames where both are empty say nothing and are left
        out, NaN if all are.

    Raises:
        TutorialError: if there are fewer than two objects, or only one frame.
    """
    objects = object_ids(clip.first_mask)[:2]
    if len(objects) < 2 or len(clip) < 2:
        raise TutorialError(
            f"clip {clip.name!r} has {len(clip)} frames and objects {objects} in the first; swapping masks takes two "
            "frames and two objects."
        )
    a, b = (
        propagate(make_segmenter(), clip.frames, torch.where(clip.first_mask == i, clip.first_mask, 0))[1:].cpu() != 0
        for i in objects
    )
    telling = (a | b).flatten(1).any(dim=1)
    return float(region_similarity(a[telling], b[telling]).mean()) if telling.any() else math.nan


MASK_SWAP_LIMIT = 0.2


def require_mask_read(make_segmenter: Callable[[], Segmenter], clips: Sequence[Clip] | None = None) -> float:
    """The test to pass before a score is believed: :func:`mask_swap_iou` below :data:`MASK_SWAP_LIMIT`.

    Args:
        make_segmenter: as there.
        clips: with several objects each; by default two generated ones.

    Returns:
        the mean over the clips.

    Raises:
        TutorialError: if the method does not read the mask it is given, or answers nothing at all.
    """
    tested = clips if clips is not None else list(sprites.benchmark(2, ["multiple_objects"]))
    values = [mask_swap_iou(make_segmenter, clip) for clip in tested]
    telling = [value for value in values if not math.isnan(value)]
    if not telling:
        raise TutorialError("the method answers with empty masks only, so a score would mean nothing; train it.")
    value = sum(telling) / len(telling)
    if value >= MASK_SWAP_LIMIT:
        raise TutorialError(
            f"asked for two different objects of a clip, the method answers nearly the same (IoU {value:.2f}, "
            f"allowed {MASK_SWAP_LIMIT}): it does not read its mask, and a score would be misleading; train it "
            "longer, or differently."
        )
    return value


# ------------------------------------------------------------------------------------------- masks on disk


def export(ids: Tensor, folder: str | os.PathLike[str], names: Sequence[str] | None = None) -> None:
    """Write the masks of one clip the way DAVIS's toolkits read results: ``folder/00000.png``, ...

    Palette PNGs with ids 0, 1, 2, ...; one object is id 1, for DAVIS-2016 too: its toolkit counts every pixel that
    is not black, while 255 would be an error to that of 2017. The masks are moved into the folder when all are
    written. Those of an earlier run in it are replaced; a mark in the folder above says which these are.

    Args:
        ids: ``uint8 [T, H, W]``.
        folder: ``RESULTS/<sequence>``.
        names: of the frames, without ending; ``00000``, ``00001``, ... by default.

    Raises:
        TutorialError: if the folder holds anything that was not written by this function, lies in a data set, a name
            is missing, or the disk is full.
    """
    folder = Path(folder)
    names = [f"{t:05d}" for t in range(len(ids))] if names is None else names
    if len(names) != len(ids):
        raise TutorialError(f"there are {len(ids)} masks but {len(names)} names for {folder}; give one for each.")
    results = ResultsFolder(folder.parent, option="the folder")
    results.write_masks({f"{folder.name}/{name}.png": mask for name, mask in zip(names, ids, strict=True)})


def masks_to_submit(folder: VideoFolder, name: str, ids: Tensor) -> dict[str, Tensor]:
    """The masks that the data set's scoring asks for, each at the size of the annotation.

    Args:
        folder: the data set.
        name: of the clip.
        ids: ``uint8 [T, H, W]`` at the size of the frames, which may be a pixel off.

    Returns:
        ``{"<name>/00000.png": uint8 [H, W], ...}``.
    """
    given = folder.files(name).masks
    usual = size_of(next(mask for mask in given if mask is not None))
    masks = {}
    for t, path in zip(folder.asked_for(name), folder.results_of(name), strict=True):
        mask = given[t]
        size = usual if mask is None else size_of(mask)
        masks[path.as_posix()] = ids[t] if ids[t].shape == size else resize_mask(ids[t], *size)
    return masks


def check_sequences(folder: VideoFolder, names: Sequence[str], protocol: ProtocolName) -> dict[str, bool]:
    """Look through all sequences before the first is followed: are the files there, and is an object given?

    Opens no more of a sequence than the masks that are given.

    Returns:
        for each name whether there is truth to score by.

    Raises:
        TutorialError: naming the first sequence that cannot be followed or scored, and how many there are.
    """
    scorable: dict[str, bool] = {}
    wrong: list[str] = []
    for name in names:
        try:
            scorable[name] = _check_sequence(folder, name, protocol)
        except TutorialError as error:
            wrong.append(str(error))
    if len(wrong) > 1:
        raise TutorialError(
            f"{len(wrong)} of {len(names)} sequences cannot be followed, the first for this: {wrong[0]}"
        )
    if wrong:
        raise TutorialError(wrong[0])
    return scorable


def _check_sequence(folder: VideoFolder, name: str, protocol: ProtocolName) -> bool:
    masks = folder.files(name).masks
    annotated = [t for t, mask in enumerate(masks) if mask is not None]
    given = annotated if protocol == "youtube-vos" else [0]
    if not any(mask is not None and object_ids(mask) for _, mask in folder.frames(name, given)):
        raise TutorialError(
            f"{name}: the mask that is given, {masks[given[0]]}, holds no object; put the right mask there, or leave "
            "the sequence out with --sequences."
        )
    scorable = len(annotated) > 1 and folder.is_complete(name)  # test lists give the first mask only
    if scorable:
        _require_truth(name, len(masks), annotated, protocol)
    return scorable


# ------------------------------------------------------------------------------------------- command line


REPORT = "report.json"
TUNED = ("masktrack", "stcnn")  # methods that can be tuned to frame 0


def main(argv: list[str] | None = None) -> int:
    """``python -m vos_tutorial evaluate METHOD --data DIR --out DIR``; returns the exit status.

    Raises:
        TutorialError: on an unknown method, year, folder or sequence, and as in :func:`evaluate`.
    """
    options = _arguments(argv)
    folder, protocol = _data_set(options)
    names = _sequences(options, folder)
    results = ResultsFolder(options.out, data=[Path(options.data)])
    device = _device(options.device)
    segmenter = by_name(options.method, options.weights, options.variant, device, **settings_of(options))
    scorable = check_sequences(folder, names, protocol)
    above = "Annotations/" if options.layout == "youtube-vos" else ""  # the folder that its server wants zipped
    planned = [above + path.as_posix() for name in names for path in folder.results_of(name)]
    results.check([*planned, REPORT])
    if options.method not in BASELINES and not options.anyway:
        clips = sprites.benchmark(2, ["multiple_objects"])
        moved = [Clip(c.frames.to(device), c.masks, c.name, c.attributes) for c in clips]
        swap = require_mask_read(lambda: segmenter, moved)  # begin() forgets the clip before
        print(f"mask swap: IoU {swap:.3f} of the answers for two different objects, so the mask is read\n")

    called = f"{options.method}:{options.variant}" if options.variant else options.method
    rows: list[Row] = []
    done: list[str] = []
    results.begin()
    try:
        for name in names:
            clip = folder[name]
            answer = segment(segmenter, clip, protocol, device)
            new = score(clip, answer, protocol) if scorable[name] else []
            masks = masks_to_submit(folder, name, answer.ids)
            results.write_masks({above + path: mask for path, mask in masks.items()})
            rows, done = [*rows, *new], [*done, name]
            if rows:  # what is followed is on the disk, whatever happens to the next one
                report = Report(called, protocol, tuple(rows), pending=tuple(names[len(done) :]))
                results.write(REPORT, report.to_json().encode())
            said = "  ".join(f"{row.score.object}: J&F {100 * row.score.summary.J_and_F:.1f}" for row in new)
            print(
                f"{name}  {said or 'no ground truth to score'}  ({answer.seconds_per_frame:.3f} s a frame)",
                flush=True,
            )
        # what an earlier run left of other sequences would stand beside a report without them
        results.remove_earlier([*planned, *([REPORT] if rows else [])])
    except KeyboardInterrupt:
        print(f"stopped; {len(done)} of {len(names)} sequences are in {options.out}", file=sys.stderr)
        return 130
    finally:
        results.end()
    print()
    if rows:
        print(report.table(timing=True))
    print(f"masks: {results.root / above}")
    return 0


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m vos_tutorial evaluate",
        description="Run a method over a data set, write its masks and report.json to --out, print the table.",
    )
    parser.add_argument("method", help=f"masktrack, ..., or a baseline: {', '.join(BASELINES)}")
    parser.add_argument("--data", required=True, help="the data set: JPEGImages, Annotations, ... lie in it")
    parser.add_argument("--layout", choices=["davis", "youtube-vos"], default="davis", help="(default: davis)")
    parser.add_argument(
        "--year", type=int, default=2016, help="of DAVIS; 2016: one object, 2017: several (default: 2016)"
    )
    parser.add_argument("--split", help="a list in ImageSets, or YouTube-VOS's folder (default: val, valid)")
    parser.add_argument("--out", required=True, help="gets <sequence>/00000.png, ... and report.json")
    parser.add_argument("--sequences", help="only these, with commas between")
    parser.add_argument(
        "--variant",
        help="another network that ships: photos is for real video (default: for generated clips)",
    )
    parser.add_argument("--weights", help="a file of trained weights (default: those that ship)")
    parser.add_argument(
        "--short-side", type=int, help="work at this many pixels (default: as the weights' file says)"
    )
    parser.add_argument(
        "--tuning", type=int, help="steps of tuning to frame 0 (default: what the weights' file says)"
    )
    parser.add_argument("--device", help="cpu or cuda (default: by the profile)")
    parser.add_argument("--anyway", action="store_true", help="score a method that does not read its mask as well")
    return parser.parse_args(argv)


def _sequences(options: argparse.Namespace, folder: VideoFolder) -> list[str]:
    """The requested names; a misspelt one is reported now, not after an hour."""
    if options.sequences is None:
        return list(folder.names)
    names = plain_names(options.sequences.split(","), "--sequences")
    if not names:
        raise TutorialError("--sequences names no sequence; leave it out to take all, or name some.")
    for name in names:
        folder.index_of(name)
    return names


def _data_set(options: argparse.Namespace) -> tuple[VideoFolder, ProtocolName]:
    """The folder to read, and the protocol that its data set is scored by."""
    if not options.data.strip():
        raise TutorialError("--data is empty; name the folder of the data set.")
    youtube = options.layout == "youtube-vos"
    split = options.split if options.split is not None else "valid" if youtube else "val"
    if youtube:
        return YouTubeVosFolder(options.data, split), "youtube-vos"
    folder = DavisFolder(options.data, year=options.year, split=split)
    return folder, "davis2016" if options.year == 2016 else "davis2017"


def _device(name: str | None) -> torch.device:
    return current().device if name is None else require_device(name)


def settings_of(options: argparse.Namespace) -> dict[str, Any]:
    """What ``--short-side`` and ``--tuning`` say; the rest is as the weights' file says (``models.segmenter``).

    Raises:
        TutorialError: if the method cannot be tuned.
    """
    settings: dict[str, Any] = {} if options.short_side is None else {"short_side": options.short_side}
    if options.tuning is None:
        return settings
    if options.tuning and options.method not in TUNED:
        raise TutorialError(f"{options.method} has no tuning to frame 0; leave --tuning out.")
    return {**settings, "online_steps": options.tuning} if options.method in TUNED else settings
