"""The kit's documents as web pages of their own: one style, no script, good on paper too."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from html import escape
from pathlib import Path

from pygments.formatters import HtmlFormatter

from .markdown import Renderer

ASSETS = Path(__file__).parent / "assets"


class Document:
    """A page that is written from top to bottom, of Markdown and of HTML.

    Args:
        title: of the page; its first heading.
        link: what becomes of an address in Markdown; see :class:`~tools.course.markdown.Renderer`.
    """

    def __init__(self, title: str, link: Callable[[str], str | None] = lambda address: address) -> None:
        self.title = title
        self._renderer = Renderer(link)
        self._parts: list[str] = []
        self.write(f"# {title}")

    def write(self, markdown: str) -> None:
        """Add Markdown."""
        self._parts.append(self._renderer.render(markdown))

    def html(self, text: str) -> None:
        """Add HTML as it is."""
        self._parts.append(text)

    def fold(self, summary: str, markdown: str = "", html: str = "") -> None:
        """Add something that is closed at first."""
        inside = self._renderer.render(markdown) if markdown else ""
        self._parts.append(f"<details><summary>{escape(summary)}</summary>{inside}{html}</details>")

    def table(self, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Add a table; cells are Markdown without line breaks."""
        lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
        lines += [
            "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in row) + " |" for row in rows
        ]
        self.write("\n".join(lines))

    def text(self, home: str = "index.html") -> str:
        """The whole page."""
        contents = [s for s in self._renderer.sections if s.level == 2]
        here = "".join(f'<li><a href="#{s.anchor}">{escape(s.title)}</a></li>' for s in contents)
        nav = f'<nav aria-label="On this page"><ul>{here}</ul></nav>' if len(contents) > 2 else ""
        style = (ASSETS / "kit.css").read_text(encoding="utf-8") + HtmlFormatter(style="xcode").get_style_defs(
            ".code"
        )
        body = "\n".join(self._parts)
        head, _, rest = body.partition("</h1>")
        back = f'<p class="home"><a href="{home}">The kit</a></p>' if home else ""
        return (
            '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
            '<meta name="viewport" content="width=device-width, initial-scale=1">'
            f"<title>{escape(plain(self.title))}</title><style>{style}</style></head>\n"
            f"<body><main>{back}{head}</h1>{nav}{rest}</main></body></html>\n"
        )


def plain(markdown: str) -> str:
    """Words without marks and links."""
    return re.sub(r"\[([^\]]+)\]\([^)]*\)", r"\1", markdown).replace("*", "").replace("`", "")
