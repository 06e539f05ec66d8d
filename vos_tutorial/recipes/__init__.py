"""Recipes: how a method is trained, as data, at three sizes (smoke, cpu, gpu).

Each method has one module here, ``recipes/<method>.py``, with ``RECIPES: dict[ProfileName, Recipe]``. Nothing in
a recipe runs; ``vos_tutorial.training`` reads it: recipe -> stages -> steps.
"""

from __future__ import annotations

import dataclasses
import importlib
import json
import math
import pkgutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from ..errors import TutorialError
from ..options import Range, read
from ..profile import PROFILES, ProfileName

#: Lines at which the small networks see real video: fixed before any of it was looked at, and never tuned since.
SHORT_SIDE = 128


@dataclass(frozen=True)
class Stage:
    """A stretch of training with one data source, one optimiser and one learning-rate schedule.

    Attributes:
        name: unique within the recipe; logs and errors use it.
        steps: optimiser steps, >= 1.
        batch: samples in a step, over all processes.
        size: side of the square crop, in pixels.
        lr: peak learning rate; a parameter group may scale it (``Task.parameters``).
        optimizer: ``adamw`` or ``sgd`` (with ``momentum``).
        weight_decay: decoupled for AdamW, added to the gradient for SGD.
        schedule: after the warm-up, ``constant``; ``cosine`` from ``lr`` to 0; or ``poly``,
            ``lr * (1 - t / T) ** 0.9`` (DeepLab v2, section 4.1).
        warmup: steps of linear warm-up.
        clip_norm: gradients are scaled down to this L2 norm over all parameters; None leaves them.
        accumulate: gradient accumulation: the batch goes through the network in so many equal parts, whose gradients
            are averaged, as in ``--set video.accumulate=4``. The same step in less memory, up to rounding and to
            what a loss or a batch norm takes from the whole batch.
        options: what only the method's task reads (mask strategies, frame skips); plain JSON values. A value
            ``{"from": a, "to": b}`` grows (or shrinks) over the stage, see :meth:`at`.
    """

    name: str
    steps: int
    batch: int
    size: int
    lr: float
    optimizer: Literal["adamw", "sgd"] = "adamw"
    weight_decay: float = 0.0
    momentum: float = 0.9
    schedule: Literal["constant", "cosine", "poly"] = "cosine"
    warmup: int = 0
    clip_norm: float | None = None
    accumulate: int = 1
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Raises TutorialError for numbers that cannot be trained with."""
        for key in ("steps", "batch", "size", "accumulate"):
            if getattr(self, key) < 1:
                raise TutorialError(f"stage {self.name!r} has {key} = {getattr(self, key)}; it must be at least 1.")
        if not 0 < self.lr < math.inf:
            raise TutorialError(f"stage {self.name!r} has lr = {self.lr}; it must be above 0.")
        if not 0 <= self.weight_decay < math.inf:
            raise TutorialError(f"stage {self.name!r} has weight_decay = {self.weight_decay}; use 0 or more.")
        if not 0 <= self.momentum < 1:
            raise TutorialError(f"stage {self.name!r} has momentum = {self.momentum}; use 0 or more, below 1.")
        if self.clip_norm is not None and not self.clip_norm > 0:
            raise TutorialError(f"stage {self.name!r} has clip_norm = {self.clip_norm}; use more than 0, or null.")
        if self.batch % self.accumulate:
            raise TutorialError(
                f"stage {self.name!r} cannot split a batch of {self.batch} into {self.accumulate} equal parts; "
                "choose another batch or accumulate."
            )
        if not 0 <= self.warmup < self.steps:
            raise TutorialError(f"stage {self.name!r} warms up for {self.warmup} of {self.steps} steps; use fewer.")
        if self.optimizer not in ("adamw", "sgd"):
            raise TutorialError(f"stage {self.name!r} has optimizer = {self.optimizer!r}; use adamw or sgd.")
        if self.schedule not in ("constant", "cosine", "poly"):
            raise TutorialError(
                f"stage {self.name!r} has schedule = {self.schedule!r}; use constant, cosine or poly."
            )

    def at(self, step: int) -> Stage:
        """The stage as a step sees it (0 = first): options that grow have the value of that step.

        Whole numbers take every value from the first to the last for the same number of steps; others grow evenly,
        and reach the last value in the last step.
        """
        moving = {k: v for k, v in self.options.items() if isinstance(v, Mapping) and v.keys() == {"from", "to"}}
        if not moving:
            return self
        now: dict[str, Any] = {}
        for key, ends in moving.items():
            first, last = ends["from"], ends["to"]
            if isinstance(first, int) and isinstance(last, int):
                values = abs(last - first) + 1
                now[key] = first + (1 if last >= first else -1) * (step * values // self.steps)
            else:
                now[key] = first + (last - first) * step / max(1, self.steps - 1)
        return dataclasses.replace(self, options={**self.options, **now})


@dataclass(frozen=True)
class Validate:
    """The validation curve: the last stage's loss on fixed clips, in eval mode, with the averaged weights if any.

    ``--set 'validate={"clips": 16, "every": 100}'``; the log then has ``val_loss`` and so on, and a
    :class:`~vos_tutorial.training.TrainingRun` its ``validation``.

    Attributes:
        clips: how many; always the same ones, whatever the run's seed.
        every: steps between two points; there is one after the last step, too.
    """

    clips: Annotated[int, Range(1)]
    every: Annotated[int, Range(1)]


@dataclass(frozen=True)
class Recipe:
    """How one method is trained at one size.

    A recipe of two stages, with a validation every 100 steps; the second stage needs the memory of a batch of 2:

        Recipe(
            method="stm",
            profile="cpu",
            network="small",
            stages=(
                Stage("stills", steps=300, options={"source": "simulated"}, **LAPTOP),
                Stage("video", steps=500, accumulate=4, options={"max_skip": {"from": 0, "to": 4}}, **LAPTOP),
            ),
            source="ours",
            ema=0.99,
            validate=Validate(clips=16, every=100),
            lines=128,
        )

    Attributes:
        method: the method's name, as in ``models.build(method)``.
        profile: the size of the run; decides the default device.
        network: the size of the network, ``models.build(method, size=network)``.
        stages: run one after the other, each with a fresh optimiser.
        ema: decay of the exponential moving average of the weights, or None for the last weights.
        amp: forward pass under bfloat16 autocast; weights and optimiser stay float32.
        options: of the network, ``models.build(method, size=network, **options)``; plain JSON values.
        source: where the numbers come from: a paper's section, or "ours".
        validate: the validation curve, see :class:`Validate`; None for none. It decides no weights: a run may be
            resumed with another one.
        lines: frames whose shorter side has more pixels are shrunk to so many when the trained network is used (its
            weights file says so, and ``evaluate --short-side`` overrides it); None keeps the video's own size.
        enlarge: frames of fewer lines are enlarged towards ``lines`` then, at most so many times; 1 leaves them as
            they are.
        tuning: steps of online tuning to frame 0 when the trained network is used (``evaluate --tuning`` overrides
            it); 0 for none. Of our methods only STCNN's recipes have any.
        segmenter: other options of the segmenter when the trained network is used, which the caller's overrule; plain
            JSON values.
    """

    method: str
    profile: ProfileName
    network: Literal["small", "paper"]
    stages: tuple[Stage, ...]
    source: str
    ema: float | None = None
    amp: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)
    validate: Validate | None = None
    lines: int | None = None
    enlarge: float = 1.0
    tuning: int = 0
    segmenter: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Raises TutorialError without stages, with two stages of one name, or with a decay outside (0, 1)."""
        names = [stage.name for stage in self.stages]
        if not names or len(set(names)) != len(names):
            raise TutorialError(f"the recipe of {self.method!r} needs stages with unique names, it has {names}.")
        if self.ema is not None and not 0 < self.ema < 1:
            raise TutorialError(
                f"the recipe of {self.method!r} has ema = {self.ema}; use a decay in (0, 1), or None."
            )
        if self.lines is not None and self.lines < 1:
            raise TutorialError(f"the recipe of {self.method!r} has lines = {self.lines}; use 1 or more, or None.")
        if not 1 <= self.enlarge < math.inf:
            raise TutorialError(f"the recipe of {self.method!r} has enlarge = {self.enlarge}; use 1 or more.")
        if self.tuning < 0:
            raise TutorialError(f"the recipe of {self.method!r} has tuning = {self.tuning}; use 0 or more.")

    @property
    def steps(self) -> int:
        """Optimiser steps of all stages."""
        return sum(stage.steps for stage in self.stages)

    def use(self) -> dict[str, str]:
        """How the trained network is used, as its weights file says it: what
        :func:`~vos_tutorial.models.weights.read_about` reads as ``lines``, ``enlarge``, ``tuning`` and ``segmenter``.
        """
        return {
            "lines": str(self.lines or 0),
            "enlarge": str(self.enlarge),
            "tuning": str(self.tuning),
            "segmenter": json.dumps(dict(self.segmenter)),
        }


