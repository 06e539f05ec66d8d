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
from .stcnn import STCNN

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


# -------------------------------------------------------------------------------------------------------- STCNN

#: Which of the authors' files a state dict is, by a tensor that only this one has, and what our network needs for it.
STCNN_FILES: dict[str, dict[str, Any]] = {
    "pred_encoder.conv1.weight": {},
    "decoder.fpn_out.0.0.0.weight": {"temporal": False},
    "convC_1.weight": {"relu": True},
}


def stcnn_file(theirs: Mapping[str, Tensor]) -> str:
    """The key in :data:`STCNN_FILES` of a state dict: of the joint network, of stage 2, or of the generator."""
    return next((tensor for tensor in STCNN_FILES if tensor in theirs), "pred_encoder.conv1.weight")


def stcnn_names(file: str) -> dict[str, str]:
    """Beginnings of our names and of theirs, as in :data:`RGMP_NAMES`; ``norm`` and ``shortcut`` are renamed apart.

    The authors' generator has three ReLUs more than the same generator in their joint network, and names tensors by
    their place in the list: what comes after a ReLU has another number, so that their own third stage cannot load
    what their first one saved.
    """
    generator, relu = file == "convC_1.weight", int(file == "convC_1.weight")
    spatial = "" if file == "decoder.fpn_out.0.0.0.weight" else "seg_"
    encoders = {r"generator\.encoder": "" if generator else "pred_encoder.", r"encoder": f"{spatial}encoder."}
    past, now = "" if generator else "pred_decoder.", f"{spatial}decoder."
    return {
        **{
            rf"{ours}\.{part}": theirs + name
            for ours, theirs in encoders.items()
            for part, name in (("", ""), *((rf"layers\.{i}\.", f"layer{i + 1}.") for i in range(4)))[::-1]
        },
        **{rf"generator\.decoder\.squeeze\.{i}\.": f"{past}convC_{i + 1}." for i in range(3)},
        **{
            rf"generator\.decoder\.enlarge\.{i}\.{part}\.": f"{past}de_layer{i + 1}.{place}."
            for i in range(3)
            for part, place in (("conv", 0), ("norm", 1), ("deconv", 2 + relu))
        },
        r"generator\.decoder\.paint\.": f"{past}de_layer3.{3 + relu}.",
        r"decoder\.pyramid\.branches\.": f"{now}ppm_conv.",
        r"decoder\.pyramid\.last\.": f"{now}ppm_last_conv.",
        r"decoder\.laterals\.": f"{now}fpn_in.",
        r"decoder\.ups\.": f"{now}upscale.",
        **{rf"decoder\.joins\.{i}\.": f"{now}joint_fpn_out.{i}.0." for i in range(3)},
        **{rf"decoder\.alone\.{i}\.": f"{now}fpn_out.{i}.0." for i in range(3)},
        **{rf"decoder\.gates\.{i}\.": f"{now}att_out.{i}.rgConv_list.0." for i in range(3)},
        r"decoder\.heads\.": f"{now}score_out.",
        r"decoder\.last\.": f"{now}conv_last.",
    }


