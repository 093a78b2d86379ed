"""One connection to a milter, for one message.

    connect, agree, C H M R... T L... N B... E      each answered: continue, accept, reject, defer, discard, a reply of its own
    after E: changes, as many as it likes, then the answer for the message
    Q                                               whatever happened

After "accept" or "discard" the milter is asked nothing more. Anything that it should not have said is a MilterError, and the connection
ends. Each answer has a time limit; "in progress" begins it anew.
"""

from __future__ import annotations

import asyncio
import re
import struct
from collections.abc import Coroutine, Iterable, Mapping
from typing import Any, TypeVar

from pluq import Defer, Discard, Disconnect, Reject
from pluq.plan.chain import within
from pluq_milter.packets import (
    CHUNK_BYTES,
    MAX_PACKET,
    Change,
    MilterError,
    Options,
    Step,
    packet,
    parse_change,
    texts,
)

T = TypeVar("T")
Answer = Reject | Defer | Disconnect | Discard | None

REJECTED = Reject(550, "5.7.1", "Command rejected")
LATER = Defer(451, "4.7.1", "Service unavailable - try again later")
GO_AWAY = Disconnect(Defer(421, "4.7.1", "Service unavailable - try again later"))
MOST_CHANGES = 10_000
MOST_BYTES = 256 << 20
CONNECT_SECONDS = 10.0

_REPLY = re.compile(rb"([45]\d\d)(?:[ -](?:([45]\.\d{1,3}\.\d{1,3})(?: |$))?(.*))?", re.DOTALL)


def parse_reply(data: bytes) -> Answer:
    """Return the milter's own reply as a verdict; the first line of several. Raises MilterError."""
    found = _REPLY.match(data.rstrip(b"\0").split(b"\n")[0].rstrip(b"\r"))
    if found is None:
        raise MilterError("its reply is none")
    code, enhanced = int(found[1]), found[2].decode() if found[2] else None
    if enhanced is not None and enhanced[0] != str(code)[0]:
        raise MilterError("its reply contradicts itself")
    text = (found[3] or b"").replace(b"%%", b"%") or b"refused"
    if code == 421:
        return Disconnect(Defer(code, enhanced, text))
    return Defer(code, enhanced, text) if code < 500 else Reject(code, enhanced, text)


class Server:
    """Where a milter listens: `inet:HOST:PORT`, `inet:PORT@HOST` or `unix:PATH`, as Postfix and sendmail write it."""

    def __init__(self, text: str) -> None:
        """Raises ValueError with a sentence for a person."""
        self.text = text
        kind, _, rest = text.partition(":")
        self.path, self.host, self.port = "", "", 0
        if kind in ("unix", "local") and rest.startswith("/"):
            self.path = rest
            return
        port, at, host = rest.partition("@")
        if not at:
            host, _, port = rest.rpartition(":")
        if kind not in ("inet", "inet6") or not host or not (port.isascii() and port.isdecimal()) or int(port) > 65535:
            raise ValueError(f"{text!r} is none of inet:HOST:PORT, inet:PORT@HOST, unix:/PATH")
        self.host, self.port = host.strip("[]"), int(port)

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self.path:
            return await asyncio.open_unix_connection(self.path)
        return await asyncio.open_connection(self.host, self.port)


