"""Addresses: from an SMTP command to the envelope, and from the envelope to SMTP and headers.

In the envelope an address is bytes without brackets and without quoting: `joe doe@example.org`. `parse_path` takes it from the
argument of MAIL or RCPT as qmail-smtpd does: it never refuses a form, only a length. `quote` puts it back with as little quoting
as RFC 821 and 822 both allow; bytes above 127 get no encoding of their own.

Source: addrparse in qmail-smtpd.c, quote.c, ip.c of qmail.
"""

from __future__ import annotations

import re

# qmail-queue takes 1003 bytes with F or T and NUL; qmail-smtpd stops earlier, so that RELAYCLIENT still fits.
MAX_ADDRESS = 899

_QUOTED = re.compile(rb'([\r\n"\\])')
_BARE_BOX = re.compile(rb"[!#-'*+\-/-9=?A-Z^-~]+(?:\.[!#-'*+\-/-9=?A-Z^-~]+)*")
_BARE_UTF8_BOX = re.compile(_BARE_BOX.pattern.replace(rb"^-~", rb"^-~\x80-\xff"))
_LITERAL = re.compile(rb"\[([0-9]+)\.([0-9]+)\.([0-9]+)\.([0-9]+)\]")


def parse_path(argument: bytes) -> tuple[bytes, bytes]:
    """Return the address in the argument of MAIL or RCPT, and what follows it (ESMTP parameters, each behind a blank).

    The address is what stands between the first < and the next >; without < it is what follows the first colon and blanks, up
    to a blank. A source route is cut off, quotes and backslashes are taken out.
    """
    start = argument.find(b"<") + 1
    if start:
        terminator = b">"
    else:
        terminator = b" "
        start = argument.find(b":") + 1 or len(argument)
        start = len(argument) - len(argument[start:].lstrip(b" "))
    if argument[start : start + 1] == b"@":
        start = argument.find(b":", start) + 1 or len(argument)
    end = argument.find(terminator, start)
    if end == -1:
        end = len(argument)
    if 0x22 in argument or 0x5C in argument:
        return _unquote(argument, start, terminator[0])
    return argument[start:end], argument[end + 1 if terminator == b">" else end :]


def _unquote(argument: bytes, start: int, terminator: int) -> tuple[bytes, bytes]:
    """Return what stands from `start` to the terminator, without quotes and backslashes, and the rest."""
    address = bytearray()
    escaped = quoted = False
    for position in range(start, len(argument)):
        octet = argument[position]
        if escaped:
            address.append(octet)
            escaped = False
        elif octet == terminator and not quoted:
            return bytes(address), argument[position:].removeprefix(b">")
        elif octet == 0x5C:
            escaped = True
        elif octet == 0x22:
            quoted = not quoted
        else:
            address.append(octet)
    return bytes(address), b""


def parse_parameters(rest: bytes) -> dict[bytes, bytes | None]:
    """Return the ESMTP parameters that follow an address: names in upper case, None for one without a value.

    A blank stands before each; what touches the address is none. The last of equal names counts. Source: RFC 5321 section 4.1.2.
    """
    parameters: dict[bytes, bytes | None] = {}
    for word in rest.partition(b" ")[2].split():
        name, equals, value = word.partition(b"=")
        parameters[name.upper()] = value if equals else None
    return parameters


def address_literal(domain: bytes) -> str | None:
    """Return the address in a domain of the form [1.2.3.4], None for any other. Numbers wrap at 256, as in qmail."""
    match = _LITERAL.fullmatch(domain)
    if match is None:
        return None
    return ".".join(str(int(number[-20:]) & 255) for number in match.groups())


def needs_quoting(box: bytes, utf8: bool = False) -> bool:
    """True if a local part cannot stand as it is in SMTP and in a header field. With `utf8` letters may be any (RFC 6531)."""
    return (_BARE_UTF8_BOX if utf8 else _BARE_BOX).fullmatch(box) is None


def quote_box(box: bytes, utf8: bool = False) -> bytes:
    """Return a local part, quoted where it has to be."""
    return b'"' + _QUOTED.sub(rb"\\\1", box) + b'"' if needs_quoting(box, utf8) else box


def quote(address: bytes) -> bytes:
    """Return an envelope address as it is written in SMTP and in header fields; an empty one stays empty."""
    if not address:
        return b""
    box, at, domain = address.rpartition(b"@")
    return quote_box(box) + at + domain if at else quote_box(address)
