"""What a run learned from, in a few words that can be compared: folders of data, and weights to start from."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import torch
from torch import nn

from ..errors import TutorialError


class Start(NamedTuple):
    """What a run starts from."""

    name: str = "random"
    """For the reader of a weights file."""
    identity: str = "random"
    """What must be the same when the run is resumed."""


def weights_identity(path: Path) -> str:
    """A digest of a weights file.

    Raises:
        TutorialError: if it cannot be read.
    """
    try:
        return "sha256 " + hashlib.sha256(path.read_bytes()).hexdigest()[:16]
    except OSError as error:
        raise TutorialError(f"cannot read the weights {path} ({error.strerror or error}); check the path.") from error


def data_identity(task: Any) -> dict[str, dict[str, Any]]:
    """The folders that a task's sources read, each with a digest of its files' names and sizes.

    A source says what it reads by what it holds: paths of files or folders, and lists of ``names``. Generated data
    hold neither: they are a function of the recipe and the seed.

    Returns:
        folder -> ``files`` (how many), ``digest`` and, where only named sequences are read, ``names`` (a digest).

    Raises:
        TutorialError: if a folder cannot be read.
    """
    found: dict[str, dict[str, Any]] = {}
    sources = [each for each in _leaves(vars(task)) if hasattr(each, "batch")]
    seen: set[int] = set()
    for paths, names in (reader for source in sources for reader in _readers(source, seen)):
        # of nested folders the inner ones are what is read
        within = {parent for path in paths for parent in path.parents}
        files = sorted(file for path in paths if path not in within for file in _files(path))
        if not files:
            continue
        folder = os.path.commonpath([path for path, _ in files])
        each = hashlib.sha256()
        for path, size in files:
            each.update(f"{os.path.relpath(path, folder)}\0{size}\n".encode())
        found[folder] = {"files": len(files), "digest": each.hexdigest()[:16]}
        if names:
            found[folder]["names"] = f"{len(names)}: {hashlib.sha256(chr(10).join(names).encode()).hexdigest()[:16]}"
    return found


def _readers(thing: Any, seen: set[int]) -> Iterator[tuple[list[Path], list[str]]]:
    """The paths and names that each object inside ``thing`` holds."""
    opaque = (type, ModuleType, nn.Module, torch.Tensor)
    if id(thing) in seen or isinstance(thing, opaque) or not hasattr(thing, "__dict__"):
        return
    seen.add(id(thing))
    held = vars(thing)
    paths = sorted({Path(os.path.abspath(path)) for path in _leaves(held) if isinstance(path, Path)})
    names = held.get("names")
    if paths:
        yield paths, [str(name) for name in names] if isinstance(names, (list, tuple)) else []
    for inner in _leaves(held):
        yield from _readers(inner, seen)


def _leaves(value: Any) -> Iterator[Any]:
    """What lies in nested containers."""
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, (list, tuple, set, frozenset)):
        for inner in value:
            yield from _leaves(inner)
    elif not isinstance(value, (str, bytes, int, float, type(None))):
        yield value


def _files(path: Path) -> list[tuple[str, int]]:
    """Files under a path (or the path itself) with their sizes; hidden ones apart, links followed once."""

    def complain(error: OSError) -> None:
        raise TutorialError(f"cannot read {error.filename} ({error.strerror}); check its permissions.") from error

    try:
        if not path.is_dir():
            return [(str(path), path.stat().st_size)] if path.exists() else []
        found, seen = [], set()
        for folder, inner, files in os.walk(path, onerror=complain, followlinks=True):
            real = os.path.realpath(folder)
            if real in seen:
                inner.clear()
                continue
            seen.add(real)
            inner[:] = [name for name in inner if not name.startswith(".")]
            whole = [os.path.join(folder, name) for name in files if not name.startswith(".")]
            found += [(name, os.stat(name).st_size) for name in whole if os.path.exists(name)]
        return found
    except OSError as error:
        complain(error)
        raise
