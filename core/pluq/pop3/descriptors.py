"""Reading and writing two descriptors with a time limit, as the programs under tcpserver do.

Source: timeoutread.c and timeoutwrite.c of qmail; RFC 1939 section 3 asks for at least ten minutes.
"""

from __future__ import annotations

import os
import select

from pluq.errors import PluqError

SECONDS = 1200  # what qmail-popup and qmail-pop3d give a silent client


class Gone(PluqError):
    """The client has closed the connection or has been silent for too long."""


class Descriptors:
    """The two ends of one connection. `seconds` is the limit of each wait."""

    def __init__(self, reads: int = 0, writes: int = 1, seconds: float = SECONDS) -> None:
        self.reads = reads
        self.writes = writes
        self.seconds = seconds

    def read(self, size: int) -> bytes:
        """Return at most `size` bytes, b"" at the end. Raises Gone."""
        self._wait(self.reads, select.POLLIN)
        try:
            return os.read(self.reads, size)
        except OSError as error:
            raise Gone from error

    def write(self, data: bytes) -> None:
        """Write all of it. Raises Gone."""
        left = memoryview(data)
        while left:
            self._wait(self.writes, select.POLLOUT)
            try:
                left = left[os.write(self.writes, left) :]
            except OSError as error:
                raise Gone from error

    def _wait(self, descriptor: int, event: int) -> None:
        poll = select.poll()
        poll.register(descriptor, event)
        if not poll.poll(self.seconds * 1000):
            raise Gone