#: What the stages of a smoke run share: ``Stage("video", options=VIDEO, **SMOKE)``.
SMOKE: dict[str, Any] = {"steps": 3, "batch": 2, "size": 64, "lr": 2e-3, "warmup": 1}
#: What the stages of a run on a laptop share, their steps apart.
LAPTOP: dict[str, Any] = {
    "batch": 8,
    "size": 96,
    "lr": 2e-3,
    "weight_decay": 1e-4,
    "warmup": 30,
    "clip_norm": 1.0,
}


def small_recipe(method: str, profile: ProfileName, *stages: Stage, **others: Any) -> Recipe:
    """A recipe of ours for a small network: averaged weights, and real video at :data:`SHORT_SIDE` lines."""
    return Recipe(method, profile, "small", stages, source="ours", ema=0.99, lines=SHORT_SIDE, **others)


#: Recipe modules of networks that follow no object.
NO_METHODS = ("generators",)


def methods() -> list[str]:
    """The methods that have a recipe module, in alphabetical order."""
    return sorted({module.name for module in pkgutil.iter_modules(__path__)} - set(NO_METHODS))


def load(method: str, profile: ProfileName) -> Recipe:
    """The recipe of a method at a size: ``vos_tutorial.recipes.<method>.RECIPES[profile]``.

    Raises:
        TutorialError: if there is no such method, or the method has no recipe of that size.
    """
    if method not in methods():
        raise TutorialError(
            f"there is no recipe for {method!r}; the methods are {', '.join(methods()) or 'none yet'}."
        )
    recipes: Mapping[ProfileName, Recipe] = importlib.import_module(f"{__name__}.{method}").RECIPES
    if profile not in recipes:
        has = ", ".join(name for name in PROFILES if name in recipes)
        raise TutorialError(f"{method!r} has no recipe of size {profile!r}; it has {has}.")
    return recipes[profile]


