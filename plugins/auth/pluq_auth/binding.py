"""Channel binding: a login that is good on this TLS connection alone, so that nobody who stands between can use it.

The type is tls-server-end-point: the hash of the server's certificate, by the hash of its signature, SHA-256 in the place of MD5 and SHA-1.
tls-exporter, which RFC 9266 prefers for TLS 1.3, needs keying material that Python's ssl module does not give out, so SCRAM-SHA-256-PLUS is
offered only where the site names it: a client that knows no other type could not log in.

Source: RFC 5929 section 4.1, RFC 5802 section 6.
"""

from __future__ import annotations

import hashlib
from functools import cache

from pluq.hookspecs import Tls

TYPE = "tls-server-end-point"
WEAK = ("md5", "sha1")


@cache
def end_point(certificate: bytes) -> bytes | None:
    """Return the hash of a certificate (PEM, the first one counts); None for one whose signature has no hash of its own."""
    from cryptography import x509
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import Encoding

    try:
        found = x509.load_pem_x509_certificates(certificate)[0]
        algorithm = found.signature_hash_algorithm
    except (ValueError, IndexError, UnsupportedAlgorithm):
        return None
    if algorithm is None:
        return None
    name = "sha256" if algorithm.name in WEAK else algorithm.name
    return hashlib.new(name, found.public_bytes(Encoding.DER)).digest()


def binding_of(tls: Tls | None) -> tuple[str, bytes] | None:
    """Return type and data of the binding of a session, None where there is none."""
    data = None if tls is None or not tls.certificate else end_point(tls.certificate)
    return None if data is None else (TYPE, data)
