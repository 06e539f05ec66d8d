"""Paint objects on a video of your own, follow them, correct them, and come back to it tomorrow.

The page paints at once and by itself. The kernel keeps every stroke in the project's folder, sends frames when they
are wanted, and follows the objects in a thread of its own, so that the page stays alive meanwhile. They talk in
messages ``{"kind": ..., "view": ...}``; pictures travel as JPEG, masks as run lengths (:func:`runs_of`):

=================================================  ==================================================================
from the page                                      answer
=================================================  ==================================================================
``hello``                                          ``welcome``: all edits, so that undo goes on after a reload
``frame`` t                                        ``frame``: picture, the method's answer, what is given
``given`` t, objects, number, move (-1 undo) + runs  ``saved`` number, once it is on the disk
``object`` id, name; ``remove`` id                 the traits ``_objects`` and ``_strip``
``box`` t, box, number                             ``boxed`` number, with a mask or a sentence
``propagate`` direction; ``stop``                  ``result`` t for each frame; the trait ``_run``
=================================================  ==================================================================
"""

from __future__ import annotations

import base64
import contextlib
import functools
import itertools
import json
import threading
import time
import weakref
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import traitlets
from IPython.core.getipython import get_ipython
from matplotlib import font_manager
from numpy.typing import NDArray
from PIL import Image, ImageColor, ImageDraw, ImageFont

from ...boxes import mask_in_box
from ...errors import TutorialError
from ...propagation import Segmenter
from ...video import Object, Project
from ...video import project as stored
from ...video.exporting import colours_of, overlay
from .. import figures
from .widget import POSTER_BYTES, Widget, pack_frames, source, stylesheet

Direction = Literal["forward", "backward"]
PRESENT, GIVEN, CORRECTED, COMPUTED, STALE = 1, 2, 4, 8, 16  # bits of the strip; painter_strip.js
LONGEST_RUN = 2**24 - 1
LARGE = 2_200_000  # pixels of a frame from which painting is no longer quick everywhere
STRIP_SECONDS = 0.2  # between two pictures of the strip while a method runs
STILL_FRAMES = 8  # of a page without a kernel
JOURNAL = "edits.jsonl"
BUTTONS = (  # of the still picture, in rows as on the page, with their keys
    (("Brush", "B"), ("Eraser", "E"), ("Fill", "F"), ("Box", "X"), ("Undo", "Z"), ("Redo", "")),
    (("New object", "N"), ("Not in this frame", "A"), ("Take back this mask", ""), ("Remove object", "")),
    (("Propagate", "P"), ("Backward", ""), ("Stop", "")),
)
BUTTON_ROW, STRIP_ROW = 26, 24  # pixels

_MODULES = ("common", "painting", "painter_canvas", "painter_strip", "painter_link", "painter_parts", "mask_painter")

_OPEN: weakref.WeakValueDictionary[str, MaskPainter] = weakref.WeakValueDictionary()
"""The painters of this kernel, by the folder of their project."""


