"""Finding policies and organizational domains: the walk up the DNS tree.

    _dmarc.a.mail.example.org   _dmarc.mail.example.org   _dmarc.example.org   _dmarc.org

At most eight questions whatever the name: of a longer one the last seven labels are asked for. A record with psd= ends the walk. The
organizational domain is where psd=n stands, or one label below psd=y, else where the uppermost record is, else the domain itself.
The policy is that of the domain, else of its organizational domain, else of the public suffix (psd=y).

Source: RFC 9989 section 4.10.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from pluq.dns import Budget, NoRecords, Resolver, Status
from pluq.errors import ProtocolError
from pluq_dmarc.record import Record, is_record, parse_record

MAX_LABELS = 8

Found = list[tuple[str, Record]]


@dataclass(frozen=True)
class Policy:
    """The record that applies to a domain, where it was found, and what it wants of this domain: "none", "quarantine", "reject"."""

    domain: str
    record: Record
    wanted: str


def targets(domain: str) -> Iterator[str]:
    """Yield the names of a walk, longest first."""
    yield domain
    labels = domain.split(".")
    rest = labels[1:] if len(labels) < MAX_LABELS else labels[1 - MAX_LABELS :]
    for at in range(len(rest)):
        yield ".".join(rest[at:])


def organizational(start: str, found: Found) -> str:
    """Return the organizational domain of the name at which a walk began."""
    for name, record in found:
        if record.psd == "n":
            return name
        if record.psd == "y" and name != start:
            return one_label_below(name, start)
    return found[-1][0] if found else start


def one_label_below(suffix: str, name: str) -> str:
    """Return the part of `name` that is one label longer than `suffix`, which it ends with."""
    count = suffix.count(".") + 2
    return ".".join(name.split(".")[-count:])


class Finder:
    """The questions for one message, within one budget. All raise TemporaryFailure where DNS does not answer."""

    def __init__(self, resolver: Resolver, budget: Budget) -> None:
        self.resolver = resolver
        self.budget = budget
        self.walks: dict[str, Found] = {}

    async def walk(self, domain: str) -> Found:
        """Return the records on the way up from a domain, longest name first."""
        if domain not in self.walks:
            found: Found = []
            for name in targets(domain):
                record = await self.record(name)
                if record is not None:
                    found.append((name, record))
                    if record.psd != "u":
                        break
            self.walks[domain] = found
        return self.walks[domain]

    async def record(self, domain: str) -> Record | None:
        """Return the one record of a domain; several count as none."""
        try:
            texts = await self.resolver.txt(f"_dmarc.{domain}", self.budget)
        except (NoRecords, ProtocolError):
            return None
        claims = [text for text in texts if is_record(text)]
        return parse_record(claims[0]) if len(claims) == 1 else None

    async def organizational(self, domain: str) -> str:
        return organizational(domain, await self.walk(domain))

    async def policy(self, domain: str) -> Policy | None:
        """Return the policy for mail of a domain, None where there is none."""
        found = await self.walk(domain)
        records = dict(found)
        if domain in records:
            return Policy(domain, records[domain], records[domain].p)
        above = organizational(domain, found)
        if above not in records:
            above = next((name for name, record in found if record.psd == "y"), "")
        record = records.get(above)
        return None if record is None else Policy(above, record, await self.wanted(domain, record))

    async def wanted(self, domain: str, record: Record) -> str:
        """Return what a record further up wants of a subdomain; whether that exists is only asked where it matters."""
        here, gone = record.for_subdomain(exists=True), record.for_subdomain(exists=False)
        return here if here == gone or await self.exists(domain) else gone

    async def exists(self, domain: str) -> bool:
        """Return whether a domain could have mail: it has an address or an exchanger (RFC 9989 section 3.2.12)."""
        for rdtype in ("MX", "A", "AAAA"):
            if (await self.resolver.lookup(domain, rdtype, self.budget)).status is Status.FOUND:
                return True
        return False
