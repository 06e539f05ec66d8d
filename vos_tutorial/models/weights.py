"""Trained weights on disk: safetensors, with what was trained and how in the metadata."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

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
    path = Path(path)
    for key in ("method", "size"):
        if key not in metadata:
            raise TutorialError(
                f"the metadata of {path} has no {key!r}; add it, so that a reader can tell what it is."
            )
    tensors = {}
    for name, value in network.state_dict().items():
        # A fresh contiguous copy: safetensors refuses views, shared memory and channels-last order.
        kind = dtype if value.is_floating_point() else value.dtype
        tensors[name] = value.detach().to("cpu", kind, copy=True, memory_format=torch.contiguous_format)
        if not torch.isfinite(tensors[name]).all():
            raise TutorialError(f"{name} is NaN or infinite as {kind}, so {path} was not written; train again.")
    write_atomically(path, save(tensors, metadata={key: str(value) for key, value in metadata.items()}))


def read_weights(path: str | Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors of a file written by :func:`save_weights`, and its metadata.

    Raises:
        TutorialError: if the file is missing, truncated or not safetensors.
    """
    path = Path(path)
    if not path.is_file():
        raise TutorialError(
            f"there is no weights file {path}; train it (python -m vos_tutorial train), or check the path."
        )
    try:
        with safe_open(path, framework="pt") as file:
            metadata = dict(file.metadata() or {})
            names = {name: _new_name(name, metadata.get("method", "")) for name in file.keys()}  # noqa: SIM118 - not a dict
            return {new: file.get_tensor(name) for name, new in names.items()}, metadata
    except (SafetensorError, OSError) as error:
        # Eight bytes of length, then JSON: a file that begins so and cannot be read has lost its end.
        what = "is cut short" if _begins_like_safetensors(path) else "is not a safetensors file"
        raise TutorialError(f"{path} {what} ({error}); copy or train it again.") from error


def load_weights(path: str | Path, network: nn.Module) -> dict[str, str]:
    """Fill a network with weights written by :func:`save_weights`; every tensor must be there and fit.

    The network keeps its own dtype and device: weights stored as float16 become float32 in a float32 network.

    Args:
        path: a safetensors file.
        network: a network of the class and size that was saved. It is unchanged if an error is raised.

    Returns:
        the metadata, with ``method`` and ``size``.

    Raises:
        TutorialError: if the file is missing, truncated, not safetensors, or of another method or size.
    """
    tensors, metadata = read_weights(path)
    named = f"{path} ({metadata.get('method', 'unknown method')}, {metadata.get('size', 'unknown size')})"
    require_fit(tensors, network, named)
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


def _begins_like_safetensors(path: Path) -> bool:
    with open(path, "rb") as file:
        return file.read(10)[8:] == b'{"'


def require_fit(tensors: Mapping[str, Tensor], network: nn.Module, source: str) -> None:
    """Raise TutorialError unless ``tensors`` has exactly the names and shapes of the network's state.

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
