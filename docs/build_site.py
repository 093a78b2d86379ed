#!/usr/bin/env python3
"""The documentation as a site: `python docs/build_site.py DIR` writes DIR/index.html and all that belongs to it, for any web server or none.

    in the repository           on the site
    docs/NAME.md                NAME
    README.md                   index
    OTHER.md, at the top        other (SECURITY.md: reporting, for docs/security.md is security)
    plugins/NAME/README.md      plugins/NAME
    service/README.md           service
    docs/man/NAME.SECTION.md    commands/NAME.SECTION, and a page for each control file; qmail-send(8) in a text becomes a link

A link in any of them leads where it leads in the repository, so that each page can be read there as well. MENU is the order of the pages;
one that it leaves out is an error. Sphinx makes the pages (`pip install --group docs`); it finds links that lead nowhere.
"""

from __future__ import annotations

import posixpath
import re
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from build_man import INDENT, Page, read_pages

ROOT = Path(__file__).resolve().parents[1]
LINK = re.compile(r"(?<=\]\()(?P<path>[^)#:\s]+)(?P<anchor>#[^)\s]*)?(?=\))")
CODE = re.compile(r"(`[^`]*`|\\.)")
MARKUP = re.compile(r"[<>\[\]_]")
MAN_NAME = re.compile(r"(?<![\w.-])(?P<name>[\w.+-]*\w)\((?P<section>[1-8])\)")
SECTIONS = {"1": "For everybody", "5": "Files and formats", "7": "Overviews", "8": "For administrators"}
TOP = {"README.md": "index.md", "SECURITY.md": "reporting.md", "service/README.md": "service.md"}
MENU = {
    "Begin": ["start", "install", "from-qmail", "migration"],
    "Configure": ["configuration", "profiles", "plugins/index", "settings", "autoturn"],
    "Operate": [
        "operating",
        "monitoring",
        "service",
        "troubleshooting",
        "security",
        "reporting",
        "performance",
        "changelog",
    ],
    "Extend": ["writing-plugins", "hooks", "contributing"],
    "Inside": ["flow", "internals", "compatibility", "decisions"],
    "Commands": ["commands/index"],
}
CONFIGURATION = """\
project = "pluq"
extensions = ["myst_parser"]
myst_enable_extensions = ["deflist"]
myst_heading_anchors = 4
html_theme = "furo"
html_title = "pluq"
html_show_sphinx = False
html_show_copyright = False
html_copy_source = False
html_static_path = ["static"]
html_css_files = ["pluq.css"]
suppress_warnings = ["misc.highlighting_failure"]
"""
STYLE = """\
:root { --content: 58rem }
.content { width: var(--content); max-width: 100%; box-sizing: border-box }
.content h2 { font-size: 1.5rem } .content h3 { font-size: 1.15rem }
article table.docutils { font-size: .9rem; margin-left: 0 } article td { vertical-align: top }
article table code { white-space: nowrap }
@media (max-width: 46rem) { article table code { white-space: normal; overflow-wrap: anywhere } }
"""


def site_path(path: str) -> str | None:
    """Return where on the site a file of the repository is shown, None for one that is not a page."""
    folder, name = posixpath.split(path)
    if path in TOP:
        return TOP[path]
    if folder == "docs":
        return name
    if folder == "docs/man":
        return f"commands/{name}"
    if folder == "" and name.endswith(".md"):
        return name.lower()
    if folder.startswith("plugins/") and name == "README.md":
        return f"{folder}.md"
    return None


def pages() -> Iterator[tuple[str, str]]:
    """Give (path on the site, text) of every page but the man pages."""
    for pattern in ("*.md", "docs/*.md", "plugins/*/README.md", "service/README.md"):
        for path in sorted(ROOT.glob(pattern)):
            source = path.relative_to(ROOT).as_posix()
            target = site_path(source)
            if target is not None:
                yield target, moved_links(path.read_text(), source, target)


def moved_links(text: str, source: str, target: str) -> str:
    """Return a page with its links as they have to be on the site."""

    def moved(link: re.Match[str]) -> str:
        path = posixpath.normpath(posixpath.join(posixpath.dirname(source), link["path"]))
        page = site_path(path)
        if page is None:
            return link[0]
        return posixpath.relpath(page, posixpath.dirname(target) or ".") + (link["anchor"] or "")

    return LINK.sub(moved, text)


