"""The table of fastforward: from text to a forwarding database or a binary mailing list, and back.

    root@yp.to: god@heaven.af.mil, &staff@af.mil, ?owner@yp.to, /etc/lists/sos.bin, |program, !program;   # a comment

A database record `:target` holds commands, each ended by NUL: `&address`, `|program`, `!program` (with the lines of preline), or
the name of a binary mailing list, which begins with a dot or slash. `?target` holds the sender for what goes to the target.
Targets are in lower case. A binary mailing list holds `&address` and list names, each ended by NUL.

Source: setforward(1), setmaillist(1), printforward(1), printmaillist(1) of fastforward.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from pluq.errors import PermanentFailure, TemporaryFailure

__all__ = ["compile_forward", "compile_maillist", "print_forward", "print_maillist", "split_commands"]

LONGEST = 800
LONGEST_COMMAND = 900
"""An address command that is longer is left out by the reader: qmail-queue would refuse it."""

BLANKS = b" \n\t"
TO_ESCAPE = re.compile(rb"[\x00- ,:;\\#\x80-\xff]")

PIECE = re.compile(
    rb"(?P<comment>\#[^\n]*\n?) | (?P<blank>[ \n\t]+) | (?P<sign>[:,;]) | \\(?P<escaped>.) | (?P<text>[^\#\ \n\t:,;\\]+)",
    re.VERBOSE | re.DOTALL,
)

Pair = tuple[bytes, bytes]


def compile_forward(text: bytes) -> Iterator[Pair]:
    """Give the database records for a table, in its order. Raises PermanentFailure for one that cannot be read."""
    words: list[bytes] = []  # the target, then its commands
    word = b""
    records: list[bytes] = []
    for piece in PIECE.finditer(text):
        sign = piece["sign"]
        if sign is None:
            word += piece["escaped"] or piece["text"] or b""
            continue
        if sign == b":":
            if words:
                raise PermanentFailure("double colons are not permitted")
            words.append(refuse_nul(word))
        elif not words:
            raise PermanentFailure("commas are not permitted before colons")
        elif word.startswith(b"?"):
            yield b"?" + words[0].lower(), refuse_nul(word[1:])
        elif word:
            records.append(command_record(refuse_nul(word)))
        if sign == b";":
            if records:
                yield b":" + words[0].lower(), b"".join(records)
            words.clear()
            records.clear()
        word = b""
    if words or word:
        raise PermanentFailure("final instruction must end with semicolon")


def refuse_nul(word: bytes) -> bytes:
    if b"\0" in word:
        raise PermanentFailure("NUL bytes are not permitted")
    return word


def command_record(command: bytes) -> bytes:
    """Return a command as a database holds it."""
    if command[:1] in (b"|", b"!", b".", b"/"):
        return command + b"\0"
    if len(command) > LONGEST:
        raise PermanentFailure("addresses over 800 bytes are not permitted")
    return (command if command.startswith(b"&") else b"&" + command) + b"\0"


def compile_maillist(lines: Iterable[bytes]) -> Iterator[bytes]:
    """Give the records of a binary mailing list for its lines. Raises TemporaryFailure."""
    for raw in lines:
        line = raw.rstrip(BLANKS)
        if b"\0" in line:
            raise TemporaryFailure("NUL in input")
        if not line or line.startswith(b"#"):
            continue
        if line[:1] in (b".", b"/"):
            yield line + b"\0"
            continue
        if len(line) > LONGEST:
            raise TemporaryFailure("addresses must be under 800 bytes")
        yield (line if line.startswith(b"&") else b"&" + line) + b"\0"


def split_commands(data: bytes) -> list[bytes]:
    """Return the commands of a record, or the records of a mailing list. What follows the last NUL is no command."""
    return [command for command in data.split(b"\0")[:-1] if is_usable(command)]


def is_usable(command: bytes) -> bool:
    if command.startswith(b"&"):
        return len(command) < LONGEST_COMMAND
    return command[:1] in (b"|", b"!", b".", b"/")


def escape(text: bytes) -> bytes:
    """Put a backslash before what setforward would not take for text."""
    return TO_ESCAPE.sub(rb"\\\g<0>", text)


def print_forward(records: Iterable[Pair]) -> Iterator[bytes]:
    """Give the lines of a table that compiles to these records. Raises PermanentFailure for records of another kind."""
    for key, data in records:
        target = escape(key[1:])
        if key.startswith(b"?"):
            yield b"%s: ?%s;\n" % (target, escape(data))
            continue
        commands = split_commands(data)
        if not key.startswith(b":") or len(commands) != data.count(b"\0") or data[-1:] not in (b"", b"\0"):
            raise PermanentFailure("bad database format")
        yield target + b":\n"
        for command in commands:
            yield b", %s\n" % escape(command)
        yield b";\n"


def print_maillist(data: bytes) -> Iterator[bytes]:
    """Give the lines of a mailing list that compiles to these bytes. Raises PermanentFailure for bytes of another kind."""
    for record in data.split(b"\0")[:-1]:
        plain = b"\n" not in record and record[-1:] not in (b" ", b"\t")
        if not plain or record[:1] in (b"|", b"!") or not is_usable(record):
            raise PermanentFailure("bad mailing list format")
        yield record + b"\n"
    if not data.endswith(b"\0") and data:
        raise PermanentFailure("bad mailing list format")
