"""Trained weights on disk: safetensors, with what was trained and how in the metadata."""

from __future__ import annotations

import io
import json
import math
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from ..errors import TutorialError
from ..files import write_atomically


def save_weights(
    path: str | Path, network: nn.Module, metadata: Mapping[str, str], dtype: torch.dtype = torch.float32
) -> None:
    """Write a network's parameters and buffers to one safetensors file, atomically.

    Args:
        path: the file to write; its folder is made if missing.
        network: any network; its weights are not changed.
        metadata: strings; ``method`` and ``size`` must be among them.
        dtype: storage of the floating-point tensors. ``torch.float16`` halves the file; loading restores
            float32, rounded to 11 bits. Integer tensors keep their type.

    Raises:
        TutorialError: if ``method`` or ``size`` is missing, a value is NaN or overflows ``dtype``, or the file cannot
            be written; nothing half-written is left.
    """
    save_tensors(path, network.state_dict(), metadata, dtype)


def save_tensors(
    path: str | Path, named: Mapping[str, Tensor], metadata: Mapping[str, str], dtype: torch.dtype = torch.float32
) -> None:
    """Write tensors by name, as :func:`save_weights` does those of a network: for a part of one, such as adapters.

    Raises:
        TutorialError: as :func:`save_weights`.
    """
    path = Path(path)
    for key in ("method", "size"):
        if key not in metadata:
            raise TutorialError(
                f"the metadata of {path} has no {key!r}; add it, so that a reader can tell what it is."
            )
    tensors = {}
    for name, value in named.items():
        # A fresh contiguous copy: safetensors refuses views, shared memory and channels-last order.
        kind = dtype if value.is_floating_point() else value.dtype
        tensors[name] = value.detach().to("cpu", kind, copy=True, memory_format=torch.contiguous_format)
        if not torch.isfinite(tensors[name]).all():
            raise TutorialError(f"{name} is NaN or infinite as {kind}, so {path} was not written; train again.")
    write_atomically(path, save(tensors, metadata={key: str(value) for key, value in metadata.items()}))


@dataclass(frozen=True)
class About:
    """What a weights file says of itself.

    Attributes:
        path: the file.
        method: whose network it is.
        size: ``"small"`` or ``"paper"``.
        options: of the network, ``models.build(method, size, **options)``.
        lines: the shorter side of a video, in pixels, at which the network works best; None: the video's own.
        enlarge: how many times a smaller video is enlarged at most, towards ``lines``; 1: it stays as it is.
        tuning: steps of tuning to frame 0 that it needs.
        segmenter: options of the segmenter with which it was measured, where they are not the segmenter's own.
        metadata: all that the file says, as it says it.
    """

    path: Path
    method: str
    size: str
    options: dict[str, Any]
    lines: int | None
    enlarge: float
    tuning: int
    segmenter: dict[str, Any]
    metadata: dict[str, str]

    def require_method(self, name: str) -> None:
        """Raise TutorialError unless the file holds a network of that method."""
        if self.method in ("", "unknown"):
            raise TutorialError(
                f"{self.path} does not say which method it is of; take a file that python -m vos_tutorial train "
                "wrote."
            )
        if self.method != name:
            raise TutorialError(
                f"{self.path} is of another method: it holds weights of {self.method}, not of {name}; "
                f"ask for {self.method}."
            )


#: Lines and tuning steps that go without saying in files from before the metadata had them: small networks saw real
#: video at 128 lines, and STCNN was tuned for 60 steps.
UNSAID = {"small": "128"}
UNSAID_TUNING = {"stcnn": "60"}


