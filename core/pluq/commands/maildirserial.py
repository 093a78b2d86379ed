"""What maildirsmtp and maildirqmtp share: the messages of a maildir, and what becomes of each.

A message was put there by qmail-local: it begins with a Return-Path and a Delivered-To line, which are its envelope. Those whose
recipient does not begin with the prefix are left alone. What the host accepts is removed; what it refuses for good bounces and is
removed; what it refuses for now stays, unless it is older than two weeks. A connection that cannot be made, or that breaks, says
nothing about the messages: they stay, whatever their age.

Source: maildirserial(1), serialsmtp(1), serialqmtp(1) of serialmail.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, BinaryIO, NamedTuple, Protocol

from pluq.commands.terminal import complain, die

if TYPE_CHECKING:
    from pluq.config import Home
    from pluq.mail.bounce import Postmaster

__all__ = ["Broken", "Letter", "Link", "Outcome", "host_and_port", "send_maildir"]

LIFETIME = 1209600
"""Seconds until a temporary refusal counts as a permanent one: two weeks."""
TRIES = 3
"""Connections without a single answer about a message, after which it is enough."""
LINE = 2000
"""Bytes of an envelope line: more than qmail-queue takes."""

WARNING, INFO = "maildirserial: warning: ", "maildirserial: info: "


class Broken(Exception):
    """The connection is of no use any more; the text says why."""


class Letter(NamedTuple):
    """A message to send. `file` stands behind the two lines of the envelope; `size` bytes follow."""

    name: bytes
    born: int
    sender: bytes
    recipient: bytes
    file: BinaryIO
    size: int


class Outcome(NamedTuple):
    """What the host said: K accepted, D refused, Z refused for now; and in what words."""

    verdict: str
    text: bytes


class Link(Protocol):
    """A connection to the host."""

    def send(self, letter: Letter) -> Outcome:
        """Send one message. Raises Broken."""

    def close(self) -> None: ...


def host_and_port(text: str, port: int) -> tuple[str, int]:
    """Return where to connect: `host`, `host:port`, `[::1]:port`, or an IPv6 address without a port."""
    if text.startswith("["):
        host, _, rest = text[1:].partition("]")
        return host, int(rest[1:] or port)
    host, colon, rest = text.partition(":")
    return (host, int(rest)) if colon and rest.isdecimal() else (text, port)


def send_maildir(program: str, maildir: str, prefix: str, connect: Callable[[], Link]) -> int:
    """Send all there is; return 0 if nothing is left that should have gone, else 111. `connect` raises Broken."""
    try:
        os.chdir(maildir)
    except OSError as error:
        die(111, program, ": fatal: unable to chdir to ", maildir, ": ", error)
    run = Run(os.fsencode(prefix))
    tries = TRIES
    while names := run.waiting():
        answers = run.answers
        try:
            run.send_all(names, connect)
        except Broken as trouble:
            complain(program, ": fatal: ", str(trouble))
        tries = TRIES if run.answers > answers else tries - 1
        if not tries:
            die(111, program, ": fatal: making no progress, giving up")
    return 111 if run.dead else 0


class Run:
    """One call of the program. `dead` are messages that were tried, or cannot be; `answers` counts what hosts said."""

    def __init__(self, prefix: bytes) -> None:
        self.prefix = prefix
        self.dead: set[bytes] = set()
        self.answers = 0

    def waiting(self) -> list[tuple[int, bytes]]:
        """Return time and name of the messages to send, oldest first."""
        from pluq.store.maildir_list import list_messages, remove_old_tmp

        now = int(time.time())
        remove_old_tmp(b".", now)
        try:
            found = list_messages(b".", now)
        except OSError as error:
            die(111, "maildirserial: fatal: unable to scan ", error.filename2, ": ", error)
        fresh = [(born, name) for born, name, _ in found if name not in self.dead]
        return [(born, name) for born, name in fresh if self.is_ours(name)]

    def is_ours(self, name: bytes) -> bool:
        try:
            with open(name, "rb") as file:
                envelope = read_envelope(file)
        except OSError as error:
            complain(WARNING, "unable to open ", name, ": ", error)
            return False
        return envelope is not None and envelope[1].startswith(self.prefix)

    def send_all(self, names: list[tuple[int, bytes]], connect: Callable[[], Link]) -> None:
        link = connect()
        try:
            for born, name in names:
                with open(name, "rb") as file:
                    envelope = read_envelope(file)
                    if envelope is not None:
                        size = os.fstat(file.fileno()).st_size - file.tell()
                        recipient = envelope[1].removeprefix(self.prefix)
                        letter = Letter(name, born, envelope[0], recipient, file, size)
                        self.settle(letter, link.send(letter))
        except OSError as error:
            raise Broken(str(error)) from error
        finally:
            link.close()

    def settle(self, letter: Letter, outcome: Outcome) -> None:
        """Do with a message what the host's answer asks for."""
        self.answers += 1
        verdict, text = outcome
        too_old = verdict == "Z" and time.time() > letter.born + LIFETIME
        if verdict == "K":
            tell(letter, " succeeded: ", text)
            self.remove(letter, "message will be delivered twice! unable to unlink ")
        elif verdict == "D" or too_old:
            tell(letter, " bounced: ", text)
            if bounce(letter, text, too_old):
                self.remove(letter, "message has been bounced but not removed! unable to unlink ")
            else:
                self.dead.add(letter.name)
        else:
            tell(letter, " failed temporarily: ", text)
            self.dead.add(letter.name)

    def remove(self, letter: Letter, trouble: str) -> None:
        try:
            os.unlink(letter.name)
        except OSError as error:
            complain(WARNING, trouble, letter.name, ": ", error)
            self.dead.add(letter.name)


