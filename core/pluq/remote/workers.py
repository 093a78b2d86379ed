"""The resident deliverer: what qmail-rspawn and all its qmail-remotes do, in one process on an event loop.

The scheduler connects to run/rspawn. It hears the limit first, then sends commands and gets reports, in the spawn protocol with
numbers of two bytes. Each command becomes a job of the `Deliverer`; the report is the one that qmail-rspawn would make of
qmail-remote's records. With QMAILREMOTE set, that program is run for each delivery instead.

TERM: no more commands are taken, what is being delivered is finished and reported, kept connections say goodbye. HUP: control
files and plugins are read again (control files also by themselves, within a second); a plugin list that cannot be compiled
leaves the old one in force. If this process dies, the scheduler defers what it had not heard of, and messages whose final dot
was sent may come twice, as with qmail-remote.

Source: qmail-rspawn(8); docs/configuration.md, "Who runs plugins".
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import os
import resource
import signal
import socket
import time
from asyncio.subprocess import PIPE, STDOUT
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, cast

from pluq import pulse
from pluq.config import Home
from pluq.dns import Resolver
from pluq.errors import ConfigError, TemporaryFailure
from pluq.execvp import in_shell
from pluq.log import say
from pluq.plan import EMPTY
from pluq.remote import report
from pluq.remote.deliver import Deliverer, Job
from pluq.remote.letter import Letter
from pluq.remote.plugins import load_plan
from pluq.remote.pool import Pool
from pluq.remote.queued import open_queued
from pluq.remote.settings import CurrentSettings
from pluq.remote.spawner import IN_USE, MAX_OUTPUT, READ_BYTES, remote_arguments
from pluq.remote.tcpto import TcpTo, clear
from pluq.store.oserror import is_temporary
from pluq.wire.spawn import Command, CommandDecoder, complaint, encode_limit, encode_report

WIDTH = 2

# Two descriptors a delivery (connection and message), and some for the rest; two bytes hold no more than 65535.
DESCRIPTORS_PER_DELIVERY = 2
OTHER_DESCRIPTORS = 50
MOST_DELIVERIES = 65535

# Deliveries make few cycles; looking for them at every 700 new objects costs more than they hold.
GC_THRESHOLD = 50_000


def run(home: Home, listening: socket.socket) -> None:
    """Deliver until TERM."""
    try:
        import uvloop

        factory: Callable[[], asyncio.AbstractEventLoop] | None = uvloop.new_event_loop
    except ImportError:
        factory = None
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(serve(home, listening))


async def serve(home: Home, listening: socket.socket) -> None:
    """Deliver until TERM, on the running loop."""
    await Workers(home).serve(listening)


def delivery_limit() -> int:
    """Return how many deliveries this process can have at once: as many as its descriptors allow, all of which it takes."""
    wanted = MOST_DELIVERIES * DESCRIPTORS_PER_DELIVERY + OTHER_DESCRIPTORS
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    soft = wanted if hard == resource.RLIM_INFINITY else min(hard, wanted)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return max(1, (soft - OTHER_DESCRIPTORS) // DESCRIPTORS_PER_DELIVERY)


def log(line: str) -> None:
    """Write one line to standard error, where the supervisor's lines go."""
    say("rspawn", line)


