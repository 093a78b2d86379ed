"""QMQP on HOME/run/qmqp: how every local user submits. One Session for each connection, one message for each session.

The kernel says who calls: uid and process id go into the Received field and the envelope file, as with the set-uid qmail-queue.
A message of up to 64 KiB is held in memory, a longer one goes into its queue file as it comes. Answers carry the texts of refusal.py.

Limits: a client that says nothing for a minute is hung up on; one may take an hour in all. A user other than root and the qmail
users may have 250 sessions, so that nobody can take all of them.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Callable
from time import monotonic, time

from pluq.errors import ProtocolError
from pluq.mail.received import invoked_by, queue_received
from pluq.queue import refusal
from pluq.queue.client import accepted_text
from pluq.queue.entering import Commit
from pluq.queue.pool import Owner, Slot
from pluq.queue.records import ADDRESS_LIMIT, encode_envelope
from pluq.wire import qmqp

__all__ = ["MAX_SESSIONS", "MAX_USER_SESSIONS", "Session", "peer_of"]

IDLE_SECONDS = 60.0
TOTAL_SECONDS = 3600.0
MAX_SESSIONS = 1000
MAX_USER_SESSIONS = 250
MEMORY_BYTES = 65536
READ_BYTES = 65536
MESSAGE_LIMIT = 4 << 30
ENVELOPE_LIMIT = 16 << 20
CREDENTIALS = struct.Struct("iii")


def peer_of(sock: socket.socket) -> tuple[int, int]:
    """Return uid and process id of the other end of a Unix socket, as the kernel saw them when it connected."""
    data = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, CREDENTIALS.size)
    pid, uid, _gid = CREDENTIALS.unpack(data)
    return uid, pid


class Session:
    """One submission. `lease` makes its file, `submit` takes the commit.

    `complete` hears when there is nothing more to be read, `done` when the session is over."""

    def __init__(
        self,
        sock: socket.socket,
        owner: Owner,
        qmail_uids: tuple[int, int, int],
        lease: Callable[[Owner], Slot],
        submit: Callable[[Commit], None],
        give_back: Callable[[Slot], None],
        complete: Callable[[Session], None],
        done: Callable[[Session], None],
    ) -> None:
        self.sock = sock
        self.uid, self.pid = peer_of(sock)
        self.idle_until = monotonic() + IDLE_SECONDS
        self.until = monotonic() + TOTAL_SECONDS
        self._owner = owner
        self._lease = lease
        self._submit = submit
        self._give_back = give_back
        self._complete = complete
        self._done = done
        self._is_refused = False
        self._is_over = False
        self._decoder = qmqp.RequestDecoder(MESSAGE_LIMIT, ADDRESS_LIMIT - 1, ENVELOPE_LIMIT)
        self._chunks = [queue_received(self.pid, invoked_by(self.uid, *qmail_uids), int(time()))]
        self._held = len(self._chunks[0])
        self._size = 0
        self._slot: Slot | None = None

    def readable(self) -> None:
        """Take what the client sent."""
        try:
            data = self.sock.recv(READ_BYTES)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data = b""
        if not data:
            self.end()
            return
        if self._is_refused:
            return
        self.idle_until = monotonic() + IDLE_SECONDS
        try:
            message = self._decoder.feed(data)
        except ProtocolError:
            self.refuse(refusal.BAD_ENVELOPE)
            return
        try:
            self._keep(message)
            if self._decoder.complete:
                self._commit()
        except OSError:
            self.refuse(refusal.WRITE_ERROR)

    def _keep(self, message: bytes) -> None:
        self._chunks.append(message)
        self._held += len(message)
        if self._held > MEMORY_BYTES:
            self._write()

    def _write(self) -> None:
        """Write what is held into the message's file. Raises OSError."""
        if self._slot is None:
            self._slot = self._lease(self._owner)
        data = b"".join(self._chunks)
        self._chunks.clear()
        self._held = 0
        while data:
            written = os.pwrite(self._slot.mess_fd, data, self._size)
            self._size += written
            data = data[written:]

    def _commit(self) -> None:
        sender = self._decoder.sender
        assert sender is not None
        try:
            envelope = encode_envelope(sender, self._decoder.recipients)
        except ProtocolError:
            self.refuse(refusal.BAD_ENVELOPE)
            return
        self._write()
        slot, self._slot = self._slot, None
        assert slot is not None
        # From here on it has all the time it needs: nothing is expected of the client any more.
        self.idle_until = self.until = float("inf")
        self._complete(self)
        self._submit(Commit(slot, self._size, self.uid, self.pid, envelope, self._answer))

    def _answer(self, code: int) -> None:
        if code:
            self.refuse(code)
        else:
            self._reply("K", accepted_text(self.pid))
            self.end()

    def refuse(self, code: int) -> None:
        """Answer with the text of an exit code.

        The session ends when the client has: a socket that is closed while there is something unread loses the answer.
        """
        verdict = refusal.explain(code)
        self._is_refused = True
        self._drop_file()
        if self._reply(verdict[0], verdict[1:]):
            self.end()

    def _reply(self, verdict: str, text: str) -> bool:
        """Send the answer; True when there is nothing to wait for."""
        try:
            self.sock.send(qmqp.encode_reply(verdict, text))
            self.sock.shutdown(socket.SHUT_WR)
        except OSError:
            return True  # gone, or never read: nobody is there to hear it
        return self._decoder.complete

    def expire(self, now: float) -> None:
        """End the session if its time is over."""
        if now > self.idle_until or now > self.until:
            if not self._is_refused:
                self.refuse(refusal.TIMEOUT)
            self.end()

    def _drop_file(self) -> None:
        if self._slot is not None:
            self._give_back(self._slot)
            self._slot = None

    def end(self) -> None:
        """Hang up."""
        self._drop_file()
        if not self._is_over:
            self._is_over = True
            self._done(self)
