"""Netstrings: `LEN:BYTES,` with LEN in decimal. The framing of QMQP and QMTP.

The length is read first, so that a reader knows how much comes before it takes any of it: every function here asks for
the limit of its caller. A length with a leading zero is refused except "0" itself, as the paper says.

Source: D. J. Bernstein, "Netstrings", 1997.
"""

from __future__ import annotations

from pluq.errors import ProtocolError

__all__ = ["Decoder", "decode", "decode_all", "encode", "parse_length"]

# Digits of the largest length that anybody may announce (9,999,999,999 bytes); the caller's limit is usually far below.
MAX_DIGITS = 10


def encode(payload: bytes) -> bytes:
    """Return the payload as one netstring."""
    return b"%d:%b," % (len(payload), payload)


def parse_length(head: bytes, limit: int) -> tuple[int, int] | None:
    """Return the length that `head` begins with and where the payload starts; None while the colon has not come.

    Raises ProtocolError for what cannot become a length, and for one above `limit`.
    """
    colon = head.find(b":", 0, MAX_DIGITS + 1)
    digits = head[: colon if colon >= 0 else MAX_DIGITS + 1]
    if digits and not digits.isdigit():
        raise ProtocolError("a netstring begins with its length in decimal")
    if colon < 0:
        if len(digits) > MAX_DIGITS:
            raise ProtocolError("the length of a netstring has too many digits")
        return None
    if not digits or (digits[0] == ord("0") and len(digits) > 1):
        raise ProtocolError("a netstring begins with its length in decimal")
    if int(digits) > limit:
        raise ProtocolError(f"a netstring of {int(digits)} bytes is longer than the {limit} allowed here")
    return int(digits), colon + 1


def decode(data: bytes, limit: int) -> tuple[bytes, bytes]:
    """Return the first netstring's payload and the bytes after it. Raises ProtocolError; also when it is cut short."""
    found = parse_length(data[: MAX_DIGITS + 1], limit)
    if found is None:
        raise ProtocolError("a netstring is cut short")
    length, start = found
    end = start + length
    if len(data) <= end:
        raise ProtocolError("a netstring is cut short")
    if data[end] != ord(","):
        raise ProtocolError("a netstring does not end in a comma")
    return data[start:end], data[end + 1 :]


def decode_all(data: bytes, limit: int) -> list[bytes]:
    """Return the payloads of netstrings that fill `data` exactly."""
    payloads = []
    view = 0
    while view < len(data):
        found = parse_length(data[view : view + MAX_DIGITS + 1], limit)
        if found is None:
            raise ProtocolError("a netstring is cut short")
        length, start = found
        end = view + start + length
        if data[end : end + 1] != b",":
            raise ProtocolError("a netstring does not end in a comma")
        payloads.append(data[view + start : end])
        view = end + 1
    return payloads


class Decoder:
    """Netstrings out of a stream that arrives in pieces. It holds at most one unfinished netstring, `limit` bytes long."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._buffer = bytearray()

    @property
    def idle(self) -> bool:
        """Nothing is half read: the stream may end here."""
        return not self._buffer

    def feed(self, data: bytes) -> list[bytes]:
        """Return the payloads that these bytes complete. Raises ProtocolError; the stream is useless after that."""
        self._buffer += data
        payloads = []
        while (found := parse_length(bytes(self._buffer[: MAX_DIGITS + 1]), self.limit)) is not None:
            length, start = found
            end = start + length
            if len(self._buffer) <= end:
                break
            if self._buffer[end] != ord(","):
                raise ProtocolError("a netstring does not end in a comma")
            payloads.append(bytes(self._buffer[start:end]))
            del self._buffer[: end + 1]
        return payloads
