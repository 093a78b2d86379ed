"""qmail-lspawn: takes orders from the scheduler, finds out whose mail it is, and has that user's worker deliver it.

    scheduler --order--> open the message, look the user up --job, file--> worker of the user
              <-report--                                    <-answer-----

It runs as root, and does nothing as root but open message files, ask users/cdb and become users. One loop, no threads: everything
that may block is a worker's. What waits at one moment is read, sent on and reported together.

Nothing here survives a crash, and need not: an order without a report is given again.

Source: qmail-lspawn(8); spawn.c, qmail-lspawn.c.
"""

from __future__ import annotations

import contextlib
import gc
import os
import select
import selectors
import signal
import socket
import stat
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from pluq.config.home import Home, Ids
from pluq.errors import ConfigError
from pluq.local.deliver import Surroundings
from pluq.local.disks import Disks, SharedDisks
from pluq.local.lookup import Accounts, only_account
from pluq.local.order import Order
from pluq.local.packets import PACKET_BYTES, Answer, encode_delivery, encode_lookup
from pluq.local.plugins import site_choices
from pluq.local.pool import Identity, Pool, Worker, fork_as
from pluq.local.report import BUG, CDB, DONE, ROOT, SYSTEM, report
from pluq.local.syncer import Syncer
from pluq.local.worker import Deliverer, Lookup, preload
from pluq.store.users import Account, parse_account
from pluq.wire.spawn import Command, CommandDecoder, complaint, encode_limit, encode_report

READ_BYTES = 1 << 16
BACKLOG_BYTES = 1 << 20
"""Reports that a scheduler does not read; one that lets so many pile up has gone mad, and is hung up on."""
DRAIN_SECONDS = 1.0
"""After TERM, how long deliveries may take before their programs are ended. The scheduler has stopped before us."""
IN_USE = b"ZInternal error: delnum in use. (#4.3.5)\n"
NO_MEMORY = b"Zqmail-spawn out of memory. (#4.3.0)\n"
LOOKUPS = tuple(f"lookup {number}" for number in range(4))
"""Those who ask the password file: one that waits for a directory server must not stop all mail."""
MESSAGE = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC


class Settings(NamedTuple):
    """How this qmail-lspawn works. `default` is the delivery instruction for users without one.

    `local_program` and `lookup_program` take the place of our own code, as qmail-local and qmail-getpw.
    """

    home: Home
    ids: Ids
    default: Callable[[], bytes]
    around: Surroundings
    local_program: str | None = None
    lookup_program: str | None = None


@dataclass
class Link:
    """One scheduler. `reader` and `writer` are the same descriptor for a socket. `blocked`: it takes no more reports now."""

    reader: int
    writer: int
    width: int
    limit: int
    decoder: CommandDecoder
    busy: set[int] = field(default_factory=set)
    out: bytearray = field(default_factory=bytearray)
    reading: bool = True
    writing: bool = True
    blocked: bool = False
    sock: socket.socket | None = None


@dataclass(slots=True)
class Job:
    """One delivery in progress, `slot` on its link; `file` is its open message until a worker has it, then -1."""

    link: Link
    slot: int
    sender: bytes
    local: bytes
    host: bytes
    file: int


