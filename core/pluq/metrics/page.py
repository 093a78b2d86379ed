"""The figures of one process: a page of shared memory with names and numbers.

    0       how many bytes of names there are          8 bytes, of the machine's order
    16      SLOTS numbers                              8 bytes each, floating point
    NAMES   the names of the numbers, in their order   text, a line each, as Prometheus writes a series

One process writes; readers may look at any time. A name is written before its length is, and a number is one aligned store, so a
reader sees whole things, each from its own moment. A reader trusts nothing: what is no well-formed series is left out.

Costs: adding to a slot is a load and a store in a memoryview, some 60 nanoseconds.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from pluq.metrics.families import BY_NAME

if TYPE_CHECKING:
    import mmap

SLOTS = 1024
VALUES = 16
NAMES = VALUES + 8 * SLOTS
PAGE_BYTES = 128 * 1024
NAME_BYTES = 1024
"""A longer name is no series of ours."""

_SERIES = re.compile(r'([a-z_]{1,80})(?:\{((?:[a-z]+="(?:[^"\\\n]|\\["\\n])*",?)*)\})?')
_LABEL = re.compile(r'([a-z]+)="((?:[^"\\\n]|\\["\\n])*)"')
_ESCAPES = {"\\": "\\\\", '"': '\\"', "\n": "\\n"}
_UNESCAPE = re.compile(r"\\(.)")


def series(name: str, **labels: str) -> str:
    """Return a series as Prometheus writes it: name{label="value",...}, in the order of the family's labels."""
    if not labels:
        return name
    pairs = [f'{key}="{escape(value)}"' for key, value in labels.items()]
    return f"{name}{{{','.join(pairs)}}}"


def escape(value: str) -> str:
    return "".join(_ESCAPES.get(char, char) for char in value)


def parse_series(text: str) -> tuple[str, dict[str, str]] | None:
    """Return name and labels of a series, None for what is none."""
    found = _SERIES.fullmatch(text)
    if found is None:
        return None
    labels = {
        key: _UNESCAPE.sub(lambda match: "\n" if match[1] == "n" else match[1], value)
        for key, value in _LABEL.findall(found[2] or "")
    }
    return found[1], labels


class Page:
    """The page of this process. `values[slot] += 1` counts; `slot` finds or makes the place of a series."""

    def __init__(self, buffer: mmap.mmap | bytearray, start: int = 0) -> None:
        """Go on with what a former process left at `start` of the buffer; its gauges begin at zero."""
        whole = memoryview(buffer)[start : start + PAGE_BYTES]
        self._length = whole[:8].cast("Q")
        self.values = whole[VALUES:NAMES].cast("d")
        self._names = whole[NAMES:]
        self._slots: dict[str, int] = {}
        before = names(whole)
        self._count = len(before)
        for number, name in enumerate(before):
            self._slots[name] = number
            family = BY_NAME.get(name.partition("{")[0])
            if family is not None and family.kind == "gauge":
                self.values[number] = 0.0
        if not before:
            self.slot("pluq_series_dropped_total")

    def slot(self, name: str) -> int:
        """Return the slot of a series. One that has no place is counted in the first slot."""
        found = self._slots.get(name)
        if found is not None:
            return found
        data = name.encode() + b"\n"
        used, number = self._length[0], self._count
        if number >= SLOTS or used + len(data) > len(self._names) or len(data) > NAME_BYTES:
            return 0
        self._names[used : used + len(data)] = data
        self._length[0] = used + len(data)
        self._slots[name] = number
        self._count += 1
        return number

    def add(self, name: str, amount: float = 1.0) -> None:
        """Add to a series by name, where it does not happen often."""
        self.values[self.slot(name)] += amount

    def put(self, name: str, value: float) -> None:
        """Set a gauge."""
        self.values[self.slot(name)] = value


class Histogram:
    """How long something took, in a page. The buckets are not cumulated there."""

    __slots__ = ("_bounds", "_buckets", "_sum", "_values")

    def __init__(self, page: Page, name: str, **labels: str) -> None:
        self._bounds = BY_NAME[name].bounds
        ends = [*(f"{bound:g}" for bound in self._bounds), "+Inf"]
        self._buckets = [page.slot(series(f"{name}_bucket", **labels, le=end)) for end in ends]
        self._sum = page.slot(series(f"{name}_sum", **labels))
        self._values = page.values

    def observe(self, seconds: float) -> None:
        values = self._values
        values[self._buckets[bisect_left(self._bounds, seconds)]] += 1.0
        values[self._sum] += seconds


# -- reading


def names(whole: memoryview) -> list[str]:
    """Return the names in a page. Whatever stands there, no more than a page's."""
    length = min(whole[:8].cast("Q")[0], PAGE_BYTES - NAMES)
    text = bytes(whole[NAMES : NAMES + length]).decode("utf-8", "replace")
    return text.split("\n")[:-1][:SLOTS]


def read(whole: memoryview) -> Iterator[tuple[str, Mapping[str, str], float]]:
    """Yield name, labels and value of each series in a page that another process writes."""
    values = whole[VALUES:NAMES].cast("d")
    for number, text in enumerate(names(whole)):
        parsed = parse_series(text) if len(text) < NAME_BYTES else None
        if parsed is not None:
            yield *parsed, values[number]