def variant(method: str, name: str) -> Recipe:
    """A recipe of an experiment: ``vos_tutorial.recipes.<method>.VARIANTS[name]``.

    Raises:
        TutorialError: if there is no such method, or the method has no variant of that name.
    """
    if method not in methods():
        raise TutorialError(f"there is no recipe for {method!r}; the methods are {', '.join(methods())}.")
    variants: Mapping[str, Recipe] = getattr(importlib.import_module(f"{__name__}.{method}"), "VARIANTS", {})
    if name not in variants:
        raise TutorialError(f"{method!r} has no variant {name!r}; it has {', '.join(variants) or 'none'}.")
    return variants[name]


def override(recipe: Recipe, assignments: Sequence[str]) -> Recipe:
    """A recipe with some numbers changed.

    ``"offline.steps=50"`` and ``"offline.options.KEY=VALUE"`` change a stage, ``"amp=true"`` and
    ``'validate={"clips": 16, "every": 100}'`` the recipe, and ``"network.KEY=VALUE"`` an option of the network.

    Args:
        recipe: the recipe to change.
        assignments: ``[STAGE.]KEY=VALUE``; the value is read as JSON, or else as a string.

    Raises:
        TutorialError: if the stage or the key does not exist, or the value has another type than the old one.
    """
    stages = {stage.name: stage for stage in recipe.stages}
    changes: dict[str, dict[str, Any]] = {name: {} for name in ["", *stages]}  # "" is the recipe itself
    for assignment in assignments:
        target, equals, text = assignment.partition("=")
        if not equals:
            raise TutorialError(
                f"--set {assignment} has no value; write --set STAGE.KEY=VALUE, e.g. offline.steps=50."
            )
        name, dot, key = target.partition(".") if "." in target else ("", "", target)
        if name == "network" and dot:
            options = changes[""].setdefault("options", dict(recipe.options))
            options[key] = _value(text)
            continue
        if name not in changes or (dot and not name):
            raise TutorialError(
                f"--set {assignment}: there is no stage {name!r}; the stages are {', '.join(stages)}."
            )
        value = _value(text)
        if key.startswith("options."):
            option = key.removeprefix("options.")
            options = changes[name].setdefault("options", dict(stages[name].options) if dot else {})
            if option not in options:
                known = ", ".join(options) or "none"
                raise TutorialError(f"--set {assignment}: stage {name!r} has no option {option!r}; it has {known}.")
            options[option] = value
        elif key == "validate" and not dot and isinstance(value, Mapping):
            changes[""][key] = read(Validate, value, f"--set {assignment}", "validate")
        else:
            _require_kind(stages[name] if dot else recipe, key, value, assignment)
            changes[name][key] = value
    # All at once: a stage with half of its changes may be impossible (fewer steps than warm-up).
    changed = tuple(dataclasses.replace(stage, **changes[name]) for name, stage in stages.items())
    return dataclasses.replace(recipe, stages=changed, **changes[""])


def _value(text: str) -> Any:
    """JSON if it is, else the text itself."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def _require_kind(thing: Stage | Recipe, key: str, value: Any, assignment: str) -> None:
    """Raise TutorialError unless ``value`` can stand where the field ``key`` of ``thing`` stands."""
    fixed = ("name", "options", "method", "profile", "network", "stages", "source")
    allowed = [field.name for field in dataclasses.fields(thing) if field.name not in fixed]
    if key not in allowed:
        raise TutorialError(f"--set {assignment}: there is no {key!r}; choose from {', '.join(allowed)}.")
    old = getattr(thing, key)
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if key in ("ema", "clip_norm"):
        fits = number or value is None
    elif key == "lines":
        fits = type(value) is int or value is None
    elif key == "validate":
        fits = value is None
    else:
        fits = number if isinstance(old, float) else type(value) is type(old)
    if not fits:
        raise TutorialError(
            f"--set {assignment}: {key} cannot be {value!r}; it is {old!r} now, give one of that kind."
        )
