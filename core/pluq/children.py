"""Programs that a role starts and waits for: a site's own checks and filters.

    ended = await run(["/var/qmail/bin/check"], environment=..., folder=home.path, outputs=(1,), seconds=20)
    ended.code        exit code, negative for a signal; ended.said[1] what it wrote on descriptor 1

A program is started by posix_spawn, in the folder that it is to find itself in, as the leader of a process group. Descriptor 0 is
/dev/null unless `inputs` gives another; those in `outputs` are pipes to us; 2 is our own, and 1 as well as 2 where it is not asked for. What it
writes beyond OUTPUT_BYTES is read and dropped. When its time is over, it and all that it started are killed, and `is_late` is true. What a
process in the background still holds open is not waited for.

`run` never holds up the event loop and needs no task; `run_now` is the same for roles without one. A program that cannot be started
is an OSError. Both leave nothing behind, also when they are cancelled.

Source: posix_spawn(3), pidfd_open(2).
"""

from __future__ import annotations

import fcntl
import os
import signal
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pluq.execvp import spawnv

if TYPE_CHECKING:
    import asyncio

# Replies, headers and reasons: no program has more to say.
OUTPUT_BYTES = 16384
READ_BYTES = 4096
# Our ends of pipes are kept clear of the numbers that programs use.
HIGH_FD = 20
# Signals that Python or a role may ignore; a program expects them to do what they always do.
DEFAULT_SIGNALS = (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD)
# How an exported function begins in the environment: an old shell runs what follows it.
FUNCTION = b"() {"
# posix_spawn starts a program where the process is, and the process is only in one place.
_place = threading.Lock()


@dataclass(frozen=True, slots=True)
class Ended:
    """How a program ended. `said` is what it wrote, by its descriptor."""

    code: int
    said: Mapping[int, bytes]
    is_late: bool = False
    pid: int = field(default=0, compare=False)


class Child:
    """One running program. `watch` can be read when it has died; `pipes` are our ends of its outputs, with their numbers."""

    def __init__(
        self,
        argv: Sequence[str],
        environment: Mapping[str, str],
        folder: str,
        outputs: Sequence[int],
        inputs: Mapping[int, int],
    ) -> None:
        """Start it. Raises OSError."""
        self.pipes: dict[int, int] = {}
        self._said = {number: bytearray() for number in outputs}
        writers: dict[int, int] = {}
        try:
            for number in outputs:
                reader, writers[number] = _pipe()
                self.pipes[reader] = number
            self.pid = _spawn(argv, environment, folder, {**inputs, **writers})
        except BaseException:
            self._close()
            raise
        finally:
            for fd in writers.values():
                os.close(fd)
        self.watch = os.pidfd_open(self.pid)

    def read(self, pipe: int) -> bool:
        """Take what is in a pipe; False at its end."""
        try:
            piece = os.read(pipe, READ_BYTES)
        except BlockingIOError:
            return True
        said = self._said[self.pipes[pipe]]
        said += piece[: OUTPUT_BYTES - len(said)]
        return bool(piece)

    def finish(self, is_late: bool) -> Ended:
        """Reap it and return how it ended; one that is late is killed."""
        if is_late:
            self.kill()
        status = os.waitpid(self.pid, 0)[1]
        for pipe in self.pipes:
            for _ in range(OUTPUT_BYTES // READ_BYTES):
                before = len(self._said[self.pipes[pipe]])
                if not self.read(pipe) or len(self._said[self.pipes[pipe]]) == before:
                    break
        os.close(self.watch)
        self._close()
        said = {number: bytes(data) for number, data in self._said.items()}
        return Ended(os.waitstatus_to_exitcode(status), said, is_late, self.pid)

    def kill(self) -> None:
        """Kill it and all that it started."""
        try:
            os.killpg(self.pid, signal.SIGKILL)
        except ProcessLookupError:
            return

    def _close(self) -> None:
        for pipe in self.pipes:
            os.close(pipe)
        self.pipes = {}


def _pipe() -> tuple[int, int]:
    """Return the two ends of a pipe; the writing one has a high number, the reading one never blocks."""
    reader, low = os.pipe()
    try:
        writer = fcntl.fcntl(low, fcntl.F_DUPFD_CLOEXEC, HIGH_FD)
    except OSError:
        os.close(reader)
        raise
    finally:
        os.close(low)
    os.set_blocking(reader, False)
    return reader, writer


def _spawn(argv: Sequence[str], environment: Mapping[str, str], folder: str, descriptors: Mapping[int, int]) -> int:
    """Start a program in `folder` with these descriptors (its number: ours). Raises OSError."""
    actions: list[tuple[int, ...] | tuple[int, int, str, int, int]] = []
    if 0 not in descriptors:
        actions.append((os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0))
    if 1 not in descriptors:
        actions.append((os.POSIX_SPAWN_DUP2, 2, 1))
    actions += [(os.POSIX_SPAWN_DUP2, ours, its) for its, ours in descriptors.items()]
    with _place:
        came_from = os.open(".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.chdir(folder)
            return spawnv(
                argv, environment, file_actions=actions, setsigmask=(), setsigdef=DEFAULT_SIGNALS, setpgroup=0
            )
        finally:
            os.fchdir(came_from)
            os.close(came_from)


async def run(
    argv: Sequence[str],
    *,
    environment: Mapping[str, str],
    folder: str,
    seconds: float,
    outputs: Sequence[int] = (1,),
    inputs: Mapping[int, int] | None = None,
) -> Ended:
    """Run a program to its end, at most for so many seconds. Raises OSError where it cannot be started.

    `inputs` are descriptors of ours that it gets, by its numbers.
    """
    import asyncio

    loop = asyncio.get_running_loop()
    child = Child(argv, environment, folder, outputs, inputs or {})
    done: asyncio.Future[bool] = loop.create_future()
    for pipe in child.pipes:
        loop.add_reader(pipe, _read_or_stop, loop, child, pipe)
    loop.add_reader(child.watch, _tell, done, False)
    timer = loop.call_later(seconds, _tell, done, True)
    is_late = True
    try:
        is_late = await done
    finally:
        timer.cancel()
        for fd in (child.watch, *child.pipes):
            loop.remove_reader(fd)
        ended = child.finish(is_late)
    return ended


def _read_or_stop(loop: asyncio.AbstractEventLoop, child: Child, pipe: int) -> None:
    if not child.read(pipe):
        loop.remove_reader(pipe)


def _tell(done: asyncio.Future[bool], is_late: bool) -> None:
    if not done.done():
        done.set_result(is_late)


def run_now(
    argv: Sequence[str],
    *,
    environment: Mapping[str, str],
    folder: str,
    seconds: float,
    outputs: Sequence[int] = (1,),
    inputs: Mapping[int, int] | None = None,
) -> Ended:
    """`run` for a caller that may block."""
    import select

    child = Child(argv, environment, folder, outputs, inputs or {})
    deadline = time.monotonic() + seconds
    is_late = True
    try:
        poll = select.poll()
        for fd in (child.watch, *child.pipes):
            poll.register(fd, select.POLLIN)
        while (left := deadline - time.monotonic()) > 0:
            ready = [fd for fd, _ in poll.poll(left * 1000)]
            if child.watch in ready:
                is_late = False
                break
            for pipe in ready:
                if not child.read(pipe):
                    poll.unregister(pipe)
    finally:
        ended = child.finish(is_late)
    return ended


def is_function(value: bytes) -> bool:
    """Return whether a shell might take a value in the environment for a function, and run it."""
    return value.lstrip().startswith(FUNCTION)
