"""Counting without end in memory that has one."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Generic, TypeVar

K = TypeVar("K")

BUCKETS_A_DECADE = 100
"""A quantile is right to 2.4 percent."""
SHORTEST_SECONDS = 1e-4


class TopCounts(Generic[K]):
    """Counts by key, of which the largest matter. With more than `most` keys the smallest half is forgotten.

    `forgotten` says whether that has happened: then a count may lack what its key had before it was forgotten.
    """

    def __init__(self, most: int = 50_000) -> None:
        self._most = most
        self._counts: dict[K, int] = {}
        self.forgotten = False

    def add(self, key: K, count: int = 1) -> None:
        counts = self._counts
        counts[key] = counts.get(key, 0) + count
        if len(counts) > self._most:
            kept = sorted(counts.items(), key=lambda item: item[1], reverse=True)[: self._most // 2]
            self._counts = dict(kept)
            self.forgotten = True

    def all(self) -> Iterator[tuple[K, int]]:
        """Yield every key with its count, in no order."""
        yield from self._counts.items()

    def top(self, count: int) -> list[tuple[K, int]]:
        """Return the largest counts, the largest first; equal ones in the order of their first appearance."""
        return sorted(self._counts.items(), key=lambda item: item[1], reverse=True)[:count]


class Durations:
    """How long things took, in seconds: a histogram whose buckets grow by a fixed factor."""

    def __init__(self) -> None:
        self._buckets: dict[int, int] = {}
        self.count = 0
        self.largest = 0.0

    def add(self, seconds: float) -> None:
        bucket = int(math.log10(max(seconds, SHORTEST_SECONDS) / SHORTEST_SECONDS) * BUCKETS_A_DECADE)
        self._buckets[bucket] = self._buckets.get(bucket, 0) + 1
        self.count += 1
        if seconds > self.largest:
            self.largest = seconds

    def quantile(self, share: float) -> float | None:
        """Return the time that this share of all did not exceed; None when there is none."""
        wanted = share * self.count
        for seconds, reached in self.steps():
            if reached * self.count >= wanted:
                return min(seconds, self.largest)
        return None

    def steps(self) -> Iterator[tuple[float, float]]:
        """Yield (seconds, share of all that took no longer), ascending."""
        seen = 0
        for bucket in sorted(self._buckets):
            seen += self._buckets[bucket]
            yield SHORTEST_SECONDS * 10 ** ((bucket + 1) / BUCKETS_A_DECADE), seen / self.count


class Recent(Generic[K]):
    """Values by number for what is under way; with more than `most` the oldest is forgotten, for its end was not logged."""

    def __init__(self, most: int = 500_000) -> None:
        self._most = most
        self._values: dict[int, K] = {}

    def put(self, number: int, value: K) -> None:
        values = self._values
        values.pop(number, None)  # to the end
        values[number] = value
        if len(values) > self._most:
            del values[next(iter(values))]

    def get(self, number: int) -> K | None:
        return self._values.get(number)

    def take(self, number: int) -> K | None:
        return self._values.pop(number, None)
