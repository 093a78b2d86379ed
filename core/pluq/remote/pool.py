"""Connections that wait for another message to the same destination.

A lone message is sent as stock qmail sends it: a connection of its own, HELO, QUIT. When more than a few go to one destination
within seconds (`is_busy`), new connections say EHLO, use PIPELINING where it is announced, and are kept for the next message
(Postfix keeps connections on the same condition). A kept connection is closed after IDLE_SECONDS, after MAX_MESSAGES or
MAX_AGE_SECONDS, when the peer says anything between messages, or when a message left it out of step.

A key stands for everything that chose the connection: route, host and, where plugins log in or choose the source, the sender.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Hashable

from pluq.remote.connection import Connection

# So many deliveries within so many seconds are a burst: below that nothing is gained by keeping a connection.
BURST = 3
BURST_SECONDS = 5.0

# Peers count idle clients against us; five seconds outlast the gap between two passes of the scheduler.
IDLE_SECONDS = 5.0

# Large receivers refuse more after about a hundred messages, and load balancers want to see new connections.
MAX_MESSAGES = 100
MAX_AGE_SECONDS = 300.0


class Destination:
    """One key: when deliveries to it began, and the connections that wait."""

    __slots__ = ("idle", "starts")

    def __init__(self) -> None:
        self.starts: deque[float] = deque(maxlen=BURST)
        self.idle: list[Connection] = []

    def begin(self, now: float) -> None:
        """Count a delivery."""
        self.starts.append(now)

    def is_busy(self, now: float) -> bool:
        return len(self.starts) == BURST and self.starts[0] > now - BURST_SECONDS


class Pool:
    """The destinations of one process. Belongs to one event loop."""

    def __init__(self) -> None:
        self._destinations: dict[Hashable, Destination] = {}
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None

    def find(self, key: Hashable) -> Destination | None:
        """Return the destination, None where nothing was sent lately."""
        return self._destinations.get(key)

    def begin(self, key: Hashable) -> Destination:
        """Count a delivery that begins now and return its destination."""
        destination = self._destinations.get(key)
        if destination is None:
            destination = self._destinations[key] = Destination()
            self._schedule()
        destination.begin(self._loop.time())
        return destination

    def take(self, destination: Destination) -> Connection | None:
        """Return a connection that waits, the one used last, or None."""
        while destination.idle:
            connection = destination.idle.pop()
            if not connection.is_closed:
                return connection
        return None

    def give_back(self, destination: Destination, connection: Connection) -> None:
        """Keep a connection for the next message, if it is worth it, else part from it."""
        now = self._loop.time()
        if (
            connection.is_closed
            or connection.messages >= MAX_MESSAGES
            or now - connection.opened > MAX_AGE_SECONDS
            or not destination.is_busy(now)
        ):
            connection.quit()
            return
        connection.idle_since = now
        destination.idle.append(connection)

    def sweep(self) -> None:
        """Close what has waited for too long and forget destinations that are quiet."""
        self._timer = None
        now = self._loop.time()
        for key, destination in list(self._destinations.items()):
            old = [one for one in destination.idle if one.is_closed or one.idle_since <= now - IDLE_SECONDS]
            for connection in old:
                destination.idle.remove(connection)
                connection.quit()
            if not destination.idle and destination.starts[-1] <= now - BURST_SECONDS:
                del self._destinations[key]
        self._schedule()

    def close(self) -> None:
        """Say goodbye to everybody."""
        if self._timer is not None:
            self._timer.cancel()
        for destination in self._destinations.values():
            for connection in destination.idle:
                connection.quit()
        self._destinations.clear()

    def _schedule(self) -> None:
        if self._timer is None and self._destinations:
            self._timer = self._loop.call_later(1.0, self.sweep)
