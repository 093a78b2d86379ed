"""The scheduler as a role beside pluq's own daemons.

    run/todo     the queue daemon: new messages as they come, and who removes what is done
    run/lspawn   local deliveries   two-byte delivery numbers: more than 255 at once
    run/rspawn   remote deliveries
    run/qmqp     bounces
    run/send     orders of the administrator; whoever wants to follow the log

A connection that breaks is made again, with growing pauses: 0.1 s up to 10 s. What a lost deliverer had in hand is deferred; a
lost queue daemon is asked again for what it did not answer, and todo/ is looked through.

TERM waits for deliveries in flight, but only a few seconds: what has not reported by then is deferred, and may be delivered twice.
"""

from __future__ import annotations

import gc
import os
import selectors
import socket
import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from pluq import log
from pluq.queue.layout import QueueLayout
from pluq.queue.plugins import current_plan, envelope_of
from pluq.send import figures
from pluq.send.channel import Channel
from pluq.send.common import Common
from pluq.send.control import Control
from pluq.send.plugins import load_plan
from pluq.send.remover import DaemonLink
from pluq.send.scheduler import Clock, Scheduler
from pluq.send.signals import Signals
from pluq.send.startup import CannotStartError, enter_queue, lock_queue, start_plugins
from pluq.send.submission import DaemonInjector
from pluq.store import unix

if TYPE_CHECKING:
    from pluq.config import Home

WIDTH = 2
CANNOT_START = 111
FIRST_PAUSE_SECONDS = 0.1
MOST_PAUSE_SECONDS = 10.0
DRAIN_SECONDS = 5.0
"""The supervisor kills a role that takes 8 seconds to leave."""
LAST_SECONDS = 1.5
"""After that, how long the queue daemon may take to answer."""
LOST_REPORT = b"ZThe delivery agent went away; I'll try again later. (#4.3.0)\n"
GC_THRESHOLD = 50_000


class Retry:
    """When a connection may be tried again."""

    def __init__(self) -> None:
        self._pause = FIRST_PAUSE_SECONDS
        self.at = 0.0

    def failed(self, now: float) -> None:
        self.at = now + self._pause
        self._pause = min(self._pause * 2, MOST_PAUSE_SECONDS)

    def succeeded(self) -> None:
        self._pause = FIRST_PAUSE_SECONDS


class Paths(NamedTuple):
    """Where the others listen."""

    todo: str
    deliverers: tuple[str, str]


