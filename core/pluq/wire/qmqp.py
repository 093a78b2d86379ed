"""QMQP, the Quick Mail Queueing Protocol: one message in, one verdict out.

The client sends one netstring that holds netstrings: the message (lines end in LF), the sender, each recipient. The server
answers one netstring whose first byte is K (queued), Z (temporary) or D (permanent); text for a person follows.

The message may be large, so `RequestDecoder` gives it out in pieces as they come and keeps only the envelope.

Source: https://cr.yp.to/proto/qmqp.html.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from pluq.errors import ProtocolError
from pluq.wire import netstring

__all__ = ["VERDICTS", "Request", "RequestDecoder", "encode_reply", "encode_request", "parse_reply", "parse_request"]

VERDICTS = frozenset("KZD")
REPLY_LIMIT = 1000


class Request(NamedTuple):
    """A submission: the message with LF line ends, the envelope without its F, T and NUL."""

    message: bytes
    sender: bytes
    recipients: Sequence[bytes]


def encode_request(message: bytes, sender: bytes, recipients: Sequence[bytes]) -> bytes:
    """Return the bytes a QMQP client sends."""
    return netstring.encode(b"".join(map(netstring.encode, (message, sender, *recipients))))


def parse_request(data: bytes, limit: int) -> Request:
    """Return the submission in `data`, which is exactly one QMQP request. Raises ProtocolError."""
    payload, rest = netstring.decode(data, limit)
    parts = netstring.decode_all(payload, limit)
    if rest or len(parts) < 2:
        raise ProtocolError("a QMQP request holds a message and a sender")
    return Request(parts[0], parts[1], parts[2:])


def encode_reply(verdict: str, text: str) -> bytes:
    """Return the server's answer; `verdict` is K, Z or D."""
    return netstring.encode((verdict + text).encode("utf-8", "replace"))


def parse_reply(data: bytes) -> tuple[str, str]:
    """Return verdict and text of an answer. Raises ProtocolError."""
    payload, _rest = netstring.decode(data, REPLY_LIMIT)
    verdict = payload[:1].decode("ascii", "replace")
    if verdict not in VERDICTS:
        raise ProtocolError("a QMQP answer begins with K, Z or D")
    return verdict, payload[1:].decode("utf-8", "replace")


class RequestDecoder:
    """A request that arrives in pieces. Feed it bytes; it returns the message bytes among them.

    `complete` becomes True with the last comma; sender and recipients are valid then. Bytes after that are refused.
    The envelope is bounded: `address_limit` bytes an address, `envelope_limit` bytes all addresses together.
    """

    def __init__(self, message_limit: int, address_limit: int, envelope_limit: int) -> None:
        self.message_limit = message_limit
        self.address_limit = address_limit
        self.envelope_limit = envelope_limit
        self.sender: bytes | None = None
        self.recipients: list[bytes] = []
        self.complete = False
        self._buffer = b""
        self._outer = -1  # bytes left in the outer netstring, -1 before its length came
        self._message = -1  # bytes left of the message, -1 before its length came
        self._message_ended = False
        self._envelope_size = 0

    def feed(self, data: bytes) -> bytes:
        """Take what has come; return what of it is message. Raises ProtocolError; the connection is useless then."""
        if self._message > 0 and not self._buffer and len(data) < self._message:
            # Nearly every piece of a large message: nothing but message.
            self._message -= len(data)
            return data
        self._buffer += data
        if self.complete:
            raise ProtocolError("something follows the QMQP request")
        if not self._start():
            return b""
        message = self._take_message()
        if self._message_ended:
            self._take_envelope()
        return message

    def _start(self) -> bool:
        """Read the two lengths before the message; False until both are there."""
        if self._outer < 0:
            found = netstring.parse_length(self._buffer[:11], self.message_limit + self.envelope_limit)
            if found is None:
                return False
            self._outer, start = found
            self._buffer = self._buffer[start:]
        if self._message < 0:
            found = netstring.parse_length(self._buffer[:11], self.message_limit)
            if found is None:
                return False
            self._message, start = found
            self._spend(start + self._message + 1)
            self._buffer = self._buffer[start:]
        return True

    def _spend(self, count: int) -> None:
        """Account `count` bytes to the outer netstring."""
        self._outer -= count
        if self._outer < 0:
            raise ProtocolError("a netstring is longer than the one around it")

    def _take_message(self) -> bytes:
        if self._message_ended:
            return b""
        message = self._buffer[: self._message]
        self._message -= len(message)
        self._buffer = self._buffer[len(message) :]
        if self._message == 0 and self._buffer:
            if self._buffer[:1] != b",":
                raise ProtocolError("a netstring does not end in a comma")
            self._buffer = self._buffer[1:]
            self._message_ended = True
        return message

    def _take_envelope(self) -> None:
        while self._outer > 0:
            found = netstring.parse_length(self._buffer[:11], self.address_limit)
            if found is None or len(self._buffer) <= sum(found):
                return
            length, start = found
            self._spend(start + length + 1)
            address, self._buffer = netstring.decode(self._buffer, self.address_limit)
            self._add(address)
        if self._buffer:
            if self._buffer != b",":
                raise ProtocolError("the QMQP request does not end in a comma")
            if self.sender is None:
                raise ProtocolError("a QMQP request holds a message and a sender")
            self.complete = True
            self._buffer = b""

    def _add(self, address: bytes) -> None:
        self._envelope_size += len(address) + 2
        if self._envelope_size > self.envelope_limit:
            raise ProtocolError("the envelope is too long")
        if self.sender is None:
            self.sender = address
        else:
            self.recipients.append(address)
