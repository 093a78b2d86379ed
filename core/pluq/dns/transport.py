"""DNS over sockets: one query to one server.

UDP: a connected socket is shared by the queries of a while, so the kernel drops what comes from other addresses. A response
must bear the number and the question of a query that is out; anything else is ignored and the wait goes on. The socket is
given up after QUERIES_PER_SOCKET queries, and with it the port that a forger would have to guess. TCP: one connection a query.

Source: RFC 5452 (forged answers); RFC 7766 (TCP).
"""

from __future__ import annotations

import asyncio
import secrets
import socket
import struct
from typing import cast

from pluq.dns.codec import answers_question, encode_query, is_truncated
from pluq.errors import ProtocolError

QUERIES_PER_SOCKET = 64

# Queries in flight on one socket: far below the 65536 numbers, so that a free one is found at once.
MAX_PENDING = 4096

Server = tuple[str, int]


class UdpChannel(asyncio.DatagramProtocol):
    """A UDP socket to one server and the queries that are out on it."""

    def __init__(self) -> None:
        self.pending: dict[int, tuple[bytes, asyncio.Future[bytes]]] = {}
        self.sent = 0
        self.retired = False
        self.transport: asyncio.DatagramTransport | None = None

    @classmethod
    async def open(cls, server: Server) -> UdpChannel:
        """Return a channel to a server (numeric address, port). Raises OSError."""
        loop = asyncio.get_running_loop()
        family = socket.AF_INET6 if ":" in server[0] else socket.AF_INET
        sock = socket.socket(family, socket.SOCK_DGRAM)
        try:
            sock.setblocking(False)
            sock.connect(server)
        except OSError:
            sock.close()
            raise
        _, channel = await loop.create_datagram_endpoint(cls, sock=sock)
        return channel

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.DatagramTransport, transport)  # no loop's class says so

    def is_worn(self) -> bool:
        return self.retired or self.sent >= QUERIES_PER_SOCKET

    def retire(self) -> None:
        """Take no more queries; close when the last one that is out has ended."""
        self.retired = True
        if not self.pending and self.transport is not None:
            self.transport.close()

    async def ask(self, question: bytes, edns: bool) -> bytes:
        """Send a query and return the response, whatever it says. Waits for ever: the caller has the clock."""
        if self.transport is None or len(self.pending) >= MAX_PENDING:
            raise OSError("no room for another DNS query")
        number = secrets.randbits(16)
        while number in self.pending:
            number = secrets.randbits(16)
        future: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self.pending[number] = (question, future)
        self.sent += 1
        try:
            self.transport.sendto(encode_query(number, question, edns))
            return await future
        finally:
            del self.pending[number]
            if self.retired:
                self.retire()

    def datagram_received(self, data: bytes, _address: object) -> None:
        question, future = self.pending.get(int.from_bytes(data[:2], "big"), (b"", None))
        if future is not None and not future.done() and answers_question(data, question):
            future.set_result(data)

    def error_received(self, error: Exception) -> None:
        """The kernel says that the server's port is closed: nobody need wait."""
        for _, future in self.pending.values():
            if not future.done():
                future.set_exception(error)

    def connection_lost(self, error: Exception | None) -> None:
        self.transport = None
        self.retired = True
        self.error_received(error or OSError("DNS socket closed"))


async def ask_tcp(server: Server, question: bytes, edns: bool) -> bytes:
    """Ask over TCP and return the response. Raises OSError, EOFError or ProtocolError."""
    number = secrets.randbits(16)
    query = encode_query(number, question, edns)
    reader, writer = await asyncio.open_connection(*server)
    try:
        writer.write(struct.pack("!H", len(query)) + query)
        (length,) = struct.unpack("!H", await reader.readexactly(2))
        wire = await reader.readexactly(length)
    finally:
        writer.close()
    if wire[:2] != query[:2] or not answers_question(wire, question) or is_truncated(wire):
        raise ProtocolError("the DNS server answered something else")
    return wire
