"""A checkpassword program as the judge of logins.

It is run with name and secret on descriptor 3, at most 512 bytes; it exits 0 after it has become the subprogram that it was given
(/bin/true, mostly) as that user. Any other exit refuses the login, and so does a program that is not there; a crash, and silence for too
long, is nobody's answer. It sees the variables of the connection, and SMTPAUTHMETHOD.

FORMS says what stands on descriptor 3, for a password (`secret`) and for CRAM-MD5 (`secret` is the digest):

    qmail           user secret [challenge]         Hoffmann's patch, vchkpw; the third field only where CRAM-MD5 is offered
    checkpassword   user secret timestamp           qmail-popup's own; challenge in the third field for CRAM-MD5
    jms             user secret challenge           the third field is always there
    cmd5checkpw     user secret "" / user challenge secret      Dabrowski's patch: reversed
    indimail        as cmd5checkpw, and the number of the mechanism; exit 3 accepts without relaying

Source: http://cr.yp.to/checkpwd/interface.html; the SMTP AUTH patches of qmail.
"""

from __future__ import annotations

import errno
import os
import shutil
import time
from collections.abc import Callable, Mapping, Sequence

from pluq import children
from pluq.hookspecs import Session
from pluq_auth import mechanisms
from pluq_auth.dialogue import MAX_SECRET, Dialogue, Malformed, Proof, Refused, Unavailable

PASSWORD_FD = 3

NO_PIPE = "oops, unable to open pipe and I can't auth"
NO_CHILD = "oops, child won't start and I can't auth"
NO_WRITE = "oops, unable to write pipe and I can't auth"

ACCEPTED_WITHOUT_RELAY = 3
INDIMAIL_NUMBERS = {"LOGIN": b"\1", "PLAIN": b"\2", "CRAM-MD5": b"\3"}

# user, secret, challenge (empty for a password), mechanism, whether CRAM-MD5 is offered -> fields, each of which ends with NUL
Form = Callable[[bytes, bytes, bytes, str, bool], Sequence[bytes]]


def _timestamp() -> bytes:
    return b"<%d.%d@localhost>" % (os.getpid(), int(time.time()))


def _reversed(user: bytes, secret: bytes, challenge: bytes) -> tuple[bytes, ...]:
    return (user, challenge, secret) if challenge else (user, secret, b"")


FORMS: Mapping[str, Form] = {
    "qmail": lambda user, secret, challenge, name, cram: (user, secret, challenge) if cram else (user, secret),
    "checkpassword": lambda user, secret, challenge, name, cram: (user, secret, challenge or _timestamp()),
    "jms": lambda user, secret, challenge, name, cram: (user, secret, challenge),
    "cmd5checkpw": lambda user, secret, challenge, name, cram: _reversed(user, secret, challenge),
    "indimail": lambda user, secret, challenge, name, cram: (
        *_reversed(user, secret, challenge),
        INDIMAIL_NUMBERS[name],
    ),
}


class Program:
    """The back end.

    The program runs in `folder` for `seconds` at most; `host` stands in challenges (None: the name of our side of the connection).
    """

    mechanisms = ("LOGIN", "PLAIN", "CRAM-MD5")

    def __init__(self, argv: Sequence[str], form: str, seconds: float, folder: str, host: str | None = None) -> None:
        self.argv = list(argv)
        self.folder = folder
        self.form = form
        self.seconds = seconds
        self.host = host

    async def authenticate(self, mechanism: str, dialogue: Dialogue, session: Session, offered: Sequence[str]) -> Proof:
        """Return who the client is. Raises Ended."""
        challenge = b""
        if mechanism == "CRAM-MD5":
            challenge = mechanisms.new_challenge(self.host or session.local_host)
            user, secret = await mechanisms.cram(dialogue, challenge)
        else:
            ask = mechanisms.plain if mechanism == "PLAIN" else mechanisms.login
            user, secret = await ask(dialogue)
        fields = FORMS[self.form](user, secret, challenge, mechanism, "CRAM-MD5" in offered)
        data = b"".join(field + b"\0" for field in fields)
        if len(data) > MAX_SECRET:
            raise Malformed
        try:
            code = await self.ask(data, session.environment)
        except OSError as error:
            raise Refused(user, f"{self.argv[0]}: {os.strerror(error.errno or 0)}") from None
        if code == ACCEPTED_WITHOUT_RELAY and self.form == "indimail":
            return Proof(user, may_relay=False)
        if code:
            raise Refused(user)
        return Proof(user)

    async def ask(self, data: bytes, environment: Mapping[str, str]) -> int:
        """Run the program; return its exit code. Raises Unavailable for a crash, OSError where it cannot be run at all."""
        reads = filled_pipe(data)
        path = shutil.which(self.argv[0]) or self.argv[0]
        variables = {**os.environ, **environment}
        try:
            ended = await children.run(
                [path, *self.argv[1:]],
                environment=variables,
                folder=self.folder,
                seconds=self.seconds,
                outputs=(),
                inputs={PASSWORD_FD: reads},
            )
        except OSError as error:
            if error.errno in (errno.EAGAIN, errno.ENOMEM):
                raise Unavailable(NO_CHILD) from None
            raise
        finally:
            os.close(reads)
        if ended.is_late or ended.code < 0:
            raise Unavailable
        return ended.code


def filled_pipe(data: bytes) -> int:
    """Return the reading end of a pipe that holds `data` and nothing more: whoever does not read cannot hold us up."""
    try:
        reads, writes = os.pipe()
    except OSError:
        raise Unavailable(NO_PIPE) from None
    try:
        os.set_blocking(writes, False)
        if os.write(writes, data) == len(data):
            return reads
    except BlockingIOError:
        pass
    finally:
        os.close(writes)
    os.close(reads)
    raise Unavailable(NO_WRITE)
