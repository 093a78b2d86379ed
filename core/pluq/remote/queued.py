"""The message that a command names, opened as a spawner has to: only a regular file of the queue's owner is a message.

Source: docmd in spawn.c of qmail.
"""

from __future__ import annotations

import os
import stat

CANNOT_OPEN = b"Zqmail-spawn unable to open message. (#4.3.0)\n"
WRONG_TYPE = b"ZSorry, message has wrong type. (#4.3.5)\n"
WRONG_OWNER = b"ZSorry, message has wrong owner. (#4.3.5)\n"


def open_queued(path: bytes, owner: int) -> tuple[int, int] | bytes:
    """Return (descriptor, size) of a message file, or the report that says why not.

    O_NONBLOCK: whatever has got into the queue, opening it must not wait.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return CANNOT_OPEN
    status = os.fstat(descriptor)
    if stat.S_ISREG(status.st_mode) and status.st_uid == owner:
        return descriptor, status.st_size
    os.close(descriptor)
    return WRONG_OWNER if stat.S_ISREG(status.st_mode) else WRONG_TYPE
