"""The QMTP server: packages one after the other, each a message, a sender and recipients.

    LEN: 10 message ,  LEN:sender,  LEN: LEN:recipient, LEN:recipient, ... ,

The first byte of the message says how its lines end: 10 for LF, 13 for CRLF. Each recipient gets its own answer, K (taken
charge of), Z (later) or D (never). Answers are written when the server has to wait for more: a client may send all its packages
at once. Who breaks the protocol is left without a word.

Source: https://cr.yp.to/proto/qmtp.txt, qmail-qmtpd.c of qmail.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass

from pluq.config.acceptance import RcptHosts, read_databytes, read_rcpthosts, size_limit
from pluq.config.home import Home
from pluq.errors import ProtocolError
from pluq.qmtpd.intake import ADDRESS_BYTES, Client, queue_verdict
from pluq.qmtpd.reader import Reader
from pluq.queue.submit import Submission, Submitter
from pluq.wire.netstring import encode
from pluq.wire.qmtp import CR, LF, CrlfLines

NOT_HERE = b"Dsorry, that domain isn't in my list of allowed rcpthosts (#5.7.1)"
BAD_RECIPIENT = b"Dsorry, I can't handle that recipient (#5.1.3)"
BAD_SENDER = b"Dunacceptable sender (#5.1.7)"
TOO_BIG = b"Dsorry, that message size exceeds my databytes limit (#5.3.4)"


@dataclass(frozen=True)
class Policy:
    """What this client may do. `databytes` 0 is no limit; `relay_suffix` (RELAYCLIENT) None means: only to our own domains."""

    databytes: int
    relay_suffix: bytes | None
    is_ours: Callable[[bytes], bool]


@dataclass(frozen=True)
class Controls:
    """What the control files say to every client."""

    databytes: int
    rcpthosts: RcptHosts

    def of(self, environment: Mapping[str, str]) -> Policy:
        """Return what the client with this environment may do."""
        suffix = environment.get("RELAYCLIENT")
        return Policy(
            databytes=size_limit(self.databytes, environment),
            relay_suffix=None if suffix is None else os.fsencode(suffix),
            is_ours=self.rcpthosts.allows,
        )


def read_controls(home: Home) -> Controls:
    """Return what the control files say now. Raises ConfigError."""
    return Controls(read_databytes(home), read_rcpthosts(home))


@dataclass
class Envelope:
    """What one package asked for. `refused` holds an answer or None for each recipient in order."""

    sender: bytes | None
    recipients: list[bytes]
    refused: list[bytes | None]

    def answers(self, verdict: bytes) -> Iterator[bytes]:
        return (verdict if refusal is None else refusal for refusal in self.refused)


class QmtpSession:
    """One client. `now` gives the time in seconds since the epoch."""

    def __init__(
        self,
        policy: Policy,
        client: Client,
        submitter: Submitter,
        read: Callable[[int], Awaitable[bytes]],
        write: Callable[[bytes], Awaitable[None]],
        now: Callable[[], int],
    ) -> None:
        self.policy = policy
        self.client = client
        self.submitter = submitter
        self.now = now
        self.is_busy = False
        """A package has begun and is not answered."""
        self.is_leaving = False
        self._read = read
        self._write = write
        self._answers: list[bytes] = []
        self._reader = Reader(self._answer_and_read)

    async def serve(self) -> None:
        """Take packages until the client goes (EndOfInput), breaks the protocol (ProtocolError), or `is_leaving` is set."""
        while not self.is_leaving:
            await self._package()
            self.is_busy = False
        await self._answer()

    async def _answer(self) -> None:
        if self._answers:
            answers, self._answers = b"".join(self._answers), []
            await self._write(answers)

    async def _answer_and_read(self, size: int) -> bytes:
        await self._answer()
        return await self._read(size)

    async def _package(self) -> None:
        length = await self._reader.length()
        self.is_busy = True
        if length == 0:
            raise ProtocolError("a QMTP message begins with the byte that ends its lines")
        submission = await self.submitter.open()
        queued = False
        try:
            fits = await self._message(submission, length)
            envelope = await self._envelope()
            refusal = self._refusal(envelope, fits)
            if refusal is None and envelope.recipients:
                queued = True
                refusal = await queue_verdict(submission, envelope.sender or b"", envelope.recipients, self.now())
        finally:
            if not queued:
                submission.abort()
        self._answers += [encode(answer) for answer in envelope.answers(refusal or b"")]

    def _refusal(self, envelope: Envelope, fits: bool) -> bytes | None:
        if not fits:
            return TOO_BIG
        return BAD_SENDER if envelope.sender is None else None

    async def _message(self, submission: Submission, length: int) -> bool:
        """Pass the message on; return False if it is longer than databytes, without our own field."""
        line_end = await self._reader.byte()
        if line_end not in (LF, CR):
            raise ProtocolError("a QMTP message begins with the byte that ends its lines")
        submission.write(self.client.received(b"QMTP", self.now()))
        lines = CrlfLines()
        size = 0
        async for piece in self._reader.pieces(length - 1):
            text = lines.feed(piece) if line_end == CR else piece
            size += len(text)
            if self._fits(size):
                submission.write(text)
        rest = lines.finish()
        if self._fits(size + len(rest)):
            submission.write(rest)
        await self._reader.comma()
        return self._fits(size + len(rest))

    def _fits(self, size: int) -> bool:
        return not self.policy.databytes or size <= self.policy.databytes

    async def _envelope(self) -> Envelope:
        reader = self._reader
        sender = await reader.address(await reader.length(), ADDRESS_BYTES)
        await reader.comma()
        envelope = Envelope(None if sender is None or b"\0" in sender else sender, [], [])
        # The recipients lie inside one netstring, so none of them may reach beyond its last byte.
        reader.budget = await reader.length()
        while reader.budget:
            await self._recipient(envelope)
        reader.budget = None
        await reader.comma()
        return envelope

    async def _recipient(self, envelope: Envelope) -> None:
        suffix = self.policy.relay_suffix
        length = await self._reader.length()
        if length >= (self._reader.budget or 0):
            raise ProtocolError("a recipient is longer than the list that it stands in")
        address = await self._reader.address(length, ADDRESS_BYTES - len(suffix or b""))
        await self._reader.comma()
        refusal = self._judge(address)
        envelope.refused.append(refusal)
        if refusal is None and address is not None:
            envelope.recipients.append(address + (suffix or b""))

    def _judge(self, address: bytes | None) -> bytes | None:
        """Return the refusal of a recipient, or None."""
        if address is None:
            return BAD_RECIPIENT
        if self.policy.relay_suffix is None and not self.policy.is_ours(address):
            return NOT_HERE
        return BAD_RECIPIENT if b"\0" in address else None
