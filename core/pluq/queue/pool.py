"""Recycled queue files.

On ext4 making an inode after many deletions costs more than an fsync. So the daemon keeps the files of a message that has left
the queue and uses them for the next one: a pair of a message file and an envelope file, both open.

    pool/m<N>  pool/e<N>                        nobody's: leased to a worker, or free
    pool/m<N>  pool/e<N>  mess/S/N              being committed (S2)
    pool/m<N>  pool/e<N>  mess/S/N  todo/N      a message (S4)

N is the inode number of the message file, so its name in mess/ is qmail's for ever. The names in pool/ stay while the daemon has the
files: a second name is linked and unlinked in a third of the time that two renames take. They go when it lets go of a file, and
the next daemon empties pool/ at its start, so a crash leaves S2 at worst.

A message that does not go through the journal gets an envelope file that was in no queue yet, and its files are not used again: nothing but
an id in the envelope tells recovery that a name in todo/ which came back is not what it shows.

Who could see a stranger's mail in a file that is used again? Three rules answer it:

* a file that was leased to a worker is never given to another one, nor used for local submissions;
* a file that anybody still has open when its message has left (a program started by a .qmail file may leave children behind)
  is not used again: taking a write lease (fcntl(2), F_SETLEASE) fails then;
* a program of a user, which could keep pages of the file or a handle that is not counted as open, gets a copy of its own
  (`private_copy`); only files too large to be used again are handed out themselves.
"""

from __future__ import annotations

import fcntl
import os
from collections import deque
from time import time

from pluq.errors import ConfigError
from pluq.queue.journal import SEGMENTS
from pluq.queue.layout import RECYCLE_BYTES, QueueLayout

__all__ = ["FILE_MODE", "Owner", "Pool", "Slot"]

# As qmail-queue makes them: the folders keep strangers out.
FILE_MODE = 0o644
CREATE = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
# A pooled file's time of last access must look young when it enters mess/: the cleaner goes by it (36 hours).
TOUCH_SECONDS = 3600
# A queue restored from a copy may have a message whose number is not its inode: its number is in use then.
TRIES = 10


class Owner:
    """Whom files are leased to: one worker, or the daemon itself."""

    def __init__(self) -> None:
        self.free: deque[Slot] = deque()
        self.alive = True

    def forget(self, slot: Slot) -> None:
        """The file will not come back to the owner."""


class Slot:
    """A message file and an envelope file, open, with their four paths. `ident` is its message's in the journal, 0 without."""

    __slots__ = (
        "envelope_fd", "envelope_size", "ident", "mess", "mess_fd", "number", "owner", "pool_envelope", "pool_mess",
        "todo", "todo_dir", "touched",
    )  # fmt: skip

    def __init__(self, layout: QueueLayout, number: int, mess_fd: int, envelope_fd: int, owner: Owner) -> None:
        self.number = number
        self.mess_fd = mess_fd
        self.envelope_fd = envelope_fd
        self.envelope_size = 0
        self.ident = 0
        self.owner = owner
        self.touched = time()
        self.pool_mess = os.fsencode(f"{layout.pool}/m{number}")
        self.pool_envelope = os.fsencode(f"{layout.pool}/e{number}")
        self.mess = os.fsencode(layout.mess(number))
        self.todo = os.fsencode(layout.todo(number))
        self.todo_dir = layout.todo_dir(number)

    def close(self) -> None:
        """Close both files; their names stay. Closing twice is an error, as for any descriptor."""
        os.close(self.mess_fd)
        os.close(self.envelope_fd)

    def renew_envelope(self) -> None:
        """Have an envelope file that was never in the queue. Raises OSError."""
        if not self.envelope_size:
            return
        os.unlink(self.pool_envelope)
        fd = os.open(self.pool_envelope, CREATE, FILE_MODE)
        os.close(self.envelope_fd)
        self.envelope_fd, self.envelope_size = fd, 0


