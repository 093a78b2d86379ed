"""Netstrings read as qmail's servers read them: length, colon, bytes, comma, straight from the connection.

A length may have leading zeros or no digit at all; whoever announces more than 200 million is told to come back later, because
the limit is ours. In QMQP everything lies inside one netstring, and what is inside may not reach beyond its end: `budget`.

Source: getlen, getcomma and getbuf in qmail-qmtpd.c and qmail-qmqpd.c of qmail.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable

from pluq.errors import PluqError, ProtocolError, TemporaryFailure

LENGTH_LIMIT = 200_000_000
# How far is read ahead. Answers are written before each read, so this is also what a client may send without getting one.
READ_BYTES = 512
PIECE_BYTES = 65536

ZERO, NINE, COLON, COMMA = b"09:,"


class EndOfInput(PluqError):
    """The client has closed the connection."""


class Reader:
    """The bytes of one connection. `read` gives at most so many bytes, b"" at the end."""

    def __init__(self, read: Callable[[int], Awaitable[bytes]], budget: int | None = None) -> None:
        self._read = read
        self._buffer = b""
        self.budget = budget

    async def _fill(self, size: int) -> None:
        self._buffer = await self._read(size)
        if not self._buffer:
            raise EndOfInput("the connection was closed")

    def _spend(self, count: int) -> None:
        if self.budget is not None:
            if self.budget < count:
                raise ProtocolError("a netstring is longer than the one around it")
            self.budget -= count

    async def byte(self) -> int:
        """Return one byte. Raises EndOfInput."""
        self._spend(1)
        if not self._buffer:
            await self._fill(READ_BYTES)
        octet, self._buffer = self._buffer[0], self._buffer[1:]
        return octet

    async def length(self) -> int:
        """Return the length of the netstring that begins here. Raises ProtocolError, TemporaryFailure for a huge one."""
        length = 0
        while (octet := await self.byte()) != COLON:
            if length > LENGTH_LIMIT:
                raise TemporaryFailure(f"a netstring of more than {LENGTH_LIMIT} bytes")
            if not ZERO <= octet <= NINE:
                raise ProtocolError("a netstring begins with its length in decimal")
            length = 10 * length + octet - ZERO
        return length

    async def comma(self) -> None:
        """Take the comma at the end of a netstring. Raises ProtocolError."""
        if await self.byte() != COMMA:
            raise ProtocolError("a netstring does not end in a comma")

    async def pieces(self, count: int) -> AsyncIterator[bytes]:
        """Yield the next `count` bytes as they come."""
        while count > 0:
            if self.budget == 0:
                self._spend(1)
            if not self._buffer:
                await self._fill(min(PIECE_BYTES, max(count, READ_BYTES)))
            # What lies within the budget was sent, even if what follows it was not allowed.
            size = min(count, len(self._buffer)) if self.budget is None else min(count, len(self._buffer), self.budget)
            self._spend(size)
            piece, self._buffer = self._buffer[:size], self._buffer[size:]
            count -= size
            yield piece

    async def take(self, count: int) -> bytes:
        """Return the next `count` bytes; the caller has bounded them."""
        return b"".join([piece async for piece in self.pieces(count)])

    async def address(self, length: int, limit: int) -> bytes | None:
        """Return an address, or None for one that is `limit` bytes or longer, which is read all the same."""
        if length < limit:
            return await self.take(length)
        async for _ in self.pieces(length):
            pass
        return None
