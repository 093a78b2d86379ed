"""Where a message for a host goes: smtproutes, MX and A records, and never to ourselves.

control/smtproutes has lines `domain:relay` or `domain:relay:port`; the longest suffix of the host that has a line counts (the
host itself, then `.suffix`, shorter and shorter, then the empty domain, which stands for all). A relay that is empty means:
use DNS after all. A relay is connected to by its A records, without MX and without regard to who it is.

Without a relay, the MX records give hosts with preferences, equal ones in random order; without MX records the host itself
is its only exchanger. Addresses in brackets and bare addresses stand for themselves. If one of the addresses is our own, only
those with a better preference are tried; if there are none, that is an error of somebody's configuration.

Source: qmail-remote(8); qmail-remote.c, dns.c, constmap.c of qmail; RFC 5321 section 5; RFC 7505 (null MX).
"""

from __future__ import annotations

import random
import re
from collections.abc import Awaitable, Callable, Container, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from pluq.dns import Answer, Mx, Status
from pluq.errors import TemporaryFailure
from pluq.remote import report

SMTP_PORT = 25

_ADDRESS = re.compile(rb"\[?([0-9]+)\.([0-9]+)\.([0-9]+)\.([0-9]+)(\]?)")


class Undeliverable(Exception):
    """No host can be tried; `record` is what qmail-remote would report."""

    def __init__(self, record: bytes) -> None:
        super().__init__(record)
        self.record = record


@dataclass(frozen=True)
class Route:
    """Where to look for hosts: `host` by its MX records, or as a relay by its addresses.

    What plugins may add: `login` (user, password) for AUTH, and `tls`, an ssl.SSLContext for TLS from the first byte (port 465). With
    another `protocol` than "smtp" a plugin's remote_transport delivers, or nobody.
    """

    host: bytes
    port: int = SMTP_PORT
    relay: bool = True
    login: tuple[bytes, bytes] | None = field(default=None, repr=False)
    tls: Any = None
    protocol: str = "smtp"


class Candidate(NamedTuple):
    """One address to try. `host` is the name that led to it, as DNS or the route gives it."""

    address: str
    preference: int
    host: bytes


class Routes:
    """control/smtproutes. Keys are compared without regard to case; of equal ones the last counts."""

    def __init__(self, lines: Sequence[bytes]) -> None:
        pairs = (line.partition(b":") for line in lines)
        self._relays = {domain.lower(): relay for domain, colon, relay in pairs if colon}
        self._parsed = {relay: parse_relay(relay) for relay in self._relays.values()}

    def find(self, host: bytes) -> bytes | None:
        """Return what stands after the domain in the line for a host; None where DNS decides."""
        found = self.entry(host)
        return found[1] or None if found else None

    def entry(self, host: bytes) -> tuple[bytes, bytes] | None:
        """Return the domain of the line for a host, and what stands after it; None where there is no line."""
        if not self._relays:
            return None
        key = host.lower()
        at = 0
        while True:
            relay = self._relays.get(key[at:])
            if relay is not None:
                return key[at:], relay
            if at == len(key):
                return None
            at = key.find(b".", at + 1)
            if at < 0:
                at = len(key)

    def route(self, host: bytes) -> Route:
        """Return the route for the domain of a recipient."""
        relay = self.find(host)
        return Route(host, relay=False) if relay is None else self._parsed[relay]


def parse_relay(relay: bytes) -> Route:
    """Return the route in `relay` or `relay:port`; an IPv6 address stands in brackets."""
    if relay.startswith(b"[") and b"]" in relay:
        host, _, rest = relay.partition(b"]")
        host, rest = host + b"]", rest.removeprefix(b":") if rest.startswith(b":") else b""
        return Route(host, leading_port(rest) if rest else SMTP_PORT)
    host, colon, port = relay.partition(b":")
    return Route(host, leading_port(port) if colon else SMTP_PORT)


def leading_port(text: bytes) -> int:
    """Return the number that `text` begins with, 0 without one, as a port: 16 bits of it."""
    digits = len(text) - len(text.lstrip(b"0123456789"))
    return int(text[:digits][-20:] or b"0") & 0xFFFF


