"""Command lines between a POP3 session and a client.

A line ends at LF; one CR before it is no part of the line, and neither is anything from a NUL on. The verb reaches to the first
space, in any case; the argument begins at the next byte that is no space, and keeps what blanks it ends with (a password may).
A line without an LF at the end of the connection is not a command.

Source: commands.c of qmail, RFC 1939 section 3.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Protocol

from pluq.errors import ProtocolError

# qmail takes lines of any length. RFC 2449 section 4 allows 255 bytes; the rest is room for long passwords and tokens.
LINE_BYTES = 16384
# As much as qmail-popup reads at once. What a client sends ahead of the reply to PASS is lost in that much, as in qmail:
# a client must wait there, and the program behind the login finds the descriptor where qmail leaves it.
READ_BYTES = 128
WRITE_BYTES = 65536

OK = b"+OK \r\n"


def error(text: bytes) -> bytes:
    """Return the refusal of a command."""
    return b"-ERR " + text + b"\r\n"


def capability_list(capabilities: Sequence[bytes]) -> bytes:
    """Return the reply to CAPA (RFC 2449 section 5)."""
    return b"+OK capability list follows\r\n%b.\r\n" % b"".join(line + b"\r\n" for line in capabilities)


class Session(Protocol):
    """One state of a POP3 session. It has ended when `finished` is true."""

    finished: bool

    def greeting(self) -> bytes:
        """Return what the server says first."""

    def command(self, verb: bytes, argument: bytes) -> Iterable[bytes]:
        """Return the reply to a command in pieces; `verb` is in lower case."""


def split_command(line: bytes) -> tuple[bytes, bytes]:
    """Return verb, in lower case, and argument of a line without its LF."""
    text = line.removesuffix(b"\r").split(b"\0", 1)[0]
    verb, _, argument = text.partition(b" ")
    return verb.lower(), argument.lstrip(b" ")


class Lines:
    """Cuts a stream into lines and keeps the unfinished one."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yield the lines that `data` completes, without LF. Raises ProtocolError when one grows beyond LINE_BYTES."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        yield from lines
        if len(self._rest) > LINE_BYTES:
            raise ProtocolError(f"a command line of more than {LINE_BYTES} bytes")


def converse(session: Session, read: Callable[[int], bytes], write: Callable[[bytes], None]) -> None:
    """Serve the session until it ends or the client has gone. `read` returns b"" at the end; `write` writes all."""
    lines = Lines()
    write(session.greeting())
    while data := read(READ_BYTES):
        try:
            for line in lines.feed(data):
                for block in blocks(session.command(*split_command(line))):
                    write(block)
                if session.finished:
                    return
        except ProtocolError:
            write(error(b"line too long"))
            return


def blocks(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Join the pieces of a reply into writes of a reasonable size."""
    waiting: list[bytes] = []
    size = 0
    for piece in pieces:
        waiting.append(piece)
        size += len(piece)
        if size >= WRITE_BYTES:
            yield b"".join(waiting)
            waiting, size = [], 0
    if waiting:
        yield b"".join(waiting)
