"""qmail-send as a program: the descriptors that qmail-start gives it, stock programs at their other ends or ours.

    0    the log               1, 2   orders to and reports from qmail-lspawn
    5, 6 qmail-clean           3, 4   the same with qmail-rspawn

Every message is preprocessed before it is tried, as qmail does. A deliverer or qmail-clean that dies ends the program as soon as
what is in flight elsewhere has ended.

Source: qmail-send(8); main, comm_init, spawndied and cleandied in qmail-send.c.
"""

from __future__ import annotations

import os
import selectors
import time
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING

from pluq import log
from pluq.config.watching import form_of_log
from pluq.queue.layout import QueueLayout
from pluq.send.bounces import WaitingInjector
from pluq.send.channel import Channel
from pluq.send.common import Common
from pluq.send.plugins import load_plan
from pluq.send.remover import CleanPipes
from pluq.send.scheduler import Scheduler
from pluq.send.signals import Signals
from pluq.send.startup import CannotStartError, enter_queue, lock_queue, start_plugins
from pluq.store.control import ControlFiles

if TYPE_CHECKING:
    from pluq.config import Home

LOG, CLEAN_WRITER, CLEAN_READER = 0, 5, 6
DELIVERERS = ((1, 2), (3, 4))
WIDTH = 1
CANNOT_START = 111


class Pipes:
    """The surroundings of a scheduler between pipes: nothing can be connected again."""

    def __init__(self, scheduler: Scheduler, signals: Signals, controls: ControlFiles) -> None:
        self._scheduler = scheduler
        self._signals = signals
        self._controls = controls

    def work(self) -> None:
        self._signals.apply(self._scheduler, self._controls)

    def wake_at(self) -> float | None:
        return None

    def lost(self, channel: Channel) -> bytes | None:
        self._scheduler.common.log(log.alert("oh no! lost spawn connection! dying..."))
        self._scheduler.stop()
        return None

    def write(self) -> None:
        """Requests to qmail-clean do not wait."""

    def clock_set_back(self) -> None:
        """There are no pauses."""


def run(home: Home, environment: Mapping[str, str]) -> int:
    """Run until TERM or the death of another program; returns the exit code."""
    log.use(form_of_log(home))
    log.be("send")
    lines = log.LineWriter(LOG)
    try:
        scheduler = start(home, environment, lines)
    except CannotStartError as error:
        lines.write(log.alert(f"cannot start: {error}"))
        lines.flush()
        return CANNOT_START
    scheduler.inventory.load()
    scheduler.common.log_status()
    lines.flush()
    while not scheduler.may_leave:
        scheduler.turn()
    scheduler.leave()
    return 0


def start(home: Home, environment: Mapping[str, str], lines: log.LineWriter) -> Scheduler:
    """Check everything and connect. Raises CannotStartError."""
    settings = enter_queue(home)
    selector = selectors.DefaultSelector()
    signals = Signals(selector)
    lock_queue(home)
    common = Common(QueueLayout(home.queue), lines, settings, WIDTH)
    limits = [first_byte(reader) for _writer, reader in DELIVERERS]

    def warn(text: str) -> None:
        common.log(log.warning(text))

    common.plan, common.new_plan = start_plugins(home, warn), partial(load_plan, home, warn)

    def cleaner_lost() -> None:
        common.log(log.alert("oh no! lost qmail-clean connection! dying..."))
        scheduler.stop()

    remover = CleanPipes(CLEAN_WRITER, CLEAN_READER, warn, cleaner_lost)
    injector = WaitingInjector(home, environment, warn)
    scheduler = Scheduler(common, remover, injector, selector, time.time, fast=False)
    scheduler.surroundings = Pipes(scheduler, signals, home.controls)
    for channel, (writer, reader), limit in zip(common.channels, DELIVERERS, limits, strict=True):
        channel.connect(reader, writer, limit)
        scheduler.attach(channel)
    return scheduler


def first_byte(reader: int) -> bytes:
    """Return the greeting of a deliverer. Raises CannotStartError when it is gone already."""
    try:
        greeting = os.read(reader, WIDTH)
    except OSError:
        greeting = b""
    if not greeting:
        raise CannotStartError("hath the daemon spawn no fire?")
    return greeting
