"""The index of the offline search: which word stands in which section."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterable

from .pages import Page

TITLE = 8  # a word in a heading counts as much as so many in the text
_WORD = re.compile(r"[^\W_]+(?:[-'][^\W_]+)*")


def words(text: str) -> list[str]:
    """The words of a text, in lower case; parts of ``snake_case`` are words of their own."""
    return [word.lower() for word in _WORD.findall(text)]


def index(pages: Iterable[Page]) -> str:
    """A script that sets ``VOS_SEARCH``.

    It has ``sections``, each [page title, section title, address, first words], and ``words``, for each word the
    sections it is in with its weight there, flat: ``{word: [section, weight, section, weight, ...]}``.
    """
    sections: list[list[str]] = []
    where: defaultdict[str, defaultdict[int, int]] = defaultdict(lambda: defaultdict(int))
    for page in pages:
        for section in page.sections:
            text = " ".join(section.text)
            begins = " ".join(text.removeprefix(section.title).split())[:160]
            sections.append([page.title, section.title, f"{page.path}#{section.anchor}", begins])
            for word in words(text):
                where[word][len(sections) - 1] += 1
            for word in words(section.title):
                where[word][len(sections) - 1] += TITLE
    flat = {word: [number for pair in found.items() for number in pair] for word, found in sorted(where.items())}
    data = json.dumps({"sections": sections, "words": flat}, ensure_ascii=False, separators=(",", ":"))
    return f"window.VOS_SEARCH={data.replace('</', '<' + chr(92) + '/')};\n"
