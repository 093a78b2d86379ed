"""QMTP as bytes: a client's package, a server's answers, and the two kinds of line ends.

    package = netstring(line end byte + message) netstring(sender) netstring(netstring(recipient)...)
    answer  = netstring("K" | "Z" | "D" + text), one for each recipient, in their order

A client may send package after package before it reads an answer. The line end byte is LF or CR (for CRLF).

Source: https://cr.yp.to/proto/qmtp.txt.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from pluq.errors import ProtocolError
from pluq.wire import netstring

__all__ = ["CR", "LF", "Answer", "Answers", "CrlfLines", "encode_envelope", "encode_package", "message_head"]

LF, CR = b"\n\r"
# What a server may say about one recipient. The text goes into the log and into a bounce.
ANSWER_BYTES = 10000


def message_head(size: int) -> bytes:
    """Return what precedes `size` bytes of a message with LF line ends; b"," follows them."""
    return b"%d:\n" % (size + 1)


def encode_envelope(sender: bytes, recipients: Iterable[bytes]) -> bytes:
    """Return what follows the message's comma."""
    return netstring.encode(sender) + netstring.encode(b"".join(map(netstring.encode, recipients)))


def encode_package(message: bytes, sender: bytes, recipients: Sequence[bytes]) -> bytes:
    """Return a whole package for a message with LF line ends."""
    return message_head(len(message)) + message + b"," + encode_envelope(sender, recipients)


class Answer(NamedTuple):
    """What a server says about one recipient: "K", "Z" or "D", and a text for a person."""

    verdict: str
    text: bytes


class Answers:
    """Answers out of a stream that arrives in pieces."""

    def __init__(self) -> None:
        self._decoder = netstring.Decoder(ANSWER_BYTES)

    def feed(self, data: bytes) -> list[Answer]:
        """Return the answers that these bytes complete. Raises ProtocolError: a server that says no K, Z or D."""
        return [parse_answer(payload) for payload in self._decoder.feed(data)]


def parse_answer(payload: bytes) -> Answer:
    """Return the answer in one netstring's payload. Raises ProtocolError."""
    verdict = payload[:1].decode("latin-1")
    if verdict not in ("K", "Z", "D"):
        raise ProtocolError("a QMTP answer begins with K, Z or D")
    return Answer(verdict, payload[1:])


class CrlfLines:
    """Turns CRLF into LF in a message that arrives in pieces; a CR before anything else stays."""

    def __init__(self) -> None:
        self._held = b""

    def feed(self, piece: bytes) -> bytes:
        """Return the text of one piece. A CR at its end waits, because an LF may follow."""
        piece = self._held + piece
        self._held = b"\r" if piece.endswith(b"\r") else b""
        return (piece[:-1] if self._held else piece).replace(b"\r\n", b"\n")

    def finish(self) -> bytes:
        """Return what was held back at the end of the message."""
        held, self._held = self._held, b""
        return held
