"""Reading the queue: which messages there are, and what their files say.

Anything may disappear between two looks; a name that is no number is a stranger's file and left alone.

Source: readsubdir.c, getinfo in qmail-send.c, qmail-qread.c.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import NamedTuple

from pluq.queue.layout import OSSIFIED, RECYCLE_BYTES, QueueLayout
from pluq.queue.records import Recipient, Todo, parse_info, parse_recipients, parse_todo
from pluq.store.durable import write_all

__all__ = [
    "HELD_TIME",
    "Info",
    "identity",
    "numbers",
    "read_channel",
    "read_info",
    "read_todo",
    "split_numbers",
    "stale_messages",
    "todo_numbers",
]


HELD_TIME = 2**31 - 1
"""The time of local/N and remote/N of a message that is on hold: no try before 2038, and the last time that every file system can hold."""


class Info(NamedTuple):
    """Sender and time of arrival (seconds since the epoch) of a preprocessed message."""

    sender: bytes
    birth: int


def numbers(folder: str) -> list[int]:
    """Return the message numbers in one folder, in the folder's order. Raises OSError."""
    return [int(name) for name in os.listdir(folder) if name.isascii() and name.isdigit()]


def split_numbers(layout: QueueLayout, kind: str) -> Iterator[int]:
    """Give the message numbers of a split directory (mess, info, local, remote). Raises OSError."""
    for part in range(layout.split):
        yield from numbers(f"{layout.path}/{kind}/{part}")


def todo_numbers(layout: QueueLayout) -> Iterator[int]:
    """Give the numbers of the messages that are not preprocessed yet. Raises OSError."""
    for folder in layout.todo_dirs():
        yield from numbers(folder)


def never_waiting(path: str, flags: int) -> int:
    """Open a file of the queue, for open(..., opener=never_waiting): a FIFO in its place must stop nobody. Raises OSError."""
    return os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC)


def _read(path: str) -> bytes:
    with open(path, "rb", opener=never_waiting) as file:
        return file.read() or b""


def read_todo(layout: QueueLayout, number: int) -> Todo:
    """Return the envelope of a message in todo/. Raises OSError, ProtocolError."""
    return parse_todo(_read(layout.todo(number)))


def read_info(layout: QueueLayout, number: int) -> Info:
    """Return sender and birth of a preprocessed message. Raises OSError, ProtocolError."""
    with open(layout.info(number), "rb", opener=never_waiting) as file:
        birth = int(os.fstat(file.fileno()).st_mtime)
        return Info(parse_info(file.read() or b""), birth)


def read_channel(path: str) -> list[Recipient]:
    """Return the recipients in a local or remote file; none where there is no file. Raises OSError."""
    try:
        return parse_recipients(_read(path))
    except FileNotFoundError:
        return []


def identity(layout: QueueLayout, number: int) -> int | None:
    """Return what tells a message from a later one with the same number; None where there is none. Raises OSError.

    It is the time at which its file was written, in nanoseconds: from then on the file is only read.
    """
    try:
        return os.stat(layout.mess(number)).st_mtime_ns
    except FileNotFoundError:
        return None


def stale_messages(layout: QueueLayout, now: float) -> Iterator[int | None]:
    """Give the numbers of message files that belong to no message: in S2 or S3 and not read for 36 hours.

    Between them comes None for each file that may stay, so that a caller can spread a long walk over its other work.
    info/ must be readable for the caller: whoever may not look there would take every message for stale.
    """
    for part in range(layout.split):
        for number in numbers(f"{layout.path}/mess/{part}"):
            yield number if _is_stale(layout, number, now) else None


def _is_stale(layout: QueueLayout, number: int, now: float) -> bool:
    try:
        if now <= os.stat(layout.mess(number)).st_atime + OSSIFIED:
            return False
    except OSError:
        return False  # its writer removed it
    return _is_missing(layout.info(number)) and _is_missing(layout.todo(number))


def _is_missing(path: str) -> bool:
    """Say whether there surely is no such file: any other trouble means that we do not know."""
    try:
        os.stat(path)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return False


def private_copy(message: int) -> int:
    """Return a new descriptor, at its beginning, by which a user's program may have the message in the open file `message`.

    The file itself may be used again for a stranger's message (pool.py); a program that kept a handle on it, or its pages in a pipe,
    would see that. So it gets the bytes in a file of its own, unless the message is too long for its file to be used again. Raises OSError.
    """
    if not hasattr(os, "memfd_create") or os.fstat(message).st_size > RECYCLE_BYTES:
        os.lseek(message, 0, os.SEEK_SET)
        return os.dup(message)
    copy = os.memfd_create("message", os.MFD_CLOEXEC)
    try:
        write_all(copy, os.pread(message, RECYCLE_BYTES, 0))
        os.lseek(copy, 0, os.SEEK_SET)
    except OSError:
        os.close(copy)
        raise
    return copy
