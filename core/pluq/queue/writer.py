"""Writing one message into the queue directly, as the program qmail-queue does.

    pid/PID.TIME.SEQ   a new file; its inode number N becomes the message number
    mess/S/N           the same file renamed (S2), message written and synced, its name synced
    intd/N             the envelope, written and synced (S3)
    todo/N             a link to it, its name synced (S4): the message is in the queue

Stock qmail syncs no names: on ext4 and XFS it loses the newest accepted message when the power goes. A crash before the last
step leaves S2 or S3, which the cleaner removes after 36 hours. Failures to read or write clean up behind themselves; the
others leave the files to the cleaner, as qmail does, since the directories are in an unknown state then.

The message goes through `Received: (qmail N invoked by ...)` as its first line.

Source: INTERNALS section 3, qmail-queue.c.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable

from pluq.queue import refusal
from pluq.queue.layout import QueueLayout
from pluq.queue.records import ADDRESS_LIMIT
from pluq.queue.refusal import QueueRefusal
from pluq.store.durable import fsync, fsync_dir, write_all

__all__ = ["DEATH_SECONDS", "EnvelopeReader", "QueueWriter", "pull_trigger", "qmail_uids"]

# A writer that takes longer is dead: the cleaner removes its files after 36 hours (qmail-limits(7)).
DEATH_SECONDS = 86400
CHUNK_BYTES = 65536
PID_TRIES = 9
FILE_MODE = 0o644

Read = Callable[[int], bytes]


def qmail_uids() -> tuple[int, int, int]:
    """Return the uids of alias, qmaild and qmails; -1 for a user that this machine does not have."""
    import pwd

    found = []
    for name in ("alias", "qmaild", "qmails"):
        try:
            found.append(pwd.getpwnam(name).pw_uid)
        except KeyError:
            found.append(-1)
    return found[0], found[1], found[2]


def pull_trigger(layout: QueueLayout) -> None:
    """Wake qmail-send if it waits; it looks every 25 minutes in any case, so no failure matters."""
    try:
        fd = os.open(layout.trigger, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return
    try:
        os.write(fd, b"\0")
    except OSError:
        pass
    finally:
        os.close(fd)


class EnvelopeReader:
    """Checks an envelope while it comes: `F` sender NUL, `T` recipient NUL ..., NUL. What follows is not looked at.

    `records(data)` returns the records to keep of these bytes; `complete` says that the last NUL was among them.
    """

    def __init__(self) -> None:
        self.complete = False
        self._expected = b"F"
        self._partial = b""

    def records(self, data: bytes) -> bytes:
        """Return the whole records in the bytes so far unreturned. Raises QueueRefusal 91 or 11."""
        data = self._partial + data
        start = 0
        while not self.complete and start < len(data):
            letter = data[start : start + 1]
            if letter == b"\0" and self._expected == b"T":
                self.complete = True
                break
            if letter != self._expected:
                raise QueueRefusal(refusal.BAD_ENVELOPE)
            end = data.find(b"\0", start)
            if (len(data) if end < 0 else end) - start > ADDRESS_LIMIT:
                raise QueueRefusal(refusal.ADDRESS_TOO_LONG)
            if end < 0:
                break
            start = end + 1
            self._expected = b"T"
        self._partial = data[start:]
        return data[:start]


class QueueWriter:
    """One message on its way into the queue. Call `write_message`, `write_envelope`, `enqueue`, in this order.

    Every method raises QueueRefusal with qmail-queue's exit code. `number` is the message number.
    """

    def __init__(self, layout: QueueLayout, pid: int, uid: int, first_line: bytes) -> None:
        self.layout = layout
        self.pid = pid
        self.uid = uid
        self.first_line = first_line
        self._mess_fd = self._make_mess()
        self._intd_fd = -1

    def _make_mess(self) -> int:
        """Make the message file: its inode number is the message's. It goes to mess/ before anything else exists (S2)."""
        started = int(time.time())
        for sequence in range(1, PID_TRIES + 1):
            path = f"{self.layout.path}/pid/{self.pid}.{started}.{sequence}"
            try:
                fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, FILE_MODE)
                break
            except OSError:
                continue
        else:
            raise QueueRefusal(refusal.PID_ERROR)
        self.number = os.fstat(fd).st_ino
        try:
            # qmail links and unlinks; the rename is the same in one step, but would silently replace a file of a message
            # whose number is in use, which a queue restored from a copy can have.
            os.link(path, self.layout.mess(self.number))
        except OSError as error:
            raise QueueRefusal(refusal.MESS_ERROR) from error
        try:
            os.unlink(path)
        except OSError as error:
            raise QueueRefusal(refusal.PID_ERROR) from error
        return fd

    def write_message(self, read: Read) -> None:
        """Copy the message until `read` gives nothing, and make it and its name durable."""
        chunk = self.first_line
        try:
            while chunk:
                self._write(self._mess_fd, chunk)
                chunk = self._read(read)
            self._sync(self._mess_fd, self.layout.mess_dir(self.number))
        except QueueRefusal:
            self.clean_up()
            raise

    def write_envelope(self, read: Read) -> None:
        """Copy the envelope and make it durable (S3)."""
        try:
            self._intd_fd = os.open(
                self.layout.intd(self.number), os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, FILE_MODE
            )
        except OSError as error:
            raise QueueRefusal(refusal.INTD_ERROR) from error
        envelope = EnvelopeReader()
        try:
            self._write(self._intd_fd, b"u%d\0p%d\0" % (self.uid, self.pid))
            while not envelope.complete:
                data = self._read(read)
                if not data:
                    raise QueueRefusal(refusal.READ_ERROR)
                self._write(self._intd_fd, envelope.records(data))
            self._sync(self._intd_fd)
        except QueueRefusal as error:
            if error.code in (refusal.WRITE_ERROR, refusal.READ_ERROR):
                self.clean_up()
            raise

    def enqueue(self) -> None:
        """Put the message into the queue (S4). When this returns, a power cut does not lose it any more."""
        todo = self.layout.todo(self.number)
        try:
            os.link(self.layout.intd(self.number), todo)
        except OSError as error:
            raise QueueRefusal(refusal.TODO_ERROR) from error
        try:
            if not os.fstat(self._mess_fd).st_nlink:
                # The clock jumped, and somebody took mess/N for a file that a dead writer left 36 hours ago.
                raise FileNotFoundError(errno.ENOENT, "the message was removed", self.layout.mess(self.number))
            fsync_dir(self.layout.todo_dir(self.number))
        except OSError as error:
            # Nobody knows whether the name will survive, so it was not accepted: take it out again.
            os.unlink(todo)
            self.clean_up()
            raise QueueRefusal(refusal.WRITE_ERROR) from error
        pull_trigger(self.layout)

    def clean_up(self) -> None:
        """Remove the files of a message that will not be queued: first intd/, then mess/, so that S2 and S3 are passed backwards."""
        paths = [(self._mess_fd, self.layout.mess(self.number))]
        if self._intd_fd >= 0:
            paths.insert(0, (self._intd_fd, self.layout.intd(self.number)))
        for fd, path in paths:
            try:
                os.ftruncate(fd, 0)
                os.unlink(path)
            except OSError:
                return

    @staticmethod
    def _read(read: Read) -> bytes:
        try:
            return read(CHUNK_BYTES)
        except OSError as error:
            raise QueueRefusal(refusal.READ_ERROR) from error

    @staticmethod
    def _write(fd: int, data: bytes) -> None:
        try:
            write_all(fd, data)
        except OSError as error:
            raise QueueRefusal(refusal.WRITE_ERROR) from error

    @staticmethod
    def _sync(fd: int, folder: str | None = None) -> None:
        try:
            fsync(fd)
            if folder is not None:
                fsync_dir(folder)
        except OSError as error:
            raise QueueRefusal(refusal.WRITE_ERROR) from error
