"""Command line: ``python -m vos_tutorial doctor | download | train | flux | compare | evaluate | track``."""

from __future__ import annotations

import importlib
import os
import sys
from types import ModuleType

from .errors import TutorialError
from .places import install_command

COMMANDS = {
    "doctor": ("vos_tutorial.doctor", "one page about this machine, and a fix for each problem"),
    "download": ("vos_tutorial.data.download", "fetch a public data set"),
    "train": ("vos_tutorial.training.command", "train a method by its recipe; resumes where it stopped"),
    "flux": ("vos_tutorial.flux.command", "distil FLUX.1-dev into a flow map: estimate, prepare, train, sample"),
    "compare": ("vos_tutorial.course.compare", "methods side by side: tables, pictures, and what failed"),
    "evaluate": ("vos_tutorial.evaluation", "run a method over a data set, export masks, print a table"),
    "track": ("vos_tutorial.video.command", "follow what a mask shows through your own video, export the result"),
}

BROKEN_PIPE = 141  # what a shell reports of a program that SIGPIPE ended


def usage() -> str:
    """The list of commands, one line each."""
    lines = ["usage: python -m vos_tutorial COMMAND [options]", ""]
    lines += [f"  {name:<10} {what}" for name, (_, what) in COMMANDS.items()]
    return "\n".join([*lines, "", "python -m vos_tutorial COMMAND --help lists the options."])


def load(command: str) -> ModuleType:
    """The module of a command.

    Raises:
        TutorialError: if a package that it needs is missing, or is there and does not load.
    """
    try:
        return importlib.import_module(COMMANDS[command][0])
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] == __package__:
            raise
        raise TutorialError(f"{error.name} is not installed in {sys.prefix}; run: {install_command()}") from None
    except (ImportError, OSError) as error:  # what a broken binary raises
        reason = str(error).strip().splitlines()[0]
        raise TutorialError(f"{command} cannot start ({reason}); python -m vos_tutorial doctor says more.") from error


def _close_output() -> None:
    """Let what is still to be printed go nowhere, or Python complains once more at exit."""
    if sys.stdout is not None:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def main(argv: list[str] | None = None) -> int:
    """Dispatch to ``main(argv)`` of the command's module; returns the exit status."""
    argv = sys.argv[1:] if argv is None else argv
    if not argv or argv[0] in ("-h", "--help"):
        print(usage())
        return 0
    if argv[0] not in COMMANDS:
        print(f"There is no command {argv[0]!r}.\n\n{usage()}", file=sys.stderr)
        return 2
    try:
        status = int(load(argv[0]).main(argv[1:]) or 0)
        if sys.stdout is not None:  # a shell's >&-
            sys.stdout.flush()
        return status
    except TutorialError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # the reader of our output has closed it, as `| head -1` does
        _close_output()
        return BROKEN_PIPE
    except OSError as error:  # what no command expects: our output goes to a full disk
        print(f"error: {error.filename or 'the output'}: {error.strerror or error}", file=sys.stderr)
        _close_output()
        return 2
    except KeyboardInterrupt:
        print("stopped; run the same command again to go on", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
