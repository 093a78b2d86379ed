"""What milters change, on pluq's messages and envelopes.

A field that is added goes to the end of the header; one that is inserted goes on top, wherever the milter wanted it: counting from the top
is only right for an MTA that puts its own Received field where sendmail does. Fields that other plugins have put on top are not the milter's to change.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from pluq import Message, Recipient, Transaction
from pluq.errors import PluqError
from pluq_milter.packets import (
    AddHeader,
    AddRecipient,
    Body,
    Change,
    ChangeHeader,
    ChangeSender,
    DeleteRecipient,
    InsertHeader,
    MilterError,
)

_LINE_END = re.compile(rb"\r?\n(?![ \t])")


def fields_of(message: Message, with_space: bool) -> Iterator[tuple[bytes, bytes]]:
    """Yield names and values as a milter gets them: unfolded by nobody, the blank behind the colon left out unless it asked for it."""
    for raw in message.header():
        name, colon, value = raw[:-1].partition(b":")
        if colon:
            yield name.rstrip(b" \t"), value if with_space else value.removeprefix(b" ")


def body_of(message: Message) -> Iterator[bytes]:
    """Yield the body with CRLF line ends."""
    for chunk in message.body_chunks():
        yield chunk.replace(b"\n", b"\r\n")


def apply(changes: Sequence[Change], message: Message, transaction: Transaction, with_space: bool) -> None:
    """Carry out what the milter wants. Raises MilterError for a field that would break the header."""
    body: list[bytes] = []
    for change in changes:
        match change:
            case Body(data):
                body.append(data)
            case AddRecipient(address):
                transaction.recipients.append(Recipient(address))
            case DeleteRecipient(address):
                gone = [one for one in transaction.recipients if one.address == address]
                transaction.recipients[:] = [one for one in transaction.recipients if one not in gone]
            case ChangeSender(address):
                transaction.sender = address
            case _:
                change_header(change, message, with_space)
    if body:
        message.replace_body(b"".join(body).replace(b"\r\n", b"\n"))


def change_header(change: AddHeader | InsertHeader | ChangeHeader, message: Message, with_space: bool) -> None:
    raw = field(change.name, change.value, with_space)
    try:
        match change:
            case InsertHeader():
                message.prepend(raw)
            case ChangeHeader(number, name, value):
                if not message.change(name, number, raw if value else None) and value:
                    message.append(raw)
            case AddHeader():
                message.append(raw)
    except PluqError as error:
        raise MilterError(str(error)) from error


def field(name: bytes, value: bytes, with_space: bool) -> bytes:
    """Return a field. A line of the value that does not look like a continuation is made one."""
    value = _LINE_END.sub(b"\n\t", value.rstrip(b"\r\n")).replace(b"\r\n", b"\n")
    return name + (b":" if with_space else b": ") + value + b"\n"
