"""A project: a folder that holds, for one video, the objects, the masks that were given and the results.

```
project.json               the video, the objects, which masks came first
given/003/00012.png        object 3 in frame 12, as somebody painted it; black and white
results/003/00012.png      object 3 in frame 12, as a method found it; grey: how probable it is, within the mask only
```

Each object has its masks to itself: what is computed again for one leaves the files of the others as they are. A file
appears whole or not at all, and says itself where it comes from, so that nothing is lost when the kernel is.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import re
import secrets
import threading
import warnings
import weakref
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, PngImagePlugin, UnidentifiedImageError
from torch import Tensor

from ..clip import davis_palette
from ..door import MaskLike, as_mask, require_same_size
from ..errors import TutorialError
from ..files import cannot_write, harmless, is_alive, machine, read_text, require_folder_place, write_atomically
from ..propagation import Segmenter
from .following import Span, spans_of, sweep, together
from .reading import Video

FILE = "project.json"
LOCK = ".lock"
LAST_ID = 254
PNG_END = b"IEND\xaeB`\x82"
COLOURS = ("#e69f00", "#56b4e9", "#009e73", "#cc79a7", "#f0e442", "#d55e00", "#0072b2")
"""Of the first objects: those of Okabe and Ito (2008), which colour-blind readers tell apart; then DAVIS's."""
UNKNOWN, ABSENT, PRESENT, FIRST, CORRECTION = range(5)


@dataclass(frozen=True)
class Object:
    """Something to follow: its id 1..254, a name, and a colour ``#rrggbb``."""

    id: int
    name: str
    colour: str


@dataclass(frozen=True)
class _Given:
    """What the file of a given mask says of itself."""

    digest: str
    empty: bool


@dataclass(frozen=True)
class _Found:
    """What the file of a result says of itself."""

    confidence: float
    empty: bool
    source: str  # the given mask that it was carried on from


