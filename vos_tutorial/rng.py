"""Random numbers that a seed fixes for good: every generated picture and every augmentation draws from these."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


class Rng:
    """Uniform numbers from a seed; only ``random()`` is used, whose stream NumPy keeps between versions.

    Args:
        seed: one or more integers >= 0. Other integers are another stream, zeros at the end apart, which NumPy's
            seeding does not see: ``Rng(5, 0)`` is ``Rng(5)``.
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
