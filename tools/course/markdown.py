"""Markdown to HTML, as the notebooks use it; formulas become MathML, which browsers draw without a script."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from html import escape
from typing import Any

import latex2mathml.converter
from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.token import Token
from mdit_py_plugins.dollarmath import dollarmath_plugin
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import get_lexer_by_name
from pygments.util import ClassNotFound

_FORMATTER = HtmlFormatter(nowrap=True)


def mathml(tex: str, block: bool = False) -> str:
    """A formula of LaTeX as a ``<math>`` element, with the LaTeX as its label for those who cannot see it."""
    tex = tex.strip()
    element = latex2mathml.converter.convert(tex, display="block" if block else "inline")
    return element.replace("<math ", f'<math alttext="{escape(tex)}" ', 1)


def code(source: str, language: str = "python") -> str:
    """Highlighted source in a ``<pre>`` that can be scrolled with the keyboard."""
    try:
        lexer = get_lexer_by_name(language or "text", stripnl=False)
    except ClassNotFound:
        lexer = get_lexer_by_name("text", stripnl=False)
    return f'<pre class="code" tabindex="0"><code>{highlight(source, lexer, _FORMATTER).rstrip()}</code></pre>'


def slug(title: str) -> str:
    """A heading's anchor: its letters and digits, lower case, joined by hyphens."""
    return re.sub(r"[^\w]+", "-", title.lower()).strip("-") or "section"


@dataclass
class Section:
    """What lies under one heading: where it is, and its words for the search."""

    level: int
    title: str
    anchor: str
    text: list[str] = field(default_factory=list)


class Renderer:
    """Renders the cells of one page; it knows the headings so far, so that anchors are unique.

    Args:
        link: what becomes of a link's address; None leaves out the link and keeps its text.
    """

    def __init__(self, link: Callable[[str], str | None] = lambda address: address) -> None:
        self.sections: list[Section] = []
        self._link = link
        self._markdown = MarkdownIt("commonmark", {"html": True}).enable("table")
        self._markdown.use(dollarmath_plugin, renderer=lambda tex, options: mathml(tex, options["display_mode"]))
        for name in ("heading_open", "link_open", "link_close", "fence", "table_open", "table_close"):
            self._markdown.add_render_rule(name, getattr(self, f"_{name}"))

    def render(self, text: str) -> str:
        """HTML of one Markdown cell; headings and words are noted in ``sections``."""
        environment: dict[str, Any] = {"link": self._link, "dropped": []}
        tokens = self._markdown.parse(text, environment)
        for position, token in enumerate(tokens):
            if token.type == "heading_open":
                self._begin_section(int(token.tag[1:]), plain(tokens[position + 1]))
                token.attrSet("id", self.sections[-1].anchor)
            elif token.type == "inline":
                self.note(plain(token))
            elif token.type == "html_block":
                self.note(re.sub(r"<[^>]+>", " ", token.content))
        return self._markdown.renderer.render(tokens, self._markdown.options, environment)

    def note(self, words: str) -> None:
        """Words that the search finds in the present section."""
        if self.sections:
            self.sections[-1].text.append(words)

    def _begin_section(self, level: int, title: str) -> None:
        anchor, taken = slug(title), {section.anchor for section in self.sections}
        same = sum(a == anchor or re.fullmatch(rf"{re.escape(anchor)}-\d+", a) is not None for a in taken)
        self.sections.append(Section(level, title, f"{anchor}-{same + 1}" if same else anchor))

    # markdown-it calls these with itself as ``renderer``.

    @staticmethod
    def _heading_open(renderer: RendererHTML, tokens: list[Token], i: int, options: Any, env: Any) -> str:
        return f'<{tokens[i].tag} id="{tokens[i].attrGet("id")}">'

    @staticmethod
    def _link_open(renderer: RendererHTML, tokens: list[Token], i: int, options: Any, env: Any) -> str:
        address = env["link"](str(tokens[i].attrGet("href")))
        env["dropped"].append(address is None)
        return "" if address is None else f'<a href="{escape(address)}">'

    @staticmethod
    def _link_close(renderer: RendererHTML, tokens: list[Token], i: int, options: Any, env: Any) -> str:
        return "" if env["dropped"].pop() else "</a>"

    @staticmethod
    def _fence(renderer: RendererHTML, tokens: list[Token], i: int, options: Any, env: Any) -> str:
        return code(tokens[i].content, tokens[i].info.strip())

    @staticmethod
    def _table_open(renderer: RendererHTML, tokens: list[Token], i: int, options: Any, env: Any) -> str:
        return '<div class="wide" tabindex="0"><table>'

    @staticmethod
    def _table_close(renderer: RendererHTML, tokens: list[Token], i: int, options: Any, env: Any) -> str:
        return "</table></div>"


def plain(token: Token) -> str:
    """The words of an inline token, without marks; a formula keeps its LaTeX."""
    parts: Mapping[str, str] = {"softbreak": " ", "hardbreak": " "}
    children = token.children or []
    return "".join(
        child.content if child.type in ("text", "code_inline", "math_inline") else parts.get(child.type, "")
        for child in children
    )
