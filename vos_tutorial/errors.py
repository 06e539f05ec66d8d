"""The one exception a learner meets: a sentence that names the thing, the value and the fix."""

from __future__ import annotations


class TutorialError(Exception):
    """A mistake at the edge of the package (a file, an argument, a download), told in one sentence.

    The command line prints the message alone and leaves with status 2; IPython shows the message
    without a traceback, because every line of the traceback would be ours and none the reader's.
    """

    def _render_traceback_(self) -> list[str]:  # the hook IPython asks before it prints a traceback
        return [f"{type(self).__name__}: {self}"]