def literal_address(name: bytes) -> str | None:
    """Return the address of `192.0.2.1` or `[192.0.2.1]`, None for any other name. Numbers wrap at 256, as in qmail."""
    match = _ADDRESS.fullmatch(name)
    if match is None or name.startswith(b"[") != bool(match[5]):
        return None
    return ".".join(str(int(number[-20:]) & 255) for number in match.groups()[:4])


class Lookup(Protocol):
    """What is needed of the resolver."""

    async def lookup(self, name: bytes | str, rdtype: str) -> Answer: ...


MoreAddresses = Callable[[bytes, list[str]], Awaitable[list[str]]]


async def find_candidates(
    route: Route, resolver: Lookup, more_addresses: MoreAddresses | None = None
) -> list[Candidate]:
    """Return the addresses of a route in the order in which they are to be tried.

    `more_addresses` is asked for each host with the addresses found. Raises Undeliverable when there is none.
    """
    literal = literal_address(route.host)
    if literal is not None:
        return [Candidate(literal, 0, route.host)]
    exchangers = () if route.relay else await _exchangers(route.host, resolver)
    if not exchangers:
        return await _only_host(route.host, resolver, more_addresses)
    candidates: list[Candidate] = []
    trouble = False
    for preference, host in in_random_order(exchangers):
        try:
            candidates += await _host_candidates(host, preference, resolver, more_addresses)
        except TemporaryFailure:
            trouble = True
    if not candidates:
        raise Undeliverable(report.DNS_TROUBLE if trouble else report.NO_EXCHANGER)
    return candidates


def in_random_order(exchangers: Sequence[Mx]) -> list[Mx]:
    """Return exchangers by preference, equal ones shuffled."""
    shuffled = random.sample(exchangers, len(exchangers))
    return sorted(shuffled, key=lambda mx: mx.preference)


async def _exchangers(host: bytes, resolver: Lookup) -> Sequence[Mx]:
    """Return the MX records; () where there is none, so that the host itself is meant."""
    try:
        return (await resolver.lookup(host, "MX")).records
    except TemporaryFailure:
        raise Undeliverable(report.DNS_TROUBLE) from None


async def _host_candidates(
    host: bytes, preference: int, resolver: Lookup, more_addresses: MoreAddresses | None
) -> list[Candidate]:
    """Return the candidates of one exchanger. An address in the place of a name has preference 0, as in qmail."""
    literal = literal_address(host)
    if literal is not None:
        return [Candidate(literal, 0, host)]
    if not host:  # null MX: it says that there is nobody
        return []
    found = list((await resolver.lookup(host, "A")).records)
    if more_addresses is not None:
        found = await more_addresses(host, found)
    return [Candidate(address, preference, host) for address in found]


async def _only_host(host: bytes, resolver: Lookup, more_addresses: MoreAddresses | None) -> list[Candidate]:
    """Return the candidates of a relay, or of a host without MX records."""
    try:
        answer = await resolver.lookup(host, "A")
        found = list(answer.records)
        if more_addresses is not None:
            found = await more_addresses(host, found)
    except TemporaryFailure:
        raise Undeliverable(report.DNS_TROUBLE) from None
    if found:
        return [Candidate(address, 0, host) for address in found]
    # A name that is only an alias of something else is there, but has no address.
    dangling = answer.status is Status.NO_DATA and answer.canonical != answer.name
    raise Undeliverable(report.NO_EXCHANGER if dangling else report.no_such_host(host))


def without_ourselves(candidates: Sequence[Candidate], ours: Container[str]) -> list[Candidate]:
    """Return the candidates that are preferred to this machine. Raises Undeliverable when there is none."""
    limit = min((one.preference for one in candidates if one.address in ours), default=None)
    if limit is None:
        return list(candidates)
    better = [one for one in candidates if one.preference < limit]
    if not better:
        raise Undeliverable(report.OURSELVES)
    return better
