"""Clips and pictures: drawn ones (``worlds``), those of public data sets, and what a training sees (``sources``)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .worlds.sprites import make_clip as make_clip


def __getattr__(name: str) -> Any:
    """``vos_tutorial.data.make_clip``, loaded when it is first asked for: the package itself stays light."""
    if name == "make_clip":
        from .worlds.sprites import make_clip

        return make_clip
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