def read_about(path: str | Path) -> About:
    """What a weights file says of itself; its tensors are not read.

    Raises:
        TutorialError: if the file is missing, truncated or not safetensors, or what it says cannot be understood.
    """
    path, metadata = Path(path), read_metadata(path)
    method, size = metadata.get("method", "unknown"), metadata.get("size", "small")
    options = _dictionary(path, metadata, "options", "the network's options")
    measured = _dictionary(path, metadata, "segmenter", "the segmenter's options")
    lines = _number(path, metadata, "lines", UNSAID.get(size, "0"))
    tuning = _number(path, metadata, "tuning", UNSAID_TUNING.get(method, "0") if size == "small" else "0")
    enlarge = _factor(path, metadata, "enlarge")
    return About(path, method, size, options, lines or None, enlarge, tuning, measured, metadata)


def _dictionary(path: Path, metadata: Mapping[str, str], key: str, what: str) -> dict[str, Any]:
    """A JSON dictionary out of the metadata; an empty one where there is none."""
    try:
        found = json.loads(metadata.get(key) or "{}")
        if not isinstance(found, dict):
            raise ValueError(f"{found!r} is no dictionary")
    except ValueError as error:
        raise TutorialError(
            f"{path}: {what} in its metadata cannot be read ({error}); copy or train it again."
        ) from error
    return found


def _number(path: Path, metadata: Mapping[str, str], key: str, unsaid: str) -> int:
    """A whole number >= 0 out of the metadata; ``lines`` is 0 for a video's own."""
    text = metadata.get(key, unsaid)
    if not (text.isascii() and text.isdigit()):
        raise TutorialError(f"{path}: {key} is {text!r} in its metadata, and must be a whole number; train it again.")
    return int(text)


def _factor(path: Path, metadata: Mapping[str, str], key: str) -> float:
    """A number >= 1 out of the metadata; 1 where there is none, as in files from before they had it."""
    text = metadata.get(key, "1")
    try:
        factor = float(text)
    except ValueError:
        factor = math.nan
    if not 1 <= factor < math.inf:
        raise TutorialError(f"{path}: {key} is {text!r} in its metadata, and must be 1 or more; train it again.")
    return factor


def read_metadata(path: str | Path) -> dict[str, str]:
    """The metadata of a safetensors file.

    Raises:
        TutorialError: if the file is missing, truncated or not safetensors.
    """
    return _read(Path(path), tensors=False)[1]


