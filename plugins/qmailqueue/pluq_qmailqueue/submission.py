"""One message on its way through filters and a queue program.

It is kept in a file without a name until its envelope is known; then the filters run, then the program, which gets the message on descriptor 0 and
the envelope on 1. Nothing has been started before, so a client that goes away costs nothing. A program that did not read everything
has not accepted it, whatever it exits with; one that takes too long is killed and has not either: the client comes back.

Source: qmail-queue(8), qmail.c; qmail-qfilter(1).
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import BinaryIO

from pluq.children import Ended, run_now
from pluq.errors import ProtocolError
from pluq.queue import refusal
from pluq.queue.records import encode_envelope
from pluq.queue.refusal import QueueRefusal, Receipt
from pluq.queue.submit import SyncSubmission
from pluq_qmailqueue.exits import CUSTOM_CODES, error_fds, refused
from pluq_qmailqueue.filters import DROP, PERMANENT, PROGRAM_FD, REASON_FD, Filter, parse_envelope

PIECE = 131072

# All the recipients of the largest envelope: a filter that writes more has lost its way.
MAX_ENVELOPE = 1 << 26


@dataclass(frozen=True)
class Route:
    """How messages are queued. `program` empty: by `usual`, which begins a message in the usual way. `seconds` for each program."""

    home: str
    program: str
    filters: Sequence[Filter]
    environment: Mapping[str, str]
    seconds: float
    usual: Callable[[], SyncSubmission]
    is_discarding: bool = False


class FilteredSubmission:
    """The message as it stands: `message` is its file, sender and recipients come with `commit`."""

    def __init__(self, route: Route) -> None:
        self._route = route
        self._program = route.program
        self._failed = False
        self._file: BinaryIO = tempfile.TemporaryFile()  # noqa: SIM115  # closed by commit or abort

    def write(self, chunk: bytes) -> None:
        """Add message bytes."""
        try:
            self._file.write(chunk)
        except OSError:
            self._failed = True

    def abort(self) -> None:
        """Give the message up; nothing was started."""
        self._file.close()

    def commit(self, sender: bytes, recipients: Sequence[bytes]) -> Receipt:
        """Filter and queue. Raises QueueRefusal."""
        try:
            self._flush()
            for one in self._route.filters:
                if one.fits((sender, *recipients)):
                    ended, envelope = self._filter(one, sender, recipients)
                    if ended.code == DROP:
                        return Receipt(ended.pid)
                    sender, recipients = envelope or (sender, recipients)
            if self._route.is_discarding:
                return Receipt(os.getpid())
            return self._queue(sender, recipients)
        finally:
            self._file.close()

    def _flush(self) -> None:
        try:
            self._file.flush()
        except OSError:
            self._failed = True
        if self._failed:
            raise QueueRefusal(refusal.WRITE_ERROR)

    # -- filters

    def _filter(
        self, one: Filter, sender: bytes, recipients: Sequence[bytes]
    ) -> tuple[Ended, tuple[bytes, Sequence[bytes]] | None]:
        """Run one filter; return how it ended and the envelope that it wrote. Raises QueueRefusal where it refuses."""
        envelope = encode_envelope(sender, recipients)
        environment = {
            **self._route.environment,
            **self._facts(sender, recipients, len(envelope)),
            **dict(one.variables),
        }
        with _file_of(envelope) as old_envelope, _file_of() as new_envelope, _file_of() as new_message:
            self._file.seek(0)
            inputs = {
                0: self._file.fileno(), 1: new_message.fileno(), 3: old_envelope.fileno(), 4: new_envelope.fileno(),
            }  # fmt: skip
            environment["ERROR_FD"] = str(REASON_FD)
            ended = self._run(one.argv, environment, inputs, (PROGRAM_FD, REASON_FD))
            if ended.code not in (0, DROP):
                raise self._filter_refusal(ended, one.argv[0])
            if os.fstat(new_message.fileno()).st_size:
                self._take(new_message)
            if ended.said[PROGRAM_FD].strip():
                self._program = os.fsdecode(ended.said[PROGRAM_FD].split(b"\0")[0].strip())
            return ended, self._new_envelope(new_envelope)

    def _facts(self, sender: bytes, recipients: Sequence[bytes], envelope_size: int) -> dict[str, str]:
        user, _, host = sender.rpartition(b"@") if b"@" in sender else (sender, b"", b"")
        facts = {
            "QMAILUSER": user,
            "QMAILHOST": host,
            "QMAILRCPTS": b"\n".join(recipients),
            "NUMRCPTS": b"%d" % len(recipients),
            "MSGSIZE": b"%d" % os.fstat(self._file.fileno()).st_size,
            "ENVSIZE": b"%d" % envelope_size,
            "QMAILPPID": b"%d" % os.getpid(),
        }
        return {name: value.decode("utf-8", "surrogateescape") for name, value in facts.items()}

    def _take(self, message: BinaryIO) -> None:
        """Go on with the message that a filter wrote."""
        file = os.fdopen(os.dup(message.fileno()), "r+b")
        self._file.close()
        self._file = file

    def _new_envelope(self, file: BinaryIO) -> tuple[bytes, Sequence[bytes]] | None:
        if not os.fstat(file.fileno()).st_size:
            return None
        file.seek(0)
        try:
            return parse_envelope(file.read(MAX_ENVELOPE))
        except ProtocolError as error:
            raise QueueRefusal(refusal.BAD_ENVELOPE) from error

    def _filter_refusal(self, ended: Ended, program: str) -> QueueRefusal:
        if ended.code in CUSTOM_CODES:
            return refused(ended.code, {REASON_FD: ended.said[REASON_FD]}, program)
        return QueueRefusal(refusal.REFUSED if ended.code in PERMANENT else refusal.LATER)

    # -- the queue

    def _queue(self, sender: bytes, recipients: Sequence[bytes]) -> Receipt:
        self._file.seek(0)
        if not self._program:
            return self._queue_as_usual(sender, recipients)
        fds = error_fds(self._route.environment)
        environment = {"ERROR_FD": str(fds[0]), **self._route.environment}
        with _file_of(encode_envelope(sender, recipients)) as envelope:
            inputs = {0: self._file.fileno(), 1: envelope.fileno()}
            ended = self._run([self._program], environment, inputs, fds)
            has_read = all(os.lseek(fd, 0, os.SEEK_CUR) >= os.fstat(fd).st_size for fd in inputs.values())
        if ended.code == 0 and has_read:
            return Receipt(ended.pid)
        raise refused(ended.code or refusal.READ_ERROR, ended.said, self._program)

    def _queue_as_usual(self, sender: bytes, recipients: Sequence[bytes]) -> Receipt:
        submission = self._route.usual()
        try:
            while piece := self._file.read(PIECE):
                submission.write(piece)
        except BaseException:
            submission.abort()
            raise
        return submission.commit(sender, recipients)

    def _run(
        self, argv: Sequence[str], environment: Mapping[str, str], inputs: Mapping[int, int], outputs: Sequence[int]
    ) -> Ended:
        route = self._route
        try:
            ended = run_now(
                argv, environment=environment, folder=route.home, seconds=route.seconds, inputs=inputs, outputs=outputs
            )
        except OSError as error:
            raise QueueRefusal(refusal.EXEC_ERROR) from error
        if ended.is_late:
            raise QueueRefusal(refusal.TIMEOUT)
        return ended


def _file_of(data: bytes = b"") -> BinaryIO:
    """Return a file without a name that holds `data`, at its start. Raises QueueRefusal."""
    try:
        file = tempfile.TemporaryFile()  # noqa: SIM115  # the caller closes it
        file.write(data)
        file.flush()
        file.seek(0)
    except OSError as error:
        raise QueueRefusal(refusal.WRITE_ERROR) from error
    return file
