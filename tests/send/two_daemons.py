"""A machine on which the real scheduler and the real queue daemon work together, one step at a time, in one thread.

    scheduler   Scheduler, Sockets, DaemonLink, DaemonInjector      run/todo, run/qmqp (bounces)
    daemon      Daemon with Committer, TodoLink, Pool, Journal      over real files and real sockets
    deliverers  of the test; they read a message when they take an order, and report when the history says so

Each call by which one side changes or syncs a file is a place where the other side may be given a turn (as the kernel would), where the
side may be killed, and where the disk may fail. Killed means: what it had open is closed, and nothing else of it is done. The clock stands
still unless the history moves it. Nothing waits for a disk; what a power cut leaves is for tests/queue/test_crash_states.py.

Each message has senders, recipients and a text of its own, so that whoever gets another's is seen at once.
"""

from __future__ import annotations

import contextlib
import gc
import os
import re
import selectors
import socket
from dataclasses import dataclass, field

import pytest
from tests.send.conftest import BIRTH, default_settings

from pluq import log
from pluq.config import Home
from pluq.queue import committer as committer_module
from pluq.queue import daemon as daemon_module
from pluq.queue import groupsync, qmqp_server
from pluq.queue import journal as journal_module
from pluq.queue import pool as pool_module
from pluq.queue.daemon import Daemon
from pluq.queue.entering import Commit
from pluq.queue.journal import JournalError
from pluq.queue.layout import QueueLayout
from pluq.queue.pool import Owner
from pluq.queue.records import Todo, encode_todo
from pluq.queue.writer import pull_trigger
from pluq.send import fresh, loop, remover, scan
from pluq.send.common import Common
from pluq.send.loop import Paths, Sockets
from pluq.send.remover import DaemonLink
from pluq.send.scheduler import Scheduler
from pluq.send.submission import DaemonInjector
from pluq.store import unix
from pluq.wire import spawn

SPLIT = 2
TRACE = bool(os.environ.get("PLUQ_TRACE"))
LARGE = 3000
DAY = 86400.0
CHANNELS = ("lspawn", "rspawn")
DOMAINS = (b"here.example", b"there.example")
NOTE = re.compile(rb"^<r([0-9]+)-([0-9]+)@[a-z.]+>:$", re.MULTILINE)
CHANGES = ("open", "link", "unlink", "rename", "pwrite", "pwritev", "ftruncate", "utime")
SYNCS = ("fsync", "fdatasync")
FOLDERS = (
    "todo",
    "intd",
    "bounce",
    "pid",
    *(f"{kind}/{part}" for kind in ("mess", "info", "local", "remote") for part in range(SPLIT)),
)


def identity_of(fd):
    found = os.fstat(fd)
    return found.st_dev, found.st_ino


class Killed(BaseException):
    """kill -9 before a call."""


class Polling(selectors.DefaultSelector):
    """A selector that never waits: time is the test's."""

    def select(self, timeout=None):
        return super().select(0)

    def has_events(self):
        return bool(super().select(0))


@dataclass
class Message:
    """One message and what became of it. `code` is what its submitter heard, None for nothing; `life` the daemon that had it."""

    ident: int
    recipients: list[bytes]
    text: bytes
    life: int
    code: int | None = None
    tried: set[int] = field(default_factory=set)
    ended: dict[int, int] = field(default_factory=dict)
    """How often each recipient got it, or its sender a bounce for it."""


class Checkpoint:
    """One that is over when the history says so."""

    def __init__(self):
        self.over = False

    def done(self):
        return self.over

    def result(self):
        self.over = True


class Thread:
    def __init__(self, *_arguments):
        self.checkpoint = None

    def submit(self, *_arguments):
        self.checkpoint = Checkpoint()
        return self.checkpoint

    def shutdown(self):
        pass


