"""A connection that one coroutine reads and writes, for protocols without SMTP's need for speed.

`converse` of a subclass is that coroutine; its result is what would be the program's exit code. It ends with ClientGone when the
client has gone. What the client sends ahead, beyond INPUT_BYTES, waits in the kernel; so does what it does not take.
"""

from __future__ import annotations

import asyncio
import math
from abc import ABC, abstractmethod
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, cast

from pluq.errors import ClientGone, PluqError, ProtocolError
from pluq.hookspecs.context import Session
from pluq.plan import Plan
from pluq.plan.chain import resumed

if TYPE_CHECKING:
    import ssl

    from pluq.listen.gate import Gate

# What may wait for the session before we stop reading.
INPUT_BYTES = 65536
# How long a client may take for its part of a TLS handshake.
HANDSHAKE_SECONDS = 60.0
# How long a client may take for our last words.
LINGER_SECONDS = 10.0

# The exit codes of qmail's servers.
GONE, PROTOCOL, TROUBLE = 0, 100, 111


class Stream(asyncio.Protocol, ABC):
    """One connection of a gate. `session` is who is there; `deadline` the time of the loop at which it is dropped."""

    def __init__(self, gate: Gate[Any, Any]) -> None:
        self.number = 0
        self.ip = ""
        self.transport: asyncio.Transport | None = None
        self.gate = gate
        self.plan: Plan | None = None
        self.loop = gate.worker.loop
        self.deadline = math.inf
        self.service: Any = None
        self.has_received = False
        self.is_leaving = False
        self._buffer = bytearray()
        self._eof = False
        self._task: asyncio.Task[None] | None = None
        self._code: int | None = None
        self._input: asyncio.Future[None] | None = None
        self._output: asyncio.Future[None] | None = None
        self._is_writable = True

    # -- what a protocol says

    @abstractmethod
    async def converse(self, session: Session) -> int:
        """Serve the client; return the exit code."""

    @property
    @abstractmethod
    def is_idle(self) -> bool:
        """Nothing is lost if the connection is closed now."""

    # -- what it uses

    async def read(self, size: int) -> bytes:
        """Return what the client has sent, at most `size` bytes; b"" at the end."""
        while not self._buffer and not self._eof:
            if self.transport is not None and not self.transport.is_closing():
                self.transport.resume_reading()
            self._input = self.loop.create_future()
            await self._input
        data = bytes(self._buffer[:size])
        del self._buffer[:size]
        return data

    async def write(self, data: bytes) -> None:
        """Send, and wait while the client does not take it. Raises ClientGone."""
        if self.transport is None:
            raise ClientGone("the client is gone")
        self.transport.write(data)
        while not self._is_writable:
            self._output = self.loop.create_future()
            await self._output

    async def start_tls(self, context: ssl.SSLContext) -> None:
        """Encrypt from here on; what was sent ahead in clear is dropped. Raises ClientGone where the handshake fails."""
        if self.transport is None or self.transport.is_closing():
            raise ClientGone("the client is gone")
        self._buffer.clear()
        try:
            transport = await self.loop.start_tls(
                self.transport, self, context, server_side=True, ssl_handshake_timeout=HANDSHAKE_SECONDS
            )
        except OSError as error:
            self._drop()
            self.gate.log.remark(f"{self.ip}: TLS handshake failed: {error}")
            raise ClientGone("TLS handshake failed") from error
        except BaseException:
            self._drop()
            raise
        if transport is None or transport.is_closing():  # uvloop says no more of a client that is gone so early
            self._drop()
            raise ClientGone("the client is gone")
        self.transport = transport

    def _drop(self) -> None:
        """End a connection of which the event loop tells nobody any more."""
        if self.transport is not None:
            self.transport.abort()
        self.loop.call_soon(self.connection_lost, None)

    # -- what the transport tells

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        stream = self.transport = cast("asyncio.Transport", transport)
        self.plan, self.service = self.gate.plan, self.gate.service()
        session = self.gate.arrive(self, self.service, stream)
        if session is not None:
            self._begin(self._run(session))

    def data_received(self, data: bytes) -> None:
        self.has_received = True
        self._buffer += data
        if len(self._buffer) > INPUT_BYTES and self.transport is not None and not self.transport.is_closing():
            self.transport.pause_reading()
        _wake(self._input)

    def eof_received(self) -> bool:
        self._eof = True
        _wake(self._input)
        # The answers to what has arrived are still to be sent; TLS closes by itself.
        return self.transport is not None and self.transport.get_extra_info("ssl_object") is None

    def pause_writing(self) -> None:
        self._is_writable = False

    def resume_writing(self) -> None:
        self._is_writable = True
        _wake(self._output)

    def connection_lost(self, error: Exception | None) -> None:
        if self.transport is None:
            return
        self.transport = None
        self._eof = self._is_writable = True
        _wake(self._input)
        _wake(self._output)
        if self._code is not None:
            self.gate.leave(self, self._code)

    # -- its life

    def _begin(self, run: Coroutine[Any, Any, int]) -> None:
        """Start at once, not as a task: TLS must begin before the transport reads what is to be decrypted."""
        try:
            waiting = run.send(None)
        except StopIteration as end:
            self._over(end.value)
            return
        self._task = self.loop.create_task(self._finish(run, waiting))

    async def _finish(self, run: Coroutine[Any, Any, int], waiting: Any) -> None:
        self._over(await resumed(run, waiting))

    async def _run(self, session: Session) -> int:
        try:
            return await self.converse(session)
        except ClientGone:
            return GONE
        except ProtocolError:
            return PROTOCOL
        except (PluqError, OSError) as error:
            self.gate.log.remark(f"{self.ip}: {error}")
            return TROUBLE
        except Exception as error:
            self.gate.log.remark(f"{self.ip}: {type(error).__name__}: {error}")
            return TROUBLE

    def _over(self, code: int) -> None:
        self._code = code
        if self.transport is None:
            self.gate.leave(self, code)
            return
        self.deadline = self.loop.time() + LINGER_SECONDS
        self.transport.close()

    def go_down(self) -> None:
        self.is_leaving = True
        if self.is_idle and self.transport is not None:
            self.transport.close()

    def check_time(self) -> float:
        left = self.deadline - self.loop.time()
        if left <= 0 and self.transport is not None:
            self.transport.abort()
        return left


def _wake(waiter: asyncio.Future[None] | None) -> None:
    if waiter is not None and not waiter.done():
        waiter.set_result(None)