class MaskPainter(Widget):
    """Paint first masks, propagate, correct; everything is kept in the project's folder as it is painted.

    Paint with brush, eraser and fill, or draw a box and have its object found. *Propagate* follows all objects
    forward to their next masks; the strip below the picture shows where each one is, what was given by hand, what is
    out of date and how sure the method is. Correct a frame and press it again: only the corrected object is computed
    again, from there to its next mask. *Backward* carries the masks of the shown frame back to the ones before. The
    list *Keys* under the widget names the keys; all can be done without a mouse.

    Run the cell again after a restart of the kernel, and you go on where you were, undo included.

    Args:
        project: what is painted on; ``Project.open(folder, video)``.
        segmenter: follows the objects; by default STM with the weights that learned from photographs.
        frame: what is shown first.
        alt: what a screen reader says the video is.

    Attributes:
        project, segmenter: as given; the segmenter may be replaced between two propagations.
        frame, object (the chosen one), brush (its diameter in pixels of the video), opacity, hidden (ids switched
            off): live in both directions.
        status: what the kernel has to say.

    Raises:
        TutorialError: if ``project`` is none, or there is no such frame.
    """

    _esm = "\n".join(source(f"{name}.js") for name in _MODULES)
    _css = stylesheet("mask_painter")

    frame = traitlets.Int(0).tag(sync=True)
    object = traitlets.Int(0).tag(sync=True)
    brush = traitlets.Int(24, min=1).tag(sync=True)
    opacity = traitlets.Float(0.4, min=0, max=1).tag(sync=True)
    hidden = traitlets.List(traitlets.Int()).tag(sync=True)
    status = traitlets.Unicode("").tag(sync=True)

    _shape = traitlets.List(traitlets.Int()).tag(sync=True)  # T, H, W
    _times = traitlets.List(traitlets.Float()).tag(sync=True)  # seconds of each frame
    _colours = traitlets.Bytes().tag(sync=True)  # uint8 [256, 3], before objects bring their own
    _objects = traitlets.List(traitlets.Dict()).tag(sync=True)  # {id, name, colour}
    _strip = traitlets.Bytes().tag(sync=True)  # uint8 [O, T, 2]: bits, confidence
    _run = traitlets.Dict().tag(sync=True)  # {running, done, total, words}
    _key = traitlets.Unicode("").tag(sync=True)  # of the project, for what the page keeps while the kernel is away
    _patience = traitlets.Float(4.0).tag(sync=True)  # seconds that the page waits for an answer before it says so
    _still = traitlets.Dict()  # frames of a page without a kernel

    _thread: threading.Thread | None = None  # that follows the objects
    _shell: Any = None  # of the notebook that this runs in
    _stopped: Sequence[_Job] = ()  # jobs that went backward and were stopped

    def __init__(
        self,
        project: Project,
        segmenter: Segmenter | None = None,
        *,
        frame: int = 0,
        alt: str = "",
    ) -> None:
        if not isinstance(project, Project):
            raise TutorialError(
                f"the painter needs a project, not {type(project).__name__}; use Project.open(folder, video)."
            )
        self.project, self.segmenter = project, segmenter
        self._lock = threading.RLock()
        self._owner = ""  # the view that paints
        self._stop = threading.Event()
        self._journal = _Journal(project.folder / JOURNAL)
        self._length, self._size = len(project.video), project.video.size
        folder = str(project.folder.resolve())
        if (earlier := _OPEN.get(folder)) is not None:
            earlier._leave()
        _OPEN[folder] = self
        height, width = self._size
        super().__init__(
            frame=frame,
            brush=max(4, round(min(self._size) / 24)),
            alt=alt or f"Video {project.video.path.name}",
            _shape=[self._length, height, width],
            _times=[float(t) for t in project.video.times],
            _colours=figures.object_colours().tobytes(),
            _key=f"{project.video.fingerprint()}-{project.folder.resolve()}-{height}x{width}",
        )
        self._absent = self._find_absent()
        self._show_objects()
        self.object = next(iter(project.objects), 0)
        if height * width > LARGE:
            self.status = f"Frames are {width}x{height}; a new project on Video(path, max_side=1280) is quicker."
        self._seen = self._what_there_is()
        self.on_msg(self._receive)
        self._shell = get_ipython()
        if self._shell is not None:
            self._shell.events.register("post_run_cell", self._after_cell)

    # ------------------------------------------------------------------------------------------ what the page is told

    def _given_frames(self) -> list[int]:
        return sorted({t for o in self.project.objects for t in self.project.given(o)})

    def _find_absent(self) -> set[tuple[int, int]]:
        """Frame and object of the given masks that say: not in this frame."""
        return {
            (t, o) for t in self._given_frames() for o, mask in self.project.masks(t).items() if not bool(mask.any())
        }

    def _show_objects(self) -> None:
        """Objects and strip as they are now, in one message."""
        strip = self._strip_bytes()
        with self.hold_sync():
            self._objects = [
                {"id": each.id, "name": each.name, "colour": each.colour} for each in self.project.objects.values()
            ]
            self._strip = strip

    def _strip_bytes(self) -> bytes:
        """``uint8 [O, T, 2]``: what there is of each object in each frame, and how sure the method is."""
        objects = list(self.project.objects)
        strip = np.zeros((len(objects), self._length, 2), np.uint8)
        states, stale, confidence = self.project.states(), self.project.stale(), self.project.confidence()  # [T, O]
        there = states == stored.PRESENT
        found = there | (states == stored.ABSENT)
        strip[..., 0] = (found * COMPUTED + there * PRESENT + (stale & found) * STALE).T
        strip[..., 1] = np.nan_to_num(confidence.T * 255).round().astype(np.uint8)
        for row, o in enumerate(objects):
            for t, kind in self.project.given(o).items():
                bits = GIVEN | (0 if (t, o) in self._absent else PRESENT)
                strip[row, t] = bits | (CORRECTED if kind == "correction" else 0), 255
        return strip.tobytes()

    def refresh(self) -> None:
        """Show what was changed in the project from Python; in a notebook this happens after each cell by itself."""
        with self._lock:
            self._absent = self._find_absent()
            self._show_objects()
            self._seen = self._what_there_is()
            self.send({"kind": "reload"})

    def _what_there_is(self) -> tuple[Any, ...]:
        """What changes whenever masks, results or objects do."""
        written = [path.stat().st_mtime_ns for path in sorted(self.project.folder.glob("*/[0-9]*"))]
        return (*written, *self.project.objects.values())

    def _after_cell(self, _: Any = None) -> None:
        """A cell of the notebook has run, and may have changed the project."""
        with contextlib.suppress(TutorialError, OSError), self._lock:
            if not self.running and self._what_there_is() != self._seen:
                self.refresh()

    def _leave(self) -> None:
        """A newer painter has the project."""
        self.stop()
        self._forget_cells()
        self.send(
            {
                "kind": "closed",
                "sentence": "This project was opened again in this notebook; paint there. All is saved.",
            }
        )

    # ----------------------------------------------------------------------------------------- what the page asks for

    def _receive(self, _: Any, content: Mapping[str, Any], buffers: Sequence[memoryview]) -> None:
        view = str(content.get("view", ""))
        answers: dict[str, Callable[..., None]] = {
            "hello": self._hello,
            "frame": self._send_frame,
            "given": self._keep,
            "object": self._change_object,
            "remove": self._remove,
            "box": self._find_in_box,
            "propagate": self._start,
            "stop": lambda *_: self.stop(),
        }
        try:
            answers[content["kind"]](view, content, buffers)
        except TutorialError as error:
            self._refuse(view, content, str(error))
        except Exception as error:  # a traceback would be seen by nobody
            self._refuse(view, content, f"{type(error).__name__}: {error}")

    def _refuse(self, view: str, content: Mapping[str, Any], sentence: str) -> None:
        self.send({"kind": "sentence", "view": view, "about": content.get("kind"), "t": content.get("t"),
                   "number": content.get("number"), "sentence": sentence})  # fmt: skip

    def _hello(self, view: str, content: Mapping[str, Any], _: Sequence[memoryview]) -> None:
        """The view that came last paints; the one before is told."""
        if content.get("again"):
            self.send({"kind": "welcome", "view": self._owner or view, "again": True})
            return
        with self._lock:
            self._owner = view
            edits = self._journal.edits
            self.send(
                {
                    "kind": "welcome",
                    "view": view,
                    "edits": [[e.t, e.before.objects, e.after.objects] for e in edits],
                    "position": self._journal.position,
                },
                [state.runs for e in edits for state in (e.before, e.after)],
            )

    def _send_frame(self, view: str, content: Mapping[str, Any], _: Sequence[memoryview]) -> None:
        t = self._require_frame(content["t"])
        jpeg = self._jpeg(t)
        with self._lock:  # an answer that is found meanwhile is sent after this, and so wins
            given = self._given(t)
            result = runs_of(self.project.result(t).numpy())
            self.send({"kind": "frame", "view": view, "t": t, "objects": given.objects}, [jpeg, result, given.runs])

    def _jpeg(self, t: int) -> bytes:
        picture = self.project.video.frame(t).permute(1, 2, 0).numpy()  # [H, W, 3]
        return pack_frames([picture], self._size)[0]

    def _require_frame(self, t: Any) -> int:
        if type(t) is not int or not 0 <= t < self._length:
            raise TutorialError(f"there is no frame {t!r} in this video; choose 0..{self._length - 1}.")
        return t

    def _given(self, t: int) -> _State:
        """The masks that are given in a frame, as one map of ids."""
        masks = self.project.masks(t)
        ids = np.zeros(self._size, np.uint8)
        for o, mask in masks.items():
            ids[mask.numpy()] = o
        return _State(sorted(masks), runs_of(ids))

    def _keep(self, view: str, content: Mapping[str, Any], buffers: Sequence[memoryview]) -> None:
        """Write what is given in a frame, of the objects that changed."""
        t = self._require_frame(content["t"])
        ids = ids_of(bytes(buffers[0]), self._size)
        names = content.get("names", {})
        with self._lock:
            # one that the page does not list either was removed while it was painted
            objects = [o for o in content["objects"] if o in self.project.objects or str(o) in names]
            for o in objects:
                self._require_object(o, str(names.get(str(o), "")))
            before, masks = self._given(t), self.project.masks(t)
            for o in masks.keys() - set(objects):
                self.project.save_mask(t, o, None)
                self._absent.discard((t, o))
            for o in objects:
                mask = ids == o
                if o not in masks or not np.array_equal(masks[o].numpy(), mask):
                    self.project.save_mask(t, o, torch.from_numpy(mask))
                    (self._absent.discard if mask.any() else self._absent.add)((t, o))
            after = self._given(t)
            self._journal.add(t, before, after, int(content.get("move", 0)))
            result = runs_of(self.project.result(t).numpy())
            self.send({"kind": "saved", "view": view, "t": t, "number": content["number"]}, [result])
            self._show_objects()

    def _require_object(self, o: int, name: str) -> None:
        """Make the object if the page has a new one."""
        if o not in self.project.objects:
            self.project.add_object(name, object_id=o)

    def _change_object(self, _: str, content: Mapping[str, Any], __: Sequence[memoryview]) -> None:
        with self._lock:
            o, name = int(content["id"]), str(content["name"])
            self._require_object(o, name)
            if self.project.objects[o].name != name:
                self.project.change_object(o, name=name)
            self._show_objects()

    def _remove(self, _: str, content: Mapping[str, Any], __: Sequence[memoryview]) -> None:
        with self._lock:
            o = int(content["id"])
            self.project.remove_object(o)
            self._absent = {(t, other) for t, other in self._absent if other != o}
            self._show_objects()
            self.hidden = [i for i in self.hidden if i != o]
            self.object = next(iter(self.project.objects), 0)
            self.send({"kind": "reload"})

    def _find_in_box(self, view: str, content: Mapping[str, Any], _: Sequence[memoryview]) -> None:
        reply = {"kind": "boxed", "view": view, "number": content["number"]}
        try:
            x0, y0, x1, y1 = map(int, content["box"])
            mask = mask_in_box(self.project.video.frame(self._require_frame(content["t"])), (x0, y0, x1, y1))
            self.send(reply, [runs_of(mask.numpy().astype(np.uint8))])
        except TutorialError as error:
            self.send({**reply, "sentence": str(error)})

    # ---------------------------------------------------------------------------------------------------- propagation

    @property
    def running(self) -> bool:
        """Whether a method follows the objects at this moment."""
        return self._thread is not None and self._thread.is_alive()

    def propagate(self, direction: Direction = "forward") -> None:
        """Follow the objects, in a thread; see :meth:`wait` and :meth:`stop`.

        Args:
            direction: "forward" fills what is missing or out of date. "backward" carries the masks that are given in
                the shown frame back, each to the mask before it.

        Raises:
            TutorialError: if a method runs already, or there is nothing to carry.
        """
        with self._lock:
            if self.running:
                raise TutorialError("a method follows the objects already; stop it first, or wait until it is done.")
            jobs = self._jobs_backward() if direction == "backward" else (_Job(None, None),)
            if not self._given_frames():
                raise TutorialError("no mask is given yet; paint an object in any frame first.")
            self._stop.clear()
            self._run = {"running": True, "done": 0, "total": 0, "words": "Getting the method ready …"}
            self._thread = threading.Thread(target=self._follow, args=(jobs,), name="MaskPainter", daemon=True)
            self._thread.start()

    def _start(self, _: str, content: Mapping[str, Any], __: Sequence[memoryview]) -> None:
        self.propagate("backward" if content.get("direction") == "backward" else "forward")

    def stop(self) -> None:
        """End after the frame that is being computed; what is done stays, and :meth:`propagate` goes on there."""
        self._stop.set()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for the method; whether it has ended."""
        if self._thread is not None:
            self._thread.join(timeout)
        return not self.running

    def _jobs_backward(self) -> Sequence[_Job]:
        """The objects that are given in the shown frame, together where they go back equally far.

        Where none is given, what was stopped on its way back goes on.
        """
        t = self.frame
        reach: dict[int, list[int]] = {}
        for o in self.project.objects:
            given = self.project.given(o)
            if t in given and t > 0:
                reach.setdefault(max((u + 1 for u in given if u < t), default=0), []).append(o)
        jobs = [_Job(range(t, last - 1, -1), objects) for last, objects in sorted(reach.items()) if last < t]
        if not (jobs or self._stopped):
            raise TutorialError(
                f"no mask is given in frame {t} that could be carried back; paint or correct an object here first."
            )
        return jobs or self._stopped

    def _follow(self, jobs: Sequence[_Job]) -> None:
        """The thread: all jobs, and again what was painted while they ran."""
        words, failed = "", False
        try:
            if self.segmenter is None:
                from ...models import segmenter

                self.segmenter = segmenter("stm", variant="photos")
            done = True
            while jobs and done:
                for job in jobs:
                    progress = _Progress(self._frames_of(job))
                    report = functools.partial(self._found, progress)
                    done = self.project.propagate(self.segmenter, job.frames, job.objects, report, self._stop)
                    if not done:
                        break
                again = done and jobs[0].frames is None and progress.seen and self._painted_meanwhile()
                if done and not again:
                    jobs = ()
            back = bool(jobs) and jobs[0].frames is not None
            self._stopped = jobs if back else ()
            goes_on = "Backward" if back else "Propagate"
            words = self._summary() if done else f"Stopped; {goes_on} goes on from here."
        except TutorialError as error:
            words, failed = str(error), True
        except Exception as error:  # it would be lost with the thread
            words, failed = f"{type(error).__name__}: {error}", True
        with self._lock, contextlib.suppress(TutorialError):
            self._show_objects()
            self.status = ""
            self.status = words
            self._run = {"running": False, "done": 0, "total": 0, "words": "", "failed": failed}

    def _painted_meanwhile(self) -> bool:
        """Whether a mask that was given while the method ran leaves something to do."""
        return bool(self.project.stale().any())

    def _frames_of(self, job: _Job) -> list[int]:
        """The frames that a job computes, in its order: of every span with a hole in it, from its mask on."""
        if job.frames is not None:
            return list(job.frames)
        stale = self.project.stale()  # [T, O]
        frames: set[int] = set()
        for column, o in enumerate(self.project.objects):
            given = [*self.project.given(o), self._length]
            for first, end in itertools.pairwise(given):
                if stale[first:end, column].any():
                    frames.update(range(first, end))
        return sorted(frames)

    def _found(self, progress: _Progress, t: int, ids: torch.Tensor, _: Mapping[int, float]) -> None:
        """A frame was computed: show it."""
        with self._lock:
            self.send({"kind": "result", "t": t}, [runs_of(ids.numpy())])
            progress.step(t)
            self._run = {
                "running": True, "done": progress.done, "total": progress.total, "words": progress.words(t)
            }  # fmt: skip
            if progress.due():
                self._strip = self._strip_bytes()

    def _summary(self) -> str:
        """What there is now, and where to look first."""
        states, confidence = self.project.states(), self.project.confidence()  # [T, O]
        least = np.where(states == stored.PRESENT, confidence, np.inf)
        if not np.isfinite(least).any():
            return "Done."
        t, column = np.unravel_index(np.argmin(least), least.shape)
        name = list(self.project.objects.values())[column].name
        sure = f"{100 * least[t, column]:.0f} %"
        return f"Done. The method is least sure of {name} in frame {t} ({sure}): look there first (U)."

    # ------------------------------------------------------------------------------------------ still pictures, close

    @traitlets.validate("frame")
    def _known_frame(self, proposal: Any) -> int:
        return self._require_frame(proposal["value"])

    def __repr__(self) -> str:
        height, width = self._size
        return f"MaskPainter(T={self._length}, {height}x{width}, objects={len(self.project.objects)})"

    def close(self) -> None:
        """Stop what runs and take the widget from the page; the project stays open."""
        if self._thread is not None:
            self.stop()
            self.wait()
        self._forget_cells()
        super().close()

    def _forget_cells(self) -> None:
        if self._shell is not None:
            with contextlib.suppress(ValueError):  # it does not watch them any more
                self._shell.events.unregister("post_run_cell", self._after_cell)

    def _page_state(self) -> dict[str, Any]:
        """As in the notebook, and a few frames, because nobody is there to ask for more."""
        times = self._still_frames(STILL_FRAMES)
        parts = [
            p for t in times for p in (self._jpeg(t), runs_of(self.project.result(t).numpy()), self._given(t).runs)
        ]
        still = {
            "times": times,
            "given": [self._given(t).objects for t in times],
            "offsets": [0, *np.cumsum([len(part) for part in parts]).tolist()],
            "bytes": base64.b64encode(b"".join(parts)).decode(),
        }
        return {**super()._page_state(), "_still": still, "_run": {}}

    def _still_frames(self, count: int) -> list[int]:
        """The shown frame, those with masks, and some that lie evenly over the video."""
        times = [self.frame, *self._given_frames()[: count // 2], *figures.key_frames(self._length, count)]
        return sorted(list(dict.fromkeys(int(t) for t in times))[:count])

    def poster(self) -> bytes:
        """Four frames with their masks, the strip below them and the buttons, as a PNG of at most about 40 kB."""
        times = self._still_frames(4)
        width = 720 // len(times) - 4
        height = max(1, round(width * self._size[0] / self._size[1]))
        rows = list(self.project.objects.values())
        top, below = BUTTON_ROW, BUTTON_ROW + height + 8 + STRIP_ROW * len(rows)
        board = Image.new("RGB", ((width + 4) * len(times) - 4, below + 4 + 2 * BUTTON_ROW), "white")
        draw, colours = ImageDraw.Draw(board), colours_of(self.project)
        for buttons, y in zip(BUTTONS, (0, below + 4, below + 4 + BUTTON_ROW), strict=True):
            _draw_buttons(draw, buttons, y)
        for column, t in enumerate(times):
            board.paste(self._drawn(t, (width, height), colours), (column * (width + 4), top))
        strip = np.frombuffer(self._strip_bytes(), np.uint8).reshape(len(rows), self._length, 2)
        for row, each in enumerate(rows):
            _draw_row(draw, strip[row], top + height + 8 + STRIP_ROW * row, board.width, each, colours[each.id])
        return figures.small_png(board, POSTER_BYTES)

    def _drawn(self, t: int, size: tuple[int, int], colours: NDArray[np.uint8]) -> Image.Image:
        """Frame ``t``, ``(width, height)``, with its masks and its number."""
        picture = self.project.video.frame(t).permute(1, 2, 0).numpy()  # [H, W, 3]
        small = Image.fromarray(picture).resize(size, Image.Resampling.LANCZOS)
        ids = Image.fromarray(self.project.result(t).numpy()).resize(size, Image.Resampling.NEAREST)
        pixels = torch.from_numpy(np.array(small)).permute(2, 0, 1)  # [3, h, w]
        still = Image.fromarray(overlay(pixels, torch.from_numpy(np.array(ids)), colours).permute(1, 2, 0).numpy())
        font = ImageFont.load_default(12)
        ImageDraw.Draw(still).text((4, 2), f"frame {t}", "white", font, stroke_width=2, stroke_fill="#222222")
        return still


def _font() -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(font_manager.findfont("DejaVu Sans"), 11)


def _draw_buttons(draw: ImageDraw.ImageDraw, buttons: Sequence[tuple[str, str]], top: int) -> None:
    """A row of buttons, each with its name and key."""
    font, x = _font(), 0.0
    for name, key in buttons:
        long = draw.textlength(name, font)
        end = x + long + (34 if key else 16)
        draw.rounded_rectangle((x, top, end, top + BUTTON_ROW - 6), 4, "#f4f4f4", figures.FAINT)
        draw.text((x + 8, top + 3), name, figures.INK, font)
        draw.text((x + long + 16, top + 3), key, figures.FAINT, font)
        x = end + 6


def _draw_row(
    draw: ImageDraw.ImageDraw, strip: NDArray[np.uint8], top: int, width: int, each: Object, colour: NDArray[np.uint8]
) -> None:
    """One object's row of the strip ``uint8 [T, 2]``, by the rule of ``drawRow`` in painter_strip.js.

    What is out of date is pale here; the live strip has stripes upon it as well.
    """
    left, length, ground = 120, len(strip), top + STRIP_ROW - 4
    for start, words in ((0, f"{each.id}"), (14, each.name[:16])):
        draw.text((start, top + 5), words, figures.INK, _font())
    answered = np.flatnonzero((strip[:, 0] & (PRESENT | COMPUTED | GIVEN)) == PRESENT | COMPUTED)
    least = int(answered[strip[answered, 1].argmin()]) if len(answered) else None
    low = 230 if least is None else min(230, int(strip[least, 1]))  # the bars use their whole height
    for t, (flags, sure) in enumerate(strip.tolist()):
        x = left + (width - left) * t / length
        end = max(x + 1, left + (width - left) * (t + 1) / length - 1)
        if not flags & (GIVEN | COMPUTED):
            continue
        share = 1 if flags & GIVEN else (sure - low) / (255 - low)
        tall = 12 * (0.25 + 0.75 * share) if flags & PRESENT else 1
        ink = colour if flags & PRESENT else np.array(ImageColor.getrgb(figures.INK))
        pale = 0.45 * ink + 0.55 * 255 if flags & STALE else ink
        draw.rectangle((x, ground - tall, end, ground), fill=tuple(int(value) for value in pale))
        if flags & GIVEN:
            kind = "diamond" if flags & CORRECTED else "disc"
            _draw_mark(draw, (x + end) / 2, top + 4, kind, tuple(colour.tolist()) if flags & PRESENT else "white")
    if least is not None:
        _draw_mark(draw, left + (width - left) * (least + 0.5) / length, top + 4, "triangle", figures.INK)


def _draw_mark(draw: ImageDraw.ImageDraw, x: float, y: float, kind: str, fill: str | tuple[int, ...]) -> None:
    """As ``mark`` in painter_strip.js: a disc for a first mask, a diamond for a correction, a triangle."""
    if kind == "disc":
        draw.ellipse((x - 4, y - 4, x + 4, y + 4), fill=fill, outline=figures.INK)
        return
    corners = {"diamond": ((0, -5), (5, 0), (0, 5), (-5, 0)), "triangle": ((-4, -4), (4, -4), (0, 4))}[kind]
    draw.polygon([(x + dx, y + dy) for dx, dy in corners], fill=fill, outline=figures.INK)


# --- Run lengths --------------------------------------------------------------------------------------------------


def runs_of(ids: NDArray[np.uint8]) -> bytes:
    """Ids ``uint8 [H, W]`` as run lengths along the rows, ``uint32`` each: id in the top byte, length below."""
    flat = ids.reshape(-1)
    edges = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    starts = np.concatenate([[0], edges])
    lengths = np.diff(np.concatenate([starts, [flat.size]]))
    pieces = (lengths + LONGEST_RUN - 1) // LONGEST_RUN  # a frame of more than 16 million pixels has runs too long
    words = np.repeat(flat[starts].astype("<u4") << 24, pieces)
    full = np.full(len(words), LONGEST_RUN, "<u4")
    full[np.cumsum(pieces) - 1] = lengths - LONGEST_RUN * (pieces - 1)
    return (words | full).astype("<u4").tobytes()


def ids_of(runs: bytes, size: tuple[int, int]) -> NDArray[np.uint8]:
    """The ids ``uint8 [H, W]`` of :func:`runs_of`.

    Raises:
        TutorialError: if they do not fill the frame exactly.
    """
    words = np.frombuffer(runs[: len(runs) // 4 * 4], "<u4")
    lengths = (words & LONGEST_RUN).astype(np.int64)
    if len(runs) % 4 or lengths.sum() != size[0] * size[1]:
        raise TutorialError(
            f"a mask of {lengths.sum()} pixels came from the page, but frames are {size[0]}x{size[1]}; reload it."
        )
    return np.repeat((words >> 24).astype(np.uint8), lengths).reshape(size)


# --- Undo that outlives the kernel --------------------------------------------------------------------------------


@dataclass(frozen=True)
class _State:
    """What is given in a frame: the objects, some perhaps without a pixel, and the map of their ids."""

    objects: list[int]
    runs: bytes

    def plain(self) -> list[Any]:
        return [self.objects, base64.b64encode(zlib.compress(self.runs)).decode()]

    @staticmethod
    def of(plain: Any) -> _State:
        objects, text = plain
        return _State([int(o) for o in objects], zlib.decompress(base64.b64decode(text)))


@dataclass(frozen=True)
class _Edit:
    t: int
    before: _State
    after: _State


class _Journal:
    """All edits of a project, one line each, appended as they are made; what was undone can be done again.

    Args:
        path: of the file. A line that a crash cut off, and what follows it, is left out.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.edits: list[_Edit] = []
        self.position = 0  # edits[:position] are done
        for said in self._lines():
            if isinstance(said, int):
                self.position += said
            else:
                self._put(_Edit(int(said[0]), _State.of(said[1]), _State.of(said[2])))

    def _lines(self) -> Iterator[Any]:
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError, zlib.error):
            for line in self.path.read_text("utf-8").splitlines():
                yield json.loads(line)

    def _put(self, edit: _Edit) -> None:
        del self.edits[self.position :]
        self.edits.append(edit)
        self.position += 1

    def add(self, t: int, before: _State, after: _State, move: int) -> None:
        """An edit, or a step along the edits that are known: ``move`` is -1 for undo, 1 for redo, 0 for an edit."""
        if before == after:
            return
        at = self.position - (move < 0)
        if move and 0 <= at < len(self.edits):
            edit = self.edits[at]
            if edit.t == t and (edit.before if move < 0 else edit.after) == after:
                self.position += move
                return self._append(move)
        self._put(_Edit(t, before, after))
        self._append([t, before.plain(), after.plain()])

    def _append(self, said: Any) -> None:
        with (
            contextlib.suppress(OSError),
            open(self.path, "a", encoding="utf-8") as file,
        ):  # the masks are on the disk
            file.write(json.dumps(said) + "\n")


