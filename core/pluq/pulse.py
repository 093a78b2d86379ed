"""Does a process still move, and how large has it grown: asked now and then by the one that started it.

    pulse = Pulse()                      before the fork
    pulse.enter()                        in the child; its event loop says `keep(loop)` and beats from then on
    pulse.look(pid)                      in the parent, every LOOK_SECONDS: the signal that the child has earned, or None

An event loop stands still when a plugin does not come back: a loop without an end, a call that blocks, a regular expression. All sessions
of the process stand with it. After STILL_LOOKS looks without a beat it is ended by ABRT, and faulthandler writes where it stood; by KILL if
that does not help. Nothing that was accepted is lost by it. A process that never beat is not judged, nor is one that somebody has stopped
(STOP, a debugger); time in which the parent itself did not run does not count.

A beat is a store into memory that the two share. Nobody but the parent reads it, and the parent judges only its own children: no process
can have another one ended.
"""

from __future__ import annotations

import mmap
import os
import signal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio

BEAT_SECONDS = 5.0
LOOK_SECONDS = 10.0
STILL_LOOKS = 3
# States of a process in /proc/PID/stat that are somebody else's doing: stopped, traced.
STOPPED = (b"T", b"t")

_mine: Pulse | None = None


class Pulse:
    """What a process and its parent share. Made before the fork."""

    __slots__ = ("_beats", "_looks", "_seen")

    def __init__(self) -> None:
        self._beats = memoryview(mmap.mmap(-1, 8)).cast("Q")
        self._seen = 0
        self._looks = 0

    def enter(self) -> None:
        """In the child: this is its pulse."""
        global _mine
        _mine = self

    def beat(self, loop: asyncio.AbstractEventLoop) -> None:
        self._beats[0] += 1
        loop.call_later(BEAT_SECONDS, self.beat, loop)

    def look(self, pid: int) -> signal.Signals | None:
        """Return the signal that ends a child which has stood still for too long, None while all is well."""
        beats = self._beats[0]
        self._looks = self._looks + 1 if beats and beats == self._seen and not is_stopped(pid) else 0
        self._seen = beats
        if self._looks < STILL_LOOKS:
            return None
        return signal.SIGABRT if self._looks == STILL_LOOKS else signal.SIGKILL


def keep(loop: asyncio.AbstractEventLoop) -> None:
    """Beat from now on, if whoever started this process looks. To be said once."""
    if _mine is not None:
        import faulthandler

        faulthandler.enable()
        _mine.beat(loop)


def is_stopped(pid: int) -> bool:
    """Return whether a process is held by a signal or a debugger."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b") ")[2][:1] in STOPPED
    except OSError:
        return False


def resident(pid: int) -> int:
    """Return the octets of memory that a process has in use, what it shares with others among them; 0 where nobody knows."""
    try:
        with open(f"/proc/{pid}/statm", "rb") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE")
    except (OSError, IndexError):
        return 0
