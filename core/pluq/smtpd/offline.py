r"""A session that nobody is connected to, and the lines of a dialogue file: for `pluq explain --session`, and for tests.

What the session sends is kept. TLS is not spoken: from where it would begin, both sides go on as if all was encrypted.

A line `C: text` of a dialogue stands for the text with CRLF, where \r \n \0 \\ and \xNN are octets. `<TIME>` and `<QP>` stand for the numbers in
the reply to a message.
"""

from __future__ import annotations

import asyncio
import errno
import os
import re
from collections.abc import Callable, Coroutine
from typing import Any

from pluq.errors import ClientGone
from pluq.hookspecs.context import Tls
from pluq.smtpd.resume import finish_step


class OfflineDriver:
    """The driver of a session without a client. `said` is all that was sent; `wake` lets a waiting verb look for input."""

    def __init__(self) -> None:
        self.said = b""
        self.is_closed = False
        self.step: asyncio.Task[None] | None = None
        self.waiter: asyncio.Future[bool] | None = None
        self.watcher: asyncio.Future[None] | None = None
        self.background_tasks: list[asyncio.Task[None]] = []
        self.resumed: Callable[[BaseException | None], None] = lambda error: None

    def send(self, data: bytes) -> None:
        self.said += data

    def close(self) -> None:
        self.is_closed = True

    def resume(self, coroutine: Coroutine[Any, Any, None], waiting: Any) -> None:
        self.step = asyncio.get_running_loop().create_task(finish_step(coroutine, waiting))
        self.step.add_done_callback(self._stepped)

    def _stepped(self, step: asyncio.Task[None]) -> None:
        self.step = None
        self.resumed(ClientGone("cancelled") if step.cancelled() else step.exception())

    def background(self, work: Coroutine[Any, Any, None]) -> None:
        self.background_tasks.append(asyncio.get_running_loop().create_task(work))

    def has_unread(self) -> bool:
        return False

    async def wait_input(self) -> bool:
        self.waiter = asyncio.get_running_loop().create_future()
        if self.watcher is not None and not self.watcher.done():
            self.watcher.set_result(None)
        try:
            return await self.waiter
        finally:
            self.waiter = None

    @property
    def is_waiting(self) -> bool:
        """True while a plugin's verb waits for the client."""
        return self.waiter is not None and not self.waiter.done()

    def wake(self, there_is_more: bool) -> None:
        if self.waiter is not None and not self.waiter.done():
            self.waiter.set_result(there_is_more)

    async def settled(self) -> None:
        """Wait until the session waits for its client, or has ended with all that follows."""
        while self.step is not None and not self.is_waiting:
            self.watcher = asyncio.get_running_loop().create_future()
            await asyncio.wait([self.step, self.watcher], return_when=asyncio.FIRST_COMPLETED)
        if self.is_closed and self.background_tasks:
            await asyncio.wait(self.background_tasks)

    async def breathe(self, seconds: float = 0.0) -> None:
        """There is no other session."""

    async def start_tls(self, context: Any) -> Tls:
        return Tls("TLSv1.3", "TLS_AES_256_GCM_SHA384")

    def switch(self, read_fd: int, write_fd: int) -> None:
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))


# -- lines of a dialogue

_ESCAPE = re.compile(rb"\\(?:r|n|0|\\|x([0-9a-f]{2}))")
_OCTETS = {b"\\r": b"\r", b"\\n": b"\n", b"\\0": b"\0", b"\\\\": b"\\"}
_NUMBERS = re.compile(r"^250 ok [0-9]+ qp [0-9]+$")


def client_line(text: str) -> bytes:
    """Return what a C: line stands for, without its CRLF."""
    raw = text.encode("utf-8", "surrogateescape")
    return _ESCAPE.sub(lambda found: bytes([int(found[1], 16)]) if found[1] else _OCTETS[found[0]], raw)


def blur(text: str) -> str:
    """Return a reply line with its numbers of the moment replaced."""
    return _NUMBERS.sub("250 ok <TIME> qp <QP>", text)
