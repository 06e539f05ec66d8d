"""Which profile is in force."""

from __future__ import annotations

import pytest
import torch

from vos_tutorial import profile
from vos_tutorial.errors import TutorialError


@pytest.mark.parametrize(
    ("asked", "cuda", "name", "device"),
    [
        (None, False, "cpu", "cpu"),
        (None, True, "gpu", "cuda"),
        ("", True, "gpu", "cuda"),
        ("smoke", False, "smoke", "cpu"),
        ("smoke", True, "smoke", "cpu"),  # numbers of smoke and cpu repeat, so they stay off the GPU
        ("cpu", True, "cpu", "cpu"),
        ("gpu", True, "gpu", "cuda"),
    ],
)
def test_the_variable_decides_then_the_hardware(
    monkeypatch: pytest.MonkeyPatch, asked: str | None, cuda: bool, name: str, device: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.delenv(profile.VARIABLE, raising=False)
    if asked is not None:
        monkeypatch.setenv(profile.VARIABLE, asked)
    now = profile.current()
    assert (now.name, now.device) == (name, torch.device(device))
    assert now.is_smoke == (name == "smoke")


def test_unknown_profiles_and_missing_gpus_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setenv(profile.VARIABLE, "GPU")
    with pytest.raises(TutorialError, match=r"VOS_TUTORIAL_PROFILE is 'GPU'; set it to one of smoke, cpu, gpu"):
        profile.current()
    monkeypatch.setenv(profile.VARIABLE, "gpu")
    with pytest.raises(TutorialError, match=r"is 'gpu', but torch sees no CUDA device; set it to cpu"):
        profile.current()
