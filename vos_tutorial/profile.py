"""Three sizes, one code path: what this machine should do of every recipe.

A profile changes numbers only (steps, size, batch, width), never the code that runs.
``VOS_TUTORIAL_PROFILE`` overrides the choice made from the hardware.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Literal

import torch

from .errors import TutorialError

ProfileName = Literal["smoke", "cpu", "gpu"]
PROFILES: tuple[ProfileName, ...] = ("smoke", "cpu", "gpu")
VARIABLE = "VOS_TUTORIAL_PROFILE"


@dataclass(frozen=True)
class Profile:
    """The size of everything (``name``) and where it runs (``device``)."""

    name: ProfileName
    device: torch.device

    @property
    def is_smoke(self) -> bool:
        """True in CI: the cells run, the numbers mean nothing."""
        return self.name == "smoke"


def current() -> Profile:
    """The profile in force: the environment variable if set, else ``gpu`` with CUDA, else ``cpu``.

    ``smoke`` and ``cpu`` stay on the CPU even where a GPU is present, so that their numbers repeat.

    Raises:
        TutorialError: if the variable holds anything but smoke, cpu or gpu, or asks for a GPU that is not there.
    """
    name = os.environ.get(VARIABLE, "") or ("gpu" if torch.cuda.is_available() else "cpu")
    if name not in PROFILES:
        raise TutorialError(f"{VARIABLE} is {name!r}; set it to one of {', '.join(PROFILES)}, or unset it.")
    if name == "gpu" and not torch.cuda.is_available():
        raise TutorialError(f"{VARIABLE} is 'gpu', but torch sees no CUDA device; set it to cpu, or unset it.")
    return Profile(name, torch.device("cuda" if name == "gpu" else "cpu"))


def require_device(name: str | torch.device) -> torch.device:
    """The device of that name, if this machine has it: ``cpu``, ``cuda`` or ``cuda:N``, and whatever else torch sees.

    Raises:
        TutorialError: on a name that torch does not know, and on a device that is not there.
    """
    try:
        device = torch.device(name)
        there = device.type != "meta" and torch.zeros(1, device=device).sum().item() == 0
    except (RuntimeError, AssertionError, NotImplementedError, TypeError):
        there = False
    if not there:
        has = ["cpu", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))]
        raise TutorialError(f"this machine has no device {str(name)!r}; use {' or '.join(has)}.")
    return device
