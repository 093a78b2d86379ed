r"""The message after DATA: from SMTP's form to qmail's, in bulk, in pieces of any size.

SMTP's form has CR LF line ends, a doubled dot at the start of a line, and ends with CR LF . CR LF. qmail's has LF line ends. What
qmail-smtpd does octet by octet is done here with a few scans over each piece:

    CR LF            becomes LF
    LF without CR    is a stray newline: the session ends (a smuggled end of message begins so)
    CR without LF    stays
    dot at the start of a line goes, except before a CR without LF (as in qmail), and except in the end itself

The end of a piece that could be the start of CR LF . CR LF waits for the next piece. A message begins at the start of a line,
as if CR LF stood before it.

Source: blast in qmail-smtpd.c; RFC 5321 section 4.5.2; https://cr.yp.to/docs/smtplf.html.
"""

from __future__ import annotations

import re

from pluq.errors import ProtocolError

END = b"\r\n.\r\n"

# qmail-smtpd counts these; a message that passed so many hosts is looping (MAXHOPS).
MAX_HOPS = 100
_RECEIVED, _DELIVERED = b"\nreceived", b"\ndelivered"
_HOP_TAIL = len(_DELIVERED) - 1

# A dot that begins a line goes, unless a CR follows: CR LF . CR x is not stuffing to qmail.
_STUFFED = re.compile(rb"\n\.(?!\r)")


class StrayNewline(ProtocolError):
    """A LF without CR in the message."""

    def __init__(self) -> None:
        super().__init__("bare LF in the message")


def unstuff(piece: bytes, has_dots: bool) -> bytes:
    """Return a piece in qmail's form. It starts anywhere and holds no half CR LF. Raises StrayNewline.

    `has_dots`: some line begins with a dot.
    """
    text = piece.replace(b"\r", b"")
    if text.replace(b"\n", b"\r\n") == piece:  # no CR and no LF but in pairs: all but every message
        return text.replace(b"\n.", b"\n") if has_dots else text
    if piece.count(b"\n") != piece.count(b"\r\n"):
        raise StrayNewline
    return _STUFFED.sub(b"\n", piece.replace(b"\r\n", b"\n"))


def unstuff_whole(data: bytes) -> bytes | None:
    """Return in qmail's form a message that has arrived as a whole and has no dots to be taken out; None for any other.

    Most are such, and this makes three copies fewer.
    """
    if data.find(b"\r\n.") != len(data) - len(END) or data[:1] == b"." or not data.endswith(END):
        return None
    text = data.replace(b"\r", b"")
    return text[:-2] if text.replace(b"\n", b"\r\n") == data else None


def held_back(data: bytes) -> int:
    """Return how many octets at the end of `data` may begin the end of the message."""
    start = data.rfind(b"\r", -4)
    if start == -1:
        return 0
    tail = data[start:]
    if tail == b"\r" and data.endswith(b"\r\n.\r"):
        return 4
    return len(tail) if END.startswith(tail) else 0


class HopCounter:
    """Counts the Received and Delivered-To fields of the header, as it goes by in SMTP's form."""

    __slots__ = ("_tail", "hops", "in_header")

    def __init__(self) -> None:
        self.hops = 0
        self.in_header = True
        self._tail = b""

    def feed(self, piece: bytes) -> None:
        text = self._tail + piece
        end = text.find(b"\n\r\n")
        if end >= 0:
            self.in_header = False
            text = text[: end + 1]
        text = text.lower()
        # What lies within the tail was counted before; _DELIVERED is longer than the tail.
        self.hops += text.count(_RECEIVED) + text.count(_DELIVERED) - self._tail.count(_RECEIVED)
        self._tail = text[-_HOP_TAIL:]


class Body:
    """One message being received. Feed what arrives; `feed` gives what may be stored."""

    __slots__ = ("_first", "_held", "_hops", "done", "rest", "size")

    def __init__(self) -> None:
        self.done = False
        self.size = 0
        """Octets given so far, in qmail's form."""
        self.rest = b""
        """What was fed behind the end of the message."""
        self._held = b"\r\n"
        self._first = True
        self._hops = HopCounter()

    @property
    def is_looping(self) -> bool:
        return self._hops.hops >= MAX_HOPS

    def feed(self, data: bytes) -> bytes:
        """Return the next part of the message in qmail's form; afterwards `done` says whether it was the last.

        Raises StrayNewline for a LF without CR before the end.
        """
        if self._first and self._held == b"\r\n":  # nothing came before: a dot may wait to be understood
            text = unstuff_whole(data)
            if text is not None:
                self._first, self.done, self.size = False, True, len(text)
                self._hops.feed(b"\n" + data)
                return text
        data = self._held + data
        dot = data.find(b"\r\n.")  # one scan finds both what may be the end and stuffed dots
        end = -1 if dot < 0 else data.find(END, dot)
        if end >= 0:
            piece, self.rest = data[: end + 2], data[end + len(END) :]
            self.done, self._held = True, b""
        else:
            split = len(data) - held_back(data)
            piece, self._held = data[:split], data[split:]
        if not piece:
            return b""
        if self._hops.in_header:
            self._hops.feed(piece)
        text = unstuff(piece, 0 <= dot != end)
        if self._first:  # the line end that was not there
            self._first = False
            text = text[1:]
        self.size += len(text)
        return text
