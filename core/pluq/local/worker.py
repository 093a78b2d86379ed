"""A worker: the process that delivers for one user, or looks users up.

It is forked from qmail-lspawn, becomes its user for good, closes every descriptor but its socket, and only then looks at a job. It
takes all jobs that wait as one batch. Those that put a message into a Maildir and do nothing else share their waiting for the disk
(group.py). Everything else (programs, forwards, mboxes with their locks) runs in a thread of its own, one a delivery, so that no program holds up
a mailbox. When the socket ends, the worker finishes; programs that go on are ended after a grace.

A crash at any point leaves at most files in tmp/ and messages in new/ that were not reported and come again: no mail is lost. Other
processes of the user may kill the worker (its deliveries are then put off), but not look into it: the kernel forbids that to a
process that changed its user.

Source: qmail-local(8), qmail-lspawn(8); docs/internals.md, "Local delivery".
"""

from __future__ import annotations

import importlib
import os
import signal
import socket
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from mmap import mmap

from pluq.config.home import Home
from pluq.errors import PermanentFailure, TemporaryFailure
from pluq.local import plugins
from pluq.local.deliver import Prepared, Preparer, Surroundings, follow, only_maildir
from pluq.local.disks import Disks
from pluq.local.group import Group
from pluq.local.order import Order
from pluq.local.output import Captured, Output, Programs
from pluq.local.packets import (
    DO_NOT_WAIT,
    PACKET_BYTES,
    Answer,
    decode_deliveries,
    decode_lookups,
    encode_answer,
    receive,
)
from pluq.local.program import spawn
from pluq.local.report import (
    DONE,
    EXEC_GETPW,
    EXEC_HARD,
    EXEC_SOFT,
    NFS,
    NO_ALIAS,
    PERMANENT,
    REPORT_BYTES,
    SYSTEM,
    TEMPORARY,
)
from pluq.store.oserror import is_temporary

GRACE_SECONDS = 0.5
"""How long programs have to end between TERM and KILL, once the worker must end: the supervisor waits two seconds for all."""
MOST_FILES = 128
"""Messages in one batch, more or less: each is an open file, and so is its copy."""
THREAD_STACK_BYTES = 1 << 20
"""The usual 8 MiB would exhaust a limit on address space with a hundred programs at once."""
DELIVERED_TO_MAILDIR = b"did 1+0+0\n"

Job = tuple[int, Order, int]
"""Job number, order, the open message."""


PRELOADED = (
    "concurrent.futures.thread",
    "ctypes",
    "linecache",
    "pluq.queue.submit",
    "pluq.store.unix",
    "pwd",
    "tempfile",
)
"""What deliveries import when they first need it. A worker may have lost the right to read it, and all share the memory."""


def preload(home: Home) -> None:
    """Import, in qmail-lspawn, what its workers will need; nothing of a plugin, which is the user's to run."""
    for name in PRELOADED + (plugins.PRELOADED if plugins.are_possible(home) else ()):
        importlib.import_module(name)


def packets(sock: socket.socket) -> Iterable[list[tuple[bytes, list[int]]]]:
    """Yield what waits on the socket, up to MOST_FILES at a time, until its other end is closed."""
    buffer = mmap(-1, PACKET_BYTES)  # a page of it becomes memory when a packet needs it
    while True:
        packet = receive(sock, buffer)
        batch = []
        files = 0
        while packet[0]:
            batch.append(packet)
            files += len(packet[1])
            if files >= MOST_FILES:
                break
            try:
                packet = receive(sock, buffer, DO_NOT_WAIT)
            except BlockingIOError:
                break
        if batch:
            yield batch
        if not packet[0]:
            return


