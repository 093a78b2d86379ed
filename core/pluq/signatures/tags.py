"""Tag=value lists: the form of a DKIM-Signature field and of a key record.

    v=1; a=rsa-sha256; d=example.org; h=From:To:
     Subject; ...

A tag may stand once. Blanks and line ends around names and values mean nothing. Everything else that the grammar does not allow is an
error, because two readers of a loose list would see two lists.

Names of domains, selectors and users may be UTF-8 (d=, s=, i=); nothing else may.

Source: RFC 6376 section 3.2; RFC 8616 section 3.
"""

from __future__ import annotations

import base64
import binascii
import re

from pluq.errors import ProtocolError
from pluq.mail.idn import to_ascii

Tags = dict[bytes, bytes]

FOLDING = b" \t\r\n"

# No honest field or record comes near this: a 4096-bit key takes 740 octets, and its signature 690.
MAX_LIST_BYTES = 16384

_NAME = re.compile(rb"[A-Za-z][A-Za-z0-9_]*")
_NOT_IN_VALUE = re.compile(rb"[^!-~ \t\r\n]")
_NOT_IN_NAME = re.compile(rb"[^!-~ \t\r\n\x80-\xff]")
_INTERNATIONAL = frozenset({b"d", b"s", b"i"})
_DOMAIN = re.compile(
    rb"(?!.{254})(?:[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?\.)*[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
)
_NUMBER = re.compile(rb"[0-9]{1,76}")


def parse_tags(data: bytes) -> Tags:
    """Return the tags of a list in their order. Raises ProtocolError, with the reason, for what is none."""
    if len(data) > MAX_LIST_BYTES:
        raise ProtocolError("too long")
    specs = data.split(b";")
    if not specs[-1].strip(FOLDING):  # the last semicolon may stand alone
        specs.pop()
    tags: Tags = {}
    for spec in specs:
        name, equals, value = spec.partition(b"=")
        name, value = name.strip(FOLDING), value.strip(FOLDING)
        if not equals or not _NAME.fullmatch(name):
            raise ProtocolError("not a list of tags")
        if name in tags:
            raise ProtocolError(f"tag {name.decode()}= twice")
        if (_NOT_IN_NAME if name in _INTERNATIONAL else _NOT_IN_VALUE).search(value):
            raise ProtocolError(f"bad octets in {name.decode()}=")
        tags[name] = value
    return tags


def words(value: bytes) -> list[bytes]:
    """Return the items of a list with colons, in lower case."""
    return [item.strip(FOLDING).lower() for item in value.split(b":")]


def octets(value: bytes) -> bytes:
    """Return what base64, with blanks anywhere, stands for. Raises ProtocolError."""
    try:
        return base64.b64decode(value.translate(None, FOLDING), validate=True)
    except binascii.Error:
        raise ProtocolError("bad base64") from None


def number(value: bytes) -> int:
    """Return a decimal number of at most 76 digits. Raises ProtocolError."""
    if not _NUMBER.fullmatch(value):
        raise ProtocolError("bad number")
    return int(value)


def domain(value: bytes) -> str:
    """Return a domain, or a selector, in lower case, as A-labels. Raises ProtocolError for what DNS could not hold or a path should not."""
    lower = (to_ascii(value) or b"").lower()
    if not _DOMAIN.fullmatch(lower):
        raise ProtocolError("bad domain")
    return lower.decode("ascii")
