"""Every notebook obeys every rule of ``tools/notebook_lint.py``, and every rule can find what it looks for."""

from __future__ import annotations

import symtable
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import nbformat
import pytest
from nbformat import NotebookNode

from tools import notebook_lint as lint
from tools import notebooks

NOTEBOOKS = notebooks.HERE.built()


def shown(path: Path) -> str:
    return path.relative_to(notebooks.HERE.notebooks).as_posix()


def test_there_are_notebooks() -> None:
    assert NOTEBOOKS, "no notebook is built; run: python tools/notebooks.py build --execute"
    assert notebooks.HERE.names()


@pytest.mark.parametrize("rule", lint.RULES, ids=lambda rule: rule.__name__)
@pytest.mark.parametrize("path", NOTEBOOKS, ids=shown)
def test_notebook(path: Path, rule: Callable[[str, NotebookNode], list[str]]) -> None:
    problems = rule(shown(path), notebooks.read_notebook(path))
    assert not problems, "\n".join([shown(path), *problems])


@pytest.mark.parametrize("path", NOTEBOOKS, ids=shown)
def test_links_lead_somewhere(path: Path) -> None:
    assert not lint.broken_links(path, notebooks.read_notebook(path))


@pytest.mark.parametrize("name", notebooks.HERE.pages())
def test_a_page_links_to_its_neighbours(name: str) -> None:
    page = notebooks.read_notebook(notebooks.HERE.page(name))
    assert lint.missing_links(page, notebooks.neighbours(name, notebooks.HERE)) == []


@pytest.mark.parametrize("name", notebooks.HERE.names())
def test_in_step_with_its_source(name: str) -> None:
    assert not notebooks.out_of_step(name)


def test_every_notebook_has_a_source() -> None:
    assert not notebooks.without_source()


def assigned(cell: str) -> set[str]:
    """Names that a cell gives a value to; what it defines or imports is meant to stay."""
    symbols = symtable.symtable(cell, "cell", "exec").get_symbols()
    return {s.get_name() for s in symbols if s.is_assigned() and not (s.is_imported() or s.is_namespace())}


def globals_read(table: symtable.SymbolTable, inside: str = "") -> Iterator[tuple[str, str]]:
    """``(function or class, name)`` for each global that a named function, or a method of a class, reads."""
    for child in table.get_children():
        name = inside or child.get_name()
        if child.get_type() == "function" and name.isidentifier():
            yield from ((name, s.get_name()) for s in child.get_symbols() if s.is_global() and s.is_referenced())
        yield from globals_read(child, name)


def pulled_away(cells: Sequence[str]) -> list[str]:
    """Functions that read a global which a later cell binds again: an exercise that calls them meets another."""
    found, given = [], [assigned(cell) for cell in cells]
    for i, cell in enumerate(cells):
        for function, name in sorted(set(globals_read(symtable.symtable(cell, "cell", "exec")))):
            before, after = (any(name in names for names in part) for part in (given[: i + 1], given[i + 1 :]))
            if before and after and function not in ("genexpr", "listcomp", "setcomp", "dictcomp", "lambda"):
                found.append(f"{function}() reads {name}, which a later cell binds again")
    return found


@pytest.mark.parametrize("name", notebooks.HERE.names())
def test_a_function_keeps_the_globals_that_it_reads(name: str) -> None:
    cells = notebooks.read_source(notebooks.HERE.source(name)).cells
    assert not pulled_away([cell.source for cell in cells if cell.cell_type == "code"])


def test_a_global_that_is_bound_again_is_found() -> None:
    cells = ["past = 1", "def scored():\n    return past", "past = 2"]
    assert pulled_away(cells) == ["scored() reads past, which a later cell binds again"]
    assert pulled_away([*cells[:2], "def other():\n    past = 2"]) == []


@pytest.mark.parametrize("name", notebooks.HERE.names())
def test_numbers_in_the_prose_are_tied_to_outputs(name: str) -> None:
    source = notebooks.read_source(notebooks.HERE.source(name))
    problems = lint.loose_numbers(source, notebooks.read_notebook(notebooks.HERE.page(name)))
    assert not problems, "\n".join([f"src/{name}.py", *problems])


# --- each rule finds its fault -----------------------------------------------------------------------------------


