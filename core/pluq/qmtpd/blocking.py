"""The servers as programs under tcpserver: descriptors 0 and 1, one process for one client, an hour at most.

Exit codes: 0 the client has gone, 100 it broke the protocol, 111 something is wrong here; 100 and 111 leave it without an answer.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Coroutine
from typing import Any, TypeVar

from pluq.config import Home
from pluq.errors import PluqError, ProtocolError, TemporaryFailure
from pluq.qmtpd import run
from pluq.qmtpd.reader import EndOfInput
from pluq.queue.submit import BlockingSubmission, BlockingSubmitter

T = TypeVar("T")

PROTOCOL = 100
TROUBLE = 111
SESSION_SECONDS = 3600


class HomeSubmitter(BlockingSubmitter):
    """The way into the queue, from inside the home: where that cannot be entered, no message is begun."""

    def __init__(self, home: Home) -> None:
        super().__init__(home)
        self._folder = home.path

    async def open(self) -> BlockingSubmission:
        try:
            os.chdir(self._folder)
        except OSError as error:
            raise TemporaryFailure(f"{self._folder}: {error.strerror}") from error
        return await super().open()


async def read(size: int) -> bytes:
    """Return what the client sends, at most `size` bytes; b"" when it has gone."""
    try:
        return os.read(0, size)
    except OSError:
        return b""


async def write(data: bytes) -> None:
    """Send all of it. Raises EndOfInput when the client has gone."""
    left = memoryview(data)
    try:
        while left:
            left = left[os.write(1, left) :]
    except OSError as error:
        raise EndOfInput("the connection was closed") from error


def serve(session: Coroutine[Any, Any, None]) -> int:
    """Serve one client; return the exit code."""
    signal.signal(signal.SIGALRM, lambda number, frame: os._exit(TROUBLE))
    signal.alarm(SESSION_SECONDS)
    try:
        run(session)
    except EndOfInput:
        return 0
    except ProtocolError:
        return PROTOCOL
    except PluqError:
        return TROUBLE
    return 0
