"""Signals of the scheduler: TERM leaves, HUP reads control files again, ALRM tries everything now.

A handler only notes the signal and wakes the loop, which acts before it looks at anything else that has come.
"""

from __future__ import annotations

import os
import selectors
import signal
from types import FrameType

from pluq.send.scheduler import Scheduler
from pluq.store.control import ControlFiles

NOTED = (signal.SIGTERM, signal.SIGHUP, signal.SIGALRM)


class Signals:
    """Signals as flags, and a descriptor that wakes the loop."""

    def __init__(self, selector: selectors.BaseSelector) -> None:
        self.pending: set[int] = set()
        self._reader, self._writer = os.pipe()
        os.set_blocking(self._reader, False)
        os.set_blocking(self._writer, False)
        signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
        for number in NOTED:
            signal.signal(number, self._note)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, NOTED)  # the supervisor had them wait for this
        selector.register(self._reader, selectors.EVENT_READ, self._drain)

    def _note(self, number: int, _frame: FrameType | None) -> None:
        self.pending.add(number)

    def _drain(self, _events: int) -> None:
        os.read(self._reader, 4096)

    def taken(self, number: int) -> bool:
        """Say whether a signal came since the last call."""
        if number in self.pending:
            self.pending.discard(number)
            return True
        return False

    def apply(self, scheduler: Scheduler, controls: ControlFiles) -> None:
        """Do what the signals ask for."""
        if self.taken(signal.SIGTERM):
            scheduler.stop()
        if self.taken(signal.SIGALRM):
            scheduler.all_now()
        if self.taken(signal.SIGHUP):
            scheduler.reread(controls)
