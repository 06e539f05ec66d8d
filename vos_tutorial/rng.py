"""Random numbers that a seed fixes for good: every generated picture and every augmentation draws from these."""

from __future__ import annotations

from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


class Stream(IntEnum):
    """Who draws: the second integer of an :class:`Rng`, so that two who share a seed share no random numbers.

    A number belongs to its name for good: with another one, every clip and every training drawn from it would change.
    ``MIRROR`` came to the number of ``DISCS`` by mistake and keeps it for that reason; nothing draws from both, since
    STCNN never learns from discs. MaskTrack's online tuning has no stream: it counts steps and samples in these
    places, ``Rng(seed, step, sample)``.
    """

    SCENE = 1
    """A scene of the sprite world."""
    SHAKE = 2
    """Its camera shake."""
    STILL = 3
    """A moment and a target of a scene."""
    GUIDE = 4
    """MaskTrack's corrupted guides."""
    TARGET = 5
    """RGMP's choice of an object, a reference frame and the guides it loses."""
    BENCHMARK = 9
    """What the data benchmark asks of the sprite world."""
    SIMULATED = 11
    """Clips out of stills."""
    GENERATED = 12
    """Clips of the sprite world."""
    VIDEO = 13
    """Clips out of real video."""
    CAMOUFLAGE = 14
    FORK = 15
    DREAMS = 16
    """STCNN's lucid dreams of a first frame."""
    DISCS = 17
    CUTOUTS = 18
    """Clips of photographic cut-outs."""
    MIXED = 19
    """Which of several sources gives a clip."""
    ONE_OF_A_CLIP = 20
    """Which object of a clip's frame is a still's."""
    FED = 21
    """Which previous masks RVOS is fed: the true ones, its own, or none."""
    CAPTIONED = 22
    """A picture of the captioned world."""
    FLOW = 23
    """What a training of a flow draws beside its pictures: noise, times, and which words are left out."""
    GRADED = 40
    """Fresh cases of a graded exercise."""
    MIRROR = 17
    """STCNN's clips played backwards and turned."""


class Rng:
    """Uniform numbers from a seed; only ``random()`` is used, whose stream NumPy keeps between versions.

    Args:
        seed: one or more integers >= 0, the second one a :class:`Stream`. Other integers are another stream, zeros at
            the end apart, which NumPy's seeding does not see: ``Rng(5, 0)`` is ``Rng(5)``.
    """

    def __init__(self, *seed: int) -> None:
        self._rng = np.random.Generator(np.random.PCG64(seed))

    def uniform(self, low: float, high: float) -> float:
        """A float in [low, high)."""
        return low + (high - low) * float(self._rng.random())

    def pick(self, n: int) -> int:
        """An integer in 0..n-1."""
        return int(self._rng.random() * n)

    def sign(self) -> float:
        """-1 or +1."""
        return 1.0 if self._rng.random() < 0.5 else -1.0

    def chance(self, probability: float) -> bool:
        """True with the given probability."""
        return float(self._rng.random()) < probability

    def array(self, *shape: int) -> Array:
        """Uniform numbers in [0, 1) of the given shape."""
        return self._rng.random(shape)
