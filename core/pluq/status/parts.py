"""What the sections of the page are put together from: headings, tables, legends, numbers as people write them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from pluq.status.chart import Layer

MOST_COLUMNS = 4
"""So many fit on a telephone."""


def section(heading: str, body: str, width: str = "", aside: str = "") -> str:
    identity = heading.lower().replace(" ", "-").replace(",", "")
    aside = f'<span class="aside">{aside}</span>' if aside else ""
    return f'<section class="{width}" aria-labelledby="{identity}"><h2 id="{identity}">{escape(heading)}{aside}</h2>{body}</section>'


def table(caption: str, heads: Sequence[tuple[str, str]], rows: Iterable[Sequence[str]]) -> str:
    """Return a table. `heads` are text and class of each column; cells are HTML, the first of a row is its head.

    Where there is little room the style sheet shows a table of many columns as a list, for which each cell has its head's text; the
    roles keep it a table for screen readers.
    """
    head = "".join(
        f'<th role="columnheader" scope="col" class="{style}">{escape(words)}</th>' for words, style in heads
    )
    body = []
    for row in rows:
        cells = [f'<th role="rowheader" scope="row">{row[0]}</th>']
        for cell, (words, style) in zip(row[1:], heads[1:], strict=True):
            cells.append(f'<td role="cell" class="{style}" data-head="{escape(words)}">{cell}</td>')
        body.append(f'<tr role="row">{"".join(cells)}</tr>')
    style = "many" if len(heads) > MOST_COLUMNS else ""
    return (
        f'<div class="scroll"><table role="table" class="{style}"><caption>{escape(caption)}</caption>'
        f'<thead role="rowgroup"><tr role="row">{head}</tr></thead><tbody role="rowgroup">{"".join(body)}</tbody></table></div>'
    )


def legend(layers: Sequence[Layer]) -> str:
    keys = [
        f'<li><svg viewBox="0 0 1 1" aria-hidden="true"><rect class="{layer.style}" width="1" height="1"/></svg>{layer.title}</li>'
        for layer in layers
    ]
    return f'<ul class="legend">{"".join(keys)}</ul>'


def empty(words: str) -> str:
    return f'<p class="soft">{escape(words)}</p>'


def size(count: float) -> str:
    """Return a number of bytes in the unit that fits."""
    for unit, least in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= least:
            return f"{count / least:.3g} {unit}"
    return f"{count:.0f} B"


def seconds(value: float) -> str:
    """Return a short time: in microseconds, milliseconds or seconds."""
    if value < 0.001:
        return f"{value * 1e6:.0f} µs"
    return f"{value * 1000:.3g} ms" if value < 1 else f"{value:.3g} s"