def stcnn_state(theirs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state dict of one of the authors' STCNN files as one, or a part of one, of ours: only the names differ.

    The joint network's file and that of stage 2 fill a whole network; the generator's fills the temporal branch.

    Raises:
        KeyError: if a tensor is missing; the argument is the authors' name of it.
    """
    file = stcnn_file(theirs)
    with torch.device("meta"):
        names = list(build("stcnn", "paper", **STCNN_FILES[file]).state_dict())
    if file == "convC_1.weight":
        names = [name for name in names if name.startswith("generator.")]
    table, ours = stcnn_names(file), {}
    for name in names:
        found = their_name(name, table).replace("norm", "bn").replace("shortcut", "downsample")
        ours[name] = theirs.get(found, torch.tensor(0)) if found.endswith("_tracked") else theirs[found]
    return ours


# ------------------------------------------------------------------------------------------------------- RVOS

#: Beginnings of our names and of theirs. Our heads count from coarse to fine, theirs down from 5.
RVOS_NAMES: dict[str, str] = {
    **{rf"encoder\.layers\.{i}\.": f"encoder.base.layer{i + 1}." for i in range(4)},
    r"encoder\.": "encoder.base.",
    **{rf"heads\.{k}\.conv\.": f"encoder.sk{5 - k}." for k in range(4)},
    **{rf"heads\.{k}\.norm\.": f"encoder.bn{5 - k}." for k in range(4)},
    **{rf"cells\.{k}\.gates\.": f"decoder.clstm_list.{k}.Gates." for k in range(4)},
    r"predict\.": "decoder.conv_out.",
}


def rvos_options(theirs: Mapping[str, Tensor]) -> dict[str, Any]:
    """Zero-shot or one-shot? The gates of the coarsest cell have 384 or, with the mask, 385 inputs."""
    gates = theirs.get("decoder.clstm_list.0.Gates.weight")
    return {"one_shot": gates is None or list(gates.shape[1:2]) != [384]}


def rvos_state(theirs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The authors' ``encoder.pt`` and ``decoder.pt``, joined by :func:`_join_rvos`, as one state dict of ours.

    Only the names differ. What no network uses is left out: the ResNet's classifier, and the heads ``fc_class`` and
    ``fc_stop`` of the network that RVOS grew out of.

    Raises:
        KeyError: if a tensor is missing; the argument is the authors' name of it.
    """
    with torch.device("meta"):
        names = list(build("rvos", "paper").state_dict())
    ours: dict[str, Tensor] = {}
    for name in names:
        found = their_name(name, RVOS_NAMES)
        ours[name] = theirs.get(found, torch.tensor(0)) if found.endswith("_tracked") else theirs[found]
    return ours


def _join_rvos(folder: Path) -> dict[str, Tensor]:
    """The two files that the authors' training writes, ``encoder.pt`` and ``decoder.pt``, as one state dict."""
    joined: dict[str, Tensor] = {}
    for part in ("encoder", "decoder"):
        _, tensors = _state_of(folder / f"{part}.pt")
        joined |= {f"{part}.{name}": value for name, value in tensors.items()}
    return joined


# ------------------------------------------------------------------------------------------------- all methods

#: Method -> options of ``build(method, "paper")`` that the released weights ask for, and theirs -> ours.
OFFICIAL: dict[str, tuple[dict[str, Any], Callable[[Mapping[str, Tensor]], dict[str, Tensor]]]] = {
    "rgmp": ({"align_corners": True}, rgmp_state),
    "rvos": ({}, rvos_state),
    "stm": ({}, stm_state),
    "stcnn": ({}, stcnn_state),
}


def load_official(name: str, checkpoint: str | os.PathLike[str] | Mapping[str, Tensor]) -> nn.Module:
    """A paper-size network with the weights that the authors released.

    Args:
        name: of a method in :data:`OFFICIAL`.
        checkpoint: their file, or its state dict; names may begin with ``module.``, as DataParallel writes them. A
            file is read without running code that may hide in it. Of STCNN, the file of any of the three stages will
            do: that of stage 2 gives a network without a temporal branch, and the generator's one whose temporal
            branch has its weights, and its ReLUs, while the rest is random. Of RVOS, pass the folder that holds
            ``encoder.pt`` and ``decoder.pt``, or both state dicts as one, with ``encoder.`` and ``decoder.`` before
            the names; whether it is zero-shot or one-shot shows in the shapes.

    Returns:
        the network in eval mode, on the CPU. Its batch norm is frozen, as it was in the authors' training (but for
        RVOS, whose authors let it learn).

    Raises:
        TutorialError: if there is no such method, or if the file is missing, damaged, holds other things than
            tensors, or is of another network.
    """
    if name not in OFFICIAL:
        raise TutorialError(
            f"there are no official weights for {name!r} that this package can read; choose from "
            f"{', '.join(OFFICIAL)}."
        )
    options, translate = OFFICIAL[name]
    if name == "rvos" and not isinstance(checkpoint, Mapping) and Path(checkpoint).is_dir():
        source, theirs = str(checkpoint), _join_rvos(Path(checkpoint))
    else:
        source, theirs = _state_of(checkpoint)
    if name == "rvos":
        options = rvos_options(theirs)
    if name == "stcnn":
        options = STCNN_FILES[stcnn_file(theirs)]
    fix = f"take the weights that the authors of {name} released."
    try:
        ours = translate(theirs)
    except KeyError as error:
        raise TutorialError(f"{source} is not the official {name}: it has no tensor {error}; {fix}") from None
    except (RuntimeError, IndexError) as error:  # tensors that cannot be cut or joined
        raise TutorialError(f"{source} is not the official {name}: {error}; {fix}") from None
    network = build(name, "paper", **options)
    state = network.state_dict()
    for key, value in ours.items():
        if value.shape != state[key].shape:
            raise TutorialError(
                f"{source} is not the official {name}: {key} would have the shape {list(value.shape)} "
                f"instead of {list(state[key].shape)}; {fix}"
            )
    network.load_state_dict({**state, **ours})
    for module in network.modules():
        if isinstance(module, (ResNetEncoder, STCNN)) and name != "rvos":
            module.freeze_norm()
    return network.eval()


def _state_of(checkpoint: str | os.PathLike[str] | Mapping[str, Tensor]) -> tuple[str, dict[str, Tensor]]:
    """What to call the checkpoint in messages, and its tensors by name, without DataParallel's prefix."""
    if isinstance(checkpoint, Mapping):
        source, content = "the state dict", checkpoint
    else:
        source, content = str(checkpoint), _read(Path(checkpoint))
    if not isinstance(content, Mapping) or not content or not all(isinstance(v, Tensor) for v in content.values()):
        raise TutorialError(f"{source} is not a state dict (names and tensors); pass the one the authors released.")
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
        raise TutorialError(f"{path} is not a PyTorch checkpoint, or is damaged; download it again.") from None
    except (RuntimeError, EOFError, OSError, ValueError, KeyError, IndexError, AttributeError):
        raise TutorialError(f"{path} is not a PyTorch checkpoint, or is cut short; download it again.") from None
