"""The worker's end of HOME/run/lease: files of the queue daemon to write messages into, and commits in groups.

A worker keeps a few leases ahead, so that opening a message costs no round trip. What the messages of one turn of the event
loop commit goes out in one packet; one packet brings the answers. Nothing here makes a Task: `commit` waits for one future.

When the daemon goes away, messages that wait for an answer are refused as temporary (their sender tries again, and may have
been queued: the usual doubt), and the next `open` connects anew.

The message begins with `Received: (qmail QP invoked from network)`: QP comes with the lease.
"""

from __future__ import annotations

import array
import asyncio
import os
import socket
from collections import deque
from collections.abc import Sequence
from time import time
from typing import TYPE_CHECKING, Any

from pluq.errors import ProtocolError
from pluq.mail.received import queue_received
from pluq.queue import refusal
from pluq.queue.client import check_addresses
from pluq.queue.lease import ANSWER, MAX_DESCRIPTORS, MAX_ENVELOPE, PACKET_BYTES, PART_BYTES, REQUEST
from pluq.queue.records import encode_envelope
from pluq.queue.refusal import QueueRefusal, Receipt
from pluq.store import unix

if TYPE_CHECKING:
    from pluq.config.home import Home

__all__ = ["LeaseSubmission", "LeaseSubmitter"]

# Leases to have ahead: a turn of the event loop seldom opens more messages than that.
AHEAD = 16
# Message bytes held in memory before they are written to the leased file.
BUFFER_BYTES = 65536
ANCILLARY_BYTES = socket.CMSG_LEN(MAX_DESCRIPTORS * array.array("i").itemsize)
# Programs that a worker starts must not inherit message files.
RECEIVE_FLAGS = socket.MSG_CMSG_CLOEXEC
# Above this many pieces one write takes them joined (IOV_MAX is 1024).
MAX_PIECES = 64


class LeaseSubmission:
    """One message in a leased file."""

    __slots__ = ("_chunks", "_failed", "_fd", "_invoked", "_number", "_offset", "_open", "_pending", "_submitter", "qp")

    def __init__(self, submitter: LeaseSubmitter, number: int, fd: int, qp: int, first_line: bytes) -> None:
        self._submitter = submitter
        self._number = number
        self._fd = fd
        self.qp = qp
        self._chunks = [first_line]
        self._pending = len(first_line)
        self._offset = 0
        self._failed = False
        self._open = True

    def write(self, chunk: bytes) -> None:
        self._chunks.append(chunk)
        self._pending += len(chunk)
        if self._pending > BUFFER_BYTES or len(self._chunks) > MAX_PIECES:
            self._flush()

    def _flush(self) -> None:
        """Write what is held. A failed write makes the file useless: the commit says so."""
        chunks, size = self._chunks, self._pending
        self._chunks, self._pending = [], 0
        if self._failed or not self._open:
            return
        try:
            written = os.pwritev(self._fd, chunks, self._offset)
            self._offset += written
            if written != size:
                self._write_rest(b"".join(chunks)[written:])
        except OSError:
            self._failed = True

    def _write_rest(self, rest: bytes) -> None:
        while rest:
            written = os.pwrite(self._fd, rest, self._offset)
            self._offset += written
            rest = rest[written:]

    async def commit(self, sender: bytes, recipients: Sequence[bytes]) -> Receipt:
        if not self._open:
            raise QueueRefusal(refusal.CONNECTION_LOST)
        try:
            check_addresses(sender, recipients)
            envelope = encode_envelope(sender, recipients)
            if len(envelope) > MAX_ENVELOPE:
                raise QueueRefusal(refusal.OUT_OF_MEMORY)
            self._flush()
            if self._failed:
                raise QueueRefusal(refusal.WRITE_ERROR)
        except QueueRefusal:
            self.abort()
            raise
        self._open = False
        return await self._submitter.commit(self._number, self._offset, envelope, self.qp)

    def abort(self) -> None:
        if self._open:
            self._open = False
            self._submitter.give_back(self._number)

    def lose(self) -> None:
        """The daemon is gone: the file leads nowhere."""
        self._open = False


