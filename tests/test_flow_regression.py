"""The regression that notebook 07's image student is compared with, here with a tiny network that knows nothing."""

from __future__ import annotations

import pytest
import torch

from experiments import flow_regression as experiment
from vos_tutorial.models.dit import DiT, as_teacher
from vos_tutorial.models.flow_map import jump
from vos_tutorial.models.generators import generate


@pytest.fixture
def teacher() -> DiT:
    """Nothing of it is zero, as gates and the last layer of a fresh one are."""
    torch.manual_seed(0)
    network = DiT(patch=8, width=16, depth=1, heads=2).eval()
    with torch.no_grad():
        for p in network.parameters():
            if not p.any():
                p.normal_(std=0.3)
    return network


def test_a_path_is_eulers_and_ends_where_its_samples_do(teacher: DiT) -> None:
    paths, captions = experiment.walked(teacher, 3)
    assert paths.shape == (experiment.STORED + 1, 3, 4, 32, 32)
    assert paths.dtype == torch.float16
    with torch.no_grad():
        end = generate(teacher.given(captions), paths[0].float(), experiment.STEPS)
    torch.testing.assert_close(paths[-1].float(), end, atol=0.01, rtol=0.01)


def test_captions_are_left_out_as_in_the_students_training(teacher: DiT) -> None:
    _, captions = experiment.walked(teacher, 200)
    silent = (captions == 0).all(1).float().mean()
    assert 0.2 < silent < 0.4  # whole captions; then as many words of the others
    assert 0.2 < (captions[(captions != 0).any(1)] == 0).float().mean() < 0.4


@pytest.mark.parametrize("everything", [False, True])
def test_a_student_of_the_paths_jumps_nearer_than_its_teacher(teacher: DiT, everything: bool) -> None:
    paths, captions = experiment.walked(teacher, 8)
    how = experiment.Regression(everything, steps=100, lr=1e-2)
    student = experiment.regressed(teacher, paths, captions, how, seed=0)
    noise, end = paths[0].float(), paths[-1].float()
    one, zero = torch.ones(8), torch.zeros(8)
    with torch.no_grad():
        miss = [(jump(f.given(captions), noise, one, zero) - end).square().mean() for f in (student, teacher)]
        with as_teacher(student):
            same = torch.equal(student(noise, one, one, captions), teacher(noise, one, one, captions))
    assert miss[0] < 0.97 * miss[1]
    assert same != everything  # adapters leave the teacher's own weights alone
