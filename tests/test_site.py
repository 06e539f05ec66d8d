"""The web site: what becomes of a cell, the search's index, the library's pages, and what stops the build."""

from __future__ import annotations

import json
from pathlib import Path

import nbformat
import pytest

from tools.course import reference, search, site
from tools.course.markdown import Renderer
from tools.course.pages import SiteError, page
from vos_tutorial.errors import TutorialError

PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="


def picture(text: str) -> nbformat.NotebookNode:
    return nbformat.v4.new_output("display_data", data={"image/png": PNG, "text/plain": text})


def widget() -> nbformat.NotebookNode:
    data = {"image/png": PNG, "text/plain": "MaskPlayer(3 frames)"}
    return nbformat.v4.new_output("execute_result", data=data, metadata={"image/png": {"alt": "A clip"}})


def notebook(*cells: object, ran: bool = True) -> nbformat.NotebookNode:
    """Markdown from strings, code cells from lists of outputs."""
    made = []
    for cell in cells:
        if isinstance(cell, str):
            made.append(nbformat.v4.new_markdown_cell(cell))
        else:
            made.append(nbformat.v4.new_code_cell("x = 1", outputs=cell, execution_count=1 if ran else None))
    return nbformat.v4.new_notebook(cells=made)


def write(path: Path, *cells: object, ran: bool = True) -> Path:
    path.parent.mkdir(exist_ok=True)
    nbformat.write(notebook(*cells, ran=ran), path)
    return path


def keep(address: str) -> str:
    return address


def test_a_formula_needs_no_script() -> None:
    html = Renderer().render("The ratio $\\frac{a}{b} < 1$ and\n\n$$J = |A \\cap B|$$")
    assert html.count("<math") == 2
    assert 'display="block"' in html
    assert 'alttext="\\frac{a}{b} &lt; 1"' in html
    assert "$" not in html


def test_folded_answers_and_tables_stay() -> None:
    html = Renderer().render("<details><summary>Answer</summary>Two.</details>\n\n| a | b |\n|---|---|\n| 1 | 2 |")
    assert "<details><summary>Answer</summary>Two.</details>" in html
    assert html.count("<td>") == 2


def test_headings_with_one_name_have_two_anchors() -> None:
    renderer = Renderer()
    html = renderer.render("# Page\n## Your run\n## Your run\n## Your run 2")
    anchors = [section.anchor for section in renderer.sections]
    assert len(set(anchors)) == 4
    assert all(f'id="{anchor}"' in html for anchor in anchors)


def test_a_page_shows_pictures_with_their_text_and_widgets_alive() -> None:
    made = page(
        notebook("# Title", [picture("Figure: a <dog>")], [widget()]), "a.html", keep, {0: "widgets/a-0.html"}
    )
    assert 'alt="a &lt;dog&gt;"' in made.body
    assert 'src="widgets/a-0.html" title="A clip"' in made.body
    assert made.title == "Title"
    still = page(notebook("# Title", [widget()]), "a.html", keep)
    assert "iframe" not in still.body
    assert 'alt="A clip"' in still.body


def test_the_index_finds_words_where_they_are() -> None:
    made = page(notebook("# Title", "## Memory\nKeys and `soft_aggregate`", "## Time\nKeys"), "a.html", keep)
    data = json.loads(search.index([made]).removeprefix("window.VOS_SEARCH=").rstrip(";\n"))
    titles = [section[1] for section in data["sections"]]
    assert [titles[i] for i in data["words"]["keys"][::2]] == ["Memory", "Time"]
    assert [titles[i] for i in data["words"]["aggregate"][::2]] == ["Memory"]
    memory = dict(zip(data["words"]["memory"][::2], data["words"]["memory"][1::2], strict=True))
    assert memory[titles.index("Memory")] > search.TITLE


def test_every_public_function_has_a_place() -> None:
    pages = {made.path: made for made in reference.pages()}
    metrics = pages["reference/metrics.html"]
    assert 'id="region_similarity"' in metrics.body
    assert "<dt><code>truth</code></dt>" in metrics.body
    assert not any(":func:`" in made.body or "``" in made.body for made in pages.values())
    assert not any(path.startswith("reference/course") for path in pages)


