"""qmail-inject [ -nNaAhH ] [ -fsender ] [ recipient ... ]

Reads a message from standard input, completes its header, and queues it. Recipients are the arguments (-a), those of the header
(-h), both (-H), or the arguments if there are any, else those of the header (-A, the default). -f sets the envelope sender. -n
prints the message instead of queueing it.

The environment says who writes and how: QMAILUSER, QMAILHOST, QMAILNAME, QMAILINJECT and others; see qmail-inject(8).
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from typing import IO, TYPE_CHECKING, NamedTuple

from pluq.commands.options import Options
from pluq.commands.terminal import die, help_asked, print_bytes

if TYPE_CHECKING:
    from pluq.config import Home
    from pluq.inject.message import Header
    from pluq.inject.settings import Settings

FATAL = "qmail-inject: fatal: "
PIECE = 65536
"""Bytes of the body that are held in memory."""


class Choice(NamedTuple):
    """What the options say. `sender` is unquoted and complete."""

    arguments: list[str]
    from_arguments: bool
    from_header: bool
    queue: bool
    sender: bytes | None


def main() -> int:
    if help_asked(__doc__):
        return 0
    from pluq.config import Home
    from pluq.errors import ConfigError
    from pluq.inject.rewrite import Unparsable

    try:
        return run(Home.from_environment())
    except Unparsable as error:
        os.write(2, b"%sunable to parse this line:\n%s" % (FATAL.encode(), error.line))
        return 100
    except ConfigError as error:
        # a file that cannot be read at all is a short story in qmail; one that says nonsense is told in full
        die(111, FATAL, "read error" if error.line is None else str(error))


def run(home: Home) -> int:
    from pluq.inject.message import Header
    from pluq.mail.header import read_header

    started = int(time.time())
    settings = read_everything(home)
    choice = read_options(settings)
    recipients = complete_arguments(choice, settings)
    header = Header(settings, started, os.getpid(), choice.sender)
    try:
        with open(0, "rb", PIECE, closefd=False) as source:
            fields, body = read_header(source.readline)
            header.add(fields)
            if not choice.queue:
                return show(header, body, source)
            return queue(home, header, body, source, recipients, choice.from_header)
    except OSError:
        die(111, FATAL, "read error")


def read_everything(home: Home) -> Settings:
    """Read environment and control files, and go to the home folder."""
    from pluq.inject.settings import followup_lists, read_settings

    lists = followup_lists(os.environb)
    try:
        os.chdir(home.path)
    except OSError:
        die(111, FATAL, "internal bug")
    return read_settings(os.environb, home.controls, lists, **site_choices(home))


def site_choices(home: Home) -> dict[str, bool]:
    """Return what control/pluq.toml changes: nothing if there is none, as then this is stock qmail. Raises ConfigError."""
    if not os.path.exists(home.control("pluq.toml")):
        return {}
    return {"local_dates": home.local_dates, "brackets_are_null": True}


def read_options(settings: Settings) -> Choice:
    """Take the options in order; the last of those that contradict each other counts."""
    from pluq.inject.rewrite import complete_address

    strategy, queue, sender = "A", True, None
    options = Options(sys.argv, "aAhHnNf:")
    for letter, value in options:
        if letter == "?":
            raise SystemExit(100)
        if letter == "f" and value == "<>" and settings.brackets_are_null:
            sender = b""
        elif letter == "f":
            sender = complete_address(os.fsencode(value), settings.completion)
        elif letter in "nN":
            queue = letter == "N"
        else:
            strategy = letter
    arguments = options.rest
    if strategy == "A":
        strategy = "a" if arguments else "h"
    return Choice(arguments, strategy in "aH", strategy in "hH", queue, sender)


def complete_arguments(choice: Choice, settings: Settings) -> list[bytes]:
    """Return the recipients among the arguments."""
    from pluq.inject.rewrite import Unparsable, complete_address

    recipients = []
    for argument in choice.arguments if choice.from_arguments else ():
        try:
            recipients.append(complete_address(os.fsencode(argument), settings.completion))
        except Unparsable:
            die(100, FATAL, "unable to parse address: ", argument)
    return recipients


def show(header: Header, body: bytes, source: IO[bytes]) -> int:
    """Print the message as it would have been queued."""
    from pluq.mail.address import quote

    text = header.finish()
    print_bytes((b"Return-Path: <%s>\n" % quote(header.sender or b""), text))
    print_bytes(body_chunks(body, source))
    return 0


def queue(
    home: Home, header: Header, body: bytes, source: IO[bytes], recipients: list[bytes], from_header: bool
) -> int:
    from pluq.commands.forwarding import resent_envelope
    from pluq.queue.refusal import QueueRefusal
    from pluq.queue.submit import open_submission

    text = header.finish()
    if from_header:
        recipients = [*recipients, *header.recipients]
    sender, targets = resent_envelope(home, FATAL, "inject", header.sender or b"", recipients)
    try:
        submission = open_submission(home)
        submission.write(text)
        for chunk in body_chunks(body, source):
            submission.write(chunk)
        submission.commit(sender, targets)
    except QueueRefusal as refusal:
        die(100 if refusal.permanent else 111, FATAL, str(refusal))
    return 0


def body_chunks(body: bytes, source: IO[bytes]) -> Iterator[bytes]:
    """Give `body` and what is left in `source`; the last line gets a newline if it lacks one."""
    last = b"\n"
    while body:
        yield body
        last = body[-1:]
        body = source.read(PIECE)
    if last != b"\n":
        yield b"\n"
