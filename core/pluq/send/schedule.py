"""When to try again: pure arithmetic, and the queue of messages that wait.

A message that is t seconds old and was not delivered is tried again when its age is (sqrt(t) + c) squared, c = 10 for the local
channel and 20 for the remote one: after 400, 1600, 3600... seconds for a remote message. When it is older than queuelifetime,
the next try is its last.

The times are in memory; on disk they are the modification times of local/N and remote/N, so a restart goes on where it was.

Source: qmail-send(8); nextretry in qmail-send.c, prioq.c.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator
from math import isqrt

SKIP = (10, 20)
"""How many steps of the square root a channel advances at each try: local, remote."""

SYSTEM_FAILURE_SECONDS = 123
"""How long to wait after an operation on the queue's files failed (SLEEP_SYSFAIL)."""

NUMBER_BITS = 64
NUMBER_MASK = (1 << NUMBER_BITS) - 1


def next_try(birth: int, now: int, channel: int) -> int:
    """Return when to try again a message that was queued at `birth`. Seconds since the epoch."""
    step = isqrt(max(now - birth, 0)) + SKIP[channel]
    return birth + step * step


def is_last_try(birth: int, now: int, lifetime: int) -> bool:
    """Say whether a temporary failure of a try that begins now is final."""
    return now > birth + lifetime


class Waiting:
    """Message numbers by the time when something is to be done with them. One int for each, so that a million fit.

    The int is the time, shifted, and the number: ints compare in C, and a message's entry takes some 50 bytes.
    """

    __slots__ = ("_heap",)

    def __init__(self) -> None:
        self._heap: list[int] = []

    def __len__(self) -> int:
        return len(self._heap)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """Yield (time, number), in no order."""
        return ((entry >> NUMBER_BITS, entry & NUMBER_MASK) for entry in self._heap)

    def add(self, when: int, number: int) -> None:
        heapq.heappush(self._heap, when << NUMBER_BITS | number)

    def extend(self, entries: Iterable[tuple[int, int]]) -> None:
        """Add many (time, number) in linear time. `arrange` must follow before anything else is asked."""
        self._heap.extend(when << NUMBER_BITS | number for when, number in entries)

    def arrange(self) -> None:
        heapq.heapify(self._heap)

    def first(self) -> int | None:
        """Return the earliest time, None when nothing waits."""
        return self._heap[0] >> NUMBER_BITS if self._heap else None

    def pop_due(self, now: int) -> int | None:
        """Take out and return the number with the earliest time, None when that lies ahead."""
        if not self._heap or self._heap[0] >> NUMBER_BITS > now:
            return None
        return heapq.heappop(self._heap) & NUMBER_MASK

    def take(self, numbers: set[int]) -> dict[int, int]:
        """Take out these numbers, wherever they stand; return the time of each that was there. Looks at everything once."""
        taken = [entry for entry in self._heap if entry & NUMBER_MASK in numbers]
        if taken:
            self._heap = [entry for entry in self._heap if entry & NUMBER_MASK not in numbers]
            self.arrange()
        return {entry & NUMBER_MASK: entry >> NUMBER_BITS for entry in taken}

    def shift(self, seconds: int) -> None:
        """Let everything be due so much later."""
        self._heap[:] = [entry + (seconds << NUMBER_BITS) for entry in self._heap]

    def all_at(self, when: int) -> None:
        """Let everything be due at one time."""
        self._heap[:] = sorted(when << NUMBER_BITS | entry & NUMBER_MASK for entry in self._heap)
