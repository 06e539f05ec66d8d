"""The methods, one file per paper, and the two doors to them: :func:`build` and :func:`segmenter`."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

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
    network: nn.Module | None = None,
    short_side: int | None = None,
    **options: Any,
) -> Segmenter:
    """A method, ready for :func:`vos_tutorial.propagation.propagate`.

    Args:
        name: from :data:`METHODS`.
        weights: ``"shipped"`` for the trained small network, a path to weights of ours, or None for random weights.
        network: use this module as it is instead (:func:`~vos_tutorial.models.backbones.for_inference` makes a
            faster one of it); ``weights`` is ignored then.
        short_side: resize frames so that their shorter side has so many pixels; probabilities come back full size.
        options: of the method's own segmenter.

    Raises:
        TutorialError: on an unknown method, and if the weights are missing, truncated or of another network.
    """
    if network is None:
        network = for_inference(trained(name, weights) if weights is not None else build(name))
    made: Segmenter = _module(name).segmenter(network, **options)
    return made if short_side is None else Resized(made, short_side)
