"""What is told, and counted, of the connections of a profile: the lines of tcpserver (connlog), objects, figures."""

from __future__ import annotations

import time
from typing import Any

from pluq import log
from pluq.hookspecs.context import Session
from pluq.listen import connlog
from pluq.metrics import Page, page, series

VERDICTS = ("ok", "deny", "limit")


class Arrivals:
    """Hears of each connection of a profile in this process."""

    def __init__(self, profile: str, lines: connlog.LineLog) -> None:
        self._profile = profile
        self._lines = lines
        self._since: dict[int, float] = {}
        mine = page()
        self._figures = None if mine is None else Figures(mine, profile)

    def came(self, number: int, session: Session, verdict: str, count: int, limit: int) -> None:
        """A connection came, the `count`th of those there are. `verdict` is one of VERDICTS; both others deny it."""
        if self._figures is not None:
            self._figures.came(verdict)
        if log.with_lines:
            word = "ok" if verdict == "ok" else "deny"
            self._lines.write(connlog.came(word, number, session, count, limit))
        if log.with_objects:
            self._since[number] = time.monotonic()
            self._tell(
                "connect",
                number,
                session.remote_ip,
                client_port=session.remote_port,
                local_ip=session.local_ip,
                local_port=session.local_port,
                verdict=verdict,
                connections=count,
                limit=limit,
            )

    def gone(self, number: int, ip: str, code: int, count: int, limit: int) -> None:
        """A connection has ended, with what would be its program's exit code; `count` are left."""
        if self._figures is not None:
            self._figures.gone()
        if log.with_lines:
            self._lines.write(connlog.ended(number, code, count, limit))
        if log.with_objects:
            now = time.monotonic()
            seconds = round(now - self._since.pop(number, now), 6)
            self._tell("disconnect", number, ip, status=code << 8, seconds=seconds, connections=count, limit=limit)

    def _tell(self, event: str, number: int, ip: str, **fields: Any) -> None:
        record = {"connection": number, "profile": self._profile, "client_ip": ip, **fields}
        self._lines.write(log.event(event, record).decode("ascii"))


class Figures:
    """The counters of connections."""

    def __init__(self, mine: Page, profile: str) -> None:
        self._values = mine.values
        self._open = mine.slot(series("pluq_connections", profile=profile))
        self._verdicts = {
            verdict: mine.slot(series("pluq_connections_total", profile=profile, verdict=verdict))
            for verdict in VERDICTS
        }

    def came(self, verdict: str) -> None:
        self._values[self._verdicts[verdict]] += 1.0
        self._values[self._open] += 1.0

    def gone(self) -> None:
        self._values[self._open] -= 1.0
