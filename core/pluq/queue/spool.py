"""A message that waits until all of it is there: in memory while it is small, in an unlinked temporary file beyond."""

from __future__ import annotations

import os
from collections.abc import Iterator

__all__ = ["Spool"]

MEMORY_BYTES = 65536
CHUNK_BYTES = 65536


class Spool:
    """Bytes to be read once, from the beginning. `size` counts them."""

    def __init__(self, memory_bytes: int = MEMORY_BYTES) -> None:
        self.size = 0
        self._memory_bytes = memory_bytes
        self._chunks: list[bytes] = []
        self._fd = -1

    def write(self, chunk: bytes) -> None:
        """Add bytes. Raises OSError when the temporary file cannot take them."""
        self.size += len(chunk)
        self._chunks.append(chunk)
        if self.size > self._memory_bytes:
            self._spill()

    def _spill(self) -> None:
        from pluq.store.durable import write_all

        if self._fd < 0:
            import tempfile

            folder = os.environ.get("TMPDIR") or "/tmp"  # noqa: S108  # only where no O_TMPFILE is
            try:
                self._fd = os.open(folder, os.O_RDWR | os.O_TMPFILE | os.O_CLOEXEC, 0o600)
            except OSError:
                with tempfile.TemporaryFile() as file:
                    self._fd = os.dup(file.fileno())
        data = b"".join(self._chunks)
        self._chunks.clear()
        write_all(self._fd, data)

    def chunks(self) -> Iterator[bytes]:
        """Give everything once, in order."""
        if self._fd >= 0:
            os.lseek(self._fd, 0, os.SEEK_SET)
            while chunk := os.read(self._fd, CHUNK_BYTES):
                yield chunk
        yield from self._chunks

    def close(self) -> None:
        """Drop the bytes."""
        self._chunks.clear()
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