class Lspawn:
    """The loop. Links are added with `add_link` or accepted from a listening socket."""

    def __init__(self, settings: Settings, selector: selectors.BaseSelector, width: int, limit: int) -> None:
        preload(settings.home)
        self.settings = settings
        self._single = settings.ids.single
        self._queue_uid = settings.ids.uid["qmailq"]
        self.selector = selector
        self.width = width
        self.limit = limit
        self.default = settings.default()
        self.accounts = Accounts(settings.home)
        self.pool = Pool(self._serve, self._identity, self._watch_worker, self._answered, kept=self._kept)
        self._door: socket.socket | None = None
        self.folder = os.open(f"{settings.home.queue}/mess", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self.stopping = False
        self._links: list[Link] = []
        self._jobs: dict[int, Job] = {}
        self._ended: list[Job] = []
        self._number = 0
        self._listener: socket.socket | None = None

    # -- the scheduler's side

    def listen(self, sock: socket.socket) -> None:
        """Accept schedulers on this socket."""
        sock.setblocking(False)
        self._listener = sock
        self.selector.register(sock, selectors.EVENT_READ, self._accept)

    def _accept(self, _: int) -> None:
        assert self._listener is not None
        try:
            sock, _address = self._listener.accept()
        except OSError:
            return
        sock.setblocking(False)
        self.add_link(sock.fileno(), sock.fileno(), sock)

    def add_link(self, reader: int, writer: int, sock: socket.socket | None = None) -> None:
        """Serve a scheduler on these descriptors; greet it first."""
        link = Link(reader, writer, self.width, self.limit, CommandDecoder(self.width), sock=sock)
        link.out += encode_limit(self.limit, self.width)
        self._links.append(link)
        self.selector.register(reader, selectors.EVENT_READ, lambda _: self._read(link))
        self._flush(link)

    def _read(self, link: Link) -> None:
        if link.out:
            # The scheduler may use a number again as soon as it has the report, which is before the end of this turn.
            self._free_numbers()
            self._flush(link)
        try:
            data = os.read(link.reader, READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._end_of(link)
            return
        self.accounts.refresh()
        for command in link.decoder.feed(data):
            self._order(link, command)

    def _end_of(self, link: Link) -> None:
        """The scheduler says no more; a socket is gone altogether, a pair of pipes still takes reports."""
        link.reading = False
        self.selector.unregister(link.reader)
        if link.sock is not None:
            link.writing = False
            link.sock.close()
            self._links.remove(link)

    def _order(self, link: Link, command: Command) -> None:
        """Begin one delivery, or report at once why not."""
        number = command.number
        text = IN_USE if number in link.busy and not command.cut else complaint(command, link.limit)
        file = -1
        if text is None:
            file, text = self._open_message(command.message)
        if text is not None:
            self._report(link, number, text)
            return
        link.busy.add(number)
        local, _, host = command.recipient.rpartition(b"@")
        self._number += 1
        job = self._jobs[self._number] = Job(link, number, command.sender, local, host, file)
        self._look_up(self._number, job)

    def _open_message(self, name: bytes) -> tuple[int, bytes | None]:
        """Return the open message, or -1 and what is wrong with it."""
        try:
            file = os.open(name, MESSAGE, dir_fd=self.folder)
        except OSError:
            return -1, b"Zqmail-spawn unable to open message. (#4.3.0)\n"
        status = os.fstat(file)
        if not stat.S_ISREG(status.st_mode):
            text = b"ZSorry, message has wrong type. (#4.3.5)\n"
        elif status.st_uid != self._queue_uid:
            text = b"ZSorry, message has wrong owner. (#4.3.5)\n"
        else:
            return file, None
        os.close(file)
        return -1, text

    def _report(self, link: Link, number: int, text: bytes) -> None:
        if link.writing:
            link.out += encode_report(number, text, link.width)

    def _flush(self, link: Link) -> None:
        """Write what can be written; a scheduler that does not listen gets no more."""
        while link.out and link.writing:
            try:
                del link.out[: os.write(link.writer, link.out)]
            except BlockingIOError:
                if len(link.out) > BACKLOG_BYTES:
                    self._hang_up(link)
                self._watch_link(link, True)
                return
            except OSError:
                self._hang_up(link)
        self._watch_link(link, False)

    @staticmethod
    def _hang_up(link: Link) -> None:
        """Reports do not reach the scheduler any more. It must know, or it would wait for them for ever: end the connection."""
        link.writing = False
        if link.sock is not None:
            with contextlib.suppress(OSError):
                link.sock.shutdown(socket.SHUT_RDWR)

    def _watch_link(self, link: Link, blocked: bool) -> None:
        """Ask the selector to tell when a socket takes reports again, or no more."""
        if blocked is not link.blocked and link.sock is not None and link.reading:
            link.blocked = blocked
            events = selectors.EVENT_READ | (selectors.EVENT_WRITE if blocked else 0)
            self.selector.modify(link.reader, events, lambda _: self._read(link))

    # -- finding the user

    def _look_up(self, number: int, job: Job) -> None:
        local = job.local
        if not local:
            self._finish(number, DONE, b"")
            return
        try:
            account = self.accounts.assigned(local)
        except ConfigError:
            self._finish(number, CDB, b"")
            return
        except ValueError:
            self._finish(number, BUG, b"")
            return
        if self._single:
            account = account or only_account(self.settings.home, local)
        account = account or self.accounts.remembered(local)
        if account is not None:
            self._deliver(number, job, account)
        else:
            self._give(min(LOOKUPS, key=self.pool.load), number, encode_lookup(number, local))

    def _found(self, job: Job, answer: Answer) -> None:
        """The password file has spoken."""
        if answer.code != DONE:
            self._finish(answer.job, answer.code, b"")
            return
        try:
            account = parse_account(bytes.fromhex(answer.output.decode("ascii")))
        except ValueError:
            self._finish(answer.job, BUG, b"")
            return
        self.accounts.remember(job.local, account)
        self._deliver(answer.job, job, account)

    # -- the workers' side

    def _deliver(self, number: int, job: Job, account: Account) -> None:
        user, uid, gid, home, dash, ext = account
        if not uid and not self._single:
            self._finish(number, ROOT, b"")
            return
        order = Order(user, home, job.local, dash, ext, job.host, job.sender, self.default)
        packet = encode_delivery(number, order)
        if len(packet) > PACKET_BYTES:
            self._finish(number, DONE, b"", NO_MEMORY)
            return
        file, job.file = job.file, -1
        self._give((0, 0) if self._single else (uid, gid), number, packet, file)

    def _give(self, key: Hashable, number: int, packet: bytes, file: int = -1) -> None:
        try:
            self.pool.give(key, number, packet, file)
        except OSError:  # no process, no memory, no descriptor
            if file >= 0:
                os.close(file)
            self._finish(number, SYSTEM, b"")

    def _answered(self, answer: Answer) -> None:
        job = self._jobs.get(answer.job)
        if job is None:
            return
        if job.file >= 0 and answer.code >= 0:
            self._found(job, answer)
        else:
            self._finish(answer.job, answer.code, answer.output)

    def _finish(self, number: int, code: int, output: bytes, text: bytes | None = None) -> None:
        job = self._jobs.pop(number)
        if job.file >= 0:
            os.close(job.file)
        self._ended.append(job)
        self._report(job.link, job.slot, report(code, output) if text is None else text)

    def _serve(self, key: Hashable, sock: socket.socket) -> None:
        """In a worker: be what the key says."""
        home, around = self.settings.home, self.settings.around
        if key in LOOKUPS:
            Lookup(sock, around, self.settings.lookup_program).serve()
            return
        if self.settings.local_program is not None:
            os.chdir(home.path)
        disks = SharedDisks(self._door) if self._door is not None else Disks()
        Deliverer(sock, replace(around, **site_choices(home)), self.settings.local_program, disks).serve()

    def _kept(self, key: Hashable) -> list[int]:
        """Return what a new worker keeps open: the door of the syncer, which must live. One user needs none."""
        if key in LOOKUPS or self.settings.ids.single:
            return []
        if self._door is None or is_hung_up(self._door):
            self._door, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            with far:
                fork_as(self._identity(LOOKUPS[0]), [far.fileno()], lambda: Syncer(far).serve())
        return [self._door.fileno()]

    def _identity(self, key: Hashable) -> Identity:
        ids = self.settings.ids
        if ids.single:
            return Identity(None, 0)
        if key in LOOKUPS:
            return Identity(ids.uid["qmailp"], ids.gid["nofiles"])
        assert isinstance(key, tuple)
        return Identity(*key)

    def _watch_worker(self, worker: Worker, writing: bool | None) -> None:
        known = worker.sock.fileno() in self.selector.get_map()
        if writing is None:
            if known:
                self.selector.unregister(worker.sock)
            return
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if writing else 0)
        if not known:
            self.selector.register(worker.sock, events, lambda ready: self._worker_ready(worker, ready))
        elif self.selector.get_key(worker.sock).events != events:
            self.selector.modify(worker.sock, events, lambda ready: self._worker_ready(worker, ready))

    def _worker_ready(self, worker: Worker, ready: int) -> None:
        if ready & selectors.EVENT_WRITE:
            self.pool.send(worker)
        if ready & selectors.EVENT_READ:
            self.pool.hear(worker)

    # -- the loop

    def reload(self) -> None:
        """Read settings again, ask everything again, and let workers with old ones finish."""
        self.default = self.settings.default()
        self.accounts.forget()
        self.pool.retire_all()

    def run(self, signals: Callable[[], set[int]] = set) -> None:
        """Serve until TERM, or until the last of the given descriptors has ended and everything is reported."""
        gc.collect()
        gc.freeze()  # what workers share stays shared: no collector touches it
        deadline = None
        while not self._done():
            timeout = self.pool.expire()
            for key, ready in self.selector.select(timeout if deadline is None else deadline - time.monotonic()):
                key.data(ready)
            self._act_on(signals())
            self.pool.flush()
            self._send_reports()
            if self.stopping and deadline is None:
                deadline = time.monotonic() + DRAIN_SECONDS
            if deadline is not None and time.monotonic() >= deadline:
                break
        self.pool.close()

    def _send_reports(self) -> None:
        """Send what has been reported; only now the numbers are free again."""
        self._free_numbers()
        for link in self._links:
            if link.out:
                self._flush(link)

    def _free_numbers(self) -> None:
        for job in self._ended:
            job.link.busy.discard(job.slot)
        self._ended.clear()

    def _act_on(self, caught: set[int]) -> None:
        if signal.SIGHUP in caught:
            self.reload()
        if signal.SIGTERM in caught and not self.stopping:
            self.stopping = True
            if self._listener is not None:
                self.selector.unregister(self._listener)
            for link in self._links:
                if link.reading:
                    self.selector.unregister(link.reader)
                    link.reading = False

    def _done(self) -> bool:
        if self._jobs or any(link.reading for link in self._links):
            return False
        return self.stopping or self._listener is None


def is_hung_up(sock: socket.socket) -> bool:
    """Say whether nobody holds the other end of a socket pair."""
    poll = select.poll()
    poll.register(sock, 0)
    return bool(poll.poll(0))
