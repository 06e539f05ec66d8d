"""The authors' released weights in our classes: :func:`load_official`.

A network of ours at paper size *is* the authors' network; only the tensors have other names, and sometimes another
cut. For each method a function turns the state dict of theirs into one of ours.
"""

from __future__ import annotations

import os
import pickle
import re
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import TutorialError
from . import build
from .backbones import ResNetEncoder

# ------------------------------------------------------------------------------------------------------- RGMP

#: Beginnings of our names and of theirs. The decoder's levels count from fine to coarse in the heads, and in the
#: order of the work, from coarse to fine, in the refinement.
RGMP_NAMES: dict[str, str] = {
    r"encoder\.bn1\.": "Encoder.bn1.",
    r"decoder\.compare\.left\.": "Decoder.GC.conv_l2.",
    r"decoder\.compare\.right\.": "Decoder.GC.conv_r2.",
    r"decoder\.compare\.left_(target|reference)\.": "Decoder.GC.conv_l1.",
    r"decoder\.compare\.right_(target|reference)\.": "Decoder.GC.conv_r1.",
    r"decoder\.residual\.conv1\.": "Decoder.convG1.",
    r"decoder\.residual\.conv2\.": "Decoder.convG2.",
    **{rf"encoder\.layers\.{i}\.": f"Encoder.res{i + 2}." for i in range(4)},
    **{rf"decoder\.heads\.{i}\.": f"Decoder.pred{i + 2}." for i in range(4)},
    **{
        rf"decoder\.refine\.{i}\.{ours}\.": f"Decoder.RF{4 - i}.{theirs}."
        for i in range(3)
        for ours, theirs in (
            ("enter", "convFS1"),
            (r"skip\.conv1", "convFS2"),
            (r"skip\.conv2", "convFS3"),
            (r"merge\.conv1", "convMM1"),
            (r"merge\.conv2", "convMM2"),
        )
    },
}


#: The same for STM; two encoders, each with three stages of a ResNet.
STM_NAMES: dict[str, str] = {
    **{
        rf"{ours}_encoder\.{part}": f"Encoder_{theirs}.{name}"
        for ours, theirs in (("query", "Q"), ("memory", "M"))
        for part, name in (
            (r"conv1\.", "conv1."),
            (r"bn1\.", "bn1."),
            *((rf"layers\.{i}\.", f"res{i + 2}.") for i in range(3)),
        )
    },
    **{
        rf"{ours}_head\.{part}\.": f"KV_{theirs}_r4.{part.capitalize()}."
        for ours, theirs in (("query", "Q"), ("memory", "M"))
        for part in ("key", "value")
    },
    r"decoder\.enter\.": "Decoder.convFM.",
    r"decoder\.first\.": "Decoder.ResMM.",
    r"decoder\.predict\.": "Decoder.pred2.",
    **{
        rf"decoder\.refine\.{i}\.{ours}\.": f"Decoder.RF{3 - i}.{theirs}."
        for i in range(2)
        for ours, theirs in (("enter", "convFS"), ("skip", "ResFS"), ("merge", "ResMM"))
    },
}


def their_name(ours: str, names: Mapping[str, str]) -> str:
    """The authors' name of a tensor of ours, the first convolutions' apart.

    >>> their_name("decoder.refine.0.skip.conv2.bias", RGMP_NAMES)
    'Decoder.RF4.convFS3.bias'
    """
    for pattern, theirs in names.items():
        if found := re.match(pattern, ours):
            return theirs + ours[found.end() :]
    raise AssertionError(f"{ours} has no name at the authors'")


