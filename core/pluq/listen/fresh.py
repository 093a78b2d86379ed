"""What is read from files, and read again when one of them changes.

qmail-smtpd reads its control files for each connection, so administrators change them and are done. A resident server asks the
kernel for their times instead, at most once a second. A new version that cannot be used is logged, and the old one goes on.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from pluq.errors import ConfigError

T = TypeVar("T")

LOOK_SECONDS = 1.0

Stamp = tuple[int, int, int] | None


def stamp(path: str) -> Stamp:
    """Return what changes when a file does; None where there is none."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino


class Fresh(Generic[T]):
    """A value from files. Raises ConfigError when it cannot be read the first time."""

    def __init__(self, paths: Sequence[str], read: Callable[[], T], log: Callable[[str], None]) -> None:
        self._paths = tuple(paths)
        self._read = read
        self._log = log
        self._next_look = 0.0
        self._stamps = self._look()
        self._value = read()

    def _look(self) -> tuple[Stamp, ...]:
        return tuple(stamp(path) for path in self._paths)

    def get(self, now: float) -> T:
        """Return the value; `now` is a monotonic time in seconds."""
        if now >= self._next_look:
            self._next_look = now + LOOK_SECONDS
            if self._look() != self._stamps:
                self.renew()
        return self._value

    def renew(self) -> None:
        """Read the files anew. Keeps the old value, and says why, where that fails."""
        self._stamps = self._look()
        try:
            self._value = self._read()
        except ConfigError as error:
            self._log(f"{error}; what was read before stays in force")
