"""What a learner builds is what the library holds.

A cell tagged ``builds:vos_tutorial.x.y`` must be the library's definition of ``y``, up to docstrings, annotations
and layout. A cell tagged ``variant-of:vos_tutorial.x.y`` must agree with it on random inputs (``variants.py``).
"""

from __future__ import annotations

import ast
import importlib
import inspect
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from nbformat import NotebookNode
from variants import VARIANTS

from tools import notebooks

DEFINITION = ast.FunctionDef | ast.ClassDef
IMPORT = ast.Import | ast.ImportFrom
SEEDS = range(10)


class _Bare(ast.NodeTransformer):
    """Drops docstrings and annotations, which a notebook may leave out."""

    def _body(self, node: Any) -> Any:
        self.generic_visit(node)
        if ast.get_docstring(node, clean=False) is not None:
            node.body = node.body[1:] or [ast.Pass()]
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> Any:
        node.returns = None
        return self._body(node)

    visit_ClassDef = _body

    def visit_arg(self, node: ast.arg) -> ast.arg:
        node.annotation = None
        return node

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        self.generic_visit(node)
        if node.value is None:
            return ast.Expr(node.target)
        return ast.Assign([node.target], node.value, lineno=node.lineno)


def bare(source: str) -> list[str]:
    """Each top-level statement of ``source``, normalised."""
    tree = _Bare().visit(ast.parse(textwrap.dedent(source)))
    return [ast.unparse(ast.fix_missing_locations(node)) for node in tree.body]


def library(target: str) -> Any:
    """The object that a tag names: ``vos_tutorial.module.name``."""
    module, name = target.rsplit(".", 1)
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        pytest.fail(f"the tag names {target}, which the library does not have ({error})")


def targets(cell: NotebookNode, kind: str) -> list[str]:
    return sorted(tag.split(":", 1)[1] for tag in notebooks.tags(cell) if tag.startswith(f"{kind}:"))


def out_of_step(cell: NotebookNode) -> str | None:
    """Why a cell tagged ``builds:`` differs from the library; ``None`` if it does not."""
    wanted = targets(cell, "builds")
    names = [target.rsplit(".", 1)[1] for target in wanted]
    tree = ast.parse(cell.source)
    found = [node.name if isinstance(node, DEFINITION) else type(node).__name__ for node in tree.body]
    if sorted(found) != sorted(names):
        return f"the cell must hold the definitions of {names} and nothing else, it holds {found}"
    by_name = dict(zip(found, bare(cell.source), strict=True))
    for target, name in zip(wanted, names, strict=True):
        theirs = bare(inspect.getsource(library(target)))[0]
        if by_name[name] != theirs:
            return f"{target} reads otherwise in the library:\n\n{theirs}\n\nand in the notebook:\n\n{by_name[name]}"
    return None


def namespace(cells: list[NotebookNode]) -> dict[str, Any]:
    """What earlier cells import and define, without running anything else in them."""
    names: dict[str, Any] = {}
    for cell in cells:
        if cell.cell_type == "code" and "nbval-skip" not in notebooks.tags(cell):
            nodes = [
                n for n in ast.parse(cell.source).body if isinstance(n, DEFINITION | ast.Import | ast.ImportFrom)
            ]
            exec(compile(ast.Module(nodes, []), "<notebook>", "exec"), names)
    return names


def variant(cells: list[NotebookNode], index: int) -> Any:
    """The function or class that cell ``index``, tagged ``variant-of:``, defines (the last one, if several)."""
    defined = [n.name for n in ast.parse(cells[index].source).body if isinstance(n, DEFINITION)]
    assert defined, "a cell tagged variant-of must define a function or class"
    return namespace(cells[: index + 1])[defined[-1]]


def tagged(kind: str) -> Iterator[Any]:
    for name in notebooks.HERE.names():
        cells = notebooks.read_source(notebooks.HERE.source(name)).cells
        for index, cell in enumerate(cells):
            if targets(cell, kind):
                yield pytest.param(cells, index, id=f"{name}-{'-'.join(targets(cell, kind))}-{index}")


# An empty list would show as one skipped test; not every set of notebooks has tagged cells.
@pytest.mark.parametrize(("cells", "index"), list(tagged("builds")))
def test_a_built_definition_is_the_library_s(cells: list[NotebookNode], index: int) -> None:
    difference = out_of_step(cells[index])
    assert difference is None, difference


@pytest.mark.parametrize(("cells", "index"), list(tagged("variant-of")))
def test_a_variant_agrees_with_the_library(cells: list[NotebookNode], index: int) -> None:
    for target in targets(cells[index], "variant-of"):
        ours = library(target)
        assert target in VARIANTS, f"tests/variants.py has no entry {target!r}; say there how the two agree"
        for seed in SEEDS:
            VARIANTS[target](variant(cells, index), ours, seed)


# --- the test itself ---------------------------------------------------------------------------------------------

BUILT = '''
def object_ids(mask):
    """Another docstring."""
    # and a comment
    return [int(i) for i in torch.unique(mask)
            if int(i) not in (0, VOID)]
'''


def _cell(source: str, *tags: str) -> NotebookNode:
    return NotebookNode(cell_type="code", source=source, metadata={"tags": list(tags)})


def test_docstrings_annotations_and_layout_do_not_matter() -> None:
    assert out_of_step(_cell(BUILT, "builds:vos_tutorial.clip.object_ids")) is None


@pytest.mark.parametrize(
    ("source", "says"),
    [
        (BUILT.replace("(0, VOID)", "(0,)"), "reads otherwise"),
        (BUILT + "\nobject_ids(mask)", "and nothing else"),
        (BUILT.replace("def object_ids", "def other"), "must hold the definitions"),
        (BUILT.replace("(mask)", "(mask=None)"), "reads otherwise"),
    ],
)
def test_a_change_is_found(source: str, says: str) -> None:
    assert says in (out_of_step(_cell(source, "builds:vos_tutorial.clip.object_ids")) or "")


def test_a_tag_without_a_definition_in_the_library_is_found() -> None:
    with pytest.raises(pytest.fail.Exception, match="does not have"):
        out_of_step(_cell("def gone():\n    pass", "builds:vos_tutorial.clip.gone"))


def test_a_variant_sees_earlier_imports_and_definitions_only() -> None:
    cells = [
        _cell("import math\nboom = 1 / 0"),
        _cell("def twice(x):\n    return 2 * x"),
        _cell("def area(r):\n    return twice(math.pi) * r", "variant-of:vos_tutorial.clip.object_ids"),
    ]
    assert variant(cells, 2)(1) == pytest.approx(6.2832, abs=1e-4)


def test_this_file_reads_the_sources_of_the_checkout() -> None:
    assert Path(notebooks.__file__).parents[1] == Path(__file__).parents[1]