class Conversation:
    """What is said with one milter about one message. `seconds` is how long an answer may take."""

    def __init__(self, server: Server, seconds: float) -> None:
        self.server = server
        self.seconds = seconds
        self.is_over = False
        """The milter has accepted the message as it is, or it is gone."""
        self.discards = False
        self.options = Options()
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def open(self) -> None:
        """Connect and agree. Raises MilterError."""
        try:
            self._reader, self._writer = await within(self.server.connect(), CONNECT_SECONDS)
            self._send(Options().encode())
            kind, data = await self._in_time(self._receive())
            if kind != b"O":
                raise MilterError(f"it begins with {kind!r}")
            self.options = Options.decode(data)
        except (OSError, TimeoutError) as error:
            self.close()
            raise MilterError(str(error) or "no answer") from error
        except BaseException:
            self.close()
            raise

    async def ask(self, command: bytes, data: bytes = b"", macros: Mapping[bytes, bytes] | None = None) -> Answer:
        """Send a command and return what it means for the message, None to go on. Raises MilterError."""
        if self.is_over or not self.options.sends(command):
            return None
        if macros:
            pairs = [part for pair in macros.items() for part in pair]
            self._send(packet(b"D", command + texts(*pairs)))
        self._send(packet(command, data))
        if self.options.is_silent(command):
            return None
        return await self._guarded(self._answer(command))

    async def message(
        self, fields: Iterable[tuple[bytes, bytes]], body: Iterable[bytes], macros: Mapping[bytes, bytes]
    ) -> tuple[Answer, list[Change]]:
        """Send header and body (CRLF), and return the answer for the message with the changes that come before it."""
        for name, value in fields:
            if (answer := await self.ask(b"L", texts(name, value))) is not None or self.is_over:
                return answer, []
        if (answer := await self.ask(b"N")) is not None or self.is_over:
            return answer, []
        for piece in body:
            if not self.options.sends(b"B"):
                break
            self._send(packet(b"B", piece))
            await self._guarded(self._drained())
            if self.options.is_silent(b"B"):
                continue
            kind, data = await self._guarded(self._receive())
            if kind == b"s":
                break
            if (answer := self._meaning(kind, data)) is not None or self.is_over:
                return answer, []
        pairs = [part for pair in macros.items() for part in pair]
        self._send(packet(b"D", b"E" + texts(*pairs)) + packet(b"E"))
        return await self._guarded(self._judgement())

    async def _judgement(self) -> tuple[Answer, list[Change]]:
        changes: list[Change] = []
        size = 0
        while True:
            kind, data = await self._in_time(self._receive())
            if kind in b"carydt4f" and len(kind) == 1:
                answer = self._meaning(kind, data)
                return answer, changes if answer is None else []
            if kind != b"p":
                size += len(data)
                if len(changes) >= MOST_CHANGES or size > MOST_BYTES:
                    raise MilterError("it changes too much")
                changes.append(parse_change(kind, data, self.options.actions))

    async def _answer(self, command: bytes) -> Answer:
        while True:
            kind, data = await self._in_time(self._receive())
            if kind != b"p":
                return self._meaning(kind, data)

    def _meaning(self, kind: bytes, data: bytes) -> Answer:
        match kind:
            case b"c":
                return None
            case b"a":
                self.close()
                return None
            case b"r":
                return REJECTED
            case b"t" | b"f":
                return LATER
            case b"4":
                return GO_AWAY
            case b"y":
                return parse_reply(data)
            case b"d":
                self.discards = True
                self.close()
                return None
        raise MilterError(f"it answers {kind!r}")

    # -- the wire

    def _send(self, data: bytes) -> None:
        if self._writer is not None:
            self._writer.write(data)

    async def _drained(self) -> None:
        if self._writer is not None:
            await self._writer.drain()

    async def _receive(self) -> tuple[bytes, bytes]:
        assert self._reader is not None
        try:
            (length,) = struct.unpack(">I", await self._reader.readexactly(4))
            if not 1 <= length <= MAX_PACKET:
                raise MilterError(f"a packet of {length} octets")
            data = await self._reader.readexactly(length)
        except (OSError, asyncio.IncompleteReadError) as error:
            raise MilterError("it hung up") from error
        return data[:1], data[1:]

    async def _in_time(self, work: Coroutine[Any, Any, T]) -> T:
        try:
            done: T = await within(work, self.seconds)
        except TimeoutError:
            raise MilterError(f"no answer in {self.seconds:g} s") from None
        return done

    async def _guarded(self, work: Coroutine[Any, Any, T]) -> T:
        """Return what the work returns; the connection ends with whatever ends it otherwise."""
        try:
            return await work
        except OSError as error:
            self.close()
            raise MilterError(str(error)) from error
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Say goodbye. What has been said of the message stands."""
        self.is_over = True
        if self._writer is not None:
            self._writer.write(packet(b"Q"))
            self._writer.close()
            self._writer = self._reader = None


def has_leading_space(options: Options) -> bool:
    """Say whether values of fields are told with the blank behind the colon."""
    return bool(options.steps & Step.LEADING_SPACE)


def pieces(chunks: Iterable[bytes]) -> Iterable[bytes]:
    """Return the octets in pieces that fit into a packet."""
    for chunk in chunks:
        for start in range(0, len(chunk), CHUNK_BYTES):
            yield chunk[start : start + CHUNK_BYTES]
