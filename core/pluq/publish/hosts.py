"""MX of a domain, addresses of its hosts, names of our addresses.

Source: RFC 5321 section 5, RFC 7505 (null MX), RFC 2181 section 10.3 (no aliases), RFC 8601 section 3 (names of addresses).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from ipaddress import ip_address

from pluq.dns import Mx, Resolver, Status
from pluq.publish.finding import Finding, State, addresses, shown


@dataclass(frozen=True)
class Us:
    """Who we are: the name that the MX should have, and our public addresses, empty where they are not known."""

    name: str
    addresses: Collection[str] = ()


@dataclass(frozen=True)
class Exchangers:
    """Where mail for the domain goes: hosts with their addresses, the preferred first; which of them are ours."""

    hosts: dict[str, list[str]]
    ours: Sequence[str]


async def exchangers(resolver: Resolver, domain: str, us: Us) -> tuple[Exchangers, list[Finding]]:
    """Return where mail for a domain goes, and what there is to say of it. Raises TemporaryFailure."""
    answer = await resolver.lookup(domain, "MX")
    records: list[Mx] = sorted(answer.records)
    found = [f"{one.preference} {shown(one.host) or '.'}" for one in records]
    publish = f"{domain}. MX 10 {us.name}."
    hosts = {shown(one.host): await addresses(resolver, shown(one.host)) for one in records if one.host}
    ours = [host for host, where in hosts.items() if host == us.name.lower() or set(where) & set(us.addresses)]

    def finding(state: State, why: str = "") -> Finding:
        return Finding(state, domain, "MX", "where mail goes", found, publish if state is not State.OK else "", why)

    if not records:
        why = (
            "the domain does not exist"
            if answer.status is Status.NO_NAME
            else "without MX mail goes to its address, if any"
        )
        return Exchangers({}, []), [finding(State.MISSING, why)]
    if not hosts:
        return Exchangers({}, []), [finding(State.DIFFERENT, "a null MX says that the domain takes no mail")]
    findings = [
        finding(State.OK) if ours else finding(State.DIFFERENT, "none of these hosts is this one; --host names it")
    ]
    findings += [await _host(resolver, host, hosts[host], us) for host in hosts]
    return Exchangers(hosts, ours), findings


async def _host(resolver: Resolver, host: str, where: Sequence[str], us: Us) -> Finding:
    """Return what there is to say of the addresses of one mail exchanger."""
    what = "addresses of the mail exchanger"
    wanted = ", ".join(us.addresses) or "its public address"
    if _is_address(host):
        return Finding(State.DIFFERENT, host, "A", what, [], "", "an MX names a host, never an address")
    answer = await resolver.lookup(host, "A")
    if answer.canonical and shown(answer.canonical) != host:
        return Finding(
            State.DIFFERENT,
            host,
            "CNAME",
            what,
            [shown(answer.canonical)],
            f"{host}. A {wanted}",
            "an MX must not be an alias",
        )
    if not where:
        return Finding(
            State.MISSING, host, "A", what, [], f"{host}. A {wanted}", "nobody can reach a host without an address"
        )
    if host == us.name.lower() and us.addresses and not set(where) & set(us.addresses):
        return Finding(
            State.DIFFERENT, host, "A", what, where, f"{host}. A {wanted}", "none of these is an address of this host"
        )
    return Finding(State.OK, host, "A", what, where)


async def names(resolver: Resolver, address: str, us: Us) -> Finding:
    """Return what there is to say of the name of one of our addresses: it has to lead back. Raises TemporaryFailure."""
    pointer = ip_address(address).reverse_pointer
    what = f"name of {address}"
    publish = f"{pointer}. PTR {us.name}."
    found = [shown(name) for name in (await resolver.lookup(pointer, "PTR")).records]
    if not found:
        why = "large sites refuse mail from an address without a name; ask whoever gave you the address"
        return Finding(State.MISSING, pointer, "PTR", what, [], publish, why)
    for name in found[:10]:
        if address in await addresses(resolver, name):
            return Finding(State.OK, pointer, "PTR", what, found)
    return Finding(
        State.DIFFERENT, pointer, "PTR", what, found, publish, "none of these names leads back to the address"
    )


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True
