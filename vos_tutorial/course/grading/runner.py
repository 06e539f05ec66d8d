"""Run a submission in a worker under limits, and give each exercise its points and its reason."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]

from ...errors import TutorialError
from ...places import PACKAGE
from ...profile import VARIABLE as PROFILE
from ..exercises.exercise import Exercise
from ..exercises.fresh import drawing, exercises, fresh
from .submission import Submission
from .values import decode

START = 300.0  # seconds until the worker must be ready: it loads torch, on a machine that may be busy
PATIENCE = 5
TICK = 0.05
EVENTS = 2**27  # bytes of results that are read


@dataclass(frozen=True)
class Limits:
    """What a submission may take.

    Attributes:
        seconds: of CPU time for the definitions, and again for each exercise; :data:`PATIENCE` times as many on the
            clock, so that a busy machine stops nobody who computes, and one who waits is stopped as well.
        memory_mib: beyond what the libraries take.
    """

    seconds: float = 20.0
    memory_mib: int = 2048

    def __post_init__(self) -> None:
        if self.seconds <= 0 or self.memory_mib <= 0:
            raise TutorialError(f"limits must be positive, these are {self.seconds} s and {self.memory_mib} MiB.")


@dataclass(frozen=True)
class Item:
    """One graded item: an exercise on the page's cases (``page``) or on fresh ones (``fresh``).

    Attributes:
        name: of the function.
        kind: ``page`` or ``fresh``.
        right: whether all its cases are right.
        reason: one or two sentences: what the check says.
    """

    name: str
    kind: str
    right: bool
    reason: str

    @property
    def points(self) -> int:
        """One for a right item."""
        return int(self.right)


@dataclass
class _Log:
    """What a worker said so far: which step it is in, what failed, and what came back."""

    step: str | None = None
    ended: bool = False
    failed: list[str] = field(default_factory=list)
    tried: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)

    def take(self, line: str) -> None:
        try:
            event = json.loads(line)
            if "began" in event:
                self.step = str(event["began"])
            elif "ended" in event:
                self.ended = True
            elif "failed" in event:
                self.failed.append(f"{event['failed']} stopped with {event['kind']}: {event['message']}")
            else:
                self.tried[str(event["name"]), str(event["kind"])] = event
        except (ValueError, KeyError, TypeError, RecursionError):
            self.failed.append("the submission wrote into the grader's file")


def grade(
    submission: Submission, page: str, names: Sequence[str], seed: int | None = None, limits: Limits | None = None
) -> list[Item]:
    """Grade some exercises of a page in a submission.

    Args:
        submission: from :func:`.submission.read`.
        page: ``NN``, of ``check_NN``.
        names: of the exercises.
        seed: of the fresh cases; without one only the page's cases are graded.
        limits: of time and memory.

    Returns:
        One item for each exercise, and with a seed a second one for its fresh cases, if something draws them.

    Raises:
        TutorialError: if the page has no such exercise, or the worker cannot start.
    """
    known = exercises(page)
    for name in names:
        if name not in known:
            raise TutorialError(f"page {page} has no exercise {name!r}; it has {', '.join(known)}.")
    limits = limits or Limits()
    seeds = {name: seed if drawing(page, name) else None for name in names}
    log, ends = _Log(), dict[str, str]()
    waiting = list(names)
    while waiting:
        stopped = _work(submission, page, {name: seeds[name] for name in waiting}, limits, log)
        if stopped is None:
            break
        for name in [log.step] if log.step in waiting else waiting:  # else it was in the definitions: nothing is left
            ends[name] = stopped
        waiting = waiting[waiting.index(log.step) + 1 :] if log.step in waiting else []
    log.failed[:0] = submission.broken
    return [item for name in names for item in _items(page, name, seeds[name], log, ends.get(name))]


# --- the process -------------------------------------------------------------------------------------------------


def _work(submission: Submission, page: str, trials: dict[str, int | None], limits: Limits, log: _Log) -> str | None:
    """One worker over some exercises. Returns why it was stopped before its end, or None."""
    log.step, log.ended, log.failed = None, False, []
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as own, tempfile.TemporaryFile() as errors:
        folder, events = Path(own) / "work", Path(own) / "events"
        folder.mkdir()
        events.touch()
        job = {
            "page": page,
            "trials": list(trials.items()),
            "pieces": [(piece.where, piece.code) for piece in submission.pieces],
            "events": str(events),
            "seconds": limits.seconds,
            "memory_mib": limits.memory_mib,
        }
        process = subprocess.Popen(
            [sys.executable, "-m", "vos_tutorial.course.grading.worker"],
            cwd=folder,
            env=_environment(folder),
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=errors,
            start_new_session=True,
        )
        try:
            assert process.stdin is not None
            with contextlib.suppress(BrokenPipeError), process.stdin as pipe:
                pipe.write(json.dumps(job).encode())
            stopped = _watch(process, events, limits, len(trials), log)
        finally:
            _kill(process)
        if log.step is None:
            errors.seek(0)
            said = errors.read().decode(errors="replace").strip().splitlines()[-1:]
            raise TutorialError(f"the grader's worker did not start: {stopped or ''} {' '.join(said)}".strip())
        return stopped


def _environment(folder: Path) -> dict[str, str]:
    """What a student's code may know of the grader's environment: where Python finds its packages, and no more."""
    roots = [str(PACKAGE.parent), *(p for p in sys.path if p)]
    kept = {name: os.environ[name] for name in ("PATH", "LANG", "SYSTEMROOT") if name in os.environ}
    home = {name: str(folder) for name in ("HOME", "TMPDIR", "MPLCONFIGDIR", "XDG_CACHE_HOME")}
    one_thread = {name: "1" for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
    own = {"PYTHONPATH": os.pathsep.join(roots), "PYTHONDONTWRITEBYTECODE": "1", PROFILE: "smoke"}
    return kept | home | one_thread | own


def _watch(process: subprocess.Popen[bytes], events: Path, limits: Limits, count: int, log: _Log) -> str | None:
    """Follow a worker to its end; the sentence says why it was stopped, or how it died."""
    began, ready, unread, at = time.monotonic(), None, b"", 0
    clock, cpu, baseline = 0.0, 0.0, 0
    while True:
        gone = process.poll() is not None
        with events.open("rb") as file:
            file.seek(at)
            new = file.read(EVENTS)
        at += len(new)
        *lines, unread = (unread + new).split(b"\n")
        used, memory = _used(process)
        now = time.monotonic()
        for line in lines:
            before = log.step
            log.take(line.decode(errors="replace"))
            if log.step != before:
                clock, cpu = now, used
        if log.step is not None and ready is None:
            ready, baseline = now, memory
        if log.ended:
            return None
        if gone:
            return _death(process.returncode, limits)
        if ready is None:
            if now - began > START:
                return f"it was not ready after {START:g} s."
            time.sleep(TICK)
            continue
        endless = now - ready > PATIENCE * limits.seconds * (count + 1)  # it pretends to begin something new
        if endless or used - cpu > limits.seconds or now - clock > PATIENCE * limits.seconds:
            return _too_long(log, limits)
        if memory - baseline > limits.memory_mib << 20:
            return f"It used more than {limits.memory_mib} MiB of memory; it was stopped."
        time.sleep(TICK)


def _too_long(log: _Log, limits: Limits) -> str:
    what = log.step if log.step else "The part with the definitions"
    return f"{what} did not end within {limits.seconds:g} s; it was stopped."


def _used(process: subprocess.Popen[bytes]) -> tuple[float, int]:
    """CPU seconds and bytes in memory of a process and those that it started."""
    seconds, memory = 0.0, 0
    with contextlib.suppress(psutil.Error):
        parent = psutil.Process(process.pid)
        for one in [parent, *parent.children(recursive=True)]:
            times = one.cpu_times()
            seconds += times.user + times.system + getattr(times, "children_user", 0.0)
            memory += one.memory_info().rss
    return seconds, memory


def _death(code: int, limits: Limits) -> str:
    if code < 0:
        with contextlib.suppress(ValueError):
            name = signal.Signals(-code).name
            if name == "SIGXCPU":
                return f"It used more CPU time than {limits.seconds:g} s a step; it was stopped."
            return f"It ended the process that graded it ({name})."
    return f"It ended the process that graded it (exit status {code})."


def _kill(process: subprocess.Popen[bytes]) -> None:
    """End a worker and what it has started, as far as that can be found."""
    with contextlib.suppress(psutil.Error):
        for child in psutil.Process(process.pid).children(recursive=True):
            with contextlib.suppress(psutil.Error):
                child.kill()
    if os.name == "posix":
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    process.kill()
    process.wait()


# --- the verdict -------------------------------------------------------------------------------------------------


def _items(page: str, name: str, seed: int | None, log: _Log, stopped: str | None) -> list[Item]:
    tries: dict[str, Exercise] = {"page": exercises(page)[name]}
    if seed is not None:
        tries["fresh"] = fresh(page, name, seed)
    found = []
    for kind, exercise in tries.items():
        right, reason = (False, stopped) if stopped else _verdict(exercise, log.tried.get((name, kind)), log.failed)
        found.append(Item(name, kind, right, f"Fresh cases. {reason}" if kind == "fresh" else reason))
    return found


def _verdict(exercise: Exercise, event: dict[str, Any] | None, failed: Sequence[str]) -> tuple[bool, str]:
    if event is None or event.get("missing"):
        why = f" ({'; '.join(failed[:3])})" if failed else ""
        return False, f"{exercise.name} is not defined{why}."
    try:
        if "stopped" in event:
            case, kind, message = event["stopped"]
            return False, " ".join(exercise.stopped(str(case), str(kind), str(message)).lines)
        results = {str(case): decode(value) for case, value in event["results"].items()}
        if list(results) != list(exercise.cases):
            raise ValueError("the cases are others")
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return False, f"{exercise.name}: what came back is no result; the submission wrote into the grader's file."
    verdict = exercise.compared(results)
    return verdict.right, " ".join(verdict.lines)
