"""The figures of remote delivery (pluq.metrics.families); what becomes of deliveries the scheduler counts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pluq.metrics import Page, series

if TYPE_CHECKING:
    from pluq.remote.connection import Connection


class Figures:
    """Hears of each session with another host."""

    def __init__(self, mine: Page) -> None:
        self._page = mine

    def opened(self, connection: Connection) -> None:
        """A session is ready for its first message."""
        tls = "no" if connection.tls is None else connection.tls.version
        self._page.add(series("pluq_remote_sessions_total", tls=tls))
