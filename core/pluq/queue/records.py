"""The records in queue files, each a letter, its value and a NUL.

    todo/N, intd/N   u UID, p PID (of qmail-queue), F SENDER, T RECIPIENT...
    info/N           F SENDER
    local/N, remote/N  T RECIPIENT, or D RECIPIENT when it is done

A todo file that another qmail wrote may have extra records between F and T (QUEUE_EXTRA); a letter that nobody knows makes
qmail-send leave the message alone, and so does an unfinished last record.

Source: envelopes(5); qmail-queue.c and todo_do in qmail-send.c.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from pluq.errors import ProtocolError
from pluq.store.control import leading_int

__all__ = [
    "ADDRESS_LIMIT",
    "Recipient",
    "Todo",
    "encode_envelope",
    "encode_info",
    "encode_recipients",
    "encode_todo",
    "parse_envelope",
    "parse_info",
    "parse_recipients",
    "parse_todo",
]

# An address of an envelope is shorter than this (ADDR in qmail-queue.c).
ADDRESS_LIMIT = 1003


class Todo(NamedTuple):
    """An envelope in the queue: who queued it (uid, qp number), for whom."""

    uid: int
    pid: int
    sender: bytes
    recipients: Sequence[bytes]


class Recipient(NamedTuple):
    """One recipient of local/N or remote/N. `offset` is where its letter stands in the file: there D is written."""

    address: bytes
    done: bool
    offset: int


def encode_envelope(sender: bytes, recipients: Iterable[bytes]) -> bytes:
    """Return the envelope as qmail-queue reads it on descriptor 1, with the last NUL. Raises ProtocolError for a NUL."""
    records = [b"F" + sender, *[b"T" + address for address in recipients]]
    body = b"\0".join(records)
    if body.count(b"\0") != len(records) - 1:
        raise ProtocolError("an address contains a NUL", blame="local")
    return body + b"\0\0"


def encode_todo(todo: Todo) -> bytes:
    """Return the bytes of todo/N."""
    head = b"u%d\0p%d\0F%b\0" % (todo.uid, todo.pid, todo.sender)
    return head + b"".join([b"T" + address + b"\0" for address in todo.recipients])


def parse_envelope(data: bytes) -> tuple[bytes, list[bytes]]:
    """Return sender and recipients of an envelope in qmail-queue's form. Raises ProtocolError. What follows is ignored."""
    if data[:1] != b"F":
        raise ProtocolError("an envelope begins with F")
    sender, nul, rest = data[1:].partition(b"\0")
    if not nul:
        raise ProtocolError("the envelope is cut short")
    recipients = []
    start = 0
    while rest[start : start + 1] == b"T":
        end = rest.find(b"\0", start)
        if end < 0:
            raise ProtocolError("the envelope is cut short")
        recipients.append(rest[start + 1 : end])
        start = end + 1
    if rest[start : start + 1] != b"\0":
        raise ProtocolError(
            "an envelope's records are T and a last NUL" if rest[start:] else "the envelope is cut short"
        )
    return sender, recipients


def parse_todo(data: bytes) -> Todo:
    """Return the envelope in a todo file. Raises ProtocolError for an unknown record or none at all."""
    uid = pid = 0
    sender: bytes | None = None
    recipients: list[bytes] = []
    records = data.split(b"\0")
    records.pop()  # what has no NUL behind it was never written whole; qmail-send passes over it too
    for record in records:
        letter = record[:1]
        if letter == b"T":
            recipients.append(record[1:])
        elif letter == b"F":
            sender = record[1:]
        elif letter == b"u":
            uid = _leading_number(record)
        elif letter == b"p":
            pid = _leading_number(record)
        else:
            raise ProtocolError(f"unknown record type {letter!r} in an envelope")
    if sender is None:
        raise ProtocolError("an envelope has no sender")
    return Todo(uid, pid, sender, recipients)


def _leading_number(record: bytes) -> int:
    """Return the digits after the letter as a number; what follows them is for later versions."""
    return leading_int(record[1:]) or 0


def parse_info(data: bytes) -> bytes:
    """Return the sender in an info file. Raises ProtocolError."""
    record, nul, _rest = data.partition(b"\0")
    if not nul or record[:1] != b"F":
        raise ProtocolError("an info file holds the sender")
    return record[1:]


def encode_info(sender: bytes) -> bytes:
    """Return the bytes of info/N."""
    return b"F" + sender + b"\0"


def parse_recipients(data: bytes) -> list[Recipient]:
    """Return the recipients of a local or remote file. Records with another letter are left out, as qmail-send does."""
    found = []
    offset = 0
    for record in data.split(b"\0")[:-1]:
        if record[:1] in (b"T", b"D"):
            found.append(Recipient(record[1:], record[:1] == b"D", offset))
        offset += len(record) + 1
    return found


def encode_recipients(recipients: Iterable[tuple[bytes, bool]]) -> bytes:
    """Return the bytes of local/N or remote/N: address, and whether it is done."""
    return b"".join([(b"D" if done else b"T") + address + b"\0" for address, done in recipients])
