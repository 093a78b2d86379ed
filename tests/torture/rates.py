"""Normal mail while others misbehave: how much of its rate is left.

The attackers are processes of lowest priority: a real one would not take our processor for its own work. The rate is measured without and
with them in turn, and the medians are compared, so that what else the machine does falls on both.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from statistics import median

from tests.torture.ledger import Row
from tests.torture.system import System, new_system

CLIENTS = 4
SETTLE_SECONDS = 1.0
SIZES = (1000, 4000)
SLOW, SILENT, STORM_A_SECOND = 400, 900, 300
Attack = Callable[[int], None]


def connected(port: int, count: int) -> list[socket.socket]:
    return [socket.create_connection(("127.0.0.1", port), 20) for _ in range(count)]


def drip(port: int) -> None:
    """Slow clients: a byte of a command every second, from each of hundreds."""
    socks = connected(port, SLOW)
    for octet in iter(lambda: b"x", b""):
        for sock in socks:
            sock.send(octet)
        time.sleep(1)


def stay(port: int) -> None:
    """Nearly all places are taken by clients who say nothing."""
    kept = connected(port, SILENT)
    signal.pause()
    del kept


def storm(port: int) -> None:
    """Clients come, begin a message and are gone."""
    while True:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 5) as sock:
            sock.send(b"EHLO x\r\nMAIL FROM:<a@b>\r\nRCPT TO:<joe@example.org>\r\nDATA\r\nSubject: x\r\n")
        time.sleep(1 / STORM_A_SECOND)


def junk(port: int) -> None:
    """Commands that are none, as fast as they are answered, from a client that comes again when it is hung up on."""
    while True:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 5) as sock:
            while True:
                sock.sendall(b"XYZZY\r\n" * 20)
                if not sock.recv(65536):
                    break


def many(port: int) -> None:
    """Messages to thousands of recipients that are never finished."""
    while True:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 5) as sock:
            sock.sendall(b"MAIL FROM:<a@b>\r\n")
            for _ in range(200):
                sock.sendall(b"RCPT TO:<joe@example.org>\r\n" * 50)
                if not sock.recv(65536):
                    break


ATTACKS: dict[str, Attack] = {"slow": drip, "silent": stay, "storm": storm, "junk": junk, "recipients": many}


@contextlib.contextmanager
def attacked(attack: Attack, port: int) -> Iterator[None]:
    """Somebody does this, in a process of his own."""
    child = os.fork()
    if child == 0:
        try:
            os.nice(19)
            attack(port)
        finally:
            os._exit(1)
    try:
        time.sleep(SETTLE_SECONDS)
        yield
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def accepted_in(system: System, seconds: float) -> int:
    """Return how many messages are accepted in a time."""
    before = len(system.ledger.accepted)
    time.sleep(seconds)
    return len(system.ledger.accepted) - before


def under_attack(folder: str | None, rounds: int, seconds: float, least: float) -> Row:
    """Measure the rate without and with each attack; `least` of it must be left."""
    began = time.monotonic()
    left: dict[str, float] = {}
    with new_system(folder) as system:
        system.sizes = SIZES
        for name, attack in ATTACKS.items():
            alone, during = [], []
            with system.load(CLIENTS):
                for _ in range(rounds):
                    alone.append(accepted_in(system, seconds))
                    with attacked(attack, system.stack.port):
                        during.append(accepted_in(system, seconds))
            left[name] = round(median(during) / max(median(alone), 1), 2)
            system.drain()
            system.box.take_out()
        row = system.finish("normal mail under attack")
    row.notes.insert(0, f"of the rate is left: {left}")
    row.notes += [f"FAILED: {name}: {share:.0%} of the rate is left" for name, share in left.items() if share < least]
    row.seconds = round(time.monotonic() - began, 1)
    return row
