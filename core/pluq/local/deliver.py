"""Carrying out one delivery: look at the home and the message, find the instructions, follow them one by one.

An instruction that fails ends the delivery; what stands above it is done. Forwarding comes last, all addresses in one new message, so
that any failure prevents it. A failure without text is a program's, which has spoken for itself. The report of success is

    did 1+2+0        files, forwards, programs
    qp 12345         the number under which the forwarded message was queued

`prepare` decides, `follow` acts: a resident worker does the first for many messages, with a Preparer, and groups those that go to one
Maildir.

Source: qmail-local(8); main and mailforward in qmail-local.c.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NamedTuple

from pluq.config.home import Home
from pluq.errors import PermanentFailure, TemporaryFailure
from pluq.local import dotqmail
from pluq.local.dotqmail import DotQmail
from pluq.local.instructions import FILES, Instruction, Kind, parse
from pluq.local.order import (
    Order,
    delivered_to,
    environment,
    from_line,
    refuse_functions,
    return_path,
)
from pluq.local.program import Inherit, Runner, run_command
from pluq.plan import EMPTY, Plan
from pluq.store import maildir, mbox
from pluq.store.oserror import error_text

USAGE = "qmail-local: usage: qmail-local [ -nN ] user homedir local dash ext domain sender aliasempty"
COPY_BYTES = 1 << 17
SHORT_FILE = 4096
NOTHING = DotQmail(b"", False, None)


@dataclass(frozen=True)
class Surroundings:
    """What deliveries need from the process that makes them. `environment` is what programs get beside the envelope.

    `sized_names`: the names of messages in Maildirs tell their size.
    """

    home: Home
    environment: Mapping[str, str]
    runner: Runner = field(default_factory=Inherit)
    plan: Plan = EMPTY
    sized_names: bool = False
    lock_seconds: float = mbox.LOCK_SECONDS


class Prepared(NamedTuple):
    """A delivery that may begin. `folder` is the open home directory; whoever has it closes it.

    `start`: what the message begins with, where it was read already (maildir.stage).
    """

    order: Order
    message: int
    folder: int
    instructions: DotQmail
    start: bytes | None = None


class Counts:
    """What was done."""

    def __init__(self) -> None:
        self.files = self.forwards = self.programs = self.qp = 0

    def add(self, kind: Kind) -> None:
        if kind in FILES:
            self.files += 1
        elif kind is Kind.PROGRAM:
            self.programs += 1
        else:
            self.forwards += 1

    def report(self) -> bytes:
        qp = b"qp %d\n" % self.qp if self.qp else b""
        return b"did %d+%d+%d\n%b" % (self.files, self.forwards, self.programs, qp)


def deliver(order: Order, message: int, around: Surroundings) -> bytes:
    """Deliver the message in the open file `message`; return the report. Raises TemporaryFailure, PermanentFailure."""
    ready = prepare(order, message)
    try:
        return follow(ready, around)
    finally:
        os.close(ready.folder)


def prepare(order: Order, message: int) -> Prepared:
    """Check the home and the message and find the instructions. Raises TemporaryFailure, PermanentFailure."""
    preparer = Preparer()
    try:
        return preparer.prepare(order, message)
    except BaseException:
        preparer.close()
        raise


class Preparer:
    """Prepares deliveries that were ordered together, one after the other.

    What a home and its .qmail file say is looked at once for those that follow one another: all were ordered before that, so none misses
    a change that its sender could know of. Only the last home stays open, as the one user of a worker may have many.
    """

    def __init__(self) -> None:
        self._home: bytes | None = None
        self._folder = -1
        self._address: tuple[bytes, bytes, bytes] | None = None
        self._instructions = NOTHING

    def prepare(self, order: Order, message: int) -> Prepared:
        """Check the home and the message and find the instructions; the open home stays ours.

        Raises TemporaryFailure, PermanentFailure.
        """
        if order.home != self._home:
            self._enter(order.home)
        start = dotqmail.refuse_loop(order, message)
        address = order.dash, order.ext, order.default
        if address != self._address:
            self._instructions = dotqmail.find(order, self._folder)
            self._address = address
        return Prepared(order, message, self._folder, self._instructions, start)

    def _enter(self, home: bytes) -> None:
        self.close()
        if not home.startswith(b"/"):
            raise PermanentFailure(USAGE)
        self._folder = dotqmail.enter_home(home)
        self._home = home

    def hand_over(self) -> None:
        """Let somebody else have the open home, who closes it."""
        self._home, self._folder, self._address = None, -1, None

    def close(self) -> None:
        """Close the home that is open."""
        if self._folder >= 0:
            os.close(self._folder)
        self.hand_over()


def only_maildir(instructions: DotQmail) -> bytes | None:
    """Return the Maildir where that is all there is to do, None for everything else."""
    text = instructions.text
    return _only_maildir(text, instructions.forward_only) if len(text) < SHORT_FILE else None


@lru_cache(maxsize=256)
def _only_maildir(text: bytes, forward_only: bool) -> bytes | None:
    try:
        found = list(parse(text, forward_only))
    except TemporaryFailure:
        return None
    return found[0].argument if len(found) == 1 and found[0].kind is Kind.MAILDIR else None


def head_lines(order: Order) -> bytes:
    """Return what a delivered message begins with."""
    return return_path(order.sender) + delivered_to(order)


def follow(ready: Prepared, around: Surroundings) -> bytes:
    """Follow the instructions; return the report. Raises TemporaryFailure, PermanentFailure."""
    return _Follower(ready, around).run()


class _Follower:
    """One delivery on its way through its instructions."""

    def __init__(self, ready: Prepared, around: Surroundings) -> None:
        self.order, self.message, self.folder, self.instructions, _ = ready
        self.around = around
        self.counts = Counts()
        self.recipients: list[bytes] = []
        self.now = time.time()
        self._new_sender: bytes | None = None

    def run(self) -> bytes:
        for instruction in parse(self.instructions.text, self.instructions.forward_only):
            self.counts.add(instruction.kind)
            if not self._by_plugin(instruction) and not self._carry_out(instruction):
                break
        if self.recipients:
            self.counts.qp = self._forward()
        return self.counts.report()

    def _by_plugin(self, instruction: Instruction) -> bool:
        """Return whether a plugin has carried the instruction out."""
        chain = self.around.plan.local_deliver
        if chain is None:
            return False
        from pluq.local.plugins import ask

        return ask(chain, self.order, instruction, self.message, self._environment())

    def _carry_out(self, instruction: Instruction) -> bool:
        """Carry out one instruction; False if those after it do not count."""
        kind, argument, _ = instruction
        if kind is Kind.FORWARD:
            self.recipients.append(argument)
        elif kind is Kind.MAILDIR:
            maildir.deliver(argument, self.folder, head_lines(self.order), self.message, self.around.sized_names)
        elif kind is Kind.MBOX:
            head = from_line(self.order.sender, self.now) + head_lines(self.order)
            mbox.append(argument, self.folder, head, self.message, self.around.lock_seconds)
        else:
            values = self._values()
            refuse_functions(values)
            base = {os.fsencode(name): os.fsencode(value) for name, value in self.around.environment.items()}
            return run_command(argument, self.message, base | values, self.around.runner)
        return True

    def _values(self) -> dict[bytes, bytes]:
        return environment(self.order, self._sender(), self.instructions.default_start, self.now)

    def _environment(self) -> dict[str, str]:
        values = {os.fsdecode(name): os.fsdecode(value) for name, value in self._values().items()}
        return {**self.around.environment, **values}

    def _sender(self) -> bytes:
        if self._new_sender is None:
            self._new_sender = dotqmail.new_sender(self.order, self.folder)
        return self._new_sender

    def _forward(self) -> int:
        """Queue the message for the recipients; return its qp number. Raises TemporaryFailure, PermanentFailure."""
        from pluq.queue.submit import QueueRefusal, open_submission

        sender, recipients = self._envelope()
        try:
            submission = open_submission(self.around.home, self._environment())
            try:
                self._write_to(submission.write)
            except OSError as error:
                submission.abort()
                why = f"Unable to forward message: qq read error (#4.3.0): {error_text(error.errno)}."
                raise TemporaryFailure(why) from error
            return submission.commit(sender, recipients).qp
        except QueueRefusal as refusal:
            failure = PermanentFailure if refusal.permanent else TemporaryFailure
            raise failure(f"Unable to forward message: {refusal.verdict[1:]}.") from refusal

    def _envelope(self) -> tuple[bytes, Sequence[bytes]]:
        """Return sender and recipients of what is forwarded. Raises TemporaryFailure, PermanentFailure."""
        if self.around.plan.forward_envelope is None:
            return self._sender(), self.recipients
        from pluq.local.plugins import forwarded

        return forwarded(self.around.plan, "forward", self._sender(), self.recipients, self._environment())

    def _write_to(self, write: Callable[[bytes], None]) -> None:
        write(delivered_to(self.order))
        position = 0
        while piece := os.pread(self.message, COPY_BYTES, position):
            write(piece)
            position += len(piece)
