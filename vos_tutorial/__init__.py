"""Video object segmentation, built step by step: the finished form of what the notebooks build.

>>> from vos_tutorial import Clip, propagate, segmenter
>>> ids = propagate(segmenter("stm"), clip.frames, clip.first_mask)  # uint8 [T, H, W]
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from .errors import TutorialError

if TYPE_CHECKING:
    from .clip import Clip
    from .models import segmenter
    from .propagation import propagate, propagate_stream

__version__ = "0.1.0"
__all__ = ["Clip", "TutorialError", "propagate", "propagate_stream", "segmenter"]

# Loaded when first asked for: `python -m vos_tutorial doctor` must run where torch does not.
_HOMES = {"Clip": "clip", "propagate": "propagation", "propagate_stream": "propagation", "segmenter": "models"}


def __getattr__(name: str) -> Any:
    """PEP 562: import a public name from its module the first time somebody asks for it."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f".{_HOMES[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
