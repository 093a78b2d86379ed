"""Which TLSA records hold for a host that a delivery has come to.

They count only if the whole way to them is signed: the MX records that named the host (none are needed for a route that the
administrator wrote), its address, and the records themselves. The AD bit of the resolver says so. Where an unsigned link makes a proof
impossible nothing more is asked; where a signed zone does not answer for TLSA the host is not used: that is how an attack would look.

    all aliases signed                           the records of the last name count, else those of the host's own name
    the first signed, what it leads to is not    those of the host's own name

Source: RFC 7672 sections 2.1, 2.2 and 3.2.2; RFC 7671 section 7.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pluq.dns import Resolver, Status, Tlsa
from pluq.errors import TemporaryFailure


@dataclass(frozen=True)
class Binding:
    """The records of a host: `base` is the name at which they were found, and `names` those that its certificate may bear."""

    base: str
    names: tuple[str, ...]
    records: tuple[Tlsa, ...]


class Changed(TemporaryFailure):
    """The signed MX records do not have the host that we came to."""


async def find_binding(route: Any, host: bytes, resolver: Resolver) -> Binding | None:
    """Return the TLSA records of a host, None where there are none that count. Raises TemporaryFailure.

    `route` is the pluq.remote.route.Route that led to `host`.
    """
    if not route.relay and not await is_signed_route(route.host, host, resolver):
        return None
    for base in await bases(host, resolver):
        answer = await resolver.lookup(f"_{route.port}._tcp.{base}", "TLSA")
        if answer.authentic and answer.status is Status.FOUND:
            allowed = dict.fromkeys([base, text(host), text(route.host)])
            return Binding(base, tuple(allowed), answer.records)
    return None


async def bases(host: bytes, resolver: Resolver) -> list[str]:
    """Return the names of a host that may have records: none where its address is not signed. Raises TemporaryFailure."""
    address = await resolver.lookup(host, "A")
    if address.status is not Status.FOUND:
        address = await resolver.lookup(host, "AAAA")
    if address.authentic:
        return list(dict.fromkeys(text(name) for name in (address.canonical or host, host)))
    if text(address.canonical or host) == text(host):
        return []
    alias = await resolver.lookup(host, "CNAME")  # a signed name for a host somewhere else
    return [text(host)] if alias.authentic else []


async def is_signed_route(domain: bytes, host: bytes, resolver: Resolver) -> bool:
    """Return whether the way from a domain to one of its exchangers is signed. Raises TemporaryFailure."""
    answer = await resolver.lookup(domain, "MX")
    if not answer.authentic:
        return False
    exchangers = [mx.host for mx in answer.records] or [domain]
    if text(host) not in [text(one) for one in exchangers]:
        raise Changed(f"the signed MX records of {text(domain)} do not have {text(host)}", "4.4.3")
    return True


def text(name: bytes) -> str:
    return name.decode("ascii", "replace").lower().removesuffix(".")
