"""For whom mail is taken, and how large it may be: rcpthosts and databytes, the same for SMTP and QMTP.

    rcpthosts morercpthosts.cdb    names of domains, exact, or suffixes that begin with a dot; without rcpthosts, everybody
    databytes DATABYTES            the most bytes of a message, 0 for any number

Source: qmail-smtpd(8), qmail-qmtpd(8); rcpthosts.c of qmail.
"""

from __future__ import annotations

from collections.abc import Mapping

from pluq.config.home import Home
from pluq.store.cdb import Cdb
from pluq.store.control import leading_int

FILES = ("rcpthosts", "morercpthosts.cdb", "databytes")

_UINT = 0xFFFFFFFF


class RcptHosts:
    """The domains for which mail is taken: exact names, and suffixes that begin with a dot."""

    __slots__ = ("_hosts", "_more")

    def __init__(self, hosts: frozenset[bytes] | None, more: Cdb | None = None) -> None:
        """`hosts` None: there is no rcpthosts, and mail for everybody is taken."""
        self._hosts = hosts
        self._more = more

    def allows(self, address: bytes) -> bool:
        """Say whether mail for this address is taken from anybody. Raises ConfigError for a broken cdb."""
        return self.entry(address) is not None

    def entry(self, address: bytes) -> tuple[str, bytes] | None:
        """Return the file and the line in it that let mail for this address in, two empty ones where none is needed.

        None: it is not let in. Raises ConfigError for a broken cdb.
        """
        hosts, more = self._hosts, self._more
        if hosts is None:
            return "", b""
        _, at, domain = address.rpartition(b"@")
        if not at:  # a local name: envnoathost completes it
            return "", b""
        domain = domain.lower()
        if domain and domain in hosts:
            return "rcpthosts", domain
        names = suffixes(domain)
        for name in names:
            if name in hosts:
                return "rcpthosts", name
        if more is not None:
            for name in names:
                if name in more:
                    return "morercpthosts.cdb", name
        return None


def suffixes(domain: bytes) -> list[bytes]:
    """Return the domain and its suffixes that begin with a dot, longest first; nothing for an empty domain."""
    names = [domain] if domain else []
    dot = domain.find(b".", 1)
    while dot > 0:
        names.append(domain[dot:])
        dot = domain.find(b".", dot + 1)
    return names


def read_rcpthosts(home: Home) -> RcptHosts:
    """Return rcpthosts and morercpthosts.cdb; the latter counts only where the former exists."""
    lines = home.controls.lines("rcpthosts")
    if lines is None:
        return RcptHosts(None)
    try:
        more = Cdb(home.control("morercpthosts.cdb"))
    except FileNotFoundError:
        more = None
    return RcptHosts(frozenset(line.lower() for line in lines), more)


def unsigned(number: int) -> int:
    """Return what is left of a number in qmail's 32 bits; the largest is one less, since one more must be counted."""
    number &= _UINT
    return number - 1 if number == _UINT else number


def read_databytes(home: Home) -> int:
    """Return control/databytes."""
    return unsigned(home.controls.number("databytes", 0))


def size_limit(databytes: int, environment: Mapping[str, str]) -> int:
    """Return the most bytes a message of this connection may have, 0 for any number: DATABYTES, else control/databytes."""
    text = environment.get("DATABYTES")
    if text is None:
        return databytes
    return unsigned(leading_int(text.encode("utf-8", "surrogateescape")) or 0)
