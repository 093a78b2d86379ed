"""Following the log of the scheduler: through run/send under `pluq serve`, else in a file that a logger writes."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, BinaryIO, Protocol

if TYPE_CHECKING:
    from pluq.config import Home
    from pluq.log.read import Event

POLL_SECONDS = 0.1
FOLDERS = ("/var/log/qmail/pluq", "/var/log/qmail/qmail-send", "/var/log/qmail")
SILENT = "the scheduler does not answer; nothing was sent"
LOST = "the scheduler has gone away, or is too busy to be followed"


class Lost(Exception):
    """Nothing more can be heard."""


class Follower(Protocol):
    """Gives the lines that are written from now on."""

    def lines(self, deadline: float) -> Iterator[bytes]:
        """Yield lines until a monotonic time. Raises Lost."""


class SocketFollower:
    """The lines that the scheduler sends. Raises OSError where there is none to connect to, Lost where it does not answer."""

    def __init__(self, home: Home) -> None:
        from pluq.store import unix
        from pluq.wire.steer import FOLLOW, Order, encode_order

        self._sock = unix.connect(f"{home.run}/send", socket.SOCK_SEQPACKET, 10.0)
        self._sock.sendall(encode_order(Order(FOLLOW, b"", {})))
        try:
            if not self._sock.recv(1):
                raise ConnectionRefusedError
        except TimeoutError:
            raise Lost(SILENT) from None

    def lines(self, deadline: float) -> Iterator[bytes]:
        from pluq.wire.steer import PACKET_BYTES

        while (left := deadline - time.monotonic()) > 0:
            self._sock.settimeout(left)
            try:
                packet = self._sock.recv(PACKET_BYTES)
            except TimeoutError:
                return
            except OSError:
                raise Lost(LOST) from None
            if not packet:
                raise Lost(LOST)
            yield from packet.splitlines()


class FileFollower:
    """The lines that come to a log file, also when the logger begins a new one. Raises OSError."""

    def __init__(self, path: str) -> None:
        self._path = f"{path}/current" if os.path.isdir(path) else path
        self._file = self._open()
        self._file.seek(0, os.SEEK_END)
        self._rest = b""

    def _open(self) -> BinaryIO:
        return open(self._path, "rb", buffering=0)  # as long as the log is followed

    def lines(self, deadline: float) -> Iterator[bytes]:
        while True:
            while data := self._file.read(65536):
                *whole, self._rest = (self._rest + data).split(b"\n")
                yield from whole
            if time.monotonic() >= deadline:
                return
            if not self._began_anew():
                time.sleep(POLL_SECONDS)

    def _began_anew(self) -> bool:
        """Go on with the file that has the name now, when all of the former one is read."""
        try:
            if os.stat(self._path).st_ino == os.fstat(self._file.fileno()).st_ino:
                return False
            fresh = self._open()
        except FileNotFoundError:
            return False
        self._file.close()
        self._file = fresh
        return True


def follow(home: Home, log: str | None) -> Follower | None:
    """Return who follows: the log that was named, the scheduler of this home, a log where it usually is; None if there is none.

    Raises OSError for a log that cannot be read, Lost for a scheduler that does not answer.
    """
    if log is not None:
        return FileFollower(log)
    try:
        return SocketFollower(home)
    except OSError:
        pass
    for folder in FOLDERS:
        if os.access(f"{folder}/current", os.R_OK):
            return FileFollower(folder)
    return None


def heard(follower: Follower, deadline: float) -> Iterator[Event]:
    """Yield the events that are logged until then. Raises Lost."""
    from pluq.log.read import events

    for _when, event in events(follower.lines(deadline)):
        yield event