class Workers:
    """The process: what deliveries share, and the connections from the scheduler."""

    def __init__(self, home: Home) -> None:
        self.owner = home.ids().uid["qmailq"]
        self.directory = os.fsencode(home.queue + "/mess/")
        self.program = os.environ.get("QMAILREMOTE")
        self.limit = delivery_limit()
        self.links: set[Link] = set()
        self._home = home
        self._resolver: Resolver | None = None
        self._stopping = asyncio.Event()
        self._tasks: set[asyncio.Task[Any]] = set()
        tcpto = f"{home.queue}/lock/tcpto"
        with contextlib.suppress(OSError):  # as in qmail: advice that cannot be written is no reason to stop
            clear(tcpto)
        settings = CurrentSettings(home.controls, time.monotonic)
        self.pool = Pool()
        self.deliverer = Deliverer(settings.get, self.resolver, TcpTo(tcpto), EMPTY, self.pool)

    def resolver(self) -> Resolver:
        """Return the resolver of this process: the one that plugins ask too, where there are any."""
        if self.deliverer.plan is not EMPTY:
            from pluq.plan.compile import process_resolver

            return process_resolver()
        if self._resolver is None:
            self._resolver = Resolver.from_system()
        return self._resolver

    async def serve(self, listening: socket.socket) -> None:
        """Serve schedulers until TERM, then finish what has begun. Raises ConfigError before it begins."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stopping.set)
        await self._take_plan()
        loop.add_signal_handler(signal.SIGHUP, lambda: self.keep(self._reload()))
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})  # the supervisor had it wait for this
        pulse.keep(loop)
        gc.freeze()
        gc.set_threshold(GC_THRESHOLD)
        listening.setblocking(False)
        loop.add_reader(listening, self._accept, listening)
        await self._stopping.wait()
        loop.remove_reader(listening)
        await asyncio.gather(*(link.drain() for link in self.links))
        self.pool.close()
        if self.deliverer.plan.stop is not None:
            await self.deliverer.plan.stop()
        if self._resolver is not None:
            await self._resolver.close()

    def keep(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        """Run a coroutine to its end; a task that nobody holds may vanish."""
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _accept(self, listening: socket.socket) -> None:
        try:
            connection, _ = listening.accept()
        except OSError:  # gone again, or no descriptor free: the scheduler comes back
            return
        self.keep(asyncio.get_running_loop().connect_accepted_socket(lambda: Link(self), connection))

    async def _take_plan(self) -> None:
        """Take the plugins that the configuration names now. Raises ConfigError, TemporaryFailure (from `start`)."""
        plan, old = load_plan(self._home, log), self.deliverer.plan
        if plan.start is not None:
            await plan.start()
        self.deliverer.plan = plan
        if old.stop is not None:
            await old.stop()

    async def _reload(self) -> None:
        try:
            await self._take_plan()
        except (ConfigError, TemporaryFailure) as error:
            log(f"{error}; the plugins stay as they were")


class Link(asyncio.Protocol):
    """One connection from a scheduler: its commands, and the reports that it gets."""

    def __init__(self, workers: Workers) -> None:
        self._workers = workers
        self._decoder = CommandDecoder(WIDTH)
        self._running: set[int] = set()
        self._transport: asyncio.Transport | None = None
        self._is_idle = asyncio.Event()
        self._is_idle.set()
        self._takes_commands = True
        self._unsaid: list[bytes] = []
        self._loop = asyncio.get_running_loop()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._workers.links.add(self)
        self._transport.write(encode_limit(self._workers.limit, WIDTH))

    def connection_lost(self, error: Exception | None) -> None:
        """The scheduler is gone. What is being delivered goes on; nobody hears of it, so it will be made again."""
        self._transport = None
        self._forget_if_done()

    def data_received(self, data: bytes) -> None:
        for command in self._decoder.feed(data):
            if self._takes_commands:
                self._take(command)

    async def drain(self) -> None:
        """Take no more commands and wait until all deliveries are reported."""
        self._takes_commands = False
        await self._is_idle.wait()
        self._say()
        if self._transport is not None:
            self._transport.close()

    def _take(self, command: Command) -> None:
        workers = self._workers
        refused = IN_USE if command.number in self._running else complaint(command, workers.limit)
        opened = refused or open_queued(workers.directory + command.message, workers.owner)
        if isinstance(opened, bytes):
            self._report(command.number, opened)
            return
        self._running.add(command.number)
        self._is_idle.clear()
        if workers.program is not None:
            workers.keep(self._run_program(workers.program, command, opened[0]))
            return
        try:
            letter = Letter.from_descriptor(*opened)
        except OSError:
            self._finish(command.number, report.CANNOT_READ)
            return
        host = command.recipient.rpartition(b"@")[2]
        message_number = int(command.message.rpartition(b"/")[2] or b"0")
        job = Job(message_number, command.sender, [command.recipient], host, letter)
        workers.deliverer.start(job, partial(self._finish_records, command.number))

    async def _run_program(self, program: str, command: Command, message: int) -> None:
        """Run QMAILREMOTE for one delivery, in the folder in which qmail-rspawn runs it."""
        arguments = remote_arguments(program, command.sender, command.recipient)
        output = bytearray()
        try:
            process = await _start_program(arguments, message, self._workers.directory)
        except OSError as error:
            self._finish(command.number, report.CANNOT_RUN_NOW if is_temporary(error.errno) else report.CANNOT_RUN)
            return
        finally:
            os.close(message)
        assert process.stdout is not None
        while piece := await process.stdout.read(READ_BYTES):
            output += piece[: MAX_OUTPUT + 1 - len(output)]
        code = await process.wait()
        status = -code if code < 0 else code << 8
        too_much = len(output) > MAX_OUTPUT
        self._finish(command.number, report.TOO_MUCH_OUTPUT if too_much else report.exit_report(status, bytes(output)))

    def _finish_records(self, number: int, records: list[bytes]) -> None:
        self._finish(number, report.final_report(records))

    def _finish(self, number: int, text: bytes) -> None:
        self._running.discard(number)
        self._report(number, text)
        if not self._running:
            self._is_idle.set()
            self._forget_if_done()

    def _report(self, number: int, text: bytes) -> None:
        """Report at the end of this turn of the loop, with whatever else has ended by then."""
        if not self._unsaid:
            self._loop.call_soon(self._say)
        self._unsaid.append(encode_report(number, text, WIDTH))

    def _say(self) -> None:
        if self._transport is not None:
            self._transport.write(b"".join(self._unsaid))
        self._unsaid.clear()

    def _forget_if_done(self) -> None:
        if self._transport is None and not self._running:
            self._workers.links.discard(self)


async def _start_program(arguments: list[bytes], message: int, directory: bytes) -> asyncio.subprocess.Process:
    """Start a program as execvp does, its output in one pipe. Raises OSError."""
    start = partial(asyncio.create_subprocess_exec, stdin=message, stdout=PIPE, stderr=STDOUT, cwd=directory)
    try:
        return await start(*arguments)
    except OSError as error:
        if error.errno != errno.ENOEXEC:
            raise
        return await start(*in_shell(arguments))
