"""Key records: the TXT record below `_domainkey`, its flags, and the public key in it.

    v=DKIM1; k=rsa; t=s; p=MIIBIjANBg...

The flags are the owner's limits on the key, and each is heeded: which hash (h=), which service (s=), whether i= must be the domain itself
(t=s), whether the domain is only testing (t=y), which kind of key (k=). A key of less than 1024 bits proves nothing.

Source: RFC 6376 section 3.6.1; RFC 8301 section 3.2; RFC 8463 section 3.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from pluq.errors import ProtocolError
from pluq.signatures import tags
from pluq.signatures.finding import Code, Unacceptable

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

    from pluq.signatures.signature import Signature

    PublicKey = RSAPublicKey | Ed25519PublicKey

MIN_RSA_BITS = 1024

# RFC 8301 wants 4096 to be understood. Time to verify grows with the square.
MAX_RSA_BITS = 8192

# Reading a record takes longer than verifying with its key. Few domains send most of the mail; an entry takes three kilobytes.
KEPT_RECORDS = 512

KIND_OF = {"rsa-sha256": "rsa", "ed25519-sha256": "ed25519"}


@dataclass(frozen=True)
class KeyRecord:
    """One key. `kind` is "rsa" or "ed25519"; `strict` is t=s, `testing` t=y."""

    kind: str
    key: PublicKey
    strict: bool = False
    testing: bool = False

    def verifies(self, value: bytes, signed: bytes) -> bool:
        """Return whether `value` is this key's signature of the octets `signed`."""
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
        from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
        from cryptography.hazmat.primitives.hashes import SHA256

        try:
            if isinstance(self.key, Ed25519PublicKey):
                self.key.verify(value, hashlib.sha256(signed).digest())
            else:
                self.key.verify(value, signed, PKCS1v15(), SHA256())
        except InvalidSignature:
            return False
        return True


def read_record(texts: tuple[bytes, ...]) -> KeyRecord:
    """Return the key in the TXT records of a selector. Raises Unacceptable."""
    records = [text for text in texts if b"p=" in text.translate(None, tags.FOLDING)]
    if not records:
        raise Unacceptable(Code.NO_KEY)
    if len(records) > 1:
        raise Unacceptable(Code.BAD_RECORD, "more than one record")
    try:
        return _record(records[0])
    except ProtocolError as error:
        raise Unacceptable(Code.BAD_RECORD, error.text) from None


@lru_cache(KEPT_RECORDS)
def _record(text: bytes) -> KeyRecord:
    found = tags.parse_tags(text)
    if b"v" in found and (next(iter(found)) != b"v" or found[b"v"] != b"DKIM1"):
        raise ProtocolError("bad v=")
    if b"sha256" not in tags.words(found.get(b"h", b"sha256")):
        raise Unacceptable(Code.WRONG_ALGORITHM, "h= of the key")
    services = tags.words(found.get(b"s", b"*"))
    if b"*" not in services and b"email" not in services:
        raise Unacceptable(Code.BAD_RECORD, "key is not for mail")
    kind = found.get(b"k", b"rsa").lower()
    if kind not in (b"rsa", b"ed25519"):
        raise Unacceptable(Code.BAD_RECORD, "unknown k=")
    if not found.get(b"p"):
        raise Unacceptable(Code.REVOKED if b"p" in found else Code.BAD_KEY)
    flags = tags.words(found.get(b"t", b""))
    key = _ed25519(found[b"p"]) if kind == b"ed25519" else _rsa(found[b"p"])
    return KeyRecord(kind.decode(), key, b"s" in flags, b"y" in flags)


def _rsa(value: bytes) -> RSAPublicKey:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
    from cryptography.hazmat.primitives.serialization import load_der_public_key

    try:
        key = load_der_public_key(tags.octets(value))
    except (ValueError, UnsupportedAlgorithm, ProtocolError):
        raise Unacceptable(Code.BAD_KEY) from None
    if not isinstance(key, RSAPublicKey):
        raise Unacceptable(Code.BAD_KEY, "not an RSA key")
    if key.key_size < MIN_RSA_BITS:
        raise Unacceptable(Code.WEAK_KEY, f"{key.key_size} bits")
    if key.key_size > MAX_RSA_BITS:
        raise Unacceptable(Code.HUGE_KEY, f"{key.key_size} bits")
    return key


def _ed25519(value: bytes) -> Ed25519PublicKey:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        return Ed25519PublicKey.from_public_bytes(tags.octets(value))
    except (ValueError, ProtocolError):
        raise Unacceptable(Code.BAD_KEY) from None


def check_kind(record: KeyRecord, algorithm: str) -> None:
    """Raise Unacceptable if a key is not of the kind that an algorithm wants."""
    if KIND_OF[algorithm] != record.kind:
        raise Unacceptable(Code.WRONG_ALGORITHM, f"{record.kind} key")


def check_use(record: KeyRecord, signature: Signature) -> None:
    """Raise Unacceptable if the owner of the key did not mean it for this signature."""
    check_kind(record, signature.algorithm)
    if record.strict and signature.identity.rpartition("@")[2] != signature.domain:
        raise Unacceptable(Code.STRICT_IDENTITY)
