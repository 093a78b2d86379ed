"""The entries of a block list file, and the names that are asked.

    [+|-|=]zone[:[-]text]

`+` listed clients are welcome; `=` a listing is only noted; `-`, before the zone or the text, refuses for good; without a sign a
listed client is told to come back. The sign of the zone counts before that of the text. With a text the A record decides and %IP% in the text is the client's address; without one
the TXT record decides and is the text. Entries are asked in order and the first listing ends it.

Source: the DNSBL patch of qmail, rblsmtpd; RFC 5782.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from enum import Enum


class Action(Enum):
    """What a listing does; the words are those of RBLRESULT."""

    ACCEPT = "accept"
    IGNORE = "ignore"
    DELAY = "delay"
    REJECT = "reject"
    PASS = "pass"  # noqa: S105 - a result, no secret


SIGNS = {"+": Action.ACCEPT, "=": Action.IGNORE, "-": Action.REJECT}


@dataclass(frozen=True)
class Entry:
    """One line: the zone, what a listing does, and the text where the line has one."""

    zone: str
    action: Action
    text: str | None = None


def parse_entry(line: str) -> Entry:
    """Return the entry of one line."""
    action = SIGNS.get(line[:1], Action.DELAY)
    zone, colon, text = (line[1:] if line[:1] in SIGNS else line).partition(":")
    if text.startswith("-") and action is Action.DELAY:
        action = Action.REJECT
    return Entry(zone, action, text.removeprefix("-") if colon else None)


def query_name(address: str, zone: str) -> str | None:
    """Return the name that stands for an address in a zone, None for what is no address."""
    try:
        pointer = ipaddress.ip_address(address.partition("%")[0]).reverse_pointer
    except ValueError:
        return None
    return f"{pointer.removesuffix('.in-addr.arpa').removesuffix('.ip6.arpa')}.{zone}"


def environment_verdict(value: str) -> tuple[Action, str]:
    """Return what RBLSMTPD says: empty is welcome, `-text` refuses for good, `text` for now."""
    if not value:
        return Action.PASS, ""
    return (Action.REJECT, value[1:]) if value.startswith("-") else (Action.DELAY, value)
