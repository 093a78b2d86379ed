"""The journal: small messages are durable here first, with one wait for the disk, and in their own files a few seconds later.

pool/journal.0 and pool/journal.1 are two segments, written in turn, each from its beginning. A segment is a row of blocks:

    block     magic, secret, sequence, base, bytes of records, CRC-32 of all that; the records; zeros up to a multiple of 4096
    record    letter, id, number of the message, bytes of the envelope, bytes of the message; the envelope; the message
              m   a new message, with the bytes of todo/N and mess/N          s   it is preprocessed: todo/N is no more
              d   it has left the queue

The sequence counts blocks, so what an earlier round left in a segment is no continuation. The secret is a number of this journal that
nobody can guess: behind the newest block lie pages of older messages, and a stranger may have sent what looks like a block. Each message has an id; it stands in todo/N
as well, behind the number of qmail-queue: `p PID blank ID` (qmail ignores what follows the digits). A message whose id is smaller
than the base is durable in its own files.

    write      blocks go to the page cache: they survive a kill -9
    sync       fdatasync, of bytes that were there before: the file system has nothing of its own to write
    rest       a checkpoint is due now and then: syncfs by another thread, which makes all files of the queue durable. What was
               written before it began is not needed any more when it ends

The caller carries out what its records say (links, unlinks) between `write` and `rest`, so that a checkpoint never runs ahead of it.
After a checkpoint with nothing behind it the other segment is next: a quiet server uses the first few kilobytes of both.

A segment grows by zeros that are written, not only allocated: else each sync would wait for the file system's own journal.
After an error of a sync nobody knows what is on the disk: JournalError is for the daemon to die of. The next one reads the journal
(recovery.py) and goes on from there.

Source: none, this is ours. docs/decisions.md, "A journal before the queue's own files".
"""

from __future__ import annotations

import contextlib
import os
import re
import zlib
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from struct import Struct
from time import monotonic

from pluq.store.durable import fsync_dir, pwrite_all
from pluq.store.syncfs import have_syncfs, syncfs

__all__ = [
    "BLOCK",
    "MAGIC",
    "RECORD",
    "SEGMENTS",
    "Journal",
    "JournalError",
    "aligned",
    "block_sum",
    "mark_of",
    "marked",
    "record",
    "remove_segments",
]

MAGIC = b"pluq log"
# magic, secret, sequence, base, bytes of records, CRC-32
BLOCK = Struct("<8sQQQII")
# letter, id, number, bytes of envelope, bytes of message
RECORD = Struct("<cQQII")
SEGMENTS = ("journal.0", "journal.1")
SEGMENT_BYTES = 32 << 20
# A disk may tear what it writes, but not what lies in another page: a block never shares one with a block that was promised.
PAGE_BYTES = 4096
STEP_BYTES = 1 << 20
# A message that stays is durable in its own files after this time, as by a file system's own habit.
CHECKPOINT_SECONDS = 5.0
# The kernel takes 1024 pieces at a time.
MAX_PIECES = 1000

_MARK = re.compile(rb"u[0-9]+\0p[0-9]+ ([0-9]+)\0")


def marked(uid: int, pid: int, ident: int, envelope: bytes) -> bytes:
    """Return the bytes of todo/N for an envelope that begins with F."""
    return b"u%d\0p%d %d\0%b" % (uid, pid, ident, envelope)


def mark_of(todo: bytes) -> int | None:
    """Return the id that a todo file bears, None without one."""
    found = _MARK.match(todo)
    return None if found is None else int(found[1])


def record(letter: bytes, ident: int, number: int) -> bytes:
    """Return a record without bytes of files."""
    return RECORD.pack(letter, ident, number, 0, 0)


def block_sum(sequence: int, base: int, pieces: Sequence[bytes]) -> int:
    """Return the CRC-32 of a block."""
    crc = zlib.crc32(b"%d %d" % (sequence, base))
    for piece in pieces:
        crc = zlib.crc32(piece, crc)
    return crc


