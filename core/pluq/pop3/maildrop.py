"""A Maildir as a POP3 mailbox: what was in new/ and cur/ when the session began, oldest first (store.maildir_list)."""

from __future__ import annotations

import os
from typing import BinaryIO

from pluq.errors import TemporaryFailure
from pluq.pop3.transaction import Message
from pluq.store.maildir_list import list_messages, remove_old_tmp


class MaildirDrop:
    """The messages of the Maildir in `directory`. Raises TemporaryFailure if new/ or cur/ cannot be listed.

    `now` is the time in seconds since the epoch.
    """

    def __init__(self, directory: bytes, now: int) -> None:
        self.directory = directory
        remove_old_tmp(directory, now)
        try:
            found = list_messages(directory, now)
        except OSError as error:
            raise TemporaryFailure(f"unable to scan {os.fsdecode(error.filename2)}: {error.strerror}") from error
        self.messages = [Message(name, size) for _, name, size in found]

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
