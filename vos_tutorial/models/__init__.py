"""The methods, one file per paper, and the two doors to them: :func:`build` and :func:`segmenter`."""

from __future__ import annotations

import importlib
import inspect
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, get_type_hints

from torch import nn

from ..errors import TutorialError
from ..options import check, require_known
from ..places import WEIGHTS as SHIPPED
from ..propagation import Resized, Segmenter
from .backbones import for_inference
from .weights import load_weights, read_about

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
        TutorialError: on an unknown method, size or option, and on an option's value that no network can have.
    """
    make = _module(name).build
    hints = get_type_hints(make, include_extras=True)
    known = [key for key in inspect.signature(make).parameters if key != "size"]
    reader = f"the network of {name}"
    require_known(options, known, name, reader)
    for key, value in options.items():
        check(value, hints[key], key, name, reader)
        if type(value) is int and value < 1:
            raise TutorialError(f"{name}: {key} is {value}; use 1 or more.")
    try:
        network: nn.Module = make(size, **options)
    except (RuntimeError, ValueError) as error:  # a width that the normalisation cannot divide
        raise TutorialError(f"{name}: there is no network with {options} ({error}); choose other values.") from error
    return network


def start_from(name: str, network: nn.Module, weights: str | Path, variant: str = "") -> None:
    """Let a network start from trained weights of the same method.

    Args:
        name: from :data:`METHODS`.
        network: of that method; it may differ from the trained one in parts that can be left out.
        weights: see :func:`trained`.
        variant: see there.

    Raises:
        TutorialError: if the weights do not fit, or are missing or broken.
    """
    _module(name).start_from(network, trained(name, weights, variant))


def start_from_imagenet(name: str, network: nn.Module) -> bool:
    """Give a paper-size network torchvision's ImageNet weights; False, and a sentence, if they cannot be fetched."""
    return bool(_module(name).start_from_imagenet(network))


def shipped_weights(name: str, variant: str = "") -> Path:
    """Where the trained small weights of a method lie; ``variant`` names an experiment's."""
    return SHIPPED / f"{name}{'-' + variant if variant else ''}.safetensors"


def weights_file(name: str, weights: str | Path = "shipped", variant: str = "") -> Path:
    """The file that :func:`trained` reads.

    Raises:
        TutorialError: on an unknown method, on a variant that does not ship, and on one beside a file of one's own.
    """
    _module(name)
    if weights != "shipped":
        if variant:
            raise TutorialError(
                f"the variant {variant!r} is one of the shipped weights; leave it out with {weights}."
            )
        return Path(weights)
    path = shipped_weights(name, variant)
    if variant and not path.exists():
        there = sorted(each.stem.removeprefix(f"{name}-") for each in SHIPPED.glob(f"{name}-*.safetensors"))
        raise TutorialError(f"{name} ships no variant {variant!r}; it has {', '.join(there) or 'none'}.")
    return path


def trained(name: str, weights: str | Path = "shipped", variant: str = "") -> nn.Module:
    """A network with trained weights, in eval mode, of the size and with the options that the file says.

    Args:
        name: from :data:`METHODS`.
        weights: ``"shipped"`` for the trained small network, or a file of ours.
        variant: another shipped network of the method: an experiment's, such as ``"paper-form"`` of STM.

    Raises:
        TutorialError: on an unknown method or variant, and if the file is missing, truncated, of another method, or
            says what cannot be.
    """
    about = read_about(weights_file(name, weights, variant))
    about.require_method(name)
    try:
        network = build(name, about.size, **about.options)  # type: ignore[arg-type]
    except TutorialError as error:
        raise TutorialError(f"{about.path} says what cannot be built: {error}") from error
    load_weights(about.path, network)
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