def man_page(page: Page, known: set[str]) -> str:
    """Return a man page as Markdown with links to the others."""
    lines = [
        line if line.startswith(INDENT) else man_line(line, known - {page.file_name}) for line in page.body.split("\n")
    ]
    return f"# {page.name}({page.section})\n" + "\n".join(lines)


def man_line(line: str, known: set[str]) -> str:
    """Outside of code a man page knows only `*` and the backslash; all else that Markdown takes for markup is text there."""
    pieces = CODE.split(line)
    for i in range(0, len(pieces), 2):
        text = MARKUP.sub(lambda found: "\\" + found[0], pieces[i])
        pieces[i] = MAN_NAME.sub(lambda name: link_to(name[0], f"{name['name']}.{name['section']}", known), text)
    return "".join(pieces)


def link_to(text: str, page: str, known: set[str]) -> str:
    return f"[{text}]({page}.md)" if page in known else text


def commands_index(manual: list[Page]) -> str:
    """Return the page that lists the man pages by section, with what each is."""
    lines = ["# Commands and files", "", "The man pages; `man` shows them too where pluq is installed."]
    for section, title in SECTIONS.items():
        here = [page for page in manual if page.section == section]
        if here:
            lines += ["", f"## {title}", "", "| page | what it is |", "|---|---|"]
            lines += [
                f"| [{page.name}({section})]({page.file_name}.md) | {man_line(summary(page), set())} |" for page in here
            ]
    return "\n".join([*lines, "", toctree("", (page.file_name for page in manual), hidden=True)])


def summary(page: Page) -> str:
    """What the page says it is, after the dash of its NAME section."""
    return page.body.strip().split("\n\n")[1].partition(" - ")[2].replace("\n", " ")


def plugins_index(texts: dict[str, str]) -> str:
    """Return the page that lists the plugins with the first sentence of each."""
    lines = [
        "# Plugins",
        "",
        "Each stands for the patches of its name, reads their control files and variables, and is off until a list names it.",
        "",
    ]
    lines += ["| plugin | what it does |", "|---|---|"]
    names = sorted(name for name in texts if name.startswith("plugins/"))
    for name in names:
        title, first = texts[name].split("\n\n")[:2]
        lines.append(f"| [{title[2:]}]({posixpath.basename(name)}) | {first.replace(chr(10), ' ')} |")
    return "\n".join([*lines, "", toctree("", (posixpath.basename(name)[:-3] for name in names), hidden=True)])


def toctree(caption: str, entries: Iterable[str], hidden: bool) -> str:
    options = [":hidden:"] * hidden + ([f":caption: {caption}"] if caption else [":titlesonly:"])
    return "\n".join(["```{toctree}", *options, "", *entries, "```", ""])


def menu(known: set[str]) -> str:
    """Return MENU as Sphinx wants it. Raises SystemExit for a page that is in one of both only."""
    named = {page for part in MENU.values() for page in part}
    if named ^ known:
        sys.exit(f"docs/build_site.py: MENU and the pages differ: {', '.join(sorted(named ^ known))}")
    return "\n".join(toctree(title, entries, hidden=True) for title, entries in MENU.items())


def stage(folder: Path) -> None:
    """Write all pages into a folder, as Sphinx reads them."""
    manual = read_pages()
    known = {page.file_name for page in manual}
    texts = dict(pages())
    found = {name.removesuffix(".md") for name in texts if not name.startswith("plugins/")} - {"index"}
    texts["plugins/index.md"] = plugins_index(texts)
    texts["commands/index.md"] = commands_index(manual)
    texts["index.md"] += "\n" + menu(found | {"commands/index", "plugins/index"})
    texts.update({f"commands/{page.file_name}.md": man_page(page, known) for page in manual})
    texts |= {"conf.py": CONFIGURATION, "static/pluq.css": STYLE}
    for name, text in texts.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def main() -> int:
    if len(sys.argv) != 2:
        sys.exit("usage: build_site.py DIR")
    from sphinx.cmd.build import build_main

    with tempfile.TemporaryDirectory() as folder:
        stage(Path(folder))
        return build_main(["-q", "-W", "--keep-going", "-b", "html", folder, sys.argv[1]])


if __name__ == "__main__":
    sys.exit(main())
