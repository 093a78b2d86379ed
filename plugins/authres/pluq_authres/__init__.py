"""authres: the Authentication-Results field that programs around the queue ask for by a variable.

Patched qmail's programs collect their findings in QMAILAUTHENTICATED, and its qmail-queue writes them into the message, directly
below its own Received line:

    Authentication-Results: mx.example.org;
            spf=pass smtp.mailfrom=a.example;
            dkim=none

An empty variable gives `; none`; without it there is no field. What pluq's own plugins find needs no variable and not this plugin.

Source: RFC 8601; the authentication-results patch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pluq import Plugin, hook, setting
from pluq.errors import ConfigError

VARIABLE = "QMAILAUTHENTICATED"
# More is no result of a check.
MAX_BYTES = 16384


@dataclass(frozen=True)
class Settings:
    authserv_id: str = setting(
        "", control="authservid", help="Name that the field bears; none: [core] authserv_id, else control/me."
    )


class Authres(Plugin[Settings]):
    """Write what QMAILAUTHENTICATED holds into an Authentication-Results field."""

    name = "authres"

    @hook
    def queue_fields(self, environment: Mapping[str, str]) -> Sequence[bytes]:
        value = environment.get(VARIABLE)
        if value is None:
            return []
        name = self.settings.authserv_id or self.context.authserv_id
        if not name:
            raise ConfigError(self.context.home.control("me"), "missing: it names who checked the message")
        return [field(name, value)]


def field(name: str, value: str) -> bytes:
    """Return the field. Whatever the value holds, it stays one field: its lines are continued, and control characters are blanks."""
    lines = value.encode("utf-8", "surrogateescape")[:MAX_BYTES].split(b"\n")
    clean = [bytes(byte if byte >= 32 and byte != 127 else 32 for byte in line).strip() for line in lines]
    results = b"\n\t".join(line for line in clean if line)
    return b"Authentication-Results: %b;%b\n" % (
        name.encode("utf-8", "replace"),
        b"\n\t" + results if results else b" none",
    )