# --- A run of a method --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Job:
    """What :meth:`Project.propagate` is asked for; None stands for everything."""

    frames: range | None
    objects: list[int] | None


class _Progress:
    """How far a method is among the frames that it computes."""

    def __init__(self, frames: Sequence[int]) -> None:
        self._place = {t: number for number, t in enumerate(frames, start=1)}
        self.total, self.done, self.seen = len(frames), 0, 0
        self._begun = self._shown = time.monotonic()

    def step(self, t: int) -> None:
        """Frame t was computed. The first one sets the clock: what a method does once is no speed."""
        self.done = self._place.get(t, self.done)
        self.seen += 1
        if self.seen == 1:
            self._begun = time.monotonic()

    def due(self) -> bool:
        """Whether it is time to draw the strip again."""
        now = time.monotonic()
        if now - self._shown < STRIP_SECONDS:
            return False
        self._shown = now
        return True

    def words(self, t: int) -> str:
        """What the page says while it runs."""
        text = f"Frame {t}, {self.done} of {self.total}"
        spent = time.monotonic() - self._begun
        if self.seen < 4 or spent <= 0:
            return f"{text}."
        rate = (self.seen - 1) / spent
        left = (self.total - self.done) / rate
        clock = f"{left:.0f} s" if left < 100 else f"{left / 60:.0f} min"
        return f"{text}; {rate:.1f} frames a second, {clock} left."
