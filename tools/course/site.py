"""The course as a web site that needs no network and no kernel: ``python tools/build_site.py`` -> ``build/site``."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from pygments.formatters import HtmlFormatter

from . import live, pages, reference, search
from .pages import Page, SiteError

ASSETS = Path(__file__).parent / "assets"
PAGE_BYTES = 5_000_000  # a phone's patience


@dataclass
class Plan:
    """What goes into a site.

    Attributes:
        notebooks: executed notebooks, in the order of the side bar; those in a folder ``appendix`` are listed apart.
        sheets: Markdown files beside the notebooks that pages link to: the glossary, the cheat sheet.
        with_widgets: run the notebooks for their widgets; without, still pictures stand in.
        with_reference: add the pages of the library.
    """

    notebooks: Sequence[Path]
    sheets: Sequence[Path] = ()
    with_widgets: bool = True
    with_reference: bool = True
    groups: dict[str, list[Page]] = field(default_factory=dict)


def build(plan: Plan, out: Path, say: Callable[[str], None] = print) -> Path:
    """Write the site; what was there before is replaced only when the new one is whole.

    Returns:
        its first page.

    Raises:
        SiteError: if a notebook was not executed, a picture has no text, a page is too large, a link leads nowhere.
    """
    fresh = out.with_name(out.name + ".new")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    plan.groups = {"Notebooks": [], "Look up": [], "Appendices": [], "Library": []}
    known = {path.stem for path in plan.notebooks} | {path.name for path in plan.sheets}
    for path in plan.notebooks:
        notebook = pages.read(path)
        recorded = live.record(path, fresh / "widgets") if plan.with_widgets else {}
        if recorded:
            say(f"{path.stem}: {len(recorded)} widgets")
        deep = path.parent.name == "appendix"
        up = "../" if deep else ""
        addresses = {n: f"{up}widgets/{name}" for n, name in recorded.items()}
        place = f"appendix/{path.stem}.html" if deep else f"{path.stem}.html"
        made = pages.page(notebook, place, lambda address, known=known: to_page(address, known), addresses)
        plan.groups["Appendices" if deep else "Notebooks"].append(made)
    for path in plan.sheets:
        text = path.read_text(encoding="utf-8")
        plan.groups["Look up"].append(pages.sheet(text, f"{path.stem}.html", lambda address: to_page(address, known)))
    if plan.with_reference:
        plan.groups["Library"] = reference.pages()
    everything = [page for group in plan.groups.values() for page in group]
    (fresh / "search.js").write_text(search.index(everything), encoding="utf-8")
    _write_assets(fresh)
    template = Environment(loader=FileSystemLoader(ASSETS), undefined=StrictUndefined, autoescape=True).get_template(
        "page.html"
    )
    order = plan.groups["Notebooks"]
    for page in everything:
        i = order.index(page) if page in order else None
        html = template.render(
            page=page,
            groups={name: group for name, group in plan.groups.items() if group},
            root="../" * page.path.count("/"),
            previous=order[i - 1] if i else None,
            next=order[i + 1] if i is not None and i + 1 < len(order) else None,
        )
        file = fresh / page.path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(html, encoding="utf-8")
        if file.stat().st_size > PAGE_BYTES:
            raise SiteError(f"{page.path} has {file.stat().st_size / 1e6:.1f} MB, more than {PAGE_BYTES / 1e6:.0f}.")
    first = order[0]
    (fresh / "index.html").write_text(
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{first.title}</title>'
        f'<meta http-equiv="refresh" content="0; url={first.path}"><a href="{first.path}">{first.title}</a></html>\n',
        encoding="utf-8",
    )
    check_links(fresh)
    shutil.rmtree(out, ignore_errors=True)
    fresh.rename(out)
    return out / "index.html"


def to_page(address: str, known: set[str]) -> str | None:
    """Where a notebook's link leads on the site; None for one whose notebook is not part of it (solutions)."""
    target, mark, anchor = address.partition("#")
    if Path(target).name in known and target.endswith(".md"):
        return f"{target.removesuffix('.md')}.html{mark}{anchor}"
    if not target.endswith(".ipynb") or ":" in target:
        return None if re.match(r"\.\./|[\w/]+\.(md|py|json)$", target) and ":" not in target else address
    if "solutions/" in target or Path(target).stem not in known:
        return None
    return f"{target.removesuffix('.ipynb')}.html{mark}{anchor}"


def _write_assets(folder: Path) -> None:
    style = (ASSETS / "site.css").read_text(encoding="utf-8")
    light = HtmlFormatter(style="xcode").get_style_defs(".code")
    dark = HtmlFormatter(style="github-dark").get_style_defs(':root[data-theme="dark"] .code')
    (folder / "site.css").write_text(f"{style}\n{light}\n{dark}\n", encoding="utf-8")
    shutil.copyfile(ASSETS / "site.js", folder / "site.js")


class _Links(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.targets: list[str] = []
        self.anchors: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = dict(attrs)
        if named.get("id"):
            self.anchors.add(str(named["id"]))
        for attribute in ("href", "src"):
            target = named.get(attribute)
            if target and not re.match(r"[a-z]+:|//", target):
                self.targets.append(target)
            elif target and tag != "a" and not target.startswith("data:"):
                self.targets.append(target)  # a picture, script or style from elsewhere: never here


def check_links(site: Path) -> None:
    """Each link inside the site leads to a page and to an anchor on it; nothing but links leads outside.

    Raises:
        SiteError: naming the page and the link.
    """
    found: dict[Path, _Links] = {}
    for file in sorted(site.rglob("*.html")):
        if "widgets" in file.parts:
            continue
        found[file.resolve()] = links = _Links()
        links.feed(file.read_text(encoding="utf-8"))
    for file, links in found.items():
        for target in links.targets:
            path, _, anchor = target.partition("#")
            there = (file.parent / path).resolve() if path else file
            if ":" in path or not there.exists():
                raise SiteError(f"{file.name} links to {target!r}, which is not part of the site.")
            if anchor and there in found and anchor not in found[there].anchors:
                raise SiteError(f"{file.name} links to {target!r}, but that page has no such place.")
