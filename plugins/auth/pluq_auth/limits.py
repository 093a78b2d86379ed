"""How many wrong passwords one address may try, counted over all connections and profiles of a process; over all processes: see `shared`.

An attempt counts from its beginning, so that many connections at a time try no more than one after the other; a login that succeeds,
and an exchange that came to no answer, is taken back. The count ends `window` seconds after the first failure. Addresses of one IPv6 /64
are one address: they are one customer's.

Memory: MAX_ADDRESSES entries of some 200 bytes; beyond that the oldest are forgotten.
"""

from __future__ import annotations

import ipaddress
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Protocol

MAX_ADDRESSES = 10_000


class Count(Protocol):
    """Who counts."""

    def begin(self, key: str, limit: int, window: float) -> bool: ...

    def take_back(self, key: str) -> None: ...


class Failures:
    """The count of each address."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._counts: OrderedDict[str, list[float]] = OrderedDict()  # [attempts, end of the window]

    def __len__(self) -> int:
        return len(self._counts)

    def begin(self, key: str, limit: int, window: float) -> bool:
        """Count an attempt; False, and nothing is counted, where the address has had all of its own. A limit of 0 is none."""
        now = self._clock()
        count = self._counts.get(key)
        if count is None or count[1] <= now:
            self._counts.pop(key, None)
            count = self._counts[key] = [0, now + window]
            if len(self._counts) > MAX_ADDRESSES:
                self._counts.popitem(last=False)
        if limit and count[0] >= limit:
            return False
        count[0] += 1
        return True

    def take_back(self, key: str) -> None:
        """An attempt was no failure."""
        count = self._counts.get(key)
        if count is None:
            return
        count[0] -= 1
        if count[0] <= 0:
            del self._counts[key]


# One for the process, where it has no folder for a file: a reload makes new plugin instances, and guessing goes on over it.
SHARED = Failures()


def address_key(ip: str) -> str:
    """Return what stands for an address: itself, or the /64 of an IPv6 address."""
    try:
        address = ipaddress.ip_address(ip)
    except ValueError:
        return ip
    if isinstance(address, ipaddress.IPv4Address):
        return ip
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.ip_network((int(address) >> 64 << 64, 64)))
