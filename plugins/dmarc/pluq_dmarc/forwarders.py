"""Hosts and domains whose forwarded mail is not refused: mailing lists and other servers that break what DMARC looks at.

An entry is an address, a network, or a domain; a domain stands for itself and what is below it, and must have passed SPF or
DKIM, or have sealed an unbroken ARC chain.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network

from pluq_dmarc.author import normal_domain


@lru_cache(maxsize=16)
def parse(entries: tuple[str, ...]) -> tuple[tuple[IPv4Network | IPv6Network, ...], tuple[str, ...], tuple[str, ...]]:
    """Return the networks and the domains of a list, and the entries that are neither."""
    networks: list[IPv4Network | IPv6Network] = []
    domains: list[str] = []
    wrong: list[str] = []
    for entry in entries:
        try:
            networks.append(ip_network(entry, strict=False))
        except ValueError:
            domain = normal_domain(entry)
            (wrong if domain is None else domains).append(domain or entry)
    return tuple(networks), tuple(domains), tuple(wrong)


def is_trusted(entries: Sequence[str], remote_ip: str, passed: Iterable[str]) -> bool:
    """Return whether a client is a trusted forwarder. `passed` are the domains that SPF or DKIM passed for."""
    networks, domains, _ = parse(tuple(entries))
    try:
        address = ip_address(remote_ip)
    except ValueError:
        address = None
    if address is not None and any(address in network for network in networks):
        return True
    return any(one == domain or one.endswith("." + domain) for one in passed for domain in domains)
