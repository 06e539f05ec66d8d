"""The methods, one file per paper, and the two doors to them: :func:`build` and :func:`segmenter`."""

from __future__ import annotations

import copy
import importlib
import json
from collections.abc import Mapping
from inspect import signature
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, get_type_hints

import torch
from torch import nn

from ..errors import TutorialError
from ..places import WEIGHTS as SHIPPED
from ..propagation import Resized, Segmenter
from .backbones import for_inference
from .weights import load_weights, read_weights

METHODS = ("masktrack", "rgmp", "rvos", "stm", "stcnn")


def require_method(name: str) -> str:
    """The name itself; TutorialError if it is none of :data:`METHODS`."""
    if name not in METHODS:
        raise TutorialError(f"there is no method {name!r}; choose from {', '.join(METHODS)}.")
    return name


def _module(name: str) -> ModuleType:
    return importlib.import_module(f"{__name__}.{require_method(name)}")


def build(name: str, size: Literal["small", "paper"] = "small", **options: Any) -> nn.Module:
    """A network with random weights.

    Args:
        name: from :data:`METHODS`.
        size: ``"small"`` learns on a laptop's CPU in minutes; ``"paper"`` is the published network.
        options: of the method's own ``build``.

    Raises:
        TutorialError: on an unknown method or size.
    """
    network: nn.Module = _module(name).build(size, **options)
    return network


def start_from(name: str, network: nn.Module, weights: str | Path) -> None:
    """Let a network start from trained weights of the same method: ``"shipped"``, or a file of ours.

    Raises:
        TutorialError: if the weights do not fit, or are missing or broken.
    """
    _module(name).start_from(network, trained(name, weights))


def start_from_imagenet(name: str, network: nn.Module) -> bool:
    """Give a paper-size network torchvision's ImageNet weights; False, and a sentence, if they cannot be fetched."""
    return bool(_module(name).start_from_imagenet(network))


def shipped_weights(name: str, variant: str = "") -> Path:
    """Where the trained small weights of a method lie; ``variant`` names an ablation."""
    return SHIPPED / f"{name}{'-' + variant if variant else ''}.safetensors"


def trained(name: str, weights: str | Path = "shipped", size: Literal["small", "paper"] = "small") -> nn.Module:
    """A network with trained weights, in eval mode, built with the options that the file says it was trained with.

    Args:
        name: from :data:`METHODS`.
        weights: ``"shipped"`` for the trained small network, or a file of ours.
        size: of the network.

    Raises:
        TutorialError: on an unknown method, and if the file is missing, truncated or of another network.
    """
    _module(name)
    path = shipped_weights(name) if weights == "shipped" else Path(weights)
    _, about = read_weights(path)
    options = json.loads(about.get("options", "{}")) if about.get("method") == name else {}
    network = build(name, size, **options)
    load_weights(path, network)
    return network.eval()


def segmenter(
    name: str,
    weights: str | Path | None = "shipped",
    variant: str = "",
    device: str | torch.device | None = None,
    short_side: int | Literal["native"] | None = None,
    network: nn.Module | None = None,
    **options: Any,
) -> Segmenter:
    """A method, ready for :func:`vos_tutorial.propagation.propagate`.

    A weights file may say at how many lines its network works (``lines``) and how many steps it wants to be tuned for
    on the first frame (``tuning``). That is followed, unless ``short_side`` or the option ``online_steps`` say
    otherwise.

    Args:
        name: from :data:`METHODS`.
        weights: ``"shipped"`` for the trained small network, a path to weights of ours, or None for random weights.
        variant: of the shipped weights, an ablation: ``data/weights/NAME-VARIANT.safetensors``.
        device: where the network works, such as ``"cuda"``; by default where it is, and the CPU for a new one.
        short_side: resize frames so that their shorter side has so many pixels; probabilities come back full size.
            ``"native"`` never resizes.
        network: use this module as it is instead (:func:`~vos_tutorial.models.backbones.for_inference` makes a
            faster one of it); it is not changed, and ``weights`` is ignored then.
        options: of the method's own segmenter.

    Raises:
        TutorialError: on an unknown method, variant, device or option; if the weights are missing, truncated or of
            another network; and if ``network`` is another method's.
    """
    module, place = _module(name), None if device is None else _require_device(device)
    own = get_type_hints(module.build)["return"]  # the class of the method's networks
    if network is not None:
        if not isinstance(network, own):
            raise TutorialError(f"{name} works with a network of class {own.__name__}, not {type(network).__name__}.")
        if place is not None:
            network = copy.deepcopy(network).to(place)  # the caller's stays where it is
        about: dict[str, str] = {}
    else:
        network, about = _ready(name, weights, variant)
        network = network.to(place) if place is not None else network
    known = _options(module, network)
    if unknown := [option for option in options if option not in known]:
        raise TutorialError(
            f"{name}'s segmenter does not know the option {unknown[0]!r}; choose from {', '.join(known)}."
        )
    if "tuning" in about and "online_steps" in known:
        options.setdefault("online_steps", _whole(about, "tuning", name))
    if "lines" in about and short_side is None:
        short_side = _whole(about, "lines", name)
    made: Segmenter = module.segmenter(network, **options)
    if short_side is None or short_side == "native":
        return made
    if not isinstance(short_side, int):
        raise TutorialError(f"the short side is {short_side!r}; give a number of pixels, or native.")
    return Resized(made, short_side)


def _ready(name: str, weights: str | Path | None, variant: str) -> tuple[nn.Module, dict[str, str]]:
    """A network for inference, and what its file says about it."""
    if variant and weights != "shipped":
        raise TutorialError(
            f"variant={variant!r} names shipped weights, but weights are {weights}; give one of both."
        )
    if weights is None:
        return for_inference(build(name)), {}
    path = shipped_weights(name, variant) if weights == "shipped" else Path(weights)
    if variant and not path.is_file():
        shipped = sorted(p.stem.removeprefix(f"{name}-") for p in SHIPPED.glob(f"{name}-*.safetensors"))
        raise TutorialError(f"{name} ships no variant {variant!r}; choose from {', '.join(shipped) or 'none'}.")
    return for_inference(trained(name, path)), read_weights(path)[1]


def _require_device(device: str | torch.device) -> torch.device:
    """TutorialError unless this machine has it."""
    try:
        place = torch.zeros(1, device=device)
        place.tolist()  # no numbers lie on the device "meta"
    except (RuntimeError, AssertionError, TypeError, ValueError, NotImplementedError):
        raise TutorialError(f"this machine has no device {str(device)!r}; use cpu.") from None
    return place.device


def _options(module: ModuleType, network: nn.Module) -> list[str]:
    """What the method's segmenter for this network can be told, by its signatures."""
    made = type(module.segmenter(network))
    names = [*signature(module.segmenter).parameters.values(), *signature(made).parameters.values()]
    return list(dict.fromkeys(p.name for p in names if p.name != "network" and p.kind is not p.VAR_KEYWORD))


def _whole(about: Mapping[str, str], key: str, name: str) -> int:
    """A number of the metadata."""
    if not about[key].isdecimal():
        raise TutorialError(f"the weights of {name} say {key}={about[key]!r}, which is no whole number; train again.")
    return int(about[key])
