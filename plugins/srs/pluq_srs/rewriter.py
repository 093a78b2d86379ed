"""Addresses rewritten and brought back, by srslib, held to what libsrs2 does. Values only.

    joe@src.example                  SRS0=HHHH=TT=src.example=joe@OURS            the first to forward
    SRS0=hash=tt=host=user@first     SRS1=HHHH=first==hash=tt=host=user@OURS      the second; a third only changes hash and domain

HHHH is a hash over the rest with our secret, TT the day. Only an address with a right hash is brought back, and an SRS0 only for
`maxage` days, so that nobody can make us send bounces to whom he wants.

What srslib leaves to its caller: it takes a hash of any length, so that one letter would do; an age one day short of libsrs2's;
and the hash of an address that is not ASCII. Case never counts, as the hash may have passed through a system that changes it.

Source: https://www.libsrs2.org/srs/srs.pdf; libsrs2, whose words the errors are.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import time
from collections.abc import Callable, Sequence

import srslib

# SHA-1 in base64 without its padding, which would end the field.
LONGEST_HASH = 27
# A day is two letters of 5 bits: an older one looks like a younger.
OLDEST_DAYS = 1023
SEPARATORS = ("=", "-", "+")
MAXAGE = 21
HASH_LETTERS = 4
PREFIX = len("SRS0")

NOT_SRS = "Not an SRS address."
NO_SECRETS = "No secrets in SRS configuration."
SHORT_HASH = "Hash too short in SRS address."
BAD_HASH = "Hash invalid in SRS address."
OUT_OF_DATE = "Time stamp out of date."


class SrsError(Exception):
    """Why an address is not rewritten or brought back, in the words of libsrs2. `permanent`: it never will be."""

    def __init__(self, text: str, permanent: bool = True) -> None:
        super().__init__(text)
        self.text = text
        self.permanent = permanent


class Guarded(srslib.SRS):  # type: ignore[misc]  # srslib has no types
    """srslib with the rules about hashes that it leaves out. Texts are Latin-1, so that a character is a byte."""

    def __init__(self, secrets: Sequence[bytes], days: int, length: int, shortest: int) -> None:
        super().__init__(secrets[0], list(secrets[1:]), days, length)
        self._secrets = secrets
        self._length = length
        self._shortest = shortest

    def generate_hash(self, s: str, secret: bytes, hash_length: int) -> str:
        digest = hmac.new(secret, s.encode("latin-1").lower(), hashlib.sha1).digest()
        return base64.b64encode(digest)[:hash_length].decode("ascii")

    def check_hash(self, h: str, s: str, addr: str) -> None:
        if len(h) < self._shortest:
            raise SrsError(SHORT_HASH)
        given = h.lower().encode("latin-1")
        wanted = [self.generate_hash(s, secret, self._length)[: len(h)].lower().encode() for secret in self._secrets]
        if not any(hmac.compare_digest(given, one) for one in wanted):
            raise SrsError(BAD_HASH)


class Rewriter:
    """Rewrites to one domain. Without secrets every question is a temporary SrsError. Numbers below 1 mean the defaults, as in the patch."""

    def __init__(
        self,
        domain: bytes,
        secrets: Sequence[bytes],
        *,
        maxage: int = MAXAGE,
        hashlength: int = HASH_LETTERS,
        hashmin: int = HASH_LETTERS,
        separator: str = "=",
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.domain = domain
        self._separator = separator[:1] if separator[:1] in SEPARATORS else "="
        length = min(above_zero(hashlength, HASH_LETTERS), LONGEST_HASH)
        shortest = min(above_zero(hashmin, HASH_LETTERS), length)
        days = min(above_zero(maxage, MAXAGE), OLDEST_DAYS) + 1
        self._srs = Guarded(secrets, days, length, shortest) if secrets else None
        if self._srs is not None:
            self._srs._time_fn = clock

    def is_ours(self, address: bytes) -> bool:
        """Say whether the address is in our domain and looks rewritten."""
        local, _, domain = address.rpartition(b"@")
        return domain.lower() == self.domain.lower() and is_rewritten(local)

    def forward(self, sender: bytes) -> bytes:
        """Return the address in our domain that stands for `sender`, which has a domain. Raises SrsError."""
        made: str = self._ready().forward(sender.decode("latin-1"), self.domain.decode("latin-1"))
        return (made[:PREFIX] + self._separator + made[PREFIX + 1 :]).encode("latin-1")

    def reverse(self, address: bytes) -> bytes:
        """Return the address that one of ours stands for. Raises SrsError."""
        try:
            original: str = self._ready().reverse(address.decode("latin-1"))
        except srslib.InvalidTimestampError:
            raise SrsError(OUT_OF_DATE) from None
        except srslib.InvalidAddressError:
            raise SrsError(NOT_SRS) from None
        return original.encode("latin-1")

    def _ready(self) -> Guarded:
        if self._srs is None:
            raise SrsError(NO_SECRETS, permanent=False)
        return self._srs


def above_zero(number: int, default: int) -> int:
    return number if number > 0 else default


def is_rewritten(local: bytes) -> bool:
    """Say whether a local part begins as SRS0 and SRS1 addresses do."""
    return local[:PREFIX].upper() in (b"SRS0", b"SRS1") and local[PREFIX : PREFIX + 1] in (b"=", b"-", b"+")
