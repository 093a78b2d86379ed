"""Logging in to another server: the first mechanism of its list that we know.

CRAM-MD5, PLAIN, LOGIN, and SCRAM-SHA-256 where scramp is installed. What goes wrong is temporary, and says at which step. A server that
offers nothing that we know gets no mail from us: the site said that it wants a login, and without one the message might be refused for
good, or be sent as somebody else's.

Source: RFC 4954, 4616, 2195, 5802; qmail-remote of the SMTP AUTH patch for the reports.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hmac
import re
from collections.abc import Awaitable, Callable, Mapping
from importlib.util import find_spec
from typing import TYPE_CHECKING

from pluq.hookspecs import Defer, Disconnect
from pluq.remote.report import peer_said

if TYPE_CHECKING:
    from pluq.remote.connection import Connection
    from pluq.wire.smtp import Reply

CONTINUE = 334
SUCCESS = 235
EXPIRED = 432

# What a server may make us compute; RFC 7677 asks for 4096 at least.
MAX_ITERATIONS = 1_000_000


class NotLoggedIn(Exception):
    """`text` is the report without its letter."""

    def __init__(self, text: bytes) -> None:
        super().__init__(text)
        self.text = text


async def log_in(connection: Connection, user: bytes, password: bytes) -> Disconnect | None:
    """Log in; return what the report says where that fails. Raises what the connection raises."""
    names = connection.capabilities.get(b"AUTH", b"").upper().split()
    mechanism = next((known[name] for name in names if name in (known := available())), None)
    try:
        if mechanism is None:
            raise NotLoggedIn(
                b"Connected to %b but it offers no authentication that I know. (#4.7.0)" % connection.partner
            )
        await mechanism(connection, user, password)
    except NotLoggedIn as failure:
        return Disconnect(Defer(451, None, failure.text))
    return None


def rejected(connection: Connection, step: bytes, reply: Reply, is_last: bool) -> NotLoggedIn:
    """Return the failure of a step, in the words of the patch."""
    is_expired = is_last and reply.code == EXPIRED
    what = b"password expired" if is_expired else b"authentication was rejected (%b)" % step
    return NotLoggedIn(peer_said(b"", b"Connected to %b but %b." % (connection.partner, what), reply.text))


async def say(connection: Connection, line: bytes, step: bytes, wanted: int = CONTINUE) -> Reply:
    """Send a line that must be answered with `wanted`."""
    reply = await connection.command(line)
    if reply.code != wanted:
        raise rejected(connection, step, reply, wanted == SUCCESS)
    return reply


async def plain(connection: Connection, user: bytes, password: bytes) -> None:
    await say(connection, b"AUTH PLAIN", b"AUTH PLAIN")
    await say(connection, base64.b64encode(b"\0".join([user, user, password])), b"plain", SUCCESS)


async def login(connection: Connection, user: bytes, password: bytes) -> None:
    await say(connection, b"AUTH LOGIN", b"AUTH LOGIN")
    await say(connection, base64.b64encode(user), b"username")
    await say(connection, base64.b64encode(password), b"password", SUCCESS)


async def cram(connection: Connection, user: bytes, password: bytes) -> None:
    challenge = decoded(connection, await say(connection, b"AUTH CRAM-MD5", b"AUTH CRAM-MD5"))
    digest = hmac.new(password, challenge, "md5").hexdigest().encode()
    await say(connection, base64.b64encode(user + b" " + digest), b"username+digest", SUCCESS)


async def scram(connection: Connection, user: bytes, password: bytes) -> None:
    """SCRAM-SHA-256: the server, too, must prove that it knows the password."""
    from scramp import ScramClient, ScramException

    try:
        client = ScramClient(["SCRAM-SHA-256"], user.decode(), password.decode())
        await say(connection, b"AUTH SCRAM-SHA-256", b"AUTH SCRAM-SHA-256")
        first = decoded(
            connection, await say(connection, base64.b64encode(client.get_client_first().encode()), b"client-first")
        )
        refuse_endless(connection, first)
        client.set_server_first(first.decode())
        final = await asyncio.to_thread(client.get_client_final)
        reply = await say(connection, base64.b64encode(final.encode()), b"client-final")
        client.set_server_final(decoded(connection, reply).decode())
    except (ScramException, UnicodeError):
        raise NotLoggedIn(b"Connected to %b but it did not prove who it is. (#4.7.0)" % connection.partner) from None
    await say(connection, b"", b"server-final", SUCCESS)


def refuse_endless(connection: Connection, server_first: bytes) -> None:
    match = re.search(rb"(?:^|,)i=([0-9]+)", server_first)
    if match is not None and (len(match[1]) > 9 or int(match[1]) > MAX_ITERATIONS):
        raise NotLoggedIn(b"Connected to %b but its login would take too long. (#4.7.0)" % connection.partner)


def decoded(connection: Connection, reply: Reply) -> bytes:
    """Return the challenge in a reply."""
    try:
        return base64.b64decode(reply.text[4:].strip(), validate=True)
    except binascii.Error:
        text = b"Connected to %b but unable to base64decode challenge." % connection.partner
        raise NotLoggedIn(peer_said(b"", text, reply.text)) from None


Mechanism = Callable[["Connection", bytes, bytes], Awaitable[None]]
_MECHANISMS: Mapping[bytes, Mechanism] = {b"CRAM-MD5": cram, b"PLAIN": plain, b"LOGIN": login}


def available() -> Mapping[bytes, Mechanism]:
    """Return the mechanisms that can be used here."""
    return {**_MECHANISMS, b"SCRAM-SHA-256": scram} if find_spec("scramp") is not None else _MECHANISMS


def xtext(value: bytes) -> bytes:
    """Return a value as it stands in a parameter of MAIL (RFC 3461 section 4)."""
    return b"".join(b"%c" % octet if 33 <= octet <= 126 and octet not in b"+=" else b"+%02X" % octet for octet in value)


def parse_xtext(value: bytes) -> bytes:
    """Return what such a parameter says. What is no escape stands for itself; = and + are taken in small letters too, as in the patch."""
    return re.sub(rb"\+([0-9A-F]{2}|3d|2b)", lambda match: bytes([int(match[1], 16)]), value)
