"""What of a message needs SMTPUTF8: read off its envelope and header, each time it is tried.

Source: RFC 6531 sections 3.2 and 4.3; RFC 3463 with the codes of RFC 6531 section 4.2.
"""

from __future__ import annotations

import re
from enum import Enum

from pluq import Delivery, Message

# UTF8SMTP, UTF8SMTPSA...; patched qmail says UTF8ESMTPS.
_CAME_BY_UTF8 = re.compile(rb"\swith\s+UTF8", re.IGNORECASE)


class Need(Enum):
    """What needs it, and the code of the failure where it is not there."""

    ADDRESSES = ("addresses", "5.6.7")
    HEADER = ("header fields", "5.6.9")

    @property
    def what(self) -> str:
        return self.value[0]

    @property
    def code(self) -> str:
        return self.value[1]


def need_of(delivery: Delivery, strict: bool) -> Need | None:
    """Return why a message needs SMTPUTF8, None if it does not. Domains of the envelope are in A-labels by now."""
    if not all(one.isascii() for one in (delivery.sender, *delivery.recipients)):
        return Need.ADDRESSES
    message = delivery.message
    if message is not None and has_utf8_header(message) and (strict or came_by_utf8(message)):
        return Need.HEADER
    return None


def has_utf8_header(message: Message) -> bool:
    """Return whether the header is UTF-8 beyond ASCII; other octets are of old programs, and pass as ever."""
    size = message.header_size  # before open(): finding it moves the reader of a file
    header = message.open().read(size)
    if header.isascii():
        return False
    try:
        header.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def came_by_utf8(message: Message) -> bool:
    """Return whether the message came by SMTPUTF8, here or further back."""
    return any(_CAME_BY_UTF8.search(field) for field in message.get_all(b"received"))
