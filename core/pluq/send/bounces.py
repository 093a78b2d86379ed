"""Failure notes, and the bounces made of them.

    bounce/N    one paragraph for each recipient that failed for good, written and synced before the recipient is marked
    a bounce    queued when the message has no recipients left; then bounce/N goes

A crash between the two sends a second bounce. The classic program waits until its bounce is queued, as stock qmail-send does;
the resident scheduler does not (pluq.send.submission).

Source: addbounce and injectbounce in qmail-send.c; pluq.mail.bounce has the text.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, BinaryIO, Protocol

from pluq import log
from pluq.errors import TemporaryFailure
from pluq.mail.bounce import STRIPPED, Draft, Notice, notice, paragraph
from pluq.mail.envelope import bounce_target
from pluq.queue.reader import never_waiting
from pluq.queue.refusal import QueueRefusal
from pluq.queue.submit import SyncSubmission, open_submission
from pluq.send.common import Common
from pluq.send.plugins import ask
from pluq.send.syncing import SyncBatch
from pluq.store import durable

if TYPE_CHECKING:
    from pluq.config import Home

CHUNK_BYTES = 65536
NOTES = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK | os.O_CLOEXEC

Sent = Callable[[int, bool], None]
"""Called with the message's number, and whether it has no failure notes any more."""
Queued = Callable[[int | None], None]
"""Called with the qp number of a bounce that is in the queue, None for one that is not."""


class Source:
    """A bounce as bytes: what is written around the notes and the message, both read from their files when they are sent.

    Of a message with more than `copy_bytes` bytes only so many are sent.
    """

    def __init__(self, bounce: Notice, notes: BinaryIO, message: BinaryIO, copy_bytes: int | None = None) -> None:
        self.bounce = bounce
        self._notes = notes
        self._message = message
        notes_size, self._left = (os.fstat(file.fileno()).st_size for file in (notes, message))
        self._end = b""
        if copy_bytes is not None and self._left > copy_bytes:
            self._left, self._end = copy_bytes, STRIPPED
        self.size = len(bounce.head) + notes_size + len(bounce.middle) + self._left + len(self._end)

    def chunks(self) -> Iterator[bytes]:
        """Give everything in order, `size` bytes. Raises OSError."""
        left = self.size
        for chunk in self._pieces():
            left -= len(chunk)
            yield chunk
        if left:
            raise OSError(errno.EIO, "a file changed while it was read")

    def _pieces(self) -> Iterator[bytes]:
        yield self.bounce.head
        yield from iter(lambda: self._notes.read(CHUNK_BYTES), b"")
        yield self.bounce.middle
        left = self._left
        while chunk := self._message.read(min(CHUNK_BYTES, left)):
            left -= len(chunk)
            yield chunk
        yield self._end

    def close(self) -> None:
        self._notes.close()
        self._message.close()


class Injector(Protocol):
    """Puts a bounce into the queue and closes its source. `queued` is called at once or in a later turn."""

    @property
    def busy(self) -> bool:
        """Enough bounces are on their way; no more now."""

    def inject(self, source: Source, queued: Queued) -> None:
        """Begin."""


class Bounces:
    """All failure notes of the queue."""

    def __init__(self, common: Common, injector: Injector, batch: SyncBatch) -> None:
        self._common = common
        self._injector = injector
        self._batch = batch

    @property
    def busy(self) -> bool:
        return self._injector.busy

    def note(self, failures: Sequence[tuple[int, bytes, bytes]]) -> set[int]:
        """Append (message, recipient, report) to the messages' notes. Returns the messages for which that is durable."""
        texts: dict[int, list[bytes]] = {}
        for number, recipient, report in failures:
            address = self._common.settings.routing.as_sent(recipient)
            texts.setdefault(number, []).append(paragraph(address, report))
        written = set()
        for number, paragraphs in texts.items():
            path = self._common.layout.bounce(number)
            try:
                descriptor = os.open(path, NOTES, 0o600)
                self._batch.add_file(descriptor)
                durable.write_all(descriptor, b"".join(paragraphs))
            except OSError:
                continue
            written.add(number)
        self._batch.add_folder(f"{self._common.layout.path}/bounce")
        return written if self._batch.commit() else set()

    def send(self, number: int, sender: bytes, sent: Sent) -> None:
        """Queue the bounce of a message from `sender`, if there are notes, and remove them."""
        path = self._common.layout.bounce(number)
        try:
            notes = open(path, "rb", opener=never_waiting)  # noqa: SIM115  # the source closes it
        except FileNotFoundError:
            sent(number, True)
            return
        except OSError:
            self._common.warn("unable to stat", path)
            sent(number, False)
            return
        draft = Draft(number, bounce_target(sender))
        try:
            unwanted = ask(self._common.plan, draft)
        except TemporaryFailure:
            notes.close()
            self._queued(number, path, sent, None)
            return
        bounce = None if unwanted else notice(draft.sender, self._common.settings.postmaster, self._common.now)
        if bounce is None:
            notes.close()
            self._common.log(log.no_bounce(unwanted or "triple bounce", self._common.relative(path).encode()))
            self._remove(number, path, sent)
            return
        try:
            message = open(self._common.layout.mess(number), "rb", opener=never_waiting)  # noqa: SIM115
            source = Source(bounce, notes, message, draft.copy_bytes)
        except OSError:
            notes.close()
            self._queued(number, path, sent, None)
            return
        self._injector.inject(source, lambda qp: self._queued(number, path, sent, qp))

    def _queued(self, number: int, path: str, sent: Sent, qp: int | None) -> None:
        if qp is None:
            self._common.log(log.warning("trouble injecting bounce message, will try later"))
            sent(number, False)
            return
        self._common.log(log.bounced(number, qp))
        self._remove(number, path, sent)

    def _remove(self, number: int, path: str, sent: Sent) -> None:
        try:
            os.unlink(path)
        except OSError:
            self._common.warn("unable to unlink", path)
            sent(number, False)
            return
        sent(number, True)


class WaitingInjector:
    """Bounces as every program queues mail: QMAILQUEUE, a queue daemon that runs here, or qmail-queue. Waits for each."""

    busy = False

    def __init__(self, home: Home, environment: Mapping[str, str], warn: Callable[[str], None]) -> None:
        self._home = home
        self._environment = environment
        self._warn = warn

    def inject(self, source: Source, queued: Queued) -> None:
        try:
            submission = open_submission(self._home, self._environment)
        except QueueRefusal:
            self._warn("unable to start qmail-queue, will try later")
            source.close()
            queued(None)
            return
        qp = None
        try:
            for chunk in source.chunks():
                submission.write(chunk)
        except OSError:
            submission.abort()
        else:
            qp = commit(submission, source.bounce)
        source.close()
        queued(qp)


def commit(submission: SyncSubmission, bounce: Notice) -> int | None:
    """Give the envelope; returns the qp number, None when the bounce was refused."""
    try:
        return submission.commit(bounce.sender, [bounce.recipient]).qp
    except QueueRefusal:
        return None
