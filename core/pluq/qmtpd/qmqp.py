"""The QMQP server: one message from a host that may send anything, one answer.

    LEN: LEN:message, LEN:sender, LEN:recipient, ... ,

There is no policy: who may connect is tcpserver's business. An address that is too long or holds a NUL refuses the whole message.

Source: https://cr.yp.to/proto/qmqp.html, qmail-qmqpd.c of qmail.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from pluq.qmtpd.intake import ADDRESS_BYTES, Client, queue_verdict
from pluq.qmtpd.reader import Reader
from pluq.queue.submit import Submission, Submitter
from pluq.wire.netstring import encode

BAD_ADDRESS = b"Dsorry, I can't accept addresses like that (#5.1.3)"
# What the length of the whole request may take.
LENGTH_BYTES = 100


async def serve(
    client: Client, submitter: Submitter, read: Callable[[int], Awaitable[bytes]], now: Callable[[], int]
) -> bytes:
    """Take the request; return the answer as a netstring. Raises EndOfInput, ProtocolError, TemporaryFailure."""
    reader = Reader(read, budget=LENGTH_BYTES)
    reader.budget = await reader.length()
    length = await reader.length()
    submission = await submitter.open()
    queued = False
    try:
        submission.write(client.received(b"QMQP", now()))
        async for piece in reader.pieces(length):
            submission.write(piece)
        await reader.comma()
        sender, recipients = await _envelope(reader)
        if sender is None or None in recipients:
            return encode(BAD_ADDRESS)
        queued = True
        return encode(await _commit(submission, sender, recipients, now))
    finally:
        if not queued:
            submission.abort()


async def _commit(
    submission: Submission, sender: bytes, recipients: list[bytes | None], now: Callable[[], int]
) -> bytes:
    return await queue_verdict(submission, sender, [address for address in recipients if address is not None], now())


async def _envelope(reader: Reader) -> tuple[bytes | None, list[bytes | None]]:
    """Return sender and recipients, None in the place of an address that cannot be."""
    sender = await _address(reader)
    recipients = []
    while reader.budget:
        recipients.append(await _address(reader))
    reader.budget = 1
    await reader.comma()
    return sender, recipients


async def _address(reader: Reader) -> bytes | None:
    address = await reader.address(await reader.length(), ADDRESS_BYTES)
    await reader.comma()
    return None if address is None or b"\0" in address else address
