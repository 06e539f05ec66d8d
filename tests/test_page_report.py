"""The size of a page is what a reader has to read: words that are shown, and nothing that is not."""

from __future__ import annotations

import nbformat
import pytest

from tools import page_report
from tools.page_report import Report, report, words_in


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("One, two: three.", 3),
        ("don't re-read it", 3),
        ("J is 81.3 % of 100", 3),
        ("a [link](https://example.org/a/b) <b>bold</b> <!-- given, not read -->", 3),
        ("<details><summary>Answer</summary>Folded text counts.</details>", 4),
        ("| a | b |\n|---|---|\n| c | d |", 4),
        ("$T$ frames, `h × w` cells", 5),
    ],
)
def test_words(text: str, words: int) -> None:
    assert words_in(text) == words


def page() -> nbformat.NotebookNode:
    def shown(**data: str) -> nbformat.NotebookNode:
        kinds = {"png": "image/png", "plain": "text/plain", "html": "text/html"}
        return nbformat.v4.new_output("display_data", data={kinds[k]: v for k, v in data.items()})

    first, second = nbformat.v4.new_code_cell("x = 1\n\ny = 2"), nbformat.v4.new_code_cell("show()")
    first.outputs = [nbformat.v4.new_output("stream", text="two words 3.5\n")]
    second.outputs = [
        shown(png="x", plain="Figure: an alt text that nobody who sees reads"),
        shown(html="<small>see</small>", plain="Caption: See this."),
        shown(html="<img>", plain="Moving figure: a dog runs"),
        shown(html="<table>", plain="clean  92.0*"),
    ]
    prose = nbformat.v4.new_markdown_cell(
        "# Title\n\nJ is {{results/a.json:j|.1f}}, with 12 % of 3 frames (section 3.2, `x > 0.5`)."
    )
    task = nbformat.v4.new_markdown_cell("**Exercise** (10 minutes) Do it.", metadata={"tags": ["exercise-text"]})
    return nbformat.v4.new_notebook(cells=[prose, first, second, task])


def test_a_page_is_measured() -> None:
    found = report(page(), page())
    assert found == Report(
        words=12, printed=5, cells=2, lines=3, median=1.5, figures=2, captions=1, exercises=10, bound=1, loose=1
    )
    assert found.minutes == pytest.approx(17 / 180 + 0.5 + 10)
    assert found.share_bound == 0.5


def test_fifteen_per_cent_over_is_too_long() -> None:
    def sized(**sizes: float) -> Report:
        whole: dict[str, float] = dict.fromkeys(Report.__dataclass_fields__, 0) | sizes
        return Report(**whole)  # type: ignore[arg-type]

    assert page_report.too_long(sized(words=5175, cells=80, median=6.5)) == []
    assert len(page_report.too_long(sized(words=5176, cells=81, median=7))) == 3


def test_the_table_of_all_pages(capsys: pytest.CaptureFixture[str]) -> None:
    assert page_report.main(["05"]) == 0
    heading, line = capsys.readouterr().out.splitlines()
    assert heading.split() == ["page", *page_report.COLUMNS]
    assert line.startswith("05_stm_key_value_memory")
