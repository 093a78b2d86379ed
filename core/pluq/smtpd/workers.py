"""Several workers on the same sockets: forked, watched, told what their parent is told.

The parent serves nobody. A worker that dies is replaced after a moment; TERM and HUP are passed on, and the parent ends when all
workers have. Each worker is given the reading end of a pipe that nobody writes to: its end is the end of the parent.
"""

from __future__ import annotations

import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence

# A worker that cannot live must not make us fork all the time.
RESTART_SECONDS = 1.0

PASSED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def run_workers(works: Sequence[Callable[[int], None]]) -> None:
    """Run each in a process of its own until TERM."""
    lifeline, held = os.pipe()
    pids = {start(work, lifeline, held): work for work in works}
    leaving = False

    def pass_on(signum: int, frame: object) -> None:
        nonlocal leaving
        leaving = leaving or signum != signal.SIGHUP
        for pid in list(pids):
            try:
                os.kill(pid, signum)
            except ProcessLookupError:
                continue

    for signum in PASSED:
        signal.signal(signum, pass_on)
    while pids:
        pid, _ = os.wait()
        work = pids.pop(pid, None)
        if work is not None and not leaving:
            time.sleep(RESTART_SECONDS)
            pids[start(work, lifeline, held)] = work
            if leaving:  # told while we slept
                pass_on(signal.SIGTERM, None)


def start(work: Callable[[int], None], lifeline: int, held: int) -> int:
    """Fork one worker and return its process number."""
    pid = os.fork()
    if pid:
        return pid
    code = 111
    try:
        os.close(held)
        for signum in PASSED:
            signal.signal(signum, signal.SIG_DFL)
        work(lifeline)
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)
