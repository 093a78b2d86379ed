"""Lists of recipients: what their entries mean. Addresses and entries are compared in lower case.

    validrcptto, morevalidrcptto.cdb   user@dom and @dom take, -user@dom and -@dom refuse; in the order user@dom, -user@dom, @dom,
                                       -@dom over both files; no entry says nothing
    validrcptto.cdb                    user@dom, then ext-default@dom for each -, then @dom; data that begins with - refuses, and so does
                                       no entry at all
    goodrcptto, morebadrcptto.cdb      user@dom or @dom is listed

Source: the validrcptto patches of the combined qmail and of John Simpson; goodrcptto of indimail; morebadrcptto of Gentoo.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

Contains = Callable[[bytes], bool]
Get = Callable[[bytes], bytes | None]


def is_valid(address: bytes, contains: Contains) -> bool | None:
    """Return whether lists with entries to take and to refuse take an address; None where they say nothing."""
    address = address.lower()
    _, at, host = address.rpartition(b"@")
    if contains(address):
        return True
    if not at:
        return None
    if contains(b"-" + address):
        return False
    if contains(b"@" + host):
        return True
    return False if contains(b"-@" + host) else None


def is_in_cdb(address: bytes, get: Get) -> bool:
    """Return whether a list of all recipients takes an address."""
    found = next((data for key in default_keys(address.lower()) if (data := get(key)) is not None), b"-")
    return not found.startswith(b"-")


def default_keys(address: bytes) -> Iterator[bytes]:
    """Yield the keys to look for: the address, joe-default@dom for joe-a-b@dom at each dash, the domain."""
    yield address
    box, at, host = address.rpartition(b"@")
    if not at:
        return
    dash = box.rfind(b"-")
    while dash >= 0:
        yield box[:dash] + b"-default@" + host
        dash = box.rfind(b"-", 0, dash)
    yield b"@" + host


def is_listed(address: bytes, contains: Contains) -> bool:
    """Return whether a list has an address or its domain."""
    address = address.lower()
    _, at, host = address.rpartition(b"@")
    return contains(address) or (bool(at) and contains(b"@" + host))
