"""One message by QMTP, from a connection to its records.

    connect -> package -> one answer for each recipient

Until the last byte of the package is on its way nothing can have been accepted, and a failure means: not by QMTP (None). From then on the
answers count, and a connection that dies may have delivered.

Source: https://cr.yp.to/proto/qmtp.txt.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator

from pluq import Delivery
from pluq.errors import ProtocolError
from pluq.hookspecs import Message
from pluq.remote import report
from pluq.remote.connection import connect
from pluq.wire.qmtp import Answer, Answers, encode_envelope, message_head

PIECE_BYTES = 65536


async def send(
    delivery: Delivery, address: str, port: int, source: str | None, connect_seconds: float, seconds: float
) -> list[bytes] | None:
    """Return the records of the delivery; None if the peer could not be given the message."""
    message = delivery.message
    assert message is not None, "a delivery with plugins has its message"
    partner = address.encode()
    sock = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM)
    with sock:
        sock.setblocking(False)
        try:
            if source is not None:
                sock.bind((source, 0))
            async with asyncio.timeout(connect_seconds):
                await connect(sock, (address, port))
            for piece in package(message, delivery.sender, delivery.recipients):
                async with asyncio.timeout(seconds):
                    await asyncio.get_running_loop().sock_sendall(sock, piece)
        except (OSError, TimeoutError):
            return None
        try:
            answers = await receive(sock, len(delivery.recipients), seconds)
        except (OSError, TimeoutError, ProtocolError):
            return [report.connection_died(partner, critical=True)]
    return records(partner, answers)


def package(message: Message, sender: bytes, recipients: list[bytes]) -> Iterator[bytes]:
    """Yield the package in pieces; what follows the message last, and as one, so that without it there is no package."""
    yield message_head(sum(map(len, message.chunks())))
    for chunk in message.chunks():
        for at in range(0, len(chunk), PIECE_BYTES):
            yield chunk[at : at + PIECE_BYTES]
    yield b"," + encode_envelope(sender, recipients)


async def receive(sock: socket.socket, count: int, seconds: float) -> list[Answer]:
    """Return the answers for all recipients. Raises OSError, TimeoutError, ProtocolError."""
    parser, answers = Answers(), list[Answer]()
    while len(answers) < count:
        async with asyncio.timeout(seconds):
            data = await asyncio.get_running_loop().sock_recv(sock, PIECE_BYTES)
        if not data:
            raise ConnectionResetError("the server closed the connection before it had answered")
        answers += parser.feed(data)
    return answers


def records(partner: bytes, answers: list[Answer]) -> list[bytes]:
    """Return what qmail-remote would write: a record for each recipient, and one for the message."""
    found = [record(partner, answer) for answer in answers]
    taken = [answer for answer in answers if answer.verdict == "K"]
    if not taken:
        return [*found, b"DGiving up on %b.\n" % partner]
    return [*found, report.peer_said(b"K", b"%b accepted message" % partner, quoted(taken[0]))]


def record(partner: bytes, answer: Answer) -> bytes:
    if answer.verdict == "K":
        return b"r"
    letter = b"s" if answer.verdict == "Z" else b"h"
    return report.peer_said(letter, b"%b does not like recipient" % partner, quoted(answer))


def quoted(answer: Answer) -> bytes:
    return answer.text.replace(b"\n", b" ") + b"\n"
