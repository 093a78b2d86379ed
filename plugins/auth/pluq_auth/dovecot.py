r"""Dovecot as the judge: its auth client socket, through which every mechanism that it has passes as it is.

Both sides first say what they are, a line each; fields are separated by tabs:

    server  VERSION 1 2 / MECH PLAIN plaintext / SPID / CUID / COOKIE / DONE        client  VERSION 1 1 / CPID 123

Then AUTH (with the client's first response last), and CONT in both directions, until OK or FAIL. Tabs, line ends, NUL and \1 in a value are
escaped with \1. Dovecot delays failures itself, and decides about its own users; we say whether TLS is on, and both addresses.

Source: Dovecot's "Authentication Protocol" 1.2.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Coroutine, Mapping, Sequence
from typing import Any, NoReturn, TypeVar

from pluq.hookspecs import Session
from pluq.plan.chain import within
from pluq_auth.dialogue import Dialogue, Malformed, Proof, Refused, Unavailable, check_name, decode

T = TypeVar("T")

SERVICE = b"smtp"
MAJOR = b"1"
TROUBLE = "oops, unable to reach the login service and I can't auth"

# Dovecot's own limit of one line of this protocol.
MAX_LINE = 65536
MAX_LINES = 100

# Mechanisms that make no sense for a client of ours, or that a man in the middle could read as nobody.
NEVER = frozenset({"ANONYMOUS", "EXTERNAL"})

_ESCAPES = {b"\x01": b"\x011", b"\t": b"\x01t", b"\r": b"\x01r", b"\n": b"\x01n", b"\0": b"\x010"}
_UNESCAPES = {b"1": b"\x01", b"t": b"\t", b"r": b"\r", b"n": b"\n", b"0": b"\0"}


def escape(value: bytes) -> bytes:
    return b"".join(_ESCAPES.get(value[at : at + 1], value[at : at + 1]) for at in range(len(value)))


def unescape(value: bytes) -> bytes:
    first, *rest = value.split(b"\x01")
    return first + b"".join(_UNESCAPES.get(piece[:1], b"") + piece[1:] for piece in rest)


def parse_fields(fields: Sequence[bytes]) -> Mapping[bytes, bytes]:
    """Return name=value fields; a field without a value has b""."""
    pairs = (field.partition(b"=") for field in fields)
    return {name: unescape(value) for name, _, value in pairs}


class Link:
    """One connection to the socket, for one login."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def receive(self) -> list[bytes]:
        """Return the fields of the next line. Raises Unavailable at the end."""
        try:
            line = await self._reader.readline()
        except ValueError:  # longer than MAX_LINE
            raise Unavailable(TROUBLE) from None
        if not line.endswith(b"\n"):
            raise Unavailable(TROUBLE)
        return line[:-1].split(b"\t")

    def send(self, *fields: bytes) -> None:
        self._writer.write(b"\t".join(fields) + b"\n")

    async def greet(self) -> list[str]:
        """Do the handshake; return the mechanisms."""
        self.send(b"VERSION", MAJOR, b"1")
        self.send(b"CPID", b"%d" % os.getpid())
        mechanisms: list[str] = []
        for _ in range(MAX_LINES):
            verb, *fields = await self.receive()
            if verb == b"VERSION" and fields[:1] != [MAJOR]:
                break
            if verb == b"MECH" and fields:
                mechanisms.append(fields[0].decode("ascii", "replace").upper())
            if verb == b"DONE":
                return [name for name in mechanisms if name not in NEVER]
        raise Unavailable(TROUBLE)

    def close(self) -> None:
        self._writer.close()


class Dovecot:
    """The back end. `path` is the socket, `seconds` how long an answer may take."""

    def __init__(self, path: str, seconds: float) -> None:
        self.path = path
        self.seconds = seconds
        self.mechanisms: tuple[str, ...] = ()

    async def connect(self) -> Link:
        try:
            reader, writer = await asyncio.open_unix_connection(self.path, limit=MAX_LINE)
        except OSError:
            raise Unavailable(TROUBLE) from None
        link = Link(reader, writer)
        try:
            self.mechanisms = tuple(await link.greet())
        except BaseException:
            link.close()
            raise
        return link

    async def learn(self) -> None:
        """Ask which mechanisms there are. Raises Unavailable."""
        (await self.in_time(self.connect())).close()

    async def in_time(self, work: Coroutine[Any, Any, T]) -> T:
        """Return what the work returns. Raises Unavailable when it takes too long."""
        try:
            done: T = await within(work, self.seconds)
        except TimeoutError:
            raise Unavailable(TROUBLE) from None
        return done

    async def authenticate(self, mechanism: str, dialogue: Dialogue, session: Session, offered: Sequence[str]) -> Proof:
        """Return who the client is. Raises Ended."""
        link = await self.in_time(self.connect())
        try:
            link.send(*await request(mechanism, dialogue, session))
            return await self.converse(link, dialogue)
        finally:
            link.close()

    async def converse(self, link: Link, dialogue: Dialogue) -> Proof:
        """Pass challenges and responses on until the server decides."""
        for _ in range(MAX_LINES):
            verb, *fields = await self.in_time(link.receive())
            if fields[:1] != [b"1"]:
                continue
            if verb == b"OK":
                return Proof(check_name(parse_fields(fields[1:]).get(b"user", b"")))
            if verb == b"FAIL":
                fail(parse_fields(fields[1:]))
            if verb == b"CONT":
                link.send(b"CONT", b"1", checked(await dialogue.line(fields[1] if len(fields) > 1 else b"")))
        raise Unavailable(TROUBLE)


async def request(mechanism: str, dialogue: Dialogue, session: Session) -> list[bytes]:
    """Return the AUTH line: what we know of the connection, then the initial response, which must stand last."""
    fields = [b"AUTH", b"1", mechanism.encode("ascii"), b"service=" + SERVICE, b"nologin"]
    known = ((b"lip", session.local_ip), (b"rip", session.remote_ip))
    fields += [b"%b=%b" % (name, escape(value.encode("utf-8", "replace"))) for name, value in known if value]
    fields += [
        b"%b=%d" % (name, port) for name, port in ((b"lport", session.local_port), (b"rport", session.remote_port))
    ]
    if session.tls is not None:
        fields.append(b"secured")
    if dialogue.has_initial:
        fields.append(b"resp=" + checked(await dialogue.line()))
    return fields


def checked(line: bytes) -> bytes:
    """Return a response as it came. Raises Malformed for what is no base64: it would be the end of a field there."""
    decode(line)
    return line


def fail(fields: Mapping[bytes, bytes]) -> NoReturn:
    """Raise what a FAIL means."""
    if b"temp" in fields or fields.get(b"code") == b"temp_fail":
        raise Unavailable(TROUBLE)
    if fields.get(b"reason") == b"Invalid base64 data in initial response":
        raise Malformed
    raise Refused(fields.get(b"user", b""))
