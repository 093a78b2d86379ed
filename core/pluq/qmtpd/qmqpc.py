"""Giving one message to a QMQP server: what stands in for qmail-queue on a host without a queue.

The servers are asked in their order until one takes the connection. From there on its word counts, whatever it is: a second
server is never given a message that the first one may have taken.

Source: qmail-qmqpc(8), qmail-qmqpc.c of qmail.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator, Sequence

from pluq.errors import ProtocolError
from pluq.queue import refusal
from pluq.queue.records import parse_envelope
from pluq.queue.refusal import QueueRefusal
from pluq.queue.spool import Spool
from pluq.wire import netstring

PORT = 628
CONNECT_SECONDS = 10
SECONDS = 60  # each read and write

READ_BYTES = 65536
ANSWER_BYTES = 10000  # a server that says nothing in so many bytes never will
ENVELOPE_BYTES = 1 << 26

CONTROL_ERROR = 55
TIMED_OUT = 72
NOT_CONNECTED = 73
VERDICTS = {b"K": None, b"Z": refusal.LATER, b"D": refusal.REFUSED}


def read_message(read: Callable[[int], bytes]) -> Spool:
    """Return the message that `read` gives. Raises QueueRefusal."""
    spool = Spool()
    try:
        while chunk := read(READ_BYTES):
            _keep(spool, chunk)
    except OSError as error:
        raise QueueRefusal(refusal.READ_ERROR) from error
    return spool


def _keep(spool: Spool, chunk: bytes) -> None:
    try:
        spool.write(chunk)
    except OSError as error:
        raise QueueRefusal(refusal.WRITE_ERROR) from error


def read_envelope(read: Callable[[int], bytes]) -> tuple[bytes, list[bytes]]:
    """Return sender and recipients as qmail-queue reads them, up to the NUL that ends them. Raises QueueRefusal."""
    data = bytearray()
    try:
        # Reading stops with the last NUL: the caller may keep the pipe open until it knows how this ends.
        while chunk := read(READ_BYTES):
            data += chunk
            if len(data) > ENVELOPE_BYTES:
                raise QueueRefusal(refusal.OUT_OF_MEMORY)
            if b"\0\0" in data[-len(chunk) - 1 :]:
                break
        return parse_envelope(bytes(data))
    except OSError as error:
        raise QueueRefusal(refusal.READ_ERROR) from error
    except ProtocolError as error:
        raise QueueRefusal(refusal.BAD_ENVELOPE) from error


def server_address(line: bytes) -> str | None:
    """Return the IPv4 address that a line of control/qmqpservers begins with, None if it begins with something else."""
    numbers = []
    for place in range(4):
        digits = line[: len(line) - len(line.lstrip(b"0123456789"))]
        line = line[len(digits) :]
        if not digits or (place < 3 and line[:1] != b"."):
            return None
        line = line[1:]
        numbers.append(int(digits[-64:]) & 0xFF)
    return ".".join(map(str, numbers))


def frames(spool: Spool, sender: bytes, recipients: Sequence[bytes]) -> Iterator[bytes]:
    """Yield the request in pieces."""
    head = b"%d:" % spool.size
    tail = b"," + b"".join(map(netstring.encode, (sender, *recipients)))
    yield b"%d:%b" % (len(head) + spool.size + len(tail), head)
    yield from spool.chunks()
    yield tail + b","


def submit(
    servers: Sequence[bytes], spool: Spool, sender: bytes, recipients: Sequence[bytes], port: int = PORT
) -> None:
    """Give the message to the first server that can be reached. Raises QueueRefusal with qmail-queue's exit code."""
    failure = CONTROL_ERROR
    for line in servers:
        address = server_address(line)
        if address is None:
            continue
        try:
            connection = socket.create_connection((address, port), CONNECT_SECONDS)
        except TimeoutError:
            failure = TIMED_OUT
            continue
        except OSError:
            failure = NOT_CONNECTED
            continue
        with connection:
            return _converse(connection, frames(spool, sender, recipients))
    raise QueueRefusal(failure)


def _converse(connection: socket.socket, request: Iterator[bytes]) -> None:
    connection.settimeout(SECONDS)
    try:
        for frame in request:
            left = memoryview(frame)
            while left:
                left = left[connection.send(left) :]
        code = _verdict(connection)
    except OSError as error:
        raise QueueRefusal(refusal.CONNECTION_LOST) from error
    if code is not None:
        raise QueueRefusal(code)


def _verdict(connection: socket.socket) -> int | None:
    """Return the exit code for the first K, Z or D that the server sends, None for K. Raises OSError, QueueRefusal."""
    seen = 0
    while seen < ANSWER_BYTES and (data := connection.recv(1024)):
        for place in range(len(data)):
            letter = data[place : place + 1]
            if letter in VERDICTS:
                return VERDICTS[letter]
        seen += len(data)
    raise QueueRefusal(refusal.CONNECTION_LOST)
