"""Removing what died in the middle: message files in S2 or S3 that nobody has touched for 36 hours.

A look at all of mess/ at the start and about once a day, a few files a turn.

Source: INTERNALS section 6; cleanup_do in qmail-send.c.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

from pluq import log
from pluq.queue.reader import stale_messages
from pluq.send.common import CHANNELS, Common
from pluq.send.remover import Remover

CLEANUP_SECONDS = 76431
"""Not a day exactly: the look moves around the clock."""
FILES_A_TURN = 100
PAUSE_SECONDS = 10


class StaleFiles:
    """The walk through mess/."""

    def __init__(self, common: Common, remover: Remover) -> None:
        self._common = common
        self._remover = remover
        self._walk: Iterator[int | None] | None = None
        self._next = 0

    def clock_set_back(self) -> None:
        self._next = self._common.now

    def wake_at(self) -> int:
        return self._next if self._walk is None else self._common.now

    def work(self) -> None:
        """Look at some files."""
        now = self._common.now
        if self._walk is None:
            if now < self._next:
                return
            self._walk = stale_messages(self._common.layout, now)
        try:
            for _ in range(FILES_A_TURN):
                number = next(self._walk, 0)
                if number == 0:
                    self._walk = None
                    self._next = now + CLEANUP_SECONDS
                    return
                if number is not None:
                    self._remove(number)
        except OSError:
            self._common.log(log.alert("unable to opendir mess, sleeping..."))
            self._walk = None
            self._next = now + PAUSE_SECONDS

    def _remove(self, number: int) -> None:
        """Remove a file, and the lists of recipients of a message that was being discarded."""
        for channel in CHANNELS:
            try:
                os.unlink(self._common.recipients_path(number, channel))
            except OSError:
                continue  # usually there is none; a later message with this number begins by removing it
        self._remover.remove_stale(number)
