"""What lies in the queue when the scheduler starts: every preprocessed message, and when it is due.

A message is in S5 when info/N exists and todo/N does not. It waits for the times of local/N and remote/N; without either it is
about to end. Folders are listed once and only recipients' files are examined one by one, so the time grows with the number of
messages and nothing else; one folder's numbers are in memory at a time.

Source: pqadd and pqstart in qmail-send.c; INTERNALS section 2.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator

from pluq import log
from pluq.queue.reader import HELD_TIME, numbers
from pluq.send.common import CHANNELS, Common, exists
from pluq.send.ending import Ending
from pluq.send.jobs import Jobs
from pluq.send.schedule import SYSTEM_FAILURE_SECONDS, Waiting

LIST_PAUSE_SECONDS = 10
BETWEEN_SECONDS = 10
"""A former scheduler may have asked for the removal of a todo file. How often to look whether the queue daemon has carried that out."""
CHANNEL_FOLDERS = ("local", "remote")


class Inventory:
    """Finds messages in S5, and finds again those that could not be examined at once."""

    def __init__(self, common: Common, jobs: Jobs, ending: Ending, pause: Callable[[float], None] = time.sleep) -> None:
        self._common = common
        self._jobs = jobs
        self._ending = ending
        self._pause = pause
        self._unknown = Waiting()
        """When to examine which of `_unclear`."""
        self._unclear: set[int] = set()
        """Messages that could not be examined, or had a todo file besides info/N: the scan of todo/ takes those up, if the file stays."""
        self._met: set[int] = set()

    def load(self) -> None:
        """Find every preprocessed message."""
        layout = self._common.layout
        in_todo = {number for folder in layout.todo_dirs() for number in self._numbers(folder)}
        for part in range(layout.split):
            found = {n for n in self._numbers(f"{layout.path}/info/{part}") if n % layout.split == part}
            idle = found - in_todo
            for number in found & in_todo:
                self._look_later(number, BETWEEN_SECONDS)
            known = frozenset(idle)
            lists = []
            for channel, name in zip(CHANNELS, CHANNEL_FOLDERS, strict=True):
                times = list(self._times(f"{layout.path}/{name}/{part}", known))
                lists.append((channel, times))
                idle.difference_update(number for _when, number in times)
            for channel, times in lists:
                clear = [entry for entry in times if entry[1] not in self._unclear]
                self._jobs.held[channel].update(number for when, number in clear if when == HELD_TIME)
                self._jobs.waiting[channel].extend(entry for entry in clear if entry[0] != HELD_TIME)
            for number in idle - self._unclear:
                self._ending.add(number)
        for waiting in self._jobs.waiting:
            waiting.arrange()

    def _numbers(self, folder: str) -> Iterator[int]:
        """Yield the message numbers among the names in a folder. Waits until it can be read."""
        while True:
            try:
                return iter(numbers(folder))
            except OSError:
                self._common.log(log.alert(f"unable to opendir {self._common.relative(folder)}, sleeping..."))
                self._common.lines.flush()
                self._pause(LIST_PAUSE_SECONDS)

    def _times(self, folder: str, known: frozenset[int]) -> Iterator[tuple[int, int]]:
        """Yield (time of the next try, number) of the known messages that have recipients in a folder."""
        for number in self._numbers(folder):
            if number not in known:
                continue
            path = f"{folder}/{number}"
            try:
                yield int(os.stat(path).st_mtime), number
            except OSError:
                self._later(number, path)

    def _later(self, number: int, path: str) -> None:
        self._common.warn("unable to stat", path, "; will try again later")
        self._look_later(number, SYSTEM_FAILURE_SECONDS)

    def _look_later(self, number: int, seconds: int) -> None:
        if number not in self._unclear:
            self._unclear.add(number)
            self._unknown.add(self._common.now + seconds, number)

    def work(self) -> None:
        """Examine again what could not be examined."""
        while (number := self._unknown.pop_due(self._common.now)) is not None:
            self._unclear.discard(number)
            if number in self._met:
                self._met.discard(number)
            else:
                self._examine(number)

    def met(self, number: int) -> None:
        """Hear that a message was found in todo/: there is no need to look for it again."""
        if number in self._unclear:
            self._met.add(number)

    def clock_set_back(self) -> None:
        self._unknown.all_at(self._common.now)

    def wake_at(self) -> int | None:
        return self._unknown.first()

    def _examine(self, number: int) -> None:
        layout = self._common.layout
        path = ""
        times = {}
        try:
            path = layout.info(number)
            if not exists(path):
                return
            path = layout.todo(number)
            if exists(path):
                self._look_later(number, BETWEEN_SECONDS)  # the scan has not come by yet
                return
            for channel in CHANNELS:
                path = self._common.recipients_path(number, channel)
                if exists(path):
                    times[channel] = int(os.stat(path).st_mtime)
        except OSError:
            self._later(number, path)
            return
        for channel, when in times.items():
            if when == HELD_TIME:
                self._jobs.held[channel].add(number)
            else:
                self._jobs.waiting[channel].add(when, number)
        if not times:
            self._ending.add(number)