class Deliverer:
    """The other end of a channel: one connection at a time, orders in hand."""

    def __init__(self, machine, index):
        self.machine = machine
        self.listener = machine.listen(CHANNELS[index], socket.SOCK_STREAM)
        self.sock = None
        self.orders = []

    def accept(self):
        with contextlib.suppress(BlockingIOError):
            sock = self.listener.accept()[0]
            self.lose()
            self.sock = sock
            self.sock.setblocking(False)
            self.sock.send(spawn.encode_limit(100, 2))
            self.decoder = spawn.CommandDecoder(2)

    def take(self, most=1 << 16):
        """Take orders, and look at their messages at once."""
        self.accept()
        if self.sock is None:
            return
        try:
            data = self.sock.recv(most)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.lose()
            return
        for order in self.decoder.feed(data):
            self.orders.append((order, *self.machine.look_at(order)))

    def lose(self):
        if self.sock is not None:
            self.sock.close()
        self.sock, self.orders = None, []

    def report(self, which, outcome):
        """Report one order."""
        if not self.orders:
            return
        order, message, text = self.orders.pop(which % len(self.orders))
        if text is None:
            outcome = b"Z"
        elif outcome == b"D" and order.recipient[:1] == b"s":
            outcome = b"K"
        if outcome == b"K":
            self.machine.delivered(order, message, text)
        with contextlib.suppress(OSError):
            self.sock.send(spawn.encode_report(order.number, outcome + b"so it is\n", 2))

    def report_all(self):
        self.take()
        while self.orders:
            self.report(0, b"K")

    def close(self):
        self.lose()
        self.listener.close()


