"""Files that are there whole or not at all."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from .errors import TutorialError


def write_atomically(path: Path, data: bytes | memoryview) -> None:
    """Write ``path`` through a temporary file beside it, so that a reader never meets half of it.

    The temporary file's name is fixed (``<name>.tmp``): what a ``kill -9`` leaves is overwritten by the next try.

    Args:
        path: the file; its folder is made if missing.
        data: the content.

    Raises:
        TutorialError: if it cannot be written (full disk, no permission); an older file is intact then, and no
            temporary file is left.
    """
    temporary = path.with_name(path.name + ".tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException as error:
        with contextlib.suppress(OSError):  # the folder itself out of reach: then there is no temporary file either
            temporary.unlink(missing_ok=True)
        if not isinstance(error, OSError):
            raise
        kept = "the file that was there is intact" if path.exists() else "nothing was left there"
        raise TutorialError(
            f"cannot write {path} ({error.strerror or error}), {kept}; free some space, or choose another folder."
        ) from error
