"""Products of matrices, as blocks whose sides are as long as the shapes say: equal sides, equal numbers."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from ...errors import TutorialError
from ...models import stm
from .diagrams import Arrow, Block, Diagram, Operation, Part, Sign


def read(query_key: Tensor, memory_key: Tensor, memory_value: Tensor, penalty: float = 0.0) -> Diagram:
    """The read of a key-value memory: scores, softmax over the memory, weighted mean of the values.

    Args:
        query_key: ``float [Ck, h, w]``.
        memory_key: ``float [Ck, T, h, w]``.
        memory_value: ``float [Cv, T, h, w]``.
        penalty: see :func:`vos_tutorial.models.stm.scores`.

    Raises:
        TutorialError: if the shapes do not go together.
    """
    if memory_key.shape[0] != query_key.shape[0] or memory_key.shape[1:] != memory_value.shape[1:]:
        raise TutorialError(
            f"the query's key {list(query_key.shape)}, the memory's key {list(memory_key.shape)} and value "
            f"{list(memory_value.shape)} must be [Ck, h, w], [Ck, T, h, w] and [Cv, T, h, w]."
        )
    weights = stm.attention(query_key.detach()[None], memory_key.detach()[None], penalty)[0]  # [T*h*w, h*w]
    (ck, places), (cv, asked) = memory_key.flatten(1).shape, (memory_value.shape[0], query_key[0].numel())
    memory, query = ("T·h·w", places), ("h·w", asked)
    key, value = ("Ck", ck), ("Cv", cv)
    parts: dict[str, Part] = {
        "K": Block("Kᵀ", "memory", sides=(memory, key), note="memory keys"),
        "times": Sign("×"),
        "Q": Block("Q", "memory", sides=(key, query), note="query keys"),
        "equals": Sign("="),
        "S": Block("S", "input", sides=(memory, query), note="scores"),
        "softmax": Operation("softmax\nover memory", "memory"),
        "A": Block("A", "memory", sides=(memory, query), note="columns sum to 1", surface=_shades(weights)),
        "V": Block("V", "value", sides=(value, memory), note="memory values"),
        "times2": Sign("×"),
        "A2": Block("A", "memory", sides=(memory, query), note="the same", surface=_shades(weights)),
        "equals2": Sign("="),
        "F": Block("found", "value", sides=(value, query), note="what is read"),
    }
    layout = """
        K times Q equals S softmax A
        V times2 A2 equals2 F . .
    """
    return Diagram("the read as matrices", parts, layout, [Arrow("S", "softmax"), Arrow("softmax", "A")])


def _shades(weights: Tensor) -> np.ndarray:
    """Weights over their whole range, by their root, so that more than the strongest shows; at most 160 a side."""
    rows, columns = (max(1, -(-n // 160)) for n in weights.shape)
    root = weights.float().sqrt().cpu().numpy()
    h, w = root.shape[0] // rows * rows, root.shape[1] // columns * columns
    pooled = root[:h, :w].reshape(h // rows, rows, w // columns, columns).max(axis=(1, 3))
    return pooled / max(float(pooled.max()), 1e-9)