def tell(letter: Letter, what: str, text: bytes) -> None:
    complain(INFO, letter.name, what, printable(text))


def printable(text: bytes) -> bytes:
    """Return a host's words without line breaks and other bytes that do not belong into a log."""
    return bytes(byte if 32 <= byte <= 126 else 0x3F for byte in text[:LINE])


def read_envelope(file: BinaryIO) -> tuple[bytes, bytes] | None:
    """Return sender and recipient from the first two lines of a message; None if they are others."""
    from pluq.mail.address import parse_path

    path, to = file.readline(LINE), file.readline(LINE)
    if not path.startswith(b"Return-Path: <") or not path.endswith(b">\n"):
        return None
    if not to.startswith(b"Delivered-To: ") or not to.endswith(b"\n") or b"\0" in path + to:
        return None
    return parse_path(path[13:-1])[0], to[14:-1]


def bounce(letter: Letter, text: bytes, too_old: bool) -> bool:
    """Send a message back; True if that is done, also if nobody wants it back."""
    from pluq.config import Home
    from pluq.mail.bounce import notice, paragraph
    from pluq.queue.submit import QueueRefusal, open_submission

    home = Home.from_environment()
    answer = notice(letter.sender, postmaster(home), time.time())
    if answer is None:
        complain(INFO, "discarding ", letter.name, ": triple bounce")
        return True
    why = printable(text) + (b"\nThis message is too old. Giving up.\n" if too_old else b"\n")
    try:
        submission = open_submission(home)
        submission.write(answer.head + paragraph(letter.recipient, why) + answer.middle)
        with open(letter.name, "rb") as message:
            message.readline(LINE)  # its Return-Path, which the notice has already
            while chunk := message.read(65536):
                submission.write(chunk)
        number = submission.commit(answer.sender, [answer.recipient]).qp
    except (QueueRefusal, OSError) as error:
        complain(WARNING, "unable to bounce ", letter.name, ": ", str(error))
        return False
    complain(INFO, "returned ", letter.name, ": qp ", str(number))
    return True


def postmaster(home: Home) -> Postmaster:
    """Return who speaks in the bounces: control/bouncefrom, bouncehost, doublebounceto, doublebouncehost."""
    from pluq.mail.bounce import Postmaster

    controls = home.controls
    me = controls.me() or b"me"
    double = (controls.line("doublebounceto") or b"postmaster", controls.line("doublebouncehost") or me)
    return Postmaster(
        controls.line("bouncefrom") or b"MAILER-DAEMON", controls.line("bouncehost") or me, b"@".join(double)
    )
