"""The memory without learning: that it follows colours, keeps the contract, and splits what looks the same."""

from __future__ import annotations

import pytest
import torch

from vos_tutorial.baselines import ColourMemory
from vos_tutorial.errors import TutorialError
from vos_tutorial.propagation import Segmenter, propagate


def moving_squares(shift: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    """Four grey frames of 33x46 with a red and a blue square that move right, and their ids."""
    frames, ids = torch.full((4, 3, 33, 46), 128, dtype=torch.uint8), torch.zeros(4, 33, 46, dtype=torch.uint8)
    for t in range(4):
        for i, (top, colour) in enumerate(((4, (230, 20, 20)), (20, (20, 20, 230))), start=1):
            frames[t, :, top : top + 8, 4 + shift * t : 12 + shift * t] = torch.tensor(colour)[:, None, None]
            ids[t, top : top + 8, 4 + shift * t : 12 + shift * t] = i
    return frames.to(torch.uint8), ids


@pytest.mark.parametrize("memory", ["first", "previous", "both"])
def test_it_follows_what_has_a_colour_of_its_own(memory: str) -> None:
    frames, ids = moving_squares()
    method = ColourMemory(cell=1, memory=memory)  # type: ignore[arg-type]
    assert isinstance(method, Segmenter)
    assert torch.equal(propagate(method, frames, ids[0]), ids)


def test_its_answers_are_probabilities_at_sizes_that_cells_do_not_divide() -> None:
    frames, ids = moving_squares()
    p = propagate(ColourMemory(cell=4), frames, ids[0], probabilities=True)
    torch.testing.assert_close(p.sum(1), torch.ones(4, 33, 46))


def test_place_tells_apart_what_colour_cannot() -> None:
    frames, ids = moving_squares(shift=1)
    frames[:, 2], only = frames[:, 0], ids[0] * (ids[0] == 1)  # both squares become the same colour
    frames[ids[:, None].expand_as(frames) > 0] = 230
    alike = propagate(ColourMemory(cell=1), frames, only)
    apart = propagate(ColourMemory(cell=1, place=30.0, memory="previous"), frames, only)
    assert not (alike[3] == 1)[22:26].any(), "half a probability each is not enough for the object"
    assert (
        propagate(ColourMemory(cell=1), frames, only, probabilities=True)[3, 1, 22:26, 10] - 0.5
    ).abs().max() < 0.01
    assert (apart[3] == 1)[6:10, 9:13].all()
    assert not (apart[3] == 1)[18:].any()


def test_objects_that_come_later_are_followed_too() -> None:
    frames, ids = moving_squares()
    first = torch.where(ids[0] == 1, ids[0], 0)
    later = {1: torch.where(ids[1] == 2, ids[1], 0)}
    for memory in ("first", "both"):
        found = propagate(ColourMemory(cell=1, memory=memory), frames, first, later=later)  # type: ignore[arg-type]
        assert torch.equal(found[3] == 1, ids[3] == 1)
        assert (found[3] == 2).any()


def test_bad_options_are_named() -> None:
    with pytest.raises(TutorialError, match="no memory 'all'"):
        ColourMemory(memory="all")  # type: ignore[arg-type]
    with pytest.raises(TutorialError, match="0 pixels wide"):
        ColourMemory(cell=0)
