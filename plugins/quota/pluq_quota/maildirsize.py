"""The Maildir++ quota of one Maildir: how much there may be, how much there is.

    maildirsize:  10000000S,1000C      the limits: S bytes (so is a number with any other letter), C messages
                        1200  4        what there is: lines of bytes and messages, added up; a delivery appends one
                        -300 -1        a deletion

A file that is empty, or whose first line is, limits nothing and is left alone.

Everybody who adds or removes messages appends a line; nobody locks. Sums drift, and the file grows. So the messages are counted again, and the file written
anew, when it has 5120 bytes, or when the sum says that there is no room; not if it has been counted within the last 15 minutes, which a
file with one line of sums shows. Messages in .Trash, and those marked T, do not count. A folder, which has a file maildirfolder,
belongs to the Maildir above it.

Source: https://www.courier-mta.org/imap/README.maildirquota.html.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from pluq.store.durable import write_all
from pluq.store.maildir import unique_name

FILE = b"maildirsize"
FOLDER_MARK = b"maildirfolder"
READ_BYTES = 5120
FRESH_SECONDS = 900
TRASH = b".Trash"
OPEN_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
# What is a FIFO must not hold the delivery.
OPEN_FILE = os.O_NONBLOCK | os.O_CLOEXEC
OPEN_PATH = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
# A number that no limit or size reaches; more digits mean the same.
HUGE = 1 << 63
MOST_DIGITS = 19

_LIMIT = re.compile(rb"([0-9]+)(C?)")
_NUMBERS = re.compile(rb"[ \t]*([+-]?[0-9]{1,18})(?:[ \t]+([+-]?[0-9]{1,18}))?")
_SIZE = re.compile(rb"[^:]*,S=([0-9]+)")
_DELETED = re.compile(rb"[A-SU-Z]*T")


@dataclass(frozen=True)
class Usage:
    """Bytes and messages."""

    size: int = 0
    count: int = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(self.size + other.size, self.count + other.count)


@dataclass(frozen=True)
class Sizes:
    """A maildirsize file: its first line, the sum of the others and how many there are, and whether it is too long to be added up."""

    limits: bytes
    usage: Usage
    lines: int
    is_long: bool


def parse(data: bytes) -> Sizes:
    """Return what the beginning of a file says, READ_BYTES of it at most."""
    first, _, rest = data.partition(b"\n")
    lines = rest.removesuffix(b"\n").split(b"\n") if rest else []
    usage = Usage()
    for line in lines:
        if found := _NUMBERS.match(line):
            usage += Usage(int(found[1]), int(found[2] or 0))
    return Sizes(first, usage, len(lines), len(data) >= READ_BYTES)


def fits(limits: bytes, usage: Usage) -> bool:
    """Say whether so much is within the limits."""
    for number, letter in _LIMIT.findall(limits):
        limit = int(number) if len(number) < MOST_DIGITS else HUGE
        if limit < (usage.count if letter else usage.size):
            return False
    return True


def size_in_name(name: bytes) -> int | None:
    """Return the size that the name of a message tells, the last one where there are several."""
    found = _SIZE.match(name)
    return int(found[1][:MOST_DIGITS]) if found else None


def is_deleted(name: bytes) -> bool:
    """Say whether a message is marked as deleted."""
    return _DELETED.match(name.partition(b":2,")[2]) is not None


# -- the Maildir


@contextmanager
def quota_folder(folder: int) -> Iterator[int]:
    """Give the open Maildir that has the quota of the open Maildir `folder`: itself, or the one above. Raises OSError."""
    try:
        os.stat(FOLDER_MARK, dir_fd=folder)
        above = b".."
    except FileNotFoundError:
        above = b"."
    owner = os.open(above, OPEN_PATH, dir_fd=folder)
    try:
        yield owner
    finally:
        os.close(owner)


def has_room(owner: int, more: Usage, now: float) -> bool:
    """Say whether the Maildir `owner` takes so much more; counts again where that is due. Raises OSError."""
    try:
        file = os.open(FILE, os.O_RDONLY | OPEN_FILE, dir_fd=owner)
    except FileNotFoundError:
        return True
    with open(file, "rb") as reader:
        sizes = parse(reader.read(READ_BYTES))
        age = now - os.fstat(file).st_mtime
    if not sizes.is_long:
        if fits(sizes.limits, sizes.usage + more):
            return True
        if sizes.lines == 1 and age < FRESH_SECONDS:
            return False
    usage = count(owner)
    write(owner, sizes.limits, usage)
    return fits(sizes.limits, usage + more)


def note(owner: int, more: Usage) -> None:
    """Append what a delivery added, where there is a file that limits something. Raises OSError."""
    try:
        file = os.open(FILE, os.O_RDWR | os.O_APPEND | OPEN_FILE, dir_fd=owner)
    except FileNotFoundError:
        return
    with open(file, "r+b", 0) as sizes:
        first = sizes.read(1)
        if first and first != b"\n":  # below an empty line the sum would be read as a limit
            sizes.write(b"%d %d\n" % (more.size, more.count))


def write(owner: int, limits: bytes, usage: Usage) -> None:
    """Put a new file in the place of the old one. Raises OSError."""
    name = b"tmp/" + unique_name(time.time()) + b"." + FILE
    file = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=owner)
    try:
        write_all(file, b"%b\n%d %d\n" % (limits, usage.size, usage.count))
    finally:
        os.close(file)
    os.rename(name, FILE, src_dir_fd=owner, dst_dir_fd=owner)


def count(owner: int) -> Usage:
    """Return what is in a Maildir and its folders. Raises OSError."""
    usage = _count_messages(owner, b".")
    for folder in _names(owner, b"."):
        if folder.startswith(b".") and folder != TRASH:
            usage += _count_messages(owner, folder)
    return usage


def _names(folder: int, path: bytes) -> list[bytes]:
    fd = os.open(path, OPEN_FOLDER, dir_fd=folder)
    try:
        return [os.fsencode(name) for name in os.listdir(fd)]
    finally:
        os.close(fd)


def _count_messages(owner: int, folder: bytes) -> Usage:
    usage = Usage()
    for part in (b"/new", b"/cur"):
        try:
            names = _names(owner, folder + part)
        except (FileNotFoundError, NotADirectoryError):
            continue
        for name in names:
            usage += _count_one(owner, folder + part, name)
    return usage


def _count_one(owner: int, folder: bytes, name: bytes) -> Usage:
    if name.startswith(b".") or is_deleted(name):
        return Usage()
    size = size_in_name(name)
    if size is None:
        try:
            size = os.stat(folder + b"/" + name, dir_fd=owner).st_size
        except FileNotFoundError:  # somebody reads mail meanwhile
            return Usage()
    return Usage(size, 1)
