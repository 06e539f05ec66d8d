"""A notebook as a page of the site: its cells with their stored outputs."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from html import escape
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from vos_tutorial.errors import TutorialError

from .markdown import Renderer, Section, code

WIDGET = "application/vnd.jupyter.widget-view+json"


class SiteError(TutorialError):
    """The site cannot be built; the sentence says what to do."""


@dataclass(frozen=True)
class Page:
    """One page: ``path`` in the site, title, HTML, sections, and ``short``, its name in the side bar."""

    path: str
    title: str
    body: str
    sections: list[Section]
    short: str


def read(path: Path) -> NotebookNode:
    """A notebook with outputs.

    Raises:
        SiteError: if it was never executed: a site without results would teach nothing.
    """
    notebook = nbformat.read(path, as_version=4)
    ran = [cell.execution_count for cell in notebook.cells if cell.cell_type == "code"]
    if not ran or any(count is None for count in ran):
        raise SiteError(f"{path.name} was not executed; run make notebooks first.")
    return notebook


def page(
    notebook: NotebookNode, path: str, link: Callable[[str], str | None], live: Mapping[int, str] | None = None
) -> Page:
    """The page of a notebook.

    Args:
        notebook: executed.
        path: of the page in the site.
        link: see :class:`~tools.course.markdown.Renderer`.
        live: address of the page of the n-th widget, counted from 0, relative to this one.

    Raises:
        SiteError: if a picture has no text that describes it.
    """
    renderer, parts, widgets = Renderer(link), [], 0
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            parts.append(renderer.render(cell.source))
            continue
        renderer.note(cell.source)
        shown = []
        for output in cell.outputs:
            if is_widget(output):
                shown.append(widget(output, (live or {}).get(widgets), path))
                widgets += 1
            else:
                shown.append(as_html(output, path))
        parts.append(_code_cell(cell, "".join(shown)))
    title = renderer.sections[0].title if renderer.sections else path
    return Page(path, title, "\n".join(parts), renderer.sections, title)


def sheet(text: str, path: str, link: Callable[[str], str | None]) -> Page:
    """The page of a Markdown file; arguments as for :func:`page`."""
    renderer = Renderer(link)
    body = renderer.render(text)
    title = renderer.sections[0].title if renderer.sections else path
    return Page(path, title, body, renderer.sections, title)


def _code_cell(cell: NotebookNode, outputs: str) -> str:
    source = code(cell.source)
    if "setup" in cell.metadata.get("tags", []):
        source = f"<details><summary>Imports</summary>{source}</details>"
    return f'<div class="cell">{source}{f"<div class=output>{outputs}</div>" if outputs else ""}</div>'


def is_widget(output: NotebookNode) -> bool:
    """Whether a stored output is the still picture of a widget: a result that is printed as ``Name(...)``."""
    data = output.get("data", {})
    return (
        output.output_type == "execute_result"
        and "image/png" in data
        and re.match(r"[A-Z]\w+\(", data.get("text/plain", "")) is not None
    )


def as_html(output: NotebookNode, where: str) -> str:
    """One stored output that is no widget.

    Raises:
        SiteError: if it is a picture without a description, or an error.
    """
    if output.output_type == "error":
        raise SiteError(f"{where}: a cell ended with {output.ename}; run the notebook again.")
    if output.output_type == "stream":
        return f'<pre class="printed" tabindex="0">{escape(output.text)}</pre>'
    data = output.data
    if "text/html" in data:
        table = data["text/html"]
        return f'<div class="wide" tabindex="0">{table}</div>' if "<table" in table else table
    if "image/png" in data:
        return f'<img loading="lazy" src="data:image/png;base64,{_one_line(data)}" alt="{_alt(output, where)}">'
    return f'<pre class="printed" tabindex="0">{escape(data.get("text/plain", ""))}</pre>'


def widget(output: NotebookNode, address: str | None, where: str) -> str:
    """A widget: its own page in a frame if there is one, else its still picture."""
    alt = _alt(output, where)
    still = f'<img loading="lazy" src="data:image/png;base64,{_one_line(output.data)}" alt="{alt}">'
    if address is None:
        return still
    return (
        f'<figure class="live"><iframe loading="lazy" src="{escape(address)}" title="{alt}"></iframe>'
        f'<figcaption><a href="{escape(address)}">Open on a page of its own</a></figcaption>'
        f"<noscript>{still}</noscript></figure>"
    )


def _one_line(data: NotebookNode) -> str:
    return "".join(data["image/png"].split())


def _alt(output: NotebookNode, where: str) -> str:
    described = output.get("metadata", {}).get("image/png", {}).get("alt", "")
    text = described or output.data.get("text/plain", "").removeprefix("Figure: ")
    if not text or text.startswith("<Figure"):
        raise SiteError(f"{where}: a picture has no text that describes it; show it with figures.show(figure, alt).")
    return escape(text)
