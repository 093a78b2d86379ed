"""One connection to another mail server, on an event loop.

Before a message: `greet`, `hello`, `command` and `start_tls` are awaited, one after the other. A message: `run` is given a
Dialogue and a callback; the replies drive it from there without a task, so that a message on a connection that stands costs
two turns of the loop. Whatever happens (a reply, a lost connection, silence for too long) the callback is called exactly once.

Clocks: `patience` seconds without a byte from the peer while we wait for it, or without room to send (timeoutremote); and
`deadline`, the end of the whole message, so that a peer that drips bytes cannot hold a delivery for ever.

What a peer sends between messages, or beyond its replies, makes the connection unusable: it is out of step.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import ssl
from collections import deque
from collections.abc import Callable
from typing import Any, cast

from pluq.errors import ProtocolError
from pluq.hookspecs.context import Tls
from pluq.remote.client import CLOSING, Dialogue, State
from pluq.remote.route import Route
from pluq.wire.smtp import Reply, ReplyParser, capabilities

Done = Callable[[Dialogue], None]

# _ssl.ENCODING_DER, for Python before 3.13, whose ssl module keeps the chain to itself.
DER = 2

# One message may take an hour and as long as its bytes need at 2 kB/s, a bad link of the last century.
MESSAGE_SECONDS = 3600.0
SLOWEST_BYTES_PER_SECOND = 2000.0
# With 0 seconds, qmail connects where that takes no time: to this machine.
AT_ONCE = 0.1


class PeerLost(Exception):
    """The connection ended, or the peer has been silent for too long, while we waited for a reply."""


async def connect(sock: socket.socket, address: tuple[str, int]) -> None:
    """Connect a non-blocking socket to a numeric address. uvloop's own way asks a thread to look the number up."""
    loop = asyncio.get_running_loop()
    code = sock.connect_ex(address)
    if code in (errno.EINPROGRESS, errno.EAGAIN):
        ready = asyncio.Event()
        loop.add_writer(sock, ready.set)
        try:
            await ready.wait()
        finally:
            loop.remove_writer(sock)
        code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if code:
        raise OSError(code, os.strerror(code))


