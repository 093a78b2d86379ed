"""The TRANSACTION state: the messages of one mailbox, counted from 1 in the order of their arrival.

Nothing changes before QUIT, which removes what was marked and moves what was new to cur/; a connection that breaks changes
nothing (RFC 1939 section 6). Two things are qmail's own: RETR takes the line limit of TOP too, and an empty line precedes the
final dot of every message, because a last line without a newline cannot be told otherwise. STAT counts marked messages but not
their bytes.

Source: qmail-pop3d(8), RFC 1939 sections 5 to 7.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import BinaryIO, Protocol

from pluq.errors import ProtocolError
from pluq.pop3.dialogue import OK, capability_list, error

# How much of a message is in memory at once: longer lines are sent in pieces.
PIECE_BYTES = 65536
WORD = (1 << 64) - 1  # numbers wrap as qmail's unsigned long


@dataclass
class Message:
    """One message of a mailbox. `name` is below the Maildir, "new/..." or "cur/..."; `size` in bytes as on disk."""

    name: bytes
    size: int
    deleted: bool = False

    @property
    def unique(self) -> bytes:
        """The name for UIDL: the file's without folder and flags."""
        return self.name[4:].split(b":", 1)[0]


class Maildrop(Protocol):
    """The mailbox as a session needs it."""

    @property
    def messages(self) -> Sequence[Message]:
        """The messages in their order, which does not change."""

    def open(self, message: Message) -> BinaryIO:
        """Open a message for reading. Raises OSError."""

    def remove(self, message: Message) -> bool:
        """Remove a message; False if it is still there, or was gone before."""

    def keep(self, message: Message) -> None:
        """Note that a new message was seen."""


class Transaction:
    """One client and its mailbox. `capabilities` answer CAPA; without any it is unknown, as to qmail-pop3d."""

    def __init__(self, maildrop: Maildrop, capabilities: Sequence[bytes] = ()) -> None:
        self.maildrop = maildrop
        self.messages = maildrop.messages
        self.capabilities = capabilities
        self.finished = False
        self._last = 0

    def greeting(self) -> bytes:
        return OK

    def command(self, verb: bytes, argument: bytes) -> Iterable[bytes]:
        if verb == b"capa" and self.capabilities:
            return (capability_list(self.capabilities),)
        handler = COMMANDS.get(verb)
        if handler is None:
            return (error(b"unimplemented"),)
        try:
            return handler(self, argument)
        except ProtocolError as fault:
            return (error(fault.text.encode()),)

    def _find(self, argument: bytes) -> tuple[int, Message]:
        """Return number and message that the argument names. Raises ProtocolError with the text of the refusal."""
        number, _ = leading_number(argument)
        if number is None:
            raise ProtocolError("syntax error")
        if number == 0:
            raise ProtocolError("messages are counted from 1")
        if number > len(self.messages):
            raise ProtocolError("not that many messages")
        message = self.messages[number - 1]
        if message.deleted:
            raise ProtocolError("already deleted")
        return number, message

    def _stat(self, argument: bytes) -> Iterable[bytes]:
        size = sum(message.size for message in self.messages if not message.deleted)
        return (b"+OK %d %d\r\n" % (len(self.messages), size),)

    def _list(self, argument: bytes) -> Iterable[bytes]:
        return self._listing(argument, lambda message: b"%d" % message.size)

    def _uidl(self, argument: bytes) -> Iterable[bytes]:
        return self._listing(argument, lambda message: message.unique)

    def _listing(self, argument: bytes, column: Callable[[Message], bytes]) -> Iterable[bytes]:
        if argument:
            number, message = self._find(argument)
            return (b"+OK %d %b\r\n" % (number, column(message)),)
        lines = (
            b"%d %b\r\n" % (number, column(message))
            for number, message in enumerate(self.messages, 1)
            if not message.deleted
        )
        return (OK, *lines, b".\r\n")

    def _dele(self, argument: bytes) -> Iterable[bytes]:
        number, message = self._find(argument)
        message.deleted = True
        self._last = max(self._last, number)
        return (OK,)

    def _last_used(self, argument: bytes) -> Iterable[bytes]:
        return (b"+OK %d\r\n" % self._last,)

    def _rset(self, argument: bytes) -> Iterable[bytes]:
        for message in self.messages:
            message.deleted = False
        self._last = 0
        return (OK,)

    def _noop(self, argument: bytes) -> Iterable[bytes]:
        return (OK,)

    def _retrieve(self, argument: bytes) -> Iterable[bytes]:
        _, message = self._find(argument)
        _, rest = leading_number(argument)
        lines, _ = leading_number(rest.lstrip(b" "))
        try:
            file = self.maildrop.open(message)
        except OSError:
            return (error(b"unable to open that message"),)
        return self._send(file, lines)

    def _send(self, file: BinaryIO, lines: int | None) -> Iterator[bytes]:
        with file:
            yield OK
            try:
                yield from retrieval(file, lines)
            except OSError:
                self.finished = True  # half a message must not look like a whole one

    def _quit(self, argument: bytes) -> Iterable[bytes]:
        self.finished = True
        return (*self._update(), OK)

    def _update(self) -> Iterator[bytes]:
        for message in self.messages:
            if not message.deleted:
                self.maildrop.keep(message)
            elif not self.maildrop.remove(message):
                yield error(b"unable to unlink all deleted messages")


COMMANDS: dict[bytes, Callable[[Transaction, bytes], Iterable[bytes]]] = {
    b"quit": Transaction._quit,
    b"stat": Transaction._stat,
    b"list": Transaction._list,
    b"uidl": Transaction._uidl,
    b"dele": Transaction._dele,
    b"retr": Transaction._retrieve,
    b"rset": Transaction._rset,
    b"last": Transaction._last_used,
    b"top": Transaction._retrieve,
    b"noop": Transaction._noop,
}


def leading_number(text: bytes) -> tuple[int | None, bytes]:
    """Return the number that the text begins with, None if it begins with something else, and what follows."""
    rest = text.lstrip(b"0123456789")
    digits = text[: len(text) - len(rest)]
    # 10**64 is a multiple of 2**64: the digits before the last 64 do not count.
    return (int(digits[-64:]) & WORD if digits else None), rest


def retrieval(file: BinaryIO, lines: int | None) -> Iterator[bytes]:
    """Yield a message as POP3 sends it, with `lines` lines of its body, or all of it.

    Lines end in CRLF, a dot at the beginning of a line is doubled, and an empty line and a dot end the message.
    """
    left = lines
    in_header = at_start = True
    while piece := file.readline(PIECE_BYTES):
        whole = piece.endswith(b"\n")
        text = piece[:-1] if whole else piece
        if at_start:
            if not in_header and left is not None:
                if left == 0:
                    break
                left -= 1
            if not text:
                in_header = False
            elif text.startswith(b"."):
                yield b"."
        yield text + b"\r\n" if whole else text
        at_start = whole
    yield b"\r\n.\r\n" if at_start else b"\r\n\r\n.\r\n"
