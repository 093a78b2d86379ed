"""Queueing through a program that speaks qmail-queue's interface: QMAILQUEUE, or HOME/bin/qmail-queue.

    descriptor 0   the message, to its end
    descriptor 1   the envelope: F sender NUL, T recipient NUL ..., NUL
    descriptor 6   (from the program) its own reason, used with exit code 82
    exit code      0, or what refusal.py explains

The program is started with the home as its working directory before the message comes, as qmail does, so that one that does
not want it can say so early. One that has not read everything has not accepted it, whatever it exits with.

Source: qmail-queue(8), qmail.c of notqmail.
"""

from __future__ import annotations

import fcntl
import os
import signal
from collections.abc import Mapping, Sequence

from pluq.queue import refusal
from pluq.queue.records import encode_envelope
from pluq.queue.refusal import QueueRefusal, Receipt

__all__ = ["ERROR_FD", "QueueProgram"]

ERROR_FD = 6
# Descriptors from here on are out of the way of 0, 1 and the error descriptor.
HIGH_FD = 20


class QueueProgram:
    """A running queue program and the message on its way into it. All calls block; `pid` is also the qp number."""

    def __init__(self, home: str, program: str, environment: Mapping[str, str], error_fd: int = ERROR_FD) -> None:
        """Start the program. Raises QueueRefusal when there is no process or pipe left for it."""
        self._failed = False
        pipes: list[int] = []
        try:
            for _ in range(3):
                pipes += os.pipe()
            self.pid = os.fork()
        except OSError as error:
            for fd in pipes:
                os.close(fd)
            raise QueueRefusal(refusal.LATER) from error
        message_out, message_in, envelope_out, envelope_in, error_out, error_in = pipes
        if self.pid == 0:
            _become(home, program, environment, {0: message_out, 1: envelope_out, error_fd: error_in})
        for fd in (message_out, envelope_out, error_in):
            os.close(fd)
        self._message_fd, self._envelope_fd, self._error_fd = message_in, envelope_in, error_out

    def write(self, chunk: bytes) -> None:
        """Write message bytes; a program that stopped reading shows at `commit`."""
        self._put(self._message_fd, chunk)

    def commit(self, sender: bytes, recipients: Sequence[bytes]) -> Receipt:
        """End the message, give the envelope, wait for the program. Raises QueueRefusal."""
        os.close(self._message_fd)
        self._put(self._envelope_fd, encode_envelope(sender, recipients))
        os.close(self._envelope_fd)
        text = self._read_reason()
        code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        if code == 0 and self._failed:
            code = refusal.READ_ERROR
        if code != 0:
            raise QueueRefusal(code, text or None)
        return Receipt(self.pid)

    def abort(self) -> None:
        """Give the message up: the program finds the envelope missing and leaves nothing in the queue."""
        for fd in (self._message_fd, self._envelope_fd, self._error_fd):
            os.close(fd)
        os.waitpid(self.pid, 0)

    def _put(self, fd: int, data: bytes) -> None:
        view = memoryview(data)
        while view and not self._failed:
            try:
                view = view[os.write(fd, view) :]
            except OSError:
                self._failed = True

    def _read_reason(self) -> bytes:
        """Read descriptor 6 up to its end or the length a reason may have."""
        text = b""
        while len(text) < refusal.CUSTOM_LIMIT:
            piece = os.read(self._error_fd, refusal.CUSTOM_LIMIT - len(text))
            if not piece:
                break
            text += piece
        os.close(self._error_fd)
        return text.partition(b"\0")[0]


def _become(home: str, program: str, environment: Mapping[str, str], descriptors: Mapping[int, int]) -> None:
    """In the child: put the pipes where they belong and become the program. Never returns."""
    try:
        moved = {number: fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, HIGH_FD) for number, fd in descriptors.items()}
        for number, fd in moved.items():
            os.dup2(fd, number)
        # Python ignores SIGPIPE; a program started from here expects to die of it.
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, [])
        try:
            os.chdir(home)
        except OSError:
            os._exit(refusal.HOME_ERROR)
        os.execve(program, [program], environment)
    except BaseException:
        os._exit(refusal.EXEC_ERROR)
