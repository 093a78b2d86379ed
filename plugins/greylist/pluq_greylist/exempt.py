"""Who need not wait: control/greylist.white, and what counts as one client.

    192.0.2.7           a client
    192.0.2.0/24        a network, also of IPv6
    192.0.2.            the same, as tcprules write it
    joe@example.org     a recipient
    @example.org        all recipients of a domain

Lines that begin with # are comments.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network

Network = IPv4Network | IPv6Network


@dataclass
class Exempt:
    """The list. `faults`: lines that say nothing, each with the reason."""

    networks: list[Network] = field(default_factory=list)
    recipients: set[bytes] = field(default_factory=set)
    faults: list[tuple[str, str]] = field(default_factory=list)

    @classmethod
    def of(cls, lines: Iterable[bytes]) -> Exempt:
        exempt = cls()
        for line in lines:
            if b"@" in line:
                exempt.recipients.add(line.strip().lower())
                continue
            text = line.strip().decode("ascii", "backslashreplace")
            try:
                exempt.networks.append(parse_network(text))
            except ValueError as error:
                exempt.faults.append((text, str(error)))
        return exempt

    def has_client(self, ip: str) -> bool:
        try:
            address = ip_address(ip)
        except ValueError:
            return False
        return any(address in network for network in self.networks)

    def has_recipient(self, address: bytes) -> bool:
        address = address.lower()
        return address in self.recipients or b"@" + address.rpartition(b"@")[2] in self.recipients


def parse_network(text: str) -> Network:
    """Return the network that a line names. Raises ValueError."""
    if text.endswith("."):
        parts = text[:-1].split(".")
        return ip_network(".".join(parts + ["0"] * (4 - len(parts))) + f"/{8 * len(parts)}")
    return ip_network(text)


def network_of(ip: str, ipv4_bits: int, ipv6_bits: int) -> bytes:
    """Return what a client's neighbours share with it: large senders try again from another machine."""
    try:
        address = ip_address(ip)
    except ValueError:
        return ip.encode("ascii", "backslashreplace")
    bits = ipv4_bits if address.version == 4 else ipv6_bits
    return ip_network((address, bits), strict=False).network_address.packed
