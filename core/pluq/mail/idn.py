"""Domains beyond ASCII: U-labels, as people write them (пример.рф), and A-labels, as DNS has them (xn--e1afmkfd.xn--p1ai).

Both are one name. Whatever asks DNS, or compares names, takes A-labels. What people type is mapped first (UTS 46: capitals, full-width
dots), what IDNA 2008 forbids is no name. The tables are large, so `idna` is imported when a name needs it: few do.

Source: RFC 5890, RFC 5891; Unicode Technical Standard 46.
"""

from __future__ import annotations

__all__ = ["to_ascii", "to_unicode"]


def to_ascii(domain: bytes) -> bytes | None:
    """Return a domain as A-labels; None for what is no domain name. One that is ASCII is returned as it is."""
    if domain.isascii():
        return domain
    import idna

    try:
        return idna.encode(domain.decode("utf-8"), uts46=True)
    except UnicodeError:  # IDNAError is one
        return None


def to_unicode(domain: bytes) -> bytes | None:
    """Return a domain as U-labels, in UTF-8; None where it has none, or is no domain name."""
    ascii_form = to_ascii(domain)
    if ascii_form is None or b"xn--" not in ascii_form.lower():
        return None
    import idna

    try:
        return idna.decode(ascii_form).encode("utf-8")
    except UnicodeError:
        return None
