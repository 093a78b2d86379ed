"""What a queue daemon that was killed, or whose machine lost its power, had promised: from the journal back into the queue.

For each message number the last record in the journal counts:

    m, id below the base   its files are durable: nothing to do
    m                      todo/N and mess/N are as the journal has them, and now synced; or else they are written once more,
                           under another number where there is no todo/N
    d                      todo/N goes if it came back
    s                      the same, but mess/N belongs to a preprocessed message

A todo file without an id is not in the journal (qmail-queue wrote it, or it is of a large message; durable at once), one with
a greater id than the record's is younger: both stay. What the journal does not mention stays as well: nothing is ever removed without a record that says so.

A crash during all this is no harm: it is done again, and finds the messages that were written anew by their ids.

Source: INTERNALS section 3 for the order of writing and removing.
"""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import os
from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass, field

from pluq import log
from pluq.errors import ProtocolError
from pluq.queue.journal import BLOCK, MAGIC, RECORD, SEGMENTS, aligned, block_sum, mark_of, remove_segments
from pluq.queue.layout import QueueLayout
from pluq.queue.records import parse_todo
from pluq.store.durable import fsync, fsync_dir, write_all
from pluq.store.syncfs import have_syncfs, syncfs

__all__ = ["Contents", "is_needed", "recover", "recover_unserved"]

FILE_MODE = 0o644
# So many messages are synced at once.
MANY = 100


@dataclass(frozen=True)
class Entry:
    """The last record of a number; the bytes of both files where it is a new message."""

    letter: bytes
    ident: int
    todo: bytes = b""
    message: bytes = b""


@dataclass
class Contents:
    """What the segments say together: the last record of each number, and the base."""

    base: int = 0
    entries: dict[int, Entry] = field(default_factory=dict)
    last: dict[str, int] = field(default_factory=dict)
    """The sequence of the last block in each segment."""

    @classmethod
    def read(cls, folder: str) -> Contents:
        """Read the journal in a folder. Raises OSError."""
        contents = cls()
        blocks: list[tuple[int, int, bytes]] = []
        for name in SEGMENTS:
            try:
                with open(f"{folder}/{name}", "rb") as file:
                    found = list(read_blocks(file.read()))
            except FileNotFoundError:
                continue
            contents.last[name] = max((sequence for sequence, _base, _records in found), default=0)
            blocks += found
        blocks.sort(key=lambda block: block[0])
        for _sequence, base, records in blocks:
            contents.base = max(contents.base, base)
            for number, entry in read_records(records):
                contents.entries[number] = entry
        return contents

    def awaits(self, entry: Entry) -> bool:
        """Say whether a message must be in the queue, and the journal alone vouches for it."""
        return entry.letter == b"m" and entry.ident >= self.base


