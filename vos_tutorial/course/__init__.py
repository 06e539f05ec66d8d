"""The notebooks' side: exercises and their checks, figures, widgets, the list of lessons.

It needs the packages of the extra ``course``; the rest of the library does without them.

Raises:
    TutorialError: when it is imported where one of them is missing.
"""

import importlib
import sys

from ..errors import TutorialError
from ..places import install_command

for _name in ("IPython", "anywidget", "matplotlib", "traitlets"):
    try:
        importlib.import_module(_name)
    except ModuleNotFoundError as _error:
        raise TutorialError(
            f"{_error.name} is not installed in {sys.prefix}; run: {install_command('course')}"
        ) from None
