"""How a message gets into the queue, for everybody who has one.

    LeaseSubmitter     a server's worker beside the queue daemon: writes into files that the daemon leases (lease_client.py)
    ProgramSubmitter   QMAILQUEUE, or HOME/bin/qmail-queue: one process a message
    open_submission    the same choice for programs that queue one message and know no event loop
    BlockingSubmitter  that, for a session which is written as a coroutine

A submission takes the message in pieces (LF line ends), then the envelope, and answers with a Receipt once the message is
durable, or raises QueueRefusal, whose `verdict` is qmail's text with its class D or Z.

A plugin may take a message in the place of all of them (hook queue_open): a profile asks its own, and whoever queues asks those of the
role [queue]. Else the choice: QMAILQUEUE in the connection's environment wins, as in qmail; else the daemon, if it runs and we may use it; else the program.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

from pluq.plan import EMPTY
from pluq.queue import refusal
from pluq.queue.client import DaemonSubmission
from pluq.queue.plugins import EditedSubmitter, current_plan, edited, refusing
from pluq.queue.program import ERROR_FD, QueueProgram
from pluq.queue.refusal import QueueRefusal, Receipt, explain
from pluq.queue.spool import Spool

if TYPE_CHECKING:
    from pluq.config.home import Home
    from pluq.queue.lease_client import LeaseSubmitter

__all__ = [
    "BlockingSubmitter",
    "PluginSubmitter",
    "ProgramSubmitter",
    "QueueRefusal",
    "Receipt",
    "Submission",
    "Submitter",
    "SyncSubmission",
    "choose_submitter",
    "explain",
    "open_by_plugin",
    "open_directly",
    "open_submission",
    "queue_program",
    "submit_sync",
]


class Submission(Protocol):
    """One message on its way into the queue."""

    def write(self, chunk: bytes) -> None:
        """Add message bytes, with LF line ends. Trouble shows at `commit`."""

    async def commit(self, sender: bytes, recipients: Sequence[bytes]) -> Receipt:
        """Give the envelope and wait until the message is durable. Raises QueueRefusal."""

    def abort(self) -> None:
        """Give the message up; nothing of it stays. Harmless after `commit`."""


class Submitter(Protocol):
    async def open(self) -> Submission:
        """Begin a message. Raises QueueRefusal."""


class SyncSubmission(Protocol):
    """One message on its way into the queue; every call may block."""

    def write(self, chunk: bytes) -> None: ...

    def commit(self, sender: bytes, recipients: Sequence[bytes]) -> Receipt: ...

    def abort(self) -> None: ...


def queue_program(home: Home, environment: Mapping[str, str]) -> str:
    """Return the program that queues: QMAILQUEUE (relative to the home), else the home's qmail-queue."""
    return environment.get("QMAILQUEUE") or f"{home.bin}/qmail-queue"


def open_submission(home: Home, environment: Mapping[str, str] | None = None) -> SyncSubmission:
    """Begin a message from a program that knows no event loop. Raises QueueRefusal."""
    values = os.environ if environment is None else environment
    begun = open_by_plugin(home, values)
    return open_directly(home, values) if begun is None else begun


def open_by_plugin(home: Home, values: Mapping[str, str]) -> SyncSubmission | None:
    """Begin a message through a plugin of [queue]; None where none wants it. Raises QueueRefusal."""
    chain = current_plan(home).queue_open
    if chain is None:
        return None
    with refusing():
        begun: SyncSubmission | None = chain(environment=values)
    return begun


def open_directly(home: Home, values: Mapping[str, str]) -> SyncSubmission:
    """Begin a message that no plugin takes. Raises QueueRefusal."""
    if not values.get("QMAILQUEUE"):
        try:
            submission = DaemonSubmission.connect(f"{home.run}/qmqp")
        except OSError:
            pass  # no daemon runs here
        else:
            return edited(home, values, submission)
    return QueueProgram(home.path, queue_program(home, values), values)


def submit_sync(
    home: Home,
    message: bytes,
    sender: bytes,
    recipients: Sequence[bytes],
    environment: Mapping[str, str] | None = None,
) -> Receipt:
    """Queue one message and wait until it is durable. Raises QueueRefusal."""
    submission = open_submission(home, environment)
    submission.write(message)
    return submission.commit(sender, recipients)


class BlockingSubmitter:
    """`open_submission` where a coroutine expects a submitter: for a program that may block, whose coroutines never wait."""

    def __init__(self, home: Home, environment: Mapping[str, str] | None = None) -> None:
        self._home = home
        self._environment = environment

    async def open(self) -> BlockingSubmission:
        return BlockingSubmission(open_submission(self._home, self._environment))


class BlockingSubmission:
    def __init__(self, submission: SyncSubmission) -> None:
        self.write = submission.write
        self.abort = submission.abort
        self._commit = submission.commit

    async def commit(self, sender: bytes, recipients: Sequence[bytes]) -> Receipt:
        return self._commit(sender, recipients)


class ProgramSubmitter:
    """Queues through a program with qmail-queue's interface; `environment` is the program's."""

    def __init__(self, home: Home, environment: Mapping[str, str], error_fd: int = ERROR_FD) -> None:
        self._home = home
        self._environment = dict(environment)
        self._program = queue_program(home, environment)
        self._error_fd = error_fd

    async def open(self) -> ProgramSubmission:
        return ProgramSubmission(QueueProgram(self._home.path, self._program, self._environment, self._error_fd))


class PluginSubmitter:
    """What a plugin began, for a session that must not block."""

    def __init__(self, submission: SyncSubmission) -> None:
        self._submission = submission

    async def open(self) -> ProgramSubmission:
        return ProgramSubmission(self._submission)


class ProgramSubmission:
    """A message kept until its envelope is known, while the program already waits for it.

    Its pipes would block the event loop: a thread fills them, when there is something to be waited for anyway.
    """

    def __init__(self, program: SyncSubmission) -> None:
        self._program: SyncSubmission | None = program
        self._spool = Spool()
        self._failed = False

    def write(self, chunk: bytes) -> None:
        try:
            self._spool.write(chunk)
        except OSError:
            self._failed = True

    async def commit(self, sender: bytes, recipients: Sequence[bytes]) -> Receipt:
        import asyncio

        program, self._program = self._program, None
        assert program is not None, "a submission is committed once"
        return await asyncio.to_thread(self._finish, program, sender, recipients)

    def _finish(self, program: SyncSubmission, sender: bytes, recipients: Sequence[bytes]) -> Receipt:
        try:
            if self._failed:
                program.abort()
                raise QueueRefusal(refusal.WRITE_ERROR)
            for chunk in self._spool.chunks():
                program.write(chunk)
            return program.commit(sender, recipients)
        finally:
            self._spool.close()

    def abort(self) -> None:
        self._spool.close()
        if self._program is not None:
            import threading

            # The program takes its time to notice; somebody has to wait for it.
            threading.Thread(target=self._program.abort, daemon=True).start()
            self._program = None


def choose_submitter(home: Home, environment: Mapping[str, str], lease: LeaseSubmitter | None = None) -> Submitter:
    """Return how a connection with this environment submits.

    `lease` is the process's own link to the daemon, made once by whoever serves many connections; without it one is made.
    """
    if environment.get("QMAILQUEUE"):
        return ProgramSubmitter(home, environment)
    if lease is None:
        from pluq.queue.lease_client import LeaseSubmitter

        lease = LeaseSubmitter(home)
        if not lease.connect():
            return ProgramSubmitter(home, environment)
    return lease if current_plan(home) is EMPTY else EditedSubmitter(lease, home, environment)
