"""The daemon's end of HOME/run/lease: one Worker for each connected process (the packets: lease.py).

A worker is trusted with what it hands in, not with the queue: it sees only files that it alone writes to. One that breaks the
protocol, or that does not read its answers, is hung up on.
"""

from __future__ import annotations

import array
import socket
from collections import deque
from collections.abc import Callable
from functools import partial

from pluq.errors import ProtocolError
from pluq.queue import refusal
from pluq.queue.entering import Commit
from pluq.queue.lease import ANSWER, MAX_DESCRIPTORS, MAX_ENVELOPE, PACKET_BYTES, REQUEST
from pluq.queue.pool import Owner, Slot
from pluq.queue.records import ADDRESS_LIMIT

__all__ = ["MAX_LEASES", "Worker", "envelope_fault"]

# Files that one worker may hold unwritten or being written: as many as the messages it may receive at the same time.
MAX_LEASES = 1024
# Files that it may ask for at once: more than the sessions that one process can have.
MAX_WANTED = 65536
# Packets that may wait for a worker that does not read.
MAX_WAITING = 256


class Worker(Owner):
    """One connection. `lease` makes files, `give_back` takes unused ones, `submit` takes commits, `next_qp` numbers messages."""

    def __init__(
        self,
        sock: socket.socket,
        uid: int,
        lease: Callable[[Owner], Slot],
        give_back: Callable[[Slot], None],
        submit: Callable[[Commit], None],
        next_qp: Callable[[], int],
    ) -> None:
        super().__init__()
        self.sock = sock
        self.uid = uid
        self.blocked: deque[tuple[bytes, list[int]]] = deque()
        self._lease = lease
        self._give_back = give_back
        self._submit = submit
        self._next_qp = next_qp
        self._leased: dict[int, tuple[Slot, int]] = {}
        self._parts: dict[int, bytes] = {}
        self._known: set[int] = set()
        self._out: list[bytes] = []
        self._new: list[int] = []

    def take(self, packet: memoryview) -> None:
        """Do what a packet asks. Raises ProtocolError."""
        offset, end = 0, len(packet)
        while offset < end:
            if end - offset < REQUEST.size:
                raise ProtocolError("a worker's packet is cut short", blame="local")
            letter, number, size, length = REQUEST.unpack_from(packet, offset)
            offset += REQUEST.size
            envelope = bytes(packet[offset : offset + length])
            offset += length
            if letter == b"c":
                self._commit(number, size, envelope)
            elif letter == b"w":
                self._grant(number)
            elif letter == b"a":
                self._add_part(number, envelope)
            elif letter == b"x":
                slot, _qp = self._take_leased(number)
                self._parts.pop(number, None)
                self._give_back(slot)
            else:
                raise ProtocolError("a worker sent an unknown request", blame="local")

    def _grant(self, count: int) -> None:
        if count > MAX_WANTED:
            raise ProtocolError("a worker asks for too many files", blame="local")
        for granted in range(count):
            if len(self._leased) >= MAX_LEASES:
                self._record(b"e", refusal.LATER, count - granted)
                return
            try:
                slot = self._lease(self)
            except OSError:
                self._record(b"e", refusal.PID_ERROR, count - granted)
                return
            qp = self._next_qp()
            self._leased[slot.number] = slot, qp
            if slot.number in self._known:
                self._record(b"g", slot.number, qp)
            else:
                self._known.add(slot.number)
                self._record(b"n", slot.number, qp)
                self._new.append(slot.mess_fd)
                if len(self._new) == MAX_DESCRIPTORS:
                    self._pack()

    def _add_part(self, number: int, part: bytes) -> None:
        if number not in self._leased:
            raise ProtocolError("a worker names a file that it does not have", blame="local")
        parts = self._parts.get(number, b"") + part
        if len(parts) > MAX_ENVELOPE:
            raise ProtocolError("the envelope is too long", blame="local")
        self._parts[number] = parts

    def _take_leased(self, number: int) -> tuple[Slot, int]:
        try:
            return self._leased.pop(number)
        except KeyError:
            raise ProtocolError("a worker names a file that it does not have", blame="local") from None

    def _commit(self, number: int, size: int, envelope: bytes) -> None:
        slot, qp = self._take_leased(number)
        if self._parts:
            envelope = self._parts.pop(number, b"") + envelope
        fault = envelope_fault(envelope)
        if fault:
            self._record(b"r", number, fault)
            self._give_back(slot)
            return
        self._submit(Commit(slot, size, self.uid, qp, envelope, partial(self._record, b"r", number)))

    def _record(self, letter: bytes, number: int, value: int) -> None:
        self._out.append(ANSWER.pack(letter, number, value))
        if len(self._out) * ANSWER.size >= PACKET_BYTES - ANSWER.size:
            self._pack()

    def forget(self, slot: Slot) -> None:
        """Tell the worker to close a file."""
        self._known.discard(slot.number)
        if self.alive:
            self._record(b"f", slot.number, 0)

    def _pack(self) -> None:
        """Close the packet that is being filled."""
        if self._out:
            self.blocked.append((b"".join(self._out), self._new))
            self._out = []
            self._new = []

    def flush(self) -> bool:
        """Send what there is to say; False while the worker's socket is full. Raises OSError, ProtocolError."""
        if not self._out and not self.blocked:
            return True
        self._pack()
        while self.blocked:
            data, fds = self.blocked[0]
            try:
                if fds:
                    ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))]
                    self.sock.sendmsg([data], ancillary)
                else:
                    self.sock.send(data)
            except (BlockingIOError, InterruptedError):
                if len(self.blocked) > MAX_WAITING:
                    raise ProtocolError("a worker does not read its answers", blame="local") from None
                return False
            self.blocked.popleft()
        return True

    def close(self, release: Callable[[Slot], None]) -> None:
        """The connection has ended: files that hold no message go; messages under way are finished without an answer."""
        self.alive = False
        self.sock.close()
        for slot in (*self.free, *(slot for slot, _qp in self._leased.values())):
            release(slot)
        self.free.clear()
        self._leased.clear()


def envelope_fault(envelope: bytes) -> int:
    """Return 0 for an envelope in qmail-queue's form, else the exit code that it deserves."""
    if envelope[:1] != b"F" or envelope[-2:] != b"\0\0":
        return refusal.BAD_ENVELOPE
    records = envelope[:-2].split(b"\0")
    for record in records[1:]:
        if record[:1] != b"T":
            return refusal.BAD_ENVELOPE
    if max(map(len, records)) > ADDRESS_LIMIT:
        return refusal.ADDRESS_TOO_LONG
    return 0
