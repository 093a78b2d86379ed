"""Routes with a login: control/authsenders by the sender, control/smtproutes by the domain.

    authsenders   SENDER:RELAY[:PORT][|USER|PASSWORD]     SENDER: a whole address, @domain, .suffix, or nothing for everybody
    smtproutes    DOMAIN:RELAY[:PORT][|USER|PASSWORD]     as stock smtproutes, with a login
                  DOMAIN:RELAY[:PORT] USER PASSWORD       Gentoo's form: both in base64

The line of the sender comes first, the longest match counts, and case does not matter. An empty relay means: not here, look further.
A password may contain bars and colons. A line that cannot be read stops the delivery for now: without its login the relay would refuse
the message, or worse, take it for somebody else's.

Source: the SMTP AUTH client patches of qmail; qmail-control(5).
"""

from __future__ import annotations

import base64
import binascii
import dataclasses
from collections.abc import Sequence

from pluq.errors import ConfigError
from pluq.remote.route import Route, Routes, parse_relay
from pluq.store.control import ControlFiles

SUBMISSIONS_PORT = 465


def parse_route(relay: bytes) -> Route:
    """Return the route in `RELAY[:PORT]` with a login in one of the two forms, or none. Raises ValueError."""
    where, bar, login = relay.partition(b"|")
    if bar:
        user, second, password = login.partition(b"|")
        if not second:
            raise ValueError("a login is |USER|PASSWORD")
        return with_login(where, user, password)
    where, *rest = relay.split() or [b""]
    if not rest:
        return parse_relay(where)
    if len(rest) != 2:
        raise ValueError("a login is |USER|PASSWORD, or USER and PASSWORD in base64 behind blanks")
    try:
        user, password = (base64.b64decode(one, validate=True) for one in rest)
    except binascii.Error:
        raise ValueError("USER and PASSWORD behind blanks are written in base64") from None
    return with_login(where, user, password)


def with_login(where: bytes, user: bytes, password: bytes) -> Route:
    """Return the route; an empty name or password is no login, as in the patch."""
    if b"\0" in user + password:
        raise ValueError("a login with a NUL")
    login = (user, password) if user and password else None
    return dataclasses.replace(parse_relay(where), login=login)


class AuthSenders:
    """control/authsenders."""

    def __init__(self, lines: Sequence[bytes]) -> None:
        pairs = (line.partition(b":") for line in lines)
        self._relays = {sender.lower(): relay for sender, colon, relay in pairs if colon}

    def find(self, sender: bytes) -> bytes | None:
        """Return what stands behind the sender's line: that of the address, of a part that begins with @ or dot, of nothing."""
        if not self._relays:
            return None
        key = sender.lower()
        starts = [0, *(at for at in range(1, len(key)) if key[at : at + 1] in (b"@", b".")), len(key)]
        found = next((self._relays[key[at:]] for at in starts if key[at:] in self._relays), None)
        return found or None


def find_route(controls: ControlFiles, sender: bytes, host: bytes) -> Route | None:
    """Return the route for a message, None where these files have none with a login for it. Raises ConfigError."""
    relay, name = AuthSenders(controls.lines("authsenders") or []).find(sender), "authsenders"
    is_for_sender = relay is not None
    if relay is None:
        relay, name = Routes(controls.lines("smtproutes") or []).find(host), "smtproutes"
    if relay is None:
        return None
    try:
        route = parse_route(relay)
    except ValueError as error:
        raise ConfigError(controls.path(name), str(error)) from None
    return route if is_for_sender or route.login is not None else None


def complaints(controls: ControlFiles) -> list[str]:
    """Return what is wrong with the lines of both files."""
    found = []
    for name in ("authsenders", "smtproutes"):
        for line in controls.lines(name) or []:
            try:
                parse_route(line.partition(b":")[2])
            except ValueError as error:
                who = line.partition(b":")[0].decode("utf-8", "replace")
                found.append(f"{controls.path(name)}: {who}: {error}")
    return found