def test_links_between_notebooks_become_links_between_pages(tmp_path: Path) -> None:
    first = write(tmp_path / "nb" / "00_a.ipynb", "# A\nto [B](01_b.ipynb#there), [solved](solutions/00_a.ipynb)", [])
    second = write(tmp_path / "nb" / "01_b.ipynb", "# B\n## There\n[more](appendix/01_c.ipynb)", [])
    third = write(tmp_path / "nb" / "appendix" / "01_c.ipynb", "# C\nback to [B](../01_b.ipynb)", [])
    plan = site.Plan([first, second, third], with_widgets=False, with_reference=False)
    site.build(plan, tmp_path / "site")
    html = (tmp_path / "site" / "00_a.html").read_text()
    assert 'href="01_b.html#there"' in html
    assert "solutions" not in html
    assert "solved" in html  # the words stay
    assert 'href="../01_b.html"' in (tmp_path / "site" / "appendix" / "01_c.html").read_text()
    assert 'rel="next" href="01_b.html"' in html


def test_a_sheet_is_a_page_that_words_lead_to(tmp_path: Path) -> None:
    words = "# A\nThe [guide](glossary.md#guide-mask), [code](../README.md#x), [solved](solutions/00_a.ipynb)"
    first = write(tmp_path / "nb" / "00_a.ipynb", words, [])
    deep = write(tmp_path / "nb" / "appendix" / "00_b.ipynb", "# B\nA [guide](../glossary.md#guide-mask)", [])
    sheet = tmp_path / "nb" / "glossary.md"
    sheet.write_text("# Glossary\n\n### guide mask\n\nA mask, first in [A](00_a.ipynb). See [itself](#guide-mask).\n")
    site.build(site.Plan([first, deep], [sheet], with_widgets=False, with_reference=False), tmp_path / "site")
    assert 'href="glossary.html#guide-mask"' in (tmp_path / "site" / "00_a.html").read_text()
    assert 'href="../glossary.html#guide-mask"' in (tmp_path / "site" / "appendix" / "00_b.html").read_text()
    page_ = (tmp_path / "site" / "glossary.html").read_text()
    assert 'id="guide-mask"' in page_
    assert 'href="00_a.html"' in page_
    sheet.write_text("# Glossary\n")
    with pytest.raises(SiteError, match=r"links to 'glossary.html#guide-mask', but that page has no such place"):
        site.build(site.Plan([first], [sheet], with_widgets=False, with_reference=False), tmp_path / "site")


def test_the_old_site_stays_until_the_new_one_is_whole(tmp_path: Path) -> None:
    good = write(tmp_path / "nb" / "00_a.ipynb", "# A", [])
    plan = site.Plan([good], with_widgets=False, with_reference=False)
    site.build(plan, tmp_path / "site")
    write(good, "# A\n[nowhere](#gone)", [])
    with pytest.raises(SiteError, match=r"00_a.html links to '#gone', but that page has no such place"):
        site.build(plan, tmp_path / "site")
    assert "nowhere" not in (tmp_path / "site" / "00_a.html").read_text()


@pytest.mark.parametrize(
    ("cells", "ran", "says"),
    [
        (["# A", []], False, "was not executed; run make notebooks"),
        (["# A", [picture("<Figure size 640x480>")]], True, "a picture has no text"),
        (["# A", [nbformat.v4.new_output("error", ename="ValueError")]], True, "ended with ValueError"),
        (["# A\n[x](missing.png)", []], True, "links to 'missing.png'"),
    ],
)
def test_what_stops_the_build(tmp_path: Path, cells: list[object], ran: bool, says: str) -> None:
    path = write(tmp_path / "nb" / "00_a.ipynb", *cells, ran=ran)
    with pytest.raises(TutorialError, match=says):
        site.build(site.Plan([path], with_widgets=False, with_reference=False), tmp_path / "site")
    assert not (tmp_path / "site").exists()
