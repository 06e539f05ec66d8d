"""Fresh cases: the same for one seed, others for another; each named wrong answer fails on them."""

from __future__ import annotations

import pytest

from vos_tutorial.course.exercises import fresh
from vos_tutorial.course.exercises.exercise import Exercise
from vos_tutorial.course.grading.values import encode
from vos_tutorial.errors import TutorialError

KNOWN = [(page, name) for page in fresh.pages() for name in fresh.exercises(page)]
DRAWN = [(page, name) for page, name in KNOWN if fresh.drawing(page, name)]


def results(exercise: Exercise) -> str:
    return repr({case: encode(exercise.result(exercise.reference, case)) for case in exercise.cases})


def test_every_exercise_has_fresh_cases() -> None:
    assert [f"check_{page}.{name}" for page, name in KNOWN if (page, name) not in DRAWN] == []


@pytest.mark.parametrize(("page", "name"), DRAWN)
def test_fresh_cases_depend_on_the_seed_and_tell_every_named_wrong_answer(page: str, name: str) -> None:
    exercise, again, *others = (fresh.fresh(page, name, seed) for seed in (1, 1, 2, 3))
    assert results(exercise) == results(again)
    assert results(exercise) != results(fresh.exercises(page)[name])
    assert any(results(exercise) != results(other) for other in others)
    assert exercise.tried(exercise.reference).right
    assert [label for label, mutant in exercise.mutants.items() if exercise.tried(mutant.answer).right] == []


def test_bad_seeds_and_names_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(TutorialError, match="no exercises of page '99'"):
        fresh.exercises("99")
    with pytest.raises(TutorialError, match="seed of fresh cases is -1"):
        fresh.fresh("00", "count_objects", -1)
    monkeypatch.setattr(fresh, "drawing", lambda page, name: None)
    with pytest.raises(TutorialError, match="nothing draws new cases for count_objects"):
        fresh.fresh("00", "count_objects", 1)
