"""The server's side of the mechanisms in which we see the password, or a digest of it.

PLAIN      one response: authorization name (not looked at), NUL, name, NUL, password
LOGIN      two responses, to the prompts "Username:" and "Password:"
CRAM-MD5   a challenge that is new each time; the response is the name, a blank, the HMAC-MD5 of the challenge in hexadecimal digits

Source: RFC 4616, RFC 2195; draft-murchison-sasl-login.
"""

from __future__ import annotations

import os
import secrets
import time

from pluq_auth.dialogue import Dialogue, Malformed, check_name, decode

ASK_USER = b"VXNlcm5hbWU6"
ASK_PASSWORD = b"UGFzc3dvcmQ6"


async def plain(dialogue: Dialogue) -> tuple[bytes, bytes]:
    """Return name and password. Raises Malformed, Cancelled."""
    fields = (await dialogue.response()).split(b"\0")
    if len(fields) != 3 or not fields[2]:
        raise Malformed
    return check_name(fields[1]), fields[2]


async def login(dialogue: Dialogue) -> tuple[bytes, bytes]:
    """Return name and password. A name that cannot be read is refused after the password, as in qmail."""
    line = await dialogue.line(ASK_USER)
    if not line:
        raise Malformed
    try:
        user = check_name(decode(line))
    except Malformed:
        user = b""
    password = decode(await dialogue.line(ASK_PASSWORD))
    if not user or not password or b"\0" in password:
        raise Malformed
    return user, password


async def cram(dialogue: Dialogue, challenge: bytes) -> tuple[bytes, bytes]:
    """Return name and digest. The server speaks first: a response before the challenge is refused."""
    if dialogue.has_initial:
        raise Malformed
    user, _, digest = (await dialogue.response(challenge)).rpartition(b" ")
    if not digest or b"\0" in digest:
        raise Malformed
    return check_name(user), digest


def new_challenge(host: str) -> bytes:
    """Return `<NUMBER.TIME@HOST>`. The number begins with our process id, as in qmail, and cannot be guessed."""
    return f"<{os.getpid()}{secrets.randbelow(10**12):012}.{int(time.time())}@{host}>".encode(
        "utf-8", "surrogateescape"
    )
