"""What tests of several programs need: a program behind a port, as tcpserver runs it."""

from __future__ import annotations

import gc
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager

import pytest

from pluq.testing.ports import free_port

PATIENCE = 60.0


@pytest.fixture
def open_files() -> Callable[[], set[str]]:
    """Tells the descriptors that are open. Those that other tests have left to the collector are closed before, and not while one looks."""
    gc.collect()
    return lambda: set(os.listdir("/proc/self/fd"))


def listens(port: int) -> bool:
    """Say whether somebody listens there, without connecting: a program for one client would serve us."""
    wanted = f":{port:04X}"
    with open("/proc/net/tcp") as table:
        rows = [line.split() for line in table]
    return any(row[1].endswith(wanted) and row[3] == "0A" for row in rows[1:])


@contextmanager
def tcpserver(program: Sequence[str], environment: Mapping[str, str], port: int) -> Iterator[None]:
    command = ["tcpserver", "-RHl0", "127.0.0.1", str(port), *program]
    server = subprocess.Popen(command, env={**os.environ, **environment})
    try:
        deadline = time.monotonic() + PATIENCE
        while not listens(port):
            assert server.poll() is None and time.monotonic() < deadline, f"tcpserver does not listen on {port}"
            time.sleep(0.02)
        yield
    finally:
        server.terminate()
        server.wait(PATIENCE)


class PortPrograms:
    """Programs behind ports. `start` gives the port, on which `stop` ends the listening."""

    def __init__(self) -> None:
        self._running: dict[int, ExitStack] = {}

    def start(self, program: Sequence[str], environment: Mapping[str, str] | None = None, port: int = 0) -> int:
        port = port or free_port()
        stack = ExitStack()
        stack.enter_context(tcpserver(program, environment or {}, port))
        self._running[port] = stack
        return port

    def stop(self, port: int) -> None:
        self._running.pop(port).close()

    def stop_all(self) -> None:
        for port in list(self._running):
            self.stop(port)


@pytest.fixture
def under_tcpserver() -> Iterator[PortPrograms]:
    """Run programs under Debian's tcpserver: `port = under_tcpserver.start([program, ...], {variable: value})`."""
    if shutil.which("tcpserver") is None:
        pytest.skip("needs tcpserver of Debian's ucspi-tcp")
    programs = PortPrograms()
    try:
        yield programs
    finally:
        programs.stop_all()


@pytest.fixture
def needed() -> Callable[[str], str]:
    """Return the path of a program; the test is skipped where it is not installed."""

    def find(name: str) -> str:
        path = shutil.which(name)
        if path is None:
            pytest.skip(f"needs {name} (Debian package)")
        return path

    return find
