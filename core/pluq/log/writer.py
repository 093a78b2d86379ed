"""The descriptor that a log goes to.

Lines are collected and written together when the owner says so; order is kept, and a crash loses at most the lines that were not
written yet. Into a pipe no more goes at once than the kernel keeps together: other roles write into it too, and a line of theirs must not stand
in the middle of one of ours.

Source: pipe(7), PIPE_BUF.
"""

from __future__ import annotations

import os
import select
import stat
from collections.abc import Callable, Iterator


class LineWriter:
    """Collects lines for one descriptor. `flush` writes them in as few calls as the reader allows, and waits for a slow one.

    A reader that is gone is not an error: mail goes on without a log, as in qmail.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._most = kept_together(descriptor)
        self._lines: list[bytes] = []
        self.write = self._lines.append
        """Add one whole line; it goes out with the next flush."""
        self.also: Callable[[bytes], None] | None = None
        """Is given the lines of each flush as well."""

    def flush(self) -> None:
        if not self._lines:
            return
        joined = b"".join(self._lines)
        self._lines.clear()
        if self.also is not None:
            self.also(joined)
        for piece in pieces(joined, self._most):
            data = piece
            while data:
                try:
                    data = data[os.write(self._descriptor, data) :]
                except BlockingIOError:
                    select.select([], [self._descriptor], [])
                except OSError:
                    return


def kept_together(descriptor: int) -> int | None:
    """Return how many bytes of one write other writers cannot get between; None for any number."""
    try:
        is_pipe = stat.S_ISFIFO(os.fstat(descriptor).st_mode)
    except OSError:
        return None
    return select.PIPE_BUF if is_pipe else None


def pieces(data: bytes, most: int | None) -> Iterator[memoryview]:
    """Yield the data in runs of whole lines, of at most `most` bytes each where the lines are not longer."""
    whole, at = memoryview(data), 0
    while most is not None and len(data) - at > most:
        end = data.rfind(b"\n", at, at + most) + 1
        if not end:
            end = data.find(b"\n", at) + 1 or len(data)
        yield whole[at:end]
        at = end
    if at < len(data):
        yield whole[at:]
