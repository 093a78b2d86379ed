"""The protocol between an event loop's transports and sessions: aiosmtpd's SMTP, without a task for each connection.

aiosmtpd runs a coroutine a connection over a StreamReader and builds its tables anew for each: 755 microseconds of CPU for a
4 KiB message. This subclass keeps its place in asyncio (an SMTP protocol with its `transport` and `loop`) and takes the
bytes itself: `data_received` feeds the session, which answers at once; a task is made only for a step that really waits.

A transport that cannot send as fast as we reply stops our reading, and a session that is busy does when much has arrived for it;
so a client cannot make us keep more than INPUT_BYTES and one write buffer for it.

Source: docs/decisions.md, "What is left of aiosmtpd".
"""

from __future__ import annotations

import asyncio
import errno
import math
from collections.abc import Coroutine
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from aiosmtpd.smtp import SMTP

from pluq.errors import ClientGone
from pluq.hookspecs.context import Session, Tls
from pluq.smtpd.resume import finish_step
from pluq.smtpd.session import Service, SmtpSession

if TYPE_CHECKING:
    import ssl

    from pluq.plan import Plan

# What may wait for a busy session before we stop reading.
INPUT_BYTES = 65536
# How long a client may take for its part of a TLS handshake.
HANDSHAKE_SECONDS = 60.0


class Gate(Protocol):
    """Who decides which connection is served, and how."""

    def admit(self, engine: Engine, transport: asyncio.Transport) -> tuple[Service, Session] | None:
        """Return what a new connection is served with; None: it was sent away."""

    def ended(self, engine: Engine) -> None:
        """An admitted connection is gone."""


