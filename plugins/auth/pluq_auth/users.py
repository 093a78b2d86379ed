"""control/passwords: who may log in, one line a user.

    # comment
    :SEED                                       what salts for users that do not exist are made from
    USER:HASH[:ITERATIONS,SALT,STORED,SERVER]   password hash (see hashes) and SCRAM-SHA-256 keys, in base64

Passwords are nowhere in it, in no form that could be used to log in elsewhere. The file is read again when it has changed; one that
cannot be read, or has a faulty line, is nobody's answer: logins are deferred, and the log names file and line.

Whoever asks for a user that does not exist waits as long as for a wrong password, and is shown a SCRAM salt that stays the same: nobody
learns which users there are.

Source: RFC 5803, RFC 7677.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hmac
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from pluq.errors import ConfigError
from pluq.hookspecs import Session
from pluq_auth import hashes, mechanisms
from pluq_auth.dialogue import Dialogue, Malformed, Proof, Refused, Unavailable, check_name

SCRAM_ITERATIONS = 16384
SALT_BYTES = 16
MIN_SALT_BYTES = 12  # scramp's, and a good rule

TROUBLE = "oops, unable to read the passwords and I can't auth"


@dataclass(frozen=True, slots=True)
class ScramKeys:
    """What a server keeps for SCRAM-SHA-256: it can recognise the user with it, and not impersonate him."""

    iterations: int
    salt: bytes
    stored: bytes
    server: bytes

    def line(self) -> bytes:
        return b",".join(
            [b"%d" % self.iterations, *(base64.b64encode(one) for one in (self.salt, self.stored, self.server))]
        )


@dataclass(frozen=True, slots=True)
class User:
    password: bytes = field(repr=False)
    scram: ScramKeys | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Users:
    """The file as read. `decoy` is compared with the password of users that do not exist."""

    by_name: Mapping[bytes, User]
    seed: bytes
    decoy: bytes


def parse_users(path: str, data: bytes) -> Users:
    """Return what the file says. Raises ConfigError with the line of the first fault."""
    by_name: dict[bytes, User] = {}
    seed = b""
    for number, line in enumerate(data.split(b"\n"), 1):
        if not line.strip() or line.startswith(b"#"):
            continue
        name, colon, rest = line.rstrip(b" \t\r").partition(b":")
        if colon and not name:
            seed = rest
            continue
        try:
            by_name[check_name(name)] = parse_user(rest)
        except (ValueError, Malformed) as error:
            raise ConfigError(path, str(error) or "expected USER:HASH", number) from None
    decoy = next((user.password for user in by_name.values()), None) or hashes.decoy()
    return Users(by_name, seed or os.urandom(SALT_BYTES), decoy)


def parse_user(text: bytes) -> User:
    """Return the user whose line goes on like this. Raises ValueError."""
    password, colon, keys = text.partition(b":")
    complaint = hashes.complaint(password)
    if complaint is not None:
        raise ValueError(complaint)
    return User(password, parse_keys(keys) if colon else None)


def parse_keys(text: bytes) -> ScramKeys:
    """Return SCRAM keys. Raises ValueError."""
    fields = text.split(b",")
    try:
        iterations, (salt, stored, server) = (
            int(fields[0]),
            (base64.b64decode(one, validate=True) for one in fields[1:]),
        )
    except (ValueError, binascii.Error):
        raise ValueError("damaged SCRAM keys: expected ITERATIONS,SALT,STORED,SERVER") from None
    if (
        iterations < 4096
        or iterations > 10_000_000
        or len(stored) != 32
        or len(server) != 32
        or len(salt) < MIN_SALT_BYTES
    ):
        raise ValueError("SCRAM keys out of bounds")
    return ScramKeys(iterations, salt, stored, server)


class PasswordFile:
    """The back end. `read_file` reads the path, `log` gets one line where that fails; `limit` is for computing hashes."""

    mechanisms = ("SCRAM-SHA-256", "LOGIN", "PLAIN")
    on_request = ("SCRAM-SHA-256-PLUS",)
    """What it can do as well where the site names it, and the session is encrypted with a certificate of ours."""

    def __init__(
        self, path: str, read_file: Callable[[str], bytes], log: Callable[[str], None], limit: asyncio.Semaphore
    ) -> None:
        self.path = path
        self._read_file = read_file
        self._log = log
        self._seen: tuple[int, int, int] | None = None
        self._users: Users | None = None
        self._hashing = limit

    def users(self) -> Users:
        """Return the users as the file has them now. Raises ConfigError, OSError."""
        status = os.stat(self.path)
        seen = (status.st_ino, status.st_size, status.st_mtime_ns)
        if self._users is None or seen != self._seen:
            self._users = None  # not the old ones where the new ones cannot be read
            self._users = parse_users(self.path, self._read_file(self.path))
            self._seen = seen
        return self._users

    async def authenticate(self, mechanism: str, dialogue: Dialogue, session: Session, offered: Sequence[str]) -> Proof:
        """Return who the client is. Raises Ended."""
        try:
            users = self.users()
        except (ConfigError, OSError) as error:
            self._log(str(error))
            raise Unavailable(TROUBLE) from None
        if mechanism.startswith("SCRAM-SHA-256"):
            from pluq_auth import scram
            from pluq_auth.binding import binding_of

            binding = binding_of(session.tls) if "SCRAM-SHA-256-PLUS" in offered else None
            return Proof(await scram.serve(dialogue, users, mechanism, binding))
        ask = mechanisms.plain if mechanism == "PLAIN" else mechanisms.login
        user, password = await ask(dialogue)
        return await self.compare(users, user, password)

    async def compare(self, users: Users, name: bytes, password: bytes) -> Proof:
        """Return the proof that this is the user's password, after the same time for every name. Raises Refused."""
        user = users.by_name.get(name)
        async with self._hashing:
            is_right = await asyncio.to_thread(hashes.matches, users.decoy if user is None else user.password, password)
        if user is None or not is_right:
            raise Refused(name)
        return Proof(name)


def fake_salt(seed: bytes, name: bytes) -> bytes:
    """Return the salt that a user would have who is not in the file."""
    return hmac.digest(seed, name, "sha256")[:SALT_BYTES]
