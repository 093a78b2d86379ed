"""Which domains are this host's, whichever way its control files write them.

rcpthosts, locals and virtualdomains may list пример.рф or xn--e1afmkfd.xn--p1ai; mail for either is meant. The core compares octets, so an
address gets the form by which it is delivered here: A-labels, unless only U-labels are listed. For any other domain that is A-labels.

The local part of such an address is normalized (NFC): é typed as one character or as two is the same file .qmail-é. That is for the
host where the mailbox is; on the way nobody touches it.

U-labels are to be written as `to_unicode` gives them, in lower case; `misspelt` finds others. Files are looked at again when they change.

Source: RFC 5891 section 5; RFC 6530 section 10.1; rcpthosts.c, qmail-send.c of qmail.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass

from pluq.config import Home
from pluq.config.acceptance import RcptHosts, read_rcpthosts
from pluq.mail.idn import to_ascii, to_unicode
from pluq.send.rewrite import LOCAL, Routing
from pluq.send.settings import read_settings

IN_EITHER_FORM = ("rcpthosts", "locals", "virtualdomains")
AS_IN_DNS = ("badmailfrom", "smtproutes", "qmtproutes")
FILES = ("me", "rcpthosts", "morercpthosts.cdb", "locals", "virtualdomains", "percenthack", "envnoathost")


@dataclass(frozen=True)
class Domains:
    """The domains that mail is taken for, and those that are delivered here."""

    rcpthosts: RcptHosts
    routing: Routing

    @classmethod
    def files(cls, home: Home) -> list[str]:
        """Return what this is made from."""
        return [home.control(name) for name in FILES]

    @classmethod
    def read(cls, home: Home) -> Domains:
        """Return the domains as the control files stand. Raises ConfigError."""
        return cls(read_rcpthosts(home), read_settings(home.controls).routing)

    def allows(self, address: bytes) -> bool:
        """Say whether rcpthosts lists the domain of an address, in either form."""
        return any(self.rcpthosts.allows(one) for one in forms(address))

    def as_listed(self, address: bytes) -> bytes:
        """Return an address, whose domain is in A-labels, in the form in which it is delivered here; as it is if it is not."""
        ours = next((one for one in forms(address) if self.routing.route(one)[0] == LOCAL), None)
        return address if ours is None else normalized(ours)


def misspelt(home: Home) -> Iterator[str]:
    """Yield a sentence for each line that no address will ever be equal to. Raises ConfigError."""
    for name in (*IN_EITHER_FORM, *AS_IN_DNS):
        for line in home.controls.lines(name) or ():
            domain = line.partition(b":")[0].rpartition(b"@")[2].removeprefix(b".")
            if domain.isascii():
                continue
            right = to_unicode(domain) if name in IN_EITHER_FORM else to_ascii(domain)
            if domain != right:
                advice = "no domain" if right is None else f"write {right.decode()}"
                yield f"{home.control(name)}: {domain.decode('utf-8', 'backslashreplace')}: {advice}"


def forms(address: bytes) -> Iterator[bytes]:
    """Yield an address as it is, with A-labels, and with U-labels if it has any."""
    yield address
    box, at, domain = address.rpartition(b"@")
    written = to_unicode(domain) if at else None
    if written is not None:
        yield box + at + written


def normalized(address: bytes) -> bytes:
    """Return an address, which is UTF-8, in Unicode's normal form C."""
    return address if address.isascii() else unicodedata.normalize("NFC", address.decode("utf-8")).encode()
