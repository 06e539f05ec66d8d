"""The methods, one file per paper, and the two doors to them: :func:`build` and :func:`segmenter`."""

from __future__ import annotations

import copy
import importlib
import inspect
import os
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, get_type_hints

import torch
from torch import nn

from ..errors import TutorialError
from ..objects import ObjectSegmenter
from ..options import check, is_plain, require_known
from ..places import WEIGHTS as SHIPPED
from ..profile import require_device
from ..propagation import Resized, Segmenter
from .backbones import for_inference
from .weights import About, load_weights, read_about

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
    if not isinstance(weights, (str, os.PathLike)) or not os.fspath(weights):
        raise TutorialError(f"weights are {weights!r}; give the path of a file, or shipped.")
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
    variant: str = "",
    device: str | torch.device | None = None,
    short_side: int | Literal["native"] | None = None,
    network: nn.Module | None = None,
    **options: Any,
) -> Segmenter:
    """A method, ready for :func:`vos_tutorial.propagation.propagate`.

    A weights file says at how many lines its network works (``lines``: larger frames are shrunk; smaller ones are
    enlarged at most ``enlarge`` times), for how many steps it should be tuned to the first frame (``tuning``), and
    with which other options it was measured (``segmenter``). A segmenter follows all of it, unless ``short_side`` or
    an option say otherwise.

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
    module, place = _module(name), None if device is None else require_device(device)
    own = get_type_hints(module.build)["return"]  # the class of the method's networks
    about: About | None = None
    if network is None:
        network, about = _ready(name, weights, variant)
    elif not isinstance(network, own):
        raise TutorialError(f"{name} works with a network of class {own.__name__}, not {type(network).__name__}.")
    elif place is not None:
        network = copy.deepcopy(network)  # the caller's stays where it is
    if place is not None:
        network = network.to(place)
    known, reader = _options(module, network), f"{name}'s segmenter"
    options = {**(about.segmenter if about is not None else {}), **options}
    require_known(options, list(known), name, reader)
    options = {k: check(v, known[k], k, name, reader) if is_plain(known[k]) else v for k, v in options.items()}
    if about is not None and about.tuning and "online_steps" in known:
        options.setdefault("online_steps", about.tuning)
    made: ObjectSegmenter = module.segmenter(network, **options)
    if short_side is None or short_side == "native":
        if about is not None and short_side is None:
            made.lines, made.enlarge = about.lines, about.enlarge
        return made
    if type(short_side) is not int:
        raise TutorialError(f"the short side is {short_side!r}; give a number of pixels, or native.")
    return Resized(made, short_side)


def _ready(name: str, weights: str | Path | None, variant: str) -> tuple[nn.Module, About | None]:
    """A network for inference, and what its file says about it."""
    if weights is None:
        if variant:
            raise TutorialError(f"the variant {variant!r} is one of the shipped weights; leave it out with None.")
        return for_inference(build(name)), None
    path = weights_file(name, weights, variant)
    return for_inference(trained(name, path)), read_about(path)


def _options(module: ModuleType, network: nn.Module) -> dict[str, Any]:
    """What the method's segmenter for this network can be told, by its signatures: name -> kind."""
    found: dict[str, Any] = {}
    for what in (module.segmenter, type(module.segmenter(network)).__init__):
        hints = get_type_hints(what, include_extras=True)
        parameters = inspect.signature(what).parameters.values()
        found |= {p.name: hints[p.name] for p in parameters if p.name in hints and p.kind is not p.VAR_KEYWORD}
    del found["network"]
    return found
