"""The sets of ARC fields in a message, and whether their form is that of a chain.

    ARC-Authentication-Results  i=1; what the first host found          one set for each host that sealed,
    ARC-Message-Signature       i=1; signs the message                  numbered from 1 without a gap
    ARC-Seal                    i=1; signs all sets so far; cv=none, later pass or fail

Nothing is looked up here. Source: RFC 8617 sections 4.1, 4.2 and 5.2.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from pluq.errors import ProtocolError
from pluq.hookspecs import HeaderField
from pluq.signatures import tags
from pluq.signatures.canon import relaxed_field, without_value
from pluq.signatures.finding import Unacceptable
from pluq.signatures.signature import Signature, algorithm_of, check_times, need, signature_of

# RFC 8617 section 5: more sets than this are a loop.
MAX_SETS = 50

RESULTS, MESSAGE, SEAL = b"arc-authentication-results", b"arc-message-signature", b"arc-seal"
NAMES = (RESULTS, MESSAGE, SEAL)

_INSTANCE = re.compile(rb"[ \t\n]*i[ \t\n]*=[ \t\n]*([0-9]{1,3})[ \t\n]*(?:;|\Z)")


class BadChain(Exception):
    """The sets are no chain; the reason is for people. `last` is the highest number of a set, 0 where that cannot be said."""

    def __init__(self, reason: str, last: int = 0) -> None:
        super().__init__(reason)
        self.reason = reason
        self.last = last


@dataclass(frozen=True)
class Seal:
    """An ARC-Seal that could be read."""

    field: HeaderField
    algorithm: str
    domain: str
    selector: str
    status: str
    value: bytes

    @property
    def record_name(self) -> str:
        return f"{self.selector}._domainkey.{self.domain}"


@dataclass(frozen=True)
class ArcSet:
    """The three fields of one host."""

    results: HeaderField
    message: HeaderField
    seal: HeaderField

    @property
    def fields(self) -> tuple[HeaderField, HeaderField, HeaderField]:
        return self.results, self.message, self.seal


def collect(fields: Sequence[HeaderField]) -> list[ArcSet]:
    """Return the sets of a message, the first one first. Raises BadChain."""
    found: dict[int, dict[bytes, HeaderField]] = {}
    for field in fields:
        if field.name not in NAMES:
            continue
        number = instance_of(field)
        if not 1 <= number <= MAX_SETS:
            raise BadChain("a set without a proper number")
        if field.name in found.setdefault(number, {}):
            raise BadChain(f"{field.name.decode()} i={number} twice", max(found))
        found[number][field.name] = field
    last = max(found, default=0)
    if sorted(found) != list(range(1, last + 1)) or any(len(one) != len(NAMES) for one in found.values()):
        raise BadChain("a set is missing or not whole", last)
    return [ArcSet(*(found[number][name] for name in NAMES)) for number in range(1, last + 1)]


def instance_of(field: HeaderField) -> int:
    """Return the number of a field's set, 0 where it has none. It comes first in results, anywhere in a signature."""
    rest = field.raw.partition(b":")[2]
    if field.name == RESULTS:
        found = _INSTANCE.match(rest[:256])
        return int(found[1]) if found else 0
    try:
        return min(tags.number(tags.parse_tags(rest).get(b"i", b"")), MAX_SETS + 1)
    except ProtocolError:
        return 0


def read_seal(field: HeaderField, now: float) -> Seal:
    """Return the seal in a field. Raises Unacceptable, ProtocolError."""
    found = tags.parse_tags(field.raw.partition(b":")[2])
    need(found, (b"a", b"b", b"cv", b"d", b"s"))
    if b"h" in found or b"bh" in found:
        raise ProtocolError("h= or bh= in a seal")
    check_times(found, now)
    domain, selector = tags.domain(found[b"d"]), tags.domain(found[b"s"])
    status = found[b"cv"].lower().decode("ascii", "replace")
    return Seal(field, algorithm_of(found), domain, selector, status, tags.octets(found[b"b"]))


def read_message(field: HeaderField, now: float) -> Signature:
    """Return the message signature in a field. Raises Unacceptable, ProtocolError."""
    found = tags.parse_tags(field.raw.partition(b":")[2])
    need(found, (b"a", b"b", b"bh", b"d", b"h", b"s"))
    signature = signature_of(field, found, "", now)
    if SEAL in signature.signed:
        raise ProtocolError("a seal in h=")
    return signature


def read_seals(sets: Sequence[ArcSet], now: float) -> list[Seal]:
    """Return the seals of a chain, if each says what it has to. Raises BadChain."""
    seals: list[Seal] = []
    for number, one in enumerate(sets, 1):
        try:
            seals.append(read_seal(one.seal, now))
        except ProtocolError as error:
            raise BadChain(f"seal {number}: {error.text}", len(sets)) from None
        except Unacceptable as error:
            raise BadChain(f"seal {number}: {error.code.sentence}", len(sets)) from None
    for number, seal in enumerate(seals, 1):
        if seal.status != ("none" if number == 1 else "pass"):
            raise BadChain(f"seal {number} says {seal.status}", len(sets))
    return seals


def sealed_octets(sets: Sequence[ArcSet]) -> bytes:
    """Return the octets that the seal of the last of these sets signs."""
    fields = [field for one in sets for field in one.fields]
    before = b"".join(relaxed_field(field) for field in fields[:-1])
    return before + relaxed_field(without_value(fields[-1])).removesuffix(b"\r\n")
