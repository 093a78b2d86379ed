"""A scheduler over a real queue directory, with a clock that the test moves and deliverers that the test answers for."""

from __future__ import annotations

import os
import selectors
import socket
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from pluq import log
from pluq.config import Home, current_ids
from pluq.mail.bounce import Postmaster
from pluq.queue import cleaner
from pluq.queue.layout import QueueLayout
from pluq.queue.reader import numbers, split_numbers
from pluq.queue.records import Todo, encode_todo
from pluq.send.channel import Channel
from pluq.send.common import Common
from pluq.send.rewrite import Routing
from pluq.send.scheduler import Scheduler
from pluq.send.settings import Settings
from pluq.supervisor.hier import make_home
from pluq.wire import spawn

# Later than the real time: what a crash leaves has the kernel's time, which must not lie ahead.
BIRTH = 4_000_000_000
LIMIT = 1000


class FakeClock:
    def __init__(self):
        self.now = float(BIRTH)

    def __call__(self):
        return self.now


class FakeRemover:
    """The queue's owner: removes at once, or when the test says so."""

    recycles = True

    def __init__(self, layout):
        self.layout = layout
        self.held = None
        self.questions = []

    def remove_todo(self, number, answered):
        if self.held is not None:
            self.held.append((number, answered))
            return
        cleaner.remove_todo(self.layout, number)
        answered(number, True)

    def ask(self, answered):
        if self.held is None:
            answered()
        else:
            self.questions.append(answered)

    def remove_message(self, number):
        assert not os.path.exists(self.layout.info(number)), "the envelope goes before its message"
        cleaner.remove_todo(self.layout, number)
        cleaner.remove_message(self.layout, number)

    def remove_stale(self, number):
        self.remove_message(number)


class FakeInjector:
    """Takes bounces; refuses them while `refusing`."""

    def __init__(self):
        self.busy = False
        self.refusing = False
        self.bounces = []

    def inject(self, source, queued):
        text = b"".join(source.chunks())
        bounce = source.bounce
        source.close()
        if self.refusing:
            queued(None)
            return
        self.bounces.append((bounce.sender, bounce.recipient, text))
        queued(100 + len(self.bounces))


class FakeDeliverer:
    """The other end of a channel. `answer` gives the report for a recipient, None to keep the delivery open."""

    def __init__(self, channel, width=2, limit=LIMIT):
        ours, self.sock = socket.socketpair()
        self.width = width
        self.sock.setblocking(False)
        self.sock.send(spawn.encode_limit(limit, width))
        reader = ours.detach()
        channel.connect(reader, os.dup(reader))
        self._decoder = spawn.CommandDecoder(width)
        self.orders = []
        self.open = []
        self.answer: Callable[[bytes], bytes | None] = lambda recipient: b"Kok"

    def work(self):
        """Take orders, answer them."""
        try:
            data = self.sock.recv(1 << 20)
        except BlockingIOError:
            data = b""
        for order in self._decoder.feed(data):
            self.orders.append(order)
            self.open.append(order)
        still_open, reports = [], []
        for order in self.open:
            report = self.answer(order.recipient)
            if report is None:
                still_open.append(order)
            else:
                reports.append(spawn.encode_report(order.number, report, self.width))
        self.open = still_open
        if reports:
            self.sock.send(b"".join(reports))

    def report(self, order, report):
        self.open.remove(order)
        self.sock.send(spawn.encode_report(order.number, report, self.width))

    @property
    def recipients(self):
        return [order.recipient for order in self.orders]


class NoSurroundings:
    def work(self):
        pass

    def wake_at(self):
        return None

    def lost(self, channel: Channel):
        return b"Zlost\n"

    def write(self):
        pass

    def clock_set_back(self):
        pass


def default_settings(**changes):
    values = {
        "lifetime": 604800,
        "concurrency": (10, 20),
        "postmaster": Postmaster(b"MAILER-DAEMON", b"here.example", b"postmaster@here.example"),
        "routing": Routing([b"here.example"], [b"virt.example:joe-virt"]),
    }
    return Settings(**{**values, **changes})