class Machine:
    """Both daemons over one queue. `dice` decides what happens inside of a turn."""

    def __init__(self, folder, dice):
        self.dice = dice
        self.home = Home(folder)
        if not os.path.exists(folder + "/queue"):
            self.make_queue()
        self.wall, self.steady = float(BIRTH), 1000.0
        self.side = None
        self.nested = 0.0
        self.kill_in = {"send": 0, "queue": 0}
        self.dying = set()
        self.failing = {}
        self.opened = {}
        self.messages = []
        self.faults = set()
        self.is_set_back = False
        self.life = 0
        self.trace = []
        self.may_fail = False
        with open(f"{folder}/log", "wb"):
            self.log_fd = os.open(f"{folder}/log", os.O_WRONLY | os.O_APPEND)
        self.layout = QueueLayout(self.home.queue)
        self.listeners = [
            self.listen(name, kind)
            for name, kind in (
                ("qmqp", socket.SOCK_STREAM),
                ("lease", socket.SOCK_SEQPACKET),
                ("todo", socket.SOCK_SEQPACKET),
            )
        ]
        self.deliverers = [Deliverer(self, index) for index in range(2)]
        self.scheduler = self.daemon = None
        self.selector = Polling()

    def make_queue(self):
        os.makedirs(self.home.run)
        for folder in ("pool", "lock", *FOLDERS):
            os.makedirs(f"{self.home.queue}/{folder}")
        os.mkfifo(f"{self.home.queue}/lock/trigger")

    def listen(self, name, kind):
        sock = socket.socket(socket.AF_UNIX, kind)
        sock.bind(f"{self.home.run}/{name}")
        sock.listen(50)
        sock.setblocking(False)
        return sock

    # What happens at a call

    def before(self, name):
        """The current side is about to change or sync something."""
        side = self.side
        if side in self.dying:
            raise Killed
        if self.kill_in[side]:
            self.kill_in[side] -= 1
            if not self.kill_in[side]:
                self.dying.add(side)
                raise Killed
        if self.nested and self.dice.random() < self.nested:
            nested, self.nested = self.nested, 0.0
            for _ in range(self.dice.randrange(1, 4)):
                self.something_else(side)
            self.nested = nested
        if self.failing.get(name):
            self.failing[name] -= 1
            self.faults.add("disk")
            raise OSError(5, f"{name} fails")

    def something_else(self, side):
        """What others do while a side is inside of a call."""
        what = self.dice.randrange(4)
        if what == 3 and side == "queue" and self.scheduler is not None:
            self.scheduler.scan.want()
            for _ in range(3):
                self.turn_send()
                for deliverer in self.deliverers:
                    deliverer.report_all()
        elif what == 0:
            self.dice.choice(self.deliverers).take()
        elif what == 1:
            self.dice.choice(self.deliverers).report(self.dice.randrange(99), b"K")
        elif side == "send":
            self.turn_queue()
        else:
            self.turn_send()

    # The two sides

    def run(self, side, work):
        """Let a side work; a dead one is buried."""
        outer, self.side = self.side, side
        try:
            return work()
        except Killed:
            pass
        except (JournalError, OSError):
            # A daemon that is told of a disk error ends; so does one that cannot start. The supervisor starts the next one.
            if "disk" not in self.faults or not (side == "queue" or work == self._start_send):
                raise
        finally:
            self.side = outer
        # Not before the exception has let go of what it went through.
        self.side = None
        self.bury(side)
        self.side = outer
        return None

    def turn_send(self):
        if self.scheduler is not None:
            self.run("send", self._turn_send)

    def _turn_send(self):
        self.scheduler.turn(0)
        if self.sockets.may_leave:
            self.scheduler.leave()
            self.side = None
            self.close_send()
            self.reap("send")

    def turn_queue(self):
        if self.daemon is not None:
            self.run("queue", self._turn_queue)

    def _turn_queue(self):
        self.daemon._turn()
        self.leave_if_finished()

    def leave_if_finished(self):
        if self.daemon._is_finished():
            self.daemon._close()
            self.daemon = None
            self.side = None
            self.reap("queue")

    def start_send(self):
        if self.scheduler is None:
            self.run("send", self._start_send)

    def _start_send(self):
        common = Common(self.layout, log.LineWriter(self.log_fd), default_settings(concurrency=(3, 3)), 2)

        def warn(text):
            common.log(log.warning(text))

        self.selector.close()
        self.selector = Polling()
        self.link = DaemonLink(warn)
        self.injector = Injector(self.selector, f"{self.home.run}/qmqp", warn)
        self.scheduler = scheduler = Scheduler(
            common, self.link, self.injector, self.selector, lambda: self.wall, fast=True
        )
        paths = Paths(f"{self.home.run}/todo", tuple(f"{self.home.run}/{name}" for name in CHANNELS))
        self.sockets = scheduler.surroundings = Sockets(
            scheduler, self.link, paths, lambda: self.wall, lambda scheduler: None
        )
        scheduler.inventory.load()

    def start_queue(self):
        if self.daemon is None:
            self.life += 1
            self.run("queue", self._start_queue)

    def _start_queue(self):
        self.worker = Owner()
        self.daemon = daemon = Daemon.__new__(Daemon)
        daemon.__init__(self.home, *self.listeners)
        for listener, accept in daemon._listeners.items():
            daemon._selector.register(
                listener, selectors.EVENT_READ, lambda mask, one=listener, do=accept: daemon._accept_all(one, do, mask)
            )

    def bury(self, side):
        """Close what a dead side had open."""
        self.faults.add("kill")
        self.dying.discard(side)
        if side == "send":
            self.close_send()
            if self.is_set_back:
                self.faults.add("ahead")  # lists may lie on disk that were to be tried at times of the former clock
        else:
            self.close_queue()
        gc.collect()
        self.reap(side)

    def reap(self, side):
        """Close the files that a side has open that is no more."""
        for fd in self.files_of(side):
            os.close(fd)

    def files_of(self, side):
        """Return the descriptors of the files that a side has open."""
        found = []
        for fd, (owner, identity) in list(self.opened.items()):
            try:
                is_open = identity_of(fd) == identity
            except OSError:
                is_open = False
            if not is_open:
                del self.opened[fd]
            elif owner == side:
                found.append(fd)
        return found

    def close_send(self):
        scheduler, self.scheduler = self.scheduler, None
        for deliverer in self.deliverers:
            deliverer.take()  # it hears of the end when it has read what was sent before
        if scheduler is None:
            self.selector.close()
            return
        if scheduler.scan._walk is not None:
            scheduler.scan._walk.close()
        self.link.disconnect()
        for channel in scheduler.common.channels:
            if channel.reader >= 0:
                channel.disconnect()
        self.injector.close()
        for part in scheduler.jobs._passes:
            if part is not None:
                part[1].close()
        self.selector.close()

    def close_queue(self):
        daemon, self.daemon = self.daemon, None
        if not hasattr(daemon, "_selector"):
            return
        for session in daemon._sessions:
            session.sock.close()
        if daemon._link is not None:
            daemon._link.sock.close()
        daemon._selector.close()

    # Messages

    def enter(self, count, size, channels):
        """Hand a message to the daemon, as a worker does."""
        if self.daemon is None:
            return
        message = self.new_message(count, size, channels)
        slot = self.run("queue", self._lease)
        if slot is None:
            return
        os.pwrite(slot.mess_fd, message.text, 0)
        envelope = (
            b"F" + self.sender(message) + b"\0" + b"".join(b"T%b\0" % each for each in message.recipients) + b"\0"
        )

        def answer(code):
            assert message.code is None, "answered twice"
            message.code = code

        self.daemon._committer.add(Commit(slot, len(message.text), 1, 2, envelope, answer))

    def _lease(self):
        with contextlib.suppress(OSError):
            return self.daemon._lease(self.worker)

    def enter_directly(self, count, channels):
        """Queue a message as qmail-queue does by itself."""
        message = self.new_message(count, 100, channels)
        path = f"{self.home.queue}/pid/new"
        with open(path, "wb") as file:
            file.write(message.text)
            number = os.fstat(file.fileno()).st_ino
        os.rename(path, self.layout.mess(number))
        with open(self.layout.intd(number), "wb") as file:
            file.write(encode_todo(Todo(1, 2, self.sender(message), message.recipients)))
        os.link(self.layout.intd(number), self.layout.todo(number))
        pull_trigger(self.layout)
        message.code = 0

    def new_message(self, count, size, channels):
        ident = len(self.messages)
        recipients = [b"r%d-%d@%b" % (ident, index, DOMAINS[channels >> index & 1]) for index in range(count)]
        text = b"Subject: %d\n\n" % ident + b"text of %d " % ident * (size // 10 + 1) + b"\n"
        message = Message(ident, recipients, text, self.life)
        self.messages.append(message)
        return message

    @staticmethod
    def sender(message):
        return b"s%d@here.example" % message.ident

    def look_at(self, order):
        """Return the message that a recipient is one of, and the bytes that he would get, None where there are none."""
        found = re.match(rb"[rs]([0-9]+)", order.recipient)
        message = self.messages[int(found[1])]
        if order.recipient[:1] == b"r":
            message.tried.add(message.recipients.index(order.recipient))
        try:
            with open(f"{self.home.queue}/mess/{order.message.decode()}", "rb") as file:
                text = file.read()
        except FileNotFoundError:
            assert self.faults, "an order for a message that is not there"
            return message, None
        assert text.endswith(message.text), "the recipients of one message, the bytes of another"
        is_bounce = text != message.text
        assert is_bounce is (order.recipient[:1] == b"s")
        return message, text

    def delivered(self, order, message, text):
        if order.recipient[:1] == b"r":
            done = [message.recipients.index(order.recipient)]
        else:
            done = [int(index) for ident, index in NOTE.findall(text) if int(ident) == message.ident]
        for index in done:
            message.ended[index] = message.ended.get(index, 0) + 1

    # Time

    def later(self, seconds):
        self.wall += seconds
        self.steady += seconds

    def settle(self):
        """Go on until nobody has anything to do now, as both would by themselves."""
        for _ in range(3000):
            acted = False
            if self.is_send_due():
                self.turn_send()
                acted = True
            if self.is_queue_due():
                self.turn_queue()
                acted = True
            for deliverer in self.deliverers:
                deliverer.accept()
                if deliverer.sock is not None or deliverer.orders:
                    before = len(deliverer.orders)
                    deliverer.take()
                    acted = acted or len(deliverer.orders) != before
                while deliverer.orders:
                    deliverer.report(0, b"K")
                    acted = True
            if not acted:
                return
        raise AssertionError("somebody never rests")

    def is_send_due(self):
        if self.scheduler is None:
            return False
        wake_at = self.scheduler.wake_at()
        return self.selector.has_events() or (wake_at is not None and wake_at <= self.wall)

    def is_queue_due(self):
        if self.daemon is None:
            return False
        return self.daemon._selector.has_events() or self.queue_waits() <= 0

    def queue_waits(self):
        waits = [self.daemon._committer.wait_seconds(), self.daemon._next_sweep - self.steady]
        return min(wait for wait in waits if wait is not None)

    def sleep(self, seconds):
        """Let time pass, from one due thing to the next."""
        end = self.wall + seconds
        self.settle()
        while self.wall < end:
            step = end - self.wall
            if (wake_at := self.scheduler.wake_at()) is not None:
                step = min(step, wake_at - self.wall)
            step = min(step, max(self.queue_waits(), 0.01) if self.is_queue_busy() else step)
            self.later(max(step, 0.001))
            self.end_checkpoint()
            self.settle()

    def is_queue_busy(self):
        """The daemon's sweeps and checkpoints are not worth a step each."""
        committer = self.daemon._committer
        return bool(committer._pending or committer._leaving or committer._finished)

    def end_checkpoint(self):
        if self.daemon is not None and self.daemon._committer._journal is not None:
            checkpoint = self.daemon._committer._journal._checkpoint
            if checkpoint is not None:
                checkpoint.over = True

    def is_up(self):
        """Both sides run, and nobody told them to stop."""
        up = self.scheduler is not None and self.daemon is not None
        return up and not self.scheduler.common.leaving and self.daemon._stop_at == float("inf")

    # The end

    def left(self):
        """Return the names that are left in the queue."""
        return [f"{folder}/{name}" for folder in FOLDERS for name in os.listdir(f"{self.home.queue}/{folder}")]

    def is_excused(self, name):
        """Files of a refused message may be left where taking it back failed, too, or met qmail-send in the middle of its work."""
        if "disk" not in self.faults:
            return False
        number = int(os.path.basename(name))
        if os.path.exists(f"{self.layout.pool}/m{number}"):
            return True  # the next daemon takes it for nobody's
        try:
            with open(self.layout.mess(number), "rb") as file:
                return self.messages[int(file.readline().split()[1])].code != 0
        except FileNotFoundError:
            return name.startswith("todo/")

    def close(self):
        for sock in self.listeners:
            sock.close()
        for deliverer in self.deliverers:
            deliverer.close()
        os.close(self.log_fd)
        for name in os.listdir(self.home.run):
            os.unlink(f"{self.home.run}/{name}")
        for name in self.left():
            os.unlink(f"{self.home.queue}/{name}")  # an excused one is not the next history's


class Injector(DaemonInjector):
    """Knows what it is sending, for the case that it dies."""

    def __init__(self, selector, path, warn):
        super().__init__(selector, path, warn)
        self.sources = []

    def inject(self, source, queued):
        self.sources.append(source)
        super().inject(source, queued)

    def close(self):
        for key in list(self._selector.get_map().values()):
            if isinstance(key.fileobj, socket.socket):
                key.fileobj.close()
        for source in self.sources:
            source.close()


class Watch:
    """Leads the calls of both sides through `before` of the machine of the moment."""

    def __init__(self):
        self.machine = None
        self.patch = patch = pytest.MonkeyPatch()
        for name in CHANGES:
            patch.setattr(os, name, self.watched(name, getattr(os, name)))
        for name in SYNCS:
            patch.setattr(os, name, self.watched(name, lambda fd: None))
        for module in (daemon_module, committer_module, journal_module, qmqp_server):
            patch.setattr(module, "monotonic", lambda: self.machine.steady)
        patch.setattr(qmqp_server, "time", lambda: self.machine.wall)
        patch.setattr(groupsync, "perf_counter", lambda: 0.0)
        patch.setattr(groupsync, "syncfs", self.watched("syncfs", lambda fd: None))
        patch.setattr(journal_module, "syncfs", lambda fd: None)
        patch.setattr("pluq.send.syncing.syncfs", self.watched("syncfs", lambda fd: None))
        patch.setattr(journal_module, "ThreadPoolExecutor", Thread)
        patch.setattr(daemon_module.selectors, "DefaultSelector", Polling)
        patch.setattr(daemon_module, "pull_trigger", pull_trigger)
        patch.setattr(os, "sched_yield", lambda: None)
        patch.setattr(loop, "unix", self)

    def __enter__(self):
        gc.collect()
        gc.freeze()  # whoever is killed leaves circles behind: only they need to be looked at
        return self

    def __exit__(self, *_error):
        self.machine = None
        gc.unfreeze()
        self.patch.undo()

    def watched(self, name, call):
        def work(*arguments, **options):
            machine = self.machine
            if machine is None or machine.side is None:
                return call(*arguments, **options)
            machine.before(name)
            side = machine.side
            if TRACE:
                machine.trace.append(f"    {side} {name} {arguments!s:.150}")
            result = call(*arguments, **options)
            if name == "open":
                machine.opened[result] = side, identity_of(result)
            return result

        return work

    def connect(self, path, kind, timeout):
        """Have sockets that are soon full."""
        sock = unix.connect(path, kind, timeout)
        if kind == socket.SOCK_SEQPACKET:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, daemon_module.SOCKET_BUFFER)
        return sock

    def use(self, dice):
        """Have limits that a short history reaches, sometimes."""
        for module, name, values in (
            (remover, "NOTICES_A_TURN", (2, 5, 256)),
            (scan, "NAMES_A_TURN", (1, 3, 100)),
            (fresh, "RECIPIENTS_MAX", (1, 2, 16)),
            (fresh, "WAITING_MAX", (1, 4, 10_000)),
            (daemon_module, "SOCKET_BUFFER", (2304, 5000, 1 << 20)),
            (daemon_module, "MAX_HOT", (1, 6, 512)),
            (committer_module, "FLOW_COUNT", (3, 256)),
            (committer_module, "LEAVE_COUNT", (1, 4, 256)),
            (committer_module, "GROUP_BYTES", (3000, 8 << 20)),
            (committer_module, "IDENTS", (2, 1000)),
            (journal_module, "SEGMENT_BYTES", (8 * 4096, 1 << 20)),
            (journal_module, "STEP_BYTES", (4096,)),
            (committer_module, "RECYCLE_BYTES", (LARGE - 1000,)),
            (pool_module, "RECYCLE_BYTES", (LARGE - 1000,)),
        ):
            self.patch.setattr(module, name, dice.choice(values))
