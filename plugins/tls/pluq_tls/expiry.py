"""When certificates expire, as a figure: what /health warns of before clients do."""

from __future__ import annotations

from collections.abc import Callable

from pluq.metrics import page, series


def note(profile: str, file: str, certificate: str, read_file: Callable[[str], bytes]) -> None:
    """Note when the certificate in a file expires, where the site wants figures; `file` is what it is called there."""
    mine = page()
    if mine is None:
        return
    try:
        from cryptography import x509

        first = x509.load_pem_x509_certificates(read_file(certificate))[0]
    except (ImportError, OSError, ValueError):
        return  # OpenSSL has taken it; this is only a figure
    expires = first.not_valid_after_utc.timestamp()
    mine.put(series("pluq_certificate_expires_seconds", profile=profile, file=file), expires)
