"""The recipients of a message on one channel, as they lie in local/N or remote/N: T ADDRESS NUL, or D ADDRESS NUL when done.

The file is read as its records are needed, so that a list of any length costs the same memory. A recipient is marked done in
place, one byte at its offset; the mark is not synced, since losing it means a second delivery and never none.

Source: INTERNALS section 5; pass_dochan and markdone in qmail-send.c.
"""

from __future__ import annotations

import os

from pluq.errors import ProtocolError
from pluq.queue.reader import never_waiting

CHUNK_BYTES = 4096
RECORD_BYTES_MAX = 65536
"""No address is longer; a longer record is a broken file."""


class Records:
    """The records of one file, in order."""

    def __init__(self, path: str) -> None:
        self._descriptor = never_waiting(path, os.O_RDONLY)
        self._buffer = b""
        self._start = 0
        self._at_end = False
        self._offset = 0
        """Where in the file the buffer begins."""

    def next(self) -> tuple[int, bytes] | None:
        """Return the offset of the next record and its bytes, None at the end. Raises OSError, ProtocolError."""
        while (end := self._buffer.find(b"\0", self._start)) < 0:
            if self._at_end:
                return None
            self._read()
        record = self._buffer[self._start : end]
        offset = self._offset + self._start
        self._start = end + 1
        return offset, record

    def _read(self) -> None:
        rest = self._buffer[self._start :]
        if len(rest) > RECORD_BYTES_MAX:
            raise ProtocolError("a record without an end", blame="local")
        data = os.read(self._descriptor, CHUNK_BYTES)
        self._offset += self._start
        self._start = 0
        self._buffer = rest + data
        # A file, read short: that was its end. Saves most messages a second call.
        self._at_end = len(data) < CHUNK_BYTES

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def mark_done(path: str, offset: int) -> None:
    """Write D over the T at an offset. Raises OSError."""
    descriptor = never_waiting(path, os.O_WRONLY)
    try:
        os.pwrite(descriptor, b"D", offset)
    finally:
        os.close(descriptor)
