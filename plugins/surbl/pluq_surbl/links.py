"""The hosts that the links of a message lead to, and the part of each name that was registered. Pure; linear in the text.

No MIME structure is trusted: the text is read as it stands, with quoted-printable undone, and what looks like base64 is decoded. So a
part that lies about itself is read all the same.

    hosts(text)            names and addresses, each once, in order
    registered(host, ...)  example.co.uk of www.example.co.uk; an address stays what it is

Source: SURBL's guidelines for implementers; WHATWG URL for what browsers take; RFC 2045.
"""

from __future__ import annotations

import base64
import binascii
import html
import ipaddress
import quopri
import re
import socket
from collections.abc import Collection, Iterator
from urllib.parse import unquote

# Browsers take one or two slashes of either kind.
_LINK = re.compile(r"https?:[/\\]{1,2}([^\s/\\?#<>\"'`(){}|^]{1,600})", re.IGNORECASE)
_BASE64 = re.compile(rb"(?:^[A-Za-z0-9+/]{4,}={0,2}\r?\n?)+", re.MULTILINE)
_NAME = re.compile(r"(?=.{1,253}$)([a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?\.)+[a-z0-9-]{2,63}$")
_NUMERIC = re.compile(r"[0-9a-fx.]*\d[0-9a-fx.]*")
SHORTEST_BASE64 = 24
# Below country domains where names are registered one level down; for sites without level2-tlds.
_SECOND = frozenset(
    [
        "ac",
        "co",
        "com",
        "edu",
        "go",
        "gob",
        "gov",
        "govt",
        "gv",
        "ltd",
        "mil",
        "ne",
        "net",
        "nom",
        "or",
        "org",
        "plc",
        "sch",
    ]
)


def hosts(text: bytes) -> list[str]:
    """Return the hosts of the links in a text, in lower case, without user, port and final dot."""
    found: dict[str, None] = {}
    for piece in _readings(text):
        plain = piece.decode("utf-8", "replace")
        for link in _LINK.finditer(html.unescape(plain) if "&" in plain else plain):
            host = _host(link[1])
            if host:
                found.setdefault(host)
    return list(found)


def _readings(text: bytes) -> Iterator[bytes]:
    """Yield the text as it stands, without quoted-printable where there is some, and each block of base64 decoded."""
    yield text
    if b"=" in text:
        yield quopri.decodestring(text)
    for block in _BASE64.finditer(text):
        if len(block[0]) >= SHORTEST_BASE64:
            yield _decoded(block[0])


def _decoded(block: bytes) -> bytes:
    letters = re.sub(rb"[^A-Za-z0-9+/]", b"", block)
    try:
        return base64.b64decode(letters[: len(letters) // 4 * 4])
    except binascii.Error:
        return b""


def _host(authority: str) -> str:
    """Return the host of what stands between the slashes, "" if it is none."""
    host = unquote(authority.rpartition("@")[2]).strip().lower()
    if host.startswith("["):
        return ""  # an IPv6 address; lists have none
    host = host.partition(":")[0].rstrip(".")
    if _NUMERIC.fullmatch(host):
        try:
            return socket.inet_ntoa(socket.inet_aton(host))
        except OSError:
            return ""
    try:
        host = host.encode("idna").decode("ascii") if not host.isascii() else host
    except UnicodeError:
        return ""
    return host if _NAME.match(host) else ""


def is_address(host: str) -> bool:
    try:
        ipaddress.IPv4Address(host)
    except ValueError:
        return False
    return True


def registered(host: str, level2: Collection[str], level3: Collection[str]) -> str:
    """Return the part of a host that somebody registered: two labels, more below the domains of level2 and level3."""
    if is_address(host):
        return host
    labels = host.split(".")
    depth = 2
    if ".".join(labels[-3:]) in level3:
        depth = 4
    elif ".".join(labels[-2:]) in level2 or (not level2 and len(labels[-1]) == 2 and labels[-2] in _SECOND):
        depth = 3
    return ".".join(labels[-depth:])


def question(host: str, zone: str) -> str:
    """Return the name that is asked for a registered domain or an address, whose numbers are reversed."""
    return f"{'.'.join(reversed(host.split('.'))) if is_address(host) else host}.{zone}"
