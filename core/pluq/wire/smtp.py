"""SMTP as bytes: a message on its way out, replies on their way in.

Outgoing: a message in a queue file has LF line ends; on the wire each line ends with CRLF, a line that begins with a dot gets
another one, and a line of one dot ends it. CRLF, CR and LF in the file are all line ends, so that no bare CR or LF ever
leaves: a receiver that takes one for a line end would see commands in our message. A message whose last line has no end
cannot be sent at all.

Incoming: a reply is lines of three digits, a hyphen (more follow) or anything else (the last), text, LF. CR is ignored
wherever it stands. `ReplyParser` reads them as qmail-remote does, so that odd replies mean the same to both: codes are
computed from whatever three bytes are there, and only the first 5000 bytes of the text are kept.

Source: RFC 5321 sections 2.3.8, 4.2 and 4.5.2; RFC 3463; qmail-remote.c of qmail.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from pluq.errors import ProtocolError

__all__ = [
    "END_OF_DATA",
    "DotStuffer",
    "Reply",
    "ReplyParser",
    "capabilities",
    "enhanced_code",
    "stuff",
    "stuff_chunks",
]

END_OF_DATA = b".\r\n"

# qmail-remote's HUGESMTPTEXT: what a bounce may quote of one reply.
MAX_TEXT_BYTES = 5000

PARTIAL_LINE = "message with a partial final line"


def stuff(message: bytes) -> bytes:
    """Return a whole message as it goes over the wire, without the final dot.

    Raises ProtocolError (blame "local") for a message whose last line has no end.
    """
    if b"\r" in message:
        message = message.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    if message[-1:] not in (b"\n", b""):
        raise ProtocolError(PARTIAL_LINE, blame="local")
    stuffed = message.replace(b"\n.", b"\n..").replace(b"\n", b"\r\n")
    return b"." + stuffed if message[:1] == b"." else stuffed


class DotStuffer:
    """`stuff` for a message that comes in pieces, cut anywhere. Keeps at most one byte."""

    def __init__(self) -> None:
        self.at_line_start = True
        self.held = b""

    def feed(self, piece: bytes) -> bytes:
        """Return the wire form of one piece. A CR at its end waits, because an LF may follow."""
        piece = self.held + piece
        self.held = b"\r" if piece.endswith(b"\r") else b""
        if self.held:
            piece = piece[:-1]
        if b"\r" in piece:
            piece = piece.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        if not piece:
            return b""
        stuffed = piece.replace(b"\n.", b"\n..").replace(b"\n", b"\r\n")
        if self.at_line_start and piece.startswith(b"."):
            stuffed = b"." + stuffed
        self.at_line_start = piece.endswith(b"\n")
        return stuffed

    def finish(self) -> bytes:
        """Return what was held back. Raises ProtocolError (blame "local") for a partial final line."""
        if self.held:
            self.held, self.at_line_start = b"", True
            return b"\r\n"
        if not self.at_line_start:
            raise ProtocolError(PARTIAL_LINE, blame="local")
        return b""


def stuff_chunks(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the wire form of a message in pieces, without the final dot. Raises as `stuff`, at the end."""
    stuffer = DotStuffer()
    for piece in pieces:
        yield stuffer.feed(piece)
    yield stuffer.finish()


class Reply(NamedTuple):
    """One reply. `text` is all its lines with their LF, without CR; NUL and all other bytes as they came."""

    code: int
    text: bytes


# The code as qmail computes it, digits or not: unsigned arithmetic on C's long.
_UNSIGNED = (1 << 64) - 1
_DIGITS = {b"%03d" % code: code for code in range(1000)}

# Whole replies of one line each: nearly all that ever comes.
_PLAIN = re.compile(rb"(?:[0-9]{3}(?: [^\r\n]*)?\r\n)+")


def reply_code(three: bytes) -> int:
    """Return the number of a reply's first three bytes. What is no digit gives some other number, mostly a huge one."""
    code = _DIGITS.get(three)
    if code is not None:
        return code
    return ((three[0] - 48) * 100 + (three[1] - 48) * 10 + (three[2] - 48)) & _UNSIGNED


class ReplyParser:
    """Bytes from the peer in any pieces, replies out. Memory is bounded by MAX_TEXT_BYTES and one piece."""

    def __init__(self) -> None:
        self._buffer = b""
        self._code: int | None = None  # of the reply whose later lines are still coming
        self._text = b""  # its lines so far
        self._last_line = False  # the line being skipped to its end is the last one
        self._in_line = False  # a line has begun whose end has not come

    @property
    def is_clean(self) -> bool:
        """True between replies: nothing of a next one has come."""
        return not self._buffer and self._code is None

    def feed(self, data: bytes) -> list[Reply]:
        """Return the replies that `data` completes."""
        if not self._buffer and self._code is None and len(data) <= MAX_TEXT_BYTES and _PLAIN.fullmatch(data):
            return [Reply(_DIGITS[line[:3]], line + b"\n") for line in data.split(b"\r\n")[:-1]]
        return self._feed_any(data)

    def _feed_any(self, data: bytes) -> list[Reply]:
        self._buffer = data = self._buffer + data if self._buffer else data
        replies: list[Reply] = []
        while (end := self._line_end(data)) >= 0:
            self._keep(data[:end])
            data = data[end:]
            if self._last_line and self._code is not None:
                replies.append(Reply(self._code, self._text))
                self._code, self._text = None, b""
        self._buffer = data
        if self._in_line:  # a long line: what is known of it need not wait for its end
            self._keep(data)
            self._buffer = b""
        return replies

    def _line_end(self, data: bytes) -> int:
        """Return where the line at the start of `data` ends, -1 if it has not come. Reads the head of a new line."""
        if not self._in_line:
            if len(data) < 4:
                return -1
            # qmail takes three bytes, whatever they are, and looks for the LF from the fourth on.
            if self._code is None:
                self._code = reply_code(data[:3])
            self._last_line = data[3] != 0x2D
            self._in_line = True
            end = data.find(b"\n", 3)
        else:
            end = data.find(b"\n")
        if end < 0:
            return -1
        self._in_line = False
        return end + 1

    def _keep(self, line: bytes) -> None:
        room = MAX_TEXT_BYTES - len(self._text)
        if room > 0:
            self._text += line.replace(b"\r", b"")[:room]


def capabilities(text: bytes) -> dict[bytes, bytes]:
    """Return what an EHLO reply announces: keyword in upper case -> its parameters (b"" where there are none)."""
    found: dict[bytes, bytes] = {}
    for line in text.split(b"\n")[1:]:
        keyword, _, parameters = line[4:].strip().partition(b" ")
        if keyword.upper().startswith(b"AUTH="):  # an old form that is still about
            keyword, parameters = b"AUTH", keyword[5:] + b" " + parameters
        if keyword:
            found.setdefault(keyword.upper(), parameters.strip())
    return found


_ENHANCED = re.compile(rb"[0-9]{3}[ -]([245]\.[0-9]{1,3}\.[0-9]{1,3})(?= |$)", re.MULTILINE)


def enhanced_code(text: bytes) -> bytes | None:
    """Return the RFC 3463 code with which a reply's text begins, or None."""
    match = _ENHANCED.match(text)
    return match[1] if match else None
