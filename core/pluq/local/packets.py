"""What qmail-lspawn and its workers tell each other, over a socket that keeps packets whole.

    delivery   id, the eight arguments of qmail-local; with each goes the open message file
    lookup     id, local part
    answer     id, exit code, output (of a lookup: the account record, in hexadecimal)

All fields end with NUL and hold none. Several jobs or answers fill one packet, up to PACKET_BYTES and PACKET_FILES. A worker runs as a
user: what comes from it is not trusted, a packet that breaks the form ends the worker.
"""

from __future__ import annotations

import socket
from mmap import mmap
from typing import NamedTuple

from pluq.errors import ProtocolError
from pluq.local.order import Order

PACKET_BYTES = 1 << 17
PACKET_FILES = 64
ANSWER_FIELDS = 3
ORDER_FIELDS = len(Order._fields)
WAIT = int(socket.MSG_CMSG_CLOEXEC)
DO_NOT_WAIT = int(socket.MSG_CMSG_CLOEXEC | socket.MSG_DONTWAIT)
"""Of `receive`. As plain numbers: to join the named ones takes Python longer than the kernel takes for the packet."""


class Answer(NamedTuple):
    """How a job ended."""

    job: int
    code: int
    output: bytes


def encode_delivery(job: int, order: Order) -> bytes:
    return b"%d\0%b\0" % (job, b"\0".join(order))


def decode_deliveries(packet: bytes) -> list[tuple[int, Order]]:
    """Return (job, order) for each delivery of a packet."""
    fields = packet.split(b"\0")
    step = ORDER_FIELDS + 1
    return [(int(fields[start]), Order(*fields[start + 1 : start + step])) for start in range(0, len(fields) - 1, step)]


def encode_lookup(job: int, local: bytes) -> bytes:
    return b"%d\0%b\0" % (job, local)


def decode_lookups(packet: bytes) -> list[tuple[int, bytes]]:
    """Return (job, local part) for each question of a packet."""
    fields = packet.split(b"\0")
    return [(int(fields[start]), fields[start + 1]) for start in range(0, len(fields) - 1, 2)]


def encode_answer(answer: Answer) -> bytes:
    """Return one answer; its output ends at the first NUL, as a report does."""
    return b"%d\0%d\0%b\0" % (answer.job, answer.code, answer.output.partition(b"\0")[0])


def decode_answers(packet: bytes) -> list[Answer]:
    """Return the answers of a packet. Raises ProtocolError."""
    fields = packet.split(b"\0")
    if len(fields) % ANSWER_FIELDS != 1 or fields[-1]:
        raise ProtocolError("a worker's packet is not whole", blame="local")
    try:
        return [
            Answer(int(fields[start]), int(fields[start + 1]), fields[start + 2])
            for start in range(0, len(fields) - 1, ANSWER_FIELDS)
        ]
    except ValueError:
        raise ProtocolError("a worker's packet has no numbers where they belong", blame="local") from None


def receive(
    sock: socket.socket, buffer: bytearray | mmap, flags: int = WAIT, most_files: int = PACKET_FILES
) -> tuple[bytes, list[int]]:
    """Return the next packet and the files that came with it; an empty packet is the end."""
    length, ancillary, _, _ = sock.recvmsg_into([buffer], socket.CMSG_SPACE(4 * most_files), flags)
    files: list[int] = []
    for _, _, data in ancillary:
        files += memoryview(data).cast("i")
    return bytes(buffer[:length]), files
