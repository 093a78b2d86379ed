"""The spawn protocol: what the scheduler says to a deliverer, and what it hears back.

    greeting   limit                                                  deliverer to scheduler, once
    command    number  message NUL  sender NUL  recipient NUL         scheduler to deliverer
    report     number  text NUL                                       deliverer to scheduler

The number names a delivery in progress; it is free again after its report, and lies below the limit. The message is its file's
name below queue/mess. The first byte of a report's text is its outcome, K done, Z temporary, D permanent; the rest is for
people. Numbers and the limit take `width` bytes, little-endian: one as in qmail (at most 255 deliveries), two on pluq's own
sockets. Nothing here survives a crash: a delivery without a report was not made, and is made again.

Source: qmail-send(8), qmail-lspawn(8), qmail-rspawn(8); spawn.c and qmail-send.c for the limits and the order of complaints.
"""

from __future__ import annotations

from typing import NamedTuple

REPORT_MAX = 9999
"""Bytes of a report that are kept: a deliverer talks to strangers, and the scheduler writes what it says to disk."""
COMMAND_MAX = 65536
"""Bytes of an unfinished command that are kept. Envelope addresses end near 1000 bytes; this leaves room for prefixes and VERP."""
MESSAGE_NAME_MAX = 99


class Command(NamedTuple):
    """One order to deliver. `cut`: a field was too long and is not whole, so the order must not be carried out."""

    number: int
    message: bytes
    sender: bytes
    recipient: bytes
    cut: bool = False


def encode_limit(limit: int, width: int = 1) -> bytes:
    """Return the greeting of a deliverer that takes `limit` deliveries at once."""
    return limit.to_bytes(width, "little")


def decode_limit(greeting: bytes) -> int:
    """Return the limit in a whole greeting."""
    return int.from_bytes(greeting, "little")


def encode_command(number: int, message: bytes, sender: bytes, recipient: bytes, width: int = 1) -> bytes:
    """Return the bytes that order one delivery. No field may contain a NUL."""
    return b"%b%b\0%b\0%b\0" % (number.to_bytes(width, "little"), message, sender, recipient)


def encode_report(number: int, text: bytes, width: int = 1) -> bytes:
    """Return the bytes that report one delivery. The text ends at its first NUL."""
    return b"%b%b\0" % (number.to_bytes(width, "little"), text.split(b"\0", 1)[0])


def complaint(command: Command, limit: int) -> bytes | None:
    """Return the report for a command that no deliverer may carry out, None for a good one.

    Source: docmd in spawn.c, in its order.
    """
    if command.cut:
        return b"Zqmail-spawn out of memory. (#4.3.0)\n"
    if command.number >= limit:
        return b"ZInternal error: delnum too big. (#4.3.5)\n"
    message = command.message
    if message[:1] == b"/" or not message.replace(b"/", b"0").isdigit():
        name = b"too short" if not message else b"has nonnumerics"
        return b"DInternal error: messid %b. (#5.3.5)\n" % name
    if len(message) > MESSAGE_NAME_MAX:
        return b"DInternal error: messid too long. (#5.3.5)\n"
    if b"@" not in command.recipient:
        return b"DSorry, address must include host name. (#5.1.3)\n"
    return None


class CommandDecoder:
    """Turns what a deliverer reads into commands, however the bytes are cut. Memory is bounded by COMMAND_MAX and one read."""

    def __init__(self, width: int = 1) -> None:
        self._width = width
        self._pending = b""
        self._cut = False

    def feed(self, data: bytes) -> list[Command]:
        """Return the commands that `data` completes."""
        buffer = self._pending + data if self._pending else data
        width, find = self._width, buffer.find
        commands = []
        start = 0
        while True:
            message_end = find(b"\0", start + width)
            sender_end = find(b"\0", message_end + 1) if message_end >= 0 else -1
            end = find(b"\0", sender_end + 1) if sender_end >= 0 else -1
            if end < 0:
                break
            number = int.from_bytes(buffer[start : start + width], "little")
            message = buffer[start + width : message_end]
            sender, recipient = buffer[message_end + 1 : sender_end], buffer[sender_end + 1 : end]
            commands.append(Command(number, message, sender, recipient, self._cut))
            self._cut = False
            start = end + 1
        self._pending = self._bounded(buffer[start:])
        return commands

    def _bounded(self, pending: bytes) -> bytes:
        """Return an unfinished command without its last field when it has grown too long."""
        if len(pending) <= COMMAND_MAX:
            return pending
        self._cut = True
        last_end = pending.rfind(b"\0", self._width)
        return pending[: max(last_end + 1, self._width)]


class ReportDecoder:
    """Turns what the scheduler reads from one deliverer into (number, text) pairs; a text is at most REPORT_MAX bytes."""

    def __init__(self, width: int = 1) -> None:
        self._width = width
        self._pending = b""

    def feed(self, data: bytes) -> list[tuple[int, bytes]]:
        """Return the reports that `data` completes. An empty text is a mangled report."""
        buffer = self._pending + data if self._pending else data
        width = self._width
        reports = []
        start = 0
        while (end := buffer.find(b"\0", start + width)) >= 0:
            number = int.from_bytes(buffer[start : start + width], "little")
            reports.append((number, buffer[start + width : min(end, start + width + REPORT_MAX)]))
            start = end + 1
        self._pending = buffer[start : start + width + REPORT_MAX]
        return reports
