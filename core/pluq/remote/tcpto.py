"""tcpto: the addresses that lately did not answer, shared by all deliveries through queue/lock/tcpto.

The file is 64 records of 16 bytes: IPv4 address (4), number of timeouts (1, at most 10), three unused, the time of the last one
(4, little-endian), four unused. After two timeouts, at least two minutes apart, an address is left alone for an hour (a bit
more, by process id, so that not all try again at once). Any other end of a connection attempt clears the count. When all
records are taken the one that matters least goes: the oldest, each timeout being worth 1024 seconds.

The file is advice: where it is missing or cannot be written, deliveries just try. Addresses that are not IPv4 have no place
in it and are never dead. Source: tcpto.c, tcpto_clean.c of qmail; qmail-tcpto(8).
"""

from __future__ import annotations

import fcntl
import os
import socket
from collections.abc import Container, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

RECORD_BYTES = 16
FILE_BYTES = 1024
MAX_COUNT = 10

# An attempt that fails within so many seconds of the last one tells nothing new.
NEWS_SECONDS = 120


@dataclass(frozen=True, slots=True)
class Record:
    """One address. `count` 0 is a free record."""

    address: str
    count: int
    when: int

    @classmethod
    def parse(cls, raw: bytes) -> Record:
        return cls(socket.inet_ntoa(raw[:4]), raw[4], int.from_bytes(raw[8:12], "little"))

    def worth(self) -> int:
        return self.when + (self.count << 10)


def parse_records(data: bytes) -> list[Record]:
    """Return the whole records of a tcpto file."""
    whole = len(data) - len(data) % RECORD_BYTES
    return [Record.parse(data[at : at + RECORD_BYTES]) for at in range(0, whole, RECORD_BYTES)]


def read_locked(descriptor: int) -> bytes:
    """Return the contents of an open tcpto file, read under the lock, and close it. Raises OSError."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        return os.pread(descriptor, FILE_BYTES, 0)
    finally:
        os.close(descriptor)


def clear(path: str) -> None:
    """Forget all timeouts: when qmail-rspawn starts, and by qmail-tcpok. Raises OSError; makes no file."""
    with _locked(path) as descriptor:
        os.pwrite(descriptor, bytes(FILE_BYTES), 0)


def forget(path: str, addresses: Container[str]) -> None:
    """Forget the timeouts of these addresses. Raises OSError; makes no file."""
    with _locked(path) as descriptor:
        for place, record in enumerate(parse_records(os.pread(descriptor, FILE_BYTES, 0))):
            if record.address in addresses:
                os.pwrite(descriptor, bytes(RECORD_BYTES), place * RECORD_BYTES)


@contextmanager
def _locked(path: str) -> Iterator[int]:
    descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield descriptor
    finally:
        os.close(descriptor)


class TcpTo:
    """The file as deliveries use it. Nothing here raises: an unusable file means that nothing is known."""

    def __init__(self, path: str, pid: int | None = None) -> None:
        self.path = path
        self.patience = (60 + ((os.getpid() if pid is None else pid) & 31)) << 6
        self._known: set[str] = set()  # addresses that have a record, as far as we saw

    def is_dead(self, address: str, now: float) -> bool:
        """Return whether to leave an address alone."""
        self._known.discard(address)
        if ":" in address:
            return False
        try:
            data = read_locked(os.open(self.path, os.O_RDWR | os.O_CLOEXEC))
        except OSError:
            return False
        if socket.inet_aton(address) not in data:  # nearly always, and much cheaper than reading 64 records
            return False
        for record in parse_records(data):
            if record.address == address:
                self._known.add(address)
                return record.count >= 2 and 0 <= int(now) - record.when < self.patience
        return False

    def note(self, address: str, timed_out: bool, now: float) -> None:
        """Remember how a connection attempt ended. A success matters only where there is a record to clear."""
        if (timed_out or address in self._known) and ":" not in address:
            try:
                with _locked(self.path) as descriptor:
                    self._update(descriptor, address, timed_out, int(now))
            except OSError:
                return

    def _update(self, descriptor: int, address: str, timed_out: bool, now: int) -> None:
        data = os.pread(descriptor, FILE_BYTES, 0)
        records = parse_records(data)
        place = next((at for at, record in enumerate(records) if record.address == address), None)
        if place is not None:
            old = records[place]
            if timed_out and old.count and now < NEWS_SECONDS + old.when:
                return
            count = min(old.count + 1, MAX_COUNT) if timed_out else 0
            when = now if timed_out else old.when
        elif timed_out and records:
            place = _place_for_new(records)
            count, when = 1, now
        else:
            return
        raw = bytearray(data[place * RECORD_BYTES : (place + 1) * RECORD_BYTES])
        raw[:5] = socket.inet_aton(address) + bytes((count,))
        raw[8:12] = (when & 0xFFFFFFFF).to_bytes(4, "little")
        os.pwrite(descriptor, raw, place * RECORD_BYTES)


def _place_for_new(records: list[Record]) -> int:
    """Return the first free record, else the one that matters least."""
    free = next((at for at, record in enumerate(records) if not record.count), None)
    if free is not None:
        return free
    return min(range(len(records)), key=lambda at: records[at].worth())
