"""A DKIM-Signature or ARC-Message-Signature field: read, and refused for everything that makes a pass worthless, before anything is looked up or computed.

Refused: what the grammar does not allow, a tag twice, rsa-sha1, From not signed, i= outside of d=, expired, from the future; a From, Subject,
To... that stands in the message more often than in h= (a reader may see the one that nobody signed).

Source: RFC 6376 sections 3.5, 6.1.1 and 8.15; RFC 8301; RFC 8463.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from pluq.errors import ProtocolError
from pluq.hookspecs import HeaderField
from pluq.signatures import tags
from pluq.signatures.canon import NAMES
from pluq.signatures.finding import Code, Unacceptable

MANDATORY = (b"v", b"a", b"b", b"bh", b"d", b"h", b"s")
ALGORITHMS = {b"rsa-sha256": "rsa-sha256", b"ed25519-sha256": "ed25519-sha256"}

# Clocks differ by so much. dkimpy's ten hours would keep an expired signature alive for a working day.
CLOCK_SECONDS = 300

# RFC 5322 section 3.6: fields of which a message has one.
SINGLE = frozenset(
    (b"from", b"sender", b"reply-to", b"to", b"cc", b"subject", b"date", b"message-id", b"in-reply-to", b"references",
     b"mime-version", b"content-type", b"content-transfer-encoding")
)  # fmt: skip


@dataclass(frozen=True)
class Signature:
    """One signature that is worth a look at its key. `signed` are the names of h=; `length` is l=."""

    field: HeaderField
    algorithm: str
    domain: str
    selector: str
    identity: str
    header_form: str
    body_form: str
    signed: list[bytes]
    body_hash: bytes
    value: bytes
    length: int | None

    @property
    def record_name(self) -> str:
        return f"{self.selector}._domainkey.{self.domain}"


def read_signature(field: HeaderField, now: float) -> Signature:
    """Return the signature of a field. Raises Unacceptable."""
    try:
        found = tags.parse_tags(field.raw.partition(b":")[2])
        return _signature(field, found, now)
    except ProtocolError as error:
        raise Unacceptable(Code.BAD_SYNTAX, error.text) from None


def _signature(field: HeaderField, found: tags.Tags, now: float) -> Signature:
    need(found, MANDATORY)
    if found[b"v"] != b"1":
        raise Unacceptable(Code.BAD_VERSION)
    if b"dns/txt" not in tags.words(found.get(b"q", b"dns/txt")):
        raise ProtocolError("unknown q=")
    return signature_of(field, found, _identity(found, tags.domain(found[b"d"])), now)


def need(found: tags.Tags, names: Iterable[bytes]) -> None:
    """Raise ProtocolError for a tag that is missing or empty."""
    for name in names:
        if not found.get(name):
            raise ProtocolError(f"no {name.decode()}=")


def signature_of(field: HeaderField, found: tags.Tags, identity: str, now: float) -> Signature:
    """Return the signature in the tags that a DKIM-Signature and an ARC-Message-Signature share. Raises Unacceptable, ProtocolError."""
    algorithm = algorithm_of(found)
    check_times(found, now)
    header_form, body_form = _forms(found.get(b"c", b"simple/simple"))
    return Signature(
        field,
        algorithm,
        tags.domain(found[b"d"]),
        tags.domain(found[b"s"]),
        identity,
        header_form,
        body_form,
        _signed_names(found[b"h"]),
        tags.octets(found[b"bh"]),
        tags.octets(found[b"b"]),
        tags.number(found[b"l"]) if b"l" in found else None,
    )


def algorithm_of(found: tags.Tags) -> str:
    """Return a= in lower case. Raises Unacceptable for one that nobody should believe."""
    if found[b"a"].lower() == b"rsa-sha1":  # RFC 8301
        raise Unacceptable(Code.OLD_ALGORITHM)
    if found[b"a"].lower() not in ALGORITHMS:
        raise Unacceptable(Code.BAD_ALGORITHM, _printable(found[b"a"]))
    return ALGORITHMS[found[b"a"].lower()]


def check_times(found: tags.Tags, now: float) -> None:
    """Raise Unacceptable for a signature that is no longer, or not yet, to be believed."""
    signed = tags.number(found[b"t"]) if b"t" in found else None
    expires = tags.number(found[b"x"]) if b"x" in found else None
    if signed is not None and signed > now + CLOCK_SECONDS:
        raise Unacceptable(Code.FUTURE)
    if expires is not None and expires < now - CLOCK_SECONDS:
        raise Unacceptable(Code.EXPIRED)
    if signed is not None and expires is not None and expires <= signed:
        raise ProtocolError("x= is not after t=")


def _forms(value: bytes) -> tuple[str, str]:
    header, _, body = value.decode("ascii").lower().partition("/")
    if header not in NAMES or (body or "simple") not in NAMES:
        raise ProtocolError("unknown c=")
    return header, body or "simple"


def _identity(found: tags.Tags, domain: str) -> str:
    """Return i= with its domain in lower case, "@domain" without it. Its domain must be d= or below it, label by label."""
    local, at, host = found.get(b"i", b"@" + domain.encode()).rpartition(b"@")
    if not at:
        raise ProtocolError("no @ in i=")
    name = tags.domain(host)
    if name != domain and not name.endswith("." + domain):
        raise Unacceptable(Code.BAD_IDENTITY)
    return _printable(local) + "@" + name


def _signed_names(value: bytes) -> list[bytes]:
    names = tags.words(value)
    if not all(names):
        raise ProtocolError("empty name in h=")
    if b"from" not in names:
        raise Unacceptable(Code.UNSIGNED_FROM)
    return names


def _printable(value: bytes) -> str:
    return value[:64].decode("ascii", "replace")


def check_cover(signature: Signature, fields: list[HeaderField], subject_needed: bool) -> None:
    """Raise Unacceptable if the message shows a field that the signature seems to cover and does not."""
    there, signed = [field.name for field in fields], signature.signed
    if there.count(b"from") > signed.count(b"from"):
        raise Unacceptable(Code.UNSIGNED_FROM)
    for name in SINGLE.intersection(signed):
        if there.count(name) > signed.count(name):
            raise Unacceptable(Code.DOUBLED, name.decode())
    if subject_needed and b"subject" in there and b"subject" not in signed:
        raise Unacceptable(Code.UNSIGNED_SUBJECT)
