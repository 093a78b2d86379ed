"""UTF-8 addresses: what is one, and its form with A-labels.

A local part may have any letters. What nobody can type or see is refused: octets that are no UTF-8, control characters, line and
paragraph separators, and the marks that turn the direction of text, with which one address is shown as another. Addresses in ASCII are
never looked at: the core has its own rules for them, which are qmail's.

Source: RFC 6531 section 3.3; RFC 3629; RFC 5198 section 2.
"""

from __future__ import annotations

import re

from pluq.mail.address import MAX_ADDRESS
from pluq.mail.idn import to_ascii

# Control characters (C0, DEL, C1), U+2028, U+2029, the embeddings, overrides and isolates of bidirectional text, and noncharacters.
_UNSEEN = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ufdd0-\ufdef\ufffe\uffff]")


def is_international(address: bytes) -> bool:
    """Return whether an address is not ASCII, or may have a domain that people write otherwise."""
    return not address.isascii() or b"xn--" in address.lower()


def is_proper(address: bytes) -> bool:
    """Return whether an address is UTF-8 that people can read."""
    try:
        return _UNSEEN.search(address.decode("utf-8")) is None
    except UnicodeDecodeError:
        return False


def with_ascii_domain(address: bytes) -> bytes | None:
    """Return an address with A-labels in its domain; None where it is no proper address. One in ASCII is returned as it is."""
    if address.isascii():
        return address
    if not is_proper(address):
        return None
    box, at, domain = address.rpartition(b"@")
    ascii_form = to_ascii(domain) if at else domain
    if ascii_form is None or len(box) + len(at) + len(ascii_form) > MAX_ADDRESS:
        return None
    return box + at + ascii_form
