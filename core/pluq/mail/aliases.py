"""Lists as Sendmail writes them: /etc/aliases, :include: files, .forward.

    root: alice, "Bob the postmaster" <bob@host.example>, (a comment) carl@sub+
    weather: "|weather-server"
    staff: :include:/etc/staff
    # a comment, with
      its continuation

A line is read from right to left, as a header's address list, but with no rules for groups: colons and semicolons only separate.
In an alias the leftmost address is the target, the others its recipients. Addresses are completed as qmail-header(5) says.

Source: dot-forward(1), newaliases(1), newinclude(1) of dot-forward and fastforward.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import NamedTuple

from pluq.errors import PermanentFailure, TemporaryFailure
from pluq.mail.tokens import (
    AT,
    ATOM,
    COLON,
    COMMA,
    COMMENT,
    DOT,
    LEFT,
    LITERAL,
    QUOTE,
    RIGHT,
    SEMICOLON,
    Token,
    parse,
    unquote,
)

__all__ = ["Defaults", "Entry", "Kind", "compile_aliases", "compile_include", "list_entries"]

LONGEST = 800
"""Bytes of an address: qmail-queue takes no more than 1000 in all."""

WORDS = frozenset((ATOM, QUOTE, LITERAL))
PHRASE = frozenset((COMMENT, ATOM, QUOTE, AT, DOT))
INCLUDE = (Token(COLON), Token(ATOM, b"include"), Token(COLON))

Pair = tuple[bytes, bytes]


class Kind(Enum):
    """What an entry of a list asks for."""

    ADDRESS = auto()
    PROGRAM = auto()
    FILE = auto()
    INCLUDE = auto()


class Entry(NamedTuple):
    """One entry. `text` is an address without quotes, a command without its bar, a file name."""

    kind: Kind
    text: bytes
    has_at: bool = False


@dataclass(frozen=True)
class Defaults:
    """What completes addresses: control/defaulthost, defaultdomain, plusdomain."""

    host: bytes
    domain: bytes
    plus: bytes

    def complete(self, address: bytes) -> bytes:
        """Return an address with a host that has a dot; it has an at-sign already, perhaps with nothing behind it."""
        if address.endswith(b"@"):
            address += self.host
        if address.endswith(b"+"):
            address = address[:-1] + b"." + self.plus
        host = address[address.rfind(b"@") + 1 :]
        return address if b"." in host else address + b"." + self.domain


def list_entries(line: bytes, with_includes: bool = True) -> list[Entry]:
    """Return the entries of a line from the last to the first. Raises TemporaryFailure for one that cannot be read.

    An address in empty angle brackets has an empty text. Without `with_includes`, :include: is a word like any other.
    """
    tokens = parse(line)
    entries = None if tokens is None else ListReader(tokens, with_includes).run()
    if entries is None:
        shown = line.partition(b"\0")[0].decode(errors="surrogateescape")
        raise TemporaryFailure(f"unable to parse this line: {shown}")
    return entries


class ListReader:
    """One walk over a line from right to left. `held` is the address that is being read, reversed."""

    def __init__(self, tokens: Sequence[Token], with_includes: bool) -> None:
        self.tokens = tokens
        self.with_includes = with_includes
        self.place = len(tokens)
        self.held: list[Token] = []
        self.entries: list[Entry] = []
        self.word_may_follow = True

    def run(self) -> list[Entry] | None:
        """Return the entries; None if an angle bracket is missing."""
        while self.place:
            self.place -= 1
            kind = self.tokens[self.place].kind
            if kind == RIGHT:
                if not self.angle_brackets():
                    return None
            elif kind == COLON:
                self.include()
            elif kind == COMMA:
                self.flush()
                self.word_may_follow = True
            elif kind not in (SEMICOLON, COMMENT):
                self.hold(kind in WORDS)
        self.flush()
        return self.entries

    def hold(self, is_word: bool) -> None:
        """Make the token part of the address; a word beside a word begins another one."""
        if is_word and not self.word_may_follow:
            self.flush()
        self.word_may_follow = not is_word
        self.held.append(self.tokens[self.place])

    def include(self) -> None:
        """Take what is held for a file name, if this is the end of :include: -- else a colon means nothing."""
        start = self.place - 2
        if self.with_includes and start >= 0 and tuple(self.tokens[start : self.place + 1]) == INCLUDE:
            self.entries.append(Entry(Kind.INCLUDE, self.take()))
            self.place = start

    def angle_brackets(self) -> bool:
        self.flush()
        while self.place and self.tokens[self.place - 1].kind != LEFT:
            self.place -= 1
            self.held.append(self.tokens[self.place])
        self.finish()
        if not self.place:
            return False
        self.place -= 1
        while self.place and self.tokens[self.place - 1].kind in PHRASE:
            self.place -= 1
        self.word_may_follow = False
        return True

    def flush(self) -> None:
        if self.held:
            self.finish()

    def finish(self) -> None:
        has_at = any(token.kind == AT for token in self.held)
        text = self.take()
        if not has_at and text.startswith(b"/"):
            self.entries.append(Entry(Kind.FILE, text))
        elif not has_at and text.startswith(b"|"):
            self.entries.append(Entry(Kind.PROGRAM, text[1:]))
        else:
            self.entries.append(Entry(Kind.ADDRESS, text, has_at))

    def take(self) -> bytes:
        text = unquote(reversed(self.held))
        self.held = []
        return text


def refuse_nul(text: bytes, where: str) -> None:
    if b"\0" in text:
        raise TemporaryFailure(f"NUL not permitted in {where}")


def include_file(name: bytes) -> bytes:
    """Return the name of a binary mailing list as the databases hold it: never one that looks like an address."""
    if not name:
        raise TemporaryFailure("empty :include: filenames not permitted")
    refuse_nul(name, ":include: filenames")
    return name if name[:1] in (b".", b"/") else b"./" + name


def show(text: bytes) -> str:
    return text.partition(b"\0")[0].decode(errors="surrogateescape")


def alias_lines(lines: Iterable[bytes]) -> Iterator[bytes]:
    """Join continuation lines, and leave out empty lines and comments."""
    held = b""
    for line in lines:
        if line == b"\n":
            continue
        if line[:1] in (b" ", b"\t"):
            held += line
            continue
        if held and not held.startswith(b"#"):
            yield held
        held = line
    if held and not held.startswith(b"#"):
        yield held


def compile_aliases(lines: Iterable[bytes], defaults: Defaults) -> Iterator[Pair]:
    """Give the records of a forwarding database for the lines of an aliases file.

    `:box@` (any host), `:@host` and `:box@host` have the commands of a target, each ended by NUL: `&recipient`, `!program`,
    `./list.bin`; `?target` has the sender for what goes to it. Raises TemporaryFailure, and PermanentFailure for an address
    that is too long.
    """
    for line in alias_lines(lines):
        target, commands = read_alias(line, defaults)
        if not target and not commands:
            continue
        if not target or not commands:
            raise TemporaryFailure(f"unable to parse this line: {show(line)}")
        if target.startswith(b"owner-"):
            yield b"?" + target[6:].lower(), defaults.complete(target)
        yield b":" + target.lower(), b"".join(command + b"\0" for command in commands)


def read_alias(line: bytes, defaults: Defaults) -> tuple[bytes, list[bytes]]:
    """Return the target of an alias, which has an at-sign, and its commands in the order of the database."""
    target = b""
    commands: list[bytes] = []
    for entry in list_entries(line):
        if entry.kind is Kind.INCLUDE:
            commands.append(include_file(entry.text) + b".bin")
        elif entry.kind is Kind.FILE:
            raise TemporaryFailure(f"file delivery {show(entry.text)} not supported")
        elif entry.kind is Kind.PROGRAM:
            refuse_nul(entry.text, "program names")
            commands.append(b"!" + entry.text)
        else:
            if target:
                commands.append(b"&" + defaults.complete(target))
            target = alias_address(entry, defaults)
    return target, commands


def alias_address(entry: Entry, defaults: Defaults) -> bytes:
    """Return an address with an at-sign, after checking what it will be when it is complete."""
    if not entry.text:
        raise TemporaryFailure("empty recipient addresses not permitted")
    address = entry.text if entry.has_at else entry.text + b"@"
    complete = defaults.complete(address)
    if len(complete) > LONGEST:
        raise PermanentFailure("addresses over 800 bytes are not permitted")
    refuse_nul(complete, "recipient addresses")
    return address


def compile_include(lines: Iterable[bytes], defaults: Defaults) -> Iterator[bytes]:
    """Give the records of a binary mailing list for the lines of an :include: file. Raises TemporaryFailure."""
    for line in lines:
        if line.startswith(b"#"):
            continue
        for entry in list_entries(line):
            if entry.kind is Kind.INCLUDE:
                refuse_newline(entry.text, ":include: filenames")
                yield include_file(entry.text) + b"\0"
            elif entry.kind is not Kind.ADDRESS:
                what = "file" if entry.kind is Kind.FILE else "program"
                shown = show(entry.text if entry.kind is Kind.FILE else b"|" + entry.text)
                raise TemporaryFailure(f"{what} delivery {shown} not supported")
            elif entry.text:
                yield b"&" + include_address(entry, defaults) + b"\0"


def refuse_newline(text: bytes, where: str) -> None:
    if b"\n" in text:
        raise TemporaryFailure(f"newlines not permitted in {where}")


def include_address(entry: Entry, defaults: Defaults) -> bytes:
    address = defaults.complete(entry.text if entry.has_at else entry.text + b"@")
    refuse_newline(address, "recipient addresses")
    refuse_nul(address, "recipient addresses")
    if len(address) > LONGEST:
        raise TemporaryFailure("addresses must be under 800 bytes")
    if address[-1:] in (b" ", b"\t"):
        raise TemporaryFailure("spaces and tabs not permitted at ends of addresses")
    return address
