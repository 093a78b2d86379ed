"""TLSA records: which are usable for mail, and whether a certificate is the one they mean.

    usage 3   DANE-EE   this certificate or key, whatever its names and dates say
    usage 2   DANE-TA   a certificate signed by this one, good for the host's name, not out of date
    usage 0, 1          need authorities that both sides believe: not for mail between servers

    selector 0 the whole certificate, 1 its public key;  matching 0 as it is, 1 SHA-256, 2 SHA-512

Source: RFC 6698 section 2.1; RFC 7671 sections 5 and 10; RFC 7672 sections 3.1 and 3.2.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from pluq.dns import Tlsa

if TYPE_CHECKING:
    from cryptography.x509 import Certificate

TA, EE = 2, 3
WHOLE, KEY = 0, 1

# matching type: the octets that are compared, and how many there must be (0: any number)
DIGESTS: Mapping[int, tuple[Callable[[bytes], bytes], int]] = {
    0: (lambda data: data, 0),
    1: (lambda data: hashlib.sha256(data).digest(), 32),
    2: (lambda data: hashlib.sha512(data).digest(), 64),
}

# More records than this are nobody's honest roll-over, and a chain is seldom longer than four.
MAX_RECORDS = 32
MAX_CHAIN = 10


def usable(records: Sequence[Tlsa]) -> list[Tlsa]:
    """Return the records that can prove a host."""
    return [one for one in records[:MAX_RECORDS] if is_usable(one)]


def is_usable(record: Tlsa) -> bool:
    if record.usage not in (TA, EE) or record.selector not in (WHOLE, KEY) or record.matching not in DIGESTS:
        return False
    length = DIGESTS[record.matching][1]
    return len(record.data) == length if length else bool(record.data)


def matches(record: Tlsa, certificate: Certificate) -> bool:
    """Return whether a record means this certificate."""
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    if record.selector == WHOLE:
        selected = certificate.public_bytes(Encoding.DER)
    else:
        selected = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return DIGESTS[record.matching][0](selected) == record.data


def proves(records: Sequence[Tlsa], chain: Sequence[bytes], names: Sequence[str]) -> bool:
    """Return whether usable records prove a server that showed this chain (DER, its own certificate first).

    `names` are those that the certificate may bear, for DANE-TA.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # cryptography has opinions on what strangers write into certificates
        return _proves(records, chain, names)


def _proves(records: Sequence[Tlsa], chain: Sequence[bytes], names: Sequence[str]) -> bool:
    from cryptography import x509
    from cryptography.exceptions import UnsupportedAlgorithm

    try:
        own, *others = [x509.load_der_x509_certificate(one) for one in chain[:MAX_CHAIN]]
        if any(one.usage == EE and matches(one, own) for one in records):
            return True
        anchors = [it for it in others if any(one.usage == TA and matches(one, it) for one in records)]
    except (
        ValueError,
        TypeError,
        UnsupportedAlgorithm,
        x509.InvalidVersion,
    ):  # no certificate was shown, or one that cannot be read
        return False
    return any(is_signed_below(own, others, anchor, name) for anchor in anchors for name in names)


def is_signed_below(own: Certificate, others: Sequence[Certificate], anchor: Certificate, name: str) -> bool:
    """Return whether a certificate that is good for a name now leads to an anchor."""
    from cryptography import x509
    from cryptography.x509 import verification
    from cryptography.x509.verification import Criticality, ExtensionPolicy

    # What a public authority must write into its certificates is no rule here; the names and who may sign still are.
    any_ca = ExtensionPolicy.permit_all().require_present(x509.BasicConstraints, Criticality.AGNOSTIC, None)
    any_server = ExtensionPolicy.permit_all().require_present(x509.SubjectAlternativeName, Criticality.AGNOSTIC, None)
    builder = verification.PolicyBuilder().store(verification.Store([anchor]))
    builder = builder.extension_policies(ca_policy=any_ca, ee_policy=any_server)
    try:
        builder.build_server_verifier(x509.DNSName(name)).verify(own, list(others))
    except (verification.VerificationError, ValueError):
        return False
    return True
