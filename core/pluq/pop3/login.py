"""Running a checkpassword program: name, secret and timestamp on descriptor 3, the client's connection on 0 and 1.

The program exits 0 only after the mailbox program that it became has ended; any other exit says that the login was refused.

Source: http://cr.yp.to/checkpwd/interface.html, qmail-popup(8).
"""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Mapping
from typing import Any

from pluq.execvp import spawnvp

PASSWORD_FD = 3
CRASHED = b"aack, child crashed"
REFUSED = b"authorization failed"
UNWRITABLE = b"unable to write pipe"
NO_PIPE = b"unable to open pipe"
NO_FORK = b"unable to fork"


def check_password(argv: list[str], data: bytes) -> bytes | None:
    """Run `argv` with `data` on descriptor 3, and wait. Return None if it exits 0, else the text of the refusal.

    Descriptors 0, 1 and 2 are this process's own.
    """
    try:
        password = written_pipe(data)
    except BlockingIOError:
        return UNWRITABLE
    except OSError:
        return NO_PIPE
    try:
        child = spawn(argv, password)
    except OSError as error:
        return not_started(error)
    finally:
        os.close(password)
    return verdict(os.waitpid(child, 0)[1])


def written_pipe(data: bytes) -> int:
    """Return the reading end of a pipe that holds `data`. Raises OSError; BlockingIOError if it is more than a pipe holds.

    All of it is there before the program starts: a program that does not read cannot hold us up.
    """
    reads, writes = os.pipe()
    try:
        os.set_blocking(writes, False)
        if os.write(writes, data) < len(data):
            raise BlockingIOError
    except OSError:
        os.close(reads)
        raise
    finally:
        os.close(writes)
    return reads


def not_started(error: OSError) -> bytes:
    """Return what a client hears when the program could not be started."""
    return NO_FORK if error.errno in (errno.EAGAIN, errno.ENOMEM) else REFUSED


def spawn(
    argv: list[str],
    password: int,
    environment: Mapping[str, str] | None = None,
    *,
    stream: int | None = None,
) -> int:
    """Start the program with `password` as its descriptor 3; return its process id. Raises OSError.

    `environment` takes the place of ours, `stream` that of descriptors 0 and 1.
    """
    actions: list[Any] = [(os.POSIX_SPAWN_DUP2, password, PASSWORD_FD)]
    options: dict[str, Any] = {"setsigdef": [signal.SIGPIPE, signal.SIGXFSZ]}
    if stream is not None:
        # First: it could be descriptor 3 itself.
        actions[:0] = [(os.POSIX_SPAWN_DUP2, stream, fd) for fd in (0, 1)]
    variables = os.environ if environment is None else environment
    return spawnvp(argv, variables, file_actions=actions, **options)


def verdict(status: int) -> bytes | None:
    """Return what a wait status means to the client; None for exit 0."""
    if os.WIFSIGNALED(status):
        return CRASHED
    return REFUSED if os.waitstatus_to_exitcode(status) else None
