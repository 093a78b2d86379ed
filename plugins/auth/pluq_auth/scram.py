"""SCRAM-SHA-256: both sides prove that they know the password, and neither tells it.

The library scramp computes; what it raises becomes one of our endings. A user without keys is asked for proof like any other, with a salt
made from the file's seed, and fails at the end.

Source: RFC 5802, RFC 7677.
"""

from __future__ import annotations

import base64
import os

import scramp

from pluq_auth.dialogue import Dialogue, Malformed, Refused, check_name
from pluq_auth.users import SCRAM_ITERATIONS, ScramKeys, Users, fake_salt

NAME = "SCRAM-SHA-256"
KEY_BYTES = 32


def make_keys(password: str) -> ScramKeys:
    """Return new keys for a password. Raises ValueError for one that SCRAM has no form for (RFC 4013)."""
    try:
        salt, stored, server, iterations = scramp.ScramMechanism(NAME).make_auth_info(password, SCRAM_ITERATIONS)
    except scramp.ScramException as error:
        raise ValueError(str(error)) from None
    return ScramKeys(iterations, salt, stored, server)


async def serve(dialogue: Dialogue, users: Users, name: str = NAME, binding: tuple[str, bytes] | None = None) -> bytes:
    """Carry out the server's side; return the name of the user. Raises Ended.

    `binding` is what ties the login to this TLS connection, where that was offered: a client that could have used it and says that it
    was not offered has been lied to, and is refused (RFC 5802 section 6).
    """
    asked: list[bytes] = []

    def keys_of(name: str) -> tuple[bytes, bytes, bytes, int]:
        asked.append(check_name(name.encode()))
        keys = keys_for(users, asked[0])
        return keys.salt, keys.stored, keys.server, keys.iterations

    server = scramp.ScramMechanism(name).make_server(keys_of, channel_binding=binding)
    first_message = text(await dialogue.response())
    try:
        server.set_client_first(first_message)
        first = server.get_server_first().encode()
    except scramp.ScramException as error:
        if first_message.startswith(("y", "p")) and binding is not None:
            raise Refused(b"", f"(channel binding: {error})") from None
        raise Malformed from None
    final = text(await dialogue.response(first))
    try:
        server.set_client_final(final)
    except scramp.ScramException:
        raise Refused(asked[0]) from None
    if await dialogue.line(base64.b64encode(server.get_server_final().encode())):
        raise Malformed
    return asked[0]


def keys_for(users: Users, name: bytes) -> ScramKeys:
    """Return the keys of a user; for one who has none, keys that nobody can prove to know."""
    user = users.by_name.get(name)
    if user is not None and user.scram is not None:
        return user.scram
    salt = fake_salt(users.seed, name)
    return ScramKeys(SCRAM_ITERATIONS, salt, os.urandom(KEY_BYTES), os.urandom(KEY_BYTES))


def text(message: bytes) -> str:
    try:
        return message.decode("utf-8")
    except UnicodeDecodeError:
        raise Malformed from None
