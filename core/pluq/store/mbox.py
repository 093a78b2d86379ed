"""Appending a message to an mbox file.

    From sender Fri Nov 20 17:20:17 2026
    Return-Path: ...
    (the message; > is put before each line that begins with From or >From or >>From ...)
    (an empty line)

The file is locked with flock for the whole time. When the lock stays with somebody else for 30 seconds, the delivery is put off; when
something cannot be written (the disk is full), the file is cut back to what it was. A system crash in the middle can leave part of a
message: mbox has no cure for that. The file may be a link to the real one, as people have it; it is opened as the user, once, and
never looked at by name before.

Source: mbox(5); mailfile in qmail-local.c, gfrom.c.
"""

from __future__ import annotations

import fcntl
import os
import re
import time
from collections.abc import Callable, Iterator

from pluq.errors import TemporaryFailure
from pluq.store.durable import fsync, fsync_dir, write_all
from pluq.store.oserror import error_text

CHUNK_BYTES = 1 << 17
LOCK_SECONDS = 30.0
RETRY_SECONDS = 0.05
APPEND = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK | os.O_CLOEXEC

FROM = b"From "
_FROM_LINE = re.compile(rb"\n(>*From )")


def append(path: bytes, home: int, head: bytes, message: int, patience: float = LOCK_SECONDS) -> None:
    """Append `head` and the message (an open file, from its start) to the mbox `path`, relative to the folder `home`.

    `patience` is how many seconds to wait for the lock. Raises TemporaryFailure; the file is as it was then.
    """
    name = path.decode("utf-8", "surrogateescape")
    try:
        file = os.open(path, APPEND, 0o600, dir_fd=home)
    except OSError as error:
        raise TemporaryFailure(f"Unable to open {name}: {error_text(error.errno)}. (#4.2.1)", "4.2.1") from error
    try:
        locked = lock(file, patience)
        try:
            start = os.lseek(file, 0, os.SEEK_END)
        except OSError:  # a device
            start = 0
        try:
            _write(file, name, head, message)
        except TemporaryFailure:
            if locked:
                _cut_back(file, start)
            raise
        if start == 0:
            _sync_name(file)
    finally:
        os.close(file)


def lock(file: int, patience: float, clock: Callable[[], float] = time.monotonic) -> bool:
    """Lock the file; False where the filesystem has no locks. Raises TemporaryFailure when others hold it too long."""
    deadline = clock() + patience
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if clock() >= deadline:
                raise TemporaryFailure("File has been locked for 30 seconds straight. (#4.3.0)") from None
        except OSError:
            return False
        time.sleep(RETRY_SECONDS)


def _write(file: int, name: str, head: bytes, message: int) -> None:
    try:
        write_all(file, head)
        for piece in quoted(message):
            write_all(file, piece)
        fsync(file)
    except OSError as error:
        raise TemporaryFailure(f"Unable to write {name}: {error_text(error.errno)}. (#4.3.0)") from error


def _cut_back(file: int, size: int) -> None:
    try:
        os.ftruncate(file, size)
    except OSError:
        return  # a device; or nothing more can be done


def _sync_name(file: int) -> None:
    """Make the name of a file safe that was perhaps just made."""
    try:
        fsync_dir(os.path.dirname(os.readlink(f"/proc/self/fd/{file}")))
    except OSError:
        return  # not to be read by its owner, or no proc: fsync of the file has done it on the filesystems in use


def quoted(message: int) -> Iterator[bytes]:
    """Yield the message as it stands in an mbox, in pieces of bounded size, with the empty line at its end."""
    position = 0
    last = b"\n"
    while piece := _read(message, position):
        cut = piece.rfind(b"\n") + 1
        # Pieces end with a line where they can, so that the next one begins with a line.
        piece = piece[:cut] if cut else piece
        if last == b"\n" and _is_from(piece, message, position):
            yield b">"
        position += len(piece)
        last = piece[-1:]
        yield _FROM_LINE.sub(rb"\n>\1", piece) if FROM in piece else piece
    yield b"\n" if last == b"\n" else b"\n\n"


def _is_from(piece: bytes, message: int, position: int) -> bool:
    """Say whether the line that begins `piece` is to be quoted. A run of > may be longer than memory should be."""
    while piece:
        rest = piece.lstrip(b">")
        if len(rest) >= len(FROM):
            return rest.startswith(FROM)
        if rest:
            return _read(message, position + len(piece) - len(rest), len(FROM)) == FROM
        position += len(piece)
        piece = _read(message, position)
    return False


def _read(message: int, position: int, size: int = CHUNK_BYTES) -> bytes:
    try:
        return os.pread(message, size, position)
    except OSError as error:
        raise TemporaryFailure(f"Unable to read message: {error_text(error.errno)}. (#4.3.0)") from error
