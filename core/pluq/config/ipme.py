"""The IPv4 addresses of this machine: qmail's ipme.

Mail for an address literal of ours is mail for us, and no delivery may go to ourselves by way of a DNS record. An address
counts while its interface is up; 0.0.0.0 always does (RFC 1122 section 3.2.1.3: this host).

control/moreipme lists addresses that are ours although no interface has them (behind address translation), control/notipme those that are not
although one has: an address, or ADDRESS/BITS or ADDRESS/MASK, a line. The longest mask counts, notipme wins ties; with one of these files
all of 127.0.0.0/8 is ours too, whatever they say.

Source: ipme.c of qmail; netdevice(7); the moreipme patch.
"""

from __future__ import annotations

import fcntl
import socket
from array import array
from collections.abc import Container, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from struct import Struct, calcsize

from pluq.errors import ConfigError
from pluq.store.control import ControlFiles

SIOCGIFCONF = 0x8912
SIOCGIFFLAGS = 0x8913
IFF_UP = 1

# struct ifreq: the name, then a union of which an address takes the first eight bytes.
IFREQ_SIZE = calcsize("16s") + calcsize("LLL")
IFREQ_ADDRESS = Struct("=16sHH4s")
IFREQ_FLAGS = Struct("=16sH")

# A machine with more addresses than this is refused rather than believed half: 64 Ki addresses are 2.6 MB.
MAX_ADDRESSES = 1 << 16


def interface_addresses(probe: socket.socket) -> Iterator[tuple[bytes, bytes]]:
    """Yield (interface name, address in network order) of every IPv4 address. `probe` is any IPv4 socket."""
    count = 64
    while count <= MAX_ADDRESSES:
        buffer = array("B", bytes(IFREQ_SIZE * count))
        where, size = buffer.buffer_info()[0], len(buffer)
        used = Struct("iP").unpack(fcntl.ioctl(probe, SIOCGIFCONF, Struct("iP").pack(size, where)))[0]
        if used < size:
            break
        count *= 4
    else:
        raise OSError("this machine has too many addresses")
    for start in range(0, used, IFREQ_SIZE):
        name, family, _, address = IFREQ_ADDRESS.unpack_from(buffer, start)
        if family == socket.AF_INET:
            yield name, address


def is_up(probe: socket.socket, name: bytes) -> bool:
    request = name.ljust(IFREQ_SIZE, b"\0")
    flags: int = IFREQ_FLAGS.unpack_from(fcntl.ioctl(probe, SIOCGIFFLAGS, request))[1]
    return bool(flags & IFF_UP)


def my_addresses() -> frozenset[str]:
    """Return the IPv4 addresses of this machine as text. Raises OSError where the kernel does not say."""
    found = {"0.0.0.0"}
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        for name, address in interface_addresses(probe):
            if is_up(probe, name):
                found.add(socket.inet_ntoa(address))
    return frozenset(found)


ALWAYS = (IPv4Network("127.0.0.0/8"), IPv4Network("0.0.0.0/32"))


class Ourselves:
    """Which addresses are ours: those of interfaces, and what the two files say."""

    def __init__(self, interfaces: frozenset[str], adjustments: Adjustments) -> None:
        self._interfaces = interfaces
        self._adjustments = adjustments

    def __contains__(self, address: object) -> bool:
        try:
            ip = IPv4Address(address)
        except ValueError:
            return False
        if any(ip in network for network in ALWAYS):
            return True
        own = 32 if address in self._interfaces else longest(ip, self._adjustments.more)
        return own > longest(ip, self._adjustments.less)


def longest(ip: IPv4Address, networks: tuple[IPv4Network, ...]) -> int:
    """Return the length of the longest mask that has the address, -1 where none does."""
    return max((network.prefixlen for network in networks if ip in network), default=-1)


@dataclass(frozen=True)
class Adjustments:
    """What control/moreipme and control/notipme say."""

    more: tuple[IPv4Network, ...]
    less: tuple[IPv4Network, ...]

    @classmethod
    def read(cls, controls: ControlFiles) -> Adjustments | None:
        """Return what the files say, None where there are none. Raises ConfigError for a faulty line."""
        more, less = controls.lines("moreipme"), controls.lines("notipme")
        if more is None and less is None:
            return None
        return cls(networks(controls, "moreipme", more or []), networks(controls, "notipme", less or []))


def networks(controls: ControlFiles, name: str, lines: list[bytes]) -> tuple[IPv4Network, ...]:
    """Return what the lines of a file name. Raises ConfigError."""
    found = []
    for line in lines:
        try:
            found.append(IPv4Network(line.decode("ascii"), strict=False))
        except ValueError:
            raise ConfigError(controls.path(name), f"{line!r} is no address", None, name) from None
    return tuple(found)


def adjusted(interfaces: frozenset[str], adjustments: Adjustments | None) -> Container[str]:
    """Return which addresses are ours."""
    return interfaces if adjustments is None else Ourselves(interfaces, adjustments)


def our_addresses(controls: ControlFiles) -> Container[str]:
    """Return the IPv4 addresses that are this host. Raises OSError where the kernel does not say, ConfigError for a faulty line."""
    return adjusted(my_addresses(), Adjustments.read(controls))
