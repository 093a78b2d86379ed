"""Several workers on the same sockets: forked, watched, told what their parent is told.

The parent serves nobody. A worker that dies is replaced after a moment; TERM, QUIT and HUP are passed on, and the parent ends when all
workers have. Each worker is given the reading end of a pipe that nobody writes to: its end is the end of the parent.
"""

from __future__ import annotations

import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence

Work = Callable[[int], None]

# A worker that cannot live must not make us fork all the time.
RESTART_SECONDS = 1.0

PASSED = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP)


class Workers:
    """The workers of one parent. `run` blocks until TERM. `let_go` closes what they listen on, here: they will not start again."""

    def __init__(self, works: Sequence[Work], let_go: Callable[[], None]) -> None:
        self._works = works
        self._let_go = let_go
        self._running: dict[int, Work] = {}
        self._is_leaving = False
        self._lifeline, self._held = os.pipe()

    def run(self) -> None:
        for signum in PASSED:
            signal.signal(signum, self._pass_on)
        for work in self._works:
            self._start(work)
        while self._running:
            pid, _ = os.wait()
            dead = self._running.pop(pid, None)
            if dead is not None and not self._is_leaving:
                time.sleep(RESTART_SECONDS)
                self._start(dead)

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
                pid = os.fork()
                if pid == 0:
                    self._be_worker(work)
                self._running[pid] = work
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, PASSED)

    def _be_worker(self, work: Work) -> None:
        """In the child: do the work, and end."""
        code = 111
        try:
            os.close(self._held)
            for signum in PASSED:
                signal.signal(signum, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, PASSED)
            work(self._lifeline)
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(code)