def read_weights(path: str | Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors of a file written by :func:`save_weights`, and its metadata.

    Raises:
        TutorialError: if the file is missing, truncated or not safetensors.
    """
    return _read(Path(path), tensors=True)


def _read(path: Path, tensors: bool) -> tuple[dict[str, Tensor], dict[str, str]]:
    try:
        if not path.is_file():
            raise TutorialError(
                f"there is no weights file {path}; train it (python -m vos_tutorial train), or check the path."
            )
        with open(path, "rb") as opened:
            begin = opened.read(10)
    except OSError as error:
        raise TutorialError(f"cannot read {path} ({error.strerror or error}); check its permissions.") from error
    try:
        with safe_open(path, framework="pt") as file:
            metadata = dict(file.metadata() or {})
            names = file.keys() if tensors else ()
            method = metadata.get("method", "")
            return {_new_name(name, method): file.get_tensor(name) for name in names}, metadata
    except (SafetensorError, OSError) as error:
        # Eight bytes of length, then JSON: a file that begins so and cannot be read has lost its end. It is asked
        # first, for the length may begin as a pickle does.
        ours = begin[8:] == b'{"'
        if not ours and begin.startswith((b"PK", b"\x80")):
            raise TutorialError(f"{path} is not a safetensors file, but {_pytorch_file(path)}") from error
        what = "is cut short or damaged" if ours else "is not a safetensors file"
        raise TutorialError(f"{path} {what} ({error}); copy or train it again.") from error


def _pytorch_file(path: Path) -> str:
    """What lies in a file of ``torch.save``, and the way on; nothing in it is run."""
    official = f"load it with vos_tutorial.models.official.load_official(METHOD, {str(path)!r})"
    try:
        held = torch.load(io.BytesIO(path.read_bytes()), map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, ValueError, KeyError, TypeError, pickle.UnpicklingError):
        return f"one of PyTorch; if a paper's authors released it, {official}."
    if isinstance(held, Mapping) and {"plan", "stage", "network"} <= held.keys():
        beside = path.with_name("weights.safetensors")
        return f"the checkpoint of a training; let it finish, and use its weights ({beside})."
    if isinstance(held, Mapping) and "state_dict" in held:
        return f"one of PyTorch, with the weights under 'state_dict'; if a paper's authors released it, {official}."
    return f"one of PyTorch; if a paper's authors released it, {official}."


def load_weights(path: str | Path, network: nn.Module) -> dict[str, str]:
    """Fill a network with weights written by :func:`save_weights`; every tensor must be there and fit.

    The network keeps its own dtype and device: weights stored as float16 become float32 in a float32 network.

    Args:
        path: a safetensors file.
        network: a network of the class and size that was saved. It is unchanged if an error is raised.

    Returns:
        the metadata, with ``method`` and ``size``.

    Raises:
        TutorialError: if the file is missing, truncated, not safetensors, of another method or size, or holds NaN.
    """
    tensors, metadata = read_weights(path)
    named = f"{path} ({metadata.get('method', 'unknown method')}, {metadata.get('size', 'unknown size')})"
    require_fit(tensors, network, named)
    for name, value in tensors.items():
        if not torch.isfinite(value).all():  # they would answer "all background" without a word
            raise TutorialError(f"{path}: {name} holds NaN or infinite numbers; copy or train it again.")
    network.load_state_dict(tensors)
    return metadata


OLD_NAMES = {
    "masktrack": {
        "body.stem.": "body.encoder.stem.",
        "body.first.": "body.encoder.first.",
        "body.down.": "body.encoder.down.",
        "body.bottom.": "body.encoder.last.",
    }
}
"""By method, how tensors' names began in files that were written before 2026-11-29, and how they begin now."""


def _new_name(name: str, method: str) -> str:
    for old, new in OLD_NAMES.get(method, {}).items():
        if name.startswith(old):
            return new + name.removeprefix(old)
    return name


def require_fit(tensors: Mapping[str, Tensor], network: nn.Module, source: str) -> None:
    """Raise TutorialError unless ``tensors`` has the names, shapes and kinds (floats or not) of the network's state.

    Args:
        tensors: name -> tensor of any dtype.
        network: the network that shall take them.
        source: what the tensors are, for the sentence.
    """
    own = network.state_dict()
    kind = type(network).__name__
    shared = [name for name in own if name in tensors]
    if 2 * len(shared) < len(own):
        raise TutorialError(
            f"{source} is of another method: it shares {len(shared)} of {len(own)} tensor names with {kind}; "
            "build the network that the file names."
        )
    for name in shared:
        if own[name].is_floating_point() != tensors[name].is_floating_point():
            raise TutorialError(
                f"{source} is not what {kind} learns: {name} is {tensors[name].dtype} there and {own[name].dtype} in "
                "the network; copy or train it again."
            )
        if own[name].shape != tensors[name].shape:
            raise TutorialError(
                f"{source} is of another size: {name} has shape {list(tensors[name].shape)} there and "
                f"{list(own[name].shape)} in {kind}; build the network with the size that the file names."
            )
    differing = [name for name in own if name not in tensors] + [name for name in tensors if name not in own]
    if differing:
        where = "the file" if differing[0] in own else kind
        raise TutorialError(
            f"{source} is of another version or size of {kind}: {where} has no {differing[0]!r}; "
            "build the network as it was when the file was saved."
        )


def start_with(tensors: Mapping[str, Tensor], network: nn.Module) -> None:
    """Give a network the weights of another one; TutorialError, as :func:`require_fit`, if they do not fit."""
    require_fit(tensors, network, "the network to start from")
    network.load_state_dict(tensors)
