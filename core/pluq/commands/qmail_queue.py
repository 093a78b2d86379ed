"""qmail-queue: queue one message. The message on descriptor 0, the envelope on descriptor 1; exit code 0 means durable.

Where the queue daemon runs, the message goes through its socket: any user may do that, nothing is set-uid. Where it does not,
the program writes the queue itself, if it may. Source: qmail-queue(8).
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from pluq.config.home import Home
from pluq.queue import refusal
from pluq.queue.refusal import QueueRefusal

if TYPE_CHECKING:
    from pluq.plan import Plan

IGNORED = ("SIGPIPE", "SIGVTALRM", "SIGPROF", "SIGQUIT", "SIGINT", "SIGHUP", "SIGXCPU", "SIGXFSZ")
ENVELOPE_BYTES = 16 << 20
CHUNK_BYTES = 65536


def main() -> int:
    prepare_signals()
    home = Home.from_environment()
    try:
        if not queue_through_daemon(home):
            queue_directly(home)
    except QueueRefusal as error:
        # os._exit: a reader on descriptor 0 or 1 must not keep us, nothing of ours is buffered.
        os._exit(error.code)
    return 0


def prepare_signals() -> None:
    """Die after a day, and not from what interrupts an impatient user's terminal."""
    from pluq.queue.writer import DEATH_SECONDS

    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    for name in IGNORED:
        signal.signal(getattr(signal, name), signal.SIG_IGN)
    # No clean-up: the files may be in any state; the cleaner takes them.
    signal.signal(signal.SIGALRM, lambda number, frame: os._exit(refusal.TIMEOUT))
    signal.alarm(DEATH_SECONDS)


def queue_through_daemon(home: Home) -> bool:
    """Submit to the resident daemon; False where none listens."""
    from pluq.queue.client import DaemonSubmission
    from pluq.queue.plugins import edited

    try:
        daemon = DaemonSubmission.connect(f"{home.run}/qmqp")
    except OSError:
        return False
    submission = edited(home, os.environ, daemon)
    while chunk := read(0):
        submission.write(chunk)
    sender, recipients = read_envelope()
    submission.commit(sender, recipients)
    return True


def read(fd: int) -> bytes:
    try:
        return os.read(fd, CHUNK_BYTES)
    except OSError as error:
        raise QueueRefusal(refusal.READ_ERROR) from error


def read_envelope() -> tuple[bytes, list[bytes]]:
    """Read and check the envelope on descriptor 1."""
    from pluq.queue.writer import EnvelopeReader

    envelope = EnvelopeReader()
    records = bytearray()
    while not envelope.complete:
        data = read(1)
        if not data:
            raise QueueRefusal(refusal.READ_ERROR)
        records += envelope.records(data)
        if len(records) > ENVELOPE_BYTES:
            raise QueueRefusal(refusal.OUT_OF_MEMORY)
    sender, *recipients = bytes(records).split(b"\0")[:-1]
    return sender[1:], [recipient[1:] for recipient in recipients]


def queue_directly(home: Home) -> None:
    """Write the queue files from here, as the owner of the queue if we are root."""
    from time import time

    from pluq.mail.received import invoked_by, queue_received
    from pluq.queue.layout import QueueLayout
    from pluq.queue.plugins import current_plan, fields_of
    from pluq.queue.writer import QueueWriter, qmail_uids

    os.umask(0o033)
    for path, code in ((home.path, refusal.HOME_ERROR), (home.queue, refusal.QUEUE_ERROR)):
        try:
            os.chdir(path)
        except OSError as error:
            raise QueueRefusal(code) from error
    uid = os.getuid()
    # Plugins are loaded by whoever may read them, and asked by whoever owns the queue.
    plan = current_plan(home)
    become_queue_owner()
    pid = os.getpid()
    first_line = queue_received(pid, invoked_by(uid, *qmail_uids()), int(time()))
    writer = QueueWriter(QueueLayout(home.queue), pid, uid, first_line + fields_of(plan, os.environ))
    writer.write_message(lambda size: os.read(0, size))
    writer.write_envelope(envelope_reader(plan))
    writer.enqueue()


def envelope_reader(plan: Plan) -> Callable[[int], bytes]:
    """Return what gives the envelope in pieces: descriptor 1 itself where no plugin wants to see it."""
    if plan.queue_envelope is None:
        return lambda size: os.read(1, size)
    pieces = edited_envelope(plan)
    return lambda size: next(pieces, b"")


def edited_envelope(plan: Plan) -> Iterator[bytes]:
    """Give the envelope as plugins want it, read when it is asked for: its writer may wait until the message is taken."""
    from pluq.queue.plugins import envelope_of
    from pluq.queue.records import encode_envelope

    yield encode_envelope(*envelope_of(plan, *read_envelope()))


def become_queue_owner() -> None:
    """As root, act as the queue's owner, so that the files belong to whom they would with the set-uid program of qmail."""
    if os.geteuid() != 0:
        return
    try:
        owner = os.stat("mess")
        os.setegid(owner.st_gid)
        os.seteuid(owner.st_uid)
    except FileNotFoundError:
        return  # it will be missed when the message gets its name there
    except OSError as error:
        raise QueueRefusal(refusal.QUEUE_ERROR) from error
