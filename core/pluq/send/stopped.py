"""Orders for the messages of a queue that no qmail-send works on: a scheduler that delivers nothing carries them out.

It takes the lock that qmail-send has, so that none starts meanwhile, and works as the same user, with qmail-clean beside it for what
belongs to qmailq. A message in todo/ is preprocessed first, as the next qmail-send would do. Bounces are noted here and sent by the next
qmail-send.
"""

from __future__ import annotations

import selectors
import time
from typing import TYPE_CHECKING

from pluq import log
from pluq.queue.layout import QueueLayout
from pluq.send.bounces import Queued, Source
from pluq.send.common import Common, exists
from pluq.send.remover import CleanPipes
from pluq.send.scheduler import Scheduler
from pluq.send.startup import enter_queue
from pluq.send.steering import Steering
from pluq.wire.steer import Order, Outcome

if TYPE_CHECKING:
    from pluq.config import Home

WIDTH = 1
LOST = "qmail-clean has gone away"
TROUBLE = (b"warning:", b"alert:")


class NoInjector:
    """Sends nothing."""

    busy = True

    def inject(self, source: Source, queued: Queued) -> None:
        source.close()
        queued(None)


class NoDeliverers:
    """The surroundings of a scheduler that has none."""

    def work(self) -> None: ...

    def wake_at(self) -> float | None:
        return None

    def lost(self, channel: object) -> bytes | None:
        return None

    def write(self) -> None: ...

    def clock_set_back(self) -> None: ...


class StoppedQueue:
    """The queue of a home; its lock must be held. `clean` are the pipes to and from qmail-clean, `log_fd` hears of trouble."""

    def __init__(self, home: Home, clean: tuple[int, int], log_fd: int) -> None:
        """Look at the whole queue. Raises CannotStartError."""
        common = Common(QueueLayout(home.queue), log.LineWriter(log_fd), enter_queue(home), WIDTH)
        write = common.log
        common.log = lambda line: write(line) if line.startswith(TROUBLE) else None
        remover = CleanPipes(*clean, lambda text: common.log(log.warning(text)), lambda: common.log(log.alert(LOST)))
        self._common = common
        self._scheduler = Scheduler(common, remover, NoInjector(), selectors.DefaultSelector(), time.time, fast=False)
        self._scheduler.surroundings = NoDeliverers()
        self._scheduler.inventory.load()
        self._steering = Steering(self._scheduler)

    def obey(self, order: Order, uid: int) -> dict[int, Outcome]:
        """Carry out an order of user `uid`; when this returns it holds, whatever happens then."""
        self._common.now = int(time.time())
        for number in order.messages:
            if exists(self._common.layout.todo(number)):
                self._scheduler.preprocessor.preprocess(number)
        self._scheduler.settle()
        outcomes = self._steering.obey(order, uid)
        self._scheduler.settle()
        return outcomes
