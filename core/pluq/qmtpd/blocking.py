"""The servers as programs under tcpserver: descriptors 0 and 1, one process for one client, an hour at most.

Exit codes: 0 the client has gone, 100 it broke the protocol, 111 something is wrong here; 100 and 111 leave it without an answer.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, TypeVar

from pluq.config import Home
from pluq.errors import PluqError, ProtocolError, TemporaryFailure
from pluq.qmtpd import run
from pluq.qmtpd.reader import EndOfInput
from pluq.queue.submit import Receipt, SyncSubmission, open_submission

T = TypeVar("T")

PROTOCOL = 100
TROUBLE = 111
SESSION_SECONDS = 3600


class Blocking:
    """A blocking submission where a coroutine expects one that waits."""

    def __init__(self, submission: SyncSubmission) -> None:
        self.write = submission.write
        self.abort = submission.abort
        self._commit = submission.commit

    async def commit(self, sender: bytes, recipients: Sequence[bytes]) -> Receipt:
        return self._commit(sender, recipients)


class BlockingSubmitter:
    """Opens submissions by calling `start`."""

    def __init__(self, start: Callable[[], SyncSubmission]) -> None:
        self._start = start

    async def open(self) -> Blocking:
        return Blocking(self._start())


def submitter(home: Home) -> BlockingSubmitter:
    """Return the way into the queue of `home` for this process."""

    def start() -> SyncSubmission:
        try:
            os.chdir(home.path)
        except OSError as error:
            raise TemporaryFailure(f"{home.path}: {error.strerror}") from error
        return open_submission(home)

    return BlockingSubmitter(start)


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
