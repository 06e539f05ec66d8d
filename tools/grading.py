"""Assignments for nbgrader, and a class of three students who do not exist to try them.

    python tools/grading.py build FOLDER [NAME ...]     a course folder with one assignment for each notebook
    python tools/grading.py try [NAME ...]              release, fetch, submit, autograde, feedback, grades

``try`` needs nbgrader (``pip install 'vos-tutorial[grading]'``). It works on a course folder of its own, so that no
made-up student comes into your gradebook.
"""

from __future__ import annotations

import argparse
import secrets
import shutil
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tools.course import assignments  # noqa: E402
from tools.notebooks import BuildError  # noqa: E402
from vos_tutorial.errors import TutorialError  # noqa: E402


def main(argv: list[str] | None = None) -> int:
    """Returns 0; 1 with a sentence on stderr, or where a made-up student did not get what is right."""
    parser = argparse.ArgumentParser(prog="tools/grading.py", description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    build = commands.add_parser("build", help="make a course folder for nbgrader")
    build.add_argument("folder", type=Path)
    build.add_argument("names", nargs="*", metavar="NAME", help="NN or appendix/NN; all if none is given")
    build.add_argument("--seed", type=int, help="of the fresh cases (default: a secret one)")
    attempt = commands.add_parser("try", help="grade three made-up students: right, blank, and wrong")
    attempt.add_argument("names", nargs="*", metavar="NAME", help="NN or appendix/NN; all if none is given")
    attempt.add_argument("--folder", type=Path, default=ROOT / "build" / "grading", help="where (build/grading)")
    options = parser.parse_args(argv)
    try:
        return _build(options) if options.command == "build" else _try(options)
    except (BuildError, TutorialError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


def _chosen(wanted: list[str]) -> list[str]:
    known = assignments.with_exercises()
    found = [next((k for k in known if k == name or k.startswith(f"{name}_")), name) for name in wanted]
    for name in set(found) - set(known):
        raise TutorialError(f"{name} is no notebook with exercises; there are {', '.join(known)}.")
    return found or known


def _build(options: argparse.Namespace) -> int:
    seed = options.seed if options.seed is not None else secrets.randbelow(2**31)
    made = assignments.build(options.folder, seed, _chosen(options.names))
    print(
        f"{len(made)} assignments in {options.folder}; next: cd {options.folder} && nbgrader generate_assignment NAME"
    )
    return 0


def _try(options: argparse.Namespace) -> int:
    try:
        from tools.course import synthetic_class as trial
    except ModuleNotFoundError as error:
        raise TutorialError(f"{error.name} is not installed; pip install 'vos-tutorial[grading]'.") from None
    names = _chosen(options.names)
    if options.folder.exists():
        if not (options.folder / trial.DESKS).is_dir():
            raise TutorialError(f"{options.folder} is no folder of an earlier try; choose another one with --folder.")
        shutil.rmtree(options.folder)
    assignments.build(options.folder, secrets.randbelow(2**31), names)
    api = trial.course(options.folder)
    for name in names:
        called, asked = assignments.assignment(name), assignments.asked(name)
        trial.release(api, called)
        trial.hand_in(api, called, asked)
        for student in trial.STUDENTS:
            trial.graded(api, called, student)
        mine = {key: value for key, value in trial.grades(api).items() if key[0] == called}
        print(called, *(f"{student} {score:g} of {of:g}" for (_, student), (score, of) in mine.items()), sep="  ")
    wrong = trial.unexpected(trial.grades(api))
    for line in wrong:
        print(f"error: {line}", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
