"""The descriptor that a log goes to.

Lines are collected and written together when the owner says so; order is kept, and a crash loses at most the lines that were not
written yet.
"""

from __future__ import annotations

import os
import select
from collections.abc import Callable


class LineWriter:
    """Collects lines for one descriptor. `flush` writes them in as few calls as the reader allows, and waits for a slow one.

    A reader that is gone is not an error: mail goes on without a log, as in qmail.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
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
        data = memoryview(joined)
        while data:
            try:
                data = data[os.write(self._descriptor, data) :]
            except BlockingIOError:
                select.select([], [self._descriptor], [])
            except OSError:
                return