def code(source: str, *outputs: dict[str, object], tags: tuple[str, ...] = (), count: int | None = 1) -> NotebookNode:
    cell = nbformat.v4.new_code_cell(source, metadata={"tags": list(tags)}, execution_count=count)
    cell.outputs = [nbformat.from_dict(output) for output in outputs]
    return cell


def text(source: str, *tags: str) -> NotebookNode:
    return nbformat.v4.new_markdown_cell(source, metadata={"tags": list(tags)})


def notebook(*cells: NotebookNode) -> NotebookNode:
    return nbformat.v4.new_notebook(cells=list(cells))


def stream(line: str, name: str = "stdout") -> dict[str, object]:
    return {"output_type": "stream", "name": name, "text": line}


def picture(plain: str, **metadata: object) -> dict[str, object]:
    data = {"image/png": "x", "text/plain": plain}
    return {"output_type": "display_data", "data": data, "metadata": metadata}


WIDGET = {"application/vnd.jupyter.widget-view+json": {"model_id": "1"}}
ERROR = {"output_type": "error", "ename": "ValueError", "evalue": "no", "traceback": []}
METHOD = [text("# T"), *(text(f"## The {word}") for word in lint.SECTIONS)]
TIME = text("| to read and do | about 1 minutes |")


@pytest.mark.parametrize(
    ("rule", "bad", "says"),
    [
        (lint.executed, notebook(code("1", count=None)), "execution count None, not 1"),
        (lint.executed, notebook(code("1", count=2)), "execution count 2, not 1"),
        (lint.executed, notebook(text("# T")), "no code cell"),
        (lint.no_errors, notebook(code("1", ERROR)), "stores the error ValueError"),
        (lint.exercises_answered, notebook(code("1", stream("no"), tags=("exercise-check",))), "not written yet"),
        (lint.small, notebook(text("x" * lint.MAX_BYTES)), "bytes, more than"),
        (lint.no_widget_state, notebook(code("1", {"output_type": "display_data", "data": WIDGET, "metadata": {}})),
         "stores a widget view"),
        (lint.known_tags, notebook(code("1", tags=("builds:os.path",))), "unknown tag 'builds:os.path'"),
        (lint.known_tags, notebook(code("1", tags=("nbval-ignore-output",))), "go together"),
        (lint.known_tags, notebook(code("1", tags=("nbval-skip",))), "without a reason"),
        (lint.private_matters, notebook(code("open('/home/me/x')")), "absolute path"),
        (lint.private_matters, notebook(code("1", stream("/tmp/x"), tags=("run",))), "absolute path"),
        (lint.private_matters, notebook(code("1", stream("careful", "stderr"))), "stderr"),
        (lint.private_matters, notebook(code("1", stream("<A at 0x7f12ab34cd56>"))), "memory address"),
        (lint.plain_python, notebook(code("%pip install x")), "installs packages"),
        (lint.plain_python, notebook(code("!ls")), "write Python"),
        (lint.plain_python, notebook(code("f(1);")), "hides nothing"),
        (lint.short_cells, notebook(code("x\n" * 26)), "more than 25"),
        (lint.short_cells, notebook(code("x\n" * 9)), "in the median"),
        (lint.alt_texts, notebook(code("1", picture("<Figure size 640x480>"))), "without alt text"),
        (lint.alt_texts, notebook(text("<img src='a.png'>")), "<img> without alt"),
        (lint.alt_texts, notebook(text("![](a.png)")), "picture without alt"),
        (lint.sections, notebook(text("no title")), "begin with a title"),
        (lint.sections, notebook(*(m for m in METHOD if "your run beside" not in m.source)),
         "'your run beside' is missing (no heading"),
        (lint.sections, notebook(METHOD[0], *reversed(METHOD[1:])), "the order of the headings"),
        (lint.quizzes, notebook(text("Why?", "quiz")), "quiz without <details>"),
        (lint.shown_as_written, notebook(text("So it is.\n<!-- given --> And *more*.")), "begins with a comment"),
        (lint.shown_as_written, notebook(text("<details><summary>A</summary>`x`</details>")), "folds Markdown"),
        (lint.page_size, notebook(text("word " * 5200)), "5200 words, printed ones included; 4500 is the limit"),
        (lint.page_size, notebook(text("word " * 5000), code("1", stream("and " * 200))), "5200 words"),
        (lint.page_size, notebook(*(code("1") for _ in range(81))), "81 code cells"),
        (lint.page_size, notebook(code("x\n" * 7)), "7 lines in the median code cell"),
        (lint.difficulty, notebook(text("**Exercise 5.1** (10 minutes) Do it.")), "exercise 5.1 must say"),
        (lint.difficulty, notebook(text("**Exercise A.2** *Top.* Do it.")), "exercise A.2 must say"),
        (lint.honest_time, notebook(text("# T")), "no line '| to read and do | about 0 minutes'"),
        (lint.honest_time, notebook(TIME, text("word " * 1800)), "1 minutes, the formula of tools/page_report.py 10"),
    ],
)  # fmt: skip
def test_a_rule_finds_its_fault(rule: Callable[[str, NotebookNode], list[str]], bad: NotebookNode, says: str) -> None:
    assert any(says in problem for problem in rule("05_x.ipynb", bad)), rule("05_x.ipynb", bad)


