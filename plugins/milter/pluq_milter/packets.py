"""The milter protocol as values: packets, what is negotiated, answers, changes. No I/O.

    packet      length (4 octets, big endian, of what follows), command (1 octet), data
    text        ends in NUL; several in a row are a list

We speak version 6 and know milters from version 2 on. Both sides say at first what they can do; the milter's word is final: which changes it
may ask for, which commands it does not want to see, and which it does not answer.

Source: libmilter's documentation and mfdef.h of sendmail 8.17, for numbers and letters.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntFlag

VERSION = 6
OLDEST = 2
CHUNK_BYTES = 65535
# A new body may come in pieces of a megabyte; nothing else is nearly as long.
MAX_PACKET = (1 << 20) + 16


class MilterError(Exception):
    """What a milter sent makes no sense, or it went away."""


class Action(IntFlag):
    """What a milter may change."""

    ADD_HEADERS = 0x01
    CHANGE_BODY = 0x02
    ADD_RECIPIENTS = 0x04
    DELETE_RECIPIENTS = 0x08
    CHANGE_HEADERS = 0x10
    CHANGE_SENDER = 0x40
    ADD_RECIPIENTS_WITH_PARAMETERS = 0x80


class Step(IntFlag):
    """What is left out: commands that are not sent, replies that do not come."""

    NO_CONNECT = 0x01
    NO_HELO = 0x02
    NO_MAIL = 0x04
    NO_RCPT = 0x08
    NO_BODY = 0x10
    NO_HEADERS = 0x20
    NO_END_OF_HEADER = 0x40
    SILENT_HEADER = 0x80
    NO_DATA = 0x200
    MAY_SKIP_BODY = 0x400
    SILENT_CONNECT = 0x1000
    SILENT_HELO = 0x2000
    SILENT_MAIL = 0x4000
    SILENT_RCPT = 0x8000
    SILENT_DATA = 0x10000
    SILENT_END_OF_HEADER = 0x40000
    SILENT_BODY = 0x80000
    LEADING_SPACE = 0x100000


ALL_ACTIONS = Action(sum(Action))
ALL_STEPS = Step(sum(Step))

# For each command: the step that leaves it out, and the one that leaves its reply out.
LEFT_OUT = {
    b"C": (Step.NO_CONNECT, Step.SILENT_CONNECT),
    b"H": (Step.NO_HELO, Step.SILENT_HELO),
    b"M": (Step.NO_MAIL, Step.SILENT_MAIL),
    b"R": (Step.NO_RCPT, Step.SILENT_RCPT),
    b"T": (Step.NO_DATA, Step.SILENT_DATA),
    b"L": (Step.NO_HEADERS, Step.SILENT_HEADER),
    b"N": (Step.NO_END_OF_HEADER, Step.SILENT_END_OF_HEADER),
    b"B": (Step.NO_BODY, Step.SILENT_BODY),
}
DATA_SINCE = 4
"""The version since which milters know the command DATA."""


def packet(command: bytes, data: bytes = b"") -> bytes:
    return struct.pack(">I", 1 + len(data)) + command + data


def texts(*items: bytes) -> bytes:
    """Return a list of texts; a NUL within one would make it two."""
    return b"".join(item.replace(b"\0", b"") + b"\0" for item in items)


def split_texts(data: bytes, count: int) -> list[bytes]:
    """Return the first `count` texts of the data. Raises MilterError if there are fewer."""
    found = data.split(b"\0")
    if len(found) <= count and not (len(found) == count and found[-1]):
        raise MilterError("a text has no end")
    return found[:count]


@dataclass(frozen=True, slots=True)
class Options:
    """What was agreed on."""

    version: int = VERSION
    actions: Action = ALL_ACTIONS
    steps: Step = ALL_STEPS

    def encode(self) -> bytes:
        return packet(b"O", struct.pack(">III", self.version, self.actions, self.steps))

    @classmethod
    def decode(cls, data: bytes) -> Options:
        """Return what was agreed on. Raises MilterError for an older milter than we know.

        Some ask for more than was offered, whatever they need: they get what we have, and an order that was not agreed on is an error when it comes.
        """
        if len(data) < 12:
            raise MilterError("its options are cut off")
        version, actions, steps = struct.unpack_from(">III", data)
        if not OLDEST <= version <= VERSION:
            raise MilterError(f"it speaks version {version}")
        return cls(version, Action(actions & ALL_ACTIONS), Step(steps & ALL_STEPS))

    def sends(self, command: bytes) -> bool:
        """Say whether the milter wants to see a command."""
        if command == b"T" and self.version < DATA_SINCE:
            return False
        return not self.steps & LEFT_OUT[command][0]

    def is_silent(self, command: bytes) -> bool:
        """Say whether the milter does not answer a command."""
        return bool(self.steps & LEFT_OUT[command][1])


# -- what a milter may change


@dataclass(frozen=True, slots=True)
class AddHeader:
    name: bytes
    value: bytes


@dataclass(frozen=True, slots=True)
class InsertHeader:
    name: bytes
    value: bytes


@dataclass(frozen=True, slots=True)
class ChangeHeader:
    """The field of that name with this number, from 1. An empty value takes it out."""

    number: int
    name: bytes
    value: bytes


@dataclass(frozen=True, slots=True)
class AddRecipient:
    address: bytes


@dataclass(frozen=True, slots=True)
class DeleteRecipient:
    address: bytes


@dataclass(frozen=True, slots=True)
class ChangeSender:
    address: bytes


@dataclass(frozen=True, slots=True)
class Body:
    """A piece of a new body."""

    data: bytes


Change = AddHeader | InsertHeader | ChangeHeader | AddRecipient | DeleteRecipient | ChangeSender | Body

NEEDS = {
    b"h": Action.ADD_HEADERS,
    b"i": Action.ADD_HEADERS,
    b"m": Action.CHANGE_HEADERS,
    b"+": Action.ADD_RECIPIENTS,
    b"2": Action.ADD_RECIPIENTS_WITH_PARAMETERS,
    b"-": Action.DELETE_RECIPIENTS,
    b"e": Action.CHANGE_SENDER,
    b"b": Action.CHANGE_BODY,
}


def parse_change(kind: bytes, data: bytes, agreed: Action) -> Change:
    """Return the change that a milter asks for. Raises MilterError, also for one that was not agreed on."""
    if not NEEDS.get(kind, Action(0)) & agreed:
        raise MilterError(f"it asks for {kind!r}, which was not agreed on")
    match kind:
        case b"b":
            return Body(data)
        case b"h":
            return AddHeader(*split_texts(data, 2))
        case b"i" | b"m":
            if len(data) < 4:
                raise MilterError("a change is cut off")
            number = int.from_bytes(data[:4], "big")
            name, value = split_texts(data[4:], 2)
            return InsertHeader(name, value) if kind == b"i" else ChangeHeader(number, name, value)
    address = unbracketed(split_texts(data, 1)[0])
    if kind == b"-":
        return DeleteRecipient(address)
    return ChangeSender(address) if kind == b"e" else AddRecipient(address)


def unbracketed(address: bytes) -> bytes:
    """Return an address without the brackets that it may stand in."""
    address = address.strip()
    return address[1:-1] if address.startswith(b"<") and address.endswith(b">") else address


def mail_arguments(address: bytes, parameters: Sequence[tuple[bytes, bytes | None]]) -> bytes:
    """Return the data of MAIL or RCPT: the path, and the parameters as they stood in the command."""
    words = [name if value is None else b"%s=%s" % (name, value) for name, value in parameters]
    return texts(b"<%s>" % address, *words)
