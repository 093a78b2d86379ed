"""One message between 354 and its end: what arrives goes through the body to the queue, or to a spool that hooks read.

It is passed on as it comes, so memory is bounded whatever the size. When the limit is passed or the queue fails, the rest is read and dropped: the client
hears of it after the end of its message, as RFC 5321 wants it.

Source: RFC 5321 section 4.2.5; smtp_data and put in qmail-smtpd.c.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from pluq.hookspecs.message import SPOOL_BYTES, Message
from pluq.queue.refusal import WRITE_ERROR, QueueRefusal
from pluq.smtpd.body import Body

if TYPE_CHECKING:
    from typing import BinaryIO

    from pluq.hookspecs.context import Transaction
    from pluq.queue.submit import Submission


class Sink(Protocol):
    """Where a message goes to: a submission, or a spool."""

    def write(self, chunk: bytes) -> None: ...


class Spool:
    """A message kept for hooks: in memory up to SPOOL_BYTES, beyond that in a file without a name."""

    __slots__ = ("_chunks", "_file", "size")

    def __init__(self) -> None:
        self.size = 0
        self._chunks: list[bytes] = []
        self._file: BinaryIO | None = None

    def write(self, chunk: bytes) -> None:
        self.size += len(chunk)
        if self._file is None and self.size > SPOOL_BYTES:
            from tempfile import TemporaryFile

            self._file = TemporaryFile()  # noqa: SIM115  # the message owns it until it is dropped
            self._file.writelines(self._chunks)
            self._chunks.clear()
        if self._file is None:
            self._chunks.append(chunk)
        else:
            self._file.write(chunk)

    def close(self) -> None:
        if self._file is not None:
            self._file.close()

    def message(self) -> Message:
        """Return what was written, as hooks see it."""
        if self._file is not None:
            self._file.flush()
            return Message(self._file, self.size)
        return Message.from_bytes(b"".join(self._chunks))


class Incoming:
    """A message being received for a transaction. `submission` is None where hooks read the message before it is queued."""

    __slots__ = ("_is_given_up", "_sink", "body", "failure", "is_too_large", "limit", "submission", "transaction")

    def __init__(self, transaction: Transaction, limit: int, submission: Submission | None) -> None:
        """`limit` is the most bytes of the message, 0 for no limit."""
        self.transaction = transaction
        self.limit = limit
        self.submission = submission
        self.body = Body()
        self.is_too_large = False
        self._is_given_up = False
        self.failure: QueueRefusal | None = None
        self._sink: Sink = Spool() if submission is None else submission

    def feed(self, data: bytes) -> bool:
        """Take what the client sent; return True at the end of the message. Raises StrayNewline."""
        text = self.body.feed(data)
        if text and not self.is_too_large and self.failure is None:
            self._keep(text)
        return self.body.done

    def _keep(self, text: bytes) -> None:
        if self.limit and self.body.size > self.limit:
            self.is_too_large = True
            self.give_up()
            return
        try:
            self._sink.write(text)
        except QueueRefusal as refusal:
            self.failure = refusal
        except OSError:
            self.failure = QueueRefusal(WRITE_ERROR)

    def give_up(self) -> None:
        """Forget the message; nothing of it reaches the queue. May be said twice."""
        self.close()
        if self.submission is not None and not self._is_given_up:
            self._is_given_up = True
            self.submission.abort()

    def close(self) -> None:
        """Let go of what was kept for hooks."""
        if isinstance(self._sink, Spool):
            self._sink.close()

    def message(self) -> Message:
        """Return the message for hooks. Only where there is no submission."""
        assert isinstance(self._sink, Spool)
        return self._sink.message()
