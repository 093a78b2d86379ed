"""Charts as SVG: text in, text out, no script. Colours are classes of the style sheet; each chart says in words what it shows."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from pluq.status.history import Minute

HEIGHT = 100
"""Of the drawing; the style sheet stretches it to its place, and the texts of the axes stand outside, so that they are not."""
QUARTERS = 4
TIMES = 6


@dataclass(frozen=True)
class Layer:
    """One kind of what is stacked: the count's name, its class, and what it is called."""

    count: str
    style: str
    title: str


def ceiling(value: float) -> int:
    """Return a round number that is not below the value: the top of an axis. Its quarter is a whole number."""
    size = 4
    while True:
        for step in (1, 2, 3, 5):
            if step * size >= value:
                return step * size
        size *= 10


def stacked(minutes: Sequence[Minute], layers: Sequence[Layer], label: str, clock: str) -> str:
    """Return a chart of stacked bars, one for each span. `clock` is the form of the times on the axis, for strftime."""
    top = ceiling(max((sum(minute.counts[layer.count] for layer in layers) for minute in minutes), default=0))
    drawing = [
        f'<svg viewBox="0 0 {len(minutes)} {HEIGHT}" preserveAspectRatio="none" role="img" aria-label="{escape(label)}">'
    ]
    for quarter in range(QUARTERS + 1):
        y = HEIGHT * quarter / QUARTERS
        drawing.append(f'<line class="grid" x1="0" x2="{len(minutes)}" y1="{y:g}" y2="{y:g}"/>')
    for index, minute in enumerate(minutes):
        drawing += _bar(minute, layers, index, HEIGHT / top, clock)
    scale = "".join(f"<span>{short(top * quarter / QUARTERS)}</span>" for quarter in range(QUARTERS, -1, -1))
    return (
        f'<div class="plot"><div class="scale" aria-hidden="true">{scale}</div>{"".join(drawing)}</svg>'
        f'<div class="times" aria-hidden="true">{_times(minutes, clock)}</div></div>'
    )


def _bar(minute: Minute, layers: Sequence[Layer], index: int, scale: float, clock: str) -> list[str]:
    """Return the pieces of one bar, and what it is for whoever points at it."""
    y = float(HEIGHT)
    parts = []
    for layer in layers:
        height = minute.counts[layer.count] * scale
        if height > 0:
            y -= height
            parts.append(
                f'<rect class="{layer.style}" x="{index + 0.12}" y="{y:.2f}" width="0.76" height="{height:.2f}"/>'
            )
    if not parts:
        return []
    words = ", ".join(f"{layer.title} {minute.counts[layer.count]:,.0f}" for layer in layers)
    return ["<g>", f"<title>{_clock(minute, clock)} UTC: {words}</title>", *parts, "</g>"]


def _times(minutes: Sequence[Minute], clock: str) -> str:
    every = max(1, len(minutes) // TIMES)
    return "".join(f"<span>{_clock(minute, clock)}</span>" for minute in minutes[every // 2 :: every])


def _clock(minute: Minute, clock: str) -> str:
    return time.strftime(clock, time.gmtime(minute.start))


def bar(share: float, style: str = "fill") -> str:
    """Return a horizontal bar that fills this share of its place. It says nothing that does not stand beside it."""
    width = max(0.0, min(1.0, share)) * 100
    return (
        '<svg class="bar" viewBox="0 0 100 8" preserveAspectRatio="none" aria-hidden="true">'
        '<rect class="rest" width="100" height="8"/>'
        f'<rect class="{style}" width="{width:.1f}" height="8"/></svg>'
    )


def short(value: float) -> str:
    """Return a number in little room: 1.2k, 3M."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.3g}{unit}"
    return f"{value:.3g}"
