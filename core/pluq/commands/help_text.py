"""What `pluq VERB --help` prints above the options: the module's docstring, laid out for the width of the terminal.

Paragraphs are filled. Lines that are indented stand as they are; one that is too long goes on below the text behind its last gap of
two blanks, so that lists stay lists.
"""

from __future__ import annotations

import argparse
import re
import textwrap
from collections.abc import Iterator
from itertools import groupby

MIN_TEXT = 24
"""Columns that the second column of a list must leave, else the rest of a line is indented by little."""


class HelpText(argparse.HelpFormatter):
    """The formatter of every verb: `ArgumentParser(description=__doc__, formatter_class=HelpText)`."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return "\n".join(laid_out(text, width))


def laid_out(text: str, width: int) -> Iterator[str]:
    """Yield the lines of a docstring at `width` columns."""
    lines = textwrap.dedent(text).strip("\n").split("\n")
    for kind, group in groupby(
        lines, lambda line: "empty" if not line.strip() else "list" if line[0] == " " else "prose"
    ):
        if kind == "prose":
            yield from textwrap.wrap(" ".join(group), width, break_long_words=False, break_on_hyphens=False)
        elif kind == "list":
            for line in group:
                yield from _item(line, width)
        else:
            yield from ("" for _ in group)


def _item(line: str, width: int) -> list[str]:
    if len(line) <= width:
        return [line]
    gaps = [found.end() for found in re.finditer(r"\S {2,}(?=\S)", line)]
    start = gaps[-1] if gaps and gaps[-1] <= width - MIN_TEXT else len(line) - len(line.lstrip()) + 4
    wrapped = textwrap.wrap(
        line, width, subsequent_indent=" " * start, break_long_words=False, break_on_hyphens=False, drop_whitespace=True
    )
    return wrapped or [line]
