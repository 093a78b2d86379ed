"""The IPv4 addresses of this machine: qmail's ipme.

Mail for an address literal of ours is mail for us, and no delivery may go to ourselves by way of a DNS record. An address
counts while its interface is up; 0.0.0.0 always does (RFC 1122 section 3.2.1.3: this host).

Source: ipme.c of qmail; netdevice(7).
"""

from __future__ import annotations

import fcntl
import socket
from array import array
from collections.abc import Iterator
from struct import Struct, calcsize

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
