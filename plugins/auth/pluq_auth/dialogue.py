"""One AUTH command as an exchange of challenges and responses, and how it can end.

A mechanism asks for responses until it knows enough. Whatever ends it early is one of the exceptions here; the plugin has a reply for
each.

Source: RFC 4954 section 4, RFC 4648.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pluq.errors import PluqError

# Names and passwords are stored and compared by programs that read 512 bytes of both together.
MAX_SECRET = 512


class Ended(PluqError):
    """The exchange ended without a login."""


class Cancelled(Ended):
    """The client said *."""


class Malformed(Ended):
    """What the client sent is not in the form of the mechanism."""


class Refused(Ended):
    """Name and password do not belong together, or nobody has that name. `why` is for the log, where there is more to say."""

    def __init__(self, user: bytes = b"", why: str = "") -> None:
        super().__init__(why)
        self.user = user
        self.why = why


class Unavailable(Ended):
    """Nobody can say now whether the client is who it claims to be; `text` stands in the reply."""

    def __init__(self, text: str = "oops, problem with child and I can't auth") -> None:
        super().__init__(text)
        self.text = text


@dataclass(frozen=True, slots=True)
class Proof:
    """Who logged in; `may_relay` is False where the back end said that this user's mail is for us only.

    `variables` are the connection's from then on.
    """

    user: bytes
    may_relay: bool = True
    variables: Mapping[str, str] = field(default_factory=dict)


class Dialogue:
    """The exchange with one client. `initial` is the response that came with the command, None without one."""

    def __init__(self, connection: Any, initial: bytes | None) -> None:
        self._connection = connection
        self._initial = initial

    @property
    def has_initial(self) -> bool:
        return self._initial is not None

    async def line(self, challenge: bytes = b"") -> bytes:
        """Return the next response as it came, after `challenge` (in base64); an initial one was sent without being asked for."""
        initial, self._initial = self._initial, None
        if initial is not None:
            return b"" if initial == b"=" else initial
        self._connection.reply(b"334 %b\r\n" % challenge)
        line: bytes = await self._connection.read_line()
        if line == b"*":
            raise Cancelled
        return line

    async def response(self, challenge: bytes = b"") -> bytes:
        """Return the next response, decoded; `challenge` is not yet encoded. Raises Malformed, also for an empty one."""
        line = await self.line(base64.b64encode(challenge))
        if not line:
            raise Malformed
        return decode(line)


def decode(line: bytes) -> bytes:
    """Return what a response says. Raises Malformed for what is no base64."""
    try:
        return base64.b64decode(line, validate=True)
    except binascii.Error:
        raise Malformed from None


def check_name(user: bytes) -> bytes:
    """Return a user's name; raise Malformed for one that could not stand in an environment, a log line or a header."""
    if not user or len(user) > MAX_SECRET or min(user) < 0x20 or 0x7F in user or user.startswith(b"() {"):
        raise Malformed
    return user
