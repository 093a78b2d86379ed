"""qmail-send, turn by turn: one thread that waits for reports, new messages and the clock, and does what is due.

A turn:  wait -> take reports and notices -> start what has room -> end what is done
         -> settle: notes, marks, files of this turn, in the order that survives a crash
         -> the log, then orders to the deliverers, then requests to the remover

So a line is in the log before anybody outside acts on what it says. How the deliverers, the remover and the clock are reached is
the business of the surroundings: `classic` connects pipes as qmail-start does, `loop` the sockets of pluq's own daemons.

Source: qmail-send(8); main in qmail-send.c.
"""

from __future__ import annotations

import os
import selectors
from collections.abc import Callable
from typing import Protocol

from pluq import log
from pluq.errors import ConfigError, ProtocolError, TemporaryFailure
from pluq.queue.reader import never_waiting
from pluq.queue.records import parse_todo
from pluq.send.bounces import Bounces, Injector
from pluq.send.channel import Channel
from pluq.send.common import Common
from pluq.send.ending import Ending
from pluq.send.fresh import FastPath
from pluq.send.inventory import Inventory
from pluq.send.jobs import Jobs
from pluq.send.plugins import stop_plan
from pluq.send.remover import Remover
from pluq.send.scan import TodoScan
from pluq.send.settings import reread
from pluq.send.stale import StaleFiles
from pluq.send.syncing import SyncBatch
from pluq.send.todo import Preprocessor
from pluq.store.control import ControlFiles

Clock = Callable[[], float]
"""Gives seconds since the epoch."""

FOREVER_SECONDS = 86400
TODO_BYTES_MAX = 60_000
"""A longer todo file is preprocessed from disk, record by record."""


class Surroundings(Protocol):
    """What connects a scheduler with the rest of the world."""

    def work(self) -> None:
        """Begin a turn: obey signals, see to the connections."""

    def wake_at(self) -> float | None:
        """Return when `work` has something to do."""

    def lost(self, channel: Channel) -> bytes | None:
        """A deliverer is gone. Returns what to report for what it had in hand, None to leave that open."""

    def write(self) -> None:
        """End a turn: send what waits for the remover."""

    def clock_set_back(self) -> None:
        """The clock went back: end the pauses."""


