"""The glossary and the cheat sheet: every link inside leads somewhere, and every word is used."""

from __future__ import annotations

import re

import pytest

from tools import notebooks
from vos_tutorial.course.cheat_sheet import METHODS
from vos_tutorial.course.glossary import GLOSSARY, anchor
from vos_tutorial.models import METHODS as MODELS


def test_the_stored_sheets_are_those_of_the_sources() -> None:
    assert notebooks.sheets_out_of_step(notebooks.HERE) == []


def test_every_entry_is_on_a_page() -> None:
    assert [entry for entry, page in notebooks.first_uses(notebooks.HERE).items() if not page] == []


@pytest.mark.parametrize("entry", GLOSSARY)
def test_an_entry_is_a_name_and_a_sentence(entry: str) -> None:
    assert entry == entry.lower().strip()
    assert GLOSSARY[entry].endswith((".", ".)"))
    links = re.findall(r"\]\(#([^)]+)\)", GLOSSARY[entry])
    assert set(links) <= {anchor(other) for other in GLOSSARY} - {anchor(entry)}


def test_the_headings_of_the_glossary_are_the_anchors_that_links_use() -> None:
    headings = re.findall(r"^### (.+)$", notebooks.sheet("glossary", notebooks.HERE), re.M)
    assert headings == sorted(GLOSSARY)
    assert [h.lower().replace(" ", "-") for h in headings] == [anchor(h) for h in headings]


def test_every_method_is_on_the_cheat_sheet() -> None:
    text = notebooks.sheet("cheat_sheet", notebooks.HERE)
    assert len(METHODS) == len(MODELS)
    for number, method in METHODS.items():
        assert re.search(rf"^## \[{number} .*\]\({number}_.*\.ipynb\)$", text, re.M)
        assert method.paper in text
        assert notebooks.ledger(next(n for n in notebooks.HERE.pages() if n.startswith(number)), notebooks.HERE)
