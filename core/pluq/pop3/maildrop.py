"""A Maildir as a POP3 mailbox: what was in new/ and cur/ when the session began, oldest first.

Messages of the second in which the session begins are left for the next one, so that the order never changes: what arrives
later is later in every list. Messages of one second stand in the order of their names. A file in tmp/ that nobody has read for
36 hours was given up by its writer and is removed.

Source: maildir.c of qmail, maildir(5).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import BinaryIO

from pluq.errors import TemporaryFailure
from pluq.pop3.transaction import Message

TMP_SECONDS = 129600  # maildir(5): a delivery takes no longer than 24 hours; half as much again, as qmail


class MaildirDrop:
    """The messages of the Maildir in `directory`. Raises TemporaryFailure if new/ or cur/ cannot be listed.

    `now` is the time in seconds since the epoch.
    """

    def __init__(self, directory: bytes, now: int) -> None:
        self.directory = directory
        remove_old_tmp(directory, now)
        found = [*_list(directory, b"new", now), *_list(directory, b"cur", now)]
        found.sort(key=lambda item: (item[0], item[1].name[4:]))
        self.messages = [message for _, message in found]

    def path(self, name: bytes) -> bytes:
        return self.directory + b"/" + name

    def open(self, message: Message) -> BinaryIO:
        # O_NONBLOCK: somebody's FIFO in a Maildir must not hold the session.
        return open(os.open(self.path(message.name), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb")

    def remove(self, message: Message) -> bool:
        try:
            os.unlink(self.path(message.name))
        except OSError:
            return False
        return True

    def keep(self, message: Message) -> None:
        if not message.name.startswith(b"new/"):
            return
        try:
            os.rename(self.path(message.name), self.path(b"cur/" + message.name[4:] + b":2,"))
        except OSError:
            pass  # it stays new: the next session shows it again


def _list(directory: bytes, folder: bytes, now: int) -> Iterator[tuple[int, Message]]:
    """Yield (second of arrival, message) for the messages of a folder that are older than `now`."""
    try:
        names = os.listdir(directory + b"/" + folder)
    except OSError as error:
        raise TemporaryFailure(f"unable to scan {os.fsdecode(folder)}: {error.strerror}") from error
    for name in names:
        if name.startswith(b"."):
            continue
        path = folder + b"/" + name
        try:
            status = os.stat(directory + b"/" + path)
        except OSError:
            continue  # taken away meanwhile
        if int(status.st_mtime) < now:
            yield int(status.st_mtime), Message(path, status.st_size)


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
