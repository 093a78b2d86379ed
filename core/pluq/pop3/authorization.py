"""The AUTHORIZATION state: a greeting with the timestamp for APOP, then USER and PASS, or APOP.

A login ends this state. Whether it is right is decided by a checkpassword program, which then runs the mailbox program in its
own place; there is one try per connection, as in qmail-popup.

Source: qmail-popup(8), RFC 1939 sections 4 and 7, RFC 2449 (CAPA).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from pluq.pop3.dialogue import OK, capability_list, error


@dataclass(frozen=True)
class Login:
    """What a client gave: for APOP `secret` is the digest in hexadecimal. `timestamp` is that of the greeting."""

    user: bytes
    secret: bytes
    timestamp: bytes

    def checkpassword(self) -> bytes:
        """Return the bytes that a checkpassword program reads from descriptor 3."""
        return b"%b\0%b\0%b\0" % (self.user, self.secret, self.timestamp)


class Authorization:
    """One client that has not logged in yet. `login` is set when it has given a name and a secret.

    `capabilities` are the lines that answer CAPA; without any the command is as unknown as it is to qmail-popup.
    """

    def __init__(self, hostname: bytes, unique: bytes, capabilities: Sequence[bytes] = ()) -> None:
        self.timestamp = b"<%b@%b>" % (unique, hostname)
        self.capabilities = capabilities
        self.login: Login | None = None
        self.finished = False
        self._user: bytes | None = None

    def greeting(self) -> bytes:
        return b"+OK " + self.timestamp + b"\r\n"

    def forget(self) -> None:
        """Forget what the client said before TLS (RFC 2595 section 4)."""
        self._user = None

    def command(self, verb: bytes, argument: bytes) -> Iterable[bytes]:
        return (self._reply(verb, argument),)

    def _reply(self, verb: bytes, argument: bytes) -> bytes:
        if verb == b"capa" and self.capabilities:
            return capability_list(self.capabilities)
        handler = COMMANDS.get(verb)
        return handler(self, argument) if handler else error(b"authorization first")

    def _take_user(self, argument: bytes) -> bytes:
        if not argument:
            return error(b"syntax error")
        self._user = argument
        return OK

    def _take_pass(self, argument: bytes) -> bytes:
        if self._user is None:
            return error(b"USER first")
        if not argument:
            return error(b"syntax error")
        return self._log_in(self._user, argument)

    def _take_apop(self, argument: bytes) -> bytes:
        user, space, digest = argument.partition(b" ")
        return self._log_in(user, digest) if space else error(b"syntax error")

    def _log_in(self, user: bytes, secret: bytes) -> bytes:
        self.login = Login(user, secret, self.timestamp)
        self.finished = True
        return b""  # the mailbox program answers, or the refusal of the login does

    def _quit(self, argument: bytes) -> bytes:
        self.finished = True
        return OK

    def _noop(self, argument: bytes) -> bytes:
        return OK


COMMANDS: dict[bytes, Callable[[Authorization, bytes], bytes]] = {
    b"user": Authorization._take_user,
    b"pass": Authorization._take_pass,
    b"apop": Authorization._take_apop,
    b"quit": Authorization._quit,
    b"noop": Authorization._noop,
}
