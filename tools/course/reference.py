"""Reference pages of the library, from its docstrings (Google's sections, Sphinx's roles)."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
from collections.abc import Callable
from html import escape
from types import ModuleType
from typing import Any

import vos_tutorial

from .markdown import Section
from .pages import Page

SECTIONS = ("Args", "Returns", "Yields", "Raises", "Attributes")
LEFT_OUT = ("vos_tutorial.course", "vos_tutorial.__main__")  # the notebooks' side is taught by the notebooks
_NAMED = re.compile(r"[\w*, .]+: ")  # an argument or an exception begins
_ROLE = re.compile(r":(?:class|func|meth|mod|attr|data|exc):`(~?)([\w.]+)`")


def modules() -> list[ModuleType]:
    """The library's public modules, in the order of their names."""
    found = [vos_tutorial]
    for info in pkgutil.walk_packages(vos_tutorial.__path__, "vos_tutorial."):
        private = any(part.startswith("_") for part in info.name.split(".")[1:])
        if not private and not info.name.startswith(LEFT_OUT):
            found.append(importlib.import_module(info.name))
    return found


def members(module: ModuleType) -> list[tuple[str, Any]]:
    """Public classes and functions that the module defines, in the order of the source."""
    own = [
        (name, member)
        for name, member in vars(module).items()
        if not name.startswith("_")
        and (inspect.isclass(member) or inspect.isfunction(member))
        and member.__module__ == module.__name__
        and member.__doc__
    ]
    return sorted(own, key=lambda pair: _line(pair[1]))


def _line(member: Any) -> int:
    try:
        return inspect.getsourcelines(inspect.unwrap(member))[1]
    except (OSError, TypeError):
        return 0


def pages() -> list[Page]:
    """A page for each module that has something to say, ``reference/NAME.html``."""
    shown = [(module, members(module)) for module in modules()]
    shown = [(module, inside) for module, inside in shown if inside]
    where = {m.__name__: f"{m.__name__.removeprefix('vos_tutorial.')}.html" for m, _ in shown}
    for module, inside in shown:
        for name, _ in inside:
            where[f"{module.__name__}.{name}"] = f"{where[module.__name__]}#{name}"

    def link(name: str, module: str) -> str | None:
        return where.get(name) or where.get(f"{module}.{name}")

    return [_page(module, inside, lambda name, m=module.__name__: link(name, m)) for module, inside in shown]


def _page(module: ModuleType, inside: list[tuple[str, Any]], link: Callable[[str], str | None]) -> Page:
    name = module.__name__
    sections = [Section(1, name, name, [inspect.getdoc(module) or ""])]
    body = [f'<h1 id="{name}">{name}</h1>', docstring(inspect.getdoc(module) or "", link)]
    for label, member in inside:
        kind = "class" if inspect.isclass(member) else "def"
        text = inspect.getdoc(member) or ""
        sections.append(Section(2, label, label, [label, text]))
        body.append(f'<h2 id="{label}">{label}</h2>{signature(kind, label, member)}{docstring(text, link)}')
        if inspect.isclass(member):
            for method, function in vars(member).items():
                if method.startswith("_") or not inspect.isfunction(function) or not function.__doc__:
                    continue
                sections.append(
                    Section(3, f"{label}.{method}", f"{label}.{method}", [inspect.getdoc(function) or ""])
                )
                body.append(
                    f'<h3 id="{f"{label}.{method}"}">{label}.{method}</h3>'
                    f"{signature('def', method, function)}{docstring(inspect.getdoc(function) or '', link)}"
                )
    short = name.removeprefix("vos_tutorial.")
    return Page(f"reference/{short}.html", name, "\n".join(body), sections, short)


def signature(kind: str, name: str, member: Any) -> str:
    """How it is called, with its types as the source writes them."""
    try:
        called = str(inspect.signature(member))
    except (TypeError, ValueError):
        called = "(...)"
    called = re.sub(r"<(?:function|object|class|factory)[^>]*>", "...", called)
    called = re.sub(r"'([^']*)'(?=[,)\s]|$)", r"\1", called) if kind == "def" else called.replace("'", "")
    return f'<pre class="code signature" tabindex="0"><code>{escape(f"{kind} {name}{called}")}</code></pre>'


def docstring(text: str, link: Callable[[str], str | None]) -> str:
    """The paragraphs of a docstring, and its sections as lists of definitions."""
    parts: list[str] = []
    for block in re.split(r"\n\s*\n", text.strip()):
        head, _, rest = block.partition("\n")
        name = head.strip().removesuffix(":")
        if head.strip() == f"{name}:" and name in SECTIONS:
            parts.append(f"<h4>{name}</h4>{_definitions(rest, link)}")
        elif re.match(r"(?:\d+\.|[-*]) ", block):
            items = re.split(r"(?m)^(?:\d+\.|[-*]) ", block)[1:]
            kind = "ol" if block[0].isdigit() else "ul"
            listed = "".join(f"<li>{inline(' '.join(item.split()), link)}</li>" for item in items)
            parts.append(f"<{kind}>{listed}</{kind}>")
        elif block.startswith("    "):
            parts.append(f'<pre class="code" tabindex="0"><code>{escape(inspect.cleandoc(block))}</code></pre>')
        else:
            parts.append(f"<p>{inline(' '.join(block.split()), link)}</p>")
    return "\n".join(parts)


def _definitions(text: str, link: Callable[[str], str | None]) -> str:
    items: list[str] = []
    for line in inspect.cleandoc(text).splitlines():
        if items and (line.startswith(" ") or not _NAMED.match(line)):
            items[-1] += " " + line.strip()
        else:
            items.append(line.strip())
    rows = []
    for item in items:
        name, _, rest = item.partition(": ")
        if _NAMED.match(item):
            rows.append(f"<dt><code>{escape(name)}</code></dt><dd>{inline(rest, link)}</dd>")
        else:
            rows.append(f"<dd>{inline(item, link)}</dd>")
    return (
        f"<dl>{''.join(rows)}</dl>"
        if any("<dt>" in row for row in rows)
        else "".join(f"<p>{row.removeprefix('<dd>').removesuffix('</dd>')}</p>" for row in rows)
    )


def inline(text: str, link: Callable[[str], str | None]) -> str:
    """Roles become links where the site has their target, and double backquotes code."""

    def role(match: re.Match[str]) -> str:
        short = match[2].rpartition(".")[2] if match[1] else match[2]
        target = link(match[2])
        shown = f"<code>{escape(short)}</code>"
        return f'<a href="{escape(target)}">{shown}</a>' if target else shown

    pieces = re.split(r"(``.+?``|:(?:class|func|meth|mod|attr|data|exc):`[^`]+`)", text)
    out = []
    for piece in pieces:
        if piece.startswith("``"):
            out.append(f"<code>{escape(piece.strip('`'))}</code>")
        elif _ROLE.fullmatch(piece):
            out.append(_ROLE.sub(role, piece))
        else:
            out.append(escape(piece))
    return "".join(out)
