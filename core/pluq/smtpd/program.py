"""One session on descriptors 0 and 1, as qmail-smtpd has it under tcpserver, inetd or a shell.

Any kind of descriptor does: a socket, a pipe, a file. Reads and writes wait for `timeoutsmtpd` at most. Without plugins nothing
here imports asyncio: starting a process costs more than most sessions, and all that the session asks for may block. With
plugins the session runs inside an event loop, so that what they began goes on while the client is awaited.

Exit codes: 0 after QUIT, 1 after anything else.

Source: qmail-smtpd.c, timeoutread.c, timeoutwrite.c.
"""

from __future__ import annotations

import os
import select
from collections.abc import Coroutine, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pluq.hookspecs.context import Session, Tls
from pluq.smtpd.session import Service, SmtpSession

if TYPE_CHECKING:
    import asyncio
    import ssl

    from pluq.smtpd.tls import TlsLayer

READ_BYTES = 65536


def session_of(environment: Mapping[str, str], profile: str = "stock", arguments: Sequence[str] = ()) -> Session:
    """Return the session that tcpserver's variables describe. `arguments` are those of the program."""
    local_ip = environment.get("TCPLOCALIP")
    local = environment.get("TCPLOCALHOST", local_ip)
    return Session(
        profile=profile,
        remote_ip=environment.get("TCPREMOTEIP", "unknown"),
        remote_port=port_number(environment.get("TCPREMOTEPORT")),
        remote_host=environment.get("TCPREMOTEHOST", "unknown"),
        remote_info=environment.get("TCPREMOTEINFO"),
        local_ip=local_ip or "",
        local_port=port_number(environment.get("TCPLOCALPORT")),
        local_host="unknown" if local is None else local,
        environment=dict(environment),
        arguments=tuple(arguments),
    )


def port_number(text: str | None) -> int:
    return int(text) if text is not None and text.isascii() and text.isdigit() and len(text) < 6 else 0


class Program:
    """The driver of a session on two descriptors. `run` returns the exit code."""

    def __init__(self, service: Service, session: Session, read_fd: int = 0, write_fd: int = 1) -> None:
        self._service = service
        self._read_fd = read_fd
        self._write_fd = write_fd
        self._loop: asyncio.AbstractEventLoop | None = None
        self._step: asyncio.Task[None] | None = None
        self._background: set[asyncio.Task[None]] = set()
        self._tls: TlsLayer | None = None
        self._is_open = True
        self.smtp = SmtpSession(self, service, session)

    def run(self) -> int:
        """Serve the session to its end. Raises ConfigError or TemporaryFailure, before the banner, if a plugin cannot start."""
        if self._service.has_hooks:
            import asyncio

            return asyncio.run(self._serve_in_loop())
        try:
            self._serve().send(None)
        except StopIteration as end:
            return int(end.value)
        raise AssertionError("a session without plugins has nothing to wait for")

    async def _serve_in_loop(self) -> int:
        import asyncio

        self._loop = asyncio.get_running_loop()
        plan = self._service.plan
        if plan.start is not None:
            await plan.start()
        code = await self._serve()
        if self._background:
            await asyncio.wait(self._background)
        if plan.stop is not None:
            await plan.stop()
        return code

    async def _serve(self) -> int:
        smtp = self.smtp
        smtp.begin()
        while smtp.ended is None or self._step is not None:
            if self._step is not None:
                await self._finish_step(self._step)
            else:
                await self.wait_input()
        return 0 if smtp.ended == "quit" else 1

    async def _finish_step(self, step: asyncio.Task[None]) -> None:
        error: BaseException | None = None
        try:
            await step
        except Exception as failure:
            error = failure
        self._step = None
        self.smtp.resumed(error)

    # -- what the session asks for

    def has_unread(self) -> bool:
        return self._poll(self._read_fd, select.POLLIN, 0)

    async def wait_input(self) -> bool:
        data = await self._receive()
        if data:
            self.smtp.feed(data)
            return True
        if data is None:
            self.smtp.timed_out()
        else:
            self.smtp.end_of_input()
        return False

    async def _receive(self) -> bytes | None:
        """Return what the client sent, nothing at the end, None when it took too long."""
        if self._tls is None:
            return await self._read_raw()
        encrypted: bytes | None = b""  # the end of the handshake may have brought the first command along
        while encrypted is not None:
            data, answer = self._tls.received(encrypted)
            self._write_raw(answer)
            if data or self._tls.is_closed:
                return data
            encrypted = await self._read_raw()
            if encrypted == b"":
                return b""
        return None

    async def _read_raw(self) -> bytes | None:
        seconds = self.smtp.seconds_left()
        if self._loop is not None:
            from pluq.smtpd.resume import wait_readable

            is_ready = await wait_readable(self._loop, self._read_fd, seconds)
        else:
            is_ready = self._poll(self._read_fd, select.POLLIN, seconds)
        try:
            return os.read(self._read_fd, READ_BYTES) if is_ready else None
        except OSError:
            return b""

    def _poll(self, fd: int, event: int, seconds: float) -> bool:
        poll = select.poll()
        poll.register(fd, event)
        return bool(poll.poll(max(0.0, seconds) * 1000))

    def send(self, data: bytes) -> None:
        self._write_raw(data if self._tls is None else self._tls.encrypt(data))

    def _write_raw(self, data: bytes) -> None:
        """Write all of it; a client that does not read for too long, or is gone, ends the session."""
        view = memoryview(data)
        while view and self._is_open:
            try:
                if not self._poll(self._write_fd, select.POLLOUT, self._service.policy.timeout):
                    raise TimeoutError
                view = view[os.write(self._write_fd, view[:READ_BYTES]) :]
            except OSError:
                self._is_open = False
                self.smtp.lost()

    def close(self) -> None:
        if self._tls is not None:
            self._write_raw(self._tls.goodbye())

    def resume(self, coroutine: Coroutine[Any, Any, None], waiting: Any) -> None:
        from pluq.smtpd.resume import finish_step

        assert self._loop is not None
        self._step = self._loop.create_task(finish_step(coroutine, waiting))

    def background(self, work: Coroutine[Any, Any, None]) -> None:
        assert self._loop is not None
        task = self._loop.create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    async def breathe(self, seconds: float = 0.0) -> None:
        """There is no other session."""

    async def start_tls(self, context: ssl.SSLContext) -> Tls:
        from pluq.smtpd.tls import TlsLayer

        layer = TlsLayer(context)
        while not layer.handshake():
            self._write_raw(layer.outgoing())
            data = await self._read_raw()
            if not data:
                raise ConnectionAbortedError("the client is gone")
            layer.incoming(data)
        self._write_raw(layer.outgoing())
        self._tls = layer
        return layer.describe()

    def switch(self, read_fd: int, write_fd: int) -> None:
        """Put them in the place of ours: nothing can be said in clear any more, by nobody."""
        os.dup2(read_fd, self._read_fd, inheritable=False)
        os.dup2(write_fd, self._write_fd, inheritable=False)
        os.close(read_fd)
        os.close(write_fd)
