"""Adding a message to a Maildir.

    1. create tmp/NAME and write it          a crash leaves a file in tmp/, which readers remove after 36 hours
    2. sync the file                         its bytes are safe; nobody sees it yet
    3. link it to new/NAME, unlink tmp/NAME  readers see it; a power cut may still undo the name
    4. sync new/                             only now it is delivered

`deliver` takes the steps for one message. `stage`, `publish` and `sync_new` are the same for callers with many: they stage and sync
all files first, publish all, and sync each new/ once.

NAME is time.pid.host, and for further messages of this process time.pidNNNNNN.host with a counter; behind it `,S=SIZE` where names tell
the size of their message, in bytes, as Maildir++ has them: who adds sizes up need not look at the files. tmp/NAME is created exclusively
and the link to new/ never replaces a file, so that even a name used twice loses nothing. qmail's 24-hour timer is left to whoever
runs this process: a system call on a dead file server cannot be interrupted anyway.

Source: maildir(5), https://cr.yp.to/proto/maildir.html; maildir_child in qmail-local.c; docs/internals.md, "Local delivery".
"""

from __future__ import annotations

import os
import time
from functools import lru_cache
from itertools import count
from typing import NamedTuple

from pluq.errors import TemporaryFailure
from pluq.store.durable import fsync, write_all
from pluq.store.oserror import is_temporary

READ_BYTES = 1 << 16
"""A message up to this size is read and written in one piece; a longer one is copied inside the kernel."""
SEND_BYTES = 1 << 24
CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
FOLDER = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
COUNTER_LIMIT = 1_000_000
TRIES = 3
HOST_BYTES = 64

_counter = count()


class Staged(NamedTuple):
    """A message that lies complete in tmp/, its file still open."""

    folder: int
    name: bytes
    file: int
    suffix: bytes = b""


def trouble(text: str = "Temporary error on maildir delivery. (#4.3.0)", enhanced: str = "4.3.0") -> TemporaryFailure:
    return TemporaryFailure(text, enhanced)


def unique_name(now: float) -> bytes:
    """Return a name that no other delivery uses. The host's name is written so that it cannot leave the folder."""
    number = next(_counter) % COUNTER_LIMIT
    suffix = b"%06d" % number if number else b""
    return b"%d.%d%b.%b" % (now, os.getpid(), suffix, host_in_names(os.uname().nodename))


@lru_cache(maxsize=2)
def host_in_names(host: str) -> bytes:
    return os.fsencode(host)[:HOST_BYTES].replace(b"/", rb"\057").replace(b":", rb"\072")


def open_maildir(path: bytes, home: int) -> int:
    """Return a descriptor of the Maildir `path`, relative to the folder `home`. Raises TemporaryFailure."""
    try:
        # The dot makes the kernel check that the folder may be entered, as chdir would.
        return os.open(path + b"/.", FOLDER, dir_fd=home)
    except OSError as error:
        if is_temporary(error.errno):
            raise trouble() from error
        raise trouble("Unable to chdir to maildir. (#4.2.1)", "4.2.1") from error


def stage(folder: int, head: bytes, message: int, sized: bool = False, start: bytes | None = None) -> Staged:
    """Write `head` and the message (an open file, from its start) to tmp/; not synced yet. Raises TemporaryFailure.

    `sized`: its name tells its size. `start`: what was read of it already, all of it or READ_BYTES.
    """
    staged = _create(folder, b",S=%d" % (len(head) + os.fstat(message).st_size) if sized else b"")
    try:
        copy_message(staged.file, head, message, start)
    except (OSError, TemporaryFailure) as error:
        discard(staged)
        raise error if isinstance(error, TemporaryFailure) else trouble() from error
    return staged


def _create(folder: int, suffix: bytes) -> Staged:
    for _ in range(TRIES):
        name = unique_name(time.time()) + suffix
        try:
            return Staged(folder, name, os.open(b"tmp/" + name, CREATE, 0o600, dir_fd=folder), suffix)
        except FileExistsError:
            continue
        except OSError as error:
            raise trouble() from error
    raise trouble()


def copy_message(file: int, head: bytes, message: int, start: bytes | None = None) -> None:
    """Write `head` and the whole message to an open file, with bounded memory. `start`: see `stage`."""
    try:
        data = os.pread(message, READ_BYTES, 0) if start is None else start
    except OSError as error:
        raise trouble("Unable to read message. (#4.3.0)") from error
    write_all(file, head + data)
    position = len(data)
    while position >= READ_BYTES and (sent := os.sendfile(file, message, position, SEND_BYTES)):
        position += sent


def sync_file(staged: Staged) -> None:
    """Make the bytes of a staged message safe. Raises TemporaryFailure; the message is gone then."""
    try:
        fsync(staged.file)
    except OSError as error:
        discard(staged)
        raise trouble() from error


def publish(staged: Staged) -> None:
    """Let readers see a staged and synced message. Raises TemporaryFailure; the message is gone then."""
    folder, name, file, suffix = staged
    for _ in range(TRIES):
        try:
            os.link(b"tmp/" + staged.name, b"new/" + name, src_dir_fd=folder, dst_dir_fd=folder, follow_symlinks=False)
        except FileExistsError:
            name = unique_name(time.time()) + suffix
            continue
        except OSError as error:
            discard(staged)
            raise trouble() from error
        os.close(file)
        _unlink(staged)
        return
    discard(staged)
    raise trouble()


def discard(staged: Staged) -> None:
    """Give a staged message up."""
    os.close(staged.file)
    _unlink(staged)


def _unlink(staged: Staged) -> None:
    try:
        os.unlink(b"tmp/" + staged.name, dir_fd=staged.folder)
    except OSError:
        return  # a reader may have cleaned up; what stays is cleaned up later


def sync_new(folder: int) -> None:
    """Make the names in new/ safe. Raises TemporaryFailure: what was published may or may not stay."""
    try:
        try:
            new = os.open(b"new", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=folder)
        except PermissionError:  # a drop box, not readable by its owner: only the whole filesystem can be synced
            _sync_filesystem(folder)
            return
        try:
            fsync(new)
        finally:
            os.close(new)
    except OSError as error:
        raise trouble() from error


def _sync_filesystem(folder: int) -> None:
    from pluq.store.syncfs import syncfs

    name = b"tmp/" + unique_name(time.time())
    file = os.open(name, CREATE, 0o600, dir_fd=folder)
    try:
        os.unlink(name, dir_fd=folder)
        syncfs(file)
    finally:
        os.close(file)


def deliver(path: bytes, home: int, head: bytes, message: int, sized: bool = False) -> None:
    """Add one message to the Maildir `path`, durably. Raises TemporaryFailure."""
    folder = open_maildir(path, home)
    try:
        add(folder, head, message, sized)
    finally:
        os.close(folder)


def add(folder: int, head: bytes, message: int, sized: bool = False) -> None:
    """Add one message to an open Maildir, durably. Raises TemporaryFailure."""
    staged = stage(folder, head, message, sized)
    sync_file(staged)
    publish(staged)
    sync_new(folder)
