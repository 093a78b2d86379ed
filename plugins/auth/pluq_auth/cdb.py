"""AUTH_CDB: users in a constant database, with what their login sets.

    key     the name
    data    HASH[,VARIABLE="value"]...      a crypt(3) hash; PASSWORD_EXPIRES="seconds since the epoch" refuses later logins,
                                            all other variables are the connection's after the login

A database that cannot be read is nobody's answer: 454. Unknown users take as long as a wrong password.

Source: the AUTH_CDB feature of John Simpson's combined qmail patch.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass

from pluq.errors import ConfigError
from pluq.hookspecs import Session
from pluq.store.cdb import Cdb
from pluq_auth import hashes, mechanisms
from pluq_auth.dialogue import Dialogue, Proof, Refused, Unavailable

EXPIRES = "PASSWORD_EXPIRES"
TROUBLE = "oops, unable to read AUTH_CDB and I can't auth"

_VARIABLE = re.compile(rb',([A-Za-z_][A-Za-z0-9_]*)="([^"\0]*)"')


@dataclass(frozen=True)
class Entry:
    """One user: the hash, and the variables of a login."""

    password: bytes
    variables: dict[str, str]


def parse_entry(data: bytes) -> Entry:
    """Return what the data of a user says. Raises ValueError."""
    comma = data.find(b",")
    # The parameters of argon2 and scrypt have commas too: there a comma that begins a variable counts.
    while comma >= 0 and data.startswith((b"$argon2", b"$scrypt")) and not _VARIABLE.match(data, comma):
        comma = data.find(b",", comma + 1)
    password, rest = (data, b"") if comma < 0 else (data[:comma], data[comma:])
    variables: dict[str, str] = {}
    while rest:
        found = _VARIABLE.match(rest)
        if found is None:
            raise ValueError('expected ,VARIABLE="value"')
        variables[found[1].decode("ascii")] = found[2].decode("utf-8", "surrogateescape")
        rest = rest[found.end() :]
    return Entry(password, variables)


class PasswordCdb:
    """The back end. `path` is that of the database; it is opened for each login, so that a new one counts at once."""

    mechanisms = ("LOGIN", "PLAIN")

    def __init__(
        self, path: str, log: Callable[[str], None], limit: asyncio.Semaphore, clock: Callable[[], float] = time.time
    ) -> None:
        self.path = path
        self._log = log
        self._limit = limit
        self._clock = clock

    async def authenticate(self, mechanism: str, dialogue: Dialogue, session: Session, offered: Sequence[str]) -> Proof:
        """Return who the client is. Raises Ended."""
        ask = mechanisms.plain if mechanism == "PLAIN" else mechanisms.login
        user, password = await ask(dialogue)
        try:
            entry, decoy = self.find(user)
        except (ConfigError, OSError, ValueError) as error:
            self._log(f"{self.path}: {error}")
            raise Unavailable(TROUBLE) from None
        stored = decoy if entry is None else entry.password
        async with self._limit:
            is_right = await asyncio.to_thread(hashes.matches, stored, password)
        if entry is None:
            raise Refused(user, "(unknown user)")
        if not is_right:
            raise Refused(user, "(bad password)")
        expires = entry.variables.get(EXPIRES)
        if expires is not None and not (expires.isdigit() and int(expires) > self._clock()):
            raise Refused(user, "(password expired)")
        return Proof(user, variables={name: value for name, value in entry.variables.items() if name != EXPIRES})

    def find(self, user: bytes) -> tuple[Entry | None, bytes]:
        """Return the entry of a user, and a hash that takes as long as that of others. Raises ConfigError, OSError, ValueError."""
        with closing(Cdb(self.path)) as database:
            data = database.get(user)
            if data is not None:
                return parse_entry(data), b""
            first = next(iter(database), (b"", b""))[1]
        return None, parse_entry(first).password or hashes.decoy()
