"""How a simplified version of a notebook agrees with the library.

A notebook cell tagged ``variant-of:vos_tutorial.module.name`` defines a naive version on purpose: slower, or for
one case only. Here stands, under the same ``vos_tutorial.module.name``, the function that makes random inputs
from ``seed``, calls both and asserts that they agree::

    def region_similarity(variant, library, seed):
        masks = torch.rand(2, 3, 5, 5, generator=torch.Generator().manual_seed(seed)) > 0.5
        torch.testing.assert_close(variant(*masks), library(*masks))

    VARIANTS = {"vos_tutorial.metrics.region_similarity": region_similarity}

``tests/test_notebooks_in_step.py`` calls it with several seeds, and fails if a tag has no entry here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

VARIANTS: dict[str, Callable[[Any, Any, int], None]] = {}
