"""The random generator: its streams are one registry, and their numbers stay what they were."""

from __future__ import annotations

from collections import Counter

from vos_tutorial.rng import Rng, Stream


def test_no_two_streams_share_a_number_but_the_two_that_always_did() -> None:
    """``Stream.__members__`` holds aliases too, which iterating over an enum leaves out."""
    shared = {number: names for number, names in _names_by_number().items() if len(names) > 1}
    assert shared == {17: ["DISCS", "MIRROR"]}


def test_the_numbers_are_those_that_every_stored_result_was_drawn_with() -> None:
    old = {"SCENE": 1, "SHAKE": 2, "STILL": 3, "GUIDE": 4, "TARGET": 5, "BENCHMARK": 9, "SIMULATED": 11}
    old |= {"GENERATED": 12, "VIDEO": 13, "CAMOUFLAGE": 14, "FORK": 15, "DREAMS": 16, "DISCS": 17, "MIRROR": 17}
    old |= {"CUTOUTS": 18, "MIXED": 19, "ONE_OF_A_CLIP": 20, "FED": 21, "CAPTIONED": 22, "FLOW": 23, "GRADED": 40}
    assert {name: int(stream) for name, stream in Stream.__members__.items()} == old


def test_a_stream_draws_the_numbers_of_its_integer() -> None:
    first = {int(s): Rng(5, s).array(2).tobytes() for s in Stream}
    assert all(Rng(5, number).array(2).tobytes() == drawn for number, drawn in first.items())
    assert max(Counter(first.values()).values()) == 1
    assert 0 not in first  # Rng(5, 0) is Rng(5), so no stream may have it


def _names_by_number() -> dict[int, list[str]]:
    names: dict[int, list[str]] = {}
    for name, stream in Stream.__members__.items():
        names.setdefault(int(stream), []).append(name)
    return names
