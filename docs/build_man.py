#!/usr/bin/env python3
"""Man pages from docs/man: `python docs/build_man.py DIR` writes DIR/man1/forward.1, DIR/man5/... and so on.

Each page has one source, docs/man/NAME.SECTION.md, in a small part of Markdown:

    # forward(1)              the page's name and section, on the first line
    ## DESCRIPTION            a section
    words                     a paragraph, ended by an empty line
        indented by four      lines that are shown as they are
    `-n`                      a term alone on its line,
    :   its text              and what it means, to the next empty line
    - an item                 a list; the other lines of an item are indented by two
    `bold` and *italic*       inside of paragraphs and terms; a backslash takes a character for itself

docs/man/control-files.md is the source of qmail-control(5) and of one page for each control file, control-NAME(5): after an
introduction, each `## NAME - what it is` is followed by a sentence `FORM; default DEFAULT; read by PROGRAM(8), ....` and a text.

Source of the output's rules: man(7), groff_man(7).
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

SOURCES = Path(__file__).with_name("man")
CONTROL_FILES = "control-files.md"
MANUAL = "pluq"

TITLE = re.compile(r"# (?P<name>[\w.+-]+)\((?P<section>[1-8])\)")
CONTROL_TITLE = re.compile(r"(?P<name>[\w.-]+) - (?P<what>.+)")
CONTROL_FACTS = re.compile(r"(?P<form>[^;]+); default (?P<default>[^;]+); read by (?P<readers>[^;]+)\.")
MARKUP = re.compile(r"\\(?P<plain>.)|`(?P<bold>[^`]+)`|\*(?P<italic>[^*]+)\*")
INDENT = "    "
TERM_TEXT = re.compile(r": +")
ITEM = "- "


class SourceError(Exception):
    """A source that says something in no known form. The text names the file and the line."""


class Page(NamedTuple):
    """One man page: its name, its section, and its source without the title."""

    name: str
    section: str
    body: str
    source: str

    @property
    def file_name(self) -> str:
        return f"{self.name}.{self.section}"

    def headings(self) -> list[str]:
        return re.findall(r"^## (.+)$", self.body, re.MULTILINE)


def read_pages(folder: Path = SOURCES) -> list[Page]:
    """Return all pages, those of the control files among them, sorted by name. Raises SourceError."""
    pages = [read_page(path) for path in folder.glob("*.md") if path.name != CONTROL_FILES]
    pages += control_pages((folder / CONTROL_FILES).read_text("ascii"))
    return sorted(pages, key=lambda page: page.file_name)


def read_page(path: Path) -> Page:
    title, _, body = path.read_text("ascii").partition("\n")
    match = TITLE.fullmatch(title)
    if match is None or path.name != f"{match['name']}.{match['section']}.md":
        raise SourceError(f"{path}:1: the first line of {path.name} has to be # NAME(SECTION)")
    return Page(match["name"], match["section"], body, str(path))


def control_pages(text: str) -> Iterator[Page]:
    """Give qmail-control(5) and the page of each control file."""
    introduction, *parts = re.split(r"^## (?=[\w.-]+ - )", text, flags=re.MULTILINE)
    lines = []
    for part in parts:
        heading, facts, description = (piece.strip() for piece in part.split("\n\n", 2))
        title, match = CONTROL_TITLE.fullmatch(heading), CONTROL_FACTS.fullmatch(" ".join(facts.split()))
        if title is None or match is None:
            raise SourceError(f"{CONTROL_FILES}: {heading!r} has no `NAME - what` or no `FORM; default D; read by P.`")
        name, form, default, readers = title["name"], match["form"], match["default"], match["readers"]
        lines.append(f"{name:<22}{default:<20}{readers}")
        body = (
            f"\n## NAME\n\n{name} - {title['what']}\n\n## SYNOPSIS\n\n    control/{name}\n\n## DESCRIPTION\n\n{description}\n\n"
            f"## FORM\n\nA {form}. Default: {default}.\n\n## SEE ALSO\n\nqmail-control(5), {readers}\n"
        )
        yield Page(f"control-{name}", "5", body, CONTROL_FILES)
    table = "\n".join(f"{INDENT}{line}" for line in [f"{'control':<22}{'default':<20}read by", "", *lines])
    _, _, body = introduction.partition("\n")
    yield Page("qmail-control", "5", body.replace("{table}", table), CONTROL_FILES)


def to_roff(page: Page) -> str:
    """Return the page in man(7) form. Raises SourceError."""
    out = [f'.TH {page.name} {page.section} "" {MANUAL}']
    for block in re.split(r"\n{2,}", page.body.strip("\n")):
        out += block_to_roff(block, page)
    return "\n".join(out) + "\n"


def block_to_roff(block: str, page: Page) -> list[str]:
    lines = block.split("\n")
    if lines[0].startswith("## "):
        heading = [f'.SH "{escape(lines[0][3:])}"']
        return heading + (block_to_roff("\n".join(lines[1:]), page) if lines[1:] else [])
    if all(line.startswith(INDENT) for line in lines):
        shown = [protect(escape(line.removeprefix(INDENT))) for line in lines]
        return [".PP", ".RS 4", ".nf", *shown, ".fi", ".RE"]
    if len(lines) > 1 and (colon := TERM_TEXT.match(lines[1])):
        text = " ".join([lines[1][colon.end() :], *(line.strip() for line in lines[2:])])
        return [".TP", markup(lines[0]), markup(text)]
    if block.startswith(ITEM):
        items = [" ".join(item.split()) for item in re.split(r"^- ", block, flags=re.MULTILINE)[1:]]
        return [request for item in items for request in (".IP \\(bu 2", markup(item))]
    if any(line.startswith((INDENT, ": ", "#", ITEM, "* ")) for line in lines):
        raise SourceError(f"{page.source}: neither a paragraph nor anything else: {lines[0]!r}")
    return [".PP", markup(" ".join(lines))]


def markup(text: str) -> str:
    """Return a paragraph's text with its bold and italic words."""
    out, end = [], 0
    for match in MARKUP.finditer(text):
        out.append(escape(text[end : match.start()]))
        font = "B" if match["bold"] else "I"
        word = match["bold"] or match["italic"]
        out.append(escape(match["plain"]) if word is None else f"\\f{font}{escape(word)}\\fR")
        end = match.end()
    out.append(escape(text[end:]))
    return protect("".join(out))


def escape(text: str) -> str:
    """Return text with what troff would not print as it is."""
    return (
        text.replace("\\", "\\e").replace("-", "\\-").replace("'", "\\(aq").replace("^", "\\(ha").replace("~", "\\(ti")
    )


def protect(line: str) -> str:
    """Return a line that is not taken for a request."""
    return f"\\&{line}" if line.startswith((".", "'")) else line


def main() -> int:
    if len(sys.argv) != 2:
        sys.stderr.write("usage: build_man.py DIRECTORY\n")
        return 100
    for page in read_pages():
        folder = Path(sys.argv[1]) / f"man{page.section}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / page.file_name).write_text(to_roff(page), "ascii")
    return 0


if __name__ == "__main__":
    sys.exit(main())
