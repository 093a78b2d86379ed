"""The count of wrong passwords in a file that all processes of the role map: workers of one port, and the processes of tcpserver.

    SETS sets of WAYS entries; an address belongs to the set that its hash names
    entry: hash of the address (8 octets), attempts (4), unused (4), end of the window (seconds since the epoch, a double)

A full set forgets the entry whose window ends first. The file is locked for each look, which takes microseconds. What a crash leaves
is a count that is too high by the attempts of that moment, until their window ends. Anything may be in the file: it is 192 KiB, its size is
checked when it is opened, and every value is good for some count.
"""

from __future__ import annotations

import fcntl
import hashlib
import mmap
import os
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache

ENTRY = struct.Struct("=8sIId")
SETS, WAYS = 1024, 8
SIZE = SETS * WAYS * ENTRY.size

# Beyond this no count matters; damaged entries end with the longest window that makes sense.
MAX_ATTEMPTS = 1 << 30
MAX_WINDOW = 366 * 86400.0


class SharedFailures:
    """The count of each address, as `limits.Failures`, for all processes that open the same file. Raises OSError."""

    def __init__(self, path: str, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        if os.fstat(self._fd).st_size != SIZE:
            os.truncate(self._fd, 0)
            os.truncate(self._fd, SIZE)
        self._map = mmap.mmap(self._fd, SIZE)

    def begin(self, key: str, limit: int, window: float) -> bool:
        """Count an attempt; False, and nothing is counted, where the address has had all of its own. A limit of 0 is none."""
        now, name = self._clock(), hashed(key)
        with self._locked():
            offset, attempts, end = self._find(name, now)
            if limit and attempts >= limit:
                return False
            if not attempts:
                end = now + window
            ENTRY.pack_into(self._map, offset, name, min(attempts + 1, MAX_ATTEMPTS), 0, end)
            return True

    def take_back(self, key: str) -> None:
        """An attempt was no failure."""
        name = hashed(key)
        with self._locked():
            offset, attempts, end = self._find(name, self._clock())
            if attempts:
                ENTRY.pack_into(self._map, offset, name, attempts - 1, 0, end)

    def _find(self, name: bytes, now: float) -> tuple[int, int, float]:
        """Return where the entry of an address is or shall be, its attempts and the end of its window."""
        first = int.from_bytes(name, "big") % SETS * WAYS * ENTRY.size
        best, best_end = first, float("inf")
        for offset in range(first, first + WAYS * ENTRY.size, ENTRY.size):
            kept, attempts, _, end = ENTRY.unpack_from(self._map, offset)
            if not attempts or not now < end < now + MAX_WINDOW:
                attempts, end = 0, 0.0
            if kept == name and attempts:
                return offset, attempts, end
            if end < best_end:
                best, best_end = offset, end
        return best, 0, 0.0

    @contextmanager
    def _locked(self) -> Iterator[None]:
        fcntl.flock(self._fd, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(self._fd, fcntl.LOCK_UN)


def hashed(key: str) -> bytes:
    return hashlib.blake2b(key.encode("utf-8", "surrogateescape"), digest_size=8).digest()


@cache
def shared_failures(path: str, pid: int) -> SharedFailures:
    """Return the count in a file; one object for a process, since a reload makes new plugin instances. A lock is no fork's to share."""
    return SharedFailures(path)
