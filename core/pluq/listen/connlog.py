"""The lines of tcpserver -v, so that what reads its log goes on to work.

    tcpserver: status: 1/40
    tcpserver: pid 7 from 192.0.2.7
    tcpserver: ok 7 mx.example.org:192.0.2.1:25 :192.0.2.7::40312
    tcpserver: end 7 status 0

In the place of the process number stands the number of the connection. The status is as wait(2) has it: 0 after QUIT, 256 (exit
code 1) after anything else. Lines are collected for a moment and written together.

Source: tcpserver.c of ucspi-tcp.
"""

from __future__ import annotations

import asyncio
import os
from functools import lru_cache
from typing import TYPE_CHECKING

from pluq import log
from pluq.log.writer import kept_together, pieces

if TYPE_CHECKING:
    from pluq.hookspecs.context import Session

# Nobody reads faster, and a busy server writes hundreds of lines at once.
DELAY_SECONDS = 0.05
# Bytes that go into a line as they are; any other becomes a question mark, as in tcpserver.
_SAFE = bytes(octet if 33 <= octet <= 126 and octet not in b":%" else ord("?") for octet in range(256))


@lru_cache(maxsize=64)
def safe(text: str) -> str:
    return text.encode("utf-8", "surrogateescape").translate(_SAFE).decode("ascii")


def came(verdict: str, number: int, session: Session, count: int, limit: int) -> str:
    """Return the lines for a connection that was accepted, the `count`th of those there are. The rules said `verdict`, ok or deny."""
    ip = session.remote_ip
    local = f"{safe(session.local_host)}:{session.local_ip}:{session.local_port}"
    return (
        f"tcpserver: status: {count}/{limit}\ntcpserver: pid {number} from {ip}\n"
        f"tcpserver: {verdict} {number} {local} :{ip}::{session.remote_port}\n"
    )


def ended(number: int, code: int, count: int, limit: int) -> str:
    """Return the lines for a connection that has ended; `count` are left."""
    return f"tcpserver: end {number} status {code << 8}\ntcpserver: status: {count}/{limit}\n"


class LineLog:
    """Lines for one descriptor, of a process with an event loop. Remarks begin with the name of its role."""

    def __init__(self, loop: asyncio.AbstractEventLoop, role: str = "smtpd", descriptor: int = 2) -> None:
        self._loop = loop
        self._role = role
        self._descriptor = descriptor
        self._most = kept_together(descriptor)
        self._lines: list[str] = []
        self._timer: asyncio.TimerHandle | None = None

    def write(self, line: str) -> None:
        self._lines.append(line)
        if self._timer is None:
            self._timer = self._loop.call_later(DELAY_SECONDS, self.flush)

    def remark(self, text: str) -> None:
        self.write(log.remark(self._role, text).decode())

    def flush(self) -> None:
        """Write what is there. A reader that is gone, or stuck with a full pipe that does not block, is not waited for."""
        self._timer = None
        data = "".join(self._lines).encode("utf-8", "backslashreplace")
        self._lines.clear()
        for piece in pieces(data, self._most):
            rest = piece
            while rest:
                try:
                    rest = rest[os.write(self._descriptor, rest) :]
                except OSError:
                    return
