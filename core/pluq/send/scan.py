"""Looking for new messages in todo/: at the start, when the trigger is pulled, and every 25 minutes in any case.

lock/trigger is a FIFO. The scheduler holds it open for reading; qmail-queue writes a byte to it when a message is in todo/. It is
closed and opened again before each look, so a byte that comes during the look causes another one.

Source: INTERNALS section 7; trigger.c, triggerpull.c and todo_init in qmail-send.c.
"""

from __future__ import annotations

import os
import selectors
from collections.abc import Callable, Iterator

from pluq import log
from pluq.queue.layout import QueueLayout
from pluq.send.common import Common

SCAN_SECONDS = 1500
NAMES_A_TURN = 100
"""Reports of deliveries must not wait behind a full todo/."""
PAUSE_SECONDS = 10


class TodoScan:
    """The trigger, and the walk through todo/ that goes on over several turns. `found` takes the number of a message.

    While it is `held` nothing is looked at; see `hold`.
    """

    def __init__(self, common: Common, selector: selectors.BaseSelector, found: Callable[[int], None]) -> None:
        self._common = common
        self._selector = selector
        self._found = found
        self._trigger = -1
        self._next = 0
        self._walk: Iterator[int] | None = None
        self._wanted = True
        self._held = False
        self._open_trigger()

    def hold(self) -> None:
        """Do not look until `release`, and then from the beginning.

        A scheduler that died may have told the queue daemon that a message is finished, and the daemon may not have read that yet. What
        is seen of that message in todo/ now would be taken for a new one, while its number can soon have another. As soon as the
        daemon answers on our connection, the former one is cut off.
        """
        self._held = True
        self._walk = None

    def release(self) -> None:
        self._held = False
        self.want()

    def want(self, _events: int = 0) -> None:
        """Look through todo/ from its beginning as soon as the present look is over."""
        self._wanted = True
        if self._trigger >= 0:
            # A byte in the FIFO stays readable: one look is asked for once.
            self._selector.unregister(self._trigger)
            os.close(self._trigger)
            self._trigger = -1

    def wake_at(self) -> float:
        if self._held:
            return float("inf")
        return self._common.now if self._walk is not None or self._wanted else self._next

    def work(self) -> None:
        """Look at some names."""
        if self._held:
            return
        now = self._common.now
        if self._walk is None:
            if not self._wanted and now < self._next:
                return
            self._wanted = False
            self._open_trigger()
            self._next = now + SCAN_SECONDS
            self._walk = todo_numbers(self._common.layout)
        try:
            for _ in range(NAMES_A_TURN):
                number = next(self._walk, None)
                if number is None:
                    self._walk = None
                    return
                self._found(number)
        except OSError:
            self._common.log(log.alert("unable to opendir todo, sleeping..."))
            self._walk = None
            self._next = now + PAUSE_SECONDS

    def _open_trigger(self) -> None:
        """Hold the FIFO open anew. Without one only the clock and the queue daemon tell of new messages."""
        if self._trigger >= 0:
            self._selector.unregister(self._trigger)
            os.close(self._trigger)
        try:
            self._trigger = os.open(self._common.layout.trigger, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            self._trigger = -1
            return
        try:
            self._selector.register(self._trigger, selectors.EVENT_READ, self.want)
        except OSError:
            # No FIFO but a file: it cannot be waited for.
            os.close(self._trigger)
            self._trigger = -1


def todo_numbers(layout: QueueLayout) -> Iterator[int]:
    """Yield the numbers of the messages in todo/, read as they are asked for. Raises OSError."""
    for folder in layout.todo_dirs():
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.isascii() and entry.name.isdigit():
                    yield int(entry.name)
