"""What an exercise is: a name, the right answer, inputs to try it on, and the wrong answers people give.

A module ``check_NN.py`` declares the exercises of notebook NN at top level::

    count_objects = Exercise(
        name="count_objects",
        reference=_count_objects,
        cases={"two objects": (mask,)},
        hint="torch.unique lists the values of a mask.",
        mutants={"counts the background": Mutant(_with_background, "Id 0 is the background, not an object.")},
    )

and the notebook calls ``check_NN.count_objects(count_objects)`` with the learner's function. A *mutant* is a wrong
answer with a name: a learner whose function does what a mutant does gets the mutant's hint instead of the general
one. ``tests/test_exercises.py`` proves that the reference passes, the blank fails, and each mutant fails with its
own hint.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..check import difference
from .kept import Kept


@dataclass(frozen=True)
class Mutant:
    """A wrong answer people give, and the one sentence that helps them on."""

    answer: Callable[..., Any]
    hint: str


@dataclass(frozen=True)
class Verdict:
    """Whether all cases are right, and the one or two lines that say so."""

    right: bool
    lines: tuple[str, ...]


@dataclass(frozen=True)
class Exercise:
    """One exercise; call it with the learner's function.

    Attributes:
        name: the name of the function to write.
        reference: the right answer.
        cases: inputs, ``{what is special about it: positional arguments}``. The function gets a copy.
        hint: for a wrong answer that is none of the mutants. A blank is told where it is.
        mutants: the wrong answers we know, by name. At least one.
        atol: the largest absolute difference of floats that counts as none.
    """

    name: str
    reference: Callable[..., Any]
    cases: Mapping[str, tuple[Any, ...]]
    hint: str
    mutants: Mapping[str, Mutant] = field(default_factory=dict)
    atol: float = 1e-6

    def __call__(self, answer: Callable[..., Any]) -> bool:
        """Try ``answer`` on every case and print one or two lines. Returns whether all cases are right."""
        verdict = self.tried(answer)
        print(*verdict.lines, sep="\n")
        return verdict.right

    def tried(self, answer: Callable[..., Any]) -> Verdict:
        """Try ``answer`` on every case."""
        results: dict[str, Any] = {}
        for case in self.cases:
            try:
                results[case] = self.result(answer, case)
            except Exception as error:
                return self.stopped(case, type(error).__name__, str(error))
        return self.compared(results)

    def result(self, answer: Callable[..., Any], case: str) -> Any:
        """What an answer makes of a copy of one case, in the form in which it is compared; a kept answer is read."""
        return answer.results[case] if isinstance(answer, Kept) else self._run(answer, case)

    def stopped(self, case: str, kind: str, message: str) -> Verdict:
        """The verdict on an answer that raised ``kind`` on a case; ``NotImplementedError`` is an empty one."""
        if kind == NotImplementedError.__name__:
            return Verdict(False, (f"{self.name}: not written yet. For a hint, print({self._door()}.hint)",))
        line = f"{self.name}: stopped on the case '{case}' with {kind}: {message}"
        return Verdict(False, (line, f"Hint: {self.hint}"))

    def _door(self) -> str:
        """How a page reaches this exercise: ``check_00.count_objects``."""
        here = f"{__package__}.check_"
        found = (m for m, module in sys.modules.items() if m.startswith(here) and vars(module).get(self.name) is self)
        return ".".join([*next(found, "").split(".")[-1:], self.name]).lstrip(".")

    def compared(self, results: Mapping[str, Any]) -> Verdict:
        """The verdict on the :meth:`result` of every case."""
        for case, result in results.items():
            found = difference(result, self.result(self.reference, case), self.atol)
            if found is not None:
                line = f"{self.name}: wrong on the case '{case}': {found}."
                return Verdict(False, (line, f"Hint: {self._hint_for(results)}"))
        return Verdict(True, (f"{self.name}: right, {len(self.cases)} of {len(self.cases)} cases.",))

    def _run(self, function: Callable[..., Any], case: str) -> Any:
        return function(*copy.deepcopy(self.cases[case]))

    def _matches(self, result: Any, case: str) -> bool:
        """Whether a result is the right one."""
        return difference(result, self.result(self.reference, case), self.atol) is None

    def _hint_for(self, results: Mapping[str, Any]) -> str:
        """The hint of the mutant that gives the same results, else the general one."""
        for mutant in self.mutants.values():
            if all(self._same(mutant, case, result) for case, result in results.items()):
                return mutant.hint
        return self.hint

    def _same(self, mutant: Mutant, case: str, result: Any) -> bool:
        return difference(result, self.result(mutant.answer, case), self.atol) is None
