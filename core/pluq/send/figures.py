"""The scheduler's figures: what its events add up to (pluq.metrics.families)."""

from __future__ import annotations

from functools import partial

from pluq import log
from pluq.log.lines import OUTCOMES
from pluq.metrics import Histogram, Page, page, series
from pluq.send.channel import NAMES

CHANNELS = [name.decode() for name in NAMES]


class Figures:
    """Listens to the events of the log: each method is given the function that tells one, and returns one that counts it as well."""

    def __init__(self, mine: Page) -> None:
        self._page = mine

    def listen(self) -> None:
        """Hear everything that is told from now on."""
        log.listen(
            {
                "new_message": partial(self.count, "pluq_messages_total"),
                "end_message": partial(self.count, "pluq_messages_ended_total"),
                "bounced": partial(self.count, "pluq_bounces_total"),
                "delivered": self.delivered,
                "status": self.status,
            }
        )

    def count(self, name: str, tell: log.Tell) -> log.Tell:
        values, slot = self._page.values, self._page.slot(name)

        def told(*given: int) -> bytes:
            values[slot] += 1.0
            return tell(*given)

        return told

    def delivered(self, tell: log.Tell) -> log.Tell:
        mine, values = self._page, self._page.values
        outcomes = {}
        for name in CHANNELS:
            took = Histogram(mine, "pluq_delivery_seconds", channel=name)
            delay = Histogram(mine, "pluq_delivery_delay_seconds", channel=name)
            for letter, word in OUTCOMES.items():
                slot = mine.slot(series("pluq_deliveries_total", channel=name, outcome=word.decode()))
                outcomes[name.encode(), letter] = slot, took.observe, delay.observe if letter == b"K" else None

        def told(delivery: int, outcome: bytes, text: bytes, about: log.About) -> bytes:
            found = outcomes.get((about.channel, outcome))
            if found is not None:  # else a mangled report
                slot, took, delay = found
                values[slot] += 1.0
                took(about.seconds)
                if delay is not None:
                    delay(about.delay)
            return tell(delivery, outcome, text, about)

        return told

    def status(self, tell: log.Tell) -> log.Tell:
        mine, values = self._page, self._page.values
        local, remote = (mine.slot(series("pluq_deliveries", channel=name)) for name in CHANNELS)
        limits = [mine.slot(series("pluq_concurrency", channel=name)) for name in CHANNELS]
        last = [-1.0, -1.0]

        def told(locals_: tuple[int, int], remotes: tuple[int, int], leaving: bool = False) -> bytes:
            values[local], limit = locals_
            values[remote], other_limit = remotes
            if last[0] != limit or last[1] != other_limit:
                values[limits[0]], values[limits[1]] = last[:] = float(limit), float(other_limit)
            return tell(locals_, remotes, leaving)

        return told


def count() -> None:
    """Count, where the site wants figures."""
    mine = page()
    if mine is not None:
        Figures(mine).listen()
