"""Checks a learner calls: each prints one line that says what is right, or what differs and what to do.

The lines are the same on every machine (no float of a trained network is printed while all is well), so they can
stand in cells whose output is compared. A check returns ``True`` or ``False`` and does not raise on a wrong
answer unless ``stop=True``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from ..errors import TutorialError

__all__ = ["between", "close", "difference", "equal", "shapes"]


def _say(line: str, good: bool, stop: bool) -> bool:
    if stop and not good:
        raise TutorialError(line)
    print(line)
    return good


def _is_array(value: Any) -> bool:
    return isinstance(value, (Tensor, np.ndarray, np.generic))


def _number(value: float | int | bool) -> str:
    return str(value) if isinstance(value, (bool, int)) else f"{value:.6g}"


def _array_difference(mine: np.ndarray, reference: np.ndarray, atol: float) -> str | None:
    if mine.shape != reference.shape:
        return f"your shape is {list(mine.shape)}, expected {list(reference.shape)}"
    kinds = {mine.dtype.kind, reference.dtype.kind}
    if (mine.dtype.kind == "b") != (reference.dtype.kind == "b"):
        return f"your dtype is {mine.dtype}, expected {reference.dtype}"
    if not kinds <= set("biuf"):
        return None if np.array_equal(mine, reference) else "the values differ"
    a, b = mine.astype(np.float64), reference.astype(np.float64)
    wrong = ~np.isclose(a, b, rtol=0, atol=atol, equal_nan=True)
    if not wrong.any():
        return None
    where = tuple(int(i) for i in np.argwhere(wrong)[0])
    pair = f"yours {_number(mine[where].item())}, expected {_number(reference[where].item())}"
    if mine.ndim == 0:
        return pair
    return f"first at {list(where)}: {pair} ({int(wrong.sum())} of {wrong.size} values differ)"


def difference(mine: Any, reference: Any, atol: float = 0.0) -> str | None:
    """What differs between an answer and the expected one, in words; ``None`` if nothing does.

    Args:
        mine: the learner's value: tensor, array, number, string, or a tuple, list or dict of such.
        reference: the expected value.
        atol: the largest absolute difference of numbers that counts as none. NaN equals NaN.
    """
    if mine is None and reference is not None:
        return "you returned None; end the function with a return"
    if _is_array(reference) or _is_array(mine):
        plain = (Tensor, np.ndarray, np.generic, bool, int, float, list, tuple)
        if not isinstance(mine, plain) or not isinstance(reference, plain):
            return f"yours is a {type(mine).__name__}, expected a {type(reference).__name__}"
        try:
            arrays = [np.asarray(v.detach().cpu() if isinstance(v, Tensor) else v) for v in (mine, reference)]
        except (ValueError, TypeError):
            return f"your {type(mine).__name__} does not form one array"
        return _array_difference(arrays[0], arrays[1], atol)
    if isinstance(reference, (bool, int, float)):
        if not isinstance(mine, (bool, int, float)):
            return f"yours is a {type(mine).__name__}, expected a number"
        return _array_difference(np.asarray(mine, np.float64), np.asarray(reference, np.float64), atol)
    if isinstance(reference, (list, tuple)):
        if not isinstance(mine, (list, tuple)):
            return f"yours is a {type(mine).__name__}, expected a {type(reference).__name__}"
        if len(mine) != len(reference):
            return f"yours has {len(mine)} parts, expected {len(reference)}"
        for index, (a, b) in enumerate(zip(mine, reference, strict=True)):
            found = difference(a, b, atol)
            if found:
                return f"part {index}: {found}"
        return None
    if isinstance(reference, Mapping):
        if not isinstance(mine, Mapping):
            return f"yours is a {type(mine).__name__}, expected a dict"
        if set(mine) != set(reference):
            return f"your keys are {sorted(map(str, mine))}, expected {sorted(map(str, reference))}"
        for key in reference:
            found = difference(mine[key], reference[key], atol)
            if found:
                return f"at {key!r}: {found}"
        return None
    return None if mine == reference else f"yours {mine!r}, expected {reference!r}"


def close(name: str, mine: Any, reference: Any, atol: float = 1e-6, stop: bool = False) -> bool:
    """Compare numbers up to ``atol``; prints ``name: agrees, no difference above 1e-06`` or where they part.

    Two correct programs rarely agree in the last bits, and whether they do depends on the machine. So the line
    names the tolerance and not the difference. Use :func:`equal` where the bits must agree.

    Args:
        name: what the line begins with.
        mine: the learner's value; anything :func:`difference` takes.
        reference: the expected value.
        atol: the largest absolute difference allowed.
        stop: raise :class:`TutorialError` instead of printing, if they differ.
    """
    found = difference(mine, reference, atol)
    if found is None:
        return _say(f"{name}: agrees, no difference above {atol:g}", True, stop)
    return _say(f"{name}: differs, {found}.", False, stop)


def equal(name: str, mine: Any, reference: Any, stop: bool = False) -> bool:
    """Compare exactly; prints ``name: exact`` or where they part. Arguments as in :func:`close`."""
    found = difference(mine, reference)
    return _say(f"{name}: exact" if found is None else f"{name}: differs, {found}.", found is None, stop)


def between(name: str, value: float | Tensor, low: float, high: float, hint: str = "", stop: bool = False) -> bool:
    """A claim about a measured number; prints ``name: ok`` and not the number, which differs by machine.

    Args:
        name: the claim, in words: ``"the loss fell by half"``.
        value: a number, or a tensor with one element.
        low: the smallest value for which the claim holds.
        high: the largest one.
        hint: what to do otherwise.
        stop: raise :class:`TutorialError` if the claim does not hold.
    """
    number = float(value)
    if low <= number <= high:
        return _say(f"{name}: ok", True, stop)
    line = f"{name}: not so, {_number(number)} is outside [{_number(low)}, {_number(high)}]."
    return _say(f"{line} {hint}".rstrip(), False, stop)


def shapes(**tensors: Tensor | tuple[Tensor, str]) -> bool:
    """Print a shape a line, next to the names of its axes: ``query  B C h w = 1 64 12 12``.

    A letter stands for one size: where two tensors of the call disagree about a letter, the line says so.

    Args:
        tensors: ``name=tensor``, or ``name=(tensor, "B C h w")``; anything with a ``shape`` will do.
            A number among the letters must match: ``"B 3 H W"``.

    Returns:
        ``True`` if each tensor has as many axes as letters, and each letter has one size.
    """
    width = max((len(name) for name in tensors), default=0)
    known: dict[str, tuple[int, str]] = {}
    good = True
    for name, value in tensors.items():
        tensor, letters = value if isinstance(value, tuple) else (value, "")
        sizes = [int(size) for size in tensor.shape]
        axes = letters.split()
        line = f"{name:<{width}}  {letters} = {' '.join(map(str, sizes))}" if axes else f"{name:<{width}}  {sizes}"
        problem = _axis_problem(name, sizes, axes, known) if axes else ""
        good = good and not problem
        print(line + problem)
    return good


def _axis_problem(name: str, sizes: Sequence[int], axes: Sequence[str], known: dict[str, tuple[int, str]]) -> str:
    if len(axes) != len(sizes):
        return f"  <- {len(sizes)} axes, but {len(axes)} letters"
    for axis, size in zip(axes, sizes, strict=True):
        if axis.isdigit():
            if int(axis) != size:
                return f"  <- this axis must be {axis}, it is {size}"
        elif known.setdefault(axis, (size, name))[0] != size:
            return f"  <- {axis} is {size} here, but {known[axis][0]} in {known[axis][1]}"
    return ""
