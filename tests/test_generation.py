"""Precision, recall and the paired distance, on cases that can be counted by hand."""

from __future__ import annotations

import pytest
import torch

from vos_tutorial.errors import TutorialError
from vos_tutorial.generation import paired_distance, precision_recall


def test_precision_and_recall_on_a_line() -> None:
    data = torch.arange(10.0)[:, None]  # reach with k = 1: 1
    generated = torch.tensor([0.5, 1.5, 2.5, 40.0])[:, None]  # reach: 1, 1, 1, 37.5
    found = precision_recall(data, generated, k=1)
    assert found.precision == 0.75
    near = precision_recall(data, generated[:3], k=1)
    assert near.precision == 1
    assert near.recall == 0.4, "0, 1, 2 and 3 lie within 1 of a generated point"


def test_the_same_points_have_both() -> None:
    points = torch.randn(50, 4, generator=torch.Generator().manual_seed(0))
    assert precision_recall(points, points) == (1.0, 1.0)


def test_a_mode_that_is_lost_costs_recall_and_not_precision() -> None:
    generator = torch.Generator().manual_seed(0)
    left, right = (torch.randn(200, 2, generator=generator) + 20 * side for side in (-1, 1))
    found = precision_recall(torch.cat([left, right]), left[torch.randperm(200, generator=generator)] + 0.01)
    assert found.precision > 0.95
    assert found.recall < 0.55


def test_blurred_samples_cost_precision() -> None:
    generator = torch.Generator().manual_seed(0)
    data = torch.randn(300, 2, generator=generator)
    assert precision_recall(data, 4 * torch.randn(300, 2, generator=generator)).precision < 0.6


def test_paired_distance() -> None:
    a = torch.zeros(2, 3, 4)
    assert paired_distance(a, a + 0.5) == 0.5


@pytest.mark.parametrize(
    ("data", "generated", "k", "words"),
    [
        ((5, 2), (5, 3), 1, r"\[5, 2\] and \[5, 3\]"),
        ((5, 2), (3, 2), 3, "k is 3 for 5 and 3 samples"),
        ((5, 2), (5, 2), 0, "k is 0"),
    ],
)
def test_what_cannot_be_is_told(data: tuple[int, int], generated: tuple[int, int], k: int, words: str) -> None:
    with pytest.raises(TutorialError, match=words):
        precision_recall(torch.zeros(data), torch.zeros(generated), k)
    with pytest.raises(TutorialError, match="not pairs"):
        paired_distance(torch.zeros(2, 2), torch.zeros(2, 3))
