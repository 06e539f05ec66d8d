"""The builder: one source makes two notebooks, ids are stable, outputs stay exactly where they still belong."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import nbformat
import pytest
from nbformat import NotebookNode

from tools import notebooks
from tools.notebooks import BuildError, Folders

ROOT = notebooks.ROOT
SOURCE = '''\
# ---
# jupyter:
#   vos_tutorial:
#     smoke_seconds: 60
# ---

# %% [markdown]
# # A toy
#
# J is {{results/a.json:runs.0.j|.1f}}.

# %% tags=["setup"]
import os

# %% tags=["run"]
print(os.environ["VOS_TUTORIAL_PROFILE"])

# %% [markdown] tags=["exercise-text"]
# ## Exercise 1

# %% tags=["exercise"]
def double(x):
    """Twice x."""
    # solution
    return 2 * x
    # end solution

# %% tags=["exercise-check"] name="the-check"
try:
    print(double(2))
except NotImplementedError:
    print("not written yet")

# %% [markdown] tags=["solution-note"]
# Because of addition.

# %% tags=["nbval-skip"] reason="it would fail"
1 / 0

# %%
1 + 1

# %%
1 + 1
'''


@pytest.fixture
def folders(tmp_path: Path) -> Folders:
    made = Folders(tmp_path / "notebooks", tmp_path / "results")
    made.sources.mkdir(parents=True)
    made.results.mkdir()
    (made.results / "a.json").write_text('{"runs": [{"j": 81.26, "name": "x"}]}')
    write(made, SOURCE)
    return made


def write(folders: Folders, source: str) -> None:
    (folders.sources / "00_toy.py").write_text(source)


def pretend_run(folders: Folders, name: str = "00_toy.ipynb") -> None:
    """Store outputs and counts as ``--execute`` does, without a kernel."""
    path = folders.notebooks / name
    notebook = notebooks.read_notebook(path)
    cells = [c for c in notebook.cells if c.cell_type == "code" and "nbval-skip" not in notebooks.tags(c)]
    for count, cell in enumerate(cells, 1):
        cell.execution_count = count
        cell.outputs = [nbformat.v4.new_output("stream", text=f"output {count}")]
    notebook.metadata.vos_tutorial.update(profile="cpu", code_sha256=notebooks.code_hash(notebook))
    nbformat.write(notebook, path)


def built(folders: Folders, name: str = "00_toy.ipynb") -> NotebookNode:
    return notebooks.read_notebook(folders.notebooks / name)


def sources(notebook: NotebookNode) -> str:
    return "\n\n".join(cell.source for cell in notebook.cells)


def test_a_result_is_found_by_a_name_with_commas_and_parentheses(folders: Folders) -> None:
    (folders.results / "a.json").write_text('{"STM, calm (350 more), 240": {"J&F": 74.77}}')
    text = "It is {{results/a.json:STM, calm (350 more), 240.J&F|.1f}}."
    assert notebooks.substitute(text, folders, "here") == "It is 74.8."


def test_a_negative_result_has_a_true_minus_and_a_mark_for_the_checks_goes(folders: Folders) -> None:
    (folders.results / "a.json").write_text('{"gain": -8.65, "rate": 1e-05, "date": "2026-11-29", "one": "-x"}')
    marks = ("gain|.1f", "gain|+.1f", "rate|.0e", "date", "one")
    text = ", ".join(f"{{{{results/a.json:{mark}}}}}" for mark in marks)
    text += ". <!-- given -->\nNext. <!-- given --> Last."
    assert notebooks.substitute(text, folders, "here") == "−8.7, −8.7, 1e-05, 2026-11-29, -x.\nNext. Last."


def test_one_source_makes_both_versions(folders: Folders) -> None:
    notebooks.build("00_toy", folders)
    reader, solutions = built(folders), built(folders, "solutions/00_toy.ipynb")
    assert "J is 81.3." in sources(reader)
    assert 'def double(x):\n    """Twice x."""\n    raise NotImplementedError("your turn")' in sources(reader)
    assert "2 * x" not in sources(reader)
    assert "Because of addition" not in sources(reader)
    assert [cell.source.splitlines()[0] for cell in solutions.cells] == [
        "# Solutions: A toy",
        "import os",
        "## Exercise 1",
        "def double(x):",
        "try:",
        "Because of addition.",
    ]
    assert "    return 2 * x" in sources(solutions)
    assert "# solution" not in sources(solutions)


def test_metadata_is_limited_and_tags_are_nbval_s(folders: Folders) -> None:
    notebooks.build("00_toy", folders)
    reader = built(folders)
    assert set(reader.metadata) == {"kernelspec", "language_info", "vos_tutorial"}
    assert reader.metadata.vos_tutorial.smoke_seconds == 60
    assert reader.cells[2].metadata.tags == ["run", "nbval-ignore-output"]
    skipped = next(cell for cell in reader.cells if cell.source == "1 / 0")
    assert skipped.metadata.reason == "it would fail"


def test_ids_are_stable_unique_and_named(folders: Folders) -> None:
    notebooks.build("00_toy", folders)
    first = (folders.notebooks / "00_toy.ipynb").read_bytes()
    (folders.notebooks / "00_toy.ipynb").unlink()
    notebooks.build("00_toy", folders)
    assert (folders.notebooks / "00_toy.ipynb").read_bytes() == first
    ids = [cell.id for cell in built(folders).cells]
    assert len(set(ids)) == len(ids)
    assert "the-check" in ids
    assert ids[-1] == f"{ids[-2]}-1"  # the same text twice


def test_outputs_of_unchanged_cells_stay_and_the_changed_one_s_goes(folders: Folders) -> None:
    notebooks.build("00_toy", folders)
    pretend_run(folders)
    write(folders, SOURCE.replace("import os", "import os, sys"))
    notebooks.build("00_toy", folders)
    code = [cell for cell in built(folders).cells if cell.cell_type == "code"]
    assert code[0].outputs == []
    assert code[0].execution_count is None
    assert code[1].outputs[0].text == "output 2"
    assert [cell.execution_count for cell in code] == [None, 2, 3, 4, None, 5, 6]


def test_check_names_what_is_out_of_step(folders: Folders) -> None:
    assert notebooks.out_of_step("00_toy", folders) == [
        "00_toy.ipynb is missing",
        "solutions/00_toy.ipynb is missing",
    ]
    notebooks.build("00_toy", folders)
    assert [line.split(";")[1] for line in notebooks.out_of_step("00_toy", folders)] == [
        " build it with --execute",
        " build it with --execute",
    ]
    pretend_run(folders)
    pretend_run(folders, "solutions/00_toy.ipynb")
    assert notebooks.out_of_step("00_toy", folders) == []

    write(folders, SOURCE.replace("# # A toy", "# # A toy!"))
    assert [line.split(": ", 1)[1] for line in notebooks.out_of_step("00_toy", folders)] == [
        "cell 0 ('# A toy!')",
        "cell 0 ('# Solutions: A toy!')",
    ]
    write(folders, SOURCE.replace("print(os", "print( os"))
    lines = notebooks.out_of_step("00_toy", folders)
    assert len(lines) == 2
    assert "print( os" in lines[0]
    assert "outputs are stale (they were made by other code)" in lines[1]


def test_check_finds_a_new_result(folders: Folders) -> None:
    notebooks.build("00_toy", folders)
    pretend_run(folders)
    (folders.results / "a.json").write_text('{"runs": [{"j": 12.0}]}')
    assert "cell 0 ('# A toy')" in notebooks.out_of_step("00_toy", folders)[0]


def test_check_writes_nothing(folders: Folders) -> None:
    notebooks.build("00_toy", folders)
    before = {path: path.stat().st_mtime_ns for path in folders.notebooks.rglob("*")}
    write(folders, SOURCE.replace("import os", "import sys"))
    before[folders.sources / "00_toy.py"] = (folders.sources / "00_toy.py").stat().st_mtime_ns
    notebooks.out_of_step("00_toy", folders)
    assert {path: path.stat().st_mtime_ns for path in folders.notebooks.rglob("*")} == before


def test_notebooks_without_a_source(folders: Folders) -> None:
    notebooks.build("00_toy", folders)
    assert notebooks.without_source(folders) == []
    (folders.notebooks / "01_gone.ipynb").touch()
    assert notebooks.without_source(folders) == ["01_gone.ipynb has no source"]
    write(folders, SOURCE.split("# %% [markdown] tags")[0])
    assert any("delete it" in line for line in notebooks.out_of_step("00_toy", folders))


def test_an_appendix_lies_in_a_folder_of_its_own(folders: Folders) -> None:
    (folders.sources / "appendix").mkdir()
    (folders.sources / "appendix" / "00_more.py").write_text(SOURCE)
    assert folders.pages() == ["00_toy"]
    assert folders.names() == ["00_toy", "appendix/00_more"]
    notebooks.build("appendix/00_more", folders)
    assert "J is 81.3." in sources(built(folders, "appendix/00_more.ipynb"))
    solutions = built(folders, "solutions/appendix/00_more.ipynb")
    assert "[appendix/00_more](../../appendix/00_more.ipynb)" in sources(solutions)
    assert notebooks.without_source(folders) == []
    (folders.notebooks / "appendix" / "01_gone.ipynb").touch()
    assert notebooks.without_source(folders) == ["appendix/01_gone.ipynb has no source"]


def test_the_map_of_the_course_has_no_appendix(folders: Folders) -> None:
    write(folders, "# %% [markdown]\n# # Map\n#\n# {{course}}\n\n# %%\n1\n")
    (folders.sources / "appendix").mkdir()
    (folders.sources / "appendix" / "00_start_here.py").touch()
    notebooks.build("00_toy", folders)
    assert "appendix" not in built(folders).cells[0].source


CELL = "\n# %% {}\n{}\n"


@pytest.mark.parametrize(
    ("extra", "says"),
    [
        (CELL.format('tags=["runs"]', "1"), "unknown tag 'runs'"),
        (CELL.format('tags=["builds:numpy.sum"]', "1"), "unknown tag 'builds:numpy.sum'"),
        (CELL.format('colour="red"', "1"), "unknown metadata 'colour'"),
        (CELL.format('tags=["nbval-skip"]', "1"), 'needs reason="..."'),
        (CELL.format('name="the-check"', "1"), "two cells are named 'the-check'"),
        (CELL.format('name="a b"', "1"), "letters, digits"),
        (CELL.format("", "def f():\n    # solution\n    pass"), "outside a cell tagged exercise"),
        (CELL.format('tags=["exercise"]', "def f():\n    pass"), "an exercise needs '# solution'"),
        (CELL.format('tags=["exercise"]', "def f():\n    # solution\n    pass"), "an exercise needs '# solution'"),
        (CELL.format('tags=["exercise"]', "# solution\nx = 1\n# end solution"), "inside a function"),
        (CELL.format('tags=["exercise"]', "def f():\n    pass\n    # end solution"), "without '# solution' before"),
        (CELL.format("[markdown]", "# {{results/b.json:x}}"), "write b.json first"),
        (CELL.format("[markdown]", "# {{results/a.json:runs.7.j|.1f}}"), "IndexError"),
        (CELL.format("[markdown]", "# {{results/a.json:runs.0.j}}"), "add a format"),
        (CELL.format("[markdown]", "# {{results/a.json:runs.0.name|.1f}}"), "cannot be formatted"),
        (CELL.format("[markdown]", "# {{results/a.json}}"), "malformed"),
        (CELL.format("[markdown]", "# a {{term:wrod}}"), "is not in the glossary"),
        (CELL.format("[markdown]", "# a {{term:masks|void|x}}"), "malformed"),
    ],
)
def test_a_source_that_breaks_a_rule_is_refused(folders: Folders, extra: str, says: str) -> None:
    write(folders, SOURCE + extra)
    with pytest.raises(BuildError) as caught:
        notebooks.build("00_toy", folders)
    assert says in str(caught.value)
    assert "00_toy.py" in str(caught.value)
    assert not (folders.notebooks / "00_toy.ipynb").exists()


def test_an_unknown_name_lists_the_sources(folders: Folders) -> None:
    with pytest.raises(BuildError, match="the sources are 00_toy"):
        notebooks.build("77_none", folders)


def test_the_map_of_the_course(folders: Folders) -> None:
    write(folders, "# %% [markdown]\n# # Map\n#\n# {{course}}\n\n# %%\n1\n")
    (folders.sources / "00_start_here.py").touch()
    notebooks.build("00_toy", folders)
    table = built(folders).cells[0].source
    assert "[00_start_here](00_start_here.ipynb)" in table
    assert "09_your_own_video *(to come)*" in table


def test_a_page_links_to_its_neighbours_and_to_the_sheets(folders: Folders) -> None:
    for number in ("01", "02"):
        (folders.sources / f"{number}_toy.py").write_text(
            f"# %% [markdown]\n# # {number} Toys: the {number}\n#\n# {{{{pages}}}}\n\n# %%\n1\n"
        )
    links = notebooks.neighbours("01_toy", folders).split(" · ")
    assert links == ["[← A toy](00_toy.ipynb)", "[02 Toys →](02_toy.ipynb)", "[glossary](glossary.md)",
                     "[cheat sheet](cheat_sheet.md)"]  # fmt: skip
    notebooks.build("01_toy", folders)
    assert " · ".join(links) in built(folders, "01_toy.ipynb").cells[0].source
    assert "→" not in notebooks.neighbours("02_toy", folders)
    with pytest.raises(BuildError, match="no page of the course"):
        notebooks.neighbours("appendix/01_more", folders)


def test_words_link_to_the_glossary_from_every_folder(folders: Folders) -> None:
    extra = CELL.format(
        '[markdown] tags=["exercise-text"]', "# Two {{term:guide masks|guide mask}} and {{term:void}}."
    )
    write(folders, SOURCE + extra)
    notebooks.build("00_toy", folders)
    here = "Two [guide masks]({}glossary.md#guide-mask) and [void]({}glossary.md#void)."
    assert here.format("", "") in sources(built(folders))
    assert here.format("../", "../") in sources(built(folders, "solutions/00_toy.ipynb"))


def test_the_glossary_names_the_page_that_uses_a_word_first(folders: Folders) -> None:
    page = "# %% [markdown]\n# # {}\n#\n# {}\n\n# %%\n1\n"
    (folders.sources / "01_a.py").write_text(page.format("01 A", "Arrow keys, an oracle, a guide mask."))
    (folders.sources / "02_b.py").write_text(page.format("02 B", "A {{term:key}} and {{term:oracles|oracle}}."))
    uses = notebooks.first_uses(folders)
    assert (uses["key"], uses["oracle"], uses["guide mask"], uses["top-k"]) == ("02_b", "02_b", "01_a", "")
    text = notebooks.sheet("glossary", folders)
    assert "### guide mask" in text
    assert "*First in [01 A](01_a.ipynb).*" in text


def test_the_cheat_sheet_takes_the_shapes_from_the_pages(folders: Folders) -> None:
    page = [
        "%% [markdown]",
        "# 05 A: b",
        "",
        "## Recap",
        "",
        "* text",
        "",
        "| q | shape |",
        "|---|---|",
        "| key | `C h` |",
    ]
    (folders.sources / "05_a.py").write_text("".join(f"# {line}\n" for line in page))
    text = notebooks.sheet("cheat_sheet", folders)
    assert "## [05 A](05_a.ipynb)" in text
    assert text.endswith("| q | shape |\n|---|---|\n| key | `C h` |\n")
    assert "https://arxiv.org/abs/1904.00607" in text
    assert "A toy" not in text, "a page without shapes"


def test_a_sheet_that_is_out_of_step_is_named(folders: Folders) -> None:
    (folders.notebooks / "glossary.md").write_text(notebooks.sheet("glossary", folders))
    (said,) = notebooks.sheets_out_of_step(folders)
    assert said.startswith("cheat_sheet.md is out of step; build any page")


# --- with a kernel -----------------------------------------------------------------------------------------------


def test_execute_stores_outputs_and_measures(folders: Folders) -> None:
    card = "\n# %% [markdown]\n# ## Run card: {{results/run_cards.json:00_toy.smoke.seconds|.0f}} s\n"
    mimes = '{"text/plain": "w", "application/vnd.jupyter.widget-view+json": {}}'
    write(folders, SOURCE + card + f"\n# %%\nfrom IPython.display import display\ndisplay({mimes}, raw=True)\n")
    notebooks.build_and_execute("00_toy", folders, "smoke", timeout=60, measure=True)
    assert notebooks.out_of_step("00_toy", folders) == []
    reader = built(folders)
    shown = [cell.outputs[0].get("text", "") for cell in reader.cells if cell.get("outputs")]
    assert shown[:2] == ["smoke\n", "not written yet\n"]
    assert built(folders, "solutions/00_toy.ipynb").cells[4].outputs[0].text == "4\n"
    assert reader.cells[-1].outputs[0].data == {"text/plain": "w"}  # no view of a widget that is gone
    assert "? s" not in sources(reader)
    measured = json.loads((folders.results / "run_cards.json").read_text())["00_toy"]["smoke"]
    assert measured["seconds"] > 0
    assert reader.metadata.language_info == {"name": "python"}


def test_a_stored_page_shows_no_davis(folders: Folders) -> None:
    write(folders, "# %%\nimport os\nprint(os.environ['VOS_TUTORIAL_DAVIS'])\n")
    notebooks.build_and_execute("00_toy", folders, "smoke", timeout=60)
    assert built(folders).cells[0].outputs[0].text == "none\n"


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        ("raise ValueError('no luck')", "no luck"),
        ("import tempfile; print(tempfile.gettempdir() + '/x')", "prints a path of this machine"),
    ],
)
def test_a_failing_cell_is_named_and_the_old_file_stays(folders: Folders, bad: str, says: str) -> None:
    notebooks.build("00_toy", folders)
    before = (folders.notebooks / "00_toy.ipynb").read_bytes()
    write(folders, "# %% [markdown]\n# # T\n\n# %%\nx = 1\n\n# %%\n" + bad)
    with pytest.raises(BuildError) as caught:
        notebooks.build_and_execute("00_toy", folders, "smoke", timeout=60)
    assert says in str(caught.value)
    assert bad in str(caught.value)
    assert (folders.notebooks / "00_toy.ipynb").read_bytes() == before
    assert not list(folders.notebooks.glob("*.tmp"))


def _write_run(path: Path, *cells: tuple[str, str, int | None], **options: float) -> None:
    code = []
    for source, printed, count in cells:
        cell = nbformat.v4.new_code_cell(source, execution_count=count)
        cell.outputs = [nbformat.v4.new_output("stream", text=printed)] if printed else []
        code.append(cell)
    nbformat.write(nbformat.v4.new_notebook(cells=code, metadata={"vos_tutorial": options}), path)


def test_strict_nbval_refuses_skips_and_sums(tmp_path: Path) -> None:
    """What notebooks/conftest.py adds to nbval, in two workers as ``make test`` runs it."""
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    shutil.copy(ROOT / "notebooks" / "conftest.py", tmp_path)
    shutil.copy(ROOT / "tests" / "nbval.cfg", tmp_path)
    _write_run(tmp_path / "vacuous.ipynb", ("print(1)", "", None), ("print(2)", "3\n", 2))
    address = ("print('<A at 0x7f12ab34cd56>')", "<A at 0x7f12ab34cd99>\n", 1)
    _write_run(tmp_path / "wrong.ipynb", address, ("print(2)", "3\n", 2), ("print(3)", "4\n", 3), smoke_seconds=0.001)
    options = (
        "--nbval --nbval-current-env --nbval-sanitize-with nbval.cfg -n 2 --dist loadfile -rfs -p no:cacheprovider"
    )
    command = [sys.executable, "-m", "pytest", *options.split(), "vacuous.ipynb", "wrong.ipynb"]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert run.returncode == 1, run.stdout
    assert "vacuous.ipynb is refused: its execution counts are [None, 2], not 1..2" in run.stdout
    assert "Cell 1 of wrong.ipynb failed first" in run.stdout
    assert "1 failed, 1 passed, 2 skipped, 1 error" in run.stdout
    assert "wrong.ipynb  FAILED: over 2 x its budget" in run.stdout


@pytest.mark.parametrize(("seconds", "fails"), [(44.0, False), (80.0, False), (91.0, True)])
def test_a_notebook_over_its_budget_fails_the_run(tmp_path: Path, seconds: float, fails: bool) -> None:
    spec = importlib.util.spec_from_file_location("strict", ROOT / "notebooks" / "conftest.py")
    assert spec is not None
    assert spec.loader is not None
    strict = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(strict)
    _write_run(tmp_path / "x.ipynb", ("print(1)", "1\n", 1))
    for so_far in (1.0, seconds):  # one report a cell: the seconds since the kernel started
        report = SimpleNamespace(user_properties=[("notebook", (str(tmp_path / "x.ipynb"), so_far))])
        strict.pytest_runtest_logreport(report)
    session = SimpleNamespace(config=SimpleNamespace(), exitstatus=pytest.ExitCode.OK)
    strict.pytest_sessionfinish(session)
    assert (session.exitstatus == pytest.ExitCode.TESTS_FAILED) is fails