class Scheduler:
    """qmail-send without its surroundings, which must be set before the first turn."""

    surroundings: Surroundings

    def __init__(
        self,
        common: Common,
        remover: Remover,
        injector: Injector,
        selector: selectors.BaseSelector,
        clock: Clock,
        fast: bool,
    ) -> None:
        self.common = common
        self.selector = selector
        self._clock = clock
        self._fast = fast
        common.now = int(clock())
        batch = SyncBatch(common.layout.path)
        # With a batch of their own: who writes down what, and syncs it, must be the one to hear that this failed.
        bounces = Bounces(common, injector, SyncBatch(common.layout.path))
        self.ending = Ending(common, bounces, remover, batch)
        self.jobs = Jobs(common, bounces, self.ending)
        self.inventory = Inventory(common, self.jobs, self.ending)
        self.preprocessor = Preprocessor(common, self.jobs, self.ending, remover, batch)
        self.fresh = FastPath(common, self.jobs, self.preprocessor, remover, lambda: self.scan.want())
        self.scan = TodoScan(common, selector, self.found)
        self.stale = StaleFiles(common, remover)
        self._fresh_first = [True for _ in common.channels]
        self._blocked: set[int] = set()

    # What a turn does

    def turn(self, most_seconds: float = FOREVER_SECONDS) -> None:
        """Wait until something happens or is due, at most so long, and deal with it."""
        wake_at = self.wake_at()
        wait = most_seconds if wake_at is None else min(most_seconds, max(0.0, wake_at - self._clock()))
        events = self.selector.select(wait)
        self._tell_time()
        self.surroundings.work()
        for key, mask in events:
            key.data(mask)
        if not self.common.leaving:
            self.scan.work()
            self.stale.work()
            self._fill()
        self.inventory.work()
        self.ending.work()
        self.settle()

    def _tell_time(self) -> None:
        """Note when this turn began. Pauses end by the same clock: where it was set back they end now, and not hours or days later."""
        before, self.common.now = self.common.now, int(self._clock())
        if self.common.now < before:
            self.surroundings.clock_set_back()
            self.jobs.clock_set_back(before - self.common.now)
            self.fresh.clock_set_back()
            self.ending.all_now()
            self.scan.want()
            self.stale.clock_set_back()
            self.inventory.clock_set_back()

    def wake_at(self) -> float | None:
        """Return when there is something to do without anybody calling, None for never."""
        times: list[float | None] = [
            self.surroundings.wake_at(),
            self.ending.wake_at(),
            self.inventory.wake_at(),
            self.jobs.wake_at(),
            self.fresh.wake_at(),
        ]
        if not self.common.leaving:
            times += [self.scan.wake_at(), self.stale.wake_at()]
        return min([when for when in times if when is not None], default=None)

    def _fill(self) -> None:
        """Start deliveries while there is room: new messages and waiting ones by turns, so that neither keeps the other out."""
        for channel in self.common.channels:
            while channel.has_room():
                fresh_first = self._fresh_first[channel.index] = not self._fresh_first[channel.index]
                first, second = (self.fresh, self.jobs) if fresh_first else (self.jobs, self.fresh)
                if not (first.start_next(channel) or second.start_next(channel)):
                    break

    def settle(self) -> None:
        """Make durable what this turn did, then tell the others."""
        self.jobs.settle()
        self.fresh.settle()
        self.preprocessor.settle()
        self.ending.settle()
        self.common.lines.flush()
        for channel in self.common.channels:
            if channel.up:
                self._write(channel)
        self.surroundings.write()

    # New messages

    def found(self, number: int) -> None:
        """Take up a message that lies in todo/."""
        if self._fast:
            self._read(number, found=True)
        else:
            self.preprocessor.preprocess(number)

    def noticed(self, packet: bytes) -> None:
        """Take a notice of the queue daemon."""
        if packet[:1] != b"n":
            self.scan.want()
            return
        head, _nul, data = packet.partition(b"\0")
        number, size = head[1:].split(b" ")
        if data:
            self._take(int(number), int(size), data, found=False)
        else:
            self._read(int(number), found=False)

    def _read(self, number: int, found: bool) -> None:
        """Take up a message whose todo file has to be read."""
        path = self.common.layout.todo(number)
        try:
            with open(path, "rb", buffering=0, opener=never_waiting) as file:
                data = file.read(TODO_BYTES_MAX + 1) or b""
            size = os.stat(self.common.layout.mess(number)).st_size
        except FileNotFoundError:
            return  # It went away since somebody saw it.
        except OSError:
            self.common.warn("unable to open", path)
            return
        self._take(number, size, data, found)

    def _take(self, number: int, size: int, data: bytes, found: bool) -> None:
        """Take up a message whose todo file says `data`, unless it is known already."""
        self.inventory.met(number)
        if self.common.leaving or self.preprocessor.knows(number) or self.fresh.is_known(number, found):
            return
        if len(data) <= TODO_BYTES_MAX:
            try:
                todo = parse_todo(data)
            except ProtocolError:
                self.common.log(log.new_message(number))
                self.common.warn("unknown record type in", self.common.layout.todo(number))
                return
            if self.fresh.take(number, size, todo, found):
                return
        self.preprocessor.preprocess(number)

    # Deliverers

    def attach(self, channel: Channel) -> None:
        """Listen to a deliverer that was just connected."""
        self.selector.register(channel.reader, selectors.EVENT_READ, lambda _events: self._reports(channel))

    def _reports(self, channel: Channel) -> None:
        if channel.reader < 0:
            return  # it was given up in this turn
        was_up = channel.up
        reports = channel.read()
        if reports is None:
            self.lost(channel)
            return
        if channel.up and not was_up:
            self.common.log_status()
        for delivery, text in reports:
            self.common.report(delivery, text)

    def _write(self, channel: Channel) -> None:
        """Send the orders of this turn; what the deliverer does not take now goes out when it does."""
        try:
            all_written = channel.write()
        except OSError:
            self.lost(channel)
            return
        blocked = channel.writer in self._blocked
        if all_written and blocked:
            self._blocked.discard(channel.writer)
            self.selector.unregister(channel.writer)
        elif not all_written and not blocked:
            self._blocked.add(channel.writer)
            # Waking up is enough: every turn writes.
            self.selector.register(channel.writer, selectors.EVENT_WRITE, lambda _events: None)

    def lost(self, channel: Channel) -> None:
        """A deliverer is gone: nobody will report what it had in hand, so it was not done."""
        self.selector.unregister(channel.reader)
        if channel.writer in self._blocked:
            self._blocked.discard(channel.writer)
            self.selector.unregister(channel.writer)
        deliveries = channel.disconnect()
        report = self.surroundings.lost(channel)
        if report is not None:
            for delivery in deliveries:
                self.common.report(delivery, report)

    # Signals

    def all_now(self) -> None:
        """ALRM: try everything again: deliveries, what failed for a reason of the system, and what nobody told of."""
        self.jobs.all_now()
        self.scan.want()
        self.retry_failures()

    def retry_failures(self) -> None:
        """Try again what failed for a reason of the system, which is over."""
        self.ending.all_now()
        self.fresh.all_now()

    def stop(self) -> None:
        """TERM: begin nothing more."""
        if not self.common.leaving:
            self.common.leaving = True
            self.fresh.leave()

    def reread(self, controls: ControlFiles) -> None:
        """HUP: read again what may change while we run."""
        try:
            settings = reread(self.common.settings, controls)
        except ConfigError as error:
            name = os.path.basename(error.file)
            self.common.log(log.alert(f"unable to reread control/{name}"))
            return
        self.common.use(settings)
        self.renew_plugins()

    def renew_plugins(self) -> None:
        """Go on with the plugins that the site names now; with the old ones, and say why, where these cannot be used."""
        try:
            plan = self.common.new_plan()
        except (ConfigError, TemporaryFailure) as error:
            self.common.log(log.alert(f"{error}; plugins go on as they were"))
            return
        stop_plan(self.common.plan)
        self.common.plan = plan

    @property
    def may_leave(self) -> bool:
        """TERM came, nothing is in flight and nothing half done."""
        parts = (self.jobs, self.fresh, self.preprocessor, self.ending)
        return self.common.leaving and not any(c.used for c in self.common.channels) and all(p.settled for p in parts)

    def leave(self) -> None:
        """Write the schedule down; the last line."""
        self.jobs.save()
        self.common.log(log.leaving())
        self.common.lines.flush()
