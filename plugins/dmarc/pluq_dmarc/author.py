"""Whom a message claims to be from: the domains of its From fields, as any reader might see them.

A message has one From with one address, nearly always. A forger need not keep to that: he writes two fields, a list, a group, an
address inside a name, an end of the header that is none. Which of them a mail program shows is chance, so all count: every domain
behind an @ that stands outside of quotes and comments, in every line of the header that begins a From. A quoted name
("ann@bank.example" <x@y.example>) is only a name, as the RFC has it.

Source: RFC 5322 sections 3.4, 3.6.2 and 4.4; RFC 9989 section 4.1; RFC 5890 (U-labels become A-labels).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from pluq.mail.idn import to_ascii

# Each author costs a few lookups; an honest message has one, seldom two.
MAX_AUTHORS = 8

_FROM = re.compile(rb"^from[ \t]*:(.*(?:\n[ \t].*)*)", re.IGNORECASE | re.MULTILINE)
_OUTSIDE = re.compile(rb'"(?:[^"\\]|\\.)*"|\\.|[()]|[^"\\()]+|.', re.DOTALL)
_INSIDE = re.compile(rb"\\.|[()]|[^\\()]+|.", re.DOTALL)
_ENCODED_WORD = re.compile(rb"=\?[^?\s]{1,60}\?[bq]\?[^?\s]*\?=", re.IGNORECASE)
_BLANKS = re.compile(rb"[ \t\n]+")
_DOMAIN = re.compile(rb"@(\[[^\]]*\]?|[^\s<>,;:@\"()\\]+)")
_AROUND = b"'`*|!?~}"
_NAME = re.compile(r"(?=.{1,253}\Z)[a-z0-9_-]{1,63}(?:\.[a-z0-9_-]{1,63})*\Z")


@dataclass(frozen=True)
class Authors:
    """The domains of the authors, as A-labels, each once. Not `is_clear`: there is one more that cannot be read, or too many."""

    domains: tuple[str, ...]
    is_clear: bool = True


def authors(header: bytes) -> Authors:
    """Return who a message claims to be from. `header` is the whole header, with LF line ends."""
    found: dict[str, None] = {}
    is_clear = True
    for value in from_values(header):
        for raw in domains_in(value):
            name = normal_domain(raw.decode("utf-8", "replace"))
            if name is None:
                is_clear = False
            else:
                found[name] = None
    names = tuple(found)
    return Authors(names[:MAX_AUTHORS], is_clear and len(names) <= MAX_AUTHORS)


def from_values(header: bytes) -> Iterator[bytes]:
    """Yield the values of all lines that some mail program takes for a From field. A CR ends a line for some."""
    for found in _FROM.finditer(header.replace(b"\r\n", b"\n").replace(b"\r", b"\n")):
        yield found[1]


def domains_in(value: bytes) -> Iterable[bytes]:
    """Return what stands behind each @ of an address list, domain or not. An @ with nothing behind it is no address."""
    text = _ENCODED_WORD.sub(b"=?=", visible(value))
    # "joe @ example . org" is an old form of joe@example.org (RFC 5322 section 4.4).
    words = _BLANKS.sub(b" ", text).replace(b" @", b"@").replace(b"@ ", b"@").replace(b" .", b".").replace(b". ", b".")
    return [found.rstrip(_AROUND) for found in _DOMAIN.findall(words)]


def visible(value: bytes) -> bytes:
    """Return a field's value without comments and with quoted strings emptied. What is not closed hides nothing."""
    kept: list[bytes] = []
    at, depth, opened = 0, 0, (0, 0)
    while at < len(value):
        piece = (_INSIDE if depth else _OUTSIDE).match(value, at)
        assert piece is not None  # the last choice of both takes any octet
        text, at = piece[0], piece.end()
        if text == b"(":
            if not depth:
                opened = len(kept), at
            depth += 1
        elif text == b")":
            depth = max(depth - 1, 0)
            kept.append(b" ")
        elif not depth:
            kept.append(b'""' if len(text) > 1 and text[:1] == b'"' else text)
    if depth:
        count, start = opened
        return b"".join(kept[:count]) + value[start:]
    return b"".join(kept)


def normal_domain(name: str) -> str | None:
    """Return a domain in lower case, as A-labels, without its final dot; None for what is no domain name."""
    found = to_ascii(name.strip().lower().removesuffix(".").encode("utf-8", "replace"))
    if found is None:
        return None
    lower = found.decode("ascii")
    return lower if _NAME.match(lower) and not is_number(lower) else None


def is_number(name: str) -> bool:
    """Return whether a name is an address without its brackets: nobody's domain ends in digits alone."""
    return name.rpartition(".")[2].isdecimal()
