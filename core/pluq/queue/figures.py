"""The queue daemon's figures (pluq.metrics.families)."""

from __future__ import annotations

from collections.abc import Sequence

from pluq.metrics import Histogram, Page, series


class Figures:
    """Hears of each group of messages."""

    def __init__(self, mine: Page) -> None:
        self._page = mine
        self._values = mine.values
        self._commits = mine.slot("pluq_commits_total")
        self._seconds = Histogram(mine, "pluq_commit_seconds")

    def group(self, codes: Sequence[int], seconds: float) -> None:
        """A group took so long; `codes` has qmail-queue's exit code of each message, 0 for one that is durable."""
        refused = [code for code in codes if code]
        self._values[self._commits] += len(codes) - len(refused)
        self._seconds.observe(seconds)
        for code in refused:
            self._page.add(series("pluq_commits_refused_total", code=str(code)))