def aligned(size: int) -> int:
    """Return the bytes that a block of this size takes."""
    return -(-size // PAGE_BYTES) * PAGE_BYTES


class JournalError(Exception):
    """What was promised may not be on the disk."""


class Segment:
    """One file. `last` is the sequence of the last block in it."""

    def __init__(self, path: str) -> None:
        self.fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        self.size = 0
        self.last = 0

    def make_room(self, end: int) -> None:
        """Have the file reach up to `end`. Raises OSError: it is as it was then."""
        while self.size < end:
            try:
                pwrite_all(self.fd, bytes(STEP_BYTES), self.size)
            except OSError:
                os.ftruncate(self.fd, self.size)
                raise
            self.size += STEP_BYTES


def remove_segments(folder: str, last: Mapping[str, int]) -> None:
    """Remove the journal, given the last block of each segment. Raises OSError.

    The older one first: alone it would bring back what the newer one says has left.
    """
    for name in sorted(SEGMENTS, key=lambda name: last.get(name, 0)):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(f"{folder}/{name}")
        fsync_dir(folder)


class Journal:
    """The writing side, in the folder `path`."""

    def __init__(self, path: str) -> None:
        """Begin empty journal files; what former ones held must have been recovered. Raises OSError."""
        self._path = path
        # Of its own: a descriptor hears of each error of a checkpoint once.
        self._folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._segments = [Segment(f"{path}/{name}") for name in SEGMENTS]
        fsync_dir(path)
        self._active = self._segments[0]
        self._at = 0
        self._sequence = 0
        self._unsynced = False
        self._secret = int.from_bytes(os.urandom(8), "little")
        # Ids of former journals are in todo/ yet; a collision would need the same nanosecond.
        self._next_ident = int.from_bytes(os.urandom(6), "little") + 1
        self._base = self._written_base = self._written_ident = self._next_ident
        self.durable_base = 0
        """The base in the newest block that is durable: whoever reads the journal knows of it."""
        self._thread = ThreadPoolExecutor(1, "checkpoint")
        self._checkpoint: Future[None] | None = None
        self._bound = (self._base, 0)
        """What the running checkpoint makes unneeded: ids below, blocks up to."""
        self._safe_block = 0
        self._since = 0.0
        """When the first block was written that no checkpoint has begun to cover; 0 without one."""

    @staticmethod
    def is_possible() -> bool:
        """Say whether this system has what a checkpoint needs."""
        return have_syncfs()

    def next_ident(self) -> int:
        """Return the id of a new message."""
        self._next_ident += 1
        return self._next_ident - 1

    # Writing

    def write(self, pieces: list[bytes]) -> None:
        """Append a block of these records. Raises OSError: nothing was appended then. Raises JournalError."""
        self._look_at_checkpoint()
        length = sum(map(len, pieces))
        size = aligned(BLOCK.size + length)
        if self._at + size > max(SEGMENT_BYTES, size):
            self._switch()
        self._active.make_room(self._at + size)
        sequence = self._sequence + 1
        head = BLOCK.pack(MAGIC, self._secret, sequence, self._base, length, block_sum(sequence, self._base, pieces))
        try:
            self._put([head, *pieces, bytes(size - BLOCK.size - length)], size)
        except OSError as error:  # there was room; and a part of a block may be a whole one for a reader
            raise JournalError(f"{self._path}: unable to write the journal: {error}") from error
        self._sequence = self._active.last = sequence
        self._written_ident = self._next_ident
        self._at += size
        self._unsynced, self._written_base = True, self._base
        if pieces and not self._since:
            self._since = monotonic()

    def _put(self, pieces: list[bytes], size: int) -> None:
        fd, at = self._active.fd, self._at
        written = os.pwritev(fd, pieces, at) if len(pieces) <= MAX_PIECES else 0
        if written < size:
            pwrite_all(fd, b"".join(pieces)[written:], at + written)

    def sync(self) -> None:
        """Make every block durable. Raises JournalError."""
        if not self._unsynced:
            return
        try:
            os.fdatasync(self._active.fd)
            os.fstat(self._active.fd)  # is the file system alive? (store/durable.py)
        except OSError as error:
            raise JournalError(f"{self._path}: unable to sync the journal: {error}") from error
        self._unsynced, self.durable_base = False, self._written_base

    def _switch(self) -> None:
        """Go on in the other segment, which nobody may need any more."""
        self.sync()
        full = self._active
        if self._other.last > self._safe_block:
            self._wait()
        if self._other.last > self._safe_block:
            self._begin_checkpoint()
            self._wait()
        if self._active is full:
            self._turn_over()

    # Checkpoints

    def wait_seconds(self) -> float | None:
        """Return in how many seconds a checkpoint is due, None for none."""
        if not self._since or self._checkpoint is not None:
            return None
        return max(0.0, self._since + CHECKPOINT_SECONDS - monotonic())

    def rest(self) -> None:
        """Begin a checkpoint if one is due. Everything that was written has been carried out. Raises JournalError."""
        self._look_at_checkpoint()
        if self._checkpoint is None and self._since and self._is_due():
            self._begin_checkpoint()
        if self._written_base < self._base:
            self._tell_base()

    def _tell_base(self) -> None:
        """No block came after a checkpoint, and perhaps none will for days: what is durable in its own files must not be looked for then."""
        with contextlib.suppress(OSError):  # then with the next block
            self.write([])
            self.sync()

    def _is_due(self) -> bool:
        return self._other.last > self._safe_block or monotonic() >= self._since + CHECKPOINT_SECONDS

    def _begin_checkpoint(self) -> None:
        # Ids that were given since the last block are of messages that are being written now.
        self._bound = self._written_ident, self._sequence
        self._since = 0.0
        self._checkpoint = self._thread.submit(syncfs, self._folder)

    def _look_at_checkpoint(self) -> None:
        if self._checkpoint is not None and self._checkpoint.done():
            self._wait()

    def _wait(self) -> None:
        """Take the result of the running checkpoint. Raises JournalError."""
        if self._checkpoint is None:
            return
        checkpoint, self._checkpoint = self._checkpoint, None
        try:
            checkpoint.result()
        except OSError as error:
            raise JournalError(f"{self._path}: unable to sync the queue: {error}") from error
        self._base, self._safe_block = self._bound
        if self._sequence == self._safe_block:
            self._turn_over()

    def _turn_over(self) -> None:
        """Go on at the beginning of the other segment: what lies there is older than what is here, and nobody needs it any more."""
        self._active, self._at, self._unsynced = self._other, 0, False

    @property
    def _other(self) -> Segment:
        return self._segments[self._active is self._segments[0]]

    def close(self) -> None:
        """Make everything durable in the queue's own files, and leave no journal behind. Raises JournalError: it stays then."""
        self._wait()
        self._begin_checkpoint()
        self._wait()
        self._thread.shutdown()
        remove_segments(
            self._path, {name: segment.last for name, segment in zip(SEGMENTS, self._segments, strict=True)}
        )
        for segment in self._segments:
            os.close(segment.fd)
        os.close(self._folder)