class Engine(SMTP):
    """The driver of one session on a transport. Without `smtp` the connection was not admitted."""

    __slots__ = ("_gate", "_is_paused", "_is_writable", "_step", "_waiter", "ip", "loop", "number", "smtp", "transport")

    def __init__(self, loop: asyncio.AbstractEventLoop, gate: Gate) -> None:
        # SMTP's own constructor makes a StreamReader and the tables: what this class exists to avoid.
        self.loop = loop
        self.number = 0
        """The number of the connection in the log."""
        self.ip = ""
        """Where it came from, whatever a plugin makes of it."""
        self.smtp: SmtpSession | None = None
        self.transport: asyncio.Transport | None = None
        self._gate = gate
        self._step: asyncio.Task[None] | None = None
        self._waiter: asyncio.Future[bool] | None = None
        self._is_paused = False
        self._is_writable = True

    # -- what the transport tells

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        stream: asyncio.Transport = transport  # type: ignore[assignment]  # it is one of a TCP server
        self.transport = stream
        admitted = self._gate.admit(self, stream)
        if admitted is not None:
            self.smtp = SmtpSession(self, *admitted)
            self.smtp.begin()

    def data_received(self, data: bytes) -> None:
        smtp = self.smtp
        if smtp is None:
            return
        smtp.feed(data)
        if smtp.busy:
            if self._waiter is not None:
                self._wake(True)
            elif smtp.waiting_bytes > INPUT_BYTES:
                self._pause()

    def eof_received(self) -> bool:
        if self.smtp is None:
            return False
        self.smtp.end_of_input()
        self._wake(False)
        # The replies to what has arrived are still to be sent; under TLS the layer closes by itself.
        return self.smtp is not None and self.smtp.session.tls is None

    def connection_lost(self, error: Exception | None) -> None:
        if self.transport is None:  # a failed handshake was told before
            return
        self.transport = None
        if self.smtp is None:
            return
        self.smtp.lost()
        if self._step is not None and not self.smtp.committing:
            self._step.cancel()
        self._gate.ended(self)
        self._forget()

    def pause_writing(self) -> None:
        self._is_writable = False
        self._pause()

    def resume_writing(self) -> None:
        self._is_writable = True
        self._unpause()

    def _pause(self) -> None:
        if not self._is_paused and self.transport is not None and not self.transport.is_closing():
            self._is_paused = True
            self.transport.pause_reading()

    def _unpause(self) -> None:
        if self._is_paused and self._is_writable and self.transport is not None and not self.transport.is_closing():
            self._is_paused = False
            self.transport.resume_reading()

    # -- what the session asks for

    def send(self, data: bytes) -> None:
        if self.transport is not None:
            self.transport.write(data)

    def close(self) -> None:
        if self.transport is not None:
            self.transport.close()

    def resume(self, coroutine: Coroutine[Any, Any, None], waiting: Any) -> None:
        assert self.smtp is not None
        if self.smtp.service.has_hooks or waiting is None:
            self._step = self.loop.create_task(finish_step(coroutine, waiting))
            self._step.add_done_callback(self._stepped)
        else:
            # A coroutine of ours needs no task around it: what it waits for wakes it.
            waiting._asyncio_future_blocking = False
            waiting.add_done_callback(partial(self._go_on, coroutine))

    def _go_on(self, coroutine: Coroutine[Any, Any, None], done: object) -> None:
        """Run a step of ours on; it takes result or error from the future that it waits for."""
        error: Exception | None = None
        try:
            waiting = coroutine.send(None)
        except StopIteration:
            pass
        except Exception as failure:
            error = failure
        else:
            self.resume(coroutine, waiting)
            return
        self._resumed(error)

    def _stepped(self, step: asyncio.Task[None]) -> None:
        self._step = None
        self._resumed(ClientGone("the client is gone") if step.cancelled() else step.exception())

    def _resumed(self, error: BaseException | None) -> None:
        assert self.smtp is not None
        self.smtp.resumed(error)
        if self._is_paused:
            self._unpause()
        if self.transport is None:
            self._forget()

    def _forget(self) -> None:
        """Cut the cycle of driver and session: its memory is free at once, and not when the collector comes."""
        if self.smtp is not None and not self.smtp.busy:
            self.smtp = None

    def background(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            waiting = work.send(None)
        except StopIteration:  # as nearly always: nobody is told, or nobody waits
            return
        task = self.loop.create_task(finish_step(work, waiting))
        _running.add(task)
        task.add_done_callback(_running.discard)

    def has_unread(self) -> bool:
        """Whatever arrives is fed at once."""
        return False

    async def wait_input(self) -> bool:
        if self.smtp is None or self.smtp.eof or self.transport is None:
            return False
        self._unpause()
        self._waiter = self.loop.create_future()
        try:
            return await self._waiter
        finally:
            self._waiter = None

    def _wake(self, there_is_more: bool) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(there_is_more)

    async def breathe(self, seconds: float = 0.0) -> None:
        await asyncio.sleep(seconds)

    async def start_tls(self, context: ssl.SSLContext) -> Tls:
        from pluq.smtpd.tls import describe

        if self.transport is None or self.transport.is_closing():
            raise ConnectionResetError("the client is gone")
        try:
            transport = await self.loop.start_tls(
                self.transport, self, context, server_side=True, ssl_handshake_timeout=HANDSHAKE_SECONDS
            )
            # uvloop says nothing at all of a client that is gone so early.
            if transport is None or transport.is_closing():
                raise ConnectionResetError("the client is gone")
        except BaseException:
            # The event loop tells nobody else that this connection is over.
            if self.transport is not None:
                self.transport.abort()
            self.loop.call_soon(self.connection_lost, None)
            raise
        self.transport = transport
        self._is_paused = False
        return describe(transport.get_extra_info("ssl_object"))

    def switch(self, read_fd: int, write_fd: int) -> None:
        """Nobody stands between the resident server and its clients."""
        raise OSError(errno.EOPNOTSUPP, "only a program under a listener can have its descriptors exchanged")

    # -- what the server asks

    @property
    def plan(self) -> Plan | None:
        return None if self.smtp is None else self.smtp.service.plan

    def go_down(self) -> None:
        if self.smtp is not None:
            self.smtp.go_down()

    def check_time(self) -> float:
        """End the session if its client took too long; return the seconds that it may still take."""
        smtp = self.smtp
        if smtp is None or smtp.ended is not None or (smtp.busy and self._waiter is None):
            return math.inf  # it is not the client's turn
        left = smtp.seconds_left()
        if left <= 0:
            smtp.timed_out()
            self.abort_later()
        return left

    def abort_later(self) -> None:
        """Drop the connection, if the client does not even take our last reply."""
        transport = self.transport
        if transport is not None:
            self.loop.call_later(LINGER_SECONDS, transport.abort)


# How long a client that was told to go may keep its connection.
LINGER_SECONDS = 10.0

# The event loop holds its tasks weakly.
_running: set[asyncio.Task[None]] = set()
