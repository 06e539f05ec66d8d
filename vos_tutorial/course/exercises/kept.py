"""Answers that are kept as their results, so that checks can be handed out without the solutions.

The students' archive of the course holds each ``check_NN.py`` with :class:`Kept` in the place of the right answer and
of the known wrong ones; what they give for each case lies beside it, in ``check_NN.json``. A check compares results
either way, so it says the same.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor


class Kept:
    """The results of an answer: :attr:`results` holds one for each case. It cannot be called.

    Args:
        module: the name of the file, such as ``check_05``.
        exercise: the name of the exercise.
        answer: ``""`` for the right answer, else the name of the wrong one.
        folder: where the file is; beside this module if not given.
    """

    def __init__(self, module: str, exercise: str, answer: str = "", folder: Path = Path(__file__).parent) -> None:
        self._file, self._exercise, self._answer = folder / f"{module}.json", exercise, answer

    @functools.cached_property
    def results(self) -> Mapping[str, Any]:
        """``{case: result}``."""
        stored = json.loads(self._file.read_text(encoding="utf-8"))[self._exercise][self._answer]
        return {case: unpack(result) for case, result in stored.items()}

    def __call__(self, *arguments: Any) -> Any:
        """Only the results were kept."""
        raise NotImplementedError("this copy of the course comes without solutions")


def pack(value: Any) -> Any:
    """A result as JSON can hold it: tensors, arrays, numbers, strings, and tuples, lists and dicts of such.

    Raises:
        TypeError: for anything else.
    """
    if isinstance(value, Tensor):
        plain = value.detach().cpu()
        return {
            "tensor": str(plain.dtype).removeprefix("torch."),
            "shape": list(plain.shape),
            "values": plain.flatten().tolist(),
        }
    if isinstance(value, np.generic):
        return {"scalar": str(value.dtype), "value": value.item()}
    if isinstance(value, np.ndarray):
        return {"array": str(value.dtype), "shape": list(value.shape), "values": value.ravel().tolist()}
    if isinstance(value, tuple):
        return {"tuple": [pack(item) for item in value]}
    if isinstance(value, list):
        return [pack(item) for item in value]
    if isinstance(value, Mapping):
        return {"dict": [[pack(key), pack(item)] for key, item in value.items()]}
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise TypeError(f"a result of the kind {type(value).__name__} cannot be kept")


def unpack(value: Any) -> Any:
    """The inverse of :func:`pack`."""
    if isinstance(value, list):
        return [unpack(item) for item in value]
    if not isinstance(value, dict):
        return value
    if "tensor" in value:
        return torch.tensor(value["values"], dtype=getattr(torch, value["tensor"])).reshape(value["shape"])
    if "scalar" in value:
        return np.dtype(value["scalar"]).type(value["value"])
    if "array" in value:
        return np.array(value["values"], dtype=value["array"]).reshape(value["shape"])
    if "tuple" in value:
        return tuple(unpack(item) for item in value["tuple"])
    return {unpack(key): unpack(item) for key, item in value["dict"]}