def rgmp_state(theirs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state dict of the authors' ``weights.pth`` as one of ours.

    Three things are more than names. Their mask has a convolution of its own, whose result is added to that of the
    colours: together one convolution of four channels. Their first long convolutions see target and reference as one
    map of 4096 channels: ours are cut in two, the target first. And PyTorch 0.3.1 did not count batches in its batch
    norm, so that these counts may be missing.

    Raises:
        KeyError: if a tensor is missing; the argument is the authors' name of it.
    """
    with torch.device("meta"):
        names = list(build("rgmp", "paper").state_dict())
    ours: dict[str, Tensor] = {}
    for name in names:
        if name == "encoder.conv1.weight":
            ours[name] = torch.cat([theirs["Encoder.conv1.weight"], theirs["Encoder.conv1_p.weight"]], dim=1)
        elif name == "encoder.conv1.bias":
            ours[name] = theirs["Encoder.conv1_p.bias"]
        elif name.endswith("_target.weight"):
            ours[name] = theirs[their_name(name, RGMP_NAMES)].chunk(2, dim=1)[0]
        elif name.endswith("_reference.weight"):
            ours[name] = theirs[their_name(name, RGMP_NAMES)].chunk(2, dim=1)[1]
        elif name.endswith("num_batches_tracked"):
            ours[name] = theirs.get(their_name(name, RGMP_NAMES), torch.tensor(0))
        else:
            ours[name] = theirs[their_name(name, RGMP_NAMES)]
    return ours


# -------------------------------------------------------------------------------------------------------- STM


def stm_state(theirs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state dict of the authors' ``STM_weights.pth`` as one of ours.

    Their masks have two convolutions of their own, whose results are added to that of the colours: together one
    convolution of five channels. Shortcuts that no block of theirs uses are left out.

    Raises:
        KeyError: if a tensor is missing; the argument is the authors' name of it.
    """
    with torch.device("meta"):
        names = list(build("stm", "paper").state_dict())
    ours: dict[str, Tensor] = {}
    for name in names:
        if name == "memory_encoder.conv1.weight":
            parts = ("conv1", "conv1_m", "conv1_o")
            ours[name] = torch.cat([theirs[f"Encoder_M.{part}.weight"] for part in parts], dim=1)
        elif name.endswith("num_batches_tracked"):
            ours[name] = theirs.get(their_name(name, STM_NAMES), torch.tensor(0))
        else:
            ours[name] = theirs[their_name(name, STM_NAMES)]
    return ours


# ------------------------------------------------------------------------------------------------- all methods

#: Method -> options of ``build(method, "paper")`` that the released weights ask for, and theirs -> ours.
OFFICIAL: dict[str, tuple[dict[str, Any], Callable[[Mapping[str, Tensor]], dict[str, Tensor]]]] = {
    "rgmp": ({"align_corners": True}, rgmp_state),
    "stm": ({}, stm_state),
}


def load_official(name: str, checkpoint: str | os.PathLike[str] | Mapping[str, Tensor]) -> nn.Module:
    """A paper-size network with the weights that the authors released.

    Args:
        name: of a method in :data:`OFFICIAL`.
        checkpoint: their file, or its state dict; names may begin with ``module.``, as DataParallel writes them. A
            file is read without running code that may hide in it.

    Returns:
        the network in eval mode, on the CPU. Its batch norm is frozen, as it was in the authors' training.

    Raises:
        TutorialError: if there is no such method, or if the file is missing, damaged, holds other things than
            tensors, or is of another network.
    """
    if name not in OFFICIAL:
        raise TutorialError(
            f"there are no official weights for {name!r} that this package could read; choose from "
            f"{', '.join(OFFICIAL)}."
        )
    options, translate = OFFICIAL[name]
    source, theirs = _state_of(checkpoint)
    fix = f"take the weights that the authors of {name} released."
    try:
        ours = translate(theirs)
    except KeyError as error:
        raise TutorialError(f"{source} is not the official {name}: it has no tensor {error}; {fix}") from None
    except (RuntimeError, IndexError) as error:  # tensors that cannot be cut or joined
        raise TutorialError(f"{source} is not the official {name}: {error}; {fix}") from None
    network = build(name, "paper", **options)
    for key, own in network.state_dict().items():
        if ours[key].shape != own.shape:
            raise TutorialError(
                f"{source} is not the official {name}: {key} would have the shape {list(ours[key].shape)} "
                f"instead of {list(own.shape)}; {fix}"
            )
    network.load_state_dict(ours)
    for module in network.modules():
        if isinstance(module, ResNetEncoder):
            module.freeze_norm()
    return network.eval()


def _state_of(checkpoint: str | os.PathLike[str] | Mapping[str, Tensor]) -> tuple[str, dict[str, Tensor]]:
    """What to call the checkpoint in messages, and its tensors by name, without DataParallel's prefix."""
    if isinstance(checkpoint, Mapping):
        source, content = "the state dict", checkpoint
    else:
        source, content = str(checkpoint), _read(Path(checkpoint))
    if not isinstance(content, Mapping) or not content or not all(isinstance(v, Tensor) for v in content.values()):
        raise TutorialError(f"{source} is no state dict (names and tensors); pass the one the authors released.")
    return source, {str(key).removeprefix("module."): value for key, value in content.items()}


def _read(path: Path) -> Any:
    if not path.is_file():
        raise TutorialError(f"there is no file {path}; download the authors' weights, or check the path.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch warns of other pickle protocols, and then refuses them
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if "GLOBAL" in str(error):  # torch's word for anything that is no tensor, number or container
            raise TutorialError(
                f"{path} holds more than tensors, which could run code, and was not loaded; take the file that the "
                "authors released."
            ) from None
        raise TutorialError(f"{path} is no PyTorch checkpoint, or is damaged; download it again.") from None
    except (RuntimeError, EOFError, OSError, ValueError, KeyError, IndexError, AttributeError):
        raise TutorialError(f"{path} is no PyTorch checkpoint, or is cut short; download it again.") from None
