"""What lies in a Maildir: the messages of new/ and cur/, oldest first.

Messages of the present second are left for the next time, so that the order never changes: what arrives later is later in
every list. Messages of one second stand in the order of their names. A file in tmp/ that nobody has read for 36 hours was given
up by its writer and can be removed.

Source: maildir.c of qmail, maildir(5).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import NamedTuple

__all__ = ["Found", "list_messages", "remove_old_tmp"]

TMP_SECONDS = 129600  # maildir(5): a delivery takes no longer than 24 hours; half as much again, as qmail
FOLDERS = (b"new", b"cur")


class Found(NamedTuple):
    """A message. `when` is the second of its arrival, `name` its path below the Maildir, `size` its bytes."""

    when: int
    name: bytes
    size: int


def list_messages(directory: bytes, now: int) -> list[Found]:
    """Return the messages that are older than `now`. An OSError for a folder has its name (b"new") as `filename2`."""
    found = [message for folder in FOLDERS for message in list_folder(directory, folder, now)]
    found.sort(key=lambda message: (message.when, message.name[4:]))
    return found


def list_folder(directory: bytes, folder: bytes, now: int) -> Iterator[Found]:
    try:
        names = os.listdir(directory + b"/" + folder)
    except OSError as error:
        error.filename2 = folder
        raise
    for name in names:
        if name.startswith(b"."):
            continue
        path = folder + b"/" + name
        try:
            status = os.stat(directory + b"/" + path)
        except OSError:
            continue  # taken away meanwhile
        if int(status.st_mtime) < now:
            yield Found(int(status.st_mtime), path, status.st_size)


def remove_old_tmp(directory: bytes, now: int) -> None:
    """Remove files of tmp/ that were not touched for 36 hours."""
    tmp = directory + b"/tmp/"
    try:
        names = os.listdir(tmp)
    except OSError:
        return
    for name in names:
        if name.startswith(b"."):
            continue
        try:
            if now > int(os.stat(tmp + name).st_atime) + TMP_SECONDS:
                os.unlink(tmp + name)
        except OSError:
            pass  # gone, or not ours: the mailbox can be read all the same
