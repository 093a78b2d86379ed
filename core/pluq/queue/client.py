"""Submitting through the queue daemon's socket HOME/run/qmqp, without asyncio: for programs that queue one message.

The daemon learns the caller's uid and process id from the kernel; that is what a Received field and the log say. Its answers
carry the texts of refusal.py, so that the exit code of qmail-queue is known again on this side.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from time import time

from pluq.errors import ProtocolError
from pluq.queue import refusal
from pluq.queue.records import ADDRESS_LIMIT
from pluq.queue.refusal import QueueRefusal, Receipt
from pluq.queue.spool import Spool
from pluq.store import unix
from pluq.wire import netstring, qmqp

__all__ = ["DaemonSubmission"]

REPLY_BYTES = 2000


class DaemonSubmission:
    """One message on its way to the daemon. `connect` raises OSError where no daemon listens."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._spool = Spool()
        self._failed = False

    @classmethod
    def connect(cls, path: str) -> DaemonSubmission:
        return cls(unix.connect(path, socket.SOCK_STREAM))

    def write(self, chunk: bytes) -> None:
        """Add message bytes."""
        try:
            self._spool.write(chunk)
        except OSError:
            self._failed = True

    def commit(self, sender: bytes, recipients: Sequence[bytes]) -> Receipt:
        """Send everything and wait until it is durable. Raises QueueRefusal."""
        try:
            check_addresses(sender, recipients)
            if self._failed:
                raise QueueRefusal(refusal.WRITE_ERROR)
            self._send(sender, recipients)
            return self._answer()
        finally:
            self.abort()

    def abort(self) -> None:
        """Give the message up; nothing of it is in the queue."""
        self._spool.close()
        self._sock.close()

    def _send(self, sender: bytes, recipients: Sequence[bytes]) -> None:
        head = b"%d:" % self._spool.size
        tail = b"," + b"".join(map(netstring.encode, (sender, *recipients)))
        try:
            self._sock.sendall(b"%d:%b" % (len(head) + self._spool.size + len(tail), head))
            for chunk in self._spool.chunks():
                self._sock.sendall(chunk)
            self._sock.sendall(tail + b",")
        except OSError:
            # The daemon may have refused before the end and hung up: what it said is still there to be read.
            return

    def _answer(self) -> Receipt:
        data = b""
        try:
            while len(data) < REPLY_BYTES and (piece := self._sock.recv(REPLY_BYTES)):
                data += piece
            verdict, text = qmqp.parse_reply(data)
        except (OSError, ProtocolError) as error:
            raise QueueRefusal(refusal.CONNECTION_LOST) from error
        if verdict != "K":
            raise QueueRefusal(refusal.code_of(verdict + text))
        return Receipt(parse_qp(text))


def check_addresses(sender: bytes, recipients: Sequence[bytes]) -> None:
    """Raise QueueRefusal for an address that a queue file cannot hold."""
    for address in (sender, *recipients):
        if len(address) >= ADDRESS_LIMIT:
            raise QueueRefusal(refusal.ADDRESS_TOO_LONG)
        if 0 in address:
            raise QueueRefusal(refusal.BAD_ENVELOPE)


def accepted_text(qp: int) -> str:
    """Return what the daemon says of a queued message."""
    return f"ok {int(time())} qp {qp}"


def parse_qp(text: str) -> int:
    """Return the qp number in the daemon's answer, 0 if there is none."""
    number = text.rpartition(" qp ")[2]
    return int(number) if number.isascii() and number.isdigit() else 0
