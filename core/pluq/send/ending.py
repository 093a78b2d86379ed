"""The end of a message that has no recipients left: S5 back to S1.

    failure notes in bounce/N?   a bounce is queued, then bounce/N goes
    "end msg N"
    info/N goes                  synced where message files are used again: an old envelope must never find a new message
    mess/N goes                  by qmail-clean or the queue daemon

Every step looks at the files first, so a crash anywhere, or the same message twice, does no harm but a second bounce.

Source: messdone in qmail-send.c; INTERNALS section 5.
"""

from __future__ import annotations

import os

from pluq import log
from pluq.errors import ProtocolError
from pluq.queue.reader import read_info
from pluq.send.bounces import Bounces
from pluq.send.common import Common, exists
from pluq.send.remover import Remover
from pluq.send.schedule import SYSTEM_FAILURE_SECONDS, Waiting
from pluq.send.syncing import SyncBatch


class Ending:
    """Messages that are about to leave the queue."""

    def __init__(self, common: Common, bounces: Bounces, remover: Remover, batch: SyncBatch) -> None:
        self._common = common
        self._bounces = bounces
        self._remover = remover
        self._batch = batch
        self._due = Waiting()
        self._bouncing: set[int] = set()
        self._ended: list[int] = []

    def add(self, number: int) -> None:
        """Take a message that seems to have no recipients left."""
        self._due.add(self._common.now, number)

    def work(self) -> None:
        """End what is due, while bounces can be sent."""
        while not self._bounces.busy and (number := self._due.pop_due(self._common.now)) is not None:
            self._end(number)

    def wake_at(self) -> int | None:
        return None if self._bounces.busy else self._due.first()

    def all_now(self) -> None:
        """Try again now what failed."""
        self._due.all_at(self._common.now)

    @property
    def settled(self) -> bool:
        """No bounce is on its way."""
        return not (self._bouncing or self._ended)

    def _end(self, number: int) -> None:
        layout = self._common.layout
        path = ""
        try:
            for path in (layout.local(number), layout.remote(number), layout.todo(number)):
                if exists(path):
                    return  # A false alarm: an error had hidden this file.
            path = layout.info(number)
            if not exists(path):
                return
        except OSError:
            self._common.warn("unable to stat", path, "; will try again later")
            self._later(number)
            return
        try:
            sender, _birth = read_info(layout, number)
        except (OSError, ProtocolError):
            self._later(number)
            return
        if number not in self._bouncing:
            self._bouncing.add(number)
            self._bounces.send(number, sender, self._bounced)

    def _later(self, number: int) -> None:
        self._due.add(self._common.now + SYSTEM_FAILURE_SECONDS, number)

    def _bounced(self, number: int, done: bool) -> None:
        """Go on when no failure notes are left; else try again later."""
        self._bouncing.discard(number)
        if not done:
            self._later(number)
            return
        self._common.log(log.end_message(number))
        path = self._common.layout.info(number)
        try:
            os.unlink(path)
        except OSError:
            self._common.warn("unable to unlink", path, "; will try again later")
            self._later(number)
            return
        self._ended.append(number)

    def discard(self, number: int) -> bool | None:
        """Let a message go with all that is left of it, and without a bounce. False: it could not be removed, None: its bounce is on the way.

        With info/N it has left the queue; what a crash leaves behind then belongs to nobody.
        """
        layout = self._common.layout
        if number in self._bouncing:
            return None
        for path in (layout.bounce(number), layout.info(number), layout.local(number), layout.remote(number)):
            try:
                os.unlink(path)
            except FileNotFoundError:
                continue
            except OSError:
                self._common.warn("unable to unlink", path)
                return False
        self._common.log(log.end_message(number))
        self._ended.append(number)
        return True

    def settle(self) -> None:
        """Let the message files go, once their envelopes are gone for good."""
        ended = self._ended
        if not ended:
            return
        self._ended = []
        if self._remover.recycles:
            for number in ended:
                self._batch.add_folder(os.path.dirname(self._common.layout.info(number)))
            if not self._batch.commit():
                # Their message files stay as S2, which the cleaner removes after 36 hours.
                self._common.log(log.warning("trouble fsyncing info"))
                return
        for number in ended:
            self._remover.remove_message(number)
