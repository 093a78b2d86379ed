"""A message on its way into the queue: its two files completed, then named. The committer says when, and what is synced between.

Source: INTERNALS section 3; the exit codes are qmail-queue's.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable

from pluq.queue import refusal
from pluq.queue.pool import Slot
from pluq.store.durable import pwrite_all

__all__ = ["Answer", "Commit"]

Answer = Callable[[int], None]


class Commit:
    """A message whose bytes are in a leased file, and its envelope in qmail-queue's form.

    `answer` is called once, with 0 when the message is durable, else with qmail-queue's exit code. Each step returns False where it
    failed; `code` says why then.
    """

    __slots__ = ("answer", "code", "envelope", "pid", "size", "slot", "todo", "uid", "was_in_mess", "was_in_todo")

    def __init__(self, slot: Slot, size: int, uid: int, pid: int, envelope: bytes, answer: Answer) -> None:
        self.slot = slot
        self.size = size
        self.uid = uid
        self.pid = pid
        self.envelope = envelope
        self.answer = answer
        self.code = 0
        self.todo = b""
        self.was_in_mess = self.was_in_todo = False
        """qmail-send may know of it, whatever its submitter hears."""

    def complete(self, ident: int, has_journal: bool) -> bool:
        """Complete both files. `ident` is the message's in the journal, 0 if it does not go there."""
        slot = self.slot
        slot.ident = ident
        mark = b" %d" % ident if ident else b""
        self.todo = b"u%d\0p%d%b\0%b" % (self.uid, self.pid, mark, self.envelope[:-1])
        try:
            size = os.fstat(slot.mess_fd).st_size
            if size < self.size:
                raise OSError(errno.EIO, "the message is shorter than its writer says")
            if size > self.size:
                os.ftruncate(slot.mess_fd, self.size)
            if has_journal and not ident:
                # The name of the message before may come back after a crash; the journal's record removes it as long as there is
                # an id in the file.
                slot.renew_envelope()
            pwrite_all(slot.envelope_fd, self.todo, 0)
            if len(self.todo) < slot.envelope_size:
                os.ftruncate(slot.envelope_fd, len(self.todo))
            slot.envelope_size = len(self.todo)
        except OSError:
            self.code = refusal.WRITE_ERROR
            return False
        return True

    def message(self) -> bytes:
        """Return the message's bytes. Raises OSError if they are not there."""
        data = os.pread(self.slot.mess_fd, self.size, 0)
        if len(data) != self.size:
            raise OSError(errno.EIO, "the message is shorter than its writer says")
        return data

    def link_message(self) -> bool:
        """Link the message to mess/ (S2)."""
        self.was_in_mess = self._link(self.slot.pool_mess, self.slot.mess, refusal.MESS_ERROR)
        return self.was_in_mess

    def link_envelope(self) -> bool:
        """Link the envelope to todo/ (S4)."""
        self.was_in_todo = self._link(self.slot.pool_envelope, self.slot.todo, refusal.TODO_ERROR)
        return self.was_in_todo

    def _link(self, path: bytes, name: bytes, code: int) -> bool:
        try:
            os.link(path, name)
        except OSError:
            self.code = code
            return False
        return True