class LeaseSubmitter:
    """A process's link to the queue daemon. It belongs to one event loop."""

    def __init__(self, home: Home) -> None:
        self._path = f"{home.run}/lease"
        self._sock: socket.socket | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._files: dict[int, int] = {}
        self._free: deque[tuple[int, int]] = deque()
        self._asked = 0
        self._openers: deque[asyncio.Future[tuple[int, int]]] = deque()
        self._writing: dict[int, LeaseSubmission] = {}
        self._commits: dict[int, tuple[asyncio.Future[Receipt], int]] = {}
        self._out: list[bytes] = []
        self._out_size = 0
        self._flush_scheduled = False
        self._blocked: deque[bytes] = deque()

    def connect(self) -> bool:
        """Connect to the daemon if that is not done; False where none listens or we may not. Needs a running event loop."""
        if self._sock is not None:
            return True
        try:
            sock = unix.connect(self._path, socket.SOCK_SEQPACKET, timeout=0)
        except OSError:
            return False
        sock.setblocking(False)
        self._sock = sock
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(sock.fileno(), self._readable)
        self._ask()
        return True

    def close(self) -> None:
        """Hang up. Messages without an answer are refused."""
        self._lost()

    async def open(self) -> LeaseSubmission:
        if not self._free:
            if not self.connect():
                raise QueueRefusal(refusal.CONNECT_ERROR)
            assert self._loop is not None
            opener = self._loop.create_future()
            self._openers.append(opener)
            self._ask()
            number, qp = await opener
        else:
            number, qp = self._free.popleft()
            if len(self._free) + self._asked < AHEAD:
                self._ask()
        first_line = queue_received(qp, b"from network", int(time()))
        submission = LeaseSubmission(self, number, self._files[number], qp, first_line)
        self._writing[number] = submission
        return submission

    def commit(self, number: int, size: int, envelope: bytes, qp: int) -> asyncio.Future[Receipt]:
        """Send a commit; the future ends with the daemon's answer. For LeaseSubmission."""
        assert self._loop is not None
        self._writing.pop(number, None)
        future: asyncio.Future[Receipt] = self._loop.create_future()
        self._commits[number] = future, qp
        while len(envelope) > PART_BYTES:
            part, envelope = envelope[:PART_BYTES], envelope[PART_BYTES:]
            self._send(REQUEST.pack(b"a", number, 0, PART_BYTES) + part)
        self._send(REQUEST.pack(b"c", number, size, len(envelope)) + envelope)
        return future

    def give_back(self, number: int) -> None:
        """Return a file unused. For LeaseSubmission."""
        if self._writing.pop(number, None) is not None:
            self._send(REQUEST.pack(b"x", number, 0, 0))

    def _ask(self) -> None:
        """Request what is missing to the leases that are wanted ahead."""
        missing = 2 * AHEAD + len(self._openers) - len(self._free) - self._asked
        if missing > 0:
            self._asked += missing
            self._send(REQUEST.pack(b"w", missing, 0, 0))

    def _send(self, record: bytes) -> None:
        """Put a record into the packet of this turn of the loop."""
        if self._sock is None or self._loop is None:
            return
        if self._out_size + len(record) > PACKET_BYTES:
            self._flush()
        self._out.append(record)
        self._out_size += len(record)
        if not self._flush_scheduled:
            self._flush_scheduled = True
            self._loop.call_soon(self._scheduled_flush)

    def _scheduled_flush(self) -> None:
        self._flush_scheduled = False
        self._flush()

    def _flush(self) -> None:
        if self._out and self._sock is not None:
            packet = b"".join(self._out)
            self._out.clear()
            self._out_size = 0
            if self._blocked or not self._transmit(packet):
                self._wait_writable(packet)

    def _transmit(self, packet: bytes) -> bool:
        """Send one packet; False when the socket is full."""
        assert self._sock is not None
        try:
            self._sock.send(packet)
        except (BlockingIOError, InterruptedError):
            return False
        except OSError:
            self._lost()
        return True

    def _wait_writable(self, packet: bytes) -> None:
        if self._sock is None or self._loop is None:
            return
        if not self._blocked:
            self._loop.add_writer(self._sock.fileno(), self._writable)
        self._blocked.append(packet)

    def _writable(self) -> None:
        while self._blocked and self._transmit(self._blocked[0]):
            if self._blocked:
                self._blocked.popleft()
        if not self._blocked and self._sock is not None and self._loop is not None:
            self._loop.remove_writer(self._sock.fileno())

    def _readable(self) -> None:
        """Take a packet. Where there are more, the event loop comes again; to ask for one that is not there would cost a call each time."""
        if self._sock is None:
            return
        try:
            data, ancillary, _flags, _address = self._sock.recvmsg(PACKET_BYTES, ANCILLARY_BYTES, RECEIVE_FLAGS)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data, ancillary = b"", []
        if data:
            self._take(data, descriptors_in(ancillary) if ancillary else [])
        else:
            self._lost()

    def _take(self, data: bytes, descriptors: list[int]) -> None:
        for letter, number, value in ANSWER.iter_unpack(data):
            if letter == b"r":
                future, qp = self._commits.pop(number)
                if future.done():
                    continue  # whoever waited has been cancelled
                if value == 0:
                    future.set_result(Receipt(qp))
                else:
                    future.set_exception(QueueRefusal(value))
            elif letter == b"g":
                self._granted(number, value)
            elif letter == b"n":
                self._files[number] = descriptors.pop(0)
                self._granted(number, value)
            elif letter == b"f":
                os.close(self._files.pop(number))
            elif letter == b"e":
                self._refused(number, value)
            else:
                raise ProtocolError(f"unknown record {letter!r} from the queue daemon", blame="local")

    def _granted(self, number: int, qp: int) -> None:
        self._asked -= 1
        while self._openers:
            opener = self._openers.popleft()
            if not opener.done():
                opener.set_result((number, qp))
                return
        self._free.append((number, qp))

    def _refused(self, code: int, count: int) -> None:
        """No files for us now: those who wait for one hear it, the next who opens asks again."""
        self._asked -= count
        while self._openers:
            opener = self._openers.popleft()
            if not opener.done():
                opener.set_exception(QueueRefusal(code))

    def _lost(self) -> None:
        """The connection has ended: forget everything that belonged to it."""
        sock, loop = self._sock, self._loop
        if sock is None or loop is None:
            return
        self._sock = None
        loop.remove_reader(sock.fileno())
        loop.remove_writer(sock.fileno())
        sock.close()
        for submission in self._writing.values():
            submission.lose()
        for opener in self._openers:
            refuse(opener)
        for future, _qp in self._commits.values():
            refuse(future)
        for fd in self._files.values():
            os.close(fd)
        for table in (self._files, self._free, self._writing, self._openers, self._commits, self._blocked, self._out):
            table.clear()
        self._asked = self._out_size = 0


def refuse(future: asyncio.Future[Any]) -> None:
    """Tell one who waits that the daemon is gone."""
    if not future.done():
        future.set_exception(QueueRefusal(refusal.CONNECTION_LOST))


def descriptors_in(ancillary: Sequence[tuple[int, int, bytes]]) -> list[int]:
    """Return the descriptors that came with a packet."""
    found: list[int] = []
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds = array.array("i")
            fds.frombytes(data[: len(data) - len(data) % fds.itemsize])
            found.extend(fds)
    return found
