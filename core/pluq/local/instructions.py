"""What a .qmail file says: the names to look for, and the instructions in it. Values only.

    # comment            nothing
    |command             feed the message to sh -c command
    &address  address    forward
    ./file  /file        append to an mbox
    ./dir/  /dir/        add to a Maildir
    +list                from here on only forwarding is allowed (also: the file has its x bit set)

Blanks at the end of a line do not count. A blank line says nothing, but a file whose first line is blank is a mistake. A line means
what stands before its first NUL.

Source: dot-qmail(5); qmesearch and main in qmail-local.c.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum
from typing import NamedTuple

from pluq.errors import TemporaryFailure

DEFAULT = b"default"


class Kind(Enum):
    """What to do; the value is how `qmail-local -n` names it."""

    MBOX = "mbox"
    MAILDIR = "maildir"
    PROGRAM = "program"
    FORWARD = "forward"


FILES = (Kind.MBOX, Kind.MAILDIR)


class Instruction(NamedTuple):
    """One delivery. `argument` is a file name, a command or an address; `shown` is the same with what follows a NUL."""

    kind: Kind
    argument: bytes
    shown: bytes


def safe_extension(ext: bytes) -> bytes:
    """Return an extension as it stands in file names: lower case, colons for dots, so that no .. can be written."""
    return ext.lower().replace(b".", b":")


def file_names(dash: bytes, ext: bytes) -> Iterator[tuple[bytes, int | None]]:
    """Yield the .qmail files to look for, in order, each with where in `ext` its default part begins (None: it has none)."""
    safe = safe_extension(ext)
    yield b".qmail" + dash + safe, len(safe) - len(DEFAULT) if safe.endswith(DEFAULT) else None
    for end in range(len(safe), -1, -1):
        if end == 0 or safe[end - 1 : end] == b"-":
            yield b".qmail" + dash + safe[:end] + DEFAULT, end


def parse(text: bytes, forward_only: bool = False) -> Iterator[Instruction]:
    """Yield the instructions in the order in which they are to be followed.

    Raises TemporaryFailure where the file breaks a rule, when that line is reached: what stands above it has been done by then.
    """
    for _, instruction in numbered(text, forward_only):
        yield instruction


def numbered(text: bytes, forward_only: bool = False) -> Iterator[tuple[int, Instruction]]:
    """Yield the instructions as `parse`, each with its line (from 1)."""
    lines = text[:-1] if text.endswith(b"\n") else text
    for number, line in enumerate(lines.split(b"\n")):
        shown = line.rstrip(b" \t")
        meaning = shown.partition(b"\0")[0]
        if not meaning and not number:
            raise TemporaryFailure("Uh-oh: first line of .qmail file is blank. (#4.2.1)", "4.2.1")
        if meaning == b"+list":
            forward_only = True
        elif instruction := _instruction(meaning, shown):
            if forward_only and instruction.kind is not Kind.FORWARD:
                what = "prog" if instruction.kind is Kind.PROGRAM else "file"
                raise TemporaryFailure(f"Uh-oh: .qmail has {what} delivery but has x bit set. (#4.7.0)", "4.7.0")
            yield number + 1, instruction


def _instruction(meaning: bytes, shown: bytes) -> Instruction | None:
    first = meaning[:1]
    if first in (b"", b"#", b"+"):
        return None
    if first in (b".", b"/"):
        return Instruction(Kind.MAILDIR if shown.endswith(b"/") else Kind.MBOX, meaning, shown)
    if first == b"|":
        return Instruction(Kind.PROGRAM, meaning[1:], shown[1:])
    start = 1 if first == b"&" else 0
    return Instruction(Kind.FORWARD, meaning[start:], shown[start:])
