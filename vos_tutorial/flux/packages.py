"""diffusers and peft, loaded when they are needed and missed in one sentence."""

from __future__ import annotations

import importlib
import sys
from types import ModuleType

from ..errors import TutorialError
from ..places import install_command

NAMES = ("diffusers", "peft", "transformers")


def package(name: str) -> ModuleType:
    """One of the packages of the extra ``[flux]``.

    Raises:
        TutorialError: if it is not installed, or does not load.
    """
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise TutorialError(
            f"{error.name or name} is not installed in {sys.prefix}, and FLUX needs it; "
            f"run: {install_command('flux')}"
        ) from None
    except (ImportError, OSError, RuntimeError) as error:  # a broken binary; diffusers wraps its own import errors
        reason = str(error).strip().splitlines()[0]
        raise TutorialError(f"{name} does not load ({reason}); run: {install_command('flux')}") from error