class Deliverer:
    """Delivers for the user that this process is. `program` is run for each delivery in the place of our own qmail-local."""

    def __init__(self, sock: socket.socket, around: Surroundings, program: str | None, disks: Disks) -> None:
        self.sock = sock
        self.around = around
        self.program = program
        self.programs = Programs()
        self.disks = disks
        self._threads: set[threading.Thread] = set()
        self._stopped = threading.Event()

    def serve(self) -> None:
        """Deliver until the socket ends."""
        threading.stack_size(THREAD_STACK_BYTES)
        for batch in packets(self.sock):
            jobs: list[Job] = []
            for packet, files in batch:
                jobs += [
                    (job, order, file) for (job, order), file in zip(decode_deliveries(packet), files, strict=True)
                ]
            self._deliver(jobs)
        self._finish()
        self.disks.close()

    def _deliver(self, jobs: Sequence[Job]) -> None:
        if self.program is not None:
            for job in jobs:
                self._in_thread(self._run_program, job)
            return
        answers: list[Answer] = []
        group = Group(
            self.disks,
            lambda number: answers.append(Answer(number, DONE, DELIVERED_TO_MAILDIR)),
            lambda number, failure: answers.append(failed(number, failure)),
            self.around.sized_names,
        )
        preparer = Preparer()
        for job in jobs:
            self._begin(job, group, preparer)
        preparer.close()
        group.commit()
        self._answer(answers)

    def _begin(self, job: Job, group: Group, preparer: Preparer) -> None:
        """Put a delivery into the group if it can be, begin it in a thread otherwise."""
        number, order, message = job
        try:
            ready = preparer.prepare(order, message)
            path = only_maildir(ready.instructions) if self.around.plan.local_deliver is None else None
            if path is None:
                preparer.hand_over()
                self._in_thread(self._follow, job, ready._replace(start=None))
                return
            group.add(number, path, ready)
        except (TemporaryFailure, PermanentFailure) as failure:
            group.failed(number, failure)
        os.close(message)

    def _in_thread(self, work: Callable[..., Answer], job: Job, *more: object) -> None:
        """Do the work in a thread and answer; it owns the message."""

        def run() -> None:
            try:
                answer = work(job, *more)
            except Exception:  # a fault of ours: shown, and the mail is kept
                traceback.print_exc()
                answer = Answer(job[0], SYSTEM, b"")
            os.close(job[2])
            try:
                self._answer([answer])
            except OSError:
                pass  # the socket has ended: nobody waits for the answer
            self._threads.discard(thread)

        thread = threading.Thread(target=run, daemon=True)
        self._threads.add(thread)
        try:
            thread.start()
        except RuntimeError:  # no more threads for this user
            self._threads.discard(thread)
            os.close(job[2])
            self._answer([Answer(job[0], SYSTEM, b"")])

    def _follow(self, job: Job, ready: Prepared) -> Answer:
        output = Output()
        around = replace(self.around, runner=Captured(self.programs, ready.folder, output))
        try:
            report = follow(ready, around)
        except (TemporaryFailure, PermanentFailure) as failure:
            return failed(job[0], failure, output.finish())
        finally:
            os.close(ready.folder)
        return Answer(job[0], DONE, output.finish() + report)

    def _run_program(self, job: Job) -> Answer:
        """Run qmail-local, or what takes its place, as a program."""
        assert self.program is not None
        number, order, message = job
        output = Output()
        home = os.open(self.around.home.path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        environment = {os.fsencode(name): os.fsencode(value) for name, value in self.around.environment.items()}
        argv = (self.program.encode(), b"--", *order)
        try:
            code = Captured(self.programs, home, output).run(self.program, argv, environment, message)
        except OSError as error:
            return Answer(number, EXEC_SOFT if is_temporary(error.errno) else EXEC_HARD, b"")
        finally:
            os.close(home)
        return Answer(number, code, output.finish())

    def _answer(self, answers: Sequence[Answer]) -> None:
        """Send answers. Threads send too: a packet is whole or not at all."""
        for packet in joined([encode_answer(answer) for answer in answers]):
            self.sock.send(packet)

    def _finish(self) -> None:
        """End the programs that still run and wait for the deliveries they belong to, for a while."""
        for signum in (signal.SIGTERM, signal.SIGKILL):
            if not self._threads:
                return
            self.programs.end(signum)
            deadline = time.monotonic() + GRACE_SECONDS
            for thread in list(self._threads):
                thread.join(max(0.0, deadline - time.monotonic()))


class Lookup:
    """Answers which account controls a local part, by the password file, or by the program qmail-getpw."""

    def __init__(self, sock: socket.socket, around: Surroundings, program: str | None = None) -> None:
        self.sock = sock
        self.around = around
        self.program = program

    def serve(self) -> None:
        """Answer until the socket ends."""
        if self.program is not None:
            os.chdir(self.around.home.path)
        ask = self._ask_database if self.program is None else self._ask_program
        for batch in packets(self.sock):
            answers = []
            for packet, _ in batch:
                for number, local in decode_lookups(packet):
                    code, record = ask(local)
                    answers.append(encode_answer(Answer(number, code, record.hex().encode())))
            for packet in joined(answers):
                self.sock.send(packet)

    def _ask_database(self, local: bytes) -> tuple[int, bytes]:
        from pluq.store.passwd import NFS as NFS_TEXT
        from pluq.store.passwd import find_account
        from pluq.store.users import encode_account

        try:
            account = find_account(local)
        except TemporaryFailure as failure:
            return NFS if failure.text == NFS_TEXT else SYSTEM, b""
        return (DONE, encode_account(account)) if account else (NO_ALIAS, b"")

    def _ask_program(self, local: bytes) -> tuple[int, bytes]:
        assert self.program is not None
        environment = {os.fsencode(name): os.fsencode(value) for name, value in self.around.environment.items()}
        reader, writer = os.pipe2(os.O_CLOEXEC)
        with open(reader, "rb") as answer:
            try:
                argv = (self.program.encode(), local)
                pid = spawn(self.program, argv, environment, {1: writer})
            except OSError:
                return EXEC_GETPW, b""
            finally:
                os.close(writer)
            record = answer.read(PACKET_BYTES // 4)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        return (SYSTEM if code < 0 else code), record


def failed(number: int, failure: TemporaryFailure | PermanentFailure, output: bytes = b"") -> Answer:
    """Return the answer for a failed delivery: what programs said, then our reason, where we have one."""
    text = f"{failure.text}\n".encode("utf-8", "surrogateescape") if failure.text else b""
    code = PERMANENT if isinstance(failure, PermanentFailure) else TEMPORARY
    return Answer(number, code, (output + text)[: REPORT_BYTES + 1])


def joined(pieces: Sequence[bytes], limit: int = PACKET_BYTES) -> Iterable[bytes]:
    """Yield the pieces in packets of at most `limit` bytes."""
    packet: list[bytes] = []
    size = 0
    for piece in pieces:
        if size + len(piece) > limit and packet:
            yield b"".join(packet)
            packet, size = [], 0
        packet.append(piece)
        size += len(piece)
    if packet:
        yield b"".join(packet)
