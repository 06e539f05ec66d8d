"""The process in which a student's code runs: started by :mod:`.runner`, with its job on standard input.

It first loads what it trusts, draws the cases, and lets go of the right answers. Then it takes its limits and runs
the student's code. What happens is written line by line to a file, so that nothing is lost if the process is stopped;
the grader reads values from it and decides for itself.
"""

from __future__ import annotations

import dataclasses
import importlib
import json
import os
import sys
from pathlib import Path
from types import ModuleType
from typing import Any, TextIO

from ..exercises.exercise import Exercise
from ..exercises.fresh import exercises, fresh
from .submission import Piece
from .values import encode

OUTPUT = 64 * 2**20  # bytes that a submission may write to one file


def main() -> None:
    """Read the job, run it, write the events."""
    job = json.load(sys.stdin)
    trials = {name: prepared(job["page"], name, seed) for name, seed in job["trials"]}
    hide_answers(job["page"])
    limit(job["memory_mib"], job["seconds"] * (2 + len(trials)))
    with Path(job["events"]).open("a", encoding="utf-8") as events:
        run([Piece(*piece) for piece in job["pieces"]], trials, events)


def prepared(page: str, name: str, seed: int | None) -> dict[str, Exercise]:
    """The exercise with the page's cases and, given a seed, with fresh ones; without the right answer in both."""
    found = {"page": exercises(page)[name]}
    if seed is not None:
        found["fresh"] = fresh(page, name, seed)
    return {kind: dataclasses.replace(e, reference=_gone, mutants={}) for kind, e in found.items()}


def _gone(*_: Any) -> None:
    raise RuntimeError("the right answer is not here")


class _Anything(ModuleType):
    """Stands for ``check_NN`` while a student's code runs: every check of it does nothing."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return lambda *_, **__: True


def hide_answers(page: str) -> None:
    """Put empty modules in the place of those that hold answers."""
    package = importlib.import_module("vos_tutorial.course.exercises")
    answers = tuple(f"{package.__name__}.{kind}" for kind in ("check_", "fresh"))
    for name in [name for name in sys.modules if name.startswith(answers)]:
        del sys.modules[name]
        vars(package).pop(name.rpartition(".")[2], None)
    empty = _Anything(f"{package.__name__}.check_{page}")
    sys.modules[empty.__name__] = empty
    setattr(package, f"check_{page}", empty)
    package.__path__ = []  # nothing else of it can be imported


def limit(memory_mib: int, cpu_seconds: float) -> None:
    """Bound what this process may take from here on, where the system can (Linux and macOS; not Windows)."""
    try:
        import resource
    except ImportError:
        return
    bounds = {
        "RLIMIT_CPU": int(cpu_seconds) + 1 + int(sum(resource.getrusage(resource.RUSAGE_SELF)[:2])),
        "RLIMIT_FSIZE": OUTPUT,
        "RLIMIT_CORE": 0,
        "RLIMIT_DATA": (memory_mib << 20) + _data_bytes(),
    }
    for name, bound in bounds.items():
        kind = getattr(resource, name, None)
        if kind is not None:
            hard = resource.getrlimit(kind)[1]
            bound = bound if hard == resource.RLIM_INFINITY else min(bound, hard)
            resource.setrlimit(kind, (bound, bound))


def _data_bytes() -> int:
    """Memory of its own that this process has already; the libraries' part is not the student's."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return 4 << 30
    return sum(int(line.split()[1]) << 10 for line in lines if line.startswith("VmData:"))


def run(pieces: list[Piece], trials: dict[str, dict[str, Exercise]], events: TextIO) -> None:
    """Run the pieces in one namespace, then try each function on its cases; say each step before it begins."""

    def say(**event: Any) -> None:
        events.write(json.dumps(event) + "\n")
        events.flush()

    module = sys.modules["submission"] = ModuleType("submission")  # where its dataclasses look for their names
    space = vars(module)
    say(began="")
    for piece in pieces:
        try:
            exec(compile(piece.code, piece.where, "exec", dont_inherit=True), space)
        except BaseException as error:
            say(failed=piece.where, kind=type(error).__name__, message=_message(error))
    for name, by_kind in trials.items():
        say(began=name)
        for kind, exercise in by_kind.items():
            say(name=name, kind=kind, **tried(exercise, space.get(name)))
    say(ended=True)


def tried(exercise: Exercise, answer: Any) -> dict[str, Any]:
    """The results of all cases, or on which case the answer stopped, and how."""
    if not callable(answer):
        return {"missing": True}
    results = {}
    for case in exercise.cases:
        try:
            results[case] = encode(exercise.result(answer, case))
        except BaseException as error:
            return {"stopped": [case, type(error).__name__, _message(error)]}
    return {"results": results}


def _message(error: BaseException) -> str:
    try:
        return str(error)[:500]
    except BaseException:
        return ""


if __name__ == "__main__":
    main()
    os._exit(0)  # at once: taking torch down takes time that nobody needs
