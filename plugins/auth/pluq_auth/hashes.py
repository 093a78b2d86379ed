"""Password hashes: scrypt from the standard library, what the system's crypt(3) knows, and argon2 where its library is installed.

    $scrypt$ln=15,r=8,p=1$SALT$HASH        what `hash_password` makes: 32 MiB and some 80 ms for each guess
    $argon2id$...   $argon2i$...           argon2-cffi
    $y$... $7$... $6$... $5$... $2b$... $1$... and older   crypt(3), see crypt3; bcrypt by its library where the system has none

Source: RFC 7914; the modular crypt format of passlib.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
import re

from pluq_auth import crypt3

LOG_N, BLOCK, PARALLEL = 15, 8, 1
SALT_BYTES, HASH_BYTES = 16, 32

# What a line of the file may ask for: 256 MiB, so that a slip of the pen cannot take the machine's memory.
MAX_MEMORY = 256 << 20

_SCRYPT = re.compile(rb"\$scrypt\$ln=([0-9]{1,2}),r=([0-9]{1,2}),p=([0-9]{1,2})\$([A-Za-z0-9+/]+)\$([A-Za-z0-9+/]+)")


def hash_password(password: bytes) -> bytes:
    """Return a new scrypt hash."""
    salt = os.urandom(SALT_BYTES)
    digest = _scrypt(password, salt, LOG_N, BLOCK, PARALLEL, HASH_BYTES)
    return b"$scrypt$ln=%d,r=%d,p=%d$%b$%b" % (LOG_N, BLOCK, PARALLEL, _encode(salt), _encode(digest))


def decoy() -> bytes:
    """Return a hash that no password has, and that costs as much to compare."""
    salt, digest = os.urandom(SALT_BYTES), os.urandom(HASH_BYTES)
    return b"$scrypt$ln=%d,r=%d,p=%d$%b$%b" % (LOG_N, BLOCK, PARALLEL, _encode(salt), _encode(digest))


def complaint(stored: bytes) -> str | None:
    """Return what is wrong with a stored hash, None for one that passwords can be compared with here."""
    if stored.startswith(b"$scrypt$"):
        return _scrypt_complaint(stored)
    if stored.startswith(b"$argon2"):
        return None if _is_installed("argon2") else "needs the library argon2-cffi, which is not installed"
    if crypt3.is_known(stored) or (stored.startswith(b"$2") and _is_installed("bcrypt")):
        return None
    return "no password hash that is known here"


def _is_installed(library: str) -> bool:
    from importlib.util import find_spec

    return find_spec(library) is not None


def _scrypt_complaint(stored: bytes) -> str | None:
    match = _SCRYPT.fullmatch(stored)
    if match is None:
        return "damaged scrypt hash"
    log_n, block, parallel = map(int, match.groups()[:3])
    if not (log_n and block and parallel) or (128 * block << log_n) > MAX_MEMORY:
        return "scrypt parameters out of bounds"
    return None


def matches(stored: bytes, password: bytes) -> bool:
    """Return whether a password has this hash. It takes its time, and memory: see the module. Never raises."""
    if stored.startswith(b"$scrypt$"):
        return _matches_scrypt(stored, password)
    if stored.startswith(b"$argon2"):
        return _matches_argon2(stored, password)
    if stored.startswith(b"$2") and not crypt3.is_known(stored):
        return _matches_bcrypt(stored, password)
    return crypt3.matches(stored, password)


def _matches_scrypt(stored: bytes, password: bytes) -> bool:
    match = _SCRYPT.fullmatch(stored)
    assert match is not None  # `complaint` looked
    log_n, block, parallel = map(int, match.groups()[:3])
    try:
        salt, digest = _decode(match[4]), _decode(match[5])
    except binascii.Error:
        return False
    return hmac.compare_digest(digest, _scrypt(password, salt, log_n, block, parallel, len(digest)))


def _scrypt(password: bytes, salt: bytes, log_n: int, block: int, parallel: int, length: int) -> bytes:
    return hashlib.scrypt(
        password, salt=salt, n=1 << log_n, r=block, p=parallel, maxmem=MAX_MEMORY + (1 << 20), dklen=length
    )


def _matches_argon2(stored: bytes, password: bytes) -> bool:
    from argon2 import PasswordHasher
    from argon2.exceptions import InvalidHashError, VerificationError

    try:
        return bool(PasswordHasher().verify(stored, password))
    except (VerificationError, InvalidHashError):
        return False


def _matches_bcrypt(stored: bytes, password: bytes) -> bool:
    import bcrypt

    try:
        return bool(bcrypt.checkpw(password[:72], stored))  # bcrypt has never looked further
    except ValueError:
        return False


def _encode(data: bytes) -> bytes:
    return base64.b64encode(data).rstrip(b"=")


def _decode(text: bytes) -> bytes:
    return base64.b64decode(text + b"=" * (-len(text) % 4))
