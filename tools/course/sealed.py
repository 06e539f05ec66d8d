"""The checks without the solutions: ``check_NN.py`` with the answers' results in the place of the answers.

A check needs the right answer's results, not its source. So each answer, right or wrong, is run on the cases of its
exercise; the results go into ``check_NN.json``, and from the source goes everything that only the answers needed.
"""

from __future__ import annotations

import ast
import copy
import importlib
import inspect
import json
import types
import warnings
from collections.abc import Iterable

from vos_tutorial.course import exercises as package
from vos_tutorial.course.exercises.exercise import Exercise
from vos_tutorial.course.exercises.kept import pack

from .teaching import KitError

NOTE = '"""The checks of notebook {number}, without solutions: what they compare with is in check_{number}.json."""'


def seal(number: str) -> tuple[str, str]:
    """The source of ``check_NN.py`` without answers, and its ``check_NN.json``.

    Args:
        number: of the page, such as ``05``.

    Raises:
        KitError: if an exercise is not declared at top level as ``name = Exercise(...)``, or if a function that stays
            would still solve one.
    """
    name = f"check_{number}"
    module = importlib.import_module(f"{package.__name__}.{name}")
    declared = {n: e for n, e in vars(module).items() if isinstance(e, Exercise)}
    kept = {
        exercise.name: {
            label: {case: pack(exercise._run(answer, case)) for case in exercise.cases}
            for label, answer in {
                "": exercise.reference,
                **{n: m.answer for n, m in exercise.mutants.items()},
            }.items()
        }
        for exercise in declared.values()
    }
    tree = ast.parse(inspect.getsource(module))
    replaced = set()
    for node in tree.body:
        target = node.targets[0] if isinstance(node, ast.Assign) else None
        if isinstance(target, ast.Name) and target.id in declared and isinstance(node, ast.Assign):
            _replace_answers(node.value, name, declared[target.id])
            replaced.add(target.id)
    if missing := declared.keys() - replaced:
        raise KitError(
            f"{name}.py: declare {sorted(missing)[0]} at top level, as name = Exercise(...), so that it can "
            "be sealed."
        )
    tree.body = _needed(tree.body, declared)
    source = NOTE.format(number=number) + "\n\n" + ast.unparse(ast.fix_missing_locations(tree)) + "\n"
    _try_to_solve(source, name, declared)
    return source, json.dumps(kept, separators=(",", ":")) + "\n"


def _kept(module: str, exercise: str, answer: str) -> ast.expr:
    return ast.parse(f"Kept({module!r}, {exercise!r}, {answer!r})", mode="eval").body


def _replace_answers(call: ast.expr, module: str, exercise: Exercise) -> None:
    if not isinstance(call, ast.Call):
        raise KitError(
            f"{module}.py: {exercise.name} is not written as Exercise(...), so its answers cannot be taken out."
        )
    for keyword in call.keywords:
        if keyword.arg == "reference":
            keyword.value = _kept(module, exercise.name, "")
        if keyword.arg == "mutants":
            keyword.value = _mutants(module, exercise)


def _mutants(module: str, exercise: Exercise) -> ast.expr:
    """All mutants anew, from what they are, whatever expression makes them in the source."""
    entries = {
        label: (_kept(module, exercise.name, label), ast.Constant(m.hint)) for label, m in exercise.mutants.items()
    }
    values = [ast.Call(ast.Name("Mutant"), list(pair), []) for pair in entries.values()]
    return ast.Dict([ast.Constant(label) for label in entries], values)  # type: ignore[arg-type]


def _names(node: ast.AST) -> set[str]:
    """Every name that a statement reads."""
    return {n.id for n in ast.walk(node) if isinstance(n, ast.Name)}


def _defines(node: ast.stmt) -> set[str]:
    if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
        return {node.name}
    if isinstance(node, (ast.Import, ast.ImportFrom)):
        return {(alias.asname or alias.name).split(".")[0] for alias in node.names}
    if isinstance(node, ast.Assign):
        return {n.id for target in node.targets for n in ast.walk(target) if isinstance(n, ast.Name)}
    if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
        return {node.target.id}
    return set()


def _needed(body: list[ast.stmt], declared: Iterable[str]) -> list[ast.stmt]:
    """The statements that the exercises need, directly or through others; imports with the names that are used."""
    wanted, before = set(declared), -1
    while len(wanted) != before:
        before = len(wanted)
        for node in body:
            if _defines(node) & wanted and not isinstance(node, (ast.Import, ast.ImportFrom)):
                wanted |= _names(node)
    kept: list[ast.stmt] = []
    for node in body:
        if isinstance(node, ast.ImportFrom) and node.module == "__future__":
            kept.append(node)
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            used = [a for a in node.names if (a.asname or a.name).split(".")[0] in wanted]
            if used:
                slim = copy.copy(node)
                slim.names = used
                kept.append(slim)
        elif _defines(node) & wanted:
            kept.append(node)
    at = next(
        (i for i, node in enumerate(kept) if not (isinstance(node, ast.ImportFrom) and node.module == "__future__")),
        0,
    )
    kept.insert(at, ast.parse("from .kept import Kept").body[0])
    if not any(isinstance(n, ast.ImportFrom) and "Mutant" in _defines(n) for n in kept):
        kept.insert(at, ast.parse("from .exercise import Mutant").body[0])
    return kept


def _try_to_solve(source: str, name: str, declared: dict[str, Exercise]) -> None:
    """Hand every function that stays to every exercise; none may pass.

    Raises:
        KitError: if one does.
    """
    left = types.ModuleType(f"{package.__name__}.{name}_sealed")
    left.__package__ = package.__name__
    exec(compile(source, f"{name}.py", "exec"), vars(left))  # our own source, just made
    own = [f for f in vars(left).values() if inspect.isfunction(f) and f.__module__ == left.__name__]
    for exercise in declared.values():
        for function in own:
            if solves(function, exercise):
                raise KitError(
                    f"{name}.py would leak a solution: {function.__name__} solves {exercise.name}, and a case of the "
                    "exercises needs it; write that case without it."
                )


def solves(function: object, exercise: Exercise) -> bool:
    """Whether a function gives the right results on all cases of an exercise."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a function that was made for other arguments
            results = {case: exercise._run(function, case) for case in exercise.cases}  # type: ignore[arg-type]
        return all(exercise._matches(result, case) for case, result in results.items())
    except Exception:
        return False
