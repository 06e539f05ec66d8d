"""A page's slides: cells that its teaching notes mark, with the page's prose as speaker notes; offline, one file.

The deck is a small script of ours (``assets/deck.js``): arrow keys, lines that appear one by one, an overview, a
window with notes and a clock. reveal.js comes from npm only, or inside packages that bring Sphinx or JupyterLab
extensions with them; a course that needs neither should not install them for a slide.
"""

from __future__ import annotations

import re
from html import escape, unescape
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from nbformat import NotebookNode
from pygments.formatters import HtmlFormatter

from . import pages
from .exercise_cells import DETAILS
from .markdown import Renderer, code
from .teaching import Found, KitError, Slide, Teaching, find

ASSETS = Path(__file__).parent / "assets"
SLIDE_WORDS = 70  # in points; more than that is read, not listened to


def deck(notebook: NotebookNode, name: str, notes: Teaching) -> str:
    """The slides of a page as one HTML file without anything from elsewhere.

    Args:
        notebook: executed.
        name: of the page, ``NN_name``.
        notes: of the page.

    Raises:
        KitError: if a cell is missing or has nothing to show, or a slide is empty or too full.
    """
    shown = [_slide(notebook, slide, f"{name}.yml, slide {slide.title!r}") for slide in notes.slides]
    title = re.sub(r"^#+\s*", "", notebook.cells[0].source.splitlines()[0])
    style = (ASSETS / "deck.css").read_text(encoding="utf-8") + HtmlFormatter(style="xcode").get_style_defs(".code")
    template = Environment(loader=FileSystemLoader(ASSETS), undefined=StrictUndefined, autoescape=True).get_template(
        "deck.html"
    )
    script = (ASSETS / "deck.js").read_text(encoding="utf-8")
    return template.render(title=title, slides=shown, style=style, script=script)


def _slide(notebook: NotebookNode, slide: Slide, where: str) -> dict[str, str]:
    shown = [_with_output(notebook, find(notebook, words, where)) for words in slide.show]
    coded = [find(notebook, words, where) for words in slide.code]
    listed = {found.position: found for found in [*shown, *coded]}
    body = []
    for _, found in sorted(listed.items()):
        if found in coded and found.cell.cell_type == "code":
            body.append(code(found.cell.source))
        if found in shown:
            html = _outputs(found, where) if found.cell.cell_type == "code" else _part(found, where)
            body.append(f'<div class="later">{html}</div>' if slide.wait else html)
    if slide.points:
        renderer = Renderer(lambda address: None)
        lines = [renderer.render(point).strip().removeprefix("<p>").removesuffix("</p>") for point in slide.points]
        body.append("<ul>" + "".join(f'<li class="later">{line}</li>' for line in lines) + "</ul>")
        words = sum(len(re.sub(r"<[^>]+>", " ", line).split()) for line in lines)
        if words > SLIDE_WORDS:
            raise KitError(
                f"{where}: {words} words in points:, more than {SLIDE_WORDS}; split it, or move words to notes:."
            )
    if not body:
        raise KitError(f"{where}: nothing is shown; name a cell under show: or code:, or write points:.")
    html = "".join(_wide_enough(part) for part in body)
    kind = "several" if html.count("<img ") > 1 else "long" if html.count("<tr>") > 11 else ""
    return {"title": slide.title, "body": html, "notes": _notes(notebook, slide, list(listed.values())), "kind": kind}


def _with_output(notebook: NotebookNode, found: Found) -> Found:
    """The cell itself, or else the next one below it that shows something, if only code lies between."""
    for position in range(found.position, len(notebook.cells)):
        cell = notebook.cells[position]
        if found.cell.cell_type != "code" or cell.cell_type != "code":
            break
        if cell.get("outputs"):
            return Found(cell, position, found.section, found.line)
    return found


def _wide_enough(html: str) -> str:
    """Code and printed lines say how long their longest line is, so that the type can be as large as it fits."""

    def measured(match: re.Match[str]) -> str:
        lines = re.sub(r"<[^>]+>", "", unescape(match[2])).splitlines()
        return f'<pre style="--columns:{max(map(len, lines), default=1) + 4}"{match[1]}>{match[2]}</pre>'

    return re.sub(r"<pre([^>]*)>(.*?)</pre>", measured, html, flags=re.S)


def _outputs(found: Found, where: str) -> str:
    """The stored outputs of a code cell: pictures, loops and tables; a loop's still is left out."""
    outputs = found.cell.get("outputs", [])
    moving = any("image/webp" in str(output.get("data", {}).get("text/html", "")) for output in outputs)
    parts = []
    for output in outputs:
        data = output.get("data", {})
        if moving and "image/png" in data:
            continue
        if pages.is_widget(output):
            parts.append(pages.widget(output, None, where))
        else:
            parts.append(pages.as_html(output, where))
    html = "".join(parts)
    if not html:
        raise KitError(f"{where}: the cell that begins {found.begins!r} has no output to show; list it under code:.")
    html = re.sub(r"</?details[^>]*>|<summary>.*?</summary>", "", html)  # a loop need not be stopped on a slide
    return html.replace('<img loading="lazy" ', "<img ")


def _part(found: Found, where: str) -> str:
    """What a slide takes from prose: its formulas, or else its table."""
    text = DETAILS.sub("", found.cell.source)
    formulas = re.findall(r"\$\$.+?\$\$", text, re.S)
    tables = re.findall(r"(?:^\|.*\n?)+", text, re.M)
    if not formulas and not tables:
        raise KitError(
            f"{where}: the cell that begins {found.begins!r} has neither formula nor table; write points:."
        )
    return Renderer(lambda address: None).render("\n\n".join(formulas or tables[:1]))


def _notes(notebook: NotebookNode, slide: Slide, found: list[Found]) -> str:
    """Speaker notes: the lecturer's, then what the page says before and after the cells that are shown."""
    prose: dict[int, str] = {}
    for each in found:
        near = [each.position] if each.cell.cell_type == "markdown" else [each.position - 1, each.position + 1]
        for position in near:
            if 0 <= position < len(notebook.cells) and notebook.cells[position].cell_type == "markdown":
                prose[position] = notebook.cells[position].source
    renderer = Renderer(lambda address: None)
    own = f"<div>{renderer.render(slide.notes)}</div>" if slide.notes else ""
    said = "".join(renderer.render(_unfold(text)) for _, text in sorted(prose.items()))
    return own + (f"<h4>{escape('On the page')}</h4>{said}" if said else "")


def _unfold(text: str) -> str:
    """Folded answers, open: the notes are for the lecturer. Headings become plain lines."""
    open_ = DETAILS.sub(lambda m: f"\n**{m['summary']}.** {m['text'].strip()}\n", text)
    return re.sub(r"^#{1,6} (.+)$", r"**\1**", open_, flags=re.M)
