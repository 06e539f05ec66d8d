"""What each method learns: a batch and a loss, one file per paper (see ``vos_tutorial.training.loop.Task``)."""

from __future__ import annotations

import importlib
from typing import Any

from ...models import require_method


def task(name: str, **options: Any) -> Any:
    """A method's training task; ``options`` are the sources of its data, see the method's own ``task``.

    Raises:
        TutorialError: on an unknown method.
    """
    return importlib.import_module(f"{__name__}.{require_method(name)}").task(**options)