class Project:
    """See :meth:`open`; the module says what the folder holds. All methods may be called from several threads.

    Attributes:
        folder: where it lies.
        video: what it is about.
        objects: id -> :class:`Object`, ascending.
    """

    def __init__(self, folder: Path, video: Video) -> None:
        self.folder, self.video = folder, video
        self.objects: dict[int, Object] = {}
        self._first: dict[int, int] = {}  # object -> the frame of its first mask
        self._given: dict[int, dict[int, _Given]] = {}  # object -> frame
        self._found: dict[int, dict[int, _Found]] = {}  # object -> frame
        self._lock = threading.RLock()
        self._token = ""
        self._revision = 0  # of what is given
        self._paused: tuple[Any, Iterator[Any]] | None = None

    # -------------------------------------------------------------------------------------------- opening, closing

    @classmethod
    def open(cls, folder: str | os.PathLike[str], video: Video | str | os.PathLike[str] | None = None) -> Project:
        """Open a project, or begin one.

        One process has a project at a time. Opened again in the same process, as when a notebook's cell is run again,
        the new one takes over.

        Args:
            folder: of the project; made if missing.
            video: what it is about; without it a project opens the video that it was begun with.

        Raises:
            TutorialError: if another process has it open, it is about another video, its video is not there, its file
                is damaged, or the folder holds something else.
        """
        place = require_folder_place(folder, "the project")
        about = _read_about(place)
        if about is None:
            if video is None:
                raise TutorialError(f"{place} is no project yet; begin one with Project.open(folder, video).")
            if place.exists() and any(not harmless(each.name) for each in place.iterdir()):
                raise TutorialError(f"{place} holds files, but no {FILE}; choose another folder for the project.")
            project = cls(place, video if isinstance(video, Video) else Video(video))
            len(project.video)  # a video that is broken in its middle says so before anything is written
            project._acquire()
            project._save()
            return project
        project = cls(place, _same_video(place, about["video"], video))
        project._acquire()
        project.objects = {each["id"]: Object(**each) for each in about["objects"]}
        project._first = {int(o): t for o, t in about["first"].items()}
        project._read_folder()
        if about["video"]["path"] != str(project.video.path.absolute()):
            project._save()  # it has moved
        return project

    def _acquire(self) -> None:
        key = str(self.folder.resolve())
        if (earlier := _OPEN.get(key)) is not None:
            earlier._token = ""  # it may no longer write
        lock = self.folder / LOCK
        with contextlib.suppress(OSError, ValueError, KeyError):
            held = json.loads(lock.read_text("utf-8"))
            mine = held["machine"] == machine() and held["process"] == os.getpid()
            if not mine and (held["machine"] != machine() or is_alive(held["process"])):
                raise TutorialError(
                    f"the project {self.folder} is open elsewhere (process {held['process']}); close it there, as by "
                    f"shutting down its notebook, or remove {lock} if nothing runs any more."
                )
        self._token = secrets.token_hex(8)
        content = {"machine": machine(), "process": os.getpid(), "token": self._token}
        write_atomically(lock, json.dumps(content).encode())
        _OPEN[key] = self
        weakref.finalize(self, _release, lock, self._token)

    def close(self) -> None:
        """Let others open the project; everything is on the disk already."""
        with self._lock:
            _release(self.folder / LOCK, self._token)
            self._token, self._paused = "", None
            self.video.close()

    def _require_open(self) -> None:
        if not self._token:
            raise TutorialError(
                f"the project {self.folder} was closed, or opened again elsewhere in this notebook; go on with "
                "that, or open it again."
            )

    def _save(self) -> None:
        video = self.video
        content = {
            "version": 1,
            "video": {
                "path": str(video.path.absolute()),
                "beside": os.path.relpath(video.path.absolute(), self.folder.absolute()),
                "fingerprint": video.fingerprint(),
                "options": video.options(),
                "frames": len(video),
                "size": list(video.size),
            },
            "objects": [asdict(each) for each in self.objects.values()],
            "first": {str(o): t for o, t in self._first.items()},
        }
        write_atomically(self.folder / FILE, (json.dumps(content, indent=1) + "\n").encode())

    def _read_folder(self) -> None:
        for o in self.objects:
            for t, said in self._headers("given", o):
                self._given.setdefault(o, {})[t] = _Given(said["mask"], said["empty"] == "yes")
            for t, said in self._headers("results", o):
                found = _Found(float(said["confidence"]), said["empty"] == "yes", said["source"])
                self._found.setdefault(o, {})[t] = found

    def _headers(self, kind: str, o: int) -> Iterator[tuple[int, dict[str, str]]]:
        """What the files of an object say of themselves, by frame; a damaged result is as if it were not there."""
        folder = self.folder / kind / f"{o:03d}"
        for path in sorted(folder.glob("*.png")) if folder.is_dir() else ():
            if re.fullmatch(r"[0-9]{5,}", path.stem) and int(path.stem) < len(self.video):
                try:
                    with open(path, "rb") as file, Image.open(file) as image:
                        said = dict(image.info)
                        file.seek(-len(PNG_END), os.SEEK_END)
                        if file.read() != PNG_END:
                            raise OSError("its end is missing")
                        said["mask" if kind == "given" else "source"], said["empty"]
                except (OSError, KeyError, UnidentifiedImageError):
                    if kind == "given":
                        warnings.warn(f"the mask {path} is damaged and left out; paint it again", stacklevel=4)
                    continue
                yield int(path.stem), said

    def _path(self, kind: str, o: int, t: int) -> Path:
        return self.folder / kind / f"{o:03d}" / f"{t:05d}.png"

    # --------------------------------------------------------------------------------------------------- objects

    def add_object(self, name: str = "", colour: str | None = None, object_id: int | None = None) -> int:
        """A new object.

        Args:
            name: "object 3" and the like by default.
            colour: ``#rrggbb``; by default one that is easily told from those before it.
            object_id: 1..254; the lowest that is free by default.

        Returns:
            its id.

        Raises:
            TutorialError: if there are 254 already (0 is the background and 255 void), or the id is taken.
        """
        with self._lock:
            self._require_open()
            free = [i for i in range(1, LAST_ID + 1) if i not in self.objects]
            if not free:
                raise TutorialError(
                    f"the project {self.folder} has {LAST_ID} objects, and a mask of 8 bits holds no more; "
                    "remove one, or begin a second project."
                )
            o = free[0] if object_id is None else object_id
            if o not in free:
                raise TutorialError(f"an object cannot have the id {o!r}: it is taken, or none of 1..{LAST_ID}.")
            default = COLOURS[o - 1] if o <= len(COLOURS) else "#" + bytes(davis_palette()[o]).hex()
            self.objects[o] = Object(o, name or f"object {o}", _require_colour(colour or default))
            self.objects = dict(sorted(self.objects.items()))
            self._save()
            return o

    def change_object(self, object_id: int, *, name: str | None = None, colour: str | None = None) -> None:
        """Give an object another name or colour."""
        with self._lock:
            self._require_open()
            old = self._require_object(object_id)
            self.objects[object_id] = replace(
                old, name=old.name if name is None else name, colour=_require_colour(colour or old.colour)
            )
            self._save()

    def remove_object(self, object_id: int) -> None:
        """Take an object away, with its results; its given masks are kept in ``removed/``, out of the way."""
        with self._lock:
            self._require_open()
            self._require_object(object_id)
            del self.objects[object_id]
            self._first.pop(object_id, None)
            self._save()
            for kind in ("given", "results"):
                folder = self.folder / kind / f"{object_id:03d}"
                if folder.exists():
                    attic = self.folder / "removed" / f"{kind}-{object_id:03d}-{secrets.token_hex(3)}"
                    attic.parent.mkdir(exist_ok=True)
                    os.replace(folder, attic)
            self._given.pop(object_id, None)
            self._found.pop(object_id, None)
            self._changed()

    def _require_object(self, object_id: int) -> Object:
        if object_id not in self.objects:
            known = ", ".join(f"{each.id} ({each.name})" for each in self.objects.values()) or "none yet"
            raise TutorialError(f"the project has no object {object_id!r}; its objects are {known}.")
        return self.objects[object_id]

    def _require_frame(self, frame: int) -> None:
        if type(frame) is not int or not 0 <= frame < len(self.video):
            raise TutorialError(f"there is no frame {frame!r}; the video has frames 0..{len(self.video) - 1}.")

    def _changed(self) -> None:
        self._revision += 1
        self._paused = None

    # --------------------------------------------------------------------------------------------- masks and results

    def save_mask(self, frame: int, object_id: int, mask: MaskLike | None) -> None:
        """Give an object's mask in a frame: on the disk when this returns.

        Pixels that it takes, other objects that are given in this frame lose.

        Args:
            frame: its number.
            object_id: of :attr:`objects`.
            mask: ``bool [H, W]``, or ids where every one but 0 and void counts; an empty one says that the object
                cannot be seen in this frame; it is followed on from the mask before. None takes the mask back.

        Raises:
            TutorialError: if there is no such frame or object, the mask has another size, or the disk is full: then
                the mask from before is still there.
        """
        with self._lock:
            self._require_open()
            self._require_frame(frame)
            self._require_object(object_id)
            given = self._given.setdefault(object_id, {})
            if mask is None:
                if frame in given:
                    self._path("given", object_id, frame).unlink(missing_ok=True)
                    del given[frame]
                    if self._first.get(object_id) == frame:
                        del self._first[object_id]
                        if given:
                            self._first[object_id] = min(given)
                        self._save()
                    self._changed()
                return
            ids = as_mask(mask)
            require_same_size(ids, self.video.size, frames="the frames of the video are")
            own = (ids != 0) & (ids != 255)
            self._write_given(frame, object_id, own)
            if object_id not in self._first:
                self._first[object_id] = frame
                self._save()
            for other, there in self.masks(frame).items():
                if other != object_id and (there & own).any():
                    self._write_given(frame, other, there & ~own)
            self._changed()

    def _write_given(self, frame: int, o: int, mask: Tensor) -> None:
        pixels = mask.cpu().numpy()
        digest = hashlib.blake2b(np.packbits(pixels).tobytes(), digest_size=8).hexdigest()
        said = {"mask": digest, "empty": "no" if pixels.any() else "yes"}
        write_atomically(self._path("given", o, frame), _png(pixels.astype(np.uint8) * 255, **said))
        self._given.setdefault(o, {})[frame] = _Given(digest, not pixels.any())

    def masks(self, frame: int) -> dict[int, Tensor]:
        """The masks that were given in a frame: object id -> ``bool [H, W]``."""
        with self._lock:
            self._require_frame(frame)
            return {
                o: torch.from_numpy(_pixels(self._path("given", o, frame)) > 127)
                for o in self.objects
                if frame in self._given.get(o, ())
            }

    def has_masks(self) -> bool:
        """Whether any mask was given."""
        return any(self._given.values())

    def given(self, object_id: int) -> dict[int, Literal["first", "correction"]]:
        """The frames in which an object's mask was given, ascending: the first that it got, or a correction."""
        with self._lock:
            self._require_object(object_id)
            first = self._first.get(object_id)
            return {t: "first" if t == first else "correction" for t in sorted(self._given.get(object_id, ()))}

    def result(self, frame: int) -> Tensor:
        """What is known of a frame, ``uint8 [H, W]`` of ids: given masks, and what was found around them.

        Where two objects claim a pixel, because one was computed again without the other, the more probable one has
        it.
        """
        with self._lock:
            given = self.masks(frame)
            ids = np.zeros(self.video.size, dtype=np.uint8)
            best = np.zeros(self.video.size, dtype=np.uint8)
            for o in self.objects:
                if frame in self._found.get(o, ()) and o not in given:
                    with contextlib.suppress(TutorialError):  # damaged since: as if it had not been computed
                        strength = _pixels(self._path("results", o, frame))
                        ids[strength > best] = o
                        best = np.maximum(best, strength)
            for o, mask in given.items():
                ids[mask.numpy()] = o
            return torch.from_numpy(ids)

    def confidence(self) -> NDArray[np.float32]:
        """How sure the method is of each object, ``float32 [T, O]`` in the order of :attr:`objects`.

        The mean probability inside the mask; 1 where a mask is given, NaN where nothing was computed yet. Where the
        mask is empty, one less the highest probability of the object anywhere.
        """
        with self._lock:
            table = np.full((len(self.video), len(self.objects)), np.nan, dtype=np.float32)
            for column, o in enumerate(self.objects):
                for t, found in self._found.get(o, {}).items():
                    table[t, column] = found.confidence
                table[list(self._given.get(o, ())), column] = 1
            return table

    def most_uncertain(self) -> tuple[int, int, float] | None:
        """The frame and object of which the method is least sure, and how sure: where a correction is worth most.

        None if nothing was computed yet.
        """
        with self._lock:
            found = [
                (each.confidence, t, o)
                for o, frames in self._found.items()
                for t, each in frames.items()
                if t not in self._given.get(o, ())
            ]
            confidence, t, o = min(found, default=(0.0, 0, 0))
            return (t, o, confidence) if found else None

    def states(self) -> NDArray[np.uint8]:
        """What is known of each object in each frame, ``uint8 [T, O]``.

        :data:`UNKNOWN` 0, :data:`ABSENT` 1, :data:`PRESENT` 2, :data:`FIRST` 3 (given), :data:`CORRECTION` 4 (given).
        """
        with self._lock:
            table = np.full((len(self.video), len(self.objects)), UNKNOWN, dtype=np.uint8)
            for column, o in enumerate(self.objects):
                for t, found in self._found.get(o, {}).items():
                    table[t, column] = ABSENT if found.empty else PRESENT
                for t, kind in self.given(o).items():
                    table[t, column] = FIRST if kind == "first" else CORRECTION
            return table

    def stale(self) -> NDArray[np.bool_]:
        """Where a result is missing, or was carried on from a mask that was changed since: ``bool [T, O]``.

        Frames before an object's first given mask are not stale: only carrying back fills them.
        """
        with self._lock:
            table = np.zeros((len(self.video), len(self.objects)), dtype=bool)
            for column, o in enumerate(self.objects):
                sources, back = self._from(o, 1), self._from(o, -1)
                for t in range(len(self.video)):
                    found = self._found.get(o, {}).get(t)
                    if t in self._given.get(o, ()) or (found is None and t not in sources):
                        continue
                    table[t, column] = found is None or found.source not in (sources.get(t), back.get(t))
            return table

    def _told(self, o: int, step: int) -> dict[int, str]:
        """What each given mask of an object says, in one direction: where the object was last seen, and hidden since.

        What is given before the object is seen at all says nothing.
        """
        told: dict[int, str] = {}
        for t in sorted(self._given.get(o, {}), reverse=step < 0):
            given = self._given[o][t]
            if not given.empty:
                told[t] = f"{t}:{given.digest}"
            elif told:
                told[t] = f"{list(told.values())[-1]}+{t}"
        return told

    def _sources(self, o: int, spans: Sequence[Span], step: int) -> dict[int, str]:
        """For each frame of an object's spans, what it would be computed from."""
        told = self._told(o, step)
        return {t: told[span.source] for span in spans for t in _frames_of(span, step)}

    def _from(self, o: int, step: int) -> dict[int, str]:
        """:meth:`_sources` of all frames, in one direction."""
        return self._sources(o, spans_of(o, list(self._told(o, step)), range(len(self.video))[::step]), step)

    # ------------------------------------------------------------------------------------------------- propagation

    def propagate(
        self,
        segmenter: Segmenter,
        frames: range | None = None,
        objects: Sequence[int] | None = None,
        on_frame: Callable[[int, Tensor, dict[int, float]], object] | None = None,
        stop: threading.Event | None = None,
    ) -> bool:
        """Carry the given masks on, each to the next given mask of its object; results are on the disk frame by
        frame.

        Only spans in which something is missing or :meth:`stale` are computed; the files of other objects stay as
        they are, to the bit. The method is reminded of an object's earlier masks, one step each. Objects that are
        computed together compete for their pixels.

        Args:
            segmenter: any method. It is the project's until this returns, and after a stop until it went on.
            frames: from the last given mask at or before the first of them up to the last of them; a range that runs
                backward, ``range(k, -1, -1)``, carries masks back. All frames, forward, by default.
            objects: ids; all by default.
            on_frame: called after each frame with its number, the ids ``uint8 [H, W]`` of :meth:`result`, and the
                confidence of each object that was computed.
            stop: set it, from another thread too, to end after the frame that is being computed. The next call with
                the same arguments goes on there; another segmenter, or another process, begins the span again.

        Returns:
            whether it came to its end.

        Raises:
            TutorialError: if no mask is given for these objects, the range cannot be, the video cannot be read on,
                or the disk is full; what was computed so far is kept.
        """
        with self._lock:
            self._require_open()
            key = (segmenter, frames, None if objects is None else tuple(objects), self._revision)
            paused, self._paused = self._paused, None
            run = paused[1] if paused is not None and paused[0] == key else self._run(segmenter, frames, objects)
        for t, confidence in run:
            if on_frame is not None:
                on_frame(t, self.result(t), confidence)
            if stop is not None and stop.is_set():
                with self._lock:
                    if self._revision == key[-1]:
                        self._paused = key, run
                return False
        return True

    def pending(self, frames: range | None = None, objects: Sequence[int] | None = None) -> int:
        """How many frames :meth:`propagate` would go through with the same arguments.

        Raises:
            TutorialError: as there.
        """
        with self._lock:
            wanted = self._require_range(frames)
            spans = self._spans(wanted, objects, either=frames is None)
            groups = together(spans, wanted.step)
            return sum(len({t for span in group for t in _frames_of(span, wanted.step)}) for group in groups)

    def _require_range(self, frames: range | None) -> range:
        count = len(self.video)
        wanted = range(count) if frames is None else frames
        if not wanted or abs(wanted.step) != 1 or not {wanted[0], wanted[-1]} <= set(range(count)):
            raise TutorialError(
                f"the frames {wanted} cannot be computed; give a range of 0..{count - 1} with step 1 or -1."
            )
        return wanted

    def _run(
        self, segmenter: Segmenter, frames: range | None, objects: Sequence[int] | None
    ) -> Iterator[tuple[int, dict[int, float]]]:
        """The frames to compute, one after the other; each is on the disk when it is given out."""
        wanted = self._require_range(frames)
        spans = self._spans(wanted, objects, either=frames is None)
        sources = {o: self._sources(o, [s for s in spans if s.object == o], wanted.step) for o in self.objects}
        for group in together(spans, wanted.step):
            for t, found in sweep(segmenter, self.video, group, wanted.step, self.masks):
                confidence = {}
                for o, p in found.items():
                    with self._lock:
                        self._require_open()
                        if o in self.objects:
                            confidence[o] = self._write_found(t, o, p, sources[o][t])
                yield t, confidence

    def _spans(self, frames: range, objects: Sequence[int] | None, either: bool) -> list[Span]:
        """The spans in which something is to be computed.

        Args:
            frames: with a direction.
            objects: ids, or None for all.
            either: whether a result that was carried from the other side is good, too.
        """
        wanted = list(self.objects) if objects is None else list(objects)
        for o in wanted:
            self._require_object(o)
        given = {o: list(told) for o in wanted if (told := self._told(o, frames.step))}
        if not given:
            raise TutorialError("no mask is given yet for what is to be followed; paint or load one first.")
        spans = []
        for o, masks in given.items():
            back = self._from(o, -frames.step) if either else {}
            for span in spans_of(o, masks, frames):
                sources = self._sources(o, [span], frames.step)
                found, there = self._found.get(o, {}), self._given[o]
                if any(
                    t not in there and (t not in found or found[t].source not in (source, back.get(t)))
                    for t, source in sources.items()
                ):
                    spans.append(span)
        return spans

    def _write_found(self, t: int, o: int, p: Tensor, source: str) -> float:
        strength = np.zeros(tuple(p.shape), dtype=np.uint8)
        box = box_of((p > 0).cpu().numpy())
        if box is None:
            confidence = 1 - float(p.abs().max())
        else:  # nothing outside it counts
            part = p[box].cpu()
            inside = part > 0
            confidence = float(part[inside].mean())
            strength[box] = (part * 255).round().clamp(1, 255).mul(inside).byte().numpy()
        empty = box is None
        said = {"confidence": repr(confidence), "empty": "yes" if empty else "no", "source": source}
        _write_again(self._path("results", o, t), _png(strength, **said))
        self._found.setdefault(o, {})[t] = _Found(confidence, empty, source)
        return confidence


