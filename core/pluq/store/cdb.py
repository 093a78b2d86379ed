"""cdb: a constant database, one file that maps keys to values (users/cdb, morercpthosts.cdb, tcp.smtp.cdb).

The file begins with 256 pointers (position, slots), one for each value of hash & 255; then come the records (key length, data
length, key, data), then the 256 hash tables of (hash, record position). All numbers are 32 bits, little-endian, so a file ends
before 4 GiB. A key may occur more than once; the first one counts.

A reader keeps one version of the file: a writer makes a new file and renames it, so a crash leaves the old one or the new one,
whole. Reads go through pread, not a memory map: a file that somebody truncates in place is then an error, not a SIGBUS.

Source: https://cr.yp.to/cdb/cdb.txt; the bytes are those of cdbmake and of qmail's cdbmss.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from struct import Struct
from typing import BinaryIO

from pluq.errors import ConfigError

PAIR = Struct("<LL")
POINTERS = Struct("<512L")
TABLES = 256
LIMIT = 1 << 32


def cdb_hash(key: bytes) -> int:
    """Return the 32 bit hash of a key."""
    value = 5381
    for byte in key:
        value = (value * 33 & 0xFFFFFFFF) ^ byte
    return value


class Cdb:
    """An open cdb file. Raises FileNotFoundError where there is none, ConfigError for one that cannot be read or is broken."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._fd = -1
        try:
            self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            raise
        except OSError as error:
            raise ConfigError(path, os.strerror(error.errno or 0)) from error

    def close(self) -> None:
        if self._fd != -1:
            os.close(self._fd)
            self._fd = -1

    def __del__(self) -> None:
        self.close()

    def _read(self, position: int, length: int) -> bytes:
        try:
            data = os.pread(self._fd, length, position)
        except (OSError, OverflowError, MemoryError) as error:
            raise ConfigError(self.path, f"cannot be read: {error}") from error
        if len(data) != length:
            raise ConfigError(self.path, "is no cdb file, or is truncated")
        return data

    def _pair(self, position: int) -> tuple[int, int]:
        first, second = PAIR.unpack(self._read(position, 8))
        return first, second

    def _positions(self, key: bytes) -> Iterator[int]:
        """Yield where the records lie whose key has the hash of this one, in the order of the file."""
        wanted = cdb_hash(key)
        table, slots = self._pair(8 * (wanted & 255))
        start = (wanted >> 8) % slots if slots else 0
        for step in range(slots):
            found, record = self._pair(table + 8 * ((start + step) % slots))
            if not record:
                return
            if found == wanted:
                yield record

    def get(self, key: bytes) -> bytes | None:
        """Return the data of the first record with this key, or None."""
        for record in self._positions(key):
            key_length, data_length = self._pair(record)
            if key_length == len(key) and self._read(record + 8, key_length) == key:
                return self._read(record + 8 + key_length, data_length) if data_length else b""
        return None

    def __contains__(self, key: bytes) -> bool:
        return self.get(key) is not None

    def __iter__(self) -> Iterator[tuple[bytes, bytes]]:
        """Yield all records (key, data) in the order in which they were written."""
        position = 8 * TABLES
        end = self._pair(0)[0]
        while position < end:
            key_length, data_length = self._pair(position)
            if position + 8 + key_length + data_length > end:
                raise ConfigError(self.path, "is no cdb file, or is truncated")
            both = self._read(position + 8, key_length + data_length)
            yield both[:key_length], both[key_length:]
            position += 8 + key_length + data_length


def hash_table(entries: list[tuple[int, int]]) -> bytes:
    """Return one hash table: twice as many slots as entries, filled in the order of the records."""
    slots = 2 * len(entries)
    table: list[tuple[int, int]] = [(0, 0)] * slots
    for entry in entries:
        where = (entry[0] >> 8) % slots
        while table[where][1]:
            where = (where + 1) % slots
        table[where] = entry
    return b"".join(PAIR.pack(*slot) for slot in table)


def write_records(file: BinaryIO, pairs: Iterable[tuple[bytes, bytes]]) -> None:
    """Write a whole cdb to a seekable file that is empty. Raises ValueError at 4 GiB."""
    buckets: list[list[tuple[int, int]]] = [[] for _ in range(TABLES)]
    position = file.seek(POINTERS.size)
    for key, data in pairs:
        value = cdb_hash(key)
        buckets[value & 255].append((value, position))
        file.write(PAIR.pack(len(key), len(data)))
        file.write(key)
        file.write(data)
        position += 8 + len(key) + len(data)
        if position >= LIMIT:
            raise ValueError("a cdb file cannot be larger than 4 GiB")
    pointers: list[int] = []
    for bucket in buckets:
        pointers += (position, 2 * len(bucket))
        position += 16 * len(bucket)
        if position >= LIMIT:
            raise ValueError("a cdb file cannot be larger than 4 GiB")
        file.write(hash_table(bucket))
    file.seek(0)
    file.write(POINTERS.pack(*pointers))


def write_cdb(path: str, pairs: Iterable[tuple[bytes, bytes]], temporary: str | None = None, mode: int = 0o644) -> None:
    """Write the pairs to `temporary` (default: path with .tmp), sync it and rename it to `path`.

    An OSError names the temporary file; one of the rename has both names (`filename2` is `path`).
    """
    temporary = f"{path}.tmp" if temporary is None else temporary
    with open(temporary, "wb", opener=lambda name, flags: os.open(name, flags, mode)) as file:
        try:
            write_records(file, pairs)
            file.flush()
            os.fsync(file.fileno())
        except OSError as error:
            error.filename = temporary
            raise
    os.rename(temporary, path)
