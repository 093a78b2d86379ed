"""What programs say during one delivery, and waiting for them.

All programs of a delivery write into one pipe. A program counts as ended when its first process has; the delivery ends when nobody
holds the pipe any more, so what a process in the background says still belongs to the report. Of a long output only the beginning is
kept, but all of it is read, or the program would wait for ever.

Source: spawn.c of qmail; pidfd_open(2).
"""

from __future__ import annotations

import os
import select
import signal
import threading
from collections.abc import Mapping, Sequence

from pluq.local.program import spawn
from pluq.local.report import REPORT_BYTES
from pluq.queue.reader import private_copy

READ_BYTES = 4096


class Output:
    """A pipe for the output of programs; made when the first one needs it."""

    def __init__(self) -> None:
        self.kept = b""
        self._reader = self._writer = -1

    @property
    def writer(self) -> int:
        if self._writer < 0:
            self._reader, self._writer = os.pipe2(os.O_CLOEXEC)
        return self._writer

    def wait(self, pid: int) -> int:
        """Read until the process `pid` has ended; return its exit code, negative for a signal."""
        watch = os.pidfd_open(pid)
        try:
            poll = select.poll()
            poll.register(watch, select.POLLIN)
            poll.register(self._reader, select.POLLIN)
            while watch not in (ready := [fd for fd, _ in poll.poll()]):
                if self._reader in ready:
                    self._read()
        finally:
            os.close(watch)
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    def _read(self) -> bool:
        piece = os.read(self._reader, READ_BYTES)
        # One byte more than a report may have shows that it is too long.
        self.kept += piece[: REPORT_BYTES + 1 - len(self.kept)]
        return bool(piece)

    def finish(self) -> bytes:
        """Read to the end; return what is kept."""
        if self._writer >= 0:
            os.close(self._writer)
            while self._read():
                continue
            os.close(self._reader)
            self._reader = self._writer = -1
        return self.kept


class Programs:
    """The programs that run in this process's name, so that they can be ended; each leads a process group."""

    def __init__(self) -> None:
        self._running: set[int] = set()
        # posix_spawn starts a program where the process is, and the process is only in one place.
        self._place = threading.Lock()
        self._ending = False

    def start(
        self,
        folder: int,
        program: str,
        argv: Sequence[bytes],
        environment: Mapping[bytes, bytes],
        descriptors: Mapping[int, int],
    ) -> int:
        """Start a program in the directory open as `folder`; return its process id. Raises OSError."""
        with self._place:
            if self._ending:
                raise InterruptedError("shutting down")
            os.fchdir(folder)
            pid = spawn(program, argv, environment, descriptors, group=True)
            self._running.add(pid)
            return pid

    def ended(self, pid: int) -> None:
        with self._place:
            self._running.discard(pid)

    def end(self, signum: signal.Signals) -> bool:
        """Send a signal to all that run, and start no more; return whether there are any."""
        with self._place:
            self._ending = True
            for pid in self._running:
                try:
                    os.killpg(pid, signum)
                except ProcessLookupError:
                    continue
            return bool(self._running)


class Captured:
    """Runs the programs of one delivery: started in `folder`, heard through `output`."""

    def __init__(self, programs: Programs, folder: int, output: Output) -> None:
        self.programs = programs
        self.folder = folder
        self.output = output

    def run(self, program: str, argv: Sequence[bytes], environment: Mapping[bytes, bytes], message: int) -> int:
        writer = self.output.writer
        own = private_copy(message)
        try:
            pid = self.programs.start(self.folder, program, argv, environment, {0: own, 1: writer, 2: writer})
        finally:
            os.close(own)
        try:
            return self.output.wait(pid)
        finally:
            self.programs.ended(pid)
