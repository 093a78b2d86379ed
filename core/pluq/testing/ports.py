"""Ports of 127.0.0.1 for servers that tests start as processes of their own.

A port that was bound as number 0 and closed again is anybody's: before our server takes it, the kernel may give it to the next
connection on this machine. `free_port` gives ports below those that the kernel chooses, and marks them, so that no other test gets the
same one while we live. The mark is an abstract Unix socket with the number in its name: it goes when its process goes, however that ends.
"""

from __future__ import annotations

import itertools
import random
import socket

__all__ = ["free_port"]

LOWEST = 10_000
KERNELS_CHOICE = "/proc/sys/net/ipv4/ip_local_port_range"

# Descriptors of our marks, open for as long as we live.
_marks: list[int] = []


def free_port() -> int:
    """Return a port that nobody listens on, and that nobody else is given."""
    with open(KERNELS_CHOICE) as file:
        first_of_kernel = int(file.read().split()[0])
    ports = range(LOWEST, max(first_of_kernel, LOWEST + 1000))
    begin = random.SystemRandom().randrange(len(ports))  # a seed of the tests would be the same in all their processes
    for port in itertools.chain(ports[begin:], ports[:begin]):
        if _is_free(port) and _mark(port):
            return port
    raise OSError("no port is free")


def _is_free(port: int) -> bool:
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def _mark(port: int) -> bool:
    """Say whether the port is ours from now on."""
    mark = socket.socket(socket.AF_UNIX)
    try:
        mark.bind(f"\0pluq-port-{port}")
    except OSError:
        mark.close()
        return False
    _marks.append(mark.detach())
    return True
