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
from pluq.store.maildir_list import Found, list_messages, remove_old_tmp

FATAL = "maildir2mbox: fatal: "
LINE = 65536


def main() -> int:
    if help_asked(__doc__):
        return 0
    os.umask(0o077)
    mbox, temporary = variable("MAIL"), variable("MAILTMP")
    enter(variable("MAILDIR"))
    messages = scan()
    if messages:
        move(messages, mbox, temporary)
    return 0


def variable(name: str) -> str:
    value = os.environ.get(name)
    return die(111, FATAL, name, " not set") if value is None else value


def enter(maildir: str) -> None:
    with or_die(FATAL, "unable to chdir to ", maildir):
        os.chdir(maildir)


def scan() -> list[Found]:
    """Return the messages to move, oldest first, after a look at what was left in tmp."""
    now = int(time.time())
    remove_old_tmp(b".", now)
    try:
        return list_messages(b".", now)
    except OSError as error:
        die(111, FATAL, "unable to scan $MAILDIR/", error.filename2, ": ", error)


def move(messages: list[Found], mbox: str, temporary: str) -> None:
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


def mbox_lines(message: Found) -> Iterator[bytes]:
    """Give a message as an mbox has it: a From_ line, the lines with a > where they could be taken for one, an empty line.

    Lines come in pieces of at most LINE bytes.
    """
    born, path, _ = message
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


def remove(messages: list[Found]) -> None:
    for _, path, _ in messages:
        try:
            os.unlink(path)
        except OSError as error:
            complain("maildir2mbox: warning: $MAILDIR/", path, " will be delivered twice; unable to unlink: ", error)
