"""qbiff

For a line in a .qmail file: `|qbiff`. Writes two lines about the message to each terminal where its recipient (USER) is logged in
and has asked to be told (biff y): the envelope, and the beginning of subject and body. Never fails.
"""

from __future__ import annotations

import os
import stat
import struct
import sys
from collections.abc import Iterator

from pluq.commands.terminal import help_asked

TEXT = 78
"""Bytes of the message that are shown."""

# struct utmp of Linux: type, pid, line, id, user, host, exit status, session, time, address
RECORD = struct.Struct("hi32s4s32s256shhiii4i20x")
USER_PROCESS = 7


def main() -> int:
    if help_asked(__doc__):
        return 0
    environment = os.environb
    try:
        user, sender, local = environment[b"USER"], environment[b"SENDER"], environment[b"LOCAL"]
        notice = notice_of(local, sender)
        for line in terminals(user):
            tell(b"/dev/" + line, notice)
    except (KeyError, OSError):
        pass  # a notice is not worth a delivery
    return 0


def notice_of(local: bytes, sender: bytes) -> bytes:
    envelope = b"*** TO <%s> FROM <%s>" % (local, sender)
    return b"\r\n\a%s\r\n%s\r\n" % (printable(envelope, b"_"), printable(text_of_message(), b"/"))


def printable(text: bytes, substitute: bytes) -> bytes:
    """Replace what a terminal could take for a command."""
    return bytes(byte if 32 <= byte <= 126 else substitute[0] for byte in text)


def text_of_message() -> bytes:
    """Return the beginning of the subject and the body."""
    from pluq.mail.header import field_body, field_name, read_header

    fields, body = read_header(sys.stdin.buffer.readline)
    subject = b"".join(field_body(field) for field in fields if field_name(field) == b"subject")
    return (b"    " + subject + body + sys.stdin.buffer.read(TEXT))[:TEXT]


def terminals(user: bytes) -> Iterator[bytes]:
    """Give the names under /dev of the terminals where a user is logged in."""
    with open("/var/run/utmp", "rb") as file:
        while len(record := file.read(RECORD.size)) == RECORD.size:
            kind, _, line, _, name, *_ = RECORD.unpack(record)
            line = line.partition(b"\0")[0]
            if kind == USER_PROCESS and name.rstrip(b"\0") == user and line[:1] != b"/" and line and b"." not in line:
                yield line


def tell(terminal: bytes, notice: bytes) -> None:
    try:
        descriptor = os.open(terminal, os.O_WRONLY | os.O_NONBLOCK | os.O_APPEND | os.O_NOCTTY)
    except OSError:
        return
    try:
        status = os.fstat(descriptor)
        if status.st_mode & stat.S_IXUSR and status.st_uid == os.getuid():
            os.write(descriptor, notice)
    finally:
        os.close(descriptor)