def test_unique_ids() -> None:
    twice = notebook(text("a"), text("b"))
    twice.cells[0].id = twice.cells[1].id = "same"
    assert lint.unique_ids("x", twice) == ["the cell id 'same' occurs 2 times"]


@pytest.mark.parametrize("rule", lint.RULES, ids=lambda rule: rule.__name__)
def test_a_rule_accepts_a_good_notebook(rule: Callable[[str, NotebookNode], list[str]]) -> None:
    good = notebook(
        *METHOD,
        TIME,
        text("**Exercise 5.1** (10 minutes, easy, in words) *Top.*"),
        text("It is so. <!-- given -->\n<details><summary>A</summary>a * b is <code>x</code></details>"),
        text('See [the site](https://example.org/home/x) and <img src="a" alt="a dog">'),
        code("x = 1  # 3/4", stream("3/4 of 1e-06\n")),
        code("train()", picture("Figure: a curve"), stream("10%|", "stderr"), tags=("run", lint.ADDED_TAG), count=2),
        code("player", picture("MaskPlayer(T=2)", **{"image/png": {"alt": "a dog"}}), count=3),
    )
    assert rule("05_x.ipynb", good) == []


@pytest.mark.parametrize(
    ("prose", "loose"),
    [
        ("J rises to 83.4.", True),
        ("It keeps 12 % of it.", True),
        ("It keeps 12.5% of it.", True),
        ("| J | F |\n|---|---|\n| 79.7 | 75.4 |", True),
        ("J rises to {{results/a.json:j|.1f}}.", False),
        ("The cell printed 55.5 above.", False),
        ("The paper reports 79.7 (Perazzi et al., 2017).", False),
        ("From the [MaskTrack paper](https://arxiv.org/abs/1612.02646):\n\n| J |\n|---|\n| 79.7 |", False),
        ("We drop 10 % of the frames. <!-- given -->", False),
        ("Frames have 96 pixels, J lies in 0.5 to 1.0, `83.4` is code, and $83.4$ is mathematics.", False),
        ("J can be 100 % or 0 %.", False),
        ("Python 3.10.12 or 12.34.5", False),
    ],
)
def test_loose_numbers(prose: str, loose: bool) -> None:
    cells = [code("print(x)", stream("55.5\n")), text(prose)]
    assert bool(lint.loose_numbers(notebook(*cells), notebook(*cells))) is loose


def test_broken_links(tmp_path: Path) -> None:
    (tmp_path / "there.ipynb").touch()
    links = "[a](there.ipynb#x) [b](https://example.org) [c](#here) [d](gone.ipynb)"
    assert lint.broken_links(tmp_path / "x.ipynb", notebook(text(links))) == [
        "cell 0 links to gone.ipynb, which does not exist"
    ]


def test_missing_links() -> None:
    page = notebook(text("# T\n\n[a](a.ipynb)"))
    assert lint.missing_links(page, "[← A](a.ipynb) · [B →](b.ipynb) · [glossary](g.md)") == [
        "its first cell has no link to b.ipynb; write {{pages}} there"
    ]


def test_an_appendix_and_the_solutions_may_be_of_any_length() -> None:
    long = notebook(text("word " * 9000))
    for name in ("appendix/05_x.ipynb", "solutions/05_x.ipynb"):
        assert lint.page_size(name, long) == []
