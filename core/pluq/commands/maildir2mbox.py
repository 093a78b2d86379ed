"""maildir2mbox

Moves all mail from the maildir MAILDIR to the end of the mbox MAIL, oldest first. The new mbox is written as MAILTMP, synced, and
put in the place of the old one under its lock; only then are the messages removed from the maildir. A crash in between delivers
some twice and loses none.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from typing import IO

from pluq.commands.terminal import complain, die, help_asked, or_die

FATAL = "maildir2mbox: fatal: "
LINE = 65536
STALE = 129600
"""Seconds without access after which a file in tmp belongs to nobody: 36 hours, maildir(5)."""

Message = tuple[int, str]
"""When a message came, and its path in the maildir."""


def main() -> int:
    if help_asked(__doc__):
        return 0
    os.umask(0o077)
    mbox, temporary = variable("MAIL"), variable("MAILTMP")
    enter(variable("MAILDIR"))
    now = int(time.time())
    clean(now)
    messages = sorted(scan("new", now) + scan("cur", now))
    if messages:
        move(messages, mbox, temporary)
    return 0


def variable(name: str) -> str:
    value = os.environ.get(name)
    return die(111, FATAL, name, " not set") if value is None else value


def enter(maildir: str) -> None:
    with or_die(FATAL, "unable to chdir to ", maildir):
        os.chdir(maildir)


def clean(now: int) -> None:
    """Remove files that were left in tmp."""
    try:
        names = [name for name in os.listdir("tmp") if not name.startswith(".")]
    except OSError:
        return
    for name in names:
        try:
            if now > os.stat(f"tmp/{name}").st_atime + STALE:
                os.unlink(f"tmp/{name}")
        except OSError:
            continue  # somebody else was quicker


def scan(folder: str, now: int) -> list[Message]:
    """Return the messages in a folder; those of this very second wait, or their order would be lost."""
    found = []
    with or_die(FATAL, "unable to scan $MAILDIR/", folder):
        names = os.listdir(folder)
    for name in names:
        path = f"{folder}/{name}"
        try:
            born = int(os.stat(path).st_mtime)
        except OSError:
            continue
        if born < now and not name.startswith("."):
            found.append((born, path))
    return found


def move(messages: list[Message], mbox: str, temporary: str) -> None:
    with or_die(FATAL, "unable to lock ", mbox):
        lock(mbox)
    with or_die(FATAL, "unable to read ", mbox):
        old = os.open(mbox, os.O_RDONLY)
    with or_die(FATAL, "unable to create ", temporary):
        new = os.open(temporary, os.O_WRONLY | os.O_TRUNC | os.O_CREAT, 0o644)
    with open(old, "rb") as source, or_die(FATAL, "unable to write to ", temporary), open(new, "wb") as sink:
        for chunk in chunks(source, mbox):
            sink.write(chunk)
        for message in messages:
            sink.writelines(mbox_lines(message))
        sink.flush()
        os.fsync(new)
    with or_die(FATAL, "unable to move ", temporary, " to ", mbox):
        os.rename(temporary, mbox)
    remove(messages)


def lock(mbox: str) -> None:
    """Lock the mbox, made if need be, until this program ends. Raises OSError."""
    import fcntl

    descriptor = os.open(mbox, os.O_WRONLY | os.O_NONBLOCK | os.O_APPEND | os.O_CREAT, 0o600)
    fcntl.flock(descriptor, fcntl.LOCK_EX)


def chunks(file: IO[bytes], name: str) -> Iterator[bytes]:
    with or_die(FATAL, "unable to read ", name):
        while chunk := file.read(LINE):
            yield chunk


def mbox_lines(message: Message) -> Iterator[bytes]:
    """Give a message as an mbox has it: a From_ line, the lines with a > where they could be taken for one, an empty line.

    Lines come in pieces of at most LINE bytes.
    """
    born, path = message
    with or_die(FATAL, "unable to read $MAILDIR/", path), open(path, "rb") as file:
        line = file.readline(LINE)
        yield from_line(line, born)
        starts = True
        while line:
            if starts and line.lstrip(b">").startswith(b"From "):
                yield b">"
            yield line
            starts = line.endswith(b"\n")
            line = file.readline(LINE)
        yield b"\n" if starts else b"\n\n"


def from_line(first: bytes, born: int) -> bytes:
    """Return the From_ line for a message that begins with the line `first`: its sender is in the Return-Path there."""
    from pluq.mail.date import mbox_date

    sender = b"XXX"
    if first.startswith(b"Return-Path: <") and first.endswith(b"\n"):
        sender = first[14:-2].replace(b" ", b"-").replace(b"\t", b"-")
        if first[14:15] == b">":
            sender = b"MAILER-DAEMON"
    return b"From %s %s\n" % (sender, mbox_date(born))


def remove(messages: list[Message]) -> None:
    for _, path in messages:
        try:
            os.unlink(path)
        except OSError as error:
            complain("maildir2mbox: warning: $MAILDIR/", path, " will be delivered twice; unable to unlink: ", error)
