"""Where the clips of a task come from, by the names that a stage's ``source`` gives them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from ...data.batches import ClipSource
from ...data.sources.cutouts import MixedClips, photo_sources
from ...data.sources.generated import GeneratedClips, lifelike
from ...data.sources.simulated import SimulatedClips


class ClipTask:
    """What the tasks that learn from clips have in common.

    Args:
        simulated: clips made of stills; of generated ones by default.
        video: clips with real time; generated ones by default.
        photos: clips made of photographs, if there are any.
    """

    #: Clips that one method alone learns from.
    worlds: ClassVar[Mapping[str, ClipSource]] = {}

    def __init__(
        self,
        simulated: ClipSource | None = None,
        video: ClipSource | None = None,
        photos: MixedClips | None = None,
    ) -> None:
        self.sources: dict[str, ClipSource] = {
            "simulated": simulated if simulated is not None else SimulatedClips(),
            "video": video if video is not None else GeneratedClips(),
            "lifelike": lifelike(),
            **self.worlds,
            **photo_sources(photos),
        }