class Sockets:
    """The surroundings of a resident scheduler."""

    def __init__(
        self,
        scheduler: Scheduler,
        link: DaemonLink,
        paths: Paths,
        clock: Clock,
        obey: Callable[[Scheduler], None],
    ) -> None:
        self._scheduler = scheduler
        self._common = scheduler.common
        self._link = link
        self._paths = paths
        self._clock = clock
        self._obey = obey
        self.control: Control | None = None
        self._link_retry = Retry()
        self._link_blocked = False
        self._channel_retries = (Retry(), Retry())
        self._drain_until: float | None = None

    # Connections

    def work(self) -> None:
        self._obey(self._scheduler)
        now = self._clock()
        if self._common.leaving:
            self._drain(now)
            return
        if not self._link.connected and self._link_retry.at <= now:
            self._connect_link(now)
        for channel, retry in zip(self._common.channels, self._channel_retries, strict=True):
            if channel.reader < 0 and retry.at <= now:
                self._connect_channel(channel, retry, now)

    def wake_at(self) -> float | None:
        if self._drain_until is not None:
            over = self._clock() >= self._drain_until
            return self._drain_until + LAST_SECONDS if over else self._drain_until
        if self._common.leaving:
            return 0.0
        times = [] if self._link.connected else [self._link_retry.at]
        for channel, retry in zip(self._common.channels, self._channel_retries, strict=True):
            if channel.reader < 0:
                times.append(retry.at)
        return min(times, default=None)

    def _connect_link(self, now: float) -> None:
        try:
            sock = unix.connect(self._paths.todo, socket.SOCK_SEQPACKET, 0.0)
        except OSError:
            self._link_retry.failed(now)
            return
        self._link_retry.succeeded()
        self._scheduler.fresh.reconnected(self._link.connect(sock))
        self._scheduler.selector.register(self._link, selectors.EVENT_READ, self._notices)
        self._scheduler.scan.hold()
        self._link.ask(self._scheduler.scan.release)
        # Bounces and files that the daemon's absence kept back need not wait for two minutes.
        self._scheduler.retry_failures()

    def _connect_channel(self, channel: Channel, retry: Retry, now: float) -> None:
        try:
            sock = unix.connect(self._paths.deliverers[channel.index], socket.SOCK_STREAM, 0.0)
        except OSError:
            retry.failed(now)
            return
        reader = sock.detach()
        channel.connect(reader, os.dup(reader))
        self._scheduler.attach(channel)

    def lost(self, channel: Channel) -> bytes | None:
        retry = self._channel_retries[channel.index]
        if channel.limit:
            retry.succeeded()
            self._common.log(log.warning(b"lost connection to the " + channel.name + b" deliverer"))
        retry.failed(self._clock())
        return LOST_REPORT

    # The queue daemon

    def _notices(self, _events: int) -> None:
        if not self._link.read(self._scheduler.noticed):
            self._lost_link()

    def _lost_link(self) -> None:
        self._scheduler.selector.unregister(self._link)
        self._link.disconnect()
        self._link_blocked = False
        self._link_retry.failed(self._clock())
        self._scheduler.scan.release()  # the daemon that could have known more is gone
        if not self._common.leaving:
            self._common.log(log.warning("lost connection to the queue daemon"))

    def write(self) -> None:
        """Answer the administrator; send requests to the daemon: those that it does not take now go out when it does."""
        if self.control is not None:
            self.control.write()
        try:
            all_written = self._link.write()
        except OSError:
            self._lost_link()
            return
        if all_written is self._link_blocked:
            self._link_blocked = not all_written
            events = selectors.EVENT_READ if all_written else selectors.EVENT_READ | selectors.EVENT_WRITE
            self._scheduler.selector.modify(self._link, events, self._notices)

    def clock_set_back(self) -> None:
        now = self._clock()
        for retry in (self._link_retry, *self._channel_retries):
            retry.at = min(retry.at, now)
        if self._drain_until is not None:
            self._drain_until = min(self._drain_until, now + DRAIN_SECONDS)

    # The end

    def _drain(self, now: float) -> None:
        if self._drain_until is None:
            self._drain_until = now + DRAIN_SECONDS
        elif now >= self._drain_until:
            for channel in self._common.channels:
                if channel.used:
                    self._scheduler.lost(channel)

    @property
    def may_leave(self) -> bool:
        """Everything is done and told, or there was time enough for it."""
        if self._drain_until is None:
            return False
        told = self._link.idle or not self._link.connected
        return (told and self._scheduler.may_leave) or self._clock() >= self._drain_until + LAST_SECONDS


def run(
    home: Home,
    todo_path: str,
    lspawn_path: str,
    rspawn_path: str,
    log_fd: int,
    control: socket.socket | None = None,
) -> int:
    """Run until TERM; returns the exit code. `control` listens for the administrator's orders."""
    lines = log.LineWriter(log_fd)

    def warn(text: str) -> None:
        lines.write(log.warning(text))

    try:
        settings = enter_queue(home)
        lock = lock_queue(home)
        plan = start_plugins(home, warn)
    except CannotStartError as error:
        lines.write(log.alert(f"cannot start: {error}: {error.detail}"))
        lines.flush()
        return CANNOT_START
    common = Common(QueueLayout(home.queue), lines, settings, WIDTH)
    common.plan, common.new_plan = plan, partial(load_plan, home, warn)
    selector = selectors.DefaultSelector()
    figures.count()
    signals = Signals(selector)
    link = DaemonLink(warn)
    injector = DaemonInjector(
        selector, f"{home.run}/qmqp", warn, lambda *envelope: envelope_of(current_plan(home), *envelope)
    )
    scheduler = Scheduler(common, link, injector, selector, time.time, fast=True)
    paths = Paths(todo_path, (lspawn_path, rspawn_path))
    sockets = Sockets(scheduler, link, paths, time.time, lambda scheduler: signals.apply(scheduler, home.controls))
    scheduler.surroundings = sockets
    scheduler.inventory.load()
    if control is not None:
        sockets.control = Control(scheduler, control)
    gc.collect()
    gc.freeze()
    gc.set_threshold(GC_THRESHOLD)
    while not sockets.may_leave:
        scheduler.turn()
    scheduler.leave()
    os.close(lock)
    return 0
