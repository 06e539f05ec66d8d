"""Fresh cases: the same for one seed, others for another; each named wrong answer fails on them."""

from __future__ import annotations

import pytest

from vos_tutorial.course.exercises import fresh
from vos_tutorial.course.exercises.exercise import Exercise
from vos_tutorial.course.grading.values import encode
from vos_tutorial.errors import TutorialError

KNOWN = [(page, name) for page in fresh.pages() for name in fresh.exercises(page)]
DRAWN = [(page, name) for page, name in KNOWN if fresh.drawing(page, name)]
SEEDS = (1, 2024)


def results(exercise: Exercise) -> str:
    return repr({case: encode(exercise.result(exercise.reference, case)) for case in exercise.cases})


def test_every_exercise_has_fresh_cases() -> None:
    assert [f"check_{page}.{name}" for page, name in KNOWN if (page, name) not in DRAWN] == []


@pytest.mark.parametrize(("page", "name"), DRAWN)
def test_every_named_wrong_answer_fails_on_fresh_cases(page: str, name: str) -> None:
    for seed in SEEDS:
        exercise = fresh.fresh(page, name, seed)
        assert exercise.tried(exercise.reference).right
        passed = [label for label, mutant in exercise.mutants.items() if exercise.tried(mutant.answer).right]
        assert passed == [], f"with seed {seed}"


@pytest.mark.parametrize(("page", "name"), DRAWN)
def test_a_seed_fixes_the_cases_and_another_one_changes_them(page: str, name: str) -> None:
    one, again, *others = (fresh.fresh(page, name, seed) for seed in (5, 5, 6, 7))
    assert results(one) == results(again)
    assert any(results(one) != results(other) for other in others)
    assert results(one) != results(fresh.exercises(page)[name])


def test_bad_seeds_and_names_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(TutorialError, match="no exercises of page '99'"):
        fresh.exercises("99")
    with pytest.raises(TutorialError, match="seed of fresh cases is -1"):
        fresh.fresh("00", "count_objects", -1)
    monkeypatch.setattr(fresh, "drawing", lambda page, name: None)
    with pytest.raises(TutorialError, match="nothing draws new cases for count_objects"):
        fresh.fresh("00", "count_objects", 1)