class Connection(asyncio.Protocol):
    """`address` is the peer's as text, `partner` as in reports, `host` the name that led to it.

    Plugins read `capabilities` (after EHLO: keyword -> parameters), `tls`, `route`, `certificates`, and may use `command` and
    `start_tls`.
    """

    def __init__(self, address: str, host: bytes, route: Route, patience: float) -> None:
        self.address = address
        self.partner = address.encode()
        self.host = host
        self.route = route
        self.patience = patience
        self.helo = b""
        self.capabilities: dict[bytes, bytes] = {}
        self.tls: Tls | None = None
        self.pipelining = False
        self.messages = 0
        self.reset_needed = False
        self.is_closed = False
        self.idle_since = 0.0  # for whoever keeps connections
        self._loop = asyncio.get_running_loop()
        self.opened = self._loop.time()
        self._transport: asyncio.Transport | None = None
        self._parser = ReplyParser()
        self._replies: deque[Reply] = deque()
        self._waiter: asyncio.Future[Reply] | None = None
        self._dialogue: Dialogue | None = None
        self._done: Done | None = None
        self._is_full = False
        self._heard = 0.0
        self._deadline = 0.0
        self._timer: asyncio.TimerHandle | None = None

    @classmethod
    async def open(
        cls, address: str, host: bytes, route: Route, source: str | None, connect_seconds: float, patience: float
    ) -> Connection:
        """Connect. Raises OSError; TimeoutError (an OSError) after `connect_seconds`."""
        loop = asyncio.get_running_loop()
        sock = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM)
        try:
            sock.setblocking(False)
            if source is not None:
                sock.bind((source, 0))
            async with asyncio.timeout(max(connect_seconds, AT_ONCE)):
                await connect(sock, (address, route.port))
                # With TLS from the first byte the handshake is part of the connection.
                name = host.decode("ascii", "replace") if route.tls is not None else None
                _, connection = await loop.create_connection(
                    lambda: cls(address, host, route, patience), sock=sock, ssl=route.tls, server_hostname=name
                )
        except BaseException:
            sock.close()
            raise
        return connection

    def now(self) -> float:
        return self._loop.time()

    @property
    def certificates(self) -> list[bytes]:
        """What the peer has shown of itself under TLS, in DER: its own certificate, then those that are to lead upwards. Nothing is verified."""
        layer: Any = None if self._transport is None else self._transport.get_extra_info("ssl_object")
        if layer is None:
            return []
        if hasattr(layer, "get_unverified_chain"):  # Python 3.13
            return list(layer.get_unverified_chain() or ())
        return [one.public_bytes(DER) for one in layer._sslobj.get_unverified_chain() or ()]

    # -- before a message

    async def greet(self) -> Reply:
        """Return the greeting. Raises PeerLost, as all that wait for replies."""
        return await self._reply()

    async def hello(self, name: bytes, extended: bool) -> Reply:
        """Say EHLO, or HELO; a peer that refuses EHLO is asked again with HELO (RFC 5321 section 3.2).

        `name` is sent as it is: a control file with line ends of another system holds up no mail.
        """
        self.helo = name
        if extended:
            reply = await self._ask(b"EHLO " + name)
            if reply.code == 250:
                self.capabilities = capabilities(reply.text)
                self.pipelining = b"PIPELINING" in self.capabilities
            if reply.code in (250, CLOSING):
                return reply
        self.capabilities, self.pipelining = {}, False
        return await self._ask(b"HELO " + name)

    async def command(self, line: bytes) -> Reply:
        """Send one line, given without its CRLF, and return the reply. Raises ProtocolError for a line with a break."""
        if b"\r" in line or b"\n" in line:
            raise ProtocolError("line break in a command", blame="local")
        return await self._ask(line)

    async def _ask(self, line: bytes) -> Reply:
        self._write(line + b"\r\n")
        return await self._reply()

    async def start_tls(self, context: ssl.SSLContext, server_name: str | None) -> Reply:
        """Start TLS after the peer answered 220 to STARTTLS, and say EHLO again; return that reply.

        Raises ProtocolError if the peer sent more than its 220 (an attacker's replies would be taken for the server's,
        CVE-2011-0411), ssl.SSLError and OSError where the handshake fails; the connection is of no use then.
        """
        if self._replies or not self._parser.is_clean:
            self.close()
            raise ProtocolError("the server sent more than its answer to STARTTLS")
        transport = self._require_transport()
        try:
            upgraded = await self._loop.start_tls(
                transport, self, context, server_hostname=server_name, ssl_handshake_timeout=max(self.patience, 1)
            )
        except BaseException:
            self.abort()  # neither side knows any more who speaks what
            raise
        if upgraded is None:
            raise PeerLost
        self._transport = upgraded
        layer: Any = upgraded.get_extra_info("ssl_object")
        self.tls = Tls(layer.version(), layer.cipher()[0], server_name)
        return await self.hello(self.helo, extended=True)

    async def _reply(self) -> Reply:
        if self._replies:
            return self._replies.popleft()
        if self.is_closed:
            raise PeerLost
        self._heard = self._loop.time()
        self._deadline = self._heard + MESSAGE_SECONDS
        self._watch()
        self._waiter = self._loop.create_future()
        try:
            return await self._waiter
        finally:
            self._waiter = None

    # -- a message

    def run(self, dialogue: Dialogue, done: Done, size: int) -> None:
        """Carry one message; `done` is called at its end, perhaps before this returns."""
        self._dialogue, self._done = dialogue, done
        self.messages += 1
        if self.is_closed:
            self._lose()
            return
        self._heard = self._loop.time()
        self._deadline = self._heard + MESSAGE_SECONDS + size / SLOWEST_BYTES_PER_SECOND
        self._watch()
        self._write(dialogue.start())
        if self._replies:  # a peer that answers before it is asked: as qmail-remote, we take its word
            early = list(self._replies)
            self._replies.clear()
            self._take_replies(dialogue, early)

    def _take_replies(self, dialogue: Dialogue, replies: list[Reply]) -> None:
        for at, reply in enumerate(replies):
            ahead = dialogue.answer(reply)
            if ahead:
                self._write(ahead)
            elif dialogue.state is State.BODY:
                self._send_body(dialogue)
            if dialogue.state is State.DONE:
                self._replies.extend(replies[at + 1 :])
                self._finish(dialogue)
                return

    def _send_body(self, dialogue: Dialogue) -> None:
        """Send pieces of the message until it ends or the connection is full."""
        while dialogue.state is State.BODY and not self._is_full:
            piece = dialogue.more()
            if piece:
                self._write(piece)

    def _finish(self, dialogue: Dialogue) -> None:
        done = self._done
        self._dialogue = self._done = None
        assert done is not None
        self.reset_needed = dialogue.reset_needed
        if self._replies or not self._parser.is_clean:
            dialogue.usable = False  # out of step
        done(dialogue)

    def _lose(self) -> None:
        """The peer is gone: end whatever waits for it."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(PeerLost())
        if self._dialogue is not None:
            self._dialogue.lost()
            self._finish(self._dialogue)

    def quit(self) -> None:
        """Say goodbye without waiting for the answer, and close."""
        if not self.is_closed:
            self._write(b"QUIT\r\n")
        self.close()

    def close(self) -> None:
        """Close; what was written is still sent."""
        self.is_closed = True
        self._unwatch()
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """Close at once, so that a message that was not sent to its end is never taken for a whole one."""
        self.is_closed = True
        self._unwatch()
        if self._transport is not None:
            self._transport.abort()

    # -- the event loop's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._heard = self._loop.time()
        layer: Any = transport.get_extra_info("ssl_object")
        if layer is not None:
            self.tls = Tls(layer.version(), layer.cipher()[0], self.host.decode("ascii", "replace"))

    def data_received(self, data: bytes) -> None:
        self._heard = self._loop.time()
        replies = self._parser.feed(data)
        if self._dialogue is not None:
            self._take_replies(self._dialogue, replies)
            return
        self._replies.extend(replies)
        if self._waiter is not None:
            if self._replies and not self._waiter.done():
                self._waiter.set_result(self._replies.popleft())
        elif self.messages:  # idle between messages: 421, or nonsense
            self.close()

    def connection_lost(self, error: Exception | None) -> None:
        self.is_closed = True
        self._transport = None
        self._unwatch()
        self._lose()

    def pause_writing(self) -> None:
        self._is_full = True

    def resume_writing(self) -> None:
        self._is_full = False
        self._heard = self._loop.time()  # the peer took something: it is alive
        dialogue = self._dialogue
        if dialogue is not None:
            self._send_body(dialogue)
            if dialogue.state is State.DONE:
                self._finish(dialogue)

    def _require_transport(self) -> asyncio.Transport:
        if self._transport is None:
            raise PeerLost
        return self._transport

    def _write(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)

    def _watch(self) -> None:
        """See that the timer runs. It is set once and looks at the clocks when it fires, not at every message."""
        if self._timer is None:
            self._timer = self._loop.call_at(self._silent_until(), self._look)

    def _unwatch(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _silent_until(self) -> float:
        return min(self._heard + self.patience, self._deadline)

    def _look(self) -> None:
        self._timer = None
        if self._dialogue is None and self._waiter is None:
            return
        if self._loop.time() < self._silent_until():
            self._watch()
            return
        self.abort()
        self._lose()
