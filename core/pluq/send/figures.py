"""The scheduler's figures: what its events add up to (pluq.metrics.families)."""

from __future__ import annotations

from pluq import log
from pluq.log.lines import OUTCOMES
from pluq.metrics import Histogram, Page, page, series
from pluq.send.channel import NAMES

CHANNELS = [name.decode() for name in NAMES]


class Figures:
    """Listens to the events of the log."""

    def __init__(self, mine: Page) -> None:
        self._values = mine.values
        self._messages = mine.slot("pluq_messages_total")
        self._ended = mine.slot("pluq_messages_ended_total")
        self._bounces = mine.slot("pluq_bounces_total")
        self._outcomes = {
            (name.encode(), letter): mine.slot(series("pluq_deliveries_total", channel=name, outcome=word.decode()))
            for name in CHANNELS
            for letter, word in OUTCOMES.items()
        }
        self._under_way = [mine.slot(series("pluq_deliveries", channel=name)) for name in CHANNELS]
        self._limits = [mine.slot(series("pluq_concurrency", channel=name)) for name in CHANNELS]
        self._seconds = {name.encode(): Histogram(mine, "pluq_delivery_seconds", channel=name) for name in CHANNELS}
        self._delays = {
            name.encode(): Histogram(mine, "pluq_delivery_delay_seconds", channel=name) for name in CHANNELS
        }

    def listen(self) -> None:
        """Hear everything that is told from now on."""
        log.listen(
            {
                "new_message": self.new_message,
                "end_message": self.end_message,
                "bounced": self.bounced,
                "delivered": self.delivered,
                "status": self.status,
            }
        )

    def new_message(self, message: int) -> None:
        self._values[self._messages] += 1.0

    def end_message(self, message: int) -> None:
        self._values[self._ended] += 1.0

    def bounced(self, message: int, qp: int) -> None:
        self._values[self._bounces] += 1.0

    def delivered(self, delivery: int, outcome: bytes, text: bytes, about: log.About) -> None:
        slot = self._outcomes.get((about.channel, outcome))
        if slot is None:  # a mangled report
            return
        self._values[slot] += 1.0
        self._seconds[about.channel].observe(about.seconds)
        if outcome == b"K":
            self._delays[about.channel].observe(about.delay)

    def status(self, local: tuple[int, int], remote: tuple[int, int], leaving: bool = False) -> None:
        values, under_way, limits = self._values, self._under_way, self._limits
        values[under_way[0]], values[limits[0]] = local
        values[under_way[1]], values[limits[1]] = remote


def count() -> None:
    """Count, where the site wants figures."""
    mine = page()
    if mine is not None:
        Figures(mine).listen()
