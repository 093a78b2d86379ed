"""Telling the service manager how we are: the datagrams of sd_notify(3), without its library.

Without NOTIFY_SOCKET in the environment every call does nothing. WATCHDOG_USEC says how often it wants to hear from us.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping


class Notifier:
    """One service manager's socket. A manager that does not listen is no reason to stop."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        address = environment.get("NOTIFY_SOCKET", "")
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self.watchdog_seconds = watchdog_seconds(environment)

    def send(self, *assignments: str) -> None:
        """Send lines like READY=1."""
        if not self._address:
            return
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
            try:
                sock.sendto("\n".join(assignments).encode(), self._address)
            except OSError:
                return

    def ready(self) -> None:
        self.send("READY=1")

    def status(self, text: str) -> None:
        """Say in one line what we do; `systemctl status` shows it."""
        self.send("STATUS=" + " ".join(text.split()))

    def reloading(self) -> None:
        self.send("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self) -> None:
        self.send("STOPPING=1")

    def alive(self) -> None:
        self.send("WATCHDOG=1")


def watchdog_seconds(environment: Mapping[str, str]) -> float | None:
    """Return how often to say that we live: half of what the manager asked for, None if it did not ask us."""
    pid = environment.get("WATCHDOG_PID")
    usec = environment.get("WATCHDOG_USEC", "")
    if not usec.isdigit() or int(usec) == 0 or (pid is not None and pid != str(os.getpid())):
        return None
    return int(usec) / 2_000_000
