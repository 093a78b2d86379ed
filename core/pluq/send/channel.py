"""One deliverer as the scheduler sees it: slots, delivery numbers, orders out, reports in.

    down  --connect-->  greeting  --limit read-->  up  --end of file or a failed write-->  down

The connection is two descriptors (two pipes, or a socket and its duplicate), none of which blocks. Orders are collected and
written together; they leave no trace on disk, so what was in flight when the connection went down counts as not delivered.

Source: qmail-send(8); the COMMUNICATION and DELIVERIES parts of qmail-send.c.
"""

from __future__ import annotations

import os
from typing import NamedTuple, Protocol

from pluq.wire import spawn

NAMES = (b"local", b"remote")

READ_BYTES = 65536
ORDERS_BYTES_MAX = 65536
"""No new delivery is started while so much has not been taken by the deliverer."""


class Target(Protocol):
    """What a delivery is part of: one message on its way to some recipients."""

    number: int
    sender: bytes
    birth: int
    last_try: bool

    def reported(self, delivery: Delivery, outcome: bytes, text: bytes) -> None:
        """Take note of one recipient's outcome: K done, D failed for good, anything else not done."""


class Delivery(NamedTuple):
    """One recipient that a deliverer is working on. `mark` is the target's own name for the recipient.

    `started` is a monotonic time in seconds, where somebody wants to know.
    """

    number: int
    target: Target
    mark: int
    recipient: bytes
    channel: bytes
    started: float


class Channel:
    """The local or the remote deliverer."""

    def __init__(self, index: int, wanted: int, width: int) -> None:
        self.index = index
        self.name = NAMES[index]
        self.limit = 0
        """What the deliverer allows; 0 until it has said so."""
        self.concurrency = 0
        """How many deliveries may be in flight: what both allow."""
        self.wanted = wanted
        self.up = False
        self.reader = self.writer = -1
        self._width = width
        self._greeting = b""
        self._decoder = spawn.ReportDecoder(width)
        self._orders: list[bytes] = []
        self._orders_bytes = 0
        self._slots: dict[int, Delivery] = {}
        self._free: list[int] = []

    @property
    def wanted(self) -> int:
        """What the administrator allows, control/concurrency*."""
        return self._wanted

    @wanted.setter
    def wanted(self, wanted: int) -> None:
        self._wanted = wanted
        self.concurrency = min(wanted, self.limit)

    def _allow(self, limit: int) -> None:
        self.limit = limit
        self.concurrency = min(self._wanted, limit)

    @property
    def used(self) -> int:
        """How many deliveries are in flight."""
        return len(self._slots)

    def messages(self) -> set[int]:
        """Return the messages that have a delivery in flight."""
        return {delivery.target.number for delivery in self._slots.values()}

    @property
    def counts(self) -> tuple[int, int]:
        """How many deliveries are in flight, and how many may be."""
        return len(self._slots), self.concurrency

    def has_room(self) -> bool:
        """Say whether one more delivery may start."""
        return self.up and len(self._slots) < self.concurrency and self._orders_bytes < ORDERS_BYTES_MAX

    def connect(self, reader: int, writer: int, greeting: bytes = b"") -> None:
        """Begin with a new deliverer. The descriptors are ours to close; `greeting` was read already."""
        self.reader, self.writer = reader, writer
        self._allow(0)
        os.set_blocking(reader, False)
        os.set_blocking(writer, False)
        self._greeting = b""
        self._decoder = spawn.ReportDecoder(self._width)
        self._greet(greeting)

    def disconnect(self) -> list[Delivery]:
        """Close the connection. Returns the deliveries of which nobody will ever hear."""
        lost = list(self._slots.values())
        os.close(self.reader)
        os.close(self.writer)
        self.reader = self.writer = -1
        self.up = False
        self._slots.clear()
        self._orders.clear()
        self._orders_bytes = 0
        return lost

    def order(self, delivery: Delivery, message: bytes, sender: bytes) -> None:
        """Start a delivery; there must be room. It goes out with the next `write`."""
        slot = self._free.pop()
        self._slots[slot] = delivery
        command = spawn.encode_command(slot, message, sender, delivery.recipient, self._width)
        self._orders.append(command)
        self._orders_bytes += len(command)

    def write(self) -> bool:
        """Write orders as far as the deliverer takes them; True when none is left. Raises OSError when it is gone."""
        if not self._orders:
            return True
        orders = b"".join(self._orders)
        try:
            written = os.write(self.writer, orders)
        except BlockingIOError:
            written = 0
        self._orders_bytes = len(orders) - written
        self._orders = [orders[written:]] if self._orders_bytes else []
        return not self._orders

    def read(self) -> list[tuple[Delivery | None, bytes]] | None:
        """Return the reports that have come, with the delivery each is about, None for a report about nothing.

        Returns None when the deliverer is gone. The slots of reported deliveries are free again.
        """
        try:
            data = os.read(self.reader, READ_BYTES)
        except BlockingIOError:
            return []
        except OSError:
            return None
        if not data:
            return None
        if not self.up:
            data = self._greet(data)
        reports = self._decoder.feed(data)
        return [(self._free_slot(slot), text) for slot, text in reports]

    def _greet(self, data: bytes) -> bytes:
        """Take the limit from what was read; returns the rest."""
        greeting = self._greeting + data
        if len(greeting) < self._width:
            self._greeting = greeting
            return b""
        self._allow(spawn.decode_limit(greeting[: self._width]))
        self._free = list(range(self.limit - 1, -1, -1))
        self.up = True
        return greeting[self._width :]

    def _free_slot(self, slot: int) -> Delivery | None:
        delivery = self._slots.pop(slot, None)
        if delivery is not None:
            self._free.append(slot)
        return delivery