_OPEN: weakref.WeakValueDictionary[str, Project] = weakref.WeakValueDictionary()
"""The projects of this process, by folder."""


def _release(lock: Path, token: str) -> None:
    with contextlib.suppress(OSError, ValueError, KeyError):
        if token and json.loads(lock.read_text("utf-8"))["token"] == token:
            lock.unlink()


def _frames_of(span: Span, step: int) -> range:
    return range(span.source, span.last + step, step)


def _read_about(folder: Path) -> dict[str, Any] | None:
    """What the project's file says; None if there is none."""
    path = folder / FILE
    if not os.path.lexists(path):
        return None
    try:
        about = json.loads(read_text(path, "the project", "begin a new project"))
        if about["version"] != 1:
            raise TutorialError(
                f"the project {path} is of version {about['version']}; update vos-tutorial to read it."
            )
        {each["id"]: Object(**each) for each in about["objects"]}
        about["video"]["path"], about["video"]["fingerprint"], about["first"].items()
    except (ValueError, KeyError, TypeError, AttributeError):
        raise TutorialError(
            f"the project {path} is damaged; the masks in {folder / 'given'} are still there: begin a new "
            "project and load them."
        ) from None
    return dict(about)


def _same_video(folder: Path, said: dict[str, Any], video: Video | str | os.PathLike[str] | None) -> Video:
    """The video of a project, opened as it was when the project began."""
    options: dict[str, Any] = {
        key: Fraction(v) if key in ("start", "end") and v else v for key, v in said["options"].items()
    }
    if video is None:
        beside = folder / said["beside"]
        path = next((p for p in (Path(said["path"]), beside) if p.exists()), None)
        if path is None:
            raise TutorialError(
                f"the video of the project {folder}, {said['path']}, is not there any more; give its new place with "
                "Project.open(folder, video)."
            )
        video = path
    opened = video if isinstance(video, Video) else Video(video, **options)
    if opened.fingerprint() != said["fingerprint"]:
        raise TutorialError(
            f"the project {folder} is about another video ({said['path']}), not {opened.path}; choose another "
            "folder for this one."
        )
    if opened.options() != said["options"]:
        raise TutorialError(
            f"the project {folder} numbers the frames of {opened.path} with {said['options']}, not "
            f"{opened.options()}; open it without a video, or choose another folder."
        )
    return opened