@dataclass
class Rig:
    """One scheduler and everything around it."""

    home: Home
    log_path: str
    fast: bool = True
    settings: Settings = field(default_factory=default_settings)
    clock: FakeClock = field(default_factory=FakeClock)

    def __post_init__(self):
        self.layout = QueueLayout(self.home.queue)
        self.selector = selectors.DefaultSelector()
        self.injector = FakeInjector()
        self.remover = FakeRemover(self.layout)
        self.start()

    def start(self):
        """Start a scheduler; again, for a second life."""
        self.log_fd = os.open(self.log_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        common = Common(self.layout, log.LineWriter(self.log_fd), self.settings, 2)
        self.scheduler = Scheduler(common, self.remover, self.injector, self.selector, self.clock, self.fast)
        self.scheduler.surroundings = NoSurroundings()
        self.local, self.remote = (FakeDeliverer(channel) for channel in common.channels)
        for channel in common.channels:
            self.scheduler.attach(channel)
        self.scheduler.inventory.load()
        self.scheduler.turn(0)

    def restart(self):
        """Go on as a new process would, after the old one was killed."""
        self.close()
        self.selector = selectors.DefaultSelector()
        self.start()

    def close(self):
        self.selector.close()
        os.close(self.log_fd)
        for channel, deliverer in zip(self.scheduler.common.channels, (self.local, self.remote), strict=True):
            deliverer.sock.close()
            if channel.reader >= 0:
                channel.disconnect()

    def turns(self, count=8):
        """Run some turns without moving the clock."""
        for _ in range(count):
            self.scheduler.turn(0)
            self.local.work()
            self.remote.work()

    def sleep_until_due(self):
        """Move the clock to when something is due, and deal with it."""
        wake_at = self.scheduler.wake_at()
        assert wake_at is not None, "nothing will ever happen"
        self.clock.now = max(self.clock.now, float(wake_at))
        self.turns()

    def sleep(self, seconds):
        """Move the clock, doing on the way what is due."""
        end = self.clock.now + seconds
        while (wake_at := self.scheduler.wake_at()) is not None and wake_at <= end:
            self.sleep_until_due()
        self.clock.now = end
        self.turns()

    def queue(self, *recipients, sender=b"sender@there.example", body=b"Subject: test\n\nbody\n", pid=77):
        """Put a message into todo/, as qmail-queue does; returns its number."""
        path = f"{self.layout.path}/pid/new"
        with open(path, "wb") as file:
            file.write(body)
            number = os.fstat(file.fileno()).st_ino
        os.rename(path, self.layout.mess(number))
        with open(self.layout.intd(number), "wb") as file:
            file.write(encode_todo(Todo(1000, pid, sender, recipients)))
        os.link(self.layout.intd(number), self.layout.todo(number))
        return number

    def notice(self, number):
        """Tell the scheduler of a message, as the queue daemon does."""
        with open(self.layout.todo(number), "rb") as file:
            todo = file.read()
        size = os.stat(self.layout.mess(number)).st_size
        self.scheduler.noticed(b"n%d %d\0%b" % (number, size, todo))

    def send(self, *recipients, **options):
        """Queue a message and tell of it."""
        number = self.queue(*recipients, **options)
        self.notice(number)
        return number

    @property
    def lines(self):
        with open(self.log_path, "rb") as file:
            return file.read().decode().splitlines()

    @property
    def events(self):
        """The log without the status lines."""
        return [line for line in self.lines if not line.startswith("status:")]

    def files(self, number):
        """Which of a message's files exist."""
        layout = self.layout
        paths = {
            kind: getattr(layout, kind)(number)
            for kind in ("mess", "intd", "todo", "info", "local", "remote", "bounce")
        }
        return {kind for kind, path in paths.items() if os.path.exists(path)}

    def read(self, kind, number):
        with open(getattr(self.layout, kind)(number), "rb") as file:
            return file.read()

    def queue_is_empty(self):
        kinds = ("mess", "info", "local", "remote")
        flat = ("todo", "intd", "bounce")
        return not any([*split_numbers(self.layout, kind)] for kind in kinds) and not any(
            numbers(f"{self.layout.path}/{kind}") for kind in flat
        )


@pytest.fixture
def send_home(tmp_path):
    home = Home(str(tmp_path / "home"))
    make_home(home, current_ids())
    os.makedirs(home.run, exist_ok=True)
    return home


@pytest.fixture
def make_rig(send_home, tmp_path):
    """`make_rig(fast=..., settings=...)` starts a scheduler over the test's queue."""
    made = []

    def make(**options):
        made.append(Rig(send_home, str(tmp_path / "log"), **options))
        return made[-1]

    yield make
    for rig in made:
        rig.close()


@pytest.fixture
def rig(make_rig):
    """A resident scheduler: the fast path is on."""
    return make_rig()


@pytest.fixture
def classic_rig(make_rig):
    """A scheduler that preprocesses everything, as stock qmail-send."""
    return make_rig(fast=False)