class Pool:
    """The folder pool/, held by one daemon."""

    def __init__(self, layout: QueueLayout) -> None:
        """Take the pool and remove what a former daemon left. Raises ConfigError, OSError."""
        self._layout = layout
        os.makedirs(layout.pool, mode=0o700, exist_ok=True)
        self.fd = os.open(layout.pool, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(self.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self.fd)
            raise ConfigError(layout.pool, "another queue daemon serves this queue") from error
        self.empty()

    def empty(self) -> None:
        """Remove what is nobody's: nothing is leased yet, or any more."""
        for name in os.listdir(self._layout.pool):
            if name not in SEGMENTS:
                os.unlink(f"{self._layout.pool}/{name}")

    def close(self) -> None:
        """Remove the files that are nobody's and let the next daemon in."""
        self.empty()
        os.close(self.fd)

    def lease(self, owner: Owner) -> Slot:
        """Return a file for the owner's next message, a former one of its own if there is one. Raises OSError."""
        if not owner.free:
            return self._create(owner)
        slot = owner.free.popleft()
        now = time()
        if now - slot.touched > TOUCH_SECONDS:
            os.utime(slot.mess_fd)
            slot.touched = now
        return slot

    def _create(self, owner: Owner) -> Slot:
        for _ in range(TRIES):
            new = f"{self._layout.pool}/new"
            mess_fd = os.open(new, CREATE, FILE_MODE)
            try:
                number = os.fstat(mess_fd).st_ino
                # A name that is taken keeps its inode busy in pool/, so that the next file gets another number.
                os.rename(new, f"{self._layout.pool}/m{number}")
                if self._is_used(number):
                    os.close(mess_fd)
                    continue
                envelope_fd = os.open(f"{self._layout.pool}/e{number}", CREATE, FILE_MODE)
            except OSError:
                os.close(mess_fd)
                self._remove(f"{self._layout.pool}/new", f"{self._layout.pool}/m{number}")
                raise
            return Slot(self._layout, number, mess_fd, envelope_fd, owner)
        raise FileExistsError(17, "message numbers are in use by other files", self._layout.path)

    def _is_used(self, number: int) -> bool:
        layout = self._layout
        return any(os.path.lexists(path(number)) for path in (layout.mess, layout.todo, layout.intd))

    def holds(self, number: int) -> bool:
        """Say whether the message file of this number is open here: leased, being committed, in the queue, or leaving it."""
        return os.path.lexists(f"{self._layout.pool}/m{number}")

    @staticmethod
    def _remove(*paths: str | bytes) -> None:
        for path in paths:
            try:
                os.unlink(path)
            except OSError:
                continue

    def discard(self, slot: Slot) -> None:
        """Remove the files of a message that is in mess/ alone, and never use them again."""
        self._remove(slot.mess)
        self.release(slot)

    def withdraw(self, slot: Slot) -> None:
        """Take back a message that was in todo/ for a moment. Who has seen it there goes on delivering it, so its file and its number stay.

        That is S2: they go when qmail-send is done with it, or with what is nobody's.
        """
        self._remove(slot.todo)
        self.release(slot)

    def release(self, slot: Slot) -> None:
        """Let go of files: those of a message are ordinary queue files from now on, others are gone."""
        self._remove(slot.pool_envelope, slot.pool_mess)
        slot.close()
        slot.owner.forget(slot)

    def recycle(self, slot: Slot) -> None:
        """Take back the files of a message that has left; they go if they must not be used again."""
        if slot.owner.alive and not has_other_users(slot.mess_fd):
            slot.owner.free.append(slot)
        else:
            self.release(slot)

    def give_back(self, slot: Slot) -> None:
        """Take back a lease that came to nothing; a large file goes, so that the pool stays small."""
        if os.fstat(slot.mess_fd).st_size <= RECYCLE_BYTES:
            slot.owner.free.append(slot)
        else:
            self.release(slot)


def has_other_users(fd: int) -> bool:
    """Say whether anybody else has this file open. `fd` must be open for writing, and the file ours."""
    try:
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_WRLCK)
    except OSError:
        return True  # somebody has it, or this filesystem cannot tell
    fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    return False
