"""What happened minute by minute: the growth of counters, for a day. Kept in memory; a new status role begins anew."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from pluq.metrics.text import Totals

MINUTES = 1440
SECONDS = 60

COUNTED: Mapping[str, Callable[[Totals], float]] = {
    "success": lambda totals: totals.total("pluq_deliveries_total", outcome="success"),
    "deferral": lambda totals: totals.total("pluq_deliveries_total", outcome="deferral"),
    "failure": lambda totals: totals.total("pluq_deliveries_total", outcome="failure"),
    "accepted": lambda totals: totals.total("pluq_accepted_total"),
    "refused": lambda totals: totals.total("pluq_refused_total"),
    "connections": lambda totals: totals.total("pluq_connections_total"),
}
"""What is counted, and where it stands in the figures."""


@dataclass
class Minute:
    """One minute. `start` is a multiple of 60 seconds since the epoch."""

    start: int
    counts: dict[str, float] = field(default_factory=lambda: dict.fromkeys(COUNTED, 0.0))


class History:
    """The last day."""

    def __init__(self) -> None:
        self._minutes: deque[Minute] = deque(maxlen=MINUTES)
        self._last: dict[str, float] | None = None

    def add(self, now: float, totals: Totals) -> None:
        """Take the figures as they are now, some times a minute."""
        values = {name: read(totals) for name, read in COUNTED.items()}
        last, self._last = self._last, values
        start = int(now) // SECONDS * SECONDS
        if not self._minutes or self._minutes[-1].start < start:
            self._minutes.append(Minute(start))
        if last is None:
            return
        counts = self._minutes[-1].counts
        for name, value in values.items():
            counts[name] += max(0.0, value - last[name])

    def steps(self, now: float, steps: int, seconds: int) -> list[Minute]:
        """Return the last `steps` spans of so many seconds each, the current one last; empty ones too."""
        end = int(now) // seconds * seconds
        spans = {end - seconds * back: Minute(end - seconds * back) for back in range(steps - 1, -1, -1)}
        for minute in self._minutes:
            span = spans.get(minute.start // seconds * seconds)
            if span is not None:
                for name, value in minute.counts.items():
                    span.counts[name] += value
        return list(spans.values())

    def sums(self, now: float, seconds: int) -> dict[str, float]:
        """Return what was counted in the last `seconds`, by whole minutes."""
        recent = [minute for minute in self._minutes if minute.start > now - seconds]
        return {name: sum(minute.counts[name] for minute in recent) for name in COUNTED}