def _require_colour(colour: str) -> str:
    if not re.fullmatch(r"#[0-9a-fA-F]{6}", colour):
        raise TutorialError(f"the colour {colour!r} is none; write it as #rrggbb, such as #d81b60.")
    return colour.lower()


def box_of(mask: NDArray[np.bool_]) -> tuple[slice, slice] | None:
    """The rows and columns that hold a mask ``[H, W]``; None if it is empty."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return (slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)) if len(rows) else None


def _png(pixels: NDArray[np.uint8], **said: str) -> bytes:
    """A grey picture that says something of itself, so that one file holds one fact whole."""
    info = PngImagePlugin.PngInfo()
    for key, value in said.items():
        info.add_text(key, value)
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, format="PNG", pnginfo=info, compress_level=1)
    return content.getvalue()


def _pixels(path: Path) -> NDArray[np.uint8]:
    try:
        with Image.open(path) as image:
            return np.array(image.convert("L"))
    except (OSError, SyntaxError, ValueError) as error:
        raise TutorialError(f"the mask {path} cannot be read ({error}); give or compute it again.") from None


def _write_again(path: Path, data: bytes) -> None:
    """Write what can be computed again: whole or not at all, but without waiting for the disk."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(data)
        os.replace(temporary, path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        if not isinstance(error, OSError):
            raise
        raise cannot_write(path, error) from error
