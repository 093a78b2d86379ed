"""What all parts of the scheduler share: the queue, the log, the settings, the time of this turn, the two channels."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable

from pluq import log
from pluq.mail.bounce import TOO_LONG
from pluq.mail.envelope import verp_sender
from pluq.plan import EMPTY, Plan
from pluq.queue.layout import QueueLayout
from pluq.send.channel import Channel, Delivery, Target
from pluq.send.settings import Settings

CHANNELS = (0, 1)


class Common:
    """The scheduler's shared state. `now` is the time at which the turn began, in whole seconds."""

    def __init__(self, layout: QueueLayout, lines: log.LineWriter, settings: Settings, width: int) -> None:
        self.layout = layout
        self.lines = lines
        self.log: Callable[[bytes], None] = lines.write
        self.settings = settings
        self.plan: Plan = EMPTY
        self.new_plan: Callable[[], Plan] = lambda: EMPTY
        """Reads and starts the plugins anew; raises ConfigError or TemporaryFailure where that fails."""
        self.now = 0
        self.leaving = False
        """TERM came: what is in flight ends, nothing new begins."""
        self.channels = tuple(Channel(index, settings.concurrency[index], width) for index in CHANNELS)
        self._paths = (layout.local, layout.remote)
        self._numbers = itertools.count(1)

    def use(self, settings: Settings) -> None:
        """Go on with other settings."""
        self.settings = settings
        before = [channel.counts for channel in self.channels]
        for channel in self.channels:
            channel.wanted = settings.concurrency[channel.index]
        if before != [channel.counts for channel in self.channels]:
            self.log_status()

    def recipients_path(self, number: int, channel: int) -> str:
        """Return where the recipients of a message on a channel lie: local/S/N or remote/S/N."""
        return self._paths[channel](number)

    def relative(self, path: str) -> str:
        """Return a path below the queue as the log shows it."""
        return path[len(self.layout.path) + 1 :]

    def warn(self, what: str, path: str, end: str = "") -> None:
        self.log(log.warning(f"{what} {self.relative(path)}{end}"))

    def start(self, channel: Channel, target: Target, mark: int, recipient: bytes) -> None:
        """Give one recipient to a deliverer that has room."""
        started = time.monotonic() if log.wants_about else 0.0
        delivery = Delivery(next(self._numbers), target, mark, recipient, channel.name, started)
        message = target.number
        name = b"%d/%d" % (message % self.layout.split, message)
        channel.order(delivery, name, verp_sender(target.sender, recipient))
        self.log(log.starting(delivery.number, message, channel.name, recipient))
        self.log_status()

    def report(self, delivery: Delivery | None, text: bytes) -> None:
        """Take a deliverer's report: its first byte is the outcome."""
        if delivery is None:
            self.log(log.warning("internal error: delivery report out of range"))
            return
        outcome, reason = text[:1], text[1:]
        if outcome == b"Z" and delivery.target.last_try:
            outcome, reason = b"D", reason + TOO_LONG
        self.log(log.delivered(delivery.number, outcome, reason, about(delivery) if log.wants_about else None))
        self.log_status()
        delivery.target.reported(delivery, outcome, reason)

    def log_status(self) -> None:
        local, remote = self.channels
        self.log(log.status(local.counts, remote.counts, self.leaving))


def about(delivery: Delivery) -> log.About:
    """Return what the log may want to know of an attempt that has ended."""
    target = delivery.target
    seconds = time.monotonic() - delivery.started
    delay = max(0.0, time.time() - target.birth)
    return log.About(target.number, delivery.channel, target.sender, delivery.recipient, seconds, delay)


def exists(path: str) -> bool:
    """Say whether there is a file. Raises OSError when that cannot be known."""
    try:
        os.stat(path)
    except FileNotFoundError:
        return False
    return True
