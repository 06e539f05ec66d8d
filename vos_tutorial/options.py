"""Options that come in as plain values (a recipe, ``--set``, a weights file) and leave checked.

What is allowed is written once, as annotations: ``frames: Annotated[int, Range(2)] = 3``. A kind is ``bool``,
``int``, ``float``, ``str``, a ``Literal``, another dataclass of options, a ``Sequence`` of these, a ``Mapping``, or
one of these ``| None``.
"""

from __future__ import annotations

import dataclasses
import math
import types
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, NamedTuple, TypeVar, Union, get_args, get_origin, get_type_hints

from .errors import TutorialError

T = TypeVar("T")


class Range(NamedTuple):
    """The values that a number may have, both ends included."""

    low: float
    high: float = math.inf

    def words(self) -> str:
        """For a sentence: ``use 2 or more``, ``use 0 to 1``."""
        return f"use {self.low:g} or more" if self.high == math.inf else f"use {self.low:g} to {self.high:g}"


def read(kind: type[T], given: Mapping[str, Any], where: str, reader: str) -> T:
    """A dataclass of options, filled from plain values; what is not given has its default.

    Args:
        kind: a dataclass with annotations as above.
        given: name -> value, as JSON has it.
        where: where the values come from; sentences begin with it.
        reader: who reads them, for the sentence about an unknown name.

    Raises:
        TutorialError: on an unknown name, a value of another kind, one that is out of range, or one that is missing
            and has no default.
    """
    hints = get_type_hints(kind, include_extras=True)
    require_known(given, list(hints), where, reader)
    missing = [
        each.name
        for each in dataclasses.fields(kind)  # type: ignore[arg-type]
        if each.name not in given and each.default is each.default_factory is dataclasses.MISSING
    ]
    if missing:
        raise TutorialError(f"{where}: {reader} has no {missing[0]!r}; it takes {', '.join(hints)}.")
    return kind(**{key: check(value, hints[key], key, where, reader) for key, value in given.items()})


def require_known(given: Mapping[str, Any], known: list[str], where: str, reader: str) -> None:
    """Raise TutorialError if a name is given that is none of those known."""
    unknown = [key for key in given if key not in known]
    if unknown:
        choice = f"choose from {', '.join(known)}" if known else "it has none"
        raise TutorialError(f"{where}: {reader} does not know the option {unknown[0]!r}; {choice}.")


def check(value: Any, hint: Any, key: str, where: str, reader: str) -> Any:
    """The value, if the annotation ``hint`` allows it; a mapping becomes the dataclass that is asked for.

    Raises:
        TutorialError: on another kind of value, or one that is out of range.
    """
    if get_origin(hint) is Annotated:
        hint, limit = get_args(hint)
        value = check(value, hint, key, where, reader)
        if value is not None and not limit.low <= value <= limit.high:
            raise TutorialError(f"{where}: {key} is {value}; {limit.words()}.")
        return value
    if get_origin(hint) in (Union, types.UnionType):
        if value is None:
            return None
        (hint,) = (one for one in get_args(hint) if one is not type(None))
        return check(value, hint, key, where, reader)
    if get_origin(hint) is Literal:
        if value not in get_args(hint):
            raise TutorialError(
                f"{where}: there is no {key} {value!r}; choose from {', '.join(map(str, get_args(hint)))}."
            )
        return value
    if get_origin(hint) in (Sequence, Mapping):
        if not isinstance(value, get_origin(hint)) or isinstance(value, str):
            what = "a list" if get_origin(hint) is Sequence else "a dictionary"
            raise TutorialError(f"{where}: {key} cannot be {value!r}; give {what}.")
        if get_origin(hint) is Sequence:
            return [check(each, get_args(hint)[0], key, where, reader) for each in value]
        return value
    if dataclasses.is_dataclass(hint) and isinstance(value, Mapping):
        assert isinstance(hint, type)
        return read(hint, value, where, reader)
    if not _fits(value, hint):
        raise TutorialError(f"{where}: {key} cannot be {value!r}; give {WORDS.get(hint, 'a dictionary')}.")
    return value


WORDS = {bool: "true or false", int: "a whole number", float: "a number", str: "a word"}


def is_plain(hint: Any) -> bool:
    """Whether :func:`check` knows the kind: values that JSON has, and no functions, networks or tensors."""
    if get_origin(hint) in (Annotated, Sequence):
        return is_plain(get_args(hint)[0])
    if get_origin(hint) in (Union, types.UnionType):
        return all(is_plain(one) for one in get_args(hint))
    return get_origin(hint) in (Literal, Mapping) or hint in (*WORDS, type(None))


def _fits(value: Any, kind: Any) -> bool:
    if kind is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    return type(value) is kind  # bool is no int here
