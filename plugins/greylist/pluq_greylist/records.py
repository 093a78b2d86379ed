"""What is remembered: a small SQLite database that all SMTP processes share.

    seen     key (16 bytes) | first, last: seconds since the epoch | passed: 0 or 1
    earned   network | passed: messages that came back | last

A key stands for network, sender and recipient. Numbers in a sender's local part count as one sign, for mailing lists write a new number
into each message's sender.

Writes are not synced: a power cut may lose the newest entries, and somebody waits once more. Entries that are out of date are removed
every ten minutes by whichever process finds it due.
"""

from __future__ import annotations

import re
import sqlite3
from dataclasses import dataclass
from hashlib import blake2b

TABLES = """
create table if not exists seen (key blob primary key, first integer, last integer, passed integer) without rowid;
create table if not exists earned (network blob primary key, passed integer, last integer) without rowid;
create index if not exists seen_last on seen (last);
"""
CLEANING_SECONDS = 600
# A client waits for its answer meanwhile.
BUSY_SECONDS = 0.5
NUMBERS = re.compile(rb"[0-9]+")


def key_of(network: bytes, sender: bytes, recipient: bytes) -> bytes:
    """Return what the three are remembered by."""
    local, at, domain = sender.lower().rpartition(b"@")
    parts = (network, NUMBERS.sub(b"#", local) + at + domain, recipient.lower())
    return blake2b(b"\0".join(parts), digest_size=16).digest()


@dataclass(frozen=True)
class Limits:
    """In seconds, `auto` in messages, `entries` in rows."""

    delay: int
    window: int
    keep: int
    auto: int
    entries: int


class Records:
    """The database. Everything but `close` raises sqlite3.Error."""

    def __init__(self, path: str, limits: Limits) -> None:
        self.path = path
        self._limits = limits
        self._clean_at = 0
        self._full = False
        self._database: sqlite3.Connection | None = None

    def open(self) -> None:
        self._database = sqlite3.connect(self.path, timeout=BUSY_SECONDS, isolation_level=None)
        self._database.executescript("pragma journal_mode = wal; pragma synchronous = off;" + TABLES)

    def close(self) -> None:
        if self._database is not None:
            self._database.close()
            self._database = None

    def wait(self, network: bytes, key: bytes, now: int) -> int:
        """Return how many seconds this attempt is too early, 0 for one that may pass, and remember it."""
        database = self._database
        if database is None:
            raise sqlite3.ProgrammingError("not open")
        self._clean(database, now)
        if self._has_earned(database, network, now):
            return 0
        row = database.execute("select first, last, passed from seen where key = ?", (key,)).fetchone()
        if row is None or self._is_old(row, now):
            if not self._full:
                database.execute("insert or replace into seen values (?, ?, ?, 0)", (key, now, now))
            return 0 if self._full else max(self._limits.delay, 0)
        first, _, passed = row
        early: int = first + self._limits.delay - now
        if not passed and early > 0:
            return early
        database.execute("update seen set last = ?, passed = 1 where key = ?", (now, key))
        if not passed:
            self._earn(database, network, now)
        return 0

    def _is_old(self, row: tuple[int, int, int], now: int) -> bool:
        first, last, passed = row
        if now < first:
            return True  # the clock was set back: who waits would wait for as much longer
        return now > last + self._limits.keep if passed else now > first + self._limits.window

    def _has_earned(self, database: sqlite3.Connection, network: bytes, now: int) -> bool:
        if not self._limits.auto:
            return False
        row = database.execute("select passed, last from earned where network = ?", (network,)).fetchone()
        if row is None or row[0] < self._limits.auto or now > row[1] + self._limits.keep:
            return False
        if now > row[1] + CLEANING_SECONDS:
            database.execute("update earned set last = ? where network = ?", (now, network))
        return True

    def _earn(self, database: sqlite3.Connection, network: bytes, now: int) -> None:
        database.execute(
            "insert into earned values (?, 1, ?) on conflict (network) do update set passed = passed + 1, last = excluded.last",
            (network, now),
        )

    def _clean(self, database: sqlite3.Connection, now: int) -> None:
        if now < self._clean_at:
            return
        self._clean_at = now + CLEANING_SECONDS
        limits = self._limits
        oldest = (now - limits.keep, now - limits.window)
        database.execute("delete from seen where last < ? or (passed = 0 and first < ?)", oldest)
        database.execute("delete from earned where last < ?", oldest[:1])
        self._full = database.execute("select count(*) from seen").fetchone()[0] >= limits.entries
