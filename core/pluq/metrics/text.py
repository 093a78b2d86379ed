"""The Prometheus text format, version 0.0.4: what /metrics answers.

    # HELP pluq_deliveries_total Attempts that ended: success, deferral, failure.
    # TYPE pluq_deliveries_total counter
    pluq_deliveries_total{channel="local",outcome="success"} 42

The same series of several processes are added up. What is of no known family is left out: pages are not trusted.

Source: prometheus.io, "Exposition formats".
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from pluq.metrics.families import BY_NAME, FAMILIES, Family
from pluq.metrics.page import series

Labels = tuple[tuple[str, str], ...]
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Sample(NamedTuple):
    """One series and its value. `name` may have the ending of a histogram's part."""

    name: str
    labels: Mapping[str, str]
    value: float


class Totals:
    """The sums of all samples by family and labels. `le` of a histogram's buckets is a label."""

    def __init__(self, samples: Iterable[Sample]) -> None:
        self._sums: dict[str, dict[Labels, float]] = {}
        for name, labels, value in samples:
            if family_of(name, labels) is not None and math.isfinite(value):
                sums, key = self._sums.setdefault(name, {}), tuple(labels.items())
                sums[key] = sums.get(key, 0.0) + value

    def of(self, name: str) -> list[tuple[dict[str, str], float]]:
        """Return labels and value of each series of a name, sorted by labels."""
        return [(dict(labels), value) for labels, value in sorted(self._sums.get(name, {}).items())]

    def total(self, name: str, **labels: str) -> float:
        """Return the sum of all series of a name that have these labels."""
        wanted = labels.items()
        return sum(value for found, value in self._sums.get(name, {}).items() if wanted <= dict(found).items())

    def by(self, name: str, label: str, **labels: str) -> dict[str, float]:
        """Return the sums by the values of one label, the largest first."""
        sums: dict[str, float] = {}
        for found, value in self.of(name):
            if labels.items() <= found.items() and label in found:
                sums[found[label]] = sums.get(found[label], 0.0) + value
        return dict(sorted(sums.items(), key=lambda item: -item[1]))


def family_of(name: str, labels: Mapping[str, str]) -> Family | None:
    """Return the family that a series belongs to, None where its name or its labels are of none."""
    family = BY_NAME.get(name)
    if family is not None and family.kind != "histogram":
        return family if tuple(labels) == family.labels else None
    base, _, part = name.rpartition("_")
    family = BY_NAME.get(base)
    if family is None or family.kind != "histogram" or part not in ("bucket", "sum"):
        return None
    wanted = (*family.labels, "le") if part == "bucket" else family.labels
    return family if tuple(labels) == wanted else None


def exposition(totals: Totals) -> str:
    """Return the page for Prometheus. Families without a series are left out."""
    lines: list[str] = []
    for family in FAMILIES:
        found = _histogram(family, totals) if family.kind == "histogram" else _plain(family, totals)
        if found:
            lines += [f"# HELP {family.name} {family.help}", f"# TYPE {family.name} {family.kind}", *found]
    return "".join(f"{line}\n" for line in lines)


def number(value: float) -> str:
    """Return a value without a needless fraction."""
    return str(int(value)) if value == int(value) else repr(value)


def _plain(family: Family, totals: Totals) -> list[str]:
    return [f"{series(family.name, **labels)} {number(value)}" for labels, value in totals.of(family.name)]


def _histogram(family: Family, totals: Totals) -> list[str]:
    lines = []
    ends = [*(f"{bound:g}" for bound in family.bounds), "+Inf"]
    counts: dict[Labels, dict[str, float]] = {}
    for labels, value in totals.of(f"{family.name}_bucket"):
        end = labels.pop("le")
        counts.setdefault(tuple(labels.items()), {})[end] = value
    for key, found in counts.items():
        labels, below = dict(key), 0.0
        for end in ends:
            below += found.get(end, 0.0)
            lines.append(f"{series(f'{family.name}_bucket', **labels, le=end)} {number(below)}")
        lines.append(f"{series(f'{family.name}_sum', **labels)} {number(totals.total(f'{family.name}_sum', **labels))}")
        lines.append(f"{series(f'{family.name}_count', **labels)} {number(below)}")
    return lines
