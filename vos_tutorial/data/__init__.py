"""Clips and pictures: generated ones (``worlds``), and those of public data sets."""

from __future__ import annotations

from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
"""The folder that holds ``vos_tutorial/`` and ``notebooks/``; downloads go to ``CHECKOUT / "data"``."""