def read_blocks(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Yield sequence, base and records of each block of a segment, up to where it was written last."""
    at, expected, first_secret = 0, 0, None
    while at + BLOCK.size <= len(data):
        magic, secret, sequence, base, length, crc = BLOCK.unpack_from(data, at)
        records = data[at + BLOCK.size : at + BLOCK.size + length]
        if magic != MAGIC or expected not in (0, sequence) or len(records) != length:
            return
        if block_sum(sequence, base, [records]) != crc or first_secret not in (None, secret):
            return
        first_secret = secret
        yield sequence, base, records
        expected = sequence + 1
        at += aligned(BLOCK.size + length)


def read_records(data: bytes) -> Iterator[tuple[int, Entry]]:
    """Yield number and entry of each record of a block."""
    at = 0
    while at + RECORD.size <= len(data):
        letter, ident, number, envelope, message = RECORD.unpack_from(data, at)
        at += RECORD.size
        todo = data[at : at + envelope]
        at += envelope
        yield number, Entry(letter, ident, todo, data[at : at + message])
        at += message


def is_needed(layout: QueueLayout) -> bool:
    """Say whether a queue daemon left its journal behind."""
    return any(os.path.lexists(f"{layout.pool}/{name}") for name in SEGMENTS)


def recover_unserved(layout: QueueLayout) -> None:
    """Recover a queue that has no daemon now, and tell what was done: before anybody looks at it. Raises OSError."""
    with contextlib.suppress(BlockingIOError), held(layout.pool):  # a daemon that is there has done it
        report(recover(layout))


@contextlib.contextmanager
def held(folder: str) -> Iterator[None]:
    """Keep daemons out. Raises BlockingIOError if there is one."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(fd)


def report(counts: tuple[int, int]) -> None:
    """Tell the administrator what `recover` did."""
    restored, removed = counts
    if restored or removed:
        log.say("queue", f"recovered from the journal: {restored} messages written once more, {removed} removed")


def recover(layout: QueueLayout) -> tuple[int, int]:
    """Bring the queue to what was promised and remove the journal; return how many messages were written, and removed.

    Nobody but qmail-queue may use the queue meanwhile. Raises OSError: then the journal is still there.
    """
    if not is_needed(layout):
        return 0, 0
    contents = Contents.read(layout.pool)
    found = dict(todo_files(layout)) if contents.entries else {}
    by_ident = {mark: number for number, todo in found.items() if (mark := mark_of(todo)) is not None}
    restored = removed = 0
    whole = {}
    for number, entry in contents.entries.items():
        todo = found.get(number)
        if todo is not None and is_of_others(todo, entry, contents.base):
            todo = None
        if contents.awaits(entry) and todo is not None and is_whole(layout, number, entry):
            whole[number] = entry
        elif contents.awaits(entry):
            restored += restore(layout, number, todo, entry, by_ident.get(entry.ident, number), contents.entries)
        elif todo is not None and entry.letter == b"s":
            os.unlink(layout.todo(number))
        elif todo is not None and entry.letter == b"d":
            remove(layout, number)
            removed += 1
    sync_all(layout, whole)
    for folder in layout.todo_dirs():
        fsync_dir(folder)
    remove_segments(layout.pool, contents.last)
    return restored, removed


def todo_files(layout: QueueLayout) -> Iterator[tuple[int, bytes]]:
    """Yield number and bytes of each file in todo/. Raises OSError."""
    for folder in layout.todo_dirs():
        for name in os.listdir(folder):
            if name.isascii() and name.isdigit():
                yield int(name), read_file(f"{folder}/{name}")


def is_of_others(todo: bytes, entry: Entry, base: int) -> bool:
    """Say whether a todo file under a number of the journal is another message: one without an id, or a younger one.

    A younger id that the base does not cover would be in the journal if its message had been promised. It is not: the name is that of the
    former message, and shows what was being written into the file next.
    """
    mark = mark_of(todo)
    if mark is not None:
        return entry.ident < mark < base
    try:
        parse_todo(todo)
    except ProtocolError:
        return False  # torn
    return True


def restore(
    layout: QueueLayout, number: int, todo: bytes | None, entry: Entry, elsewhere: int, taken: Container[int]
) -> bool:
    """Put a promised message into the queue that is not there as it should be; return whether it had to be written.

    `todo` is what is in todo/N, `elsewhere` the number under which a recovery that was interrupted may have written it. `taken` are the
    numbers that the journal speaks of.
    """
    if todo is not None and has_own_inode(layout, number):
        # Under its number, for qmail-send may have begun to preprocess it.
        overwrite(layout.mess(number), entry.message)
        overwrite(layout.todo(number), entry.todo)
        fsync_dir(layout.mess_dir(number))
        return True
    is_new = elsewhere == number or not is_whole(layout, elsewhere, entry)
    if is_new:
        write_anew(layout, entry, taken)
    if todo is not None:
        remove(layout, number)
    # A mess/N alone stays: it is in S2, for the cleaner, or a qmail-queue that has the inode now is about to make it a message.
    return is_new


def has_own_inode(layout: QueueLayout, number: int) -> bool:
    """Say whether there is a message file, and it is the one that the number is of."""
    try:
        return os.stat(layout.mess(number)).st_ino == number
    except FileNotFoundError:
        return False


def overwrite(path: str, data: bytes, is_synced: bool = True) -> None:
    """Have a file hold this, durably if so wanted. Raises OSError."""
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        write_all(fd, data)
        os.ftruncate(fd, len(data))
        if is_synced:
            fsync(fd)
    finally:
        os.close(fd)


def is_whole(layout: QueueLayout, number: int, entry: Entry) -> bool:
    """Say whether both files are as they should be. Raises OSError."""
    try:
        return read_file(layout.todo(number)) == entry.todo and read_file(layout.mess(number)) == entry.message
    except FileNotFoundError:
        return False


def sync_all(layout: QueueLayout, whole: Mapping[int, Entry]) -> None:
    """Make messages durable that are whole. Raises OSError.

    Their bytes are written once more: a daemon may have died because they could not be, and then the kernel shows them as if they had been.
    """
    by_syncfs = len(whole) > MANY and have_syncfs()
    fd = os.open(layout.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for number, entry in whole.items():
            overwrite(layout.mess(number), entry.message, not by_syncfs)
            overwrite(layout.todo(number), entry.todo, not by_syncfs)
        if by_syncfs:
            syncfs(fd)
            return
    finally:
        os.close(fd)
    for folder in {layout.mess_dir(number) for number in whole}:
        fsync_dir(folder)


def write_anew(layout: QueueLayout, entry: Entry, taken: Container[int]) -> None:
    """Put a message into the queue under a number that is not taken, in qmail-queue's order. Raises OSError."""
    message = new_message(layout, entry.message, taken)
    number = os.stat(message).st_ino
    os.link(message, layout.mess(number))
    unlink(message)  # or the next one would look through all these names
    fsync_dir(layout.mess_dir(number))
    envelope = f"{layout.pool}/envelope"
    unlink(envelope)
    write_synced(envelope, entry.todo)
    os.link(envelope, layout.todo(number))


def new_message(layout: QueueLayout, data: bytes, taken: Container[int]) -> str:
    """Return the path of a new message file in pool/, which the next daemon empties.

    A recovery that is repeated would take a message under a number of the journal for what that says of the number.
    """
    for attempt in itertools.count():
        path = f"{layout.pool}/restored.{attempt}"
        if os.path.lexists(path):
            continue
        number = write_synced(path, data)
        if number not in taken and not os.path.lexists(layout.mess(number)):
            break
    return path


def write_synced(path: str, data: bytes) -> int:
    """Write a new file; return its inode number. Raises OSError."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, FILE_MODE)
    try:
        write_all(fd, data)
        fsync(fd)
        return os.fstat(fd).st_ino
    finally:
        os.close(fd)


def remove(layout: QueueLayout, number: int) -> None:
    """Remove a message that is in todo/ from the queue. Raises OSError."""
    for path in (layout.todo, layout.mess):
        unlink(path(number))


def read_file(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def unlink(path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
