"""Widgets that move in the browser while the kernel works. Only notebooks import this package.

Each widget is one Python file and one plain ES module of the same name beside it, on anywidget. All data go to
the page once, as binary; from then on the page draws alone.
"""

from __future__ import annotations

from .attention_inspector import AttentionInspector
from .comparison_player import ComparisonPlayer
from .flow_explorer import FlowExplorer
from .grade_bench import GradeBench
from .guidance_switch import GuidanceSwitch
from .guide_bench import GuideBench
from .mask_painter import MaskPainter
from .mask_player import MaskPlayer
from .motion_lens import MotionLens
from .network_tour import NetworkTour
from .recurrence_grid import RecurrenceGrid, Rollout, ancestors

__all__ = [
    "AttentionInspector",
    "ComparisonPlayer",
    "FlowExplorer",
    "GradeBench",
    "GuidanceSwitch",
    "GuideBench",
    "MaskPainter",
    "MaskPlayer",
    "MotionLens",
    "NetworkTour",
    "RecurrenceGrid",
    "Rollout",
    "ancestors",
]
