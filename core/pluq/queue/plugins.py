"""The plugins of the queue: `[queue]` in control/pluq.toml. Without that file nothing is imported for them.

They see every message that goes into this queue, whoever brings it: fields below the first Received line, and the envelope. They are
asked by the side that submits, with its rights and in its environment, and never by the queue daemon: in a server's worker, in
the scheduler for its bounces, in the process of a user who forwards or injects, in qmail-queue. A queue program in between
(QMAILQUEUE) changes nothing: it hands the message to qmail-queue in the end. Who speaks QMQP to the daemon's socket by himself
passes them by.

The hooks are plain functions. A plan is kept until one of the files that it comes from changes.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from pluq import log
from pluq.errors import ConfigError, PluqError
from pluq.plan import EMPTY, Plan
from pluq.queue.refusal import LATER, NO_CONFIGURATION, QueueRefusal, Receipt

if TYPE_CHECKING:
    from pluq.config.home import Home
    from pluq.queue.submit import Submission, Submitter, SyncSubmission

__all__ = ["EditedSubmission", "EditedSubmitter", "current_plan", "edited", "envelope_of", "fields_of"]

Stamps = tuple[tuple[int, int, int] | None, ...]

_kept: dict[str, tuple[tuple[str, ...], Stamps, Plan]] = {}


def current_plan(home: Home) -> Plan:
    """Return the plan of `[queue]` as the files stand now. Raises QueueRefusal."""
    if not os.path.exists(home.control("pluq.toml")):
        return EMPTY
    paths, stamps, plan = _kept.get(home.path, ((), (), EMPTY))
    if paths and stamps == _look(paths):
        return plan
    with refusing():
        plan = _compile(home)
    paths = (home.control("pluq.toml"), *(home.control(name) for name in _control_files(plan)))
    _kept[home.path] = paths, _look(paths), plan
    return plan


def _look(paths: Sequence[str]) -> Stamps:
    return tuple(_stamp(path) for path in paths)


def _stamp(path: str) -> tuple[int, int, int] | None:
    """Return what changes when a file does."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino


def _compile(home: Home) -> Plan:
    from pluq.config.site import read_site

    site = read_site(home)
    if not site.role("queue").plugins:
        return EMPTY
    from pluq.plan.chain import Now
    from pluq.plan.compile import compile_plan

    plan = compile_plan(home, site, "queue", role="queue", log=_remark)
    if plan.start is not None:
        Now(plan.start)()  # type: ignore[arg-type]  # a chain, as the compiler made it
    return plan


def _control_files(plan: Plan) -> Iterator[str]:
    from pluq.config.settings import declarations

    for plugin in plan.plugins:
        yield from (one.control for one in declarations(plugin.settings_class) if one.control)


def _remark(text: str) -> None:
    log.say("queue", text)


@contextmanager
def refusing() -> Iterator[None]:
    """Turn trouble with plugins into the refusal of a message, for now."""
    try:
        yield
    except ConfigError as error:
        _remark(str(error))
        raise QueueRefusal(NO_CONFIGURATION) from error
    except QueueRefusal:
        raise
    except PluqError as error:
        raise QueueRefusal(LATER) from error


def fields_of(plan: Plan, environment: Mapping[str, str]) -> bytes:
    """Return the fields that plugins put below our Received line. Raises QueueRefusal."""
    if plan.queue_fields is None:
        return b""
    from pluq.hookspecs.message import check_field

    with refusing():
        return b"".join(check_field(field) for field in plan.queue_fields(environment=environment))


def envelope_of(plan: Plan, sender: bytes, recipients: Sequence[bytes]) -> tuple[bytes, Sequence[bytes]]:
    """Return sender and recipients as plugins want them. Raises QueueRefusal."""
    if plan.queue_envelope is None:
        return sender, recipients
    from pluq.hookspecs.context import Envelope

    envelope = Envelope(sender, list(recipients))
    with refusing():
        plan.queue_envelope(envelope=envelope)
    return envelope.sender, envelope.recipients


def edited(home: Home, environment: Mapping[str, str], submission: SyncSubmission) -> SyncSubmission:
    """Return the submission as plugins want it; the same one where there are none. Raises QueueRefusal."""
    try:
        plan = current_plan(home)
        return submission if plan is EMPTY else EditedSubmission(submission, plan, environment)
    except QueueRefusal:
        submission.abort()
        raise


class EditedSubmission:
    """A submission that plugins look through."""

    def __init__(self, submission: SyncSubmission, plan: Plan, environment: Mapping[str, str]) -> None:
        self._submission = submission
        self._plan = plan
        self.write = submission.write
        self.abort = submission.abort
        submission.write(fields_of(plan, environment))

    def commit(self, sender: bytes, recipients: Sequence[bytes]) -> Receipt:
        try:
            envelope = envelope_of(self._plan, sender, recipients)
        except QueueRefusal:
            self.abort()
            raise
        return self._submission.commit(*envelope)


class EditedSubmitter:
    """A submitter whose messages plugins look through."""

    def __init__(self, submitter: Submitter, home: Home, environment: Mapping[str, str]) -> None:
        self._submitter = submitter
        self._home = home
        self._environment = environment

    async def open(self) -> Any:
        plan = current_plan(self._home)
        fields = fields_of(plan, self._environment)
        submission = await self._submitter.open()
        if plan is EMPTY:
            return submission
        submission.write(fields)
        return _EditedAsync(submission, plan)


class _EditedAsync:
    def __init__(self, submission: Submission, plan: Plan) -> None:
        self._submission = submission
        self._plan = plan
        self.write = submission.write
        self.abort = submission.abort

    async def commit(self, sender: bytes, recipients: Sequence[bytes]) -> Receipt:
        try:
            envelope = envelope_of(self._plan, sender, recipients)
        except QueueRefusal:
            self.abort()
            raise
        return await self._submission.commit(*envelope)
