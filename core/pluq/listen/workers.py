"""Several workers on the same sockets: forked, watched, told what their parent is told.

The parent serves nobody. A worker that dies is replaced after a moment, and so is one that stands still or has grown beyond its limit
(pluq.pulse); TERM, QUIT and HUP are passed on, and the parent ends when all workers have. Each worker is given the reading end of a
pipe that nobody writes to: its end is the end of the parent.
"""

from __future__ import annotations

import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pluq import log, pulse
from pluq.pulse import Pulse

Work = Callable[[int], None]

# A worker that cannot live must not make us fork all the time.
RESTART_SECONDS = 1.0

ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)
PASSED = (*ENDING, signal.SIGHUP)


@dataclass
class Child:
    """A worker that runs. One that is retired has a successor already, and serves its last sessions."""

    work: Work
    pulse: Pulse
    is_retired: bool = False


class Workers:
    """The workers of one parent. `run` blocks until TERM. `let_go` closes what they listen on, here: they will not start again.

    A worker with more than `limit` octets of memory is replaced; 0 for any number. `role` stands before what is logged.
    """

    def __init__(self, works: Sequence[Work], let_go: Callable[[], None], role: str, limit: int = 0) -> None:
        self._works = works
        self._let_go = let_go
        self._role = role
        self._limit = limit
        self._running: dict[int, Child] = {}
        self._is_leaving = False
        self._lifeline, self._held = os.pipe()

    def run(self) -> None:
        for signum in PASSED:
            signal.signal(signum, self._pass_on)
        for work in self._works:
            self._start(work)
        signal.signal(signal.SIGALRM, self._look)
        signal.setitimer(signal.ITIMER_REAL, pulse.LOOK_SECONDS, pulse.LOOK_SECONDS)
        while self._running:
            pid, _ = os.wait()
            dead = self._running.pop(pid, None)
            if dead is not None and not dead.is_retired and not self._is_leaving:
                time.sleep(RESTART_SECONDS)
                self._start(dead.work)

    def _look(self, signum: int, frame: object) -> None:
        """End what stands still, and put others in the place of those that have grown too large."""
        for pid, child in list(self._running.items()):
            earned = child.pulse.look(pid)
            if earned is not None:
                log.say(self._role, f"worker {pid} stands still, ending it")
                os.kill(pid, earned)
            size = pulse.resident(pid) if self._limit and not child.is_retired else 0
            if size > self._limit:
                log.say(self._role, f"worker {pid} has grown to {size >> 20} MiB, another takes its place")
                child.is_retired = True
                self._start(child.work)
                os.kill(pid, signal.SIGQUIT)

    def _pass_on(self, signum: int, frame: object) -> None:
        self._is_leaving = self._is_leaving or signum != signal.SIGHUP
        if signum == signal.SIGQUIT:
            self._let_go()
        for pid in list(self._running):
            try:
                os.kill(pid, signum)
            except ProcessLookupError:
                continue

    def _start(self, work: Work) -> None:
        """Fork one worker, unless we are told to end; what we are told meanwhile comes after."""
        signal.pthread_sigmask(signal.SIG_BLOCK, PASSED)
        try:
            if not self._is_leaving:
                child = Child(work, Pulse())
                pid = os.fork()
                if pid == 0:
                    child.pulse.enter()
                    self._be_worker(work)
                self._running[pid] = child
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, PASSED)

    def _be_worker(self, work: Work) -> None:
        """In the child: do the work, and end."""
        code = 111
        try:
            os.close(self._held)
            for signum in (*PASSED, signal.SIGALRM):
                signal.signal(signum, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING)  # the worker lifts the block of HUP when it listens
            work(self._lifeline)
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(code)
