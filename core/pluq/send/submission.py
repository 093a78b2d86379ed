"""Bounces through the queue daemon: QMQP over its Unix socket, beside everything else that the scheduler does.

    connect -> request, as the daemon takes it -> answer -> done

One that fails at any point is not in the queue, or it is and we do not know: then it is sent again.

Source: https://cr.yp.to/proto/qmqp.html.
"""

from __future__ import annotations

import selectors
import socket
from collections.abc import Callable, Iterator, Sequence

from pluq.errors import ProtocolError
from pluq.queue.client import parse_qp
from pluq.queue.refusal import QueueRefusal
from pluq.send.bounces import Queued, Source
from pluq.store import unix
from pluq.wire import netstring, qmqp

BOUNCES_AT_ONCE = 4
"""The daemon commits what comes together in one wait; more would only hold memory and descriptors."""
REPLY_BYTES = 2000

Envelope = tuple[bytes, Sequence[bytes]]
"""Sender and recipients."""


class Submission:
    """The request and the answer of one bounce, as bytes. `envelope`, if it is not that of the bounce."""

    def __init__(self, source: Source, envelope: Envelope | None = None) -> None:
        self._source = source
        self._envelope = envelope or (source.bounce.sender, [source.bounce.recipient])
        self._chunks = self._request()
        self._chunk = b""
        self._answer = b""

    def _request(self) -> Iterator[bytes]:
        source = self._source
        head = b"%d:" % source.size
        sender, recipients = self._envelope
        tail = b"," + b"".join(map(netstring.encode, (sender, *recipients)))
        yield b"%d:%b" % (len(head) + source.size + len(tail), head)
        yield from source.chunks()
        yield tail + b","

    def chunk(self) -> bytes:
        """Return the bytes to send next, empty when there are none left. Raises OSError."""
        if not self._chunk:
            self._chunk = next(filter(None, self._chunks), b"")
        return self._chunk

    def sent(self, count: int) -> None:
        self._chunk = self._chunk[count:]

    def answer(self, data: bytes) -> tuple[str, str] | None:
        """Take a piece of the answer, empty at its end; return verdict and text when they are whole."""
        self._answer += data
        try:
            return qmqp.parse_reply(self._answer)
        except ProtocolError:
            return None if data and len(self._answer) < REPLY_BYTES else ("Z", "")


class DaemonInjector:
    """Sends bounces to the daemon at `path`, a few at once. `edit` is what plugins of the queue make of an envelope."""

    def __init__(
        self,
        selector: selectors.BaseSelector,
        path: str,
        warn: Callable[[str], None],
        edit: Callable[[bytes, Sequence[bytes]], Envelope] = lambda sender, recipients: (sender, recipients),
    ) -> None:
        self._selector = selector
        self._path = path
        self._warn = warn
        self._edit = edit
        self._active = 0

    @property
    def busy(self) -> bool:
        return self._active >= BOUNCES_AT_ONCE

    def inject(self, source: Source, queued: Queued) -> None:
        try:
            envelope = self._edit(source.bounce.sender, [source.bounce.recipient])
            sock = unix.connect(self._path, socket.SOCK_STREAM, 0.0)
        except (OSError, QueueRefusal):
            self._warn("unable to reach the queue daemon, will try later")
            source.close()
            queued(None)
            return
        self._active += 1
        submission = Submission(source, envelope)

        def end(qp: int | None) -> None:
            self._selector.unregister(sock)
            sock.close()
            source.close()
            self._active -= 1
            queued(qp)

        def readable(_events: int) -> None:
            answer = submission.answer(_receive(sock))
            if answer is not None:
                end(parse_qp(answer[1]) if answer[0] == "K" else None)

        def writable(_events: int) -> None:
            try:
                while chunk := submission.chunk():
                    submission.sent(sock.send(chunk))
            except BlockingIOError:
                return
            except OSError:
                end(None)
                return
            self._selector.modify(sock, selectors.EVENT_READ, readable)

        self._selector.register(sock, selectors.EVENT_WRITE, writable)


def _receive(sock: socket.socket) -> bytes:
    """Return what has come, empty when the daemon is gone."""
    try:
        return sock.recv(REPLY_BYTES)
    except OSError:
        return b""
